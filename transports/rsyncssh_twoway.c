/*
 * rsyncssh_twoway.c - the order of things in a bidirectional work; see rsyncssh_twoway.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/backup_dir.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/path.h"
#include "transports/remote_shell.h"
#include "transports/rsyncssh_twoway_private.h"
#include "transports/twoway_archive.h"

/* ---- small parts ---- */

void twoway_forget(struct twoway *t)
{
	struct changes *lists[] = { &t->deletes, &t->trees, &t->asks, &t->sends };

	for (size_t i = 0; i < t->changes.n; i++)
		free(t->changes.v[i]);
	free(t->changes.v);
	t->changes = (struct changes){ 0 };
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		free(lists[i]->v);
		*lists[i] = (struct changes){ 0 };
	}
	remote_entries_done(&t->seen);
	remote_entries_done(&t->backs);
	remote_entries_done(&t->present);
	free(t->names.v);
	free(t->spans.v);
	t->names = (struct names){ 0 };
	t->spans = (struct spans){ 0 };
	for (size_t i = 0; t->move_heads != NULL && i < t->work->n_renames; i++)
		free(t->move_heads[i]);
	free(t->move_heads);
	free(t->settled);
	free(t->lane_items);
	free(t->lane_change);
	free(t->puts);
	t->move_heads = NULL;
	t->settled = NULL;
	t->lane_items = NULL;
	t->lane_change = NULL;
	t->puts = NULL;
	compare_forget(t);
	backs_forget(t);
	looker_done(&t->looker);
	t->phase = PHASE_NONE;
	t->work = NULL;
}

bool twoway_busy(const struct twoway *t)
{
	return t->work != NULL;
}

/* The first reason counts. leave() acts on it, when nothing of the work is in use. */
void twoway_down(struct twoway *t, const struct err *why)
{
	if (t->work == NULL || t->broken)
		return;
	t->broken = true;
	t->why = *why;
}

/* The last act of whoever was called from outside: the work may be over, and the session closed by that. */
static void leave(struct twoway *t)
{
	const struct transport_env *env = t->env;
	struct err why = t->why;

	if (t->work == NULL || t->running)
		return;
	if (t->broken) {
		t->link.down(t->link.ctx, &why); /* comes back as inner_down */
	} else if (t->over) {
		twoway_forget(t);
		env->finished(env->ctx);
	}
}

void twoway_no_memory(struct twoway *t)
{
	struct err err = ERR_INIT;

	err_set(&err, ERR_NOMEM, "out of memory for a comparison with the target");
	twoway_down(t, &err);
}

void twoway_settle(struct twoway *t, size_t item, enum verdict v, const struct err *why)
{
	if (t->settled[item])
		return;
	t->settled[item] = true;
	t->env->settle(t->env->ctx, item, v, why);
}

void twoway_verdict(struct twoway *t, struct change *c, enum verdict v, const struct err *why)
{
	c->fate = FATE_SETTLED;
	if (c->item != NO_ITEM)
		twoway_settle(t, c->item, v, why);
	else if (v != VERDICT_DONE && v != VERDICT_GONE)
		t->env->found(t->env->ctx, c->path, c->len, v, why);
}

void twoway_again(struct twoway *t, const char *path, size_t len)
{
	struct err why = ERR_INIT;

	err_set(&why, ERR_AGAIN, "the target has another state, which its host should send: waiting for that");
	t->env->found(t->env->ctx, path, len, VERDICT_RETRY, &why);
}

void twoway_note(struct twoway *t, const char *path, size_t len, const struct twoway_state *state)
{
	struct twoway_state before;
	struct err err = ERR_INIT;

	if (t->broken)
		return;
	if (archive_get(t->archive, path, len, &before, &err) < 0)
		twoway_down(t, &err);
	else if ((state->look == LOOK_ABSENT || !twoway_same(state, &before, TWOWAY_NANOSECONDS)) &&
		 archive_note(t->archive, path, len, state, &err) < 0)
		twoway_down(t, &err);
}

void twoway_conflict(struct twoway *t, const char *path, size_t len, const struct twoway_state *here,
		     const struct twoway_state *there, const char *end)
{
	char a[TWOWAY_WORDS], b[TWOWAY_WORDS];

	if (!twoway_is_news(&t->told, path, len, here, there))
		return;
	t->env->counters->conflicts++;
	log_warn("conflict: %.*s: here a %s, at the target a %s: %s", (int)(len < 1000 ? len : 1000), path,
		 twoway_words(here, a), twoway_words(there, b), end);
}

void twoway_command_begin(struct twoway *t, struct buf *command)
{
	const char *text = t->env->opt->backup_dir;
	char dir[BACKUP_DIR_MAX], stamp[BACKUP_STAMP_MAX];
	int64_t now = clock_real_ns();
	struct err err = ERR_INIT;

	buf_init(command, TWOWAY_COMMAND_MAX);
	if (text == NULL || t->kept_told)
		return;
	if (backup_dir_at(dir, text, now, &err) < 0) {
		twoway_down(t, &err); /* nothing is called any more */
		return;
	}
	backup_dir_stamp(stamp, now);
	t->kept_told = remote_kept(command, dir, stamp);
}

bool twoway_call(struct twoway *t, struct buf *command)
{
	bool ok = !t->broken && !command->failed && t->link.call(t->link.ctx, command->data, command->len);
	struct err err = ERR_INIT;

	if (command->failed)
		twoway_no_memory(t);
	buf_done(command);
	err_set(&err, ERR_NETWORK, "ssh to %s: the connection is not usable any more", t->env->opt->host);
	if (ok)
		t->asked++;
	else
		twoway_down(t, &err);
	return ok;
}

static bool call_word(struct twoway *t, const char *word)
{
	struct buf command;

	twoway_command_begin(t, &command);
	(void)buf_add_str(&command, word);
	return twoway_call(t, &command);
}

/* ---- the connection ---- */

static bool setup_issue(struct twoway *t)
{
	struct buf command;

	if (t->asked > 0)
		return false;
	buf_init(&command, TWOWAY_COMMAND_MAX);
	(void)remote_setup(&command, t->own, t->what.numeric);
	return twoway_call(t, &command);
}

static void setup_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data)
{
	bool has_dir;
	enum remote_look look = remote_setup_answer(said, len, &has_dir, &t->top_dev);
	struct err err = ERR_INIT;

	(void)n;
	(void)status;
	(void)data;
	if (look == REMOTE_LOOK_NONE)
		err_set(&err, ERR_CONFIG,
			"bidirectional: the target's host has neither find with -printf nor stat -c: %.*s",
			(int)(len < 200 ? len : 200), said);
	else if (!has_dir && !t->fresh)
		err_set(&err, ERR_UNSAFE, "the directory %s is not there at the target (not mounted?)",
			t->env->opt->targetdir);
	if (err.class != ERR_NONE) {
		twoway_down(t, &err);
		return;
	}
	t->times = look == REMOTE_LOOK_SECONDS ? TWOWAY_SECONDS : TWOWAY_NANOSECONDS;
	t->set_up = has_dir;
	t->swept = !has_dir;
}

/* ---- sending ---- */

/* Each file that is put costs a few processes at the target. */
#define STAGED_MAX 200u

/* So often a file may change while it is sent; then it is never still for so long, and goes as it is. */
#define STAGED_TRIES 3u

/* Where something else than a directory is above it, rsync makes way; where only attributes differ, it sets them. */
static bool may_stage(const struct twoway *t, const struct change *c)
{
	struct twoway_state there = c->target;

	there.attr = c->source.attr;
	return c->look != LOOK_DIR && c->reachable && !c->apart && c->tries < STAGED_TRIES &&
	       !twoway_same(&there, &c->source, t->times);
}

/* Without permissions rsync takes them from what it replaces: then it must see that. */
static void choose_stages(struct twoway *t)
{
	size_t files = 0;

	for (size_t i = 0; i < t->sends.n; i++) {
		struct change *c = t->sends.v[i], *above;

		if (!c->reachable) { /* directories go first */
			above = twoway_find(&t->sends, t->sends.n, c->path, path_parent_len(c->path, c->len));
			c->reachable = above != NULL && above->look == LOOK_DIR && above->fate == FATE_OPEN;
		}
		files += may_stage(t, c) ? 1 : 0;
	}
	t->stages = files <= STAGED_MAX && t->what.perms;
}

static unsigned lane_of(const struct twoway *t, const struct change *c)
{
	if (c->apart)
		return TWOWAY_APART;
	return t->stages && may_stage(t, c) ? TWOWAY_STAGED : TWOWAY_DIRECT;
}

/* rsync's list: what is left to be sent on this lane. */
static bool fill_lane(struct twoway *t, unsigned lane)
{
	size_t n = 0;

	for (size_t i = 0; i < t->sends.n; i++) {
		const struct change *c = t->sends.v[i];

		if (c->fate != FATE_OPEN || c->stuck || lane_of(t, c) != lane)
			continue;
		t->lane_change[n] = i;
		t->lane_items[n++] = (struct transport_item){ .path = c->path,
							      .len = c->len,
							      .flags = c->flags & ~(unsigned)MARK_WAS_DIR,
							      .tries = c->tries,
							      .look = c->look,
							      .st = c->st };
	}
	t->lane = lane;
	t->lane_work = (struct transport_work){
		.items = t->lane_items, .n_items = n, .max_delete = -1, .keep = t->work->keep, .unguarded = true
	}; /* the marker was there */

	return n > 0;
}

/* The next lane that has something, from this one on. */
static bool fill_from(struct twoway *t, unsigned lane)
{
	while (lane < TWOWAY_LANES)
		if (fill_lane(t, lane++))
			return true;
	return false;
}

static bool clean_issue(struct twoway *t)
{
	return t->asked == 0 && call_word(t, "fs_clean");
}

static void any_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data)
{
	struct err err = ERR_INIT;

	(void)n;
	(void)data;
	if (status == 0)
		return;
	err_set(&err, ERR_IO, "at the target: %.*s", (int)(len < 400 ? len : 400), said);
	twoway_down(t, &err);
}

static enum phase_id act_over(struct twoway *t)
{
	twoway_sort(&t->sends);
	t->lane_items = calloc(t->sends.n + 1, sizeof(*t->lane_items));
	t->lane_change = calloc(t->sends.n + 1, sizeof(*t->lane_change));
	t->puts = calloc(t->sends.n + 1, sizeof(*t->puts));
	if (t->lane_items == NULL || t->lane_change == NULL || t->puts == NULL) {
		twoway_no_memory(t);
		return PHASE_NONE;
	}
	choose_stages(t);
	return PHASE_SEND;
}

static bool send_issue(struct twoway *t)
{
	return t->asked == 0 && fill_from(t, 0) && call_word(t, "fs_begin");
}

static void finish(struct twoway *t);
static void enter(struct twoway *t, enum phase_id id);
static void pump(struct twoway *t);

static enum phase_id start_lane(struct twoway *t)
{
	struct err err = ERR_INIT;

	if (t->link.send(t->link.ctx, &t->lane_work, (enum twoway_lane)t->lane, &err) < 0)
		twoway_down(t, &err);
	return PHASE_NONE;
}

static enum phase_id send_over(struct twoway *t)
{
	if (t->asked > 0)
		return start_lane(t);
	if (t->deletes.n > 0) /* their way leads through the private directory */
		return t->env->opt->backup_dir != NULL ? PHASE_BACKS : PHASE_CLEAN;
	finish(t);
	return PHASE_NONE;
}

static void inner_settle(void *ctx, size_t index, enum verdict v, const struct err *why)
{
	struct twoway *t = ctx;
	struct change *c;

	if (t->work == NULL || index >= t->lane_work.n_items)
		return;
	c = t->sends.v[t->lane_change[index]];
	if (c->fate != FATE_OPEN)
		return;
	if (v == VERDICT_DONE)
		c->fate = FATE_SENT;
	else
		twoway_verdict(t, c, v, why);
}

static void inner_settle_rename(void *ctx, size_t index, enum verdict v, const struct err *why)
{
	(void)ctx;
	(void)index;
	(void)v;
	(void)why;
}

static void inner_found(void *ctx, const char *path, size_t len, enum verdict v, const struct err *why)
{
	struct twoway *t = ctx;

	t->env->found(t->env->ctx, path, len, v, why);
}

static void inner_finished(void *ctx)
{
	struct twoway *t = ctx;
	struct err why = ERR_INIT;

	if (t->work == NULL)
		return;
	err_set(&why, ERR_AGAIN, "rsync ended without a word on it");
	for (size_t i = 0; i < t->lane_work.n_items; i++)
		inner_settle(t, i, VERDICT_RETRY, &why);
	if (fill_from(t, t->lane + 1))
		(void)start_lane(t);
	else
		enter(t, PHASE_PUTS);
	pump(t);
}

static void inner_down(void *ctx, const struct err *why)
{
	struct twoway *t = ctx;

	twoway_forget(t);
	t->env->down(t->env->ctx, why);
}

static void inner_progress(void *ctx, const struct transport_progress *p)
{
	struct twoway *t = ctx;

	t->env->progress(t->env->ctx, p);
}

/* ---- the end ---- */

/* Equal is not enough: it may have been another one when rsync read it, and be put back since. */
bool twoway_unchanged(struct twoway *t, const struct change *c)
{
	struct twoway_state now;
	struct stat st;

	return twoway_source(t, c->path, c->len, &now, &st) == 0 && twoway_same(&now, &c->source, TWOWAY_NANOSECONDS) &&
	       (now.look == LOOK_DIR || (st.st_ino == c->st.st_ino && st.st_ctim.tv_sec == c->st.st_ctim.tv_sec &&
					 st.st_ctim.tv_nsec == c->st.st_ctim.tv_nsec));
}

static void look_again(struct twoway *t, const struct change *c)
{
	struct err why = ERR_INIT;

	err_set(&why, ERR_AGAIN, "the source was changed while it was sent");
	t->env->found(t->env->ctx, c->path, c->len, VERDICT_RETRY, &why);
}

/* Noted is what was compared or sent, unless it may have been another one when it was sent. */
static void settle_sends(struct twoway *t)
{
	struct err why = ERR_INIT;

	for (size_t i = 0; i < t->sends.n; i++) {
		struct change *c = t->sends.v[i];

		if (c->fate == FATE_SENT) {
			bool known = c->staged || twoway_unchanged(t, c);

			/* A directory that has gone here since is to be deleted there, and is not the other host's. */
			if (known || c->look == LOOK_DIR)
				twoway_note(t, c->path, c->len, &c->source);
			twoway_verdict(t, c, VERDICT_DONE, NULL);
			if (!known) /* a second name that came or went changes it as well, and no event tells of that */
				look_again(t, c);
		} else if (c->fate == FATE_RESTORED) {
			err_set(&why, ERR_AGAIN, "it was edited at the target meanwhile, and that is newer");
			twoway_verdict(t, c, VERDICT_RETRY, &why);
		} else if (c->fate == FATE_OPEN) {
			err_set(&why, ERR_AGAIN, "the target was changed meanwhile");
			twoway_verdict(t, c, VERDICT_RETRY, &why);
		}
	}
}

static void finish(struct twoway *t)
{
	const struct transport_env *env = t->env;
	struct err err = ERR_INIT;
	bool whole = t->reconcile && t->work->n_items > 0 && t->work->items[0].len == 0;

	looker_done(&t->looker);
	settle_sends(t);
	for (size_t i = 0; i < t->work->n_items; i++)
		twoway_settle(t, i, VERDICT_DONE, NULL);
	if (t->broken)
		return;
	if (twoway_archive_commit(t->archive, env, &t->fresh, whole, &err) < 0) {
		twoway_down(t, &err);
		return;
	}
	t->over = true;
}

static enum phase_id first_phase(const struct twoway *t)
{
	if (!t->set_up)
		return PHASE_SETUP;
	if (!t->swept)
		return PHASE_OLD_BACKS;
	if (t->reconcile)
		return PHASE_TOPS;
	return t->work->n_renames > 0 ? PHASE_NAMES : PHASE_LOOK;
}

static enum phase_id setup_over(struct twoway *t)
{
	if (!t->set_up) /* there is no such directory yet, and so nothing in it */
		return t->reconcile ? PHASE_TOPS : t->work->n_renames > 0 ? PHASE_NAMES : PHASE_LOOK;
	return first_phase(t);
}

static enum phase_id clean_over(struct twoway *t)
{
	struct err err = ERR_INIT;

	if (t->restore_failed) {
		err_set(&err, ERR_IO,
			"what was replaced at the target could not be put back, or put away: see %s there", t->own);
		twoway_down(t, &err);
		return PHASE_NONE;
	}
	if (!t->swept) {
		t->swept = true;
		return first_phase(t);
	}
	finish(t);
	return PHASE_NONE;
}

static bool backs_clean_issue(struct twoway *t)
{
	return !t->restore_failed && clean_issue(t);
}

/* ---- the pump ---- */

static const struct phase twoway_phases[PHASES] = {
	[PHASE_SETUP] = { NULL, setup_issue, setup_answer, setup_over },
	[PHASE_OLD_BACKS] = { NULL, backs_issue, backs_answer, backs_over },
	[PHASE_OLD_LOOK] = { backs_look_enter, backs_look_issue, backs_look_answer, backs_look_over },
	[PHASE_OLD_ACT] = { backs_act_enter, backs_act_issue, backs_act_answer, backs_act_over },
	[PHASE_NAMES] = { moves_look_enter, twoway_self_issue, twoway_self_answer, moves_look_over },
	[PHASE_MOVES] = { NULL, moves_issue, moves_answer, moves_over },
	[PHASE_LOOK] = { items_enter, twoway_self_issue, twoway_self_answer, items_over },
	[PHASE_TOPS] = { items_enter, twoway_self_issue, twoway_self_answer, compare_tops_over },
	[PHASE_LIST] = { NULL, compare_issue, compare_answer, compare_over },
	[PHASE_TREES] = { trees_enter, trees_issue, twoway_self_answer, trees_over },
	[PHASE_ACT] = { act_enter, act_issue, act_answer, act_over },
	[PHASE_SEND] = { NULL, send_issue, any_answer, send_over },
	[PHASE_PUTS] = { puts_enter, puts_issue, puts_answer, puts_over },
	[PHASE_BACKS] = { NULL, backs_issue, backs_answer, backs_over },
	[PHASE_BACKS_LOOK] = { backs_look_enter, backs_look_issue, backs_look_answer, backs_look_over },
	[PHASE_BACKS_ACT] = { backs_act_enter, backs_act_issue, backs_act_answer, backs_act_over },
	[PHASE_STORE] = { store_enter, store_issue, store_answer, store_over },
	[PHASE_CLEAN] = { NULL, backs_clean_issue, any_answer, clean_over },
};

static void enter(struct twoway *t, enum phase_id id)
{
	t->phase = id;
	t->asked = t->answered = 0;
	t->exhausted = false;
	if (id != PHASE_NONE && twoway_phases[id].enter != NULL)
		twoway_phases[id].enter(t);
}

static void pump(struct twoway *t)
{
	t->running = true;
	while (t->work != NULL && !t->broken && t->phase != PHASE_NONE) {
		const struct phase *p = &twoway_phases[t->phase];

		while (!t->exhausted && !t->broken && t->link.room(t->link.ctx))
			if (!p->issue(t))
				t->exhausted = true;
		if (t->broken || !t->exhausted || t->answered < t->asked)
			break;
		enter(t, p->over(t));
	}
	t->running = false;
	leave(t);
}

void twoway_reply(struct twoway *t, int status, const char *said, size_t len, const struct buf *data)
{
	const struct transport_progress p = { .phase = t->reconcile ? "listing" : "comparing", .files = t->listed };

	if (t->work == NULL || t->phase == PHASE_NONE || t->answered >= t->asked)
		return;
	t->env->progress(t->env->ctx, &p);
	twoway_phases[t->phase].answer(t, t->answered, status, said, len, data);
	t->answered++;
	pump(t);
}

/* ---- life ---- */

void twoway_begin(struct twoway *t, const struct transport_work *work, bool reconcile)
{
	t->work = work;
	t->reconcile = reconcile;
	t->broken = t->over = t->restore_failed = t->kept_told = false;
	t->listed = t->yields = 0;
	t->trouble[0] = '\0';
	looker_init(&t->looker, t->env->source_fd);
	t->settled = calloc(work->n_items + 1, sizeof(bool));
	t->phase = PHASE_NONE;
	if (t->settled == NULL)
		twoway_no_memory(t);
	else
		enter(t, first_phase(t));
	pump(t);
}

void twoway_connected(struct twoway *t)
{
	t->set_up = t->swept = false;
}

const struct transport_env *twoway_env(struct twoway *t)
{
	return &t->inner;
}

const char *twoway_private(const struct twoway *t)
{
	return t->own;
}

struct twoway *twoway_new(const struct transport_env *env, const struct twoway_link *link, struct err *err)
{
	struct twoway *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for a session");
		return NULL;
	}
	t->env = env;
	t->link = *link;
	t->what = twoway_what_of(env->opt);
	t->inner = *env;
	t->inner.ctx = t;
	t->inner.settle = inner_settle;
	t->inner.settle_rename = inner_settle_rename;
	t->inner.found = inner_found;
	t->inner.finished = inner_finished;
	t->inner.down = inner_down;
	t->inner.progress = inner_progress;
	looker_init(&t->looker, env->source_fd);
	t->archive = twoway_archive_open(env, &t->fresh, err);
	if (t->archive == NULL) {
		twoway_free(t);
		return NULL;
	}
	(void)snprintf(t->own, sizeof(t->own), ".fansyncd-%016llx" PATH_TEMP_SUFFIX,
		       (unsigned long long)archive_id(t->archive));
	return t;
}

void twoway_free(struct twoway *t)
{
	if (t == NULL)
		return;
	twoway_forget(t);
	archive_close(t->archive);
	free(t);
}

int twoway_validate(const struct sync_options *opt, struct err *err)
{
	const struct rsync_options *r = &opt->rsync;
	const struct {
		const char *key;
		bool given;
	} refused[] = {
		{ "inplace", r->inplace },
		{ "append", r->append || r->append_verify },
		{ "backup", r->backup || r->backup_dir != NULL },
		{ "update", r->update },
		{ "existing", r->existing },
		{ "dry_run", r->dry_run },
		{ "ignore_times", r->ignore_times },
		{ "copy_links", r->copy_links || r->copy_dirlinks || r->copy_unsafe_links },
		{ "keep_dirlinks", r->keep_dirlinks },
		{ "chmod", r->chmod != NULL },
		{ "chown", r->chown != NULL || r->usermap != NULL || r->groupmap != NULL },
		{ "temp_dir", r->temp_dir != NULL },
		{ "partial_dir", r->partial_dir != NULL },
		{ "max_size", r->max_size != NULL || r->min_size != NULL },
		{ "delete_excluded", r->delete_excluded },
		{ "rsh", r->rsh != NULL },
	};

	if (!opt->bidirectional)
		return 0;
	if (!r->times)
		return err_set(err, ERR_CONFIG,
			       "bidirectional: needs rsync.times: the newer of two edits is the last one");
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (refused[i].given)
			return err_set(err, ERR_CONFIG, "bidirectional: rsync.%s can't be used with it",
				       refused[i].key);
	return 0;
}
