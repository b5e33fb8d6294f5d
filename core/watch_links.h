/*
 * watch_links.h - files of the sources that have a further name outside: each is watched itself, whichever backend
 * watches its source, because what is done through the outside name is told of that name alone.
 *
 * Which files these are a worker finds out (link_search.h, siblings.h); here is kept under which names inside they are
 * known. A record is "look at this name". Names follow the renames that the backends tell; one too many costs a look.
 * One inotify group, opened with the first file; bounded. For watcher.c alone.
 */
#ifndef FANSYNCD_CORE_WATCH_LINKS_H
#define FANSYNCD_CORE_WATCH_LINKS_H

#include "core/watch_backend.h"

struct link_watch;

/* NULL: out of memory. Records go to watch_emit. */
struct link_watch *link_watch_new(struct loop *loop);
void link_watch_free(struct link_watch *lw);
/* The file of that identity, which has this name in the source. A new one is told as touched: what was done before it
 * was watched is seen by that. */
void link_watch_add(struct link_watch *lw, struct watched *w, const char *path, size_t len, uint64_t dev, uint64_t ino);
/* A backend's record: names that change. */
void link_watch_follow(struct link_watch *lw, struct watched *w, const struct change *c);
/* The source is not watched any more; or is, from now on, as `to`. */
void link_watch_forget(struct link_watch *lw, const struct watched *w);
void link_watch_hand_over(struct link_watch *lw, const struct watched *from, struct watched *to);
/* Read and deliver until EAGAIN. */
int link_watch_drain(struct link_watch *lw, struct err *err);

#endif
