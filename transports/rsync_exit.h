/*
 * rsync_exit.h - what the end of an rsync process means: exit code or signal -> what becomes of its paths. Pure.
 */
#ifndef FANSYNCD_TRANSPORTS_RSYNC_EXIT_H
#define FANSYNCD_TRANSPORTS_RSYNC_EXIT_H

#include "core/err.h"

enum rsync_fate {
	RSYNC_FATE_NONE = 0,
	RSYNC_OK,	  /* everything was transferred */
	RSYNC_PARTIAL,	  /* some paths were not: its messages name them */
	RSYNC_RETRY,	  /* nothing is known of the paths: all of them again */
	RSYNC_DOWN,	  /* the target can't be reached or used */
	RSYNC_CONFIG,	  /* it will not work before the administrator changes something */
	RSYNC_DELETE_STOP /* --max-delete stopped the deletions; the rest was done */
};

struct rsync_outcome {
	int code; /* exit code, or the signal's number */
	enum rsync_fate fate;
	enum err_class class;
	const char *words;
};

/* `status` as waitpid gives it. Never NULL; a death by signal is never a success. */
const struct rsync_outcome *rsync_outcome(int status);
/* The same of one that said something: some codes stand for several troubles. */
const struct rsync_outcome *rsync_outcome_said(int status, const char *said);

/* Said for an rsync that is ended since it waits for a FIFO's writer (rsync_alive.h). */
#define RSYNC_STUCK_WORDS "a FIFO took the place of a file while rsync opened it"
/* The same, for one whose processes wait for each other, or of which nothing was seen or heard for long. */
#define RSYNC_DEADLOCK_WORDS "rsync's processes waited for each other"
#define RSYNC_SILENT_WORDS "nothing was heard of rsync for a minute or more"
/* A file could not be written, of which the messages tell; rsync gives up then. */
#define RSYNC_EXIT_FILEIO 11

#endif
