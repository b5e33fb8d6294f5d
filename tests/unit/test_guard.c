/* LINK: core/guard.c core/keep.c core/identity.c core/fsutil.c core/safe_open.c core/path.c core/buf.c core/err.c */
/* What is remembered of source, target and mount points, and what follows from it. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/guard.h"
#include "tests/unit/scratch.h"

static struct root_identity root(uint64_t fsid, uint64_t ino)
{
	return (struct root_identity){ .fsid = fsid, .dev = 7, .ino = ino, .type = 0xef53 };
}

static struct root_identity uuid_root(uint64_t fsid, uint64_t dev, uint64_t ino, unsigned char uuid)
{
	struct root_identity id = { .fsid = fsid, .dev = dev, .ino = ino, .type = 0xef53, .has_uuid = true };

	memset(id.uuid, uuid, sizeof(id.uuid));
	return id;
}

static int make_scratch(void **state)
{
	*state = calloc(1, sizeof(struct scratch));
	return *state == NULL ? -1 : scratch_make(*state);
}

static int remove_scratch(void **state)
{
	int rc = scratch_remove(*state);

	free(*state);
	return rc;
}

/* ---- identities ---- */

static void identity_is_inode_kind_and_file_system(void **state)
{
	struct root_identity a = root(1, 2), b = root(1, 2);

	(void)state;
	assert_true(identity_same(&a, &b));
	b.dev++; /* another number after a reboot */
	assert_true(identity_same(&a, &b));
	b.type++;
	assert_false(identity_same(&a, &b));
	b = root(1, 3);
	assert_false(identity_same(&a, &b));
	b = root(9, 2);
	assert_false(identity_same(&a, &b));
}

static void uuids_tell_devices_apart_and_find_them_again(void **state)
{
	struct root_identity a = uuid_root(11ull << 32, 11, 128, 1), b = uuid_root(11ull << 32, 11, 128, 2);

	(void)state;
	assert_false(identity_same(&a, &b)); /* another disk, which got the old one's number */
	b = uuid_root(12ull << 32, 12, 128, 1);
	assert_true(identity_same(&a, &b)); /* the disk got another number */
	a = uuid_root(100, 11, 256, 1);
	b = uuid_root(101, 11, 256, 1);
	assert_false(identity_same(&a, &b)); /* two subvolumes */
	b = root(100, 256);
	assert_true(identity_same(&a, &b)); /* an older kernel told no UUID */
}

static void identities_as_text(void **state)
{
	static const char *const bad[] = { "",
					   "fsid 1 dev 2 ino 3 type 4 uuid",
					   "fsid 1 dev 2 ino 3 type 4 uuid x",
					   "fsid 1 dev 2 ino 3 type 4 uuid - ",
					   "fsid 01 dev 2 ino 3 type 4 uuid -",
					   "fsid 1 dev 2 ino 3x type 4 uuid -",
					   "fsid 1 dev 2 ino 3 type 4 uuid 0102" };
	struct root_identity all[] = { root(0xab, 12), uuid_root(UINT64_MAX, UINT64_MAX, UINT64_MAX, 0xfe) }, got;
	struct buf text;

	(void)state;
	buf_init(&text, 4096);
	for (size_t i = 0; i < 2; i++) {
		buf_clear(&text);
		assert_true(identity_put(&text, &all[i]));
		assert_true(identity_get(text.data, text.len, &got));
		assert_true(identity_same(&got, &all[i]));
		assert_true(got.dev == all[i].dev && got.has_uuid == all[i].has_uuid);
		assert_false(identity_get(text.data, text.len - 1, &got) && got.has_uuid);
	}
	buf_done(&text);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(identity_get(bad[i], strlen(bad[i]), &got));
}

static void identities_of_directories(void **state)
{
	const char *dir = ((struct scratch *)*state)->dir;
	struct root_identity a, b;
	struct err err = ERR_INIT;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), path_fd = open(dir, O_PATH | O_CLOEXEC);
	int up = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(identity_of_fd(fd, &a, &err), 0);
	assert_int_equal(identity_of_fd(path_fd, &b, &err), 0);
	assert_true(identity_same(&a, &b));
	assert_int_equal(identity_of_fd(up, &b, &err), 0);
	assert_false(identity_same(&a, &b));
	close(fd);
	close(path_fd);
	close(up);
	assert_int_equal(identity_of_fd(-1, &a, &err), -1);
}

/* ---- mounts ---- */

static struct guard_seen seen(const char *path, uint64_t fsid)
{
	return (struct guard_seen){ .path = path, .len = strlen(path), .known = fsid != 0, .id = root(fsid, 2) };
}

static void look(struct guard_state *g, const struct guard_seen *s, size_t n, bool accept)
{
	assert_int_equal(guard_mounts(g, s, n, accept), 0);
}

/* Which paths are kept, joined by blanks. */
static void expect_kept(const struct guard_state *g, const char *want)
{
	struct keep_list l = { 0 };
	char got[256] = "";

	assert_true(guard_keeps(g, &l));
	for (size_t i = 0; i < l.n; i++) {
		assert_non_null(l.v[i].why);
		strcat(got, i > 0 ? " " : "");
		strncat(got, l.v[i].path, l.v[i].len);
	}
	assert_string_equal(got, want);
	keep_done(&l);
}

static void a_mount_that_goes_is_kept_until_it_is_back(void **state)
{
	struct guard_state g = { 0 };
	struct guard_seen two[] = { seen("b/m", 5), seen("a", 4) }, other[] = { seen("b/m", 9), seen("a", 4) };

	(void)state;
	look(&g, two, 2, false);
	expect_kept(&g, ""); /* the first look ever */
	look(&g, &two[1], 1, false);
	expect_kept(&g, "b/m");
	look(&g, other, 2, false);
	expect_kept(&g, "b/m"); /* another one in its place */
	two[0].known = false;
	look(&g, two, 2, false);
	expect_kept(&g, "b/m"); /* it can't be looked at */
	two[0].known = true;
	look(&g, two, 2, false);
	expect_kept(&g, "");
	guard_done(&g);
}

static void a_new_mount_is_kept_until_it_is_allowed(void **state)
{
	struct guard_state g = { 0 };
	struct guard_seen m = seen("m", 5);

	(void)state;
	look(&g, NULL, 0, false);
	look(&g, &m, 1, false);
	expect_kept(&g, "m");
	look(&g, NULL, 0, false);
	expect_kept(&g, "m"); /* gone again, and still not what it was */
	look(&g, &m, 1, false);
	expect_kept(&g, "m");
	look(&g, &m, 1, true);
	expect_kept(&g, "");
	look(&g, NULL, 0, false);
	expect_kept(&g, "m");
	look(&g, NULL, 0, true);
	expect_kept(&g, "");
	assert_int_equal(g.n_mounts, 0);
	guard_done(&g);
}

static void a_mount_moves_with_the_directory_above(void **state)
{
	struct guard_state g = { 0 };
	struct guard_seen old = seen("a/m", 5), new[] = { seen("b/m", 5) };

	(void)state;
	look(&g, &old, 1, false);
	look(&g, new, 1, false);
	expect_kept(&g, "");
	assert_int_equal(g.n_mounts, 1);
	guard_done(&g);
}

/* What was mounted at a place appears at another one, too, while the first one can't be looked at, or has another disk:
 * nothing moved, and both places are in doubt. */
static void a_mount_that_appears_elsewhere_too_does_not_move(void **state)
{
	const struct guard_seen before[] = { seen("m", 5) };
	const struct guard_seen unreadable[] = { seen("m", 0), seen("z", 5) };
	const struct guard_seen another[] = { seen("m", 6), seen("z", 5) };
	struct guard_state g = { 0 };

	(void)state;
	look(&g, before, 1, false);
	look(&g, unreadable, 2, false);
	expect_kept(&g, "m z");
	look(&g, another, 2, false);
	expect_kept(&g, "m z");
	look(&g, before, 1, false);
	expect_kept(&g, "z");
	guard_done(&g);
}

static void what_never_could_be_looked_at_is_not_accepted(void **state)
{
	struct guard_state g = { 0 };
	struct guard_seen m = seen("m", 0);

	(void)state;
	look(&g, &m, 1, false);
	expect_kept(&g, "m");
	m = seen("m", 5);
	look(&g, &m, 1, false);
	expect_kept(&g, "m");
	look(&g, &m, 1, true);
	expect_kept(&g, "");
	guard_done(&g);
}

static void too_many_mounts_keep_everything(void **state)
{
	static struct guard_seen many[GUARD_MOUNTS_MAX + 1];
	static char names[GUARD_MOUNTS_MAX + 1][8];
	struct guard_state g = { 0 };
	struct keep_list l = { 0 };

	(void)state;
	for (size_t i = 0; i <= GUARD_MOUNTS_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), "m%zu", i);
		many[i] = seen(names[i], i + 1);
	}
	look(&g, many, GUARD_MOUNTS_MAX, false);
	expect_kept(&g, "");
	look(&g, many, GUARD_MOUNTS_MAX + 1, false);
	assert_true(guard_keeps(&g, &l));
	assert_true(keep_covers(&l, "any", 3));
	keep_done(&l);
	guard_done(&g);
}

/* ---- the record ---- */

static void records_as_text(void **state)
{
	struct guard_state g = { .has_root = true,
				 .root = root(1, 2),
				 .has_target_root = true,
				 .target_root = uuid_root(3, 4, 5, 6) },
			   got;
	struct guard_seen m[] = { seen("with blank\n%\xc3\xa4", 5), seen("n", 0) };
	struct buf text, again;
	struct err err = ERR_INIT;

	(void)state;
	g.target = strdup("host[22] host:/a b");
	g.source = strdup("/src\n");
	look(&g, m, 2, false);
	look(&g, &m[1], 1, false);
	buf_init(&text, GUARD_TEXT_MAX);
	buf_init(&again, GUARD_TEXT_MAX);
	assert_true(guard_put(&text, &g));
	assert_int_equal(guard_get(text.data, text.len, &got, &err), 0);
	assert_true(guard_put(&again, &got));
	assert_int_equal(text.len, again.len);
	assert_memory_equal(text.data, again.data, text.len);
	assert_string_equal(got.target, g.target);
	assert_string_equal(got.source, g.source);
	expect_kept(&got, "n with blank\n%\xc3\xa4");
	guard_done(&got);
	/* Cut anywhere it is refused. */
	for (size_t n = 0; n < text.len; n++) {
		assert_int_equal(guard_get(text.data, n, &got, &err), -1);
		assert_int_equal(err.class, ERR_PROTOCOL);
		assert_null(got.mounts);
	}
	buf_done(&text);
	buf_done(&again);
	guard_done(&g);
}

static void records_that_make_no_sense(void **state)
{
	static const char *const bad[] = {
		"fansyncd-guard 2\nend\n",
		"fansyncd-guard 1\nend\nend\n",
		"fansyncd-guard 1\nwhat\nend\n",
		"fansyncd-guard 1\ntarget \nend\n",
		"fansyncd-guard 1\ntarget a%0\nend\n",
		"fansyncd-guard 1\ntarget a%00\nend\n",
		"fansyncd-guard 1\nroot fsid 1\nend\n",
		"fansyncd-guard 1\nlooked twice\nend\n",
		"fansyncd-guard 1\nmount at ../x \nend\n",
		"fansyncd-guard 1\nmount xt x \nend\n",
		"fansyncd-guard 1\nmount at x fsid\nend\n",
		"fansyncd-guard 1\nmount at b \nmount at a \nend\n",
		"fansyncd-guard 1\nmount at a \nmount at a \nend\n",
	};
	struct guard_state g;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(guard_get("fansyncd-guard 1\nend\n", 21, &g, &err), 0);
	guard_done(&g);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(guard_get(bad[i], strlen(bad[i]), &g, &err), -1);
}

/* ---- what is kept ---- */

static void keeps_at_above_and_below(void **state)
{
	struct keep_list l = { 0 };

	(void)state;
	assert_null(keep_touches(NULL, "a", 1));
	assert_true(keep_add(&l, "a/m", 3, "why"));
	assert_non_null(keep_touches(&l, "a/m", 3));
	assert_non_null(keep_touches(&l, "a/m/x", 5));
	assert_non_null(keep_touches(&l, "a", 1));
	assert_non_null(keep_touches(&l, "", 0));
	assert_null(keep_touches(&l, "a/mm", 4));
	assert_null(keep_touches(&l, "b", 1));
	assert_true(keep_covers(&l, "a/m", 3));
	assert_true(keep_covers(&l, "a/m/x", 5));
	assert_false(keep_covers(&l, "a", 1));
	assert_true(keep_holds(&l, "a", 1));
	assert_true(keep_holds(&l, "a/m", 3));
	assert_false(keep_holds(&l, "a/m/x", 5));
	assert_true(keep_add(&l, "b/marker", 8, NULL));
	assert_true(keep_holds(&l, "b", 1));
	assert_false(keep_holds(&l, "b/marker", 8));
	keep_done(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identity_is_inode_kind_and_file_system),
		cmocka_unit_test(uuids_tell_devices_apart_and_find_them_again),
		cmocka_unit_test(identities_as_text),
		cmocka_unit_test_setup_teardown(identities_of_directories, make_scratch, remove_scratch),
		cmocka_unit_test(a_mount_that_goes_is_kept_until_it_is_back),
		cmocka_unit_test(a_new_mount_is_kept_until_it_is_allowed),
		cmocka_unit_test(a_mount_moves_with_the_directory_above),
		cmocka_unit_test(a_mount_that_appears_elsewhere_too_does_not_move),
		cmocka_unit_test(what_never_could_be_looked_at_is_not_accepted),
		cmocka_unit_test(too_many_mounts_keep_everything),
		cmocka_unit_test(records_as_text),
		cmocka_unit_test(records_that_make_no_sense),
		cmocka_unit_test(keeps_at_above_and_below),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
