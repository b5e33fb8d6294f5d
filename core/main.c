/*
 * main.c - the composition root: reads the command line and joins configuration, transports and core. The only file in
 * core/ that sees config/, and the only one that may end the process.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/config.h"
#include "core/clock.h"
#include "core/control.h"
#include "core/daemon.h"
#include "core/daemonize.h"
#include "core/doctor.h"
#include "core/journal.h"
#include "core/listen_fds.h"
#include "core/log.h"
#include "core/log_entry.h"
#include "core/progress.h"
#include "core/top.h"
#include "core/transport.h"
#include "core/web.h"
#include "core/worker.h"
#include "transports/receiver.h"
#include "transports/receiver_exam.h"
#include "transports/rsync_rsh.h"

#define DEFAULT_CONFIG FANSYNCD_SYSCONFDIR "/fansyncd.conf"

/* lsyncd exits with 255 for everything that keeps it from running; scripts know that. */
enum { EXIT_NO_DAEMON = 3, EXIT_TIMED_OUT = 2, EXIT_BAD = 255 };
/* The file that comes with a package, unchanged: an init system is not to try again (LSB: "not configured"). */
enum { EXIT_EMPTY = 6 };

/* What one request has room for, beside the other words. */
#define ONLY_MAX ((CONTROL_ARGS_MAX - 8u) / 2u)

enum mode {
	MODE_DAEMON = 0,
	MODE_RECEIVE,
	MODE_CHECK,
	MODE_SYNC_NOW,
	MODE_STATUS,
	MODE_WAIT,
	MODE_NAMES,
	MODE_DOCTOR,
	MODE_TOP,
	MODE_HELP,
	MODE_VERSION,
	MODE_HELP_CONFIG,
	MODE_HELP_CONFIG_ROFF
};

struct app {
	enum mode mode;
	char *config_path; /* absolute; NULL: syncs from the command line */
	struct config_cli *cli;
	struct strlist only;
	bool json, quiet, allow_delete;
	const char *timeout, *interval; /* as given */
	bool background;
	uint32_t default_log_mask;
	struct log_journal journal;
	size_t n_listen; /* sockets of the service manager */
	bool empty;	 /* the configuration has neither a sync nor a receiver */
};

static const char usage[] =
	"usage: fansyncd [OPTIONS] [CONFIG]                   run the daemon (CONFIG: " DEFAULT_CONFIG ")\n"
	"       fansyncd [OPTIONS] -rsync SRC TARGET          ... for a sync given here; also\n"
	"                          -direct SRC TARGET\n"
	"                          -rsyncssh SRC HOST DIR [-sshopts TEXT]\n"
	"       fansyncd --sync-now [--only NAME]... [--allow-delete] [--quiet|--json] [CONFIG]\n"
	"                                                     make all targets equal once; 0: they are\n"
	"       fansyncd --receive [OPTIONS] [CONFIG]         run only the receiver section\n"
	"       fansyncd --check [CONFIG]                     validate, print the effective configuration\n"
	"       fansyncd --status [--json] [CONFIG]           ask the running daemon\n"
	"       fansyncd --names [CONFIG]                     print the names of the syncs\n"
	"       fansyncd --top [--interval S] [CONFIG]        all syncs in a terminal, kept up to date\n"
	"       fansyncd --wait [--timeout S] [--only NAME]... [CONFIG]\n"
	"                                                     return when all changes made before are mirrored:\n"
	"                                                     0 equal, 1 failures (named), 2 time-out, 3 no daemon\n"
	"       fansyncd --doctor [--json] [--timeout S] [--only NAME]... [CONFIG]\n"
	"                                                     look for what usually goes wrong, here and at the "
	"targets\n"
	"       fansyncd --help | --version | --help-config\n"
	"\n"
	"One dash or two are the same. OPTIONS:\n";

/* ---- the command line ---- */

/* The option's name without its dashes; NULL if it is none. */
static const char *option_name(const char *arg)
{
	if (arg[0] != '-' || arg[1] == '\0')
		return NULL;
	return arg[1] == '-' ? arg + 2 : arg + 1;
}

static bool take_mode(struct app *app, const char *name)
{
	static const struct {
		const char *name;
		enum mode mode;
	} modes[] = {
		{ "check", MODE_CHECK },
		{ "receive", MODE_RECEIVE },
		{ "sync-now", MODE_SYNC_NOW },
		{ "status", MODE_STATUS },
		{ "wait", MODE_WAIT },
		{ "names", MODE_NAMES },
		{ "doctor", MODE_DOCTOR },
		{ "top", MODE_TOP },
		{ "help", MODE_HELP },
		{ "version", MODE_VERSION },
		{ "help-config", MODE_HELP_CONFIG },
		{ "help-config-roff", MODE_HELP_CONFIG_ROFF },
	};

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (strcmp(modes[i].name, name) == 0) {
			app->mode = modes[i].mode;
			return true;
		}
	return false;
}

/* Our own options. Returns how many arguments were taken; 0: not ours; -1: its argument is missing. */
static int take_own(struct app *app, const char *name, int left, char *const *argv)
{
	if (take_mode(app, name))
		return 1;
	if (strcmp(name, "json") == 0)
		app->json = true;
	else if (strcmp(name, "quiet") == 0)
		app->quiet = true;
	else if (strcmp(name, "allow-delete") == 0)
		app->allow_delete = true;
	else if (strcmp(name, "only") == 0)
		return left < 2 || strlist_add(&app->only, argv[1]) < 0 ? -1 : 2;
	else if (strcmp(name, "timeout") == 0) {
		app->timeout = left < 2 ? NULL : argv[1];
		return left < 2 ? -1 : 2;
	} else if (strcmp(name, "interval") == 0) {
		app->interval = left < 2 ? NULL : argv[1];
		return left < 2 ? -1 : 2;
	} else {
		return 0;
	}
	return 1;
}

static int set_config_path(struct app *app, const char *arg)
{
	if (app->config_path != NULL) {
		(void)fprintf(stderr, "fansyncd: there can be one CONFIG only: %s or %s\n", app->config_path, arg);
		return -1;
	}
	app->config_path = realpath(arg, NULL);
	if (app->config_path == NULL) {
		(void)fprintf(stderr, "fansyncd: %s: %s\n", arg, strerror(errno));
		return -1;
	}
	return 0;
}

static int take_argument(struct app *app, int left, char *const *argv)
{
	const char *name = option_name(argv[0]);
	struct err err = ERR_INIT;
	int n;

	if (name == NULL)
		return set_config_path(app, argv[0]) < 0 ? -1 : 1;
	n = take_own(app, name, left, argv);
	if (n < 0) {
		(void)fprintf(stderr, "fansyncd: %s needs an argument\n", argv[0]);
		return -1;
	}
	if (n == 0)
		n = config_cli_take(app->cli, left, argv, &err);
	if (n < 0) {
		(void)fprintf(stderr, "fansyncd: %s\n", err.text);
		return -1;
	}
	if (n == 0) {
		(void)fprintf(stderr, "fansyncd: unknown option %s (see fansyncd --help)\n", argv[0]);
		return -1;
	}
	return n;
}

/* An option that would have no effect is a slip of the pen: not to start a daemon for `--only NAME`, say. */
static int check_own(const struct app *app)
{
	bool sync_now = app->mode == MODE_SYNC_NOW, wait = app->mode == MODE_WAIT, doctor = app->mode == MODE_DOCTOR;
	const struct {
		const char *name, *modes;
		bool given, fits;
	} own[] = {
		{ "only", "--sync-now, --wait or --doctor", app->only.n > 0, sync_now || wait || doctor },
		{ "timeout", "--wait or --doctor", app->timeout != NULL, wait || doctor },
		{ "json", "--sync-now, --status or --doctor", app->json,
		  sync_now || doctor || app->mode == MODE_STATUS },
		{ "interval", "--top", app->interval != NULL, app->mode == MODE_TOP },
		{ "quiet", "--sync-now", app->quiet, sync_now },
		{ "allow-delete", "--sync-now", app->allow_delete, sync_now },
	};

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (own[i].given && !own[i].fits && app->mode < MODE_HELP) {
			(void)fprintf(stderr, "fansyncd: --%s goes with %s\n", own[i].name, own[i].modes);
			return -1;
		}
	return 0;
}

static int parse_command_line(struct app *app, int argc, char *const *argv)
{
	for (int i = 1; i < argc;) {
		int n = take_argument(app, argc - i, argv + i);

		if (n < 0)
			return -1;
		i += n;
	}
	if (check_own(app) < 0)
		return -1;
	if (config_cli_has_syncs(app->cli) && app->config_path != NULL) {
		(void)fprintf(stderr, "fansyncd: syncs come from %s or from the command line, not from both\n",
			      app->config_path);
		return -1;
	}
	if (app->config_path == NULL && !config_cli_has_syncs(app->cli) && app->mode < MODE_HELP)
		return set_config_path(app, DEFAULT_CONFIG);
	return 0;
}

/* ---- configuration ---- */

/* --check and the questions can't know what a socket unit will pass to the daemon. */
static bool can_listen(const struct app *app, const struct config *c)
{
	return app->mode > MODE_RECEIVE || c->receiver == NULL || c->receiver->listen.n > 0 || app->n_listen > 0;
}

static struct config *load(struct app *app, bool check_paths, void (*complain)(const char *text))
{
	struct config_env env = {
		.transports = transport_registry, .cli = app->cli, .check_paths = check_paths, .empty = &app->empty
	};
	struct strlist errors = { 0 };
	struct config *c = config_load_file(app->config_path, &env, &errors);

	for (size_t i = 0; i < errors.n; i++)
		complain(errors.v[i]);
	if (c != NULL && !can_listen(app, c)) {
		complain("receiver: listen: required, as in listen = [ \"0.0.0.0:8737\" ], since no socket unit passed "
			 "sockets");
		config_free(c);
		strlist_done(&errors);
		return NULL;
	}
	if (c != NULL && app->mode == MODE_RECEIVE) {
		if (c->receiver == NULL) {
			complain("--receive: the configuration has no receiver section");
			config_free(c);
			c = NULL;
		} else {
			config_drop_syncs(c);
		}
		strlist_done(&errors);
		return c;
	}
	if (c == NULL && errors.n == 0)
		complain("out of memory");
	strlist_done(&errors);
	return c;
}

static void complain_stderr(const char *text)
{
	char safe[1024];

	log_escape(safe, sizeof(safe), text, strlen(text));
	(void)fprintf(stderr, "fansyncd: %s\n", safe);
}

static void complain_log(const char *text)
{
	log_error("%s", text);
}

static struct config *dep_load(void *ctx)
{
	struct config *c = load(ctx, true, complain_log);

	for (size_t i = 0; c != NULL && i < c->warnings.n; i++)
		log_warn("%s", c->warnings.v[i]);
	return c;
}

static void complain_warn(const char *text)
{
	log_warn("%s", text);
}

/* lsyncd takes any capitalised word for a category; so do we, but not in silence. */
static void warn_categories(const struct settings *s, void (*complain)(const char *text))
{
	for (size_t i = 0; i < s->log.n; i++) {
		bool known;
		char text[256];

		if (log_enable_word(s->log.v[i], &known) < 0 || known)
			continue;
		(void)snprintf(text, sizeof(text), "log: there is no category \"%.100s\"", s->log.v[i]);
		complain(text);
	}
}

/* What systemd connected to the journal gets entries with fields instead of lines. */
static bool to_journal(struct app *app, const struct settings *s)
{
	const char *stream = getenv("JOURNAL_STREAM"), *other = getenv("FANSYNCD_JOURNAL_SOCKET");

	if (s->logfile != NULL ||
	    (!journal_is_stream(STDOUT_FILENO, stream) && !journal_is_stream(STDERR_FILENO, stream)))
		return false;
	app->journal.path = other != NULL ? other : JOURNAL_SOCKET;
	if (app->journal.fd < 0)
		app->journal.fd = journal_open();
	return app->journal.fd >= 0;
}

static int dep_open_log(void *ctx, const struct settings *s, struct err *err)
{
	struct app *app = ctx;
	bool journal = to_journal(app, s);
	struct log_settings ls = {
		.file = s->logfile,
		.to_syslog = s->logfile == NULL && app->background,
		.entry = journal ? log_entry_to_journal : NULL,
		.entry_ctx = &app->journal,
		.format = s->log_format == LOG_FORMAT_JSON ? log_entry_json : NULL,
		.to_stdout = !app->background,
		.facility = s->log_facility,
		.ident = s->log_ident,
	};

	log_set_mask(app->default_log_mask);
	for (size_t i = 0; i < s->log.n; i++) {
		if (log_enable_word(s->log.v[i], NULL) < 0)
			return err_set(err, ERR_CONFIG, "log: \"%s\" is no category", s->log.v[i]);
	}
	if (log_open(&ls, err) < 0)
		return -1;
	warn_categories(s, complain_warn);
	return 0;
}

/* What the daemon wrote for a worker. */
static struct config *load_text(const char *text, size_t len, struct err *err)
{
	struct config_env env = { .transports = transport_registry };
	struct strlist errors = { 0 };
	struct config *c = config_load_text(text, len, "the daemon's configuration", &env, &errors);

	if (c == NULL)
		err_set(err, ERR_BUG, "%s", errors.n > 0 ? errors.v[0] : "out of memory");
	strlist_done(&errors);
	return c;
}

/* ---- the daemon ---- */

static const struct daemon_deps *deps_for(struct app *app, struct daemon_deps *deps)
{
	*deps = (struct daemon_deps){
		.load = dep_load,
		.unload = config_free,
		.text_of = config_dump_sync,
		.same_sync = config_sync_equal,
		.receiver_text_of = config_dump_receiver_only,
		.same_receiver = config_receiver_equal,
		.same_metrics = config_metrics_equal,
		.open_log = dep_open_log,
		.ctx = app,
	};
	return deps;
}

static int open_log_or_complain(struct app *app, const struct config *c)
{
	struct err err = ERR_INIT;

	if (dep_open_log(app, &c->settings, &err) < 0) {
		complain_stderr(err.text);
		return -1;
	}
	for (size_t i = 0; i < c->warnings.n; i++)
		log_warn("%s", c->warnings.v[i]);
	return 0;
}

static int run_daemon(struct app *app)
{
	struct config *c;
	struct daemonize daemonize = DAEMONIZE_INIT;
	struct daemon_options options = { .daemonize = &daemonize };
	struct daemon_deps deps;
	struct err err = ERR_INIT;
	int code = EXIT_BAD, side = 0;

	if (listen_fds_take(&app->n_listen, &err) < 0) {
		complain_stderr(err.text);
		return EXIT_BAD;
	}
	c = load(app, true, complain_stderr);
	if (c == NULL)
		return app->empty ? EXIT_EMPTY : EXIT_BAD;
	options.n_listen = app->n_listen;
	options.once = c->settings.onepass;
	options.quiet = options.once;
	app->background = !c->settings.nodaemon && !options.once;
	if (app->background)
		side = daemonize_start(&daemonize, &code, &err);
	if (side < 0)
		complain_stderr(err.text);
	if (side != 0) {
		config_free(c);
		return code;
	}
	if (open_log_or_complain(app, c) < 0) {
		config_free(c);
		code = EXIT_BAD;
	} else {
		code = daemon_run(c, deps_for(app, &deps), &options);
	}
	daemonize_failed(&daemonize, code); /* nothing if it was ready before */
	log_close();
	return code;
}

static int run_once(struct app *app, struct config *c)
{
	struct daemon_options options = { .once = true,
					  .allow_delete = app->allow_delete,
					  .quiet = app->quiet,
					  .json = app->json,
					  .only = &app->only };
	struct daemon_deps deps;
	int code;

	/* Standard output is for the result: what the log says besides goes to the log file. */
	app->background = true;
	if (open_log_or_complain(app, c) < 0) {
		config_free(c);
		return EXIT_BAD;
	}
	code = daemon_run(c, deps_for(app, &deps), &options);
	log_close();
	return code;
}

/* ---- asking the daemon ---- */

struct client {
	struct progress *progress;
};

static void client_out(void *ctx, const char *data, size_t len)
{
	progress_clear(((struct client *)ctx)->progress);
	(void)fwrite(data, 1, len, stdout);
	(void)fflush(stdout);
}

static void client_err(void *ctx, const char *data, size_t len)
{
	progress_clear(((struct client *)ctx)->progress);
	(void)fwrite(data, 1, len, stderr);
}

static void client_progress(void *ctx, const char *data, size_t len)
{
	const struct client *c = ctx;

	if (c->progress != NULL)
		progress_update(c->progress, data, len, clock_mono_ns());
}

static size_t request_words(const struct app *app, const char **words)
{
	size_t n = 0;

	words[n++] = app->mode == MODE_STATUS ? "status" : app->mode == MODE_WAIT ? "wait" : "sync-now";
	if (app->json)
		words[n++] = "--json";
	if (app->quiet)
		words[n++] = "--quiet";
	if (app->allow_delete)
		words[n++] = "--allow-delete";
	if (app->timeout != NULL) {
		words[n++] = "--timeout";
		words[n++] = app->timeout;
	}
	for (size_t i = 0; i < app->only.n && i < ONLY_MAX; i++) {
		words[n++] = "--only";
		words[n++] = app->only.v[i];
	}
	return n;
}

/* The daemon's answer; -1 with *err when there is none. */
static int ask(const struct app *app, const struct config *c, struct err *err)
{
	const char *words[CONTROL_ARGS_MAX + 1];
	size_t n = request_words(app, words);
	bool show = app->mode == MODE_SYNC_NOW && !app->quiet && !app->json;
	struct client client = { .progress = show ? progress_new(STDERR_FILENO) : NULL };
	struct control_client callbacks = { client_out, client_err, client_progress, &client };
	int code = control_client_run(c->settings.control_socket, n, words, -1, &callbacks, err);

	progress_clear(client.progress);
	progress_free(client.progress);
	return code;
}

static int run_client(struct app *app)
{
	struct config *c = load(app, app->mode == MODE_SYNC_NOW, complain_stderr);
	struct err err = ERR_INIT;
	int code;

	if (c == NULL)
		return EXIT_BAD;
	if (app->only.n > ONLY_MAX) { /* to wait for fewer than named would be to lie */
		(void)fprintf(stderr, "fansyncd: --only can be given %u times at most\n", ONLY_MAX);
		config_free(c);
		return EXIT_BAD;
	}
	code = ask(app, c, &err);
	if (code < 0 && err.class == ERR_GONE && app->mode == MODE_SYNC_NOW)
		return run_once(app, c);
	if (code < 0) {
		complain_stderr(err.text);
		code = err.class == ERR_GONE ? EXIT_NO_DAEMON : app->mode == MODE_WAIT ? EXIT_TIMED_OUT : EXIT_BAD;
	}
	config_free(c);
	return code;
}

static int run_top(struct app *app)
{
	char *end = NULL;
	double seconds = app->interval == NULL ? 0 : strtod(app->interval, &end);
	struct config *c;
	struct err err = ERR_INIT;
	struct top_options o = { 0 };
	int code;

	if (app->interval != NULL && (end == app->interval || *end != '\0' || !(seconds >= 0.1 && seconds <= 3600))) {
		(void)fprintf(stderr, "fansyncd: --interval: seconds, 0.1 to 3600\n");
		return EXIT_BAD;
	}
	o.interval_ns = (int64_t)(seconds * (double)NS_PER_S);
	c = load(app, false, complain_stderr);
	if (c == NULL)
		return EXIT_BAD;
	o.socket = c->settings.control_socket;
	code = top_run(&o, &err);
	if (code < 0) {
		complain_stderr(err.text);
		code = err.class == ERR_GONE ? EXIT_NO_DAEMON : EXIT_BAD;
	}
	config_free(c);
	return code;
}

/* ---- the small ones ---- */

static int run_check(struct app *app)
{
	struct config *c = load(app, true, complain_stderr);
	struct buf text;
	int code = EXIT_BAD;

	if (c == NULL)
		return EXIT_BAD;
	for (size_t i = 0; i < c->warnings.n; i++)
		complain_stderr(c->warnings.v[i]);
	warn_categories(&c->settings, complain_stderr);
	buf_init(&text, 64u * 1024 * 1024);
	if (config_dump(c, &text) < 0)
		complain_stderr("out of memory");
	else if (fwrite(text.data, 1, text.len, stdout) != text.len || fflush(stdout) != 0)
		complain_stderr(strerror(errno));
	else
		code = 0;
	buf_done(&text);
	config_free(c);
	return code;
}

static int print_names(struct app *app)
{
	struct config *c = load(app, false, complain_stderr);

	if (c == NULL)
		return EXIT_BAD;
	for (size_t i = 0; i < c->n_syncs; i++)
		(void)printf("%s\n", c->syncs[i].name);
	config_free(c);
	return fflush(stdout) == 0 ? 0 : EXIT_BAD;
}

/* Seconds; -1: that is no time. */
static int64_t doctor_limit(const char *text)
{
	char *end = NULL;
	long seconds;

	if (text == NULL)
		return 90 * NS_PER_S;
	seconds = strtol(text, &end, 10);
	return end == text || *end != '\0' || seconds < 1 || seconds > 86400 ? -1 : seconds * NS_PER_S;
}

/* With what of the configuration can be had: a source that is missing is a finding, and no reason to end. */
static struct config *doctor_with_tunnel(const struct config *c, size_t i, uint16_t port, struct err *err)
{
	struct buf text;
	struct config *made;

	buf_init(&text, 64u * 1024 * 1024);
	made = config_dump_sync(c, i, port, &text) == 0 ? load_text(text.data, text.len, err) : NULL;
	if (made == NULL && err->class == ERR_NONE)
		err_set(err, ERR_NOMEM, "out of memory");
	buf_done(&text);
	return made;
}

static int run_doctor(struct app *app)
{
	struct config_env env = { .transports = transport_registry, .cli = app->cli, .check_paths = true };
	struct doctor_options options = { .only = &app->only,
					  .json = app->json,
					  .limit_ns = doctor_limit(app->timeout),
					  .with_tunnel = doctor_with_tunnel,
					  .examine_receiver = receiver_examine };
	struct strlist errors = { 0 }, again = { 0 };
	struct config *c = config_load_file(app->config_path, &env, &errors);
	struct err err = ERR_INIT;
	int code = -1;

	env.check_paths = false;
	if (c == NULL)
		c = config_load_file(app->config_path, &env, &again);
	options.errors = &errors;
	if (options.limit_ns < 0)
		err_set(&err, ERR_CONFIG, "--timeout: \"%s\" is no number of seconds", app->timeout);
	else
		code = doctor_run(c, &options, &err);
	if (code < 0)
		complain_stderr(err.text);
	strlist_done(&errors);
	strlist_done(&again);
	config_free(c);
	return code < 0 ? EXIT_BAD : code;
}

static int print_help(void)
{
	(void)fputs(usage, stdout);
	config_help_cli(stdout);
	return fflush(stdout) == 0 ? 0 : EXIT_BAD;
}

static int run(struct app *app)
{
	switch (app->mode) {
	case MODE_DAEMON:
	case MODE_RECEIVE:
		return run_daemon(app);
	case MODE_CHECK:
		return run_check(app);
	case MODE_SYNC_NOW:
	case MODE_STATUS:
	case MODE_WAIT:
		return run_client(app);
	case MODE_NAMES:
		return print_names(app);
	case MODE_DOCTOR:
		return run_doctor(app);
	case MODE_TOP:
		return run_top(app);
	case MODE_HELP:
		return print_help();
	case MODE_VERSION:
		return printf("fansyncd %s\n", FANSYNCD_VERSION) < 0 ? EXIT_BAD : 0;
	case MODE_HELP_CONFIG:
		config_help(stdout);
		break;
	case MODE_HELP_CONFIG_ROFF:
		config_help_roff(stdout);
		break;
	}
	return fflush(stdout) == 0 ? 0 : EXIT_BAD;
}

/* ---- the worker's mode ---- */

static int run_worker(void)
{
	static const struct worker_deps deps = { .load = load_text, .unload = config_free };

	return worker_run(WORKER_FD, &deps);
}

static int run_receiver(const char *n_listen)
{
	static const struct worker_deps deps = { .load = load_text, .unload = config_free };

	return receiver_run(WORKER_FD, n_listen == NULL ? 0 : strtoul(n_listen, NULL, 10), &deps);
}

int main(int argc, char **argv)
{
	struct app app = { .default_log_mask = log_mask(), .journal = { .fd = -1 } };
	int code = EXIT_BAD;

	if (argc > 1 && strcmp(argv[1], "--worker") == 0)
		return run_worker();
	if (argc > 1 && strcmp(argv[1], "--receiver") == 0)
		return run_receiver(argc > 3 ? argv[3] : NULL);
	if (argc > 1 && strcmp(argv[1], "--remote-shell") == 0)
		return rsync_rsh_main(argc - 2, argv + 2);
	if (argc > 1 && strcmp(argv[1], "--web") == 0)
		return web_run(WORKER_FD, WORKER_FD + 1);
	app.cli = config_cli_new();
	if (app.cli == NULL) {
		complain_stderr("out of memory");
		return EXIT_BAD;
	}
	if (parse_command_line(&app, argc, argv) == 0)
		code = run(&app);
	config_cli_free(app.cli);
	strlist_done(&app.only);
	free(app.config_path);
	return code;
}
