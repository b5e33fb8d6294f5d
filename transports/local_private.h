/* local_private.h - what the files local_*.c share. Not for others: local_files.h is the contract. */
#ifndef FANSYNCD_TRANSPORTS_LOCAL_PRIVATE_H
#define FANSYNCD_TRANSPORTS_LOCAL_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/loop.h"
#include "core/path.h"
#include "transports/fileops.h"
#include "transports/local_dirs.h"

#define LOCAL_BUFFER (256u * 1024)

struct local_job;

struct local_tree {
	struct loop *loop;
	struct local_dirs dirs;
	struct local_job *jobs; /* store and digest of large files, under way */
	uid_t euid;
	gid_t egid;
	bool no_clone, no_copy_range; /* found not to work in this work */
	_Alignas(16) char buffer[LOCAL_BUFFER];
};

/* The last component as a C string, and the directory that it stands in. */
struct local_name {
	struct local_dir *dir;
	char name[NAME_BYTES_MAX + 1];
};

enum fileops_result local_result(int code);
/* The same, noted in op->err. */
enum fileops_result local_failed(struct fileop *op, int code, const char *what);
/* OK, or the failure noted in op. */
enum fileops_result local_at(struct local_tree *t, struct fileop *op, const char *path, size_t len,
			     struct local_name *out, const char *what);

/* What attributes are set of: an open file. `bare`: it is open as O_PATH, which takes other calls. `ours`: made by us
 * just now, with our ids. Never a name: another file may take it between one attribute and the next. */
struct local_target {
	int fd;
	bool bare, ours;
};
enum fileops_result local_set_attrs(struct local_tree *t, struct fileop *op, const struct local_target *of,
				    const struct fileops_attrs *a);
/* Of a file that create gave: file.impl, when it has our ids without a word. */
#define LOCAL_OURS ((void *)(uintptr_t)1)

/* local_xattrs.c: an open file, or (fd -1) a path, the last component of which is followed only if that is said: a name
 * below /proc/self/fd, which leads to a file that is open as O_PATH. */
struct local_inode {
	int fd;
	const char *path;
	bool follow;
};
/* 0, or -1 with errno. */
int local_xattrs_get(const struct local_inode *of, unsigned kinds, char **out, size_t *n);
int local_xattrs_set(const struct local_inode *of, unsigned kinds, const char *want, size_t n);

/* local_list.c: all entries of a directory that is open at its begin, `wish` as for fileops.list. `buffer`: aligned as
 * for malloc. Touches nothing else: may be called from any thread. 0, or -1 with errno and an empty listing. */
#define LOCAL_LIST_BUFFER (64u * 1024)
int local_list(int fd, char *buffer, size_t size, struct listing *l, const struct fileops_wish *wish);

/* local_copy.c */
enum fileops_result local_store(void *end, struct fileop *op, struct fileops_file *file,
				const struct fileops_store *what);
enum fileops_result local_digest(void *end, struct fileop *op, const char *path, size_t len);
void local_jobs_drop(struct local_tree *t);

#endif
