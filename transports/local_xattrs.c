/* local_xattrs.c - extended attributes of local files, ACLs among them; see local_private.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "core/buf.h"
#include "transports/local_private.h"

#define TRIES 10
#define BYTES_MAX ((size_t)16 << 20)

static unsigned kind_of(const char *name)
{
	if (strncmp(name, "system.posix_acl_", 17) == 0)
		return FILEOPS_XATTR_ACL;
	/* SELinux's label belongs to the place, not to the content. */
	if (strncmp(name, "system.", 7) == 0 || strcmp(name, "security.selinux") == 0)
		return 0;
	return FILEOPS_XATTR_PLAIN;
}

/* A list or value that grows meanwhile is read again. NULL with errno. */
static ssize_t read_once(const struct local_inode *of, const char *name, char *bytes, size_t size)
{
	if (of->fd >= 0)
		return name == NULL ? flistxattr(of->fd, bytes, size) : fgetxattr(of->fd, name, bytes, size);
	if (of->follow)
		return name == NULL ? listxattr(of->path, bytes, size) : getxattr(of->path, name, bytes, size);
	return name == NULL ? llistxattr(of->path, bytes, size) : lgetxattr(of->path, name, bytes, size);
}

static char *read_whole(const struct local_inode *of, const char *name, size_t *n)
{
	for (int i = 0; i < TRIES; i++) {
		ssize_t want = read_once(of, name, NULL, 0), got;
		char *bytes;

		if (want < 0)
			return NULL;
		bytes = malloc((size_t)want + 1);
		if (bytes == NULL)
			return NULL;
		got = want == 0 ? 0 : read_once(of, name, bytes, (size_t)want);
		if (got >= 0) {
			bytes[got] = '\0';
			*n = (size_t)got;
			return bytes;
		}
		free(bytes);
		if (errno != ERANGE)
			return NULL;
	}
	return NULL;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The names of the kinds, sorted; they point into *list. -1 with errno. */
static int names_of(const struct local_inode *of, unsigned kinds, char **list, const char ***names, size_t *n)
{
	size_t bytes = 0, count = 0;

	*names = NULL;
	*n = 0;
	*list = read_whole(of, NULL, &bytes);
	if (*list == NULL)
		return errno == EOPNOTSUPP ? 0 : -1;
	for (size_t i = 0; i < bytes; i += strlen(*list + i) + 1)
		count++;
	*names = calloc(count + 1, sizeof(**names));
	if (*names == NULL) {
		free(*list);
		*list = NULL;
		errno = ENOMEM;
		return -1;
	}
	for (size_t i = 0; i < bytes; i += strlen(*list + i) + 1)
		if ((kind_of(*list + i) & kinds) != 0)
			(*names)[(*n)++] = *list + i;
	if (*n > 1)
		qsort(*names, *n, sizeof(**names), compare_names);
	return 0;
}

static int add_one(struct buf *out, const struct local_inode *of, const char *name)
{
	size_t n = 0;
	char *value = read_whole(of, name, &n);

	if (value == NULL)
		return errno == ENODATA || errno == EPERM || errno == EACCES ? 0 : -1;
	(void)buf_add_u32(out, (uint32_t)strlen(name));
	(void)buf_add_str(out, name);
	(void)buf_add_u32(out, (uint32_t)n);
	(void)buf_add(out, value, n);
	free(value);
	errno = ENOMEM;
	return out->failed ? -1 : 0;
}

int local_xattrs_get(const struct local_inode *of, unsigned kinds, char **out, size_t *n)
{
	const char **names;
	char *list;
	size_t count;
	struct buf b;
	int rc = names_of(of, kinds, &list, &names, &count);

	buf_init(&b, BYTES_MAX);
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = add_one(&b, of, names[i]);
	free(names);
	free(list);
	if (rc < 0) {
		int code = errno;

		buf_done(&b);
		errno = code;
		return -1;
	}
	*n = b.len;
	*out = b.data; /* NULL when there are none */
	return 0;
}

static bool wanted(const char *want, size_t n, const char *name)
{
	struct reader r;

	reader_init(&r, want, n);
	while (r.left > 0 && !r.failed) {
		size_t len = reader_u32(&r);
		const char *text = reader_bytes(&r, len);

		(void)reader_bytes(&r, reader_u32(&r));
		if (!r.failed && len == strlen(name) && memcmp(text, name, len) == 0)
			return true;
	}
	return false;
}

static int remove_one(const struct local_inode *of, const char *name)
{
	if (of->fd >= 0)
		return fremovexattr(of->fd, name);
	return of->follow ? removexattr(of->path, name) : lremovexattr(of->path, name);
}

static int remove_others(const struct local_inode *of, unsigned kinds, const char *want, size_t n)
{
	const char **names;
	char *list;
	size_t count;
	int rc = names_of(of, kinds, &list, &names, &count);

	for (size_t i = 0; rc == 0 && i < count; i++)
		if (!wanted(want, n, names[i]) && remove_one(of, names[i]) < 0 && errno != ENODATA)
			rc = -1;
	free(names);
	free(list);
	return rc;
}

static int set_one(const struct local_inode *of, const char *name, const void *value, size_t n)
{
	if (of->fd >= 0)
		return fsetxattr(of->fd, name, value, n, 0);
	return of->follow ? setxattr(of->path, name, value, n, 0) : lsetxattr(of->path, name, value, n, 0);
}

/* What one of them may not be does not keep the others from being set. */
int local_xattrs_set(const struct local_inode *of, unsigned kinds, const char *want, size_t n)
{
	int code = remove_others(of, kinds, want, n) < 0 ? errno : 0;
	struct reader r;
	char name[256];

	reader_init(&r, want, n);
	while (r.left > 0) {
		size_t len = reader_u32(&r);
		const char *text = reader_bytes(&r, len);
		size_t size = reader_u32(&r);
		const void *value = reader_bytes(&r, size);

		if (r.failed || len >= sizeof(name)) {
			errno = EINVAL;
			return -1;
		}
		memcpy(name, text, len);
		name[len] = '\0';
		if ((kind_of(name) & kinds) != 0 && set_one(of, name, value, size) < 0)
			code = errno;
	}
	errno = code;
	return code == 0 ? 0 : -1;
}
