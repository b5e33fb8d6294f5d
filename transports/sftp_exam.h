/*
 * sftp_exam.h - what `--doctor` finds out at an SFTP server: host key and login, directory, space, what it can do.
 * core/exam.h has the rules.
 */
#ifndef FANSYNCD_TRANSPORTS_SFTP_EXAM_H
#define FANSYNCD_TRANSPORTS_SFTP_EXAM_H

#include "core/exam.h"
#include "core/options.h"

/* transport.examine of "sftp". */
void sftp_examine(const struct sync_options *opt, struct exam *x);

#endif
