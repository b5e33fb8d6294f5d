/*
 * sftp_kex.h - why a handshake failed: what the server offered, compared with what our side has. Pure.
 */
#ifndef FANSYNCD_TRANSPORTS_SFTP_KEX_H
#define FANSYNCD_TRANSPORTS_SFTP_KEX_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"

enum sftp_kex_list {
	SFTP_KEX_EXCHANGE = 0,
	SFTP_KEX_HOST_KEY,
	SFTP_KEX_CIPHER_OUT,
	SFTP_KEX_CIPHER_IN,
	SFTP_KEX_MAC_OUT,
	SFTP_KEX_MAC_IN,
	SFTP_KEX_LISTS
};

struct sftp_kex_offer {
	char *lists[SFTP_KEX_LISTS]; /* comma-separated */
};

/* Read the first bytes of a server: banner lines, then KEXINIT. false: not there, or not one. */
bool sftp_kex_read(const char *data, size_t n, struct sftp_kex_offer *out);
void sftp_kex_done(struct sftp_kex_offer *o);
/* Whether the comma-separated list has one of the n names. */
bool sftp_kex_common(const char *list, const char *const *names, size_t n);
/* "key exchange", "host key type", "cipher", "MAC". */
const char *sftp_kex_list_name(enum sftp_kex_list list);

#endif
