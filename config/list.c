/* list.c - lists of strings. */
#include <stdlib.h>
#include <string.h>

#include "config/private.h"

int strlist_add(struct strlist *l, const char *s)
{
	char *copy = strdup(s);
	char **v;

	if (copy == NULL)
		return -1;
	/* Grown by doubling: n is a power of two exactly when the room is used up. */
	if (l->v == NULL || ((l->n + 1) & l->n) == 0) {
		v = realloc(l->v, (2 * (l->n + 1)) * sizeof(*v));
		if (v == NULL) {
			free(copy);
			return -1;
		}
		l->v = v;
	}
	l->v[l->n++] = copy;
	l->v[l->n] = NULL;
	return 0;
}

void strlist_done(struct strlist *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
	*l = (struct strlist){ 0 };
}
