/*
 * receiver_exam.h - what `--doctor` looks at in a receiver section: addresses, keys, modules. core/exam.h has the
 * rules.
 */
#ifndef FANSYNCD_TRANSPORTS_RECEIVER_EXAM_H
#define FANSYNCD_TRANSPORTS_RECEIVER_EXAM_H

#include <stdbool.h>

#include "core/exam.h"
#include "core/options.h"

/* `running`: a daemon runs on this configuration, so its addresses are taken. */
void receiver_examine(const struct receiver_options *opt, bool running, struct exam *x);

#endif
