/* LINK: core/twoway.c */
/*
 * Two and three hosts that mirror the same files to each other, in one process: the rules of core/twoway.h, and around
 * them all that goes wrong. Edits, deletions, restored files and changed permissions on any host; looks and deliveries
 * in any order and at any distance from each other; batches that are lost before or after they took effect; daemons
 * that die with their uncommitted notes, are down for a while, or find their archive gone.
 *
 * In the end there is one state on all hosts, the one that the rules name, after a bounded number of looks; then
 * nothing happens any more.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/twoway.h"

#define HOSTS 3
#define PATHS 3
#define FLIGHTS 4
#define OPS 60
#define WORLDS 1000
/* Looks that a path may cost, all hosts together, once the last edit was made. */
#define LOOKS_MAX 120u

struct file {
	struct twoway_state s;
	uint64_t id; /* whose edit it is; 0: absent */
	uint64_t n;  /* as a ctime: another one whenever the name is given something */
};

struct mark {
	bool set, went;
	unsigned tries;
};

/* rsync reads the source some time after the look, replaces the target's file some time after that, and what it
 * replaced is looked at still later. Or what it has read waits beside, and both ends are looked at once more. What it
 * reads while the file is replaced is of two edits: see rsyncssh_puts.c; here it is one of them. */
enum stage { LOOKED = 0, READ, REPLACED };

/* One look that has been taken, and what follows from it, on its way to the target. */
struct flight {
	bool used;
	int path;
	struct file source, target; /* as looked at */
	enum twoway_action action;
	struct mark mark;
	enum stage stage;
	bool staged;		/* it waits beside until it is put where it belongs */
	struct file sent, back; /* what rsync read; what it replaced */
};

/* What one host's daemon knows of the way to one peer. */
struct way {
	bool left[PATHS]; /* a run that was cut short has left what it replaced */
	struct file backs[PATHS];
	struct twoway_state archive[PATHS], noted[PATHS]; /* on disk; with what is not committed */
	struct mark marks[PATHS];
	struct flight flights[FLIGHTS];
};

struct host {
	struct file files[PATHS];
	bool up;
	struct way ways[HOSTS];
};

struct world {
	uint64_t rng;
	int hosts;
	int64_t clock;
	uint64_t ids, changes, looks[PATHS];
	struct host host[HOSTS];
	/* What the rules say of each path. */
	uint64_t last_id[PATHS]; /* the last edit; 0: a deletion that all were to follow */
	bool known[PATHS];	 /* whether the rules say anything */
	bool trace;
};

static const struct twoway_state nothing = { .look = LOOK_ABSENT };

static uint64_t random_bits(struct world *w)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return w->rng;
}

static int any(struct world *w, int n)
{
	return (int)(random_bits(w) % (uint64_t)n);
}

static bool one_in(struct world *w, int n)
{
	return any(w, n) == 0;
}

static void say(const struct world *w, const char *what, int a, int b, int path)
{
	if (w->trace)
		printf("# %" PRId64 " %s %d -> %d path %d (%" PRIu64 " %" PRIu64 " %" PRIu64 ")\n", w->clock, what, a,
		       b, path, w->host[0].files[path].id, w->host[1].files[path].id, w->host[2].files[path].id);
}

/* ---- the host ---- */

/* The kernel tells of it, if somebody listens. */
static void event(struct world *w, int h, int path, bool went)
{
	w->host[h].files[path].n = ++w->changes;
	if (!w->host[h].up)
		return;
	for (int p = 0; p < w->hosts; p++) {
		struct mark *m = &w->host[h].ways[p].marks[path];

		if (p == h)
			continue;
		m->set = true;
		m->went = m->went || went;
	}
}

/* The name comes, goes, or is taken by another file. */
static void set_file(struct world *w, int h, int path, struct file f)
{
	w->host[h].files[path] = f;
	event(w, h, path, true);
}

/* All have the same, all have noted it, and nothing is on its way: who deletes now has seen all there is. */
static bool quiet(const struct world *w, int path)
{
	const struct file *f = &w->host[0].files[path];

	for (int h = 0; h < w->hosts; h++)
		for (int p = 0; p < w->hosts; p++) {
			const struct way *way = &w->host[h].ways[p];

			if (p == h)
				continue;
			if (way->marks[path].set || !twoway_same(&way->archive[path], &f->s, TWOWAY_NANOSECONDS) ||
			    !twoway_same(&way->noted[path], &f->s, TWOWAY_NANOSECONDS) ||
			    !twoway_same(&w->host[h].files[path].s, &f->s, TWOWAY_NANOSECONDS))
				return false;
			for (int i = 0; i < FLIGHTS; i++)
				if (way->flights[i].used && way->flights[i].path == path)
					return false;
		}
	return true;
}

static void edit(struct world *w, int h, int path)
{
	struct file f = { .id = ++w->ids };

	f.s = (struct twoway_state){ LOOK_FILE, 1 + any(w, 4), ++w->clock * 1000, 7 };
	w->known[path] = true;
	w->last_id[path] = f.id;
	if (w->host[h].files[path].id != 0 && one_in(w, 2)) { /* in place */
		w->host[h].files[path] = f;
		event(w, h, path, false);
	} else {
		set_file(w, h, path, f);
	}
	say(w, "edit", h, h, path);
}

static void delete (struct world *w, int h, int path)
{
	w->clock++;
	if (w->host[h].files[path].id == 0)
		return;
	w->known[path] = quiet(w, path) && w->host[h].up;
	w->last_id[path] = 0;
	set_file(w, h, path, (struct file){ .s = nothing });
	say(w, "delete", h, h, path);
}

/* Moved away and back, or from a backup: an older state, time and all. Which state wins then nobody promises; that one
 * does, everywhere, all the same. */
static void restore(struct world *w, int h, int path)
{
	int from = any(w, w->hosts);
	struct file f = w->host[from].files[path];

	w->clock++;
	if (f.id == 0) { /* of the same time is the same content */
		f.s = (struct twoway_state){ LOOK_FILE, 2, 100 * (1 + any(w, 5)), 7 };
		f.id = 1000000 + (uint64_t)f.s.mtime_ns;
	}
	w->known[path] = false;
	set_file(w, h, path, (struct file){ .s = nothing });
	set_file(w, h, path, f);
	say(w, "restore", h, h, path);
}

static void chmod_file(struct world *w, int h, int path)
{
	struct file f = w->host[h].files[path];

	w->clock++;
	if (f.id == 0)
		return;
	f.s.attr = (uint64_t)any(w, 3);
	w->known[path] = false;
	w->host[h].files[path] = f;
	event(w, h, path, false);
	say(w, "chmod", h, h, path);
}

/* ---- the daemon ---- */

static void reconcile(struct world *w, int h)
{
	for (int p = 0; p < w->hosts; p++)
		for (int path = 0; p != h && path < PATHS; path++)
			w->host[h].ways[p].marks[path] = (struct mark){ .set = true };
}

/* Who wins is not promised then: an older state may stand there until the next connection. */
static void leave_behind(struct world *w, struct way *way, const struct flight *f)
{
	if (!f->used || f->stage != REPLACED)
		return;
	way->left[f->path] = true;
	way->backs[f->path] = f->back;
	w->known[f->path] = false;
}

static void die(struct world *w, int h)
{
	struct host *host = &w->host[h];

	host->up = false;
	for (int p = 0; p < w->hosts; p++) {
		for (int i = 0; i < FLIGHTS; i++)
			leave_behind(w, &host->ways[p], &host->ways[p].flights[i]);
		memset(host->ways[p].marks, 0, sizeof(host->ways[p].marks));
		memset(host->ways[p].flights, 0, sizeof(host->ways[p].flights));
		memcpy(host->ways[p].noted, host->ways[p].archive, sizeof(host->ways[p].noted));
	}
	say(w, "die", h, h, 0);
}

static void start(struct world *w, int h)
{
	if (w->host[h].up)
		return;
	w->host[h].up = true;
	reconcile(w, h);
	say(w, "start", h, h, 0);
}

/* Found damaged at a start. What was deleted may come back. */
static void lose_archive(struct world *w, int h)
{
	die(w, h);
	for (int p = 0; p < w->hosts; p++)
		for (int path = 0; path < PATHS; path++)
			w->host[h].ways[p].archive[path] = w->host[h].ways[p].noted[path] = nothing;
	for (int path = 0; path < PATHS; path++)
		w->known[path] = w->known[path] && w->last_id[path] != 0;
	start(w, h);
}

static void give_back(struct way *way, const struct flight *f, bool looked)
{
	struct mark *m = &way->marks[f->path];

	m->went = m->went || f->mark.went;
	m->tries = f->mark.tries + (looked ? 1 : 0);
	m->set = true;
}

static void note(struct way *way, int path, const struct twoway_state *s)
{
	way->noted[path] = *s;
}

static bool same(const struct file *a, const struct file *b)
{
	return twoway_same(&a->s, &b->s, TWOWAY_NANOSECONDS);
}

/* What stands there now may be older than what rsync has replaced: then that is put back. */
static bool put_back(struct world *w, int p, int path, const struct file *back)
{
	const struct file *now = &w->host[p].files[path];

	if (back->id == 0 || (now->id != 0 && !twoway_beats(&back->s, &now->s, TWOWAY_NANOSECONDS)))
		return false;
	set_file(w, p, path, *back);
	say(w, "put back", p, p, path);
	return true;
}

/* With a new connection, before anything else. */
static void sweep(struct world *w, int h, int p)
{
	struct way *way = &w->host[h].ways[p];

	for (int path = 0; path < PATHS; path++) {
		if (way->left[path] && (w->host[p].files[path].id == 0 ||
					!twoway_same(&way->backs[path].s, &way->noted[path], TWOWAY_NANOSECONDS)))
			(void)put_back(w, p, path, &way->backs[path]);
		way->left[path] = false;
	}
}

/* Between rsync's rename and the look at what it replaced lies less time than between two looks at one path, unless the
 * sender dies there. */
static bool is_unchecked(const struct world *w, int p, int path)
{
	for (int h = 0; h < w->hosts; h++)
		for (int i = 0; i < FLIGHTS; i++) {
			const struct flight *f = &w->host[h].ways[p].flights[i];

			if (f->used && f->path == path && f->stage == REPLACED)
				return true;
		}
	return false;
}

/* A batch of one. */
static void look(struct world *w, int h, int p, int path)
{
	struct way *way = &w->host[h].ways[p];
	struct flight *f = NULL;

	for (int i = 0; i < FLIGHTS; i++) {
		if (way->flights[i].used && way->flights[i].path == path)
			return; /* a path is in flight once */
		if (!way->flights[i].used)
			f = &way->flights[i];
	}
	if (f == NULL || !way->marks[path].set || (way->marks[path].tries > 0 && is_unchecked(w, h, path)))
		return;
	sweep(w, h, p);
	w->looks[path]++;
	*f = (struct flight){ .used = true,
			      .path = path,
			      .source = w->host[h].files[path],
			      .target = w->host[p].files[path],
			      .mark = way->marks[path],
			      .staged = !one_in(w, 4) };
	way->marks[path] = (struct mark){ .set = false };
	f->action = twoway_decide(&f->source.s, &f->target.s, &way->noted[path], TWOWAY_NANOSECONDS);
	say(w, twoway_action_name(f->action), h, p, path);
}

/* rsync has read, then replaced, then what it replaced is looked at. true: there is a next stage. */
static bool send(struct world *w, int h, int p, struct flight *f)
{
	struct way *way = &w->host[h].ways[p];
	struct file *here = &w->host[h].files[f->path], *there = &w->host[p].files[f->path];

	switch (f->stage) {
	case LOOKED:
		f->sent = *here;
		f->stage = READ;
		return f->sent.id != 0; /* vanished: of that an event tells */
	case READ:
		if (f->staged && here->n != f->source.n) {
			give_back(way, f, false);
			return false;
		}
		if (f->staged && !same(there, &f->target) && !one_in(w, 8)) { /* the look just before the rename */
			give_back(way, f, false);
			return false;
		}
		f->back = same(there, &f->sent) ? f->sent : *there;
		if (!same(there, &f->sent))
			set_file(w, p, f->path, f->sent);
		f->stage = REPLACED;
		return true;
	default:
		break;
	}
	if (f->back.id != 0 && !same(&f->back, &f->target) &&
	    !(same(&f->back, &f->source) && same(there, &f->source)) && put_back(w, p, f->path, &f->back)) {
		give_back(way, f, false);
		return false;
	}
	if (f->staged || here->n == f->source.n)
		note(way, f->path, &f->source.s);
	return false;
}

static bool yield(struct world *w, int h, int p, struct flight *f)
{
	struct way *way = &w->host[h].ways[p];
	struct file *there = &w->host[p].files[f->path];
	unsigned looks = f->mark.tries + 1;
	struct file asked = *there;

	if (twoway_asks(f->action, looks, &f->target.s, TWOWAY_NANOSECONDS, &asked.s.mtime_ns)) {
		if (same(there, &f->target)) {
			*there = asked;
			event(w, p, f->path, false);
		} else {
			give_back(way, f, true);
		}
	} else if (twoway_insists(f->action, looks, &f->source.s, &f->target.s, f->mark.went)) {
		f->action = TWOWAY_SEND;
		return true;
	} else if (looks < TWOWAY_ASK_LOOKS) {
		give_back(way, f, true);
	}
	return false;
}

static void deliver(struct world *w, int h, int p, int i)
{
	struct way *way = &w->host[h].ways[p];
	struct flight f = way->flights[i];

	if (!f.used)
		return;
	f.used = way->flights[i].used = false;
	say(w, "deliver", h, p, f.path);
	if (twoway_waits(f.action, f.mark.tries + 1, &f.source.s, &way->noted[f.path])) {
		give_back(way, &f, true);
		return;
	}
	switch (f.action) {
	case TWOWAY_EQUAL:
		note(way, f.path, &f.source.s);
		break;
	case TWOWAY_SEND:
	case TWOWAY_WIN:
		f.used = send(w, h, p, &f);
		break;
	case TWOWAY_DELETE:
		if (w->host[p].files[f.path].id == 0) {
			note(way, f.path, &nothing);
		} else if (same(&w->host[p].files[f.path], &f.target)) {
			set_file(w, p, f.path, (struct file){ .s = nothing });
			note(way, f.path, &nothing);
		} else {
			give_back(way, &f, false);
		}
		break;
	default:
		f.used = yield(w, h, p, &f);
		break;
	}
	way->flights[i] = f;
}

/* The connection broke: before it took effect, or after, and nobody here knows. */
static void lose(struct world *w, int h, int p, int i)
{
	struct way *way = &w->host[h].ways[p];
	struct flight f = way->flights[i];
	struct twoway_state noted = way->noted[f.path];

	if (!f.used)
		return;
	if (one_in(w, 2))
		deliver(w, h, p, i);
	leave_behind(w, way, &way->flights[i]);
	way->flights[i].used = false;
	note(way, f.path, &noted);
	give_back(way, &f, false);
}

static void commit(struct world *w, int h)
{
	for (int p = 0; p < w->hosts; p++)
		memcpy(w->host[h].ways[p].archive, w->host[h].ways[p].noted, sizeof(w->host[h].ways[p].archive));
}

/* ---- a world ---- */

static void step_of_daemons(struct world *w, bool trouble)
{
	int h = any(w, w->hosts), p = any(w, w->hosts), what = any(w, 10);

	if (h == p || !w->host[h].up)
		return;
	if (what < 4)
		look(w, h, p, any(w, PATHS));
	else if (what < 8 || !trouble)
		deliver(w, h, p, any(w, FLIGHTS));
	else
		lose(w, h, p, any(w, FLIGHTS));
	if (!one_in(w, 8))
		commit(w, h);
}

static void step_of_users(struct world *w, bool strange)
{
	int h = any(w, w->hosts), path = any(w, PATHS), what = any(w, 12);

	if (what < 6)
		edit(w, h, path);
	else if (what < 10)
		delete (w, h, path);
	else if (strange && what == 10)
		restore(w, h, path);
	else if (strange)
		chmod_file(w, h, path);
}

static bool work_left(const struct world *w)
{
	for (int h = 0; h < w->hosts; h++)
		for (int p = 0; p < w->hosts; p++)
			for (int i = 0; i < (PATHS > FLIGHTS ? PATHS : FLIGHTS); i++)
				if ((i < PATHS && w->host[h].ways[p].marks[i].set) ||
				    (i < FLIGHTS && w->host[h].ways[p].flights[i].used))
					return true;
	return false;
}

static void settle(struct world *w, uint64_t seed)
{
	for (uint64_t n = 0; work_left(w); n++) {
		if (n > 200000)
			fail_msg("seed %" PRIu64 ", %d hosts: no end", seed, w->hosts);
		step_of_daemons(w, false);
	}
}

static bool equal(const struct world *w)
{
	for (int path = 0; path < PATHS; path++)
		for (int h = 1; h < w->hosts; h++)
			if (!same(&w->host[0].files[path], &w->host[h].files[path]))
				return false;
	return true;
}

static void check(const struct world *w, uint64_t seed)
{
	for (int path = 0; path < PATHS; path++) {
		for (int h = 1; h < w->hosts; h++)
			if (!twoway_same(&w->host[0].files[path].s, &w->host[h].files[path].s, TWOWAY_NANOSECONDS) ||
			    w->host[0].files[path].id != w->host[h].files[path].id)
				fail_msg("seed %" PRIu64 ": path %d differs: %" PRIu64 " and %" PRIu64 " on host %d",
					 seed, path, w->host[0].files[path].id, w->host[h].files[path].id, h);
		if (w->known[path] && w->host[0].files[path].id != w->last_id[path])
			fail_msg("seed %" PRIu64 ": path %d is %" PRIu64 ", not %" PRIu64, seed, path,
				 w->host[0].files[path].id, w->last_id[path]);
		if (w->looks[path] > LOOKS_MAX)
			fail_msg("seed %" PRIu64 ": %" PRIu64 " looks at path %d", seed, w->looks[path], path);
	}
}

/* Which troubles a world knows. */
enum { LOST_BATCHES = 1, DEATHS = 2, STRANGE = 4, LOST_ARCHIVES = 8 };

static void run(uint64_t seed, int hosts, unsigned troubles, bool trace)
{
	struct world *w = calloc(1, sizeof(*w));
	uint64_t before = 0, after = 0;

	assert_non_null(w);
	w->rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 88172645463325252u;
	w->hosts = hosts;
	w->trace = trace;
	for (int h = 0; h < HOSTS; h++) {
		w->host[h].up = true;
		for (int path = 0; path < PATHS; path++) {
			w->host[h].files[path].s = nothing;
			for (int p = 0; p < HOSTS; p++)
				w->host[h].ways[p].archive[path] = w->host[h].ways[p].noted[path] = nothing;
		}
	}
	for (int i = 0; i < OPS; i++) {
		for (int n = any(w, 1 + any(w, 60)); n > 0; n--)
			step_of_daemons(w, (troubles & LOST_BATCHES) != 0);
		step_of_users(w, (troubles & STRANGE) != 0);
		if ((troubles & DEATHS) != 0 && one_in(w, 8))
			die(w, any(w, w->hosts));
		if ((troubles & DEATHS) != 0 && one_in(w, 4))
			start(w, any(w, w->hosts));
		if ((troubles & LOST_ARCHIVES) != 0 && one_in(w, 20))
			lose_archive(w, any(w, w->hosts));
	}
	for (int h = 0; h < w->hosts; h++)
		start(w, h);
	/* Whatever was lost on the way is found by a comparison. */
	if ((troubles & LOST_ARCHIVES) != 0)
		for (int h = 0; h < w->hosts; h++)
			reconcile(w, h);
	memset(w->looks, 0, sizeof(w->looks));
	settle(w, seed);
	/* A state that was agreed on once, restored on a host that was down, is taken there for what the other one has
	 * deleted; who has deleted it does not look. The next comparison does. */
	if ((troubles & STRANGE) != 0 && !equal(w)) {
		memset(w->looks, 0, sizeof(w->looks));
		for (int h = 0; h < w->hosts; h++)
			reconcile(w, h);
		settle(w, seed);
	}
	check(w, seed);
	/* Silence: a comparison finds nothing to do. */
	for (int h = 0; h < w->hosts; h++) {
		commit(w, h);
		reconcile(w, h);
	}
	for (int path = 0; path < PATHS; path++)
		before += w->host[0].files[path].id;
	memset(w->looks, 0, sizeof(w->looks));
	while (work_left(w))
		step_of_daemons(w, false);
	for (int path = 0; path < PATHS; path++) {
		after += w->host[0].files[path].id;
		if (w->looks[path] > (uint64_t)(hosts * (hosts - 1)))
			fail_msg("seed %" PRIu64 ": no silence: %" PRIu64 " looks", seed, w->looks[path]);
	}
	assert_true(before == after);
	check(w, seed);
	free(w);
}

static uint64_t from_env(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static void worlds(int hosts, unsigned troubles)
{
	uint64_t seed = from_env("SEED", (uint64_t)time(NULL)), rounds = from_env("ROUNDS", WORLDS);

	print_message("# SEED=%" PRIu64 "\n", seed);
	for (uint64_t i = 0; i < rounds; i++)
		run(seed + i, hosts, troubles, getenv("TRACE") != NULL);
}

#define WORLD(name, hosts, troubles)                                                                                   \
	static void name(void **state)                                                                                 \
	{                                                                                                              \
		(void)state;                                                                                           \
		worlds(hosts, troubles);                                                                               \
	}

WORLD(two_hosts, 2, 0)
WORLD(three_hosts, 3, 0)
WORLD(batches_are_lost, 3, LOST_BATCHES)
WORLD(daemons_die, 3, LOST_BATCHES | DEATHS)
WORLD(two_hosts_and_strange_users, 2, LOST_BATCHES | DEATHS | STRANGE)
WORLD(strange_users, 3, LOST_BATCHES | DEATHS | STRANGE)
WORLD(archives_are_lost, 3, LOST_BATCHES | DEATHS | STRANGE | LOST_ARCHIVES)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_hosts),
		cmocka_unit_test(three_hosts),
		cmocka_unit_test(batches_are_lost),
		cmocka_unit_test(daemons_die),
		cmocka_unit_test(two_hosts_and_strange_users),
		cmocka_unit_test(strange_users),
		cmocka_unit_test(archives_are_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
