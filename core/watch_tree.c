/* watch_tree.c - see watch_tree.h. */
#include "core/watch_tree.h"

#include <stdlib.h>
#include <string.h>

#define TABLE_START 64

static bool table_init(struct wtable *h)
{
	h->slot = calloc(TABLE_START, sizeof(struct wnode *));
	h->mask = TABLE_START - 1;
	h->n = 0;
	return h->slot != NULL;
}

bool wtree_init(struct watch_tree *t, uint64_t seed)
{
	*t = (struct watch_tree){ .seed = seed };
	if (table_init(&t->names) && table_init(&t->wds))
		return true;
	wtree_done(t);
	return false;
}

void wtree_done(struct watch_tree *t)
{
	wtree_bury(t);
	free(t->names.slot);
	free(t->wds.slot);
	t->names.slot = NULL;
	t->wds.slot = NULL;
}

static uint64_t mix(uint64_t h)
{
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	return h ^ (h >> 32);
}

static size_t hash_name(const struct watch_tree *t, const struct wnode *parent, const char *name, size_t len)
{
	uint64_t h = mix(t->seed ^ (uint64_t)(uintptr_t)parent);

	while (len >= 8) {
		uint64_t word;

		memcpy(&word, name, 8);
		h = mix(h ^ word);
		name += 8;
		len -= 8;
	}
	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)name[i]) * 0x100000001b3u;
	return (size_t)mix(h);
}

static size_t hash_wd(int wd)
{
	return (size_t)mix((uint64_t)(unsigned)wd);
}

static size_t node_hash(const struct watch_tree *t, const struct wnode *n)
{
	return hash_name(t, n->parent, wnode_name(n), n->len);
}

/* A table that cannot grow stays slow, not wrong. */
static struct wnode **bigger(const struct wtable *h)
{
	return h->n <= h->mask ? NULL : calloc((h->mask + 1) * 2, sizeof(struct wnode *));
}

static void grow_names(struct watch_tree *t)
{
	struct wtable *h = &t->names;
	struct wnode **slot = bigger(h);
	size_t mask = h->mask * 2 + 1;

	if (slot == NULL)
		return;
	for (size_t i = 0; i <= h->mask; i++)
		for (struct wnode *n = h->slot[i], *next; n != NULL; n = next) {
			size_t k = node_hash(t, n) & mask;

			next = n->by_name;
			n->by_name = slot[k];
			slot[k] = n;
		}
	free(h->slot);
	h->slot = slot;
	h->mask = mask;
}

static void grow_wds(struct watch_tree *t)
{
	struct wtable *h = &t->wds;
	struct wnode **slot = bigger(h);
	size_t mask = h->mask * 2 + 1;

	if (slot == NULL)
		return;
	for (size_t i = 0; i <= h->mask; i++)
		for (struct wnode *n = h->slot[i], *next; n != NULL; n = next) {
			size_t k = hash_wd(n->wd) & mask;

			next = n->by_wd;
			n->by_wd = slot[k];
			slot[k] = n;
		}
	free(h->slot);
	h->slot = slot;
	h->mask = mask;
}

const char *wnode_name(const struct wnode *n)
{
	const char *apart;

	if ((n->flags & WNODE_LONG) == 0)
		return n->room;
	memcpy(&apart, n->room, sizeof(apart));
	return apart;
}

static void free_name(struct wnode *n)
{
	char *apart;

	if ((n->flags & WNODE_LONG) == 0)
		return;
	memcpy(&apart, n->room, sizeof(apart));
	free(apart);
	n->flags &= (uint16_t)~WNODE_LONG;
}

/* The name's bytes may be the node's own. */
static bool set_name(struct wnode *n, const char *name, size_t len)
{
	char *apart = NULL;

	if (len > n->cap) {
		apart = malloc(len);
		if (apart == NULL)
			return false;
		memcpy(apart, name, len);
		free_name(n);
		memcpy(n->room, &apart, sizeof(apart));
		n->flags |= WNODE_LONG;
	} else {
		char copy[UINT8_MAX];

		memcpy(copy, name, len);
		free_name(n);
		memcpy(n->room, copy, len);
	}
	n->len = (uint8_t)len;
	return true;
}

static struct wnode *node_new(size_t len)
{
	size_t cap = len < sizeof(char *) ? sizeof(char *) : len;
	struct wnode *n = malloc(sizeof(*n) + cap);

	if (n == NULL)
		return NULL;
	memset(n, 0, sizeof(*n));
	n->cap = (uint8_t)cap;
	n->wd = -1;
	return n;
}

static void link_node(struct watch_tree *t, struct wnode *n, struct wnode *parent)
{
	size_t k;

	n->parent = parent;
	n->prev = NULL;
	n->next = parent->kids;
	if (parent->kids != NULL)
		parent->kids->prev = n;
	parent->kids = n;
	k = node_hash(t, n) & t->names.mask;
	n->by_name = t->names.slot[k];
	t->names.slot[k] = n;
	t->names.n++;
	grow_names(t);
}

static void unlink_node(struct watch_tree *t, struct wnode *n)
{
	struct wnode **at = &t->names.slot[node_hash(t, n) & t->names.mask];

	while (*at != n)
		at = &(*at)->by_name;
	*at = n->by_name;
	t->names.n--;
	if (n->prev != NULL)
		n->prev->next = n->next;
	else
		n->parent->kids = n->next;
	if (n->next != NULL)
		n->next->prev = n->prev;
}

struct wnode *wtree_root(struct watch_tree *t, void *owner)
{
	struct wnode *n = node_new(0);

	(void)t;
	if (n != NULL)
		memcpy(n->room, &owner, sizeof(owner));
	return n;
}

struct wnode *wtree_add(struct watch_tree *t, struct wnode *parent, const char *name, size_t len)
{
	struct wnode *n = node_new(len);

	if (n == NULL)
		return NULL;
	memcpy(n->room, name, len);
	n->len = (uint8_t)len;
	link_node(t, n, parent);
	return n;
}

struct wnode *wtree_find(const struct watch_tree *t, const struct wnode *parent, const char *name, size_t len)
{
	struct wnode *n = t->names.slot[hash_name(t, parent, name, len) & t->names.mask];

	while (n != NULL && (n->parent != parent || n->len != len || memcmp(wnode_name(n), name, len) != 0))
		n = n->by_name;
	return n;
}

void wtree_set_wd(struct watch_tree *t, struct wnode *n, int wd)
{
	struct wnode **at;

	if (n->wd >= 0) {
		at = &t->wds.slot[hash_wd(n->wd) & t->wds.mask];
		while (*at != n)
			at = &(*at)->by_wd;
		*at = n->by_wd;
		t->wds.n--;
	}
	n->wd = wd;
	if (wd < 0)
		return;
	at = &t->wds.slot[hash_wd(wd) & t->wds.mask];
	n->by_wd = *at;
	*at = n;
	t->wds.n++;
	grow_wds(t);
}

static struct wnode *same_wd(struct wnode *n, int wd)
{
	while (n != NULL && n->wd != wd)
		n = n->by_wd;
	return n;
}

struct wnode *wtree_first(const struct watch_tree *t, int wd)
{
	return wd < 0 ? NULL : same_wd(t->wds.slot[hash_wd(wd) & t->wds.mask], wd);
}

struct wnode *wtree_more(const struct wnode *n)
{
	return same_wd(n->by_wd, n->wd);
}

bool wtree_move(struct watch_tree *t, struct wnode *n, struct wnode *parent, const char *name, size_t len)
{
	struct wnode *old = n->parent;
	bool ok;

	unlink_node(t, n);
	ok = set_name(n, name, len);
	link_node(t, n, ok ? parent : old);
	return ok;
}

bool wtree_swap(struct watch_tree *t, struct wnode *a, struct wnode *b)
{
	struct wnode *pa = a->parent, *pb = b->parent;
	char name[UINT8_MAX], other[UINT8_MAX];
	size_t len = a->len, other_len = b->len;
	bool ok;

	memcpy(name, wnode_name(a), len);
	memcpy(other, wnode_name(b), other_len);
	unlink_node(t, a);
	unlink_node(t, b);
	ok = set_name(a, other, other_len);
	if (ok && !set_name(b, name, len)) {
		ok = false;
		(void)set_name(a, name, len); /* it had room for this one before */
	}
	link_node(t, a, ok ? pb : pa);
	link_node(t, b, ok ? pa : pb);
	return ok;
}

static void remove_one(struct watch_tree *t, struct wnode *n, void (*drop)(void *ctx, struct wnode *n), void *ctx)
{
	drop(ctx, n);
	if (n->parent != NULL)
		unlink_node(t, n);
	n->parent = NULL;
	n->flags |= WNODE_DEAD;
	n->next = t->dead;
	t->dead = n;
}

void wtree_remove(struct watch_tree *t, struct wnode *top, void (*drop)(void *ctx, struct wnode *n), void *ctx)
{
	struct wnode *n = top;

	for (;;) {
		struct wnode *parent;

		while (n->kids != NULL)
			n = n->kids;
		parent = n->parent;
		remove_one(t, n, drop, ctx);
		if (n == top)
			return;
		n = parent;
	}
}

void wtree_bury(struct watch_tree *t)
{
	struct wnode **at = &t->dead;

	while (*at != NULL) {
		struct wnode *n = *at;

		if (n->flags & WNODE_LISTED) {
			at = &n->next;
			continue;
		}
		*at = n->next;
		free_name(n);
		free(n);
	}
}

void *wnode_owner(const struct wnode *n)
{
	void *owner;

	while (n->parent != NULL)
		n = n->parent;
	memcpy(&owner, n->room, sizeof(owner));
	return owner;
}

bool wnode_within(const struct wnode *n, const struct wnode *top)
{
	while (n != NULL && n != top)
		n = n->parent;
	return n != NULL;
}

bool wnode_path(const struct wnode *n, struct buf *out)
{
	size_t total = 0;
	char *end;

	for (const struct wnode *k = n; k->parent != NULL; k = k->parent)
		total += (size_t)k->len + 1;
	if (total == 0)
		return true;
	total--;
	if (!buf_reserve(out, total))
		return false;
	out->len += total;
	end = out->data + out->len;
	for (;;) {
		end -= n->len;
		memcpy(end, wnode_name(n), n->len);
		n = n->parent;
		if (n->parent == NULL)
			return true;
		*--end = '/';
	}
}

struct wnode *wnode_next(const struct wnode *n, const struct wnode *top)
{
	if (n->kids != NULL)
		return n->kids;
	while (n != top && n->next == NULL)
		n = n->parent;
	return n == top ? NULL : n->next;
}

bool wvec_push(struct wvec *v, struct wnode *n)
{
	if (v->n == v->cap) {
		size_t cap = v->cap * 2 + 64;
		struct wnode **grown = realloc(v->v, cap * sizeof(struct wnode *));

		if (grown == NULL)
			return false;
		v->v = grown;
		v->cap = cap;
	}
	v->v[v->n++] = n;
	return true;
}

void wvec_done(struct wvec *v)
{
	free(v->v);
	*v = (struct wvec){ 0 };
}
