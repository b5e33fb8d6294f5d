/*
 * progress.h - show how a comparison goes: a line a target that is rewritten on a terminal, plain lines elsewhere.
 *
 * Fed with what core/daemon_barrier.c sends, from the daemon or from this process. Writes to the descriptor at once;
 * a terminal that is gone is no error.
 */
#ifndef FANSYNCD_CORE_PROGRESS_H
#define FANSYNCD_CORE_PROGRESS_H

#include <stddef.h>
#include <stdint.h>

struct progress;

/* `fd`: where to, usually standard error; whether it is a terminal is asked here. NULL: out of memory. */
struct progress *progress_new(int fd);
void progress_free(struct progress *p);
/* One report: lines of tab-separated fields. `now_ns`: monotonic, for the rates. */
void progress_update(struct progress *p, const char *data, size_t len, int64_t now_ns);
/* Erase what stands on the terminal, so that other output can follow. */
void progress_clear(struct progress *p);

#endif
