/* LINK: core/filter.c core/filter_args.c core/err.c */
/* WRAP: malloc realloc calloc */
/* Each construct of rsync's filter rules by example; what is refused, and why; the filter options of a command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/filter.h"

/* ---- memory that runs out ---- */

void *__real_malloc(size_t n);
void *__real_realloc(void *p, size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_calloc(size_t n, size_t size);

/* How many allocations succeed before one fails; negative: all do. */
static int allocations_left = -1;

static bool out_of_memory(void)
{
	if (allocations_left < 0)
		return false;
	return allocations_left-- == 0;
}

void *__wrap_malloc(size_t n)
{
	return out_of_memory() ? NULL : __real_malloc(n);
}

void *__wrap_realloc(void *p, size_t n)
{
	return out_of_memory() ? NULL : __real_realloc(p, n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return out_of_memory() ? NULL : __real_calloc(n, size);
}

/* ---- helpers ---- */

/* Rules, one a line. */
static struct filter *filter_from(const char *rules)
{
	struct filter *f = filter_new();
	struct err err = ERR_INIT;

	assert_non_null(f);
	if (filter_add_filter_lines(f, rules, strlen(rules), &err) != 0)
		fail_msg("%s: %s", rules, err.text);
	return f;
}

/* A path that ends in '/' is a directory. */
static bool is_dir(const char *path, size_t *len)
{
	*len = strlen(path);
	if (*len == 0 || path[*len - 1] != '/')
		return *len == 0;
	--*len;
	return true;
}

struct example {
	const char *rules;
	const char *in;	 /* paths that are included, separated by '|' */
	const char *out; /* paths that are not */
};

static void check_paths(const struct filter *f, const char *rules, const char *paths, bool expected)
{
	char copy[512], *save = NULL;

	assert_true(strlen(paths) < sizeof(copy));
	memcpy(copy, paths, strlen(paths) + 1);
	for (char *p = strtok_r(copy, "|", &save); p != NULL; p = strtok_r(NULL, "|", &save)) {
		size_t len;
		bool dir = is_dir(p, &len);

		if (filter_includes(f, p, len, dir) != expected)
			fail_msg("rules \"%s\": %s is %s", rules, p, expected ? "excluded" : "included");
	}
}

static void check_examples(const struct example *e, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct filter *f = filter_from(e[i].rules);

		check_paths(f, e[i].rules, e[i].in, true);
		check_paths(f, e[i].rules, e[i].out, false);
		filter_free(f);
	}
}

#define CHECK(table) check_examples(table, sizeof(table) / sizeof((table)[0]))

/* ---- patterns ---- */

static void test_plain_patterns(void **state)
{
	static const struct example table[] = {
		{ "", "a|a/|a/b", "" },
		{ "- a", "b|ab|ba|b/ab", "a|a/|b/a|b/a/c" },
		{ "- /a", "b/a|ab", "a|a/b" },
		{ "- a/", "a|b/a", "a/|a/b|b/a/|b/a/c" },
		{ "- a/b", "a|b|a/c|xa/b", "a/b|c/a/b|a/b/c" },
		{ "- /a/b", "c/a/b|a/|b", "a/b|a/b/" },
		{ "- a/b/", "a/b|a/|b/", "a/b/|c/a/b/" },
		{ "- a b", "a|b", "a b" },
		{ "-  a", "a", " a" },
		{ "-_a", "_a", "a" },
		{ "- -a", "a", "-a" },
		{ "- \xff", "\xfe", "\xff|a/\xff" },
		/* Without a wildcard a backslash is a byte like any other. */
		{ "- \\a", "a", "\\a" },
		{ "- /", "a|a/", "" },
	};

	(void)state;
	CHECK(table);
}

static void test_wildcards(void **state)
{
	static const struct example table[] = {
		{ "- *", "", "a|a/b|.a" },
		{ "- *.o", "o|a.o.c", ".o|a.o|b/a.o" },
		{ "- a*b", "a|ac|a/b", "ab|axb|c/aab" },
		{ "- a?b", "ab|a/b|axxb",
		  "axb|a\nb|a\xff"
		  "b" },
		{ "- /*/b", "b|a/c/b", "a/b" },
		{ "- a/*/b", "a/b|a/c/d/b", "a/c/b|x/a/c/b" },
		{ "- **", "", "a|a/b" },
		{ "- a**b", "a|b", "ab|a/b|a/x/y/b|x/ab" },
		{ "- /a/**", "a/|a", "a/b|a/b/c" },
		{ "- **/a", "b|ba", "a|b/a|b/c/a" },
		{ "- **a", "b|ab", "a|ba|b/ca" },
		{ "- /**/a", "a", "b/a|b/c/a" },
		{ "- a/**/b", "a/b", "a/c/b|a/c/d/b" },
		{ "- a/***", "a|b/", "a/|a/b|x/a/|x/a/b" },
		{ "- /a/***", "a|x/a/|x/a/b", "a/|a/b" },
		{ "- ?", "ab|ab/cd", "a|ab/c" },
	};

	(void)state;
	CHECK(table);
}

static void test_classes_and_escapes(void **state)
{
	static const struct example table[] = {
		{ "- [ab]", "c|ab", "a|b" },
		{ "- [!ab]", "a|b|cc", "c|d" },
		{ "- [^ab]", "a", "c|^" },
		{ "- [a-c]x", "dx|-x|x", "ax|bx|cx" },
		{ "- [c-a]", "a|b", "c" },
		{ "- []a]", "b", "]|a" },
		{ "- [!]a]", "]|a", "b" },
		{ "- [a-]", "b", "a|-" },
		{ "- [\\]]", "\\", "]" },
		{ "- [a\\-c]", "b", "a|-|c" },
		{ "- [[]", "a", "[" },
		{ "- [a-\\c]", "d|-|\\", "a|b|c" },
		{ "- [[:a]", "b", "[|:|a" },
		{ "- [[:digit:]]", "a|:", "7" },
		{ "- [[:upper:]z]", "a", "A|z" },
		{ "- [![:alpha:]]", "a|A", "1|_|\xff" },
		{ "- [\x80-\xff]", "a", "\x80|\xc3|\xff" },
		/* Malformed: matches nothing. */
		{ "- [a", "a|[a", "" },
		{ "- [[:a", "a|[|:", "" },
		{ "- [[:nosuch:]]", "n|:|a", "" },
		{ "- *\\", "a\\", "" },
		{ "- \\*", "a|\\*", "*" },
		{ "- \\[a]*", "a", "[a]|[a]b" },
		{ "- a\\?*", "ab", "a?|a?b" },
		{ "- \\\\*", "a", "\\|\\a" },
	};

	(void)state;
	CHECK(table);
}

static void test_class_never_takes_a_slash(void **state)
{
	static const struct example table[] = {
		{ "- /a[!b]c", "a/c", "axc" },
		{ "- /a[/]c", "a/c|axc", "" },
		{ "- /a[.-0]c", "a/c", "a.c|a0c" },
	};

	(void)state;
	CHECK(table);
}

/* ---- rules ---- */

static void test_order_and_parents(void **state)
{
	static const struct example table[] = {
		{ "+ a\n- *", "a|a/", "b|a/b|b/a" },
		{ "- a\n+ a", "b", "a" },
		{ "+ *maxscale.cnf\n- **", "maxscale.cnf|my-maxscale.cnf", "a|conf.d/|conf.d/maxscale.cnf" },
		{ "+ */\n+ *.cnf\n- *", "a.cnf|d/|d/a.cnf|d/e/", "a|d/a" },
		{ "- /d/\n+ /d/a", "d", "d/|d/a" },
		{ "+ /d/\n+ /d/a\n- *", "d/|d/a", "d/b|e" },
		{ "exclude a\ninclude b\n- b\nexclude,_c", "b", "a|c" },
	};

	(void)state;
	CHECK(table);
}

static void test_modifiers(void **state)
{
	static const struct example table[] = {
		{ "-! a", "a", "b|a/b" },
		{ "-,! a/", "a/", "a|b/" },
		{ "+! a\n- *", "b", "a" },
		{ "-p a", "b", "a" },
		{ "-s a\n-r b\n-sr c", "b", "a|c" },
		{ "H a\nhide b\nH,! *.[cd]\n", "x.c|x.d", "a|b|x.e" },
		{ "S a\n- *", "a", "b" },
		{ "P a\nprotect b\nR c\nrisk d", "a|b|c|d", "" },
		{ "- a\n!\n- b", "a", "b" },
		{ "- a\nclear\n- b", "a", "b" },
	};

	(void)state;
	CHECK(table);
}

static void test_match_and_subtree(void **state)
{
	struct filter *f = filter_from("- /d/\n+ /d/a");

	(void)state;
	assert_true(filter_match(f, "d/a", 3, false));
	assert_false(filter_includes(f, "d/a", 3, false));
	assert_false(filter_match(f, "d", 1, true));
	assert_true(filter_match(f, "d", 1, false));
	assert_true(filter_excludes_subtree(f, "d", 1));
	assert_true(filter_excludes_subtree(f, "d/x/y", 5));
	assert_false(filter_excludes_subtree(f, "e", 1));
	assert_true(filter_includes(f, "", 0, true));
	filter_free(f);
	f = filter_from("- **");
	assert_true(filter_includes(f, "", 0, true));
	assert_false(filter_excludes_subtree(f, "", 0));
	assert_false(filter_protects(f, "", 0, true, false));
	filter_free(f);
}

/* ---- protection on the target ---- */

struct protection {
	const char *rules, *path;
	size_t top;
	bool protects, from, delete_excluded;
};

static void test_protection(void **state)
{
	static const struct protection table[] = {
		{ "- a", "a", 1, true, true, false },
		{ "- a", "a", 1, false, false, true },
		{ "+ a\n- *", "a", 1, false, false, false },
		{ "P a", "a", 1, true, true, true },
		{ "protect,! a", "b", 1, true, true, true },
		{ "H a", "a", 1, false, false, false },
		{ "-s a", "a", 1, false, false, false },
		{ "-r a", "a", 1, true, true, true },
		{ "-sr a", "a", 1, true, true, true },
		{ "R a\n- a", "a", 1, false, false, false },
		/* Including rules lose their effect there as well. */
		{ "+ a\nP *", "a", 1, true, true, true },
		/* Below a directory that is only there and is protected. */
		{ "P d/", "d/a", 1, true, true, false },
		/* The directory is transferred: its rule is no matter. */
		{ "P d/", "d/a", 3, true, false, false },
		/* Perishable rules count for the topmost entry, not for what is below. */
		{ "-p d/", "d/a", 1, true, true, false },
		{ "-p a", "d/a", 1, true, false, false },
		{ "-p a", "d/a", 3, true, true, false },
		{ "-p a\n- a", "d/a", 1, true, true, false },
		{ "+p a\n- a", "d/a", 1, true, true, false },
		{ "+p a\n- a", "a", 1, true, false, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct protection *p = &table[i];
		struct filter *f = filter_from(p->rules);
		size_t len = strlen(p->path);

		if (filter_protects(f, p->path, len, false, p->delete_excluded) != p->protects)
			fail_msg("%s: protects %s", p->rules, p->path);
		if (filter_protects_from(f, p->path, len, p->top, false, p->delete_excluded) != p->from)
			fail_msg("%s: protects %s from %zu", p->rules, p->path, p->top);
		filter_free(f);
	}
}

/* ---- what is refused ---- */

struct refusal {
	const char *rule, *why;
};

static void test_refusals(void **state)
{
	static const struct refusal table[] = {
		{ ": .rsync-filter", "per-directory merge files are not supported" },
		{ "dir-merge .rsync-filter", "per-directory merge files are not supported" },
		{ ". file", "filterFrom" },
		{ "merge,e file", "filterFrom" },
		{ "-/ a", "modifier / (match absolute paths) is not supported" },
		{ "-C", "CVS" },
		{ "-x user.a", "extended attributes" },
		{ "-e a", "go with merge rules only" },
		{ "+n a", "go with merge rules only" },
		{ "-w a", "go with merge rules only" },
		{ "Hs a", "do not go with hide" },
		{ "risk,r a", "do not go with hide" },
		{ "-", "ends where its pattern should begin" },
		{ "- ", "ends where its pattern should begin" },
		{ "exclude", "ends where its pattern should begin" },
		{ "-z a", "unknown modifier" },
		{ "-a", "unknown modifier" },
		{ "*.o", "not a kind of rule" },
		{ " - a", "not a kind of rule" },
		{ "excl a", "not a kind of rule" },
		{ "excludes a", "not a kind of rule" },
		{ "! a", "nothing may follow" },
		{ "clear a", "nothing may follow" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct filter *f = filter_from("- kept");
		struct err err = ERR_INIT;

		if (filter_add_rule(f, table[i].rule, strlen(table[i].rule), &err) != -1)
			fail_msg("%s is taken", table[i].rule);
		assert_int_equal(err.class, ERR_CONFIG);
		if (strstr(err.text, table[i].why) == NULL)
			fail_msg("%s: %s", table[i].rule, err.text);
		assert_int_equal(filter_count(f), 1);
		assert_false(filter_includes(f, "kept", 4, false));
		filter_free(f);
	}
}

static void test_nul_is_refused(void **state)
{
	struct filter *f = filter_new();
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(filter_add_rule(f, "- a\0b", 5, &err), -1);
	assert_non_null(strstr(err.text, "NUL"));
	assert_int_equal(filter_add_exclude(f, "a\0b", 3, &err), -1);
	assert_int_equal(filter_add_rule(f, "-\0 b", 4, &err), -1);
	assert_int_equal(filter_add_rule(f, "\0", 1, &err), -1);
	assert_int_equal(filter_count(f), 0);
	filter_free(f);
}

static void test_long_patterns(void **state)
{
	static char rule[2 + 4096];
	struct filter *f = filter_new();
	struct err err = ERR_INIT;

	(void)state;
	memset(rule, '?', sizeof(rule));
	memcpy(rule, "- ", 2);
	assert_int_equal(filter_add_rule(f, rule, sizeof(rule), &err), -1);
	assert_non_null(strstr(err.text, "too long"));
	assert_int_equal(filter_add_rule(f, rule, sizeof(rule) - 1, &err), 0);
	assert_false(filter_includes(f, rule + 2, 4095, false));
	assert_true(filter_includes(f, rule + 2, 4094, false));
	filter_free(f);
}

/* Matched by trying, this would take longer than the universe lasts. */
static void test_hostile_pattern(void **state)
{
	char rule[2 + 2 * 60 + 2] = "- ", path[400];
	struct filter *f = filter_new();
	struct err err = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < 60; i++)
		memcpy(rule + 2 + 2 * i, "a*", 2);
	memcpy(rule + 2 + 120, "?b", 2);
	memset(path, 'a', sizeof(path));
	assert_int_equal(filter_add_rule(f, rule, sizeof(rule), &err), 0);
	assert_true(filter_includes(f, path, sizeof(path), false));
	path[sizeof(path) - 1] = 'b';
	assert_false(filter_includes(f, path, sizeof(path), false));
	filter_free(f);
}

static void test_too_many_rules(void **state)
{
	struct filter *f = filter_new();
	struct err err = ERR_INIT;
	size_t n = 0;

	(void)state;
	while (n <= 100000 && filter_add_rule(f, "- a", 3, &err) == 0)
		n++;
	assert_int_equal(n, 100000);
	assert_int_equal(err.class, ERR_LIMIT);
	assert_int_equal(filter_add_rule(f, "!", 1, &err), 0);
	assert_int_equal(filter_add_rule(f, "- a", 3, &err), 0);
	filter_free(f);
}

static void test_too_much_memory(void **state)
{
	static char rule[4000];
	struct filter *f = filter_new();
	struct err err = ERR_INIT;
	size_t n = 0;

	(void)state;
	memset(rule, '*', sizeof(rule));
	memcpy(rule, "- ", 2);
	while (n < 100000 && filter_add_rule(f, rule, sizeof(rule), &err) == 0)
		n++;
	assert_int_equal(err.class, ERR_LIMIT);
	assert_in_range(n, 1000, 16 * 1024);
	assert_int_equal(filter_count(f), n);
	filter_free(f);
}

/* ---- texts ---- */

static void test_rule_texts(void **state)
{
	static const struct {
		const char *rule, *text;
	} table[] = {
		{ "- a", "- a" },  { "exclude,!_a/", "-! a/" }, { "include */", "+ */" }, { "hide  x", "-s  x" },
		{ "S x", "+s x" }, { "P,p x", "-rp x" },	{ "risk ! x", "+r ! x" }, { "-psr! /x", "-!srp /x" },
	};
	struct filter *f = filter_new();

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(filter_add_rule(f, table[i].rule, strlen(table[i].rule), NULL), 0);
		assert_int_equal(filter_count(f), i + 1);
		assert_string_equal(filter_rule_text(f, i), table[i].text);
	}
	assert_null(filter_rule_text(f, filter_count(f)));
	filter_free(f);
}

/* ---- --exclude and --include, files ---- */

static void test_exclude_and_include(void **state)
{
	struct filter *f = filter_new();

	(void)state;
	assert_int_equal(filter_add_exclude(f, "x", 1, NULL), 0);
	assert_int_equal(filter_add_exclude(f, "!", 1, NULL), 0);
	assert_int_equal(filter_count(f), 0);
	assert_int_equal(filter_add_exclude(f, "+ a", 3, NULL), 0);
	assert_int_equal(filter_add_include(f, "b", 1, NULL), 0);
	assert_int_equal(filter_add_include(f, "- c", 3, NULL), 0);
	assert_int_equal(filter_add_exclude(f, "-d", 2, NULL), 0);
	assert_int_equal(filter_add_exclude(f, "!e", 2, NULL), 0);
	assert_int_equal(filter_add_exclude(f, "", 0, NULL), 0);
	assert_int_equal(filter_add_exclude(f, "+ ", 2, NULL), -1);
	assert_int_equal(filter_count(f), 5);
	assert_string_equal(filter_rule_text(f, 0), "+ a");
	assert_string_equal(filter_rule_text(f, 1), "+ b");
	assert_string_equal(filter_rule_text(f, 2), "- c");
	assert_string_equal(filter_rule_text(f, 3), "- -d");
	assert_string_equal(filter_rule_text(f, 4), "- !e");
	filter_free(f);
}

static void test_lines(void **state)
{
	static const char text[] = "# comment\n; another\n\na\r\n b \n#\n+ c\r\rd";
	struct filter *f = filter_new();
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(filter_add_exclude_lines(f, text, sizeof(text) - 1, &err), 0);
	assert_int_equal(filter_count(f), 4);
	assert_string_equal(filter_rule_text(f, 0), "- a");
	assert_string_equal(filter_rule_text(f, 1), "-  b ");
	assert_string_equal(filter_rule_text(f, 2), "+ c");
	assert_string_equal(filter_rule_text(f, 3), "- d");
	assert_int_equal(filter_add_include_lines(f, "e\n!\nf\n", 6, &err), 0);
	assert_int_equal(filter_count(f), 1);
	assert_string_equal(filter_rule_text(f, 0), "+ f");
	assert_int_equal(filter_add_filter_lines(f, "", 0, &err), 0);
	assert_int_equal(filter_count(f), 1);
	filter_free(f);
}

static void test_lines_name_the_line(void **state)
{
	struct filter *f = filter_new();
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(filter_add_filter_lines(f, "- a\r\n# b\n: c\n- d\n", 16, &err), -1);
	assert_int_equal(err.class, ERR_CONFIG);
	assert_non_null(strstr(err.text, "line 3: "));
	assert_non_null(strstr(err.text, "per-directory"));
	filter_free(f);
}

/* ---- an argument list ---- */

struct list {
	char *argv[32];
	size_t n;
	struct filter *f;
	struct err err;
	int rc;
	char joined[512]; /* what is left */
};

static size_t freed;

static void free_arg(char *arg)
{
	freed++;
	free(arg);
}

/* The only file there is. */
static int read_file(void *ctx, const char *path, char **text, size_t *len, struct err *err)
{
	if (strcmp(path, "/rules") != 0)
		return err_set(err, ERR_GONE, "no file %s", path);
	*text = strdup(ctx);
	*len = strlen(ctx);
	return 0;
}

/* Arguments separated by '|'. */
static void take(struct list *l, const char *args, const char *file)
{
	char copy[512], *save = NULL;
	size_t given = 0, used = 0;

	memset(l, 0, sizeof(*l));
	assert_true(strlen(args) < sizeof(copy));
	memcpy(copy, args, strlen(args) + 1);
	for (char *p = strtok_r(copy, "|", &save); p != NULL; p = strtok_r(NULL, "|", &save))
		l->argv[given++] = strdup(p);
	l->n = given;
	l->f = filter_new();
	freed = 0;
	l->rc = filter_add_rsync_args(l->f, l->argv, &l->n, read_file, (void *)(uintptr_t)file, free_arg, &l->err);
	assert_int_equal(l->n + freed, given);
	assert_null(l->argv[l->n]);
	for (size_t i = 0; i < l->n; i++)
		used += (size_t)snprintf(l->joined + used, sizeof(l->joined) - used, "%s%s", i > 0 ? "|" : "",
					 l->argv[i]);
}

static void list_done(struct list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->argv[i]);
	filter_free(l->f);
}

struct extraction {
	const char *args, *left, *rules; /* rules: their texts, separated by '|' */
};

static void check_extraction(const struct extraction *e)
{
	char rules[512] = "";
	struct list l;
	size_t used = 0;

	take(&l, e->args, "x\n# y\n+ z\n");
	if (l.rc != 0)
		fail_msg("%s: %s", e->args, l.err.text);
	for (size_t i = 0; i < filter_count(l.f); i++)
		used += (size_t)snprintf(rules + used, sizeof(rules) - used, "%s%s", i > 0 ? "|" : "",
					 filter_rule_text(l.f, i));
	assert_string_equal(l.joined, e->left);
	assert_string_equal(rules, e->rules);
	list_done(&l);
}

static void test_extraction(void **state)
{
	static const struct extraction table[] = {
		{ "", "", "" },
		{ "-a|--delete|-v", "-a|--delete|-v", "" },
		{ "--filter=+ *maxscale.cnf|--filter=- **", "", "+ *maxscale.cnf|- **" },
		{ "--filter|- a|-f|- b|-f- c|-f=- d|-f=|-a", "-a", "- a|- b|- c|- d" },
		{ "-avf|- a|-x", "-av|-x", "- a" },
		{ "-avf- a|-x", "-av|-x", "- a" },
		{ "--exclude=a|--exclude|b|--include=c|--include|d", "", "- a|- b|+ c|+ d" },
		{ "--exclude=--include=b", "", "- --include=b" },
		{ "--exclude-from=/rules|--include-from|/rules", "", "- x|+ z|+ x|+ z" },
		{ "-z|--exclude=a|--delete|--include=b|-v", "-z|--delete|-v", "- a|+ b" },
		/* Values of other options are not options. */
		{ "--log-file|--exclude=a|--rsh|-f|--exclude=b", "--log-file|--exclude=a|--rsh|-f", "- b" },
		{ "-e|-f|-e-f|--exclude=b|-T|-f", "-e|-f|-e-f|-T|-f", "- b" },
		{ "-ve|ssh -f|-M--exclude=a|-B|700", "-ve|ssh -f|-M--exclude=a|-B|700", "" },
		{ "--log-file=x|--exclude=a", "--log-file=x", "- a" },
		{ "--exclude=a|--|--exclude=b|-f", "--|--exclude=b|-f", "- a" },
		{ "x|--exclude=a|-|y", "x|-|y", "- a" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		check_extraction(&table[i]);
}

static void test_extraction_of_merged_files(void **state)
{
	static const char *const args[] = { "--filter=. /rules", "--filter=merge /rules", "-f._/rules",
					    "-f|merge_/rules" };

	(void)state;
	for (size_t i = 0; i < sizeof(args) / sizeof(args[0]); i++) {
		struct list l;

		take(&l, args[i], "- x\n; y\nP z\n");
		if (l.rc != 0)
			fail_msg("%s: %s", args[i], l.err.text);
		assert_int_equal(filter_count(l.f), 2);
		assert_string_equal(filter_rule_text(l.f, 0), "- x");
		assert_string_equal(filter_rule_text(l.f, 1), "-r z");
		list_done(&l);
	}
}

static void test_extraction_refusals(void **state)
{
	static const struct refusal table[] = {
		{ "-C", "-C is not supported" },
		{ "-avC", "-C is not supported" },
		{ "--cvs-exclude", "--cvs-exclude is not supported" },
		{ "-F", "-F is not supported" },
		{ "--filter=: .rules", "per-directory merge files are not supported" },
		{ "--filter=dir-merge,e .rules", "per-directory merge files are not supported" },
		{ "--filter", "lacks its value" },
		{ "-f", "lacks its value" },
		{ "--exclude", "lacks its value" },
		{ "--log-file", "lacks its value" },
		{ "--exclude-from=/no", "no file /no" },
		{ "--filter=. /no", "no file /no" },
		{ "--exclude-from=-", "standard input" },
		{ "--from0|--exclude-from=/rules", "--from0" },
		{ "-0|--exclude-from=/rules", "--from0" },
		{ "--filter=merge /rules", "/rules: line 2: " },
		{ "-v|--exclude=a|--filter=-z b|--exclude=c|-q", "unknown modifier" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct list l;

		take(&l, table[i].rule, "- a\nb\n");
		if (l.rc != -1 || strstr(l.err.text, table[i].why) == NULL)
			fail_msg("%s: %s", table[i].rule, l.err.text);
		list_done(&l);
	}
}

/* ---- out of memory ---- */

static int build(struct filter **f, struct err *err)
{
	static const char lines[] = "- a[bc]d\n+ [[:alpha:]]*\nP x\n";

	*f = filter_new();
	if (*f == NULL)
		return err_set(err, ERR_NOMEM, "no filter");
	for (int i = 0; i < 8; i++)
		if (filter_add_filter_lines(*f, lines, sizeof(lines) - 1, err) != 0)
			return -1;
	return 0;
}

static void test_out_of_memory(void **state)
{
	int fails = 0;

	(void)state;
	for (;; fails++) {
		struct filter *f = NULL;
		struct err err = ERR_INIT;
		int rc;

		allocations_left = fails;
		rc = build(&f, &err);
		allocations_left = -1;
		if (rc == 0) {
			assert_int_equal(filter_count(f), 24);
			filter_free(f);
			break;
		}
		assert_int_equal(err.class, ERR_NOMEM);
		/* What was added before is whole. */
		if (f != NULL && filter_count(f) > 0)
			assert_false(filter_includes(f, "abd", 3, false));
		filter_free(f);
	}
	assert_true(fails > 24);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_patterns),
		cmocka_unit_test(test_wildcards),
		cmocka_unit_test(test_classes_and_escapes),
		cmocka_unit_test(test_class_never_takes_a_slash),
		cmocka_unit_test(test_order_and_parents),
		cmocka_unit_test(test_modifiers),
		cmocka_unit_test(test_match_and_subtree),
		cmocka_unit_test(test_protection),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_nul_is_refused),
		cmocka_unit_test(test_long_patterns),
		cmocka_unit_test(test_hostile_pattern),
		cmocka_unit_test(test_too_many_rules),
		cmocka_unit_test(test_too_much_memory),
		cmocka_unit_test(test_rule_texts),
		cmocka_unit_test(test_exclude_and_include),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_lines_name_the_line),
		cmocka_unit_test(test_extraction),
		cmocka_unit_test(test_extraction_of_merged_files),
		cmocka_unit_test(test_extraction_refusals),
		cmocka_unit_test(test_out_of_memory),
	};

	return cmocka_run_group_tests_name("filter", tests, NULL, NULL);
}
