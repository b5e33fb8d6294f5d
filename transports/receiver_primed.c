#include "transports/receiver_primed.h"

#include <stdlib.h>
#include <string.h>

#include "core/path.h"

#define BUCKETS 4096u
#define TEXTS_MAX (1024u * 1024)

struct kept {
	struct kept *next;
	uint64_t hash;
	char *path;
	size_t len;
	bool is_text;
	struct primed what;
};

struct receiver_primed {
	struct kept *buckets[BUCKETS]; /* the latest first */
	size_t n;
	uint64_t contents, texts; /* bytes of them */
	uint64_t contents_max;
};

struct receiver_primed *receiver_primed_new(uint64_t contents_max)
{
	struct receiver_primed *s = calloc(1, sizeof(*s));

	if (s != NULL)
		s->contents_max = contents_max;
	return s;
}

static void free_kept(struct kept *k)
{
	free(k->path);
	free(k->what.content);
	free(k);
}

void receiver_primed_free(struct receiver_primed *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		while (s->buckets[i] != NULL) {
			struct kept *k = s->buckets[i];

			s->buckets[i] = k->next;
			free_kept(k);
		}
	free(s);
}

static struct kept *new_kept(const struct tcp_bytes *path, const struct tcp_bytes *bytes)
{
	struct kept *k = calloc(1, sizeof(*k));

	if (k == NULL)
		return NULL;
	k->path = malloc(path->len + 1);
	k->what.content = malloc(bytes->len + 1);
	if (k->path == NULL || k->what.content == NULL) {
		free_kept(k);
		return NULL;
	}
	memcpy(k->path, path->p, path->len);
	k->len = path->len;
	memcpy(k->what.content, bytes->p, bytes->len);
	k->what.content[bytes->len] = '\0';
	k->what.content_len = bytes->len;
	return k;
}

bool receiver_primed_add(struct receiver_primed *s, const struct tcp_item *item)
{
	const struct tcp_bytes *bytes = item->has_content ? &item->content : &item->text;
	uint64_t *kept = item->has_content ? &s->contents : &s->texts;
	bool room = *kept + bytes->len <= (item->has_content ? s->contents_max : TEXTS_MAX);
	struct kept *k = room ? new_kept(&item->path, bytes) : NULL;

	if (k == NULL)
		return false;
	k->is_text = !item->has_content;
	k->what.state = item->state;
	memcpy(k->what.digest, item->digest, sizeof(k->what.digest));
	*kept += bytes->len;
	k->hash = path_hash(k->path, k->len);
	k->next = s->buckets[k->hash % BUCKETS];
	s->buckets[k->hash % BUCKETS] = k;
	s->n++;
	return true;
}

static struct kept **find(struct receiver_primed *s, const char *path, size_t len, bool text)
{
	uint64_t hash = path_hash(path, len);
	struct kept **found = NULL;

	for (struct kept **at = &s->buckets[hash % BUCKETS]; *at != NULL; at = &(*at)->next) {
		const struct kept *k = *at;

		if (k->is_text == text && k->hash == hash && k->len == len && memcmp(k->path, path, len) == 0)
			found = at;
	}
	return found;
}

bool receiver_primed_take(struct receiver_primed *s, const char *path, size_t len, bool text, struct primed *out)
{
	struct kept **at = s->n == 0 ? NULL : find(s, path, len, text), *k;

	if (at == NULL)
		return false;
	k = *at;
	*at = k->next;
	s->n--;
	*(text ? &s->texts : &s->contents) -= k->what.content_len;
	*out = k->what;
	k->what.content = NULL;
	free_kept(k);
	return true;
}
