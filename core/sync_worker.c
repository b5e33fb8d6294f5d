/*
 * sync_worker.c - a sync's worker: it is started and ended here, and what it says becomes marks, failures and states.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "core/archive.h"
#include "core/clock.h"
#include "core/fsutil.h"
#include "core/guard.h"
#include "core/log.h"
#include "core/path.h"
#include "core/policy.h"
#include "core/sync_private.h"

#define CONFIG_TEXT_MAX (8u * 1024 * 1024)
#define GUARD_PAUSE_NS (10 * NS_PER_S)

static uint32_t random_bits(void)
{
	uint32_t v = 0;

	/* Only jitter: if the kernel has none to give, the backoff is as good without. */
	if (getrandom(&v, sizeof(v), GRND_NONBLOCK) != (ssize_t)sizeof(v))
		v = 0;
	return v;
}

/* ---- what it says ---- */

/* Why it failed, without the path in front of it, which some say and some do not: who is told has it already. */
static const char *reason_of(const struct err *e, const char *path, size_t len)
{
	const char *why = e->text;

	if (e->class == ERR_NONE)
		return "no reason was given";
	return len > 0 && strncmp(why, path, len) == 0 && strncmp(why + len, ": ", 2) == 0 ? why + len + 2 : why;
}

/* ERR_AGAIN: nothing is known to be wrong. */
static void log_failure(struct sync *s, const char *path, size_t len, const struct err *e, uint32_t tries,
			bool given_up)
{
	const char *why = reason_of(e, path, len);
	char text[4096 + ERR_TEXT_MAX];
	const struct log_fields at = { .sync = s->opt->name,
				       .path = len == 0 ? "." : path,
				       .path_len = len == 0 ? 1 : len,
				       .message_id = given_up	  ? LOG_ID_GIVEN_UP
						     : tries <= 1 ? LOG_ID_RETRY
								  : NULL };

	/* Of a name that is too long the reason is still told. */
	if (len == 0)
		(void)snprintf(text, sizeof(text), ".: %s", why);
	else
		(void)snprintf(text, sizeof(text), "%.*s: %s", (int)(len < 4000 ? len : 4000), path, why);
	sync_note_error(s, text);
	if (given_up)
		log_event(&at, LOG_CAT_ERROR, "%s: given up: %s", s->opt->name, text);
	else if (e->class == ERR_AGAIN)
		log_event(&at, LOG_CAT_INFO, "%s: will be looked at again: %s", s->opt->name, text);
	else if (tries <= 1)
		log_event(&at, LOG_CAT_WARN, "%s: will be tried again: %s", s->opt->name, text);
	else
		log_event(&at, LOG_CAT_ALARM, "%s: attempt %u failed: %s", s->opt->name, tries, text);
}

void sync_count_error(struct sync *s, const struct err *e)
{
	if ((unsigned)e->class < ERR_CLASSES)
		s->counters.errors[e->class]++;
}

int64_t sync_backoff_ns(const struct sync *s, uint32_t tries)
{
	return policy_backoff_ns(tries, s->opt->retry_min_ns, s->opt->retry_max_ns, random_bits());
}

void sync_item_verdict(struct sync *s, const struct batch *b, const struct wire_verdict *v, int64_t started_real_ns)
{
	const struct batch_item *item = &b->items[v->index];
	const char *why = reason_of(&v->why, item->path, item->len);
	int64_t now = clock_mono_ns(), not_before = 0;
	uint32_t tries;

	switch (v->v) {
	case VERDICT_RETRY:
		s->counters.retries++;
		sync_count_error(s, &v->why);
		tries = failures_note(&s->failures, item->path, item->len, why, false, item->tries > 0,
				      clock_real_ns());
		log_failure(s, item->path, item->len, &v->why, tries, false);
		if (tries <= 1 && v->why.class != ERR_AGAIN)
			sync_hooks_failed(s, item->path, item->len);
		not_before = now + sync_backoff_ns(s, item->tries + 1);
		break;
	case VERDICT_REJECT:
		s->counters.rejected++;
		sync_count_error(s, &v->why);
		(void)failures_note(&s->failures, item->path, item->len, why, true, item->tries > 0, clock_real_ns());
		log_failure(s, item->path, item->len, &v->why, 1, true);
		sync_hooks_failed(s, item->path, item->len);
		break;
	case VERDICT_RECONCILE:
		sync_count_cause(s, "the transport asked for it");
		break;
	case VERDICT_DONE:
	case VERDICT_GONE:
		if (v->v == VERDICT_DONE)
			sync_hooks_done(s, item->path, item->len);
		if ((item->flags & MARK_RECURSIVE) != 0)
			failures_clear_below(&s->failures, item->path, item->len, started_real_ns);
		else
			failures_clear(&s->failures, item->path, item->len, item->tries > 0);
		break;
	case VERDICT_LARGE:
	case VERDICT_ALONE:
	case VERDICT_SMALL:
		break;
	case VERDICT_NONE:
	case VERDICTS:
		return;
	}
	(void)changeset_settle(s->changes, b->id, v->index, v->v, not_before, now);
}

static bool before_verdicts(void *ctx)
{
	struct sync *s = ctx;

	if (s->drain_ticket == 0)
		s->drain_ticket = s->env->drain(s->env->ctx);
	if (!s->env->drained(s->env->ctx, s->drain_ticket))
		return false;
	s->drain_ticket = 0;
	return true;
}

static void on_verdict(void *ctx, uint64_t batch_id, const struct wire_verdict *v)
{
	struct sync *s = ctx;

	if (s->batch == NULL || s->batch->id != batch_id)
		return; /* of a batch that was abandoned meanwhile */
	if (v->is_rename) {
		if (v->index >= s->batch->n_renames)
			return;
		if (v->v != VERDICT_DONE) {
			sync_count_cause(s, "a rename that the target could not do");
		} else {
			sync_hooks_done(s, s->batch->renames[v->index].from, s->batch->renames[v->index].from_len);
			sync_hooks_done(s, s->batch->renames[v->index].to, s->batch->renames[v->index].to_len);
		}
		(void)changeset_settle_rename(s->changes, batch_id, v->index, v->v, clock_mono_ns());
	} else if (v->index < s->batch->n_items) {
		sync_item_verdict(s, s->batch, v, s->batch_started_real_ns);
	}
}

bool sync_is_absent(const struct sync *s, const char *path, size_t len)
{
	struct stat st;

	return len > 0 && sync_stat_below(s, path, len, &st) < 0 && (errno == ENOENT || errno == ENOTDIR);
}

size_t sync_absent_from(const struct sync *s, const char *path, size_t len)
{
	size_t above;

	while ((above = path_parent_len(path, len)) > 0 && sync_is_absent(s, path, above))
		len = above;
	return len;
}

/* Of a directory that could not be read all below was left out, as rsync says it; a mere look would find nothing to
 * delete. */
static void aim_again(const struct sync *s, const struct wire_found *f, const char *why, struct change *c)
{
	bool absent = !s->opt->bidirectional && sync_is_absent(s, f->path, f->len); /* it failed to be deleted */

	if (f->v != VERDICT_RECONCILE && strstr(why, "opendir") == NULL && strstr(why, "readdir") == NULL &&
	    strstr(why, "link_stat") == NULL && !absent)
		return;
	c->kind = CHANGE_RECONCILE;
	c->cause = "failed before";
	if (absent)
		c->path_len = sync_absent_from(s, f->path, f->len);
}

/* A path inside a reconciled directory, or a parent: it becomes a mark of its own. */
void sync_found(struct sync *s, const struct wire_found *f, int64_t started_ns)
{
	const char *why = reason_of(&f->why, f->path, f->len);
	struct intake_record r = { .change = { .kind = CHANGE_TOUCH, .path = f->path, .path_len = f->len } };
	/* It is part of what is in flight: who waits for that waits for it, too. */
	uint64_t generation = changeset_oldest_generation(s->changes, s->generation);
	int64_t now = clock_mono_ns();
	uint32_t tries;
	bool again = false;

	if (f->v == VERDICT_REJECT) {
		s->counters.rejected++;
		sync_count_error(s, &f->why);
		(void)failures_note(&s->failures, f->path, f->len, why, true, false, clock_real_ns());
		log_failure(s, f->path, f->len, &f->why, 1, true);
		sync_hooks_failed(s, f->path, f->len);
		return;
	}
	if (f->v == VERDICT_RECONCILE && f->why.class == ERR_NONE) {
		r.change.kind = CHANGE_RECONCILE;
		r.change.cause = "the transport asked for it";
		r.hold_until_ns = now + s->opt->retry_min_ns; /* a lasting trouble must not become a loop */
		sync_count_cause(s, r.change.cause);
	} else {
		s->counters.retries++;
		sync_count_error(s, &f->why);
		tries = failures_note(&s->failures, f->path, f->len, why, false, false, clock_real_ns());
		log_failure(s, f->path, f->len, &f->why, tries, false);
		if (tries <= 1 && f->why.class != ERR_AGAIN)
			sync_hooks_failed(s, f->path, f->len);
		aim_again(s, f, why, &r.change);
		again = tries == 0 || tries >= 2;
		r.hold_until_ns = now + sync_backoff_ns(s, tries == 0 ? 1 : tries);
	}
	/* It has its verdict by then, and is named: a barrier does not wait for it any longer. Nor for its own mark,
	 * which the comparison that found it again would put off for as long as both fail. */
	if (again)
		changeset_has_verdict(s->changes, r.change.path, r.change.path_len, started_ns);
	sync_add_to_changes(s, &r, again ? CHANGESET_SERVED : generation, now);
}

static void on_found(void *ctx, const struct wire_found *f)
{
	struct sync *s = ctx;

	if (f->v == VERDICT_LARGE) {
		if (s->batch != NULL)
			changeset_hand_over(s->changes, s->batch->id, f->path, f->len, clock_mono_ns());
		return;
	}
	sync_found(s, f, s->batch_started_ns);
}

void sync_come_back(struct sync *s)
{
	if (s->down_tries > 0)
		sync_log(s, LOG_CAT_NORMAL, LOG_ID_BACK, "%s: %s", s->opt->name,
			 s->guarded || s->vetoed ? "goes on" : "the target is back");
	if (s->down_tries > 0 && !s->guarded && !s->vetoed)
		hooks_run(s->hooks, HOOK_RECONNECT, s->reason);
	s->down = s->guarded = s->vetoed = s->retry_soon = false;
	s->down_tries = 0;
	sync_back_after_loss(s);
}

void sync_batch_done(struct sync *s, const struct batch *b, int64_t started_ns, bool back)
{
	bool was_first = sync_starting(s);

	changeset_finish(s->changes, b->id, clock_mono_ns());
	if (changeset_pending(s->changes) + changeset_pending_renames(s->changes) == 0)
		failures_quiet(&s->failures);
	tunnel_target_reached(s->tunnel);
	sync_log(s, LOG_CAT_INFO, NULL, "%s: batch of %zu paths and %zu renames done in %.3f s", s->opt->name,
		 b->n_items, b->n_renames, (double)(clock_mono_ns() - started_ns) / (double)NS_PER_S);
	if (back)
		sync_come_back(s);
	sync_hooks_over(s);
	s->last_done_real_ns = clock_real_ns();
	s->start_over = s->start_over || !sync_starting(s);
	if (was_first && s->start_over)
		sync_log(s, LOG_CAT_NORMAL, LOG_ID_FIRST_DONE, "%s: first comparison finished, %zu failures",
			 s->opt->name, s->failures.n);
}

static void on_batch_done(void *ctx, uint64_t batch_id)
{
	struct sync *s = ctx;

	if (s->batch == NULL || s->batch->id != batch_id)
		return;
	s->worker_leaves = false;
	sync_batch_done(s, s->batch, s->batch_started_ns, true);
	sync_end_batch(s);
}

/* What a guard refused is soon looked at again: the source may be mounted by then. */
static int64_t pause_after(const struct sync *s)
{
	int64_t pause = sync_backoff_ns(s, s->down_tries);

	return s->guarded && pause > GUARD_PAUSE_NS ? GUARD_PAUSE_NS : pause;
}

static void abandon_batch(struct sync *s)
{
	if (s->batch != NULL)
		changeset_abandon(s->changes, s->batch->id, clock_mono_ns());
	sync_end_batch(s);
}

static void log_down(struct sync *s, const char *why, bool news)
{
	if (!news)
		log_debug(LOG_CAT_ALARM, "%s: attempt %u failed: %s", s->opt->name, s->down_tries, why);
	else if (s->vetoed)
		sync_log(s, LOG_CAT_ERROR, NULL, "%s: vetoed: %s; nothing is sent until it consents", s->opt->name,
			 why);
	else if (s->guarded)
		sync_log(s, LOG_CAT_ERROR, LOG_ID_STOPPED, "%s: stopped: %s", s->opt->name, why);
	else
		sync_log(s, LOG_CAT_ERROR, LOG_ID_DOWN, "%s: %s; it is tried again until it works", s->opt->name, why);
}

/* A final one: it takes somebody to change that, so another reason than before is news as well; so it is with a veto.
 */
static void go_down_for(struct sync *s, const struct err *e, bool vetoed)
{
	const char *why = e->text;
	bool guarded = e->class == ERR_UNSAFE, final = vetoed || policy_is_final(e->class);
	bool news = s->down_tries == 0 || s->guarded != guarded || s->vetoed != vetoed ||
		    (final && (s->reason == NULL || strcmp(s->reason, why) != 0));

	sync_count_error(s, e);
	if (!final && s->batch != NULL)
		sync_note_lost(s, s->batch);
	abandon_batch(s);
	s->down = true;
	s->guarded = guarded;
	s->vetoed = vetoed;
	s->down_tries++;
	s->down_until_ns = s->retry_soon ? 0 : clock_mono_ns() + pause_after(s);
	s->retry_soon = false;
	sync_set_text(&s->reason, why);
	sync_note_error(s, why);
	log_down(s, why, news);
	sync_hooks_over(s);
	if (news)
		hooks_run(s->hooks, HOOK_ERROR, why);
	sync_changed(s);
}

void sync_go_down(struct sync *s, const char *why)
{
	struct err e = ERR_INIT;

	err_set(&e, ERR_NONE, "%s", why);
	tunnel_target_failed(s->tunnel, s->worker_killed);
	go_down_for(s, &e, false);
}

void sync_go_down_for(struct sync *s, const struct err *why)
{
	if (!policy_is_final(why->class)) /* a target that refuses us was reached */
		tunnel_target_failed(s->tunnel, false);
	go_down_for(s, why, false);
}

void sync_tunnel_down(struct sync *s, const struct err *why)
{
	go_down_for(s, why, false);
}

void sync_veto(struct sync *s, const struct err *why)
{
	go_down_for(s, why, true);
}

static void on_down(void *ctx, const struct err *why)
{
	struct sync *s = ctx;

	s->worker_told = s->worker_leaves = true;
	sync_go_down_for(s, why);
}

static void on_ready(void *ctx)
{
	struct sync *s = ctx;

	s->worker_told = s->worker_leaves = false;
}

static void on_progress(void *ctx, const struct wire_progress *p)
{
	struct sync *s = ctx;

	s->progress = *p;
	/* Of a long path its end tells more. */
	s->progress.path_len = p->path_len < sizeof(s->current) ? p->path_len : sizeof(s->current);
	if (s->progress.path_len > 0)
		memcpy(s->current, p->path + (p->path_len - s->progress.path_len), s->progress.path_len);
	s->progress.path = s->progress.path_len > 0 ? s->current : NULL;
	sync_changed(s);
}

static void add(struct wire_counters *to, const struct wire_counters *c)
{
	to->files_sent += c->files_sent;
	to->bytes_sent += c->bytes_sent;
	to->deletions += c->deletions;
	to->renames_carried += c->renames_carried;
	to->handshakes += c->handshakes;
	to->processes += c->processes;
	to->conflicts += c->conflicts;
}

void sync_add_counters(struct sync *s)
{
	struct wire_counters c = s->ended;

	add(&c, &s->worker_last);
	add(&c, &s->large.last);
	s->counters.files_sent = c.files_sent;
	s->counters.bytes = c.bytes_sent;
	s->counters.deletions = c.deletions;
	s->counters.renames = c.renames_carried;
	s->counters.handshakes = c.handshakes;
	s->counters.processes = c.processes;
	s->counters.conflicts = c.conflicts;
}

void sync_close_counters(struct sync *s, struct wire_counters *last)
{
	add(&s->ended, last);
	*last = (struct wire_counters){ 0 };
}

static void on_counters(void *ctx, const struct wire_counters *c)
{
	struct sync *s = ctx;

	s->worker_last = *c;
	sync_add_counters(s);
}

static void on_guard(void *ctx, const char *text, size_t len)
{
	struct sync *s = ctx;

	s->env->guard_learned(s->env->ctx, s->opt, text, len);
}

/* One way: what was acknowledged by another one, or before its kernel was started anew, need not be there. Both ways
 * the archive takes what is missing for deleted, so a comparison would bring nothing back. */
static void on_peer(void *ctx, const struct host_tree *t)
{
	struct sync *s = ctx;

	s->peer = *t;
	if (t->ino == 0)
		return;
	if (!s->opt->bidirectional && host_tree_lost(&s->last_peer, t)) {
		sync_log(s, LOG_CAT_NORMAL, NULL,
			 "%s: the receiver was started anew, or is not where it was: everything is compared",
			 s->opt->name);
		sync_reconcile(s, "another receiver", false, false, s->generation);
	}
	s->last_peer = *t;
}

void sync_linked(struct sync *s, const struct wire_linked *f)
{
	if (s->root_fd >= 0)
		s->env->linked(s->env->ctx, s, f);
}

static void on_linked(void *ctx, const struct wire_linked *f)
{
	sync_linked(ctx, f);
}

static void on_ended(void *ctx, const char *how)
{
	struct sync *s = ctx;
	char text[200];

	s->worker_ended = true;
	s->peer = (struct host_tree){ 0 };
	sync_close_counters(s, &s->worker_last);
	sync_changed(s);
	if (s->worker_told)
		return;
	if (s->batch != NULL && s->worker_leaves && strcmp(how, "exit 0") == 0) {
		/* It was given one more when it had gone already: that is the next one's, and why stays as it was told.
		 */
		abandon_batch(s);
		s->allow_delete = s->allow_delete || s->batch_allows; /* nobody has made use of it */
		s->down = true;
		s->down_until_ns = 0;
		sync_changed(s);
		return;
	}
	if (s->worker_killed)
		(void)snprintf(text, sizeof(text), "no progress for %.0f s (progressTimeout)",
			       (double)s->opt->progress_timeout_ns / (double)NS_PER_S);
	else
		(void)snprintf(text, sizeof(text), "the worker ended: %s", how);
	if (s->batch != NULL)
		sync_go_down(s, text);
	else /* that says nothing of the target: the next batch gets another worker */
		sync_log(s, LOG_CAT_WARN, LOG_ID_WORKER_ENDED, "%s: %s", s->opt->name, text);
}

/* ---- its life ---- */

void sync_remove_runtime_dir(struct sync *s, char **dir)
{
	struct err err = ERR_INIT;

	if (*dir != NULL && remove_tree(*dir, &err) < 0)
		sync_log(s, LOG_CAT_WARN, NULL, "%s: %s", s->opt->name, err.text);
	free(*dir);
	*dir = NULL;
}

void sync_drop_worker(struct sync *s)
{
	if (s->worker != NULL) {
		sync_close_counters(s, &s->worker_last);
		changeset_doubt_born(s->changes);
	}
	worker_link_free(s->worker);
	s->worker = NULL;
	s->drain_ticket = 0;
	s->worker_ended = false;
	sync_remove_runtime_dir(s, &s->runtime_dir);
}

static int make_runtime_dir(const struct sync *s, char **out, struct err *err)
{
	char *dir = NULL;

	/* Short: a control socket's path below it has to fit into sockaddr_un. */
	if (asprintf(&dir, "%s/wXXXXXX", s->env->runtime_root) < 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (mkdtemp(dir) == NULL) {
		err_errno(err, errno, "cannot make a directory below %s", s->env->runtime_root);
		free(dir);
		return -1;
	}
	*out = dir;
	return 0;
}

/* "" for a sync that has none. NULL on failure. */
static char *archive_path(const struct sync *s, struct err *err)
{
	char *dir = NULL, *path = NULL;

	if (!s->opt->bidirectional)
		return strdup("");
	if (asprintf(&dir, "%s/archive", s->env->state_dir) < 0)
		dir = NULL;
	if (dir != NULL && mkdir_private(dir, err) == 0 && asprintf(&path, "%s/%s.db", dir, s->opt->name) < 0)
		path = NULL;
	free(dir);
	return path;
}

void sync_end_archive(const struct sync *s)
{
	struct err err = ERR_INIT;
	char *path;

	/* Without a worker it may be another daemon's. */
	if (!s->opt->bidirectional || s->workers_started == 0)
		return;
	path = archive_path(s, &err);
	if (path == NULL || archive_end(path, s->opt->source, &err) < 0)
		sync_log(s, LOG_CAT_WARN, NULL,
			 "%s: the archive is not ended: %s: if this machine is started anew before the next start, "
			 "what both ends agreed on last is not believed",
			 s->opt->name, err.class == ERR_NONE ? "out of memory" : err.text);
	free(path);
}

/* The configuration and the record, as texts. */
static int worker_texts(struct sync *s, struct buf *config, struct buf *guard, struct err *err)
{
	struct tunnel_info tunnel = { 0 };

	if (s->tunnel != NULL)
		tunnel_info(s->tunnel, &tunnel);
	buf_init(config, CONFIG_TEXT_MAX);
	buf_init(guard, GUARD_TEXT_MAX);
	if (s->env->config_text(s->env->ctx, s->opt, tunnel.port, config) == 0 &&
	    s->env->guard_text(s->env->ctx, s->opt, guard) == 0)
		return 0;
	buf_done(config);
	buf_done(guard);
	return err_set(err, ERR_NOMEM, "out of memory for the worker's configuration");
}

int sync_spawn_worker(struct sync *s, const struct worker_events *events, char **runtime_dir, struct worker_link **out,
		      struct err *err)
{
	struct buf text, guard;
	struct worker_spec spec = { .mode = "--worker", .name = s->opt->name };
	char *archive;

	if (make_runtime_dir(s, runtime_dir, err) < 0)
		return -1;
	archive = archive_path(s, err);
	if (archive == NULL || worker_texts(s, &text, &guard, err) < 0) {
		free(archive);
		return err->class != ERR_NONE ? -1 : err_set(err, ERR_NOMEM, "out of memory for a worker");
	}
	spec.guard = guard.data;
	spec.guard_len = guard.len;
	spec.config = (struct wire_config){
		.text = text.data,
		.text_len = text.len,
		.runtime_dir = *runtime_dir,
		.archive_path = archive,
		.log_mask = log_mask(),
		.source_dev = s->root_dev,
		.source_ino = s->root_ino,
	};
	memcpy(spec.config.host_id, s->env->host_id, HOST_ID_BYTES);
	*out = worker_link_start(s->env->loop, &spec, events, err);
	buf_done(&text);
	free(archive);
	buf_done(&guard);
	return *out == NULL ? -1 : 0;
}

int sync_start_worker(struct sync *s, struct err *err)
{
	static const struct worker_events template = {
		.ready = on_ready,
		.before_verdicts = before_verdicts,
		.verdict = on_verdict,
		.found = on_found,
		.batch_done = on_batch_done,
		.down = on_down,
		.progress = on_progress,
		.counters = on_counters,
		.guard = on_guard,
		.linked = on_linked,
		.peer = on_peer,
		.ended = on_ended,
	};
	struct worker_events events = template;

	events.ctx = s;
	s->worker_told = s->worker_leaves = s->worker_killed = false;
	if (sync_spawn_worker(s, &events, &s->runtime_dir, &s->worker, err) < 0)
		return -1;
	if (s->workers_started++ > 0)
		s->counters.worker_restarts++;
	return 0;
}
