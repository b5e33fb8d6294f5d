/* LINK: core/filter.c core/filter_args.c core/err.c */
/* MODULE: core/filter.c core/filter_args.c */
/*
 * The filter on whatever rules and paths: the first byte chooses the reader, then come rules up to a NUL, then paths
 * that end in a NUL each. What must hold of every list is checked, not only that nothing crashes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/filter.h"

#define ARGS_MAX 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static int no_file(void *ctx, const char *path, char **text, size_t *len, struct err *err)
{
	(void)ctx;
	(void)text;
	(void)len;
	return err_set(err, ERR_GONE, "%s: there are no files here", path);
}

static void free_arg(char *arg)
{
	free(arg);
}

/* The lines as the arguments of a command line. */
static int add_args(struct filter *f, const char *p, size_t len, struct err *err)
{
	char *argv[ARGS_MAX + 1];
	size_t n = 0;
	int rc;

	while (len > 0 && n < ARGS_MAX) {
		const char *end = memchr(p, '\n', len);
		size_t one = end != NULL ? (size_t)(end - p) : len;

		argv[n] = calloc(1, one + 1);
		require(argv[n] != NULL);
		memcpy(argv[n++], p, one);
		one += end != NULL;
		p += one;
		len -= one;
	}
	argv[n] = NULL;
	rc = filter_add_rsync_args(f, argv, &n, no_file, NULL, free_arg, err);
	require(argv[n] == NULL);
	while (n > 0)
		free(argv[--n]);
	return rc;
}

static int read_rules(struct filter *f, unsigned how, const char *p, size_t len, struct err *err)
{
	switch (how % 5) {
	case 0:
		return filter_add_filter_lines(f, p, len, err);
	case 1:
		return filter_add_exclude_lines(f, p, len, err);
	case 2:
		return filter_add_include_lines(f, p, len, err);
	case 3:
		return filter_add_rule(f, p, len, err);
	default:
		return add_args(f, p, len, err);
	}
}

/* The same rules from their texts. */
static struct filter *again(const struct filter *f)
{
	struct filter *copy = filter_new();

	require(copy != NULL);
	for (size_t i = 0; i < filter_count(f); i++) {
		const char *text = filter_rule_text(f, i);

		require(filter_add_rule(copy, text, strlen(text), NULL) == 0);
		require(filter_count(copy) == i + 1);
		require(strcmp(filter_rule_text(copy, i), text) == 0);
	}
	return copy;
}

static void look_at(const struct filter *f, const struct filter *copy, const char *path, size_t len)
{
	for (int dir = 0; dir < 2; dir++) {
		bool is_dir = dir == 1, included = filter_includes(f, path, len, is_dir);

		require(filter_includes(copy, path, len, is_dir) == included);
		require(filter_match(copy, path, len, is_dir) == filter_match(f, path, len, is_dir));
		require(!included || filter_match(f, path, len, is_dir));
		for (int excluded = 0; excluded < 2; excluded++) {
			bool protects = filter_protects(f, path, len, is_dir, excluded == 1);

			require(filter_protects(copy, path, len, is_dir, excluded == 1) == protects);
			for (size_t top = 1; top <= len; top++)
				if (top == len || path[top] == '/')
					require(protects ||
						!filter_protects_from(f, path, len, top, is_dir, excluded == 1));
		}
	}
	require(filter_excludes_subtree(f, path, len) == !filter_includes(f, path, len, true));
}

static void look_at_paths(const struct filter *f, const char *p, size_t len)
{
	struct filter *copy = again(f);

	while (len > 0) {
		const char *end = memchr(p, '\0', len);
		size_t one = end != NULL ? (size_t)(end - p) : len;

		look_at(f, copy, p, one);
		one += end != NULL;
		p += one;
		len -= one;
	}
	filter_free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data + 1, *end;
	struct err err = ERR_INIT;
	struct filter *f;
	size_t len;

	/* Rules times paths times their length: more of it would only be slower. */
	if (size == 0 || size > 2048)
		return 0;
	f = filter_new();
	if (f == NULL)
		return 0;
	size--;
	end = memchr(p, '\0', size);
	len = end != NULL ? (size_t)(end - p) : size;
	if (read_rules(f, data[0], p, len, &err) != 0)
		require(err.class != ERR_NONE && err.text[0] != '\0');
	/* After a refusal the rules before it are there, and whole. */
	if (end != NULL)
		look_at_paths(f, end + 1, size - len - 1);
	filter_free(f);
	return 0;
}
