/*
 * watch_fanotify.c - the fanotify backend: one group whose file system marks report every change below the sources,
 * without a walk.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/watch_fanotify.h"

#define READ_SIZE ((size_t)16 << 10)
#define CACHE_MAX ((size_t)64 << 10)
#define TEXT_MAX ((size_t)64 << 20)
/* Between reads in a stream, so that the kernel merges repeats: read alone, each event costs several times as much. */
#define PAUSE_NS (3 * NS_PER_MS)
/* The same when nothing of what was read concerned a source: most of what that costs is to wake up for it. */
#define PAUSE_UNRELATED_NS (10 * NS_PER_MS)
/* A few events after a quiet time are no stream: so many reads go without a pause, and one more each CREDIT_NS. What is
 * made, written and closed at once is then sent at its close, not after a pause. */
#define CREDIT_MAX 8
#define CREDIT_NS (20 * NS_PER_MS)
/* How often the roots are looked at: not all that takes one away can be heard. */
#define CHECK_NS (10 * NS_PER_S)
/* Reads in one turn of the loop end after so long, so that others get theirs: a long queue, of directories that have to
 * be looked for each, takes minutes. */
#define TURN_NS (100 * NS_PER_MS)

/* Older headers. */
#ifndef FAN_REPORT_DFID_NAME
#define FAN_REPORT_DFID_NAME 0x00000c00
#endif
#ifndef FAN_RENAME
#define FAN_RENAME 0x10000000
#endif

const char *fan_refusal(int errnum)
{
	switch (errnum) {
	case EPERM:
		return "CAP_SYS_ADMIN is missing";
	case EOPNOTSUPP:
		return "the file system cannot find directories by handle (overlayfs, proc)";
	case ENODEV:
		return "the file system has no id (FUSE)";
	case EXDEV:
		return "a subvolume cannot be marked";
	case ENOSPC:
		return "no more marks: see fs.fanotify.max_user_marks";
	case EMFILE:
		return "no more groups: see fs.fanotify.max_user_groups";
	case EINVAL:
	case ENOSYS:
		return "the kernel cannot do that (5.9 is needed)";
	default:
		return strerror(errnum);
	}
}

/* ---- marks ---- */

uint64_t fan_mask(const struct fan *b, bool modify)
{
	uint64_t mask = FAN_CREATE | FAN_DELETE | FAN_CLOSE_WRITE | FAN_ATTRIB | FAN_ONDIR;

	mask |= b->has_rename ? FAN_RENAME : FAN_MOVED_FROM | FAN_MOVED_TO;
	return modify ? mask | FAN_MODIFY : mask;
}

int fan_mark(struct fan *b, bool add, uint64_t mask, int fd)
{
	unsigned flags = (add ? FAN_MARK_ADD : FAN_MARK_REMOVE) | FAN_MARK_FILESYSTEM;

	return fanotify_mark(b->fd, flags, mask, fd, ".") < 0 ? errno : 0;
}

/* Tried on a directory that always exists; what else may be refused there comes after the mask is judged. */
static bool probe_rename(int fd)
{
	if (fanotify_mark(fd, FAN_MARK_ADD, FAN_RENAME | FAN_ONDIR, AT_FDCWD, "/") < 0)
		return errno != EINVAL;
	(void)fanotify_mark(fd, FAN_MARK_REMOVE, FAN_RENAME | FAN_ONDIR, AT_FDCWD, "/");
	return true;
}

/* ---- reading ---- */

static int64_t after(int64_t ns)
{
	int64_t now = clock_mono_ns();

	return ns > INT64_MAX - now ? INT64_MAX : now + ns;
}

/* Read up to `limit` events, to the end of the queue, or for so long. Returns whether anything came, -1: failure. */
static int pump(struct fan *b, uint64_t limit, int64_t ns, struct err *err)
{
	int64_t until = after(ns);
	uint64_t events = 0;
	bool empty = false;

	do {
		ssize_t n = read(b->fd, b->in, READ_SIZE);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return err_errno(err, errno, "fanotify: read");
		empty = n <= 0;
		b->now_ns = clock_mono_ns();
		if (n > 0)
			fan_handle(b, b->in, (size_t)n, &events);
	} while (!empty && (events == 0 || events < limit) && clock_mono_ns() < until);
	b->seen += events;
	if (empty)
		b->goal = b->seen; /* however many were counted */
	if (b->check_roots) {
		b->check_roots = false;
		fan_check_roots(b);
	}
	fan_flush(b, empty);
	return events > 0;
}

static void tell_states(struct fan *b)
{
	for (struct fan_source *s = b->sources; s != NULL; s = s->next) {
		enum watched_state state = s->gone		     ? WATCHED_GONE
					   : s->unwatched[0] != '\0' ? WATCHED_PARTIAL
								     : WATCHED_OK;

		if (state == s->told)
			continue;
		s->told = state;
		watch_set_state(s->w, state, s->unwatched);
	}
}

/* What is mounted changed: new marks, and who the roots are. */
static void mounts_changed(struct fan *b)
{
	struct err err = ERR_INIT;

	b->now_ns = clock_mono_ns();
	if (fan_sync_mounts(b, NULL, &err) < 0)
		b->lost = true;
	fan_check_roots(b);
	fan_place_roots(b);
	fan_flush(b, false);
	tell_states(b);
}

static bool mounts_pending(const struct fan *b)
{
	struct pollfd p = { .fd = b->mounts_fd, .events = POLLPRI };

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLPRI | POLLERR)) != 0;
}

static void on_mounts(void *ctx, int fd, unsigned events)
{
	(void)fd;
	(void)events;
	mounts_changed(ctx);
}

static bool take_credit(struct fan *b)
{
	int64_t earned = (b->now_ns - b->credit_ns) / CREDIT_NS;

	if (earned > 0) {
		b->credit = earned > CREDIT_MAX - b->credit ? CREDIT_MAX : b->credit + (int)earned;
		b->credit_ns = b->now_ns;
	}
	return b->credit > 0 && b->credit-- > 0;
}

static void read_and_pause(struct fan *b)
{
	struct err err = ERR_INIT;
	uint64_t related = b->related;
	int r = pump(b, UINT64_MAX, TURN_NS, &err);
	bool at_once = r == 0 || (r > 0 && take_credit(b));

	tell_states(b);
	if (r < 0) {
		b->lost = true;
		b->goal = b->seen; /* all is compared instead */
	}
	loop_fd_set(b->fd_source, at_once ? LOOP_READ : 0);
	if (at_once)
		return;
	if (r < 0)
		loop_timer_after(b->pause, NS_PER_S);
	else if (b->seen < b->goal)
		loop_timer_after(b->pause, 0); /* somebody waits for the rest */
	else
		loop_timer_after(b->pause, b->related != related ? PAUSE_NS : PAUSE_UNRELATED_NS);
}

static void on_readable(void *ctx, int fd, unsigned events)
{
	(void)fd;
	(void)events;
	read_and_pause(ctx);
}

static void on_pause(void *ctx)
{
	read_and_pause(ctx);
}

static void on_check(void *ctx)
{
	struct fan *b = ctx;

	b->now_ns = clock_mono_ns();
	fan_check_roots(b);
	fan_flush(b, false);
	loop_timer_after(b->check, CHECK_NS);
}

void fan_later(struct fan *b)
{
	loop_timer_after(b->pause, 0);
}

static uint64_t queued(const struct fan *b)
{
	int bytes = 0;

	if (ioctl(b->fd, FIONREAD, &bytes) < 0 || bytes < 0)
		bytes = INT_MAX; /* then to its end */
	return (uint64_t)bytes / FAN_EVENT_METADATA_LEN;
}

/* As much as is in the queue now: under a steady stream it would never be empty. */
static void fan_ask(void *backend)
{
	struct fan *b = backend;

	b->asked = b->check_roots = true;
	b->goal = b->seen + queued(b);
}

static int fan_turn(void *backend, int64_t ns, struct err *err)
{
	struct fan *b = backend;
	int r = 0;

	if (!b->asked)
		return 1;
	/* And one more, for the end of the queue to be seen if it is there: only then is a rename exact. */
	if (ns > 0)
		r = pump(b, b->goal - b->seen + 1, ns, err);
	if (r >= 0 && b->seen < b->goal) {
		fan_later(b);
		return 0;
	}
	b->asked = false;
	if (r < 0)
		b->lost = true;
	else if (mounts_pending(b))
		mounts_changed(b);
	tell_states(b);
	return r < 0 ? -1 : 1;
}

static int fan_drain(void *backend, struct err *err)
{
	fan_ask(backend);
	return fan_turn(backend, INT64_MAX, err) < 0 ? -1 : 0;
}

/* ---- the group ---- */

static void fan_close(void *backend)
{
	struct fan *b = backend;

	loop_fd_remove(b->fd_source);
	loop_fd_remove(b->mounts_source);
	if (b->pause != NULL)
		loop_timer_remove(b->pause);
	if (b->check != NULL)
		loop_timer_remove(b->check);
	while (b->sources != NULL) {
		struct fan_source *s = b->sources;

		b->sources = s->next;
		fan_source_done(b, s);
	}
	fan_views_done(b);
	fan_cache_free(b->cache);
	if (b->fd >= 0)
		(void)close(b->fd);
	if (b->mounts_fd >= 0)
		(void)close(b->mounts_fd);
	free(b->held);
	free(b->in);
	buf_done(&b->text);
	buf_done(&b->path);
	buf_done(&b->path2);
	free(b);
}

static int make_group(struct fan *b, const struct watcher_settings *s, struct err *err)
{
	unsigned flags = FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_MARKS;

	if (s->fanotify_queue == 0)
		flags |= FAN_UNLIMITED_QUEUE;
	b->fd = fanotify_init(flags, O_RDONLY | O_CLOEXEC | O_LARGEFILE);
	if (b->fd < 0)
		return err_set(err, err_class_of_errno(errno), "%s", fan_refusal(errno));
	b->has_rename = !s->hide_fan_rename && probe_rename(b->fd);
	b->mounts_fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (b->mounts_fd < 0)
		return err_errno(err, errno, "/proc/self/mountinfo");
	return 0;
}

static int join_loop(struct fan *b, struct loop *loop, struct err *err)
{
	b->fd_source = loop_fd_add(loop, b->fd, LOOP_READ, on_readable, b, err);
	if (b->fd_source == NULL)
		return -1;
	b->mounts_source = loop_fd_add(loop, b->mounts_fd, LOOP_PRI, on_mounts, b, err);
	if (b->mounts_source == NULL)
		return -1;
	b->pause = loop_timer_add(loop, on_pause, b, err);
	b->check = b->pause == NULL ? NULL : loop_timer_add(loop, on_check, b, err);
	if (b->check == NULL)
		return -1;
	loop_timer_after(b->check, CHECK_NS);
	return 0;
}

static int fan_open(struct watcher_set *set, struct loop *loop, const struct watcher_settings *s, void **out,
		    struct err *err)
{
	struct fan *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	b->set = set;
	b->loop = loop;
	b->fd = b->mounts_fd = -1;
	buf_init(&b->text, TEXT_MAX);
	buf_init(&b->path, TEXT_MAX);
	buf_init(&b->path2, TEXT_MAX);
	b->cache = fan_cache_new(CACHE_MAX);
	b->in = malloc(READ_SIZE);
	if (b->cache == NULL || b->in == NULL) {
		fan_close(b);
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	if (make_group(b, s, err) < 0 || join_loop(b, loop, err) < 0) {
		fan_close(b);
		return -1;
	}
	*out = b;
	return 0;
}

/* ---- sources ---- */

static void unlink_source(struct fan *b, const struct fan_source *s)
{
	struct fan_source **at = &b->sources;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
}

static void fan_remove(void *backend, struct watched *w)
{
	struct fan *b = backend;
	struct fan_source *s = w->priv;
	struct err err = ERR_INIT;

	if (s == NULL)
		return;
	w->priv = NULL;
	fan_forget_held(b, w);
	unlink_source(b, s);
	fan_source_done(b, s);
	(void)fan_sync_mounts(b, NULL, &err);
	fan_place_roots(b);
}

static int pin_root(struct fan *b, struct fan_source *s, struct err *err)
{
	int mnt_id;

	if (!fan_key_of_fd(s->w->rq.root_fd, &s->root_key, &mnt_id))
		return err_errno(err, errno, "%.300s", s->w->rq.path);
	s->root_key.view = s->view->id;
	s->root = fan_cache_pin(b->cache, &s->root_key);
	return s->root != NULL ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

static int fan_add(void *backend, struct watched *w, struct err *err)
{
	struct fan *b = backend;
	struct fan_source *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	s->w = w;
	w->priv = s;
	s->next = b->sources;
	b->sources = s;
	if (fan_sync_mounts(b, s, err) < 0 || pin_root(b, s, err) < 0) {
		fan_remove(b, w);
		return -1;
	}
	/* What was another's, or nobody's, may be this one's too. */
	fan_cache_clear(b->cache);
	fan_cache_readmit(b->cache);
	fan_place_roots(b);
	return 0;
}

static void fan_info(void *backend, const struct watched *w, struct watched_info *out)
{
	const struct fan *b = backend;
	const struct fan_source *s = w->priv;

	if (s != NULL)
		fan_source_heard(b, s, out);
	out->watches = s != NULL ? s->marks : 0;
	out->unwatched = s != NULL && s->unwatched[0] != '\0';
}

const struct watch_backend watch_fanotify = {
	.name = "fanotify",
	.open = fan_open,
	.close = fan_close,
	.add = fan_add,
	.remove = fan_remove,
	.drain = fan_drain,
	.info = fan_info,
	.ask = fan_ask,
	.turn = fan_turn,
};
