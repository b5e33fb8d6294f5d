#include "transports/exec_walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/look.h"
#include "core/path.h"

#define SLICE_NS (4 * NS_PER_MS)
#define NAMES_MAX (256u << 20) /* bytes of the names of one directory */

/* A directory whose entries are being listed. */
struct level {
	size_t path_len; /* of the directory, within walk.path */
	struct buf names;
	const char **sorted; /* into names */
	size_t n, at;
};

struct exec_walk {
	struct loop *loop;
	struct loop_timer *timer;
	const struct sync_options *opt;
	struct exec_walk_events ev;
	struct looker looker;
	dev_t root_dev;
	struct buf path;
	struct level *levels;
	size_t n, cap;
};

static void pop(struct exec_walk *w)
{
	struct level *l = &w->levels[--w->n];

	buf_done(&l->names);
	free(l->sorted);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int sort_names(struct level *l, size_t n)
{
	const char *at = l->names.data;

	l->sorted = calloc(n + 1, sizeof(*l->sorted));
	if (l->sorted == NULL)
		return -1;
	for (l->n = 0; l->n < n; l->n++) {
		l->sorted[l->n] = at;
		at += strlen(at) + 1;
	}
	qsort(l->sorted, n, sizeof(*l->sorted), compare_names);
	return 0;
}

/* 0, or -1 with errno. */
static int read_names(DIR *dir, struct level *l)
{
	size_t n = 0;

	for (;;) {
		const struct dirent *d;
		size_t len;

		errno = 0;
		d = readdir(dir);
		if (d == NULL)
			break;
		len = strlen(d->d_name);
		if (!path_name_valid(d->d_name, len) || path_is_temp(d->d_name, len))
			continue;
		if (!buf_add(&l->names, d->d_name, len + 1)) {
			errno = ENOMEM;
			return -1;
		}
		n++;
	}
	if (errno != 0)
		return -1;
	if (sort_names(l, n) < 0) {
		errno = ENOMEM;
		return -1;
	}
	return 0;
}

static struct level *push(struct exec_walk *w)
{
	if (w->n == w->cap) {
		size_t cap = w->cap == 0 ? 16 : 2 * w->cap;
		struct level *levels = realloc(w->levels, cap * sizeof(*levels));

		if (levels == NULL)
			return NULL;
		w->levels = levels;
		w->cap = cap;
	}
	w->levels[w->n] = (struct level){ .path_len = w->path.len };
	buf_init(&w->levels[w->n].names, NAMES_MAX);
	return &w->levels[w->n++];
}

/* The directory at w->path: 0 when its names are on the stack, or it is gone; 1: unknown, told; -1: stop. */
static int enter(struct exec_walk *w, struct err *err)
{
	struct err why = ERR_INIT;
	int fd = looker_open_dir(&w->looker, buf_str(&w->path), w->path.len, &why);
	struct level *l;
	DIR *dir;
	int rc, code;

	if (fd < 0 && why.class == ERR_GONE) {
		if (w->n == 0) /* what was to be listed itself: that is not the same as an empty one */
			return err_set(err, ERR_GONE, "%s", why.text);
		return 0; /* an event says so */
	}
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (dir == NULL) {
		if (fd >= 0) {
			err_errno(&why, errno, "opendir");
			(void)close(fd);
		}
		return w->ev.unknown(w->ev.ctx, w->path.data, w->path.len, &why, err) < 0 ? -1 : 1;
	}
	l = push(w);
	if (l == NULL) {
		(void)closedir(dir);
		return err_set(err, ERR_NOMEM, "out of memory for a listing");
	}
	rc = read_names(dir, l);
	code = errno;
	(void)closedir(dir);
	if (rc == 0)
		return 0;
	pop(w);
	err_errno(&why, code, "readdir");
	return w->ev.unknown(w->ev.ctx, w->path.data, w->path.len, &why, err) < 0 ? -1 : 1;
}

static bool set_path(struct exec_walk *w, const struct level *l, const char *name)
{
	w->path.len = l->path_len;
	return (l->path_len == 0 || buf_add_byte(&w->path, '/')) && buf_add_str(&w->path, name);
}

static int one_entry(struct exec_walk *w, const char *path, size_t len, struct err *err)
{
	struct err why = ERR_INIT;
	enum look look;
	struct stat st;
	bool closed;

	if (looker_look(&w->looker, path, len, &look, &st, &why) < 0)
		return w->ev.unknown(w->ev.ctx, path, len, &why, err);
	if (look == LOOK_ABSENT || !filter_includes(w->opt->filter, path, len, look == LOOK_DIR))
		return 0;
	closed = look == LOOK_DIR && (w->opt->one_file_system || w->opt->rsync.one_file_system) &&
		 st.st_dev != w->root_dev;
	if (w->ev.entry(w->ev.ctx, path, len, look, &st, closed, err) < 0)
		return -1;
	return look == LOOK_DIR && !closed && enter(w, err) < 0 ? -1 : 0;
}

/* One entry. 1: all is listed. */
static int step(struct exec_walk *w, struct err *err)
{
	struct level *l = &w->levels[w->n - 1];

	if (l->at == l->n) {
		pop(w);
		return w->n == 0;
	}
	if (!set_path(w, l, l->sorted[l->at++])) {
		w->path.failed = false;
		return err_set(err, ERR_LIMIT, "a path is too long to be listed");
	}
	return one_entry(w, buf_str(&w->path), w->path.len, err);
}

static void on_timer(void *ctx)
{
	struct exec_walk *w = ctx;
	int64_t start = clock_mono_ns();
	struct err err = ERR_INIT;
	int rc = w->n == 0 ? enter(w, &err) : 0;

	if (rc >= 0 && w->n == 0)
		rc = 1;
	for (unsigned i = 1; rc == 0 && (i % 32 != 0 || clock_mono_ns() - start < SLICE_NS); i++)
		rc = step(w, &err);
	if (rc == 0)
		loop_timer_after(w->timer, 0);
	else
		w->ev.over(w->ev.ctx, rc < 0 ? &err : NULL);
}

struct exec_walk *exec_walk_new(struct loop *loop, const struct sync_options *opt, int root_fd, const char *path,
				size_t len, const struct exec_walk_events *events, struct err *err)
{
	struct exec_walk *w = calloc(1, sizeof(*w));
	struct stat st;

	if (w == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for a listing");
		return NULL;
	}
	w->loop = loop;
	w->opt = opt;
	w->ev = *events;
	looker_init(&w->looker, root_fd);
	buf_init(&w->path, PATH_BYTES_MAX);
	if (fstat(root_fd, &st) < 0)
		err_errno(err, errno, "the source");
	else if (!buf_add(&w->path, path, len))
		err_set(err, ERR_NOMEM, "out of memory for a listing");
	else
		w->timer = loop_timer_add(loop, on_timer, w, err);
	if (w->timer == NULL) {
		exec_walk_free(w);
		return NULL;
	}
	w->root_dev = st.st_dev;
	loop_timer_after(w->timer, 0);
	return w;
}

void exec_walk_free(struct exec_walk *w)
{
	if (w == NULL)
		return;
	while (w->n > 0)
		pop(w);
	free(w->levels);
	if (w->timer != NULL)
		loop_timer_remove(w->timer);
	looker_done(&w->looker);
	buf_done(&w->path);
	free(w);
}
