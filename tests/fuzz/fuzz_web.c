/* LINK: core/safe_open.c core/web.c core/web_http.c core/web_stream.c core/web_assets.c core/wire.c core/guard.c
 * core/keep.c core/identity.c core/owner_map.c core/batch.c core/path.c core/frame.c core/loop.c core/clock.c
 * core/log.c core/utf8.c core/buf.c core/err.c */
/* LIBS: -lmicrohttpd */
/* WRAP: loop_run loop_stop clock_mono_ns */
/* MODULE: core/web.c core/web_http.c core/web_stream.c core/web_assets.c */
/* ROUNDS: 500 */
/*
 * The process that serves the page and the numbers, in this one: some clients and the daemon follow a script. What they
 * send are the bytes of the input, or requests and views as they usually are; time passes when the script says so. A
 * client gets HTTP or nothing, and the process ends whatever came.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/web.h"
#include "core/web_private.h"

#define CLIENTS 6u
#define OPS_MAX 96u
/* The process wants its two descriptors side by side. */
#define DAEMON_FD 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int64_t __real_clock_mono_ns(void);
int64_t __wrap_clock_mono_ns(void);
int __wrap_loop_run(struct loop *l, struct err *err);
void __wrap_loop_stop(struct loop *l, int result);

static struct {
	const uint8_t *p;
	size_t n;
	int daemon; /* our end */
	int clients[CLIENTS];
	uint64_t got[CLIENTS]; /* bytes */
	struct sockaddr_un address;
	socklen_t address_len;
	int64_t later_ns;
	bool stopped;
} s;

static void require(bool holds)
{
	if (!holds)
		abort();
}

int web_confine(struct err *err)
{
	(void)err;
	return 0;
}

int64_t __wrap_clock_mono_ns(void)
{
	return __real_clock_mono_ns() + s.later_ns;
}

void __wrap_loop_stop(struct loop *l, int result)
{
	(void)l;
	(void)result;
	s.stopped = true;
}

static unsigned next(void)
{
	if (s.n == 0)
		return 0;
	s.n--;
	return *s.p++;
}

/* ---- the clients ---- */

static void hang_up(unsigned i)
{
	if (s.clients[i] >= 0)
		(void)close(s.clients[i]);
	s.clients[i] = -1;
	s.got[i] = 0;
}

static void call(unsigned i)
{
	if (s.clients[i] >= 0)
		return;
	s.clients[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	require(s.clients[i] >= 0);
	if (connect(s.clients[i], (const struct sockaddr *)&s.address, s.address_len) < 0)
		hang_up(i);
}

static void listen_to(unsigned i)
{
	char in[16384];
	ssize_t n = s.clients[i] < 0 ? 0 : recv(s.clients[i], in, sizeof(in), MSG_DONTWAIT);

	if (n <= 0)
		return;
	require(s.got[i] > 0 || (n >= 9 && memcmp(in, "HTTP/1.", 7) == 0));
	s.got[i] += (uint64_t)n;
}

static void say(int fd, const void *bytes, size_t n)
{
	if (fd >= 0 && n > 0)
		(void)!send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void request(unsigned i, unsigned what)
{
	static const char *const words[] = { "GET / HTTP/1.1\r\n",
					     "GET /metrics HTTP/1.1\r\n",
					     "GET /events HTTP/1.1\r\n",
					     "HEAD /page.js HTTP/1.1\r\n",
					     "POST / HTTP/1.1\r\nContent-Length: 3\r\n",
					     "GET /nothing HTTP/1.0\r\n",
					     "GET /icon.svg HTTP/1.1\r\nContent-Length: 3\r\n" };
	static const char *const hosts[] = { "Host: localhost\r\n\r\n",		"Host: evil.example\r\n\r\n",
					     "Host: box.example:80\r\n\r\nabc", "Host: [::1]:80\r\n\r\n",
					     "Host: 192.0.2.1\r\n\r\n",		"\r\n" };

	call(i);
	say(s.clients[i], words[what % 7], strlen(words[what % 7]));
	say(s.clients[i], hosts[what / 7 % 6], strlen(hosts[what / 7 % 6]));
}

/* ---- the daemon ---- */

static void tell(struct buf *out)
{
	say(s.daemon, out->data, out->len);
	buf_done(out);
}

static void configure(unsigned how)
{
	static const char *const words[] = { "", "any-host", "host box.example\nhost other\n", "nonsense\nhost x" };
	struct wire_config c = {
		.text = words[how % 4], .text_len = strlen(words[how % 4]), .runtime_dir = "", .archive_path = ""
	};
	struct buf out;

	buf_init(&out, 4096);
	require(wire_put_config(&out, &c));
	tell(&out);
}

/* Lines of a page, some of which differ from the last. */
static void show(unsigned view)
{
	unsigned lines = next() % 6;
	char text[1024];
	struct buf out;
	size_t n = 0;

	for (unsigned i = 0; i < lines; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "{\"line\":%u}\n", next() % 4);
	buf_init(&out, 8192);
	require(wire_put_view(&out, view % 2 == 0 ? WIRE_VIEW_METRICS : WIRE_VIEW_PAGE, text, n));
	tell(&out);
}

static void say_bytes(int fd)
{
	size_t n = next();

	n = n < s.n ? n : s.n;
	say(fd, s.p, n);
	s.p += n;
	s.n -= n;
}

static void step(void)
{
	unsigned op = next(), who = op / 8 % CLIENTS;

	switch (op % 8) {
	case 0:
	case 1:
		request(who, next());
		break;
	case 2:
		call(who);
		say_bytes(s.clients[who]);
		break;
	case 3:
		hang_up(who);
		break;
	case 4:
		show(op / 8);
		break;
	case 5:
		s.later_ns += (int64_t)next() * 500 * NS_PER_MS;
		break;
	case 6:
		say_bytes(s.daemon);
		break;
	default:
		for (unsigned i = 0; i < CLIENTS && op < 0x80; i++)
			request(i, 2);
		if (op >= 0x80)
			(void)shutdown(s.clients[who], SHUT_WR);
	}
}

/* In place of the loop that would wait. */
int __wrap_loop_run(struct loop *l, struct err *err)
{
	for (unsigned i = 0; i < OPS_MAX && s.n > 0 && !s.stopped; i++) {
		step();
		for (int round = 0; round < 3 && !s.stopped; round++)
			require(loop_once(l, 0, err) >= 0);
		for (unsigned k = 0; k < CLIENTS; k++)
			listen_to(k);
	}
	return 0;
}

/* ---- sockets ---- */

static void put_at(int fd, int at)
{
	require(fd >= 0 && dup3(fd, at, O_CLOEXEC) == at);
	(void)close(fd);
}

/* Listening, by a name that no file has. */
static void open_sockets(void)
{
	int fds[2], fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	s.address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	s.address_len = sizeof(s.address);
	require(fd >= 0 && bind(fd, (const struct sockaddr *)&s.address, sizeof(sa_family_t)) == 0 &&
		listen(fd, 16) == 0 && getsockname(fd, (struct sockaddr *)&s.address, &s.address_len) == 0);
	put_at(fd, DAEMON_FD + 1);
	require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
	put_at(fds[0], DAEMON_FD);
	s.daemon = fds[1];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	s.p = data;
	s.n = size;
	s.stopped = false;
	s.later_ns = 0;
	for (unsigned i = 0; i < CLIENTS; i++)
		s.clients[i] = -1;
	open_sockets();
	if (next() < 0xf0)
		configure(data[0]);
	(void)web_run(DAEMON_FD, DAEMON_FD + 1);
	for (unsigned i = 0; i < CLIENTS; i++)
		hang_up(i);
	(void)close(s.daemon);
	(void)close(DAEMON_FD);
	(void)close(DAEMON_FD + 1);
	return 0;
}
