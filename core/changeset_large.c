/*
 * changeset_large.c - the large lane: which path may leave for it beside what is in flight in the first one, and what
 * waits in the first one while something is there.
 *
 * The rule is one of names. A worker may do something to what its path names, to what is above that (directories that
 * are missing are made) and, if it takes it for a directory, to what is below. Two that do so at once undo each other's
 * work behind the back of the marks. So what is in the large lane and what changes names at, above or below it are
 * never in flight at the same time; its record waits, and whatever was done meanwhile is looked at after. What only
 * looks at a directory above (LOOK) is no trouble: it sets attributes, which the directory gets once more when the file
 * has landed.
 */
#include <stdlib.h>
#include <string.h>

#include "core/changeset_private.h"
#include "core/path.h"

/* So many that may not leave yet are passed over. */
#define TRIED_MAX 100u

static bool related(const char *a, size_t a_len, const char *b, size_t b_len)
{
	return path_within(a, a_len, b, b_len) || path_within(b, b_len, a, a_len);
}

static bool moves(const struct carried *r, const char *path, size_t len)
{
	return related(path, len, carried_from(r), r->from_len) || related(path, len, carried_to(r), r->to_len);
}

static bool rename_in_the_way(const struct changeset *cs, const char *path, size_t len)
{
	for (const struct carried *r = cs->first; r != NULL; r = r->next)
		if (r->state != RENAME_SETTLED && moves(r, path, len))
			return true;
	return false;
}

/* ---- what leaves ---- */

static bool mark_in_the_way(const struct mark_node *n)
{
	const unsigned names = MARK_NAME | MARK_RECURSIVE;

	for (const struct mark_node *a = n->parent; a != NULL; a = a->parent)
		if ((a->infl & names) != 0 || ((a->pend & names) != 0 && marks_due(a)))
			return true;
	return n->child != NULL; /* a directory, then, or soon to be known as none */
}

static bool renames_in_the_way(const struct changeset *cs, const struct mark_node *n)
{
	size_t len = marks_path_len(n);
	char *path = malloc(len + 1);
	bool found = path == NULL;

	if (path != NULL) {
		marks_path(n, path);
		found = rename_in_the_way(cs, path, len);
	}
	free(path);
	return found;
}

static struct mark_node *first_ready(const struct changeset *cs)
{
	size_t tried = 0;

	if (cs->large != NULL)
		return NULL;
	for (const struct flight *f = cs->flights; f != NULL; f = f->next)
		if (f->alone)
			return NULL;
	for (struct mark_node *n = cs->m.large.head; n != NULL && tried < TRIED_MAX; n = n->q_next, tried++)
		if (!mark_in_the_way(n) && (cs->first == NULL || !renames_in_the_way(cs, n)))
			return n;
	return NULL;
}

/* Of what waited long enough the first lane is to see the end itself: it is sent at once then, whatever the delay. */
static void release_due(struct changeset *cs, struct mark_node *const *heap, int64_t now_ns)
{
	while (*heap != NULL && (*heap)->not_before_ns <= now_ns && ((*heap)->pend & MARK_LARGE) != 0)
		marks_queue(&cs->m, *heap, QUEUE_FRESH, 0);
}

bool changeset_large_ready(struct changeset *cs, int64_t now_ns)
{
	release_due(cs, &cs->m.holds, now_ns);
	release_due(cs, &cs->m.retries, now_ns);
	return first_ready(cs) != NULL;
}

struct batch *changeset_take_large(struct changeset *cs, int64_t now_ns)
{
	struct mark_node *n = changeset_large_ready(cs, now_ns) ? first_ready(cs) : NULL;
	struct flight *f = n == NULL ? NULL : flight_new(1, 0);
	struct batch *b = f == NULL ? NULL : flight_batch_new(1, 0, marks_path_len(n));

	if (b == NULL) {
		flight_free(f);
		return NULL;
	}
	marks_path(n, b->arena);
	b->items[0] = (struct batch_item){ .path = b->arena, .len = b->arena_len, .flags = n->pend, .tries = n->tries };
	marks_fly(&cs->m, n);
	cs_clear_born_above(n);
	f->items[0] = n;
	f->gen = gens_ref(&cs->m.gens, n->infl_gen);
	cs->large = f;
	flight_begin(cs, f, b);
	return b;
}

/* What waits for the comparison waits for the file. What the target has by that name was not compared: should it be a
 * directory by then, on either side, all of it is to be. */
void changeset_hand_over(struct changeset *cs, uint64_t batch_id, const char *path, size_t len, int64_t now_ns)
{
	struct want w = { .flags = COMPARE | MARK_LARGE, .gen = GEN_NONE, .first_ns = now_ns };
	const struct flight *f = cs->flights;

	while (f != NULL && f->id != batch_id)
		f = f->next;
	if (f == NULL || f == cs->large)
		return;
	for (size_t i = 0; i < f->n_items; i++) {
		const struct batch_item *it = &f->batch->items[i];

		if (f->items[i] == NULL || !path_within(path, len, it->path, it->len) ||
		    (it->flags & MARK_RECURSIVE) == 0)
			continue;
		w.gen = gens_older(&cs->m.gens, w.gen, f->items[i]->infl_gen);
		w.first_ns = f->items[i]->first_ns;
	}
	w.gen = gens_ref(&cs->m.gens, w.gen);
	(void)cs_mark_path(cs, path, len, &w);
	gens_put(&cs->m.gens, w.gen);
	if (cs->m.pending > cs->limits.max_pending)
		cs_collapse(cs, now_ns);
}

int64_t changeset_large_oldest_ns(const struct changeset *cs)
{
	return cs->m.large.head != NULL ? cs->m.large.head->first_ns : INT64_MAX;
}

void changeset_close_large(struct changeset *cs)
{
	while (cs->m.large.head != NULL) {
		struct mark_node *n = cs->m.large.head;

		n->pend = (uint16_t)(n->pend & ~(unsigned)MARK_LARGE);
		marks_queue(&cs->m, n, QUEUE_FRESH, 0);
	}
}

/* ---- what waits ---- */

static const struct batch_item *large_item(const struct changeset *cs)
{
	return &cs->large->batch->items[0];
}

/* The marks above the path, the path's own and those below it, of a change of names. They are few. */
static bool each_opposed(const struct changeset *cs, bool (*fn)(struct changeset *cs, struct mark_node *n),
			 struct changeset *to)
{
	const struct batch_item *it = large_item(cs);
	const char *p = it->path;
	size_t len = it->len;
	struct mark_node *n = cs->m.root, *top;

	while (len > 0) {
		const char *slash = memchr(p, '/', len);
		size_t c = slash != NULL ? (size_t)(slash - p) : len, skip = c < len ? c + 1 : c;

		if ((n->pend & (MARK_NAME | MARK_RECURSIVE)) != 0 && marks_due(n) && fn(to, n))
			return true;
		n = marks_child(&cs->m, n, p, c);
		if (n == NULL)
			return false;
		p += skip;
		len -= skip;
	}
	top = n;
	for (; n != NULL; n = marks_next(n, top))
		if (n->pend != 0 && marks_due(n) && (n != top || (n->pend & MARK_NAME) != 0) && fn(to, n))
			return true;
	return false;
}

/* What is parked waits by itself. */
static bool bar(struct changeset *cs, struct mark_node *n)
{
	if (n->queue != QUEUE_PARKED && n->queue != QUEUE_BARRED)
		marks_bar(&cs->m, n);
	return false;
}

static void bar_alone(struct changeset *cs, struct mark_list *l)
{
	for (struct mark_node *n = l->head, *next; n != NULL; n = next) {
		next = n->q_next;
		if ((n->pend & MARK_ALONE) != 0)
			marks_bar(&cs->m, n);
	}
}

bool large_bar(struct changeset *cs)
{
	const struct batch_item *it;

	if (cs->large == NULL)
		return true;
	it = large_item(cs);
	(void)each_opposed(cs, bar, cs);
	bar_alone(cs, &cs->m.again);
	bar_alone(cs, &cs->m.fresh);
	return cs->renames_pending == 0 || !rename_in_the_way(cs, it->path, it->len);
}

bool large_is_below(const struct changeset *cs, const struct mark_node *n)
{
	const struct mark_node *a = cs->large == NULL ? NULL : cs->large->items[0];

	while (a != NULL && a != n)
		a = a->parent;
	return a != NULL;
}

static bool asks(struct changeset *cs, struct mark_node *n)
{
	(void)cs;
	return (n->pend & MARK_NAME) != 0;
}

enum changeset_wait changeset_large_holds_up(const struct changeset *cs)
{
	const struct batch_item *it;

	if (cs->large == NULL)
		return CHANGESET_NOTHING;
	it = large_item(cs);
	if (cs->renames_pending > 0 && rename_in_the_way(cs, it->path, it->len))
		return CHANGESET_RENAMES;
	return each_opposed(cs, asks, NULL) ? CHANGESET_NAMES : CHANGESET_NOTHING;
}

static bool moves_away(const struct changeset *cs, const struct batch_item *it)
{
	for (const struct carried *r = cs->first; r != NULL; r = r->next)
		if (r->state == RENAME_PENDING && path_within(it->path, it->len, carried_from(r), r->from_len))
			return true;
	return false;
}

void changeset_cancel(struct changeset *cs, uint64_t batch_id, int64_t not_before_ns, int64_t now_ns)
{
	const struct batch_item *it;
	struct want w = { .flags = COMPARE | MARK_CAUSE,
			  .born = BORN_CLEAR,
			  .first_ns = now_ns,
			  .wait = QUEUE_HOLD,
			  .hold_ns = not_before_ns };

	if (cs->large == NULL || cs->large->id != batch_id)
		return;
	it = large_item(cs);
	w.gen = cs->large->gen;
	(void)changeset_settle(cs, batch_id, 0, VERDICT_SMALL, 0, now_ns);
	cs->large->sought = not_before_ns != INT64_MAX && !moves_away(cs, it);
	if (cs->large->sought)
		(void)cs_mark_path(cs, it->path, path_parent_len(it->path, it->len), &w);
	changeset_finish(cs, batch_id, now_ns);
}

void large_landed(struct changeset *cs, int64_t now_ns)
{
	const struct batch_item *it = large_item(cs);
	struct want w = { .flags = MARK_LOOK, .gen = cs->large->gen, .first_ns = now_ns };

	/* Its times changed with the file, and what else was set meanwhile is not known. A look would not wait, and
	 * take the comparison with it. */
	if (!cs->large->sought)
		(void)cs_mark_path(cs, it->path, path_parent_len(it->path, it->len), &w);
	gens_put(&cs->m.gens, cs->large->gen);
	cs->large = NULL;
	marks_unbar(&cs->m);
}
