#include "core/identity.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/ioctl.h>
#include <linux/types.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* <linux/fs.h> has it since 6.9. */
struct fs_uuid {
	__u8 len;
	__u8 uuid[16];
};
#define GET_FS_UUID _IOR(0x15, 0, struct fs_uuid)

/* XFS has told its own for ever: struct xfs_fsop_geom_v1 of <xfs/xfs_fs.h>. */
struct xfs_geometry {
	__u32 sizes[8];
	__u64 blocks[4];
	unsigned char uuid[16];
	__u32 rest[8];
};
#define XFS_GEOMETRY _IOR('X', 100, struct xfs_geometry)
_Static_assert(sizeof(struct xfs_geometry) == 128 - 16, "the size is part of the number");
#define XFS_TYPE 0x58465342u

static bool uuid_of_fd(int fd, uint64_t type, unsigned char out[IDENTITY_UUID])
{
	struct fs_uuid u = { 0 };
	struct xfs_geometry g = { { 0 }, { 0 }, { 0 }, { 0 } };

	if (ioctl(fd, GET_FS_UUID, &u) == 0 && u.len == IDENTITY_UUID) {
		memcpy(out, u.uuid, IDENTITY_UUID);
		return true;
	}
	if (type != XFS_TYPE || ioctl(fd, XFS_GEOMETRY, &g) < 0)
		return false;
	memcpy(out, g.uuid, IDENTITY_UUID);
	return true;
}

int identity_of_fd(int fd, struct root_identity *out, struct err *err)
{
	struct statfs fs;
	struct stat st;
	uint32_t id[2];

	if (fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0)
		return err_errno(err, errno, "cannot look at a root");
	memcpy(id, &fs.f_fsid, sizeof(id));
	*out = (struct root_identity){
		.fsid = (uint64_t)id[0] << 32 | id[1],
		.dev = st.st_dev,
		.ino = st.st_ino,
		.type = (uint64_t)fs.f_type,
	};
	out->has_uuid = uuid_of_fd(fd, out->type, out->uuid);
	return 0;
}

/* Whether the file system's number is only its device's: the first word of f_fsid is the low one. */
static bool is_device_number(const struct root_identity *a)
{
	return a->fsid == a->dev << 32;
}

bool identity_same(const struct root_identity *a, const struct root_identity *b)
{
	bool uuids = a->has_uuid && b->has_uuid, uuid_same = uuids && memcmp(a->uuid, b->uuid, IDENTITY_UUID) == 0;

	if (a->ino != b->ino || a->type != b->type || (uuids && !uuid_same))
		return false;
	return a->fsid == b->fsid || (uuid_same && is_device_number(a) && is_device_number(b));
}

bool identity_put(struct buf *out, const struct root_identity *id)
{
	(void)buf_printf(out, "fsid %" PRIx64 " dev %" PRIu64 " ino %" PRIu64 " type %" PRIx64 " uuid ", id->fsid,
			 id->dev, id->ino, id->type);
	for (size_t i = 0; id->has_uuid && i < IDENTITY_UUID; i++)
		(void)buf_printf(out, "%02x", id->uuid[i]);
	return id->has_uuid ? !out->failed : buf_add_byte(out, '-');
}

static bool get_uuid(const char *text, struct root_identity *out)
{
	static const char digits[] = "0123456789abcdef";

	if (text[0] == '-')
		return true;
	for (size_t i = 0; i < IDENTITY_UUID; i++) {
		const char *high = text[2 * i] == '\0' ? NULL : strchr(digits, text[2 * i]);
		const char *low = high == NULL || text[2 * i + 1] == '\0' ? NULL : strchr(digits, text[2 * i + 1]);

		if (low == NULL)
			return false;
		out->uuid[i] = (unsigned char)((high - digits) * 16 + (low - digits));
	}
	out->has_uuid = true;
	return true;
}

bool identity_get(const char *text, size_t len, struct root_identity *out)
{
	char line[256], uuid[64];
	struct buf again;
	bool same;

	*out = (struct root_identity){ 0 };
	if (len >= sizeof(line))
		return false;
	memcpy(line, text, len);
	line[len] = '\0';
	/* NOLINTNEXTLINE(cert-err34-c): what is not exactly as we write it is refused below */
	if (sscanf(line, "fsid %" SCNx64 " dev %" SCNu64 " ino %" SCNu64 " type %" SCNx64 " uuid %63s", &out->fsid,
		   &out->dev, &out->ino, &out->type, uuid) != 5 ||
	    !get_uuid(uuid, out))
		return false;
	buf_init(&again, 1024);
	same = identity_put(&again, out) && again.len == len && memcmp(again.data, text, len) == 0;
	buf_done(&again);
	return same;
}
