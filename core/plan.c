#include "core/plan.h"

#include <stdlib.h>
#include <string.h>

#include "core/path.h"

struct maker {
	struct plan *p;
	const struct plan_input *in;
	/* The item that covers what lies below it, while cover_part is not NULL. */
	struct plan_part *cover_part;
	size_t cover_at; /* its index in that part, until the part is sorted */
	const char *cover;
	size_t cover_len;
	/* The directory added last, so that each is added once a run of items in it. */
	struct known_parent {
		const char *path;
		size_t len;
		bool known;
	} parents[PLAN_STEPS];
	/* The directory looked at last for its times. */
	struct known_parent seen;
	enum look seen_look;
	struct stat seen_st;
	struct known_parent above; /* of the last absent path */
	bool above_gone;
	bool no_memory;
};

static void settle(struct maker *m, size_t i, enum verdict v, const struct err *why)
{
	m->in->settle(m->in->ctx, i, v, why);
}

static struct transport_item *add(struct maker *m, struct plan_part *part, struct plan_range range)
{
	struct transport_item *item;

	if (part->work.n_items == part->cap) {
		size_t cap = part->cap == 0 ? 64 : part->cap * 2;
		struct transport_item *items = realloc(part->work.items, cap * sizeof(*items));
		struct plan_range *ranges;

		if (items != NULL)
			part->work.items = items;
		ranges = items == NULL ? NULL : realloc(part->ranges, cap * sizeof(*ranges));
		if (ranges == NULL) {
			m->no_memory = true;
			return NULL;
		}
		part->ranges = ranges;
		part->cap = cap;
	}
	part->ranges[part->work.n_items] = range;
	item = &part->work.items[part->work.n_items++];
	memset(item, 0, sizeof(*item));
	return item;
}

/* A name that is new to the watcher may be there as another one's sibling. */
static unsigned flags_of(const struct maker *m, const struct batch_item *b)
{
	if ((b->flags & MARK_BORN) != 0 && m->in->was_sibling != NULL &&
	    m->in->was_sibling(m->in->ctx, b->path, b->len))
		return b->flags & ~(unsigned)MARK_BORN;
	return b->flags;
}

static struct transport_item *add_item(struct maker *m, struct plan_part *part, size_t i, enum look look,
				       const struct stat *st)
{
	const struct batch_item *b = &m->in->batch->items[i];
	struct transport_item *item = add(m, part, (struct plan_range){ i, i + 1 });

	if (item == NULL)
		return NULL;
	*item = (struct transport_item){
		.path = b->path, .len = b->len, .flags = flags_of(m, b), .tries = b->tries, .look = look
	};
	if (look != LOOK_ABSENT)
		item->st = *st;
	return item;
}

static bool is_known(const struct known_parent *p, const char *path, size_t len)
{
	return p->known && p->len == len && (len == 0 || memcmp(p->path, path, len) == 0);
}

/* A directory's mtime changes with its entries; no event says so. Who can't look at it waits with the entry. */
static int see_parent(struct maker *m, const char *path, size_t len, struct err *err)
{
	size_t n = path_parent_len(path, len);

	if (!m->in->dir_times || m->in->bidirectional || len == 0 || is_known(&m->seen, path, n))
		return 0;
	if (m->in->look(m->in->ctx, path, n, &m->seen_look, &m->seen_st, err) < 0)
		return -1;
	m->seen = (struct known_parent){ path, n, true };
	return 0;
}

static void add_parent(struct maker *m, enum plan_step step, const char *path, size_t len)
{
	size_t n = path_parent_len(path, len);
	struct known_parent *last = &m->parents[step];
	struct transport_item *item;

	if (!m->in->dir_times || m->in->bidirectional || m->in->lane == PLAN_LARGE || len == 0 ||
	    is_known(last, path, n))
		return;
	*last = (struct known_parent){ path, n, true };
	if (see_parent(m, path, len, NULL) < 0 || m->seen_look != LOOK_DIR)
		return;
	if (!filter_includes(m->in->filter, path, n, true))
		return;
	item = add(m, &m->p->part[step], (struct plan_range){ 0, 0 });
	if (item != NULL)
		*item = (struct transport_item){
			.path = path, .len = n, .flags = MARK_LOOK, .look = LOOK_DIR, .st = m->seen_st
		};
}

static void cover_with(struct maker *m, struct plan_part *part, size_t i)
{
	m->cover_part = part;
	m->cover_at = part->work.n_items - 1;
	m->cover = m->in->batch->items[i].path;
	m->cover_len = m->in->batch->items[i].len;
}

/* An absent name of unknown type is protected if it would be as one of them: a file left over does less harm than a
 * directory deleted. */
static bool is_protected(const struct maker *m, const struct batch_item *b)
{
	bool as_file = filter_protects(m->in->filter, b->path, b->len, false, m->in->delete_excluded);
	bool as_dir = filter_protects(m->in->filter, b->path, b->len, true, m->in->delete_excluded);

	if ((b->flags & (MARK_WAS_DIR | MARK_WAS_FILE)) == MARK_WAS_DIR)
		return as_dir;
	if ((b->flags & (MARK_WAS_DIR | MARK_WAS_FILE)) == MARK_WAS_FILE)
		return as_file;
	return as_file || as_dir;
}

/* Where nothing may be deleted a deletion is given up, with the reason. true: this is such a place. */
static bool is_kept(struct maker *m, size_t i)
{
	const struct batch_item *b = &m->in->batch->items[i];
	const struct keep *k = keep_touches(m->in->keep, b->path, b->len);
	struct err why = ERR_INIT;

	if (k == NULL)
		return false;
	if (k->why == NULL && k->len == b->len) {
		settle(m, i, VERDICT_DONE, NULL);
		return true;
	}
	err_set(&why, ERR_UNSAFE, "not deleted on the target: %.*s: %s", (int)(k->len < 200 ? k->len : 200),
		k->len == 0 ? "" : k->path, k->why == NULL ? "is requireTargetMarker" : k->why);
	settle(m, i, VERDICT_REJECT, &why);
	return true;
}

/* Then the directory above went by itself, which was or will be told of its own name. */
static bool is_parent_gone(struct maker *m, const struct batch_item *b)
{
	size_t n = path_parent_len(b->path, b->len);
	struct known_parent *last = &m->above;
	struct stat st;
	enum look look;

	/* A directory that is kept was told to be, with the reason; what is in it goes by itself. */
	if (n == 0 || m->in->bidirectional || keep_touches(m->in->keep, b->path, n) != NULL)
		return false;
	if (is_known(last, b->path, n))
		return m->above_gone;
	*last = (struct known_parent){ b->path, n, true };
	m->above_gone = m->in->look(m->in->ctx, b->path, n, &look, &st, NULL) == 0 && look == LOOK_ABSENT;
	return m->above_gone;
}

static void plan_absent(struct maker *m, size_t i)
{
	const struct batch_item *b = &m->in->batch->items[i];
	bool born = (flags_of(m, b) & MARK_BORN) != 0 && !m->in->bidirectional;
	struct err err = ERR_INIT;

	if (see_parent(m, b->path, b->len, &err) < 0) {
		settle(m, i, VERDICT_RETRY, &err);
		return;
	}
	if (born || ((b->flags & (MARK_NAME | MARK_RECURSIVE)) == 0 && !m->in->bidirectional)) {
		settle(m, i, VERDICT_GONE, NULL);
		if ((b->flags & MARK_NAME) != 0)
			add_parent(m, PLAN_APPLY, b->path, b->len);
		return;
	}
	if (!m->p->part[PLAN_APPLY].work.may_delete || b->len == 0 || is_protected(m, b)) {
		settle(m, i, VERDICT_DONE, NULL);
		return;
	}
	if (is_kept(m, i))
		return;
	if (is_parent_gone(m, b)) {
		settle(m, i, VERDICT_GONE, NULL);
		return;
	}
	if (add_item(m, &m->p->part[PLAN_APPLY], i, LOOK_ABSENT, NULL) == NULL)
		return;
	if (!m->in->bidirectional)
		cover_with(m, &m->p->part[PLAN_APPLY], i);
	add_parent(m, PLAN_APPLY, b->path, b->len);
}

/* lsyncd's modes: "startup" deletes at the first full comparison only (and at later ones of the whole source, which are
 * the same thing), "running" only afterwards. */
static bool reconcile_deletes(const struct maker *m, const struct batch_item *b)
{
	switch (m->in->delete_mode) {
	case DELETE_ALWAYS:
		return true;
	case DELETE_STARTUP:
		return (b->flags & MARK_START) != 0 || b->len == 0;
	case DELETE_RUNNING:
		return (b->flags & MARK_START) == 0;
	case DELETE_NEVER:
		break;
	}
	return false;
}

static void add_sibling(void *maker, const char *path, size_t len, const struct stat *st)
{
	struct maker *m = maker;
	struct transport_item *item;

	if (!filter_includes(m->in->filter, path, len, false))
		return;
	item = add(m, &m->p->part[PLAN_APPLY], (struct plan_range){ 0, 0 });
	if (item != NULL)
		*item = (struct transport_item){
			.path = path, .len = len, .flags = MARK_LOOK, .look = LOOK_FILE, .st = *st
		};
	add_parent(m, PLAN_APPLY, path, len);
}

/* Whether a comparison must delete nothing: all of it is kept, or the transport can't leave out what is. */
static bool is_spared(const struct maker *m, const struct batch_item *b)
{
	return keep_covers(m->in->keep, b->path, b->len) ||
	       ((m->in->caps & TRANSPORT_KEEP) == 0 && keep_touches(m->in->keep, b->path, b->len) != NULL);
}

/* All names of a file are made together, and the others are not in flight for all to see: so they are for the first
 * lane, while the other one has nothing under way. */
static enum verdict other_lane(const struct maker *m, const struct batch_item *b, enum look look, const struct stat *st)
{
	bool large = look == LOOK_FILE && st->st_size > m->in->large_file, linked = large && st->st_nlink > 1;

	if (look != LOOK_ABSENT && !filter_includes(m->in->filter, b->path, b->len, look == LOOK_DIR))
		return VERDICT_NONE;
	if (m->in->lane == PLAN_LARGE)
		return large && !linked ? VERDICT_NONE : VERDICT_SMALL;
	if (m->in->lane == PLAN_ALL || !large || (linked && (b->flags & MARK_ALONE) != 0))
		return VERDICT_NONE;
	return linked ? VERDICT_ALONE : VERDICT_LARGE;
}

static void plan_present(struct maker *m, size_t i, enum look look, const struct stat *st)
{
	const struct batch_item *b = &m->in->batch->items[i];
	struct plan_part *part = &m->p->part[PLAN_APPLY];
	bool recursive = look == LOOK_DIR && (b->flags & MARK_RECURSIVE) != 0;
	struct err err = ERR_INIT;

	if (!filter_includes(m->in->filter, b->path, b->len, look == LOOK_DIR)) {
		settle(m, i, VERDICT_DONE, NULL);
		return;
	}
	/* It would take the place of a directory that holds what is to be kept. */
	if (look != LOOK_DIR && keep_holds(m->in->keep, b->path, b->len) && is_kept(m, i))
		return;
	if (see_parent(m, b->path, b->len, &err) < 0) {
		settle(m, i, VERDICT_RETRY, &err);
		return;
	}
	if (recursive)
		part = &m->p->part[reconcile_deletes(m, b) && !is_spared(m, b) ? PLAN_RECONCILE : PLAN_RECONCILE_KEEP];
	if (add_item(m, part, i, look, st) == NULL)
		return;
	if (recursive)
		cover_with(m, part, i);
	if (look == LOOK_FILE && st->st_nlink > 1 && m->in->siblings != NULL)
		m->in->siblings(m->in->ctx, b->path, b->len, st, add_sibling, m);
	add_parent(m, recursive ? PLAN_TIMES : PLAN_APPLY, b->path, b->len);
}

static void plan_item(struct maker *m, size_t i)
{
	const struct batch_item *b = &m->in->batch->items[i];
	enum look look;
	struct stat st = { 0 };
	enum verdict lane;
	struct err err = ERR_INIT;

	if (m->cover_part != NULL && path_below(b->path, b->len, m->cover, m->cover_len)) {
		m->cover_part->ranges[m->cover_at].hi = i + 1;
		return;
	}
	m->cover_part = NULL;
	if (path_has_temp(b->path, b->len))
		settle(m, i, VERDICT_DONE, NULL);
	else if (m->in->look(m->in->ctx, b->path, b->len, &look, &st, &err) < 0)
		settle(m, i, VERDICT_RETRY, &err);
	else if ((lane = other_lane(m, b, look, &st)) != VERDICT_NONE)
		settle(m, i, lane, NULL);
	else if (look == LOOK_ABSENT)
		plan_absent(m, i);
	else
		plan_present(m, i, look, &st);
}

struct entry {
	struct transport_item item;
	struct plan_range range;
};

static int compare_entries(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int order = path_compare(x->item.path, x->item.len, y->item.path, y->item.len);

	/* Of two for one path the batch's own comes first, and stays. */
	return order != 0 ? order : (x->range.lo == x->range.hi) - (y->range.lo == y->range.hi);
}

/* Parents were added behind their children: bring all in the order of a walk, each path once. */
static int sort_part(struct plan_part *part)
{
	size_t n = part->work.n_items, kept = 0;
	struct entry *all = n == 0 ? NULL : malloc(n * sizeof(*all));

	if (n == 0)
		return 0;
	if (all == NULL)
		return -1;
	for (size_t i = 0; i < n; i++)
		all[i] = (struct entry){ part->work.items[i], part->ranges[i] };
	qsort(all, n, sizeof(*all), compare_entries);
	for (size_t i = 0; i < n; i++) {
		if (kept > 0 && path_compare(all[i].item.path, all[i].item.len, part->work.items[kept - 1].path,
					     part->work.items[kept - 1].len) == 0)
			continue;
		part->work.items[kept] = all[i].item;
		part->ranges[kept++] = all[i].range;
	}
	part->work.n_items = kept;
	free(all);
	return 0;
}

/* A rename whose names the filter treats differently (or not at all) is a matter of comparing both. */
static bool rename_is_whole(const struct maker *m, const struct batch_rename *r)
{
	return (m->in->caps & TRANSPORT_RENAME) != 0 && keep_touches(m->in->keep, r->from, r->from_len) == NULL &&
	       keep_touches(m->in->keep, r->to, r->to_len) == NULL &&
	       filter_includes(m->in->filter, r->from, r->from_len, r->is_dir) &&
	       filter_includes(m->in->filter, r->to, r->to_len, r->is_dir);
}

static int plan_renames(struct maker *m)
{
	const struct batch *b = m->in->batch;
	struct transport_work *work = &m->p->part[PLAN_APPLY].work;

	if (b->n_renames == 0)
		return 0;
	m->p->renames = calloc(b->n_renames, sizeof(*m->p->renames));
	m->p->rename_index = calloc(b->n_renames, sizeof(*m->p->rename_index));
	if (m->p->renames == NULL || m->p->rename_index == NULL)
		return -1;
	for (size_t i = 0; i < b->n_renames; i++) {
		if (!rename_is_whole(m, &b->renames[i])) {
			m->in->settle_rename(m->in->ctx, i, VERDICT_RECONCILE, NULL);
			continue;
		}
		m->p->rename_index[work->n_renames] = i;
		m->p->renames[work->n_renames++] = b->renames[i];
	}
	work->renames = m->p->renames;
	return 0;
}

int plan_make(struct plan *p, const struct plan_input *in, struct err *err)
{
	struct maker m = { .p = p, .in = in };

	memset(p, 0, sizeof(*p));
	for (size_t s = 0; s < PLAN_STEPS; s++)
		p->part[s].work.max_delete = in->max_delete;
	p->part[PLAN_APPLY].work.may_delete = in->delete_mode == DELETE_ALWAYS || in->delete_mode == DELETE_RUNNING;
	p->part[PLAN_RECONCILE].work.may_delete = true;
	if (plan_renames(&m) < 0)
		m.no_memory = true;
	for (size_t i = 0; i < in->batch->n_items && !m.no_memory; i++)
		plan_item(&m, i);
	for (size_t s = 0; s < PLAN_STEPS && !m.no_memory; s++)
		if (sort_part(&p->part[s]) < 0)
			m.no_memory = true;
	if (!m.no_memory)
		return 0;
	plan_done(p);
	return err_set(err, ERR_NOMEM, "out of memory for a batch of %zu paths", in->batch->n_items);
}

void plan_done(struct plan *p)
{
	for (size_t s = 0; s < PLAN_STEPS; s++) {
		free(p->part[s].work.items);
		free(p->part[s].ranges);
	}
	free(p->rename_index);
	free(p->renames);
	memset(p, 0, sizeof(*p));
}
