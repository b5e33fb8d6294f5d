/*
 * watch_count.c - how many directories inotify would watch below a source.
 */
#include "core/watch_count.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/path.h"

/* Each level holds a descriptor. */
#define DEPTH_MAX 32u
/* Entries between two looks at the clock. */
#define ENTRIES 256u

struct count {
	const struct watch_request *rq;
	struct watch_count found;
	unsigned max, entries;
	int64_t until_ns;
	uint64_t dev;
	struct buf path;
};

static bool over(struct count *c)
{
	if (c->found.dirs > c->max || (++c->entries % ENTRIES == 0 && clock_mono_ns() > c->until_ns))
		c->found.more = true;
	return c->found.more;
}

/* Whether inotify would watch it. The path is complete. */
static bool counts(const struct count *c, int fd)
{
	const struct watch_request *rq = c->rq;
	struct stat st;

	if (rq->one_file_system && (fstat(fd, &st) < 0 || (uint64_t)st.st_dev != c->dev))
		return false;
	return rq->skip_dir == NULL || !rq->skip_dir(rq->skip_ctx, c->path.data, c->path.len);
}

static void count_below(struct count *c, int fd, unsigned depth);

static void count_entry(struct count *c, int at, const struct dirent *e, unsigned depth)
{
	size_t len = strlen(e->d_name), before = c->path.len;
	int fd;

	if ((e->d_type != DT_DIR && e->d_type != DT_UNKNOWN) || !path_name_valid(e->d_name, len))
		return;
	fd = openat(at, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return;
	if (before > 0)
		(void)buf_add_byte(&c->path, '/');
	if (!buf_add(&c->path, e->d_name, len)) {
		c->found.more = true;
		(void)close(fd);
	} else if (counts(c, fd)) {
		c->found.dirs++;
		count_below(c, fd, depth + 1);
	} else {
		(void)close(fd);
	}
	c->path.len = before;
}

/* Takes the descriptor. */
static void count_below(struct count *c, int fd, unsigned depth)
{
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	if (d == NULL) {
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	if (depth > DEPTH_MAX)
		c->found.more = true;
	while (!over(c) && (e = readdir(d)) != NULL)
		count_entry(c, dirfd(d), e, depth);
	(void)closedir(d);
}

struct watch_count watch_count_dirs(const struct watch_request *rq, unsigned max, int64_t max_ns)
{
	struct count c = { .rq = rq, .found.dirs = 1, .max = max, .until_ns = clock_mono_ns() + max_ns };
	struct stat st;

	buf_init(&c.path, (size_t)PATH_BYTES_MAX + 1);
	if (fstat(rq->root_fd, &st) == 0)
		c.dev = st.st_dev;
	count_below(&c, openat(rq->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0);
	buf_done(&c.path);
	return c.found;
}
