/* LINK: core/guard.c core/keep.c core/identity.c core/wire.c core/owner_map.c core/buf.c core/batch.c core/path.c
 * core/err.c */
/* MODULE: core/wire.c core/guard.c */
/* Every reader of the worker's protocol, on whatever bytes: the first byte chooses the message. */
#include <stddef.h>
#include <stdint.h>

#include "core/guard.h"
#include "core/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_guard(const char *p, size_t len)
{
	struct guard_state g;

	if (guard_get(p, len, &g, NULL) == 0)
		guard_done(&g);
}

static void read_others(uint8_t type, const char *p, size_t len)
{
	struct wire_config config;
	struct wire_found found;
	struct wire_progress progress;
	struct wire_counters counters;
	struct wire_linked linked;
	struct host_tree tree;
	struct err err;
	const char *text;
	size_t n;
	uint32_t u32;
	uint64_t u64;

	if (type == WIRE_CONFIG)
		(void)wire_get_config(p, len, &config);
	else if (type == WIRE_FOUND)
		(void)wire_get_found(p, len, &found);
	else if (type == WIRE_PROGRESS)
		(void)wire_get_progress(p, len, &progress);
	else if (type == WIRE_COUNTERS)
		(void)wire_get_counters(p, len, &counters);
	else if (type == WIRE_LINKED)
		(void)wire_get_linked(p, len, &linked);
	else if (type == WIRE_PEER)
		(void)wire_get_peer(p, len, &tree);
	else if (type == WIRE_ORIGIN)
		(void)wire_get_origin(p, len, &u32, &tree);
	else if (type == WIRE_VIEW)
		(void)wire_get_view(p, len, &u32, &text, &n);
	else if (type == WIRE_DOWN)
		(void)wire_get_down(p, len, &err);
	else if (type == WIRE_LOG)
		(void)wire_get_log(p, len, &u32, &text, &n);
	else if (type == WIRE_GUARD)
		read_guard(p, len);
	else if (type == WIRE_BATCH_DONE)
		(void)wire_get_u64(p, len, &u64);
	else
		(void)wire_get_u32(p, len, &u32);
}

static void read_verdicts(const char *p, size_t len)
{
	struct wire_verdict v;
	struct reader r;
	uint64_t id;

	if (!wire_get_verdicts(p, len, &r, &id))
		return;
	while (wire_next_verdict(&r, &v) > 0)
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data + 1;
	unsigned flags;

	if (size == 0)
		return 0;
	if (data[0] % WIRE_TYPES == WIRE_BATCH)
		batch_free(wire_get_batch(p, size - 1, &flags));
	else if (data[0] % WIRE_TYPES == WIRE_VERDICTS)
		read_verdicts(p, size - 1);
	else
		read_others(data[0] % WIRE_TYPES, p, size - 1);
	return 0;
}
