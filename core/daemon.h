/*
 * daemon.h - the daemon: sources and their watchers, syncs and their workers, control socket, signals, reload, stop.
 *
 * One process, one loop, one thread. `--sync-now` without a running daemon and `-onepass` are the same program without
 * watchers and control socket, which ends when every sync was compared once.
 */
#ifndef FANSYNCD_CORE_DAEMON_H
#define FANSYNCD_CORE_DAEMON_H

#include <stdbool.h>

#include "core/buf.h"
#include "core/daemonize.h"
#include "core/err.h"
#include "core/options.h"

/* The composition root's part: what config/ does. */
struct daemon_deps {
	/* Read the configuration anew, for a reload: NULL when it has errors, which were logged one by one. */
	struct config *(*load)(void *ctx);
	void (*unload)(struct config *c);
	/* What a worker of sync `index` needs to know. */
	int (*text_of)(const struct config *c, size_t index, uint16_t tunnel_port, struct buf *out);
	bool (*same_sync)(const struct sync_options *a, const struct sync_options *b);
	/* The same of the receiver section. */
	int (*receiver_text_of)(const struct config *c, struct buf *out);
	bool (*same_receiver)(const struct receiver_options *a, const struct receiver_options *b);
	bool (*same_metrics)(const struct metrics_options *a, const struct metrics_options *b);
	/* Log sinks and categories of these settings (the command line's included). */
	int (*open_log)(void *ctx, const struct settings *s, struct err *err);
	void *ctx;
};

struct daemon_options {
	struct daemonize *daemonize; /* told when everything is up; NULL in the foreground */
	bool once;		     /* compare every sync once, then end: 0 when all targets are equal */
	/* once, only: */
	bool allow_delete, quiet, json;
	const struct strlist *only; /* names; NULL or empty: all */
	size_t n_listen;	    /* sockets of the service manager for the receiver (core/listen_fds.h) */
};

/* Run until a signal or, with `once`, until it is done. Takes over `config` (freed by deps->unload). Returns the exit
 * code; the reason of a failure has been logged. */
int daemon_run(struct config *config, const struct daemon_deps *deps, const struct daemon_options *options);

#endif
