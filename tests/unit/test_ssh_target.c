/* LINK: transports/ssh_target.c transports/rsync_args.c core/filter.c core/filter_args.c core/keep.c core/buf.c
 * core/err.c core/path.c */
/* [user@]host and targetdir of ssh's transports: what is refused, and what ssh, rsync and libssh2 are given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transports/ssh_target.h"

static int validate(const char *host, const char *dir, char **target, struct err *err)
{
	struct sync_options opt = { .host = strdup(host), .targetdir = strdup(dir) };
	int rc = ssh_target_validate(&opt, err);

	if (target != NULL && rc == 0)
		*target = opt.target;
	else
		free(opt.target);
	free(opt.host);
	free(opt.targetdir);
	return rc;
}

static void what_is_a_host(void **state)
{
	static const struct {
		const char *host, *target, *plain;
	} good[] = {
		{ "nas", "nas:/d", "nas" },
		{ "me@nas.example.net", "me@nas.example.net:/d", "me@nas.example.net" },
		{ "me@corp@nas", "me@corp@nas:/d", "me@corp@nas" },
		{ "192.0.2.1", "192.0.2.1:/d", "192.0.2.1" },
		{ "::1", "[::1]:/d", "::1" },
		{ "[::1]", "[::1]:/d", "::1" },
		{ "me@2001:db8::7", "me@[2001:db8::7]:/d", "me@2001:db8::7" },
		{ "me@[2001:db8::7]", "me@[2001:db8::7]:/d", "me@2001:db8::7" },
		{ "fe80::1%eth0", "[fe80::1%eth0]:/d", "fe80::1%eth0" },
		{ "me@[fe80::1%eth0]", "me@[fe80::1%eth0]:/d", "me@fe80::1%eth0" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct err err = ERR_INIT;
		char *target = NULL, *plain;

		assert_int_equal(validate(good[i].host, "/d", &target, &err), 0);
		assert_string_equal(target, good[i].target);
		free(target);
		plain = ssh_target_host(good[i].host);
		assert_string_equal(plain, good[i].plain);
		free(plain);
	}
}

static void what_is_none(void **state)
{
	static const struct {
		const char *host, *why;
	} bad[] = {
		{ "", "names no host" },
		{ "me@", "names no host" },
		{ "-oProxyCommand=x", "dash" },
		{ "me@-x", "dash" },
		{ "a b", "character" },
		{ "a;b", "character" },
		{ "a\nb", "character" },
		{ "$(x)", "character" },
		{ "nas:2222", "a port belongs into ssh.port" },
		{ "me@nas:/srv", "character" },
		{ "[::1]:2222", "a port belongs into ssh.port" },
		{ "me@[fe80::1%eth0]:22", "a port belongs into ssh.port" },
		{ "[::1", "brackets" },
		{ "a[::1]", "port belongs" },
		{ "[nas]", "no IPv6 address" },
		{ "[::g]", "no IPv6 address" },
		{ "me@[]", "no IPv6 address" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err err = ERR_INIT;

		assert_int_equal(validate(bad[i].host, "/d", NULL, &err), -1);
		if (strstr(err.text, bad[i].why) == NULL)
			fail_msg("%s: %s", bad[i].host, err.text);
		assert_int_equal(err.class, ERR_CONFIG);
	}
}

static void directories(void **state)
{
	static const char *const dirs[][2] = {
		{ "/srv/web", "/srv/web" },
		{ "/srv/web///", "/srv/web" },
		{ "/", "" },
		{ "web", "./web" },
		{ "~", "." },
		{ "~/", "." },
		{ "~/web/", "./web" },
		{ "-web", "./-web" },
		{ ".", "./." },
	};
	struct err err = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		struct buf out;

		buf_init(&out, 200);
		assert_true(ssh_target_add_dir(&out, dirs[i][0]));
		assert_string_equal(buf_str(&out), dirs[i][1]);
		buf_done(&out);
	}
	assert_int_equal(validate("nas", "~other/web", NULL, &err), -1);
	assert_non_null(strstr(err.text, "another user's home"));
	assert_int_equal(validate("nas", "a\nb", NULL, &err), -1);
	assert_non_null(strstr(err.text, "control character"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_a_host),
		cmocka_unit_test(what_is_none),
		cmocka_unit_test(directories),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
