/*
 * notify.h - tell the service manager how we are: systemd's notification protocol, without its library.
 *
 * Datagrams to the socket that NOTIFY_SOCKET names. Nothing here blocks: when the manager's queue is full a message is
 * dropped and the call says so. Without a service manager every call does nothing.
 */
#ifndef FANSYNCD_CORE_NOTIFY_H
#define FANSYNCD_CORE_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "core/err.h"

struct notify {
	struct sockaddr_un address;
	socklen_t address_len; /* 0: there is nobody to tell */
	int64_t watchdog_ns;   /* how often a keep-alive is due at the latest; 0: never */
};

/* Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and remove them from the environment: children must not speak for
 * the daemon. To be called once, early. */
struct notify notify_init(void);
/* Send raw assignments, separated by newlines ("READY=1\nSTATUS=..."). 0 also when nobody listens. */
int notify_send(const struct notify *n, const char *assignments, struct err *err);
/* READY=1, also after a reload; `status` may be NULL. */
int notify_ready(const struct notify *n, const char *status, struct err *err);
/* RELOADING=1 with the time that systemd wants for it; to be followed by notify_ready. */
int notify_reloading(const struct notify *n, struct err *err);
int notify_stopping(const struct notify *n, struct err *err);
/* STATUS=; control bytes become blanks. */
int notify_status(const struct notify *n, const char *status, struct err *err);
int notify_watchdog(const struct notify *n, struct err *err);
/* How often to call notify_watchdog: half of what the manager allows; 0: not wanted. */
int64_t notify_watchdog_interval_ns(const struct notify *n);

#endif
