/*
 * mirror_alike.h - a digest of a directory's listing: where both ends have the same, nothing is to be done there but to
 * go on below. Pure.
 *
 * It covers all that mirror_rules.h compares under a sync's rules: if the digests of two listings are equal, and
 * nothing were to be done if the source had just what the target has (mirror_settled), then nothing is to be done.
 * Beyond that it may cover more than the rules ask for: what differs only there is looked at entry by entry, and found
 * equal.
 */
#ifndef FANSYNCD_TRANSPORTS_MIRROR_ALIKE_H
#define FANSYNCD_TRANSPORTS_MIRROR_ALIKE_H

#include <stdbool.h>
#include <stddef.h>

#include "transports/fileops.h"
#include "transports/mirror_rules.h"

#define MIRROR_ALIKE_BYTES 16u

/* What counts beside name, kind, size, a file's or node's time, a device's number and a symlink's text. On the wire. */
enum mirror_alike_field {
	MIRROR_ALIKE_MODE = 1u << 0,
	MIRROR_ALIKE_OWNER = 1u << 1,
	MIRROR_ALIKE_GROUP = 1u << 2,
	MIRROR_ALIKE_DIR_TIMES = 1u << 3,
	MIRROR_ALIKE_LINK_TIMES = 1u << 4,
	MIRROR_ALIKE_NAMES = 1u << 5, /* whether it has several */
	MIRROR_ALIKE_FIELDS = 63u,
};

/* The fields that count under these rules. false: under them a digest does not tell. */
bool mirror_alike_fields(const struct mirror_rules *r, unsigned *fields);

struct mirror_alike;

/* NULL when out of memory. */
struct mirror_alike *mirror_alike_new(void);
void mirror_alike_free(struct mirror_alike *s);
void mirror_alike_begin(struct mirror_alike *s, unsigned fields);
/* In the order of the listing. `text`: of a symlink. */
void mirror_alike_add(struct mirror_alike *s, const struct fileops_entry *e, const char *text, size_t text_len);
void mirror_alike_end(struct mirror_alike *s, unsigned char out[MIRROR_ALIKE_BYTES]);

#endif
