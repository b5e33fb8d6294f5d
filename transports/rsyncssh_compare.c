/*
 * rsyncssh_compare.c - the reconcile of a bidirectional sync: both sides' directories are listed and decided on name by
 * name. What the filter excludes is not entered on either side.
 *
 * Directories wait in a queue; a slice of them is listed at a time, all of its calls ahead, so that memory stays
 * bounded by the slice and by what differs.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/path.h"
#include "transports/rsyncssh_twoway_private.h"

#define SLICE_MAX 1000u
/* What is yielded is looked at again as single paths, up to so many a comparison. */
#define YIELDS_MAX 5000u

/* ---- the queue ---- */

static bool queue(struct twoway *t, const char *path, size_t len, bool no_source, bool no_target, uint64_t dev)
{
	struct pair_dir *d = malloc(sizeof(*d) + len + 1);

	if (d == NULL)
		return false;
	*d = (struct pair_dir){ .no_source = no_source, .no_target = no_target, .dev = dev, .len = len };
	memcpy(d->path, path, len);
	d->path[len] = '\0';
	if (t->dirs_end != NULL)
		t->dirs_end->next = d;
	else
		t->dirs = d;
	t->dirs_end = d;
	return true;
}

static void free_dirs(struct pair_dir *d)
{
	while (d != NULL) {
		struct pair_dir *next = d->next;

		free(d);
		d = next;
	}
}

void compare_forget(struct twoway *t)
{
	free_dirs(t->dirs);
	free_dirs(t->slice);
	t->dirs = t->dirs_end = t->slice = NULL;
	t->n_slice = 0;
}

/* Cut the next slice off the queue, and want its listings. */
static bool next_slice(struct twoway *t)
{
	struct pair_dir *last = NULL;

	remote_entries_done(&t->seen);
	remote_entries_done(&t->present);
	t->names.n = 0;
	t->n_slice = 0;
	t->slice = t->dirs;
	for (struct pair_dir *d = t->dirs; d != NULL && t->n_slice < SLICE_MAX; d = d->next) {
		last = d;
		t->n_slice++;
		if (!d->no_target && !twoway_want(t, d->path, d->len))
			return false;
	}
	if (last != NULL) {
		t->dirs = last->next;
		last->next = NULL;
	}
	if (t->dirs == NULL)
		t->dirs_end = NULL;
	return twoway_spans(t);
}

bool compare_issue(struct twoway *t)
{
	if (t->slice == NULL && t->dirs != NULL && !next_slice(t)) {
		twoway_no_memory(t);
		return false;
	}
	return twoway_issue_names(t, REMOTE_LIST);
}

void compare_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data)
{
	(void)status;
	(void)said;
	(void)len;
	twoway_answer_names(t, n, data, &t->seen);
}

/* ---- one directory ---- */

struct local {
	char *name; /* the whole path */
	size_t len;
	enum look look;
	struct stat st;
};

struct locals {
	struct local *v;
	size_t n, cap;
};

static void free_locals(struct locals *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i].name);
	free(l->v);
}

static int compare_locals(const void *a, const void *b)
{
	const struct local *x = a, *y = b;

	return path_compare(x->name, x->len, y->name, y->len);
}

static bool add_local(struct locals *l, const struct pair_dir *d, const char *name)
{
	size_t n = strlen(name), at = d->len == 0 ? 0 : d->len + 1;
	struct local *e;

	if (l->n == l->cap) {
		size_t cap = l->cap == 0 ? 64 : l->cap * 2;
		struct local *v = realloc(l->v, cap * sizeof(*v));

		if (v == NULL)
			return false;
		l->v = v;
		l->cap = cap;
	}
	e = &l->v[l->n];
	*e = (struct local){ .name = malloc(at + n + 1), .len = at + n };
	if (e->name == NULL)
		return false;
	memcpy(e->name, d->path, d->len);
	if (at > 0)
		e->name[d->len] = '/';
	memcpy(e->name + at, name, n + 1);
	l->n++;
	return true;
}

/* Names first, then a look at each, so that one directory is open at a time. */
static int read_names(struct twoway *t, const struct pair_dir *d, struct locals *out, struct err *err)
{
	int fd = looker_open_dir(&t->looker, d->path, d->len, err);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int rc = 0;

	if (dir == NULL) {
		if (fd < 0)
			return -1;
		err_errno(err, errno, "cannot read %.300s", d->path);
		(void)close(fd);
		return -1;
	}
	for (errno = 0; rc == 0 && (e = readdir(dir)) != NULL; errno = 0)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && !add_local(out, d, e->d_name))
			rc = err_set(err, ERR_NOMEM, "out of memory");
	if (rc == 0 && errno != 0)
		rc = err_errno(err, errno, "cannot read %.300s", d->path);
	(void)closedir(dir);
	return rc;
}

static int list_source(struct twoway *t, const struct pair_dir *d, struct locals *out, struct err *err)
{
	size_t kept = 0;
	int rc = read_names(t, d, out, err);

	for (size_t i = 0; i < out->n; i++) {
		struct local *e = &out->v[i];

		/* What can't be looked at makes the whole directory unknown: it must not pass for absent. */
		if (rc == 0)
			rc = looker_look(&t->looker, e->name, e->len, &e->look, &e->st, err);
		if (rc == 0 && e->look != LOOK_ABSENT)
			out->v[kept++] = *e;
		else
			free(e->name);
	}
	out->n = kept;
	if (kept > 0)
		qsort(out->v, kept, sizeof(struct local), compare_locals);
	return rc;
}

/* One name on both sides. */
struct both {
	bool reachable; /* what is above it is a directory at the target, too */
	const char *path;
	size_t len;
	enum look look; /* of the source */
	const struct stat *st;
	struct twoway_state source, target;
	const char *head;
	bool lost;	    /* perhaps: nothing is agreed on, and the archive is in doubt */
	uint64_t dev;	    /* where the target's stands, or would */
	uint64_t dev_below; /* where its entries stand, or would */
};

static bool descend(struct twoway *t, const struct both *b, enum twoway_action action)
{
	bool here = b->look == LOOK_DIR, there = b->target.look == LOOK_DIR;

	if (!here && !there)
		return true;
	if (here && t->env->opt->one_file_system && b->st->st_dev != t->work->items[0].st.st_dev)
		return true;
	if (here)
		return queue(t, b->path, b->len, false, !there, there ? b->dev_below : b->dev);
	/* Ours is a deletion of what is below; otherwise the other host tells us, unless this one has lost it. */
	if (action == TWOWAY_DELETE || action == TWOWAY_SEND || (action == TWOWAY_LOSE && b->look == LOOK_ABSENT) ||
	    (action == TWOWAY_THEIRS && b->look == LOOK_ABSENT && b->lost))
		return queue(t, b->path, b->len, true, false, b->dev_below);
	return true;
}

static struct change *add_change(struct twoway *t, const struct both *b, enum twoway_action action)
{
	struct change *c = twoway_add(t, b->path, b->len, b->head);

	if (c == NULL)
		return NULL;
	c->look = b->look;
	if (b->st != NULL)
		c->st = *b->st;
	c->source = b->source;
	c->target = b->target;
	c->action = action;
	c->apart = b->dev != t->top_dev;
	c->reachable = b->reachable;
	return c;
}

static bool act_on(struct twoway *t, const struct both *b, enum twoway_action action)
{
	struct change *c;
	int64_t ask_ns;

	switch (action) {
	case TWOWAY_EQUAL:
		twoway_note(t, b->path, b->len, &b->source);
		return true;
	case TWOWAY_WIN:
		twoway_conflict(t, b->path, b->len, &b->source, &b->target, "ours wins");
		c = add_change(t, b, action);
		return c != NULL && twoway_push(&t->sends, c);
	case TWOWAY_SEND:
		c = add_change(t, b, action);
		return c != NULL && twoway_push(&t->sends, c) &&
		       (b->target.look != LOOK_DIR || b->look == LOOK_DIR || twoway_push(&t->deletes, c));
	case TWOWAY_DELETE:
		if (!t->work->may_delete)
			return true;
		c = add_change(t, b, action);
		return c != NULL && twoway_push(&t->deletes, c);
	default:
		/* Nobody sends unasked what was lost here. */
		if (b->lost && twoway_asks(action, TWOWAY_ASK_LOOKS, &b->target, t->times, &ask_ns)) {
			c = add_change(t, b, action);
			if (c != NULL)
				c->ask_ns = ask_ns;
			return c != NULL && twoway_push(&t->asks, c);
		}
		if (b->lost && b->look == LOOK_ABSENT)
			return true;
		if (t->yields++ < YIELDS_MAX)
			twoway_again(t, b->path, b->len);
		return true;
	}
}

static bool wanted(const struct twoway *t, const struct both *b)
{
	const struct filter *f = t->env->opt->filter;

	if (path_has_temp(b->path, b->len))
		return false;
	if (b->look != LOOK_ABSENT &&
	    (!twoway_mirrored(&t->what, b->look) || !filter_includes(f, b->path, b->len, b->look == LOOK_DIR)))
		return false;
	return b->target.look == LOOK_ABSENT || (twoway_mirrored(&t->what, b->target.look) &&
						 filter_includes(f, b->path, b->len, b->target.look == LOOK_DIR));
}

static bool decide(struct twoway *t, struct both *b)
{
	struct twoway_state agreed;
	struct err err = ERR_INIT;
	enum twoway_action action;

	if (!wanted(t, b))
		return true;
	t->listed++;
	if (twoway_state_of(&t->what, &t->owners, &t->looker, b->path, b->len, b->look, b->st, &b->source, &err) < 0) {
		t->env->found(t->env->ctx, b->path, b->len, VERDICT_RECONCILE, &err);
		return true;
	}
	if (archive_get(t->archive, b->path, b->len, &agreed, &err) < 0) {
		twoway_down(t, &err);
		return true;
	}
	b->lost = agreed.look == LOOK_ABSENT && archive_in_doubt(t->archive);
	action = twoway_decide(&b->source, &b->target, &agreed, t->times);
	if (action != TWOWAY_EQUAL)
		log_debug(LOG_CAT_RECORD, "%.*s: %s", (int)(b->len < 1000 ? b->len : 1000), b->path,
			  twoway_action_name(action));
	if (twoway_waits(action, 0, &b->source, &agreed)) {
		twoway_older(&err);
		t->env->found(t->env->ctx, b->path, b->len, VERDICT_RETRY, &err);
		return true;
	}
	if (action == TWOWAY_DELETE && twoway_put_away(t, b->path)) {
		twoway_away(&err);
		t->env->found(t->env->ctx, b->path, b->len, VERDICT_RETRY, &err);
		return true;
	}
	return act_on(t, b, action) && descend(t, b, action);
}

struct orphans {
	struct twoway *t;
	const struct locals *locals;
	struct changes paths; /* as changes, for their memory */
	bool no_memory;
};

static bool find_orphan(void *ctx, const char *path, size_t len, const struct twoway_state *state)
{
	struct orphans *o = ctx;
	struct local key = { .len = len };
	char *copy;

	(void)state;
	if (remote_entries_find(&o->t->seen, path, len) != NULL)
		return true;
	copy = text_dup(path, len);
	if (copy == NULL) {
		o->no_memory = true;
		return false;
	}
	key.name = copy;
	if (o->locals->n == 0 ||
	    bsearch(&key, o->locals->v, o->locals->n, sizeof(struct local), compare_locals) == NULL) {
		struct change *c = twoway_add(o->t, path, len, NULL);

		if (c == NULL || !twoway_push(&o->paths, c))
			o->no_memory = true;
	}
	free(copy);
	return !o->no_memory;
}

/* What neither side has any more. */
static void drop_orphans(struct twoway *t, const struct pair_dir *d, const struct locals *locals)
{
	const struct twoway_state absent = { .look = LOOK_ABSENT };
	struct orphans o = { .t = t, .locals = locals };
	struct err err = ERR_INIT;

	if (archive_each(t->archive, d->path, d->len, true, find_orphan, &o, &err) < 0)
		twoway_down(t, &err);
	for (size_t i = 0; i < o.paths.n; i++) {
		twoway_note(t, o.paths.v[i]->path, o.paths.v[i]->len, &absent);
		o.paths.v[i]->fate = FATE_SETTLED;
	}
	free(o.paths.v);
	if (o.no_memory)
		twoway_no_memory(t);
}

/* The first entry of the target, which are sorted, that is not before this directory's. */
static size_t first_of(const struct twoway *t, const struct pair_dir *d)
{
	size_t lo = 0, hi = t->seen.n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct remote_entry *x = t->seen.list[mid];

		if (path_compare(x->path, x->len, d->path, d->len) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* A child of the directory; entries of its subdirectories may lie between, when they are in the same slice. */
static bool is_child(const struct remote_entry *x, const struct pair_dir *d)
{
	return path_below(x->path, x->len, d->path, d->len) && path_parent_len(x->path, x->len) == d->len;
}

static bool merge(struct twoway *t, const struct pair_dir *d, const struct locals *l)
{
	size_t i = 0, j = d->no_target ? t->seen.n : first_of(t, d);
	bool ok = true;

	while (ok && !t->broken) {
		const struct remote_entry *x;
		const struct local *e = i < l->n ? &l->v[i] : NULL;
		struct both b = { .look = LOOK_ABSENT,
				  .target = { .look = LOOK_ABSENT },
				  .head = "",
				  .reachable = !d->no_target,
				  .dev = d->dev,
				  .dev_below = d->dev };
		int order;

		while (j < t->seen.n && path_below(t->seen.list[j]->path, t->seen.list[j]->len, d->path, d->len) &&
		       !is_child(t->seen.list[j], d))
			j++;
		x = j < t->seen.n && is_child(t->seen.list[j], d) ? t->seen.list[j] : NULL;
		if (x == NULL && e == NULL)
			break;
		order = e == NULL ? 1 : x == NULL ? -1 : path_compare(e->name, e->len, x->path, x->len);
		if (order <= 0) {
			b.path = e->name;
			b.len = e->len;
			b.look = e->look;
			b.st = &e->st;
			i++;
		}
		if (order >= 0) {
			b.path = x->path;
			b.len = x->len;
			b.target = x->state;
			b.head = x->head;
			b.dev_below = x->dev;
			j++;
		}
		ok = decide(t, &b);
	}
	return ok;
}

static bool was_unknown(const struct twoway *t, const struct pair_dir *d)
{
	for (size_t i = 0; i < t->names.n; i++)
		if (t->names.v[i].unknown && t->names.v[i].len == d->len &&
		    memcmp(t->names.v[i].path, d->path, d->len) == 0)
			return true;
	return false;
}

static void compare_dir(struct twoway *t, const struct pair_dir *d)
{
	struct locals locals = { 0 };
	struct err err = ERR_INIT;

	if (!d->no_target && t->trouble[0] != '\0' && was_unknown(t, d)) {
		err_set(&err, ERR_DENIED, "can't look at the target: %s", t->trouble);
		t->env->found(t->env->ctx, d->path, d->len, VERDICT_RECONCILE, &err);
		return;
	}
	if (!d->no_source && list_source(t, d, &locals, &err) < 0) {
		free_locals(&locals);
		if (err.class != ERR_GONE) /* that is an event on its way */
			t->env->found(t->env->ctx, d->path, d->len, VERDICT_RECONCILE, &err);
		return;
	}
	if (!merge(t, d, &locals))
		twoway_no_memory(t);
	if (!t->broken)
		drop_orphans(t, d, &locals);
	free_locals(&locals);
}

/* What a comparison begins with is itself compared, unless it is the root. */
static bool start_at(struct twoway *t, size_t i)
{
	const struct transport_item *item = &t->work->items[i];
	struct both b = { .path = item->path, .len = item->len, .look = item->look, .st = &item->st };
	struct err err = ERR_INIT;
	const struct remote_entry *x;

	if (item->len == 0)
		return queue(t, "", 0, false, !t->set_up, t->top_dev);
	if (twoway_target(t, item->path, item->len, &b.target, &b.head, &b.dev) < 0) {
		err_set(&err, ERR_DENIED, "can't look at the target: %s", t->trouble);
		twoway_settle(t, i, VERDICT_RETRY, &err);
		return true;
	}
	b.reachable = twoway_reachable(t, item->path, item->len);
	x = remote_entries_find(&t->seen, item->path, item->len);
	b.dev_below = x == NULL ? b.dev : x->dev;
	return decide(t, &b);
}

enum phase_id compare_tops_over(struct twoway *t)
{
	looker_done(&t->looker);
	for (size_t i = 0; i < t->work->n_items && !t->broken; i++)
		if (!start_at(t, i)) {
			twoway_no_memory(t);
			return PHASE_NONE;
		}
	return PHASE_LIST;
}

enum phase_id compare_over(struct twoway *t)
{
	struct pair_dir *slice = t->slice;

	looker_done(&t->looker);
	remote_entries_sort(&t->seen);
	for (struct pair_dir *d = slice; d != NULL && !t->broken; d = d->next)
		compare_dir(t, d);
	free_dirs(slice);
	t->slice = NULL;
	return t->dirs != NULL && !t->broken ? PHASE_LIST : PHASE_TREES;
}
