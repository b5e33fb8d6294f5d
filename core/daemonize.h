/*
 * daemonize.h - go into the background; the parent stays until the daemon is up or has failed.
 *
 * So that the exit status of `fansyncd CONFIG` tells the truth to whoever started it. Standard error stays open until
 * daemonize_ready: what goes wrong at the start is seen on the terminal.
 */
#ifndef FANSYNCD_CORE_DAEMONIZE_H
#define FANSYNCD_CORE_DAEMONIZE_H

#include "core/err.h"

struct daemonize {
	int ready_fd; /* -1: nobody waits */
};

#define DAEMONIZE_INIT                                                                                                 \
	{                                                                                                              \
		.ready_fd = -1                                                                                         \
	}

/*
 * Fork. Returns 0 in the daemon: a session of its own, in "/" (resolve relative paths before), standard input and
 * output /dev/null, no worker or descriptor of the loop may exist before. Returns 1 in the parent, after the daemon has
 * reported or died: main returns *exit_code. Returns -1 on failure, in whichever process it happened; the daemon's side
 * then passes the code that it exits with to daemonize_failed.
 */
int daemonize_start(struct daemonize *d, int *exit_code, struct err *err);
/* The daemon is up: standard error becomes /dev/null, the parent exits 0. Does nothing on DAEMONIZE_INIT. */
int daemonize_ready(struct daemonize *d, struct err *err);
/* It is not: the parent exits with `code`. */
void daemonize_failed(struct daemonize *d, int code);

#endif
