/* LINK: transports/rsync_args.c config/check.c config/cli.c config/command.c config/dump.c config/help.c config/list.c
 * config/paths.c config/reader.c config/rules.c config/metrics.c config/receiver.c core/owner_map.c config/run.c
 * config/source.c config/suggest.c config/table.c config/targets.c config/tunnel.c core/tunnel_port.c config/value.c
 * core/filter.c core/filter_args.c core/backup_dir.c core/bandwidth.c core/schedule.c core/keep.c core/buf.c core/err.c
 * core/path.c tests/lib/config_load.c */
/* LIBS: -lconfig */
/* Each key of rsync = { }, from the text of a configuration to rsync's command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/config.h"
#include "tests/lib/config_load.h"
#include "transports/rsync_args.h"

/* The command line of a run, its words joined by '|'. */
static char *line_of(const char *keys, const struct rsync_job *job)
{
	struct arglist args;
	struct config *c;
	struct buf line;
	char text[512], *copy;

	(void)snprintf(text, sizeof(text),
		       "sync = ( { transport = \"rsync\"; source = \"/src\"; target = \"/dst\"; rsync = { %s }; } );",
		       keys);
	c = load(text);
	assert_true(rsync_args_build(&args, job, &c->syncs[0]));
	buf_init(&line, 65536);
	for (size_t i = 0; i < args.n; i++)
		(void)buf_printf(&line, "%s|", args.v[i]);
	copy = strdup(buf_str(&line));
	assert_non_null(copy);
	buf_done(&line);
	arglist_done(&args);
	config_free(c);
	return copy;
}

static const struct rsync_job plain = { .dest = "/dst/", .max_delete = -1 };
static const struct rsync_job compare = { .dest = "/dst/", .recurse = true, .del = true, .max_delete = -1 };
static const struct rsync_job shell = {
	.kind = RSYNC_SHELL, .dest = "h:/dst/", .rsh = "ssh", .rsync_path = "there", .max_delete = -1
};

static void expect_head(const char *keys, const char *head)
{
	char *line = line_of(keys, &plain), *end = strstr(line, "|--no-recursive|");

	assert_non_null(end);
	end[1] = '\0';
	assert_string_equal(line, head);
	free(line);
}

/* What is not lsyncd's own order is rsync's business; the letters stand in ours. */
static void flags(void **state)
{
	static const struct {
		const char *key, *head;
	} rows[] = {
		{ "", "rsync|-lt|" },
		{ "links = false;", "rsync|-t|" },
		{ "times = false;", "rsync|-l|" },
		{ "perms = true;", "rsync|-ltp|" },
		{ "owner = true;", "rsync|-lto|" },
		{ "group = true;", "rsync|-ltg|" },
		{ "acls = true;", "rsync|-ltA|" },
		{ "xattrs = true;", "rsync|-ltX|" },
		{ "hard_links = true;", "rsync|-ltH|" },
		{ "sparse = true;", "rsync|-ltS|" },
		{ "checksum = true;", "rsync|-ltc|" },
		{ "update = true;", "rsync|-ltu|" },
		{ "compress = true;", "rsync|-ltz|" },
		{ "backup = true;", "rsync|-ltb|" },
		{ "copy_dirlinks = true;", "rsync|-ltk|" },
		{ "copy_links = true;", "rsync|-ltL|" },
		{ "executability = true;", "rsync|-ltE|" },
		{ "ignore_times = true;", "rsync|-ltI|" },
		{ "ipv4 = true;", "rsync|-lt4|" },
		{ "ipv6 = true;", "rsync|-lt6|" },
		{ "keep_dirlinks = true;", "rsync|-ltK|" },
		{ "omit_dir_times = true;", "rsync|-ltO|" },
		{ "omit_link_times = true;", "rsync|-ltJ|" },
		{ "one_file_system = true;", "rsync|-ltx|" },
		{ "prune_empty_dirs = true;", "rsync|-ltm|" },
		{ "verbose = true;", "rsync|-ltv|" },
		{ "whole_file = true;", "rsync|-ltW|" },
		{ "fuzzy = true;", "rsync|-lty|" },
		{ "dry_run = true;", "rsync|-ltn|" },
		{ "links = false; times = false; archive = false;", "rsync|" },
		{ "devices = true;", "rsync|-lt|--devices|" },
		{ "specials = true;", "rsync|-lt|--specials|" },
		{ "append = true;", "rsync|-lt|--append|" },
		{ "append_verify = true;", "rsync|-lt|--append-verify|" },
		{ "copy_unsafe_links = true;", "rsync|-lt|--copy-unsafe-links|" },
		{ "existing = true;", "rsync|-lt|--existing|" },
		{ "inplace = true;", "rsync|-lt|--inplace|" },
		{ "numeric_ids = true;", "rsync|-lt|--numeric-ids|" },
		{ "mkpath = true;", "rsync|-lt|--mkpath|" },
		/* These say nothing to rsync; a warning says why. */
		{ "quiet = true;", "rsync|-lt|" },
		{ "protect_args = false;", "rsync|-lt|" },
		{ "recursive = true;", "rsync|-lt|" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		expect_head(rows[i].key, rows[i].head);
}

static void values(void **state)
{
	static const struct {
		const char *key, *head;
	} rows[] = {
		{ "binary = \"/opt/bin/rsync\";", "/opt/bin/rsync|-lt|" },
		{ "backup_dir = \"old ones\";", "rsync|-lt|--backup-dir=old ones|" },
		{ "chmod = \"D755,F644\";", "rsync|-lt|--chmod=D755,F644|" },
		{ "chown = \"a:b\";", "rsync|-lt|--chown=a:b|" },
		{ "groupmap = \"*:x\";", "rsync|-lt|--groupmap=*:x|" },
		{ "usermap = \"1-9:x\";", "rsync|-lt|--usermap=1-9:x|" },
		{ "suffix = \".old\";", "rsync|-lt|--suffix=.old|" },
		{ "temp_dir = \"/t\";", "rsync|-lt|--temp-dir=/t|" },
		{ "max_size = \"1G\";", "rsync|-lt|--max-size=1G|" },
		{ "min_size = \"1\";", "rsync|-lt|--min-size=1|" },
		{ "partial_dir = \".p\";", "rsync|-lt|--partial-dir=.p|" },
		{ "password_file = \"/p\";", "rsync|-lt|--password-file=/p|" },
		{ "bwlimit = 500;", "rsync|-lt|--bwlimit=500|" },
		{ "timeout = 9;", "rsync|-lt|--timeout=9|" },
		{ "extra = [ \"--no-W\", \"-i\", \"--quiet\" ];", "rsync|-lt|--no-W|-i|" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		expect_head(rows[i].key, rows[i].head);
}

/* It stands for what is not given, wherever that stands. */
static void archive(void **state)
{
	(void)state;
	expect_head("archive = true;", "rsync|-ltpog|--devices|--specials|");
	expect_head("archive = true; links = false; owner = false; devices = false;", "rsync|-tpg|--specials|");
	expect_head("perms = false; specials = false; archive = true;", "rsync|-ltog|--devices|");
	expect_head("archive = false; perms = true;", "rsync|-ltp|");
}

static void expect_part(const char *keys, const struct rsync_job *job, const char *part, bool there)
{
	char *line = line_of(keys, job);

	if ((strstr(line, part) != NULL) != there)
		fail_msg("%s: %s in %s", keys, part, line);
	free(line);
}

/* Keys that mean something to one kind of run, or of target, only. */
static void kinds(void **state)
{
	(void)state;
	expect_part("", &compare, "|--delete|", true);
	expect_part("delete_excluded = true;", &compare, "|--delete-excluded|", true);
	expect_part("delete_excluded = true;", &plain, "delete", false);
	expect_part("cvs_exclude = true;", &compare, "|--filter=-p *.o|", true);
	expect_part("cvs_exclude = true;", &plain, "*.o", false);
	expect_part("extra = [ \"--exclude=*.tmp\" ];", &compare, "|--filter=- *.tmp|", true);
	expect_part("extra = [ \"--exclude=*.tmp\" ];", &plain, "*.tmp", false);
	expect_part("protect_args = false;", &shell, "|-s|--rsh=ssh|--rsync-path=there|", true);
	expect_part("", &plain, "|-s|", false);
	/* Names are never options. */
	expect_part("", &plain, "|--from0|--files-from=-|--|.|/dst/|", true);
	expect_part("", &shell, "|--from0|--files-from=-|--|.|h:/dst/|", true);
}

/* rrsync has to see the directory: it is a word for the remote shell then, by us where rsync does not escape it. */
static void bare_arguments(void **state)
{
	static const struct {
		const char *dest;
		bool bare, escape;
		const char *wanted; /* what the line ends with */
	} cases[] = {
		{ "u@h:/it's a $dir/", false, true, "|--|.|u@h:/it's a $dir/|" },
		{ "u@h:/it's a $dir/", true, false, "|--|.|u@h:/it's a $dir/|" },
		{ "u@h:/it's a $dir/", true, true, "|--|.|u@h:/it\\'s\\ a\\ \\$dir/|" },
		{ "u@[fe80::1]:./a:b(c)/", true, true, "|--|.|u@[fe80::1]:./a:b\\(c\\)/|" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rsync_job job = shell;
		char *line, *end;

		job.dest = cases[i].dest;
		job.bare = cases[i].bare;
		job.escape = cases[i].escape;
		line = line_of("", &job);
		assert_int_equal(strstr(line, "|-s|") == NULL, cases[i].bare);
		end = strstr(line, "|--|.|");
		assert_non_null(end);
		assert_string_equal(end, cases[i].wanted);
		free(line);
	}
}

/* What is not to be deleted stands before all other rules, whatever is in its name. */
static void keeps(void **state)
{
	struct keep_list keep = { 0 };
	struct rsync_job job = compare, apply = plain, no_delete = compare;

	(void)state;
	assert_true(keep_add(&keep, "d/a b", 5, "why"));
	assert_true(keep_add(&keep, "e\\*", 3, NULL));
	assert_true(keep_add(&keep, "f\\", 2, NULL));
	job.keep = apply.keep = no_delete.keep = &keep;
	no_delete.del = false;
	expect_part("extra = [ \"--filter=R *\" ];", &job,
		    "|--filter=P /d/a b|--filter=P /d/a b/***|--filter=P /e\\\\\\*|--filter=P /e\\\\\\*/***|"
		    "--filter=P /f\\|--filter=P /f\\\\/***|--filter=- *.fansyncd~tmp|--filter=",
		    true);
	expect_part("", &apply, "--filter=P", false);
	expect_part("", &no_delete, "--filter=P", false);
	keep_done(&keep);
}

static void lists(void **state)
{
	struct config *c = load("sync = ( { transport = \"rsync\"; source = \"/src\"; target = \"/dst\"; } );");
	struct arglist args;

	(void)state;
	assert_true(rsync_args_list(&args, &shell, &c->syncs[0], "a*/b"));
	assert_string_equal(args.v[args.n - 1], "h:/dst/a\\*/b");
	assert_string_equal(args.v[args.n - 2], "--");
	arglist_done(&args);
	config_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bare_arguments), cmocka_unit_test(flags), cmocka_unit_test(values),
		cmocka_unit_test(archive),	  cmocka_unit_test(kinds), cmocka_unit_test(keeps),
		cmocka_unit_test(lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
