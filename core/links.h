/*
 * links.h - the names of files that have several (hard links), as a worker has seen them. Pure.
 *
 * The kernel reports a write for the one name that was used for it; the file's other names have changed as well. So a
 * worker remembers names by inode, and looks at all of them when one is to be sent. What is remembered is a hint: each
 * name is looked at again before it is used. Bounded: above the limit nothing more is remembered (links_full).
 */
#ifndef FANSYNCD_CORE_LINKS_H
#define FANSYNCD_CORE_LINKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct links;

struct link_name {
	struct link_name *next; /* of the same file */
	bool dead;		/* dropped; its bytes live until links_sweep */
	size_t len;
	char path[];
};

/* NULL when out of memory. */
struct links *links_new(size_t max_names);
void links_free(struct links *l);
/* Remember a name. false: out of memory or full. */
bool links_note(struct links *l, uint64_t dev, uint64_t ino, const char *path, size_t len);
/* The names of a file, some of them dead; NULL if none is known. */
struct link_name *links_names(struct links *l, uint64_t dev, uint64_t ino);
/* Whether nobody has asked this since the last links_sweep, of this file: its names have to be told once a batch. One
 * of which no name is known has none to be told. */
bool links_first(struct links *l, uint64_t dev, uint64_t ino);
/* How many names of the file were not found below the source when it was searched: they lie outside. 0 as well when
 * directories have moved since that search began, which may have missed what is in them. */
uint64_t links_outside(const struct links *l, uint64_t dev, uint64_t ino);
void links_set_outside(struct links *l, uint64_t dev, uint64_t ino, uint64_t n);
/* A directory has come, or got another name: nothing is said of the names in it, one by one. */
void links_moved(struct links *l);
/* A search begins: from now on each file that is noted counts as met by it. */
void links_begin(struct links *l);
/* Call `fn` for each file that was met since, of one of LINKS_PARTS parts; it may note names, and mark them dead. */
#define LINKS_PARTS 4096u
void links_each(struct links *l, size_t part, void (*fn)(void *ctx, uint64_t dev, uint64_t ino), void *ctx);
/* Free dead names: between two batches. The next one begins. */
void links_sweep(struct links *l);
bool links_full(const struct links *l);

#endif
