/* LINK: core/proc.c core/err.c core/fsutil.c core/safe_open.c core/path.c core/buf.c */
/* Child processes from argument arrays. */
#include <errno.h>
#include <linux/capability.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "core/proc.h"
#include "tests/unit/scratch.h"

/* All that comes until its end. */
static const char *drain(int fd, char *out, size_t size)
{
	size_t len = 0;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		poll(&p, 1, -1);
		n = read(fd, out + len, size - 1 - len);
		if (n > 0)
			len += (size_t)n;
		else if (n == 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	out[len] = '\0';
	return out;
}

/* What a shell script says on its standard output, and how it ends. */
static int script(const struct proc_spec *more, const char *text, char *out, size_t size)
{
	const char *const argv[] = { "/bin/sh", "-c", text, "sh", NULL };
	struct proc_spec spec = *more;
	struct err err = ERR_INIT;
	struct proc p;

	spec.argv = argv;
	spec.pipe_out = true;
	if (proc_spawn(&p, &spec, &err) < 0)
		fail_msg("%s", err.text);
	drain(p.out, out, size);
	proc_close(&p);
	return scratch_wait(p.pid);
}

static void three_pipes(void **state)
{
	const char *const argv[] = { "sh", "-c",       "read x; echo \"out $x\"; echo \"err $1\" >&2; exit 3",
				     "sh", "a b'\"$;", NULL };
	const struct proc_spec spec = { .argv = argv, .pipe_in = true, .pipe_out = true, .pipe_err = true };
	struct err err = ERR_INIT;
	struct proc p;
	char text[256];

	(void)state;
	assert_int_equal(proc_spawn(&p, &spec, &err), 0);
	for (int i = 0; i < 3; i++) {
		int fd = i == 0 ? p.in : i == 1 ? p.out : p.err;

		assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	}
	assert_int_equal(write(p.in, "hello\n", 6), 6);
	assert_string_equal(drain(p.out, text, sizeof(text)), "out hello\n");
	assert_string_equal(drain(p.err, text, sizeof(text)), "err a b'\"$;\n"); /* no shell saw it */
	assert_int_equal(scratch_wait(p.pid), 3);
	proc_close(&p);
	assert_true(p.in == -1 && p.out == -1 && p.err == -1);
	proc_close(&p);
}

static void without_pipes_it_is_null(void **state)
{
	char text[256];

	(void)state;
	assert_int_equal(script(&(struct proc_spec){ 0 }, "readlink /proc/$$/fd/0 /proc/$$/fd/2", text, sizeof(text)),
			 0);
	assert_string_equal(text, "/dev/null\n/dev/null\n");
}

static void failed_exec_is_an_error_here(void **state)
{
	const char *const missing[] = { "/no/such/program", NULL }, *const dir[] = { "/", NULL };
	const char *const good[] = { "/bin/true", NULL };
	struct proc_spec spec = { .argv = missing, .pipe_in = true, .pipe_out = true, .pipe_err = true };
	struct err err = ERR_INIT;
	struct proc p;
	int before = dup(0), after;

	(void)state;
	assert_int_equal(proc_spawn(&p, &spec, &err), -1);
	assert_int_equal(err.class, ERR_GONE);
	assert_int_equal(err.code, ENOENT);
	assert_non_null(strstr(err.text, "/no/such/program"));
	spec.argv = dir;
	assert_int_equal(proc_spawn(&p, &spec, &err), -1);
	assert_int_equal(err.class, ERR_DENIED);
	spec.argv = good;
	spec.cwd = "/no/such/directory";
	assert_int_equal(proc_spawn(&p, &spec, &err), -1);
	assert_int_equal(err.class, ERR_GONE);
	/* It left neither a zombie nor a descriptor. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	after = dup(0);
	assert_int_equal(after, before + 1);
	close(after);
	close(before);
}

static void a_detached_one_says_it_itself(void **state)
{
	const char *const missing[] = { "/no/such/program", NULL }, *const good[] = { "/bin/true", NULL };
	struct proc_spec spec = { .argv = missing, .pipe_out = true, .pipe_err = true, .detached = true };
	struct err err = ERR_INIT;
	struct proc p;
	char text[256];

	(void)state;
	assert_int_equal(proc_spawn(&p, &spec, &err), 0);
	assert_string_equal(drain(p.err, text, sizeof(text)),
			    "can't start /no/such/program: No such file or directory\n");
	assert_int_equal(scratch_wait(p.pid), 127);
	proc_close(&p);
	spec.argv = good;
	spec.cwd = "/no/such/directory";
	assert_int_equal(proc_spawn(&p, &spec, &err), 0);
	assert_string_equal(drain(p.err, text, sizeof(text)), "can't start /bin/true: No such file or directory\n");
	assert_int_equal(scratch_wait(p.pid), 127);
	proc_close(&p);
	spec.cwd = NULL;
	assert_int_equal(proc_spawn(&p, &spec, &err), 0);
	assert_string_equal(drain(p.err, text, sizeof(text)), "");
	assert_int_equal(scratch_wait(p.pid), 0);
	proc_close(&p);
}

/* A file system whose server never answers. -1: we may not mount. */
static int hung_mount(const char *dir)
{
	char options[128];
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -1;
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	if (mount("hung", dir, "fuse", MS_NOSUID | MS_NODEV, options) == 0)
		return fd;
	close(fd);
	return -1;
}

static void a_detached_one_is_not_waited_for(void **state)
{
	const char *const argv[] = { "/bin/true", NULL };
	struct proc_spec spec = { .argv = argv, .pipe_err = true, .detached = true };
	struct err err = ERR_INIT;
	struct proc p;
	struct scratch at = { 0 };
	int server;

	(void)state;
	assert_int_equal(scratch_make(&at), 0);
	server = hung_mount(at.dir);
	if (server < 0) {
		assert_int_equal(scratch_remove(&at), 0);
		skip();
	}
	spec.cwd = at.dir;
	assert_int_equal(proc_spawn(&p, &spec, &err), 0);
	assert_int_equal(waitpid(p.pid, NULL, WNOHANG), 0);
	assert_int_equal(kill(p.pid, SIGKILL), 0);
	assert_int_equal(scratch_wait(p.pid), 1000 + SIGKILL);
	proc_close(&p);
	close(server);
	assert_int_equal(umount2(at.dir, MNT_DETACH), 0);
	assert_int_equal(scratch_remove(&at), 0);
}

/* The five sets, as /proc shows them. */
static void sets_of(const struct proc_spec *spec, unsigned long long set[5])
{
	char text[512];

	assert_int_equal(script(spec, "grep '^Cap' /proc/self/status", text, sizeof(text)), 0);
	assert_int_equal(sscanf(text, "CapInh: %llx CapPrm: %llx CapEff: %llx CapBnd: %llx CapAmb: %llx", &set[0],
				&set[1], &set[2], &set[3], &set[4]),
			 5);
}

/* In its own sets: `cap` is gone from them, or goes to all programs that it starts. */
static void change_own(unsigned cap, bool ambient)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data) < 0)
		_exit(10);
	if (!ambient)
		data[0].permitted &= ~(1u << cap);
	data[0].effective = data[0].permitted;
	data[1].effective = data[1].permitted;
	if (ambient)
		data[0].inheritable |= 1u << cap;
	if (syscall(SYS_capset, &head, data) < 0 ||
	    (ambient && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0))
		_exit(11);
}

static bool has_none(const struct proc_spec *spec)
{
	unsigned long long set[5];

	sets_of(spec, set);
	return set[0] == 0 && set[1] == 0 && set[2] == 0 && set[4] == 0;
}

/* In an account that is not root's, with capabilities that it was given as systemd's AmbientCapabilities= does. */
static int as_ordinary_account(const struct proc_user *other)
{
	const struct proc_spec plain = { 0 }, reduced = { .reduced = true }, become = { .user = other };

	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setresgid(1, 1, 1) < 0 || setresuid(1, 1, 1) < 0)
		return 1;
	change_own(CAP_SETUID, true);
	change_own(CAP_SETGID, true);
	change_own(CAP_SYS_ADMIN, true);
	if (has_none(&plain))
		return 2;
	if (!has_none(&reduced))
		return 3;
	return has_none(&become) ? 0 : 4;
}

/* As in the unit, where CAP_SETPCAP is not in the bounding set. */
static int without_setpcap(void)
{
	const struct proc_spec reduced = { .reduced = true };
	unsigned long long set[5];

	change_own(CAP_SETPCAP, false);
	sets_of(&reduced, set);
	return (set[1] & (1u << CAP_SYS_ADMIN)) == 0 && (set[1] & (1u << CAP_CHOWN)) != 0 ? 0 : 1;
}

static void without_our_capabilities(void **state)
{
	const struct proc_spec plain = { 0 }, reduced = { .reduced = true };
	const unsigned long long watcher = 1u << CAP_SYS_ADMIN;
	unsigned long long set[5], own[5];
	struct err err = ERR_INIT;
	struct proc_user other;
	pid_t pid;

	(void)state;
	sets_of(&plain, own);
	if (geteuid() != 0 || (own[1] & watcher) == 0)
		skip();
	sets_of(&reduced, set);
	assert_true(set[1] == (own[1] & ~watcher) && set[2] == (own[2] & ~watcher));
	assert_int_equal(proc_user_find(&other, "nobody", &err), 0);
	pid = fork();
	if (pid == 0)
		_exit(as_ordinary_account(&other));
	assert_int_equal(scratch_wait(pid), 0);
	proc_user_done(&other);
	pid = fork();
	if (pid == 0)
		_exit(without_setpcap());
	assert_int_equal(scratch_wait(pid), 0);
}

static void environment_and_directory(void **state)
{
	static const char *const env[] = { "FANSYNCD_NEW=1", "FANSYNCD_OLD=replaced", NULL };
	const struct proc_spec spec = { .env = env, .cwd = "/proc" };
	char text[256];

	(void)state;
	assert_int_equal(setenv("FANSYNCD_OLD", "old", 1), 0);
	assert_int_equal(setenv("FANSYNCD_KEPT", "kept", 1), 0);
	assert_int_equal(script(&spec, "echo $FANSYNCD_NEW $FANSYNCD_OLD $FANSYNCD_KEPT; pwd", text, sizeof(text)), 0);
	assert_string_equal(text, "1 replaced kept\n/proc\n");
	assert_string_equal(getenv("FANSYNCD_OLD"), "old"); /* ours is as it was */
	assert_null(getenv("FANSYNCD_NEW"));
}

/* Descriptor 3 is the one passed; others, close-on-exec or not, stay here. */
static void only_the_descriptor_that_is_passed(void **state)
{
	struct proc_spec spec = { 0 };
	char text[512];
	int fds[2], leak;

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	leak = fcntl(fds[0], F_DUPFD, 40); /* as a library without O_CLOEXEC would */
	assert_int_equal(write(fds[1], "through\n", 8), 8);
	spec.pass_fd = fds[0];
	assert_int_equal(script(&spec, "read x <&3; echo $x; cd /proc/$$/fd; echo [0-9]*", text, sizeof(text)), 0);
	assert_memory_equal(text, "through\n0 1 2 3", 15);
	assert_null(strstr(text, "40"));
	spec.pass_fd = 0;
	assert_int_equal(script(&spec, "if { true <&3; } 2>/dev/null; then echo open; fi", text, sizeof(text)), 0);
	assert_string_equal(text, "");
	close(leak);
	close(fds[0]);
	close(fds[1]);
}

/* Even when our own 0, 1 and 2 are closed and the pipes get these numbers. */
static void with_low_descriptors_closed(void **state)
{
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		const char *const argv[] = { "/bin/sh", "-c", "read x; echo \"o$x\"; echo \"e$x\" >&2", NULL };
		const struct proc_spec spec = { .argv = argv, .pipe_in = true, .pipe_out = true, .pipe_err = true };
		struct proc p;
		char out[64], say[64];

		close(0);
		close(1);
		close(2);
		if (proc_spawn(&p, &spec, NULL) < 0 || write(p.in, "x\n", 2) != 2)
			_exit(1);
		if (strcmp(drain(p.out, out, sizeof(out)), "ox\n") != 0)
			_exit(2);
		_exit(strcmp(drain(p.err, say, sizeof(say)), "ex\n") == 0 ? 0 : 3);
	}
	assert_int_equal(scratch_wait(pid), 0);
}

static void signals_are_as_at_the_start(void **state)
{
	const struct proc_spec spec = { 0 };
	struct sigaction ignore = { .sa_handler = SIG_IGN }, was;
	unsigned long long blocked, ignored;
	sigset_t set, old;
	char text[256];

	(void)state;
	assert_int_equal(sigaction(SIGPIPE, &ignore, &was), 0);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	assert_int_equal(sigprocmask(SIG_BLOCK, &set, &old), 0);
	assert_int_equal(script(&spec, "grep -E '^Sig(Blk|Ign)' /proc/self/status", text, sizeof(text)), 0);
	sigprocmask(SIG_SETMASK, &old, NULL);
	sigaction(SIGPIPE, &was, NULL);
	assert_int_equal(sscanf(text, "SigBlk: %llx SigIgn: %llx", &blocked, &ignored), 2);
	/* Signals 32 and 33 are the C library's own: it lets nobody touch them, and an ancestor may have had them
	 * ignored. */
	assert_int_equal(blocked & ~0x180000000ull, 0);
	assert_int_equal(ignored & ~0x180000000ull, 0);
}

static void own_group(void **state)
{
	struct proc_spec spec = { .own_group = true };
	char text[256], want[64];
	const char *get = "cut -d' ' -f1,5 </proc/$$/stat";
	long pid, group;

	(void)state;
	assert_int_equal(script(&spec, get, text, sizeof(text)), 0);
	assert_int_equal(sscanf(text, "%ld %ld", &pid, &group), 2);
	assert_int_equal(pid, group);
	spec.own_group = false;
	assert_int_equal(script(&spec, get, text, sizeof(text)), 0);
	snprintf(want, sizeof(want), " %ld\n", (long)getpgrp());
	assert_non_null(strstr(text, want));
}

/* When its parent dies, it does; we adopt it and see the signal. */
static void dies_with_its_parent(void **state)
{
	int fds[2];
	int status;
	pid_t middle;

	(void)state;
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	middle = fork();
	if (middle == 0) {
		const char *const argv[] = { "/bin/sh", "-c", "read x <&3", NULL };
		const struct proc_spec spec = { .argv = argv, .pass_fd = fds[0] };
		struct proc p;

		_exit(proc_spawn(&p, &spec, NULL) == 0 ? 0 : 1);
	}
	assert_int_equal(scratch_wait(middle), 0);
	/* We hold the writing end: nothing else ends its read. */
	assert_true(wait(&status) > 0);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
	close(fds[0]);
	close(fds[1]);
}

static void endings_in_words(void **state)
{
	char text[128];

	(void)state;
	proc_status_text(23 << 8, text, sizeof(text));
	assert_string_equal(text, "exit 23");
	proc_status_text(SIGKILL, text, sizeof(text));
	assert_string_equal(text, "killed by signal 9 (Killed)");
	proc_status_text(0x7f, text, sizeof(text));
	assert_string_equal(text, "status 0x7f");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(three_pipes),
		cmocka_unit_test(without_pipes_it_is_null),
		cmocka_unit_test(failed_exec_is_an_error_here),
		cmocka_unit_test(a_detached_one_says_it_itself),
		cmocka_unit_test(a_detached_one_is_not_waited_for),
		cmocka_unit_test(without_our_capabilities),
		cmocka_unit_test(environment_and_directory),
		cmocka_unit_test(only_the_descriptor_that_is_passed),
		cmocka_unit_test(with_low_descriptors_closed),
		cmocka_unit_test(signals_are_as_at_the_start),
		cmocka_unit_test(own_group),
		cmocka_unit_test(dies_with_its_parent),
		cmocka_unit_test(endings_in_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
