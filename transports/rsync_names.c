/*
 * rsync_names.c - whom a message of rsync concerns; see rsync_names.h.
 */
#include "transports/rsync_names.h"

#include <stdlib.h>
#include <string.h>

#include "core/path.h"

/* rrsync hands rsync the target as a descriptor. */
static size_t descriptor_root(const char *name, size_t len)
{
	static const char head[] = "/proc/self/fd/";
	size_t n = sizeof(head) - 1;

	if (len <= n || memcmp(name, head, n) != 0 || name[n] < '0' || name[n] > '9')
		return 0;
	while (n < len && name[n] >= '0' && name[n] <= '9')
		n++;
	return n == len || name[n] == '/' ? n : 0;
}

bool rsync_name_cut(const struct rsync_names *names, const char *name, size_t len, size_t *off, size_t *n, bool *known)
{
	size_t start = descriptor_root(name, len);

	*known = start > 0 || len == 0 || name[0] != '/';
	for (size_t i = 0; i < RSYNC_ROOTS && len > 0 && name[0] == '/'; i++) {
		size_t root = names->roots[i] == NULL ? 0 : strlen(names->roots[i]);

		if (root == 0 || len < root || memcmp(name, names->roots[i], root) != 0)
			continue;
		if (len == root || name[root] == '/') {
			start = root;
			*known = true;
			break;
		}
	}
	while (start < len && name[start] == '/')
		start++;
	while (len > start && name[len - 1] == '/')
		len--;
	if (len - start >= 2 && name[start] == '.' && name[start + 1] == '/')
		start += 2;
	if (len - start == 1 && name[start] == '.')
		len = start;
	*off = start;
	*n = len - start;
	return path_valid(name + start, len - start);
}

size_t rsync_name_end(const char *path, size_t len, bool (*there)(void *ctx, const char *path, size_t len), void *ctx)
{
	for (size_t at = 0; at < len; at++)
		if ((at == 0 || path[at - 1] == '/') && there(ctx, path + at, len - at))
			return at;
	return 0;
}

size_t rsync_item_find(const struct transport_work *work, const char *path, size_t len)
{
	size_t lo = 0, hi = work->n_items;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int order = path_compare(path, len, work->items[mid].path, work->items[mid].len);

		if (order == 0)
			return mid;
		if (order < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return SIZE_MAX;
}

bool rsync_temp_owner(const char *path, size_t len, char *out, size_t *out_len)
{
	size_t base = path_base(path, len), keep;

	if (!path_like_rsync_temp(path + base, len - base))
		return false;
	keep = len - base - 1 - 7; /* without the leading dot and ".XXXXXX" */
	memcpy(out, path, base);
	memcpy(out + base, path + base + 1, keep);
	*out_len = base + keep;
	return true;
}

static size_t find_temp_owner(const struct transport_work *work, const char *path, size_t len)
{
	char *owner = len == 0 ? NULL : malloc(len);
	size_t n, found = SIZE_MAX;

	if (owner != NULL && rsync_temp_owner(path, len, owner, &n))
		found = rsync_item_find(work, owner, n);
	free(owner);
	return found;
}

size_t rsync_item_for(const struct transport_work *work, const char *path, size_t len)
{
	size_t found = rsync_item_find(work, path, len);

	if (found == SIZE_MAX)
		found = find_temp_owner(work, path, len);
	for (size_t up = len; found == SIZE_MAX && up > 0;) {
		size_t at;

		up = path_parent_len(path, up);
		at = up == 0 ? SIZE_MAX : rsync_item_find(work, path, up);
		/* What lies below a directory of the work is its own matter, unless the work replaces the directory. */
		if (at != SIZE_MAX && work->items[at].look != LOOK_DIR)
			found = at;
	}
	return found;
}
