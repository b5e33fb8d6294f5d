/*
 * receiver_store.h - the file operations of a receiver's target: those of a local tree, but that a file's content comes
 * over the connection (receiver_source.h) and is checked against the sender's digest before it is taken for whole.
 */
#ifndef FANSYNCD_TRANSPORTS_RECEIVER_STORE_H
#define FANSYNCD_TRANSPORTS_RECEIVER_STORE_H

#include <stdbool.h>

#include "transports/fileops.h"

/* The table, to be used with a struct local_tree. `synced`: each file is on disk before it gets its name. */
void receiver_fileops(struct fileops *out, bool synced);

#endif
