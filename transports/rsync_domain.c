/*
 * rsync_domain.c - what an rsync process may reach; see rsync_domain.h.
 */
#include "transports/rsync_domain.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/confine.h"
#include "core/path.h"
#include "core/safe_open.h"

#define PLACES_MAX 192u
#define PASSWORD_MAX 4096u
/* As much as the programs' own directories: between places of unequal rights Landlock allows no rename. */
#define WRITABLE (CONFINE_READ | CONFINE_WRITE | CONFINE_RUN)

/* ---- whether ---- */

/* A cluster of letters: up to one that takes the rest for its argument. */
static bool letter_follows(const char *arg)
{
	size_t n = arg[0] == '-' && arg[1] != '-' ? strcspn(arg, "LkKBTMef@=/") : strlen(arg);

	return arg[n] == 'L' || arg[n] == 'k' || arg[n] == 'K';
}

/* Options by which rsync is to follow links out of what it works on. */
static bool follows(const struct sync_options *o)
{
	static const char *const words[] = { "--copy-links", "--copy-unsafe-links", "--copy-dirlinks",
					     "--keep-dirlinks" };
	const struct rsync_options *r = &o->rsync;

	if (r->copy_links || r->copy_unsafe_links || r->copy_dirlinks || r->keep_dirlinks)
		return true;
	for (size_t i = 0; i < r->extra.n; i++) {
		const char *arg = r->extra.v[i];

		for (size_t k = 0; k < sizeof(words) / sizeof(words[0]); k++)
			if (strcmp(arg, words[k]) == 0)
				return true;
		if (letter_follows(arg))
			return true;
	}
	return false;
}

const char *rsync_domain_off(const struct sync_options *o)
{
	if (!o->rsync.confine)
		return "rsync.confine = false";
	if (follows(o))
		return "its options have it follow symlinks (copy_links and the like)";
	if (getenv("RSYNC_CONNECT_PROG") != NULL)
		return "RSYNC_CONNECT_PROG is set";
	return NULL;
}

/* ---- places ---- */

struct rsync_places {
	struct confine_place v[PLACES_MAX];
	size_t n;
	bool wide, full; /* what is named is not there, and nothing above it but the root; or too much is named */
};

static void add_fd(struct rsync_places *p, int fd, unsigned rights)
{
	if (fd >= 0 && p->n < PLACES_MAX) {
		p->v[p->n++] = (struct confine_place){ .fd = fd, .rights = rights };
	} else if (fd >= 0) {
		p->full = true;
		(void)close(fd);
	} else if (errno == EMFILE || errno == ENFILE) {
		p->full = true;
	}
}

static void add(struct rsync_places *p, const char *path, unsigned rights)
{
	add_fd(p, open(path, O_PATH | O_CLOEXEC), rights);
}

void rsync_domain_leave(struct rsync_places *p)
{
	for (size_t i = 0; p != NULL && i < p->n; i++)
		(void)close(p->v[i].fd);
	free(p);
}

/* Programs and libraries; tables of names, of the network, of time zones. Not all of /usr or /etc: there may be secrets
 * of others'. */
static void add_system(struct rsync_places *p)
{
	static const char *const run[] = {
		"/usr/bin",	    "/usr/sbin",	"/usr/lib",	  "/usr/lib32",	     "/usr/lib64",
		"/usr/libexec",	    "/usr/share",	"/usr/local/bin", "/usr/local/sbin", "/usr/local/lib",
		"/usr/local/lib32", "/usr/local/lib64", "/bin",		  "/sbin",	     "/lib",
		"/lib64",	    "/nix/store",	"/gnu/store"
	};
	static const char *const read[] = { "/etc/ld.so.cache",
					    "/etc/ld.so.preload",
					    "/etc/ld-musl-x86_64.path",
					    "/etc/ld-musl-aarch64.path",
					    "/etc/ssl/openssl.cnf",
					    "/etc/pki/tls/openssl.cnf",
					    "/etc/crypto-policies",
					    "/etc/localtime",
					    "/etc/locale.alias",
					    "/etc/popt",
					    "/etc/popt.d",
					    "/etc/nsswitch.conf",
					    "/etc/passwd",
					    "/etc/group",
					    "/etc/userdb",
					    "/run/systemd/userdb",
					    "/var/lib/sss/mc",
					    "/var/lib/extrausers/passwd",
					    "/var/lib/extrausers/group",
					    "/var/lib/misc/passwd.db",
					    "/var/lib/misc/group.db",
					    "/var/db/passwd.db",
					    "/var/db/group.db",
					    "/var/yp/binding",
					    "/etc/hosts",
					    "/etc/host.conf",
					    "/etc/resolv.conf",
					    "/etc/gai.conf",
					    "/etc/services",
					    "/etc/protocols",
					    "/etc/networks",
					    "/dev/urandom",
					    "/dev/random",
					    "/dev/zero" };

	for (size_t i = 0; i < sizeof(run) / sizeof(run[0]); i++)
		add(p, run[i], CONFINE_RUN);
	for (size_t i = 0; i < sizeof(read) / sizeof(read[0]); i++)
		add(p, read[i], CONFINE_READ);
	add(p, "/dev/null", CONFINE_READ | CONFINE_WRITE);
}

static bool is_last(const char *dir, const char *name)
{
	const char *slash = strrchr(dir, '/');

	return slash != NULL && strcmp(slash + 1, name) == 0;
}

/* Itself; and what lies beside it where that is a directory of programs, and the libraries of such a tree. Elsewhere a
 * script may lie beside keys. */
static void add_beside(struct rsync_places *p, const char *program)
{
	static const char *const libraries[] = { "lib", "lib64" };
	char *real = realpath(program, NULL), *slash = real == NULL ? NULL : strrchr(real, '/');
	struct buf lib;

	add(p, program, CONFINE_RUN);
	if (slash != NULL && slash > real)
		*slash = '\0';
	if (slash > real && (is_last(real, "bin") || is_last(real, "sbin") || is_last(real, "libexec"))) {
		add(p, real, CONFINE_RUN);
		slash = strrchr(real, '/');
		for (size_t i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++) {
			buf_init(&lib, 2 * PATH_BYTES_MAX);
			if (buf_printf(&lib, "%.*s/%s", (int)(slash - real), real, libraries[i]))
				add(p, buf_str(&lib), CONFINE_RUN);
			buf_done(&lib);
		}
	}
	free(real);
}

/* rsync.binary, wherever PATH leads to. It may be a script that starts another. */
static void add_program(struct rsync_places *p, const char *program)
{
	const char *path = getenv("PATH");
	struct buf name;
	struct stat st;

	buf_init(&name, 2 * PATH_BYTES_MAX);
	if (strchr(program, '/') != NULL)
		path = "";
	for (; path != NULL; path = *path == '\0' ? NULL : path + 1) {
		size_t len = strcspn(path, ":");

		buf_clear(&name);
		if (len > 0)
			(void)buf_printf(&name, "%.*s/", (int)len, path);
		(void)buf_add_str(&name, program);
		path += len;
		if (name.failed || stat(buf_str(&name), &st) < 0 || !S_ISREG(st.st_mode))
			continue;
		add_beside(p, buf_str(&name));
		break;
	}
	buf_done(&name);
}

/* What this program itself is made of, which stands for the remote shell in there: wherever it was loaded from. */
static void add_own_libraries(struct rsync_places *p)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[4096 + 128], last[4096] = "";

	while (maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
		char *path = strchr(line, '/'), *end = strchr(line, '\n');

		if (path == NULL || end == NULL || strstr(path, ".so") == NULL)
			continue;
		*end = '\0';
		if (strncmp(path, "/usr/lib", 8) == 0 || strncmp(path, "/lib", 4) == 0 || strcmp(path, last) == 0)
			continue;
		(void)snprintf(last, sizeof(last), "%s", path);
		add(p, path, CONFINE_RUN);
	}
	if (maps != NULL)
		(void)fclose(maps);
}

/* Where the environment has programs look for libraries. */
static void add_library_paths(struct rsync_places *p)
{
	static const char *const names[] = { "LD_LIBRARY_PATH", "LD_PRELOAD" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *value = getenv(names[i]);
		char *copy = value == NULL ? NULL : strdup(value), *rest = copy, *path;

		while (copy != NULL && (path = strsep(&rest, ": ")) != NULL)
			if (path[0] == '/')
				add(p, path, CONFINE_RUN);
		free(copy);
	}
}

/* ---- what its options name ---- */

static bool goes_up(const char *path)
{
	for (const char *at = path; at != NULL; at = strchr(at, '/')) {
		at += *at == '/' ? 1 : 0;
		if (strncmp(at, "..", 2) == 0 && (at[2] == '/' || at[2] == '\0'))
			return true;
	}
	return false;
}

/* Whether a path lies below the target as it is written: then the target's place is enough; it may not lead out of
 * there by a symlink, which is not ours. */
static bool is_inside(const struct rsync_domain *what, const char *path)
{
	size_t n = what->dest == NULL ? 0 : strlen(what->dest);

	if (path[0] != '/')
		return !goes_up(path);
	while (n > 1 && what->dest[n - 1] == '/')
		n--;
	return n > 0 && strncmp(path, what->dest, n) == 0 && (path[n] == '/' || path[n] == '\0') && !goes_up(path + n);
}

/* From the target upwards, and then down, by no symlink: what is beside the target may belong to the target's owner. Of
 * a directory that rsync would make all beside it were to be open: it is made now. */
static int open_beside(int dest_fd, const char *path, bool make)
{
	int fd = fcntl(dest_fd, F_DUPFD_CLOEXEC, 3);
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH };
	int below;

	while (fd >= 0 && strncmp(path, "..", 2) == 0 && (path[2] == '/' || path[2] == '\0')) {
		below = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		(void)close(fd);
		fd = below;
		path += 2 + strspn(path + 2, "/");
	}
	if (fd < 0 || *path == '\0')
		return fd;
	below = (int)syscall(SYS_openat2, fd, path, &how, sizeof(how));
	if (below < 0 && errno == ENOENT && make && strchr(path, '/') == NULL && mkdirat(fd, path, 0755) == 0)
		below = (int)syscall(SYS_openat2, fd, path, &how, sizeof(how));
	(void)close(fd);
	return below;
}

/* A path that rsync is given, as it understands it: relative to the target. What is not there it makes, below the
 * deepest directory that is. */
static void add_named(struct rsync_places *p, const struct rsync_domain *what, int dest_fd, const char *path,
		      unsigned rights)
{
	char *copy, *slash;
	int fd = -1;

	if (is_inside(what, path))
		return;
	copy = strdup(path);
	while (copy != NULL) {
		if (copy[0] != '/')
			fd = dest_fd < 0 ? -1 : open_beside(dest_fd, copy, (rights & CONFINE_WRITE) != 0);
		else
			fd = open(copy, O_PATH | O_CLOEXEC);
		slash = strrchr(copy, '/');
		if (fd >= 0 || errno != ENOENT || (rights & CONFINE_WRITE) == 0 || copy[0] != '/' || slash == NULL)
			break;
		p->wide = p->wide || slash == copy;
		if (slash == copy)
			break;
		*slash = '\0';
	}
	free(copy);
	add_fd(p, fd, rights);
}

enum names { NAMES_NONE = 0, NAMES_THERE, NAMES_READ, NAMES_WRITTEN };

/* rsync's options with a path of this host; THERE: of the target's host, which it may write. */
static enum names kind_of(const char *name, size_t len)
{
	static const struct {
		const char *name;
		enum names kind;
	} options[] = {
		{ "--backup-dir", NAMES_THERE },  { "--partial-dir", NAMES_THERE },
		{ "--temp-dir", NAMES_THERE },	  { "--link-dest", NAMES_THERE },
		{ "--copy-dest", NAMES_THERE },	  { "--compare-dest", NAMES_THERE },
		{ "--log-file", NAMES_WRITTEN },  { "--write-batch", NAMES_WRITTEN },
		{ "--exclude-from", NAMES_READ }, { "--include-from", NAMES_READ },
		{ "--early-input", NAMES_READ },  { "--only-write-batch", NAMES_WRITTEN },
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		if (strlen(options[i].name) == len && memcmp(options[i].name, name, len) == 0)
			return options[i].kind;
	return NAMES_NONE;
}

/* What an argument names: *value is NULL when that is the next one. */
static enum names names_of(const char *arg, const char **value)
{
	size_t len = strcspn(arg, "=");

	*value = NULL;
	if (strncmp(arg, "--", 2) == 0) {
		*value = arg[len] == '=' ? arg + len + 1 : NULL;
		return kind_of(arg, len);
	}
	if (arg[0] != '-')
		return NAMES_NONE;
	/* A cluster of letters, up to one that takes the rest for its value. */
	len = strcspn(arg, "TBMef@");
	if (arg[len] != 'T')
		return NAMES_NONE;
	*value = arg[len + 1] == '\0' ? NULL : arg + len + 1;
	return NAMES_THERE;
}

static void add_extra(struct rsync_places *p, int dest_fd, const struct rsync_domain *what)
{
	const struct strlist *extra = &what->opt->rsync.extra;

	for (size_t i = 0; i < extra->n; i++) {
		const char *value;
		enum names kind = names_of(extra->v[i], &value);

		if (kind == NAMES_NONE || (value == NULL && i + 1 == extra->n))
			continue;
		if (value == NULL)
			value = extra->v[++i];
		if (kind != NAMES_THERE || what->kind == RSYNC_LOCAL)
			add_named(p, what, dest_fd, value, kind == NAMES_READ ? CONFINE_READ : WRITABLE);
	}
}

static bool removes_source(const struct sync_options *o)
{
	for (size_t i = 0; i < o->rsync.extra.n; i++)
		if (strncmp(o->rsync.extra.v[i], "--remove-s", 10) == 0)
			return true;
	return false;
}

static int add_ends(struct rsync_places *p, const struct rsync_domain *what, struct err *err)
{
	const struct rsync_options *r = &what->opt->rsync;
	const char *const dirs[] = { r->backup_dir, r->temp_dir, r->partial_dir };
	int fd = fcntl(what->source_fd, F_DUPFD_CLOEXEC, 3), dest_fd = -1;

	if (fd < 0)
		return err_errno(err, errno, "the source");
	add_fd(p, fd, removes_source(what->opt) ? WRITABLE : CONFINE_READ);
	if (what->kind == RSYNC_LOCAL) {
		dest_fd = open(what->dest, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (dest_fd < 0)
			return err_errno(err, errno, "the target %s", what->dest);
		add_fd(p, dest_fd, WRITABLE);
	}
	for (size_t i = 0; what->kind == RSYNC_LOCAL && i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (dirs[i] != NULL)
			add_named(p, what, dest_fd, dirs[i], WRITABLE);
	add_extra(p, dest_fd, what);
	return 0;
}

static int too_much(const struct rsync_places *p, struct err *err)
{
	if (p->wide)
		return err_set(err, ERR_CONFIG,
			       "a directory in rsync's options is not there, nor is anything above it: make it, or set "
			       "rsync.confine = false");
	if (p->full)
		return err_set(err, ERR_LIMIT,
			       "too many open files, or paths in rsync.extra, for rsync to be confined");
	return 0;
}

int rsync_domain_make(const struct rsync_domain *what, int *domain, struct rsync_places **held, struct err *err)
{
	struct rsync_places *p = calloc(1, sizeof(*p));
	const char *home = getenv("HOME");
	char popt[4096];

	*domain = -1;
	*held = NULL;
	if (p == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	add_system(p);
	if (what->filter_file != NULL)
		add(p, what->filter_file, CONFINE_READ);
	if (what->list_file != NULL)
		add(p, what->list_file, CONFINE_READ);
	if (what->shell_fd >= 0) {
		add_fd(p, fcntl(what->shell_fd, F_DUPFD_CLOEXEC, 3), CONFINE_RUN);
		add_own_libraries(p);
	}
	if (home != NULL && (size_t)snprintf(popt, sizeof(popt), "%s/.popt", home) < sizeof(popt))
		add(p, popt, CONFINE_READ);
	add_program(p, what->opt->rsync.binary);
	add_library_paths(p);
	if (add_ends(p, what, err) < 0 || too_much(p, err) < 0 || confine_domain(p->v, p->n, domain, err) < 0) {
		rsync_domain_leave(p);
		return -1;
	}
	*held = p;
	return 0;
}

/* ---- the password ---- */

/* authenticate.c of rsync: the first line that is not empty. */
static bool take_line(const struct buf *text, struct buf *out)
{
	size_t at = 0, n = 0;

	while (at < text->len && (text->data[at] == '\n' || text->data[at] == '\r'))
		at++;
	while (at + n < text->len && text->data[at + n] != '\n' && text->data[at + n] != '\r' &&
	       text->data[at + n] != '\0')
		n++;
	/* All at once: a buffer that grows leaves a copy behind. */
	return buf_reserve(out, n + 1) && (n == 0 || buf_add(out, text->data + at, n)) && buf_add_byte(out, '\n');
}

static int read_all(int fd, const char *path, struct buf *out, struct err *err)
{
	ssize_t n = -1;

	if (!buf_reserve(out, PASSWORD_MAX))
		return err_set(err, ERR_NOMEM, "out of memory for a password");
	while (out->len < PASSWORD_MAX && (n = read(fd, out->data + out->len, PASSWORD_MAX - out->len)) != 0) {
		if (n > 0)
			out->len += (size_t)n;
		else if (errno != EINTR)
			return err_errno(err, errno, "rsync.password_file %s", path);
	}
	return n == 0 ? 0 : err_set(err, ERR_LIMIT, "rsync.password_file %s is too long for a password", path);
}

int rsync_domain_password(const char *path, struct buf *out, struct err *err)
{
	struct stat st;
	struct buf text;
	struct err why = ERR_INIT;
	int result = -1, fd = safe_open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0, &why);

	buf_init(&text, 2 * PASSWORD_MAX);
	buf_init(out, 2 * PASSWORD_MAX);
	if (fd < 0)
		return err_set(err, why.class, "rsync.password_file: %s", why.text);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		err_set(err, ERR_CONFIG, "rsync.password_file %s is no regular file", path);
	else if ((st.st_mode & 06) != 0)
		err_set(err, ERR_CONFIG, "rsync.password_file %s may be read or written by others: chmod o-rw", path);
	else if (geteuid() == 0 && st.st_uid != 0)
		err_set(err, ERR_CONFIG, "rsync.password_file %s must be root's, since rsync runs as root", path);
	else if (read_all(fd, path, &text, err) == 0)
		result = take_line(&text, out) ? 0 : err_set(err, ERR_NOMEM, "out of memory for a password");
	(void)close(fd);
	buf_wipe(&text);
	buf_done(&text);
	return result;
}
