/*
 * tcp_memory.c - the block hashes of files that were sent, so that the receiver need not send them back; see
 * tcp_serve.h and tcp_private.h.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "transports/tcp_frames.h"
#include "transports/tcp_private.h"

#define SAMPLES 32u
#define BLOCKS_MAX 65536u

struct tcp_memory {
	struct tcp_blocks *newest, *oldest;
	size_t bytes, max;
};

struct tcp_memory *tcp_memory_new(size_t max_bytes)
{
	struct tcp_memory *m = calloc(1, sizeof(*m));

	if (m != NULL)
		m->max = max_bytes;
	return m;
}

static size_t size_of(const struct tcp_blocks *b)
{
	return sizeof(*b) + b->path_len + b->n * sizeof(*b->hash);
}

uint32_t tcp_block_for(uint64_t size)
{
	uint32_t block = TCP_BLOCK_MIN;

	while (size / block > BLOCKS_MAX && block < TCP_BLOCK_MAX)
		block *= 2;
	return block;
}

bool tcp_blocks_add(struct tcp_blocks *b, uint64_t hash)
{
	if (b->n == b->cap) {
		size_t cap = b->cap == 0 ? 64 : 2 * b->cap;
		uint64_t *v = realloc(b->hash, cap * sizeof(*v));

		if (v == NULL)
			return false;
		b->hash = v;
		b->cap = cap;
	}
	b->hash[b->n++] = hash;
	return true;
}

void tcp_blocks_free(struct tcp_blocks *b)
{
	if (b == NULL)
		return;
	free(b->path);
	free(b->hash);
	free(b);
}

static void take_out(struct tcp_memory *m, struct tcp_blocks *b)
{
	if (b->newer != NULL)
		b->newer->older = b->older;
	else
		m->newest = b->older;
	if (b->older != NULL)
		b->older->newer = b->newer;
	else
		m->oldest = b->newer;
	m->bytes -= size_of(b);
	b->newer = b->older = NULL;
}

void tcp_memory_free(struct tcp_memory *m)
{
	if (m == NULL)
		return;
	while (m->newest != NULL) {
		struct tcp_blocks *b = m->newest;

		take_out(m, b);
		tcp_blocks_free(b);
	}
	free(m);
}

static struct tcp_blocks *find(struct tcp_memory *m, const char *path, size_t len)
{
	struct tcp_blocks *b = m->newest;

	while (b != NULL && (b->path_len != len || memcmp(b->path, path, len) != 0))
		b = b->older;
	return b;
}

struct tcp_blocks *tcp_memory_take(struct tcp_memory *m, const char *path, size_t len, uint64_t size,
				   const struct timespec *mtime)
{
	struct tcp_blocks *b = m == NULL ? NULL : find(m, path, len);

	if (b == NULL)
		return NULL;
	take_out(m, b);
	if (b->size == size && b->mtime.tv_sec == mtime->tv_sec && b->mtime.tv_nsec == mtime->tv_nsec)
		return b;
	tcp_blocks_free(b);
	return NULL;
}

void tcp_memory_keep(struct tcp_memory *m, struct tcp_blocks *b)
{
	struct tcp_blocks *old;

	if (m == NULL || size_of(b) > m->max / 2) {
		tcp_blocks_free(b);
		return;
	}
	old = find(m, b->path, b->path_len);
	if (old != NULL) {
		take_out(m, old);
		tcp_blocks_free(old);
	}
	b->older = m->newest;
	if (m->newest != NULL)
		m->newest->newer = b;
	else
		m->oldest = b;
	m->newest = b;
	m->bytes += size_of(b);
	while (m->bytes > m->max) {
		old = m->oldest;
		take_out(m, old);
		tcp_blocks_free(old);
	}
}

bool tcp_most_differs(int fd, uint64_t size, const struct tcp_blocks *old, unsigned char *piece)
{
	uint64_t blocks = size / old->block, equal = 0, looked = 0;

	blocks = blocks < old->n ? blocks : old->n;
	for (uint64_t i = 0; i < SAMPLES && blocks > 0; i++) {
		uint64_t at = blocks * i / SAMPLES;

		if (pread(fd, piece, old->block, (off_t)(at * old->block)) != (ssize_t)old->block)
			return false;
		looked++;
		equal += XXH3_64bits(piece, old->block) == old->hash[at];
	}
	return looked > 0 && equal * 4 < looked;
}
