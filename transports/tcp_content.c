/*
 * tcp_content.c - the content of files that a receiver reads: as it is, or as a difference to what the receiver has;
 * see tcp_serve_private.h.
 *
 * What is equal at the same place is found by hashes of blocks: those of what was sent last, if the receiver has that
 * version, else its own. Of a file that is not remembered it hashes large blocks first, and smaller ones only where
 * something differs. If most of it differs, what moved is looked for (delta.h).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/clock.h"
#include "transports/tcp_serve_private.h"

/* Hashes of all that receivers have, in bytes: without them a file is sent whole. */
#define HASHES_BYTES_MAX (16u * 1024 * 1024)
/* A file shorter than this is sent whole. */
#define DELTA_MIN (128u * 1024)
/* Files in which it is worth looking for content that moved. */
#define MOVED_MIN (1024u * 1024)
/* No fewer runs than these are hashed before smaller blocks. */
#define RUNS_MIN 4u
/* Runs that smaller blocks are asked of, where one differs. */
#define PART_RUNS_MIN 8u
#define PART_RUNS_MAX 1024u
/* One COPY: of what is at its place, and of what moved. */
#define RUN_MAX (4u * 1024 * 1024)
#define COPY_BYTES (16u * 1024 * 1024)

/* ---- opening ---- */

/* Whether and how a difference is made. */
void tcp_content_plan(struct tcp_serve *s, struct served *f, const struct tcp_request *r)
{
	uint64_t size = (uint64_t)f->st.st_size;

	if ((s->up.features & TCP_FEATURE_DELTA) == 0 || size < DELTA_MIN)
		return;
	f->block = tcp_block_for(size);
	f->old_size = r->old_size;
	f->new = calloc(1, sizeof(*f->new));
	if (f->new == NULL || r->old_size < DELTA_MIN || r->old.look != LOOK_FILE)
		return;
	f->old = tcp_memory_take(s->up.memory, f->path, f->path_len, r->old_size, &r->old.st.st_mtim);
	if (f->old != NULL) {
		f->block = f->old->block;
		return;
	}
	f->coarse = (s->up.features & TCP_FEATURE_FINER) != 0 && f->block < RUN && r->old_size >= RUNS_MIN * RUN;
	f->old_hashes = r->old_size / (f->coarse ? RUN : f->block) + 1;
	f->wants_hashes = f->old_hashes <= HASHES_BYTES_MAX / 8 - s->n_hashes;
}

/* ---- what is equal ---- */

static bool send_span(struct tcp_serve *s, enum tcp_frame type, const struct tcp_span *span)
{
	buf_clear(&s->scratch);
	tcp_put_span(&s->scratch, type, span);
	return tcp_stream_send_buf(s->up.stream, type, &s->scratch);
}

/* What was equal up to here. false: the stream is lost. */
static bool tell_run(struct tcp_serve *s, struct served *f)
{
	const struct tcp_span span = { .file = f->id, .offset = f->at - f->run, .len = f->run, .from = f->at - f->run };

	f->run = 0;
	return span.len == 0 || send_span(s, TCP_COPY, &span);
}

/* The next bytes are equal as well: told together with others, but soon enough for both ends to be at work. */
static bool add_to_run(struct tcp_serve *s, struct served *f, uint64_t n)
{
	f->at += n;
	f->run += n;
	return f->run < RUN_MAX || tell_run(s, f);
}

/* ---- hashes of what the receiver has ---- */

static bool look_for_moved(struct tcp_serve *s, struct served *f);

/* More hashes have come. */
static void go_on(struct tcp_serve *s, struct served *f)
{
	if (f->may_have_moved) {
		if (f->awaits_finer)
			return;
		f->may_have_moved = false;
		if (look_for_moved(s, f))
			return;
	}
	tcp_serve_activate(s, f);
}

/* Of what was asked for by ask_part. */
static bool take_finer(struct tcp_serve *s, struct served *f, uint64_t first, struct reader *r)
{
	if (first != f->finer_first + f->finer.n || r->left / 8 > f->finer_end - first)
		return false;
	f->awaits_finer = r->left > 0;
	for (; r->left > 0; s->n_hashes++)
		f->finer.hash[f->finer.n++] = reader_u64(r); /* there is room: see ask_part */
	if (f->reading)
		go_on(s, f);
	return true;
}

bool tcp_content_hashes(struct tcp_serve *s, const char *payload, size_t len)
{
	struct reader r;
	struct served *f;
	uint64_t first;

	reader_init(&r, payload, len);
	f = tcp_serve_find(s, reader_u32(&r));
	first = reader_u64(&r);
	if (r.failed || r.left % 8 != 0)
		return false;
	if (f == NULL)
		return true; /* closed meanwhile */
	if (!f->awaits_finer && (!f->wants_hashes || f->reading))
		return false;
	if (f->old == NULL)
		f->old = calloc(1, sizeof(*f->old));
	if (f->old == NULL)
		return true; /* it is sent whole then */
	if (f->awaits_finer && f->finer_end > f->finer_first)
		return take_finer(s, f, first, &r);
	if (first != f->n_hashes || r.left / 8 > f->old_hashes - f->n_hashes)
		return false;
	f->old->block = f->coarse ? RUN : f->block;
	f->awaits_finer = f->awaits_finer && r.left > 0;
	for (; r.left > 0; f->n_hashes++, s->n_hashes++)
		if (s->n_hashes < HASHES_BYTES_MAX / 8 && f->old->n == f->n_hashes)
			(void)tcp_blocks_add(f->old, reader_u64(&r));
		else
			(void)reader_u64(&r);
	if (f->reading)
		go_on(s, f);
	return true;
}

/* No turns until more hashes have come. */
static void await(struct tcp_serve *s, struct served *f)
{
	tcp_serve_deactivate(s, f);
	f->reading = true;
}

static bool send_finer(struct tcp_serve *s, const struct served *f, uint64_t first, uint64_t n)
{
	buf_clear(&s->scratch);
	tcp_put_finer(&s->scratch, &(struct tcp_finer){ .file = f->id, .block = f->block, .first = first, .n = n },
		      (s->up.features & TCP_FEATURE_PARTS) != 0);
	return tcp_serve_send(s, TCP_FINER);
}

/* From f->at on nothing is known of what the receiver has: it is sent. */
static void know_nothing(struct tcp_serve *s, struct served *f)
{
	s->n_hashes -= f->n_hashes + f->finer.n;
	f->n_hashes = f->finer.n = f->old->n = 0;
	f->finer_first = f->finer_end = 0;
	f->coarse = false;
}

/* From f->at on what is equal is to be found in smaller blocks; false: the stream is lost. What is before them has no
 * hash. */
static bool ask_finer(struct tcp_serve *s, struct served *f)
{
	uint64_t first = f->at / f->block;

	know_nothing(s, f);
	f->old->block = f->block;
	while (f->n_hashes < first && s->n_hashes < HASHES_BYTES_MAX / 8 && tcp_blocks_add(f->old, 0)) {
		f->n_hashes++;
		s->n_hashes++;
	}
	if (f->n_hashes < first || f->at >= f->old_size)
		return true; /* what follows is sent */
	f->old_hashes = f->old_size / f->block + 1;
	f->awaits_finer = true;
	return tell_run(s, f) && send_finer(s, f, first, f->old_hashes - first);
}

static bool room_for(struct tcp_blocks *b, uint64_t n)
{
	uint64_t *v = b->cap >= n ? b->hash : realloc(b->hash, n * sizeof(*v));

	if (v == NULL)
		return false;
	b->hash = v;
	b->cap = b->cap >= n ? b->cap : n;
	return true;
}

/* The same for a part of it: where changes are few, most of the hashes of smaller blocks would be of what is equal.
 * Each question is for twice as much as the one before, so that those of a file with changes all over are few. */
static bool ask_part(struct tcp_serve *s, struct served *f)
{
	uint64_t n;

	if ((s->up.features & TCP_FEATURE_PARTS) == 0)
		return ask_finer(s, f);
	if (f->awaits_finer) { /* of the part before there is still to come that it is over */
		await(s, f);
		return tell_run(s, f);
	}
	f->finer_runs = f->finer_runs == 0 ? PART_RUNS_MIN : 2 * f->finer_runs;
	if (f->finer_runs > PART_RUNS_MAX)
		f->finer_runs = PART_RUNS_MAX;
	n = ((f->at / RUN + f->finer_runs) * RUN - f->at) / f->block;
	s->n_hashes -= f->finer.n;
	f->finer.n = 0;
	if (f->at >= f->old_size || s->n_hashes + n >= HASHES_BYTES_MAX / 8 || !room_for(&f->finer, n)) {
		know_nothing(s, f);
		return true;
	}
	f->finer_first = f->at / f->block;
	f->finer_end = f->finer_first + n;
	f->awaits_finer = true;
	return tell_run(s, f) && send_finer(s, f, f->finer_first, n);
}

/* Whether smaller blocks than a turn were asked for, of what is next. */
static bool in_part(const struct served *f)
{
	uint64_t index = f->block == 0 ? 0 : f->at / f->block;

	return index >= f->finer_first && index < f->finer_end;
}

/* Whether the hashes that the next turn compares with have not come yet: then this file waits for them. */
static bool waits_for_hashes(struct tcp_serve *s, struct served *f)
{
	uint64_t end = f->at + TURN_BYTES < f->old_size ? f->at + TURN_BYTES : f->old_size, known = f->n_hashes;

	if (f->finer_end > f->finer_first) {
		known = f->finer_first + f->finer.n;
		end = end < f->finer_end * f->block ? end : f->finer_end * f->block;
	}
	if (!f->awaits_finer || known * f->block >= end)
		return false;
	await(s, f);
	return true;
}

/* ---- content that moved ---- */

static void forget_moved(struct tcp_serve *s, struct served *f)
{
	if (s->moved != f)
		return;
	s->moved = NULL;
	delta_maker_free(f->moved);
	f->moved = NULL;
}

/* Whether the receiver was asked for a signature of what it has. Content is sent when that has come. */
static bool look_for_moved(struct tcp_serve *s, struct served *f)
{
	uint32_t block = delta_block(f->old_size);

	if ((s->up.features & TCP_FEATURE_MOVED) == 0 || f->old == NULL || s->moved != NULL || s->up.sparse ||
	    f->from > 0 || f->old_size < MOVED_MIN || f->old_size >= DELTA_OLD_MAX ||
	    f->st.st_size < (off_t)MOVED_MIN || f->block == 0 || DELTA_FEED_MAX % f->block != 0 ||
	    !tcp_most_differs(f->file.fd, (uint64_t)f->st.st_size, f->old, s->piece))
		return false;
	if (f->coarse) { /* or there are many small changes */
		f->may_have_moved = true;
		return ask_finer(s, f) && f->awaits_finer;
	}
	f->moved = delta_maker_new(f->old_size, block);
	if (f->moved == NULL)
		return false;
	s->moved = f;
	f->awaits_signature = true;
	buf_clear(&s->scratch);
	buf_add_u32(&s->scratch, f->id);
	buf_add_u32(&s->scratch, block);
	(void)tcp_serve_send(s, TCP_SIGN); /* when it can't be sent the stream ends */
	return true;
}

bool tcp_content_signature(struct tcp_serve *s, const char *payload, size_t len)
{
	enum delta_result got = DELTA_FINE;
	struct reader r;
	struct served *f;
	uint8_t last;
	size_t n;

	reader_init(&r, payload, len);
	f = tcp_serve_find(s, reader_u32(&r));
	last = reader_u8(&r);
	n = r.left;
	if (r.failed || last > 1 || f == NULL || !f->awaits_signature)
		return false;
	if (s->moved == f)
		got = delta_signature(f->moved, reader_bytes(&r, n), n, last != 0);
	if (got == DELTA_BROKEN)
		return false;
	if (got == DELTA_NO_MEMORY)
		forget_moved(s, f); /* it is sent without, when all has come */
	if (last != 0) {
		f->awaits_signature = false;
		tcp_serve_activate(s, f);
	}
	return true;
}

/* ---- content ---- */

static bool send_end(struct tcp_serve *s, struct served *f, enum fileops_result result, const struct err *why)
{
	struct tcp_end e = { .file = f->id, .result = (uint8_t)result, .size = f->at };
	XXH128_canonical_t digest;
	struct fileop op = { 0 };

	if (why != NULL)
		e.why = *why;
	XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(f->digest));
	memcpy(e.digest, digest.digest, sizeof(e.digest));
	if (s->up.source.ops->restat(s->up.source.ctx, &op, &f->file) == FILEOPS_OK)
		f->st = op.st;
	tcp_names_tell(s->up.names, &f->st);
	e.state = tcp_state_of(&f->st, true);
	tcp_serve_deactivate(s, f);
	buf_clear(&s->scratch);
	tcp_put_end(&s->scratch, &e);
	return tcp_serve_send(s, TCP_END);
}

static bool same_version(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
	       a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* All was sent: what it was is remembered, if it was one version from its beginning to its end. */
static void remember(struct tcp_serve *s, struct served *f, const struct stat *before)
{
	struct tcp_blocks *b = f->new;

	if (b == NULL || s->up.memory == NULL || !same_version(before, &f->st) || b->n == 0)
		return;
	f->new = NULL;
	b->path = f->path;
	b->path_len = f->path_len;
	f->path = NULL;
	f->path_len = 0;
	b->size = (uint64_t)f->st.st_size;
	b->mtime = f->st.st_mtim;
	b->block = f->block;
	tcp_memory_keep(s->up.memory, b);
}

static ssize_t read_fully(int fd, unsigned char *p, size_t n, uint64_t offset)
{
	size_t done = 0;

	while (done < n) {
		ssize_t got = pread(fd, p + done, n - done, (off_t)(offset + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		if (got == 0)
			break;
		done += (size_t)got;
	}
	return (ssize_t)done;
}

static bool fail_file(struct tcp_serve *s, struct served *f, int code)
{
	struct err err = ERR_INIT;

	err_errno(&err, code, "source: cannot read");
	err.class = ERR_IO;
	return send_end(s, f, FILEOPS_FAILED, &err);
}

static bool send_data(struct tcp_serve *s, struct served *f, const unsigned char *p, size_t n)
{
	if (!tell_run(s, f))
		return false;
	while (n > 0) {
		size_t part = n < TCP_DATA_MAX ? n : TCP_DATA_MAX;
		struct tcp_span span = { .file = f->id, .offset = f->at };

		buf_clear(&s->scratch);
		tcp_put_span(&s->scratch, TCP_DATA, &span);
		if (!tcp_stream_send2(s->up.stream, TCP_DATA, s->scratch.data, s->scratch.len, p, part,
				      zstream_random(p, part < 4096 ? part : 4096) ? ZSTREAM_STORE : ZSTREAM_PACK))
			return false;
		s->credit -= part;
		throttle_took(s->up.throttle, clock_mono_ns(), part);
		f->at += part;
		p += part;
		n -= part;
	}
	return true;
}

/* A hole of the source, from f->at on; *len 0: there is none. Also learns how far the data behind reaches. */
static void find_hole(struct tcp_serve *s, struct served *f, uint64_t *len)
{
	off_t at;

	*len = 0;
	if (!s->up.sparse || f->at < f->data_end || f->at >= f->end)
		return;
	at = lseek(f->file.fd, (off_t)f->at, SEEK_DATA);
	if (at < 0) {
		if (errno == ENXIO)
			*len = f->end - f->at;
		else
			f->data_end = f->end;
		return;
	}
	if ((uint64_t)at > f->at)
		*len = ((uint64_t)at < f->end ? (uint64_t)at : f->end) - f->at;
	at = lseek(f->file.fd, at, SEEK_HOLE);
	f->data_end = at < 0 ? f->end : (uint64_t)at;
	if (f->block == 0)
		return;
	/* Blocks stay where they are: holes end at their bounds. */
	if (f->at + *len < f->end)
		*len -= *len % f->block;
	f->data_end += f->block - 1 - (f->data_end - 1) % f->block;
	if (*len == 0 && f->data_end <= f->at)
		f->data_end = f->at + f->block;
}

/* A hole is real only as long as the file reaches that far. */
static bool serve_hole(struct tcp_serve *s, struct served *f, uint64_t len)
{
	unsigned char hole[TCP_HOLE_BYTES];

	if (!tell_run(s, f) ||
	    !send_span(s, TCP_HOLE, &(struct tcp_span){ .file = f->id, .offset = f->at, .len = len }))
		return false;
	f->at += len;
	tcp_blocks_free(f->new); /* blocks are not aligned any more */
	f->new = NULL;
	tcp_hole_bytes(hole, f->at - len, len);
	(void)XXH3_128bits_update(f->digest, hole, sizeof(hole));
	return true;
}

static void note_hash(struct served *f, uint64_t hash)
{
	if (f->new == NULL || tcp_blocks_add(f->new, hash))
		return;
	tcp_blocks_free(f->new);
	f->new = NULL;
}

static void hash_blocks(struct served *f, const unsigned char *p, size_t n)
{
	for (size_t at = 0; at < n && f->new != NULL; at += f->block)
		note_hash(f, XXH3_64bits(p + at, n - at < f->block ? n - at : f->block));
}

static bool receiver_has(const struct served *f, uint64_t index, uint64_t hash)
{
	if (in_part(f))
		return index - f->finer_first < f->finer.n && f->finer.hash[index - f->finer_first] == hash;
	return f->old != NULL && index < f->old->n && f->old->hash[index] == hash;
}

static bool serve_blocks(struct tcp_serve *s, struct served *f, const unsigned char *p, size_t n)
{
	for (size_t done = 0, part; done < n; done += part) {
		uint64_t hash;

		part = n - done < f->block ? n - done : f->block;
		hash = XXH3_64bits(p + done, part);
		note_hash(f, hash);
		if (!(receiver_has(f, f->at / f->block, hash) ? add_to_run(s, f, part)
							      : send_data(s, f, p + done, part)))
			return false;
	}
	return true;
}

/* A whole turn; with larger blocks, whether what was read is one of them. */
static bool run_is_equal(const struct served *f, const unsigned char *p, size_t n)
{
	uint64_t index = f->at / RUN;

	return f->at % RUN == 0 && index < f->old->n && f->old->hash[index] == XXH3_64bits(p, n);
}

/* Whether larger blocks than those that are sent tell what is equal. */
static bool by_runs(const struct served *f)
{
	return f->coarse && f->old != NULL && !in_part(f);
}

static bool serve_piece(struct tcp_serve *s, struct served *f, const unsigned char *p, size_t n)
{
	if (f->block == 0)
		return send_data(s, f, p, n);
	if (!by_runs(f))
		return serve_blocks(s, f, p, n);
	hash_blocks(f, p, n);
	return add_to_run(s, f, n);
}

/* What stands at the receiver: the digest and the hashes that are remembered are of the whole. */
static bool hash_turn(struct tcp_serve *s, struct served *f)
{
	size_t want = f->from - f->at < TURN_BYTES ? (size_t)(f->from - f->at) : TURN_BYTES;
	ssize_t got = read_fully(f->file.fd, s->piece, want, f->at);

	if (got < (ssize_t)want)
		return fail_file(s, f, got < 0 ? errno : ESTALE);
	(void)XXH3_128bits_update(f->digest, s->piece, want);
	hash_blocks(f, s->piece, want);
	f->at += want;
	s->hashed += want;
	s->catching_up = true;
	return true;
}

struct moved_ctx {
	struct tcp_serve *s;
	struct served *f;
};

static bool moved_content(void *ctx, const unsigned char *p, size_t n)
{
	struct moved_ctx *m = ctx;

	/* A turn tells less than it has credit for: see DELTA_FEED_MAX. */
	return n <= m->s->credit && send_data(m->s, m->f, p, n);
}

static bool moved_copy(void *ctx, uint64_t from, uint64_t n)
{
	struct moved_ctx *m = ctx;

	/* The receiver carries out one at a time, and answers nobody meanwhile. */
	for (uint64_t done = 0, part; done < n; done += part) {
		part = n - done < COPY_BYTES ? n - done : COPY_BYTES;
		struct tcp_span span = { .file = m->f->id, .offset = m->f->at, .len = part, .from = from + done };

		m->f->at += part;
		if (!send_span(m->s, TCP_COPY, &span))
			return false;
	}
	return true;
}

/* The content is read in order and told as pieces of the old file, and what is between them. */
static bool moved_turn(struct tcp_serve *s, struct served *f)
{
	struct moved_ctx ctx = { s, f };
	const struct delta_sink sink = { .content = moved_content, .copy = moved_copy, .ctx = &ctx };
	size_t want = f->end - f->fed < DELTA_FEED_MAX ? (size_t)(f->end - f->fed) : DELTA_FEED_MAX;
	ssize_t got = read_fully(f->file.fd, s->piece, want, f->fed);
	struct stat before = f->st;
	bool last;

	if (got < 0)
		return fail_file(s, f, errno);
	last = (size_t)got < want || f->fed + (size_t)got >= f->end;
	(void)XXH3_128bits_update(f->digest, s->piece, (size_t)got);
	hash_blocks(f, s->piece, (size_t)got);
	f->fed += (size_t)got;
	s->hashed += (uint64_t)got;
	if (!delta_feed(f->moved, s->piece, (size_t)got, last, &sink))
		return tcp_stream_writable(s->up.stream) && fail_file(s, f, ENOMEM);
	if (!last)
		return true;
	forget_moved(s, f);
	if (!send_end(s, f, FILEOPS_OK, NULL))
		return false;
	remember(s, f, &before);
	return true;
}

/* false: the stream is lost. */
bool tcp_content_turn(struct tcp_serve *s, struct served *f)
{
	uint64_t hole, left;
	size_t want;
	ssize_t got;

	if (f->at < f->from)
		return hash_turn(s, f);
	if (f->moved != NULL)
		return moved_turn(s, f);
	if (waits_for_hashes(s, f))
		return tell_run(s, f);
	find_hole(s, f, &hole);
	if (hole > 0)
		return serve_hole(s, f, hole);
	left = f->end - f->at;
	if (f->data_end > f->at && f->data_end - f->at < left)
		left = f->data_end - f->at;
	if (in_part(f) && f->finer_end * f->block - f->at < left)
		left = f->finer_end * f->block - f->at;
	want = left < TURN_BYTES ? (size_t)left : TURN_BYTES;
	got = want == 0 ? 0 : read_fully(f->file.fd, s->piece, want, f->at);
	if (got < 0)
		return fail_file(s, f, errno);
	if (f->block != 0) /* what is equal sends next to nothing, and must not hold the loop up */
		s->hashed += (uint64_t)got;
	if (got > 0 && by_runs(f) && !run_is_equal(f, s->piece, (size_t)got))
		return ask_part(s, f); /* it is this file's turn once more */
	(void)XXH3_128bits_update(f->digest, s->piece, (size_t)got);
	if (got > 0 && !serve_piece(s, f, s->piece, (size_t)got))
		return false;
	if (f->at >= f->end || (size_t)got < want) {
		struct stat before = f->st;

		if (!tell_run(s, f) || !send_end(s, f, FILEOPS_OK, NULL))
			return false;
		remember(s, f, &before);
	}
	return true;
}

/* ---- beginning and end ---- */

void tcp_content_begin(struct tcp_serve *s, struct served *f, const struct tcp_span *span)
{
	f->reading = true;
	f->from = span->offset;
	f->at = f->run = 0;
	f->end = span->len;
	f->data_end = s->up.sparse ? f->from : f->end;
	(void)XXH3_128bits_reset(f->digest);
	if (f->block != 0 && f->from % f->block != 0) {
		tcp_blocks_free(f->new); /* blocks are not aligned */
		f->new = NULL;
		f->block = 0;
		f->coarse = false;
	}
	if (!look_for_moved(s, f))
		tcp_serve_activate(s, f);
}

void tcp_content_forget(struct tcp_serve *s, struct served *f)
{
	s->n_hashes -= f->n_hashes + f->finer.n;
	forget_moved(s, f);
	tcp_blocks_free(f->old);
	tcp_blocks_free(f->new);
	free(f->finer.hash);
}
