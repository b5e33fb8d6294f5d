/*
 * rsyncssh_names.c - lists of changes, names that are looked at, and what the target's state of a path is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/path.h"
#include "transports/rsyncssh_twoway_private.h"

#define SPAN_NAMES 400u
#define SPAN_BYTES (64u * 1024)

static bool grow(void **v, size_t n, size_t *cap, size_t size)
{
	size_t want = *cap == 0 ? 32 : *cap * 2;
	void *more;

	if (n < *cap)
		return true;
	more = realloc(*v, want * size);
	if (more == NULL)
		return false;
	*v = more;
	*cap = want;
	return true;
}

bool twoway_push(struct changes *list, struct change *c)
{
	void *v = list->v;
	bool ok = grow(&v, list->n, &list->cap, sizeof(struct change *));

	list->v = v;
	if (ok)
		list->v[list->n++] = c;
	return ok;
}

struct change *twoway_add(struct twoway *t, const char *path, size_t len, const char *head)
{
	size_t head_len = head == NULL ? 0 : strlen(head);
	struct change *c = calloc(1, sizeof(*c) + len + 1 + head_len + 1);

	if (c == NULL)
		return NULL;
	memcpy(c->path, path, len);
	if (head_len > 0)
		memcpy(c->path + len + 1, head, head_len + 1);
	c->head = c->path + len + 1;
	c->len = len;
	c->item = NO_ITEM;
	if (twoway_push(&t->changes, c))
		return c;
	free(c);
	return NULL;
}

static int compare_changes(const void *a, const void *b)
{
	const struct change *x = *(struct change *const *)a, *y = *(struct change *const *)b;
	int order = path_compare(x->path, x->len, y->path, y->len);

	return order != 0 ? order : (x->item == NO_ITEM) - (y->item == NO_ITEM);
}

void twoway_sort(struct changes *list)
{
	size_t kept = 0;

	if (list->n > 0)
		qsort(list->v, list->n, sizeof(struct change *), compare_changes);
	for (size_t i = 0; i < list->n; i++) {
		struct change *c = list->v[i], *last = kept == 0 ? NULL : list->v[kept - 1];

		if (last == NULL || path_compare(last->path, last->len, c->path, c->len) != 0)
			list->v[kept++] = c;
	}
	list->n = kept;
}

/* ---- names in calls ---- */

bool twoway_want(struct twoway *t, const char *path, size_t len)
{
	void *v = t->names.v;
	bool ok = grow(&v, t->names.n, &t->names.cap, sizeof(struct name));

	t->names.v = v;
	if (ok)
		t->names.v[t->names.n++] = (struct name){ path, len, false };
	return ok;
}

bool twoway_want_parents(struct twoway *t, const char *path, size_t len)
{
	bool ok = twoway_want(t, path, len);

	for (len = path_parent_len(path, len); ok && len > 0; len = path_parent_len(path, len))
		ok = twoway_want(t, path, len);
	return ok;
}

static int compare_names(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	return path_compare(x->path, x->len, y->path, y->len);
}

static bool add_span(struct twoway *t, size_t from, size_t to)
{
	void *v = t->spans.v;
	bool ok = grow(&v, t->spans.n, &t->spans.cap, sizeof(struct span));

	t->spans.v = v;
	if (ok)
		t->spans.v[t->spans.n++] = (struct span){ from, to };
	return ok;
}

bool twoway_spans(struct twoway *t)
{
	struct names *names = &t->names;
	size_t kept = 0, from = 0, bytes = 0;
	bool ok = true;

	t->spans.n = 0;
	if (names->n > 0)
		qsort(names->v, names->n, sizeof(struct name), compare_names);
	for (size_t i = 0; i < names->n; i++)
		if (kept == 0 || compare_names(&names->v[i], &names->v[kept - 1]) != 0)
			names->v[kept++] = names->v[i];
	names->n = kept;
	for (size_t i = 0; ok && i < names->n; i++) {
		bytes += names->v[i].len + 4;
		if (i + 1 < names->n && i + 1 - from < SPAN_NAMES && bytes < SPAN_BYTES)
			continue;
		ok = add_span(t, from, i + 1);
		from = i + 1;
		bytes = 0;
	}
	t->next_span = 0;
	return ok;
}

bool twoway_issue_names(struct twoway *t, const char *verb)
{
	struct buf command;
	struct span *s;

	if (t->next_span == t->spans.n)
		return false;
	s = &t->spans.v[t->next_span++];
	buf_init(&command, TWOWAY_COMMAND_MAX + PATH_BYTES_MAX * 4);
	(void)buf_add_str(&command, verb);
	for (size_t i = s->from; i < s->to; i++)
		(void)remote_name(&command, t->names.v[i].path, t->names.v[i].len);
	return twoway_call(t, &command);
}

/* Of several names one made trouble: each alone. */
void twoway_answer_names(struct twoway *t, size_t n, const struct buf *data, struct remote_entries *to)
{
	struct span s = t->spans.v[n];
	char trouble[sizeof(t->trouble)];
	struct err err = ERR_INIT;

	if (data->failed) {
		err_set(&err, ERR_LIMIT, "a list of the target's files is too long");
		twoway_down(t, &err);
		return;
	}
	if (remote_entries_read(to, &t->what, data->data, data->len, trouble, sizeof(trouble), &err) < 0) {
		twoway_down(t, &err);
		return;
	}
	if (trouble[0] == '\0')
		return;
	if (s.to - s.from == 1) {
		t->names.v[s.from].unknown = true;
		(void)snprintf(t->trouble, sizeof(t->trouble), "%s", trouble);
		return;
	}
	for (size_t i = s.from; i < s.to; i++)
		if (!add_span(t, i, i + 1))
			twoway_no_memory(t);
	t->exhausted = false;
}

static bool is_unknown(const struct twoway *t, const char *path, size_t len)
{
	const struct name key = { path, len, false }, *found;

	found = t->names.n == 0 ? NULL : bsearch(&key, t->names.v, t->names.n, sizeof(struct name), compare_names);
	return found != NULL && found->unknown;
}

int twoway_target(const struct twoway *t, const char *path, size_t len, struct twoway_state *out, const char **head,
		  uint64_t *dev)
{
	const struct remote_entry *x = NULL;

	*out = (struct twoway_state){ .look = LOOK_ABSENT };
	*head = "";
	*dev = t->top_dev;
	for (size_t n = 1; n <= len; n++) {
		if (n < len && path[n] != '/')
			continue;
		if (is_unknown(t, path, n))
			return -1;
		x = remote_entries_find(&t->seen, path, n);
		if (x == NULL || (n < len && x->state.look != LOOK_DIR))
			return 0;
		if (n < len)
			*dev = x->dev;
	}
	if (x == NULL)
		return 0;
	*out = x->state;
	*head = x->head;
	return 0;
}

bool twoway_reachable(const struct twoway *t, const char *path, size_t len)
{
	size_t up = path_parent_len(path, len);
	const struct remote_entry *x = up == 0 ? NULL : remote_entries_find(&t->seen, path, up);

	return up == 0 ? t->set_up : x != NULL && x->state.look == LOOK_DIR;
}

struct change *twoway_find(const struct changes *list, size_t n, const char *path, size_t len)
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		struct change *c = list->v[mid];
		int order = path_compare(c->path, c->len, path, len);

		if (order == 0)
			return c;
		if (order < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

void twoway_clear_looks(struct twoway *t)
{
	remote_entries_done(&t->seen);
	t->names.n = 0;
	t->spans.n = 0;
	t->trouble[0] = '\0';
}

bool twoway_self_issue(struct twoway *t)
{
	return twoway_issue_names(t, REMOTE_SELF);
}

void twoway_self_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data)
{
	(void)status;
	(void)said;
	(void)len;
	twoway_answer_names(t, n, data, &t->seen);
}

int twoway_source(struct twoway *t, const char *path, size_t len, struct twoway_state *out, struct stat *st)
{
	struct err err = ERR_INIT;
	enum look look;

	if (looker_look(&t->looker, path, len, &look, st, &err) < 0)
		return -1;
	return twoway_state_of(&t->what, &t->owners, &t->looker, path, len, look, st, out, &err);
}
