/*
 * exec.c - the transport "exec": the administrator's own program carries the changes.
 *
 * A work is cut into runs. Of each the records are first gathered in a file, which is the program's standard input, or
 * is written to that of one that stays. What has failed before travels in smaller and smaller runs, so that one path
 * does not hold others back for long; a run that is rejected as a whole is divided at once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/path.h"
#include "transports/exec_private.h"

/* The kernel takes 128 KiB for one string of an environment. */
#define RULES_TEXT_MAX (100u * 1024)

const char *exec_program_name(const struct exec *s)
{
	const char *word = s->opt->command.v[0], *slash = strrchr(word, '/');

	return slash == NULL ? word : slash + 1;
}

size_t exec_changes(const struct exec *s)
{
	return (s->listing ? 0 : s->work->n_renames) + s->work->n_items;
}

void exec_down(struct exec *s, const struct err *why)
{
	if (s->broken)
		return;
	if (s->work == NULL) { /* it says nothing of the target; a new one is started when there is something to do */
		log_warn("%s", why->text);
		s->stale = true;
		return;
	}
	s->broken = true;
	loop_timer_stop(s->limit);
	loop_timer_stop(s->kick);
	s->env->down(s->env->ctx, why);
}

static int64_t limit_ns(const struct exec *s)
{
	return s->env->opt->progress_timeout_ns / 10 * 9; /* before the worker is replaced: the reason is known here */
}

void exec_alive(struct exec *s, const char *phase, const char *path, size_t len)
{
	const struct transport_progress p = {
		.phase = phase,
		.files = s->listing ? s->last_id : s->n_done,
		.files_total = s->work == NULL || s->listing ? 0 : exec_changes(s),
		.path = path,
		.path_len = len,
	};

	if (s->work == NULL || s->broken)
		return;
	loop_timer_after(s->limit, limit_ns(s));
	s->env->progress(s->env->ctx, &p);
}

static void on_limit(void *ctx)
{
	struct exec *s = ctx;
	struct err why = ERR_INIT;

	err_set(&why, ERR_NETWORK, "%s shows no sign of life for %.1f s (progressTimeout): it is ended",
		exec_program_name(s), (double)limit_ns(s) / (double)NS_PER_S);
	exec_down(s, &why);
}

/* ---- verdicts ---- */

static void count_done(struct exec *s, const struct transport_item *item)
{
	struct transport_counters *c = s->env->counters;

	if (item->look == LOOK_ABSENT) {
		c->deletions++;
		c->entries_deleted++;
	} else if (item->look != LOOK_DIR) {
		c->files_sent++;
		c->bytes_sent += item->look == LOOK_FILE ? (uint64_t)item->st.st_size : 0;
	}
}

static enum verdict verdict_of(enum exec_word word)
{
	static const enum verdict verdicts[] = {
		[EXEC_WORD_NONE] = VERDICT_RETRY, [EXEC_DONE] = VERDICT_DONE,	  [EXEC_GONE] = VERDICT_GONE,
		[EXEC_RETRY] = VERDICT_RETRY,	  [EXEC_REJECT] = VERDICT_REJECT, [EXEC_RECONCILE] = VERDICT_RECONCILE,
		[EXEC_DOWN] = VERDICT_RETRY
	};

	return verdicts[word];
}

void exec_settle(struct exec *s, size_t change, enum exec_word word, const struct err *why)
{
	enum verdict v = verdict_of(word);
	size_t n_renames = s->listing ? 0 : s->work->n_renames;

	if (v == VERDICT_DONE || v == VERDICT_GONE)
		why = NULL;
	if (change >= exec_changes(s) || s->settled[change])
		return;
	s->settled[change] = true;
	s->n_done++;
	if (change < n_renames) {
		if (v == VERDICT_DONE)
			s->env->counters->renames_carried++;
		s->env->settle_rename(s->env->ctx, change, v == VERDICT_DONE ? v : VERDICT_RECONCILE, why);
		return;
	}
	if (v == VERDICT_DONE && !s->listing)
		count_done(s, &s->work->items[change - n_renames]);
	s->env->settle(s->env->ctx, change - n_renames, v, why);
}

void exec_settle_rest(struct exec *s, enum exec_word word, const struct err *why)
{
	for (size_t i = s->run.lo; i < s->run.hi; i++)
		exec_settle(s, i, word, why);
}

/* ---- runs ---- */

static int add_run(struct exec *s, size_t lo, size_t hi)
{
	if (s->n_todo == s->cap_todo) {
		size_t cap = s->cap_todo == 0 ? 16 : 2 * s->cap_todo;
		struct exec_range *todo = realloc(s->todo, cap * sizeof(*todo));

		if (todo == NULL)
			return -1;
		s->todo = todo;
		s->cap_todo = cap;
	}
	s->todo[s->n_todo++] = (struct exec_range){ lo, hi };
	return 0;
}

/* How many may travel with one that was given back so often. */
static size_t run_length(const struct exec *s, uint32_t tries)
{
	size_t n = (size_t)s->opt->max_changes >> (tries < 20 ? tries : 20);

	return n == 0 ? 1 : n;
}

static uint32_t tries_of(const struct exec *s, size_t change)
{
	return change < s->work->n_renames ? 0 : s->work->items[change - s->work->n_renames].tries;
}

/* The runs of an apply, the first one on top. */
static int cut_runs(struct exec *s)
{
	size_t hi = 0, n = exec_changes(s), count = 0;

	while (hi < n) {
		size_t lo = hi, longest = (size_t)s->opt->max_changes;

		while (hi < n && hi - lo < longest) {
			size_t next = run_length(s, tries_of(s, hi));

			if (hi - lo >= next)
				break;
			longest = next < longest ? next : longest;
			hi++;
		}
		if (add_run(s, lo, hi) < 0)
			return -1;
		count++;
	}
	for (size_t i = 0; i < count / 2; i++) {
		struct exec_range first = s->todo[i];

		s->todo[i] = s->todo[count - 1 - i];
		s->todo[count - 1 - i] = first;
	}
	return 0;
}

static enum exec_op op_of(const struct transport_item *item)
{
	if (item->look == LOOK_ABSENT)
		return EXEC_DELETE;
	return (item->flags & MARK_BORN) != 0 && (item->flags & MARK_FAILED) == 0 ? EXEC_CREATE : EXEC_MODIFY;
}

/* Of what is gone the events knew a type, or not. */
static enum look type_of(const struct transport_item *item)
{
	if (item->look != LOOK_ABSENT)
		return item->look;
	if ((item->flags & (MARK_WAS_DIR | MARK_WAS_FILE)) == MARK_WAS_DIR)
		return LOOK_DIR;
	return (item->flags & (MARK_WAS_DIR | MARK_WAS_FILE)) == MARK_WAS_FILE ? LOOK_FILE : LOOK_NONE;
}

static int put_change(struct exec *s, size_t change, struct err *err)
{
	struct exec_record r = { .id = change + 1 };

	if (change < s->work->n_renames) {
		const struct batch_rename *rename = &s->work->renames[change];

		r.op = EXEC_MOVE;
		r.look = rename->is_dir ? LOOK_DIR : LOOK_FILE;
		r.path = rename->to;
		r.len = rename->to_len;
		r.from = rename->from;
		r.from_len = rename->from_len;
	} else {
		const struct transport_item *item = &s->work->items[change - s->work->n_renames];

		r.op = op_of(item);
		r.look = type_of(item);
		r.path = item->path;
		r.len = item->len;
		r.st = item->look == LOOK_ABSENT ? NULL : &item->st;
	}
	return exec_spool_put(&s->spool, s->opt->format, &r, err);
}

static int put_run(struct exec *s, struct err *err)
{
	const struct exec_record end = { .id = exec_changes(s) + 1, .op = EXEC_END, .path = "" };

	if (exec_spool_begin(&s->spool, s->env->runtime_dir, err) < 0)
		return -1;
	for (size_t i = s->run.lo, n = 0; i < s->run.hi; i++) {
		if (s->settled[i])
			continue;
		s->place[i] = ++n;
		if (put_change(s, i, err) < 0)
			return -1;
	}
	s->end_id = s->opt->persistent ? end.id : 0;
	s->end_at = exec_spool_length(&s->spool);
	return s->end_id == 0 ? 0 : exec_spool_put(&s->spool, s->opt->format, &end, err);
}

static bool all_settled(const struct exec *s, const struct exec_range *r)
{
	for (size_t i = r->lo; i < r->hi; i++)
		if (!s->settled[i])
			return false;
	return true;
}

/* ---- the program ---- */

static bool add_rules(struct buf *out, const struct filter *f)
{
	(void)buf_add_str(out, "FANSYNCD_RULES=");
	for (size_t i = 0; i < filter_count(f); i++)
		(void)buf_printf(out, "%s%s", i == 0 ? "" : "\n", filter_rule_text(f, i));
	return !out->failed;
}

/* Strings with a NUL behind each. */
static bool put_environment(const struct exec *s, struct buf *out)
{
	const struct sync_options *opt = s->env->opt;
	static const char *const formats[] = { "null", "json", "paths" };

	for (size_t i = 0; i < s->opt->env.n; i++)
		(void)buf_add(out, s->opt->env.v[i], strlen(s->opt->env.v[i]) + 1);
	(void)buf_printf(out, "FANSYNCD_SYNC=%s%c", opt->name, 0);
	(void)buf_printf(out, "FANSYNCD_SOURCE=%s%c", opt->source, 0);
	(void)buf_printf(out, "FANSYNCD_TARGET=%s%c", opt->target, 0);
	(void)buf_printf(out, "FANSYNCD_FORMAT=%s%c", formats[s->opt->format], 0);
	(void)buf_printf(out, "FANSYNCD_KIND=%s%c",
			 s->opt->persistent ? "persistent"
			 : s->listing	    ? "listing"
					    : "batch",
			 0);
	if (s->listing && !s->opt->persistent)
		(void)buf_printf(out, "FANSYNCD_DELETIONS=%lld%c", (long long)s->offered, 0);
	return add_rules(out, opt->filter) && buf_add_byte(out, '\0');
}

/* The list for exec, in one allocation with the strings after it. */
static const char **environment(const struct exec *s)
{
	struct buf text;
	size_t n = 0;
	const char **list = NULL;

	buf_init(&text, RULES_TEXT_MAX + 1024u * 1024);
	if (put_environment(s, &text)) {
		for (size_t i = 0; i < text.len; i++)
			n += text.data[i] == '\0';
		list = malloc((n + 1) * sizeof(*list) + text.len);
	}
	if (list != NULL) {
		char *at = memcpy(list + n + 1, text.data, text.len);

		for (size_t i = 0; i < n; i++, at += strlen(at) + 1)
			list[i] = at;
		list[n] = NULL;
	}
	buf_done(&text);
	return list;
}

static int start_program(struct exec *s, struct err *err)
{
	const char **env = environment(s);
	const struct exec_program_spec spec = { .argv = (const char *const *)s->opt->command.v,
						.env = env,
						.cwd = s->env->opt->source,
						.user = s->user.name == NULL ? NULL : &s->user,
						.in_fd = s->opt->persistent ? -1 : s->spool.fd };
	int rc;

	if (env == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for the environment of %s", exec_program_name(s));
	s->last_words[0] = '\0';
	s->star = EXEC_WORD_NONE;
	rc = exec_program_start(&s->program, &spec, err);
	free(env);
	if (rc < 0)
		return -1;
	s->env->counters->processes++;
	log_debug(LOG_CAT_EXEC, "started %s, process %d", s->opt->command.v[0], (int)s->program.proc.pid);
	return 0;
}

static int feed(struct exec *s, struct err *err)
{
	struct exec_feed feed = { .fd = s->spool.fd, .size = s->spool.size };

	feed.mark = exec_record_mark(s->opt->format, &feed.marks);
	return exec_program_feed(&s->program, &feed, err);
}

void exec_run_spooled(struct exec *s)
{
	struct err err = ERR_INIT;

	if (exec_spool_end(&s->spool, &err) < 0 || (!exec_program_runs(&s->program) && start_program(s, &err) < 0) ||
	    (s->opt->persistent && feed(s, &err) < 0)) {
		exec_down(s, &err);
		return;
	}
	s->running = true;
	exec_alive(s, "carrying", NULL, 0);
}

/* How it ended, with what it said last. */
static void end_words(const struct exec *s, int status, struct err *out)
{
	char how[64];

	proc_status_text(status, how, sizeof(how));
	err_set(out, ERR_IO, "%s: %s%s%s", exec_program_name(s), how, s->last_words[0] == '\0' ? "" : ": ",
		s->last_words);
}

static void on_alive(void *ctx)
{
	exec_alive(ctx, "carrying", NULL, 0);
}

static void on_deaf(void *ctx)
{
	struct exec *s = ctx;
	struct err why = ERR_INIT;

	err_set(&why, ERR_IO, "%s closed its standard input in the middle of a batch", exec_program_name(s));
	exec_down(s, &why);
}

static void divide(struct exec *s)
{
	size_t mid = s->run.lo + (s->run.hi - s->run.lo) / 2;

	if (add_run(s, mid, s->run.hi) < 0 || add_run(s, s->run.lo, mid) < 0) {
		struct err why = ERR_INIT;

		err_set(&why, ERR_NOMEM, "out of memory");
		exec_settle_rest(s, EXEC_RETRY, &why);
	}
}

/* Its input is a file, whose offset is the program's as well. One that opens it anew leaves that at 0. */
static bool read_a_part(const struct exec *s)
{
	off_t at = lseek(s->spool.fd, 0, SEEK_CUR);

	return at > 0 && (uint64_t)at < s->spool.size;
}

/* What it said of all, if it has ended well; that it failed it can say whatever becomes of it. */
static enum exec_word with_star(const struct exec *s, enum exec_word word, struct err *why)
{
	bool good = s->star == EXEC_DONE || s->star == EXEC_GONE;

	if (s->star == EXEC_WORD_NONE || word == EXEC_DOWN || (good && word != EXEC_DONE))
		return word;
	*why = s->star_why;
	if (!good || !read_a_part(s))
		return s->star;
	err_set(why, ERR_PROTOCOL, "%s answered for all, and had not read all of it", exec_program_name(s));
	return EXEC_RETRY;
}

static void judge(struct exec *s, int status)
{
	enum exec_word word = WIFEXITED(status) ? exec_exit_word(s->opt, WEXITSTATUS(status)) : EXEC_RETRY;
	struct err why = ERR_INIT;

	end_words(s, status, &why);
	word = with_star(s, word, &why);
	if (word == EXEC_DOWN) {
		why.class = ERR_NETWORK;
		exec_down(s, &why);
		return;
	}
	if (word == EXEC_REJECT && s->opt->answers == EXEC_STATUS && s->run.hi - s->run.lo > 1)
		divide(s);
	else
		exec_settle_rest(s, word, &why);
	exec_run_over(s);
}

static void on_ended(void *ctx, int status)
{
	struct exec *s = ctx;
	struct err why = ERR_INIT;

	if (s->broken || s->stale)
		return;
	if (!s->opt->persistent) {
		judge(s, status);
		return;
	}
	end_words(s, status, &why);
	if (s->running)
		exec_down(s, &why);
	else
		log_warn("it ended, and is started again when there is something to do: %s", why.text);
}

/* ---- a work ---- */

static void drop_changes(struct exec *s)
{
	free(s->settled);
	free(s->place);
	s->settled = NULL;
	s->place = NULL;
}

static void finish(struct exec *s)
{
	loop_timer_stop(s->limit);
	exec_listing_end(s);
	exec_spool_done(&s->spool);
	s->work = NULL;
	s->n_todo = 0;
	drop_changes(s);
	s->env->finished(s->env->ctx);
}

void exec_run_over(struct exec *s)
{
	struct err why = ERR_INIT;

	if (s->broken)
		return;
	if (s->opt->persistent) {
		err_set(&why, ERR_IO, "%s gave no answer", exec_program_name(s));
		exec_settle_rest(s, EXEC_RETRY, &why);
	}
	s->running = false;
	if (s->listing)
		exec_listing_over(s);
	loop_timer_after(s->kick, 0);
}

static void next_listing(struct exec *s)
{
	struct err err = ERR_INIT;

	if (s->dir == s->work->n_items)
		finish(s);
	else if (exec_listing_begin(s, &err) < 0)
		exec_down(s, &err);
}

static void next_run(struct exec *s)
{
	struct err err = ERR_INIT;

	while (s->n_todo > 0 && all_settled(s, &s->todo[s->n_todo - 1]))
		s->n_todo--;
	if (s->n_todo == 0) {
		finish(s);
		return;
	}
	s->run = s->todo[--s->n_todo];
	if (put_run(s, &err) < 0)
		exec_down(s, &err);
	else
		exec_run_spooled(s);
}

/* What is decided without the program: renames that it does not know, deletions above the limit. */
static void settle_first(struct exec *s)
{
	int64_t allowed = s->work->max_delete < 0 ? INT64_MAX : s->work->max_delete;
	struct err why = ERR_INIT;

	for (size_t i = 0; i < s->work->n_renames && !s->opt->moves; i++)
		exec_settle(s, i, EXEC_RECONCILE, NULL);
	err_set(&why, ERR_UNSAFE,
		"not deleted: more deletions than maxDelete allows; raise it, or run fansyncd --sync-now "
		"--allow-delete");
	for (size_t i = 0; i < s->work->n_items; i++)
		if (s->work->items[i].look == LOOK_ABSENT && allowed-- <= 0)
			exec_settle(s, s->work->n_renames + i, EXEC_REJECT, &why);
}

static void on_kick(void *ctx)
{
	struct exec *s = ctx;

	if (s->broken || s->work == NULL)
		return;
	if (!s->begun && !s->listing)
		settle_first(s);
	s->begun = true;
	if (s->listing)
		next_listing(s);
	else
		next_run(s);
}

static int start(struct exec *s, const struct transport_work *work, bool listing, struct err *err)
{
	if (s->broken)
		return err_set(err, ERR_BUG, "exec: a session that is broken was given work");
	if (s->stale)
		exec_program_stop(&s->program);
	s->stale = false;
	s->work = work;
	s->listing = listing;
	s->n_done = s->dir = s->n_todo = 0;
	s->listed = 0;
	s->spent = 0;
	s->running = s->begun = false;
	s->settled = calloc(exec_changes(s) + 1, sizeof(*s->settled));
	s->place = calloc(exec_changes(s) + 1, sizeof(*s->place));
	if (s->settled == NULL || s->place == NULL || (!listing && cut_runs(s) < 0)) {
		drop_changes(s);
		s->work = NULL;
		return err_set(err, ERR_NOMEM, "out of memory for a batch");
	}
	loop_timer_after(s->limit, limit_ns(s));
	loop_timer_after(s->kick, 0);
	return 0;
}

static int apply(void *session, const struct transport_work *work, struct err *err)
{
	return start(session, work, false, err);
}

static int reconcile(void *session, const struct transport_work *work, struct err *err)
{
	return start(session, work, true, err);
}

/* ---- a session ---- */

static void close_session(void *session)
{
	struct exec *s = session;

	exec_program_stop(&s->program);
	exec_listing_end(s);
	exec_spool_done(&s->spool);
	if (s->kick != NULL)
		loop_timer_remove(s->kick);
	if (s->limit != NULL)
		loop_timer_remove(s->limit);
	proc_user_done(&s->user);
	free(s->todo);
	drop_changes(s);
	free(s);
}

static int validate(struct sync_options *opt, struct err *err)
{
	size_t n = filter_count(opt->filter), size = 0;

	for (size_t i = 0; i < n; i++)
		size += strlen(filter_rule_text(opt->filter, i)) + 1;
	if (size > RULES_TEXT_MAX)
		return err_set(
			err, ERR_CONFIG,
			"exec: %zu rules of %zu KiB: the program gets them in FANSYNCD_RULES, which holds %u KiB; "
			"use patterns for many names at once, or have the program leave names out",
			n, size / 1024, RULES_TEXT_MAX / 1024);
	return exec_validate(opt, err);
}

static void *open_session(const struct transport_env *env, struct err *err)
{
	struct exec *s = calloc(1, sizeof(*s));
	const struct exec_program_events events = {
		.out = exec_on_out, .err = exec_on_err, .alive = on_alive, .deaf = on_deaf, .ended = on_ended, .ctx = s
	};

	if (s == NULL) {
		err_set(err, ERR_NOMEM, "out of memory");
		return NULL;
	}
	s->env = env;
	s->opt = &env->opt->exec;
	exec_program_init(&s->program, env->loop, &events);
	exec_spool_init(&s->spool);
	s->kick = loop_timer_add(env->loop, on_kick, s, err);
	s->limit = s->kick == NULL ? NULL : loop_timer_add(env->loop, on_limit, s, err);
	if (s->limit == NULL || (s->opt->user != NULL && proc_user_find(&s->user, s->opt->user, err) < 0)) {
		close_session(s);
		return NULL;
	}
	return s;
}

extern const struct transport transport_exec;
const struct transport transport_exec = {
	.name = "exec",
	.caps = TRANSPORT_RENAME | TRANSPORT_EXEC | TRANSPORT_FREE_TARGET | TRANSPORT_PROGRAM,
	.default_delay_ns = NS_PER_S,
	.validate = validate,
	.open = open_session,
	.apply = apply,
	.reconcile = reconcile,
	.close = close_session,
	.examine = exec_examine,
};
