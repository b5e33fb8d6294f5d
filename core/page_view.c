/* What the page shows: the daemon in a line, the names of the syncs in a line, then a line of JSON for each. What did
 * not change is the same line again, so that it need not be sent. */
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/daemon_private.h"
#include "core/json.h"
#include "core/log.h"

#define FAILURES_SHOWN 20u

void page_sample(struct daemon *d)
{
	for (size_t i = 0; i < d->n_members; i++) {
		struct trend *t = &d->members[i]->trend;
		struct sync_snapshot s;

		sync_snapshot(d->members[i]->sync, &s);
		if (t->begun && s.counters->bytes >= t->last)
			t->bytes[t->next++ % TREND_POINTS] = s.counters->bytes - t->last;
		t->last = s.counters->bytes;
		t->begun = true;
	}
}

/* Bytes a second, the latest last; empty while nothing went over. */
static void put_trend(struct buf *out, const struct trend *t)
{
	bool any = false;

	for (size_t i = 0; i < TREND_POINTS; i++)
		any = any || t->bytes[i] != 0;
	json_key(out, "trend");
	json_open(out, '[');
	for (size_t i = 0; any && i < TREND_POINTS; i++) {
		double v = (double)t->bytes[(t->next + i) % TREND_POINTS] / ((double)TREND_NS / (double)NS_PER_S);

		buf_printf(out, "%s%.0f", i == 0 ? "" : ",", v);
	}
	json_close(out, ']');
}

static double rate(const struct trend *t)
{
	uint64_t latest = t->bytes[(t->next + TREND_POINTS - 1) % TREND_POINTS];

	return (double)latest / ((double)TREND_NS / (double)NS_PER_S);
}

/* A tenth is as exact as it is read; a finer one would be another line each time. */
static void put_tenths(struct buf *out, const char *key, int64_t ns)
{
	json_key(out, key);
	buf_printf(out, "%.1f", (double)ns / (double)NS_PER_S);
}

static void put_progress(struct buf *out, const struct sync_snapshot *s)
{
	const struct wire_progress *p = s->progress;

	if (p == NULL)
		return;
	json_key(out, "progress");
	json_open(out, '{');
	json_put_string(out, "phase", p->phase);
	json_put_u64(out, "files", p->files);
	json_put_u64(out, "files_total", p->files_total);
	json_put_u64(out, "bytes", p->bytes);
	json_put_u64(out, "bytes_total", p->bytes_total);
	if (p->path != NULL)
		json_put_bytes(out, "path", p->path, p->path_len);
	put_tenths(out, "seconds", clock_mono_ns() - s->batch_started_ns);
	json_close(out, '}');
}

static void put_counters(struct buf *out, const struct sync_counters *c)
{
	json_key(out, "counters");
	json_open(out, '{');
	json_put_u64(out, "batches", c->batches);
	json_put_u64(out, "files", c->files_sent);
	json_put_u64(out, "bytes", c->bytes);
	json_put_u64(out, "renames", c->renames);
	json_put_u64(out, "deletions", c->deletions);
	json_put_u64(out, "comparisons", c->reconciles);
	json_put_u64(out, "retries", c->retries);
	json_put_u64(out, "given up", c->rejected);
	json_put_u64(out, "overflows", c->overflows);
	json_put_u64(out, "worker restarts", c->worker_restarts);
	json_put_u64(out, "conflicts", c->conflicts);
	json_close(out, '}');
}

static void put_member(struct buf *out, const struct member *m)
{
	struct sync_snapshot s;
	struct watched_info watch = { 0 };

	sync_snapshot(m->sync, &s);
	if (m->source->watched != NULL)
		watched_info(m->source->watched, &watch);
	buf_add_byte(out, '{');
	json_put_string(out, "name", s.opt->name);
	json_put_string(out, "state", sync_state_name(s.state));
	json_put_string(out, "reason", s.reason != NULL ? s.reason : m->source->why);
	json_put_string(out, "source", s.opt->source);
	json_put_string(out, "target", s.opt->target);
	json_put_string(out, "transport", s.opt->transport);
	if (s.tunnel.state != NULL) {
		json_put_string(out, "tunnel", s.tunnel.state);
		json_put_u64(out, "tunnel_starts", s.tunnel.starts);
		json_put_string(out, "tunnel_said", s.tunnel.last_words[0] == '\0' ? NULL : s.tunnel.last_words);
	}
	json_put_string(out, "watcher", watch.backend);
	json_put_string(out, "watcher_reason", watch.reason);
	json_put_u64(out, "watches", watch.watches);
	json_put_u64(out, "unwatched", watch.unwatched);
	json_put_bool(out, "started", s.first_done);
	json_put_u64(out, "pending", s.pending + s.pending_renames);
	json_put_u64(out, "in_flight", s.in_flight);
	put_tenths(out, "lag", s.lag_ns);
	json_put_u64(out, "last_done", (uint64_t)(s.last_done_real_ns / NS_PER_S));
	json_put_string(out, "last_error", s.last_error);
	json_put_u64(out, "last_error_time", (uint64_t)(s.last_error_real_ns / NS_PER_S));
	json_key(out, "rate");
	buf_printf(out, "%.0f", rate(&m->trend));
	put_progress(out, &s);
	json_put_u64(out, "failed", s.failures->n + s.failures->unnamed);
	status_json_failures(out, s.failures, FAILURES_SHOWN);
	status_json_kept(out, &m->guard);
	put_counters(out, s.counters);
	put_trend(out, &m->trend);
	buf_add_str(out, "}\n");
}

static void put_daemon(struct buf *out, const struct daemon *d)
{
	buf_add_byte(out, '{');
	json_put_string(out, "version", FANSYNCD_VERSION);
	json_put_string(out, "config", d->config->path);
	json_put_u64(out, "pid", (uint64_t)getpid());
	json_put_u64(out, "started", (uint64_t)(d->started_real_ns / NS_PER_S));
	json_put_u64(out, "now", (uint64_t)(clock_real_ns() / NS_PER_S));
	json_put_u64(out, "log_lines_lost", log_lost());
	if (d->config->receiver != NULL) {
		json_put_string(out, "receiver", d->receiver.ready ? "listening" : "down");
		json_put_string(out, "receiver_reason", d->receiver.ready ? NULL : d->receiver.why);
	}
	buf_add_str(out, "}\n");
}

bool page_view(struct daemon *d, struct buf *out)
{
	put_daemon(out, d);
	buf_add_byte(out, '[');
	for (size_t i = 0; i < d->n_members; i++) {
		const char *name = sync_options_of(d->members[i]->sync)->name;

		if (i > 0)
			buf_add_byte(out, ',');
		json_string(out, name, strlen(name));
	}
	buf_add_str(out, "]\n");
	for (size_t i = 0; i < d->n_members; i++)
		put_member(out, d->members[i]);
	return !out->failed;
}
