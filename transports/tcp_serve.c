#include "transports/tcp_serve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/clock.h"
#include "core/path.h"
#include "transports/delta.h"
#include "transports/tcp_private.h"

#define FILES_MAX 1024u
#define BUCKETS 1024u
/* Hashes of all that receivers have, in bytes: without them a file is sent whole. */
#define HASHES_BYTES_MAX (16u * 1024 * 1024)
/* A file shorter than this is sent whole. */
#define DELTA_MIN (128u * 1024)
/* Files in which it is worth looking for content that moved. */
#define MOVED_MIN (1024u * 1024)
/* One turn of one file. */
#define TURN_BYTES (256u * 1024)
/* What a receiver hashes at first of a file that is not remembered, when it knows FINER; a turn. Of a log that grew
 * little is asked besides. */
#define RUN TCP_BLOCK_MAX
#define RUNS_MIN 4u
#define COPY_BYTES (16u * 1024 * 1024)
/* Hashed without being sent, before somebody else gets the loop. */
#define HASHED_BYTES (8u * 1024 * 1024)

struct served {
	struct served *next; /* in its bucket */
	struct served *next_active, *prev_active;
	uint32_t id;
	struct fileops_file file;
	struct stat st;
	char *path;
	size_t path_len;
	bool reading;
	uint64_t at, end;  /* of what was asked for */
	uint64_t from;	   /* what is before stands at the receiver: it is hashed, not sent */
	uint64_t fed;	   /* read so far, where content that moved is looked for */
	uint64_t data_end; /* bytes below it are data for sure */
	XXH3_state_t *digest;
	/* A difference: */
	uint64_t old_hashes;	/* that may still come */
	size_t n_hashes;	/* that came */
	uint32_t block;		/* 0: none is made */
	struct tcp_blocks *old; /* what the receiver has; NULL: not known (yet) */
	struct tcp_blocks *new; /* of what is sent now; NULL: not gathered */
	bool coarse;		/* `old` is of larger blocks (RUN) until FINER was asked */
	bool awaits_finer;	/* more of `old` is on its way */
	bool may_have_moved;	/* to be looked at when it is there */
	bool wants_hashes;
	uint64_t old_size;
	struct delta_maker *moved; /* content that moved is looked for; there is one at a time */
	bool awaits_signature;
};

struct tcp_serve {
	struct tcp_serve_setup up;
	struct served *files[BUCKETS];
	struct served *active; /* round; the next one to be served */
	struct tcp_answers *answers;
	struct tcp_listings *listings;
	size_t n_hashes; /* of all files' `old` that came in HASHES */
	size_t n_files;
	struct served *moved; /* the file that has a maker */
	uint32_t last_id;
	uint64_t credit;
	uint64_t hashed; /* in this round, without being sent */
	struct buf scratch;
	unsigned char *piece; /* TURN_BYTES */
};

struct tcp_serve *tcp_serve_new(const struct tcp_serve_setup *setup)
{
	struct tcp_serve *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->up = *setup;
	buf_init(&s->scratch, TCP_FRAME_MAX);
	s->piece = malloc(TURN_BYTES);
	s->listings = tcp_listings_new(setup);
	s->answers = tcp_answers_new(setup);
	if (s->piece == NULL || s->listings == NULL || s->answers == NULL) {
		tcp_serve_free(s);
		return NULL;
	}
	return s;
}

/* ---- files ---- */

static struct served *find(struct tcp_serve *s, uint32_t id)
{
	struct served *f = s->files[id % BUCKETS];

	while (f != NULL && f->id != id)
		f = f->next;
	return f;
}

static void activate(struct tcp_serve *s, struct served *f)
{
	if (f->next_active != NULL)
		return;
	if (s->active == NULL) {
		f->next_active = f->prev_active = f;
		s->active = f;
		return;
	}
	f->next_active = s->active;
	f->prev_active = s->active->prev_active;
	f->prev_active->next_active = f;
	s->active->prev_active = f;
}

static void deactivate(struct tcp_serve *s, struct served *f)
{
	if (f->next_active == NULL)
		return;
	if (s->active == f)
		s->active = f->next_active == f ? NULL : f->next_active;
	f->next_active->prev_active = f->prev_active;
	f->prev_active->next_active = f->next_active;
	f->next_active = f->prev_active = NULL;
	f->reading = false;
}

static void forget_moved(struct tcp_serve *s, struct served *f)
{
	if (s->moved != f)
		return;
	s->moved = NULL;
	delta_maker_free(f->moved);
	f->moved = NULL;
}

static void close_served(struct tcp_serve *s, struct served *f)
{
	struct served **at = &s->files[f->id % BUCKETS];

	deactivate(s, f);
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	s->n_files--;
	s->up.source.ops->drop(s->up.source.ctx, &f->file);
	(void)XXH3_freeState(f->digest);
	s->n_hashes -= f->n_hashes;
	forget_moved(s, f);
	tcp_blocks_free(f->old);
	tcp_blocks_free(f->new);
	free(f->path);
	free(f);
}

void tcp_serve_free(struct tcp_serve *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		while (s->files[i] != NULL)
			close_served(s, s->files[i]);
	tcp_answers_free(s->answers);
	tcp_listings_free(s->listings);
	buf_done(&s->scratch);
	free(s->piece);
	free(s);
}

static bool send_scratch(struct tcp_serve *s, enum tcp_frame type)
{
	bool ok = tcp_stream_send_buf(s->up.stream, type, &s->scratch);

	tcp_stream_kick(s->up.stream);
	return ok;
}

/* ---- opening ---- */

/* Whether and how a difference is made. */
static void plan_delta(struct tcp_serve *s, struct served *f, const struct tcp_request *r)
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

static struct served *new_served(struct tcp_serve *s, struct fileop *op, const struct tcp_request *r)
{
	struct served *f = calloc(1, sizeof(*f));

	if (f != NULL) {
		f->digest = XXH3_createState();
		f->path = malloc(r->path.len + 1);
	}
	if (f == NULL || f->digest == NULL || f->path == NULL) {
		if (f != NULL) {
			(void)XXH3_freeState(f->digest);
			free(f->path);
		}
		free(f);
		return NULL;
	}
	memcpy(f->path, r->path.p, r->path.len);
	f->path_len = r->path.len;
	f->file = op->file;
	f->st = op->st;
	while (++s->last_id == 0 || find(s, s->last_id) != NULL)
		;
	f->id = s->last_id;
	f->next = s->files[f->id % BUCKETS];
	s->files[f->id % BUCKETS] = f;
	s->n_files++;
	return f;
}

static bool on_open(struct tcp_serve *s, const struct tcp_request *r)
{
	struct tcp_opened o = { .id = r->id, .result = FILEOPS_GONE };
	struct fileop op = { 0 };
	struct served *f = NULL;

	if (s->n_files >= FILES_MAX) {
		o.result = FILEOPS_FAILED;
		err_set(&op.err, ERR_LIMIT, "the source: too many files are open");
	} else if (!tcp_hidden(s->up.filter, r->path.p, r->path.len, false)) {
		o.result = (uint8_t)s->up.source.ops->open(s->up.source.ctx, &op, r->path.p, r->path.len, NULL);
	}
	if (o.result == FILEOPS_OK) {
		f = new_served(s, &op, r);
		if (f == NULL) {
			s->up.source.ops->drop(s->up.source.ctx, &op.file);
			o.result = FILEOPS_FAILED;
			err_set(&op.err, ERR_NOMEM, "the source: out of memory");
		}
	}
	o.why = op.err;
	if (f != NULL) {
		plan_delta(s, f, r);
		tcp_names_tell(s->up.names, &f->st);
		o.file = f->id;
		o.state = tcp_state_of(&f->st, true);
		o.wants_hashes = f->wants_hashes;
		o.block = f->wants_hashes && f->coarse ? RUN : f->block;
	}
	buf_clear(&s->scratch);
	tcp_put_opened(&s->scratch, &o);
	return send_scratch(s, TCP_OPENED);
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
	activate(s, f);
}

static bool on_hashes(struct tcp_serve *s, const char *payload, size_t len)
{
	struct reader r;
	struct served *f;
	uint64_t first;

	reader_init(&r, payload, len);
	f = find(s, reader_u32(&r));
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

/* From f->at on what is equal is to be found in smaller blocks; false: memory. What is before them has no hash. */
static bool ask_finer(struct tcp_serve *s, struct served *f)
{
	uint64_t first = f->at / f->block;

	s->n_hashes -= f->n_hashes;
	f->n_hashes = 0;
	f->old->n = 0;
	f->coarse = false;
	f->old->block = f->block;
	while (f->n_hashes < first && s->n_hashes < HASHES_BYTES_MAX / 8 && tcp_blocks_add(f->old, 0)) {
		f->n_hashes++;
		s->n_hashes++;
	}
	if (f->n_hashes < first || f->at >= f->old_size)
		return true; /* what follows is sent */
	f->old_hashes = f->old_size / f->block + 1;
	f->awaits_finer = true;
	buf_clear(&s->scratch);
	buf_add_u32(&s->scratch, f->id);
	buf_add_u32(&s->scratch, f->block);
	buf_add_u64(&s->scratch, first);
	return send_scratch(s, TCP_FINER);
}

/* Whether the hashes that the next turn compares with have not come yet: then this file waits for them. */
static bool waits_for_hashes(struct tcp_serve *s, struct served *f)
{
	uint64_t end = f->at + TURN_BYTES < f->old_size ? f->at + TURN_BYTES : f->old_size;

	if (!f->awaits_finer || f->n_hashes * f->block >= end)
		return false;
	deactivate(s, f);
	f->reading = true;
	return true;
}

/* ---- content that moved ---- */

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
	(void)send_scratch(s, TCP_SIGN); /* when it can't be sent the stream ends */
	return true;
}

static bool on_signature(struct tcp_serve *s, const char *payload, size_t len)
{
	enum delta_result got = DELTA_FINE;
	struct reader r;
	struct served *f;
	uint8_t last;
	size_t n;

	reader_init(&r, payload, len);
	f = find(s, reader_u32(&r));
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
		activate(s, f);
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
	deactivate(s, f);
	buf_clear(&s->scratch);
	tcp_put_end(&s->scratch, &e);
	return send_scratch(s, TCP_END);
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

static bool send_span(struct tcp_serve *s, enum tcp_frame type, const struct tcp_span *span)
{
	buf_clear(&s->scratch);
	tcp_put_span(&s->scratch, type, span);
	return tcp_stream_send_buf(s->up.stream, type, &s->scratch);
}

static bool send_copy_or_hole(struct tcp_serve *s, struct served *f, enum tcp_frame type, uint64_t n)
{
	return send_span(s, type, &(struct tcp_span){ .file = f->id, .offset = f->at, .len = n, .from = f->at });
}

static bool send_data(struct tcp_serve *s, struct served *f, const unsigned char *p, size_t n)
{
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

	if (!send_copy_or_hole(s, f, TCP_HOLE, len))
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

/* A block at a time: equal ones are runs of COPY. */
static bool serve_blocks(struct tcp_serve *s, struct served *f, const unsigned char *p, size_t n)
{
	uint64_t run = 0;

	for (size_t done = 0; done < n;) {
		size_t part = n - done < f->block ? n - done : f->block;
		uint64_t hash = XXH3_64bits(p + done, part), index = (f->at + run) / f->block;
		bool same = f->old != NULL && index < f->old->n && f->old->hash[index] == hash;

		note_hash(f, hash);
		if (same) {
			run += part;
		} else {
			if (run > 0 && !send_copy_or_hole(s, f, TCP_COPY, run))
				return false;
			f->at += run;
			run = 0;
			if (!send_data(s, f, p + done, part))
				return false;
		}
		done += part;
	}
	if (run > 0 && !send_copy_or_hole(s, f, TCP_COPY, run))
		return false;
	f->at += run;
	return true;
}

/* A whole turn; with larger blocks, whether what was read is one of them. */
static bool run_is_equal(const struct served *f, const unsigned char *p, size_t n)
{
	uint64_t index = f->at / RUN;

	return f->at % RUN == 0 && index < f->old->n && f->old->hash[index] == XXH3_64bits(p, n);
}

static bool serve_piece(struct tcp_serve *s, struct served *f, const unsigned char *p, size_t n)
{
	if (f->block == 0)
		return send_data(s, f, p, n);
	if (!f->coarse || f->old == NULL)
		return serve_blocks(s, f, p, n);
	hash_blocks(f, p, n);
	if (!send_copy_or_hole(s, f, TCP_COPY, n))
		return false;
	f->at += n;
	return true;
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
static bool serve_turn(struct tcp_serve *s, struct served *f)
{
	uint64_t hole, left;
	size_t want;
	ssize_t got;

	if (f->at < f->from)
		return hash_turn(s, f);
	if (f->moved != NULL)
		return moved_turn(s, f);
	if (waits_for_hashes(s, f))
		return true;
	find_hole(s, f, &hole);
	if (hole > 0)
		return serve_hole(s, f, hole);
	left = f->end - f->at;
	if (f->data_end > f->at && f->data_end - f->at < left)
		left = f->data_end - f->at;
	want = left < TURN_BYTES ? (size_t)left : TURN_BYTES;
	got = want == 0 ? 0 : read_fully(f->file.fd, s->piece, want, f->at);
	if (got < 0)
		return fail_file(s, f, errno);
	if (f->block != 0) /* what is equal sends next to nothing, and must not hold the loop up */
		s->hashed += (uint64_t)got;
	if (got > 0 && f->coarse && f->old != NULL && !run_is_equal(f, s->piece, (size_t)got))
		return ask_finer(s, f); /* it is this file's turn once more */
	(void)XXH3_128bits_update(f->digest, s->piece, (size_t)got);
	if (got > 0 && !serve_piece(s, f, s->piece, (size_t)got))
		return false;
	if (f->at >= f->end || (size_t)got < want) {
		struct stat before = f->st;

		if (!send_end(s, f, FILEOPS_OK, NULL))
			return false;
		remember(s, f, &before);
	}
	return true;
}

void tcp_serve_pump(struct tcp_serve *s)
{
	bool any = false;

	if (!tcp_listings_pump(s->listings))
		return;
	s->hashed = 0;
	while (s->active != NULL && s->hashed < HASHED_BYTES && s->credit >= TURN_BYTES &&
	       tcp_stream_writable(s->up.stream) && throttle_wait_ns(s->up.throttle, clock_mono_ns()) == 0) {
		struct served *f = s->active;

		s->active = f->next_active;
		any = true;
		if (!serve_turn(s, f))
			return;
	}
	if (any)
		tcp_stream_kick(s->up.stream);
}

static bool on_read(struct tcp_serve *s, const struct tcp_span *span)
{
	struct served *f = find(s, span->file);

	if (f == NULL || f->reading)
		return false;
	f->reading = true;
	f->from = span->offset;
	f->at = 0;
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
		activate(s, f);
	return true;
}

static bool on_restat(struct tcp_serve *s, uint32_t id, uint32_t file)
{
	struct served *f = find(s, file);
	struct tcp_answer a = { .id = id };
	struct fileop op = { 0 };

	if (f == NULL)
		return false;
	a.result = (uint8_t)s->up.source.ops->restat(s->up.source.ctx, &op, &f->file);
	a.why = op.err;
	if (a.result == FILEOPS_OK)
		tcp_names_tell(s->up.names, &op.st);
	a.state = tcp_state_of(&op.st, true);
	return tcp_answers_send(s->answers, TCP_RESTAT, &a);
}

/* ---- frames ---- */

bool tcp_serve_take_credit(struct tcp_serve *s, uint64_t bytes, uint64_t reserve)
{
	if (s->credit < bytes || s->credit - bytes < reserve)
		return false;
	throttle_took(s->up.throttle, clock_mono_ns(), bytes);
	s->credit -= bytes;
	return true;
}

void tcp_serve_add_credit(struct tcp_serve *s, uint64_t bytes)
{
	s->credit = bytes > UINT64_MAX / 2 - s->credit ? UINT64_MAX / 2 : s->credit + bytes;
}

bool tcp_serve_goes_on(const struct tcp_serve *s)
{
	return s->active != NULL && s->hashed >= HASHED_BYTES;
}

static bool on_numbers(struct tcp_serve *s, uint8_t type, const char *payload, size_t len)
{
	struct reader r;
	uint32_t a, b = 0;
	struct served *f;

	reader_init(&r, payload, len);
	if (type == TCP_CREDIT) {
		uint64_t credit = reader_u64(&r);

		if (r.failed || r.left > 0)
			return false;
		tcp_serve_add_credit(s, credit);
		return true;
	}
	a = reader_u32(&r);
	if (type == TCP_RESTAT)
		b = reader_u32(&r);
	if (r.failed || r.left > 0)
		return false;
	if (type == TCP_RESTAT)
		return on_restat(s, a, b);
	f = find(s, a);
	if (f == NULL)
		return false;
	close_served(s, f);
	return true;
}

static bool on_request(struct tcp_serve *s, uint8_t type, const char *payload, size_t len)
{
	struct tcp_request r;

	if (!tcp_get_request((enum tcp_frame)type, payload, len, &r))
		return false;
	if (type == TCP_LIST)
		return tcp_listings_add(s->listings, &r);
	if (type == TCP_OPEN)
		return on_open(s, &r);
	return tcp_answers_give(s->answers, (enum tcp_frame)type, &r);
}

static bool take(struct tcp_serve *s, uint8_t type, const char *payload, size_t len)
{
	struct tcp_span span;

	switch (type) {
	case TCP_LOOK:
	case TCP_LIST:
	case TCP_READLINK:
	case TCP_XATTRS:
	case TCP_DIGEST_OF:
	case TCP_OPEN:
	case TCP_AGREED:
		return on_request(s, type, payload, len);
	case TCP_UNLESS:
		return (s->up.features & TCP_FEATURE_SAME) != 0 && tcp_listings_unless(s->listings, payload, len);
	case TCP_READ:
		return tcp_get_span(TCP_READ, payload, len, &span) && on_read(s, &span);
	case TCP_RESTAT:
	case TCP_CLOSE_FILE:
	case TCP_CREDIT:
		return on_numbers(s, type, payload, len);
	case TCP_HASHES:
		return on_hashes(s, payload, len);
	case TCP_SIGNATURE:
		return on_signature(s, payload, len);
	default:
		return false;
	}
}

bool tcp_serve_frame(struct tcp_serve *s, uint8_t type, const char *payload, size_t len, struct err *err)
{
	if (take(s, type, payload, len))
		return true;
	if (err->class == ERR_NONE)
		err_set(err, ERR_PROTOCOL, "the receiver asked for something that makes no sense");
	return false;
}
