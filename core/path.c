#include "core/path.h"

#include <string.h>

bool path_name_valid(const char *name, size_t len)
{
	if (len == 0 || len > NAME_BYTES_MAX)
		return false;
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return false;
	return memchr(name, '/', len) == NULL && memchr(name, '\0', len) == NULL;
}

bool path_valid(const char *p, size_t len)
{
	if (len == 0)
		return true;
	if (len > PATH_BYTES_MAX)
		return false;
	for (;;) {
		const char *slash = memchr(p, '/', len);
		size_t n = slash == NULL ? len : (size_t)(slash - p);

		if (!path_name_valid(p, n))
			return false;
		if (slash == NULL)
			return true;
		p += n + 1;
		len -= n + 1;
	}
}

size_t path_parent_len(const char *p, size_t len)
{
	const char *slash = len == 0 ? NULL : memrchr(p, '/', len);

	return slash == NULL ? 0 : (size_t)(slash - p);
}

size_t path_base(const char *p, size_t len)
{
	const char *slash = len == 0 ? NULL : memrchr(p, '/', len);

	return slash == NULL ? 0 : (size_t)(slash - p) + 1;
}

bool path_below(const char *p, size_t len, const char *dir, size_t dirlen)
{
	if (dirlen == 0)
		return len > 0;
	return len > dirlen && p[dirlen] == '/' && memcmp(p, dir, dirlen) == 0;
}

bool path_within(const char *p, size_t len, const char *dir, size_t dirlen)
{
	return path_below(p, len, dir, dirlen) || (len == dirlen && (len == 0 || memcmp(p, dir, len) == 0));
}

const char *path_rest(const char *p, const char *top)
{
	size_t n = strcmp(top, "/") == 0 ? 0 : strlen(top);

	return strncmp(p, top, n) != 0 || p[n] != '/' || p[n + 1] == '\0' ? NULL : p + n + 1;
}

/* FNV-1a, but for where it begins. */
uint64_t path_hash(const char *p, size_t len)
{
	uint64_t h = UINT64_C(1469598103934665603);

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)p[i]) * UINT64_C(1099511628211);
	return h;
}

int path_compare(const char *a, size_t alen, const char *b, size_t blen)
{
	size_t n = alen < blen ? alen : blen;

	for (size_t i = 0; i < n; i++) {
		unsigned x = (unsigned char)a[i], y = (unsigned char)b[i];

		if (x == y)
			continue;
		if (x == '/')
			return -1;
		if (y == '/')
			return 1;
		return x < y ? -1 : 1;
	}
	return alen == blen ? 0 : alen < blen ? -1 : 1;
}

bool path_is_temp(const char *name, size_t len)
{
	static const char suffix[] = PATH_TEMP_SUFFIX;
	size_t n = sizeof(suffix) - 1;

	return len >= n && memcmp(name + len - n, suffix, n) == 0;
}

bool path_has_temp(const char *p, size_t len)
{
	while (len > 0) {
		const char *slash = memchr(p, '/', len);
		size_t n = slash == NULL ? len : (size_t)(slash - p);

		if (path_is_temp(p, n))
			return true;
		p += slash == NULL ? n : n + 1;
		len -= slash == NULL ? n : n + 1;
	}
	return false;
}

bool path_like_rsync_temp(const char *name, size_t len)
{
	if (len < 9 || name[0] != '.' || name[len - 7] != '.')
		return false;
	for (size_t i = len - 6; i < len; i++) {
		char c = name[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
			return false;
	}
	return true;
}
