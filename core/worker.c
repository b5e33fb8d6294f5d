#include "core/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/frame.h"
#include "core/guard_switches.h"
#include "core/link_search.h"
#include "core/log.h"
#include "core/look.h"
#include "core/loop.h"
#include "core/plan.h"
#include "core/privileges.h"
#include "core/proc.h"
#include "core/siblings.h"
#include "core/transport.h"
#include "core/wire.h"
#include "core/worker_confine.h"
#include "core/worker_guard.h"

/* A verdicts frame is closed at this size, so that the daemon hears of a long batch while it runs. */
#define VERDICTS_FLUSH_BYTES (64u * 1024)
#define PROGRESS_INTERVAL_NS (100 * NS_PER_MS)
/* Names of hard links that are remembered: some tens of megabytes. */
#define LINK_NAMES_MAX 200000u
/* Large files that a batch's comparisons leave to the other lane. */
#define HAND_OVER_MAX 1000u

struct worker {
	const struct worker_deps *deps;
	struct loop *loop;
	int fd;
	struct loop_fd *fd_source;
	struct buf in, out;
	size_t verdicts_at; /* of the open verdicts frame in out; SIZE_MAX: none is open */

	struct config *config;
	const struct sync_options *opt; /* in config */
	const struct transport *transport;
	struct transport_env env;
	struct transport_counters counters, told;
	unsigned memory; /* of the transport, over its sessions */
	void *session;	 /* NULL until the first batch, and after a `down` */
	char *runtime_dir, *archive_path;
	unsigned char host_id[HOST_ID_BYTES], boot[HOST_ID_BYTES];
	uint64_t source_dev, source_ino;
	struct looker looker;
	struct siblings siblings;
	struct worker_guard guard;
	struct link_search search;

	struct confinement confinement;
	bool confined;
	bool ending; /* when what it has to say is said */

	struct batch *batch; /* NULL: idle */
	unsigned batch_flags;
	uint64_t handed_over;	 /* to the large lane, by its comparisons */
	uint64_t deleted_before; /* counters.entries_deleted when it began: maxDelete is for the whole batch */
	struct plan plan;
	enum plan_step step;
	bool *settled, *settled_renames; /* of the step's work */
	bool working;			 /* the transport has the step's work */
	bool advance;			 /* the next step is due */
	struct err down;		 /* class not NONE: the transport said `down`; handled outside its callback */
	int64_t progress_ns;		 /* when it was last told */
};

static void worker_fail(struct worker *w, const char *why)
{
	log_error("worker: %s", why);
	loop_stop(w->loop, 1);
}

/* ---- messages to the daemon ---- */

static void close_verdicts(struct worker *w)
{
	size_t at = w->verdicts_at;

	if (at == SIZE_MAX)
		return;
	w->verdicts_at = SIZE_MAX;
	if (!wire_end_verdicts(&w->out, at))
		worker_fail(w, "the daemon does not take the verdicts, or there is no memory for them");
}

static void put_verdict(struct worker *w, bool is_rename, size_t index, enum verdict v, const struct err *why)
{
	struct wire_verdict wv = { .is_rename = is_rename, .index = (uint32_t)index, .v = v };

	if (why != NULL)
		wv.why = *why;
	if (w->verdicts_at == SIZE_MAX)
		w->verdicts_at = wire_begin_verdicts(&w->out, w->batch->id);
	wire_add_verdict(&w->out, &wv);
	if (w->out.failed || w->out.len - w->verdicts_at > VERDICTS_FLUSH_BYTES)
		close_verdicts(w);
}

/* The queue's ceiling is several frames: when it is reached the daemon has not read for very long. */
static void sent(struct worker *w, bool ok)
{
	if (!ok)
		worker_fail(w, "the daemon does not read its messages, or there is no memory for them");
}

static void log_sink(void *ctx, enum log_category cat, const char *text, size_t len)
{
	struct worker *w = ctx;

	close_verdicts(w);
	(void)wire_put_log(&w->out, (uint32_t)cat, text, len); /* a lost line is no reason to stop */
}

static void tell_counters(struct worker *w)
{
	const struct transport_counters *c = &w->counters;
	struct wire_counters wc = { c->files_sent, c->bytes_sent, c->deletions, c->renames_carried,
				    c->handshakes, c->processes,  c->conflicts };

	if (memcmp(c, &w->told, sizeof(*c)) == 0)
		return;
	w->told = *c;
	close_verdicts(w);
	sent(w, wire_put_counters(&w->out, &wc));
}

static void flush_out(struct worker *w)
{
	while (w->out.len > 0) {
		ssize_t n = send(w->fd, w->out.data, w->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			if (errno != EAGAIN)
				loop_stop(w->loop, 0); /* the daemon is gone */
			break;
		}
		buf_consume(&w->out, (size_t)n);
	}
	loop_fd_set(w->fd_source, w->out.len > 0 ? LOOP_READ | LOOP_WRITE : LOOP_READ);
}

/* ---- one batch ---- */

static void free_batch(struct worker *w)
{
	close_verdicts(w);
	plan_done(&w->plan);
	batch_free(w->batch);
	w->batch = NULL;
	free(w->settled);
	free(w->settled_renames);
	w->settled = w->settled_renames = NULL;
	w->working = w->advance = false;
	link_search_hold(&w->search, false);
	looker_done(&w->looker);
}

static void close_session(struct worker *w)
{
	if (w->session != NULL)
		w->transport->close(w->session);
	w->session = NULL;
}

/* What the guards learned is for the record, which is the daemon's. */
static void tell_guard(struct worker *w)
{
	struct buf text;

	if (!w->guard.learned)
		return;
	w->guard.learned = false;
	close_verdicts(w);
	buf_init(&text, GUARD_TEXT_MAX);
	sent(w, guard_put(&text, &w->guard.state) && wire_put_guard(&w->out, text.data, text.len));
	buf_done(&text);
}

/* What it may reach was fixed when it was confined. A target that was mounted since, or a key in a directory that was
 * replaced, is for a worker that begins anew. */
static bool is_shut_out(const struct worker *w, const struct err *why)
{
	return w->confinement.files &&
	       ((w->transport->caps & TRANSPORT_LOCAL_TARGET) != 0 || why->class == ERR_DENIED ||
		why->class == ERR_GONE || why->class == ERR_CONFIG || why->class == ERR_AUTH);
}

/* The target, or the source as a whole, can't be worked with: the daemon takes the batch back and sets the backoff. */
static void go_down(struct worker *w, const struct err *why)
{
	free_batch(w);
	wguard_release(&w->guard);
	close_session(w);
	tell_guard(w);
	tell_counters(w);
	sent(w, wire_put_down(&w->out, why));
	w->ending = w->ending || is_shut_out(w, why);
}

/* What was compared may hold files with names outside of the source. */
static void search_links(struct worker *w)
{
	for (size_t i = 0; i < w->batch->n_items; i++)
		if (w->batch->items[i].flags & MARK_RECURSIVE)
			link_search_add(&w->search, w->batch->items[i].path, w->batch->items[i].len);
}

static void batch_over(struct worker *w)
{
	uint64_t id = w->batch->id;

	search_links(w);
	free_batch(w);
	wguard_end(&w->guard);
	tell_guard(w);
	tell_counters(w);
	sent(w, wire_put_u64(&w->out, WIRE_BATCH_DONE, id));
}

static void tell_found(struct worker *w, const char *path, size_t len, enum verdict v, const struct err *why)
{
	struct wire_found f = { .path = path, .len = len, .v = v };

	if (why != NULL)
		f.why = *why;
	close_verdicts(w);
	sent(w, wire_put_found(&w->out, &f));
}

/* Beyond so many it carries them itself: each is a mark, and the limit of those must not be reached by them alone. */
static uint64_t hand_over_max(const struct worker *w)
{
	return w->opt->max_pending / 4 < HAND_OVER_MAX ? (uint64_t)w->opt->max_pending / 4 : HAND_OVER_MAX;
}

static bool on_hand_over(void *ctx, const char *path, size_t len, const struct stat *st)
{
	struct worker *w = ctx;

	if (w->batch == NULL || (w->batch_flags & WIRE_HAND_OVER) == 0 || w->step == PLAN_APPLY ||
	    !S_ISREG(st->st_mode) || st->st_size <= sync_options_large(w->opt) || st->st_nlink > 1 ||
	    w->handed_over >= hand_over_max(w))
		return false;
	w->handed_over++;
	tell_found(w, path, len, VERDICT_LARGE, NULL);
	return true;
}

static void on_peer(void *ctx, const struct host_tree *t)
{
	struct worker *w = ctx;

	close_verdicts(w);
	sent(w, wire_put_peer(&w->out, t));
}

/* When the daemon is behind with reading, those that are left out are found again by the next search. */
static void tell_linked(void *ctx, const char *path, size_t len, uint64_t dev, uint64_t ino)
{
	struct worker *w = ctx;
	struct wire_linked f = { .dev = dev, .ino = ino, .path = path, .len = len };

	if (w->out.len > WIRE_FRAME_MAX)
		return;
	close_verdicts(w);
	sent(w, wire_put_linked(&w->out, &f));
}

static void on_settle(void *ctx, size_t index, enum verdict v, const struct err *why)
{
	struct worker *w = ctx;
	const struct plan_part *part = &w->plan.part[w->step];
	struct plan_range range;

	if (w->batch == NULL || index >= part->work.n_items || w->settled[index])
		return;
	w->settled[index] = true;
	if (v == VERDICT_REJECT && part->work.items[index].len == 0 && wguard_refused(&w->guard, why, &w->down))
		return; /* the whole sync stops: before_wait takes it down */
	range = part->ranges[index];
	for (size_t i = range.lo; i < range.hi; i++)
		put_verdict(w, false, i, v, why);
	if (range.lo == range.hi && v != VERDICT_DONE && v != VERDICT_GONE) {
		const struct transport_item *item = &part->work.items[index];

		tell_found(w, item->path, item->len, v, why);
	}
}

static void on_settle_rename(void *ctx, size_t index, enum verdict v, const struct err *why)
{
	struct worker *w = ctx;

	if (w->batch == NULL || index >= w->plan.part[PLAN_APPLY].work.n_renames || w->settled_renames[index])
		return;
	w->settled_renames[index] = true;
	put_verdict(w, true, w->plan.rename_index[index], v, why);
}

static void on_found(void *ctx, const char *path, size_t len, enum verdict v, const struct err *why)
{
	tell_found(ctx, path, len, v, why);
}

static void on_finished(void *ctx)
{
	struct worker *w = ctx;
	const struct transport_work *work = &w->plan.part[w->step].work;
	struct err why = ERR_INIT;

	if (w->batch == NULL || !w->working)
		return;
	err_set(&why, ERR_AGAIN, "the transport ended without a word on it");
	for (size_t i = 0; i < work->n_renames; i++)
		on_settle_rename(w, i, VERDICT_RECONCILE, NULL);
	for (size_t i = 0; i < work->n_items; i++)
		on_settle(w, i, VERDICT_RETRY, &why);
	w->working = false;
	w->step++;
	w->advance = true;
}

/* The session can't be closed from within its own callback: before_wait does. */
static void on_down(void *ctx, const struct err *why)
{
	struct worker *w = ctx;

	w->down = *why;
	if (w->down.class == ERR_NONE)
		err_set(&w->down, ERR_BUG, "the transport went down without a reason");
}

static void on_progress(void *ctx, const struct transport_progress *p)
{
	struct worker *w = ctx;
	int64_t now = clock_mono_ns();
	struct wire_progress wp = {
		.files = p->files,
		.files_total = p->files_total,
		.bytes = p->bytes,
		.bytes_total = p->bytes_total,
		.path = p->path == NULL ? "" : p->path,
		.path_len = p->path == NULL ? 0 : p->path_len,
	};

	if (now - w->progress_ns < PROGRESS_INTERVAL_NS)
		return;
	w->progress_ns = now;
	(void)snprintf(wp.phase, sizeof(wp.phase), "%s", p->phase);
	close_verdicts(w);
	sent(w, wire_put_progress(&w->out, &wp));
	tell_counters(w);
}

static int look(void *ctx, const char *path, size_t len, enum look *out, struct stat *st, struct err *err)
{
	struct worker *w = ctx;

	return looker_look(&w->looker, path, len, out, st, err);
}

static void siblings(void *ctx, const char *path, size_t len, const struct stat *st,
		     void (*add)(void *maker, const char *path, size_t len, const struct stat *st), void *maker)
{
	struct worker *w = ctx;

	/* Told before the file's verdict, so that who waits for it waits for them. */
	if (!siblings_each(&w->siblings, path, len, st, clock_mono_ns(), add, maker))
		tell_found(w, path, len, VERDICT_RECONCILE, NULL);
}

static bool was_sibling(void *ctx, const char *path, size_t len)
{
	return siblings_was_made(&((struct worker *)ctx)->siblings, path, len);
}

static void plan_settle(void *ctx, size_t index, enum verdict v, const struct err *why)
{
	put_verdict(ctx, false, index, v, why);
}

static void plan_settle_rename(void *ctx, size_t index, enum verdict v, const struct err *why)
{
	put_verdict(ctx, true, index, v, why);
}

/* Of what is in directories that came or moved nothing is said, one by one. */
static void note_moves(struct worker *w)
{
	const struct batch *b = w->batch;
	bool moved = false;

	for (size_t i = 0; i < b->n_items && !moved; i++) {
		enum look found;
		struct stat st;

		moved = (b->items[i].flags & MARK_RECURSIVE) != 0 &&
			looker_look(&w->looker, b->items[i].path, b->items[i].len, &found, &st, NULL) == 0 &&
			found == LOOK_DIR;
	}
	for (size_t i = 0; i < b->n_renames && !moved; i++)
		moved = b->renames[i].is_dir;
	if (moved)
		links_moved(w->siblings.links);
}

/* A limit of bandwidth is the sync's, not the worker's. What is large needs most of it, but not all for hours. */
static unsigned quarters_of(unsigned batch_flags)
{
	return (batch_flags & WIRE_LARGE) != 0 ? 3 : (batch_flags & WIRE_SHARED) != 0 ? 1 : 4;
}

static void start_batch(struct worker *w)
{
	bool allow = (w->batch_flags & WIRE_ALLOW_DELETE) != 0;
	struct plan_input in = {
		.batch = w->batch,
		.filter = w->opt->filter,
		.delete_mode = w->opt->delete_mode,
		.max_delete = allow || !GUARD_MAX_DELETE ? INT64_MAX : w->opt->max_delete,
		.caps = w->transport->caps,
		.delete_excluded = w->opt->rsync.delete_excluded,
		.dir_times = w->opt->rsync.times && !w->opt->rsync.omit_dir_times,
		.bidirectional = w->opt->bidirectional,
		.lane = (w->batch_flags & WIRE_LARGE) != 0	 ? PLAN_LARGE
			: (w->batch_flags & WIRE_HAND_OVER) != 0 ? PLAN_FIRST
								 : PLAN_ALL,
		.large_file = sync_options_large(w->opt),
		.keep = &w->guard.keep,
		.look = look,
		.siblings = siblings,
		.was_sibling = was_sibling,
		.settle = plan_settle,
		.settle_rename = plan_settle_rename,
		.ctx = w,
	};
	struct err err = ERR_INIT;

	w->env.rate_quarters = quarters_of(w->batch_flags);
	looker_init(&w->looker, w->env.source_fd);
	links_sweep(w->siblings.links);
	note_moves(w);
	if (wguard_begin(&w->guard, allow, &err) < 0 || plan_make(&w->plan, &in, &err) < 0 ||
	    wguard_planned(&w->guard, &w->plan, &err) < 0) {
		go_down(w, &err);
		return;
	}
	tell_guard(w);
	w->deleted_before = w->counters.entries_deleted;
	w->handed_over = 0;
	w->step = PLAN_APPLY;
	w->advance = true;
}

/* What the steps before have deleted counts, too. */
static void limit_deletions(struct worker *w, struct transport_work *work)
{
	int64_t done = (int64_t)(w->counters.entries_deleted - w->deleted_before);

	if (work->max_delete >= 0 && work->max_delete != INT64_MAX)
		work->max_delete = work->max_delete > done ? work->max_delete - done : 0;
}

/* What an open session needs is open by then; its peer is not heard yet. */
static int confine_once(struct worker *w, struct err *err)
{
	if (w->confined)
		return 0;
	if (worker_confine(w->transport, w->opt, w->env.source_fd, w->env.archive_path, &w->confinement, err) < 0)
		return -1;
	w->confined = true;
	return 0;
}

static int hand_over(struct worker *w, struct transport_work *work, struct err *err)
{
	limit_deletions(w, work);
	free(w->settled);
	free(w->settled_renames);
	w->settled = calloc(work->n_items + 1, sizeof(bool));
	w->settled_renames = calloc(work->n_renames + 1, sizeof(bool));
	if (w->settled == NULL || w->settled_renames == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (w->session == NULL)
		w->session = w->transport->open(&w->env, err);
	if (w->session == NULL || confine_once(w, err) < 0)
		return -1;
	tzset(); /* the day, for backupDir and in the log, is that of the zone that the host is in now */
	if (w->step == PLAN_APPLY || w->step == PLAN_TIMES)
		return w->transport->apply(w->session, work, err);
	link_search_hold(&w->search, true);
	return w->transport->reconcile(w->session, work, err);
}

/* Called from the loop, never from a transport's callback, so that a transport is not entered again from within. */
static void advance(struct worker *w)
{
	struct err err = ERR_INIT;

	w->advance = false;
	while (w->step < PLAN_STEPS) {
		struct transport_work *work = &w->plan.part[w->step].work;

		if (work->n_items > 0 || work->n_renames > 0) {
			if (hand_over(w, work, &err) < 0)
				go_down(w, &err);
			else
				w->working = true;
			return;
		}
		w->step++;
	}
	batch_over(w);
}

/* ---- messages from the daemon ---- */

static const struct transport *configured_transport(struct worker *w, struct err *err)
{
	const struct transport *t = w->config->n_syncs == 1 ? transport_find(w->opt->transport) : NULL;

	if (t == NULL)
		err_set(err, ERR_BUG, "the daemon sent a configuration without a sync");
	return t;
}

static int open_source(struct worker *w, struct err *err)
{
	struct stat st;

	w->env.source_fd = open(w->opt->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (w->env.source_fd < 0 || fstat(w->env.source_fd, &st) < 0)
		return err_errno(err, errno, "the source %s", w->opt->source);
	if (st.st_dev != w->source_dev || st.st_ino != w->source_ino)
		return err_set(err, ERR_GONE, "the source %s is not the directory that is watched", w->opt->source);
	return 0;
}

static int take_config(struct worker *w, const char *payload, size_t len, struct err *err)
{
	struct wire_config c;
	char title[16];

	if (w->config != NULL || !wire_get_config(payload, len, &c))
		return err_set(err, ERR_PROTOCOL, "malformed configuration message");
	log_set_mask(c.log_mask);
	w->source_dev = c.source_dev;
	w->source_ino = c.source_ino;
	memcpy(w->host_id, c.host_id, sizeof(w->host_id));
	host_boot_get(w->boot);
	w->runtime_dir = strdup(c.runtime_dir);
	w->archive_path = strdup(c.archive_path);
	w->config = w->deps->load(c.text, c.text_len, err);
	if (w->config == NULL || w->runtime_dir == NULL || w->archive_path == NULL)
		return err->class == ERR_NONE ? err_set(err, ERR_NOMEM, "out of memory") : -1;
	w->opt = w->config->syncs;
	w->transport = configured_transport(w, err);
	if (w->transport == NULL)
		return -1;
	(void)snprintf(title, sizeof(title), "fansyncd:%s", w->opt->name);
	(void)prctl(PR_SET_NAME, title, 0, 0, 0);
	w->env = (struct transport_env){
		.loop = w->loop,
		.opt = w->opt,
		.source_fd = -1,
		.runtime_dir = w->runtime_dir,
		.archive_path = w->archive_path[0] == '\0' ? NULL : w->archive_path,
		.host_id = w->host_id,
		.boot = w->boot,
		.counters = &w->counters,
		.memory = &w->memory,
		.ctx = w,
		.settle = on_settle,
		.settle_rename = on_settle_rename,
		.found = on_found,
		.finished = on_finished,
		.down = on_down,
		.progress = on_progress,
		.peer = on_peer,
		.hand_over = on_hand_over,
	};
	w->siblings = (struct siblings){ .links = links_new(LINK_NAMES_MAX),
					 .source = w->opt->source,
					 .looker = &w->looker,
					 .outside = tell_linked,
					 .ctx = w };
	if (w->siblings.links == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (open_source(w, err) < 0 || worker_confine_prepare(w->transport, w->opt, &w->env.lookups, err) < 0)
		return -1;
	wguard_init(&w->guard, w->opt, w->transport->caps, w->env.source_fd, w->source_dev, w->source_ino);
	return link_search_init(&w->search, w->loop, w->opt, &w->siblings, w->source_dev, err);
}

static void on_config(struct worker *w, const char *payload, size_t len)
{
	struct err err = ERR_INIT;

	if (take_config(w, payload, len, &err) < 0) {
		sent(w, wire_put_down(&w->out, &err));
		flush_out(w);
		loop_stop(w->loop, 1);
		return;
	}
	sent(w, wire_put_empty(&w->out, WIRE_READY));
}

static void on_frame(struct worker *w, uint8_t type, const char *payload, size_t len)
{
	uint32_t mask;

	switch (type) {
	case WIRE_CONFIG:
		on_config(w, payload, len);
		return;
	case WIRE_BATCH:
		if (w->config == NULL || w->batch != NULL)
			break;
		w->batch = wire_get_batch(payload, len, &w->batch_flags);
		if (w->batch == NULL)
			break;
		if (!w->ending) /* else its end says that it was not begun */
			start_batch(w);
		return;
	case WIRE_GUARD:
		if (w->config == NULL || w->batch != NULL || wguard_take(&w->guard, payload, len, NULL) < 0)
			break;
		return;
	case WIRE_LOG_MASK:
		if (!wire_get_u32(payload, len, &mask))
			break;
		log_set_mask(mask);
		return;
	default:
		break;
	}
	worker_fail(w, "a message from the daemon is malformed, or there is no memory for it");
}

static void take_frames(struct worker *w)
{
	const char *payload;
	size_t len;
	uint8_t type;
	int got;

	while ((got = frame_next(&w->in, WIRE_FRAME_MAX, &type, &payload, &len)) > 0)
		on_frame(w, type, payload, len);
	if (got < 0)
		worker_fail(w, "a frame from the daemon is too long");
}

static void on_socket(void *ctx, int fd, unsigned events)
{
	struct worker *w = ctx;
	ssize_t n;

	if ((events & (LOOP_READ | LOOP_HUP)) == 0)
		return; /* writable: before_wait flushes */
	if (!buf_reserve(&w->in, 256u * 1024)) {
		worker_fail(w, "out of memory");
		return;
	}
	n = recv(fd, w->in.data + w->in.len, 256u * 1024, MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		loop_stop(w->loop, 0);
		return;
	}
	if (n > 0) {
		w->in.len += (size_t)n;
		take_frames(w);
	}
}

static void before_wait(void *ctx)
{
	struct worker *w = ctx;

	if (w->down.class != ERR_NONE) {
		struct err why = w->down;

		w->down = (struct err)ERR_INIT;
		go_down(w, &why);
	}
	if (w->advance)
		advance(w);
	close_verdicts(w);
	flush_out(w);
	if (w->ending && w->out.len == 0)
		loop_stop(w->loop, 0);
}

static void on_signal(void *ctx, int signo)
{
	(void)signo;
	loop_stop(((struct worker *)ctx)->loop, 0);
}

static int set_up(struct worker *w, struct err *err)
{
	w->loop = loop_new(err);
	if (w->loop == NULL || loop_signal(w->loop, SIGTERM, on_signal, w, err) < 0)
		return -1;
	(void)signal(SIGPIPE, SIG_IGN);
	w->fd_source = loop_fd_add(w->loop, w->fd, LOOP_READ, on_socket, w, err);
	if (w->fd_source == NULL)
		return -1;
	loop_before_wait(w->loop, before_wait, w);
	return privileges_reduce(err);
}

static void tear_down(struct worker *w)
{
	if (w->batch != NULL)
		free_batch(w);
	close_session(w);
	if (w->search.timer != NULL)
		link_search_done(&w->search);
	looker_done(&w->looker);
	log_set_sink(NULL, NULL);
	wguard_done(&w->guard);
	loop_fd_remove(w->fd_source);
	if (w->config != NULL && w->env.source_fd >= 0)
		(void)close(w->env.source_fd);
	if (w->config != NULL)
		w->deps->unload(w->config);
	links_free(w->siblings.links);
	siblings_done(&w->siblings);
	free(w->runtime_dir);
	free(w->archive_path);
	buf_done(&w->in);
	buf_done(&w->out);
	if (w->loop != NULL)
		loop_free(w->loop);
}

int worker_run(int fd, const struct worker_deps *deps)
{
	struct worker w = { .deps = deps, .fd = fd, .verdicts_at = SIZE_MAX, .looker = { .dir_fd = -1 } };
	struct err err = ERR_INIT;
	int result;

	buf_init(&w.in, WIRE_FRAME_MAX + 512u * 1024);
	buf_init(&w.out, WIRE_QUEUE_MAX);
	log_set_sink(log_sink, &w);
	proc_return_memory();
	if (set_up(&w, &err) < 0) {
		/* There may be no loop to send it by; nothing stands in the socket's way yet. */
		if (wire_put_down(&w.out, &err))
			(void)!send(fd, w.out.data, w.out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		result = 1;
	} else {
		result = loop_run(w.loop, &err);
		/* Why it ends. */
		close_verdicts(&w);
		flush_out(&w);
	}
	tear_down(&w);
	return result < 0 ? 1 : result;
}
