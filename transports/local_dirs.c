#include "transports/local_dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/look.h"
#include "core/path.h"

void local_dirs_init(struct local_dirs *d, int root_fd)
{
	memset(d, 0, sizeof(*d));
	d->root_fd = root_fd;
	/* The descriptor may be a copy, of one that was read before. */
	d->root = (struct local_dir){ .fd = root_fd, .gid = -1, .readable = true, .moved = true };
}

static uint16_t *bucket_of(struct local_dirs *d, uint64_t hash)
{
	return &d->buckets[hash % LOCAL_DIRS_MAX];
}

static void drop(struct local_dirs *d, struct local_dir *s)
{
	uint16_t self = (uint16_t)(s - d->slots + 1), *at = bucket_of(d, s->hash);

	while (*at != self)
		at = &d->slots[*at - 1].next;
	*at = s->next;
	(void)close(s->fd);
	free(s->path);
	*s = (struct local_dir){ 0 };
	if (d->last == self)
		d->last = 0;
}

void local_dirs_forget_all(struct local_dirs *d)
{
	for (size_t i = 0; i < LOCAL_DIRS_MAX; i++)
		if (d->slots[i].path != NULL)
			drop(d, &d->slots[i]);
}

void local_dirs_done(struct local_dirs *d)
{
	local_dirs_forget_all(d);
	if (d->root_fd >= 0)
		(void)close(d->root_fd);
	d->root_fd = -1;
}

void local_dirs_forget(struct local_dirs *d, const char *path, size_t len)
{
	for (size_t i = 0; i < LOCAL_DIRS_MAX; i++) {
		struct local_dir *s = &d->slots[i];

		if (s->path != NULL && s->len >= len && path_within(s->path, s->len, path, len))
			drop(d, s);
	}
}

static struct local_dir *find(struct local_dirs *d, const char *path, size_t len, uint64_t hash)
{
	for (uint16_t i = *bucket_of(d, hash); i != 0; i = d->slots[i - 1].next) {
		struct local_dir *s = &d->slots[i - 1];

		if (s->hash == hash && s->len == len && memcmp(s->path, path, len) == 0)
			return s;
	}
	return NULL;
}

/* The nearest directory above that is open; *rest: what is left of the path below it. */
static int nearest(struct local_dirs *d, const char *path, size_t len, size_t *rest)
{
	for (size_t n = path_parent_len(path, len); n > 0; n = path_parent_len(path, n)) {
		struct local_dir *s = find(d, path, n, XXH3_64bits(path, n));

		if (s != NULL) {
			*rest = n + 1;
			s->used = true;
			return s->fd;
		}
	}
	*rest = 0;
	return d->root_fd;
}

/* Not the one used last: it is promised to stay for one more call. */
static struct local_dir *free_slot(struct local_dirs *d)
{
	for (;;) {
		struct local_dir *s = &d->slots[d->hand];

		d->hand = (uint16_t)((d->hand + 1) % LOCAL_DIRS_MAX);
		if (s->path == NULL)
			return s;
		if (!s->used && s - d->slots + 1 != d->last) {
			drop(d, s);
			return s;
		}
		s->used = false;
	}
}

static struct local_dir *keep(struct local_dirs *d, const char *path, size_t len, uint64_t hash, int fd, bool readable)
{
	struct local_dir *s = free_slot(d);
	char *copy = malloc(len);

	if (copy == NULL) {
		(void)close(fd);
		errno = ENOMEM;
		return NULL;
	}
	memcpy(copy, path, len);
	*s = (struct local_dir){ .path = copy,
				 .len = len,
				 .hash = hash,
				 .fd = fd,
				 .gid = -1,
				 .readable = readable,
				 .next = *bucket_of(d, hash) };
	*bucket_of(d, hash) = (uint16_t)(s - d->slots + 1);
	return s;
}

static struct local_dir *use(struct local_dirs *d, struct local_dir *s)
{
	s->used = true;
	d->last = (uint16_t)(s - d->slots + 1);
	return s;
}

struct local_dir *local_dirs_get(struct local_dirs *d, const char *path, size_t len, bool read)
{
	struct local_dir *s = d->last == 0 ? NULL : &d->slots[d->last - 1];
	uint64_t hash;
	size_t rest;
	int fd;

	if (len == 0)
		return &d->root;
	if (s != NULL && s->len == len && memcmp(s->path, path, len) == 0 && (s->readable || !read))
		return use(d, s);
	hash = XXH3_64bits(path, len);
	s = find(d, path, len, hash);
	if (s != NULL && (s->readable || !read))
		return use(d, s);
	if (s != NULL)
		drop(d, s);
	fd = nearest(d, path, len, &rest);
	fd = look_open_below(fd, path + rest, len - rest, read ? O_RDONLY : O_PATH);
	if (fd < 0)
		return NULL;
	s = keep(d, path, len, hash, fd, read);
	return s == NULL ? NULL : use(d, s);
}
