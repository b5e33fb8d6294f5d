/*
 * tcp_twoway.h - both ways over tcp, the sender's part: the archive. The receiver compares and decides; it is told what
 * is archived (with items and listings, or when it asks), and says what both ends agree on now.
 */
#ifndef FANSYNCD_TRANSPORTS_TCP_TWOWAY_H
#define FANSYNCD_TRANSPORTS_TCP_TWOWAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/transport.h"
#include "transports/listing.h"
#include "transports/tcp_frames.h"

struct tcp_twoway;

/* env->archive_path is set. NULL on failure. */
struct tcp_twoway *tcp_twoway_open(const struct transport_env *env, struct err *err);
void tcp_twoway_free(struct tcp_twoway *t);

/* What is archived of a path. -1: it can't be known now. */
int tcp_twoway_get(struct tcp_twoway *t, const char *path, size_t len, struct twoway_state *out, struct err *err);
/* The same of all that a directory of the source held and holds: entries are given theirs (listing_agree), and those
 * that are archived and gone are added, with st_mode 0. Sorted again. */
int tcp_twoway_list(struct tcp_twoway *t, const char *dir, size_t len, const struct fileops_wish *wish,
		    struct listing *list, struct err *err);

/* Take a NOTE or CONFLICT. false: it breaks a rule, or can't be noted. */
bool tcp_twoway_frame(struct tcp_twoway *t, uint8_t type, const char *payload, size_t len, struct err *err);
/* Behind a work, before it is told as finished. `whole`: it compared all of the source; else, when the archive was
 * begun anew, that is asked for. */
int tcp_twoway_commit(struct tcp_twoway *t, bool whole, struct err *err);
/* archive_in_doubt. */
bool tcp_twoway_in_doubt(const struct tcp_twoway *t);

#endif
