/*
 * wire.h - the codec of the messages between daemon and worker. Pure.
 *
 * Frames as core/frame.h has them: u32 length of the payload, u8 type, payload; numbers are little endian, byte strings
 * are u32 length and bytes. A worker talks to strangers' servers, so the daemon trusts its bytes as little as a
 * network's: every length, index and enum is checked, and a message that breaks a rule ends the worker.
 */
#ifndef FANSYNCD_CORE_WIRE_H
#define FANSYNCD_CORE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/batch.h"
#include "core/buf.h"
#include "core/err.h"
#include "core/host_id.h"
#include "core/origins.h"
#include "core/owners.h"

/* No frame is larger. A batch's limits (changeset_limits) keep well below it. */
#define WIRE_FRAME_MAX (16u * 1024 * 1024)
/* Room of an outgoing queue: several frames. */
#define WIRE_QUEUE_MAX (4u * WIRE_FRAME_MAX)

enum wire_type {
	WIRE_NONE = 0,
	/* daemon -> worker */
	WIRE_CONFIG,   /* first: struct wire_config */
	WIRE_BATCH,    /* struct batch, with enum wire_batch_flag */
	WIRE_LOG_MASK, /* u32: which categories are worth sending */
	WIRE_GUARD,    /* both ways: the record of core/guard.h as text; from the daemon once, behind WIRE_CONFIG */
	/* worker -> daemon */
	WIRE_READY,	 /* configuration taken, privileges dropped */
	WIRE_VERDICTS,	 /* of the batch under way */
	WIRE_FOUND,	 /* a path that the work stumbled over */
	WIRE_BATCH_DONE, /* u64 id: no more verdicts of it */
	WIRE_DOWN,	 /* the target can't be reached: class, text */
	WIRE_PROGRESS,	 /* struct wire_progress */
	WIRE_LOG,	 /* u32 category, text */
	WIRE_COUNTERS,	 /* struct wire_counters, sums since the worker's start */
	WIRE_PEER,	 /* struct host_tree: what the target is, as its receiver says */
	/* From the receiver: u32 pid, struct host_tree: a session writes what comes from there. ino 0: it has ended.
	 * From the daemon: u32 pid, that is known: the session may write. */
	WIRE_ORIGIN,
	WIRE_LINKED, /* struct wire_linked: a file of the source with a further name outside of it */
	/* From the process that serves status pages: u32 enum wire_view, and an empty text: it wants to be shown
	 * that. From the daemon: the same with the text. */
	WIRE_VIEW,
	WIRE_OWNER, /* from a session to its receiver: u32 pid, the name of an owner whose number is wanted */
	WIRE_TYPES
};

enum wire_batch_flag {
	WIRE_ALLOW_DELETE = 1u << 0, /* the administrator said --allow-delete: no limit on deletions */
	WIRE_HAND_OVER = 1u << 1,    /* of the first lane, and there is the other one: large files are for it */
	WIRE_LARGE = 1u << 2,	     /* of the large lane */
	WIRE_SHARED = 1u << 3,	     /* of the first lane, while the other one sends: a limit of bandwidth is shared */
};

/* What is shown of the daemon's state. */
enum wire_view {
	WIRE_VIEW_NONE = 0,
	WIRE_VIEW_METRICS, /* Prometheus' text format */
	WIRE_VIEW_PAGE,	   /* lines of JSON: the daemon, the names of the syncs in their order, then a line a sync */
	WIRE_VIEWS
};

struct wire_config {
	const char *text; /* libconfig, config_dump_sync's; borrowed from the frame */
	size_t text_len;
	const char *runtime_dir;  /* NUL-terminated inside the frame, as the next one */
	const char *archive_path; /* "": the sync is not bidirectional */
	uint32_t log_mask;
	uint64_t source_dev, source_ino; /* what the daemon watches: the worker refuses another directory */
	unsigned char host_id[HOST_ID_BYTES];
};

struct wire_verdict {
	bool is_rename;
	uint32_t index;
	enum verdict v;
	struct err why; /* class ERR_NONE: none */
};

struct wire_found {
	const char *path;
	size_t len;
	enum verdict v;
	struct err why;
};

struct wire_progress {
	char phase[24];
	uint64_t files, files_total, bytes, bytes_total;
	const char *path; /* borrowed; may be empty */
	size_t path_len;
};

struct wire_counters {
	uint64_t files_sent, bytes_sent, deletions, renames_carried, handshakes, processes, conflicts;
};

struct wire_linked {
	uint64_t dev, ino;
	const char *path; /* borrowed; not empty */
	size_t len;
};

/* Append one frame to `out`. false: the buffer's ceiling or memory; the buffer is as before then. */
bool wire_put_config(struct buf *out, const struct wire_config *c);
bool wire_put_batch(struct buf *out, const struct batch *b, unsigned flags);
bool wire_put_guard(struct buf *out, const char *text, size_t len); /* the whole payload is the text */
bool wire_put_u32(struct buf *out, enum wire_type type, uint32_t v);
bool wire_put_u64(struct buf *out, enum wire_type type, uint64_t v);
bool wire_put_empty(struct buf *out, enum wire_type type);
bool wire_put_found(struct buf *out, const struct wire_found *f);
bool wire_put_down(struct buf *out, const struct err *why);
bool wire_put_progress(struct buf *out, const struct wire_progress *p);
bool wire_put_log(struct buf *out, uint32_t category, const char *text, size_t len);
bool wire_put_counters(struct buf *out, const struct wire_counters *c);
bool wire_put_linked(struct buf *out, const struct wire_linked *f);
bool wire_put_peer(struct buf *out, const struct host_tree *t);
bool wire_put_view(struct buf *out, uint32_t view, const char *text, size_t len);
bool wire_put_origin(struct buf *out, uint32_t pid, const struct host_tree *from);
bool wire_put_owner(struct buf *out, uint32_t pid, const struct owner_question *q);
/* Verdicts are gathered: begin, add..., end. `at` is the frame's place in `out`. */
size_t wire_begin_verdicts(struct buf *out, uint64_t batch_id);
bool wire_add_verdict(struct buf *out, const struct wire_verdict *v);
bool wire_end_verdicts(struct buf *out, size_t at);

/* Read a payload. false (NULL): it breaks the rules. Borrowed pointers live as long as the payload. */
bool wire_get_config(const char *p, size_t len, struct wire_config *out);
struct batch *wire_get_batch(const char *p, size_t len, unsigned *flags);
bool wire_get_u32(const char *p, size_t len, uint32_t *out);
bool wire_get_u64(const char *p, size_t len, uint64_t *out);
bool wire_get_found(const char *p, size_t len, struct wire_found *out);
bool wire_get_down(const char *p, size_t len, struct err *out);
bool wire_get_progress(const char *p, size_t len, struct wire_progress *out);
bool wire_get_log(const char *p, size_t len, uint32_t *category, const char **text, size_t *text_len);
bool wire_get_counters(const char *p, size_t len, struct wire_counters *out);
bool wire_get_linked(const char *p, size_t len, struct wire_linked *out);
bool wire_get_peer(const char *p, size_t len, struct host_tree *out);
bool wire_get_view(const char *p, size_t len, uint32_t *view, const char **text, size_t *text_len);
bool wire_get_origin(const char *p, size_t len, uint32_t *pid, struct host_tree *out);
bool wire_get_owner(const char *p, size_t len, uint32_t *pid, struct owner_question *out);
/* Start reading verdicts: the batch's id. Then wire_next_verdict until it returns 0 (end); -1: broken. */
bool wire_get_verdicts(const char *p, size_t len, struct reader *r, uint64_t *batch_id);
int wire_next_verdict(struct reader *r, struct wire_verdict *out);

#endif
