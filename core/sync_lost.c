/*
 * sync_lost.c - what was under way when a target was lost is looked at once more, some time after the target is back.
 *
 * What had been sent by then lives on: in the buffers of a network that was silent and now is not, and with a process
 * at the other end that does not know yet that it is alone. So an older state may arrive after a newer one that the
 * next connection brought, and a temporary file that is cleaned away there changes the time of its directory. No
 * transport can forbid that from here, and the target would differ until the next comparison. So these paths, and the
 * directories that they lie in, get another look. What was being compared as a whole does not: on a line that breaks
 * again and again that would never come to an end.
 */
#include "core/clock.h"
#include "core/path.h"
#include "core/sync_private.h"
#include "core/transport.h"

/* An abandoned connection goes on to send for about so long once the line is good again (Linux: tcp_orphan_retries,
 * with pauses that double), and servers have time limits of their own. */
#define LATE_NS (30 * NS_PER_S)
#define RENAMED "a rename that was under way when the target was lost"

static void note(struct sync *s, enum change_kind kind, bool is_dir, const char *path, size_t len)
{
	const struct change c = { .kind = kind, .is_dir = is_dir, .path = path, .path_len = len };

	/* Out of memory: it does without. */
	(void)changeset_add(s->lost, &c, CHANGESET_SERVED, 0, 0, false);
}

static void note_with_above(struct sync *s, enum change_kind kind, bool is_dir, const char *path, size_t len)
{
	note(s, kind, is_dir, path, len);
	note(s, CHANGE_TOUCH, false, path, path_parent_len(path, len));
}

/* A directory may be gone from its name with all that is in it, and stand at the other one. */
static void note_renamed(struct sync *s, const struct batch_rename *r)
{
	const enum change_kind kind = r->is_dir ? CHANGE_DELETE : CHANGE_TOUCH;

	note_with_above(s, kind, r->is_dir, r->from, r->from_len);
	note_with_above(s, kind, r->is_dir, r->to, r->to_len);
}

void sync_note_lost(struct sync *s, const struct batch *b)
{
	/* What is large may have been ended because it went, and arrive all the same. */
	const enum change_kind kind = b == s->large.batch ? CHANGE_DELETE : CHANGE_TOUCH;
	const struct transport *t = transport_find(s->opt->transport);
	const struct changeset_limits limits = sync_limits(s->opt);

	/* Both ways, nothing is put in the place of what the sender did not see there. */
	if (s->opt->bidirectional || t == NULL || (t->caps & TRANSPORT_LATE) == 0)
		return;
	s->look_again_ns = 0; /* not before it is back */
	if (s->lost == NULL)
		s->lost = changeset_new(&limits);
	for (size_t i = 0; s->lost != NULL && i < b->n_items; i++) {
		const struct batch_item *item = &b->items[i];

		if ((item->flags & MARK_RECURSIVE) != 0 && b != s->large.batch)
			continue;
		note_with_above(s, kind, false, item->path, item->len);
	}
	for (size_t i = 0; s->lost != NULL && i < b->n_renames; i++)
		note_renamed(s, &b->renames[i]);
}

static void mark(struct sync *s, enum change_kind kind, bool is_dir, const char *path, size_t len)
{
	const struct intake_record r = { .change = { .kind = kind,
						     .is_dir = is_dir,
						     .late = true,
						     .path = path,
						     .path_len = len,
						     .cause = kind == CHANGE_RECONCILE ? RENAMED : NULL } };

	sync_add_to_changes(s, &r, s->generation, clock_mono_ns());
}

/* What was removed meanwhile may have arrived after its removal, whatever it was. */
static void mark_again(void *ctx, const char *path, size_t len, unsigned flags)
{
	struct sync *s = ctx;

	if ((flags & MARK_CAUSE) != 0) /* what the limit made one of many gets none */
		return;
	if (sync_is_absent(s, path, len)) {
		len = sync_absent_from(s, path, len);
		mark(s, CHANGE_DELETE, false, path, len);
		mark(s, CHANGE_DELETE, true, path, len);
	} else if ((flags & MARK_RECURSIVE) != 0) {
		sync_count_cause(s, RENAMED);
		mark(s, CHANGE_RECONCILE, false, path, len);
	} else {
		mark(s, (flags & MARK_NAME) != 0 ? CHANGE_DELETE : CHANGE_TOUCH, false, path, len);
	}
}

static void look_again(struct sync *s)
{
	log_debug(LOG_CAT_RECORD, "%s: what was under way when the target was lost is looked at again: %zu paths",
		  s->opt->name, changeset_pending(s->lost));
	changeset_list(s->lost, SIZE_MAX, mark_again, s);
	changeset_free(s->lost);
	s->lost = NULL;
	s->look_again_ns = 0;
}

void sync_back_after_loss(struct sync *s)
{
	if (s->lost == NULL || s->look_again_ns != 0)
		return;
	s->look_again_ns = clock_mono_ns() + LATE_NS;
	if (s->look_urged)
		look_again(s);
	s->look_urged = false;
}

void sync_urge_look(struct sync *s)
{
	if (s->lost != NULL && s->look_again_ns != 0)
		look_again(s);
	else
		s->look_urged = s->lost != NULL;
}

int64_t sync_look_due(struct sync *s, int64_t now)
{
	if (s->lost == NULL || s->look_again_ns == 0)
		return INT64_MAX;
	if (now < s->look_again_ns)
		return s->look_again_ns;
	look_again(s);
	return INT64_MAX;
}
