#include "core/exam.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/credential.h"
#include "core/path.h"
#include "core/proc.h"

#define OUTPUT_MAX (64u * 1024)
/* Each level of a walk holds a descriptor. */
#define WALK_DEPTH 200u
/* Entries between two looks at the clock. */
#define WALK_ENTRIES 256u

/* ---- findings: a byte for the level, then three strings ---- */

static void say(struct exam *x, enum exam_level level, const char *text, const char *remedy)
{
	struct buf out;

	buf_init(&out, 4 * EXAM_TEXT_MAX);
	(void)buf_add_byte(&out, (unsigned char)level);
	(void)buf_add(&out, x->check, strlen(x->check) + 1);
	(void)buf_add(&out, text, strlen(text) + 1);
	if (buf_add(&out, remedy, strlen(remedy) + 1))
		for (size_t done = 0; done < out.len;) {
			ssize_t n = write(x->fd, out.data + done, out.len - done);

			if (n < 0 && errno != EINTR)
				break;
			done += n < 0 ? 0 : (size_t)n;
		}
	buf_done(&out);
}

void exam_begin(struct exam *x, const char *check)
{
	(void)snprintf(x->check, sizeof(x->check), "%s", check);
	say(x, EXAM_BEGUN, "", "");
}

static void say_list(struct exam *x, enum exam_level level, const char *remedy, const char *fmt, va_list ap)
	__attribute__((format(printf, 4, 0)));

static void say_list(struct exam *x, enum exam_level level, const char *remedy, const char *fmt, va_list ap)
{
	char text[EXAM_TEXT_MAX], cut[EXAM_TEXT_MAX];

	(void)vsnprintf(text, sizeof(text), fmt, ap);
	(void)snprintf(cut, sizeof(cut), "%s", remedy);
	say(x, level, text, cut);
}

void exam_ok(struct exam *x, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_list(x, EXAM_OK, "", fmt, ap);
	va_end(ap);
}

void exam_skip(struct exam *x, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_list(x, EXAM_SKIP, "", fmt, ap);
	va_end(ap);
}

void exam_warn(struct exam *x, const char *remedy, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_list(x, EXAM_WARN, remedy, fmt, ap);
	va_end(ap);
}

void exam_fail(struct exam *x, const char *remedy, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_list(x, EXAM_FAIL, remedy, fmt, ap);
	va_end(ap);
}

int64_t exam_left_ns(const struct exam *x, int64_t most_ns)
{
	int64_t left = x->until_ns - clock_mono_ns();

	return left < 0 ? 0 : left < most_ns ? left : most_ns;
}

static const char *take_string(struct reader *r)
{
	const void *end = r->failed || r->left == 0 ? NULL : memchr(r->p, '\0', r->left);

	if (end == NULL) {
		r->failed = true;
		return NULL;
	}
	return reader_bytes(r, (size_t)((const unsigned char *)end - r->p) + 1);
}

bool exam_next(struct reader *r, struct exam_finding *out)
{
	uint8_t level = r->left == 0 ? 0 : reader_u8(r);

	if (level < EXAM_BEGUN || level > EXAM_FAIL)
		return false;
	out->level = (enum exam_level)level;
	out->check = take_string(r);
	out->text = take_string(r);
	out->remedy = take_string(r);
	return !r->failed;
}

/* ---- a program ---- */

void exam_output_done(struct exam_output *o)
{
	buf_done(&o->out);
	buf_done(&o->err);
}

/* All that is there. What is beyond the ceiling is read and forgotten. */
static void read_some(int *fd, struct buf *into)
{
	char data[4096];
	ssize_t n = read(*fd, data, sizeof(data));

	if (n > 0) {
		size_t room = into->max - into->len;

		(void)buf_add(into, data, (size_t)n < room ? (size_t)n : room);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		(void)close(*fd);
		*fd = -1;
	}
}

static void write_some(int *fd, const char **input)
{
	ssize_t n = write(*fd, *input, strlen(*input));

	if (n > 0)
		*input += n;
	if (**input == '\0' || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		(void)close(*fd);
		*fd = -1;
	}
}

/* Until it has ended and its outputs are closed: what it leaves behind may hold those open. */
static void attend(struct proc *p, int pidfd, const char *input, int64_t until_ns, struct exam_output *o)
{
	bool ended = false;

	while (!ended || p->out >= 0 || p->err >= 0) {
		struct pollfd fds[4] = { { .fd = p->in, .events = POLLOUT },
					 { .fd = p->out, .events = POLLIN },
					 { .fd = p->err, .events = POLLIN },
					 { .fd = ended ? -1 : pidfd, .events = POLLIN } };
		int64_t left = until_ns - clock_mono_ns();

		if (left <= 0) {
			o->timed_out = true;
			return;
		}
		if (poll(fds, 4, ended ? 100 : (int)(left / NS_PER_MS) + 1) == 0 && ended)
			return;
		if (p->in >= 0 && fds[0].revents != 0)
			write_some(&p->in, &input);
		if (p->out >= 0 && fds[1].revents != 0)
			read_some(&p->out, &o->out);
		if (p->err >= 0 && fds[2].revents != 0)
			read_some(&p->err, &o->err);
		ended = ended || fds[3].revents != 0;
	}
}

int exam_run(const char *const *argv, const char *cwd, const char *input, int64_t limit_ns, struct exam_output *o,
	     struct err *err)
{
	static const char *const env[] = { "LC_ALL=C", NULL };
	const struct proc_spec spec = { .argv = argv,
					.env = env,
					.cwd = cwd,
					.pipe_in = true,
					.pipe_out = true,
					.pipe_err = true,
					.own_group = true };
	struct proc p = { 0, -1, -1, -1 };
	int pidfd;

	*o = (struct exam_output){ 0 };
	buf_init(&o->out, OUTPUT_MAX);
	buf_init(&o->err, OUTPUT_MAX);
	if (proc_spawn(&p, &spec, err) < 0)
		return -1;
	(void)signal(SIGPIPE, SIG_IGN);
	pidfd = (int)syscall(SYS_pidfd_open, p.pid, 0);
	if (pidfd < 0)
		err_errno(err, errno, "pidfd_open");
	else
		attend(&p, pidfd, input == NULL ? "" : input, clock_mono_ns() + limit_ns, o);
	(void)kill(-p.pid, SIGKILL); /* what it left behind, too */
	while (waitpid(p.pid, &o->status, 0) < 0 && errno == EINTR)
		;
	proc_close(&p);
	if (pidfd < 0)
		return -1;
	(void)close(pidfd);
	return 0;
}

/* ---- what several look at ---- */

void exam_secret(struct exam *x, const char *key, const char *path)
{
	struct stat st;
	char remedy[EXAM_TEXT_MAX];

	exam_begin(x, "secret");
	if (credential_elsewhere(path)) {
		exam_skip(x, "%s: only the service has %s", key, path);
		return;
	}
	(void)snprintf(remedy, sizeof(remedy), "chmod 600 %s", path);
	if (stat(path, &st) < 0)
		exam_fail(x, "see the key of the sync", "%s: %s: %s", key, path, strerror(errno));
	else if ((st.st_mode & credential_open_bits(path)) != 0)
		exam_fail(x, remedy, "%s: %s has mode %04o: others may read or change it", key, path,
			  (unsigned)(st.st_mode & 07777));
	else if (faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) < 0)
		exam_fail(x, "run the check as the daemon's user, or give it the file", "%s: %s: %s", key, path,
			  strerror(errno));
	else
		exam_ok(x, "%s: %s is its owner's alone", key, path);
}

/* A disk is nearly full when less than both of it is left. */
#define SCARCE_PERCENT 5u
#define SCARCE_BYTES (UINT64_C(1) << 30)
#define SCARCE_INODES UINT64_C(10000)

static bool scarce(uint64_t left, uint64_t of, uint64_t few)
{
	return left < few && left < of / 100 * SCARCE_PERCENT;
}

void exam_space(struct exam *x, const char *path, uint64_t bytes, uint64_t bytes_of, uint64_t inodes,
		uint64_t inodes_of)
{
	static const char remedy[] = "free some, or mount a larger file system there";
	unsigned long long mib = bytes >> 20;

	exam_begin(x, "space");
	if (bytes_of > 0 && bytes == 0)
		exam_fail(x, remedy, "%s: the file system is full", path);
	else if (inodes_of > 0 && inodes == 0)
		exam_fail(x, remedy, "%s: the file system has no inode left", path);
	else if (scarce(bytes, bytes_of, SCARCE_BYTES))
		exam_warn(x, remedy, "%s: %llu MiB are left, less than %u %%", path, mib, SCARCE_PERCENT);
	else if (scarce(inodes, inodes_of, SCARCE_INODES))
		exam_warn(x, remedy, "%s: %llu inodes are left, less than %u %%", path, (unsigned long long)inodes,
			  SCARCE_PERCENT);
	else if (inodes_of > 0)
		exam_ok(x, "%s: %llu MiB and %llu inodes are free", path, mib, (unsigned long long)inodes);
	else
		exam_ok(x, "%s: %llu MiB are free", path, mib);
}

void exam_clock(struct exam *x, bool both_ways, int64_t before_ns, int64_t theirs_ns, int64_t unit_ns, int64_t after_ns)
{
	static const char remedy[] = "run an NTP client on both hosts";
	int64_t off_ns = theirs_ns + unit_ns < before_ns ? before_ns - theirs_ns - unit_ns
			 : theirs_ns > after_ns		 ? theirs_ns - after_ns
							 : 0;
	int64_t off = off_ns / NS_PER_S, allowed = both_ways ? 1 : 60;

	exam_begin(x, "clock");
	if (off <= allowed)
		exam_ok(x, "within %" PRId64 " s of this one", off + 1);
	else if (both_ways)
		exam_fail(x, remedy, "%" PRId64 " s off this one: with bidirectional the newer edit wins", off);
	else
		exam_warn(x, remedy, "%" PRId64 " s off this one", off);
}

/* ---- a walk ---- */

static void walk_dir(struct exam_walk *w, int fd, struct buf *path, uint64_t dev, unsigned depth);

static bool is_dir_at(int at, const struct dirent *e)
{
	struct stat st;

	if (e->d_type != DT_UNKNOWN)
		return e->d_type == DT_DIR;
	return fstatat(at, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static void walk_into(struct exam_walk *w, int at, const char *name, struct buf *path, uint64_t dev, unsigned depth)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0) {
		if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP && w->refused != NULL)
			w->refused(w->ctx, path->data, path->len, errno);
		return;
	}
	if (w->one_file_system && (fstat(fd, &st) < 0 || (uint64_t)st.st_dev != dev)) {
		(void)close(fd);
		return;
	}
	walk_dir(w, fd, path, dev, depth + 1);
}

static void walk_entry(struct exam_walk *w, int at, const struct dirent *e, struct buf *path, uint64_t dev,
		       unsigned depth)
{
	size_t len = strlen(e->d_name), before = path->len;
	bool is_dir;

	if (!path_name_valid(e->d_name, len))
		return;
	is_dir = is_dir_at(at, e);
	if (before > 0)
		(void)buf_add_byte(path, '/');
	if (buf_add(path, e->d_name, len)) {
		w->entries++;
		if (w->entry != NULL)
			w->entry(w->ctx, at, e->d_name, path->data, path->len, is_dir);
		if (is_dir && (w->enters == NULL || w->enters(w->ctx, path->data, path->len)))
			walk_into(w, at, e->d_name, path, dev, depth);
	}
	path->len = before;
	path->failed = false;
}

/* Takes the descriptor. */
static void walk_dir(struct exam_walk *w, int fd, struct buf *path, uint64_t dev, unsigned depth)
{
	DIR *d = fdopendir(fd);
	const struct dirent *e;

	if (d == NULL) {
		(void)close(fd);
		return;
	}
	w->dirs++;
	if (depth >= WALK_DEPTH)
		w->cut = true;
	while (!w->cut && (e = readdir(d)) != NULL) {
		walk_entry(w, dirfd(d), e, path, dev, depth);
		if (w->entries % WALK_ENTRIES == 0 && clock_mono_ns() > w->until_ns)
			w->cut = true;
	}
	(void)closedir(d);
}

void exam_walk(struct exam_walk *w, int root_fd)
{
	int fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st = { 0 };
	struct buf path;

	w->dirs = w->entries = 0;
	w->cut = false;
	if (fd < 0) {
		if (w->refused != NULL)
			w->refused(w->ctx, "", 0, errno);
		return;
	}
	(void)fstat(fd, &st);
	buf_init(&path, (size_t)PATH_BYTES_MAX + 1);
	walk_dir(w, fd, &path, st.st_dev, 0);
	buf_done(&path);
}
