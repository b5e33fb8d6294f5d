/*
 * exec_private.h - what the parts of the exec transport share: exec.c (runs of the program), exec_listing.c (what a
 * comparison tells it), exec_answers.c (what it says). Included by them alone.
 */
#ifndef FANSYNCD_TRANSPORTS_EXEC_PRIVATE_H
#define FANSYNCD_TRANSPORTS_EXEC_PRIVATE_H

#include "core/log.h"
#include "core/transport.h"
#include "transports/exec_options.h"
#include "transports/exec_program.h"
#include "transports/exec_records.h"
#include "transports/exec_walk.h"

/* transport.examine. */
void exec_examine(const struct sync_options *opt, struct exam *x);

/* Changes of an apply, by their places: first the renames, then the items; their records are numbered from 1. */
struct exec_range {
	size_t lo, hi;
};

/* What is known of the entries that a listing named, to find the path of one that the program answers for. */
struct exec_entries {
	struct buf paths;   /* each with a NUL behind it */
	struct buf offsets; /* u32 into paths */
};

struct exec {
	const struct transport_env *env;
	const struct exec_options *opt;
	struct proc_user user;
	struct exec_program program;
	struct exec_spool spool;
	struct loop_timer *kick;  /* begins a work, or its next run, from the loop */
	struct loop_timer *limit; /* no sign of life until then: it hangs */
	char last_words[256];	  /* of its standard error */
	struct log_limit chatter;

	const struct transport_work *work; /* NULL: none */
	bool listing;			   /* it is a reconcile */
	bool begun;			   /* it was begun from the loop */
	bool running;			   /* the program has a run of it */
	bool broken;			   /* `down` was said: nothing more is */
	bool stale;			   /* the program that stays is not to be used any more */
	bool *settled;			   /* one a change */
	size_t *place;			   /* one a change: which record of its run it is, from 1; 0: none yet */
	size_t n_done;
	struct exec_range *todo; /* runs to come, the next one last */
	size_t n_todo, cap_todo;
	struct exec_range run;
	uint64_t end_id;     /* of a run's END record; 0: it has none */
	uint64_t end_at;     /* where in the spool that begins */
	enum exec_word star; /* what one that does not stay said of all: it counts when it has ended */
	struct err star_why;

	size_t dir; /* of a reconcile: which item it is at */
	struct exec_walk *walk;
	struct exec_entries entries;
	uint64_t last_id; /* of the listing's records */
	bool unread;	  /* something could not be listed */
	bool closed;	  /* a directory's content was left out */

	/* Deletions: one limit for all listings of a work. */
	uint64_t listed;  /* entries of its listings */
	int64_t spent;	  /* by listings that are over */
	int64_t offered;  /* to the one under way */
	uint64_t deleted; /* by it, as the program reports, */
	bool reported;	  /* if it does, */
	bool reports;	  /* or ever did */
};

/* ---- exec.c ---- */

void exec_down(struct exec *s, const struct err *why);
/* A sign of life. */
void exec_alive(struct exec *s, const char *phase, const char *path, size_t len);
/* The records are complete: have them carried. */
void exec_run_spooled(struct exec *s);
/* The run under way is over: the next one, from the loop. */
void exec_run_over(struct exec *s);
size_t exec_changes(const struct exec *s);
void exec_settle(struct exec *s, size_t change, enum exec_word word, const struct err *why);
/* All of the run that has no verdict yet. */
void exec_settle_rest(struct exec *s, enum exec_word word, const struct err *why);
/* What it runs, for messages. */
const char *exec_program_name(const struct exec *s);

/* ---- exec_listing.c ---- */

/* Gather the records of the item at s->dir. -1: down. */
int exec_listing_begin(struct exec *s, struct err *err);
void exec_listing_end(struct exec *s);
/* So many deletions, says the program. */
void exec_listing_deleted(struct exec *s, uint64_t n);
/* The program is through with it: on to the next item. */
void exec_listing_over(struct exec *s);
/* The path of an entry by its record's number; NULL: it is none, or not remembered. */
const char *exec_listing_path(struct exec *s, uint64_t id);

/* ---- exec_answers.c ---- */

void exec_on_out(void *ctx, const char *text, size_t len, bool cut);
void exec_on_err(void *ctx, const char *text, size_t len, bool cut);

#endif
