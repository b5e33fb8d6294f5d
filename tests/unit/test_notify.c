/* LINK: core/notify.c core/err.c core/clock.c core/fsutil.c core/safe_open.c core/path.c core/buf.c */
/* systemd's notification protocol, seen from the manager's end. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/notify.h"
#include "tests/unit/scratch.h"

struct manager {
	struct scratch scratch;
	int fd;
	char path[512];
};

static int set_up(void **state)
{
	struct manager *m = calloc(1, sizeof(*m));
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	*state = m;
	if (scratch_make(&m->scratch) < 0)
		return -1;
	snprintf(m->path, sizeof(m->path), "%s", scratch_path(&m->scratch, "notify"));
	snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", m->path);
	m->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return bind(m->fd, (struct sockaddr *)&address, sizeof(address));
}

static int clean_up(void **state)
{
	struct manager *m = *state;
	int rc = scratch_remove(&m->scratch);

	close(m->fd);
	free(m);
	return rc;
}

static const char *heard(struct manager *m)
{
	static char text[4096];
	ssize_t n = recv(m->fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static struct notify init_with(const char *socket_path, const char *usec, const char *pid)
{
	struct notify n;

	assert_int_equal(socket_path == NULL ? unsetenv("NOTIFY_SOCKET") : setenv("NOTIFY_SOCKET", socket_path, 1), 0);
	assert_int_equal(usec == NULL ? unsetenv("WATCHDOG_USEC") : setenv("WATCHDOG_USEC", usec, 1), 0);
	assert_int_equal(pid == NULL ? unsetenv("WATCHDOG_PID") : setenv("WATCHDOG_PID", pid, 1), 0);
	n = notify_init();
	/* Children must not speak for us. */
	assert_null(getenv("NOTIFY_SOCKET"));
	assert_null(getenv("WATCHDOG_USEC"));
	assert_null(getenv("WATCHDOG_PID"));
	return n;
}

static void messages(void **state)
{
	struct manager *m = *state;
	struct notify n = init_with(m->path, NULL, NULL);
	struct err err = ERR_INIT;
	const char *text;

	assert_int_equal(notify_ready(&n, NULL, &err), 0);
	assert_string_equal(heard(m), "READY=1");
	assert_int_equal(notify_ready(&n, "2 syncs", &err), 0);
	assert_string_equal(heard(m), "READY=1\nSTATUS=2 syncs");
	assert_int_equal(notify_status(&n, "a\nSTOPPING=1\x7f", &err), 0);
	assert_string_equal(heard(m), "STATUS=a STOPPING=1 ");
	assert_int_equal(notify_reloading(&n, &err), 0);
	text = heard(m);
	assert_memory_equal(text, "RELOADING=1\nMONOTONIC_USEC=", 27);
	assert_true(text[27] > '0' && text[27] <= '9');
	assert_int_equal(notify_stopping(&n, &err), 0);
	assert_string_equal(heard(m), "STOPPING=1");
	assert_int_equal(notify_watchdog(&n, &err), 0);
	assert_string_equal(heard(m), "WATCHDOG=1");
	assert_string_equal(heard(m), "");
}

static void long_status_is_cut(void **state)
{
	struct manager *m = *state;
	struct notify n = init_with(m->path, NULL, NULL);
	struct err err = ERR_INIT;
	char text[5000];

	memset(text, 's', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(notify_status(&n, text, &err), 0);
	assert_memory_equal(heard(m), "STATUS=sss", 10);
}

/* A manager that does not read costs a message, not the daemon's time. */
static void full_queue_does_not_block(void **state)
{
	struct manager *m = *state;
	struct notify n = init_with(m->path, NULL, NULL);
	struct err err = ERR_INIT;
	int rc = 0;

	for (int i = 0; i < 100000 && rc == 0; i++)
		rc = notify_watchdog(&n, &err);
	assert_int_equal(rc, -1);
	assert_int_equal(err.code, EAGAIN);
}

static void abstract_names(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct manager m = { .fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) };
	struct err err = ERR_INIT;
	struct notify n;
	char name[64];
	int len = snprintf(name, sizeof(name), "@fansyncd-test-%ld", (long)getpid());

	(void)state;
	memcpy(address.sun_path + 1, name + 1, (size_t)len - 1);
	assert_int_equal(bind(m.fd, (struct sockaddr *)&address,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)len)),
			 0);
	n = init_with(name, NULL, NULL);
	assert_int_equal(notify_stopping(&n, &err), 0);
	assert_string_equal(heard(&m), "STOPPING=1");
	close(m.fd);
}

static void nobody_listens(void **state)
{
	struct notify n = init_with(NULL, NULL, NULL);
	struct err err = ERR_INIT;
	char longer[300];

	(void)state;
	assert_int_equal(notify_ready(&n, "x", &err), 0);
	assert_int_equal(notify_watchdog_interval_ns(&n), 0);
	memset(longer, '/', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	n = init_with(longer, NULL, NULL);
	assert_int_equal(n.address_len, 0);
	n = init_with("relative", NULL, NULL);
	assert_int_equal(n.address_len, 0);
	n = init_with("", NULL, NULL);
	assert_int_equal(n.address_len, 0);
	n = init_with("/no/such/socket", NULL, NULL);
	assert_int_equal(notify_ready(&n, NULL, &err), -1);
	assert_int_equal(err.class, ERR_GONE);
}

static void watchdog_interval(void **state)
{
	char mine[32], other[32];
	struct notify n;

	(void)state;
	snprintf(mine, sizeof(mine), "%ld", (long)getpid());
	snprintf(other, sizeof(other), "%ld", (long)getppid());
	n = init_with(NULL, "30000000", mine);
	assert_true(notify_watchdog_interval_ns(&n) == INT64_C(15000000000));
	n = init_with(NULL, "30000000", NULL);
	assert_true(notify_watchdog_interval_ns(&n) == INT64_C(15000000000));
	n = init_with(NULL, "30000000", other);
	assert_int_equal(notify_watchdog_interval_ns(&n), 0);
	n = init_with(NULL, "30s", mine);
	assert_int_equal(notify_watchdog_interval_ns(&n), 0);
	n = init_with(NULL, "", mine);
	assert_int_equal(notify_watchdog_interval_ns(&n), 0);
	n = init_with(NULL, "99999999999999999999999", mine);
	assert_int_equal(notify_watchdog_interval_ns(&n), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(messages, set_up, clean_up),
		cmocka_unit_test_setup_teardown(long_status_is_cut, set_up, clean_up),
		cmocka_unit_test_setup_teardown(full_queue_does_not_block, set_up, clean_up),
		cmocka_unit_test(abstract_names),
		cmocka_unit_test(nobody_listens),
		cmocka_unit_test(watchdog_interval),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
