/*
 * doctor_private.h - the examinations of this host, for core/doctor.c alone.
 */
#ifndef FANSYNCD_CORE_DOCTOR_PRIVATE_H
#define FANSYNCD_CORE_DOCTOR_PRIVATE_H

#include "core/exam.h"
#include "core/options.h"

/* Capabilities, files of the daemon's own, clock. */
void doctor_host(const struct config *c, struct exam *x);
/* Whether a daemon answers at the control socket. */
bool doctor_is_running(const struct config *c);
/* Syncs that lead back to where they came from. */
void doctor_rings(const struct config *c, struct exam *x);
/* A source: there, readable, how it will be watched. */
void doctor_source(const struct config *c, size_t sync, struct exam *x);
void doctor_watcher(const struct config *c, size_t sync, struct exam *x);
/* A target that is a local directory. */
void doctor_local_target(const struct config *c, const struct sync_options *opt, struct exam *x);

/* Start the tunnel of a sync, for this examination alone; `running`: a daemon that runs has it as well. Returns whether
 * the target can be looked at through it, then with its port in *port (0: it has none). It ends with the examination.
 */
bool doctor_tunnel(const struct sync_options *opt, bool running, struct exam *x, uint16_t *port);

#endif
