/*
 * intake.h - what of a watcher's record enters a sync's changeset: the filter, temporary names, and holds. Pure.
 *
 * Dropping a record here is an economy (the worker's plan asks the filter again at send time), so whatever is in doubt
 * passes.
 */
#ifndef FANSYNCD_CORE_INTAKE_H
#define FANSYNCD_CORE_INTAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/change.h"
#include "core/filter.h"

/* How long a name that looks like rsync's temporary file must be quiet. */
#define INTAKE_TEMP_QUIET_NS 2000000000LL
/* How long a new file may wait for its writer to close it. */
#define INTAKE_OPEN_NS 200000000LL

struct intake {
	const struct filter *filter;
	bool delete_excluded;
	bool path_rules; /* intake_path_rules(filter) */
	int64_t open_file_interval_ns;
};

struct intake_record {
	struct change change; /* borrows the paths of the one that came in */
	int64_t hold_until_ns;
	bool extend; /* see changeset_add */
};

/* Whether any rule looks at more than a name: then a directory's rename may change what is selected below it. */
bool intake_path_rules(const struct filter *f);

/* What a record becomes: 0 (dropped), 1 or 2 records in `out`. `may_be_open`: for a CREATE, whether its writer may
 * still be at work. */
size_t intake(const struct intake *in, const struct change *c, int64_t now_ns, bool may_be_open,
	      struct intake_record out[2]);

#endif
