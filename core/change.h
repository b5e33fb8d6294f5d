/*
 * change.h - change records: what a watcher says happened below a source.
 *
 * A record says where to look, not what to replay: the source is looked at again when it is sent. Paths are relative
 * to the source's root (path.h), borrowed from the watcher for the duration of the call that delivers the record.
 */
#ifndef FANSYNCD_CORE_CHANGE_H
#define FANSYNCD_CORE_CHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum change_kind {
	CHANGE_NONE = 0,
	CHANGE_TOUCH,  /* content or attributes of `path` may differ; a file was closed after writing */
	CHANGE_MODIFY, /* written to, not closed yet (only while openFileInterval is in use) */
	CHANGE_CREATE, /* the name appeared (a regular file may still be open for writing: TOUCH follows at its close)
			*/
	CHANGE_DELETE, /* the name disappeared; for a directory with all that was below */
	CHANGE_RENAME, /* old_path became path, both inside the source, names exact as of the event */
	CHANGE_RECONCILE, /* anything may have changed at and below `path` */
};

enum change_origin {
	ORIGIN_UNKNOWN = 0,
	ORIGIN_LOCAL,
	ORIGIN_INCOMING, /* our own receiver wrote it */
};

struct host_tree; /* origins.h */

struct change {
	enum change_kind kind;
	bool is_dir; /* the kernel's word for the object when the event happened; for RECONCILE: unknown, false */
	/* RENAME: false when the two names may not be what they were when it happened (resolved too late): both names
	 * are reconciled then, never renamed on the target. */
	bool exact;
	bool late; /* no event: a lost connection was at it, and what it had sent may have arrived since */
	enum change_origin origin;
	pid_t pid;		      /* 0: unknown */
	const struct host_tree *from; /* INCOMING: what it came from */
	const char *path;
	size_t path_len;
	const char *old_path; /* RENAME only */
	size_t old_len;
	int64_t time_ns;   /* monotonic, when it was read */
	const char *cause; /* RECONCILE: why, a string constant, for the log and the counters */
};

#endif
