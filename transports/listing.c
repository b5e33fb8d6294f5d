#include "transports/listing.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES 4096u
#define ALIGNMENT _Alignof(struct twoway_state)

struct listing_block {
	struct listing_block *next;
	size_t used, cap;
	_Alignas(struct twoway_state) char bytes[];
};

void listing_init(struct listing *l)
{
	*l = (struct listing){ 0 };
}

static void *take_room(struct listing *l, size_t n)
{
	struct listing_block *b = l->blocks;
	void *at;

	if (b == NULL || b->cap - b->used < n) {
		/* Most directories are small: the first block is, too. */
		size_t cap = b == NULL ? BLOCK_BYTES / 8 : BLOCK_BYTES;

		cap = cap < n ? n : cap;
		b = malloc(sizeof(*b) + cap);
		if (b == NULL)
			return NULL;
		*b = (struct listing_block){ .next = l->blocks, .cap = cap };
		l->blocks = b;
	}
	at = b->bytes + b->used;
	b->used += n;
	return at;
}

static char *copy_name(struct listing *l, const char *name, size_t len)
{
	char *at = take_room(l, len + 1);

	if (at == NULL)
		return NULL;
	memcpy(at, name, len);
	at[len] = '\0';
	return at;
}

bool listing_agree(struct listing *l, struct fileops_entry *e, const struct twoway_state *agreed)
{
	struct twoway_state *copy;

	if (l->blocks != NULL) /* names are of any length */
		l->blocks->used += (ALIGNMENT - l->blocks->used % ALIGNMENT) % ALIGNMENT;
	if (l->blocks != NULL && l->blocks->used > l->blocks->cap)
		l->blocks->used = l->blocks->cap;
	copy = take_room(l, sizeof(*copy));
	if (copy == NULL)
		return false;
	*copy = *agreed;
	e->agreed = copy;
	return true;
}

struct fileops_entry *listing_add(struct listing *l, const char *name, size_t len)
{
	struct fileops_entry *e;
	char *copy;

	if (l->n == l->cap) {
		size_t cap = l->cap == 0 ? 8 : l->cap * 2;
		struct fileops_entry *v = realloc(l->v, cap * sizeof(*v));

		if (v == NULL)
			return NULL;
		l->v = v;
		l->cap = cap;
	}
	copy = copy_name(l, name, len);
	if (copy == NULL)
		return NULL;
	e = &l->v[l->n++];
	memset(e, 0, sizeof(*e));
	e->name = copy;
	e->len = len;
	return e;
}

void listing_drop_last(struct listing *l)
{
	l->n--;
}

int listing_compare(const char *a, size_t alen, const char *b, size_t blen)
{
	int order = memcmp(a, b, alen < blen ? alen : blen);

	return order != 0 ? order : (alen > blen) - (alen < blen);
}

static int compare_entries(const void *a, const void *b)
{
	const struct fileops_entry *x = a, *y = b;

	return listing_compare(x->name, x->len, y->name, y->len);
}

void listing_sort(struct listing *l)
{
	size_t kept = 0;

	if (l->n > 1)
		qsort(l->v, l->n, sizeof(*l->v), compare_entries);
	for (size_t i = 0; i < l->n; i++) {
		if (kept > 0 && compare_entries(&l->v[kept - 1], &l->v[i]) == 0)
			continue;
		if (kept != i)
			l->v[kept] = l->v[i];
		kept++;
	}
	l->n = kept;
}

void listing_free(struct listing *l)
{
	while (l->blocks != NULL) {
		struct listing_block *next = l->blocks->next;

		free(l->blocks);
		l->blocks = next;
	}
	free(l->v);
	*l = (struct listing){ 0 };
}

bool listing_keep_all(void *ctx, const char *name, size_t len, bool is_dir)
{
	(void)ctx;
	(void)name;
	(void)len;
	(void)is_dir;
	return true;
}
