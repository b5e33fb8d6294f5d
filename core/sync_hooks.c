/*
 * sync_hooks.c - when a sync runs the administrator's commands, and what they are told.
 */
#include "core/clock.h"
#include "core/sync_private.h"

/* What preBatch refused is asked about again when something changed, as soon as that has settled. */
#define SETTLE_NS (300 * NS_PER_MS)

static void look_again(struct sync *s)
{
	int64_t soon;

	if (!s->vetoed || !s->down)
		return;
	soon = clock_mono_ns() + (s->opt->delay_ns > SETTLE_NS ? s->opt->delay_ns : SETTLE_NS);
	if (s->down_until_ns > soon)
		s->down_until_ns = soon;
}

void sync_hooks_saw(struct sync *s, const struct change *c)
{
	look_again(s);
	if (c->kind == CHANGE_NONE || !hooks_wanted(s->hooks, HOOK_CHANGE))
		return;
	hooks_add(s->hooks, HOOK_CHANGE, c->path, c->path_len);
	if (c->kind == CHANGE_RENAME)
		hooks_add(s->hooks, HOOK_CHANGE, c->old_path, c->old_len);
	hooks_run_soon(s->hooks, HOOK_CHANGE);
}

static void on_checked(void *ctx, const struct err *why)
{
	struct sync *s = ctx;

	s->batch_started_ns = clock_mono_ns();
	if (why == NULL)
		sync_carry(s);
	else
		sync_veto(s, why);
}

void sync_hooks_check(struct sync *s)
{
	for (size_t i = 0; i < s->batch->n_renames; i++) {
		hooks_add(s->hooks, HOOK_PRE_BATCH, s->batch->renames[i].from, s->batch->renames[i].from_len);
		hooks_add(s->hooks, HOOK_PRE_BATCH, s->batch->renames[i].to, s->batch->renames[i].to_len);
	}
	for (size_t i = 0; i < s->batch->n_items; i++)
		hooks_add(s->hooks, HOOK_PRE_BATCH, s->batch->items[i].path, s->batch->items[i].len);
	hooks_check(s->hooks, on_checked, s);
	sync_changed(s);
}

void sync_hooks_done(struct sync *s, const char *path, size_t len)
{
	hooks_add(s->hooks, HOOK_BATCH, path, len);
}

void sync_hooks_failed(struct sync *s, const char *path, size_t len)
{
	hooks_add(s->hooks, HOOK_ERROR, path, len);
	s->hook_failed = true;
}

void sync_hooks_over(struct sync *s)
{
	if (hooks_told(s->hooks, HOOK_BATCH))
		hooks_run(s->hooks, HOOK_BATCH, NULL);
	if (s->hook_failed)
		hooks_run(s->hooks, HOOK_ERROR, s->last_error);
	s->hook_failed = false;
}
