#include "core/policy.h"

int64_t policy_backoff_ns(uint32_t tries, int64_t min_ns, int64_t max_ns, uint32_t random)
{
	int64_t pause = min_ns < 1 ? 1 : min_ns;

	for (uint32_t i = 1; i < tries && pause < max_ns; i++)
		pause = pause > max_ns / 2 ? max_ns : pause * 2;
	if (pause > max_ns)
		pause = max_ns;
	/* 256 steps are fine enough, and can't overflow for any pause below two centuries. */
	return pause - pause / 4 / 256 * (int64_t)(random % 256);
}

bool policy_is_final(enum err_class class)
{
	switch (class) {
	case ERR_CONFIG:
	case ERR_AUTH:
	case ERR_UNSAFE:
	case ERR_PROTOCOL:
	case ERR_BUG:
		return true;
	case ERR_NONE:
	case ERR_AGAIN:
	case ERR_GONE:
	case ERR_DENIED:
	case ERR_NOSPACE:
	case ERR_IO:
	case ERR_NETWORK:
	case ERR_LIMIT:
	case ERR_NOMEM:
	case ERR_CLASSES:
		break;
	}
	return false;
}
