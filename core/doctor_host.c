/* doctor_host.c - what concerns the daemon as a whole: what it may do, its own files, the clock, rings of syncs. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/doctor_private.h"
#include "core/path.h"
#include "core/proc.h"
#include "core/transport.h"

/* Descriptors of the daemon's own, and of each sync. */
#define FILES_BASE 64u
#define FILES_EACH 16u

static bool has_capability(unsigned cap)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { 0 } };

	return syscall(SYS_capget, &head, data) == 0 && (data[cap / 32].effective & (1u << (cap % 32))) != 0;
}

static bool wants_owners(const struct config *c)
{
	for (size_t i = 0; i < c->n_syncs; i++)
		if (c->syncs[i].rsync.owner)
			return true;
	return false;
}

static void capabilities(const struct config *c, struct exam *x)
{
	bool watch = has_capability(CAP_SYS_ADMIN) && has_capability(CAP_DAC_READ_SEARCH);

	exam_begin(x, "capabilities");
	if (!watch)
		exam_warn(x, "run it as root, as the systemd unit does, or leave it: inotify needs neither",
			  "without CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH there is no fanotify: each directory needs a "
			  "watch");
	else if (wants_owners(c) && !(has_capability(CAP_CHOWN) && has_capability(CAP_FOWNER)))
		exam_warn(x, "give it CAP_CHOWN and CAP_FOWNER",
			  "owners are to be mirrored, and this process may not set them");
	else
		exam_ok(x, "CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH are there, as fanotify needs them");
}

static void descriptors(const struct config *c, struct exam *x)
{
	size_t need = FILES_BASE + FILES_EACH * c->n_syncs;
	struct rlimit l;
	rlim_t may;
	char remedy[128];

	exam_begin(x, "descriptors");
	if (getrlimit(RLIMIT_NOFILE, &l) < 0) {
		exam_skip(x, "the limit is not known: %s", strerror(errno));
		return;
	}
	may = l.rlim_max < PROC_FILES ? l.rlim_max : PROC_FILES; /* the daemon takes what it may have */
	if (may < l.rlim_cur)
		may = l.rlim_cur;
	(void)snprintf(remedy, sizeof(remedy), "ulimit -Hn %zu, or LimitNOFILE=%zu in the unit", 2 * need, 2 * need);
	if (may < need)
		exam_warn(x, remedy, "%llu files may be open, %zu syncs may need %zu", (unsigned long long)may,
			  c->n_syncs, need);
	else
		exam_ok(x, "%llu files may be open", (unsigned long long)may);
}

/* The directory that a file is made in. false: no memory. */
static bool parent_of(const char *path, char out[PATH_MAX])
{
	const char *slash = strrchr(path, '/');
	size_t n = slash == NULL ? 0 : (size_t)(slash - path);

	if (n >= PATH_MAX)
		return false;
	(void)snprintf(out, PATH_MAX, "%.*s", slash == NULL ? 1 : n == 0 ? 1 : (int)n, slash == NULL ? "." : path);
	return true;
}

/* Whether the file can be opened for writing, or made. Nothing is opened or made. */
static void writable_file(struct exam *x, const char *check, const char *key, const char *path)
{
	char parent[PATH_MAX], remedy[EXAM_TEXT_MAX];
	struct stat st;

	if (path == NULL || !parent_of(path, parent))
		return;
	exam_begin(x, check);
	if (stat(path, &st) == 0) {
		(void)snprintf(remedy, sizeof(remedy), "chown it to the daemon's user, or set %s", key);
		if (S_ISDIR(st.st_mode))
			exam_fail(x, remedy, "%s %s is a directory", key, path);
		else if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) < 0)
			exam_fail(x, remedy, "%s %s can't be written: %s", key, path, strerror(errno));
		else
			exam_ok(x, "%s %s can be written", key, path);
		return;
	}
	(void)snprintf(remedy, sizeof(remedy), "mkdir -p %.900s, for the daemon's user to write to", parent);
	if (faccessat(AT_FDCWD, parent, W_OK | X_OK, AT_EACCESS) < 0)
		exam_fail(x, remedy, "%s %s can't be made: %s: %s", key, path, parent, strerror(errno));
	else
		exam_ok(x, "%s %s can be made", key, path);
}

static void space_of(struct exam *x, const char *path)
{
	struct statvfs v;

	if (statvfs(path, &v) == 0)
		exam_space(x, path, (uint64_t)v.f_bavail * v.f_frsize, (uint64_t)v.f_blocks * v.f_frsize, v.f_favail,
			   v.f_files);
}

/* It is made at the start, with its parents. */
static void state_dir(const struct config *c, struct exam *x)
{
	const char *dir = c->settings.state_dir;
	char up[PATH_MAX], next[PATH_MAX];
	struct stat st;

	if (dir == NULL)
		return;
	exam_begin(x, "state");
	if (lstat(dir, &st) == 0) {
		if (!S_ISDIR(st.st_mode))
			exam_fail(x, "remove it, or set stateDir", "stateDir %s is no directory", dir);
		else if (st.st_uid != geteuid() || (st.st_mode & 022) != 0)
			exam_fail(x, "chown it to the daemon's user, and chmod go-w",
				  "stateDir %s belongs to user %u with mode %04o", dir, st.st_uid,
				  (unsigned)(st.st_mode & 07777));
		else if (faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) < 0)
			exam_fail(x, "mount it writable, or set stateDir", "stateDir %s: %s", dir, strerror(errno));
		else
			exam_ok(x, "stateDir %s can be written", dir);
		space_of(x, dir);
		return;
	}
	(void)snprintf(up, sizeof(up), "%s", dir);
	do {
		if (!parent_of(up, next))
			return;
		(void)snprintf(up, sizeof(up), "%s", next);
	} while (strcmp(up, "/") != 0 && stat(up, &st) < 0 && errno == ENOENT);
	if (faccessat(AT_FDCWD, up, W_OK | X_OK, AT_EACCESS) < 0)
		exam_fail(x, "make it for the daemon's user, or set stateDir", "stateDir %s can't be made: %s: %s", dir,
			  up, strerror(errno));
	else
		exam_ok(x, "stateDir %s can be made", dir);
}

static bool answers(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd;
	bool yes;

	if (strlen(path) >= sizeof(a.sun_path))
		return false;
	memcpy(a.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	yes = fd >= 0 && connect(fd, (const struct sockaddr *)&a, sizeof(a)) == 0;
	if (fd >= 0)
		(void)close(fd);
	return yes;
}

bool doctor_is_running(const struct config *c)
{
	return c->settings.control_socket != NULL && answers(c->settings.control_socket);
}

static void control_socket(const struct config *c, struct exam *x)
{
	const char *path = c->settings.control_socket;
	char parent[PATH_MAX];
	struct stat st;

	if (path == NULL || !parent_of(path, parent))
		return;
	exam_begin(x, "control socket");
	if (answers(path))
		exam_ok(x, "a daemon answers at %s", path);
	else if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
		exam_fail(x, "remove it, or set controlSocket", "%s is no socket", path);
	else if (stat(parent, &st) == 0 && faccessat(AT_FDCWD, parent, W_OK | X_OK, AT_EACCESS) < 0)
		exam_fail(x, "set controlSocket to where the daemon may write", "%s can't be made: %s: %s", path,
			  parent, strerror(errno));
	else
		exam_ok(x, "%s can be made", path);
}

static void pid_file(const struct config *c, struct exam *x)
{
	if (c->settings.pidfile != NULL && !doctor_is_running(c))
		writable_file(x, "pid file", "pidfile", c->settings.pidfile);
}

static void config_file(const struct config *c, struct exam *x)
{
	struct stat st;

	exam_begin(x, "configuration");
	if (c->path != NULL && stat(c->path, &st) == 0 && (st.st_mode & 02) != 0)
		exam_fail(x, "chmod o-w", "%s can be changed by everybody: it names programs that the daemon starts",
			  c->path);
	else
		exam_ok(x, "%zu sync%s%s", c->n_syncs, c->n_syncs == 1 ? "" : "s",
			c->receiver != NULL ? ", a receiver" : "");
}

/* The newer of two edits wins: what that needs is told where it is needed. */
static void host_clock(const struct config *c, struct exam *x)
{
	struct timex t = { .modes = 0 };
	bool both = false;

	for (size_t i = 0; i < c->n_syncs; i++)
		both = both || c->syncs[i].bidirectional;
	if (!both)
		return;
	exam_begin(x, "clock");
	if (adjtimex(&t) < 0)
		exam_skip(x, "the kernel does not tell whether the clock is synchronised: %s", strerror(errno));
	else if ((t.status & STA_UNSYNC) != 0)
		exam_warn(x, "run an NTP client (systemd-timesyncd, chrony) on each host",
			  "the clock is not synchronised, and with bidirectional the newer edit wins");
	else
		exam_ok(x, "the clock is synchronised");
}

void doctor_host(const struct config *c, struct exam *x)
{
	config_file(c, x);
	capabilities(c, x);
	descriptors(c, x);
	state_dir(c, x);
	control_socket(c, x);
	writable_file(x, "log", "logfile", c->settings.logfile);
	writable_file(x, "status file", "statusFile", c->settings.status_file);
	pid_file(c, x);
	host_clock(c, x);
	doctor_rings(c, x);
}

/* ---- rings ---- */

/* Whether one of the two directories lies in the other. */
static bool overlap(const char *a, const char *b)
{
	return path_within(a + 1, strlen(a + 1), b + 1, strlen(b + 1)) ||
	       path_within(b + 1, strlen(b + 1), a + 1, strlen(a + 1));
}

static bool is_own_host(const char *host)
{
	const char *at = strrchr(host, '@'), *name = at == NULL ? host : at + 1;
	char own[HOST_NAME_MAX + 1] = "";
	size_t n;

	(void)gethostname(own, sizeof(own) - 1);
	n = strcspn(own, ".");
	return strcmp(name, "localhost") == 0 || strncmp(name, "127.", 4) == 0 || strcmp(name, "::1") == 0 ||
	       strcmp(name, "[::1]") == 0 ||
	       (own[0] != '\0' && (strcmp(name, own) == 0 || (strncmp(name, own, n) == 0 && name[n] == '\0')));
}

/* The directory on this host that a sync writes to; NULL: it is on another one, or not known. */
static const char *lands_at(const struct config *c, const struct sync_options *s)
{
	if (s->host == NULL)
		return s->target != NULL && s->target[0] == '/' ? s->target : NULL;
	if (!is_own_host(s->host))
		return NULL;
	if (s->targetdir != NULL)
		return s->targetdir[0] == '/' ? s->targetdir : NULL;
	for (size_t i = 0; c->receiver != NULL && s->tcp.module != NULL && i < c->receiver->n_modules; i++)
		if (strcmp(c->receiver->modules[i].name, s->tcp.module) == 0)
			return c->receiver->modules[i].path;
	return NULL;
}

/* From sync `i` on, along targets that are sources: back to sync `start`, by way of syncs that were not seen yet. */
static bool leads_back(const struct config *c, size_t start, size_t i, bool *seen)
{
	const char *at = lands_at(c, &c->syncs[i]);

	for (size_t j = 0; at != NULL && j < c->n_syncs; j++) {
		if (!overlap(at, c->syncs[j].source))
			continue;
		if (j == start)
			return true;
		if (seen[j])
			continue;
		seen[j] = true;
		if (leads_back(c, start, j, seen))
			return true;
	}
	return false;
}

static bool ring_of(const struct config *c, size_t i)
{
	bool *seen = calloc(c->n_syncs, sizeof(*seen));
	bool found = seen != NULL && leads_back(c, i, i, seen);

	free(seen);
	return found;
}

/* A module that others write to, and that is sent on to a host: if that one sends here, it goes round. */
static bool comes_in(const struct config *c, const struct sync_options *s, const char **module)
{
	for (size_t i = 0; c->receiver != NULL && i < c->receiver->n_modules; i++)
		if (overlap(c->receiver->modules[i].path, s->source)) {
			*module = c->receiver->modules[i].name;
			return true;
		}
	return false;
}

void doctor_rings(const struct config *c, struct exam *x)
{
	static const char remedy[] = "bidirectional = true in each sync of the ring, or one direction only";
	size_t found = 0;

	exam_begin(x, "rings");
	for (size_t i = 0; i < c->n_syncs; i++) {
		const struct sync_options *s = &c->syncs[i];
		const char *module = NULL;

		if (s->bidirectional)
			continue;
		if (ring_of(c, i)) {
			found++;
			exam_fail(x, remedy,
				  "sync %s: what it writes comes back to its source %s: an older state may overrun a "
				  "newer one",
				  s->name, s->source);
		} else if (s->host != NULL && comes_in(c, s, &module)) {
			found++;
			exam_warn(
				x, "bidirectional = true on both hosts, if that one mirrors the same tree to here",
				"sync %s: its source %s is written to by others, through module %s: is %s one of them?",
				s->name, s->source, module, s->host);
		}
	}
	if (found == 0 && c->n_syncs > 0)
		exam_ok(x, "no sync of this host leads back to its source");
}
