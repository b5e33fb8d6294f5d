#include "transports/mirror.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "transports/mirror_private.h"

/* So long the loop waits for us at most; then it gets its turn. */
#define ROUND_NS (20 * NS_PER_MS)
#define STEPS_PER_LOOK 32u
#define TICK_NS (200 * NS_PER_MS)

static void on_timer(void *ctx);

struct mirror *mirror_new(const struct mirror_setup *setup, struct err *err)
{
	struct mirror *m = calloc(1, sizeof(*m));

	if (m == NULL) {
		err_set(err, ERR_NOMEM, "out of memory");
		return NULL;
	}
	m->env = setup->env;
	m->source = setup->source;
	m->target = setup->target;
	m->width = setup->width == 0 ? 1 : setup->width;
	m->width_dirs = setup->width_dirs == 0 ? 1 : setup->width_dirs;
	m->tag = setup->tag;
	if (setup->ahead != NULL)
		m->ahead = *setup->ahead;
	m->keep = (struct mirror_keep){ dir_keeps, m->env->opt->filter };
	mirror_rules_init(&m->rules, m->env->opt);
	m->rules.ahead_ns = setup->ahead_ns;
	m->rules.umask = umask(0);
	(void)umask(m->rules.umask);
	throttle_init(&m->throttle, 0);
	m->timer = loop_timer_add(m->env->loop, on_timer, m, err);
	if (m->timer == NULL) {
		free(m);
		return NULL;
	}
	if (limit_init(&m->limit, m->env, err) < 0 || both_open(m, setup->agreed, err) < 0) {
		mirror_free(m);
		return NULL;
	}
	mirror_ends(m, &setup->source, &setup->target);
	return m;
}

void mirror_ends(struct mirror *m, const struct fileops_end *source, const struct fileops_end *target)
{
	m->source = *source;
	m->target = *target;
	m->rules.caps = target->caps;
	m->rules.tick_ns = target->tick_ns == 0 ? 1 : target->tick_ns;
	if (m->rules.tick_ns >= NS_PER_S)
		m->rules.caps &= ~(unsigned)FILEOPS_CTIME; /* it is no better than the mtime */
	both_ends(m);
	if ((m->rules.caps & FILEOPS_CTIME) == 0 && m->hot == NULL)
		m->hot = mirror_hot_new();
}

enum mirror_same mirror_judge(struct mirror *m, const char *path, size_t len, const struct mirror_look *look)
{
	enum mirror_same same = mirror_compare(&m->rules, look);

	if (m->hot == NULL || (same != MIRROR_SAME && same != MIRROR_DOUBT) || m->rules.checksum || !m->rules.times)
		return same;
	return mirror_hot_judge(m->hot, path, len, look);
}

bool mirror_busy(const struct mirror *m)
{
	return m->work != NULL;
}

/* ---- words to the core ---- */

void mirror_kick(struct mirror *m)
{
	loop_timer_after(m->timer, 0);
}

void mirror_settle(struct mirror *m, size_t item, enum verdict v, const struct err *why)
{
	if (item == SIZE_MAX || m->items[item].settled)
		return;
	m->items[item].settled = true;
	m->env->settle(m->env->ctx, item, v, why);
}

void mirror_found(struct mirror *m, const char *path, size_t len, enum verdict v, const struct err *why)
{
	if (m->found++ < MIRROR_FOUND_MAX)
		m->env->found(m->env->ctx, path, len, v, why);
}

void mirror_show(struct mirror *m, const char *phase, const char *path, size_t len)
{
	struct transport_progress p = { .phase = phase, .files = m->files, .bytes = m->bytes };

	if (len > 0) {
		p.path = path;
		p.path_len = len;
	}
	m->env->progress(m->env->ctx, &p);
}

bool mirror_may_delete_one(struct mirror *m)
{
	if (m->delete_left > 0) {
		m->delete_left--;
		m->env->counters->entries_deleted++;
		return true;
	}
	if (!m->limit_open) {
		m->was_refused = true;
		m->refused++;
	}
	return false;
}

void mirror_not_deleted(struct mirror *m)
{
	m->delete_left += m->delete_left < INT64_MAX;
	m->env->counters->entries_deleted--;
}

bool mirror_has_room(const struct mirror *m)
{
	return m->n_active < m->width;
}

bool mirror_note_unlocked(struct mirror *m, const char *path, size_t len, mode_t mode)
{
	struct unlocked_dir *u = malloc(sizeof(*u) + len + 1);

	if (u == NULL)
		return false;
	u->mode = mode;
	u->len = len;
	memcpy(u->path, path, len);
	u->path[len] = '\0';
	u->next = m->unlocked;
	m->unlocked = u;
	return true;
}

bool mirror_forget_unlocked(struct mirror *m, const char *path, size_t len)
{
	for (struct unlocked_dir **at = &m->unlocked; *at != NULL; at = &(*at)->next)
		if ((*at)->len == len && memcmp((*at)->path, path, len) == 0) {
			struct unlocked_dir *u = *at;

			*at = u->next;
			free(u);
			return true;
		}
	return false;
}

/* ---- the end of a work ---- */

static void forget_work(struct mirror *m)
{
	if (m->looked_ahead)
		m->ahead.forget(m->ahead.ctx);
	m->looked_ahead = false;
	backup_forget(m);
	entry_free_all(m);
	dir_free_all(m);
	links_free_all(m);
	while (m->unlocked != NULL) {
		struct unlocked_dir *next = m->unlocked->next;

		free(m->unlocked);
		m->unlocked = next;
	}
	free(m->items);
	free(m->renames_settled);
	m->items = NULL;
	m->renames_settled = NULL;
	m->work = NULL;
	m->phase = PHASE_IDLE;
	loop_timer_stop(m->timer);
}

static void settle_reconcile(struct mirror *m)
{
	struct err refused = ERR_INIT;

	if (m->was_refused)
		err_set(&refused, ERR_UNSAFE,
			"the source lacks %llu entries more of what the target holds than may be deleted: nothing more "
			"is "
			"deleted there. If that is right, run fansyncd --sync-now --allow-delete, or set maxDelete "
			"(allowEmptySource for an empty source)",
			(unsigned long long)m->refused);
	for (size_t i = 0; i < m->work->n_items; i++) {
		struct item_state *s = &m->items[i];

		if (s->v == VERDICT_NONE && m->found > MIRROR_FOUND_MAX) {
			s->v = VERDICT_RETRY;
			err_set(&s->why, ERR_AGAIN, "%u entries failed; the rest of them is not named", m->found);
		}
		if (s->v == VERDICT_NONE && m->was_refused)
			mirror_settle(m, i, VERDICT_REJECT, &refused);
		else
			mirror_settle(m, i, s->v == VERDICT_NONE ? VERDICT_DONE : s->v, &s->why);
	}
}

static void finish_work(struct mirror *m)
{
	struct err err = ERR_INIT;

	if (both_commit(m, &err) < 0) {
		mirror_down(m, &err);
		return;
	}
	if (m->reconcile)
		settle_reconcile(m);
	if (m->source.ops->idle != NULL)
		m->source.ops->idle(m->source.ctx);
	if (m->target.ops->idle != NULL)
		m->target.ops->idle(m->target.ctx);
	forget_work(m);
	m->env->finished(m->env->ctx);
}

void mirror_down(struct mirror *m, const struct err *why)
{
	bool busy = m->work != NULL;

	memset(m->swept, 0, sizeof(m->swept)); /* some may be left now */
	forget_work(m);
	if (busy)
		m->env->down(m->env->ctx, why);
}

void mirror_remove_temps(struct mirror *m)
{
	for (const struct entry *e = m->active; e != NULL; e = e->next) {
		struct fileop op = { 0 };

		/* Whether it is there is not asked: next to nothing is lost by trying. */
		if (e->temp_len > 0 && !part_is_worth_keeping(e))
			(void)m->target.ops->unlink(m->target.ctx, &op, e->temp, e->temp_len);
	}
}

void mirror_free(struct mirror *m)
{
	if (m == NULL)
		return;
	forget_work(m);
	while (m->free_entries != NULL) {
		struct entry *next = m->free_entries->next;

		free(m->free_entries->path);
		free(m->free_entries->temp);
		free(m->free_entries);
		m->free_entries = next;
	}
	loop_timer_remove(m->timer);
	mirror_hot_free(m->hot);
	mirror_alike_free(m->same);
	both_close(m);
	free(m);
}

/* ---- phases ---- */

static bool next_phase(struct mirror *m)
{
	m->next = 0;
	m->phase++;
	if (m->phase == PHASE_SWEEP && m->reconcile) {
		dir_start_sweep(m);
		return true;
	}
	return m->phase < PHASE_END;
}

/* true: something was done. */
static bool step(struct mirror *m)
{
	if (dir_run_one(m))
		return true;
	if (!mirror_has_room(m))
		return false;
	if (apply_next(m))
		return true;
	if (m->n_active > 0 || m->n_dirs > 0)
		return false;
	return next_phase(m);
}

void mirror_pump(struct mirror *m)
{
	int64_t end = clock_mono_ns() + ROUND_NS;

	if (m->pumping || m->work == NULL)
		return;
	m->pumping = true;
	m->now_ns = clock_real_ns();
	limit_follow(&m->limit, &m->throttle, clock_mono_ns());
	for (unsigned n = 1; m->phase < PHASE_END && step(m); n++)
		if (n % STEPS_PER_LOOK == 0 && clock_mono_ns() >= end) {
			mirror_kick(m);
			break;
		}
	m->pumping = false;
	if (m->phase == PHASE_END) {
		finish_work(m);
		return;
	}
	if (m->target.ops->flush != NULL)
		m->target.ops->flush(m->target.ctx);
	if (m->source.ops->flush != NULL)
		m->source.ops->flush(m->source.ctx);
	if (!loop_timer_armed(m->timer))
		loop_timer_after(m->timer, TICK_NS);
}

/* A large file that moves is a sign of life; one that does not is none. */
static void show_large_files(struct mirror *m)
{
	uint64_t bytes = m->bytes;

	for (const struct entry *e = m->active; e != NULL; e = e->next)
		bytes += e->op.copied;
	if (bytes != m->shown_bytes && m->active != NULL) {
		m->shown_bytes = bytes;
		mirror_show(m, "sending", m->active->path, m->active->len);
	}
}

static void on_timer(void *ctx)
{
	struct mirror *m = ctx;

	show_large_files(m);
	mirror_pump(m);
}

/* ---- the start ---- */

static size_t depth_of(const struct transport_item *item)
{
	size_t n = item->len > 0;

	for (size_t i = 0; i < item->len; i++)
		n += item->path[i] == '/';
	return n;
}

static void limit_deletions(struct mirror *m, const struct transport_work *work)
{
	m->limit_open = m->reconcile && work->max_delete < 0;
	if (!m->continues) {
		m->seen = m->deleted = 0;
		m->delete_left = work->max_delete >= 0 ? work->max_delete
				 : m->reconcile	       ? DELETIONS_DEFAULT
						       : INT64_MAX;
	} else if (m->limit_open) {
		m->delete_left = m->deleted < DELETIONS_DEFAULT ? (int64_t)(DELETIONS_DEFAULT - m->deleted) : 0;
	}
	m->continues = false;
}

void mirror_continue(struct mirror *m)
{
	m->continues = true;
}

static void set_limits(struct mirror *m, const struct transport_work *work)
{
	limit_deletions(m, work);
	m->was_refused = false;
	m->refused = m->files = m->bytes = m->shown_bytes = 0;
	m->found = 0;
	m->renaming = false;
	m->source_dev = 0;
}

int mirror_start(struct mirror *m, const struct transport_work *work, bool reconcile, struct err *err)
{
	if (m->work != NULL)
		return err_set(err, ERR_BUG, "the engine is at work");
	if (backup_begin(m, err) < 0)
		return -1;
	m->items = calloc(work->n_items + 1, sizeof(*m->items));
	m->renames_settled = calloc(work->n_renames + 1, sizeof(bool));
	if (m->items == NULL || m->renames_settled == NULL) {
		free(m->items);
		free(m->renames_settled);
		m->items = NULL;
		m->renames_settled = NULL;
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	m->work = work;
	m->reconcile = reconcile;
	m->phase = reconcile ? PHASE_FILES : PHASE_RENAMES;
	m->next = m->depth = m->max_depth = 0;
	for (size_t i = 0; i < work->n_items && !reconcile; i++)
		if (work->items[i].look == LOOK_DIR && depth_of(&work->items[i]) > m->max_depth)
			m->max_depth = depth_of(&work->items[i]);
	set_limits(m, work);
	mirror_kick(m);
	return 0;
}
