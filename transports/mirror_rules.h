/*
 * mirror_rules.h - what a sync mirrors, and when two entries are equal. Pure: times are arguments.
 */
#ifndef FANSYNCD_TRANSPORTS_MIRROR_RULES_H
#define FANSYNCD_TRANSPORTS_MIRROR_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "core/clock.h"
#include "core/options.h"
#include "transports/fileops.h"

/* Kernels stamp files with the time of their last timer interrupt: two writes within one bear the same mtime. */
#define MIRROR_STAMP_NS (20 * NS_PER_MS)
/* A file system that keeps whole seconds, or two. */
#define MIRROR_COARSE_NS (2100 * NS_PER_MS)
/* What was written longer ago, and neither failed nor is in doubt for another reason, had its event long since. */
#define MIRROR_RECENT_NS (600 * NS_PER_S)

struct mirror_rules {
	bool links, times, dir_times, link_times, perms, owner, group, devices, specials;
	bool hard_links, sparse, checksum, update, dry_run, executability, existing, ignore_times, one_file_system;
	bool delete_excluded, bidirectional;
	unsigned xattr_kinds;	    /* enum fileops_xattr_kind */
	int64_t max_size, min_size; /* -1: none */
	int64_t tick_ns;	    /* the target's */
	unsigned caps;		    /* the target's */
	int64_t ahead_ns;	    /* the target's clock, of the source's: at most. Ours is the target's */
	unsigned unmet;		    /* enum fileops_attr that the target was seen to refuse */
	mode_t umask;
};

void mirror_rules_init(struct mirror_rules *r, const struct sync_options *opt);
/* A size as rsync's --max-size takes it ("1.5G", "100KB", "1M-1"). false: no such thing. */
bool mirror_parse_size(const char *text, int64_t *out);

/* Of two regular files. */
enum mirror_same {
	MIRROR_DIFFERS = 0,
	MIRROR_SAME,
	MIRROR_DOUBT, /* size and time are equal, but do not prove it: the content must be compared */
	MIRROR_KEEP,  /* the target's is newer, and `update` says that it stays */
	MIRROR_SKIP,  /* too large or too small to be sent */
};
struct mirror_look {
	const struct stat *src, *dst; /* dst NULL: not there */
	int64_t now_ns;		      /* real time */
	bool named;		      /* an event named it, other than a comparison that came across it */
	bool harder;		      /* it failed before: no short cuts */
};
enum mirror_same mirror_compare(const struct mirror_rules *r, const struct mirror_look *l);
/* Of entries of any kind: nothing is to be done about it, as far as two looks can tell (symlinks: if their texts are
 * equal). */
bool mirror_settled(const struct mirror_rules *r, const struct mirror_look *l);

int64_t mirror_mtime_ns(const struct stat *st);
/* At the target's resolution. */
bool mirror_same_time(const struct mirror_rules *r, const struct stat *src, const struct stat *dst);
/* Whether that kind of entry is mirrored at all; else the word for the log. */
bool mirror_wants_kind(const struct mirror_rules *r, const struct stat *src, const char **word);

/* The attributes that an entry gets. `dst` is what stands there, NULL: nothing (a new inode takes our ids and 0600 or
 * 0700). mask 0: nothing is to be set. `fresh`: it is a new inode although `dst` (which it replaces) is there. */
void mirror_want_attrs(const struct mirror_rules *r, const struct stat *src, const struct stat *dst, bool fresh,
		       struct fileops_attrs *out);
/* Of a regular file with the size and time of the source's, which is to get these attributes: whether it has to be sent
 * all the same. Who may write to the target makes a file of any size and time: it must not become a set-id program by
 * ours, and where it is another name of a file elsewhere (a snapshot, or one that is not his) that one is not ours to
 * change. */
bool mirror_unproven(const struct mirror_rules *r, const struct stat *src, const struct stat *dst,
		     const struct fileops_attrs *want);

#endif
