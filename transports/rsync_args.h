/*
 * rsync_args.h - rsync's command line from a sync's options. Pure.
 */
#ifndef FANSYNCD_TRANSPORTS_RSYNC_ARGS_H
#define FANSYNCD_TRANSPORTS_RSYNC_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/keep.h"
#include "core/options.h"

/* An argument vector that owns its strings; NULL-terminated. The first failed append makes it `failed`. */
struct arglist {
	char **v;
	size_t n, cap;
	bool failed;
};

void arglist_done(struct arglist *a);
bool arglist_add(struct arglist *a, const char *arg);
bool arglist_printf(struct arglist *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

enum rsync_kind { RSYNC_LOCAL = 0, RSYNC_DAEMON, RSYNC_SHELL };

enum rsync_missing { RSYNC_MISSING_KEEP = 0, RSYNC_MISSING_DELETE };

/* One run of rsync, from "." to `dest`; the paths come on its standard input, NUL-separated. */
struct rsync_job {
	enum rsync_kind kind;
	const char *dest;
	const char *rsh;	/* RSYNC_SHELL: rsync's -e; NULL: its default */
	const char *rsync_path; /* NULL: rsync's default */
	const char *list_file;	/* the paths are in it, and rsync.password_file's password comes on standard input */
	bool recurse;		/* reconcile: the named directories with all that is below */
	bool del;		/* recurse: delete what the source does not have */
	bool force;		/* non-empty directories may be deleted where a name is missing or its type changed */
	bool checksum;		/* compare content where the size is equal */
	bool fine_times;	/* both ends compare times to the nanosecond */
	bool picks_xattrs;	/* both ends filter names of extended attributes (3.1.3) */
	bool count;		/* a dry run that counts */
	bool whole;		/* without recurse: some of the names stand for what is directly in them */
	bool sums;		/* no line a file, only sums at the end */
	bool probe;		/* an empty list, to see who answers */
	bool bare;		/* RSYNC_SHELL: no -s, which rrsync refuses */
	bool escape;		/* then: a local rsync before 3.2.4 leaves the remote shell's characters as they are */
	enum rsync_missing missing;	   /* what a path that is missing here means; without recurse */
	int64_t max_delete;		   /* -1: no limit */
	int64_t rate;			   /* bytes a second; 0: no limit but bwlimit */
	const char *backup_dir, *temp_dir; /* relative to dest; NULL: none of ours */
	const char *backup_suffix;	   /* of what goes to backup_dir; NULL: none */
	const char *copy_dir;		   /* the same: where dest has nothing, what is there is a basis */
	const char *filter_file;	   /* rules in a file instead of arguments; NULL: as arguments */
	const struct strlist *first_rules; /* before the sync's own; may be NULL */
	const struct keep_list *keep;	   /* recurse and del: what is not deleted; may be NULL */
};

/* The whole command line. false: out of memory. */
bool rsync_args_build(struct arglist *a, const struct rsync_job *job, const struct sync_options *o);

/* The command line that lists one path below the target: status 0 when it is there, 23 when it is not. */
bool rsync_args_list(struct arglist *a, const struct rsync_job *job, const struct sync_options *o, const char *path);

/* Bytes of the sync's filter rules as arguments: above RSYNC_FILTER_ARGS they belong into a file. */
#define RSYNC_FILTER_ARGS (48u * 1024)
size_t rsync_filter_bytes(const struct sync_options *o);
/* The same rules as a file's content, separated by NUL as --from0 wants it. */
bool rsync_filter_text(struct buf *out, const struct sync_options *o);

/* A rule that names exactly this path, with the wildcards in it escaped: "- /PATH". */
bool rsync_rule_for(struct buf *out, const char *prefix, const char *path, size_t len);

/* One word of a command for rsync's -e: quoted as rsync splits it. */
bool rsync_quote_word(struct buf *out, const char *word);
/* The words as rsync's --rsh takes them apart again. malloc'ed, NULL when out of memory. */
char *rsync_args_rsh(const struct arglist *words);
/* A command for rsync's -e as rsync takes it apart: words, each in quotes or not, a doubled quote for one. */
bool rsync_split_words(struct arglist *words, const char *text);
/* What --rsync-path says: rsync.rsync_path, else rsync behind ssh.remotePrefix. malloc'ed, NULL when out of memory. */
char *rsync_args_path(const struct sync_options *opt);

#endif
