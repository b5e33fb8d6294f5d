/*
 * direct.c - the transport "direct": from one local directory to another, without any other process.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/confine.h"
#include "core/transport.h"
#include "transports/local_ahead.h"
#include "transports/local_files.h"
#include "transports/mirror.h"
#include "transports/temp_name.h"

/* A large file under way does not hold up the small ones. */
#define WIDTH 8u

struct direct {
	const struct transport_env *env;
	struct local_tree *source, *target;
	struct local_ahead *ahead;
	struct mirror *mirror;
};

static int validate(struct sync_options *opt, struct err *err)
{
	const char *colon = strchr(opt->target, ':'), *slash = strchr(opt->target, '/');

	if (colon != NULL && (slash == NULL || colon < slash))
		return err_set(
			err, ERR_CONFIG,
			"target: \"%s\" looks like a host: direct takes a local directory (write ./%s if it is one)",
			opt->target, opt->target);
	return mirror_validate(opt, MIRROR_NO_COMPRESS, err);
}

/* Every missing directory of a path; the last component as well. */
static int make_path(const char *path, struct err *err)
{
	char *copy = strdup(path), *at = copy;
	int rc = 0;

	if (copy == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	while (rc == 0 && (at = strchr(at + 1, '/')) != NULL) {
		*at = '\0';
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			rc = err_errno(err, errno, "the target %s", copy);
		*at = '/';
	}
	free(copy);
	return rc;
}

/* The target itself is made if its parent exists, as rsync does; a missing parent is a disk that is not mounted. */
static int open_target(const struct sync_options *opt, struct err *err)
{
	int fd = open(opt->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT && !opt->rsync.dry_run) {
		if (opt->rsync.mkpath && make_path(opt->target, err) < 0)
			return -1;
		if (mkdir(opt->target, 0755) == 0)
			fd = open(opt->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	return fd < 0 ? err_errno(err, errno, "the target %s", opt->target) : fd;
}

static uint32_t own_tag(const struct sync_options *opt)
{
	char host[256] = "";

	(void)gethostname(host, sizeof(host) - 1);
	return temp_tag(host, opt->source, opt->target, opt->name);
}

static void close_session(void *session)
{
	struct direct *d = session;

	mirror_free(d->mirror);
	local_ahead_free(d->ahead);
	local_tree_free(d->source);
	local_tree_free(d->target);
	free(d);
}

static int set_up(struct direct *d, struct err *err)
{
	struct mirror_setup setup = { .env = d->env, .width = WIDTH, .width_dirs = 1, .tag = own_tag(d->env->opt) };
	int target = open_target(d->env->opt, err), source;
	struct mirror_ahead ahead;

	if (target < 0)
		return -1;
	d->target = local_tree_new(d->env->loop, target, err);
	source = fcntl(d->env->source_fd, F_DUPFD_CLOEXEC, 3);
	if (source < 0)
		return err_errno(err, errno, "the source");
	d->source = local_tree_new(d->env->loop, source, err);
	if (d->source == NULL || d->target == NULL)
		return -1;
	setup.source = local_tree_end(d->source, false);
	setup.target = local_tree_end(d->target, true);
	d->ahead = local_ahead_new(source, target);
	if (d->ahead == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	ahead = local_ahead_calls(d->ahead);
	setup.ahead = &ahead;
	d->mirror = mirror_new(&setup, err);
	return d->mirror == NULL ? -1 : 0;
}

static void *open_session(const struct transport_env *env, struct err *err)
{
	struct direct *d = calloc(1, sizeof(*d));

	if (d == NULL) {
		err_set(err, ERR_NOMEM, "out of memory");
		return NULL;
	}
	d->env = env;
	if (set_up(d, err) < 0) {
		close_session(d);
		return NULL;
	}
	return d;
}

/* Whether the target's path still leads to the directory that is open: a disk may have been mounted there, or taken
 * away. -1: the session is of no use; the core opens a new one. */
static int check_target(struct direct *d, struct err *err)
{
	struct stat now, open_one;

	if (stat(d->env->opt->target, &now) < 0)
		return err_errno(err, errno, "the target %s", d->env->opt->target);
	if (local_tree_root(d->target, &open_one) < 0 || now.st_dev != open_one.st_dev || now.st_ino != open_one.st_ino)
		return err_set(err, ERR_GONE, "the target %s is another directory now (mounted, unmounted or replaced)",
			       d->env->opt->target);
	return 0;
}

static int start(struct direct *d, const struct transport_work *work, bool reconcile, struct err *err)
{
	return check_target(d, err) < 0 ? -1 : mirror_start(d->mirror, work, reconcile, err);
}

static int apply(void *session, const struct transport_work *work, struct err *err)
{
	return start(session, work, false, err);
}

static int reconcile(void *session, const struct transport_work *work, struct err *err)
{
	return start(session, work, true, err);
}

/* The target's name is looked at before each work: it may be another directory by then. */
static bool needs(const struct sync_options *opt, struct transport_needs *out)
{
	out->may = CONFINE_THREADS | CONFINE_QUICK;
	out->add(out, opt->target, CONFINE_READ | CONFINE_WRITE);
	out->add(out, "/", CONFINE_LIST);
	return true;
}

extern const struct transport transport_direct;
const struct transport transport_direct = {
	.name = "direct",
	.caps = TRANSPORT_LOCAL_TARGET | TRANSPORT_LOOK | TRANSPORT_RENAME | TRANSPORT_NATIVE | TRANSPORT_KEEP,
	.default_delay_ns = 0,
	.validate = validate,
	.open = open_session,
	.apply = apply,
	.reconcile = reconcile,
	.close = close_session,
	.needs = needs,
};
