/*
 * ssh_target.h - what the transports over ssh share: the host and the directory as they are configured, the options
 * that an ssh process gets. Pure.
 */
#ifndef FANSYNCD_TRANSPORTS_SSH_TARGET_H
#define FANSYNCD_TRANSPORTS_SSH_TARGET_H

#include <stdbool.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/options.h"
#include "transports/rsync_args.h"

/* Complete host, targetdir and target of a sync, and refuse what can't be one. */
int ssh_target_validate(struct sync_options *opt, struct err *err);
/* As rsync and messages have a host: an IPv6 address in brackets. Appended. */
bool ssh_target_add_host(struct buf *out, const char *host);
/* The target directory for the other end: "." or "./..." (relative to where one logs in), or absolute; no slash behind
 * it. Appended. */
bool ssh_target_add_dir(struct buf *out, const char *dir);
/* As ssh wants a host: no brackets. malloc'ed, NULL when out of memory. */
char *ssh_target_host(const char *host);
/* ssh's options but those of a shared connection: ours that must hold, the administrator's, our defaults. ssh takes the
 * first value that it sees of an option. */
bool ssh_target_add_options(struct arglist *a, const struct ssh_options *o);

#endif
