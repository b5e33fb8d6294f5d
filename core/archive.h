/*
 * archive.h - what both ends of a bidirectional sync were last known to agree on, per path: an SQLite file below
 * stateDir. Only bidirectional syncs have one; the worker that carries the sync's batches opens it.
 *
 * Order matters: a state is noted when the target has passed its commit point, never before, since an entry that equals
 * the source means "not ours, send nothing". Notes are gathered and written as one transaction by archive_commit,
 * behind the batch they belong to. A crash in between loses notes, which costs a look (or, at worst, a deleted file
 * that comes back), never a change. Calls block on the local disk only.
 *
 * When a machine loses its power, a note may have reached the disk and the file that it tells of not: the file then
 * looks deleted, or changed back to what it was, by a user of this host. So unless it ended orderly (archive_end), what
 * was noted within the last minutes before the kernel was started anew is forgotten, and the archive is in doubt until
 * everything has been compared. A timer writes down what is old enough.
 */
#ifndef FANSYNCD_CORE_ARCHIVE_H
#define FANSYNCD_CORE_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/loop.h"
#include "core/twoway.h"

/* By then a kernel has written what was changed: it begins by itself after 30 s (vm.dirty_expire_centisecs), and file
 * systems commit after 5 to 30 s (ext4(5), btrfs(5): commit). */
#define ARCHIVE_SETTLE_NS (120 * INT64_C(1000000000))

struct archive;

/* All is the caller's; only `loop` is still used after archive_open. */
struct archive_place {
	const char *path;
	const char *pair;	   /* names source, target and what is mirrored */
	const unsigned char *boot; /* HOST_ID_BYTES, host_boot_get; NULL or zero: not known, nothing is forgotten */
	struct loop *loop;	   /* NULL: what is noted stays young */
	int64_t settle_ns;	   /* 0: ARCHIVE_SETTLE_NS */
};

/* Open or make one. That of another pair says nothing and is begun anew. One that is damaged is put aside (path +
 * ".damaged") and begun anew; `*fresh` tells that it is empty for one of these reasons: a reconcile fills it. NULL on
 * failure. */
struct archive *archive_open(const struct archive_place *place, bool *fresh, struct err *err);
/* A random number that it was made with: tells this end of the pair from any other one, also from a host that was
 * cloned. The same until it is begun anew. */
uint64_t archive_id(const struct archive *a);
/* What is not committed is dropped. NULL is fine. */
void archive_close(struct archive *a);

/* The state noted last, uncommitted notes included; LOOK_ABSENT when there is none. */
int archive_get(struct archive *a, const char *path, size_t len, struct twoway_state *out, struct err *err);
/* Note a state. LOOK_ABSENT forgets the path and, unlike other states, all below it. */
int archive_note(struct archive *a, const char *path, size_t len, const struct twoway_state *state, struct err *err);
/* A rename that the target has done: the entries at and below `from` are now at `to` (what was there is forgotten). */
int archive_rename(struct archive *a, const char *from, size_t from_len, const char *to, size_t to_len,
		   struct err *err);
/* Visit the entries strictly below `dir` in the order of path_compare; with `direct` only its direct children. The
 * callback's path lives for the call; the archive may not be changed during it. It returns false to stop. */
int archive_each(struct archive *a, const char *dir, size_t len, bool direct,
		 bool (*fn)(void *ctx, const char *path, size_t len, const struct twoway_state *state), void *ctx,
		 struct err *err);
int archive_commit(struct archive *a, struct err *err);

/* This machine was started anew without an orderly end, and not everything has been compared since. What it lost nobody
 * will send by himself: a comparison asks for what it finds at the target alone and knows nothing of. */
bool archive_in_doubt(const struct archive *a);
/* true once while it is in doubt: a comparison of everything is due. */
bool archive_tell_doubt(struct archive *a);
/* Everything has been compared: it ends with the next archive_commit. */
int archive_doubt_over(struct archive *a, struct err *err);

/* The orderly end of whoever had the archive at `path` open, which is no longer so: the file system of `source` is
 * written to its disk, and what was noted counts as old. Blocks as long as that takes. 0 also where there is no
 * archive. */
int archive_end(const char *path, const char *source, struct err *err);

#endif
