/*
 * filter.c - rsync's include and exclude rules: reading them, and deciding about paths.
 *
 * A rule keeps its text in the form that --filter takes ("-!s pattern"). A pattern without a wildcard is compared as it
 * stands; one with wildcards is compiled to tokens and run as a set of states over the path, so that the worst that a
 * hostile pattern or path can cost is the product of their lengths. rsync's own behaviour, its oddities included, is
 * what is followed: tests/property/test_filter_rsync.c compares the two.
 */
#include "core/filter.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* rsync discards patterns of 4096 bytes or more with a message; here they are an error. */
#define PATTERN_MAX 4095
#define RULES_MAX 100000
/* Ceiling of the memory that all rules of one filter take, compiled patterns included. */
#define MEMORY_MAX ((size_t)64 * 1024 * 1024)
/* How much of a rule is shown in an error. */
#define SHOWN_MAX 160

#define F_INCLUDE 0x001U
#define F_NEGATE 0x002U
#define F_SENDER 0x004U
#define F_RECEIVER 0x008U
#define F_SIDES (F_SENDER | F_RECEIVER)
#define F_PERISHABLE 0x010U
#define F_DIRECTORY 0x020U   /* the pattern ended in '/' */
#define F_ANCHORED 0x040U    /* it began with '/' */
#define F_WILD 0x080U	     /* it has one of * ? [ */
#define F_WILD2 0x100U	     /* it has a double star, in whatever role */
#define F_WILD2_FIRST 0x200U /* it begins with one */
#define F_WILD3_LAST 0x400U  /* it ends in three stars: "dir" followed by "/" and three stars matches dir, too */

/* Tokens of a compiled pattern; below 256: that byte. */
enum { TOK_ANY = 256, TOK_STAR, TOK_STARSTAR, TOK_SET };

struct byteset {
	uint64_t bits[4];
};

struct glob {
	uint16_t *tok; /* TOK_SET + i: one of sets[i] */
	size_t n;
	size_t min;  /* how many bytes a match has at least */
	size_t tail; /* how many tokens follow the last star */
	struct byteset *sets;
	size_t nsets;
	bool never; /* malformed: matches nothing, as in rsync */
};

struct rule {
	char *text;	 /* "-!s pattern/" */
	const char *pat; /* in text, behind the leading '/' of an anchored pattern */
	size_t len;	 /* of pat, without the trailing '/' */
	size_t slashes;	 /* in the pattern, a leading one included, a trailing one not */
	unsigned flags;
	struct glob glob;
};

struct filter {
	struct rule *rules;
	size_t n, cap;
	size_t memory;
};

/* ---- compiling patterns ---- */

static void set_add(struct byteset *s, unsigned c)
{
	s->bits[c / 64] |= (uint64_t)1 << (c % 64);
}

static bool set_has(const struct byteset *s, unsigned c)
{
	return (s->bits[c / 64] >> (c % 64) & 1) != 0;
}

/* Named classes hold ASCII only, whatever the locale: the verdict must not depend on who starts the daemon. */
static bool set_add_named(struct byteset *s, const unsigned char *name, size_t len)
{
	static const struct {
		const char *name;
		int (*has)(int c);
	} table[] = {
		{ "alnum", isalnum }, { "alpha", isalpha }, { "blank", isblank }, { "cntrl", iscntrl },
		{ "digit", isdigit }, { "graph", isgraph }, { "lower", islower }, { "print", isprint },
		{ "punct", ispunct }, { "space", isspace }, { "upper", isupper }, { "xdigit", isxdigit },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (strlen(table[i].name) != len || memcmp(table[i].name, name, len) != 0)
			continue;
		for (unsigned c = 0; c < 128; c++)
			if (table[i].has((int)c))
				set_add(s, c);
		return true;
	}
	return false;
}

/* Reads a pattern as if a NUL followed it: patterns hold none. */
struct cursor {
	const unsigned char *p;
	size_t n, i;
};

static unsigned char cur_at(const struct cursor *c, size_t ahead)
{
	return c->i + ahead < c->n ? c->p[c->i + ahead] : 0;
}

/* "[:name:]" at the cursor, which is left on its ']'. 1: added; 0: it is no such thing, a plain '['; -1: malformed. */
static int class_named(struct cursor *c, struct byteset *set)
{
	size_t end = 2;

	while (cur_at(c, end) != '\0' && cur_at(c, end) != ']')
		end++;
	if (cur_at(c, end) == '\0')
		return -1;
	if (end == 2 || cur_at(c, end - 1) != ':')
		return 0;
	if (!set_add_named(set, c->p + c->i + 2, end - 3))
		return -1;
	c->i += end;
	return 1;
}

/* One member of a class at the cursor, which is left on its last byte. *prev is the byte that a following '-' makes
 * the start of a range, 0 for none. */
static bool class_item(struct cursor *c, struct byteset *set, unsigned char *prev)
{
	unsigned char ch = cur_at(c, 0), from = *prev;

	if (ch == '[' && cur_at(c, 1) == ':') {
		int named = class_named(c, set);

		if (named != 0) {
			*prev = 0;
			return named > 0;
		}
	}
	if (ch == '-' && from != 0 && cur_at(c, 1) != '\0' && cur_at(c, 1) != ']') {
		c->i++;
		if (cur_at(c, 0) == '\\')
			c->i++;
		ch = cur_at(c, 0);
		for (unsigned b = from; b <= ch; b++)
			set_add(set, b);
		*prev = 0;
		return ch != '\0';
	}
	if (ch == '\\') {
		c->i++;
		ch = cur_at(c, 0);
	}
	*prev = ch;
	set_add(set, ch);
	return ch != '\0';
}

/* A class, the cursor behind its '['; left behind its ']'. False: malformed. */
static bool class_parse(struct cursor *c, struct byteset *set)
{
	bool negated = cur_at(c, 0) == '!' || cur_at(c, 0) == '^';
	unsigned char prev = 0;

	memset(set, 0, sizeof(*set));
	if (negated)
		c->i++;
	do {
		if (!class_item(c, set, &prev))
			return false;
		c->i++;
	} while (cur_at(c, 0) != ']');
	c->i++;
	for (size_t w = 0; negated && w < 4; w++)
		set->bits[w] = ~set->bits[w];
	set->bits['/' / 64] &= ~((uint64_t)1 << ('/' % 64));
	return true;
}

static bool glob_add_set(struct glob *g, const struct byteset *set)
{
	struct byteset *more = realloc(g->sets, (g->nsets + 1) * sizeof(*more));

	if (more == NULL)
		return false;
	g->sets = more;
	g->sets[g->nsets] = *set;
	g->tok[g->n++] = (uint16_t)(TOK_SET + g->nsets++);
	return true;
}

/* The token at the cursor. False only when out of memory. */
static bool glob_token(struct glob *g, struct cursor *c)
{
	unsigned char ch = c->p[c->i++];
	struct byteset set;

	if (ch == '*') {
		bool two = cur_at(c, 0) == '*';

		while (cur_at(c, 0) == '*')
			c->i++;
		g->tok[g->n++] = two ? TOK_STARSTAR : TOK_STAR;
		g->tail = 0;
		return true;
	}
	g->min++;
	g->tail++;
	if (ch == '[') {
		g->never = !class_parse(c, &set);
		return g->never || glob_add_set(g, &set);
	}
	if (ch == '\\') {
		ch = cur_at(c, 0);
		g->never = ch == '\0';
		c->i++;
	} else if (ch == '?') {
		g->tok[g->n++] = TOK_ANY;
		return true;
	}
	g->tok[g->n++] = ch;
	return true;
}

static bool glob_compile(struct glob *g, const char *pat, size_t len)
{
	struct cursor c = { .p = (const unsigned char *)pat, .n = len, .i = 0 };

	g->tok = malloc((len + 1) * sizeof(*g->tok));
	if (g->tok == NULL)
		return false;
	while (c.i < c.n && !g->never)
		if (!glob_token(g, &c))
			return false;
	return true;
}

/* ---- matching ---- */

/* The bytes that are matched, and what rsync's rules join to them. */
struct subject {
	const char *p;
	size_t len;
	bool lead, trail; /* a '/' before, behind them */
};

static size_t subject_len(const struct subject *t)
{
	return t->len + (t->lead ? 1 : 0) + (t->trail ? 1 : 0);
}

static unsigned char subject_at(const struct subject *t, size_t i)
{
	if (t->lead) {
		if (i == 0)
			return '/';
		i--;
	}
	return i < t->len ? (unsigned char)t->p[i] : '/';
}

#define GLOB_WORDS (PATTERN_MAX / 64 + 1)

/* State s: the tokens before s are matched. A star may match nothing, so the state behind it is reached, too. */
static void state_add(const struct glob *g, uint64_t *states, size_t s)
{
	states[s / 64] |= (uint64_t)1 << (s % 64);
	while (s < g->n && (g->tok[s] == TOK_STAR || g->tok[s] == TOK_STARSTAR)) {
		s++;
		states[s / 64] |= (uint64_t)1 << (s % 64);
	}
}

static bool tok_takes(const struct glob *g, unsigned tok, unsigned char c)
{
	if (tok < TOK_ANY)
		return tok == c;
	if (tok == TOK_STARSTAR)
		return true;
	if (tok == TOK_ANY || tok == TOK_STAR)
		return c != '/';
	return set_has(&g->sets[tok - TOK_SET], c);
}

/* From the states before byte c to those behind it. Returns whether there are any. */
static bool states_step(const struct glob *g, const uint64_t *from, uint64_t *to, unsigned char c)
{
	size_t words = g->n / 64 + 1;
	bool any = false;

	memset(to, 0, words * sizeof(*to));
	for (size_t w = 0; w < words; w++) {
		for (uint64_t bits = from[w]; bits != 0; bits &= bits - 1) {
			size_t s = w * 64 + (size_t)__builtin_ctzll(bits);

			if (s == g->n || !tok_takes(g, g->tok[s], c))
				continue;
			state_add(g, to, g->tok[s] == TOK_STAR || g->tok[s] == TOK_STARSTAR ? s : s + 1);
			any = true;
		}
	}
	return any;
}

/* What follows the last star must stand at the end: settles most patterns ("*.o") at once. */
static bool tail_matches(const struct glob *g, const struct subject *t)
{
	size_t len = subject_len(t);

	if (len < g->min)
		return false;
	for (size_t i = 1; i <= g->tail; i++)
		if (!tok_takes(g, g->tok[g->n - i], subject_at(t, len - i)))
			return false;
	return true;
}

/* `anywhere`: the match may begin behind any slash, else only at the start. It always ends at the end. */
static bool glob_matches(const struct glob *g, const struct subject *t, bool anywhere)
{
	uint64_t states[2][GLOB_WORDS];
	size_t len = subject_len(t), now = 0;

	if (g->never || !tail_matches(g, t))
		return false;
	memset(states[0], 0, (g->n / 64 + 1) * sizeof(uint64_t));
	state_add(g, states[0], 0);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = subject_at(t, i);
		bool any = states_step(g, states[now], states[1 - now], c);

		now = 1 - now;
		if (anywhere && c == '/')
			state_add(g, states[now], 0);
		else if (!any && !anywhere)
			return false;
	}
	return (states[now][g->n / 64] >> (g->n % 64) & 1) != 0;
}

/* Offset of the last `count` components of a path, or -1 when it has fewer. */
static ptrdiff_t last_components(const char *path, size_t len, size_t count)
{
	for (size_t i = len; i > 0; i--)
		if (path[i - 1] == '/' && --count == 0)
			return (ptrdiff_t)i;
	return count == 1 ? 0 : -1;
}

static bool literal_matches(const struct rule *r, const char *path, size_t len)
{
	size_t off;

	if (len < r->len)
		return false;
	off = len - r->len;
	if (memcmp(path + off, r->pat, r->len) != 0)
		return false;
	return off == 0 || ((r->flags & F_ANCHORED) == 0 && path[off - 1] == '/');
}

static bool wild_matches(const struct rule *r, const char *path, size_t len, bool is_dir)
{
	struct subject t = { .p = path, .len = len, .lead = (r->flags & F_WILD2_FIRST) != 0 };
	bool anchored = (r->flags & F_ANCHORED) != 0;

	t.trail = is_dir && (r->flags & F_WILD3_LAST) != 0;
	if ((r->flags & F_WILD2) != 0)
		return glob_matches(&r->glob, &t, !anchored && !t.lead);
	if (!anchored) {
		ptrdiff_t off = last_components(path, len, r->slashes + 1);

		if (off < 0)
			return false;
		t.p += off;
		t.len -= (size_t)off;
	}
	return glob_matches(&r->glob, &t, false);
}

static bool rule_matches(const struct rule *r, const char *path, size_t len, bool is_dir)
{
	bool match;

	if ((r->flags & F_DIRECTORY) != 0 && !is_dir)
		match = false;
	else if ((r->flags & F_WILD) != 0)
		match = wild_matches(r, path, len, is_dir);
	else
		match = literal_matches(r, path, len);
	return match != ((r->flags & F_NEGATE) != 0);
}

/* ---- verdicts ---- */

/* For whom the rules are asked. */
struct view {
	unsigned side;	      /* F_SENDER or F_RECEIVER */
	bool delete_excluded; /* rules without a side are the sender's only */
	bool no_perishable;
};

static bool rule_applies(const struct rule *r, const struct view *v)
{
	unsigned sides = r->flags & F_SIDES;

	if (v->no_perishable && (r->flags & F_PERISHABLE) != 0)
		return false;
	if (sides == 0)
		sides = v->delete_excluded ? F_SENDER : F_SIDES;
	return (sides & v->side) != 0;
}

static bool excludes(const struct filter *f, const struct view *v, const char *path, size_t len, bool is_dir)
{
	if (len == 0)
		return false;
	for (size_t i = 0; i < f->n; i++) {
		const struct rule *r = &f->rules[i];

		if (rule_applies(r, v) && rule_matches(r, path, len, is_dir))
			return (r->flags & F_INCLUDE) == 0;
	}
	return false;
}

/* End of the first component behind `from`: the next parent of path, or path itself. */
static size_t next_level(const char *path, size_t len, size_t from)
{
	const char *slash = from < len ? memchr(path + from + 1, '/', len - from - 1) : NULL;

	return slash != NULL ? (size_t)(slash - path) : len;
}

bool filter_match(const struct filter *f, const char *path, size_t len, bool is_dir)
{
	const struct view v = { .side = F_SENDER };

	return !excludes(f, &v, path, len, is_dir);
}

bool filter_includes(const struct filter *f, const char *path, size_t len, bool is_dir)
{
	size_t end = 0;

	while (end < len) {
		end = next_level(path, len, end);
		if (!filter_match(f, path, end, end < len || is_dir))
			return false;
	}
	return true;
}

bool filter_excludes_subtree(const struct filter *f, const char *path, size_t len)
{
	return !filter_includes(f, path, len, true);
}

bool filter_protects(const struct filter *f, const char *path, size_t len, bool is_dir, bool delete_excluded)
{
	struct view v = { .side = F_RECEIVER, .delete_excluded = delete_excluded };
	size_t end = 0;

	while (end < len) {
		bool dir;

		end = next_level(path, len, end);
		dir = end < len || is_dir;
		for (int pass = 0; pass < 2; pass++) {
			v.no_perishable = pass == 1;
			if (excludes(f, &v, path, end, dir))
				return true;
		}
	}
	return false;
}

bool filter_protects_from(const struct filter *f, const char *path, size_t len, size_t top, bool is_dir,
			  bool delete_excluded)
{
	struct view v = { .side = F_RECEIVER, .delete_excluded = delete_excluded };
	size_t end = top;

	if (excludes(f, &v, path, end, end < len || is_dir))
		return true;
	v.no_perishable = true;
	while (end < len) {
		end = next_level(path, len, end);
		if (excludes(f, &v, path, end, end < len || is_dir))
			return true;
	}
	return false;
}

/* ---- the list of rules ---- */

struct filter *filter_new(void)
{
	return calloc(1, sizeof(struct filter));
}

static void rule_done(struct rule *r)
{
	free(r->text);
	free(r->glob.tok);
	free(r->glob.sets);
}

static void clear(struct filter *f)
{
	for (size_t i = 0; i < f->n; i++)
		rule_done(&f->rules[i]);
	f->n = 0;
	f->memory = 0;
}

void filter_free(struct filter *f)
{
	if (f == NULL)
		return;
	clear(f);
	free(f->rules);
	free(f);
}

size_t filter_count(const struct filter *f)
{
	return f->n;
}

const char *filter_rule_text(const struct filter *f, size_t i)
{
	return i < f->n ? f->rules[i].text : NULL;
}

/* Text of the rule; returns where the pattern begins in it, or NULL when out of memory. */
static char *rule_text(struct rule *r, const char *pat, size_t len)
{
	char *p = malloc(sizeof("-!srp ") + len);

	r->text = p;
	if (p == NULL)
		return NULL;
	*p++ = (r->flags & F_INCLUDE) != 0 ? '+' : '-';
	if ((r->flags & F_NEGATE) != 0)
		*p++ = '!';
	if ((r->flags & F_SENDER) != 0)
		*p++ = 's';
	if ((r->flags & F_RECEIVER) != 0)
		*p++ = 'r';
	if ((r->flags & F_PERISHABLE) != 0)
		*p++ = 'p';
	*p++ = ' ';
	memcpy(p, pat, len);
	p[len] = '\0';
	return p;
}

/* What rsync derives from the raw bytes of a pattern, whatever role they play in it: it looks for wildcards, double
 * stars and slashes even in classes and behind a backslash. */
static void rule_survey(struct rule *r)
{
	const char *first = NULL;

	if (r->len > 1 && r->pat[r->len - 1] == '/') {
		r->len--;
		r->flags |= F_DIRECTORY;
	}
	for (size_t i = 0; i < r->len; i++) {
		char c = r->pat[i];

		if (c == '/')
			r->slashes++;
		if (c == '*' || c == '?' || c == '[')
			r->flags |= F_WILD;
		if (first == NULL && c == '*' && i + 1 < r->len && r->pat[i + 1] == '*')
			first = r->pat + i;
	}
	if (first != NULL) {
		r->flags |= F_WILD2;
		if (first == r->pat)
			r->flags |= F_WILD2_FIRST;
		if (r->len >= 3 && memcmp(r->pat + r->len - 3, "***", 3) == 0)
			r->flags |= F_WILD3_LAST;
	}
	if (r->pat[0] == '/') {
		r->flags |= F_ANCHORED;
		r->pat++;
		r->len--;
	}
}

static int rule_build(struct rule *r, unsigned flags, const char *pat, size_t len, struct err *err)
{
	memset(r, 0, sizeof(*r));
	r->flags = flags;
	r->len = len;
	r->pat = rule_text(r, pat, len);
	if (r->pat == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a filter rule");
	rule_survey(r);
	if ((r->flags & F_WILD) != 0 && !glob_compile(&r->glob, r->pat, r->len)) {
		rule_done(r);
		return err_set(err, ERR_NOMEM, "out of memory for a filter rule");
	}
	return 0;
}

static size_t rule_memory(const struct rule *r, size_t len)
{
	return sizeof(*r) + len + 8 + r->glob.nsets * sizeof(*r->glob.sets) +
	       (r->glob.tok != NULL ? (len + 1) * sizeof(*r->glob.tok) : 0);
}

static int check_pattern(const char *pat, size_t len, struct err *err)
{
	if (len == 0)
		return err_set(err, ERR_CONFIG, "a filter rule ends where its pattern should begin");
	if (memchr(pat, '\0', len) != NULL)
		return err_set(err, ERR_CONFIG, "a filter rule has a NUL byte");
	if (len > PATTERN_MAX)
		return err_set(err, ERR_CONFIG,
			       "a filter pattern of %zu bytes is too long: rsync would discard it, the limit is %d",
			       len, PATTERN_MAX);
	return 0;
}

static int reserve(struct filter *f, struct err *err)
{
	size_t cap = f->cap == 0 ? 16 : f->cap * 2;
	struct rule *more;

	if (f->n >= RULES_MAX)
		return err_set(err, ERR_LIMIT, "more than %d filter rules", RULES_MAX);
	if (f->n < f->cap)
		return 0;
	more = realloc(f->rules, cap * sizeof(*more));
	if (more == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for %zu filter rules", cap);
	f->rules = more;
	f->cap = cap;
	return 0;
}

static int add_pattern(struct filter *f, unsigned flags, const char *pat, size_t len, struct err *err)
{
	struct rule r;
	size_t memory;

	if (check_pattern(pat, len, err) != 0 || reserve(f, err) != 0 || rule_build(&r, flags, pat, len, err) != 0)
		return -1;
	memory = rule_memory(&r, len);
	if (memory > MEMORY_MAX - f->memory) {
		rule_done(&r);
		return err_set(err, ERR_LIMIT, "the filter rules take more than %zu MiB", MEMORY_MAX / 1024 / 1024);
	}
	f->memory += memory;
	f->rules[f->n++] = r;
	return 0;
}

/* ---- rsync's --filter syntax ---- */

/* A rule that is being read. */
struct input {
	const char *s;
	size_t len, at;
	bool one_sided; /* the kind says for which side */
	unsigned flags;
	struct err *err;
};

static int refuse(const struct input *in, const char *why)
{
	size_t shown = in->len < SHOWN_MAX ? in->len : SHOWN_MAX;

	return err_set(in->err, ERR_CONFIG, "filter rule \"%.*s\": %s", (int)shown, in->s, why);
}

/* The kind's letter, for a long name as well; `at` moves behind it and a comma. '\0': none. */
static char rule_kind(struct input *in)
{
	static const struct {
		const char *name;
		char kind;
	} table[] = {
		{ "clear", '!' }, { "dir-merge", ':' }, { "exclude", '-' }, { "hide", 'H' }, { "include", '+' },
		{ "merge", '.' }, { "protect", 'P' },	{ "risk", 'R' },    { "show", 'S' },
	};
	char kind = in->s[0];

	in->at = 1;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		size_t n = strlen(table[i].name);

		if (kind != table[i].name[0])
			continue;
		if (in->len < n || memcmp(in->s, table[i].name, n) != 0)
			return '\0';
		if (in->len > n && strchr(" _,", in->s[n]) == NULL)
			return '\0';
		kind = table[i].kind;
		in->at = n;
		break;
	}
	if (in->at < in->len && in->s[in->at] == ',')
		in->at++;
	return kind;
}

static int kind_flags(struct input *in, char kind)
{
	switch (kind) {
	case '+':
		in->flags = F_INCLUDE;
		return 0;
	case '-':
		return 0;
	case 'S':
	case 'H':
		in->flags = F_SENDER | (kind == 'S' ? F_INCLUDE : 0);
		in->one_sided = true;
		return 0;
	case 'R':
	case 'P':
		in->flags = F_RECEIVER | (kind == 'R' ? F_INCLUDE : 0);
		in->one_sided = true;
		return 0;
	case '.':
		return refuse(in, "merge rules are not supported here; name the file in filterFrom");
	case ':':
		return refuse(in, "per-directory merge files are not supported");
	default:
		return refuse(in, "not a kind of rule that rsync knows");
	}
}

static int modifier(struct input *in, char c)
{
	switch (c) {
	case '!':
		in->flags |= F_NEGATE;
		return 0;
	case 'p':
		in->flags |= F_PERISHABLE;
		return 0;
	case 's':
	case 'r':
		if (in->one_sided)
			return refuse(in, "the modifiers s and r do not go with hide, show, protect and risk");
		in->flags |= c == 's' ? F_SENDER : F_RECEIVER;
		return 0;
	case '/':
		return refuse(in, "the modifier / (match absolute paths) is not supported");
	case 'C':
		return refuse(in, "the modifier C (CVS's exclusions) is not supported");
	case 'x':
		return refuse(in, "the modifier x (names of extended attributes) is not supported");
	case 'e':
	case 'n':
	case 'w':
	case '+':
	case '-':
		return refuse(in, "the modifiers e, n, w, + and - go with merge rules only");
	default:
		return refuse(in, "an unknown modifier; a space or an underscore must stand before the pattern");
	}
}

int filter_add_rule(struct filter *f, const char *rule, size_t len, struct err *err)
{
	struct input in = { .s = rule, .len = len, .err = err };
	char kind;

	if (len == 0)
		return 0;
	kind = rule_kind(&in);
	if (kind == '!') {
		if (in.at < len)
			return refuse(&in, "nothing may follow the rule that clears the list");
		clear(f);
		return 0;
	}
	if (kind_flags(&in, kind) != 0)
		return -1;
	for (; in.at < len && rule[in.at] != ' ' && rule[in.at] != '_'; in.at++)
		if (modifier(&in, rule[in.at]) != 0)
			return -1;
	if (in.at < len)
		in.at++;
	return add_pattern(f, in.flags, rule + in.at, len - in.at, err);
}

/* The argument of --exclude or --include, where only "+ ", "- " and a lone "!" are more than a pattern. */
static int add_old(struct filter *f, unsigned flags, const char *pat, size_t len, struct err *err)
{
	if (len == 0)
		return 0;
	if (len == 1 && pat[0] == '!') {
		clear(f);
		return 0;
	}
	if (len >= 2 && (pat[0] == '-' || pat[0] == '+') && pat[1] == ' ') {
		flags = pat[0] == '+' ? F_INCLUDE : 0;
		pat += 2;
		len -= 2;
	}
	return add_pattern(f, flags, pat, len, err);
}

int filter_add_exclude(struct filter *f, const char *pattern, size_t len, struct err *err)
{
	return add_old(f, 0, pattern, len, err);
}

int filter_add_include(struct filter *f, const char *pattern, size_t len, struct err *err)
{
	return add_old(f, F_INCLUDE, pattern, len, err);
}

/* ---- files of rules ---- */

typedef int add_line(struct filter *f, const char *line, size_t len, struct err *err);

static int add_lines(struct filter *f, const char *text, size_t len, add_line *add, struct err *err)
{
	struct err why = ERR_INIT;
	size_t number = 1;

	for (size_t at = 0, end; at < len; at = end + 1, number++) {
		for (end = at; end < len && text[end] != '\n' && text[end] != '\r';)
			end++;
		if (end > at && text[at] != '#' && text[at] != ';' && add(f, text + at, end - at, &why) != 0)
			return err_set(err, why.class, "line %zu: %.*s", number, ERR_TEXT_MAX - 40, why.text);
		if (end + 1 < len && text[end] == '\r' && text[end + 1] == '\n')
			end++;
	}
	return 0;
}

int filter_add_exclude_lines(struct filter *f, const char *text, size_t len, struct err *err)
{
	return add_lines(f, text, len, filter_add_exclude, err);
}

int filter_add_include_lines(struct filter *f, const char *text, size_t len, struct err *err)
{
	return add_lines(f, text, len, filter_add_include, err);
}

int filter_add_filter_lines(struct filter *f, const char *text, size_t len, struct err *err)
{
	return add_lines(f, text, len, filter_add_rule, err);
}
