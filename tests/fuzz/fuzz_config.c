/* LINK: config/check.c config/cli.c config/command.c config/dump.c config/help.c config/list.c config/paths.c
 * config/reader.c config/rules.c config/metrics.c config/receiver.c core/owner_map.c config/run.c config/source.c
 * config/suggest.c config/table.c config/targets.c config/tunnel.c core/tunnel_port.c config/value.c core/filter.c
 * core/filter_args.c core/backup_dir.c core/bandwidth.c core/schedule.c core/buf.c core/err.c core/path.c */
/* MODULE: config/check.c config/reader.c config/value.c config/table.c config/list.c config/rules.c config/source.c
 * config/targets.c config/tunnel.c config/receiver.c config/metrics.c config/dump.c core/owner_map.c core/schedule.c
 * core/bandwidth.c core/backup_dir.c */
/* LIBS: -lconfig */
/* A configuration of any bytes: refused with a reason, or read, and then its dump says the same, and what stands in it
 * in a language of its own (times, rates, names of directories, owners) can be asked. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "config/config.h"
#include "core/backup_dir.h"
#include "core/bandwidth.h"
#include "core/owner_map.h"
#include "core/schedule.h"
#include "tests/lib/config_fake.h"

/* A day before the clocks are changed. */
#define NOW_S INT64_C(1774659600)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

/* libconfig 1.5 forgets a string that stands where its grammar wants none. */
const char *__lsan_default_suppressions(void)
{
	return "leak:libconfig.so\n";
}

static struct config *load(const char *text, size_t len, struct strlist *errors)
{
	struct config_env env = { .transports = fake_registry };

	return config_load_text(text, len, "f", &env, errors);
}

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void check_dump(const struct config *c)
{
	struct strlist errors = { 0 };
	struct config *again;
	struct buf dump;

	buf_init(&dump, 1u << 26);
	require(config_dump(c, &dump) == 0);
	again = load(dump.data, dump.len, &errors);
	if (again == NULL && errors.n > 0)
		(void)fprintf(stderr, "%s\n", errors.v[0]);
	require(again != NULL);
	require(config_settings_equal(&c->settings, &again->settings) && c->n_syncs == again->n_syncs);
	for (size_t i = 0; i < c->n_syncs; i++)
		require(config_sync_equal(&c->syncs[i], &again->syncs[i]));
	require(config_receiver_equal(c->receiver, again->receiver) &&
		config_metrics_equal(c->metrics, again->metrics));
	config_free(again);
	strlist_done(&errors);
	buf_done(&dump);
}

/* What a worker and a receiver get of it. */
static void check_parts(const struct config *c)
{
	struct buf dump;

	for (size_t i = 0; i <= c->n_syncs; i++) {
		struct strlist errors = { 0 };
		struct config *part;

		buf_init(&dump, 1u << 26);
		require((i < c->n_syncs ? config_dump_sync(c, i, 4711, &dump) : config_dump_receiver_only(c, &dump)) ==
			0);
		part = load(dump.data, dump.len, &errors);
		/* Without a receiver nothing is configured in the second. */
		require((part != NULL && part->n_syncs == (i < c->n_syncs ? 1 : 0)) ||
			(i == c->n_syncs && c->receiver == NULL));
		config_free(part);
		strlist_done(&errors);
		buf_done(&dump);
	}
}

static void ask_owners(const struct strlist *texts)
{
	static const uint32_t ids[] = { 0, 1000, UINT32_MAX - 1 };
	struct owner_map map = { 0 };
	struct err err = ERR_INIT;
	uint32_t to;

	require(owner_map_parse(texts, &map, &err) == 0);
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
		(void)owner_map_find(&map, ids[i], i == 0 ? NULL : "alice", &to);
	owner_map_done(&map);
}

static void ask_backup_dir(const char *text)
{
	char dir[BACKUP_DIR_MAX], stamp[BACKUP_STAMP_MAX];
	struct err err = ERR_INIT;
	size_t root;

	if (text == NULL)
		return;
	root = backup_dir_root(text);
	require(root > 0 && root <= strlen(text) && memchr(text, '%', root) == NULL);
	if (backup_dir_at(dir, text, NOW_S * FAKE_SECOND, &err) >= 0)
		require(memcmp(dir, text, root) == 0);
	backup_dir_stamp(stamp, NOW_S * FAKE_SECOND);
	require(stamp[0] == '~');
}

static void ask(const struct sync_options *sync)
{
	struct bandwidth rates;
	struct err err = ERR_INIT;

	for (size_t i = 0; i < sync->schedule.n; i++) {
		struct schedule when;

		require(schedule_parse(&when, sync->schedule.v[i], &err) == 0);
		require(schedule_next(&when, NOW_S) > NOW_S);
	}
	require(bandwidth_parse(&rates, &sync->bandwidth, &err) == 0 && bandwidth_at(&rates, NOW_S) >= 0);
	require(bandwidth_with(&rates, NOW_S, 1) == 1);
	ask_backup_dir(sync->backup_dir);
}

static void check_meaning(const struct config *c)
{
	for (size_t i = 0; i < c->n_syncs; i++)
		ask(&c->syncs[i]);
	for (size_t i = 0; c->receiver != NULL && i < c->receiver->n_modules; i++) {
		ask_owners(&c->receiver->modules[i].usermap);
		ask_owners(&c->receiver->modules[i].groupmap);
		ask_backup_dir(c->receiver->modules[i].backup_dir);
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct strlist errors = { 0 };
	struct config *c = load((const char *)data, size, &errors);

	require((c == NULL) == (errors.n > 0));
	if (c != NULL) {
		check_dump(c);
		check_parts(c);
		check_meaning(c);
	}
	config_free(c);
	strlist_done(&errors);
	return 0;
}
