/*
 * pipes.h - a child's pipes, without waiting and without signals.
 */
#ifndef FANSYNCD_CORE_PIPES_H
#define FANSYNCD_CORE_PIPES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* write(2) that a closed pipe answers with EPIPE and nothing else. */
ssize_t pipe_write(int fd, const void *data, size_t len);
/* Read what is there of a non-blocking one and hand it over: at most one buffer a call while the child runs, so that a
 * chatty one starves nobody; `all` (it has ended) as much as a pipe can hold. false: end of file, or it can't be read.
 */
bool pipe_read(int fd, bool all, void (*feed)(void *ctx, const char *data, size_t len), void *ctx);

#endif
