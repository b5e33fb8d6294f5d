/*
 * exec_listing.c - a comparison by an exec program: it is told all that is there, and what it may delete of what is
 * not.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "transports/exec_private.h"

/* Paths that are remembered for answers; of those beyond, an answer is about the listing as a whole. */
#define PATHS_MAX (32u << 20)
#define LIST_ID 1u
#define DELETIONS_MIN 1000

static const struct transport_item *item_of(const struct exec *s)
{
	return &s->work->items[s->dir];
}

static void remember(struct exec *s, const char *path, size_t len)
{
	uint32_t at = (uint32_t)s->entries.paths.len;

	/* With one that has no room, none after it has: numbers are places. */
	if (s->entries.paths.failed || !buf_add(&s->entries.paths, path, len) || !buf_add_byte(&s->entries.paths, '\0'))
		return;
	(void)buf_add(&s->entries.offsets, &at, sizeof(at));
}

const char *exec_listing_path(struct exec *s, uint64_t id)
{
	uint32_t at;

	if (id <= LIST_ID || id - LIST_ID - 1 >= s->entries.offsets.len / sizeof(at))
		return NULL;
	memcpy(&at, s->entries.offsets.data + (id - LIST_ID - 1) * sizeof(at), sizeof(at));
	return s->entries.paths.data + at;
}

static int put(struct exec *s, enum exec_op op, enum look look, const char *path, size_t len, const struct stat *st,
	       struct err *err)
{
	const struct exec_record r = {
		.id = ++s->last_id,
		.op = op,
		.look = look,
		.path = path,
		.len = len,
		.st = st,
		.deletions = op == EXEC_LISTED ? s->offered : 0,
	};

	return exec_spool_put(&s->spool, s->opt->format, &r, err);
}

static int on_entry(void *ctx, const char *path, size_t len, enum look look, const struct stat *st, bool closed,
		    struct err *err)
{
	struct exec *s = ctx;

	s->closed = s->closed || closed;
	remember(s, path, len);
	exec_alive(s, "listing", path, len);
	return put(s, closed ? EXEC_KEEP : EXEC_ENTRY, look, path, len, st, err);
}

/* Told as a failure, and compared again later; meanwhile nothing that was not listed is deleted. */
static int on_unknown(void *ctx, const char *path, size_t len, const struct err *why, struct err *err)
{
	struct exec *s = ctx;
	struct err told = ERR_INIT;

	err_set(&told, why->class, "opendir: %.400s", why->text);
	s->env->found(s->env->ctx, path, len, VERDICT_RETRY, &told);
	s->unread = true;
	remember(s, path, len);
	return put(s, EXEC_KEEP, LOOK_NONE, path, len, NULL, err);
}

/* All listings of a work share its limit. What a program does not report it may have used: each of the directories to
 * come gets its part, or none but the first could have anything deleted. */
static int64_t deletions_to_offer(const struct exec *s)
{
	int64_t limit = s->work->max_delete, half = (int64_t)(s->listed / 2);

	if (!s->work->may_delete || s->unread || (s->closed && s->opt->format == EXEC_PATHS))
		return 0;
	if (limit < 0)
		limit = half > DELETIONS_MIN ? half : DELETIONS_MIN;
	if (limit <= s->spent)
		return 0;
	return s->reports ? limit - s->spent : (limit - s->spent) / (int64_t)(s->work->n_items - s->dir);
}

void exec_listing_deleted(struct exec *s, uint64_t n)
{
	s->reports = s->reported = true;
	s->deleted += n;
}

void exec_listing_over(struct exec *s)
{
	uint64_t used = s->reported ? s->deleted : (uint64_t)s->offered;

	s->spent = used < (uint64_t)(INT64_MAX - s->spent) ? s->spent + (int64_t)used : INT64_MAX;
	s->dir++;
}

static int complete(struct exec *s, struct err *err)
{
	const struct transport_item *item = item_of(s);

	s->listed += s->last_id;
	s->offered = deletions_to_offer(s);
	if (put(s, EXEC_LISTED, LOOK_DIR, item->path, item->len, NULL, err) < 0)
		return -1;
	s->end_id = s->opt->persistent ? s->last_id + 1 : 0;
	s->end_at = exec_spool_length(&s->spool);
	return s->end_id != 0 ? put(s, EXEC_END, LOOK_NONE, "", 0, NULL, err) : 0;
}

static void on_over(void *ctx, const struct err *why)
{
	struct exec *s = ctx;
	struct err err = ERR_INIT;

	exec_walk_free(s->walk);
	s->walk = NULL;
	if (why != NULL && why->class == ERR_GONE) {
		exec_settle(s, s->dir, EXEC_GONE, NULL);
		exec_run_over(s);
	} else if (why != NULL) {
		exec_down(s, why);
	} else if (complete(s, &err) < 0) {
		exec_down(s, &err);
	} else {
		exec_run_spooled(s);
	}
}

int exec_listing_begin(struct exec *s, struct err *err)
{
	const struct transport_item *item = item_of(s);
	const struct exec_walk_events events = { .entry = on_entry, .unknown = on_unknown, .over = on_over, .ctx = s };

	exec_listing_end(s);
	s->run = (struct exec_range){ s->dir, s->dir + 1 };
	s->last_id = 0;
	s->offered = 0;
	s->deleted = 0;
	s->unread = s->closed = s->reported = false;
	buf_init(&s->entries.paths, PATHS_MAX);
	buf_init(&s->entries.offsets, PATHS_MAX * sizeof(uint32_t));
	if (exec_spool_begin(&s->spool, s->env->runtime_dir, err) < 0 ||
	    put(s, EXEC_LIST, LOOK_DIR, item->path, item->len, &item->st, err) < 0)
		return -1;
	s->walk = exec_walk_new(s->env->loop, s->env->opt, s->env->source_fd, item->path, item->len, &events, err);
	return s->walk == NULL ? -1 : 0;
}

void exec_listing_end(struct exec *s)
{
	exec_walk_free(s->walk);
	s->walk = NULL;
	buf_done(&s->entries.paths);
	buf_done(&s->entries.offsets);
	s->entries.paths.failed = false;
}
