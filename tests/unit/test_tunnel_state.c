/* LINK: core/tunnel_state.c core/policy.c */
/* When a tunnel's program is started, looked at, told to end and killed: by a clock that the test turns. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/tunnel_state.h"

#define S INT64_C(1000000000)
#define MS INT64_C(1000000)

static const struct tunnel_rules rules = { .retry_min_ns = S, .retry_max_ns = 8 * S, .timeout_ns = 3 * S };

static enum tunnel_step due(const struct tunnel_state *s, int64_t now)
{
	int64_t next;

	return tunnel_state_due(s, now, &next);
}

static int64_t next_of(const struct tunnel_state *s, int64_t now)
{
	int64_t next;

	assert_int_equal(tunnel_state_due(s, now, &next), TUNNEL_NOTHING);
	return next;
}

static struct tunnel_state up_at(int64_t now)
{
	struct tunnel_state s;

	tunnel_state_init(&s, &rules, now);
	assert_int_equal(due(&s, now), TUNNEL_START);
	tunnel_state_started(&s, now);
	tunnel_state_looked(&s, now, true);
	assert_int_equal(s.phase, TUNNEL_UP);
	return s;
}

static void comes_up_and_ends(void **state)
{
	struct tunnel_state s;

	(void)state;
	tunnel_state_init(&s, &rules, 7);
	assert_int_equal(due(&s, 7), TUNNEL_START);
	tunnel_state_started(&s, 7);
	assert_int_equal(due(&s, 7), TUNNEL_NOTHING);
	assert_int_equal(due(&s, 7 + 5 * MS), TUNNEL_LOOK);
	tunnel_state_looked(&s, 7 + 5 * MS, false);
	assert_int_equal(next_of(&s, 7 + 5 * MS), 7 + 15 * MS);
	tunnel_state_looked(&s, 7 + 15 * MS, true);
	assert_int_equal(next_of(&s, 7 + 15 * MS), INT64_MAX);
	tunnel_state_ended(&s, S, 0);
	assert_int_equal(s.phase, TUNNEL_WAITING);
	assert_int_equal(next_of(&s, S), 2 * S);
	assert_int_equal(due(&s, 2 * S), TUNNEL_START);
}

static void one_that_is_never_ready(void **state)
{
	struct tunnel_state s;
	int64_t now = 0;
	unsigned looks = 0;

	(void)state;
	tunnel_state_init(&s, &rules, 0);
	tunnel_state_started(&s, 0);
	for (enum tunnel_step step = due(&s, now); step != TUNNEL_TERMINATE; step = due(&s, now)) {
		if (step == TUNNEL_LOOK) {
			looks++;
			tunnel_state_looked(&s, now, false);
		} else {
			now = next_of(&s, now);
		}
	}
	assert_int_equal(now, 3 * S);
	assert_in_range(looks, 6, 20);
	tunnel_state_told(&s, now);
	assert_true(s.late);
	assert_int_equal(next_of(&s, now), now + TUNNEL_GRACE_NS);
	assert_int_equal(due(&s, now + TUNNEL_GRACE_NS), TUNNEL_KILL);
	tunnel_state_told(&s, now + TUNNEL_GRACE_NS);
	/* One that a device holds is asked once more. */
	assert_int_equal(due(&s, now + 2 * TUNNEL_GRACE_NS), TUNNEL_KILL);
	tunnel_state_ended(&s, 10 * S, 0);
	assert_int_equal(next_of(&s, 10 * S), 11 * S);
}

static void pauses_double_until_it_was_good(void **state)
{
	struct tunnel_state s;
	int64_t now = 0;
	const int64_t pauses[] = { 1, 2, 4, 8, 8 };

	(void)state;
	tunnel_state_init(&s, &rules, 0);
	for (size_t i = 0; i < sizeof(pauses) / sizeof(pauses[0]); i++) {
		tunnel_state_started(&s, now);
		tunnel_state_looked(&s, now, true); /* up for a moment is not good */
		tunnel_state_ended(&s, now, 0);
		assert_int_equal(next_of(&s, now), now + pauses[i] * S);
		now += pauses[i] * S;
	}
	tunnel_state_started(&s, now);
	tunnel_state_looked(&s, now, true);
	now += TUNNEL_STEADY_NS;
	tunnel_state_ended(&s, now, 0);
	assert_int_equal(next_of(&s, now), now + S);
	assert_int_equal(s.tries, 1);
	tunnel_state_retry(&s, now + 1);
	assert_int_equal(due(&s, now + 1), TUNNEL_START);
	tunnel_state_not_started(&s, now + 1, 0);
	assert_int_equal(s.tries, 2);
}

/* Whatever retryMin is, what fails at once is not all that is done. */
static void there_is_a_pause_in_any_case(void **state)
{
	const struct tunnel_rules none = { .timeout_ns = S };
	struct tunnel_state s;

	(void)state;
	tunnel_state_init(&s, &none, 0);
	tunnel_state_not_started(&s, 0, 12345);
	assert_int_equal(next_of(&s, 0), 100 * MS);
}

static void up_by_time(void **state)
{
	const struct tunnel_rules by_time = {
		.retry_min_ns = S, .retry_max_ns = S, .timeout_ns = S, .ready_delay_ns = 5 * S
	};
	struct tunnel_state s;

	(void)state;
	tunnel_state_init(&s, &by_time, 0);
	tunnel_state_started(&s, 0);
	assert_int_equal(next_of(&s, 0), 5 * S); /* its timeout does not matter */
	assert_int_equal(due(&s, 5 * S), TUNNEL_LOOK);
}

static void a_target_behind_it_that_fails(void **state)
{
	struct tunnel_state s = up_at(0);

	(void)state;
	tunnel_state_failed(&s, false);
	tunnel_state_failed(&s, false);
	tunnel_state_reached(&s);
	tunnel_state_failed(&s, false);
	tunnel_state_failed(&s, false);
	assert_int_equal(due(&s, S), TUNNEL_NOTHING);
	tunnel_state_failed(&s, false);
	assert_int_equal(due(&s, S), TUNNEL_TERMINATE);
	tunnel_state_told(&s, S);
	assert_false(s.late);
	tunnel_state_failed(&s, false); /* news from before */
	tunnel_state_ended(&s, S, 0);
	tunnel_state_started(&s, 2 * S);
	tunnel_state_looked(&s, 2 * S, true);
	assert_int_equal(due(&s, 2 * S), TUNNEL_NOTHING);
	tunnel_state_failed(&s, true);
	assert_int_equal(due(&s, 2 * S), TUNNEL_TERMINATE);
}

static void stopped_in_each_phase(void **state)
{
	struct tunnel_state s;

	(void)state;
	tunnel_state_init(&s, &rules, 0);
	tunnel_state_stop(&s);
	assert_int_equal(s.phase, TUNNEL_ENDED);
	assert_int_equal(next_of(&s, S), INT64_MAX);
	s = up_at(0);
	tunnel_state_stop(&s);
	assert_int_equal(due(&s, 0), TUNNEL_TERMINATE);
	tunnel_state_told(&s, 0);
	tunnel_state_ended(&s, 1, 0);
	assert_int_equal(s.phase, TUNNEL_ENDED);
	tunnel_state_retry(&s, 2);
	assert_int_equal(next_of(&s, 2), INT64_MAX);
	/* Blocked by another one's port, it waits for news. */
	tunnel_state_init(&s, &rules, 0);
	tunnel_state_blocked(&s);
	assert_int_equal(next_of(&s, S), INT64_MAX);
	tunnel_state_retry(&s, S);
	assert_int_equal(due(&s, S), TUNNEL_START);
}

/* ---- any order of news ---- */

static uint64_t random_state;

static uint64_t below(uint64_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % n;
}

/* The world: one program at most, which does what it likes. */
struct world {
	struct tunnel_state s;
	int64_t now, terminated_ns;
	bool runs, terminated, stopped;
	unsigned starts;
};

static void act(struct world *w)
{
	int64_t next;

	for (int turns = 0; turns < 10; turns++) {
		switch (tunnel_state_due(&w->s, w->now, &next)) {
		case TUNNEL_NOTHING:
			assert_true(next > w->now);
			return;
		case TUNNEL_START:
			assert_false(w->runs);
			assert_false(w->stopped);
			if (below(4) == 0) {
				tunnel_state_not_started(&w->s, w->now, (uint32_t)below(UINT32_MAX));
				break;
			}
			w->runs = true;
			w->terminated = false;
			w->starts++;
			tunnel_state_started(&w->s, w->now);
			break;
		case TUNNEL_LOOK:
			assert_true(w->runs);
			tunnel_state_looked(&w->s, w->now, below(4) == 0);
			break;
		case TUNNEL_TERMINATE:
			assert_true(w->runs && !w->terminated);
			w->terminated = true;
			w->terminated_ns = w->now;
			tunnel_state_told(&w->s, w->now);
			break;
		case TUNNEL_KILL:
			assert_true(w->runs && w->terminated && w->now >= w->terminated_ns + TUNNEL_GRACE_NS);
			tunnel_state_told(&w->s, w->now);
			if (below(3) != 0) { /* most end by it at once */
				w->runs = false;
				tunnel_state_ended(&w->s, w->now, (uint32_t)below(UINT32_MAX));
			}
			break;
		}
	}
	fail_msg("it never comes to rest");
}

static void happen(struct world *w)
{
	switch (below(7)) {
	case 0:
		if (w->runs) {
			w->runs = false;
			tunnel_state_ended(&w->s, w->now, (uint32_t)below(UINT32_MAX));
		}
		break;
	case 1:
		tunnel_state_failed(&w->s, below(5) == 0);
		break;
	case 2:
		tunnel_state_reached(&w->s);
		break;
	case 3:
		tunnel_state_retry(&w->s, w->now);
		break;
	case 4:
		if (below(50) == 0) {
			w->stopped = true;
			tunnel_state_stop(&w->s);
		}
		break;
	default:
		w->now += (int64_t)below(2 * (uint64_t)S);
		break;
	}
}

static void any_order_of_news(void **state)
{
	unsigned starts = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct world w = { .now = 0 };

		random_state = seed * UINT64_C(0x9E3779B97F4A7C15);
		tunnel_state_init(&w.s, &rules, 0);
		for (int i = 0; i < 400; i++) {
			happen(&w);
			act(&w);
			assert_int_equal(w.runs, tunnel_state_runs(&w.s));
		}
		/* Told to stop, it ends, whatever the program thinks of it. */
		w.stopped = true;
		tunnel_state_stop(&w.s);
		for (int i = 0; i < 100 && w.s.phase != TUNNEL_ENDED; i++) {
			act(&w);
			w.now += TUNNEL_GRACE_NS;
		}
		assert_int_equal(w.s.phase, TUNNEL_ENDED);
		assert_false(w.runs);
		starts += w.starts;
	}
	assert_true(starts > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comes_up_and_ends),
		cmocka_unit_test(one_that_is_never_ready),
		cmocka_unit_test(pauses_double_until_it_was_good),
		cmocka_unit_test(there_is_a_pause_in_any_case),
		cmocka_unit_test(up_by_time),
		cmocka_unit_test(a_target_behind_it_that_fails),
		cmocka_unit_test(stopped_in_each_phase),
		cmocka_unit_test(any_order_of_news),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
