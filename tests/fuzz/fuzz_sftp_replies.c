/* LINK: transports/sftp_client.c transports/sftp_codec.c transports/sftp_ops.c transports/sftp_dirs.c
 * transports/sftp_list.c transports/sftp_store.c transports/sftp_rename.c transports/listing.c transports/temp_name.c
 * transports/throttle.c core/buf.c core/err.c core/loop.c core/clock.c core/log.c core/utf8.c core/path.c
 * core/safe_open.c */
/* MODULE: transports/sftp_client.c transports/sftp_ops.c transports/sftp_dirs.c transports/sftp_list.c
 * transports/sftp_store.c transports/sftp_rename.c */
/* ROUNDS: 1000 */
/*
 * The engine's operations over SFTP, with a server that follows a script: the input. It says when which operation
 * begins, and what is answered to which request, in any order: what is right, another code, another type, or bytes that
 * make no sense. Each operation ends once, or none does any more because the connection is broken; nothing outside the
 * target's directory is ever asked for; a listing that is taken has names that are names, each once.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/path.h"
#include "transports/listing.h"
#include "transports/sftp_ops.h"

#define BASE "/srv/target"
#define SERVERS 2u
#define SLOTS 12u
#define FILES 4u
#define WAITING_MAX 8192u
#define STEPS_MAX 600u
#define ENDS_MAX 20000u
#define CONTENT (300u * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the input ---- */

struct script {
	const uint8_t *p;
	size_t n;
};

static unsigned next(struct script *s)
{
	if (s->n == 0)
		return 0;
	s->n--;
	return *s->p++;
}

static struct sftp_bytes next_bytes(struct script *s)
{
	size_t n = next(s);
	struct sftp_bytes b = { (const char *)s->p, n < s->n ? n : s->n };

	s->p += b.n;
	s->n -= b.n;
	return b;
}

/* ---- the server ---- */

struct request {
	uint32_t id;
	uint8_t type;
	char ext; /* the first letter of an extension's name */
};

struct sftp_stream {
	struct sftp_stream_events events;
	struct sftp_client *client;
	struct buf got;
	size_t takes; /* bytes, before it is full */
	struct request waiting[WAITING_MAX];
	size_t n_waiting;
	bool ready;
	bool garbled; /* it said something that no answer fits behind */
};

static struct world {
	struct loop *loop;
	struct sync_options opt;
	struct sftp_stream server[SERVERS];
	size_t opened;
	struct sftp_ops *ops;
	bool over; /* nothing may be called back any more */
} w;

static void must(bool is_so, const char *what)
{
	if (is_so)
		return;
	(void)fprintf(stderr, "%s\n", what);
	abort();
}

static uint32_t be32(const char *p)
{
	struct reader r;

	reader_init(&r, p, 4);
	return reader_be32(&r);
}

static void set_be32(char *p, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (char)(v >> (24 - 8 * i));
}

static struct sftp_bytes take_string(struct sftp_bytes *rest)
{
	struct sftp_bytes s;
	uint32_t n = rest->n < 4 ? UINT32_MAX : be32(rest->p);

	must(rest->n >= 4 && n <= rest->n - 4, "a request that is cut");
	s = (struct sftp_bytes){ rest->p + 4, n };
	rest->p += 4 + n;
	rest->n -= 4 + n;
	return s;
}

/* Below the target's directory, by no name that leads elsewhere. */
static void check_path(struct sftp_bytes path)
{
	const size_t base = strlen(BASE);

	must(path.n >= base && memcmp(path.p, BASE, base) == 0, "a path elsewhere");
	if (path.n > base)
		must(path.p[base] == '/' && path_valid(path.p + base + 1, path.n - base - 1),
		     "a path that leads elsewhere");
}

static void check_request(uint8_t type, struct sftp_bytes rest, char *ext)
{
	struct sftp_bytes name;

	switch (type) {
	case SFTP_RENAME:
		check_path(take_string(&rest));
		check_path(take_string(&rest));
		break;
	case SFTP_SYMLINK:
		(void)take_string(&rest); /* its text */
		check_path(take_string(&rest));
		break;
	case SFTP_OPEN:
	case SFTP_LSTAT:
	case SFTP_SETSTAT:
	case SFTP_OPENDIR:
	case SFTP_REMOVE:
	case SFTP_MKDIR:
	case SFTP_RMDIR:
	case SFTP_READLINK:
		check_path(take_string(&rest));
		break;
	case SFTP_EXTENDED:
		name = take_string(&rest);
		must(name.n > 0, "an extension without a name");
		*ext = name.p[0];
		if (*ext == 'h' || *ext == 'p') /* hardlink, posix-rename */
			check_path(take_string(&rest));
		if (name.n > 6 && memcmp(name.p, "limits", 6) != 0)
			check_path(take_string(&rest));
		break;
	default:
		(void)take_string(&rest); /* a handle */
		break;
	}
}

static void take_requests(struct sftp_stream *s)
{
	size_t at = 0;

	while (s->got.len - at >= 9) {
		const char *p = s->got.data + at;
		size_t n = be32(p);
		struct request r = { .type = (uint8_t)p[4], .id = be32(p + 5) };

		if (n + 4 > s->got.len - at)
			break;
		at += n + 4;
		if (r.type == SFTP_INIT)
			continue;
		must(n >= 5, "a request without an id");
		check_request(r.type, (struct sftp_bytes){ p + 9, n - 5 }, &r.ext);
		must(s->n_waiting < WAITING_MAX, "more requests than the client may have under way");
		s->waiting[s->n_waiting++] = r;
	}
	buf_consume(&s->got, at);
}

static struct sftp_stream *stream_open(struct loop *loop, const struct sync_options *opt,
				       const struct sftp_stream_events *events, struct err *err)
{
	struct sftp_stream *s = &w.server[w.opened++];

	(void)loop;
	(void)opt;
	(void)err;
	s->events = *events;
	return s;
}

static size_t stream_write(struct sftp_stream *s, const char *data, size_t n)
{
	size_t take = n < s->takes ? n : s->takes;

	must(buf_add(&s->got, data, take), "out of memory");
	s->takes -= take;
	take_requests(s);
	return take;
}

static void stream_close(struct sftp_stream *s)
{
	(void)s;
}

static const struct sftp_stream_kind kind = { .open = stream_open, .write = stream_write, .close = stream_close };

/* ---- what it answers ---- */

static void turn(void)
{
	struct err err = ERR_INIT;

	for (unsigned i = 0; i < 3; i++)
		must(loop_once(w.loop, 0, &err) == 0, "the loop");
}

static void say(struct sftp_stream *s, const struct buf *b)
{
	if (!b->failed && b->len > 0)
		s->events.came(s->events.ctx, b->data, b->len);
	turn();
}

static void put_string(struct buf *b, struct sftp_bytes s)
{
	(void)buf_add_be32(b, (uint32_t)s.n);
	(void)buf_add(b, s.p, s.n);
}

static void put_text(struct buf *b, const char *text)
{
	put_string(b, (struct sftp_bytes){ text, strlen(text) });
}

/* Sizes that are near, and some that are not. */
static void put_attrs(struct buf *b, struct script *s)
{
	static const uint32_t modes[] = { S_IFDIR | 0755, S_IFREG | 0644, S_IFLNK | 0777, 0, S_IFIFO, S_IFDIR };
	unsigned how = next(s);
	uint32_t flags = SFTP_ATTR_SIZE | SFTP_ATTR_UIDGID | SFTP_ATTR_PERMISSIONS | SFTP_ATTR_TIMES;

	if (how >= 224)
		flags &= next(s);
	(void)buf_add_be32(b, flags);
	if ((flags & SFTP_ATTR_SIZE) != 0) {
		(void)buf_add_be32(b, (how & 32) != 0 ? UINT32_MAX : 0);
		(void)buf_add_be32(b, next(s) << 9);
	}
	if ((flags & SFTP_ATTR_UIDGID) != 0) {
		(void)buf_add_be32(b, how >> 7);
		(void)buf_add_be32(b, 0);
	}
	if ((flags & SFTP_ATTR_PERMISSIONS) != 0)
		(void)buf_add_be32(b, modes[(how & 7) % (sizeof(modes) / sizeof(modes[0]))]);
	if ((flags & SFTP_ATTR_TIMES) != 0) {
		(void)buf_add_be32(b, 0);
		(void)buf_add_be32(b, 1000000000);
	}
}

static void put_head(struct buf *b, enum sftp_type type)
{
	(void)buf_add_byte(b, (unsigned char)type);
	(void)buf_add_be32(b, 0); /* its id, later */
}

static void put_status(struct buf *b, uint32_t code, struct sftp_bytes words)
{
	put_head(b, SFTP_STATUS);
	(void)buf_add_be32(b, code);
	put_string(b, words);
	put_text(b, "en");
}

static void put_names(struct buf *b, struct script *s, unsigned count)
{
	put_head(b, SFTP_NAME);
	(void)buf_add_be32(b, count);
	for (unsigned i = 0; i < count && s->n > 0; i++) {
		put_string(b, next_bytes(s));
		put_text(b, "-rw-r--r-- and so on");
		put_attrs(b, s);
	}
}

static void put_statvfs(struct buf *b, struct script *s)
{
	put_head(b, SFTP_EXTENDED_REPLY);
	for (unsigned i = 0; i < 11; i++) {
		(void)buf_add_be32(b, 0);
		(void)buf_add_be32(b, i == 4 || i == 9 ? next(s) : 4096);
	}
}

/* As a server does that means well. */
static void put_right(struct buf *b, struct script *s, const struct request *r)
{
	static const struct sftp_bytes none = { "", 0 };
	struct sftp_bytes bytes;

	switch (r->type) {
	case SFTP_OPEN:
	case SFTP_OPENDIR:
		put_head(b, SFTP_HANDLE);
		put_text(b, "handle");
		break;
	case SFTP_READDIR:
		if ((next(s) & 3) == 0)
			put_names(b, s, 1 + next(s) % 5);
		else
			put_status(b, SFTP_EOF, none);
		break;
	case SFTP_LSTAT:
	case SFTP_STAT:
	case SFTP_FSTAT:
		put_head(b, SFTP_ATTRS);
		put_attrs(b, s);
		break;
	case SFTP_READLINK:
		put_names(b, s, 1);
		break;
	case SFTP_READ:
		bytes = next_bytes(s);
		if (bytes.n == 0) {
			put_status(b, SFTP_EOF, none);
			break;
		}
		put_head(b, SFTP_DATA);
		put_string(b, bytes);
		break;
	case SFTP_EXTENDED:
		if (r->ext == 's') {
			put_statvfs(b, s);
			break;
		}
		put_status(b, SFTP_OK, none);
		break;
	default:
		put_status(b, SFTP_OK, none);
		break;
	}
}

static void put_wrong(struct buf *b, struct script *s, unsigned how)
{
	struct sftp_bytes raw;

	switch (how) {
	case 0:
		put_head(b, SFTP_HANDLE);
		put_string(b, next_bytes(s));
		break;
	case 1:
		put_head(b, SFTP_DATA);
		put_string(b, next_bytes(s));
		break;
	case 2:
		put_names(b, s, next(s));
		break;
	case 3:
		put_head(b, SFTP_ATTRS);
		put_attrs(b, s);
		break;
	case 4:
		put_head(b, SFTP_EXTENDED_REPLY);
		raw = next_bytes(s);
		(void)buf_add(b, raw.p, raw.n);
		break;
	default:
		put_head(b, (enum sftp_type)next(s));
		raw = next_bytes(s);
		(void)buf_add(b, raw.p, raw.n);
		break;
	}
}

/* `how`: of the script, or SFTP_OK.. as a status. */
static void answer(struct sftp_stream *server, struct script *s, size_t which, unsigned how)
{
	struct request r;
	struct buf b, packet;

	if (server->n_waiting == 0)
		return;
	which %= server->n_waiting;
	r = server->waiting[which];
	memmove(&server->waiting[which], &server->waiting[which + 1],
		(--server->n_waiting - which) * sizeof(server->waiting[0]));
	buf_init(&b, 1u << 20);
	buf_init(&packet, 1u << 20);
	if (how < 9)
		put_status(&b, how, next_bytes(s));
	else if (how < 16)
		put_wrong(&b, s, how - 9);
	else
		put_right(&b, s, &r);
	if (b.len >= 5 && how != 15) /* 15: with an id of its own */
		set_be32(b.data + 1, r.id);
	(void)buf_add_be32(&packet, (uint32_t)b.len);
	(void)buf_add(&packet, b.data, b.len);
	say(server, &packet);
	buf_done(&packet);
	buf_done(&b);
}

/* ---- the operations ---- */

static struct slot {
	struct fileop op;
	bool busy;
	unsigned what;
	struct fileops_attrs attrs;
	struct fileops_store store;
} slots[SLOTS];

static struct fileops_file files[FILES];
static size_t n_files;
static struct fileops_file source = { .fd = -1 };

static const char *const paths[] = { "f", "d",	   "d/f",	 "d/e",	 "d/e/g",
				     "g", "d/e/h", "\xff\xfe/ ", "d/.x", "d/f.fansyncd~tmp" };

#define N_PATHS (sizeof(paths) / sizeof(paths[0]))

enum what {
	DO_LOOK,
	DO_LIST,
	DO_READLINK,
	DO_DIGEST,
	DO_CREATE,
	DO_STORE,
	DO_ATTRS,
	DO_MKDIR,
	DO_SYMLINK,
	DO_NODE,
	DO_LINK,
	DO_RENAME,
	DO_UNLINK,
	DO_RMDIR,
	DO_DROP,
	DO_WHATS
};

static bool keep_some(void *ctx, const char *name, size_t len, bool is_dir)
{
	(void)ctx;
	must(path_name_valid(name, len), "a name that is none");
	return !is_dir || name[0] != '!';
}

static void check_listing(const struct listing *l)
{
	for (size_t i = 0; i < l->n; i++) {
		must(path_name_valid(l->v[i].name, l->v[i].len), "a name in a listing that is none");
		must(i == 0 || listing_compare(l->v[i - 1].name, l->v[i - 1].len, l->v[i].name, l->v[i].len) < 0,
		     "a listing that is not in order");
	}
}

static void take_result(struct slot *s, enum fileops_result r)
{
	must(r < FILEOPS_RESULTS && r != FILEOPS_PENDING, "no result");
	s->busy = false;
	if (s->what == DO_LIST) {
		if (r == FILEOPS_OK)
			check_listing(&s->op.list);
		listing_free(&s->op.list);
	}
	if (s->what == DO_CREATE && r == FILEOPS_OK) {
		if (n_files < FILES)
			files[n_files++] = s->op.file;
		else
			sftp_fileops.drop(w.ops, &s->op.file);
	}
	if (s->what == DO_STORE)
		must(s->op.copied <= CONTENT, "more was copied than there is");
	free(s->op.bytes);
	s->op.bytes = NULL;
}

static void on_done(struct fileop *op)
{
	struct slot *s = op->owner;

	must(!w.over && s->busy, "an operation that ends twice, or after the end");
	take_result(s, op->result);
}

static struct fileops_attrs some_attrs(struct script *s)
{
	static const mode_t types[] = { S_IFREG, S_IFDIR, S_IFLNK };
	unsigned how = next(s);

	return (struct fileops_attrs){ .mask = how & (FILEOPS_OWNER | FILEOPS_GROUP | FILEOPS_MODE | FILEOPS_MTIME),
				       .type = types[(how >> 5) % 3],
				       .one_name = how >= 128,
				       .uid = (uid_t)(how & 1),
				       .gid = 0,
				       .mode = 0640,
				       .mtime = { .tv_sec = 1000000000 } };
}

static enum fileops_result store(struct slot *s, struct script *script)
{
	struct fileops_file file;

	if (n_files == 0)
		return FILEOPS_UNABLE;
	file = files[--n_files];
	s->attrs = some_attrs(script);
	s->attrs.type = S_IFREG;
	s->store = (struct fileops_store){ .from = &source,
					   .offset = (next(script) & 3) == 3 ? 5000 : 0,
					   .size = next(script) * (CONTENT / 255),
					   .sparse = (next(script) & 1) != 0,
					   .attrs = &s->attrs };
	if (s->store.size < s->store.offset)
		s->store.size = s->store.offset;
	return sftp_fileops.store(w.ops, &s->op, &file, &s->store);
}

static enum fileops_result begin(struct slot *s, struct script *script)
{
	const struct fileops *f = &sftp_fileops;
	const struct fileops_wish wish = { keep_some, NULL };
	unsigned choice = next(script);
	const char *a = paths[choice % N_PATHS], *b = paths[choice / N_PATHS % N_PATHS];
	const struct stat fifo = { .st_mode = S_IFIFO };

	switch ((enum what)s->what) {
	case DO_LOOK:
		return f->look(w.ops, &s->op, a, strlen(a));
	case DO_LIST:
		return f->list(w.ops, &s->op, a, choice == 255 ? 0 : strlen(a), &wish);
	case DO_READLINK:
		return f->readlink(w.ops, &s->op, a, strlen(a));
	case DO_DIGEST:
		return f->digest(w.ops, &s->op, a, strlen(a));
	case DO_CREATE:
		return f->create(w.ops, &s->op, a, strlen(a), choice >= 128);
	case DO_STORE:
		return store(s, script);
	case DO_ATTRS:
		s->attrs = some_attrs(script);
		return f->attrs(w.ops, &s->op, a, strlen(a), &s->attrs);
	case DO_MKDIR:
		return f->mkdir(w.ops, &s->op, a, strlen(a));
	case DO_SYMLINK:
		return f->symlink(w.ops, &s->op, a, strlen(a), "../text", 7);
	case DO_NODE:
		return f->node(w.ops, &s->op, a, strlen(a), &fifo);
	case DO_LINK:
		return f->link(w.ops, &s->op, a, strlen(a), b, strlen(b));
	case DO_RENAME:
		return f->rename(w.ops, &s->op, a, strlen(a), b, strlen(b), choice >= 128);
	case DO_UNLINK:
		return f->unlink(w.ops, &s->op, a, strlen(a));
	case DO_RMDIR:
		return f->rmdir(w.ops, &s->op, a, strlen(a));
	case DO_DROP:
	case DO_WHATS:
		break;
	}
	if (n_files > 0)
		f->drop(w.ops, &files[--n_files]);
	return FILEOPS_OK;
}

static void start(struct script *script)
{
	struct slot *s = slots;
	enum fileops_result r;

	while (s < slots + SLOTS && s->busy)
		s++;
	if (s == slots + SLOTS)
		return;
	memset(s, 0, sizeof(*s));
	s->op.owner = s;
	s->op.done = on_done;
	listing_init(&s->op.list);
	s->what = next(script) % DO_WHATS;
	s->busy = true;
	r = begin(s, script);
	if (r != FILEOPS_PENDING)
		take_result(s, r);
}

static bool any_busy(void)
{
	for (size_t i = 0; i < SLOTS; i++)
		if (slots[i].busy)
			return true;
	return false;
}

/* ---- a run ---- */

static void on_ready(void *ctx)
{
	((struct sftp_stream *)ctx)->ready = true;
}

static void on_room(void *ctx)
{
	(void)ctx;
	if (w.ops != NULL && !w.over)
		sftp_ops_room(w.ops);
}

/* As sftp.c does: all is given up. */
static void on_broken(void *ctx, const struct err *why)
{
	struct err err = ERR_INIT;

	(void)ctx;
	must(why->class != ERR_NONE, "broken for no reason");
	must(!w.over, "broken twice");
	w.over = true;
	for (size_t i = 0; i < w.opened; i++)
		sftp_client_abandon(w.server[i].client);
	if (w.ops != NULL)
		(void)sftp_ops_connect(w.ops, NULL, NULL, &err);
}

static void connect_one(struct sftp_stream *s, struct script *script)
{
	static const char *const names[][2] = { { "posix-rename@openssh.com", "1" },
						{ "hardlink@openssh.com", "1" },
						{ "statvfs@openssh.com", "2" },
						{ "lsetstat@openssh.com", "1" },
						{ "limits@openssh.com", "1" } };
	const struct sftp_client_events events = { .ctx = s, .ready = on_ready, .room = on_room, .broken = on_broken };
	const struct sftp_client_spec spec = { .loop = w.loop, .opt = &w.opt, .kind = &kind };
	struct err err = ERR_INIT;
	unsigned ext = next(script);
	struct buf b;

	buf_init(&s->got, 1u << 26);
	buf_init(&b, 4096);
	s->takes = SIZE_MAX;
	s->client = sftp_client_open(&spec, &events, &err);
	must(s->client != NULL, "no client");
	s->events.opened(s->events.ctx);
	turn();
	(void)buf_add_be32(&b, 0);
	(void)buf_add_byte(&b, SFTP_VERSION);
	(void)buf_add_be32(&b, 3);
	for (unsigned i = 0; i < 5; i++)
		if ((ext >> i & 1) != 0) {
			put_text(&b, names[i][0]);
			put_text(&b, names[i][1]);
		}
	set_be32(b.data, (uint32_t)(b.len - 4));
	say(s, &b);
	buf_clear(&b);
	if (!s->ready && s->n_waiting == 1) {
		(void)buf_add_be32(&b, 5 + 4 * 8);
		put_head(&b, SFTP_EXTENDED_REPLY);
		set_be32(b.data + 5, s->waiting[0].id);
		for (unsigned i = 0; i < 4; i++) {
			(void)buf_add_be32(&b, 0);
			/* packets, reads, writes, handles */
			(void)buf_add_be32(&b, i == 3 ? 1 + next(script) % 8 : (1 + next(script)) << 8);
		}
		s->n_waiting = 0;
		say(s, &b);
	}
	buf_done(&b);
}

static void step(struct script *s)
{
	unsigned command = next(s);
	struct sftp_stream *server = &w.server[(command >> 7) % w.opened];
	struct sftp_bytes bytes;
	struct buf raw;

	switch (command & 7) {
	case 0:
	case 1:
	case 2:
		start(s);
		turn();
		break;
	case 3: /* out of what was asked lately */
		answer(server, s, next(s), next(s) % 40);
		break;
	case 4:
	case 5: /* in its turn */
		answer(server, s, 0, 16);
		break;
	case 6:
		if ((command & 8) != 0) {
			server->takes = next(s) * 64;
			break;
		}
		server->takes = SIZE_MAX;
		server->events.writable(server->events.ctx);
		turn();
		break;
	default:
		if ((command & 8) != 0) {
			if (!any_busy()) /* a work is over */
				sftp_fileops.idle(w.ops);
			break;
		}
		buf_init(&raw, 4096);
		bytes = next_bytes(s);
		(void)buf_add(&raw, bytes.p, bytes.n);
		server->garbled = true;
		say(server, &raw);
		buf_done(&raw);
		break;
	}
}

/* The end of a connection is that of all. */
static void hang_up(struct sftp_stream *s)
{
	struct err err = ERR_INIT;

	err_set(&err, ERR_NETWORK, "the end");
	s->events.ended(s->events.ctx, &err);
	turn();
	must(w.over, "a connection that is over, and nobody knows");
}

/* All that is asked fails: then each operation ends. */
static void end_all(void)
{
	struct script none = { (const uint8_t *)"", 0 };

	for (unsigned i = 0; any_busy() && !w.over; i++) {
		bool asked = false;

		must(i < ENDS_MAX, "an operation that does not end");
		while (n_files > 0) /* others may wait for their handles */
			sftp_fileops.drop(w.ops, &files[--n_files]);
		for (size_t k = 0; k < w.opened; k++) {
			w.server[k].takes = SIZE_MAX;
			w.server[k].events.writable(w.server[k].events.ctx);
		}
		turn();
		for (size_t k = 0; k < w.opened; k++) {
			asked = asked || w.server[k].n_waiting > 0;
			answer(&w.server[k], &none, 0, i % 2 == 0 ? SFTP_FAILURE : SFTP_NO_SUCH_FILE);
		}
		turn();
		must(asked || !any_busy() || w.over, "an operation that waits for nothing");
	}
}

static void no_log(void *ctx, enum log_category cat, const char *text, size_t len)
{
	(void)ctx;
	(void)cat;
	(void)text;
	(void)len;
}

/* Content, a hole, content. */
static void make_source(void)
{
	char block[4096];

	if (source.fd >= 0)
		return;
	log_set_sink(no_log, NULL);
	memset(block, 'x', sizeof(block));
	source.fd = memfd_create("source", MFD_CLOEXEC);
	must(source.fd >= 0 && ftruncate(source.fd, CONTENT) == 0, "memfd");
	for (off_t at = 0; at < (off_t)CONTENT; at += sizeof(block))
		if (at < 100 * 1024 || at > 200 * 1024)
			must(pwrite(source.fd, block, sizeof(block), at) == (ssize_t)sizeof(block), "memfd");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct script s = { data, size };
	struct err err = ERR_INIT;
	unsigned how = next(&s);

	make_source();
	memset(&w, 0, sizeof(w));
	memset(slots, 0, sizeof(slots));
	n_files = 0;
	w.opt.ssh.timeout_ns = 3600 * NS_PER_S;
	w.loop = loop_new(&err);
	must(w.loop != NULL, "no loop");
	for (unsigned i = 0; i < 1 + (how & 1); i++)
		connect_one(&w.server[i], &s);
	w.ops = sftp_ops_new(w.loop, 0x1234, &err);
	must(w.ops != NULL, "no operations");
	if (w.server[0].ready && !w.over) {
		must(sftp_ops_connect(w.ops, w.server[0].client, BASE, &err) == 0, "no connection");
		if (w.opened > 1 && w.server[1].ready)
			sftp_ops_add(w.ops, w.server[1].client);
		if ((how & 2) != 0)
			sftp_ops_follows(w.ops);
		(void)sftp_ops_caps(w.ops);
		for (unsigned i = 0; i < STEPS_MAX && s.n > 0 && !w.over; i++)
			step(&s);
		for (size_t i = 0; i < w.opened && !w.over; i++)
			if (w.server[i].garbled)
				hang_up(&w.server[i]);
		if (!w.over)
			end_all();
	}
	while (n_files > 0)
		sftp_fileops.drop(w.ops, &files[--n_files]);
	w.over = true;
	turn();
	(void)sftp_ops_connect(w.ops, NULL, NULL, &err);
	sftp_ops_free(w.ops);
	w.ops = NULL;
	for (size_t i = 0; i < w.opened; i++) {
		sftp_client_close(w.server[i].client);
		buf_done(&w.server[i].got);
	}
	loop_free(w.loop);
	return 0;
}
