/*
 * changeset.c - how change records become marks, and what is asked of them.
 *
 * The tree of marks is in marks.c. Here are the rules: what a record marks, which queue it waits in, and the limit.
 */
#include "core/changeset.h"

#include <stdlib.h>
#include <string.h>

#include "core/changeset_private.h"

struct changeset *changeset_new(const struct changeset_limits *limits)
{
	struct changeset *cs = calloc(1, sizeof(*cs));

	if (cs == NULL || marks_init(&cs->m) != 0) {
		free(cs);
		return NULL;
	}
	cs->limits = *limits;
	return cs;
}

void changeset_free(struct changeset *cs)
{
	if (cs == NULL)
		return;
	while (cs->first != NULL) {
		struct carried *r = cs->first;

		cs->first = r->next;
		free(r);
	}
	while (cs->flights != NULL) {
		struct flight *f = cs->flights;

		cs->flights = f->next;
		flight_free(f);
	}
	marks_done(&cs->m);
	free(cs);
}

/* ---- marking ---- */

/* Whether what is marked there leaves with one of the next batches: not what is held or backs off, nor what waits for a
 * large file below it, perhaps for hours. */
static bool is_near(const struct changeset *cs, const struct mark_node *n)
{
	return marks_due(n) && !large_is_below(cs, n);
}

bool cs_covers(const struct changeset *cs, const struct mark_node *n)
{
	return (n->pend & MARK_RECURSIVE) != 0 && n->pend_gen != GEN_NONE && is_near(cs, n);
}

static struct mark_node *covering_ancestor(const struct changeset *cs, const struct mark_node *n)
{
	for (struct mark_node *a = n->parent; a != NULL; a = a->parent)
		if (cs_covers(cs, a))
			return a;
	return NULL;
}

/* Whether the target may hold something below `n` that the source doesn't know of: then nothing there counts as born.
 */
static bool unsure_above(const struct mark_node *n)
{
	const unsigned unsure = MARK_NAME | MARK_RECURSIVE;

	for (const struct mark_node *a = n->parent; a != NULL; a = a->parent)
		if (((a->pend & unsure) != 0 && (a->pend & MARK_BORN) == 0) || (a->infl & unsure) != 0)
			return true;
	return false;
}

static void queue_after(struct changeset *cs, struct mark_node *n, const struct want *w, bool fresh_mark)
{
	enum mark_queue has = n->queue == QUEUE_PARKED ? (enum mark_queue)n->wait : (enum mark_queue)n->queue;

	if (!w->event) {
		if (fresh_mark || w->wait == QUEUE_NONE || has == QUEUE_RETRY)
			marks_queue(&cs->m, n, w->wait == QUEUE_NONE ? QUEUE_FRESH : w->wait, w->hold_ns);
	} else if (w->hold_ns == 0) {
		if (has == QUEUE_NONE || has == QUEUE_HOLD || has == QUEUE_RETRY)
			marks_queue(&cs->m, n, QUEUE_FRESH, 0);
	} else if (fresh_mark || has == QUEUE_RETRY) {
		marks_queue(&cs->m, n, QUEUE_HOLD, w->hold_ns);
	} else if (has == QUEUE_HOLD && (w->extend || w->hold_ns < n->not_before_ns)) {
		marks_queue(&cs->m, n, QUEUE_HOLD, w->hold_ns);
	}
}

/* What has something below it is no large file any more, and what is below cannot arrive before it is a directory at
 * the target: the first lane looks at it. */
static void none_is_large_above(struct changeset *cs, const struct mark_node *n)
{
	for (struct mark_node *a = n->parent; a != NULL; a = a->parent) {
		if ((a->pend & MARK_LARGE) == 0)
			continue;
		a->pend = (uint16_t)(a->pend & ~(unsigned)MARK_LARGE);
		if (a->queue == QUEUE_LARGE)
			marks_queue(&cs->m, a, QUEUE_FRESH, 0);
	}
}

void cs_mark_node(struct changeset *cs, struct mark_node *n, const struct want *w)
{
	struct mark_node *cover = covering_ancestor(cs, n);
	bool fresh_mark = n->pend == 0;
	unsigned flags = w->flags;

	if (cover != NULL) {
		marks_lower_gen(&cs->m, cover, w->gen);
		return;
	}
	none_is_large_above(cs, n);
	/* With anything below it in flight, the worker may make it on the target. */
	if (w->born == BORN_SET && fresh_mark && n->infl == 0 && n->child == NULL && !unsure_above(n))
		flags |= MARK_BORN;
	/* What the worker took for a file to compare may be a directory by now, on a target that has more in it. */
	if ((flags & MARK_NAME) != 0)
		flags |= n->infl & MARK_RECURSIVE;
	if (fresh_mark && n->infl == 0)
		n->tries = 0;
	marks_pend(&cs->m, n, flags, w->gen, w->first_ns);
	if (w->born == BORN_CLEAR)
		n->pend = (uint16_t)(n->pend & ~(unsigned)MARK_BORN);
	if (w->tries > n->tries)
		n->tries = (uint16_t)(w->tries < UINT16_MAX ? w->tries : UINT16_MAX);
	queue_after(cs, n, w, fresh_mark);
	if ((flags & MARK_RECURSIVE) == 0)
		return;
	/* What is below does not wait with it, unless there is too much. */
	if (w->instead || is_near(cs, n))
		marks_prune(&cs->m, n);
	else
		cs_clear_born_below(n);
}

void cs_mark_root(struct changeset *cs, uint8_t gen, int64_t first_ns)
{
	struct want w = { .flags = COMPARE | MARK_CAUSE, .gen = gen, .born = BORN_CLEAR, .first_ns = first_ns };

	cs_mark_node(cs, cs->m.root, &w);
}

int cs_mark_path(struct changeset *cs, const char *path, size_t len, const struct want *w)
{
	struct mark_node *n = marks_make(&cs->m, path, len);

	if (n == NULL) {
		cs_mark_root(cs, w->gen, w->first_ns);
		return -1;
	}
	cs_mark_node(cs, n, w);
	marks_release(&cs->m, n);
	return 0;
}

void cs_collapse(struct changeset *cs, int64_t now_ns)
{
	struct mark_node *n = cs->m.root, *c = n->child;
	size_t half = cs->m.pending / 2;
	struct want w = {
		.flags = COMPARE | MARK_CAUSE, .gen = GEN_NONE, .born = BORN_CLEAR, .first_ns = now_ns, .instead = true
	};

	while (c != NULL) {
		if (c->below > 0 && c->below >= half) {
			n = c;
			c = n->child;
		} else {
			c = c->next;
		}
	}
	cs_mark_node(cs, n, &w);
	cs->collapses++;
}

/* ---- taking in ---- */

static unsigned flags_of(const struct change *c)
{
	switch (c->kind) {
	case CHANGE_TOUCH:
	case CHANGE_MODIFY:
		return MARK_LOOK;
	case CHANGE_CREATE:
		return MARK_NAME | MARK_LOOK;
	case CHANGE_DELETE:
		return c->is_dir ? MARK_NAME | MARK_RECURSIVE | MARK_WAS_DIR : MARK_NAME | MARK_WAS_FILE;
	case CHANGE_RECONCILE:
		return COMPARE | MARK_CAUSE | (c->cause != NULL && strcmp(c->cause, "start") == 0 ? MARK_START : 0u);
	case CHANGE_RENAME:
	case CHANGE_NONE:
		break;
	}
	return 0;
}

int changeset_add(struct changeset *cs, const struct change *c, uint64_t generation, int64_t now_ns,
		  int64_t hold_until_ns, bool extend)
{
	struct want w = { .flags = flags_of(c) | (c->late ? (unsigned)MARK_LATE : 0u),
			  .event = true,
			  .extend = extend,
			  .first_ns = now_ns,
			  .hold_ns = hold_until_ns };
	int rc = 0;

	if (c->kind == CHANGE_NONE)
		return 0;
	if (generation != CHANGESET_SERVED && generation > cs->generation)
		cs->generation = generation;
	w.gen = generation == CHANGESET_SERVED ? GEN_NONE : gens_get(&cs->m.gens, generation);
	if (c->kind == CHANGE_CREATE)
		w.born = BORN_SET;
	else if (c->kind == CHANGE_RECONCILE)
		w.born = BORN_CLEAR;
	rc = c->kind == CHANGE_RENAME ? cs_add_rename(cs, c, &w) : cs_mark_path(cs, c->path, c->path_len, &w);
	if (rc != 0)
		cs_mark_root(cs, w.gen, now_ns);
	if (cs->m.pending > cs->limits.max_pending)
		cs_collapse(cs, now_ns);
	gens_put(&cs->m.gens, w.gen);
	return rc;
}

/* ---- questions ---- */

size_t changeset_pending(const struct changeset *cs)
{
	return cs->m.pending;
}

size_t changeset_pending_renames(const struct changeset *cs)
{
	return cs->renames_pending;
}

size_t changeset_in_flight(const struct changeset *cs)
{
	return cs->m.in_flight + cs->renames_in_flight;
}

uint64_t changeset_collapses(const struct changeset *cs)
{
	return cs->collapses;
}

int64_t changeset_oldest_ns(const struct changeset *cs)
{
	int64_t fresh = cs->m.fresh.head != NULL ? cs->m.fresh.head->first_ns : INT64_MAX;

	return cs->m.again_min_ns < fresh ? cs->m.again_min_ns : fresh;
}

int64_t changeset_hold_ends_ns(const struct changeset *cs)
{
	int64_t hold = cs->m.holds != NULL ? cs->m.holds->not_before_ns : INT64_MAX;
	int64_t retry = cs->m.retries != NULL ? cs->m.retries->not_before_ns : INT64_MAX;

	return hold < retry ? hold : retry;
}

void changeset_release_holds(struct changeset *cs)
{
	marks_release_heap(&cs->m, QUEUE_HOLD);
}

void changeset_release_retries(struct changeset *cs)
{
	marks_release_heap(&cs->m, QUEUE_RETRY);
}

void changeset_has_verdict(struct changeset *cs, const char *path, size_t len, int64_t since_ns)
{
	struct mark_node *n = marks_find(&cs->m, path, len);
	enum mark_queue queue = n == NULL		   ? QUEUE_NONE
				: n->queue == QUEUE_PARKED ? (enum mark_queue)n->wait
							   : (enum mark_queue)n->queue;

	if (n == NULL || n->pend == 0 || (n->pend & MARK_RECURSIVE) != 0 || n->first_ns > since_ns ||
	    (queue != QUEUE_RETRY && queue != QUEUE_HOLD))
		return;
	gens_put(&cs->m.gens, n->pend_gen);
	n->pend_gen = GEN_NONE;
}

bool changeset_served(const struct changeset *cs, uint64_t generation)
{
	return gens_served(&cs->m.gens, generation);
}

uint64_t changeset_oldest_generation(const struct changeset *cs, uint64_t latest)
{
	return gens_oldest(&cs->m.gens, latest);
}

bool changeset_has(const struct changeset *cs, const char *path, size_t len)
{
	const struct mark_node *n = marks_find(&cs->m, path, len);

	return n != NULL && (n->pend | n->infl) != 0;
}

bool changeset_quiet(const struct changeset *cs, const char *path, size_t len)
{
	const struct mark_node *n = cs->m.root;
	size_t at = 0;

	if (cs->renames_pending + cs->renames_in_flight > 0)
		return false;
	while (at < len) {
		const char *slash = memchr(path + at, '/', len - at);
		size_t end = slash == NULL ? len : (size_t)(slash - path);

		if (((n->pend | n->infl) & (MARK_NAME | MARK_RECURSIVE)) != 0)
			return false;
		n = marks_child(&cs->m, n, path + at, end - at);
		if (n == NULL)
			return true;
		at = end + 1;
	}
	return (n->pend | n->infl) == 0 && n->child == NULL;
}

struct listing {
	size_t left;
	char *buf;
	size_t cap;
	void (*fn)(void *ctx, const char *path, size_t len, unsigned flags);
	void *ctx;
};

static bool list_one(void *ctx, const struct mark_node *n)
{
	struct listing *l = ctx;
	size_t len = marks_path_len(n);

	if (l->left == 0)
		return false;
	if (len >= l->cap) {
		char *buf = realloc(l->buf, len + 1);

		if (buf == NULL)
			return false;
		l->buf = buf;
		l->cap = len + 1;
	}
	l->left--;
	marks_path(n, l->buf);
	l->fn(l->ctx, l->buf, len, n->pend);
	return true;
}

void changeset_list(const struct changeset *cs, size_t max,
		    void (*fn)(void *ctx, const char *path, size_t len, unsigned flags), void *ctx)
{
	struct listing l = { .left = max, .fn = fn, .ctx = ctx, .buf = malloc(256), .cap = 256 };

	if (l.buf != NULL)
		marks_visit(&cs->m, list_one, &l);
	free(l.buf);
}

bool changeset_check(const struct changeset *cs)
{
	size_t pending = 0, in_flight = 0;
	const struct carried *prev = NULL;

	for (const struct carried *r = cs->first; r != NULL; r = r->next) {
		pending += r->state == RENAME_PENDING;
		in_flight += r->state == RENAME_FLIGHT;
		if (r->prev != prev || (prev != NULL && prev->seq >= r->seq))
			return false;
		prev = r;
	}
	return marks_check(&cs->m) && prev == cs->last && pending == cs->renames_pending &&
	       in_flight == cs->renames_in_flight;
}
