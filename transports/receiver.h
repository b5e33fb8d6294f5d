/*
 * receiver.h - the receiving end of the tcp transport: listens, and gives each connection a process of its own.
 *
 * Started by the daemon as `fansyncd --receiver` with a socket at descriptor 3, over which its configuration comes and
 * its log lines go (core/wire.h), and behind it what listening sockets a service manager passed. It parses nothing that
 * a network says: a session's process does, confined before the first byte is read (receiver_child.h). Ends when the
 * daemon's end of the socket closes, and its sessions with it.
 */
#ifndef FANSYNCD_TRANSPORTS_RECEIVER_H
#define FANSYNCD_TRANSPORTS_RECEIVER_H

#include "core/worker.h"

/* Serve until the daemon closes `fd`. The `n_listen` descriptors behind it are used in the place of the configuration's
 * addresses. Returns the exit code of the process. */
int receiver_run(int fd, size_t n_listen, const struct worker_deps *deps);

#endif
