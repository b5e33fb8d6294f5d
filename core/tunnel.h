/*
 * tunnel.h - a program that leads to a sync's target, and is kept running: tunnel = { }.
 *
 * It is an argv, run without a shell, in a process group of its own, with the local port in the place of "${port}". It
 * counts as up when it, or what it started, listens on that port; nobody connects to find out, so a forwarder for one
 * connection is not used up, and the far end sees none that says nothing. What another program listens on is never
 * taken for it. When it ends, or is not up in time, it is started again (core/tunnel_state.h says when). Its port is
 * kept, as long as nobody else takes it meanwhile.
 *
 * Lives in the daemon's loop, and never blocks beyond a fork.
 */
#ifndef FANSYNCD_CORE_TUNNEL_H
#define FANSYNCD_CORE_TUNNEL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"
#include "core/loop.h"
#include "core/options.h"

/* All tunnels of a process, those included whose sync is gone and which have not ended yet. */
struct tunnels;
struct tunnel;

struct tunnels *tunnels_new(struct loop *loop, struct err *err);
/* Kills what is left. After all tunnels were freed. NULL is fine. */
void tunnels_free(struct tunnels *all);
/* Whether a program runs. */
bool tunnels_run(const struct tunnels *all);

/* Called from the loop. */
struct tunnel_events {
	void (*up)(void *ctx);
	/* It is not, or no longer; it will be tried again. */
	void (*down)(void *ctx, const struct err *why);
	void *ctx;
};

struct tunnel_info {
	bool up;
	uint16_t port; /* 0: none is chosen, or needed */
	pid_t pid;     /* 0: none runs */
	uint64_t starts;
	uint32_t tries; /* that failed in a row */
	const char *last_words;
	const char *state; /* "up", "starting", "ending", "down" */
};

/* The program is started from the loop. The options are borrowed. */
struct tunnel *tunnel_new(struct tunnels *all, const struct sync_options *opt, const struct tunnel_events *events,
			  struct err *err);
/* No more events. The program is told to end, and killed if it does not. NULL is fine. */
void tunnel_free(struct tunnel *t);
/* A reload found the options equal: use the new copy. NULL is fine. */
void tunnel_rebind(struct tunnel *t, const struct sync_options *opt);
/* Have it end, and not start again. NULL is fine. */
void tunnel_stop(struct tunnel *t);
/* Try it now, if it waits to be tried. NULL is fine. */
void tunnel_retry(struct tunnel *t);
/* The target was reached through it, or was not: one that leads nowhere is started anew after a few failures, and at
 * once when it is `hung`. NULL is fine. */
void tunnel_target_reached(struct tunnel *t);
void tunnel_target_failed(struct tunnel *t, bool hung);
bool tunnel_is_up(const struct tunnel *t);
void tunnel_info(const struct tunnel *t, struct tunnel_info *out);

#endif
