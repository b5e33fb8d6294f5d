#include "transports/sftp_agent.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/clock.h"

#define REPLY_MAX (256u * 1024)

enum { REQUEST_IDENTITIES = 11, IDENTITIES_ANSWER = 12, SIGN_REQUEST = 13, SIGN_RESPONSE = 14 };
enum { RSA_SHA2_256 = 2, RSA_SHA2_512 = 4 };

static const char *get_string(struct reader *r, size_t *n)
{
	*n = reader_be32(r);
	return reader_bytes(r, *n);
}

void sftp_agent_init(struct sftp_agent *a)
{
	a->fd = -1;
	a->n = 0;
	buf_init(&a->list, REPLY_MAX);
}

void sftp_agent_done(struct sftp_agent *a)
{
	if (a->fd >= 0)
		(void)close(a->fd);
	buf_done(&a->list);
	sftp_agent_init(a);
}

static bool send_all(int fd, const struct buf *b)
{
	for (size_t at = 0; at < b->len;) {
		ssize_t n = send(fd, b->data + at, b->len - at, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += (size_t)n;
	}
	return true;
}

static bool receive(int fd, struct buf *out, size_t n)
{
	if (!buf_reserve(out, n))
		return false;
	while (n > 0) {
		ssize_t got = recv(fd, out->data + out->len, n, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		out->len += (size_t)got;
		n -= (size_t)got;
	}
	return true;
}

/* A request, its length put before it, and the answer's body behind its type. */
static bool ask(struct sftp_agent *a, const struct buf *body, int want, struct buf *reply, struct reader *out)
{
	struct buf message;
	struct reader r;
	uint32_t len;
	bool ok;

	buf_init(&message, REPLY_MAX);
	(void)buf_add_be32(&message, (uint32_t)body->len);
	ok = !body->failed && buf_add(&message, body->data, body->len) && send_all(a->fd, &message);
	buf_done(&message);
	buf_clear(reply);
	if (!ok || !receive(a->fd, reply, 4))
		return false;
	reader_init(&r, reply->data, reply->len);
	len = reader_be32(&r);
	if (len < 1 || len > REPLY_MAX - 16)
		return false;
	buf_clear(reply);
	if (!receive(a->fd, reply, len))
		return false;
	reader_init(out, reply->data, reply->len);
	return reader_u8(out) == want;
}

static bool list_keys(struct sftp_agent *a)
{
	struct buf body;
	struct reader r;
	uint32_t count;
	bool ok;

	buf_init(&body, 16);
	(void)buf_add_byte(&body, REQUEST_IDENTITIES);
	ok = ask(a, &body, IDENTITIES_ANSWER, &a->list, &r);
	buf_done(&body);
	count = ok ? reader_be32(&r) : 0;
	for (uint32_t i = 0; i < count && a->n < SFTP_AGENT_KEYS_MAX; i++) {
		size_t len, comment;
		const char *blob = get_string(&r, &len);

		(void)get_string(&r, &comment);
		if (r.failed)
			return false;
		a->keys[a->n].blob = blob;
		a->keys[a->n++].len = len;
	}
	return ok;
}

int sftp_agent_open(struct sftp_agent *a, const char *path, int64_t timeout_ns, struct err *err)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const struct timeval limit = { .tv_sec = timeout_ns / NS_PER_S, .tv_usec = timeout_ns % NS_PER_S / 1000 };

	if (strlen(path) >= sizeof(to.sun_path))
		return err_set(err, ERR_CONFIG, "the agent's socket %.200s: too long a path", path);
	memcpy(to.sun_path, path, strlen(path) + 1);
	a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (a->fd < 0 || setsockopt(a->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    setsockopt(a->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
	    connect(a->fd, (const struct sockaddr *)&to, sizeof(to)) < 0) {
		(void)err_errno(err, errno, "the agent at %.200s", path);
		sftp_agent_done(a);
		return -1;
	}
	if (list_keys(a))
		return 0;
	sftp_agent_done(a);
	return err_set(err, ERR_PROTOCOL, "the agent at %.200s does not answer sensibly", path);
}

bool sftp_agent_sign(struct sftp_agent *a, const char *blob, size_t blob_len, const char *algorithm, const void *data,
		     size_t n, struct buf *out)
{
	struct buf body, reply;
	struct reader r, signature;
	size_t len;
	const char *p;
	bool ok;

	buf_init(&body, REPLY_MAX);
	buf_init(&reply, REPLY_MAX);
	(void)buf_add_byte(&body, SIGN_REQUEST);
	(void)buf_add_be32(&body, (uint32_t)blob_len);
	(void)buf_add(&body, blob, blob_len);
	(void)buf_add_be32(&body, (uint32_t)n);
	(void)buf_add(&body, data, n);
	(void)buf_add_be32(&body, (uint32_t)(strcmp(algorithm, "rsa-sha2-256") == 0   ? RSA_SHA2_256
					     : strcmp(algorithm, "rsa-sha2-512") == 0 ? RSA_SHA2_512
										      : 0));
	ok = a->fd >= 0 && ask(a, &body, SIGN_RESPONSE, &reply, &r);
	p = ok ? get_string(&r, &len) : NULL;
	if (p != NULL) {
		reader_init(&signature, p, len);
		(void)get_string(&signature, &len); /* the algorithm */
		p = get_string(&signature, &len);
	}
	ok = p != NULL && buf_add(out, p, len);
	buf_done(&body);
	buf_done(&reply);
	return ok;
}
