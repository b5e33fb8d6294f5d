/*
 * owner_map.h - a receiver's table of whose the sender's files are here: rules "FROM:TO", as rsync's --usermap has
 * them. FROM is a number, a range of numbers (1000-1999), or a name, which may have wildcards (*, ?, [ ]); TO is a
 * number or a name of this host. The first rule that matches counts. Pure.
 */
#ifndef FANSYNCD_CORE_OWNER_MAP_H
#define FANSYNCD_CORE_OWNER_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define OWNER_NAME_MAX 255u

enum owner_kind { OWNER_USER = 1, OWNER_GROUP };

/* Whether that may be somebody's name: 1 to 255 bytes, none of them a control character, ':', ',' or '/'. */
bool owner_name_valid(const char *name, size_t len);

struct strlist;

struct owner_rule {
	bool by_number;
	uint32_t low, high;
	char pattern[OWNER_NAME_MAX + 1];
	uint32_t to;
	char to_name[OWNER_NAME_MAX + 1]; /* "": `to` is it */
};

struct owner_map {
	struct owner_rule *rules;
	size_t n;
};

int owner_rule_parse(const char *text, struct owner_rule *out, struct err *err);
/* All rules; names of this host are not looked up yet (`to_name`). */
int owner_map_parse(const struct strlist *texts, struct owner_map *out, struct err *err);
void owner_map_done(struct owner_map *m);
/* `name`: the sender's name of that number; NULL: not known, but for 0, which is root. */
bool owner_map_find(const struct owner_map *m, uint32_t id, const char *name, uint32_t *to);

#endif
