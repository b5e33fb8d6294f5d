/*
 * local_ahead.h - two local trees, listed ahead of the comparison that goes on meanwhile (struct mirror_ahead).
 *
 * What a comparison costs is the kernel's time, for both trees alike: a second thread takes half of it. It knows paths
 * and the two root descriptors, gives finished listings, and shares nothing else with anybody; it exists only while
 * a comparison has enough for it to do. Whoever takes a listing that nobody has begun makes it himself, and while it is
 * being made takes the next of those that wait: nobody sleeps while there is something to do. Bounded in directories
 * and, beyond the one that it is at, in entries.
 */
#ifndef FANSYNCD_TRANSPORTS_LOCAL_AHEAD_H
#define FANSYNCD_TRANSPORTS_LOCAL_AHEAD_H

#include "transports/mirror.h"

struct local_ahead;

/* The descriptors are borrowed until it is freed. NULL when out of memory. */
struct local_ahead *local_ahead_new(int source_fd, int target_fd);
/* Not while something is wanted. NULL is fine. */
void local_ahead_free(struct local_ahead *a);
struct mirror_ahead local_ahead_calls(struct local_ahead *a);

#endif
