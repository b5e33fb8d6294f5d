/* LINK: config/check.c config/cli.c config/command.c config/dump.c config/help.c config/list.c config/paths.c
 * config/reader.c config/rules.c config/metrics.c config/receiver.c core/owner_map.c config/run.c config/source.c
 * config/suggest.c config/table.c config/targets.c config/tunnel.c core/tunnel_port.c config/value.c core/filter.c
 * core/filter_args.c core/backup_dir.c core/bandwidth.c core/schedule.c core/buf.c core/err.c core/path.c
 * tests/lib/config_load.c */
/* LIBS: -lconfig */
/* What docs/ says of the configuration is true: the examples are read, the manual pages hold what the table holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/private.h"
#include "tests/lib/config_load.h"

/* ---- the examples ---- */

/* A file of docs/examples: no error, no warning, and its dump says the same. */
static struct config *example(const char *name)
{
	struct config_env env = { .transports = config_test_registry };
	struct strlist errors = { 0 };
	struct config *c, *again;
	char path[128];
	struct buf dump;

	(void)snprintf(path, sizeof(path), "docs/examples/%s", name);
	c = config_load_file(path, &env, &errors);
	assert_lines(&errors, "");
	assert_non_null(c);
	assert_lines(&c->warnings, "");
	buf_init(&dump, 1u << 20);
	assert_int_equal(config_dump(c, &dump), 0);
	again = load(buf_str(&dump));
	assert_int_equal(again->n_syncs, c->n_syncs);
	for (size_t i = 0; i < c->n_syncs; i++)
		assert_true(config_sync_equal(&c->syncs[i], &again->syncs[i]));
	config_free(again);
	buf_done(&dump);
	return c;
}

static bool mirrors(const struct sync_options *s, const char *path, bool is_dir)
{
	return filter_includes(s->filter, path, strlen(path), is_dir);
}

static void test_minimal(void **state)
{
	struct config *c = example("minimal.conf");

	(void)state;
	assert_int_equal(c->n_syncs, 1);
	assert_string_equal(c->syncs[0].target, "/mnt/backup/web");
	config_free(c);
}

static void test_maxscale(void **state)
{
	struct config *c = example("maxscale.conf");

	(void)state;
	assert_string_equal(c->settings.logfile, "/var/log/maxscale/maxscale-ha.log");
	assert_int_equal(c->n_syncs, 2);
	for (size_t i = 0; i < c->n_syncs; i++) {
		const struct sync_options *s = &c->syncs[i];

		assert_string_equal(s->source, "/etc");
		assert_string_equal(s->targetdir, "/etc");
		assert_int_equal(s->ssh.port, 2222);
		assert_true(s->bidirectional && s->rsync.compress);
		assert_true(mirrors(s, "maxscale.cnf", false) && mirrors(s, "my-maxscale.cnf", false));
		assert_false(mirrors(s, "passwd", false) || mirrors(s, "conf.d", true) ||
			     mirrors(s, "conf.d/my-maxscale.cnf", false));
	}
	assert_string_not_equal(c->syncs[0].host, c->syncs[1].host);
	config_free(c);
}

/* The rules that the example gives in a comment, for the files of maxscale.cnf.d. */
static void test_maxscale_comment(void **state)
{
	struct config *c = load(ONE(RSYNCSSH "rsync = { extra = [ \"--filter=+ /maxscale.cnf\", "
					     "\"--filter=+ /maxscale.cnf.d/\", \"--filter=+ /maxscale.cnf.d/*.cnf\", "
					     "\"--filter=- *\" ]; };"));
	const struct sync_options *s = &c->syncs[0];

	(void)state;
	assert_true(mirrors(s, "maxscale.cnf", false) && mirrors(s, "maxscale.cnf.d/server1.cnf", false));
	assert_false(mirrors(s, "passwd", false) || mirrors(s, "maxscale.cnf.d/x", false) || mirrors(s, "ssh", true));
	config_free(c);
}

static void test_local(void **state)
{
	struct config *c = example("local.conf");

	(void)state;
	assert_int_equal(c->n_syncs, 2);
	assert_string_equal(c->syncs[0].require_marker, "index.html");
	assert_true(c->syncs[0].rsync.perms && c->syncs[0].rsync.hard_links);
	assert_false(mirrors(&c->syncs[0], "cache", true) || mirrors(&c->syncs[0], "a/b.tmp", false));
	assert_true(mirrors(&c->syncs[0], "a/cache", true));
	assert_int_equal(c->syncs[1].delete_mode, DELETE_RUNNING);
	assert_int_equal(c->syncs[1].max_delete, 500);
	assert_int_equal(c->syncs[1].reconcile_interval_ns, 86400 * SECOND);
	config_free(c);
}

static void test_sftp(void **state)
{
	struct config *c = example("sftp.conf");

	(void)state;
	assert_int_equal(c->n_syncs, 2);
	assert_int_equal(c->syncs[0].ssh.client, SSH_LIBSSH2);
	assert_int_equal(c->syncs[0].ssh.strict, SSH_STRICT);
	assert_int_equal(c->syncs[0].delay_ns, 0);
	assert_true(c->syncs[0].rsync.archive);
	assert_int_equal(c->syncs[1].ssh.client, SSH_OPENSSH);
	assert_non_null(c->syncs[1].ssh.sftp_server);
	config_free(c);
}

static void test_direct(void **state)
{
	struct config *c = example("direct.conf");

	(void)state;
	assert_int_equal(c->n_syncs, 2);
	assert_int_equal(c->syncs[0].delay_ns, 0);
	assert_true(c->syncs[0].rsync.archive && c->syncs[0].rsync.owner && c->syncs[0].rsync.xattrs);
	assert_int_equal(c->syncs[1].delete_mode, DELETE_NEVER);
	assert_string_equal(c->syncs[1].rsync.max_size, "50M");
	config_free(c);
}

static void test_tcp(void **state)
{
	struct config *c = example("tcp.conf");

	(void)state;
	assert_string_equal(c->syncs[0].tcp.module, "web");
	assert_int_equal(c->syncs[0].tcp.port, 8737);
	assert_true(c->syncs[0].rsync.archive && c->syncs[0].rsync.compress);
	config_free(c);
	c = example("receiver.conf");
	assert_int_equal(c->n_syncs, 0);
	assert_int_equal(c->receiver->listen.n, 2);
	assert_string_equal(c->receiver->modules[0].allow.v[0], "web");
	config_free(c);
	c = example("tcp-bothways.conf");
	assert_int_equal(c->n_syncs, 2);
	assert_true(c->syncs[1].bidirectional);
	assert_string_equal(c->receiver->modules[0].path, "/etc");
	config_free(c);
}

static void test_rsyncd(void **state)
{
	struct config *c = example("rsyncd.conf");
	const struct sync_options *s = &c->syncs[0];

	(void)state;
	assert_string_equal(s->target, "rsync://mirror@backup.example.net/web/site");
	assert_string_equal(s->rsync.password_file, "/etc/fansyncd/backup.password");
	assert_int_equal(s->retry_max_ns, 900 * SECOND);
	config_free(c);
}

static void test_rsyncssh(void **state)
{
	struct config *c = example("rsyncssh.conf");
	const struct sync_options *s = &c->syncs[0];

	(void)state;
	assert_int_equal(c->settings.max_processes, 4);
	assert_lines(&s->ssh.remote_prefix, "sudo\n-n\n");
	assert_lines(&s->ssh.options, "ServerAliveInterval=15\n");
	assert_true(mirrors(s, "conf/x.bak", false) && mirrors(s, "a", false));
	assert_false(mirrors(s, "x.bak", false) || mirrors(s, "a/.git", true));
	config_free(c);
}

/* ---- the manual pages ---- */

/* A whole page; freed by the caller. */
static char *page(const char *path)
{
	struct err err = ERR_INIT;
	char *text = NULL;
	size_t len;

	if (config_read_whole(path, CONFIG_FILE_MAX, &text, &len, &err) != 0)
		fail_msg("%s", err.text);
	return text;
}

static char *generated(void (*write)(FILE *out))
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	write(out);
	assert_int_equal(fclose(out), 0);
	return text;
}

/* Regenerated by `fansyncd --help-config-roff` when it differs. */
static void test_table_of_the_page(void **state)
{
	static const char begin[] = "\n.\\\" table:\n", end[] = "\n.\\\" end of the table\n";
	char *text = page("docs/man/fansyncd.conf.5"), *table = generated(config_help_roff);
	char *from = strstr(text, begin), *to;

	(void)state;
	assert_non_null(from);
	from += strlen(begin);
	to = strstr(from, end);
	assert_non_null(to);
	to[1] = '\0';
	assert_string_equal(from, table);
	free(text);
	free(table);
}

/* No line of the table is a roff request by accident, and nothing in it needs escaping. */
static void test_table_is_roff(void **state)
{
	char *table = generated(config_help_roff), *rest = table, *line;

	(void)state;
	while ((line = strsep(&rest, "\n")) != NULL) {
		bool request = line[0] == '.' || line[0] == '\'', macro = strncmp(line, ".BR ", 4) == 0;
		size_t quotes = 0;

		assert_true(!request || strncmp(line, ".SS \"", 5) == 0 || strcmp(line, ".TP") == 0 || macro);
		/* A macro's argument is quoted once. */
		for (const char *p = line; macro && *p != '\0'; p++) {
			quotes += *p == '"';
			assert_true(*p != '\\');
		}
		assert_true(!macro || quotes == 2);
	}
	free(table);
}

/* Each option of the command line has its place in the page and in --help. */
static void test_options(void **state)
{
	size_t n;
	const struct config_key *table = config_table(&n);
	char *text = page("docs/man/fansyncd.8"), *help = generated(config_help_cli), word[80];

	(void)state;
	for (size_t i = 0; i < n; i++) {
		if ((table[i].flags & KEY_CLI) == 0)
			continue;
		(void)snprintf(word, sizeof(word), " \\-%s", table[i].name);
		if (strstr(text, word) == NULL)
			fail_msg("fansyncd.8 does not have -%s", table[i].name);
		(void)snprintf(word, sizeof(word), "  -%s", table[i].name);
		if (strstr(help, word) == NULL)
			fail_msg("--help does not have -%s", table[i].name);
	}
	free(text);
	free(help);
}

/* --help-config names every key, and no line is too wide for a terminal with room to spare. */
static void test_help(void **state)
{
	size_t n;
	const struct config_key *table = config_table(&n);
	char *help = generated(config_help), *rest = help, *line, word[80];

	(void)state;
	for (size_t i = 0; i < n; i++) {
		(void)snprintf(word, sizeof(word), "\n  %s ", table[i].name);
		if (strstr(help, word) == NULL)
			fail_msg("--help-config does not have %s", table[i].name);
		assert_non_null(table[i].help);
	}
	while ((line = strsep(&rest, "\n")) != NULL)
		if (strncmp(line, "          ", 10) == 0)
			assert_true(strlen(line) <= 110);
	free(help);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_minimal),
		cmocka_unit_test(test_maxscale),
		cmocka_unit_test(test_maxscale_comment),
		cmocka_unit_test(test_local),
		cmocka_unit_test(test_direct),
		cmocka_unit_test(test_tcp),
		cmocka_unit_test(test_sftp),
		cmocka_unit_test(test_rsyncd),
		cmocka_unit_test(test_rsyncssh),
		cmocka_unit_test(test_table_of_the_page),
		cmocka_unit_test(test_table_is_roff),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_help),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
