/*
 * owners.h - names of users and groups, and their numbers here.
 *
 * What answers (NSS) may load libraries, ask servers, and take its time: a child does it that holds nothing, one for
 * each question, and is ended when it takes too long. So it is never done in a process that is confined, nor in one
 * that must not wait.
 */
#ifndef FANSYNCD_CORE_OWNERS_H
#define FANSYNCD_CORE_OWNERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"
#include "core/owner_map.h"

#define OWNER_SECONDS 5u

enum owner_result { OWNER_FOUND = 1, OWNER_UNKNOWN, OWNER_FAILED };

/* The name of a number when `name` is "", else the number of a name. */
struct owner_question {
	enum owner_kind kind;
	uint32_t id;
	char name[OWNER_NAME_MAX + 1];
};

struct owner_answer {
	enum owner_result result;
	uint32_t id;
	char name[OWNER_NAME_MAX + 1];
};

/* Start a child. Returns a descriptor (CLOEXEC, not blocking) at which a struct owner_answer will be read, or its end
 * without one; -1 on failure. The child ends by itself after OWNER_SECONDS. Whoever asked reaps `*pid`. */
int owner_ask(const struct owner_question *q, pid_t *pid, struct err *err);
/* Ask, and wait. `lookups`: who is asked (core/lookups.h); 0: a child of the caller's own. */
void owner_look_up(int lookups, const struct owner_question *q, struct owner_answer *out);

/* What a process for look-ups answers questions with that begin with this byte (lookups_fn). */
#define OWNER_KIND 'o'
void owner_answer(const void *question, size_t len, int out);

#endif
