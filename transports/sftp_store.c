/*
 * sftp_store.c - content and attributes of a file: the writes, then the attributes, then the close, all sent without
 * waiting for each other's replies. Files take turns, one write each, so that a large one does not hold up small ones.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "transports/sftp_task.h"

enum asked { ASKED_OWNER = 1u << 0, ASKED_GROUP = 1u << 1, ASKED_MODE = 1u << 2, ASKED_TIME = 1u << 3 };

/* Which attributes a request was about travels as the callback. */
struct setting {
	const struct fileops_attrs *attrs;
	struct sftp_file *file;	 /* by handle; NULL: by name */
	struct sftp_attrs owner; /* asked for along with the rest */
	bool looking; /* the owner that it has is being looked up, or whether it may have that one is waited for */
};

struct store {
	struct setting set; /* first: shared with attributes by name */
	const struct fileops_store *what;
	uint64_t at, data_end; /* next byte to send; where the data that is known to be there ends */
	uint64_t end;
	bool extend; /* it ends with a hole */
	bool ended;  /* all content is sent, and attributes as far as they are known */
	bool sent;   /* nothing more will be sent */
};

static void note_failure(struct task *t, enum fileops_result r)
{
	if (t->result == FILEOPS_OK)
		t->result = r;
}

/* ---- attributes ---- */

static void send_attrs(struct task *t, const struct sftp_attrs *a, sftp_reply_fn *fn)
{
	const struct setting *s = t->extra;
	struct buf room;
	uint32_t id;
	struct buf *out = task_request(t, fn, &id);
	bool ok = out != NULL;

	if (ok && s->file != NULL) {
		sftp_put_attrs(out, SFTP_FSETSTAT, id, (struct sftp_bytes){ s->file->handle, s->file->handle_len }, a);
	} else if (ok) {
		struct sftp_bytes path = task_path(t->o, t->path, t->len, &room);

		/* OpenSSH sets no mode by lsetstat in a chroot without /proc; who asks for one has seen no symlink. */
		if ((sftp_client_extensions(t->client) & SFTP_EXT_LSETSTAT) != 0 &&
		    (a->flags & SFTP_ATTR_PERMISSIONS) == 0)
			sftp_put_ext_attrs(out, id, sftp_extension_name(SFTP_EXT_LSETSTAT), path, a);
		else
			sftp_put_attrs(out, SFTP_SETSTAT, id, path, a);
		buf_done(&room);
	}
	if (!ok || !task_send(t, id)) {
		err_set(&t->op->err, ERR_LIMIT, "%s: too many requests", t->verb);
		note_failure(t, FILEOPS_FAILED);
	}
}

static void progress(struct task *t);

/* What may not be set is told, and no failure. */
static void on_owner(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	struct err kept = t->op->err;
	enum fileops_result r = task_status(t, reply);

	t->outstanding--;
	if (r == FILEOPS_DOWN)
		return;
	if (r == FILEOPS_DENIED || r == FILEOPS_UNABLE || r == FILEOPS_FAILED) {
		const struct setting *s = t->extra;

		t->op->unmet |= s->attrs->mask & (FILEOPS_OWNER | FILEOPS_GROUP);
		t->op->err = kept;
	} else if (r != FILEOPS_OK) {
		note_failure(t, r);
	}
	progress(t);
}

static void on_set(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	struct err kept = t->op->err;
	enum fileops_result r = task_status(t, reply);

	t->outstanding--;
	if (r == FILEOPS_DOWN)
		return;
	if (r == FILEOPS_UNABLE) {
		t->op->unmet |= FILEOPS_MODE | FILEOPS_MTIME;
		t->op->err = kept;
	} else if (r != FILEOPS_OK) {
		note_failure(t, r);
	}
	progress(t);
}

static uint32_t seconds(time_t t)
{
	return t < 0 ? 0 : t > UINT32_MAX ? UINT32_MAX : (uint32_t)t;
}

static struct sftp_attrs rest_of(const struct fileops_attrs *want)
{
	struct sftp_attrs a = { 0 };

	if ((want->mask & FILEOPS_MODE) != 0 && !S_ISLNK(want->type)) {
		a.flags |= SFTP_ATTR_PERMISSIONS;
		a.mode = want->mode & 07777;
	}
	if ((want->mask & FILEOPS_MTIME) != 0) {
		a.flags |= SFTP_ATTR_TIMES;
		a.mtime = seconds(want->mtime.tv_sec);
		a.atime = seconds((time_t)(clock_real_ns() / NS_PER_S));
	}
	return a;
}

/* Mode and times after the owner: a change of owner clears the set-id bits. */
static void send_rest(struct task *t)
{
	const struct setting *s = t->extra;
	struct sftp_attrs a = rest_of(s->attrs);

	if (a.flags != 0)
		send_attrs(t, &a, on_set);
}

/* A server does all that it can and names one failure, or gives up at the first: only one by one do they tell. */
static void on_all(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	struct setting *s = t->extra;
	struct err kept = t->op->err;
	enum fileops_result r = task_status(t, reply);

	t->outstanding--;
	if (r == FILEOPS_DOWN)
		return;
	s->looking = false;
	if (r == FILEOPS_OK) {
		t->o->gives = (struct sftp_self){ .uid = s->owner.uid, .gid = s->owner.gid, .known = true };
	} else {
		t->op->err = kept;
		send_attrs(t, &s->owner, on_owner);
		send_rest(t);
	}
	progress(t);
}

/* Owner, then the rest. Of an open file in one request: what a small file costs a server is requests. Whether it gives
 * this owner is waited for once. Not with set-id bits: it may change the owner last, and clear them. */
static void send_all(struct task *t, const struct sftp_attrs *owner)
{
	struct setting *s = t->extra;
	const struct sftp_self *gives = &t->o->gives;
	struct sftp_attrs all = rest_of(s->attrs);

	if (s->file == NULL || all.flags == 0 || (all.mode & 07000) != 0) {
		send_attrs(t, owner, on_owner);
		send_rest(t);
		return;
	}
	all.flags |= owner->flags;
	all.uid = owner->uid;
	all.gid = owner->gid;
	if (gives->known && gives->uid == owner->uid && gives->gid == owner->gid) {
		send_attrs(t, &all, on_set);
		return;
	}
	s->owner = *owner;
	s->looking = true;
	send_attrs(t, &all, on_all);
}

/* Owner and group always travel together. Who is not root there can only give its own files another group: the owner
 * that it has anyway is named then. */
static bool plan_owner(const struct task *t, struct sftp_attrs *a, unsigned *unmet)
{
	const struct setting *s = t->extra;
	const struct fileops_attrs *want = s->attrs;
	const struct sftp_self *self = &t->o->self;
	bool owner = (want->mask & FILEOPS_OWNER) != 0, group = (want->mask & FILEOPS_GROUP) != 0;

	*a = (struct sftp_attrs){ .flags = SFTP_ATTR_UIDGID, .uid = want->uid, .gid = want->gid };
	if (owner && self->known && self->uid != 0 && want->uid != self->uid) {
		*unmet |= FILEOPS_OWNER;
		owner = false;
	}
	if (owner && group)
		return true;
	if (!owner && !group)
		return false;
	if (s->file != NULL && s->file->owned) {
		a->uid = owner ? want->uid : s->file->uid;
		a->gid = group ? want->gid : s->file->gid;
		return true;
	}
	if (!owner && self->known && self->uid != 0) {
		a->uid = self->uid;
		return true;
	}
	a->flags = 0; /* the other one has to be looked up */
	return true;
}

static void on_other(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	const struct setting *s = t->extra;
	const struct fileops_attrs *want = s->attrs;
	struct sftp_attrs a;

	t->outstanding--;
	if (reply->type == SFTP_STATUS) {
		enum fileops_result r = task_status(t, reply);

		if (r == FILEOPS_DOWN)
			return;
		note_failure(t, r == FILEOPS_OK ? FILEOPS_FAILED : r);
		((struct setting *)t->extra)->looking = false;
		progress(t);
		return;
	}
	if (!sftp_get_attrs(reply, &a)) {
		sftp_client_malformed(t->client);
		return;
	}
	if ((a.flags & SFTP_ATTR_UIDGID) != 0) {
		a.flags = SFTP_ATTR_UIDGID;
		if ((want->mask & FILEOPS_OWNER) != 0 && (t->op->unmet & FILEOPS_OWNER) == 0)
			a.uid = want->uid;
		if ((want->mask & FILEOPS_GROUP) != 0)
			a.gid = want->gid;
		send_attrs(t, &a, on_owner);
	}
	send_rest(t);
	((struct setting *)t->extra)->looking = false;
	progress(t);
}

/* Sends them; or looks the owner up first, and they follow then. */
static void send_settings(struct task *t)
{
	struct setting *s = t->extra;
	struct sftp_attrs a;
	struct buf room, *out;
	uint32_t id;

	t->op->unmet |= s->attrs->mask & FILEOPS_XATTR;
	if (!plan_owner(t, &a, &t->op->unmet)) {
		send_rest(t);
		return;
	}
	if (a.flags != 0) {
		send_all(t, &a);
		return;
	}
	out = task_request(t, on_other, &id);
	if (out != NULL && s->file != NULL) {
		sftp_put_handle(out, SFTP_FSTAT, id, (struct sftp_bytes){ s->file->handle, s->file->handle_len });
	} else if (out != NULL) {
		sftp_put_path(out, SFTP_LSTAT, id, task_path(t->o, t->path, t->len, &room));
		buf_done(&room);
	}
	if (out == NULL || !task_send(t, id)) {
		err_set(&t->op->err, ERR_LIMIT, "%s: too many requests", t->verb);
		note_failure(t, FILEOPS_FAILED);
		return;
	}
	s->looking = true;
}

static void run_attrs(struct task *t)
{
	const struct setting *s = t->extra;

	t->result = FILEOPS_OK;
	/* Without lsetstat a request would change what the symlink points to. */
	if (S_ISLNK(s->attrs->type) && (sftp_client_extensions(t->client) & SFTP_EXT_LSETSTAT) == 0)
		t->op->unmet |= s->attrs->mask & ~(unsigned)FILEOPS_MODE;
	else
		send_settings(t);
	if (t->outstanding == 0)
		task_over(t, t->result);
}

enum fileops_result sftp_op_attrs(void *end, struct fileop *op, const char *path, size_t len,
				  const struct fileops_attrs *attrs)
{
	struct sftp_ops *o = end;
	struct task *t;

	if (!sftp_client_ready(o->client))
		return FILEOPS_DOWN;
	op->unmet = 0;
	t = task_new(o, op, "set attributes", path, len, sizeof(struct setting));
	if (t == NULL) {
		err_set(&op->err, ERR_NOMEM, "out of memory");
		return FILEOPS_FAILED;
	}
	((struct setting *)t->extra)->attrs = attrs;
	t->run = run_attrs;
	return task_start(t);
}

/* ---- content ---- */

/* So much of what an earlier connection left is read back. */
#define CHECKED_BYTES 32768u

static struct store *store_of(struct task *t)
{
	return t->extra;
}

static void on_written(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	enum fileops_result r = task_status(t, reply);

	t->outstanding--;
	if (r == FILEOPS_DOWN)
		return;
	note_failure(t, r);
	progress(t);
}

static void on_closed(void *ctx, struct sftp_packet *reply)
{
	on_written(ctx, reply);
}

static void send_close(struct task *t)
{
	struct store *s = store_of(t);
	uint32_t id;
	struct buf *out = task_request(t, on_closed, &id);

	s->sent = true;
	if (out == NULL) {
		err_set(&t->op->err, ERR_LIMIT, "%s: too many requests", t->verb);
		note_failure(t, FILEOPS_FAILED);
		return;
	}
	sftp_put_handle(out, SFTP_CLOSE, id, (struct sftp_bytes){ s->set.file->handle, s->set.file->handle_len });
	(void)task_send(t, id);
}

/* All content is sent. */
static void send_end(struct task *t)
{
	struct store *s = store_of(t);
	struct sftp_attrs size = { .flags = SFTP_ATTR_SIZE, .size = s->end };

	if (s->extend)
		send_attrs(t, &size, on_set);
	if (s->set.attrs != NULL)
		send_settings(t);
	s->ended = true;
	if (!s->set.looking)
		send_close(t);
}

/* The end of the hole at `at`, or how long the data there is. */
static void skip_hole(struct task *t)
{
	struct store *s = store_of(t);
	int fd = s->what->from->fd;
	off_t data, hole;

	if (!s->what->sparse || s->at < s->data_end)
		return;
	data = lseek(fd, (off_t)s->at, SEEK_DATA);
	if (data < 0 && errno == ENXIO) {
		s->extend = s->at < s->end;
		s->at = s->data_end = s->end;
		return;
	}
	hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
	if (data < 0 || hole < 0) {
		s->data_end = UINT64_MAX; /* that file system can't tell */
		return;
	}
	if ((uint64_t)data >= s->end) {
		s->extend = s->at < s->end;
		s->at = s->data_end = s->end;
		return;
	}
	s->at = (uint64_t)data;
	s->data_end = (uint64_t)hole;
}

/* Reads into the scratch buffer; 0: the source is shorter than it was. */
static ssize_t read_source(struct task *t, size_t n)
{
	const struct store *s = store_of(t);
	ssize_t got;

	do
		got = pread(s->what->from->fd, t->o->scratch, n, (off_t)s->at);
	while (got < 0 && errno == EINTR);
	if (got < 0) {
		err_errno(&t->op->err, errno, "reading the source");
		t->op->err.class = ERR_IO;
		note_failure(t, FILEOPS_FAILED);
	}
	return got;
}

static size_t piece(const struct task *t)
{
	const struct store *s = t->extra;
	uint64_t most = sftp_client_limits(t->client)->write, left;

	left = (s->what->sparse && s->data_end < s->end ? s->data_end : s->end) - s->at;
	return (size_t)(left < most ? left : most);
}

/* One write. false: there is nothing more to send of it. */
static bool send_piece(struct task *t)
{
	struct store *s = store_of(t);
	const struct sftp_bytes handle = { s->set.file->handle, s->set.file->handle_len };
	ssize_t n;
	uint32_t id;
	struct buf *out;

	skip_hole(t);
	if (s->at >= s->end || t->result != FILEOPS_OK)
		return false;
	n = read_source(t, piece(t));
	if (n <= 0) {
		s->end = s->at;
		return false;
	}
	out = task_request(t, on_written, &id);
	if (out != NULL)
		sftp_put_write(out, id, handle, s->at, (struct sftp_bytes){ t->o->scratch, (size_t)n });
	if (out == NULL || !task_send(t, id)) {
		err_set(&t->op->err, ERR_LIMIT, "%s: too many requests", t->verb);
		note_failure(t, FILEOPS_FAILED);
		return false;
	}
	s->at += (uint64_t)n;
	t->op->copied += (uint64_t)n;
	if (s->what->throttle != NULL)
		throttle_took(s->what->throttle, clock_mono_ns(), (uint64_t)n);
	return s->at < s->end;
}

static int64_t wait_of(const struct task *t)
{
	const struct store *s = t->extra;

	return s->what->throttle == NULL ? 0 : throttle_wait_ns(s->what->throttle, clock_mono_ns());
}

/* Whether there is to be a pause; then somebody will go on after it. */
static bool has_to_pause(struct task *t)
{
	int64_t wait = wait_of(t);

	if (wait > 0 && !loop_timer_armed(t->o->throttle_timer))
		loop_timer_after(t->o->throttle_timer, wait);
	return wait > 0;
}

/* Sends what there is room for. false: more is to be sent later. */
static bool push(struct task *t)
{
	struct store *s = store_of(t);

	while (s->at < s->end && t->result == FILEOPS_OK) {
		if (has_to_pause(t) || !sftp_client_room(t->client))
			return false;
		if (!send_piece(t))
			break;
		if (t->o->stores.head != NULL)
			return false; /* it is another one's turn */
	}
	if (t->result == FILEOPS_OK)
		send_end(t);
	else
		send_close(t);
	return true;
}

/* A reply came. */
static void progress(struct task *t)
{
	struct setting *set = t->extra;
	struct store *s;

	if (set->file == NULL) {
		if (t->outstanding == 0)
			task_over_explained(t, t->result);
		return;
	}
	s = t->extra;
	if (s->ended && !s->sent && !set->looking)
		send_close(t);
	if (s->sent && t->outstanding == 0)
		task_over_explained(t, t->result);
}

static bool has_room(const struct sftp_ops *o)
{
	for (unsigned i = 0; i < o->n_more; i++)
		if (sftp_client_room(o->more[i]))
			return true;
	return sftp_client_room(o->client);
}

/* The next one's turn. false: it had nothing of it. */
static bool pump_one(struct sftp_ops *o)
{
	struct task *t = queue_take(&o->stores);
	struct store *s = store_of(t);
	uint64_t at = s->at;

	if (push(t)) {
		if (s->sent && t->outstanding == 0)
			task_over(t, t->result);
		return true;
	}
	queue_put(&o->stores, t);
	return s->at != at;
}

static unsigned waiting(const struct sftp_ops *o)
{
	unsigned n = 0;

	for (const struct task *t = o->stores.head; t != NULL; t = t->next)
		n++;
	return n;
}

void sftp_stores_pump(struct sftp_ops *o)
{
	/* One whose connection has no room is passed over; with one connection that is all of them. */
	unsigned idle = 0, all = o->n_more == 0 ? 1 : waiting(o);

	if (o->pumping)
		return;
	o->pumping = true;
	while (o->stores.head != NULL && sftp_client_ready(o->client) && idle < all && has_room(o) &&
	       !has_to_pause(o->stores.head))
		idle = pump_one(o) ? 0 : idle + 1;
	o->pumping = false;
	if (sftp_client_ready(o->client))
		sftp_fileops.flush(o);
}

/* ---- going on with what an earlier connection left ---- */

static void start_sending(struct task *t);

static bool equals_source(struct task *t, uint64_t offset, const struct sftp_bytes *data)
{
	ssize_t got;

	do
		got = pread(store_of(t)->what->from->fd, t->o->scratch, data->n, (off_t)offset);
	while (got < 0 && errno == EINTR);
	return data->n > 0 && got == (ssize_t)data->n && memcmp(t->o->scratch, data->p, data->n) == 0;
}

static void on_before(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	uint64_t from = store_of(t)->at > CHECKED_BYTES ? store_of(t)->at - CHECKED_BYTES : 0;
	struct sftp_bytes data = { 0 };

	t->outstanding--;
	if (reply->type == SFTP_STATUS && task_status(t, reply) == FILEOPS_DOWN)
		return;
	if (reply->type != SFTP_STATUS && (!sftp_get_data(reply, &data) || data.n > CHECKED_BYTES)) {
		sftp_client_malformed(t->client);
		return;
	}
	if (equals_source(t, from, &data)) {
		start_sending(t);
		sftp_stores_pump(t->o);
		return;
	}
	err_set(&t->op->err, ERR_AGAIN, "write: what is left of an earlier transfer is not what was sent");
	note_failure(t, FILEOPS_FAILED);
	send_close(t);
	if (t->outstanding == 0)
		task_over(t, t->result);
}

/* What stands just before is read back: it has the name of a part that we left, and that is all that is known of it. */
static bool ask_before(struct task *t)
{
	const struct store *s = store_of(t);
	uint32_t id, n = s->at > CHECKED_BYTES ? CHECKED_BYTES : (uint32_t)s->at;
	struct buf *out = task_request(t, on_before, &id);

	if (out != NULL)
		sftp_put_read(out, id, (struct sftp_bytes){ s->set.file->handle, s->set.file->handle_len }, s->at - n,
			      n);
	return out != NULL && task_send(t, id);
}

static void run_store(struct task *t)
{
	t->result = FILEOPS_OK;
	if (store_of(t)->at == 0) {
		start_sending(t);
	} else if (!ask_before(t)) {
		err_set(&t->op->err, ERR_LIMIT, "%s: too many requests", t->verb);
		task_over(t, FILEOPS_FAILED);
	}
}

static void start_sending(struct task *t)
{
	if (!push(t)) {
		queue_put(&t->o->stores, t);
	} else if (t->outstanding == 0) {
		task_over(t, t->result);
	}
}

static void store_done(struct task *t)
{
	handle_give(t->o);
	free(store_of(t)->set.file);
}

enum fileops_result sftp_op_store(void *end, struct fileop *op, struct fileops_file *file,
				  const struct fileops_store *what)
{
	struct sftp_ops *o = end;
	struct task *t = sftp_client_ready(o->client) ? task_new(o, op, "write", "", 0, sizeof(struct store)) : NULL;
	struct store *s;

	op->unmet = 0;
	op->copied = what->offset;
	if (t == NULL) {
		sftp_fileops.drop(o, file);
		err_set(&op->err, ERR_NOMEM, "out of memory");
		return sftp_client_ready(o->client) ? FILEOPS_FAILED : FILEOPS_DOWN;
	}
	s = t->extra;
	s->what = what;
	s->at = what->offset;
	s->end = what->size;
	s->set.attrs = what->attrs;
	s->set.file = file->impl;
	t->client = s->set.file->client;
	*file = (struct fileops_file){ .fd = -1 };
	t->done = store_done;
	t->run = run_store;
	return task_start(t);
}
