/*
 * sftp_dirs.c - which names on the target were seen to be directories since the work began.
 *
 * A table of them, and what waits for those that are being looked at. A directory is looked at when all above it are
 * known, so an entry's ancestors are entries, too.
 */
#include <stdlib.h>
#include <string.h>

#include "core/path.h"
#include "transports/sftp_task.h"

#define BUCKETS 1024u
/* More, and what is known is forgotten: it costs looks, not correctness. */
#define DIRS_MAX 16384u

struct dir {
	struct dir *chain;	 /* of its bucket */
	struct dir *newer, **at; /* while it is being looked at */
	struct sftp_ops *o;
	bool known;
	struct task_queue waiting;
	struct dir *below; /* directories whose answer waits for this one's, by `beside` */
	struct dir *beside;
	bool free_standing; /* the answer on what is above is in */
	bool barred;	    /* and it was bad: `r` */
	bool replied;	    /* its own answer came first: `r` */
	enum fileops_result r;
	struct err *why;
	size_t len;
	char path[];
};

static size_t bucket_of(const char *path, size_t len)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)path[i]) * 16777619u;
	return h % BUCKETS;
}

static struct dir *find(const struct sftp_ops *o, const char *path, size_t len)
{
	struct dir *d = o->dirs == NULL ? NULL : o->dirs[bucket_of(path, len)];

	while (d != NULL && (d->len != len || memcmp(d->path, path, len) != 0))
		d = d->chain;
	return d;
}

static struct dir *add(struct sftp_ops *o, const char *path, size_t len)
{
	struct dir *d;
	size_t b = bucket_of(path, len);

	if (o->dirs == NULL)
		o->dirs = calloc(BUCKETS, sizeof(struct dir *));
	d = o->dirs == NULL ? NULL : calloc(1, sizeof(*d) + len + 1);
	if (d == NULL)
		return NULL;
	d->o = o;
	d->len = len;
	memcpy(d->path, path, len);
	queue_init(&d->waiting);
	d->chain = o->dirs[b];
	o->dirs[b] = d;
	o->n_dirs++;
	return d;
}

static void unlink_dir(struct dir *d)
{
	struct dir **p = &d->o->dirs[bucket_of(d->path, d->len)];

	while (*p != d)
		p = &(*p)->chain;
	*p = d->chain;
	d->o->n_dirs--;
}

static void no_longer_asked(struct dir *d)
{
	if (d->at == NULL)
		return;
	*d->at = d->newer;
	if (d->newer != NULL)
		d->newer->at = d->at;
	d->newer = NULL;
	d->at = NULL;
}

/* ---- looking ---- */

static void answer(struct dir *d, enum fileops_result r, const struct err *why);

/* The answers come in any order; each counts when that of the directory above is in. */
static void replied(struct dir *d, enum fileops_result r, const struct err *why)
{
	if (d->free_standing) {
		answer(d, d->barred ? d->r : r, d->barred ? NULL : why);
		return;
	}
	d->replied = true;
	d->r = r;
	if (why == NULL)
		return;
	d->why = malloc(sizeof(*d->why));
	if (d->why != NULL)
		*d->why = *why;
}

static bool send_look(struct dir *d, enum sftp_type type, sftp_reply_fn *fn);

static void no_directory(struct dir *d)
{
	struct err err = ERR_INIT;

	err_set(&err, ERR_IO, "%.*s is no directory there but a symlink or a file", (int)(d->len < 300 ? d->len : 300),
		d->path);
	replied(d, FILEOPS_TYPE, &err);
}

/* It is a directory, or a symlink to one that the server has followed. */
static void on_readlink(void *ctx, struct sftp_packet *reply)
{
	if (reply->type == SFTP_NAME)
		no_directory(ctx);
	else
		replied(ctx, FILEOPS_OK, NULL);
}

static void on_look(void *ctx, struct sftp_packet *reply)
{
	struct dir *d = ctx;
	struct sftp_attrs a;
	struct sftp_status_reply s;
	struct err err = ERR_INIT;
	enum fileops_result r;

	if (sftp_get_status(reply, &s)) {
		r = sftp_result("look at its directory", &s, &err);
		replied(d, r == FILEOPS_OK ? FILEOPS_FAILED : r, &err);
	} else if (!sftp_get_attrs(reply, &a)) {
		sftp_client_malformed(d->o->client);
	} else if ((a.flags & SFTP_ATTR_PERMISSIONS) != 0 && S_ISDIR(a.mode)) {
		if (!d->o->follows)
			replied(d, FILEOPS_OK, NULL);
		else if (!send_look(d, SFTP_READLINK, on_readlink))
			replied(d, FILEOPS_FAILED, NULL);
	} else {
		no_directory(d);
	}
}

static bool send_look(struct dir *d, enum sftp_type type, sftp_reply_fn *fn)
{
	struct buf room;
	struct sftp_bytes path = task_path(d->o, d->path, d->len, &room);
	uint32_t id;
	struct buf *out = sftp_client_begin(d->o->client, fn, d, &id);
	bool ok = out != NULL;

	if (ok) {
		sftp_put_path(out, type, id, path);
		ok = sftp_client_end(d->o->client, id);
	}
	buf_done(&room);
	return ok;
}

static void now_asked(struct dir *d, struct dir *above)
{
	d->free_standing = above == NULL || above->known;
	if (!d->free_standing) {
		d->beside = above->below;
		above->below = d;
	}
	d->newer = d->o->asked;
	d->at = &d->o->asked;
	if (d->newer != NULL)
		d->newer->at = &d->newer;
	d->o->asked = d;
}

/* Have it looked at, and those above it, all at once. NULL: it could not be. */
static struct dir *ask(struct sftp_ops *o, const char *path, size_t len)
{
	size_t up = path_parent_len(path, len);
	struct dir *d = find(o, path, len), *above = NULL;

	if (d != NULL)
		return d;
	if (o->n_dirs >= DIRS_MAX)
		dirs_forget_all(o);
	if (up > 0) {
		above = ask(o, path, up); /* as deep as the path has components */
		if (above == NULL)
			return NULL;
	}
	d = add(o, path, len);
	if (d == NULL)
		return NULL;
	if (!send_look(d, SFTP_LSTAT, on_look)) {
		unlink_dir(d);
		free(d);
		return NULL;
	}
	now_asked(d, above);
	return d;
}

static void bar(struct task *t, enum fileops_result r, const struct err *why)
{
	if (why != NULL && r != FILEOPS_GONE)
		t->op->err = *why;
	/* What would be below something that is no directory is not there. */
	if (r == FILEOPS_TYPE && !t->self)
		r = FILEOPS_GONE;
	task_over(t, r);
}

void task_go_on(struct task *t)
{
	enum fileops_result r = dirs_need(t);

	if (r == FILEOPS_OK)
		t->run(t);
	else if (r != FILEOPS_PENDING)
		bar(t, r, NULL);
}

/* Whether the task can't be done without the directory, rather than waits for what goes on below its name. */
static bool stands_on(const struct task *t, const struct dir *d)
{
	return path_below(t->path, t->len, d->path, d->len) ||
	       (t->self && path_within(t->path, t->len, d->path, d->len)) ||
	       (t->both && path_below(t->to, t->to_len, d->path, d->len));
}

/* Those below whose own answer is in are next. */
static void answer_below(struct dir *below, enum fileops_result r, const struct err *why)
{
	while (below != NULL) {
		struct dir *next = below->beside;

		below->beside = NULL;
		below->free_standing = true;
		if (below->replied) {
			answer(below, r != FILEOPS_OK ? r : below->r, r != FILEOPS_OK ? why : below->why);
		} else if (r != FILEOPS_OK) {
			below->barred = true; /* its reply still comes, and may look good */
			below->r = r;
		}
		below = next;
	}
}

/* What waited for it goes on, in the order in which it came. */
static void answer(struct dir *d, enum fileops_result r, const struct err *why)
{
	struct task_queue waiting = d->waiting;
	struct dir *below = d->below;
	struct err copy = ERR_INIT;
	struct task *t;

	if (why != NULL)
		copy = *why;
	queue_init(&d->waiting);
	d->below = NULL;
	no_longer_asked(d);
	d->known = r == FILEOPS_OK;
	free(d->why);
	d->why = NULL;
	if (r != FILEOPS_OK)
		unlink_dir(d);
	answer_below(below, r, why == NULL ? NULL : &copy);
	while (waiting.head != NULL) {
		t = waiting.head;
		waiting.head = t->next;
		if (r == FILEOPS_OK || !stands_on(t, d))
			task_go_on(t);
		else
			bar(t, r, why == NULL ? NULL : &copy);
	}
	if (r != FILEOPS_OK)
		free(d);
}

/* ---- what others see ---- */

/* Whether something at or below the name is still being looked at. */
static struct dir *busy_below(const struct sftp_ops *o, const char *path, size_t len)
{
	for (struct dir *d = o->asked; d != NULL; d = d->newer)
		if (path_within(d->path, d->len, path, len))
			return d;
	return NULL;
}

static enum fileops_result need(struct task *t, const char *path, size_t len)
{
	struct dir *d;

	if (len == 0)
		return FILEOPS_OK;
	d = ask(t->o, path, len);
	if (d == NULL) {
		err_set(&t->op->err, ERR_LIMIT, "%s: too many requests, or out of memory", t->verb);
		return FILEOPS_FAILED;
	}
	if (d->known)
		return FILEOPS_OK;
	queue_put(&d->waiting, t);
	return FILEOPS_PENDING;
}

enum fileops_result dirs_need(struct task *t)
{
	enum fileops_result r = need(t, t->path, t->self ? t->len : path_parent_len(t->path, t->len));
	struct dir *busy = NULL;

	if (r == FILEOPS_OK && t->both)
		r = need(t, t->to, path_parent_len(t->to, t->to_len));
	if (r != FILEOPS_OK || !t->structural)
		return r;
	/* What was started before below the name has to leave before the name changes. */
	busy = busy_below(t->o, t->path, t->len);
	if (busy == NULL && t->both)
		busy = busy_below(t->o, t->to, t->to_len);
	if (busy == NULL)
		return FILEOPS_OK;
	queue_put(&busy->waiting, t);
	return FILEOPS_PENDING;
}

void dirs_ask(struct task *t)
{
	size_t up = path_parent_len(t->path, t->len);

	if (up > 0)
		(void)ask(t->o, t->path, up);
}

void dirs_seen(struct sftp_ops *o, const char *path, size_t len)
{
	size_t up = path_parent_len(path, len);
	const struct dir *above = up == 0 ? NULL : find(o, path, up);
	struct dir *d;

	if (len == 0 || find(o, path, len) != NULL || (up > 0 && (above == NULL || !above->known)))
		return;
	if (o->n_dirs >= DIRS_MAX)
		return;
	d = add(o, path, len);
	if (d != NULL)
		d->known = true;
}

static void forget_where(struct sftp_ops *o, const char *path, size_t len, bool all)
{
	for (size_t i = 0; o->dirs != NULL && i < BUCKETS; i++) {
		struct dir **p = &o->dirs[i];

		while (*p != NULL) {
			struct dir *d = *p;

			if (d->at != NULL || (!all && !path_within(d->path, d->len, path, len))) {
				p = &d->chain;
				continue;
			}
			*p = d->chain;
			o->n_dirs--;
			free(d);
		}
	}
}

void dirs_forget(struct sftp_ops *o, const char *path, size_t len)
{
	if (find(o, path, len) != NULL)
		forget_where(o, path, len, false);
}

void dirs_forget_all(struct sftp_ops *o)
{
	forget_where(o, "", 0, true);
}

void dirs_done(struct sftp_ops *o)
{
	while (o->asked != NULL) {
		struct dir *d = o->asked; /* nobody will answer; the tasks that wait are freed by who calls this */

		no_longer_asked(d);
		free(d->why);
	}
	forget_where(o, "", 0, true);
	free(o->dirs);
	o->dirs = NULL;
	o->n_dirs = 0;
}
