/*
 * log.c - the log's sinks and formats. The one module with process-wide state.
 */
#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "core/safe_open.h"

#define MASK_ALL (((1u << LOG_CATEGORIES) - 1) & ~1u)
#define MASK_DEFAULT ((1u << LOG_CAT_ERROR) | (1u << LOG_CAT_WARN) | (1u << LOG_CAT_NORMAL))
/* Messages up to this length need no memory; longer ones up to LONG_MAX_BYTES do, and are cut when there is none. */
#define SHORT_BYTES 2048u
#define LONG_BYTES (64u * 1024)
#define STAMP_BYTES 64u

/* An error or warning that comes again and again is told a few times, and how often then. */
#define REPEATS 32u
#define REPEATS_TOLD 5u
#define REPEATS_S 60
#define REPEAT_BYTES 200u
struct repeat {
	uint64_t hash; /* 0: free */
	enum log_category cat;
	time_t since; /* of the first one of this period */
	time_t last;
	uint32_t count; /* in this period */
	char text[REPEAT_BYTES];
};

static struct {
	bool opened;
	bool to_syslog, to_stdout;
	int fd;	   /* of the file; meaningful only with `file` */
	bool torn; /* a full disk took only a part of the last line */
	int facility;
	char *file, *ident;
	time_t looked; /* when the file's name was last compared with fd */
	uint32_t mask;
	uint64_t lost;
	void (*sink)(void *ctx, enum log_category cat, const char *text, size_t len);
	void *sink_ctx;
	bool in_sink;
	bool (*entry)(void *ctx, const struct log_entry *e);
	void *entry_ctx;
	char *(*format)(const struct log_entry *e, size_t *len);
	const struct log_fields *fields; /* of the line that is being delivered */
	struct repeat repeats[REPEATS];
} state = { .fd = -1, .mask = MASK_DEFAULT };

static const char *const names[LOG_CATEGORIES] = {
	[LOG_NONE] = "None",	     [LOG_CAT_ERROR] = "Error",	  [LOG_CAT_WARN] = "Warn",
	[LOG_CAT_NORMAL] = "Normal", [LOG_CAT_INFO] = "Info",	  [LOG_CAT_EXEC] = "Exec",
	[LOG_CAT_EVENT] = "Event",   [LOG_CAT_RECORD] = "Record", [LOG_CAT_FILTER] = "Filter",
	[LOG_CAT_ALARM] = "Alarm",   [LOG_CAT_STATUS] = "Status", [LOG_CAT_DEBUG] = "Debug",
};

/* ---- categories ---- */

const char *log_category_name(enum log_category cat)
{
	return (unsigned)cat < LOG_CATEGORIES ? names[cat] : "Unknown";
}

bool log_enabled(enum log_category cat)
{
	return (unsigned)cat < LOG_CATEGORIES && (state.mask >> cat & 1u) != 0;
}

void log_enable(enum log_category cat, bool on)
{
	if (cat == LOG_NONE || (unsigned)cat >= LOG_CATEGORIES)
		return;
	if (on)
		state.mask |= 1u << cat;
	else
		state.mask &= ~(1u << cat);
}

uint32_t log_mask(void)
{
	return state.mask;
}

void log_set_mask(uint32_t mask)
{
	state.mask = mask & MASK_ALL;
}

uint64_t log_lost(void)
{
	return state.lost;
}

void log_count_lost(void)
{
	state.lost++;
}

static enum log_category category_of_word(const char *word)
{
	/* lsyncd's names for what has another name here. */
	static const struct {
		const char *word;
		enum log_category cat;
	} old[] = {
		{ "Inotify", LOG_CAT_EVENT },	  { "Fsevents", LOG_CAT_EVENT }, { "Fanotify", LOG_CAT_EVENT },
		{ "Delay", LOG_CAT_RECORD },	  { "Call", LOG_CAT_RECORD },	 { "Exclude", LOG_CAT_FILTER },
		{ "Statusfile", LOG_CAT_STATUS }, { "Tunnel", LOG_CAT_EXEC },	 { "Warning", LOG_CAT_WARN },
		{ "Function", LOG_CAT_DEBUG },	  { "FWrite", LOG_CAT_DEBUG },	 { "Masterloop", LOG_CAT_DEBUG },
		{ "traceback", LOG_CAT_DEBUG },
	};

	for (unsigned i = LOG_CAT_ERROR; i < LOG_CATEGORIES; i++)
		if (strcmp(word, names[i]) == 0)
			return (enum log_category)i;
	for (size_t i = 0; i < sizeof(old) / sizeof(old[0]); i++)
		if (strcmp(word, old[i].word) == 0)
			return old[i].cat;
	return LOG_NONE;
}

int log_enable_word(const char *word, bool *known)
{
	enum log_category cat = category_of_word(word);
	bool is_known = true;

	if (strcmp(word, "all") == 0)
		state.mask = MASK_ALL;
	else if (strcmp(word, "scarce") == 0)
		log_enable(LOG_CAT_NORMAL, false);
	else if (cat != LOG_NONE)
		log_enable(cat, true);
	else if (word[0] >= 'A' && word[0] <= 'Z')
		is_known = false;
	else
		return -1;
	if (known != NULL)
		*known = is_known;
	return 0;
}

/* ---- escaping ---- */

/* Length of the valid, printable UTF-8 sequence at s, 0 when there is none. */
static size_t printable(const unsigned char *s, size_t n)
{
	uint32_t c = s[0];
	size_t len;

	if (c < 0x80)
		return c >= 0x20 && c != 0x7f ? 1 : 0;
	if (c < 0xc2 || c > 0xf4)
		return 0;
	len = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	if (n < len)
		return 0;
	c &= 0x7fu >> len;
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0u) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3fu);
	}
	if ((len == 2 && c < 0xa0) || (len == 3 && c < 0x800) || (len == 4 && (c < 0x10000 || c > 0x10ffff)))
		return 0;
	return c >= 0xd800 && c <= 0xdfff ? 0 : len;
}

/* The escaped form of what stands at s into `unit` (room for 4 bytes); *took says how many bytes of s that were. */
static size_t escape_unit(const unsigned char *s, size_t n, bool backslash, char unit[4], size_t *took)
{
	size_t len = printable(s, n);

	if (len == 1 && s[0] == '\\' && backslash) {
		unit[0] = unit[1] = '\\';
		*took = 1;
		return 2;
	}
	if (len > 0) {
		memcpy(unit, s, len);
		*took = len;
		return len;
	}
	unit[0] = '\\';
	unit[1] = (char)('0' + (s[0] >> 6));
	unit[2] = (char)('0' + (s[0] >> 3 & 7));
	unit[3] = (char)('0' + (s[0] & 7));
	*took = 1;
	return 4;
}

static size_t escape(char *out, size_t outsize, const char *s, size_t n, bool backslash)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t len = 0, cut = 0; /* cut: where "..." still fits behind whole units */
	size_t took, unit_len;
	char unit[4];

	if (outsize == 0)
		return 0;
	for (; n > 0; p += took, n -= took) {
		unit_len = escape_unit(p, n, backslash, unit, &took);
		if (outsize - 1 - len < unit_len) {
			len = cut;
			for (size_t i = 0; i < 3 && len < outsize - 1; i++)
				out[len++] = '.';
			break;
		}
		memcpy(out + len, unit, unit_len);
		len += unit_len;
		if (len + 3 <= outsize - 1)
			cut = len;
	}
	out[len] = '\0';
	return len;
}

void log_escape(char *out, size_t outsize, const char *s, size_t n)
{
	(void)escape(out, outsize, s, n, true);
}

/* ---- sinks ---- */

static int open_file(const char *path, struct err *err)
{
	struct err why = ERR_INIT;
	int fd = safe_open(path, O_WRONLY | O_APPEND | O_CREAT, 0640, &why);

	if (fd < 0) {
		err_set(err, why.class, "can't open the log file: %s", why.text);
		if (err != NULL)
			err->code = why.code;
	}
	return fd;
}

static int copy_string(char **out, const char *s)
{
	*out = s == NULL ? NULL : strdup(s);
	return s != NULL && *out == NULL ? -1 : 0;
}

int log_open(const struct log_settings *s, struct err *err)
{
	char *file = NULL, *ident = NULL;
	int fd = -1;

	if (copy_string(&file, s->file) < 0 || copy_string(&ident, s->ident) < 0) {
		free(file);
		return err_set(err, ERR_NOMEM, "out of memory for the log");
	}
	if (file != NULL) {
		fd = open_file(file, err);
		if (fd < 0) {
			free(file);
			free(ident);
			return -1;
		}
	}
	log_close();
	state.opened = true;
	state.file = file;
	state.fd = fd;
	state.ident = ident;
	state.facility = s->facility;
	state.to_stdout = s->to_stdout;
	state.entry = file == NULL ? s->entry : NULL;
	state.entry_ctx = s->entry_ctx;
	state.format = s->format;
	state.to_syslog = s->to_syslog && file == NULL && state.entry == NULL;
	if (state.to_syslog)
		openlog(ident != NULL ? ident : "fansyncd", LOG_PID, state.facility);
	return 0;
}

int log_reopen(struct err *err)
{
	int fd;

	if (state.file == NULL)
		return 0;
	fd = open_file(state.file, err);
	if (fd < 0)
		return -1;
	(void)close(state.fd);
	state.fd = fd;
	state.torn = false;
	return 0;
}

void log_close(void)
{
	if (state.to_syslog)
		closelog(); /* before the ident goes: syslog keeps the pointer */
	if (state.fd >= 0)
		(void)close(state.fd);
	free(state.file);
	free(state.ident);
	state.file = state.ident = NULL;
	state.fd = -1;
	state.torn = false;
	state.opened = state.to_syslog = state.to_stdout = false;
	state.entry = NULL;
	state.format = NULL;
}

void log_set_sink(void (*sink)(void *ctx, enum log_category cat, const char *text, size_t len), void *ctx)
{
	state.sink = sink;
	state.sink_ctx = ctx;
}

static ssize_t write_some(int fd, const char *line, size_t len)
{
	ssize_t n;

	do
		n = write(fd, line, len);
	while (n < 0 && errno == EINTR);
	return n;
}

/* Whole or not at all as far as we can tell: what a full disk took half of is lost. */
static bool write_line(int fd, const char *line, size_t len)
{
	return write_some(fd, line, len) == (ssize_t)len;
}

/* A log file that was renamed or removed under us is found by its name again, signal or not, as with lsyncd (which
 * opens it for every line). Once a second is enough. */
static void follow_name(time_t now)
{
	struct stat by_name, by_fd;

	if (now == state.looked)
		return;
	state.looked = now;
	if (fstat(state.fd, &by_fd) < 0 || !S_ISREG(by_fd.st_mode))
		return;
	if (stat(state.file, &by_name) < 0 || by_name.st_dev != by_fd.st_dev || by_name.st_ino != by_fd.st_ino)
		(void)log_reopen(NULL); /* when that fails the old one is better than none */
}

static int priority(enum log_category cat)
{
	switch (cat) {
	case LOG_CAT_ERROR:
		return LOG_ERR;
	case LOG_CAT_WARN:
		return LOG_WARNING;
	case LOG_CAT_NORMAL:
		return LOG_NOTICE;
	case LOG_CAT_INFO:
		return LOG_INFO;
	default:
		return LOG_DEBUG;
	}
}

/* "STAMP Cat: text\n" into `line`, whose size is enough by construction. */
static size_t compose(char *line, size_t size, bool with_date, const struct tm *tm, enum log_category cat,
		      const char *text, size_t len)
{
	size_t at = with_date ? strftime(line, STAMP_BYTES / 2, "%a %b %e %H:%M:%S %Y", tm)
			      : strftime(line, STAMP_BYTES / 2, "%H:%M:%S", tm);
	int n = snprintf(line + at, size - at, " %s: ", log_category_name(cat));

	at += n > 0 ? (size_t)n : 0;
	memcpy(line + at, text, len);
	line[at + len] = '\n';
	return at + len + 1;
}

static struct log_entry entry_of(enum log_category cat, const char *text, size_t len)
{
	struct log_entry e = { .cat = cat,
			       .text = text,
			       .len = len,
			       .priority = priority(cat),
			       .facility = state.facility,
			       .ident = state.ident != NULL ? state.ident : "fansyncd" };

	if (state.fields != NULL)
		e.fields = *state.fields;
	return e;
}

static void write_to_file(const char *line, size_t len, time_t now, bool *lost)
{
	ssize_t n = -1;

	follow_name(now);
	if (state.torn && write_line(state.fd, "\n", 1)) /* what comes next stands in a line of its own */
		state.torn = false;
	if (!state.torn)
		n = write_some(state.fd, line, len);
	if (n > 0 && (size_t)n < len)
		state.torn = true;
	*lost = n != (ssize_t)len;
	state.lost += *lost ? 1 : 0;
}

static void write_to_terminal(enum log_category cat, const char *line, size_t len, bool lost)
{
	if (state.to_stdout && cat != LOG_CAT_ERROR && !lost)
		(void)write_line(STDOUT_FILENO, line, len);
	else if (state.to_stdout || lost || (state.file == NULL && !state.to_syslog))
		(void)write_line(STDERR_FILENO, line, len);
}

/* false: no memory; the ordinary line will do. */
static bool write_formatted(const struct log_entry *e, time_t now)
{
	size_t len;
	char *line = state.format(e, &len);
	bool lost = false;

	if (line == NULL)
		return false;
	if (state.file != NULL)
		write_to_file(line, len, now, &lost);
	write_to_terminal(e->cat, line, len, lost);
	free(line);
	return true;
}

static void write_sinks(enum log_category cat, const char *text, size_t len, char *line, size_t size)
{
	struct log_entry e = entry_of(cat, text, len);
	time_t now = time(NULL);
	struct tm tm = { 0 };
	bool lost = false;

	if (state.entry != NULL && state.entry(state.entry_ctx, &e))
		return;
	if (state.to_syslog)
		syslog(priority(cat), "%s, %s", log_category_name(cat), text);
	if (state.format != NULL && write_formatted(&e, now))
		return;
	(void)localtime_r(&now, &tm);
	if (state.file != NULL)
		write_to_file(line, compose(line, size, true, &tm, cat, text, len), now, &lost);
	write_to_terminal(cat, line, compose(line, size, false, &tm, cat, text, len), lost);
}

/* ---- repetitions ---- */

static uint64_t hash_of(enum log_category cat, const char *text, size_t len)
{
	uint64_t h = 14695981039346656037u ^ (uint64_t)cat;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)text[i]) * 1099511628211u;
	return h == 0 ? 1 : h;
}

/* The period is over: say how often it came that was not told. */
static void end_repeat(struct repeat *r, char *line, size_t size)
{
	char text[REPEAT_BYTES + 64];
	int n;

	if (r->count > REPEATS_TOLD) {
		n = snprintf(text, sizeof(text), "repeated %u times in %ld s: %s", r->count - REPEATS_TOLD,
			     (long)(r->last - r->since), r->text);
		if (n > 0)
			write_sinks(r->cat, text, strlen(text), line, size);
	}
	r->hash = 0;
}

static struct repeat *find_repeat(uint64_t hash, time_t now, char *line, size_t size)
{
	struct repeat *found = NULL, *rarest = &state.repeats[0];

	for (size_t i = 0; i < REPEATS; i++) {
		struct repeat *r = &state.repeats[i];

		if (r->hash != 0 && (now - r->since >= REPEATS_S || now < r->since))
			end_repeat(r, line, size);
		if (r->hash == hash)
			found = r;
		if (r->hash == 0 || (rarest->hash != 0 && r->count < rarest->count))
			rarest = r;
	}
	if (found != NULL)
		return found;
	if (rarest->hash != 0)
		end_repeat(rarest, line, size);
	return rarest;
}

/* Whether this line was told often enough lately. */
static bool is_repeated(enum log_category cat, const char *text, size_t len, char *line, size_t size)
{
	const struct log_fields *fields = state.fields;
	time_t now = time(NULL);
	struct repeat *r;
	uint64_t hash;

	if (cat != LOG_CAT_ERROR && cat != LOG_CAT_WARN)
		return false;
	hash = hash_of(cat, text, len);
	state.fields = NULL; /* those of this line are not those of the ones that are told of */
	r = find_repeat(hash, now, line, size);
	state.fields = fields;
	if (r->hash == 0) {
		*r = (struct repeat){ .hash = hash, .cat = cat, .since = now };
		(void)escape(r->text, sizeof(r->text), text, len, false);
	}
	r->last = now;
	r->count++;
	return r->count > REPEATS_TOLD;
}

/* Deliver an escaped text: text[len] is NUL. */
static void deliver(enum log_category cat, const char *text, size_t len)
{
	char space[4 * SHORT_BYTES + STAMP_BYTES];
	char *line = space;
	size_t size = len + STAMP_BYTES;
	int saved = errno;

	if (state.sink != NULL && !state.in_sink) {
		state.in_sink = true; /* what the sink itself logs goes to the opened sinks */
		state.sink(state.sink_ctx, cat, text, len);
		state.in_sink = false;
		errno = saved;
		return;
	}
	if (size > sizeof(space)) {
		line = malloc(size);
		if (line == NULL) {
			line = space;
			len = sizeof(space) - STAMP_BYTES;
		}
		size = line == space ? sizeof(space) : size;
	}
	if (!is_repeated(cat, text, len, line, line == space ? sizeof(space) : size))
		write_sinks(cat, text, len, line, line == space ? sizeof(space) : size);
	if (line != space)
		free(line);
	errno = saved;
}

/* Escape and deliver `prefix` (or NULL) and n bytes. */
static void escape_and_deliver(enum log_category cat, const char *prefix, const char *s, size_t n, bool backslash)
{
	char space[4 * SHORT_BYTES + 1];
	size_t plen = prefix == NULL ? 0 : strlen(prefix);
	size_t size = 4 * (plen + n) + 8, at = 0;
	char *out = space;

	if (size > sizeof(space)) {
		out = malloc(size);
		if (out == NULL) {
			out = space;
			size = sizeof(space);
		}
	} else {
		size = sizeof(space);
	}
	if (prefix != NULL) {
		at = escape(out, size - 4, prefix, plen, true);
		out[at++] = ':';
		out[at++] = ' ';
	}
	at += escape(out + at, size - at, s, n, backslash);
	deliver(cat, out, at);
	if (out != space)
		free(out);
}

void log_forward(enum log_category cat, const char *prefix, const char *text, size_t len)
{
	const struct log_fields fields = { .sync = prefix };

	if (cat == LOG_NONE || (unsigned)cat >= LOG_CATEGORIES)
		cat = LOG_CAT_WARN; /* it comes from another process: rather seen than dropped */
	if (!log_enabled(cat))
		return;
	/* Escaped already, they say. What is not must not forge a line either; backslashes are theirs. */
	state.fields = &fields;
	escape_and_deliver(cat, prefix, text, len < LONG_BYTES ? len : LONG_BYTES, false);
	state.fields = NULL;
}

static void __attribute__((format(printf, 2, 0))) log_va(enum log_category cat, const char *fmt, va_list ap)
{
	char space[SHORT_BYTES];
	char *text = space, *more = NULL;
	int saved = errno; /* %m, and the caller's own use of it afterwards */
	va_list again;
	int n;

	va_copy(again, ap);
	n = vsnprintf(space, sizeof(space), fmt, ap);
	if (n >= (int)sizeof(space)) {
		size_t want = (size_t)n < LONG_BYTES ? (size_t)n + 1 : LONG_BYTES;

		more = malloc(want);
		errno = saved;
		if (more != NULL && vsnprintf(more, want, fmt, again) >= 0)
			text = more;
	}
	va_end(again);
	if (n >= 0)
		escape_and_deliver(cat, NULL, text, strlen(text), true);
	free(more);
	errno = saved;
}

void log_msg(enum log_category cat, const char *fmt, ...)
{
	va_list ap;

	if (!log_enabled(cat))
		return;
	va_start(ap, fmt);
	log_va(cat, fmt, ap);
	va_end(ap);
}

void log_event(const struct log_fields *f, enum log_category cat, const char *fmt, ...)
{
	va_list ap;

	if (!log_enabled(cat))
		return;
	state.fields = f;
	va_start(ap, fmt);
	log_va(cat, fmt, ap);
	va_end(ap);
	state.fields = NULL;
}

/* ---- limiter ---- */

bool log_limit_ok(struct log_limit *l, int64_t now_ns, unsigned burst, int64_t interval_ns, uint64_t *suppressed)
{
	*suppressed = 0;
	if (l->count == 0 || now_ns < l->since_ns || now_ns - l->since_ns >= interval_ns) {
		l->since_ns = now_ns;
		l->count = 0;
	}
	if (l->count >= burst) {
		l->suppressed++;
		return false;
	}
	l->count++;
	*suppressed = l->suppressed;
	l->suppressed = 0;
	return true;
}
