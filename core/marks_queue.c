/*
 * marks_queue.c - where pending marks wait: lists of those that are due, and heaps of those that are held or back off.
 *
 * The heaps are pairing heaps threaded through the nodes, because a mark that was given back must have its place
 * without asking for memory.
 */
#include "core/batch.h"
#include "core/marks.h"

/* ---- lists ---- */

static void list_add(struct mark_list *l, struct mark_node *n)
{
	n->q_next = NULL;
	n->q_prev = l->tail;
	if (l->tail != NULL)
		l->tail->q_next = n;
	else
		l->head = n;
	l->tail = n;
}

static void list_del(struct mark_list *l, struct mark_node *n)
{
	if (n->q_prev != NULL)
		n->q_prev->q_next = n->q_next;
	else
		l->head = n->q_next;
	if (n->q_next != NULL)
		n->q_next->q_prev = n->q_prev;
	else
		l->tail = n->q_prev;
}

/* ---- heaps: q_child is the first child, q_next a sibling, q_prev the sibling before or the parent ---- */

static struct mark_node *heap_meld(struct mark_node *a, struct mark_node *b)
{
	if (a == NULL)
		return b;
	if (b == NULL)
		return a;
	if (b->not_before_ns < a->not_before_ns) {
		struct mark_node *t = a;

		a = b;
		b = t;
	}
	b->q_prev = a;
	b->q_next = a->q_child;
	if (b->q_next != NULL)
		b->q_next->q_prev = b;
	a->q_child = b;
	return a;
}

/* Two passes over a list of siblings: meld in pairs, then the pairs from the last to the first. */
static struct mark_node *heap_gather(struct mark_node *n)
{
	struct mark_node *pairs = NULL, *heap = NULL;

	while (n != NULL) {
		struct mark_node *a = n, *b = n->q_next, *pair;

		n = b != NULL ? b->q_next : NULL;
		a->q_next = a->q_prev = NULL;
		if (b != NULL)
			b->q_next = b->q_prev = NULL;
		pair = heap_meld(a, b);
		pair->q_next = pairs;
		pairs = pair;
	}
	while (pairs != NULL) {
		struct mark_node *next = pairs->q_next;

		pairs->q_next = pairs->q_prev = NULL;
		heap = heap_meld(heap, pairs);
		pairs = next;
	}
	return heap;
}

static void heap_add(struct mark_node **heap, struct mark_node *n)
{
	n->q_next = n->q_prev = n->q_child = NULL;
	*heap = heap_meld(*heap, n);
}

static void heap_del(struct mark_node **heap, struct mark_node *n)
{
	struct mark_node *rest = heap_gather(n->q_child);

	n->q_child = NULL;
	if (*heap == n) {
		*heap = rest;
		return;
	}
	if (n->q_prev->q_child == n)
		n->q_prev->q_child = n->q_next;
	else
		n->q_prev->q_next = n->q_next;
	if (n->q_next != NULL)
		n->q_next->q_prev = n->q_prev;
	*heap = heap_meld(*heap, rest);
}

/* ---- queues ---- */

static void dequeue(struct marks *m, struct mark_node *n)
{
	switch ((enum mark_queue)n->queue) {
	case QUEUE_FRESH:
		list_del(&m->fresh, n);
		break;
	case QUEUE_AGAIN:
		list_del(&m->again, n);
		if (m->again.head == NULL)
			m->again_min_ns = INT64_MAX;
		break;
	case QUEUE_LARGE:
		list_del(&m->large, n);
		break;
	case QUEUE_BARRED:
		list_del(&m->barred, n);
		break;
	case QUEUE_PARKED:
		list_del(&m->parked, n);
		break;
	case QUEUE_HOLD:
		heap_del(&m->holds, n);
		break;
	case QUEUE_RETRY:
		heap_del(&m->retries, n);
		break;
	case QUEUE_NONE:
		break;
	}
	n->queue = QUEUE_NONE;
	n->q_next = n->q_prev = n->q_child = NULL;
}

static void queue_due(struct marks *m, struct mark_node *n)
{
	n->not_before_ns = 0;
	if ((n->pend & MARK_LARGE) != 0) {
		n->queue = QUEUE_LARGE;
		list_add(&m->large, n);
		return;
	}
	if (m->fresh.tail == NULL || m->fresh.tail->first_ns <= n->first_ns) {
		n->queue = QUEUE_FRESH;
		list_add(&m->fresh, n);
		return;
	}
	n->queue = QUEUE_AGAIN;
	list_add(&m->again, n);
	if (n->first_ns < m->again_min_ns)
		m->again_min_ns = n->first_ns;
}

void marks_queue(struct marks *m, struct mark_node *n, enum mark_queue q, int64_t not_before_ns)
{
	dequeue(m, n);
	n->wait = (uint8_t)q;
	n->not_before_ns = not_before_ns;
	if (n->infl != 0) {
		n->queue = QUEUE_PARKED;
		list_add(&m->parked, n);
	} else if (q == QUEUE_HOLD || q == QUEUE_RETRY) {
		n->queue = (uint8_t)q;
		heap_add(q == QUEUE_HOLD ? &m->holds : &m->retries, n);
	} else {
		queue_due(m, n);
	}
}

void marks_bar(struct marks *m, struct mark_node *n)
{
	dequeue(m, n);
	n->queue = QUEUE_BARRED;
	list_add(&m->barred, n);
}

void marks_unbar(struct marks *m)
{
	while (m->barred.head != NULL)
		marks_queue(m, m->barred.head, QUEUE_FRESH, 0);
}

bool marks_due(const struct mark_node *n)
{
	return n->queue == QUEUE_FRESH || n->queue == QUEUE_AGAIN || n->queue == QUEUE_BARRED ||
	       (n->queue == QUEUE_PARKED && n->wait == QUEUE_FRESH);
}

static void release_heap(struct marks *m, struct mark_node **heap, int64_t now_ns)
{
	while (*heap != NULL && (*heap)->not_before_ns <= now_ns)
		marks_queue(m, *heap, QUEUE_FRESH, 0);
}

void marks_release_due(struct marks *m, int64_t now_ns)
{
	release_heap(m, &m->holds, now_ns);
	release_heap(m, &m->retries, now_ns);
}

void marks_release_heap(struct marks *m, enum mark_queue q)
{
	release_heap(m, q == QUEUE_HOLD ? &m->holds : &m->retries, INT64_MAX);
	for (struct mark_node *n = m->parked.head; n != NULL; n = n->q_next)
		if (n->wait == (uint8_t)q)
			n->wait = QUEUE_FRESH;
}

/* The next node of a heap, by the links alone. */
static const struct mark_node *heap_next(const struct mark_node *x)
{
	if (x->q_child != NULL)
		return x->q_child;
	while (x != NULL && x->q_next == NULL) {
		while (x->q_prev != NULL && x->q_prev->q_child != x)
			x = x->q_prev;
		x = x->q_prev;
	}
	return x == NULL ? NULL : x->q_next;
}

void marks_visit(const struct marks *m, bool (*fn)(void *ctx, const struct mark_node *n), void *ctx)
{
	const struct mark_node *const lists[] = { m->again.head, m->fresh.head, m->barred.head, m->large.head,
						  m->parked.head };
	const struct mark_node *const heaps[] = { m->holds, m->retries };

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		for (const struct mark_node *n = lists[i]; n != NULL; n = n->q_next)
			if (!fn(ctx, n))
				return;
	for (size_t i = 0; i < sizeof(heaps) / sizeof(heaps[0]); i++)
		for (const struct mark_node *n = heaps[i]; n != NULL; n = heap_next(n))
			if (!fn(ctx, n))
				return;
}

struct mark_node *marks_first_due(const struct marks *m)
{
	return m->again.head != NULL ? m->again.head : m->fresh.head;
}

void marks_unpend(struct marks *m, struct mark_node *n)
{
	dequeue(m, n);
	n->pend = 0;
	m->pending--;
	for (struct mark_node *p = n->parent; p != NULL; p = p->parent)
		p->below--;
	gens_put(&m->gens, n->pend_gen);
	n->pend_gen = GEN_NONE;
	if (n->infl == 0)
		n->tries = 0;
}

/* ---- for tests ---- */

static bool check_list(const struct mark_list *l, enum mark_queue q, size_t *n)
{
	const struct mark_node *prev = NULL;

	for (const struct mark_node *x = l->head; x != NULL; x = x->q_next) {
		if (x->queue != (uint8_t)q || x->q_prev != prev ||
		    (q == QUEUE_FRESH && prev && prev->first_ns > x->first_ns))
			return false;
		prev = x;
		(*n)++;
	}
	return l->tail == prev;
}

static bool check_heap(const struct mark_node *heap, enum mark_queue q, size_t *n)
{
	for (const struct mark_node *x = heap; x != NULL; x = heap_next(x)) {
		(*n)++;
		if (x->queue != (uint8_t)q || (x->q_child != NULL && x->q_child->not_before_ns < x->not_before_ns))
			return false;
	}
	return true;
}

static bool check_node(const struct marks *m, const struct mark_node *n, size_t counts[GEN_SLOTS])
{
	size_t below = 0;

	for (const struct mark_node *c = n->child; c != NULL; c = c->next) {
		below += c->below + (c->pend != 0 ? 1u : 0u);
		if (c->parent != n || (c->next != NULL && c->next->prev != c))
			return false;
	}
	if (n->pend_gen != GEN_NONE)
		counts[n->pend_gen]++;
	if (n->infl_gen != GEN_NONE)
		counts[n->infl_gen]++;
	if ((n->pend != 0) != (n->queue != QUEUE_NONE) || (n->queue == QUEUE_PARKED) != (n->pend != 0 && n->infl != 0))
		return false;
	if (n->parent != NULL && n->child == NULL && n->pend == 0 && n->infl == 0)
		return false;
	return below == n->below && (n->parent == NULL || marks_child(m, n->parent, n->name, n->name_len) == n);
}

bool marks_check(const struct marks *m)
{
	size_t pending = 0, in_flight = 0, nodes = 0, queued = 0, counts[GEN_SLOTS] = { 0 };

	for (const struct mark_node *n = m->root; n != NULL; n = marks_next(n, m->root)) {
		pending += n->pend != 0;
		in_flight += n->infl != 0;
		nodes++;
		if (!check_node(m, n, counts))
			return false;
	}
	/* renames count generations as well */
	for (size_t i = 0; i < GEN_SLOTS; i++)
		if (counts[i] > m->gens.count[i])
			return false;
	return check_list(&m->fresh, QUEUE_FRESH, &queued) && check_list(&m->again, QUEUE_AGAIN, &queued) &&
	       check_list(&m->large, QUEUE_LARGE, &queued) && check_list(&m->barred, QUEUE_BARRED, &queued) &&
	       check_list(&m->parked, QUEUE_PARKED, &queued) && check_heap(m->holds, QUEUE_HOLD, &queued) &&
	       check_heap(m->retries, QUEUE_RETRY, &queued) && pending == m->pending && in_flight == m->in_flight &&
	       nodes == m->n_nodes + 1 && queued == pending;
}
