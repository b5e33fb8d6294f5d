/*
 * rsyncssh_twoway_private.h - what is inside of a bidirectional work. Shared by rsyncssh_twoway.c (the order of
 * things), rsyncssh_names.c, _moves.c, _items.c, _compare.c, _away.c, _puts.c and _backs.c (its phases), included by
 * them alone.
 *
 * A work is a row of phases. A phase sends its calls ahead, takes the answers in the same order, and when all are in
 * names the next phase.
 */
#ifndef FANSYNCD_TRANSPORTS_RSYNCSSH_TWOWAY_PRIVATE_H
#define FANSYNCD_TRANSPORTS_RSYNCSSH_TWOWAY_PRIVATE_H

#include "core/archive.h"
#include "core/look.h"
#include "core/path.h"
#include "transports/rsyncssh_remote.h"
#include "transports/rsyncssh_twoway.h"
#include "transports/twoway_state.h"

#define NO_ITEM SIZE_MAX
#define TWOWAY_COMMAND_MAX (512u * 1024)

enum change_fate {
	FATE_OPEN = 0,
	FATE_SENT,     /* rsync has passed its commit point */
	FATE_SETTLED,  /* its verdict was given */
	FATE_RESTORED, /* an edit that was newer was put back over it */
};

/* A path at which something is to be done. */
struct change {
	size_t item; /* of work->items; NO_ITEM: found below one */
	unsigned flags, tries;
	enum look look; /* of the source */
	struct stat st;
	struct twoway_state source, target;
	enum twoway_action action;
	enum change_fate fate;
	bool apart;	      /* on another file system than the target's top */
	const char *head;     /* of the target; "" when it is absent */
	int64_t ask_ns;	      /* ask for the target's state by this mtime; 0: not */
	struct change *above; /* a directory of another type, or absent here, that this one lies below */
	bool stuck;	      /* it could not be removed */
	bool reachable;	      /* what is above it is a directory at the target, too, or will be before it is sent */
	bool staged;	      /* it lies in the private directory, as it was when it was looked at */
	size_t len;
	char path[];
};

struct changes {
	struct change **v;
	size_t n, cap;
};

/* Names that are looked at, each once, with all their parents. */
struct name {
	const char *path; /* borrowed */
	size_t len;
	bool unknown; /* the other end could not look at it */
};
struct names {
	struct name *v;
	size_t n, cap;
};
struct span {
	size_t from, to;
};
struct spans {
	struct span *v;
	size_t n, cap;
};

/* A directory that waits to be compared. */
struct pair_dir {
	struct pair_dir *next;
	bool no_source, no_target; /* that side is known not to have it */
	uint64_t dev;		   /* of the target's, or of the next above it that is there */
	size_t len;
	char path[];
};

enum phase_id {
	PHASE_NONE = 0, /* wait: rsync is at work, or the work is over */
	PHASE_SETUP,
	PHASE_OLD_BACKS, /* what a run before left */
	PHASE_OLD_LOOK,
	PHASE_OLD_ACT,
	PHASE_NAMES, /* of renames */
	PHASE_MOVES,
	PHASE_LOOK,
	PHASE_TOPS, /* the directories that a comparison begins with */
	PHASE_LIST,
	PHASE_TREES,
	PHASE_ACT,
	PHASE_SEND,
	PHASE_PUTS,
	PHASE_BACKS,
	PHASE_BACKS_LOOK,
	PHASE_BACKS_ACT,
	PHASE_STORE, /* with backupDir */
	PHASE_CLEAN,
	PHASES
};

struct phase {
	void (*enter)(struct twoway *t); /* may be NULL */
	/* Send one call. false: there is none left. */
	bool (*issue)(struct twoway *t);
	void (*answer)(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data);
	enum phase_id (*over)(struct twoway *t);
};

struct twoway {
	const struct transport_env *env;
	struct transport_env inner; /* for rsync's session */
	struct twoway_link link;
	struct twoway_what what;
	struct twoway_names owners;
	struct twoway_told told;
	struct archive *archive;
	bool fresh; /* the archive knows nothing: all is to be compared */
	char own[NAME_BYTES_MAX + 1];
	bool set_up, swept; /* this connection: the shell is prepared, left-overs were looked at */
	enum twoway_times times;
	uint64_t top_dev;
	/* The work under way. */
	const struct transport_work *work;
	bool reconcile;
	enum phase_id phase;
	size_t asked, answered;
	bool exhausted;
	bool running;	   /* the pump */
	bool broken, over; /* it ends, for a reason or well */
	struct err why;
	bool *settled;		    /* one an item */
	struct looker looker;	    /* at the source */
	struct remote_entries seen; /* the target */
	struct names names;
	struct spans spans;
	size_t next_span;
	char trouble[300];
	struct changes changes;			    /* owns */
	struct changes deletes, trees, asks, sends; /* borrow */
	size_t act;				    /* the next of deletes, then of asks */
	bool stages;				    /* files go through TWOWAY_STAGED */
	unsigned lane;				    /* enum twoway_lane */
	struct transport_work lane_work;
	struct transport_item *lane_items;
	size_t *lane_change; /* index of sends, one an item */
	size_t put, *puts;   /* the next of sends; of which each call was */
	/* Renames. */
	size_t move;
	char **move_heads; /* what each name is expected to be; NULL: not carried */
	/* Comparing. */
	struct pair_dir *dirs, *dirs_end; /* that wait */
	struct pair_dir *slice;		  /* that are listed now */
	size_t n_slice;
	uint64_t listed, yields;
	/* What was replaced. */
	struct remote_entries backs, present;
	size_t back;
	struct back_call *back_calls; /* one a call that was sent, in that order */
	bool restore_failed;	      /* or storing it */
	bool kept_told;		      /* the shell knows this work's backupDir */
};

/* ---- rsyncssh_twoway.c ---- */

void twoway_down(struct twoway *t, const struct err *why);
void twoway_settle(struct twoway *t, size_t item, enum verdict v, const struct err *why);
/* The verdict of a change: of its item, or as a path that was found. DONE of the latter is not told. */
void twoway_verdict(struct twoway *t, struct change *c, enum verdict v, const struct err *why);
/* The beginning of a command that replaces or removes something, or prepares that: with backupDir, should the shell not
 * know it yet. */
void twoway_command_begin(struct twoway *t, struct buf *command);
/* Releases the command. */
bool twoway_call(struct twoway *t, struct buf *command);
void twoway_no_memory(struct twoway *t);
/* Whether the source still is what was decided on. */
bool twoway_unchanged(struct twoway *t, const struct change *c);
void twoway_note(struct twoway *t, const char *path, size_t len, const struct twoway_state *state);
void twoway_conflict(struct twoway *t, const char *path, size_t len, const struct twoway_state *here,
		     const struct twoway_state *there, const char *end);
/* Look again at a path that both may yield. */
void twoway_again(struct twoway *t, const char *path, size_t len);

/* ---- rsyncssh_away.c ---- */

/* Whether what the source was seen to lack is there again, or only out of sight while another host replaces or deletes
 * it. Reads the top of the source. */
bool twoway_put_away(const struct twoway *t, const char *path);
/* Why it is looked at again then. */
void twoway_away(struct err *why);

/* ---- rsyncssh_names.c ---- */

/* Memory of the work's own; false, NULL: there is none. */
struct change *twoway_add(struct twoway *t, const char *path, size_t len, const char *head);
bool twoway_push(struct changes *list, struct change *c);
/* In the order of a walk, each path once. */
void twoway_sort(struct changes *list);
/* Among the first n of a sorted list; NULL: it is not there. */
struct change *twoway_find(const struct changes *list, size_t n, const char *path, size_t len);
/* Names to look at; spans sorts them, and cuts them into calls. */
void twoway_clear_looks(struct twoway *t);
/* Whether the directory above it, which was looked at, is one at the target. */
bool twoway_reachable(const struct twoway *t, const char *path, size_t len);
bool twoway_want(struct twoway *t, const char *path, size_t len);
bool twoway_want_parents(struct twoway *t, const char *path, size_t len);
bool twoway_spans(struct twoway *t);
bool twoway_issue_names(struct twoway *t, const char *verb);
void twoway_answer_names(struct twoway *t, size_t n, const struct buf *data, struct remote_entries *to);
bool twoway_self_issue(struct twoway *t);
void twoway_self_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data);
/* The source's state of a path, now; -1: it can't be known. */
int twoway_source(struct twoway *t, const char *path, size_t len, struct twoway_state *out, struct stat *st);
/* The target's state of a path whose parents were looked at; -1: it can't be known. */
int twoway_target(const struct twoway *t, const char *path, size_t len, struct twoway_state *out, const char **head,
		  uint64_t *dev);

/* ---- rsyncssh_moves.c: PHASE_NAMES, PHASE_MOVES ---- */

void moves_look_enter(struct twoway *t);
enum phase_id moves_look_over(struct twoway *t);
bool moves_issue(struct twoway *t);
void moves_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data);
enum phase_id moves_over(struct twoway *t);

/* ---- rsyncssh_items.c: PHASE_LOOK, PHASE_TREES, PHASE_ACT ---- */

void items_enter(struct twoway *t);
enum phase_id items_over(struct twoway *t);
void trees_enter(struct twoway *t);
bool trees_issue(struct twoway *t);
enum phase_id trees_over(struct twoway *t);
void act_enter(struct twoway *t);
bool act_issue(struct twoway *t);
void act_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data);

/* ---- rsyncssh_compare.c: PHASE_TOPS, PHASE_LIST ---- */

enum phase_id compare_tops_over(struct twoway *t);
void compare_forget(struct twoway *t);
bool compare_issue(struct twoway *t);
void compare_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data);
enum phase_id compare_over(struct twoway *t);

/* ---- rsyncssh_puts.c: PHASE_PUTS ---- */

void puts_enter(struct twoway *t);
bool puts_issue(struct twoway *t);
void puts_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data);
enum phase_id puts_over(struct twoway *t);

/* ---- rsyncssh_backs.c: what was replaced, now or by a run before ---- */

bool backs_issue(struct twoway *t);
void backs_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data);
enum phase_id backs_over(struct twoway *t);
void backs_look_enter(struct twoway *t);
bool backs_look_issue(struct twoway *t);
void backs_look_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data);
enum phase_id backs_look_over(struct twoway *t);
void backs_forget(struct twoway *t);
void backs_act_enter(struct twoway *t);
bool backs_act_issue(struct twoway *t);
void backs_act_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data);
enum phase_id backs_act_over(struct twoway *t);
void store_enter(struct twoway *t);
bool store_issue(struct twoway *t);
void store_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data);
enum phase_id store_over(struct twoway *t);

#endif
