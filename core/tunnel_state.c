#include "core/tunnel_state.h"

#include "core/policy.h"

#define MS INT64_C(1000000)
#define FIRST_GAP_NS (5 * MS)
#define LAST_GAP_NS (500 * MS)
/* Whatever retryMin says: a program that can't start must not be all that we do. */
#define LEAST_PAUSE_NS (100 * MS)

void tunnel_state_init(struct tunnel_state *s, const struct tunnel_rules *rules, int64_t now_ns)
{
	*s = (struct tunnel_state){ .rules = *rules, .at_ns = now_ns };
}

bool tunnel_state_runs(const struct tunnel_state *s)
{
	return s->phase == TUNNEL_STARTING || s->phase == TUNNEL_UP || s->phase == TUNNEL_ENDING;
}

static bool is_to_end(const struct tunnel_state *s, int64_t now_ns)
{
	return s->stopping || s->target_failures >= TUNNEL_TARGET_FAILURES ||
	       (s->phase == TUNNEL_STARTING && now_ns >= s->limit_ns);
}

enum tunnel_step tunnel_state_due(const struct tunnel_state *s, int64_t now_ns, int64_t *next_ns)
{
	*next_ns = INT64_MAX;
	if ((s->phase == TUNNEL_STARTING || s->phase == TUNNEL_UP) && is_to_end(s, now_ns))
		return TUNNEL_TERMINATE;
	if (s->phase == TUNNEL_UP || s->phase == TUNNEL_ENDED)
		return TUNNEL_NOTHING;
	if (now_ns >= s->at_ns)
		return s->phase == TUNNEL_WAITING  ? TUNNEL_START
		       : s->phase == TUNNEL_ENDING ? TUNNEL_KILL
						   : TUNNEL_LOOK;
	*next_ns = s->phase == TUNNEL_STARTING && s->limit_ns < s->at_ns ? s->limit_ns : s->at_ns;
	return TUNNEL_NOTHING;
}

void tunnel_state_started(struct tunnel_state *s, int64_t now_ns)
{
	bool by_time = s->rules.ready_delay_ns > 0;

	s->phase = TUNNEL_STARTING;
	s->late = false;
	s->target_failures = 0;
	s->gap_ns = FIRST_GAP_NS;
	s->at_ns = now_ns + (by_time ? s->rules.ready_delay_ns : FIRST_GAP_NS);
	s->limit_ns = by_time ? INT64_MAX : now_ns + s->rules.timeout_ns;
}

static void pause(struct tunnel_state *s, int64_t now_ns, uint32_t random)
{
	int64_t ns;

	s->phase = TUNNEL_WAITING;
	s->tries++;
	ns = policy_backoff_ns(s->tries, s->rules.retry_min_ns, s->rules.retry_max_ns, random);
	s->at_ns = now_ns + (ns < LEAST_PAUSE_NS ? LEAST_PAUSE_NS : ns);
}

void tunnel_state_not_started(struct tunnel_state *s, int64_t now_ns, uint32_t random)
{
	pause(s, now_ns, random);
}

void tunnel_state_blocked(struct tunnel_state *s)
{
	s->at_ns = INT64_MAX;
}

void tunnel_state_looked(struct tunnel_state *s, int64_t now_ns, bool ready)
{
	if (ready) {
		s->phase = TUNNEL_UP;
		s->up_ns = now_ns;
		return;
	}
	s->gap_ns = s->gap_ns > LAST_GAP_NS / 2 ? LAST_GAP_NS : 2 * s->gap_ns;
	s->at_ns = now_ns + s->gap_ns;
}

/* It is ready no longer. */
static void leave_up(struct tunnel_state *s, int64_t now_ns)
{
	if (s->phase == TUNNEL_UP && now_ns - s->up_ns >= TUNNEL_STEADY_NS)
		s->tries = 0;
}

void tunnel_state_told(struct tunnel_state *s, int64_t now_ns)
{
	leave_up(s, now_ns);
	s->late = s->phase == TUNNEL_STARTING && now_ns >= s->limit_ns;
	s->phase = TUNNEL_ENDING;
	s->at_ns = now_ns + TUNNEL_GRACE_NS;
}

void tunnel_state_ended(struct tunnel_state *s, int64_t now_ns, uint32_t random)
{
	leave_up(s, now_ns);
	if (s->stopping)
		s->phase = TUNNEL_ENDED;
	else
		pause(s, now_ns, random);
}

void tunnel_state_retry(struct tunnel_state *s, int64_t now_ns)
{
	if (s->phase == TUNNEL_WAITING)
		s->at_ns = now_ns;
}

void tunnel_state_reached(struct tunnel_state *s)
{
	s->target_failures = 0;
}

void tunnel_state_failed(struct tunnel_state *s, bool hung)
{
	if (s->phase == TUNNEL_UP)
		s->target_failures = hung ? TUNNEL_TARGET_FAILURES : s->target_failures + 1;
}

void tunnel_state_stop(struct tunnel_state *s)
{
	s->stopping = true;
	if (s->phase == TUNNEL_WAITING)
		s->phase = TUNNEL_ENDED;
}
