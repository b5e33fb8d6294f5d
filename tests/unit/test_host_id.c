/* LINK: core/host_id.c core/err.c core/fsutil.c core/safe_open.c core/path.c core/buf.c */
/* Who this host is: the same at each start. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/host_id.h"
#include "tests/unit/scratch.h"

static int set_up(void **state)
{
	*state = calloc(1, sizeof(struct scratch));
	return scratch_make(*state);
}

static int tear_down(void **state)
{
	scratch_remove(*state);
	free(*state);
	return 0;
}

static void get(struct scratch *s, unsigned char out[HOST_ID_BYTES])
{
	struct err err = ERR_INIT;

	assert_int_equal(host_id_get(s->dir, out, &err), 0);
}

/* The kernel tells 16 bytes that are not all zero; where it can't be asked they are. */
static void of_this_boot(void **state)
{
	unsigned char first[HOST_ID_BYTES] = { 1 }, second[HOST_ID_BYTES] = { 2 };
	const unsigned char nothing[HOST_ID_BYTES] = { 0 };

	(void)state;
	host_boot_get(first);
	host_boot_get(second);
	assert_memory_equal(first, second, HOST_ID_BYTES);
	assert_int_equal(memcmp(first, nothing, HOST_ID_BYTES) != 0,
			 access("/proc/sys/kernel/random/boot_id", R_OK) == 0);
}

static void stays_the_same(void **state)
{
	unsigned char first[HOST_ID_BYTES], second[HOST_ID_BYTES];

	get(*state, first);
	get(*state, second);
	assert_memory_equal(first, second, HOST_ID_BYTES);
}

static void made_anew_when_it_makes_no_sense(void **state)
{
	unsigned char first[HOST_ID_BYTES], second[HOST_ID_BYTES], third[HOST_ID_BYTES];

	get(*state, first);
	assert_int_equal(scratch_write(scratch_path(*state, "host-id"), "no id\n"), 0);
	get(*state, second);
	get(*state, third);
	assert_memory_not_equal(first, second, HOST_ID_BYTES);
	assert_memory_equal(second, third, HOST_ID_BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(stays_the_same, set_up, tear_down),
		cmocka_unit_test(of_this_boot),
		cmocka_unit_test_setup_teardown(made_anew_when_it_makes_no_sense, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
