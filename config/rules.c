/*
 * rules.c - the filter of a sync: the rules of all its keys, in one order.
 *
 * filter, filterFrom, the filter options in rsync.extra, exclude, excludeFrom (lsyncd: filters first, then excludes),
 * and behind them all the list of rsync's -C, where rsync itself puts it.
 */
#include <stdlib.h>
#include <string.h>

#include "config/private.h"
#include "core/backup_dir.h"

/* rsync's built-in list for -C (its manual page, "--cvs-exclude"). */
static const char *const cvs_patterns[] = {
	"RCS",		"SCCS",	  "CVS",   "CVS.adm", "RCSLOG", "cvslog.*", "tags",  "TAGS",  ".make.state",
	".nse_depinfo", "*~",	  "#*",	   ".#*",     ",*",	"_$*",	    "*$",    "*.old", "*.bak",
	"*.BAK",	"*.orig", "*.rej", ".del-*",  "*.a",	"*.olb",    "*.o",   "*.obj", "*.so",
	"*.exe",	"*.Z",	  "*.elc", "*.ln",    "core",	".svn/",    ".git/", ".hg/",  ".bzr/",
};

typedef int add_rule(struct filter *f, const char *text, size_t len, struct err *err);

struct building {
	struct config_run *run;
	struct sync_options *s;
	const struct config_draft *d;
	int failures;
};

static void failed(struct building *b, const char *key, enum config_section section, const char *text,
		   const struct err *err)
{
	struct config_place at = config_draft_place(b->d, key, section);

	b->failures++;
	if (text != NULL)
		config_error(b->run, at, "%s \"%.200s\": %s", key, text, err->text);
	else
		config_error(b->run, at, "%s: %s", key, err->text);
}

static void add_list(struct building *b, const char *key, const struct strlist *list, add_rule *add)
{
	for (size_t i = 0; i < list->n; i++) {
		struct err err = ERR_INIT;

		if (add(b->s->filter, list->v[i], strlen(list->v[i]), &err) != 0)
			failed(b, key, SECTION_SYNC, NULL, &err); /* the text holds the rule */
	}
}

static void add_file(struct building *b, const char *key, const char *path, add_rule *add)
{
	struct err err = ERR_INIT;
	char *text = NULL;
	size_t len;

	if (path == NULL)
		return;
	if (config_read_whole(path, CONFIG_FILE_MAX, &text, &len, &err) != 0)
		failed(b, key, SECTION_SYNC, NULL, &err);
	else if (add(b->s->filter, text, len, &err) != 0)
		failed(b, key, SECTION_SYNC, path, &err);
	free(text);
}

static int read_for_filter(void *ctx, const char *path, char **text, size_t *len, struct err *err)
{
	const struct config_run *run = ctx;
	char *abs = config_absolute(path, run->dir, err);
	int rc = abs == NULL ? -1 : config_read_whole(abs, CONFIG_FILE_MAX, text, len, err);

	free(abs);
	return rc;
}

static void free_arg(char *arg)
{
	free(arg);
}

static void add_extra(struct building *b)
{
	struct strlist *extra = &b->s->rsync.extra;
	struct err err = ERR_INIT;

	if (extra->n > 0 &&
	    filter_add_rsync_args(b->s->filter, extra->v, &extra->n, read_for_filter, b->run, free_arg, &err) != 0)
		failed(b, "extra", SECTION_RSYNC, NULL, &err);
}

/* The rules take the place of the option, so that the transports and a dump know nothing of it. */
static void add_cvs(struct building *b)
{
	struct err err = ERR_INIT;

	if (!b->s->rsync.cvs_exclude)
		return;
	config_warn(b->run, config_draft_place(b->d, "cvs_exclude", SECTION_RSYNC),
		    "cvs_exclude: rsync's list is used; .cvsignore files and CVSIGNORE are not read");
	for (size_t i = 0; i < sizeof(cvs_patterns) / sizeof(cvs_patterns[0]); i++) {
		char rule[32];
		/* Perishable, as rsync has them: they do not keep a deleted directory alive. */
		int n = snprintf(rule, sizeof(rule), "-p %s", cvs_patterns[i]);

		if (filter_add_rule(b->s->filter, rule, (size_t)n, &err) != 0) {
			failed(b, "cvs_exclude", SECTION_RSYNC, rule, &err);
			return;
		}
	}
	b->s->rsync.cvs_exclude = false;
}

/* Where backups are: neither sent nor deleted, by any other rule. A dump holds these two already. */
static void add_backup_dir(struct building *b)
{
	static const char *const kinds[] = { "-r", "-" };
	const char *dir = b->s->backup_dir;
	struct err err = ERR_INIT;
	char rules[2][BACKUP_DIR_MAX + 8];
	bool there = b->s->filter_rules.n >= 2;

	if (dir == NULL || backup_dir_check(dir, &err) < 0)
		return; /* the latter was reported */
	for (size_t i = 0; i < 2; i++) {
		(void)snprintf(rules[i], sizeof(rules[i]), "%s /%.*s", kinds[i], (int)backup_dir_root(dir), dir);
		there = there && strcmp(rules[i], b->s->filter_rules.v[i]) == 0;
	}
	for (size_t i = 0; i < 2 && !there; i++)
		if (filter_add_rule(b->s->filter, rules[i], strlen(rules[i]), &err) != 0)
			failed(b, "backupDir", SECTION_SYNC, NULL, &err);
}

int config_rules_build(struct config_run *run, struct sync_options *s, struct config_draft *d)
{
	struct building b = { .run = run, .s = s, .d = d };

	s->filter = filter_new();
	if (s->filter == NULL) {
		config_out_of_memory(run);
		return -1;
	}
	add_backup_dir(&b);
	add_list(&b, "filter", &s->filter_rules, filter_add_rule);
	add_file(&b, "filterFrom", s->filter_from, filter_add_filter_lines);
	add_extra(&b);
	add_list(&b, "exclude", &s->exclude, filter_add_exclude);
	add_file(&b, "excludeFrom", s->exclude_from, filter_add_exclude_lines);
	add_cvs(&b);
	return b.failures == 0 ? 0 : -1;
}
