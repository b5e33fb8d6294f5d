#include "transports/receiver_session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/guard_switches.h"
#include "core/log.h"
#include "core/path.h"
#include "core/transport.h"
#include "transports/local_files.h"
#include "transports/mirror.h"
#include "transports/receiver_source.h"
#include "transports/receiver_store.h"
#include "transports/tcp_options.h"
#include "transports/tcp_stream.h"
#include "transports/temp_name.h"
#include "transports/twoway_state.h"

#define CREDIT (4u * 1024 * 1024)
#define CHANGES_MAX 4096u
#define KEEPS_MAX 65536u
/* A work is read while the one before it is carried out. */
#define WORKS_MAX 3u
#define WORK_BYTES_MAX (4u * 1024 * 1024)
#define ARENA_BLOCK (64u * 1024)
#define WIDTH 256u
/* A few batches of questions: both ends are at work all the time. */
#define WIDTH_DIRS 256u
#define ACK_BYTES (48u * 1024)
/* One more is a path of 64 KiB at most, and a frame takes it. */
#define NOTES_BYTES (32u * 1024)

struct arena_block {
	struct arena_block *next;
	size_t used, size;
	char bytes[];
};

/* A work, and the paths it names. */
struct work {
	struct work *next;
	struct tcp_work head;
	struct transport_work work;
	struct batch_rename *renames;
	struct keep_list keep;
	struct twoway_state *agreed; /* of each item; NULL: one way */
	uint32_t got_renames, got_items;
	struct arena_block *arena;
	size_t arena_bytes;
	bool *settled; /* renames, then items */
	uint32_t next_open;
};

struct receiver_session {
	struct receiver_session_setup up;
	struct tcp_stream *stream;
	char *peer;
	const struct receiver_module *module;
	struct sync_options *opt;
	struct transport_counters counters, told;
	struct transport_env env;
	struct local_tree *tree;
	struct receiver_owners *owners;
	bool names; /* of owners: the sender is to tell them */
	struct receiver_source *source;
	struct fileops target_ops;
	uint32_t caps;
	struct mirror *mirror;
	struct tcp_welcome welcome;
	bool welcomed;
	struct work *first, *last; /* the first one is carried out */
	size_t n_works;
	enum tcp_kind kind;  /* of the last one that was begun; 0: none */
	uint64_t moved_in;   /* both ways: the last work that carried a rename; 0: none */
	bool running, begin; /* the engine has the first work; it is to be given it */
	uint64_t upto;
	bool ack_due;
	struct buf verdicts; /* of the next ACK */
	uint32_t n_verdicts;
	struct buf notes; /* of the next NOTE */
	uint32_t n_notes;
	struct buf scratch;
	struct loop_timer *urgent;
	int64_t env_progress_ns;     /* when progress was last told */
	struct loop_timer *greeting; /* the peer has until then to say HELLO */
	bool ending;
	bool disk_failed; /* to sync */
};

/* ---- works ---- */

static void free_work(struct work *w)
{
	while (w->arena != NULL) {
		struct arena_block *b = w->arena;

		w->arena = b->next;
		free(b);
	}
	keep_done(&w->keep);
	free(w->work.items);
	free(w->renames);
	free(w->settled);
	free(w->agreed);
	free(w);
}

static const char *arena_copy(struct work *w, const char *p, size_t len)
{
	struct arena_block *b = w->arena;
	char *at;

	if (b == NULL || b->size - b->used < len + 1) {
		size_t size = len + 1 > ARENA_BLOCK ? len + 1 : ARENA_BLOCK;

		if (w->arena_bytes + size > WORK_BYTES_MAX)
			return NULL;
		b = malloc(sizeof(*b) + size);
		if (b == NULL)
			return NULL;
		*b = (struct arena_block){ .next = w->arena, .size = size };
		w->arena = b;
		w->arena_bytes += size;
	}
	at = b->bytes + b->used;
	memcpy(at, p, len);
	at[len] = '\0';
	b->used += len + 1;
	return at;
}

static bool complete(const struct work *w)
{
	return w->keep.n == w->head.n_keeps && w->got_renames == w->head.n_renames && w->got_items == w->head.n_items;
}

static bool broken(struct err *err, const char *what)
{
	return err_set(err, ERR_PROTOCOL, "the sender sent %s that makes no sense", what) == 0;
}

static bool on_work(struct receiver_session *s, const char *payload, size_t len, struct err *err)
{
	struct work *w;
	struct tcp_work head;
	uint64_t expected;

	if (!tcp_get_work(payload, len, &head) || (s->last != NULL && !complete(s->last)) || s->n_works >= WORKS_MAX ||
	    head.n_renames > CHANGES_MAX || head.n_items > CHANGES_MAX || head.n_keeps > KEEPS_MAX ||
	    head.n_renames + head.n_items == 0 || (head.continues && head.kind != s->kind))
		return broken(err, "a work");
	expected =
		s->last == NULL ? s->upto + 1 : s->last->head.first + s->last->head.n_renames + s->last->head.n_items;
	if (head.first != expected)
		return broken(err, "a work");
	w = calloc(1, sizeof(*w));
	if (w != NULL) {
		w->work.items = calloc(head.n_items + 1, sizeof(*w->work.items));
		w->renames = calloc(head.n_renames + 1, sizeof(*w->renames));
		w->settled = calloc(head.n_renames + head.n_items + 1, sizeof(*w->settled));
		w->agreed = s->opt->bidirectional ? calloc(head.n_items + 1, sizeof(*w->agreed)) : NULL;
	}
	if (w == NULL || w->work.items == NULL || w->renames == NULL || w->settled == NULL ||
	    (s->opt->bidirectional && w->agreed == NULL)) {
		if (w != NULL)
			free_work(w);
		return err_set(err, ERR_NOMEM, "out of memory for a work") == 0;
	}
	w->head = head;
	w->work.renames = w->renames;
	w->work.keep = &w->keep;
	w->work.may_delete = head.may_delete;
	w->work.max_delete = head.max_delete;
	if (s->module->max_delete >= 0 && (head.max_delete < 0 || head.max_delete > s->module->max_delete))
		w->work.max_delete = s->module->max_delete;
	w->work.unguarded = head.unguarded;
	s->kind = head.kind;
	if (s->last != NULL)
		s->last->next = w;
	else
		s->first = w;
	s->last = w;
	s->n_works++;
	return true;
}

static bool on_keep(struct receiver_session *s, const char *payload, size_t len, struct err *err)
{
	struct work *w = s->last;
	const char *path, *why;
	struct tcp_keep k;

	if (w == NULL || w->keep.n == w->head.n_keeps || !tcp_get_keep(payload, len, &k))
		return broken(err, "a subtree to be kept");
	path = arena_copy(w, k.path.p, k.path.len);
	why = path == NULL || k.why.len == 0 ? NULL : arena_copy(w, k.why.p, k.why.len);
	if (path == NULL || (k.why.len > 0 && why == NULL) || !keep_add(&w->keep, path, k.path.len, why))
		return err_set(err, ERR_LIMIT, "a work that is too large") == 0;
	return true;
}

/* A sender shows no temporary files, and never changes what the module itself is. */
static bool name_allowed(const char *path, size_t len)
{
	size_t base = path_base(path, len);

	return len == 0 || !path_is_temp(path + base, len - base);
}

static bool on_rename(struct receiver_session *s, const char *payload, size_t len, struct err *err)
{
	struct work *w = s->last;
	struct batch_rename r;

	if (w == NULL || w->keep.n < w->head.n_keeps || w->got_renames == w->head.n_renames ||
	    !tcp_get_rename(payload, len, &r) || !name_allowed(r.from, r.from_len) || !name_allowed(r.to, r.to_len))
		return broken(err, "a rename");
	r.from = arena_copy(w, r.from, r.from_len);
	r.to = r.from == NULL ? NULL : arena_copy(w, r.to, r.to_len);
	if (r.to == NULL)
		return err_set(err, ERR_LIMIT, "a work that is too large") == 0;
	w->renames[w->got_renames++] = r;
	w->work.n_renames = w->got_renames;
	return true;
}

/* As the engine relies on it: the order of a walk, nothing twice; what is compared as a whole is not nested. */
static bool in_order(const struct work *w, const struct tcp_item *item)
{
	const struct transport_item *before = w->got_items == 0 ? NULL : &w->work.items[w->got_items - 1];

	if ((w->head.kind == TCP_RECONCILE || item->path.len == 0) && item->state.look != LOOK_DIR)
		return false;
	if (!name_allowed(item->path.p, item->path.len))
		return false;
	if (before == NULL)
		return true;
	if (path_compare(before->path, before->len, item->path.p, item->path.len) >= 0)
		return false;
	return w->head.kind == TCP_APPLY || !path_below(item->path.p, item->path.len, before->path, before->len);
}

static bool on_item(struct receiver_session *s, const char *payload, size_t len, struct err *err)
{
	struct work *w = s->last;
	struct tcp_item item;
	struct transport_item *out;

	if (w == NULL || w->keep.n < w->head.n_keeps || w->got_renames < w->head.n_renames ||
	    w->got_items == w->head.n_items || !tcp_get_item(payload, len, &item) || !in_order(w, &item))
		return broken(err, "an item");
	out = &w->work.items[w->got_items];
	*out = (struct transport_item){ .path = arena_copy(w, item.path.p, item.path.len),
					.len = item.path.len,
					.flags = item.flags,
					.tries = item.tries,
					.look = item.state.look,
					.st = item.state.st };
	if (out->path == NULL)
		return err_set(err, ERR_LIMIT, "a work that is too large") == 0;
	receiver_owners_map(s->owners, &out->st);
	if (w->agreed != NULL)
		w->agreed[w->got_items] = item.archive;
	if ((item.has_content || item.has_text) && !receiver_source_prime(s->source, &item, err))
		return false;
	w->got_items++;
	w->work.n_items = w->got_items;
	return true;
}

/* ---- both ways: the archive is the sender's ---- */

static void refuse(struct receiver_session *s, const struct err *why);

/* durability: before the sender is told that something is so, it has to be so on the disk. false: it may not be, and
 * the sender must not be told; the session ends, so that all of it is pending again. */
static bool on_disk(struct receiver_session *s)
{
	struct err why = ERR_INIT;

	if (s->opt->durability == DURABILITY_NONE)
		return true;
	if (s->disk_failed)
		return false;
	if (syncfs(s->up.module_fds[receiver_session_module(s)]) == 0)
		return true;
	err_set(&why, err_class_of_errno(errno),
		"the module %.100s: cannot sync: %s: nothing is acknowledged that a power failure might undo; look at "
		"the receiver's disk and its kernel's messages",
		s->module->name, strerror(errno));
	s->disk_failed = true;
	refuse(s, &why);
	return false;
}

static void send_notes(struct receiver_session *s)
{
	if (s->n_notes == 0)
		return;
	buf_clear(&s->scratch);
	buf_add_u32(&s->scratch, s->n_notes);
	(void)tcp_stream_send2(s->stream, TCP_NOTE, s->scratch.data, s->scratch.len, s->notes.data, s->notes.len,
			       ZSTREAM_PACK);
	tcp_stream_kick(s->stream);
	buf_clear(&s->notes);
	s->n_notes = 0;
}

static void on_note(void *ctx, const char *path, size_t len, const struct twoway_state *state)
{
	struct receiver_session *s = ctx;

	tcp_put_note(&s->notes, &(struct tcp_note){ .path = { path, len }, .state = *state });
	s->n_notes++;
	if (s->notes.len > NOTES_BYTES && on_disk(s))
		send_notes(s);
}

/* The sender learns of it before any question that follows; its items that are here already, or under way, tell what
 * was archived before. */
static void on_moved(void *ctx, const char *from, size_t from_len, const char *to, size_t to_len)
{
	struct receiver_session *s = ctx;

	if (!on_disk(s))
		return;
	send_notes(s);
	buf_clear(&s->scratch);
	tcp_put_moved(&s->scratch, from, from_len, to, to_len);
	(void)tcp_stream_send_buf(s->stream, TCP_MOVED, &s->scratch);
	tcp_stream_kick(s->stream);
	s->moved_in = s->first->head.id;
}

/* Whether an item's archived state is from before a rename that its path may have to do with. The sender had at most
 * WORKS_MAX works on their way then. */
static bool may_have_moved(const struct receiver_session *s)
{
	return s->moved_in != 0 && s->first->head.id - s->moved_in < WORKS_MAX;
}

/* Items are in the order of paths. */
static enum fileops_result on_get_agreed(void *ctx, struct fileop *op, const char *path, size_t len)
{
	struct receiver_session *s = ctx;
	const struct work *w = s->first;
	size_t low = 0, high = may_have_moved(s) ? 0 : w->work.n_items;

	while (low < high) {
		size_t at = low + (high - low) / 2;
		const struct transport_item *item = &w->work.items[at];
		int order = path_compare(item->path, item->len, path, len);

		if (order == 0) {
			op->agreed = w->agreed[at];
			return FILEOPS_OK;
		}
		if (order < 0)
			low = at + 1;
		else
			high = at;
	}
	return receiver_source_agreed(s->source, op, path, len);
}

static void on_conflict(void *ctx, const char *path, size_t len, const struct twoway_state *source,
			const struct twoway_state *target, bool source_wins)
{
	struct receiver_session *s = ctx;
	const struct tcp_conflict c = {
		.path = { path, len }, .source = *source, .target = *target, .source_won = source_wins
	};
	char a[TWOWAY_WORDS], b[TWOWAY_WORDS];

	log_warn("conflict: %.*s: the sender has a %s, the module a %s: %s", (int)(len < 500 ? len : 500), path,
		 twoway_words(source, a), twoway_words(target, b), source_wins ? "the sender's wins" : "ours wins");
	buf_clear(&s->scratch);
	tcp_put_conflict(&s->scratch, &c);
	(void)tcp_stream_send_buf(s->stream, TCP_CONFLICT, &s->scratch);
	tcp_stream_kick(s->stream);
}

/* ---- acknowledgements ---- */

static void send_ack(struct receiver_session *s)
{
	struct buf *out = &s->scratch;

	if ((s->ack_due || s->n_notes > 0) && !on_disk(s))
		return;
	/* What is agreed on is told before what is done. */
	send_notes(s);
	if (!s->ack_due && s->n_verdicts == 0)
		return;
	buf_clear(out);
	tcp_put_ack(out, s->upto, s->n_verdicts);
	(void)tcp_stream_send2(s->stream, TCP_ACK, out->data, out->len, s->verdicts.data, s->verdicts.len,
			       ZSTREAM_PACK);
	tcp_stream_kick(s->stream);
	buf_clear(&s->verdicts);
	s->n_verdicts = 0;
	s->ack_due = false;
}

static void settled(struct receiver_session *s, uint32_t at, enum verdict v, const struct err *why)
{
	struct work *w = s->first;
	uint32_t all = w->head.n_renames + w->head.n_items;

	if (at >= all || w->settled[at])
		return;
	w->settled[at] = true;
	if (v != VERDICT_DONE) {
		struct tcp_verdict tv = { .seq = w->head.first + at, .v = v };

		if (why != NULL)
			tv.why = *why;
		tcp_put_verdict(&s->verdicts, &tv);
		s->n_verdicts++;
	}
	while (w->next_open < all && w->settled[w->next_open])
		w->next_open++;
	if (w->next_open > 0 && w->head.first + w->next_open - 1 > s->upto) {
		s->upto = w->head.first + w->next_open - 1;
		s->ack_due = true;
	}
	if (s->verdicts.len > ACK_BYTES)
		send_ack(s);
	else
		loop_timer_after(s->urgent, 0);
}

static void on_settle(void *ctx, size_t index, enum verdict v, const struct err *why)
{
	struct receiver_session *s = ctx;
	const struct transport_item *item = &s->first->work.items[index];

	/* What was equal already is not asked for. */
	receiver_source_unprime(s->source, item->path, item->len);
	settled(s, s->first->head.n_renames + (uint32_t)index, v, why);
}

static void on_settle_rename(void *ctx, size_t index, enum verdict v, const struct err *why)
{
	settled(ctx, (uint32_t)index, v, why);
}

static void on_found(void *ctx, const char *path, size_t len, enum verdict v, const struct err *why)
{
	struct receiver_session *s = ctx;

	buf_clear(&s->scratch);
	tcp_put_found(&s->scratch, path, len, v, why);
	(void)tcp_stream_send_buf(s->stream, TCP_FOUND, &s->scratch);
	tcp_stream_kick(s->stream);
}

static void on_progress(void *ctx, const struct transport_progress *p)
{
	struct receiver_session *s = ctx;
	struct tcp_progress tp = { .phase = { p->phase, strlen(p->phase) },
				   .path = { p->path == NULL ? "" : p->path, p->path == NULL ? 0 : p->path_len },
				   .files = p->files,
				   .files_total = p->files_total,
				   .bytes = p->bytes,
				   .bytes_total = p->bytes_total };

	if (clock_mono_ns() - s->env_progress_ns < 100 * NS_PER_MS)
		return;
	s->env_progress_ns = clock_mono_ns();
	buf_clear(&s->scratch);
	tcp_put_progress(&s->scratch, &tp);
	(void)tcp_stream_send_buf(s->stream, TCP_PROGRESS, &s->scratch);
	tcp_stream_kick(s->stream);
}

static void on_finished(void *ctx)
{
	struct receiver_session *s = ctx;
	struct work *w = s->first;
	const struct transport_counters *c = &s->counters, *t = &s->told;
	struct tcp_done d = { .work = w->head.id,
			      .files = c->files_sent - t->files_sent,
			      .deletions = c->deletions - t->deletions,
			      .renames = c->renames_carried - t->renames_carried,
			      .entries = c->entries_deleted - t->entries_deleted };
	struct err why = ERR_INIT;

	err_set(&why, ERR_AGAIN, "the receiver ended without a word on it");
	for (uint32_t i = 0; i < w->head.n_renames + w->head.n_items; i++)
		settled(s, i, i < w->head.n_renames ? VERDICT_RECONCILE : VERDICT_RETRY, &why);
	send_ack(s);
	s->told = s->counters;
	buf_clear(&s->scratch);
	tcp_put_done(&s->scratch, &d);
	(void)tcp_stream_send_buf(s->stream, TCP_DONE, &s->scratch);
	tcp_stream_kick(s->stream);
	s->first = w->next;
	if (s->first == NULL)
		s->last = NULL;
	s->n_works--;
	free_work(w);
	s->running = false;
	s->begin = true;
	loop_timer_after(s->urgent, 0);
}

static void refuse(struct receiver_session *s, const struct err *why)
{
	log_error("%s: %s", s->up.from, why->text);
	buf_clear(&s->scratch);
	tcp_put_err(&s->scratch, why);
	(void)tcp_stream_send(s->stream, s->mirror == NULL ? TCP_REFUSE : TCP_BYE, s->scratch.data, s->scratch.len,
			      ZSTREAM_PACK);
	tcp_stream_finish(s->stream);
	loop_timer_after(s->greeting, s->up.opt->handshake_ns);
}

static void on_down(void *ctx, const struct err *why)
{
	refuse(ctx, why);
}

/* requireTargetMarker: looked for before each work. */
static bool has_marker(struct receiver_session *s, const struct transport_work *work, struct err *err)
{
	const char *marker = s->opt->require_target_marker;
	struct fileop op = { 0 };

	if (!GUARD_TARGET_MARKER || marker == NULL || work->unguarded ||
	    s->target_ops.look(s->tree, &op, marker, strlen(marker)) == FILEOPS_OK)
		return true;
	return err_set(err, ERR_UNSAFE,
		       "requireTargetMarker: %.200s is not in the module %.100s: nothing is carried. Mount the right "
		       "target, or make the file",
		       marker, s->module->name) == 0;
}

static void start_work(struct receiver_session *s)
{
	struct err err = ERR_INIT;

	s->begin = false;
	if (s->running || s->first == NULL || !complete(s->first))
		return;
	if (!has_marker(s, &s->first->work, &err)) {
		refuse(s, &err);
		return;
	}
	if (s->first->head.continues)
		mirror_continue(s->mirror);
	s->running = true;
	if (mirror_start(s->mirror, &s->first->work, s->first->head.kind == TCP_RECONCILE, &err) == 0)
		return;
	s->running = false;
	refuse(s, &err);
}

/* Never from within a callback of the engine. */
static void on_urgent(void *ctx)
{
	struct receiver_session *s = ctx;

	if (s->ending) {
		s->up.ended(s->up.ctx);
		return;
	}
	send_ack(s);
	if (s->begin)
		start_work(s);
}

/* ---- hello ---- */

static bool allowed(const struct receiver_module *m, const char *peer)
{
	if (m->allow.n == 0)
		return peer[0] == '\0'; /* nobody is named: only those who could not say who they are */
	for (size_t i = 0; i < m->allow.n; i++)
		if (strcmp(m->allow.v[i], peer) == 0)
			return true;
	return false;
}

/* Who may not use a module does not learn whether there is one. */
static const struct receiver_module *find_module(const struct receiver_session *s, const struct tcp_bytes *name)
{
	const struct receiver_options *opt = s->up.opt;

	for (size_t i = 0; i < opt->n_modules; i++) {
		const struct receiver_module *m = &opt->modules[i];

		if (strlen(m->name) == name->len && memcmp(m->name, name->p, name->len) == 0 && allowed(m, s->peer))
			return m;
	}
	return NULL;
}

/* Whether it matters what the sender's owners are called. */
static bool wants_names(const struct receiver_session *s, const struct tcp_hello *h)
{
	const struct rsync_options *o = &s->opt->rsync;

	return (h->features & TCP_FEATURE_NAMES) != 0 && !o->numeric_ids && !s->opt->bidirectional &&
	       ((o->owner && s->module->uid < 0) || (o->group && s->module->gid < 0));
}

static int take_hello(struct receiver_session *s, const struct tcp_hello *h, struct err *err)
{
	int fd;

	if (h->version_min > TCP_VERSION_MAX || h->version_max < TCP_VERSION_MIN)
		return err_set(err, ERR_CONFIG,
			       "the sender speaks versions %u to %u of the protocol, this receiver %u to %u: update "
			       "the older one",
			       h->version_min, h->version_max, TCP_VERSION_MIN, TCP_VERSION_MAX);
	s->module = find_module(s, &h->module);
	if (s->module == NULL)
		return err_set(err, ERR_AUTH, "there is no module \"%.*s\" for %s", (int)h->module.len, h->module.p,
			       s->peer[0] == '\0' ? "senders without a key" : s->peer);
	if (s->module->read_only)
		return err_set(err, ERR_DENIED, "the module %s is read-only (readOnly)", s->module->name);
	s->opt = tcp_get_options(h->options.p, h->options.len, err);
	if (s->opt == NULL)
		return -1;
	if (s->module->backup_dir != NULL) {
		s->opt->backup_dir = strdup(s->module->backup_dir);
		if (s->opt->backup_dir == NULL)
			return err_set(err, ERR_NOMEM, "out of memory for a session");
	}
	if (s->opt->bidirectional && (h->features & TCP_FEATURE_TWOWAY) == 0)
		return err_set(err, ERR_CONFIG, "both ways: the sender does not say that it can do that");
	if (s->opt->bidirectional && s->module->usermap.n + s->module->groupmap.n > 0)
		return err_set(err, ERR_CONFIG,
			       "both ways: the module %s has a usermap or groupmap, which leads one way",
			       s->module->name);
	s->names = wants_names(s, h);
	/* What is compared both ways is the numbers. */
	s->opt->rsync.numeric_ids = s->opt->rsync.numeric_ids || s->opt->bidirectional;
	fd = s->up.module_fds[receiver_session_module(s)];
	fd = fd < 0 ? -1 : openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "the module %s: its directory", s->module->name);
	s->tree = local_tree_new(s->up.loop, fd, err);
	return s->tree == NULL ? -1 : 0;
}

static int make_engine(struct receiver_session *s, const struct tcp_hello *h, struct err *err)
{
	const struct mirror_agreed agreed = {
		.get = on_get_agreed,
		.note = on_note,
		.moved = (h->features & TCP_FEATURE_RENAMES) != 0 ? on_moved : NULL,
		.conflict = on_conflict,
		.in_doubt = (h->features & TCP_FEATURE_DOUBT) != 0,
		.ctx = s,
	};
	struct mirror_setup m = { .env = &s->env, .width = WIDTH, .width_dirs = WIDTH_DIRS };
	char id[HOST_ID_TEXT];
	int64_t theirs;

	/* What the greeting took is in it: a clock that is said to be further ahead only makes more files be looked at.
	 */
	if (tcp_get_clock(h->options.p, h->options.len, &theirs))
		m.ahead_ns = clock_real_ns() - theirs;
	host_id_text(h->host_id, id);
	s->opt->name = text_dup(h->sync.p, h->sync.len);
	if (s->opt->name == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a session");
	s->env = (struct transport_env){ .loop = s->up.loop,
					 .opt = s->opt,
					 .source_fd = -1,
					 .counters = &s->counters,
					 .ctx = s,
					 .settle = on_settle,
					 .settle_rename = on_settle_rename,
					 .found = on_found,
					 .finished = on_finished,
					 .down = on_down,
					 .progress = on_progress };
	s->owners = receiver_owners_new(&(struct receiver_owners_setup){
		.module = s->module,
		.maps = s->up.module_owners == NULL ? NULL : &s->up.module_owners[receiver_session_module(s)],
		.names = s->names,
		.look_up = s->up.look_up,
		.ctx = s->up.ctx });
	if (s->owners == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a session");
	s->source =
		receiver_source_new(&(struct receiver_source_setup){ .loop = s->up.loop,
								     .stream = s->stream,
								     .credit = CREDIT,
								     .both_ways = s->opt->bidirectional,
								     .same = (h->features & TCP_FEATURE_SAME) != 0,
								     .parts = (h->features & TCP_FEATURE_PARTS) != 0,
								     .owners = s->owners },
				    err);
	if (s->source == NULL)
		return -1;
	m.source = receiver_source_end(s->source);
	receiver_fileops(&s->target_ops, s->opt->durability == DURABILITY_FILE);
	m.target = local_tree_end(s->tree, true);
	s->caps = m.target.caps;
	/* The digest of the whole tells whether what was left is right. */
	if ((h->features & TCP_FEATURE_RESUME) != 0)
		m.target.caps |= FILEOPS_RESUME | FILEOPS_CHECKED;
	m.target.ops = &s->target_ops;
	if (s->opt->bidirectional)
		m.agreed = &agreed;
	m.tag = temp_tag(id, s->opt->name, s->module->path, s->module->name);
	s->mirror = mirror_new(&m, err);
	return s->mirror == NULL ? -1 : 0;
}

void receiver_session_welcome(struct receiver_session *s)
{
	struct tcp_welcome *w = &s->welcome;
	struct stat root;

	if (local_tree_root(s->tree, &root) == 0) {
		w->dev = root.st_dev;
		w->ino = root.st_ino;
	}
	if ((w->features & TCP_FEATURE_STATE) != 0)
		local_tree_state(s->tree, &w->state);
	w->software = (struct tcp_bytes){ "fansyncd " FANSYNCD_VERSION, strlen("fansyncd " FANSYNCD_VERSION) };
	w->credit = CREDIT;
	w->max_changes = CHANGES_MAX;
	w->caps = s->caps;
	memcpy(w->host_id, s->up.host_id, sizeof(w->host_id));
	memcpy(w->boot, s->up.boot, sizeof(w->boot));
	buf_clear(&s->scratch);
	tcp_put_welcome(&s->scratch, w);
	(void)tcp_stream_send_buf(s->stream, TCP_WELCOME, &s->scratch);
	if ((w->features & TCP_FEATURE_ZSTD) != 0)
		(void)tcp_stream_use_zstd(s->stream, ZSTREAM_WINDOW_LOG_SMALL);
	tcp_stream_kick(s->stream);
	loop_timer_stop(s->greeting);
	s->welcomed = true;
	log_normal("%s: %s mirrors %s to module %s", s->up.from, s->peer[0] == '\0' ? "a sender" : s->peer,
		   s->opt->name, s->module->name);
}

static bool on_hello(struct receiver_session *s, const char *payload, size_t len, struct err *err)
{
	struct tcp_hello h;
	struct host_tree from = { 0 };
	struct err why = ERR_INIT;
	struct stat root;

	if (!tcp_get_hello(payload, len, &h))
		return broken(err, "a greeting");
	if (take_hello(s, &h, &why) < 0 || make_engine(s, &h, &why) < 0) {
		mirror_free(s->mirror);
		s->mirror = NULL;
		refuse(s, &why);
		return true;
	}
	s->welcome.version = h.version_max < TCP_VERSION_MAX ? h.version_max : TCP_VERSION_MAX;
	s->welcome.features =
		h.features & (TCP_FEATURE_DELTA | TCP_FEATURE_RESUME | TCP_FEATURE_TWOWAY | TCP_FEATURE_MOVED |
			      TCP_FEATURE_ZSTD | TCP_FEATURE_FINER | TCP_FEATURE_SAME | TCP_FEATURE_RENAMES |
			      TCP_FEATURE_PARTS | TCP_FEATURE_STATE | TCP_FEATURE_BOOT | TCP_FEATURE_DOUBT);
	if (s->names)
		s->welcome.features |= TCP_FEATURE_NAMES;
	memcpy(from.host, h.host_id, sizeof(from.host));
	tcp_get_root(h.options.p, h.options.len, &from.dev, &from.ino);
	if (local_tree_root(s->tree, &root) == 0) {
		from.here_dev = root.st_dev;
		from.here_ino = root.st_ino;
	}
	s->up.greeted(s->up.ctx, &from);
	return true;
}

/* ---- the stream ---- */

static void on_ready(void *ctx, const char *peer)
{
	struct receiver_session *s = ctx;
	struct err why = ERR_INIT;

	if (s->up.proved != NULL)
		s->up.proved(s->up.ctx);
	s->peer = strdup(peer);
	if (s->peer != NULL)
		return;
	err_set(&why, ERR_NOMEM, "out of memory for a session");
	refuse(s, &why);
}

static bool on_frame(void *ctx, uint8_t type, const char *payload, size_t len, struct err *err)
{
	struct receiver_session *s = ctx;
	bool ok;

	if (s->mirror == NULL)
		return type == TCP_HELLO ? on_hello(s, payload, len, err) : broken(err, "a frame before its greeting");
	if (!s->welcomed)
		return broken(err, "a frame before the answer to its greeting");
	switch (type) {
	case TCP_WORK:
		return on_work(s, payload, len, err);
	case TCP_KEEP:
		ok = on_keep(s, payload, len, err);
		break;
	case TCP_RENAME:
		ok = on_rename(s, payload, len, err);
		break;
	case TCP_ITEM:
		ok = on_item(s, payload, len, err);
		break;
	case TCP_NAME:
		return receiver_owners_frame(s->owners, payload, len) || broken(err, "a name");
	case TCP_BYE:
		tcp_stream_finish(s->stream);
		loop_timer_after(s->greeting, s->up.opt->handshake_ns);
		return true;
	default:
		return receiver_source_frame(s->source, type, payload, len, err);
	}
	if (ok && !s->running && complete(s->first)) {
		s->begin = true;
		loop_timer_after(s->urgent, 0);
	}
	return ok;
}

static void on_drained(void *ctx)
{
	(void)ctx; /* what the engine asks for is bounded by its width */
}

static void on_ended(void *ctx, const struct err *why)
{
	struct receiver_session *s = ctx;

	if (why->class == ERR_GONE)
		log_info("%s: %s", s->up.from, why->text);
	else
		log_warn("%s: %s", s->up.from, why->text);
	s->ending = true;
	loop_timer_after(s->urgent, 0);
}

/* Bytes that trickle in, or pings, are a sign of life, but no greeting. */
static void on_no_greeting(void *ctx)
{
	struct receiver_session *s = ctx;

	log_warn("%s: %s", s->up.from,
		 s->mirror == NULL ? "no greeting within handshakeTimeout" : "it does not take the end of the session");
	s->ending = true;
	on_urgent(s);
}

struct receiver_session *receiver_session_new(const struct receiver_session_setup *setup, struct err *err)
{
	const struct receiver_options *opt = setup->opt;
	struct tcp_stream_limits limits = { .handshake_ns = opt->handshake_ns,
					    .silence_ns = opt->timeout_ns,
					    .level = -1 };
	struct tcp_stream_handler h = {
		.ready = on_ready, .frame = on_frame, .drained = on_drained, .ended = on_ended
	};
	struct receiver_session *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		(void)close(setup->fd);
		err_set(err, ERR_NOMEM, "out of memory for a session");
		return NULL;
	}
	s->up = *setup;
	buf_init(&s->scratch, TCP_FRAME_MAX);
	buf_init(&s->verdicts, TCP_FRAME_MAX);
	buf_init(&s->notes, TCP_FRAME_MAX);
	s->urgent = loop_timer_add(setup->loop, on_urgent, s, err);
	s->greeting = loop_timer_add(setup->loop, on_no_greeting, s, err);
	h.ctx = s;
	if (s->urgent == NULL || s->greeting == NULL) {
		(void)close(setup->fd);
		receiver_session_free(s);
		return NULL;
	}
	s->stream = tcp_stream_new(setup->loop, setup->fd, setup->tls, &limits, &h, err);
	if (s->stream == NULL) {
		receiver_session_free(s);
		return NULL;
	}
	loop_timer_after(s->greeting, opt->handshake_ns);
	return s;
}

size_t receiver_session_module(const struct receiver_session *s)
{
	return (size_t)(s->module - s->up.opt->modules);
}

bool receiver_session_proved(const struct receiver_session *s)
{
	return s->peer != NULL;
}

void receiver_session_free(struct receiver_session *s)
{
	if (s == NULL)
		return;
	if (s->mirror != NULL)
		mirror_remove_temps(s->mirror);
	mirror_free(s->mirror); /* it drops its open files */
	receiver_source_free(s->source);
	receiver_owners_free(s->owners);
	local_tree_free(s->tree);
	tcp_stream_free(s->stream);
	while (s->first != NULL) {
		struct work *w = s->first;

		s->first = w->next;
		free_work(w);
	}
	tcp_options_free(s->opt);
	loop_timer_remove(s->urgent);
	loop_timer_remove(s->greeting);
	buf_done(&s->scratch);
	buf_done(&s->verdicts);
	buf_done(&s->notes);
	free(s->peer);
	free(s);
}
