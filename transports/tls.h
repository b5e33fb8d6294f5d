/*
 * tls.h - TLS 1.3 on a connected, non-blocking socket: pre-shared keys or certificates. OpenSSL is seen by tls.c alone.
 *
 * A context is what one end is configured with; it outlives its connections. Keys are files: NAME.key, one line of
 * hexadecimal (`openssl rand -hex 32`) or raw bytes, at least 32 bytes of key, readable by their owner only. The
 * identity that travels is the file's name without `.key`.
 */
#ifndef FANSYNCD_TRANSPORTS_TLS_H
#define FANSYNCD_TRANSPORTS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "core/err.h"

#define TLS_KEY_MIN 32u
#define TLS_KEY_MAX 256u
#define TLS_NAME_MAX 128u

struct tls_key {
	char name[TLS_NAME_MAX];
	unsigned char bytes[TLS_KEY_MAX];
	size_t len;
};

/* Read a key file. ERR_UNSAFE: others may read it; ERR_CONFIG: too short, no good name. `out` is wiped on failure. */
int tls_key_read(const char *path, struct tls_key *out, struct err *err);
/* Overwrite it, so that it is not found in memory later. */
void tls_key_wipe(struct tls_key *key);

struct tls_config {
	/* Client: its key. NULL with certificates. Copied. */
	const struct tls_key *key;
	/* Server: find a key by name; false: there is none. Called during handshakes. */
	bool (*find_key)(void *ctx, const char *name, struct tls_key *out);
	void *ctx;
	/* PEM files; certificate, private_key and ca together. */
	const char *certificate, *private_key, *ca;
	/* Client: the name that the server's certificate must bear. */
	const char *peer_name;
};

struct tls_context;
struct tls_context *tls_client_new(const struct tls_config *c, struct err *err);
struct tls_context *tls_server_new(const struct tls_config *c, struct err *err);
void tls_context_free(struct tls_context *t);

/* What a call that could not go on waits for. */
enum tls_want { TLS_DONE = 0, TLS_WANT_READ, TLS_WANT_WRITE, TLS_CLOSED, TLS_FAILED };

struct tls_conn;
/* The descriptor stays the caller's. NULL: out of memory. */
struct tls_conn *tls_conn_new(struct tls_context *t, int fd);
void tls_conn_free(struct tls_conn *c);
/* Go on with the handshake. TLS_FAILED: `err` says why, in the administrator's words. */
enum tls_want tls_handshake(struct tls_conn *c, struct err *err);
/* After the handshake: who the peer is (key's name, or the certificate's subject name); never NULL. */
const char *tls_peer(const struct tls_conn *c);
/* Bytes moved in *done when TLS_DONE. A peer that closed in order: TLS_CLOSED. */
enum tls_want tls_read(struct tls_conn *c, void *data, size_t n, size_t *done, struct err *err);
enum tls_want tls_write(struct tls_conn *c, const void *data, size_t n, size_t *done, struct err *err);
/* Whether bytes wait inside that no poll of the descriptor will tell of. */
bool tls_pending(const struct tls_conn *c);
/* Say goodbye, as far as the socket takes it now. */
void tls_shutdown(struct tls_conn *c);

#endif
