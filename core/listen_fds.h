/*
 * listen_fds.h - the sockets that a service manager listens on for us: systemd's LISTEN_FDS, without its library.
 *
 * They are descriptors 3, 4, ... of a process that was started by a socket unit, sd_listen_fds(3). The daemon keeps
 * them open for as long as it runs and hands copies to each receiver process that it starts.
 */
#ifndef FANSYNCD_CORE_LISTEN_FDS_H
#define FANSYNCD_CORE_LISTEN_FDS_H

#include <stddef.h>

#include "core/err.h"

enum { LISTEN_FDS_FIRST = 3, LISTEN_FDS_MAX = 16 };

/* Read LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES, and remove them from the environment: children were given nothing. *n
 * is how many there are, 0 where nobody passed any to this process. Each is made close-on-exec and non-blocking. -1:
 * more than LISTEN_FDS_MAX, or one that is no listening TCP socket. To be called once, before anything else is opened.
 */
int listen_fds_take(size_t *n, struct err *err);
/* Whether it is a listening TCP socket. */
int listen_fds_check(int fd, struct err *err);

#endif
