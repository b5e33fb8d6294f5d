/*
 * mirror_twoway.c - bidirectional syncs: before anything is done to a name of the target three states are compared
 * (core/twoway.h), and what both ends agree on is noted (core/archive.h); see mirror_private.h.
 *
 * It stands in front of entry_sync and entry_delete: each name is decided on by itself, what is below a directory that
 * goes as well, so that nothing is deleted that the target's host has made or changed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "transports/mirror_private.h"
#include "transports/twoway_archive.h"
#include "transports/twoway_state.h"

struct mirror_twoway {
	struct archive *archive;     /* NULL: it is the other host's */
	struct mirror_agreed agreed; /* then */
	bool fresh;
	struct twoway_what what;
	struct twoway_names names;
	struct twoway_told told;
	enum twoway_times times;
	bool owners_told; /* the log has it that they are not mirrored */
};

/* ---- life ---- */

int both_open(struct mirror *m, const struct mirror_agreed *agreed, struct err *err)
{
	struct mirror_twoway *t;

	if (agreed == NULL && m->env->archive_path == NULL)
		return 0;
	t = calloc(1, sizeof(*t));
	if (t == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	t->what = twoway_what_of(m->env->opt);
	if (agreed != NULL)
		t->agreed = *agreed;
	else
		t->archive = twoway_archive_open(m->env, &t->fresh, err);
	if (agreed == NULL && t->archive == NULL) {
		free(t);
		return -1;
	}
	m->twoway = t;
	/* Directories' times follow from their entries on each side; carrying them would swap them for ever. */
	m->rules.dir_times = false;
	return 0;
}

void both_close(struct mirror *m)
{
	if (m->twoway != NULL)
		archive_close(m->twoway->archive);
	free(m->twoway);
	m->twoway = NULL;
}

void both_ends(struct mirror *m)
{
	struct mirror_twoway *t = m->twoway;

	if (t == NULL)
		return;
	t->times = m->rules.tick_ns >= NS_PER_S ? TWOWAY_SECONDS : TWOWAY_NANOSECONDS;
	/* What arrives there is its account's own: to that host it would be another state than ours, and a conflict. */
	if (!m->target.own_only)
		return;
	m->rules.caps &= ~(unsigned)FILEOPS_OWNERS;
	if ((t->what.owner || t->what.group) && !t->owners_told)
		log_normal(
			"the target is written by an account that is not root's: both ways, owners and groups are not "
			"mirrored");
	t->owners_told = true;
}

int both_commit(struct mirror *m, struct err *err)
{
	struct mirror_twoway *t = m->twoway;
	bool whole = m->reconcile && m->work->n_items > 0 && m->work->items[0].len == 0;

	if (t != NULL && whole)
		t->agreed.in_doubt = false;
	if (t == NULL || t->archive == NULL)
		return 0;
	return twoway_archive_commit(t->archive, m->env, &t->fresh, whole, err);
}

bool both_in_doubt(const struct mirror *m)
{
	const struct mirror_twoway *t = m->twoway;

	return t != NULL && (t->archive == NULL ? t->agreed.in_doubt : archive_in_doubt(t->archive));
}

/* ---- states ---- */

static enum look look_of(const struct stat *st)
{
	if (S_ISDIR(st->st_mode))
		return LOOK_DIR;
	if (S_ISREG(st->st_mode))
		return LOOK_FILE;
	return S_ISLNK(st->st_mode) ? LOOK_SYMLINK : LOOK_SPECIAL;
}

struct twoway_state both_state(struct mirror *m, const struct stat *st, const char *text, size_t text_len)
{
	struct mirror_twoway *t = m->twoway;
	struct twoway_what what = t->what;

	/* What the target does not take can't be agreed on. */
	what.owner = what.owner && (m->rules.unmet & FILEOPS_OWNER) == 0 && (m->rules.caps & FILEOPS_OWNERS) != 0;
	what.group = what.group && (m->rules.unmet & FILEOPS_GROUP) == 0 && (m->rules.caps & FILEOPS_OWNERS) != 0;
	return twoway_state_of_stat(&what, &t->names, look_of(st), st, text, text_len);
}

static const struct twoway_state absent = { .look = LOOK_ABSENT };

static void put_note(struct mirror *m, const char *path, size_t len, const struct twoway_state *state)
{
	struct mirror_twoway *t = m->twoway;
	struct err err = ERR_INIT;

	if (t->archive == NULL)
		t->agreed.note(t->agreed.ctx, path, len, state);
	else if (archive_note(t->archive, path, len, state, &err) < 0)
		log_error("the archive of both ways: %s", err.text);
}

static void note(struct entry *e, const struct twoway_state *state)
{
	if (state->look == LOOK_ABSENT ? e->agreed.look == LOOK_ABSENT && !e->removed_dir
				       : twoway_same(state, &e->agreed, TWOWAY_NANOSECONDS))
		return;
	put_note(e->m, e->path, e->len, state);
}

bool both_moves(const struct mirror *m)
{
	return m->twoway->archive != NULL || m->twoway->agreed.moved != NULL;
}

bool both_moved(struct mirror *m, const char *from, size_t from_len, const char *to, size_t to_len, struct err *err)
{
	const struct mirror_twoway *t = m->twoway;

	if (t->archive != NULL)
		return archive_rename(t->archive, from, from_len, to, to_len, err) == 0;
	t->agreed.moved(t->agreed.ctx, from, from_len, to, to_len);
	return true;
}

bool both_same(const struct mirror *m, const struct twoway_state *a, const struct twoway_state *b)
{
	return twoway_same(a, b, m->twoway->times);
}

void both_gone(struct mirror *m, const char *path, size_t len)
{
	put_note(m, path, len, &absent);
}

/* The task came to its end, and the target is as we have it. */
void both_done(struct entry *e)
{
	struct twoway_state s;

	if (e->absent) {
		if (!e->wipe_kept)
			note(e, &absent);
		return;
	}
	s = both_state(e->m, &e->src, e->text, e->text_len);
	/* Also when it is what was noted: what was written is young. */
	put_note(e->m, e->path, e->len, &s);
}

/* ---- acting ---- */

static void tell(struct mirror *m, const char *path, size_t len, const struct twoway_state *here,
		 const struct twoway_state *there, bool ours_wins)
{
	struct mirror_twoway *t = m->twoway;
	char words[TWOWAY_CONFLICT_WORDS];

	if (!twoway_is_news(&t->told, path, len, here, there))
		return;
	m->env->counters->conflicts++;
	if (t->archive == NULL)
		t->agreed.conflict(t->agreed.ctx, path, len, here, there, ours_wins);
	else
		log_warn("%s", twoway_conflict_words(path, len, here, there, ours_wins, words));
}

static void tell_conflict(struct entry *e, bool ours_wins)
{
	tell(e->m, e->path, e->len, &e->here, &e->there, ours_wins);
}

/* Under the name of a conflict's loser. */
static enum fileops_result keep_beside(struct entry *e, size_t len, const struct twoway_state *loser)
{
	struct mirror *m = e->m;
	char *name = malloc(len + NAME_BYTES_MAX + 1);
	enum fileops_result r;

	if (name == NULL) {
		err_set(&e->op.err, ERR_NOMEM, "out of memory");
		return FILEOPS_FAILED;
	}
	r = m->target.ops->rename(m->target.ctx, &e->op, e->path, len, name,
				  twoway_conflict_name(e->path, len, loser, name), true);
	free(name);
	return r;
}

enum fileops_result both_clear_above(struct entry *e, size_t len, const struct stat *st)
{
	const struct twoway_state here = { .look = LOOK_DIR };
	const struct twoway_state there = both_state(e->m, st, NULL, 0);
	struct mirror *m = e->m;

	tell(m, e->path, len, &here, &there, true);
	return m->env->opt->conflict_copies ? keep_beside(e, len, &there) : backup_unlink(m, &e->op, e->path, len);
}

static enum fileops_result still_there(struct entry *e)
{
	struct err why = ERR_INIT;

	if (both_unmoved(e, e->r == FILEOPS_OK ? &e->op.st : NULL))
		return entry_delete(e);
	err_set(&why, ERR_AGAIN, "%.*s: it was edited at the target meanwhile", (int)(e->len < 300 ? e->len : 300),
		e->path);
	return entry_finish(e, VERDICT_RETRY, &why);
}

/* What is deleted is what was seen: what only a listing told is looked at once more. */
static enum fileops_result remove_seen(struct entry *e)
{
	struct mirror *m = e->m;

	if (!e->dst_listed || !e->dst_there || S_ISDIR(e->dst.st_mode))
		return entry_delete(e);
	e->step = still_there;
	return m->target.ops->look(m->target.ctx, &e->op, e->path, e->len);
}

static enum fileops_result proceed(struct entry *e)
{
	e->notes = true;
	return e->absent ? remove_seen(e) : entry_sync(e);
}

/* What both have: a directory's content is another matter. */
static enum fileops_result stay(struct entry *e)
{
	if (e->dir != NULL && e->dir->wipe)
		e->dir->kept = true;
	if (!e->absent && S_ISDIR(e->src.st_mode) && e->dst_there && S_ISDIR(e->dst.st_mode)) {
		e->keep_attrs = true;
		return entry_sync(e);
	}
	return entry_finish(e, VERDICT_DONE, NULL);
}

static enum fileops_result asked(struct entry *e)
{
	return e->r == FILEOPS_OK || e->r == FILEOPS_GONE ? stay(e) : entry_fail(e);
}

static enum fileops_result ask(struct entry *e, int64_t mtime_ns)
{
	struct mirror *m = e->m;
	int64_t s = mtime_ns / NS_PER_S, ns = mtime_ns % NS_PER_S;

	e->attrs = (struct fileops_attrs){ .mask = FILEOPS_MTIME,
					   .type = e->dst.st_mode & S_IFMT,
					   .mtime = { .tv_sec = ns < 0 ? s - 1 : s,
						      .tv_nsec = ns < 0 ? ns + NS_PER_S : ns } };
	e->step = asked;
	if (m->rules.dry_run)
		return FILEOPS_OK;
	return m->target.ops->attrs(m->target.ctx, &e->op, e->path, e->len, &e->attrs);
}

static bool is_item(const struct entry *e)
{
	return e->item != SIZE_MAX && !e->m->reconcile;
}

static unsigned tries_of(const struct entry *e)
{
	return is_item(e) ? e->m->work->items[e->item].tries : 0;
}

static enum fileops_result again(struct entry *e, const struct err *why)
{
	if (is_item(e))
		return entry_finish(e, VERDICT_RETRY, why);
	mirror_found(e->m, e->path, e->len, VERDICT_RETRY, why);
	return stay(e);
}

/* In doubt, of what nothing is agreed on: nobody sends unasked what was lost here. To wait for it, path by path, would
 * not do for many. */
static enum fileops_result fetch(struct entry *e, enum twoway_action action)
{
	struct mirror *m = e->m;
	int64_t mtime_ns;

	if (twoway_asks(action, TWOWAY_ASK_LOOKS, &e->there, m->twoway->times, &mtime_ns))
		return ask(e, mtime_ns);
	if (e->absent && S_ISDIR(e->dst.st_mode) && e->dir != NULL && !dir_enter_extra(e)) {
		err_set(&e->op.err, ERR_NOMEM, "out of memory");
		return entry_fail(e);
	}
	return stay(e);
}

/* The other host's to send. */
static enum fileops_result yield(struct entry *e, enum twoway_action action)
{
	struct mirror *m = e->m;
	bool item = is_item(e);
	unsigned looks = tries_of(e) + 1;
	bool named = item && (m->work->items[e->item].flags & MARK_NAME) != 0;
	struct err why = ERR_INIT;
	int64_t mtime_ns;

	if (action == TWOWAY_LOSE)
		tell_conflict(e, false);
	if (!item && e->agreed.look == LOOK_ABSENT && both_in_doubt(m))
		return fetch(e, action);
	if (item && twoway_asks(action, looks, &e->there, m->twoway->times, &mtime_ns))
		return ask(e, mtime_ns);
	if (item && twoway_insists(action, looks, &e->here, &e->there, named))
		return proceed(e);
	err_set(&why, ERR_AGAIN, "the target has another state, which its host should send: waiting for that");
	if (item && looks >= TWOWAY_ASK_LOOKS)
		return entry_finish(e, VERDICT_DONE, NULL);
	return again(e, &why);
}

static enum fileops_result put_aside(struct entry *e)
{
	if (e->r != FILEOPS_OK && e->r != FILEOPS_GONE)
		return entry_fail(e);
	e->dst_there = false;
	return proceed(e);
}

/* The source wins. What it overwrites may be kept. */
static enum fileops_result win(struct entry *e)
{
	tell_conflict(e, true);
	if (!e->m->env->opt->conflict_copies || !e->dst_there || S_ISDIR(e->dst.st_mode))
		return proceed(e);
	e->step = put_aside;
	return keep_beside(e, e->len, &e->there);
}

static enum fileops_result equal(struct entry *e)
{
	struct mirror *m = e->m;
	const struct mirror_look look = {
		.src = &e->src, .dst = &e->dst, .now_ns = m->now_ns, .named = e->dir == NULL, .harder = e->harder
	};

	if (e->absent || !e->dst_there) {
		note(e, &absent);
		return entry_finish(e, VERDICT_DONE, NULL);
	}
	/* Equal size and time may hide other content. */
	if (S_ISREG(e->src.st_mode) && mirror_judge(m, e->path, e->len, &look) != MIRROR_SAME) {
		e->notes = true;
		return send_compare(e);
	}
	note(e, &e->here);
	return stay(e);
}

static enum fileops_result decide(struct entry *e)
{
	struct mirror *m = e->m;
	enum twoway_action action;
	struct err why = ERR_INIT;

	e->decided = true;
	e->here = e->absent ? absent : both_state(m, &e->src, e->text, e->text_len);
	e->there = e->dst_there ? both_state(m, &e->dst, e->there_text, e->there_text_len) : absent;
	action = twoway_decide(&e->here, &e->there, &e->agreed, m->twoway->times);
	log_debug(LOG_CAT_RECORD, "%.*s: %s", (int)(e->len < 1000 ? e->len : 1000), e->path,
		  twoway_action_name(action));
	if (twoway_waits(action, tries_of(e) + 1, &e->here, &e->agreed)) {
		twoway_older(&why);
		return again(e, &why);
	}
	switch (action) {
	case TWOWAY_EQUAL:
		return equal(e);
	case TWOWAY_SEND:
		return proceed(e);
	case TWOWAY_DELETE:
		return m->work->may_delete ? proceed(e) : stay(e);
	case TWOWAY_WIN:
		return win(e);
	default:
		return yield(e, action);
	}
}

/* ---- looking ---- */

/* The target last: what is done then follows at once. */
static enum fileops_result there_text(struct entry *e)
{
	if (e->r == FILEOPS_OK) {
		entry_take_bytes(e, &e->there_text, &e->there_text_len);
	} else if (e->r != FILEOPS_GONE && e->r != FILEOPS_TYPE) {
		return entry_fail(e);
	}
	return decide(e);
}

static enum fileops_result read_there(struct entry *e)
{
	struct mirror *m = e->m;

	if (!e->dst_there || !S_ISLNK(e->dst.st_mode))
		return decide(e);
	e->step = there_text;
	return m->target.ops->readlink(m->target.ctx, &e->op, e->path, e->len);
}

static enum fileops_result target_looked(struct entry *e)
{
	if (e->r != FILEOPS_OK && e->r != FILEOPS_GONE && e->r != FILEOPS_TYPE && e->r != FILEOPS_TOOLONG)
		return entry_fail(e);
	e->dst_known = true;
	e->dst_there = e->r == FILEOPS_OK;
	if (e->dst_there)
		e->dst = e->op.st;
	return read_there(e);
}

static enum fileops_result look_there(struct entry *e)
{
	struct mirror *m = e->m;

	e->dst_listed = e->dst_known;
	if (e->dst_known)
		return read_there(e);
	e->step = target_looked;
	return m->target.ops->look(m->target.ctx, &e->op, e->path, e->len);
}

static enum fileops_result here_text(struct entry *e)
{
	if (e->r == FILEOPS_GONE || e->r == FILEOPS_TYPE)
		return entry_finish(e, VERDICT_GONE, NULL);
	if (e->r != FILEOPS_OK)
		return entry_fail(e);
	entry_take_bytes(e, &e->text, &e->text_len);
	return look_there(e);
}

static enum fileops_result look_here(struct entry *e)
{
	struct mirror *m = e->m;

	if (e->absent || !S_ISLNK(e->src.st_mode))
		return look_there(e);
	e->step = here_text;
	return m->source.ops->readlink(m->source.ctx, &e->op, e->path, e->len);
}

enum fileops_result both_recall(struct mirror *m, struct fileop *op, const char *path, size_t len)
{
	struct mirror_twoway *t = m->twoway;

	if (t->archive == NULL)
		return t->agreed.get(t->agreed.ctx, op, path, len);
	return archive_get(t->archive, path, len, &op->agreed, &op->err) < 0 ? FILEOPS_FAILED : FILEOPS_OK;
}

static enum fileops_result recalled(struct entry *e)
{
	if (e->r != FILEOPS_OK)
		return entry_fail(e);
	e->agreed_known = true;
	e->agreed = e->op.agreed;
	return look_here(e);
}

void both_listed(struct entry *e, const struct fileops_entry *src)
{
	struct mirror_twoway *t = e->m->twoway;

	/* All that is archived of a directory is in its listing. */
	if (t == NULL || t->archive != NULL || (src != NULL && src->agreed == NULL))
		return;
	e->agreed_known = true;
	e->agreed = src == NULL ? absent : *src->agreed;
}

enum fileops_result both_begin(struct entry *e, bool is_absent)
{
	e->absent = is_absent;
	if (e->agreed_known)
		return look_here(e);
	e->step = recalled;
	return both_recall(e->m, &e->op, e->path, e->len);
}

/* Just before a file takes the place of another: was that edited meanwhile? */
bool both_unmoved(const struct entry *e, const struct stat *now)
{
	if (now == NULL || !e->dst_there)
		return now == NULL && !e->dst_there;
	return (now->st_mode & S_IFMT) == (e->dst.st_mode & S_IFMT) && now->st_size == e->dst.st_size &&
	       now->st_mtim.tv_sec == e->dst.st_mtim.tv_sec && now->st_mtim.tv_nsec == e->dst.st_mtim.tv_nsec;
}
