/*
 * tcp_names.h - the sender's names of owners: each is told once a connection, before the first state that has its
 * number, so that the receiver knows whose the file is there.
 */
#ifndef FANSYNCD_TRANSPORTS_TCP_NAMES_H
#define FANSYNCD_TRANSPORTS_TCP_NAMES_H

#include <stdbool.h>
#include <sys/stat.h>

#include "transports/tcp_stream.h"

struct tcp_names;

/* `stream` outlives it. `lookups`: who is asked (core/lookups.h), or 0. NULL: out of memory. */
struct tcp_names *tcp_names_new(struct tcp_stream *stream, int lookups, bool users, bool groups);
void tcp_names_free(struct tcp_names *n);
/* Before a state is sent that has its numbers. May wait for the look-up of a name, a few seconds at most. NULL: nothing
 * is told. */
void tcp_names_tell(struct tcp_names *n, const struct stat *st);

#endif
