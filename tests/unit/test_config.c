/* LINK: config/check.c config/cli.c config/command.c config/dump.c config/help.c config/list.c config/paths.c
 * config/reader.c config/rules.c config/metrics.c config/receiver.c core/owner_map.c config/run.c config/source.c
 * config/suggest.c config/table.c config/targets.c config/tunnel.c core/tunnel_port.c config/value.c core/filter.c
 * core/filter_args.c core/backup_dir.c core/bandwidth.c core/schedule.c core/buf.c core/err.c core/path.c
 * tests/lib/config_load.c */
/* LIBS: -lconfig */
/* The reader of the configuration: values, defaults, what is refused and where, what is ignored. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include <cmocka.h>

#include "config/config.h"
#include "tests/lib/config_load.h"

/* ---- what lsyncd's users write ---- */

static void test_maxscale(void **state)
{
	static const char text[] = "settings = {\n"
				   "  logfile    = \"/var/log/maxscale/maxscale-ha.log\";\n"
				   "  statusFile = \"/var/log/maxscale/maxscale-ha-status.log\";\n"
				   "};\n"
				   "\n"
				   "sync = (\n"
				   "  {\n"
				   "    transport     = \"rsyncssh\";\n"
				   "    source        = \"/etc\";\n"
				   "    host          = \"user@192.168.122.100\";\n"
				   "    targetdir     = \"/etc\";\n"
				   "    bidirectional = true;\n"
				   "    ssh           = { port = 2222; };\n"
				   "    rsync         = {\n"
				   "      compress = true;\n"
				   "      extra    = [ \"--filter=+ *maxscale.cnf\", \"--filter=- **\" ];\n"
				   "    };\n"
				   "  }\n"
				   ");\n";
	struct config *c = load(text);
	const struct sync_options *s = &c->syncs[0];

	(void)state;
	assert_int_equal(c->n_syncs, 1);
	assert_int_equal(c->warnings.n, 0);
	assert_string_equal(c->settings.logfile, "/var/log/maxscale/maxscale-ha.log");
	assert_string_equal(c->settings.status_file, "/var/log/maxscale/maxscale-ha-status.log");
	assert_string_equal(s->transport, "rsyncssh");
	assert_string_equal(s->source, "/etc");
	assert_string_equal(s->host, "user@192.168.122.100");
	assert_string_equal(s->targetdir, "/etc");
	assert_string_equal(s->target, "user@192.168.122.100:/etc");
	assert_true(s->bidirectional);
	assert_int_equal(s->ssh.port, 2222);
	assert_true(s->rsync.compress);
	assert_int_equal(s->line, 7);
	assert_string_equal(s->file, "t.conf");
	/* The filter options have become rules. */
	assert_int_equal(s->rsync.extra.n, 0);
	assert_int_equal(filter_count(s->filter), 2);
	assert_true(filter_includes(s->filter, "maxscale.cnf", 12, false));
	assert_true(filter_includes(s->filter, "my-maxscale.cnf", 15, false));
	assert_false(filter_includes(s->filter, "passwd", 6, false));
	assert_false(filter_includes(s->filter, "conf.d", 6, true));
	config_free(c);
}

static void test_setting_defaults(void **state)
{
	struct config *c = load(ONE(RSYNC));
	const struct settings *set = &c->settings;

	(void)state;
	assert_null(set->logfile);
	assert_null(set->pidfile);
	assert_null(set->status_file);
	assert_false(set->nodaemon);
	assert_false(set->onepass);
	assert_true(set->insist);
	assert_int_equal(set->status_interval_ns, 10 * SECOND);
	assert_int_equal(set->log_facility, LOG_USER);
	assert_string_equal(set->log_ident, "fansyncd");
	assert_int_equal(set->max_processes, 0);
	assert_int_equal(set->max_delays, 0);
	assert_int_equal(set->fanotify_queue, 0);
	assert_int_equal(set->stop_timeout_ns, 10 * SECOND);
	assert_int_equal(set->inotify_mode, INOTIFY_CLOSE_WRITE);
	assert_non_null(set->control_socket);
	assert_non_null(set->state_dir);
	config_free(c);
}

static void test_sync_defaults(void **state)
{
	struct config *c = load(ONE(RSYNC));
	const struct sync_options *s = &c->syncs[0];

	(void)state;
	assert_string_equal(s->name, "sync1");
	assert_int_equal(s->delay_ns, SECOND);
	assert_int_equal(s->max_delays, 1000);
	assert_int_equal(s->max_pending, 200000);
	assert_int_equal(s->delete_mode, DELETE_ALWAYS);
	assert_true(s->init);
	assert_int_equal(s->watcher, WATCHER_AUTO);
	assert_int_equal(s->inotify_mode, INOTIFY_CLOSE_WRITE);
	assert_int_equal(s->max_delete, -1);
	assert_int_equal(s->large_file, 64 << 20);
	assert_int_equal(s->retry_min_ns, SECOND);
	assert_int_equal(s->retry_max_ns, 300 * SECOND);
	assert_int_equal(s->progress_timeout_ns, 900 * SECOND);
	assert_int_equal(s->open_file_interval_ns, 0);
	assert_int_equal(s->reconcile_interval_ns, 0);
	assert_false(s->bidirectional);
	assert_false(s->allow_empty_source);
	assert_non_null(s->filter);
	assert_int_equal(filter_count(s->filter), 0);
	assert_string_equal(s->rsync.binary, "rsync");
	assert_string_equal(s->ssh.binary, "ssh");
	assert_int_equal(s->ssh.port, 0);
	/* lsyncd's: links and times, and no shell at the target's path. */
	assert_true(s->rsync.links && s->rsync.times && s->rsync.protect_args);
	assert_false(s->rsync.archive || s->rsync.perms || s->rsync.owner || s->rsync.group || s->rsync.devices ||
		     s->rsync.specials || s->rsync.compress || s->rsync.checksum);
	config_free(c);
}

static void test_native_defaults(void **state)
{
	struct config *c = load(ONE(DIRECT));
	const struct sync_options *s = &c->syncs[0];

	(void)state;
	assert_int_equal(s->delay_ns, 0);
	assert_true(s->rsync.archive && s->rsync.perms && s->rsync.owner && s->rsync.group && s->rsync.devices &&
		    s->rsync.specials && s->rsync.links && s->rsync.times);
	config_free(c);
}

/* archive sets what is not given, wherever it stands. */
static void test_archive(void **state)
{
	struct config *c = load(ONE(RSYNC "rsync = { owner = false; archive = true; };"));

	(void)state;
	assert_true(c->syncs[0].rsync.perms);
	assert_false(c->syncs[0].rsync.owner);
	config_free(c);
	c = load(ONE(DIRECT "archive = false; group = true;"));
	assert_false(c->syncs[0].rsync.perms);
	assert_true(c->syncs[0].rsync.group);
	config_free(c);
}

/* What each type takes. */
static void test_values(void **state)
{
	struct config *c =
		load("settings = { logfacility = \"LOCAL3\"; log = [ \"Exec\", \"all\" ]; insist = false;\n"
		     "  inotifyMode = \"Modify\"; logfile = \"/var//log/./x.log\"; stopTimeout = 0.25; };\n"
		     "sync = { " RSYNC " delay = 0.5; delete = \"startup\"; maxDelete = 7; largeFile = "
		     "8589934592;\n"
		     "  exclude = \"*.tmp\"; rsync = { extra = [ \"--stats\" ]; binary = \"/opt//rsync\"; };\n"
		     "  ssh = { options = { Compression = true; Ciphers = \"x,y\"; ConnectTimeout = 5; }; \n"
		     "    identityFile = \"~/.ssh/id\"; remotePrefix = [ \"sudo\", \"-n\" ]; }; };\n");
	const struct sync_options *s = &c->syncs[0];

	(void)state;
	assert_int_equal(c->settings.log_facility, LOG_LOCAL3);
	assert_int_equal(c->settings.log.n, 2);
	assert_false(c->settings.insist);
	assert_string_equal(c->settings.logfile, "/var/log/x.log");
	assert_int_equal(c->settings.stop_timeout_ns, SECOND / 4);
	assert_int_equal(s->inotify_mode, INOTIFY_MODIFY);
	assert_int_equal(s->delay_ns, SECOND / 2);
	assert_int_equal(s->delete_mode, DELETE_STARTUP);
	assert_int_equal(s->max_delete, 7);
	assert_true(s->large_file == INT64_C(8589934592));
	assert_int_equal(s->exclude.n, 1);
	assert_int_equal(s->rsync.extra.n, 1);
	assert_string_equal(s->rsync.extra.v[0], "--stats");
	assert_string_equal(s->rsync.binary, "/opt/rsync");
	assert_lines(&s->ssh.options, "Compression=yes\nCiphers=x,y\nConnectTimeout=5\n");
	assert_string_equal(s->ssh.identity_file, "~/.ssh/id");
	assert_lines(&s->ssh.remote_prefix, "sudo\n-n\n");
	config_free(c);
	c = load(ONE(RSYNC "delete = false; maxDelete = \"auto\";") "settings = { logfacility = 24; };");
	assert_int_equal(c->settings.log_facility, LOG_DAEMON);
	assert_int_equal(c->syncs[0].delete_mode, DELETE_NEVER);
	assert_int_equal(c->syncs[0].max_delete, -1);
	config_free(c);
}

/* ---- what is refused ---- */

static void test_syntax(void **state)
{
	(void)state;
	refused("sync = (\n  {\n    name = ;\n  }\n);\n", "t.conf:3: syntax error\n");
	refused("sync = (\n{ name = \"x\" name = \"y\"; } );", "t.conf:2: duplicate setting name\n");
	refused("a = \"b\\x00c\";", "t.conf:1: a string must not contain \\x00\n");
	refused("\n\na = 99999999999999999999;", "t.conf:3: the number 99999999999999999999 is too large\n");
	refused("a = 1;\nb = \"x;\n\nc = 1;\n", "t.conf:2: a string is not closed\n");
	refused("\n/* a = 1;\n" ONE(RSYNC), "t.conf:2: a comment is not closed\n");
	refused("@include \"x\"\n", "t.conf:1: @include works in a file only\n");
}

static void test_nul_byte(void **state)
{
	static const char text[] = ONE(RSYNC) "\0" ONE(RSYNC);
	struct config_env env = { .transports = config_test_registry };
	struct strlist errors = { 0 };

	(void)state;
	assert_null(config_load_text(text, sizeof(text) - 1, "t.conf", &env, &errors));
	assert_lines(&errors, "t.conf:2: a NUL byte in the text\n");
	strlist_done(&errors);
}

static void test_sections(void **state)
{
	(void)state;
	refused("", "t.conf: there is neither a sync nor a receiver section\n");
	refused("settings = { };\n", "t.conf: there is neither a sync nor a receiver section\n");
	refused("sync = ( );\n", "t.conf: there is neither a sync nor a receiver section\n");
	refused("setings = { };\n" ONE(RSYNC), "t.conf:1: unknown section \"setings\"; did you mean \"settings\"?\n");
	refused(ONE(RSYNC) "\nfoo = 1;\n",
		"t.conf:3: unknown section \"foo\"; there are settings, sync, receiver and metrics\n");
	refused("settings = 1;\n" ONE(RSYNC), "t.conf:1: settings: expected a group, settings = { ... };\n");
	refused("\nsync = 1;\n", "t.conf:2: sync: expected a list of groups, sync = ( { ... }, { ... } );\n");
	refused("sync = ( 1,\n2 );\n", "t.conf:1: sync: expected groups, sync = ( { ... }, { ... } );\n"
				       "t.conf:2: sync: expected groups, sync = ( { ... }, { ... } );\n");
	refused(ONE(RSYNC "\nrsync = 1;"), "t.conf:2: rsync: expected a group, rsync = { ... }\n");
}

static void test_unknown_keys(void **state)
{
	(void)state;
	refused("settings = {\n  logFlie = \"/x\"; };\n" ONE(RSYNC),
		"t.conf:2: unknown key \"logFlie\" in a settings section; did you mean \"logfile\"?\n");
	refused(ONE(RSYNC "\nexlude = \"x\";"),
		"t.conf:2: unknown key \"exlude\" in a sync section; did you mean \"exclude\"?\n");
	refused(ONE(RSYNC "\nstatus_file = \"x\";"), "t.conf:2: unknown key \"status_file\" in a sync section\n");
	refused(ONE(RSYNC "\nrsync = { hardlinks = true; };"),
		"t.conf:2: unknown key \"hardlinks\" in a rsync section; did you mean \"hard_links\"?\n");
	refused(ONE(RSYNC "\nssh = {\nidentity_file = \"x\"; };"),
		"t.conf:3: unknown key \"identity_file\" in a ssh section; did you mean \"identityFile\"?\n");
	refused(ONE(RSYNC "\ntunel = { };"),
		"t.conf:2: unknown key \"tunel\" in a sync section; did you mean \"tunnel\"?\n");
	refused(ONE(RSYNC "\nRsync = { };"),
		"t.conf:2: unknown key \"Rsync\" in a sync section; did you mean \"rsync\"?\n");
	refused(ONE(RSYNC "\nqqqq = 1;"), "t.conf:2: unknown key \"qqqq\" in a sync section\n");
	/* Where it belongs, if another section has it. */
	refused(ONE(RSYNC "\ncompress = true;"),
		"t.conf:2: unknown key \"compress\" in a sync section; it belongs into rsync = { }\n");
	refused(ONE(RSYNC "\nlogfile = \"/x\";"),
		"t.conf:2: unknown key \"logfile\" in a sync section; it belongs into settings = { }\n");
	refused("settings = {\ndelay = 1; };" ONE(RSYNC),
		"t.conf:2: unknown key \"delay\" in a settings section; it belongs into sync = { }\n");
	/* About the program: not in a native sync. */
	refused(ONE(DIRECT "\nrsh = \"x\";"),
		"t.conf:2: unknown key \"rsh\" in a sync section; it belongs into rsync = { }\n");
}

static void test_wrong_types(void **state)
{
	(void)state;
	refused("settings = {\ninsist = 1;\nlogfile = true;\nmaxProcesses = \"2\";\nstatusInterval = \"x\";\n"
		"log = 3;\nlogfacility = 1.5;\n};\n" ONE("transport = \"rsync\"; target = \"/dst\";\n"
							 "delete = 1;\nexclude = { a = 1; };\n"
							 "source = [ \"x\" ];\nmaxDelete = true;"),
		"t.conf:2: insist: expected true or false, not an integer\n"
		"t.conf:3: logfile: expected a string, not a boolean\n"
		"t.conf:4: maxProcesses: expected an integer, not a string\n"
		"t.conf:5: statusInterval: expected a number of seconds, not a string\n"
		"t.conf:6: log: expected a string or a list of strings, not an integer\n"
		"t.conf:7: logfacility: expected a string or an integer, not a floating-point number\n"
		"t.conf:10: delete: expected a boolean or a string, not an integer\n"
		"t.conf:11: exclude: expected a string or a list of strings, not a group\n"
		"t.conf:12: source: expected a string, not a list\n"
		"t.conf:13: maxDelete: expected an integer or \"auto\", not a boolean\n");
	refused(ONE(RSYNC "\nexclude = ( \"a\", 1 );"), "t.conf:2: exclude: expected a list of strings\n");
	refused(ONE(RSYNC "\ninit = \"function\";"),
		"t.conf:2: init: expected true or false, not a string; lsyncd's functions are not run\n");
}

static void test_bad_values(void **state)
{
	(void)state;
	refused("settings = { maxProcesses = -1; };" ONE(RSYNC),
		"t.conf:1: maxProcesses: -1 is not between 0 and 65535\n");
	refused("settings = { stopTimeout = 1e30; };" ONE(RSYNC),
		"t.conf:1: stopTimeout: 1e+30 is not between 0 and 2678400 seconds\n");
	refused("settings = { logfacility = \"locl3\"; };" ONE(RSYNC),
		"t.conf:1: logfacility: \"locl3\" is none of user, daemon, auth, authpriv, cron, ftp, kern, lpr, mail, "
		"news, syslog, uucp, local0, local1, local2, local3, local4, local5, local6, local7; did you mean "
		"\"local3\"?\n");
	refused("settings = { logfacility = 7; };" ONE(RSYNC),
		"t.conf:1: logfacility: 7 is no number of <syslog.h>; better use its name\n");
	refused("settings = { log = \"exec\"; };" ONE(RSYNC),
		"t.conf:1: log: \"exec\" is neither all nor scarce nor a category, which begins with a capital\n");
	refused(ONE(RSYNC "\ndelay = -0.5;"), "t.conf:2: delay: -0.5 is not between 0 and 2678400 seconds\n");
	refused(ONE(RSYNC "\nmaxDelays = 0;"), "t.conf:2: maxDelays: 0 is not between 1 and 1000000000\n");
	refused(ONE(RSYNC "\ndelete = \"runing\";"),
		"t.conf:2: delete: \"runing\" is none of true, false, startup, running; did you mean \"running\"?\n");
	refused(ONE(RSYNC "\nwatcher = \"kqueue\";"),
		"t.conf:2: watcher: \"kqueue\" is none of auto, fanotify, inotify\n");
	refused(ONE(RSYNC "\nname = \"\";"), "t.conf:2: name: must not be empty\n");
	refused(ONE(RSYNC "\nname = \"a b\";"), "t.conf:2: name: only printable ASCII without blanks and slashes\n");
	refused(ONE(RSYNC "\nname = \"-x\";"), "t.conf:2: name: must not begin with a dot or a dash\n");
	refused(ONE(RSYNC "\nrequireMarker = \"../x\";"),
		"t.conf:2: requireMarker: must be a path below the tree, without \"..\"\n");
	refused(ONE(RSYNC "\nretryMin = 10;\nretryMax = 5;"), "t.conf:2: retryMin: larger than retryMax\n");
	refused(ONE(RSYNC "\nexcludeFrom = \"~/x\";"),
		"t.conf:2: excludeFrom: \"~\" is not expanded here, write the whole path\n");
	refused(ONE(RSYNC "\nssh = { port = 65536; };"), "t.conf:2: port: 65536 is not between 0 and 65535\n");
	refused(ONE(RSYNC "\nssh = { remotePrefix = \"sudo -n\"; };"),
		"t.conf:2: remotePrefix: write several words as a list, [ \"one\", \"two\" ]\n");
}

static void test_transport_errors(void **state)
{
	(void)state;
	refused("\n" ONE("source = \"/a\"; target = \"/b\";"),
		"t.conf:2: transport is missing; it is one of rsync, rsyncssh, direct, sftp, tcp\n");
	refused(ONE("source = \"/a\"; target = \"/b\";\ntransport = \"rsynssh\";"),
		"t.conf:2: unknown transport \"rsynssh\"; did you mean \"rsyncssh\"?; there are rsync, rsyncssh, "
		"direct, sftp, tcp\n");
	refused(ONE("transport = \"rsync\";"), "t.conf:1: source is missing\nt.conf:1: target is missing\n");
	refused(ONE("transport = \"rsyncssh\"; source = \"/a\";\ntarget = \"/b\";"),
		"t.conf:1: host is missing\nt.conf:1: targetdir is missing\n"
		"t.conf:2: target: this transport takes host and targetdir instead\n");
	refused(ONE(RSYNC "\nhost = \"h\";\ntargetdir = \"/x\";"),
		"t.conf:2: host: this transport takes target instead\n"
		"t.conf:3: targetdir: this transport takes target instead\n");
	refused(ONE(RSYNC "\nbidirectional = true;"),
		"t.conf:2: bidirectional: this transport can't look at the target, which that needs\n");
	/* A bad value is not missing as well, and the transport is not asked. */
	refused(ONE("transport = \"rsyncssh\"; source = \"/a\"; host = 1; targetdir = \"\";"),
		"t.conf:1: host: expected a string, not an integer\nt.conf:1: targetdir: must not be empty\n");
	refused(ONE("transport = \"rsync\"; source = \"/a\"; target = true;"),
		"t.conf:1: target: expected a string, not a boolean\n");
	/* What the transport itself says gets the section's place. */
	refused("\n" ONE("transport = \"rsyncssh\"; source = \"/a\"; host = \"-x\"; targetdir = \"/\";"),
		"t.conf:2: host: \"-x\" begins with a dash\n");
}

static void test_filter_errors(void **state)
{
	(void)state;
	refused(ONE(RSYNC "\nfilter = [ \"+ ok\", \"%% x\" ];\nrsync = {\nextra = [ \"-F\" ]; };"),
		"t.conf:2: filter: filter rule \"%% x\": not a kind of rule that rsync knows\n"
		"t.conf:4: extra: rsync option -F is not supported: it reads rules from the directories it comes "
		"through\n");
}

/* Nothing hides behind the first error. */
static void test_all_errors(void **state)
{
	(void)state;
	refused("settings = {\n  insits = true;\n  maxDelays = -1;\n};\n"
		"sync = (\n  { transport = \"rsync\";\n    sorce = \"/a\";\n    target = \"/b\";\n    delay = \"x\"; "
		"},\n"
		"  { transport = \"nfs\";\n    source = \"/a\"; target = \"/c\"; },\n"
		"  { " RSYNC "\n    delete = \"never\"; }\n);\n",
		"t.conf:2: unknown key \"insits\" in a settings section; did you mean \"insist\"?\n"
		"t.conf:3: maxDelays: -1 is not between 0 and 1000000000\n"
		"t.conf:7: unknown key \"sorce\" in a sync section; did you mean \"source\"?\n"
		"t.conf:9: delay: expected a number of seconds, not a string\n"
		"t.conf:13: delete: \"never\" is none of true, false, startup, running\n"
		"t.conf:6: source is missing\n"
		"t.conf:10: unknown transport \"nfs\"; there are rsync, rsyncssh, direct, sftp, tcp\n");
	refused("sync = ( { transport = \"rsync\"; source = \"/a\";\n target = \"/a/b\";\n filter = \"% x\"; },\n"
		"{ transport = \"rsync\"; source = \"/c\"; name = \"-x\"; target = \"/a/b\"; } );",
		"t.conf:3: filter: filter rule \"% x\": not a kind of rule that rsync knows\n"
		"t.conf:4: name: must not begin with a dot or a dash\n"
		"t.conf:2: target /a/b lies inside its own source /a\n"
		"t.conf:4: two syncs write to one target, /a/b; the other is at t.conf:1\n");
}

/* Above a limit they are counted. */
static void test_error_limit(void **state)
{
	struct config_env env = { .transports = config_test_registry };
	struct strlist errors = { 0 };
	struct buf b;

	(void)state;
	buf_init(&b, 1u << 20);
	for (int i = 0; i < 250; i++)
		(void)buf_printf(&b, "wrong%d = 1;\n", i);
	(void)buf_add_str(&b, ONE(RSYNC));
	assert_null(config_load_text(b.data, b.len, "t.conf", &env, &errors));
	assert_int_equal(errors.n, 201);
	assert_string_equal(errors.v[200], "50 more errors");
	strlist_done(&errors);
	buf_done(&b);
}

/* The kernel's limit for a socket's path. */
static void test_long_socket(void **state)
{
	char text[512], expected[512], name[200];

	(void)state;
	memset(name, 'x', sizeof(name));
	name[108] = '\0';
	(void)snprintf(text, sizeof(text), "settings = {\n controlSocket = \"/%s\"; };\n%s", name, ONE(RSYNC));
	(void)snprintf(expected, sizeof(expected),
		       "t.conf:2: controlSocket: /%s is longer than the 107 bytes that a socket's path may have\n",
		       name);
	refused(text, expected);
}

/* ---- syncs that would do harm ---- */

static void test_target_in_source(void **state)
{
	(void)state;
	refused(ONE("transport = \"rsync\"; source = \"/a\";\ntarget = \"/a/b/c\";"),
		"t.conf:2: target /a/b/c lies inside its own source /a\n");
	refused(ONE("transport = \"rsync\"; source = \"/a\";\ntarget = \"/./a//\";"),
		"t.conf:2: target /a is the source itself\n");
	refused(ONE("transport = \"rsync\"; source = \"/a/b\";\ntarget = \"/a\";"),
		"t.conf:2: source /a/b lies inside its own target /a\n");
	refused(ONE("transport = \"rsync\"; source = \"/\";\ntarget = \"/mnt\";"),
		"t.conf:2: target /mnt lies inside its own source /\n");
	/* Only names that begin alike. */
	config_free(load(ONE("transport = \"rsync\"; source = \"/a\"; target = \"/ab\";")));
	/* Not on this host. */
	config_free(load(ONE("transport = \"rsync\"; source = \"/a\"; target = \"h::a/b\";")));
}

static void test_one_target(void **state)
{
	(void)state;
	refused("sync = ( { " RSYNC " },\n{ transport = \"rsync\"; source = \"/b\"; target = \"/dst/\"; } );",
		"t.conf:2: two syncs write to one target, /dst; the other is at t.conf:1\n");
	refused("sync = ( { " RSYNCSSH " },\n{ transport = \"sftp\"; source = \"/b\"; host = \"u@H\"; targetdir = "
		"\"/dst//\"; } );",
		"t.conf:2: two syncs write to one target, h[0]:/dst; the other is at t.conf:1\n");
	refused("sync = ( { transport = \"rsync\"; source = \"/a\"; target = \"host::m/x\"; },\n"
		"{ transport = \"rsync\"; source = \"/b\"; target = \"rsync://HOST/m/x/\"; } );",
		"t.conf:2: two syncs write to one target, host::m/x; the other is at t.conf:1\n");
	refused("sync = ( { " RSYNC " },\n{ transport = \"rsync\"; source = \"/b\"; target = \"/dst/b\"; } );",
		"t.conf:2: target /dst/b lies inside the target of the sync at t.conf:1, which does not exclude it\n");
	refused("sync = ( { transport = \"rsync\"; source = \"/b\"; target = \"/dst/b\"; },\n{ " RSYNC " } );",
		"t.conf:2: target /dst holds the target of the sync at t.conf:1 and does not exclude it\n");
	config_free(load("sync = ( { " RSYNC " exclude = \"/b\"; },\n"
			 "{ transport = \"rsync\"; source = \"/b\"; target = \"/dst/b\"; } );"));
	/* Two hosts, two ports, two users' homes. */
	config_free(load("sync = ( { " RSYNCSSH " }, { transport = \"rsyncssh\"; source = \"/src\";\n"
			 "host = \"other\"; targetdir = \"/dst\"; } );"));
}

static void test_one_name(void **state)
{
	(void)state;
	refused("sync = ( { " RSYNC " name = \"x\"; },\n{ transport = \"rsync\"; source = \"/b\"; target = \"/c\";\n"
		"name = \"x\"; } );",
		"t.conf:3: two syncs are called \"x\"; the other is at t.conf:1\n");
	refused("sync = ( { " RSYNC " name = \"sync2\"; },\n{ transport = \"rsync\"; source = \"/b\"; target = \"/c\"; "
		"} );",
		"t.conf:2: two syncs are called \"sync2\"; the other is at t.conf:1\n");
}

/* ---- lsyncd's keys without a meaning ---- */

static void test_ignored(void **state)
{
	(void)state;
	warned("settings = {\n  monitor = \"inotify\"; };\nsync = ( { " RSYNC "\n  exitcodes = { a = 1; };\n"
	       "  crontab = [ \"* * * * *\" ];\n  onCreate = \"cp\";\n  full = 1;\n rsync = { recursive = true; };\n"
	       "  maxProcesses = 4;\n subdirs = false; } );\n",
	       "t.conf:2: monitor is ignored: use watcher = \"fanotify\" or \"inotify\" in a sync section\n"
	       "t.conf:4: exitcodes is ignored: the exit codes of rsync and ssh are mapped by a fixed table, which "
	       "retries what can succeed later\n"
	       "t.conf:5: crontab is ignored: use schedule, which takes the same expressions\n"
	       "t.conf:6: onCreate is ignored: Lua functions and command strings are not run; transport = "
	       "\"exec\" gives changes to a program of your own\n"
	       "t.conf:7: full is ignored: use schedule or reconcileInterval, or fansyncd --sync-now\n"
	       "t.conf:8: recursive is ignored: what is to be recursed into is decided here\n"
	       "t.conf:10: subdirs is ignored: subdirectories are always watched; leave them out with exclude = "
	       "\"*/\"\n"
	       "t.conf:9: maxProcesses: a sync has one worker, which sends any number of changes together, and one for "
	       "large "
	       "files\n");
}

/* ---- a tunnel ---- */

#define TUNNELED(target, tunnel)                                                                                       \
	"sync = ( { transport = \"rsync\"; source = \"/a\";\ntarget = \"" target "\";\n" tunnel " } );"

static void test_tunnel(void **state)
{
	struct config *c =
		load(TUNNELED("rsync://h:${port}/m", "tunnel = { command = [ \"t\", \"${port}:x\" ]; timeout = 5; };"));
	struct config *worker;
	struct buf dump;

	(void)state;
	assert_int_equal(c->syncs[0].tunnel.command.n, 2);
	assert_int_equal(c->syncs[0].tunnel.timeout_ns, INT64_C(5000000000));
	assert_int_equal(c->syncs[0].tunnel.port, 0);
	buf_init(&dump, 1u << 20);
	assert_int_equal(config_dump_sync(c, 0, 40123, &dump), 0);
	worker = load(buf_str(&dump));
	assert_string_equal(worker->syncs[0].target, "rsync://h:40123/m");
	assert_int_equal(worker->syncs[0].tunnel.command.n, 0);
	assert_false(config_sync_equal(&c->syncs[0], &worker->syncs[0]));
	config_free(worker);
	config_free(c);
	buf_done(&dump);
	c = load("sync = ( { transport = \"sftp\"; source = \"/a\"; host = \"h\"; targetdir = \"/t\"; ssh = { port = "
		 "\"${port}\"; "
		 "extra = [ \"a${port}\" ]; }; exclude = \"${port}\"; tunnel = { command = \"t\"; port = 2222; }; }, { "
		 "transport = "
		 "\"tcp\"; source = \"/b\"; host = \"h\"; module = \"m\"; port = \"${port}\"; tunnel = { command = [ "
		 "\"t\", "
		 "\"${port}\" ]; }; } );");
	assert_int_equal(c->syncs[0].ssh.port, OPTIONS_TUNNEL_PORT);
	assert_int_equal(c->syncs[1].tcp.port, OPTIONS_TUNNEL_PORT);
	buf_init(&dump, 1u << 20);
	assert_int_equal(config_dump_sync(c, 0, 2222, &dump), 0);
	worker = load(buf_str(&dump));
	assert_int_equal(worker->syncs[0].ssh.port, 2222);
	assert_string_equal(worker->syncs[0].ssh.extra.v[0], "a2222");
	/* A pattern is a pattern. */
	assert_string_equal(filter_rule_text(worker->syncs[0].filter, 0), filter_rule_text(c->syncs[0].filter, 0));
	config_free(worker);
	config_free(c);
	buf_done(&dump);
}

static void test_bad_tunnel(void **state)
{
	(void)state;
	refused(TUNNELED("rsync://h:${port}/m", "tunnel = { };\ntunnel = { };"), "t.conf:4: duplicate setting name\n");
	refused(TUNNELED("rsync://h:${port}/m", "tunnel = 1;"),
		"t.conf:3: tunnel: expected a group, tunnel = { ... }\n"
		"t.conf:2: target: ${port} is the port of a tunnel, and the sync has none: tunnel = { command = [ ... "
		"]; };\n");
	refused(TUNNELED("rsync://h/m", "tunnel = { port = 1; };"),
		"t.conf:1: tunnel: command is missing: the program that leads to the target, as a list of words\n");
	refused(TUNNELED("rsync://h/m", "tunnel = { command = [ ]; };"),
		"t.conf:3: tunnel: command is missing: the program that leads to the target, as a list of words\n");
	refused(TUNNELED("rsync://h/m", "tunnel = { command = \"ssh -L\"; };"),
		"t.conf:3: command: write several words as a list, [ \"one\", \"two\" ]\n"
		"t.conf:3: tunnel: command is missing: the program that leads to the target, as a list of words\n");
	refused(TUNNELED("rsync://h/m", "tunnel = { command = \"t\"; };"),
		"t.conf:3: tunnel: ${port} does not stand in its command, which can't know where to listen; if that is "
		"fixed, say where: port\n"
		"t.conf:3: tunnel: nothing leads into it: write ${port} as the port of target, as in "
		"rsync://127.0.0.1:${port}/module, or as port (tcp) or ssh.port (sftp, rsyncssh)\n");
	refused(TUNNELED("rsync://h/m", "tunnel = { command = \"t\"; commnad = 1; };"),
		"t.conf:3: unknown key \"commnad\" in a tunnel section; did you mean \"command\"?\n"
		"t.conf:3: tunnel: ${port} does not stand in its command, which can't know where to listen; if that is "
		"fixed, say where: port\n"
		"t.conf:3: tunnel: nothing leads into it: write ${port} as the port of target, as in "
		"rsync://127.0.0.1:${port}/module, or as port (tcp) or ssh.port (sftp, rsyncssh)\n");
	refused("sync = ( { transport = \"tcp\"; source = \"/a\"; host = \"h\"; module = \"m\";\nport = \"${port}\"; } "
		");",
		"t.conf:2: port: ${port} is the port of a tunnel, and the sync has none: tunnel = { command = [ ... ]; "
		"};\n");
	refused("sync = ( { transport = \"tcp\"; source = \"/a\"; host = \"h\"; module = \"m\";\nport = \"port\"; } );",
		"t.conf:2: port: expected an integer or \"${port}\", not a string\n");
	refused("tunnel = { };\nsync = ( { " RSYNC " } );", "t.conf:1: tunnel: it belongs into the sync section whose "
							    "target it leads to: sync = ( { ... tunnel = { command "
							    "= [ ... ]; }; } );\n");
}

/* The same words are another target behind another tunnel. */
static void test_targets_through_tunnels(void **state)
{
#define BEHIND(source, command, more)                                                                                  \
	"{ transport = \"rsync\"; source = \"" source                                                                  \
	"\"; target = \"rsync://h:${port}/m\"; tunnel = { command = [ \"t\", \"" command "\", \"${port}\" ]; " more    \
	" }; }"

	(void)state;
	config_free(load("sync = (\n" BEHIND("/a", "x", "") ",\n" BEHIND("/b", "y", "") " );"));
	refused("sync = (\n" BEHIND("/a", "x", "") ",\n" BEHIND("/b", "x", "") " );",
		"t.conf:3: two syncs write to one target, h:${port}::m by t x ${port}; the other is at t.conf:2\n");
	refused("sync = (\n" BEHIND("/a", "x", "port = 1;") ",\n" BEHIND("/b", "y", "port = 1;") " );",
		"t.conf:3: two tunnels are to listen on port 1; the other is at t.conf:2\n");
#undef BEHIND
}

static void test_without_effect(void **state)
{
	(void)state;
	warned(ONE(RSYNC "rsync = {\n quiet = true;\n protect_args = false; };"),
	       "t.conf:3: protect_args = false is ignored: no shell may interpret a name\n"
	       "t.conf:2: quiet is ignored: what rsync says is read, and only shown by the log category Exec\n");
}

/* Plaintext to another host is told of at each start. */
static void test_plaintext(void **state)
{
	(void)state;
#define PLAIN(more)                                                                                                    \
	"sync = ( { transport = \"tcp\"; source = \"/a\"; host = \"h\"; module = \"m\";\ninsecure = true; " more " } " \
	");"
	warned(PLAIN(""), "t.conf:2: insecure = true: what is sent to h can be read and changed on the way\n");
	warned(PLAIN("key = \"/k/web.key\";"), "");
#undef PLAIN
}

/* cvs_exclude becomes rules behind all others, and no option for rsync is left. */
static void test_cvs_exclude(void **state)
{
	struct config *c = load(ONE(RSYNC "filter = \"+ keep.o\"; rsync = { cvs_exclude = true; };"));
	const struct filter *f = c->syncs[0].filter;

	(void)state;
	assert_false(c->syncs[0].rsync.cvs_exclude);
	assert_true(filter_includes(f, "keep.o", 6, false));
	assert_false(filter_includes(f, "x.o", 3, false));
	assert_false(filter_includes(f, "a/b~", 4, false));
	assert_false(filter_includes(f, ".git/config", 11, false));
	assert_true(filter_includes(f, ".git", 4, false));
	assert_true(filter_includes(f, "x.c", 3, false));
	assert_int_equal(c->warnings.n, 1);
	config_free(c);
}

/* Secrets that a service manager hands over: a path in the service, left as they are elsewhere. */
static void test_credentials(void **state)
{
	static const char text[] =
		"sync = ( { name = \"n\"; transport = \"tcp\"; source = \"/s\"; host = \"h\"; module = \"m\";\n"
		"key = \"credential:web.key\"; } );\n"
		"receiver = { listen = [ \"0.0.0.0:1\" ]; keys = \"credential:\";\n"
		"modules = ( { name = \"m\"; path = \"/m\"; allow = [ \"web\" ]; } ); };\n";
	struct config *c;

	(void)state;
	assert_int_equal(setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x", 1), 0);
	c = load(text);
	assert_string_equal(c->syncs[0].tcp.key, "/run/credentials/x/web.key");
	assert_string_equal(c->receiver->keys, "/run/credentials/x");
	config_free(c);
	assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
	c = load(text);
	assert_string_equal(c->syncs[0].tcp.key, "credential:web.key");
	assert_string_equal(c->receiver->keys, "credential:");
	config_free(c);
	refused("sync = ( { transport = \"tcp\"; source = \"/s\"; host = \"h\"; module = \"m\"; key = "
		"\"credential:../k\"; } );\n",
		"t.conf:1: key: \"credential:../k\": no name of a credential\n");
}

/* Where backups are is left out, whatever the other rules say; no source may bring them back. */
static void test_backup_dir(void **state)
{
	struct config *c = load(ONE(DIRECT "backupDir = \".old/%Y\"; filter = [ \"+ /.old\" ];"));
	const struct filter *f = c->syncs[0].filter;
	struct config *again;
	struct buf dump;

	(void)state;
	assert_false(filter_includes(f, ".old", 4, true));
	assert_false(filter_includes(f, ".old/2001/x", 11, false));
	assert_true(filter_includes(f, "sub/.old", 8, true));
	assert_true(filter_protects_from(f, ".old", 4, 4, true, true));
	buf_init(&dump, 1u << 20);
	assert_int_equal(config_dump(c, &dump), 0);
	again = load(buf_str(&dump));
	assert_true(config_sync_equal(&c->syncs[0], &again->syncs[0]));
	config_free(again);
	buf_done(&dump);
	config_free(c);
	refused(ONE(DIRECT "\nbackupDir = \"%Y\";"),
		"t.conf:2: backupDir: the first directory must have a fixed name, as in .backup/%Y-%m-%d\n");
	refused(ONE(RSYNC "\nbackupDir = \".old\"; rsync = { backup = true; };"),
		"t.conf:2: backupDir: rsync's backup, backup_dir and suffix can't be given with it\n");
	refused("sync = ( { " DIRECT " backupDir = \".old/%Y\"; },\n"
		"  { transport = \"direct\"; source = \"/dst\"; target = \"/third\"; } );\n",
		"t.conf:2: source /dst holds /dst/.old, where backups are put away (backupDir), and does not exclude "
		"it: "
		"exclude = [ \"/.old/\" ]\n");
	c = load("sync = ( { " DIRECT " backupDir = \".old/%Y\"; },\n"
		 "  { transport = \"direct\"; source = \"/dst\"; target = \"/third\"; exclude = \"/.old/\"; } );\n");
	config_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_credentials),
		cmocka_unit_test(test_maxscale),
		cmocka_unit_test(test_setting_defaults),
		cmocka_unit_test(test_sync_defaults),
		cmocka_unit_test(test_native_defaults),
		cmocka_unit_test(test_archive),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_syntax),
		cmocka_unit_test(test_nul_byte),
		cmocka_unit_test(test_sections),
		cmocka_unit_test(test_unknown_keys),
		cmocka_unit_test(test_wrong_types),
		cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_transport_errors),
		cmocka_unit_test(test_filter_errors),
		cmocka_unit_test(test_all_errors),
		cmocka_unit_test(test_error_limit),
		cmocka_unit_test(test_long_socket),
		cmocka_unit_test(test_target_in_source),
		cmocka_unit_test(test_one_target),
		cmocka_unit_test(test_one_name),
		cmocka_unit_test(test_ignored),
		cmocka_unit_test(test_tunnel),
		cmocka_unit_test(test_bad_tunnel),
		cmocka_unit_test(test_targets_through_tunnels),
		cmocka_unit_test(test_cvs_exclude),
		cmocka_unit_test(test_backup_dir),
		cmocka_unit_test(test_plaintext),
		cmocka_unit_test(test_without_effect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
