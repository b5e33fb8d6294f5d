/* tcp_exam.c - what `--doctor` finds out at a receiver: a handshake as a sender makes it, and no work. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/credential.h"
#include "core/loop.h"
#include "core/transport.h"
#include "transports/tcp_private.h"

extern const struct transport transport_tcp;

struct visit {
	const struct sync_options *opt;
	struct exam *x;
	struct loop *loop;
	bool over;
	bool told; /* the receiver's state */
	int64_t before_ns, after_ns;
	struct host_state state;
};

static void finish(struct visit *v)
{
	v->over = true;
	loop_stop(v->loop, 0);
}

static void on_host(void *ctx, const struct host_state *s)
{
	struct visit *v = ctx;

	v->told = true;
	v->state = *s;
	v->after_ns = clock_real_ns();
}

static void on_peer(void *ctx, const struct host_tree *t)
{
	struct visit *v = ctx;

	(void)t;
	if (v->over)
		return; /* told again, with what it found out of us */
	if (v->opt->tcp.key != NULL || v->opt->tcp.certificate != NULL)
		exam_ok(v->x, "%s answers, and lets %s write", v->opt->target,
			v->opt->tcp.key != NULL ? "this key" : "this certificate");
	else
		exam_warn(v->x, "a key for the two, if it is another host", "%s answers, without TLS", v->opt->target);
	finish(v);
}

static const char *advice_for(const struct err *why)
{
	static const char modules[] = "see the receiver's modules: name, allow, readOnly, path";

	if (strstr(why->text, "module") != NULL)
		return modules;
	switch (why->class) {
	case ERR_NETWORK:
	case ERR_GONE:
		return "see host and port, whether fansyncd with a receiver section runs there, and its port is open";
	case ERR_AUTH:
	case ERR_UNSAFE:
		return "the same key file on both hosts, in the receiver's `keys` under the same name; its `allow` "
		       "names it";
	case ERR_DENIED:
	case ERR_CONFIG:
		return modules;
	default:
		return "see the receiver's log";
	}
}

static void on_down(void *ctx, const struct err *why)
{
	struct visit *v = ctx;

	if (!v->over)
		exam_fail(v->x, advice_for(why), "%s", why->text);
	finish(v);
}

static void on_late(void *ctx)
{
	struct visit *v = ctx;

	exam_fail(v->x, "see whether the host is up and what stands between", "no answer in time");
	finish(v);
}

static void settle(void *ctx, size_t index, enum verdict verdict, const struct err *why)
{
	(void)ctx;
	(void)index;
	(void)verdict;
	(void)why;
}

static void found(void *ctx, const char *path, size_t len, enum verdict verdict, const struct err *why)
{
	(void)path;
	settle(ctx, len, verdict, why);
}

static void finished(void *ctx)
{
	finish(ctx);
}

static void progress(void *ctx, const struct transport_progress *p)
{
	(void)ctx;
	(void)p;
}

/* A work without changes: it connects, and there is nothing to send. */
static void visit(struct visit *v, int source_fd)
{
	const struct transport_work nothing = { .max_delete = -1 };
	struct transport_counters counters = { 0 };
	unsigned memory = 0;
	const struct transport_env env = { .loop = v->loop,
					   .opt = v->opt,
					   .source_fd = source_fd,
					   .counters = &counters,
					   .memory = &memory,
					   .ctx = v,
					   .settle = settle,
					   .settle_rename = settle,
					   .found = found,
					   .peer = on_peer,
					   .host = on_host,
					   .finished = finished,
					   .down = on_down,
					   .progress = progress };
	struct err err = ERR_INIT;
	struct loop_timer *timer = loop_timer_add(v->loop, on_late, v, &err);
	void *session;

	v->before_ns = clock_real_ns();
	session = timer == NULL ? NULL : transport_tcp.open(&env, &err);

	if (session == NULL || transport_tcp.apply(session, &nothing, &err) < 0) {
		exam_fail(v->x, advice_for(&err), "%s", err.text);
	} else {
		loop_timer_after(timer, exam_left_ns(v->x, v->opt->tcp.timeout_ns));
		(void)loop_run(v->loop, &err);
	}
	if (session != NULL)
		transport_tcp.close(session);
	if (timer != NULL)
		loop_timer_remove(timer);
}

void tcp_examine(const struct sync_options *opt, struct exam *x)
{
	struct visit v = { .opt = opt, .x = x };
	struct err err = ERR_INIT;
	int fd;

	if (opt->tcp.key != NULL)
		exam_secret(x, "key", opt->tcp.key);
	if (opt->tcp.private_key != NULL)
		exam_secret(x, "privateKey", opt->tcp.private_key);
	exam_begin(x, "receiver");
	if (credential_elsewhere(opt->tcp.key) || credential_elsewhere(opt->tcp.certificate) ||
	    credential_elsewhere(opt->tcp.private_key) || credential_elsewhere(opt->tcp.ca)) {
		exam_skip(x, "only the service has what it shows %s", opt->target);
		return;
	}
	fd = open(opt->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		exam_skip(x, "not without the source: %s", strerror(errno));
		return;
	}
	v.loop = loop_new(&err);
	if (v.loop == NULL)
		exam_fail(x, "", "%s", err.text);
	else
		visit(&v, fd);
	loop_free(v.loop);
	(void)close(fd);
	if (v.told) {
		exam_clock(x, opt->bidirectional, v.before_ns, v.state.clock_ns, 0, v.after_ns);
		exam_space(x, opt->target, v.state.bytes, v.state.bytes_of, v.state.inodes, v.state.inodes_of);
	} else {
		exam_begin(x, "clock");
		exam_skip(x, "the receiver does not tell it");
	}
}
