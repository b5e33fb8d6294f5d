/*
 * rsync.c - the transport "rsync": a local directory, or an rsync daemon's module, kept equal by rsync processes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/clock.h"
#include "core/confine.h"
#include "core/transport.h"
#include "transports/rsync_exam.h"
#include "transports/rsync_session.h"

struct rsync_target {
	const struct transport_env *env;
	struct rsync_session *session;
	char *dest; /* with a trailing slash: rsync then makes no directory of the source's name */
};

static bool is_daemon(const char *target)
{
	const char *colons = strstr(target, "::");

	return strncmp(target, "rsync://", 8) == 0 ||
	       (colons != NULL && memchr(target, '/', (size_t)(colons - target)) == NULL);
}

static int validate(struct sync_options *opt, struct err *err)
{
	const char *colon = strchr(opt->target, ':'), *slash = strchr(opt->target, '/');

	if (opt->target[0] == '-')
		return err_set(err, ERR_CONFIG, "target: \"%s\" begins with a dash", opt->target);
	if (!is_daemon(opt->target) && colon != NULL && (slash == NULL || colon < slash))
		return err_set(err, ERR_CONFIG,
			       "target: \"%s\" looks like a host: use transport = \"rsyncssh\" with host and targetdir",
			       opt->target);
	for (size_t i = 0; i < opt->rsync.extra.n; i++)
		if (strncmp(opt->rsync.extra.v[i], "--password-file", 15) == 0)
			return err_set(err, ERR_CONFIG,
				       "rsync.extra: %s: use rsync.password_file, which keeps it from who "
				       "may write to the source",
				       opt->rsync.extra.v[i]);
	if (!is_daemon(opt->target) && opt->rsync.password_file != NULL)
		return err_set(err, ERR_CONFIG, "rsync.password_file is for an rsync daemon, and \"%s\" is none",
			       opt->target);
	return 0;
}

/* The target itself is made if its parent exists, as rsync does; a missing parent is a disk that is not mounted. */
static int check_local(const char *dir, struct err *err)
{
	struct stat st;

	if (stat(dir, &st) == 0)
		return S_ISDIR(st.st_mode) ? 0 : err_set(err, ERR_CONFIG, "the target %s is not a directory", dir);
	if (errno == ENOENT && mkdir(dir, 0755) == 0)
		return 0;
	return err_errno(err, errno, "the target %s", dir);
}

static void begin(void *ctx, const struct transport_work *work, bool reconcile)
{
	struct rsync_target *t = ctx;
	struct err err = ERR_INIT;

	(void)work;
	(void)reconcile;
	if (!is_daemon(t->dest) && check_local(t->dest, &err) < 0)
		rsync_session_down(t->session, &err);
	else
		rsync_session_go_on(t->session);
}

static void close_target(void *session)
{
	struct rsync_target *t = session;

	rsync_session_free(t->session);
	free(t->dest);
	free(t);
}

static char *with_slash(const char *target)
{
	size_t n = strlen(target);
	char *dest = malloc(n + 2);

	if (dest == NULL)
		return NULL;
	memcpy(dest, target, n + 1);
	if (n > 0 && dest[n - 1] != '/')
		memcpy(dest + n, "/", 2);
	return dest;
}

static void *open_target(const struct transport_env *env, struct err *err)
{
	struct rsync_target *t = calloc(1, sizeof(*t));
	struct rsync_owner owner = { .ctx = t, .begin = begin };
	struct rsync_endpoint to = { .kind = RSYNC_LOCAL };

	if (t != NULL)
		t->dest = with_slash(env->opt->target);
	if (t == NULL || t->dest == NULL) {
		free(t);
		err_set(err, ERR_NOMEM, "out of memory");
		return NULL;
	}
	t->env = env;
	to.kind = is_daemon(t->dest) ? RSYNC_DAEMON : RSYNC_LOCAL;
	to.dest = t->dest;
	to.dir = to.kind == RSYNC_LOCAL ? env->opt->target : NULL;
	t->session = rsync_session_new(env, &to, &owner, err);
	if (t->session == NULL) {
		close_target(t);
		return NULL;
	}
	return t;
}

static int apply(void *session, const struct transport_work *work, struct err *err)
{
	return rsync_session_start(((struct rsync_target *)session)->session, work, false, err);
}

static int reconcile(void *session, const struct transport_work *work, struct err *err)
{
	return rsync_session_start(((struct rsync_target *)session)->session, work, true, err);
}

/* rsync has the password for a daemon, wherever that comes from. */
static bool needs(const struct sync_options *opt, struct transport_needs *out)
{
	if (is_daemon(opt->target))
		out->may = CONFINE_SECRETS;
	return false;
}

extern const struct transport transport_rsync;
const struct transport transport_rsync = {
	.name = "rsync",
	.caps = TRANSPORT_LATE | TRANSPORT_LOCAL_TARGET | TRANSPORT_EXEC | TRANSPORT_MARKER | TRANSPORT_KEEP,
	.default_delay_ns = NS_PER_S,
	.validate = validate,
	.open = open_target,
	.apply = apply,
	.reconcile = reconcile,
	.close = close_target,
	.needs = needs,
	.examine = rsync_examine,
};
