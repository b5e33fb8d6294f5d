/*
 * watch_inotify.c - the inotify backend: one group for all sources, its life, its turns in the loop, and what it says
 * of the state of each source. The walks are in watch_inotify_walk.c, the events in watch_inotify_events.c.
 */
#include "core/watch_inotify.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/path.h"
#include "core/watch_inotify_mode.h"

#define READ_SIZE (128u * 1024)
/* Unhandled bytes in an ordinary turn; more is read ahead only during walks. */
#define BACKLOG_MAX (1u << 20)
#define BUFFER_MAX (64u << 20)
#define READS_PER_TURN 4
#define DENTS_SIZE 65536
#define PATHS_MAX (16u << 20)
/* How long the first half of a rename waits for the second when the queue is empty. */
#define HOLD_NS (10 * NS_PER_MS)
/* Retries of what could not be watched, and checks of the roots' identity. */
#define RETRY_NS (10 * NS_PER_S)
#define RETRY_SOON_NS NS_PER_S
/* A drain goes on for so long when there is always more. */
#define DRAIN_NS (2 * NS_PER_S)
#define BASE_MASK (IN_ATTRIB | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_EXCL_UNLINK)

/* ---- reading ---- */

static void compact(struct ino *b)
{
	if (b->at == 0)
		return;
	buf_consume(&b->in, b->at);
	b->at = 0;
}

ssize_t ino_fill(struct ino *b, size_t max)
{
	ssize_t n;

	if (b->in.len - b->at >= max)
		return 0;
	compact(b);
	if (!buf_reserve(&b->in, READ_SIZE)) {
		b->in.failed = false;
		errno = ENOMEM;
		return -1;
	}
	do {
		n = read(b->fd, b->in.data + b->in.len, READ_SIZE);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -1;
	b->in.len += (size_t)n;
	b->now_ns = clock_mono_ns();
	return n;
}

size_t ino_queued(const struct ino *b)
{
	int queued = 0;

	if (ioctl(b->fd, FIONREAD, &queued) < 0 || queued < 0)
		queued = 0;
	return b->in.len - b->at + (size_t)queued;
}

/* ---- states ---- */

static unsigned long sysctl_value(const char *path)
{
	char text[32] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	(void)close(fd);
	return strtoul(text, NULL, 10);
}

/* In a container the limit of its user namespace may be the lower one. */
static const char *limit_name(unsigned long *value)
{
	unsigned long own = sysctl_value("/proc/sys/user/max_inotify_watches");

	*value = sysctl_value("/proc/sys/fs/inotify/max_user_watches");
	if (own == 0 || own >= *value)
		return "fs.inotify.max_user_watches";
	*value = own;
	return "user.max_inotify_watches";
}

static void words_for_limit(const struct ino_source *s, char *out, size_t size)
{
	unsigned long now;
	const char *name = limit_name(&now);
	uint64_t need = 0;

	for (const struct ino_source *o = s->b->sources; o != NULL; o = o->next)
		need += o->watches + o->limited;
	(void)snprintf(out, size,
		       "%s: %" PRIu64 " of its directories are not watched: out of inotify watches. The sysctl "
		       "%s is %lu, at least %" PRIu64 " are needed here: sysctl -w %s=%" PRIu64,
		       s->w->rq.path, s->limited, name, now, need, name, (need / 65536 + 1) * 65536);
}

static void words_for_partial(const struct ino_source *s, unsigned kinds, char *out, size_t size)
{
	if (kinds & WNODE_LIMITED)
		words_for_limit(s, out, size);
	else if (kinds & WNODE_DENIED)
		(void)snprintf(out, size, "%s: %" PRIu64 " of its directories may not be read, so they are not watched",
			       s->w->rq.path, s->denied);
	else
		(void)snprintf(out, size, "%s: %" PRIu64 " of its directories could not be watched", s->w->rq.path,
			       s->failed);
}

static unsigned kinds_of(const struct ino_source *s)
{
	return (s->denied > 0 ? WNODE_DENIED : 0u) | (s->limited > 0 ? WNODE_LIMITED : 0u) |
	       (s->failed > 0 ? WNODE_FAILED : 0u);
}

static void tell(struct ino_source *s)
{
	unsigned kinds = s->gone ? 0 : kinds_of(s);
	enum watched_state state = s->gone ? WATCHED_GONE : kinds != 0 ? WATCHED_PARTIAL : WATCHED_OK;
	char why[640];

	if (state == s->told && kinds == s->told_kinds)
		return;
	s->told = state;
	s->told_kinds = kinds;
	if (state == WATCHED_GONE)
		(void)snprintf(why, sizeof(why), "%s: %s", s->w->rq.path, s->gone_why);
	else if (state == WATCHED_PARTIAL)
		words_for_partial(s, kinds, why, sizeof(why));
	else
		(void)snprintf(why, sizeof(why), "%s: all of it is watched", s->w->rq.path);
	watch_set_state(s->w, state, why);
}

static void set_gone(struct ino_source *s, const char *why)
{
	s->gone = true;
	(void)snprintf(s->gone_why, sizeof(s->gone_why), "%s", why);
}

void ino_check_root(struct ino_source *s)
{
	struct stat st, held;

	if (lstat(s->w->rq.path, &st) < 0) {
		char why[160], text[100];

		(void)snprintf(why, sizeof(why), "the source is gone: it was deleted, renamed or unmounted (%s)",
			       strerror_r(errno, text, sizeof(text)));
		set_gone(s, why);
	} else if ((uint64_t)st.st_dev != s->w->root_dev || (uint64_t)st.st_ino != s->w->root_ino) {
		set_gone(s, "another directory or file system stands in the place of the source");
	} else if (fstat(s->w->rq.root_fd, &held) < 0 || held.st_nlink == 0) {
		/* The number of its inode was given to a new one. */
		set_gone(s, "the source was deleted and made again");
	} else if (s->gone || (s->root->wd < 0 && (s->root->flags & WNODE_UNWATCHED) == 0)) {
		s->gone = false;
		ino_doubt(s, "the source is back");
	}
}

/* ---- mounts ---- */

static int octal(const char *p)
{
	int v = 0;

	for (int i = 0; i < 3; i++) {
		if (p[i] < '0' || p[i] > '7')
			return -1;
		v = v * 8 + (p[i] - '0');
	}
	return v;
}

/* Undo the kernel's \040 in place. */
static void unescape(char *p)
{
	char *out = p;

	while (*p != '\0') {
		int v = *p == '\\' ? octal(p + 1) : -1;

		*out++ = v < 0 ? *p : (char)v;
		p += v < 0 ? 1 : 4;
	}
	*out = '\0';
}

static struct wnode *node_at(struct ino *b, struct ino_source *s, const char *path)
{
	struct wnode *n = s->root;

	while (n != NULL && *path != '\0') {
		size_t len = strcspn(path, "/");

		n = wtree_find(&b->tree, n, path, len);
		path += len + (path[len] == '/');
	}
	return n;
}

/* Something came or went at that mount point. */
static void mount_changed(struct ino *b, const char *path)
{
	for (struct ino_source *s = b->sources; s != NULL; s = s->next) {
		size_t root = s->w->path_len > 1 ? s->w->path_len : 0;
		struct wnode *n;

		if (strncmp(path, s->w->rq.path, root) != 0 || path[root] != '/')
			continue;
		n = node_at(b, s, path + root + 1);
		if (n == NULL || n == s->root)
			continue;
		n->flags |= WNODE_MOUNT;
		ino_suspect(b, n);
	}
}

static bool below_a_source(const struct ino *b, const char *path)
{
	for (const struct ino_source *s = b->sources; s != NULL; s = s->next) {
		size_t root = s->w->path_len > 1 ? s->w->path_len : 0;

		if (strncmp(path, s->w->rq.path, root) == 0 && path[root] == '/')
			return true;
	}
	return false;
}

static void free_mounts(struct ino_mount *m, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(m[i].path);
	free(m);
}

static bool keep_mount(struct ino_mount **list, size_t *n, int id, const char *path)
{
	struct ino_mount *m = realloc(*list, (*n + 1) * sizeof(*m));

	if (m == NULL)
		return false;
	*list = m;
	m[*n].id = id;
	m[*n].path = strdup(path);
	if (m[*n].path == NULL)
		return false;
	(*n)++;
	return true;
}

/* A line: id, parent's id, major:minor, root, mount point, ... */
static bool parse_mount(struct ino *b, char *line, struct ino_mount **list, size_t *n)
{
	int id = (int)strtol(line, NULL, 10);
	char *path = line;

	for (int i = 0; i < 4 && path != NULL; i++) {
		path = strchr(path, ' ');
		path = path == NULL ? NULL : path + 1;
	}
	if (path == NULL)
		return true;
	path[strcspn(path, " ")] = '\0';
	unescape(path);
	return !below_a_source(b, path) || keep_mount(list, n, id, path);
}

static bool parse_mounts(struct ino *b, char *text, struct ino_mount **list, size_t *n)
{
	bool ok = true;

	for (char *line = text, *end; line != NULL && *line != '\0' && ok; line = end) {
		end = strchr(line, '\n');
		if (end != NULL)
			*end++ = '\0';
		ok = parse_mount(b, line, list, n);
	}
	return ok;
}

static bool read_all(int fd, struct buf *out)
{
	ssize_t n = 0;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return false;
	do {
		if (n > 0)
			out->len += (size_t)n;
		if (!buf_reserve(out, 16384))
			return false;
		n = read(fd, out->data + out->len, 16384);
	} while (n > 0 || (n < 0 && errno == EINTR));
	return n == 0;
}

static bool has_mount(const struct ino_mount *m, size_t n, const struct ino_mount *one)
{
	for (size_t i = 0; i < n; i++)
		if (m[i].id == one->id && strcmp(m[i].path, one->path) == 0)
			return true;
	return false;
}

/* `quiet`: only learn what is mounted. */
static void look_at_mounts(struct ino *b, bool quiet)
{
	struct ino_mount *now = NULL;
	struct buf text;
	size_t n = 0;

	if (b->mount_fd < 0)
		return;
	buf_init(&text, PATHS_MAX);
	if (!read_all(b->mount_fd, &text) ||
	    !parse_mounts(b, text.len == 0 ? NULL : (char *)(uintptr_t)buf_str(&text), &now, &n)) {
		if (!quiet)
			ino_doubt_all(b, "the mounts could not be read");
		free_mounts(now, n);
		buf_done(&text);
		return;
	}
	for (size_t i = 0; i < n && !quiet; i++)
		if (!has_mount(b->mounts, b->n_mounts, &now[i]))
			mount_changed(b, now[i].path);
	for (size_t i = 0; i < b->n_mounts && !quiet; i++)
		if (!has_mount(now, n, &b->mounts[i]))
			mount_changed(b, b->mounts[i].path);
	free_mounts(b->mounts, b->n_mounts);
	b->mounts = now;
	b->n_mounts = n;
	buf_done(&text);
}

static void check_roots(struct ino *b)
{
	for (struct ino_source *s = b->sources; s != NULL; s = s->next)
		ino_check_root(s);
}

/* ---- turns ---- */

void ino_doubt(struct ino_source *s, const char *cause)
{
	if (s->doubt == NULL)
		s->doubt = cause;
}

void ino_doubt_all(struct ino *b, const char *cause)
{
	for (struct ino_source *s = b->sources; s != NULL; s = s->next)
		ino_doubt(s, cause);
}

/* What can't be known is compared as a whole, and what is not watched is found. */
static void resolve_doubts(struct ino *b)
{
	for (struct ino_source *s = b->sources; s != NULL; s = s->next) {
		const char *cause = s->doubt;

		if (cause == NULL)
			continue;
		s->doubt = NULL;
		ino_emit_reconcile(b, s->root, NULL, 0, cause);
		ino_walk(b, s->root, INO_SILENT);
	}
}

static bool in_doubt(const struct ino *b)
{
	for (const struct ino_source *s = b->sources; s != NULL; s = s->next)
		if (s->doubt != NULL)
			return true;
	return false;
}

static void end_turn(struct ino *b, bool held)
{
	for (struct ino_source *s = b->sources; s != NULL; s = s->next)
		tell(s);
	wtree_bury(&b->tree);
	if (held && !loop_timer_armed(b->again))
		loop_timer_after(b->again, HOLD_NS);
	else if (!held && in_doubt(b)) /* memory was short just now */
		loop_timer_after(b->again, RETRY_SOON_NS);
	else if (!held && b->suspects.n > 0)
		loop_timer_after(b->again, 0);
	if (b->freed) {
		b->freed = false;
		loop_timer_after(b->retry, RETRY_SOON_NS);
	}
}

static int not_readable(struct ino *b, int errnum, struct err *err)
{
	ino_doubt_all(b, "inotify could not be read");
	end_turn(b, false);
	return err_errno(err, errnum, "reading inotify events");
}

/* Read and handle, at most READS_PER_TURN times. */
static int turn(struct ino *b, struct err *err)
{
	bool held = false;

	for (unsigned i = 0; i < READS_PER_TURN; i++) {
		ssize_t n = ino_fill(b, BACKLOG_MAX);

		if (n < 0)
			return not_readable(b, errno, err);
		held = !ino_process(b);
		resolve_doubts(b);
		if (n == 0 && (held || !ino_settle(b)))
			break;
	}
	end_turn(b, held);
	return 0;
}

/* Until nothing is left. A rename whose other half is not there after one more look is a move out of the tree. Where
 * changes come faster than they can be read, what was queued at first is read, and the rest is compared. */
static int read_all_now(struct ino *b, struct err *err)
{
	size_t left = ino_queued(b) - (b->in.len - b->at);
	int64_t until_ns = clock_mono_ns() + DRAIN_NS;
	bool held = false;
	unsigned empty = 0;

	for (;;) {
		ssize_t n = ino_fill(b, BACKLOG_MAX);

		if (n < 0)
			return not_readable(b, errno, err);
		left -= left < (size_t)n ? left : (size_t)n;
		b->hold_over = n == 0 && held && empty++ > 0;
		held = !ino_process(b);
		b->hold_over = false;
		resolve_doubts(b);
		if (n == 0 && !held && !ino_settle(b))
			break;
		if (n > 0 && left == 0 && clock_mono_ns() > until_ns) {
			ino_doubt_all(b, "changes faster than they can be read");
			resolve_doubts(b);
			break;
		}
	}
	end_turn(b, held);
	return 0;
}

/* A descriptor that can't be read stays readable: leave it alone for a while. */
static void run_turn(struct ino *b)
{
	struct err err = ERR_INIT;

	if (turn(b, &err) == 0)
		return;
	log_error("%s", err.text);
	loop_fd_set(b->fd_source, 0);
	loop_timer_after(b->again, RETRY_SOON_NS);
}

static void on_readable(void *ctx, int fd, unsigned events)
{
	(void)fd;
	(void)events;
	run_turn(ctx);
}

static void on_again(void *ctx)
{
	struct ino *b = ctx;

	loop_fd_set(b->fd_source, LOOP_READ);
	b->hold_over = true;
	run_turn(b);
	b->hold_over = false;
}

static void on_mounts(void *ctx, int fd, unsigned events)
{
	struct ino *b = ctx;

	(void)fd;
	(void)events;
	look_at_mounts(b, false);
	check_roots(b);
	run_turn(b);
}

static void on_retry(void *ctx)
{
	struct ino *b = ctx;

	check_roots(b);
	for (struct ino_source *s = b->sources; s != NULL; s = s->next)
		if (!s->gone && s->limited + s->failed > 0)
			ino_retry_unwatched(b, s, WNODE_LIMITED | WNODE_FAILED);
	b->freed = false;
	run_turn(b);
	if (!loop_timer_armed(b->retry))
		loop_timer_after(b->retry, RETRY_NS);
}

/* ---- the backend ---- */

static void ino_close(void *backend)
{
	struct ino *b = backend;

	loop_fd_remove(b->fd_source);
	loop_fd_remove(b->mount_source);
	loop_timer_remove(b->again);
	loop_timer_remove(b->retry);
	if (b->fd >= 0)
		(void)close(b->fd);
	if (b->mount_fd >= 0)
		(void)close(b->mount_fd);
	wvec_done(&b->fresh);
	wvec_done(&b->suspects);
	wvec_done(&b->moved);
	wvec_done(&b->stack);
	wvec_done(&b->from);
	wvec_done(&b->to);
	wtree_done(&b->tree);
	buf_done(&b->in);
	buf_done(&b->path);
	buf_done(&b->path2);
	free_mounts(b->mounts, b->n_mounts);
	free(b->dents);
	free(b);
}

static int open_group(struct ino *b, struct err *err)
{
	b->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (b->fd >= 0)
		return 0;
	if (errno == EMFILE)
		return err_set(err, ERR_LIMIT,
			       "no inotify instance is left for this user: the sysctl fs.inotify.max_user_instances is "
			       "%lu (or this process has too many open files)",
			       sysctl_value("/proc/sys/fs/inotify/max_user_instances"));
	if (errno == ENOSYS)
		return err_set(err, ERR_CONFIG, "this kernel has no inotify");
	return err_errno(err, errno, "inotify_init1");
}

static int open_rest(struct ino *b, struct err *err)
{
	uint64_t seed = 0;

	if (access("/proc/self/fd", X_OK) < 0)
		return err_errno(err, errno, "inotify watches are set through /proc/self/fd: is /proc mounted?");
	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) < 0)
		seed = (uint64_t)clock_mono_ns();
	b->dents = malloc(DENTS_SIZE);
	if (!wtree_init(&b->tree, seed) || b->dents == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for the inotify watches");
	b->fd_source = loop_fd_add(b->loop, b->fd, LOOP_READ, on_readable, b, err);
	if (b->fd_source == NULL)
		return -1;
	b->again = loop_timer_add(b->loop, on_again, b, err);
	b->retry = loop_timer_add(b->loop, on_retry, b, err);
	if (b->again == NULL || b->retry == NULL)
		return -1;
	/* Without it new mounts go unseen until the next reconcile: no reason not to start. */
	b->mount_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (b->mount_fd >= 0)
		b->mount_source = loop_fd_add(b->loop, b->mount_fd, LOOP_PRI, on_mounts, b, NULL);
	loop_timer_after(b->retry, RETRY_NS);
	return 0;
}

static int ino_open(struct watcher_set *set, struct loop *loop, const struct watcher_settings *settings, void **out,
		    struct err *err)
{
	struct ino *b = calloc(1, sizeof(*b));

	(void)settings;
	if (b == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for the inotify watches");
	b->set = set;
	b->loop = loop;
	b->fd = b->mount_fd = -1;
	buf_init(&b->in, BUFFER_MAX);
	buf_init(&b->path, PATHS_MAX);
	buf_init(&b->path2, PATHS_MAX);
	if (open_group(b, err) < 0 || open_rest(b, err) < 0) {
		ino_close(b);
		return -1;
	}
	*out = b;
	return 0;
}

static void unlink_source(struct ino *b, const struct ino_source *s)
{
	struct ino_source **at = &b->sources;

	while (*at != NULL && *at != s)
		at = &(*at)->next;
	if (*at != NULL)
		*at = s->next;
}

static void release_lists(struct ino *b)
{
	struct wvec *const lists[] = { &b->fresh, &b->suspects, &b->moved };

	for (size_t k = 0; k < sizeof(lists) / sizeof(lists[0]); k++) {
		size_t kept = 0;

		for (size_t i = 0; i < lists[k]->n; i++)
			if (lists[k]->v[i]->flags & WNODE_DEAD)
				lists[k]->v[i]->flags &= (uint16_t)~WNODE_LISTED;
			else
				lists[k]->v[kept++] = lists[k]->v[i];
		lists[k]->n = kept;
	}
}

static void ino_remove(void *backend, struct watched *w)
{
	struct ino *b = backend;
	struct ino_source *s = w->priv;

	if (s == NULL)
		return;
	ino_forget(b, s->root);
	release_lists(b);
	wtree_bury(&b->tree);
	unlink_source(b, s);
	free(s);
	w->priv = NULL;
}

/* When nothing is queued, what was just opened by its path is what it seems. */
static void settle_now(struct ino *b)
{
	if (b->suspects.n == 0 && ino_queued(b) == 0)
		(void)ino_settle(b);
}

static int ino_add(void *backend, struct watched *w, struct err *err)
{
	struct ino *b = backend;
	struct ino_source *s = calloc(1, sizeof(*s));

	if (s != NULL)
		s->root = wtree_root(&b->tree, s);
	if (s == NULL || s->root == NULL) {
		free(s);
		return err_set(err, ERR_NOMEM, "out of memory for watching %s", w->rq.path);
	}
	s->b = b;
	s->w = w;
	s->mask = BASE_MASK | inotify_mode_mask(&w->rq);
	s->next = b->sources;
	b->sources = s;
	w->priv = s;
	ino_walk(b, s->root, INO_SILENT);
	if (s->root->wd < 0) {
		bool limit = s->limited > 0;
		unsigned long value;
		const char *name = limit_name(&value);

		ino_remove(b, w);
		if (limit)
			return err_set(err, ERR_LIMIT, "no inotify watch is left for %s: the sysctl %s is %lu",
				       w->rq.path, name, value);
		return err_set(err, ERR_DENIED, "%s can't be read, so inotify can't watch it", w->rq.path);
	}
	look_at_mounts(b, true);
	settle_now(b);
	/* States and records may not leave from here: in the loop's next turn. */
	loop_timer_after(b->again, 0);
	return 0;
}

static int ino_drain(void *backend, struct err *err)
{
	struct ino *b = backend;
	struct pollfd p = { .fd = b->mount_fd, .events = POLLPRI };

	/* poll(2) takes the notice away from the loop. */
	if (b->mount_fd >= 0 && poll(&p, 1, 0) > 0)
		look_at_mounts(b, false);
	check_roots(b);
	return read_all_now(b, err);
}

static void ino_info(void *backend, const struct watched *w, struct watched_info *out)
{
	const struct ino_source *s = w->priv;

	(void)backend;
	out->backend = "inotify";
	out->reason = w->reason;
	out->events = w->events;
	out->overflows = w->overflows;
	if (s == NULL)
		return;
	out->watches = s->watches;
	out->unwatched = s->denied + s->limited + s->failed;
}

const struct watch_backend watch_inotify = {
	.name = "inotify",
	.open = ino_open,
	.close = ino_close,
	.add = ino_add,
	.remove = ino_remove,
	.drain = ino_drain,
	.info = ino_info,
};
