/*
 * exec_records.h - what an exec program reads: records, gathered in a file that has no name, so that a program is only
 * started on what is complete.
 */
#ifndef FANSYNCD_TRANSPORTS_EXEC_RECORDS_H
#define FANSYNCD_TRANSPORTS_EXEC_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "core/buf.h"
#include "core/entry.h"
#include "core/err.h"
#include "core/options.h"

enum exec_op {
	EXEC_CREATE = 0, /* the target is not known to have it */
	EXEC_MODIFY,
	EXEC_DELETE,
	EXEC_MOVE,
	EXEC_LIST,   /* what follows, up to LISTED, is all that is below this directory */
	EXEC_ENTRY,  /* it is there */
	EXEC_KEEP,   /* a directory that is there; what is below is not listed, and stays as it is */
	EXEC_LISTED, /* the listing is complete */
	EXEC_END,    /* of a batch, for a program that stays */
};

struct exec_record {
	uint64_t id;
	enum exec_op op;
	enum look look;	  /* ABSENT or NONE: what it was is not known */
	const char *path; /* "" is the root, which is written as "." */
	size_t len;
	const char *from; /* MOVE; NULL otherwise */
	size_t from_len;
	const struct stat *st; /* NULL: it is not there, or was not looked at */
	int64_t deletions;     /* LISTED: how many are allowed */
};

/* false: the buffer is full. */
bool exec_record_put(struct buf *out, enum exec_format format, const struct exec_record *r);
/* What ends a field of a record, and of how many it is made: nothing else holds that byte. Not of PATHS. */
char exec_record_mark(enum exec_format format, unsigned *fields);

struct exec_spool {
	int fd; /* -1: none */
	struct buf buf;
	uint64_t size; /* of what is in the file */
};

void exec_spool_init(struct exec_spool *s);
/* Begin anew. Such a file is made where there is room: /var/tmp, else `dir`, else in memory. */
int exec_spool_begin(struct exec_spool *s, const char *dir, struct err *err);
/* Of all that was put. */
uint64_t exec_spool_length(const struct exec_spool *s);
int exec_spool_put(struct exec_spool *s, enum exec_format format, const struct exec_record *r, struct err *err);
/* All is in the file, which is read from its beginning. */
int exec_spool_end(struct exec_spool *s, struct err *err);
void exec_spool_done(struct exec_spool *s);

#endif
