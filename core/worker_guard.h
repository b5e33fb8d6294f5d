/*
 * worker_guard.h - the guards of DESIGN.md's promise 5 as a worker applies them to each batch.
 *
 * In this order: wguard_begin (who source and target are, markers, what is mounted below the source), the plan, which
 * gets the list of what is to be kept, wguard_planned (an empty source; whether anything was mounted or unmounted
 * there meanwhile), the work, wguard_end. A refusal is ERR_UNSAFE; its text says what happened and what to do. The
 * record (guard.h) comes from the daemon and goes back to it whenever it changed.
 */
#ifndef FANSYNCD_CORE_WORKER_GUARD_H
#define FANSYNCD_CORE_WORKER_GUARD_H

#include "core/guard.h"
#include "core/plan.h"

#define WGUARD_PINS_MAX 128u

struct worker_guard {
	const struct sync_options *opt; /* borrowed, as all that is given to wguard_init */
	unsigned caps;			/* of the transport */
	int source_fd;
	uint64_t source_dev, source_ino;
	struct guard_state state;
	bool learned;	  /* the record changed: it is for the daemon */
	int mount_fd;	  /* of the mount table, which says when it changes; -1: not opened */
	bool table_stale; /* it changed since it was taken in, or was not taken in yet */
	uint64_t mark;	  /* of what in it was taken in: the mounts of the source, below it and above */
	/* Of the batch under way. */
	bool allow; /* --allow-delete */
	bool empty; /* the source is, so that nothing may be deleted */
	struct keep_list keep;
	int pins[WGUARD_PINS_MAX]; /* the mounts below, held so that they can't go while we look */
	size_t n_pins;
};

void wguard_init(struct worker_guard *g, const struct sync_options *opt, unsigned caps, int source_fd,
		 uint64_t source_dev, uint64_t source_ino);
void wguard_done(struct worker_guard *g);
/* The record, from the daemon. */
int wguard_take(struct worker_guard *g, const char *text, size_t len, struct err *err);

int wguard_begin(struct worker_guard *g, bool allow, struct err *err);
int wguard_planned(struct worker_guard *g, struct plan *p, struct err *err);
/* After the work: notes the root of a target that the work made. */
void wguard_end(struct worker_guard *g);
/* The batch goes back: let go of what is held for it. */
void wguard_release(struct worker_guard *g);
/* Whether a transport's refusal of a comparison is that of an empty source; *out is then what to say of it. */
bool wguard_refused(const struct worker_guard *g, const struct err *why, struct err *out);

#endif
