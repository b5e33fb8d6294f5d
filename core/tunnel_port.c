#include "core/tunnel_port.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ARGUMENT_MAX (128u * 1024)
#define TCP_STATE_LISTEN 0x0aul
/* Processes that are looked at, and how deep below the first. */
#define FAMILY_MAX 64u
#define FAMILY_DEPTH 8u

/* ---- the word for it ---- */

bool tunnel_port_named(const char *text)
{
	return text != NULL && strstr(text, TUNNEL_PORT_WORD) != NULL;
}

bool tunnel_port_named_in(const struct strlist *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (tunnel_port_named(l->v[i]))
			return true;
	return false;
}

bool tunnel_port_put(struct buf *out, const char *text, uint16_t port)
{
	const char *at;

	for (; (at = strstr(text, TUNNEL_PORT_WORD)) != NULL; text = at + strlen(TUNNEL_PORT_WORD))
		if (!buf_add(out, text, (size_t)(at - text)) || !buf_printf(out, "%u", port))
			return false;
	return buf_add_str(out, text);
}

char **tunnel_port_argv(const struct strlist *command, uint16_t port)
{
	char **argv = calloc(command->n + 1, sizeof(*argv));

	for (size_t i = 0; argv != NULL && i < command->n; i++) {
		struct buf word;

		buf_init(&word, ARGUMENT_MAX);
		if (tunnel_port_put(&word, command->v[i], port))
			argv[i] = strdup(buf_str(&word));
		buf_done(&word);
		if (argv[i] == NULL) {
			tunnel_port_free_argv(argv);
			return NULL;
		}
	}
	return argv;
}

void tunnel_port_free_argv(char **argv)
{
	for (size_t i = 0; argv != NULL && argv[i] != NULL; i++)
		free(argv[i]);
	free(argv);
}

/* ---- which one ---- */

/* A socket that nothing listens on, bound on all addresses: 0, or an errno. What is left of connections through the
 * last tunnel is no obstacle. */
static int bind_all(int family, uint16_t port, uint16_t *out)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	const struct sockaddr *at = family == AF_INET6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;
	socklen_t len = family == AF_INET6 ? sizeof(v6) : sizeof(v4);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), off = 0, on = 1, code = 0;

	if (fd < 0)
		return errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if ((family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0) ||
	    bind(fd, at, len) < 0 || getsockname(fd, (struct sockaddr *)&v6, &len) < 0)
		code = errno;
	else if (out != NULL)
		*out = ntohs(v6.sin6_port); /* in the same place for either family */
	(void)close(fd);
	return code;
}

/* As a program may want it, of both kinds where the host has both. Port 0: the kernel chooses. */
static int try_port(uint16_t port, uint16_t *out)
{
	int code = bind_all(AF_INET6, port, out);

	return code == EAFNOSUPPORT || code == EADDRNOTAVAIL ? bind_all(AF_INET, port, out) : code;
}

uint16_t tunnel_port_choose(struct err *err)
{
	uint16_t port = 0;
	int code = try_port(0, &port);

	if (code != 0)
		(void)err_errno(err, code, "there is no free port for the tunnel");
	return code == 0 ? port : 0;
}

bool tunnel_port_free(uint16_t port)
{
	return try_port(port, NULL) == 0;
}

/* ---- who listens ---- */

/* Eight digits. */
static uint32_t word_at(const char *hex)
{
	char digits[9];

	memcpy(digits, hex, 8);
	digits[8] = '\0';
	return (uint32_t)strtoul(digits, NULL, 16);
}

/* An address in words of 32 bits, as they are in this host's memory: loopback or any. */
static bool is_local(const char *hex, size_t len)
{
	const bool v6 = len == 32, mapped = v6 && ntohl(word_at(hex + 16)) == 0xffff;
	uint32_t last;

	if (len != 8 && !v6)
		return false;
	if (v6 && (word_at(hex) != 0 || word_at(hex + 8) != 0 || (word_at(hex + 16) != 0 && !mapped)))
		return false;
	last = ntohl(word_at(hex + len - 8));
	return last == 0 || (v6 && !mapped ? last == 1 : last >> 24 == 127);
}

enum { FIELD_LOCAL = 1, FIELD_STATE = 3, FIELD_UID = 7, FIELD_INODE = 9, FIELDS };

/* Its words, each with its length; false: there are too few. */
static bool split(const char *line, const char *word[FIELDS], size_t len[FIELDS])
{
	for (size_t i = 0; i < FIELDS; i++) {
		line += strspn(line, " ");
		word[i] = line;
		len[i] = strcspn(line, " ");
		line += len[i];
		if (len[i] == 0)
			return false;
	}
	return true;
}

/* "SLOT: ADDRESS:PORT ADDRESS:PORT STATE ...", below a heading. */
static void take_line(struct port_scan *s, const char *line)
{
	const char *word[FIELDS], *colon;
	size_t len[FIELDS];

	if (!split(line, word, len) || word[0][len[0] - 1] != ':')
		return;
	if (strtoul(word[FIELD_STATE], NULL, 16) != TCP_STATE_LISTEN) {
		s->over = true;
		return;
	}
	colon = memchr(word[FIELD_LOCAL], ':', len[FIELD_LOCAL]);
	if (colon == NULL || strtoul(colon + 1, NULL, 16) != s->port || s->n == s->max ||
	    !is_local(word[FIELD_LOCAL], (size_t)(colon - word[FIELD_LOCAL])))
		return;
	s->out[s->n++] = (struct port_listener){ .inode = strtoull(word[FIELD_INODE], NULL, 10),
						 .uid = (uid_t)strtoul(word[FIELD_UID], NULL, 10) };
}

void port_scan_feed(struct port_scan *s, const char *data, size_t len)
{
	for (size_t i = 0; i < len && !s->over; i++) {
		if (data[i] != '\n') {
			if (s->len < sizeof(s->line) - 1)
				s->line[s->len++] = data[i];
			continue;
		}
		s->line[s->len] = '\0';
		s->len = 0;
		take_line(s, s->line);
	}
}

static void scan_file(const char *path, struct port_scan *s)
{
	char data[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	s->over = false;
	s->len = 0;
	while (fd >= 0 && !s->over && ((n = read(fd, data, sizeof(data))) > 0 || (n < 0 && errno == EINTR)))
		port_scan_feed(s, data, n > 0 ? (size_t)n : 0);
	if (fd >= 0)
		(void)close(fd);
}

size_t tunnel_port_listeners(uint16_t port, struct port_listener *out, size_t max)
{
	struct port_scan s = { .port = port, .out = out, .max = max };

	scan_file("/proc/self/net/tcp", &s);
	scan_file("/proc/self/net/tcp6", &s);
	return s.n;
}

/* ---- whose it is ---- */

struct search {
	const struct port_listener *l;
	size_t n;
	unsigned left;
	bool refused; /* a process did not let us look */
};

static bool is_socket_of(const struct search *s, const char *text)
{
	static const char prefix[] = "socket:[";
	uint64_t inode;

	if (strncmp(text, prefix, sizeof(prefix) - 1) != 0)
		return false;
	inode = strtoull(text + sizeof(prefix) - 1, NULL, 10);
	for (size_t i = 0; i < s->n; i++)
		if (s->l[i].inode == inode)
			return true;
	return false;
}

static bool holds(struct search *s, pid_t pid)
{
	char path[64], text[64];
	const struct dirent *e;
	bool found = false;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (dir == NULL) {
		s->refused = s->refused || errno == EACCES || errno == EPERM;
		return false;
	}
	while (!found && (e = readdir(dir)) != NULL) {
		ssize_t n = readlinkat(dirfd(dir), e->d_name, text, sizeof(text) - 1);

		s->refused = s->refused || (n < 0 && (errno == EACCES || errno == EPERM));
		text[n < 0 ? 0 : n] = '\0';
		found = is_socket_of(s, text);
	}
	(void)closedir(dir);
	return found;
}

static bool family_holds(struct search *s, pid_t pid, unsigned depth)
{
	char path[64], text[2048], *at = text;
	ssize_t n;
	int fd;

	if (s->left == 0)
		return false;
	s->left--;
	if (holds(s, pid))
		return true;
	if (depth == FAMILY_DEPTH)
		return false;
	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		(void)close(fd);
	else if (errno == ENOENT && depth == 0)
		s->refused = true; /* hidden, or a kernel that does not tell */
	text[n < 0 ? 0 : n] = '\0';
	for (;;) {
		char *end;
		long child = strtol(at, &end, 10);

		if (end == at || child <= 0)
			return false;
		if (family_holds(s, (pid_t)child, depth + 1))
			return true;
		at = end;
	}
}

bool tunnel_port_is_held(const struct port_listener *l, size_t n, pid_t pid, uid_t uid)
{
	struct search s = { .l = l, .n = n, .left = FAMILY_MAX };

	if (n == 0)
		return false;
	if (family_holds(&s, pid, 0))
		return true;
	for (size_t i = 0; s.refused && i < n; i++)
		if (l[i].uid == uid)
			return true;
	return false;
}
