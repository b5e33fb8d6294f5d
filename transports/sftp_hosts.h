/*
 * sftp_hosts.h - known_hosts: which keys a host may have. Works on texts; files are read by who calls it.
 *
 * Names are matched as ssh does it: comma-separated patterns with `*`, `?` and `!`, `[host]:port`, hashed names. At
 * another port than 22 entries of the bare name count too, but only in the host's favour. @revoked keys are refused
 * whatever else stands there; @cert-authority lines are skipped (certificates are for ssh.client = "openssh").
 */
#ifndef FANSYNCD_TRANSPORTS_SFTP_HOSTS_H
#define FANSYNCD_TRANSPORTS_SFTP_HOSTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

#define SFTP_HOST_KEYS_MAX 256
#define SFTP_HOST_FILE_MAX (16u * 1024 * 1024)

struct sftp_host_key {
	char *type; /* "ssh-ed25519" */
	char *blob; /* as the protocol has it */
	size_t blob_len;
	bool revoked;
	bool bare; /* its entry names the host without the port */
};

struct sftp_hosts {
	struct sftp_host_key *keys;
	size_t n;
};

enum sftp_host_verdict {
	SFTP_HOST_UNKNOWN = 0, /* nothing is known of the host */
	SFTP_HOST_KNOWN,
	SFTP_HOST_CHANGED, /* it is known by other keys, of this type or another */
	SFTP_HOST_REVOKED,
};

/* The name that a new entry is made under: `host`, or `[host]:port`. Appended, in lower case. */
bool sftp_hosts_name(struct buf *out, const char *host, uint16_t port);
/* Add what a file's text says of this host. Lines that make no sense are skipped, as ssh does. false: no memory. */
bool sftp_hosts_add(struct sftp_hosts *h, const char *text, size_t n, const char *host, uint16_t port);
enum sftp_host_verdict sftp_hosts_check(const struct sftp_hosts *h, const char *blob, size_t n);
/* The type at the beginning of a key's blob; false if there is none. */
bool sftp_hosts_type(const char *blob, size_t n, char *out, size_t size);
void sftp_hosts_done(struct sftp_hosts *h);

#endif
