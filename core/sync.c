#include "core/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fsutil.h"
#include "core/guard.h"
#include "core/intake.h"
#include "core/log.h"
#include "core/policy.h"
#include "core/worker_link.h"

#define BATCH_ITEMS_MAX 100000u
#define BATCH_BYTES_MAX (8u * 1024 * 1024)
#define RENAMES_MAX 10000u
#define CONFIG_TEXT_MAX (8u * 1024 * 1024)
#define GUARD_PAUSE_NS (10 * NS_PER_S)

struct sync {
	const struct sync_env *env;
	const struct sync_options *opt;
	struct intake intake;
	struct changeset *changes;
	struct failures failures;
	struct sync_counters counters;
	struct wire_counters worker_base, worker_last; /* sums of the workers before, and of this one */
	struct loop_timer *timer;

	int root_fd; /* borrowed; -1: no source */
	uint64_t root_dev, root_ino;
	char *reason; /* why there is no source, or why the target is down */
	bool held;    /* another process has its lock */
	char *last_error;
	int64_t last_error_real_ns, last_done_real_ns;

	struct worker_link *worker; /* NULL: none */
	bool worker_ended;	    /* it is to be freed at the next poll */
	bool worker_killed;	    /* for want of progress */
	bool worker_told;	    /* a `down` of its own explains its end */
	char *runtime_dir;
	uint32_t workers_started;

	struct batch *batch; /* in flight; NULL: none */
	int64_t batch_started_ns;
	int64_t batch_started_real_ns; /* the same by the wall clock, which failures carry */
	struct wire_progress progress;

	bool down;
	bool retry_soon; /* asked to try again while a batch was under way: should it fail, at once */
	bool guarded;	 /* down, and not for want of the target: a guard refused */
	uint32_t down_tries;
	int64_t down_until_ns;
	int64_t pause_until_ns; /* something was due, and yet there was no batch */
	bool stopping;
	bool allow_delete; /* for the next batch */
	bool has_urge;
	uint64_t urge_generation;
	bool has_start;
	bool start_over;	   /* the first reconcile is over, and stays so */
	uint64_t start_generation; /* of the first reconcile */
	uint64_t generation;	   /* latest seen: for marks of our own making */
};

const char *sync_state_name(enum sync_state s)
{
	static const char *const names[] = {
		[SYNC_NO_SOURCE] = "no source", [SYNC_IDLE] = "idle", [SYNC_WAITING] = "waiting",
		[SYNC_SENDING] = "sending",	[SYNC_DOWN] = "down", [SYNC_STOPPED] = "stopped",
	};

	return names[s];
}

static uint32_t random_bits(void)
{
	uint32_t v = 0;

	/* Only jitter: if the kernel has none to give, the backoff is as good without. */
	if (getrandom(&v, sizeof(v), GRND_NONBLOCK) != (ssize_t)sizeof(v))
		v = 0;
	return v;
}

static void set_text(char **slot, const char *text)
{
	char *copy = text == NULL ? NULL : strdup(text);

	free(*slot);
	*slot = copy;
}

static void note_error(struct sync *s, const char *text)
{
	set_text(&s->last_error, text);
	s->last_error_real_ns = clock_real_ns();
}

static void changed(struct sync *s)
{
	s->env->changed(s->env->ctx);
}

/* ---- records ---- */

static void count_cause(struct sync *s, const char *cause)
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

/* A file just created may still be written to; its close is another record. Links, directories and the like are
 * complete, and so is a file that was linked into place. Only asked when the delay is too short to make it irrelevant.
 */
static bool may_be_open(const struct sync *s, const struct change *c)
{
	struct stat st;
	char path[4096];

	if (c->kind != CHANGE_CREATE || c->is_dir || s->opt->delay_ns >= INTAKE_OPEN_NS || s->root_fd < 0 ||
	    c->path_len >= sizeof(path))
		return false;
	memcpy(path, c->path, c->path_len);
	path[c->path_len] = '\0';
	return fstatat(s->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1;
}

static void add_to_changes(struct sync *s, const struct intake_record *r, uint64_t generation, int64_t now)
{
	if (changeset_add(s->changes, &r->change, generation, now, r->hold_until_ns, r->extend) == 0)
		return;
	count_cause(s, "out of memory");
	log_warn("%s: out of memory for pending changes: everything will be compared", s->opt->name);
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
		if (r[i].change.kind == CHANGE_RECONCILE)
			count_cause(s, r[i].change.cause == NULL ? "unknown" : r[i].change.cause);
		add_to_changes(s, &r[i], generation, now);
	}
	if (c->kind == CHANGE_RECONCILE && c->cause != NULL && strcmp(c->cause, "overflow") == 0)
		s->counters.overflows++;
	collapses = changeset_collapses(s->changes) - collapses;
	for (uint64_t i = 0; i < collapses; i++)
		count_cause(s, "too many pending");
	if (collapses > 0)
		log_warn("%s: more than %lld changes are pending: the fullest directory will be compared as a whole",
			 s->opt->name, (long long)s->opt->max_pending);
}

void sync_reconcile(struct sync *s, const char *cause, bool start, bool allow_delete, uint64_t generation)
{
	struct intake_record r = {
		.change = { .kind = CHANGE_RECONCILE, .path = "", .cause = start ? "start" : cause },
	};

	s->generation = generation;
	count_cause(s, r.change.cause);
	if (start) {
		s->has_start = true;
		s->start_over = false;
		s->start_generation = generation;
	}
	if (allow_delete)
		s->allow_delete = true;
	add_to_changes(s, &r, generation, clock_mono_ns());
}

void sync_urge(struct sync *s, uint64_t generation)
{
	changeset_release_holds(s->changes);
	s->has_urge = true;
	s->urge_generation = generation;
}

void sync_retry_now(struct sync *s)
{
	changeset_release_retries(s->changes);
	s->down_until_ns = 0;
	s->retry_soon = s->batch != NULL;
}

/* Whether the first reconcile is still to end. */
static bool starting(const struct sync *s)
{
	return s->has_start && !s->start_over && !changeset_served(s->changes, s->start_generation);
}

bool sync_served(const struct sync *s, uint64_t generation)
{
	return !starting(s) && changeset_served(s->changes, generation);
}

/* ---- what the worker says ---- */

static void end_batch(struct sync *s)
{
	if (s->batch == NULL)
		return;
	batch_free(s->batch);
	s->batch = NULL;
	memset(&s->progress, 0, sizeof(s->progress));
	s->env->slot_give(s->env->ctx);
	changed(s);
}

/* ERR_AGAIN: nothing is known to be wrong. */
static void log_failure(struct sync *s, const char *path, size_t len, const struct err *e, uint32_t tries,
			bool given_up)
{
	const char *why = e->class == ERR_NONE ? "no reason was given" : e->text;
	char text[4096 + ERR_TEXT_MAX];

	/* Of a name that is too long the reason is still told. */
	if (len == 0)
		(void)snprintf(text, sizeof(text), ".: %s", why);
	else
		(void)snprintf(text, sizeof(text), "%.*s: %s", (int)(len < 4000 ? len : 4000), path, why);
	note_error(s, text);
	if (given_up)
		log_error("%s: given up: %s", s->opt->name, text);
	else if (e->class == ERR_AGAIN)
		log_info("%s: will be looked at again: %s", s->opt->name, text);
	else if (tries <= 1)
		log_warn("%s: will be tried again: %s", s->opt->name, text);
	else
		log_debug(LOG_CAT_ALARM, "%s: attempt %u failed: %s", s->opt->name, tries, text);
}

static void item_verdict(struct sync *s, const struct wire_verdict *v)
{
	const struct batch_item *item = &s->batch->items[v->index];
	const char *why = v->why.class == ERR_NONE ? "no reason was given" : v->why.text;
	int64_t now = clock_mono_ns(), not_before = 0;
	uint32_t tries;

	switch (v->v) {
	case VERDICT_RETRY:
		s->counters.retries++;
		tries = failures_note(&s->failures, item->path, item->len, why, false, clock_real_ns());
		log_failure(s, item->path, item->len, &v->why, tries, false);
		not_before = now + policy_backoff_ns(item->tries + 1, s->opt->retry_min_ns, s->opt->retry_max_ns,
						     random_bits());
		break;
	case VERDICT_REJECT:
		s->counters.rejected++;
		(void)failures_note(&s->failures, item->path, item->len, why, true, clock_real_ns());
		log_failure(s, item->path, item->len, &v->why, 1, true);
		break;
	case VERDICT_RECONCILE:
		count_cause(s, "the transport asked for it");
		break;
	case VERDICT_DONE:
	case VERDICT_GONE:
		if ((item->flags & MARK_RECURSIVE) != 0)
			failures_clear_below(&s->failures, item->path, item->len, s->batch_started_real_ns);
		else
			failures_clear(&s->failures, item->path, item->len);
		break;
	case VERDICT_NONE:
	case VERDICTS:
		return;
	}
	(void)changeset_settle(s->changes, s->batch->id, v->index, v->v, not_before, now);
}

static void before_verdicts(void *ctx)
{
	struct sync *s = ctx;

	s->env->drain(s->env->ctx);
}

static void on_verdict(void *ctx, uint64_t batch_id, const struct wire_verdict *v)
{
	struct sync *s = ctx;

	if (s->batch == NULL || s->batch->id != batch_id)
		return; /* of a batch that was abandoned meanwhile */
	if (v->is_rename) {
		if (v->index >= s->batch->n_renames)
			return;
		if (v->v != VERDICT_DONE)
			count_cause(s, "a rename that the target could not do");
		(void)changeset_settle_rename(s->changes, batch_id, v->index, v->v, clock_mono_ns());
	} else if (v->index < s->batch->n_items) {
		item_verdict(s, v);
	}
}

/* What the source does not have failed to be deleted. */
static bool is_absent(const struct sync *s, const char *path, size_t len)
{
	struct stat st;
	char text[4096];

	if (s->root_fd < 0 || len == 0 || len >= sizeof(text))
		return false;
	memcpy(text, path, len);
	text[len] = '\0';
	return fstatat(s->root_fd, text, &st, AT_SYMLINK_NOFOLLOW) < 0 && (errno == ENOENT || errno == ENOTDIR);
}

/* A path inside a reconciled directory, or a parent: it becomes a mark of its own. */
static void on_found(void *ctx, const struct wire_found *f)
{
	struct sync *s = ctx;
	const char *why = f->why.class == ERR_NONE ? "no reason was given" : f->why.text;
	struct intake_record r = { .change = { .kind = CHANGE_TOUCH, .path = f->path, .path_len = f->len } };
	int64_t now = clock_mono_ns();
	uint64_t generation = s->generation;
	uint32_t tries;

	if (f->v == VERDICT_REJECT) {
		s->counters.rejected++;
		(void)failures_note(&s->failures, f->path, f->len, why, true, clock_real_ns());
		log_failure(s, f->path, f->len, &f->why, 1, true);
		return;
	}
	if (f->v == VERDICT_RECONCILE) {
		r.change.kind = CHANGE_RECONCILE;
		r.change.cause = "the transport asked for it";
		r.hold_until_ns = now + s->opt->retry_min_ns; /* a lasting trouble must not become a loop */
		count_cause(s, r.change.cause);
	} else {
		s->counters.retries++;
		tries = failures_note(&s->failures, f->path, f->len, why, false, clock_real_ns());
		log_failure(s, f->path, f->len, &f->why, tries, false);
		/* Of a directory that could not be read all below was left out; a mere look would find nothing to
		 * delete. */
		if (strstr(why, "opendir") != NULL || strstr(why, "readdir") != NULL ||
		    (!s->opt->bidirectional && is_absent(s, f->path, f->len))) {
			r.change.kind = CHANGE_RECONCILE;
			r.change.cause = "failed before";
		}
		/* It has its verdict by now, and is named: a barrier does not wait for it any longer. */
		if (tries == 0 || tries >= 2)
			generation++;
		r.hold_until_ns = now + policy_backoff_ns(tries == 0 ? 1 : tries, s->opt->retry_min_ns,
							  s->opt->retry_max_ns, random_bits());
	}
	add_to_changes(s, &r, generation, now);
}

static void on_batch_done(void *ctx, uint64_t batch_id)
{
	struct sync *s = ctx;
	bool was_first = starting(s);

	if (s->batch == NULL || s->batch->id != batch_id)
		return;
	changeset_finish(s->changes, batch_id, clock_mono_ns());
	log_info("%s: batch of %zu paths and %zu renames done in %.3f s", s->opt->name, s->batch->n_items,
		 s->batch->n_renames, (double)(clock_mono_ns() - s->batch_started_ns) / (double)NS_PER_S);
	if (s->down_tries > 0)
		log_normal("%s: %s", s->opt->name, s->guarded ? "goes on" : "the target is back");
	s->down = s->guarded = s->retry_soon = false;
	s->down_tries = 0;
	s->last_done_real_ns = clock_real_ns();
	end_batch(s);
	s->start_over = s->start_over || !starting(s);
	if (was_first && s->start_over)
		log_normal("%s: first comparison finished, %zu failures", s->opt->name, s->failures.n);
}

/* What a guard refused is soon looked at again: the source may be mounted by then. */
static int64_t pause_after(const struct sync *s)
{
	int64_t pause = policy_backoff_ns(s->down_tries, s->opt->retry_min_ns, s->opt->retry_max_ns, random_bits());

	return s->guarded && pause > GUARD_PAUSE_NS ? GUARD_PAUSE_NS : pause;
}

static void log_down(struct sync *s, const char *why, bool news)
{
	if (!news)
		log_debug(LOG_CAT_ALARM, "%s: attempt %u failed: %s", s->opt->name, s->down_tries, why);
	else if (s->guarded)
		log_error("%s: stopped: %s", s->opt->name, why);
	else
		log_error("%s: %s; it is tried again until it works", s->opt->name, why);
}

static void go_down_for(struct sync *s, const char *why, bool guarded)
{
	bool news = s->down_tries == 0 || s->guarded != guarded ||
		    (guarded && (s->reason == NULL || strcmp(s->reason, why) != 0));

	changeset_abandon(s->changes, clock_mono_ns());
	end_batch(s);
	s->down = true;
	s->guarded = guarded;
	s->down_tries++;
	s->down_until_ns = s->retry_soon ? 0 : clock_mono_ns() + pause_after(s);
	s->retry_soon = false;
	set_text(&s->reason, why);
	note_error(s, why);
	log_down(s, why, news);
	changed(s);
}

static void go_down(struct sync *s, const char *why)
{
	go_down_for(s, why, false);
}

static void on_down(void *ctx, const struct err *why)
{
	struct sync *s = ctx;

	s->worker_told = true;
	go_down_for(s, why->text, why->class == ERR_UNSAFE);
}

static void on_ready(void *ctx)
{
	((struct sync *)ctx)->worker_told = false;
}

static void on_progress(void *ctx, const struct wire_progress *p)
{
	struct sync *s = ctx;

	s->progress = *p;
	s->progress.path = NULL;
	s->progress.path_len = 0;
	changed(s);
}

static void add_counters(struct sync *s)
{
	const struct wire_counters *a = &s->worker_base, *b = &s->worker_last;

	s->counters.files_sent = a->files_sent + b->files_sent;
	s->counters.bytes = a->bytes_sent + b->bytes_sent;
	s->counters.deletions = a->deletions + b->deletions;
	s->counters.renames = a->renames_carried + b->renames_carried;
	s->counters.handshakes = a->handshakes + b->handshakes;
	s->counters.processes = a->processes + b->processes;
	s->counters.conflicts = a->conflicts + b->conflicts;
}

static void on_counters(void *ctx, const struct wire_counters *c)
{
	struct sync *s = ctx;

	s->worker_last = *c;
	add_counters(s);
}

static void on_guard(void *ctx, const char *text, size_t len)
{
	struct sync *s = ctx;

	s->env->guard_learned(s->env->ctx, s->opt, text, len);
}

static void on_linked(void *ctx, const struct wire_linked *f)
{
	struct sync *s = ctx;

	if (s->root_fd >= 0)
		s->env->linked(s->env->ctx, s, f);
}

static void on_ended(void *ctx, const char *how)
{
	struct sync *s = ctx;
	char text[200];

	s->worker_ended = true;
	s->worker_base = (struct wire_counters){ s->counters.files_sent, s->counters.bytes,	 s->counters.deletions,
						 s->counters.renames,	 s->counters.handshakes, s->counters.processes,
						 s->counters.conflicts };
	s->worker_last = (struct wire_counters){ 0 };
	changed(s);
	if (s->worker_told)
		return;
	(void)snprintf(text, sizeof(text), "the worker ended: %s", how);
	if (s->batch != NULL)
		go_down(s, text);
	else /* that says nothing of the target: the next batch gets another worker */
		log_warn("%s: %s", s->opt->name, text);
}

/* ---- dispatch ---- */

static void drop_worker(struct sync *s)
{
	struct err err = ERR_INIT;

	worker_link_free(s->worker);
	s->worker = NULL;
	s->worker_ended = false;
	if (s->runtime_dir != NULL && remove_tree(s->runtime_dir, &err) < 0)
		log_warn("%s: %s", s->opt->name, err.text);
	free(s->runtime_dir);
	s->runtime_dir = NULL;
}

static int make_runtime_dir(struct sync *s, struct err *err)
{
	/* Short: a control socket's path below it has to fit into sockaddr_un. */
	if (asprintf(&s->runtime_dir, "%s/wXXXXXX", s->env->runtime_root) < 0) {
		s->runtime_dir = NULL;
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	if (mkdtemp(s->runtime_dir) != NULL)
		return 0;
	err_errno(err, errno, "cannot make a directory below %s", s->env->runtime_root);
	free(s->runtime_dir);
	s->runtime_dir = NULL;
	return -1;
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

/* The configuration and the record, as texts. */
static int worker_texts(struct sync *s, struct buf *config, struct buf *guard, struct err *err)
{
	buf_init(config, CONFIG_TEXT_MAX);
	buf_init(guard, GUARD_TEXT_MAX);
	if (s->env->config_text(s->env->ctx, s->opt, config) == 0 &&
	    s->env->guard_text(s->env->ctx, s->opt, guard) == 0)
		return 0;
	buf_done(config);
	buf_done(guard);
	return err_set(err, ERR_NOMEM, "out of memory for the worker's configuration");
}

static int start_worker(struct sync *s, struct err *err)
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
		.ended = on_ended,
	};
	struct worker_events events = template;
	struct buf text, guard;
	struct worker_spec spec = { .mode = "--worker", .name = s->opt->name };
	char *archive;

	events.ctx = s;
	if (make_runtime_dir(s, err) < 0)
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
		.runtime_dir = s->runtime_dir,
		.archive_path = archive,
		.log_mask = log_mask(),
		.source_dev = s->root_dev,
		.source_ino = s->root_ino,
	};
	memcpy(spec.config.host_id, s->env->host_id, HOST_ID_BYTES);
	s->worker_told = s->worker_killed = false;
	s->worker = worker_link_start(s->env->loop, &spec, &events, err);
	buf_done(&text);
	free(archive);
	buf_done(&guard);
	if (s->worker == NULL)
		return -1;
	if (s->workers_started++ > 0)
		s->counters.worker_restarts++;
	return 0;
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
	if (have && starting(s))
		return true;
	*next = have ? oldest + s->opt->delay_ns : INT64_MAX;
	if (hold < *next)
		*next = hold;
	return false;
}

static void send_batch(struct sync *s, int64_t now)
{
	struct err err = ERR_INIT;

	s->batch = changeset_take(s->changes, now);
	if (s->batch == NULL) {
		s->env->slot_give(s->env->ctx);
		return;
	}
	s->batch_started_ns = now;
	s->batch_started_real_ns = clock_real_ns();
	s->worker_told = false; /* a `down` before this batch does not explain its end */
	s->counters.batches++;
	if (worker_link_send(s->worker, s->batch, s->allow_delete ? WIRE_ALLOW_DELETE : 0, &err) < 0) {
		go_down(s, err.text);
		return;
	}
	s->allow_delete = false;
	log_debug(LOG_CAT_RECORD, "%s: batch %llu of %zu paths and %zu renames", s->opt->name,
		  (unsigned long long)s->batch->id, s->batch->n_items, s->batch->n_renames);
	changed(s);
}

/* A worker that says nothing for its time limit has lost its target, or its mind: one of them is replaced. */
static int64_t check_progress(struct sync *s, int64_t now)
{
	int64_t limit = worker_link_heard_ns(s->worker) + s->opt->progress_timeout_ns;

	if (now < limit)
		return limit;
	if (!s->worker_killed) /* one that waits for a dead disk ends late: told once */
		log_error("%s: no progress for %.0f s: the worker is replaced (progressTimeout)", s->opt->name,
			  (double)s->opt->progress_timeout_ns / (double)NS_PER_S);
	s->worker_killed = true;
	worker_link_kill(s->worker);
	return now + NS_PER_S;
}

void sync_poll(struct sync *s)
{
	int64_t now = clock_mono_ns(), next = INT64_MAX;
	struct err err = ERR_INIT;

	if (s->worker_ended)
		drop_worker(s);
	loop_timer_stop(s->timer);
	if (s->batch != NULL) {
		if (s->worker != NULL)
			loop_timer_at(s->timer, check_progress(s, now));
		return;
	}
	if (s->stopping || s->root_fd < 0)
		return;
	if (s->down && now < s->down_until_ns) {
		loop_timer_at(s->timer, s->down_until_ns);
		return;
	}
	if (now < s->pause_until_ns) {
		loop_timer_at(s->timer, s->pause_until_ns);
		return;
	}
	if (!is_due(s, now, &next)) {
		if (next != INT64_MAX)
			loop_timer_at(s->timer, next);
		return;
	}
	if (!s->env->slot_take(s->env->ctx))
		return; /* the daemon polls all syncs when one is given back */
	if (s->worker == NULL && start_worker(s, &err) < 0) {
		s->env->slot_give(s->env->ctx);
		drop_worker(s);
		go_down(s, err.text);
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

static void on_timer(void *ctx)
{
	sync_poll(ctx);
}

/* ---- life ---- */

void sync_source_found(struct sync *s, int root_fd)
{
	struct stat st;

	s->root_fd = root_fd;
	s->held = false;
	if (fstat(root_fd, &st) < 0) {
		s->root_fd = -1;
		return;
	}
	if (s->worker != NULL && (s->root_dev != st.st_dev || s->root_ino != st.st_ino))
		drop_worker(s); /* it has the old directory open */
	s->root_dev = st.st_dev;
	s->root_ino = st.st_ino;
	s->down = s->guarded = false;
	set_text(&s->reason, NULL);
	changed(s);
}

void sync_held_up(struct sync *s)
{
	s->held = true;
}

void sync_source_lost(struct sync *s, const char *why)
{
	s->held = false;
	s->root_fd = -1;
	set_text(&s->reason, why);
	note_error(s, why);
	if (s->worker != NULL)
		drop_worker(s);
	changeset_abandon(s->changes, clock_mono_ns());
	end_batch(s);
	changed(s);
}

struct sync *sync_new(const struct sync_env *env, const struct sync_options *opt, struct err *err)
{
	struct changeset_limits limits = {
		.max_pending = (size_t)opt->max_pending,
		.max_renames = RENAMES_MAX,
		.batch_items = BATCH_ITEMS_MAX,
		.batch_bytes = BATCH_BYTES_MAX,
	};
	struct sync *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		err_set(err, ERR_NOMEM, "out of memory");
		return NULL;
	}
	s->env = env;
	s->root_fd = -1;
	sync_rebind(s, opt);
	s->changes = changeset_new(&limits);
	s->timer = loop_timer_add(env->loop, on_timer, s, err);
	if (s->changes == NULL || s->timer == NULL) {
		err_set(err, ERR_NOMEM, "out of memory");
		sync_free(s);
		return NULL;
	}
	return s;
}

void sync_rebind(struct sync *s, const struct sync_options *opt)
{
	s->opt = opt;
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
	drop_worker(s);
	if (s->batch != NULL)
		end_batch(s);
	if (s->timer != NULL)
		loop_timer_remove(s->timer);
	changeset_free(s->changes);
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
	return s->batch != NULL;
}

void sync_set_log_mask(struct sync *s, uint32_t mask)
{
	if (s->worker != NULL && !s->worker_ended)
		(void)worker_link_set_log_mask(s->worker, mask);
}

static enum sync_state state_of(const struct sync *s)
{
	if (s->root_fd < 0)
		return s->held ? SYNC_WAITING : SYNC_NO_SOURCE;
	if (s->batch != NULL && s->down_tries == 0)
		return SYNC_SENDING;
	if (s->batch != NULL || s->down)
		return s->guarded ? SYNC_STOPPED : SYNC_DOWN;
	return changeset_pending(s->changes) + changeset_pending_renames(s->changes) > 0 ? SYNC_WAITING : SYNC_IDLE;
}

void sync_snapshot(const struct sync *s, struct sync_snapshot *out)
{
	int64_t oldest = changeset_oldest_ns(s->changes), now = clock_mono_ns();

	if (s->batch != NULL && s->batch_started_ns < oldest)
		oldest = s->batch_started_ns;
	*out = (struct sync_snapshot){
		.opt = s->opt,
		.state = state_of(s),
		.first_done = !starting(s),
		.pending = changeset_pending(s->changes),
		.pending_renames = changeset_pending_renames(s->changes),
		.in_flight = changeset_in_flight(s->changes),
		.lag_ns = oldest == INT64_MAX || oldest > now ? 0 : now - oldest,
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
	if (out->state == SYNC_NO_SOURCE || out->state == SYNC_DOWN || out->state == SYNC_STOPPED)
		out->reason = s->reason;
	else if (s->held)
		out->reason = "another fansyncd is at work on this sync";
}

void sync_list_pending(const struct sync *s, size_t max,
		       void (*fn)(void *ctx, const char *path, size_t len, unsigned flags), void *ctx)
{
	changeset_list(s->changes, max, fn, ctx);
}
