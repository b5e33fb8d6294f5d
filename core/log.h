/*
 * log.h - the log: categories as lsyncd's, to a file, standard output or error, syslog, or the daemon (in a worker).
 *
 * The sink is the one piece of process-wide state. Control bytes in messages are escaped (\ooo), so that a file name
 * cannot forge a line. A line is written with one write(2). Never fails visibly: when the log file cannot be written
 * the line goes to standard error and the failure is counted (log_lost).
 */
#ifndef FANSYNCD_CORE_LOG_H
#define FANSYNCD_CORE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

/* lsyncd's category names where it has one; "Normal", "Warn" and "Error" are on by default. */
enum log_category {
	LOG_NONE = 0,
	LOG_CAT_ERROR,
	LOG_CAT_WARN,
	LOG_CAT_NORMAL,
	LOG_CAT_INFO,
	LOG_CAT_EXEC,	/* command lines of children, and what they said */
	LOG_CAT_EVENT,	/* raw kernel events (lsyncd: Inotify, Fsevents) */
	LOG_CAT_RECORD, /* change records (lsyncd: Delay, Call) */
	LOG_CAT_FILTER, /* what the filter dropped (lsyncd: Exclude, Filter) */
	LOG_CAT_ALARM,	/* timers and retries */
	LOG_CAT_STATUS, /* status file (lsyncd: Statusfile) */
	LOG_CAT_DEBUG,
	LOG_CATEGORIES
};

enum log_target {
	LOG_TO_STDERR = 0,
	LOG_TO_FILE,   /* append; reopened by log_reopen */
	LOG_TO_SYSLOG, /* facility and ident of log_open */
	LOG_TO_SINK    /* a function: the worker's way to the daemon */
};

/* What a line is about, for a log that keeps fields apart. Borrowed; each may be NULL. */
struct log_fields {
	const char *sync;
	const char *path; /* path_len bytes, as they are */
	size_t path_len;
	const char *message_id; /* one of core/log_ids.h */
};

/* A line on its way to a log that keeps fields apart. */
struct log_entry {
	enum log_category cat;
	const char *text; /* escaped; text[len] is NUL */
	size_t len;
	struct log_fields fields;
	int priority; /* of <syslog.h> */
	int facility; /* as in log_settings */
	const char *ident;
};

struct log_settings {
	const char *file;  /* NULL: none */
	bool to_syslog;	   /* when there is no file and the process is a daemon */
	bool to_stdout;	   /* foreground: also to standard output (errors: standard error) */
	int facility;	   /* LOG_USER, LOG_DAEMON ... of <syslog.h>, already shifted */
	const char *ident; /* syslog ident */
	/* Where lines go instead of standard output and syslog; false: not taken, then standard error gets it. May be
	 * NULL. */
	bool (*entry)(void *ctx, const struct log_entry *e);
	void *entry_ctx;
	/* The line (malloc'ed, *len bytes, its newline included) that the file and standard output get instead of ours;
	 * NULL: no memory. May be NULL. */
	char *(*format)(const struct log_entry *e, size_t *len);
};

/* Open the sinks. Strings are copied. May be called again (reload): on failure the old sinks stay. */
int log_open(const struct log_settings *s, struct err *err);
/* Reopen the log file by its name (after logrotate). Keeps the old one if that fails. */
int log_reopen(struct err *err);
void log_close(void);
/* Give every line to `sink` instead (NULL: back to the opened sinks). `text` is escaped, without newline. */
void log_set_sink(void (*sink)(void *ctx, enum log_category cat, const char *text, size_t len), void *ctx);
/* A line with fields; in a worker they are lost, and the daemon adds which sync it is. */
void log_event(const struct log_fields *f, enum log_category cat, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Let pass an already escaped line of another process (a worker's). */
void log_forward(enum log_category cat, const char *prefix, const char *text, size_t len);

/* Switch one category, or by lsyncd's words: "all", "scarce", or a category's name (lsyncd's old ones map to ours;
 * unknown names that start with a capital are accepted, as lsyncd does, and return 0 with *known = false). */
int log_enable_word(const char *word, bool *known);
void log_enable(enum log_category cat, bool on);
bool log_enabled(enum log_category cat);
const char *log_category_name(enum log_category cat);
/* Bit set of the enabled categories, to hand them to a worker. */
uint32_t log_mask(void);
void log_set_mask(uint32_t mask);
/* Lines that could not be written since the start. */
uint64_t log_lost(void);
/* One more, which log_settings.entry took and could not keep. */
void log_count_lost(void);

void log_msg(enum log_category cat, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define log_error(...) log_msg(LOG_CAT_ERROR, __VA_ARGS__)
#define log_warn(...) log_msg(LOG_CAT_WARN, __VA_ARGS__)
#define log_normal(...) log_msg(LOG_CAT_NORMAL, __VA_ARGS__)
#define log_info(...)                                                                                                  \
	do {                                                                                                           \
		if (log_enabled(LOG_CAT_INFO))                                                                         \
			log_msg(LOG_CAT_INFO, __VA_ARGS__);                                                            \
	} while (0)
#define log_debug(cat, ...)                                                                                            \
	do {                                                                                                           \
		if (log_enabled(cat))                                                                                  \
			log_msg(cat, __VA_ARGS__);                                                                     \
	} while (0)

/* Escape control bytes and backslashes of `n` bytes into `out` (always NUL-terminated, cut with "..."): for one-line
 * texts that leave by another way than the log. UTF-8 passes; C0, DEL, C1 and broken UTF-8 become \ooo. */
void log_escape(char *out, size_t outsize, const char *s, size_t n);

/* A limiter for messages that may repeat: at most `burst` in `interval_ns`; returns true when this one may be
 * logged and sets *suppressed to how many were not since the last one that was. */
struct log_limit {
	int64_t since_ns;
	unsigned count;
	uint64_t suppressed;
};
bool log_limit_ok(struct log_limit *l, int64_t now_ns, unsigned burst, int64_t interval_ns, uint64_t *suppressed);

#endif
