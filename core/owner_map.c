#include "core/owner_map.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "core/options.h"

/* Numbers up to that; the one above means "none" to the kernel. */
#define ID_MAX 4294967294u

bool owner_name_valid(const char *name, size_t len)
{
	if (len == 0 || len > OWNER_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f || strchr(":,/", name[i]) != NULL)
			return false;
	return true;
}

static bool number(const char *text, size_t len, uint32_t *out)
{
	uint64_t v = 0;

	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9' || v > ID_MAX)
			return false;
		v = v * 10 + (uint64_t)(text[i] - '0');
	}
	*out = (uint32_t)v;
	return len > 0 && v <= ID_MAX;
}

static bool copy_name(char out[OWNER_NAME_MAX + 1], const char *text, size_t len)
{
	if (!owner_name_valid(text, len))
		return false;
	memcpy(out, text, len);
	out[len] = '\0';
	return strspn(out, "0123456789") < len; /* else a number that is too large */
}

static bool parse_from(const char *text, size_t len, struct owner_rule *out)
{
	const char *dash = memchr(text, '-', len);
	size_t first = dash == NULL ? len : (size_t)(dash - text);

	out->by_number =
		number(text, first, &out->low) && (dash == NULL || number(dash + 1, len - first - 1, &out->high));
	if (out->by_number && dash == NULL)
		out->high = out->low;
	return out->by_number ? out->low <= out->high : copy_name(out->pattern, text, len);
}

int owner_rule_parse(const char *text, struct owner_rule *out, struct err *err)
{
	const char *colon = strchr(text, ':');

	*out = (struct owner_rule){ 0 };
	if (colon == NULL || strchr(colon + 1, ':') != NULL)
		return err_set(err, ERR_CONFIG,
			       "\"%.100s\" is not FROM:TO, as \"deploy:www-data\" or \"1000-1999:2000\"", text);
	if (!parse_from(text, (size_t)(colon - text), out))
		return err_set(err, ERR_CONFIG, "\"%.100s\": FROM is a number, a range of numbers, or a name", text);
	if (!number(colon + 1, strlen(colon + 1), &out->to) && !copy_name(out->to_name, colon + 1, strlen(colon + 1)))
		return err_set(err, ERR_CONFIG, "\"%.100s\": TO is a number or a name", text);
	return 0;
}

int owner_map_parse(const struct strlist *texts, struct owner_map *out, struct err *err)
{
	*out = (struct owner_map){ 0 };
	if (texts->n == 0)
		return 0;
	out->rules = calloc(texts->n, sizeof(*out->rules));
	if (out->rules == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a table of owners");
	for (; out->n < texts->n; out->n++)
		if (owner_rule_parse(texts->v[out->n], &out->rules[out->n], err) < 0) {
			owner_map_done(out);
			return -1;
		}
	return 0;
}

void owner_map_done(struct owner_map *m)
{
	free(m->rules);
	*m = (struct owner_map){ 0 };
}

bool owner_map_find(const struct owner_map *m, uint32_t id, const char *name, uint32_t *to)
{
	if (name == NULL && id == 0)
		name = "root";
	for (size_t i = 0; i < m->n; i++) {
		const struct owner_rule *r = &m->rules[i];

		/* "*" is for those without a name as well. */
		if (r->by_number ? id < r->low || id > r->high
				 : strcmp(r->pattern, "*") != 0 && (name == NULL || fnmatch(r->pattern, name, 0) != 0))
			continue;
		*to = r->to;
		return true;
	}
	return false;
}
