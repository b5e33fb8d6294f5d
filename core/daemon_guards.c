/* What stateDir remembers of each target's source, and whether a source is still that one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/daemon_private.h"
#include "core/fsutil.h"
#include "core/guard_file.h"
#include "core/guard_switches.h"
#include "core/log.h"
#include "core/log_ids.h"
#include "core/path.h"

static char *path_of(const struct member *m, const char *key)
{
	return guard_file_path(m->source->daemon->state_dir, key);
}

static int load(struct member *m, struct err *err)
{
	char *key = guard_file_key(sync_options_of(m->sync)), *path = key == NULL ? NULL : path_of(m, key);
	int rc;

	guard_done(&m->guard);
	if (key == NULL || path == NULL) {
		free(key);
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	rc = guard_file_read(path, key, &m->guard, err);
	free(path);
	if (rc < 0 && m->accept)
		rc = 0; /* begun anew */
	if (rc == 0 && m->guard.target == NULL)
		m->guard.target = key;
	else
		free(key);
	return rc;
}

static int store(struct member *m, struct err *err)
{
	char *path = m->guard.target == NULL ? NULL : path_of(m, m->guard.target);
	struct buf text;
	int rc = -1;

	buf_init(&text, GUARD_TEXT_MAX);
	if (path == NULL || !guard_put(&text, &m->guard))
		err_set(err, ERR_NOMEM, "out of memory");
	else
		rc = atomic_write(path, text.data, text.len, 0600, FSUTIL_SYNC, err);
	buf_done(&text);
	free(path);
	return rc;
}

/* The directory that a mount point is while nothing is mounted lies on the file system above it. */
static const char *what_happened(const struct source *s, const struct root_identity *now,
				 const struct root_identity *was)
{
	struct stat up;
	char *parent;
	bool plain = false;

	if (asprintf(&parent, "%s/..", s->path) >= 0) {
		plain = stat(parent, &up) == 0 && up.st_dev == now->dev;
		free(parent);
	}
	return plain && (now->fsid != was->fsid || now->type != was->type)
		       ? "it seems that its file system is not mounted"
		       : "it was replaced, or something else is mounted";
}

static int compare(const struct member *m, const struct root_identity *now, struct err *err)
{
	const struct guard_state *g = &m->guard;

	if (!GUARD_IDENTITY || !g->has_root || m->accept || identity_same(&g->root, now))
		return 0;
	if (g->source != NULL && strcmp(g->source, m->source->path) != 0)
		return err_set(
			err, ERR_UNSAFE,
			"the target was mirrored from %.150s so far, and the source %.150s is another directory: "
			"nothing is carried. If it is right: fansyncd --sync-now --allow-delete",
			g->source, m->source->path);
	return err_set(err, ERR_UNSAFE,
		       "the source %.250s is another directory than before (%s): nothing is carried. If it is right: "
		       "fansyncd --sync-now --allow-delete",
		       m->source->path, what_happened(m->source, now, &g->root));
}

static int check(struct member *m, int root_fd, struct root_identity *now, struct err *err)
{
	if (load(m, err) < 0 || identity_of_fd(root_fd, now, err) < 0)
		return -1;
	return compare(m, now, err);
}

int guards_check(struct member *m, int root_fd, struct err *err)
{
	struct root_identity now;

	return check(m, root_fd, &now, err);
}

static int note_root(struct member *m, const struct root_identity *now, struct err *err)
{
	struct guard_state *g = &m->guard;

	if (g->source == NULL || strcmp(g->source, m->source->path) != 0) {
		free(g->source);
		g->source = strdup(m->source->path);
		if (g->source == NULL)
			return err_set(err, ERR_NOMEM, "out of memory");
	} else if (g->has_root && identity_same(&g->root, now) && g->root.fsid == now->fsid &&
		   g->root.dev == now->dev && g->root.has_uuid == now->has_uuid) {
		return 0; /* as noted */
	}
	g->has_root = true;
	g->root = *now;
	return store(m, err);
}

int guards_admit(struct member *m, int root_fd, struct err *err)
{
	struct root_identity now;

	if (check(m, root_fd, &now, err) < 0 || note_root(m, &now, err) < 0)
		return -1;
	free(m->refused);
	m->refused = NULL;
	return 0;
}

void guards_refuse(struct member *m, const char *why)
{
	if (m->refused == NULL || strcmp(m->refused, why) != 0) {
		log_event(&(const struct log_fields){ .sync = sync_options_of(m->sync)->name,
						      .message_id = LOG_ID_STOPPED },
			  LOG_CAT_ERROR, "%s: stopped: %s", sync_options_of(m->sync)->name, why);
		free(m->refused);
		m->refused = strdup(why);
	}
	sync_source_lost(m->sync, why);
}

int guards_text(void *ctx, const struct sync_options *opt, struct buf *out)
{
	const struct member *m = daemon_member(ctx, opt->name);

	return m != NULL && guard_put(out, &m->guard) ? 0 : -1;
}

/* The source's part stays ours. */
void guards_learned(void *ctx, const struct sync_options *opt, const char *text, size_t len)
{
	struct member *m = daemon_member(ctx, opt->name);
	struct guard_state g;
	struct err err = ERR_INIT;

	if (m == NULL)
		return;
	if (guard_get(text, len, &g, &err) < 0) {
		log_error("%s: from the worker: %s", opt->name, err.text);
		return;
	}
	free(g.source);
	free(g.target);
	g.source = m->guard.source;
	g.target = m->guard.target;
	g.has_root = m->guard.has_root;
	g.root = m->guard.root;
	m->guard.source = m->guard.target = NULL;
	guard_done(&m->guard);
	m->guard = g;
	if (store(m, &err) < 0)
		log_error("%s: what guards against deletions can't be remembered: %s", opt->name, err.text);
}

void guards_done(struct member *m)
{
	guard_done(&m->guard);
	free(m->refused);
}
