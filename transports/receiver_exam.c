#include "transports/receiver_exam.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/credential.h"
#include "transports/tls.h"

/* ---- addresses ---- */

static int try_bind(const struct addrinfo *a)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1, failed = 0;

	if (fd < 0)
		return errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (a->ai_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	/* A port that somebody listens at may be bound by a second socket, but not listened at. */
	if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, 1) < 0)
		failed = errno;
	(void)close(fd);
	return failed;
}

static void address(const char *text, bool running, struct exam *x)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list = NULL;
	const char *colon = strrchr(text, ':'), *from = text[0] == '[' ? text + 1 : text;
	char host[256];
	int got, failed = 0;

	exam_begin(x, "listen");
	if (colon == NULL)
		return;
	(void)snprintf(host, sizeof(host), "%.*s", (int)(colon - from) - (text[0] == '[' ? 1 : 0), from);
	got = getaddrinfo(host, colon + 1, &hints, &list);
	if (got != 0) {
		exam_fail(x, "an address of this host, or 0.0.0.0 and [::]", "%s: %s", text, gai_strerror(got));
		return;
	}
	for (const struct addrinfo *a = list; a != NULL && failed == 0; a = a->ai_next)
		failed = try_bind(a);
	freeaddrinfo(list);
	if (failed == EADDRINUSE && running)
		exam_ok(x, "%s: the daemon listens", text);
	else if (failed == EADDRINUSE)
		exam_fail(x, "ss -tlnp shows which program; end it, or listen at another port",
			  "%s: another program listens there", text);
	else if (failed != 0)
		exam_fail(x, "an address of this host; a port above 1023 without root", "%s: %s", text,
			  strerror(failed));
	else if (running)
		exam_fail(x, "see fansyncd --status, and the log", "%s: the daemon runs, and does not listen there",
			  text);
	else
		exam_ok(x, "%s is free", text);
}

/* ---- keys ---- */

static bool is_key(const char *name)
{
	size_t n = strlen(name);

	return n > 4 && strcmp(name + n - 4, ".key") == 0;
}

static void one_key(const char *dir, const char *name, struct exam *x, unsigned *good)
{
	char path[1024];
	struct tls_key key;
	struct err err = ERR_INIT;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (tls_key_read(path, &key, &err) < 0) {
		exam_fail(x, "chmod 600 it, chown it to the daemon's user; openssl rand -hex 32 makes one", "%s",
			  err.text);
		return;
	}
	tls_key_wipe(&key);
	(*good)++;
}

static void keys(const struct receiver_options *opt, struct exam *x)
{
	const struct dirent *e;
	unsigned good = 0;
	DIR *d;

	exam_begin(x, "keys");
	if (opt->keys == NULL) {
		if (opt->certificate == NULL)
			exam_warn(x, "keys = \"/etc/fansyncd/keys\"",
				  "neither keys nor a certificate: only senders of this host%s",
				  opt->insecure ? ", or anybody, since insecure = true" : "");
		return;
	}
	if (credential_elsewhere(opt->keys)) {
		exam_skip(x, "only the service has them");
		return;
	}
	d = opendir(opt->keys);
	if (d == NULL) {
		exam_fail(x, "mkdir -m 700 it, with a NAME.key for each sender", "%s: %s", opt->keys, strerror(errno));
		return;
	}
	while ((e = readdir(d)) != NULL)
		if (is_key(e->d_name))
			one_key(opt->keys, e->d_name, x, &good);
	(void)closedir(d);
	if (good == 0)
		exam_fail(x, "openssl rand -hex 32 > NAME.key in it, mode 600", "%s holds no key that can be used",
			  opt->keys);
	else
		exam_ok(x, "%u key%s in %s", good, good == 1 ? "" : "s", opt->keys);
}

/* ---- modules ---- */

static void allowed(const struct receiver_options *opt, const struct receiver_module *m, struct exam *x)
{
	char path[1024];

	if (m->allow.n == 0 && (opt->keys != NULL || opt->certificate != NULL)) {
		exam_begin(x, "module");
		exam_warn(x, "allow = [ \"NAME\" ]; with the names of keys",
			  "module %s: allow is empty, no key may write to it", m->name);
	}
	if (opt->keys == NULL || opt->certificate != NULL || credential_elsewhere(opt->keys))
		return;
	for (size_t i = 0; i < m->allow.n; i++) {
		(void)snprintf(path, sizeof(path), "%s/%s.key", opt->keys, m->allow.v[i]);
		if (access(path, F_OK) == 0)
			continue;
		exam_begin(x, "module");
		exam_fail(x, "make that key, or correct the name", "module %s: allow names %s, and there is no %s",
			  m->name, m->allow.v[i], path);
	}
}

static void module(const struct receiver_options *opt, const struct receiver_module *m, struct exam *x)
{
	struct statvfs v;
	struct stat st;

	exam_begin(x, "module");
	if (stat(m->path, &st) < 0)
		exam_fail(x, "mount or make it", "module %s: %s: %s", m->name, m->path, strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		exam_fail(x, "see path", "module %s: %s is no directory", m->name, m->path);
	else if (m->read_only)
		exam_warn(x, "readOnly = false", "module %s: nobody may write to it for now", m->name);
	else if (faccessat(AT_FDCWD, m->path, W_OK | X_OK, AT_EACCESS) < 0)
		exam_fail(x, "chown it to the daemon's user, or mount it writable",
			  "module %s: %s can't be written: %s", m->name, m->path, strerror(errno));
	else
		exam_ok(x, "module %s: %s can be written", m->name, m->path);
	if (statvfs(m->path, &v) == 0)
		exam_space(x, m->path, (uint64_t)v.f_bavail * v.f_frsize, (uint64_t)v.f_blocks * v.f_frsize, v.f_favail,
			   v.f_files);
	allowed(opt, m, x);
}

void receiver_examine(const struct receiver_options *opt, bool running, struct exam *x)
{
	if (opt->listen.n == 0) {
		exam_begin(x, "listen");
		exam_skip(x, "the service manager passes the sockets");
	}
	for (size_t i = 0; i < opt->listen.n; i++)
		address(opt->listen.v[i], running, x);
	if (opt->insecure) {
		exam_begin(x, "insecure");
		exam_warn(x, "keys for the senders, and without insecure",
			  "anybody who reaches the port can write to the modules");
	}
	keys(opt, x);
	if (opt->private_key != NULL)
		exam_secret(x, "privateKey", opt->private_key);
	for (size_t i = 0; i < opt->n_modules; i++)
		module(opt, &opt->modules[i], x);
}
