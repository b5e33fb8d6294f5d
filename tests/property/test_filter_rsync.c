/* LINK: core/filter.c core/filter_args.c core/err.c tests/lib/random_rules.c */
/*
 * The filter against rsync itself: random rule lists over a random tree. What a dry run of rsync would transfer, or
 * delete, is what the filter must say.
 *
 * SEED=N runs another sequence (0: one of its own each time), ROUNDS=N that many rule lists.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/filter.h"
#include "tests/lib/random_rules.h"

#define ROUNDS_DEFAULT 320

/* ---- the same list for the filter ---- */

static int read_whole(void *ctx, const char *path, char **text, size_t *len, struct err *err)
{
	FILE *f = fopen(path, "re");

	(void)ctx;
	if (f == NULL)
		return err_errno(err, errno, "open");
	*text = malloc(16 * TEXT_SIZE);
	assert_non_null(*text);
	*len = fread(*text, 1, 16 * TEXT_SIZE, f);
	if (ferror(f) != 0) {
		free(*text);
		*text = NULL;
	}
	fclose(f);
	return *text != NULL ? 0 : err_set(err, ERR_GONE, "%s can't be read", path);
}

static void free_arg(char *arg)
{
	free(arg);
}

/* NULL: refused. */
static struct filter *filter_of(const struct options *o, struct err *err)
{
	struct filter *f = filter_new();
	char *argv[OPTIONS_MAX + 1];
	size_t n = o->n;
	int rc;

	assert_non_null(f);
	for (size_t i = 0; i < n; i++) {
		argv[i] = strdup(o->v[i]);
		assert_non_null(argv[i]);
	}
	argv[n] = NULL;
	rc = filter_add_rsync_args(f, argv, &n, read_whole, NULL, free_arg, err);
	if (rc == 0)
		assert_int_equal(n, 0);
	for (size_t i = 0; i < n; i++)
		free(argv[i]);
	if (rc == 0)
		return f;
	filter_free(f);
	return NULL;
}

/* The rules once more, each from its text. */
static struct filter *filter_again(const struct filter *f, struct options *o)
{
	struct filter *again = filter_new();
	struct err err = ERR_INIT;

	assert_non_null(again);
	for (size_t i = 0; i < filter_count(f); i++) {
		const char *text = filter_rule_text(f, i);
		char option[TEXT_SIZE + 64];

		if (filter_add_rule(again, text, strlen(text), &err) != 0)
			fail_msg("rule \"%s\" does not read back: %s", text, err.text);
		assert_int_equal(filter_count(again), i + 1);
		assert_string_equal(filter_rule_text(again, i), text);
		snprintf(option, sizeof(option), "--filter=%s", text);
		if (o != NULL)
			options_add(o, option);
	}
	return again;
}

/* ---- rsync ---- */

extern char **environ;

struct world {
	char dir[PATH_SIZE];
	struct tree source, target, empty;
	struct options options;
	struct rng rng;
	uint64_t seed;
	size_t rounds, round;
	size_t cases, excluded, lists, refused; /* seen, to know that the test tests something */
	size_t deleted, protected, more;
};

static char *read_all(int fd, size_t *len)
{
	size_t cap = 1 << 16;
	char *out = malloc(cap + 1);

	*len = 0;
	for (;;) {
		ssize_t got;

		assert_non_null(out);
		got = read(fd, out + *len, cap - *len);
		if (got <= 0)
			break;
		*len += (size_t)got;
		if (*len == cap)
			out = realloc(out, (cap *= 2) + 1);
	}
	out[*len] = '\0';
	return out;
}

/* Runs rsync on source and target with the options in front; its exit status, and what it said on stdout. */
static int run_rsync(struct world *w, const struct options *o, const char *const *extra, const struct tree *target,
		     char **out)
{
	char *argv[OPTIONS_MAX + 16], from[PATH_SIZE + 2], to[PATH_SIZE + 2], messages[2 * PATH_SIZE];
	char *const fixed[] = { (char *)"rsync", (char *)"-rln", (char *)"--out-format=%i %n" };
	posix_spawn_file_actions_t actions;
	size_t n = 0, len;
	int fds[2], status;
	pid_t pid;

	for (; n < 3; n++)
		argv[n] = fixed[n];
	for (size_t i = 0; extra != NULL && extra[i] != NULL; i++)
		argv[n++] = (char *)(uintptr_t)extra[i];
	for (size_t i = 0; i < o->n; i++)
		argv[n++] = o->v[i];
	snprintf(from, sizeof(from), "%s/", w->source.root);
	snprintf(to, sizeof(to), "%s/", target->root);
	snprintf(messages, sizeof(messages), "%s/messages", w->dir);
	argv[n++] = from;
	argv[n++] = to;
	argv[n] = NULL;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, messages, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(posix_spawnp(&pid, "rsync", &actions, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	*out = read_all(fds[0], &len);
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* "\#ooo" is how rsync shows a byte that a terminal might not like. Decodes in place. */
static size_t decode(char *s)
{
	char *to = s;

	for (const char *p = s; *p != '\0';) {
		if (p[0] == '\\' && p[1] == '#' && p[2] >= '0' && p[2] <= '3' && p[3] >= '0' && p[3] <= '7' &&
		    p[4] >= '0' && p[4] <= '7') {
			*to++ = (char)((p[2] - '0') * 64 + (p[3] - '0') * 8 + (p[4] - '0'));
			p += 5;
		} else {
			*to++ = *p++;
		}
	}
	*to = '\0';
	return (size_t)(to - s);
}

static void mark(struct tree *t, char *name, bool named)
{
	size_t len = decode(name);
	struct node *n;

	if (strcmp(name, "./") == 0)
		return;
	if (len > 1 && name[len - 1] == '/')
		len--;
	n = tree_find(t, name, len);
	if (n == NULL)
		fail_msg("rsync names \"%s\", which the tree does not have", name);
	else
		n->named = named;
}

/* Marks the entries of the tree that rsync transfers, or deletes. A dry run announces that it deletes a directory, but
 * not the top one, even after the message that it can't because something in it stays; the message is what a real
 * run does. */
static void mark_named(struct tree *t, char *out, bool deleting)
{
	static const char stays[] = "cannot delete non-empty directory: ";
	char *unmark[NODES_MAX * 2], *save = NULL;
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++)
		t->v[i].named = false;
	for (char *line = strtok_r(out, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		if (deleting && strncmp(line, stays, strlen(stays)) == 0 && n < NODES_MAX * 2)
			unmark[n++] = line + strlen(stays);
		else if (strlen(line) > 12 && line[11] == ' ' && (strncmp(line, "*deleting", 9) == 0) == deleting)
			mark(t, line + 12, true);
	}
	while (n > 0)
		mark(t, unmark[--n], false);
}

/* ---- comparing ---- */

static void show(const char *what, const char *s, size_t len)
{
	fprintf(stderr, "  %s \"", what);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c < 32 || c >= 127 || c == '"' || c == '\\')
			fprintf(stderr, "\\x%02x", c);
		else
			fputc(c, stderr);
	}
	fprintf(stderr, "\"\n");
}

static void show_file(const char *what, const char *path)
{
	char *text = NULL;
	size_t len = 0;

	if (read_whole(NULL, path, &text, &len, NULL) == 0)
		show(what, text, len);
	free(text);
}

static void disagree(const struct world *w, const struct options *o, const struct node *n, const char *what)
{
	char messages[2 * PATH_SIZE];

	fprintf(stderr, "SEED=%" PRIu64 ", round %zu: %s\n", w->seed, w->round, what);
	for (size_t i = 0; i < o->n; i++)
		show("option", o->v[i], strlen(o->v[i]));
	show_file("file", w->options.file);
	snprintf(messages, sizeof(messages), "%s/messages", w->dir);
	show_file("rsync said", messages);
	if (n != NULL)
		show(n->is_dir ? "directory" : "file", n->path, n->len);
	fail_msg("%s", what);
}

/* A list that the filter refused must be one that rsync refuses: the generator makes none of what we don't support. */
static void check_refusal(struct world *w, const struct err *err)
{
	char *out;
	int status = run_rsync(w, &w->options, NULL, &w->empty, &out);

	free(out);
	if (status == 0)
		disagree(w, &w->options, NULL, err->text);
	w->refused++;
}

static void check_includes(struct world *w, const struct filter *f, const struct filter *again,
			   const struct options *given)
{
	char *out;

	if (run_rsync(w, given, NULL, &w->empty, &out) != 0)
		disagree(w, given, NULL, "rsync refuses what the filter takes");
	mark_named(&w->source, out, false);
	free(out);
	for (size_t i = 0; i < w->source.n; i++) {
		const struct node *n = &w->source.v[i];
		bool included = filter_includes(f, n->path, n->len, n->is_dir);

		if (included != n->named)
			disagree(w, given, n,
				 included ? "rsync excludes, the filter includes"
					  : "rsync includes, the filter excludes");
		if (filter_includes(again, n->path, n->len, n->is_dir) != included)
			disagree(w, given, n, "the filter's own rule texts make another filter");
		w->cases++;
		w->excluded += !included;
	}
	w->lists++;
}

static size_t rounds_of(const struct world *w, size_t share)
{
	return w->rounds / share > 0 ? w->rounds / share : 1;
}

static void next_round(struct world *w, uint64_t test)
{
	/* Each round by itself, so that one can be looked at without those before it. */
	w->rng.state = (w->seed * 16 + test) * UINT64_C(0x100000001B3) + w->round;
	(void)unlink(w->options.file);
	options_make(&w->options, &w->source, &w->rng);
}

static void test_includes(void **state)
{
	struct world *w = *state;

	for (w->round = 0; w->round < w->rounds; w->round++) {
		struct options texts = { .n = 0 };
		struct filter *f, *again;
		struct err err = ERR_INIT;

		next_round(w, 1);
		f = filter_of(&w->options, &err);
		if (f == NULL) {
			check_refusal(w, &err);
			options_free(&w->options);
			continue;
		}
		/* Every other list goes to rsync as the filter's own rule texts, as the transports hand it over. */
		again = filter_again(f, &texts);
		check_includes(w, f, again, w->round % 2 == 0 ? &w->options : &texts);
		options_free(&texts);
		options_free(&w->options);
		filter_free(f);
		filter_free(again);
	}
	print_message("%zu lists, %zu cases, %zu excluded, %zu lists refused, SEED=%" PRIu64 "\n", w->lists, w->cases,
		      w->excluded, w->refused, w->seed);
	if (w->rounds < ROUNDS_DEFAULT)
		return;
	assert_true(w->cases >= 20000);
	/* Rules that decide nothing, or refusals, would make this an empty test. */
	assert_true(w->excluded > w->cases / 5 && w->excluded < w->cases - w->cases / 5);
	assert_true(w->refused < w->rounds / 10);
}

/* ---- deletion ---- */

/* Where each parent of the path, and the path itself, ends: the next one behind `end`. */
static size_t level_after(const struct node *n, size_t end)
{
	const char *slash = end < n->len ? strchr(n->path + end + 1, '/') : NULL;

	return slash != NULL ? (size_t)(slash - n->path) : n->len;
}

static bool transferred(struct world *w, const struct filter *f, const struct node *n, size_t end)
{
	return tree_find(&w->source, n->path, end) != NULL &&
	       filter_includes(f, n->path, end, end < n->len || n->is_dir);
}

/* The end of the topmost level that is not part of the transfer; 0 when the whole path is. */
static size_t topmost(struct world *w, const struct filter *f, const struct node *n)
{
	for (size_t end = level_after(n, 0);; end = level_after(n, end)) {
		if (!transferred(w, f, n, end))
			return end;
		if (end == n->len)
			return 0;
	}
}

/* Perishable rules made ordinary ones, or left out. */
static struct filter *without_perishable(const struct filter *f, bool keep)
{
	struct filter *out = filter_new();

	assert_non_null(out);
	for (size_t i = 0; i < filter_count(f); i++) {
		const char *text = filter_rule_text(f, i), *space = strchr(text, ' ');
		const char *p = memchr(text, 'p', (size_t)(space - text));
		char rule[TEXT_SIZE + 64];
		size_t len = strlen(text);

		if (p != NULL && !keep)
			continue;
		assert_true(len < sizeof(rule));
		memcpy(rule, text, len + 1);
		if (p != NULL)
			memmove(rule + (p - text), p + 1, strlen(p));
		assert_int_equal(filter_add_rule(out, rule, strlen(rule), NULL), 0);
	}
	return out;
}

/* One list of rules for a deletion, and what is to be compared. */
struct deletion {
	struct filter *f, *made_plain, *left_out;
	const struct options *given;
	bool delete_excluded;
	bool kept_by_rule[NODES_MAX], kept[NODES_MAX];
};

/* Whether some level of the path is one that a rule protects, perishable rules counting or not. */
static bool some_level_protected(const struct deletion *d, const struct node *n)
{
	size_t end = 0;

	while (end < n->len) {
		bool dir;

		end = level_after(n, end);
		dir = end < n->len || n->is_dir;
		if (filter_protects_from(d->made_plain, n->path, end, end, dir, d->delete_excluded) ||
		    filter_protects_from(d->left_out, n->path, end, end, dir, d->delete_excluded))
			return true;
	}
	return false;
}

/* What the filter lets rsync delete. A directory stays when something in it does. */
static void expect_deletions(struct world *w, struct deletion *d)
{
	struct tree *t = &w->target;

	memset(d->kept, 0, sizeof(d->kept));
	for (size_t i = t->n; i-- > 0;) {
		const struct node *n = &t->v[i];
		size_t top = topmost(w, d->f, n), up = path_parent_len(n->path, n->len);

		d->kept_by_rule[i] =
			top > 0 && filter_protects_from(d->f, n->path, n->len, top, n->is_dir, d->delete_excluded);
		if (top == 0 || d->kept_by_rule[i])
			d->kept[i] = true;
		/* Parents stand before their entries. */
		if (d->kept[i] && up > 0)
			d->kept[tree_find(t, n->path, up) - t->v] = true;
	}
}

/* filter_protects() knows of no topmost entry: what rsync keeps because of a rule it protects in any case, and it
 * protects more only because of a perishable rule, or because a directory that is transferred has a rule of its own. */
static void check_protects(struct world *w, struct deletion *d, size_t i)
{
	const struct node *n = &w->target.v[i];
	bool protects = filter_protects(d->f, n->path, n->len, n->is_dir, d->delete_excluded);

	if (d->kept_by_rule[i] && !protects)
		disagree(w, d->given, n, "rsync keeps it because of a rule, the filter does not protect it");
	if (protects != some_level_protected(d, n))
		disagree(w, d->given, n,
			 protects ? "the filter protects it without a reason" : "the filter does not protect it");
	w->protected += d->kept_by_rule[i];
	w->more += protects && !d->kept_by_rule[i] && topmost(w, d->f, n) > 0;
}

static void check_deletions(struct world *w, struct deletion *d)
{
	const char *const extra[] = { d->delete_excluded ? "--delete-excluded" : "--delete", NULL };
	char *out;

	if (run_rsync(w, d->given, extra, &w->target, &out) != 0)
		disagree(w, d->given, NULL, "rsync refuses what the filter takes");
	mark_named(&w->target, out, true);
	free(out);
	expect_deletions(w, d);
	for (size_t i = 0; i < w->target.n; i++) {
		const struct node *n = &w->target.v[i];

		if (n->named == d->kept[i])
			disagree(w, d->given, n,
				 n->named ? "rsync deletes, the filter keeps" : "rsync keeps, the filter deletes");
		check_protects(w, d, i);
		w->cases++;
		w->deleted += n->named;
	}
}

static void one_deletion(struct world *w)
{
	struct options texts = { .n = 0 };
	struct err err = ERR_INIT;
	struct filter *again;
	struct deletion d = { .f = filter_of(&w->options, &err), .delete_excluded = w->round % 4 >= 2 };

	if (d.f == NULL) {
		check_refusal(w, &err);
		return;
	}
	again = filter_again(d.f, &texts);
	filter_free(again);
	d.made_plain = without_perishable(d.f, true);
	d.left_out = without_perishable(d.f, false);
	d.given = w->round % 2 == 0 ? &w->options : &texts;
	check_deletions(w, &d);
	options_free(&texts);
	filter_free(d.f);
	filter_free(d.made_plain);
	filter_free(d.left_out);
}

static void test_deletions(void **state)
{
	struct world *w = *state;

	w->cases = w->refused = 0;
	for (w->round = 0; w->round < rounds_of(w, 3); w->round++) {
		next_round(w, 2);
		one_deletion(w);
		options_free(&w->options);
	}
	print_message("%zu cases, %zu deleted, %zu kept by a rule, %zu protected beyond that, %zu lists refused\n",
		      w->cases, w->deleted, w->protected, w->more, w->refused);
	if (w->rounds < ROUNDS_DEFAULT)
		return;
	assert_true(w->deleted > w->cases / 10 && w->protected > w->cases / 20 && w->more > 0);
}

/* ---- syntax ---- */

/* What rsync refuses is refused; what is refused but means something to rsync is said not to be supported. */
static void one_odd_rule(struct world *w)
{
	struct err err = ERR_INIT;
	struct filter *again, *f = filter_of(&w->options, &err);

	if (f == NULL) {
		assert_true(err.class == ERR_CONFIG || err.class == ERR_GONE);
		if (strstr(err.text, "supported") == NULL)
			check_refusal(w, &err);
		return;
	}
	again = filter_again(f, NULL);
	check_includes(w, f, again, &w->options);
	filter_free(again);
	filter_free(f);
}

static void test_syntax(void **state)
{
	struct world *w = *state;

	w->refused = w->lists = 0;
	for (w->round = 0; w->round < rounds_of(w, 2); w->round++) {
		w->rng.state = (w->seed * 16 + 3) * UINT64_C(0x100000001B3) + w->round;
		options_make_odd(&w->options, &w->rng);
		one_odd_rule(w);
		options_free(&w->options);
	}
	print_message("%zu rules taken, %zu refused by both\n", w->lists, w->refused);
	if (w->rounds >= ROUNDS_DEFAULT)
		assert_true(w->refused > 20 && w->lists > 20);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *s = getenv(name);

	return s != NULL && *s != '\0' ? strtoull(s, NULL, 10) : otherwise;
}

static void place(struct world *w, struct tree *t, const char *name)
{
	assert_true(snprintf(t->root, sizeof(t->root), "%.400s/%s", w->dir, name) > 0);
	assert_int_equal(mkdir(t->root, 0755), 0);
}

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	const char *dir = getenv("TESTDIR");

	if (w == NULL)
		return -1;
	*state = w;
	w->seed = env_number("SEED", 1);
	if (w->seed == 0 && getrandom(&w->seed, sizeof(w->seed), 0) < 0)
		return -1;
	w->rounds = (size_t)env_number("ROUNDS", ROUNDS_DEFAULT);
	w->rng.state = w->seed;
	snprintf(w->dir, sizeof(w->dir), "%.300s/filter-rsync-XXXXXX", dir != NULL ? dir : "/tmp");
	if (mkdtemp(w->dir) == NULL || setenv("LC_ALL", "C", 1) != 0)
		return -1;
	snprintf(w->options.file, sizeof(w->options.file), "%s/rules", w->dir);
	place(w, &w->source, "source");
	place(w, &w->target, "target");
	place(w, &w->empty, "empty");
	while (w->source.n < SOURCE_ENTRIES)
		tree_grow(&w->source, &w->empty, &w->rng);
	tree_fill_target(&w->target, &w->source, &w->rng);
	return 0;
}

static int clean_up(void **state)
{
	struct world *w = *state;

	options_free(&w->options);
	if (nftw(w->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
		return -1;
	free(w);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_includes),
		cmocka_unit_test(test_deletions),
		cmocka_unit_test(test_syntax),
	};

	return cmocka_run_group_tests_name("filter_rsync", tests, set_up, clean_up);
}
