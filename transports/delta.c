#include "transports/delta.h"

#include <librsync.h>
#include <stdlib.h>
#include <string.h>

#define OUT_BYTES (64u * 1024)
#define SIGNATURE_HEAD 12u
#define WEAK_LEN 4u
/* Of each block, besides the weak one. The whole file has a digest of its own. */
#define STRONG_LEN 8u
#define MAGIC RS_RK_BLAKE2_SIG_MAGIC
/* The difference: a head, then commands. */
#define DELTA_HEAD 4u
#define OP_END 0x00
#define OP_CONTENT_LAST 0x40 /* 1 to 64: so many bytes */
#define OP_CONTENT_N1 0x41
#define OP_COPY_N1_N1 0x45
#define OP_COPY_LAST 0x54

uint32_t delta_block(uint64_t old_size)
{
	uint32_t block = DELTA_BLOCK_MIN;

	while (block < DELTA_BLOCK_MAX && old_size / block >= DELTA_BLOCKS_MAX)
		block *= 2;
	return block;
}

bool delta_block_valid(uint32_t block)
{
	return block >= DELTA_BLOCK_MIN && block <= DELTA_BLOCK_MAX && (block & (block - 1)) == 0;
}

/* ---- the old file ---- */

struct delta_signer {
	rs_job_t *job;
	bool over;
	char out[4096];
};

struct delta_signer *delta_signer_new(uint32_t block)
{
	struct delta_signer *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	rs_trace_set_level(RS_LOG_EMERG); /* it would speak on standard error */
	s->job = rs_sig_begin(block, STRONG_LEN, MAGIC);
	if (s->job == NULL) {
		free(s);
		return NULL;
	}
	return s;
}

void delta_signer_free(struct delta_signer *s)
{
	if (s == NULL)
		return;
	(void)rs_job_free(s->job);
	free(s);
}

bool delta_sign(struct delta_signer *s, const void *p, size_t n, bool last, struct buf *out)
{
	rs_buffers_t b = { .next_in = (char *)(uintptr_t)p, .avail_in = n, .eof_in = last };
	rs_result got;

	if (s->over)
		return false;
	do {
		b.next_out = s->out;
		b.avail_out = sizeof(s->out);
		got = rs_job_iter(s->job, &b);
		if ((got != RS_DONE && got != RS_BLOCKED) || !buf_add(out, s->out, sizeof(s->out) - b.avail_out))
			return false;
	} while (got == RS_BLOCKED && (b.avail_in > 0 || b.avail_out == 0 || last));
	s->over = got == RS_DONE;
	return true;
}

/* ---- the new file ---- */

struct delta_maker {
	rs_job_t *load, *job;
	rs_signature_t *signature;
	uint64_t taken, max; /* bytes of the signature */
	unsigned char head[SIGNATURE_HEAD];
	/* Taking a difference apart: */
	unsigned char command[1 + 16]; /* what has come of the command that is read */
	size_t command_len, head_left;
	uint64_t content_left;
	bool ended;
	char out[OUT_BYTES];
};

static void put_be32(unsigned char *at, uint32_t v)
{
	for (size_t i = 0; i < 4; i++)
		at[i] = (unsigned char)(v >> (24 - 8 * i));
}

struct delta_maker *delta_maker_new(uint64_t old_size, uint32_t block)
{
	struct delta_maker *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return NULL;
	rs_trace_set_level(RS_LOG_EMERG);
	m->max = SIGNATURE_HEAD + (old_size / block + 1) * (WEAK_LEN + STRONG_LEN);
	m->head_left = DELTA_HEAD;
	put_be32(m->head, MAGIC);
	put_be32(m->head + 4, block);
	put_be32(m->head + 8, STRONG_LEN);
	m->load = rs_loadsig_begin(&m->signature);
	if (m->load == NULL) {
		free(m);
		return NULL;
	}
	return m;
}

void delta_maker_free(struct delta_maker *m)
{
	if (m == NULL)
		return;
	if (m->load != NULL)
		(void)rs_job_free(m->load);
	if (m->job != NULL)
		(void)rs_job_free(m->job);
	if (m->signature != NULL)
		rs_free_sumset(m->signature);
	free(m);
}

/* The head is the one that was asked for; then whole blocks follow. */
static bool signature_fits(struct delta_maker *m, const unsigned char *p, size_t n, bool last)
{
	for (uint64_t i = m->taken; i < SIGNATURE_HEAD && i - m->taken < n; i++)
		if (p[i - m->taken] != m->head[i])
			return false;
	if (n > m->max - m->taken)
		return false;
	m->taken += n;
	return !last || (m->taken >= SIGNATURE_HEAD && (m->taken - SIGNATURE_HEAD) % (WEAK_LEN + STRONG_LEN) == 0);
}

enum delta_result delta_signature(struct delta_maker *m, const void *p, size_t n, bool last)
{
	rs_buffers_t b = { .next_in = (char *)(uintptr_t)p, .avail_in = n, .eof_in = last };
	rs_result got;

	if (m->load == NULL || !signature_fits(m, p, n, last))
		return DELTA_BROKEN;
	do
		got = rs_job_iter(m->load, &b);
	while (got == RS_BLOCKED && b.avail_in > 0);
	if (got == RS_MEM_ERROR)
		return DELTA_NO_MEMORY;
	if (got != (last ? RS_DONE : RS_BLOCKED))
		return DELTA_BROKEN;
	if (!last)
		return DELTA_FINE;
	(void)rs_job_free(m->load);
	m->load = NULL;
	if (rs_build_hash_table(m->signature) != RS_DONE)
		return DELTA_NO_MEMORY;
	m->job = rs_delta_begin(m->signature);
	return m->job == NULL ? DELTA_NO_MEMORY : DELTA_FINE;
}

static uint64_t be(const unsigned char *p, size_t n)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++)
		v = v << 8 | p[i];
	return v;
}

/* Bytes of numbers behind a command's first one, and how many of them are its first number's. */
static size_t numbers_of(unsigned char op, size_t *first)
{
	*first = 0;
	if (op >= OP_CONTENT_N1 && op < OP_COPY_N1_N1)
		return *first = (size_t)1 << (op - OP_CONTENT_N1);
	if (op < OP_COPY_N1_N1 || op > OP_COPY_LAST)
		return 0;
	*first = (size_t)1 << ((op - OP_COPY_N1_N1) / 4);
	return *first + ((size_t)1 << ((op - OP_COPY_N1_N1) % 4));
}

/* A whole command. */
static bool carry_out(struct delta_maker *m, size_t numbers, size_t first, const struct delta_sink *sink)
{
	unsigned char op = m->command[0];
	const unsigned char *n = m->command + 1;

	m->command_len = 0;
	if (op == OP_END)
		m->ended = true;
	else if (op <= OP_CONTENT_LAST)
		m->content_left = op;
	else if (op < OP_COPY_N1_N1)
		m->content_left = be(n, first);
	else if (op <= OP_COPY_LAST)
		return sink->copy(sink->ctx, be(n, first), be(n + first, numbers - first));
	return op <= OP_COPY_LAST;
}

static bool take_apart(struct delta_maker *m, const unsigned char *p, size_t n, const struct delta_sink *sink)
{
	while (n > 0) {
		size_t numbers, first, part = 1;

		if (m->head_left > 0) {
			m->head_left--;
		} else if (m->content_left > 0) {
			part = m->content_left < n ? (size_t)m->content_left : n;
			if (!sink->content(sink->ctx, p, part))
				return false;
			m->content_left -= part;
		} else if (m->ended) {
			return false;
		} else {
			m->command[m->command_len++] = *p;
			numbers = numbers_of(m->command[0], &first);
			if (m->command_len == 1 + numbers && !carry_out(m, numbers, first, sink))
				return false;
		}
		p += part;
		n -= part;
	}
	return true;
}

bool delta_feed(struct delta_maker *m, const void *p, size_t n, bool last, const struct delta_sink *sink)
{
	rs_buffers_t b = { .next_in = (char *)(uintptr_t)p, .avail_in = n, .eof_in = last };
	rs_result got;

	if (m->job == NULL || m->ended)
		return false;
	do {
		b.next_out = m->out;
		b.avail_out = sizeof(m->out);
		got = rs_job_iter(m->job, &b);
		if ((got != RS_DONE && got != RS_BLOCKED) ||
		    !take_apart(m, (const unsigned char *)m->out, sizeof(m->out) - b.avail_out, sink))
			return false;
	} while (got == RS_BLOCKED && (b.avail_in > 0 || b.avail_out == 0 || last));
	return !last || m->ended;
}
