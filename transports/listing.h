/*
 * listing.h - building and freeing what fileops.list gives. Pure.
 */
#ifndef FANSYNCD_TRANSPORTS_LISTING_H
#define FANSYNCD_TRANSPORTS_LISTING_H

#include <stdbool.h>
#include <stddef.h>

#include "transports/fileops.h"

void listing_init(struct listing *l);
/* Add a name (copied); NULL when out of memory. The entry is zeroed but for its name; fill in st before the next call.
 */
struct fileops_entry *listing_add(struct listing *l, const char *name, size_t len);
/* Take the entry added last out again. */
void listing_drop_last(struct listing *l);
/* Both ways: what is archived of an entry. false: out of memory. */
bool listing_agree(struct listing *l, struct fileops_entry *e, const struct twoway_state *agreed);
/* To be called once when all are in. A name that a server sent twice is kept once. */
void listing_sort(struct listing *l);
void listing_free(struct listing *l);
/* A wish (fileops.h) that leaves nothing out. */
bool listing_keep_all(void *ctx, const char *name, size_t len, bool is_dir);
/* The order of listings. */
int listing_compare(const char *a, size_t alen, const char *b, size_t blen);

#endif
