/*
 * rsync_args.c - rsync's command line; see rsync_args.h.
 *
 * The order matters: lsyncd's cluster and long options, the administrator's own, then ours, which must win. `-s` keeps
 * remote shells away from names, `--` keeps names from being options.
 */
#include "transports/rsync_args.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/guard_switches.h"
#include "core/path.h"
#include "transports/rsync_output.h"

void arglist_done(struct arglist *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->v[i]);
	free(a->v);
	*a = (struct arglist){ 0 };
}

static bool take(struct arglist *a, char *owned)
{
	if (owned != NULL && !a->failed && a->n + 2 > a->cap) {
		size_t cap = a->cap * 2 + 32;
		char **v = realloc(a->v, cap * sizeof(char *));

		if (v != NULL) {
			a->v = v;
			a->cap = cap;
		} else {
			a->failed = true;
		}
	}
	if (owned == NULL || a->failed) {
		free(owned);
		a->failed = true;
		return false;
	}
	a->v[a->n++] = owned;
	a->v[a->n] = NULL;
	return true;
}

bool arglist_add(struct arglist *a, const char *arg)
{
	return take(a, strdup(arg));
}

bool arglist_printf(struct arglist *a, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	return take(a, text);
}

/* What `archive` stands for is in its members already, and which of them were given as false. */
static void add_cluster(struct arglist *a, const struct rsync_options *r, bool one_file_system)
{
	const struct {
		char letter;
		bool on;
	} flags[] = {
		{ 'l', r->links },
		{ 't', r->times },
		{ 'p', r->perms },
		{ 'o', r->owner },
		{ 'g', r->group },
		{ 'A', r->acls },
		{ 'X', r->xattrs },
		{ 'H', r->hard_links },
		{ 'S', r->sparse },
		{ 'c', r->checksum },
		{ 'u', r->update },
		{ 'z', r->compress },
		{ 'b', r->backup },
		{ 'k', r->copy_dirlinks },
		{ 'L', r->copy_links },
		{ 'E', r->executability },
		{ 'I', r->ignore_times },
		{ '4', r->ipv4 },
		{ '6', r->ipv6 },
		{ 'K', r->keep_dirlinks },
		{ 'O', r->omit_dir_times },
		{ 'J', r->omit_link_times },
		{ 'x', r->one_file_system || one_file_system },
		{ 'm', r->prune_empty_dirs },
		{ 'v', r->verbose },
		{ 'W', r->whole_file },
		{ 'y', r->fuzzy },
		{ 'n', r->dry_run },
	};
	char cluster[2 + sizeof(flags) / sizeof(flags[0])] = "-";
	size_t n = 1;

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (flags[i].on)
			cluster[n++] = flags[i].letter;
	cluster[n] = '\0';
	if (n > 1)
		(void)arglist_add(a, cluster);
}

static void add_longs(struct arglist *a, const struct rsync_options *r, bool password_comes)
{
	const struct {
		const char *name;
		bool on;
	} words[] = {
		{ "--devices", r->devices },
		{ "--specials", r->specials },
		{ "--append", r->append },
		{ "--append-verify", r->append_verify },
		{ "--copy-unsafe-links", r->copy_unsafe_links },
		{ "--existing", r->existing },
		{ "--inplace", r->inplace },
		{ "--numeric-ids", r->numeric_ids },
		{ "--mkpath", r->mkpath },
	};
	const struct {
		const char *name, *value;
	} values[] = {
		{ "backup-dir", r->backup_dir },
		{ "chmod", r->chmod },
		{ "chown", r->chown },
		{ "groupmap", r->groupmap },
		{ "usermap", r->usermap },
		{ "password-file", password_comes ? "-" : r->password_file },
		{ "suffix", r->suffix },
		{ "temp-dir", r->temp_dir },
		{ "max-size", r->max_size },
		{ "min-size", r->min_size },
		{ "partial-dir", r->partial_dir },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (words[i].on)
			(void)arglist_add(a, words[i].name);
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		if (values[i].value != NULL)
			(void)arglist_printf(a, "--%s=%s", values[i].name, values[i].value);
	if (r->bwlimit > 0)
		(void)arglist_printf(a, "--bwlimit=%lld", (long long)r->bwlimit);
	if (r->timeout > 0)
		(void)arglist_printf(a, "--timeout=%lld", (long long)r->timeout);
	/* --quiet would hide what we must know. */
	for (size_t i = 0; i < r->extra.n; i++)
		if (strcmp(r->extra.v[i], "-q") != 0 && strcmp(r->extra.v[i], "--quiet") != 0)
			(void)arglist_add(a, r->extra.v[i]);
}

static void add_connection(struct arglist *a, const struct rsync_job *job, const struct rsync_options *r)
{
	if (job->kind == RSYNC_LOCAL)
		return;
	if (!job->bare) /* --protect-args, since 3.2.6 --secluded-args: every version has the letter */
		(void)arglist_add(a, "-s");
	if (job->kind == RSYNC_DAEMON) {
		(void)arglist_add(a, "--no-motd");
		(void)arglist_printf(a, "--contimeout=%lld", (long long)(r->timeout > 0 ? r->timeout : 30));
		return;
	}
	if (job->rsh != NULL)
		(void)arglist_printf(a, "--rsh=%s", job->rsh);
	if (job->rsync_path != NULL)
		(void)arglist_printf(a, "--rsync-path=%s", job->rsync_path);
}

/* The rule as it is for the receiver alone: it protects from deletion, and hides nothing that the list names. Rules
 * for the sender's side only are left out. Without --delete rsync does not tell a receiver elsewhere (`remote`) of
 * rules: it is given them as options of its own. */
static void add_protection(struct arglist *a, const char *rule, bool remote)
{
	const char *blank = strchr(rule, ' ');
	size_t kind = blank == NULL ? 0 : (size_t)(blank - rule);
	bool sender = kind > 0 && memchr(rule, 's', kind) != NULL,
	     receiver = kind > 0 && memchr(rule, 'r', kind) != NULL;

	if (kind == 0 || (rule[0] != '+' && rule[0] != '-') || (sender && !receiver))
		return;
	(void)arglist_printf(a, "%s--filter=%.*s%s%s", remote ? "--remote-option=" : "", (int)kind, rule,
			     receiver ? "" : "r", blank);
}

/* The rule as it is for the sender alone: it keeps a name out of what is listed, and nothing from being deleted. */
static void add_selection(struct arglist *a, const char *rule)
{
	const char *blank = strchr(rule, ' ');
	size_t kind = blank == NULL ? 0 : (size_t)(blank - rule);
	bool sender = kind > 0 && memchr(rule, 's', kind) != NULL,
	     receiver = kind > 0 && memchr(rule, 'r', kind) != NULL;

	if (kind > 0 && (sender || !receiver))
		(void)arglist_printf(a, "--filter=%.*s%s%s", (int)kind, rule, sender ? "" : "s", blank);
}

/* The path itself, whatever it is, and what is below it. With wildcards in a rule a backslash is an escape. */
static void add_keep(struct arglist *a, const struct keep *k)
{
	struct buf rule;

	buf_init(&rule, 3 * PATH_BYTES_MAX);
	(void)buf_add_str(&rule, "--filter=");
	if (!rsync_rule_for(&rule, "P ", k->path, k->len) || !arglist_add(a, buf_str(&rule)))
		a->failed = true;
	buf_clear(&rule);
	(void)buf_add_str(&rule, "--filter=P /");
	for (size_t i = 0; i < k->len; i++) {
		if (strchr("*?[\\", k->path[i]) != NULL)
			(void)buf_add_byte(&rule, '\\');
		(void)buf_add_byte(&rule, (unsigned char)k->path[i]);
	}
	if (!buf_add_str(&rule, "/***") || !arglist_add(a, buf_str(&rule)))
		a->failed = true;
	buf_done(&rule);
}

/* For certain: who is not root must not be given names that only root can set. */
static bool is_root_there(const struct rsync_job *job, const struct sync_options *o)
{
	return strncmp(job->dest, "root@", 5) == 0 || o->ssh.remote_prefix.n > 0;
}

/* We can't see trusted.* (it takes CAP_SYS_ADMIN), so a receiver that can takes what is there of it for superfluous.
 * XFS shows ACLs as trusted.SGI_ACL_FILE as well: they would be removed. */
static void add_attribute_names(struct arglist *a, const struct rsync_job *job, const struct sync_options *o)
{
	if (!o->rsync.xattrs || job->kind != RSYNC_SHELL || !job->picks_xattrs)
		return;
	if (!is_root_there(job, o)) {
		(void)arglist_add(a, "--remote-option=--filter=-x! user.*");
		return;
	}
	(void)arglist_add(a, "--remote-option=--filter=-x system.*");
	(void)arglist_add(a, "--remote-option=--filter=-x trusted.*");
}

static void add_filters(struct arglist *a, const struct rsync_job *job, const struct sync_options *o)
{
	for (size_t i = 0; job->keep != NULL && job->recurse && job->del && i < job->keep->n; i++)
		add_keep(a, &job->keep->v[i]);
	for (size_t i = 0; job->first_rules != NULL && i < job->first_rules->n; i++)
		(void)arglist_printf(a, "--filter=%s", job->first_rules->v[i]);
	for (size_t i = 0; !job->recurse && job->force && !o->rsync.delete_excluded && i < filter_count(o->filter); i++)
		add_protection(a, filter_rule_text(o->filter, i), job->kind == RSYNC_SHELL && !job->bare);
	if (job->whole) {
		(void)arglist_add(a, "--filter=-s *" PATH_TEMP_SUFFIX);
		for (size_t i = 0; i < filter_count(o->filter); i++)
			add_selection(a, filter_rule_text(o->filter, i));
	}
	if (!job->recurse)
		return; /* core/filter.c has decided each name already */
	(void)arglist_add(a, "--filter=- *" PATH_TEMP_SUFFIX);
	if (job->filter_file != NULL)
		(void)arglist_printf(a, "--filter=merge %s", job->filter_file);
	for (size_t i = 0; job->filter_file == NULL && i < filter_count(o->filter); i++)
		(void)arglist_printf(a, "--filter=%s", filter_rule_text(o->filter, i));
}

static void add_job(struct arglist *a, const struct rsync_job *job, const struct sync_options *o)
{
	if (job->recurse) {
		(void)arglist_add(a, "--recursive");
		if (job->del)
			(void)arglist_add(a, o->rsync.delete_excluded ? "--delete-excluded" : "--delete");
		if (job->del && !GUARD_UNREADABLE)
			(void)arglist_add(a, "--ignore-errors");
	} else {
		(void)arglist_add(a, "--no-recursive");
		(void)arglist_add(a, "--dirs");
		(void)arglist_add(a, job->missing == RSYNC_MISSING_DELETE ? "--delete-missing-args"
									  : "--ignore-missing-args");
	}
	if (job->force)
		(void)arglist_add(a, "--force");
	if (job->checksum)
		(void)arglist_add(a, "--checksum");
	if (job->backup_dir != NULL) {
		(void)arglist_add(a, "--backup");
		(void)arglist_printf(a, "--suffix=%s", job->backup_suffix == NULL ? "" : job->backup_suffix);
		(void)arglist_printf(a, "--backup-dir=%s", job->backup_dir);
	}
	if (job->temp_dir != NULL)
		(void)arglist_printf(a, "--temp-dir=%s", job->temp_dir);
	if (job->copy_dir != NULL)
		(void)arglist_printf(a, "--copy-dest=%s", job->copy_dir);
	if (job->fine_times)
		(void)arglist_add(a, "--modify-window=-1");
	if (job->rate > 0) /* in the place of bwlimit, which is not smaller */
		(void)arglist_printf(a, "--bwlimit=%lld", (long long)(job->rate / 1024));
	if (job->max_delete >= 0 && job->max_delete <= INT_MAX)
		(void)arglist_printf(a, "--max-delete=%d", (int)job->max_delete);
	if (job->count) {
		(void)arglist_add(a, "--dry-run");
		(void)arglist_add(a, "--stats");
	}
	if (job->probe)
		(void)arglist_add(a, "--debug=NSTR");
}

/* HOST:DIR, or a directory. The host is ours to check, the directory may hold anything. */
static void add_dest(struct arglist *a, const struct rsync_job *job)
{
	const char *dir = strchr(job->dest, ':');
	struct buf text;

	if (!job->bare || !job->escape || dir == NULL) {
		(void)arglist_add(a, job->dest);
		return;
	}
	if (job->dest[strcspn(job->dest, ":[")] == '[') /* an IPv6 address */
		dir = strstr(job->dest, "]:") == NULL ? dir : strstr(job->dest, "]:") + 1;
	buf_init(&text, 4 * PATH_BYTES_MAX);
	(void)buf_add(&text, job->dest, (size_t)(dir + 1 - job->dest));
	for (const char *p = dir + 1; *p != '\0'; p++) {
		if (strchr(" \t\"'\\`$&|;<>()*?[]{}!#~", *p) != NULL)
			(void)buf_add_byte(&text, '\\');
		(void)buf_add_byte(&text, (unsigned char)*p);
	}
	if (text.failed || !arglist_add(a, buf_str(&text)))
		a->failed = true;
	buf_done(&text);
}

/* rsync writes each of its lines by itself, and we would be woken up for each: for thousands of small files that costs
 * as much as sending them. */
static void add_output(struct arglist *a, const struct rsync_job *job)
{
	if (job->sums) {
		(void)arglist_add(a, "--stats");
		return;
	}
	(void)arglist_add(a, "--out-format=" RSYNC_OUT_FORMAT);
	if (!job->count)
		(void)arglist_add(a, "--info=progress2");
}

bool rsync_args_build(struct arglist *a, const struct rsync_job *job, const struct sync_options *o)
{
	*a = (struct arglist){ 0 };
	(void)arglist_add(a, o->rsync.binary);
	add_cluster(a, &o->rsync, o->one_file_system);
	add_longs(a, &o->rsync, job->list_file != NULL);
	add_connection(a, job, &o->rsync);
	add_job(a, job, o);
	add_filters(a, job, o);
	add_attribute_names(a, job, o);
	(void)arglist_add(a, "--outbuf=L");
	add_output(a, job);
	(void)arglist_add(a, "--no-8-bit-output");
	(void)arglist_add(a, "--from0");
	(void)arglist_printf(a, "--files-from=%s", job->list_file == NULL ? "-" : job->list_file);
	(void)arglist_add(a, "--");
	(void)arglist_add(a, ".");
	add_dest(a, job);
	return !a->failed;
}

bool rsync_args_list(struct arglist *a, const struct rsync_job *job, const struct sync_options *o, const char *path)
{
	struct rsync_job there = *job;
	struct buf what;

	*a = (struct arglist){ 0 };
	(void)arglist_add(a, o->rsync.binary);
	add_longs(a, &o->rsync, job->list_file != NULL);
	add_connection(a, job, &o->rsync);
	(void)arglist_add(a, "--list-only");
	(void)arglist_add(a, "--dirs");
	(void)arglist_add(a, "--");
	buf_init(&what, 4 * PATH_BYTES_MAX);
	(void)buf_add_str(&what, job->dest);
	for (const char *p = path; *p != '\0'; p++) {
		if (strchr("*?[\\", *p) != NULL) /* the other end expands wildcards */
			(void)buf_add_byte(&what, '\\');
		(void)buf_add_byte(&what, (unsigned char)*p);
	}
	there.dest = buf_str(&what);
	add_dest(a, &there);
	a->failed = a->failed || what.failed;
	buf_done(&what);
	return !a->failed;
}

size_t rsync_filter_bytes(const struct sync_options *o)
{
	size_t sum = 0;

	for (size_t i = 0; i < filter_count(o->filter); i++)
		sum += strlen(filter_rule_text(o->filter, i)) + sizeof("--filter=") + sizeof(char *);
	return sum;
}

bool rsync_filter_text(struct buf *out, const struct sync_options *o)
{
	for (size_t i = 0; i < filter_count(o->filter); i++) {
		const char *rule = filter_rule_text(o->filter, i);

		(void)buf_add(out, rule, strlen(rule) + 1);
	}
	return !out->failed;
}

bool rsync_rule_for(struct buf *out, const char *prefix, const char *path, size_t len)
{
	bool wild = false;

	/* In a pattern without wildcards rsync takes a backslash literally. */
	for (size_t i = 0; i < len; i++)
		wild = wild || strchr("*?[", path[i]) != NULL;
	(void)buf_add_str(out, prefix);
	(void)buf_add_byte(out, '/');
	for (size_t i = 0; i < len; i++) {
		if (wild && strchr("*?[\\", path[i]) != NULL)
			(void)buf_add_byte(out, '\\');
		(void)buf_add_byte(out, (unsigned char)path[i]);
	}
	return !out->failed;
}

bool rsync_quote_word(struct buf *out, const char *word)
{
	(void)buf_add_byte(out, '\'');
	for (const char *p = word; *p != '\0'; p++) {
		if (*p == '\'')
			(void)buf_add_byte(out, '\'');
		(void)buf_add_byte(out, (unsigned char)*p);
	}
	return buf_add_byte(out, '\'');
}

char *rsync_args_rsh(const struct arglist *words)
{
	struct buf text;

	buf_init(&text, 1024u * 1024);
	for (size_t i = 0; i < words->n; i++) {
		if (i > 0)
			(void)buf_add_byte(&text, ' ');
		(void)rsync_quote_word(&text, words->v[i]);
	}
	return buf_take_str(&text);
}

bool rsync_split_words(struct arglist *words, const char *text)
{
	struct buf word;
	const char *p = text;

	*words = (struct arglist){ 0 };
	buf_init(&word, strlen(text) + 2);
	while (*(p += strspn(p, " ")) != '\0' && !words->failed) {
		char quote = '\0';

		buf_clear(&word);
		for (; *p != '\0' && (*p != ' ' || quote != '\0'); p++) {
			if (*p != '\'' && *p != '"') {
				(void)buf_add_byte(&word, (unsigned char)*p);
			} else if (quote == '\0') {
				quote = *p;
			} else if (*p != quote) {
				(void)buf_add_byte(&word, (unsigned char)*p);
			} else if (p[1] == quote) {
				(void)buf_add_byte(&word, (unsigned char)*p++);
			} else {
				quote = '\0';
			}
		}
		words->failed = words->failed || word.failed || !arglist_add(words, buf_str(&word));
	}
	buf_done(&word);
	return !words->failed;
}

char *rsync_args_path(const struct sync_options *opt)
{
	struct buf text;

	if (opt->rsync.rsync_path != NULL)
		return strdup(opt->rsync.rsync_path);
	buf_init(&text, 64u * 1024);
	for (size_t i = 0; i < opt->ssh.remote_prefix.n; i++)
		(void)buf_printf(&text, "%s ", opt->ssh.remote_prefix.v[i]);
	(void)buf_add_str(&text, "rsync");
	return buf_take_str(&text);
}
