/*
 * exec_options.c - see exec_options.h. Exit codes beside 0 follow <sysexits.h>, and the shells for 126 and 127.
 */
#include "transports/exec_options.h"

#include <stdlib.h>
#include <string.h>

#define COMMAND_MAX 1000u

struct exit_range {
	int first, last;
	enum exec_word word;
};

static const struct exit_range usual[] = {
	{ 0, 0, EXEC_DONE },	 { 64, 65, EXEC_REJECT }, /* EX_USAGE, EX_DATAERR */
	{ 68, 69, EXEC_DOWN },				  /* EX_NOHOST, EX_UNAVAILABLE */
	{ 76, 77, EXEC_REJECT },			  /* EX_PROTOCOL, EX_NOPERM */
	{ 78, 78, EXEC_DOWN },				  /* EX_CONFIG */
	{ 126, 127, EXEC_DOWN },			  /* the shells: a command can't be run, is not there */
	{ 0, 255, EXEC_RETRY },
};

enum exec_word exec_word_find(const char *s, size_t len)
{
	static const struct {
		const char *text;
		enum exec_word word;
	} words[] = { { "done", EXEC_DONE },	 { "gone", EXEC_GONE },		  { "retry", EXEC_RETRY },
		      { "reject", EXEC_REJECT }, { "reconcile", EXEC_RECONCILE }, { "down", EXEC_DOWN } };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strlen(words[i].text) == len && memcmp(words[i].text, s, len) == 0)
			return words[i].word;
	return EXEC_WORD_NONE;
}

static bool get_code(const char **at, int *out)
{
	char *end;
	long v;

	if (**at < '0' || **at > '9')
		return false;
	v = strtol(*at, &end, 10);
	*at = end;
	*out = (int)v;
	return v >= 0 && v <= 255;
}

static bool parse_range(const char *text, struct exit_range *r)
{
	if (!get_code(&text, &r->first))
		return false;
	r->last = r->first;
	if (*text == '-') {
		text++;
		if (!get_code(&text, &r->last) || r->last < r->first)
			return false;
	}
	if (*text != '=')
		return false;
	r->word = exec_word_find(text + 1, strlen(text + 1));
	return r->word == EXEC_DONE || r->word == EXEC_RETRY || r->word == EXEC_REJECT || r->word == EXEC_DOWN;
}

enum exec_word exec_exit_word(const struct exec_options *o, int code)
{
	struct exit_range r;

	for (size_t i = 0; i < o->exitcodes.n; i++)
		if (parse_range(o->exitcodes.v[i], &r) && code >= r.first && code <= r.last)
			return r.word;
	for (size_t i = 0;; i++)
		if (code >= usual[i].first && code <= usual[i].last)
			return usual[i].word;
}

static int check_lists(const struct exec_options *o, struct err *err)
{
	struct exit_range r;

	for (size_t i = 0; i < o->exitcodes.n; i++)
		if (!parse_range(o->exitcodes.v[i], &r))
			return err_set(err, ERR_CONFIG,
				       "exitcodes: \"%.100s\" is not CODE=WORD or FIRST-LAST=WORD, with codes from 0 "
				       "to 255, and done, retry, reject or down",
				       o->exitcodes.v[i]);
	for (size_t i = 0; i < o->env.n; i++) {
		const char *equals = strchr(o->env.v[i], '=');

		if (equals == NULL || equals == o->env.v[i])
			return err_set(err, ERR_CONFIG, "env: \"%.100s\" is not NAME=value", o->env.v[i]);
		if (strncmp(o->env.v[i], "FANSYNCD_", 9) == 0)
			return err_set(err, ERR_CONFIG, "env: names that begin with FANSYNCD_ are set by fansyncd");
	}
	return 0;
}

int exec_validate(struct sync_options *opt, struct err *err)
{
	struct exec_options *o = &opt->exec;

	if (o->command.n == 0)
		return err_set(err, ERR_CONFIG,
			       "exec.command is missing: exec = { command = [ \"/path/of/program\" ]; };");
	if (o->command.n > COMMAND_MAX)
		return err_set(err, ERR_CONFIG, "exec.command: more than %u words", COMMAND_MAX);
	if (opt->backup_dir != NULL || opt->bandwidth.n > 0)
		return err_set(
			err, ERR_CONFIG,
			opt->backup_dir != NULL
				? "backupDir: the program carries the changes: what it replaces or deletes is "
				  "for it to put away, where it is told nothing of this; leave it out"
				: "bandwidth: the program carries the changes: the rate is for it to limit; leave "
				  "it out");
	if (check_lists(o, err) < 0)
		return -1;
	if (o->format == EXEC_PATHS && (o->persistent || o->answers == EXEC_LINES || o->moves))
		return err_set(
			err, ERR_CONFIG,
			"exec: paths alone have no number to answer to, and no operation: format = \"paths\" goes "
			"with answers = \"status\", without persistent and moves");
	if (o->persistent)
		o->answers = EXEC_LINES;
	/* Otherwise a directory would be a change whenever something in it is one. */
	opt->rsync.times = false;
	return 0;
}
