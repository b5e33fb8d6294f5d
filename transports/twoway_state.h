/*
 * twoway_state.h - the states that core/twoway.h compares, made of what a look at either side tells. Shared by all
 * transports that can look at their target: both ends must hash alike.
 */
#ifndef FANSYNCD_TRANSPORTS_TWOWAY_STATE_H
#define FANSYNCD_TRANSPORTS_TWOWAY_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "core/look.h"
#include "core/options.h"
#include "core/twoway.h"

/* What of an entry is mirrored, and so compared. */
struct twoway_what {
	bool perms, owner, group, numeric, links, specials, link_times;
};

struct twoway_what twoway_what_of(const struct sync_options *opt);
/* Whether entries of this kind are mirrored at all. */
bool twoway_mirrored(const struct twoway_what *w, enum look look);

/* Pure. `owner` and `group` are names, or numbers in decimal where there is no name (or `numeric`); `text` is a
 * symlink's. What is not mirrored may be NULL, and is left out. */
struct twoway_state twoway_state_make(const struct twoway_what *w, enum look look, unsigned mode, int64_t size,
				      int64_t mtime_ns, const char *owner, const char *group, const char *text,
				      size_t text_len);
/* Seconds and nanoseconds as one number; far years become the last one that fits. */
int64_t twoway_time(int64_t seconds, int64_t ns);

/* Names of numbers, remembered, since a name service may be slow. All zero at first. */
#define TWOWAY_NAMES 64
struct twoway_names {
	struct {
		bool known;
		unsigned id;
		char name[33];
	} users[TWOWAY_NAMES], groups[TWOWAY_NAMES];
};

/* The state of a path of the source that was looked at as `look` and `st`; reads a symlink's text. -1: it can't be
 * known now. */
int twoway_state_of(const struct twoway_what *w, struct twoway_names *names, struct looker *l, const char *path,
		    size_t len, enum look look, const struct stat *st, struct twoway_state *out, struct err *err);

/* The same for what has been looked at already, by whatever way. */
struct twoway_state twoway_state_of_stat(const struct twoway_what *w, struct twoway_names *names, enum look look,
					 const struct stat *st, const char *text, size_t text_len);

/* What an archive of a sync is for: the pair that it names (archive.h). Returns `out`. */
#define TWOWAY_PAIR (2u * 4096 + 64)
const char *twoway_pair(const struct sync_options *opt, char out[TWOWAY_PAIR]);

/* A state in words, for the log: "file of 12 bytes, 2025-01-31 10:00:00.123456789". Returns `out`. */
#define TWOWAY_WORDS 96
const char *twoway_words(const struct twoway_state *s, char out[TWOWAY_WORDS]);

/* A conflict in words, for the log where the sync is. Returns `out`. */
#define TWOWAY_CONFLICT_WORDS 1400
const char *twoway_conflict_words(const char *path, size_t len, const struct twoway_state *source,
				  const struct twoway_state *target, bool source_wins, char out[TWOWAY_CONFLICT_WORDS]);

/* Conflicts that were told, so that looking at one again does not tell it again. All zero at first. */
#define TWOWAY_TOLD 256
struct twoway_told {
	uint64_t v[TWOWAY_TOLD];
	unsigned next;
};
/* Whether this one was not told yet; it is from now on. */
bool twoway_is_news(struct twoway_told *t, const char *path, size_t len, const struct twoway_state *here,
		    const struct twoway_state *there);

/* Why twoway_waits holds a path back, with the class ERR_AGAIN. */
void twoway_older(struct err *why);

/* The name that the loser of a conflict is kept under: NAME.conflict-YYYYMMDD-HHMMSS-XXXXXXXX, by its mtime (UTC) and a
 * hash of its state; the path's last component is shortened if it must be. `out` has room for len + NAME_BYTES_MAX.
 * Returns the length. */
size_t twoway_conflict_name(const char *path, size_t len, const struct twoway_state *loser, char *out);

#endif
