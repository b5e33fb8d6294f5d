#include "transports/sftp_ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/path.h"
#include "transports/listing.h"
#include "transports/sftp_task.h"

/* The least a scratch buffer has to hold: one WRITE's content. */
#define SCRATCH (256u * 1024)

/* ---- tasks ---- */

void queue_init(struct task_queue *q)
{
	q->head = NULL;
	q->tail = &q->head;
}

void queue_put(struct task_queue *q, struct task *t)
{
	t->next = NULL;
	*q->tail = t;
	q->tail = &t->next;
}

struct task *queue_take(struct task_queue *q)
{
	struct task *t = q->head;

	if (t == NULL)
		return NULL;
	q->head = t->next;
	if (q->head == NULL)
		q->tail = &q->head;
	return t;
}

struct task *task_new_two(struct sftp_ops *o, struct fileop *op, const char *verb, struct sftp_bytes path,
			  struct sftp_bytes to, size_t extra)
{
	size_t head = sizeof(struct task) + (extra + 15) / 16 * 16;
	struct task *t = calloc(1, head + path.n + to.n + 2);

	if (t == NULL)
		return NULL;
	t->o = o;
	t->client = o->client;
	t->op = op;
	t->verb = verb;
	t->extra = t + 1;
	t->path = (char *)t + head;
	t->len = path.n;
	t->to = t->path + path.n + 1;
	t->to_len = to.n;
	memcpy(t->path, path.p, path.n);
	memcpy(t->to, to.p, to.n);
	t->newer = o->tasks;
	t->at = &o->tasks;
	if (t->newer != NULL)
		t->newer->at = &t->newer;
	o->tasks = t;
	return t;
}

struct task *task_new(struct sftp_ops *o, struct fileop *op, const char *verb, const char *path, size_t len,
		      size_t extra)
{
	return task_new_two(o, op, verb, (struct sftp_bytes){ path, len }, (struct sftp_bytes){ "", 0 }, extra);
}

void task_free(struct task *t)
{
	if (t->done != NULL)
		t->done(t);
	*t->at = t->newer;
	if (t->newer != NULL)
		t->newer->at = t->at;
	free(t);
}

void task_over(struct task *t, enum fileops_result r)
{
	struct fileop *op = t->op;

	if (t->starting) {
		t->over = true;
		t->result = r;
		return;
	}
	task_free(t);
	op->result = r;
	op->done(op);
}

enum fileops_result task_failed(struct fileop *op, enum err_class class, const char *verb, const char *what)
{
	err_set(&op->err, class, "%s: %s", verb, what);
	return FILEOPS_FAILED;
}

enum fileops_result task_start(struct task *t)
{
	enum fileops_result r = dirs_need(t);

	if (r == FILEOPS_OK) {
		t->starting = true;
		t->run(t);
		t->starting = false;
		r = t->over ? t->result : FILEOPS_PENDING;
	}
	if (r != FILEOPS_PENDING)
		task_free(t);
	return r;
}

/* ---- the server's handles ---- */

bool handle_take(struct task *t)
{
	struct sftp_ops *o = t->o;

	if (t->has_handle)
		return true;
	if (o->gate.head != NULL || o->handles >= sftp_client_limits(o->client)->handles) {
		queue_put(&o->gate, t);
		return false;
	}
	o->handles++;
	t->has_handle = true;
	return true;
}

void handle_give(struct sftp_ops *o)
{
	if (o->handles > 0) /* none is counted of a connection that was lost */
		o->handles--;
	if (o->gate.head != NULL)
		loop_timer_after(o->gate_timer, 0); /* not from within a call */
}

static void on_gate(void *ctx)
{
	struct sftp_ops *o = ctx;

	while (o->gate.head != NULL && sftp_client_ready(o->client) &&
	       o->handles < sftp_client_limits(o->client)->handles) {
		struct task *t = queue_take(&o->gate);

		if (t == NULL)
			return;
		o->handles++;
		t->has_handle = true;
		t->run(t);
	}
}

struct sftp_bytes task_path(struct sftp_ops *o, const char *path, size_t len, struct buf *room)
{
	buf_init(room, 2 * PATH_BYTES_MAX);
	(void)buf_add_str(room, o->base);
	if (len > 0 || room->len == 0)
		(void)buf_add_byte(room, '/');
	(void)buf_add(room, path, len);
	return (struct sftp_bytes){ room->data, room->failed ? 0 : room->len };
}

struct buf *task_request(struct task *t, sftp_reply_fn *fn, uint32_t *id)
{
	return sftp_client_begin(t->client, fn, t, id);
}

bool task_send(struct task *t, uint32_t id)
{
	if (!sftp_client_end(t->client, id))
		return false;
	t->outstanding++;
	return true;
}

/* ---- what the server says ---- */

enum fileops_result sftp_result(const char *verb, const struct sftp_status_reply *s, struct err *err)
{
	const char *words = s->message.n > 0 ? s->message.p : sftp_status_name(s->code);
	const int n = (int)(s->message.n == 0 ? strlen(words) : s->message.n < 200 ? s->message.n : 200);
	enum err_class class = ERR_IO;
	enum fileops_result r = FILEOPS_FAILED;

	switch (s->code) {
	case SFTP_OK:
		return FILEOPS_OK;
	case SFTP_NO_SUCH_FILE:
		class = ERR_GONE;
		r = FILEOPS_GONE;
		break;
	case SFTP_PERMISSION_DENIED:
		class = ERR_DENIED;
		r = FILEOPS_DENIED;
		break;
	case SFTP_OP_UNSUPPORTED:
		r = FILEOPS_UNABLE;
		break;
	default:
		break;
	}
	err_set(err, class, "%s: the server says: %.*s", verb, n, words);
	err->code = (int)(s->code & 0xff);
	return r;
}

enum fileops_result task_status(struct task *t, struct sftp_packet *reply)
{
	struct sftp_status_reply s;

	if (sftp_get_status(reply, &s))
		return sftp_result(t->verb, &s, &t->op->err);
	sftp_client_malformed(t->client);
	return FILEOPS_DOWN;
}

bool task_refused(struct task *t, struct sftp_packet *reply)
{
	enum fileops_result r;

	if (reply->type != SFTP_STATUS)
		return false;
	r = task_status(t, reply);
	if (r != FILEOPS_DOWN)
		task_over(t, r == FILEOPS_OK ? FILEOPS_FAILED : r);
	return true;
}

bool task_take_handle(struct task *t, struct sftp_packet *reply, char *handle, size_t *len)
{
	struct sftp_bytes came;

	if (!sftp_get_handle(reply, &came)) {
		sftp_client_malformed(t->client);
		return false;
	}
	memcpy(handle, came.p, came.n);
	*len = came.n;
	return true;
}

void sftp_stat(const struct sftp_attrs *a, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	if (a->flags & SFTP_ATTR_PERMISSIONS)
		st->st_mode = a->mode & (S_IFMT | 07777);
	if (a->flags & SFTP_ATTR_SIZE)
		st->st_size = a->size > INT64_MAX ? INT64_MAX : (off_t)a->size;
	if (a->flags & SFTP_ATTR_UIDGID) {
		st->st_uid = a->uid;
		st->st_gid = a->gid;
	}
	if (a->flags & SFTP_ATTR_TIMES) {
		st->st_atim.tv_sec = a->atime;
		st->st_mtim.tv_sec = a->mtime;
	}
	st->st_nlink = 1;
}

void task_over_limit(struct task *t)
{
	task_over(t, task_failed(t->op, ERR_LIMIT, t->verb, "too long for a request, or too many requests"));
}

bool task_try_path(struct task *t, enum sftp_type type, sftp_reply_fn *fn)
{
	struct buf room;
	struct sftp_bytes path = task_path(t->o, t->path, t->len, &room);
	uint32_t id;
	struct buf *out = task_request(t, fn, &id);

	if (out != NULL)
		sftp_put_path(out, type, id, path);
	buf_done(&room);
	return out != NULL && task_send(t, id);
}

void task_send_path(struct task *t, enum sftp_type type, sftp_reply_fn *fn)
{
	if (!task_try_path(t, type, fn))
		task_over_limit(t);
}

/* ---- failures ---- */

static void on_statvfs(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	struct sftp_statvfs v;
	struct err *err = &t->op->err;
	size_t n = strlen(err->text);

	t->outstanding--;
	if (!sftp_get_statvfs(reply, &v)) {
		task_over(t, t->result);
		return;
	}
	if ((v.flag & SFTP_STATVFS_READ_ONLY) != 0) {
		err->class = ERR_DENIED;
		(void)snprintf(err->text + n, sizeof(err->text) - n, " (a read-only file system)");
	} else if (v.bavail == 0 || (v.files > 0 && v.favail == 0)) {
		err->class = ERR_NOSPACE;
		(void)snprintf(err->text + n, sizeof(err->text) - n, " (%s left on its file system)",
			       v.bavail == 0 ? "no space is" : "no inodes are");
	}
	task_over(t, t->result);
}

void task_over_explained(struct task *t, enum fileops_result r)
{
	struct buf room, *out;
	struct sftp_bytes path;
	uint32_t id;

	if (r != FILEOPS_FAILED || t->op->err.code != SFTP_FAILURE || t->starting || !sftp_client_ready(t->client) ||
	    (sftp_client_extensions(t->client) & SFTP_EXT_STATVFS) == 0) {
		task_over(t, r);
		return;
	}
	t->result = r;
	path = task_path(t->o, t->path, path_parent_len(t->path, t->len), &room);
	out = task_request(t, on_statvfs, &id);
	if (out != NULL)
		sftp_put_ext_string(out, id, sftp_extension_name(SFTP_EXT_STATVFS), path);
	buf_done(&room);
	if (out == NULL || !task_send(t, id))
		task_over(t, r);
}

/* ---- requests with one STATUS for an answer ---- */

void task_on_status(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	enum fileops_result r = task_status(t, reply);

	t->outstanding--;
	if (r != FILEOPS_DOWN)
		task_over_explained(t, r);
}

/* ---- look, readlink ---- */

/* Looking is harmless, so it does not wait for what is above to be known; only its result does. */
struct look_up {
	enum fileops_result r;
};

static void look_over(struct task *t)
{
	const struct look_up *l = t->extra;

	if (l->r == FILEOPS_OK && S_ISDIR(t->op->st.st_mode))
		dirs_seen(t->o, t->path, t->len);
	task_over(t, l->r);
}

static void on_followed(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;

	t->outstanding--;
	if (reply->type == SFTP_NAME)
		t->op->st.st_mode = S_IFLNK | 0777;
	task_go_on(t);
}

static void on_look(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	struct look_up *l = t->extra;
	struct sftp_attrs a;

	t->outstanding--;
	if (reply->type == SFTP_STATUS) {
		l->r = task_status(t, reply);
		if (l->r == FILEOPS_DOWN)
			return;
		if (l->r == FILEOPS_OK)
			l->r = task_failed(t->op, ERR_PROTOCOL, t->verb, "no attributes came");
	} else if (sftp_get_attrs(reply, &a)) {
		sftp_stat(&a, &t->op->st);
		l->r = FILEOPS_OK;
		if (t->o->follows && t->len > 0 && task_try_path(t, SFTP_READLINK, on_followed))
			return;
	} else {
		sftp_client_malformed(t->client);
		return;
	}
	task_go_on(t);
}

enum fileops_result task_no_memory(struct fileop *op)
{
	err_set(&op->err, ERR_NOMEM, "out of memory");
	return FILEOPS_FAILED;
}

enum fileops_result task_begin(struct task *t, struct fileop *op, void (*run)(struct task *t))
{
	if (t == NULL)
		return task_no_memory(op);
	t->run = run;
	return task_start(t);
}

static bool down(const struct sftp_ops *o)
{
	return !sftp_client_ready(o->client);
}

/* The root may be a symlink: what it leads to is what was configured. */
static enum fileops_result op_look(void *end, struct fileop *op, const char *path, size_t len)
{
	struct sftp_ops *o = end;
	struct task *t;

	if (down(o))
		return FILEOPS_DOWN;
	t = task_new(o, op, "look", path, len, sizeof(struct look_up));
	if (t == NULL)
		return task_no_memory(op);
	t->run = look_over;
	dirs_ask(t);
	if (task_try_path(t, len == 0 ? SFTP_STAT : SFTP_LSTAT, on_look))
		return FILEOPS_PENDING;
	task_free(t);
	return task_failed(op, ERR_LIMIT, "look", "too long for a request, or too many requests");
}

static void on_readlink(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	struct sftp_bytes name;
	struct sftp_attrs a;
	enum fileops_result r = FILEOPS_OK;
	uint32_t n;

	t->outstanding--;
	if (reply->type == SFTP_STATUS) {
		r = task_status(t, reply);
		if (r == FILEOPS_OK)
			r = task_failed(t->op, ERR_PROTOCOL, t->verb, "no text came");
	} else if (!sftp_get_names(reply, &n) || n != 1 || !sftp_get_name(reply, &name, &a)) {
		sftp_client_malformed(t->client);
		return;
	} else {
		t->op->bytes = malloc(name.n + 1);
		if (t->op->bytes == NULL)
			r = task_no_memory(t->op);
		else {
			memcpy(t->op->bytes, name.p, name.n);
			t->op->bytes[name.n] = '\0';
			t->op->n_bytes = name.n;
		}
	}
	if (r != FILEOPS_DOWN)
		task_over(t, r);
}

static void run_readlink(struct task *t)
{
	task_send_path(t, SFTP_READLINK, on_readlink);
}

static enum fileops_result op_readlink(void *end, struct fileop *op, const char *path, size_t len)
{
	struct sftp_ops *o = end;

	return down(o) ? FILEOPS_DOWN : task_begin(task_new(o, op, "readlink", path, len, 0), op, run_readlink);
}

/* ---- create ---- */

struct create {
	bool resume;
	struct sftp_file *file;
};

/* Files take turns on the connections. A directory is known by a reply before anything is opened in it, and what is
 * done with a name waits for the file's replies: so no order is needed between two connections. */
static struct sftp_client *next_client(struct sftp_ops *o)
{
	unsigned n = o->turn++ % (o->n_more + 1);

	return n < o->n_more && sftp_client_ready(o->more[n]) ? o->more[n] : o->client;
}

/* The handle goes with the file, if there is one. */
static void create_done(struct task *t)
{
	const struct create *c = t->extra;

	if (t->has_handle && c->file != NULL)
		handle_give(t->o);
	free(c->file);
}

/* Who a new file belongs to is who we are: known from the first one on. */
static void note_owner(struct task *t, const struct sftp_attrs *a)
{
	struct create *c = t->extra;

	if ((a->flags & SFTP_ATTR_UIDGID) == 0 || c->file == NULL)
		return;
	c->file->uid = a->uid;
	c->file->gid = a->gid;
	c->file->owned = true;
	if (!c->resume) {
		t->o->self = (struct sftp_self){ .uid = a->uid, .gid = a->gid, .known = true };
	}
}

static void create_over(struct task *t)
{
	struct create *c = t->extra;
	enum fileops_result r = t->result;

	if (t->outstanding > 0)
		return;
	if (r == FILEOPS_OK) {
		t->op->file = (struct fileops_file){ .fd = -1, .impl = c->file };
		c->file = NULL;
	}
	task_over_explained(t, r);
}

static void on_handle(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	struct create *c = t->extra;

	t->outstanding--;
	if (reply->type == SFTP_STATUS) {
		t->result = task_status(t, reply);
		if (t->result == FILEOPS_OK)
			t->result = task_failed(t->op, ERR_PROTOCOL, t->verb, "no handle came");
	} else if (task_take_handle(t, reply, c->file->handle, &c->file->handle_len)) {
		t->result = FILEOPS_OK;
	} else {
		return;
	}
	create_over(t);
}

static void on_created(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	struct sftp_attrs a;

	t->outstanding--;
	if (reply->type == SFTP_ATTRS && !sftp_get_attrs(reply, &a)) {
		sftp_client_malformed(t->client);
		return;
	}
	if (reply->type == SFTP_ATTRS) {
		sftp_stat(&a, &t->op->st);
		note_owner(t, &a);
	}
	create_over(t);
}

static void send_open(struct task *t)
{
	struct create *c = t->extra;
	const struct sftp_attrs mode = { .flags = SFTP_ATTR_PERMISSIONS, .mode = 0600 };
	struct buf room;
	struct sftp_bytes path = task_path(t->o, t->path, t->len, &room);
	uint32_t id;
	struct buf *out = task_request(t, on_handle, &id);

	if (out != NULL)
		sftp_put_open(out, id, path, SFTP_O_WRITE | SFTP_O_CREAT | (c->resume ? SFTP_O_READ : SFTP_O_EXCL),
			      &mode);
	buf_done(&room);
	if (out == NULL || !task_send(t, id)) {
		task_over_limit(t);
		return;
	}
	if (c->resume || !t->o->self.known)
		(void)task_try_path(t, SFTP_LSTAT, on_created);
}

/* What is to be gone on with must be a file: an open would follow a symlink. */
static void on_resume(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	struct sftp_attrs a;

	t->outstanding--;
	if (reply->type == SFTP_ATTRS && !sftp_get_attrs(reply, &a)) {
		sftp_client_malformed(t->client);
		return;
	}
	if (reply->type == SFTP_ATTRS && (a.flags & SFTP_ATTR_PERMISSIONS) != 0 && !S_ISREG(a.mode))
		task_over(t, FILEOPS_TYPE);
	else
		send_open(t);
}

static void run_create(struct task *t)
{
	struct create *c = t->extra;

	if (!handle_take(t))
		return;
	t->client = c->file->client = next_client(t->o);
	if (c->resume)
		task_send_path(t, SFTP_LSTAT, on_resume);
	else
		send_open(t);
}

static enum fileops_result op_create(void *end, struct fileop *op, const char *path, size_t len, bool resume)
{
	struct sftp_ops *o = end;
	struct task *t;
	struct create *c;

	if (down(o))
		return FILEOPS_DOWN;
	t = task_new(o, op, "create", path, len, sizeof(*c));
	if (t == NULL)
		return task_no_memory(op);
	t->done = create_done;
	c = t->extra;
	c->resume = resume;
	op->st = (struct stat){ 0 };
	c->file = calloc(1, sizeof(*c->file));
	if (c->file == NULL) {
		task_free(t);
		return task_no_memory(op);
	}
	return task_begin(t, op, run_create);
}

static void ignore(void *ctx, struct sftp_packet *reply)
{
	(void)ctx;
	(void)reply;
}

void sftp_file_free(struct fileops_file *file)
{
	free(file->impl);
	*file = (struct fileops_file){ .fd = -1 };
}

static void op_drop(void *end, struct fileops_file *file)
{
	struct sftp_ops *o = end;
	const struct sftp_file *f = file->impl;
	struct buf *out;
	uint32_t id;

	if (f != NULL && f->handle_len > 0 && !down(o)) {
		out = sftp_client_begin(f->client, ignore, NULL, &id);
		if (out != NULL) {
			sftp_put_handle(out, SFTP_CLOSE, id, (struct sftp_bytes){ f->handle, f->handle_len });
			(void)sftp_client_end(f->client, id);
		}
	}
	if (f != NULL)
		handle_give(o);
	sftp_file_free(file);
}

/* ---- names ---- */

static void run_mkdir(struct task *t)
{
	const struct sftp_attrs mode = { .flags = SFTP_ATTR_PERMISSIONS, .mode = 0700 };
	struct buf room;
	struct sftp_bytes path = task_path(t->o, t->path, t->len, &room);
	uint32_t id;
	struct buf *out = task_request(t, task_on_status, &id);

	if (out != NULL)
		sftp_put_attrs(out, SFTP_MKDIR, id, path, &mode);
	buf_done(&room);
	if (out == NULL || !task_send(t, id))
		task_over_limit(t);
}

static enum fileops_result op_mkdir(void *end, struct fileop *op, const char *path, size_t len)
{
	struct sftp_ops *o = end;

	return down(o) ? FILEOPS_DOWN : task_begin(task_new(o, op, "mkdir", path, len, 0), op, run_mkdir);
}

static void run_symlink(struct task *t)
{
	struct buf room;
	struct sftp_bytes path = task_path(t->o, t->path, t->len, &room);
	uint32_t id;
	struct buf *out = task_request(t, task_on_status, &id);

	if (out != NULL)
		sftp_put_paths(out, SFTP_SYMLINK, id, (struct sftp_bytes){ t->to, t->to_len }, path);
	buf_done(&room);
	if (out == NULL || !task_send(t, id))
		task_over_limit(t);
}

static enum fileops_result op_symlink(void *end, struct fileop *op, const char *path, size_t len, const char *text,
				      size_t text_len)
{
	struct sftp_ops *o = end;
	struct task *t;

	if (down(o))
		return FILEOPS_DOWN;
	if (o->follows) {
		err_set(&op->err, ERR_IO, "symlink: the server follows symlinks where it must not");
		return FILEOPS_UNABLE;
	}
	t = task_new_two(o, op, "symlink", (struct sftp_bytes){ path, len }, (struct sftp_bytes){ text, text_len }, 0);
	return task_begin(t, op, run_symlink);
}

static enum fileops_result op_node(void *end, struct fileop *op, const char *path, size_t len, const struct stat *st)
{
	(void)end;
	(void)path;
	(void)len;
	(void)st;
	err_set(&op->err, ERR_IO, "SFTP has no FIFOs, sockets and devices");
	return FILEOPS_UNABLE;
}

/* Both names of a task in one request: an extension, or RENAME. */
void task_send_both(struct task *t, enum sftp_extension ext, sftp_reply_fn *fn)
{
	struct buf room_a, room_b;
	struct sftp_bytes a = task_path(t->o, t->path, t->len, &room_a), b = task_path(t->o, t->to, t->to_len, &room_b);
	uint32_t id;
	struct buf *out = task_request(t, fn, &id);

	if (out != NULL && ext != 0)
		sftp_put_ext_paths(out, id, sftp_extension_name(ext), a, b);
	else if (out != NULL)
		sftp_put_paths(out, SFTP_RENAME, id, a, b);
	buf_done(&room_a);
	buf_done(&room_b);
	if (out == NULL || !task_send(t, id))
		task_over_limit(t);
}

static void run_link(struct task *t)
{
	task_send_both(t, SFTP_EXT_HARDLINK, task_on_status);
}

static enum fileops_result op_link(void *end, struct fileop *op, const char *from, size_t from_len, const char *to,
				   size_t to_len)
{
	struct sftp_ops *o = end;
	struct task *t;

	if (down(o))
		return FILEOPS_DOWN;
	if ((sftp_client_extensions(o->client) & SFTP_EXT_HARDLINK) == 0) {
		err_set(&op->err, ERR_IO, "link: the server has no hard links (no hardlink@openssh.com)");
		return FILEOPS_UNABLE;
	}
	t = task_new_two(o, op, "link", (struct sftp_bytes){ from, from_len }, (struct sftp_bytes){ to, to_len }, 0);
	if (t != NULL)
		t->both = true;
	return task_begin(t, op, run_link);
}

/* ---- unlink, rmdir ---- */

static void run_unlink(struct task *t)
{
	dirs_forget(t->o, t->path, t->len);
	task_send_path(t, SFTP_REMOVE, task_on_status);
}

static void run_rmdir(struct task *t)
{
	dirs_forget(t->o, t->path, t->len);
	task_send_path(t, SFTP_RMDIR, task_on_status);
}

static enum fileops_result take_away(struct sftp_ops *o, struct fileop *op, const char *verb, const char *path,
				     size_t len, void (*run)(struct task *t))
{
	struct task *t;

	if (down(o))
		return FILEOPS_DOWN;
	t = task_new(o, op, verb, path, len, 0);
	if (t != NULL)
		t->structural = true;
	return task_begin(t, op, run);
}

static enum fileops_result op_unlink(void *end, struct fileop *op, const char *path, size_t len)
{
	return take_away(end, op, "remove", path, len, run_unlink);
}

static enum fileops_result op_rmdir(void *end, struct fileop *op, const char *path, size_t len)
{
	return take_away(end, op, "rmdir", path, len, run_rmdir);
}

static void op_flush(void *end)
{
	struct sftp_ops *o = end;

	if (o->client != NULL)
		sftp_client_flush(o->client);
	for (unsigned i = 0; i < o->n_more; i++)
		sftp_client_flush(o->more[i]);
}

static void op_idle(void *end)
{
	dirs_forget_all(end);
}

const struct fileops sftp_fileops = {
	.look = op_look,
	.list = sftp_op_list,
	.readlink = op_readlink,
	.digest = sftp_op_digest,
	.drop = op_drop,
	.create = op_create,
	.store = sftp_op_store,
	.attrs = sftp_op_attrs,
	.mkdir = op_mkdir,
	.symlink = op_symlink,
	.node = op_node,
	.link = op_link,
	.rename = sftp_op_rename,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.flush = op_flush,
	.idle = op_idle,
};

/* ---- the end as a whole ---- */

static void on_throttle(void *ctx)
{
	sftp_stores_pump(ctx);
}

struct sftp_ops *sftp_ops_new(struct loop *loop, uint32_t tag, struct err *err)
{
	struct sftp_ops *o = calloc(1, sizeof(*o));

	if (o != NULL) {
		o->tag = tag;
		queue_init(&o->stores);
		queue_init(&o->gate);
		o->gate_timer = loop_timer_add(loop, on_gate, o, err);
		o->scratch = malloc(SCRATCH);
		o->throttle_timer = loop_timer_add(loop, on_throttle, o, err);
	}
	if (o == NULL || o->scratch == NULL || o->throttle_timer == NULL || o->gate_timer == NULL) {
		err_set(err, ERR_NOMEM, "out of memory");
		sftp_ops_free(o);
		return NULL;
	}
	return o;
}

static void forget_tasks(struct sftp_ops *o)
{
	while (o->tasks != NULL)
		task_free(o->tasks);
	queue_init(&o->stores);
	queue_init(&o->gate);
	o->handles = 0;
	dirs_done(o);
}

int sftp_ops_connect(struct sftp_ops *o, struct sftp_client *client, const char *base, struct err *err)
{
	forget_tasks(o);
	free(o->base);
	o->base = NULL;
	o->client = client;
	o->n_more = 0;
	o->self = o->gives = (struct sftp_self){ 0 };
	o->follows = false;
	if (client == NULL)
		return 0;
	o->base = strdup(base);
	return o->base == NULL ? err_set(err, ERR_NOMEM, "out of memory") : 0;
}

void sftp_ops_add(struct sftp_ops *o, struct sftp_client *client)
{
	if (o->n_more < SFTP_MORE_MAX)
		o->more[o->n_more++] = client;
}

void sftp_ops_follows(struct sftp_ops *o)
{
	o->follows = true;
}

unsigned sftp_ops_caps(const struct sftp_ops *o)
{
	unsigned ext = sftp_client_extensions(o->client), caps = FILEOPS_OWNERS | FILEOPS_RESUME;

	if (ext & SFTP_EXT_HARDLINK)
		caps |= FILEOPS_LINKS;
	if (ext & SFTP_EXT_LSETSTAT)
		caps |= FILEOPS_LINK_ATTRS;
	return caps;
}

void sftp_ops_room(struct sftp_ops *o)
{
	sftp_stores_pump(o);
}

void sftp_ops_free(struct sftp_ops *o)
{
	if (o == NULL)
		return;
	forget_tasks(o);
	loop_timer_remove(o->throttle_timer);
	loop_timer_remove(o->gate_timer);
	free(o->scratch);
	free(o->base);
	free(o);
}
