/*
 * link_search.h - a worker's search for files of its source that have a further name outside, so that the daemon can
 * watch them: a write through the outside name is told of no name inside.
 *
 * It walks what was compared, after the comparison, in slices of a few milliseconds with longer pauses between them, so
 * that it takes a fifth of a processor at most and no batch waits. It looks at files alone that the filter includes,
 * opens nothing but directories, and holds one of them open.
 */
#ifndef FANSYNCD_CORE_LINK_SEARCH_H
#define FANSYNCD_CORE_LINK_SEARCH_H

#include <dirent.h>
#include <stdbool.h>

#include "core/buf.h"
#include "core/loop.h"
#include "core/options.h"
#include "core/siblings.h"

struct link_search {
	struct siblings *siblings; /* what it finds goes there, and from there to its `outside`; borrowed */
	const struct sync_options *opt;
	struct loop_timer *timer;
	struct buf todo; /* a stack: directories, each followed by its length */
	struct buf path; /* of `dir`, and of the entry in hand */
	size_t dir_len;
	DIR *dir; /* being read; NULL: none */
	uint64_t root_dev;
	bool under_way, judging;
	int64_t held_until_ns; /* 0: it goes on */
	size_t part;	       /* of the links, that is judged next */
};

int link_search_init(struct link_search *ls, struct loop *loop, const struct sync_options *opt,
		     struct siblings *siblings, uint64_t root_dev, struct err *err);
void link_search_done(struct link_search *ls);
/* A comparison begins, which needs the processor more, and after which there will be a search anyway; or it is over.
 * One that takes long shares it. */
void link_search_hold(struct link_search *ls, bool hold);
/* Search this directory and all below it, soon. */
void link_search_add(struct link_search *ls, const char *path, size_t len);

#endif
