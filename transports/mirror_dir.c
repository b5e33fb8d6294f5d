/* mirror_dir.c - directories: two sorted listings side by side, or all that is in one removed; see mirror_private.h. */
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "transports/mirror_private.h"

/* Directories that are read ahead, where that can be done. */
#define DIRS_AHEAD 12u
/* Entries of the target's listings that wait for the source's. */
#define HELD_MAX 8192u
/* Directories that one of them puts on the stack at a time: the others have less room in its listing. */
#define CHILDREN_MAX 512u
/* A directory of a few thousand names. */
#define WIDE_BYTES (128 * 1024)

/* ---- life ---- */

struct dir *dir_new(struct mirror *m, struct dir *parent, const char *path, size_t len, const char *name,
		    size_t name_len)
{
	size_t total = len + (len > 0 && name_len > 0) + name_len;
	struct dir *d = calloc(1, sizeof(*d) + total + 1);

	if (d == NULL)
		return NULL;
	d->m = m;
	d->path = d->bytes;
	d->len = total;
	memcpy(d->path, path, len);
	if (len > 0 && name_len > 0)
		d->path[len] = '/';
	if (name_len > 0)
		memcpy(d->path + total - name_len, name, name_len);
	d->parent = parent;
	d->item = parent == NULL ? SIZE_MAX : parent->item;
	d->top = total;
	if (parent != NULL)
		parent->open++;
	d->all_next = m->dirs;
	if (d->all_next != NULL)
		d->all_next->all_prev = d;
	m->dirs = d;
	return d;
}

struct dir_ops {
	struct fileop op[2]; /* source, target */
	struct fileops_attrs attrs;
};

static void dir_free(struct dir *d)
{
	struct mirror *m = d->m;

	if (d->ops != NULL) {
		/* One end had answered, the other one never will. */
		listing_free(&d->ops->op[0].list);
		listing_free(&d->ops->op[1].list);
	}
	listing_free(&d->from);
	listing_free(&d->to);
	free(d->ops);
	if (d->all_prev != NULL)
		d->all_prev->all_next = d->all_next;
	else
		m->dirs = d->all_next;
	if (d->all_next != NULL)
		d->all_next->all_prev = d->all_prev;
	free(d);
}

void dir_free_all(struct mirror *m)
{
	while (m->dirs != NULL)
		dir_free(m->dirs);
	m->ready = m->paused = m->deferred = m->over = NULL;
	m->n_dirs = m->n_listing = 0;
	m->n_held = 0;
	free(m->spare_ops);
	m->spare_ops = NULL;
	free(m->name);
	m->name = NULL;
	m->name_cap = 0;
}

static void push(struct dir **stack, struct dir *d)
{
	d->next = *stack;
	*stack = d;
}

static struct dir *pop(struct dir **stack)
{
	struct dir *d = *stack;

	*stack = d->next;
	d->next = NULL;
	return d;
}

void dir_push(struct dir *d)
{
	if (d->parent != NULL)
		d->parent->children++;
	d->m->n_dirs++;
	push(&d->m->ready, d);
}

/* It goes on when what it has put on the stack is begun. */
static bool waits_below(struct dir *d)
{
	struct dir **at = &d->m->ready;

	if (d->children < CHILDREN_MAX)
		return false;
	for (unsigned i = 0; i < d->children && *at != NULL; i++)
		at = &(*at)->next;
	d->children = 0;
	d->merging = true;
	d->next = *at;
	*at = d;
	return true;
}

/* What of it was not dealt with is not known any more: it is compared once more. */
static void out_of_memory(struct dir *d)
{
	struct err why = ERR_INIT;

	if (d->failed) /* it was told */
		return;
	err_set(&why, ERR_NOMEM, "out of memory");
	mirror_found(d->m, d->path, d->len, VERDICT_RECONCILE, &why);
	d->failed = true;
}

const char *dir_path_of(struct dir *d, const char *name, size_t len, size_t *out_len)
{
	struct mirror *m = d->m;
	size_t need = d->len + 1 + len + 1;

	if (m->name_cap < need) {
		char *bigger = realloc(m->name, need + 256);

		if (bigger == NULL) {
			out_of_memory(d);
			return NULL;
		}
		m->name = bigger;
		m->name_cap = need + 256;
	}
	memcpy(m->name, d->path, d->len);
	if (d->len > 0)
		m->name[d->len] = '/';
	memcpy(m->name + d->len + (d->len > 0), name, len);
	*out_len = d->len + (d->len > 0) + len;
	m->name[*out_len] = '\0';
	return m->name;
}

/* ---- the end of one ---- */

static void over(struct dir *d)
{
	struct mirror *m = d->m;
	struct dir *parent = d->parent;
	struct entry *waiter = d->waiter;

	if (parent != NULL && d->wipe) {
		if (parent->wipe) {
			parent->kept = parent->kept || d->kept;
			parent->refused = parent->refused || d->refused;
		} else {
			parent->deferred = parent->deferred || (d->refused && m->limit_open);
			parent->changed = parent->changed || !d->kept;
		}
	}
	if (waiter != NULL) {
		waiter->wipe_kept = d->kept;
		waiter->wipe_refused = d->refused;
		waiter->parked = false;
		m->n_active++;
	}
	m->n_dirs--;
	dir_free(d);
	if (parent != NULL)
		dir_child_done(parent);
	if (waiter != NULL)
		entry_go_on(waiter, FILEOPS_OK);
}

void dir_deletion_failed(struct dir *d, const struct err *why)
{
	struct mirror *m = d->m;
	struct dir *top = d;

	d->kept = true;
	while (top->parent != NULL)
		top = top->parent;
	if (top->waiter != NULL) {
		top->waiter->verdict = VERDICT_RETRY;
		top->waiter->why = *why;
	} else if (d->item != SIZE_MAX && m->items[d->item].v == VERDICT_NONE) {
		m->items[d->item].v = VERDICT_RETRY;
		m->items[d->item].why = *why;
	}
}

void dir_finished(struct dir *d)
{
	over(d);
}

void dir_child_done(struct dir *d)
{
	if (--d->open == 0)
		push(&d->m->over, d);
}

static enum fileops_result dir_removed(struct entry *e)
{
	struct mirror *m = e->m;
	struct dir *d = e->finishes;
	enum fileops_result out;

	if (e->r == FILEOPS_DENIED && entry_make_way(e, entry_rmdir, &out))
		return out;
	if (e->r == FILEOPS_OK) {
		m->deleted++;
		m->env->counters->deletions += d->parent == NULL || !d->parent->wipe;
		return entry_finish(e, VERDICT_DONE, NULL);
	}
	if (e->r == FILEOPS_GONE)
		return entry_finish(e, VERDICT_DONE, NULL);
	d->kept = true;
	return entry_fail(e);
}

enum fileops_result entry_rmdir(struct entry *e)
{
	struct mirror *m = e->m;

	e->deletes = true;
	e->step = dir_removed;
	return m->rules.dry_run ? FILEOPS_OK : m->target.ops->rmdir(m->target.ctx, &e->op, e->path, e->len);
}

static void finish_by(struct dir *d, entry_step *how)
{
	struct entry *e = entry_new(d->m, d->path, d->len, NULL, 0);

	if (e == NULL) {
		over(d);
		return;
	}
	e->finishes = d;
	e->src = d->src;
	e->dst = d->dst;
	e->dst_known = true;
	e->dst_there = !d->fresh;
	e->force_mtime = d->changed;
	entry_start(e, how);
}

static void finish_wipe(struct dir *d)
{
	if (d->kept || d->refused) {
		over(d);
	} else if (!mirror_may_delete_one(d->m)) {
		d->refused = true;
		over(d);
	} else {
		finish_by(d, entry_rmdir);
	}
}

static void defer(struct dir *d)
{
	struct dir *again = dir_new(d->m, NULL, d->path, d->len, NULL, 0);

	if (again == NULL) {
		out_of_memory(d);
		return;
	}
	again->sweep = true;
	again->item = d->item;
	again->src = d->src;
	again->dst = d->dst;
	again->changed = true;
	push(&d->m->deferred, again);
}

static void finish(struct dir *d)
{
	struct mirror *m = d->m;
	struct fileops_attrs want;

	if (d->wipe) {
		finish_wipe(d);
		return;
	}
	if (d->deferred && m->limit_open)
		defer(d);
	if (d->failed || d->keep_attrs) {
		over(d);
		return;
	}
	mirror_want_attrs(&m->rules, &d->src, d->fresh ? NULL : &d->dst, d->fresh, &want);
	if (want.mask == 0 && !d->changed && !d->unlocked && m->rules.xattr_kinds == 0)
		over(d);
	else
		finish_by(d, entry_same);
}

/* ---- merging ---- */

static struct entry *new_entry(struct dir *d, const struct fileops_entry *name)
{
	struct entry *e = entry_new(d->m, d->path, d->len, name->name, name->len);

	if (e != NULL) {
		e->dir = d;
		d->open++;
	}
	return e;
}

static void sync_name(struct dir *d, const struct fileops_entry *src, const struct fileops_entry *dst)
{
	struct entry *e = new_entry(d, src);

	if (e == NULL)
		return;
	e->src = src->st;
	e->dst_known = dst == NULL || dst->st.st_mode != 0;
	e->dst_there = dst != NULL && dst->st.st_mode != 0;
	if (e->dst_there)
		e->dst = dst->st;
	both_listed(e, src);
	entry_start(e, entry_sync);
}

static void enter(struct dir *d, const struct fileops_entry *src, const struct fileops_entry *dst)
{
	struct mirror *m = d->m;
	struct dir *child;

	if (d->sweep)
		return; /* it has been dealt with */
	child = dir_new(m, d, d->path, d->len, src->name, src->len);
	if (child == NULL) {
		out_of_memory(d);
		return;
	}
	child->src = src->st;
	child->dst = dst->st;
	dir_push(child);
}

/* Most of what a reconcile meets: nothing to be done, and no task made for it. */
static bool is_equal(struct dir *d, const struct fileops_entry *name, const struct stat *dst)
{
	struct mirror *m = d->m;
	const struct mirror_look look = { .src = &name->st, .dst = dst, .now_ns = m->now_ns };
	const char *path;
	size_t len;

	if (m->twoway != NULL || !S_ISREG(name->st.st_mode) || !mirror_settled(&m->rules, &look))
		return false;
	path = m->hot == NULL ? NULL : dir_path_of(d, name->name, name->len, &len);
	return path == NULL || mirror_hot_judge(m->hot, path, len, &look) == MIRROR_SAME;
}

static void pair(struct dir *d, const struct fileops_entry *src, const struct fileops_entry *dst)
{
	struct mirror *m = d->m;
	struct err why = ERR_INIT;
	const char *path;
	size_t len;

	m->seen++;
	path = m->backup.root_len == 0 ? NULL : dir_path_of(d, src->name, src->len, &len);
	if (path == NULL && m->backup.root_len > 0)
		return;
	if (path != NULL && backup_covers(m, path, len)) {
		backup_refusal(&why);
		mirror_found(m, path, len, VERDICT_REJECT, &why);
		return;
	}
	if (src->st.st_mode == 0) {
		err_set(&why, ERR_IO, "it could not be looked at"); /* it may be a directory */
		path = dir_path_of(d, src->name, src->len, &len);
		if (path != NULL)
			mirror_found(m, path, len, VERDICT_RECONCILE, &why);
		return;
	}
	if (dst != NULL && S_ISDIR(src->st.st_mode) && S_ISDIR(dst->st.st_mode) && m->twoway == NULL)
		enter(d, src, dst);
	else if (dst == NULL || !is_equal(d, src, &dst->st))
		sync_name(d, src, dst);
}

static bool is_leftover(struct dir *d, const struct fileops_entry *dst)
{
	const struct mirror *m = d->m;
	enum temp_kind kind;
	uint32_t tag;
	size_t base, base_len;

	if (!temp_parse(dst->name, dst->len, &kind, &tag, &base, &base_len) || S_ISDIR(dst->st.st_mode))
		return false;
	if (tag == m->tag)
		return kind != TEMP_PART || !part_is_due(d, dst, dst->name + base, base_len);
	return mirror_mtime_ns(&dst->st) < m->now_ns - LEFTOVER_AGE_NS;
}

static void remove_name(struct dir *d, const struct fileops_entry *dst, const struct fileops_entry *archived,
			bool leftover)
{
	struct entry *e = new_entry(d, dst);

	if (e == NULL)
		return;
	e->leftover = leftover;
	e->dst = dst->st;
	e->dst_known = e->dst_there = dst->st.st_mode != 0;
	if (!d->wipe)
		both_listed(e, archived);
	entry_start(e, entry_delete);
}

/* What is below a name of `parent` that only the target has; `kept`: the name itself stays. false: no memory. */
static bool wipe_below(struct dir *parent, struct dir *child, const struct stat *dst, bool kept)
{
	if (child == NULL)
		return false;
	child->wipe = true;
	child->kept = kept;
	child->top = parent->wipe ? parent->top : child->len;
	child->dst = *dst;
	dir_push(child);
	return true;
}

static void wipe_name(struct dir *d, const struct fileops_entry *dst)
{
	if (!wipe_below(d, dir_new(d->m, d, d->path, d->len, dst->name, dst->len), &dst->st, false))
		out_of_memory(d);
}

/* On the target only. */
static void extra(struct dir *d, const struct fileops_entry *dst, const struct fileops_entry *archived)
{
	struct mirror *m = d->m;
	bool is_dir = S_ISDIR(dst->st.st_mode), temp = path_is_temp(dst->name, dst->len);
	const char *path;
	size_t len;

	if (temp && is_leftover(d, dst)) {
		remove_name(d, dst, NULL, true);
		return;
	}
	path = dir_path_of(d, dst->name, dst->len, &len);
	/* Another's temp file goes with the directory that it is in, but not by itself. */
	if ((!m->work->may_delete && !both_in_doubt(m)) || path == NULL || backup_covers(m, path, len) ||
	    (temp && (!d->wipe || m->twoway != NULL)) || keep_covers(m->work->keep, path, len) ||
	    filter_protects_from(m->env->opt->filter, path, len, d->wipe ? d->top : len, is_dir,
				 m->rules.delete_excluded)) {
		d->kept = true;
		return;
	}
	if (m->delete_left <= 0 && m->limit_open) {
		d->deferred = d->refused = true;
		return;
	}
	if (is_dir && m->twoway == NULL)
		wipe_name(d, dst);
	else
		remove_name(d, dst, archived, false);
}

/* Both ways: archived, and not on the source any more. */
static void gone(struct dir *d, const struct fileops_entry *src, const struct fileops_entry *dst)
{
	const char *path;
	size_t len;

	if (dst != NULL) {
		extra(d, dst, src);
		return;
	}
	path = dir_path_of(d, src->name, src->len, &len);
	if (path != NULL)
		both_gone(d->m, path, len);
}

static void merged(struct dir *d)
{
	listing_free(&d->from);
	listing_free(&d->to);
	dir_child_done(d); /* our own hold */
}

static void merge(struct dir *d)
{
	while (d->i < d->from.n || d->j < d->to.n) {
		const struct fileops_entry *src = d->i < d->from.n ? &d->from.v[d->i] : NULL;
		const struct fileops_entry *dst = d->j < d->to.n ? &d->to.v[d->j] : NULL;
		int order = src == NULL	  ? 1
			    : dst == NULL ? -1
					  : listing_compare(src->name, src->len, dst->name, dst->len);

		if (!mirror_has_room(d->m)) {
			push(&d->m->paused, d);
			return;
		}
		if (waits_below(d))
			return;
		d->i += order <= 0;
		d->j += order >= 0;
		if (dst != NULL && order > 0)
			extra(d, dst, NULL);
		else if (src != NULL && src->st.st_mode == 0 && src->agreed != NULL)
			gone(d, src, order == 0 ? dst : NULL);
		else if (src != NULL)
			pair(d, src, order == 0 ? dst : NULL);
	}
	merged(d);
}

/* Both ends have the same: what is below is all that is left to compare. */
static void merge_same(struct dir *d)
{
	while (d->j < d->to.n) {
		const struct fileops_entry *e = &d->to.v[d->j];

		if (waits_below(d))
			return;
		d->j++;
		d->m->seen++;
		if (S_ISDIR(e->st.st_mode))
			enter(d, e, e);
	}
	merged(d);
}

static void go_on(struct dir *d)
{
	d->merging = false;
	if (d->same)
		merge_same(d);
	else
		merge(d);
}

/* ---- listing ---- */

bool dir_keeps(const void *ctx, const char *path, size_t len, size_t base, bool is_dir)
{
	const struct filter *f = ctx;

	return !path_is_temp(path + base, len - base) && (filter_count(f) == 0 || filter_match(f, path, len, is_dir));
}

static bool keep_source(void *ctx, const char *name, size_t len, bool is_dir)
{
	struct dir *d = ctx;
	size_t n;
	const char *path = dir_path_of(d, name, len, &n);

	return path != NULL && dir_keeps(d->m->env->opt->filter, path, n, n - len, is_dir);
}

/* It could not be listed: nothing in it is touched, least of all deleted. */
static void unlisted(struct dir *d, bool source, enum fileops_result r)
{
	struct mirror *m = d->m;
	const struct err *said = &d->ops->op[source ? 0 : 1].err;
	struct err why = ERR_INIT;

	d->failed = true;
	/* The event that says so is on its way; or what is to go is gone. */
	if ((source || d->wipe) && (r == FILEOPS_GONE || r == FILEOPS_TYPE))
		return;
	if (r == FILEOPS_GONE || r == FILEOPS_TYPE) {
		mirror_found(m, d->path, d->len, VERDICT_RECONCILE, NULL);
		return;
	}
	err_set(&why, said->class == ERR_NONE ? ERR_IO : said->class, "opendir %s%.*s: %.300s",
		source ? "" : "at the target ", (int)(d->len < 180 ? d->len : 180), d->path, said->text);
	if (d->wipe) {
		dir_deletion_failed(d, &why);
	} else if (d->item != SIZE_MAX && d->len == m->work->items[d->item].len) {
		m->items[d->item].v = VERDICT_RETRY;
		m->items[d->item].why = why;
	} else
		mirror_found(m, d->path, d->len, VERDICT_RECONCILE, &why);
}

static void give_ops_back(struct dir *d)
{
	struct mirror *m = d->m;

	listing_init(&d->ops->op[0].list); /* they were taken */
	listing_init(&d->ops->op[1].list);
	if (m->spare_ops == NULL)
		m->spare_ops = d->ops;
	else
		free(d->ops);
	d->ops = NULL;
	m->n_listing--;
}

static bool unlock(struct dir *d);

static void listed(struct dir *d)
{
	struct dir_ops *ops = d->ops;
	enum fileops_result from = ops->op[0].result, to = ops->op[1].result;

	d->same = ops->op[0].same;
	d->m->n_held -= d->held;
	d->held = 0;

	if (from == FILEOPS_OK && to == FILEOPS_DENIED && !d->unlocked && (d->dst.st_mode & 0700) != 0700) {
		listing_free(&ops->op[0].list);
		if (unlock(d))
			return;
	}
	d->from = ops->op[0].list;
	d->to = ops->op[1].list;
	if (from != FILEOPS_OK)
		unlisted(d, true, from);
	else if (to != FILEOPS_OK)
		unlisted(d, false, to);
	give_ops_back(d);
	if (d->failed) {
		merged(d);
		return;
	}
	parts_swept(d->m, d->path, d->len);
	go_on(d);
}

static void on_listed(struct fileop *op)
{
	struct dir *d = op->owner;
	struct mirror *m = d->m;

	if (--d->pending == 0)
		listed(d);
	mirror_pump(m);
}

static void prepare(struct dir *d, struct fileop *op, void (*done)(struct fileop *op))
{
	op->owner = d;
	op->done = done;
	op->result = FILEOPS_OK;
	op->err.class = ERR_NONE;
	op->copied = 0;
	op->same = false;
	listing_init(&op->list);
}

static void take_result(struct dir *d, struct fileop *op, enum fileops_result r)
{
	if (r == FILEOPS_PENDING) {
		d->pending++;
		return;
	}
	op->result = r;
}

static bool was_read_ahead(struct dir *d)
{
	struct mirror *m = d->m;
	unsigned which = d->ahead;

	d->ahead = 0;
	return which != 0 && m->ahead.take(m->ahead.ctx, which, &d->ops->op[0].list, &d->ops->op[1].list);
}

/* Where the target's listing is at hand, the source's is asked for unless it is the same. */
static enum fileops_result list_source(struct dir *d)
{
	struct mirror *m = d->m;
	struct fileop *op = &d->ops->op[0];
	const struct fileops_wish wish = { keep_source, d };
	const struct fileop *target = &d->ops->op[1];
	unsigned char digest[MIRROR_ALIKE_BYTES];
	unsigned fields;

	if (d->pending > 0 || d->fresh || d->sweep || target->result != FILEOPS_OK ||
	    !dir_digest(d, &target->list, &fields, digest))
		return m->source.ops->list(m->source.ctx, op, d->path, d->len, &wish);
	return m->source.ops->list_unless(m->source.ctx, op, d->path, d->len, &wish, fields, digest);
}

static void list_both(struct dir *d)
{
	struct mirror *m = d->m;
	struct dir_ops *ops = d->ops;
	const struct fileops_wish target = { listing_keep_all, d };

	prepare(d, &ops->op[0], on_listed);
	prepare(d, &ops->op[1], on_listed);
	if (was_read_ahead(d)) {
		listed(d);
		return;
	}
	if (!d->fresh)
		take_result(d, &ops->op[1], m->target.ops->list(m->target.ctx, &ops->op[1], d->path, d->len, &target));
	if (!d->wipe)
		take_result(d, &ops->op[0], list_source(d));
	if (d->pending == 0 && ops->op[0].result != FILEOPS_DOWN && ops->op[1].result != FILEOPS_DOWN) {
		listed(d);
	} else if (ops->op[1].list.n > 0) {
		d->held = ops->op[1].list.n;
		m->n_held += d->held;
	}
}

static void unlocked(struct dir *d)
{
	(void)mirror_note_unlocked(d->m, d->path, d->len, d->dst.st_mode & 07777);
	list_both(d);
}

static void on_unlocked(struct fileop *op)
{
	struct dir *d = op->owner;
	struct mirror *m = d->m;

	unlocked(d);
	mirror_pump(m);
}

static bool unlock(struct dir *d)
{
	struct mirror *m = d->m;
	struct fileop *op = &d->ops->op[1];
	enum fileops_result r;

	d->unlocked = true;
	d->ops->attrs = (struct fileops_attrs){ .mask = FILEOPS_MODE,
						.type = S_IFDIR,
						.mode = (d->dst.st_mode & 07777) | 0700 };
	prepare(d, op, on_unlocked);
	r = m->target.ops->attrs(m->target.ctx, op, d->path, d->len, &d->ops->attrs);
	if (r != FILEOPS_OK && r != FILEOPS_PENDING) {
		op->result = FILEOPS_DENIED;
		return false;
	}
	if (r == FILEOPS_OK)
		unlocked(d);
	return true;
}

static bool other_file_system(struct dir *d)
{
	struct mirror *m = d->m;

	if (!m->rules.one_file_system || d->wipe || (m->source.caps & FILEOPS_INODES) == 0)
		return false;
	if (d->parent == NULL && m->source_dev == 0)
		m->source_dev = d->src.st_dev;
	return d->src.st_dev != m->source_dev;
}

/* By its size: most file systems' grows with the names. */
static bool is_wide(const struct dir *d)
{
	return d->src.st_size >= WIDE_BYTES;
}

static void look_ahead(struct dir *d)
{
	struct mirror *m = d->m;

	if (m->ahead.ctx == NULL || d->ahead != 0 || d->merging || d->fresh || d->wipe || other_file_system(d))
		return;
	d->ahead = m->ahead.want(m->ahead.ctx, d->path, d->len, &m->keep, is_wide(d));
	m->looked_ahead = true;
}

/* The ones that are next, as long as what is begun now has none below it. */
static void look_further(struct mirror *m)
{
	unsigned n = 0;

	if (m->ahead.ctx == NULL)
		return;
	for (struct dir *d = m->ready; d != NULL && n < DIRS_AHEAD; d = d->next, n++)
		look_ahead(d);
}

static void begin(struct dir *d)
{
	struct mirror *m = d->m;

	d->open++; /* until it is merged */
	m->n_listing++;
	d->ops = m->spare_ops != NULL ? m->spare_ops : calloc(1, sizeof(*d->ops));
	m->spare_ops = NULL;
	if (d->ops == NULL)
		out_of_memory(d);
	if (d->ops == NULL || other_file_system(d)) {
		if (d->ops != NULL)
			give_ops_back(d);
		else
			m->n_listing--;
		merged(d);
		return;
	}
	mirror_show(m, d->wipe ? "deleting" : "comparing", d->path, d->len);
	if (d->parent == NULL && is_wide(d))
		look_ahead(d);
	list_both(d);
}

bool dir_run_one(struct mirror *m)
{
	if (m->over != NULL) {
		finish(pop(&m->over));
		return true;
	}
	if (!mirror_has_room(m))
		return false;
	if (m->paused != NULL) {
		merge(pop(&m->paused));
		return true;
	}
	if (m->ready != NULL && m->ready->merging) {
		go_on(pop(&m->ready));
		return true;
	}
	if (m->ready != NULL && m->n_listing < m->width_dirs && m->n_held < HELD_MAX) {
		struct dir *d = pop(&m->ready);

		look_further(m);
		begin(d);
		return true;
	}
	return false;
}

/* ---- wipes, and the second pass ---- */

enum fileops_result dir_wipe_for(struct entry *e)
{
	struct dir *d = dir_new(e->m, NULL, e->path, e->len, NULL, 0);

	if (d == NULL) {
		err_set(&e->op.err, ERR_NOMEM, "out of memory");
		return entry_fail(e);
	}
	d->wipe = true;
	d->waiter = e;
	d->item = e->dir == NULL ? SIZE_MAX : e->dir->item;
	/* It waits for others, which need its place. */
	e->parked = true;
	e->m->n_active--;
	if (e->dst_known && e->dst_there)
		d->dst = e->dst;
	dir_push(d);
	return FILEOPS_PENDING;
}

bool dir_enter_extra(struct entry *e)
{
	return wipe_below(e->dir, dir_new(e->m, e->dir, e->path, e->len, NULL, 0), &e->dst, true);
}

void dir_start_sweep(struct mirror *m)
{
	uint64_t limit = m->seen / 2 > DELETIONS_DEFAULT ? m->seen / 2 : DELETIONS_DEFAULT;

	if (!m->limit_open)
		return;
	m->limit_open = false;
	m->delete_left = limit > m->deleted ? (int64_t)(limit - m->deleted) : 0;
	while (m->deferred != NULL)
		dir_push(pop(&m->deferred));
}
