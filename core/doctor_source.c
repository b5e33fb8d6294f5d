/* doctor_source.c - a sync's source: there, readable, how it will be watched; and a target that is a local directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/doctor_private.h"
#include "core/fsutil.h"
#include "core/guard_file.h"
#include "core/loop.h"
#include "core/path.h"
#include "core/watcher.h"

/* A walk is a look, not a census. */
#define WALK_NS (3 * NS_PER_S)
/* Other programs of the user use watches, too. */
#define WATCHES_PERCENT 70u
/* As core/watcher.c: below, WATCHER_AUTO takes inotify. */
#define SMALL_TREE 512u

static int open_dir(const char *path)
{
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* ---- the source ---- */

struct seen {
	const struct sync_options *opt;
	uint64_t refused;
	char example[256];
	int errnum;
};

static bool enters(void *ctx, const char *path, size_t len)
{
	const struct seen *s = ctx;

	return !filter_excludes_subtree(s->opt->filter, path, len);
}

static void note_refused(struct seen *s, const char *path, size_t len, int errnum)
{
	if (s->refused++ > 0)
		return;
	(void)snprintf(s->example, sizeof(s->example), "%.*s", (int)(len < 200 ? len : 200), path);
	s->errnum = errnum;
}

static void refused(void *ctx, const char *path, size_t len, int errnum)
{
	note_refused(ctx, path, len, errnum);
}

static void look_at_file(void *ctx, int dir_fd, const char *name, const char *path, size_t len, bool is_dir)
{
	struct seen *s = ctx;

	if (is_dir || !filter_match(s->opt->filter, path, len, false))
		return;
	if (faccessat(dir_fd, name, R_OK, AT_EACCESS | AT_SYMLINK_NOFOLLOW) < 0 && errno == EACCES)
		note_refused(s, path, len, errno);
}

static const char *network_name(long type)
{
	static const struct {
		long type;
		const char *name;
	} kinds[] = { { 0x6969, "NFS" },     { (long)0xff534d42, "SMB" }, { (long)0xfe534d42, "SMB" },
		      { 0x517b, "SMB" },     { 0x65735546, "FUSE" },	  { 0x01021997, "9P" },
		      { 0x5346414f, "AFS" }, { 0x00c36400, "Ceph" } };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (kinds[i].type == type)
			return kinds[i].name;
	return NULL;
}

static void file_system(const struct sync_options *opt, int fd, struct exam *x)
{
	struct statfs fs;
	const char *name = fstatfs(fd, &fs) < 0 ? NULL : network_name((long)fs.f_type);

	if (name == NULL)
		return;
	exam_begin(x, "file system");
	if (opt->reconcile_interval_ns > 0)
		exam_ok(x, "%s: what other hosts change there is found by reconcileInterval", name);
	else
		exam_warn(x, "reconcileInterval = 3600.0; or mirror on the host that serves it",
			  "%s: the kernel tells nothing of what other hosts change there", name);
}

static void marker(int fd, const char *key, const char *name, const char *where, struct exam *x)
{
	struct stat st;
	char remedy[EXAM_TEXT_MAX];

	if (name == NULL)
		return;
	exam_begin(x, "marker");
	(void)snprintf(remedy, sizeof(remedy), "mount the right disk there, or: touch %s/%s", where, name);
	if (fstatat(fd, name, &st, 0) < 0)
		exam_fail(x, remedy, "%s: %s/%s: %s", key, where, name, strerror(errno));
	else
		exam_ok(x, "%s: %s/%s is there", key, where, name);
}

static void emptiness(const struct sync_options *opt, int fd, struct exam *x)
{
	struct err err = ERR_INIT;

	if (opt->allow_empty_source || source_is_empty(fd, &err) != 1)
		return;
	exam_begin(x, "empty");
	exam_warn(x, "mount or fill it; allowEmptySource = true if it is right",
		  "the source %s is empty: nothing is deleted at the target because of that, the sync stops if there "
		  "is something",
		  opt->source);
}

static void readable(const struct sync_options *opt, int fd, struct exam *x)
{
	struct seen s = { .opt = opt };
	struct exam_walk w = { .enters = enters,
			       .entry = look_at_file,
			       .refused = refused,
			       .ctx = &s,
			       .one_file_system = opt->one_file_system,
			       .until_ns = clock_mono_ns() + exam_left_ns(x, WALK_NS) };

	exam_begin(x, "readable");
	exam_walk(&w, fd);
	if (s.refused > 0)
		exam_fail(x, "run it as a user who may read that (root), or exclude it",
			  "%llu of %s%llu entries can't be read, e.g. %s: %s: they are not mirrored, and nothing is "
			  "deleted there",
			  (unsigned long long)s.refused, w.cut ? "at least " : "", (unsigned long long)w.entries,
			  s.example, strerror(s.errnum));
	else if (w.cut)
		exam_ok(x, "at least %llu entries in %llu directories: no more were looked at in the time",
			(unsigned long long)w.entries, (unsigned long long)w.dirs);
	else
		exam_ok(x, "%llu entries in %llu director%s", (unsigned long long)w.entries, (unsigned long long)w.dirs,
			w.dirs == 1 ? "y" : "ies");
}

/* What the daemon remembers of the target, as of its last look: it carries nothing while one of these is another one.
 */
static void remembered(const struct config *c, const struct sync_options *opt, const char *what, const char *path,
		       int fd, struct exam *x)
{
	char *key = guard_file_key(opt), *file = key == NULL ? NULL : guard_file_path(c->settings.state_dir, key);
	struct guard_state g = { 0 };
	struct root_identity now;
	struct err err = ERR_INIT;
	char remedy[EXAM_TEXT_MAX];
	bool is_source = path == opt->source;

	exam_begin(x, "remembered");
	(void)snprintf(remedy, sizeof(remedy),
		       "mount or put back the right one; if it is right: fansyncd --sync-now --allow-delete --only %s",
		       opt->name);
	if (file == NULL || guard_file_read(file, key, &g, &err) < 0 || identity_of_fd(fd, &now, &err) < 0)
		exam_fail(x, remedy, "%s", file == NULL ? "out of memory" : err.text);
	else if (is_source ? g.has_root && !identity_same(&g.root, &now)
			   : g.has_target_root && !identity_same(&g.target_root, &now))
		exam_fail(x, remedy, "the %s %s is another directory than before: nothing is carried", what, path);
	else if (is_source ? g.has_root : g.has_target_root)
		exam_ok(x, "the %s is the one of before", what);
	else
		exam_ok(x, "the %s was not mirrored before", what);
	for (size_t i = 0; is_source && i < g.n_mounts; i++) {
		const char *why = guard_mount_why(&g.mounts[i]);

		if (why != NULL)
			exam_warn(x, remedy, "below the source, %.300s: %s: nothing is deleted there", g.mounts[i].path,
				  why);
	}
	guard_done(&g);
	free(key);
	free(file);
}

void doctor_source(const struct config *c, size_t sync, struct exam *x)
{
	const struct sync_options *opt = &c->syncs[sync];
	int fd;

	exam_begin(x, "source");
	fd = open_dir(opt->source);
	if (fd < 0) {
		exam_fail(x, errno == EACCES ? "run it as a user who may read it" : "mount or make it", "%s: %s",
			  opt->source, strerror(errno));
		return;
	}
	exam_ok(x, "%s can be opened", opt->source);
	if (c->settings.state_dir != NULL)
		remembered(c, opt, "source", opt->source, fd, x);
	file_system(opt, fd, x);
	marker(fd, "requireMarker", opt->require_marker, opt->source, x);
	emptiness(opt, fd, x);
	readable(opt, fd, x);
	(void)close(fd);
}

/* ---- how it will be watched ---- */

static void no_record(void *ctx, struct watched *source, const struct change *change)
{
	(void)ctx;
	(void)source;
	(void)change;
}

static void no_state(void *ctx, struct watched *source, enum watched_state state, const char *why)
{
	(void)ctx;
	(void)source;
	(void)state;
	(void)why;
}

/* A watch as the daemon sets it, and ended again. */
static int try_watch(const struct config *c, const struct watch_request *rq, char *text, size_t size, struct err *err)
{
	const struct watcher_callbacks cb = { .record = no_record, .state = no_state };
	const struct watcher_settings settings = { .fanotify_queue = (uint32_t)c->settings.fanotify_queue,
						   .hide_fan_rename = c->settings.hide_fan_rename,
						   .interval_ns = c->settings.watcher_interval_ns };
	struct loop *loop = loop_new(err);
	struct watcher_set *ws = loop == NULL ? NULL : watcher_set_new(loop, &settings, &cb, err);
	struct watched *w = ws == NULL ? NULL : watcher_add(ws, rq, NULL, err);
	struct watched_info info;

	if (w != NULL) {
		watched_info(w, &info);
		(void)snprintf(text, size, "%s: %s", info.backend, info.reason);
	}
	watcher_set_free(ws);
	loop_free(loop);
	return w == NULL ? -1 : 0;
}

/* The smaller one of what the system and this user's namespace allow; 0: not known. */
static uint64_t inotify_limit(const char *name)
{
	static const char *const places[] = { "/proc/sys/fs/inotify/max_user_", "/proc/sys/user/max_inotify_" };
	uint64_t least = 0;

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		struct err err = ERR_INIT;
		char path[64];
		struct buf text;
		uint64_t v;

		(void)snprintf(path, sizeof(path), "%s%s", places[i], name);
		buf_init(&text, 128);
		if (read_file(path, 64, &text, &err) == 0 && (v = strtoull(buf_str(&text), NULL, 10)) > 0 &&
		    (least == 0 || v < least))
			least = v;
		buf_done(&text);
	}
	return least;
}

static void inotify_limits(struct exam *x, uint64_t dirs, bool cut, bool needed)
{
	uint64_t limit = inotify_limit("watches");
	char remedy[EXAM_TEXT_MAX];
	const char *at_least = cut ? "at least " : "";

	exam_begin(x, "inotify limit");
	(void)snprintf(remedy, sizeof(remedy),
		       "sysctl fs.inotify.max_user_watches=%llu, and the same in /etc/sysctl.d/fansyncd.conf; or "
		       "exclude what need "
		       "not be mirrored",
		       (unsigned long long)(dirs * 2 < 65536 ? 65536 : dirs * 2));
	if (limit == 0)
		exam_skip(x, "the limit is not known");
	else if (dirs > limit && needed)
		exam_fail(x, remedy, "%s%llu directories need a watch each, %llu are allowed", at_least,
			  (unsigned long long)dirs, (unsigned long long)limit);
	else if (dirs > limit)
		exam_ok(x, "%s%llu directories, %llu watches are allowed: enough for fanotify, too few for inotify",
			at_least, (unsigned long long)dirs, (unsigned long long)limit);
	else if (needed && dirs * 100 > limit * WATCHES_PERCENT)
		exam_warn(x, remedy,
			  "%s%llu directories need a watch each, %llu are allowed for all programs of this user",
			  at_least, (unsigned long long)dirs, (unsigned long long)limit);
	else
		exam_ok(x, "%s%llu directories, %llu watches are allowed", at_least, (unsigned long long)dirs,
			(unsigned long long)limit);
}

/* A whole tree is not put under inotify's watch to find out: a running daemon might need those watches. */
static bool skip_all(void *ctx, const char *path, size_t len)
{
	(void)ctx;
	(void)path;
	(void)len;
	return true;
}

static bool skips(void *ctx, const char *path, size_t len)
{
	struct seen *s = ctx;

	return !enters(s, path, len);
}

static void inotify_only(const struct config *c, struct watch_request *rq, const char *because, struct exam *x)
{
	char text[256];
	struct err err = ERR_INIT;

	rq->choice = WATCHER_INOTIFY;
	rq->skip_dir = skip_all;
	exam_begin(x, "watcher");
	if (try_watch(c, rq, text, sizeof(text), &err) < 0)
		exam_fail(x, "sysctl fs.inotify.max_user_instances=1024, or fewer programs of this user", "inotify: %s",
			  err.text);
	else
		exam_ok(x, "inotify: %s", because);
}

static void choose(const struct config *c, const struct sync_options *opt, struct watch_request *rq,
		   const struct exam_walk *w, struct exam *x)
{
	bool small = !w->cut && w->dirs <= SMALL_TREE;
	struct err err = ERR_INIT;
	char text[256];

	if (opt->watcher == WATCHER_INOTIFY) {
		inotify_limits(x, w->dirs, w->cut, true);
		inotify_only(c, rq, "configured", x);
		return;
	}
	if (opt->watcher == WATCHER_AUTO && small) {
		inotify_limits(x, w->dirs, w->cut, true);
		exam_begin(x, "watcher");
		if (try_watch(c, rq, text, sizeof(text), &err) < 0)
			exam_fail(x, "see the limit above", "%s", err.text);
		else
			exam_ok(x, "%s", text);
		return;
	}
	rq->choice = WATCHER_FANOTIFY;
	exam_begin(x, "watcher");
	if (try_watch(c, rq, text, sizeof(text), &err) == 0) {
		exam_ok(x, "fanotify: %s",
			opt->watcher == WATCHER_FANOTIFY ? "configured"
							 : "a large tree: no walk is needed to watch it");
		inotify_limits(x, w->dirs, w->cut, false);
	} else if (opt->watcher == WATCHER_FANOTIFY) {
		exam_fail(x, "watcher = \"auto\"", "%s", err.text);
	} else {
		char because[256];

		(void)snprintf(because, sizeof(because), "fanotify refused: %.200s", err.text);
		inotify_limits(x, w->dirs, w->cut, true);
		inotify_only(c, rq, because, x);
	}
}

void doctor_watcher(const struct config *c, size_t sync, struct exam *x)
{
	const struct sync_options *opt = &c->syncs[sync];
	struct seen s = { .opt = opt };
	struct exam_walk w = { .enters = enters, .ctx = &s, .one_file_system = opt->one_file_system };
	struct watch_request rq = { .path = opt->source,
				    .root_fd = open_dir(opt->source),
				    .choice = opt->watcher,
				    .one_file_system = opt->one_file_system,
				    .want_modify = opt->open_file_interval_ns > 0,
				    .inotify_mode = opt->inotify_mode,
				    .skip_dir = skips,
				    .skip_ctx = &s };

	if (rq.root_fd < 0)
		return; /* doctor_source says so */
	exam_begin(x, "watcher");
	w.until_ns = clock_mono_ns() + exam_left_ns(x, WALK_NS);
	exam_walk(&w, rq.root_fd);
	choose(c, opt, &rq, &w, x);
	(void)close(rq.root_fd);
}

/* ---- a local target ---- */

static void count_temp(void *ctx, int dir_fd, const char *name, const char *path, size_t len, bool is_dir)
{
	uint64_t *n = ctx;

	(void)dir_fd;
	(void)path;
	(void)len;
	(void)is_dir;
	if (path_is_temp(name, strlen(name)))
		(*n)++;
}

static void left_overs(int fd, struct exam *x)
{
	uint64_t n = 0;
	struct exam_walk w = { .entry = count_temp, .ctx = &n, .until_ns = clock_mono_ns() + exam_left_ns(x, WALK_NS) };

	exam_begin(x, "left-overs");
	exam_walk(&w, fd);
	if (n > 0)
		exam_warn(x, "fansyncd --sync-now removes them, unless a batch is under way just now",
			  "%llu temporary files of interrupted runs", (unsigned long long)n);
	else
		exam_ok(x, "no temporary files of interrupted runs%s", w.cut ? ", as far as the time reached" : "");
}

static void missing_target(const char *dir, int errnum, struct exam *x)
{
	char parent[PATH_MAX];
	char *slash;

	(void)snprintf(parent, sizeof(parent), "%s", dir);
	slash = strrchr(parent, '/');
	if (slash != NULL)
		slash[slash == parent ? 1 : 0] = '\0';
	if (errnum == ENOENT && faccessat(AT_FDCWD, parent, W_OK | X_OK, AT_EACCESS) == 0)
		exam_ok(x, "%s will be made", dir);
	else if (errnum == ENOENT)
		exam_fail(x, "mount it, or make its parent", "%s can't be made: %s: %s", dir, parent, strerror(errno));
	else
		exam_fail(x, "mount or make it", "%s: %s", dir, strerror(errnum));
}

void doctor_local_target(const struct config *c, const struct sync_options *opt, struct exam *x)
{
	int fd;
	struct statvfs v;

	exam_begin(x, "target");
	fd = open_dir(opt->target);
	if (fd < 0) {
		missing_target(opt->target, errno, x);
		return;
	}
	if (fstatvfs(fd, &v) == 0 && (v.f_flag & ST_RDONLY) != 0)
		exam_fail(x, "mount -o remount,rw", "%s is on a file system that is mounted read-only", opt->target);
	else if (faccessat(AT_FDCWD, opt->target, W_OK | X_OK, AT_EACCESS) < 0)
		exam_fail(x, "chown it to the daemon's user, or run it as root", "%s can't be written: %s", opt->target,
			  strerror(errno));
	else
		exam_ok(x, "%s can be written", opt->target);
	if (fstatvfs(fd, &v) == 0)
		exam_space(x, opt->target, (uint64_t)v.f_bavail * v.f_frsize, (uint64_t)v.f_blocks * v.f_frsize,
			   v.f_favail, v.f_files);
	if (c->settings.state_dir != NULL)
		remembered(c, opt, "target", opt->target, fd, x);
	marker(fd, "requireTargetMarker", opt->require_target_marker, opt->target, x);
	left_overs(fd, x);
	(void)close(fd);
}
