/* What the end of an rsync process means. */
/* LINK: transports/rsync_exit.c */
#include "transports/rsync_exit.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define EXITED(code) ((code) << 8)

static void only_zero_is_success(void **state)
{
	(void)state;
	for (int code = 0; code < 256; code++) {
		const struct rsync_outcome *o = rsync_outcome_said(EXITED(code), "");

		assert_non_null(o);
		assert_int_equal(o->fate == RSYNC_OK, code == 0);
		assert_true(o->fate != RSYNC_FATE_NONE);
		assert_true(code == 0 || (o->class != ERR_NONE && o->words[0] != '\0'));
	}
	for (int sig = 1; sig < 65; sig++)
		assert_int_equal(rsync_outcome_said(sig, "")->fate, RSYNC_RETRY);
}

static void a_lost_connection_is_no_refusal(void **state)
{
	(void)state;
	assert_int_equal(rsync_outcome_said(EXITED(2), "protocol version mismatch -- is your shell clean?")->fate,
			 RSYNC_CONFIG);
	assert_int_equal(rsync_outcome_said(EXITED(2), "Invalid packet at end of run (2) [sender]")->fate, RSYNC_RETRY);
	assert_int_equal(rsync_outcome_said(EXITED(2), "Invalid packet at end of run (2) [sender]")->class, ERR_AGAIN);
	assert_int_equal(rsync_outcome_said(EXITED(2), "ABORTING due to invalid path from sender: a/b")->fate,
			 RSYNC_RETRY);
	assert_int_equal(rsync_outcome_said(EXITED(20), RSYNC_DEADLOCK_WORDS)->class, ERR_AGAIN);
	assert_int_equal(rsync_outcome_said(EXITED(20), RSYNC_SILENT_WORDS)->class, ERR_AGAIN);
	assert_int_equal(rsync_outcome_said(EXITED(20), "")->class, ERR_IO);
	assert_int_equal(rsync_outcome_said(EXITED(5), "@ERROR: Unknown module 'x'")->class, ERR_AUTH);
	assert_int_equal(rsync_outcome_said(EXITED(5), "@ERROR: auth failed on module x")->class, ERR_AUTH);
	assert_int_equal(rsync_outcome_said(EXITED(5), "rsync: did not see server greeting")->class, ERR_NETWORK);
	assert_int_equal(rsync_outcome_said(EXITED(5), "rsync: didn't get server startup line")->class, ERR_NETWORK);
	assert_int_equal(rsync_outcome_said(EXITED(5), "rsync: did not see server greeting")->fate, RSYNC_DOWN);
	/* Of another code these words change nothing. */
	assert_int_equal(rsync_outcome_said(EXITED(23), "did not see server greeting")->fate, RSYNC_PARTIAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_zero_is_success),
		cmocka_unit_test(a_lost_connection_is_no_refusal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
