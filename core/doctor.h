/*
 * doctor.h - `--doctor`: what usually goes wrong is looked for, on this host and at each target, and the remedy told.
 *
 * Nothing is changed. Each examination is a child process with a time limit; a few run at a time, findings come out in
 * the order of the configuration.
 */
#ifndef FANSYNCD_CORE_DOCTOR_H
#define FANSYNCD_CORE_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "core/exam.h"
#include "core/options.h"

struct doctor_options {
	const struct strlist *errors; /* of the configuration, "file:line: text" each: failures; may be NULL */
	const struct strlist *only;   /* names of the syncs to look at; may be NULL or empty: all, and all else */
	bool json;
	int64_t limit_ns; /* for all of it */
	/* The configuration of sync `i` alone, as a worker gets it with its tunnel at this port; NULL on failure. */
	struct config *(*with_tunnel)(const struct config *c, size_t i, uint16_t port, struct err *err);
	/* The receiver's part; `running`: a daemon runs on this configuration. */
	void (*examine_receiver)(const struct receiver_options *opt, bool running, struct exam *x);
};

/* Prints to standard output. 0: no failure, 1: some, -1 with *err: it could not be done. `c` may be NULL when it has
 * errors: they are all that is told then. */
int doctor_run(const struct config *c, const struct doctor_options *o, struct err *err);

#endif
