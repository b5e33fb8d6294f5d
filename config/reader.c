/* reader.c - from libconfig's tree to the structs, key by key through the table. The only file that sees libconfig. */
#include <libconfig.h>
#include <stdlib.h>
#include <string.h>

#include "config/private.h"

/* One text on its way: libconfig's tree, the map of its lines, and the run that it is for. */
struct reading {
	struct config_run *run;
	const struct config_source *src;
};

/* Where a group's keys go. */
struct sink {
	enum config_section section;
	void *base;
	struct config_place *at; /* of the section's keys, by index into the table */
	bool native;		 /* rsync's keys may stand in the sync section */
};

static struct config_place place_of(const struct reading *r, const config_setting_t *s)
{
	return config_source_place(r->src, config_setting_source_line(s));
}

static const char *name_of(const config_setting_t *s)
{
	const char *name = config_setting_name(s);

	return name == NULL ? "" : name;
}

static void scalar(const config_setting_t *s, struct config_value *v)
{
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_BOOL:
		v->kind = VALUE_BOOL;
		v->b = config_setting_get_bool(s) != CONFIG_FALSE;
		break;
	case CONFIG_TYPE_INT:
		v->kind = VALUE_INT;
		v->i = config_setting_get_int(s);
		break;
	case CONFIG_TYPE_INT64:
		v->kind = VALUE_INT;
		v->i = config_setting_get_int64(s);
		break;
	case CONFIG_TYPE_FLOAT:
		v->kind = VALUE_FLOAT;
		v->f = config_setting_get_float(s);
		break;
	case CONFIG_TYPE_STRING:
		v->kind = VALUE_STRING;
		v->s = config_setting_get_string(s);
		break;
	default:
		v->kind = VALUE_OTHER;
		break;
	}
}

/* A member of a list, or of a group { Key = "Value"; } as "Key=Value". */
static int add_item(const config_setting_t *s, bool map, struct config_value *list, struct err *err)
{
	struct config_value v = { 0 };
	char *text = NULL;
	int rc;

	scalar(s, &v);
	if (!map && v.kind == VALUE_STRING)
		rc = strlist_add(&list->items, v.s);
	else if (!map || v.kind == VALUE_OTHER || v.kind == VALUE_FLOAT)
		return err_set(err, ERR_CONFIG, "expected a list of strings");
	else {
		if (v.kind == VALUE_STRING)
			rc = asprintf(&text, "%s=%s", name_of(s), v.s);
		else if (v.kind == VALUE_BOOL)
			rc = asprintf(&text, "%s=%s", name_of(s), v.b ? "yes" : "no");
		else
			rc = asprintf(&text, "%s=%lld", name_of(s), (long long)v.i);
		if (rc < 0)
			return err_set(err, ERR_NOMEM, "out of memory");
		rc = strlist_add(&list->items, text);
		free(text);
	}
	return rc == 0 ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

/* A number, as it would stand in a string. */
static char *text_of(const struct config_value *v)
{
	char *text = NULL;
	int n = v->kind == VALUE_STRING	 ? asprintf(&text, "%s", v->s)
		: v->kind == VALUE_INT	 ? asprintf(&text, "%lld", (long long)v->i)
		: v->kind == VALUE_FLOAT ? asprintf(&text, "%.6f", v->f)
					 : -1;

	return n < 0 ? NULL : text;
}

/* One rule of a table: blanks in its words would end them. */
static int add_rule(const config_setting_t *s, struct strlist *list, struct err *err)
{
	bool group = config_setting_is_group(s) != 0;
	int n = group ? config_setting_length(s) : 1;
	struct buf rule;
	int rc = 0;

	buf_init(&rule, 4096);
	for (int i = 0; i < n && rc == 0; i++) {
		const config_setting_t *word = group ? config_setting_get_elem(s, (unsigned)i) : s;
		struct config_value v = { 0 };
		char *text;

		scalar(word, &v);
		text = text_of(&v);
		if (text == NULL)
			rc = err_set(err, ERR_CONFIG, "expected a number, a string or a list of groups");
		if (group && rc == 0)
			(void)buf_printf(&rule, "%s%s=", i == 0 ? "" : " ", name_of(word));
		for (const char *p = text; p != NULL && *p != '\0'; p++)
			if (!group || (*p != ' ' && *p != '\t'))
				(void)buf_add_byte(&rule, (unsigned char)*p);
		free(text);
	}
	if (rc == 0 && (rule.failed || strlist_add(list, buf_str(&rule)) != 0))
		rc = err_set(err, ERR_NOMEM, "out of memory");
	buf_done(&rule);
	return rc;
}

static int add_rules(const config_setting_t *s, const struct config_key *k, struct config_value *v, struct err *err)
{
	bool many = config_setting_is_list(s) || config_setting_is_array(s);
	struct err why = ERR_INIT;

	v->kind = VALUE_LIST;
	for (int i = 0; i < (many ? config_setting_length(s) : 1); i++)
		if (add_rule(many ? config_setting_get_elem(s, (unsigned)i) : s, &v->items, &why) != 0) {
			strlist_done(&v->items);
			return err_set(err, why.class, "%s: %.200s", k->name, why.text);
		}
	return 0;
}

static int value_of(const config_setting_t *s, const struct config_key *k, struct config_value *v, const char *dir,
		    struct err *err)
{
	bool group = config_setting_is_group(s) != 0;

	*v = (struct config_value){ .dir = dir };
	if ((k->flags & KEY_RATES) != 0)
		return add_rules(s, k, v, err);
	scalar(s, v);
	if (v->kind != VALUE_OTHER || (group && (k->flags & KEY_MAP) == 0))
		return 0;
	v->kind = VALUE_LIST;
	for (int i = 0; k->type == TYPE_LIST && i < config_setting_length(s); i++)
		if (add_item(config_setting_get_elem(s, (unsigned)i), group, v, err) != 0) {
			char reason[ERR_TEXT_MAX / 2];

			(void)snprintf(reason, sizeof(reason), "%.200s", err->text);
			strlist_done(&v->items);
			return err_set(err, err->class, "%s: %s", k->name, reason);
		}
	return 0;
}

static void read_key(struct reading *r, const struct sink *sink, const struct config_key *k, const config_setting_t *s)
{
	struct config_place at = place_of(r, s);
	struct config_value v;
	struct err err = ERR_INIT;

	if (k->type == TYPE_IGNORED) {
		config_warn(r->run, at, "%s is ignored: %s", k->name, k->help);
		return;
	}
	/* Noted even if it is wrong, so that a bad value is not reported as missing as well. */
	sink->at[config_key_index(k)] = at;
	if (value_of(s, k, &v, r->run->dir, &err) != 0 || config_value_store(k, &v, sink->base, &err) != 0) {
		if (k->section == SECTION_SYNC && strcmp(k->name, "init") == 0 && v.kind == VALUE_STRING)
			(void)err_set(&err, ERR_CONFIG,
				      "init: expected true or false, not a string; lsyncd's functions are not run");
		config_error(r->run, at, "%s", err.text);
	}
	strlist_done(&v.items);
}

/* The section that knows the key, for a better message. */
static const char *elsewhere(enum config_section not_here, const char *name)
{
	for (int i = 0; i < CONFIG_SECTIONS; i++) {
		const struct config_key *k;

		if ((enum config_section)i == not_here)
			continue;
		k = config_key_find((enum config_section)i, name);
		if (k != NULL && k->type != TYPE_IGNORED)
			return config_section_name((enum config_section)i);
	}
	return NULL;
}

static void unknown_key(struct reading *r, const struct sink *sink, const config_setting_t *s)
{
	const char *section = config_section_name(sink->section);
	const char *other = elsewhere(sink->section, name_of(s));
	const char *near = config_suggest_key(sink->section, sink->native, name_of(s));

	if (other != NULL)
		config_error(r->run, place_of(r, s), "unknown key \"%s\" in a %s section; it belongs into %s = { }",
			     name_of(s), section, other);
	else if (near != NULL)
		config_error(r->run, place_of(r, s), "unknown key \"%s\" in a %s section; did you mean \"%s\"?",
			     name_of(s), section, near);
	else
		config_error(r->run, place_of(r, s), "unknown key \"%s\" in a %s section", name_of(s), section);
}

static void read_group(struct reading *r, const struct sink *sink, const config_setting_t *group);
static void read_modules(struct reading *r, const config_setting_t *s);

/* rsync = { }, ssh = { } and the like inside a sync section. */
static bool read_subsection(struct reading *r, const struct sink *sink, const config_setting_t *s)
{
	static const enum config_section inside[] = { SECTION_RSYNC, SECTION_SSH, SECTION_EXEC, SECTION_TUNNEL };
	struct sink sub = { .base = sink->base, .at = sink->at };

	if (sink->section == SECTION_RECEIVER && strcmp(name_of(s), "modules") == 0) {
		read_modules(r, s);
		return true;
	}
	for (size_t i = 0; sink->section == SECTION_SYNC && i < sizeof(inside) / sizeof(inside[0]); i++)
		if (strcmp(name_of(s), config_section_name(inside[i])) == 0)
			sub.section = inside[i];
	if (sub.section == SECTION_SETTINGS) /* 0: none of them */
		return false;
	if (!config_setting_is_group(s))
		config_error(r->run, place_of(r, s), "%s: expected a group, %s = { ... }", name_of(s), name_of(s));
	else
		read_group(r, &sub, s);
	return true;
}

static const struct config_key *find_key(const struct sink *sink, const char *name)
{
	const struct config_key *k = config_key_find(sink->section, name);

	if (k == NULL && sink->native && sink->section == SECTION_SYNC) {
		k = config_key_find(SECTION_RSYNC, name);
		if (k != NULL && (k->flags & KEY_PROGRAM) != 0)
			k = NULL;
	}
	return k;
}

static void read_group(struct reading *r, const struct sink *sink, const config_setting_t *group)
{
	for (int i = 0; i < config_setting_length(group); i++) {
		const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
		const struct config_key *k = find_key(sink, name_of(s));

		if (k != NULL)
			read_key(r, sink, k, s);
		else if (!read_subsection(r, sink, s))
			unknown_key(r, sink, s);
	}
}

/* The transport decides on defaults and on what the other keys mean, so it is looked up before they are read. */
static const struct transport *find_transport(const struct reading *r, const config_setting_t *group)
{
	const char *name = NULL;

	if (config_setting_lookup_string(group, "transport", &name) != CONFIG_TRUE)
		return NULL;
	for (const struct transport *const *t = r->run->env->transports; *t != NULL; t++)
		if (strcmp((*t)->name, name) == 0)
			return *t;
	return NULL;
}

static void read_sync(struct reading *r, const config_setting_t *group)
{
	struct config_place at = place_of(r, group);
	struct config_draft *d;
	struct sync_options *s;
	struct sink sink;

	if (!config_setting_is_group(group)) {
		config_error(r->run, at, "sync: expected groups, sync = ( { ... }, { ... } );");
		return;
	}
	s = config_add_sync(r->run, at, &d);
	if (s == NULL)
		return;
	d->transport = find_transport(r, group);
	sink = (struct sink){ .section = SECTION_SYNC, .base = s, .at = d->at };
	sink.native = d->transport != NULL && (d->transport->caps & TRANSPORT_NATIVE) != 0;
	read_group(r, &sink, group);
}

static void read_syncs(struct reading *r, const config_setting_t *s)
{
	if (config_setting_is_group(s)) {
		read_sync(r, s);
		return;
	}
	if (!config_setting_is_list(s) && !config_setting_is_array(s)) {
		config_error(r->run, place_of(r, s), "sync: expected a list of groups, sync = ( { ... }, { ... } );");
		return;
	}
	for (int i = 0; i < config_setting_length(s); i++)
		read_sync(r, config_setting_get_elem(s, (unsigned)i));
}

static void read_settings(struct reading *r, const config_setting_t *s)
{
	struct sink sink = { .section = SECTION_SETTINGS, .base = &r->run->c->settings, .at = r->run->settings_at };

	if (config_setting_is_group(s))
		read_group(r, &sink, s);
	else
		config_error(r->run, place_of(r, s), "settings: expected a group, settings = { ... };");
}

static void read_modules(struct reading *r, const config_setting_t *s)
{
	if (!config_setting_is_list(s)) {
		config_error(r->run, place_of(r, s),
			     "modules: expected a list of groups, modules = ( { ... }, { ... } );");
		return;
	}
	for (int i = 0; i < config_setting_length(s); i++) {
		const config_setting_t *group = config_setting_get_elem(s, (unsigned)i);
		struct config_place at[CONFIG_KEYS_MAX] = { 0 };
		struct sink sink = { .section = SECTION_MODULE, .at = at };

		if (!config_setting_is_group(group)) {
			config_error(r->run, place_of(r, group),
				     "modules: expected groups, modules = ( { ... }, { ... } );");
			continue;
		}
		sink.base = config_add_module(r->run, place_of(r, group));
		if (sink.base != NULL)
			read_group(r, &sink, group);
	}
}

static void read_receiver(struct reading *r, const config_setting_t *s)
{
	struct config_place at[CONFIG_KEYS_MAX] = { 0 };
	struct sink sink = { .section = SECTION_RECEIVER, .at = at };

	if (!config_setting_is_group(s)) {
		config_error(r->run, place_of(r, s), "receiver: expected a group, receiver = { ... };");
		return;
	}
	sink.base = config_add_receiver(r->run, place_of(r, s));
	if (sink.base != NULL)
		read_group(r, &sink, s);
}

static void read_metrics(struct reading *r, const config_setting_t *s)
{
	struct config_place at[CONFIG_KEYS_MAX] = { 0 };
	struct sink sink = { .section = SECTION_METRICS, .at = at };

	if (!config_setting_is_group(s)) {
		config_error(r->run, place_of(r, s), "metrics: expected a group, metrics = { ... };");
		return;
	}
	sink.base = config_add_metrics(r->run, place_of(r, s));
	if (sink.base != NULL)
		read_group(r, &sink, s);
}

static void read_section(struct reading *r, const config_setting_t *s)
{
	static const char *const known[] = { "settings", "sync", "receiver", "metrics" };
	const char *name = name_of(s);
	const char *near = config_suggest(known, sizeof(known) / sizeof(known[0]), name);

	if (near != NULL && strcmp(near, "sync") == 0)
		r->run->saw_sync = true;
	if (strcmp(name, "settings") == 0)
		read_settings(r, s);
	else if (strcmp(name, "sync") == 0)
		read_syncs(r, s);
	else if (strcmp(name, "receiver") == 0)
		read_receiver(r, s);
	else if (strcmp(name, "metrics") == 0)
		read_metrics(r, s);
	else if (strcmp(name, "tunnel") == 0)
		config_error(
			r->run, place_of(r, s),
			"tunnel: it belongs into the sync section whose target it leads to: sync = ( { ... tunnel = "
			"{ command = [ ... ]; }; } );");
	else if (near != NULL)
		config_error(r->run, place_of(r, s), "unknown section \"%s\"; did you mean \"%s\"?", name, near);
	else
		config_error(r->run, place_of(r, s),
			     "unknown section \"%s\"; there are settings, sync, receiver and metrics", name);
}

/* The settings first, wherever they stand: the syncs depend on them. */
static void read_root(struct reading *r, const config_setting_t *root)
{
	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < config_setting_length(root); i++) {
			const config_setting_t *s = config_setting_get_elem(root, (unsigned)i);

			if ((strcmp(name_of(s), "settings") == 0) == (pass == 0))
				read_section(r, s);
		}
}

static void finish(struct config_run *run)
{
	if (run->env->cli != NULL) {
		config_cli_apply_settings(run->env->cli, run);
		config_cli_add_syncs(run->env->cli, run);
	}
	config_finish_settings(run);
	for (size_t i = 0; i < run->c->n_syncs; i++)
		config_finish_sync(run, i);
	config_check_syncs(run);
	config_finish_receiver(run);
	config_finish_metrics(run);
	config_check_backups(run);
}

static void parse(struct config_run *run, struct config_source *src)
{
	struct reading r = { .run = run, .src = src };
	config_t tree;

	config_init(&tree);
	if (config_read_string(&tree, buf_str(&src->text)) != CONFIG_TRUE) {
		const char *why = config_error_text(&tree);

		config_error(run, config_source_place(src, (unsigned)config_error_line(&tree)), "%s",
			     why == NULL ? "syntax error" : why);
	} else {
		read_root(&r, config_root_setting(&tree));
		finish(run);
	}
	config_destroy(&tree);
}

static void parse_text(struct config_run *run, const char *text, size_t len, const char *name, const char *dir)
{
	struct config_source src;
	struct config_place where;
	struct err err;

	if (len > CONFIG_TEXT_MAX / 2)
		config_error(run, (struct config_place){ name, 1 }, "too much text");
	else if (config_source_build(&src, text, len, name, dir, &where, &err) != 0)
		config_error(run, where, "%s", err.text);
	else
		parse(run, &src);
	if (len <= CONFIG_TEXT_MAX / 2)
		config_source_done(&src);
}

static void report_dropped(struct config_run *run)
{
	if (run->dropped > 0) {
		char more[64];

		(void)snprintf(more, sizeof(more), "%zu more errors", run->dropped);
		(void)strlist_add(run->errors, more);
	}
}

/* The result, or NULL if anything failed. */
static struct config *conclude(struct config_run *run)
{
	for (size_t i = 0; run->c != NULL && i < run->c->n_syncs; i++)
		free(run->drafts[i].resolved);
	free(run->drafts);
	free(run->module_at);
	report_dropped(run);
	if (!run->failed)
		return run->c;
	config_free(run->c);
	return NULL;
}

static void begin(struct config_run *run)
{
	struct err err = ERR_INIT;

	run->dir = config_cli_dir(run->env->cli);
	run->c = calloc(1, sizeof(*run->c));
	if (run->c == NULL)
		config_out_of_memory(run);
	else if (config_set_defaults(SECTION_SETTINGS, &run->c->settings, &err) != 0)
		config_error(run, (struct config_place){ NULL, 0 }, "%s", err.text);
}

struct config *config_load_text(const char *text, size_t len, const char *name, const struct config_env *env,
				struct strlist *errors)
{
	struct config_run run = { .env = env, .errors = errors, .name = name };

	begin(&run);
	if (!run.failed)
		parse_text(&run, text, len, name, NULL);
	return conclude(&run);
}

static void load_file(struct config_run *run, const char *path)
{
	char *text = NULL, *dir;
	size_t len = 0;
	struct err err = ERR_INIT;

	run->c->path = config_absolute(path, run->dir, &err);
	dir = run->c->path == NULL ? NULL : strdup(run->c->path);
	if (dir == NULL || config_read_whole(run->c->path, CONFIG_FILE_MAX, &text, &len, &err) != 0) {
		config_error(run, (struct config_place){ NULL, 0 }, "%s",
			     err.class == ERR_NONE ? "out of memory" : err.text);
	} else {
		*strrchr(dir, '/') = '\0';
		parse_text(run, text, len, path, dir);
	}
	free(text);
	free(dir);
}

struct config *config_load_file(const char *path, const struct config_env *env, struct strlist *errors)
{
	struct config_run run = { .env = env, .errors = errors, .name = path };

	begin(&run);
	if (run.failed)
		return conclude(&run);
	if (path != NULL)
		load_file(&run, path);
	else
		finish(&run);
	return conclude(&run);
}
