/*
 * log_entry.h - lines of the log with their fields: as entries of the journal, or as lines of JSON.
 */
#ifndef FANSYNCD_CORE_LOG_ENTRY_H
#define FANSYNCD_CORE_LOG_ENTRY_H

#include <stdint.h>

#include "core/log.h"

struct log_journal {
	int fd; /* of core/journal.h; -1: none */
	const char *path;
	bool stuck;    /* it takes nothing: it is not waited for again until it does */
	uint64_t lost; /* entries that it did not take, not told of yet */
};

/* log_settings.entry, with a struct log_journal. A journal that is there and does not read is waited for a moment;
 * then what it is sent is lost, and counted in the first entry that it takes again: the daemon must not stand still
 * with it, as it would by writing to its standard error, which leads there, too. */
bool log_entry_to_journal(void *ctx, const struct log_entry *e);
/* log_settings.format: {"time":...,"category":...,"message":...} and the fields that there are. */
char *log_entry_json(const struct log_entry *e, size_t *len);

#endif
