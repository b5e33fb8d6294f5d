/*
 * origins.h - which processes write what came from another host: the sessions of our own receiver. Pure.
 *
 * What such a process does below a source is not to be carried back to the tree that it came from. That is a saving
 * only: whatever is in doubt is carried, and found equal there.
 */
#ifndef FANSYNCD_CORE_ORIGINS_H
#define FANSYNCD_CORE_ORIGINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/host_id.h"

#define ADDRESS_BYTES 16u /* an IPv6 one; IPv4 as ::ffff:0:0/96 */

/* A directory of another host. Its address is part of it, because hosts are cloned, and their ids with them. */
struct host_tree {
	unsigned char host[HOST_ID_BYTES], address[ADDRESS_BYTES];
	uint64_t dev, ino;		   /* of its root, there; ino 0: not told */
	uint64_t here_dev, here_ino;	   /* an origin's: the directory here that it is written to */
	unsigned char boot[HOST_ID_BYTES]; /* of its kernel (host_boot_get); zero: not told */
};

bool host_tree_same(const struct host_tree *a, const struct host_tree *b);
/* Whether what was written to `before` may be missing in `now`: that is another directory, another host's, or its
 * kernel was started anew. Where either is not known nothing says so. By whatever address it is reached. */
bool host_tree_lost(const struct host_tree *before, const struct host_tree *now);

/* Beyond these there is no saving. */
#define ORIGINS_MAX 256u

struct origins {
	struct {
		uint32_t pid;
		struct host_tree from;
	} v[ORIGINS_MAX];
	size_t n;
};

/* A process begins; one of that number that was there is another one's. */
void origins_put(struct origins *o, uint32_t pid, const struct host_tree *from);
/* It has ended: its number may be given to another. */
void origins_drop(struct origins *o, uint32_t pid);
/* NULL: none of these. */
const struct host_tree *origins_find(const struct origins *o, uint32_t pid);

#endif
