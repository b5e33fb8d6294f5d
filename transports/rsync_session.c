/*
 * rsync_session.c - a session's works: which rsync processes they need, in which order; see rsync_session.h.
 */
#include "transports/rsync_session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/backup_dir.h"
#include "core/clock.h"
#include "core/guard_switches.h"
#include "core/log.h"
#include "core/path.h"
#include "transports/rsync_list.h"
#include "transports/rsync_passes.h"

/* rsync cuts longer names, and then says nothing of them. */
#define RSYNC_PATH_MAX 4090u
#define LIST_MAX (256u * 1024 * 1024)
/* From so many names on, and files so small on average, rsync says only sums. */
#define SUMS_MIN 100u
#define SUMS_BYTES (64u * 1024)
#define VERSION_MIN 30100u
#define VERSION_FINE 30103u
#define VERSION_ASKS 30200u
#define VERSION_ESCAPES 30204u

static void on_event(void *ctx, const struct rsync_event *ev);
static void on_ended(void *ctx, int status);
static void on_timer(void *ctx);

struct rsync_session *rsync_session_new(const struct transport_env *env, const struct rsync_endpoint *to,
					const struct rsync_owner *owner, struct err *err)
{
	struct rsync_session *s = calloc(1, sizeof(*s));

	if (s != NULL)
		s->sent = calloc(SENT_SLOTS, sizeof(*s->sent));
	if (s == NULL || s->sent == NULL) {
		free(s);
		err_set(err, ERR_NOMEM, "out of memory for an rsync session");
		return NULL;
	}
	s->env = env;
	s->owner = *owner;
	rsync_session_endpoint(s, to);
	buf_init(&s->said, 1024);
	rsync_run_init(&s->run, env->loop, on_event, on_ended, s);
	launch_init(s);
	/* The descriptor that the worker has checked is the source, whatever its name leads to now. */
	(void)snprintf(s->cwd, sizeof(s->cwd), "/proc/self/fd/%d", env->source_fd);
	s->timer = loop_timer_add(env->loop, on_timer, s, err);
	if (s->timer == NULL || limit_init(&s->limit, env, err) < 0) {
		rsync_session_free(s);
		return NULL;
	}
	return s;
}

void pass_free(struct pass *p)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < p->rules.n; i++)
		free(p->rules.v[i]);
	free(p->rules.v);
	free(p->items);
	free(p);
}

void session_forget_notes(struct rsync_session *s)
{
	for (size_t i = 0; i < s->n_notes; i++)
		free(s->notes[i].path);
	s->n_notes = 0;
	s->notes_lost = s->deletion_off = s->no_space = s->limit_hit = false;
	s->counted_files = s->counted_deletions = 0;
	buf_clear(&s->said);
}

/* Drop everything that belongs to the work under way. */
static void forget_work(struct rsync_session *s)
{
	while (s->passes != NULL) {
		struct pass *p = s->passes;

		s->passes = p->next;
		pass_free(p);
	}
	pass_free(s->running);
	s->running = NULL;
	session_forget_notes(s);
	free(s->marks);
	free(s->note_of);
	s->marks = NULL;
	s->note_of = NULL;
	s->work = NULL;
}

void rsync_session_free(struct rsync_session *s)
{
	if (s == NULL)
		return;
	rsync_run_stop(&s->run);
	loop_timer_remove(s->timer);
	forget_work(s);
	launch_done(s);
	buf_done(&s->said);
	free(s->notes);
	free(s->sent);
	free(s);
}

void rsync_session_peer(struct rsync_session *s, unsigned version)
{
	s->peer_version = version;
	s->peer_asked = version != 0;
}

void rsync_session_endpoint(struct rsync_session *s, const struct rsync_endpoint *to)
{
	s->to = *to;
	s->names = (struct rsync_names){ .roots = { s->env->opt->source, to->dir } };
}

bool session_each_decided(const struct rsync_session *s)
{
	return s->to.backup_dir != NULL || s->to.copy_dir != NULL;
}

bool session_fine_times(const struct rsync_session *s)
{
	if (s->local_version < VERSION_FINE || s->bare)
		return false;
	return s->to.kind == RSYNC_LOCAL || s->negotiated || s->peer_version >= VERSION_FINE;
}

static struct sent *sent_slot(struct rsync_session *s, const struct transport_item *item, uint64_t *hash)
{
	*hash = path_hash(item->path, item->len);
	return &s->sent[*hash % SENT_SLOTS];
}

static void remember_sent(struct rsync_session *s, const struct transport_item *item)
{
	uint64_t hash;
	struct sent *slot = sent_slot(s, item, &hash);

	if (item->look == LOOK_FILE)
		*slot = (struct sent){ hash, item->st.st_size, item->st.st_mtim };
}

/* Whether size and time may be those of other content that the target has. */
static bool doubtful(struct rsync_session *s, const struct transport_item *item)
{
	uint64_t hash;
	const struct sent *slot = sent_slot(s, item, &hash);
	bool fine = session_fine_times(s);

	if (item->look != LOOK_FILE || s->env->opt->rsync.checksum || s->env->opt->rsync.ignore_times)
		return false;
	if ((item->flags & MARK_FAILED) != 0)
		return true;
	if (slot->hash != hash)
		return !fine; /* unknown: it may have been sent within this second, by another session */
	return slot->size == item->st.st_size && slot->mtime.tv_sec == item->st.st_mtim.tv_sec &&
	       (!fine || slot->mtime.tv_nsec == item->st.st_mtim.tv_nsec);
}

void session_settle(struct rsync_session *s, size_t item, enum verdict v, const struct err *why)
{
	if (s->marks[item] == ITEM_SETTLED)
		return;
	s->marks[item] = ITEM_SETTLED;
	if (v == VERDICT_DONE && !s->reconcile)
		remember_sent(s, &s->work->items[item]);
	s->env->settle(s->env->ctx, item, v, why);
}

void session_finish(struct rsync_session *s, const struct err *why)
{
	for (size_t i = 0; why != NULL && i < s->work->n_items; i++)
		session_settle(s, i, VERDICT_RETRY, why);
	forget_work(s);
	s->env->finished(s->env->ctx);
}

void rsync_session_down(struct rsync_session *s, const struct err *why)
{
	struct err copy = *why;

	rsync_run_stop(&s->run);
	loop_timer_stop(s->timer);
	forget_work(s);
	s->env->down(s->env->ctx, &copy);
}

void session_out_of_memory(struct rsync_session *s)
{
	struct err err = ERR_INIT;

	err_set(&err, ERR_NOMEM, "out of memory for a run of rsync");
	session_finish(s, &err);
}

/* Takes `rule` (NULL: out of memory). */
static bool add_rule_text(struct pass *p, char *rule)
{
	char **v = rule == NULL ? NULL : realloc(p->rules.v, (p->rules.n + 1) * sizeof(char *));

	if (v == NULL) {
		free(rule);
		return false;
	}
	p->rules.v = v;
	p->rules.v[p->rules.n++] = rule;
	return true;
}

bool pass_add_rule(struct pass *p, const char *prefix, const char *path, size_t len)
{
	struct buf rule;
	bool ok;

	buf_init(&rule, 2 * PATH_BYTES_MAX + 64);
	ok = rsync_rule_for(&rule, prefix, path, len) && add_rule_text(p, strdup(buf_str(&rule)));
	buf_done(&rule);
	return ok;
}

bool session_push(struct rsync_session *s, const size_t *items, size_t n, const struct pass *like)
{
	struct pass *p = n == 0 ? NULL : calloc(1, sizeof(*p));

	if (n == 0)
		return true;
	if (p != NULL)
		p->items = malloc(n * sizeof(*p->items));
	if (p == NULL || p->items == NULL) {
		pass_free(p);
		return false;
	}
	memcpy(p->items, items, n * sizeof(*items));
	p->n = n;
	p->flags = like->flags;
	p->round = like->round;
	p->max_delete = like->max_delete;
	p->next = s->passes;
	s->passes = p;
	return true;
}

static void reject_long(struct rsync_session *s)
{
	struct err why = ERR_INIT;

	err_set(&why, ERR_LIMIT, "the path is longer than rsync can take (%u bytes)", RSYNC_PATH_MAX);
	for (size_t i = 0; i < s->work->n_items; i++)
		if (s->work->items[i].len > RSYNC_PATH_MAX)
			session_settle(s, i, VERDICT_REJECT, &why);
}

/* Which pass an item belongs into: 0 plain, 1 checksum, 2 force. */
static unsigned lane_of(struct rsync_session *s, const struct transport_item *item)
{
	if ((item->look != LOOK_DIR && (item->flags & MARK_WAS_DIR) != 0) && s->work->may_delete &&
	    keep_touches(s->work->keep, item->path, item->len) == NULL)
		return 2;
	return doubtful(s, item) ? 1 : 0;
}

/* Which lane the plain one goes with, where that costs nothing; its own otherwise. Directories, links and deletions
 * need no content compared; directories and deletions may go with --force, which removes what the session would remove
 * after a second look anyway. The lane that holds the directories goes last: the others change their times. */
static unsigned plain_goes_with(struct rsync_session *s)
{
	const struct transport_work *w = s->work;
	size_t n_lane[3] = { 0 }, files = 0, others = 0;

	for (size_t i = 0; i < w->n_items; i++) {
		unsigned lane = lane_of(s, &w->items[i]);
		enum look look = w->items[i].look;

		if (s->marks[i] != ITEM_OPEN)
			continue;
		n_lane[lane]++;
		files += lane == 0 && look == LOOK_FILE ? 1 : 0;
		others += lane == 0 && look != LOOK_DIR && look != LOOK_ABSENT ? 1 : 0;
	}
	if (n_lane[1] > 0)
		return files == 0 ? 1 : 0;
	return n_lane[2] > 0 && others == 0 ? 2 : 0;
}

static bool plan_apply(struct rsync_session *s)
{
	static const unsigned lane_flags[3] = { 0, PASS_CHECKSUM, PASS_FORCE };
	const struct transport_work *w = s->work;
	size_t *idx = calloc(w->n_items, sizeof(*idx));
	unsigned plain = plain_goes_with(s);
	bool ok = idx != NULL;

	/* What is pushed last runs first. */
	for (unsigned lane = 0; ok && lane < 3; lane++) {
		struct pass like = { .flags = lane_flags[lane], .max_delete = w->max_delete };
		size_t n = 0;

		for (size_t i = 0; i < w->n_items; i++) {
			unsigned of = lane_of(s, &w->items[i]);

			if (s->marks[i] == ITEM_OPEN && (of == 0 ? plain : of) == lane)
				idx[n++] = i;
		}
		ok = session_push(s, idx, n, &like);
	}
	free(idx);
	return ok;
}

static bool plan_reconcile(struct rsync_session *s)
{
	const struct transport_work *w = s->work;
	size_t *idx = calloc(w->n_items, sizeof(*idx));
	struct pass like = { .max_delete = w->max_delete >= 0 ? w->max_delete : 1000 };
	bool ok = idx != NULL;
	size_t n = 0;

	for (size_t i = 0; ok && i < w->n_items; i++)
		if (s->marks[i] == ITEM_OPEN)
			idx[n++] = i;
	ok = ok && session_push(s, idx, n, &like);
	free(idx);
	return ok;
}

int rsync_session_start(struct rsync_session *s, const struct transport_work *work, bool reconcile, struct err *err)
{
	size_t n = work->n_items + 1;

	if (s->work != NULL)
		return err_set(err, ERR_BUG, "a work is under way");
	s->marks = calloc(n, sizeof(*s->marks));
	s->note_of = calloc(n, sizeof(*s->note_of));
	if (s->marks == NULL || s->note_of == NULL) {
		forget_work(s);
		return err_set(err, ERR_NOMEM, "out of memory for a work of %zu paths", work->n_items);
	}
	s->work = work;
	s->reconcile = reconcile;
	s->runs = 0;
	s->files_done = s->bytes_done = s->bytes_shown = s->files_left = s->deleted = 0;
	s->marker_seen = s->marker_asked = false;
	loop_timer_after(s->timer, 0);
	return 0;
}

static void on_timer(void *ctx)
{
	struct rsync_session *s = ctx;

	if (s->work != NULL)
		s->owner.begin(s->owner.ctx, s->work, s->reconcile);
}

static void ask_peer(struct rsync_session *s)
{
	const struct rsync_job job = { .kind = s->to.kind,
				       .dest = s->to.dest,
				       .rsh = s->to.rsh,
				       .rsync_path = s->to.rsync_path,
				       .probe = true,
				       .bare = s->bare,
				       .escape = s->local_version < VERSION_ESCAPES,
				       .max_delete = -1 };
	struct buf list;

	buf_init(&list, 1);
	s->peer_asked = true;
	(void)launch(s, &job, NULL, &list);
}

void rsync_session_marker_seen(struct rsync_session *s)
{
	s->marker_seen = true;
}

bool rsync_session_needs_marker(const struct rsync_session *s)
{
	return GUARD_TARGET_MARKER && s->env->opt->require_target_marker != NULL && s->to.kind != RSYNC_LOCAL &&
	       s->work != NULL && !s->work->unguarded && !s->marker_seen;
}

void rsync_session_no_marker(struct rsync_session *s, const char *said)
{
	struct err err = ERR_INIT;

	err_set(&err, ERR_UNSAFE,
		"requireTargetMarker: %.150s is not in the target %.150s: nothing is carried. Mount the right target, "
		"or "
		"make the file%s%.100s%s",
		s->env->opt->require_target_marker, s->env->opt->target, said[0] == '\0' ? "" : " (", said,
		said[0] == '\0' ? "" : ")");
	rsync_session_down(s, &err);
}

static void ask_marker(struct rsync_session *s)
{
	const struct rsync_job job = { .kind = s->to.kind,
				       .dest = s->to.dest,
				       .rsh = s->to.rsh,
				       .rsync_path = s->to.rsync_path,
				       .bare = s->bare,
				       .escape = s->local_version < VERSION_ESCAPES };
	struct buf list;

	buf_init(&list, 1);
	s->marker_asked = launch(s, &job, s->env->opt->require_target_marker, &list);
}

static void marker_answered(struct rsync_session *s, int status)
{
	const struct rsync_outcome *o = rsync_outcome_said(status, buf_str(&s->said));
	struct err why = ERR_INIT;

	s->marker_asked = false;
	if (o->fate == RSYNC_OK) {
		s->marker_seen = true;
		rsync_session_go_on(s);
	} else if (o->code == 23) {
		rsync_session_no_marker(s, buf_str(&s->said));
	} else {
		err_set(&why, o->class, "requireTargetMarker: %s (rsync exit %d): %.200s", o->words, o->code,
			buf_str(&s->said));
		rsync_session_down(s, &why);
	}
}

static bool has_root(const struct rsync_session *s, const struct pass *p)
{
	return p->n > 0 && s->work->items[p->items[0]].len == 0;
}

/* Named alone, "." would bring what it holds. */
static bool shield_root(struct rsync_session *s, struct pass *p)
{
	return s->reconcile || p->n != 1 || !has_root(s, p) || p->rules.n > 0 || add_rule_text(p, strdup("-s /*"));
}

/* What a directory that stands for its entries would show beyond them must be kept out by rules that rsync has. */
static bool may_name_whole(const struct rsync_session *s, const struct pass *p)
{
	return !s->reconcile && !session_each_decided(s) && (p->flags & (PASS_FORCE | PASS_CHECKSUM)) == 0 &&
	       p->rules.n == 0 && rsync_filter_bytes(s->env->opt) <= RSYNC_FILTER_ARGS;
}

static bool list_items(struct rsync_session *s, const struct pass *p, struct buf *list, bool *whole)
{
	const struct rsync_list l = { .items = s->work->items,
				      .index = p->items,
				      .n = p->n,
				      .source_fd = may_name_whole(s, p) ? s->env->source_fd : -1 };

	return rsync_list_make(&l, list, whole);
}

/* Many small files: that each was sent is no news. Deletions are counted by their lines. */
static bool only_sums(const struct rsync_session *s, const struct pass *p)
{
	const struct rsync_options *o = &s->env->opt->rsync;
	uint64_t bytes = 0;

	/* With a table of limits it is: a run can only be ended behind a file. */
	if (s->reconcile || p->flags != 0 || p->n < SUMS_MIN || o->verbose || o->dry_run || s->limit.table.n > 0)
		return false;
	for (size_t i = 0; i < p->n; i++) {
		const struct transport_item *item = &s->work->items[p->items[i]];

		if (item->look == LOOK_ABSENT)
			return false;
		bytes += item->look == LOOK_FILE ? (uint64_t)item->st.st_size : 0;
	}
	return bytes / p->n <= SUMS_BYTES;
}

/* What one run deletes the next one of the same work may not delete once more. */
static int64_t deletions_left(const struct rsync_session *s, const struct pass *p)
{
	if ((p->flags & PASS_COUNT) != 0 || p->max_delete < 0 || p->max_delete == INT64_MAX)
		return -1;
	return p->max_delete > (int64_t)s->deleted ? p->max_delete - (int64_t)s->deleted : 0;
}

/* backupDir, as of now. */
struct kept {
	char dir[BACKUP_DIR_MAX], stamp[BACKUP_STAMP_MAX];
};

/* What rsync replaces or deletes it puts away itself. It would replace an older backup: so each run has its own names.
 */
static bool put_away(const struct rsync_session *s, struct rsync_job *job, struct kept *kept, struct err *err)
{
	const char *text = s->env->opt->backup_dir;
	int64_t now = clock_real_ns();

	if (text == NULL || session_each_decided(s)) /* that is for who decides */
		return true;
	if (backup_dir_at(kept->dir, text, now, err) < 0)
		return false;
	backup_dir_stamp(kept->stamp, now);
	job->backup_dir = kept->dir;
	job->backup_suffix = kept->stamp;
	return true;
}

static void run_pass(struct rsync_session *s, struct pass *p)
{
	const bool sums = only_sums(s, p);
	int64_t rate = limit_now(&s->limit);
	struct rsync_job job = { .kind = s->to.kind,
				 .dest = s->to.dest,
				 .rsh = s->to.rsh,
				 .rsync_path = s->to.rsync_path,
				 .recurse = s->reconcile,
				 .del = s->work->may_delete && (p->flags & PASS_KEEP) == 0,
				 .force = (p->flags & PASS_FORCE) != 0,
				 .checksum = (p->flags & PASS_CHECKSUM) != 0,
				 .count = (p->flags & PASS_COUNT) != 0,
				 .fine_times = session_fine_times(s),
				 .picks_xattrs = session_fine_times(s), /* the same release */
				 .bare = s->bare,
				 .escape = s->local_version < VERSION_ESCAPES,
				 .sums = sums,
				 .backup_dir = s->to.backup_dir,
				 .temp_dir = s->to.temp_dir,
				 .copy_dir = s->to.copy_dir,
				 .first_rules = &p->rules,
				 .keep = s->work->keep,
				 .max_delete = deletions_left(s, p),
				 .rate = rate };
	struct kept kept;
	struct buf list;
	struct err err = ERR_INIT;

	buf_init(&list, LIST_MAX);
	if (!put_away(s, &job, &kept, &err)) {
		pass_free(p);
		session_finish(s, &err);
		return;
	}
	s->running = p;
	s->rate = rate;
	s->cut = false;
	p->sums = sums;
	if (job.del)
		job.missing = RSYNC_MISSING_DELETE;
	if (s->reconcile && rsync_filter_bytes(s->env->opt) > RSYNC_FILTER_ARGS) {
		if (launch_filter_file(s, &err) < 0) {
			session_finish(s, &err);
			return;
		}
		job.filter_file = s->filter_file;
	}
	if (!shield_root(s, p) || !list_items(s, p, &list, &job.whole)) {
		buf_done(&list);
		session_out_of_memory(s);
		return;
	}
	(void)launch(s, &job, NULL, &list);
}

void session_next(struct rsync_session *s)
{
	struct pass *p = s->passes;
	struct err err = ERR_INIT;

	if (p == NULL) {
		session_finish(s, NULL);
		return;
	}
	if (++s->runs > RUNS_MAX) {
		err_set(&err, ERR_AGAIN, "too many partial failures in one batch, the rest goes later");
		session_finish(s, &err);
		return;
	}
	s->passes = p->next;
	p->next = NULL;
	run_pass(s, p);
}

void rsync_session_go_on(struct rsync_session *s)
{
	if (s->local_version == 0) {
		launch_version(s);
		return;
	}
	if (s->to.kind != RSYNC_LOCAL && !s->peer_asked && s->local_version >= VERSION_ASKS) {
		ask_peer(s);
		return;
	}
	reject_long(s);
	if (rsync_session_needs_marker(s)) {
		ask_marker(s);
		return;
	}
	if (s->work->n_items == 0) {
		session_finish(s, NULL);
	} else if (!(s->reconcile ? plan_reconcile(s) : plan_apply(s))) {
		session_out_of_memory(s);
	} else {
		session_next(s);
	}
}

static void show_progress(struct rsync_session *s, const struct rsync_event *ev)
{
	struct transport_progress p = { .phase = s->running == NULL ? "connecting" : "sending",
					.files = s->files_done,
					.bytes = s->bytes_done };

	switch (ev->kind) {
	case RSYNC_PROGRESS:
		s->bytes_shown = ev->bytes;
		s->files_left = ev->left;
		break;
	case RSYNC_ALIVE: /* what was shown, again */
		break;
	default:
		s->bytes_shown = s->files_left = 0;
		p.path = ev->name;
		p.path_len = ev->len;
		break;
	}
	p.bytes = s->bytes_done > s->bytes_shown ? s->bytes_done : s->bytes_shown;
	p.files_total = s->files_left == 0 ? 0 : s->files_done + s->files_left;
	s->env->progress(s->env->ctx, &p);
}

/* A directory that was named is one deletion, with all that was in it. What a comparison finds was not named. */
static bool is_counted_deletion(const struct rsync_session *s, const struct rsync_event *ev)
{
	return s->reconcile || rsync_item_find(s->work, ev->name, ev->len) != SIZE_MAX;
}

static void count(struct rsync_session *s, const struct rsync_event *ev)
{
	bool dry = s->env->opt->rsync.dry_run || (s->running != NULL && (s->running->flags & PASS_COUNT) != 0);

	if (dry)
		return;
	if (ev->kind == RSYNC_DELETED) {
		s->deleted++;
		s->env->counters->entries_deleted++;
	}
	if (ev->kind == RSYNC_DELETED && is_counted_deletion(s, ev))
		s->env->counters->deletions++;
	if (ev->kind == RSYNC_SENT) {
		s->env->counters->files_sent++;
		s->env->counters->bytes_sent += ev->bytes;
		s->files_done++;
		s->bytes_done += ev->bytes;
	}
}

static void count_sum(struct rsync_session *s, const struct rsync_event *ev)
{
	if (s->running == NULL || !s->running->sums)
		return; /* of a dry run, or counted by its lines */
	if (ev->kind == RSYNC_FILES_SENT) {
		s->env->counters->files_sent += ev->done;
		s->files_done += ev->done;
	} else if (ev->kind == RSYNC_BYTES_SENT) {
		s->env->counters->bytes_sent += ev->done;
		s->bytes_done += ev->done;
	}
}

/* Another limit holds by now. rsync can't be told: it is ended where a file has just arrived, so that no more than the
 * next ones have begun in vain, and the rest is run anew. */
static void keep_to_limit(struct rsync_session *s)
{
	if (s->cut || s->running == NULL || (s->running->flags & PASS_COUNT) != 0 || limit_now(&s->limit) == s->rate)
		return;
	log_info("another bandwidth from now on: rsync is started anew for what is left");
	s->cut = true;
	rsync_run_end(&s->run);
}

/* It was ended for its limit, and had not come to its end: the same once more. */
static bool again_slower(struct rsync_session *s, struct pass *p, int status)
{
	bool cut = s->cut && p != NULL && rsync_outcome(status)->fate != RSYNC_OK;

	s->cut = false;
	if (!cut)
		return false;
	s->runs--;
	p->next = s->passes;
	s->passes = p;
	session_next(s);
	return true;
}

static void on_event(void *ctx, const struct rsync_event *ev)
{
	struct rsync_session *s = ctx;

	switch (ev->kind) {
	case RSYNC_SENT:
	case RSYNC_DELETED:
	case RSYNC_CHANGED:
	case RSYNC_PROGRESS:
	case RSYNC_ALIVE:
		count(s, ev);
		show_progress(s, ev);
		if (ev->kind == RSYNC_SENT)
			keep_to_limit(s);
		break;
	case RSYNC_VERSION:
		s->local_version = ev->version;
		break;
	case RSYNC_NEGOTIATED:
		s->negotiated = ev->len > 2 && memcmp(ev->name, "xxh", 3) == 0;
		break;
	case RSYNC_FILES_SENT:
	case RSYNC_BYTES_SENT:
	case RSYNC_SUM:
		count_sum(s, ev);
		break;
	case RSYNC_FILES_TOTAL:
		s->counted_files = ev->done;
		break;
	case RSYNC_FILES_DELETED:
		s->counted_deletions = ev->done;
		break;
	default:
		session_note(s, ev);
		break;
	}
}

/* rrsync has to see the arguments that it judges ("option -s has been disabled on this server"), and takes no negative
 * --modify-window. The run did nothing, and is made again without. */
static bool again_bare(struct rsync_session *s, struct pass *p)
{
	if (s->bare || s->to.kind != RSYNC_SHELL || strstr(buf_str(&s->said), "-s has been disabled") == NULL)
		return false;
	log_info("rrsync at the target: times are compared in whole seconds");
	s->bare = true;
	if (p == NULL) {
		s->peer_asked = false;
		rsync_session_go_on(s);
		return true;
	}
	p->next = s->passes;
	s->passes = p;
	session_next(s);
	return true;
}

/* It may have given numbers to who has a name: it finds out of whom by itself. */
static bool again_by_name(struct rsync_session *s, struct pass *p)
{
	if (p->rules.n > 0 || !launch_tables_changed(s, p) || !session_push(s, p->items, p->n, p))
		return false;
	log_info("the tables of users and groups were replaced while rsync ran: it runs once more");
	pass_free(p);
	session_next(s);
	return true;
}

static void on_ended(void *ctx, int status)
{
	struct rsync_session *s = ctx;
	struct pass *p = s->running;
	struct err err = ERR_INIT;

	if (s->work == NULL)
		return;
	s->running = NULL;
	launch_over(s, status);
	if (p != NULL && rsync_outcome(status)->fate == RSYNC_OK && again_by_name(s, p))
		return;
	if (s->marker_asked) {
		marker_answered(s, status);
		return;
	}
	if (again_slower(s, p, status) || (rsync_outcome(status)->fate == RSYNC_DOWN && again_bare(s, p)))
		return;
	if (p != NULL) {
		session_judge(s, p, status);
		return;
	}
	if (s->local_version == 0 || s->local_version < VERSION_MIN) {
		err_set(&err, ERR_CONFIG, "%s is not rsync 3.1 or newer%s", s->env->opt->rsync.binary,
			s->open || rsync_outcome(status)->fate == RSYNC_OK
				? ""
				: ", or does not start where it is confined to what it needs (see rsync.confine)");
		rsync_session_down(s, &err);
		return;
	}
	if (rsync_outcome(status)->fate != RSYNC_OK) {
		p = calloc(1, sizeof(*p)); /* the probe failed: judged as a run of nothing */
		if (p == NULL)
			session_out_of_memory(s);
		else
			session_judge(s, p, status);
		s->peer_asked = s->work == NULL ? false : s->peer_asked;
		return;
	}
	rsync_session_go_on(s);
}
