/*
 * identity.h - who the root of a tree is: a source's, a target's, a mount's.
 *
 * What counts: the inode, the kind of file system, and the file system's own number (statfs f_fsid). Where the kernel
 * also tells the file system's UUID (Linux 6.9; XFS always), two different ones are never the same; and where f_fsid is
 * only the device's number (XFS, FAT), which may be another after a reboot, an equal UUID stands for it. The device
 * number is noted for the administrator alone. So ext4, XFS and btrfs (each subvolume for itself) stay the same across
 * mounts and reboots; a tmpfs is another one after each mount; NFS and FUSE often have f_fsid 0: the inode and the kind
 * count, and requireMarker tells more.
 */
#ifndef FANSYNCD_CORE_IDENTITY_H
#define FANSYNCD_CORE_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"

#define IDENTITY_UUID 16

struct root_identity {
	uint64_t fsid, dev, ino, type;
	bool has_uuid;
	unsigned char uuid[IDENTITY_UUID];
};

/* Of an open directory. An O_PATH descriptor will do, without a UUID then. */
int identity_of_fd(int fd, struct root_identity *out, struct err *err);
bool identity_same(const struct root_identity *a, const struct root_identity *b);
/* As text, without a newline: "fsid 1f dev 2049 ino 2 type ef53 uuid -". */
bool identity_put(struct buf *out, const struct root_identity *id);
/* Read exactly that. false: it makes no sense. */
bool identity_get(const char *text, size_t len, struct root_identity *out);

#endif
