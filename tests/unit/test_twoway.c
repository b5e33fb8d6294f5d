/* LINK: core/twoway.c */
/* The three-way decision: every case of source, target and archive, from both ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/twoway.h"

#define S INT64_C(1000000000)
#define T0 (INT64_C(1700000000) * S)

/* States by a letter, for the table. */
static const struct named {
	char letter;
	struct twoway_state state;
} states[] = {
	{ '-', { LOOK_ABSENT, 0, 0, 0 } },	  { 'a', { LOOK_FILE, 10, T0, 7 } },
	{ 'b', { LOOK_FILE, 10, T0 + 1, 7 } },	  /* newer by a nanosecond */
	{ 'c', { LOOK_FILE, 9, T0 + 5 * S, 7 } }, /* newer by seconds, smaller */
	{ 'B', { LOOK_FILE, 11, T0 + 1, 7 } },	  /* as b, larger */
	{ 'p', { LOOK_FILE, 10, T0, 8 } },	  /* as a, other permissions */
	{ 'l', { LOOK_SYMLINK, 10, T0, 7 } },	  /* as a, a symlink */
	{ 'd', { LOOK_DIR, 0, 0, 7 } },		  { 'D', { LOOK_DIR, 0, 0, 9 } },
	{ 'f', { LOOK_SPECIAL, 0, 0, 7 } },
};
enum { N = sizeof(states) / sizeof(states[0]) };

static const struct twoway_state *by(char letter)
{
	for (size_t i = 0; i < N; i++)
		if (states[i].letter == letter)
			return &states[i].state;
	fail_msg("no state %c", letter);
	return NULL;
}

/* source, target, archive, action; then the action that the other end takes if its archive is the same. */
static void table(void **state)
{
	static const struct {
		const char *three;
		enum twoway_action here, there;
	} cases[] = {
		/* nothing is there, or was */
		{ "---", TWOWAY_EQUAL, TWOWAY_EQUAL },
		{ "--a", TWOWAY_EQUAL, TWOWAY_EQUAL },
		{ "--d", TWOWAY_EQUAL, TWOWAY_EQUAL },
		/* equal, whatever was known */
		{ "aa-", TWOWAY_EQUAL, TWOWAY_EQUAL },
		{ "aaa", TWOWAY_EQUAL, TWOWAY_EQUAL },
		{ "aab", TWOWAY_EQUAL, TWOWAY_EQUAL },
		{ "ddD", TWOWAY_EQUAL, TWOWAY_EQUAL },
		/* new here */
		{ "a--", TWOWAY_SEND, TWOWAY_THEIRS },
		{ "d--", TWOWAY_SEND, TWOWAY_THEIRS },
		{ "l--", TWOWAY_SEND, TWOWAY_THEIRS },
		{ "f--", TWOWAY_SEND, TWOWAY_THEIRS },
		/* changed here */
		{ "baa", TWOWAY_SEND, TWOWAY_THEIRS },
		{ "abb", TWOWAY_SEND, TWOWAY_THEIRS }, /* to an older time: a file put back from a backup */
		{ "paa", TWOWAY_SEND, TWOWAY_THEIRS },
		{ "Ddd", TWOWAY_SEND, TWOWAY_THEIRS },
		{ "laa", TWOWAY_SEND, TWOWAY_THEIRS },
		{ "daa", TWOWAY_SEND, TWOWAY_THEIRS },
		{ "add", TWOWAY_SEND, TWOWAY_THEIRS },
		/* deleted here */
		{ "-aa", TWOWAY_DELETE, TWOWAY_THEIRS },
		{ "-dd", TWOWAY_DELETE, TWOWAY_THEIRS },
		/* both were changed: the newer wins */
		{ "bac", TWOWAY_WIN, TWOWAY_LOSE },
		{ "ca-", TWOWAY_WIN, TWOWAY_LOSE },
		{ "cBa", TWOWAY_WIN, TWOWAY_LOSE },
		/* then the larger, then the attributes, then the type */
		{ "Bba", TWOWAY_WIN, TWOWAY_LOSE },
		{ "pab", TWOWAY_WIN, TWOWAY_LOSE },
		{ "lab", TWOWAY_WIN, TWOWAY_LOSE },
		{ "Dd-", TWOWAY_WIN, TWOWAY_LOSE },
		/* a deletion loses */
		{ "b-a", TWOWAY_WIN, TWOWAY_LOSE },
		{ "d-a", TWOWAY_WIN, TWOWAY_LOSE },
		{ "-ba", TWOWAY_LOSE, TWOWAY_WIN },
		{ "-ab", TWOWAY_LOSE, TWOWAY_WIN }, /* even to an older one: nobody here has seen it */
		/* a directory wins over what is none */
		{ "dca", TWOWAY_WIN, TWOWAY_LOSE },
		{ "df-", TWOWAY_WIN, TWOWAY_LOSE },
		{ "af-", TWOWAY_WIN, TWOWAY_LOSE },
		{ "cda", TWOWAY_LOSE, TWOWAY_WIN },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *c = cases[i].three;
		enum twoway_action here = twoway_decide(by(c[0]), by(c[1]), by(c[2]), TWOWAY_NANOSECONDS),
				   there = twoway_decide(by(c[1]), by(c[0]), by(c[2]), TWOWAY_NANOSECONDS);

		if (here != cases[i].here || there != cases[i].there)
			fail_msg("%s: %s here, %s there", c, twoway_action_name(here), twoway_action_name(there));
	}
}

/* Whatever the three are: with one archive exactly one end acts unless both are equal. */
static void exactly_one_acts(void **state)
{
	(void)state;
	for (size_t s = 0; s < N; s++)
		for (size_t t = 0; t < N; t++)
			for (size_t a = 0; a < N; a++)
				for (int r = TWOWAY_NANOSECONDS; r <= TWOWAY_SECONDS; r++) {
					enum twoway_times times = (enum twoway_times)r;
					enum twoway_action x = twoway_decide(&states[s].state, &states[t].state,
									     &states[a].state, times),
							   y = twoway_decide(&states[t].state, &states[s].state,
									     &states[a].state, times);
					bool acts_x = x >= TWOWAY_SEND && x != TWOWAY_LOSE,
					     acts_y = y >= TWOWAY_SEND && y != TWOWAY_LOSE;

					assert_true(x != TWOWAY_NONE);
					if (x == TWOWAY_EQUAL || y == TWOWAY_EQUAL)
						assert_int_equal(x, y);
					/* Whole seconds: the source's own change within a second is seen by it alone.
					 */
					else if (times == TWOWAY_NANOSECONDS && acts_x == acts_y)
						fail_msg("%c%c%c: %s and %s", states[s].letter, states[t].letter,
							 states[a].letter, twoway_action_name(x),
							 twoway_action_name(y));
				}
}

/* Conflicts, whatever either end knows: never two winners, never none. */
static void winners_are_undisputed(void **state)
{
	(void)state;
	for (size_t x = 0; x < N; x++)
		for (size_t y = 0; y < N; y++)
			for (int r = TWOWAY_NANOSECONDS; r <= TWOWAY_SECONDS; r++) {
				const struct twoway_state *a = &states[x].state, *b = &states[y].state;
				enum twoway_times times = (enum twoway_times)r;

				if (!twoway_same(a, b, times))
					assert_true(twoway_beats(a, b, times) != twoway_beats(b, a, times));
				assert_int_equal(twoway_same(a, b, times), twoway_same(b, a, times));
			}
}

/* And the order has no circles: three hosts come to one state. */
static void winners_are_an_order(void **state)
{
	(void)state;
	for (size_t x = 0; x < N; x++)
		for (size_t y = 0; y < N; y++)
			for (size_t z = 0; z < N; z++) {
				const struct twoway_state *a = &states[x].state, *b = &states[y].state,
							  *c = &states[z].state;

				if (x == y || y == z || x == z)
					continue;
				if (twoway_beats(a, b, TWOWAY_NANOSECONDS) && twoway_beats(b, c, TWOWAY_NANOSECONDS))
					assert_true(twoway_beats(a, c, TWOWAY_NANOSECONDS));
			}
}

static void whole_seconds(void **state)
{
	struct twoway_state fine = { LOOK_FILE, 10, T0 + 123456789, 0 }, coarse = { LOOK_FILE, 10, T0, 0 },
			    next = { LOOK_FILE, 10, T0 + S, 0 }, late = { LOOK_FILE, 10, T0 + S - 1, 0 },
			    before = { LOOK_FILE, 1, -1, 0 }, epoch = { LOOK_FILE, 1, 0, 0 },
			    minute = { LOOK_FILE, 1, -S, 0 };

	(void)state;
	assert_true(twoway_same(&fine, &coarse, TWOWAY_SECONDS));
	assert_false(twoway_same(&fine, &coarse, TWOWAY_NANOSECONDS));
	assert_false(twoway_same(&fine, &next, TWOWAY_SECONDS));
	assert_false(twoway_same(&before, &epoch, TWOWAY_SECONDS));
	assert_true(twoway_same(&before, &minute, TWOWAY_SECONDS));
	/* The source's own clock is fine: an edit within the archive's second is an edit. */
	assert_int_equal(twoway_decide(&late, &next, &fine, TWOWAY_SECONDS), TWOWAY_LOSE);
	assert_int_equal(twoway_decide(&next, &coarse, &fine, TWOWAY_SECONDS), TWOWAY_SEND);
	assert_int_equal(twoway_decide(&fine, &next, &fine, TWOWAY_SECONDS), TWOWAY_THEIRS);
}

static void directories_have_no_times(void **state)
{
	struct twoway_state a = { LOOK_DIR, 4096, T0, 1 }, b = { LOOK_DIR, 60, T0 + S, 1 };

	(void)state;
	assert_true(twoway_same(&a, &b, TWOWAY_NANOSECONDS));
	assert_int_equal(twoway_decide(&a, &b, by('-'), TWOWAY_NANOSECONDS), TWOWAY_EQUAL);
}

static void asking(void **state)
{
	int64_t at = 0;

	(void)state;
	assert_false(twoway_asks(TWOWAY_LOSE, TWOWAY_ASK_LOOKS - 1, by('a'), TWOWAY_NANOSECONDS, &at));
	assert_true(twoway_asks(TWOWAY_LOSE, TWOWAY_ASK_LOOKS, by('a'), TWOWAY_NANOSECONDS, &at));
	assert_int_equal(at, T0 + 1);
	assert_true(twoway_asks(TWOWAY_THEIRS, TWOWAY_ASK_LOOKS, by('l'), TWOWAY_SECONDS, &at));
	assert_int_equal(at, T0 + S);
	assert_false(twoway_asks(TWOWAY_THEIRS, 9, by('-'), TWOWAY_NANOSECONDS, &at));
	assert_false(twoway_asks(TWOWAY_THEIRS, 9, by('d'), TWOWAY_NANOSECONDS, &at));
	assert_false(twoway_asks(TWOWAY_SEND, 9, by('a'), TWOWAY_NANOSECONDS, &at));
	/* What was asked for is an edit to the other end, and none to this one. */
	for (size_t i = 0; i < N; i++) {
		struct twoway_state asked = *by('a');

		asked.mtime_ns = T0 + 1;
		if (!twoway_beats(&asked, &states[i].state, TWOWAY_NANOSECONDS))
			continue;
		assert_int_equal(twoway_decide(&asked, &states[i].state, by('a'), TWOWAY_NANOSECONDS),
				 states[i].letter == 'a' ? TWOWAY_SEND : TWOWAY_WIN);
	}
}

static void insisting(void **state)
{
	(void)state;
	assert_true(twoway_insists(TWOWAY_THEIRS, TWOWAY_ASK_LOOKS, by('a'), by('-'), true));
	assert_false(twoway_insists(TWOWAY_THEIRS, TWOWAY_ASK_LOOKS - 1, by('a'), by('-'), true));
	assert_false(twoway_insists(TWOWAY_THEIRS, TWOWAY_ASK_LOOKS, by('a'), by('-'), false));
	assert_false(twoway_insists(TWOWAY_THEIRS, TWOWAY_ASK_LOOKS, by('-'), by('a'), true));
	assert_false(twoway_insists(TWOWAY_THEIRS, TWOWAY_ASK_LOOKS, by('a'), by('b'), true));
	assert_false(twoway_insists(TWOWAY_LOSE, TWOWAY_ASK_LOOKS, by('a'), by('-'), true));
	/* a directory can't be asked for */
	assert_true(twoway_insists(TWOWAY_LOSE, TWOWAY_ASK_LOOKS, by('d'), by('D'), false));
	assert_false(twoway_insists(TWOWAY_LOSE, TWOWAY_ASK_LOOKS - 1, by('d'), by('D'), false));
	assert_false(twoway_insists(TWOWAY_THEIRS, TWOWAY_ASK_LOOKS, by('D'), by('d'), false));
	assert_true(twoway_insists(TWOWAY_LOSE, TWOWAY_ASK_LOOKS, by('a'), by('d'), false));
	assert_false(twoway_insists(TWOWAY_LOSE, TWOWAY_ASK_LOOKS, by('-'), by('d'), false));
}

static void waiting(void **state)
{
	(void)state;
	assert_true(twoway_waits(TWOWAY_SEND, TWOWAY_ASK_LOOKS - 1, by('a'), by('b')));
	assert_false(twoway_waits(TWOWAY_SEND, TWOWAY_ASK_LOOKS, by('a'), by('b')));
	assert_false(twoway_waits(TWOWAY_SEND, 1, by('b'), by('a')));
	assert_false(twoway_waits(TWOWAY_SEND, 1, by('p'), by('a')));
	assert_false(twoway_waits(TWOWAY_SEND, 1, by('d'), by('b')));
	assert_false(twoway_waits(TWOWAY_SEND, 1, by('a'), by('-')));
	assert_false(twoway_waits(TWOWAY_WIN, 1, by('a'), by('b')));
}

static void words(void **state)
{
	(void)state;
	for (int a = TWOWAY_NONE; a <= TWOWAY_LOSE; a++)
		assert_true(strlen(twoway_action_name((enum twoway_action)a)) > 2);
	assert_string_equal(twoway_action_name((enum twoway_action)99), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table),
		cmocka_unit_test(exactly_one_acts),
		cmocka_unit_test(winners_are_undisputed),
		cmocka_unit_test(winners_are_an_order),
		cmocka_unit_test(whole_seconds),
		cmocka_unit_test(directories_have_no_times),
		cmocka_unit_test(asking),
		cmocka_unit_test(insisting),
		cmocka_unit_test(waiting),
		cmocka_unit_test(words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
