/*
 * marks.h - the marks of a changeset as a tree of names, with the queues they wait in. Private to core/changeset.c;
 * pure.
 *
 * A node exists for each marked path (pending, in flight or both) and for each of its ancestors. One hash table over
 * (parent, name) finds a child, so a look-up costs one step a component, whatever the size of a directory. A pending
 * node waits in exactly one queue.
 */
#ifndef FANSYNCD_CORE_MARKS_H
#define FANSYNCD_CORE_MARKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Generations in use at a time, counted, so that the barrier's question costs a short loop and no memory. When there
 * are more, a generation shares the slot of an older one: the barrier may then wait longer than it must, never less. */
#define GEN_SLOTS 64
#define GEN_NONE UINT8_MAX /* does not count for the barrier */

struct gens {
	uint64_t gen[GEN_SLOTS];
	size_t count[GEN_SLOTS];
	uint8_t last;
};

uint8_t gens_get(struct gens *g, uint64_t gen);
/* One more or one less of a slot; GEN_NONE is fine. */
uint8_t gens_ref(struct gens *g, uint8_t slot);
void gens_put(struct gens *g, uint8_t slot);
/* The slot of the older generation; GEN_NONE is the youngest. */
uint8_t gens_older(const struct gens *g, uint8_t a, uint8_t b);
/* Whether nothing of `gen` or older is counted. */
bool gens_served(const struct gens *g, uint64_t gen);
/* The oldest one that is not served; `latest` when all are. */
uint64_t gens_oldest(const struct gens *g, uint64_t latest);

enum mark_queue {
	QUEUE_NONE = 0,
	QUEUE_FRESH,  /* due; in the order of first_ns */
	QUEUE_AGAIN,  /* due, and older than the end of FRESH: came back, was copied, or its hold ended */
	QUEUE_LARGE,  /* due in the large lane, in the order in which they came */
	QUEUE_BARRED, /* due when what the large lane has in flight is settled */
	QUEUE_PARKED, /* in flight as well: due when that is settled, so that no path is in flight twice */
	QUEUE_HOLD,   /* a heap: not due before not_before_ns */
	QUEUE_RETRY,  /* a heap: the same, because a transport gave it back */
};

struct mark_node {
	struct mark_node *parent, *child, *next, *prev, *hash_next;
	struct mark_node *q_next, *q_prev, *q_child; /* list or heap */
	int64_t first_ns, not_before_ns;
	uint32_t hash;
	uint32_t below; /* pending marks strictly below */
	uint16_t pend, infl;
	uint16_t tries;
	uint8_t pend_gen, infl_gen; /* slots */
	uint8_t queue;		    /* enum mark_queue */
	uint8_t wait;		    /* the queue to go to when no longer parked */
	uint8_t name_len;
	char name[];
};

struct mark_list {
	struct mark_node *head, *tail;
};

struct marks {
	struct mark_node *root;
	struct mark_node **buckets;
	size_t n_buckets, n_nodes;
	size_t pending, in_flight;
	struct mark_list fresh, again, large, barred, parked;
	int64_t again_min_ns; /* not above the oldest first_ns in `again` */
	struct mark_node *holds, *retries;
	struct gens gens;
};

int marks_init(struct marks *m);
void marks_done(struct marks *m);

/* The tree. marks_make makes what is missing, NULL when out of memory (nothing is left behind). */
struct mark_node *marks_find(const struct marks *m, const char *path, size_t len);
struct mark_node *marks_make(struct marks *m, const char *path, size_t len);
struct mark_node *marks_child(const struct marks *m, const struct mark_node *parent, const char *name, size_t len);
struct mark_node *marks_make_child(struct marks *m, struct mark_node *parent, const char *name, size_t len);
/* Free the node if it carries nothing, and then its ancestors likewise; or only the node. */
void marks_release(struct marks *m, struct mark_node *n);
void marks_release_one(struct marks *m, struct mark_node *n);
/* The next node of a depth-first walk of `top` and below; NULL at the end. */
struct mark_node *marks_next(const struct mark_node *n, const struct mark_node *top);
size_t marks_path_len(const struct mark_node *n);
/* Writes marks_path_len bytes. */
void marks_path(const struct mark_node *n, char *out);

/* Pending. `slot` is borrowed. The first call for a node leaves it in no queue: call marks_queue. */
void marks_pend(struct marks *m, struct mark_node *n, unsigned flags, uint8_t slot, int64_t first_ns);
void marks_unpend(struct marks *m, struct mark_node *n);
/* Make the pending mark's generation at least as old as that of `slot`. */
void marks_lower_gen(struct marks *m, struct mark_node *n, uint8_t slot);
/* Drop all pending marks strictly below `top`, which is pending and takes over their generation and age. */
void marks_prune(struct marks *m, struct mark_node *top);

/* Move a pending node to a queue: FRESH (or AGAIN, as its age demands; LARGE, if it is of that lane), HOLD or RETRY;
 * PARKED instead while it is in flight. */
void marks_queue(struct marks *m, struct mark_node *n, enum mark_queue q, int64_t not_before_ns);
/* Move nodes whose time has come from a heap to the due ones. */
void marks_release_due(struct marks *m, int64_t now_ns);
/* Move a due node to BARRED; end that for all. */
void marks_bar(struct marks *m, struct mark_node *n);
void marks_unbar(struct marks *m);
/* Whether a pending node is due, be it barred or parked. */
bool marks_due(const struct mark_node *n);
/* End all waits of one kind: QUEUE_HOLD or QUEUE_RETRY. */
void marks_release_heap(struct marks *m, enum mark_queue q);
/* Visit pending nodes, the due ones first and in their order, until `fn` says false. It must not change anything. */
void marks_visit(const struct marks *m, bool (*fn)(void *ctx, const struct mark_node *n), void *ctx);
/* The due node that is next; NULL if there is none. */
struct mark_node *marks_first_due(const struct marks *m);

/* Pending -> in flight, and out of flight (the flags are cleared, the generation's slot is let go). */
void marks_fly(struct marks *m, struct mark_node *n);
void marks_land(struct marks *m, struct mark_node *n);

/* For tests: whether all counts, links and queues agree. */
bool marks_check(const struct marks *m);

#endif
