/* check.c - what no single key tells: defaults that depend on others, and syncs that would get in each other's way. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "config/private.h"
#include "core/backup_dir.h"
#include "core/bandwidth.h"
#include "core/path.h"
#include "core/schedule.h"

#define NAME_MAX_LEN 64

static bool given(const struct config_run *run, const char *key)
{
	return run->settings_at[config_key_index(config_key_find(SECTION_SETTINGS, key))].file != NULL;
}

/* Where a setting was given, or the file's name. */
static struct config_place settings_place(const struct config_run *run, const char *key)
{
	return given(run, key) ? run->settings_at[config_key_index(config_key_find(SECTION_SETTINGS, key))]
			       : (struct config_place){ run->name, 0 };
}

/* "fansyncd", and "fansyncd-NAME" for a configuration NAME.conf that is not the default one: two on a host must not
 * share a socket or a directory of state. */
static char *instance(const struct config *c)
{
	const char *base = c->path == NULL ? NULL : strrchr(c->path, '/') + 1;
	size_t len = base == NULL ? 0 : strlen(base);
	char *name = NULL;

	if (base == NULL || strcmp(c->path, CONFIG_DEFAULT_PATH) == 0)
		return strdup("fansyncd");
	if (len > 5 && strcmp(base + len - 5, ".conf") == 0)
		len -= 5;
	return asprintf(&name, "fansyncd-%.*s", (int)(len < 64 ? len : 64), base) < 0 ? NULL : name;
}

static void default_state_dir(struct config_run *run, const char *name)
{
	const char *state = secure_getenv("XDG_STATE_HOME"), *home = secure_getenv("HOME");
	char **dir = &run->c->settings.state_dir;
	int rc;

	if (*dir != NULL)
		return;
	if (geteuid() == 0)
		rc = asprintf(dir, "/var/lib/%s", name);
	else if (state != NULL && state[0] == '/')
		rc = asprintf(dir, "%s/%s", state, name);
	else if (home != NULL && home[0] == '/')
		rc = asprintf(dir, "%s/.local/state/%s", home, name);
	else {
		config_error(run, settings_place(run, "stateDir"), "stateDir: there is no HOME to put it in, set it");
		return;
	}
	if (rc < 0) {
		*dir = NULL;
		config_out_of_memory(run);
	}
}

static void default_socket(struct config_run *run, const char *name)
{
	const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
	const char *dir = geteuid() == 0			 ? "/run"
			  : runtime != NULL && runtime[0] == '/' ? runtime
								 : run->c->settings.state_dir;

	if (run->c->settings.control_socket != NULL || dir == NULL)
		return;
	if (asprintf(&run->c->settings.control_socket, "%s/%s.sock", dir, name) < 0) {
		run->c->settings.control_socket = NULL;
		config_out_of_memory(run);
	}
}

static void check_parents(struct config_run *run)
{
	size_t n;
	const struct config_key *table = config_table(&n);

	for (size_t i = 0; i < n; i++) {
		const struct config_key *k = &table[i];
		char *const *path = (char *const *)(const void *)((const char *)&run->c->settings + k->offset);
		struct stat st;
		char *dir, *slash;

		if (k->section != SECTION_SETTINGS || (k->flags & KEY_PARENT) == 0 || *path == NULL)
			continue;
		dir = strdup(*path);
		if (dir == NULL) {
			config_out_of_memory(run);
			return;
		}
		slash = strrchr(dir, '/');
		slash[slash == dir ? 1 : 0] = '\0';
		if (stat(dir, &st) != 0)
			config_error(run, run->settings_at[i], "%s: directory %s: %s", k->name, dir, strerror(errno));
		else if (!S_ISDIR(st.st_mode))
			config_error(run, run->settings_at[i], "%s: %s is no directory", k->name, dir);
		free(dir);
	}
}

static void check_log_words(struct config_run *run)
{
	const struct strlist *log = &run->c->settings.log;

	for (size_t i = 0; i < log->n; i++)
		if (strcmp(log->v[i], "all") != 0 && strcmp(log->v[i], "scarce") != 0 &&
		    !(log->v[i][0] >= 'A' && log->v[i][0] <= 'Z'))
			config_error(
				run, settings_place(run, "log"),
				"log: \"%s\" is neither all nor scarce nor a category, which begins with a capital",
				log->v[i]);
}

void config_finish_settings(struct config_run *run)
{
	const struct settings *s = &run->c->settings;
	char *name = instance(run->c);

	if (name == NULL) {
		config_out_of_memory(run);
		return;
	}
	default_state_dir(run, name);
	default_socket(run, name);
	free(name);
	if (s->control_socket != NULL && strlen(s->control_socket) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		config_error(run, settings_place(run, "controlSocket"),
			     "controlSocket: %s is longer than the %zu bytes that a socket's path may have",
			     s->control_socket, sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
	check_log_words(run);
	if (run->env->check_paths)
		check_parents(run);
}

/* ---- one sync ---- */

static void sync_error(struct config_run *run, struct config_draft *d, const char *key, const char *text)
{
	d->broken = true;
	config_error(run, config_draft_place(d, key, SECTION_SYNC), "%s", text);
}

static void finish_name(struct config_run *run, struct sync_options *s, struct config_draft *d, size_t i)
{
	if (s->name == NULL && !config_draft_given(d, "name", SECTION_SYNC)) {
		if (asprintf(&s->name, "sync%zu", i + 1) < 0) {
			s->name = NULL;
			config_out_of_memory(run);
		}
		return;
	}
	if (s->name == NULL)
		return;
	if (strlen(s->name) > NAME_MAX_LEN)
		sync_error(run, d, "name", "name: longer than 64 characters");
	for (const char *p = s->name; *p != '\0'; p++)
		if (!isgraph((unsigned char)*p) || (unsigned char)*p >= 0x80 || *p == '/') {
			sync_error(run, d, "name", "name: only printable ASCII without blanks and slashes");
			break;
		}
	if (s->name[0] == '.' || s->name[0] == '-')
		sync_error(run, d, "name", "name: must not begin with a dot or a dash");
}

static void unknown_transport(struct config_run *run, const struct sync_options *s, struct config_draft *d)
{
	const char *words[32], *near;
	char list[256] = "";
	size_t n = 0, len = 0;

	d->broken = true;
	for (const struct transport *const *t = run->env->transports; *t != NULL && n < 32; t++) {
		words[n++] = (*t)->name;
		if (len < sizeof(list))
			len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", n > 1 ? ", " : "", (*t)->name);
	}
	near = s->transport == NULL ? NULL : config_suggest(words, n, s->transport);
	if (s->transport == NULL) {
		if (!config_draft_given(d, "transport", SECTION_SYNC))
			config_error(run, d->section, "transport is missing; it is one of %s", list);
	} else {
		config_error(run, config_draft_place(d, "transport", SECTION_SYNC),
			     "unknown transport \"%s\"%s%s%s; there are %s", s->transport,
			     near == NULL ? "" : "; did you mean \"", near == NULL ? "" : near,
			     near == NULL ? "" : "\"?", list);
	}
}

static void finish_archive(struct sync_options *s, const struct config_draft *d)
{
	struct {
		const char *key;
		bool *field;
	} members[] = {
		{ "links", &s->rsync.links },	    { "times", &s->rsync.times }, { "perms", &s->rsync.perms },
		{ "owner", &s->rsync.owner },	    { "group", &s->rsync.group }, { "devices", &s->rsync.devices },
		{ "specials", &s->rsync.specials },
	};

	if (!config_draft_given(d, "archive", SECTION_RSYNC) && d->transport != NULL)
		s->rsync.archive = (d->transport->caps & TRANSPORT_NATIVE) != 0;
	for (size_t i = 0; s->rsync.archive && i < sizeof(members) / sizeof(members[0]); i++)
		if (!config_draft_given(d, members[i].key, SECTION_RSYNC))
			*members[i].field = true;
}

static void finish_from_settings(struct config_run *run, struct sync_options *s, const struct config_draft *d)
{
	const struct settings *set = &run->c->settings;

	if (!config_draft_given(d, "delay", SECTION_SYNC) && d->transport != NULL)
		s->delay_ns = d->transport->default_delay_ns;
	if (!config_draft_given(d, "inotifyMode", SECTION_SYNC) || config_cli_gave(run, "inotifyMode"))
		s->inotify_mode = set->inotify_mode;
	/* A cap: a sync's own may be lower, but nothing in the file beats the command line. */
	if (set->max_delays > 0 && (!config_draft_given(d, "maxDelays", SECTION_SYNC) ||
				    s->max_delays > set->max_delays || config_cli_gave(run, "maxDelays")))
		s->max_delays = set->max_delays;
	if (s->max_processes > 1)
		config_warn(run, config_draft_place(d, "maxProcesses", SECTION_SYNC),
			    "maxProcesses: a sync has one worker, which sends any number of changes together, and one "
			    "for large files");
}

static bool local_target(const char *t)
{
	size_t slash = strcspn(t, "/");

	return memchr(t, ':', slash) == NULL;
}

static void check_both_ways(struct config_run *run, const struct sync_options *s, struct config_draft *d)
{
	if (s->bidirectional && (d->transport->caps & TRANSPORT_LOOK) == 0)
		sync_error(run, d, "bidirectional",
			   "bidirectional: this transport can't look at the target, which that needs");
}

/* The receiver knows the directory. */
static void check_module_host(struct config_run *run, struct sync_options *s, struct config_draft *d)
{
	if (s->host == NULL && !config_draft_given(d, "host", SECTION_SYNC))
		sync_error(run, d, "host", "host is missing");
	if (s->tcp.module == NULL && !config_draft_given(d, "module", SECTION_SYNC))
		sync_error(run, d, "module", "module is missing: what the receiver calls the directory");
	if (s->targetdir != NULL)
		sync_error(run, d, "targetdir", "targetdir: this transport takes module instead");
	if (s->target != NULL)
		sync_error(run, d, "target", "target: this transport takes host and module instead");
	if (s->host == NULL || s->tcp.module == NULL)
		d->broken = true;
	check_both_ways(run, s, d);
}

static void check_host(struct config_run *run, struct sync_options *s, struct config_draft *d)
{
	bool host = (d->transport->caps & TRANSPORT_HOST) != 0;

	if ((d->transport->caps & TRANSPORT_MODULE) != 0) {
		check_module_host(run, s, d);
		return;
	}
	if (host && s->host == NULL && !config_draft_given(d, "host", SECTION_SYNC))
		sync_error(run, d, "host", "host is missing");
	if (host && s->targetdir == NULL && !config_draft_given(d, "targetdir", SECTION_SYNC))
		sync_error(run, d, "targetdir", "targetdir is missing");
	if (host && s->target != NULL)
		sync_error(run, d, "target", "target: this transport takes host and targetdir instead");
	if (!host && s->host != NULL)
		sync_error(run, d, "host", "host: this transport takes target instead");
	if (!host && s->targetdir != NULL)
		sync_error(run, d, "targetdir", "targetdir: this transport takes target instead");
	if ((d->transport->caps & TRANSPORT_FREE_TARGET) != 0 && s->target == NULL && s->name != NULL &&
	    !config_draft_given(d, "target", SECTION_SYNC)) {
		s->target = strdup(s->name);
		if (s->target == NULL)
			config_out_of_memory(run);
	}
	if (!host && s->target == NULL && !config_draft_given(d, "target", SECTION_SYNC))
		sync_error(run, d, "target", "target is missing");
	/* A bad value was reported where it stands; the transport's own check needs a good one. */
	if (host ? s->host == NULL || s->targetdir == NULL : s->target == NULL)
		d->broken = true;
	check_both_ways(run, s, d);
}

static int make_absolute(struct config_run *run, struct config_draft *d, const char *key, char **path)
{
	struct err err = ERR_INIT;
	/* A target with ".." in it, and any source, are resolved; other targets stay as they are named. */
	bool resolve = strcmp(key, "source") == 0 || strstr(*path, "..") != NULL;
	char *abs = resolve && run->env->check_paths ? config_canonical(*path, run->dir, &err)
						     : config_absolute(*path, run->dir, &err);

	if (abs == NULL) {
		d->broken = true;
		config_error(run, config_draft_place(d, key, SECTION_SYNC), "%s: %s", key, err.text);
		free(*path); /* nothing that follows can compare it */
		*path = NULL;
		return -1;
	}
	if (**path != '/' && config_draft_place(d, key, SECTION_SYNC).line > 0)
		config_warn(run, config_draft_place(d, key, SECTION_SYNC), "%s: relative to the current directory: %s",
			    key, abs);
	free(*path);
	*path = abs;
	return 0;
}

static void check_source(struct config_run *run, struct sync_options *s, struct config_draft *d)
{
	struct config_place at = config_draft_place(d, "source", SECTION_SYNC);
	struct stat st;

	if (s->source == NULL) {
		d->broken = true;
		if (!config_draft_given(d, "source", SECTION_SYNC))
			config_error(run, d->section, "source is missing");
		return;
	}
	if (make_absolute(run, d, "source", &s->source) != 0 || !run->env->check_paths)
		return;
	if (stat(s->source, &st) != 0) {
		/* Only who asked for it goes without a source: by default that is a slip of the pen. */
		if (run->c->settings.insist && given(run, "insist"))
			config_warn(run, at, "source %s: %s", s->source, strerror(errno));
		else
			config_error(run, at, "source %s: %s", s->source, strerror(errno));
	} else if (!S_ISDIR(st.st_mode)) {
		config_error(run, at, "source %s is no directory", s->source);
	}
}

void config_check_file(struct config_run *run, const struct config_key *key, const void *options,
		       struct config_place at)
{
	const char *path;

	if ((key->flags & KEY_ACCOUNT) != 0)
		config_check_account(run, key, *(char *const *)(const void *)((const char *)options + key->offset), at);
	if ((key->flags & KEY_EXISTS) == 0)
		return;
	if (key->type == TYPE_LIST) {
		config_check_command(run, key, (const void *)((const char *)options + key->offset), at);
		return;
	}
	path = *(char *const *)(const void *)((const char *)options + key->offset);
	if (path != NULL && (key->flags & KEY_CREDENTIAL) != 0 &&
	    strncmp(path, CREDENTIAL_PREFIX, strlen(CREDENTIAL_PREFIX)) == 0)
		config_warn(run, at,
			    "%s: %s: only the service has it, by LoadCredential= in its unit; it is not looked at here",
			    key->name, path);
	if (path != NULL && path[0] == '/' && access(path, R_OK) != 0)
		config_error(run, at, "%s: %s: %s", key->name, path, strerror(errno));
}

static void check_files(struct config_run *run, struct sync_options *s, const struct config_draft *d)
{
	size_t n;
	const struct config_key *table = config_table(&n);

	for (size_t i = 0; i < n; i++) {
		const struct config_key *key = &table[i];

		if (key->section != SECTION_SETTINGS && key->section < SECTION_RECEIVER)
			config_check_file(run, key, s, config_draft_place(d, key->name, key->section));
	}
}

/* A key of one transport, given to another. */
static void check_only(struct config_run *run, const struct sync_options *s, struct config_draft *d)
{
	size_t n;
	const struct config_key *table = config_table(&n);

	for (size_t i = 0; i < n; i++)
		if (table[i].only != NULL && s->transport != NULL && d->transport != NULL &&
		    strcmp(table[i].only, s->transport) != 0 && config_draft_given(d, table[i].name, table[i].section))
			config_error(run, config_draft_place(d, table[i].name, table[i].section),
				     "%s: means something to transport \"%s\" only", table[i].name, table[i].only);
}

static void check_schedule(struct config_run *run, const struct sync_options *s, struct config_draft *d)
{
	for (size_t i = 0; i < s->schedule.n; i++) {
		struct schedule parsed;
		struct err err = ERR_INIT;
		char text[ERR_TEXT_MAX];

		if (schedule_parse(&parsed, s->schedule.v[i], &err) == 0)
			continue;
		(void)snprintf(text, sizeof(text), "schedule \"%.100s\": %.300s", s->schedule.v[i], err.text);
		sync_error(run, d, "schedule", text);
	}
}

static void check_backup_dir(struct config_run *run, const struct sync_options *s, struct config_draft *d)
{
	struct err err = ERR_INIT;
	char text[ERR_TEXT_MAX];

	if (s->backup_dir == NULL)
		return;
	if (backup_dir_check(s->backup_dir, &err) < 0) {
		(void)snprintf(text, sizeof(text), "backupDir: %.300s", err.text);
		sync_error(run, d, "backupDir", text);
	} else if (s->rsync.backup || s->rsync.backup_dir != NULL || s->rsync.suffix != NULL) {
		sync_error(run, d, "backupDir",
			   "backupDir: rsync's backup, backup_dir and suffix can't be given with it");
	}
}

static void check_bandwidth(struct config_run *run, const struct sync_options *s, struct config_draft *d)
{
	struct bandwidth parsed;
	struct err err = ERR_INIT;
	char text[ERR_TEXT_MAX];

	if (bandwidth_parse(&parsed, &s->bandwidth, &err) == 0)
		return;
	(void)snprintf(text, sizeof(text), "bandwidth: %.400s", err.text);
	sync_error(run, d, "bandwidth", text);
}

static void check_values(struct config_run *run, struct sync_options *s, struct config_draft *d)
{
	if (s->require_marker != NULL &&
	    (s->require_marker[0] == '\0' || !path_valid(s->require_marker, strlen(s->require_marker))))
		sync_error(run, d, "requireMarker", "requireMarker: must be a path below the tree, without \"..\"");
	if (s->require_target_marker != NULL &&
	    (s->require_target_marker[0] == '\0' ||
	     !path_valid(s->require_target_marker, strlen(s->require_target_marker))))
		sync_error(run, d, "requireTargetMarker",
			   "requireTargetMarker: must be a path below the tree, without \"..\"");
	if (s->retry_min_ns > s->retry_max_ns)
		sync_error(run, d, config_draft_given(d, "retryMin", SECTION_SYNC) ? "retryMin" : "retryMax",
			   "retryMin: larger than retryMax");
	check_schedule(run, s, d);
	check_bandwidth(run, s, d);
	check_backup_dir(run, s, d);
}

/* lsyncd's keys that are accepted, and why they change nothing. */
static void check_rsync_keys(struct config_run *run, const struct sync_options *s, struct config_draft *d)
{
	if (!s->rsync.protect_args)
		config_warn(run, config_draft_place(d, "protect_args", SECTION_RSYNC),
			    "protect_args = false is ignored: no shell may interpret a name");
	if (s->rsync.quiet)
		config_warn(run, config_draft_place(d, "quiet", SECTION_RSYNC),
			    "quiet is ignored: what rsync says is read, and only shown by the log category Exec");
}

/* Of rsync's keys: what is about which files there are, what has a warning of its own, and times, which the transport
 * sets. What became rules of the filter (cvs_exclude, most of extra) is not there any more. */
static bool means_something(const char *key)
{
	static const char *const keys[] = { "one_file_system", "delete_excluded", "protect_args", "quiet", "times" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (strcmp(keys[i], key) == 0)
			return true;
	return false;
}

/* The first or next key of that section that says something: a dump names all keys, and those at their defaults don't.
 */
static const struct config_key *next_given(const struct sync_options *s, const struct sync_options *usual,
					   struct config_draft *d, enum config_section section, size_t *at)
{
	size_t n;
	const struct config_key *table = config_table(&n);

	while (*at < n) {
		const struct config_key *k = &table[(*at)++];

		if (k->section == section && config_draft_given(d, k->name, section) && !config_key_equal(k, s, usual))
			return k;
	}
	return NULL;
}

static void check_program(struct config_run *run, const struct sync_options *s, const struct sync_options *usual,
			  struct config_draft *d)
{
	const struct config_key *k;
	size_t at = 0;

	while ((k = next_given(s, usual, d, SECTION_RSYNC, &at)) != NULL) {
		if ((k->flags & KEY_FILTER) != 0 || means_something(k->name))
			continue;
		d->broken = true;
		config_error(run, config_draft_place(d, k->name, SECTION_RSYNC),
			     "%s: means nothing to transport \"%s\": its program is not told; leave it out", k->name,
			     s->transport);
	}
}

static void check_ssh(struct config_run *run, const struct sync_options *s, const struct sync_options *usual,
		      struct config_draft *d)
{
	bool program = (d->transport->caps & TRANSPORT_PROGRAM) != 0;
	const struct config_key *k;
	size_t at = 0;

	while ((k = next_given(s, usual, d, SECTION_SSH, &at)) != NULL) {
		d->broken = d->broken || program;
		if (program)
			config_error(run, config_draft_place(d, k->name, SECTION_SSH),
				     "ssh.%s: means nothing to transport \"%s\": its program is not told; leave it out",
				     k->name, s->transport);
		else
			config_warn(run, config_draft_place(d, k->name, SECTION_SSH),
				    "ssh.%s: transport \"%s\" uses no ssh: without effect", k->name, s->transport);
	}
}

/* Groups of keys that the transport does not know. Those with a host and a directory there log in by ssh. */
static void check_groups(struct config_run *run, const struct sync_options *s, struct config_draft *d)
{
	struct sync_options *usual = calloc(1, sizeof(*usual));
	struct err err = ERR_INIT;

	if (usual == NULL || config_set_defaults(SECTION_RSYNC, usual, &err) != 0 ||
	    config_set_defaults(SECTION_SSH, usual, &err) != 0) {
		config_out_of_memory(run);
	} else {
		if ((d->transport->caps & TRANSPORT_PROGRAM) != 0)
			check_program(run, s, usual, d);
		if ((d->transport->caps & TRANSPORT_HOST) == 0)
			check_ssh(run, s, usual, d);
	}
	if (usual != NULL) {
		config_free_keys(SECTION_RSYNC, usual);
		config_free_keys(SECTION_SSH, usual);
	}
	free(usual);
}

static void validate(struct config_run *run, struct sync_options *s, struct config_draft *d)
{
	struct err err = ERR_INIT;

	if (d->broken || d->transport->validate == NULL)
		return;
	if (d->transport->validate(s, &err) != 0) {
		d->broken = true;
		config_error(run, d->section, "%s", err.text);
	}
}

/* Said at every start, as it is of a receiver. */
static void check_plaintext(struct config_run *run, const struct sync_options *s, struct config_draft *d)
{
	if (s->tcp.insecure && s->tcp.key == NULL && s->tcp.certificate == NULL && !d->broken)
		config_warn(run, config_draft_place(d, "insecure", SECTION_SYNC),
			    "insecure = true: what is sent to %s can be read and changed on the way", s->host);
}

void config_finish_sync(struct config_run *run, size_t i)
{
	struct sync_options *s = &run->c->syncs[i];
	struct config_draft *d = &run->drafts[i];

	finish_name(run, s, d, i);
	finish_archive(s, d);
	finish_from_settings(run, s, d);
	if (run->env->cli != NULL)
		config_cli_apply_sync(run->env->cli, run, s, d);
	check_source(run, s, d);
	check_values(run, s, d);
	check_only(run, s, d);
	check_rsync_keys(run, s, d);
	if (run->env->check_paths)
		check_files(run, s, d);
	d->bad_rules = config_rules_build(run, s, d) != 0;
	d->broken = d->broken || d->bad_rules;
	if (d->transport == NULL) {
		unknown_transport(run, s, d);
		return;
	}
	check_host(run, s, d);
	check_groups(run, s, d);
	d->local = (d->transport->caps & TRANSPORT_LOCAL_TARGET) != 0 && s->target != NULL && local_target(s->target);
	if (d->local && make_absolute(run, d, "target", &s->target) != 0)
		return;
	if (s->require_target_marker != NULL && !d->local && (d->transport->caps & TRANSPORT_MARKER) == 0)
		config_error(run, config_draft_place(d, "requireTargetMarker", SECTION_SYNC),
			     "requireTargetMarker: \"%s\" can't look for it", s->transport);
	config_check_tunnel(run, s, d);
	validate(run, s, d);
	check_plaintext(run, s, d);
}
