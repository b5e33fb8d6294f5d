/*
 * changeset.c - how change records become marks and renames, and how batches of them leave and come back.
 *
 * The tree of marks is in marks.c. Here are the rules: what a record marks, when a rename is carried, what a verdict
 * or a failed batch puts back, and the limit.
 */
#include "core/changeset.h"

#include <stdlib.h>
#include <string.h>

#include "core/marks.h"
#include "core/path.h"

/* More marks than this are not copied along with a rename one by one: the new name is compared as a whole. */
#define COPY_MAX 4096

#define COMPARE (MARK_RECURSIVE | MARK_NAME | MARK_LOOK)

enum rename_state { RENAME_PENDING = 1, RENAME_FLIGHT, RENAME_SETTLED };

/* A carried rename. The list is in the order of the records. An entry stays after it was settled, as long as a batch
 * taken before it is in flight: what that batch gives back has moved with it. */
struct carried {
	struct carried *next, *prev;
	uint64_t seq;
	int64_t first_ns;
	size_t from_len, to_len;
	enum rename_state state;
	bool is_dir;
	uint8_t gen;  /* slot */
	char bytes[]; /* from, to */
};

struct flight {
	struct flight *next;
	uint64_t id, seq; /* seq: of the last rename recorded when it was taken */
	const struct batch *batch;
	struct mark_node **items; /* NULL: given back */
	bool *settled;		  /* over, and to land with the batch */
	size_t n_items;
	struct carried **renames;
	size_t n_renames;
};

struct changeset {
	struct changeset_limits limits;
	struct marks m;
	struct carried *first, *last;
	size_t renames_pending, renames_in_flight;
	struct flight *flights, *last_flight; /* oldest first */
	uint64_t batch_id, seq, collapses;
	uint64_t generation; /* the latest that a record came with */
};

enum born {
	BORN_KEEP = 0, /* nothing new is known */
	BORN_SET,      /* it appeared: the target can't have it, if nothing else is known */
	BORN_CLEAR,    /* the target may have it */
};

/* What to mark a path with. */
struct want {
	unsigned flags;
	uint8_t gen; /* slot, borrowed */
	bool event;  /* a change was seen, as opposed to something coming back or being copied */
	enum born born;
	bool extend;
	int64_t first_ns, hold_ns;
	enum mark_queue wait; /* copies and what comes back: HOLD or RETRY until hold_ns */
	uint32_t tries;
};

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

static void flight_free(struct flight *f)
{
	if (f == NULL)
		return;
	free(f->items);
	free(f->settled);
	free(f->renames);
	free(f);
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

/* Whether a pending mark will have all below it compared soon, so that marks below add nothing. Not one that backs
 * off: a change below it must not wait for that. */
static bool covers(const struct mark_node *n)
{
	if ((n->pend & MARK_RECURSIVE) == 0 || n->pend_gen == GEN_NONE)
		return false;
	return n->queue == QUEUE_FRESH || n->queue == QUEUE_AGAIN ||
	       (n->queue == QUEUE_PARKED && n->wait == QUEUE_FRESH);
}

static struct mark_node *covering_ancestor(const struct mark_node *n)
{
	for (struct mark_node *a = n->parent; a != NULL; a = a->parent)
		if (covers(a))
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
		if (has != QUEUE_FRESH && has != QUEUE_AGAIN)
			marks_queue(&cs->m, n, QUEUE_FRESH, 0);
	} else if (fresh_mark || has == QUEUE_RETRY) {
		marks_queue(&cs->m, n, QUEUE_HOLD, w->hold_ns);
	} else if (has == QUEUE_HOLD && (w->extend || w->hold_ns < n->not_before_ns)) {
		marks_queue(&cs->m, n, QUEUE_HOLD, w->hold_ns);
	}
}

static void mark_node(struct changeset *cs, struct mark_node *n, const struct want *w)
{
	struct mark_node *cover = covering_ancestor(n);
	bool fresh_mark = n->pend == 0;
	unsigned flags = w->flags;

	if (cover != NULL) {
		marks_lower_gen(&cs->m, cover, w->gen);
		return;
	}
	if (w->born == BORN_SET && fresh_mark && n->infl == 0 && !unsure_above(n))
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
	if ((flags & MARK_RECURSIVE) != 0)
		marks_prune(&cs->m, n);
}

/* What is left when memory is not: compare everything. Always possible. */
static void mark_root(struct changeset *cs, uint8_t gen, int64_t first_ns)
{
	struct want w = { .flags = COMPARE | MARK_CAUSE, .gen = gen, .born = BORN_CLEAR, .first_ns = first_ns };

	mark_node(cs, cs->m.root, &w);
}

static int mark_path(struct changeset *cs, const char *path, size_t len, const struct want *w)
{
	struct mark_node *n = marks_make(&cs->m, path, len);

	if (n == NULL) {
		mark_root(cs, w->gen, w->first_ns);
		return -1;
	}
	mark_node(cs, n, w);
	marks_release(&cs->m, n);
	return 0;
}

/* Too much to keep: find the fullest subtree, half of all marks at least, and compare it instead. */
static void collapse(struct changeset *cs, int64_t now_ns)
{
	struct mark_node *n = cs->m.root, *c = n->child;
	size_t half = cs->m.pending / 2;
	struct want w = { .flags = COMPARE | MARK_CAUSE, .gen = GEN_NONE, .born = BORN_CLEAR, .first_ns = now_ns };

	while (c != NULL) {
		if (c->below > 0 && c->below >= half) {
			n = c;
			c = n->child;
		} else {
			c = c->next;
		}
	}
	mark_node(cs, n, &w);
	cs->collapses++;
}

/* ---- renames ---- */

static const char *from_of(const struct carried *r)
{
	return r->bytes;
}

static const char *to_of(const struct carried *r)
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

/* Entries that no batch in flight needs any more. */
static void carried_forget(struct changeset *cs)
{
	while (cs->first != NULL && cs->first->state == RENAME_SETTLED &&
	       (cs->flights == NULL || cs->flights->seq >= cs->first->seq))
		carried_unlink(cs, cs->first);
}

static void carried_settled(struct changeset *cs, struct carried *r)
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
	memcpy(p, to_of(r), r->to_len);
	memcpy(p + r->to_len, path + r->from_len, rest);
	*out_len = r->to_len + rest;
	return p;
}

/* Mark `path` as it was before the rename `r` (NULL: no rename since), and each name that it was carried to from then
 * on. */
static void mark_through(struct changeset *cs, const char *path, size_t len, const struct want *w,
			 const struct carried *r)
{
	char *moved = NULL;

	mark_path(cs, path, len, w);
	for (; r != NULL; r = r->next) {
		char *p;

		if (!path_within(path, len, from_of(r), r->from_len))
			continue;
		p = path_moved(r, path, len, &len);
		free(moved);
		moved = p;
		path = p;
		if (p == NULL || mark_path(cs, p, len, w) != 0) {
			mark_root(cs, w->gen, w->first_ns);
			break;
		}
	}
	free(moved);
}

/* The rename is not, or may not have been, carried out: compare both names. */
static void carried_reconcile(struct changeset *cs, struct carried *r)
{
	struct want w = { .flags = COMPARE, .gen = r->gen, .born = BORN_CLEAR, .first_ns = r->first_ns };

	mark_through(cs, from_of(r), r->from_len, &w, r->next);
	mark_through(cs, to_of(r), r->to_len, &w, r->next);
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

static void copy_one(struct changeset *cs, const struct mark_node *from, struct mark_node *to)
{
	struct want w = { .flags = (unsigned)(from->pend | from->infl) & ~(unsigned)(MARK_BORN | MARK_START),
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
	mark_node(cs, to, &w);
}

/* Copy all marks at and below `from` to `to`; the two do not overlap. 0, -1: out of memory, 1: too many. */
static int copy_marks(struct changeset *cs, const struct mark_node *from, struct mark_node *to)
{
	const struct mark_node *s = from;
	struct mark_node *d = to;

	for (size_t copied = 0; copied < COPY_MAX; copied++) {
		struct mark_node *dp;

		if ((s->pend | s->infl) != 0)
			copy_one(cs, s, d);
		if (s->child != NULL && !covers(d)) {
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
			struct want w = { .flags = (unsigned)x->infl & ~(unsigned)MARK_BORN,
					  .gen = x->infl_gen,
					  .born = BORN_CLEAR,
					  .first_ns = x->first_ns };

			mark_node(cs, x, &w);
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
	       memcmp(from_of(r), c->path, c->path_len) == 0 && memcmp(to_of(r), c->old_path, c->old_len) == 0;
}

/* The names of the record keep their marks whatever becomes of the rename: the worker looks at both again. */
static int mark_names(struct changeset *cs, const struct change *c, struct want *w, unsigned flags)
{
	int64_t hold_ns = w->hold_ns;
	int failed;

	w->flags = flags | (c->is_dir ? MARK_WAS_DIR : MARK_WAS_FILE);
	w->born = BORN_CLEAR;
	w->hold_ns = 0;
	failed = mark_path(cs, c->old_path, c->old_len, w);
	w->flags = flags;
	w->hold_ns = hold_ns;
	return mark_path(cs, c->path, c->path_len, w) != 0 || failed != 0 ? -1 : 0;
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
			rc = mark_path(cs, c->path, c->path_len, &compare);
	}
	return mark_names(cs, c, w, flags) != 0 || rc < 0 ? -1 : 0;
}

static int add_rename(struct changeset *cs, const struct change *c, struct want *w)
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
		mark_root(cs, w->gen, w->first_ns);
		return -1;
	}
	r->gen = gens_ref(&cs->m.gens, w->gen);
	r->first_ns = w->first_ns;
	carried_append(cs, r);
	return move_marks(cs, c, w, MARK_NAME);
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
	struct want w = {
		.flags = flags_of(c), .event = true, .extend = extend, .first_ns = now_ns, .hold_ns = hold_until_ns
	};
	int rc = 0;

	if (c->kind == CHANGE_NONE)
		return 0;
	if (generation > cs->generation)
		cs->generation = generation;
	w.gen = gens_get(&cs->m.gens, generation);
	if (c->kind == CHANGE_CREATE)
		w.born = BORN_SET;
	else if (c->kind == CHANGE_RECONCILE)
		w.born = BORN_CLEAR;
	rc = c->kind == CHANGE_RENAME ? add_rename(cs, c, &w) : mark_path(cs, c->path, c->path_len, &w);
	if (rc != 0)
		mark_root(cs, w.gen, now_ns);
	if (cs->m.pending > cs->limits.max_pending)
		collapse(cs, now_ns);
	gens_put(&cs->m.gens, w.gen);
	return rc;
}

/* ---- handing out ---- */

static struct flight *flight_new(size_t n_items, size_t n_renames)
{
	struct flight *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	f->items = calloc(n_items > 0 ? n_items : 1, sizeof(struct mark_node *));
	f->settled = calloc(n_items > 0 ? n_items : 1, sizeof(bool));
	f->renames = calloc(n_renames > 0 ? n_renames : 1, sizeof(struct carried *));
	if (f->items == NULL || f->settled == NULL || f->renames == NULL) {
		flight_free(f);
		return NULL;
	}
	f->n_items = n_items;
	f->n_renames = n_renames;
	return f;
}

static struct batch *batch_new(size_t n_items, size_t n_renames, size_t bytes)
{
	struct batch *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return NULL;
	b->items = calloc(n_items > 0 ? n_items : 1, sizeof(*b->items));
	b->renames = calloc(n_renames > 0 ? n_renames : 1, sizeof(*b->renames));
	b->arena = malloc(bytes > 0 ? bytes : 1);
	if (b->items == NULL || b->renames == NULL || b->arena == NULL) {
		batch_free(b);
		return NULL;
	}
	b->n_items = n_items;
	b->n_renames = n_renames;
	b->arena_len = bytes;
	return b;
}

static const struct mark_node *due_after(const struct changeset *cs, const struct mark_node *n)
{
	return n->q_next == NULL && n->queue == QUEUE_AGAIN ? cs->m.fresh.head : n->q_next;
}

/* How many items the limits allow, and the bytes of their paths. */
static size_t count_due(const struct changeset *cs, size_t *bytes)
{
	size_t n = 0, used = 0;

	for (const struct mark_node *x = marks_first_due(&cs->m); x != NULL; x = due_after(cs, x)) {
		size_t len = marks_path_len(x);

		if (n > 0 && (n >= cs->limits.batch_items || used + len > cs->limits.batch_bytes))
			break;
		used += len;
		n++;
	}
	*bytes = used;
	return n;
}

struct taken {
	struct batch_item item;
	struct mark_node *node;
};

static int compare_taken(const void *a, const void *b)
{
	const struct taken *x = a, *y = b;

	return path_compare(x->item.path, x->item.len, y->item.path, y->item.len);
}

/* To send something, the directories above it may have to be made on the target: they are not unknown there any more.
 */
static void clear_born_above(struct mark_node *n)
{
	for (struct mark_node *a = n->parent; a != NULL; a = a->parent)
		a->pend = (uint16_t)(a->pend & ~(unsigned)MARK_BORN);
}

/* The same for a path that may have no mark. */
static void clear_born_on_way(const struct changeset *cs, const char *path, size_t len)
{
	struct mark_node *n = cs->m.root;

	while (n != NULL && len > 0) {
		const char *slash = memchr(path, '/', len);
		size_t c = slash != NULL ? (size_t)(slash - path) : len, skip = c < len ? c + 1 : c;

		n->pend = (uint16_t)(n->pend & ~(unsigned)MARK_BORN);
		n = marks_child(&cs->m, n, path, c);
		path += skip;
		len -= skip;
	}
}

/* Moves the due marks to the batch. Can't fail. */
static void take_items(struct changeset *cs, struct batch *b, struct flight *f, struct taken *t, char *at)
{
	for (size_t i = 0; i < b->n_items; i++) {
		struct mark_node *n = marks_first_due(&cs->m);
		size_t len = marks_path_len(n);

		marks_path(n, at);
		t[i] = (struct taken){ { .path = at, .len = len, .flags = n->pend, .tries = n->tries }, n };
		at += len;
		marks_fly(&cs->m, n);
		clear_born_above(n);
	}
	qsort(t, b->n_items, sizeof(*t), compare_taken);
	for (size_t i = 0; i < b->n_items; i++) {
		b->items[i] = t[i].item;
		f->items[i] = t[i].node;
	}
}

static void take_renames(struct changeset *cs, struct batch *b, struct flight *f, char *at)
{
	size_t i = 0;

	for (struct carried *r = cs->first; r != NULL; r = r->next) {
		if (r->state != RENAME_PENDING)
			continue;
		memcpy(at, r->bytes, r->from_len + r->to_len);
		b->renames[i] = (struct batch_rename){ at, r->from_len, at + r->from_len, r->to_len, r->is_dir };
		at += r->from_len + r->to_len;
		f->renames[i++] = r;
		r->state = RENAME_FLIGHT;
		clear_born_on_way(cs, to_of(r), r->to_len);
	}
	cs->renames_in_flight += i;
	cs->renames_pending -= i;
}

struct batch *changeset_take(struct changeset *cs, int64_t now_ns)
{
	size_t bytes, rename_bytes = 0, n_items;
	struct taken *t = NULL;
	struct flight *f = NULL;
	struct batch *b = NULL;

	marks_release_due(&cs->m, now_ns);
	n_items = count_due(cs, &bytes);
	if (n_items == 0 && cs->renames_pending == 0)
		return NULL;
	for (const struct carried *r = cs->first; r != NULL; r = r->next)
		if (r->state == RENAME_PENDING)
			rename_bytes += r->from_len + r->to_len;
	t = calloc(n_items > 0 ? n_items : 1, sizeof(*t));
	f = flight_new(n_items, cs->renames_pending);
	b = batch_new(n_items, cs->renames_pending, bytes + rename_bytes);
	if (t == NULL || f == NULL || b == NULL) {
		free(t);
		flight_free(f);
		batch_free(b);
		return NULL;
	}
	take_renames(cs, b, f, b->arena);
	take_items(cs, b, f, t, b->arena + rename_bytes);
	free(t);
	b->id = f->id = ++cs->batch_id;
	f->seq = cs->seq;
	f->batch = b;
	if (cs->last_flight != NULL)
		cs->last_flight->next = f;
	else
		cs->flights = f;
	cs->last_flight = f;
	return b;
}

/* ---- coming back ---- */

static struct flight *flight_find(const struct changeset *cs, uint64_t id)
{
	struct flight *f = cs->flights;

	while (f != NULL && f->id != id)
		f = f->next;
	return f;
}

static const struct carried *carried_after(const struct changeset *cs, uint64_t seq)
{
	const struct carried *r = cs->first;

	while (r != NULL && r->seq <= seq)
		r = r->next;
	return r;
}

/* Back to pending. What was copied from it by a rename meanwhile is pending there already. */
static void give_back(struct changeset *cs, struct mark_node *n, struct want *w)
{
	w->gen = gens_ref(&cs->m.gens, w->gen);
	w->first_ns = n->first_ns;
	w->born = BORN_CLEAR;
	marks_land(&cs->m, n);
	mark_node(cs, n, w);
	gens_put(&cs->m.gens, w->gen);
}

static void give_back_retry(struct changeset *cs, struct mark_node *n, int64_t not_before_ns)
{
	uint32_t tries = n->tries < UINT16_MAX ? n->tries + 1u : n->tries;
	bool seen_since = n->pend != 0;
	struct want w = { .flags = (unsigned)(n->infl & ~MARK_BORN) | MARK_FAILED,
			  .gen = tries >= 2 ? GEN_NONE : n->infl_gen,
			  .wait = seen_since ? QUEUE_NONE : QUEUE_RETRY,
			  .hold_ns = not_before_ns,
			  .tries = tries };

	give_back(cs, n, &w);
}

static void give_back_reconcile(struct changeset *cs, const struct flight *f, struct mark_node *n)
{
	struct want w = { .flags = (unsigned)(n->infl & ~MARK_BORN) | COMPARE,
			  .gen = gens_ref(&cs->m.gens, n->infl_gen),
			  .born = BORN_CLEAR,
			  .first_ns = n->first_ns };
	uint8_t gen = w.gen;
	size_t len = marks_path_len(n);
	char *path = malloc(len + 1);

	if (path == NULL) {
		mark_root(cs, gen, n->first_ns);
		marks_land(&cs->m, n);
		marks_release(&cs->m, n);
	} else {
		marks_path(n, path);
		give_back(cs, n, &w);
		mark_through(cs, path, len, &w, carried_after(cs, f->seq));
	}
	free(path);
	gens_put(&cs->m.gens, gen);
}

bool changeset_settle(struct changeset *cs, uint64_t batch_id, size_t index, enum verdict v, int64_t not_before_ns,
		      int64_t now_ns)
{
	struct flight *f = flight_find(cs, batch_id);
	struct mark_node *n;

	(void)now_ns;
	if (f == NULL || index >= f->n_items || v == VERDICT_NONE || v >= VERDICTS)
		return false;
	n = f->items[index];
	if (n == NULL || f->settled[index])
		return true;
	if (v != VERDICT_RETRY && v != VERDICT_RECONCILE) {
		/* It lands with the batch: the times of the directories above may still have to be set, and if one of
		 * those is renamed before that, only what is in flight tells where to do it. */
		f->settled[index] = true;
		return true;
	}
	f->items[index] = NULL;
	if (v == VERDICT_RECONCILE) {
		give_back_reconcile(cs, f, n);
	} else {
		give_back_retry(cs, n, not_before_ns);
		marks_release(&cs->m, n);
	}
	return true;
}

bool changeset_settle_rename(struct changeset *cs, uint64_t batch_id, size_t index, enum verdict v, int64_t now_ns)
{
	struct flight *f = flight_find(cs, batch_id);
	struct carried *r;

	(void)now_ns;
	if (f == NULL || index >= f->n_renames || v == VERDICT_NONE || v >= VERDICTS)
		return false;
	r = f->renames[index];
	if (r == NULL)
		return true;
	f->renames[index] = NULL;
	if (v == VERDICT_DONE)
		carried_settled(cs, r);
	else
		carried_reconcile(cs, r);
	return true;
}

static void land(struct changeset *cs, const struct flight *f, size_t i)
{
	struct mark_node *n = f->items[i];
	struct want w = { 0 };

	if (f->settled[i]) {
		marks_land(&cs->m, n);
		n->tries = 0;
	} else {
		w.flags = (unsigned)n->infl & ~(unsigned)MARK_BORN;
		w.gen = n->infl_gen;
		w.tries = n->tries;
		give_back(cs, n, &w);
	}
	marks_release(&cs->m, n);
}

static void flight_end(struct changeset *cs, struct flight *f)
{
	struct flight **at = &cs->flights, *prev = NULL;

	for (size_t i = 0; i < f->n_items; i++)
		if (f->items[i] != NULL)
			land(cs, f, i);
	for (size_t i = 0; i < f->n_renames; i++)
		if (f->renames[i] != NULL)
			carried_reconcile(cs, f->renames[i]);
	while (*at != f) {
		prev = *at;
		at = &prev->next;
	}
	*at = f->next;
	if (cs->last_flight == f)
		cs->last_flight = prev;
	flight_free(f);
	carried_forget(cs);
	if (cs->m.pending > cs->limits.max_pending)
		collapse(cs, INT64_MAX);
}

void changeset_finish(struct changeset *cs, uint64_t batch_id, int64_t now_ns)
{
	struct flight *f = flight_find(cs, batch_id);

	(void)now_ns;
	if (f != NULL)
		flight_end(cs, f);
}

/* A directory gets its time after its entries, and they may have their verdict already. */
static void mark_parents(struct changeset *cs, const struct flight *f, int64_t now_ns)
{
	const struct batch *b = f->batch;
	struct want w = { .flags = MARK_LOOK, .gen = gens_get(&cs->m.gens, cs->generation), .first_ns = now_ns };
	const char *last = NULL;
	size_t last_len = 0;

	for (size_t i = 0; i < b->n_items; i++) {
		const struct batch_item *it = &b->items[i];
		size_t len = path_parent_len(it->path, it->len);

		if ((f->items[i] != NULL && !f->settled[i]) || it->len == 0 ||
		    (last != NULL && len == last_len && memcmp(last, it->path, len) == 0))
			continue;
		last = it->path;
		last_len = len;
		mark_through(cs, last, len, &w, carried_after(cs, f->seq));
	}
	gens_put(&cs->m.gens, w.gen);
}

void changeset_abandon(struct changeset *cs, int64_t now_ns)
{
	while (cs->flights != NULL) {
		mark_parents(cs, cs->flights, now_ns);
		flight_end(cs, cs->flights);
	}
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

bool changeset_served(const struct changeset *cs, uint64_t generation)
{
	return gens_served(&cs->m.gens, generation);
}

bool changeset_has(const struct changeset *cs, const char *path, size_t len)
{
	const struct mark_node *n = marks_find(&cs->m, path, len);

	return n != NULL && (n->pend | n->infl) != 0;
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
