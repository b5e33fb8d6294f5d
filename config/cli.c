/* cli.c - keys and syncs given on the command line. They win over the file. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/private.h"

struct given_key {
	const struct config_key *key;
	char *text;
};

struct given_sync {
	const char *transport; /* of the table below */
	char *source, *host, *target;
};

struct config_cli {
	struct given_key *keys;
	size_t n_keys;
	struct given_sync *syncs;
	size_t n_syncs;
	struct strlist sshopts;
	char *dir; /* the current directory at the start: a daemon has left it when it reloads */
};

static const struct config_place here = { "command line", 0 };

struct config_cli *config_cli_new(void)
{
	struct config_cli *cli = calloc(1, sizeof(*cli));

	/* Without one only relative paths fail, with the reason. */
	if (cli != NULL)
		cli->dir = getcwd(NULL, 0);
	return cli;
}

const char *config_cli_dir(const struct config_cli *cli)
{
	return cli == NULL ? NULL : cli->dir;
}

void config_cli_free(struct config_cli *cli)
{
	if (cli == NULL)
		return;
	for (size_t i = 0; i < cli->n_keys; i++)
		free(cli->keys[i].text);
	for (size_t i = 0; i < cli->n_syncs; i++) {
		free(cli->syncs[i].source);
		free(cli->syncs[i].host);
		free(cli->syncs[i].target);
	}
	free(cli->keys);
	free(cli->syncs);
	free(cli->dir);
	strlist_done(&cli->sshopts);
	free(cli);
}

static int out_of_memory(struct err *err)
{
	return err_set(err, ERR_NOMEM, "out of memory");
}

static int add_key(struct config_cli *cli, const struct config_key *k, const char *text, struct err *err)
{
	struct given_key *keys = realloc(cli->keys, (cli->n_keys + 1) * sizeof(*keys));
	char *copy = strdup(text);

	if (keys != NULL)
		cli->keys = keys;
	if (keys == NULL || copy == NULL) {
		free(copy);
		return out_of_memory(err);
	}
	cli->keys[cli->n_keys].key = k;
	cli->keys[cli->n_keys++].text = copy;
	return 0;
}

/* Try the value on structs that are thrown away, so that a bad one is refused at once. */
static int try_value(const struct config_key *k, const char *text, struct err *err)
{
	struct settings settings = { 0 };
	struct sync_options sync = { 0 };
	struct config_value v;
	int rc = config_value_from_text(k, text, &v, err);

	if (rc == 0)
		rc = config_value_store(k, &v, k->section == SECTION_SETTINGS ? (void *)&settings : (void *)&sync, err);
	config_free_keys(SECTION_SETTINGS, &settings);
	config_free_keys(SECTION_SYNC, &sync);
	return rc;
}

/* The row for an option; settings first, so that maxDelays means lsyncd's global one. */
static const struct config_key *cli_key(const char *name)
{
	static const enum config_section order[] = { SECTION_SETTINGS, SECTION_SYNC };

	for (size_t i = 0; i < 2; i++) {
		const struct config_key *k = config_key_find(order[i], name);

		if (k != NULL && (k->flags & KEY_CLI) != 0)
			return k;
	}
	return NULL;
}

static int take_key(struct config_cli *cli, const char *name, int argc, char *const *argv, struct err *err)
{
	char word[64];
	const char *equals = strchr(name, '=');
	size_t n = equals == NULL ? strlen(name) : (size_t)(equals - name);
	const struct config_key *k;
	const char *text = equals == NULL ? NULL : equals + 1;

	if (n >= sizeof(word))
		return 0;
	memcpy(word, name, n);
	word[n] = '\0';
	k = cli_key(word);
	if (k == NULL)
		return 0;
	if (text == NULL && k->type == TYPE_BOOL)
		text = "true";
	else if (text == NULL && argc < 2)
		return err_set(err, ERR_CONFIG, "%s needs a value", argv[0]);
	if (text != NULL)
		return try_value(k, text, err) != 0 || add_key(cli, k, text, err) != 0 ? -1 : 1;
	return try_value(k, argv[1], err) != 0 || add_key(cli, k, argv[1], err) != 0 ? -1 : 2;
}

static int add_cli_sync(struct config_cli *cli, const char *transport, char *const *args, int n, struct err *err)
{
	struct given_sync *syncs = realloc(cli->syncs, (cli->n_syncs + 1) * sizeof(*syncs));
	struct given_sync *s;

	if (syncs == NULL)
		return out_of_memory(err);
	cli->syncs = syncs;
	s = &cli->syncs[cli->n_syncs++];
	*s = (struct given_sync){ .transport = transport, .source = strdup(args[0]), .target = strdup(args[n - 1]) };
	if (n == 3)
		s->host = strdup(args[1]);
	if (s->source == NULL || s->target == NULL || (n == 3 && s->host == NULL))
		return out_of_memory(err);
	return n + 1;
}

static int take_sync(struct config_cli *cli, const char *name, int argc, char *const *argv, struct err *err)
{
	static const struct {
		const char *transport;
		int args;
		const char *usage;
	} table[] = {
		{ "rsync", 2, "SOURCE and TARGET" },
		{ "rsyncssh", 3, "SOURCE, HOST and TARGETDIR" },
		{ "direct", 2, "SOURCE and TARGET" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (strcmp(table[i].transport, name) != 0)
			continue;
		if (argc <= table[i].args)
			return err_set(err, ERR_CONFIG, "%s needs %s", argv[0], table[i].usage);
		return add_cli_sync(cli, table[i].transport, argv + 1, table[i].args, err);
	}
	return 0;
}

/* lsyncd's -sshopts: blanks separate, quotes group. */
static int split_words(const char *s, struct strlist *out, struct err *err)
{
	struct buf word;
	char quote = '\0';
	bool any = false;
	int rc = 0;

	buf_init(&word, 65536);
	for (; rc == 0; s++) {
		if (*s == '\0' || (quote == '\0' && (*s == ' ' || *s == '\t'))) {
			if (any && strlist_add(out, buf_str(&word)) != 0)
				rc = out_of_memory(err);
			buf_clear(&word);
			any = false;
			if (*s == '\0')
				break;
			continue;
		}
		any = true;
		if (quote == '\0' && (*s == '"' || *s == '\''))
			quote = *s;
		else if (*s == quote)
			quote = '\0';
		else if (!buf_add_byte(&word, (unsigned char)*s))
			rc = out_of_memory(err);
	}
	buf_done(&word);
	return rc == 0 && quote != '\0' ? err_set(err, ERR_CONFIG, "sshopts: a quote is not closed") : rc;
}

int config_cli_take(struct config_cli *cli, int argc, char *const *argv, struct err *err)
{
	const char *name = argc > 0 ? argv[0] : "";
	int taken;

	if (name[0] != '-' || name[1] == '\0')
		return 0;
	name += name[1] == '-' ? 2 : 1;
	if (strcmp(name, "sshopts") == 0) {
		if (argc < 2)
			return err_set(err, ERR_CONFIG, "%s needs a value", argv[0]);
		return split_words(argv[1], &cli->sshopts, err) == 0 ? 2 : -1;
	}
	taken = take_sync(cli, name, argc, argv, err);
	return taken != 0 ? taken : take_key(cli, name, argc, argv, err);
}

bool config_cli_has_syncs(const struct config_cli *cli)
{
	return cli != NULL && cli->n_syncs > 0;
}

/* Lists are made of all their options, replacing the file's; of other keys the last option counts. */
static void apply_key(const struct config_cli *cli, size_t i, struct config_run *run, void *base,
		      struct config_place *at)
{
	const struct config_key *k = cli->keys[i].key;
	struct config_value v;
	struct err err = ERR_INIT;
	int rc;

	if (k->type == TYPE_LIST) {
		struct strlist *list = (struct strlist *)(void *)((char *)base + k->offset);
		bool first = true;

		for (size_t j = 0; j < i; j++)
			first = first && cli->keys[j].key != k;
		if (first)
			strlist_done(list);
		if (strlist_add(list, cli->keys[i].text) != 0)
			config_out_of_memory(run);
	} else {
		rc = config_value_from_text(k, cli->keys[i].text, &v, &err);
		v.dir = run->dir;
		if (rc != 0 || config_value_store(k, &v, base, &err) != 0)
			config_error(run, here, "%s", err.text);
	}
	at[config_key_index(k)] = here;
}

bool config_cli_gave(const struct config_run *run, const char *settings_key)
{
	const struct config_key *k = config_key_find(SECTION_SETTINGS, settings_key);

	return k != NULL && run->settings_at[config_key_index(k)].file == here.file;
}

void config_cli_apply_settings(const struct config_cli *cli, struct config_run *run)
{
	for (size_t i = 0; i < cli->n_keys; i++)
		if (cli->keys[i].key->section == SECTION_SETTINGS)
			apply_key(cli, i, run, &run->c->settings, run->settings_at);
}

void config_cli_apply_sync(const struct config_cli *cli, struct config_run *run, struct sync_options *s,
			   struct config_draft *d)
{
	for (size_t i = 0; i < cli->n_keys; i++)
		if (cli->keys[i].key->section == SECTION_SYNC)
			apply_key(cli, i, run, s, d->at);
}

static void set_key(struct config_run *run, struct sync_options *s, struct config_draft *d, const char *key,
		    const char *text)
{
	const struct config_key *k = config_key_find(SECTION_SYNC, key);
	struct config_value v = { .kind = VALUE_STRING, .s = text, .dir = run->dir };
	struct err err = ERR_INIT;

	d->at[config_key_index(k)] = here;
	if (config_value_store(k, &v, s, &err) != 0)
		config_error(run, here, "%s", err.text);
}

static void add_one(const struct config_cli *cli, const struct given_sync *g, struct config_run *run)
{
	struct config_draft *d;
	struct sync_options *s = config_add_sync(run, here, &d);

	if (s == NULL)
		return;
	for (const struct transport *const *t = run->env->transports; *t != NULL; t++)
		if (strcmp((*t)->name, g->transport) == 0)
			d->transport = *t;
	set_key(run, s, d, "transport", g->transport);
	set_key(run, s, d, "source", g->source);
	if (g->host != NULL)
		set_key(run, s, d, "host", g->host);
	set_key(run, s, d, g->host != NULL ? "targetdir" : "target", g->target);
	for (size_t i = 0; g->host != NULL && i < cli->sshopts.n; i++)
		if (strlist_add(&s->ssh.extra, cli->sshopts.v[i]) != 0)
			config_out_of_memory(run);
}

void config_cli_add_syncs(const struct config_cli *cli, struct config_run *run)
{
	for (size_t i = 0; i < cli->n_syncs; i++)
		add_one(cli, &cli->syncs[i], run);
}
