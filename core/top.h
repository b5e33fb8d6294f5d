/*
 * top.h - `fansyncd --top`: all syncs in a terminal, again and again; in a pipe once, or every `interval`.
 */
#ifndef FANSYNCD_CORE_TOP_H
#define FANSYNCD_CORE_TOP_H

#include <stdint.h>

#include "core/err.h"

struct top_options {
	const char *socket;  /* the daemon's */
	int64_t interval_ns; /* 0: a second on a terminal, and once elsewhere */
};

/* Runs until the user has seen enough. Returns the exit code; -1 with *err: the daemon does not answer, or there is no
 * terminal to write to. */
int top_run(const struct top_options *o, struct err *err);

#endif
