/*
 * lookups.h - look-ups that a confined worker must not do itself: names of hosts, users and groups.
 *
 * What answers (resolver, NSS) reads files anywhere, loads libraries and asks servers. So before a worker is confined
 * it leaves a process behind that is not, and holds nothing: no capabilities, no descriptors but the one to be asked
 * at. That one has each question answered by a child of its own, which is ended when it takes too long.
 */
#ifndef FANSYNCD_CORE_LOOKUPS_H
#define FANSYNCD_CORE_LOOKUPS_H

#include <stddef.h>

#include "core/err.h"

#define LOOKUPS_QUESTION_MAX 1024u

/* Answers one question: in a child, which may block, and ends when it returns. `out` takes what the one who asks
 * expects, in one write. */
typedef void lookups_fn(const void *question, size_t len, int out);

/* Start it. It ends when the descriptor that is returned (CLOEXEC, above 0) is closed everywhere, or with the caller.
 * `seconds` is what a question may take. -1 on failure. Forks: not for a process with threads. */
int lookups_start(lookups_fn *answer, unsigned seconds, struct err *err);

/* Ask the one at `server`. Returns a descriptor (CLOEXEC, not blocking) at which the answer will be read, or its end
 * without one. -1 on failure. */
int lookups_ask(int server, const void *question, size_t len, struct err *err);

#endif
