/*
 * sftp_codec.h - packets of the SSH file transfer protocol, version 3 (draft-ietf-secsh-filexfer-02) and OpenSSH's
 * extensions to it: bytes to structs and back.
 *
 * Pure. Every length that a peer sends is checked against what is really there, every count against a ceiling. What is
 * decoded borrows from the packet. Names and messages are bytes: whoever shows them escapes them.
 */
#ifndef FANSYNCD_TRANSPORTS_SFTP_CODEC_H
#define FANSYNCD_TRANSPORTS_SFTP_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

/* The largest packet that is accepted, without its length field; OpenSSH's own limit is half of it. */
#define SFTP_PACKET_MAX (512u * 1024)
#define SFTP_HANDLE_MAX 256
#define SFTP_VERSION_OURS 3

enum sftp_type {
	SFTP_INIT = 1,
	SFTP_VERSION = 2,
	SFTP_OPEN = 3,
	SFTP_CLOSE = 4,
	SFTP_READ = 5,
	SFTP_WRITE = 6,
	SFTP_LSTAT = 7,
	SFTP_FSTAT = 8,
	SFTP_SETSTAT = 9,
	SFTP_FSETSTAT = 10,
	SFTP_OPENDIR = 11,
	SFTP_READDIR = 12,
	SFTP_REMOVE = 13,
	SFTP_MKDIR = 14,
	SFTP_RMDIR = 15,
	SFTP_REALPATH = 16,
	SFTP_STAT = 17,
	SFTP_RENAME = 18,
	SFTP_READLINK = 19,
	SFTP_SYMLINK = 20,
	SFTP_STATUS = 101,
	SFTP_HANDLE = 102,
	SFTP_DATA = 103,
	SFTP_NAME = 104,
	SFTP_ATTRS = 105,
	SFTP_EXTENDED = 200,
	SFTP_EXTENDED_REPLY = 201,
};

enum sftp_status {
	SFTP_OK = 0,
	SFTP_EOF = 1,
	SFTP_NO_SUCH_FILE = 2,
	SFTP_PERMISSION_DENIED = 3,
	SFTP_FAILURE = 4,
	SFTP_BAD_MESSAGE = 5,
	SFTP_NO_CONNECTION = 6,
	SFTP_CONNECTION_LOST = 7,
	SFTP_OP_UNSUPPORTED = 8,
};

enum sftp_attr_flag {
	SFTP_ATTR_SIZE = 1u << 0,
	SFTP_ATTR_UIDGID = 1u << 1,
	SFTP_ATTR_PERMISSIONS = 1u << 2,
	SFTP_ATTR_TIMES = 1u << 3,
	SFTP_ATTR_EXTENDED = 1u << 31,
};

/* Only what `flags` names is there. */
struct sftp_attrs {
	uint32_t flags;
	uint32_t uid, gid;
	uint32_t mode; /* with the type's bits */
	uint32_t atime, mtime;
	uint64_t size;
};

enum sftp_open_flag {
	SFTP_O_READ = 1u << 0,
	SFTP_O_WRITE = 1u << 1,
	SFTP_O_APPEND = 1u << 2,
	SFTP_O_CREAT = 1u << 3,
	SFTP_O_TRUNC = 1u << 4,
	SFTP_O_EXCL = 1u << 5,
};

/* Bytes that belong to somebody else. */
struct sftp_bytes {
	const char *p;
	size_t n;
};

/* ---- writing: each appends one whole packet ---- */

/* A failed append leaves the buffer `failed`, nothing of the packet is to be sent then. */
void sftp_put_init(struct buf *out);
/* Requests that name one path. */
void sftp_put_path(struct buf *out, enum sftp_type type, uint32_t id, struct sftp_bytes path);
/* RENAME (from, to) and SYMLINK. SYMLINK's order is OpenSSH's, which everybody copied: first the link's text, then its
 * name; the draft has it the other way round. */
void sftp_put_paths(struct buf *out, enum sftp_type type, uint32_t id, struct sftp_bytes a, struct sftp_bytes b);
/* Requests that name one handle: CLOSE, FSTAT, READDIR. */
void sftp_put_handle(struct buf *out, enum sftp_type type, uint32_t id, struct sftp_bytes handle);
void sftp_put_open(struct buf *out, uint32_t id, struct sftp_bytes path, uint32_t flags,
		   const struct sftp_attrs *attrs);
/* MKDIR, SETSTAT (a path) and FSETSTAT (a handle). */
void sftp_put_attrs(struct buf *out, enum sftp_type type, uint32_t id, struct sftp_bytes what,
		    const struct sftp_attrs *attrs);
void sftp_put_read(struct buf *out, uint32_t id, struct sftp_bytes handle, uint64_t offset, uint32_t len);
void sftp_put_write(struct buf *out, uint32_t id, struct sftp_bytes handle, uint64_t offset, struct sftp_bytes data);
/* The bytes of a WRITE that are not its data. */
size_t sftp_write_overhead(size_t handle_len);

/* OpenSSH's extensions. */
void sftp_put_ext_paths(struct buf *out, uint32_t id, const char *name, struct sftp_bytes a, struct sftp_bytes b);
void sftp_put_ext_string(struct buf *out, uint32_t id, const char *name, struct sftp_bytes what);
void sftp_put_ext_attrs(struct buf *out, uint32_t id, const char *name, struct sftp_bytes path,
			const struct sftp_attrs *attrs);
void sftp_put_ext(struct buf *out, uint32_t id, const char *name);

/* ---- reading ---- */

enum sftp_extension {
	SFTP_EXT_POSIX_RENAME = 1u << 0, /* posix-rename@openssh.com 1 */
	SFTP_EXT_HARDLINK = 1u << 1,	 /* hardlink@openssh.com 1 */
	SFTP_EXT_STATVFS = 1u << 3,	 /* statvfs@openssh.com 2 */
	SFTP_EXT_LSETSTAT = 1u << 4,	 /* lsetstat@openssh.com 1 */
	SFTP_EXT_LIMITS = 1u << 5,	 /* limits@openssh.com 1 */
};

/* The name that a request uses; NULL for several or none. */
const char *sftp_extension_name(enum sftp_extension e);
/* What a server lacks that would keep a name there while another entry takes its place: an extension's name; NULL:
 * nothing. `aside`: what is replaced is kept elsewhere. */
const char *sftp_lacks_replacing(unsigned extensions, bool aside);

struct sftp_version {
	uint32_t version;
	unsigned extensions; /* enum sftp_extension */
};

/* A reply as it is, without what is in it. */
struct sftp_packet {
	uint8_t type;
	uint32_t id; /* of VERSION: its version */
	struct reader body;
};

struct sftp_status_reply {
	uint32_t code;
	struct sftp_bytes message; /* empty when the server gave none */
};

#define SFTP_STATVFS_READ_ONLY 1u /* in `flag` */
struct sftp_statvfs {
	uint64_t bsize, frsize, blocks, bfree, bavail, files, ffree, favail, fsid, flag, namemax;
};

struct sftp_limits {
	uint64_t packet, read, write, handles; /* 0: not known */
};

/* The first packet of `data`. Returns its whole length, 0 while it is not complete, -1 when it can't be one: nothing
 * behind it makes sense then. */
long sftp_packet(const char *data, size_t n, struct sftp_packet *out);

/* Each returns false when the body is malformed. Trailing bytes are allowed, as later versions append some. */
bool sftp_get_version(struct sftp_packet *p, struct sftp_version *out);
bool sftp_get_status(struct sftp_packet *p, struct sftp_status_reply *out);
bool sftp_get_handle(struct sftp_packet *p, struct sftp_bytes *out); /* 1 to SFTP_HANDLE_MAX bytes */
bool sftp_get_data(struct sftp_packet *p, struct sftp_bytes *out);
bool sftp_get_attrs(struct sftp_packet *p, struct sftp_attrs *out);
bool sftp_get_statvfs(struct sftp_packet *p, struct sftp_statvfs *out);
bool sftp_get_limits(struct sftp_packet *p, struct sftp_limits *out);
/* NAME: the count, which the rest of the packet has room for; then that many entries. */
bool sftp_get_names(struct sftp_packet *p, uint32_t *count);
bool sftp_get_name(struct sftp_packet *p, struct sftp_bytes *name, struct sftp_attrs *attrs);

/* The words for a status code, in English. */
const char *sftp_status_name(uint32_t code);

#endif
