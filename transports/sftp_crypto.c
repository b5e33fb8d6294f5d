#include "transports/sftp_crypto.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#define KEY_BYTES_MAX (64u * 1024)
#define BITS_MAX 16384
#define OPENSSH_BEGIN "-----BEGIN OPENSSH PRIVATE KEY-----"
#define OPENSSH_END "-----END OPENSSH PRIVATE KEY-----"
#define OPENSSH_MAGIC "openssh-key-v1"

struct sftp_rsa {
	EVP_PKEY *key;
};

/* ---- base64 and hashes ---- */

static int digit(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c == '\0' ? NULL : strchr(digits, c);

	return at == NULL ? -1 : (int)(at - digits);
}

bool sftp_base64_decode(const char *text, size_t n, struct buf *out)
{
	uint32_t bits = 0;
	int have = 0;

	while (n > 0 && text[n - 1] == '=')
		n--;
	for (size_t i = 0; i < n; i++) {
		int d = digit(text[i]);

		if (d < 0)
			return false;
		bits = bits << 6 | (uint32_t)d;
		have += 6;
		if (have >= 8) {
			have -= 8;
			(void)buf_add_byte(out, (unsigned char)(bits >> have));
		}
	}
	return !out->failed;
}

bool sftp_base64_encode(const void *data, size_t n, struct buf *out)
{
	size_t room = (n + 2) / 3 * 4 + 1;

	if (n > KEY_BYTES_MAX || !buf_reserve(out, room))
		return false;
	out->len += (size_t)EVP_EncodeBlock((unsigned char *)out->data + out->len, data, (int)n);
	return true;
}

bool sftp_hmac_sha1(const void *key, size_t key_len, const void *data, size_t n, unsigned char out[SFTP_SHA1_LEN])
{
	unsigned len = 0;

	return key_len <= KEY_BYTES_MAX && HMAC(EVP_sha1(), key, (int)key_len, data, n, out, &len) != NULL &&
	       len == SFTP_SHA1_LEN;
}

bool sftp_fingerprint(const void *blob, size_t n, char out[SFTP_FINGERPRINT_MAX])
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	struct buf text;
	bool ok;

	buf_init(&text, SFTP_FINGERPRINT_MAX);
	ok = EVP_Digest(blob, n, hash, &len, EVP_sha256(), NULL) == 1 && buf_add_str(&text, "SHA256:") &&
	     sftp_base64_encode(hash, len, &text);
	while (ok && text.data[text.len - 1] == '=')
		text.len--;
	ok = ok && text.len < SFTP_FINGERPRINT_MAX;
	if (ok) {
		memcpy(out, text.data, text.len);
		out[text.len] = '\0';
	}
	buf_done(&text);
	return ok;
}

/* ---- private keys ---- */

struct span {
	const unsigned char *p;
	size_t n;
};

static struct span get_span(struct reader *r)
{
	uint32_t n = reader_be32(r);
	const unsigned char *p = reader_bytes(r, n);

	return (struct span){ p, p == NULL ? 0 : n };
}

static bool is(struct span s, const char *text)
{
	return s.p != NULL && s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

/* What is between the two lines of OpenSSH's own format. */
static bool openssh_body(const char *text, size_t n, struct buf *out)
{
	const char *at = memmem(text, n, OPENSSH_BEGIN, strlen(OPENSSH_BEGIN));
	const char *end = memmem(text, n, OPENSSH_END, strlen(OPENSSH_END));
	struct buf plain;
	bool ok;

	if (at == NULL || end == NULL || end < at)
		return false;
	buf_init(&plain, KEY_BYTES_MAX);
	for (at += strlen(OPENSSH_BEGIN); at < end; at++)
		if (strchr(" \t\r\n", *at) == NULL)
			(void)buf_add_byte(&plain, (unsigned char)*at);
	ok = !plain.failed && sftp_base64_decode(plain.data, plain.len, out);
	OPENSSL_cleanse(plain.data, plain.len);
	buf_done(&plain);
	return ok;
}

struct openssh_key {
	struct span cipher, public, private;
};

static bool openssh_parse(const struct buf *body, struct openssh_key *out)
{
	struct reader r;
	const char *magic;

	reader_init(&r, body->data, body->len);
	magic = reader_bytes(&r, sizeof(OPENSSH_MAGIC)); /* with its NUL */
	if (magic == NULL || memcmp(magic, OPENSSH_MAGIC, sizeof(OPENSSH_MAGIC)) != 0)
		return false;
	out->cipher = get_span(&r);
	(void)get_span(&r); /* how the passphrase becomes a key, and its parameters */
	(void)get_span(&r);
	if (reader_be32(&r) != 1)
		return false;
	out->public = get_span(&r);
	out->private = get_span(&r);
	return !r.failed;
}

static bool is_rsa(struct span blob)
{
	struct reader r;

	reader_init(&r, blob.p, blob.n);
	return is(get_span(&r), "ssh-rsa");
}

enum sftp_key_kind sftp_key_kind(const char *text, size_t n)
{
	struct openssh_key k;
	struct buf body;
	enum sftp_key_kind kind = SFTP_KEY_OTHER;

	if (memmem(text, n, "-----BEGIN RSA PRIVATE KEY-----", 31) != NULL)
		return SFTP_KEY_RSA;
	if (memmem(text, n, OPENSSH_BEGIN, strlen(OPENSSH_BEGIN)) == NULL)
		return memmem(text, n, " PRIVATE KEY-----", 17) == NULL ? SFTP_KEY_UNKNOWN : SFTP_KEY_OTHER;
	buf_init(&body, KEY_BYTES_MAX);
	if (!openssh_body(text, n, &body) || !openssh_parse(&body, &k))
		kind = SFTP_KEY_UNKNOWN;
	else if (is_rsa(k.public))
		kind = SFTP_KEY_RSA;
	if (body.data != NULL)
		OPENSSL_cleanse(body.data, body.len);
	buf_done(&body);
	return kind;
}

enum { RSA_N = 0, RSA_E, RSA_D, RSA_IQMP, RSA_P, RSA_Q, RSA_NUMBERS };

/* The parts in the order of OpenSSH's file. */
static const char *const rsa_names[RSA_NUMBERS] = { OSSL_PKEY_PARAM_RSA_N,	 OSSL_PKEY_PARAM_RSA_E,
						    OSSL_PKEY_PARAM_RSA_D,	 OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
						    OSSL_PKEY_PARAM_RSA_FACTOR1, OSSL_PKEY_PARAM_RSA_FACTOR2 };

static bool read_numbers(struct reader *r, BIGNUM *numbers[RSA_NUMBERS + 2])
{
	BN_CTX *ctx = BN_CTX_new();
	BIGNUM *less = BN_new();
	bool ok = ctx != NULL && less != NULL;

	for (size_t i = 0; ok && i < RSA_NUMBERS; i++) {
		struct span s = get_span(r);

		numbers[i] = s.p == NULL || s.n > BITS_MAX / 8 + 1 ? NULL : BN_bin2bn(s.p, (int)s.n, NULL);
		ok = numbers[i] != NULL;
	}
	/* The exponents of the two factors, which the file leaves out. */
	for (size_t i = 0; ok && i < 2; i++) {
		numbers[RSA_NUMBERS + i] = BN_new();
		ok = numbers[RSA_NUMBERS + i] != NULL && BN_sub(less, numbers[RSA_P + i], BN_value_one()) == 1 &&
		     !BN_is_zero(less) && BN_mod(numbers[RSA_NUMBERS + i], numbers[RSA_D], less, ctx) == 1;
	}
	BN_clear_free(less);
	BN_CTX_free(ctx);
	return ok;
}

static EVP_PKEY *key_of_numbers(BIGNUM *const numbers[RSA_NUMBERS + 2])
{
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
	OSSL_PARAM *params = NULL;
	EVP_PKEY *key = NULL;
	bool ok = bld != NULL && ctx != NULL;

	for (size_t i = 0; ok && i < RSA_NUMBERS; i++)
		ok = OSSL_PARAM_BLD_push_BN(bld, rsa_names[i], numbers[i]) == 1;
	ok = ok && OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_EXPONENT1, numbers[RSA_NUMBERS]) == 1 &&
	     OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_EXPONENT2, numbers[RSA_NUMBERS + 1]) == 1;
	if (ok)
		params = OSSL_PARAM_BLD_to_param(bld);
	if (params == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
	    EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_KEYPAIR, params) != 1)
		key = NULL;
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(bld);
	EVP_PKEY_CTX_free(ctx);
	return key;
}

static EVP_PKEY *openssh_key(const struct openssh_key *k)
{
	BIGNUM *numbers[RSA_NUMBERS + 2] = { NULL };
	EVP_PKEY *key = NULL;
	struct reader r;
	uint32_t check;

	reader_init(&r, k->private.p, k->private.n);
	check = reader_be32(&r);
	if (check == reader_be32(&r) && is(get_span(&r), "ssh-rsa") && read_numbers(&r, numbers))
		key = key_of_numbers(numbers);
	for (size_t i = 0; i < RSA_NUMBERS + 2; i++)
		BN_clear_free(numbers[i]);
	return key;
}

static EVP_PKEY *read_openssh(const char *text, size_t n, struct err *err)
{
	struct openssh_key k;
	struct buf body;
	EVP_PKEY *key = NULL;

	buf_init(&body, KEY_BYTES_MAX);
	if (!openssh_body(text, n, &body) || !openssh_parse(&body, &k))
		err_set(err, ERR_CONFIG, "it is damaged");
	else if (!is(k.cipher, "none"))
		err_set(err, ERR_CONFIG,
			"an RSA key with a passphrase, in OpenSSH's own format: `ssh-keygen -p -m PEM -f FILE` "
			"converts it; an "
			"ed25519 or ECDSA key, or ssh.client = \"openssh\", do as well");
	else if ((key = openssh_key(&k)) == NULL)
		err_set(err, ERR_CONFIG, "it is damaged");
	if (body.data != NULL)
		OPENSSL_cleanse(body.data, body.len);
	buf_done(&body);
	return key;
}

/* OpenSSL would ask at the terminal. */
static int no_passphrase(char *buf, int size, int writing, void *given)
{
	const char *text = given;
	size_t n = text == NULL ? 0 : strlen(text);

	(void)writing;
	if (text == NULL || size < 0 || n > (size_t)size)
		return -1;
	for (size_t i = 0; i < n; i++) /* it wants no NUL behind it */
		buf[i] = text[i];
	return (int)n;
}

static EVP_PKEY *read_pem(const char *text, size_t n, const char *passphrase, struct err *err)
{
	BIO *bio = n > KEY_BYTES_MAX ? NULL : BIO_new_mem_buf(text, (int)n);
	EVP_PKEY *key = NULL;

	if (bio != NULL) {
		/* It only reads the passphrase. */
		union {
			const char *in;
			void *out;
		} given = { .in = passphrase };

		key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, given.out);
	}
	BIO_free(bio);
	if (key == NULL)
		err_set(err, ERR_CONFIG, "%s",
			memmem(text, n, "ENCRYPTED", 9) == NULL ? "it is damaged"
			: passphrase == NULL			? "it needs a passphrase: see ssh.passphraseFile"
					     : "the passphrase of ssh.passphraseFile does not open it");
	return key;
}

struct sftp_rsa *sftp_rsa_read(const char *text, size_t n, const char *passphrase, struct err *err)
{
	bool own = memmem(text, n, OPENSSH_BEGIN, strlen(OPENSSH_BEGIN)) != NULL;
	EVP_PKEY *key = own ? read_openssh(text, n, err) : read_pem(text, n, passphrase, err);
	struct sftp_rsa *k;

	if (key == NULL)
		return NULL;
	k = EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA ? calloc(1, sizeof(*k)) : NULL;
	if (k == NULL) {
		EVP_PKEY_free(key);
		err_set(err, ERR_CONFIG, "it is no RSA key");
		return NULL;
	}
	k->key = key;
	return k;
}

void sftp_rsa_free(struct sftp_rsa *k)
{
	if (k == NULL)
		return;
	EVP_PKEY_free(k->key);
	free(k);
}

/* A positive number begins with a zero bit. */
static bool put_number(const struct sftp_rsa *k, const char *name, struct buf *out)
{
	unsigned char bytes[BITS_MAX / 8 + 1] = { 0 };
	BIGNUM *number = NULL;
	bool ok = EVP_PKEY_get_bn_param(k->key, name, &number) == 1 && BN_num_bits(number) <= BITS_MAX;

	if (ok) {
		size_t n = (size_t)BN_num_bytes(number), sign = BN_num_bits(number) % 8 == 0 ? 1 : 0;

		(void)BN_bn2bin(number, bytes + 1);
		(void)buf_add_be32(out, (uint32_t)(n + sign));
		(void)buf_add(out, bytes + 1 - sign, n + sign);
	}
	BN_free(number);
	return ok;
}

bool sftp_rsa_blob(const struct sftp_rsa *k, struct buf *out)
{
	(void)buf_add_be32(out, (uint32_t)7);
	(void)buf_add_str(out, "ssh-rsa");
	return put_number(k, OSSL_PKEY_PARAM_RSA_E, out) && put_number(k, OSSL_PKEY_PARAM_RSA_N, out) && !out->failed;
}

bool sftp_rsa_sign(const struct sftp_rsa *k, const char *algorithm, const void *data, size_t n, struct buf *out)
{
	const EVP_MD *hash = strcmp(algorithm, "rsa-sha2-512") == 0   ? EVP_sha512()
			     : strcmp(algorithm, "rsa-sha2-256") == 0 ? EVP_sha256()
								      : NULL;
	EVP_MD_CTX *ctx = hash == NULL ? NULL : EVP_MD_CTX_new();
	size_t len = (size_t)EVP_PKEY_get_size(k->key);
	bool ok = ctx != NULL && buf_reserve(out, len) && EVP_DigestSignInit(ctx, NULL, hash, NULL, k->key) == 1 &&
		  EVP_DigestSign(ctx, (unsigned char *)out->data + out->len, &len, data, n) == 1;

	if (ok)
		out->len += len;
	EVP_MD_CTX_free(ctx);
	return ok;
}
