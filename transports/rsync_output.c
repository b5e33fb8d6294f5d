/*
 * rsync_output.c - the parser of rsync's output; see rsync_output.h. One parser serves both streams, because a remote
 * rsync's messages may come on either.
 */
#include "transports/rsync_output.h"

#include <string.h>

#include "core/path.h"

void rsync_output_init(struct rsync_output *o, void (*event)(void *ctx, const struct rsync_event *ev), void *ctx)
{
	buf_init(&o->line, RSYNC_LINE_MAX);
	buf_init(&o->name, RSYNC_LINE_MAX);
	o->skipping = false;
	o->event = event;
	o->ctx = ctx;
}

void rsync_output_done(struct rsync_output *o)
{
	buf_done(&o->line);
	buf_done(&o->name);
}

static bool octal(char c)
{
	return c >= '0' && c <= '7';
}

void rsync_decode_name(struct buf *out, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (len - i >= 5 && s[i] == '\\' && s[i + 1] == '#' && s[i + 2] >= '0' && s[i + 2] <= '3' &&
		    octal(s[i + 3]) && octal(s[i + 4])) {
			unsigned value = (unsigned)(s[i + 2] - '0') * 64 + (unsigned)(s[i + 3] - '0') * 8 +
					 (unsigned)(s[i + 4] - '0');

			(void)buf_add_byte(out, (unsigned char)value);
			i += 4;
		} else {
			(void)buf_add_byte(out, (unsigned char)s[i]);
		}
	}
}

static void emit_name(struct rsync_output *o, struct rsync_event *ev, const char *s, size_t len)
{
	buf_clear(&o->name);
	rsync_decode_name(&o->name, s, len);
	if (o->name.failed)
		return;
	ev->name = o->name.data == NULL ? "" : o->name.data;
	ev->len = o->name.len;
	/* A directory's slash is rsync's decoration. */
	while (ev->len > 1 && ev->name[ev->len - 1] == '/')
		ev->len--;
	o->event(o->ctx, ev);
}

static bool starts(const char *s, size_t len, const char *word)
{
	size_t n = strlen(word);

	return len >= n && memcmp(s, word, n) == 0;
}

/* Digits, also with thousands' commas; stops at the first other byte and says where. Saturates. */
static uint64_t number(const char **p, const char *end)
{
	uint64_t v = 0;

	while (*p < end && ((**p >= '0' && **p <= '9') || **p == ',')) {
		if (**p != ',') {
			if (v > UINT64_MAX / 10 - 1)
				v = UINT64_MAX / 10 - 1;
			v = v * 10 + (uint64_t)(**p - '0');
		}
		(*p)++;
	}
	return v;
}

/* ":>f+++++++++:45:name" */
static bool parse_item(struct rsync_output *o, struct rsync_event *ev, const char *s, size_t len)
{
	const char *end = s + len, *colon, *p;

	if (len < 4 || s[0] != ':')
		return false;
	colon = memchr(s + 1, ':', len - 1);
	if (colon == NULL || colon - s > 24)
		return false;
	p = colon + 1;
	ev->bytes = number(&p, end);
	if (p == end || *p != ':' || p == colon + 1)
		return false;
	if (s[1] == '*')
		ev->kind = starts(s + 1, len - 1, "*deleting") ? RSYNC_DELETED : RSYNC_CHANGED;
	else if ((s[1] == '<' || s[1] == '>') && s[2] == 'f')
		ev->kind = RSYNC_SENT;
	else
		ev->kind = RSYNC_CHANGED;
	emit_name(o, ev, p + 1, (size_t)(end - p - 1));
	return true;
}

/* "  1,234 100%  1.2MB/s  0:00:01 (xfr#2, to-chk=3/7)" */
static bool parse_progress(struct rsync_output *o, struct rsync_event *ev, const char *s, size_t len)
{
	const char *end = s + len, *p = s, *at;

	while (p < end && *p == ' ')
		p++;
	if (p == s || p == end || *p < '0' || *p > '9')
		return false;
	ev->bytes = number(&p, end);
	while (p < end && *p == ' ')
		p++;
	(void)number(&p, end);
	if (p == end || *p != '%')
		return false;
	ev->kind = RSYNC_PROGRESS;
	at = memmem(p, (size_t)(end - p), "xfr#", 4);
	if (at != NULL) {
		at += 4;
		ev->done = number(&at, end);
	}
	at = memmem(p, (size_t)(end - p), "-chk=", 5);
	if (at != NULL) {
		at += 5;
		ev->left = number(&at, end);
	}
	o->event(o->ctx, ev);
	return true;
}

/* The errno in a trailing "(13)". */
static int trailing_code(const char *s, size_t len)
{
	size_t i = len;
	int value = 0, scale = 1;

	if (len < 3 || s[len - 1] != ')')
		return 0;
	for (i = len - 1; i > 0 && s[i - 1] >= '0' && s[i - 1] <= '9' && scale <= 1000; i--) {
		value += (s[i - 1] - '0') * scale;
		scale *= 10;
	}
	return i > 0 && s[i - 1] == '(' ? value : 0;
}

static const char *last_quote(const char *from, const char *end)
{
	return end > from ? memrchr(from, '"', (size_t)(end - from)) : NULL;
}

/* What stands between the first and the last quote; of two quoted names (link or rename) the first. */
static bool quoted_name(const char *s, size_t len, const char **name, size_t *name_len)
{
	const char *end = s + len, *first = memchr(s, '"', len), *last, *arrow;

	if (first == NULL)
		return false;
	first++;
	arrow = memmem(first, (size_t)(end - first), "\" -> ", 5);
	last = arrow != NULL ? arrow : last_quote(first, end);
	if (last == NULL)
		return false;
	*name = first;
	*name_len = (size_t)(last - first);
	return true;
}

/* "delete_file: unlink(NAME) failed: ...": no quotes there. */
static bool bracket_name(const char *s, size_t len, const char **name, size_t *name_len)
{
	static const char *const heads[] = { "delete_file: unlink(", "delete_file: rmdir(" };

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		const char *at = memmem(s, len, heads[i], strlen(heads[i])), *tail;

		if (at == NULL)
			continue;
		at += strlen(heads[i]);
		tail = memmem(at, (size_t)(s + len - at), ") failed", 8);
		if (tail == NULL)
			return false;
		*name = at;
		*name_len = (size_t)(tail - at);
		return true;
	}
	return false;
}

struct word_rule {
	const char *head;
	enum rsync_event_kind kind;
	bool quoted;
};

static bool parse_words(struct rsync_output *o, struct rsync_event *ev, const char *s, size_t len)
{
	static const struct word_rule rules[] = {
		{ "cannot delete non-empty directory: ", RSYNC_BLOCKED, false },
		{ "could not make way for ", RSYNC_BLOCKED, false },
		{ "file has vanished: ", RSYNC_VANISHED, true },
		{ "IO error encountered -- skipping file deletion", RSYNC_DELETION_OFF, false },
		{ "Client negotiated checksum: ", RSYNC_NEGOTIATED, false },
	};

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		const char *name = s + strlen(rules[i].head), *colon;
		size_t n;

		if (!starts(s, len, rules[i].head))
			continue;
		n = len - strlen(rules[i].head);
		ev->kind = rules[i].kind;
		if (rules[i].quoted && !quoted_name(s, len, &name, &n))
			return false;
		/* "new regular file: NAME" */
		if (starts(s, len, "could not")) {
			colon = memmem(name, n, ": ", 2);
			if (colon == NULL)
				return false;
			n -= (size_t)(colon + 2 - name);
			name = colon + 2;
		}
		emit_name(o, ev, name, n);
		return true;
	}
	return false;
}

static bool parse_facts(struct rsync_output *o, struct rsync_event *ev, const char *s, size_t len)
{
	const char *p, *end = s + len;

	if (starts(s, len, "rsync  version ")) {
		p = s + strlen("rsync  version ");
		ev->kind = RSYNC_VERSION;
		for (int i = 0; i < 3; i++) {
			uint64_t part = number(&p, end);

			ev->version = ev->version * 100 + (unsigned)(part > 99 ? 99 : part);
			if (p < end && *p == '.')
				p++;
		}
	} else if (starts(s, len, "Number of files: ")) {
		p = s + strlen("Number of files: ");
		ev->kind = RSYNC_FILES_TOTAL;
		ev->done = number(&p, end);
	} else if (starts(s, len, "Number of deleted files: ")) {
		p = s + strlen("Number of deleted files: ");
		ev->kind = RSYNC_FILES_DELETED;
		ev->done = number(&p, end);
	} else {
		return false;
	}
	o->event(o->ctx, ev);
	return true;
}

static bool parse_failure(struct rsync_output *o, struct rsync_event *ev, const char *s, size_t len)
{
	static const char verify[] = " failed verification -- update discarded";
	const char *name, *tail;
	size_t n;

	ev->kind = RSYNC_FAILED;
	if (starts(s, len, "ERROR: ")) {
		tail = memmem(s, len, verify, sizeof(verify) - 1);
		if (tail == NULL)
			return false;
		emit_name(o, ev, s + 7, (size_t)(tail - s - 7));
		return true;
	}
	if (!starts(s, len, "rsync: ") || starts(s, len, "rsync: warning"))
		return false;
	if (!bracket_name(s, len, &name, &n) && !quoted_name(s, len, &name, &n))
		return false;
	ev->code = trailing_code(s, len);
	emit_name(o, ev, name, n);
	return true;
}

static void parse_line(struct rsync_output *o)
{
	const char *s = o->line.data;
	size_t len = o->line.len;
	struct rsync_event ev = { .text = s, .text_len = len };

	if (len == 0)
		return;
	if (parse_item(o, &ev, s, len) || parse_words(o, &ev, s, len) || parse_progress(o, &ev, s, len))
		return;
	ev = (struct rsync_event){ .text = s, .text_len = len };
	if (parse_facts(o, &ev, s, len) || parse_failure(o, &ev, s, len))
		return;
	ev = (struct rsync_event){ .kind = RSYNC_TEXT, .text = s, .text_len = len };
	o->event(o->ctx, &ev);
}

static void line_over(struct rsync_output *o)
{
	if (!o->skipping && !o->line.failed)
		parse_line(o);
	buf_clear(&o->line);
	o->skipping = false;
}

void rsync_output_feed(struct rsync_output *o, const char *data, size_t len)
{
	while (len > 0) {
		size_t n = 0;

		while (n < len && data[n] != '\n' && data[n] != '\r')
			n++;
		if (!o->skipping && n > 0 && !buf_add(&o->line, data, n)) {
			o->skipping = true;
			buf_clear(&o->line);
		}
		if (n == len)
			return;
		line_over(o);
		data += n + 1;
		len -= n + 1;
	}
}

void rsync_output_end(struct rsync_output *o)
{
	line_over(o);
}
