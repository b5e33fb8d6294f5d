#include "core/siblings.h"

#include <fts.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/path.h"

/* Walking a large tree for every write to a file with many names would be worse than a name that waits a little: so
 * many times as long as the last walk took, which is soon for a small tree. */
#define WALK_PAUSES 20
#define WALK_PAUSE_MAX_NS (10 * NS_PER_S)

static void note_entry(struct siblings *s, const FTSENT *e, size_t root_len)
{
	const char *path = e->fts_path + root_len;

	while (*path == '/')
		path++;
	if (e->fts_info == FTS_F && e->fts_statp->st_nlink > 1 && path_valid(path, strlen(path)))
		(void)links_note(s->links, e->fts_statp->st_dev, e->fts_statp->st_ino, path, strlen(path));
}

static void judge(void *ctx, uint64_t dev, uint64_t ino)
{
	siblings_judge(ctx, dev, ino);
}

/* What lies outside is found out of all files at once. A search in the background that is under way has been made by
 * it. */
static void walk(struct siblings *s, int64_t now_ns)
{
	int64_t began = clock_mono_ns(), pause;
	char *root = strdup(s->source), *roots[] = { root, NULL };
	FTS *fts = root == NULL ? NULL : fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	const FTSENT *e;

	links_begin(s->links);
	while (fts != NULL && (e = fts_read(fts)) != NULL)
		note_entry(s, e, strlen(root));
	for (size_t part = 0; part < LINKS_PARTS; part++)
		links_each(s->links, part, judge, s);
	if (fts != NULL)
		(void)fts_close(fts);
	free(root);
	pause = (clock_mono_ns() - began) * WALK_PAUSES;
	s->walk_next_ns = now_ns + (pause < WALK_PAUSE_MAX_NS ? pause : WALK_PAUSE_MAX_NS);
	log_info("the source was searched for the names of hard links");
}

/* The names that still are names of this file; *nlink: how many it has, 0 when none is. */
static uint64_t count_alive(struct siblings *s, uint64_t dev, uint64_t ino, uint64_t *nlink)
{
	uint64_t n = 0;

	*nlink = 0;
	for (struct link_name *name = links_names(s->links, dev, ino); name != NULL; name = name->next) {
		enum look look;
		struct stat st;

		if (name->dead || looker_look(s->looker, name->path, name->len, &look, &st, NULL) < 0)
			continue;
		name->dead = look != LOOK_FILE || st.st_dev != dev || st.st_ino != ino;
		if (name->dead)
			continue;
		*nlink = st.st_nlink;
		n++;
	}
	return n;
}

static void tell_outside(struct siblings *s, uint64_t dev, uint64_t ino)
{
	for (const struct link_name *n = links_names(s->links, dev, ino); n != NULL && s->outside != NULL; n = n->next)
		if (!n->dead)
			s->outside(s->ctx, n->path, n->len, dev, ino);
}

void siblings_judge(struct siblings *s, uint64_t dev, uint64_t ino)
{
	uint64_t nlink, alive = count_alive(s, dev, ino, &nlink);

	links_set_outside(s->links, dev, ino, nlink > alive ? nlink - alive : 0);
	if (nlink > alive)
		tell_outside(s, dev, ino);
}

/* ---- what was handed out ---- */

static size_t bit_of(const char *path, size_t len)
{
	return (size_t)(path_hash(path, len) % SIBLINGS_MADE_BITS);
}

/* It is made at the target with all directories above. */
static void note_made(struct siblings *s, const char *path, size_t len)
{
	if (s->made == NULL)
		s->made = calloc(SIBLINGS_MADE_BITS / 8, 1);
	s->made_lost = s->made_lost || s->made == NULL;
	for (; s->made != NULL && len > 0; len = path_parent_len(path, len)) {
		size_t bit = bit_of(path, len);

		s->made[bit / 8] |= (unsigned char)(1u << bit % 8);
	}
}

bool siblings_was_made(const struct siblings *s, const char *path, size_t len)
{
	size_t bit = bit_of(path, len);

	return s->made_lost || (s->made != NULL && (s->made[bit / 8] >> bit % 8 & 1) != 0);
}

void siblings_done(struct siblings *s)
{
	free(s->made);
	s->made = NULL;
}

bool siblings_each(struct siblings *s, const char *path, size_t len, const struct stat *st, int64_t now_ns,
		   void (*fn)(void *ctx, const char *path, size_t len, const struct stat *st), void *ctx)
{
	uint64_t alive, nlink;
	bool missing;

	(void)links_note(s->links, st->st_dev, st->st_ino, path, len);
	/* What was known of it then is told, and what has been noted since is in the batch itself. */
	if (!links_first(s->links, st->st_dev, st->st_ino))
		return true;
	alive = count_alive(s, st->st_dev, st->st_ino, &nlink);
	missing = alive + links_outside(s->links, st->st_dev, st->st_ino) < st->st_nlink && !links_full(s->links);
	if (missing && now_ns >= s->walk_next_ns) {
		missing = false;
		walk(s, now_ns);
		alive = count_alive(s, st->st_dev, st->st_ino, &nlink);
	}
	if (alive < st->st_nlink)
		tell_outside(s, st->st_dev, st->st_ino);
	for (const struct link_name *n = links_names(s->links, st->st_dev, st->st_ino); n != NULL; n = n->next)
		if (!n->dead && (n->len != len || memcmp(n->path, path, len) != 0)) {
			note_made(s, n->path, n->len);
			fn(ctx, n->path, n->len, st);
		}
	return !missing;
}
