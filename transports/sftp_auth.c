#include "transports/sftp_auth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "transports/sftp_agent.h"
#include "transports/sftp_crypto.h"
#include "transports/sftp_files.h"
#include "transports/sftp_hosts.h"

#define KEY_FILE_MAX (64u * 1024)
#define BLOB_MAX (16u * 1024)
#define ATTEMPTS_MAX (SFTP_AGENT_KEYS_MAX + 8)
/* The first libssh2 that signs with RSA keys by SHA-2. */
#define LIB_WITH_RSA_SHA2 0x010b00
/* Every server that has one of the two has this one. */
#define RSA_ALGORITHM "rsa-sha2-256"

enum attempt_kind { TRY_FILE = 0, TRY_AGENT, TRY_PASSWORD, TRY_QUESTIONS };

struct attempt {
	enum attempt_kind kind;
	char *path;	  /* TRY_FILE */
	bool optional;	  /* TRY_FILE: one of the usual keys, which need not be there */
	size_t agent_key; /* TRY_AGENT */
};

enum step { STEP_METHODS = 0, STEP_BEGIN, STEP_TRY };

struct sftp_auth {
	LIBSSH2_SESSION *session;
	struct sftp_lib *lib;
	const struct sync_options *opt;
	const char *user;
	enum step step;
	char *methods;
	struct attempt attempts[ATTEMPTS_MAX];
	size_t n, at;
	struct sftp_agent agent;
	/* The attempt under way. */
	struct buf key, passphrase, password;
	struct sftp_rsa *rsa;
	struct buf blob, shown; /* the public key, and what libssh2 is given */
	bool own_sign;
	struct buf said; /* what came of the attempts, for the error */
};

/* ---- memory of a session ---- */

static void *noted(struct sftp_lib *lib, void *p)
{
	lib->no_memory = lib->no_memory || p == NULL;
	return p;
}

void *sftp_lib_alloc(size_t n, void **abstract)
{
	struct sftp_lib *lib = *abstract;

	if (lib->key.allocations > 0 && --lib->key.allocations == 0)
		memcpy(lib->key.shown, lib->key.real, lib->key.n);
	return noted(lib, malloc(n));
}

void *sftp_lib_realloc(void *p, size_t n, void **abstract)
{
	return noted(*abstract, realloc(p, n));
}

void sftp_lib_free(void *p, void **abstract)
{
	(void)abstract;
	free(p);
}

/* ---- what happened, for the error ---- */

static void note(struct sftp_auth *a, const char *what, const char *text)
{
	if (a->said.len < 200)
		(void)buf_printf(&a->said, "%s%.100s: %.260s", a->said.len > 0 ? "; " : "", what, text);
}

static const char *last_words(struct sftp_auth *a)
{
	char *text = NULL;

	(void)libssh2_session_last_error(a->session, &text, NULL, 0);
	return text == NULL || text[0] == '\0' ? "no reason given" : text;
}

static int give_up(struct sftp_auth *a, struct err *err)
{
	const char *advice = a->opt->ssh.identity_file != NULL || a->opt->ssh.password_file != NULL
				     ? ""
				     : " (ssh.identityFile names a key, ssh.passwordFile a password)";

	return err_set(err, ERR_AUTH, "no login as %.64s: the server takes %.100s; %s%s", a->user,
		       a->methods == NULL ? "nothing" : a->methods,
		       a->said.len > 0 ? buf_str(&a->said) : "nothing to offer", advice);
}

/* ---- what is tried ---- */

static bool server_takes(const struct sftp_auth *a, const char *method)
{
	size_t n = strlen(method);

	for (const char *p = a->methods; p != NULL && *p != '\0'; p += strcspn(p, ",") + (p[strcspn(p, ",")] == ',')) {
		if (strcspn(p, ",") == n && strncmp(p, method, n) == 0)
			return true;
	}
	return false;
}

static void add(struct sftp_auth *a, struct attempt try)
{
	if (a->n < ATTEMPTS_MAX)
		a->attempts[a->n++] = try;
	else
		free(try.path);
}

static void add_agent(struct sftp_auth *a)
{
	const char *path = secure_getenv("SSH_AUTH_SOCK");
	struct err err = ERR_INIT;

	if (path == NULL || path[0] == '\0')
		return;
	if (sftp_agent_open(&a->agent, path, a->opt->ssh.timeout_ns, &err) < 0)
		note(a, "agent", err.text);
	for (size_t i = 0; i < a->agent.n; i++)
		add(a, (struct attempt){ .kind = TRY_AGENT, .agent_key = i });
}

static void add_usual(struct sftp_auth *a)
{
	static const char *const usual[] = { "~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa" };

	for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++) {
		char *path = sftp_expand_home(usual[i]);

		if (path != NULL && access(path, F_OK) == 0)
			add(a, (struct attempt){ .kind = TRY_FILE, .path = path, .optional = true });
		else
			free(path);
	}
}

static void choose(struct sftp_auth *a)
{
	const struct ssh_options *o = &a->opt->ssh;

	if (server_takes(a, "publickey")) {
		if (o->identity_file != NULL)
			add(a, (struct attempt){ .kind = TRY_FILE, .path = sftp_expand_home(o->identity_file) });
		else if (o->password_file == NULL) {
			add_agent(a);
			add_usual(a);
		}
	}
	if (o->password_file != NULL && server_takes(a, "password"))
		add(a, (struct attempt){ .kind = TRY_PASSWORD });
	if (o->password_file != NULL && server_takes(a, "keyboard-interactive"))
		add(a, (struct attempt){ .kind = TRY_QUESTIONS });
}

/* ---- keys ---- */

static bool lib_knows_rsa(void)
{
	return libssh2_version(LIB_WITH_RSA_SHA2) != NULL;
}

struct span {
	const unsigned char *p;
	size_t n;
};

static struct span next_string(struct reader *r)
{
	size_t n = reader_be32(r);
	const unsigned char *p = reader_bytes(r, n);

	return (struct span){ p, p == NULL ? 0 : n };
}

/* What is to be signed is the session's id and the request as it will be sent: it says which algorithm. And whether
 * libssh2 took the key as it was meant to. */
static bool algorithm_of(struct sftp_auth *a, const unsigned char *data, size_t n, char *out, size_t size)
{
	struct reader r;
	struct span name, key;

	reader_init(&r, data, n);
	(void)next_string(&r);
	(void)reader_u8(&r);
	for (int i = 0; i < 3; i++) /* user, service, method */
		(void)next_string(&r);
	(void)reader_u8(&r);
	name = next_string(&r);
	key = next_string(&r);
	if (r.failed || name.n >= size || key.n != a->blob.len || memcmp(key.p, a->blob.data, key.n) != 0)
		return false;
	memcpy(out, name.p, name.n);
	out[name.n] = '\0';
	return true;
}

/* Called by libssh2; the signature becomes its own. */
static int sign(LIBSSH2_SESSION *session, unsigned char **sig, size_t *sig_len, const unsigned char *data, size_t n,
		void **abstract)
{
	struct sftp_auth *a = *abstract;
	char algorithm[64];
	struct buf out;
	bool ok;

	(void)session;
	buf_init(&out, BLOB_MAX);
	ok = algorithm_of(a, data, n, algorithm, sizeof(algorithm));
	if (ok && a->rsa != NULL)
		ok = sftp_rsa_sign(a->rsa, algorithm, data, n, &out);
	else if (ok)
		ok = sftp_agent_sign(&a->agent, a->blob.data, a->blob.len, algorithm, data, n, &out);
	if (!ok || out.len == 0) {
		buf_done(&out);
		return -1;
	}
	*sig = (unsigned char *)out.data; /* the session frees it by free(), as sftp_lib_free is */
	*sig_len = out.len;
	return 0;
}

/* The key in `blob` is to be used with our own signature. */
static bool prepare_blob(struct sftp_auth *a)
{
	const size_t name_len = strlen(RSA_ALGORITHM);
	char type[64];

	buf_clear(&a->shown);
	if (!sftp_hosts_type(a->blob.data, a->blob.len, type, sizeof(type)) ||
	    !buf_add(&a->shown, a->blob.data, a->blob.len))
		return false;
	a->own_sign = true;
	if (strcmp(type, "ssh-rsa") != 0 || lib_knows_rsa())
		return true;
	if (a->shown.len < 4 + name_len)
		return false;
	a->shown.data[3] = (char)name_len;
	memcpy(a->shown.data + 4, RSA_ALGORITHM, name_len);
	a->lib->key.shown = a->shown.data;
	a->lib->key.real = a->blob.data;
	a->lib->key.n = a->blob.len;
	a->lib->key.allocations = 2;
	return true;
}

static int load_passphrase(struct sftp_auth *a, struct err *err)
{
	buf_clear(&a->passphrase);
	return a->opt->ssh.passphrase_file == NULL ? 0
						   : sftp_secret_read(a->opt->ssh.passphrase_file, &a->passphrase, err);
}

static int prepare_rsa(struct sftp_auth *a, struct err *err)
{
	const char *phrase = a->opt->ssh.passphrase_file == NULL ? NULL : buf_str(&a->passphrase);

	a->rsa = sftp_rsa_read(a->key.data, a->key.len, phrase, err);
	if (a->rsa == NULL)
		return -1;
	buf_clear(&a->blob);
	if (!sftp_rsa_blob(a->rsa, &a->blob) || !prepare_blob(a))
		return err_set(err, ERR_NOMEM, "out of memory");
	return 0;
}

static int prepare_file(struct sftp_auth *a, const struct attempt *t, struct err *err)
{
	if (t->path == NULL)
		return err_set(err, ERR_CONFIG, "there is no home directory for it, or no memory for its name");
	if (sftp_private_read(t->path, KEY_FILE_MAX, &a->key, err) < 0 || load_passphrase(a, err) < 0)
		return -1;
	switch (sftp_key_kind(a->key.data, a->key.len)) {
	case SFTP_KEY_RSA:
		return lib_knows_rsa() ? 0 : prepare_rsa(a, err);
	case SFTP_KEY_OTHER:
		return 0;
	case SFTP_KEY_UNKNOWN:
		break;
	}
	return err_set(err, ERR_CONFIG, "it is no private key, or there is no memory to look into it");
}

static int prepare(struct sftp_auth *a, const struct attempt *t, struct err *err)
{
	a->own_sign = false;
	switch (t->kind) {
	case TRY_FILE:
		return prepare_file(a, t, err);
	case TRY_AGENT:
		buf_clear(&a->blob);
		if (!buf_add(&a->blob, a->agent.keys[t->agent_key].blob, a->agent.keys[t->agent_key].len) ||
		    !prepare_blob(a))
			return err_set(err, ERR_CONFIG, "the agent's key makes no sense");
		return 0;
	case TRY_PASSWORD:
	case TRY_QUESTIONS:
		return sftp_secret_read(a->opt->ssh.password_file, &a->password, err);
	}
	return err_set(err, ERR_BUG, "no such attempt");
}

static void clear_attempt(struct sftp_auth *a)
{
	struct buf *secrets[] = { &a->key, &a->passphrase, &a->password };

	a->lib->key.allocations = 0;
	sftp_rsa_free(a->rsa);
	a->rsa = NULL;
	for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++)
		buf_wipe(secrets[i]);
}

/* ---- the attempts ---- */

/* The server asks; what is not to be shown is the password. */
static void answer(const char *name, int name_len, const char *instruction, int instruction_len, int n,
		   const LIBSSH2_USERAUTH_KBDINT_PROMPT *prompts, LIBSSH2_USERAUTH_KBDINT_RESPONSE *responses,
		   void **abstract)
{
	struct sftp_auth *a = ((struct sftp_lib *)*abstract)->auth;

	(void)name;
	(void)name_len;
	(void)instruction;
	(void)instruction_len;
	for (int i = 0; i < n; i++) {
		const char *text = prompts[i].echo ? "" : buf_str(&a->password);

		responses[i].text = strdup(text);
		responses[i].length = responses[i].text == NULL ? 0 : (unsigned)strlen(text);
	}
}

static int run_key(struct sftp_auth *a)
{
	const char *phrase = a->opt->ssh.passphrase_file == NULL ? NULL : buf_str(&a->passphrase);
	void *self = a;

	if (a->own_sign)
		return libssh2_userauth_publickey(a->session, a->user, (const unsigned char *)a->shown.data,
						  a->shown.len, sign, &self);
	return libssh2_userauth_publickey_frommemory(a->session, a->user, strlen(a->user), NULL, 0, a->key.data,
						     a->key.len, phrase);
}

static int run(struct sftp_auth *a, const struct attempt *t)
{
	switch (t->kind) {
	case TRY_FILE:
	case TRY_AGENT:
		return run_key(a);
	case TRY_PASSWORD:
		return libssh2_userauth_password_ex(a->session, a->user, (unsigned)strlen(a->user),
						    buf_str(&a->password), (unsigned)a->password.len, NULL);
	case TRY_QUESTIONS:
		return libssh2_userauth_keyboard_interactive_ex(a->session, a->user, (unsigned)strlen(a->user), answer);
	}
	return LIBSSH2_ERROR_INVAL;
}

static const char *attempt_name(const struct sftp_auth *a, const struct attempt *t)
{
	switch (t->kind) {
	case TRY_FILE:
		return t->path == NULL ? a->opt->ssh.identity_file : t->path;
	case TRY_AGENT:
		return "a key of the agent";
	case TRY_PASSWORD:
	case TRY_QUESTIONS:
		break;
	}
	return "password";
}

/* Of a key whose answer never came libssh2 says the same as of one that was refused. */
static bool connection_lost(const struct sftp_auth *a, int rc)
{
	return a->lib->ended || rc == LIBSSH2_ERROR_SOCKET_DISCONNECT || rc == LIBSSH2_ERROR_SOCKET_SEND ||
	       rc == LIBSSH2_ERROR_SOCKET_RECV || rc == LIBSSH2_ERROR_SOCKET_NONE;
}

static const char *refusal(const struct sftp_auth *a, int rc, const struct attempt *t)
{
	if (rc == LIBSSH2_ERROR_AUTHENTICATION_FAILED || rc == LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED)
		return a->own_sign && a->rsa != NULL ? "refused by the server (signed with " RSA_ALGORITHM
						       "; an ed25519 or ECDSA key, or ssh.client = \"openssh\", may do)"
						     : "refused by the server";
	if (t->kind == TRY_FILE && !a->own_sign)
		return a->opt->ssh.passphrase_file == NULL
			       ? "can't be read: does it need a passphrase (ssh.passphraseFile)?"
			       : "can't be read: is its passphrase the one in ssh.passphraseFile?";
	return NULL;
}

static int begin(struct sftp_auth *a, struct err *err)
{
	while (a->at < a->n) {
		struct err why = ERR_INIT;

		if (prepare(a, &a->attempts[a->at], &why) == 0) {
			a->step = STEP_TRY;
			return 0;
		}
		note(a, attempt_name(a, &a->attempts[a->at]), why.text);
		clear_attempt(a);
		a->at++;
	}
	return give_up(a, err);
}

static int attempt(struct sftp_auth *a, struct err *err)
{
	const struct attempt *t = &a->attempts[a->at];
	int rc = run(a, t);
	const char *why;

	if (rc == LIBSSH2_ERROR_EAGAIN)
		return 0;
	if (rc == 0)
		log_debug(LOG_CAT_EXEC, "logged in as %s with %s", a->user, attempt_name(a, t));
	else if (!connection_lost(a, rc)) {
		why = refusal(a, rc, t);
		note(a, attempt_name(a, t), why != NULL ? why : last_words(a));
	}
	clear_attempt(a);
	if (rc == 0)
		return 1;
	if (connection_lost(a, rc)) {
		/* A server that has had enough of what it refused ends it as well. */
		if (a->said.len == 0)
			return err_set(err, ERR_NETWORK, "the connection ended in the middle of the login: %.200s",
				       last_words(a));
		note(a, "the server ended the connection", last_words(a));
		return give_up(a, err);
	}
	a->at++;
	a->step = STEP_BEGIN;
	return sftp_auth_step(a, err);
}

/* 1: none of them is needed. */
static int ask_methods(struct sftp_auth *a, struct err *err)
{
	char *list = libssh2_userauth_list(a->session, a->user, (unsigned)strlen(a->user));
	int rc = libssh2_session_last_errno(a->session);

	if (list == NULL && libssh2_userauth_authenticated(a->session))
		return 1;
	if (list == NULL && rc == LIBSSH2_ERROR_EAGAIN)
		return 0;
	if (list == NULL)
		return err_set(err, ERR_NETWORK, "before the login: %.200s", last_words(a));
	a->methods = strdup(list); /* libssh2's own lives until its next packet */
	choose(a);
	a->step = STEP_BEGIN;
	return sftp_auth_step(a, err);
}

int sftp_auth_step(struct sftp_auth *a, struct err *err)
{
	switch (a->step) {
	case STEP_METHODS:
		return ask_methods(a, err);
	case STEP_BEGIN:
		return begin(a, err) < 0 ? -1 : attempt(a, err);
	case STEP_TRY:
		return attempt(a, err);
	}
	return err_set(err, ERR_BUG, "no such step");
}

/* ---- life ---- */

struct sftp_auth *sftp_auth_new(LIBSSH2_SESSION *session, struct sftp_lib *lib, const struct sync_options *opt,
				const char *user, struct err *err)
{
	struct sftp_auth *a = calloc(1, sizeof(*a));

	if (a == NULL) {
		err_set(err, ERR_NOMEM, "out of memory");
		return NULL;
	}
	a->session = session;
	a->lib = lib;
	a->opt = opt;
	a->user = user;
	sftp_agent_init(&a->agent);
	buf_init(&a->key, KEY_FILE_MAX + 16);
	buf_init(&a->passphrase, SFTP_SECRET_MAX + 16);
	buf_init(&a->password, SFTP_SECRET_MAX + 16);
	buf_init(&a->blob, BLOB_MAX);
	buf_init(&a->shown, BLOB_MAX);
	buf_init(&a->said, 1024);
	lib->auth = a;
	return a;
}

void sftp_auth_free(struct sftp_auth *a)
{
	if (a == NULL)
		return;
	clear_attempt(a);
	a->lib->auth = NULL;
	for (size_t i = 0; i < a->n; i++)
		free(a->attempts[i].path);
	sftp_agent_done(&a->agent);
	buf_done(&a->key);
	buf_done(&a->passphrase);
	buf_done(&a->password);
	buf_done(&a->blob);
	buf_done(&a->shown);
	buf_done(&a->said);
	free(a->methods);
	free(a);
}
