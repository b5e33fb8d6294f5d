/*
 * fileops.h - the file operations that the mirroring engine (mirror.h) is written against.
 *
 * One table (struct fileops) is one way to reach a tree: local directories (local_files.h), SFTP, a peer's stream. The
 * engine holds two ends, source and target, and calls the upper half of the table on both, the lower half on the
 * target only. Every rule about order, temp files, types and attributes is the engine's: an implementation does what a
 * call says and nothing more, and never decides to retry.
 *
 * Names. Paths are relative to the end's root as in core/path.h: any bytes but NUL, no "." or "..", up to
 * PATH_BYTES_MAX, "" is the root itself. They are borrowed for the duration of the call only: an implementation that
 * needs one later copies it. An implementation never follows a symlink in any component where it can prevent that, and
 * never leaves its root. It may keep directories open between calls, but drops what lies at or below a name that it
 * renames or removes, and everything at `idle`.
 *
 * Completion. A call returns FILEOPS_PENDING, and later, from the loop and never from within a call, `op->done(op)` is
 * called once with op->result set; or it returns the result itself and `done` is not called: what can be answered
 * at once costs nothing extra. The op and what its arguments point to (attributes, source file, throttle; not
 * paths) belong to the caller and stay valid until then. From `done` any other operation may be started.
 *
 * Order. An operation sees the effects of all operations that were *started* before it on the same end and that touch
 * the same name, a name above it, or the same open file, whether these have completed or not: the engine starts mkdir,
 * then create below that directory, then further operations, without waiting for replies, wherever a failure of
 * the first can do no more than make the later ones fail. Where a later operation must not happen unless the earlier
 * one succeeded (rename after store) the engine waits. Completions may come in any order. One ordered connection gives
 * this by itself; an end with several must keep what is related on one of them, or hold it back.
 *
 * Failure. On FILEOPS_DOWN the end is unusable: all that is pending is given up without further callbacks, and the
 * transport calls mirror_down(), from the loop. All other failures concern one operation; `op->err` then holds the
 * class and the words for the administrator (the server's own, with the operation; the engine knows the path), and only
 * then: nobody clears it before.
 *
 * Bounds. The engine keeps at most `width` items under way, each with a handful of operations, and at most one
 * listing an item.
 */
#ifndef FANSYNCD_TRANSPORTS_FILEOPS_H
#define FANSYNCD_TRANSPORTS_FILEOPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "core/err.h"
#include "core/twoway.h"
#include "transports/throttle.h"

enum fileops_result {
	FILEOPS_OK = 0,
	FILEOPS_PENDING,  /* `done` follows */
	FILEOPS_GONE,	  /* the name, or a directory above it, is not there */
	FILEOPS_EXISTS,	  /* something of that name is there */
	FILEOPS_NOTEMPTY, /* rmdir, or rename onto a directory */
	FILEOPS_TYPE,	  /* a directory where none is wanted or the reverse; a symlink in the way */
	FILEOPS_DENIED,	  /* permission: EACCES, EPERM */
	FILEOPS_TOOLONG,  /* the name is too long for that file system */
	FILEOPS_UNABLE,	  /* that end cannot do this at all (no such extension, not that kind of file) */
	FILEOPS_FAILED,	  /* anything else, disk full included: see op->err. Targets that tell no more than "failure"
			     (SFTP) say this for EXISTS, NOTEMPTY, TYPE and TOOLONG, too: the engine then looks */
	FILEOPS_DOWN,	  /* the connection is over */
	FILEOPS_RESULTS
};

/* Facts about an end, constant while a work is under way. */
enum fileops_cap {
	FILEOPS_CTIME = 1u << 0,      /* st_ctim is there (of a source 0: not told), by the clock of that end */
	FILEOPS_INODES = 1u << 1,     /* st_dev, st_ino and st_nlink are there */
	FILEOPS_LINKS = 1u << 2,      /* link() may work */
	FILEOPS_NODES = 1u << 3,      /* node() may work */
	FILEOPS_XATTRS = 1u << 4,     /* xattrs and ACLs can be read and set */
	FILEOPS_LINK_ATTRS = 1u << 5, /* a symlink's own owner and times can be set */
	FILEOPS_OWNERS = 1u << 6,     /* st_uid and st_gid of looks and listings mean something and may be set */
	FILEOPS_BASE = 1u << 8,	      /* a source's open makes use of a `base` */
	FILEOPS_CHECKED = 1u << 9,    /* a target's store compares a digest of the whole with the source's */
	FILEOPS_RESUME = 1u << 7,     /* what a cut connection left of a file is worth going on with: see `unsure` */
	FILEOPS_SAME = 1u << 10,      /* a source's list_unless can be asked */
};

/* An open file. Filled in by open or create; the engine keeps it by value and looks at nothing but fd. */
struct fileops_file {
	int fd;	    /* a local descriptor, or -1 */
	void *impl; /* the implementation's own, or NULL */
};

enum fileops_attr {
	FILEOPS_OWNER = 1u << 0,
	FILEOPS_GROUP = 1u << 1,
	FILEOPS_MODE = 1u << 2, /* the twelve bits */
	FILEOPS_MTIME = 1u << 3,
	FILEOPS_XATTR = 1u << 4, /* all of `xattr_kinds` become those of `xattrs` */
	FILEOPS_ATTRS = 31u,
};

/* Applied in this order: owner and group (together, first: it clears set-id bits and capabilities), extended attributes
 * other than ACLs, mode, ACLs, mtime (last; the atime stays or becomes now, whatever is cheaper). */
struct fileops_attrs {
	unsigned mask; /* enum fileops_attr */
	mode_t type;   /* S_IFMT of what it is; mode and, without LINK_ATTRS, all else are skipped for S_IFLNK */
	bool one_name; /* it is not to have further names (INODES) */
	uid_t uid;
	gid_t gid;
	mode_t mode;
	struct timespec mtime;
	unsigned xattr_kinds; /* enum fileops_xattr_kind */
	const char *xattrs;   /* as fileops.xattrs gives them */
	size_t xattrs_len;
};

enum fileops_xattr_kind {
	FILEOPS_XATTR_PLAIN = 1u << 0, /* user.*, and security.* and trusted.* as far as the process may */
	FILEOPS_XATTR_ACL = 1u << 1,   /* system.posix_acl_* */
};

struct fileops_entry {
	const char *name; /* NUL-terminated, but use len */
	size_t len;
	/* As lstat tells it; st_mode 0: it is there but could not be looked at. SFTP: size, ids, mode, mtime; the rest
	 * 0. */
	struct stat st;
	/* Both ways, of a source whose archive is not at hand: what is archived of it, in the listing's blocks; NULL:
	 * not told. With st_mode 0: it is gone from the source, and archived. */
	const struct twoway_state *agreed;
};

/* Sorted by the bytes of the names, shorter first (memcmp order). One allocation tree, freed by listing_free. */
struct listing {
	struct fileops_entry *v;
	size_t n, cap;
	struct listing_block *blocks; /* the names; see listing.h */
};

/* What the engine wants of a listing. `keep` is asked for each entry before it is looked at or stored (excluded names
 * cost nothing more); "." and ".." never come. It must not start operations. */
struct fileops_wish {
	bool (*keep)(void *ctx, const char *name, size_t len, bool is_dir);
	void *ctx;
};

/* What `store` does. */
struct fileops_store {
	struct fileops_file *from; /* opened by the source's `open`; from->fd is a local descriptor unless the transport
				      knows better */
	uint64_t offset;	   /* where to begin, in both files: what is before stands there already, as far as is
				      known. An end that finds out that it does not says FAILED, ERR_AGAIN */
	uint64_t size;		   /* where to end; the source may turn out shorter, then there */
	bool sparse;		   /* leave holes where the source has them */
	struct throttle *throttle; /* NULL: as fast as it goes */
	const struct fileops_attrs *attrs;
};

struct fileop {
	void (*done)(struct fileop *op);
	void *owner; /* the caller's */
	enum fileops_result result;
	/* Results, each set by the calls that say so. */
	struct stat st;
	struct fileops_file file;
	struct listing list;
	bool same;   /* list_unless */
	char *bytes; /* malloc'ed, the caller's */
	size_t n_bytes;
	unsigned char digest[16];
	uint64_t copied;	    /* store: where in the file it is, at its end how long that is; kept current */
	struct twoway_state agreed; /* mirror_agreed.get */
	unsigned unmet; /* attrs, store: enum fileops_attr that this end may not or cannot set; not a failure */
	bool refused;	/* attrs, store: an extended attribute of this entry, not of all; nor a failure */
	struct err err;
	/* The implementation's own while the operation is pending. */
	void *impl;
};

/* NULL for a call that an end never needs (a source end: all of the second half; sftp without an extension: UNABLE). */
struct fileops {
	/* ---- both ends ---- */

	/* lstat into op->st. */
	enum fileops_result (*look)(void *end, struct fileop *op, const char *path, size_t len);
	/* All entries of a directory into op->list (on OK only; a partial listing is a failure, since what is missing
	 * in it would be deleted). An entry that vanishes meanwhile is left out. */
	enum fileops_result (*list)(void *end, struct fileop *op, const char *path, size_t len,
				    const struct fileops_wish *wish);
	/* A symlink's text into op->bytes. */
	enum fileops_result (*readlink)(void *end, struct fileop *op, const char *path, size_t len);
	/* Extended attributes of the kinds into op->bytes, in a form that is equal byte for byte when they are equal:
	 * sorted by name, each u32 length of name, name, u32 length of value, value (little endian). Needs
	 * FILEOPS_XATTRS. */
	enum fileops_result (*xattrs)(void *end, struct fileop *op, const char *path, size_t len, unsigned kinds);
	/* XXH3 128 (canonical form) of the whole content of a regular file into op->digest, its size into op->copied.
	 */
	enum fileops_result (*digest)(void *end, struct fileop *op, const char *path, size_t len);
	/* Open a regular file for reading: op->file, and op->st of what was opened. Anything else: TYPE. `base`: an
	 * open file of the target with the content that is to be replaced, which a stream may send a difference to, or
	 * NULL. */
	enum fileops_result (*open)(void *end, struct fileop *op, const char *path, size_t len,
				    const struct fileops_file *base);
	/* op->st of the open file, now. */
	enum fileops_result (*restat)(void *end, struct fileop *op, const struct fileops_file *file);
	/* Close a file that open or create gave (and that no store has taken). Nobody waits for it. */
	void (*drop)(void *end, struct fileops_file *file);

	/* ---- the source ---- */

	/* As list; but where `digest` is that of the listing in `fields` (mirror_alike.h) op->same is set, and op->list
	 * stays empty. Entries have no ctime. Needs FILEOPS_SAME. */
	enum fileops_result (*list_unless)(void *end, struct fileop *op, const char *path, size_t len,
					   const struct fileops_wish *wish, unsigned fields,
					   const unsigned char *digest);

	/* ---- the target ---- */

	/* Make a file, mode 0600, for writing: op->file. Nothing of that name may be there (O_EXCL). With `resume`
	 * (FILEOPS_RESUME) one that is there is opened as it is; op->st tells its size, 0 of a new one. */
	enum fileops_result (*create)(void *end, struct fileop *op, const char *path, size_t len, bool resume);
	/* Content, then attributes, then close, of a file that create gave: the file is the implementation's from now
	 * on and closed whatever the result. On FAILED and the like the caller removes it. Large files are carried bit
	 * by bit from the loop: no call blocks for long, op->copied moves. A failure to read the source sets ERR_IO
	 * with `source` in its text and is FAILED as well. */
	enum fileops_result (*store)(void *end, struct fileop *op, struct fileops_file *file,
				     const struct fileops_store *what);
	/* Set attributes by name; with the mtime the atime, too, so that the kernel there tells of a change. GONE where
	 * it is seen to be something else than `type` and `one_name` say: all of them go to one file, or none. */
	enum fileops_result (*attrs)(void *end, struct fileop *op, const char *path, size_t len,
				     const struct fileops_attrs *attrs);
	/* Mode 0700. */
	enum fileops_result (*mkdir)(void *end, struct fileop *op, const char *path, size_t len);
	enum fileops_result (*symlink)(void *end, struct fileop *op, const char *path, size_t len, const char *text,
				       size_t text_len);
	/* A FIFO, socket or device: mode (its type) and rdev of `st`; permissions 0600. */
	enum fileops_result (*node)(void *end, struct fileop *op, const char *path, size_t len, const struct stat *st);
	/* A further name `to` for the file `from`. */
	enum fileops_result (*link)(void *end, struct fileop *op, const char *from, size_t from_len, const char *to,
				    size_t to_len);
	/* rename(2): replaces a file, symlink or node (or an empty directory by a directory) at `to`, atomically where
	 * that end can; where it cannot, by putting the old one away under a name of temp_name.h, and back when the
	 * second step fails. Two names of one file: nothing happens, both stay. `keep`: EXISTS (or FAILED) rather than
	 * replace, where that can be had; else as without. */
	enum fileops_result (*rename)(void *end, struct fileop *op, const char *from, size_t from_len, const char *to,
				      size_t to_len, bool keep);
	/* Remove anything but a directory. */
	enum fileops_result (*unlink)(void *end, struct fileop *op, const char *path, size_t len);
	/* Remove an empty directory. */
	enum fileops_result (*rmdir)(void *end, struct fileop *op, const char *path, size_t len);

	/* ---- both, may be NULL ---- */

	/* The engine has started all that it can: what was gathered in buffers may go out. Called at the end of a
	 * round. */
	void (*flush)(void *end);
	/* A work is over: forget open directories and the like; others may change them before the next. */
	void (*idle)(void *end);
};

struct fileops_end {
	const struct fileops *ops;
	void *ctx;
	unsigned caps;	 /* enum fileops_cap; set before a work is started */
	int64_t tick_ns; /* resolution at which it keeps mtimes, rounded down: 1, or 1000000000 for whole seconds */
	/* RESUME: of what a cut connection left so many bytes at the end may be wrong or missing in between; all before
	 * stands as it was sent. */
	uint64_t unsure;
	bool own_only; /* what is made there belongs to who makes it, and can't be given to others */
};

#endif
