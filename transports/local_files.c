#include "transports/local_files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/clock.h"
#include "transports/listing.h"
#include "transports/local_private.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

/* ---- failures ---- */

static const struct {
	int code;
	enum fileops_result result;
} results[] = {
	{ ENOENT, FILEOPS_GONE },	   { ENOTDIR, FILEOPS_GONE },	   { EEXIST, FILEOPS_EXISTS },
	{ ENOTEMPTY, FILEOPS_NOTEMPTY },   { ELOOP, FILEOPS_TYPE },	   { EISDIR, FILEOPS_TYPE },
	{ EXDEV, FILEOPS_TYPE },	   { EACCES, FILEOPS_DENIED },	   { EPERM, FILEOPS_DENIED },
	{ ENAMETOOLONG, FILEOPS_TOOLONG }, { EOPNOTSUPP, FILEOPS_UNABLE }, { ENOSYS, FILEOPS_UNABLE },
};

enum fileops_result local_result(int code)
{
	for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++)
		if (results[i].code == code)
			return results[i].result;
	return FILEOPS_FAILED;
}

enum fileops_result local_failed(struct fileop *op, int code, const char *what)
{
	(void)err_errno(&op->err, code, "%s", what);
	return local_result(code);
}

/* Of two names: what one of them is does not go with the other. */
static enum fileops_result two_failed(struct fileop *op, int code, const char *what)
{
	enum fileops_result r = local_failed(op, code, what);

	return code == ENOTDIR ? FILEOPS_TYPE : code == EXDEV ? FILEOPS_FAILED : r;
}

enum fileops_result local_at(struct local_tree *t, struct fileop *op, const char *path, size_t len,
			     struct local_name *out, const char *what)
{
	size_t base = path_base(path, len), n = len - base;
	struct local_dir *dir;

	out->dir = &t->dirs.root;
	if (len == 0) {
		memcpy(out->name, ".", 2);
		return FILEOPS_OK;
	}
	if (n > NAME_BYTES_MAX)
		return local_failed(op, ENAMETOOLONG, what);
	dir = local_dirs_get(&t->dirs, path, base == 0 ? 0 : base - 1, false);
	if (dir == NULL)
		return local_failed(op, errno == ELOOP ? ENOTDIR : errno, what);
	out->dir = dir;
	memcpy(out->name, path + base, n);
	out->name[n] = '\0';
	return FILEOPS_OK;
}

/* ---- reading ---- */

static enum fileops_result do_look(void *end, struct fileop *op, const char *path, size_t len)
{
	struct local_name at;
	enum fileops_result r = local_at(end, op, path, len, &at, "look");

	if (r == FILEOPS_OK && fstatat(at.dir->fd, at.name, &op->st, AT_SYMLINK_NOFOLLOW) < 0)
		return local_failed(op, errno, "look");
	return r;
}

static enum fileops_result do_list(void *end, struct fileop *op, const char *path, size_t len,
				   const struct fileops_wish *wish)
{
	struct local_tree *t = end;
	struct local_dir *dir = local_dirs_get(&t->dirs, path, len, true);

	if (dir == NULL || (dir->moved && lseek(dir->fd, 0, SEEK_SET) < 0))
		return local_failed(op, errno, "opendir");
	dir->moved = true;
	return local_list(dir->fd, t->buffer, LOCAL_LIST_BUFFER, &op->list, wish) < 0
		       ? local_failed(op, errno, "readdir")
		       : FILEOPS_OK;
}

static enum fileops_result do_readlink(void *end, struct fileop *op, const char *path, size_t len)
{
	struct local_name at;
	enum fileops_result r = local_at(end, op, path, len, &at, "readlink");
	char text[4097];
	ssize_t n;

	if (r != FILEOPS_OK)
		return r;
	n = readlinkat(at.dir->fd, at.name, text, sizeof(text));
	if (n < 0) {
		r = local_failed(op, errno, "readlink");
		return op->err.code == EINVAL ? FILEOPS_TYPE : r;
	}
	op->bytes = malloc((size_t)n + 1);
	if (op->bytes == NULL)
		return local_failed(op, ENOMEM, "readlink");
	memcpy(op->bytes, text, (size_t)n);
	op->bytes[n] = '\0';
	op->n_bytes = (size_t)n;
	return FILEOPS_OK;
}

static enum fileops_result do_xattrs(void *end, struct fileop *op, const char *path, size_t len, unsigned kinds)
{
	struct local_name at;
	enum fileops_result r = local_at(end, op, path, len, &at, "extended attributes");
	char proc[64 + NAME_BYTES_MAX];

	if (r != FILEOPS_OK)
		return r;
	(void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d/%s", at.dir->fd, at.name);
	return local_xattrs_get(&(struct local_inode){ .fd = -1, .path = proc }, kinds, &op->bytes, &op->n_bytes) < 0
		       ? local_failed(op, errno, "extended attributes")
		       : FILEOPS_OK;
}

static enum fileops_result do_open(void *end, struct fileop *op, const char *path, size_t len,
				   const struct fileops_file *base)
{
	struct local_name at;
	enum fileops_result r = local_at(end, op, path, len, &at, "open");
	int fd;

	(void)base;
	if (r != FILEOPS_OK)
		return r;
	/* A FIFO that took the file's place must not hold us up. */
	fd = openat(at.dir->fd, at.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENXIO ? FILEOPS_TYPE : local_failed(op, errno, "open");
	if (fstat(fd, &op->st) < 0) {
		r = local_failed(op, errno, "fstat");
	} else if (!S_ISREG(op->st.st_mode)) {
		(void)err_set(&op->err, ERR_GONE, "open: no regular file any more");
		r = FILEOPS_TYPE;
	}
	if (r != FILEOPS_OK) {
		(void)close(fd);
		return r;
	}
	op->file = (struct fileops_file){ .fd = fd };
	return FILEOPS_OK;
}

static enum fileops_result do_restat(void *end, struct fileop *op, const struct fileops_file *file)
{
	(void)end;
	return fstat(file->fd, &op->st) < 0 ? local_failed(op, errno, "fstat") : FILEOPS_OK;
}

static void do_drop(void *end, struct fileops_file *file)
{
	(void)end;
	if (file->fd >= 0)
		(void)close(file->fd);
	file->fd = -1;
}

/* ---- attributes ---- */

static int change_owner(const struct local_target *of, uid_t uid, gid_t gid)
{
	return of->bare ? fchownat(of->fd, "", uid, gid, AT_EMPTY_PATH) : fchown(of->fd, uid, gid);
}

static int set_owner(struct local_tree *t, struct fileop *op, const struct local_target *of,
		     const struct fileops_attrs *a)
{
	uid_t uid = (a->mask & FILEOPS_OWNER) != 0 ? a->uid : (uid_t)-1;
	gid_t gid = (a->mask & FILEOPS_GROUP) != 0 ? a->gid : (gid_t)-1;
	bool same = of->ours && (uid == t->euid || uid == (uid_t)-1) && (gid == t->egid || gid == (gid_t)-1);

	if ((a->mask & (FILEOPS_OWNER | FILEOPS_GROUP)) == 0 || same || change_owner(of, uid, gid) == 0)
		return 0;
	if (errno != EPERM && errno != EINVAL) /* EINVAL: an id that the mount's user namespace does not map */
		return -1;
	op->unmet |= a->mask & FILEOPS_OWNER;
	if (gid != (gid_t)-1 && change_owner(of, (uid_t)-1, gid) < 0)
		op->unmet |= FILEOPS_GROUP;
	return 0;
}

/* The file that an O_PATH descriptor is of, where no call takes such a descriptor. */
static void name_by_fd(char out[64], int fd)
{
	(void)snprintf(out, 64, "/proc/self/fd/%d", fd);
}

static int set_mode(const struct local_target *of, mode_t mode)
{
	char proc[64];

	if (!of->bare)
		return fchmod(of->fd, mode);
	if (syscall(SYS_fchmodat2, of->fd, "", mode, AT_EMPTY_PATH) == 0)
		return 0;
	if (errno != ENOSYS && errno != EPERM && errno != EINVAL)
		return -1;
	name_by_fd(proc, of->fd);
	return chmod(proc, mode);
}

/* Of a file that stands there the atime is set as well: of an mtime alone the kernel tells as of a write under way, and
 * who watches the target (the other host of a bidirectional sync) would not see it. */
static int set_times(const struct local_target *of, struct timespec mtime)
{
	const struct timespec times[2] = { { .tv_nsec = of->bare ? UTIME_NOW : UTIME_OMIT }, mtime };

	return of->bare ? utimensat(of->fd, "", times, AT_EMPTY_PATH) : futimens(of->fd, times);
}

static int set_xattrs(struct fileop *op, const struct local_target *of, const struct fileops_attrs *a, unsigned kind)
{
	char proc[64];
	const struct local_inode inode = { .fd = of->bare ? -1 : of->fd, .path = proc, .follow = true };

	if ((a->mask & FILEOPS_XATTR) == 0 || (a->xattr_kinds & kind) == 0)
		return 0;
	name_by_fd(proc, of->fd);
	if (local_xattrs_set(&inode, kind, a->xattrs, a->xattrs_len) == 0)
		return 0;
	/* A name that is not for us to set (security.ima), or not on this one: immutable, or no directory any more. */
	if (errno == EPERM || errno == EACCES) {
		op->refused = true;
		return 0;
	}
	if (errno != EOPNOTSUPP)
		return -1;
	op->unmet |= FILEOPS_XATTR;
	return 0;
}

enum fileops_result local_set_attrs(struct local_tree *t, struct fileop *op, const struct local_target *of,
				    const struct fileops_attrs *a)
{
	mode_t mode = a->mode & 07777;

	op->unmet = 0;
	op->refused = false;
	if (set_owner(t, op, of, a) < 0)
		return local_failed(op, errno, "chown");
	if (a->type != S_IFLNK && set_xattrs(op, of, a, FILEOPS_XATTR_PLAIN) < 0)
		return local_failed(op, errno, "setxattr");
	/* Set-id bits are for the owner that they were given by. */
	if ((op->unmet & FILEOPS_OWNER) != 0)
		mode &= ~(mode_t)S_ISUID;
	if ((op->unmet & FILEOPS_GROUP) != 0 && a->type != S_IFDIR)
		mode &= ~(mode_t)S_ISGID;
	if ((a->mask & FILEOPS_MODE) != 0 && a->type != S_IFLNK && set_mode(of, mode) < 0)
		return local_failed(op, errno, "chmod");
	if (a->type != S_IFLNK && set_xattrs(op, of, a, FILEOPS_XATTR_ACL) < 0)
		return local_failed(op, errno, "setxattr");
	if ((a->mask & FILEOPS_MTIME) != 0 && set_times(of, a->mtime) < 0)
		return local_failed(op, errno, "utimensat");
	return FILEOPS_OK;
}

/* What they are for, and nothing else: who may write to the directory may have put another file there, which would get
 * a set-id bit that was meant for a directory, or be another name of a file that is none of ours. */
static enum fileops_result open_as(struct local_tree *t, struct fileop *op, const char *path, size_t len,
				   const struct fileops_attrs *a, int *fd)
{
	struct local_name at;
	enum fileops_result r = local_at(t, op, path, len, &at, "attributes");
	struct stat st;

	if (r != FILEOPS_OK)
		return r;
	*fd = openat(at.dir->fd, at.name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (*fd < 0)
		return local_failed(op, errno, "attributes");
	if (fstat(*fd, &st) < 0) {
		r = local_failed(op, errno, "attributes");
	} else if ((st.st_mode & S_IFMT) != a->type || (a->one_name && st.st_nlink > 1)) {
		(void)err_set(&op->err, ERR_GONE, "attributes: something else has taken its place");
		r = FILEOPS_GONE;
	}
	if (r != FILEOPS_OK)
		(void)close(*fd);
	return r;
}

static enum fileops_result do_attrs(void *end, struct fileop *op, const char *path, size_t len,
				    const struct fileops_attrs *a)
{
	struct local_target of = { .fd = -1, .bare = true };
	enum fileops_result r = open_as(end, op, path, len, a, &of.fd);

	if (r != FILEOPS_OK)
		return r;
	r = local_set_attrs(end, op, &of, a);
	(void)close(of.fd);
	return r;
}

/* ---- making, renaming, removing ---- */

/* Some file systems give new files the directory's group. */
static void *ids_given(struct local_tree *t, struct local_dir *dir)
{
	struct stat st;

	if (dir->gid < 0 && fstat(dir->fd, &st) == 0)
		dir->gid = (int)st.st_gid;
	return dir->gid == (int)t->egid ? LOCAL_OURS : NULL;
}

/* Read as well, so that it can be verified. Of one that is there no more is believed than that it is a file of ours: no
 * other name leads to it, nobody else may write to it. */
static enum fileops_result create_or_open(const struct local_tree *t, struct fileop *op, const struct local_name *at)
{
	int fd = openat(at->dir->fd, at->name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);

	if (fd < 0)
		return local_failed(op, errno, "create");
	if (fstat(fd, &op->st) < 0 || !S_ISREG(op->st.st_mode) || op->st.st_nlink != 1 || op->st.st_uid != t->euid ||
	    (op->st.st_mode & 022) != 0) {
		(void)close(fd);
		return local_failed(op, EEXIST, "create");
	}
	op->file = (struct fileops_file){ .fd = fd };
	return FILEOPS_OK;
}

static enum fileops_result do_create(void *end, struct fileop *op, const char *path, size_t len, bool resume)
{
	struct local_name at;
	enum fileops_result r = local_at(end, op, path, len, &at, "create");
	int fd;

	if (r == FILEOPS_OK && resume)
		r = create_or_open(end, op, &at);
	if (r != FILEOPS_OK || resume)
		return r;
	fd = openat(at.dir->fd, at.name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return local_failed(op, errno, "create");
	op->file = (struct fileops_file){ .fd = fd, .impl = ids_given(end, at.dir) };
	return FILEOPS_OK;
}

static enum fileops_result do_mkdir(void *end, struct fileop *op, const char *path, size_t len)
{
	struct local_name at;
	enum fileops_result r = local_at(end, op, path, len, &at, "mkdir");

	if (r == FILEOPS_OK && mkdirat(at.dir->fd, at.name, 0700) < 0)
		return local_failed(op, errno, "mkdir");
	return r;
}

static enum fileops_result do_symlink(void *end, struct fileop *op, const char *path, size_t len, const char *text,
				      size_t text_len)
{
	struct local_name at;
	enum fileops_result r = local_at(end, op, path, len, &at, "symlink");
	char to[4097];

	if (r != FILEOPS_OK)
		return r;
	if (text_len >= sizeof(to) || memchr(text, '\0', text_len) != NULL)
		return local_failed(op, EINVAL, "symlink");
	memcpy(to, text, text_len);
	to[text_len] = '\0';
	return symlinkat(to, at.dir->fd, at.name) < 0 ? local_failed(op, errno, "symlink") : FILEOPS_OK;
}

static enum fileops_result do_node(void *end, struct fileop *op, const char *path, size_t len, const struct stat *st)
{
	struct local_name at;
	enum fileops_result r = local_at(end, op, path, len, &at, "mknod");

	if (r == FILEOPS_OK && mknodat(at.dir->fd, at.name, (st->st_mode & S_IFMT) | 0600, st->st_rdev) < 0)
		return local_failed(op, errno, "mknod");
	return r;
}

static enum fileops_result do_link(void *end, struct fileop *op, const char *from, size_t from_len, const char *to,
				   size_t to_len)
{
	struct local_name a, b;
	enum fileops_result r = local_at(end, op, from, from_len, &a, "link");

	if (r == FILEOPS_OK)
		r = local_at(end, op, to, to_len, &b, "link");
	if (r != FILEOPS_OK)
		return r;
	return linkat(a.dir->fd, a.name, b.dir->fd, b.name, 0) < 0 ? two_failed(op, errno, "link") : FILEOPS_OK;
}

static enum fileops_result do_rename(void *end, struct fileop *op, const char *from, size_t from_len, const char *to,
				     size_t to_len, bool keep)
{
	struct local_tree *t = end;
	struct local_name a, b;
	enum fileops_result r;
	int rc;

	local_dirs_forget(&t->dirs, from, from_len);
	local_dirs_forget(&t->dirs, to, to_len);
	r = local_at(t, op, from, from_len, &a, "rename");
	if (r == FILEOPS_OK)
		r = local_at(t, op, to, to_len, &b, "rename");
	if (r != FILEOPS_OK)
		return r;
	rc = keep ? renameat2(a.dir->fd, a.name, b.dir->fd, b.name, RENAME_NOREPLACE)
		  : renameat(a.dir->fd, a.name, b.dir->fd, b.name);
	if (rc < 0 && keep && (errno == EINVAL || errno == ENOSYS))
		rc = renameat(a.dir->fd, a.name, b.dir->fd, b.name);
	return rc < 0 ? two_failed(op, errno, "rename") : FILEOPS_OK;
}

static enum fileops_result remove_name(struct local_tree *t, struct fileop *op, const char *path, size_t len, int flags,
				       const char *what)
{
	struct local_name at;
	enum fileops_result r = local_at(t, op, path, len, &at, what);

	if (r != FILEOPS_OK || unlinkat(at.dir->fd, at.name, flags) == 0)
		return r;
	return flags != 0 && errno == ENOTDIR ? two_failed(op, errno, what) : local_failed(op, errno, what);
}

/* Linux says EISDIR of a directory (POSIX: EPERM). */
static enum fileops_result do_unlink(void *end, struct fileop *op, const char *path, size_t len)
{
	return remove_name(end, op, path, len, 0, "unlink");
}

static enum fileops_result do_rmdir(void *end, struct fileop *op, const char *path, size_t len)
{
	struct local_tree *t = end;

	local_dirs_forget(&t->dirs, path, len);
	return remove_name(t, op, path, len, AT_REMOVEDIR, "rmdir");
}

static void do_idle(void *end)
{
	struct local_tree *t = end;

	local_dirs_forget_all(&t->dirs);
	t->dirs.root.gid = -1;
	t->no_clone = t->no_copy_range = false;
}

const struct fileops local_fileops = {
	.look = do_look,
	.list = do_list,
	.readlink = do_readlink,
	.xattrs = do_xattrs,
	.digest = local_digest,
	.open = do_open,
	.restat = do_restat,
	.drop = do_drop,
	.create = do_create,
	.store = local_store,
	.attrs = do_attrs,
	.mkdir = do_mkdir,
	.symlink = do_symlink,
	.node = do_node,
	.link = do_link,
	.rename = do_rename,
	.unlink = do_unlink,
	.rmdir = do_rmdir,
	.idle = do_idle,
};

/* ---- the tree ---- */

struct local_tree *local_tree_new(struct loop *loop, int root_fd, struct err *err)
{
	struct local_tree *t = malloc(sizeof(*t));

	if (t == NULL) {
		(void)close(root_fd);
		err_set(err, ERR_NOMEM, "out of memory");
		return NULL;
	}
	t->loop = loop;
	t->jobs = NULL;
	t->euid = geteuid();
	t->egid = getegid();
	t->no_clone = t->no_copy_range = false;
	local_dirs_init(&t->dirs, root_fd);
	return t;
}

void local_tree_free(struct local_tree *t)
{
	if (t == NULL)
		return;
	local_jobs_drop(t);
	local_dirs_done(&t->dirs);
	free(t);
}

struct loop *local_tree_loop(const struct local_tree *t)
{
	return t->loop;
}

int local_tree_root(const struct local_tree *t, struct stat *st)
{
	return fstat(t->dirs.root_fd, st);
}

void local_tree_state(const struct local_tree *t, struct host_state *out)
{
	struct statvfs v;

	*out = (struct host_state){ .clock_ns = clock_real_ns() };
	if (fstatvfs(t->dirs.root_fd, &v) != 0)
		return;
	out->bytes = (uint64_t)v.f_bavail * v.f_frsize;
	out->bytes_of = (uint64_t)v.f_blocks * v.f_frsize;
	out->inodes = v.f_favail;
	out->inodes_of = v.f_files;
}

/* A file in the root that tells by its name, if it has one, whose it is. -1: what cannot be written to is found out
 * soon enough. */
static int probe_file(int root_fd, const char *name)
{
	int flags = O_WRONLY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(root_fd, ".", O_TMPFILE | flags, 0600);

	if (fd >= 0)
		return fd; /* the root does not change by it */
	fd = openat(root_fd, name, O_CREAT | O_EXCL | flags, 0600);
	if (fd < 0 && errno == EEXIST) { /* of one that was killed; a FIFO or another name of a file by anybody */
		(void)unlinkat(root_fd, name, 0);
		fd = openat(root_fd, name, O_CREAT | O_EXCL | flags, 0600);
	}
	return fd;
}

/* FAT keeps two seconds, exFAT ten milliseconds, some network file systems 100 ns: only trying tells. */
static int64_t find_tick(int root_fd)
{
	static const char name[] = ".probe" PATH_TEMP_SUFFIX;
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1000000001, .tv_nsec = 987654321 } };
	struct timespec before[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };
	int64_t tick = 1;
	struct stat st;
	int fd;

	if (fstat(root_fd, &st) == 0)
		before[1] = st.st_mtim;
	fd = probe_file(root_fd, name);
	if (fd < 0)
		return 1;
	if (futimens(fd, times) == 0 && fstat(fd, &st) == 0) {
		const int64_t ticks[] = { 1, 100, 1000, NS_PER_MS, 10 * NS_PER_MS, NS_PER_S, 2 * NS_PER_S };
		int64_t want = times[1].tv_sec * NS_PER_S + times[1].tv_nsec;
		int64_t got = st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec;
		size_t i = 0;

		while (i + 1 < sizeof(ticks) / sizeof(ticks[0]) && want / ticks[i] * ticks[i] != got)
			i++;
		tick = ticks[i];
	}
	/* One that had a name: the root's time is mirrored, and was right. */
	if (unlinkat(root_fd, name, 0) == 0)
		(void)futimens(root_fd, before);
	(void)close(fd);
	return tick;
}

/* By trying it would be told to whoever watches the directory, also of a file without a name. */
static bool is_own_only(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2] = { { 0 } };

	return syscall(SYS_capget, &head, caps) == 0 && (caps[0].effective >> CAP_CHOWN & 1u) == 0;
}

struct fileops_end local_tree_end(struct local_tree *t, bool writable)
{
	return (struct fileops_end){
		.ops = &local_fileops,
		.ctx = t,
		.caps = FILEOPS_CTIME | FILEOPS_INODES | FILEOPS_LINKS | FILEOPS_NODES | FILEOPS_XATTRS |
			FILEOPS_LINK_ATTRS | FILEOPS_OWNERS,
		.tick_ns = writable ? find_tick(t->dirs.root_fd) : 1,
		.own_only = writable && is_own_only(),
	};
}

enum fileops_result local_tree_finish(struct local_tree *t, struct fileop *op, struct fileops_file *file,
				      const struct fileops_attrs *attrs)
{
	const struct local_target of = { .fd = file->fd, .ours = file->impl == LOCAL_OURS };
	enum fileops_result r;
	int fd = file->fd;

	if (fd < 0)
		return local_failed(op, EBADF, "close");
	r = local_set_attrs(t, op, &of, attrs);
	*file = (struct fileops_file){ .fd = -1 };
	if (close(fd) < 0 && r == FILEOPS_OK && errno != EINTR)
		return local_failed(op, errno, "close");
	return r;
}
