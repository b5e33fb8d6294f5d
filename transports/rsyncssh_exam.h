/*
 * rsyncssh_exam.h - what `--doctor` finds out at a host that is reached over ssh: host key, login, directory, space,
 * clock, rsync. core/exam.h has the rules.
 */
#ifndef FANSYNCD_TRANSPORTS_RSYNCSSH_EXAM_H
#define FANSYNCD_TRANSPORTS_RSYNCSSH_EXAM_H

#include "core/exam.h"
#include "core/options.h"

/* transport.examine of "rsyncssh". */
void rsyncssh_examine(const struct sync_options *opt, struct exam *x);

#endif
