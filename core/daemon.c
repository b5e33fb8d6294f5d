/* The daemon's life: start, signals, reload, stop. */
#include "core/daemon.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/daemon_private.h"
#include "core/fsutil.h"
#include "core/log.h"
#include "core/log_ids.h"
#include "core/proc.h"
#include "core/progress.h"
#include "core/runtime_dir.h"

#define EXIT_BAD 255
#define STATUS_BYTES_MAX (64u * 1024 * 1024)
/* What a partly watched source gets when reconcileInterval is not set. */
#define PARTIAL_INTERVAL_NS (600 * NS_PER_S)
/* A round of polls may make more work due (a slot was given back); a bound, so that the kernel's queues are read. */
#define POLL_ROUNDS 8

struct member *daemon_member(struct daemon *d, const char *name)
{
	for (size_t i = 0; i < d->n_members; i++)
		if (strcmp(sync_options_of(d->members[i]->sync)->name, name) == 0)
			return d->members[i];
	return NULL;
}

/* ---- what syncs need ---- */

static int env_config_text(void *ctx, const struct sync_options *opt, uint16_t tunnel_port, struct buf *out)
{
	const struct daemon *d = ctx;

	return d->deps->text_of(d->config, (size_t)(opt - d->config->syncs), tunnel_port, out);
}

static uint64_t env_drain(void *ctx)
{
	struct daemon *d = ctx;
	struct err err = ERR_INIT;
	uint64_t ticket = 0;

	/* Once we stop nothing is done with what is recorded, and the next start compares. */
	if (d->watchers != NULL && !d->stopping && watcher_drain_begin(d->watchers, &ticket, &err) < 0)
		log_error("cannot read the kernel's events: %s", err.text);
	return ticket;
}

static bool env_drained(void *ctx, uint64_t ticket)
{
	const struct daemon *d = ctx;

	return d->watchers == NULL || d->stopping || watcher_drained(d->watchers, ticket);
}

/* A large file has its slot for long: one of them is kept for what is small. */
static bool env_slot_take(void *ctx, bool large)
{
	struct daemon *d = ctx;
	int64_t max = d->config->settings.max_processes;

	if (max > 0 && (d->slots_used >= (size_t)max || (large && d->slots_large + 1 >= (size_t)max)))
		return false;
	d->slots_used++;
	d->slots_large += large;
	d->slot_taken = true;
	return true;
}

static void env_slot_give(void *ctx, bool large)
{
	struct daemon *d = ctx;

	d->slots_used--;
	d->slots_large -= large;
	d->poll_all = true;
}

static bool env_slots_for_large(void *ctx)
{
	return ((struct daemon *)ctx)->config->settings.max_processes != 1;
}

static void env_changed(void *ctx)
{
	((struct daemon *)ctx)->poll_all = true;
}

/* ---- members ---- */

static int64_t interval_of(const struct member *m)
{
	int64_t interval = sync_options_of(m->sync)->reconcile_interval_ns;

	return interval > 0 ? interval : m->source->why != NULL && m->source->watched != NULL ? PARTIAL_INTERVAL_NS : 0;
}

/* reconcileInterval, and what stands in for watches that could not be set. */
static void on_interval(void *ctx)
{
	struct member *m = ctx;
	struct daemon *d = m->source->daemon;

	if (m->running && interval_of(m) > 0) {
		sync_reconcile(m->sync, "interval", false, false, d->generation);
		d->poll_all = true;
	}
	loop_timer_after(m->interval, interval_of(m) > 0 ? interval_of(m) : PARTIAL_INTERVAL_NS);
}

static void member_free(struct member *m)
{
	if (m == NULL)
		return;
	sync_free(m->sync);
	if (m->interval != NULL)
		loop_timer_remove(m->interval);
	if (m->lock_fd >= 0)
		(void)close(m->lock_fd);
	guards_done(m);
	free(m->schedules);
	free(m);
}

static struct member *member_new(struct daemon *d, const struct sync_options *opt, struct err *err)
{
	struct member *m = calloc(1, sizeof(*m));

	if (m == NULL) {
		err_set(err, ERR_NOMEM, "out of memory");
		return NULL;
	}
	m->lock_fd = -1;
	m->accept = d->options->once && d->options->allow_delete;
	m->source = sources_get(d, opt->source);
	if (m->source != NULL)
		m->sync = sync_new(&d->env, opt, err);
	m->interval = loop_timer_add(d->loop, on_interval, m, err);
	if (m->sync == NULL || m->interval == NULL || schedules_read(m, err) < 0) {
		if (err->class == ERR_NONE)
			err_set(err, ERR_NOMEM, "out of memory");
		member_free(m);
		return NULL;
	}
	loop_timer_after(m->interval, interval_of(m) > 0 ? interval_of(m) : PARTIAL_INTERVAL_NS);
	return m;
}

static int make_members(struct daemon *d, struct err *err)
{
	d->members = calloc(d->config->n_syncs + 1, sizeof(struct member *));
	if (d->members == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	for (size_t i = 0; i < d->config->n_syncs; i++) {
		const struct strlist *only = d->options->once ? d->options->only : NULL;
		bool chosen = only == NULL || only->n == 0;

		for (size_t k = 0; !chosen && k < only->n; k++)
			chosen = strcmp(only->v[k], d->config->syncs[i].name) == 0;
		if (!chosen)
			continue;
		d->members[d->n_members] = member_new(d, &d->config->syncs[i], err);
		if (d->members[d->n_members] == NULL)
			return -1;
		d->n_members++;
	}
	return 0;
}

/* ---- status file, service manager ---- */

static void write_status_file(struct daemon *d)
{
	const char *path = d->config->settings.status_file;
	struct err err = ERR_INIT;
	struct buf text;

	if (path == NULL || d->options->once)
		return;
	buf_init(&text, STATUS_BYTES_MAX);
	if (!status_text(d, &text))
		log_error("status file: out of memory");
	else if (atomic_write(path, text.data, text.len, 0644, 0, &err) < 0)
		log_error("status file: %s", err.text);
	else
		log_debug(LOG_CAT_STATUS, "status file %s written", path);
	buf_done(&text);
}

static void on_status(void *ctx)
{
	struct daemon *d = ctx;
	int64_t interval = d->config->settings.status_interval_ns;
	char line[200];

	status_sample_rates(d);
	write_status_file(d);
	status_line(d, line, sizeof(line));
	(void)notify_status(&d->notify, line, NULL); /* a manager that does not listen is its own affair */
	loop_timer_after(d->status_timer, interval < NS_PER_S ? NS_PER_S : interval);
}

static void on_watchdog(void *ctx)
{
	struct daemon *d = ctx;

	(void)notify_watchdog(&d->notify, NULL); /* dropped ones are made up for by the next */
	loop_timer_after(d->watchdog_timer, notify_watchdog_interval_ns(&d->notify));
}

/* ---- stop ---- */

void daemon_stop(struct daemon *d, int exit_code)
{
	if (d->stopping)
		return;
	d->stopping = true;
	d->exit_code = exit_code;
	d->poll_all = true;
	(void)notify_stopping(&d->notify, NULL);
	barriers_end(d);
	for (size_t i = 0; i < d->n_members; i++)
		sync_stop(d->members[i]->sync);
	loop_timer_after(d->stop_timer, d->config->settings.stop_timeout_ns);
}

static bool is_busy(const struct daemon *d)
{
	for (size_t i = 0; i < d->n_members; i++)
		if (sync_busy(d->members[i]->sync) || sync_hooks_run(d->members[i]->sync))
			return true;
	return false;
}

static void on_stop_deadline(void *ctx)
{
	struct daemon *d = ctx;

	if (is_busy(d))
		log_warn("a batch in flight did not end in time: it is abandoned, and compared at the next start");
	loop_stop(d->loop, d->exit_code);
}

static void check_stop(struct daemon *d)
{
	if (!d->stopping || is_busy(d))
		return;
	for (size_t i = 0; i < d->n_members; i++)
		sync_end_tunnel(d->members[i]->sync);
	if (tunnels_run(d->tunnels))
		return;
	loop_stop(d->loop, d->exit_code);
}

/* lsyncd's rule: without `insist`, a target that can't be reached at the start ends the daemon, and so does a veto.
 * What a reload adds is no reason to end the syncs that work. */
static void check_insist(struct daemon *d)
{
	if (d->config->settings.insist || d->reloaded || d->stopping || d->options->once)
		return;
	for (size_t i = 0; i < d->n_members; i++) {
		struct sync_snapshot s;

		sync_snapshot(d->members[i]->sync, &s);
		if ((s.state != SYNC_DOWN && s.state != SYNC_STOPPED && s.state != SYNC_VETOED) || s.first_done)
			continue;
		log_error("%s: the first comparison failed, and insist is off: stopping", s.opt->name);
		daemon_stop(d, EXIT_BAD);
		return;
	}
}

/* ---- our own files ---- */

static void forget_own_paths(struct daemon *d)
{
	for (size_t i = 0; i < sizeof(d->own_paths) / sizeof(d->own_paths[0]); i++) {
		free(d->own_paths[i]);
		d->own_paths[i] = NULL;
	}
}

/* The watchers keep the array, not what was in it. Without memory a path is left out: that costs work, nothing else. */
static void note_own_paths(struct daemon *d)
{
	const struct settings *s = &d->config->settings;
	const char *const paths[] = { s->logfile, s->status_file, s->pidfile, s->control_socket, d->state_dir };
	size_t n = 0;

	forget_own_paths(d);
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (paths[i] != NULL && (d->own_paths[n] = strdup(paths[i])) != NULL)
			n++;
}

/* ---- reload ---- */

static struct member *take_equal(struct daemon *d, const struct sync_options *opt)
{
	for (size_t i = 0; i < d->n_members; i++) {
		struct member *m = d->members[i];

		if (m == NULL || strcmp(sync_options_of(m->sync)->name, opt->name) != 0)
			continue;
		if (!d->deps->same_sync(sync_options_of(m->sync), opt))
			return NULL;
		d->members[i] = NULL;
		sync_rebind(m->sync, opt);
		return m;
	}
	return NULL;
}

/* Undisturbed syncs go on; the others end first, so that a changed one finds its lock free. */
static void exchange_members(struct daemon *d, struct config *config)
{
	struct member **members = calloc(config->n_syncs + 1, sizeof(struct member *));
	size_t n = 0;

	if (members == NULL) {
		log_error("reload: out of memory: the old configuration stays");
		d->deps->unload(config);
		return;
	}
	for (size_t i = 0; i < config->n_syncs; i++)
		members[i] = take_equal(d, &config->syncs[i]);
	for (size_t i = 0; i < d->n_members; i++) {
		if (d->members[i] != NULL)
			log_normal("reload: %s ends", sync_options_of(d->members[i]->sync)->name);
		member_free(d->members[i]);
	}
	free(d->members);
	d->n_members = 0;
	d->members = members;
	d->deps->unload(d->config);
	d->config = config;
	for (size_t i = 0; i < config->n_syncs; i++) {
		struct err err = ERR_INIT;
		struct member *m = members[i];

		if (m == NULL) {
			m = member_new(d, &config->syncs[i], &err);
			log_normal("reload: %s begins", config->syncs[i].name);
		}
		if (m == NULL)
			log_error("reload: %s: %s", config->syncs[i].name, err.text);
		else
			members[n++] = m;
	}
	d->n_members = n;
}

static bool same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void move_control_socket(struct daemon *d, const char *old)
{
	const char *path = d->config->settings.control_socket;
	struct err err = ERR_INIT;
	struct control_server *server;

	if (same_text(old, path))
		return;
	server = control_server_new(d->loop, path, requests_handle, d, &err);
	if (server == NULL) {
		log_error("reload: controlSocket stays as it was: %s", err.text);
		return;
	}
	control_server_free(d->control);
	d->control = server;
}

static void reload(struct daemon *d)
{
	struct config *config;
	struct err err = ERR_INIT;
	bool receiver_changed, metrics_changed;
	char *socket;

	d->reload = false;
	(void)notify_reloading(&d->notify, NULL);
	log_normal("reload: reading %s", d->config->path == NULL ? "the command line" : d->config->path);
	config = d->deps->load(d->deps->ctx);
	if (config == NULL) {
		log_event(&(const struct log_fields){ .message_id = LOG_ID_REFUSED }, LOG_CAT_ERROR,
			  "reload: the configuration has errors: the old one stays");
		(void)notify_ready(&d->notify, NULL, NULL);
		return;
	}
	if (!same_text(config->settings.state_dir, d->config->settings.state_dir) ||
	    !same_text(config->settings.pidfile, d->config->settings.pidfile) ||
	    config->settings.fanotify_queue != d->config->settings.fanotify_queue ||
	    config->settings.watcher_interval_ns != d->config->settings.watcher_interval_ns)
		log_warn("reload: stateDir, pidfile, fanotifyQueue and watcherInterval change at the next start only");
	receiver_changed = !d->deps->same_receiver(config->receiver, d->config->receiver);
	metrics_changed = !d->deps->same_metrics(config->metrics, d->config->metrics);
	socket = d->config->settings.control_socket == NULL ? NULL : strdup(d->config->settings.control_socket);
	exchange_members(d, config);
	d->reloaded = true;
	if (d->deps->open_log(d->deps->ctx, &d->config->settings, &err) < 0)
		log_error("reload: the log stays where it was: %s", err.text);
	for (size_t i = 0; i < d->n_members; i++)
		sync_set_log_mask(d->members[i]->sync, log_mask());
	if (d->config == config) {
		receiver_reload(d, receiver_changed);
		metrics_reload(d, metrics_changed);
	}
	move_control_socket(d, socket);
	free(socket);
	note_own_paths(d);
	sources_rewatch(d);
	sources_prune(d);
	for (struct source *s = d->sources; s != NULL; s = s->next)
		s->retry_ns = 0;
	schedules_poll(d);
	d->poll_all = true;
	log_event(&(const struct log_fields){ .message_id = LOG_ID_RELOADED }, LOG_CAT_NORMAL,
		  "reload: done, %zu sync%s%s", d->n_members, d->n_members == 1 ? "" : "s",
		  d->config->receiver == NULL ? "" : " and a receiver");
	(void)notify_ready(&d->notify, NULL, NULL);
}

/* ---- the loop ---- */

static void on_signal(void *ctx, int signo)
{
	struct daemon *d = ctx;
	struct err err = ERR_INIT;

	switch (signo) {
	case SIGHUP:
		d->reload = !d->options->once;
		break;
	case SIGUSR1:
		if (log_reopen(&err) < 0)
			log_error("cannot reopen the log: %s", err.text);
		else
			log_normal("log reopened");
		break;
	default:
		if (d->stopping) {
			log_normal("received signal %d (%s) once more: not waiting any longer", signo,
				   strsignal(signo));
			loop_stop(d->loop, d->exit_code);
			break;
		}
		log_event(&(const struct log_fields){ .message_id = LOG_ID_STOPPING }, LOG_CAT_NORMAL,
			  "received signal %d (%s): stopping", signo, strsignal(signo));
		/* Interrupted, a comparison has not made the targets equal. */
		daemon_stop(d, d->options->once ? 128 + signo : 0);
		break;
	}
}

/* Who got a slot comes last the next time: a sync that is always busy must not keep the others from maxProcesses. */
static void poll_syncs(struct daemon *d)
{
	size_t first = d->poll_first, n = d->n_members;

	for (size_t i = 0; i < n; i++) {
		size_t at = (first + i) % n;

		d->slot_taken = false;
		sync_poll(d->members[at]->sync);
		if (d->slot_taken)
			d->poll_first = at + 1;
	}
}

static void before_wait(void *ctx)
{
	struct daemon *d = ctx;

	if (d->reload && !d->stopping)
		reload(d);
	if (!d->stopping)
		sources_poll(d);
	receiver_poll(d);
	metrics_poll(d);
	if (d->watchers != NULL && watcher_turn(d->watchers))
		d->poll_all = true;
	for (int round = 0; d->poll_all && round < POLL_ROUNDS; round++) {
		d->poll_all = false;
		poll_syncs(d);
		check_insist(d);
		barriers_poll(d);
	}
	if (d->poll_all)
		loop_timer_after(d->retry_timer, 0);
	check_stop(d);
}

static void on_retry(void *ctx)
{
	(void)ctx; /* before_wait does the work */
}

/* ---- `once` ---- */

struct own_output {
	struct daemon *daemon;
	struct progress *progress; /* NULL: quiet */
};

static void write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n <= 0)
			return; /* nobody reads any more: the exit code tells */
		data += n;
		len -= (size_t)n;
	}
}

static void own_out(void *ctx, const char *data, size_t len)
{
	progress_clear(((struct own_output *)ctx)->progress);
	write_all(STDOUT_FILENO, data, len);
}

static void own_err(void *ctx, const char *data, size_t len)
{
	progress_clear(((struct own_output *)ctx)->progress);
	write_all(STDERR_FILENO, data, len);
}

static void own_progress(void *ctx, const char *data, size_t len)
{
	progress_update(((struct own_output *)ctx)->progress, data, len, clock_mono_ns());
}

static void own_exit(void *ctx, int code)
{
	daemon_stop(((struct own_output *)ctx)->daemon, code);
}

static int start_once(struct daemon *d, struct own_output *output, struct err *err)
{
	const struct daemon_options *o = d->options;
	struct sink sink = { own_out, own_err, own_progress, own_exit, output };
	struct barrier_request rq = { .sync_now = true, .quiet = o->quiet, .json = o->json, .timeout_ns = -1 };

	if (o->only != NULL) {
		rq.only = (const char *const *)o->only->v;
		rq.n_only = o->only->n;
	}
	if (!o->quiet && !o->json)
		output->progress = progress_new(STDERR_FILENO);
	if (output->progress == NULL)
		sink.progress = NULL;
	output->daemon = d;
	sources_poll(d);
	return barrier_new(d, &rq, &sink) == NULL && !d->stopping ? err_set(err, ERR_NOMEM, "out of memory") : 0;
}

/* ---- start and end ---- */

static int open_watchers(struct daemon *d, struct err *err)
{
	const struct settings *s = &d->config->settings;
	struct watcher_callbacks callbacks = {
		.record = sources_on_record, .state = sources_on_state, .changed = sources_on_changed, .ctx = d
	};
	struct watcher_settings settings = {
		.own_paths = (const char *const *)d->own_paths,
		.fanotify_queue = (uint32_t)s->fanotify_queue,
		.hide_fan_rename = s->hide_fan_rename,
		.interval_ns = s->watcher_interval_ns,
	};

	note_own_paths(d);
	d->watchers = watcher_set_new(d->loop, &settings, &callbacks, err);
	return d->watchers == NULL ? -1 : 0;
}

static int add_timers(struct daemon *d, struct err *err)
{
	d->retry_timer = loop_timer_add(d->loop, on_retry, d, err);
	d->status_timer = loop_timer_add(d->loop, on_status, d, err);
	d->watchdog_timer = loop_timer_add(d->loop, on_watchdog, d, err);
	d->stop_timer = loop_timer_add(d->loop, on_stop_deadline, d, err);
	return d->retry_timer == NULL || d->status_timer == NULL || d->watchdog_timer == NULL || d->stop_timer == NULL
		       ? -1
		       : 0;
}

static int add_signals(struct daemon *d, struct err *err)
{
	static const int handled[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1 };

	(void)signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < sizeof(handled) / sizeof(handled[0]); i++)
		if (loop_signal(d->loop, handled[i], on_signal, d, err) < 0)
			return -1;
	return 0;
}

/* What `once` does without: it is not there to be asked, and watches nothing. */
static int set_up_service(struct daemon *d, struct err *err)
{
	const struct settings *s = &d->config->settings;

	if (s->pidfile != NULL &&
	    (pidfile_open(&d->pidfile, s->pidfile, err) < 0 || pidfile_write(&d->pidfile, err) < 0))
		return -1;
	d->control = control_server_new(d->loop, s->control_socket, requests_handle, d, err);
	if (d->control == NULL || schedules_open(d, err) < 0)
		return -1;
	return open_watchers(d, err);
}

static int set_up(struct daemon *d, struct err *err)
{
	proc_allow_files();
	d->loop = loop_new(err);
	if (d->loop == NULL || add_signals(d, err) < 0 || add_timers(d, err) < 0)
		return -1;
	if (mkdir_private(d->config->settings.state_dir, err) < 0)
		return -1;
	d->state_dir = strdup(d->config->settings.state_dir);
	if (d->state_dir == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	d->runtime_root = runtime_dir_make(err);
	if (d->runtime_root == NULL)
		return -1;
	if (!d->options->once && set_up_service(d, err) < 0)
		return -1;
	d->tunnels = tunnels_new(d->loop, err);
	if (d->tunnels == NULL)
		return -1;
	d->env = (struct sync_env){
		.loop = d->loop,
		.tunnels = d->tunnels,
		.runtime_root = d->runtime_root,
		.state_dir = d->state_dir,
		.config_text = env_config_text,
		.guard_text = guards_text,
		.guard_learned = guards_learned,
		.drain = env_drain,
		.drained = env_drained,
		.slot_take = env_slot_take,
		.slot_give = env_slot_give,
		.slots_for_large = env_slots_for_large,
		.linked = sources_on_linked,
		.changed = env_changed,
		.ctx = d,
	};
	if (host_id_get(d->state_dir, d->env.host_id, err) < 0)
		return -1;
	if (make_members(d, err) < 0 ||
	    (!d->options->once && (receiver_start(d, err) < 0 || metrics_start(d, err) < 0)))
		return -1;
	loop_before_wait(d->loop, before_wait, d);
	return 0;
}

static void tear_down(struct daemon *d)
{
	struct err err = ERR_INIT;

	barriers_end(d);
	receiver_end(d);
	metrics_end(d);
	control_server_free(d->control);
	schedules_close(d);
	for (size_t i = 0; i < d->n_members; i++)
		member_free(d->members[i]);
	free(d->members);
	tunnels_free(d->tunnels);
	sources_free_all(d);
	if (d->watchers != NULL)
		watcher_set_free(d->watchers);
	if (d->loop != NULL)
		loop_free(d->loop);
	if (d->runtime_root != NULL && remove_tree(d->runtime_root, &err) < 0)
		log_warn("%s", err.text);
	free(d->runtime_root);
	forget_own_paths(d);
	free(d->state_dir);
	pidfile_remove(&d->pidfile);
	d->deps->unload(d->config);
}

/* Everything is watched from here on: say so to who started us. */
static int announce(struct daemon *d, struct err *err)
{
	sources_poll(d);
	if (d->stopping)
		return 0; /* the reason was logged; whoever started us gets the exit code */
	schedules_poll(d);
	if (d->options->daemonize != NULL && daemonize_ready(d->options->daemonize, err) < 0)
		return -1;
	(void)notify_ready(&d->notify, NULL, NULL);
	on_status(d);
	if (notify_watchdog_interval_ns(&d->notify) > 0)
		on_watchdog(d);
	log_event(&(const struct log_fields){ .message_id = LOG_ID_STARTED }, LOG_CAT_NORMAL,
		  "fansyncd %s: %zu sync%s%s", FANSYNCD_VERSION, d->n_members, d->n_members == 1 ? "" : "s",
		  d->config->receiver == NULL ? "" : " and a receiver");
	return 0;
}

/* Whoever typed the command looks at the terminal, not at the log. */
static void complain(const struct daemon_options *o, const char *what, const char *why)
{
	log_error("%s%s", what, why);
	if (o->once || (o->daemonize != NULL && o->daemonize->ready_fd >= 0))
		(void)fprintf(stderr, "fansyncd: %s%s\n", what, why);
}

int daemon_run(struct config *config, const struct daemon_deps *deps, const struct daemon_options *options)
{
	struct daemon d = {
		.deps = deps,
		.options = options,
		.config = config,
		.generation = 1,
		.pidfile = PIDFILE_INIT,
		.schedule_fd = -1,
		.started_real_ns = clock_real_ns(),
		.poll_all = true,
	};
	struct own_output output = { 0 };
	struct err err = ERR_INIT;
	int result = EXIT_BAD;

	d.notify = notify_init();
	if (set_up(&d, &err) < 0 || (options->once ? start_once(&d, &output, &err) : announce(&d, &err)) < 0)
		complain(options, "cannot start: ", err.text);
	else
		result = loop_run(d.loop, &err);
	if (result < 0) {
		complain(options, "", err.text);
		result = EXIT_BAD;
	}
	write_status_file(&d);
	progress_clear(output.progress);
	tear_down(&d);
	progress_free(output.progress);
	return result;
}
