/* mirror_options.c - which of rsync's keys native transports know; see mirror.h. */
#include <string.h>

#include "transports/mirror.h"
#include "transports/mirror_rules.h"

/* What they do not do, and what to do instead. */
static int refuse(struct err *err, const char *key, const char *why)
{
	return err_set(err, ERR_CONFIG, "%s: %s", key, why);
}

static const char not_native[] = "native transports do not do that; transport = \"rsync\" or \"rsyncssh\" does";
static const char own_temp[] =
	"native transports always write to a temporary file beside the old one and rename it; leave it out";
static const char own_ids[] =
	"native transports keep owners and groups as they are; transport = \"rsync\" maps them, and so does the module "
	"of a receiver";

static int check_flags(const struct rsync_options *o, struct err *err)
{
	const struct {
		const char *key;
		bool on;
		const char *why;
	} flags[] = {
		{ "append", o->append, own_temp },
		{ "append_verify", o->append_verify, own_temp },
		{ "backup", o->backup, not_native },
		{ "copy_dirlinks", o->copy_dirlinks, not_native },
		{ "copy_links", o->copy_links, not_native },
		{ "copy_unsafe_links", o->copy_unsafe_links, not_native },
		{ "fuzzy", o->fuzzy, not_native },
		{ "inplace", o->inplace, own_temp },
		{ "keep_dirlinks", o->keep_dirlinks, "nothing is ever written through a symlink at the target" },
		{ "prune_empty_dirs", o->prune_empty_dirs, not_native },
	};

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (flags[i].on)
			return refuse(err, flags[i].key, flags[i].why);
	return 0;
}

static int check_strings(const struct rsync_options *o, struct err *err)
{
	const struct {
		const char *key, *value, *why;
	} strings[] = {
		{ "backup_dir", o->backup_dir, not_native }, { "suffix", o->suffix, not_native },
		{ "chmod", o->chmod, not_native },	     { "chown", o->chown, own_ids },
		{ "groupmap", o->groupmap, own_ids },	     { "usermap", o->usermap, own_ids },
		{ "partial_dir", o->partial_dir, own_temp }, { "temp_dir", o->temp_dir, own_temp },
	};
	const struct {
		const char *key, *value;
	} sizes[] = { { "max_size", o->max_size }, { "min_size", o->min_size } };
	int64_t size;

	for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++)
		if (strings[i].value != NULL)
			return refuse(err, strings[i].key, strings[i].why);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (sizes[i].value != NULL && !mirror_parse_size(sizes[i].value, &size))
			return err_set(err, ERR_CONFIG, "%s: \"%s\" is no size, such as 100K, 1.5G or 1MB",
				       sizes[i].key, sizes[i].value);
	return 0;
}

/* Keys about the program, where a section rsync = { } holds them although no rsync runs. */
static int check_program(const struct rsync_options *o, struct err *err)
{
	if (o->extra.n > 0)
		return refuse(err, "rsync.extra",
			      "no rsync is started by this transport; rules for files may stand there, "
			      "other arguments may not");
	if (o->rsh != NULL || o->rsync_path != NULL || o->password_file != NULL)
		return refuse(err,
			      o->rsh != NULL	      ? "rsync.rsh"
			      : o->rsync_path != NULL ? "rsync.rsync_path"
						      : "rsync.password_file",
			      "no rsync is started by this transport");
	if (strcmp(o->binary, "rsync") != 0)
		return refuse(err, "rsync.binary", "no rsync is started by this transport");
	if (o->ipv4 || o->ipv6)
		return refuse(err, o->ipv4 ? "rsync.ipv4" : "rsync.ipv6", "no rsync is started by this transport");
	if (o->timeout > 0)
		return refuse(err, "rsync.timeout", "no rsync is started by this transport; see progressTimeout");
	return 0;
}

/* What makes both ends differ for ever, or decides by other rules. */
static int check_twoway(const struct sync_options *opt, struct err *err)
{
	const struct rsync_options *o = &opt->rsync;
	const struct {
		const char *key;
		bool given;
	} refused[] = {
		{ "update", o->update },
		{ "existing", o->existing },
		{ "dry_run", o->dry_run },
		{ "ignore_times", o->ignore_times },
		{ "max_size", o->max_size != NULL },
		{ "min_size", o->min_size != NULL },
		{ "hard_links", o->hard_links },
		{ "delete_excluded", o->delete_excluded },
	};

	if (!opt->bidirectional)
		return 0;
	if (!o->times)
		return err_set(err, ERR_CONFIG, "bidirectional: needs times: the newer of two edits is the last one");
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (refused[i].given)
			return err_set(err, ERR_CONFIG, "bidirectional: %s can't be used with it", refused[i].key);
	return 0;
}

int mirror_validate(struct sync_options *opt, unsigned lacks, struct err *err)
{
	struct rsync_options *o = &opt->rsync;

	if (check_twoway(opt, err) < 0 || check_flags(o, err) < 0 || check_strings(o, err) < 0 ||
	    check_program(o, err) < 0)
		return -1;
	if ((lacks & MIRROR_NO_XATTRS) != 0 && (o->acls || o->xattrs))
		return refuse(err, o->acls ? "acls" : "xattrs", "this target can't hold them");
	if ((lacks & MIRROR_NO_NODES) != 0 && !o->archive && (o->devices || o->specials))
		return refuse(err, o->devices ? "devices" : "specials", "this target can't hold them");
	if ((lacks & MIRROR_NO_COMPRESS) != 0 && o->compress)
		return refuse(err, "compress", "nothing travels over a network here; leave it out");
	if ((lacks & MIRROR_NO_NODES) != 0)
		o->devices = o->specials = false;
	if ((lacks & MIRROR_NO_NAMES) != 0)
		o->numeric_ids = true;
	return 0;
}
