/*
 * rsync_passes.h - what is inside of a session: passes, notes of messages, the memory of what was sent. Shared by
 * rsync_session.c (the run of things), rsync_launch.c (how a run is started) and rsync_judge.c (what an ended run
 * means), included by them alone.
 */
#ifndef FANSYNCD_TRANSPORTS_RSYNC_PASSES_H
#define FANSYNCD_TRANSPORTS_RSYNC_PASSES_H

#include "transports/limit.h"
#include "transports/rsync_exit.h"
#include "transports/rsync_names.h"
#include "transports/rsync_run.h"
#include "transports/rsync_session.h"

enum pass_flag {
	PASS_CHECKSUM = 1u << 0,
	PASS_FORCE = 1u << 1,
	PASS_COUNT = 1u << 2,	/* a dry run that counts what a reconcile would delete */
	PASS_COUNTED = 1u << 3, /* its limit follows from that */
	PASS_KEEP = 1u << 4,	/* the limit was reached: no more deletions */
};

struct pass {
	size_t *items; /* indices of work->items, ascending */
	size_t n;
	unsigned flags;
	bool sums;	/* its run said only sums */
	unsigned round; /* how often its items were run again */
	int64_t max_delete;
	struct strlist rules; /* exclusions of what failed before */
	struct pass *next;
};

/* A message that names a path. */
struct note {
	enum rsync_event_kind kind;
	char *path; /* relative to the source */
	size_t len;
	struct err err;
};

#define NOTES_MAX 4096u
#define SENT_SLOTS 8192u
#define RUNS_MAX 200u

struct sent {
	uint64_t hash;
	int64_t size;
	struct timespec mtime;
};

enum item_mark { ITEM_OPEN = 0, ITEM_SETTLED, ITEM_NAMED };

enum { LAUNCH_TABLES = 2 };

struct rsync_session {
	const struct transport_env *env;
	struct rsync_endpoint to;
	struct rsync_owner owner;
	struct rsync_run run;
	struct loop_timer *timer;
	struct limit limit;
	char cwd[40];
	struct rsync_names names;
	/* Facts about both ends. */
	unsigned local_version, peer_version;
	bool negotiated, peer_asked;
	bool bare;	   /* rrsync is at the other end: no -s, no fine times */
	bool open;	   /* rsync is not confined */
	unsigned silences; /* runs in a row that were ended since nothing was heard of them */
	bool tables_matter;
	struct stat tables[LAUNCH_TABLES]; /* when the run under way began */
	bool filter_file_made;
	char filter_file[256], list_file[256];
	/* The work under way. */
	const struct transport_work *work;
	bool reconcile;
	unsigned char *marks; /* enum item_mark, one an item */
	size_t *note_of;      /* the note that named an item, while it is ITEM_NAMED */
	struct pass *passes;
	struct pass *running;
	unsigned runs;
	int status;	  /* wait status of the run that ended last */
	uint64_t deleted; /* entries, by all runs of this work */
	bool marker_seen, marker_asked;
	/* The run under way. */
	int64_t rate; /* that it was started with */
	bool cut;     /* it was ended for another one */
	struct note *notes;
	size_t n_notes, notes_cap;
	bool notes_lost; /* more messages than could be kept */
	bool deletion_off, no_space, limit_hit;
	uint64_t counted_files, counted_deletions;
	uint64_t files_done, bytes_done, bytes_shown, files_left;
	struct buf said;
	struct sent *sent;
};

/* Implemented in rsync_launch.c. */
void launch_init(struct rsync_session *s);
void launch_done(struct rsync_session *s);
/* Start rsync; takes the list. `listed`: only to see whether the target has this path. false: the work is over. */
bool launch(struct rsync_session *s, const struct rsync_job *what, const char *listed, struct buf *list);
void launch_version(struct rsync_session *s);
/* A run has ended with this status. */
void launch_over(struct rsync_session *s, int status);
/* Many rules would not fit on a command line: s->filter_file. */
int launch_filter_file(struct rsync_session *s, struct err *err);
/* Whether /etc/passwd or /etc/group is another file than when this pass began, for which rsync needed them. */
bool launch_tables_changed(const struct rsync_session *s, const struct pass *p);

/* Implemented in rsync_session.c. */
void session_forget_notes(struct rsync_session *s);
void session_out_of_memory(struct rsync_session *s);
void session_settle(struct rsync_session *s, size_t item, enum verdict v, const struct err *why);
bool session_push(struct rsync_session *s, const size_t *items, size_t n, const struct pass *like);
void session_next(struct rsync_session *s);
void session_finish(struct rsync_session *s, const struct err *why);
bool session_fine_times(const struct rsync_session *s);
/* Both ways: each path was looked at at the target and decided on. */
bool session_each_decided(const struct rsync_session *s);
void pass_free(struct pass *p);
bool pass_add_rule(struct pass *p, const char *prefix, const char *path, size_t len);

/* rsync_judge.c: the run of `p` ended; settles, pushes further passes, or ends the work. Owns p afterwards. */
void session_judge(struct rsync_session *s, struct pass *p, int status);
void session_note(struct rsync_session *s, const struct rsync_event *ev);

#endif
