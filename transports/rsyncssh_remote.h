/*
 * rsyncssh_remote.h - what the shell at the target does for a bidirectional sync: looks, guarded changes. The text that
 * it is given once, the commands, and what its answers mean. Pure.
 *
 * An entry's *head* is what is looked at, in one line: type, size, mtime, permissions, owner, group, device. It is also
 * the identity that a change names: what has another head by then is left alone. Names travel as quoted arguments, and
 * come back terminated by NUL.
 */
#ifndef FANSYNCD_TRANSPORTS_RSYNCSSH_REMOTE_H
#define FANSYNCD_TRANSPORTS_RSYNCSSH_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "transports/twoway_state.h"

/* Shell text, sent once a connection; it needs what rsyncssh.c's own defines (fs_dir, fs_parents, fs_t). */
extern const char remote_twoway_prelude[];

/* What fs_setup answers: whether it can look, at what resolution, and whether the target directory is there. */
enum remote_look { REMOTE_LOOK_NONE = 0, REMOTE_LOOK_FINE, REMOTE_LOOK_SECONDS };
/* `own`: the name of our private directory at the target's top. */
bool remote_setup(struct buf *out, const char *own, bool numeric);
/* `dev`: the device of the target directory. */
enum remote_look remote_setup_answer(const char *said, size_t len, bool *has_dir, uint64_t *dev);

struct remote_entry {
	struct remote_entry *hash_next;
	struct twoway_state state;
	uint64_t dev;
	size_t len;
	const char *head; /* NUL-terminated, behind the path */
	char path[];	  /* relative to what was looked at: the target directory */
};

/* What was looked at; found again by path. */
struct remote_entries {
	struct remote_entry **buckets;
	size_t n_buckets, n;
	struct remote_entry **list; /* all, in the order of arrival until remote_entries_sort */
	size_t cap;
};

void remote_entries_done(struct remote_entries *e);
/* Take the bytes that a look printed. -1: out of memory, or it makes no sense (ERR_PROTOCOL). `trouble` (size bytes)
 * gets what the other end could not look at, in its words; "" when that was nothing. */
int remote_entries_read(struct remote_entries *e, const struct twoway_what *w, const char *data, size_t len,
			char *trouble, size_t size, struct err *err);
const struct remote_entry *remote_entries_find(const struct remote_entries *e, const char *path, size_t len);
/* By path_compare. */
void remote_entries_sort(struct remote_entries *e);

/* The beginning of a look: add names with remote_name. */
#define REMOTE_SELF "fs_find self" /* the names themselves */
#define REMOTE_LIST "fs_find list" /* the entries of these directories */
#define REMOTE_TREE "fs_find tree" /* all below these directories */
bool remote_name(struct buf *out, const char *path, size_t len);

/* Statuses of the changes. */
enum remote_status {
	REMOTE_DONE = 0,
	REMOTE_GONE = 4,   /* it is not there (any more) */
	REMOTE_OTHER = 8,  /* it is another one than was looked at */
	REMOTE_FILLED = 9, /* a directory that is not empty; a name that is taken */
};
/* Before the first change of a work with backupDir: where to, relative to the target, and what tells one name's apart.
 */
bool remote_kept(struct buf *out, const char *dir, const char *stamp);
/* A command of a name and its arguments; NULL ends them. `path` first, then plain words. */
bool remote_command(struct buf *out, const char *verb, const char *path, size_t len, const char *word);

#endif
