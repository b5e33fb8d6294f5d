/*
 * rsync_judge.c - what an ended rsync means for the paths it was given. rsync gives no verdict per path: exit 0
 * confirms all, after a partial failure its messages name paths, and what they don't name is run once more on its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "core/log.h"
#include "core/path.h"
#include "transports/rsync_passes.h"

/* How often a reconcile is repeated around what could not be read. */
#define ROUNDS_MAX 3u
/* Each file that can't be written ends an rsync: so many a batch, then everything waits. */
#define BROKEN_OFF_MAX 8u
#define DELETIONS_DEFAULT 1000
/* More directories than these are compared as one tree. */
#define PARENTS_MAX 64u

/* ---- what it says while it runs ---- */

static void remember_text(struct rsync_session *s, const char *text, size_t len)
{
	size_t room = s->said.max - s->said.len - 1;

	if (s->said.len > 0 && room > 2)
		(void)buf_add_str(&s->said, "; ");
	room = s->said.max - s->said.len - 1;
	if (room > 0)
		(void)buf_add(&s->said, text, len < room ? len : room);
}

static bool keep_note(struct rsync_session *s, const struct rsync_event *ev, size_t off, size_t n)
{
	struct note *note;

	if (s->n_notes == NOTES_MAX)
		return false;
	if (s->n_notes == s->notes_cap) {
		size_t cap = s->notes_cap == 0 ? 16 : s->notes_cap * 2;
		struct note *notes = realloc(s->notes, cap * sizeof(*notes));

		if (notes == NULL)
			return false;
		s->notes = notes;
		s->notes_cap = cap;
	}
	note = &s->notes[s->n_notes];
	*note = (struct note){ .kind = ev->kind, .path = malloc(n + 1), .len = n };
	if (note->path == NULL)
		return false;
	memcpy(note->path, ev->name + off, n);
	note->path[n] = '\0';
	err_set(&note->err, ev->code == 0 ? ERR_IO : err_class_of_errno(ev->code), "%.*s",
		(int)(ev->text_len < 400 ? ev->text_len : 400), ev->text);
	note->err.code = ev->code;
	s->n_notes++;
	return true;
}

static bool is_item(void *ctx, const char *path, size_t len)
{
	const struct rsync_session *s = ctx;

	return rsync_item_find(s->work, path, len) != SIZE_MAX;
}

static bool in_source(void *ctx, const char *path, size_t len)
{
	const struct rsync_session *s = ctx;
	struct stat st;
	char text[4096];

	if (len >= sizeof(text))
		return false;
	memcpy(text, path, len);
	text[len] = '\0';
	return fstatat(s->env->source_fd, text, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* How much of a path below an unknown root stands before ours. A temp file is its owner's; the root is the same. */
static size_t unknown_root(struct rsync_session *s, const char *path, size_t len)
{
	char *owner = malloc(len + 1);
	size_t owner_len, at = rsync_name_end(path, len, is_item, s);

	if (owner != NULL && at == 0 && rsync_temp_owner(path, len, owner, &owner_len)) {
		at = rsync_name_end(owner, owner_len, is_item, s);
		at = at > 0 ? at : rsync_name_end(owner, owner_len, in_source, s);
	}
	free(owner);
	return at > 0 ? at : rsync_name_end(path, len, in_source, s);
}

/* The path relative to the source that a message names. */
static bool path_of(struct rsync_session *s, const struct rsync_event *ev, size_t *off, size_t *n)
{
	bool known;
	size_t more;

	if (ev->kind != RSYNC_FAILED && ev->kind != RSYNC_VANISHED && ev->kind != RSYNC_BLOCKED)
		return false;
	if (!rsync_name_cut(&s->names, ev->name, ev->len, off, n, &known))
		return false;
	if (known)
		return true;
	more = unknown_root(s, ev->name + *off, *n);
	*off += more;
	*n -= more;
	return true;
}

static bool starts_with(const char *text, size_t len, const char *with)
{
	size_t n = strlen(with);

	return len >= n && memcmp(text, with, n) == 0;
}

void session_note(struct rsync_session *s, const struct rsync_event *ev)
{
	size_t off, n;

	if (ev->kind == RSYNC_DELETION_OFF)
		s->deletion_off = true;
	if (ev->kind == RSYNC_TEXT && starts_with(ev->text, ev->text_len, "Deletions stopped due to --max-delete"))
		s->limit_hit = true; /* its exit status may tell of something else */
	/* An attribute may be too large for a file system with any amount of room. */
	if ((ev->code == ENOSPC || ev->code == EDQUOT) && !ev->attribute)
		s->no_space = true;
	if (s->work != NULL && path_of(s, ev, &off, &n)) {
		if (!keep_note(s, ev, off, n))
			s->notes_lost = true;
		return;
	}
	if (ev->text_len > 0)
		remember_text(s, ev->text, ev->text_len);
}

/* ---- the end ---- */

static struct err reason(struct rsync_session *s, const struct rsync_outcome *o)
{
	struct err e = ERR_INIT;
	const char *said = buf_str(&s->said);

	err_set(&e, o->class == ERR_NONE ? ERR_IO : o->class, "%s (%s %d)%s%s", o->words,
		WIFSIGNALED(s->status) ? "signal" : "rsync exit",
		WIFSIGNALED(s->status) ? WTERMSIG(s->status) : WEXITSTATUS(s->status), said[0] == '\0' ? "" : ": ",
		said);
	e.code = o->code;
	return e;
}

static void settle_all(struct rsync_session *s, const struct pass *p, enum verdict v, const struct err *why)
{
	for (size_t i = 0; i < p->n; i++)
		session_settle(s, p->items[i], v, why);
}

/* Collects the items of a pass that are to be run again. */
struct again {
	size_t *items;
	size_t n;
};

static bool again_push(struct rsync_session *s, const struct again *a, struct pass like)
{
	like.rules = (struct strlist){ 0 };
	like.next = NULL;
	return session_push(s, a->items, a->n, &like);
}

/* Before 3.2 rsync did not say which side speaks: these words are the sender's alone. */
static bool of_sender(const char *text)
{
	static const char *const words[] = { "rsync: [sender]", "rsync: link_stat ", "rsync: readlink_stat(",
					     "rsync: send_files failed to open " };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strncmp(text, words[i], strlen(words[i])) == 0)
			return true;
	return false;
}

/* The source is another one than it was when the batch was looked at: the events that say so are on their way. */
static bool changed_meanwhile(const struct note *note)
{
	bool gone = note->err.code == ENOENT || note->err.code == ENOTDIR || note->err.code == EISDIR ||
		    note->err.code == ELOOP;

	return note->kind == RSYNC_VANISHED || (gone && of_sender(note->err.text));
}

/* What can't be made at the target takes with it all that was to go into it. */
static void settle_below(struct rsync_session *s, const struct note *note)
{
	if (note->kind != RSYNC_FAILED || strstr(note->err.text, "mkdir ") == NULL)
		return;
	for (size_t i = 0; i < s->work->n_items; i++)
		if (s->marks[i] == ITEM_OPEN &&
		    path_below(s->work->items[i].path, s->work->items[i].len, note->path, note->len))
			session_settle(s, i, VERDICT_RETRY, &note->err);
}

static void limit_reached(const struct pass *p, struct err *why)
{
	err_set(why, ERR_UNSAFE,
		"not deleted: more deletions than maxDelete (%lld) allows; raise it, or run fansyncd --sync-now "
		"--allow-delete",
		(long long)p->max_delete);
}

/* A directory stands where something must go, or be made, and holds something. */
static void blocked(struct rsync_session *s, const struct pass *p, size_t item, const struct note *note,
		    struct again *force)
{
	struct err why = ERR_INIT;
	const struct keep *kept = keep_touches(s->work->keep, s->work->items[item].path, s->work->items[item].len);

	if (s->work->items[item].look == LOOK_DIR) {
		/* It was a directory when it was looked at, and is none now: what became of it is on its way. */
		session_settle(s, item, VERDICT_GONE, NULL);
	} else if (session_each_decided(s)) {
		session_settle(s, item, VERDICT_RETRY, &note->err); /* it was none when it was looked at */
	} else if (!s->work->may_delete) {
		err_set(&why, ERR_CONFIG, "a directory of that name at the target holds files, and `delete` is off");
		session_settle(s, item, VERDICT_REJECT, &why);
	} else if (kept != NULL) {
		err_set(&why, ERR_UNSAFE, "a directory of that name is not deleted on the target: %s",
			kept->why == NULL ? "it is above requireTargetMarker" : kept->why);
		session_settle(s, item, VERDICT_REJECT, &why);
	} else if (s->limit_hit) {
		limit_reached(p, &why); /* a further batch would only go on with what this one left */
		session_settle(s, item, VERDICT_REJECT, &why);
	} else if ((p->flags & PASS_FORCE) == 0) {
		force->items[force->n++] = item;
		s->marks[item] = ITEM_NAMED;
	} else if (s->work->items[item].look == LOOK_ABSENT && filter_count(s->env->opt->filter) > 0) {
		session_settle(s, item, VERDICT_DONE, NULL); /* what is left there is excluded, and so stays */
	} else {
		session_settle(s, item, VERDICT_RETRY, &note->err);
	}
}

static void apply_note(struct rsync_session *s, const struct pass *p, const struct note *note, struct again *force)
{
	size_t item = rsync_item_for(s->work, note->path, note->len);

	settle_below(s, note);
	if (item == SIZE_MAX) {
		/* An implied parent, or a path below one of ours: the rest of the batch is run again all the same. */
		remember_text(s, note->err.text, strlen(note->err.text));
		return;
	}
	if (s->marks[item] != ITEM_OPEN)
		return;
	if (note->kind == RSYNC_BLOCKED)
		blocked(s, p, item, note, force);
	else if (changed_meanwhile(note))
		session_settle(s, item, VERDICT_GONE, NULL);
	else
		session_settle(s, item, VERDICT_RETRY, &note->err);
}

/* What a later run removes changes the time of the directory it was in: the directories go once more, after it. */
static bool times_again(struct rsync_session *s, const struct pass *p, struct again *rest)
{
	struct again dirs = { .items = calloc(rest->n + 1, sizeof(size_t)) };
	struct pass like = { .flags = p->flags, .max_delete = p->max_delete, .round = p->round + 1 };
	size_t kept = 0;
	bool ok = dirs.items != NULL;

	for (size_t i = 0; ok && i < rest->n; i++) {
		if (s->work->items[rest->items[i]].look == LOOK_DIR)
			dirs.items[dirs.n++] = rest->items[i];
		else
			rest->items[kept++] = rest->items[i];
	}
	if (ok)
		rest->n = kept;
	ok = ok && again_push(s, &dirs, like);
	free(dirs.items);
	return ok;
}

/* Messages first, then what they leave: `rest` are the items of the pass that are still open. */
static bool apply_notes(struct rsync_session *s, const struct pass *p, struct again *rest, size_t *named)
{
	struct again force = { .items = calloc(p->n + 1, sizeof(size_t)) };
	struct pass like = { .flags = p->flags | PASS_FORCE, .max_delete = p->max_delete };
	bool ok;

	rest->items = calloc(p->n + 1, sizeof(size_t));
	if (force.items == NULL || rest->items == NULL) {
		free(force.items);
		return false;
	}
	for (size_t i = 0; i < s->n_notes; i++)
		apply_note(s, p, &s->notes[i], &force);
	for (size_t i = 0; i < p->n; i++)
		if (s->marks[p->items[i]] == ITEM_OPEN)
			rest->items[rest->n++] = p->items[i];
	*named = p->n - rest->n;
	for (size_t i = 0; i < force.n; i++)
		s->marks[force.items[i]] = ITEM_OPEN;
	ok = (force.n == 0 || times_again(s, p, rest)) && again_push(s, &force, like);
	free(force.items);
	return ok;
}

/* Nobody is named: halves tell who it is, and a single one it is itself. */
static bool split(struct rsync_session *s, const struct pass *p, const struct again *rest, const struct err *why)
{
	struct pass like = { .flags = p->flags, .max_delete = p->max_delete, .round = p->round };
	struct again half = { .items = rest->items, .n = rest->n / 2 };

	if (rest->n <= 1) {
		if (rest->n == 1)
			session_settle(s, rest->items[0], VERDICT_RETRY, why);
		return true;
	}
	if (!again_push(s, &half, like))
		return false;
	half.items += half.n;
	half.n = rest->n - half.n;
	return again_push(s, &half, like);
}

static bool apply_partial(struct rsync_session *s, const struct pass *p, const struct rsync_outcome *o)
{
	struct again rest = { 0 };
	struct err why = reason(s, o);
	size_t named = 0;
	bool ok = apply_notes(s, p, &rest, &named);

	if (ok && named > 0) {
		struct pass like = { .flags = p->flags, .max_delete = p->max_delete, .round = p->round + 1 };

		ok = again_push(s, &rest, like);
	} else if (ok) {
		ok = split(s, p, &rest, &why);
	}
	free(rest.items);
	return ok;
}

static bool apply_ok(struct rsync_session *s, const struct pass *p)
{
	struct again rest = { 0 };
	size_t named;
	bool ok = apply_notes(s, p, &rest, &named);

	for (size_t i = 0; ok && i < rest.n; i++)
		session_settle(s, rest.items[i], VERDICT_DONE, NULL);
	free(rest.items);
	return ok;
}

static void apply_delete_stop(struct rsync_session *s, const struct pass *p)
{
	struct err why = ERR_INIT;

	limit_reached(p, &why);
	for (size_t i = 0; i < p->n; i++) {
		bool gone = s->work->items[p->items[i]].look == LOOK_ABSENT;

		session_settle(s, p->items[i], gone ? VERDICT_REJECT : VERDICT_DONE, gone ? &why : NULL);
	}
}

static bool judge_apply(struct rsync_session *s, struct pass *p, const struct rsync_outcome *o)
{
	if (o->fate == RSYNC_OK)
		return apply_ok(s, p);
	if (o->fate == RSYNC_PARTIAL)
		return apply_partial(s, p, o);
	apply_delete_stop(s, p);
	return true;
}

/* A receiver that was killed leaves its temp file, under a name that only a comparison of its directory finds. */
static void compare_parents(struct rsync_session *s, const struct pass *p)
{
	const char *last = NULL;
	size_t last_len = 0, told = 0;

	for (size_t i = 0; i < p->n && s->work->may_delete; i++) {
		const struct transport_item *item = &s->work->items[p->items[i]];
		size_t n = path_parent_len(item->path, item->len);

		if (item->look != LOOK_FILE || (last != NULL && last_len == n && memcmp(last, item->path, n) == 0))
			continue;
		last = item->path;
		last_len = n;
		if (++told > PARENTS_MAX)
			last_len = 0;
		s->env->found(s->env->ctx, last, last_len, VERDICT_RECONCILE, NULL);
		if (told > PARENTS_MAX)
			return;
	}
}

/* ---- reconcile ---- */

/* A failed temp file is its owner's failure. */
static void tell_path(struct rsync_session *s, const struct note *note)
{
	char *owner = note->len == 0 ? NULL : malloc(note->len);
	size_t len;

	if (owner != NULL && rsync_temp_owner(note->path, note->len, owner, &len))
		s->env->found(s->env->ctx, owner, len, VERDICT_RETRY, &note->err);
	else
		s->env->found(s->env->ctx, note->path, note->len, VERDICT_RETRY, &note->err);
	free(owner);
}

/* Paths inside what was compared become marks of their own, with a backoff of their own. */
static size_t tell_found(struct rsync_session *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n_notes; i++) {
		const struct note *note = &s->notes[i];
		size_t item = rsync_item_find(s->work, note->path, note->len);

		if (note->kind == RSYNC_BLOCKED)
			continue; /* excluded files keep it, as in any full run of rsync */
		n++;
		if (note->kind == RSYNC_VANISHED)
			continue;
		if (changed_meanwhile(note)) {
			s->env->found(s->env->ctx, note->path, note->len, VERDICT_RECONCILE, NULL);
			continue;
		}
		if (item != SIZE_MAX && note->len > 0)
			session_settle(s, item, VERDICT_RETRY, &note->err);
		else
			tell_path(s, note);
	}
	return n;
}

/* One directory that can't be read stops rsync's deletions everywhere: once more without it, so that they happen
 * elsewhere. */
static bool reconcile_around(struct rsync_session *s, const struct pass *p)
{
	struct pass like = { .flags = p->flags, .round = p->round + 1, .max_delete = p->max_delete };
	struct again all = { .items = p->items, .n = p->n };
	struct pass *again;

	if (!again_push(s, &all, like))
		return false;
	again = s->passes;
	for (size_t i = 0; i < p->rules.n; i++)
		if (!pass_add_rule(again, "- ", p->rules.v[i] + 3, strlen(p->rules.v[i]) - 3))
			return false;
	for (size_t i = 0; i < s->n_notes; i++)
		if (s->notes[i].kind == RSYNC_FAILED && s->notes[i].len > 0 &&
		    !pass_add_rule(again, "- ", s->notes[i].path, s->notes[i].len))
			return false;
	return true;
}

static bool reconcile_partial(struct rsync_session *s, struct pass *p, const struct rsync_outcome *o)
{
	struct err why = reason(s, o);
	size_t told = tell_found(s);

	if (told == 0 || s->notes_lost) {
		settle_all(s, p, VERDICT_RETRY, &why);
		return true;
	}
	if (s->deletion_off && s->work->may_delete) {
		if (p->round < ROUNDS_MAX)
			return reconcile_around(s, p);
		settle_all(s, p, VERDICT_RETRY, &why); /* what should have been deleted is still there */
		return true;
	}
	settle_all(s, p, VERDICT_DONE, NULL);
	return true;
}

static void refuse_deletions(struct rsync_session *s, const struct pass *p, const char *limit)
{
	struct err why = ERR_INIT;

	err_set(&why, ERR_UNSAFE,
		"the source lacks more than %s of what the target holds: nothing more is deleted there. If that is "
		"right, run "
		"fansyncd --sync-now --allow-delete, or set maxDelete (allowEmptySource for an empty source)",
		limit);
	settle_all(s, p, VERDICT_REJECT, &why);
}

/* The default limit depends on how much there is: count, with a dry run. */
static bool reconcile_stopped(struct rsync_session *s, struct pass *p)
{
	struct pass like = { .flags = PASS_COUNT, .round = p->round, .max_delete = -1 };
	struct again all = { .items = p->items, .n = p->n };
	char limit[32];

	if (s->work->max_delete < 0 && (p->flags & PASS_COUNTED) == 0)
		return again_push(s, &all, like);
	(void)snprintf(limit, sizeof(limit), "%lld entries", (long long)p->max_delete);
	refuse_deletions(s, p, limit);
	return true;
}

static bool reconcile_counted(struct rsync_session *s, struct pass *p)
{
	struct pass like = { .flags = PASS_COUNTED, .round = p->round, .max_delete = -1 };
	struct again all = { .items = p->items, .n = p->n };
	uint64_t half = s->counted_files / 2, limit = half > DELETIONS_DEFAULT ? half : DELETIONS_DEFAULT;
	char words[64];

	if (s->deleted + s->counted_deletions <= limit) {
		/* A few more may go meanwhile; a flood of them is stopped again. */
		like.max_delete = (int64_t)limit;
		return again_push(s, &all, like);
	}
	(void)snprintf(words, sizeof(words), "%llu entries (%llu)", (unsigned long long)limit,
		       (unsigned long long)(s->deleted + s->counted_deletions));
	refuse_deletions(s, p, words);
	return true;
}

static bool judge_reconcile(struct rsync_session *s, struct pass *p, const struct rsync_outcome *o)
{
	if ((p->flags & PASS_COUNT) != 0 && o->fate == RSYNC_OK)
		return reconcile_counted(s, p);
	if (o->fate == RSYNC_DELETE_STOP || s->limit_hit) {
		(void)tell_found(s);
		return reconcile_stopped(s, p);
	}
	if (o->fate == RSYNC_PARTIAL)
		return reconcile_partial(s, p, o);
	(void)tell_found(s);
	settle_all(s, p, VERDICT_DONE, NULL);
	return true;
}

/* ---- a file that can't be written ---- */

/* rsync's receiver gives up on the first one (exit 11), and names it: it alone waits, the rest goes without it. False:
 * nobody is named, or there are too many. */
static bool goes_without_it(struct rsync_session *s, const struct pass *p, const struct rsync_outcome *o)
{
	if (o->code != RSYNC_EXIT_FILEIO || p->round >= (s->reconcile ? ROUNDS_MAX : BROKEN_OFF_MAX))
		return false;
	for (size_t i = 0; i < s->n_notes; i++) {
		const struct note *note = &s->notes[i];

		if (note->kind == RSYNC_FAILED && note->len > 0 &&
		    (s->reconcile || rsync_item_for(s->work, note->path, note->len) != SIZE_MAX))
			return true;
	}
	return false;
}

static bool go_without_it(struct rsync_session *s, const struct pass *p, const struct rsync_outcome *o)
{
	if (!s->reconcile)
		return apply_partial(s, p, o);
	(void)tell_found(s);
	return reconcile_around(s, p);
}

/* What it failed at comes first. */
static struct err reason_down(struct rsync_session *s, const struct rsync_outcome *o)
{
	struct err why = reason(s, o), named = why;

	for (size_t i = 0; i < s->n_notes; i++)
		if (s->notes[i].err.class == ERR_NOSPACE || !s->no_space) {
			err_set(&named, why.class, "%s: %s", s->notes[i].err.text, why.text);
			named.code = why.code;
			break;
		}
	if (s->no_space)
		named.class = ERR_NOSPACE;
	return named;
}

void session_judge(struct rsync_session *s, struct pass *p, int status)
{
	const struct rsync_outcome *o = rsync_outcome_said(status, buf_str(&s->said));
	struct err why;
	bool ok = true;

	s->status = status;
	if (goes_without_it(s, p, o)) {
		ok = go_without_it(s, p, o);
	} else if (o->fate == RSYNC_DOWN || o->fate == RSYNC_CONFIG) {
		why = reason_down(s, o);
		pass_free(p);
		rsync_session_down(s, &why);
		return;
	} else if (o->fate == RSYNC_RETRY) {
		why = reason(s, o);
		settle_all(s, p, VERDICT_RETRY, &why);
		if (!s->reconcile)
			compare_parents(s, p);
	} else {
		ok = s->reconcile ? judge_reconcile(s, p, o) : judge_apply(s, p, o);
	}
	pass_free(p);
	if (ok) {
		session_next(s);
		return;
	}
	err_set(&why, ERR_NOMEM, "out of memory for the rest of the batch");
	session_finish(s, &why);
}
