/* help.c - the table in words: --help-config, --help, and the rows of the manual page. */
#include <inttypes.h>
#include <string.h>

#include "config/private.h"

enum { WIDTH = 110, HELP_INDENT = 21, CLI_INDENT = 29 };

static const char *type_name(const struct config_key *k)
{
	switch (k->type) {
	case TYPE_BOOL:
		return "boolean";
	case TYPE_INT:
		return k->unit != NULL ? k->unit : "integer";
	case TYPE_TIME:
		return "seconds";
	case TYPE_STRING:
		return "string";
	case TYPE_PATH:
		return "path";
	case TYPE_LIST:
		return "string or list";
	case TYPE_CHOICE:
		return "one of";
	case TYPE_IGNORED:
		return "ignored";
	}
	return "";
}

/* Type, range or choices, default: "seconds, 0 to 60, default 10". */
static void put_type(FILE *out, const struct config_key *k)
{
	(void)fputs(type_name(k), out);
	if (k->type == TYPE_CHOICE)
		for (const struct config_choice *c = k->choices; c->word != NULL; c++)
			(void)fprintf(out, "%s %s", c == k->choices ? "" : ",", c->word);
	if (k->type == TYPE_INT || k->type == TYPE_TIME)
		(void)fprintf(out, "%s, %" PRId64 " to %" PRId64,
			      (k->flags & KEY_AUTO) != 0   ? " or auto"
			      : (k->flags & KEY_PORT) != 0 ? " or ${port}"
							   : "",
			      k->min, k->max);
	if (k->def != NULL)
		(void)fprintf(out, "%s default %s", k->type == TYPE_CHOICE ? ";" : ",", k->def);
}

static const char *section_title(enum config_section section)
{
	static const char *const titles[CONFIG_SECTIONS] = {
		"settings = { }",
		"sync = ( { }, ... )",
		"rsync = { } in a sync section; for native transports also the sync section itself",
		"ssh = { } in a sync section",
		"exec = { } in a sync section: the program of the transport exec",
		"tunnel = { } in a sync section: a program that leads to the target, and is kept running",
		"receiver = { }: the receiving end of the tcp transport",
		"modules = ( { }, ... ) in the receiver section",
		"metrics = { }: the state for Prometheus and browsers",
	};

	return titles[section];
}

/* The text in lines of at most WIDTH, those after the first indented. */
static void put_wrapped(FILE *out, const char *text, int indent)
{
	int column = indent;

	while (*text != '\0') {
		int word = (int)strcspn(text, " ");

		if (column + 1 + word > WIDTH && column > indent) {
			(void)fprintf(out, "\n%*s", indent, "");
			column = indent;
		}
		column += fprintf(out, "%s%.*s", column > indent ? " " : "", word, text);
		text += word + (text[word] == ' ' ? 1 : 0);
	}
	(void)fputc('\n', out);
}

void config_help(FILE *out)
{
	size_t n;
	const struct config_key *table = config_table(&n);

	for (size_t i = 0; i < n; i++) {
		const struct config_key *k = &table[i];
		char text[512];

		if (i == 0 || k->section != table[i - 1].section)
			(void)fprintf(out, "%s%s\n", i == 0 ? "" : "\n", section_title(k->section));
		(void)fprintf(out, "  %-18s ", k->name);
		put_type(out, k);
		(void)snprintf(text, sizeof(text), "%s%s%s%s%s%s%s", k->only == NULL ? "" : k->only,
			       k->only == NULL ? "" : ": ", k->help, (k->flags & KEY_CLI) != 0 ? " (also -" : "",
			       (k->flags & KEY_CLI) != 0 ? k->name : "", (k->flags & KEY_CLI) != 0 ? ")" : "",
			       (k->flags & KEY_RESTART) != 0 ? "; a change needs a restart" : "");
		(void)fprintf(out, "\n%*s", HELP_INDENT, "");
		put_wrapped(out, text, HELP_INDENT);
	}
}

/* roff's own characters escaped; a dot or quote can't begin a line here. */
static void put_roff(FILE *out, const char *s)
{
	for (; *s != '\0'; s++) {
		if (*s == '\\')
			(void)fputs("\\e", out);
		else if (*s == '-')
			(void)fputs("\\-", out);
		else if (*s == '~')
			(void)fputs("\\(ti", out);
		else
			(void)fputc(*s, out);
	}
}

void config_help_roff(FILE *out)
{
	size_t n;
	const struct config_key *table = config_table(&n);

	for (size_t i = 0; i < n; i++) {
		const struct config_key *k = &table[i];

		if (i == 0 || k->section != table[i - 1].section)
			(void)fprintf(out, ".SS \"%s\"\n", section_title(k->section));
		(void)fprintf(out, ".TP\n.BR %s \" (", k->name);
		put_type(out, k);
		(void)fputs(")\"\n\\&", out);
		if (k->only != NULL)
			(void)fprintf(out, "%s: ", k->only);
		put_roff(out, k->help);
		if ((k->flags & KEY_CLI) != 0)
			(void)fprintf(out, ". Also on the command line: \\-%s", k->name);
		if ((k->flags & KEY_RESTART) != 0)
			(void)fputs(". A change needs a restart", out);
		(void)fputs(".\n", out);
	}
}

void config_help_cli(FILE *out)
{
	size_t n;
	const struct config_key *table = config_table(&n);

	for (size_t i = 0; i < n; i++) {
		char option[64];
		const struct config_key *k = &table[i];

		if ((k->flags & KEY_CLI) == 0 ||
		    (k->section == SECTION_SYNC && config_key_find(SECTION_SETTINGS, k->name) != NULL &&
		     (config_key_find(SECTION_SETTINGS, k->name)->flags & KEY_CLI) != 0))
			continue;
		(void)snprintf(option, sizeof(option), "-%s%s", k->name,
			       k->type == TYPE_BOOL ? (k->def != NULL && strcmp(k->def, "true") == 0 ? "[=false]" : "")
			       : k->type == TYPE_TIME	? " SECONDS"
			       : k->type == TYPE_PATH	? " PATH"
			       : k->type == TYPE_INT	? " NUMBER"
			       : k->type == TYPE_CHOICE ? " WORD"
							: " TEXT");
		(void)fprintf(out, "  %-26s ", option);
		put_wrapped(out, k->help, CLI_INDENT);
	}
}
