/* LINK: core/confine.c core/lookups.c core/privileges.c core/err.c core/fsutil.c core/safe_open.c core/path.c
 * core/buf.c */
/* LIBS: -lseccomp */
/* What a confined process still reaches, and whom it can ask for the rest. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "core/confine.h"
#include "core/lookups.h"
#include "tests/unit/scratch.h"

#ifndef LANDLOCK_CREATE_RULESET_VERSION
#define LANDLOCK_CREATE_RULESET_VERSION 1
#endif

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			(void)fprintf(stderr, "%d: %s: %s\n", __LINE__, #condition, strerror(errno));                  \
			_exit(1);                                                                                      \
		}                                                                                                      \
	} while (0)

static int set_up(void **state)
{
	*state = calloc(1, sizeof(struct scratch));
	return scratch_make(*state);
}

static int clean_up(void **state)
{
	int rc = scratch_remove(*state);

	free(*state);
	return rc;
}

/* In a child; it ends well when `what` returns. */
static void in_child(void (*what)(struct scratch *s), struct scratch *s)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		what(s);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int open_dir(struct scratch *s, const char *name)
{
	int fd = open(scratch_path(s, name), O_PATH | O_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

static bool opens(struct scratch *s, const char *name, int flags)
{
	int fd = open(scratch_path(s, name), flags | O_CLOEXEC, 0600);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void confined(struct scratch *s, unsigned may)
{
	const struct confine_place places[] = {
		{ .fd = open_dir(s, "source"), .rights = CONFINE_READ },
		{ .fd = open_dir(s, "target"), .rights = CONFINE_READ | CONFINE_WRITE },
		{ .fd = open_dir(s, "names"), .rights = CONFINE_LIST },
		{ .fd = open_dir(s, "file"), .rights = CONFINE_READ },
		{ .fd = -1, .rights = CONFINE_WRITE },
	};
	struct confinement done;
	struct err err = ERR_INIT;

	CHECK(confine(places, sizeof(places) / sizeof(places[0]), may, &done, &err) == 0);
	CHECK(done.calls);
	CHECK(done.files == (syscall(444, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) >= 2));
	if (!done.files)
		_exit(0);
}

static void reaches_its_places(struct scratch *s)
{
	confined(s, 0);
	CHECK(opens(s, "source/f", O_RDONLY));
	CHECK(!opens(s, "source/f", O_WRONLY) && errno == EACCES);
	CHECK(!opens(s, "source/new", O_WRONLY | O_CREAT) && errno == EACCES);
	CHECK(unlink(scratch_path(s, "source/f")) < 0 && errno == EACCES);
	CHECK(opens(s, "target/new", O_RDWR | O_CREAT) && opens(s, "target/new", O_WRONLY | O_TRUNC));
	CHECK(mkdir(scratch_path(s, "target/d"), 0700) == 0);
	CHECK(rename(scratch_path(s, "target/new"), scratch_path(s, "target/d/new")) == 0);
	CHECK(link(scratch_path(s, "target/d/new"), scratch_path(s, "target/again")) == 0);
	CHECK(symlink("x", scratch_path(s, "target/l")) == 0 && mkfifo(scratch_path(s, "target/p"), 0600) == 0);
	CHECK(opens(s, "names", O_RDONLY | O_DIRECTORY) && !opens(s, "names/f", O_RDONLY));
	CHECK(opens(s, "file", O_RDONLY) && !opens(s, "secret", O_RDONLY) && errno == EACCES);
	CHECK(!opens(s, ".", O_RDONLY | O_DIRECTORY));
	/* A way out of the target is none. */
	CHECK(symlink("../secret", scratch_path(s, "target/out")) == 0 && !opens(s, "target/out", O_RDONLY));
	CHECK(rename(scratch_path(s, "target/d"), scratch_path(s, "d")) < 0);
	CHECK(link(scratch_path(s, "secret"), scratch_path(s, "target/secret")) < 0);
	CHECK(open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC) >= 0 &&
	      open("/proc/1/environ", O_RDONLY | O_CLOEXEC) < 0);
}

static void *thread(void *ctx)
{
	*(bool *)ctx = true;
	return NULL;
}

static bool has_threads(void)
{
	pthread_t t;
	bool ran = false;

	return pthread_create(&t, NULL, thread, &ran) == 0 && pthread_join(t, NULL) == 0 && ran;
}

static bool forks(void)
{
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		_exit(0);
	return pid > 0;
}

static bool connects(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && (connect(fd, &(struct sockaddr){ .sa_family = AF_UNSPEC }, sizeof(struct sockaddr)) == 0 ||
			   errno != EPERM);
}

static void calls_no_more(struct scratch *s)
{
	char *argv[] = { NULL };

	CHECK(forks() && connects());
	confined(s, CONFINE_SECRETS);
	CHECK(execve("/bin/true", argv, argv) < 0 && errno == EPERM);
	CHECK(!connects() && errno == EPERM);
	CHECK(unshare(CLONE_NEWNS) < 0 && errno == EPERM);
	CHECK(kill(getppid(), 0) < 0 && errno == EPERM);
	CHECK(setuid(0) < 0 && errno == EPERM);
#if !defined(__SANITIZE_ADDRESS__)
	CHECK(!forks() && errno == EPERM);
	CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) < 0 && errno == EPERM);
#endif
}

static void connects_where_it_may(struct scratch *s)
{
	int fd;

	confined(s, CONFINE_CONNECT);
	CHECK(connects());
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0 && listen(fd, 1) < 0 && errno == EPERM);
}

static void threads_where_it_may(struct scratch *s)
{
	confined(s, CONFINE_THREADS | CONFINE_QUICK);
	CHECK(has_threads());
#if !defined(__SANITIZE_ADDRESS__)
	CHECK(!forks() && errno == EPERM);
#endif
	CHECK(!connects());
}

static void keeps_its_memory(struct scratch *s)
{
	struct rlimit core;

	confined(s, CONFINE_SECRETS);
	CHECK(prctl(PR_GET_DUMPABLE) == 0);
	CHECK(getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0);
	CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	/* What is its own it reaches all the same. */
	CHECK(opens(s, "source/f", O_RDONLY) && access("/proc/self/fd/0", F_OK) == 0);
}

static void keeps_its_memory_as_anybody(struct scratch *s)
{
	char proc[64];
	int fd = open_dir(s, "target");

	CHECK(chmod(s->dir, 0755) == 0 && chmod(scratch_path(s, "target"), 0777) == 0);
	CHECK(geteuid() != 0 || setresuid(65534, 65534, 65534) == 0);
	confined(s, CONFINE_SECRETS);
	/* Where extended attributes are set. */
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d/own", fd);
	CHECK(open(proc, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0);
}

/* Where it was 0 for good before it stays so. */
static void no_cores_of_programs(struct scratch *s)
{
	const struct rlimit none = { 0, 0 };
	struct err err = ERR_INIT;
	struct rlimit core;

	(void)s;
	CHECK(getrlimit(RLIMIT_CORE, &core) == 0);
	CHECK(confine_cores(&err) == 0);
	CHECK(core.rlim_max == 0 || (getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_cur == 1 && core.rlim_max == 1));
	CHECK(prctl(PR_GET_DUMPABLE) == 1);
	CHECK(setrlimit(RLIMIT_CORE, &none) == 0);
	CHECK(confine_cores(&err) == 0);
	CHECK(getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0);
}

static void confinement(void **state)
{
	static void (*const cases[])(struct scratch * s) = {
		reaches_its_places,	     calls_no_more,	   calls_no_more,
		connects_where_it_may,	     threads_where_it_may, keeps_its_memory,
		keeps_its_memory_as_anybody, no_cores_of_programs,
	};
	static const char *const dirs[] = { "source", "target", "names" };

	for (size_t i = 0; i < 3; i++)
		assert_int_equal(mkdir(scratch_path(*state, dirs[i]), 0755), 0);
	assert_int_equal(scratch_write(scratch_path(*state, "source/f"), "f"), 0);
	assert_int_equal(scratch_write(scratch_path(*state, "names/f"), "f"), 0);
	assert_int_equal(scratch_write(scratch_path(*state, "file"), "f"), 0);
	assert_int_equal(scratch_write(scratch_path(*state, "secret"), "f"), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		in_child(cases[i], *state);
}

/* ---- whom it asks ---- */

static void answer(const void *question, size_t len, int out)
{
	const char *q = question;
	char text[64];
	int n;

	if (len == 5 && memcmp(q, "sleep", 5) == 0)
		for (;;)
			pause();
	/* It holds nothing but what it was given. */
	n = snprintf(text, sizeof(text), "%.*s %d", (int)len, q,
		     access("/etc/passwd", R_OK) == 0 && fcntl(200, F_GETFD) < 0);
	if (write(out, text, (size_t)n) != n)
		_exit(1);
}

static const char *ask(int server, const char *question, char *out, size_t size)
{
	struct err err = ERR_INIT;
	int fd = lookups_ask(server, question, strlen(question), &err);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n;

	CHECK(fd >= 0);
	CHECK(poll(&p, 1, 60000) == 1);
	n = read(fd, out, size - 1);
	CHECK(n >= 0);
	out[n] = '\0';
	close(fd);
	return out;
}

static void asks_others(struct scratch *s)
{
	struct err err = ERR_INIT;
	char text[64];
	int server, second;

	CHECK(dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), 200) == 200);
	server = lookups_start(answer, 60, &err);
	second = lookups_start(answer, 1, &err);
	CHECK(server > 0 && second > 0);
	confined(s, 0);
	CHECK(strcmp(ask(server, "one", text, sizeof(text)), "one 1") == 0);
	/* One that does not answer holds nobody up, and ends. */
	CHECK(lookups_ask(server, "sleep", 5, &err) >= 0);
	CHECK(strcmp(ask(server, "two", text, sizeof(text)), "two 1") == 0);
	CHECK(strcmp(ask(second, "sleep", text, sizeof(text)), "") == 0);
	CHECK(strcmp(ask(second, "three", text, sizeof(text)), "three 1") == 0);
}

static void lookups(void **state)
{
	static const char *const dirs[] = { "source", "target", "names" };

	for (size_t i = 0; i < 3; i++)
		assert_int_equal(mkdir(scratch_path(*state, dirs[i]), 0755), 0);
	assert_int_equal(scratch_write(scratch_path(*state, "file"), "f"), 0);
	in_child(asks_others, *state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(confinement, set_up, clean_up),
		cmocka_unit_test_setup_teardown(lookups, set_up, clean_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
