/*
 * twoway.h - the three-way decision of a bidirectional sync. Pure.
 *
 * For each path three states are compared: what the source has now, what the target has now, and what both were last
 * known to agree on (core/archive.h). Nothing here depends on guessing who made a change. Both hosts run the same
 * function with source and target exchanged, so of a conflict both must name the same winner.
 *
 * A host only ever sends; what it yields (THEIRS, LOSE) is for the other one to send. Each keeps an archive of its own,
 * and these may disagree: what arrived at a host and was changed there before the host had noted it is known as agreed
 * to the sender alone. Then both yield. twoway_asks is the way out: the host that yields makes the other's state a new
 * one.
 */
#ifndef FANSYNCD_CORE_TWOWAY_H
#define FANSYNCD_CORE_TWOWAY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/entry.h"

/* One path on one side, as far as a decision looks at it. A path that is not in the archive is LOOK_ABSENT: "both were
 * without it" and "nothing is known" ask for the same actions. */
struct twoway_state {
	enum look look;	  /* LOOK_ABSENT: the rest is 0 */
	int64_t size;	  /* files; length of a symlink's text; otherwise 0 */
	int64_t mtime_ns; /* files, symlinks where their times are mirrored; 0 for directories, whose times follow from
			     their entries, and for special files */
	uint64_t attr;	  /* hash of what else is mirrored: permissions, owner and group by name, a symlink's text; 0
			     when nothing of that is */
};

/* At what resolution the target's times may be compared: one that keeps whole seconds (SFTP, a `stat` without
 * fractions). The source and the archive always have nanoseconds. */
enum twoway_times { TWOWAY_NANOSECONDS = 0, TWOWAY_SECONDS };

enum twoway_action {
	TWOWAY_NONE = 0, /* unset */
	TWOWAY_EQUAL,	 /* target equals source: note it in the archive, send nothing (this ends the echo) */
	TWOWAY_THEIRS,	 /* source equals archive: the change was not ours, send nothing, note nothing */
	TWOWAY_SEND,	 /* ours, and the target is as last agreed: make the target like the source */
	TWOWAY_DELETE,	 /* ours is a deletion, and the target is as last agreed: delete there just that */
	TWOWAY_WIN,	 /* conflict, the source wins: send; what is overwritten is the loser */
	TWOWAY_LOSE,	 /* conflict, the target wins: send nothing; the other host sends it to us */
};

/* Same type, size, time and attributes; of two directories only the attributes count. */
bool twoway_same(const struct twoway_state *a, const struct twoway_state *b, enum twoway_times times);

/* Whether `a` wins a conflict with `b`, which is not the same: something beats a deletion, a directory beats what is
 * none, a file or symlink a special file; then the newer mtime, the larger size, the larger attr, the type. Never true
 * both ways, never false both ways.
 */
bool twoway_beats(const struct twoway_state *a, const struct twoway_state *b, enum twoway_times times);

/* The decision. */
enum twoway_action twoway_decide(const struct twoway_state *source, const struct twoway_state *target,
				 const struct twoway_state *archive, enum twoway_times times);

/* After how many looks that yielded, with pauses between them, a host asks. */
#define TWOWAY_ASK_LOOKS 3
/* Whether a host that has yielded `looks` times should ask the other one to send: `target` is then given an mtime that
 * is newer by the least that `times` can tell (*mtime_ns). To the other host that is an edit, which it sends. */
bool twoway_asks(enum twoway_action a, unsigned looks, const struct twoway_state *target, enum twoway_times times,
		 int64_t *mtime_ns);

/* Whether to look once more before an older file is sent (TWOWAY_SEND) over the newer one that both had: rsync may have
 * put an older one over an edit that came in between, and puts the edit back as soon as it sees that. What a user has
 * restored is sent after TWOWAY_ASK_LOOKS looks. */
bool twoway_waits(enum twoway_action a, unsigned looks, const struct twoway_state *source,
		  const struct twoway_state *archive);

/* Whether a host that has yielded so often should send after all. To an absence, when its own name was seen to come, go
 * or be taken anew (`named`) since the last batch, so that it is no mere left-over of what the other one has deleted.
 * To a directory, which has no time to ask by: its host knows of no change of its own, or it would have sent that. */
bool twoway_insists(enum twoway_action a, unsigned looks, const struct twoway_state *source,
		    const struct twoway_state *target, bool named);

/* The word for logs. */
const char *twoway_action_name(enum twoway_action a);

#endif
