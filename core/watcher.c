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

#include "core/path.h"
#include "core/watch_backend.h"

/* A tree of at most so many directories is cheaper to watch one by one than with its whole file system. */
#define SMALL_TREE 512u
#define SMALL_DEPTH 32u

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
};

static const struct watch_backend *backend_of(unsigned i)
{
	return i == BACKEND_FANOTIFY ? &watch_fanotify : &watch_inotify;
}

static unsigned index_of(const struct watched *w)
{
	return w->backend == &watch_fanotify ? BACKEND_FANOTIFY : BACKEND_INOTIFY;
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
	free(ws);
}

/* Counts directories into *n until there are more than SMALL_TREE. Takes the descriptor. */
static void count_dirs(int fd, unsigned depth, unsigned *n)
{
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	if (d == NULL) {
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	if (depth > SMALL_DEPTH)
		*n = SMALL_TREE + 1;
	while (*n <= SMALL_TREE && (e = readdir(d)) != NULL) {
		if ((e->d_type != DT_DIR && e->d_type != DT_UNKNOWN) || !path_name_valid(e->d_name, strlen(e->d_name)))
			continue;
		fd = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		*n += fd >= 0;
		count_dirs(fd, depth + 1, n);
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
		count_dirs(openat(w->rq.root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0, &n);
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
