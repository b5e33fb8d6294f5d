/*
 * changeset_renames.c - renames: when one is carried to the target, how marks are copied along with it, and what is
 * compared when it is not.
 */
#include "core/changeset_private.h"

#include <stdlib.h>
#include <string.h>

#include "core/path.h"

/* More marks than this are not copied along with a rename one by one: the new name is compared as a whole. */
#define COPY_MAX 4096

const char *carried_from(const struct carried *r)
{
	return r->bytes;
}

const char *carried_to(const struct carried *r)
{
	return r->bytes + r->from_len;
}

static struct carried *carried_new(const struct change *c)
{
	struct carried *r = calloc(1, sizeof(*r) + c->old_len + c->path_len);

	if (r == NULL)
		return NULL;
	r->from_len = c->old_len;
	r->to_len = c->path_len;
	r->is_dir = c->is_dir;
	memcpy(r->bytes, c->old_path, c->old_len);
	memcpy(r->bytes + c->old_len, c->path, c->path_len);
	return r;
}

static void carried_append(struct changeset *cs, struct carried *r)
{
	r->seq = ++cs->seq;
	r->state = RENAME_PENDING;
	r->prev = cs->last;
	if (cs->last != NULL)
		cs->last->next = r;
	else
		cs->first = r;
	cs->last = r;
	cs->renames_pending++;
}

static void carried_unlink(struct changeset *cs, struct carried *r)
{
	if (r->prev != NULL)
		r->prev->next = r->next;
	else
		cs->first = r->next;
	if (r->next != NULL)
		r->next->prev = r->prev;
	else
		cs->last = r->prev;
	free(r);
}

void carried_forget(struct changeset *cs)
{
	const struct flight *oldest = cs->flights;

	/* What is in the large lane needs none: a rename that has to do with it does not leave before it has landed. It
	 * may be there for hours. */
	if (oldest != NULL && oldest == cs->large)
		oldest = oldest->next;
	while (cs->first != NULL && cs->first->state == RENAME_SETTLED &&
	       (oldest == NULL || oldest->seq >= cs->first->seq))
		carried_unlink(cs, cs->first);
}

void carried_settled(struct changeset *cs, struct carried *r)
{
	if (r->state == RENAME_PENDING)
		cs->renames_pending--;
	else
		cs->renames_in_flight--;
	r->state = RENAME_SETTLED;
	gens_put(&cs->m.gens, r->gen);
	r->gen = GEN_NONE;
}

/* `path` with `r` applied to it, in memory of its own; NULL when out of memory. */
static char *path_moved(const struct carried *r, const char *path, size_t len, size_t *out_len)
{
	size_t rest = len - r->from_len;
	char *p = malloc(r->to_len + rest + 1);

	if (p == NULL)
		return NULL;
	memcpy(p, carried_to(r), r->to_len);
	memcpy(p + r->to_len, path + r->from_len, rest);
	*out_len = r->to_len + rest;
	return p;
}

void cs_mark_through(struct changeset *cs, const char *path, size_t len, const struct want *w, const struct carried *r)
{
	char *moved = NULL;

	cs_mark_path(cs, path, len, w);
	for (; r != NULL; r = r->next) {
		char *p;

		if (!path_within(path, len, carried_from(r), r->from_len))
			continue;
		p = path_moved(r, path, len, &len);
		free(moved);
		moved = p;
		path = p;
		if (p == NULL || cs_mark_path(cs, p, len, w) != 0) {
			cs_mark_root(cs, w->gen, w->first_ns);
			break;
		}
	}
	free(moved);
}

void carried_reconcile(struct changeset *cs, struct carried *r)
{
	struct want w = { .flags = COMPARE, .gen = r->gen, .born = BORN_CLEAR, .first_ns = r->first_ns };

	cs_mark_through(cs, carried_from(r), r->from_len, &w, r->next);
	cs_mark_through(cs, carried_to(r), r->to_len, &w, r->next);
	carried_settled(cs, r);
}

/* Whether the target's `path` is, once the renames before are done, what the source had there: nothing that changes
 * names is pending on it or above, and no worker is at it just now. */
static bool name_sure(const struct changeset *cs, const char *path, size_t len)
{
	const struct mark_node *n = cs->m.root;

	for (;;) {
		const char *slash = len > 0 ? memchr(path, '/', len) : NULL;
		size_t c = slash != NULL ? (size_t)(slash - path) : len, skip = c < len ? c + 1 : c;

		if ((n->pend & (MARK_NAME | MARK_RECURSIVE)) != 0 || n->infl != 0)
			return false;
		if (len == 0)
			return true;
		n = marks_child(&cs->m, n, path, c);
		if (n == NULL)
			return true;
		path += skip;
		len -= skip;
	}
}

/* A worker that had the path of `n` before the rename may have made the directories above it on the target, at a name
 * that was the source's later one. */
static void doubt_above(struct changeset *cs, const struct mark_node *from, struct mark_node *n,
			const struct mark_node *top)
{
	struct want w = {
		.flags = MARK_NAME | MARK_LOOK, .gen = from->infl_gen, .born = BORN_CLEAR, .first_ns = from->first_ns
	};

	if (from->infl == 0 || n == top)
		return;
	for (n = n->parent; n != top; n = n->parent)
		cs_mark_node(cs, n, &w);
}

static void copy_one(struct changeset *cs, const struct mark_node *from, struct mark_node *to)
{
	struct want w = { .flags = (unsigned)(from->pend | from->infl) & ~(unsigned)(MARK_BORN | MARK_START | LANES),
			  .gen = gens_older(&cs->m.gens, from->pend_gen, from->infl_gen),
			  .born = BORN_CLEAR,
			  .first_ns = from->first_ns,
			  .tries = from->tries };

	/* The worker may look at the old name after the rename, take it for deleted, and delete all below. */
	if ((from->infl & MARK_NAME) != 0 && (from->infl & MARK_BORN) == 0)
		w.flags |= COMPARE;
	if (from->infl == 0 && (from->queue == QUEUE_HOLD || from->queue == QUEUE_RETRY)) {
		w.wait = (enum mark_queue)from->queue;
		w.hold_ns = from->not_before_ns;
	}
	cs_mark_node(cs, to, &w);
}

/* Copy all marks at and below `from` to `to`; the two do not overlap. 0, -1: out of memory, 1: too many. */
static int copy_marks(struct changeset *cs, const struct mark_node *from, struct mark_node *to)
{
	const struct mark_node *s = from;
	struct mark_node *d = to;

	for (size_t copied = 0; copied < COPY_MAX; copied++) {
		struct mark_node *dp;

		if ((s->pend | s->infl) != 0) {
			copy_one(cs, s, d);
			doubt_above(cs, s, d, to);
		}
		if (s->child != NULL && !cs_covers(cs, d)) {
			s = s->child;
			dp = d;
		} else {
			while (s != from && s->next == NULL) {
				struct mark_node *up = d->parent;

				marks_release_one(&cs->m, d);
				s = s->parent;
				d = up;
			}
			if (s == from)
				return 0;
			s = s->next;
			dp = d->parent;
			marks_release_one(&cs->m, d);
		}
		d = marks_make_child(&cs->m, dp, s->name, s->name_len);
		if (d == NULL) {
			marks_release(&cs->m, dp);
			return -1;
		}
	}
	marks_release(&cs->m, d);
	return 1;
}

/* What stands at `n` and below is about to be replaced on the target: nothing there is newly born, and what a worker
 * looks at just now has to be looked at again. False: too many to say. */
static bool replace_marks(struct changeset *cs, struct mark_node *n)
{
	size_t seen = 0;

	for (struct mark_node *x = n; x != NULL; x = marks_next(x, n)) {
		x->pend = (uint16_t)(x->pend & ~(unsigned)MARK_BORN);
		if (x->infl != 0) {
			struct want w = { .flags = (unsigned)x->infl & ~(unsigned)(MARK_BORN | LANES),
					  .gen = x->infl_gen,
					  .born = BORN_CLEAR,
					  .first_ns = x->first_ns };

			cs_mark_node(cs, x, &w);
		}
		if (++seen > COPY_MAX)
			return false;
	}
	return true;
}

/* RENAME_EXCHANGE is reported as two renames: to carry the first would destroy what the second needs. */
static bool exchanged(const struct changeset *cs, const struct change *c)
{
	const struct carried *r = cs->last;

	return r != NULL && r->state == RENAME_PENDING && r->from_len == c->path_len && r->to_len == c->old_len &&
	       memcmp(carried_from(r), c->path, c->path_len) == 0 &&
	       memcmp(carried_to(r), c->old_path, c->old_len) == 0;
}

/* The names of the record keep their marks whatever becomes of the rename: the worker looks at both again. */
static int mark_names(struct changeset *cs, const struct change *c, struct want *w, unsigned flags)
{
	int64_t hold_ns = w->hold_ns;
	int failed;

	w->flags = flags | (c->is_dir ? MARK_WAS_DIR : MARK_WAS_FILE);
	w->born = BORN_CLEAR;
	w->hold_ns = 0;
	failed = cs_mark_path(cs, c->old_path, c->old_len, w);
	w->flags = flags;
	w->hold_ns = hold_ns;
	return cs_mark_path(cs, c->path, c->path_len, w) != 0 || failed != 0 ? -1 : 0;
}

/* The marks of a rename that leaves no doubt of what is below the names. `to` exists or is made. */
static int move_marks(struct changeset *cs, const struct change *c, struct want *w, unsigned flags)
{
	struct mark_node *to = marks_make(&cs->m, c->path, c->path_len);
	const struct mark_node *from = marks_find(&cs->m, c->old_path, c->old_len);
	struct want compare = { .flags = COMPARE, .gen = w->gen, .born = BORN_CLEAR, .first_ns = w->first_ns };
	int rc = to == NULL ? -1 : replace_marks(cs, to) ? 0 : 1;

	if (rc == 0 && from != NULL)
		rc = copy_marks(cs, from, to);
	if (rc >= 0 && to != NULL && (to = marks_make(&cs->m, c->path, c->path_len)) != NULL) {
		marks_release(&cs->m, to);
		if (rc > 0)
			rc = cs_mark_path(cs, c->path, c->path_len, &compare);
	}
	return mark_names(cs, c, w, flags) != 0 || rc < 0 ? -1 : 0;
}

int cs_add_rename(struct changeset *cs, const struct change *c, struct want *w)
{
	bool nested = path_within(c->path, c->path_len, c->old_path, c->old_len) ||
		      path_within(c->old_path, c->old_len, c->path, c->path_len);
	struct carried *r;

	if (exchanged(cs, c)) {
		bool dirs = c->is_dir || cs->last->is_dir;

		carried_settled(cs, cs->last);
		carried_unlink(cs, cs->last);
		return dirs ? mark_names(cs, c, w, COMPARE) : move_marks(cs, c, w, MARK_NAME | MARK_LOOK);
	}
	if (nested)
		return mark_names(cs, c, w, COMPARE);
	if (!c->exact || cs->renames_pending >= cs->limits.max_renames || !name_sure(cs, c->old_path, c->old_len))
		return c->is_dir ? mark_names(cs, c, w, COMPARE) : move_marks(cs, c, w, MARK_NAME | MARK_LOOK);
	r = carried_new(c);
	if (r == NULL) {
		cs_mark_root(cs, w->gen, w->first_ns);
		return -1;
	}
	r->gen = gens_ref(&cs->m.gens, w->gen);
	r->first_ns = w->first_ns;
	carried_append(cs, r);
	return move_marks(cs, c, w, MARK_NAME);
}

const struct carried *carried_after(const struct changeset *cs, uint64_t seq)
{
	const struct carried *r = cs->first;

	while (r != NULL && r->seq <= seq)
		r = r->next;
	return r;
}
