/*
 * host_id.h - 16 random bytes that stand for this host, kept in stateDir: who cloned a host removes that file. And 16
 * that stand for this run of its kernel.
 */
#ifndef FANSYNCD_CORE_HOST_ID_H
#define FANSYNCD_CORE_HOST_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "core/err.h"

#define HOST_ID_BYTES 16u
#define HOST_ID_TEXT (2u * HOST_ID_BYTES + 1)

/* Those of the directory; made when they are not there (or damaged). Returns 0 or -1. */
int host_id_get(const char *state_dir, unsigned char out[HOST_ID_BYTES], struct err *err);
/* The kernel's, of this boot (/proc/sys/kernel/random/boot_id); all zero where it can't be read. Never blocks. */
void host_boot_get(unsigned char out[HOST_ID_BYTES]);

static inline bool host_boot_known(const unsigned char boot[HOST_ID_BYTES])
{
	static const unsigned char unknown[HOST_ID_BYTES];

	return memcmp(boot, unknown, HOST_ID_BYTES) != 0;
}

/* Either of them in hexadecimal, with a NUL behind it. */
static inline void host_id_text(const unsigned char id[HOST_ID_BYTES], char out[HOST_ID_TEXT])
{
	for (size_t i = 0; i < HOST_ID_BYTES; i++)
		(void)snprintf(out + 2 * i, 3, "%02x", id[i]);
}

#endif
