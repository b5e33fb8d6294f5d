/*
 * rsync_exam.h - what the transports rsync and rsyncssh have examined by `--doctor`: the rsync here, and whether one at
 * the target would take what is sent. core/exam.h has the rules.
 */
#ifndef FANSYNCD_TRANSPORTS_RSYNC_EXAM_H
#define FANSYNCD_TRANSPORTS_RSYNC_EXAM_H

#include <stdbool.h>

#include "core/exam.h"
#include "core/options.h"
#include "transports/rsync_args.h"

/* transport.examine of "rsync". */
void rsync_examine(const struct sync_options *opt, struct exam *x);

/* Whether rsync is here, and new enough. */
bool rsync_exam_here(const struct sync_options *opt, struct exam *x);
/* A dry run without any file: it goes as far as a real one would. */
void rsync_exam_there(const struct sync_options *opt, const struct rsync_job *job, struct exam *x);
/* The version in what `rsync --version` says, as major * 10000 + minor * 100 + patch; 0: there is none. */
unsigned rsync_exam_version(const char *said);

#endif
