#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/sync_private.h"

#define BATCH_ITEMS_MAX 100000u
#define BATCH_BYTES_MAX (8u * 1024 * 1024)
#define RENAMES_MAX 10000u

const char *sync_state_name(enum sync_state s)
{
	static const char *const names[] = {
		[SYNC_NO_SOURCE] = "no source", [SYNC_IDLE] = "idle", [SYNC_WAITING] = "waiting",
		[SYNC_SENDING] = "sending",	[SYNC_DOWN] = "down", [SYNC_STOPPED] = "stopped",
		[SYNC_VETOED] = "vetoed",
	};

	return names[s];
}

void sync_set_text(char **slot, const char *text)
{
	char *copy = text == NULL ? NULL : strdup(text);

	free(*slot);
	*slot = copy;
}

void sync_note_error(struct sync *s, const char *text)
{
	sync_set_text(&s->last_error, text);
	s->last_error_real_ns = clock_real_ns();
}

void sync_changed(struct sync *s)
{
	s->env->changed(s->env->ctx);
}

/* ---- records ---- */

void sync_count_cause(struct sync *s, const char *cause)
{
	struct sync_cause *c = s->counters.causes;

	s->counters.reconciles++;
	for (size_t i = 0; i < SYNC_CAUSES_MAX; i++) {
		if (c[i].cause == NULL)
			c[i].cause = cause;
		if (i == SYNC_CAUSES_MAX - 1 || strcmp(c[i].cause, cause) == 0) {
			c[i].count++;
			return;
		}
	}
}

/* 0 and what the source has by this name, or -1 and errno. */
int sync_stat_below(const struct sync *s, const char *path, size_t len, struct stat *out)
{
	char text[4096];

	if (s->root_fd < 0 || len >= sizeof(text)) {
		errno = s->root_fd < 0 ? EBADF : ENAMETOOLONG;
		return -1;
	}
	memcpy(text, path, len);
	text[len] = '\0';
	return fstatat(s->root_fd, text, out, AT_SYMLINK_NOFOLLOW);
}

/* A file just created may still be written to; its close is another record. Links, directories and the like are
 * complete, and so is a file that was linked into place. Only asked when the delay is too short to make it irrelevant.
 */
static bool may_be_open(const struct sync *s, const struct change *c)
{
	struct stat st;

	return c->kind == CHANGE_CREATE && !c->is_dir && s->opt->delay_ns < INTAKE_OPEN_NS &&
	       sync_stat_below(s, c->path, c->path_len, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1;
}

void sync_add_to_changes(struct sync *s, const struct intake_record *r, uint64_t generation, int64_t now)
{
	if (changeset_add(s->changes, &r->change, generation, now, r->hold_until_ns, r->extend) == 0)
		return;
	sync_count_cause(s, "out of memory");
	sync_log(s, LOG_CAT_WARN, NULL, "%s: out of memory for pending changes: everything will be compared",
		 s->opt->name);
}

/* What was done to one name of a file was done to its others, of which nobody told the target. */
static bool has_more_names(const struct sync *s, const struct change *c)
{
	struct stat st;

	return c->kind != CHANGE_DELETE && sync_stat_below(s, c->path, c->path_len, &st) == 0 && !S_ISDIR(st.st_mode) &&
	       st.st_nlink > 1;
}

/* What the target itself sent here, and has: unless something of ours is on its way there, which it may have got
 * meanwhile, so that each end would keep the other's. Both ways the archive is to learn of it; and what is excluded
 * here is to go there, if it is to be deleted. */
static bool is_echo(const struct sync *s, const struct change *c)
{
	if (c->origin != ORIGIN_INCOMING || s->opt->bidirectional || s->opt->rsync.delete_excluded ||
	    !host_tree_same(c->from, &s->peer))
		return false;
	/* In a directory above or below this one the same path is another file. */
	if (c->from->here_dev != s->root_dev || c->from->here_ino != s->root_ino)
		return false;
	return (c->kind == CHANGE_TOUCH || c->kind == CHANGE_MODIFY || c->kind == CHANGE_CREATE ||
		c->kind == CHANGE_DELETE) &&
	       changeset_quiet(s->changes, c->path, c->path_len) && !has_more_names(s, c);
}

void sync_record(struct sync *s, const struct change *c, uint64_t generation)
{
	struct intake_record r[2];
	int64_t now = clock_mono_ns();
	uint64_t collapses = changeset_collapses(s->changes);
	size_t n = intake(&s->intake, c, now, may_be_open(s, c), r);

	s->generation = generation;
	s->counters.records++;
	if (n == 0) {
		s->counters.dropped++;
		log_debug(LOG_CAT_FILTER, "%s: not mirrored: %.*s", s->opt->name, (int)c->path_len, c->path);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		sync_hooks_saw(s, &r[i].change);
		if (is_echo(s, &r[i].change)) {
			s->counters.echoes++;
			continue;
		}
		if (r[i].change.kind == CHANGE_RECONCILE)
			sync_count_cause(s, r[i].change.cause == NULL ? "unknown" : r[i].change.cause);
		sync_add_to_changes(s, &r[i], generation, now);
	}
	if (c->kind == CHANGE_RECONCILE && c->cause != NULL && strcmp(c->cause, "overflow") == 0)
		s->counters.overflows++;
	collapses = changeset_collapses(s->changes) - collapses;
	for (uint64_t i = 0; i < collapses; i++)
		sync_count_cause(s, "too many pending");
	if (collapses > 0)
		sync_log(s, LOG_CAT_WARN, NULL,
			 "%s: more than %lld changes are pending: the fullest directory will be compared as a whole",
			 s->opt->name, (long long)s->opt->max_pending);
}

void sync_reconcile(struct sync *s, const char *cause, bool start, bool allow_delete, uint64_t generation)
{
	struct intake_record r = {
		.change = { .kind = CHANGE_RECONCILE, .path = "", .cause = start ? "start" : cause },
	};

	s->generation = generation;
	sync_count_cause(s, r.change.cause);
	if (start) {
		s->has_start = true;
		s->start_over = false;
		s->start_generation = generation;
	}
	if (allow_delete)
		s->allow_delete = true;
	sync_add_to_changes(s, &r, generation, clock_mono_ns());
}

void sync_urge(struct sync *s, uint64_t generation)
{
	s->generation = generation > s->generation ? generation : s->generation;
	changeset_release_holds(s->changes);
	sync_urge_look(s);
	s->has_urge = true;
	s->urge_generation = generation;
}

void sync_retry_now(struct sync *s)
{
	changeset_release_retries(s->changes);
	tunnel_retry(s->tunnel);
	s->down_until_ns = 0;
	s->retry_soon = s->batch != NULL;
}

/* Whether the first reconcile is still to end. */
bool sync_starting(const struct sync *s)
{
	return s->has_start && !s->start_over && !changeset_served(s->changes, s->start_generation);
}

bool sync_served(const struct sync *s, uint64_t generation)
{
	return !sync_starting(s) && changeset_served(s->changes, generation);
}

/* ---- dispatch ---- */

void sync_end_batch(struct sync *s)
{
	if (s->batch == NULL)
		return;
	hooks_cancel_check(s->hooks);
	batch_free(s->batch);
	s->batch = NULL;
	memset(&s->progress, 0, sizeof(s->progress));
	s->env->slot_give(s->env->ctx, false);
	sync_changed(s);
}

static bool is_due(const struct sync *s, int64_t now, int64_t *next)
{
	int64_t oldest = changeset_oldest_ns(s->changes), hold = changeset_hold_ends_ns(s->changes);
	bool have = oldest != INT64_MAX;

	*next = INT64_MAX;
	if (hold <= now)
		return true; /* what was held has waited long enough */
	if (changeset_pending_renames(s->changes) > 0 && !have)
		have = true;
	if (have && (oldest == INT64_MAX || oldest + s->opt->delay_ns <= now))
		return true;
	if (have && changeset_pending(s->changes) >= (size_t)s->opt->max_delays)
		return true;
	if (have && s->has_urge && !changeset_served(s->changes, s->urge_generation))
		return true;
	if (have && sync_starting(s))
		return true;
	*next = have ? oldest + s->opt->delay_ns : INT64_MAX;
	if (hold < *next)
		*next = hold;
	return false;
}

static unsigned batch_flags(const struct sync *s)
{
	return (s->allow_delete ? (unsigned)WIRE_ALLOW_DELETE : 0u) |
	       (sync_large_exists(s) ? (unsigned)WIRE_HAND_OVER : 0u) | (s->shared ? (unsigned)WIRE_SHARED : 0u);
}

void sync_carry(struct sync *s)
{
	struct err err = ERR_INIT;

	s->worker_told = false; /* a `down` before this batch does not explain its end */
	if (s->worker == NULL || s->worker_ended) {
		sync_go_down(s, "the worker ended before it had the batch");
		return;
	}
	s->shared = sync_large_shares(s);
	if (worker_link_send(s->worker, s->batch, batch_flags(s), &err) < 0) {
		sync_go_down(s, err.text);
		return;
	}
	s->batch_allows = s->allow_delete;
	s->allow_delete = false;
	log_debug(LOG_CAT_RECORD, "%s: batch %llu of %zu paths and %zu renames", s->opt->name,
		  (unsigned long long)s->batch->id, s->batch->n_items, s->batch->n_renames);
	sync_changed(s);
}

static void send_batch(struct sync *s, int64_t now)
{
	s->batch = changeset_take(s->changes, now);
	if (s->batch == NULL) {
		s->env->slot_give(s->env->ctx, false);
		return;
	}
	s->batch_started_ns = now;
	s->batch_started_real_ns = clock_real_ns();
	s->counters.batches++;
	s->worker_told = false; /* its end from now on is the batch's, also while that is checked */
	if (hooks_wanted(s->hooks, HOOK_PRE_BATCH))
		sync_hooks_check(s);
	else
		sync_carry(s);
}

/* A worker that says nothing for its time limit has lost its target, or its mind: one of them is replaced. */
static int64_t check_progress(struct sync *s, int64_t now)
{
	int64_t limit = worker_link_heard_ns(s->worker) + s->opt->progress_timeout_ns;

	if (now < limit)
		return limit;
	if (!s->worker_killed) /* one that waits for a dead disk ends late: told once */
		sync_log(s, LOG_CAT_ERROR, NULL, "%s: no progress for %.0f s: the worker is replaced (progressTimeout)",
			 s->opt->name, (double)s->opt->progress_timeout_ns / (double)NS_PER_S);
	s->worker_killed = true;
	worker_link_kill(s->worker);
	return now + NS_PER_S;
}

/* The first lane. */
static void poll_first(struct sync *s)
{
	int64_t now = clock_mono_ns(), next = INT64_MAX, look;
	struct err err = ERR_INIT;

	if (s->drain_ticket != 0 && s->env->drained(s->env->ctx, s->drain_ticket))
		worker_link_resume(s->worker);
	if (s->worker_ended)
		sync_drop_worker(s);
	loop_timer_stop(s->timer);
	if (s->batch != NULL) {
		if (s->worker != NULL && !hooks_checking(s->hooks))
			loop_timer_at(s->timer, check_progress(s, now));
		return;
	}
	if (s->stopping || s->root_fd < 0 || sync_waits_for_tunnel(s))
		return;
	if (s->down && now < s->down_until_ns) {
		loop_timer_at(s->timer, s->down_until_ns);
		return;
	}
	if (now < s->pause_until_ns) {
		loop_timer_at(s->timer, s->pause_until_ns);
		return;
	}
	look = sync_look_due(s, now);
	if (!is_due(s, now, &next)) {
		next = look < next ? look : next;
		if (next != INT64_MAX)
			loop_timer_at(s->timer, next);
		return;
	}
	if (!s->env->slot_take(s->env->ctx, false))
		return; /* the daemon polls all syncs when one is given back */
	if (s->worker == NULL && sync_start_worker(s, &err) < 0) {
		s->env->slot_give(s->env->ctx, false);
		sync_drop_worker(s);
		sync_go_down(s, err.text);
		loop_timer_at(s->timer, s->down_until_ns);
		return;
	}
	send_batch(s, now);
	if (s->batch == NULL) { /* nothing was due after all, or memory was short: not at once again */
		s->pause_until_ns = now + 100 * NS_PER_MS;
		loop_timer_at(s->timer,
			      s->down && s->down_until_ns > s->pause_until_ns ? s->down_until_ns : s->pause_until_ns);
		return;
	}
	loop_timer_at(s->timer, now + s->opt->progress_timeout_ns);
}

void sync_poll(struct sync *s)
{
	poll_first(s);
	sync_large_poll(s); /* what is left of the slots */
}

static void on_timer(void *ctx)
{
	sync_poll(ctx);
}

/* ---- life ---- */

int sync_source_found(struct sync *s, int root_fd, struct err *err)
{
	struct stat st;

	s->held = false;
	if (fstat(root_fd, &st) < 0)
		return err_errno(err, errno, "cannot look at the source %s", s->opt->source);
	s->root_fd = root_fd;
	if (s->root_dev != st.st_dev || s->root_ino != st.st_ino) { /* they have the old directory open */
		if (s->worker != NULL)
			sync_drop_worker(s);
		if (s->large.worker != NULL)
			sync_large_drop(s);
	}
	s->root_dev = st.st_dev;
	s->root_ino = st.st_ino;
	s->down = s->guarded = s->vetoed = false;
	sync_set_text(&s->reason, NULL);
	sync_changed(s);
	return 0;
}

void sync_held_up(struct sync *s)
{
	s->held = true;
}

void sync_source_lost(struct sync *s, const char *why)
{
	s->held = false;
	s->root_fd = -1;
	sync_set_text(&s->reason, why);
	sync_note_error(s, why);
	if (s->worker != NULL)
		sync_drop_worker(s);
	sync_large_drop(s);
	changeset_abandon_all(s->changes, clock_mono_ns());
	sync_end_batch(s);
	sync_changed(s);
}

struct changeset_limits sync_limits(const struct sync_options *opt)
{
	return (struct changeset_limits){
		.max_pending = (size_t)opt->max_pending,
		.max_renames = RENAMES_MAX,
		.batch_items = BATCH_ITEMS_MAX,
		.batch_bytes = BATCH_BYTES_MAX,
	};
}

struct sync *sync_new(const struct sync_env *env, const struct sync_options *opt, struct err *err)
{
	const struct changeset_limits limits = sync_limits(opt);
	struct sync *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		err_set(err, ERR_NOMEM, "out of memory");
		return NULL;
	}
	s->env = env;
	s->root_fd = -1;
	s->hooks = hooks_new(env->loop, opt, err);
	if (s->hooks == NULL) {
		free(s);
		return NULL;
	}
	sync_rebind(s, opt);
	s->changes = changeset_new(&limits);
	s->timer = loop_timer_add(env->loop, on_timer, s, err);
	if (s->changes == NULL || s->timer == NULL || sync_large_init(s, err) < 0 || sync_open_tunnel(s, err) < 0) {
		if (err->class == ERR_NONE)
			err_set(err, ERR_NOMEM, "out of memory");
		sync_free(s);
		return NULL;
	}
	return s;
}

void sync_rebind(struct sync *s, const struct sync_options *opt)
{
	s->opt = opt;
	hooks_rebind(s->hooks, opt);
	tunnel_rebind(s->tunnel, opt);
	s->intake = (struct intake){
		.filter = opt->filter,
		.delete_excluded = opt->rsync.delete_excluded,
		.path_rules = intake_path_rules(opt->filter),
		.open_file_interval_ns = opt->open_file_interval_ns,
	};
}

void sync_free(struct sync *s)
{
	if (s == NULL)
		return;
	sync_drop_worker(s);
	sync_large_done(s);
	sync_end_archive(s);
	tunnel_free(s->tunnel);
	if (s->batch != NULL)
		sync_end_batch(s);
	hooks_free(s->hooks);
	if (s->timer != NULL)
		loop_timer_remove(s->timer);
	changeset_free(s->changes);
	changeset_free(s->lost);
	failures_done(&s->failures);
	free(s->reason);
	free(s->last_error);
	free(s);
}

const struct sync_options *sync_options_of(const struct sync *s)
{
	return s->opt;
}

void sync_stop(struct sync *s)
{
	s->stopping = true;
}

bool sync_busy(const struct sync *s)
{
	return s->batch != NULL || s->large.batch != NULL;
}

bool sync_hooks_run(const struct sync *s)
{
	return hooks_busy(s->hooks);
}

void sync_set_log_mask(struct sync *s, uint32_t mask)
{
	if (s->worker != NULL && !s->worker_ended)
		(void)worker_link_set_log_mask(s->worker, mask);
	if (s->large.worker != NULL && !s->large.ended)
		(void)worker_link_set_log_mask(s->large.worker, mask);
}

static enum sync_state state_of(const struct sync *s)
{
	if (s->root_fd < 0)
		return s->held ? SYNC_WAITING : SYNC_NO_SOURCE;
	if (sync_busy(s) && s->down_tries == 0)
		return SYNC_SENDING;
	if (s->batch != NULL || s->down)
		return s->guarded ? SYNC_STOPPED : s->vetoed ? SYNC_VETOED : SYNC_DOWN;
	return changeset_pending(s->changes) + changeset_pending_renames(s->changes) > 0 ? SYNC_WAITING : SYNC_IDLE;
}

/* Age of the oldest change that is not on the target, and is to get there: due, in flight, or failed and tried again.
 */
static int64_t lag_of(const struct sync *s)
{
	int64_t oldest = changeset_oldest_ns(s->changes), now = clock_mono_ns(), lag, failing;

	if (s->batch != NULL && s->batch_started_ns < oldest)
		oldest = s->batch_started_ns;
	if (s->large.batch != NULL && s->large.started_ns < oldest)
		oldest = s->large.started_ns;
	if (changeset_large_oldest_ns(s->changes) < oldest)
		oldest = changeset_large_oldest_ns(s->changes);
	lag = oldest == INT64_MAX || oldest > now ? 0 : now - oldest;
	oldest = failures_oldest_ns(&s->failures);
	failing = oldest == INT64_MAX ? 0 : clock_real_ns() - oldest;
	return failing > lag ? failing : lag;
}

void sync_snapshot(const struct sync *s, struct sync_snapshot *out)
{
	*out = (struct sync_snapshot){
		.opt = s->opt,
		.state = state_of(s),
		.first_done = !sync_starting(s),
		.pending = changeset_pending(s->changes),
		.pending_renames = changeset_pending_renames(s->changes),
		.in_flight = changeset_in_flight(s->changes),
		.lag_ns = lag_of(s),
		.down_tries = s->down_tries,
		.next_try_ns = s->down_until_ns,
		.last_done_real_ns = s->last_done_real_ns,
		.last_error = s->last_error,
		.last_error_real_ns = s->last_error_real_ns,
		.failures = &s->failures,
		.counters = &s->counters,
		.progress = s->batch == NULL ? NULL : &s->progress,
		.batch_started_ns = s->batch_started_ns,
		.worker = s->worker == NULL ? 0 : worker_link_pid(s->worker),
	};
	if (s->batch == NULL && s->large.batch != NULL) {
		out->progress = &s->large.progress;
		out->batch_started_ns = s->large.started_ns;
	}
	if (s->large.batch != NULL) {
		out->large_path = s->large.batch->items[0].path;
		out->large_len = s->large.batch->items[0].len;
		out->large_progress = &s->large.progress;
		out->large_started_ns = s->large.started_ns;
		out->large_worker = s->large.worker == NULL ? 0 : worker_link_pid(s->large.worker);
	}
	if (out->state == SYNC_NO_SOURCE || out->state == SYNC_DOWN || out->state == SYNC_STOPPED ||
	    out->state == SYNC_VETOED)
		out->reason = s->reason;
	else if (s->held)
		out->reason = "another fansyncd is at work on this sync";
	else if (sync_waits_for_tunnel(s))
		out->reason = "the tunnel is not up yet";
	if (s->tunnel != NULL)
		tunnel_info(s->tunnel, &out->tunnel);
}

void sync_list_pending(const struct sync *s, size_t max,
		       void (*fn)(void *ctx, const char *path, size_t len, unsigned flags), void *ctx)
{
	changeset_list(s->changes, max, fn, ctx);
}
