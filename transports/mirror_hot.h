/*
 * mirror_hot.h - what was sent so soon after it was written that its times prove nothing. Pure.
 *
 * A target that keeps whole seconds cannot tell a file from one rewritten within the same second, and says nothing of
 * when it was written there. So the engine remembers, by path, which version it sent and when it had opened it.
 * Bounded: a table in which a newer path takes the place of an older one; what is not in it is in doubt only while it
 * is recent.
 */
#ifndef FANSYNCD_TRANSPORTS_MIRROR_HOT_H
#define FANSYNCD_TRANSPORTS_MIRROR_HOT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "transports/mirror_rules.h"

struct mirror_hot;

/* NULL when out of memory. */
struct mirror_hot *mirror_hot_new(void);
void mirror_hot_free(struct mirror_hot *h);
/* The target has this version; its content was read from `opened_ns` (real time) on. */
void mirror_hot_note(struct mirror_hot *h, const char *path, size_t len, const struct stat *src, int64_t opened_ns);
/* What to think of a file whose size and time at the target are those of the source. */
enum mirror_same mirror_hot_judge(const struct mirror_hot *h, const char *path, size_t len,
				  const struct mirror_look *l);

#endif
