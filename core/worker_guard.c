#include "core/worker_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fsutil.h"
#include "core/guard_switches.h"
#include "core/log.h"
#include "core/look.h"
#include "core/mounts.h"
#include "core/path.h"

#define MOUNTINFO "/proc/self/mountinfo"

void wguard_init(struct worker_guard *g, const struct sync_options *opt, unsigned caps, int source_fd,
		 uint64_t source_dev, uint64_t source_ino)
{
	*g = (struct worker_guard){ .opt = opt,
				    .caps = caps,
				    .source_fd = source_fd,
				    .source_dev = source_dev,
				    .source_ino = source_ino,
				    .mount_fd = -1,
				    .table_stale = true };
}

void wguard_release(struct worker_guard *g)
{
	for (size_t i = 0; i < g->n_pins; i++)
		(void)close(g->pins[i]);
	g->n_pins = 0;
	keep_done(&g->keep);
	g->empty = false;
}

void wguard_done(struct worker_guard *g)
{
	wguard_release(g);
	guard_done(&g->state);
	if (g->opt != NULL && g->mount_fd >= 0)
		(void)close(g->mount_fd);
	g->opt = NULL;
}

int wguard_take(struct worker_guard *g, const char *text, size_t len, struct err *err)
{
	wguard_release(g); /* it borrows from the record */
	guard_done(&g->state);
	g->table_stale = true; /* it need not know what was seen here */
	return guard_get(text, len, &g->state, err);
}

/* ---- the source ---- */

static int check_source(const struct worker_guard *g, struct err *err)
{
	struct stat st;

	if (!GUARD_SOURCE)
		return 0;
	if (fstatat(AT_FDCWD, g->opt->source, &st, GUARD_SYMLINK ? AT_SYMLINK_NOFOLLOW : 0) < 0)
		return err_errno(err, errno, "the source %s", g->opt->source);
	if (st.st_dev != g->source_dev || st.st_ino != g->source_ino)
		return err_set(err, ERR_GONE, "the source %s is another directory now (unmounted or replaced)",
			       g->opt->source);
	return 0;
}

static int check_marker(const struct worker_guard *g, struct err *err)
{
	const char *marker = g->opt->require_marker;

	if (!GUARD_MARKER || marker == NULL || g->allow || faccessat(g->source_fd, marker, F_OK, 0) == 0)
		return 0;
	return err_set(err, ERR_UNSAFE,
		       "requireMarker: %.200s is not in the source %.200s (%s): nothing is carried. Mount the right "
		       "source, or make the file",
		       marker, g->opt->source, strerror(errno));
}

/* ---- a local target ---- */

static bool is_local(const struct worker_guard *g)
{
	return (g->caps & TRANSPORT_LOCAL_TARGET) != 0 && g->opt->target != NULL && g->opt->target[0] == '/';
}

static void note_target(struct worker_guard *g, const struct root_identity *id)
{
	g->state.has_target_root = true;
	g->state.target_root = *id;
	g->learned = true;
}

static int target_missing(struct worker_guard *g, struct err *err)
{
	if (!g->state.has_target_root)
		return 0; /* the transport makes it, or says why not */
	if (g->allow) {
		g->state.has_target_root = false;
		g->learned = true;
		return 0;
	}
	return err_set(err, ERR_UNSAFE,
		       "the target %.300s is gone: is its disk mounted? If it is to be made anew: fansyncd --sync-now "
		       "--allow-delete",
		       g->opt->target);
}

static int check_target_root(struct worker_guard *g, int fd, struct err *err)
{
	struct root_identity now;

	if (identity_of_fd(fd, &now, err) < 0)
		return -1;
	if (!g->state.has_target_root || g->allow) {
		if (!g->state.has_target_root || !identity_same(&g->state.target_root, &now))
			note_target(g, &now);
		return 0;
	}
	if (identity_same(&g->state.target_root, &now))
		return 0;
	return err_set(err, ERR_UNSAFE,
		       "the target %.200s is another directory than before (its disk is not mounted, or it was "
		       "replaced): nothing is carried. If it is right: fansyncd --sync-now --allow-delete",
		       g->opt->target);
}

static int check_target_marker(const struct worker_guard *g, int fd, struct err *err)
{
	const char *marker = g->opt->require_target_marker;

	if (!GUARD_TARGET_MARKER || marker == NULL || g->allow)
		return 0;
	errno = ENOENT;
	if (fd >= 0 && faccessat(fd, marker, F_OK, 0) == 0)
		return 0;
	return err_set(err, ERR_UNSAFE,
		       "requireTargetMarker: %.200s is not in the target %.200s (%s): nothing is carried. Mount the "
		       "right target, or make the file",
		       marker, g->opt->target, strerror(errno));
}

static int check_target(struct worker_guard *g, struct err *err)
{
	int fd, rc = 0;

	if (!is_local(g))
		return 0;
	fd = open(g->opt->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT && GUARD_TARGET)
		rc = target_missing(g, err);
	if (fd < 0 && rc == 0 && errno == ENOENT)
		return check_target_marker(g, -1, err);
	if (fd < 0)
		return rc;		      /* what else is wrong with it the transport says */
	rc = check_target_marker(g, fd, err); /* first: what lacks it is not worth remembering */
	if (rc == 0 && GUARD_TARGET)
		rc = check_target_root(g, fd, err);
	(void)close(fd);
	return rc;
}

void wguard_end(struct worker_guard *g)
{
	struct root_identity now;
	int fd = is_local(g) && !g->state.has_target_root ? open(g->opt->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
							  : -1;

	if (fd >= 0 && identity_of_fd(fd, &now, NULL) == 0)
		note_target(g, &now);
	if (fd >= 0)
		(void)close(fd);
	wguard_release(g);
}

/* ---- mounts below the source ---- */

/* Whether the mount table changed since it was taken in last. The kernel tells of a change once. */
static bool table_changed(struct worker_guard *g)
{
	struct pollfd p = { .fd = g->mount_fd, .events = POLLPRI };

	if (poll(&p, 1, 0) > 0)
		g->table_stale = true;
	return g->table_stale;
}

/* Path of a mount point below the source; NULL: it is elsewhere, or in a directory that is not mirrored. */
static const char *below_source(const struct worker_guard *g, const struct mount *m)
{
	const char *path = path_rest(m->point, g->opt->source);

	if (path != NULL && !g->opt->rsync.delete_excluded &&
	    filter_excludes_subtree(g->opt->filter, path, strlen(path)))
		return NULL;
	return path;
}

static uint64_t add_word(uint64_t hash, const char *word)
{
	return (hash ^ path_hash(word, strlen(word))) * UINT64_C(1099511628211);
}

/* Changes with what is mounted below the source, at it, or above it; and with nothing else. */
static uint64_t mark_of(const struct worker_guard *g, const struct mounts *table)
{
	uint64_t hash = UINT64_C(14695981039346656037);

	for (size_t i = 0; i < table->n; i++) {
		const struct mount *m = &table->list[i];
		char numbers[80];

		if (below_source(g, m) == NULL && strcmp(m->point, g->opt->source) != 0 && strcmp(m->point, "/") != 0 &&
		    path_rest(g->opt->source, m->point) == NULL)
			continue;
		(void)snprintf(numbers, sizeof(numbers), "%d %d %u:%u %d", m->id, m->parent, m->major, m->minor,
			       m->hidden);
		hash = add_word(add_word(add_word(hash, numbers), m->root), m->point);
	}
	return hash;
}

static void look_at_mount(struct worker_guard *g, struct guard_seen *s)
{
	int pin = look_open_dir(g->source_fd, s->path, s->len), fd;

	if (pin < 0)
		return;
	fd = openat(pin, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
	s->known = fd >= 0 && identity_of_fd(fd, &s->id, NULL) == 0;
	if (fd >= 0)
		(void)close(fd);
	if (g->n_pins < WGUARD_PINS_MAX)
		g->pins[g->n_pins++] = pin;
	else
		(void)close(pin);
}

static bool same_state(const struct guard_state *g, const char *before, size_t len)
{
	struct buf now;
	bool same;

	buf_init(&now, GUARD_TEXT_MAX);
	same = guard_put(&now, g) && now.len == len && memcmp(now.data, before, len) == 0;
	buf_done(&now);
	return same;
}

static void tell_kept(const struct worker_guard *g)
{
	for (size_t i = 0; i < g->state.n_mounts; i++) {
		const struct guard_mount *m = &g->state.mounts[i];
		const char *why = guard_mount_why(m);

		if (why != NULL)
			log_warn("nothing is deleted at and below %.*s: %s", (int)(m->len < 300 ? m->len : 300),
				 m->path, why);
	}
}

/* systemd's InaccessiblePaths= and ProtectKernelModules=: an empty directory in front of what is really there. */
static bool is_hidden_by_manager(const struct mount *m)
{
	return strncmp(m->root, "/systemd/inaccessible/", 22) == 0;
}

static int take_mounts(struct worker_guard *g, const struct mounts *table, struct err *err)
{
	struct guard_seen *seen = calloc(table->n + 1, sizeof(*seen));
	struct buf before;
	size_t n = 0;
	int rc = -1;

	buf_init(&before, GUARD_TEXT_MAX);
	for (size_t i = 0; seen != NULL && i < table->n; i++) {
		const char *path = table->list[i].hidden ? NULL : below_source(g, &table->list[i]);

		if (path == NULL)
			continue;
		seen[n] = (struct guard_seen){ .path = path, .len = strlen(path) };
		if (!is_hidden_by_manager(&table->list[i]))
			look_at_mount(g, &seen[n]);
		n++;
	}
	if (seen != NULL && guard_put(&before, &g->state))
		rc = guard_mounts(&g->state, seen, n, g->allow);
	if (rc == 0 && !same_state(&g->state, before.data, before.len)) {
		g->learned = true;
		tell_kept(g);
	}
	buf_done(&before);
	free(seen);
	return rc < 0 ? err_set(err, ERR_NOMEM, "out of memory for the mounts below the source") : 0;
}

static int check_mounts(struct worker_guard *g, struct err *err)
{
	struct mounts table;
	int rc;

	if (!GUARD_MOUNTS)
		return 0;
	if (g->mount_fd < 0)
		g->mount_fd = open(MOUNTINFO, O_RDONLY | O_CLOEXEC);
	if (g->mount_fd < 0)
		return err_errno(err, errno, MOUNTINFO);
	/* Without a mount below, only a change of the table is news. With one, a directory above it may have been
	 * renamed. */
	if (!table_changed(g) && g->state.looked && g->state.n_mounts == 0 && !g->state.too_many)
		return 0;
	if (mounts_read(&table, err) < 0)
		return -1;
	rc = take_mounts(g, &table, err);
	g->mark = mark_of(g, &table);
	mounts_done(&table);
	if (rc == 0)
		g->table_stale = false;
	return rc;
}

/* ---- a batch ---- */

static int make_keep(struct worker_guard *g, struct err *err)
{
	const char *marker = g->opt->require_target_marker;
	bool ok = guard_keeps(&g->state, &g->keep);

	if (marker != NULL) /* the source need not have it */
		ok = ok && keep_add(&g->keep, marker, strlen(marker), NULL);
	return ok ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

int wguard_begin(struct worker_guard *g, bool allow, struct err *err)
{
	wguard_release(g);
	g->allow = allow;
	if (check_source(g, err) < 0 || check_marker(g, err) < 0 || check_target(g, err) < 0 ||
	    check_mounts(g, err) < 0)
		return -1;
	return make_keep(g, err);
}

/* Something was mounted over what was looked for, and is gone again. */
static bool is_back(const struct worker_guard *g, const struct plan_part *part)
{
	struct looker l;
	bool back = false;

	looker_init(&l, g->source_fd);
	for (size_t i = 0; part->work.may_delete && i < part->work.n_items && !back; i++) {
		const struct transport_item *item = &part->work.items[i];
		enum look look;
		struct stat st;

		if (item->look == LOOK_ABSENT)
			back = looker_look(&l, item->path, item->len, &look, &st, NULL) < 0 || look != LOOK_ABSENT;
	}
	looker_done(&l);
	return back;
}

/* What was looked at must be what was guarded. On a busy host something is mounted elsewhere all the time. */
static int check_unmoved(struct worker_guard *g, const struct plan *p, struct err *err)
{
	struct mounts table;
	bool same;

	if (!GUARD_MOUNTS || !table_changed(g))
		return 0;
	if (mounts_read(&table, err) < 0)
		return -1;
	same = mark_of(g, &table) == g->mark && !is_back(g, &p->part[PLAN_APPLY]);
	mounts_done(&table);
	g->table_stale = !same;
	return same ? 0
		    : err_set(err, ERR_AGAIN,
			      "something was mounted or unmounted there while the source was looked at");
}

static bool deletes(const struct plan_part *part)
{
	for (size_t i = 0; part->work.may_delete && i < part->work.n_items; i++)
		if (part->work.items[i].look == LOOK_ABSENT)
			return true;
	return false;
}

static int say_empty(const struct worker_guard *g, struct err *err)
{
	return err_set(err, ERR_UNSAFE,
		       "the source %.300s is empty, and the target is not: nothing is deleted there. Mount or fill the "
		       "source; if it is right: allowEmptySource = true, or fansyncd --sync-now --allow-delete",
		       g->opt->source);
}

int wguard_planned(struct worker_guard *g, struct plan *p, struct err *err)
{
	struct transport_work *compare = &p->part[PLAN_RECONCILE].work;
	bool whole = compare->n_items > 0 && compare->items[0].len == 0, fewer = deletes(&p->part[PLAN_APPLY]);

	if (check_source(g, err) < 0 || check_unmoved(g, p, err) < 0)
		return -1;
	for (size_t s = 0; s < PLAN_STEPS; s++) {
		p->part[s].work.keep = &g->keep;
		p->part[s].work.unguarded = g->allow;
	}
	if (!GUARD_EMPTY || g->allow || g->opt->allow_empty_source || (!whole && !fewer) ||
	    source_is_empty(g->source_fd, NULL) != 1)
		return 0;
	if (fewer)
		return say_empty(g, err);
	g->empty = true;
	compare->max_delete = 0; /* whether the target is empty, too, the transport finds out */
	return 0;
}

bool wguard_refused(const struct worker_guard *g, const struct err *why, struct err *out)
{
	if (!g->empty || why == NULL || why->class != ERR_UNSAFE)
		return false;
	(void)say_empty(g, out);
	return true;
}
