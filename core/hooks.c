#include "core/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/proc.h"

#define PATHS_MAX (16u << 20)
#define LINE_MAX_BYTES 1000u
#define SOON_NS (200 * NS_PER_MS)
/* Between SIGTERM and SIGKILL. */
#define GRACE_NS (2 * NS_PER_S)
#define CHATTER_LINES 100u
#define CHATTER_NS (60 * NS_PER_S)
#define ENV_MAX 12u

static const char *const names[HOOK_KINDS] = { "preBatch", "onBatch", "onError", "onReconnect", "onChange" };

/* One process. */
struct hook_run {
	struct hook_run *next;
	struct hooks *hooks;
	enum hook_kind kind;
	struct proc proc;
	struct loop_fd *out, *err;
	struct loop_timer *timer;
	bool late; /* it was told to end */
	char line[LINE_MAX_BYTES];
	size_t line_len;
	char last_words[256];
};

/* What the next run of a kind is told. */
struct hook_next {
	struct buf paths;
	bool whole; /* too many: the root stands for them */
	bool due;
	char why[ERR_TEXT_MAX];
};

struct hooks {
	struct loop *loop;
	const struct sync_options *opt;
	struct proc_user user;
	struct hook_next next[HOOK_KINDS];
	struct hook_run *runs;
	size_t n_beside; /* of them, all but the check */
	struct loop_timer *soon, *check_failed;
	struct err check_why; /* the check could not be started: told from the loop */
	void (*checked)(void *ctx, const struct err *why);
	void *check_ctx;
	struct log_limit chatter;
};

static const struct strlist *command_of(const struct hooks *h, enum hook_kind kind)
{
	const struct strlist *all[HOOK_KINDS] = { &h->opt->pre_batch, &h->opt->on_batch, &h->opt->on_error,
						  &h->opt->on_reconnect, &h->opt->on_change };

	return all[kind];
}

bool hooks_wanted(const struct hooks *h, enum hook_kind kind)
{
	return command_of(h, kind)->n > 0;
}

/* ---- what they are told ---- */

void hooks_add(struct hooks *h, enum hook_kind kind, const char *path, size_t len)
{
	struct hook_next *n = &h->next[kind];

	if (n->whole || !hooks_wanted(h, kind))
		return;
	if (len == 0) {
		path = ".";
		len = 1;
	}
	if (buf_add(&n->paths, path, len) && buf_add_byte(&n->paths, '\0'))
		return;
	n->whole = true;
	buf_done(&n->paths);
	n->paths.failed = false;
}

bool hooks_told(const struct hooks *h, enum hook_kind kind)
{
	return h->next[kind].whole || h->next[kind].paths.len > 0;
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* In order, each once. */
static void put_paths(const struct buf *paths, FILE *out)
{
	size_t n = 0, i = 0;
	const char **all;

	for (size_t at = 0; at < paths->len; at += strlen(paths->data + at) + 1)
		n++;
	all = calloc(n + 1, sizeof(*all));
	if (all == NULL) { /* as they came, then */
		(void)fwrite(paths->data, 1, paths->len, out);
		return;
	}
	for (size_t at = 0; at < paths->len; at += strlen(paths->data + at) + 1)
		all[i++] = paths->data + at;
	qsort(all, n, sizeof(*all), compare_paths);
	for (i = 0; i < n; i++)
		if (i == 0 || strcmp(all[i], all[i - 1]) != 0)
			(void)fwrite(all[i], 1, strlen(all[i]) + 1, out);
	free(all);
}

/* A file without a name, which it reads at its own pace. */
static int input(const struct hook_next *n, struct err *err)
{
	int fd = memfd_create("paths", MFD_CLOEXEC), twin = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
	FILE *out = twin < 0 ? NULL : fdopen(twin, "w");
	bool ok = out != NULL;

	if (out != NULL) {
		if (n->whole)
			(void)fwrite(".", 1, 2, out);
		else if (n->paths.len > 0)
			put_paths(&n->paths, out);
		ok = fclose(out) == 0 && lseek(fd, 0, SEEK_SET) == 0;
	} else if (twin >= 0) {
		(void)close(twin);
	}
	if (ok)
		return fd;
	err_errno(err, errno, "a file for the paths of a hook");
	if (fd >= 0)
		(void)close(fd);
	return -1;
}

struct environment {
	char *v[ENV_MAX];
	size_t n;
};

static void env_add(struct environment *e, const char *name, const char *value)
{
	if (value != NULL && asprintf(&e->v[e->n], "FANSYNCD_%s=%s", name, value) >= 0)
		e->n++;
	e->v[e->n] = NULL;
}

static void env_make(struct environment *e, const struct hooks *h, enum hook_kind kind)
{
	const struct hook_next *n = &h->next[kind];

	memset(e, 0, sizeof(*e));
	env_add(e, "HOOK", names[kind]);
	env_add(e, "SYNC", h->opt->name);
	env_add(e, "SOURCE", h->opt->source);
	env_add(e, "TARGET", h->opt->target);
	env_add(e, "TRANSPORT", h->opt->transport);
	env_add(e, "REASON", n->why[0] == '\0' ? NULL : n->why);
}

static void env_done(struct environment *e)
{
	for (size_t i = 0; i < e->n; i++)
		free(e->v[i]);
}

/* ---- what they say ---- */

static void say_line(struct hook_run *r)
{
	struct hooks *h = r->hooks;
	uint64_t left_out = 0;

	if (r->line_len == 0)
		return;
	(void)snprintf(r->last_words, sizeof(r->last_words), "%.*s", (int)r->line_len, r->line);
	if (log_limit_ok(&h->chatter, clock_mono_ns(), CHATTER_LINES, CHATTER_NS, &left_out)) {
		if (left_out > 0)
			log_normal("%s: %s: %llu more lines were left out", h->opt->name, names[r->kind],
				   (unsigned long long)left_out);
		log_normal("%s: %s: %.*s", h->opt->name, names[r->kind], (int)r->line_len, r->line);
	}
	r->line_len = 0;
}

/* The rest of a line that is too long is another one. */
static void take_words(struct hook_run *r, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] != '\n')
			r->line[r->line_len++] = data[i];
		if (data[i] == '\n' || r->line_len == sizeof(r->line))
			say_line(r);
	}
}

/* false: end of file. */
static bool read_words(struct hook_run *r, int fd)
{
	char data[4096];
	ssize_t n = read(fd, data, sizeof(data));

	if (n > 0)
		take_words(r, data, (size_t)n);
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void on_words(void *ctx, int fd, unsigned events)
{
	struct hook_run *r = ctx;

	(void)events;
	if (read_words(r, fd))
		return;
	if (fd == r->proc.out) {
		loop_fd_remove(r->out);
		r->out = NULL;
	} else {
		loop_fd_remove(r->err);
		r->err = NULL;
	}
}

/* ---- processes ---- */

static void release(struct hook_run *r)
{
	struct hook_run **at = &r->hooks->runs;

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	if (r->kind != HOOK_PRE_BATCH)
		r->hooks->n_beside--;
	if (r->timer != NULL)
		loop_timer_remove(r->timer);
	loop_fd_remove(r->out);
	loop_fd_remove(r->err);
	proc_close(&r->proc);
	free(r);
}

static void end_run(struct hook_run *r)
{
	loop_child_forget(r->hooks->loop, r->proc.pid);
	(void)kill(-r->proc.pid, SIGKILL);
	(void)kill(r->proc.pid, SIGKILL); /* it may not have made its group yet */
	release(r);
}

static void on_late(void *ctx)
{
	struct hook_run *r = ctx;

	if (!r->late)
		log_error("%s: %s took more than %.0f s: it is ended (hookTimeout)", r->hooks->opt->name,
			  names[r->kind], (double)r->hooks->opt->hook_timeout_ns / (double)NS_PER_S);
	(void)kill(-r->proc.pid, r->late ? SIGKILL : SIGTERM);
	r->late = true;
	loop_timer_after(r->timer, GRACE_NS);
}

static void start_waiting(struct hooks *h);

static void give_verdict(struct hooks *h, const struct err *why)
{
	void (*checked)(void *ctx, const struct err *why) = h->checked;

	h->checked = NULL;
	if (checked != NULL)
		checked(h->check_ctx, why);
}

static void on_child(void *ctx, pid_t pid, int status)
{
	struct hook_run *r = ctx;
	struct hooks *h = r->hooks;
	enum hook_kind kind = r->kind;
	bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	struct err why = ERR_INIT;
	char how[64];

	(void)pid;
	if (r->out != NULL)
		(void)read_words(r, r->proc.out);
	if (r->err != NULL)
		(void)read_words(r, r->proc.err);
	say_line(r);
	proc_status_text(status, how, sizeof(how));
	err_set(&why, ERR_CONFIG, "%s: %s%s%s%s", names[kind], how, r->late ? ", it took too long" : "",
		r->last_words[0] == '\0' ? "" : ": ", r->last_words);
	if (!ok && kind != HOOK_PRE_BATCH)
		log_error("%s: %s", h->opt->name, why.text);
	release(r);
	if (kind == HOOK_PRE_BATCH)
		give_verdict(h, ok ? NULL : &why);
	else
		start_waiting(h);
}

static int attach(struct hook_run *r, struct err *err)
{
	struct loop *loop = r->hooks->loop;

	r->out = loop_fd_add(loop, r->proc.out, LOOP_READ, on_words, r, err);
	r->err = r->out == NULL ? NULL : loop_fd_add(loop, r->proc.err, LOOP_READ, on_words, r, err);
	r->timer = r->err == NULL ? NULL : loop_timer_add(loop, on_late, r, err);
	if (r->timer == NULL || loop_child(loop, r->proc.pid, on_child, r, err) < 0)
		return -1;
	loop_timer_after(r->timer, r->hooks->opt->hook_timeout_ns);
	return 0;
}

static int spawn(struct hook_run *r, int in_fd, struct err *err)
{
	struct hooks *h = r->hooks;
	struct environment env;
	struct proc_spec spec = { .argv = (const char *const *)command_of(h, r->kind)->v,
				  .cwd = h->opt->source,
				  .in_fd = in_fd,
				  .pipe_out = true,
				  .pipe_err = true,
				  .user = h->user.name == NULL ? NULL : &h->user,
				  .own_group = true,
				  .detached = true, /* the source may hang */
				  .reduced = true };
	int rc;

	env_make(&env, h, r->kind);
	spec.env = (const char *const *)env.v;
	rc = proc_spawn(&r->proc, &spec, err);
	env_done(&env);
	return rc;
}

static void forget_next(struct hook_next *n)
{
	buf_done(&n->paths);
	n->paths.failed = false;
	n->whole = n->due = false;
	n->why[0] = '\0';
}

/* With what was added, which is then forgotten. */
static int start(struct hooks *h, enum hook_kind kind, struct err *err)
{
	struct hook_run *r = calloc(1, sizeof(*r));
	int fd = r == NULL ? -1 : input(&h->next[kind], err), rc;

	if (r == NULL)
		err_set(err, ERR_NOMEM, "out of memory for a hook");
	if (fd < 0) {
		free(r);
		forget_next(&h->next[kind]);
		return -1;
	}
	r->hooks = h;
	r->kind = kind;
	rc = spawn(r, fd, err);
	(void)close(fd);
	forget_next(&h->next[kind]);
	if (rc < 0) {
		free(r);
		return -1;
	}
	log_debug(LOG_CAT_EXEC, "%s: %s: started %s, process %d", h->opt->name, names[kind], command_of(h, kind)->v[0],
		  (int)r->proc.pid);
	r->next = h->runs;
	h->runs = r;
	if (kind != HOOK_PRE_BATCH)
		h->n_beside++;
	if (attach(r, err) == 0)
		return 0;
	end_run(r);
	return -1;
}

static void start_waiting(struct hooks *h)
{
	for (unsigned k = HOOK_BATCH; k < HOOK_KINDS; k++) {
		struct err err = ERR_INIT;

		if (!h->next[k].due || h->n_beside >= (size_t)h->opt->hook_processes)
			continue;
		if (start(h, k, &err) < 0)
			log_error("%s: %s: %s", h->opt->name, names[k], err.text);
	}
}

void hooks_run(struct hooks *h, enum hook_kind kind, const char *why)
{
	if (!hooks_wanted(h, kind))
		return;
	if (why != NULL)
		(void)snprintf(h->next[kind].why, sizeof(h->next[kind].why), "%s", why);
	h->next[kind].due = true;
	start_waiting(h);
}

static void on_soon(void *ctx)
{
	hooks_run(ctx, HOOK_CHANGE, NULL);
}

void hooks_run_soon(struct hooks *h, enum hook_kind kind)
{
	if (hooks_wanted(h, kind) && !loop_timer_armed(h->soon))
		loop_timer_after(h->soon, SOON_NS);
}

/* ---- the check ---- */

static void on_check_failed(void *ctx)
{
	struct hooks *h = ctx;

	give_verdict(h, &h->check_why);
}

void hooks_check(struct hooks *h, void (*done)(void *ctx, const struct err *why), void *ctx)
{
	h->checked = done;
	h->check_ctx = ctx;
	h->check_why = (struct err)ERR_INIT;
	if (start(h, HOOK_PRE_BATCH, &h->check_why) < 0)
		loop_timer_after(h->check_failed, 0);
}

void hooks_cancel_check(struct hooks *h)
{
	struct hook_run *next;

	h->checked = NULL;
	loop_timer_stop(h->check_failed);
	forget_next(&h->next[HOOK_PRE_BATCH]);
	for (struct hook_run *r = h->runs; r != NULL; r = next) {
		next = r->next;
		if (r->kind == HOOK_PRE_BATCH)
			end_run(r);
	}
}

bool hooks_checking(const struct hooks *h)
{
	return h->checked != NULL;
}

/* ---- life ---- */

bool hooks_busy(const struct hooks *h)
{
	for (unsigned k = HOOK_BATCH; k < HOOK_KINDS; k++)
		if (h->next[k].due)
			return true;
	return h->runs != NULL || loop_timer_armed(h->soon);
}

struct hooks *hooks_new(struct loop *loop, const struct sync_options *opt, struct err *err)
{
	struct hooks *h = calloc(1, sizeof(*h));

	if (h == NULL) {
		err_set(err, ERR_NOMEM, "out of memory");
		return NULL;
	}
	h->loop = loop;
	h->opt = opt;
	for (unsigned k = 0; k < HOOK_KINDS; k++)
		buf_init(&h->next[k].paths, PATHS_MAX);
	h->soon = loop_timer_add(loop, on_soon, h, err);
	h->check_failed = h->soon == NULL ? NULL : loop_timer_add(loop, on_check_failed, h, err);
	if (h->check_failed == NULL || (opt->hook_user != NULL && proc_user_find(&h->user, opt->hook_user, err) < 0)) {
		hooks_free(h);
		return NULL;
	}
	return h;
}

void hooks_free(struct hooks *h)
{
	if (h == NULL)
		return;
	while (h->runs != NULL) {
		log_warn("%s: %s is ended", h->opt->name, names[h->runs->kind]);
		end_run(h->runs);
	}
	for (unsigned k = 0; k < HOOK_KINDS; k++)
		buf_done(&h->next[k].paths);
	if (h->soon != NULL)
		loop_timer_remove(h->soon);
	if (h->check_failed != NULL)
		loop_timer_remove(h->check_failed);
	proc_user_done(&h->user);
	free(h);
}

void hooks_rebind(struct hooks *h, const struct sync_options *opt)
{
	h->opt = opt;
}
