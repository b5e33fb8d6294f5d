/*
 * sftp_ops.h - the file operations of the mirroring engine (fileops.h) over an SFTP connection.
 *
 * The engine's calls become requests that leave at once, many together; what has to wait waits for itself alone. SFTP
 * has no handles of directories, so a symlink that somebody put in the place of a directory is looked for: no
 * operation is started before each directory above its name was seen to be one since the work began. (Who writes to
 * the target at that very moment can still win that race: the protocol has no means against it.)
 */
#ifndef FANSYNCD_TRANSPORTS_SFTP_OPS_H
#define FANSYNCD_TRANSPORTS_SFTP_OPS_H

#include <stdint.h>

#include "core/err.h"
#include "core/loop.h"
#include "transports/fileops.h"
#include "transports/sftp_client.h"

struct sftp_ops;

/* The table; its `end` is a struct sftp_ops. */
extern const struct fileops sftp_fileops;

/* `tag` for names of temp_name.h. NULL when out of memory. */
struct sftp_ops *sftp_ops_new(struct loop *loop, uint32_t tag, struct err *err);
/* The connection that operations use from now on, and the target's directory there; NULL: there is none, what is
 * pending is forgotten without callbacks. The client is borrowed. */
int sftp_ops_connect(struct sftp_ops *o, struct sftp_client *client, const char *base, struct err *err);
/* Connections beside it, for files. */
#define SFTP_MORE_MAX 7u
/* One of them is ready; borrowed until sftp_ops_connect. */
void sftp_ops_add(struct sftp_ops *o, struct sftp_client *client);
/* The server's LSTAT follows symlinks, which it must not: they can't be mirrored, and are looked for by READLINK. */
void sftp_ops_follows(struct sftp_ops *o);
/* enum fileops_cap of the connection. */
unsigned sftp_ops_caps(const struct sftp_ops *o);
/* To be called when a client has room again. */
void sftp_ops_room(struct sftp_ops *o);
void sftp_ops_free(struct sftp_ops *o);

#endif
