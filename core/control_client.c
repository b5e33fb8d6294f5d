/*
 * control_client.c - the asking side of core/control.h: blocking, with a deadline.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/control.h"
#include "core/frame.h"

#define READ_BYTES (64u * 1024)

static int timed_out(struct err *err)
{
	err_set(err, ERR_NETWORK, "the time is over");
	if (err != NULL)
		err->code = ETIMEDOUT;
	return -1;
}

/* Wait for the socket until `deadline_ns` (negative: for ever). */
static int wait_for(int fd, short events, int64_t deadline_ns, struct err *err)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = events };
		int64_t left = deadline_ns < 0 ? 0 : deadline_ns - clock_mono_ns();
		int ms = -1, n;

		if (deadline_ns >= 0 && left <= 0)
			return timed_out(err);
		if (deadline_ns >= 0)
			ms = left / NS_PER_MS >= 3600 * 1000 ? 3600 * 1000 : (int)(left / NS_PER_MS) + 1;
		n = poll(&p, 1, ms);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return err_errno(err, errno, "poll");
	}
}

static int make_request(struct buf *out, size_t argc, const char *const *argv, struct err *err)
{
	struct buf args;
	bool ok = argc <= CONTROL_ARGS_MAX;

	buf_init(&args, CONTROL_REQUEST_MAX);
	for (size_t i = 0; ok && i < argc; i++)
		ok = buf_add(&args, argv[i], strlen(argv[i]) + 1);
	ok = ok && frame_add(out, CONTROL_REQUEST, args.data, args.len);
	buf_done(&args);
	return ok ? 0 : err_set(err, ERR_LIMIT, "the request to the daemon is too long, or there is no memory for it");
}

static int connect_to(const char *path, int64_t deadline_ns, struct err *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t len = strlen(path);
	int fd, code;

	if (len == 0 || len >= sizeof(address.sun_path))
		return err_set(err, ERR_CONFIG, "not a path for a socket: %s", path);
	memcpy(address.sun_path, path, len + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, errno, "socket");
	while (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		code = errno;
		if (code == EAGAIN || code == EINTR) { /* a full backlog can't be waited for: look again soon */
			if (deadline_ns >= 0 && clock_mono_ns() >= deadline_ns) {
				(void)close(fd);
				return timed_out(err);
			}
			(void)poll(NULL, 0, 10);
			continue;
		}
		(void)close(fd);
		if (code == ENOENT || code == ECONNREFUSED || code == ENOTDIR)
			return err_set(err, ERR_GONE, "no daemon answers at %s", path);
		return err_errno(err, code, "can't ask the daemon at %s", path);
	}
	return fd;
}

/* A daemon that refuses may close without reading: then its answer is worth more than our error. */
static int send_all(int fd, struct buf *out, int64_t deadline_ns, struct err *err)
{
	while (out->len > 0) {
		ssize_t n = send(fd, out->data, out->len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n >= 0) {
			buf_consume(out, (size_t)n);
			continue;
		}
		if (errno == EPIPE || errno == ECONNRESET)
			return 0;
		if (errno != EAGAIN && errno != EINTR)
			return err_errno(err, errno, "can't ask the daemon");
		if (wait_for(fd, POLLOUT, deadline_ns, err) < 0)
			return -1;
	}
	return 0;
}

/* 1: *code is the answer's end; 0: go on; -1. */
static int take_frame(uint8_t type, const char *p, size_t len, const struct control_client *to, int *code,
		      struct err *err)
{
	struct reader r;
	uint32_t v;

	switch (type) {
	case CONTROL_OUT:
		if (to->out != NULL)
			to->out(to->ctx, p, len);
		return 0;
	case CONTROL_ERR:
		if (to->err != NULL)
			to->err(to->ctx, p, len);
		return 0;
	case CONTROL_PROGRESS:
		if (to->progress != NULL)
			to->progress(to->ctx, p, len);
		return 0;
	case CONTROL_EXIT:
		reader_init(&r, p, len);
		v = reader_u32(&r);
		if (r.failed || r.left != 0 || v > 255)
			break;
		*code = (int)v;
		return 1;
	default:
		break;
	}
	return err_set(err, ERR_PROTOCOL, "the daemon's answer makes no sense");
}

static int take_frames(struct buf *in, const struct control_client *to, int *code, struct err *err)
{
	const char *payload;
	size_t len;
	uint8_t type;
	int got, rc = 0;

	while ((got = frame_next(in, CONTROL_ANSWER_MAX, &type, &payload, &len)) > 0 && rc == 0)
		rc = take_frame(type, payload, len, to, code, err);
	if (rc == 0 && got < 0)
		return err_set(err, ERR_PROTOCOL, "the daemon's answer makes no sense");
	return rc;
}

static int receive(int fd, int64_t deadline_ns, const struct control_client *to, struct err *err)
{
	struct buf in;
	int code = 0, rc = 0;

	buf_init(&in, CONTROL_ANSWER_MAX + FRAME_HEADER + READ_BYTES);
	while (rc == 0) {
		ssize_t n;

		if (!buf_reserve(&in, READ_BYTES)) {
			rc = err_set(err, ERR_NOMEM, "out of memory for the daemon's answer");
			break;
		}
		n = recv(fd, in.data + in.len, READ_BYTES, MSG_DONTWAIT);
		if (n > 0) {
			in.len += (size_t)n;
			rc = take_frames(&in, to, &code, err);
		} else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			rc = wait_for(fd, POLLIN, deadline_ns, err);
		} else {
			rc = err_set(err, ERR_NETWORK, "the daemon went away before it had answered");
		}
	}
	buf_done(&in);
	return rc < 0 ? -1 : code;
}

int control_client_run(const char *path, size_t argc, const char *const *argv, int64_t timeout_ns,
		       const struct control_client *client, struct err *err)
{
	int64_t now = clock_mono_ns();
	int64_t deadline = timeout_ns < 0 ? -1 : timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
	struct buf out;
	int fd, rc;

	buf_init(&out, CONTROL_REQUEST_MAX + FRAME_HEADER);
	rc = make_request(&out, argc, argv, err);
	if (rc == 0) {
		rc = fd = connect_to(path, deadline, err);
		if (fd >= 0) {
			rc = send_all(fd, &out, deadline, err);
			if (rc == 0)
				rc = receive(fd, deadline, client, err);
			(void)close(fd);
		}
	}
	buf_done(&out);
	return rc;
}
