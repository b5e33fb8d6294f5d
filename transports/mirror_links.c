/* mirror_links.c - files with several names: the first one met in a work is sent, the others are linked to it. */
#include <stdlib.h>
#include <string.h>

#include "transports/mirror_private.h"

#define BUCKETS 1024u

struct link_group {
	struct link_group *next; /* in the bucket */
	uint64_t dev, ino;
	enum { GROUP_UNDER_WAY = 0, GROUP_THERE, GROUP_FAILED } state;
	struct entry *waiters;
	size_t len;
	char *path; /* of the first name */
};

static struct link_group **bucket_of(struct mirror *m, const struct stat *st)
{
	return &m->links[(size_t)((st->st_ino * 0x9e3779b97f4a7c15u + st->st_dev) >> 40) % BUCKETS];
}

static struct link_group *find(struct mirror *m, const struct stat *st)
{
	struct link_group *g = *bucket_of(m, st);

	while (g != NULL && (g->dev != st->st_dev || g->ino != st->st_ino))
		g = g->next;
	return g;
}

static bool set_first(struct link_group *g, const struct entry *e)
{
	char *path = realloc(g->path, e->len + 1);

	if (path == NULL)
		return false;
	memcpy(path, e->path, e->len);
	g->path = path;
	g->len = e->len;
	g->state = GROUP_UNDER_WAY;
	return true;
}

static void make_group(struct entry *e)
{
	struct mirror *m = e->m;
	struct link_group *g = calloc(1, sizeof(*g)), **at = bucket_of(m, &e->src);

	if (g == NULL)
		return; /* it travels as a file of its own */
	g->dev = e->src.st_dev;
	g->ino = e->src.st_ino;
	if (!set_first(g, e)) {
		free(g);
		return;
	}
	g->next = *at;
	*at = g;
	e->group = g;
}

/* ---- linking ---- */

static entry_step make_link;

/* Renaming one name of a file over another does nothing: then the temporary one is left. */
static enum fileops_result linked(struct entry *e)
{
	if (e->r != FILEOPS_OK && e->r != FILEOPS_GONE)
		return entry_fail(e);
	if (e->dir != NULL)
		e->dir->changed = true;
	return entry_finish(e, VERDICT_DONE, NULL);
}

static enum fileops_result renamed(struct entry *e)
{
	struct mirror *m = e->m;

	if (e->r != FILEOPS_OK)
		return entry_abandon(e, VERDICT_RETRY, NULL);
	e->step = linked;
	return m->target.ops->unlink(m->target.ctx, &e->op, e->temp, e->temp_len);
}

static enum fileops_result out_of_the_way(struct entry *e)
{
	e->step = e->again;
	return e->again(e);
}

/* Where inodes are not known it may be another name of the same file by now: that is no content to be put away. Where
 * they are, such a name has not come here (first_looked). */
static bool looks_the_same(const struct entry *e)
{
	return (e->m->rules.caps & FILEOPS_INODES) == 0 && e->dst_there && S_ISREG(e->dst.st_mode) &&
	       e->dst.st_size == e->src.st_size && mirror_same_time(&e->m->rules, &e->src, &e->dst);
}

static enum fileops_result link_made(struct entry *e)
{
	struct mirror *m = e->m;
	enum fileops_result out;

	if (e->r == FILEOPS_OK) {
		e->step = renamed;
		if (looks_the_same(e))
			return m->target.ops->rename(m->target.ctx, &e->op, e->temp, e->temp_len, e->path, e->len,
						     false);
		return backup_rename(m, &e->op, e->temp, e->temp_len, e->path, e->len, false);
	}
	if (e->r == FILEOPS_DENIED && entry_make_way(e, make_link, &out))
		return out;
	if ((e->r == FILEOPS_EXISTS || e->r == FILEOPS_FAILED) && !e->cleared) {
		e->cleared = true;
		e->again = make_link;
		e->step = out_of_the_way;
		return m->target.ops->unlink(m->target.ctx, &e->op, e->temp, e->temp_len);
	}
	/* Too many links, another file system, no such thing there: a file of its own. */
	e->group = NULL;
	e->no_link = true;
	return entry_sync(e);
}

static enum fileops_result make_link(struct entry *e)
{
	struct mirror *m = e->m;
	struct link_group *g = find(m, &e->src);

	if (m->rules.dry_run || g == NULL)
		return entry_finish(e, VERDICT_DONE, NULL);
	if (!entry_temp(e, TEMP_NEW, 0)) {
		err_set(&e->op.err, ERR_NOMEM, "out of memory");
		return entry_fail(e);
	}
	e->step = link_made;
	return m->target.ops->link(m->target.ctx, &e->op, g->path, g->len, e->temp, e->temp_len);
}

/* Where inodes are known, what is linked already stays. */
static enum fileops_result first_looked(struct entry *e)
{
	if (e->r == FILEOPS_OK && e->op.st.st_dev == e->dst.st_dev && e->op.st.st_ino == e->dst.st_ino)
		return entry_finish(e, VERDICT_DONE, NULL);
	return make_link(e);
}

static enum fileops_result follow(struct entry *e, struct link_group *g)
{
	struct mirror *m = e->m;

	if (!e->dst_there || (m->rules.caps & FILEOPS_INODES) == 0)
		return make_link(e);
	e->step = first_looked;
	return m->target.ops->look(m->target.ctx, &e->op, g->path, g->len);
}

bool links_join(struct entry *e, enum fileops_result *out)
{
	struct mirror *m = e->m;
	struct link_group *g;

	if ((m->rules.caps & FILEOPS_LINKS) == 0 || e->no_link || (m->rules.existing && !e->dst_there))
		return false;
	if (m->links == NULL)
		m->links = calloc(BUCKETS, sizeof(struct link_group *));
	if (m->links == NULL)
		return false;
	g = find(m, &e->src);
	if (g == NULL) {
		make_group(e);
		return false;
	}
	if (g->len == e->len && memcmp(g->path, e->path, e->len) == 0)
		return false; /* once more, after way was made for it */
	switch (g->state) {
	case GROUP_THERE:
		*out = follow(e, g);
		return true;
	case GROUP_UNDER_WAY:
		e->next_waiter = g->waiters;
		g->waiters = e;
		e->step = entry_sync;
		*out = FILEOPS_PENDING;
		return true;
	default:
		if (set_first(g, e))
			e->group = g;
		return false;
	}
}

/* What was opened under its name may have been another file by then, or the last name of this one. */
static bool is_of(const struct link_group *g, const struct stat *st)
{
	return st->st_nlink > 1 && st->st_dev == g->dev && st->st_ino == g->ino;
}

void links_leave(struct entry *e, bool done)
{
	struct link_group *g = e->group;
	struct entry *waiters = g->waiters;

	e->group = NULL;
	g->state = done && is_of(g, &e->src) ? GROUP_THERE : GROUP_FAILED;
	g->waiters = NULL;
	while (waiters != NULL) {
		struct entry *next = waiters->next_waiter;

		waiters->next_waiter = NULL;
		entry_go_on(waiters, FILEOPS_OK);
		waiters = next;
	}
}

void links_free_all(struct mirror *m)
{
	for (size_t i = 0; m->links != NULL && i < BUCKETS; i++)
		while (m->links[i] != NULL) {
			struct link_group *next = m->links[i]->next;

			free(m->links[i]->path);
			free(m->links[i]);
			m->links[i] = next;
		}
	free(m->links);
	m->links = NULL;
}
