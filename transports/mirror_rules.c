#include "transports/mirror_rules.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

#define SECONDS_MAX INT64_C(9200000000)

void mirror_rules_init(struct mirror_rules *r, const struct sync_options *opt)
{
	const struct rsync_options *o = &opt->rsync;

	*r = (struct mirror_rules){
		.links = o->links,
		.times = o->times,
		.dir_times = o->times && !o->omit_dir_times,
		.link_times = o->times && !o->omit_link_times,
		.perms = o->perms,
		.owner = o->owner,
		.group = o->group,
		.devices = o->devices,
		.specials = o->specials,
		.hard_links = o->hard_links,
		.sparse = o->sparse,
		.checksum = o->checksum,
		.update = o->update,
		.dry_run = o->dry_run,
		.executability = o->executability,
		.existing = o->existing,
		.ignore_times = o->ignore_times,
		.one_file_system = opt->one_file_system || o->one_file_system,
		.delete_excluded = o->delete_excluded,
		.bidirectional = opt->bidirectional,
		.xattr_kinds = (o->xattrs ? FILEOPS_XATTR_PLAIN : 0u) | (o->acls ? FILEOPS_XATTR_ACL : 0u),
		.max_size = -1,
		.min_size = -1,
		.tick_ns = 1,
	};
	if (o->max_size != NULL)
		(void)mirror_parse_size(o->max_size, &r->max_size);
	if (o->min_size != NULL)
		(void)mirror_parse_size(o->min_size, &r->min_size);
}

bool mirror_parse_size(const char *text, int64_t *out)
{
	static const char units[] = "BKMGTP";
	const char *unit;
	double value;
	char *end;
	int64_t base = 1024, size;

	if (!isdigit((unsigned char)text[0]) && text[0] != '.')
		return false;
	errno = 0;
	value = strtod(text, &end);
	if (errno != 0 || !(value >= 0) || strspn(text, "0123456789.") != (size_t)(end - text))
		return false;
	unit = *end == '\0' ? NULL : strchr(units, toupper((unsigned char)*end));
	if (unit != NULL) {
		end++;
		if (unit != units && strncasecmp(end, "iB", 2) == 0) {
			end += 2;
		} else if (unit != units && toupper((unsigned char)*end) == 'B') {
			base = 1000;
			end++;
		}
		for (; unit > units; unit--)
			value *= (double)base;
	}
	if (value > 9e18)
		return false;
	size = (int64_t)value;
	if (strcmp(end, "+1") == 0 || strcmp(end, "-1") == 0)
		size += end[0] == '+' ? 1 : -1;
	else if (*end != '\0')
		return false;
	*out = size;
	return size >= 0;
}

/* Later or earlier than nanoseconds reach, with room for a little arithmetic: the year 2261. File systems keep such
 * times, and peers may name any. */
static bool is_far(struct timespec t)
{
	return t.tv_sec > SECONDS_MAX || t.tv_sec < -SECONDS_MAX;
}

static int64_t ns_of(struct timespec t)
{
	if (is_far(t))
		return t.tv_sec > 0 ? SECONDS_MAX * NS_PER_S : -SECONDS_MAX * NS_PER_S;
	return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

int64_t mirror_mtime_ns(const struct stat *st)
{
	return ns_of(st->st_mtim);
}

static int64_t floor_to(int64_t v, int64_t tick)
{
	int64_t q = v / tick;

	return v % tick < 0 ? q - 1 : q;
}

bool mirror_same_time(const struct mirror_rules *r, const struct stat *src, const struct stat *dst)
{
	if (is_far(src->st_mtim) || is_far(dst->st_mtim))
		return src->st_mtim.tv_sec == dst->st_mtim.tv_sec;
	return floor_to(mirror_mtime_ns(src), r->tick_ns) == floor_to(mirror_mtime_ns(dst), r->tick_ns);
}

/* A time of the target's clock by the source's. */
static int64_t by_its_clock(const struct mirror_rules *r, int64_t ns)
{
	int64_t there;

	if (!__builtin_sub_overflow(ns, r->ahead_ns, &there))
		return there;
	return r->ahead_ns > 0 ? INT64_MIN : INT64_MAX;
}

static bool is_zero(struct timespec t)
{
	return t.tv_sec == 0 && t.tv_nsec == 0;
}

/*
 * A file that was read within the stamp of its mtime may have been written once more within it, with nothing to show
 * for it. It is in doubt if the target's copy was made that early; where the target does not tell when, if its times
 * are coarse, which the caller knows more about (mirror_hot.h).
 */
static bool in_doubt(const struct mirror_rules *r, const struct mirror_look *l)
{
	int64_t m = mirror_mtime_ns(l->src);
	int64_t stamp = l->src->st_mtim.tv_nsec == 0 ? MIRROR_COARSE_NS : MIRROR_STAMP_NS;

	if ((r->caps & FILEOPS_CTIME) == 0)
		return l->harder;
	/* Reading, writing and renaming take their time as well. */
	stamp += NS_PER_S;
	/* Its time may be one that was set, ahead of the clock. A source that does not tell leaves that open. */
	if (!is_zero(l->src->st_ctim) && ns_of(l->src->st_ctim) < m - stamp)
		return false;
	if (by_its_clock(r, ns_of(l->dst->st_ctim)) >= m + stamp)
		return false;
	return l->harder || m > by_its_clock(r, l->now_ns - MIRROR_RECENT_NS);
}

enum mirror_same mirror_compare(const struct mirror_rules *r, const struct mirror_look *l)
{
	const struct stat *src = l->src, *dst = l->dst;

	if ((r->max_size >= 0 && src->st_size > r->max_size) || src->st_size < r->min_size)
		return MIRROR_SKIP;
	if (dst == NULL)
		return r->existing ? MIRROR_SKIP : MIRROR_DIFFERS;
	if (!S_ISREG(dst->st_mode))
		return MIRROR_DIFFERS;
	if (r->update && floor_to(mirror_mtime_ns(dst), r->tick_ns) > floor_to(mirror_mtime_ns(src), r->tick_ns))
		return MIRROR_KEEP;
	if (src->st_size != dst->st_size || r->ignore_times)
		return MIRROR_DIFFERS;
	if (r->checksum || !r->times)
		return MIRROR_DOUBT;
	if (!mirror_same_time(r, src, dst))
		return MIRROR_DIFFERS;
	return in_doubt(r, l) ? MIRROR_DOUBT : MIRROR_SAME;
}

bool mirror_wants_kind(const struct mirror_rules *r, const struct stat *src, const char **word)
{
	bool nodes = (r->caps & FILEOPS_NODES) != 0;

	switch (src->st_mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
		return true;
	case S_IFLNK:
		*word = "symlinks";
		return r->links;
	case S_IFIFO:
		*word = "FIFOs";
		return r->specials && nodes;
	case S_IFSOCK:
		*word = "sockets";
		return r->specials && nodes;
	default:
		*word = "devices";
		return r->devices && nodes;
	}
}

/* ---- attributes ---- */

static mode_t without_refused(const struct mirror_rules *r, const struct stat *src, mode_t mode)
{
	if (r->owner && (r->unmet & FILEOPS_OWNER) != 0)
		mode &= ~(mode_t)S_ISUID;
	if (r->group && (r->unmet & FILEOPS_GROUP) != 0 && !S_ISDIR(src->st_mode))
		mode &= ~(mode_t)S_ISGID;
	return mode;
}

static mode_t executable_like(mode_t src, mode_t mode)
{
	return (src & 0111) == 0 ? mode & ~(mode_t)0111 : (mode & 0111) != 0 ? mode : mode | ((mode & 0444) >> 2);
}

static mode_t want_mode(const struct mirror_rules *r, const struct stat *src, const struct stat *dst)
{
	mode_t mode = src->st_mode & 07777;

	if (r->perms)
		return without_refused(r, src, mode);
	if (dst == NULL || (dst->st_mode & S_IFMT) != (src->st_mode & S_IFMT))
		return mode & 0777 & ~r->umask;
	mode = dst->st_mode & 07777;
	return r->executability && S_ISREG(src->st_mode) ? executable_like(src->st_mode, mode) : mode;
}

static bool wants_time(const struct mirror_rules *r, const struct stat *src)
{
	if (S_ISDIR(src->st_mode))
		return r->dir_times;
	return S_ISLNK(src->st_mode) ? r->link_times : r->times;
}

/* Its copy has one name, of those that this sync has to do with. */
static bool is_alone(const struct mirror_rules *r, const struct stat *src)
{
	return S_ISREG(src->st_mode) && (r->caps & FILEOPS_INODES) != 0 && !(r->hard_links && src->st_nlink > 1);
}

bool mirror_unproven(const struct mirror_rules *r, const struct stat *src, const struct stat *dst,
		     const struct fileops_attrs *want)
{
	const unsigned power = FILEOPS_OWNER | FILEOPS_GROUP | FILEOPS_MODE;

	if (!S_ISREG(src->st_mode) || want->mask == 0)
		return false;
	return (want->one_name && dst->st_nlink > 1) ||
	       (r->perms && (want->mask & power) != 0 && (want->mode & 06000) != 0);
}

void mirror_want_attrs(const struct mirror_rules *r, const struct stat *src, const struct stat *dst, bool fresh,
		       struct fileops_attrs *out)
{
	bool link = S_ISLNK(src->st_mode), settable = !link || (r->caps & FILEOPS_LINK_ATTRS) != 0;
	bool owners = (r->caps & FILEOPS_OWNERS) != 0 && settable;
	const struct stat *have = fresh ? NULL : dst;

	*out = (struct fileops_attrs){ .type = src->st_mode & S_IFMT,
				       .uid = src->st_uid,
				       .gid = src->st_gid,
				       .mode = want_mode(r, src, dst),
				       .mtime = src->st_mtim };
	if (owners && r->owner && (r->unmet & FILEOPS_OWNER) == 0 && (have == NULL || have->st_uid != src->st_uid))
		out->mask |= FILEOPS_OWNER;
	if (owners && r->group && (r->unmet & FILEOPS_GROUP) == 0 && (have == NULL || have->st_gid != src->st_gid))
		out->mask |= FILEOPS_GROUP;
	/* Those of the file that it replaces were given by its owner, who may be another one. */
	if (!r->perms && !S_ISDIR(src->st_mode) && (fresh || (out->mask & (FILEOPS_OWNER | FILEOPS_GROUP)) != 0))
		out->mode &= ~(mode_t)06000;
	out->one_name = is_alone(r, src);
	/* A change of owner clears set-id bits. */
	if (!link && (have == NULL || (have->st_mode & 07777) != out->mode ||
		      ((out->mask & (FILEOPS_OWNER | FILEOPS_GROUP)) != 0 && (out->mode & 06000) != 0)))
		out->mask |= FILEOPS_MODE;
	if (settable && wants_time(r, src) && (have == NULL || !mirror_same_time(r, src, have)))
		out->mask |= FILEOPS_MTIME;
}

bool mirror_settled(const struct mirror_rules *r, const struct mirror_look *l)
{
	const struct stat *src = l->src, *dst = l->dst;
	struct fileops_attrs want;
	const char *word;

	if ((src->st_mode & S_IFMT) != (dst->st_mode & S_IFMT) || r->xattr_kinds != 0 ||
	    !mirror_wants_kind(r, src, &word))
		return false;
	if (!S_ISDIR(src->st_mode) && r->hard_links && src->st_nlink > 1)
		return false;
	if (S_ISREG(src->st_mode) && mirror_compare(r, l) != MIRROR_SAME)
		return false;
	if ((S_ISBLK(src->st_mode) || S_ISCHR(src->st_mode)) && src->st_rdev != dst->st_rdev)
		return false;
	mirror_want_attrs(r, src, dst, false, &want);
	return want.mask == 0;
}
