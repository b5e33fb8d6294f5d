/*
 * filter_args.c - filter rules among rsync's command-line options: taking them out of an argument list.
 */
#include "core/filter.h"

#include <stdlib.h>
#include <string.h>

/* How much of an argument is shown in an error. */
#define SHOWN_MAX 160

struct args {
	struct filter *f;
	char **argv;
	size_t n, in, out; /* in: next to look at; out: where the next one that stays goes */
	bool from0;
	filter_read_file *read_file;
	void *ctx;
	void (*free_arg)(char *arg);
	struct err *err;
};

typedef int add_text(struct filter *f, const char *text, size_t len, struct err *err);

static int add_file(struct args *a, const char *path, add_text *add)
{
	char *text = NULL;
	size_t len = 0;
	struct err why = ERR_INIT;
	int rc;

	if (strcmp(path, "-") == 0)
		return err_set(a->err, ERR_CONFIG, "filter rules can't be read from standard input");
	if (a->from0)
		return err_set(a->err, ERR_CONFIG, "%.*s: --from0 with files of filter rules is not supported",
			       SHOWN_MAX, path);
	if (a->read_file(a->ctx, path, &text, &len, a->err) != 0)
		return -1;
	rc = add(a->f, text, len, &why);
	free(text);
	if (rc != 0)
		return err_set(a->err, why.class, "%.*s: %.*s", SHOWN_MAX, path, ERR_TEXT_MAX - SHOWN_MAX - 4,
			       why.text);
	return 0;
}

/* "merge FILE" among arguments is read at once, as rsync does. */
static int add_filter_arg(struct args *a, const char *rule)
{
	static const char *const prefix[] = { ". ", "._", "merge ", "merge_" };

	for (size_t i = 0; i < sizeof(prefix) / sizeof(prefix[0]); i++) {
		size_t n = strlen(prefix[i]);

		if (strncmp(rule, prefix[i], n) == 0 && rule[n] != '\0')
			return add_file(a, rule + n, filter_add_filter_lines);
	}
	return filter_add_rule(a->f, rule, strlen(rule), a->err);
}

enum opt { OPT_OTHER, OPT_FILTER, OPT_EXCLUDE, OPT_INCLUDE, OPT_EXCLUDE_FROM, OPT_INCLUDE_FROM, OPT_VALUE };

static int add_value(struct args *a, enum opt opt, const char *value)
{
	switch (opt) {
	case OPT_FILTER:
		return add_filter_arg(a, value);
	case OPT_EXCLUDE:
		return filter_add_exclude(a->f, value, strlen(value), a->err);
	case OPT_INCLUDE:
		return filter_add_include(a->f, value, strlen(value), a->err);
	case OPT_EXCLUDE_FROM:
		return add_file(a, value, filter_add_exclude_lines);
	case OPT_INCLUDE_FROM:
		return add_file(a, value, filter_add_include_lines);
	default:
		return err_set(a->err, ERR_BUG, "rsync option without a filter rule");
	}
}

/* Other options that take their value from the next argument, which must not be mistaken for an option. */
static bool takes_value(const char *name)
{
	static const char *const names[] = { "address",
					     "backup-dir",
					     "block-size",
					     "bwlimit",
					     "cc",
					     "checksum-choice",
					     "checksum-seed",
					     "chmod",
					     "chown",
					     "compare-dest",
					     "compress-choice",
					     "compress-level",
					     "compress-threads",
					     "config",
					     "confine-root",
					     "contimeout",
					     "copy-as",
					     "copy-dest",
					     "debug",
					     "dparam",
					     "early-input",
					     "files-from",
					     "groupmap",
					     "iconv",
					     "info",
					     "link-dest",
					     "log-file",
					     "log-file-format",
					     "log-format",
					     "max-alloc",
					     "max-delete",
					     "max-size",
					     "min-size",
					     "modify-window",
					     "only-write-batch",
					     "out-format",
					     "outbuf",
					     "partial-dir",
					     "password-file",
					     "port",
					     "protocol",
					     "read-batch",
					     "remote-option",
					     "rsh",
					     "rsync-path",
					     "skip-compress",
					     "sockopts",
					     "stderr",
					     "stop-after",
					     "stop-at",
					     "suffix",
					     "temp-dir",
					     "time-limit",
					     "timeout",
					     "usermap",
					     "write-batch",
					     "zc",
					     "zl",
					     "zt" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static enum opt long_option(const char *name, size_t len)
{
	static const struct {
		const char *name;
		enum opt opt;
	} table[] = {
		{ "filter", OPT_FILTER },
		{ "exclude", OPT_EXCLUDE },
		{ "include", OPT_INCLUDE },
		{ "exclude-from", OPT_EXCLUDE_FROM },
		{ "include-from", OPT_INCLUDE_FROM },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strlen(table[i].name) == len && memcmp(name, table[i].name, len) == 0)
			return table[i].opt;
	return name[len] == '\0' && takes_value(name) ? OPT_VALUE : OPT_OTHER;
}

static void keep(struct args *a)
{
	a->argv[a->out++] = a->argv[a->in++];
}

static void drop(struct args *a)
{
	a->free_arg(a->argv[a->in++]);
}

static int no_value(const struct args *a)
{
	return err_set(a->err, ERR_CONFIG, "rsync option \"%.*s\" lacks its value", SHOWN_MAX, a->argv[a->in]);
}

static int refuse_cvs(const struct args *a, const char *opt)
{
	return err_set(a->err, ERR_CONFIG,
		       "rsync option %s is not supported: it reads rules from the directories it comes through", opt);
}

static int take_long(struct args *a)
{
	const char *name = a->argv[a->in] + 2, *eq = strchr(name, '=');
	size_t len = eq != NULL ? (size_t)(eq - name) : strlen(name);
	enum opt opt = long_option(name, len);

	if (len == strlen("cvs-exclude") && memcmp(name, "cvs-exclude", len) == 0)
		return refuse_cvs(a, "--cvs-exclude");
	if (strcmp(name, "from0") == 0)
		a->from0 = true;
	if (opt == OPT_OTHER) {
		keep(a);
		return 0;
	}
	if (eq == NULL && a->in + 1 >= a->n)
		return no_value(a);
	if (opt == OPT_VALUE) {
		keep(a);
		keep(a);
		return 0;
	}
	if (add_value(a, opt, eq != NULL ? eq + 1 : a->argv[a->in + 1]) != 0)
		return -1;
	if (eq == NULL)
		drop(a);
	drop(a);
	return 0;
}

/* "-f" in a bundle of short options, at argv[in][i]; the options before it stay. */
static int take_short_filter(struct args *a, size_t i)
{
	char *arg = a->argv[a->in];
	const char *value = arg + i + 1;
	bool separate = *value == '\0';

	if (separate) {
		if (a->in + 1 >= a->n)
			return no_value(a);
		value = a->argv[a->in + 1];
	} else if (*value == '=') {
		value++;
	}
	if (add_filter_arg(a, value) != 0)
		return -1;
	if (i == 1) {
		drop(a);
	} else {
		arg[i] = '\0';
		keep(a);
	}
	if (separate)
		drop(a);
	return 0;
}

static int take_short(struct args *a)
{
	const char *arg = a->argv[a->in];

	for (size_t i = 1; arg[i] != '\0'; i++) {
		switch (arg[i]) {
		case 'f':
			return take_short_filter(a, i);
		case 'C':
			return refuse_cvs(a, "-C");
		case 'F':
			return refuse_cvs(a, "-F");
		case '0':
			a->from0 = true;
			break;
		case 'B':
		case 'M':
		case 'T':
		case 'e':
		case '@':
			keep(a);
			if (arg[i + 1] == '\0' && a->in < a->n)
				keep(a);
			return 0;
		default:
			break;
		}
	}
	keep(a);
	return 0;
}

int filter_add_rsync_args(struct filter *f, char **argv, size_t *n, filter_read_file *read_file, void *ctx,
			  void (*free_arg)(char *arg), struct err *err)
{
	struct args a = { .f = f, .argv = argv, .n = *n, .read_file = read_file, .ctx = ctx };
	int rc = 0;

	a.free_arg = free_arg;
	a.err = err;
	while (rc == 0 && a.in < a.n) {
		const char *arg = argv[a.in];

		if (strcmp(arg, "--") == 0)
			break;
		if (strncmp(arg, "--", 2) == 0)
			rc = take_long(&a);
		else if (arg[0] == '-')
			rc = take_short(&a);
		else
			keep(&a);
	}
	while (a.in < a.n)
		keep(&a);
	argv[a.out] = NULL;
	*n = a.out;
	return rc;
}
