/* The state in Prometheus' text format. A family's samples stand together, so each family is one walk over the syncs.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/daemon_private.h"
#include "core/log.h"

/* What is asked of a sync, once for all families. */
struct subject {
	const struct member *member;
	struct sync_snapshot s;
	struct watched_info watch; /* zero: it has no watcher */
};

static void family(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value. Names are bytes; what is no UTF-8 is escaped as in the log. */
static void put_label(struct buf *out, const char *label, const char *value)
{
	char safe[1024];

	log_escape(safe, sizeof(safe), value, strlen(value));
	buf_printf(out, "%s=\"", label);
	for (const char *p = safe; *p != '\0'; p++) {
		if (*p == '"' || *p == '\\')
			buf_add_byte(out, '\\');
		buf_add_byte(out, (unsigned char)*p);
	}
	buf_add_byte(out, '"');
}

/* NAME{sync="..."[,label="value"]} and a space. */
static void begin_sample(struct buf *out, const char *name, const struct subject *u, const char *label,
			 const char *value)
{
	buf_printf(out, "%s{", name);
	put_label(out, "sync", u->s.opt->name);
	if (label != NULL) {
		buf_add_byte(out, ',');
		put_label(out, label, value);
	}
	buf_add_str(out, "} ");
}

static void put_seconds(struct buf *out, int64_t ns)
{
	buf_printf(out, "%.3f\n", (double)ns / (double)NS_PER_S);
}

static void plain(struct buf *out, const char *name, const char *type, const char *help, double value)
{
	family(out, name, type, help);
	buf_printf(out, "%s %.15g\n", name, value);
}

/* ---- one number a sync ---- */

struct number_row {
	const char *name, *type, *help;
	uint64_t (*get)(const struct subject *u);
};

static uint64_t get_pending(const struct subject *u)
{
	return u->s.pending;
}

static uint64_t get_pending_renames(const struct subject *u)
{
	return u->s.pending_renames;
}

static uint64_t get_in_flight(const struct subject *u)
{
	return u->s.in_flight;
}

static uint64_t get_failed(const struct subject *u)
{
	return u->s.failures->n + u->s.failures->unnamed;
}

static uint64_t get_given_up(const struct subject *u)
{
	return failures_given_up(u->s.failures);
}

static uint64_t get_first_done(const struct subject *u)
{
	return u->s.first_done ? 1 : 0;
}

static uint64_t get_watches(const struct subject *u)
{
	return u->watch.watches;
}

static uint64_t get_unwatched(const struct subject *u)
{
	return u->watch.unwatched;
}

static uint64_t get_events(const struct subject *u)
{
	return u->watch.events;
}

#define COUNTER(field)                                                                                                 \
	static uint64_t get_##field(const struct subject *u)                                                           \
	{                                                                                                              \
		return u->s.counters->field;                                                                           \
	}
COUNTER(records)
COUNTER(dropped)
COUNTER(batches)
COUNTER(files_sent)
COUNTER(bytes)
COUNTER(renames)
COUNTER(deletions)
COUNTER(retries)
COUNTER(rejected)
COUNTER(overflows)
COUNTER(worker_restarts)
COUNTER(handshakes)
COUNTER(processes)
COUNTER(conflicts)
COUNTER(echoes)

static const struct number_row numbers[] = {
	{ "fansyncd_sync_pending_paths", "gauge", "Changed paths that wait to be sent.", get_pending },
	{ "fansyncd_sync_pending_renames", "gauge", "Renames that wait to be carried.", get_pending_renames },
	{ "fansyncd_sync_in_flight_paths", "gauge", "Paths of the batch that is being sent.", get_in_flight },
	{ "fansyncd_sync_failed_paths", "gauge", "Paths that failed and were not sent since.", get_failed },
	{ "fansyncd_sync_given_up_paths", "gauge", "Failed paths that are not tried again by themselves.",
	  get_given_up },
	{ "fansyncd_sync_first_comparison_done", "gauge", "Whether the comparison at the start is over.",
	  get_first_done },
	{ "fansyncd_sync_watches", "gauge", "Watches that its source has; syncs of one source share them.",
	  get_watches },
	{ "fansyncd_sync_unwatched_directories", "gauge", "Directories of its source that could not be watched.",
	  get_unwatched },
	{ "fansyncd_sync_events_total", "counter", "Events of the kernel that concern its source.", get_events },
	{ "fansyncd_sync_records_total", "counter", "Changes that were made of events.", get_records },
	{ "fansyncd_sync_dropped_records_total", "counter", "Changes that the filter dropped.", get_dropped },
	{ "fansyncd_sync_batches_total", "counter", "Batches that left.", get_batches },
	{ "fansyncd_sync_sent_files_total", "counter", "Files that were sent.", get_files_sent },
	{ "fansyncd_sync_sent_bytes_total", "counter", "Bytes that were sent.", get_bytes },
	{ "fansyncd_sync_renames_total", "counter", "Renames that were carried as such.", get_renames },
	{ "fansyncd_sync_deletions_total", "counter", "Deletions at the target, a directory counted once.",
	  get_deletions },
	{ "fansyncd_sync_retries_total", "counter", "Paths that had to be tried again.", get_retries },
	{ "fansyncd_sync_rejected_total", "counter", "Paths that were given up.", get_rejected },
	{ "fansyncd_sync_overflows_total", "counter", "Overflows of the kernel's event queue.", get_overflows },
	{ "fansyncd_sync_worker_restarts_total", "counter", "Workers after the first one.", get_worker_restarts },
	{ "fansyncd_sync_handshakes_total", "counter", "Connections that were made to the target.", get_handshakes },
	{ "fansyncd_sync_processes_total", "counter", "Programs that were started.", get_processes },
	{ "fansyncd_sync_conflicts_total", "counter", "Conflicts of a sync that works both ways.", get_conflicts },
	{ "fansyncd_sync_echoes_total", "counter", "Changes that came from the target and were not sent back.",
	  get_echoes },
};

static void put_numbers(struct buf *out, const struct subject *subjects, size_t n)
{
	for (size_t row = 0; row < sizeof(numbers) / sizeof(numbers[0]); row++) {
		family(out, numbers[row].name, numbers[row].type, numbers[row].help);
		for (size_t i = 0; i < n; i++) {
			begin_sample(out, numbers[row].name, &subjects[i], NULL, NULL);
			buf_printf(out, "%" PRIu64 "\n", numbers[row].get(&subjects[i]));
		}
	}
}

/* ---- times ---- */

static void put_times(struct buf *out, const struct subject *subjects, size_t n)
{
	static const char lag[] = "fansyncd_sync_lag_seconds";
	static const char done[] = "fansyncd_sync_last_success_timestamp_seconds";
	static const char failed[] = "fansyncd_sync_last_error_timestamp_seconds";

	family(out, lag, "gauge", "Age of the oldest change that is not on the target yet; 0: there is none.");
	for (size_t i = 0; i < n; i++) {
		begin_sample(out, lag, &subjects[i], NULL, NULL);
		put_seconds(out, subjects[i].s.lag_ns);
	}
	family(out, done, "gauge", "When a batch last ended well; 0: none has yet.");
	for (size_t i = 0; i < n; i++) {
		begin_sample(out, done, &subjects[i], NULL, NULL);
		put_seconds(out, subjects[i].s.last_done_real_ns);
	}
	family(out, failed, "gauge", "When something last failed; 0: nothing has yet.");
	for (size_t i = 0; i < n; i++) {
		begin_sample(out, failed, &subjects[i], NULL, NULL);
		put_seconds(out, subjects[i].s.last_error_real_ns);
	}
}

/* ---- families with a label of their own ---- */

static void put_states(struct buf *out, const struct subject *subjects, size_t n)
{
	static const char name[] = "fansyncd_sync_state";

	family(out, name, "gauge", "1 for the state that the sync is in, 0 for the others.");
	for (size_t i = 0; i < n; i++)
		for (enum sync_state s = SYNC_NO_SOURCE; s <= SYNC_VETOED; s++) {
			begin_sample(out, name, &subjects[i], "state", sync_state_name(s));
			buf_printf(out, "%d\n", subjects[i].s.state == s ? 1 : 0);
		}
}

static void put_infos(struct buf *out, const struct subject *subjects, size_t n)
{
	static const char name[] = "fansyncd_sync_info";

	family(out, name, "gauge", "What the sync is: always 1.");
	for (size_t i = 0; i < n; i++) {
		const struct subject *u = &subjects[i];

		buf_printf(out, "%s{", name);
		put_label(out, "sync", u->s.opt->name);
		buf_add_byte(out, ',');
		put_label(out, "transport", u->s.opt->transport);
		buf_add_byte(out, ',');
		put_label(out, "source", u->s.opt->source);
		buf_add_byte(out, ',');
		put_label(out, "target", u->s.opt->target);
		buf_add_byte(out, ',');
		put_label(out, "watcher", u->watch.backend == NULL ? "" : u->watch.backend);
		buf_add_str(out, "} 1\n");
	}
}

/* A class that can't be told is "other". */
static void put_errors(struct buf *out, const struct subject *subjects, size_t n)
{
	static const char name[] = "fansyncd_sync_errors_total";

	family(out, name, "counter", "What was tried again, given up, or took the target down, by kind of failure.");
	for (size_t i = 0; i < n; i++)
		for (unsigned c = ERR_NONE; c < ERR_CLASSES; c++) {
			begin_sample(out, name, &subjects[i], "class",
				     c == ERR_NONE ? "other" : err_class_name((enum err_class)c));
			buf_printf(out, "%" PRIu64 "\n", subjects[i].s.counters->errors[c]);
		}
}

static void put_reconciles(struct buf *out, const struct subject *subjects, size_t n)
{
	static const char name[] = "fansyncd_sync_reconciles_total";

	family(out, name, "counter", "Comparisons of source and target, by their cause.");
	for (size_t i = 0; i < n; i++) {
		const struct sync_cause *c = subjects[i].s.counters->causes;

		for (size_t k = 0; k < SYNC_CAUSES_MAX && c[k].cause != NULL; k++) {
			begin_sample(out, name, &subjects[i], "cause", c[k].cause);
			buf_printf(out, "%" PRIu64 "\n", c[k].count);
		}
	}
}

/* Of the syncs that have one. */
static void put_tunnels(struct buf *out, const struct subject *subjects, size_t n)
{
	static const char up[] = "fansyncd_sync_tunnel_up", starts[] = "fansyncd_sync_tunnel_starts_total";

	family(out, up, "gauge", "Whether the tunnel that leads to the target is up.");
	for (size_t i = 0; i < n; i++)
		if (subjects[i].s.tunnel.state != NULL) {
			begin_sample(out, up, &subjects[i], NULL, NULL);
			buf_printf(out, "%d\n", subjects[i].s.tunnel.up ? 1 : 0);
		}
	family(out, starts, "counter", "Starts of the tunnel's program.");
	for (size_t i = 0; i < n; i++)
		if (subjects[i].s.tunnel.state != NULL) {
			begin_sample(out, starts, &subjects[i], NULL, NULL);
			buf_printf(out, "%" PRIu64 "\n", subjects[i].s.tunnel.starts);
		}
}

static bool any_tunnel(const struct subject *subjects, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (subjects[i].s.tunnel.state != NULL)
			return true;
	return false;
}

/* ---- the process ---- */

static double count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	double n = -3; /* ".", "..", and this one */

	if (dir == NULL)
		return 0;
	while (readdir(dir) != NULL)
		n++;
	(void)closedir(dir);
	return n;
}

static void put_memory(struct buf *out)
{
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long total = 0, resident = 0;
	double page = (double)sysconf(_SC_PAGESIZE);
	int got = f == NULL ? 0 : fscanf(f, "%lu %lu", &total, &resident);

	if (f != NULL)
		(void)fclose(f);
	if (got != 2)
		return;
	plain(out, "process_virtual_memory_bytes", "gauge", "Virtual memory of the daemon.", (double)total * page);
	plain(out, "process_resident_memory_bytes", "gauge", "Resident memory of the daemon.", (double)resident * page);
}

static double cpu_seconds(void)
{
	struct rusage u = { 0 };

	if (getrusage(RUSAGE_SELF, &u) < 0)
		return 0;
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void put_process(struct buf *out, const struct daemon *d)
{
	struct rlimit limit = { 0 };
	uint64_t watches = 0;

	for (const struct source *s = d->sources; s != NULL; s = s->next) {
		struct watched_info info;

		if (s->watched == NULL)
			continue;
		watched_info(s->watched, &info);
		watches += info.watches;
	}
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	family(out, "fansyncd_build_info", "gauge", "The daemon's version: always 1.");
	buf_printf(out, "fansyncd_build_info{version=\"%s\"} 1\n", FANSYNCD_VERSION);
	plain(out, "fansyncd_syncs", "gauge", "Syncs that are configured.", (double)d->n_members);
	plain(out, "fansyncd_watches", "gauge", "Watches of all sources.", (double)watches);
	plain(out, "fansyncd_log_lines_lost_total", "counter", "Lines of the log that could not be written.",
	      (double)log_lost());
	if (d->config->receiver != NULL) {
		plain(out, "fansyncd_receiver_up", "gauge", "Whether the receiver listens.", d->receiver.ready ? 1 : 0);
		plain(out, "fansyncd_receiver_restarts_total", "counter", "How often it was started again.",
		      (double)d->receiver.restarts);
	}
	put_memory(out);
	plain(out, "process_open_fds", "gauge", "Open descriptors of the daemon.", count_fds());
	plain(out, "process_max_fds", "gauge", "Limit of open descriptors.", (double)limit.rlim_cur);
	plain(out, "process_cpu_seconds_total", "counter", "Processor time of the daemon.", cpu_seconds());
	plain(out, "process_start_time_seconds", "gauge", "When the daemon was started.",
	      (double)d->started_real_ns / (double)NS_PER_S);
}

bool metrics_text(struct daemon *d, struct buf *out)
{
	size_t n = d->n_members;
	struct subject *subjects = calloc(n + 1, sizeof(*subjects));

	if (subjects == NULL)
		return false;
	for (size_t i = 0; i < n; i++) {
		subjects[i].member = d->members[i];
		sync_snapshot(d->members[i]->sync, &subjects[i].s);
		if (d->members[i]->source->watched != NULL)
			watched_info(d->members[i]->source->watched, &subjects[i].watch);
	}
	put_process(out, d);
	if (n > 0) {
		put_infos(out, subjects, n);
		put_states(out, subjects, n);
		put_times(out, subjects, n);
		put_numbers(out, subjects, n);
		put_errors(out, subjects, n);
		put_reconciles(out, subjects, n);
	}
	if (any_tunnel(subjects, n))
		put_tunnels(out, subjects, n);
	free(subjects);
	return !out->failed;
}
