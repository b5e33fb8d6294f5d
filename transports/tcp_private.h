/*
 * tcp_private.h - what the files of the sending side share (tcp.c, tcp_serve.c, tcp_memory.c). Included by them alone.
 */
#ifndef FANSYNCD_TRANSPORTS_TCP_PRIVATE_H
#define FANSYNCD_TRANSPORTS_TCP_PRIVATE_H

#include <time.h>

#include "transports/tcp_serve.h"

/* The blocks of one version of a file. */
struct tcp_blocks {
	struct tcp_blocks *newer, *older;
	char *path;
	size_t path_len;
	uint64_t size;
	struct timespec mtime;
	uint32_t block;
	uint64_t *hash; /* XXH3-64 of each */
	size_t n, cap;
};

void tcp_blocks_free(struct tcp_blocks *b);
/* Those of that version; they are the caller's. NULL: not remembered. */
struct tcp_blocks *tcp_memory_take(struct tcp_memory *m, const char *path, size_t len, uint64_t size,
				   const struct timespec *mtime);
/* Remember; takes `b`, and drops what was sent longest ago. */
void tcp_memory_keep(struct tcp_memory *m, struct tcp_blocks *b);

#endif
