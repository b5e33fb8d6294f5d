#include "transports/tcp_above.h"

#include <stdlib.h>

#include "core/path.h"

static size_t depth_of(const struct transport_item *item)
{
	size_t n = 1; /* the root */

	for (size_t i = 0; i < item->len; i++)
		n += item->path[i] == '/' ? 1 : 0;
	return n;
}

bool tcp_above_init(struct tcp_above *a, const struct transport_item *items, size_t first)
{
	const struct transport_item *item = &items[first];
	size_t most = depth_of(item);

	*a = (struct tcp_above){ .items = items, .at = malloc(most * sizeof(*a->at)) };
	if (a->at == NULL)
		return false;
	for (size_t i = first; i-- > 0 && a->n < most && item->len > 0;)
		if (items[i].look == LOOK_DIR && path_below(item->path, item->len, items[i].path, items[i].len)) {
			a->at[a->n++] = (uint32_t)i;
			item = &items[i];
		}
	return true;
}

static const struct transport_item *next_of(const struct tcp_above *a)
{
	return &a->items[a->at[a->next]];
}

long tcp_above_take(struct tcp_above *a, const struct transport_item *item)
{
	/* A directory that the walk has left does not come again. */
	while (a->next < a->n && !path_below(item->path, item->len, next_of(a)->path, next_of(a)->len)) {
		a->next++;
		a->taken = false;
	}
	if (a->next == a->n || a->taken || path_parent_len(item->path, item->len) != next_of(a)->len)
		return -1;
	a->taken = true;
	a->at[a->n_taken++] = a->at[a->next];
	return (long)next_of(a)->len;
}

void tcp_above_done(struct tcp_above *a)
{
	free(a->at);
	*a = (struct tcp_above){ .n = 0 };
}
