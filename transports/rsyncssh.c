/*
 * rsyncssh.c - the transport "rsyncssh": rsync over ssh, with one ssh connection for everything.
 *
 * A master connection is made with the first work and kept. A shell on it carries the renames, so that a moved
 * directory is not sent again; the rsync processes go through it and need no handshake of their own. Where there is
 * no shell (a forced command), renames become reconciles and rsync connects by itself.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/confine.h"
#include "core/guard_switches.h"
#include "core/log.h"
#include "core/path.h"
#include "core/transport.h"
#include "transports/remote_shell.h"
#include "transports/rsync_session.h"
#include "transports/rsyncssh_exam.h"
#include "transports/rsyncssh_remote.h"
#include "transports/rsyncssh_shell.h"
#include "transports/rsyncssh_twoway.h"
#include "transports/ssh_target.h"

/* What a worker sends ahead of the replies. */
#define AHEAD_CALLS 512u
#define AHEAD_BYTES (1024u * 1024)
#define CALL_MAX (10 * PATH_BYTES_MAX)
/* What a list of the target's files may take. */
#define COLLECT_MAX (256u * 1024 * 1024)
/* A socket's path, less what ssh appends while it makes it. */
#define CONTROL_MAX 88

/* In the memory of all sessions: the log has been told that there is no shell. */
#define NO_SHELL_TOLD 1u

/* How the renames travel, and rsync with them. */
enum way {
	WAY_SHELL = 0,
	WAY_OWN, /* no shell: found out, or the administrator gave rsync.rsh */
};

/* Questions asked once a connection, in this order; then come renames. */
enum question { ASK_HOME = 0, ASK_RSYNC, QUESTIONS };

struct ssh_target {
	const struct transport_env *env;
	struct rsync_session *session;
	struct remote_shell *shell;
	enum way way;
	char control[CONTROL_MAX + 1], control_option[2 * CONTROL_MAX + 1];
	char *host;	  /* as ssh wants it: no brackets */
	char *dir;	  /* the target directory as a remote command names it */
	char *full;	  /* the same from the root, once known */
	char *dest;	  /* as rsync wants it */
	char *rsh;	  /* rsync's -e, through the master */
	char *rsync_path; /* NULL: rsync's default */
	unsigned questions;
	/* The work that waits for its renames. */
	const struct transport_work *work;
	size_t asked, answered;
	bool marker_asked; /* requireTargetMarker: its answer is due */
	/* Bidirectional: the work that waits for its beginning is `work`. */
	struct twoway *two;
	struct loop_timer *timer;
	bool two_reconcile;
	char *shell_text; /* the prelude */
	enum twoway_lane lane;
	char *backup_dir, *temp_dir, *stage_dest, *stage_full; /* the last one once it is known */
};

/* ---- validate ---- */

/* It is read by the login shell, whatever that is: only words that mean themselves in each. */
static int check_prefix(const struct strlist *prefix, struct err *err)
{
	for (size_t i = 0; i < prefix->n; i++) {
		const char *word = prefix->v[i];

		if (word[0] == '\0' || (i == 0 && word[0] == '-'))
			return err_set(err, ERR_CONFIG, "ssh.remotePrefix: \"%s\" is no command", word);
		for (const char *p = word; *p != '\0'; p++)
			if (!isalnum((unsigned char)*p) && strchr("_./=:,@%+-", *p) == NULL)
				return err_set(
					err, ERR_CONFIG,
					"ssh.remotePrefix: \"%s\": only letters, digits and _./=:,@%%+- are allowed",
					word);
	}
	return 0;
}

static int validate(struct sync_options *opt, struct err *err)
{
	if (opt->rsync.password_file != NULL)
		return err_set(err, ERR_CONFIG,
			       "rsync.password_file is for an rsync daemon: log in with a key (ssh.identityFile)");
	if (check_prefix(&opt->ssh.remote_prefix, err) < 0 || twoway_validate(opt, err) < 0)
		return -1;
	return ssh_target_validate(opt, err);
}

/* ---- command lines ---- */

static bool add_ssh(struct arglist *a, const struct ssh_target *t, bool master)
{
	const struct ssh_options *o = &t->env->opt->ssh;

	(void)arglist_add(a, o->binary);
	(void)arglist_printf(a, "-oControlMaster=%s", master ? "yes" : "no");
	(void)arglist_printf(a, "-oControlPath=%s", t->control_option);
	(void)arglist_add(a, "-oControlPersist=no");
	return ssh_target_add_options(a, o);
}

/* Plain words: csh, fish and every other login shell read them alike. */
static bool add_command(struct arglist *a, const struct ssh_target *t)
{
	const struct strlist *prefix = &t->env->opt->ssh.remote_prefix;

	(void)arglist_add(a, "--");
	(void)arglist_add(a, t->host);
	(void)arglist_add(a, "exec");
	for (size_t i = 0; i < prefix->n; i++)
		(void)arglist_add(a, prefix->v[i]);
	return arglist_add(a, "/bin/sh");
}

static char *make_rsh(const struct ssh_target *t)
{
	struct arglist a = { 0 };
	char *text = add_ssh(&a, t, false) ? rsync_args_rsh(&a) : NULL;

	arglist_done(&a);
	return text;
}

static char *make_dest(const struct sync_options *opt, bool whole)
{
	struct buf text;

	buf_init(&text, 2 * PATH_BYTES_MAX);
	if (whole) {
		(void)ssh_target_add_host(&text, opt->host);
		(void)buf_add_byte(&text, ':');
	}
	(void)ssh_target_add_dir(&text, opt->targetdir);
	if (whole)
		(void)buf_add_byte(&text, '/');
	return buf_take_str(&text);
}

/* ---- the endpoint ---- */

static struct rsync_endpoint endpoint(const struct ssh_target *t)
{
	const char *rsh = t->env->opt->rsync.rsh;

	bool staged = t->lane == TWOWAY_STAGED;

	return (struct rsync_endpoint){ .kind = RSYNC_SHELL,
					.dest = staged ? t->stage_dest : t->dest,
					.dir = staged ? t->stage_full : t->full,
					.rsh = rsh != NULL ? rsh : t->rsh,
					.rsync_path = t->rsync_path,
					.own_connection = t->way == WAY_OWN,
					.backup_dir = staged ? NULL : t->backup_dir,
					.temp_dir = t->lane == TWOWAY_DIRECT ? t->temp_dir : NULL,
					.copy_dir = staged ? "../.." : NULL };
}

static void use_endpoint(struct ssh_target *t)
{
	struct rsync_endpoint to = endpoint(t);

	rsync_session_endpoint(t->session, &to);
}

static void drop_shell(struct ssh_target *t)
{
	remote_shell_close(t->shell);
	t->shell = NULL;
	(void)unlink(t->control);
}

/* ---- renames ---- */

static void rename_degrades(struct ssh_target *t, const char *why)
{
	struct err err = ERR_INIT;

	err_set(&err, ERR_CONFIG, "not renamed at the target: %s", why);
	for (; t->answered < t->work->n_renames; t->answered++)
		t->env->settle_rename(t->env->ctx, t->answered, VERDICT_RECONCILE, &err);
}

static void go_on(struct ssh_target *t)
{
	t->work = NULL;
	rsync_session_go_on(t->session);
}

static bool send_rename(struct ssh_target *t, const struct batch_rename *r)
{
	struct buf command;
	bool ok;

	buf_init(&command, CALL_MAX);
	(void)buf_add_str(&command, "fs_rename ");
	(void)remote_quote(&command, r->from, r->from_len);
	(void)buf_add_byte(&command, ' ');
	ok = remote_quote(&command, r->to, r->to_len) && remote_shell_call(t->shell, command.data, command.len);
	buf_done(&command);
	return ok;
}

static void shell_failed(struct ssh_target *t)
{
	struct err err = ERR_INIT;

	err_set(&err, ERR_NETWORK, "ssh to %s: the connection is not usable any more, or there is no memory for it",
		t->host);
	t->work = NULL;
	drop_shell(t);
	rsync_session_down(t->session, &err);
}

static void ask_marker(struct ssh_target *t)
{
	const char *marker = t->env->opt->require_target_marker;
	struct buf command;
	bool ok;

	buf_init(&command, CALL_MAX);
	(void)buf_add_str(&command, "[ -e \"$fs_dir\"/");
	(void)remote_quote(&command, marker, strlen(marker));
	ok = buf_add_str(&command, " ]") && remote_shell_call(t->shell, command.data, command.len);
	buf_done(&command);
	t->marker_asked = ok;
	if (!ok)
		shell_failed(t);
}

static void carry_renames(struct ssh_target *t);
static void begin_two(struct ssh_target *t);

static void marker_answered(struct ssh_target *t, int status)
{
	t->marker_asked = false;
	if (status == 0 && t->two != NULL) {
		begin_two(t);
	} else if (status == 0) {
		rsync_session_marker_seen(t->session);
		carry_renames(t);
	} else {
		t->work = NULL;
		rsync_session_no_marker(t->session, "");
	}
}

/* Many renames cost one round trip: they are sent without waiting for the replies, up to a bound. */
static void carry_renames(struct ssh_target *t)
{
	const struct transport_work *w = t->work;

	if (rsync_session_needs_marker(t->session)) {
		ask_marker(t);
		return;
	}
	if (t->env->opt->rsync.dry_run)
		rename_degrades(t, "rsync.dry_run is set");
	while (t->asked < w->n_renames && t->answered < w->n_renames && t->asked - t->answered < AHEAD_CALLS &&
	       remote_shell_queued(t->shell) < AHEAD_BYTES) {
		if (!send_rename(t, &w->renames[t->asked])) {
			shell_failed(t);
			return;
		}
		t->asked++;
	}
	if (t->answered == w->n_renames)
		go_on(t);
}

static void rename_answered(struct ssh_target *t, int status, const char *said, size_t len)
{
	const struct batch_rename *r = &t->work->renames[t->answered];
	const struct transport_progress p = { .phase = "renaming", .path = r->to, .path_len = r->to_len };
	struct err err = ERR_INIT;

	if (status == 0) {
		t->env->counters->renames_carried++;
		t->env->settle_rename(t->env->ctx, t->answered++, VERDICT_DONE, NULL);
	} else {
		err_set(&err, ERR_IO, "not renamed at the target: %.*s", (int)(len < 400 ? len : 400), said);
		err.code = status;
		t->env->settle_rename(t->env->ctx, t->answered++, VERDICT_RECONCILE, &err);
	}
	t->env->progress(t->env->ctx, &p);
	carry_renames(t);
}

/* ---- the connection ---- */

/* rsync's messages name paths from the root: a relative target needs the home directory. */
static void learn_home(struct ssh_target *t, int status, const char *said, size_t len)
{
	char *full = NULL;

	if (t->dir[0] != '.' || t->full != NULL || status != 0 || len == 0 || len >= REMOTE_SAID_MAX || said[0] != '/')
		return;
	if (asprintf(&full, "%.*s%s", (int)len, said, t->dir + 1) < 0)
		return;
	t->full = full;
	use_endpoint(t);
}

/* "rsync  version 3.2.7  protocol version 31" */
static void learn_version(struct ssh_target *t, const char *said, size_t len)
{
	char line[128];
	unsigned major, minor, patch;
	const char *at;

	(void)snprintf(line, sizeof(line), "%.*s", (int)(len < sizeof(line) ? len : sizeof(line) - 1), said);
	at = strstr(line, "version ");
	if (at == NULL)
		return;
	patch = 0;
	/* NOLINTNEXTLINE(cert-err34-c): of a line of 128 bytes; more digits than asked for are not read */
	if (sscanf(at, "version %2u.%2u.%2u", &major, &minor, &patch) >= 2)
		rsync_session_peer(t->session, major * 10000 + minor * 100 + patch);
}

/* ---- bidirectional ---- */

static void begin_two(struct ssh_target *t)
{
	const struct transport_work *work = t->work;

	t->work = NULL;
	if (work != NULL)
		twoway_begin(t->two, work, t->two_reconcile);
}

/* The marker comes before anything else is looked at. */
static void start_two(struct ssh_target *t)
{
	if (GUARD_TARGET_MARKER && t->work != NULL && !t->work->unguarded && t->env->opt->require_target_marker != NULL)
		ask_marker(t);
	else
		begin_two(t);
}

static bool two_call(void *ctx, const char *command, size_t len)
{
	struct ssh_target *t = ctx;

	return remote_shell_call(t->shell, command, len);
}

static bool two_room(void *ctx)
{
	const struct ssh_target *t = ctx;

	return remote_shell_queued(t->shell) < AHEAD_BYTES;
}

static int two_send(void *ctx, const struct transport_work *work, enum twoway_lane lane, struct err *err)
{
	struct ssh_target *t = ctx;

	t->lane = lane;
	if (lane == TWOWAY_STAGED && t->stage_full == NULL && t->full != NULL &&
	    asprintf(&t->stage_full, "%s/%s/s", t->full, twoway_private(t->two)) < 0)
		t->stage_full = NULL;
	use_endpoint(t);
	return rsync_session_start(t->session, work, false, err);
}

static void two_down(void *ctx, const struct err *why)
{
	struct ssh_target *t = ctx;

	rsync_session_down(t->session, why);
}

static void on_reply(void *ctx, int status, const char *said, size_t len)
{
	struct ssh_target *t = ctx;

	if (t->questions >= QUESTIONS && t->two != NULL && !t->marker_asked) {
		twoway_reply(t->two, status, said, len, remote_shell_data(t->shell));
		return;
	}
	if (t->questions >= QUESTIONS) {
		if (t->work != NULL && t->marker_asked)
			marker_answered(t, status);
		else if (t->work != NULL)
			rename_answered(t, status, said, len);
		return;
	}
	if (t->questions++ == ASK_HOME) {
		learn_home(t, status, said, len);
		return;
	}
	learn_version(t, said, len);
	if (t->two != NULL)
		start_two(t);
	else if (t->work != NULL)
		carry_renames(t);
}

static void on_ready(void *ctx)
{
	struct ssh_target *t = ctx;
	const struct rsync_options *o = &t->env->opt->rsync;
	struct buf command;
	bool ok;

	t->env->counters->handshakes++;
	t->questions = 0;
	if (t->two != NULL)
		twoway_connected(t->two);
	log_info("connected to %s", t->host);
	buf_init(&command, CALL_MAX);
	(void)buf_add_str(&command, "fs_dir=");
	(void)remote_quote(&command, t->dir, strlen(t->dir));
	/* What would be replaced has to be backed up, or may be newer: that is for rsync to decide. */
	(void)buf_printf(&command, "; fs_keep=%s; pwd -P",
			 o->backup || o->update || t->env->opt->backup_dir != NULL ? "1" : "");
	ok = !command.failed && remote_shell_call(t->shell, command.data, command.len);
	buf_clear(&command);
	/* rsync_path may be any text for a shell: to one of its own, so that it can't end ours. */
	(void)buf_add_str(&command, "/bin/sh -c ");
	(void)remote_quote(&command, t->rsync_path, strlen(t->rsync_path));
	(void)buf_add_str(&command, "' --version'");
	ok = ok && !command.failed && remote_shell_call(t->shell, command.data, command.len);
	buf_done(&command);
	if (!ok)
		shell_failed(t);
}

/* No shell: what is left is rsync, which connects for itself. */
static void without_shell(struct ssh_target *t, const char *why)
{
	struct err err = ERR_INIT;

	if (t->two != NULL) {
		err_set(&err, ERR_CONFIG, "%.300s: bidirectional needs one", why);
		rsync_session_down(t->session, &err);
		return;
	}
	if ((*t->env->memory & NO_SHELL_TOLD) == 0)
		log_warn("%.400s: renames can't be carried, moved files are sent again", why);
	*t->env->memory |= NO_SHELL_TOLD;
	t->way = WAY_OWN;
	use_endpoint(t);
	if (t->work != NULL) {
		rename_degrades(t, why);
		go_on(t);
	}
}

static void on_ended(void *ctx, enum remote_end how, const struct err *why)
{
	struct ssh_target *t = ctx;
	struct err copy = *why;

	drop_shell(t);
	if (how == REMOTE_NO_SHELL) {
		t->env->counters->handshakes++;
		without_shell(t, copy.text);
	} else if (t->work != NULL || (t->two != NULL && twoway_busy(t->two))) {
		t->work = NULL;
		rsync_session_down(t->session, &copy);
	}
	/* Otherwise rsync's own end tells, or nothing was going on: the next work connects again. */
}

static int start_shell(struct ssh_target *t, struct err *err)
{
	const struct remote_handler h = { .ctx = t, .ready = on_ready, .reply = on_reply, .ended = on_ended };
	struct remote_spec spec = { .host = t->host, .control = t->control, .prelude = t->shell_text };
	struct arglist a = { 0 };

	drop_shell(t);
	/* ssh's own time-outs come first: they say more. */
	spec.collect = t->two != NULL ? COLLECT_MAX : 0;
	spec.ready_ns = t->env->opt->ssh.timeout_ns + 5 * NS_PER_S;
	if (!add_ssh(&a, t, true) || !add_command(&a, t)) {
		arglist_done(&a);
		return err_set(err, ERR_NOMEM, "out of memory for ssh's arguments");
	}
	spec.argv = (const char *const *)a.v;
	t->shell = remote_shell_open(t->env->loop, &spec, &h, err);
	arglist_done(&a);
	if (t->shell == NULL) {
		if (err->class == ERR_GONE)
			err_set(err, ERR_CONFIG, "can't start %s: install ssh, or set ssh.binary",
				t->env->opt->ssh.binary);
		return -1;
	}
	t->env->counters->processes++;
	log_debug(LOG_CAT_EXEC, "started %s to %s", t->env->opt->ssh.binary, t->host);
	return 0;
}

static void connect_to(struct ssh_target *t)
{
	const struct transport_progress p = { .phase = "connecting" };
	struct err err = ERR_INIT;

	if (start_shell(t, &err) == 0) {
		t->env->progress(t->env->ctx, &p);
		return;
	}
	t->work = NULL;
	rsync_session_down(t->session, &err);
}

static void on_two(void *ctx)
{
	struct ssh_target *t = ctx;

	if (t->work == NULL)
		return;
	if (remote_shell_ready(t->shell) && t->questions >= QUESTIONS)
		start_two(t);
	else if (!remote_shell_ready(t->shell))
		connect_to(t);
}

static void begin(void *ctx, const struct transport_work *work, bool reconcile)
{
	struct ssh_target *t = ctx;

	if (t->two != NULL) { /* rsync's part of a work that has begun */
		rsync_session_go_on(t->session);
		return;
	}
	t->work = work;
	t->marker_asked = false;
	t->asked = t->answered = reconcile ? work->n_renames : 0;
	if (t->way == WAY_OWN) {
		rename_degrades(t, "there is no shell");
		go_on(t);
	} else if (remote_shell_ready(t->shell)) {
		carry_renames(t);
	} else {
		connect_to(t);
	}
}

/* ---- the session ---- */

static void close_target(void *session)
{
	struct ssh_target *t = session;

	rsync_session_free(t->session);
	loop_timer_remove(t->timer);
	twoway_free(t->two);
	if (t->control[0] != '\0')
		drop_shell(t);
	free(t->host);
	free(t->dir);
	free(t->full);
	free(t->dest);
	free(t->rsh);
	free(t->rsync_path);
	free(t->shell_text);
	free(t->backup_dir);
	free(t->temp_dir);
	free(t->stage_dest);
	free(t->stage_full);
	free(t);
}

static int fill_in(struct ssh_target *t, struct err *err)
{
	const struct sync_options *opt = t->env->opt;
	int n = snprintf(t->control, sizeof(t->control), "%s/c", t->env->runtime_dir);

	if (n < 0 || (size_t)n >= sizeof(t->control)) {
		t->control[0] = '\0';
		return err_set(err, ERR_CONFIG, "%s is too long a path for ssh's socket", t->env->runtime_dir);
	}
	for (size_t i = 0, out = 0; t->control[i] != '\0'; i++) {
		t->control_option[out++] = t->control[i];
		if (t->control[i] == '%') /* it begins one of ssh's tokens */
			t->control_option[out++] = '%';
	}
	t->host = ssh_target_host(opt->host);
	t->dir = make_dest(opt, false);
	t->dest = make_dest(opt, true);
	t->rsync_path = rsync_args_path(opt);
	t->rsh = make_rsh(t);
	if (t->dir != NULL && t->dir[0] == '/')
		t->full = strdup(t->dir);
	if (t->host == NULL || t->dir == NULL || t->dest == NULL || t->rsync_path == NULL || t->rsh == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a connection to %s", opt->host);
	return 0;
}

/* An archive makes it bidirectional. */
static int fill_in_two(struct ssh_target *t, struct err *err)
{
	const struct twoway_link link = {
		.ctx = t, .call = two_call, .room = two_room, .send = two_send, .down = two_down
	};
	bool both = t->env->archive_path != NULL;

	if (asprintf(&t->shell_text, "%s%s", remote_prelude, both ? remote_twoway_prelude : "") < 0)
		t->shell_text = NULL;
	if (t->shell_text == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a session");
	if (!both)
		return 0;
	t->two = twoway_new(t->env, &link, err);
	t->timer = t->two == NULL ? NULL : loop_timer_add(t->env->loop, on_two, t, err);
	if (t->timer == NULL)
		return -1;
	if (asprintf(&t->backup_dir, "%s/b", twoway_private(t->two)) < 0)
		t->backup_dir = NULL;
	if (asprintf(&t->temp_dir, "%s/t", twoway_private(t->two)) < 0)
		t->temp_dir = NULL;
	if (asprintf(&t->stage_dest, "%s%s/s/", t->dest, twoway_private(t->two)) < 0)
		t->stage_dest = NULL;
	if (t->backup_dir == NULL || t->temp_dir == NULL || t->stage_dest == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a session");
	return 0;
}

static void *open_target(const struct transport_env *env, struct err *err)
{
	struct ssh_target *t = calloc(1, sizeof(*t));
	struct rsync_owner owner = { .ctx = t, .begin = begin };
	struct rsync_endpoint to;

	if (t == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for a session");
		return NULL;
	}
	t->env = env;
	if (fill_in(t, err) < 0 || fill_in_two(t, err) < 0) {
		close_target(t);
		return NULL;
	}
	if (env->opt->rsync.rsh != NULL) {
		log_warn("rsync.rsh is set: renames can't be carried, moved files are sent again");
		t->way = WAY_OWN;
	}
	to = endpoint(t);
	t->session = rsync_session_new(t->two == NULL ? env : twoway_env(t->two), &to, &owner, err);
	if (t->session == NULL) {
		close_target(t);
		return NULL;
	}
	return t;
}

static int start(struct ssh_target *t, const struct transport_work *work, bool reconcile, struct err *err)
{
	if (t->two == NULL)
		return rsync_session_start(t->session, work, reconcile, err);
	if (t->work != NULL || twoway_busy(t->two))
		return err_set(err, ERR_BUG, "a work is under way");
	t->work = work;
	t->two_reconcile = reconcile;
	t->marker_asked = false;
	loop_timer_after(t->timer, 0);
	return 0;
}

static int apply(void *session, const struct transport_work *work, struct err *err)
{
	return start(session, work, false, err);
}

static int reconcile(void *session, const struct transport_work *work, struct err *err)
{
	return start(session, work, true, err);
}

/* ssh has the keys. */
static bool needs(const struct sync_options *opt, struct transport_needs *out)
{
	(void)opt;
	out->may = CONFINE_SECRETS;
	return false;
}

extern const struct transport transport_rsyncssh;
const struct transport transport_rsyncssh = {
	.name = "rsyncssh",
	.caps = TRANSPORT_LATE | TRANSPORT_RENAME | TRANSPORT_LOOK | TRANSPORT_EXEC | TRANSPORT_HOST |
		TRANSPORT_MARKER | TRANSPORT_KEEP,
	.default_delay_ns = NS_PER_S,
	.validate = validate,
	.open = open_target,
	.apply = apply,
	.reconcile = reconcile,
	.close = close_target,
	.needs = needs,
	.examine = rsyncssh_examine,
};
