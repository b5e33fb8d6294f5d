/*
 * watch_fanotify_events.c - the fanotify backend's reading of events: from directory handles and names to records.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/path.h"
#include "core/watch_fanotify.h"

/* So many records wait for the end of the queue at most. */
#define HELD_MAX 4096u
#define LOST_TOLD_NS (60 * NS_PER_S)

/* Older headers. */
#ifndef FAN_RENAME
#define FAN_RENAME 0x10000000
#endif
#ifndef FAN_EVENT_INFO_TYPE_OLD_DFID_NAME
#define FAN_EVENT_INFO_TYPE_OLD_DFID_NAME 10
#define FAN_EVENT_INFO_TYPE_NEW_DFID_NAME 12
#endif

/* A directory and a name in it. */
struct entry {
	struct fan_key dir;
	const char *name;
	size_t len;
	int fsid[2];
	bool there;
};

struct event {
	uint64_t mask;
	pid_t pid;
	bool is_dir, ours;
	struct entry at, old, new;
	struct fan_fs *fs;
};

/* ---- parsing ---- */

static void parse_entry(const char *p, size_t len, struct entry *out)
{
	struct fanotify_event_info_fid info;
	struct file_handle fh;
	size_t at = offsetof(struct fanotify_event_info_fid, handle), bytes;

	if (len < at + sizeof(fh))
		return;
	memcpy(&info, p, at);
	memcpy(&fh, p + at, sizeof(fh));
	at += sizeof(fh);
	bytes = fh.handle_bytes;
	if (bytes > FAN_HANDLE_MAX - 4 || at + bytes >= len)
		return;
	memcpy(out->fsid, &info.fsid, sizeof(out->fsid));
	memcpy(out->dir.bytes, &fh.handle_type, 4);
	memcpy(out->dir.bytes + 4, p + at, bytes);
	out->dir.len = (uint32_t)bytes + 4;
	out->name = p + at + bytes;
	out->len = strnlen(out->name, len - at - bytes);
	out->there = out->len > 0 && at + bytes + out->len < len;
}

static void parse(const char *p, const struct fanotify_event_metadata *m, struct event *e)
{
	size_t at = m->metadata_len;

	*e = (struct event){ .mask = m->mask, .pid = m->pid, .is_dir = (m->mask & FAN_ONDIR) != 0 };
	while (at + sizeof(struct fanotify_event_info_header) <= m->event_len) {
		struct fanotify_event_info_header h;
		struct entry *out = NULL;

		memcpy(&h, p + at, sizeof(h));
		if (h.len < sizeof(h) || at + h.len > m->event_len)
			return;
		if (h.info_type == FAN_EVENT_INFO_TYPE_DFID_NAME)
			out = &e->at;
		else if (h.info_type == FAN_EVENT_INFO_TYPE_OLD_DFID_NAME)
			out = &e->old;
		else if (h.info_type == FAN_EVENT_INFO_TYPE_NEW_DFID_NAME)
			out = &e->new;
		if (out != NULL)
			parse_entry(p + at, h.len, out);
		at += h.len;
	}
}

static struct fan_fs *fs_of(const struct fan *b, const struct entry *at)
{
	struct fan_fs *f = at->there ? b->filesystems : NULL;

	while (f != NULL && memcmp(f->fsid, at->fsid, sizeof(f->fsid)) != 0)
		f = f->next;
	return f;
}

/* ---- records ---- */

static struct fan_held *hold(struct fan *b, const struct fan_source *s, const struct change *c)
{
	struct fan_held *h;

	if (b->n_held >= HELD_MAX)
		fan_flush(b, false);
	if (b->n_held == b->cap_held) {
		size_t cap = b->cap_held * 2 + 64;
		struct fan_held *more = realloc(b->held, cap * sizeof(*more));

		if (more == NULL) {
			b->lost = true;
			return NULL;
		}
		b->held = more;
		b->cap_held = cap;
	}
	h = &b->held[b->n_held];
	*h = (struct fan_held){ .w = s->w, .c = *c };
	h->c.time_ns = b->now_ns;
	return h;
}

static bool keep_path(struct fan *b, const char *path, size_t len, size_t *at)
{
	*at = b->text.len;
	if (buf_add(&b->text, path, len) && buf_add_byte(&b->text, 0))
		return true;
	/* Incomplete text must not be delivered. */
	b->text.len = *at;
	b->text.failed = false;
	b->lost = true;
	return false;
}

static void record(struct fan *b, const struct fan_source *s, const struct change *c, bool unsettled)
{
	struct fan_held *h = hold(b, s, c);

	if (h == NULL)
		return;
	h->unsettled = unsettled;
	if (!keep_path(b, c->path, c->path_len, &h->at) ||
	    (c->old_path != NULL && !keep_path(b, c->old_path, c->old_len, &h->old_at)))
		return;
	b->n_held++;
}

void fan_reconcile(struct fan *b, struct fan_source *s, const char *path, size_t len, const char *cause)
{
	struct change c = { .kind = CHANGE_RECONCILE, .path = path, .path_len = len, .cause = cause };

	record(b, s, &c, false);
}

void fan_forget_held(struct fan *b, const struct watched *w)
{
	size_t n = 0, spoiled = 0;

	for (size_t i = 0; i < b->n_held; i++) {
		if (b->held[i].w == w)
			continue;
		spoiled += i < b->n_spoiled;
		b->held[n++] = b->held[i];
	}
	b->n_held = n;
	b->n_spoiled = spoiled;
}

static void deliver(struct fan *b, const char *text, size_t i, bool queue_empty)
{
	struct fan_held *h = &b->held[i];

	h->c.path = text + h->at;
	if (h->c.old_path != NULL)
		h->c.old_path = text + h->old_at;
	h->c.exact = h->c.kind == CHANGE_RENAME && (!h->unsettled || (queue_empty && i >= b->n_spoiled));
	watch_emit(h->w, &h->c);
}

/* Why everything is compared, once in a while. */
static void tell_lost(struct fan *b)
{
	if (b->lost_errnum != 0 && (b->lost_told_ns == 0 || b->now_ns - b->lost_told_ns >= LOST_TOLD_NS)) {
		log_warn("fanotify: a directory in which something changed could not be opened: %s: everything will be "
			 "compared",
			 strerror(b->lost_errnum));
		b->lost_told_ns = b->now_ns;
	}
	b->lost_errnum = 0;
}

void fan_flush(struct fan *b, bool queue_empty)
{
	const char *text = buf_str(&b->text);

	for (size_t i = 0; i < b->n_held; i++)
		deliver(b, text, i, queue_empty);
	b->n_held = b->n_spoiled = 0;
	buf_clear(&b->text);
	if (b->lost) {
		struct change all = { .kind = CHANGE_RECONCILE, .path = "", .cause = "events lost" };

		b->lost = false;
		tell_lost(b);
		all.time_ns = b->now_ns;
		for (struct fan_source *s = b->sources; s != NULL; s = s->next)
			if (!s->gone)
				watch_emit(s->w, &all);
	}
	if (queue_empty)
		fan_cache_settle(b->cache);
}

/* ---- whose it is ---- */

static bool in_source(const struct fan_source *s, const struct fan_node *dir)
{
	if (s->gone || (s->w->rq.one_file_system && fan_node_view(dir) != s->root_key.view))
		return false;
	while (dir != NULL && dir != s->root)
		dir = fan_node_parent(dir);
	return dir != NULL;
}

/* The path of a name in a directory that lies in the source; false: no record can carry it. */
static bool name_path(const struct fan_source *s, const struct fan_node *dir, const struct entry *at, struct buf *out)
{
	if (!fan_node_path(dir, s->root, out))
		return false;
	if (at->len == 1 && at->name[0] == '.')
		return true;
	if (out->len > 0)
		(void)buf_add_byte(out, '/');
	return buf_add(out, at->name, at->len) && out->len <= PATH_BYTES_MAX;
}

static void too_long(struct fan *b, struct fan_source *s, const struct fan_node *dir)
{
	while (dir != s->root && !(fan_node_path(dir, s->root, &b->path) && b->path.len <= PATH_BYTES_MAX))
		dir = fan_node_parent(dir);
	if (dir == s->root)
		buf_clear(&b->path);
	fan_reconcile(b, s, buf_str(&b->path), b->path.len, "path too long");
}

typedef void per_source(struct fan *b, struct fan_source *s, struct event *e, const struct fan_node *dir);

/* Calls for each source that holds the directory. */
static void for_sources(struct fan *b, struct event *e, const struct fan_node *dir, per_source *fn)
{
	for (const struct fan_node *n = dir; n != NULL; n = fan_node_parent(n)) {
		if (!fan_node_pinned(n))
			continue;
		for (struct fan_source *s = b->sources; s != NULL; s = s->next) {
			if (s->root != n || !in_source(s, dir))
				continue;
			e->ours = true;
			s->w->events++;
			fn(b, s, e, dir);
		}
	}
}

static void reconcile_dir(struct fan *b, struct fan_source *s, struct event *e, const struct fan_node *dir)
{
	(void)e;
	too_long(b, s, dir);
}

/* The directory of a name; NULL in *dir where it is not plainly ours. What that means is told at once: to resolve
 * another one may drop what was found of this one. */
static enum fan_found resolve_dir(struct fan *b, struct fan_view *v, struct event *e, const struct entry *at,
				  struct fan_node **dir)
{
	enum fan_found found = fan_resolve(b, v, &at->dir, dir);

	if (found == FAN_ABOVE)
		for_sources(b, e, *dir, reconcile_dir);
	else if (found == FAN_UNSURE)
		b->lost = true;
	if (found != FAN_OURS)
		*dir = NULL;
	return found;
}

/* ---- events with one name ---- */

static void emit_kind(struct fan *b, struct fan_source *s, const struct event *e, enum change_kind kind)
{
	struct change c = { .kind = kind, .is_dir = e->is_dir, .pid = e->pid };

	c.path = buf_str(&b->path);
	c.path_len = b->path.len;
	record(b, s, &c, false);
}

/* Something came in from elsewhere under that name. */
static void emit_moved_in(struct fan *b, struct fan_source *s, const struct event *e)
{
	if (e->is_dir) {
		fan_reconcile(b, s, buf_str(&b->path), b->path.len, "moved in");
		return;
	}
	emit_kind(b, s, e, CHANGE_DELETE);
	emit_kind(b, s, e, CHANGE_TOUCH);
}

/* Their order in one event is unknown: whatever it was, the name's present state is looked at. */
static void emit_name(struct fan *b, struct fan_source *s, struct event *e, const struct fan_node *dir)
{
	if (!name_path(s, dir, &e->at, &b->path)) {
		too_long(b, s, dir);
		return;
	}
	if (e->mask & (FAN_DELETE | FAN_MOVED_FROM))
		emit_kind(b, s, e, CHANGE_DELETE);
	if (e->mask & FAN_MOVED_TO)
		emit_moved_in(b, s, e);
	if (e->mask & FAN_CREATE) {
		emit_kind(b, s, e, CHANGE_CREATE);
		if (e->is_dir && e->fs->subvolumes && fan_came_filled(b, e->at.dir.view, &e->at.dir, e->at.name))
			fan_reconcile(b, s, buf_str(&b->path), b->path.len, "subvolume");
	}
	if (e->mask & (FAN_CLOSE_WRITE | FAN_ATTRIB))
		emit_kind(b, s, e, CHANGE_TOUCH);
	else if ((e->mask & FAN_MODIFY) && s->w->rq.want_modify)
		emit_kind(b, s, e, CHANGE_MODIFY);
}

/* Whether the directory is known to lie outside every source, whichever mount it is seen through. */
static bool is_outside(struct fan *b, const struct fan_fs *fs, struct entry *at)
{
	for (const struct fan_view *v = b->views; v != NULL; v = v->next) {
		const struct fan_node *n;

		if (v->fs != fs)
			continue;
		at->dir.view = v->id;
		n = fan_cache_find(b->cache, &at->dir);
		if (n == NULL || !fan_node_denied(n))
			return false;
	}
	return true;
}

/* A directory is moved or removed: what was resolved since the queue was last empty may have run ahead of that. */
static void names_in_doubt(struct fan *b)
{
	b->n_spoiled = b->n_held;
	fan_cache_drop_unsettled(b->cache);
	fan_place_roots(b);
}

static void check_above(struct fan *b, const struct event *e, const struct entry *at)
{
	if (at->there && fan_is_above(b, e->fs, &at->dir, at->name, at->len)) {
		fan_cache_readmit(b->cache);
		b->check_roots = true;
	}
}

static void drop_child(struct fan *b, const struct fan_node *dir, const struct entry *at)
{
	struct fan_node *n = fan_cache_child(b->cache, dir, at->name, at->len);

	if (n != NULL) {
		fan_cache_drop(b->cache, n);
		fan_place_roots(b);
	}
}

static void on_name(struct fan *b, struct event *e)
{
	bool moved = e->is_dir && (e->mask & (FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO)) != 0;

	if (moved) {
		check_above(b, e, &e->at);
		if (is_outside(b, e->fs, &e->at))
			return;
		names_in_doubt(b);
	}
	for (struct fan_view *v = b->views; v != NULL; v = v->next) {
		struct fan_node *dir;

		if (v->fs != e->fs)
			continue;
		e->at.dir.view = v->id;
		if (resolve_dir(b, v, e, &e->at, &dir) != FAN_OURS)
			continue;
		for_sources(b, e, dir, emit_name);
		if (moved)
			drop_child(b, dir, &e->at);
		if (e->is_dir && (e->mask & FAN_MOVED_TO))
			fan_cache_readmit(b->cache);
	}
}

/* ---- renames ---- */

static uint64_t hash_entry(const struct entry *at)
{
	uint64_t h = 1469598103934665603u;

	for (size_t i = 0; i < at->dir.len; i++)
		h = (h ^ at->dir.bytes[i]) * 1099511628211u;
	for (size_t i = 0; i < at->len; i++)
		h = (h ^ (unsigned char)at->name[i]) * 1099511628211u;
	return h;
}

/* An exchange is two events, and so is there and back again. Either way each of the two names is resolved anew. */
static bool is_reverse(struct fan *b, const struct event *e)
{
	struct fan_recent r = { .fs = e->fs, .from = hash_entry(&e->old), .to = hash_entry(&e->new) };
	bool found = false;

	for (unsigned i = 0; i < FAN_RECENT && !found; i++)
		found = b->recent[i].fs == r.fs && b->recent[i].from == r.to && b->recent[i].to == r.from;
	b->recent[b->n_recent++ % FAN_RECENT] = r;
	return found;
}

static void emit_rename(struct fan *b, struct fan_source *s, const struct event *e, const struct fan_node *from,
			const struct fan_node *to)
{
	struct change c = { .kind = CHANGE_RENAME, .is_dir = e->is_dir, .pid = e->pid };
	bool from_ok = name_path(s, from, &e->old, &b->path2), to_ok = name_path(s, to, &e->new, &b->path);

	if (from_ok && to_ok) {
		c.path = buf_str(&b->path);
		c.path_len = b->path.len;
		c.old_path = buf_str(&b->path2);
		c.old_len = b->path2.len;
		record(b, s, &c, !fan_node_settled(from) || !fan_node_settled(to));
		if (e->is_dir)
			fan_points_renamed(b, s, &b->path2, &b->path);
		return;
	}
	too_long(b, s, from);
	too_long(b, s, to);
}

/* `from` and `to`: the directories, NULL where it is none of ours. */
static void emit_move(struct fan *b, struct fan_source *s, struct event *e, const struct fan_node *from,
		      const struct fan_node *to)
{
	bool out = from != NULL && in_source(s, from), in = to != NULL && in_source(s, to);

	if (!out && !in)
		return;
	e->ours = true;
	s->w->events++;
	if (out && in)
		emit_rename(b, s, e, from, to);
	else if (!name_path(s, out ? from : to, out ? &e->old : &e->new, &b->path))
		too_long(b, s, out ? from : to);
	else if (out)
		emit_kind(b, s, e, CHANGE_DELETE);
	else
		emit_moved_in(b, s, e);
}

static void move_child(struct fan *b, const struct event *e, struct fan_node *from, struct fan_node *to, bool reverse)
{
	struct fan_node *n = from == NULL ? NULL : fan_cache_child(b->cache, from, e->old.name, e->old.len);

	if (n != NULL && to != NULL && !reverse) {
		fan_cache_move(b->cache, n, to, e->new.name, e->new.len);
	} else {
		if (to != NULL && (reverse || n == NULL))
			drop_child(b, to, &e->new);
		/* The first drop may have taken the other with it. */
		if (from != NULL && fan_cache_find(b->cache, &e->old.dir) == from)
			drop_child(b, from, &e->old);
	}
	fan_place_roots(b);
}

static bool was_dropped(struct fan *b, const struct entry *at, const struct fan_node *dir)
{
	return dir != NULL && fan_cache_find(b->cache, &at->dir) != dir;
}

static void rename_in_view(struct fan *b, struct fan_view *v, struct event *e, bool reverse)
{
	struct fan_node *from, *to;
	enum fan_found old, new;

	e->old.dir.view = e->new.dir.view = v->id;
	old = resolve_dir(b, v, e, &e->old, &from);
	new = resolve_dir(b, v, e, &e->new, &to);
	/* To place the second may have dropped the first. */
	for (int i = 0; i < 4 && was_dropped(b, &e->old, from); i++) {
		old = resolve_dir(b, v, e, &e->old, &from);
		new = resolve_dir(b, v, e, &e->new, &to);
	}
	if (was_dropped(b, &e->old, from)) {
		from = NULL;
		b->lost = true;
	}
	if (was_dropped(b, &e->new, to)) {
		to = NULL;
		b->lost = true;
	}
	for (struct fan_source *s = b->sources; s != NULL && (from != NULL || to != NULL); s = s->next)
		emit_move(b, s, e, from, to);
	if (e->is_dir && (old != FAN_NOT_OURS || new != FAN_NOT_OURS)) {
		fan_cache_readmit(b->cache);
		move_child(b, e, from, to, reverse);
	}
}

static void on_rename(struct fan *b, struct event *e)
{
	bool reverse = false;

	if (e->is_dir) {
		check_above(b, e, &e->old);
		check_above(b, e, &e->new);
		if (is_outside(b, e->fs, &e->old) && is_outside(b, e->fs, &e->new))
			return;
		names_in_doubt(b);
		reverse = is_reverse(b, e);
	}
	for (struct fan_view *v = b->views; v != NULL; v = v->next)
		if (v->fs == e->fs)
			rename_in_view(b, v, e, reverse);
}

/* ---- the stream ---- */

static void on_overflow(struct fan *b)
{
	b->overflows++;
	b->n_spoiled = b->n_held;
	fan_cache_clear(b->cache);
	fan_cache_readmit(b->cache);
	fan_place_roots(b);
	b->check_roots = true;
	for (struct fan_source *s = b->sources; s != NULL; s = s->next) {
		s->w->overflows++;
		if (!s->gone)
			fan_reconcile(b, s, "", 0, "overflow");
	}
}

static void handle_one(struct fan *b, const char *p, const struct fanotify_event_metadata *m)
{
	struct event e;

	if (m->mask & FAN_Q_OVERFLOW) {
		on_overflow(b);
		return;
	}
	parse(p, m, &e);
	if (e.old.there && e.new.there && (e.fs = fs_of(b, &e.old)) != NULL)
		on_rename(b, &e);
	else if (e.at.there && (e.fs = fs_of(b, &e.at)) != NULL)
		on_name(b, &e);
	if (e.fs != NULL) {
		e.fs->heard++;
		e.fs->unrelated += !e.ours;
		b->related += e.ours;
	}
}

void fan_handle(struct fan *b, const char *data, size_t len, uint64_t *events)
{
	while (len >= sizeof(struct fanotify_event_metadata)) {
		struct fanotify_event_metadata m;

		memcpy(&m, data, sizeof(m));
		if (m.event_len < sizeof(m) || m.event_len > len || m.vers != FANOTIFY_METADATA_VERSION) {
			b->lost = true;
			return;
		}
		handle_one(b, data, &m);
		(*events)++;
		data += m.event_len;
		len -= m.event_len;
	}
}
