/* targets.c - syncs that write to one place, and targets that lie in their own source. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "config/private.h"
#include "core/backup_dir.h"
#include "core/path.h"

/* Double slashes and one at the end mean nothing; a leading one does. */
static void squeeze(char *s)
{
	char *out = s;

	for (const char *in = s; *in != '\0'; in++)
		if (*in != '/' || in[1] != '/')
			*out++ = *in;
	while (out > s + 1 && out[-1] == '/')
		out--;
	*out = '\0';
}

/* Where the user does not matter: an absolute path is the same for all of them. */
static const char *without_user(const char *host)
{
	const char *at = strrchr(host, '@');

	return at == NULL ? host : at + 1;
}

/* Through a tunnel the same words are another target, unless the tunnel is the same. */
static char *through_tunnel(char *form, const struct strlist *command)
{
	struct buf text;
	char *all;

	buf_init(&text, CONFIG_TEXT_MAX);
	(void)buf_printf(&text, "%s by", form);
	for (size_t i = 0; i < command->n; i++)
		(void)buf_printf(&text, " %s", command->v[i]);
	all = text.failed ? NULL : strdup(buf_str(&text));
	buf_done(&text);
	free(form);
	return all;
}

static char *remote_form(const struct sync_options *s)
{
	static const char scheme[] = "rsync://";
	char *form = NULL;
	int rc;

	if (s->host != NULL && s->targetdir != NULL) {
		rc = asprintf(&form, "%s[%lld]:%s", s->targetdir[0] == '/' ? without_user(s->host) : s->host,
			      (long long)s->ssh.port, s->targetdir);
	} else if (strncasecmp(s->target, scheme, sizeof(scheme) - 1) == 0) {
		const char *rest = s->target + sizeof(scheme) - 1;
		int host = (int)strcspn(rest, "/");

		/* As host::module/path, so that both spellings are one. */
		rc = asprintf(&form, "%.*s::%s", host, rest, rest + host + strspn(rest + host, "/"));
	} else {
		rc = asprintf(&form, "%s", s->target);
	}
	if (rc < 0)
		return NULL;
	for (char *p = form; *p != '\0' && *p != ':' && *p != '/'; p++)
		*p = (char)tolower((unsigned char)*p);
	squeeze(form);
	return s->tunnel.command.n > 0 ? through_tunnel(form, &s->tunnel.command) : form;
}

static void resolve(struct config_run *run, const struct sync_options *s, struct config_draft *d)
{
	struct err err = ERR_INIT;

	if (d->transport == NULL || (s->target == NULL && (s->host == NULL || s->targetdir == NULL)))
		return;
	if (!d->local) {
		d->resolved = remote_form(s);
		if (d->resolved == NULL)
			config_out_of_memory(run);
		return;
	}
	d->resolved = run->env->check_paths ? config_canonical(s->target, NULL, &err)
					    : config_absolute(s->target, NULL, &err);
	if (d->resolved == NULL)
		config_error(run, config_draft_place(d, "target", SECTION_SYNC), "target: %s", err.text);
}

/* Whether directory `a` is `b` or lies below it. */
static bool within(const char *a, const char *b)
{
	return path_within(a + 1, strlen(a + 1), b + 1, strlen(b + 1));
}

static void check_own_source(struct config_run *run, const struct sync_options *s, const struct config_draft *d)
{
	struct config_place at = config_draft_place(d, "target", SECTION_SYNC);

	if (!d->local || d->resolved == NULL || s->source == NULL)
		return;
	if (strcmp(d->resolved, s->source) == 0)
		config_error(run, at, "target %s is the source itself", s->target);
	else if (within(d->resolved, s->source))
		config_error(run, at, "target %s lies inside its own source %s", s->target, s->source);
	else if (within(s->source, d->resolved))
		config_error(run, at, "source %s lies inside its own target %s", s->source, s->target);
}

/* Two mirrors may be nested if the outer one leaves the inner one's place alone. */
static bool left_alone(const struct sync_options *outer, const char *outer_dir, const char *inner_dir)
{
	size_t n = strlen(outer_dir);
	const char *rest = inner_dir + (outer_dir[n - 1] == '/' ? n : n + 1);

	return !outer->rsync.delete_excluded && filter_excludes_subtree(outer->filter, rest, strlen(rest));
}

static void check_pair(struct config_run *run, size_t i, size_t j)
{
	const struct sync_options *a = &run->c->syncs[i], *b = &run->c->syncs[j];
	const struct config_draft *da = &run->drafts[i], *db = &run->drafts[j];
	struct config_place at =
		config_draft_place(db, db->local || b->targetdir == NULL ? "target" : "targetdir", SECTION_SYNC);

	if (a->name != NULL && b->name != NULL && strcmp(a->name, b->name) == 0)
		config_error(run, config_draft_place(db, "name", SECTION_SYNC),
			     "two syncs are called \"%s\"; the other is at %s:%d", b->name, a->file, a->line);
	if (a->tunnel.port > 0 && a->tunnel.port == b->tunnel.port)
		config_error(run, config_draft_place(db, "port", SECTION_TUNNEL),
			     "two tunnels are to listen on port %lld; the other is at %s:%d", (long long)b->tunnel.port,
			     a->file, a->line);
	if (da->resolved == NULL || db->resolved == NULL || da->local != db->local)
		return;
	if (strcmp(da->resolved, db->resolved) == 0)
		config_error(run, at, "two syncs write to one target, %s; the other is at %s:%d", db->resolved, a->file,
			     a->line);
	else if (da->local && !da->bad_rules && within(db->resolved, da->resolved) &&
		 !left_alone(a, da->resolved, db->resolved))
		config_error(run, at,
			     "target %s lies inside the target of the sync at %s:%d, which does not exclude it",
			     b->target, a->file, a->line);
	else if (da->local && !db->bad_rules && within(da->resolved, db->resolved) &&
		 !left_alone(b, db->resolved, da->resolved))
		config_error(run, at, "target %s holds the target of the sync at %s:%d and does not exclude it",
			     b->target, a->file, a->line);
}

/* What is put away at one target must not come back from there as somebody's source. */
static void check_backups_at(struct config_run *run, const char *dir, const char *backup_dir)
{
	size_t root = backup_dir_root(backup_dir);
	char *path = NULL;

	if (asprintf(&path, "%s/%.*s", strcmp(dir, "/") == 0 ? "" : dir, (int)root, backup_dir) < 0) {
		config_out_of_memory(run);
		return;
	}
	for (size_t i = 0; i < run->c->n_syncs; i++) {
		const struct sync_options *s = &run->c->syncs[i];
		const char *rest = s->source == NULL ? NULL : path_rest(path, s->source);

		if (rest != NULL && !run->drafts[i].bad_rules &&
		    !filter_excludes_subtree(s->filter, rest, strlen(rest)))
			config_error(run, config_draft_place(&run->drafts[i], "source", SECTION_SYNC),
				     "source %s holds %s, where backups are put away (backupDir), and does not exclude "
				     "it: exclude = [ \"/%s/\" ]",
				     s->source, path, rest);
	}
	free(path);
}

void config_check_backups(struct config_run *run)
{
	const struct receiver_options *r = run->c->receiver;
	struct err err = ERR_INIT;

	for (size_t i = 0; i < run->c->n_syncs; i++) {
		const struct sync_options *s = &run->c->syncs[i];

		if (s->backup_dir != NULL && run->drafts[i].local && run->drafts[i].resolved != NULL &&
		    backup_dir_check(s->backup_dir, &err) == 0)
			check_backups_at(run, run->drafts[i].resolved, s->backup_dir);
	}
	for (size_t i = 0; r != NULL && i < r->n_modules; i++)
		if (r->modules[i].path != NULL && r->modules[i].backup_dir != NULL &&
		    backup_dir_check(r->modules[i].backup_dir, &err) == 0)
			check_backups_at(run, r->modules[i].path, r->modules[i].backup_dir);
}

void config_check_syncs(struct config_run *run)
{
	size_t n = run->c->n_syncs;

	if (n == 0 && run->c->receiver == NULL && !(run->saw_sync && run->failed)) {
		if (run->env->empty != NULL)
			*run->env->empty = true;
		config_error(run, (struct config_place){ run->name == NULL ? "command line" : run->name, 0 },
			     "there is neither a sync nor a receiver section");
	}
	for (size_t i = 0; i < n; i++) {
		resolve(run, &run->c->syncs[i], &run->drafts[i]);
		check_own_source(run, &run->c->syncs[i], &run->drafts[i]);
		for (size_t j = 0; j < i; j++)
			check_pair(run, j, i);
	}
}
