/*
 * local_dirs.h - directories below a root, kept open, and found without ever following a symlink.
 *
 * Looking a directory up costs nothing while it is kept open; else one openat from the nearest one above it that is, or
 * openat2 (beneath, no symlinks) over several levels, or a walk component by component where the path is longer
 * than PATH_MAX or the kernel has no openat2. Bounded: one that was not used lately is closed. Blocks as local file
 * system calls do.
 */
#ifndef FANSYNCD_TRANSPORTS_LOCAL_DIRS_H
#define FANSYNCD_TRANSPORTS_LOCAL_DIRS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOCAL_DIRS_MAX 128u

struct local_dir {
	char *path; /* NULL: free slot */
	size_t len;
	uint64_t hash;
	int fd;
	int gid;       /* of the directory, as noted by whoever wants it; -1: not yet */
	bool readable; /* O_RDONLY, not O_PATH */
	bool used;     /* since the hand went by */
	bool moved;    /* the place in it, by whoever read its entries */
	uint16_t next;
};

struct local_dirs {
	int root_fd; /* owned */
	struct local_dir slots[LOCAL_DIRS_MAX];
	uint16_t buckets[LOCAL_DIRS_MAX]; /* index + 1 of the first slot */
	uint16_t last;			  /* index + 1 of the one used last */
	uint16_t hand;			  /* the next one that may have to go */
	struct local_dir root;
};

/* Takes the descriptor over. */
void local_dirs_init(struct local_dirs *d, int root_fd);
void local_dirs_done(struct local_dirs *d);
/* The directory, open for use as the base of *at calls (`read`: also for reading its entries). Valid until the next
 * call but one. NULL with errno. */
struct local_dir *local_dirs_get(struct local_dirs *d, const char *path, size_t len, bool read);
/* Close what is at or below a path: it is about to be renamed or removed. */
void local_dirs_forget(struct local_dirs *d, const char *path, size_t len);
void local_dirs_forget_all(struct local_dirs *d);

#endif
