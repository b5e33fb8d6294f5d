#include "transports/local_ahead.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/look.h"
#include "core/path.h"
#include "transports/listing.h"
#include "transports/local_private.h"

#define SLOTS 64u
/* Entries that are held for who takes them. */
#define ENTRIES_MAX 65536u
/* What was wanted longer ago is listed anew: files were sent meanwhile, and others were at work on both sides. */
#define AGE_NS NS_PER_S
/* So many directories have to wait before somebody is woken up, or made. */
#define WAKE_AT 4u
#define STACK_BYTES (512u * 1024)

enum side { SOURCE, TARGET, SIDES };
enum state { FREE = 0, WAITING, BUSY, DONE };

/* One listing. Whoever made it BUSY owns `list` and `rc` until it is DONE. */
struct job {
	enum state state;
	int rc;
	struct listing list;
};

struct slot {
	bool wanted;
	uint64_t turn; /* the lowest is next */
	int64_t since_ns;
	struct job jobs[SIDES];
	const struct mirror_keep *keep;
	char *path; /* with room for a name; written by who lists the source */
	size_t len, cap;
};

struct local_ahead {
	int roots[SIDES];
	/* Of the taker only. */
	bool running, no_thread;
	pthread_t thread;
	uint64_t turns;
	char *own_buffer;
	/* All else is under the lock. */
	pthread_mutex_t lock;
	pthread_cond_t work, done; /* there is some; one is done */
	bool stop, asleep, awaited;
	unsigned waiting; /* jobs */
	size_t held;	  /* entries in listings that are done */
	struct slot slots[SLOTS];
	_Alignas(16) char buffer[LOCAL_LIST_BUFFER]; /* of the thread */
};

/* ---- a listing ---- */

static bool keep_source(void *ctx, const char *name, size_t len, bool is_dir)
{
	struct slot *s = ctx;
	size_t base = s->len + (s->len > 0);

	if (len > NAME_BYTES_MAX)
		return false;
	memcpy(s->path + base, name, len);
	return s->keep->keep(s->keep->ctx, s->path, base + len, base, is_dir);
}

static int list(const struct local_ahead *a, struct slot *s, enum side side, char *buffer)
{
	const struct fileops_wish wish = { side == SOURCE ? keep_source : listing_keep_all, s };
	int root = a->roots[side], rc;
	int fd = s->len == 0 ? openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
			     : look_open_below(root, s->path, s->len, O_RDONLY);

	if (fd < 0)
		return -1;
	rc = local_list(fd, buffer, LOCAL_LIST_BUFFER, &s->jobs[side].list, &wish);
	(void)close(fd);
	return rc;
}

/* With the lock held, which is let go meanwhile. */
static void run(struct local_ahead *a, struct slot *s, enum side side, char *buffer)
{
	struct job *j = &s->jobs[side];

	j->state = BUSY;
	a->waiting--;
	(void)pthread_mutex_unlock(&a->lock);
	j->rc = list(a, s, side, buffer);
	(void)pthread_mutex_lock(&a->lock);
	j->state = DONE;
	if (j->rc == 0)
		a->held += j->list.n;
	if (a->awaited)
		(void)pthread_cond_signal(&a->done);
}

/* The next one that nobody has begun; of one side as long as there is any: two that work in one tree pass its
 * directories' locks to and fro. */
static struct slot *next(const struct local_ahead *a, struct slot *slots, enum side *side)
{
	struct slot *best[SIDES] = { NULL, NULL };
	enum side other = *side == SOURCE ? TARGET : SOURCE;

	if (a->waiting == 0 || a->held >= ENTRIES_MAX)
		return NULL;
	for (size_t i = 0; i < SLOTS; i++)
		for (int k = 0; k < SIDES && slots[i].wanted; k++)
			if (slots[i].jobs[k].state == WAITING && (best[k] == NULL || slots[i].turn < best[k]->turn))
				best[k] = &slots[i];
	if (best[*side] == NULL)
		*side = other;
	return best[*side];
}

static bool run_next(struct local_ahead *a, enum side side, char *buffer)
{
	struct slot *s = next(a, a->slots, &side);

	if (s != NULL)
		run(a, s, side, buffer);
	return s != NULL;
}

/* ---- the thread ---- */

/* A table of descriptors of its own: one that is shared costs each call on a descriptor an atomic operation, in both
 * threads. It holds the two roots and nothing of others'. Where that can't be had (Linux < 5.9) it is shared; and with
 * ThreadSanitizer, which takes the same number for the same descriptor. */
static void own_descriptors(const struct local_ahead *a)
{
#ifdef __SANITIZE_THREAD__
	(void)a;
#else
	unsigned low = (unsigned)a->roots[SOURCE], high = (unsigned)a->roots[TARGET];

	if (low > high) {
		low = (unsigned)a->roots[TARGET];
		high = (unsigned)a->roots[SOURCE];
	}
	/* Only if it is our own may anything be closed. 0 to 2 stay: words of a sanitizer's. */
	if (close_range(high + 1, ~0u, CLOSE_RANGE_UNSHARE) < 0)
		return;
	if (low + 1 < high)
		(void)close_range(low + 1, high - 1, 0);
	if (low > 3)
		(void)close_range(3, low - 1, 0);
#endif
}

static void *work(void *ctx)
{
	struct local_ahead *a = ctx;

	own_descriptors(a);
	(void)pthread_mutex_lock(&a->lock);
	while (!a->stop)
		if (!run_next(a, SOURCE, a->buffer)) {
			a->asleep = true;
			(void)pthread_cond_wait(&a->work, &a->lock);
			a->asleep = false;
		}
	(void)pthread_mutex_unlock(&a->lock);
	return NULL;
}

/* Signals are for the others. */
static int start(struct local_ahead *a)
{
	sigset_t all, before;
	pthread_attr_t attr;
	int rc;

	if (pthread_attr_init(&attr) != 0)
		return -1;
	(void)pthread_attr_setstacksize(&attr, STACK_BYTES);
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&a->thread, &attr, work, a);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&attr);
	return rc == 0 ? 0 : -1;
}

static void end(struct local_ahead *a)
{
	if (!a->running)
		return;
	(void)pthread_mutex_lock(&a->lock);
	a->stop = true;
	(void)pthread_cond_signal(&a->work);
	(void)pthread_mutex_unlock(&a->lock);
	(void)pthread_join(a->thread, NULL);
	a->running = a->stop = false;
}

/* ---- the taker's side ---- */

static bool set_path(struct slot *s, const char *path, size_t len)
{
	size_t need = len + 1 + NAME_BYTES_MAX;

	if (s->cap < need) {
		char *bigger = realloc(s->path, need + 256);

		if (bigger == NULL)
			return false;
		s->path = bigger;
		s->cap = need + 256;
	}
	memcpy(s->path, path, len);
	if (len > 0)
		s->path[len] = '/';
	s->len = len;
	return true;
}

static unsigned want(void *ctx, const char *path, size_t len, const struct mirror_keep *keep, bool wide)
{
	struct local_ahead *a = ctx;
	struct slot *s = NULL;
	bool many;

	/* Slots come and go by this side alone. */
	for (size_t i = 0; i < SLOTS && s == NULL; i++)
		if (!a->slots[i].wanted)
			s = &a->slots[i];
	if (s == NULL || a->no_thread || !set_path(s, path, len))
		return 0;
	s->keep = keep;
	s->since_ns = clock_mono_ns();
	(void)pthread_mutex_lock(&a->lock);
	s->wanted = true;
	s->turn = a->turns++;
	for (int side = 0; side < SIDES; side++)
		s->jobs[side] = (struct job){ .state = WAITING };
	a->waiting += SIDES;
	many = wide || a->waiting >= SIDES * WAKE_AT;
	if (a->asleep && many) {
		a->asleep = false;
		(void)pthread_cond_signal(&a->work);
	}
	(void)pthread_mutex_unlock(&a->lock);
	if (many && !a->running) {
		a->running = start(a) == 0;
		a->no_thread = !a->running;
	}
	return (unsigned)(s - a->slots) + 1;
}

/* With the lock held. Somebody else is at it: do something else meanwhile. */
static void await(struct local_ahead *a, const struct job *j)
{
	while (j->state != DONE)
		if (!run_next(a, TARGET, a->own_buffer)) {
			a->awaited = true;
			(void)pthread_cond_wait(&a->done, &a->lock);
			a->awaited = false;
		}
}

static void let_go(struct local_ahead *a, struct slot *s)
{
	for (int side = 0; side < SIDES; side++) {
		struct job *j = &s->jobs[side];

		a->waiting -= j->state == WAITING;
		if (j->state == DONE && j->rc == 0)
			a->held -= j->list.n;
		j->state = FREE;
	}
	s->wanted = false;
	/* There is room for more. */
	if (a->asleep && a->waiting >= SIDES * WAKE_AT && a->held < ENTRIES_MAX) {
		a->asleep = false;
		(void)pthread_cond_signal(&a->work);
	}
}

/* With the lock held: what nobody has begun is listed here, or not at all, what somebody is at is awaited. */
static void complete(struct local_ahead *a, struct slot *s, bool list_it)
{
	for (int side = SIDES - 1; side >= 0; side--) {
		struct job *j = &s->jobs[side];

		if (j->state == WAITING && list_it) {
			run(a, s, (enum side)side, a->own_buffer);
		} else if (j->state == WAITING) {
			a->waiting--;
			*j = (struct job){ .state = DONE, .rc = -1 };
		}
	}
	for (int side = 0; side < SIDES; side++)
		await(a, &s->jobs[side]);
}

/* A failure is nothing to take: whoever lists it again meets it, too, and can say what it is. */
static bool take(void *ctx, unsigned which, struct listing *source, struct listing *target)
{
	struct local_ahead *a = ctx;
	struct slot *s = &a->slots[which - 1];
	bool old = clock_mono_ns() - s->since_ns > AGE_NS, good;

	(void)pthread_mutex_lock(&a->lock);
	complete(a, s, !old);
	good = !old && s->jobs[SOURCE].rc == 0 && s->jobs[TARGET].rc == 0;
	let_go(a, s);
	(void)pthread_mutex_unlock(&a->lock);
	if (good) {
		*source = s->jobs[SOURCE].list;
		*target = s->jobs[TARGET].list;
	} else {
		for (int side = 0; side < SIDES; side++)
			listing_free(&s->jobs[side].list);
	}
	return good;
}

static void forget(void *ctx)
{
	struct local_ahead *a = ctx;

	end(a);
	for (size_t i = 0; i < SLOTS; i++) {
		struct slot *s = &a->slots[i];

		for (int side = 0; side < SIDES && s->wanted; side++)
			listing_free(&s->jobs[side].list);
		free(s->path);
		*s = (struct slot){ 0 };
	}
	a->waiting = 0;
	a->held = 0;
	a->no_thread = false;
}

/* ---- life ---- */

struct local_ahead *local_ahead_new(int source_fd, int target_fd)
{
	struct local_ahead *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return NULL;
	a->own_buffer = malloc(LOCAL_LIST_BUFFER);
	if (a->own_buffer == NULL || pthread_mutex_init(&a->lock, NULL) != 0) {
		free(a->own_buffer);
		free(a);
		return NULL;
	}
	(void)pthread_cond_init(&a->work, NULL);
	(void)pthread_cond_init(&a->done, NULL);
	a->roots[SOURCE] = source_fd;
	a->roots[TARGET] = target_fd;
	return a;
}

void local_ahead_free(struct local_ahead *a)
{
	if (a == NULL)
		return;
	forget(a);
	(void)pthread_cond_destroy(&a->done);
	(void)pthread_cond_destroy(&a->work);
	(void)pthread_mutex_destroy(&a->lock);
	free(a->own_buffer);
	free(a);
}

struct mirror_ahead local_ahead_calls(struct local_ahead *a)
{
	return (struct mirror_ahead){ .want = want, .take = take, .forget = forget, .ctx = a };
}
