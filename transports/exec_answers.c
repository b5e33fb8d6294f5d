/*
 * exec_answers.c - what an exec program says: answers on its standard output, words for the administrator on its
 * standard error.
 */
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "transports/exec_private.h"

#define SHOWN_MAX 400
#define CHATTER_LINES 200u
#define CHATTER_NS (60 * NS_PER_S)

/* As much of it as a reason may hold. */
static void reason(struct err *e, enum err_class class, const struct exec *s, const struct exec_answer *a)
{
	if (a->text_len == 0)
		err_set(e, class, "%s gave no reason", exec_program_name(s));
	else
		err_set(e, class, "%s: %.*s", exec_program_name(s),
			(int)(a->text_len < SHOWN_MAX ? a->text_len : SHOWN_MAX), a->text);
}

static void not_understood(struct exec *s, const char *text, size_t len, const char *what)
{
	struct err why = ERR_INIT;

	err_set(&why, ERR_PROTOCOL, "%s: %s: %.*s", exec_program_name(s), what,
		(int)(len < SHOWN_MAX / 2 ? len : SHOWN_MAX / 2), text);
	exec_down(s, &why);
}

/* An entry of a listing: only what is wrong with it is of interest. */
static void answer_entry(struct exec *s, uint64_t id, const struct exec_answer *a, const struct err *why)
{
	const char *path = exec_listing_path(s, id);
	enum verdict v = a->word == EXEC_REJECT	     ? VERDICT_REJECT
			 : a->word == EXEC_RECONCILE ? VERDICT_RECONCILE
						     : VERDICT_RETRY;

	if (a->word == EXEC_DONE || a->word == EXEC_GONE)
		return;
	if (path != NULL)
		s->env->found(s->env->ctx, path, strlen(path), v, why);
	else
		exec_settle(s, s->dir, EXEC_RETRY, why);
}

static void answer_listing(struct exec *s, uint64_t id, const struct exec_answer *a, const struct err *why)
{
	uint64_t listed = s->end_id != 0 ? s->end_id - 1 : s->last_id;

	if (id == 1 || id == listed) /* one that asks for a comparison would do so for ever */
		exec_settle(s, s->dir, a->word == EXEC_RECONCILE ? EXEC_RETRY : a->word, why);
	else
		answer_entry(s, id, a, why);
}

/* Of one that stays. What it has not read it can't answer for: DONE would lose that. true: it is down. */
static bool ends_early(struct exec *s)
{
	struct err why = ERR_INIT;

	if (exec_program_fed(&s->program) && exec_program_taken(&s->program) >= s->end_at)
		return false;
	err_set(&why, ERR_PROTOCOL, "%s ended a batch that it was not yet given", exec_program_name(s));
	exec_down(s, &why);
	return true;
}

/* Whether a record with that number is one of the run, and was written to the program. */
static bool was_given(const struct exec *s, uint64_t id)
{
	uint64_t last = s->listing ? s->last_id : s->run.hi, first = s->listing ? 1 : s->run.lo + 1;

	if (id < first || id > last)
		return false;
	return s->end_id == 0 || (s->listing ? id : s->place[id - 1]) <= exec_program_given(&s->program);
}

static void answer_one(struct exec *s, const struct exec_answer *a, const struct err *why)
{
	if (s->end_id != 0 && a->id == s->end_id) {
		if (!ends_early(s))
			exec_run_over(s);
		return;
	}
	if (!was_given(s, a->id)) {
		char text[64];

		(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)a->id);
		not_understood(s, text, strlen(text), "it answers to a record that it was not given");
		return;
	}
	if (s->listing)
		answer_listing(s, a->id, a, why);
	else
		exec_settle(s, (size_t)a->id - 1, a->word, why);
}

static void take_answer(struct exec *s, const struct exec_answer *a)
{
	struct err why = ERR_INIT;

	reason(&why, a->kind == EXEC_ANSWER_DOWN ? ERR_NETWORK : ERR_IO, s, a);
	switch (a->kind) {
	case EXEC_ANSWER_DOWN:
		exec_down(s, &why);
		return;
	case EXEC_ANSWER_DELETED:
		s->env->counters->deletions += a->id;
		s->env->counters->entries_deleted += a->id;
		if (s->listing)
			exec_listing_deleted(s, a->id);
		return;
	case EXEC_ANSWER_ALL:
		s->star = a->word;
		s->star_why = why;
		if (s->end_id == 0 || ends_early(s))
			return;
		exec_settle_rest(s, a->word, &why);
		exec_run_over(s);
		return;
	case EXEC_ANSWER_ONE:
		answer_one(s, a, &why);
		return;
	}
}

void exec_on_out(void *ctx, const char *text, size_t len, bool cut)
{
	struct exec *s = ctx;
	struct exec_answer a;

	if (s->broken || s->stale)
		return;
	exec_alive(s, "carrying", NULL, 0);
	if (s->opt->answers == EXEC_STATUS) {
		log_debug(LOG_CAT_EXEC, "%s: %.*s%s", exec_program_name(s), (int)len, text, cut ? "..." : "");
		return;
	}
	if (len == 0)
		return;
	if (cut)
		not_understood(s, text, len, "a line that is too long");
	else if (!exec_answer_parse(text, len, &a))
		not_understood(s, text, len, "no answer");
	else if (!s->running)
		not_understood(s, text, len, "an answer to nothing");
	else
		take_answer(s, &a);
}

void exec_on_err(void *ctx, const char *text, size_t len, bool cut)
{
	struct exec *s = ctx;
	uint64_t left_out = 0;

	if (len == 0)
		return;
	(void)snprintf(s->last_words, sizeof(s->last_words), "%.*s", (int)len, text);
	if (s->broken)
		return;
	exec_alive(s, "carrying", NULL, 0);
	if (!log_limit_ok(&s->chatter, clock_mono_ns(), CHATTER_LINES, CHATTER_NS, &left_out))
		return;
	if (left_out > 0)
		log_normal("%s: %llu more lines were left out", exec_program_name(s), (unsigned long long)left_out);
	log_normal("%s: %.*s%s", exec_program_name(s), (int)len, text, cut ? "..." : "");
}
