/*
 * host_id.h - 16 random bytes that stand for this host, kept in stateDir: who cloned a host removes that file. And 16
 * that stand for this run of its kernel.
 */
#ifndef FANSYNCD_CORE_HOST_ID_H
#define FANSYNCD_CORE_HOST_ID_H

#include "core/err.h"

#define HOST_ID_BYTES 16u

/* Those of the directory; made when they are not there (or damaged). Returns 0 or -1. */
int host_id_get(const char *state_dir, unsigned char out[HOST_ID_BYTES], struct err *err);
/* The kernel's, of this boot (/proc/sys/kernel/random/boot_id); all zero where it can't be read. Never blocks. */
void host_boot_get(unsigned char out[HOST_ID_BYTES]);

#endif
