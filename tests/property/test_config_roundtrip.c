/* LINK: config/check.c config/cli.c config/command.c config/dump.c config/help.c config/list.c config/paths.c
 * config/reader.c config/rules.c config/metrics.c config/receiver.c core/owner_map.c config/run.c config/source.c
 * config/suggest.c config/table.c config/targets.c config/tunnel.c core/tunnel_port.c config/value.c core/filter.c
 * core/filter_args.c core/backup_dir.c core/bandwidth.c core/schedule.c core/buf.c core/err.c core/path.c */
/* LIBS: -lconfig */
/* NEW SEED */
/*
 * Random configurations: what is read, dumped and read again is equal, and so is each sync's own dump.
 *
 * The texts are made from the table itself, so that a new key is covered as soon as it has a row.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "config/private.h"
#include "core/tunnel_port.h"
#include "tests/lib/config_fake.h"

enum { ROUNDS_DEFAULT = 2000, SYNCS_MAX = 4 };

struct gen {
	uint64_t state;
	bool tunnel; /* the sync that is made has one */
	struct buf out;
};

/* xorshift64*: the same sequence on every machine. */
static uint64_t next(struct gen *g)
{
	g->state ^= g->state >> 12;
	g->state ^= g->state << 25;
	g->state ^= g->state >> 27;
	return g->state * UINT64_C(2685821657736338717);
}

static uint64_t below(struct gen *g, uint64_t n)
{
	return (next(g) >> 11) % n;
}

static bool chance(struct gen *g, unsigned percent)
{
	return below(g, 100) < percent;
}

/* A string of any bytes but NUL, most of them harmless, in libconfig's spelling. */
static void put_text(struct gen *g, size_t max)
{
	static const char plain[] = "abcXYZ019 ._/-+*?[]{}#;,=!~$%@:'()\t";
	size_t n = 1 + below(g, max);

	(void)buf_add_byte(&g->out, '"');
	for (size_t i = 0; i < n; i++) {
		unsigned byte = (unsigned)(1 + below(g, 255));

		if (chance(g, 90))
			(void)buf_add_byte(&g->out, (unsigned char)plain[below(g, sizeof(plain) - 1)]);
		else if (byte == '"' || byte == '\\')
			(void)buf_printf(&g->out, "\\%c", (int)byte);
		else if (byte >= 0x80 && chance(g, 50))
			(void)buf_add_byte(&g->out, (unsigned char)byte);
		else
			(void)buf_printf(&g->out, "\\x%02x", byte);
	}
	(void)buf_add_byte(&g->out, '"');
}

static void put_path(struct gen *g)
{
	static const char *const parts[] = { "a", "b c", "./", "//", ".hidden", "x.y", "\\x01", "\xc3\xa9", "\\\"q" };
	size_t n = 1 + below(g, 4);

	(void)buf_add_byte(&g->out, '"');
	for (size_t i = 0; i < n; i++)
		(void)buf_printf(&g->out, "/%s", parts[below(g, sizeof(parts) / sizeof(parts[0]))]);
	(void)buf_add_byte(&g->out, '"');
}

/* Rules that the filter takes. */
static void put_rule(struct gen *g)
{
	static const char *const rules[] = { "+ *.cnf", "- **",	  "- /tmp/", "H secret",   "S x",      "P keep",
					     "-! *.c",	"-p .o*", "!",	     "R gone",	   "- [a-z]?", "+ a\\\\*b",
					     "- a b  ", "-s y",	  "+r z",    "- \xff\xfe", "clear",    "- \\\"q\\\"" };

	(void)buf_printf(&g->out, "\"%s\"", rules[below(g, sizeof(rules) / sizeof(rules[0]))]);
}

static int64_t number(struct gen *g, const struct config_key *k)
{
	uint64_t span = (uint64_t)(k->max - k->min);

	switch (below(g, 4)) {
	case 0:
		return k->min;
	case 1:
		return k->max;
	case 2:
		return k->min + (int64_t)below(g, span < 1000 ? span + 1 : 1000);
	default:
		return k->min + (int64_t)below(g, span + 1);
	}
}

static void put_int(struct gen *g, const struct config_key *k)
{
	if ((k->flags & KEY_PORT) != 0 && g->tunnel && chance(g, 50))
		(void)buf_add_str(&g->out, "\"${port}\"");
	else if ((k->flags & KEY_AUTO) != 0 && chance(g, 30))
		(void)buf_add_str(&g->out, "\"auto\"");
	else
		(void)buf_printf(&g->out, "%" PRId64, number(g, k));
}

static void put_time(struct gen *g, const struct config_key *k)
{
	int64_t seconds = number(g, k);

	(void)buf_printf(&g->out, "%" PRId64, seconds);
	if (seconds < k->max && chance(g, 60))
		(void)buf_printf(&g->out, ".%0*" PRIu64, (int)(1 + below(g, 9)), below(g, 10));
}

static void put_choice(struct gen *g, const struct config_key *k)
{
	size_t n = 0;
	const struct config_choice *c;

	while (k->choices[n].word != NULL)
		n++;
	c = &k->choices[below(g, n)];
	if ((k->flags & KEY_CHOICE_BOOL) != 0 && (strcmp(c->word, "true") == 0 || strcmp(c->word, "false") == 0))
		(void)buf_add_str(&g->out, c->word);
	else if ((k->flags & KEY_CHOICE_NUM) != 0 && chance(g, 30))
		(void)buf_printf(&g->out, "%d", c->value);
	else
		(void)buf_printf(&g->out, "\"%s\"", c->word);
}

/* Log words are checked, filters must parse, arguments must not be filter options: they begin with a letter. */
static void put_item(struct gen *g, const struct config_key *k)
{
	static const char *const words[] = { "\"all\"",	 "\"Exec\"", "\"Alarm\"",    "\"--stats\"",
					     "\"sudo\"", "\"A=b\"",  "\"A=${port}\"" };

	if ((k->flags & KEY_FILTER) != 0 && strcmp(k->name, "filter") == 0)
		put_rule(g);
	else if (strcmp(k->name, "schedule") == 0)
		(void)buf_add_str(&g->out, chance(g, 50) ? "\"@daily\"" : "\"*/5 8-18 * * mon-fri\"");
	else if (strcmp(k->name, "bandwidth") == 0)
		(void)buf_add_str(&g->out,
				  chance(g, 50) ? "\"1.5M\"" : "\"from=08:00 to=18:00 days=mon-fri limit=500\"");
	else if (strcmp(k->name, "usermap") == 0 || strcmp(k->name, "groupmap") == 0)
		(void)buf_add_str(&g->out, chance(g, 50) ? "\"1000-1999:2000\"" : "\"*:nobody\"");
	else if (k->section == SECTION_SETTINGS)
		(void)buf_add_str(&g->out, words[below(g, 3)]);
	else if ((k->flags & KEY_FILTER) != 0)
		(void)buf_add_str(&g->out, chance(g, 50) ? "\"*.tmp\"" : "\"+ a\"");
	else
		(void)buf_add_str(&g->out, words[3 + below(g, 4)]);
}

static void put_list(struct gen *g, const struct config_key *k)
{
	size_t n = below(g, 5);

	(void)buf_add_str(&g->out, "[ ");
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			(void)buf_add_str(&g->out, ", ");
		put_item(g, k);
	}
	(void)buf_add_str(&g->out, " ]");
}

static void put_value(struct gen *g, const struct config_key *k)
{
	switch (k->type) {
	case TYPE_BOOL:
		(void)buf_add_str(&g->out, chance(g, 50) ? "true" : "false");
		break;
	case TYPE_INT:
		put_int(g, k);
		break;
	case TYPE_TIME:
		put_time(g, k);
		break;
	case TYPE_CHOICE:
		put_choice(g, k);
		break;
	case TYPE_LIST:
		put_list(g, k);
		break;
	case TYPE_PATH:
		put_path(g);
		break;
	case TYPE_STRING:
		if ((k->flags & KEY_COMMAND) != 0)
			put_path(g);
		else
			put_text(g, 20);
		break;
	case TYPE_IGNORED:
		(void)buf_add_str(&g->out, "1");
		break;
	}
}

/* Keys whose value depends on others are written by put_sync; files are not read here. */
static bool by_hand(const struct config_key *k)
{
	static const char *const names[] = { "name",
					     "transport",
					     "source",
					     "target",
					     "path",
					     "host",
					     "targetdir",
					     "retryMin",
					     "retryMax",
					     "excludeFrom",
					     "filterFrom",
					     "bidirectional",
					     "requireMarker",
					     "backupDir",
					     "requireTargetMarker",
					     "controlSocket",
					     "module",
					     "listen",
					     "keys",
					     "certificate",
					     "privateKey",
					     "ca" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], k->name) == 0)
			return true;
	return false;
}

static void put_keys(struct gen *g, enum config_section section, unsigned percent, const char *transport)
{
	size_t n;
	const struct config_key *table = config_table(&n);

	for (size_t i = 0; i < n; i++) {
		if (table[i].section != section || by_hand(&table[i]) || !chance(g, percent) ||
		    (table[i].only != NULL && strcmp(table[i].only, transport) != 0))
			continue;
		(void)buf_printf(&g->out, "%s = ", table[i].name);
		put_value(g, &table[i]);
		(void)buf_add_str(&g->out, ";\n");
	}
}

/* Where it listens is fixed, or does not matter: then so does whether anything leads into it. */
static void put_tunnel(struct gen *g, size_t i)
{
	(void)buf_add_str(&g->out, "tunnel = {\ncommand = [ \"t\", ");
	put_text(g, 20);
	(void)buf_printf(&g->out, ", \"${port}\" ];\n%s = %u;\n", chance(g, 50) ? "port" : "readyDelay",
			 1u + (unsigned)i);
	if (chance(g, 50))
		(void)buf_printf(&g->out, "timeout = %u;\nuser = \"u\";\n", 1u + (unsigned)below(g, 100));
	(void)buf_add_str(&g->out, "};\n");
}

static void put_sync(struct gen *g, size_t i)
{
	size_t t = below(g, FAKE_TRANSPORTS);
	unsigned percent = (unsigned)below(g, 60);

	g->tunnel = chance(g, 30);
	(void)buf_printf(&g->out, "{ transport = \"%s\"; source = \"/s%zu\";\n", fake_registry[t]->name, i);
	if ((fake_registry[t]->caps & TRANSPORT_HOST) != 0)
		(void)buf_printf(&g->out, "host = \"u%zu@h\"; targetdir = \"t%zu/%s\";\n", i, i,
				 chance(g, 50) ? "" : "x");
	else if ((fake_registry[t]->caps & TRANSPORT_MODULE) != 0)
		(void)buf_printf(&g->out, "host = \"h\"; module = \"m%zu\";\n", i);
	else
		(void)buf_printf(&g->out, "target = \"/t%zu\";\n", i);
	if ((fake_registry[t]->caps & TRANSPORT_LOOK) != 0 && chance(g, 50))
		(void)buf_add_str(&g->out, "bidirectional = true;\n");
	if (chance(g, 50))
		(void)buf_printf(&g->out,
				 "name = \"n%zu\";\nrequireMarker = \"m/%zu\";\nrequireTargetMarker = \"t/%zu\";\n", i,
				 i, i);
	if (chance(g, 30))
		(void)buf_printf(&g->out, "retryMin = %u; retryMax = %u;\n", (unsigned)below(g, 9), 9u);
	put_keys(g, SECTION_SYNC, percent, fake_registry[t]->name);
	(void)buf_add_str(&g->out, "rsync = {\n");
	put_keys(g, SECTION_RSYNC, percent, fake_registry[t]->name);
	(void)buf_add_str(&g->out, "};\nssh = {\n");
	put_keys(g, SECTION_SSH, percent, fake_registry[t]->name);
	(void)buf_add_str(&g->out, "};\n");
	if (g->tunnel)
		put_tunnel(g, i);
	(void)buf_add_str(&g->out, "}\n");
}

static void put_metrics(struct gen *g)
{
	static const char *const listen[] = { "/run/m.sock", "127.0.0.1:9737", "[::1]:9737" };

	(void)buf_printf(&g->out, "metrics = { listen = \"%s\"; insecure = %s; hosts = [ \"a.example\", \"b\" ]; };\n",
			 listen[below(g, 3)], chance(g, 50) ? "true" : "false");
}

static void put_receiver(struct gen *g)
{
	size_t n = 1 + below(g, 3);

	(void)buf_printf(&g->out, "receiver = {\nlisten = [ \"127.0.0.1:%u\", \"[::1]:1\" ];\n",
			 1 + (unsigned)below(g, 65535));
	if (chance(g, 50))
		(void)buf_add_str(&g->out, "keys = \"/k\";\n");
	put_keys(g, SECTION_RECEIVER, 40, "");
	(void)buf_add_str(&g->out, "modules = (\n");
	for (size_t i = 0; i < n; i++) {
		(void)buf_printf(&g->out, "%s{ name = \"m%zu\"; ", i == 0 ? "" : ",", i);
		put_keys(g, SECTION_MODULE, 40, "");
		(void)buf_printf(&g->out, "path = \"/p%zu\"; }\n", i);
	}
	(void)buf_add_str(&g->out, "); };\n");
}

static void put_config(struct gen *g)
{
	size_t n = 1 + below(g, SYNCS_MAX);

	(void)buf_add_str(&g->out, "settings = {\n");
	put_keys(g, SECTION_SETTINGS, (unsigned)below(g, 80), "");
	(void)buf_add_str(&g->out, "controlSocket = \"/s\"; };\nsync = (\n");
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			(void)buf_add_str(&g->out, ",\n");
		put_sync(g, i);
	}
	(void)buf_add_str(&g->out, ");\n");
	if (chance(g, 30))
		put_receiver(g);
	if (chance(g, 30))
		put_metrics(g);
	assert_false(g->out.failed);
}

static struct config *load(struct buf *text)
{
	struct config_env env = { .transports = fake_registry };
	struct strlist errors = { 0 };
	struct config *c = config_load_text(text->data, text->len, "c", &env, &errors);

	if (c == NULL)
		print_error("%s\n%s\n", errors.n > 0 ? errors.v[0] : "no reason", buf_str(text));
	assert_non_null(c);
	strlist_done(&errors);
	return c;
}

static void check(bool ok, const char *what, struct buf *text, struct buf *dump)
{
	if (!ok)
		print_error("%s\n--- text\n%s\n--- dump\n%s\n", what, buf_str(text), buf_str(dump));
	assert_true(ok);
}

static bool still_named(const struct config_key *k, const void *field)
{
	if (k->type == TYPE_INT)
		return *(const int64_t *)field == OPTIONS_TUNNEL_PORT;
	return k->type == TYPE_LIST ? tunnel_port_named_in(field) : tunnel_port_named(*(char *const *)field);
}

/* The same with a tunnel's port: it stands wherever it was named, all else is the same. */
static void check_behind_tunnel(struct config *c, size_t i, struct buf *text)
{
	struct buf dump;
	struct config *one;
	size_t n;
	const struct config_key *table = config_table(&n);

	if (c->syncs[i].tunnel.command.n == 0)
		return;
	buf_init(&dump, 1u << 20);
	assert_int_equal(config_dump_sync(c, i, 40123, &dump), 0);
	one = load(&dump);
	check(one->syncs[0].tunnel.command.n == 0, "the tunnel is there", text, &dump);
	for (size_t k = 0; k < n; k++) {
		const void *before = (const char *)&c->syncs[i] + table[k].offset;
		const void *now = (const char *)&one->syncs[0] + table[k].offset;

		if (table[k].section == SECTION_SETTINGS || table[k].section >= SECTION_TUNNEL ||
		    table[k].type == TYPE_IGNORED || (table[k].flags & KEY_FILTER) != 0 ||
		    (table[k].only != NULL && strcmp(table[k].only, c->syncs[i].transport) != 0))
			continue;
		if ((table[k].flags & KEY_PORT) != 0 && still_named(&table[k], before))
			check(!still_named(&table[k], now), table[k].name, text, &dump);
		else
			check(config_key_equal(&table[k], &c->syncs[i], &one->syncs[0]), table[k].name, text, &dump);
	}
	config_free(one);
	buf_done(&dump);
}

/* What a worker gets of each sync. */
static void check_sync_dumps(struct config *c, struct buf *text)
{
	for (size_t i = 0; i < c->n_syncs; i++) {
		struct buf dump;
		struct config *one;

		buf_init(&dump, 1u << 20);
		assert_int_equal(config_dump_sync(c, i, 0, &dump), 0);
		one = load(&dump);
		check(one->n_syncs == 1 && config_sync_equal(&c->syncs[i], &one->syncs[0]), "a sync's dump differs",
		      text, &dump);
		/* Made from host and targetdir again. */
		check((c->syncs[i].target == NULL) == (one->syncs[0].target == NULL) &&
			      (c->syncs[i].target == NULL || strcmp(c->syncs[i].target, one->syncs[0].target) == 0),
		      "the target differs", text, &dump);
		config_free(one);
		buf_done(&dump);
		check_behind_tunnel(c, i, text);
	}
}

static void check_config(struct buf *text)
{
	struct config *a = load(text), *b;
	struct buf dump, again;

	buf_init(&dump, 1u << 20);
	buf_init(&again, 1u << 20);
	assert_int_equal(config_dump(a, &dump), 0);
	b = load(&dump);
	check(config_settings_equal(&a->settings, &b->settings), "the settings differ", text, &dump);
	check(a->n_syncs == b->n_syncs, "the number of syncs differs", text, &dump);
	for (size_t i = 0; i < a->n_syncs; i++)
		check(config_sync_equal(&a->syncs[i], &b->syncs[i]), "a sync differs", text, &dump);
	check(config_receiver_equal(a->receiver, b->receiver), "the receiver differs", text, &dump);
	check(config_metrics_equal(a->metrics, b->metrics), "the metrics differ", text, &dump);
	assert_int_equal(config_dump(b, &again), 0);
	check(strcmp(buf_str(&dump), buf_str(&again)) == 0, "the second dump differs", text, &again);
	check_sync_dumps(a, text);
	config_free(a);
	config_free(b);
	buf_done(&dump);
	buf_done(&again);
}

static uint64_t from_env(const char *name, uint64_t fallback)
{
	const char *s = getenv(name);

	return s == NULL || *s == '\0' ? fallback : strtoull(s, NULL, 10);
}

static void test_round_trips(void **state)
{
	uint64_t seed = from_env("SEED", (uint64_t)time(NULL)), rounds = from_env("ROUNDS", 1) * ROUNDS_DEFAULT;
	struct gen g = { .state = 0 };

	(void)state;
	print_message("# SEED=%" PRIu64 "\n", seed);
	buf_init(&g.out, 1u << 20);
	for (uint64_t i = 0; i < rounds; i++) {
		g.state = (seed + i) * UINT64_C(0x9E3779B97F4A7C15) | 1;
		buf_clear(&g.out);
		put_config(&g);
		check_config(&g.out);
	}
	buf_done(&g.out);
}

/* Two values of a key are told apart: otherwise the round trip would prove nothing. */
static void test_each_key_counts(void **state)
{
	size_t n;
	const struct config_key *table = config_table(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		struct settings set[2] = { { 0 } };
		struct sync_options syn[2] = { { 0 } };
		struct receiver_options rec[2];
		struct receiver_module mod[2] = { { 0 } };
		const struct config_key *k = &table[i];
		struct config_value v = { .kind = VALUE_STRING, .s = "/x" };
		struct err err = ERR_INIT;
		void *a = &syn[0], *b = &syn[1];

		memset(rec, 0, sizeof(rec));

		if (k->section == SECTION_SETTINGS) {
			a = &set[0];
			b = &set[1];
		} else if (k->section == SECTION_RECEIVER) {
			a = &rec[0];
			b = &rec[1];
		} else if (k->section == SECTION_MODULE) {
			a = &mod[0];
			b = &mod[1];
		}
		if (k->type == TYPE_IGNORED || (k->flags & KEY_FILTER) != 0)
			continue;
		if (k->type == TYPE_BOOL)
			v = (struct config_value){ .kind = VALUE_BOOL, .b = true };
		else if (k->type == TYPE_INT || k->type == TYPE_TIME)
			v = (struct config_value){ .kind = VALUE_INT, .i = k->max };
		else if (k->type == TYPE_CHOICE)
			v.s = k->choices[k->choices[0].value == 0 ? 1 : 0].word;
		assert_int_equal(config_value_store(k, &v, a, &err), 0);
		assert_false(config_keys_equal(k->section, a, b));
		config_free_keys(k->section, a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_key_counts),
		cmocka_unit_test(test_round_trips),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
