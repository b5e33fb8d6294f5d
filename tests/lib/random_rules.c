/*
 * random_rules.c - random trees of odd names, and random lists of rsync filter rules over them, for the property tests
 * of the filter.
 */
#include "tests/lib/random_rules.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PICK(r, table) ((table)[rng_below(r, sizeof(table) / sizeof((table)[0]))])

static uint64_t draw(struct rng *r)
{
	uint64_t z = r->state += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

size_t rng_below(struct rng *r, size_t n)
{
	return (size_t)(draw(r) % n);
}

bool rng_percent(struct rng *r, unsigned p)
{
	return rng_below(r, 100) < p;
}

/* ---- trees ---- */

static const char *const names[] = { "a",   "b",     "c",     "a",	  "b",	 "ab",	"ba",  "a.b", "b.c", "A",
				     "1",   "a b",   " a",    "a ",	  "[a]", "[",	"]",   "a*",  "*",   "a?b",
				     "\\a", "\\",    "a\\",   "-a",	  "- a", "+ b", "!",   "#a",  ";",   "a\nb",
				     "\n",  "\xff",  "a\xff", "\xc3\xa9", "**",	 "***", ".a",  "...", "_",   "a,b",
				     "^a",  "{a,b}", ":a",    "~a",	  "B",	 "2",	"a-b", "-",   "\ta", "a\r" };

struct node *tree_find(struct tree *t, const char *path, size_t len)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->v[i].len == len && memcmp(t->v[i].path, path, len) == 0)
			return &t->v[i];
	return NULL;
}

static void in_tree(const struct tree *t, const char *path, char *out)
{
	assert_true(snprintf(out, 2 * PATH_SIZE, "%s/%s", t->root, path) < 2 * PATH_SIZE);
}

static void make_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	close(fd);
}

static void tree_add(struct tree *t, const char *path, size_t depth, char kind)
{
	char full[2 * PATH_SIZE];
	struct node *n = &t->v[t->n++];

	n->len = strlen(path);
	assert_true(n->len < sizeof(n->path));
	memcpy(n->path, path, n->len + 1);
	n->depth = depth;
	n->is_dir = kind == 'd';
	in_tree(t, path, full);
	if (kind == 'd')
		assert_int_equal(mkdir(full, 0755), 0);
	else if (kind == 'l')
		assert_int_equal(symlink(".", full), 0);
	else
		make_file(full);
}

/* A new entry in a random directory of `t`, under a name that neither tree has there. */
void tree_grow(struct tree *t, struct tree *other, struct rng *r)
{
	char path[PATH_SIZE];
	const struct node *in = rng_percent(r, 12) || t->n == 0 ? NULL : &t->v[rng_below(r, t->n)];
	size_t depth = in == NULL ? 1 : in->depth + 1;
	char kind = rng_percent(r, 50) ? 'd' : rng_percent(r, 15) ? 'l' : 'f';

	if (in != NULL && (!in->is_dir || depth > DEPTH_MAX))
		return;
	snprintf(path, sizeof(path), "%.400s%s%s", in == NULL ? "" : in->path, in == NULL ? "" : "/", PICK(r, names));
	if (tree_find(t, path, strlen(path)) == NULL && tree_find(other, path, strlen(path)) == NULL)
		tree_add(t, path, depth, kind);
}

size_t path_parent_len(const char *path, size_t len)
{
	while (len > 0 && path[len - 1] != '/')
		len--;
	return len == 0 ? 0 : len - 1;
}

/* The target of a deletion: part of what the source has, and entries that it has not. */
void tree_fill_target(struct tree *target, struct tree *source, struct rng *r)
{
	for (size_t i = 0; i < source->n; i++) {
		const struct node *n = &source->v[i];
		size_t up = path_parent_len(n->path, n->len);

		if (rng_percent(r, 70) && (up == 0 || tree_find(target, n->path, up) != NULL))
			tree_add(target, n->path, n->depth, n->is_dir ? 'd' : 'f');
	}
	for (size_t have = target->n; target->n < have + EXTRA_ENTRIES && target->n < NODES_MAX;)
		tree_grow(target, source, r);
}

/* ---- rules ---- */

static const char *const tokens[] = {
	"a",	 "b",	  "c",	  "ab",	  ".",	  "*",	   "*",		"**",		"***",	   "?",
	"/",	 "/",	  "[ab]", "[!a]", "[^a]", "[a-c]", "[]a]",	"[[:alpha:]]",	"[!]a]",   "[[:upper:]b]",
	"[a",	 "\\a",	  "\\*",  "\\[",  "\\",	  "-",	   " ",		"\n",		"\xff",	   "[a-]",
	"[\\]]", "[c-a]", "[/a]", "[[]",  "[:a]", "[--a]", "[[:foo:]]", "[[:punct:]]*", "[\xff]",  "[!\x80-\xff]",
	"]",	 "!",	  "#",	  "_",	  "a*",	  "*b",	   "[a-b-c]",	"[[:digit:]A]", "\\?",	   "[\\a-c]",
	"*/",	 "/*",	  "**/",  "/**",  "a/",	  "/b",	   "[!a-c]*",	"[[:a]",	"[a\\-c]", "[[:space:]]"
};

static void append(char *out, const char *s)
{
	size_t len = strlen(out), more = strlen(s);

	if (len + more < TEXT_SIZE) {
		memcpy(out + len, s, more + 1);
	}
}

/* Some byte of a path, as a pattern may put it. */
static void append_byte(char *out, char c, struct rng *r)
{
	char text[8];

	switch (rng_percent(r, 25) ? rng_below(r, 5) : 9) {
	case 0:
		append(out, "?");
		return;
	case 1:
		append(out, "*");
		return;
	case 2:
		snprintf(text, sizeof(text), "[%c]", c);
		break;
	case 3:
		snprintf(text, sizeof(text), "\\%c", c);
		break;
	case 4:
		snprintf(text, sizeof(text), "[^%c]", c == 'a' ? 'b' : 'a');
		break;
	default:
		snprintf(text, sizeof(text), "%c", c);
	}
	append(out, text);
}

static void path_pattern(char *out, const struct tree *t, struct rng *r)
{
	const struct node *n = &t->v[rng_below(r, t->n)];
	const char *p = n->path;

	for (size_t skip = rng_below(r, n->depth); skip > 0; skip--)
		p = strchr(p, '/') + 1;
	for (bool exact = rng_percent(r, 30); *p != '\0'; p++) {
		char plain[2] = { *p, '\0' };

		if (exact || *p == '/')
			append(out, plain);
		else
			append_byte(out, *p, r);
	}
}

static void append_pattern(char *out, const struct tree *t, struct rng *r)
{
	static const char *const before[] = { "/", "/", "/", "**/", "**", "*/", "/**/", "***" };
	static const char *const after[] = { "/", "/", "/", "/***", "/**", "***", "*", "/*", "**" };
	size_t start = strlen(out);

	if (rng_percent(r, 35))
		append(out, PICK(r, before));
	if (rng_percent(r, 55))
		path_pattern(out, t, r);
	else
		for (size_t n = 1 + rng_below(r, 4); n > 0; n--)
			append(out, PICK(r, tokens));
	if (rng_percent(r, 35))
		append(out, PICK(r, after));
	if (out[start] == '\0')
		append(out, "a");
}

static void append_kind(char *out, struct rng *r)
{
	static const char *const both[] = { "-", "-", "-", "-", "+", "+", "+", "exclude", "include", "-,", "+," };
	static const char *const sided[] = { "H", "S", "P", "R", "hide", "show", "protect", "risk" };
	static const char *const modifiers[] = { "s", "r", "p", "p", "!", "sr", "!s", "r!", "ps", "!p" };
	static const char *const free_modifiers[] = { "!", "p", "p", "!p", "pp" };
	bool one_sided = rng_percent(r, 25);
	const char *kind = one_sided ? PICK(r, sided) : PICK(r, both);

	append(out, kind);
	if (rng_percent(r, 25)) {
		if (strlen(kind) > 2)
			append(out, ",");
		append(out, one_sided ? PICK(r, free_modifiers) : PICK(r, modifiers));
	}
	append(out, rng_percent(r, 85) ? " " : "_");
}

void options_add(struct options *o, const char *text)
{
	assert_true(o->n < OPTIONS_MAX);
	o->v[o->n] = strdup(text);
	assert_non_null(o->v[o->n]);
	o->v[++o->n] = NULL;
}

static void add_from_file(struct options *o, const struct tree *t, struct rng *r)
{
	static const char *const ends[] = { "\n", "\n", "\n", "\r\n", "\n\n", "\r", "\n# x\n", "\n;y\n" };
	static const char *const how[] = { "--exclude-from=", "--include-from=", "--filter=. ", "--filter=merge " };
	char text[TEXT_SIZE] = "", option[3 * PATH_SIZE];
	size_t kind = rng_below(r, 4);
	FILE *f = fopen(o->file, "we");

	assert_non_null(f);
	for (size_t n = 1 + rng_below(r, 3); n > 0; n--) {
		if (kind >= 2)
			append_kind(text, r);
		append_pattern(text, t, r);
		append(text, n > 1 || rng_percent(r, 80) ? PICK(r, ends) : "");
	}
	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
	assert_int_equal(fclose(f), 0);
	snprintf(option, sizeof(option), "%s%s", how[kind], o->file);
	options_add(o, option);
}

static void add_rule(struct options *o, const struct tree *t, struct rng *r)
{
	char text[TEXT_SIZE + 16] = "";
	unsigned how = (unsigned)rng_below(r, 100);

	if (how < 12) {
		append(text, how < 6 ? "--exclude=" : "--include=");
		append_pattern(text, t, r);
		options_add(o, text);
		return;
	}
	if (how < 20) {
		options_add(o, how < 16 ? "--exclude" : "--include");
		append_pattern(text, t, r);
		options_add(o, text);
		return;
	}
	if (how < 36) {
		/* Below an entry that only the target has, a later rule may then say the contrary. */
		append(text, how < 28 ? "--filter=+p " : "--filter=R,p ");
		append_pattern(text, t, r);
		options_add(o, text);
		return;
	}
	if (how < 46)
		options_add(o, how < 41 ? "-f" : "--filter");
	else
		append(text, how < 51 ? "-f" : "--filter=");
	append_kind(text, r);
	append_pattern(text, t, r);
	options_add(o, text);
}

/* A list of rules. Most lists end in a rule that excludes much, for else the inclusions would decide nothing. */
void options_make(struct options *o, const struct tree *t, struct rng *r)
{
	static const char *const ends[] = { "--filter=- *", "--exclude=*",  "--filter=- **", "--filter=- /*/*",
					    "-f-! */",	    "--filter=H *", "--filter=P *",  "--filter=-_/**/[ab]*" };
	bool file = rng_percent(r, 12);

	o->n = 0;
	for (size_t n = 1 + rng_below(r, 7); n > 0; n--)
		add_rule(o, t, r);
	if (file)
		add_from_file(o, t, r);
	if (rng_percent(r, 2))
		options_add(o, rng_percent(r, 50) ? "--filter=!" : "--exclude=!");
	if (rng_percent(r, 50)) {
		if (rng_percent(r, 60))
			options_add(o, "--include=*/");
		options_add(o, PICK(r, ends));
	}
}

void options_free(struct options *o)
{
	for (size_t i = 0; i < o->n; i++)
		free(o->v[i]);
	o->n = 0;
}

/* Something that is a rule, or looks like one. */
void options_make_odd(struct options *o, struct rng *r)
{
	static const char *const options[] = {
		"--filter=", "--filter=", "--filter=", "-f", "--exclude=", "--include="
	};
	static const char *const kinds[] = { "+",	"-",	"!",	   ".",		":",	 "H",	 "S",
					     "P",	"R",	"include", "exclude",	"clear", "hide", "show",
					     "protect", "risk", "merge",   "inc",	"x",	 "",	 "e",
					     "C",	"+",	"-",	   "dir-merge", "shows", "hid",	 "clear,",
					     " ",	"_",	",",	   "#" };
	static const char *const modifiers[] = { "!", "p", "s", "r", "/", "C", "x", "e", "n", "w", "+", "-", ",", "z" };
	static const char *const separators[] = { "", " ", " ", " ", "_", "_", ",", "\n", "\t", "  " };
	static const char *const patterns[] = { "", "a", "*/", "a", " a", "/", "//", "!", "a b", "*", "**/" };
	char text[TEXT_SIZE] = "";

	o->n = 0;
	append(text, PICK(r, options));
	append(text, PICK(r, kinds));
	if (rng_percent(r, 30))
		append(text, ",");
	for (size_t n = rng_percent(r, 60) ? 0 : 1 + rng_below(r, 3); n > 0; n--)
		append(text, PICK(r, modifiers));
	append(text, PICK(r, separators));
	append(text, PICK(r, patterns));
	options_add(o, text);
}
