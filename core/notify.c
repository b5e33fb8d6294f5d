#include "core/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"

/* WATCHDOG_USEC counts only for the process that WATCHDOG_PID names, sd_watchdog_enabled(3). */
static int64_t watchdog_from_env(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	char *end;
	unsigned long long v;

	if (usec == NULL || (pid != NULL && strtol(pid, NULL, 10) != (long)getpid()))
		return 0;
	errno = 0;
	v = strtoull(usec, &end, 10);
	if (errno != 0 || *end != '\0' || v == 0 || v > (unsigned long long)INT64_MAX / 1000)
		return 0;
	return (int64_t)v * 1000;
}

struct notify notify_init(void)
{
	struct notify n = { .address = { .sun_family = AF_UNIX } };
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path == NULL ? 0 : strlen(path);

	n.watchdog_ns = watchdog_from_env();
	if (len > 1 && len < sizeof(n.address.sun_path) && (path[0] == '/' || path[0] == '@')) {
		memcpy(n.address.sun_path, path, len);
		if (path[0] == '@')
			n.address.sun_path[0] = '\0'; /* the abstract namespace: its length counts, not a NUL */
		n.address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	}
	(void)unsetenv("NOTIFY_SOCKET");
	(void)unsetenv("WATCHDOG_USEC");
	(void)unsetenv("WATCHDOG_PID");
	return n;
}

int notify_send(const struct notify *n, const char *assignments, struct err *err)
{
	int fd, rc = 0;

	if (n->address_len == 0)
		return 0;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, errno, "socket");
	if (sendto(fd, assignments, strlen(assignments), MSG_NOSIGNAL, (const struct sockaddr *)&n->address,
		   n->address_len) < 0)
		rc = err_errno(err, errno, "cannot tell the service manager");
	(void)close(fd);
	return rc;
}

static int send_status(const struct notify *n, const char *before, const char *status, struct err *err)
{
	char text[1024];
	int len = snprintf(text, sizeof(text), "%sSTATUS=%s", before, status);

	for (size_t i = strlen(before); len > 0 && i < sizeof(text) && text[i] != '\0'; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			text[i] = ' ';
	return notify_send(n, text, err);
}

int notify_ready(const struct notify *n, const char *status, struct err *err)
{
	return status == NULL ? notify_send(n, "READY=1", err) : send_status(n, "READY=1\n", status, err);
}

int notify_reloading(const struct notify *n, struct err *err)
{
	char text[96];

	(void)snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIi64, clock_mono_ns() / 1000);
	return notify_send(n, text, err);
}

int notify_stopping(const struct notify *n, struct err *err)
{
	return notify_send(n, "STOPPING=1", err);
}

int notify_status(const struct notify *n, const char *status, struct err *err)
{
	return send_status(n, "", status, err);
}

int notify_watchdog(const struct notify *n, struct err *err)
{
	return notify_send(n, "WATCHDOG=1", err);
}

int64_t notify_watchdog_interval_ns(const struct notify *n)
{
	return n->watchdog_ns / 2;
}
