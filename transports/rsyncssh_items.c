/*
 * rsyncssh_items.c - the items of a bidirectional batch: looked at, decided on, deleted where that is ours.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/path.h"
#include "transports/rsyncssh_twoway_private.h"

#define DELETIONS_DEFAULT 1000u

/* ---- the items of a batch ---- */

void items_enter(struct twoway *t)
{
	bool ok = true;

	twoway_clear_looks(t);
	for (size_t i = 0; ok && i < t->work->n_items; i++)
		ok = twoway_want_parents(t, t->work->items[i].path, t->work->items[i].len);
	if (!ok || !twoway_spans(t))
		twoway_no_memory(t);
}

static bool act_on(struct twoway *t, struct change *c);

static bool yield(struct twoway *t, struct change *c)
{
	unsigned looks = c->tries + 1;
	struct err why = ERR_INIT;

	if (c->action == TWOWAY_LOSE)
		twoway_conflict(t, c->path, c->len, &c->source, &c->target, "the target's wins");
	/* The directory stays, but what both had below it was deleted here. */
	if (c->action == TWOWAY_LOSE && c->source.look == LOOK_ABSENT && c->target.look == LOOK_DIR &&
	    t->work->may_delete && !twoway_push(&t->trees, c))
		return false;
	if (twoway_asks(c->action, looks, &c->target, t->times, &c->ask_ns))
		return twoway_push(&t->asks, c);
	if (twoway_insists(c->action, looks, &c->source, &c->target, (c->flags & MARK_NAME) != 0)) {
		c->action = TWOWAY_SEND;
		return act_on(t, c);
	}
	err_set(&why, ERR_AGAIN, "the target has another state, which its host should send: waiting for that");
	twoway_verdict(t, c, looks >= TWOWAY_ASK_LOOKS ? VERDICT_DONE : VERDICT_RETRY, &why);
	return true;
}

static bool act_on(struct twoway *t, struct change *c)
{
	switch (c->action) {
	case TWOWAY_EQUAL:
		twoway_note(t, c->path, c->len, &c->source);
		twoway_verdict(t, c, VERDICT_DONE, NULL);
		return true;
	case TWOWAY_WIN:
		twoway_conflict(t, c->path, c->len, &c->source, &c->target, "ours wins");
		return twoway_push(&t->sends, c);
	case TWOWAY_SEND:
		return twoway_push(&t->sends, c) &&
		       (c->target.look != LOOK_DIR || c->look == LOOK_DIR || twoway_push(&t->deletes, c));
	case TWOWAY_DELETE:
		if (t->work->may_delete)
			return twoway_push(&t->deletes, c);
		twoway_verdict(t, c, VERDICT_DONE, NULL);
		return true;
	default:
		return yield(t, c);
	}
}

static bool decide_item(struct twoway *t, size_t i)
{
	const struct transport_item *item = &t->work->items[i];
	struct twoway_state target, agreed;
	struct err err = ERR_INIT;
	const char *head;
	struct change *c;
	uint64_t dev;

	if (!twoway_mirrored(&t->what, item->look)) {
		twoway_settle(t, i, VERDICT_DONE, NULL);
		return true;
	}
	if (twoway_target(t, item->path, item->len, &target, &head, &dev) < 0) {
		err_set(&err, ERR_DENIED, "can't look at the target: %s", t->trouble);
		twoway_settle(t, i, VERDICT_RETRY, &err);
		return true;
	}
	c = twoway_add(t, item->path, item->len, head);
	if (c == NULL)
		return false;
	c->item = i;
	c->flags = item->flags;
	c->tries = item->tries;
	c->look = item->look;
	c->st = item->st;
	c->target = target;
	c->apart = dev != t->top_dev;
	c->reachable = twoway_reachable(t, c->path, c->len);
	if (twoway_state_of(&t->what, &t->owners, &t->looker, c->path, c->len, c->look, &c->st, &c->source, &err) < 0) {
		twoway_verdict(t, c, VERDICT_RETRY, &err);
		return true;
	}
	if (archive_get(t->archive, c->path, c->len, &agreed, &err) < 0) {
		twoway_down(t, &err);
		return true;
	}
	c->action = twoway_decide(&c->source, &c->target, &agreed, t->times);
	log_debug(LOG_CAT_RECORD, "%.*s: %s", (int)(c->len < 1000 ? c->len : 1000), c->path,
		  twoway_action_name(c->action));
	if (twoway_waits(c->action, c->tries + 1, &c->source, &agreed)) {
		twoway_older(&err);
		twoway_verdict(t, c, VERDICT_RETRY, &err);
		return true;
	}
	if (c->action == TWOWAY_DELETE && twoway_put_away(t, c->path)) {
		twoway_away(&err);
		twoway_verdict(t, c, VERDICT_RETRY, &err);
		return true;
	}
	return act_on(t, c);
}

enum phase_id items_over(struct twoway *t)
{
	looker_done(&t->looker); /* what was open may be another directory by now */
	for (size_t i = 0; i < t->work->n_items && !t->broken; i++)
		if (!decide_item(t, i)) {
			twoway_no_memory(t);
			return PHASE_NONE;
		}
	return PHASE_TREES;
}

/* ---- what lies below a directory that must go ---- */

/* A comparison has listed them already. Of nested ones the topmost is enough. */
void trees_enter(struct twoway *t)
{
	const struct change *top = NULL;
	bool ok = true;

	t->names.n = 0;
	t->spans.n = t->next_span = 0;
	for (size_t i = 0; ok && !t->reconcile && i < t->deletes.n; i++)
		ok = t->deletes.v[i]->target.look != LOOK_DIR || twoway_push(&t->trees, t->deletes.v[i]);
	twoway_sort(&t->deletes);
	twoway_sort(&t->trees);
	for (size_t i = 0; ok && i < t->trees.n; i++) {
		const struct change *c = t->trees.v[i];

		if (top != NULL && path_below(c->path, c->len, top->path, top->len))
			continue;
		top = c;
		ok = twoway_want(t, c->path, c->len);
	}
	if (!ok || !twoway_spans(t))
		twoway_no_memory(t);
}

bool trees_issue(struct twoway *t)
{
	return twoway_issue_names(t, REMOTE_TREE);
}

/* What both had goes with its directory, anything else stays, and so does the directory then. */
static bool decide_below(struct twoway *t, const struct remote_entry *x)
{
	const struct twoway_state absent = { .look = LOOK_ABSENT };
	struct twoway_state agreed;
	struct err err = ERR_INIT;
	struct change *c;
	enum twoway_action action;

	if (path_has_temp(x->path, x->len) ||
	    !filter_includes(t->env->opt->filter, x->path, x->len, x->state.look == LOOK_DIR) ||
	    !twoway_mirrored(&t->what, x->state.look))
		return true;
	if (archive_get(t->archive, x->path, x->len, &agreed, &err) < 0) {
		twoway_down(t, &err);
		return true;
	}
	action = twoway_decide(&absent, &x->state, &agreed, t->times);
	if (action != TWOWAY_DELETE) {
		if (action == TWOWAY_LOSE)
			twoway_conflict(t, x->path, x->len, &absent, &x->state, "the target's stays");
		twoway_again(t, x->path, x->len);
		return true;
	}
	c = twoway_add(t, x->path, x->len, x->head);
	if (c == NULL)
		return false;
	c->look = LOOK_ABSENT;
	c->source = absent;
	c->target = x->state;
	c->action = action;
	return twoway_push(&t->deletes, c);
}

/* In the order of a walk, so each tree is one run of entries. */
static bool expand_trees(struct twoway *t)
{
	size_t n = t->deletes.n, at = 0;
	bool ok = true;

	remote_entries_sort(&t->seen);
	for (size_t i = 0; ok && i < t->seen.n; i++) {
		const struct remote_entry *x = t->seen.list[i];

		while (at < t->names.n && !path_below(x->path, x->len, t->names.v[at].path, t->names.v[at].len) &&
		       path_compare(t->names.v[at].path, t->names.v[at].len, x->path, x->len) < 0)
			at++;
		if (at < t->names.n && path_below(x->path, x->len, t->names.v[at].path, t->names.v[at].len) &&
		    twoway_find(&t->deletes, n, x->path, x->len) == NULL)
			ok = decide_below(t, x);
	}
	if (ok)
		twoway_sort(&t->deletes);
	return ok;
}

static int64_t deletion_limit(const struct twoway *t)
{
	int64_t half = (int64_t)(t->listed / 2);

	if (t->work->max_delete >= 0)
		return t->work->max_delete;
	if (!t->reconcile)
		return INT64_MAX;
	return half > DELETIONS_DEFAULT ? half : DELETIONS_DEFAULT;
}

/* What the guards keep (below a mount point that is gone, say) is not deleted, nor is what was to stand in its place
 * sent. */
static void keep_what_is_guarded(struct twoway *t)
{
	size_t kept = 0;

	for (size_t i = 0; i < t->deletes.n; i++) {
		struct change *c = t->deletes.v[i];

		if (t->work->keep == NULL || keep_touches(t->work->keep, c->path, c->len) == NULL) {
			t->deletes.v[kept++] = c;
			continue;
		}
		c->stuck = true;
		if (c->look == LOOK_ABSENT)
			twoway_verdict(t, c, VERDICT_DONE, NULL);
	}
	t->deletes.n = kept;
}

/* Too many: none. What was to be sent in the place of a directory waits as well. */
static void check_limit(struct twoway *t)
{
	int64_t limit = deletion_limit(t);
	struct err why = ERR_INIT;

	if (t->deletes.n <= (size_t)limit)
		return;
	err_set(&why, ERR_UNSAFE,
		"the source lacks %zu entries that the target holds, more than the %lld that may be deleted at once: "
		"nothing is. If that is right, run fansyncd --sync-now --allow-delete, or set maxDelete "
		"(allowEmptySource for an empty source)",
		t->deletes.n, (long long)limit);
	for (size_t i = 0; i < t->deletes.n; i++) {
		struct change *c = t->deletes.v[i];

		c->stuck = true;
		c->fate = FATE_SETTLED;
		if (c->item != NO_ITEM)
			twoway_settle(t, c->item, VERDICT_REJECT, &why);
	}
	for (size_t i = 0; t->reconcile && i < t->work->n_items; i++)
		twoway_settle(t, i, VERDICT_REJECT, &why);
	t->deletes.n = 0;
}

/* Where nothing may be deleted nothing is, and nothing takes its place. */
static void check_kept(struct twoway *t)
{
	size_t left = 0;

	for (size_t i = 0; i < t->deletes.n; i++) {
		struct change *c = t->deletes.v[i];
		const struct keep *k = keep_touches(t->work->keep, c->path, c->len);
		struct err why = ERR_INIT;

		if (k == NULL) {
			t->deletes.v[left++] = c;
			continue;
		}
		err_set(&why, ERR_UNSAFE, "not deleted on the target: %s",
			k->why == NULL ? "it is requireTargetMarker, or above it" : k->why);
		c->stuck = true;
		c->fate = FATE_SETTLED;
		if (c->item != NO_ITEM)
			twoway_settle(t, c->item, VERDICT_REJECT, &why);
	}
	t->deletes.n = left;
}

enum phase_id trees_over(struct twoway *t)
{
	if (!expand_trees(t))
		twoway_no_memory(t);
	check_kept(t);
	keep_what_is_guarded(t);
	check_limit(t);
	return PHASE_ACT;
}

/* ---- deletions and questions ---- */

void act_enter(struct twoway *t)
{
	t->act = 0;
}

/* Depth first: the last of a walk is the first. */
static struct change *nth_act(const struct twoway *t, size_t n)
{
	if (n < t->deletes.n)
		return t->deletes.v[t->deletes.n - 1 - n];
	n -= t->deletes.n;
	return n < t->asks.n ? t->asks.v[n] : NULL;
}

bool act_issue(struct twoway *t)
{
	struct change *c = nth_act(t, t->act);
	struct buf command;
	char when[48];
	int64_t s, ns;

	if (c == NULL)
		return false;
	twoway_command_begin(t, &command);
	if (t->act++ >= t->deletes.n) {
		s = c->ask_ns / NS_PER_S - (c->ask_ns % NS_PER_S < 0 ? 1 : 0);
		ns = c->ask_ns - s * NS_PER_S;
		(void)snprintf(when, sizeof(when), "%lld.%09lld", (long long)s, (long long)ns);
		if (t->times == TWOWAY_SECONDS)
			(void)snprintf(when, sizeof(when), "%lld", (long long)s);
		(void)remote_command(&command, "fs_touch", c->path, c->len, c->head);
		(void)buf_printf(&command, " %s", when);
	} else if (c->target.look == LOOK_DIR) {
		(void)remote_command(&command, "fs_rmdir", c->path, c->len, NULL);
	} else {
		(void)remote_command(&command, "fs_delete", c->path, c->len, c->head);
	}
	return twoway_call(t, &command);
}

static void asked(struct twoway *t, struct change *c, int status, const char *said, size_t len)
{
	struct err why = ERR_INIT;

	if (status == REMOTE_DONE) {
		log_info("asked for the target's state of %.*s by a newer mtime: nobody has sent it",
			 (int)(c->len < 1000 ? c->len : 1000), c->path);
		twoway_verdict(t, c, VERDICT_DONE, NULL);
		return;
	}
	err_set(&why, ERR_AGAIN, "could not ask for the target's state: %.*s", (int)(len < 400 ? len : 400), said);
	twoway_verdict(t, c, VERDICT_RETRY, &why);
}

static void deleted(struct twoway *t, struct change *c, int status, const char *said, size_t len)
{
	const struct twoway_state absent = { .look = LOOK_ABSENT };
	struct err why = ERR_INIT;

	if (status == REMOTE_DONE || status == REMOTE_GONE) {
		t->env->counters->deletions += status == REMOTE_DONE ? 1 : 0;
		t->env->counters->entries_deleted += status == REMOTE_DONE ? 1 : 0;
		twoway_note(t, c->path, c->len, &absent);
		if (c->look == LOOK_ABSENT)
			twoway_verdict(t, c, VERDICT_DONE, NULL);
		return;
	}
	c->stuck = true;
	if (status == REMOTE_FILLED && c->look == LOOK_ABSENT) {
		twoway_verdict(t, c, VERDICT_DONE, NULL); /* what lies in it is excluded, or the target's own */
		return;
	}
	if (status == REMOTE_OTHER)
		err_set(&why, ERR_AGAIN, "not deleted: it was changed at the target meanwhile");
	else if (status == REMOTE_FILLED)
		err_set(&why, ERR_AGAIN, "not replaced: the directory at the target holds what is not known here");
	else
		err_set(&why, ERR_IO, "not deleted: %.*s", (int)(len < 400 ? len : 400), said);
	twoway_verdict(t, c, VERDICT_RETRY, &why);
}

void act_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data)
{
	struct change *c = nth_act(t, n);
	struct transport_progress p = { .phase = "deleting" };

	(void)data;
	if (c == NULL)
		return;
	p.path = c->path;
	p.path_len = c->len;
	if (n < t->deletes.n)
		deleted(t, c, status, said, len);
	else
		asked(t, c, status, said, len);
	t->env->progress(t->env->ctx, &p);
}
