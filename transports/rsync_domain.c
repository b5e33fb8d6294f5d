/*
 * rsync_domain.c - what an rsync process may reach; see rsync_domain.h.
 */
#include "transports/rsync_domain.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/confine.h"
#include "core/fsutil.h"
#include "core/path.h"

#define PLACES_MAX 96u
#define PASSWORD_MAX 4096u

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

struct places {
	struct confine_place v[PLACES_MAX];
	size_t n;
	bool wide; /* what is named is not there, and nothing above it but the root */
};

static void add_fd(struct places *p, int fd, unsigned rights)
{
	if (fd >= 0 && p->n < PLACES_MAX)
		p->v[p->n++] = (struct confine_place){ .fd = fd, .rights = rights };
	else if (fd >= 0)
		(void)close(fd);
}

static void add(struct places *p, const char *path, unsigned rights)
{
	add_fd(p, open(path, O_PATH | O_CLOEXEC), rights);
}

static void done(struct places *p)
{
	for (size_t i = 0; i < p->n; i++)
		(void)close(p->v[i].fd);
}

/* Programs and libraries; tables of names, of the network, of time zones. */
static void add_system(struct places *p)
{
	static const char *const run[] = { "/usr/bin",
					   "/usr/sbin",
					   "/usr/lib",
					   "/usr/lib32",
					   "/usr/lib64",
					   "/usr/libexec",
					   "/usr/share",
					   "/usr/local/bin",
					   "/usr/local/sbin",
					   "/usr/local/lib",
					   "/bin",
					   "/sbin",
					   "/lib",
					   "/lib64",
					   "/nix/store",
					   "/gnu/store" };
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
					    "/var/lib/sss/mc",
					    "/var/lib/extrausers/passwd",
					    "/var/lib/extrausers/group",
					    "/run/systemd/userdb",
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

/* What lies beside it, and its libraries where it is a package of its own. */
static void add_beside(struct places *p, const char *program)
{
	char *real = realpath(program, NULL), *slash = real == NULL ? NULL : strrchr(real, '/');
	struct buf lib;

	add(p, program, CONFINE_RUN);
	if (slash != NULL && slash > real) {
		*slash = '\0';
		add(p, real, CONFINE_RUN);
		buf_init(&lib, 2 * PATH_BYTES_MAX);
		slash = strrchr(real, '/');
		if (strcmp(slash, "/bin") == 0 && buf_printf(&lib, "%.*s/lib", (int)(slash - real), real))
			add(p, buf_str(&lib), CONFINE_RUN);
		buf_done(&lib);
	}
	free(real);
}

/* rsync.binary, wherever PATH leads to. It may be a script that starts another. */
static void add_program(struct places *p, const char *program)
{
	const char *path = getenv("PATH");
	struct buf name;
	struct stat st;

	buf_init(&name, 2 * PATH_BYTES_MAX);
	if (strchr(program, '/') != NULL)
		path = "";
	for (; path != NULL && p->n < PLACES_MAX; path = *path == '\0' ? NULL : path + 1) {
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

/* A path that rsync is given, as it understands it: relative to the target. What is not there it makes, below the
 * deepest directory that is. */
static void add_named(struct places *p, int dest_fd, const char *path, unsigned rights)
{
	char *copy = strdup(path);
	int fd = copy == NULL ? -1 : openat(dest_fd, copy, O_PATH | O_CLOEXEC);

	while (fd < 0 && copy != NULL && (rights & CONFINE_WRITE) != 0) {
		char *slash = strrchr(copy, '/');

		if (slash == NULL) /* below the target itself */
			break;
		p->wide = p->wide || slash == copy;
		if (slash == copy)
			break;
		*slash = '\0';
		fd = openat(dest_fd, copy, O_PATH | O_CLOEXEC);
	}
	free(copy);
	add_fd(p, fd, rights);
}

/* Where a path begins in one of the administrator's own arguments: after "=" or a letter or as a word of its own. */
static const char *path_in(const char *arg)
{
	const char *slash = strchr(arg, '/');

	if (slash == NULL || slash == arg)
		return slash;
	if (slash[-1] == '=' || slash[-1] == ' ' || (arg[0] == '-' && arg[1] != '-' && slash == arg + 2))
		return slash;
	return arg[0] == '-' ? NULL : arg;
}

/* Of a local target they are all paths of this host. Of another one its own are not; which of them are here to read
 * does not matter much, but for these, which are written. */
static void add_extra(struct places *p, int dest_fd, const struct rsync_domain *what)
{
	static const char *const there[] = { "--backup-dir", "--partial-dir", "--temp-dir",   "--link-dest",
					     "--copy-dest",  "--compare-dest", "--rsync-path", "--remote-option" };
	static const char *const written[] = { "--log-file", "--write-batch", "--only-write-batch" };
	const struct strlist *extra = &what->opt->rsync.extra;

	for (size_t i = 0; i < extra->n; i++) {
		const char *path = path_in(extra->v[i]);
		const char *name = path == extra->v[i] && i > 0 ? extra->v[i - 1] : extra->v[i];
		size_t len = strcspn(name, "=");
		bool is_there = strncmp(name, "-T", 2) == 0 || strncmp(name, "-M", 2) == 0, is_written = false;

		for (size_t k = 0; k < sizeof(there) / sizeof(there[0]); k++)
			is_there = is_there || (strlen(there[k]) == len && strncmp(name, there[k], len) == 0);
		for (size_t k = 0; k < sizeof(written) / sizeof(written[0]); k++)
			is_written = is_written || (strlen(written[k]) == len && strncmp(name, written[k], len) == 0);
		if (path == NULL || (is_there && what->kind != RSYNC_LOCAL))
			continue;
		add_named(p, dest_fd, path, CONFINE_READ | (is_there || is_written ? CONFINE_WRITE : 0));
	}
}

static bool removes_source(const struct sync_options *o)
{
	for (size_t i = 0; i < o->rsync.extra.n; i++)
		if (strncmp(o->rsync.extra.v[i], "--remove-s", 10) == 0)
			return true;
	return false;
}

int rsync_domain_make(const struct rsync_domain *what, int *domain, struct err *err)
{
	const struct rsync_options *r = &what->opt->rsync;
	const char *const dirs[] = { r->backup_dir, r->temp_dir, r->partial_dir };
	const char *home = getenv("HOME");
	struct places p = { .n = 0 };
	char popt[PATH_BYTES_MAX];
	int dest_fd = -1, result;

	*domain = -1;
	if (what->kind == RSYNC_LOCAL) {
		dest_fd = open(what->dest, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (dest_fd < 0)
			return err_errno(err, errno, "the target %s", what->dest);
		add_fd(&p, dest_fd, CONFINE_READ | CONFINE_WRITE);
	}
	add_fd(&p, fcntl(what->source_fd, F_DUPFD_CLOEXEC, 3),
	       CONFINE_READ | (removes_source(what->opt) ? CONFINE_WRITE : 0));
	for (size_t i = 0; what->kind == RSYNC_LOCAL && i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (dirs[i] != NULL)
			add_named(&p, dest_fd, dirs[i], CONFINE_READ | CONFINE_WRITE);
	add_extra(&p, dest_fd >= 0 ? dest_fd : what->source_fd, what);
	if (what->filter_file != NULL)
		add(&p, what->filter_file, CONFINE_READ);
	if (what->list_file != NULL)
		add(&p, what->list_file, CONFINE_READ);
	if (what->shell_fd >= 0)
		add_fd(&p, fcntl(what->shell_fd, F_DUPFD_CLOEXEC, 3), CONFINE_RUN);
	if (home != NULL && (size_t)snprintf(popt, sizeof(popt), "%s/.popt", home) < sizeof(popt))
		add(&p, popt, CONFINE_READ);
	add_program(&p, r->binary);
	add_system(&p);
	if (p.wide)
		result = err_set(err, ERR_CONFIG,
				 "a directory in rsync's options is not there, nor is anything above it: make it, "
				 "or set rsync.confine = false");
	else
		result = confine_domain(p.v, p.n, domain, err);
	done(&p);
	return result;
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

void rsync_domain_forget(struct buf *password)
{
	if (password->data != NULL)
		explicit_bzero(password->data, password->cap);
	buf_done(password);
}

int rsync_domain_password(const char *path, struct buf *out, struct err *err)
{
	struct stat st;
	struct buf text;
	int result = -1;

	buf_init(&text, 2 * PASSWORD_MAX);
	buf_init(out, 2 * PASSWORD_MAX);
	if (stat(path, &st) < 0)
		err_errno(err, errno, "rsync.password_file %s", path);
	else if ((st.st_mode & 06) != 0)
		err_set(err, ERR_CONFIG, "rsync.password_file %s may be read or written by others: chmod o-rw", path);
	else if (geteuid() == 0 && st.st_uid != 0)
		err_set(err, ERR_CONFIG, "rsync.password_file %s must be root's, since rsync runs as root", path);
	else if (read_file(path, PASSWORD_MAX, &text, err) == 0)
		result = take_line(&text, out) ? 0 : err_set(err, ERR_NOMEM, "out of memory for a password");
	rsync_domain_forget(&text);
	return result;
}
