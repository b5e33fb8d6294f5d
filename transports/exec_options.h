/*
 * exec_options.h - the exec transport's part of a sync section: what it takes, and what an exit status means.
 */
#ifndef FANSYNCD_TRANSPORTS_EXEC_OPTIONS_H
#define FANSYNCD_TRANSPORTS_EXEC_OPTIONS_H

#include "core/err.h"
#include "core/options.h"

/* What a program says of a record, or its exit status of all of them. */
enum exec_word {
	EXEC_WORD_NONE = 0,
	EXEC_DONE,	/* the target has it */
	EXEC_GONE,	/* the source has it no more */
	EXEC_RETRY,	/* once more, after a pause */
	EXEC_REJECT,	/* given up until it changes again */
	EXEC_RECONCILE, /* list it, and all below */
	EXEC_DOWN,	/* the target as a whole: all of the batch waits */
};

/* NONE: it is none. */
enum exec_word exec_word_find(const char *s, size_t len);
/* The meaning of an exit code (0 to 255): the section's own table first, then the one of the manual page. */
enum exec_word exec_exit_word(const struct exec_options *o, int code);
/* As transport.validate. */
int exec_validate(struct sync_options *opt, struct err *err);

#endif
