#include "transports/mirror_hot.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/clock.h"

#define SLOTS 16384u

struct version {
	uint64_t path; /* its hash; 0: empty */
	int64_t mtime_ns, size, opened_ns;
};

struct mirror_hot {
	struct version slots[SLOTS];
};

struct mirror_hot *mirror_hot_new(void)
{
	return calloc(1, sizeof(struct mirror_hot));
}

void mirror_hot_free(struct mirror_hot *h)
{
	free(h);
}

static uint64_t hash_of(const char *path, size_t len)
{
	uint64_t h = XXH3_64bits(path, len);

	return h == 0 ? 1 : h;
}

void mirror_hot_note(struct mirror_hot *h, const char *path, size_t len, const struct stat *src, int64_t opened_ns)
{
	uint64_t hash = hash_of(path, len);

	h->slots[hash % SLOTS] = (struct version){
		.path = hash, .mtime_ns = mirror_mtime_ns(src), .size = src->st_size, .opened_ns = opened_ns
	};
}

enum mirror_same mirror_hot_judge(const struct mirror_hot *h, const char *path, size_t len, const struct mirror_look *l)
{
	uint64_t hash = hash_of(path, len);
	const struct version *v = &h->slots[hash % SLOTS];
	int64_t m = mirror_mtime_ns(l->src), stamp = l->src->st_mtim.tv_nsec == 0 ? MIRROR_COARSE_NS : MIRROR_STAMP_NS;

	if (v->path != hash)
		return l->harder || m > l->now_ns - MIRROR_RECENT_NS ? MIRROR_DOUBT : MIRROR_SAME;
	if (v->size != l->src->st_size || v->mtime_ns != m)
		return MIRROR_DIFFERS;
	/* It was opened when nothing more could be written under this stamp. */
	if (v->opened_ns > m + stamp)
		return MIRROR_SAME;
	return l->named || l->harder || m > l->now_ns - MIRROR_RECENT_NS ? MIRROR_DIFFERS : MIRROR_SAME;
}
