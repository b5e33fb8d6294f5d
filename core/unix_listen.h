/*
 * unix_listen.h - a listening Unix stream socket with a name in the file system, of mode 0600 from its first moment.
 *
 * A socket file that nobody answers at is replaced; when somebody answers, ERR_LIMIT with code EADDRINUSE; anything
 * that is no socket is left alone (ERR_UNSAFE).
 */
#ifndef FANSYNCD_CORE_UNIX_LISTEN_H
#define FANSYNCD_CORE_UNIX_LISTEN_H

#include <sys/types.h>

#include "core/err.h"

struct unix_listener {
	int fd; /* non-blocking, close-on-exec; -1: none */
	char *path;
	dev_t dev;
	ino_t ino;
};

#define UNIX_LISTENER_INIT                                                                                             \
	(struct unix_listener)                                                                                         \
	{                                                                                                              \
		.fd = -1                                                                                               \
	}

/* On failure `l` is UNIX_LISTENER_INIT. */
int unix_listen(struct unix_listener *l, const char *path, int backlog, struct err *err);
/* Let a group connect, too: mode 0660. ERR_UNSAFE: something else has its name by now, and is left alone. */
int unix_listener_give(const struct unix_listener *l, gid_t gid, struct err *err);
/* Close it, and remove its file if it is still this socket's. One that does not listen is fine. */
void unix_listener_done(struct unix_listener *l);

#endif
