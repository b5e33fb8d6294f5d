/*
 * Barriers: --wait and --sync-now. A barrier has the kernel's events read, notes the generation, urges the syncs, and
 * answers when each of them has a verdict for every mark of that generation or before.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/daemon_private.h"
#include "core/json.h"
#include "core/log.h"

#define PROGRESS_INTERVAL_NS (200 * NS_PER_MS)
#define ANSWER_MAX (64u * 1024 * 1024)

enum { EXIT_EQUAL = 0, EXIT_FAILURES = 1, EXIT_TIMEOUT = 2, EXIT_REFUSED = 1 };

/* One sync of a barrier. */
struct awaited {
	char *name; /* a reload may take the sync away */
	bool over;
	bool failed;
	uint32_t down_tries; /* when the barrier began */
	int64_t took_ns;
	struct sync_counters before;
};

struct barrier {
	struct barrier *next;
	struct daemon *daemon;
	struct sink sink;
	struct barrier_request rq; /* `only` is not kept */
	uint64_t ticket;	   /* of the kernel's events up to it, which are still being read; 0: it has begun */
	uint64_t generation;
	int64_t began_ns;
	struct awaited *awaited;
	size_t n;
	struct loop_timer *deadline, *progress;
	struct buf report; /* sync_now: a line, or a JSON object, for each sync that is over */
	struct buf complaints;
};

static void free_barrier(struct barrier *b)
{
	if (b->deadline != NULL)
		loop_timer_remove(b->deadline);
	if (b->progress != NULL)
		loop_timer_remove(b->progress);
	for (size_t i = 0; i < b->n; i++)
		free(b->awaited[i].name);
	free(b->awaited);
	buf_done(&b->report);
	buf_done(&b->complaints);
	free(b);
}

void barrier_cancel(struct barrier *b)
{
	struct barrier **link = &b->daemon->barriers;

	while (*link != NULL && *link != b)
		link = &(*link)->next;
	if (*link == b)
		*link = b->next;
	free_barrier(b);
}

/* ---- the report ---- */

static void text_failure(struct barrier *b, const char *name, const struct failure *f)
{
	char path[1024], why[1024];
	const char *reason = f->why == NULL ? "failed" : f->why;

	log_escape(path, sizeof(path), f->len == 0 ? "." : f->path, f->len == 0 ? 1 : f->len);
	log_escape(why, sizeof(why), reason, strlen(reason));
	buf_printf(&b->complaints, "%s: %s: %s%s\n", name, path, why,
		   f->given_up ? " (given up)" : " (will be tried again)");
}

static void report_json(struct barrier *b, const struct awaited *a, const struct sync_snapshot *snap, const char *why)
{
	struct buf *out = &b->report;
	const struct sync_counters *now = snap == NULL ? &a->before : snap->counters;

	json_open(out, '{');
	json_put_string(out, "name", a->name);
	json_put_bool(out, "equal", !a->failed);
	json_put_double(out, "seconds", (double)a->took_ns / (double)NS_PER_S);
	json_put_u64(out, "files", now->files_sent - a->before.files_sent);
	json_put_u64(out, "bytes", now->bytes - a->before.bytes);
	json_put_u64(out, "deletions", now->deletions - a->before.deletions);
	json_put_string(out, "error", why);
	status_json_failures(out, snap == NULL ? NULL : snap->failures, SIZE_MAX);
	json_close(out, '}');
}

static void report_text(struct barrier *b, const struct awaited *a, const struct sync_snapshot *snap, const char *why)
{
	char safe[1024];

	if (why != NULL) { /* it may quote what a server said */
		log_escape(safe, sizeof(safe), why, strlen(why));
		buf_printf(&b->complaints, "%s: %s\n", a->name, safe);
	}
	for (size_t i = 0; snap != NULL && i < snap->failures->n; i++)
		text_failure(b, a->name, &snap->failures->v[i]);
	if (snap != NULL && snap->failures->unnamed > 0)
		buf_printf(&b->complaints, "%s: and %" PRIu64 " more failures\n", a->name, snap->failures->unnamed);
	if (!b->rq.sync_now || b->rq.quiet || a->failed || snap == NULL)
		return;
	buf_printf(&b->report, "%s: equal: %" PRIu64 " files sent (%" PRIu64 " bytes), %" PRIu64 " deleted, %.1f s\n",
		   a->name, snap->counters->files_sent - a->before.files_sent, snap->counters->bytes - a->before.bytes,
		   snap->counters->deletions - a->before.deletions, (double)a->took_ns / (double)NS_PER_S);
}

static void over(struct barrier *b, struct awaited *a, const struct sync_snapshot *snap, const char *why)
{
	a->over = true;
	a->took_ns = clock_mono_ns() - b->began_ns;
	a->failed = why != NULL || (snap != NULL && (snap->failures->n > 0 || snap->failures->unnamed > 0));
	if (b->rq.json && b->rq.sync_now)
		report_json(b, a, snap, why);
	else
		report_text(b, a, snap, why);
}

/* Answer and forget. */
static void finish(struct barrier *b, int code)
{
	struct sink sink = b->sink;

	if (b->rq.json && b->rq.sync_now) {
		struct buf all;

		buf_init(&all, ANSWER_MAX);
		json_open(&all, '{');
		json_put_bool(&all, "equal", code == EXIT_EQUAL);
		json_key(&all, "syncs");
		buf_add_byte(&all, '[');
		buf_add(&all, b->report.data, b->report.len);
		buf_add_str(&all, "]}\n");
		sink.out(sink.ctx, all.data, all.len);
		buf_done(&all);
	} else if (b->report.len > 0) {
		sink.out(sink.ctx, b->report.data, b->report.len);
	}
	if (b->complaints.len > 0)
		sink.err(sink.ctx, b->complaints.data, b->complaints.len);
	barrier_cancel(b);
	sink.exit(sink.ctx, code);
}

/* ---- progress ---- */

static void add_progress(struct barrier *b, struct buf *out, const struct awaited *a)
{
	const struct member *m = daemon_member(b->daemon, a->name);
	struct sync_snapshot snap;
	const struct sync_counters *c;

	if (m == NULL)
		return;
	sync_snapshot(m->sync, &snap);
	c = snap.counters;
	/* Name, state, phase, files, of how many, bytes, of how many: core/progress.c reads it. */
	buf_printf(out, "%s\t%s\t%s\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\n", a->name,
		   a->over ? (a->failed ? "failed" : "equal") : sync_state_name(snap.state),
		   snap.progress == NULL || snap.progress->phase[0] == '\0' ? "-" : snap.progress->phase,
		   c->files_sent - a->before.files_sent, snap.progress == NULL ? 0 : snap.progress->files_total,
		   c->bytes - a->before.bytes, snap.progress == NULL ? 0 : snap.progress->bytes_total);
}

static void on_progress(void *ctx)
{
	struct barrier *b = ctx;
	struct buf out;

	buf_init(&out, CONTROL_ANSWER_MAX);
	for (size_t i = 0; i < b->n; i++)
		add_progress(b, &out, &b->awaited[i]);
	b->sink.progress(b->sink.ctx, out.data, out.len);
	buf_done(&out);
	loop_timer_after(b->progress, PROGRESS_INTERVAL_NS);
}

/* ---- waiting ---- */

static void check(struct barrier *b, struct awaited *a)
{
	const struct member *m = daemon_member(b->daemon, a->name);
	struct sync_snapshot snap;
	char why[700];

	if (m == NULL) {
		over(b, a, NULL, "it was taken out of the configuration meanwhile");
		return;
	}
	sync_snapshot(m->sync, &snap);
	if (snap.counters->batches < a->before.batches)
		a->before = (struct sync_counters){ 0 }; /* a reload made it anew: it counts from zero */
	if (m->running && sync_served(m->sync, b->generation)) {
		over(b, a, &snap, NULL);
		return;
	}
	if (snap.down_tries < a->down_tries)
		a->down_tries = snap.down_tries; /* it came back meanwhile: the next failure is news */
	/* A comparison that was asked for does not wait for a target to come back; the barrier does. */
	if (!b->rq.sync_now)
		return;
	if ((snap.state == SYNC_DOWN || snap.state == SYNC_STOPPED || snap.state == SYNC_VETOED) &&
	    !sync_busy(m->sync) && snap.down_tries > a->down_tries) {
		(void)snprintf(why, sizeof(why), "%s", snap.reason == NULL ? "the target is down" : snap.reason);
		over(b, a, &snap, why);
	} else if (snap.state == SYNC_NO_SOURCE && snap.reason != NULL) {
		(void)snprintf(why, sizeof(why), "%s", snap.reason);
		over(b, a, &snap, why);
	}
}

static void urge(struct barrier *b)
{
	struct daemon *d = b->daemon;

	for (size_t i = 0; i < b->n; i++) {
		struct member *m = daemon_member(d, b->awaited[i].name);

		if (m == NULL)
			continue;
		if (b->rq.sync_now) {
			/* A source that is not trusted is looked at once more, before the answer. */
			if (!m->running) {
				m->accept = m->accept || b->rq.allow_delete;
				m->source->retry_ns = 0;
			}
			/* `once`: the comparison at the start is the one that was asked for. */
			if (!d->options->once)
				sync_reconcile(m->sync, "asked for", false, b->rq.allow_delete, b->generation);
			sync_retry_now(m->sync);
		}
		sync_urge(m->sync, b->generation);
	}
	d->poll_all = true;
}

/* All that happened before it was asked for has been recorded: what is recorded from now on is not of it. */
static bool begin(struct barrier *b)
{
	struct daemon *d = b->daemon;

	if (b->ticket != 0 && !watcher_drained(d->watchers, b->ticket))
		return false;
	b->ticket = 0;
	b->generation = d->generation++;
	urge(b);
	return true;
}

static bool poll_one(struct barrier *b)
{
	bool all = true, failed = false;

	if (b->ticket != 0 && !begin(b))
		return false;
	for (size_t i = 0; i < b->n; i++) {
		if (!b->awaited[i].over)
			check(b, &b->awaited[i]);
		all = all && b->awaited[i].over;
		failed = failed || b->awaited[i].failed;
	}
	if (!all)
		return false;
	if (b->progress != NULL)
		on_progress(b);
	finish(b, failed ? EXIT_FAILURES : EXIT_EQUAL);
	return true;
}

void barriers_poll(struct daemon *d)
{
	struct barrier *b, *next;

	for (b = d->barriers; b != NULL; b = next) {
		next = b->next;
		(void)poll_one(b);
	}
}

void barriers_end(struct daemon *d)
{
	while (d->barriers != NULL) {
		buf_add_str(&d->barriers->complaints, "the daemon stops\n");
		finish(d->barriers, EXIT_FAILURES);
	}
}

static void on_deadline(void *ctx)
{
	struct barrier *b = ctx;

	if (b->ticket != 0)
		buf_add_str(&b->complaints, "the kernel's events are still being read\n");
	for (size_t i = 0; i < b->n; i++)
		if (!b->awaited[i].over) {
			const struct member *m = daemon_member(b->daemon, b->awaited[i].name);
			struct sync_snapshot snap;
			char why[1024] = "";

			if (m == NULL)
				continue;
			sync_snapshot(m->sync, &snap);
			if (snap.reason != NULL)
				log_escape(why, sizeof(why), snap.reason, strlen(snap.reason));
			buf_printf(&b->complaints, "%s: not equal in time: %s, %zu pending, %zu in flight%s%s\n",
				   b->awaited[i].name, sync_state_name(snap.state), snap.pending, snap.in_flight,
				   snap.reason == NULL ? "" : ": ", why);
		}
	finish(b, EXIT_TIMEOUT);
}

/* ---- a new one ---- */

static bool is_chosen(const struct barrier_request *rq, const char *name)
{
	for (size_t i = 0; i < rq->n_only; i++)
		if (rq->only[i] != NULL && strcmp(rq->only[i], name) == 0)
			return true;
	return rq->n_only == 0;
}

static const char *unknown_name(const struct daemon *d, const struct barrier_request *rq)
{
	for (size_t i = 0; i < rq->n_only; i++) {
		bool known = false;

		for (size_t m = 0; m < d->n_members; m++)
			known = known || strcmp(sync_options_of(d->members[m]->sync)->name, rq->only[i]) == 0;
		if (!known)
			return rq->only[i];
	}
	return NULL;
}

static int choose(struct barrier *b, const struct barrier_request *rq)
{
	struct daemon *d = b->daemon;

	b->awaited = calloc(d->n_members + 1, sizeof(*b->awaited));
	for (size_t i = 0; b->awaited != NULL && i < d->n_members; i++) {
		struct awaited *a = &b->awaited[b->n];
		struct sync_snapshot snap;

		sync_snapshot(d->members[i]->sync, &snap);
		if (!is_chosen(rq, snap.opt->name))
			continue;
		a->name = strdup(snap.opt->name);
		if (a->name == NULL)
			return -1;
		a->before = *snap.counters;
		/* What is under way was not asked for: should it fail, the next attempt counts. */
		a->down_tries = snap.down_tries + (sync_busy(d->members[i]->sync) ? 1 : 0);
		b->n++;
	}
	return b->awaited == NULL ? -1 : 0;
}

static int arm(struct barrier *b)
{
	struct loop *loop = b->daemon->loop;

	if (b->rq.timeout_ns >= 0) {
		b->deadline = loop_timer_add(loop, on_deadline, b, NULL);
		if (b->deadline == NULL)
			return -1;
		loop_timer_after(b->deadline, b->rq.timeout_ns);
	}
	if (b->rq.sync_now && !b->rq.quiet && b->sink.progress != NULL) {
		b->progress = loop_timer_add(loop, on_progress, b, NULL);
		if (b->progress == NULL)
			return -1;
		loop_timer_after(b->progress, PROGRESS_INTERVAL_NS);
	}
	return 0;
}

static struct barrier *refuse(const struct sink *sink, const char *what, const char *name)
{
	char text[ERR_TEXT_MAX + 128];
	int n = snprintf(text, sizeof(text), "%s%s%s\n", what, name[0] == '\0' ? "" : ": ", name);

	sink->err(sink->ctx, text, n < 0 ? 0 : (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
	sink->exit(sink->ctx, EXIT_REFUSED);
	return NULL;
}

struct barrier *barrier_new(struct daemon *d, const struct barrier_request *rq, const struct sink *sink)
{
	struct barrier *b;
	struct err err = ERR_INIT;
	uint64_t ticket = 0;
	const char *unknown = unknown_name(d, rq);

	if (unknown != NULL)
		return refuse(sink, "there is no sync of that name", unknown);
	if (d->watchers != NULL && watcher_drain_begin(d->watchers, &ticket, &err) < 0)
		return refuse(sink, "cannot read the kernel's events", err.text);
	b = calloc(1, sizeof(*b));
	if (b == NULL)
		return refuse(sink, "out of memory", "");
	b->daemon = d;
	b->sink = *sink;
	b->rq = *rq;
	b->rq.only = NULL;
	b->began_ns = clock_mono_ns();
	b->ticket = ticket;
	buf_init(&b->report, ANSWER_MAX);
	buf_init(&b->complaints, ANSWER_MAX);
	if (choose(b, rq) < 0 || arm(b) < 0) {
		free_barrier(b);
		return refuse(sink, "out of memory", "");
	}
	b->next = d->barriers;
	d->barriers = b;
	(void)begin(b);
	return b;
}
