/*
 * filter.h - which paths a sync mirrors: rsync's include and exclude rules, one matcher for start-up, run time and
 * every transport.
 *
 * rsync's own behaviour at a full run is the reference (its manual page, "FILTER RULES", and tests/property): rules are
 * tried in the order in which they were added, the first match decides, no match includes; a path below an excluded
 * directory is excluded whatever the rules say of it. Rule kinds that are not supported are an error when they are
 * added, never ignored. Pure: no I/O (excludeFrom files are read by the caller, who hands over their bytes).
 */
#ifndef FANSYNCD_CORE_FILTER_H
#define FANSYNCD_CORE_FILTER_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"

struct filter;

/* An empty filter, which includes everything. NULL when out of memory. */
struct filter *filter_new(void);
void filter_free(struct filter *f);

/* Add one rule in rsync's --filter syntax ("+ *.cnf", "- **", "-! x", "H,! y", "clear", ...). -1 with ERR_CONFIG and
 * the reason for what is malformed or not supported. */
int filter_add_rule(struct filter *f, const char *rule, size_t len, struct err *err);
/* The argument of --exclude / --include: a pattern, or "+ x" / "- x" / "!" as rsync allows there. */
int filter_add_exclude(struct filter *f, const char *pattern, size_t len, struct err *err);
int filter_add_include(struct filter *f, const char *pattern, size_t len, struct err *err);
/* The content of an --exclude-from / --include-from / merge (filterFrom) file: lines, blank ones and comments (# ;)
 * skipped as rsync does. The error's text names the line number. */
int filter_add_exclude_lines(struct filter *f, const char *text, size_t len, struct err *err);
int filter_add_include_lines(struct filter *f, const char *text, size_t len, struct err *err);
int filter_add_filter_lines(struct filter *f, const char *text, size_t len, struct err *err);

/* Take the filter options (--filter, -f, --exclude, --include, --exclude-from, --include-from, -C / --cvs-exclude
 * refused here with a reason, -F refused; "--opt=value" and "--opt" "value" both) out of an rsync argument list: rules
 * are added in their order, and what is left stays in argv (moved up, NULL-terminated, *n updated; strings that were
 * taken are handed to free_arg). `read_file` gives the content of a file named by an option: malloc'ed, the filter
 * frees it. */
typedef int filter_read_file(void *ctx, const char *path, char **text, size_t *len, struct err *err);
int filter_add_rsync_args(struct filter *f, char **argv, size_t *n, filter_read_file *read_file, void *ctx,
			  void (*free_arg)(char *arg), struct err *err);

/* Whether the rules include this very path, parents not considered. */
bool filter_match(const struct filter *f, const char *path, size_t len, bool is_dir);
/* Whether `path` and each of its parents is included: the verdict. The root ("") always is. */
bool filter_includes(const struct filter *f, const char *path, size_t len, bool is_dir);
/* Whether an entry that stands on the target only is protected from deletion (excluded by a rule for the receiver's
 * side, or below such a directory). `delete_excluded`: as rsync's option. */
bool filter_protects(const struct filter *f, const char *path, size_t len, bool is_dir, bool delete_excluded);
/* The same, exactly as rsync decides at a full run, for a caller who knows that path[0..top) (top > 0) is the topmost
 * entry of the path that stands on the target only. Rules about the directories above it do not count then: within a
 * directory that is transferred rsync deletes even if a rule protects that directory. And perishable rules (`p`) count
 * for path[0..top) itself, not for what is below it. filter_protects() knows neither and protects if in doubt. */
bool filter_protects_from(const struct filter *f, const char *path, size_t len, size_t top, bool is_dir,
			  bool delete_excluded);
/* Whether the directory itself or a parent is excluded, so that nothing below can be included. */
bool filter_excludes_subtree(const struct filter *f, const char *path, size_t len);

/* The rules in order, each in a form that rsync's --filter takes and filter_add_rule reads back to the same rule:
 * for the configuration dump, and for the rsync transports' command line. */
size_t filter_count(const struct filter *f);
const char *filter_rule_text(const struct filter *f, size_t i);

#endif
