/*
 * rsyncssh_twoway.h - a bidirectional work of rsyncssh: look at the target, decide (core/twoway.h), then delete, rename
 * and send just what is ours, and note what both ends agree on (core/archive.h).
 *
 * Everything but the content travels over the shell of the shared connection; content is rsync's, with a list of
 * names. It arrives in a private directory, and takes its place when neither end has moved since the look. Of many
 * files at a time, and where permissions are not mirrored, rsync does that itself; what it replaces is looked at
 * afterwards: an edit that slipped in between look and replacement is put back if it is the newer one.
 */
#ifndef FANSYNCD_TRANSPORTS_RSYNCSSH_TWOWAY_H
#define FANSYNCD_TRANSPORTS_RSYNCSSH_TWOWAY_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"
#include "core/transport.h"

struct twoway;

/* The runs of rsync that a work may need, in this order. */
enum twoway_lane {
	TWOWAY_DIRECT = 0, /* to where it belongs, temp files and what is replaced in the private directory */
	TWOWAY_APART,	   /* the same on other file systems than the target's top, where files can't be moved to it */
	TWOWAY_STAGED,	   /* into the private directory, to be put where it belongs */
	TWOWAY_LANES
};

/* What it needs of the connection. Calls are answered in their order by twoway_reply. */
struct twoway_link {
	void *ctx;
	/* false: the connection is over. */
	bool (*call)(void *ctx, const char *command, size_t len);
	/* Whether more calls may be sent ahead now. */
	bool (*room)(void *ctx);
	/* Start rsync's session on this work; its events come to twoway_env(). */
	int (*send)(void *ctx, const struct transport_work *work, enum twoway_lane lane, struct err *err);
	/* The work can't go on: everything unsettled goes back to pending. */
	void (*down)(void *ctx, const struct err *why);
};

/* NULL when out of memory. env->archive_path is set. */
struct twoway *twoway_new(const struct transport_env *env, const struct twoway_link *link, struct err *err);
void twoway_free(struct twoway *t);
/* What rsync's session gets in the place of the transport's own. */
const struct transport_env *twoway_env(struct twoway *t);
/* The name of the private directory. */
const char *twoway_private(const struct twoway *t);

/* A new connection: the shell knows nothing yet, and what an earlier one left at the target is to be looked at. */
void twoway_connected(struct twoway *t);
/* transport.apply and transport.reconcile, from the loop, once there is a connection. Ends with env->finished, or
 * link->down. */
void twoway_begin(struct twoway *t, const struct transport_work *work, bool reconcile);
/* Drop the work under way. */
void twoway_forget(struct twoway *t);
bool twoway_busy(const struct twoway *t);
void twoway_reply(struct twoway *t, int status, const char *said, size_t len, const struct buf *data);

/* Refuse options that make both ends differ for ever, or go around the guards. */
int twoway_validate(const struct sync_options *opt, struct err *err);

#endif
