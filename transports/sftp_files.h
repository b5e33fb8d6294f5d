/*
 * sftp_files.h - the small local files of a connection: known_hosts, private keys, secrets. Blocks on the local disk.
 */
#ifndef FANSYNCD_TRANSPORTS_SFTP_FILES_H
#define FANSYNCD_TRANSPORTS_SFTP_FILES_H

#include <stddef.h>

#include "core/buf.h"
#include "core/err.h"

#define SFTP_SECRET_MAX 1024

/* "~/x" with the home directory of who runs this; malloc'ed. NULL: out of memory, or no home. */
char *sftp_expand_home(const char *path);
/* A regular file of at most `max` bytes into `out`, which may hold one byte more. */
int sftp_public_read(const char *path, size_t max, struct buf *out, struct err *err);
/* The same, if only its owner can read it, who is us or root. */
int sftp_private_read(const char *path, size_t max, struct buf *out, struct err *err);
/* A file that holds a secret, private like that; or "credential:NAME", one of systemd's. Its line's end is taken off.
 */
int sftp_secret_read(const char *name, struct buf *out, struct err *err);

#endif
