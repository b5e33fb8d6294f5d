/* LINK: transports/rsync_alive.c core/loop.c core/clock.c core/err.c */
/* A silent process gives a sign while it moves bytes, and none while it only exists. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
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
	unsigned signs;
};

static void on_sign(void *ctx)
{
	struct heard *h = ctx;

	h->signs++;
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
	assert_int_equal(rsync_alive_start(&a, h.loop, pid, on_sign, &h, &err), 0);
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
	assert_int_equal(rsync_alive_start(&a, h.loop, pid, on_sign, &h, &err), 0);
	(void)listen_for(&h, 2); /* what it read to begin with */
	assert_int_equal(listen_for(&h, 3), 0);
	rsync_alive_stop(&a);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	loop_free(h.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(signs_of_work), cmocka_unit_test(keepalives_are_none) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
