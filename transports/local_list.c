/* local_list.c - the entries of an open directory; see local_private.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "transports/listing.h"
#include "transports/local_private.h"

struct dirent_raw {
	uint64_t ino;
	int64_t off;
	unsigned short reclen;
	unsigned char type;
	char name[];
};

static int look(int fd, const char *name, struct stat *st)
{
	int rc = fstatat(fd, name, st, AT_SYMLINK_NOFOLLOW);

	if (rc < 0)
		*st = (struct stat){ 0 };
	return rc;
}

/* 0, or -1 with errno. */
static int add(struct listing *l, int fd, const struct dirent_raw *d, const struct fileops_wish *wish)
{
	size_t len = strlen(d->name);
	bool is_dir = d->type == DT_DIR, looked = d->type == DT_UNKNOWN;
	struct fileops_entry *e;
	struct stat st;
	int rc = 0;

	if (d->name[0] == '.' && (len == 1 || (len == 2 && d->name[1] == '.')))
		return 0;
	if (looked) {
		rc = look(fd, d->name, &st);
		is_dir = S_ISDIR(st.st_mode);
	}
	if ((rc < 0 && errno == ENOENT) || !wish->keep(wish->ctx, d->name, len, is_dir))
		return 0;
	e = listing_add(l, d->name, len);
	if (e == NULL) {
		errno = ENOMEM;
		return -1;
	}
	if (looked)
		e->st = st;
	else if (look(fd, e->name, &e->st) < 0 && errno == ENOENT)
		listing_drop_last(l);
	return 0;
}

static int read_all(int fd, char *buffer, size_t size, struct listing *l, const struct fileops_wish *wish)
{
	for (;;) {
		long n = syscall(SYS_getdents64, fd, buffer, size);

		if (n <= 0)
			return (int)n;
		for (long at = 0; at < n;) {
			const struct dirent_raw *d = (const void *)(buffer + at);

			if (add(l, fd, d, wish) < 0)
				return -1;
			at += d->reclen;
		}
	}
}

int local_list(int fd, char *buffer, size_t size, struct listing *l, const struct fileops_wish *wish)
{
	listing_init(l);
	if (read_all(fd, buffer, size, l, wish) < 0) {
		int code = errno;

		listing_free(l);
		errno = code;
		return -1;
	}
	listing_sort(l);
	return 0;
}
