/* What `--top` is told: a line for the daemon, a line a sync, fields separated by tabs, texts escaped as in the log. */
#include <inttypes.h>
#include <string.h>

#include "core/clock.h"
#include "core/daemon_private.h"
#include "core/log.h"
#include "core/top.h"

static void put_text(struct buf *out, const char *s, size_t len)
{
	char safe[1024];

	log_escape(safe, sizeof(safe), s, len);
	buf_add_byte(out, '\t');
	buf_add_str(out, safe);
}

static void put_string(struct buf *out, const char *s)
{
	put_text(out, s == NULL ? "" : s, s == NULL ? 0 : strlen(s));
}

/* Why it does not go on, or what it is doing; else what failed last among what has not arrived. */
static void put_remark(struct buf *out, const struct member *m, const struct sync_snapshot *s)
{
	const struct failures *f = s->failures;

	if (s->reason != NULL || m->source->why != NULL)
		put_string(out, s->reason != NULL ? s->reason : m->source->why);
	else if (s->progress != NULL && s->progress->path != NULL)
		put_text(out, s->progress->path, s->progress->path_len);
	else if (s->progress != NULL)
		put_string(out, s->progress->phase);
	else if (f->n > 0)
		put_text(out, f->v[0].path, f->v[0].len);
	else
		put_string(out, NULL);
}

static void put_sync(struct buf *out, const struct member *m)
{
	struct sync_snapshot s;
	const struct wire_progress none = { .phase = "" }, *p;

	sync_snapshot(m->sync, &s);
	p = s.progress == NULL ? &none : s.progress;
	buf_add_str(out, "S");
	put_string(out, s.opt->name);
	put_string(out, sync_state_name(s.state));
	buf_printf(out, "\t%" PRIu64 "\t%zu\t%zu\t%zu", (uint64_t)(s.lag_ns / NS_PER_MS), s.pending + s.pending_renames,
		   s.in_flight, s.failures->n + (size_t)s.failures->unnamed);
	buf_printf(out, "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64, s.counters->files_sent,
		   s.counters->bytes, p->files, p->files_total, (uint64_t)(s.last_done_real_ns / NS_PER_S));
	put_string(out, s.opt->source);
	put_string(out, s.opt->target);
	put_remark(out, m, &s);
	buf_add_byte(out, '\n');
}

bool top_report(struct daemon *d, struct buf *out)
{
	buf_add_str(out, "D");
	put_string(out, FANSYNCD_VERSION);
	put_string(out, d->config->path);
	buf_printf(out, "\t%" PRIu64 "\t%" PRIu64 "\n", (uint64_t)(d->started_real_ns / NS_PER_S),
		   (uint64_t)(clock_real_ns() / NS_PER_S));
	for (size_t i = 0; i < d->n_members; i++)
		put_sync(out, d->members[i]);
	return !out->failed;
}
