/*
 * sftp_crypto.h - what OpenSSL does for sftp: known_hosts' hashed names, fingerprints, and signatures with RSA keys,
 * for which libssh2 1.10 knows SHA-1 only. The only file of sftp that sees OpenSSL. Nothing here blocks.
 */
#ifndef FANSYNCD_TRANSPORTS_SFTP_CRYPTO_H
#define FANSYNCD_TRANSPORTS_SFTP_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"
#include "core/err.h"

/* Base64 with or without padding; other characters than its own: false. `out` is appended to. */
bool sftp_base64_decode(const char *text, size_t n, struct buf *out);
bool sftp_base64_encode(const void *data, size_t n, struct buf *out);

#define SFTP_SHA1_LEN 20
bool sftp_hmac_sha1(const void *key, size_t key_len, const void *data, size_t n, unsigned char out[SFTP_SHA1_LEN]);
/* "SHA256:..." as ssh prints it. */
#define SFTP_FINGERPRINT_MAX 64
bool sftp_fingerprint(const void *blob, size_t n, char out[SFTP_FINGERPRINT_MAX]);

/* An RSA key, to sign with. */
struct sftp_rsa;

enum sftp_key_kind {
	SFTP_KEY_UNKNOWN = 0,
	SFTP_KEY_RSA,
	SFTP_KEY_OTHER, /* libssh2 can use it, or says why not */
};

/* What a private key file holds, as far as it can be told without a passphrase. */
enum sftp_key_kind sftp_key_kind(const char *text, size_t n);
/* The key of a file's text; passphrase may be NULL. NULL: `err` says why and what can be done. */
struct sftp_rsa *sftp_rsa_read(const char *text, size_t n, const char *passphrase, struct err *err);
void sftp_rsa_free(struct sftp_rsa *k);
/* Its public key as the protocol has it ("ssh-rsa", e, n); appended. */
bool sftp_rsa_blob(const struct sftp_rsa *k, struct buf *out);
/* Sign by "rsa-sha2-256" or "rsa-sha2-512"; appended. */
bool sftp_rsa_sign(const struct sftp_rsa *k, const char *algorithm, const void *data, size_t n, struct buf *out);

#endif
