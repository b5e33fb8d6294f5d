/* LINK: config/check.c config/cli.c config/command.c config/dump.c config/help.c config/list.c config/paths.c
 * config/reader.c config/rules.c config/metrics.c config/receiver.c core/owner_map.c config/run.c config/source.c
 * config/suggest.c config/table.c config/targets.c config/tunnel.c core/tunnel_port.c config/value.c core/filter.c
 * core/filter_args.c core/backup_dir.c core/bandwidth.c core/schedule.c core/buf.c core/err.c core/path.c
 * tests/lib/config_load.c */
/* LIBS: -lconfig */
/* The configuration as files, with the command line, and as a dump: includes, precedence, round trips. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/config.h"
#include "tests/lib/config_load.h"

/* ---- files ---- */

static void test_include(void **state)
{
	const struct dir *d = *state;
	struct strlist errors = { 0 };
	struct config *c;

	put_dir(d, "sub");
	put(d, "a.conf", "@include \"b.conf\"\nsync = (\n@include \"sub/d.conf\" # a comment\n);\n");
	put(d, "b.conf", "settings = {\n@include \"c.conf\"\n};\n");
	put(d, "c.conf", "logident = \"inner\";");
	put(d, "sub/d.conf", "{\n" RSYNC "\n}\n");
	c = load_path(d, "a.conf", false, &errors);
	assert_lines(&errors, "");
	assert_non_null(c);
	assert_string_equal(c->settings.log_ident, "inner");
	assert_int_equal(c->n_syncs, 1);
	assert_int_equal(c->syncs[0].line, 1);
	assert_non_null(strstr(c->syncs[0].file, "/sub/d.conf"));
	config_free(c);
}

/* Each message names the file that the mistake is in, and the line there, also behind an include. */
static void test_include_places(void **state)
{
	const struct dir *d = *state;

	put(d, "b.conf", "settings = {\n\n  wrongA = 1;\n};\n");
	file_refused(d, "# first\n@include \"b.conf\"\nsync = ( { " RSYNC "\n  wrongB = 1; } );\n",
		     "$/b.conf:3: unknown key \"wrongA\" in a settings section\n"
		     "$/a.conf:4: unknown key \"wrongB\" in a sync section\n"
		     "$/a.conf:3: source /src: No such file or directory\n");
	file_refused(d, "\n@include \"none.conf\"\n", "$/a.conf:2: $/none.conf: No such file or directory\n");
	file_refused(d, "@include \"a.conf\"\n", "$/a.conf:1: @include: more than 10 files deep\n");
	file_refused(d, "@include \"\"\n", "$/a.conf:1: @include: no file name\n");
	file_refused(d, "@include \"b.conf\" x = 1;\n",
		     "$/a.conf:1: only a comment may stand behind @include \"...\"\n");
	put(d, "b.conf", "settings = {\n  x = ;\n};\n");
	file_refused(d, "\n@include \"b.conf\"\n", "$/b.conf:2: syntax error\n");
	/* In a string or a comment it is no directive. */
	file_refused(d, "/*\n@include \"none\"\n*/\n# @include \"none\"\nx = 1;\n",
		     "$/a.conf:5: unknown section \"x\"; there are settings, sync, receiver and metrics\n"
		     "$/a.conf: there is neither a sync nor a receiver section\n");
}

static void test_missing_file(void **state)
{
	const struct dir *d = *state;
	struct strlist errors = { 0 };
	char *expected = with_dir(d, "$/none.conf: No such file or directory\n");

	assert_null(load_path(d, "none.conf", true, &errors));
	assert_lines(&errors, expected);
	strlist_done(&errors);
	free(expected);
	expected = with_dir(d, "$/sub: is no regular file\n");
	put_dir(d, "sub");
	assert_null(load_path(d, "sub", true, &errors));
	assert_lines(&errors, expected);
	strlist_done(&errors);
	free(expected);
	file_refused(d, "# nothing\n", "$/a.conf: there is neither a sync nor a receiver section\n");
}

static void test_paths_checked(void **state)
{
	const struct dir *d = *state;

	put_dir(d, "src");
	put(d, "src/in", "");
	file_refused(
		d,
		"settings = {\n logfile = \"$/none/log\";\n pidfile = \"$/src/in/pid\";\n};\n"
		"sync = ( { transport = \"rsync\"; name = \"a\";\n source = \"$/nowhere\"; target = \"/dst/a\"; },\n"
		"{ transport = \"rsync\"; name = \"b\";\n source = \"$/src/in\"; target = \"/dst/b\"; },\n"
		"{ transport = \"rsync\"; name = \"c\"; source = \"$/src\"; target = \"/dst/c\";\n"
		" excludeFrom = \"$/none\";\n ssh = { identityFile = \"$/nokey\"; }; },\n"
		"{ transport = \"rsync\"; name = \"d\"; source = \"$/src\";\n target = \"$/src/../src/sub\"; } );\n",
		"$/a.conf:2: logfile: directory $/none: No such file or directory\n"
		"$/a.conf:3: pidfile: $/src/in is no directory\n"
		"$/a.conf:6: source $/nowhere: No such file or directory\n"
		"$/a.conf:8: source $/src/in is no directory\n"
		"$/a.conf:11: identityFile: $/nokey: No such file or directory\n"
		"$/a.conf:10: excludeFrom: $/none: No such file or directory\n"
		"$/a.conf:13: target $/src/sub lies inside its own source $/src\n");
}

/* A source is known by its real name; who says insist goes without it for now. */
static void test_source_real(void **state)
{
	const struct dir *d = *state;
	struct strlist errors = { 0 };
	char *src = at(d, "src"), *name = at(d, "link"), *text, *expected;
	struct config *c;

	put_dir(d, "src");
	assert_int_equal(symlink(src, name), 0);
	text = with_dir(d, "settings = { insist = true; };\n"
			   "sync = ( { transport = \"rsync\"; source = \"$/link/\"; target = \"/dst/a\"; },\n"
			   "{ transport = \"rsync\"; source = \"$/later\"; target = \"/dst/b\"; } );");
	expected = with_dir(d, "$/a.conf:3: source $/later: No such file or directory\n");
	put(d, "a.conf", text);
	c = load_path(d, "a.conf", true, &errors);
	assert_lines(&errors, "");
	assert_non_null(c);
	assert_string_equal(c->syncs[0].source, src);
	assert_lines(&c->warnings, expected);
	config_free(c);
	free(text);
	free(expected);
	file_refused(d, "sync = ( { transport = \"rsync\"; source = \"$/src\";\n target = \"$/link/x\"; } );",
		     "$/a.conf:2: target $/link/x lies inside its own source $/src\n");
	free(src);
	free(name);
}

/* All sources of rules, in their order. */
static void test_rule_files(void **state)
{
	static const char *const expected[] = { "+ first", "+ /from-file", "- gone" };
	const struct dir *d = *state;
	struct strlist errors = { 0 };
	char *text =
		with_dir(d, "sync = ( { " RSYNC " exclude = \"e1\"; excludeFrom = \"$/patterns\";\n"
			    "filter = \"+ first\"; filterFrom = \"$/rules\"; rsync = { extra = [ \"--exclude=x1\" ]; "
			    "}; } );");
	struct config *c;

	put(d, "rules", "# comment\n+ /from-file\n\n- gone\n");
	put(d, "patterns", "; comment\np1\n");
	put(d, "a.conf", text);
	free(text);
	c = load_path(d, "a.conf", false, &errors);
	assert_lines(&errors, "");
	assert_non_null(c);
	assert_int_equal(filter_count(c->syncs[0].filter), 6);
	for (size_t i = 0; i < 3; i++)
		assert_string_equal(filter_rule_text(c->syncs[0].filter, i), expected[i]);
	assert_non_null(strstr(filter_rule_text(c->syncs[0].filter, 3), "x1"));
	assert_non_null(strstr(filter_rule_text(c->syncs[0].filter, 4), "e1"));
	assert_non_null(strstr(filter_rule_text(c->syncs[0].filter, 5), "p1"));
	config_free(c);
	put(d, "rules", "+ ok\n%% bad\n");
	file_refused(d, "sync = ( { " RSYNC "\nfilterFrom = \"$/rules\"; } );\nsettings = { insist = true; };",
		     "$/a.conf:2: filterFrom \"$/rules\": line 2: filter rule \"%% bad\": not a kind of rule that "
		     "rsync knows\n");
}

/* ---- the command line ---- */

static int take(struct config_cli *cli, size_t argc, const char *const *argv, struct err *err)
{
	return config_cli_take(cli, (int)argc, (char *const *)argv, err);
}

/* Take a whole command line; everything must be known. */
static struct config_cli *cli_of(size_t argc, const char *const *argv)
{
	struct config_cli *cli = config_cli_new();
	struct err err = ERR_INIT;

	assert_non_null(cli);
	while (argc > 0) {
		int n = take(cli, argc, argv, &err);

		if (n <= 0)
			print_error("%s: %s\n", argv[0], err.text);
		assert_true(n > 0);
		argc -= (size_t)n;
		argv += n;
	}
	return cli;
}
#define CLI(...) cli_of(sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(char *), (const char *[]){ __VA_ARGS__ })

static void test_cli_wins(void **state)
{
	static const char text[] = "settings = { logident = \"file\"; maxDelays = 50; log = \"Exec\"; };\n" ONE(
		RSYNC "delay = 9; inotifyMode = \"CloseWrite\"; maxDelays = 7; delete = true;");
	struct config_cli *cli = CLI("-logident", "cli", "--delay=0.25", "-inotifyMode", "Modify", "-maxDelays", "20",
				     "-delete", "false", "-log", "Alarm", "-log", "all", "-insist=false");
	struct config *c = load_cli(text, cli);

	(void)state;
	assert_false(config_cli_has_syncs(cli));
	assert_string_equal(c->settings.log_ident, "cli");
	assert_false(c->settings.insist);
	assert_lines(&c->settings.log, "Alarm\nall\n");
	assert_int_equal(c->syncs[0].delay_ns, SECOND / 4);
	assert_int_equal(c->syncs[0].inotify_mode, INOTIFY_MODIFY);
	assert_int_equal(c->syncs[0].max_delays, 20);
	assert_int_equal(c->syncs[0].delete_mode, DELETE_NEVER);
	config_free(c);
	config_cli_free(cli);
}

/* A setting is a sync's default, or its cap; the sync's own value is nearer. */
static void test_settings_and_sync(void **state)
{
	struct config *c = load("settings = { inotifyMode = \"Modify\"; maxDelays = 50; };\n"
				"sync = ( { " RSYNC " },\n"
				"{ transport = \"rsync\"; source = \"/b\"; target = \"/c\"; maxDelays = 7;\n"
				"  inotifyMode = \"CloseWrite\"; } );");

	(void)state;
	assert_int_equal(c->syncs[0].inotify_mode, INOTIFY_MODIFY);
	assert_int_equal(c->syncs[0].max_delays, 50);
	assert_int_equal(c->syncs[1].inotify_mode, INOTIFY_CLOSE_WRITE);
	assert_int_equal(c->syncs[1].max_delays, 7);
	config_free(c);
}

static void test_cli_syncs(void **state)
{
	struct config_cli *cli = CLI("-rsyncssh", "/a", "u@h", "/t", "-sshopts", "-p 22 -o \"User=a b\"", "--rsync",
				     "/a", "h::m", "-direct", "/a", "/b", "-delay", "3");
	struct config_env env = { .transports = config_test_registry, .cli = cli };
	struct strlist errors = { 0 };
	struct config *c;

	(void)state;
	assert_true(config_cli_has_syncs(cli));
	c = config_load_file(NULL, &env, &errors);
	assert_lines(&errors, "");
	assert_non_null(c);
	assert_null(c->path);
	assert_int_equal(c->n_syncs, 3);
	assert_string_equal(c->syncs[0].transport, "rsyncssh");
	assert_string_equal(c->syncs[0].target, "u@h:/t");
	assert_lines(&c->syncs[0].ssh.extra, "-p\n22\n-o\nUser=a b\n");
	assert_string_equal(c->syncs[1].target, "h::m");
	assert_string_equal(c->syncs[2].name, "sync3");
	assert_int_equal(c->syncs[2].delay_ns, 3 * SECOND);
	config_free(c);
	config_cli_free(cli);
}

static void cli_refused(size_t argc, const char *const *argv, const char *expected)
{
	struct config_cli *cli = config_cli_new();
	struct err err = ERR_INIT;

	assert_non_null(cli);
	assert_int_equal(take(cli, argc, argv, &err), -1);
	assert_string_equal(err.text, expected);
	config_cli_free(cli);
}
#define CLI_REFUSED(expected, ...)                                                                                     \
	cli_refused(sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(char *), (const char *[]){ __VA_ARGS__ }, expected)

static void test_cli_errors(void **state)
{
	struct config_cli *cli = config_cli_new();
	struct config_env env = { .transports = config_test_registry, .cli = cli };
	struct strlist errors = { 0 };
	struct err err = ERR_INIT;

	(void)state;
	CLI_REFUSED("-delay needs a value", "-delay");
	CLI_REFUSED("delay: \"soon\" is not a number of seconds", "-delay", "soon");
	CLI_REFUSED("delay: -1 is not between 0 and 2678400 seconds", "-delay", "-1");
	CLI_REFUSED("insist: \"maybe\" is neither true nor false", "--insist=maybe");
	CLI_REFUSED("-rsyncssh needs SOURCE, HOST and TARGETDIR", "-rsyncssh", "/a", "h");
	CLI_REFUSED("sshopts: a quote is not closed", "-sshopts", "-o 'x");
	CLI_REFUSED("watcher: \"inotifi\" is none of auto, fanotify, inotify; did you mean \"inotify\"?", "-watcher",
		    "inotifi");
	assert_int_equal(take(cli, 1, (const char *[]){ "-nonsense" }, &err), 0);
	assert_int_equal(take(cli, 1, (const char *[]){ "x.conf" }, &err), 0);
	/* What may stand in the file only. */
	assert_int_equal(take(cli, 2, (const char *[]){ "-source", "/a" }, &err), 0);
	assert_null(config_load_file(NULL, &env, &errors));
	assert_lines(&errors, "command line: there is neither a sync nor a receiver section\n");
	strlist_done(&errors);
	config_cli_free(cli);
}

/* A daemon has changed to "/" when it reads its configuration again. */
static void test_relative_paths(void **state)
{
	static const char text[] =
		"settings = { logfile = \"run/x.log\"; };\n"
		"sync = ( { transport = \"rsync\"; source = \"src\"; target = \"out/t\";\n"
		"  excludeFrom = \"patterns\"; rsync = { extra = [ \"--exclude-from=patterns\" ]; }; } );";
	const struct dir *d = *state;
	char *before = getcwd(NULL, 0), *expected[3];
	struct config_cli *cli;
	struct config *c;

	put(d, "patterns", "p1\n");
	assert_non_null(before);
	assert_int_equal(chdir(d->path), 0);
	cli = CLI("-pidfile", "x.pid");
	assert_int_equal(chdir("/"), 0);
	c = load_cli(text, cli);
	assert_int_equal(chdir(before), 0);
	expected[0] = at(d, "run/x.log");
	expected[1] = at(d, "src");
	expected[2] = at(d, "out/t");
	assert_string_equal(c->settings.logfile, expected[0]);
	assert_string_equal(c->syncs[0].source, expected[1]);
	assert_string_equal(c->syncs[0].target, expected[2]);
	assert_int_equal(c->warnings.n, 2);
	assert_true(strncmp(c->settings.pidfile, d->path, strlen(d->path)) == 0);
	assert_int_equal(filter_count(c->syncs[0].filter), 2);
	for (size_t i = 0; i < 3; i++)
		free(expected[i]);
	free(before);
	config_free(c);
	config_cli_free(cli);
}

/* ---- the dump ---- */

static void assert_round_trip(const char *text)
{
	struct config *a = load(text), *b;
	struct buf one, two;

	buf_init(&one, 1u << 20);
	buf_init(&two, 1u << 20);
	assert_int_equal(config_dump(a, &one), 0);
	b = load(buf_str(&one));
	assert_true(config_settings_equal(&a->settings, &b->settings));
	assert_int_equal(a->n_syncs, b->n_syncs);
	for (size_t i = 0; i < a->n_syncs; i++)
		assert_true(config_sync_equal(&a->syncs[i], &b->syncs[i]));
	assert_int_equal(b->warnings.n, 0);
	assert_int_equal(config_dump(b, &two), 0);
	assert_string_equal(buf_str(&one), buf_str(&two));
	buf_done(&one);
	buf_done(&two);
	config_free(a);
	config_free(b);
}

static void test_round_trip(void **state)
{
	(void)state;
	assert_round_trip(ONE(RSYNC));
	assert_round_trip(ONE(RSYNCSSH "rsync = { compress = true; extra = [ \"--stats\", \"--filter=- **\" ]; };"));
	assert_round_trip(ONE(DIRECT "exclude = [ \"a \\\"b\\\\\", \"\\x01\\x7f\", \"t\\tu\\n\" ]; owner = false;"));
	assert_round_trip(ONE(RSYNC "delay = 0.123456789; largeFile = 99999999999L; maxDelete = 0;"));
	assert_round_trip(
		"settings = { logfacility = \"local7\"; log = [ \"all\" ]; insist = false; maxDelays = 9; };" ONE(
			RSYNC "delete = \"running\"; rsync = { cvs_exclude = true; }; filter = [ \"+ x\", \"!\", \"- "
			      "y\" ];"));
}

/* A worker gets its own sync and nothing else. */
static void test_dump_sync(void **state)
{
	struct config *a = load("settings = { logident = \"w\"; };\nsync = ( { " RSYNC " }, { " RSYNCSSH
				" name = \"two\"; exclude = \"x\"; } );");
	struct config *b;
	struct buf out;

	(void)state;
	buf_init(&out, 1u << 20);
	assert_int_equal(config_dump_sync(a, 1, 0, &out), 0);
	b = load(buf_str(&out));
	assert_int_equal(b->n_syncs, 1);
	assert_string_equal(b->settings.log_ident, "w");
	assert_true(config_sync_equal(&a->syncs[1], &b->syncs[0]));
	assert_false(config_sync_equal(&a->syncs[0], &b->syncs[0]));
	buf_done(&out);
	/* Too small a buffer is told. */
	buf_init(&out, 100);
	assert_int_equal(config_dump(a, &out), -1);
	buf_done(&out);
	config_free(a);
	config_free(b);
}

/* What a reload must notice, and what it must not. */
static void test_equality(void **state)
{
	static const char *const different[] = {
		ONE(RSYNC "delay = 2;"),
		ONE(RSYNC "name = \"x\";"),
		ONE(RSYNC "exclude = \"x\";"),
		ONE(RSYNC "ssh = { port = 1; };"),
		ONE(RSYNC "rsync = { acls = true; };"),
	};
	struct config *a = load(ONE(RSYNC)), *b = load("\n\n" ONE("\n" RSYNC "delay = 1.0;"));

	(void)state;
	assert_true(config_sync_equal(&a->syncs[0], &b->syncs[0]));
	config_free(b);
	for (size_t i = 0; i < sizeof(different) / sizeof(different[0]); i++) {
		b = load(different[i]);
		assert_false(config_sync_equal(&a->syncs[0], &b->syncs[0]));
		config_free(b);
	}
	b = load("settings = { insist = false; };" ONE(RSYNC));
	assert_false(config_settings_equal(&a->settings, &b->settings));
	config_free(b);
	config_free(a);
}

/* The instance decides on socket and state: two configurations on a host must not share them. */
static void test_instances(void **state)
{
	const struct dir *d = *state;
	struct strlist errors = { 0 };
	struct config *a, *b;

	put(d, "a.conf", ONE(RSYNC));
	put(d, "b.conf", ONE(RSYNC));
	a = load_path(d, "a.conf", false, &errors);
	b = load_path(d, "b.conf", false, &errors);
	assert_non_null(a);
	assert_non_null(b);
	assert_string_not_equal(a->settings.control_socket, b->settings.control_socket);
	assert_string_not_equal(a->settings.state_dir, b->settings.state_dir);
	assert_non_null(strstr(a->settings.control_socket, "fansyncd-a.sock"));
	config_free(a);
	config_free(b);
}

#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FILE_TEST(test_include),	  FILE_TEST(test_include_places),
		FILE_TEST(test_missing_file),	  FILE_TEST(test_paths_checked),
		FILE_TEST(test_source_real),	  FILE_TEST(test_rule_files),
		cmocka_unit_test(test_cli_wins),  cmocka_unit_test(test_settings_and_sync),
		cmocka_unit_test(test_cli_syncs), cmocka_unit_test(test_cli_errors),
		FILE_TEST(test_relative_paths),	  cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_dump_sync), cmocka_unit_test(test_equality),
		FILE_TEST(test_instances),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
