/* The daemon's sources: found, watched, lost, found again. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/daemon_private.h"
#include "core/fsutil.h"
#include "core/guard_switches.h"
#include "core/log.h"
#include "core/log_ids.h"

/* How often a missing source, or a lock that another process holds, is looked for. */
#define RETRY_FIRST_NS NS_PER_S
#define RETRY_LAST_NS (10 * NS_PER_S)

struct source *sources_get(struct daemon *d, const char *path)
{
	struct source *s;

	for (s = d->sources; s != NULL; s = s->next)
		if (strcmp(s->path, path) == 0)
			return s;
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return NULL;
	s->path = strdup(path);
	if (s->path == NULL) {
		free(s);
		return NULL;
	}
	s->daemon = d;
	s->root_fd = -1;
	s->next = d->sources;
	d->sources = s;
	return s;
}

static void set_why(struct source *s, const char *why)
{
	free(s->why);
	s->why = why == NULL ? NULL : strdup(why);
}

static void close_source(struct source *s)
{
	if (s->watched != NULL)
		watcher_remove(s->daemon->watchers, s->watched);
	s->watched = NULL;
	if (s->root_fd >= 0)
		(void)close(s->root_fd);
	s->root_fd = -1;
	s->lost = false;
}

static void plan_retry(struct source *s)
{
	int64_t pause = RETRY_FIRST_NS * (int64_t)(s->tries < 10 ? s->tries + 1 : 10);

	s->tries++;
	s->retry_ns = clock_mono_ns() + (pause > RETRY_LAST_NS ? RETRY_LAST_NS : pause);
}

static void lose(struct source *s, const char *why)
{
	struct daemon *d = s->daemon;

	for (size_t i = 0; i < d->n_members; i++) {
		if (d->members[i]->source != s || !d->members[i]->running)
			continue;
		d->members[i]->running = false;
		sync_source_lost(d->members[i]->sync, why);
	}
	close_source(s);
	plan_retry(s);
	d->poll_all = true;
}

/* ---- watching ---- */

/* inotify sets no watch in a directory that no sync of this source looks into. */
static bool skip_dir(void *ctx, const char *path, size_t len)
{
	const struct source *s = ctx;
	const struct daemon *d = s->daemon;

	for (size_t i = 0; i < d->n_members; i++)
		if (d->members[i]->source == s &&
		    !filter_excludes_subtree(sync_options_of(d->members[i]->sync)->filter, path, len))
			return false;
	return true;
}

/* Syncs of one source share a watch: it has to serve the most demanding of them. */
static struct watch_request request_for(struct source *s)
{
	struct watch_request rq = {
		.path = s->path, .root_fd = s->root_fd, .one_file_system = true, .skip_dir = skip_dir, .skip_ctx = s
	};
	const struct daemon *d = s->daemon;

	for (size_t i = 0; i < d->n_members; i++) {
		const struct sync_options *opt = sync_options_of(d->members[i]->sync);

		if (d->members[i]->source != s)
			continue;
		if (opt->watcher != WATCHER_AUTO)
			rq.choice = opt->watcher;
		rq.one_file_system = rq.one_file_system && opt->one_file_system;
		rq.want_modify = rq.want_modify || opt->open_file_interval_ns > 0;
		if (opt->inotify_mode != INOTIFY_CLOSE_WRITE)
			rq.inotify_mode = opt->inotify_mode;
	}
	return rq;
}

static void log_watcher(const struct source *s, const struct watched *w, const char *word)
{
	struct watched_info info;

	watched_info(w, &info);
	log_normal("watching %s %sby %s: %s", s->path, word, info.backend, info.reason);
}

static struct watched *watch(struct source *s, struct err *err)
{
	struct watch_request rq = request_for(s);
	struct watched *w = watcher_add(s->daemon->watchers, &rq, s, err);

	if (w == NULL)
		return NULL;
	s->needs = (struct watch_needs){ rq.choice, rq.one_file_system, rq.want_modify, rq.inotify_mode };
	log_watcher(s, w, "");
	return w;
}

static int open_root(struct source *s, struct err *err)
{
	/* The path was resolved when the configuration was read: a symbolic link took its place since. */
	s->root_fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (GUARD_SYMLINK ? O_NOFOLLOW : 0));
	if (s->root_fd >= 0)
		return 0;
	if (errno == ELOOP || errno == ENOTDIR)
		return err_set(err, ERR_GONE,
			       "the source %.300s is no directory any more (a symbolic link or a file took its place); "
			       "if that is right: restart or reload",
			       s->path);
	return err_errno(err, errno, "cannot open the source %s", s->path);
}

/* Whether any of its waiting syncs trusts the root; the others are told why not. */
static bool is_trusted(struct source *s)
{
	bool any = false;

	for (size_t i = 0; i < s->daemon->n_members; i++) {
		struct member *m = s->daemon->members[i];
		struct err err = ERR_INIT;

		if (m->source != s || m->running)
			continue;
		if (guards_check(m, s->root_fd, &err) == 0)
			any = true;
		else
			guards_refuse(m, err.text);
	}
	return any;
}

static int start_watching(struct source *s, struct err *err)
{
	if (s->daemon->watchers == NULL)
		return 0;
	s->watched = watch(s, err);
	return s->watched == NULL ? -1 : 0;
}

static bool has_new_member(const struct source *s)
{
	for (size_t i = 0; i < s->daemon->n_members; i++)
		if (s->daemon->members[i]->source == s && !s->daemon->members[i]->started)
			return true;
	return false;
}

/* After a reload: a source whose syncs ask for something else is watched anew, before the old watch ends, so that
 * nothing is missed. */
void sources_rewatch(struct daemon *d)
{
	for (struct source *s = d->sources; s != NULL; s = s->next) {
		struct watch_request rq = request_for(s);
		const struct watch_needs *n = &s->needs;
		struct err err = ERR_INIT;
		struct watched *w;

		/* A new sync may look into directories that were excluded for all before it. */
		if (s->watched == NULL ||
		    (!has_new_member(s) && n->choice == rq.choice && n->one_file_system == rq.one_file_system &&
		     n->want_modify == rq.want_modify && n->inotify_mode == rq.inotify_mode))
			continue;
		w = watch(s, &err);
		if (w == NULL) {
			log_error("%s: watched as before the reload: %s", s->path, err.text);
			continue;
		}
		watcher_hand_over_files(d->watchers, s->watched, w);
		watcher_remove(d->watchers, s->watched);
		s->watched = w;
	}
}

void sources_on_record(void *ctx, struct watched *w, const struct change *c)
{
	struct daemon *d = ctx;
	const struct source *s = watched_owner(w);
	struct change tagged = *c;

	tagged.from = c->pid == 0 ? NULL : origins_find(&d->receiver.origins, (uint32_t)c->pid);
	if (tagged.from != NULL)
		tagged.origin = ORIGIN_INCOMING;
	for (size_t i = 0; i < d->n_members; i++)
		if (d->members[i]->source == s)
			sync_record(d->members[i]->sync, &tagged, d->generation);
	d->poll_all = true;
}

/* Whether a first comparison of the source is still to end: then `insist` says whether a problem ends the daemon. */
static bool starting(const struct source *s)
{
	const struct daemon *d = s->daemon;

	for (size_t i = 0; i < d->n_members; i++) {
		struct sync_snapshot snap;

		if (d->members[i]->source != s)
			continue;
		sync_snapshot(d->members[i]->sync, &snap);
		if (!snap.first_done)
			return true;
	}
	return false;
}

void sources_on_state(void *ctx, struct watched *w, enum watched_state state, const char *why)
{
	struct daemon *d = ctx;
	struct source *s = watched_owner(w);

	switch (state) {
	case WATCHED_OK:
		if (s->why != NULL)
			log_normal("%s: watched as a whole again", s->path);
		set_why(s, NULL);
		break;
	case WATCHED_PARTIAL:
		log_error("%s: only partly watched: %s", s->path, why);
		set_why(s, why);
		if (!d->config->settings.insist && !d->reloaded && starting(s))
			daemon_stop(d, 255);
		break;
	case WATCHED_GONE:
		log_event(&(const struct log_fields){ .message_id = LOG_ID_NO_SOURCE }, LOG_CAT_ERROR,
			  "%s: %s; its syncs wait until it is back", s->path, why);
		set_why(s, why);
		s->lost = true; /* the watcher can't be called from here */
		break;
	}
	d->poll_all = true;
}

void sources_on_changed(void *ctx, struct watched *w, const char *refused)
{
	const struct source *s = watched_owner(w);
	struct watched_info info;

	(void)ctx;
	if (refused == NULL) {
		log_watcher(s, w, "from now on ");
		return;
	}
	watched_info(w, &info);
	log_normal("%s: still watched by %s, another watcher could not take over: %s", s->path, info.backend, refused);
}

void sources_on_linked(void *ctx, const struct sync *s, const struct wire_linked *f)
{
	struct daemon *d = ctx;

	for (size_t i = 0; i < d->n_members; i++)
		if (d->members[i]->sync == s && d->members[i]->source->watched != NULL)
			watcher_add_file(d->watchers, d->members[i]->source->watched, f->path, f->len, f->dev, f->ino);
}

/* ---- members ---- */

static bool take_lock(struct member *m)
{
	const struct sync_options *opt = sync_options_of(m->sync);
	const char *dir = m->source->daemon->state_dir;
	struct err err = ERR_INIT;
	char *path;

	if (m->lock_fd >= 0)
		return true;
	if (asprintf(&path, "%s/%s.lock", dir, opt->name) < 0)
		return false;
	m->lock_fd = lock_file(path, LOCK_MODE_TRY, &err);
	free(path);
	if (m->lock_fd < 0 && !m->lock_told) {
		m->lock_told = true;
		if (err.class == ERR_AGAIN)
			log_warn("%s: another fansyncd is at work on this sync: waiting for it", opt->name);
		else
			log_error("%s: %s", opt->name, err.text);
	}
	if (m->lock_fd < 0 && err.class == ERR_AGAIN)
		sync_held_up(m->sync);
	else if (m->lock_fd < 0)
		sync_source_lost(m->sync, err.text); /* to the status, and to who waits: this does not pass by itself */
	return m->lock_fd >= 0;
}

static void run_member(struct member *m)
{
	struct daemon *d = m->source->daemon;
	const struct sync_options *opt = sync_options_of(m->sync);
	struct err err = ERR_INIT;

	if (!take_lock(m)) {
		if (m->source->retry_ns < clock_mono_ns())
			plan_retry(m->source);
		return;
	}
	if (guards_admit(m, m->source->root_fd, &err) < 0) {
		guards_refuse(m, err.text);
		if (m->source->retry_ns < clock_mono_ns())
			plan_retry(m->source);
		return;
	}
	if (sync_source_found(m->sync, m->source->root_fd, &err) < 0) {
		log_error("%s: %s", opt->name, err.text);
		sync_source_lost(m->sync, err.text);
		if (m->source->retry_ns < clock_mono_ns())
			plan_retry(m->source);
		return;
	}
	m->running = true;
	m->lock_told = false;
	if (m->started)
		sync_reconcile(m->sync, "the source is back", false, false, 0); /* nobody saw the changes: all wait */
	else if (opt->init || d->options->once) /* what is recorded from now on is not of the start */
		sync_reconcile(m->sync, NULL, true, d->options->once && d->options->allow_delete, d->generation++);
	m->started = true;
	d->poll_all = true;
}

static void find(struct source *s)
{
	struct err err = ERR_INIT;
	bool opened = open_root(s, &err) == 0;

	if (opened && !is_trusted(s)) {
		close_source(s); /* nothing to watch; each sync has been told */
		set_why(s, NULL);
		plan_retry(s);
		return;
	}
	if (opened && start_watching(s, &err) == 0) {
		if (s->tries > 0 && s->why != NULL)
			log_normal("%s: the source is back", s->path);
		set_why(s, NULL);
		s->tries = 0;
		return;
	}
	close_source(s);
	if (s->why == NULL || strcmp(s->why, err.text) != 0)
		log_event(&(const struct log_fields){ .message_id = LOG_ID_NO_SOURCE }, LOG_CAT_ERROR,
			  "%s; its syncs wait for it", err.text);
	set_why(s, err.text);
	plan_retry(s);
	for (size_t i = 0; i < s->daemon->n_members; i++)
		if (s->daemon->members[i]->source == s)
			sync_source_lost(s->daemon->members[i]->sync, err.text);
}

/* What the administrator said is for this look only: a source that goes wrong later is not meant by it. */
static void end_acceptance(struct source *s)
{
	for (size_t i = 0; i < s->daemon->n_members; i++)
		if (s->daemon->members[i]->source == s)
			s->daemon->members[i]->accept = false;
}

static bool has_waiting_member(const struct source *s)
{
	for (size_t i = 0; i < s->daemon->n_members; i++)
		if (s->daemon->members[i]->source == s && !s->daemon->members[i]->running)
			return true;
	return false;
}

/* A missing source without the daemon watching its parents is looked for; so is a lock. */
void sources_poll(struct daemon *d)
{
	int64_t now = clock_mono_ns(), next = INT64_MAX;
	bool due, looked;

	for (struct source *s = d->sources; s != NULL; s = s->next) {
		if (s->lost)
			lose(s, s->why == NULL ? "the source is gone" : s->why);
		if (!has_waiting_member(s))
			continue;
		looked = s->retry_ns <= now;
		if (looked && s->root_fd < 0)
			find(s);
		due = s->retry_ns <= now; /* a member without its lock plans the next try, for all of them */
		for (size_t i = 0; due && i < d->n_members && s->root_fd >= 0; i++)
			if (d->members[i]->source == s && !d->members[i]->running)
				run_member(d->members[i]);
		if (looked)
			end_acceptance(s);
		if (has_waiting_member(s) && s->retry_ns < next)
			next = s->retry_ns;
	}
	if (next != INT64_MAX)
		loop_timer_at(d->retry_timer, next);
}

void sources_prune(struct daemon *d)
{
	struct source **link = &d->sources;

	while (*link != NULL) {
		struct source *s = *link;
		bool used = false;

		for (size_t i = 0; i < d->n_members; i++)
			used = used || d->members[i]->source == s;
		if (used) {
			link = &s->next;
			continue;
		}
		*link = s->next;
		close_source(s);
		free(s->path);
		free(s->why);
		free(s);
	}
}

void sources_free_all(struct daemon *d)
{
	d->n_members = 0;
	sources_prune(d);
}
