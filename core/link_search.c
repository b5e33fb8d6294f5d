#include "core/link_search.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/path.h"

#define TODO_MAX (64u << 20)
#define SLICE_NS (4 * NS_PER_MS)
/* Pause for so many times what the slice took. */
#define PAUSE_TIMES 4
#define FIRST_PAUSE_NS (20 * NS_PER_MS)
/* It gives way to a comparison for so long at most. */
#define HOLD_MAX_NS (5 * NS_PER_S)

/* ---- the stack ---- */

static void push(struct link_search *ls, const char *path, size_t len)
{
	size_t before = ls->todo.len;

	if (buf_add(&ls->todo, path, len) && buf_add_u32(&ls->todo, (uint32_t)len))
		return;
	ls->todo.len = before;
	ls->todo.failed = false;
	log_warn("out of memory: not all of the source was searched for hard links");
}

/* The top one becomes `path`; false: there is none. */
static bool pop(struct link_search *ls)
{
	struct reader r;
	size_t len;

	if (ls->todo.len == 0)
		return false;
	reader_init(&r, ls->todo.data + ls->todo.len - 4, 4);
	len = reader_u32(&r);
	ls->todo.len -= 4 + len;
	buf_clear(&ls->path);
	(void)buf_add(&ls->path, ls->todo.data + ls->todo.len, len);
	return true;
}

/* ---- the walk ---- */

static void close_dir(struct link_search *ls)
{
	if (ls->dir != NULL)
		(void)closedir(ls->dir);
	ls->dir = NULL;
}

static void open_dir(struct link_search *ls)
{
	struct looker *looker = ls->siblings->looker;
	struct stat st;
	int fd = looker_open_dir(looker, buf_str(&ls->path), ls->path.len, NULL);

	if (fd < 0)
		return; /* gone, or not readable: not mirrored either */
	if (ls->opt->one_file_system && (fstat(fd, &st) < 0 || (uint64_t)st.st_dev != ls->root_dev)) {
		(void)close(fd);
		return;
	}
	ls->dir = fdopendir(fd);
	if (ls->dir == NULL)
		(void)close(fd);
	ls->dir_len = ls->path.len;
}

/* The entry's path in place of the last one's. */
static bool entry_path(struct link_search *ls, const char *name)
{
	size_t len = strlen(name);

	ls->path.len = ls->dir_len;
	if (!path_name_valid(name, len) || ls->dir_len + len + 1 > PATH_BYTES_MAX)
		return false;
	return (ls->dir_len == 0 || buf_add_byte(&ls->path, '/')) && buf_add(&ls->path, name, len);
}

static void take_entry(struct link_search *ls, const struct dirent *d)
{
	bool is_dir = d->d_type == DT_DIR;
	struct stat st;

	if ((d->d_type != DT_REG && d->d_type != DT_DIR && d->d_type != DT_UNKNOWN) || !entry_path(ls, d->d_name))
		return;
	if (!is_dir) {
		if (fstatat(dirfd(ls->dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
			return;
		is_dir = S_ISDIR(st.st_mode);
		if (!is_dir && (!S_ISREG(st.st_mode) || st.st_nlink < 2))
			return;
	}
	if (!filter_includes(ls->opt->filter, buf_str(&ls->path), ls->path.len, is_dir))
		return;
	if (is_dir)
		push(ls, ls->path.data, ls->path.len);
	else
		(void)links_note(ls->siblings->links, st.st_dev, st.st_ino, ls->path.data, ls->path.len);
}

/* One entry, or one directory opened. False: all was walked. */
static bool walk_on(struct link_search *ls)
{
	const struct dirent *d;

	if (ls->dir == NULL) {
		if (!pop(ls))
			return false;
		open_dir(ls);
		return true;
	}
	d = readdir(ls->dir);
	if (d == NULL)
		close_dir(ls);
	else
		take_entry(ls, d);
	return true;
}

static void judge(void *ctx, uint64_t dev, uint64_t ino)
{
	const struct link_search *ls = ctx;

	siblings_judge(ls->siblings, dev, ino);
}

/* False: it is over. */
static bool step(struct link_search *ls)
{
	if (!ls->judging) {
		ls->judging = !walk_on(ls);
		ls->part = 0;
		return true;
	}
	links_each(ls->siblings->links, ls->part++, judge, ls);
	return ls->part < LINKS_PARTS;
}

static void on_timer(void *ctx)
{
	struct link_search *ls = ctx;
	int64_t start = clock_mono_ns(), now = start;
	bool more = true;

	if (start < ls->held_until_ns) {
		loop_timer_after(ls->timer, FIRST_PAUSE_NS);
		return;
	}
	for (unsigned i = 1; more && now - start < SLICE_NS; i++) {
		more = step(ls);
		if (i % 64 == 0)
			now = clock_mono_ns();
	}
	looker_done(ls->siblings->looker); /* a directory kept open would keep its file system from being unmounted */
	if (more) {
		loop_timer_after(ls->timer, (clock_mono_ns() - start) * PAUSE_TIMES);
		return;
	}
	ls->under_way = ls->judging = false;
	if (links_full(ls->siblings->links))
		log_warn(
			"too many names of hard links: not all of the files with names outside the source are watched");
	if (ls->todo.len > 0) /* was asked for meanwhile */
		link_search_add(ls, NULL, 0);
}

/* ---- life ---- */

void link_search_hold(struct link_search *ls, bool hold)
{
	ls->held_until_ns = hold ? clock_mono_ns() + HOLD_MAX_NS : 0;
}

void link_search_add(struct link_search *ls, const char *path, size_t len)
{
	if (path != NULL && len == 0) {
		buf_clear(&ls->todo); /* it covers them all */
		close_dir(ls);
	}
	if (path != NULL)
		push(ls, path, len);
	if (ls->under_way) /* what is being judged already is walked when that is over */
		return;
	ls->under_way = true;
	links_begin(ls->siblings->links);
	loop_timer_after(ls->timer, FIRST_PAUSE_NS);
}

int link_search_init(struct link_search *ls, struct loop *loop, const struct sync_options *opt,
		     struct siblings *siblings, uint64_t root_dev, struct err *err)
{
	*ls = (struct link_search){ .siblings = siblings, .opt = opt, .root_dev = root_dev };
	buf_init(&ls->todo, TODO_MAX);
	buf_init(&ls->path, PATH_BYTES_MAX + NAME_BYTES_MAX + 2);
	ls->timer = loop_timer_add(loop, on_timer, ls, err);
	return ls->timer == NULL ? -1 : 0;
}

void link_search_done(struct link_search *ls)
{
	close_dir(ls);
	if (ls->timer != NULL)
		loop_timer_remove(ls->timer);
	ls->timer = NULL;
	buf_done(&ls->todo);
	buf_done(&ls->path);
}
