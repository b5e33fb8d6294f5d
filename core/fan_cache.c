/*
 * fan_cache.c - directories by file handle, as a tree of nodes.
 */
#include "core/fan_cache.h"

#include <stdlib.h>
#include <string.h>

#define MIN_BUCKETS 256u

struct fan_node {
	struct fan_node *parent, *kids, *sib_prev, *sib_next;
	struct fan_node *key_next, *name_next; /* chains of the two tables */
	struct fan_node *use_prev, *use_next;  /* by last use; NULL-terminated at both ends */
	struct fan_node *fresh_prev, *fresh_next;
	uint64_t denied_at;
	uint32_t key_hash, name_hash;
	unsigned pins;
	bool denied, loose, fresh;
	struct fan_key *key;
	char *name;
	size_t name_len;
};

struct fan_cache {
	size_t max, count, buckets;
	struct fan_node **by_key, **by_name;
	struct fan_node *used_last, *used_first; /* most and least recently used */
	struct fan_node *fresh;
	uint64_t denials;
};

static uint32_t hash_bytes(uint32_t h, const void *data, size_t len)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 16777619u;
	return h ^ (h >> 15);
}

static uint32_t hash_key(const struct fan_key *k)
{
	return hash_bytes(2166136261u ^ (k->view * 2654435761u), k->bytes, k->len);
}

static uint32_t hash_name(const struct fan_node *parent, const char *name, size_t len)
{
	return hash_bytes(parent->key_hash, name, len);
}

static bool same_key(const struct fan_key *a, const struct fan_key *b)
{
	return a->view == b->view && a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

struct fan_cache *fan_cache_new(size_t max)
{
	struct fan_cache *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->max = max;
	for (c->buckets = MIN_BUCKETS; c->buckets < max;)
		c->buckets *= 2;
	c->by_key = calloc(c->buckets, sizeof(*c->by_key));
	c->by_name = calloc(c->buckets, sizeof(*c->by_name));
	if (c->by_key == NULL || c->by_name == NULL) {
		fan_cache_free(c);
		return NULL;
	}
	return c;
}

/* ---- lists and tables ---- */

static void use_remove(struct fan_cache *c, struct fan_node *n)
{
	*(n->use_prev != NULL ? &n->use_prev->use_next : &c->used_last) = n->use_next;
	*(n->use_next != NULL ? &n->use_next->use_prev : &c->used_first) = n->use_prev;
}

static void use_add(struct fan_cache *c, struct fan_node *n)
{
	n->use_prev = NULL;
	n->use_next = c->used_last;
	*(c->used_last != NULL ? &c->used_last->use_prev : &c->used_first) = n;
	c->used_last = n;
}

static void touch(struct fan_cache *c, struct fan_node *n)
{
	if (c->used_last != n) {
		use_remove(c, n);
		use_add(c, n);
	}
}

static void set_fresh(struct fan_cache *c, struct fan_node *n)
{
	if (n->fresh)
		return;
	n->fresh = true;
	n->fresh_prev = NULL;
	n->fresh_next = c->fresh;
	if (c->fresh != NULL)
		c->fresh->fresh_prev = n;
	c->fresh = n;
}

static void unset_fresh(struct fan_cache *c, struct fan_node *n)
{
	if (!n->fresh)
		return;
	n->fresh = false;
	*(n->fresh_prev != NULL ? &n->fresh_prev->fresh_next : &c->fresh) = n->fresh_next;
	if (n->fresh_next != NULL)
		n->fresh_next->fresh_prev = n->fresh_prev;
}

static void key_remove(struct fan_cache *c, const struct fan_node *n)
{
	struct fan_node **at = &c->by_key[n->key_hash & (c->buckets - 1)];

	while (*at != n)
		at = &(*at)->key_next;
	*at = n->key_next;
}

static void name_remove(struct fan_cache *c, const struct fan_node *n)
{
	struct fan_node **at = &c->by_name[n->name_hash & (c->buckets - 1)];

	while (*at != n)
		at = &(*at)->name_next;
	*at = n->name_next;
}

/* ---- places in the tree ---- */

static void unplace(struct fan_cache *c, struct fan_node *n)
{
	if (n->parent == NULL)
		return;
	name_remove(c, n);
	*(n->sib_prev != NULL ? &n->sib_prev->sib_next : &n->parent->kids) = n->sib_next;
	if (n->sib_next != NULL)
		n->sib_next->sib_prev = n->sib_prev;
	n->parent = NULL;
	free(n->name);
	n->name = NULL;
	n->name_len = 0;
}

static bool place(struct fan_cache *c, struct fan_node *n, struct fan_node *parent, const char *name, size_t len)
{
	char *copy = text_dup(name, len);
	struct fan_node **bucket;

	if (copy == NULL)
		return false;
	n->name = copy;
	n->name_len = len;
	n->parent = parent;
	n->sib_prev = NULL;
	n->sib_next = parent->kids;
	if (parent->kids != NULL)
		parent->kids->sib_prev = n;
	parent->kids = n;
	n->name_hash = hash_name(parent, name, len);
	bucket = &c->by_name[n->name_hash & (c->buckets - 1)];
	n->name_next = *bucket;
	*bucket = n;
	n->loose = false;
	return true;
}

static void release(struct fan_cache *c, struct fan_node *n)
{
	unplace(c, n);
	unset_fresh(c, n);
	use_remove(c, n);
	key_remove(c, n);
	c->count--;
	free(n->key);
	free(n);
}

void fan_cache_drop(struct fan_cache *c, struct fan_node *top)
{
	struct fan_node *n = top, *up;

	/* Leaves first. What hangs below a pinned node stays right relative to it. */
	for (;;) {
		while (n->kids != NULL && n->pins == 0)
			n = n->kids;
		up = n == top ? NULL : n->parent;
		if (n->pins > 0) {
			n->loose = true;
			unplace(c, n);
			unset_fresh(c, n);
		} else {
			release(c, n);
		}
		if (up == NULL)
			return;
		n = up;
	}
}

void fan_cache_drop_unsettled(struct fan_cache *c)
{
	while (c->fresh != NULL)
		fan_cache_drop(c, c->fresh);
}

void fan_cache_settle(struct fan_cache *c)
{
	while (c->fresh != NULL)
		unset_fresh(c, c->fresh);
}

void fan_cache_readmit(struct fan_cache *c)
{
	c->denials++;
}

void fan_cache_clear(struct fan_cache *c)
{
	struct fan_node *n = c->used_last, *next;

	/* Detached first: a drop would free nodes that are still to be visited here. */
	for (; n != NULL; n = n->use_next) {
		n->loose = true;
		unplace(c, n);
	}
	for (n = c->used_last; n != NULL; n = next) {
		next = n->use_next;
		if (n->pins == 0)
			release(c, n);
		else
			unset_fresh(c, n);
	}
}

void fan_cache_free(struct fan_cache *c)
{
	if (c == NULL)
		return;
	for (struct fan_node *n = c->used_last; n != NULL; n = n->use_next)
		n->pins = 0;
	fan_cache_clear(c);
	free(c->by_key);
	free(c->by_name);
	free(c);
}

/* ---- entries ---- */

/* Make room for one more. Nodes that carry others, or are pinned, go round once. */
static void evict(struct fan_cache *c, const struct fan_node *keep)
{
	for (size_t tries = c->count; c->count >= c->max && tries > 0; tries--) {
		struct fan_node *n = c->used_first;

		if (n->kids == NULL && n->pins == 0 && n != keep)
			release(c, n);
		else
			touch(c, n);
	}
}

static struct fan_node *lookup(struct fan_cache *c, const struct fan_key *k)
{
	uint32_t h = hash_key(k);
	struct fan_node *n = c->by_key[h & (c->buckets - 1)];

	while (n != NULL && (n->key_hash != h || !same_key(n->key, k)))
		n = n->key_next;
	return n;
}

struct fan_node *fan_cache_find(struct fan_cache *c, const struct fan_key *k)
{
	struct fan_node *n = lookup(c, k);

	if (n == NULL)
		return NULL;
	if (n->denied && n->denied_at != c->denials) {
		release(c, n);
		return NULL;
	}
	touch(c, n);
	return n;
}

static struct fan_node *insert(struct fan_cache *c, const struct fan_key *k, const struct fan_node *keep)
{
	size_t size = offsetof(struct fan_key, bytes) + k->len;
	struct fan_node *n = calloc(1, sizeof(*n));
	struct fan_key *copy = malloc(size);
	struct fan_node **bucket;

	if (n == NULL || copy == NULL) {
		free(n);
		free(copy);
		return NULL;
	}
	evict(c, keep);
	memcpy(copy, k, size);
	n->key = copy;
	n->key_hash = hash_key(k);
	bucket = &c->by_key[n->key_hash & (c->buckets - 1)];
	n->key_next = *bucket;
	*bucket = n;
	use_add(c, n);
	c->count++;
	return n;
}

static bool lies_below(const struct fan_node *n, const struct fan_node *top)
{
	while (n != NULL && n != top)
		n = n->parent;
	return n != NULL;
}

struct fan_node *fan_cache_add(struct fan_cache *c, const struct fan_key *k, struct fan_node *parent, const char *name,
			       size_t len)
{
	struct fan_node *n = lookup(c, k), *there;

	if (n != NULL && lies_below(parent, n))
		return NULL;
	if (n != NULL && n->pins == 0) {
		fan_cache_drop(c, n);
		n = NULL;
	}
	there = fan_cache_child(c, parent, name, len);
	if (there != NULL && there != n)
		fan_cache_drop(c, there);
	if (n == NULL)
		n = insert(c, k, parent);
	else
		unplace(c, n);
	if (n == NULL)
		return NULL;
	if (!place(c, n, parent, name, len)) {
		fan_cache_drop(c, n);
		return NULL;
	}
	set_fresh(c, n);
	return n;
}

bool fan_cache_deny(struct fan_cache *c, const struct fan_key *k)
{
	struct fan_node *n = lookup(c, k);

	if (n == NULL) {
		n = insert(c, k, NULL);
		if (n == NULL)
			return false;
		n->denied = true;
	}
	if (n->denied)
		n->denied_at = c->denials;
	return true;
}

struct fan_node *fan_cache_pin(struct fan_cache *c, const struct fan_key *k)
{
	struct fan_node *n = lookup(c, k);

	if (n == NULL) {
		n = insert(c, k, NULL);
		if (n == NULL)
			return NULL;
		n->loose = true;
	}
	if (n->denied) {
		n->denied = false;
		n->loose = true;
	}
	n->pins++;
	return n;
}

void fan_cache_unpin(struct fan_cache *c, struct fan_node *n)
{
	n->pins--;
	if (n->pins == 0 && n->parent == NULL)
		fan_cache_drop(c, n);
}

struct fan_node *fan_cache_child(const struct fan_cache *c, const struct fan_node *parent, const char *name, size_t len)
{
	uint32_t h = hash_name(parent, name, len);
	struct fan_node *n = c->by_name[h & (c->buckets - 1)];

	while (n != NULL && (n->parent != parent || n->name_len != len || memcmp(n->name, name, len) != 0))
		n = n->name_next;
	return n;
}

void fan_cache_move(struct fan_cache *c, struct fan_node *n, struct fan_node *parent, const char *name, size_t len)
{
	struct fan_node *there;

	/* A directory cannot come to lie below itself: then what we believe is wrong, and goes. */
	if (lies_below(parent, n)) {
		fan_cache_drop(c, n);
		return;
	}
	there = fan_cache_child(c, parent, name, len);
	if (there == n)
		return;
	if (there != NULL) {
		bool impossible = lies_below(n, there);

		fan_cache_drop(c, there);
		if (impossible)
			return;
	}
	unplace(c, n);
	if (!place(c, n, parent, name, len))
		fan_cache_drop(c, n);
}

/* ---- questions ---- */

bool fan_node_denied(const struct fan_node *n)
{
	return n->denied;
}

bool fan_node_pinned(const struct fan_node *n)
{
	return n->pins > 0;
}

bool fan_node_loose(const struct fan_node *n)
{
	return n->loose;
}

void fan_node_placed(struct fan_node *n)
{
	n->loose = false;
}

bool fan_node_settled(const struct fan_node *n)
{
	while (n != NULL && !n->fresh)
		n = n->parent;
	return n == NULL;
}

struct fan_node *fan_node_parent(const struct fan_node *n)
{
	return n->parent;
}

uint32_t fan_node_view(const struct fan_node *n)
{
	return n->key->view;
}

size_t fan_cache_count(const struct fan_cache *c)
{
	return c->count;
}

bool fan_node_path(const struct fan_node *n, const struct fan_node *top, struct buf *out)
{
	size_t len = 0, at;
	const struct fan_node *m;

	for (m = n; m != top && m != NULL; m = m->parent)
		len += m->name_len + (len > 0);
	buf_clear(out);
	if (m == NULL || !buf_reserve(out, len))
		return false;
	out->len = len;
	for (at = len, m = n; m != top; m = m->parent) {
		if (at < len)
			out->data[--at] = '/';
		at -= m->name_len;
		memcpy(out->data + at, m->name, m->name_len);
	}
	return true;
}
