/*
 * sync_tunnel.c - a sync whose target is reached through a tunnel: it waits while that is not up.
 */
#include "core/log.h"
#include "core/sync_private.h"

static void on_up(void *ctx)
{
	struct sync *s = ctx;
	bool idle = changeset_pending(s->changes) + changeset_pending_renames(s->changes) == 0 && s->batch == NULL;

	/* What waits is tried now. Where nothing does, there is nothing else to find out by. */
	s->down_until_ns = 0;
	if (idle && s->down && !s->guarded && !s->vetoed)
		sync_come_back(s);
	sync_changed(s);
}

/* The worker's connection leads nowhere, and the next tunnel may have another port. */
static void on_down(void *ctx, const struct err *why)
{
	struct sync *s = ctx;

	sync_drop_worker(s);
	sync_large_drop(s);
	if (s->root_fd >= 0) /* else that it has no source is what to be told */
		sync_tunnel_down(s, why);
}

int sync_open_tunnel(struct sync *s, struct err *err)
{
	const struct tunnel_events events = { .up = on_up, .down = on_down, .ctx = s };

	if (s->opt->tunnel.command.n == 0)
		return 0;
	s->tunnel = tunnel_new(s->env->tunnels, s->opt, &events, err);
	return s->tunnel == NULL ? -1 : 0;
}

bool sync_waits_for_tunnel(const struct sync *s)
{
	return s->tunnel != NULL && !tunnel_is_up(s->tunnel);
}

void sync_end_tunnel(struct sync *s)
{
	tunnel_stop(s->tunnel);
}
