/* LINK: transports/mirror_alike.c transports/mirror_rules.c */
/* NEW SEED */
/*
 * A digest that is equal leaves nothing to be done: random entries of both ends, nearly alike, and random rules. Where
 * the rules find nothing to do if the source had just what the target has, and the digests are equal, they find nothing
 * to do about the two as they are.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>

#include <cmocka.h>

#include "transports/mirror_alike.h"

#define PAIRS 300000
#define NOW_S 1700000000

static uint64_t state;
static struct mirror_alike *same;

static unsigned below(unsigned n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned)((state >> 20) % n);
}

static bool maybe(void)
{
	return below(2) == 0;
}

static int up(void **unused)
{
	const char *seed = getenv("SEED");

	(void)unused;
	state = seed == NULL ? (uint64_t)time(NULL) * 2654435761u + 1 : strtoull(seed, NULL, 10);
	(void)printf("SEED=%" PRIu64 "\n", state);
	same = mirror_alike_new();
	return same == NULL ? -1 : 0;
}

static int down(void **unused)
{
	(void)unused;
	mirror_alike_free(same);
	return 0;
}

/* Options that are mostly at home with a digest, so that most pairs get that far. */
static struct mirror_rules some_rules(void)
{
	struct mirror_rules r = { .links = below(8) > 0,
				  .times = below(16) > 0,
				  .perms = maybe(),
				  .owner = maybe(),
				  .group = maybe(),
				  .devices = maybe(),
				  .specials = maybe(),
				  .hard_links = maybe(),
				  .update = maybe(),
				  .executability = maybe(),
				  .existing = maybe(),
				  .checksum = below(16) == 0,
				  .ignore_times = below(16) == 0,
				  .one_file_system = below(16) == 0,
				  .bidirectional = below(16) == 0,
				  .xattr_kinds = below(16) == 0 ? FILEOPS_XATTR_PLAIN : 0,
				  .max_size = below(4) == 0 ? 5 : -1,
				  .min_size = below(4) == 0 ? 4 : -1,
				  .tick_ns = below(16) == 0 ? NS_PER_S : 1,
				  .unmet = below(4),
				  .umask = 022 };

	r.dir_times = r.times && maybe();
	r.link_times = r.times && maybe();
	r.caps = FILEOPS_CTIME | FILEOPS_INODES | FILEOPS_LINKS;
	r.caps |= below(4) > 0 ? FILEOPS_NODES : 0;
	r.caps |= below(4) > 0 ? FILEOPS_LINK_ATTRS : 0;
	r.caps |= below(4) > 0 ? FILEOPS_OWNERS : 0;
	return r;
}

static struct timespec some_time(void)
{
	static const time_t seconds[] = { 0, -1, NOW_S, NOW_S - 300, NOW_S - 86400, INT64_MAX / 2, INT64_MIN / 2 };

	return (struct timespec){ seconds[below(7)], (long)below(3) };
}

static void some_type(struct stat *st)
{
	static const mode_t types[] = {
		S_IFREG, S_IFREG, S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFBLK, S_IFCHR
	};

	st->st_mode = (st->st_mode & 07777) | types[below(9)];
}

static struct stat some_stat(void)
{
	struct stat st = { .st_mode = below(010000),
			   .st_nlink = 1 + below(2),
			   .st_uid = below(2),
			   .st_gid = below(2),
			   .st_rdev = makedev(1, below(2)),
			   .st_size = below(8),
			   .st_mtim = some_time(),
			   .st_ctim = some_time(),
			   .st_ino = below(3),
			   .st_dev = below(2) };

	some_type(&st);
	return st;
}

/* Up to three things are otherwise. */
static void change(struct stat *st)
{
	for (unsigned n = below(4); n > 0; n--) {
		switch (below(9)) {
		case 0:
			st->st_mode ^= 1u << below(12);
			break;
		case 1:
			st->st_uid ^= 1;
			break;
		case 2:
			st->st_gid ^= 1;
			break;
		case 3:
			st->st_mtim = some_time();
			break;
		case 4:
			st->st_size ^= 1;
			break;
		case 5:
			st->st_rdev ^= 1;
			break;
		case 6:
			st->st_nlink ^= 3;
			break;
		case 7:
			st->st_ctim = some_time();
			break;
		default:
			some_type(st);
		}
	}
}

static void digest_of(unsigned fields, const struct stat *st, const char *name, unsigned char *out)
{
	struct fileops_entry e = { .name = name, .len = strlen(name), .st = *st };

	mirror_alike_begin(same, fields);
	mirror_alike_add(same, &e, S_ISLNK(st->st_mode) ? "text" : NULL, S_ISLNK(st->st_mode) ? 4 : 0);
	mirror_alike_end(same, out);
}

static bool digests_equal(unsigned fields, const struct stat *a, const struct stat *b)
{
	unsigned char one[MIRROR_ALIKE_BYTES], two[MIRROR_ALIKE_BYTES];

	digest_of(fields, a, "name", one);
	digest_of(fields, b, "name", two);
	return memcmp(one, two, sizeof(one)) == 0;
}

/* As a sender tells it. */
static struct stat told(const struct stat *st)
{
	struct stat copy = *st;

	copy.st_ctim = (struct timespec){ 0 };
	return copy;
}

static void equal_digests_leave_nothing_to_do(void **unused)
{
	unsigned asked = 0, equal = 0, otherwise = 0;

	(void)unused;
	for (int i = 0; i < PAIRS; i++) {
		struct mirror_rules r = some_rules();
		struct stat dst = some_stat(), src = dst, like = told(&dst);
		struct mirror_look look = { .src = &like, .dst = &dst, .now_ns = NOW_S * NS_PER_S };
		unsigned fields;

		change(&src);
		src = told(&src);
		if (!mirror_alike_fields(&r, &fields) || !mirror_settled(&r, &look))
			continue;
		asked++;
		look.src = &src;
		if (digests_equal(fields, &src, &dst)) {
			equal++;
			otherwise += memcmp(&src, &like, sizeof(src)) != 0;
			if (!mirror_settled(&r, &look))
				fail_msg("pair %d: of equal digests, and something is to be done", i);
		}
	}
	/* It was put to the test. */
	assert_true(asked > PAIRS / 20 && equal > asked / 10 && otherwise > 100 && equal < asked);
}

/* The other way round it may be in vain, but not for what nobody asked for. */
static void what_does_not_count_does_not_differ(void **unused)
{
	struct stat a = { .st_mode = S_IFREG | 0644, .st_nlink = 1, .st_size = 3, .st_mtim = { 5, 6 } }, b = a;

	(void)unused;
	b.st_mode = S_IFREG | 0600;
	b.st_uid = b.st_gid = 7;
	b.st_nlink = 2;
	b.st_ino = 9;
	b.st_ctim.tv_sec = 1;
	assert_true(digests_equal(0, &a, &b));
	for (unsigned bit = 1; bit <= MIRROR_ALIKE_FIELDS; bit <<= 1)
		assert_int_equal(digests_equal(bit, &a, &b),
				 bit == MIRROR_ALIKE_DIR_TIMES || bit == MIRROR_ALIKE_LINK_TIMES);
	a.st_mode = b.st_mode = S_IFDIR | 0755;
	b.st_mtim.tv_nsec++;
	b.st_size++;
	assert_true(digests_equal(MIRROR_ALIKE_FIELDS &
					  ~(unsigned)(MIRROR_ALIKE_DIR_TIMES | MIRROR_ALIKE_OWNER | MIRROR_ALIKE_GROUP),
				  &a, &b));
	assert_false(digests_equal(MIRROR_ALIKE_DIR_TIMES, &a, &b));
}

static void add(const char *name, mode_t type, const char *text)
{
	struct fileops_entry e = { .name = name, .len = strlen(name), .st.st_mode = type };

	mirror_alike_add(same, &e, text, text == NULL ? 0 : strlen(text));
}

/* Names, texts and the number of entries are told apart wherever their bytes end. */
static void nothing_runs_into_what_is_next(void **unused)
{
	unsigned char digests[6][MIRROR_ALIKE_BYTES];

	(void)unused;
	for (int i = 0; i < 6; i++) {
		mirror_alike_begin(same, MIRROR_ALIKE_FIELDS);
		switch (i) {
		case 0:
			break;
		case 1:
			add("ab", S_IFLNK, "c");
			break;
		case 2:
			add("a", S_IFLNK, "bc");
			break;
		case 3:
			add("a", S_IFLNK, "b");
			add("c", S_IFREG, NULL);
			break;
		case 4:
			add("a", S_IFLNK, "bc");
			add("c", S_IFREG, NULL);
			break;
		default:
			add("ab", S_IFREG, NULL);
		}
		mirror_alike_end(same, digests[i]);
		for (int k = 0; k < i; k++)
			assert_memory_not_equal(digests[i], digests[k], MIRROR_ALIKE_BYTES);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_digests_leave_nothing_to_do),
		cmocka_unit_test(what_does_not_count_does_not_differ),
		cmocka_unit_test(nothing_runs_into_what_is_next),
	};

	return cmocka_run_group_tests(tests, up, down);
}
