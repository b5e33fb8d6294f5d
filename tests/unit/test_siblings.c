/* LINK: core/siblings.c core/links.c core/look.c core/path.c core/buf.c core/err.c core/clock.c core/safe_open.c */
/* LINK: core/fsutil.c core/log.c core/utf8.c */
/* The other names of a file: known, searched for, or to be asked for again. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/siblings.h"
#include "tests/unit/scratch.h"

static char names[256];
static uint64_t dev, ino; /* of the latest */

static void add(void *ctx, const char *path, size_t len, const struct stat *st)
{
	(void)ctx;
	assert_true(st->st_nlink > 1);
	assert_true(strlen(names) + len + 2 < sizeof(names));
	(void)strncat(names, path, len);
	(void)strcat(names, " ");
}

/* In a batch of its own. */
static bool ask(struct siblings *s, int dir, const char *path, int64_t now_ns)
{
	struct stat st;

	links_sweep(s->links);
	names[0] = '\0';
	assert_int_equal(fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	dev = st.st_dev;
	ino = st.st_ino;
	return siblings_each(s, path, strlen(path), &st, now_ns, add, NULL);
}

static void searched_for_later(void **state)
{
	const int64_t start = 1000 * NS_PER_S;
	struct scratch scratch;
	int dir, sub;
	char inside[sizeof(scratch.dir) + 8];
	struct looker looker;
	struct siblings s = { .links = links_new(100), .source = scratch.dir, .looker = &looker };

	(void)state;
	assert_int_equal(scratch_make(&scratch), 0);
	dir = open(scratch.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	(void)snprintf(inside, sizeof(inside), "%s/inside", scratch.dir);
	assert_true(dir >= 0);
	assert_non_null(s.links);
	looker_init(&looker, dir);
	assert_int_equal(mkdirat(dir, "d", 0755), 0);
	assert_false(siblings_was_made(&s, "d/b", 3));
	assert_int_equal(mknodat(dir, "a", S_IFREG | 0644, 0), 0);
	assert_int_equal(linkat(dir, "a", dir, "d/b", 0), 0);
	assert_true(ask(&s, dir, "a", start));
	assert_string_equal(names, "d/b ");
	assert_true(siblings_was_made(&s, "d/b", 3));
	assert_true(siblings_was_made(&s, "d", 1));
	assert_false(siblings_was_made(&s, "a", 1));
	assert_false(siblings_was_made(&s, "d/c", 3));

	assert_int_equal(renameat(dir, "d", dir, "e"), 0);
	assert_false(ask(&s, dir, "a", start)); /* just searched */
	assert_string_equal(names, "");
	assert_true(ask(&s, dir, "a", start + 11 * NS_PER_S));
	assert_string_equal(names, "e/b ");
	assert_true(ask(&s, dir, "a", start + 11 * NS_PER_S)); /* they are known */
	assert_string_equal(names, "e/b ");

	/* One that lies outside is no reason to search again, until directories move. */
	assert_int_equal(mkdirat(dir, "inside", 0755), 0);
	assert_int_equal(mknodat(dir, "inside/c", S_IFREG | 0644, 0), 0);
	assert_int_equal(linkat(dir, "inside/c", dir, "outside", 0), 0);
	s.source = inside;
	looker_done(&looker);
	sub = openat(dir, "inside", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	looker_init(&looker, sub);
	assert_true(ask(&s, sub, "c", start + 30 * NS_PER_S));
	assert_true(ask(&s, sub, "c", start + 30 * NS_PER_S));
	assert_string_equal(names, "");
	links_moved(s.links);
	assert_false(ask(&s, sub, "c", start + 30 * NS_PER_S));
	/* A search that was under way meanwhile may have missed a name. */
	links_begin(s.links);
	assert_true(links_note(s.links, dev, ino, "c", 1));
	links_moved(s.links);
	siblings_judge(&s, dev, ino);
	assert_false(ask(&s, sub, "c", start + 30 * NS_PER_S));
	assert_true(ask(&s, sub, "c", start + 50 * NS_PER_S));
	looker_done(&looker);
	(void)close(sub);
	siblings_done(&s);
	links_free(s.links);
	(void)close(dir);
	assert_int_equal(scratch_remove(&scratch), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(searched_for_later) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
