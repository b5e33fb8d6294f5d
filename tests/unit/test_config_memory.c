/* LINK: config/check.c config/cli.c config/command.c config/dump.c config/help.c config/list.c config/paths.c
 * config/reader.c config/rules.c config/metrics.c config/receiver.c core/owner_map.c config/run.c config/source.c
 * config/suggest.c config/table.c config/targets.c config/tunnel.c core/tunnel_port.c config/value.c core/filter.c
 * core/filter_args.c core/backup_dir.c core/bandwidth.c core/schedule.c core/buf.c core/err.c core/path.c */
/* LIBS: -lconfig */
/* WRAP: malloc calloc realloc strdup asprintf vasprintf */
/*
 * Out of memory is an error: with each allocation failing in turn a configuration is refused, and nothing leaks.
 *
 * libconfig's own allocations are not made to fail: 1.5 does not check them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/config.h"
#include "tests/lib/config_fake.h"

/* How many more allocations succeed before one fails; negative: none fails. */
static long left = -1;

static bool fails(void)
{
	return left >= 0 && left-- == 0;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
int __real_vasprintf(char **out, const char *fmt, va_list ap);

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	return fails() ? NULL : __real_strdup(s);
}

int __wrap_vasprintf(char **out, const char *fmt, va_list ap)
{
	return fails() ? -1 : __real_vasprintf(out, fmt, ap);
}

int __wrap_asprintf(char **out, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = __wrap_vasprintf(out, fmt, ap);
	va_end(ap);
	return n;
}

static struct config_cli *make_cli(void)
{
	static const char *const words[] = { "-delay", "3", "-log", "all", "-sshopts", "-p '2 2'" };
	struct config_cli *cli = config_cli_new();
	struct err err = ERR_INIT;

	for (size_t i = 0; cli != NULL && i < sizeof(words) / sizeof(words[0]); i += 2)
		if (config_cli_take(cli, 2, (char *const *)&words[i], &err) != 2) {
			assert_int_equal(err.class, ERR_NOMEM);
			config_cli_free(cli);
			return NULL;
		}
	return cli;
}

/* Everything once; whether it worked. */
static bool attempt(const char *text)
{
	struct config_cli *cli = make_cli();
	struct config_env env = { .transports = fake_registry, .cli = cli };
	struct strlist errors = { 0 };
	struct config *c = NULL;
	struct buf dump;
	bool ok = false;

	if (cli != NULL)
		c = config_load_text(text, strlen(text), "t", &env, &errors);
	assert_true(c == NULL || errors.n == 0);
	buf_init(&dump, 1u << 20);
	if (c != NULL)
		ok = config_dump(c, &dump) == 0 && config_dump_sync(c, c->n_syncs - 1, 7, &dump) == 0;
	buf_done(&dump);
	config_free(c);
	strlist_done(&errors);
	config_cli_free(cli);
	return ok;
}

static void fail_each(const char *text, bool good)
{
	long n = 0;
	bool all_ran = false;

	/* A run in which none was left to fail is the last. */
	while (!all_ran) {
		bool ok;

		left = n++;
		ok = attempt(text);
		all_ran = left >= 0;
		left = -1;
		assert_int_equal(ok, all_ran && good);
	}
	assert_true(n > 40);
}

static void test_good(void **state)
{
	(void)state;
	fail_each("settings = { log = [ \"Exec\", \"Alarm\" ]; logfile = \"x.log\"; };\n"
		  "sync = ( { transport = \"rsyncssh\"; source = \"/a\"; host = \"h\"; targetdir = \"/b\"; exclude = "
		  "\"x\";\n"
		  "    filter = [ \"+ a\", \"- b\" ]; rsync = { cvs_exclude = true; extra = [ \"--stats\", \"-f- z\" "
		  "]; };\n"
		  "    ssh = { options = { A = \"b\"; C = 5; }; remotePrefix = \"sudo\"; }; },\n"
		  "  { transport = \"direct\"; source = \"/a\"; target = \"c/d\"; },\n"
		  "  { transport = \"rsync\"; source = \"/a\"; target = \"rsync://h/m\"; maxProcesses = 3; },\n"
		  "  { transport = \"rsync\"; source = \"/a\"; target = \"rsync://h:${port}/m\"; tunnel = { command = "
		  "[ \"t\", "
		  "\"${port}\" ]; }; } );\n",
		  true);
}

static void test_bad(void **state)
{
	(void)state;
	fail_each("settings = { inssit = true; log = 1; };\nsync = ( { transport = \"nfs\"; exclude = ( 1 ); },\n"
		  "{ transport = \"rsync\"; source = \"/a\"; target = \"/a/b\"; filter = \"%% x\"; } );\n",
		  false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
