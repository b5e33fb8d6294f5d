/* LINK: core/safe_open.c core/lookups.c transports/receiver_session.c transports/receiver_source.c
 * transports/receiver_files.c transports/receiver_old.c transports/receiver_store.c transports/receiver_asks.c
 * transports/receiver_copies.c transports/receiver_primed.c transports/mirror_alike.c transports/mirror_digest.c
 * transports/tcp_stream.c transports/tcp_frames.c transports/tcp_frames_read.c transports/tcp_options.c
 * transports/zstream.c transports/zstream_zstd.c transports/tls.c transports/delta.c transports/mirror.c
 * transports/mirror_apply.c transports/mirror_dir.c transports/mirror_entry.c transports/mirror_hot.c
 * transports/mirror_links.c transports/mirror_moves.c transports/mirror_parts.c transports/mirror_rules.c
 * transports/mirror_send.c transports/mirror_options.c transports/mirror_twoway.c transports/twoway_archive.c
 * transports/twoway_state.c transports/temp_name.c transports/listing.c transports/throttle.c transports/limit.c
 * transports/mirror_backup.c core/backup_dir.c core/bandwidth.c core/schedule.c transports/local_files.c
 * transports/local_dirs.c transports/local_copy.c transports/local_list.c transports/local_xattrs.c core/archive.c
 * core/twoway.c core/look.c core/buf.c core/err.c core/loop.c core/clock.c core/log.c core/utf8.c core/path.c
 * core/filter.c core/filter_args.c core/batch.c core/fsutil.c core/keep.c core/frame.c transports/receiver_owners.c
 * core/owners.c core/privileges.c core/owner_map.c core/credential.c */
/* MODULE: transports/receiver_session.c transports/receiver_source.c transports/receiver_store.c
 * transports/receiver_old.c transports/receiver_asks.c transports/tcp_options.c */
/* ROUNDS: 200 */
/* LIBS: -lz -lzstd -lssl -lcrypto -lrsync -lsqlite3 */
/*
 * A receiver's session, in this process, with a peer that follows a script: the input. Its first bytes choose the
 * options of a greeting and what the module is like, then each frame is a type, a length of two bytes and a payload; it
 * is given to the session, which then runs until it has nothing more to do. What lies beside the module must stay as it
 * is, and the session must end.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "transports/receiver_session.h"
#include "transports/tcp_options.h"

#define ROUNDS_MAX 400
#define LARGE_BYTES (160 * 1024)
#define CHOICE_BYTES 5u

/* The fifth byte. */
enum how {
	HOW_BACKUP = 1u << 0, /* what is replaced or deleted is put away */
	HOW_FEW_DELETIONS = 1u << 1,
	HOW_READ_ONLY = 1u << 2,
	HOW_OWNED = 1u << 3,	 /* by one user, whatever the sender says; groups are mapped */
	HOW_NAMED = 1u << 4,	 /* only for somebody with a key */
	HOW_NEWER = 1u << 5,	 /* the sender speaks another version */
	HOW_OPTIONS = 1u << 6,	 /* further options */
	HOW_ELSEWHERE = 1u << 7, /* the module's directory is not there */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct peer {
	struct loop *loop;
	int fd;
	struct receiver_session *session;
	bool greeted; /* and to be welcomed, once it is known who it is */
	bool over;
};

static void no_log(void *ctx, enum log_category cat, const char *text, size_t len)
{
	(void)ctx;
	(void)cat;
	(void)text;
	(void)len;
}

static void on_greeted(void *ctx, const struct host_tree *whose)
{
	(void)whose;
	((struct peer *)ctx)->greeted = true;
}

/* Some names have other numbers here, some are not known, some can't be looked up. */
static void on_look_up(void *ctx, const struct owner_question *q, struct owner_answer *a)
{
	(void)ctx;
	a->result = (enum owner_result)(OWNER_FOUND + (unsigned char)q->name[0] % 3);
	a->id = (unsigned char)q->name[1];
}

static void on_ended(void *ctx)
{
	((struct peer *)ctx)->over = true;
}

/* ---- the module, and what lies beside it ---- */

static char top[] = "/tmp/fansyncd-fuzz.XXXXXX";

static void die(const char *what)
{
	perror(what);
	abort();
}

/* What was written just now is always looked into. */
static const struct timespec long_ago[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1000000000 } };

static void put(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || futimens(fd, long_ago) < 0)
		die(name);
	(void)close(fd);
}

static void lengthen(int dir, const char *name, off_t size)
{
	int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || ftruncate(fd, size) < 0 || futimens(fd, long_ago) < 0)
		die(name);
	(void)close(fd);
}

static void empty(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL) {
		int below;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || unlinkat(dir, e->d_name, 0) == 0)
			continue;
		below = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (below >= 0) {
			(void)fchmod(below, 0700);
			empty(below);
			(void)close(below);
		}
		if (unlinkat(dir, e->d_name, AT_REMOVEDIR) < 0)
			die(e->d_name);
	}
	if (d != NULL)
		(void)closedir(d);
}

static void clean_up(void)
{
	int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0) {
		empty(fd);
		(void)close(fd);
	}
	(void)rmdir(top);
}

/* The directory of everything: outside/f and a module with a little in it. */
static int prepare(void)
{
	static int dir = -1;
	int m;

	if (dir < 0) {
		log_set_sink(no_log, NULL);
		if (mkdtemp(top) == NULL || (dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
		    mkdirat(dir, "outside", 0700) < 0 || mkdirat(dir, "module", 0700) < 0)
			die(top);
		put(dir, "outside/f", "as it was");
		(void)atexit(clean_up);
	}
	m = openat(dir, "module", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m < 0)
		die("module");
	(void)fchmod(m, 0700);
	empty(m);
	if (mkdirat(m, "d", 0700) < 0 || symlinkat("../outside", m, "way") < 0)
		die("d");
	put(m, "f", "old content");
	put(m, "d/g", "more of it");
	/* Enough for a difference to be made. */
	put(m, "large", "begins so");
	lengthen(m, "large", LARGE_BYTES);
	return m;
}

static void check_outside(void)
{
	char path[64], text[16];
	int fd, n = 0;
	ssize_t got;
	DIR *d;

	(void)snprintf(path, sizeof(path), "%s/outside", top);
	d = opendir(path);
	while (d != NULL && readdir(d) != NULL)
		n++;
	if (d == NULL || n != 3)
		abort();
	(void)closedir(d);
	(void)snprintf(path, sizeof(path), "%s/outside/f", top);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	got = fd < 0 ? -1 : read(fd, text, sizeof(text));
	if (got != 9 || memcmp(text, "as it was", 9) != 0)
		abort();
	(void)close(fd);
}

/* ---- the script ---- */

static void run(struct peer *p)
{
	char drain[65536];
	struct err err = ERR_INIT;
	int quiet = 0;

	for (int i = 0; i < ROUNDS_MAX && quiet < 4 && !p->over; i++) {
		ssize_t got;

		if (loop_once(p->loop, 0, &err) < 0)
			abort();
		if (p->greeted && !p->over)
			receiver_session_welcome(p->session);
		p->greeted = false;
		got = recv(p->fd, drain, sizeof(drain), MSG_DONTWAIT);
		quiet = got > 0 ? 0 : quiet + 1;
	}
}

/* As one stored record. */
static void send_frame(struct peer *p, uint8_t type, const void *payload, size_t len)
{
	unsigned char head[9];
	uint32_t record = (uint32_t)len + 5, n = (uint32_t)len;

	for (size_t i = 0; i < 4; i++) {
		head[i] = (unsigned char)(record >> (8 * i));
		head[4 + i] = (unsigned char)(n >> (8 * i));
	}
	head[8] = type;
	if (send(p->fd, head, sizeof(head), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ||
	    (len > 0 && send(p->fd, payload, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0))
		p->over = true;
}

/* The options that the script brings itself: a byte, and so many bytes. */
static void put_own_options(struct buf *options, const uint8_t **data, size_t *size)
{
	size_t n = *size == 0 ? 0 : **data;

	if (*size == 0)
		return;
	n = n < *size - 1 ? n : *size - 1;
	buf_add(options, *data + 1, n);
	*data += 1 + n;
	*size -= 1 + n;
}

/* What is understood of them, said again, is understood alike. */
static void check_options(const struct buf *options)
{
	struct sync_options *opt = tcp_get_options(options->data, options->len, &(struct err)ERR_INIT), *again;
	struct buf first, second;

	if (opt == NULL)
		return;
	buf_init(&first, 1u << 20);
	buf_init(&second, 1u << 20);
	tcp_put_options(&first, opt);
	again = tcp_get_options(first.data, first.len, &(struct err)ERR_INIT);
	if (again == NULL)
		abort();
	tcp_put_options(&second, again);
	if (first.failed || first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
		abort();
	buf_done(&first);
	buf_done(&second);
	tcp_options_free(opt);
	tcp_options_free(again);
}

static void greet(struct peer *p, const uint8_t **data, size_t *size)
{
	const uint8_t *choice = *data;
	unsigned char flags[8] = { choice[0], choice[1], choice[2] };
	const uint8_t how = choice[4];
	struct tcp_hello h = { .version_min = (how & HOW_NEWER) != 0 ? 2 : 1,
			       .version_max = (how & HOW_NEWER) != 0 ? 2 : 1,
			       .features = choice[3] | (choice[2] >> 6) * TCP_FEATURE_RENAMES, /* and the next bit */
			       .software = { "fuzz", 4 },
			       .module = { "web", 3 },
			       .sync = { "s", 1 } };
	struct buf options, out;

	flags[2] &= 0x3f; /* bit 22, a run that writes nothing, would find nothing; the two stand for features */
	buf_init(&options, 1024);
	buf_init(&out, 4096);
	buf_add_byte(&options, 1);
	tcp_put_bytes(&options, flags, sizeof(flags));
	*data += CHOICE_BYTES;
	*size -= CHOICE_BYTES;
	if ((how & HOW_OPTIONS) != 0)
		put_own_options(&options, data, size);
	check_options(&options);
	h.options = (struct tcp_bytes){ options.data, options.len };
	tcp_put_hello(&out, &h);
	send_frame(p, TCP_HELLO, out.data, out.len);
	buf_done(&out);
	buf_done(&options);
	run(p);
}

static void play(struct peer *p, const uint8_t *data, size_t size)
{
	greet(p, &data, &size);
	while (size >= 3 && !p->over) {
		size_t len = (size_t)data[1] | (size_t)data[2] << 8;

		len = len < size - 3 ? len : size - 3;
		send_frame(p, data[0], data + 3, len);
		run(p);
		data += 3 + len;
		size -= 3 + len;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct receiver_module module = { .name = (char *)"web", .path = top, .max_delete = -1, .uid = -1, .gid = -1 };
	struct receiver_options opt = { .modules = &module,
					.n_modules = 1,
					.insecure = true,
					.handshake_ns = 60 * NS_PER_S,
					.timeout_ns = 60 * NS_PER_S };
	struct peer p = { 0 };
	struct receiver_session_setup setup = {
		.opt = &opt, .from = "fuzz", .greeted = on_greeted, .look_up = on_look_up, .ended = on_ended, .ctx = &p
	};
	struct receiver_session *s;
	struct err err = ERR_INIT;
	int fds[2], dir;

	char backup_dir[] = ".b/%Y", groups[] = "*:0", somebody[] = "somebody", *map[] = { groups, NULL },
	     *allow[] = { somebody, NULL };
	unsigned how;

	if (size < CHOICE_BYTES)
		return 0;
	how = data[CHOICE_BYTES - 1];
	if ((how & HOW_BACKUP) != 0)
		module.backup_dir = backup_dir;
	if ((how & HOW_FEW_DELETIONS) != 0)
		module.max_delete = 1;
	module.read_only = (how & HOW_READ_ONLY) != 0;
	if ((how & HOW_OWNED) != 0) {
		module.uid = 0;
		module.groupmap = (struct strlist){ .v = map, .n = 1 };
	}
	if ((how & HOW_NAMED) != 0)
		module.allow = (struct strlist){ .v = allow, .n = 1 };
	dir = prepare();
	if ((how & HOW_ELSEWHERE) != 0) {
		(void)close(dir);
		dir = -1;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		die("socketpair");
	setup.module_fds = &dir;
	setup.fd = fds[0];
	p.fd = fds[1];
	p.loop = setup.loop = loop_new(&err);
	if (p.loop == NULL)
		die("loop");
	s = receiver_session_new(&setup, &err);
	if (s == NULL)
		die("session");
	p.session = s;
	play(&p, data, size);
	(void)shutdown(p.fd, SHUT_WR);
	run(&p);
	if (!p.over)
		abort(); /* the peer is gone */
	receiver_session_free(s);
	loop_free(p.loop);
	(void)close(p.fd);
	if (dir >= 0)
		(void)close(dir);
	check_outside();
	return 0;
}
