/*
 * log_entry.h - lines of the log with their fields: as entries of the journal, or as lines of JSON.
 */
#ifndef FANSYNCD_CORE_LOG_ENTRY_H
#define FANSYNCD_CORE_LOG_ENTRY_H

#include "core/log.h"

struct log_journal {
	int fd; /* of core/journal.h; -1: none */
	const char *path;
};

/* log_settings.entry, with a struct log_journal. */
bool log_entry_to_journal(void *ctx, const struct log_entry *e);
/* log_settings.format: {"time":...,"category":...,"message":...} and the fields that there are. */
char *log_entry_json(const struct log_entry *e, size_t *len);

#endif
