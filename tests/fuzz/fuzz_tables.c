/* LINK: core/mounts.c core/owner_map.c core/top_view.c core/buf.c core/err.c */
/* MODULE: core/mounts.c core/owner_map.c core/top_view.c */
/* Texts that are tables: the kernel's list of mounts, rules about owners, the report that --top shows (and the keys
 * pressed meanwhile). The first byte chooses; what was read is whole, and can be looked at in every way. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/mounts.h"
#include "core/options.h"
#include "core/owner_map.h"
#include "core/top_view.h"

#define RULES_MAX 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void mounts(const char *p, size_t n)
{
	struct err err = ERR_INIT;
	struct mounts m = { 0 };

	require(mounts_parse(p, n, &m, &err) == 0);
	for (size_t i = 0; i < m.n; i++) {
		const struct mount *one = &m.list[i];

		require(one->root != NULL && one->point[0] == '/' && one->type != NULL && one->source != NULL);
		require(mounts_find(&m, one->id) != NULL);
	}
	mounts_done(&m);
}

/* The lines as rules; then the numbers and names of the last line are looked for. */
static void owners(const char *p, size_t n)
{
	char *text = malloc(n + 1), *at = text, *lines[RULES_MAX], *save = NULL;
	struct strlist list = { .v = lines };
	struct err err = ERR_INIT;
	struct owner_map m = { 0 };
	uint32_t to;

	require(text != NULL);
	memcpy(text, p, n);
	text[n] = '\0';
	for (char *one; list.n < RULES_MAX && (one = strtok_r(at, "\n", &save)) != NULL; at = NULL)
		lines[list.n++] = one;
	if (owner_map_parse(&list, &m, &err) < 0)
		require(err.text[0] != '\0');
	for (size_t i = 0; i < list.n; i++) {
		(void)owner_map_find(&m, (uint32_t)strtoul(lines[i], NULL, 10), lines[i], &to);
		(void)owner_map_find(&m, (uint32_t)i * 500, NULL, &to);
		(void)owner_name_valid(lines[i], strlen(lines[i]));
	}
	owner_map_done(&m);
	free(text);
}

/* Reports that a NUL ends each, keys between them that begin with ESC or a byte below it. */
static void top(unsigned how, const char *p, size_t n)
{
	struct top_view v;
	struct buf out;
	int64_t now_ns = 0;

	top_view_init(&v);
	buf_init(&out, 1u << 20);
	while (n > 0) {
		const char *end = memchr(p, '\0', n);
		size_t len = end == NULL ? n : (size_t)(end - p);

		now_ns += 1000000000;
		if (len > 0 && len < 8)
			require(top_view_key(&v, p, len, 10) <= TOP_QUIT);
		else if (top_view_read(&v, p, len, now_ns))
			top_view_sort(&v);
		buf_clear(&out);
		top_view_draw(&v, 20 + how % 200, 1 + how % 30, how % 2 == 0, &out);
		top_view_plain(&v, &out);
		p += len + (end != NULL);
		n -= len + (end != NULL);
	}
	top_view_done(&v);
	buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	if (data[0] % 3 == 0)
		mounts((const char *)data + 1, size - 1);
	else if (data[0] % 3 == 1)
		owners((const char *)data + 1, size - 1);
	else
		top(data[1], (const char *)data + 2, size - 2);
	return 0;
}
