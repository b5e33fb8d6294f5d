#include "core/links.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS LINKS_PARTS

struct linked_file {
	struct linked_file *next; /* in the bucket */
	uint64_t dev, ino, outside;
	uint64_t outside_at; /* the moves until then */
	uint64_t search;     /* that met it last */
	uint64_t batch;	     /* in which its names were asked for last */
	struct link_name *names;
};

struct links {
	struct linked_file *buckets[BUCKETS];
	size_t n_names, max_names;
	uint64_t search, moves, moves_before; /* the latter: when the search began */
	uint64_t batch;
};

struct links *links_new(size_t max_names)
{
	struct links *l = calloc(1, sizeof(*l));

	if (l != NULL) {
		l->max_names = max_names;
		l->batch = 1;
	}
	return l;
}

static void free_names(struct link_name *n)
{
	while (n != NULL) {
		struct link_name *next = n->next;

		free(n);
		n = next;
	}
}

void links_free(struct links *l)
{
	for (size_t i = 0; l != NULL && i < BUCKETS; i++) {
		struct linked_file *f = l->buckets[i];

		while (f != NULL) {
			struct linked_file *next = f->next;

			free_names(f->names);
			free(f);
			f = next;
		}
	}
	free(l);
}

static size_t bucket_of(uint64_t dev, uint64_t ino)
{
	return (size_t)((ino * 0x9e3779b97f4a7c15u + dev) >> 40) % BUCKETS;
}

static struct linked_file *find(const struct links *l, uint64_t dev, uint64_t ino)
{
	struct linked_file *f = l->buckets[bucket_of(dev, ino)];

	while (f != NULL && (f->dev != dev || f->ino != ino))
		f = f->next;
	return f;
}

static struct linked_file *find_or_make(struct links *l, uint64_t dev, uint64_t ino)
{
	struct linked_file *f = find(l, dev, ino);
	size_t at = bucket_of(dev, ino);

	if (f != NULL)
		return f;
	f = calloc(1, sizeof(*f));
	if (f == NULL)
		return NULL;
	f->dev = dev;
	f->ino = ino;
	f->next = l->buckets[at];
	l->buckets[at] = f;
	return f;
}

bool links_note(struct links *l, uint64_t dev, uint64_t ino, const char *path, size_t len)
{
	struct linked_file *f = links_full(l) ? find(l, dev, ino) : find_or_make(l, dev, ino);
	struct link_name *n;

	if (f == NULL)
		return false;
	f->search = l->search;
	for (n = f->names; n != NULL; n = n->next)
		if (n->len == len && memcmp(n->path, path, len) == 0) {
			n->dead = false;
			return true;
		}
	n = links_full(l) ? NULL : malloc(sizeof(*n) + len + 1);
	if (n == NULL)
		return false;
	n->dead = false;
	n->len = len;
	memcpy(n->path, path, len);
	n->path[len] = '\0';
	n->next = f->names;
	f->names = n;
	l->n_names++;
	return true;
}

struct link_name *links_names(struct links *l, uint64_t dev, uint64_t ino)
{
	struct linked_file *f = find(l, dev, ino);

	return f == NULL ? NULL : f->names;
}

bool links_first(struct links *l, uint64_t dev, uint64_t ino)
{
	struct linked_file *f = find(l, dev, ino);

	if (f == NULL || f->batch == l->batch)
		return f == NULL;
	f->batch = l->batch;
	return true;
}

uint64_t links_outside(const struct links *l, uint64_t dev, uint64_t ino)
{
	const struct linked_file *f = find(l, dev, ino);

	return f == NULL || f->outside_at != l->moves ? 0 : f->outside;
}

void links_set_outside(struct links *l, uint64_t dev, uint64_t ino, uint64_t n)
{
	struct linked_file *f = find(l, dev, ino);

	if (f == NULL || l->moves_before != l->moves)
		return;
	f->outside = n;
	f->outside_at = l->moves;
}

void links_moved(struct links *l)
{
	l->moves++;
}

void links_begin(struct links *l)
{
	l->search++;
	l->moves_before = l->moves;
}

void links_each(struct links *l, size_t part, void (*fn)(void *ctx, uint64_t dev, uint64_t ino), void *ctx)
{
	for (const struct linked_file *f = l->buckets[part]; f != NULL; f = f->next)
		if (f->search == l->search)
			fn(ctx, f->dev, f->ino);
}

static bool sweep_file(struct links *l, struct linked_file *f)
{
	struct link_name **at = &f->names;

	while (*at != NULL) {
		struct link_name *n = *at;

		if (!n->dead) {
			at = &n->next;
			continue;
		}
		*at = n->next;
		free(n);
		l->n_names--;
	}
	return f->names == NULL;
}

void links_sweep(struct links *l)
{
	l->batch++;
	for (size_t i = 0; i < BUCKETS; i++) {
		struct linked_file **at = &l->buckets[i];

		while (*at != NULL) {
			struct linked_file *f = *at;

			if (!sweep_file(l, f)) {
				at = &f->next;
				continue;
			}
			*at = f->next;
			free(f);
		}
	}
}

bool links_full(const struct links *l)
{
	return l->n_names >= l->max_names;
}
