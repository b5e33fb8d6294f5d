/* LINK: config/check.c config/cli.c config/command.c config/dump.c config/help.c config/list.c config/paths.c
 * config/reader.c config/rules.c config/metrics.c config/receiver.c core/owner_map.c config/run.c config/source.c
 * config/suggest.c config/table.c config/targets.c config/tunnel.c core/tunnel_port.c config/value.c core/filter.c
 * core/filter_args.c core/backup_dir.c core/bandwidth.c core/schedule.c core/buf.c core/err.c core/path.c */
/* MODULE: config/check.c config/reader.c config/value.c config/table.c config/list.c config/rules.c config/source.c
 * config/targets.c config/tunnel.c config/receiver.c config/metrics.c config/dump.c core/owner_map.c core/schedule.c
 * core/bandwidth.c core/backup_dir.c */
/* LIBS: -lconfig */
/* A configuration of any bytes: refused with a reason, or read, and then its dump says the same. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "config/config.h"
#include "tests/lib/config_fake.h"

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
	config_free(again);
	strlist_done(&errors);
	buf_done(&dump);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct strlist errors = { 0 };
	struct config *c = load((const char *)data, size, &errors);

	require((c == NULL) == (errors.n > 0));
	if (c != NULL)
		check_dump(c);
	config_free(c);
	strlist_done(&errors);
	return 0;
}
