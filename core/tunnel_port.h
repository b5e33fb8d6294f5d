/*
 * tunnel_port.h - the local port of a tunnel: how the configuration names it, which one it is, and who listens there.
 */
#ifndef FANSYNCD_CORE_TUNNEL_PORT_H
#define FANSYNCD_CORE_TUNNEL_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/options.h"

/* It stands for the port in the keys that table.c marks so, anywhere in their text. */
#define TUNNEL_PORT_WORD "${port}"

bool tunnel_port_named(const char *text);
bool tunnel_port_named_in(const struct strlist *l);
/* The text with the port in its place, appended. */
bool tunnel_port_put(struct buf *out, const char *text, uint16_t port);
/* A command with the port in its place, to be freed by tunnel_port_free_argv. NULL: out of memory. */
char **tunnel_port_argv(const struct strlist *command, uint16_t port);
void tunnel_port_free_argv(char **argv);

/* A port that nobody holds on this host, as far as the kernel knows: another may take it before it is used. 0: there is
 * none. */
uint16_t tunnel_port_choose(struct err *err);
/* Whether a program could listen there now. */
bool tunnel_port_free(uint16_t port);

/* Who listens on a port of this host. */
struct port_listener {
	uint64_t inode; /* of its socket */
	uid_t uid;
};

/* Reads the lines of /proc/net/tcp or tcp6 as they come, in pieces of any size. Pure. */
struct port_scan {
	uint16_t port;
	bool over; /* behind the listening sockets, which come first */
	char line[256];
	size_t len;
	struct port_listener *out; /* of `max` */
	size_t n, max;
};
void port_scan_feed(struct port_scan *s, const char *data, size_t len);

/* What listens there on loopback or on all addresses; at most `max`. */
size_t tunnel_port_listeners(uint16_t port, struct port_listener *out, size_t max);
/* Whether one of them is held by process `pid` or by what it started. Where the kernel does not let us look at these
 * processes: whether it belongs to `uid`. */
bool tunnel_port_is_held(const struct port_listener *l, size_t n, pid_t pid, uid_t uid);

#endif
