/*
 * mirror_moves.c - renames of bidirectional syncs; see mirror_private.h.
 *
 * One is carried where the target's old name is as both ends had agreed and the new one is free; what was agreed on
 * moves along. Where the target's host renamed it first, and what is seen here is the echo, the archive follows alone.
 * All else is compared, each name by itself.
 */
#include "core/archive.h"
#include "core/log.h"
#include "transports/mirror_private.h"

static const struct batch_rename *rename_of(const struct entry *e)
{
	return &e->m->work->renames[e->rename];
}

static bool moves_agreed(struct entry *e)
{
	const struct batch_rename *r = rename_of(e);
	struct err err = ERR_INIT;

	if (both_moved(e->m, r->from, r->from_len, r->to, r->to_len, &err))
		return true;
	log_error("the archive of both ways: %s", err.text);
	return false;
}

enum fileops_result move_done(struct entry *e)
{
	return moves_agreed(e) ? apply_rename_over(e, VERDICT_DONE)
			       : apply_degrade(e, "what was agreed on of it is not known");
}

/* ---- an echo ---- */

static enum fileops_result echo_is_equal(struct entry *e)
{
	struct mirror *m = e->m;

	if (e->r != FILEOPS_OK || S_ISLNK(e->op.st.st_mode) || S_ISLNK(e->dst.st_mode))
		return apply_degrade(e, "it is not there");
	e->here = both_state(m, &e->op.st, NULL, 0);
	e->there = both_state(m, &e->dst, NULL, 0);
	if (!both_same(m, &e->here, &e->there) || !moves_agreed(e))
		return apply_degrade(e, "it is not there");
	/* What is in a directory may have changed since. */
	return apply_rename_over(e, rename_of(e)->is_dir ? VERDICT_RECONCILE : VERDICT_DONE);
}

static enum fileops_result echo_old_here(struct entry *e)
{
	if (e->r != FILEOPS_GONE)
		return apply_degrade(e, "it is not there");
	e->step = echo_is_equal;
	return e->m->source.ops->look(e->m->source.ctx, &e->op, e->path, e->len);
}

static enum fileops_result echo_new_there(struct entry *e)
{
	const struct batch_rename *r = rename_of(e);

	if (e->r != FILEOPS_OK)
		return apply_degrade(e, "it is not there");
	e->dst = e->op.st;
	e->step = echo_old_here;
	return e->m->source.ops->look(e->m->source.ctx, &e->op, r->from, r->from_len);
}

/* ---- one of ours ---- */

static enum fileops_result new_looked(struct entry *e)
{
	if (e->r == FILEOPS_GONE)
		return apply_carry(e);
	return apply_degrade(e, e->r == FILEOPS_OK ? "the new name is taken there" : e->op.err.text);
}

static enum fileops_result look_at_new(struct entry *e)
{
	if (!both_same(e->m, &e->there, &e->agreed))
		return apply_degrade(e, "it was changed there");
	e->step = new_looked;
	return e->m->target.ops->look(e->m->target.ctx, &e->op, e->path, e->len);
}

static enum fileops_result text_read(struct entry *e)
{
	if (e->r != FILEOPS_OK)
		return apply_degrade(e, e->op.err.text);
	entry_take_bytes(e, &e->there_text, &e->there_text_len);
	e->there = both_state(e->m, &e->dst, e->there_text, e->there_text_len);
	return look_at_new(e);
}

static enum fileops_result old_looked(struct entry *e)
{
	struct mirror *m = e->m;
	const struct batch_rename *r = rename_of(e);

	if (e->r == FILEOPS_GONE) {
		e->step = echo_new_there;
		return m->target.ops->look(m->target.ctx, &e->op, e->path, e->len);
	}
	if (e->r != FILEOPS_OK)
		return apply_degrade(e, e->op.err.text);
	if (S_ISDIR(e->op.st.st_mode) != r->is_dir)
		return apply_degrade(e, "it is of another type there");
	e->dst = e->op.st;
	/* A directory's own attributes are no reason to send all that is in it. */
	if (r->is_dir && e->agreed.look == LOOK_DIR) {
		e->there = e->agreed;
		return look_at_new(e);
	}
	if (S_ISLNK(e->dst.st_mode)) {
		e->step = text_read;
		return m->target.ops->readlink(m->target.ctx, &e->op, r->from, r->from_len);
	}
	e->there = both_state(m, &e->dst, NULL, 0);
	return look_at_new(e);
}

static enum fileops_result recalled(struct entry *e)
{
	const struct batch_rename *r = rename_of(e);

	if (e->r != FILEOPS_OK)
		return apply_degrade(e, e->op.err.text);
	e->agreed = e->op.agreed;
	if (e->agreed.look == LOOK_ABSENT)
		return apply_degrade(e, "nothing was agreed on of it");
	e->step = old_looked;
	return e->m->target.ops->look(e->m->target.ctx, &e->op, r->from, r->from_len);
}

enum fileops_result move_begin(struct entry *e)
{
	const struct batch_rename *r = rename_of(e);

	e->step = recalled;
	return both_recall(e->m, &e->op, r->from, r->from_len);
}
