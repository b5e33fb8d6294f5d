/*
 * watch_inotify_events.c - the inotify backend's reading of the queue: events become change records and changes of the
 * tree, the two halves of a rename are brought together.
 *
 * The kernel queues MOVED_FROM and MOVED_TO in one go, with both parent directories locked, but other events may get
 * between them. The second half is looked for in what was read and is handled together with the first: the rename had
 * happened before either was queued. If it is not there yet, everything behind the first half waits.
 */
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>

#include "core/path.h"
#include "core/watch_inotify.h"
#include "core/watch_inotify_mode.h"

/* A half without its other within so many bytes of events is a move out of the tree. */
#define LOOK_AHEAD (256u * 1024)
#define NO_MEMORY "out of memory"
#define WRONG_TREE "renames that can't be followed"
#define NAME_EVENTS (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)

struct event {
	int wd;
	uint32_t mask, cookie;
	const char *name;
	size_t len;  /* of the name */
	size_t size; /* of all in the buffer */
};

enum half { HALF_FOUND, HALF_NONE, HALF_WAIT };

static struct ino_source *source_of(const struct wnode *n)
{
	return wnode_owner(n);
}

/* ---- records ---- */

static bool full_path(const struct wnode *dir, const char *name, size_t len, struct buf *out)
{
	buf_clear(out);
	if (!wnode_path(dir, out))
		return false;
	if (len > 0 && out->len > 0)
		(void)buf_add_byte(out, '/');
	return (len == 0 || buf_add(out, name, len)) && out->len <= PATH_BYTES_MAX;
}

static void deliver(struct ino *b, struct wnode *dir, struct change *c)
{
	c->time_ns = b->now_ns;
	watch_emit(source_of(dir)->w, c);
}

/* A name that no record can carry: what holds it is to be looked at. */
static void deliver_unnameable(struct ino *b, const struct wnode *dir)
{
	struct change c = { .kind = CHANGE_RECONCILE, .cause = "path too long", .path = "", .time_ns = b->now_ns };

	while (dir->parent != NULL && !full_path(dir, NULL, 0, &b->path))
		dir = dir->parent;
	if (dir->parent != NULL) {
		c.path = buf_str(&b->path);
		c.path_len = b->path.len;
	}
	watch_emit(source_of(dir)->w, &c);
}

static void deliver_at(struct ino *b, struct wnode *dir, const char *name, size_t len, struct change *c)
{
	if (!full_path(dir, name, len, &b->path)) {
		deliver_unnameable(b, dir);
		return;
	}
	c->path = buf_str(&b->path);
	c->path_len = b->path.len;
	deliver(b, dir, c);
}

void ino_emit(struct ino *b, struct wnode *dir, const char *name, size_t len, enum change_kind kind, bool is_dir)
{
	struct change c = { .kind = kind, .is_dir = is_dir };

	deliver_at(b, dir, name, len, &c);
}

void ino_emit_reconcile(struct ino *b, struct wnode *dir, const char *name, size_t len, const char *cause)
{
	struct change c = { .kind = CHANGE_RECONCILE, .cause = cause };

	deliver_at(b, dir, name, len, &c);
}

/* Whether the tree is sure of that directory's path: it does not hang on a look that ran ahead of the queue. */
static bool is_settled(const struct wnode *n)
{
	if (source_of(n)->doubt != NULL)
		return false;
	while (n != NULL && (n->flags & (WNODE_FRESH | WNODE_SUSPECT)) == 0)
		n = n->parent;
	return n == NULL;
}

/* Something that was not seen before, perhaps over something that was: a name that changed, not one newly made. */
static void emit_moved_in(struct ino *b, struct wnode *dir, const struct event *e)
{
	if (e->mask & IN_ISDIR) {
		ino_emit_reconcile(b, dir, e->name, e->len, "moved in");
		return;
	}
	ino_emit(b, dir, e->name, e->len, CHANGE_DELETE, false);
	ino_emit(b, dir, e->name, e->len, CHANGE_TOUCH, false);
}

static void emit_rename(struct ino *b, struct wnode *from, const struct event *f, struct wnode *to,
			const struct event *t)
{
	struct change c = { .kind = CHANGE_RENAME, .is_dir = (f->mask & IN_ISDIR) != 0 };
	const struct wnode *other;

	if (!full_path(from, f->name, f->len, &b->path2)) {
		emit_moved_in(b, to, t);
		deliver_unnameable(b, from);
		return;
	}
	other = wtree_find(&b->tree, to, t->name, t->len);
	c.exact = is_settled(from) && is_settled(to) && (other == NULL || (other->flags & WNODE_GUESS) == 0);
	c.old_path = buf_str(&b->path2);
	c.old_len = b->path2.len;
	deliver_at(b, to, t->name, t->len, &c);
}

/* ---- single events ---- */

static void dir_made(struct ino *b, struct wnode *dir, const struct event *e)
{
	struct wnode *kid = wtree_find(&b->tree, dir, e->name, e->len);

	if (kid != NULL && (kid->wd >= 0 || (kid->flags & WNODE_SKIPPED)))
		return; /* a walk was here before */
	if (kid == NULL)
		kid = wtree_add(&b->tree, dir, e->name, e->len);
	if (kid == NULL)
		ino_doubt(source_of(dir), NO_MEMORY);
	else
		ino_walk(b, kid, INO_FOUND);
}

static void moved_in(struct ino *b, struct wnode *dir, const struct event *e)
{
	struct wnode *kid;

	emit_moved_in(b, dir, e);
	if ((e->mask & IN_ISDIR) == 0)
		return;
	kid = wtree_find(&b->tree, dir, e->name, e->len);
	if (kid == NULL)
		kid = wtree_add(&b->tree, dir, e->name, e->len);
	if (kid == NULL)
		ino_doubt(source_of(dir), NO_MEMORY);
	else
		ino_walk(b, kid, INO_SILENT);
}

/* A directory left this name, but perhaps another one stands here. */
static void guess(struct ino *b, struct wnode *dir, const struct event *e)
{
	struct wnode *n = wtree_find(&b->tree, dir, e->name, e->len);

	if (n == NULL) {
		n = wtree_add(&b->tree, dir, e->name, e->len);
		if (n == NULL) {
			ino_doubt(source_of(dir), NO_MEMORY);
			return;
		}
		n->flags |= WNODE_GUESS;
	}
	ino_suspect(b, n);
}

static void removed(struct ino *b, struct wnode *dir, const struct event *e)
{
	struct wnode *kid;

	ino_emit(b, dir, e->name, e->len, CHANGE_DELETE, (e->mask & IN_ISDIR) != 0);
	if ((e->mask & IN_ISDIR) == 0)
		return;
	kid = wtree_find(&b->tree, dir, e->name, e->len);
	if (kid != NULL)
		ino_forget(b, kid);
	/* By a RENAME_EXCHANGE with something outside: what came was told before what went. */
	if (e->mask & IN_MOVED_FROM)
		guess(b, dir, e);
}

static void attributes(struct ino *b, struct wnode *dir, const struct event *e)
{
	bool is_dir = (e->mask & IN_ISDIR) != 0;
	struct wnode *kid;

	ino_emit(b, dir, e->name, e->len, CHANGE_TOUCH, is_dir);
	if (!is_dir)
		return;
	kid = e->len == 0 ? dir : wtree_find(&b->tree, dir, e->name, e->len);
	if (kid != NULL)
		ino_retry_denied(b, kid);
}

/* The kernel has dropped the watch. */
static void ignored(struct ino *b, struct wnode *n)
{
	struct ino_source *s = source_of(n);

	s->watches--;
	wtree_set_wd(&b->tree, n, -1);
	n->flags &= (uint16_t)~WNODE_SCANNED;
	b->freed = true;
	ino_suspect(b, n);
	if (n->parent == NULL)
		ino_check_root(s);
}

static void about_itself(struct ino *b, struct wnode *n, const struct event *e)
{
	if (e->mask & IN_IGNORED)
		ignored(b, n);
	else if (e->mask & IN_UNMOUNT)
		n->flags |= WNODE_MOUNT;
	else if (e->mask & IN_ATTRIB)
		attributes(b, n, e);
	else if (n->parent == NULL && (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF)))
		ino_check_root(source_of(n));
}

static void written(struct ino *b, struct wnode *n, const struct event *e)
{
	enum change_kind kind = inotify_mode_kind(&source_of(n)->w->rq, e->mask);

	if (kind != CHANGE_NONE)
		ino_emit(b, n, e->name, e->len, kind, false);
}

static void about_entry(struct ino *b, struct wnode *n, const struct event *e)
{
	if (e->mask & IN_CREATE) {
		ino_emit(b, n, e->name, e->len, CHANGE_CREATE, (e->mask & IN_ISDIR) != 0);
		if (e->mask & IN_ISDIR)
			dir_made(b, n, e);
	} else if (e->mask & (IN_DELETE | IN_MOVED_FROM)) {
		removed(b, n, e);
	} else if (e->mask & IN_MOVED_TO) {
		moved_in(b, n, e);
	} else if (e->mask & (IN_CLOSE_WRITE | IN_MODIFY)) {
		written(b, n, e);
	} else if (e->mask & IN_ATTRIB) {
		attributes(b, n, e);
	}
}

/* A directory's nodes, one in each source (or mounted place) it belongs to. */
static void collect(struct ino *b, int wd, struct wvec *out)
{
	out->n = 0;
	for (struct wnode *n = wtree_first(&b->tree, wd); n != NULL; n = wtree_more(n))
		if (!wvec_push(out, n))
			ino_doubt(source_of(n), NO_MEMORY);
}

static void overflow(struct ino *b)
{
	for (struct ino_source *s = b->sources; s != NULL; s = s->next)
		s->w->overflows++;
	ino_doubt_all(b, "overflow");
}

static void handle(struct ino *b, const struct event *e)
{
	if (e->mask & IN_Q_OVERFLOW) {
		overflow(b);
		return;
	}
	collect(b, e->wd, &b->from);
	for (size_t i = 0; i < b->from.n; i++) {
		struct wnode *n = b->from.v[i];

		if (n->flags & WNODE_DEAD) /* by what another of them led to */
			continue;
		source_of(n)->w->events++;
		if (e->len == 0)
			about_itself(b, n, e);
		else
			about_entry(b, n, e);
	}
}

/* ---- renames ---- */

/* The second half of a RENAME_EXCHANGE, whose first half has already exchanged the nodes. Or it was no exchange and is
 * a rename of its own, much later: their watch descriptors will tell. */
static bool was_swapped(struct ino *b, struct wnode *old, struct wnode *new)
{
	struct ino_source *s = source_of(old);
	bool yes = new != NULL &&old == s->swap_a &&new == s->swap_b;

	s->swap_a = s->swap_b = NULL;
	if (yes) {
		ino_suspect(b, old);
		ino_suspect(b, new);
	}
	return yes;
}

/* The new name is taken in the tree. Either it was exchanged (the kernel says so with a second rename, the other way),
 * or an empty directory was replaced: its watch goes, and a look under the other name will not find it. */
static void move_onto(struct ino *b, struct wnode *kid, struct wnode *other)
{
	if (wnode_within(kid, other) || !wtree_swap(&b->tree, kid, other)) {
		ino_doubt(source_of(kid), WRONG_TREE);
		return;
	}
	source_of(kid)->swap_a = kid;
	source_of(kid)->swap_b = other;
	ino_suspect(b, kid);
	ino_suspect(b, other);
	ino_mark_moved(b, other);
	ino_refilter(b, other);
}

static void move_dir(struct ino *b, struct wnode *kid, struct wnode *to, const struct event *t)
{
	struct wnode *other = wtree_find(&b->tree, to, t->name, t->len);

	if (other == kid || was_swapped(b, kid, other))
		return;
	if (wnode_within(to, kid)) { /* the kernel would not: the tree is wrong somewhere */
		ino_doubt(source_of(kid), WRONG_TREE);
		return;
	}
	if (other != NULL && other->wd >= 0 && other->wd == kid->wd) {
		/* It hangs on a look that ran ahead, of the very directory that comes here now. */
		ino_forget(b, other);
		other = NULL;
	}
	if (other != NULL)
		move_onto(b, kid, other);
	else if (!wtree_move(&b->tree, kid, to, t->name, t->len))
		ino_doubt(source_of(kid), NO_MEMORY);
	ino_mark_moved(b, kid);
	ino_refilter(b, kid);
}

static void renamed(struct ino *b, struct wnode *from, const struct event *f, struct wnode *to, const struct event *t)
{
	struct wnode *kid;

	emit_rename(b, from, f, to, t);
	if ((f->mask & IN_ISDIR) == 0)
		return;
	kid = wtree_find(&b->tree, from, f->name, f->len);
	if (kid == NULL) {
		moved_in(b, to, t); /* what it holds was never looked at */
	} else {
		bool sure = is_settled(kid);

		move_dir(b, kid, to, t);
		if (!sure)
			guess(b, from, f);
	}
}

static struct wnode *only_one(const struct wvec *v, const struct ino_source *s)
{
	struct wnode *one = NULL;

	for (size_t i = 0; i < v->n; i++)
		if ((v->v[i]->flags & WNODE_DEAD) == 0 && source_of(v->v[i]) == s) {
			if (one != NULL)
				return NULL;
			one = v->v[i];
		}
	return one;
}

static void each_of(struct ino *b, const struct wvec *v, const struct ino_source *s, const struct event *e,
		    void (*fn)(struct ino *b, struct wnode *dir, const struct event *e))
{
	for (size_t i = 0; i < v->n; i++)
		if ((v->v[i]->flags & WNODE_DEAD) == 0 && source_of(v->v[i]) == s)
			fn(b, v->v[i], e);
}

/* Arrivals before departures, so that the watches of a directory that moves from source to source stay. */
static void handle_pair(struct ino *b, const struct event *f, const struct event *t)
{
	collect(b, f->wd, &b->from);
	collect(b, t->wd, &b->to);
	for (struct ino_source *s = b->sources; s != NULL; s = s->next) {
		struct wnode *from = only_one(&b->from, s), *to = only_one(&b->to, s);

		if (from != NULL && to != NULL) {
			s->w->events += 2;
			renamed(b, from, f, to, t);
			s->paired = true;
			continue;
		}
		s->paired = false;
		each_of(b, &b->to, s, t, moved_in);
	}
	for (struct ino_source *s = b->sources; s != NULL; s = s->next) {
		if (s->paired)
			continue;
		s->w->events++;
		each_of(b, &b->from, s, f, removed);
	}
}

/* ---- the buffer ---- */

static bool event_at(const struct ino *b, size_t at, struct event *e)
{
	struct inotify_event raw;

	if (b->in.len - at < sizeof(raw))
		return false;
	memcpy(&raw, b->in.data + at, sizeof(raw));
	if (raw.len > b->in.len - at - sizeof(raw))
		return false;
	e->wd = raw.wd;
	e->mask = raw.mask;
	e->cookie = raw.cookie;
	e->name = b->in.data + at + sizeof(raw);
	e->len = raw.len == 0 ? 0 : strnlen(e->name, raw.len);
	e->size = sizeof(raw) + raw.len;
	return true;
}

/* Handled ahead of its turn. */
static void blank(struct ino *b, size_t at)
{
	struct inotify_event raw;

	memcpy(&raw, b->in.data + at, sizeof(raw));
	raw.mask = 0;
	raw.wd = -1;
	memcpy(b->in.data + at, &raw, sizeof(raw));
}

static enum half other_half(const struct ino *b, const struct event *f, struct event *t, size_t *at)
{
	size_t start = b->at + f->size;

	for (*at = start; event_at(b, *at, t); *at += t->size) {
		if ((t->mask & IN_MOVED_TO) && t->cookie == f->cookie)
			return HALF_FOUND;
		/* Its parent's lock was given up in between, so the other half would have been queued. */
		if ((t->mask & IN_Q_OVERFLOW) || (t->wd == f->wd && (t->mask & NAME_EVENTS)))
			return HALF_NONE;
		if (*at - start > LOOK_AHEAD)
			return HALF_NONE;
	}
	return b->hold_over ? HALF_NONE : HALF_WAIT;
}

/* Walks read ahead into the buffer, which may move: the names must be copies. */
static void keep_name(struct event *e, char *room)
{
	e->len = e->len > NAME_BYTES_MAX ? NAME_BYTES_MAX : e->len;
	memcpy(room, e->name, e->len);
	e->name = room;
}

bool ino_process(struct ino *b)
{
	char name[NAME_BYTES_MAX], other[NAME_BYTES_MAX];
	struct event e, t;

	while (event_at(b, b->at, &e)) {
		enum half half = HALF_NONE;
		size_t at = 0;

		if (e.mask & IN_MOVED_FROM)
			half = other_half(b, &e, &t, &at);
		if (half == HALF_WAIT)
			return false;
		keep_name(&e, name);
		b->at += e.size;
		if (half == HALF_FOUND) {
			keep_name(&t, other);
			blank(b, at);
			handle_pair(b, &e, &t);
		} else if (e.mask != 0) {
			b->hold_over = b->hold_over && (e.mask & IN_MOVED_FROM) == 0;
			handle(b, &e);
		}
	}
	if (b->at < b->in.len) { /* the kernel gives whole events: this is none, and what follows can't be told apart */
		b->at = b->in.len;
		ino_doubt_all(b, "an event that makes no sense");
	}
	return true;
}
