/* mirror_apply.c - the items of a work, phase by phase; see mirror_private.h. */
#include <stdlib.h>
#include <string.h>

#include "transports/mirror_private.h"

/* ---- renames ---- */

enum fileops_result apply_rename_over(struct entry *e, enum verdict v)
{
	struct mirror *m = e->m;
	size_t i = e->rename;

	e->step = NULL;
	if (!m->renames_settled[i])
		m->env->settle_rename(m->env->ctx, i, v, v == VERDICT_DONE ? NULL : &e->why);
	m->renames_settled[i] = true;
	m->renaming = false;
	return FILEOPS_OK;
}

void apply_rename_failed(struct entry *e, const struct err *why)
{
	if (why != NULL && why != &e->why)
		e->why = *why;
	(void)apply_rename_over(e, VERDICT_RECONCILE);
}

enum fileops_result apply_degrade(struct entry *e, const char *why)
{
	err_set(&e->why, ERR_CONFIG, "not renamed at the target: %s", why);
	return apply_rename_over(e, VERDICT_RECONCILE);
}

static enum fileops_result old_name_unlinked(struct entry *e)
{
	if (e->r != FILEOPS_OK && e->r != FILEOPS_GONE)
		return apply_degrade(e, e->op.err.text);
	return apply_rename_over(e, VERDICT_DONE);
}

static enum fileops_result rename_done(struct entry *e)
{
	struct mirror *m = e->m;
	const struct batch_rename *r = &m->work->renames[e->rename];
	enum fileops_result out;

	if (e->r == FILEOPS_OK) {
		m->env->counters->renames_carried++;
		if (m->twoway != NULL)
			return move_done(e);
		if (!m->rules.hard_links || r->is_dir)
			return apply_rename_over(e, VERDICT_DONE);
		/* rename(2) from one name of a file to another does nothing: the new name may have come here with
		 * another one of the file's, before this was told. */
		e->step = old_name_unlinked;
		return m->target.ops->unlink(m->target.ctx, &e->op, r->from, r->from_len);
	}
	/* The old name may be what is missing: then making directories does not help, and is not tried twice. */
	if (entry_make_way(e, apply_carry, &out))
		return out;
	return apply_degrade(e, e->op.err.text);
}

enum fileops_result apply_carry(struct entry *e)
{
	struct mirror *m = e->m;
	const struct batch_rename *r = &m->work->renames[e->rename];

	e->step = rename_done;
	return backup_rename(m, &e->op, r->from, r->from_len, e->path, e->len,
			     !m->work->may_delete || m->rules.update || m->twoway != NULL);
}

/* A file that replaces another in one step must not do so at the target with what it held before: programs write under
 * a new name and rename, and the target may have an earlier state of that name. */
static enum fileops_result source_looked(struct entry *e)
{
	const struct stat *now = &e->op.st;

	/* What was moved on is renamed once more, or deleted. */
	if (e->r == FILEOPS_GONE)
		return apply_carry(e);
	if (e->r != FILEOPS_OK || (now->st_mode & S_IFMT) != (e->dst.st_mode & S_IFMT) ||
	    (S_ISREG(now->st_mode) &&
	     (now->st_size != e->dst.st_size || !mirror_same_time(&e->m->rules, now, &e->dst))))
		return apply_degrade(e, "it was changed since");
	return apply_carry(e);
}

static enum fileops_result old_name_looked(struct entry *e)
{
	struct mirror *m = e->m;
	bool is_dir = e->r == FILEOPS_OK && S_ISDIR(e->op.st.st_mode);

	if (e->r != FILEOPS_OK)
		return apply_degrade(e, "it is not there");
	if (is_dir != m->work->renames[e->rename].is_dir)
		return apply_degrade(e, "it is of another type there");
	if (is_dir)
		return apply_carry(e);
	e->dst = e->op.st;
	e->step = source_looked;
	return m->source.ops->look(m->source.ctx, &e->op, e->path, e->len);
}

/* One after the other: what one moves the next may move on. */
static bool next_rename(struct mirror *m)
{
	const struct batch_rename *r;
	struct entry *e;

	if (m->renaming || m->next >= m->work->n_renames)
		return false;
	r = &m->work->renames[m->next++];
	e = entry_new(m, r->to, r->to_len, NULL, 0);
	if (e == NULL)
		return true; /* unsettled: it becomes a reconcile */
	e->rename = m->next - 1;
	e->renames = true;
	m->renaming = true;
	if (backup_covers(m, r->from, r->from_len) || backup_covers(m, r->to, r->to_len) || m->rules.dry_run ||
	    m->rules.existing || (m->twoway != NULL && !both_moves(m))) {
		(void)apply_degrade(e, "nothing is to be made there");
		entry_go_on(e, FILEOPS_OK);
		return true;
	}
	if (m->twoway != NULL) {
		entry_start(e, move_begin);
		return true;
	}
	e->step = old_name_looked;
	entry_go_on(e, m->target.ops->look(m->target.ctx, &e->op, r->from, r->from_len));
	return true;
}

/* ---- items ---- */

static struct entry *entry_of(struct mirror *m, size_t i)
{
	const struct transport_item *item = &m->work->items[i];
	struct entry *e = entry_new(m, item->path, item->len, NULL, 0);

	if (e == NULL)
		return NULL;
	e->item = i;
	e->harder = (item->flags & MARK_FAILED) != 0 || item->tries > 0;
	if (item->look != LOOK_ABSENT)
		e->src = item->st;
	return e;
}

/* Whether the target certainly lacks it: then looking for it is a round trip for nothing. */
static bool surely_new(const struct mirror *m, const struct transport_item *item)
{
	return (item->flags & MARK_BORN) != 0 && (item->flags & MARK_FAILED) == 0 && item->tries == 0 &&
	       !m->rules.bidirectional && !m->rules.update && !m->rules.existing &&
	       !(m->rules.hard_links && item->st.st_nlink > 1);
}

static enum fileops_result sync_or_delete(struct entry *e)
{
	return e->m->work->items[e->item].look == LOOK_ABSENT ? entry_delete(e) : entry_sync(e);
}

static enum fileops_result remove_left(struct entry *e)
{
	e->step = sync_or_delete;
	if (!entry_temp(e, TEMP_NEW, 0))
		return sync_or_delete(e);
	return e->m->target.ops->unlink(e->m->target.ctx, &e->op, e->temp, e->temp_len);
}

/* Of a directory there is no temporary file, and both ways there is no second look. */
static bool leaves_something(const struct mirror *m, const struct transport_item *item)
{
	return (item->flags & MARK_LATE) != 0 && item->look != LOOK_DIR && item->len > 0 && !m->rules.dry_run &&
	       m->twoway == NULL && !m->reconcile;
}

static void start_item(struct mirror *m, size_t i)
{
	const struct transport_item *item = &m->work->items[i];
	struct entry *e;

	if (backup_covers(m, item->path, item->len)) {
		struct err why = ERR_INIT;

		backup_refusal(&why);
		mirror_settle(m, i, VERDICT_REJECT, &why);
		return;
	}
	e = entry_of(m, i);
	if (e == NULL)
		return;
	e->dst_known = item->look != LOOK_ABSENT && !m->reconcile && surely_new(m, item);
	entry_start(e, leaves_something(m, item) ? remove_left : sync_or_delete);
}

void apply_entered(struct mirror *m, size_t item)
{
	m->items[item].entered = true;
}

static size_t depth_of(const struct transport_item *item)
{
	size_t n = item->len > 0;

	for (size_t i = 0; i < item->len; i++)
		n += item->path[i] == '/';
	return n;
}

/* Directories of one depth, then, when all of these are there, of the next. */
static bool next_dir(struct mirror *m)
{
	const struct transport_work *w = m->work;

	while (m->depth <= m->max_depth) {
		while (m->next < w->n_items) {
			size_t i = m->next++;

			if (w->items[i].look == LOOK_DIR && depth_of(&w->items[i]) == m->depth) {
				start_item(m, i);
				return true;
			}
		}
		if (m->n_active > 0 || m->n_dirs > 0)
			return false;
		m->depth++;
		m->next = 0;
	}
	return false;
}

static bool next_item(struct mirror *m, bool absent)
{
	const struct transport_work *w = m->work;

	while (m->next < w->n_items) {
		size_t i = m->next++;

		if (!m->reconcile && (w->items[i].look == LOOK_DIR || (w->items[i].look == LOOK_ABSENT) != absent))
			continue;
		start_item(m, i);
		return true;
	}
	return false;
}

/* Children before parents. */
static bool next_times(struct mirror *m)
{
	const struct transport_work *w = m->work;

	while (m->next < w->n_items) {
		size_t i = w->n_items - ++m->next;
		struct entry *e;

		if (w->items[i].look != LOOK_DIR || !m->items[i].entered)
			continue;
		e = entry_of(m, i);
		if (e != NULL)
			entry_start(e, entry_dir_attrs);
		return true;
	}
	return false;
}

static bool next_restore(struct mirror *m)
{
	struct unlocked_dir *u = m->unlocked;
	struct entry *e;

	if (u == NULL)
		return false;
	m->unlocked = u->next;
	e = entry_new(m, u->path, u->len, NULL, 0);
	if (e != NULL) {
		e->attrs = (struct fileops_attrs){ .mask = FILEOPS_MODE, .type = S_IFDIR, .mode = u->mode };
		entry_start(e, entry_restore_mode);
	}
	free(u);
	return true;
}

bool apply_next(struct mirror *m)
{
	switch (m->phase) {
	case PHASE_RENAMES:
		return next_rename(m);
	case PHASE_DIRS:
		return next_dir(m);
	case PHASE_DELETE:
		return next_item(m, true);
	case PHASE_FILES:
		return next_item(m, false);
	case PHASE_TIMES:
		return !m->reconcile && next_times(m);
	case PHASE_RESTORE:
		return next_restore(m);
	default:
		return false;
	}
}
