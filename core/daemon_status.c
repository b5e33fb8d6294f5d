/* The status: as text for people and the status file, as JSON for programs, as one line for the service manager. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/daemon_private.h"
#include "core/json.h"
#include "core/log.h"

/* Pending paths that the status names; the number of all is given. */
#define PENDING_SHOWN 20u
#define FAILURES_SHOWN 100u

static double seconds(int64_t ns)
{
	return (double)ns / (double)NS_PER_S;
}

static void put_time(struct buf *out, int64_t real_ns)
{
	time_t t = (time_t)(real_ns / NS_PER_S);
	struct tm tm;
	char text[64];

	if (localtime_r(&t, &tm) == NULL || strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %z", &tm) == 0)
		(void)snprintf(text, sizeof(text), "%lld", (long long)(real_ns / NS_PER_S));
	buf_add_str(out, text);
}

static void put_escaped(struct buf *out, const char *s, size_t len)
{
	char text[4096];

	log_escape(text, sizeof(text), len == 0 ? "." : s, len == 0 ? 1 : len);
	buf_add_str(out, text);
}

/* A reason may quote what a server said. */
static void put_reason(struct buf *out, const char *why)
{
	if (why == NULL)
		why = "failed";
	put_escaped(out, why, strlen(why));
}

/* The counters, once for both forms. */
struct counter_row {
	const char *name;
	uint64_t value;
};
#define COUNTER_ROWS 17u

static void counter_rows(const struct sync_snapshot *s, uint64_t events, struct counter_row rows[COUNTER_ROWS])
{
	const struct sync_counters *c = s->counters;
	const struct counter_row all[COUNTER_ROWS] = {
		{ "events", events },
		{ "records", c->records },
		{ "dropped", c->dropped },
		{ "batches", c->batches },
		{ "files", c->files_sent },
		{ "bytes", c->bytes },
		{ "renames", c->renames },
		{ "deletions", c->deletions },
		{ "reconciles", c->reconciles },
		{ "retries", c->retries },
		{ "rejected", c->rejected },
		{ "overflows", c->overflows },
		{ "worker_restarts", c->worker_restarts },
		{ "handshakes", c->handshakes },
		{ "processes", c->processes },
		{ "conflicts", c->conflicts },
		{ "echoes", c->echoes },
	};

	memcpy(rows, all, sizeof(all));
}

/* ---- text ---- */

static void text_pending(void *ctx, const char *path, size_t len, unsigned flags)
{
	struct buf *out = ctx;

	buf_add_str(out, "    ");
	put_escaped(out, path, len);
	buf_printf(out, "%s%s\n", (flags & MARK_RECURSIVE) != 0 ? " (and all below)" : "",
		   (flags & MARK_FAILED) != 0 ? " (failed before)" : "");
}

static void text_failures(struct buf *out, const struct failures *f)
{
	if (f->n == 0 && f->unnamed == 0)
		return;
	buf_printf(out, "  failures  %zu\n", f->n + (size_t)f->unnamed);
	for (size_t i = 0; i < f->n && i < FAILURES_SHOWN; i++) {
		buf_add_str(out, "    ");
		put_escaped(out, f->v[i].path, f->v[i].len);
		buf_add_str(out, ": ");
		put_reason(out, f->v[i].why);
		buf_printf(out, " (%" PRIu32 " tries%s, since ", f->v[i].tries, f->v[i].given_up ? ", given up" : "");
		put_time(out, f->v[i].since_ns);
		buf_add_str(out, ")\n");
	}
}

static void text_counters(struct buf *out, const struct sync_snapshot *s, uint64_t events)
{
	struct counter_row rows[COUNTER_ROWS];
	const char *separator = "";

	counter_rows(s, events, rows);
	buf_add_str(out, "  counters ");
	for (size_t i = 0; i < COUNTER_ROWS; i++)
		buf_printf(out, " %s %" PRIu64, rows[i].name, rows[i].value);
	buf_add_str(out, "\n");
	if (s->counters->reconciles == 0)
		return;
	buf_add_str(out, "  compared  ");
	for (size_t i = 0; i < SYNC_CAUSES_MAX && s->counters->causes[i].cause != NULL; i++) {
		buf_printf(out, "%s%s %" PRIu64, separator, s->counters->causes[i].cause, s->counters->causes[i].count);
		separator = ", ";
	}
	buf_add_str(out, "\n");
}

static void text_source(struct buf *out, const struct member *m)
{
	struct watched_info info;

	buf_printf(out, "  source    %s\n", m->source->path);
	if (m->source->watched != NULL) {
		watched_info(m->source->watched, &info);
		buf_printf(out, "  watcher   %s: %s; %" PRIu64 " watches", info.backend, info.reason, info.watches);
		if (info.unwatched > 0)
			buf_printf(out, ", %" PRIu64 " directories NOT watched", info.unwatched);
		buf_add_str(out, "\n");
	}
	if (m->source->why != NULL)
		buf_printf(out, "  problem   %s\n", m->source->why);
}

/* Where nothing is deleted on the target, and why. */
static void text_kept(struct buf *out, const struct guard_state *g)
{
	for (size_t i = 0; i < g->n_mounts; i++) {
		const char *why = guard_mount_why(&g->mounts[i]);

		if (why == NULL)
			continue;
		buf_add_str(out, "  kept      ");
		put_escaped(out, g->mounts[i].path, g->mounts[i].len);
		buf_printf(out, ": nothing is deleted there: %s\n", why);
	}
}

static void text_tunnel(struct buf *out, const struct tunnel_info *t)
{
	if (t->state == NULL)
		return;
	buf_printf(out, "  tunnel    %s", t->state);
	if (t->port != 0)
		buf_printf(out, ", port %u", t->port);
	if (t->pid != 0)
		buf_printf(out, ", process %d", (int)t->pid);
	buf_printf(out, ", started %" PRIu64 " time%s", t->starts, t->starts == 1 ? "" : "s");
	if (t->last_words[0] != '\0') {
		buf_add_str(out, "; it said last: ");
		put_escaped(out, t->last_words, strlen(t->last_words));
	}
	buf_add_str(out, "\n");
}

static void text_member(struct buf *out, const struct member *m)
{
	struct sync_snapshot s;
	struct watched_info info = { 0 };

	sync_snapshot(m->sync, &s);
	if (m->source->watched != NULL)
		watched_info(m->source->watched, &info);
	buf_printf(out, "\n%s: %s%s", s.opt->name, sync_state_name(s.state), s.reason == NULL ? "" : ": ");
	if (s.reason != NULL)
		put_reason(out, s.reason);
	buf_add_str(out, "\n");
	text_source(out, m);
	buf_printf(out, "  target    %s by %s\n", s.opt->target, s.opt->transport);
	text_tunnel(out, &s.tunnel);
	buf_printf(out, "  pending   %zu paths, %zu renames; in flight %zu; lag %.1f s\n", s.pending, s.pending_renames,
		   s.in_flight, seconds(s.lag_ns));
	sync_list_pending(m->sync, PENDING_SHOWN, text_pending, out);
	if (s.progress != NULL && s.progress != s.large_progress)
		buf_printf(out, "  sending   %s, for %.1f s\n",
			   s.progress->phase[0] == '\0' ? "a batch" : s.progress->phase,
			   seconds(clock_mono_ns() - s.batch_started_ns));
	if (s.large_path != NULL) {
		buf_add_str(out, "  large     ");
		put_escaped(out, s.large_path, s.large_len);
		buf_printf(out, ", for %.1f s\n", seconds(clock_mono_ns() - s.large_started_ns));
	}
	buf_printf(out, "  rates     %.1f files/s, %.0f bytes/s\n", m->files_per_s, m->bytes_per_s);
	if (s.last_done_real_ns != 0) {
		buf_add_str(out, "  last done ");
		put_time(out, s.last_done_real_ns);
		buf_add_str(out, s.first_done ? "\n" : " (the first comparison is not over)\n");
	}
	if (m->n_schedules > 0 && m->schedule_due_s != SCHEDULE_NEVER) {
		buf_add_str(out, "  compares  ");
		put_time(out, m->schedule_due_s * NS_PER_S);
		buf_add_str(out, ", by its schedule\n");
	}
	if (s.last_error != NULL) {
		buf_add_str(out, "  last error ");
		put_time(out, s.last_error_real_ns);
		buf_add_str(out, ": ");
		put_escaped(out, s.last_error, strlen(s.last_error));
		buf_add_str(out, "\n");
	}
	text_failures(out, s.failures);
	text_kept(out, &m->guard);
	text_counters(out, &s, info.events);
}

static const char *receiver_state(const struct receiver_service *r)
{
	return r->ready ? "listening" : r->link != NULL && r->why == NULL ? "starting" : "down";
}

static void text_receiver(struct buf *out, const struct daemon *d)
{
	const struct receiver_service *r = &d->receiver;

	if (d->config->receiver == NULL)
		return;
	buf_printf(out, "\nreceiver: %s, %zu modules\n", receiver_state(r), d->config->receiver->n_modules);
	if (!r->ready && r->why != NULL) {
		buf_add_str(out, "  reason: ");
		put_escaped(out, r->why, strlen(r->why));
		buf_add_str(out, "\n");
	}
}

bool status_text(struct daemon *d, struct buf *out)
{
	buf_printf(out, "fansyncd %s, process %d, configuration %s, since ", FANSYNCD_VERSION, (int)getpid(),
		   d->config->path == NULL ? "(command line)" : d->config->path);
	put_time(out, d->started_real_ns);
	buf_add_str(out, "\nreport of ");
	put_time(out, clock_real_ns());
	buf_add_str(out, "\n");
	if (log_lost() > 0)
		buf_printf(out, "log lines that could not be written: %" PRIu64 "\n", log_lost());
	for (size_t i = 0; i < d->n_members; i++)
		text_member(out, d->members[i]);
	text_receiver(out, d);
	return !out->failed;
}

/* ---- JSON ---- */

void status_json_failures(struct buf *out, const struct failures *f, size_t most)
{
	json_key(out, "failures");
	json_open(out, '[');
	for (size_t i = 0; f != NULL && i < f->n && i < most; i++) {
		json_open(out, '{');
		json_put_bytes(out, "path", f->v[i].path, f->v[i].len);
		json_put_string(out, "reason", f->v[i].why);
		json_put_u64(out, "tries", f->v[i].tries);
		json_put_bool(out, "given_up", f->v[i].given_up);
		json_put_double(out, "since", seconds(f->v[i].since_ns));
		json_close(out, '}');
	}
	json_close(out, ']');
	json_put_u64(out, "failures_unnamed", f == NULL ? 0 : f->unnamed);
}

static void json_counters(struct buf *out, const struct sync_snapshot *s, uint64_t events)
{
	struct counter_row rows[COUNTER_ROWS];

	counter_rows(s, events, rows);
	json_key(out, "counters");
	json_open(out, '{');
	for (size_t i = 0; i < COUNTER_ROWS; i++)
		json_put_u64(out, rows[i].name, rows[i].value);
	json_key(out, "reconcile_causes");
	json_open(out, '{');
	for (size_t i = 0; i < SYNC_CAUSES_MAX && s->counters->causes[i].cause != NULL; i++)
		json_put_u64(out, s->counters->causes[i].cause, s->counters->causes[i].count);
	json_close(out, '}');
	json_close(out, '}');
}

static void json_watcher(struct buf *out, const struct member *m, const struct watched_info *info)
{
	json_key(out, "watcher");
	if (m->source->watched == NULL) {
		buf_add_str(out, "null");
		return;
	}
	json_open(out, '{');
	json_put_string(out, "backend", info->backend);
	json_put_string(out, "reason", info->reason);
	json_put_u64(out, "events", info->events);
	json_put_u64(out, "heard", info->heard);
	json_put_u64(out, "unrelated", info->unrelated);
	json_put_u64(out, "changeovers", info->changeovers);
	json_put_u64(out, "overflows", info->overflows);
	json_put_u64(out, "watches", info->watches);
	json_put_u64(out, "unwatched", info->unwatched);
	json_close(out, '}');
}

static void json_progress(struct buf *out, const struct wire_progress *p)
{
	json_key(out, "progress");
	if (p == NULL) {
		buf_add_str(out, "null");
		return;
	}
	json_open(out, '{');
	json_put_string(out, "phase", p->phase);
	json_put_u64(out, "files", p->files);
	json_put_u64(out, "files_total", p->files_total);
	json_put_u64(out, "bytes", p->bytes);
	json_put_u64(out, "bytes_total", p->bytes_total);
	json_close(out, '}');
}

static void json_large(struct buf *out, const struct sync_snapshot *s)
{
	json_key(out, "large");
	if (s->large_path == NULL) {
		buf_add_str(out, "null");
		return;
	}
	json_open(out, '{');
	json_put_bytes(out, "path", s->large_path, s->large_len);
	json_put_double(out, "seconds", seconds(clock_mono_ns() - s->large_started_ns));
	json_put_u64(out, "worker_pid", (uint64_t)s->large_worker);
	json_progress(out, s->large_progress);
	json_close(out, '}');
}

static void json_pending(void *ctx, const char *path, size_t len, unsigned flags)
{
	struct buf *out = ctx;

	json_open(out, '{');
	json_put_bytes(out, "path", path, len);
	json_put_bool(out, "recursive", (flags & MARK_RECURSIVE) != 0);
	json_put_bool(out, "failed", (flags & MARK_FAILED) != 0);
	json_close(out, '}');
}

void status_json_kept(struct buf *out, const struct guard_state *g)
{
	json_key(out, "kept");
	json_open(out, '[');
	for (size_t i = 0; i < g->n_mounts; i++) {
		const char *why = guard_mount_why(&g->mounts[i]);

		if (why == NULL)
			continue;
		json_open(out, '{');
		json_put_bytes(out, "path", g->mounts[i].path, g->mounts[i].len);
		json_put_string(out, "reason", why);
		json_close(out, '}');
	}
	json_close(out, ']');
}

static void json_tunnel(struct buf *out, const struct tunnel_info *t)
{
	json_key(out, "tunnel");
	if (t->state == NULL) {
		buf_add_str(out, "null");
		return;
	}
	json_open(out, '{');
	json_put_string(out, "state", t->state);
	json_put_u64(out, "port", t->port);
	json_put_u64(out, "pid", (uint64_t)t->pid);
	json_put_u64(out, "starts", t->starts);
	json_put_u64(out, "tries", t->tries);
	json_put_string(out, "last_words", t->last_words[0] == '\0' ? NULL : t->last_words);
	json_close(out, '}');
}

static void json_member(struct buf *out, const struct member *m)
{
	struct sync_snapshot s;
	struct watched_info info = { 0 };

	sync_snapshot(m->sync, &s);
	if (m->source->watched != NULL)
		watched_info(m->source->watched, &info);
	json_open(out, '{');
	json_put_string(out, "name", s.opt->name);
	json_put_string(out, "state", sync_state_name(s.state));
	json_put_string(out, "reason", s.reason);
	json_put_string(out, "source", s.opt->source);
	json_put_string(out, "source_problem", m->source->why);
	json_put_string(out, "target", s.opt->target);
	json_put_string(out, "transport", s.opt->transport);
	json_tunnel(out, &s.tunnel);
	json_watcher(out, m, &info);
	json_put_bool(out, "first_reconcile_done", s.first_done);
	json_put_u64(out, "pending", s.pending);
	json_put_u64(out, "pending_renames", s.pending_renames);
	json_put_u64(out, "in_flight", s.in_flight);
	json_put_double(out, "lag_seconds", seconds(s.lag_ns));
	json_put_double(out, "files_per_second", m->files_per_s);
	json_put_double(out, "bytes_per_second", m->bytes_per_s);
	json_put_double(out, "last_done", seconds(s.last_done_real_ns));
	if (m->n_schedules > 0 && m->schedule_due_s != SCHEDULE_NEVER)
		json_put_double(out, "scheduled", (double)m->schedule_due_s);
	json_put_string(out, "last_error", s.last_error);
	json_put_double(out, "last_error_time", seconds(s.last_error_real_ns));
	json_put_u64(out, "worker_pid", (uint64_t)s.worker);
	json_progress(out, s.progress);
	json_large(out, &s);
	json_key(out, "pending_paths");
	json_open(out, '[');
	sync_list_pending(m->sync, PENDING_SHOWN, json_pending, out);
	json_close(out, ']');
	status_json_failures(out, s.failures, SIZE_MAX);
	status_json_kept(out, &m->guard);
	json_counters(out, &s, info.events);
	json_close(out, '}');
}

static void json_receiver(struct buf *out, const struct daemon *d)
{
	const struct receiver_service *r = &d->receiver;

	if (d->config->receiver == NULL)
		return;
	json_key(out, "receiver");
	json_open(out, '{');
	json_put_string(out, "state", receiver_state(r));
	json_put_string(out, "reason", r->ready ? NULL : r->why);
	json_put_u64(out, "modules", d->config->receiver->n_modules);
	json_put_u64(out, "pid", r->link == NULL ? 0 : (uint64_t)worker_link_pid(r->link));
	json_put_u64(out, "restarts", r->restarts);
	json_close(out, '}');
}

bool status_json(struct daemon *d, struct buf *out)
{
	json_open(out, '{');
	json_put_string(out, "version", FANSYNCD_VERSION);
	json_put_u64(out, "pid", (uint64_t)getpid());
	json_put_string(out, "config", d->config->path);
	json_put_double(out, "started", seconds(d->started_real_ns));
	json_put_double(out, "now", seconds(clock_real_ns()));
	json_put_u64(out, "log_lines_lost", log_lost());
	json_key(out, "syncs");
	json_open(out, '[');
	for (size_t i = 0; i < d->n_members; i++)
		json_member(out, d->members[i]);
	json_close(out, ']');
	json_receiver(out, d);
	json_close(out, '}');
	buf_add_str(out, "\n");
	return !out->failed;
}

/* ---- one line, rates ---- */

void status_line(struct daemon *d, char *out, size_t size)
{
	size_t pending = 0, failures = 0, in_trouble = 0;

	for (size_t i = 0; i < d->n_members; i++) {
		struct sync_snapshot s;

		sync_snapshot(d->members[i]->sync, &s);
		pending += s.pending + s.in_flight;
		failures += s.failures->n;
		in_trouble += s.state == SYNC_DOWN || s.state == SYNC_STOPPED || s.state == SYNC_VETOED ||
					      s.state == SYNC_NO_SOURCE
				      ? 1
				      : 0;
	}
	(void)snprintf(out, size, "%zu sync%s, %zu pending, %zu failures, %zu out of reach", d->n_members,
		       d->n_members == 1 ? "" : "s", pending, failures, in_trouble);
}

void status_sample_rates(struct daemon *d)
{
	int64_t now = clock_mono_ns();

	for (size_t i = 0; i < d->n_members; i++) {
		struct member *m = d->members[i];
		struct sync_snapshot s;
		double passed = seconds(now - m->sample_ns);

		sync_snapshot(m->sync, &s);
		if (m->sample_ns != 0 && passed > 0) {
			m->files_per_s = (double)(s.counters->files_sent - m->sample_files) / passed;
			m->bytes_per_s = (double)(s.counters->bytes - m->sample_bytes) / passed;
		}
		m->sample_ns = now;
		m->sample_files = s.counters->files_sent;
		m->sample_bytes = s.counters->bytes;
	}
}
