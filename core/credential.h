/*
 * credential.h - secrets that systemd hands to the service: files in $CREDENTIALS_DIRECTORY, which the configuration
 * calls "credential:NAME".
 *
 * With User= such a file may be root's with mode 0440 and an access control list for that account: its group bits are
 * the list's mask, and let nobody else in.
 */
#ifndef FANSYNCD_CORE_CREDENTIAL_H
#define FANSYNCD_CORE_CREDENTIAL_H

#include <stdbool.h>
#include <sys/types.h>

/* What a mode must not hold, for a secret of this path: 077, and 07 in systemd's directory. */
mode_t credential_open_bits(const char *path);
/* Whether it is a "credential:NAME" that only the service gets to see, which this process is not part of. NULL: no. */
bool credential_elsewhere(const char *path);

#endif
