#include "core/keep.h"

#include <stdlib.h>

#include "core/path.h"

bool keep_add(struct keep_list *l, const char *path, size_t len, const char *why)
{
	if (l->n == l->cap) {
		size_t cap = l->cap * 2 + 8;
		struct keep *v = realloc(l->v, cap * sizeof(*v));

		if (v == NULL)
			return false;
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n++] = (struct keep){ path, len, why };
	return true;
}

void keep_done(struct keep_list *l)
{
	free(l->v);
	*l = (struct keep_list){ 0 };
}

const struct keep *keep_touches(const struct keep_list *l, const char *path, size_t len)
{
	for (size_t i = 0; l != NULL && i < l->n; i++)
		if (path_within(path, len, l->v[i].path, l->v[i].len) ||
		    path_within(l->v[i].path, l->v[i].len, path, len))
			return &l->v[i];
	return NULL;
}

bool keep_covers(const struct keep_list *l, const char *path, size_t len)
{
	for (size_t i = 0; l != NULL && i < l->n; i++)
		if (path_within(path, len, l->v[i].path, l->v[i].len))
			return true;
	return false;
}

bool keep_holds(const struct keep_list *l, const char *path, size_t len)
{
	for (size_t i = 0; l != NULL && i < l->n; i++)
		if (path_below(l->v[i].path, l->v[i].len, path, len) ||
		    (l->v[i].why != NULL && path_within(l->v[i].path, l->v[i].len, path, len)))
			return true;
	return false;
}
