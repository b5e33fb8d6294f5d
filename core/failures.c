#include "core/failures.h"

#include <stdlib.h>
#include <string.h>

#include "core/path.h"

static struct failure *find(struct failures *f, const char *path, size_t len)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->v[i].len == len && memcmp(f->v[i].path, path, len) == 0)
			return &f->v[i];
	return NULL;
}

static void release(struct failure *one)
{
	free(one->path);
	free(one->why);
}

static struct failure *append(struct failures *f, const char *path, size_t len)
{
	struct failure *one;

	if (f->n == FAILURES_MAX)
		return NULL;
	if (f->n == f->cap) {
		size_t cap = f->cap == 0 ? 16 : f->cap * 2;
		struct failure *v = realloc(f->v, cap * sizeof(*v));

		if (v == NULL)
			return NULL;
		f->v = v;
		f->cap = cap;
	}
	one = &f->v[f->n];
	*one = (struct failure){ .path = malloc(len + 1), .len = len };
	if (one->path == NULL)
		return NULL;
	if (len > 0)
		memcpy(one->path, path, len);
	one->path[len] = '\0';
	f->n++;
	return one;
}

static void forget_unnamed(struct failures *f)
{
	if (f->unnamed > f->unnamed_given_up)
		f->unnamed--;
}

uint32_t failures_note(struct failures *f, const char *path, size_t len, const char *why, bool given_up, bool again,
		       int64_t real_ns)
{
	struct failure *one = find(f, path, len);
	bool named = one != NULL;
	char *text;

	if (!named && again)
		forget_unnamed(f);
	if (!named)
		one = append(f, path, len);
	if (one == NULL) {
		f->unnamed++;
		f->unnamed_given_up += given_up;
		return 0;
	}
	text = strdup(why);
	if (one->tries == 0)
		one->since_ns = real_ns;
	if (text != NULL) {
		free(one->why);
		one->why = text;
	}
	one->last_ns = real_ns;
	one->given_up = given_up;
	return ++one->tries;
}

static void remove_at(struct failures *f, size_t i)
{
	release(&f->v[i]);
	f->v[i] = f->v[--f->n];
}

void failures_clear(struct failures *f, const char *path, size_t len, bool failed)
{
	struct failure *one = f->n == 0 ? NULL : find(f, path, len);

	if (one == NULL && failed)
		forget_unnamed(f);
	else if (one != NULL && (len > 0 || !one->given_up))
		remove_at(f, (size_t)(one - f->v));
}

void failures_quiet(struct failures *f)
{
	f->unnamed = f->unnamed_given_up;
}

void failures_clear_below(struct failures *f, const char *path, size_t len, int64_t began_ns)
{
	for (size_t i = f->n; i-- > 0;)
		if (f->v[i].last_ns < began_ns && path_within(f->v[i].path, f->v[i].len, path, len))
			remove_at(f, i);
	if (len == 0)
		f->unnamed = f->unnamed_given_up = 0;
}

size_t failures_given_up(const struct failures *f)
{
	size_t n = 0;

	for (size_t i = 0; i < f->n; i++)
		n += f->v[i].given_up ? 1 : 0;
	return n;
}

void failures_done(struct failures *f)
{
	for (size_t i = 0; i < f->n; i++)
		release(&f->v[i]);
	free(f->v);
	*f = (struct failures){ 0 };
}
