/*
 * rsync_output.h - understand what rsync prints: transferred and deleted names, failures that name a path, progress,
 * versions. Pure, bounded; what a remote rsync relays is a stranger's text.
 *
 * Our --out-format puts a mark in front (RSYNC_OUT_FORMAT); rsync escapes control bytes in names as \#ooo, so that no
 * name can begin a line.
 */
#ifndef FANSYNCD_TRANSPORTS_RSYNC_OUTPUT_H
#define FANSYNCD_TRANSPORTS_RSYNC_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

#define RSYNC_OUT_FORMAT ":%i:%b:%n"
/* A name of PATH_BYTES_MAX, each byte escaped to five, and words around it. Longer lines are dropped. */
#define RSYNC_LINE_MAX (5u * 64 * 1024 + 4096)

enum rsync_event_kind {
	RSYNC_EVENT_NONE = 0,
	RSYNC_SENT,	     /* a file's content: name, bytes */
	RSYNC_CHANGED,	     /* something else was made or adjusted: name */
	RSYNC_DELETED,	     /* name */
	RSYNC_FAILED,	     /* name, code (errno, 0 unknown), text */
	RSYNC_VANISHED,	     /* name */
	RSYNC_BLOCKED,	     /* a non-empty directory is in the way, or to be deleted: name */
	RSYNC_DELETION_OFF,  /* an I/O error: rsync skips its deletions */
	RSYNC_PROGRESS,	     /* bytes, percent, files done, files left */
	RSYNC_ALIVE,	     /* no words: it moves bytes (rsync_alive.h) */
	RSYNC_VERSION,	     /* major, minor, patch */
	RSYNC_NEGOTIATED,    /* the peer negotiated a checksum: it is 3.2 or newer */
	RSYNC_FILES_TOTAL,   /* --stats: files in the list */
	RSYNC_FILES_DELETED, /* --stats: deletions */
	RSYNC_FILES_SENT,    /* --stats: files whose content was sent */
	RSYNC_BYTES_SENT,    /* --stats: content of these that was sent as it is */
	RSYNC_SUM,	     /* --stats: another sum */
	RSYNC_TEXT	     /* anything else that is worth showing when it fails */
};

struct rsync_event {
	enum rsync_event_kind kind;
	const char *name; /* decoded, borrowed for the callback */
	size_t len;
	const char *text; /* the whole line, as it came */
	size_t text_len;
	uint64_t bytes;
	uint64_t done, left;
	int code;
	bool attribute;	  /* FAILED: an ACL or an extended attribute could not be read or set */
	unsigned version; /* major * 10000 + minor * 100 + patch */
};

struct rsync_output {
	struct buf line;
	struct buf name;
	bool skipping; /* the rest of a line that is too long */
	void (*event)(void *ctx, const struct rsync_event *ev);
	void *ctx;
};

void rsync_output_init(struct rsync_output *o, void (*event)(void *ctx, const struct rsync_event *ev), void *ctx);
void rsync_output_done(struct rsync_output *o);
/* Bytes as they came from a pipe, any number. The callback runs for every complete line. */
void rsync_output_feed(struct rsync_output *o, const char *data, size_t len);
/* The stream ended: a last line may lack its newline. */
void rsync_output_end(struct rsync_output *o);

/* Undo \#ooo; appends to out. */
void rsync_decode_name(struct buf *out, const char *s, size_t len);

#endif
