/*
 * changeset_batches.c - how batches of marks and renames leave, and what a verdict, a failed batch or a dead worker
 * puts back.
 */
#include "core/changeset_private.h"

#include <stdlib.h>
#include <string.h>

#include "core/path.h"

void flight_free(struct flight *f)
{
	if (f == NULL)
		return;
	free(f->items);
	free(f->settled);
	free(f->renames);
	free(f);
}

/* ---- handing out ---- */

struct flight *flight_new(size_t n_items, size_t n_renames)
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
	f->gen = GEN_NONE;
	return f;
}

struct batch *flight_batch_new(size_t n_items, size_t n_renames, size_t bytes)
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

void changeset_doubt_born(struct changeset *cs)
{
	cs->born_in_doubt = true;
}

void cs_clear_born_below(struct mark_node *top)
{
	for (struct mark_node *n = marks_next(top, top); n != NULL; n = marks_next(n, top))
		n->pend = (uint16_t)(n->pend & ~(unsigned)MARK_BORN);
}

void cs_clear_born_above(struct mark_node *n)
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
		f->alone = f->alone || (n->pend & MARK_ALONE) != 0;
		at += len;
		marks_fly(&cs->m, n);
		cs_clear_born_above(n);
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
		clear_born_on_way(cs, carried_to(r), r->to_len);
	}
	cs->renames_in_flight += i;
	cs->renames_pending -= i;
}

void flight_begin(struct changeset *cs, struct flight *f, struct batch *b)
{
	b->id = f->id = ++cs->batch_id;
	f->seq = cs->seq;
	f->batch = b;
	if (cs->last_flight != NULL)
		cs->last_flight->next = f;
	else
		cs->flights = f;
	cs->last_flight = f;
}

struct batch *changeset_take(struct changeset *cs, int64_t now_ns)
{
	size_t bytes, rename_bytes = 0, n_items;
	struct taken *t = NULL;
	struct flight *f = NULL;
	struct batch *b = NULL;

	if (cs->born_in_doubt) /* the root is never born */
		cs_clear_born_below(cs->m.root);
	cs->born_in_doubt = false;
	marks_release_due(&cs->m, now_ns);
	if (!large_bar(cs))
		return NULL;
	n_items = count_due(cs, &bytes);
	if (n_items == 0 && cs->renames_pending == 0)
		return NULL;
	for (const struct carried *r = cs->first; r != NULL; r = r->next)
		if (r->state == RENAME_PENDING)
			rename_bytes += r->from_len + r->to_len;
	t = calloc(n_items > 0 ? n_items : 1, sizeof(*t));
	f = flight_new(n_items, cs->renames_pending);
	b = flight_batch_new(n_items, cs->renames_pending, bytes + rename_bytes);
	if (t == NULL || f == NULL || b == NULL) {
		free(t);
		flight_free(f);
		batch_free(b);
		return NULL;
	}
	take_renames(cs, b, f, b->arena);
	take_items(cs, b, f, t, b->arena + rename_bytes);
	free(t);
	flight_begin(cs, f, b);
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

/* Back to pending. What was copied from it by a rename meanwhile is pending there already. */
static void give_back(struct changeset *cs, struct mark_node *n, struct want *w)
{
	w->gen = gens_ref(&cs->m.gens, w->gen);
	w->first_ns = n->first_ns;
	w->born = BORN_CLEAR;
	marks_land(&cs->m, n);
	cs_mark_node(cs, n, w);
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

/* To the other lane. */
static void give_back_lane(struct changeset *cs, struct mark_node *n, enum verdict v)
{
	unsigned lane = v == VERDICT_LARGE ? MARK_LARGE : v == VERDICT_ALONE ? MARK_ALONE : 0u;
	struct want w = { .flags = ((unsigned)n->infl & ~(unsigned)(MARK_BORN | LANES)) | lane,
			  .gen = n->infl_gen,
			  .tries = n->tries };

	n->pend = (uint16_t)(n->pend & ~(unsigned)LANES);
	give_back(cs, n, &w);
}

static void give_back_reconcile(struct changeset *cs, const struct flight *f, struct mark_node *n)
{
	struct want w = { .flags = ((unsigned)n->infl & ~(unsigned)(MARK_BORN | LANES)) | COMPARE,
			  .gen = gens_ref(&cs->m.gens, n->infl_gen),
			  .born = BORN_CLEAR,
			  .first_ns = n->first_ns };
	uint8_t gen = w.gen;
	size_t len = marks_path_len(n);
	char *path = malloc(len + 1);

	if (path == NULL) {
		cs_mark_root(cs, gen, n->first_ns);
		marks_land(&cs->m, n);
		marks_release(&cs->m, n);
	} else {
		marks_path(n, path);
		give_back(cs, n, &w);
		cs_mark_through(cs, path, len, &w, carried_after(cs, f->seq));
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
	if (v == VERDICT_DONE || v == VERDICT_GONE || v == VERDICT_REJECT) {
		/* It lands with the batch: the times of the directories above may still have to be set, and if one of
		 * those is renamed before that, only what is in flight tells where to do it. */
		f->settled[index] = true;
		return true;
	}
	f->items[index] = NULL;
	if (v == VERDICT_RECONCILE) {
		give_back_reconcile(cs, f, n);
		return true;
	}
	if (v == VERDICT_RETRY)
		give_back_retry(cs, n, not_before_ns);
	else
		give_back_lane(cs, n, v);
	marks_release(&cs->m, n);
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

static void land(struct changeset *cs, struct flight *f, size_t i)
{
	struct mark_node *n = f->items[i];
	struct want w = { 0 };

	f->items[i] = NULL;
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

static void flight_end(struct changeset *cs, struct flight *f, int64_t now_ns)
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
	if (cs->large == f)
		large_landed(cs, now_ns);
	flight_free(f);
	carried_forget(cs);
	if (cs->m.pending > cs->limits.max_pending)
		cs_collapse(cs, now_ns);
}

void changeset_finish(struct changeset *cs, uint64_t batch_id, int64_t now_ns)
{
	struct flight *f = flight_find(cs, batch_id);

	if (f != NULL)
		flight_end(cs, f, now_ns);
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
		cs_mark_through(cs, last, len, &w, carried_after(cs, f->seq));
	}
	gens_put(&cs->m.gens, w.gen);
}

void changeset_abandon(struct changeset *cs, uint64_t batch_id, int64_t now_ns)
{
	struct flight *f = flight_find(cs, batch_id);

	if (f == NULL)
		return;
	mark_parents(cs, f, now_ns);
	flight_end(cs, f, now_ns);
}

void changeset_abandon_all(struct changeset *cs, int64_t now_ns)
{
	while (cs->flights != NULL)
		changeset_abandon(cs, cs->flights->id, now_ns);
}
