#include "transports/receiver_source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/path.h"
#include "transports/listing.h"
#include "transports/receiver_asks.h"
#include "transports/receiver_old.h"

#define BUCKETS 4096u
#define XATTRS_MAX (1u << 20)
/* Credit goes back in portions. */
#define CREDIT_STEP (256u * 1024)
/* Content and texts that came along and are kept: half of the credit, so that the rest is there for what is asked for.
 */
#define TEXTS_MAX (1024u * 1024)
/* Entries of listings that are under way. A directory that has more is not mirrored. */
#define LISTED_MAX (4u * 1024 * 1024)

struct remote_file {
	struct receiver_source *owner;
	struct remote_file *next; /* in its bucket */
	uint32_t id;
	struct tcp_state after;
	bool ended;  /* END came: `after` is set */
	int base_fd; /* what is to be replaced, as far as a difference may be sent; -1 */
	struct remote_sink sink;
	bool reading, asked;	/* its sink is there; READ was sent */
	uint64_t at;		/* where the next piece must begin */
	uint64_t to;		/* nothing beyond was asked for */
	struct fileop *opening; /* complete when the hashes of the old file's blocks were sent */
	struct old_reading old;
	bool asked_old[2]; /* FINER; SIGN */
	uint64_t base_size;
	/* Came with its item: the whole content. */
	char *content;
	size_t content_len;
	unsigned char digest[TCP_DIGEST];
};

/* A question that waits for its answer. */
struct question {
	struct question *next;
	uint32_t id;
	enum tcp_frame asked;
	struct fileop *op;
	struct fileops_wish wish;
	bool unless; /* SAME may be its answer */
	char *path;  /* then: to ask again */
	size_t path_len;
	size_t listed; /* entries so far */
	bool too_many; /* they are dropped, up to the last */
	int base_fd;
	uint64_t base_size;
};

struct primed {
	struct primed *next;
	uint64_t hash;
	char *path, *content;
	size_t len, content_len;
	bool is_text; /* of a symlink; content took credit */
	struct tcp_state state;
	unsigned char digest[TCP_DIGEST];
};

struct receiver_source {
	struct tcp_stream *stream;
	struct receiver_old *old;
	uint32_t last_id;
	struct question *questions[BUCKETS];
	struct remote_file *files[BUCKETS];
	struct primed *primed[BUCKETS];
	size_t n_primed;
	uint64_t contents, texts; /* bytes of them */
	uint64_t credit, keep;	  /* what the sender may still send; how much of what came along is kept */
	uint64_t owed;		  /* credit to be given back */
	struct receiver_owners *owners;
	size_t listed;
	bool both_ways, same;
	struct receiver_asks asks;
	bool holding; /* more of them may come at once */
	struct buf scratch;
};

static const struct fileops source_ops;

/* ---- credit ---- */

static bool take_credit(struct receiver_source *s, uint64_t bytes, struct err *err)
{
	if (bytes > s->credit)
		return err_set(err, ERR_PROTOCOL, "the sender sent more than it has credit for") == 0;
	s->credit -= bytes;
	return true;
}

static void give_credit(struct receiver_source *s, uint64_t bytes)
{
	s->owed += bytes;
	if (s->owed < CREDIT_STEP)
		return;
	buf_clear(&s->scratch);
	buf_add_u64(&s->scratch, s->owed);
	if (!tcp_stream_send_buf(s->stream, TCP_CREDIT, &s->scratch))
		return;
	s->credit += s->owed;
	s->owed = 0;
	tcp_stream_kick(s->stream);
}

/* ---- life ---- */

struct receiver_source *receiver_source_new(const struct receiver_source_setup *setup, struct err *err)
{
	struct receiver_source *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for a session");
		return NULL;
	}
	s->stream = setup->stream;
	s->credit = setup->credit;
	s->keep = setup->credit / 2;
	s->owners = setup->owners;
	s->both_ways = setup->both_ways;
	s->same = setup->same && receiver_owners_alike(s->owners);
	buf_init(&s->scratch, TCP_FRAME_MAX);
	receiver_asks_init(&s->asks, setup->stream);
	s->old = receiver_old_new(setup->loop, setup->stream, err);
	if (s->old == NULL) {
		free(s);
		return NULL;
	}
	return s;
}

static void free_file(struct remote_file *f)
{
	if (f->reading)
		f->sink.dropped(f->sink.ctx);
	receiver_old_stop(f->owner->old, &f->old);
	if (f->base_fd >= 0)
		(void)close(f->base_fd);
	free(f->content);
	free(f);
}

static void free_question(struct question *q)
{
	if (q->base_fd >= 0)
		(void)close(q->base_fd);
	free(q->path);
	free(q);
}

static void free_primed(struct primed *p)
{
	free(p->path);
	free(p->content);
	free(p);
}

void receiver_source_free(struct receiver_source *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < BUCKETS; i++) {
		while (s->primed[i] != NULL) {
			struct primed *p = s->primed[i];

			s->primed[i] = p->next;
			free_primed(p);
		}
		while (s->files[i] != NULL) {
			struct remote_file *f = s->files[i];

			s->files[i] = f->next;
			free_file(f);
		}
		while (s->questions[i] != NULL) {
			struct question *q = s->questions[i];

			s->questions[i] = q->next;
			free_question(q);
		}
	}
	receiver_old_free(s->old);
	receiver_asks_done(&s->asks);
	buf_done(&s->scratch);
	free(s);
}

struct fileops_end receiver_source_end(struct receiver_source *s)
{
	/* The sender's ctimes stay the sender's: what changes while it is read, it says itself. */
	return (struct fileops_end){ .ops = &source_ops,
				     .ctx = s,
				     .tick_ns = 1,
				     .caps = FILEOPS_BASE | FILEOPS_CTIME | FILEOPS_INODES | FILEOPS_XATTRS |
					     FILEOPS_OWNERS | (s->same ? FILEOPS_SAME : 0) };
}

/* ---- what came along ---- */

bool receiver_source_prime(struct receiver_source *s, const struct tcp_item *item, struct err *err)
{
	const struct tcp_bytes *bytes = item->has_content ? &item->content : &item->text;
	bool room = item->has_content ? s->contents + bytes->len <= s->keep : s->texts + bytes->len <= TEXTS_MAX;
	struct primed *p = room ? calloc(1, sizeof(*p)) : NULL;

	if (item->has_content && !take_credit(s, bytes->len, err))
		return false;
	if (p != NULL) {
		p->path = malloc(item->path.len + 1);
		p->content = malloc(bytes->len + 1);
	}
	if (p == NULL || p->path == NULL || p->content == NULL) {
		if (p != NULL)
			free_primed(p);
		give_credit(s, item->has_content ? bytes->len : 0);
		return true;
	}
	memcpy(p->path, item->path.p, item->path.len);
	memcpy(p->content, bytes->p, bytes->len);
	p->content[bytes->len] = '\0';
	p->is_text = !item->has_content;
	p->len = item->path.len;
	p->content_len = bytes->len;
	p->state = item->state;
	receiver_owners_map(s->owners, &p->state.st);
	*(p->is_text ? &s->texts : &s->contents) += bytes->len;
	memcpy(p->digest, item->digest, sizeof(p->digest));
	p->hash = path_hash(p->path, p->len);
	p->next = s->primed[p->hash % BUCKETS];
	s->primed[p->hash % BUCKETS] = p;
	s->n_primed++;
	return true;
}

/* The first one that came is the one of the work that is carried out. */
static struct primed **find_primed(struct receiver_source *s, const char *path, size_t len, bool text)
{
	uint64_t hash = path_hash(path, len);
	struct primed **found = NULL;

	for (struct primed **at = &s->primed[hash % BUCKETS]; *at != NULL; at = &(*at)->next) {
		const struct primed *p = *at;

		if (p->is_text == text && p->hash == hash && p->len == len && memcmp(p->path, path, len) == 0)
			found = at; /* the chain has the latest one first */
	}
	return found;
}

static struct primed *take_primed(struct receiver_source *s, const char *path, size_t len, bool text)
{
	struct primed **at = s->n_primed == 0 ? NULL : find_primed(s, path, len, text), *p;

	if (at == NULL)
		return NULL;
	p = *at;
	*at = p->next;
	s->n_primed--;
	*(text ? &s->texts : &s->contents) -= p->content_len;
	return p;
}

void receiver_source_unprime(struct receiver_source *s, const char *path, size_t len)
{
	struct primed *p = take_primed(s, path, len, false);

	if (p != NULL) {
		give_credit(s, p->content_len);
		free_primed(p);
	}
	p = take_primed(s, path, len, true);
	if (p != NULL)
		free_primed(p);
}

/* ---- questions ---- */

static enum fileops_result no_memory(struct fileop *op)
{
	err_set(&op->err, ERR_NOMEM, "out of memory for a question to the sender");
	return FILEOPS_FAILED;
}

static struct question *new_question(struct receiver_source *s, enum tcp_frame asked, struct fileop *op)
{
	struct question *q = calloc(1, sizeof(*q));

	if (q == NULL)
		return NULL;
	q->id = ++s->last_id;
	q->asked = asked;
	q->op = op;
	q->base_fd = -1;
	q->next = s->questions[q->id % BUCKETS];
	s->questions[q->id % BUCKETS] = q;
	return q;
}

static struct question **find_question(struct receiver_source *s, uint32_t id)
{
	struct question **at = &s->questions[id % BUCKETS];

	while (*at != NULL && (*at)->id != id)
		at = &(*at)->next;
	return at;
}

static enum fileops_result send_question(struct receiver_source *s, enum tcp_frame asked, struct fileop *op)
{
	struct question *q = find_question(s, s->last_id)[0];

	if (tcp_stream_send_buf(s->stream, asked, &s->scratch)) {
		tcp_stream_kick(s->stream);
		return FILEOPS_PENDING;
	}
	*find_question(s, q->id) = q->next;
	free_question(q);
	(void)op;
	return FILEOPS_DOWN;
}

static enum fileops_result ask(struct receiver_source *s, enum tcp_frame asked, struct fileop *op,
			       const struct tcp_request *r, const struct fileops_wish *wish)
{
	struct question *q = new_question(s, asked, op);
	struct tcp_request request = *r;

	if (q == NULL)
		return no_memory(op);
	if (wish != NULL) {
		q->wish = *wish;
		listing_init(&op->list);
	}
	request.id = q->id;
	buf_clear(&s->scratch);
	tcp_put_request(&s->scratch, asked, &request);
	return send_question(s, asked, op);
}

static enum fileops_result source_look(void *end, struct fileop *op, const char *path, size_t len)
{
	return ask(end, TCP_LOOK, op, &(struct tcp_request){ .path = { path, len } }, NULL);
}

static enum fileops_result source_list(void *end, struct fileop *op, const char *path, size_t len,
				       const struct fileops_wish *wish)
{
	return ask(end, TCP_LIST, op, &(struct tcp_request){ .path = { path, len } }, wish);
}

/* Gathered: a frame asks for many. */
static enum fileops_result source_list_unless(void *end, struct fileop *op, const char *path, size_t len,
					      const struct fileops_wish *wish, unsigned fields,
					      const unsigned char *digest)
{
	struct receiver_source *s = end;
	struct tcp_unless u = { .path = { path, len } };
	enum fileops_result bad = FILEOPS_DOWN;
	struct question *q;

	/* Numbers are in it, and owners may be others than their numbers say: they are told apart entry by entry. */
	if (!receiver_owners_alike(s->owners))
		return source_list(end, op, path, len, wish);
	q = new_question(s, TCP_LIST, op);
	if (q == NULL)
		return no_memory(op);
	q->wish = *wish;
	q->unless = true;
	q->path = malloc(len + 1);
	u.id = q->id;
	memcpy(u.digest, digest, sizeof(u.digest));
	if (q->path == NULL) {
		bad = no_memory(op);
	} else {
		memcpy(q->path, path, len);
		q->path_len = len;
		if (receiver_asks_add(&s->asks, fields, &u))
			return FILEOPS_PENDING;
	}
	*find_question(s, q->id) = q->next;
	free_question(q);
	return bad;
}

static void source_flush(void *end)
{
	struct receiver_source *s = end;

	if (!s->holding)
		receiver_asks_send(&s->asks);
}

static enum fileops_result source_readlink(void *end, struct fileop *op, const char *path, size_t len)
{
	struct receiver_source *s = end;
	struct primed *p = take_primed(s, path, len, true);

	if (p == NULL)
		return ask(s, TCP_READLINK, op, &(struct tcp_request){ .path = { path, len } }, NULL);
	op->bytes = p->content;
	op->n_bytes = p->content_len;
	p->content = NULL;
	free_primed(p);
	return FILEOPS_OK;
}

static enum fileops_result source_xattrs(void *end, struct fileop *op, const char *path, size_t len, unsigned kinds)
{
	return ask(end, TCP_XATTRS, op, &(struct tcp_request){ .path = { path, len }, .kinds = kinds }, NULL);
}

enum fileops_result receiver_source_agreed(struct receiver_source *s, struct fileop *op, const char *path, size_t len)
{
	return ask(s, TCP_AGREED, op, &(struct tcp_request){ .path = { path, len } }, NULL);
}

static enum fileops_result source_digest(void *end, struct fileop *op, const char *path, size_t len)
{
	return ask(end, TCP_DIGEST_OF, op, &(struct tcp_request){ .path = { path, len } }, NULL);
}

/* ---- files ---- */

static struct remote_file *new_file(struct receiver_source *s, uint32_t id)
{
	struct remote_file *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	f->owner = s;
	f->id = id;
	f->base_fd = -1;
	f->next = s->files[id % BUCKETS];
	s->files[id % BUCKETS] = f;
	return f;
}

static struct remote_file *find_file(struct receiver_source *s, uint32_t id)
{
	struct remote_file *f = s->files[id % BUCKETS];

	/* Those that came along have no number. */
	while (f != NULL && (f->id != id || f->content != NULL))
		f = f->next;
	return f;
}

static enum fileops_result open_primed(struct receiver_source *s, struct fileop *op, struct primed *p)
{
	struct remote_file *f = new_file(s, 0);

	if (f == NULL) {
		give_credit(s, p->content_len);
		free_primed(p);
		return no_memory(op);
	}
	f->content = p->content;
	f->content_len = p->content_len;
	f->after = p->state;
	f->ended = true;
	memcpy(f->digest, p->digest, sizeof(f->digest));
	p->content = NULL;
	free_primed(p);
	op->file = (struct fileops_file){ .fd = -1, .impl = f };
	op->st = f->after.st;
	return FILEOPS_OK;
}

static enum fileops_result source_open(void *end, struct fileop *op, const char *path, size_t len,
				       const struct fileops_file *base)
{
	struct receiver_source *s = end;
	struct primed *p = take_primed(s, path, len, false);
	struct tcp_request r = { .path = { path, len }, .old.look = LOOK_ABSENT };
	enum fileops_result got;
	struct question *q;
	int base_fd = -1;

	if (p != NULL)
		return open_primed(s, op, p);
	if (base != NULL && base->fd >= 0 && fstat(base->fd, &r.old.st) == 0 && S_ISREG(r.old.st.st_mode)) {
		r.old.look = LOOK_FILE;
		r.old_size = (uint64_t)r.old.st.st_size;
		base_fd = fcntl(base->fd, F_DUPFD_CLOEXEC, 0);
	}
	got = ask(s, TCP_OPEN, op, &r, NULL);
	q = got == FILEOPS_PENDING ? *find_question(s, s->last_id) : NULL;
	if (q != NULL) {
		q->base_fd = base_fd;
		q->base_size = r.old_size;
	} else if (base_fd >= 0) {
		(void)close(base_fd);
	}
	return got;
}

static enum fileops_result source_restat(void *end, struct fileop *op, const struct fileops_file *file)
{
	struct receiver_source *s = end;
	const struct remote_file *f = file->impl;

	if (f->ended) {
		op->st = f->after.st;
		return FILEOPS_OK;
	}
	if (new_question(s, TCP_RESTAT, op) == NULL)
		return no_memory(op);
	buf_clear(&s->scratch);
	buf_add_u32(&s->scratch, s->last_id);
	buf_add_u32(&s->scratch, f->id);
	return send_question(s, TCP_RESTAT, op);
}

static void source_drop(void *end, struct fileops_file *file)
{
	struct receiver_source *s = end;
	struct remote_file *f = file->impl, **at;

	if (f == NULL)
		return;
	file->impl = NULL;
	at = &s->files[f->id % BUCKETS];
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	if (f->content == NULL) {
		buf_clear(&s->scratch);
		buf_add_u32(&s->scratch, f->id);
		(void)tcp_stream_send_buf(s->stream, TCP_CLOSE_FILE, &s->scratch);
		tcp_stream_kick(s->stream);
	} else {
		give_credit(s, f->content_len);
	}
	free_file(f);
}

int remote_file_base(const struct remote_file *f)
{
	return f->base_fd;
}

void remote_file_fail(struct remote_file *f, enum fileops_result result, const struct err *why)
{
	struct remote_sink sink = f->sink;

	f->reading = false;
	sink.end(sink.ctx, result, 0, f->digest, why);
}

static void read_content(struct remote_file *f, uint64_t offset)
{
	struct err err = ERR_INIT;
	enum fileops_result got = FILEOPS_OK;

	if (offset < f->content_len)
		got = f->sink.data(f->sink.ctx, offset, f->content + offset, f->content_len - offset, &err);
	if (got != FILEOPS_OK) {
		remote_file_fail(f, got, &err);
		return;
	}
	f->reading = false;
	f->sink.end(f->sink.ctx, FILEOPS_OK, f->content_len, f->digest, NULL);
}

void remote_file_sink(struct remote_file *f, uint64_t offset, uint64_t size, const struct remote_sink *sink)
{
	f->sink = *sink;
	f->reading = true;
	f->at = offset;
	f->to = size;
}

void remote_file_read(struct remote_file *f)
{
	struct receiver_source *s = f->owner;
	struct tcp_span span = { .file = f->id, .offset = f->at, .len = f->to };

	f->asked = true;
	if (f->content != NULL) {
		read_content(f, f->at);
		return;
	}
	buf_clear(&s->scratch);
	tcp_put_span(&s->scratch, TCP_READ, &span);
	(void)tcp_stream_send_buf(s->stream, TCP_READ, &s->scratch);
	tcp_stream_kick(s->stream);
}

/* ---- what comes ---- */

static bool broken(struct err *err, const char *what)
{
	err_set(err, ERR_PROTOCOL, "the sender sent %s that makes no sense", what);
	return false;
}

static void complete(struct receiver_source *s, struct question **at, enum fileops_result result, const struct err *why)
{
	struct question *q = *at;
	struct fileop *op = q->op;

	s->listed -= q->listed;
	*at = q->next;
	free_question(q);
	op->result = result;
	if (result != FILEOPS_OK && why != NULL && why->class != ERR_NONE)
		op->err = *why;
	else if (result == FILEOPS_FAILED && op->err.class == ERR_NONE)
		err_set(&op->err, ERR_IO, "the source: the sender gave no reason");
	op->done(op);
}

static bool on_answer(struct receiver_source *s, const char *payload, size_t len, struct err *err)
{
	struct question **at;
	struct tcp_answer a;
	struct fileop *op;
	uint32_t id;

	if (!tcp_get_id(payload, len, &id) || *(at = find_question(s, id)) == NULL || (*at)->asked == TCP_LIST ||
	    (*at)->asked == TCP_OPEN || !tcp_get_answer((*at)->asked, payload, len, &a))
		return broken(err, "an answer");
	op = (*at)->op;
	if (a.result == FILEOPS_OK && a.state.look == LOOK_ABSENT)
		a.result = FILEOPS_GONE;
	receiver_owners_map(s->owners, &a.state.st);
	op->st = a.state.st;
	op->agreed = a.agreed;
	memcpy(op->digest, a.digest, sizeof(op->digest));
	op->copied = a.size;
	if (a.result == FILEOPS_OK && a.bytes.p != NULL) {
		op->bytes = malloc(a.bytes.len + 1);
		if (op->bytes == NULL) {
			complete(s, at, no_memory(op), NULL);
			return true;
		}
		memcpy(op->bytes, a.bytes.p, a.bytes.len);
		op->bytes[a.bytes.len] = '\0';
		op->n_bytes = a.bytes.len;
	}
	complete(s, at, (enum fileops_result)a.result, &a.why);
	return true;
}

static bool add_entry(struct receiver_source *s, struct question *q, const struct tcp_list_entry *e)
{
	bool gone = e->state.look == LOOK_ABSENT && !e->unknown;
	enum look look = gone ? e->archive.look : e->state.look;
	struct fileops_entry *entry;

	if ((gone && (!s->both_ways || !e->has_archive)) || path_is_temp(e->name.p, e->name.len) ||
	    !q->wish.keep(q->wish.ctx, e->name.p, e->name.len, look == LOOK_DIR))
		return true;
	entry = s->listed >= LISTED_MAX ? NULL : listing_add(&q->op->list, e->name.p, e->name.len);
	if (entry == NULL)
		return false;
	s->listed++;
	q->listed++;
	entry->st = e->state.st;
	receiver_owners_map(s->owners, &entry->st);
	/* Without a state it is not archived. */
	return !s->both_ways || e->unknown || listing_agree(&q->op->list, entry, &e->archive);
}

static void drop_entries(struct receiver_source *s, struct question *q)
{
	q->too_many = true;
	s->listed -= q->listed;
	q->listed = 0;
	listing_free(&q->op->list);
	listing_init(&q->op->list);
}

static bool on_listing(struct receiver_source *s, const char *payload, size_t len, struct err *err)
{
	struct question **at;
	struct tcp_listing l;
	struct tcp_list_entry e;
	struct reader r;
	struct question *q;

	if (!tcp_get_listing(payload, len, &r, &l) || *(at = find_question(s, l.id)) == NULL ||
	    (*at)->asked != TCP_LIST)
		return broken(err, "a listing");
	for (uint32_t i = 0; i < l.count; i++) {
		if (!tcp_next_entry(&r, &e))
			return broken(err, "a listing");
		if (!(*at)->too_many && !add_entry(s, *at, &e))
			drop_entries(s, *at);
	}
	if (!tcp_all_read(&r))
		return broken(err, "a listing");
	q = *at;
	if (l.result == FILEOPS_OK && !l.last)
		return true;
	if (l.result == FILEOPS_OK && !q->too_many) {
		listing_sort(&q->op->list);
		complete(s, at, FILEOPS_OK, NULL);
		return true;
	}
	listing_free(&q->op->list);
	if (q->too_many)
		err_set(&l.why, ERR_LIMIT, "the directory has more entries than this receiver has room for");
	complete(s, at, q->too_many ? FILEOPS_FAILED : (enum fileops_result)l.result, &l.why);
	return true;
}

/* The same numbers, but a name that was told meanwhile has another one here. */
static void ask_again(struct receiver_source *s, struct question *q)
{
	q->unless = false;
	buf_clear(&s->scratch);
	tcp_put_request(&s->scratch, TCP_LIST, &(struct tcp_request){ .id = q->id, .path = { q->path, q->path_len } });
	/* If the stream is lost, so is the session. */
	(void)tcp_stream_send_buf(s->stream, TCP_LIST, &s->scratch);
	tcp_stream_kick(s->stream);
}

static bool on_same(struct receiver_source *s, const char *payload, size_t len, struct err *err)
{
	bool good = len > 0 && len % 4 == 0;
	struct reader r;

	reader_init(&r, payload, len);
	s->holding = true;
	while (good && r.left > 0) {
		struct question **at = find_question(s, reader_u32(&r));

		good = *at != NULL && (*at)->unless && (*at)->listed == 0 && !(*at)->too_many;
		if (good && !receiver_owners_alike(s->owners)) {
			ask_again(s, *at);
		} else if (good) {
			(*at)->op->same = true;
			complete(s, at, FILEOPS_OK, NULL);
		}
	}
	s->holding = false;
	receiver_asks_send(&s->asks);
	return good || broken(err, "a listing");
}

/* ---- the old file ---- */

static void on_hashed(void *ctx)
{
	struct remote_file *f = ctx;
	struct fileop *op = f->opening;

	f->opening = NULL;
	op->result = FILEOPS_OK;
	op->done(op);
}

/* The open is complete with its hashes: it has left the questions, and waits with its file. */
static void hash_old(struct receiver_source *s, struct question **at, struct remote_file *f, uint32_t block)
{
	struct question *q = *at;

	f->opening = q->op;
	*at = q->next;
	free_question(q);
	f->old = (struct old_reading){
		.fd = f->base_fd, .size = f->base_size, .file = f->id, .block = block, .done = on_hashed, .ctx = f
	};
	receiver_old_start(s->old, &f->old);
}

static void on_told(void *ctx)
{
	(void)ctx; /* what follows is the sender's */
}

/* A signature, or hashes of smaller blocks from one of them on: each once a file, while its content is awaited. */
static bool on_ask_old(struct receiver_source *s, bool sign, const char *payload, size_t len, struct err *err)
{
	struct err none = ERR_INIT;
	struct remote_file *f;
	uint64_t first = 0;
	struct reader r;
	uint32_t block;

	reader_init(&r, payload, len);
	f = find_file(s, reader_u32(&r));
	block = reader_u32(&r);
	if (!sign)
		first = reader_u64(&r);
	if (r.failed || r.left > 0 || !(sign ? delta_block_valid(block) : tcp_block_valid(block)))
		return broken(err, "a question");
	if (f == NULL || !f->reading)
		return true; /* closed meanwhile */
	if (!f->asked || f->base_fd < 0 || f->asked_old[sign] || f->old.queued || first > f->base_size / block ||
	    (sign && (f->at > 0 || f->base_size / block > DELTA_BLOCKS_MAX)))
		return broken(err, "a question");
	f->asked_old[sign] = true;
	f->old = (struct old_reading){ .fd = f->base_fd, .size = f->base_size, .file = f->id, .done = on_told };
	f->old.block = block;
	f->old.at = first * block;
	f->old.tells_end = !sign;
	f->old.signer = sign ? delta_signer_new(block) : NULL;
	if (!sign || f->old.signer != NULL) {
		receiver_old_start(s->old, &f->old);
		return true;
	}
	err_set(&none, ERR_NOMEM, "out of memory for a signature");
	remote_file_fail(f, FILEOPS_FAILED, &none);
	return true;
}

static bool on_opened(struct receiver_source *s, const char *payload, size_t len, struct err *err)
{
	struct question **at;
	struct tcp_opened o;
	struct remote_file *f;
	struct fileop *op;

	if (!tcp_get_opened(payload, len, &o) || *(at = find_question(s, o.id)) == NULL || (*at)->asked != TCP_OPEN)
		return broken(err, "an opened file");
	op = (*at)->op;
	if (o.result != FILEOPS_OK) {
		complete(s, at, (enum fileops_result)o.result, &o.why);
		return true;
	}
	if (o.state.look != LOOK_FILE || find_file(s, o.file) != NULL)
		return broken(err, "an opened file");
	f = new_file(s, o.file);
	if (f == NULL) {
		complete(s, at, no_memory(op), NULL);
		return true;
	}
	receiver_owners_map(s->owners, &o.state.st);
	f->base_size = (*at)->base_size;
	f->base_fd = (*at)->base_fd;
	(*at)->base_fd = -1;
	op->file = (struct fileops_file){ .fd = -1, .impl = f };
	op->st = o.state.st;
	if (!o.wants_hashes || f->base_fd < 0) {
		complete(s, at, FILEOPS_OK, NULL);
		return true;
	}
	hash_old(s, at, f, o.block);
	return true;
}

/* Pieces of a file that was closed meanwhile are on their way still. */
static bool on_piece(struct receiver_source *s, uint8_t type, const char *payload, size_t len, struct err *err)
{
	struct tcp_span span;
	const char *content = NULL;
	enum fileops_result got;
	struct err why = ERR_INIT;
	struct remote_file *f;

	if (type == TCP_DATA ? !tcp_get_data(payload, len, &span, &content)
			     : !tcp_get_span((enum tcp_frame)type, payload, len, &span))
		return broken(err, "a piece of a file");
	if (type == TCP_DATA && !take_credit(s, span.len, err))
		return false;
	if (type == TCP_DATA)
		give_credit(s, span.len);
	f = find_file(s, span.file);
	if (f == NULL || !f->reading)
		return true;
	if (!f->asked || span.offset != f->at || span.len > f->to - f->at)
		return broken(err, "a piece of a file");
	f->at += span.len;
	if (type == TCP_DATA)
		got = f->sink.data(f->sink.ctx, span.offset, content, (size_t)span.len, &why);
	else if (type == TCP_HOLE)
		got = f->sink.hole(f->sink.ctx, span.offset, span.len, &why);
	else
		got = f->sink.copy(f->sink.ctx, span.offset, span.len, span.from, &why);
	if (got != FILEOPS_OK)
		remote_file_fail(f, got, &why);
	return true;
}

static bool on_end(struct receiver_source *s, const char *payload, size_t len, struct err *err)
{
	struct tcp_end e;
	struct remote_file *f;
	struct remote_sink sink;

	if (!tcp_get_end(payload, len, &e))
		return broken(err, "the end of a file");
	f = find_file(s, e.file);
	if (f == NULL)
		return true;
	receiver_owners_map(s->owners, &e.state.st);
	f->after = e.state;
	f->ended = true;
	if (!f->reading)
		return true;
	if (e.result == FILEOPS_OK && e.size != f->at)
		return broken(err, "the end of a file");
	f->reading = false;
	sink = f->sink;
	sink.end(sink.ctx, (enum fileops_result)e.result, e.size, e.digest, &e.why);
	return true;
}

bool receiver_source_frame(struct receiver_source *s, uint8_t type, const char *payload, size_t len, struct err *err)
{
	switch (type) {
	case TCP_ANSWER:
		return on_answer(s, payload, len, err);
	case TCP_LISTING:
		return on_listing(s, payload, len, err);
	case TCP_SAME:
		return on_same(s, payload, len, err);
	case TCP_OPENED:
		return on_opened(s, payload, len, err);
	case TCP_DATA:
	case TCP_HOLE:
	case TCP_COPY:
		return on_piece(s, type, payload, len, err);
	case TCP_END:
		return on_end(s, payload, len, err);
	case TCP_SIGN:
	case TCP_FINER:
		return on_ask_old(s, type == TCP_SIGN, payload, len, err);
	default:
		return broken(err, "a frame");
	}
}

static const struct fileops source_ops = {
	.look = source_look,
	.list = source_list,
	.list_unless = source_list_unless,
	.flush = source_flush,
	.readlink = source_readlink,
	.xattrs = source_xattrs,
	.digest = source_digest,
	.open = source_open,
	.restat = source_restat,
	.drop = source_drop,
};
