/*
 * rsyncssh_moves.c - renames of a bidirectional work: carried where the target's old name is as both ends had agreed.
 */
#include <stdlib.h>
#include <string.h>

#include "core/path.h"
#include "transports/remote_shell.h"
#include "transports/rsyncssh_twoway_private.h"

/* Above, renames of one batch are compared instead of carried. */
#define MOVES_MAX 2000u

/* ---- renames ---- */

/* The old name may not be one of an earlier rename of the batch, or lie above or below one: it would have to be looked
 * at after that. A chain of exact names is known without a look. The new name is looked at when it is done. */
static bool overlaps(const struct twoway *t, size_t at, size_t *chain)
{
	const struct batch_rename *r = &t->work->renames[at];

	*chain = SIZE_MAX;
	for (size_t i = 0; i < at; i++) {
		const struct batch_rename *o = &t->work->renames[i];

		if (o->to_len == r->from_len && memcmp(o->to, r->from, r->from_len) == 0) {
			*chain = i;
			continue;
		}
		if (path_within(r->from, r->from_len, o->from, o->from_len) ||
		    path_within(r->from, r->from_len, o->to, o->to_len) ||
		    path_within(o->to, o->to_len, r->from, r->from_len))
			return true;
	}
	return false;
}

/* The target renamed it first, and what is seen here is the echo: the archive follows. A directory is compared all the
 * same, by the verdict. */
static bool is_echo(struct twoway *t, const struct batch_rename *r, const struct twoway_state *old_target,
		    const struct twoway_state *agreed)
{
	struct twoway_state here, there, now;
	struct stat st;
	const char *head;
	uint64_t dev;

	if (old_target->look != LOOK_ABSENT || agreed->look == LOOK_ABSENT ||
	    twoway_target(t, r->to, r->to_len, &there, &head, &dev) < 0)
		return false;
	return twoway_source(t, r->from, r->from_len, &now, &st) == 0 && now.look == LOOK_ABSENT &&
	       twoway_source(t, r->to, r->to_len, &here, &st) == 0 && here.look != LOOK_ABSENT &&
	       twoway_same(&here, &there, t->times);
}

static bool plan_move(struct twoway *t, size_t i)
{
	const struct batch_rename *r = &t->work->renames[i];
	struct twoway_state target, agreed;
	struct err err = ERR_INIT;
	const char *head = "";
	size_t chain;
	uint64_t dev;
	bool carry, echo;

	if (t->work->n_renames > MOVES_MAX || overlaps(t, i, &chain))
		return true;
	if (chain != SIZE_MAX) {
		t->move_heads[i] = t->move_heads[chain] == NULL ? NULL : strdup(t->move_heads[chain]);
		return true;
	}
	if (archive_get(t->archive, r->from, r->from_len, &agreed, &err) < 0) {
		twoway_down(t, &err);
		return false;
	}
	if (twoway_target(t, r->from, r->from_len, &target, &head, &dev) < 0)
		return true;
	carry = agreed.look != LOOK_ABSENT && (r->is_dir ? target.look == LOOK_DIR && agreed.look == LOOK_DIR
							 : twoway_same(&target, &agreed, t->times));
	echo = !carry && is_echo(t, r, &target, &agreed);
	if (echo && archive_rename(t->archive, r->from, r->from_len, r->to, r->to_len, &err) < 0) {
		twoway_down(t, &err);
		return false;
	}
	if (echo && !r->is_dir)
		t->env->settle_rename(t->env->ctx, i, VERDICT_DONE, NULL);
	t->move_heads[i] = carry ? strdup(head) : NULL;
	return !carry || t->move_heads[i] != NULL;
}

void moves_look_enter(struct twoway *t)
{
	bool ok = true;

	twoway_clear_looks(t);
	for (size_t i = 0; ok && i < t->work->n_renames; i++)
		ok = twoway_want_parents(t, t->work->renames[i].from, t->work->renames[i].from_len) &&
		     twoway_want_parents(t, t->work->renames[i].to, t->work->renames[i].to_len);
	if (!ok || !twoway_spans(t))
		twoway_no_memory(t);
}

enum phase_id moves_look_over(struct twoway *t)
{
	t->move = 0;
	t->move_heads = calloc(t->work->n_renames, sizeof(char *));
	if (t->move_heads == NULL) {
		twoway_no_memory(t);
		return PHASE_NONE;
	}
	for (size_t i = 0; i < t->work->n_renames; i++)
		if (!plan_move(t, i)) {
			twoway_no_memory(t);
			return PHASE_NONE;
		}
	return PHASE_MOVES;
}

/* The next that is carried, from t->move on; the others are compared. */
bool moves_issue(struct twoway *t)
{
	const struct batch_rename *r;
	struct buf command;

	while (t->move < t->work->n_renames && t->move_heads[t->move] == NULL)
		t->env->settle_rename(t->env->ctx, t->move++, VERDICT_RECONCILE, NULL);
	if (t->move == t->work->n_renames)
		return false;
	r = &t->work->renames[t->move];
	buf_init(&command, TWOWAY_COMMAND_MAX);
	(void)remote_command(&command, "fs_move", r->from, r->from_len, t->move_heads[t->move]);
	(void)buf_add_byte(&command, ' ');
	(void)remote_quote(&command, r->to, r->to_len);
	t->move++;
	return twoway_call(t, &command);
}

/* The n-th call is the n-th of those that are carried. */
static size_t carried(const struct twoway *t, size_t n)
{
	for (size_t i = 0; i < t->work->n_renames; i++)
		if (t->move_heads[i] != NULL && n-- == 0)
			return i;
	return SIZE_MAX;
}

void moves_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data)
{
	size_t i = carried(t, n);
	const struct batch_rename *r = &t->work->renames[i];
	struct err err = ERR_INIT;

	(void)data;
	if (status != REMOTE_DONE) {
		err_set(&err, ERR_IO, "not renamed at the target: %.*s%s", (int)(len < 400 ? len : 400), said,
			status == REMOTE_GONE	  ? "it is not there"
			: status == REMOTE_OTHER  ? "it is another one"
			: status == REMOTE_FILLED ? "the new name is taken"
						  : "");
		t->env->settle_rename(t->env->ctx, i, VERDICT_RECONCILE, &err);
		return;
	}
	t->env->counters->renames_carried++;
	if (archive_rename(t->archive, r->from, r->from_len, r->to, r->to_len, &err) < 0)
		twoway_down(t, &err);
	else
		t->env->settle_rename(t->env->ctx, i, VERDICT_DONE, NULL);
}

enum phase_id moves_over(struct twoway *t)
{
	(void)t;
	return PHASE_LOOK;
}
