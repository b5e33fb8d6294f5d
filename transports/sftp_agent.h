/*
 * sftp_agent.h - the ssh agent behind SSH_AUTH_SOCK: which keys it holds, signatures with them. Our own few messages of
 * its protocol, since libssh2 1.10 lets it sign by RSA with SHA-1 only.
 *
 * Blocks until the agent answers, at most for the time that is given: an agent may ask its user.
 */
#ifndef FANSYNCD_TRANSPORTS_SFTP_AGENT_H
#define FANSYNCD_TRANSPORTS_SFTP_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"

#define SFTP_AGENT_KEYS_MAX 64

struct sftp_agent {
	int fd;		 /* -1: none */
	struct buf list; /* its answer; the keys point into it */
	struct {
		const char *blob;
		size_t len;
	} keys[SFTP_AGENT_KEYS_MAX];
	size_t n;
};

void sftp_agent_init(struct sftp_agent *a);
/* Connect and ask for the keys. -1: there is no agent, or it makes no sense. */
int sftp_agent_open(struct sftp_agent *a, const char *path, int64_t timeout_ns, struct err *err);
void sftp_agent_done(struct sftp_agent *a);
/* Sign; `algorithm` decides the hash of an RSA key. What the protocol has behind the algorithm's name is appended. */
bool sftp_agent_sign(struct sftp_agent *a, const char *blob, size_t blob_len, const char *algorithm, const void *data,
		     size_t n, struct buf *out);

#endif
