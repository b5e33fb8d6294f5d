/*
 * local_files.h - the file operations (fileops.h) on a local directory tree: both ends of `direct`, the source of every
 * native transport, the target of a receiver.
 *
 * Nothing is ever read or written through a symlink, nor outside the root. Calls answer at once, except store and
 * digest of large files, which are carried bit by bit from the loop. Needs /proc for extended attributes.
 */
#ifndef FANSYNCD_TRANSPORTS_LOCAL_FILES_H
#define FANSYNCD_TRANSPORTS_LOCAL_FILES_H

#include "core/err.h"
#include "core/exam.h"
#include "core/loop.h"
#include "transports/fileops.h"

struct local_tree;

extern const struct fileops local_fileops;

/* `root_fd` (a directory, O_RDONLY) is the tree's from now on, also on failure. */
struct local_tree *local_tree_new(struct loop *loop, int root_fd, struct err *err);
/* What is pending is dropped without callbacks. NULL is fine. */
void local_tree_free(struct local_tree *t);
struct loop *local_tree_loop(const struct local_tree *t);
/* fstat of its root. */
int local_tree_root(const struct local_tree *t, struct stat *st);
/* The clock, and what room its file system has. */
void local_tree_state(const struct local_tree *t, struct host_state *out);
/* What local_fileops can do there: caps and tick, the latter found out by trying on a file in the root (in a source
 * `writable` is false, and the tick 1). */
struct fileops_end local_tree_end(struct local_tree *t, bool writable);
/* For who writes content by himself: a file that create gave, written to, gets its attributes and is closed, whatever
 * the result. */
enum fileops_result local_tree_finish(struct local_tree *t, struct fileop *op, struct fileops_file *file,
				      const struct fileops_attrs *attrs);
/* The length of a file that was just written to. A power failure leaves a file of the right length only if its content
 * is there, too, or a later comparison by size and time would take it for equal: ext4 notes a length that truncate(2)
 * gives, even the one that the file has already, before what was written reaches the disk. 0, or -1 with errno. */
int local_set_length(int fd, uint64_t size);

#endif
