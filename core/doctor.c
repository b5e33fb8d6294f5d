/*
 * doctor.c - runs the examinations, each in a child of its own, and prints what they find.
 */
#include "core/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/doctor_private.h"
#include "core/json.h"
#include "core/log.h"
#include "core/privileges.h"
#include "core/proc.h"
#include "core/transport.h"

/* Examinations at a time; how long one may take when there is as much, and else a third of all. */
#define AT_ONCE 6u
#define EACH_NS (30 * NS_PER_S)

enum what { WHAT_HOST = 0, WHAT_SOURCE, WHAT_WATCHER, WHAT_TARGET, WHAT_HOOKS, WHAT_RECEIVER };

struct examination {
	enum what what;
	size_t sync;
	pid_t pid;
	int fd;
	int64_t until_ns;
	struct buf said;
	bool started, over, timed_out;
	int status;
};

struct doctor {
	const struct config *c;
	const struct doctor_options *o;
	struct examination *v;
	size_t n;
	int64_t until_ns;
	bool running, colour;
	unsigned counts[EXAM_FAIL + 1];
	struct buf json;
};

/* ---- printing ---- */

static const char *const level_words[] = { "", "", "ok", "skip", "warn", "FAIL" };

static void print_line(struct doctor *d, const char *subject, const struct exam_finding *f)
{
	static const char *const colours[] = { "", "", "\033[32m", "", "\033[33m", "\033[1;31m" };
	char text[2 * EXAM_TEXT_MAX], remedy[2 * EXAM_TEXT_MAX];

	log_escape(text, sizeof(text), f->text, strlen(f->text));
	log_escape(remedy, sizeof(remedy), f->remedy, strlen(f->remedy));
	(void)printf("%s%-4s%s  %s: %s: %s%s%s\n", d->colour ? colours[f->level] : "", level_words[f->level],
		     d->colour && colours[f->level][0] != '\0' ? "\033[0m" : "", subject, f->check, text,
		     remedy[0] != '\0' ? " -> " : "", remedy);
	(void)fflush(stdout);
}

static void print_json(struct doctor *d, const char *subject, const struct exam_finding *f)
{
	json_open(&d->json, '{');
	json_put_string(&d->json, "level", f->level == EXAM_FAIL ? "fail" : level_words[f->level]);
	json_put_string(&d->json, "subject", subject);
	json_put_string(&d->json, "check", f->check);
	json_put_string(&d->json, "text", f->text);
	json_put_string(&d->json, "remedy", f->remedy[0] == '\0' ? NULL : f->remedy);
	json_close(&d->json, '}');
}

static void tell(struct doctor *d, const char *subject, const struct exam_finding *f)
{
	d->counts[f->level]++;
	if (d->o->json)
		print_json(d, subject, f);
	else
		print_line(d, subject, f);
}

static void tell_failure(struct doctor *d, const char *subject, const char *check, const char *text, const char *remedy)
{
	tell(d, subject, &(struct exam_finding){ .level = EXAM_FAIL, .check = check, .text = text, .remedy = remedy });
}

static const char *subject_of(const struct doctor *d, const struct examination *e)
{
	if (e->what == WHAT_HOST)
		return "host";
	if (e->what == WHAT_RECEIVER)
		return "receiver";
	return d->c->syncs[e->sync].name;
}

/* What was begun last, and never ended, is what it died of. */
static void tell_end(struct doctor *d, const struct examination *e, const char *begun)
{
	const char *check = begun == NULL ? "examination" : begun;
	char how[64], text[128];

	if (e->timed_out) {
		tell_failure(d, subject_of(d, e), check, "no answer within the time limit",
			     "find out what hangs (a network file system, a name server, a host); --timeout gives it "
			     "longer");
	} else if (e->started && (!WIFEXITED(e->status) || WEXITSTATUS(e->status) != 0)) {
		proc_status_text(e->status, how, sizeof(how));
		(void)snprintf(text, sizeof(text), "its examination ended unexpectedly (%s)", how);
		tell_failure(d, subject_of(d, e), check, text, "");
	}
}

static void tell_all(struct doctor *d, struct examination *e)
{
	struct exam_finding f;
	struct reader r;
	const char *begun = NULL;

	reader_init(&r, e->said.data, e->said.len);
	while (exam_next(&r, &f)) {
		begun = f.level == EXAM_BEGUN ? f.check : NULL;
		if (f.level != EXAM_BEGUN)
			tell(d, subject_of(d, e), &f);
	}
	tell_end(d, e, begun);
	buf_done(&e->said);
}

/* ---- one examination, in its child ---- */

/* The options with the port of the tunnel in them; NULL: it leads nowhere. */
static const struct sync_options *through_tunnel(const struct doctor *d, size_t sync, struct exam *x)
{
	const struct config *c = d->c;
	struct err err = ERR_INIT;
	uint16_t port = 0;

	if (c->syncs[sync].tunnel.command.n == 0)
		return &c->syncs[sync];
	if (!doctor_tunnel(&c->syncs[sync], d->running, x, &port)) {
		exam_begin(x, "target");
		exam_skip(x, "it is behind the tunnel");
		return NULL;
	}
	/* It goes with the process. */
	c = port == 0 ? c : d->o->with_tunnel(c, sync, port, &err);
	if (c == NULL) {
		exam_begin(x, "target");
		exam_fail(x, "", "%s", err.text);
		return NULL;
	}
	return port == 0 ? &c->syncs[sync] : &c->syncs[0];
}

static void examine_target(const struct doctor *d, size_t sync, struct exam *x)
{
	const struct config *c = d->c;
	const struct sync_options *opt = &c->syncs[sync];
	const struct transport *t = transport_find(opt->transport);
	struct err err = ERR_INIT;

	/* As the worker does before it starts anything. */
	if (privileges_reduce(&err) < 0) {
		exam_begin(x, "privileges");
		exam_fail(x, "", "%s", err.text);
	}
	if (t != NULL && (t->caps & TRANSPORT_LOCAL_TARGET) != 0 && opt->target[0] == '/')
		doctor_local_target(c, opt, x);
	opt = through_tunnel(d, sync, x);
	if (opt == NULL)
		return;
	if (t != NULL && t->examine != NULL) {
		t->examine(opt, x);
	} else if (t == NULL || (t->caps & TRANSPORT_LOCAL_TARGET) == 0) {
		exam_begin(x, "target");
		exam_skip(x, "the transport %s is not looked at", opt->transport);
	}
}

static bool has_hooks(const struct sync_options *s)
{
	return s->pre_batch.n + s->on_batch.n + s->on_error.n + s->on_reconnect.n + s->on_change.n > 0;
}

static void examine_hooks(const struct sync_options *s, struct exam *x)
{
	const struct {
		const char *key;
		const struct strlist *command;
	} hooks[] = { { "preBatch", &s->pre_batch },
		      { "onBatch", &s->on_batch },
		      { "onError", &s->on_error },
		      { "onReconnect", &s->on_reconnect },
		      { "onChange", &s->on_change } };

	for (size_t i = 0; i < sizeof(hooks) / sizeof(hooks[0]); i++) {
		if (hooks[i].command->n == 0)
			continue;
		exam_begin(x, "hook");
		exam_program(x, hooks[i].key, hooks[i].command->v[0], s->hook_user);
	}
}

static void examine(const struct doctor *d, const struct examination *e, struct exam *x)
{
	switch (e->what) {
	case WHAT_HOOKS:
		examine_hooks(&d->c->syncs[e->sync], x);
		break;
	case WHAT_HOST:
		doctor_host(d->c, x);
		break;
	case WHAT_SOURCE:
		doctor_source(d->c, e->sync, x);
		break;
	case WHAT_WATCHER:
		doctor_watcher(d->c, e->sync, x);
		break;
	case WHAT_TARGET:
		examine_target(d, e->sync, x);
		break;
	case WHAT_RECEIVER:
		d->o->examine_receiver(d->c->receiver, d->running, x);
		break;
	}
}

static _Noreturn void child(const struct doctor *d, const struct examination *e, int out, pid_t parent)
{
	struct exam x = { .fd = out, .until_ns = e->until_ns - 2 * NS_PER_S };

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent || setpgid(0, 0) < 0)
		_exit(1);
	(void)signal(SIGPIPE, SIG_IGN);
	log_set_mask(0); /* what is wrong is a finding, and told once */
	examine(d, e, &x);
	_exit(0);
}

/* ---- running them ---- */

static int start(struct doctor *d, struct examination *e, struct err *err)
{
	pid_t parent = getpid();
	int ends[2];
	int64_t now = clock_mono_ns(), each = d->o->limit_ns / 3 > EACH_NS ? d->o->limit_ns / 3 : EACH_NS;

	e->until_ns = d->until_ns - now < each ? d->until_ns : now + each;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(err, errno, "pipe");
	(void)fflush(stdout);
	e->pid = fork();
	if (e->pid == 0)
		child(d, e, ends[1], parent);
	(void)close(ends[1]);
	if (e->pid < 0) {
		(void)close(ends[0]);
		return err_errno(err, errno, "fork");
	}
	(void)setpgid(e->pid, e->pid);
	e->fd = ends[0];
	e->started = true;
	return 0;
}

/* The end of what it says is the end of it: what it started holds no end of the pipe. */
static void end(struct examination *e)
{
	(void)kill(-e->pid, SIGKILL);
	(void)kill(e->pid, SIGKILL); /* it may not have made its group yet */
	while (waitpid(e->pid, &e->status, 0) < 0 && errno == EINTR)
		;
	(void)close(e->fd);
	e->fd = -1;
	e->over = true;
}

/* It closes the pipe by ending: its status is there at once. */
static void ended(struct examination *e)
{
	while (waitpid(e->pid, &e->status, 0) < 0 && errno == EINTR)
		;
	(void)kill(-e->pid, SIGKILL);
	(void)close(e->fd);
	e->fd = -1;
	e->over = true;
}

static void hear(struct examination *e)
{
	char data[4096];
	ssize_t n = read(e->fd, data, sizeof(data));

	if (n > 0)
		(void)buf_add(&e->said, data, (size_t)n);
	else if (n == 0 || errno != EINTR)
		ended(e);
}

static int64_t earliest(const struct doctor *d)
{
	int64_t at = d->until_ns;

	for (size_t i = 0; i < d->n; i++)
		if (d->v[i].started && !d->v[i].over && d->v[i].until_ns < at)
			at = d->v[i].until_ns;
	return at;
}

static void end_late(struct doctor *d)
{
	int64_t now = clock_mono_ns();

	for (size_t i = 0; i < d->n; i++) {
		struct examination *e = &d->v[i];

		if (e->started && !e->over && now >= e->until_ns) {
			e->timed_out = true;
			end(e);
		} else if (!e->started && now >= d->until_ns) {
			e->timed_out = e->over = true;
		}
	}
}

static void wait_for_some(struct doctor *d)
{
	struct pollfd fds[AT_ONCE];
	struct examination *who[AT_ONCE];
	nfds_t n = 0;
	int64_t left = earliest(d) - clock_mono_ns();

	for (size_t i = 0; i < d->n && n < AT_ONCE; i++)
		if (d->v[i].started && !d->v[i].over) {
			who[n] = &d->v[i];
			fds[n++] = (struct pollfd){ .fd = d->v[i].fd, .events = POLLIN };
		}
	if (poll(fds, n, left <= 0 ? 0 : (int)(left / NS_PER_MS) + 1) > 0)
		for (nfds_t i = 0; i < n; i++)
			if (fds[i].revents != 0)
				hear(who[i]);
	end_late(d);
}

static size_t under_way(const struct doctor *d)
{
	size_t n = 0;

	for (size_t i = 0; i < d->n; i++)
		n += d->v[i].started && !d->v[i].over;
	return n;
}

static void kill_all(struct doctor *d)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->v[i].started && !d->v[i].over)
			end(&d->v[i]);
}

static int run_all(struct doctor *d, struct err *err)
{
	size_t next = 0, told = 0;

	while (told < d->n) {
		while (next < d->n && under_way(d) < AT_ONCE) {
			if (!d->v[next].over && start(d, &d->v[next], err) < 0) {
				kill_all(d);
				return -1;
			}
			next++;
		}
		wait_for_some(d);
		for (; told < d->n && d->v[told].over; told++)
			tell_all(d, &d->v[told]);
	}
	return 0;
}

/* ---- what is to be examined ---- */

static bool is_wanted(const struct strlist *only, const char *name)
{
	if (only == NULL || only->n == 0)
		return true;
	for (size_t i = 0; i < only->n; i++)
		if (strcmp(only->v[i], name) == 0)
			return true;
	return false;
}

static int check_only(const struct config *c, const struct strlist *only, struct err *err)
{
	for (size_t i = 0; only != NULL && i < only->n; i++) {
		bool found = false;

		for (size_t j = 0; j < c->n_syncs; j++)
			found = found || strcmp(c->syncs[j].name, only->v[i]) == 0;
		if (!found)
			return err_set(err, ERR_CONFIG, "there is no sync \"%.200s\"", only->v[i]);
	}
	return 0;
}

static void add(struct doctor *d, enum what what, size_t sync)
{
	struct examination *e = &d->v[d->n++];

	*e = (struct examination){ .what = what, .sync = sync, .fd = -1 };
	buf_init(&e->said, EXAM_BYTES_MAX);
}

static int plan(struct doctor *d, struct err *err)
{
	const struct strlist *only = d->o->only;
	bool all = only == NULL || only->n == 0;

	d->v = calloc(4 * d->c->n_syncs + 2, sizeof(*d->v));
	if (d->v == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (all)
		add(d, WHAT_HOST, 0);
	for (size_t i = 0; i < d->c->n_syncs; i++) {
		if (!is_wanted(only, d->c->syncs[i].name))
			continue;
		add(d, WHAT_SOURCE, i);
		add(d, WHAT_WATCHER, i);
		add(d, WHAT_TARGET, i);
		if (has_hooks(&d->c->syncs[i]))
			add(d, WHAT_HOOKS, i);
	}
	if (all && d->c->receiver != NULL && d->o->examine_receiver != NULL)
		add(d, WHAT_RECEIVER, 0);
	return 0;
}

static int conclude(struct doctor *d, struct err *err)
{
	unsigned failed = d->counts[EXAM_FAIL];

	if (!d->o->json) {
		(void)printf("%u ok, %u warning%s, %u failure%s\n", d->counts[EXAM_OK], d->counts[EXAM_WARN],
			     d->counts[EXAM_WARN] == 1 ? "" : "s", failed, failed == 1 ? "" : "s");
	} else {
		json_close(&d->json, ']');
		json_put_u64(&d->json, "ok", d->counts[EXAM_OK]);
		json_put_u64(&d->json, "warnings", d->counts[EXAM_WARN]);
		json_put_u64(&d->json, "failures", failed);
		json_close(&d->json, '}');
		(void)buf_add_byte(&d->json, '\n');
		if (d->json.failed)
			return err_set(err, ERR_NOMEM, "out of memory for the findings");
		(void)fwrite(d->json.data, 1, d->json.len, stdout);
	}
	if (fflush(stdout) != 0)
		return err_errno(err, errno, "standard output");
	return failed > 0 ? 1 : 0;
}

int doctor_run(const struct config *c, const struct doctor_options *o, struct err *err)
{
	struct doctor d = { .c = c, .o = o, .until_ns = clock_mono_ns() + o->limit_ns };
	int code = 0;

	if (c != NULL && check_only(c, o->only, err) < 0)
		return -1;
	d.colour = !o->json && isatty(STDOUT_FILENO) == 1 && getenv("NO_COLOR") == NULL;
	buf_init(&d.json, 64u * 1024 * 1024);
	if (o->json) {
		json_open(&d.json, '{');
		json_key(&d.json, "findings");
		json_open(&d.json, '[');
	}
	for (size_t i = 0; o->errors != NULL && i < o->errors->n; i++)
		tell_failure(&d, "configuration", "check", o->errors->v[i], "fansyncd.conf(5), fansyncd --help-config");
	if (c != NULL) {
		d.running = doctor_is_running(c);
		code = plan(&d, err);
		if (code == 0)
			code = run_all(&d, err);
	}
	if (code == 0)
		code = conclude(&d, err);
	for (size_t i = 0; i < d.n; i++)
		buf_done(&d.v[i].said);
	free(d.v);
	buf_done(&d.json);
	return code;
}
