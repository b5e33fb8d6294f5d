/* LINK: core/progress.c core/buf.c */
/* LIBS: -lutil */
/* How a comparison is shown: plain lines in a pipe, lines drawn anew on a terminal. */
#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/progress.h"

struct fixture {
	int in, out; /* what is written to `out` is read from `in` */
	struct progress *p;
	char text[65536];
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fds[2];

	*state = f;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	f->in = fds[0];
	f->out = fds[1];
	f->p = progress_new(f->out);
	return f->p == NULL ? -1 : 0;
}

static int set_up_terminal(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct winsize ws = { .ws_row = 24, .ws_col = 40 };

	*state = f;
	if (openpty(&f->in, &f->out, NULL, NULL, &ws) < 0 || fcntl(f->in, F_SETFL, O_NONBLOCK) < 0)
		return -1;
	f->p = progress_new(f->out);
	return f->p == NULL ? -1 : 0;
}

static int clean_up(void **state)
{
	struct fixture *f = *state;

	progress_free(f->p);
	close(f->in);
	close(f->out);
	free(f);
	return 0;
}

static const char *written(struct fixture *f)
{
	ssize_t n = read(f->in, f->text, sizeof(f->text) - 1);

	f->text[n > 0 ? n : 0] = '\0';
	return f->text;
}

static const char *update(struct fixture *f, const char *report, int64_t seconds)
{
	progress_update(f->p, report, strlen(report), seconds * NS_PER_S);
	return written(f);
}

static void plain_lines(void **state)
{
	struct fixture *f = *state;

	assert_string_equal(update(f, "web\tcomparing\t-\t0\t0\t0\t0\n", 100), "web: comparing, 0 files, 0 B\n");
	/* Not more often than every 10 s, each target for itself. */
	assert_string_equal(update(f, "web\tcomparing\tsending\t1\t2\t3\t4\nnas\twaiting\t-\t0\t0\t0\t0\n", 101),
			    "nas: waiting, 0 files, 0 B\n");
	assert_string_equal(update(f, "web\tcomparing\tsending\t1\t2\t3\t4\n", 109), "");
	assert_string_equal(update(f, "web\tcomparing\tsending\t5\t10\t2097152\t4194304\n", 110),
			    "web: comparing, sending, 5 of 10 files, 2.0 MiB of 4.0 MiB, 204.8 KiB/s, 0:10 left\n");
	/* The end is told at once, and once. */
	assert_string_equal(update(f, "web\tequal\t-\t10\t0\t4194304\t0\n", 111),
			    "web: equal, 10 files, 4.0 MiB, 372.4 KiB/s\n");
	assert_string_equal(update(f, "web\tequal\t-\t10\t0\t4194304\t0\n", 200), "");
	assert_string_equal(update(f, "nas\tfailed\t-\t0\t0\t0\t0\n", 201), "nas: failed, 0 files, 0 B\n");
	progress_clear(f->p); /* nothing stands there */
	assert_string_equal(written(f), "");
}

static void units(void **state)
{
	static const struct {
		const char *name, *bytes, *want;
	} cases[] = {
		{ "a", "1023", "1023 B" },
		{ "b", "1024", "1.0 KiB" },
		{ "c", "1073741824", "1.0 GiB" },
		{ "d", "18446744073709551615", "16384.0 PiB" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char report[128], want[128];

		snprintf(report, sizeof(report), "%s\tx\t-\t1\t0\t%s\t0\n", cases[i].name, cases[i].bytes);
		snprintf(want, sizeof(want), "%s: x, 1 files, %s\n", cases[i].name, cases[i].want);
		assert_string_equal(update(f, report, 1), want);
	}
}

static void what_makes_no_sense_is_passed_over(void **state)
{
	static const char *const reports[] = { "", "\n\n", "web", "web\tx\t-\t1\t2\t3\n", "\t\t\t\n" };
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(reports) / sizeof(reports[0]); i++)
		assert_string_equal(update(f, reports[i], 1), "");
	assert_string_equal(update(f, "half a line\nweb\tx\t-\ta\tb\tc\td\textra\n", 1), "web: x, 0 files, 0 B\n");
	/* Only the bytes that are the report's. */
	progress_update(f->p, "nas\tx\t-\t0\t0\t0\t0\nmore\tx\t-\t0\t0\t0\t0\n", 17, NS_PER_S);
	assert_string_equal(written(f), "nas: x, 0 files, 0 B\n");
}

/* More targets than a screen has lines, with the longest names: each is told of once. */
static void many_targets(void **state)
{
	struct fixture *f = *state;

	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 100; i++) {
			char report[256], want[256];

			snprintf(report, sizeof(report), "%062d%02d\tequal\t-\t0\t0\t0\t0\n", 0, i);
			snprintf(want, sizeof(want), "%062d%02d: equal, 0 files, 0 B\n", 0, i);
			assert_string_equal(update(f, report, 1), round == 0 ? want : "");
		}
}

/* A reader that went away is no reason to fail, nor one that does not read. */
static void a_reader_that_went_away(void **state)
{
	struct fixture *f = *state;

	signal(SIGPIPE, SIG_IGN);
	close(f->in);
	progress_update(f->p, "web\tx\t-\t0\t0\t0\t0\n", 17, NS_PER_S);
	signal(SIGPIPE, SIG_DFL);
	f->in = dup(f->out);
}

static void drawn_on_a_terminal(void **state)
{
	struct fixture *f = *state;

	assert_string_equal(update(f, "a\tx\t-\t0\t0\t0\t0\nb\ty\t-\t0\t0\t0\t0\n", 1),
			    "a: x, 0 files, 0 B\r\nb: y, 0 files, 0 B\r\n");
	/* At every report, in place of what stood there. */
	assert_string_equal(update(f, "a\tx\t-\t1\t0\t0\t0\n", 2), "\033[2A\r\033[Ja: x, 1 files, 0 B\r\n");
	progress_clear(f->p);
	assert_string_equal(written(f), "\033[1A\r\033[J");
	progress_clear(f->p);
	assert_string_equal(written(f), "");
	progress_clear(NULL);
}

/* A line that wrapped would break the erasing. */
static void lines_fit_the_terminal(void **state)
{
	struct fixture *f = *state;
	const char *text = update(f, "a name that is longer than the terminal is wide\tx\t-\t0\t0\t0\t0\n", 1);

	assert_string_equal(text, "a name that is longer than the terminal\r\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(plain_lines, set_up, clean_up),
		cmocka_unit_test_setup_teardown(units, set_up, clean_up),
		cmocka_unit_test_setup_teardown(what_makes_no_sense_is_passed_over, set_up, clean_up),
		cmocka_unit_test_setup_teardown(many_targets, set_up, clean_up),
		cmocka_unit_test_setup_teardown(a_reader_that_went_away, set_up, clean_up),
		cmocka_unit_test_setup_teardown(drawn_on_a_terminal, set_up_terminal, clean_up),
		cmocka_unit_test_setup_teardown(lines_fit_the_terminal, set_up_terminal, clean_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
