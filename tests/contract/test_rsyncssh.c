/* LINK: core/safe_open.c transports/rsyncssh_shell.c transports/rsyncssh.c transports/rsyncssh_exam.c
 * transports/rsync_exam.c core/exam.c core/credential.c transports/ssh_target.c transports/remote_shell.c core/pipes.c
 * transports/ssh_words.c transports/rsync_session.c transports/rsync_launch.c transports/rsync_domain.c
 * transports/rsync_rsh.c core/confine.c transports/rsync_judge.c transports/rsync_run.c transports/rsync_alive.c
 * transports/rsync_list.c transports/rsync_output.c transports/rsync_names.c transports/rsync_exit.c
 * transports/rsync_args.c core/buf.c core/err.c core/loop.c core/clock.c core/proc.c core/log.c core/utf8.c core/path.c
 * core/filter.c core/filter_args.c core/keep.c core/batch.c core/fsutil.c transports/rsyncssh_twoway.c
 * transports/rsyncssh_compare.c transports/rsyncssh_puts.c transports/rsyncssh_backs.c transports/rsyncssh_names.c
 * transports/rsyncssh_moves.c transports/rsyncssh_items.c transports/rsyncssh_remote.c transports/twoway_archive.c
 * transports/twoway_state.c core/twoway.c core/archive.c core/look.c transports/limit.c transports/throttle.c
 * core/backup_dir.c core/bandwidth.c core/schedule.c transports/rsyncssh_away.c */
/* LIBS: -lsqlite3 -lseccomp */
/* The transport rsyncssh against an ssh server of its own on 127.0.0.1. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/fsutil.h"
#include "core/proc.h"
#include "core/transport.h"

#define DEADLINE (100 * NS_PER_S)
#define SSHD "/usr/sbin/sshd"
#define MANY 3000

extern const struct transport transport_rsyncssh;

/* One server for all tests. */
static struct {
	char dir[128];
	char user[64];
	int port;
	struct proc sshd;
	const char *skip; /* why there is none */
} server;

/* ---- files ---- */

static char *at(const char *name)
{
	static char paths[16][700];
	static unsigned next;
	char *p = paths[next++ % 16];

	snprintf(p, sizeof(paths[0]), "%s/%s", server.dir, name);
	return p;
}

static void put_file(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void get_file(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	assert_true(fd >= 0);
	n = read(fd, out, size - 1);
	assert_true(n >= 0);
	out[n] = '\0';
	close(fd);
}

static bool there(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static int run_wait(const char *const *argv)
{
	const struct proc_spec spec = { .argv = argv };
	struct err err = ERR_INIT;
	struct proc p;
	int status = -1;

	if (proc_spawn(&p, &spec, &err) < 0)
		return -1;
	assert_int_equal(waitpid(p.pid, &status, 0), p.pid);
	return status;
}

/* ---- the server ---- */

static int free_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	close(fd);
	return ntohs(a.sin_port);
}

/* Until it says that it listens. */
static bool sshd_start(void)
{
	const char *argv[] = { SSHD, "-D", "-e", "-f", at("sshd_config"), NULL };
	const struct proc_spec spec = { .argv = argv, .pipe_err = true };
	struct err err = ERR_INIT;
	char said[4096];
	size_t n = 0;

	if (proc_spawn(&server.sshd, &spec, &err) < 0)
		return false;
	for (;;) {
		struct pollfd pfd = { .fd = server.sshd.err, .events = POLLIN };
		ssize_t got;

		if (poll(&pfd, 1, 60000) <= 0)
			return false;
		got = read(server.sshd.err, said + n, sizeof(said) - 1 - n);
		if (got <= 0) {
			fprintf(stderr, "sshd: %s\n", said);
			return false;
		}
		n += (size_t)got;
		said[n] = '\0';
		if (strstr(said, "Server listening") != NULL)
			return true;
	}
}

static void sshd_stop(void)
{
	if (server.sshd.pid <= 0)
		return;
	kill(server.sshd.pid, SIGKILL);
	waitpid(server.sshd.pid, NULL, 0);
	proc_close(&server.sshd);
	server.sshd.pid = 0;
}

static int parent_of(int pid)
{
	char path[64], text[512], *end;
	int fd, parent = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n < 0 ? 0 : n] = '\0';
	end = strrchr(text, ')');
	if (end == NULL || sscanf(end, ") %*c %d", &parent) != 1)
		return -1;
	return parent;
}

/* The processes that serve connections: our sshd's children. */
static int kill_connections(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *e;
	int killed = 0;

	assert_non_null(proc);
	while ((e = readdir(proc)) != NULL) {
		int pid = (int)strtol(e->d_name, NULL, 10);

		if (pid > 0 && parent_of(pid) == server.sshd.pid && kill(pid, SIGKILL) == 0)
			killed++;
	}
	closedir(proc);
	return killed;
}

/* Who logs in with the key gets `command` instead of what he asks for; NULL: what he asks for. */
static void authorize(const char *command)
{
	char key[1024], line[2048];

	get_file(at("user.pub"), key, sizeof(key));
	if (command == NULL)
		snprintf(line, sizeof(line), "%s", key);
	else
		snprintf(line, sizeof(line), "command=\"%s\" %s", command, key);
	put_file(at("authorized_keys"), line, 0600);
}

static int make_keys(void)
{
	const char *host[] = { "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", at("host"), NULL };
	const char *user[] = { "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", at("user"), NULL };
	const char *other[] = { "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", at("other"), NULL };

	return run_wait(host) == 0 && run_wait(user) == 0 && run_wait(other) == 0 ? 0 : -1;
}

static void write_settings(void)
{
	char text[4096], key[1024];

	get_file(at("host.pub"), key, sizeof(key));
	snprintf(text, sizeof(text), "[127.0.0.1]:%d %s", server.port, key);
	put_file(at("known_hosts"), text, 0600);
	snprintf(text, sizeof(text),
		 "Port %d\nListenAddress 127.0.0.1\nHostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nUsePAM no\n"
		 "PidFile none\nPermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
		 "MaxStartups 100\nPrintMotd no\nUseDNS no\n",
		 server.port, at("host"), at("authorized_keys"));
	put_file(at("sshd_config"), text, 0600);
	authorize(NULL);
}

static int server_up(void **state)
{
	const char *top = getenv("TESTDIR");
	const struct passwd *pw = getpwuid(getuid());

	(void)state;
	snprintf(server.dir, sizeof(server.dir), "%s/ssh.XXXXXX", top != NULL && strlen(top) < 40 ? top : "/tmp");
	assert_non_null(mkdtemp(server.dir));
	snprintf(server.user, sizeof(server.user), "%s", pw == NULL ? "root" : pw->pw_name);
	if (access(SSHD, X_OK) != 0) {
		server.skip = "no " SSHD;
		return 0;
	}
	if (getuid() == 0)
		(void)mkdir("/run/sshd", 0755); /* the server's privilege separation wants it */
	server.port = free_port();
	if (make_keys() < 0) {
		server.skip = "ssh-keygen failed";
		return 0;
	}
	write_settings();
	return sshd_start() ? 0 : -1;
}

static int server_down(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	sshd_stop();
	return remove_tree(server.dir, &err);
}

/* ---- a session and what it reports ---- */

struct bench {
	struct loop *loop;
	struct transport_counters counters;
	unsigned memory;
	struct transport_env env;
	struct sync_options opt;
	char *words[8];
	void *session;
	char src[200], dst[200], runtime[200];
	unsigned finished, down;
	struct err why;
	unsigned verdicts[VERDICTS], renames[VERDICTS];
	struct err last;
	bool late, kill_at_rename;
	int killed;
};

static void on_settle(void *ctx, size_t index, enum verdict v, const struct err *why)
{
	struct bench *b = ctx;

	(void)index;
	b->verdicts[v]++;
	if (why != NULL)
		b->last = *why;
}

static void on_settle_rename(void *ctx, size_t index, enum verdict v, const struct err *why)
{
	struct bench *b = ctx;

	(void)index;
	b->renames[v]++;
	if (why != NULL)
		b->last = *why;
	if (b->kill_at_rename && b->killed == 0)
		b->killed = kill_connections();
}

static void on_found(void *ctx, const char *path, size_t len, enum verdict v, const struct err *why)
{
	(void)ctx;
	(void)v;
	fprintf(stderr, "found %.*s: %s\n", (int)len, path, why == NULL ? "" : why->text);
}

static void on_finished(void *ctx)
{
	struct bench *b = ctx;

	b->finished++;
	loop_stop(b->loop, 0);
}

static void on_down(void *ctx, const struct err *why)
{
	struct bench *b = ctx;

	b->down++;
	b->why = *why;
	transport_rsyncssh.close(b->session); /* as the core may do */
	b->session = NULL;
	loop_stop(b->loop, 0);
}

static void on_progress(void *ctx, const struct transport_progress *p)
{
	(void)ctx;
	assert_non_null(p->phase);
}

static void on_late(void *ctx)
{
	struct bench *b = ctx;

	b->late = true;
	loop_stop(b->loop, 0);
}

static void open_session(struct bench *b)
{
	struct err err = ERR_INIT;

	b->session = transport_rsyncssh.open(&b->env, &err);
	if (b->session == NULL)
		fail_msg("open: %s", err.text);
}

static void bench_dirs(struct bench *b, const char *name)
{
	snprintf(b->src, sizeof(b->src), "%s/%s.src", server.dir, name);
	snprintf(b->dst, sizeof(b->dst), "%s/%s it's \"the\" $target", server.dir, name);
	snprintf(b->runtime, sizeof(b->runtime), "%s/%s.r%%", server.dir, name);
	assert_int_equal(mkdir(b->src, 0755), 0);
	assert_int_equal(mkdir(b->dst, 0755), 0);
	assert_int_equal(mkdir(b->runtime, 0700), 0);
}

static void bench_start(struct bench *b, const char *name)
{
	static char texts[4][32] = { "IdentitiesOnly=yes", "GlobalKnownHostsFile=/dev/null", "-F", "/dev/null" };
	static char *ssh_options[] = { texts[0], texts[1], NULL }, *extra[] = { texts[2], texts[3], NULL };
	struct err err = ERR_INIT;
	struct sync_options *o = &b->opt;

	if (server.skip != NULL) {
		print_message("skipped: %s\n", server.skip);
		skip();
	}
	*b = (struct bench){ .loop = loop_new(&err) };
	assert_non_null(b->loop);
	bench_dirs(b, name);
	o->name = b->words[0] = strdup("test");
	o->source = b->src;
	assert_true(asprintf(&b->words[1], "%s@127.0.0.1", server.user) > 0);
	o->host = b->words[1];
	o->targetdir = b->dst;
	o->delete_mode = DELETE_ALWAYS;
	o->max_delete = -1;
	o->filter = filter_new();
	o->rsync.binary = b->words[2] = strdup("rsync");
	o->rsync.links = o->rsync.times = o->rsync.perms = o->rsync.owner = o->rsync.group = true;
	o->rsync.devices = o->rsync.specials = true;
	o->ssh.binary = b->words[3] = strdup("ssh");
	o->ssh.identity_file = b->words[4] = strdup(at("user"));
	o->ssh.known_hosts_file = b->words[5] = strdup(at("known_hosts"));
	o->ssh.port = server.port;
	o->ssh.options = (struct strlist){ ssh_options, 2 };
	o->ssh.extra = (struct strlist){ extra, 2 };
	o->ssh.timeout_ns = 60 * NS_PER_S;
	b->env = (struct transport_env){ .loop = b->loop,
					 .opt = o,
					 .source_fd = open(b->src, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
					 .runtime_dir = b->runtime,
					 .counters = &b->counters,
					 .memory = &b->memory,
					 .ctx = b,
					 .settle = on_settle,
					 .settle_rename = on_settle_rename,
					 .found = on_found,
					 .finished = on_finished,
					 .down = on_down,
					 .progress = on_progress };
	assert_true(b->env.source_fd >= 0);
	if (transport_rsyncssh.validate(o, &err) < 0)
		fail_msg("validate: %s", err.text);
	authorize(NULL);
}

static void bench_end(struct bench *b)
{
	if (b->session != NULL)
		transport_rsyncssh.close(b->session);
	loop_free(b->loop);
	close(b->env.source_fd);
	filter_free(b->opt.filter);
	free(b->opt.target);
	for (size_t i = 0; i < 8; i++)
		free(b->words[i]);
}

static void carry(struct bench *b, const struct transport_work *work, bool reconcile)
{
	struct err err = ERR_INIT;
	struct loop_timer *timer = loop_timer_add(b->loop, on_late, b, &err);
	int rc;

	assert_non_null(timer);
	b->finished = b->down = 0;
	memset(b->verdicts, 0, sizeof(b->verdicts));
	memset(b->renames, 0, sizeof(b->renames));
	loop_timer_after(timer, DEADLINE);
	rc = reconcile ? transport_rsyncssh.reconcile(b->session, work, &err)
		       : transport_rsyncssh.apply(b->session, work, &err);
	if (rc < 0)
		fail_msg("not taken: %s", err.text);
	assert_int_equal(b->finished + b->down, 0);
	assert_int_equal(loop_run(b->loop, &err), 0);
	loop_timer_remove(timer);
	assert_false(b->late);
}

static struct transport_item item_of(const struct bench *b, const char *path)
{
	struct transport_item it = { .path = path, .len = strlen(path), .flags = MARK_LOOK | MARK_NAME };
	char full[1024];

	snprintf(full, sizeof(full), "%s/%s", b->src, path);
	if (lstat(full, &it.st) != 0)
		it.look = LOOK_ABSENT;
	else
		it.look = S_ISDIR(it.st.st_mode) ? LOOK_DIR : S_ISREG(it.st.st_mode) ? LOOK_FILE : LOOK_SPECIAL;
	return it;
}

static void reconcile_all(struct bench *b)
{
	struct transport_item root = item_of(b, "");
	const struct transport_work work = { .items = &root, .n_items = 1, .may_delete = true, .max_delete = -1 };

	carry(b, &work, true);
	if (b->down != 0)
		fail_msg("down: %s", b->why.text);
	assert_int_equal(b->verdicts[VERDICT_DONE], 1);
}

static struct batch_rename rename_of(const char *from, const char *to, bool is_dir)
{
	return (struct batch_rename){ from, strlen(from), to, strlen(to), is_dir };
}

static void rename_all(struct bench *b, const struct batch_rename *r, size_t n)
{
	const struct transport_work work = { .renames = r, .n_renames = n, .may_delete = true, .max_delete = -1 };

	carry(b, &work, false);
}

static void in_src(const struct bench *b, const char *name, const char *text)
{
	char path[1024];

	snprintf(path, sizeof(path), "%s/%s", b->src, name);
	if (text == NULL)
		assert_int_equal(mkdir(path, 0755), 0);
	else
		put_file(path, text, 0644);
}

static void move_in_src(const struct bench *b, const char *from, const char *to)
{
	char x[1024], y[1024];

	snprintf(x, sizeof(x), "%s/%s", b->src, from);
	snprintf(y, sizeof(y), "%s/%s", b->src, to);
	assert_int_equal(rename(x, y), 0);
}

static void check_dst(const struct bench *b, const char *name, const char *text)
{
	char path[1024], got[256];

	snprintf(path, sizeof(path), "%s/%s", b->dst, name);
	if (text == NULL) {
		if (there(path))
			fail_msg("%s is there", path);
		return;
	}
	get_file(path, got, sizeof(got));
	assert_string_equal(got, text);
}

/* ---- tests ---- */

static void odd_names(void **state)
{
	static const char *const names[] = { "plain",	       "with space",   "it's",		"\"$HOME\" `id`",
					     "a\nb\n",	       "-rf",	       "--help",	"\xff\xfe",
					     "$(touch pwned)", "*?[x]",	       "back\\slash\\", "~root",
					     " lead trail ",   "semi;colon|&", "\x01\x1b[31m",	"#no comment",
					     ";nor this" };
	enum { N = sizeof(names) / sizeof(names[0]) };
	struct bench b;
	struct batch_rename r[2 * N];
	char to[2 * N][64];

	(void)state;
	bench_start(&b, "odd");
	in_src(&b, "new 'dir'", NULL);
	for (size_t i = 0; i < N; i++)
		in_src(&b, names[i], names[i]);
	open_session(&b);
	reconcile_all(&b);
	assert_int_equal(b.counters.files_sent, N);
	/* There in two steps, one of them into a directory that the target does not have. */
	for (size_t i = 0; i < N; i++) {
		snprintf(to[i], sizeof(to[i]), "x%zu%s", i, names[i]);
		r[i] = rename_of(names[i], to[i], false);
		move_in_src(&b, names[i], to[i]);
	}
	in_src(&b, "-n ew\n", NULL);
	for (size_t i = 0; i < N; i++) {
		snprintf(to[N + i], sizeof(to[0]), "-n ew\n/%s", names[i]);
		r[N + i] = rename_of(to[i], to[N + i], false);
		move_in_src(&b, to[i], to[N + i]);
	}
	rename_all(&b, r, 2 * N);
	assert_int_equal(b.finished, 1);
	assert_int_equal(b.renames[VERDICT_DONE], 2 * N);
	for (size_t i = 0; i < N; i++) {
		check_dst(&b, names[i], NULL);
		check_dst(&b, to[i], NULL);
		check_dst(&b, to[N + i], names[i]);
	}
	assert_int_equal(b.counters.renames_carried, 2 * N);
	reconcile_all(&b);
	assert_int_equal(b.counters.files_sent, N);
	assert_int_equal(b.counters.deletions, 0);
	assert_int_equal(b.counters.handshakes, 1);
	bench_end(&b);
}

static void moved_directory_sends_nothing(void **state)
{
	struct bench b;
	struct batch_rename r = rename_of("old", "deep/new", true);
	struct transport_item items[3];
	struct transport_work work = {
		.renames = &r, .n_renames = 1, .items = items, .n_items = 3, .may_delete = true, .max_delete = -1
	};
	char name[64];

	(void)state;
	bench_start(&b, "moved");
	in_src(&b, "old", NULL);
	in_src(&b, "deep", NULL);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "old/file %d", i);
		in_src(&b, name, name);
	}
	open_session(&b);
	reconcile_all(&b);
	assert_int_equal(b.counters.files_sent, 1000);
	move_in_src(&b, "old", "deep/new");
	in_src(&b, "other", "other");
	items[0] = item_of(&b, "deep");
	items[1] = item_of(&b, "deep/new");
	items[2] = item_of(&b, "other");
	carry(&b, &work, false);
	assert_int_equal(b.finished, 1);
	assert_int_equal(b.renames[VERDICT_DONE], 1);
	assert_int_equal(b.verdicts[VERDICT_DONE], 3);
	check_dst(&b, "deep/new/file 999", "old/file 999");
	check_dst(&b, "old", NULL);
	check_dst(&b, "other", "other");
	reconcile_all(&b);
	assert_int_equal(b.counters.files_sent, 1001);
	assert_int_equal(b.counters.deletions, 0);
	assert_int_equal(b.counters.handshakes, 1);
	bench_end(&b);
}

/* What is at the target stays as it is, whatever is asked for. */
static void dangerous_renames_are_refused(struct bench *b)
{
	char path[1024];
	const struct batch_rename r[] = { rename_of("missing", "x", false),   rename_of("link/file", "y", false),
					  rename_of("file", "link/z", false), rename_of("file", "full", false),
					  rename_of("full", "full2", true),   rename_of("dir/link2/sub/a", "w", false),
					  rename_of("full", "file", true) };

	in_src(b, "file", "file");
	in_src(b, "full", NULL);
	in_src(b, "full/a", "a");
	in_src(b, "full2", NULL);
	in_src(b, "full2/b", "b");
	in_src(b, "dir", NULL);
	open_session(b);
	reconcile_all(b);
	snprintf(path, sizeof(path), "%s/outside", b->runtime);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/outside/file", b->runtime);
	put_file(path, "outside", 0644);
	{
		char outside[1024];

		snprintf(outside, sizeof(outside), "%s/outside", b->runtime);
		snprintf(path, sizeof(path), "%s/link", b->dst);
		assert_int_equal(symlink(outside, path), 0);
		snprintf(path, sizeof(path), "%s/dir/link2", b->dst);
		assert_int_equal(symlink(outside, path), 0);
	}
	rename_all(b, r, sizeof(r) / sizeof(r[0]));
	assert_int_equal(b->finished, 1);
	assert_int_equal(b->renames[VERDICT_RECONCILE], sizeof(r) / sizeof(r[0]));
	assert_int_equal(b->counters.renames_carried, 0);
	check_dst(b, "file", "file");
	check_dst(b, "full/a", "a");
	check_dst(b, "full2/b", "b");
	check_dst(b, "link/file", "outside");
	check_dst(b, "link/z", NULL);
	check_dst(b, "full/file", NULL);
	check_dst(b, "full2/full", NULL);
}

static void renames_refused(void **state)
{
	struct bench b;

	(void)state;
	bench_start(&b, "refused");
	dangerous_renames_are_refused(&b);
	bench_end(&b);
}

/* A login that runs `shell` where a shell is asked for, with a path of its own. */
static void put_login(const char *name, const char *path_dir, const char *shell)
{
	char text[2048];

	snprintf(text, sizeof(text),
		 "#!/bin/sh\ncase $SSH_ORIGINAL_COMMAND in\n'exec /bin/sh') PATH=%s:$PATH exec %s ;;\nesac\n"
		 "exec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"\n",
		 path_dir, shell);
	put_file(at(name), text, 0755);
	authorize(at(name));
}

static void mv_without_target_option(void **state)
{
	struct bench b;
	struct batch_rename r = rename_of("file", "dir/moved", false);

	(void)state;
	bench_start(&b, "plainmv");
	assert_int_equal(mkdir(at("plainmv.bin"), 0755), 0);
	put_file(at("plainmv.bin/mv"),
		 "#!/bin/sh\ncase $1:$2 in --help*|*:-T) echo 'usage: mv [-fi] source target' >&2; exit 64 ;; esac\n"
		 "exec /bin/mv \"$@\"\n",
		 0755);
	put_login("plainmv.login", at("plainmv.bin"), "dash");
	dangerous_renames_are_refused(&b);
	rename_all(&b, &r, 1);
	assert_int_equal(b.renames[VERDICT_DONE], 1);
	check_dst(&b, "dir/moved", "file");
	bench_end(&b);
}

static void busybox_at_the_target(void **state)
{
	const char *argv[] = { "busybox", "mv", "--help", NULL };
	struct bench b;
	struct batch_rename r = rename_of("file", "dir/it's moved", false);

	(void)state;
	if (run_wait(argv) != 0) {
		print_message("skipped: no busybox\n");
		skip();
	}
	bench_start(&b, "busybox");
	assert_int_equal(mkdir(at("busybox.bin"), 0755), 0);
	put_file(at("busybox.bin/mv"), "#!/bin/sh\nexec busybox mv \"$@\"\n", 0755);
	put_file(at("busybox.bin/mkdir"), "#!/bin/sh\nexec busybox mkdir \"$@\"\n", 0755);
	put_login("busybox.login", at("busybox.bin"), "busybox sh");
	dangerous_renames_are_refused(&b);
	rename_all(&b, &r, 1);
	assert_int_equal(b.renames[VERDICT_DONE], 1);
	check_dst(&b, "dir/it's moved", "file");
	bench_end(&b);
}

static void connection_dies_in_the_middle(void **state)
{
	struct bench b;
	struct batch_rename *r = calloc(MANY, sizeof(*r));
	char(*names)[2][32] = calloc(MANY, sizeof(*names));

	(void)state;
	assert_non_null(r);
	assert_non_null(names);
	bench_start(&b, "dies");
	in_src(&b, "file0", "x");
	open_session(&b);
	reconcile_all(&b);
	for (size_t i = 0; i < MANY; i++) {
		snprintf(names[i][0], 32, "file%zu", i);
		snprintf(names[i][1], 32, "file%zu", i + 1);
		r[i] = rename_of(names[i][0], names[i][1], false);
	}
	b.kill_at_rename = true;
	rename_all(&b, r, MANY);
	assert_true(b.killed > 0);
	assert_int_equal(b.down, 1);
	assert_int_equal(b.finished, 0);
	assert_int_equal(b.why.class, ERR_NETWORK);
	assert_in_range(b.renames[VERDICT_DONE], 1, MANY - 1);
	assert_int_equal(b.renames[VERDICT_RECONCILE], 0);
	/* A new session finds it again. */
	b.kill_at_rename = false;
	open_session(&b);
	reconcile_all(&b);
	check_dst(&b, "file0", "x");
	assert_int_equal(b.counters.handshakes, 2);
	bench_end(&b);
	free(names);
	free(r);
}

/* Between two works: the next one connects anew, nothing is reported. */
static void connection_dies_while_idle(void **state)
{
	struct bench b;
	struct batch_rename r = rename_of("a", "b", false);

	(void)state;
	bench_start(&b, "idle");
	in_src(&b, "a", "a");
	open_session(&b);
	reconcile_all(&b);
	assert_true(kill_connections() > 0);
	while (b.counters.handshakes < 2) {
		rename_all(&b, &r, 1);
		/* The end may be seen before the work, or by it. */
		if (b.down != 0)
			open_session(&b);
		else
			break;
	}
	assert_int_equal(b.renames[VERDICT_DONE], 1);
	check_dst(&b, "b", "a");
	assert_int_equal(b.counters.handshakes, 2);
	bench_end(&b);
}

static void server_is_restarted(void **state)
{
	struct bench b;

	(void)state;
	bench_start(&b, "restart");
	in_src(&b, "a", "a");
	sshd_stop();
	open_session(&b);
	rename_all(&b, NULL, 0);
	assert_int_equal(b.down, 1);
	assert_int_equal(b.why.class, ERR_NETWORK);
	assert_non_null(strstr(b.why.text, "Connection refused"));
	assert_int_equal(b.counters.handshakes, 0);
	assert_true(sshd_start());
	open_session(&b);
	reconcile_all(&b);
	check_dst(&b, "a", "a");
	bench_end(&b);
}

static void unknown_host_and_unknown_user(void **state)
{
	struct bench b;

	(void)state;
	bench_start(&b, "auth");
	put_file(at("nothing"), "", 0600);
	free(b.words[5]);
	b.opt.ssh.known_hosts_file = b.words[5] = strdup(at("nothing"));
	open_session(&b);
	rename_all(&b, NULL, 0);
	assert_int_equal(b.down, 1);
	assert_int_equal(b.why.class, ERR_AUTH);
	assert_non_null(strstr(b.why.text, "ssh-keyscan"));
	free(b.words[5]);
	b.opt.ssh.known_hosts_file = b.words[5] = strdup(at("known_hosts"));
	free(b.words[4]);
	b.opt.ssh.identity_file = b.words[4] = strdup(at("other"));
	open_session(&b);
	rename_all(&b, NULL, 0);
	assert_int_equal(b.down, 1);
	assert_int_equal(b.why.class, ERR_AUTH);
	assert_non_null(strstr(b.why.text, "Permission denied"));
	assert_non_null(strstr(b.why.text, "ssh-copy-id"));
	bench_end(&b);
}

static void without_ssh(void **state)
{
	struct bench b;

	(void)state;
	bench_start(&b, "nossh");
	free(b.words[3]);
	b.opt.ssh.binary = b.words[3] = strdup(at("no-such-ssh"));
	open_session(&b);
	rename_all(&b, NULL, 0);
	assert_int_equal(b.down, 1);
	assert_int_equal(b.why.class, ERR_CONFIG);
	bench_end(&b);
}

/* A rename and a file, where only rsync may be run. */
static void carry_without_shell(struct bench *b)
{
	struct batch_rename r = rename_of("a", "b", false);
	struct transport_item it;
	const struct transport_work work = {
		.renames = &r, .n_renames = 1, .items = &it, .n_items = 1, .may_delete = true, .max_delete = -1
	};

	in_src(b, "a", "a");
	open_session(b);
	reconcile_all(b);
	in_src(b, "c", "c");
	it = item_of(b, "c");
	carry(b, &work, false);
	assert_int_equal(b->finished, 1);
	assert_int_equal(b->renames[VERDICT_RECONCILE], 1);
	assert_int_equal(b->verdicts[VERDICT_DONE], 1);
	check_dst(b, "a", "a");
	check_dst(b, "b", NULL);
	check_dst(b, "c", "c");
}

static void only_rsync_is_allowed(void **state)
{
	struct bench b;

	(void)state;
	bench_start(&b, "forced");
	put_file(at("forced.login"),
		 "#!/bin/sh\ncase $SSH_ORIGINAL_COMMAND in 'rsync --server '*) exec $SSH_ORIGINAL_COMMAND ;; esac\n"
		 "echo 'only rsync here' >&2\nexit 1\n",
		 0755);
	authorize(at("forced.login"));
	carry_without_shell(&b);
	assert_non_null(strstr(b.last.text, "there is no shell"));
	assert_true(b.counters.handshakes >= 3); /* the vain one, and one each rsync */
	bench_end(&b);
}

static void own_remote_shell(void **state)
{
	struct bench b;
	char *rsh = NULL;

	(void)state;
	bench_start(&b, "rsh");
	assert_true(asprintf(&rsh, "ssh -F /dev/null -p %d -i %s -oUserKnownHostsFile=%s", server.port, at("user"),
			     at("known_hosts")) > 0);
	b.opt.rsync.rsh = b.words[6] = rsh;
	carry_without_shell(&b);
	assert_true(b.counters.handshakes >= 2);
	bench_end(&b);
}

static void prefix_and_relative_directory(void **state)
{
	struct bench b;
	struct batch_rename r = rename_of("a", "-b/c", false);
	char *prefix[] = { (char[]){ "env" }, (char[]){ "-C" }, server.dir, NULL };
	char *relative = NULL;

	(void)state;
	bench_start(&b, "prefix");
	assert_true(asprintf(&relative, "~/%s/", strrchr(b.dst, '/') + 1) > 0);
	b.opt.targetdir = b.words[6] = relative;
	b.opt.ssh.remote_prefix = (struct strlist){ prefix, 3 };
	in_src(&b, "a", "a");
	open_session(&b);
	reconcile_all(&b);
	check_dst(&b, "a", "a");
	rename_all(&b, &r, 1);
	assert_int_equal(b.renames[VERDICT_DONE], 1);
	check_dst(&b, "-b/c", "a");
	assert_int_equal(b.counters.handshakes, 1);
	bench_end(&b);
}

static void dry_run_renames_nothing(void **state)
{
	struct bench b;
	struct batch_rename r = rename_of("a", "b", false);

	(void)state;
	bench_start(&b, "dry");
	in_src(&b, "a", "a");
	open_session(&b);
	reconcile_all(&b);
	b.opt.rsync.dry_run = true;
	rename_all(&b, &r, 1);
	assert_int_equal(b.renames[VERDICT_RECONCILE], 1);
	check_dst(&b, "a", "a");
	bench_end(&b);
}

/* With backups, a rename must not replace anything: rsync does, and keeps the old one. */
static void backups_are_not_bypassed(void **state)
{
	struct bench b;
	const struct batch_rename r[] = { rename_of("a", "b", false), rename_of("a", "c", false) };

	(void)state;
	bench_start(&b, "backup");
	b.opt.rsync.backup = true;
	in_src(&b, "a", "a");
	in_src(&b, "b", "b");
	open_session(&b);
	reconcile_all(&b);
	rename_all(&b, r, 2);
	assert_int_equal(b.renames[VERDICT_RECONCILE], 1);
	assert_int_equal(b.renames[VERDICT_DONE], 1);
	check_dst(&b, "b", "b");
	check_dst(&b, "c", "a");
	bench_end(&b);
}

/* Closed while it connects, while it renames: nothing is left running, nothing called back. */
static void closed_early(void **state)
{
	struct bench b;
	struct batch_rename r = rename_of("a", "b", false);
	const struct transport_work work = { .renames = &r, .n_renames = 1 };
	struct err err = ERR_INIT;

	(void)state;
	bench_start(&b, "early");
	for (int rounds = 0; rounds < 12; rounds++) {
		open_session(&b);
		assert_int_equal(transport_rsyncssh.apply(b.session, &work, &err), 0);
		for (int i = 0; i < rounds && b.finished + b.down == 0; i++)
			assert_int_equal(loop_once(b.loop, 1000, &err), 0);
		if (b.session != NULL)
			transport_rsyncssh.close(b.session);
		b.session = NULL;
		b.finished = b.down = 0;
		assert_int_equal(loop_once(b.loop, 0, &err), 0);
		assert_int_equal(b.finished + b.down, 0);
	}
	assert_false(there(at("early.r%/c")));
	bench_end(&b);
}

static void hosts_and_directories(void **state)
{
	static const struct {
		const char *host, *dir, *target; /* NULL: refused */
	} cases[] = {
		{ "nas", "/srv/x", "nas:/srv/x" },
		{ "me@nas.example", "x y", "me@nas.example:x y" },
		{ "::1", "/x", "[::1]:/x" },
		{ "me@fe80::1%eth0", "/x", "me@[fe80::1%eth0]:/x" },
		{ "me@[::1]", "~/x", "me@[::1]:~/x" },
		{ "-oProxyCommand=id", "/x", NULL },
		{ "me@-oProxyCommand=id", "/x", NULL },
		{ "a b", "/x", NULL },
		{ "a\nb", "/x", NULL },
		{ "a\tb", "/x", NULL },
		{ "", "/x", NULL },
		{ "me@", "/x", NULL },
		{ "nas:22", "/x", NULL },
		{ "nas:/srv", "/x", NULL },
		{ "ssh://nas", "/x", NULL },
		{ "$(id)", "/x", NULL },
		{ "[::1", "/x", NULL },
		{ "nas", "~other/x", NULL },
		{ "nas", "a\nb", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sync_options o = { .host = strdup(cases[i].host), .targetdir = strdup(cases[i].dir) };
		struct err err = ERR_INIT;
		int rc = transport_rsyncssh.validate(&o, &err);

		if ((rc == 0) != (cases[i].target != NULL))
			fail_msg("host %s, targetdir %s: %d %s", cases[i].host, cases[i].dir, rc, err.text);
		if (rc == 0)
			assert_string_equal(o.target, cases[i].target);
		else
			assert_int_equal(err.class, ERR_CONFIG);
		free(o.host);
		free(o.targetdir);
		free(o.target);
	}
}

static void prefixes(void **state)
{
	char *good[] = { (char[]){ "sudo" }, (char[]){ "-n" }, NULL };
	char *bad[] = { (char[]){ "sudo; id" }, NULL };
	struct sync_options o = { .host = (char[]){ "nas" }, .targetdir = (char[]){ "/x" } };
	struct err err = ERR_INIT;

	(void)state;
	o.ssh.remote_prefix = (struct strlist){ good, 2 };
	assert_int_equal(transport_rsyncssh.validate(&o, &err), 0);
	o.ssh.remote_prefix = (struct strlist){ bad, 1 };
	assert_int_equal(transport_rsyncssh.validate(&o, &err), -1);
	free(o.target);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hosts_and_directories),
		cmocka_unit_test(prefixes),
		cmocka_unit_test(odd_names),
		cmocka_unit_test(moved_directory_sends_nothing),
		cmocka_unit_test(renames_refused),
		cmocka_unit_test(mv_without_target_option),
		cmocka_unit_test(busybox_at_the_target),
		cmocka_unit_test(connection_dies_in_the_middle),
		cmocka_unit_test(connection_dies_while_idle),
		cmocka_unit_test(server_is_restarted),
		cmocka_unit_test(unknown_host_and_unknown_user),
		cmocka_unit_test(without_ssh),
		cmocka_unit_test(only_rsync_is_allowed),
		cmocka_unit_test(own_remote_shell),
		cmocka_unit_test(prefix_and_relative_directory),
		cmocka_unit_test(dry_run_renames_nothing),
		cmocka_unit_test(backups_are_not_bypassed),
		cmocka_unit_test(closed_early),
	};

	return cmocka_run_group_tests(tests, server_up, server_down);
}
