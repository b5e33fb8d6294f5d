/*
 * watch_inotify_mode.h - inotifyMode: which writing of a file is listened to, and what it is told as. For the inotify
 * backend and for watch_links.c. Pure.
 */
#ifndef FANSYNCD_CORE_WATCH_INOTIFY_MODE_H
#define FANSYNCD_CORE_WATCH_INOTIFY_MODE_H

#include <sys/inotify.h>

#include "core/watcher.h"

static inline uint32_t inotify_mode_mask(const struct watch_request *rq)
{
	uint32_t mask = 0;

	if (rq->inotify_mode != INOTIFY_MODIFY)
		mask |= IN_CLOSE_WRITE;
	if (rq->inotify_mode != INOTIFY_CLOSE_WRITE || rq->want_modify)
		mask |= IN_MODIFY;
	return mask;
}

/* Of an event: CHANGE_TOUCH, CHANGE_MODIFY, or CHANGE_NONE when it is no writing that counts. */
static inline enum change_kind inotify_mode_kind(const struct watch_request *rq, uint32_t mask)
{
	if (((mask & IN_CLOSE_WRITE) && rq->inotify_mode != INOTIFY_MODIFY) ||
	    ((mask & IN_MODIFY) && rq->inotify_mode != INOTIFY_CLOSE_WRITE))
		return CHANGE_TOUCH;
	return (mask & IN_MODIFY) && rq->want_modify ? CHANGE_MODIFY : CHANGE_NONE;
}

#endif
