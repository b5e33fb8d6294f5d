/* LINK: core/owners.c core/lookups.c core/owner_map.c core/privileges.c core/err.c */
/* WRAP: getpwnam_r getgrgid_r */
/* Names and numbers of this host, which a child looks up: what is there, what is not, and what goes wrong. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/owners.h"

int __wrap_getpwnam_r(const char *name, struct passwd *entry, char *text, size_t size, struct passwd **found);
int __wrap_getgrgid_r(gid_t id, struct group *entry, char *text, size_t size, struct group **found);

int __wrap_getpwnam_r(const char *name, struct passwd *entry, char *text, size_t size, struct passwd **found)
{
	(void)text;
	*found = NULL;
	if (strcmp(name, "crash") == 0)
		_exit(3);
	if (strcmp(name, "broken") == 0)
		return EIO;
	if (strcmp(name, "nobody here") == 0)
		return ENOENT;
	if (size < 100000) /* as of a group with many members */
		return ERANGE;
	entry->pw_uid = 4711;
	entry->pw_name = (char *)name;
	*found = entry;
	return 0;
}

int __wrap_getgrgid_r(gid_t id, struct group *entry, char *text, size_t size, struct group **found)
{
	(void)snprintf(text, size, "group%u", id);
	entry->gr_gid = id;
	entry->gr_name = text;
	*found = id == 5 ? NULL : entry;
	return 0;
}

static struct owner_answer ask(enum owner_kind kind, uint32_t id, const char *name)
{
	struct owner_question q = { .kind = kind, .id = id };
	struct owner_answer a;

	(void)snprintf(q.name, sizeof(q.name), "%s", name);
	owner_look_up(0, &q, &a);
	return a;
}

static void answers(void **state)
{
	struct owner_answer a = ask(OWNER_USER, 0, "alice");

	(void)state;
	assert_int_equal(a.result, OWNER_FOUND);
	assert_int_equal(a.id, 4711);
	a = ask(OWNER_GROUP, 77, "");
	assert_int_equal(a.result, OWNER_FOUND);
	assert_string_equal(a.name, "group77");
	assert_int_equal(ask(OWNER_GROUP, 5, "").result, OWNER_UNKNOWN);
	assert_int_equal(ask(OWNER_USER, 0, "nobody here").result, OWNER_UNKNOWN);
}

static void failures_are_no_answers(void **state)
{
	(void)state;
	assert_int_equal(ask(OWNER_USER, 0, "broken").result, OWNER_FAILED);
	assert_int_equal(ask(OWNER_USER, 0, "crash").result, OWNER_FAILED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers),
		cmocka_unit_test(failures_are_no_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
