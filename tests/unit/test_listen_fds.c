/* LINK: core/listen_fds.c core/err.c */
/* The sockets of a service manager: what is taken over, and what is refused. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/listen_fds.h"

static int tcp_socket(bool listening)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	if (listening)
		assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void set_env(const char *pid, const char *fds)
{
	assert_int_equal(pid == NULL ? unsetenv("LISTEN_PID") : setenv("LISTEN_PID", pid, 1), 0);
	assert_int_equal(fds == NULL ? unsetenv("LISTEN_FDS") : setenv("LISTEN_FDS", fds, 1), 0);
	assert_int_equal(setenv("LISTEN_FDNAMES", "a", 1), 0);
}

static int take(const char *pid, const char *fds, size_t *n, struct err *err)
{
	int rc;

	set_env(pid, fds);
	rc = listen_fds_take(n, err);
	/* Children must not take them for theirs. */
	assert_null(getenv("LISTEN_PID"));
	assert_null(getenv("LISTEN_FDS"));
	assert_null(getenv("LISTEN_FDNAMES"));
	return rc;
}

static void test_nobody_passed_any(void **state)
{
	static const char *const wrong[][2] = { { NULL, NULL }, { NULL, "1" }, { "1", "1" }, { "x", "1" }, { "", "" } };
	struct err err = ERR_INIT;
	char pid[16];
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		n = 99;
		assert_int_equal(take(wrong[i][0], wrong[i][1], &n, &err), 0);
		assert_int_equal(n, 0);
	}
	(void)snprintf(pid, sizeof(pid), "%d", getpid());
	for (size_t i = 0; i < 4; i++) {
		static const char *const counts[] = { "0", "-1", "1x", "99999999999999999999" };

		n = 99;
		assert_int_equal(take(pid, counts[i], &n, &err), 0);
		assert_int_equal(n, 0);
	}
	assert_int_equal(take(pid, "17", &n, &err), -1);
	assert_int_equal(err.class, ERR_LIMIT);
}

/* In a process of its own, which has the sockets at 3 and 4. */
static int child(int first, int second)
{
	struct err err = ERR_INIT;
	char pid[16];
	size_t n = 99;

	(void)snprintf(pid, sizeof(pid), "%d", getpid());
	if (first != 3 && dup2(first, 3) != 3)
		return 9;
	if (second >= 0 && second != 4 && dup2(second, 4) != 4)
		return 9;
	set_env(pid, second >= 0 ? "2" : "1");
	if (listen_fds_take(&n, &err) < 0)
		return err.class == ERR_CONFIG && strstr(err.text, "listening TCP socket") != NULL ? 1 : 2;
	for (int fd = 3; fd < 3 + (int)n; fd++)
		if ((fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0 || (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0)
			return 3;
	return n == (second >= 0 ? 2 : 1) ? 0 : 4;
}

static int with(int first, int second)
{
	int status, high = first < 20 ? fcntl(first, F_DUPFD, 20) : first;
	int high2 = second >= 0 ? fcntl(second, F_DUPFD, 20) : -1;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(child(high, high2));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	(void)close(high);
	if (high2 >= 0)
		(void)close(high2);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_passed(void **state)
{
	int a = tcp_socket(true), b = tcp_socket(true), deaf = tcp_socket(false), udp = socket(AF_INET, SOCK_DGRAM, 0);
	int local = socket(AF_UNIX, SOCK_STREAM, 0), null = open("/dev/null", O_RDONLY);
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	(void)state;
	/* An abstract name of the kernel's choice. */
	assert_int_equal(bind(local, (struct sockaddr *)&un, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(local, 1), 0);
	assert_int_equal(with(a, -1), 0);
	assert_int_equal(with(a, b), 0);
	assert_int_equal(with(a, deaf), 1);
	assert_int_equal(with(deaf, -1), 1);
	assert_int_equal(with(udp, -1), 1);
	assert_int_equal(with(local, -1), 1);
	assert_int_equal(with(null, -1), 1);
	(void)close(a);
	(void)close(b);
	(void)close(deaf);
	(void)close(udp);
	(void)close(local);
	(void)close(null);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nobody_passed_any),
		cmocka_unit_test(test_passed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
