#include "transports/sftp_hostcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "core/safe_open.h"
#include "transports/sftp_crypto.h"
#include "transports/sftp_files.h"
#include "transports/sftp_hosts.h"

#define OWN_FILE "~/.ssh/known_hosts"

static int add_file(struct sftp_hosts *h, const char *path, const char *host, uint16_t port, struct err *err)
{
	struct buf text;
	struct err why = ERR_INIT;
	int rc = 0;

	buf_init(&text, SFTP_HOST_FILE_MAX + 16);
	if (sftp_public_read(path, SFTP_HOST_FILE_MAX, &text, &why) == 0)
		rc = sftp_hosts_add(h, text.data, text.len, host, port) ? 0 : err_set(err, ERR_NOMEM, "out of memory");
	else if (why.class != ERR_GONE)
		rc = err_set(err, why.class, "known_hosts: %.300s", why.text);
	buf_done(&text);
	return rc;
}

/* The file that new keys belong into; malloc'ed. */
static char *own_file(const struct sync_options *opt)
{
	return sftp_expand_home(opt->ssh.known_hosts_file != NULL ? opt->ssh.known_hosts_file : OWN_FILE);
}

static int load(struct sftp_hosts *h, const struct sync_options *opt, const char *host, uint16_t port, struct err *err)
{
	char *own = own_file(opt);
	int rc = 0;

	*h = (struct sftp_hosts){ 0 };
	if (own == NULL && opt->ssh.known_hosts_file != NULL)
		rc = err_set(err, ERR_CONFIG,
			     "ssh.knownHostsFile: there is no home directory, or no memory for its name");
	if (rc == 0 && own != NULL)
		rc = add_file(h, own, host, port, err);
	if (rc == 0 && opt->ssh.known_hosts_file == NULL)
		rc = add_file(h, SFTP_SYSTEM_HOSTS, host, port, err);
	free(own);
	if (rc < 0)
		sftp_hosts_done(h);
	return rc;
}

/* ---- before the handshake ---- */

/* libssh2 is given only names that it knows: taking the others out it copies within one buffer by memcpy. */
struct types {
	struct buf list;
	const char **known;
	int n;
};

static void add_word(struct types *t, const char *word)
{
	for (int i = 0; i < t->n; i++) {
		if (strcmp(t->known[i], word) != 0)
			continue;
		if (t->list.len > 0)
			(void)buf_add_byte(&t->list, ',');
		(void)buf_add_str(&t->list, word);
		return;
	}
}

/* A key of type ssh-rsa signs by one of three algorithms. */
static void add_type(struct types *t, const char *type)
{
	if (strcmp(type, "ssh-rsa") == 0) {
		add_word(t, "rsa-sha2-512");
		add_word(t, "rsa-sha2-256");
	}
	add_word(t, type);
}

static int set_types(LIBSSH2_SESSION *session, const struct sftp_hosts *h)
{
	static const char *const usual[] = { "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384",
					     "ecdsa-sha2-nistp521", "ssh-rsa" };
	struct types t = { .known = NULL };
	int rc = -1;

	t.n = libssh2_session_supported_algs(session, LIBSSH2_METHOD_HOSTKEY, &t.known);
	buf_init(&t.list, 64u * 1024);
	for (size_t i = 0; i < h->n; i++)
		if (!h->keys[i].revoked)
			add_type(&t, h->keys[i].type);
	for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++)
		add_type(&t, usual[i]);
	if (!t.list.failed)
		rc = libssh2_session_method_pref(session, LIBSSH2_METHOD_HOSTKEY, buf_str(&t.list));
	buf_done(&t.list);
	if (t.known != NULL)
		libssh2_free(session, t.known);
	return rc;
}

int sftp_hostcheck_prefer(LIBSSH2_SESSION *session, const struct sync_options *opt, const char *host, uint16_t port,
			  struct err *err)
{
	struct sftp_hosts h;
	int rc;

	if (load(&h, opt, host, port, err) < 0)
		return -1;
	rc = set_types(session, &h);
	sftp_hosts_done(&h);
	return rc == 0 ? 0 : err_set(err, ERR_NOMEM, "libssh2 does not take the types of host keys");
}

/* ---- after it ---- */

/* What came, and where it would be known. */
struct shown {
	const char *blob;
	size_t len;
	char type[64];
	char fingerprint[SFTP_FINGERPRINT_MAX];
	char *file;
	const char *host;
	uint16_t port;
	struct buf name;
};

static bool has_type(const struct sftp_hosts *h, const char *type)
{
	for (size_t i = 0; i < h->n; i++)
		if (!h->keys[i].revoked && !h->keys[i].bare && strcmp(h->keys[i].type, type) == 0)
			return true;
	return false;
}

/* "ed25519" of "ssh-ed25519", as ssh-keyscan wants it. */
static const char *scan_type(const char *type)
{
	return strncmp(type, "ecdsa-", 6) == 0 ? "ecdsa" : strncmp(type, "ssh-", 4) == 0 ? type + 4 : type;
}

static int refuse_unknown(const struct shown *s, struct err *err)
{
	return err_set(
		err, ERR_AUTH,
		"the host key of %.80s is not known: it showed %s %s. If that is what `ssh-keygen -l -f` says there, "
		"add it: ssh-keyscan -p %u -t %s %.80s >> %.100s",
		s->host, s->type, s->fingerprint, s->port, scan_type(s->type), s->host, s->file);
}

static int refuse_changed(const struct sftp_hosts *h, struct shown *s, struct err *err)
{
	if (!has_type(h, s->type))
		return err_set(err, ERR_AUTH,
			       "the host %.80s is known by other types of keys only, and showed %s %s. If that is what "
			       "`ssh-keygen -l -f` says there, add it: ssh-keyscan -p %u -t %s %.80s >> %.100s",
			       s->host, s->type, s->fingerprint, s->port, scan_type(s->type), s->host, s->file);
	return err_set(err, ERR_AUTH,
		       "THE HOST KEY OF %.80s HAS CHANGED: it showed %s %s, which known_hosts does not have. Somebody "
		       "may be in "
		       "between. If it was changed on purpose, remove the old one: ssh-keygen -R '%.90s' -f %.100s",
		       s->host, s->type, s->fingerprint, buf_str(&s->name), s->file);
}

static int append(const char *path, const struct buf *line, struct err *err)
{
	int fd = safe_open(path, O_WRONLY | O_APPEND | O_CREAT, 0600, err);
	int rc = 0;

	if (fd < 0)
		return -1;
	if (write(fd, line->data, line->len) != (ssize_t)line->len || fsync(fd) < 0)
		rc = err_errno(err, errno, "%.200s", path);
	(void)close(fd);
	return rc;
}

/* Behind a line that was left without an end, too. */
static int accept_new(const struct sync_options *opt, struct shown *s, struct err *err)
{
	struct err why = ERR_INIT;
	struct buf line, old;
	char *slash;
	int rc = 0;

	if (opt->ssh.known_hosts_file == NULL) {
		slash = strrchr(s->file, '/');
		*slash = '\0';
		if (mkdir(s->file, 0700) < 0 && errno != EEXIST)
			rc = err_errno(err, errno, "%.200s", s->file);
		*slash = '/';
	}
	buf_init(&line, 64u * 1024);
	buf_init(&old, SFTP_HOST_FILE_MAX + 16);
	if (sftp_public_read(s->file, SFTP_HOST_FILE_MAX, &old, &why) == 0 && old.len > 0 &&
	    old.data[old.len - 1] != '\n')
		(void)buf_add_byte(&line, '\n');
	(void)buf_printf(&line, "%s %s ", buf_str(&s->name), s->type);
	if (rc == 0 && (!sftp_base64_encode(s->blob, s->len, &line) || !buf_add_byte(&line, '\n')))
		rc = err_set(err, ERR_NOMEM, "out of memory");
	if (rc == 0)
		rc = append(s->file, &line, err);
	buf_done(&line);
	buf_done(&old);
	if (rc == 0)
		log_warn("the host key of %s was not known and is from now on: %s %s, noted in %s", s->host, s->type,
			 s->fingerprint, s->file);
	return rc;
}

static int judge(const struct sync_options *opt, const struct sftp_hosts *h, struct shown *s, struct err *err)
{
	switch (sftp_hosts_check(h, s->blob, s->len)) {
	case SFTP_HOST_KNOWN:
		return 0;
	case SFTP_HOST_UNKNOWN:
		return opt->ssh.strict == SSH_ACCEPT_NEW ? accept_new(opt, s, err) : refuse_unknown(s, err);
	case SFTP_HOST_CHANGED:
		return refuse_changed(h, s, err);
	case SFTP_HOST_REVOKED:
		break;
	}
	return err_set(err, ERR_AUTH, "the host key that %.80s showed is revoked: %s %s", s->host, s->type,
		       s->fingerprint);
}

int sftp_hostcheck_verify(LIBSSH2_SESSION *session, const struct sync_options *opt, const char *host, uint16_t port,
			  struct err *err)
{
	struct shown s = { .host = host, .port = port };
	struct sftp_hosts h = { 0 };
	int type, rc = -1;

	s.blob = libssh2_session_hostkey(session, &s.len, &type);
	s.file = own_file(opt);
	buf_init(&s.name, 2048);
	if (s.blob == NULL || !sftp_hosts_type(s.blob, s.len, s.type, sizeof(s.type)) ||
	    !sftp_fingerprint(s.blob, s.len, s.fingerprint))
		err_set(err, ERR_PROTOCOL, "the host %.80s showed no key that makes sense", host);
	else if (!sftp_hosts_name(&s.name, host, port))
		err_set(err, ERR_NOMEM, "out of memory for a host key");
	else if (s.file == NULL)
		err_set(err, ERR_CONFIG,
			"there is no known_hosts: no home directory, and ssh.knownHostsFile is not set, or no memory "
			"for its name");
	else if (load(&h, opt, host, port, err) == 0)
		rc = judge(opt, &h, &s, err);
	sftp_hosts_done(&h);
	free(s.file);
	buf_done(&s.name);
	return rc;
}
