#include "transports/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "core/credential.h"
#include "core/path.h"

/* TLS_AES_128_GCM_SHA256: its hash is the one that a key made by hand is used with. */
static const unsigned char psk_cipher[2] = { 0x13, 0x01 };
static const char key_suffix[] = ".key";
static const unsigned char id_context[] = { 'f', 'a', 'n', 's', 'y', 'n', 'c', 'd' };

struct tls_context {
	SSL_CTX *ctx;
	bool server;
	struct tls_key key; /* client */
	bool has_key;
	bool (*find_key)(void *ctx, const char *name, struct tls_key *out);
	void *find_ctx;
	char *peer_name;
};

struct tls_conn {
	SSL *ssl;
	struct tls_context *context;
	char peer[TLS_NAME_MAX];
	bool certificate;
};

/* ---- keys ---- */

void tls_key_wipe(struct tls_key *key)
{
	OPENSSL_cleanse(key, sizeof(*key));
}

static int name_of(const char *path, char out[TLS_NAME_MAX], struct err *err)
{
	const char *slash = strrchr(path, '/'), *base = slash == NULL ? path : slash + 1;
	size_t n = strlen(base), suffix = sizeof(key_suffix) - 1;

	if (n > suffix && strcmp(base + n - suffix, key_suffix) == 0)
		n -= suffix;
	if (n >= TLS_NAME_MAX || !path_name_valid(base, n))
		return err_set(err, ERR_CONFIG,
			       "the key file %s: its name without .key is the key's name, of at most %u bytes", path,
			       TLS_NAME_MAX - 1);
	memcpy(out, base, n);
	out[n] = '\0';
	return 0;
}

static int hex_digit(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One line of an even number of hexadecimal digits. */
static bool from_hex(const unsigned char *raw, size_t n, struct tls_key *out)
{
	while (n > 0 && (raw[n - 1] == '\n' || raw[n - 1] == '\r'))
		n--;
	if (n == 0 || n % 2 != 0 || n / 2 > TLS_KEY_MAX)
		return false;
	for (size_t i = 0; i < n; i += 2) {
		int high = hex_digit(raw[i]), low = hex_digit(raw[i + 1]);

		if (high < 0 || low < 0)
			return false;
		out->bytes[i / 2] = (unsigned char)(high * 16 + low);
	}
	out->len = n / 2;
	return true;
}

static int take_key(const char *path, const unsigned char *raw, size_t n, struct tls_key *out, struct err *err)
{
	if (!from_hex(raw, n, out)) {
		if (n > TLS_KEY_MAX)
			return err_set(err, ERR_CONFIG, "the key file %s holds more than %u bytes", path, TLS_KEY_MAX);
		memcpy(out->bytes, raw, n);
		out->len = n;
	}
	if (out->len < TLS_KEY_MIN)
		return err_set(err, ERR_CONFIG,
			       "the key file %s holds %zu bytes of key, %u are needed: `openssl rand -hex 32 >%s`",
			       path, out->len, TLS_KEY_MIN, path);
	return 0;
}

static int check_mode(const char *path, int fd, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(err, errno, "the key file %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_UNSAFE, "the key file %s is no regular file", path);
	if ((st.st_mode & credential_open_bits(path)) != 0 || (st.st_uid != 0 && st.st_uid != geteuid()))
		return err_set(err, ERR_UNSAFE,
			       "the key file %s may be read by others than its owner, or is another user's: `chmod "
			       "600`, `chown`",
			       path);
	return 0;
}

int tls_key_read(const char *path, struct tls_key *out, struct err *err)
{
	unsigned char raw[2 * TLS_KEY_MAX + 8];
	size_t n = 0;
	ssize_t got = 0;
	int fd, result;

	memset(out, 0, sizeof(*out));
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_errno(err, errno, "the key file %s", path);
	result = check_mode(path, fd, err);
	while (result == 0 && n < sizeof(raw) && (got = read(fd, raw + n, sizeof(raw) - n)) > 0)
		n += (size_t)got;
	if (result == 0 && got < 0)
		result = err_errno(err, errno, "the key file %s", path);
	(void)close(fd);
	if (result == 0)
		result = name_of(path, out->name, err);
	if (result == 0)
		result = take_key(path, raw, n, out, err);
	OPENSSL_cleanse(raw, sizeof(raw));
	if (result < 0)
		tls_key_wipe(out);
	return result;
}

/* ---- contexts ---- */

/* OpenSSL's own words for its oldest queued error. */
static const char *reason(void)
{
	unsigned long e = ERR_get_error();
	const char *text = e == 0 ? NULL : ERR_reason_error_string(e);

	ERR_clear_error();
	return text == NULL ? "no reason was given" : text;
}

static SSL_SESSION *session_of(SSL *ssl, const struct tls_key *key)
{
	const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, psk_cipher);
	SSL_SESSION *s = SSL_SESSION_new();

	if (cipher != NULL && s != NULL && SSL_SESSION_set1_master_key(s, key->bytes, key->len) == 1 &&
	    SSL_SESSION_set_cipher(s, cipher) == 1 && SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION) == 1 &&
	    SSL_SESSION_set1_id_context(s, id_context, sizeof(id_context)) == 1)
		return s;
	SSL_SESSION_free(s);
	return NULL;
}

static int use_key(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *id_len, SSL_SESSION **session)
{
	struct tls_conn *c = SSL_get_app_data(ssl);

	*id = NULL;
	*id_len = 0;
	*session = NULL;
	if (!c->context->has_key || (md != NULL && EVP_MD_get_type(md) != NID_sha256))
		return 1;
	*session = session_of(ssl, &c->context->key);
	if (*session == NULL)
		return 0;
	*id = (const unsigned char *)c->context->key.name;
	*id_len = strlen(c->context->key.name);
	return 1;
}

static int find_key(SSL *ssl, const unsigned char *id, size_t id_len, SSL_SESSION **session)
{
	struct tls_conn *c = SSL_get_app_data(ssl);
	struct tls_key key;
	char name[TLS_NAME_MAX];

	*session = NULL;
	if (c->context->find_key == NULL || id_len >= sizeof(name) || !path_name_valid((const char *)id, id_len))
		return 1;
	memcpy(name, id, id_len);
	name[id_len] = '\0';
	if (!c->context->find_key(c->context->find_ctx, name, &key))
		return 1;
	*session = session_of(ssl, &key);
	tls_key_wipe(&key);
	if (*session == NULL)
		return 0;
	memcpy(c->peer, name, id_len + 1);
	return 1;
}

static int use_certificates(struct tls_context *t, const struct tls_config *c, struct err *err)
{
	if (c->certificate == NULL && c->private_key == NULL && c->ca == NULL)
		return 0;
	if (c->certificate == NULL || c->private_key == NULL || c->ca == NULL)
		return err_set(err, ERR_CONFIG, "certificate, privateKey and ca are needed together");
	if (SSL_CTX_use_certificate_chain_file(t->ctx, c->certificate) != 1)
		return err_set(err, ERR_CONFIG, "the certificate %s: %s", c->certificate, reason());
	if (SSL_CTX_use_PrivateKey_file(t->ctx, c->private_key, SSL_FILETYPE_PEM) != 1)
		return err_set(err, ERR_CONFIG, "the private key %s: %s", c->private_key, reason());
	if (SSL_CTX_load_verify_locations(t->ctx, c->ca, NULL) != 1)
		return err_set(err, ERR_CONFIG, "the certificates of %s: %s", c->ca, reason());
	/* A peer that comes with a pre-shared key is asked for no certificate: TLS 1.3 has one or the other. */
	SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER | (t->server ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
	return 0;
}

static int set_up(struct tls_context *t, const struct tls_config *c, struct err *err)
{
	t->ctx = SSL_CTX_new(t->server ? TLS_server_method() : TLS_client_method());
	if (t->ctx == NULL || SSL_CTX_set_min_proto_version(t->ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(t->ctx,
				     "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") != 1)
		return err_set(err, ERR_NOMEM, "OpenSSL: %s", reason());
	SSL_CTX_set_options(t->ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET);
	(void)SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_set_num_tickets(t->ctx, 0);
	(void)SSL_CTX_set_max_early_data(t->ctx, 0);
	(void)SSL_CTX_set_mode(t->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					       SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(t->ctx, 0);
	/* A server that asks for certificates refuses pre-shared keys without one. */
	(void)SSL_CTX_set_session_id_context(t->ctx, id_context, sizeof(id_context));
	if (t->server)
		SSL_CTX_set_psk_find_session_callback(t->ctx, find_key);
	else
		SSL_CTX_set_psk_use_session_callback(t->ctx, use_key);
	/* A client without either would accept any server: nothing is verified by default. */
	SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
	return use_certificates(t, c, err);
}

static struct tls_context *context_new(const struct tls_config *c, bool server, struct err *err)
{
	struct tls_context *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for TLS");
		return NULL;
	}
	t->server = server;
	t->find_key = c->find_key;
	t->find_ctx = c->ctx;
	if (c->key != NULL) {
		t->key = *c->key;
		t->has_key = true;
	}
	t->peer_name = c->peer_name == NULL ? NULL : strdup(c->peer_name);
	if ((c->peer_name != NULL && t->peer_name == NULL) || set_up(t, c, err) < 0) {
		if (err != NULL && err->class == ERR_NONE)
			err_set(err, ERR_NOMEM, "out of memory for TLS");
		tls_context_free(t);
		return NULL;
	}
	return t;
}

struct tls_context *tls_client_new(const struct tls_config *c, struct err *err)
{
	return context_new(c, false, err);
}

struct tls_context *tls_server_new(const struct tls_config *c, struct err *err)
{
	return context_new(c, true, err);
}

void tls_context_free(struct tls_context *t)
{
	if (t == NULL)
		return;
	tls_key_wipe(&t->key);
	SSL_CTX_free(t->ctx);
	free(t->peer_name);
	free(t);
}

/* ---- connections ---- */

static bool set_peer_name(struct tls_conn *c)
{
	const char *name = c->context->peer_name;
	X509_VERIFY_PARAM *p = SSL_get0_param(c->ssl);

	if (name == NULL || c->context->server)
		return true;
	if (X509_VERIFY_PARAM_set1_ip_asc(p, name) == 1)
		return true;
	ERR_clear_error();
	X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set1_host(c->ssl, name) == 1 &&
	       SSL_ctrl(c->ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, (void *)(uintptr_t)name) == 1;
}

struct tls_conn *tls_conn_new(struct tls_context *t, int fd)
{
	struct tls_conn *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->context = t;
	c->ssl = SSL_new(t->ctx);
	if (c->ssl == NULL || SSL_set_app_data(c->ssl, c) != 1 || SSL_set_fd(c->ssl, fd) != 1 || !set_peer_name(c)) {
		ERR_clear_error();
		tls_conn_free(c);
		return NULL;
	}
	if (t->server)
		SSL_set_accept_state(c->ssl);
	else
		SSL_set_connect_state(c->ssl);
	return c;
}

void tls_conn_free(struct tls_conn *c)
{
	if (c == NULL)
		return;
	SSL_free(c->ssl);
	free(c);
}

static enum tls_want outcome(struct tls_conn *c, int result, const char *doing, struct err *err)
{
	int saved = errno;
	long verify;

	switch (SSL_get_error(c->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return TLS_WANT_READ;
	case SSL_ERROR_WANT_WRITE:
		return TLS_WANT_WRITE;
	case SSL_ERROR_ZERO_RETURN:
		return TLS_CLOSED;
	case SSL_ERROR_SYSCALL:
		if (ERR_peek_error() == 0) {
			if (saved == 0)
				err_set(err, ERR_NETWORK, "%s: the connection was closed", doing);
			else
				err_errno(err, saved, "%s", doing);
			if (err != NULL && saved != 0)
				err->class = ERR_NETWORK;
			return TLS_FAILED;
		}
		break;
	default:
		break;
	}
	verify = SSL_get_verify_result(c->ssl);
	if (verify != X509_V_OK && verify != X509_V_ERR_UNSPECIFIED)
		err_set(err, ERR_AUTH, "%s: the peer's certificate: %s", doing, X509_verify_cert_error_string(verify));
	else if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		err_set(err, ERR_NETWORK, "%s: the connection was closed", doing);
	else if (SSL_is_init_finished(c->ssl))
		err_set(err, ERR_PROTOCOL, "%s: %s", doing, reason());
	else
		err_set(err, ERR_AUTH, "%s: %s", doing, reason());
	ERR_clear_error();
	return TLS_FAILED;
}

static void note_certificate(struct tls_conn *c)
{
	X509 *x = SSL_get1_peer_certificate(c->ssl);
	int n;

	if (x == NULL)
		return;
	c->certificate = true;
	n = X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, c->peer, sizeof(c->peer));
	/* A NUL inside would make another name of it. */
	if (n <= 0 || strlen(c->peer) != (size_t)n)
		c->peer[0] = '\0';
	X509_free(x);
}

/* The name in find_key was only claimed; that the handshake ended with it proves it. */
enum tls_want tls_handshake(struct tls_conn *c, struct err *err)
{
	int result;

	ERR_clear_error();
	errno = 0;
	result = SSL_do_handshake(c->ssl);
	if (result != 1)
		return outcome(c, result, "TLS handshake", err);
	if (!SSL_session_reused(c->ssl)) {
		c->peer[0] = '\0';
		note_certificate(c);
		if (!c->certificate) {
			err_set(err, ERR_AUTH, "TLS handshake: the peer proved nothing of itself");
			return TLS_FAILED;
		}
		/* Without a name it would be taken for one that had no need to prove anything. */
		if (c->context->server && c->peer[0] == '\0') {
			err_set(err, ERR_AUTH, "TLS handshake: the peer's certificate bears no name (CN)");
			return TLS_FAILED;
		}
	}
	return TLS_DONE;
}

const char *tls_peer(const struct tls_conn *c)
{
	return c->peer;
}

enum tls_want tls_read(struct tls_conn *c, void *data, size_t n, size_t *done, struct err *err)
{
	int result;

	ERR_clear_error();
	errno = 0;
	*done = 0;
	result = SSL_read_ex(c->ssl, data, n, done);
	return result == 1 ? TLS_DONE : outcome(c, result, "TLS", err);
}

enum tls_want tls_write(struct tls_conn *c, const void *data, size_t n, size_t *done, struct err *err)
{
	int result;

	ERR_clear_error();
	errno = 0;
	*done = 0;
	result = SSL_write_ex(c->ssl, data, n, done);
	return result == 1 ? TLS_DONE : outcome(c, result, "TLS", err);
}

bool tls_pending(const struct tls_conn *c)
{
	return SSL_pending(c->ssl) > 0;
}

void tls_shutdown(struct tls_conn *c)
{
	ERR_clear_error();
	(void)SSL_shutdown(c->ssl);
	ERR_clear_error();
}
