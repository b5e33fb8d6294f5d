/* value.c - values by the table: checked and stored, defaults, comparison, release. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "config/private.h"
#include "core/tunnel_port.h"

#define NS_PER_S INT64_C(1000000000)

static void *field_of(const struct config_key *k, void *base)
{
	return (char *)base + k->offset;
}

static const void *field_in(const struct config_key *k, const void *base)
{
	return (const char *)base + k->offset;
}

static const char *kind_name(enum config_kind kind)
{
	static const char *const names[] = { "a boolean", "an integer", "a floating-point number",
					     "a string",  "a list",	"a group" };

	return names[kind];
}

static int wrong_type(const struct config_key *k, const struct config_value *v, struct err *err, const char *expected)
{
	return err_set(err, ERR_CONFIG, "%s: expected %s, not %s", k->name, expected, kind_name(v->kind));
}

static int store_bool(const struct config_key *k, const struct config_value *v, bool *field, struct err *err)
{
	if (v->kind != VALUE_BOOL)
		return wrong_type(k, v, err, "true or false");
	*field = v->b;
	return 0;
}

static int store_int(const struct config_key *k, const struct config_value *v, int64_t *field, struct err *err)
{
	bool may_be_auto = (k->flags & KEY_AUTO) != 0;

	if (may_be_auto && v->kind == VALUE_STRING && strcmp(v->s, "auto") == 0) {
		*field = -1;
		return 0;
	}
	if ((k->flags & KEY_PORT) != 0 && v->kind == VALUE_STRING && strcmp(v->s, TUNNEL_PORT_WORD) == 0) {
		*field = OPTIONS_TUNNEL_PORT;
		return 0;
	}
	if (v->kind != VALUE_INT)
		return wrong_type(k, v, err,
				  may_be_auto		       ? "an integer or \"auto\""
				  : (k->flags & KEY_PORT) != 0 ? "an integer or \"" TUNNEL_PORT_WORD "\""
							       : "an integer");
	if (v->i < k->min || v->i > k->max)
		return err_set(err, ERR_CONFIG, "%s: %" PRId64 " is not between %" PRId64 " and %" PRId64, k->name,
			       v->i, k->min, k->max);
	*field = v->i;
	return 0;
}

static int store_time(const struct config_key *k, const struct config_value *v, int64_t *field, struct err *err)
{
	double seconds = v->kind == VALUE_INT ? (double)v->i : v->f;

	if (v->kind != VALUE_INT && v->kind != VALUE_FLOAT)
		return wrong_type(k, v, err, "a number of seconds");
	/* Written so that NaN fails. */
	if (!(seconds >= (double)k->min && seconds <= (double)k->max))
		return err_set(err, ERR_CONFIG, "%s: %g is not between %" PRId64 " and %" PRId64 " seconds", k->name,
			       seconds, k->min, k->max);
	*field = v->kind == VALUE_INT ? v->i * NS_PER_S : (int64_t)llroundl((long double)seconds * NS_PER_S);
	return 0;
}

static bool is_credential(const struct config_key *k, const char *s)
{
	return (k->flags & KEY_CREDENTIAL) != 0 && strncmp(s, CREDENTIAL_PREFIX, strlen(CREDENTIAL_PREFIX)) == 0;
}

/* Its path in the service. Elsewhere, for --check, the text stays: nobody but the service gets to see it. */
static char *credential(const struct config_key *k, const char *s, struct err *err)
{
	const char *dir = secure_getenv("CREDENTIALS_DIRECTORY"), *name = s + strlen(CREDENTIAL_PREFIX);
	char *path = NULL;

	if (strchr(name, '/') != NULL || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		(void)err_set(err, ERR_CONFIG, "%s: \"%.200s\": no name of a credential", k->name, s);
		return NULL;
	}
	if (dir == NULL || dir[0] != '/')
		path = strdup(s);
	else if (asprintf(&path, "%s%s%s", dir, name[0] == '\0' ? "" : "/", name) < 0)
		path = NULL;
	if (path == NULL)
		(void)err_set(err, ERR_NOMEM, "out of memory");
	return path;
}

/* Paths that a program is to look up or to expand itself stay as they are. */
static bool left_alone(const struct config_key *k, const char *s)
{
	if ((k->flags & KEY_TILDE) != 0 && s[0] == '~')
		return true;
	return k->type == TYPE_STRING && ((k->flags & KEY_COMMAND) == 0 || strchr(s, '/') == NULL);
}

static int store_string(const struct config_key *k, const struct config_value *v, char **field, struct err *err)
{
	char *copy;

	if (v->kind != VALUE_STRING)
		return wrong_type(k, v, err, "a string");
	if (v->s[0] == '\0' && (k->flags & KEY_NONEMPTY) != 0)
		return err_set(err, ERR_CONFIG, "%s: must not be empty", k->name);
	if (is_credential(k, v->s)) {
		copy = credential(k, v->s, err);
		if (copy == NULL)
			return -1;
	} else if (left_alone(k, v->s)) {
		copy = strdup(v->s);
		if (copy == NULL)
			return err_set(err, ERR_NOMEM, "out of memory");
	} else {
		if (v->s[0] == '~' && (v->s[1] == '/' || v->s[1] == '\0'))
			return err_set(err, ERR_CONFIG, "%s: \"~\" is not expanded here, write the whole path",
				       k->name);
		copy = config_absolute(v->s, v->dir, err);
		if (copy == NULL)
			return -1;
	}
	free(*field);
	*field = copy;
	return 0;
}

static int store_list(const struct config_key *k, const struct config_value *v, struct strlist *field, struct err *err)
{
	struct strlist copy = { 0 };
	int rc = 0;

	if (v->kind == VALUE_STRING) {
		if ((k->flags & KEY_WORDS) != 0 && strpbrk(v->s, " \t") != NULL)
			return err_set(err, ERR_CONFIG, "%s: write several words as a list, [ \"one\", \"two\" ]",
				       k->name);
		rc = strlist_add(&copy, v->s);
	} else if (v->kind != VALUE_LIST) {
		return wrong_type(k, v, err, "a string or a list of strings");
	} else {
		for (size_t i = 0; rc == 0 && i < v->items.n; i++)
			rc = strlist_add(&copy, v->items.v[i]);
	}
	if (rc != 0) {
		strlist_done(&copy);
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	strlist_done(field);
	*field = copy;
	return 0;
}

static int bad_choice(const struct config_key *k, const char *word, struct err *err)
{
	const char *words[32];
	const char *near;
	char text[ERR_TEXT_MAX / 2];
	size_t n = 0, len = 0;

	text[0] = '\0';
	for (; n < 32 && k->choices[n].word != NULL; n++) {
		words[n] = k->choices[n].word;
		if (len < sizeof(text))
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", n == 0 ? "" : ", ", words[n]);
	}
	near = config_suggest(words, n, word);
	if (near != NULL)
		return err_set(err, ERR_CONFIG, "%s: \"%s\" is none of %s; did you mean \"%s\"?", k->name, word, text,
			       near);
	return err_set(err, ERR_CONFIG, "%s: \"%s\" is none of %s", k->name, word, text);
}

static int store_choice(const struct config_key *k, const struct config_value *v, void *field, struct err *err)
{
	const char *word = v->kind == VALUE_STRING				 ? v->s
			   : v->kind == VALUE_BOOL && k->flags & KEY_CHOICE_BOOL ? (v->b ? "true" : "false")
										 : NULL;
	bool number = v->kind == VALUE_INT && (k->flags & KEY_CHOICE_NUM) != 0;

	if (word == NULL && !number)
		return wrong_type(k, v, err,
				  (k->flags & KEY_CHOICE_BOOL) != 0  ? "a boolean or a string"
				  : (k->flags & KEY_CHOICE_NUM) != 0 ? "a string or an integer"
								     : "a string");
	for (const struct config_choice *c = k->choices; c->word != NULL; c++)
		if (number ? v->i == c->value : strcasecmp(word, c->word) == 0) {
			memcpy(field, &c->value, sizeof(c->value));
			return 0;
		}
	if (number)
		return err_set(err, ERR_CONFIG, "%s: %" PRId64 " is no number of <syslog.h>; better use its name",
			       k->name, v->i);
	return bad_choice(k, word, err);
}

int config_value_store(const struct config_key *k, const struct config_value *v, void *base, struct err *err)
{
	switch (k->type) {
	case TYPE_BOOL:
		return store_bool(k, v, field_of(k, base), err);
	case TYPE_INT:
		return store_int(k, v, field_of(k, base), err);
	case TYPE_TIME:
		return store_time(k, v, field_of(k, base), err);
	case TYPE_STRING:
	case TYPE_PATH:
		return store_string(k, v, field_of(k, base), err);
	case TYPE_LIST:
		return store_list(k, v, field_of(k, base), err);
	case TYPE_CHOICE:
		return store_choice(k, v, field_of(k, base), err);
	case TYPE_IGNORED:
		return 0;
	}
	return err_set(err, ERR_BUG, "%s: unknown type", k->name);
}

static int bool_from_text(const struct config_key *k, const char *text, struct config_value *v, struct err *err)
{
	v->kind = VALUE_BOOL;
	v->b = strcmp(text, "true") == 0;
	if (!v->b && strcmp(text, "false") != 0)
		return err_set(err, ERR_CONFIG, "%s: \"%s\" is neither true nor false", k->name, text);
	return 0;
}

static int number_from_text(const struct config_key *k, const char *text, struct config_value *v, struct err *err)
{
	char *end = NULL;

	errno = 0;
	v->kind = VALUE_INT;
	v->i = strtoll(text, &end, 10);
	if (end != text && *end == '\0' && errno == 0)
		return 0;
	if (k->type == TYPE_TIME) {
		v->kind = VALUE_FLOAT;
		v->f = strtod(text, &end);
		if (end != text && *end == '\0')
			return 0;
	}
	return err_set(err, ERR_CONFIG, "%s: \"%s\" is not %s", k->name, text,
		       k->type == TYPE_TIME ? "a number of seconds" : "an integer in range");
}

int config_value_from_text(const struct config_key *k, const char *text, struct config_value *v, struct err *err)
{
	*v = (struct config_value){ .kind = VALUE_STRING, .s = text };
	if (k->type == TYPE_BOOL)
		return bool_from_text(k, text, v, err);
	if ((k->flags & KEY_AUTO) != 0 && strcmp(text, "auto") == 0)
		return 0;
	if (k->type == TYPE_INT || k->type == TYPE_TIME)
		return number_from_text(k, text, v, err);
	if ((k->flags & KEY_CHOICE_NUM) != 0 && text[0] >= '0' && text[0] <= '9')
		return number_from_text(k, text, v, err);
	return 0;
}

int config_set_defaults(enum config_section section, void *base, struct err *err)
{
	size_t n;
	const struct config_key *table = config_table(&n);
	struct config_value v;

	for (size_t i = 0; i < n; i++)
		if (table[i].section == section && table[i].def != NULL &&
		    (config_value_from_text(&table[i], table[i].def, &v, err) != 0 ||
		     config_value_store(&table[i], &v, base, err) != 0))
			return -1;
	return 0;
}

void config_free_keys(enum config_section section, void *base)
{
	size_t n;
	const struct config_key *table = config_table(&n);

	for (size_t i = 0; i < n; i++) {
		void *field = field_of(&table[i], base);

		if (table[i].section != section)
			continue;
		if (table[i].type == TYPE_STRING || table[i].type == TYPE_PATH) {
			char **s = field;

			free(*s);
			*s = NULL;
		} else if (table[i].type == TYPE_LIST) {
			strlist_done(field);
		}
	}
}

static bool strings_equal(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool lists_equal(const struct strlist *a, const struct strlist *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->v[i], b->v[i]) != 0)
			return false;
	return true;
}

static bool key_equal(const struct config_key *k, const void *a, const void *b)
{
	switch (k->type) {
	case TYPE_BOOL:
		return *(const bool *)a == *(const bool *)b;
	case TYPE_INT:
	case TYPE_TIME:
		return *(const int64_t *)a == *(const int64_t *)b;
	case TYPE_STRING:
	case TYPE_PATH:
		return strings_equal(*(char *const *)a, *(char *const *)b);
	case TYPE_LIST:
		return lists_equal(a, b);
	case TYPE_CHOICE:
		return memcmp(a, b, sizeof(int)) == 0;
	case TYPE_IGNORED:
		return true;
	}
	return false;
}

bool config_key_equal(const struct config_key *k, const void *a, const void *b)
{
	return key_equal(k, field_in(k, a), field_in(k, b));
}

bool config_keys_equal(enum config_section section, const void *a, const void *b)
{
	size_t n;
	const struct config_key *table = config_table(&n);

	for (size_t i = 0; i < n; i++) {
		const struct config_key *k = &table[i];

		if (k->section == section && (k->flags & KEY_FILTER) == 0 && !config_key_equal(k, a, b))
			return false;
	}
	return true;
}

static bool filters_equal(const struct filter *a, const struct filter *b)
{
	if (filter_count(a) != filter_count(b))
		return false;
	for (size_t i = 0; i < filter_count(a); i++)
		if (!strings_equal(filter_rule_text(a, i), filter_rule_text(b, i)))
			return false;
	return true;
}

bool config_sync_equal(const struct sync_options *a, const struct sync_options *b)
{
	return config_keys_equal(SECTION_SYNC, a, b) && config_keys_equal(SECTION_RSYNC, a, b) &&
	       config_keys_equal(SECTION_SSH, a, b) && config_keys_equal(SECTION_EXEC, a, b) &&
	       config_keys_equal(SECTION_TUNNEL, a, b) && filters_equal(a->filter, b->filter);
}

bool config_settings_equal(const struct settings *a, const struct settings *b)
{
	return config_keys_equal(SECTION_SETTINGS, a, b);
}

void config_sync_done(struct sync_options *s)
{
	config_free_keys(SECTION_SYNC, s);
	config_free_keys(SECTION_RSYNC, s);
	config_free_keys(SECTION_SSH, s);
	config_free_keys(SECTION_EXEC, s);
	config_free_keys(SECTION_TUNNEL, s);
	filter_free(s->filter);
	free(s->file);
	*s = (struct sync_options){ 0 };
}

void config_drop_syncs(struct config *c)
{
	for (size_t i = 0; i < c->n_syncs; i++)
		config_sync_done(&c->syncs[i]);
	free(c->syncs);
	c->syncs = NULL;
	c->n_syncs = 0;
}

void config_free(struct config *c)
{
	if (c == NULL)
		return;
	config_drop_syncs(c);
	config_receiver_free(c->receiver);
	config_metrics_free(c->metrics);
	config_free_keys(SECTION_SETTINGS, &c->settings);
	strlist_done(&c->warnings);
	free(c->path);
	free(c);
}
