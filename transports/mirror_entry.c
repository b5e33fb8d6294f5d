/* mirror_entry.c - one name of the target is made what it is on the source, or removed; see mirror_private.h. */
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "transports/mirror_private.h"

/* ---- tasks ---- */

static void on_done(struct fileop *op)
{
	struct entry *e = op->owner;
	struct mirror *m = e->m;

	entry_go_on(e, op->result);
	mirror_pump(m);
}

static struct entry *take_free(struct mirror *m)
{
	struct entry *e = m->free_entries;

	if (e != NULL) {
		char *path = e->path, *temp = e->temp;
		size_t cap = e->cap, temp_cap = e->temp_cap;

		m->free_entries = e->next;
		/* All but the operation, which is large, and says only what it was asked for. */
		memset(e, 0, offsetof(struct entry, op));
		memset((char *)e + offsetof(struct entry, from), 0,
		       offsetof(struct entry, why) - offsetof(struct entry, from));
		e->path = path;
		e->cap = cap;
		e->temp = temp;
		e->temp_cap = temp_cap;
		return e;
	}
	return calloc(1, sizeof(*e));
}

static bool set_path(struct entry *e, const char *dir, size_t dir_len, const char *name, size_t name_len)
{
	size_t len = dir_len + (dir_len > 0 && name_len > 0) + name_len;
	char *path = e->path;

	if (e->cap <= len) {
		path = realloc(e->path, len + 64);
		if (path == NULL)
			return false;
		e->path = path;
		e->cap = len + 64;
	}
	if (dir_len > 0)
		memcpy(path, dir, dir_len);
	if (dir_len > 0 && name_len > 0)
		path[dir_len] = '/';
	if (name_len > 0)
		memcpy(path + len - name_len, name, name_len);
	path[len] = '\0';
	e->len = len;
	return true;
}

struct entry *entry_new(struct mirror *m, const char *dir, size_t dir_len, const char *name, size_t name_len)
{
	struct entry *e = take_free(m);

	if (e != NULL && !set_path(e, dir, dir_len, name, name_len)) {
		free(e->temp);
		free(e->path);
		free(e);
		e = NULL;
	}
	if (e == NULL) {
		struct err why = ERR_INIT;

		err_set(&why, ERR_NOMEM, "out of memory");
		mirror_found(m, dir, dir_len, VERDICT_RECONCILE, &why); /* its place in it is lost */
		return NULL;
	}
	e->m = m;
	e->item = SIZE_MAX;
	e->op.owner = e;
	e->op.done = on_done;
	e->op.copied = 0;
	e->op.unmet = 0;
	e->op.refused = false;
	e->next = m->active;
	if (e->next != NULL)
		e->next->prev = e;
	m->active = e;
	m->n_active++;
	return e;
}

static void release(struct entry *e)
{
	struct mirror *m = e->m;

	if (e->from_open)
		m->source.ops->drop(m->source.ctx, &e->from);
	part_free_sweep(e);
	free(e->xattrs);
	free(e->text);
	free(e->there_text);
	e->op.copied = 0;
	if (e->prev != NULL)
		e->prev->next = e->next;
	else
		m->active = e->next;
	if (e->next != NULL)
		e->next->prev = e->prev;
	m->n_active -= !e->parked;
	e->next = m->free_entries;
	m->free_entries = e;
}

void entry_free_all(struct mirror *m)
{
	while (m->active != NULL)
		release(m->active);
}

void entry_go_on(struct entry *e, enum fileops_result r)
{
	while (e->step != NULL && r != FILEOPS_PENDING) {
		if (r == FILEOPS_DOWN)
			return; /* the transport says so, too */
		e->r = r;
		r = e->step(e);
	}
	if (e->step == NULL)
		release(e);
}

void entry_start(struct entry *e, entry_step *first)
{
	e->step = first;
	entry_go_on(e, FILEOPS_OK);
}

void entry_take_bytes(struct entry *e, char **to, size_t *len)
{
	free(*to);
	*to = e->op.bytes;
	*len = e->op.n_bytes;
	e->op.bytes = NULL;
}

enum fileops_result entry_finish(struct entry *e, enum verdict v, const struct err *why)
{
	struct mirror *m = e->m;
	struct dir *finished = e->finishes, *dir = e->dir;

	e->step = NULL;
	if (e->renames) {
		apply_rename_failed(e, why);
		return FILEOPS_OK;
	}
	if (e->notes && v == VERDICT_DONE && !e->wipe_refused)
		both_done(e);
	if (e->group != NULL)
		links_leave(e, v == VERDICT_DONE);
	if (e->deletes && v == VERDICT_RETRY && (finished != NULL || dir != NULL))
		dir_deletion_failed(finished != NULL ? finished : dir, why);
	else if (e->item != SIZE_MAX)
		mirror_settle(m, e->item, v, why);
	else if (v == VERDICT_RETRY && finished == NULL && S_ISDIR(e->src.st_mode)) /* what is in it was left out */
		mirror_found(m, e->path, e->len, VERDICT_RECONCILE, why);
	else if (v != VERDICT_DONE && v != VERDICT_GONE)
		mirror_found(m, e->path, e->len, v, why);
	mirror_show(m, m->reconcile ? "comparing" : "sending", e->path, e->len);
	if (finished != NULL)
		dir_finished(finished);
	else if (dir != NULL)
		dir_child_done(dir);
	return FILEOPS_OK;
}

static void explain(const struct entry *e, struct err *why)
{
	err_set(why, e->op.err.class == ERR_NONE ? ERR_IO : e->op.err.class, "%.*s: %.300s",
		(int)(e->len < 180 ? e->len : 180), e->len == 0 ? "the directory itself" : e->path,
		e->op.err.class == ERR_NONE ? "failed" : e->op.err.text);
	why->code = e->op.err.code;
}

enum fileops_result entry_fail(struct entry *e)
{
	struct err why = ERR_INIT;

	explain(e, &why);
	return entry_finish(e, VERDICT_RETRY, &why);
}

bool entry_temp(struct entry *e, enum temp_kind kind, uint64_t version)
{
	size_t need = e->len + NAME_BYTES_MAX + 1;

	if (e->temp_cap < need) {
		char *temp = realloc(e->temp, need);

		if (temp == NULL)
			return false;
		e->temp = temp;
		e->temp_cap = need;
	}
	e->temp_len = temp_path(e->temp, e->path, e->len, kind, e->m->tag, version, e->hashed);
	return true;
}

static enum fileops_result abandoned(struct entry *e)
{
	return entry_finish(e, e->verdict, e->verdict == VERDICT_DONE ? NULL : &e->why);
}

enum fileops_result entry_abandon(struct entry *e, enum verdict v, const struct err *why)
{
	struct mirror *m = e->m;

	e->verdict = v;
	if (why != NULL)
		e->why = *why;
	else
		explain(e, &e->why);
	e->step = abandoned;
	return m->target.ops->unlink(m->target.ctx, &e->op, e->temp, e->temp_len);
}

/* ---- making way ---- */

static entry_step make_above, made_above;

static enum fileops_result above_cleared(struct entry *e)
{
	if (e->r != FILEOPS_OK && e->r != FILEOPS_GONE)
		return entry_fail(e);
	e->downwards = true;
	return make_above(e);
}

static enum fileops_result above_looked(struct entry *e);

/* What was planned may be gone here, too: then its host's file is all that is left. */
static enum fileops_result above_here(struct entry *e)
{
	struct mirror *m = e->m;

	if (e->r != FILEOPS_OK || !S_ISDIR(e->op.st.st_mode))
		return entry_fail(e);
	e->step = above_looked;
	return m->target.ops->look(m->target.ctx, &e->op, e->path, e->up);
}

static enum fileops_result above_looked(struct entry *e)
{
	if (e->r != FILEOPS_OK || S_ISDIR(e->op.st.st_mode))
		return entry_fail(e);
	e->step = above_cleared;
	return both_clear_above(e, e->up, &e->op.st);
}

/* What stands at the first `len` bytes is no directory. One way its comparison says what becomes of it; both ways that
 * is its host's to change, which can't make a directory with something new in it into anything else: neither would give
 * way. */
static bool force_above(struct entry *e, size_t len, enum fileops_result *out)
{
	struct mirror *m = e->m;

	mirror_found(m, e->path, len, VERDICT_RECONCILE, NULL);
	if (m->twoway == NULL || e->forced || e->renames || e->deletes || len == 0 ||
	    keep_touches(m->work->keep, e->path, len) != NULL)
		return false;
	e->forced = true;
	e->up = len;
	e->step = above_here;
	*out = m->source.ops->look(m->source.ctx, &e->op, e->path, len);
	return true;
}

static enum fileops_result make_above(struct entry *e)
{
	struct mirror *m = e->m;

	e->step = made_above;
	return m->target.ops->mkdir(m->target.ctx, &e->op, e->path, e->up);
}

static enum fileops_result made_above(struct entry *e)
{
	size_t above = path_parent_len(e->path, e->len);
	enum fileops_result out;
	const char *slash;

	/* A name above it is there: then it is no directory (a symlink, say, or a file), or has just gone. */
	if (e->r == FILEOPS_GONE && e->downwards)
		return force_above(e, path_parent_len(e->path, e->up), &out) ? out : entry_fail(e);
	if (e->r == FILEOPS_GONE) {
		e->up = path_parent_len(e->path, e->up);
		return e->up == 0 ? entry_fail(e) : make_above(e);
	}
	if (e->r != FILEOPS_OK && e->r != FILEOPS_EXISTS && e->r != FILEOPS_FAILED)
		return entry_fail(e);
	/* What it held is missing as well. */
	if (e->r == FILEOPS_OK)
		mirror_found(e->m, e->path, e->up, VERDICT_RECONCILE, NULL);
	if (e->up == above) {
		e->step = e->again;
		return e->again(e);
	}
	e->downwards = true;
	slash = memchr(e->path + e->up + 1, '/', e->len - e->up - 1);
	e->up = slash == NULL ? above : (size_t)(slash - e->path);
	return make_above(e);
}

static enum fileops_result unlock_done(struct entry *e)
{
	e->step = e->again;
	return e->again(e);
}

/* What the directory above looks like is known: is it its mode that keeps us out? */
static enum fileops_result unlock_looked(struct entry *e)
{
	struct mirror *m = e->m;
	size_t above = path_parent_len(e->path, e->len);
	mode_t mode = e->op.st.st_mode;

	if (e->r != FILEOPS_OK || (mode & 0300) == 0300 || !mirror_note_unlocked(m, e->path, above, mode & 07777)) {
		/* The words of the operation that was denied still stand there, unless the look failed, too. */
		if (e->r != FILEOPS_OK || e->op.err.class == ERR_NONE)
			err_set(&e->op.err, ERR_DENIED, "permission denied");
		e->r = FILEOPS_DENIED;
		return entry_fail(e);
	}
	e->attrs = (struct fileops_attrs){ .mask = FILEOPS_MODE, .type = S_IFDIR, .mode = (mode & 07777) | 0700 };
	e->step = unlock_done;
	return m->target.ops->attrs(m->target.ctx, &e->op, e->path, above, &e->attrs);
}

bool entry_make_way(struct entry *e, entry_step *again, enum fileops_result *out)
{
	struct mirror *m = e->m;
	size_t above = path_parent_len(e->path, e->len);

	e->again = again;
	if (e->r == FILEOPS_GONE && !e->parented && above > 0) {
		e->parented = true;
		e->downwards = false;
		e->up = above;
		*out = make_above(e);
		return true;
	}
	if (e->r == FILEOPS_DENIED && !e->unlocked && e->len > 0) {
		e->unlocked = true;
		e->step = unlock_looked;
		*out = m->target.ops->look(m->target.ctx, &e->op, e->path, above);
		return true;
	}
	return e->r == FILEOPS_GONE && e->parented && force_above(e, above, out);
}

static enum fileops_result restored(struct entry *e)
{
	return entry_finish(e, VERDICT_DONE, NULL); /* it may have been removed meanwhile */
}

enum fileops_result entry_restore_mode(struct entry *e)
{
	e->step = restored;
	return e->m->target.ops->attrs(e->m->target.ctx, &e->op, e->path, e->len, &e->attrs);
}

/* ---- a directory in the way ---- */

static enum fileops_result refuse(struct entry *e)
{
	struct err why = ERR_INIT;

	if (keep_touches(e->m->work->keep, e->path, e->len) != NULL)
		err_set(&why, ERR_UNSAFE,
			"a directory of that name at the target holds files, and nothing is deleted there now");
	else if (!e->m->work->may_delete)
		err_set(&why, ERR_CONFIG, "a directory of that name at the target holds files, and `delete` is off");
	else if (e->wipe_refused)
		err_set(&why, ERR_UNSAFE,
			"not deleted: more deletions than maxDelete allows; raise it, or run fansyncd --sync-now "
			"--allow-delete");
	else
		err_set(&why, ERR_CONFIG, "a directory of that name at the target holds what the filter protects");
	return entry_finish(e, VERDICT_REJECT, &why);
}

static enum fileops_result cleared(struct entry *e)
{
	if (e->verdict != VERDICT_NONE)
		return entry_finish(e, e->verdict, &e->why);
	if (e->wipe_kept || (e->r != FILEOPS_OK && e->r != FILEOPS_GONE)) {
		if (e->wipe_refused && e->m->limit_open && e->dir != NULL) {
			e->dir->deferred = true; /* again when the limit is known */
			return entry_finish(e, VERDICT_DONE, NULL);
		}
		return refuse(e);
	}
	e->dst_there = false;
	e->step = e->again;
	return e->again(e);
}

enum fileops_result entry_clear_target(struct entry *e)
{
	struct mirror *m = e->m;

	e->step = cleared;
	if (!m->work->may_delete || keep_touches(m->work->keep, e->path, e->len) != NULL)
		return m->rules.dry_run ? FILEOPS_OK : m->target.ops->rmdir(m->target.ctx, &e->op, e->path, e->len);
	return dir_wipe_for(e);
}

/* ---- equal content: attributes ---- */

void entry_note_unmet(struct entry *e)
{
	struct mirror *m = e->m;
	unsigned news = e->op.unmet & ~m->rules.unmet;
	int len = (int)(e->len < 200 ? e->len : 200);

	if (e->op.refused && !m->told_refused)
		log_normal("the target refuses an extended attribute of %.*s, which is mirrored without it; so are "
			   "others, without "
			   "a word",
			   len, e->path);
	m->told_refused = m->told_refused || e->op.refused;
	e->op.refused = false;
	if (news == 0)
		return;
	m->rules.unmet |= news;
	log_normal("the target does not take%s%s%s from us, first of %.*s: not mirrored",
		   (news & FILEOPS_OWNER) != 0 ? " owners" : "", (news & FILEOPS_GROUP) != 0 ? " groups" : "",
		   (news & FILEOPS_XATTR) != 0 ? " extended attributes" : "", len, e->path);
}

static enum fileops_result attrs_set(struct entry *e)
{
	if (e->r == FILEOPS_GONE && e->finishes == NULL && !e->looked_again) {
		/* It vanished at the target since it was looked at. */
		e->looked_again = true;
		e->dst_known = false;
		return entry_sync(e);
	}
	if (e->r != FILEOPS_OK)
		return entry_fail(e);
	entry_note_unmet(e);
	return entry_finish(e, VERDICT_DONE, NULL);
}

enum fileops_result entry_set_attrs(struct entry *e)
{
	struct mirror *m = e->m;

	if (e->attrs.mask == 0 || m->rules.dry_run)
		return entry_finish(e, VERDICT_DONE, NULL);
	e->step = attrs_set;
	return m->target.ops->attrs(m->target.ctx, &e->op, e->path, e->len, &e->attrs);
}

static bool has_capabilities(const struct entry *e)
{
	static const char name[] = "security.capability";

	return e->xattrs_len > 0 && memmem(e->xattrs, e->xattrs_len, name, sizeof(name) - 1) != NULL;
}

/* Its content is not believed to be what its size and time say. */
static enum fileops_result resend(struct entry *e)
{
	free(e->xattrs);
	e->xattrs = NULL;
	e->xattrs_len = 0;
	e->no_base = true;
	return send_file(e);
}

static enum fileops_result target_xattrs(struct entry *e)
{
	bool same;

	if (e->r != FILEOPS_OK)
		return entry_fail(e);
	same = e->op.n_bytes == e->xattrs_len &&
	       (e->xattrs_len == 0 || memcmp(e->op.bytes, e->xattrs, e->xattrs_len) == 0);
	free(e->op.bytes);
	e->op.bytes = NULL;
	/* A file's own capabilities are a set-id bit by another name. */
	if (!same && S_ISREG(e->src.st_mode) && ((e->attrs.one_name && e->dst.st_nlink > 1) || has_capabilities(e)))
		return resend(e);
	if (!same) {
		e->attrs.mask |= FILEOPS_XATTR;
		e->attrs.xattr_kinds = e->m->rules.xattr_kinds;
		e->attrs.xattrs = e->xattrs;
		e->attrs.xattrs_len = e->xattrs_len;
	}
	return entry_set_attrs(e);
}

static enum fileops_result source_xattrs(struct entry *e)
{
	if (e->r == FILEOPS_GONE)
		return entry_finish(e, VERDICT_GONE, NULL);
	if (e->r != FILEOPS_OK)
		return entry_fail(e);
	entry_take_bytes(e, &e->xattrs, &e->xattrs_len);
	e->step = target_xattrs;
	return e->m->target.ops->xattrs(e->m->target.ctx, &e->op, e->path, e->len, e->m->rules.xattr_kinds);
}

enum fileops_result entry_same(struct entry *e)
{
	struct mirror *m = e->m;

	if (S_ISDIR(e->src.st_mode) && m->rules.perms && mirror_forget_unlocked(m, e->path, e->len))
		e->dst.st_mode |= 0700;
	mirror_want_attrs(&m->rules, &e->src, e->dst_there ? &e->dst : NULL, !e->dst_there, &e->attrs);
	if (e->force_mtime && m->rules.dir_times)
		e->attrs.mask |= FILEOPS_MTIME;
	if (e->dst_there && mirror_unproven(&m->rules, &e->src, &e->dst, &e->attrs))
		return resend(e);
	if (m->rules.xattr_kinds == 0 || (m->rules.caps & FILEOPS_XATTRS) == 0 || S_ISLNK(e->src.st_mode) ||
	    (m->rules.unmet & FILEOPS_XATTR) != 0)
		return entry_set_attrs(e);
	e->step = source_xattrs;
	return m->source.ops->xattrs(m->source.ctx, &e->op, e->path, e->len, m->rules.xattr_kinds);
}

static enum fileops_result dir_looked(struct entry *e)
{
	if (e->r != FILEOPS_OK)
		return entry_fail(e);
	e->dst_known = e->dst_there = true;
	e->dst = e->op.st;
	return entry_same(e);
}

enum fileops_result entry_dir_attrs(struct entry *e)
{
	e->step = dir_looked;
	return e->m->target.ops->look(e->m->target.ctx, &e->op, e->path, e->len);
}

/* ---- directories ---- */

static enum fileops_result make_dir(struct entry *e);

/* It stands at the target: what is in it is next, its attributes come last. */
static enum fileops_result dir_is_there(struct entry *e, bool fresh)
{
	struct mirror *m = e->m;
	struct dir *d;

	if (e->item != SIZE_MAX && !m->reconcile) {
		size_t item = e->item;

		/* Nobody marked what it held, unless it is a new one at the source, too. */
		if (fresh && (m->work->items[item].flags & MARK_NAME) == 0)
			mirror_found(m, e->path, e->len, VERDICT_RECONCILE, NULL);
		if (e->keep_attrs)
			return entry_finish(e, VERDICT_DONE, NULL);
		e->item = SIZE_MAX;
		apply_entered(m, item);
		return entry_finish(e, VERDICT_DONE, NULL);
	}
	d = dir_new(m, e->dir, e->path, e->len, NULL, 0);
	if (d == NULL) {
		err_set(&e->op.err, ERR_NOMEM, "out of memory");
		return entry_fail(e);
	}
	d->item = e->item;
	d->src = e->src;
	d->dst = e->dst;
	d->fresh = fresh;
	d->keep_attrs = e->keep_attrs;
	e->item = SIZE_MAX;
	dir_push(d);
	return entry_finish(e, VERDICT_DONE, NULL);
}

static enum fileops_result not_made_looked(struct entry *e)
{
	if (e->r == FILEOPS_GONE && !e->looked_again) {
		e->looked_again = true;
		return make_dir(e);
	}
	if (e->r != FILEOPS_OK) {
		e->op.err.class = ERR_NONE;
		return entry_fail(e);
	}
	e->dst_known = e->dst_there = true;
	e->dst = e->op.st;
	return entry_sync(e);
}

/* What it could not be given is tried again, and told, with the times. */
static enum fileops_result dir_dressed(struct entry *e)
{
	return dir_is_there(e, true);
}

/* Both ways a new directory is itself at once, not when all in it has come: were the work cut off before, its bare mode
 * would be a state of that host's, which may beat ours. */
static bool dress_dir(struct entry *e, enum fileops_result *out)
{
	struct mirror *m = e->m;

	if (m->twoway == NULL || m->rules.dry_run)
		return false;
	mirror_want_attrs(&m->rules, &e->src, NULL, true, &e->attrs);
	e->attrs.mask &= FILEOPS_OWNER | FILEOPS_GROUP | FILEOPS_MODE;
	if (e->attrs.mask == 0 || (e->attrs.mode & 0700) != 0700)
		return false; /* else nothing could be made in it */
	e->step = dir_dressed;
	*out = m->target.ops->attrs(m->target.ctx, &e->op, e->path, e->len, &e->attrs);
	return true;
}

static enum fileops_result dir_made(struct entry *e)
{
	struct mirror *m = e->m;
	enum fileops_result out;

	if (e->r == FILEOPS_OK) {
		if (e->dir != NULL)
			e->dir->changed = true;
		return dress_dir(e, &out) ? out : dir_is_there(e, true);
	}
	if (entry_make_way(e, make_dir, &out))
		return out;
	if (e->r != FILEOPS_EXISTS && e->r != FILEOPS_FAILED && e->r != FILEOPS_TYPE)
		return entry_fail(e);
	e->step = not_made_looked;
	return m->target.ops->look(m->target.ctx, &e->op, e->path, e->len);
}

static enum fileops_result make_dir(struct entry *e)
{
	struct mirror *m = e->m;

	e->step = dir_made;
	if (m->rules.existing && !e->dst_there)
		return entry_finish(e, VERDICT_DONE, NULL);
	return m->rules.dry_run ? FILEOPS_OK : m->target.ops->mkdir(m->target.ctx, &e->op, e->path, e->len);
}

static enum fileops_result file_removed(struct entry *e)
{
	enum fileops_result out;

	if (e->r != FILEOPS_OK && e->r != FILEOPS_GONE)
		return entry_make_way(e, entry_sync, &out) ? out : entry_fail(e);
	e->dst_there = false;
	return make_dir(e);
}

static enum fileops_result sync_dir(struct entry *e)
{
	struct mirror *m = e->m;

	if (!e->dst_there)
		return make_dir(e);
	if (S_ISDIR(e->dst.st_mode))
		return dir_is_there(e, false);
	e->step = file_removed;
	return m->rules.dry_run ? FILEOPS_OK : backup_unlink(m, &e->op, e->path, e->len);
}

/* ---- all kinds ---- */

static void tell_skipped(struct mirror *m, const struct entry *e, const char *word)
{
	unsigned bit = 1u << ((e->src.st_mode >> 12) & 15);

	if ((m->skipped_kinds & bit) != 0)
		return;
	m->skipped_kinds |= bit;
	log_normal("%s are not mirrored by this sync, first: %.*s", word, (int)(e->len < 200 ? e->len : 200), e->path);
}

static enum fileops_result sync_other(struct entry *e)
{
	struct mirror *m = e->m;
	struct mirror_look look = {
		.src = &e->src, .dst = e->dst_there ? &e->dst : NULL, .now_ns = m->now_ns, .harder = e->harder
	};
	enum fileops_result out;

	if (e->dst_there && S_ISDIR(e->dst.st_mode)) {
		e->again = entry_sync;
		return entry_clear_target(e);
	}
	if (!S_ISREG(e->src.st_mode)) {
		if (!e->dst_there && m->rules.existing)
			return entry_finish(e, VERDICT_DONE, NULL);
		return S_ISLNK(e->src.st_mode) ? send_symlink(e) : send_node(e);
	}
	if (m->rules.hard_links && e->src.st_nlink > 1 && e->group == NULL && links_join(e, &out))
		return out;
	switch (mirror_judge(m, e->path, e->len, &look)) {
	case MIRROR_SAME:
		return entry_same(e);
	case MIRROR_DOUBT:
		return send_compare(e);
	case MIRROR_KEEP:
	case MIRROR_SKIP:
		return entry_finish(e, VERDICT_DONE, NULL);
	default:
		return send_file(e);
	}
}

static enum fileops_result looked(struct entry *e)
{
	enum fileops_result out;

	if (e->r == FILEOPS_DENIED && entry_make_way(e, entry_sync, &out))
		return out;
	if (e->r != FILEOPS_OK && e->r != FILEOPS_GONE && e->r != FILEOPS_TYPE && e->r != FILEOPS_TOOLONG)
		return entry_fail(e);
	e->dst_known = true;
	e->dst_there = e->r == FILEOPS_OK;
	if (e->dst_there)
		e->dst = e->op.st;
	return entry_sync(e);
}

enum fileops_result entry_sync(struct entry *e)
{
	struct mirror *m = e->m;
	const char *word;

	if (!mirror_wants_kind(&m->rules, &e->src, &word)) {
		tell_skipped(m, e, word);
		return entry_finish(e, VERDICT_DONE, NULL);
	}
	if (m->twoway != NULL && !e->decided)
		return both_begin(e, false);
	if (!e->dst_known) {
		e->step = looked;
		return m->target.ops->look(m->target.ctx, &e->op, e->path, e->len);
	}
	return S_ISDIR(e->src.st_mode) ? sync_dir(e) : sync_other(e);
}

/* ---- removing ---- */

static enum fileops_result wiped(struct entry *e)
{
	if (e->verdict != VERDICT_NONE)
		return entry_finish(e, e->verdict, &e->why);
	if (e->wipe_refused) {
		if (e->dir == NULL)
			return refuse(e);
		e->dir->deferred = e->dir->deferred || e->m->limit_open; /* again when the limit is known */
		e->dir->refused = true;
		return entry_finish(e, VERDICT_DONE, NULL);
	}
	if (!e->wipe_kept && e->r != FILEOPS_OK && e->r != FILEOPS_GONE)
		return entry_fail(e);
	if (e->dir != NULL) {
		e->dir->changed = true;
		e->dir->kept = e->dir->kept || e->wipe_kept;
	}
	e->removed_dir = true;
	return entry_finish(e, VERDICT_DONE, NULL);
}

static enum fileops_result not_removed_looked(struct entry *e)
{
	enum fileops_result out;

	if (e->r == FILEOPS_GONE)
		return entry_finish(e, VERDICT_DONE, NULL);
	if (e->r == FILEOPS_OK && S_ISDIR(e->op.st.st_mode)) {
		e->step = wiped;
		return dir_wipe_for(e);
	}
	/* The error is still the removal's. */
	e->r = e->denied ? FILEOPS_DENIED : e->r;
	return entry_make_way(e, entry_delete, &out) ? out : entry_fail(e);
}

static enum fileops_result removed(struct entry *e)
{
	struct mirror *m = e->m;

	if (e->r == FILEOPS_OK) {
		m->deleted += e->leftover ? 0 : 1;
		/* What goes with its directory is told as one. */
		m->env->counters->deletions += e->leftover || (e->dir != NULL && e->dir->wipe) ? 0 : 1;
		if (e->dir != NULL)
			e->dir->changed = true;
	}
	if (e->r == FILEOPS_OK || e->r == FILEOPS_GONE)
		return entry_finish(e, VERDICT_DONE, NULL);
	if (!e->leftover)
		mirror_not_deleted(m);
	if (!e->as_directory && (e->r == FILEOPS_TYPE || e->r == FILEOPS_FAILED || e->r == FILEOPS_DENIED)) {
		e->as_directory = true;
		e->denied = e->r == FILEOPS_DENIED;
		e->step = not_removed_looked;
		return m->target.ops->look(m->target.ctx, &e->op, e->path, e->len);
	}
	return entry_fail(e);
}

enum fileops_result entry_delete(struct entry *e)
{
	struct mirror *m = e->m;

	if (m->twoway != NULL && !e->decided && !e->leftover)
		return both_begin(e, true);
	e->deletes = true;
	if (e->dst_known && e->dst_there && S_ISDIR(e->dst.st_mode)) {
		e->step = wiped;
		return dir_wipe_for(e);
	}
	if (!e->leftover && !mirror_may_delete_one(m)) {
		e->wipe_refused = true;
		return wiped(e);
	}
	e->step = removed;
	return m->rules.dry_run ? FILEOPS_OK : backup_unlink(m, &e->op, e->path, e->len);
}
