/*
 * sftp_rename.c - renames: in one step where the server can replace a file, in three where it can't; and past servers
 * that follow symlinks.
 */
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/path.h"
#include "transports/sftp_task.h"
#include "transports/temp_name.h"

/*
 * Without posix-rename@openssh.com a name that is taken is not replaced. Then what is there goes away under a name of
 * ours, the new one comes in its place, and the old one is removed; when the second step fails it is put back. A
 * connection that is cut in between leaves the name missing: the change is sent again after the reconnect, and what was
 * put away by then is removed by the same steps.
 */

static void swap_request(struct task *t, enum sftp_type type, const char *a, size_t a_len, const char *b, size_t b_len,
			 sftp_reply_fn *fn)
{
	struct buf room_a, room_b;
	struct sftp_bytes from = task_path(t->o, a, a_len, &room_a), to = task_path(t->o, b, b_len, &room_b);
	uint32_t id;
	struct buf *out = task_request(t, fn, &id);

	if (out != NULL && type == SFTP_REMOVE)
		sftp_put_path(out, type, id, from);
	else if (out != NULL)
		sftp_put_paths(out, type, id, from, to);
	buf_done(&room_a);
	buf_done(&room_b);
	if (out == NULL || !task_send(t, id))
		task_over_limit(t);
}

struct swap {
	char *away; /* or, of a symlink, its text */
	size_t away_len;
	bool from_link, to_link, to_there; /* careful_rename */
};

static void swap_done(struct task *t)
{
	struct swap *s = t->extra;

	free(s->away);
}

static void on_swapped(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;

	(void)reply; /* what could not be removed is found by the next reconcile */
	t->outstanding--;
	task_over(t, t->result);
}

static void on_in(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	struct swap *s = t->extra;
	enum fileops_result r = task_status(t, reply);

	t->outstanding--;
	if (r == FILEOPS_DOWN)
		return;
	t->result = r;
	if (r == FILEOPS_OK)
		swap_request(t, SFTP_REMOVE, s->away, s->away_len, "", 0, on_swapped);
	else
		swap_request(t, SFTP_RENAME, s->away, s->away_len, t->to, t->to_len, on_swapped);
}

static void on_away(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	enum fileops_result r = task_status(t, reply);

	t->outstanding--;
	if (r == FILEOPS_DOWN)
		return;
	if (r != FILEOPS_OK) {
		task_over(t, r);
		return;
	}
	swap_request(t, SFTP_RENAME, t->path, t->len, t->to, t->to_len, on_in);
}

static void on_cleared(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	struct swap *s = t->extra;

	(void)reply; /* there is seldom anything */
	t->outstanding--;
	swap_request(t, SFTP_RENAME, t->to, t->to_len, s->away, s->away_len, on_away);
}

static void begin_swap(struct task *t)
{
	struct swap *s = t->extra;

	if (!t->o->told_rename) {
		t->o->told_rename = true;
		log_warn("the server can't replace a file in one step (no posix-rename@openssh.com): for a moment a "
			 "file that "
			 "is replaced is not there");
	}
	s->away = malloc(t->to_len + NAME_BYTES_MAX + 1);
	if (s->away == NULL) {
		task_over(t, task_no_memory(t->op));
		return;
	}
	s->away_len = temp_path(s->away, t->to, t->to_len, TEMP_OLD, t->o->tag, 0, false);
	swap_request(t, SFTP_REMOVE, s->away, s->away_len, "", 0, on_cleared);
}

static void on_plain(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	enum fileops_result r = task_status(t, reply);

	t->outstanding--;
	if (r == FILEOPS_DOWN)
		return;
	if (r == FILEOPS_FAILED && !t->keep) {
		t->op->err = (struct err)ERR_INIT;
		begin_swap(t);
		return;
	}
	task_over(t, r);
}

static void send_rename(struct task *t)
{
	bool atomic = (sftp_client_extensions(t->client) & SFTP_EXT_POSIX_RENAME) != 0;

	if (atomic && !t->keep)
		task_send_both(t, SFTP_EXT_POSIX_RENAME, task_on_status);
	else
		task_send_both(t, 0, on_plain);
}

/*
 * ProFTPD renames what a symlink leads to, at either name. A server that has no lsetstat@openssh.com may do the same,
 * so both names are looked at: a symlink at the new name goes away first, one at the old name is made anew there.
 */

static void on_made_anew(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	enum fileops_result r = task_status(t, reply);

	t->outstanding--;
	if (r == FILEOPS_DOWN)
		return;
	t->result = r;
	if (r == FILEOPS_OK)
		swap_request(t, SFTP_REMOVE, t->path, t->len, "", 0, on_swapped);
	else
		task_over(t, r);
}

static void make_anew(struct task *t)
{
	const struct swap *s = t->extra;
	struct buf room;
	struct sftp_bytes to = task_path(t->o, t->to, t->to_len, &room);
	uint32_t id;
	struct buf *out = task_request(t, on_made_anew, &id);

	if (out != NULL)
		sftp_put_paths(out, SFTP_SYMLINK, id, (struct sftp_bytes){ s->away, s->away_len }, to);
	buf_done(&room);
	if (out == NULL || !task_send(t, id))
		task_over_limit(t);
}

static void on_way_free(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	const struct swap *s = t->extra;
	enum fileops_result r = task_status(t, reply);

	t->outstanding--;
	if (r == FILEOPS_DOWN)
		return;
	if (r != FILEOPS_OK && r != FILEOPS_GONE)
		task_over(t, r);
	else if (s->from_link)
		make_anew(t);
	else
		send_rename(t);
}

static void on_text(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	struct swap *s = t->extra;
	struct sftp_bytes name;
	struct sftp_attrs a;
	uint32_t n;

	t->outstanding--;
	if (task_refused(t, reply))
		return;
	if (!sftp_get_names(reply, &n) || n != 1 || !sftp_get_name(reply, &name, &a)) {
		sftp_client_malformed(t->client);
		return;
	}
	s->away = malloc(name.n + 1);
	if (s->away == NULL) {
		task_over(t, task_no_memory(t->op));
		return;
	}
	memcpy(s->away, name.p, name.n);
	s->away_len = name.n;
	if (s->to_there)
		swap_request(t, SFTP_REMOVE, t->to, t->to_len, "", 0, on_way_free);
	else
		make_anew(t);
}

static void careful_decide(struct task *t)
{
	const struct swap *s = t->extra;

	if (t->outstanding > 0)
		return;
	if (t->keep && s->to_there)
		task_over(t, FILEOPS_EXISTS);
	else if (s->from_link && t->o->follows)
		task_over(t, FILEOPS_UNABLE); /* and READLINK tells another text than was given */
	else if (s->from_link)
		task_send_path(t, SFTP_READLINK, on_text);
	else if (s->to_link)
		swap_request(t, SFTP_REMOVE, t->to, t->to_len, "", 0, on_way_free);
	else
		send_rename(t);
}

static bool take_look(struct task *t, struct sftp_packet *reply, bool *there, bool *link)
{
	struct sftp_attrs a;

	t->outstanding--;
	*link = t->o->follows && reply->type == SFTP_NAME;
	*there = *link || reply->type == SFTP_ATTRS;
	if (t->o->follows)
		return true;
	if (*there && !sftp_get_attrs(reply, &a)) {
		sftp_client_malformed(t->client);
		return false;
	}
	*link = *there && (a.flags & SFTP_ATTR_PERMISSIONS) != 0 && S_ISLNK(a.mode);
	return true;
}

static void on_from(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	struct swap *s = t->extra;
	bool there;

	if (take_look(t, reply, &there, &s->from_link))
		careful_decide(t);
}

static void on_to(void *ctx, struct sftp_packet *reply)
{
	struct task *t = ctx;
	struct swap *s = t->extra;

	if (take_look(t, reply, &s->to_there, &s->to_link))
		careful_decide(t);
}

static void careful_rename(struct task *t)
{
	struct buf room, *out;
	struct sftp_bytes to;
	uint32_t id;

	if (!task_try_path(t, t->o->follows ? SFTP_READLINK : SFTP_LSTAT, on_from)) {
		task_over_limit(t);
		return;
	}
	to = task_path(t->o, t->to, t->to_len, &room);
	out = task_request(t, on_to, &id);
	if (out != NULL)
		sftp_put_path(out, t->o->follows ? SFTP_READLINK : SFTP_LSTAT, id, to);
	buf_done(&room);
	if (out == NULL || !task_send(t, id)) {
		/* The first reply decides, as if nothing were known of the new name. */
		((struct swap *)t->extra)->to_there = true;
	}
}

static void run_rename(struct task *t)
{
	dirs_forget(t->o, t->path, t->len);
	dirs_forget(t->o, t->to, t->to_len);
	if ((sftp_client_extensions(t->client) & SFTP_EXT_LSETSTAT) != 0)
		send_rename(t);
	else
		careful_rename(t);
}

enum fileops_result sftp_op_rename(void *end, struct fileop *op, const char *from, size_t from_len, const char *to,
				   size_t to_len, bool keep)
{
	struct sftp_ops *o = end;
	struct task *t;

	if (!sftp_client_ready(o->client))
		return FILEOPS_DOWN;
	t = task_new_two(o, op, "rename", (struct sftp_bytes){ from, from_len }, (struct sftp_bytes){ to, to_len },
			 sizeof(struct swap));
	if (t != NULL) {
		t->keep = keep;
		t->both = t->structural = true;
		t->done = swap_done;
	}
	return task_begin(t, op, run_rename);
}
