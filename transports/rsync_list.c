/*
 * rsync_list.c - the names that a run of rsync is given; see rsync_list.h.
 */
#include "transports/rsync_list.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/path.h"

/* Of a name in the list: the directory that holds it, and of a directory, how many of its entries are in the list. */
struct place {
	size_t parent; /* position in the list; SIZE_MAX: not in it */
	size_t held;
	bool whole;
};

static const struct transport_item *item_at(const struct rsync_list *l, size_t i)
{
	return &l->items[l->index[i]];
}

static bool is_parent(const struct transport_item *dir, const struct transport_item *item)
{
	return item->len > 0 && path_parent_len(item->path, item->len) == dir->len &&
	       path_within(item->path, item->len, dir->path, dir->len);
}

/* In the order of a walk, what encloses a name is what encloses the one before it, or that one itself. */
static void find_parents(const struct rsync_list *l, struct place *places)
{
	size_t above = SIZE_MAX;

	for (size_t i = 0; i < l->n; i++) {
		const struct transport_item *item = item_at(l, i);

		while (above != SIZE_MAX &&
		       !path_below(item->path, item->len, item_at(l, above)->path, item_at(l, above)->len))
			above = places[above].parent;
		places[i] = (struct place){ .parent = above };
		if (item->look == LOOK_ABSENT)
			continue;
		if (above != SIZE_MAX && is_parent(item_at(l, above), item))
			places[above].held++;
		if (item->look == LOOK_DIR)
			above = i;
	}
}

/* Whether the list holds that name, as something that is there. */
static bool holds(const struct rsync_list *l, const char *path, size_t len)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct transport_item *item = item_at(l, mid);
		int order = path_compare(item->path, item->len, path, len);

		if (order == 0)
			return item->look != LOOK_ABSENT;
		if (order < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

static bool entries_are_held(const struct rsync_list *l, DIR *d, const struct transport_item *dir, size_t held)
{
	struct buf path;
	const struct dirent *e;
	size_t seen = 0, head;
	bool ok = true;

	buf_init(&path, 2 * PATH_BYTES_MAX);
	(void)buf_add(&path, dir->path, dir->len);
	(void)buf_add_byte(&path, '/');
	head = path.len;
	while (ok && (e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		path.len = head;
		ok = buf_add_str(&path, e->d_name) && holds(l, path.data, path.len);
		seen++;
	}
	buf_done(&path);
	return ok && seen == held;
}

/* The directory is looked into as long as its entries are in the list, so a large one with few changes costs little. */
static bool is_whole(const struct rsync_list *l, const struct transport_item *dir, size_t held)
{
	char name[4096];
	bool whole;
	DIR *d;
	int fd;

	if (dir->len == 0 || dir->len >= sizeof(name) || held < RSYNC_LIST_WHOLE_MIN)
		return false;
	memcpy(name, dir->path, dir->len);
	name[dir->len] = '\0';
	fd = openat(l->source_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (d == NULL) {
		if (fd >= 0)
			(void)close(fd);
		return false;
	}
	whole = entries_are_held(l, d, dir, held);
	(void)closedir(d);
	return whole;
}

static bool is_listed_by_parent(const struct rsync_list *l, const struct place *places, size_t i)
{
	size_t parent = places[i].parent;

	return item_at(l, i)->look != LOOK_ABSENT && parent != SIZE_MAX && places[parent].whole &&
	       is_parent(item_at(l, parent), item_at(l, i));
}

/* rsync drops such a line as a comment, from a list separated by NULs, too. */
static bool like_comment(const struct transport_item *item)
{
	return item->len > 0 && (item->path[0] == '#' || item->path[0] == ';');
}

static void put_names(const struct rsync_list *l, const struct place *places, struct buf *out)
{
	/* A leading "./" adds the root as the directory that it is, without what it holds. */
	bool implied = l->n > 1 && item_at(l, 0)->len == 0;

	for (size_t i = implied ? 1 : 0; i < l->n; i++) {
		const struct transport_item *item = item_at(l, i);
		bool whole = places != NULL && places[i].whole;

		if (places != NULL && !whole && is_listed_by_parent(l, places, i))
			continue;
		if (implied || like_comment(item))
			(void)buf_add_str(out, "./");
		implied = false;
		(void)buf_add(out, item->len == 0 ? "." : item->path, item->len == 0 ? 1 : item->len);
		if (whole)
			(void)buf_add_byte(out, '/');
		(void)buf_add_byte(out, '\0');
	}
}

bool rsync_list_make(const struct rsync_list *l, struct buf *out, bool *whole)
{
	struct place *places = NULL;

	*whole = false;
	if (l->source_fd >= 0 && l->n >= RSYNC_LIST_WHOLE_MIN) {
		places = malloc(l->n * sizeof(*places));
		if (places == NULL)
			return false;
		find_parents(l, places);
		for (size_t i = 0; i < l->n; i++) {
			places[i].whole = is_whole(l, item_at(l, i), places[i].held);
			*whole = *whole || places[i].whole;
		}
	}
	put_names(l, places, out);
	free(places);
	return !out->failed;
}
