/*
 * pidfile.h - the pid file, which is also the lock against a second daemon.
 *
 * The lock belongs to the open file (an OFD lock), so it survives fork and ends with the last descriptor. A crash
 * leaves a file without a lock: the next start takes it over.
 */
#ifndef FANSYNCD_CORE_PIDFILE_H
#define FANSYNCD_CORE_PIDFILE_H

#include <stdbool.h>
#include <sys/types.h>

#include "core/err.h"

struct pidfile {
	int fd; /* -1: none */
	char *path;
	dev_t dev;
	ino_t ino;
};

#define PIDFILE_INIT                                                                                                   \
	{                                                                                                              \
		.fd = -1                                                                                               \
	}

/* Open or make the file and lock it. When another process holds it: ERR_LIMIT, its pid in the text and in err->code
 * (0 when it has not written it yet). A symlink or anything but a regular file is refused (ERR_UNSAFE). The content
 * stays as it was. */
int pidfile_open(struct pidfile *p, const char *path, struct err *err);
/* Replace the content by this process's pid: after the last fork. */
int pidfile_write(struct pidfile *p, struct err *err);
/* At a clean exit: remove the file if the name still is ours, and release the lock. Fine on PIDFILE_INIT. */
void pidfile_remove(struct pidfile *p);
/* Release without removing: for a process that is not the daemon after all. */
void pidfile_close(struct pidfile *p);

#endif
