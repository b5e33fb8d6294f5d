/*
 * mirror_private.h - what the files mirror*.c share. Not for others: mirror.h is the contract.
 *
 * Two kinds of tasks. An *entry* makes one name of the target what it is on the source (or removes it); it is a chain
 * of steps, each of which gets the result of the operation that the one before it started. A *dir* merges the listings
 * of one directory of both ends and starts an entry or a further dir for each name; or, as a wipe, removes all that is
 * in it. Dirs are a stack (depth first), entries run at once, up to `width` of them; with ends that answer at once
 * there is never more than one.
 */
#ifndef FANSYNCD_TRANSPORTS_MIRROR_PRIVATE_H
#define FANSYNCD_TRANSPORTS_MIRROR_PRIVATE_H

#include "core/backup_dir.h"
#include "core/path.h"
#include "core/twoway.h"
#include "transports/limit.h"
#include "transports/listing.h"
#include "transports/mirror.h"
#include "transports/mirror_alike.h"
#include "transports/mirror_hot.h"
#include "transports/mirror_rules.h"
#include "transports/temp_name.h"
#include "transports/throttle.h"

struct entry;
struct dir;
struct dir_ops;
struct link_group;
struct mirror_twoway;
struct backup_task;
struct part_sweep;

/* Starts the next operation, sets e->step to who gets its result, and returns what the operation returned; or ends the
 * task (entry_finish), which clears e->step. */
typedef enum fileops_result entry_step(struct entry *e);

struct entry {
	struct mirror *m;
	struct entry *next, *prev; /* of all under way, or of the free ones */
	struct entry *next_waiter; /* of a link group */
	struct dir *dir;	   /* it lies in; NULL: not part of a reconcile */
	struct dir *finishes;	   /* it sets the attributes of this one, as its last act */
	size_t item;		   /* of the work, that it settles; SIZE_MAX: none */
	char *path, *temp;
	size_t len, cap, temp_len, temp_cap;

	struct stat src, dst;
	bool dst_known, dst_there;
	bool gone_is_done; /* a deletion */
	bool harder;
	bool force_mtime;
	bool hashed;	/* the temp name */
	bool unlocked;	/* the directory above was made writable for it, once */
	bool parented;	/* the directories above were made for it, once */
	bool forced;	/* both ways: what was no directory above it has made way, once */
	bool downwards; /* the topmost of these that there is was found: now each below it */
	bool looked_again, cleared, wipe_kept, wipe_refused;
	bool as_directory; /* a removal: whether it is one was looked at */
	bool denied, no_link;
	bool decided, absent, notes; /* both ways: decided on; not on the source; agreed on when it is done */
	bool keep_attrs;	     /* a directory that both have, whose attributes are not ours to set */
	bool removed_dir, parked;
	struct twoway_state here, there, agreed;
	bool agreed_known, dst_listed; /* dst_listed: what is known of the target's is as old as its listing */
	char *there_text;
	size_t there_text_len;
	bool leftover; /* our own temp file: goes whatever the limits say */
	bool deletes;  /* its failure is one to delete */
	bool renames;
	size_t rename;
	unsigned tries;	   /* the file changed while it was read */
	int64_t opened_ns; /* real time */
	size_t up;	   /* making directories above: length of the one being made */

	entry_step *step, *again; /* again: after making way */
	enum fileops_result r;	  /* of the operation before */
	struct fileop op;
	struct fileops_file from, base; /* base: the target's file, that a difference may be made to */
	bool from_open, base_open, no_base;
	bool part;		  /* the temp name is one that a later connection can go on with */
	struct part_sweep *sweep; /* while parts of other versions are removed */
	struct fileops_attrs attrs;
	struct fileops_store store;
	char *xattrs, *text; /* malloc'ed */
	size_t xattrs_len, text_len;
	bool without_acl; /* the source's were read: no other ACL may stay */
	unsigned char digest[16];
	struct link_group *group; /* it is the first name of */

	enum verdict verdict; /* kept while something is cleaned up before the end */
	struct err why;
};

struct dir {
	struct mirror *m;
	struct dir *next; /* of the stack */
	struct dir *all_next, *all_prev;
	struct dir *parent;   /* NULL: of an item, or a wipe that an entry waits for */
	struct entry *waiter; /* a wipe */
	size_t item;	      /* parent NULL: the work's item, or SIZE_MAX */
	char *path;
	size_t len, top; /* top: length of the topmost path that is on the target only (wipe) */
	struct stat src, dst;
	bool fresh; /* just made: nothing can be in it */
	bool wipe;
	bool sweep;	    /* second look at what was not deleted before the limit was known */
	bool changed;	    /* its entries were: its mtime is due */
	bool kept, refused; /* wipe: something stays; because of the limit */
	bool deferred;	    /* deletions were put off */
	bool unlocked;
	bool keep_attrs;
	bool failed;	     /* could not be listed */
	bool same;	     /* the source has what the target has */
	bool merging;	     /* on the stack: it has been listed, and has more to put there */
	unsigned children;   /* on the stack because of it, since it had its turn */
	unsigned open;	     /* entries and dirs below that are under way */
	unsigned pending;    /* listings */
	struct dir_ops *ops; /* while it is listed */
	unsigned ahead;	     /* it is read ahead: by this, else 0 */
	struct listing from, to;
	size_t held; /* of m->n_held */
	size_t i, j;
	char bytes[]; /* of path */
};

struct item_state {
	bool settled, entered;
	enum verdict v;
	struct err why;
};

/* A directory that was made writable: gets its mode back at the end. */
struct unlocked_dir {
	struct unlocked_dir *next;
	mode_t mode;
	size_t len;
	char path[];
};

enum mirror_phase {
	PHASE_IDLE = 0,
	PHASE_RENAMES,
	PHASE_DIRS,    /* apply: directories, level by level */
	PHASE_DELETE,  /* apply: what is absent */
	PHASE_FILES,   /* apply: all else; reconcile: the items */
	PHASE_SWEEP,   /* reconcile: deletions that were put off */
	PHASE_TIMES,   /* apply: attributes of directories, deepest first */
	PHASE_RESTORE, /* modes of directories that were made writable */
	PHASE_END,
};

/* backupDir, for the work under way. */
struct mirror_backup {
	char dir[BACKUP_DIR_MAX]; /* "": nothing is put away */
	size_t root_len;	  /* of dir: what holds all backups */
	char stamp[BACKUP_STAMP_MAX];
	struct backup_task *tasks;
};

/* Directories that are remembered to hold no old parts. */
#define PARTS_SWEPT 32u

struct mirror {
	const struct transport_env *env;
	struct fileops_end source, target;
	struct mirror_rules rules;
	unsigned width, width_dirs;
	uint32_t tag;
	struct throttle throttle;
	struct limit limit; /* what the throttle follows */
	struct mirror_backup backup;
	struct mirror_twoway *twoway; /* NULL: one way */
	struct mirror_hot *hot;	      /* NULL: the target's times tell enough */
	struct loop_timer *timer;
	struct mirror_ahead ahead; /* ctx NULL: none */
	struct mirror_keep keep;   /* for it */
	bool looked_ahead;	   /* in this work */

	const struct transport_work *work; /* NULL: idle */
	bool reconcile, pumping;
	enum mirror_phase phase;
	size_t next;  /* item of the phase */
	size_t depth; /* PHASE_DIRS */
	size_t max_depth;
	struct item_state *items;
	bool *renames_settled;
	int64_t now_ns; /* real time at the start of the round */
	uint64_t source_dev;

	struct entry *active, *free_entries;
	unsigned n_active;
	struct dir *ready, *paused, *deferred, *over, *dirs;
	unsigned n_listing, n_dirs; /* n_dirs: begun or on the stack */
	size_t n_held;		    /* entries that one end has listed, and the other one has not yet */
	struct mirror_alike *same;  /* NULL: not needed so far */
	struct dir_ops *spare_ops;
	char *name; /* scratch for paths */
	size_t name_cap;
	bool renaming;
	struct unlocked_dir *unlocked;
	struct link_group **links; /* a hash table; NULL: none was met */

	int64_t delete_left;
	bool continues;	 /* the next work is a piece of the last one */
	bool limit_open; /* the limit is not known yet: beyond delete_left deletions are put off */
	bool was_refused;
	uint64_t refused;
	uint64_t seen, deleted, files, bytes; /* of this work */
	unsigned found;			      /* failures inside a reconcile */
	uint64_t swept[PARTS_SWEPT];	      /* directories that hold no parts but of what is due; 0: none */
	size_t next_swept;
	unsigned skipped_kinds; /* told once a session, bits by kind */
	bool told_refused;	/* likewise, of an extended attribute */
	uint64_t shown_bytes;
};

#define MIRROR_FOUND_MAX 1000u
#define DELETIONS_DEFAULT 1000u
#define LEFTOVER_AGE_NS (24 * 3600 * NS_PER_S)

/* ---- mirror.c ---- */

/* More may be done: from the loop, soon. */
void mirror_kick(struct mirror *m);
/* From a completion: go on now. */
void mirror_pump(struct mirror *m);
void mirror_settle(struct mirror *m, size_t item, enum verdict v, const struct err *why);
/* A failure of a path that has no item of its own. */
void mirror_found(struct mirror *m, const char *path, size_t len, enum verdict v, const struct err *why);
void mirror_show(struct mirror *m, const char *phase, const char *path, size_t len);
/* One more deletion is allowed. false: refused, or put off (then m->limit_open). */
bool mirror_may_delete_one(struct mirror *m);
/* It was not to be, after all. */
void mirror_not_deleted(struct mirror *m);
bool mirror_has_room(const struct mirror *m);
/* A directory of the target gets that mode at the end. */
bool mirror_note_unlocked(struct mirror *m, const char *path, size_t len, mode_t mode);
/* Its attributes are about to be set, which does that. Returns whether it was noted. */
bool mirror_forget_unlocked(struct mirror *m, const char *path, size_t len);

/* mirror_compare, and what is remembered of the path. */
enum mirror_same mirror_judge(struct mirror *m, const char *path, size_t len, const struct mirror_look *look);

/* ---- mirror_entry.c ---- */

/* A task for dir/name (name_len 0: dir itself). NULL: out of memory, which ends the work. */
struct entry *entry_new(struct mirror *m, const char *dir, size_t dir_len, const char *name, size_t name_len);
void entry_start(struct entry *e, entry_step *first);
void entry_go_on(struct entry *e, enum fileops_result r);
void entry_free_all(struct mirror *m);
/* What an operation gave (e->op.bytes) belongs to *to from now on; what was there is freed. */
void entry_take_bytes(struct entry *e, char **to, size_t *len);
/* The end of a task. Returns OK, for `return entry_finish(...)`. */
enum fileops_result entry_finish(struct entry *e, enum verdict v, const struct err *why);
/* The same with what e->op says, as RETRY. */
enum fileops_result entry_fail(struct entry *e);
/* What the target would not take: told once. */
void entry_note_unmet(struct entry *e);
/* The same, after the temp file is removed. */
enum fileops_result entry_abandon(struct entry *e, enum verdict v, const struct err *why);
/* Make way for `again` after GONE, DENIED: once each. false: nothing can be done, fail. */
bool entry_make_way(struct entry *e, entry_step *again, enum fileops_result *out);
bool entry_temp(struct entry *e, enum temp_kind kind, uint64_t version);

entry_step entry_sync;	       /* look, if need be, and make equal */
entry_step entry_delete;       /* remove it */
entry_step entry_same;	       /* content is equal: attributes */
entry_step entry_set_attrs;    /* e->attrs, then finish */
entry_step entry_clear_target; /* a directory stands in the way: remove it, then e->again */
entry_step entry_restore_mode;
entry_step entry_dir_attrs; /* of a directory of the work: look, then what differs */
entry_step entry_rmdir;	    /* mirror_dir.c */

/* ---- mirror_send.c ---- */

entry_step send_file; /* a regular file that differs, or is in doubt */
entry_step send_symlink;
entry_step send_node;
entry_step send_compare; /* content of both */
entry_step send_replace; /* the temp file or link is complete: rename it */

/* ---- mirror_backup.c ---- */

/* A work begins: where to. -1: that is no directory. */
int backup_begin(struct mirror *m, struct err *err);
/* The target's rename and unlink; what would be replaced (unless `keep`) or removed is put away first. */
enum fileops_result backup_rename(struct mirror *m, struct fileop *op, const char *from, size_t from_len,
				  const char *to, size_t to_len, bool keep);
enum fileops_result backup_unlink(struct mirror *m, struct fileop *op, const char *path, size_t len);
/* Whether a path is where backups are: nothing of it is touched. */
bool backup_covers(const struct mirror *m, const char *path, size_t len);
/* What to say then. */
void backup_refusal(struct err *why);
/* No operation calls back any more. */
void backup_forget(struct mirror *m);

/* ---- mirror_links.c ---- */

/* For a file with several names. Returns true when the entry is taken care of (*out to be returned): linked to the
 * first name, or waiting for it. */
bool links_join(struct entry *e, enum fileops_result *out);
/* The first name is over. */
void links_leave(struct entry *e, bool done);
void links_free_all(struct mirror *m);

/* ---- mirror_parts.c: e->src is what is being sent ---- */

/* Whether what a cut leaves of it is to be gone on with. */
bool part_is_worth_it(const struct entry *e);
/* It is under way, and far enough to be left. */
bool part_is_worth_keeping(const struct entry *e);
/* Its temp name. false: out of memory. */
bool part_temp(struct entry *e);
/* Parts of other versions go first, then `again`; once a directory. false: there are none. */
bool part_make_way(struct entry *e, entry_step *again, enum fileops_result *out);
/* Where to go on in what was found. false: it cannot be one. */
bool part_offset(const struct entry *e, const struct stat *found, uint64_t *out);
void part_free_sweep(struct entry *e);
/* While a directory is merged: whether a part of ours will be gone on with. `base`: the name that it stands for. */
bool part_is_due(struct dir *d, const struct fileops_entry *part, const char *base, size_t base_len);
/* That directory was looked through. */
void parts_swept(struct mirror *m, const char *dir, size_t len);

/* ---- mirror_dir.c ---- */

struct dir *dir_new(struct mirror *m, struct dir *parent, const char *path, size_t len, const char *name,
		    size_t name_len);
/* The path of a name in it, in a buffer that the next call uses again; NULL: out of memory. */
const char *dir_path_of(struct dir *d, const char *name, size_t len, size_t *out_len);
/* Put it on the stack. */
void dir_push(struct dir *d);
/* One step of the topmost dir; false: nothing to do now. */
bool dir_run_one(struct mirror *m);
/* For m->keep: ctx is the filter. */
bool dir_keeps(const void *ctx, const char *path, size_t len, size_t base, bool is_dir);
/* An entry or dir below it is over. */
void dir_child_done(struct dir *d);
/* What should have been deleted in it is still there: said of the item, or of the entry that waits. */
void dir_deletion_failed(struct dir *d, const struct err *why);
/* Its attributes are set. */
void dir_finished(struct dir *d);
/* Begin the second pass over what was put off. */
void dir_start_sweep(struct mirror *m);
void dir_free_all(struct mirror *m);
/* A wipe of e->path for an entry, which goes on with e->wipe_kept and wipe_refused set. */
enum fileops_result dir_wipe_for(struct entry *e);
/* Of an entry of a directory (e->dir): what is below e->path, which only the target has, is decided on name by name; it
 * stays itself. false: no memory. */
bool dir_enter_extra(struct entry *e);

/* ---- mirror_digest.c ---- */

/* What the source's listing is asked for unless it has: the digest of the target's, if nothing were to be done in it in
 * that case. false: it can't be asked, or something were to be done all the same. */
bool dir_digest(struct dir *d, const struct listing *target, unsigned *fields, unsigned char *out);

/* ---- mirror_twoway.c ---- */

/* Nothing to do in a sync of one way. `agreed`: NULL, or where the archive is. */
int both_open(struct mirror *m, const struct mirror_agreed *agreed, struct err *err);
void both_close(struct mirror *m);
/* What the target is has become known. */
void both_ends(struct mirror *m);
int both_commit(struct mirror *m, struct err *err);
/* Look at both, decide, then entry_sync, entry_delete or the end. */
enum fileops_result both_begin(struct entry *e, bool absent);
void both_done(struct entry *e);
/* What a listing told of the archive, of the source's entry or (NULL) the lack of one. */
void both_listed(struct entry *e, const struct fileops_entry *src);
/* It is archived, and on neither side. */
void both_gone(struct mirror *m, const char *path, size_t len);
/* Whether the source's machine may have lost what only the target has (archive_in_doubt). */
bool both_in_doubt(const struct mirror *m);
bool both_unmoved(const struct entry *e, const struct stat *now);
/* What stands at the first `len` bytes of the path is to be a directory, and loses: by an operation of `e`. */
enum fileops_result both_clear_above(struct entry *e, size_t len, const struct stat *st);
/* op->agreed of a path. */
enum fileops_result both_recall(struct mirror *m, struct fileop *op, const char *path, size_t len);
struct twoway_state both_state(struct mirror *m, const struct stat *st, const char *text, size_t text_len);
bool both_same(const struct mirror *m, const struct twoway_state *a, const struct twoway_state *b);
/* Whether what is agreed on can be moved from here; and that. */
bool both_moves(const struct mirror *m);
bool both_moved(struct mirror *m, const char *from, size_t from_len, const char *to, size_t to_len, struct err *err);

/* ---- mirror_moves.c: e->rename of a bidirectional work ---- */

entry_step move_begin; /* apply_carry, or the end of it */
entry_step move_done;  /* the target has done it */

/* ---- mirror_apply.c ---- */

/* The next thing of the phase: true when something was started, or skipped. */
bool apply_next(struct mirror *m);
void apply_entered(struct mirror *m, size_t item);
/* The rename of an entry that has e->renames: do it at the target; it is over; it becomes a reconcile of both names. */
entry_step apply_carry;
enum fileops_result apply_rename_over(struct entry *e, enum verdict v);
enum fileops_result apply_degrade(struct entry *e, const char *why);
/* A rename that did not come to its end. */
void apply_rename_failed(struct entry *e, const struct err *why);

#endif
