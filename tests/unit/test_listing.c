/* LINK: transports/listing.c transports/throttle.c core/clock.c */
/* Listings: order, duplicates, many names; and the limit of a rate. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/clock.h"
#include "transports/listing.h"
#include "transports/throttle.h"

static void sorted_by_bytes(void **state)
{
	static const char *const names[] = { "b", "a", "ab", "\xff", "a", "a b", "A" };
	static const char *const want[] = { "A", "a", "a b", "ab", "b", "\xff" };
	struct listing l;

	(void)state;
	listing_init(&l);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_non_null(listing_add(&l, names[i], strlen(names[i])));
	listing_sort(&l);
	assert_int_equal(l.n, sizeof(want) / sizeof(want[0]));
	for (size_t i = 0; i < l.n; i++)
		assert_string_equal(l.v[i].name, want[i]);
	listing_free(&l);
	assert_int_equal(l.n, 0);
}

static void many_and_long(void **state)
{
	struct listing l;
	char name[256];

	(void)state;
	listing_init(&l);
	for (unsigned i = 0; i < 20000; i++) {
		size_t n = (size_t)snprintf(name, sizeof(name), "%0*u", (int)(1 + i % 250), (i * 7919u) % 20000u);

		assert_non_null(listing_add(&l, name, n));
	}
	assert_non_null(listing_add(&l, "x", 1));
	listing_drop_last(&l);
	listing_sort(&l);
	for (size_t i = 1; i < l.n; i++)
		assert_true(listing_compare(l.v[i - 1].name, l.v[i - 1].len, l.v[i].name, l.v[i].len) < 0);
	listing_free(&l);
}

static void rate(void **state)
{
	struct throttle t;
	int64_t now = 1000 * NS_PER_S, start = now;
	uint64_t sent = 0;

	(void)state;
	throttle_init(&t, 0);
	throttle_took(&t, now, 1u << 30);
	assert_int_equal(throttle_wait_ns(&t, now), 0);
	throttle_init(&t, 1000);
	while (now - start < 10 * NS_PER_S) {
		int64_t wait = throttle_wait_ns(&t, now);

		now += wait;
		throttle_took(&t, now, 50);
		sent += 50;
	}
	assert_true(sent >= 9900 && sent <= 10300);
	now += 100 * NS_PER_S; /* what was not used is not owed */
	throttle_took(&t, now, 1000);
	assert_int_equal(throttle_wait_ns(&t, now), NS_PER_S - NS_PER_S / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sorted_by_bytes),
		cmocka_unit_test(many_and_long),
		cmocka_unit_test(rate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
