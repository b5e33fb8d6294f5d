/*
 * tcp.c - the transport "tcp": works and the content of files to a receiver, over one connection (docs/PROTOCOL.md).
 *
 * The engine that decides what to write is the receiver's. Here a work is cut into pieces that a receiver takes, what
 * it asks for is answered (tcp_serve.h), and what it acknowledges is settled.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/clock.h"
#include "core/confine.h"
#include "core/log.h"
#include "core/path.h"
#include "core/resolve.h"
#include "core/transport.h"
#include "transports/limit.h"
#include "transports/local_files.h"
#include "transports/mirror.h"
#include "transports/tcp_above.h"
#include "transports/tcp_frames.h"
#include "transports/tcp_options.h"
#include "transports/tcp_private.h"
#include "transports/tcp_serve.h"
#include "transports/tcp_stream.h"
#include "transports/throttle.h"
#include "transports/tls.h"

#define MEMORY_MAX (4u * 1024 * 1024)
#define DELTA_CHANGES_MAX 4096u
/* Paths of one piece of a work. */
#define PIECE_BYTES (1024u * 1024)
/* Pieces that a receiver has at a time: one is carried out while the next one travels. */
#define PIECES_MAX 2u
#define NO_ITEM UINT32_MAX

/* A piece of a work that is under way. */
struct piece {
	struct piece *next;
	uint64_t id, first;
	uint32_t n_renames, n_items;
	uint32_t *index; /* of each item in the work; NO_ITEM: a directory above, sent along for its times */
	bool *settled;	 /* renames, then items */
	uint32_t next_open;
	uint32_t sent; /* items sent so far */
	bool begun;
	bool continues; /* not the first one of its work */
};

struct tcp_target {
	const struct transport_env *env;
	struct tls_context *tls;
	struct tcp_stream *stream;
	struct tcp_serve *serve;
	struct tcp_memory *memory;
	struct tcp_names *names;   /* of owners; NULL: the receiver does not want them */
	struct tcp_twoway *twoway; /* NULL: one way */
	struct local_tree *tree;
	struct fileops_end source;
	struct resolver *resolver; /* while the host's name is looked up */
	struct resolve_address addresses[RESOLVE_MAX];
	size_t n_addresses, address; /* while connecting; the next to be tried */
	bool ready;		     /* WELCOME came */
	uint32_t max_changes;
	uint64_t reserve; /* credit that is left to what the receiver asks for */
	uint64_t bytes_told;

	const struct transport_work *work; /* NULL: idle */
	bool reconcile;
	size_t renames_cut, items_cut; /* cut into pieces so far */
	struct piece *first, *last;
	size_t n_pieces;
	uint64_t last_id, last_seq;
	struct loop_timer *urgent;
	struct throttle throttle;
	struct limit limit;	      /* what the throttle follows */
	struct loop_timer *throttled; /* content is sent again */
	struct err down;	      /* class not NONE: to be told from the timer */
	struct buf scratch;
	char *content; /* TCP_INLINE_MAX */
};

static void submit(struct tcp_target *t);
static void connect_next(struct tcp_target *t, const struct err *why);

/* ---- settling ---- */

static void free_piece(struct piece *p)
{
	free(p->index);
	free(p->settled);
	free(p);
}

static void forget_work(struct tcp_target *t)
{
	while (t->first != NULL) {
		struct piece *p = t->first;

		t->first = p->next;
		free_piece(p);
	}
	t->last = NULL;
	t->n_pieces = 0;
	t->work = NULL;
	t->renames_cut = t->items_cut = 0;
	/* Until the next one directories may be replaced. */
	t->source.ops->idle(t->source.ctx);
}

static void settle(struct tcp_target *t, struct piece *p, uint32_t at, enum verdict v, const struct err *why)
{
	if (p->settled[at])
		return;
	p->settled[at] = true;
	if (at < p->n_renames)
		t->env->settle_rename(t->env->ctx, (size_t)p->index[p->n_items] + at, v, why);
	else if (p->index[at - p->n_renames] != NO_ITEM)
		t->env->settle(t->env->ctx, p->index[at - p->n_renames], v, why);
	else if (v != VERDICT_DONE && v != VERDICT_GONE)
		log_debug(LOG_CAT_RECORD, "a directory's times were not set: %s",
			  why == NULL ? "no reason" : why->text);
}

static struct piece *piece_of(const struct tcp_target *t, uint64_t seq)
{
	struct piece *p = t->first;

	while (p != NULL && (seq < p->first || seq >= p->first + p->n_renames + p->n_items))
		p = p->next;
	return p;
}

/* The last number that the receiver has heard of. */
static uint64_t sent_upto(const struct tcp_target *t)
{
	for (const struct piece *p = t->first; p != NULL; p = p->next)
		if (!p->begun || p->sent < p->n_items)
			return p->first - 1 + (p->begun ? p->n_renames + p->sent : 0);
	return t->last_seq;
}

static bool on_ack(struct tcp_target *t, const char *payload, size_t len)
{
	struct tcp_verdict v;
	struct reader r;
	uint64_t upto;
	uint32_t count;

	if (!tcp_get_ack(payload, len, &r, &upto, &count) || upto > sent_upto(t))
		return false;
	for (uint32_t i = 0; i < count; i++) {
		struct piece *p;

		if (!tcp_next_verdict(&r, &v) || v.seq > sent_upto(t))
			return false;
		p = piece_of(t, v.seq);
		if (p == NULL)
			return false;
		settle(t, p, (uint32_t)(v.seq - p->first), v.v, v.why.class == ERR_NONE ? NULL : &v.why);
	}
	if (!tcp_all_read(&r))
		return false;
	for (struct piece *p = t->first; p != NULL && p->first <= upto; p = p->next)
		for (; p->next_open < p->n_renames + p->n_items && p->first + p->next_open <= upto; p->next_open++)
			settle(t, p, p->next_open, VERDICT_DONE, NULL);
	return true;
}

/* What both ends agree on is kept before the work is told as finished. */
static bool commit(struct tcp_target *t)
{
	bool whole = t->reconcile && t->work->n_items > 0 && t->work->items[0].len == 0;

	if (t->twoway == NULL || tcp_twoway_commit(t->twoway, whole, &t->down) == 0)
		return true;
	loop_timer_after(t->urgent, 0);
	return false;
}

static bool on_done(struct tcp_target *t, const char *payload, size_t len)
{
	struct piece *p = t->first;
	struct tcp_done d;

	if (!tcp_get_done(payload, len, &d) || p == NULL || d.work != p->id || !p->begun || p->sent < p->n_items)
		return false;
	t->env->counters->files_sent += d.files;
	t->env->counters->deletions += d.deletions;
	t->env->counters->renames_carried += d.renames;
	t->env->counters->entries_deleted += d.entries;
	t->first = p->next;
	if (t->first == NULL)
		t->last = NULL;
	t->n_pieces--;
	free_piece(p);
	if (t->first == NULL && t->items_cut == t->work->n_items && t->renames_cut == t->work->n_renames) {
		if (!commit(t))
			return true;
		forget_work(t);
		t->env->finished(t->env->ctx);
	} else {
		submit(t);
	}
	return true;
}

/* ---- cutting and sending works ---- */

static struct piece *new_piece(uint32_t n_renames, uint32_t n_items)
{
	struct piece *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->index = calloc(n_items + 1, sizeof(*p->index));
	p->settled = calloc(n_renames + n_items + 1, sizeof(*p->settled));
	if (p->index == NULL || p->settled == NULL) {
		free_piece(p);
		return NULL;
	}
	p->n_renames = n_renames;
	p->n_items = n_items;
	return p;
}

/* The next piece: renames first, then items; as many as a receiver takes. NULL: out of memory. */
static struct piece *cut(struct tcp_target *t)
{
	const struct transport_work *w = t->work;
	uint32_t n_parents, n_renames = 0, n_items = 0;
	struct tcp_above above = { .n = 0 };
	size_t bytes = 0;
	struct piece *p;

	while (t->renames_cut + n_renames < w->n_renames && n_renames < t->max_changes && bytes < PIECE_BYTES) {
		const struct batch_rename *r = &w->renames[t->renames_cut + n_renames];

		bytes += r->from_len + r->to_len;
		n_renames++;
	}
	if (t->renames_cut + n_renames == w->n_renames) {
		if (t->items_cut > 0 && t->items_cut < w->n_items && !t->reconcile &&
		    !tcp_above_init(&above, w->items, t->items_cut))
			return NULL;
		/* An item, and perhaps the directory that it is in. */
		while (t->items_cut + n_items < w->n_items && above.n_taken + n_items + 2 <= t->max_changes &&
		       bytes < PIECE_BYTES) {
			const struct transport_item *item = &w->items[t->items_cut + n_items++];
			long parent = tcp_above_take(&above, item);

			bytes += item->len + (parent > 0 ? (size_t)parent : 0);
		}
	}
	n_parents = above.n_taken;
	p = new_piece(n_renames, n_parents + n_items);
	for (uint32_t i = 0; p != NULL && i < n_parents; i++)
		p->index[i] = above.at[n_parents - 1 - i] | 0x80000000u;
	tcp_above_done(&above);
	if (p == NULL)
		return NULL;
	for (uint32_t i = 0; i < n_items; i++)
		p->index[n_parents + i] = (uint32_t)(t->items_cut + i);
	p->index[n_parents + n_items] = (uint32_t)t->renames_cut;
	p->continues = t->renames_cut + t->items_cut > 0;
	t->renames_cut += n_renames;
	t->items_cut += n_items;
	p->id = ++t->last_id;
	p->first = t->last_seq + 1;
	t->last_seq += n_renames + n_parents + n_items;
	if (t->last != NULL)
		t->last->next = p;
	else
		t->first = p;
	t->last = p;
	t->n_pieces++;
	return p;
}

static bool send_scratch(struct tcp_target *t, enum tcp_frame type)
{
	return tcp_stream_send_buf(t->stream, type, &t->scratch);
}

static bool begin_piece(struct tcp_target *t, struct piece *p)
{
	const struct tcp_work w = { .id = p->id,
				    .first = p->first,
				    .kind = t->reconcile ? TCP_RECONCILE : TCP_APPLY,
				    .may_delete = t->work->may_delete,
				    .max_delete = t->work->max_delete,
				    .continues = p->continues,
				    .unguarded = t->work->unguarded,
				    .n_renames = p->n_renames,
				    .n_items = p->n_items,
				    .n_keeps = t->work->keep == NULL ? 0 : (uint32_t)t->work->keep->n };

	buf_clear(&t->scratch);
	tcp_put_work(&t->scratch, &w);
	if (!send_scratch(t, TCP_WORK))
		return false;
	for (uint32_t i = 0; i < w.n_keeps; i++) {
		buf_clear(&t->scratch);
		tcp_put_keep(&t->scratch, &t->work->keep->v[i]);
		if (!send_scratch(t, TCP_KEEP))
			return false;
	}
	for (uint32_t i = 0; i < p->n_renames; i++) {
		buf_clear(&t->scratch);
		tcp_put_rename(&t->scratch, &t->work->renames[p->index[p->n_items] + i]);
		if (!send_scratch(t, TCP_RENAME))
			return false;
	}
	p->begun = true;
	return true;
}

/* The whole content of a small file, if it is there to be had, and one version of it. */
static bool read_small(struct tcp_target *t, const struct transport_item *item, struct tcp_item *out)
{
	const struct fileops *ops = t->source.ops;
	XXH128_canonical_t digest;
	struct fileop op = { 0 };
	struct stat before;
	size_t n = 0, size;
	bool fine = false;

	if (ops->open(t->source.ctx, &op, item->path, item->len, NULL) != FILEOPS_OK)
		return false;
	before = op.st;
	size = (size_t)before.st_size;
	if (before.st_size <= TCP_INLINE_MAX) {
		ssize_t got = 1;

		while (n < size && (got = pread(op.file.fd, t->content + n, size - n, (off_t)n)) > 0)
			n += (size_t)got;
		fine = got > 0 && n == size && ops->restat(t->source.ctx, &op, &op.file) == FILEOPS_OK &&
		       op.st.st_size == before.st_size && op.st.st_mtim.tv_sec == before.st_mtim.tv_sec &&
		       op.st.st_mtim.tv_nsec == before.st_mtim.tv_nsec &&
		       op.st.st_ctim.tv_sec == before.st_ctim.tv_sec &&
		       op.st.st_ctim.tv_nsec == before.st_ctim.tv_nsec &&
		       tcp_serve_take_credit(t->serve, n, t->reserve);
	}
	ops->drop(t->source.ctx, &op.file);
	if (!fine)
		return false;
	out->state.st = before;
	out->has_content = true;
	out->content = (struct tcp_bytes){ t->content, n };
	XXH128_canonicalFromHash(&digest, XXH3_128bits(t->content, n));
	memcpy(out->digest, digest.digest, sizeof(out->digest));
	return true;
}

static bool send_item(struct tcp_target *t, const struct transport_item *item, bool along)
{
	struct tcp_item out = { .path = { item->path, item->len },
				.flags = item->flags & ~(unsigned)MARK_LATE, /* a receiver clears up itself */
				.tries = item->tries,
				.state = { .look = item->look, .st = item->st } };
	enum zstream_how how = ZSTREAM_PACK;
	struct fileop op = { 0 };
	bool ok;

	/* Both ways most of what is looked at was sent by the other side, or is not to be sent: content is asked for.
	 */
	if (t->twoway != NULL) {
		if (tcp_twoway_get(t->twoway, item->path, item->len, &out.archive, &t->down) < 0) {
			loop_timer_after(t->urgent, 0);
			return false;
		}
		out.has_archive = true;
	}
	if (t->twoway == NULL && !along && !t->reconcile && item->look == LOOK_FILE &&
	    item->st.st_size <= TCP_INLINE_MAX && !t->env->opt->rsync.checksum && read_small(t, item, &out) &&
	    zstream_random(out.content.p, out.content.len < 4096 ? out.content.len : 4096))
		how = ZSTREAM_STORE;
	if (item->look == LOOK_SYMLINK &&
	    t->source.ops->readlink(t->source.ctx, &op, item->path, item->len) == FILEOPS_OK) {
		out.has_text = true;
		out.text = (struct tcp_bytes){ op.bytes, op.n_bytes };
	}
	if (item->look != LOOK_ABSENT)
		tcp_names_tell(t->names, &out.state.st);
	buf_clear(&t->scratch);
	tcp_put_item(&t->scratch, &out);
	ok = !t->scratch.failed && tcp_stream_send2(t->stream, TCP_ITEM, t->scratch.data, t->scratch.len, out.content.p,
						    out.has_content ? out.content.len : 0, how);
	free(op.bytes);
	return ok;
}

/* false: the stream takes no more now (or is lost: its end follows). */
static bool send_piece(struct tcp_target *t, struct piece *p)
{
	if (!p->begun && (!tcp_stream_writable(t->stream) || !begin_piece(t, p)))
		return false;
	while (p->sent < p->n_items) {
		uint32_t index = p->index[p->sent];
		bool along = (index & 0x80000000u) != 0;

		if (!tcp_stream_writable(t->stream) || throttle_wait_ns(&t->throttle, clock_mono_ns()) > 0 ||
		    !send_item(t, &t->work->items[index & 0x7fffffffu], along))
			return false;
		if (along)
			p->index[p->sent] = NO_ITEM;
		p->sent++;
	}
	return true;
}

static void out_of_memory(struct tcp_target *t)
{
	err_set(&t->down, ERR_NOMEM, "out of memory for what is to be sent");
	loop_timer_after(t->urgent, 0);
}

static void submit(struct tcp_target *t)
{
	if (!t->ready || t->work == NULL)
		return;
	for (;;) {
		struct piece *p = t->last;

		if (p == NULL || p->sent == p->n_items) {
			bool more = t->renames_cut < t->work->n_renames || t->items_cut < t->work->n_items;

			if (!more || t->n_pieces >= PIECES_MAX)
				break;
			p = cut(t);
			if (p == NULL) {
				out_of_memory(t);
				return;
			}
		}
		if (!send_piece(t, p))
			break;
	}
	tcp_stream_kick(t->stream);
}

/* ---- frames ---- */

/* What its own receiver sends there is not to come back from here. */
static void tell_peer(const struct tcp_target *t, const struct tcp_welcome *w)
{
	struct host_tree peer = { .dev = w->dev, .ino = w->ino };

	memcpy(peer.host, w->host_id, sizeof(peer.host));
	memcpy(peer.boot, w->boot, sizeof(peer.boot));
	tcp_stream_peer(t->stream, peer.address);
	if (t->env->host != NULL && (w->features & TCP_FEATURE_STATE) != 0)
		t->env->host(t->env->ctx, &w->state);
	if (t->env->peer != NULL)
		t->env->peer(t->env->ctx, &peer);
}

/* Both ways it is the numbers that are compared. */
static bool tells_names(const struct tcp_target *t)
{
	const struct rsync_options *o = &t->env->opt->rsync;

	return t->twoway == NULL && !o->numeric_ids && (o->owner || o->group);
}

static bool on_welcome(struct tcp_target *t, const char *payload, size_t len, struct err *err)
{
	struct tcp_serve_setup setup = { .stream = t->stream,
					 .source = t->source,
					 .filter = t->env->opt->filter,
					 .sparse = t->env->opt->rsync.sparse,
					 .throttle = &t->throttle,
					 .twoway = t->twoway,
					 .memory = t->memory,
					 .hand_over = t->twoway == NULL ? t->env->hand_over : NULL,
					 .hand_over_ctx = t->env->ctx };
	struct tcp_welcome w;

	if (!tcp_get_welcome(payload, len, &w) || w.credit < TCP_CREDIT_MIN || w.max_changes < TCP_CHANGES_MIN)
		return err_set(err, ERR_PROTOCOL, "the receiver's greeting makes no sense") == 0;
	if (w.version < TCP_VERSION_MIN || w.version > TCP_VERSION_MAX)
		return err_set(err, ERR_CONFIG,
			       "the receiver, %.*s, goes on in version %u of the protocol, this sender speaks %u to "
			       "%u: "
			       "update the older one",
			       (int)w.software.len, w.software.p, w.version, TCP_VERSION_MIN, TCP_VERSION_MAX) == 0;
	if (t->twoway != NULL && (w.features & TCP_FEATURE_TWOWAY) == 0)
		return err_set(err, ERR_CONFIG,
			       "the receiver, %.*s, does not mirror both ways (bidirectional): update it",
			       (int)w.software.len, w.software.p) == 0;
	if (!tells_names(t))
		w.features &= ~(uint32_t)TCP_FEATURE_NAMES;
	if ((w.features & TCP_FEATURE_NAMES) != 0)
		t->names =
			tcp_names_new(t->stream, t->env->lookups, t->env->opt->rsync.owner, t->env->opt->rsync.group);
	setup.names = t->names;
	setup.features = w.features;
	if ((w.features & TCP_FEATURE_ZSTD) != 0 && !tcp_stream_use_zstd(t->stream, ZSTREAM_WINDOW_LOG))
		return err_set(err, ERR_NOMEM, "out of memory for a connection") == 0;
	t->serve = tcp_serve_new(&setup);
	if (t->serve == NULL || ((w.features & TCP_FEATURE_NAMES) != 0 && t->names == NULL))
		return err_set(err, ERR_NOMEM, "out of memory for a connection") == 0;
	tcp_serve_add_credit(t->serve, w.credit);
	t->reserve = w.credit / 2;
	t->max_changes = w.max_changes < DELTA_CHANGES_MAX ? w.max_changes : DELTA_CHANGES_MAX;
	t->ready = true;
	tell_peer(t, &w);
	log_info("connected to %s, %.*s", t->env->opt->target, (int)w.software.len, w.software.p);
	submit(t);
	return true;
}

static bool on_found(struct tcp_target *t, const char *payload, size_t len)
{
	struct tcp_bytes path;
	enum verdict v;
	struct err why;

	if (t->work == NULL || !tcp_get_found(payload, len, &path, &v, &why))
		return false;
	t->env->found(t->env->ctx, path.p, path.len, v, why.class == ERR_NONE ? NULL : &why);
	return true;
}

static bool on_progress(struct tcp_target *t, const char *payload, size_t len)
{
	struct tcp_progress p;
	char phase[24];

	if (!tcp_get_progress(payload, len, &p))
		return false;
	(void)snprintf(phase, sizeof(phase), "%.*s", (int)(p.phase.len < 20 ? p.phase.len : 20), p.phase.p);
	t->env->progress(t->env->ctx, &(struct transport_progress){ .phase = phase,
								    .files = p.files,
								    .files_total = p.files_total,
								    .bytes = p.bytes,
								    .bytes_total = p.bytes_total,
								    .path = p.path.p,
								    .path_len = p.path.len });
	return true;
}

static bool take_frame(struct tcp_target *t, uint8_t type, const char *payload, size_t len, struct err *err)
{
	switch (type) {
	case TCP_ACK:
		return on_ack(t, payload, len);
	case TCP_FOUND:
		return on_found(t, payload, len);
	case TCP_PROGRESS:
		return on_progress(t, payload, len);
	case TCP_DONE:
		return on_done(t, payload, len);
	case TCP_NOTE:
	case TCP_MOVED:
	case TCP_CONFLICT:
		return t->twoway != NULL && t->work != NULL && tcp_twoway_frame(t->twoway, type, payload, len, err);
	case TCP_HASHES:
	case TCP_SIGNATURE:
		/* Of a very large file they come for longer than a worker may show no progress. */
		t->env->progress(t->env->ctx, &(struct transport_progress){ .phase = "comparing" });
		return tcp_serve_frame(t->serve, type, payload, len, err);
	default:
		return tcp_serve_frame(t->serve, type, payload, len, err);
	}
}

static bool on_frame(void *ctx, uint8_t type, const char *payload, size_t len, struct err *err)
{
	struct tcp_target *t = ctx;

	if (type == TCP_REFUSE || type == TCP_BYE)
		return tcp_read_refusal(payload, len, err);
	if (!t->ready)
		return type == TCP_WELCOME ? on_welcome(t, payload, len, err) : false;
	if (take_frame(t, type, payload, len, err))
		return true;
	if (err->class == ERR_NONE)
		err_set(err, ERR_PROTOCOL, "the receiver sent a frame of type %u that makes no sense", type);
	return false;
}

static void count_bytes(struct tcp_target *t)
{
	uint64_t now = t->stream == NULL ? 0 : tcp_stream_bytes_out(t->stream);

	t->env->counters->bytes_sent += now - t->bytes_told;
	t->bytes_told = now;
}

/* What arrived may have brought credit, questions, and room for the next piece. */
static void on_idle(void *ctx)
{
	struct tcp_target *t = ctx;
	int64_t wait;

	if (!t->ready)
		return;
	limit_follow(&t->limit, &t->throttle, clock_mono_ns());
	tcp_serve_pump(t->serve);
	submit(t);
	count_bytes(t);
	if (tcp_serve_catches_up(t->serve))
		t->env->progress(t->env->ctx, &(struct transport_progress){ .phase = "comparing" });
	wait = throttle_wait_ns(&t->throttle, clock_mono_ns());
	if (wait > 0 || tcp_serve_goes_on(t->serve))
		loop_timer_after(t->throttled, wait > 0 ? wait : 0);
}

static void on_drained(void *ctx)
{
	on_idle(ctx);
}

/* ---- connecting ---- */

static void forget_addresses(struct tcp_target *t)
{
	resolver_free(t->resolver);
	t->resolver = NULL;
	t->n_addresses = t->address = 0;
}

/* What is at the other end next may be another receiver: until it has greeted nothing here is an echo of its. */
static void forget_peer(const struct tcp_target *t)
{
	if (t->ready && t->env->peer != NULL)
		t->env->peer(t->env->ctx, &(struct host_tree){ 0 });
}

static void disconnect(struct tcp_target *t)
{
	count_bytes(t);
	forget_peer(t);
	tcp_serve_free(t->serve);
	t->serve = NULL;
	tcp_names_free(t->names);
	t->names = NULL;
	tcp_stream_free(t->stream);
	t->stream = NULL;
	t->ready = false;
	t->bytes_told = 0;
	forget_addresses(t);
	t->last_seq = t->last_id = 0;
}

static void on_ended(void *ctx, const struct err *why)
{
	struct tcp_target *t = ctx;
	struct err copy = *why;

	if (t->address < t->n_addresses && why->class == ERR_NETWORK) {
		tcp_stream_free(t->stream);
		t->stream = NULL;
		connect_next(t, &copy);
		return;
	}
	disconnect(t);
	if (t->work == NULL) {
		log_info("%s: %s; it is connected again for the next change", t->env->opt->target, copy.text);
		return;
	}
	if (copy.class == ERR_GONE)
		copy.class = ERR_NETWORK;
	forget_work(t);
	err_set(&t->down, copy.class, "%s: %s", t->env->opt->target, copy.text);
	loop_timer_after(t->urgent, 0);
}

static void on_ready(void *ctx, const char *peer)
{
	struct tcp_target *t = ctx;
	const struct sync_options *opt = t->env->opt;
	struct tcp_hello h = {
		.version_min = TCP_VERSION_MIN,
		.version_max = TCP_VERSION_MAX,
		.features = (opt->tcp.delta == DELTA_NEVER
				     ? 0
				     : TCP_FEATURE_DELTA | TCP_FEATURE_MOVED | TCP_FEATURE_FINER | TCP_FEATURE_PARTS) |
			    TCP_FEATURE_RESUME | TCP_FEATURE_ZSTD | TCP_FEATURE_SAME |
			    (t->twoway == NULL ? 0 : TCP_FEATURE_TWOWAY | TCP_FEATURE_RENAMES) |
			    (tells_names(t) ? TCP_FEATURE_NAMES : 0) | (t->env->host == NULL ? 0 : TCP_FEATURE_STATE) |
			    (opt->durability == DURABILITY_NONE ? TCP_FEATURE_BOOT : 0) |
			    (t->twoway != NULL && tcp_twoway_in_doubt(t->twoway) ? TCP_FEATURE_DOUBT : 0),
		.software = { "fansyncd " FANSYNCD_VERSION, strlen("fansyncd " FANSYNCD_VERSION) },
		.module = { opt->tcp.module, strlen(opt->tcp.module) },
		.sync = { opt->name, strlen(opt->name) }
	};
	struct buf options;
	struct stat root;

	(void)peer;
	if (t->env->host_id != NULL)
		memcpy(h.host_id, t->env->host_id, sizeof(h.host_id));
	forget_addresses(t);
	t->env->counters->handshakes++;
	buf_init(&options, TCP_FRAME_MAX / 2);
	tcp_put_options(&options, opt);
	if (local_tree_root(t->tree, &root) == 0)
		tcp_put_root(&options, root.st_dev, root.st_ino);
	tcp_put_clock(&options, clock_real_ns());
	h.options = (struct tcp_bytes){ options.data, options.len };
	buf_clear(&t->scratch);
	tcp_put_hello(&t->scratch, &h);
	if (options.failed || !send_scratch(t, TCP_HELLO)) {
		err_set(&t->down, ERR_LIMIT,
			"the filter rules are too long for the tcp transport, or there is no memory for "
			"them");
		loop_timer_after(t->urgent, 0);
	}
	tcp_stream_kick(t->stream);
	buf_done(&options);
}

/* The next of the host's addresses; the last failure is the one that is told. */
static void connect_next(struct tcp_target *t, const struct err *why)
{
	const struct tcp_options *o = &t->env->opt->tcp;
	const struct tcp_stream_limits limits = { .handshake_ns = o->timeout_ns,
						  .silence_ns = o->timeout_ns,
						  .announce_plain = true,
						  .level = !t->env->opt->rsync.compress ? 0 : (int)o->compress_level };
	const struct tcp_stream_handler h = { .ready = on_ready,
					      .frame = on_frame,
					      .drained = on_drained,
					      .idle = on_idle,
					      .ended = on_ended,
					      .ctx = t };
	struct err last = *why;

	while (t->address < t->n_addresses) {
		const struct resolve_address *a = &t->addresses[t->address++];
		int fd = tcp_socket_connect(&a->addr, a->len, o->timeout_ns, &last);

		if (fd < 0)
			continue;
		t->stream = tcp_stream_new(t->env->loop, fd, t->tls, &limits, &h, &last);
		if (t->stream != NULL)
			return;
	}
	disconnect(t);
	if (t->work == NULL)
		return;
	forget_work(t);
	err_set(&t->down, last.class, "%s: %s", t->env->opt->target, last.text);
	loop_timer_after(t->urgent, 0);
}

static void on_resolved(void *ctx, const struct resolve_address *v, size_t n, const struct err *why)
{
	struct tcp_target *t = ctx;

	if (n > 0)
		memcpy(t->addresses, v, n * sizeof(*v));
	forget_addresses(t);
	t->n_addresses = n;
	connect_next(t, why);
}

static void start_connecting(struct tcp_target *t)
{
	const struct sync_options *opt = t->env->opt;
	struct err err = ERR_INIT;

	t->resolver = resolver_start(t->env->loop, t->env->lookups, opt->host, (uint16_t)opt->tcp.port,
				     opt->tcp.timeout_ns, on_resolved, t, &err);
	if (t->resolver != NULL)
		return;
	forget_work(t);
	err_set(&t->down, err.class, "%s: %s", opt->target, err.text);
}

/* ---- the transport ---- */

static void on_urgent(void *ctx)
{
	struct tcp_target *t = ctx;
	struct err down = t->down;

	if (down.class == ERR_NONE && t->work != NULL && t->stream == NULL && t->resolver == NULL) {
		start_connecting(t);
		down = t->down;
	}
	if (down.class == ERR_NONE) {
		on_idle(t);
		return;
	}
	t->down = (struct err)ERR_INIT;
	forget_work(t);
	t->env->down(t->env->ctx, &down);
}

static int start(void *session, const struct transport_work *work, bool reconcile, struct err *err)
{
	struct tcp_target *t = session;

	if (t->work != NULL)
		return err_set(err, ERR_BUG, "a work is under way");
	t->work = work;
	t->reconcile = reconcile;
	t->renames_cut = t->items_cut = 0;
	loop_timer_after(t->urgent, 0);
	return 0;
}

static int apply(void *session, const struct transport_work *work, struct err *err)
{
	return start(session, work, false, err);
}

static int reconcile(void *session, const struct transport_work *work, struct err *err)
{
	return start(session, work, true, err);
}

static void close_target(void *session)
{
	struct tcp_target *t = session;

	disconnect(t);
	if (t->tree != NULL)
		forget_work(t);
	tls_context_free(t->tls);
	tcp_memory_free(t->memory);
	tcp_twoway_free(t->twoway);
	local_tree_free(t->tree);
	loop_timer_remove(t->urgent);
	loop_timer_remove(t->throttled);
	buf_done(&t->scratch);
	free(t->content);
	free(t);
}

static void *open_target(const struct transport_env *env, struct err *err)
{
	struct tcp_target *t = calloc(1, sizeof(*t));
	int fd;

	if (t == NULL) {
		err_set(err, ERR_NOMEM, "out of memory");
		return NULL;
	}
	t->env = env;
	buf_init(&t->scratch, TCP_FRAME_MAX);
	t->content = malloc(TCP_INLINE_MAX);
	t->memory = tcp_memory_new(MEMORY_MAX);
	t->urgent = loop_timer_add(env->loop, on_urgent, t, err);
	t->throttled = loop_timer_add(env->loop, on_idle, t, err);
	throttle_init(&t->throttle, 0);
	if (env->archive_path != NULL)
		t->twoway = tcp_twoway_open(env, err);
	fd = fcntl(env->source_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		err_errno(err, errno, "the source");
	else
		t->tree = local_tree_new(env->loop, fd, err);
	if (t->tree != NULL)
		t->source = local_tree_end(t->tree, false);
	if (t->content == NULL || t->memory == NULL || t->urgent == NULL || t->throttled == NULL || t->tree == NULL ||
	    (env->archive_path != NULL && t->twoway == NULL) || limit_init(&t->limit, env, err) < 0 ||
	    tcp_make_tls(env->opt, &t->tls, err) < 0) {
		if (err->class == ERR_NONE)
			err_set(err, ERR_NOMEM, "out of memory");
		close_target(t);
		return NULL;
	}
	return t;
}

/* Each connection reads the keys anew. */
static bool needs(const struct sync_options *opt, struct transport_needs *out)
{
	const struct tcp_options *o = &opt->tcp;
	const char *const files[] = { o->key, o->certificate, o->private_key, o->ca };

	out->may = CONFINE_CONNECT | CONFINE_SECRETS;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		out->add(out, files[i], CONFINE_READ);
	return true;
}

extern const struct transport transport_tcp;
const struct transport transport_tcp = {
	.name = "tcp",
	.caps = TRANSPORT_LATE | TRANSPORT_MODULE | TRANSPORT_LOOK | TRANSPORT_RENAME | TRANSPORT_NATIVE |
		TRANSPORT_KEEP | TRANSPORT_MARKER,
	.default_delay_ns = 0,
	.validate = tcp_validate,
	.open = open_target,
	.apply = apply,
	.reconcile = reconcile,
	.close = close_target,
	.needs = needs,
	.examine = tcp_examine,
};
