/*
 * tunnel_state.h - when a tunnel's program is started, looked at, told to end and killed. Pure: the clock and random
 * bits are arguments.
 *
 * core/tunnel.c asks what is due, does it, and says what came of it. A program that ends, or is not ready in time, is
 * started again after a pause that doubles; one that was ready for a while begins with the shortest. There is never
 * more than one.
 */
#ifndef FANSYNCD_CORE_TUNNEL_STATE_H
#define FANSYNCD_CORE_TUNNEL_STATE_H

#include <stdbool.h>
#include <stdint.h>

/* Ready for so long, it is taken for a good one. */
#define TUNNEL_STEADY_NS INT64_C(10000000000)
/* Between SIGTERM and SIGKILL. */
#define TUNNEL_GRACE_NS INT64_C(2000000000)
/* So many failures of the target in a row through one that seems to work, and it is started anew. */
#define TUNNEL_TARGET_FAILURES 3u

enum tunnel_phase {
	TUNNEL_WAITING = 0, /* no program; one is started at `at_ns` */
	TUNNEL_STARTING,    /* it runs, and is not ready yet: looked at at `at_ns` */
	TUNNEL_UP,
	TUNNEL_ENDING, /* it was told to end; killed at `at_ns` */
	TUNNEL_ENDED,  /* no program, and there will be none */
};

enum tunnel_step {
	TUNNEL_NOTHING = 0,
	TUNNEL_START,
	TUNNEL_LOOK,
	TUNNEL_TERMINATE,
	TUNNEL_KILL,
};

struct tunnel_rules {
	int64_t retry_min_ns, retry_max_ns;
	int64_t timeout_ns;	/* it has to be ready by then */
	int64_t ready_delay_ns; /* above 0: it is ready when it has run for so long, and not looked at before */
};

struct tunnel_state {
	struct tunnel_rules rules;
	enum tunnel_phase phase;
	int64_t at_ns, limit_ns, gap_ns, up_ns;
	uint32_t tries; /* that failed in a row */
	unsigned target_failures;
	bool stopping, late; /* late: it was not ready in time */
};

/* The first start is due at once. */
void tunnel_state_init(struct tunnel_state *s, const struct tunnel_rules *rules, int64_t now_ns);
/* What is to be done now; for NOTHING *next_ns is when to ask again (INT64_MAX: after the next news). */
enum tunnel_step tunnel_state_due(const struct tunnel_state *s, int64_t now_ns, int64_t *next_ns);
/* START was done, could not be done, or can't be done before `tunnel_state_retry`. */
void tunnel_state_started(struct tunnel_state *s, int64_t now_ns);
void tunnel_state_not_started(struct tunnel_state *s, int64_t now_ns, uint32_t random);
void tunnel_state_blocked(struct tunnel_state *s);
/* LOOK was done. */
void tunnel_state_looked(struct tunnel_state *s, int64_t now_ns, bool ready);
/* TERMINATE or KILL was done. */
void tunnel_state_told(struct tunnel_state *s, int64_t now_ns);
/* The program is gone. */
void tunnel_state_ended(struct tunnel_state *s, int64_t now_ns, uint32_t random);
/* Not after the pause, but now. */
void tunnel_state_retry(struct tunnel_state *s, int64_t now_ns);
/* The target was reached through it; or was not; `hung`: something went in, and nothing came out. */
void tunnel_state_reached(struct tunnel_state *s);
void tunnel_state_failed(struct tunnel_state *s, bool hung);
void tunnel_state_stop(struct tunnel_state *s);
/* Whether there is a program. */
bool tunnel_state_runs(const struct tunnel_state *s);

#endif
