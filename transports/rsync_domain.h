/*
 * rsync_domain.h - which files an rsync process may reach: so that a directory which becomes a symlink at the right
 * moment leads it nowhere (rsync, 3.5.0 too, opens by name what it listed before).
 *
 * The source to read; a local target to write; the programs, libraries and tables of the system that it needs; what the
 * administrator names in its options. No file with a secret: the remote shell is started outside (rsync_rsh.h), and a
 * password comes on its standard input. What is changed by name alone (mode, owner, times) Landlock does not know of.
 */
#ifndef FANSYNCD_TRANSPORTS_RSYNC_DOMAIN_H
#define FANSYNCD_TRANSPORTS_RSYNC_DOMAIN_H

#include <stdbool.h>

#include "core/options.h"
#include "transports/rsync_args.h"

/* Why a sync's rsync is not to be confined, in words for the log; NULL: it is. */
const char *rsync_domain_off(const struct sync_options *o);

struct rsync_domain {
	const struct sync_options *opt;
	enum rsync_kind kind;
	int source_fd;			     /* borrowed */
	const char *dest;		     /* RSYNC_LOCAL: the target's directory, which exists */
	const char *filter_file, *list_file; /* NULL: none */
	int shell_fd;			     /* RSYNC_SHELL: the program that it runs as its remote shell, or -1 */
};

/* What it is made of. Some file systems forget a directory that nobody has open, and know it by another number then: so
 * it stays open until rsync has ended. */
struct rsync_places;

/* The domain for core/proc.h, a descriptor of the caller's. Opens a few names: on a target that hangs it hangs. */
int rsync_domain_make(const struct rsync_domain *what, int *domain, struct rsync_places **held, struct err *err);
/* NULL is fine. */
void rsync_domain_leave(struct rsync_places *held);

/* The password in rsync.password_file, as a line for rsync's standard input (--password-file=-), into `out`, for
 * buf_wipe. Refused as rsync refuses it: others may read it, or it is not root's. */
int rsync_domain_password(const char *path, struct buf *out, struct err *err);

#endif
