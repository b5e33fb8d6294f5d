#include "transports/receiver_lookups.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"

#define REMEMBERED 256u
#define REMEMBER_NS (30 * NS_PER_S)

struct lookup {
	struct lookup *next;
	struct receiver_lookups *l;
	pid_t session, child;
	int fd; /* -1: the answer is there */
	struct loop_fd *source;
	struct owner_question q;
	struct owner_answer a;
};

struct remembered {
	struct owner_question q;
	struct owner_answer a;
	int64_t until_ns;
};

struct receiver_lookups {
	struct loop *loop;
	struct loop_timer *timer; /* for answers that are there at once */
	struct lookup *first;
	struct remembered *slots;
	void (*answer)(void *ctx, pid_t session, const struct owner_answer *a);
	void *ctx;
};

static struct remembered *slot_of(const struct receiver_lookups *l, const struct owner_question *q)
{
	uint32_t h = 2166136261u ^ (uint32_t)q->kind;

	for (const char *p = q->name; *p != '\0'; p++)
		h = (h ^ (unsigned char)*p) * 16777619u;
	return &l->slots[h % REMEMBERED];
}

static void remember(const struct receiver_lookups *l, const struct lookup *k)
{
	if (k->a.result != OWNER_FAILED)
		*slot_of(l, &k->q) =
			(struct remembered){ .q = k->q, .a = k->a, .until_ns = clock_mono_ns() + REMEMBER_NS };
}

static bool recall(const struct receiver_lookups *l, struct lookup *k)
{
	const struct remembered *s = slot_of(l, &k->q);

	if (s->until_ns <= clock_mono_ns() || s->q.kind != k->q.kind || strcmp(s->q.name, k->q.name) != 0)
		return false;
	k->a = s->a;
	return true;
}

/* The child ends by itself. */
static void forget(struct lookup *k)
{
	struct lookup **at = &k->l->first;

	while (*at != k)
		at = &(*at)->next;
	*at = k->next;
	if (k->source != NULL)
		loop_fd_remove(k->source);
	if (k->fd >= 0)
		(void)close(k->fd);
	free(k);
}

static void on_child(void *ctx, pid_t pid, int status)
{
	(void)ctx; /* its answer, or the end of it, comes by the pipe */
	(void)pid;
	(void)status;
}

static void finish(struct lookup *k)
{
	const struct receiver_lookups *l = k->l;
	const struct owner_answer a = k->a;
	pid_t session = k->session;

	forget(k);
	l->answer(l->ctx, session, &a);
}

static void on_answer(void *ctx, int fd, unsigned events)
{
	struct lookup *k = ctx;

	(void)events;
	if (read(fd, &k->a, sizeof(k->a)) != (ssize_t)sizeof(k->a))
		k->a = (struct owner_answer){ .result = OWNER_FAILED };
	remember(k->l, k);
	finish(k);
}

static void on_timer(void *ctx)
{
	struct receiver_lookups *l = ctx;
	struct lookup *next;

	for (struct lookup *k = l->first; k != NULL; k = next) {
		next = k->next;
		if (k->fd < 0)
			finish(k);
	}
}

struct receiver_lookups *receiver_lookups_new(struct loop *loop,
					      void (*answer)(void *ctx, pid_t session, const struct owner_answer *a),
					      void *ctx, struct err *err)
{
	struct receiver_lookups *l = calloc(1, sizeof(*l));

	if (l != NULL)
		l->slots = calloc(REMEMBERED, sizeof(*l->slots));
	if (l == NULL || l->slots == NULL) {
		free(l);
		err_set(err, ERR_NOMEM, "out of memory for the names of owners");
		return NULL;
	}
	l->loop = loop;
	l->answer = answer;
	l->ctx = ctx;
	l->timer = loop_timer_add(loop, on_timer, l, err);
	if (l->timer != NULL)
		return l;
	free(l->slots);
	free(l);
	return NULL;
}

void receiver_lookups_free(struct receiver_lookups *l)
{
	if (l == NULL)
		return;
	while (l->first != NULL) {
		if (l->first->fd >= 0) {
			loop_child_forget(l->loop, l->first->child);
			(void)kill(l->first->child, SIGKILL);
		}
		forget(l->first);
	}
	loop_timer_remove(l->timer);
	free(l->slots);
	free(l);
}

static bool start(struct lookup *k)
{
	struct err err = ERR_INIT;

	k->fd = owner_ask(&k->q, &k->child, &err);
	if (k->fd < 0)
		return false;
	k->source = loop_fd_add(k->l->loop, k->fd, LOOP_READ, on_answer, k, &err);
	if (k->source != NULL && loop_child(k->l->loop, k->child, on_child, k->l, &err) == 0)
		return true;
	(void)kill(k->child, SIGKILL);
	loop_child_forget(k->l->loop, k->child);
	loop_fd_remove(k->source);
	k->source = NULL;
	(void)close(k->fd);
	k->fd = -1;
	return false;
}

void receiver_lookups_ask(struct receiver_lookups *l, pid_t session, const struct owner_question *q)
{
	struct lookup *k;

	for (k = l->first; k != NULL; k = k->next)
		if (k->session == session)
			return;
	k = calloc(1, sizeof(*k));
	if (k == NULL)
		return; /* its patience ends */
	*k = (struct lookup){ .next = l->first, .l = l, .session = session, .fd = -1, .q = *q };
	k->a.result = OWNER_FAILED;
	l->first = k;
	if (recall(l, k) || !start(k))
		loop_timer_after(l->timer, 0);
}
