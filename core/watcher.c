/*
 * watcher.c - which backend watches a source, and the way of records and states from the backends to the daemon.
 */
#include "core/watcher.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/path.h"
#include "core/watch_backend.h"
#include "core/watch_count.h"
#include "core/watch_links.h"

/* A drain by turns goes on for so long before it is left to the loop. */
#define DRAIN_TURN_NS (100 * NS_PER_MS)
/* A tree of at most so many directories is cheaper to watch one by one than with its whole file system. */
#define SMALL_TREE 512u
#define SMALL_NS (20 * NS_PER_MS)
/* A file system where so much happens beside the source is left to inotify, when the source has few directories. */
#define NOISE_RATE 1000u /* events a second */
#define NOISE_PERCENT 90u
#define NOISE_LOOKS                                                                                                    \
	3u /* so often in a row: a burst, such as our own first comparison with a target there, is no reason */
#define NOISE_TREE 4096u
#define NOISE_NS (200 * NS_PER_MS)
/* A tree that has so many by now is left to fanotify: well above NOISE_TREE, so that none goes to and fro. */
#define GROWN_TREE (2u * NOISE_TREE)
/* After a change-over, or one that was refused, none for so many looks, doubled each time. */
#define REST_FIRST 6u
#define REST_LAST 360u

/* A build may leave a backend out: its address is NULL then. */
extern const struct watch_backend watch_fanotify __attribute__((weak));
extern const struct watch_backend watch_inotify __attribute__((weak));

enum { BACKEND_FANOTIFY, BACKEND_INOTIFY };

/* A kernel queue, for the sources of one file system: when it overflows, only they have to be compared. */
struct watch_group {
	struct watch_group *next;
	unsigned backend;
	uint64_t dev;
	void *priv; /* the backend's */
};

struct watcher_set {
	struct loop *loop;
	struct watcher_settings settings;
	struct watcher_callbacks cb;
	struct watched *sources;
	struct watch_group *groups; /* opened when first needed */
	struct loop_timer *look;    /* whether another backend suits better */
	struct link_watch *files;   /* with names outside; NULL while there are none */
	/* Drains by turns are rounds. Who comes while one is under way gets the next one's number, or a steady stream
	 * of askers would put the end off for ever. */
	uint64_t round, rounds_over;
	bool next_wanted;
};

static const struct watch_backend *backend_of(unsigned i)
{
	return i == BACKEND_FANOTIFY ? &watch_fanotify : &watch_inotify;
}

static unsigned index_of(const struct watched *w)
{
	return w->backend == &watch_fanotify ? BACKEND_FANOTIFY : BACKEND_INOTIFY;
}

static void close_group(struct watch_group **at)
{
	struct watch_group *g = *at;

	*at = g->next;
	backend_of(g->backend)->close(g->priv);
	free(g);
}

static void on_look(void *ctx);

static int64_t interval(const struct watcher_set *ws)
{
	return ws->settings.interval_ns > 0 ? ws->settings.interval_ns : 10 * NS_PER_S;
}

struct watcher_set *watcher_set_new(struct loop *loop, const struct watcher_settings *s,
				    const struct watcher_callbacks *cb, struct err *err)
{
	struct watcher_set *ws = calloc(1, sizeof(*ws));

	if (ws == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for the watchers");
		return NULL;
	}
	ws->loop = loop;
	ws->settings = *s;
	ws->cb = *cb;
	ws->look = loop_timer_add(loop, on_look, ws, err);
	if (ws->look == NULL) {
		free(ws);
		return NULL;
	}
	loop_timer_after(ws->look, interval(ws));
	return ws;
}

void watcher_set_free(struct watcher_set *ws)
{
	if (ws == NULL)
		return;
	while (ws->sources != NULL)
		watcher_remove(ws, ws->sources);
	while (ws->groups != NULL)
		close_group(&ws->groups);
	if (ws->look != NULL)
		loop_timer_remove(ws->look);
	link_watch_free(ws->files);
	free(ws);
}

static bool is_used(const struct watcher_set *ws, const struct watch_group *g)
{
	for (const struct watched *w = ws->sources; w != NULL; w = w->next)
		if (w->group[index_of(w)] == g)
			return true;
	return false;
}

/* The group of the source's file system, and while there is none, a new one; where the kernel gives no more, another's.
 */
static struct watch_group *group_for(struct watcher_set *ws, const struct watched *w, unsigned i, struct err *err)
{
	struct watch_group *g, *other = NULL;

	for (g = ws->groups; g != NULL; g = g->next) {
		if (g->backend != i)
			continue;
		if (g->dev == w->root_dev)
			return g;
		other = g;
	}
	g = calloc(1, sizeof(*g));
	if (g == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for a watcher");
		return other;
	}
	*g = (struct watch_group){ .next = ws->groups, .backend = i, .dev = w->root_dev };
	if (backend_of(i)->open(ws, ws->loop, &ws->settings, &g->priv, err) < 0) {
		free(g);
		return other;
	}
	ws->groups = g;
	/* File systems that are not mounted any more left theirs. */
	for (struct watch_group **at = &g->next; *at != NULL;)
		if ((*at)->backend == i && !is_used(ws, *at))
			close_group(at);
		else
			at = &(*at)->next;
	return g;
}

static int start(struct watcher_set *ws, struct watched *w, unsigned i, struct err *err)
{
	const struct watch_backend *b = backend_of(i);

	if (b == NULL)
		return err_set(err, ERR_CONFIG, "this build has no such watcher");
	w->group[i] = group_for(ws, w, i, err);
	if (w->group[i] == NULL)
		return -1;
	w->backend = b;
	return b->add(w->group[i]->priv, w, err);
}

/* End the watch that another backend has taken over. */
static void swap_out(struct watched *w, unsigned from, void *priv)
{
	const struct watch_backend *new = w->backend;
	void *kept = w->priv;

	w->priv = priv;
	w->backend = backend_of(from);
	w->backend->remove(w->group[from]->priv, w);
	w->priv = kept;
	w->backend = new;
}

/* What fanotify can't do it never can, but for want of marks, groups or memory. */
static void note_refusal(struct watched *w, const struct err *err)
{
	w->fanotify_refused = err->class != ERR_LIMIT && err->class != ERR_NOMEM && err->class != ERR_AGAIN;
}

static uint64_t unwatched(const struct watched *w)
{
	struct watched_info info;

	watched_info(w, &info);
	return info.unwatched;
}

/* ---- the first choice ---- */

static int on_fanotify(struct watcher_set *ws, struct watched *w, const char *reason, struct err *err)
{
	(void)snprintf(w->reason, sizeof(w->reason), "%s", reason);
	if (start(ws, w, BACKEND_FANOTIFY, err) == 0)
		return 0;
	note_refusal(w, err);
	return -1;
}

/* inotify has no watch left, or may not read some directory: fanotify needs neither. */
static int small_tree(struct watcher_set *ws, struct watched *w, unsigned dirs, struct err *err)
{
	struct err refused = ERR_INIT, ignored = ERR_INIT;
	void *inotify;

	(void)snprintf(w->reason, sizeof(w->reason), "a small tree: %u %s", dirs,
		       dirs == 1 ? "directory" : "directories");
	if (start(ws, w, BACKEND_INOTIFY, &refused) < 0) {
		char reason[sizeof(w->reason)];

		(void)snprintf(reason, sizeof(reason), "inotify refused: %.160s", refused.text);
		if (on_fanotify(ws, w, reason, &ignored) == 0)
			return 0;
		return err_set(err, refused.class, "%s", refused.text);
	}
	if (unwatched(w) == 0)
		return 0;
	inotify = w->priv;
	w->priv = NULL;
	if (start(ws, w, BACKEND_FANOTIFY, &ignored) < 0) {
		note_refusal(w, &ignored);
		w->priv = inotify;
		w->backend = &watch_inotify;
		return 0;
	}
	swap_out(w, BACKEND_INOTIFY, inotify);
	(void)snprintf(w->reason, sizeof(w->reason), "a small tree, but inotify cannot watch all of it");
	return 0;
}

static int choose(struct watcher_set *ws, struct watched *w, struct err *err)
{
	struct err refused = ERR_INIT;
	struct watch_count n;

	if (w->rq.choice == WATCHER_INOTIFY) {
		(void)snprintf(w->reason, sizeof(w->reason), "configured");
		return start(ws, w, BACKEND_INOTIFY, err);
	}
	if (w->rq.choice == WATCHER_FANOTIFY) {
		if (on_fanotify(ws, w, "configured", &refused) == 0)
			return 0;
		return err_set(err, refused.class, "fanotify: %.400s", refused.text);
	}
	n = watch_count_dirs(&w->rq, SMALL_TREE, SMALL_NS);
	if (!n.more)
		return small_tree(ws, w, n.dirs, err);
	if (on_fanotify(ws, w, "a large tree: no walk is needed to watch it", &refused) == 0)
		return 0;
	(void)snprintf(w->reason, sizeof(w->reason), "fanotify refused: %.160s", refused.text);
	return start(ws, w, BACKEND_INOTIFY, err);
}

/* ---- changing over ---- */

/* Whether fanotify's events since the last look were nearly all about nothing that is watched. */
static bool heard_noise(struct watched *w)
{
	struct watched_info info;
	uint64_t heard, unrelated, seconds = (uint64_t)((interval(w->set) + NS_PER_S - 1) / NS_PER_S);

	watched_info(w, &info);
	/* A file system that is no longer marked takes its numbers with it. */
	heard = info.heard > w->seen_heard ? info.heard - w->seen_heard : 0;
	unrelated = info.unrelated > w->seen_unrelated ? info.unrelated - w->seen_unrelated : 0;
	w->seen_heard = info.heard;
	w->seen_unrelated = info.unrelated;
	return unrelated > NOISE_RATE * seconds && unrelated >= heard / 100 * NOISE_PERCENT;
}

static bool is_noisy(struct watched *w)
{
	w->noisy = heard_noise(w) ? w->noisy + 1 : 0;
	return w->noisy >= NOISE_LOOKS;
}

/* The new one watches before the old one stops, and the old one's queue is read to its end before it goes: nothing
 * falls between them. What happened meanwhile is told by both. That is an extra look for all but renames: told by the
 * new one they are not exact, so that they are compared and never done twice. */
int watch_change_over(struct watched *w, struct err *err)
{
	struct watcher_set *ws = w->set;
	unsigned from = index_of(w), to = from == BACKEND_FANOTIFY ? BACKEND_INOTIFY : BACKEND_FANOTIFY;
	void *old = w->priv, *new;
	struct change all = { .kind = CHANGE_RECONCILE, .path = "", .cause = "events lost" };
	struct err drained = ERR_INIT;
	bool lost;
	int rc;

	w->priv = NULL;
	rc = start(ws, w, to, err);
	if (rc == 0 && to == BACKEND_INOTIFY && unwatched(w) > 0) {
		backend_of(to)->remove(w->group[to]->priv, w);
		rc = err_set(err, ERR_LIMIT, "inotify cannot watch all of it");
	} else if (rc < 0 && to == BACKEND_FANOTIFY) {
		note_refusal(w, err);
	}
	new = w->priv;
	w->priv = old;
	w->backend = backend_of(from);
	if (rc < 0)
		return -1;
	lost = backend_of(from)->drain(w->group[from]->priv, &drained) < 0;
	w->priv = new;
	w->backend = backend_of(to);
	swap_out(w, from, old);
	w->changeovers++;
	(void)heard_noise(w); /* what was heard before is no news */
	w->noisy = 0;
	/* What the old one could not watch, the new one says anew if it cannot either. */
	if (w->state == WATCHED_PARTIAL)
		watch_set_state(w, WATCHED_OK, "another watcher took over");
	w->overlap = true;
	(void)backend_of(to)->drain(w->group[to]->priv, &drained);
	w->overlap = false;
	all.time_ns = clock_mono_ns();
	if (lost)
		watch_emit(w, &all);
	return 0;
}

static void rest(struct watched *w)
{
	w->rest = w->tries < 6 ? REST_FIRST << w->tries : REST_LAST;
	w->tries++;
}

static bool try_change_over(struct watched *w, const char *reason)
{
	const struct watcher_callbacks *cb = &w->set->cb;
	struct err err = ERR_INIT;
	int rc = watch_change_over(w, &err);

	rest(w);
	if (rc == 0)
		(void)snprintf(w->reason, sizeof(w->reason), "%s", reason);
	if (cb->changed != NULL)
		cb->changed(cb->ctx, w, rc == 0 ? NULL : err.text);
	return rc == 0;
}

static bool may_change(const struct watched *w)
{
	return w->rq.choice == WATCHER_AUTO && w->state != WATCHED_GONE && w->rest == 0;
}

/* A change-over from where not all was watched: what was missed meanwhile is found by comparing. */
static void leave_gaps(struct watched *w, const char *reason)
{
	struct change all = { .kind = CHANGE_RECONCILE, .path = "", .cause = "not all was watched" };

	if (!try_change_over(w, reason))
		return;
	all.time_ns = clock_mono_ns();
	watch_emit(w, &all);
}

/* As long as one source of a file system stays with fanotify, its events are read all the same. */
static bool is_bound(const struct watched *w)
{
	for (const struct watched *o = w->set->sources; o != NULL; o = o->next)
		if (o->root_dev == w->root_dev && index_of(o) == BACKEND_FANOTIFY && !o->leaves)
			return true;
	return false;
}

static void leave_fanotify(struct watched *w)
{
	bool gaps = w->state == WATCHED_PARTIAL;
	struct watch_count n;
	char reason[sizeof(w->reason)];

	if (!gaps && is_bound(w))
		return;
	n = watch_count_dirs(&w->rq, NOISE_TREE, NOISE_NS);
	if (n.more) {
		rest(w);
		return;
	}
	(void)snprintf(reason, sizeof(reason), "%s, and it has only %u directories",
		       gaps ? "fanotify cannot watch all of it" : "much else happens on its file system", n.dirs);
	if (gaps)
		leave_gaps(w, reason);
	else
		(void)try_change_over(w, reason);
}

static void leave_inotify(struct watched *w)
{
	struct watched_info info;
	char reason[sizeof(w->reason)];

	watched_info(w, &info);
	if (w->state == WATCHED_PARTIAL) {
		leave_gaps(w, "inotify could not watch all of it");
	} else if (info.watches > GROWN_TREE) {
		(void)snprintf(reason, sizeof(reason), "the tree has grown to %" PRIu64 " directories", info.watches);
		(void)try_change_over(w, reason);
	}
}

static void on_look(void *ctx)
{
	struct watcher_set *ws = ctx;

	for (struct watched *w = ws->sources; w != NULL; w = w->next) {
		bool noisy = index_of(w) == BACKEND_FANOTIFY && is_noisy(w);

		w->rest -= w->rest > 0;
		w->leaves =
			(noisy || (index_of(w) == BACKEND_FANOTIFY && w->state == WATCHED_PARTIAL)) && may_change(w);
	}
	for (struct watched *w = ws->sources; w != NULL; w = w->next) {
		if (w->leaves)
			leave_fanotify(w);
		else if (index_of(w) == BACKEND_INOTIFY && may_change(w) && !w->fanotify_refused)
			leave_inotify(w);
	}
	loop_timer_after(ws->look, interval(ws));
}

struct watched *watcher_add(struct watcher_set *ws, const struct watch_request *rq, void *owner, struct err *err)
{
	struct watched *w = calloc(1, sizeof(*w));
	char *path = strdup(rq->path);
	struct stat st;

	if (w == NULL || path == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for a source");
	} else if (fstat(rq->root_fd, &st) < 0) {
		err_set(err, ERR_GONE, "%.400s: cannot look at the root", rq->path);
	} else {
		*w = (struct watched){
			.set = ws, .rq = *rq, .owner = owner, .root_dev = st.st_dev, .root_ino = st.st_ino
		};
		w->rq.path = path;
		w->path_len = strlen(path);
		if (choose(ws, w, err) == 0) {
			(void)heard_noise(w);
			w->next = ws->sources;
			ws->sources = w;
			return w;
		}
	}
	free(path);
	free(w);
	return NULL;
}

void watcher_remove(struct watcher_set *ws, struct watched *w)
{
	struct watched **at = &ws->sources;
	char *path;

	if (w == NULL)
		return;
	while (*at != NULL && *at != w)
		at = &(*at)->next;
	if (*at == w)
		*at = w->next;
	w->backend->remove(w->group[index_of(w)]->priv, w);
	if (ws->files != NULL)
		link_watch_forget(ws->files, w);
	memcpy(&path, &w->rq.path, sizeof(path));
	free(path);
	free(w);
}

void watcher_add_file(struct watcher_set *ws, struct watched *w, const char *path, size_t len, uint64_t dev,
		      uint64_t ino)
{
	if (ws->files == NULL)
		ws->files = link_watch_new(ws->loop);
	if (ws->files != NULL)
		link_watch_add(ws->files, w, path, len, dev, ino);
}

void watcher_hand_over_files(struct watcher_set *ws, const struct watched *from, struct watched *to)
{
	if (ws->files != NULL)
		link_watch_hand_over(ws->files, from, to);
}

void *watched_owner(const struct watched *w)
{
	return w->owner;
}

enum watched_state watched_state(const struct watched *w)
{
	return w->state;
}

void watched_info(const struct watched *w, struct watched_info *out)
{
	*out = (struct watched_info){
		.backend = w->backend->name,
		.reason = w->reason,
		.events = w->events,
		.overflows = w->overflows,
		.changeovers = w->changeovers,
	};
	w->backend->info(w->group[index_of(w)]->priv, w, out);
}

int watcher_drain(struct watcher_set *ws, struct err *err)
{
	for (const struct watch_group *g = ws->groups; g != NULL; g = g->next)
		if (backend_of(g->backend)->drain(g->priv, err) < 0)
			return -1;
	return ws->files == NULL ? 0 : link_watch_drain(ws->files, err);
}

/* What has no turns is drained here. */
static int ask_all(struct watcher_set *ws, struct err *err)
{
	for (const struct watch_group *g = ws->groups; g != NULL; g = g->next) {
		const struct watch_backend *b = backend_of(g->backend);

		if (b->ask != NULL)
			b->ask(g->priv);
		else if (b->drain(g->priv, err) < 0)
			return -1;
	}
	return ws->files == NULL ? 0 : link_watch_drain(ws->files, err);
}

/* As a backend's turn: 1, 0 or -1. */
static int turn_all(struct watcher_set *ws, int64_t ns, struct err *err)
{
	int all = 1;

	for (const struct watch_group *g = ws->groups; g != NULL; g = g->next) {
		const struct watch_backend *b = backend_of(g->backend);
		int r = b->turn == NULL ? 1 : b->turn(g->priv, ns, err);

		if (r < 0)
			return -1;
		all = all && r;
	}
	return all;
}

/* -1: a failure, with which the round is over. */
static int begin_round(struct watcher_set *ws, struct err *err)
{
	int r;

	ws->round++;
	r = ask_all(ws, err) < 0 ? -1 : turn_all(ws, DRAIN_TURN_NS, err);
	if (r != 0)
		ws->rounds_over = ws->round;
	return r < 0 ? -1 : 0;
}

int watcher_drain_begin(struct watcher_set *ws, uint64_t *ticket, struct err *err)
{
	*ticket = 0;
	if (ws->rounds_over < ws->round) {
		ws->next_wanted = true;
		*ticket = ws->round + 1;
		return 0;
	}
	if (begin_round(ws, err) < 0)
		return -1;
	if (ws->rounds_over < ws->round)
		*ticket = ws->round;
	return 0;
}

bool watcher_drained(const struct watcher_set *ws, uint64_t ticket)
{
	return ticket <= ws->rounds_over;
}

bool watcher_turn(struct watcher_set *ws)
{
	struct err err = ERR_INIT;
	int r = ws->rounds_over == ws->round ? 0 : turn_all(ws, 0, &err);

	if (r == 0)
		return false;
	/* What a queue that could not be read has lost is compared: its backend says so. */
	ws->rounds_over = ws->round;
	if (ws->next_wanted) {
		ws->next_wanted = false;
		(void)begin_round(ws, &err);
	}
	return true;
}

/* Whether a path below the source is one of our own files or lies below one of our own directories. */
static bool is_own(const struct watched *w, const char *path, size_t len)
{
	size_t root = strcmp(w->rq.path, "/") == 0 ? 0 : w->path_len;

	for (const char *const *own = w->set->settings.own_paths; own != NULL && *own != NULL; own++) {
		size_t n = strlen(*own);

		if (n > root + 1 && memcmp(*own, w->rq.path, root) == 0 && (*own)[root] == '/' &&
		    path_within(path, len, *own + root + 1, n - root - 1))
			return true;
	}
	return false;
}

/* A rename counts as ours only with both names: what became our file was perhaps a mirrored one. */
static bool is_own_change(const struct watched *w, const struct change *c)
{
	if (c->kind == CHANGE_RECONCILE || !is_own(w, c->path, c->path_len))
		return false;
	return c->old_path == NULL || path_is_temp(c->old_path, c->old_len) || is_own(w, c->old_path, c->old_len);
}

void watch_emit(struct watched *w, const struct change *c)
{
	/* A record that names no path of the tree still says that something happened. */
	struct change all = { .kind = CHANGE_RECONCILE, .path = "", .time_ns = c->time_ns, .cause = "unusable path" };
	bool usable = path_valid(c->path, c->path_len) && (c->old_path == NULL || path_valid(c->old_path, c->old_len));
	struct change told = usable ? *c : all;

	told.exact = told.exact && !w->overlap;
	if (w->set->files != NULL)
		link_watch_follow(w->set->files, w, &told);
	if (!usable || !is_own_change(w, c))
		w->set->cb.record(w->set->cb.ctx, w, &told);
}

void watch_set_state(struct watched *w, enum watched_state state, const char *why)
{
	if (w->state == state)
		return;
	w->state = state;
	w->set->cb.state(w->set->cb.ctx, w, state, why);
}
