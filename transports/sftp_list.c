/* sftp_list.c - reading on the target: whole directories, and the digest of a file's content. */
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/path.h"
#include "transports/listing.h"
#include "transports/sftp_task.h"

/* Requests for names that are under way: the second is usually the one that says that there are no more. */
#define AHEAD_FIRST 2u
#define AHEAD_MOST 4u
/* A server that never comes to an end. */
#define ENTRIES_MAX 4000000u
#define EMPTY_MAX 64u
/* Looks at entries that came without attributes. */
#define LOOKS_AHEAD 64u

/* A look at one entry, by its place; `t` is NULL while it is free. */
struct blind {
	struct task *t;
	size_t index;
};

struct list {
	struct fileops_wish wish; /* the engine's own lives for its call only */
	char handle[SFTP_HANDLE_MAX];
	size_t handle_len;
	struct listing found;
	unsigned ahead, empty;
	size_t looked;		 /* entries below have their attributes, or were asked for */
	bool eof, closed, blind; /* blind: some entries have none */
	struct blind looks[LOOKS_AHEAD];
};

static void list_done(struct task *t)
{
	if (t->has_handle)
		handle_give(t->o);
	listing_free(&((struct list *)t->extra)->found);
}

static void fail(struct task *t, enum err_class class, const char *what)
{
	if (t->result != FILEOPS_OK)
		return;
	err_set(&t->op->err, class, "%s: %s", t->verb, what);
	t->result = FILEOPS_FAILED;
}

static void ignore(void *ctx, struct sftp_packet *reply)
{
	(void)ctx;
	(void)reply;
}

/* Nobody waits for the answer to it. */
static void close_handle(struct sftp_ops *o, const char *handle, size_t len)
{
	uint32_t id;
	struct buf *out = sftp_client_begin(o->client, ignore, NULL, &id);

	if (out == NULL)
		return;
	sftp_put_handle(out, SFTP_CLOSE, id, (struct sftp_bytes){ handle, len });
	(void)sftp_client_end(o->client, id);
}

static void list_over(struct task *t)
{
	struct list *l = t->extra;

	if (t->result == FILEOPS_OK) {
		listing_sort(&l->found);
		t->op->list = l->found;
		listing_init(&l->found);
	}
	task_over(t, t->result);
}

/* ---- entries without attributes ---- */

static void look_more(struct task *t);

static void on_blind(void *ctx, struct sftp_packet *reply)
{
	struct blind *b = ctx;
	struct task *t = b->t;
	struct list *l = t->extra;
	struct sftp_attrs a;

	t->outstanding--;
	b->t = NULL;
	if (reply->type == SFTP_ATTRS && !sftp_get_attrs(reply, &a)) {
		sftp_client_malformed(t->client);
		return;
	}
	if (reply->type == SFTP_ATTRS)
		sftp_stat(&a, &l->found.v[b->index].st);
	look_more(t);
}

static struct blind *free_look(struct list *l)
{
	unsigned i = 0;

	while (l->looks[i].t != NULL) /* there are as many as replies to come */
		i++;
	return &l->looks[i];
}

static bool look_at(struct task *t, size_t index)
{
	struct list *l = t->extra;
	const struct fileops_entry *e = &l->found.v[index];
	struct blind *b = free_look(l);
	struct buf room, *out;
	uint32_t id;
	bool ok;

	(void)task_path(t->o, t->path, t->len, &room);
	(void)buf_add_byte(&room, '/');
	(void)buf_add(&room, e->name, e->len);
	out = sftp_client_begin(t->client, on_blind, b, &id);
	ok = out != NULL;
	if (ok) {
		sftp_put_path(out, SFTP_LSTAT, id, (struct sftp_bytes){ room.data, room.len });
		ok = sftp_client_end(t->client, id);
	}
	buf_done(&room);
	if (ok) {
		*b = (struct blind){ t, index };
		t->outstanding++;
	}
	return ok;
}

static void look_more(struct task *t)
{
	struct list *l = t->extra;

	for (; l->looked < l->found.n && t->outstanding < LOOKS_AHEAD && t->result == FILEOPS_OK; l->looked++)
		if (l->found.v[l->looked].st.st_mode == 0 && !look_at(t, l->looked))
			fail(t, ERR_LIMIT, "too many requests");
	if (t->outstanding == 0)
		list_over(t);
}

/* ---- names ---- */

static void read_more(struct task *t);

static void take_entry(struct task *t, struct sftp_bytes name, const struct sftp_attrs *a)
{
	struct list *l = t->extra;
	struct fileops_entry *e;
	struct stat st;

	/* What is no name can't be on the source either; it is left alone. */
	if (!path_name_valid(name.p, name.n))
		return;
	sftp_stat(a, &st);
	if (!l->wish.keep(l->wish.ctx, name.p, name.n, S_ISDIR(st.st_mode)))
		return;
	e = l->found.n < ENTRIES_MAX ? listing_add(&l->found, name.p, name.n) : NULL;
	if (e == NULL) {
		fail(t, ERR_LIMIT, "more entries than there is memory for");
		return;
	}
	e->st = st;
	l->blind = l->blind || st.st_mode == 0;
}

static bool take_names(struct task *t, struct sftp_packet *reply)
{
	struct list *l = t->extra;
	struct sftp_bytes name;
	struct sftp_attrs a;
	uint32_t n;

	if (!sftp_get_names(reply, &n))
		return false;
	l->empty = n == 0 ? l->empty + 1 : 0;
	if (l->empty > EMPTY_MAX)
		fail(t, ERR_PROTOCOL, "the server never comes to an end");
	for (uint32_t i = 0; i < n && t->result == FILEOPS_OK; i++) {
		if (!sftp_get_name(reply, &name, &a))
			return false;
		take_entry(t, name, &a);
	}
	return true;
}

static void on_names(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	struct list *l = t->extra;
	struct sftp_status_reply s;

	t->outstanding--;
	if (sftp_get_status(reply, &s)) {
		enum fileops_result r = s.code == SFTP_EOF ? FILEOPS_OK : sftp_result(t->verb, &s, &t->op->err);

		if (s.code == SFTP_EOF)
			l->eof = true;
		else if (t->result == FILEOPS_OK)
			t->result = r == FILEOPS_OK ? FILEOPS_FAILED : r;
	} else if (!take_names(t, reply)) {
		sftp_client_malformed(t->client);
		return;
	} else if (l->ahead < AHEAD_MOST) {
		l->ahead++;
	}
	read_more(t);
}

static void send_readdir(struct task *t)
{
	const struct list *l = t->extra;
	uint32_t id;
	struct buf *out = task_request(t, on_names, &id);

	if (out != NULL)
		sftp_put_handle(out, SFTP_READDIR, id, (struct sftp_bytes){ l->handle, l->handle_len });
	if (out == NULL || !task_send(t, id))
		fail(t, ERR_LIMIT, "too many requests");
}

static void read_more(struct task *t)
{
	struct list *l = t->extra;

	while (!l->eof && t->result == FILEOPS_OK && t->outstanding < l->ahead)
		send_readdir(t);
	if (t->outstanding > 0)
		return;
	if (!l->closed) {
		l->closed = true;
		close_handle(t->o, l->handle, l->handle_len);
	}
	if (t->result == FILEOPS_OK && l->blind)
		look_more(t);
	else
		list_over(t);
}

static void on_opened(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	struct list *l = t->extra;

	t->outstanding--;
	if (!task_refused(t, reply) && task_take_handle(t, reply, l->handle, &l->handle_len))
		read_more(t);
}

static void run_list(struct task *t)
{
	struct buf room, *out;
	struct sftp_bytes path;
	uint32_t id;

	if (!handle_take(t))
		return;
	path = task_path(t->o, t->path, t->len, &room);
	out = task_request(t, on_opened, &id);
	t->result = FILEOPS_OK;
	if (out != NULL)
		sftp_put_path(out, SFTP_OPENDIR, id, path);
	buf_done(&room);
	if (out == NULL || !task_send(t, id)) {
		fail(t, ERR_LIMIT, "too many requests");
		task_over(t, t->result);
	}
}

enum fileops_result sftp_op_list(void *end, struct fileop *op, const char *path, size_t len,
				 const struct fileops_wish *wish)
{
	struct sftp_ops *o = end;
	struct task *t;
	struct list *l;

	if (!sftp_client_ready(o->client))
		return FILEOPS_DOWN;
	t = task_new(o, op, "list", path, len, sizeof(*l));
	if (t == NULL) {
		err_set(&op->err, ERR_NOMEM, "out of memory");
		return FILEOPS_FAILED;
	}
	l = t->extra;
	l->wish = *wish;
	l->ahead = AHEAD_FIRST;
	listing_init(&l->found);
	t->self = true; /* opening it would follow a symlink */
	t->done = list_done;
	t->run = run_list;
	return task_start(t);
}

/* ---- digest ---- */

#define SLOTS 4u
#define SLOT_BYTES (32u * 1024)

struct slot {
	struct task *t;
	char *data;
	uint64_t at;
	uint32_t want, have;
	bool asked;
};

struct digest {
	XXH3_state_t *state;
	char handle[SFTP_HANDLE_MAX];
	size_t handle_len;
	struct slot slots[SLOTS];
	unsigned head; /* the slot that is hashed next */
	uint64_t next, size;
	bool eof;
};

static void digest_done(struct task *t)
{
	struct digest *d = t->extra;

	for (unsigned i = 0; i < SLOTS; i++)
		free(d->slots[i].data);
	if (t->has_handle)
		handle_give(t->o);
	(void)XXH3_freeState(d->state);
}

static void digest_more(struct task *t);

static void on_data(void *ctx, struct sftp_packet *reply)
{
	struct slot *s = ctx;
	struct task *t = s->t;
	struct digest *d = t->extra;
	struct sftp_bytes data;
	struct sftp_status_reply status;

	t->outstanding--;
	s->asked = false;
	if (sftp_get_status(reply, &status)) {
		if (status.code == SFTP_EOF || status.code == SFTP_OK) {
			s->want = s->have; /* it became shorter */
			d->eof = true;
		} else if (t->result == FILEOPS_OK) {
			t->result = sftp_result(t->verb, &status, &t->op->err);
		}
	} else if (!sftp_get_data(reply, &data) || data.n == 0 || data.n > s->want - s->have) {
		sftp_client_malformed(t->client);
		return;
	} else {
		memcpy(s->data + s->have, data.p, data.n);
		s->have += (uint32_t)data.n;
	}
	digest_more(t);
}

static bool ask_slot(struct task *t, unsigned i)
{
	struct digest *d = t->extra;
	struct slot *s = &d->slots[i];
	struct buf *out;
	uint32_t id;

	s->t = t;
	if (s->data == NULL)
		s->data = malloc(SLOT_BYTES);
	out = s->data == NULL ? NULL : sftp_client_begin(t->client, on_data, s, &id);
	if (out != NULL)
		sftp_put_read(out, id, (struct sftp_bytes){ d->handle, d->handle_len }, s->at + s->have,
			      s->want - s->have);
	if (out == NULL || !sftp_client_end(t->client, id)) {
		fail(t, ERR_LIMIT, "too many requests, or out of memory");
		return false;
	}
	s->asked = true;
	t->outstanding++;
	return true;
}

static void digest_over(struct task *t)
{
	struct digest *d = t->extra;
	XXH128_canonical_t canonical;

	close_handle(t->o, d->handle, d->handle_len);
	if (t->result == FILEOPS_OK) {
		XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(d->state));
		memcpy(t->op->digest, canonical.digest, sizeof(t->op->digest));
	}
	task_over(t, t->result);
}

/* Hash what is complete, in order, and ask for what follows. */
static void digest_more(struct task *t)
{
	struct digest *d = t->extra;
	struct slot *s = &d->slots[d->head];

	while (t->result == FILEOPS_OK && s->want > 0 && !s->asked && s->have == s->want) {
		(void)XXH3_128bits_update(d->state, s->data, s->have);
		t->op->copied += s->have;
		s->want = s->have = 0;
		d->head = (d->head + 1) % SLOTS;
		s = &d->slots[d->head];
	}
	for (unsigned i = 0; i < SLOTS && t->result == FILEOPS_OK; i++) {
		unsigned n = (d->head + i) % SLOTS;

		s = &d->slots[n];
		if (s->want == 0 && d->next < d->size && !d->eof) {
			uint64_t left = d->size - d->next;

			*s = (struct slot){ .data = s->data,
					    .at = d->next,
					    .want = left < SLOT_BYTES ? (uint32_t)left : SLOT_BYTES };
			d->next += s->want;
		}
		if (s->want > s->have && !s->asked)
			(void)ask_slot(t, n);
	}
	if (t->outstanding == 0)
		digest_over(t);
}

static void on_size(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	struct digest *d = t->extra;
	struct sftp_attrs a = { 0 };

	t->outstanding--;
	if (reply->type == SFTP_ATTRS && !sftp_get_attrs(reply, &a)) {
		sftp_client_malformed(t->client);
		return;
	}
	d->size = (a.flags & SFTP_ATTR_SIZE) != 0 ? a.size : UINT64_MAX;
	digest_more(t);
}

static void on_file(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	struct digest *d = t->extra;
	struct buf *out;
	uint32_t id;

	t->outstanding--;
	if (task_refused(t, reply) || !task_take_handle(t, reply, d->handle, &d->handle_len))
		return;
	out = task_request(t, on_size, &id);
	if (out != NULL)
		sftp_put_handle(out, SFTP_FSTAT, id, (struct sftp_bytes){ d->handle, d->handle_len });
	if (out == NULL || !task_send(t, id)) {
		fail(t, ERR_LIMIT, "too many requests");
		digest_over(t);
	}
}

static void run_digest(struct task *t)
{
	const struct sftp_attrs none = { 0 };
	struct buf room, *out;
	struct sftp_bytes path;
	uint32_t id;

	if (!handle_take(t))
		return;
	path = task_path(t->o, t->path, t->len, &room);
	out = task_request(t, on_file, &id);
	t->result = FILEOPS_OK;
	if (out != NULL)
		sftp_put_open(out, id, path, SFTP_O_READ, &none);
	buf_done(&room);
	if (out == NULL || !task_send(t, id)) {
		fail(t, ERR_LIMIT, "too many requests");
		task_over(t, t->result);
	}
}

enum fileops_result sftp_op_digest(void *end, struct fileop *op, const char *path, size_t len)
{
	struct sftp_ops *o = end;
	struct task *t;
	struct digest *d;

	if (!sftp_client_ready(o->client))
		return FILEOPS_DOWN;
	op->copied = 0;
	t = task_new(o, op, "read", path, len, sizeof(*d));
	d = t == NULL ? NULL : t->extra;
	if (d != NULL) {
		t->done = digest_done;
		t->run = run_digest;
		d->state = XXH3_createState();
	}
	if (d == NULL || d->state == NULL) {
		if (t != NULL)
			task_free(t);
		err_set(&op->err, ERR_NOMEM, "out of memory");
		return FILEOPS_FAILED;
	}
	(void)XXH3_128bits_reset(d->state);
	return task_start(t);
}
