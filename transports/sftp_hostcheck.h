/*
 * sftp_hostcheck.h - whether a server is the one it should be: known_hosts and libssh2 together. Reads (and with
 * accept-new appends to) small local files, blocking.
 */
#ifndef FANSYNCD_TRANSPORTS_SFTP_HOSTCHECK_H
#define FANSYNCD_TRANSPORTS_SFTP_HOSTCHECK_H

#include <stdint.h>

#include <libssh2.h>

#include "core/err.h"
#include "core/options.h"

/* Where a host keeps those that all its users trust. */
#define SFTP_SYSTEM_HOSTS "/etc/ssh/ssh_known_hosts"

/* Before the handshake: the types of keys that are known of the host come first, so that the server shows one of them.
 */
int sftp_hostcheck_prefer(LIBSSH2_SESSION *session, const struct sync_options *opt, const char *host, uint16_t port,
			  struct err *err);
/* After it. -1: refused; the error says what was shown, and what would make it known. */
int sftp_hostcheck_verify(LIBSSH2_SESSION *session, const struct sync_options *opt, const char *host, uint16_t port,
			  struct err *err);

#endif
