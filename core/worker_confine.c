#include "core/worker_confine.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/guard_switches.h"
#include "core/log.h"
#include "core/lookups.h"
#include "core/owners.h"
#include "core/resolve.h"

#define PLACES_MAX 24u
/* A resolver waits for its servers, one after the other. */
#define LOOKUP_SECONDS 60u

struct places {
	struct transport_needs needs;
	struct confine_place v[PLACES_MAX];
	size_t n;
};

/* ---- what is reached ---- */

static void add_fd(struct places *p, int fd, unsigned rights)
{
	if (fd >= 0 && p->n < PLACES_MAX)
		p->v[p->n++] = (struct confine_place){ .fd = fd, .rights = rights };
	else if (fd >= 0)
		(void)close(fd);
}

/* Of a file the directory: it is replaced by a rename, or made later. */
static void add_above(struct places *p, const char *path, unsigned rights)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash == NULL ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));

	if (dir != NULL)
		add_fd(p, open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), rights);
	free(dir);
}

static void add(struct transport_needs *needs, const char *path, unsigned rights)
{
	struct places *p = (struct places *)needs;
	struct stat st;

	if (path == NULL)
		return;
	if ((rights & TRANSPORT_NEEDS_ITSELF) != 0 || (stat(path, &st) == 0 && S_ISDIR(st.st_mode)))
		add_fd(p, open(path, O_PATH | O_CLOEXEC), rights);
	else
		add_above(p, path, rights);
}

static void init(struct places *p)
{
	memset(p, 0, sizeof(*p));
	p->needs.add = add;
}

/* The libraries that others load when they are needed, and what these are configured by; no file with a secret. */
static void add_libraries(struct places *p)
{
	static const char *const paths[] = { "/usr/lib",
					     "/usr/lib64",
					     "/lib",
					     "/lib64",
					     "/etc/ld.so.cache",
					     "/etc/ssl/openssl.cnf",
					     "/etc/pki/tls/openssl.cnf",
					     "/etc/crypto-policies" };

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		add(&p->needs, paths[i], CONFINE_READ | TRANSPORT_NEEDS_ITSELF);
}

/* The host may be in another zone later on. */
static void add_time_zones(struct places *p)
{
	add(&p->needs, "/etc/localtime", CONFINE_READ | TRANSPORT_NEEDS_ITSELF);
	add(&p->needs, "/usr/share/zoneinfo", CONFINE_READ | TRANSPORT_NEEDS_ITSELF);
}

static void done(struct places *p)
{
	for (size_t i = 0; i < p->n; i++)
		(void)close(p->v[i].fd);
}

/* ---- before ---- */

static void answer(const void *question, size_t len, int out)
{
	const char kind = len == 0 ? '\0' : *(const char *)question;

	if (kind == RESOLVE_KIND)
		resolve_answer(question, len, out);
	else if (kind == OWNER_KIND)
		owner_answer(question, len, out);
}

int worker_confine_prepare(const struct transport *t, const struct sync_options *opt, int *lookups, struct err *err)
{
	const struct passwd *pw;
	struct places p;
	bool connects;

	*lookups = 0;
	init(&p);
	if (t->needs == NULL || !t->needs(opt, &p.needs)) {
		done(&p);
		return 0;
	}
	connects = (p.needs.may & CONFINE_CONNECT) != 0;
	done(&p);
	tzset();
	if (!connects)
		return 0;
	pw = getenv("HOME") == NULL ? getpwuid(geteuid()) : NULL;
	if (pw != NULL && setenv("HOME", pw->pw_dir, 0) < 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	*lookups = lookups_start(answer, LOOKUP_SECONDS, err);
	return *lookups < 0 ? -1 : 0;
}

/* ---- the confinement ---- */

int worker_confine(const struct transport *t, const struct sync_options *opt, int source_fd, const char *archive_path,
		   struct confinement *out, struct err *err)
{
	struct places p;
	int result;

	memset(out, 0, sizeof(*out));
	if (!GUARD_CONFINE || t->needs == NULL)
		return 0;
	init(&p);
	if (!t->needs(opt, &p.needs)) {
		done(&p);
		return (p.needs.may & CONFINE_SECRETS) != 0 ? confine_cores(err) : 0;
	}
	if ((p.needs.may & CONFINE_CONNECT) != 0)
		add_libraries(&p);
	add_time_zones(&p);
	if (archive_path != NULL)
		add_above(&p, archive_path, CONFINE_READ | CONFINE_WRITE);
	add_fd(&p, fcntl(source_fd, F_DUPFD_CLOEXEC, 3), CONFINE_READ);
	result = confine(p.v, p.n, p.needs.may, out, err);
	done(&p);
	if (result == 0 && (!out->files || !out->calls))
		log_info("this kernel has no %s: the worker is less confined",
			 !out->files ? "Landlock (of ABI 2)" : "seccomp");
	return result;
}
