#include "transports/receiver_source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/path.h"
#include "transports/listing.h"
#include "transports/receiver_source_private.h"

/* Entries of listings that are under way. A directory that has more is not mirrored. */
#define LISTED_MAX (4u * 1024 * 1024)

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

static const struct fileops source_ops;

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
	s->owners = setup->owners;
	s->both_ways = setup->both_ways;
	s->parts = setup->parts;
	s->same = setup->same && receiver_owners_alike(s->owners);
	buf_init(&s->scratch, TCP_FRAME_MAX);
	receiver_asks_init(&s->asks, setup->stream);
	s->old = receiver_old_new(setup->loop, setup->stream, err);
	s->copies = receiver_copies_new(setup->loop, setup->stream, err);
	/* The other half of the credit is there for what is asked for. */
	s->primed = receiver_primed_new(setup->credit / 2);
	if (s->old == NULL || s->copies == NULL || s->primed == NULL) {
		if (err->class == ERR_NONE)
			err_set(err, ERR_NOMEM, "out of memory for a session");
		receiver_source_free(s);
		return NULL;
	}
	return s;
}

static void free_question(struct question *q)
{
	if (q->base_fd >= 0)
		(void)close(q->base_fd);
	free(q->path);
	free(q);
}

void receiver_source_free(struct receiver_source *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < RECEIVER_BUCKETS; i++) {
		while (s->files[i] != NULL) {
			struct remote_file *f = s->files[i];

			s->files[i] = f->next;
			remote_file_free(f);
		}
		while (s->questions[i] != NULL) {
			struct question *q = s->questions[i];

			s->questions[i] = q->next;
			free_question(q);
		}
	}
	receiver_old_free(s->old);
	receiver_copies_free(s->copies);
	receiver_primed_free(s->primed);
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
	struct tcp_item kept = *item;

	if (item->has_content && !receiver_take_credit(s, bytes->len, err))
		return false;
	receiver_owners_map(s->owners, &kept.state.st);
	if (!receiver_primed_add(s->primed, &kept) && item->has_content)
		receiver_give_credit(s, bytes->len);
	return true;
}

void receiver_source_unprime(struct receiver_source *s, const char *path, size_t len)
{
	struct primed p;

	if (receiver_primed_take(s->primed, path, len, false, &p)) {
		receiver_give_credit(s, p.content_len);
		free(p.content);
	}
	if (receiver_primed_take(s->primed, path, len, true, &p))
		free(p.content);
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
	q->next = s->questions[q->id % RECEIVER_BUCKETS];
	s->questions[q->id % RECEIVER_BUCKETS] = q;
	return q;
}

static struct question **find_question(struct receiver_source *s, uint32_t id)
{
	struct question **at = &s->questions[id % RECEIVER_BUCKETS];

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
	struct primed p;

	if (!receiver_primed_take(s->primed, path, len, true, &p))
		return ask(s, TCP_READLINK, op, &(struct tcp_request){ .path = { path, len } }, NULL);
	op->bytes = p.content;
	op->n_bytes = p.content_len;
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

static enum fileops_result open_primed(struct receiver_source *s, struct fileop *op, const struct primed *p)
{
	struct remote_file *f = remote_file_new(s, 0);

	if (f == NULL) {
		receiver_give_credit(s, p->content_len);
		free(p->content);
		return no_memory(op);
	}
	f->content = p->content;
	f->content_len = p->content_len;
	f->after = p->state;
	f->ended = true;
	memcpy(f->digest, p->digest, sizeof(f->digest));
	op->file = (struct fileops_file){ .fd = -1, .impl = f };
	op->st = f->after.st;
	return FILEOPS_OK;
}

static enum fileops_result source_open(void *end, struct fileop *op, const char *path, size_t len,
				       const struct fileops_file *base)
{
	struct receiver_source *s = end;
	struct tcp_request r = { .path = { path, len }, .old.look = LOOK_ABSENT };
	enum fileops_result got;
	struct primed p;
	struct question *q;
	int base_fd = -1;

	if (receiver_primed_take(s->primed, path, len, false, &p))
		return open_primed(s, op, &p);
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
	at = &s->files[f->id % RECEIVER_BUCKETS];
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	if (f->content == NULL) {
		buf_clear(&s->scratch);
		buf_add_u32(&s->scratch, f->id);
		(void)tcp_stream_send_buf(s->stream, TCP_CLOSE_FILE, &s->scratch);
		tcp_stream_kick(s->stream);
	} else {
		receiver_give_credit(s, f->content_len);
	}
	remote_file_free(f);
}

/* ---- what comes ---- */

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
		return receiver_broken(err, "an answer");
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
		return receiver_broken(err, "a listing");
	for (uint32_t i = 0; i < l.count; i++) {
		if (!tcp_next_entry(&r, &e))
			return receiver_broken(err, "a listing");
		if (!(*at)->too_many && !add_entry(s, *at, &e))
			drop_entries(s, *at);
	}
	if (!tcp_all_read(&r))
		return receiver_broken(err, "a listing");
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
	return good || receiver_broken(err, "a listing");
}

/* The open is complete with its hashes: it has left the questions, and waits with its file. */
static void hash_old(struct question **at, struct remote_file *f, uint32_t block)
{
	struct question *q = *at;

	*at = q->next;
	receiver_files_hash_old(f, q->op, block);
	free_question(q);
}

static bool on_opened(struct receiver_source *s, const char *payload, size_t len, struct err *err)
{
	struct question **at;
	struct tcp_opened o;
	struct remote_file *f;
	struct fileop *op;

	if (!tcp_get_opened(payload, len, &o) || *(at = find_question(s, o.id)) == NULL || (*at)->asked != TCP_OPEN)
		return receiver_broken(err, "an opened file");
	op = (*at)->op;
	if (o.result != FILEOPS_OK) {
		complete(s, at, (enum fileops_result)o.result, &o.why);
		return true;
	}
	if (o.state.look != LOOK_FILE || remote_file_find(s, o.file) != NULL)
		return receiver_broken(err, "an opened file");
	f = remote_file_new(s, o.file);
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
	hash_old(at, f, o.block);
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
	default:
		return receiver_files_frame(s, type, payload, len, err);
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
