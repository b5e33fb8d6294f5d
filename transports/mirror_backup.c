/*
 * mirror_backup.c - what is replaced or removed is put away first (backupDir); see mirror_private.h.
 *
 * Stands between the engine and the target's rename and unlink. What is to be replaced gets a second name in the
 * backup, then the new file takes its place in one step, so that the name is never missing; where there are no hard
 * links it is moved away before, and back if the second step fails. What is to be removed is moved. If it can't be put
 * away, nothing is replaced or removed: the operation has failed.
 *
 * A name that is taken in the backup is left alone; the new one gets the time of the work at its end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "transports/mirror_private.h"

#define VERSIONS_MAX 100u
/* What is left of a long name, so that a time fits behind it. */
#define NAME_KEPT (NAME_BYTES_MAX - BACKUP_STAMP_MAX - 4u)

typedef enum fileops_result backup_step(struct backup_task *t, enum fileops_result r);

struct backup_task {
	struct mirror *m;
	struct backup_task *next, *prev;
	struct fileop op;
	struct fileop *outer;
	backup_step *step, *again; /* NULL step: it is over, with the last result */
	char *from;		   /* NULL: `path` is removed */
	size_t from_len;
	char *path;
	size_t len;
	char *dest; /* in the backup */
	size_t dest_len, top_len, dest_cap;
	size_t up; /* of dest: making directories */
	unsigned version;
	bool dirs_made, beside, moves;
	bool above_known; /* when the mirrored directory was changed that the backup's root is made in */
	struct timespec above_mtime;
	enum { NOTHING = 0, LINKED, MOVED } done;
	struct fileops_attrs attrs;
	struct err why, said;
	enum fileops_result failed; /* of the last step, while the one before is undone */
};

static backup_step put_away, replace, make_next_dir;

/* ---- a task ---- */

static void task_free(struct backup_task *t)
{
	if (t->prev != NULL)
		t->prev->next = t->next;
	else
		t->m->backup.tasks = t->next;
	if (t->next != NULL)
		t->next->prev = t->prev;
	free(t->from);
	free(t->path);
	free(t->dest);
	free(t);
}

void backup_forget(struct mirror *m)
{
	while (m->backup.tasks != NULL)
		task_free(m->backup.tasks);
}

/* On DOWN it stays until all is forgotten. */
static enum fileops_result go_on(struct backup_task *t, enum fileops_result r)
{
	while (t->step != NULL && r != FILEOPS_PENDING && r != FILEOPS_DOWN)
		r = t->step(t, r);
	return r;
}

static enum fileops_result conclude(struct backup_task *t, enum fileops_result r)
{
	if (r != FILEOPS_OK)
		t->outer->err = t->why.class != ERR_NONE ? t->why : t->op.err;
	task_free(t);
	return r;
}

static void on_done(struct fileop *op)
{
	struct backup_task *t = op->owner;
	struct fileop *outer = t->outer;
	enum fileops_result r = go_on(t, op->result);

	if (r == FILEOPS_PENDING || r == FILEOPS_DOWN)
		return;
	outer->result = conclude(t, r);
	outer->done(outer);
}

static struct backup_task *task_new(struct mirror *m, struct fileop *outer, const char *from, size_t from_len,
				    const char *path, size_t len)
{
	struct backup_task *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->m = m;
	t->outer = outer;
	t->op.owner = t;
	t->op.done = on_done;
	t->next = m->backup.tasks;
	if (t->next != NULL)
		t->next->prev = t;
	m->backup.tasks = t;
	t->path = strndup(path, len);
	t->len = len;
	t->from = from == NULL ? NULL : strndup(from, from_len);
	t->from_len = from_len;
	if (t->path != NULL && (from == NULL || t->from != NULL))
		return t;
	task_free(t);
	return NULL;
}

static enum fileops_result over(struct backup_task *t, enum fileops_result r)
{
	t->step = NULL;
	return r;
}

/* It can't be put away. */
static enum fileops_result give_up(struct backup_task *t, enum fileops_result r, const char *words)
{
	const struct err *said = &t->op.err;

	if (words == NULL)
		words = said->class == ERR_NONE ? "failed" : said->text;
	err_set(&t->why, said->class == ERR_NONE ? ERR_IO : said->class,
		"left as it is, for it can't be put away in %.150s (backupDir): %.200s", t->m->backup.dir, words);
	return over(t, r == FILEOPS_DENIED ? r : FILEOPS_FAILED);
}

/* ---- the name in the backup ---- */

/* DIR/PATH; with a time at the end of it when that is taken; with one at the end of DIR when what is there is no
 * directory, or can't be entered. */
static bool make_dest(struct backup_task *t)
{
	const struct mirror_backup *b = &t->m->backup;
	size_t base = path_base(t->path, t->len), name = t->len - base;
	size_t need = strlen(b->dir) + t->len + 2 * BACKUP_STAMP_MAX + 16;
	int n;

	if (need > PATH_BYTES_MAX)
		return false;
	if (t->dest_cap < need) {
		char *dest = realloc(t->dest, need);

		if (dest == NULL)
			return false;
		t->dest = dest;
		t->dest_cap = need;
	}
	if (t->version > 0 && name > NAME_KEPT)
		name = NAME_KEPT;
	/* Beside it, but within the root of all backups, which alone is left out of the sync. */
	t->top_len = (size_t)snprintf(t->dest, need, "%s%s%s", b->dir,
				      t->beside && b->dir[b->root_len] == '\0' ? "/" : "", t->beside ? b->stamp : "");
	n = snprintf(t->dest + t->top_len, need - t->top_len, "/%.*s", (int)(base + name), t->path);
	t->dest_len = t->top_len + (size_t)n;
	if (t->version > 0)
		t->dest_len += (size_t)snprintf(t->dest + t->dest_len, need - t->dest_len, "%s", b->stamp);
	if (t->version > 1)
		t->dest_len += (size_t)snprintf(t->dest + t->dest_len, need - t->dest_len, ".%u", t->version);
	return true;
}

static enum fileops_result another_name(struct backup_task *t)
{
	if (++t->version > VERSIONS_MAX)
		return give_up(t, FILEOPS_FAILED, "too many of that name are there");
	return put_away(t, FILEOPS_OK);
}

/* ---- directories above it ---- */

static enum fileops_result dir_attrs_set(struct backup_task *t, enum fileops_result r)
{
	(void)r; /* as good as it goes: what is in it has its own */
	return make_next_dir(t, FILEOPS_OK);
}

/* Like the one that it stands for; but we have to get into it. */
static enum fileops_result model_looked(struct backup_task *t, enum fileops_result r)
{
	struct mirror *m = t->m;
	const struct stat *st = &t->op.st;

	if (r != FILEOPS_OK || !S_ISDIR(st->st_mode))
		return make_next_dir(t, FILEOPS_OK);
	t->attrs = (struct fileops_attrs){ .mask = FILEOPS_MODE,
					   .type = S_IFDIR,
					   .uid = st->st_uid,
					   .gid = st->st_gid,
					   .mode = (st->st_mode & 07777) | 0700 };
	if ((m->target.caps & FILEOPS_OWNERS) != 0)
		t->attrs.mask |= FILEOPS_OWNER | FILEOPS_GROUP;
	t->step = dir_attrs_set;
	return m->target.ops->attrs(m->target.ctx, &t->op, t->dest, t->up, &t->attrs);
}

/* The root of all backups was made, in a directory that is mirrored: that one is as it was. */
static enum fileops_result restore_above(struct backup_task *t)
{
	struct mirror *m = t->m;

	t->attrs = (struct fileops_attrs){ .mask = FILEOPS_MTIME, .type = S_IFDIR, .mtime = t->above_mtime };
	t->step = dir_attrs_set;
	return m->target.ops->attrs(m->target.ctx, &t->op, t->dest, path_parent_len(t->dest, t->up), &t->attrs);
}

static enum fileops_result dir_made(struct backup_task *t, enum fileops_result r)
{
	struct mirror *m = t->m;

	if (r == FILEOPS_OK && t->up <= m->backup.root_len && t->above_known)
		return restore_above(t);
	/* A target that says "failed" may mean that it is there: what comes next tells. */
	if (r != FILEOPS_OK || t->up <= t->top_len)
		return r == FILEOPS_DENIED ? give_up(t, r, NULL) : make_next_dir(t, FILEOPS_OK);
	t->step = model_looked;
	return m->target.ops->look(m->target.ctx, &t->op, t->dest + t->top_len + 1, t->up - t->top_len - 1);
}

static enum fileops_result make_dir(struct backup_task *t)
{
	struct mirror *m = t->m;

	t->step = dir_made;
	return m->target.ops->mkdir(m->target.ctx, &t->op, t->dest, t->up);
}

static enum fileops_result above_looked(struct backup_task *t, enum fileops_result r)
{
	t->above_known = r == FILEOPS_OK && S_ISDIR(t->op.st.st_mode);
	t->above_mtime = t->op.st.st_mtim;
	return make_dir(t);
}

static enum fileops_result make_next_dir(struct backup_task *t, enum fileops_result r)
{
	struct mirror *m = t->m;
	const char *slash = strchr(t->dest + t->up + (t->up > 0), '/');

	(void)r;
	t->op.err = (struct err)ERR_INIT;
	if (slash == NULL) {
		t->step = put_away;
		return FILEOPS_OK;
	}
	t->up = (size_t)(slash - t->dest);
	if (t->up > m->backup.root_len)
		return make_dir(t);
	t->step = above_looked;
	return m->target.ops->look(m->target.ctx, &t->op, t->dest, path_parent_len(t->dest, t->up));
}

/* ---- put away ---- */

static enum fileops_result still_there(struct backup_task *t, enum fileops_result r)
{
	if (r == FILEOPS_GONE) { /* at the target, meanwhile */
		t->op.err = (struct err)ERR_INIT;
		return t->from == NULL ? over(t, FILEOPS_GONE) : replace(t, FILEOPS_OK);
	}
	if (r != FILEOPS_OK)
		return give_up(t, r, NULL);
	if (t->beside)
		return give_up(t, FILEOPS_FAILED, "a directory of it can't be made");
	/* Something that is no directory is in its way. */
	t->beside = true;
	t->dirs_made = false;
	t->version = 0;
	return put_away(t, FILEOPS_OK);
}

static enum fileops_result dest_looked(struct backup_task *t, enum fileops_result r)
{
	if (r == FILEOPS_OK)
		return another_name(t);
	if (t->moves) {
		t->op.err = t->said;
		return give_up(t, t->failed, NULL);
	}
	/* No hard links there, it seems. */
	t->moves = true;
	return put_away(t, FILEOPS_OK);
}

static enum fileops_result was_put_away(struct backup_task *t, enum fileops_result r)
{
	struct mirror *m = t->m;

	switch (r) {
	case FILEOPS_OK:
		t->done = t->moves ? MOVED : LINKED;
		if (t->from == NULL)
			return over(t, FILEOPS_OK);
		t->step = replace;
		return FILEOPS_OK;
	case FILEOPS_EXISTS:
	case FILEOPS_NOTEMPTY:
		return another_name(t);
	case FILEOPS_GONE:
	case FILEOPS_TYPE:
		if (!t->dirs_made) {
			t->dirs_made = true;
			t->up = 0;
			return make_next_dir(t, FILEOPS_OK);
		}
		t->step = still_there;
		return m->target.ops->look(m->target.ctx, &t->op, t->path, t->len);
	default:
		/* Taken, or not possible: not every target tells. */
		t->failed = r;
		t->said = t->op.err;
		t->step = dest_looked;
		return m->target.ops->look(m->target.ctx, &t->op, t->dest, t->dest_len);
	}
}

static enum fileops_result free_looked(struct backup_task *t, enum fileops_result r)
{
	struct mirror *m = t->m;

	if (r == FILEOPS_OK)
		return another_name(t);
	t->op.err = (struct err)ERR_INIT;
	t->step = was_put_away;
	return m->target.ops->rename(m->target.ctx, &t->op, t->path, t->len, t->dest, t->dest_len, true);
}

static enum fileops_result put_away(struct backup_task *t, enum fileops_result r)
{
	struct mirror *m = t->m;

	(void)r;
	t->op.err = (struct err)ERR_INIT;
	if (!make_dest(t))
		return give_up(t, FILEOPS_FAILED, "its path would be too long");
	if (!t->moves) {
		t->step = was_put_away;
		return m->target.ops->link(m->target.ctx, &t->op, t->path, t->len, t->dest, t->dest_len);
	}
	/* Not every target can refuse to replace what is there. */
	t->step = free_looked;
	return m->target.ops->look(m->target.ctx, &t->op, t->dest, t->dest_len);
}

/* ---- the new one takes its place ---- */

static enum fileops_result undone(struct backup_task *t, enum fileops_result r)
{
	(void)r; /* a backup too many, or a file that the next attempt brings anew: nothing is lost */
	return over(t, t->failed);
}

static enum fileops_result replaced(struct backup_task *t, enum fileops_result r)
{
	struct mirror *m = t->m;

	if (r == FILEOPS_OK)
		return over(t, r);
	t->failed = r;
	t->why = t->op.err;
	t->step = undone;
	if (t->done == LINKED)
		return m->target.ops->unlink(m->target.ctx, &t->op, t->dest, t->dest_len);
	if (t->done == MOVED)
		return m->target.ops->rename(m->target.ctx, &t->op, t->dest, t->dest_len, t->path, t->len, true);
	return over(t, r);
}

static enum fileops_result replace(struct backup_task *t, enum fileops_result r)
{
	struct mirror *m = t->m;

	(void)r;
	t->step = replaced;
	return m->target.ops->rename(m->target.ctx, &t->op, t->from, t->from_len, t->path, t->len, false);
}

/* ---- the start ---- */

/* What is a directory is the engine's to deal with, by the result that it would have got without a backup. */
static enum fileops_result there_looked(struct backup_task *t, enum fileops_result r)
{
	const struct mirror *m = t->m;
	bool is_dir = r == FILEOPS_OK && S_ISDIR(t->op.st.st_mode);

	if (t->from == NULL && (r == FILEOPS_GONE || is_dir))
		return over(t, is_dir ? FILEOPS_TYPE : FILEOPS_GONE);
	if (r == FILEOPS_GONE || is_dir)
		return replace(t, FILEOPS_OK);
	/* A server may link what a symlink leads to. */
	if (r == FILEOPS_OK && S_ISLNK(t->op.st.st_mode) && (m->target.caps & FILEOPS_INODES) == 0)
		t->moves = true;
	return r == FILEOPS_OK ? put_away(t, r) : give_up(t, r, NULL);
}

static enum fileops_result start(struct mirror *m, struct fileop *op, const char *from, size_t from_len,
				 const char *path, size_t len)
{
	struct backup_task *t = task_new(m, op, from, from_len, path, len);
	enum fileops_result r;

	if (t == NULL) {
		err_set(&op->err, ERR_NOMEM, "out of memory");
		return FILEOPS_FAILED;
	}
	t->moves = from == NULL || (m->target.caps & FILEOPS_LINKS) == 0;
	t->step = there_looked;
	r = go_on(t, m->target.ops->look(m->target.ctx, &t->op, path, len));
	return r == FILEOPS_PENDING || r == FILEOPS_DOWN ? r : conclude(t, r);
}

static bool is_ours(const char *path, size_t len)
{
	size_t base = path_base(path, len);

	return path_is_temp(path + base, len - base);
}

enum fileops_result backup_rename(struct mirror *m, struct fileop *op, const char *from, size_t from_len,
				  const char *to, size_t to_len, bool keep)
{
	if (m->backup.dir[0] == '\0' || keep)
		return m->target.ops->rename(m->target.ctx, op, from, from_len, to, to_len, keep);
	return start(m, op, from, from_len, to, to_len);
}

enum fileops_result backup_unlink(struct mirror *m, struct fileop *op, const char *path, size_t len)
{
	if (m->backup.dir[0] == '\0' || is_ours(path, len))
		return m->target.ops->unlink(m->target.ctx, op, path, len);
	return start(m, op, NULL, 0, path, len);
}

int backup_begin(struct mirror *m, struct err *err)
{
	const char *text = m->env->opt->backup_dir;
	int64_t now = clock_real_ns();

	m->backup.dir[0] = '\0';
	m->backup.root_len = 0;
	if (text == NULL)
		return 0;
	m->backup.root_len = backup_dir_root(text);
	backup_dir_stamp(m->backup.stamp, now);
	return backup_dir_at(m->backup.dir, text, now, err) < 0 ? -1 : 0;
}

void backup_refusal(struct err *why)
{
	err_set(why, ERR_CONFIG, "the target keeps its backups there (backupDir): leave that name out with exclude");
}

bool backup_covers(const struct mirror *m, const char *path, size_t len)
{
	return m->backup.root_len > 0 && path_within(path, len, m->backup.dir, m->backup.root_len);
}
