/* LINK: core/tunnel_port.c core/buf.c core/err.c */
/* The port of a tunnel: the word for it, choosing one, and who listens there. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/tunnel_port.h"

static void put(const char *text, const char *expected)
{
	struct buf b;

	buf_init(&b, 4096);
	assert_true(tunnel_port_put(&b, text, 40123));
	assert_string_equal(buf_str(&b), expected);
	buf_done(&b);
}

static void word(void **state)
{
	const char *words[] = { "ssh", "-L", "${port}:localhost:${port}", "$port ${Port} ${port", "", NULL };
	const struct strlist command = { (char **)(uintptr_t)words, 5 }, none = { (char **)(uintptr_t)words, 2 };
	char **argv = tunnel_port_argv(&command, 7);
	struct buf small;

	(void)state;
	put("", "");
	put("rsync://h:${port}/m", "rsync://h:40123/m");
	put("${port}", "40123");
	put("${port}${port}x", "4012340123x");
	put("$${port}", "$40123");
	put("${port ${PORT} $port", "${port ${PORT} $port");
	assert_true(tunnel_port_named("a${port}") && !tunnel_port_named("a$port") && !tunnel_port_named(NULL));
	assert_true(tunnel_port_named_in(&command) && !tunnel_port_named_in(&none));
	assert_non_null(argv);
	assert_string_equal(argv[2], "7:localhost:7");
	assert_string_equal(argv[3], "$port ${Port} ${port");
	assert_string_equal(argv[4], "");
	assert_null(argv[5]);
	tunnel_port_free_argv(argv);
	tunnel_port_free_argv(NULL);
	buf_init(&small, 3);
	assert_false(tunnel_port_put(&small, "ab${port}", 12345));
	buf_done(&small);
}

static const char heading[] =
	"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

#define ROW(local, st, uid, inode)                                                                                     \
	"   1: " local " 00000000:0000 " st " 00000000:00000000 00:00000000 00000000  " uid "        0 " inode         \
	" 1 0000000000000000 100 0 0 10 0\n"

/* Whatever pieces the text comes in. */
static size_t scan(const char *text, uint16_t port, struct port_listener *out, size_t max, size_t piece)
{
	struct port_scan s = { .port = port, .out = out, .max = max };

	for (size_t at = 0, n = strlen(text); at < n; at += piece)
		port_scan_feed(&s, text + at, n - at < piece ? n - at : piece);
	return s.n;
}

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LOOPBACK "0100007F"
#define LOOPBACK_2 "0201007F"
#define OTHER "0100A8C0"
#define LOOPBACK6 "00000000000000000000000001000000"
#define MAPPED "0000000000000000FFFF00000100007F"
#define MAPPED_OTHER "0000000000000000FFFF00000100A8C0"
#define OTHER6 "000080FE000000000000000001000000"
#else
#define LOOPBACK "7F000001"
#define LOOPBACK_2 "7F000102"
#define OTHER "C0A80001"
#define LOOPBACK6 "00000000000000000000000000000001"
#define MAPPED "00000000000000000000FFFF7F000001"
#define MAPPED_OTHER "00000000000000000000FFFFC0A80001"
#define OTHER6 "FE800000000000000000000000000001"
#endif
#define ANY6 "00000000000000000000000000000000"

static void kernels_table(void **state)
{
	char text[8192];
	struct port_listener l[16];

	(void)state;
	(void)snprintf(text, sizeof(text), "%s%s%s%s%s%s%s%s%s%s%s%s%s", heading,
		       ROW(LOOPBACK ":1F90", "0A", "1000", "11"), ROW("00000000:1F90", "0A", "0", "12"),
		       ROW(LOOPBACK_2 ":1F90", "0A", "0", "13"), ROW(OTHER ":1F90", "0A", "0", "14"),
		       ROW(LOOPBACK6 ":1F90", "0A", "0", "15"), ROW(ANY6 ":1F90", "0A", "0", "16"),
		       ROW(MAPPED ":1F90", "0A", "0", "17"), ROW(MAPPED_OTHER ":1F90", "0A", "0", "18"),
		       ROW(OTHER6 ":1F90", "0A", "0", "19"), ROW(LOOPBACK ":1F91", "0A", "0", "20"),
		       ROW(LOOPBACK ":1F90", "01", "0", "21"), ROW(LOOPBACK ":1F90", "0A", "0", "22"));
	for (size_t piece = 1; piece < 400; piece += 13) {
		const uint64_t expected[] = { 11, 12, 13, 15, 16, 17 };

		assert_int_equal(scan(text, 0x1f90, l, 16, piece), 6);
		for (size_t i = 0; i < 6; i++)
			assert_int_equal(l[i].inode, expected[i]);
		assert_int_equal(l[0].uid, 1000);
	}
	assert_int_equal(scan(text, 0x1f91, l, 16, 4096), 1);
	assert_int_equal(scan(text, 0x1f90, l, 2, 4096), 2);
	assert_int_equal(scan(text, 1, l, 16, 4096), 0);
}

static void no_table(void **state)
{
	static const char *const texts[] = { "\n\n\n",
					     ":\n",
					     "1:\n",
					     "1: :\n",
					     "1: a b 0A\n",
					     "1: :1F90 : 0A 1 2 3 4 5 6\n",
					     "1: 0:1F90 : 0A 1 2 3 4 5 6\n",
					     "   ",
					     "x" };
	struct port_listener l[2];
	char line[2000];

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(scan(texts[i], 0x1f90, l, 2, 3), 0);
	memset(line, '1', sizeof(line));
	line[sizeof(line) - 2] = '\n';
	line[sizeof(line) - 1] = '\0';
	assert_int_equal(scan(line, 0x1f90, l, 2, 100), 0);
}

static int listen_at(uint16_t port)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(fd, 1) == 0)
		return fd;
	(void)close(fd);
	return -1;
}

/* One that nobody else took meanwhile. */
static int listen_somewhere(uint16_t *port)
{
	for (int i = 0; i < 100; i++) {
		struct err err = ERR_INIT;
		int fd;

		*port = tunnel_port_choose(&err);
		assert_int_not_equal(*port, 0);
		fd = listen_at(*port);
		if (fd >= 0)
			return fd;
	}
	fail();
	return -1;
}

static void this_hosts_table(void **state)
{
	struct port_listener l[4];
	uint16_t port;
	int fd = listen_somewhere(&port);

	(void)state;
	assert_false(tunnel_port_free(port));
	assert_int_equal(tunnel_port_listeners(port, l, 4), 1);
	assert_int_equal(l[0].uid, geteuid());
	assert_true(tunnel_port_is_held(l, 1, getpid(), geteuid() + 1));
	/* Another socket than that one. */
	l[0].inode++;
	assert_false(tunnel_port_is_held(l, 1, getpid(), geteuid()));
	assert_false(tunnel_port_is_held(l, 0, getpid(), geteuid()));
	(void)close(fd);
	assert_int_equal(tunnel_port_listeners(port, l, 4), 0);
}

/* What a tunnel's program started holds it, too; a process apart does not, though it is the same user's. */
static void held_by_a_family(void **state)
{
	struct port_listener l[4];
	uint16_t port;
	int fd = listen_somewhere(&port), ready[2];
	pid_t parent, stranger;
	char c;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	parent = fork();
	if (parent == 0) {
		pid_t child = fork();

		if (child == 0) {
			if (write(ready[1], "x", 1) != 1)
				_exit(1);
			(void)pause();
			_exit(0);
		}
		(void)close(fd);
		(void)close(ready[1]);
		(void)pause();
		_exit(0);
	}
	stranger = fork();
	if (stranger == 0) {
		(void)close(fd);
		if (write(ready[1], "x", 1) != 1)
			_exit(1);
		(void)pause();
		_exit(0);
	}
	(void)close(fd);
	for (int i = 0; i < 2; i++)
		assert_int_equal(read(ready[0], &c, 1), 1);
	assert_int_equal(tunnel_port_listeners(port, l, 4), 1);
	assert_true(tunnel_port_is_held(l, 1, parent, geteuid()));
	assert_false(tunnel_port_is_held(l, 1, stranger, geteuid()));
	{
		char path[64], text[64] = "";
		FILE *f;

		(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)parent, (int)parent);
		f = fopen(path, "re");
		assert_non_null(f);
		assert_non_null(fgets(text, sizeof(text), f));
		(void)fclose(f);
		assert_int_equal(kill((pid_t)strtol(text, NULL, 10), SIGKILL), 0);
	}
	assert_int_equal(kill(parent, SIGKILL), 0);
	assert_int_equal(kill(stranger, SIGKILL), 0);
	for (int i = 0; i < 2; i++)
		assert_true(wait(NULL) > 0);
	(void)close(ready[0]);
	(void)close(ready[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(word),
		cmocka_unit_test(kernels_table),
		cmocka_unit_test(no_table),
		cmocka_unit_test(this_hosts_table),
		cmocka_unit_test(held_by_a_family),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
