/* LINK: core/log.c core/safe_open.c core/log_entry.c core/journal.c core/json.c core/utf8.c core/buf.c core/clock.c
 * core/err.c */
/* WRAP: time */
/* Lines with their fields: as entries of a journal, as JSON; and what comes again and again. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/journal.h"
#include "core/log_entry.h"

static time_t now = 1000000;

time_t __wrap_time(time_t *t);

time_t __wrap_time(time_t *t)
{
	if (t != NULL)
		*t = now;
	return now;
}

/* ---- a journal of ours ---- */

struct journal {
	char dir[64], path[100];
	int fd;
	struct log_journal to;
};

static void open_journal(struct journal *j)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	(void)snprintf(j->dir, sizeof(j->dir), "/tmp/fansyncd-test-XXXXXX");
	assert_non_null(mkdtemp(j->dir));
	(void)snprintf(j->path, sizeof(j->path), "%s/socket", j->dir);
	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", j->path);
	j->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(j->fd, (struct sockaddr *)&a, sizeof(a)), 0);
	j->to = (struct log_journal){ .fd = journal_open(), .path = j->path };
	assert_true(j->to.fd >= 0);
}

static void close_journal(struct journal *j)
{
	(void)close(j->fd);
	(void)close(j->to.fd);
	(void)unlink(j->path);
	(void)rmdir(j->dir);
}

/* The next entry, from the datagram or the file in it. */
static size_t take(struct journal *j, char *out, size_t size)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { out, size };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space)
	};
	ssize_t n = recvmsg(j->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int file;

	assert_true(n >= 0);
	if (c == NULL)
		return (size_t)n;
	memcpy(&file, CMSG_DATA(c), sizeof(file));
	assert_int_equal(n, 0);
	assert_int_equal(fcntl(file, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
	n = pread(file, out, size, 0);
	assert_true(n > 0 && (size_t)n < size);
	(void)close(file);
	return (size_t)n;
}

static bool holds(const char *entry, size_t len, const char *what, size_t n)
{
	return memmem(entry, len, what, n) != NULL;
}

#define HOLDS(text) assert_true(holds(entry, len, text, sizeof(text) - 1))

static void entries(void **state)
{
	static char entry[512 * 1024];
	struct journal j;
	struct log_settings s = {
		.to_stdout = true, .entry = log_entry_to_journal, .facility = LOG_DAEMON, .ident = "me"
	};
	const struct log_fields f = { .sync = "web", .path = "a\nb\xff", .path_len = 4, .message_id = "0123" };
	size_t len;

	(void)state;
	open_journal(&j);
	s.entry_ctx = &j.to;
	assert_int_equal(log_open(&s, NULL), 0);
	log_event(&f, LOG_CAT_ERROR, "%s: given up: %s", "web", "a\nb\xff");
	len = take(&j, entry, sizeof(entry));
	HOLDS("MESSAGE=web: given up: a\\012b\\377\n");
	HOLDS("PRIORITY=3\n");
	HOLDS("SYSLOG_IDENTIFIER=me\n");
	HOLDS("SYSLOG_FACILITY=3\n");
	HOLDS("CATEGORY=Error\n");
	HOLDS("MESSAGE_ID=0123\n");
	HOLDS("SYNC=web\n");
	/* Bytes with a newline have their length before them. */
	HOLDS("PATH\n\4\0\0\0\0\0\0\0a\nb\xff\n");
	log_normal("plain");
	len = take(&j, entry, sizeof(entry));
	HOLDS("MESSAGE=plain\nPRIORITY=5\n");
	assert_false(holds(entry, len, "SYNC", 4) || holds(entry, len, "PATH", 4) ||
		     holds(entry, len, "MESSAGE_ID", 10));
	/* What a worker said is about its sync. */
	log_forward(LOG_CAT_WARN, "mail", "text", 4);
	len = take(&j, entry, sizeof(entry));
	HOLDS("MESSAGE=mail: text\n");
	HOLDS("SYNC=mail\n");
	log_close();
	close_journal(&j);
}

/* Larger than a datagram: in a file. */
static void large(void **state)
{
	static char entry[512 * 1024], value[220 * 1024];
	struct journal j;
	const struct journal_field f[] = { { "MESSAGE", value, sizeof(value) }, { "ABSENT", NULL, 0 } };
	int small = 4096;
	size_t len;

	(void)state;
	memset(value, 'x', sizeof(value));
	open_journal(&j);
	assert_int_equal(setsockopt(j.to.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	assert_int_equal(journal_send(j.to.fd, j.path, f, 2), JOURNAL_TAKEN);
	len = take(&j, entry, sizeof(entry));
	assert_int_equal(len, sizeof(value) + 9);
	HOLDS("MESSAGE=xxxx");
	/* Nobody is there. */
	close_journal(&j);
	assert_int_equal(journal_send(j.to.fd, j.path, f, 2), JOURNAL_ABSENT);
	assert_int_equal(journal_send(j.to.fd, "/nowhere/socket", f, 1), JOURNAL_ABSENT);
}

/* A journal that does not read holds nobody up; what it misses is told when it reads again. */
static void stuck(void **state)
{
	static char entry[512 * 1024];
	struct journal j;
	struct log_settings s = {
		.to_stdout = true, .entry = log_entry_to_journal, .facility = LOG_DAEMON, .ident = "me"
	};
	unsigned lost = 0;
	char want[128];
	size_t len;

	(void)state;
	open_journal(&j);
	s.entry_ctx = &j.to;
	assert_int_equal(log_open(&s, NULL), 0);
	for (unsigned i = 0; i < 100000 && j.to.lost == 0; i++)
		log_normal("line %u", i);
	assert_true(j.to.stuck);
	for (unsigned i = 0; i < 1000; i++)
		log_normal("more %u", i);
	lost = (unsigned)j.to.lost;
	assert_true(lost >= 1000);
	while (recv(j.fd, entry, sizeof(entry), MSG_DONTWAIT) > 0)
		;
	log_normal("again");
	assert_int_equal(j.to.lost, 0);
	len = take(&j, entry, sizeof(entry));
	(void)snprintf(want, sizeof(want), "MESSAGE=%u lines before this one are lost", lost);
	assert_true(holds(entry, len, want, strlen(want)));
	len = take(&j, entry, sizeof(entry));
	HOLDS("MESSAGE=again\n");
	log_close();
	close_journal(&j);
}

static void stream(void **state)
{
	char text[64];
	struct stat st;
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(fstat(fds[1], &st), 0);
	(void)snprintf(text, sizeof(text), "%lu:%lu", (unsigned long)st.st_dev, (unsigned long)st.st_ino);
	assert_true(journal_is_stream(fds[1], text));
	assert_false(journal_is_stream(STDIN_FILENO, text));
	assert_false(journal_is_stream(fds[1], NULL));
	assert_false(journal_is_stream(fds[1], "x"));
	assert_false(journal_is_stream(-1, text));
	(void)close(fds[0]);
	(void)close(fds[1]);
}

/* ---- files ---- */

static char *file_text(const char *path)
{
	static char text[64 * 1024];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	assert_true(n >= 0);
	text[n] = '\0';
	(void)close(fd);
	return text;
}

static void json(void **state)
{
	char path[] = "/tmp/fansyncd-test-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	const struct log_settings s = { .file = path, .format = log_entry_json };
	const struct log_fields f = { .sync = "web", .path = "a\"\xff", .path_len = 3, .message_id = "0123" };
	const char *text;

	(void)state;
	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(log_open(&s, NULL), 0);
	log_event(&f, LOG_CAT_WARN, "say \"%s\"", "hi");
	log_normal("next");
	text = file_text(path);
	assert_memory_equal(text, "{\"time\":", 8);
	assert_non_null(strstr(text,
			       ",\"category\":\"Warn\",\"priority\":4,\"message\":\"say \\\"hi\\\"\",\"sync\":\"web\","
			       "\"path\":\"a\\\"\\udcff\",\"message_id\":\"0123\"}\n{\"time\":"));
	assert_non_null(strstr(text, "\"message\":\"next\"}\n"));
	log_close();
	(void)unlink(path);
}

static size_t count(const char *text, const char *what)
{
	size_t n = 0;

	for (const char *p = text; (p = strstr(p, what)) != NULL; p++)
		n++;
	return n;
}

static void repetitions(void **state)
{
	char path[] = "/tmp/fansyncd-test-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	const struct log_settings s = { .file = path };

	(void)state;
	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(log_open(&s, NULL), 0);
	for (int i = 0; i < 100; i++) {
		log_error("again and again");
		log_warn("another one %d", i);
		log_normal("as it should be");
	}
	assert_int_equal(count(file_text(path), "again and again"), 5);
	assert_int_equal(count(file_text(path), "another one"), 100); /* more than are remembered: all of them */
	assert_int_equal(count(file_text(path), "as it should be"), 100);
	assert_int_equal(count(file_text(path), "repeated"), 0);
	/* A minute later, with the next line of its kind, it is told how often. */
	now += 30;
	log_error("again and again");
	now += 31;
	log_warn("something else");
	assert_int_equal(count(file_text(path), "repeated 96 times in 30 s: again and again\n"), 1);
	log_error("again and again");
	assert_int_equal(count(file_text(path), "Error: again and again"), 6);
	log_close();
	(void)unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries), cmocka_unit_test(large), cmocka_unit_test(stuck),
		cmocka_unit_test(stream),  cmocka_unit_test(json),  cmocka_unit_test(repetitions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
