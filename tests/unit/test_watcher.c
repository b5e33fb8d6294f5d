/* LINK: core/watcher.c core/watch_count.c core/path.c core/buf.c core/err.c core/clock.c */
/* The choice of a backend, its fallback and its reason, with backends that only say yes or no. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/watch_backend.h"
#include "core/watch_links.h"

static bool refuse;
static uint64_t unrelated, heard, unwatched, watches;
static const struct watch_backend *added, *removed;

/* ---- a loop whose timer the test rings ---- */

/* No files with names outside here: test_watch_links has them. */
struct link_watch *link_watch_new(struct loop *loop)
{
	(void)loop;
	return NULL;
}

void link_watch_free(struct link_watch *lw)
{
	assert_null(lw);
}

void link_watch_add(struct link_watch *lw, struct watched *w, const char *path, size_t len, uint64_t dev, uint64_t ino)
{
	(void)lw;
	(void)w;
	(void)path;
	(void)len;
	(void)dev;
	(void)ino;
}

void link_watch_follow(struct link_watch *lw, struct watched *w, const struct change *c)
{
	(void)lw;
	(void)w;
	(void)c;
}

void link_watch_forget(struct link_watch *lw, const struct watched *w)
{
	(void)lw;
	(void)w;
}

void link_watch_hand_over(struct link_watch *lw, const struct watched *from, struct watched *to)
{
	(void)lw;
	(void)from;
	(void)to;
}

int link_watch_drain(struct link_watch *lw, struct err *err)
{
	(void)lw;
	(void)err;
	return 0;
}

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

/* Both of them tell of one rename at each drain. */
static struct watched *tells;

static int fake_drain(void *b, struct err *e)
{
	struct change c = {
		.kind = CHANGE_RENAME, .exact = true, .path = "a", .path_len = 1, .old_path = "b", .old_len = 1
	};

	(void)b;
	(void)e;
	if (tells != NULL)
		watch_emit(tells, &c);
	return 0;
}

static void fake_info(void *b, const struct watched *w, struct watched_info *out)
{
	(void)b;
	out->unrelated = unrelated;
	out->heard = heard;
	out->watches = watches;
	out->unwatched = w->backend == &watch_inotify ? unwatched : 0;
}

/* A queue that takes `turns_needed` turns, of which the first is the asker's. */
static unsigned asked, turns_needed, turns_left;
static bool turn_fails;

static void fake_ask(void *b)
{
	(void)b;
	asked++;
	turns_left = turns_needed;
}

static int fake_turn(void *b, int64_t ns, struct err *e)
{
	(void)b;
	if (turn_fails)
		return err_set(e, ERR_LIMIT, "cannot read");
	if (ns > 0 && turns_left > 0)
		turns_left--;
	return turns_left == 0;
}

const struct watch_backend watch_fanotify = { "fanotify", fake_open, fake_close, fake_add, fake_remove,
					      fake_drain, fake_info, fake_ask,	 fake_turn };
const struct watch_backend watch_inotify = { "inotify",	 fake_open_always, fake_close, fake_add, fake_remove,
					     fake_drain, fake_info,	   NULL,       NULL };

static unsigned exact, inexact, changed, kept;

static void record(void *ctx, struct watched *w, const struct change *c)
{
	(void)w;
	*(enum change_kind *)ctx = c->kind;
	if (c->kind == CHANGE_RENAME)
		*(c->exact ? &exact : &inexact) += 1;
}

static void another(void *ctx, struct watched *w, const char *refused)
{
	(void)ctx;
	(void)w;
	*(refused == NULL ? &changed : &kept) += 1;
}

static void choices(void **state)
{
	enum change_kind kind = CHANGE_NONE;
	static const char *const own[] = { "/proc/self/fd/log", NULL };
	struct watcher_settings s = { .own_paths = own };
	struct change mine = { .kind = CHANGE_TOUCH, .path = "log", .path_len = 3 };
	struct change other = { .kind = CHANGE_TOUCH, .path = "log2", .path_len = 4 };
	struct watcher_callbacks cb = { .record = record, .ctx = &kind };
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

/* A long queue is read by turns; who asks meanwhile waits for what is queued by then, and no longer. */
static void drains_by_turns(void **state)
{
	enum change_kind kind = CHANGE_NONE;
	struct watcher_settings s = { 0 };
	struct watcher_callbacks cb = { .record = record, .ctx = &kind };
	struct watch_request rq = { .path = "/proc/self/fd", .choice = WATCHER_FANOTIFY };
	struct err err = ERR_INIT;
	struct watcher_set *ws = watcher_set_new(NULL, &s, &cb, &err);
	uint64_t first, second, third;

	(void)state;
	rq.root_fd = open(rq.path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_non_null(watcher_add(ws, &rq, NULL, &err));
	turns_needed = 1;
	assert_int_equal(watcher_drain_begin(ws, &first, &err), 0);
	assert_int_equal(first, 0);
	assert_true(watcher_drained(ws, first));
	assert_false(watcher_turn(ws));

	turns_needed = 2;
	assert_int_equal(watcher_drain_begin(ws, &first, &err), 0);
	assert_int_not_equal(first, 0);
	assert_false(watcher_drained(ws, first));
	assert_false(watcher_turn(ws));
	assert_false(watcher_drained(ws, first));
	asked = 0;
	assert_int_equal(watcher_drain_begin(ws, &second, &err), 0);
	assert_int_equal(watcher_drain_begin(ws, &third, &err), 0);
	assert_int_equal(asked, 0); /* the end of the first one must not move */
	turns_left = 0;
	assert_true(watcher_turn(ws));
	assert_int_equal(asked, 1);
	assert_true(watcher_drained(ws, first));
	assert_false(watcher_drained(ws, second));
	assert_int_equal(second, third);
	turns_left = 0;
	assert_true(watcher_turn(ws));
	assert_true(watcher_drained(ws, second));
	assert_int_equal(asked, 1);
	assert_false(watcher_turn(ws));

	assert_int_equal(watcher_drain_begin(ws, &first, &err), 0);
	assert_int_equal(watcher_drain_begin(ws, &second, &err), 0);
	turn_fails = true; /* nobody waits for ever */
	assert_true(watcher_turn(ws));
	assert_true(watcher_drained(ws, first) && watcher_drained(ws, second));
	assert_int_equal(watcher_drain_begin(ws, &first, &err), -1);
	turn_fails = false;
	watcher_set_free(ws);
	(void)close(rq.root_fd);
}

static void look(unsigned times)
{
	while (times-- > 0)
		timer(timer_ctx);
}

static void noise(uint64_t others, uint64_t ours)
{
	for (int i = 0; i < 3; i++) {
		unrelated += others;
		heard += others + ours;
		look(1);
	}
}

/* Noise beside a source of few directories: inotify takes over, and fanotify where that cannot watch all, or when the
 * tree has grown; each time after a longer rest. */
static void changeover(void **state)
{
	enum change_kind kind = CHANGE_NONE;
	struct watcher_settings s = { 0 };
	struct watcher_callbacks cb = { record, state_changed, another, &kind };
	struct watch_request rq = { .path = "/proc/self/fd", .choice = WATCHER_FANOTIFY };
	struct err err = ERR_INIT;
	struct watcher_set *ws = watcher_set_new(NULL, &s, &cb, &err);
	struct watched_info info;
	struct watched *w, *other;

	(void)state;
	unrelated = heard = 50000; /* from before */
	rq.root_fd = open(rq.path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	w = watcher_add(ws, &rq, NULL, &err);
	assert_non_null(w);
	noise(100000, 0);
	assert_ptr_equal(w->backend, &watch_fanotify); /* configured */
	w->rq.choice = WATCHER_AUTO;
	noise(0, 0);
	assert_ptr_equal(w->backend, &watch_fanotify); /* quiet again */
	noise(100000, 50000);
	assert_ptr_equal(w->backend, &watch_fanotify); /* much of it is ours */
	other = watcher_add(ws, &rq, NULL, &err);
	noise(100000, 0);
	assert_ptr_equal(w->backend, &watch_fanotify); /* the other stays, so they are read all the same */
	watcher_remove(ws, other);
	unwatched = 1;
	noise(100000, 0);
	assert_ptr_equal(w->backend, &watch_fanotify); /* inotify could not watch it all */
	assert_int_equal(kept, 1);
	assert_int_equal(w->changeovers, 0);
	assert_ptr_equal(removed, &watch_inotify);
	unwatched = 0;
	noise(100000, 0);
	assert_ptr_equal(w->backend, &watch_fanotify); /* not again so soon */
	look(1);
	tells = w;
	noise(100000, 0);
	tells = NULL;
	assert_ptr_equal(w->backend, &watch_inotify);
	assert_ptr_equal(added, &watch_inotify);
	assert_ptr_equal(removed, &watch_fanotify);
	assert_int_equal(changed, 1);
	assert_int_equal(exact, 1);
	assert_int_equal(inexact, 1); /* what was told twice is not done twice */
	watched_info(w, &info);
	assert_non_null(strstr(info.reason, "file system"));
	assert_int_equal(info.changeovers, 1);
	assert_int_equal(kind, CHANGE_RENAME);
	watch_set_state(w, WATCHED_PARTIAL, "no watch left");
	look(11);
	assert_ptr_equal(w->backend, &watch_inotify);
	look(1);
	assert_ptr_equal(w->backend, &watch_fanotify);
	assert_ptr_equal(removed, &watch_inotify);
	assert_int_equal(kind, CHANGE_RECONCILE);
	assert_int_equal(watched_state(w), WATCHED_OK);
	noise(100000, 0);
	assert_ptr_equal(w->backend, &watch_fanotify); /* not to and fro */
	look(19);
	noise(100000, 0);
	assert_ptr_equal(w->backend, &watch_inotify);
	watches = 8192;
	look(100);
	assert_ptr_equal(w->backend, &watch_inotify);
	watches = 8193;
	look(1);
	assert_ptr_equal(w->backend, &watch_fanotify);
	watched_info(w, &info);
	assert_non_null(strstr(info.reason, "8193"));
	watches = 0;
	kind = CHANGE_NONE;
	watch_set_state(w, WATCHED_PARTIAL, "a FUSE below it");
	look(95);
	assert_ptr_equal(w->backend, &watch_fanotify);
	look(1);
	assert_ptr_equal(w->backend, &watch_inotify);
	watched_info(w, &info);
	assert_non_null(strstr(info.reason, "fanotify cannot watch all of it"));
	assert_int_equal(kind, CHANGE_RECONCILE);
	watcher_set_free(ws);
	assert_null(timer);
	(void)close(rq.root_fd);
}

/* inotify has not watches enough for a small tree. */
static void gaps_at_start(void **state)
{
	enum change_kind kind = CHANGE_NONE;
	struct watcher_settings s = { 0 };
	struct watcher_callbacks cb = { record, state_changed, another, &kind };
	struct watch_request rq = { .path = "/proc/self/fd", .choice = WATCHER_AUTO };
	struct err err = ERR_INIT;
	struct watcher_set *ws = watcher_set_new(NULL, &s, &cb, &err);
	struct watched_info info;
	struct watched *w;

	(void)state;
	rq.root_fd = open(rq.path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	unwatched = 1;
	w = watcher_add(ws, &rq, NULL, &err);
	watched_info(w, &info);
	assert_string_equal(info.backend, "fanotify");
	assert_non_null(strstr(info.reason, "cannot watch all"));
	watcher_remove(ws, w);
	watcher_set_free(ws);
	ws = watcher_set_new(NULL, &s, &cb, &err);
	refuse = true;
	w = watcher_add(ws, &rq, NULL, &err);
	watched_info(w, &info);
	assert_string_equal(info.backend, "inotify");
	watch_set_state(w, WATCHED_PARTIAL, "no watch left");
	refuse = false;
	look(500);
	watched_info(w, &info);
	assert_string_equal(info.backend, "inotify"); /* refused for good */
	unwatched = 0;
	watcher_set_free(ws);
	(void)close(rq.root_fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(choices), cmocka_unit_test(drains_by_turns),
					    cmocka_unit_test(changeover), cmocka_unit_test(gaps_at_start) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
