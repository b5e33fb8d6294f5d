/* LINK: core/watcher.c core/path.c core/err.c */
/* The choice of a backend, its fallback and its reason, with backends that only say yes or no. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/watch_backend.h"

static bool refuse;

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
	(void)w;
	(void)e;
	return 0;
}

static void fake_remove(void *b, struct watched *w)
{
	(void)b;
	(void)w;
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
	(void)out;
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

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(choices) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
