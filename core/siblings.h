/*
 * siblings.h - the other names of a file that is to be sent: core/links.h, kept current by looking, and by a walk of
 * the source when names are missing. Blocks as local file system calls do; the walk is only made when hard links are
 * met that cannot be accounted for, and not again for those that lie outside.
 */
#ifndef FANSYNCD_CORE_SIBLINGS_H
#define FANSYNCD_CORE_SIBLINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "core/links.h"
#include "core/look.h"

#define SIBLINGS_MADE_BITS (1u << 20)

struct siblings {
	struct links *links;
	const char *source;    /* the root's path; borrowed */
	struct looker *looker; /* of the batch; borrowed */
	int64_t walk_next_ns;  /* until then the source is not walked again */
	unsigned char *made;   /* SIBLINGS_MADE_BITS of paths' hashes; NULL: none, or no memory (`made_lost`) */
	bool made_lost;
	/* Told each name of a file of which some names lie outside, whenever it is looked at. May be NULL. */
	void (*outside)(void *ctx, const char *path, size_t len, uint64_t dev, uint64_t ino);
	void *ctx;
};

/* Free what it owns: not the links. */
void siblings_done(struct siblings *s);

/* Call `fn` for each other name of the file that `path` (with `st`, st_nlink > 1) is a name of; for the first of its
 * names that a batch has, since the others would say the same: with all of many names in one batch that would be the
 * square of their number. The paths handed out live until the next links_sweep. `now_ns`: monotonic. false: names are
 * missing, and it is too soon to search for them: it has to be asked again. */
bool siblings_each(struct siblings *s, const char *path, size_t len, const struct stat *st, int64_t now_ns,
		   void (*fn)(void *ctx, const char *path, size_t len, const struct stat *st), void *ctx);

/* Whether a path, or one below it, was handed out since the start; or perhaps: a few others look like it. */
bool siblings_was_made(const struct siblings *s, const char *path, size_t len);

/* Look at all names of a file that a search (links_begin) has met, and tell `outside` if some of it lie there. */
void siblings_judge(struct siblings *s, uint64_t dev, uint64_t ino);

#endif
