/* LINK: core/guard.c core/keep.c core/identity.c core/wire.c core/owner_map.c core/buf.c core/batch.c core/path.c
 * core/err.c */
/* MODULE: core/wire.c core/guard.c */
/* Every reader of the worker's protocol, on whatever bytes: the first byte chooses the message. What was read, written
 * again, is read alike. Of a guard's record, which says what may be deleted, a second one behind a NUL is what is
 * mounted by now. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/guard.h"
#include "core/wire.h"

#define FRAME_HEAD 5u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

/* ---- messages ---- */

static bool batch_again(struct buf *out, const char *p, size_t len)
{
	unsigned flags;
	struct batch *b = wire_get_batch(p, len, &flags);

	if (b == NULL)
		return false;
	require(wire_put_batch(out, b, flags));
	batch_free(b);
	return true;
}

static bool verdicts_again(struct buf *out, const char *p, size_t len)
{
	struct wire_verdict v;
	struct reader r;
	uint64_t id;
	size_t at;
	int got;

	if (!wire_get_verdicts(p, len, &r, &id))
		return false;
	at = wire_begin_verdicts(out, id);
	while ((got = wire_next_verdict(&r, &v)) > 0)
		require(wire_add_verdict(out, &v));
	require(wire_end_verdicts(out, at));
	return got == 0;
}

static bool config_again(struct buf *out, const char *p, size_t len)
{
	struct wire_config c;

	return wire_get_config(p, len, &c) && (require(wire_put_config(out, &c)), true);
}

static bool found_again(struct buf *out, const char *p, size_t len)
{
	struct wire_found f;

	return wire_get_found(p, len, &f) && (require(wire_put_found(out, &f)), true);
}

static bool down_again(struct buf *out, const char *p, size_t len)
{
	struct err e;

	return wire_get_down(p, len, &e) && (require(wire_put_down(out, &e)), true);
}

static bool progress_again(struct buf *out, const char *p, size_t len)
{
	struct wire_progress v;

	return wire_get_progress(p, len, &v) && (require(wire_put_progress(out, &v)), true);
}

static bool log_again(struct buf *out, const char *p, size_t len)
{
	const char *text;
	uint32_t category;
	size_t n;

	return wire_get_log(p, len, &category, &text, &n) && (require(wire_put_log(out, category, text, n)), true);
}

static bool counters_again(struct buf *out, const char *p, size_t len)
{
	struct wire_counters c;

	return wire_get_counters(p, len, &c) && (require(wire_put_counters(out, &c)), true);
}

static bool linked_again(struct buf *out, const char *p, size_t len)
{
	struct wire_linked f;

	return wire_get_linked(p, len, &f) && (require(wire_put_linked(out, &f)), true);
}

static bool peer_again(struct buf *out, const char *p, size_t len)
{
	struct host_tree t;

	return wire_get_peer(p, len, &t) && (require(wire_put_peer(out, &t)), true);
}

static bool origin_again(struct buf *out, const char *p, size_t len)
{
	struct host_tree t;
	uint32_t pid;

	return wire_get_origin(p, len, &pid, &t) && (require(wire_put_origin(out, pid, &t)), true);
}

static bool view_again(struct buf *out, const char *p, size_t len)
{
	const char *text;
	uint32_t view;
	size_t n;

	return wire_get_view(p, len, &view, &text, &n) && (require(wire_put_view(out, view, text, n)), true);
}

static bool owner_again(struct buf *out, const char *p, size_t len)
{
	struct owner_question q;
	uint32_t pid;

	return wire_get_owner(p, len, &pid, &q) && (require(wire_put_owner(out, pid, &q)), true);
}

static bool u64_again(struct buf *out, const char *p, size_t len)
{
	uint64_t v;

	return wire_get_u64(p, len, &v) && (require(wire_put_u64(out, WIRE_BATCH_DONE, v)), true);
}

static bool u32_again(struct buf *out, const char *p, size_t len)
{
	uint32_t v;

	return wire_get_u32(p, len, &v) && (require(wire_put_u32(out, WIRE_LOG_MASK, v)), true);
}

static bool (*const again[WIRE_TYPES])(struct buf *out, const char *p, size_t len) = {
	[WIRE_CONFIG] = config_again,	  [WIRE_BATCH] = batch_again,	    [WIRE_LOG_MASK] = u32_again,
	[WIRE_VERDICTS] = verdicts_again, [WIRE_FOUND] = found_again,	    [WIRE_BATCH_DONE] = u64_again,
	[WIRE_DOWN] = down_again,	  [WIRE_PROGRESS] = progress_again, [WIRE_LOG] = log_again,
	[WIRE_COUNTERS] = counters_again, [WIRE_PEER] = peer_again,	    [WIRE_ORIGIN] = origin_again,
	[WIRE_LINKED] = linked_again,	  [WIRE_VIEW] = view_again,	    [WIRE_OWNER] = owner_again,
};

static void check_message(enum wire_type type, const char *p, size_t len)
{
	struct buf first, second;

	if (again[type] == NULL)
		return;
	buf_init(&first, WIRE_QUEUE_MAX);
	buf_init(&second, WIRE_QUEUE_MAX);
	if (again[type](&first, p, len)) {
		require(first.len >= FRAME_HEAD && (unsigned char)first.data[FRAME_HEAD - 1] == type);
		require(again[type](&second, first.data + FRAME_HEAD, first.len - FRAME_HEAD));
		require(second.len == first.len && memcmp(first.data, second.data, first.len) == 0);
	}
	buf_done(&first);
	buf_done(&second);
}

/* ---- a guard's record ---- */

/* With this written and read it is the same. */
static void check_text(const struct guard_state *g)
{
	struct guard_state other;
	struct buf first, second;

	buf_init(&first, GUARD_TEXT_MAX);
	buf_init(&second, GUARD_TEXT_MAX);
	require(guard_put(&first, g));
	require(guard_get(first.data, first.len, &other, NULL) == 0);
	require(guard_put(&second, &other));
	require(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
	guard_done(&other);
	buf_done(&first);
	buf_done(&second);
}

/* How many subtrees are kept; among them those that can't be looked at. */
static size_t kept(const struct guard_state *g, const struct guard_seen *seen, size_t n_seen)
{
	struct keep_list list = { 0 };
	size_t n;

	require(guard_keeps(g, &list));
	for (size_t i = 0; i < n_seen; i++)
		require(seen[i].known || keep_covers(&list, seen[i].path, seen[i].len));
	n = list.n;
	keep_done(&list);
	return n;
}

static void look(struct guard_state *g, const struct guard_state *now, bool accept)
{
	struct guard_seen seen[GUARD_MOUNTS_MAX];
	size_t n, unknown = 0;

	for (size_t i = 0; i < now->n_mounts; i++) {
		const struct guard_mount *m = &now->mounts[i];

		seen[i] = (struct guard_seen){ .path = m->path, .len = m->len, .known = m->known, .id = m->id };
		unknown += m->known ? 0 : 1;
	}
	require(guard_mounts(g, seen, now->n_mounts, accept) == 0);
	check_text(g);
	/* What is there was accepted; what can't be looked at is kept all the same. */
	n = kept(g, seen, now->n_mounts);
	require(accept ? g->n_mounts == now->n_mounts && n == unknown : n >= unknown);
}

static void check_guard(const char *p, size_t len)
{
	const char *nul = memchr(p, '\0', len);
	size_t n = nul == NULL ? len : (size_t)(nul - p);
	struct guard_state g, now;

	if (guard_get(p, n, &g, NULL) < 0)
		return;
	check_text(&g);
	if (nul != NULL && guard_get(nul + 1, len - n - 1, &now, NULL) == 0) {
		look(&g, &now, false);
		look(&g, &now, true);
		guard_done(&now);
	}
	guard_done(&g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data + 1;
	enum wire_type type;

	if (size == 0)
		return 0;
	type = (enum wire_type)(data[0] % WIRE_TYPES);
	if (type == WIRE_GUARD)
		check_guard(p, size - 1);
	else
		check_message(type, p, size - 1);
	return 0;
}
