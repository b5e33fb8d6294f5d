/*
 * resolve.h - the addresses of a host, without the loop having to wait for a name server.
 *
 * Literal addresses (with a zone, too) need nothing; names are looked up by a child, which the C library may keep for
 * as long as resolv.conf allows: it is ended when the time is over.
 */
#ifndef FANSYNCD_CORE_RESOLVE_H
#define FANSYNCD_CORE_RESOLVE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/err.h"
#include "core/loop.h"

#define RESOLVE_MAX 16u

struct resolve_address {
	struct sockaddr_storage addr;
	socklen_t len;
};

struct resolver;

/* In the order in which they are to be tried; n 0: `why`. They live for the call. */
typedef void resolve_fn(void *ctx, const struct resolve_address *v, size_t n, const struct err *why);

/* `done` is called once, from the loop. The host is copied. `lookups`: who is asked (core/lookups.h); 0: a child of the
 * caller's own, who must have no threads then. NULL on failure. */
struct resolver *resolver_start(struct loop *loop, int lookups, const char *host, uint16_t port, int64_t timeout_ns,
				resolve_fn *done, void *ctx, struct err *err);
/* Also from within `done`, and before it: then it is not called. NULL is fine. */
void resolver_free(struct resolver *r);

/* What a process for look-ups answers questions with that begin with this byte (lookups_fn). */
#define RESOLVE_KIND 'h'
void resolve_answer(const void *question, size_t len, int out);

#endif
