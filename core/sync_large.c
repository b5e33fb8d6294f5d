/*
 * sync_large.c - a sync's large lane: a second worker that carries one large file at a time, so that it holds nothing
 * else up.
 *
 * It is started when there is such a file, and ends when there was none for a while. What may leave is the changeset's
 * to say (changeset_large.c). A file that is no more is not sent to its end: the worker is ended, and when it is gone
 * whatever waited for it goes on. Its failures are the target's only if the first lane has nothing under way that
 * would tell.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/policy.h"
#include "core/sync_private.h"
#include "core/transport.h"

/* A file that is written to again and again finds its worker, with what that remembers of it, and its connection. */
#define IDLE_NS (30 * NS_PER_S)

bool sync_large_exists(const struct sync *s)
{
	const struct transport *t = transport_find(s->opt->transport);

	/* A program of the administrator's is not run twice at once. Both ways there is one archive, which one worker
	 * has open. preBatch says when something may leave, not for how long. */
	return t != NULL && (t->caps & TRANSPORT_PROGRAM) == 0 && sync_options_large(s->opt) > 0 &&
	       !s->opt->bidirectional && !hooks_wanted(s->hooks, HOOK_PRE_BATCH) &&
	       s->env->slots_for_large(s->env->ctx);
}

static bool is_limited(const struct sync *s)
{
	return s->opt->rsync.bwlimit > 0 || s->opt->bandwidth.n > 0;
}

bool sync_large_shares(const struct sync *s)
{
	return s->large.batch != NULL || (is_limited(s) && changeset_large_oldest_ns(s->changes) != INT64_MAX);
}

/* ---- the end of a batch ---- */

static void end_batch(struct sync *s)
{
	struct sync_large *l = &s->large;

	batch_free(l->batch);
	l->batch = NULL;
	l->idle_ns = clock_mono_ns();
	memset(&l->progress, 0, sizeof(l->progress));
	s->pause_until_ns = 0; /* what waited for it may be due */
	s->env->slot_give(s->env->ctx, true);
	sync_changed(s);
}

static void give_back(struct sync *s)
{
	changeset_abandon(s->changes, s->large.batch->id, clock_mono_ns());
	end_batch(s);
}

/* What it had written of a file that nobody will go on with is found by a comparison of its directory, when what was on
 * its way to the target has arrived. A foreign program removes its own temporary files at the other end, by the names
 * that they have there: it is given the time. */
static void on_cancelled(struct sync *s)
{
	bool native = (transport_find(s->opt->transport)->caps & TRANSPORT_NATIVE) != 0;
	int64_t now = clock_mono_ns(), then = now + s->opt->retry_min_ns;

	sync_note_lost(s, s->large.batch);
	sync_back_after_loss(s); /* it never was away */
	if (native)
		sync_count_cause(s, "a large file went while it was sent");
	changeset_cancel(s->changes, s->large.batch->id, native ? then : INT64_MAX, now);
	end_batch(s);
	if (!native)
		s->pause_until_ns = then;
}

static void failed(struct sync *s, const struct err *why)
{
	struct sync_large *l = &s->large;

	if (l->batch != NULL) {
		if (!policy_is_final(why->class))
			sync_note_lost(s, l->batch);
		give_back(s);
	}
	if (s->batch == NULL) {
		sync_go_down_for(s, why);
		return;
	}
	sync_count_error(s, why);
	sync_note_error(s, why->text);
	l->tries++;
	l->until_ns = clock_mono_ns() + sync_backoff_ns(s, l->tries);
	if (l->tries == 1)
		sync_log(s, LOG_CAT_WARN, NULL, "%s: a large file: %s; it is tried again", s->opt->name, why->text);
	else
		log_debug(LOG_CAT_ALARM, "%s: a large file: attempt %u failed: %s", s->opt->name, l->tries, why->text);
}

/* ---- what its worker says ---- */

/* It is the first lane that tells what is asked of every worker. */
static void no_news(void *ctx)
{
	(void)ctx;
}

/* The record of the guards is learned by the first lane's worker: two that know different things would undo each
 * other's. */
static void on_guard(void *ctx, const char *text, size_t len)
{
	(void)ctx;
	(void)text;
	(void)len;
}

static void on_peer(void *ctx, const struct host_tree *t)
{
	(void)ctx;
	(void)t;
}

static bool before_verdicts(void *ctx)
{
	struct sync *s = ctx;
	struct sync_large *l = &s->large;

	if (l->drain_ticket == 0)
		l->drain_ticket = s->env->drain(s->env->ctx);
	if (!s->env->drained(s->env->ctx, l->drain_ticket))
		return false;
	l->drain_ticket = 0;
	return true;
}

static bool is_current(const struct sync *s, uint64_t batch_id)
{
	return s->large.batch != NULL && s->large.batch->id == batch_id;
}

static void on_verdict(void *ctx, uint64_t batch_id, const struct wire_verdict *v)
{
	struct sync *s = ctx;

	if (is_current(s, batch_id) && !v->is_rename && v->index < s->large.batch->n_items)
		sync_item_verdict(s, s->large.batch, v, s->large.started_real_ns);
}

static void on_found(void *ctx, const struct wire_found *f)
{
	struct sync *s = ctx;

	sync_found(s, f, s->large.started_ns);
}

static void on_batch_done(void *ctx, uint64_t batch_id)
{
	struct sync *s = ctx;

	if (!is_current(s, batch_id))
		return;
	s->large.tries = 0;
	sync_batch_done(s, s->large.batch, s->large.started_ns, s->large.probes);
	end_batch(s);
}

static void on_down(void *ctx, const struct err *why)
{
	struct sync *s = ctx;

	s->large.told = true;
	failed(s, why);
}

/* There is but one. */
static void show_path(struct sync *s)
{
	const struct batch *b = s->large.batch;

	s->large.progress.path = b == NULL ? NULL : b->items[0].path;
	s->large.progress.path_len = b == NULL ? 0 : b->items[0].len;
}

static void on_progress(void *ctx, const struct wire_progress *p)
{
	struct sync *s = ctx;

	s->large.progress = *p;
	show_path(s);
	sync_changed(s);
}

static void on_counters(void *ctx, const struct wire_counters *c)
{
	struct sync *s = ctx;

	s->large.last = *c;
	sync_add_counters(s);
}

static void on_linked(void *ctx, const struct wire_linked *f)
{
	sync_linked(ctx, f);
}

static void on_ended(void *ctx, const char *how)
{
	struct sync *s = ctx;
	struct sync_large *l = &s->large;
	struct err why = ERR_INIT;

	l->ended = true;
	sync_close_counters(s, &l->last);
	sync_changed(s);
	if (l->killed)
		err_set(&why, ERR_NONE, "no progress for %.0f s (progressTimeout)",
			(double)s->opt->progress_timeout_ns / (double)NS_PER_S);
	else
		err_set(&why, ERR_NONE, "the worker ended: %s", how);
	if (l->batch != NULL && l->cancelled)
		on_cancelled(s);
	else if (l->batch != NULL)
		failed(s, &why);
	else if (!l->told)
		sync_log(s, LOG_CAT_WARN, LOG_ID_WORKER_ENDED, "%s: %s", s->opt->name, why.text);
}

/* ---- its life ---- */

static int start_worker(struct sync *s, struct err *err)
{
	static const struct worker_events template = {
		.ready = no_news,
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
	struct sync_large *l = &s->large;

	events.ctx = s;
	l->told = l->cancelled = l->killed = l->ended = false;
	return sync_spawn_worker(s, &events, &l->runtime_dir, &l->worker, err);
}

static void end_worker(struct sync *s)
{
	struct sync_large *l = &s->large;

	if (l->worker != NULL)
		sync_close_counters(s, &l->last);
	worker_link_free(l->worker);
	l->worker = NULL;
	l->drain_ticket = 0;
	l->ended = false;
	sync_remove_runtime_dir(s, &l->runtime_dir);
}

void sync_large_drop(struct sync *s)
{
	end_worker(s);
	if (s->large.batch != NULL)
		give_back(s);
}

static void on_timer(void *ctx)
{
	sync_large_poll(ctx);
}

int sync_large_init(struct sync *s, struct err *err)
{
	s->large.timer = loop_timer_add(s->env->loop, on_timer, s, err);
	return s->large.timer == NULL ? -1 : 0;
}

void sync_large_done(struct sync *s)
{
	end_worker(s);
	if (s->large.batch != NULL)
		end_batch(s);
	if (s->large.timer != NULL)
		loop_timer_remove(s->large.timer);
}

/* ---- while it is at work ---- */

static bool is_gone(const struct sync *s)
{
	const struct batch_item *it = &s->large.batch->items[0];
	struct stat st;

	return sync_stat_below(s, it->path, it->len, &st) < 0 && (errno == ENOENT || errno == ENOTDIR);
}

/* Whether what it carries is of no use: that takes something that waits for it, which is seldom. */
static bool is_in_vain(const struct sync *s)
{
	switch (changeset_large_holds_up(s->changes)) {
	case CHANGESET_RENAMES:
		return true;
	case CHANGESET_NAMES:
		return is_gone(s);
	case CHANGESET_NOTHING:
		break;
	}
	return false;
}

static void attend(struct sync *s, int64_t now)
{
	struct sync_large *l = &s->large;
	int64_t limit;

	if (l->worker == NULL)
		return;
	if (!l->cancelled && is_in_vain(s)) {
		l->cancelled = true;
		sync_log(s, LOG_CAT_INFO, NULL, "%s: a large file went while it was sent: %.*s", s->opt->name,
			 (int)l->batch->items[0].len, l->batch->items[0].path);
		worker_link_kill(l->worker);
	}
	limit = worker_link_heard_ns(l->worker) + s->opt->progress_timeout_ns;
	if (now >= limit) {
		if (!l->killed)
			sync_log(s, LOG_CAT_ERROR, NULL,
				 "%s: no progress of a large file for %.0f s: the worker is replaced (progressTimeout)",
				 s->opt->name, (double)s->opt->progress_timeout_ns / (double)NS_PER_S);
		l->killed = true;
		worker_link_kill(l->worker);
		limit = now + NS_PER_S;
	}
	loop_timer_at(l->timer, limit);
}

/* ---- while it is not ---- */

/* Nothing is known to stand against it, but for what the changeset says. */
static bool is_open(const struct sync *s)
{
	if (s->stopping || s->root_fd < 0 || sync_waits_for_tunnel(s))
		return false;
	/* The batch in flight tells whether the target is back; or it uses all of the bandwidth. */
	return s->batch == NULL || (!s->down && (s->shared || !is_limited(s)));
}

static int64_t not_before_ns(const struct sync *s)
{
	return s->down && s->down_until_ns > s->large.until_ns ? s->down_until_ns : s->large.until_ns;
}

static void send(struct sync *s, int64_t now)
{
	struct sync_large *l = &s->large;
	struct err err = ERR_INIT;

	if (!s->env->slot_take(s->env->ctx, true))
		return; /* the daemon polls all syncs when one is given back */
	if (l->worker == NULL && start_worker(s, &err) < 0) {
		s->env->slot_give(s->env->ctx, true);
		end_worker(s);
		failed(s, &err);
		return;
	}
	l->batch = changeset_take_large(s->changes, now);
	if (l->batch == NULL) {
		s->env->slot_give(s->env->ctx, true);
		l->until_ns = now + 100 * NS_PER_MS; /* memory was short */
		return;
	}
	show_path(s);
	l->started_ns = now;
	l->started_real_ns = clock_real_ns();
	l->probes = s->down;
	l->told = false;
	s->counters.batches++;
	if (worker_link_send(l->worker, l->batch, WIRE_LARGE, &err) < 0) {
		failed(s, &err);
		return;
	}
	log_debug(LOG_CAT_RECORD, "%s: batch %llu of a large file: %.*s", s->opt->name,
		  (unsigned long long)l->batch->id, (int)l->batch->items[0].len, l->batch->items[0].path);
	sync_changed(s);
	loop_timer_at(l->timer, now + s->opt->progress_timeout_ns);
}

/* What waits for something else is polled when that is over. */
static void rest(struct sync *s, int64_t now)
{
	struct sync_large *l = &s->large;
	int64_t next = INT64_MAX;

	if (l->worker != NULL && now - l->idle_ns >= IDLE_NS)
		end_worker(s);
	if (l->worker != NULL)
		next = l->idle_ns + IDLE_NS;
	if (is_open(s) && not_before_ns(s) > now && not_before_ns(s) < next)
		next = not_before_ns(s);
	if (next != INT64_MAX)
		loop_timer_at(l->timer, next);
}

void sync_large_poll(struct sync *s)
{
	struct sync_large *l = &s->large;
	int64_t now = clock_mono_ns();

	if (l->drain_ticket != 0 && s->env->drained(s->env->ctx, l->drain_ticket))
		worker_link_resume(l->worker);
	if (l->ended)
		end_worker(s);
	loop_timer_stop(l->timer);
	if (l->batch != NULL) {
		attend(s, now);
		return;
	}
	if (!sync_large_exists(s))
		changeset_close_large(s->changes);
	if (l->worker != NULL && l->told)
		end_worker(s); /* it has no session, and perhaps no way to one */
	if (is_open(s) && now >= not_before_ns(s) && changeset_large_ready(s->changes, now))
		send(s, now);
	if (l->batch == NULL)
		rest(s, now);
}
