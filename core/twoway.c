#include "core/twoway.h"

#define NS_PER_SECOND INT64_C(1000000000)

static int64_t time_of(const struct twoway_state *s, enum twoway_times times)
{
	int64_t seconds = s->mtime_ns / NS_PER_SECOND;

	if (times == TWOWAY_NANOSECONDS)
		return s->mtime_ns;
	return s->mtime_ns % NS_PER_SECOND < 0 ? seconds - 1 : seconds; /* as stat(2) has them before 1970 */
}

/* What has no time of its own is compared by its attributes alone. */
static bool has_time(const struct twoway_state *s)
{
	return s->look == LOOK_FILE || s->look == LOOK_SYMLINK;
}

bool twoway_same(const struct twoway_state *a, const struct twoway_state *b, enum twoway_times times)
{
	if (a->look != b->look || a->attr != b->attr)
		return false;
	if (!has_time(a))
		return true;
	return a->size == b->size && time_of(a, times) == time_of(b, times);
}

bool twoway_beats(const struct twoway_state *a, const struct twoway_state *b, enum twoway_times times)
{
	int64_t x = time_of(a, times), y = time_of(b, times);

	if ((a->look == LOOK_ABSENT) != (b->look == LOOK_ABSENT))
		return b->look == LOOK_ABSENT;
	if ((a->look == LOOK_DIR) != (b->look == LOOK_DIR))
		return a->look == LOOK_DIR;
	if (has_time(a) != has_time(b))
		return has_time(a);
	if (has_time(a) && x != y)
		return x > y;
	if (has_time(a) && a->size != b->size)
		return a->size > b->size;
	if (a->attr != b->attr)
		return a->attr > b->attr;
	return a->look > b->look;
}

enum twoway_action twoway_decide(const struct twoway_state *source, const struct twoway_state *target,
				 const struct twoway_state *archive, enum twoway_times times)
{
	if (twoway_same(source, target, times))
		return TWOWAY_EQUAL;
	if (twoway_same(source, archive, TWOWAY_NANOSECONDS))
		return TWOWAY_THEIRS;
	if (twoway_same(target, archive, times))
		return source->look == LOOK_ABSENT ? TWOWAY_DELETE : TWOWAY_SEND;
	return twoway_beats(source, target, times) ? TWOWAY_WIN : TWOWAY_LOSE;
}

bool twoway_asks(enum twoway_action a, unsigned looks, const struct twoway_state *target, enum twoway_times times,
		 int64_t *mtime_ns)
{
	if ((a != TWOWAY_THEIRS && a != TWOWAY_LOSE) || looks < TWOWAY_ASK_LOOKS)
		return false;
	if (!has_time(target) || target->mtime_ns > INT64_MAX - NS_PER_SECOND)
		return false;
	*mtime_ns = target->mtime_ns + (times == TWOWAY_SECONDS ? NS_PER_SECOND : 1);
	return true;
}

bool twoway_waits(enum twoway_action a, unsigned looks, const struct twoway_state *source,
		  const struct twoway_state *archive)
{
	return a == TWOWAY_SEND && looks < TWOWAY_ASK_LOOKS && has_time(source) && has_time(archive) &&
	       source->mtime_ns < archive->mtime_ns;
}

bool twoway_insists(enum twoway_action a, unsigned looks, const struct twoway_state *source,
		    const struct twoway_state *target, bool named)
{
	if (looks < TWOWAY_ASK_LOOKS)
		return false;
	if (a == TWOWAY_LOSE)
		return source->look != LOOK_ABSENT && target->look == LOOK_DIR;
	return a == TWOWAY_THEIRS && named && source->look != LOOK_ABSENT && target->look == LOOK_ABSENT;
}

const char *twoway_action_name(enum twoway_action a)
{
	static const char *const names[] = {
		[TWOWAY_NONE] = "none",		 [TWOWAY_EQUAL] = "equal",   [TWOWAY_THEIRS] = "theirs",
		[TWOWAY_SEND] = "send",		 [TWOWAY_DELETE] = "delete", [TWOWAY_WIN] = "conflict won",
		[TWOWAY_LOSE] = "conflict lost",
	};

	return (unsigned)a < sizeof(names) / sizeof(names[0]) ? names[a] : "?";
}
