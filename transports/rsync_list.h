/*
 * rsync_list.h - the names that a run of rsync is given on its standard input.
 *
 * rsync reads them a byte at a time, looks at each from the root on, and can begin no transfer before the last: a long
 * list costs as much as sending small files. A directory of which everything that it holds is to be sent is therefore
 * named once, with a slash behind it: then rsync lists what is directly in it (and no deeper).
 */
#ifndef FANSYNCD_TRANSPORTS_RSYNC_LIST_H
#define FANSYNCD_TRANSPORTS_RSYNC_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"
#include "core/transport.h"

struct rsync_list {
	const struct transport_item *items;
	const size_t *index; /* of those to be named, in path_compare order; index[0] may be the root */
	size_t n;
	int source_fd; /* where directories are read; -1: each name for itself */
};

/* Fewer names are not worth a look into their directory. */
#define RSYNC_LIST_WHOLE_MIN 8u

/* Appends the names, NUL behind each. *whole: whether a directory stands for what it holds, so that rules for the
 * sender's side are needed, which keep out what appears there meanwhile. false: out of memory. */
bool rsync_list_make(const struct rsync_list *l, struct buf *out, bool *whole);

#endif
