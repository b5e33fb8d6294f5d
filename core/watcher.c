/*
 * watcher.c - which backend watches a source, and the way of records and states from the backends to the daemon.
 */
#include "core/watcher.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/path.h"
#include "core/watch_backend.h"

/* A tree of at most so many directories is cheaper to watch one by one than with its whole file system. */
#define SMALL_TREE 512u
#define SMALL_DEPTH 32u
/* A file system where so much happens beside the source is left to inotify, when the source has few directories. */
#define NOISE_INTERVAL_S 10
#define NOISE_RATE 1000u
#define NOISE_PERCENT 90u
#define NOISE_TREE 4096u
/* Not to and fro for ever. */
#define CHANGEOVERS_MAX 2u

/* A build may leave a backend out: its address is NULL then. */
extern const struct watch_backend watch_fanotify __attribute__((weak));
extern const struct watch_backend watch_inotify __attribute__((weak));

enum { BACKEND_FANOTIFY, BACKEND_INOTIFY, BACKENDS };

struct watcher_set {
	struct loop *loop;
	struct watcher_settings settings;
	struct watcher_callbacks cb;
	struct watched *sources;
	void *group[BACKENDS]; /* opened when first needed */
	struct loop_timer *noise;
	uint64_t unrelated, related; /* fanotify's events until the last look */
};

static const struct watch_backend *backend_of(unsigned i)
{
	return i == BACKEND_FANOTIFY ? &watch_fanotify : &watch_inotify;
}

static unsigned index_of(const struct watched *w)
{
	return w->backend == &watch_fanotify ? BACKEND_FANOTIFY : BACKEND_INOTIFY;
}

static void on_noise(void *ctx);

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
	ws->noise = loop_timer_add(loop, on_noise, ws, err);
	if (ws->noise == NULL) {
		free(ws);
		return NULL;
	}
	loop_timer_after(ws->noise, NOISE_INTERVAL_S * NS_PER_S);
	return ws;
}

void watcher_set_free(struct watcher_set *ws)
{
	if (ws == NULL)
		return;
	while (ws->sources != NULL)
		watcher_remove(ws, ws->sources);
	for (unsigned i = 0; i < BACKENDS; i++)
		if (ws->group[i] != NULL)
			backend_of(i)->close(ws->group[i]);
	if (ws->noise != NULL)
		loop_timer_remove(ws->noise);
	free(ws);
}

/* Counts directories into *n until there are more than `max`. Takes the descriptor. */
static void count_dirs(int fd, unsigned depth, unsigned max, unsigned *n)
{
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	if (d == NULL) {
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	if (depth > SMALL_DEPTH)
		*n = max + 1;
	while (*n <= max && (e = readdir(d)) != NULL) {
		if ((e->d_type != DT_DIR && e->d_type != DT_UNKNOWN) || !path_name_valid(e->d_name, strlen(e->d_name)))
			continue;
		fd = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		*n += fd >= 0;
		count_dirs(fd, depth + 1, max, n);
	}
	(void)closedir(d);
}

static int start(struct watcher_set *ws, struct watched *w, unsigned i, struct err *err)
{
	const struct watch_backend *b = backend_of(i);

	if (b == NULL)
		return err_set(err, ERR_CONFIG, "this build has no such watcher");
	if (ws->group[i] == NULL && b->open(ws, ws->loop, &ws->settings, &ws->group[i], err) < 0) {
		ws->group[i] = NULL;
		return -1;
	}
	w->backend = b;
	return b->add(ws->group[i], w, err);
}

static int choose(struct watcher_set *ws, struct watched *w, struct err *err)
{
	struct err refused = ERR_INIT;
	unsigned n = 1;

	if (w->rq.choice == WATCHER_AUTO)
		count_dirs(openat(w->rq.root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0, SMALL_TREE, &n);
	if (w->rq.choice == WATCHER_INOTIFY || (w->rq.choice == WATCHER_AUTO && n <= SMALL_TREE)) {
		if (w->rq.choice == WATCHER_INOTIFY)
			(void)snprintf(w->reason, sizeof(w->reason), "configured");
		else
			(void)snprintf(w->reason, sizeof(w->reason), "a small tree: %u directories", n);
		return start(ws, w, BACKEND_INOTIFY, err);
	}
	(void)snprintf(w->reason, sizeof(w->reason), "%s",
		       w->rq.choice == WATCHER_FANOTIFY ? "configured" : "a large tree: no walk is needed to watch it");
	if (start(ws, w, BACKEND_FANOTIFY, &refused) == 0)
		return 0;
	if (w->rq.choice == WATCHER_FANOTIFY)
		return err_set(err, refused.class, "fanotify: %.400s", refused.text);
	(void)snprintf(w->reason, sizeof(w->reason), "fanotify refused: %.160s", refused.text);
	return start(ws, w, BACKEND_INOTIFY, err);
}

/* The new one watches before the old one stops, so nothing falls between them. */
static bool change_over(struct watcher_set *ws, struct watched *w, unsigned to)
{
	const struct watch_backend *old = w->backend;
	void *old_group = ws->group[index_of(w)], *old_priv = w->priv, *new_priv;
	struct err err = ERR_INIT;
	bool started;

	w->changeovers++;
	w->priv = NULL;
	started = start(ws, w, to, &err) == 0;
	new_priv = w->priv;
	w->priv = old_priv;
	w->backend = old;
	if (!started)
		return false;
	(void)old->drain(old_group, &err);
	old->remove(old_group, w);
	w->priv = new_priv;
	w->backend = backend_of(to);
	/* What the old one could not watch, the new one says anew if it cannot either. */
	if (w->state == WATCHED_PARTIAL)
		watch_set_state(w, WATCHED_OK, "another watcher took over");
	return true;
}

static void leave_noise(struct watcher_set *ws, struct watched *w)
{
	unsigned n = 1;

	count_dirs(openat(w->rq.root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0, NOISE_TREE, &n);
	if (n <= NOISE_TREE && change_over(ws, w, BACKEND_INOTIFY))
		(void)snprintf(w->reason, sizeof(w->reason), "much else happens on its file system; %u directories", n);
}

/* inotify ran out of watches, or may not read everything. */
static void leave_gaps(struct watcher_set *ws, struct watched *w)
{
	struct change all = { .kind = CHANGE_RECONCILE, .path = "", .cause = "not all was watched" };

	if (!change_over(ws, w, BACKEND_FANOTIFY))
		return;
	(void)snprintf(w->reason, sizeof(w->reason), "inotify could not watch all of it");
	all.time_ns = clock_mono_ns();
	watch_emit(w, &all);
}

/* Whether fanotify's events of the last interval were nearly all about something else. */
static bool is_noisy(struct watcher_set *ws)
{
	uint64_t unrelated = ws->unrelated, related = 0, events;
	struct watched_info info;

	for (const struct watched *w = ws->sources; w != NULL; w = w->next) {
		if (index_of(w) != BACKEND_FANOTIFY)
			continue;
		watched_info(w, &info);
		unrelated = info.unrelated;
		related += w->events;
	}
	/* A source that was removed took its events with it. */
	events = unrelated - ws->unrelated + (related > ws->related ? related - ws->related : 0);
	unrelated -= ws->unrelated;
	ws->unrelated += unrelated;
	ws->related = related;
	return unrelated > NOISE_RATE * NOISE_INTERVAL_S && unrelated > events / 100 * NOISE_PERCENT;
}

static void on_noise(void *ctx)
{
	struct watcher_set *ws = ctx;
	bool noisy = is_noisy(ws);

	for (struct watched *w = ws->sources; w != NULL; w = w->next) {
		if (w->rq.choice != WATCHER_AUTO || w->changeovers >= CHANGEOVERS_MAX || w->state == WATCHED_GONE)
			continue;
		if (index_of(w) == BACKEND_FANOTIFY && noisy)
			leave_noise(ws, w);
		else if (index_of(w) == BACKEND_INOTIFY && w->state == WATCHED_PARTIAL)
			leave_gaps(ws, w);
	}
	loop_timer_after(ws->noise, NOISE_INTERVAL_S * NS_PER_S);
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
	w->backend->remove(ws->group[index_of(w)], w);
	memcpy(&path, &w->rq.path, sizeof(path));
	free(path);
	free(w);
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
		.backend = w->backend->name, .reason = w->reason, .events = w->events, .overflows = w->overflows
	};
	w->backend->info(w->set->group[index_of(w)], w, out);
}

int watcher_drain(struct watcher_set *ws, struct err *err)
{
	for (unsigned i = 0; i < BACKENDS; i++)
		if (ws->group[i] != NULL && backend_of(i)->drain(ws->group[i], err) < 0)
			return -1;
	return 0;
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

	if (!usable || !is_own_change(w, c))
		w->set->cb.record(w->set->cb.ctx, w, usable ? c : &all);
}

void watch_set_state(struct watched *w, enum watched_state state, const char *why)
{
	if (w->state == state)
		return;
	w->state = state;
	w->set->cb.state(w->set->cb.ctx, w, state, why);
}
