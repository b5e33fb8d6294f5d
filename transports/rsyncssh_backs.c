/*
 * rsyncssh_backs.c - what rsync replaced, or a deletion caught, in the private directory at the target: whether it is
 * what was looked at before, or an edit that slipped in between. After a killed run the archive says the same.
 */
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/path.h"
#include "transports/remote_shell.h"
#include "transports/rsyncssh_twoway_private.h"

/* What a run before left is at work on, not what this one replaced. */
static bool is_old(const struct twoway *t)
{
	return t->phase <= PHASE_OLD_ACT;
}

bool backs_issue(struct twoway *t)
{
	struct buf command;

	if (t->asked > 0)
		return false;
	buf_init(&command, TWOWAY_COMMAND_MAX);
	(void)buf_add_str(&command, "fs_backs");
	return twoway_call(t, &command);
}

void backs_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data)
{
	char trouble[300];
	struct err err = ERR_INIT;

	(void)n;
	(void)status;
	(void)said;
	(void)len;
	remote_entries_done(&t->backs);
	remote_entries_done(&t->present); /* of those before */
	if (data->failed)
		err_set(&err, ERR_LIMIT, "the list of what was replaced is too long");
	else if (remote_entries_read(&t->backs, &t->what, data->data, data->len, trouble, sizeof(trouble), &err) == 0 &&
		 trouble[0] != '\0')
		err_set(&err, ERR_IO, "can't look at what was replaced at the target: %s", trouble);
	if (err.class != ERR_NONE)
		twoway_down(t, &err);
}

/* Where the path of an entry itself begins: behind OWN/b/. */
static size_t cut(const struct twoway *t)
{
	return strlen(t->own) + 3;
}

static struct change *change_of(const struct twoway *t, const struct remote_entry *x)
{
	return twoway_find(&t->sends, t->sends.n, x->path + cut(t), x->len - cut(t));
}

static const struct remote_entry *present_of(const struct twoway *t, const struct remote_entry *x)
{
	return remote_entries_find(&t->present, x->path + cut(t), x->len - cut(t));
}

/* What it was is known, and has been overwritten as it should. It may be what was to be sent, which others have brought
 * before; but rsync reads its source later than we do, and then stands there what that has become. */
static bool expected(struct twoway *t, const struct remote_entry *x)
{
	const struct change *c = change_of(t, x);
	const struct remote_entry *now = present_of(t, x);
	struct twoway_state agreed;
	struct err err = ERR_INIT;

	if (c != NULL)
		return strcmp(x->head, c->head) == 0 || (now != NULL && twoway_same(&x->state, &c->source, t->times) &&
							 twoway_same(&now->state, &c->source, t->times));
	return archive_get(t->archive, x->path + cut(t), x->len - cut(t), &agreed, &err) == 0 &&
	       twoway_same(&x->state, &agreed, t->times);
}

/* The loser of a conflict that was decided before. */
static bool is_loser(const struct twoway *t, const struct remote_entry *x)
{
	const struct change *c = change_of(t, x);

	return c != NULL && c->action == TWOWAY_WIN && strcmp(x->head, c->head) == 0;
}

static bool needs_act(struct twoway *t, const struct remote_entry *x)
{
	if (x->len <= cut(t) || x->state.look == LOOK_DIR)
		return false;
	if (is_old(t))
		return true; /* its name may have nothing by now */
	return !expected(t, x) || (is_loser(t, x) && t->env->opt->conflict_copies);
}

static enum phase_id when_decided(const struct twoway *t)
{
	return t->env->opt->backup_dir != NULL ? PHASE_STORE : PHASE_CLEAN;
}

enum phase_id backs_over(struct twoway *t)
{
	for (size_t i = 0; i < t->backs.n; i++)
		if (needs_act(t, t->backs.list[i]))
			return is_old(t) ? PHASE_OLD_LOOK : PHASE_BACKS_LOOK;
	return when_decided(t);
}

/* ---- what stands there now ---- */

void backs_look_enter(struct twoway *t)
{
	bool ok = true;
	struct err err = ERR_INIT;

	t->names.n = 0;
	for (size_t i = 0; ok && i < t->backs.n; i++) {
		const struct remote_entry *x = t->backs.list[i];

		if (needs_act(t, x))
			ok = twoway_want(t, x->path + cut(t), x->len - cut(t));
	}
	if (ok && twoway_spans(t))
		return;
	err_set(&err, ERR_NOMEM, "out of memory for what was replaced");
	twoway_down(t, &err);
}

bool backs_look_issue(struct twoway *t)
{
	return twoway_issue_names(t, REMOTE_SELF);
}

void backs_look_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data)
{
	(void)status;
	(void)said;
	(void)len;
	twoway_answer_names(t, n, data, &t->present);
}

enum phase_id backs_look_over(struct twoway *t)
{
	return is_old(t) ? PHASE_OLD_ACT : PHASE_BACKS_ACT;
}

/* ---- what is done about it ---- */

enum back_act { BACK_DROP = 0, BACK_RESTORE, BACK_KEEP };

/* What a call was for. */
struct back_call {
	const struct remote_entry *entry;
	enum back_act act;
};

void backs_forget(struct twoway *t)
{
	free(t->back_calls);
	t->back_calls = NULL;
}

void backs_act_enter(struct twoway *t)
{
	backs_forget(t);
	t->back = 0;
	t->back_calls = calloc(t->backs.n + 1, sizeof(*t->back_calls));
	if (t->back_calls == NULL)
		twoway_no_memory(t);
}

static enum back_act decide_back(struct twoway *t, const struct remote_entry *x, const struct remote_entry *now)
{
	enum back_act loses = t->env->opt->conflict_copies ? BACK_KEEP : BACK_DROP;

	if (is_loser(t, x))
		return loses;
	if (now == NULL)
		return BACK_RESTORE;
	if (expected(t, x))
		return BACK_DROP;
	return twoway_beats(&x->state, &now->state, t->times) ? BACK_RESTORE : loses;
}

static void tell(struct twoway *t, const struct remote_entry *x, const struct remote_entry *now, enum back_act act)
{
	const struct twoway_state absent = { .look = LOOK_ABSENT };
	const struct change *c = change_of(t, x);

	if (is_loser(t, x) || expected(t, x))
		return; /* told when it was decided, or no conflict */
	twoway_conflict(t, x->path + cut(t), x->len - cut(t),
			c != NULL     ? &c->source
			: now != NULL ? &now->state
				      : &absent,
			&x->state,
			act == BACK_RESTORE ? "the target's was edited meanwhile, and is put back"
			: act == BACK_KEEP  ? "ours wins, the target's is kept beside it"
					    : "ours wins");
}

static bool send_back(struct twoway *t, const struct remote_entry *x, const struct remote_entry *now, enum back_act act)
{
	const char *path = x->path + cut(t);
	size_t len = x->len - cut(t);
	struct buf command;
	char *copy;

	buf_init(&command, TWOWAY_COMMAND_MAX);
	if (act == BACK_RESTORE) {
		(void)remote_command(&command, "fs_back", path, len, now == NULL ? "" : now->head);
		return twoway_call(t, &command);
	}
	copy = malloc(len + NAME_BYTES_MAX + 1);
	if (copy == NULL) {
		command.failed = true;
		return twoway_call(t, &command);
	}
	(void)remote_command(&command, "fs_keep", path, len, NULL);
	(void)buf_add_byte(&command, ' ');
	(void)remote_quote(&command, copy, twoway_conflict_name(path, len, &x->state, copy));
	free(copy);
	return twoway_call(t, &command);
}

bool backs_act_issue(struct twoway *t)
{
	while (t->back_calls != NULL && t->back < t->backs.n) {
		const struct remote_entry *x = t->backs.list[t->back++], *now;
		enum back_act act;

		if (!needs_act(t, x))
			continue;
		now = present_of(t, x);
		act = decide_back(t, x, now);
		tell(t, x, now, act);
		if (act == BACK_DROP)
			continue;
		t->back_calls[t->asked] = (struct back_call){ .entry = x, .act = act };
		return send_back(t, x, now, act);
	}
	return false;
}

void backs_act_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data)
{
	const struct back_call *call = &t->back_calls[n];
	const struct remote_entry *x = call->entry;
	struct change *c = change_of(t, x);
	const char *path = x->path + cut(t);

	(void)data;
	if (status == REMOTE_OTHER || status == REMOTE_FILLED) {
		/* What has come meanwhile is the last edit. */
		log_warn("%.1000s: an edit at the target was overtaken by another one", path);
	} else if (status != REMOTE_DONE) {
		log_error("%.1000s: what was replaced at the target could not be put back, and is kept in %s: %.*s",
			  path, t->own, (int)(len < 300 ? len : 300), said);
		t->restore_failed = true;
		t->swept = false; /* the next work begins with it */
	}
	if (call->act != BACK_RESTORE)
		return;
	if (c != NULL && c->fate == FATE_SENT)
		c->fate = FATE_RESTORED;
	else
		twoway_again(t, path, x->len - cut(t));
}

enum phase_id backs_act_over(struct twoway *t)
{
	return when_decided(t);
}

/* ---- what stays replaced goes to the backups ---- */

void store_enter(struct twoway *t)
{
	backs_act_enter(t);
}

bool store_issue(struct twoway *t)
{
	struct buf command;

	while (t->back_calls != NULL && t->back < t->backs.n) {
		const struct remote_entry *x = t->backs.list[t->back++];

		if (x->len <= cut(t) || x->state.look == LOOK_DIR)
			continue;
		t->back_calls[t->asked] = (struct back_call){ .entry = x };
		twoway_command_begin(t, &command);
		(void)remote_command(&command, "fs_store", x->path + cut(t), x->len - cut(t), x->head);
		return twoway_call(t, &command);
	}
	return false;
}

/* What was put back, or is the copy of a conflict's loser, is gone from there. */
void store_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data)
{
	(void)data;
	if (status == REMOTE_DONE || status == REMOTE_GONE)
		return;
	log_error("%.1000s: what was replaced at the target is kept in %s until it can be put away: %.*s",
		  t->back_calls[n].entry->path + cut(t), t->own, (int)(len < 300 ? len : 300), said);
	t->restore_failed = true;
	t->swept = false; /* the next work begins with it */
}

enum phase_id store_over(struct twoway *t)
{
	(void)t;
	return PHASE_CLEAN;
}
