/* TIMEOUT: 360 */
/* LINK: transports/rsync_alive.c core/loop.c core/clock.c core/err.c */
/* A silent process gives a sign while it moves bytes, and none while it only exists. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "transports/rsync_alive.h"

/* A child that copies from /dev/zero for ever. */
static pid_t busy_child(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		int in = open("/dev/zero", O_RDONLY | O_CLOEXEC), out = open("/dev/null", O_WRONLY | O_CLOEXEC);
		char block[4096];

		while (read(in, block, sizeof(block)) > 0 && write(out, block, sizeof(block)) > 0)
			(void)poll(NULL, 0, 5);
		_exit(1);
	}
	return pid;
}

/* One that says again and again that it is there, and hears nothing. */
static pid_t lonely_child(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		int out = open("/dev/null", O_WRONLY | O_CLOEXEC);

		while (write(out, "here", 4) == 4)
			(void)poll(NULL, 0, 300);
		_exit(1);
	}
	return pid;
}

struct heard {
	struct loop *loop;
	unsigned signs, stuck;
	enum rsync_stuck why;
};

static const struct rsync_alive_rules no_rules = { 0 };

static void on_sign(void *ctx)
{
	struct heard *h = ctx;

	h->signs++;
	loop_stop(h->loop, 0);
}

static void on_stuck(void *ctx, enum rsync_stuck why)
{
	struct heard *h = ctx;

	h->stuck++;
	h->why = why;
	loop_stop(h->loop, 0);
}

static void on_end(void *ctx)
{
	loop_stop(((struct heard *)ctx)->loop, 0);
}

/* Until a sign comes, or `seconds` are over. */
static unsigned listen_for(struct heard *h, int64_t seconds)
{
	struct err err = ERR_INIT;
	struct loop_timer *end = loop_timer_add(h->loop, on_end, h, &err);

	h->signs = 0;
	loop_timer_after(end, seconds * NS_PER_S);
	assert_int_equal(loop_run(h->loop, &err), 0);
	loop_timer_remove(end);
	return h->signs;
}

static void signs_of_work(void **state)
{
	struct err err = ERR_INIT;
	struct heard h = { .loop = loop_new(&err) };
	struct rsync_alive a = { 0 };
	pid_t pid = busy_child();

	(void)state;
	assert_true(pid > 0);
	assert_int_equal(rsync_alive_start(&a, h.loop, pid, &no_rules, on_sign, on_stuck, &h, &err), 0);
	assert_int_equal(listen_for(&h, 30), 1);
	assert_int_equal(listen_for(&h, 30), 1); /* and again */
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
	(void)listen_for(&h, 2); /* what it moved before it stopped */
	assert_int_equal(listen_for(&h, 2), 0);
	rsync_alive_stop(&a);
	rsync_alive_stop(&a);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	loop_free(h.loop);
}

static void keepalives_are_none(void **state)
{
	struct err err = ERR_INIT;
	struct heard h = { .loop = loop_new(&err) };
	struct rsync_alive a = { 0 };
	pid_t pid = lonely_child();

	(void)state;
	assert_true(pid > 0);
	assert_int_equal(rsync_alive_start(&a, h.loop, pid, &no_rules, on_sign, on_stuck, &h, &err), 0);
	(void)listen_for(&h, 2); /* what it read to begin with */
	assert_int_equal(listen_for(&h, 3), 0);
	rsync_alive_stop(&a);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	loop_free(h.loop);
}

/* One that opens a FIFO, or reads from one that is open for writing, too: only the first will never go on by itself.
 * Or one that waits for such a child of its, or of its child's. */
static pid_t fifo_child(const char *path, int flags, unsigned below)
{
	pid_t pid = fork();

	if (pid == 0) {
		char c;
		int fd;

		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (below > 0) {
			(void)fifo_child(path, flags, below - 1);
			for (;;)
				(void)pause();
		}
		fd = open(path, flags | O_CLOEXEC);
		_exit(fd >= 0 && read(fd, &c, 1) == 1 ? 0 : 1);
	}
	return pid;
}

/* How often it was found to be stuck; then for that reason, and for no other. */
static unsigned found_stuck(pid_t pid, const struct rsync_alive_rules *rules, int64_t seconds, enum rsync_stuck why)
{
	struct err err = ERR_INIT;
	struct heard h = { .loop = loop_new(&err), .why = why };
	struct rsync_alive a = { 0 };
	struct loop_timer *end = loop_timer_add(h.loop, on_end, &h, &err);

	assert_true(pid > 0);
	assert_int_equal(rsync_alive_start(&a, h.loop, pid, rules, on_sign, on_stuck, &h, &err), 0);
	loop_timer_after(end, seconds * NS_PER_S);
	while (h.stuck == 0 && loop_timer_armed(end))
		assert_int_equal(loop_run(h.loop, &err), 0);
	loop_timer_remove(end);
	rsync_alive_stop(&a);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	loop_free(h.loop);
	assert_int_equal(h.why, why);
	return h.stuck;
}

static unsigned stuck_within(const char *path, int flags, unsigned below, int64_t seconds)
{
	return found_stuck(fifo_child(path, flags, below), &no_rules, seconds, RSYNC_STUCK_OPENING);
}

/* It and its child wait, in poll; or the child does something now and then. */
static pid_t waiting_child(bool works)
{
	pid_t pid = fork();

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (fork() == 0) {
			int out = open("/dev/null", O_WRONLY | O_CLOEXEC);

			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;) {
				(void)poll(NULL, 0, works ? 2000 : -1);
				(void)write(out, "x", 1);
			}
		}
		for (;;)
			(void)poll(NULL, 0, -1);
	}
	return pid;
}

static void all_wait(void **state)
{
	const struct rsync_alive_rules alone = { .alone = true };

	(void)state;
	assert_int_equal(found_stuck(waiting_child(false), &alone, 90, RSYNC_STUCK_WAITING), 1);
	assert_int_equal(found_stuck(waiting_child(true), &alone, 25, RSYNC_STUCK_OPENING), 0);
}

static void silent_for_long(void **state)
{
	const struct rsync_alive_rules limit = { .silent_ns = 2 * NS_PER_S };

	(void)state;
	assert_int_equal(found_stuck(waiting_child(false), &limit, 60, RSYNC_STUCK_SILENT), 1);
}

static void waits_to_open(void **state)
{
	char dir[] = "/tmp/fansyncd-alive-XXXXXX", path[64];

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/fifo", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	for (unsigned below = 0; below < 3; below++)
		assert_int_equal(stuck_within(path, O_RDONLY, below, 60), 1);
	assert_int_equal(stuck_within(path, O_RDWR, 2, 8), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(signs_of_work), cmocka_unit_test(keepalives_are_none),
					    cmocka_unit_test(waits_to_open), cmocka_unit_test(all_wait),
					    cmocka_unit_test(silent_for_long) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
