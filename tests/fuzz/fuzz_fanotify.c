/* LINK: core/watch_fanotify_events.c core/fan_cache.c core/path.c core/err.c core/buf.c core/log.c core/utf8.c
 * core/clock.c core/safe_open.c core/fsutil.c */
/* MODULE: core/watch_fanotify_events.c core/fan_cache.c */
/* ROUNDS: 2000 */
/*
 * The fanotify backend's reading of a buffer that says anything: events of two file systems, three mounts and four
 * sources (one in another, one that shares its directories through a second mount, one that keeps to its file system),
 * with directories that are known, elsewhere, gone or too deep; and lengths, handles and names that lie. What the
 * kernel would say of a directory is a table here, which the script changes ahead of the events, as happens outside.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>

#include "core/path.h"
#include "core/watch_fanotify.h"

#ifndef FAN_RENAME
#define FAN_RENAME 0x10000000
#endif

#define BUFFER_MAX 16384u
#define OPS_MAX 48u
#define DIRS 40u
#define OUTSIDE 1u /* the top of what belongs to nobody */
#define DEEP 20u   /* from here on each lies in the one before, under a name of 255 bytes */
#define SOURCES 4
#define VIEWS 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* ---- the directories as they are now ---- */

static struct place {
	unsigned parent; /* 0: the top */
	unsigned name;
} now[DIRS];

static const char *a_name(unsigned i)
{
	static const char *const names[] = { ".", "a", "b", "c", "d", "e", "f", "g", "h", "i" };
	static char longest[256];

	memset(longest, 'n', 255);
	return i % 11 == 10 ? longest : names[i % 11];
}

static void plant(void)
{
	for (unsigned i = 1; i < DIRS; i++)
		now[i] = i < DEEP ? (struct place){ .parent = i < 3 ? 0 : i / 3 + 1, .name = 1 + i % 9 }
				  : (struct place){ .parent = i == DEEP ? 2 : i - 1, .name = 10 };
}

static bool is_within(unsigned dir, unsigned top)
{
	while (dir != 0 && dir != top)
		dir = now[dir].parent;
	return dir == top;
}

static void move_ahead(unsigned dir, unsigned to, unsigned name)
{
	dir = dir % DIRS;
	to = to % DIRS;
	if (dir > 2 && !is_within(to, dir))
		now[dir] = (struct place){ .parent = to, .name = 1 + name % 10 };
}

static struct fan_key key_of(uint32_t view, unsigned dir)
{
	struct fan_key k = { .view = view, .len = 8, .bytes = { 1, 0, 0, 0, (unsigned char)dir } };

	return k;
}

/* ---- what the rest of the backend does ---- */

/* The node of a directory; NULL: it is nobody's. */
static struct fan_node *find_place(struct fan *b, uint32_t view, unsigned dir)
{
	struct fan_key k = key_of(view, dir);
	struct fan_node *n = fan_cache_find(b->cache, &k), *up;

	if (n != NULL)
		return fan_node_denied(n) ? NULL : n;
	up = dir == 0 || dir == OUTSIDE ? NULL : find_place(b, view, now[dir].parent);
	if (up == NULL) {
		(void)fan_cache_deny(b->cache, &k);
		return NULL;
	}
	return fan_cache_add(b->cache, &k, up, a_name(now[dir].name), strlen(a_name(now[dir].name)));
}

enum fan_found fan_resolve(struct fan *b, struct fan_view *v, const struct fan_key *k, struct fan_node **node)
{
	unsigned dir = k->bytes[4];
	struct fan_node *n = fan_cache_find(b->cache, k);

	require(k->view == v->id && k->len >= 4 && k->len <= FAN_HANDLE_MAX);
	*node = n;
	if (n != NULL)
		return fan_node_denied(n) ? FAN_NOT_OURS : FAN_OURS;
	if (k->len != 8 || dir >= DIRS)
		return dir == 0xff ? FAN_UNSURE : FAN_VANISHED;
	*node = find_place(b, v->id, dir < DIRS - 2 ? dir : DIRS - 3);
	return *node == NULL ? FAN_NOT_OURS : dir < DIRS - 2 ? FAN_OURS : FAN_ABOVE;
}

void fan_place_roots(struct fan *b)
{
	for (struct fan_source *s = b->sources; s != NULL; s = s->next) {
		if (!fan_node_loose(s->root))
			continue;
		fan_node_placed(s->root);
		if (s->root_key.bytes[4] > 2) {
			const struct place *p = &now[s->root_key.bytes[4]];
			struct fan_node *up = find_place(b, s->root_key.view, p->parent);

			if (up != NULL)
				(void)fan_cache_add(b->cache, &s->root_key, up, a_name(p->name),
						    strlen(a_name(p->name)));
		}
	}
}

bool fan_came_filled(struct fan *b, uint32_t view, const struct fan_key *dir, const char *name)
{
	(void)b;
	require(view > 0 && dir->len > 0);
	return name[0] % 2 == 0;
}

bool fan_is_above(const struct fan *b, const struct fan_fs *fs, const struct fan_key *dir, const char *name, size_t len)
{
	(void)b;
	(void)fs;
	(void)dir;
	return len == 1 && name[0] == 'g';
}

void fan_points_renamed(struct fan *b, const struct fan_source *s, struct buf *from, struct buf *to)
{
	(void)b;
	(void)s;
	require(strlen(buf_str(from)) == from->len && strlen(buf_str(to)) == to->len);
}

void watch_emit(struct watched *w, const struct change *c)
{
	(void)w;
	require(c->kind != CHANGE_NONE && c->path_len <= PATH_BYTES_MAX && strlen(c->path) == c->path_len);
	require((c->kind == CHANGE_RENAME) == (c->old_path != NULL));
	require(c->old_path == NULL || (c->old_len <= PATH_BYTES_MAX && strlen(c->old_path) == c->old_len));
	require((c->kind == CHANGE_RECONCILE) == (c->cause != NULL));
}

/* ---- the script ---- */

struct script {
	const uint8_t *p;
	size_t n;
	char buffer[BUFFER_MAX];
	size_t filled;
	uint64_t events;
};

static unsigned next(struct script *s)
{
	if (s->n == 0)
		return 0;
	s->n--;
	return *s->p++;
}

static void put(struct script *s, const void *bytes, size_t n)
{
	if (n > sizeof(s->buffer) - s->filled)
		return;
	memcpy(s->buffer + s->filled, bytes, n);
	s->filled += n;
}

/* A directory and a name as the kernel tells them; the first byte of three says what is wrong with it. */
static void put_entry(struct script *s, uint8_t type)
{
	unsigned how = next(s), dir = next(s), name = next(s);
	const char *text = a_name(name);
	struct {
		struct fanotify_event_info_header h;
		int fsid[2];
		unsigned bytes;
		int handle_type;
		unsigned char handle[4];
	} e = { .h = { .info_type = type }, .fsid = { 1 + (int)(how & 1), 0 }, .bytes = 4, .handle_type = 1 };
	static const char zeros[4];
	size_t pad = (4 - (strlen(text) + 1) % 4) % 4;

	e.handle[0] = (unsigned char)dir;
	e.h.len = (uint16_t)(sizeof(e) + strlen(text) + 1 + pad);
	if ((how & 0xe0) == 0xe0)
		e.bytes = name;
	if ((how & 0xe0) == 0xc0)
		e.h.len = (uint16_t)(e.h.len + dir - name);
	if ((how & 0xe0) == 0xa0)
		e.fsid[1] = 7;
	put(s, &e, sizeof(e));
	put(s, text, strlen(text) + 1);
	put(s, zeros, pad);
}

static void say_event(struct script *s, unsigned what)
{
	static const uint64_t kinds[] = {
		FAN_CREATE,	 FAN_DELETE, FAN_MOVED_FROM, FAN_MOVED_TO,   FAN_ATTRIB,
		FAN_CLOSE_WRITE, FAN_MODIFY, FAN_RENAME,     FAN_Q_OVERFLOW, FAN_CREATE | FAN_MOVED_TO | FAN_DELETE
	};
	unsigned kind = next(s);
	size_t at = s->filled;
	struct fanotify_event_metadata m = { .vers = FANOTIFY_METADATA_VERSION, .metadata_len = sizeof(m), .pid = 1 };

	m.mask = kinds[kind % 10] | ((kind & 0x40) != 0 ? FAN_ONDIR : 0u);
	put(s, &m, sizeof(m));
	if (what == 0) {
		put_entry(s, FAN_EVENT_INFO_TYPE_DFID_NAME);
	} else if (what == 1) {
		put_entry(s, 10); /* OLD_DFID_NAME, NEW_DFID_NAME */
		put_entry(s, 12);
	} else {
		put_entry(s, (uint8_t)next(s));
	}
	m.event_len = (uint32_t)(s->filled - at);
	if ((kind & 0x80) != 0) {
		m.event_len += next(s);
		m.metadata_len = (uint16_t)next(s);
	}
	if (s->filled >= at + sizeof(m))
		memcpy(s->buffer + at, &m, sizeof(m));
}

static void say_bytes(struct script *s)
{
	size_t n = next(s) % 128;

	n = n < s->n ? n : s->n;
	put(s, s->p, n);
	s->p += n;
	s->n -= n;
}

/* Handed over in a block of its own size, so that a read past it is seen. */
static void give(struct fan *b, struct script *s)
{
	char *copy = malloc(s->filled + 1);

	require(copy != NULL);
	memcpy(copy, s->buffer, s->filled);
	fan_handle(b, copy, s->filled, &s->events);
	free(copy);
	s->filled = 0;
}

static void play(struct fan *b, struct script *s)
{
	for (unsigned i = 0; i < OPS_MAX && s->n > 0; i++) {
		unsigned op = next(s);

		if (op % 8 < 5)
			say_event(s, op % 8 < 3 ? op % 8 : op % 8 - 3);
		else if (op % 8 == 5) {
			unsigned dir = next(s), to = next(s);

			move_ahead(dir, to, next(s));
		} else if (op == 0x0e)
			say_bytes(s);
		else {
			give(b, s);
			if ((op & 0x80) != 0)
				fan_flush(b, (op & 0x40) != 0);
		}
		if (op == 0x16)
			fan_forget_held(b, b->sources->w);
	}
	give(b, s);
	fan_flush(b, true);
}

/* ---- a backend ---- */

static void watch(struct fan *b, struct fan_source *s, struct watched *w, struct fan_view *v, unsigned dir)
{
	*w = (struct watched){ .priv = s };
	*s = (struct fan_source){ .next = b->sources, .w = w, .view = v, .root_key = key_of(v->id, dir) };
	s->root = fan_cache_pin(b->cache, &s->root_key);
	require(s->root != NULL);
	b->sources = s;
}

static void check_cache(struct fan *b, const struct fan_source *sources)
{
	for (int i = 0; i < SOURCES; i++)
		require(fan_cache_find(b->cache, &sources[i].root_key) == sources[i].root &&
			fan_node_pinned(sources[i].root));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct script s;
	struct fan_fs fs[2] = { { .fsid = { 1, 0 }, .subvolumes = true }, { .fsid = { 2, 0 } } };
	struct fan_view views[VIEWS] = { { .fs = &fs[0], .id = 1 },
					 { .fs = &fs[0], .id = 2 },
					 { .fs = &fs[1], .id = 3 } };
	struct fan_source sources[SOURCES];
	struct watched watched[SOURCES];
	static struct fan b;

	if (size == 0)
		return 0;
	b = (struct fan){ .filesystems = fs, .views = views };
	s = (struct script){ .p = data, .n = size };
	fs[0].next = &fs[1];
	views[0].next = &views[1];
	views[1].next = &views[2];
	buf_init(&b.text, (size_t)1 << 16);
	buf_init(&b.path, (size_t)1 << 20);
	buf_init(&b.path2, (size_t)1 << 20);
	plant();
	b.cache = fan_cache_new(8 + data[0] % 64);
	require(b.cache != NULL);
	watch(&b, &sources[0], &watched[0], &views[0], 2);
	watch(&b, &sources[1], &watched[1], &views[0], 5);
	watch(&b, &sources[2], &watched[2], &views[1], 3);
	watch(&b, &sources[3], &watched[3], &views[2], 2);
	watched[0].rq.want_modify = true;
	watched[1].rq.one_file_system = true;
	sources[3].gone = (data[0] & 0x80) != 0;
	fan_place_roots(&b);
	next(&s);
	play(&b, &s);
	check_cache(&b, sources);
	fan_cache_free(b.cache);
	free(b.held);
	buf_done(&b.text);
	buf_done(&b.path);
	buf_done(&b.path2);
	return 0;
}
