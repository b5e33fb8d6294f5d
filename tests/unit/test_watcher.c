/* LINK: core/watcher.c core/path.c core/err.c core/clock.c */
/* The choice of a backend, its fallback and its reason, with backends that only say yes or no. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/watch_backend.h"

static bool refuse;
static uint64_t unrelated;
static const struct watch_backend *added, *removed;

/* ---- a loop whose timer the test rings ---- */

static loop_timer_fn *timer;
static void *timer_ctx;

struct loop_timer *loop_timer_add(struct loop *l, loop_timer_fn *fn, void *ctx, struct err *err)
{
	(void)l;
	(void)err;
	timer = fn;
	timer_ctx = ctx;
	return (struct loop_timer *)&timer;
}

void loop_timer_after(struct loop_timer *t, int64_t delay_ns)
{
	(void)t;
	assert_true(delay_ns > 0);
}

void loop_timer_remove(struct loop_timer *t)
{
	(void)t;
	timer = NULL;
}

static int fake_open(struct watcher_set *set, struct loop *l, const struct watcher_settings *s, void **out,
		     struct err *e)
{
	(void)l;
	(void)s;
	*out = set;
	return refuse ? err_set(e, ERR_DENIED, "no CAP_SYS_ADMIN") : 0;
}

static int fake_open_always(struct watcher_set *set, struct loop *l, const struct watcher_settings *s, void **out,
			    struct err *e)
{
	(void)l;
	(void)s;
	(void)e;
	*out = set;
	return 0;
}

static void fake_close(void *b)
{
	(void)b;
}

static int fake_add(void *b, struct watched *w, struct err *e)
{
	(void)b;
	(void)e;
	added = w->backend;
	w->priv = &added;
	return 0;
}

static void fake_remove(void *b, struct watched *w)
{
	(void)b;
	assert_ptr_equal(w->priv, &added);
	w->priv = NULL;
	removed = w->backend;
}

static int fake_drain(void *b, struct err *e)
{
	(void)b;
	(void)e;
	return 0;
}

static void fake_info(void *b, const struct watched *w, struct watched_info *out)
{
	(void)b;
	(void)w;
	out->unrelated = unrelated;
}

const struct watch_backend watch_fanotify = { "fanotify",  fake_open,  fake_close, fake_add,
					      fake_remove, fake_drain, fake_info };
const struct watch_backend watch_inotify = { "inotify",	  fake_open_always, fake_close, fake_add,
					     fake_remove, fake_drain,	    fake_info };

static void record(void *ctx, struct watched *w, const struct change *c)
{
	(void)w;
	*(enum change_kind *)ctx = c->kind;
}

static void choices(void **state)
{
	enum change_kind kind = CHANGE_NONE;
	static const char *const own[] = { "/proc/self/fd/log", NULL };
	struct watcher_settings s = { .own_paths = own };
	struct change mine = { .kind = CHANGE_TOUCH, .path = "log", .path_len = 3 };
	struct change other = { .kind = CHANGE_TOUCH, .path = "log2", .path_len = 4 };
	struct watcher_callbacks cb = { record, NULL, &kind };
	struct watch_request rq = { .path = "/proc/self/fd", .choice = WATCHER_AUTO };
	struct err err = ERR_INIT;
	struct watcher_set *ws = watcher_set_new(NULL, &s, &cb, &err);
	struct change bad = { .kind = CHANGE_TOUCH, .path = "a//b", .path_len = 4 };
	struct watched_info info;
	struct watched *w;

	(void)state;
	rq.root_fd = open(rq.path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	w = watcher_add(ws, &rq, NULL, &err);
	assert_non_null(w);
	watched_info(w, &info);
	assert_string_equal(info.backend, "inotify");
	assert_non_null(strstr(info.reason, "small"));
	watch_emit(w, &bad);
	assert_int_equal(kind, CHANGE_RECONCILE);
	watch_emit(w, &mine);
	assert_int_equal(kind, CHANGE_RECONCILE);
	watch_emit(w, &other);
	assert_int_equal(kind, CHANGE_TOUCH);
	rq.choice = WATCHER_FANOTIFY;
	refuse = true;
	assert_null(watcher_add(ws, &rq, NULL, &err));
	assert_non_null(strstr(err.text, "CAP_SYS_ADMIN"));
	refuse = false;
	w = watcher_add(ws, &rq, NULL, &err);
	assert_non_null(w);
	watched_info(w, &info);
	assert_string_equal(info.backend, "fanotify");
	assert_int_equal(watcher_drain(ws, &err), 0);
	watcher_set_free(ws);
	(void)close(rq.root_fd);
}

static void state_changed(void *ctx, struct watched *w, enum watched_state state, const char *why)
{
	(void)ctx;
	(void)w;
	(void)state;
	(void)why;
}

/* Noise beside a source of few directories: inotify takes over; where that cannot watch all, fanotify; then no more. */
static void changeover(void **state)
{
	enum change_kind kind = CHANGE_NONE;
	struct watcher_settings s = { 0 };
	struct watcher_callbacks cb = { record, state_changed, &kind };
	struct watch_request rq = { .path = "/proc/self/fd", .choice = WATCHER_FANOTIFY };
	struct err err = ERR_INIT;
	struct watcher_set *ws = watcher_set_new(NULL, &s, &cb, &err);
	struct watched_info info;
	struct watched *w;

	(void)state;
	unrelated = 0;
	rq.root_fd = open(rq.path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	w = watcher_add(ws, &rq, NULL, &err);
	assert_non_null(w);
	unrelated = 100000;
	timer(timer_ctx);
	assert_ptr_equal(w->backend, &watch_fanotify); /* configured */
	w->rq.choice = WATCHER_AUTO;
	timer(timer_ctx);
	assert_ptr_equal(w->backend, &watch_fanotify); /* quiet again */
	unrelated += 100000;
	w->events += 50000;
	timer(timer_ctx);
	assert_ptr_equal(w->backend, &watch_fanotify); /* much of it is ours */
	unrelated += 100000;
	timer(timer_ctx);
	assert_ptr_equal(w->backend, &watch_inotify);
	assert_ptr_equal(added, &watch_inotify);
	assert_ptr_equal(removed, &watch_fanotify);
	watched_info(w, &info);
	assert_non_null(strstr(info.reason, "file system"));
	assert_int_equal(kind, CHANGE_NONE);
	timer(timer_ctx);
	assert_ptr_equal(w->backend, &watch_inotify);
	watch_set_state(w, WATCHED_PARTIAL, "no watch left");
	timer(timer_ctx);
	assert_ptr_equal(w->backend, &watch_fanotify);
	assert_ptr_equal(removed, &watch_inotify);
	assert_int_equal(kind, CHANGE_RECONCILE);
	assert_int_equal(watched_state(w), WATCHED_OK);
	unrelated += 100000;
	timer(timer_ctx);
	assert_ptr_equal(w->backend, &watch_fanotify); /* not to and fro */
	watcher_set_free(ws);
	assert_null(timer);
	(void)close(rq.root_fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(choices), cmocka_unit_test(changeover) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
