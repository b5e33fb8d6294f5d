/* run.c - the state of one run of the reader: errors, warnings, and the syncs being made. */
#include <stdlib.h>
#include <string.h>

#include "config/private.h"

static char *__attribute__((format(printf, 2, 0))) message(struct config_place at, const char *fmt, va_list ap)
{
	char *text = NULL, *full = NULL;

	if (vasprintf(&text, fmt, ap) < 0)
		return NULL;
	if (at.file == NULL)
		return text;
	if (at.line > 0 ? asprintf(&full, "%s:%d: %s", at.file, at.line, text) < 0
			: asprintf(&full, "%s: %s", at.file, text) < 0)
		full = NULL;
	free(text);
	return full;
}

void config_error(struct config_run *run, struct config_place at, const char *fmt, ...)
{
	va_list ap;
	char *text;

	run->failed = true;
	if (run->errors->n >= CONFIG_ERRORS_MAX) {
		run->dropped++;
		return;
	}
	va_start(ap, fmt);
	text = message(at, fmt, ap);
	va_end(ap);
	if (text != NULL)
		(void)strlist_add(run->errors, text);
	free(text);
}

void config_warn(struct config_run *run, struct config_place at, const char *fmt, ...)
{
	va_list ap;
	char *text;

	if (run->c->warnings.n >= CONFIG_ERRORS_MAX)
		return;
	va_start(ap, fmt);
	text = message(at, fmt, ap);
	va_end(ap);
	if (text == NULL || strlist_add(&run->c->warnings, text) != 0)
		config_out_of_memory(run);
	free(text);
}

void config_out_of_memory(struct config_run *run)
{
	run->failed = true;
	(void)strlist_add(run->errors, "out of memory");
}

bool config_draft_given(const struct config_draft *d, const char *key, enum config_section section)
{
	const struct config_key *k = config_key_find(section, key);

	return k != NULL && d->at[config_key_index(k)].file != NULL;
}

struct config_place config_draft_place(const struct config_draft *d, const char *key, enum config_section section)
{
	const struct config_key *k = config_key_find(section, key);

	return k != NULL && d->at[config_key_index(k)].file != NULL ? d->at[config_key_index(k)] : d->section;
}

static int grow(struct config_run *run)
{
	size_t cap = run->cap_syncs == 0 ? 8 : 2 * run->cap_syncs;
	struct sync_options *syncs = realloc(run->c->syncs, cap * sizeof(*syncs));
	struct config_draft *drafts;

	if (syncs == NULL)
		return -1;
	run->c->syncs = syncs;
	drafts = realloc(run->drafts, cap * sizeof(*drafts));
	if (drafts == NULL)
		return -1;
	run->drafts = drafts;
	run->cap_syncs = cap;
	return 0;
}

struct sync_options *config_add_sync(struct config_run *run, struct config_place at, struct config_draft **draft)
{
	struct sync_options *s;
	struct err err = ERR_INIT;
	size_t i = run->c->n_syncs;

	if (i >= CONFIG_SYNCS_MAX) {
		config_error(run, at, "more than %d sync sections", CONFIG_SYNCS_MAX);
		return NULL;
	}
	if (i == run->cap_syncs && grow(run) != 0) {
		config_out_of_memory(run);
		return NULL;
	}
	s = &run->c->syncs[i];
	*s = (struct sync_options){ .line = at.line };
	run->drafts[i] = (struct config_draft){ .section = at };
	run->c->n_syncs++;
	s->file = strdup(at.file);
	if (s->file == NULL || config_set_defaults(SECTION_SYNC, s, &err) != 0 ||
	    config_set_defaults(SECTION_RSYNC, s, &err) != 0 || config_set_defaults(SECTION_SSH, s, &err) != 0 ||
	    config_set_defaults(SECTION_EXEC, s, &err) != 0 || config_set_defaults(SECTION_TUNNEL, s, &err) != 0) {
		config_out_of_memory(run);
		return NULL;
	}
	*draft = &run->drafts[i];
	return s;
}
