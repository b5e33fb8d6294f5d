/*
 * marks.c - the tree of marked names: nodes, the hash over (parent, name), pending and in-flight flags, and the counts
 * that the barrier and the limit ask for.
 */
#include "core/marks.h"

#include <stdlib.h>
#include <string.h>

#include "core/path.h"

#define BUCKETS_MIN 64u

/* ---- generations ---- */

static uint8_t gens_slot(struct gens *g, uint64_t gen)
{
	size_t empty = GEN_SLOTS, older = GEN_SLOTS, oldest = 0;

	if (g->count[g->last] > 0 && g->gen[g->last] == gen)
		return g->last;
	for (size_t i = 0; i < GEN_SLOTS; i++) {
		if (g->count[i] == 0) {
			empty = i;
			continue;
		}
		if (g->gen[i] == gen)
			return (uint8_t)i;
		if (g->gen[i] < gen && (older == GEN_SLOTS || g->gen[i] > g->gen[older]))
			older = i;
		if (g->gen[i] < g->gen[oldest])
			oldest = i;
	}
	if (empty < GEN_SLOTS) {
		g->gen[empty] = gen;
		return (uint8_t)empty;
	}
	if (older < GEN_SLOTS)
		return (uint8_t)older;
	g->gen[oldest] = gen;
	return (uint8_t)oldest;
}

uint8_t gens_get(struct gens *g, uint64_t gen)
{
	g->last = gens_slot(g, gen);
	g->count[g->last]++;
	return g->last;
}

uint8_t gens_ref(struct gens *g, uint8_t slot)
{
	if (slot != GEN_NONE)
		g->count[slot]++;
	return slot;
}

void gens_put(struct gens *g, uint8_t slot)
{
	if (slot != GEN_NONE)
		g->count[slot]--;
}

uint8_t gens_older(const struct gens *g, uint8_t a, uint8_t b)
{
	if (a == GEN_NONE)
		return b;
	if (b == GEN_NONE)
		return a;
	return g->gen[b] < g->gen[a] ? b : a;
}

bool gens_served(const struct gens *g, uint64_t gen)
{
	for (size_t i = 0; i < GEN_SLOTS; i++)
		if (g->count[i] > 0 && g->gen[i] <= gen)
			return false;
	return true;
}

uint64_t gens_oldest(const struct gens *g, uint64_t latest)
{
	uint64_t oldest = latest;

	for (size_t i = 0; i < GEN_SLOTS; i++)
		if (g->count[i] > 0 && g->gen[i] < oldest)
			oldest = g->gen[i];
	return oldest;
}

/* ---- nodes ---- */

/* The parent's address is part of it: names chosen by others can't be aimed at one bucket without knowing that. */
static uint32_t hash_name(const struct mark_node *parent, const char *name, size_t len)
{
	uint64_t h = ((uint64_t)(uintptr_t)parent >> 4) * UINT64_C(0x9e3779b97f4a7c15);

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)name[i]) * UINT64_C(0x100000001b3);
	h ^= h >> 29;
	h *= UINT64_C(0xbf58476d1ce4e5b9);
	return (uint32_t)(h >> 32);
}

static struct mark_node *node_new(const char *name, size_t len)
{
	struct mark_node *n = calloc(1, sizeof(*n) + len);

	if (n == NULL)
		return NULL;
	n->name_len = (uint8_t)len;
	if (len > 0)
		memcpy(n->name, name, len);
	n->pend_gen = n->infl_gen = GEN_NONE;
	return n;
}

int marks_init(struct marks *m)
{
	memset(m, 0, sizeof(*m));
	m->again_min_ns = INT64_MAX;
	m->root = node_new("", 0);
	m->buckets = calloc(BUCKETS_MIN, sizeof(*m->buckets));
	if (m->root == NULL || m->buckets == NULL) {
		marks_done(m);
		return -1;
	}
	m->n_buckets = BUCKETS_MIN;
	return 0;
}

void marks_done(struct marks *m)
{
	for (size_t i = 0; m->buckets != NULL && i < m->n_buckets; i++) {
		struct mark_node *n = m->buckets[i];

		while (n != NULL) {
			struct mark_node *next = n->hash_next;

			free(n);
			n = next;
		}
	}
	free(m->buckets);
	free(m->root);
	memset(m, 0, sizeof(*m));
}

/* Longer chains are the price if there is no memory for more buckets. */
static void rehash(struct marks *m, size_t n_buckets)
{
	struct mark_node **b = calloc(n_buckets, sizeof(*b));

	if (b == NULL)
		return;
	for (size_t i = 0; m->buckets != NULL && i < m->n_buckets; i++) {
		struct mark_node *n = m->buckets[i];

		while (n != NULL) {
			struct mark_node *next = n->hash_next, **to = &b[n->hash & (n_buckets - 1)];

			n->hash_next = *to;
			*to = n;
			n = next;
		}
	}
	free(m->buckets);
	m->buckets = b;
	m->n_buckets = n_buckets;
}

static struct mark_node *lookup(const struct marks *m, const struct mark_node *parent, const char *name, size_t len,
				uint32_t hash)
{
	struct mark_node *n = m->buckets[hash & (m->n_buckets - 1)];

	while (n != NULL &&
	       !(n->hash == hash && n->parent == parent && n->name_len == len && memcmp(n->name, name, len) == 0))
		n = n->hash_next;
	return n;
}

struct mark_node *marks_child(const struct marks *m, const struct mark_node *parent, const char *name, size_t len)
{
	return lookup(m, parent, name, len, hash_name(parent, name, len));
}

struct mark_node *marks_make_child(struct marks *m, struct mark_node *parent, const char *name, size_t len)
{
	uint32_t hash = hash_name(parent, name, len);
	struct mark_node *n = lookup(m, parent, name, len, hash), **to;

	if (n != NULL)
		return n;
	n = node_new(name, len);
	if (n == NULL)
		return NULL;
	if (m->n_nodes >= m->n_buckets)
		rehash(m, m->n_buckets * 2);
	n->hash = hash;
	to = &m->buckets[hash & (m->n_buckets - 1)];
	n->hash_next = *to;
	*to = n;
	n->parent = parent;
	n->next = parent->child;
	if (n->next != NULL)
		n->next->prev = n;
	parent->child = n;
	m->n_nodes++;
	return n;
}

/* The length of the component that begins at `p`. */
static size_t component(const char *p, size_t len)
{
	const char *slash = memchr(p, '/', len);

	return slash == NULL ? len : (size_t)(slash - p);
}

struct mark_node *marks_find(const struct marks *m, const char *path, size_t len)
{
	struct mark_node *n = m->root;

	while (len > 0 && n != NULL) {
		size_t c = component(path, len), skip = c < len ? c + 1 : c;

		n = marks_child(m, n, path, c);
		path += skip;
		len -= skip;
	}
	return n;
}

struct mark_node *marks_make(struct marks *m, const char *path, size_t len)
{
	struct mark_node *n = m->root;

	while (len > 0) {
		size_t c = component(path, len), skip = c < len ? c + 1 : c;
		struct mark_node *child = marks_make_child(m, n, path, c);

		if (child == NULL) {
			marks_release(m, n);
			return NULL;
		}
		n = child;
		path += skip;
		len -= skip;
	}
	return n;
}

void marks_release_one(struct marks *m, struct mark_node *n)
{
	struct mark_node **at;

	if (n == m->root || n->pend != 0 || n->infl != 0 || n->child != NULL)
		return;
	at = &m->buckets[n->hash & (m->n_buckets - 1)];
	while (*at != n)
		at = &(*at)->hash_next;
	*at = n->hash_next;
	if (n->next != NULL)
		n->next->prev = n->prev;
	if (n->prev != NULL)
		n->prev->next = n->next;
	else
		n->parent->child = n->next;
	free(n);
	m->n_nodes--;
	if (m->n_buckets > BUCKETS_MIN && m->n_nodes < m->n_buckets / 8)
		rehash(m, m->n_buckets / 4 > BUCKETS_MIN ? m->n_buckets / 4 : BUCKETS_MIN);
}

void marks_release(struct marks *m, struct mark_node *n)
{
	while (n != m->root && n->pend == 0 && n->infl == 0 && n->child == NULL) {
		struct mark_node *parent = n->parent;

		marks_release_one(m, n);
		n = parent;
	}
}

struct mark_node *marks_next(const struct mark_node *n, const struct mark_node *top)
{
	if (n->child != NULL)
		return n->child;
	while (n != top && n->next == NULL)
		n = n->parent;
	return n == top ? NULL : n->next;
}

size_t marks_path_len(const struct mark_node *n)
{
	size_t len = 0;

	for (; n->parent != NULL; n = n->parent)
		len += n->name_len + (len > 0 ? 1u : 0u);
	return len;
}

void marks_path(const struct mark_node *n, char *out)
{
	size_t at = marks_path_len(n);

	for (; n->parent != NULL; n = n->parent) {
		at -= n->name_len;
		memcpy(out + at, n->name, n->name_len);
		if (at > 0)
			out[--at] = '/';
	}
}

/* ---- pending and in flight ---- */

void marks_lower_gen(struct marks *m, struct mark_node *n, uint8_t slot)
{
	uint8_t was = n->pend_gen;

	if (gens_older(&m->gens, was, slot) == was)
		return;
	n->pend_gen = gens_ref(&m->gens, slot);
	gens_put(&m->gens, was);
}

void marks_pend(struct marks *m, struct mark_node *n, unsigned flags, uint8_t slot, int64_t first_ns)
{
	if (n->pend == 0) {
		m->pending++;
		for (struct mark_node *p = n->parent; p != NULL; p = p->parent)
			p->below++;
		n->first_ns = first_ns;
	} else if (first_ns < n->first_ns) {
		n->first_ns = first_ns;
		if (n->queue == QUEUE_FRESH || n->queue == QUEUE_AGAIN)
			marks_queue(m, n, QUEUE_FRESH, 0);
	}
	n->pend = (uint16_t)(n->pend | flags);
	marks_lower_gen(m, n, slot);
}

void marks_fly(struct marks *m, struct mark_node *n)
{
	n->infl = n->pend;
	n->infl_gen = gens_ref(&m->gens, n->pend_gen);
	m->in_flight++;
	marks_unpend(m, n);
}

void marks_land(struct marks *m, struct mark_node *n)
{
	n->infl = 0;
	gens_put(&m->gens, n->infl_gen);
	n->infl_gen = GEN_NONE;
	m->in_flight--;
	if (n->queue == QUEUE_PARKED)
		marks_queue(m, n, (enum mark_queue)n->wait, n->not_before_ns);
}

/* Free the nodes strictly below `top` that carry nothing, children before parents. */
static void free_empty(struct marks *m, struct mark_node *top)
{
	struct mark_node *n = top;

	while (n->child != NULL)
		n = n->child;
	while (n != top) {
		struct mark_node *after = n->next;

		if (after == NULL)
			after = n->parent;
		else
			while (after->child != NULL)
				after = after->child;
		marks_release_one(m, n);
		n = after;
	}
}

void marks_prune(struct marks *m, struct mark_node *top)
{
	int64_t first_ns = top->first_ns;

	if (top->below == 0)
		return;
	for (struct mark_node *n = marks_next(top, top); n != NULL; n = marks_next(n, top)) {
		if (n->pend == 0)
			continue;
		marks_lower_gen(m, top, n->pend_gen);
		if (n->first_ns < first_ns)
			first_ns = n->first_ns;
		marks_unpend(m, n);
	}
	free_empty(m, top);
	if (first_ns < top->first_ns) {
		top->first_ns = first_ns;
		if (top->queue == QUEUE_FRESH || top->queue == QUEUE_AGAIN)
			marks_queue(m, top, QUEUE_FRESH, 0);
	}
}
