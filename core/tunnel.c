#include "core/tunnel.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/proc.h"
#include "core/tunnel_port.h"
#include "core/tunnel_state.h"

#define LINE_MAX_BYTES 1000u
#define CHATTER_LINES 20u
#define CHATTER_NS (60 * NS_PER_S)
#define LISTENERS_MAX 8u
/* A port that none of our own has: so many are tried. */
#define CHOICES 50

struct tunnels {
	struct loop *loop;
	struct tunnel *first;
};

/* What it says on one of its outputs. */
struct words {
	struct tunnel *tunnel;
	struct loop_fd *source;
	char line[LINE_MAX_BYTES];
	size_t len;
};

struct tunnel {
	struct tunnel *next;
	struct tunnels *all;
	struct tunnel_events events;
	bool freed; /* nobody's any more: gone when its program is */
	const struct sync_options *opt;
	char *name; /* of the sync, which may be gone before us */
	struct proc_user user;
	struct tunnel_state state;
	struct loop_timer *timer;
	struct proc proc; /* pid 0: none */
	struct words out, err;
	char last_words[256];
	struct log_limit chatter;
	uint16_t port;
	bool told; /* why it is down */
	uint64_t starts;
};

#define tunnel_log(t, cat, ...) log_event(&(const struct log_fields){ .sync = (t)->name }, cat, __VA_ARGS__)

static uint32_t random_bits(void)
{
	uint32_t v = 0;

	/* Only jitter: if the kernel has none to give, the backoff is as good without. */
	if (getrandom(&v, sizeof(v), GRND_NONBLOCK) != (ssize_t)sizeof(v))
		v = 0;
	return v;
}

/* ---- what it says ---- */

static void say_line(struct words *w)
{
	struct tunnel *t = w->tunnel;
	uint64_t left_out = 0;

	if (w->len == 0)
		return;
	(void)snprintf(t->last_words, sizeof(t->last_words), "%.*s", (int)w->len, w->line);
	if (log_limit_ok(&t->chatter, clock_mono_ns(), CHATTER_LINES, CHATTER_NS, &left_out)) {
		if (left_out > 0)
			tunnel_log(t, LOG_CAT_NORMAL, "%s: tunnel: %llu more lines were left out", t->name,
				   (unsigned long long)left_out);
		tunnel_log(t, LOG_CAT_NORMAL, "%s: tunnel: %.*s", t->name, (int)w->len, w->line);
	}
	w->len = 0;
}

/* The rest of a line that is too long is another one. false: end of file. */
static bool read_words(struct words *w, int fd)
{
	char data[4096];
	ssize_t n = read(fd, data, sizeof(data));

	for (ssize_t i = 0; i < n; i++) {
		if (data[i] != '\n' && data[i] != '\r')
			w->line[w->len++] = data[i];
		if (data[i] == '\n' || w->len == sizeof(w->line))
			say_line(w);
	}
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void on_words(void *ctx, int fd, unsigned events)
{
	struct words *w = ctx;

	(void)events;
	if (read_words(w, fd))
		return;
	loop_fd_remove(w->source);
	w->source = NULL;
}

/* ---- news ---- */

/* The reason once for each time that it is not up. */
static void tell_down(struct tunnel *t, const char *what)
{
	struct err why = ERR_INIT;

	if (t->told || t->freed || t->state.stopping)
		return;
	t->told = true;
	err_set(&why, ERR_NETWORK, "tunnel: %s%s%s", what, t->last_words[0] == '\0' ? "" : ": ", t->last_words);
	t->events.down(t->events.ctx, &why);
}

static void tell_up(struct tunnel *t)
{
	if (t->port != 0)
		tunnel_log(t, LOG_CAT_NORMAL, "%s: the tunnel is up: port %u, process %d", t->name, t->port,
			   (int)t->proc.pid);
	else
		tunnel_log(t, LOG_CAT_NORMAL, "%s: the tunnel is up: process %d", t->name, (int)t->proc.pid);
	t->events.up(t->events.ctx);
}

/* ---- the program ---- */

static void close_pipes(struct tunnel *t)
{
	loop_fd_remove(t->out.source);
	loop_fd_remove(t->err.source);
	t->out.source = t->err.source = NULL;
	t->out.len = t->err.len = 0;
	proc_close(&t->proc);
	t->proc.pid = 0;
}

static void signal_all(const struct tunnel *t, int signo)
{
	if (kill(-t->proc.pid, signo) < 0 || signo == SIGKILL)
		(void)kill(t->proc.pid, signo); /* it may not have made its group yet */
}

/* One of our own has it. */
static bool is_ours(const struct tunnel *t, uint16_t port)
{
	for (const struct tunnel *o = t->all->first; o != NULL; o = o->next)
		if (o != t && o->port == port && tunnel_state_runs(&o->state))
			return true;
	return false;
}

/* Or is to have it, and may be down just now. */
static bool is_promised(const struct tunnel *t, uint16_t port)
{
	for (const struct tunnel *o = t->all->first; o != NULL; o = o->next)
		if (o != t && o->opt != NULL && o->opt->tunnel.port == port)
			return true;
	return is_ours(t, port);
}

/* Another tunnel of ours, as the one that a reload took away, is about to leave it. */
static bool must_wait_for_port(const struct tunnel *t)
{
	return t->opt->tunnel.port > 0 && is_ours(t, (uint16_t)t->opt->tunnel.port);
}

static bool needs_port(const struct tunnel *t)
{
	return t->opt->tunnel.port > 0 || t->opt->tunnel.ready_delay_ns == 0 ||
	       tunnel_port_named_in(&t->opt->tunnel.command);
}

/* The one it had, as long as nobody else has it. */
static int choose_port(struct tunnel *t, struct err *err)
{
	if (!needs_port(t))
		return 0;
	if (t->opt->tunnel.port > 0) {
		t->port = (uint16_t)t->opt->tunnel.port;
		return tunnel_port_free(t->port)
			       ? 0
			       : err_set(err, ERR_LIMIT, "port %u is in use by another program", t->port);
	}
	if (t->port != 0 && !is_promised(t, t->port) && tunnel_port_free(t->port))
		return 0;
	for (int i = 0; i < CHOICES; i++) {
		t->port = tunnel_port_choose(err);
		if (t->port == 0)
			return -1;
		if (!is_promised(t, t->port))
			return 0;
	}
	return err_set(err, ERR_LIMIT, "there is no free port for the tunnel");
}

static void go_on(struct tunnel *t);
static void release(struct tunnel *t);

static void on_child(void *ctx, pid_t pid, int status)
{
	struct tunnel *t = ctx;
	struct tunnels *all = t->all;
	char how[64];

	/* What it left behind has no one to end it. */
	(void)kill(-pid, SIGKILL);
	if (t->out.source != NULL)
		(void)read_words(&t->out, t->proc.out);
	if (t->err.source != NULL)
		(void)read_words(&t->err, t->proc.err);
	say_line(&t->out);
	say_line(&t->err);
	proc_status_text(status, how, sizeof(how));
	log_debug(LOG_CAT_EXEC, "%s: tunnel: process %d ended: %s", t->name, (int)pid, how);
	close_pipes(t);
	tunnel_state_ended(&t->state, clock_mono_ns(), random_bits());
	tell_down(t, how);
	if (t->freed)
		release(t);
	else
		go_on(t);
	/* Whoever waits for its port. */
	for (struct tunnel *o = all->first; o != NULL; o = o->next)
		if (o->state.phase == TUNNEL_WAITING && o->state.at_ns == INT64_MAX) {
			tunnel_state_retry(&o->state, clock_mono_ns());
			go_on(o);
		}
}

static int attach(struct tunnel *t, struct err *err)
{
	struct loop *loop = t->all->loop;

	t->out.source = loop_fd_add(loop, t->proc.out, LOOP_READ, on_words, &t->out, err);
	t->err.source =
		t->out.source == NULL ? NULL : loop_fd_add(loop, t->proc.err, LOOP_READ, on_words, &t->err, err);
	return t->err.source == NULL ? -1 : loop_child(loop, t->proc.pid, on_child, t, err);
}

static int spawn(struct tunnel *t, struct err *err)
{
	char **argv = tunnel_port_argv(&t->opt->tunnel.command, t->port);
	const struct proc_spec spec = { .argv = (const char *const *)argv,
					.cwd = "/",
					.pipe_out = true,
					.pipe_err = true,
					.user = t->user.name == NULL ? NULL : &t->user,
					.own_group = true,
					.detached = true, /* it may be on a file system that hangs */
					.reduced = true };
	int rc = argv == NULL ? err_set(err, ERR_NOMEM, "out of memory") : proc_spawn(&t->proc, &spec, err);

	tunnel_port_free_argv(argv);
	if (rc < 0) {
		t->proc = (struct proc){ 0, -1, -1, -1 };
		return -1;
	}
	if (attach(t, err) == 0)
		return 0;
	loop_child_forget(t->all->loop, t->proc.pid);
	signal_all(t, SIGKILL);
	close_pipes(t);
	return -1;
}

static void start(struct tunnel *t)
{
	struct err err = ERR_INIT;

	if (must_wait_for_port(t)) {
		tunnel_state_blocked(&t->state);
		return;
	}
	t->told = false;
	t->last_words[0] = '\0';
	if (choose_port(t, &err) < 0 || spawn(t, &err) < 0) {
		tunnel_state_not_started(&t->state, clock_mono_ns(), random_bits());
		tell_down(t, err.text);
		return;
	}
	t->starts++;
	log_debug(LOG_CAT_EXEC, "%s: tunnel: started %s, port %u, process %d", t->name, t->opt->tunnel.command.v[0],
		  t->port, (int)t->proc.pid);
	tunnel_state_started(&t->state, clock_mono_ns());
}

/* Whether it listens; whoever else does is noted. */
static bool listens(const struct tunnel *t)
{
	struct port_listener l[LISTENERS_MAX];

	if (t->state.rules.ready_delay_ns > 0)
		return true;
	return tunnel_port_is_held(l, tunnel_port_listeners(t->port, l, LISTENERS_MAX), t->proc.pid,
				   t->user.name == NULL ? geteuid() : t->user.uid);
}

static void look(struct tunnel *t)
{
	tunnel_state_looked(&t->state, clock_mono_ns(), listens(t));
	if (t->state.phase == TUNNEL_UP)
		tell_up(t);
}

static void terminate(struct tunnel *t)
{
	static const char leads_nowhere[] = "the target can't be reached through it: it is started anew";
	struct port_listener l;
	char what[128];

	tunnel_state_told(&t->state, clock_mono_ns());
	if (!t->state.late && !t->state.stopping)
		tunnel_log(t, LOG_CAT_WARN, "%s: tunnel: %s", t->name, leads_nowhere);
	if (t->state.late && tunnel_port_listeners(t->port, &l, 1) > 0)
		(void)snprintf(what, sizeof(what), "another program, of user %u, listens on port %u", (unsigned)l.uid,
			       t->port);
	else if (t->state.late)
		(void)snprintf(what, sizeof(what), "nothing listens on port %u after %.0f s (timeout)", t->port,
			       (double)t->state.rules.timeout_ns / (double)NS_PER_S);
	else
		(void)snprintf(what, sizeof(what), "%s", leads_nowhere);
	signal_all(t, SIGTERM);
	tell_down(t, what);
}

/* Do what is due, and wait for what comes next. */
static void go_on(struct tunnel *t)
{
	int64_t next = INT64_MAX, now = clock_mono_ns();
	enum tunnel_step step;

	loop_timer_stop(t->timer);
	while ((step = tunnel_state_due(&t->state, now, &next)) != TUNNEL_NOTHING) {
		switch (step) {
		case TUNNEL_START:
			start(t);
			break;
		case TUNNEL_LOOK:
			look(t);
			break;
		case TUNNEL_TERMINATE:
			terminate(t);
			break;
		case TUNNEL_KILL:
			tunnel_state_told(&t->state, now);
			signal_all(t, SIGKILL);
			break;
		case TUNNEL_NOTHING:
			break;
		}
		now = clock_mono_ns();
	}
	if (next != INT64_MAX)
		loop_timer_at(t->timer, next);
}

static void on_timer(void *ctx)
{
	go_on(ctx);
}

/* ---- life ---- */

struct tunnels *tunnels_new(struct loop *loop, struct err *err)
{
	struct tunnels *all = calloc(1, sizeof(*all));

	if (all == NULL)
		err_set(err, ERR_NOMEM, "out of memory");
	else
		all->loop = loop;
	return all;
}

bool tunnels_run(const struct tunnels *all)
{
	for (const struct tunnel *t = all->first; t != NULL; t = t->next)
		if (tunnel_state_runs(&t->state))
			return true;
	return false;
}

/* It has no program. */
static void release(struct tunnel *t)
{
	struct tunnel **at = &t->all->first;

	while (*at != NULL && *at != t)
		at = &(*at)->next;
	if (*at == t)
		*at = t->next;
	if (t->timer != NULL)
		loop_timer_remove(t->timer);
	proc_user_done(&t->user);
	free(t->name);
	free(t);
}

void tunnels_free(struct tunnels *all)
{
	if (all == NULL)
		return;
	while (all->first != NULL) {
		struct tunnel *t = all->first;

		if (t->proc.pid > 0) {
			loop_child_forget(all->loop, t->proc.pid);
			signal_all(t, SIGKILL);
			/* Killed, it ends at once, but for one that a device holds: that one the kernel keeps. */
			close_pipes(t);
		}
		release(t);
	}
	free(all);
}

struct tunnel *tunnel_new(struct tunnels *all, const struct sync_options *opt, const struct tunnel_events *events,
			  struct err *err)
{
	const struct tunnel_rules rules = { opt->retry_min_ns, opt->retry_max_ns, opt->tunnel.timeout_ns,
					    opt->tunnel.ready_delay_ns };
	struct tunnel *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		err_set(err, ERR_NOMEM, "out of memory");
		return NULL;
	}
	t->all = all;
	t->opt = opt;
	t->events = *events;
	t->proc = (struct proc){ 0, -1, -1, -1 };
	t->out.tunnel = t->err.tunnel = t;
	tunnel_state_init(&t->state, &rules, clock_mono_ns());
	t->name = strdup(opt->name);
	t->timer = loop_timer_add(all->loop, on_timer, t, err);
	if (t->name == NULL || t->timer == NULL ||
	    (opt->tunnel.user != NULL && proc_user_find(&t->user, opt->tunnel.user, err) < 0)) {
		if (err->class == ERR_NONE)
			err_set(err, ERR_NOMEM, "out of memory");
		release(t);
		return NULL;
	}
	t->next = all->first;
	all->first = t;
	loop_timer_after(t->timer, 0);
	return t;
}

void tunnel_free(struct tunnel *t)
{
	if (t == NULL)
		return;
	t->freed = true;
	t->opt = NULL;
	tunnel_stop(t);
	if (!tunnel_state_runs(&t->state))
		release(t);
}

void tunnel_rebind(struct tunnel *t, const struct sync_options *opt)
{
	if (t != NULL)
		t->opt = opt;
}

void tunnel_stop(struct tunnel *t)
{
	if (t == NULL || t->state.stopping)
		return;
	tunnel_state_stop(&t->state);
	go_on(t);
}

void tunnel_retry(struct tunnel *t)
{
	if (t == NULL || t->state.phase != TUNNEL_WAITING || t->state.at_ns == INT64_MAX)
		return;
	tunnel_state_retry(&t->state, clock_mono_ns());
	loop_timer_after(t->timer, 0);
}

void tunnel_target_reached(struct tunnel *t)
{
	if (t != NULL)
		tunnel_state_reached(&t->state);
}

void tunnel_target_failed(struct tunnel *t, bool hung)
{
	if (t == NULL || !tunnel_is_up(t))
		return;
	tunnel_state_failed(&t->state, hung);
	loop_timer_after(t->timer, 0);
}

bool tunnel_is_up(const struct tunnel *t)
{
	return t->state.phase == TUNNEL_UP;
}

void tunnel_info(const struct tunnel *t, struct tunnel_info *out)
{
	static const char *const names[] = { [TUNNEL_WAITING] = "down",
					     [TUNNEL_STARTING] = "starting",
					     [TUNNEL_UP] = "up",
					     [TUNNEL_ENDING] = "ending",
					     [TUNNEL_ENDED] = "down" };

	*out = (struct tunnel_info){ .up = tunnel_is_up(t),
				     .port = t->port,
				     .pid = t->proc.pid,
				     .starts = t->starts,
				     .tries = t->state.tries,
				     .last_words = t->last_words,
				     .state = names[t->state.phase] };
}
