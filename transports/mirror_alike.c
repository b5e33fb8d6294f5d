#include "transports/mirror_alike.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* All of an entry but its name and text. */
#define FIXED_BYTES 64u

struct mirror_alike {
	XXH3_state_t *state;
	unsigned fields;
};

bool mirror_alike_fields(const struct mirror_rules *r, unsigned *fields)
{
	bool owners = (r->caps & FILEOPS_OWNERS) != 0;

	/* What is compared by content, by more than a listing tells, or in parts of a second. */
	if (r->xattr_kinds != 0 || r->checksum || r->ignore_times || !r->times || r->bidirectional ||
	    r->one_file_system || r->tick_ns != 1)
		return false;
	*fields = 0;
	if (r->perms || r->executability)
		*fields |= MIRROR_ALIKE_MODE;
	if (owners && r->owner && (r->unmet & FILEOPS_OWNER) == 0)
		*fields |= MIRROR_ALIKE_OWNER;
	if (owners && r->group && (r->unmet & FILEOPS_GROUP) == 0)
		*fields |= MIRROR_ALIKE_GROUP;
	if (r->dir_times)
		*fields |= MIRROR_ALIKE_DIR_TIMES;
	if (r->link_times && (r->caps & FILEOPS_LINK_ATTRS) != 0)
		*fields |= MIRROR_ALIKE_LINK_TIMES;
	if (r->hard_links)
		*fields |= MIRROR_ALIKE_NAMES;
	return true;
}

struct mirror_alike *mirror_alike_new(void)
{
	struct mirror_alike *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->state = XXH3_createState();
	if (s->state == NULL) {
		free(s);
		return NULL;
	}
	mirror_alike_begin(s, 0);
	return s;
}

void mirror_alike_free(struct mirror_alike *s)
{
	if (s == NULL)
		return;
	(void)XXH3_freeState(s->state);
	free(s);
}

void mirror_alike_begin(struct mirror_alike *s, unsigned fields)
{
	s->fields = fields;
	(void)XXH3_128bits_reset(s->state);
}

static unsigned char *put(unsigned char *at, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		*at++ = (unsigned char)(v >> (8 * i));
	return at;
}

static bool has_time(unsigned fields, mode_t mode)
{
	if (S_ISDIR(mode))
		return (fields & MIRROR_ALIKE_DIR_TIMES) != 0;
	return !S_ISLNK(mode) || (fields & MIRROR_ALIKE_LINK_TIMES) != 0;
}

static mode_t shown_mode(unsigned fields, mode_t mode)
{
	return (fields & MIRROR_ALIKE_MODE) != 0 && !S_ISLNK(mode) ? mode & (S_IFMT | 07777) : mode & S_IFMT;
}

void mirror_alike_add(struct mirror_alike *s, const struct fileops_entry *e, const char *text, size_t text_len)
{
	const struct stat *st = &e->st;
	unsigned char fixed[FIXED_BYTES], *at = fixed;

	at = put(at, e->len, 4);
	at = put(at, shown_mode(s->fields, st->st_mode), 4);
	at = put(at, (s->fields & MIRROR_ALIKE_OWNER) != 0 ? st->st_uid : 0, 4);
	at = put(at, (s->fields & MIRROR_ALIKE_GROUP) != 0 ? st->st_gid : 0, 4);
	if (S_ISREG(st->st_mode))
		at = put(at, (uint64_t)st->st_size, 8);
	else if (S_ISBLK(st->st_mode) || S_ISCHR(st->st_mode))
		at = put(at, st->st_rdev, 8);
	else if (S_ISLNK(st->st_mode))
		at = put(at, text_len, 8);
	if (has_time(s->fields, st->st_mode)) {
		at = put(at, (uint64_t)st->st_mtim.tv_sec, 8);
		at = put(at, (uint64_t)st->st_mtim.tv_nsec, 4);
	}
	if ((s->fields & MIRROR_ALIKE_NAMES) != 0 && !S_ISDIR(st->st_mode))
		at = put(at, st->st_nlink > 1, 1);
	(void)XXH3_128bits_update(s->state, fixed, (size_t)(at - fixed));
	(void)XXH3_128bits_update(s->state, e->name, e->len);
	if (S_ISLNK(st->st_mode) && text_len > 0)
		(void)XXH3_128bits_update(s->state, text, text_len);
}

void mirror_alike_end(struct mirror_alike *s, unsigned char out[MIRROR_ALIKE_BYTES])
{
	XXH128_canonical_t c;

	XXH128_canonicalFromHash(&c, XXH3_128bits_digest(s->state));
	memcpy(out, c.digest, MIRROR_ALIKE_BYTES);
}
