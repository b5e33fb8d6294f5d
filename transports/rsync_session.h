/*
 * rsync_session.h - what the transports rsync and rsyncssh share: a work's passes through rsync processes, and the
 * verdicts that follow from their exit codes and messages.
 *
 * A work is one rsync process wherever nothing goes wrong. More are needed for content that must be compared
 * (checksum), for directories that must go (--force), and after a partial failure: what its messages name is given
 * back, the rest is run once more on its own, in halves when no message names anybody.
 */
#ifndef FANSYNCD_TRANSPORTS_RSYNC_SESSION_H
#define FANSYNCD_TRANSPORTS_RSYNC_SESSION_H

#include "core/transport.h"
#include "transports/rsync_args.h"

struct rsync_session;

/* How rsync reaches the target. Strings are borrowed and live as long as the session. */
struct rsync_endpoint {
	enum rsync_kind kind;
	const char *dest;	/* rsync's last argument */
	const char *dir;	/* the target directory as rsync's messages name it, or NULL */
	const char *rsh;	/* RSYNC_SHELL */
	const char *rsync_path; /* RSYNC_SHELL; NULL: default */
	bool own_connection;	/* each run makes a connection of its own: counted as a handshake */
	const char *backup_dir; /* keeps there what is replaced, or removed to make way; NULL: nothing is kept */
	const char *temp_dir;	/* files arrive there; NULL: where they belong */
	const char *copy_dir;	/* dest is empty, and what is to be there like in this directory; NULL: it is not */
};

struct rsync_owner {
	void *ctx;
	/* Called from the loop before the first process of a work: connect, rename, then call rsync_session_go_on,
	 * at once or later; or rsync_session_down. */
	void (*begin)(void *ctx, const struct transport_work *work, bool reconcile);
};

/* NULL when out of memory. */
struct rsync_session *rsync_session_new(const struct transport_env *env, const struct rsync_endpoint *to,
					const struct rsync_owner *owner, struct err *err);
void rsync_session_free(struct rsync_session *s);

/* transport.apply and transport.reconcile. */
int rsync_session_start(struct rsync_session *s, const struct transport_work *work, bool reconcile, struct err *err);
void rsync_session_go_on(struct rsync_session *s);
/* The work ends here, everything unsettled goes back to pending. */
void rsync_session_down(struct rsync_session *s, const struct err *why);

/* The rsync at the target, as major * 10000 + minor * 100 + patch, when the owner knows it; otherwise the session asks
 * by a first, empty run. */
void rsync_session_peer(struct rsync_session *s, unsigned version);
/* The owner has seen that requireTargetMarker is there: the session does not look for it in this work. Without a
 * marker, or a need for it, there is nothing to see. */
void rsync_session_marker_seen(struct rsync_session *s);
bool rsync_session_needs_marker(const struct rsync_session *s);
/* It is not there. */
void rsync_session_no_marker(struct rsync_session *s, const char *said);
/* Where the endpoint may have changed: a new dest or rsh for the runs to come. */
void rsync_session_endpoint(struct rsync_session *s, const struct rsync_endpoint *to);

#endif
