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

/* ---- which name a message is about ---- */

struct span {
	const char *at;
	size_t len;
};

static bool ends_with(const char *s, size_t len, const char *word)
{
	size_t n = strlen(word);

	return len >= n && memcmp(s + len - n, word, n) == 0;
}

static const char *find_last(const char *s, size_t len, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = len < n ? 0 : len - n + 1; i-- > 0;)
		if (memcmp(s + i, word, n) == 0)
			return s + i;
	return NULL;
}

/* Quotes in names are not escaped: what stands between the first and the last one. The words before tell of messages
 * with two names, and of those with an attribute's name behind the file's. */
static bool quoted_name(const char *s, size_t len, struct span *out)
{
	static const char *const pairs[] = { "symlink ", "rename ", "copy ", "link ", "keep_backup failed: " };
	const char *end = s + len, *first = memchr(s, '"', len), *last, *other = NULL;
	size_t before;

	if (first == NULL)
		return false;
	before = (size_t)(first - s);
	first++;
	last = memrchr(first, '"', (size_t)(end - first));
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]) && other == NULL; i++)
		if (ends_with(s, before, pairs[i]))
			other = memmem(first, (size_t)(end - first), "\" -> ", 5);
	if (other == NULL && ends_with(s, before, "xattr(") && last != NULL)
		other = find_last(first, (size_t)(last - first), "\",\"");
	last = other != NULL ? other : last;
	if (last == NULL)
		return false;
	*out = (struct span){ first, (size_t)(last - first) };
	return true;
}

/* Behind "rsync: " and the role in brackets, which versions before 3.2 don't have. */
static size_t after_role(const char *s, size_t len)
{
	size_t at = strlen("rsync: ");
	const char *close = len > at && s[at] == '[' ? memmem(s + at, len - at, "] ", 2) : NULL;

	return close == NULL ? at : (size_t)(close + 2 - s);
}

/* "delete_file: unlink(NAME) failed: ...", "set_acl: sys_acl_set_file(NAME, ACL_TYPE_ACCESS): ...": no quotes there. */
static bool bracket_name(const char *s, size_t len, struct span *out)
{
	static const struct {
		const char *head, *from;
		const char *tails[2];
	} rules[] = {
		{ "delete_file: ", "(", { ") failed", NULL } },
		{ "set_acl: refusing ", " on ", { " (no held fd)", NULL } },
		{ "set_acl: ", "(", { ", ACL_TYPE_", "): " } },
		{ "get_acl: ", "(", { ", ACL_TYPE_", "): " } },
	};
	size_t role = after_role(s, len);
	const char *end = s + len;

	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
		const char *at = s + role, *tail = NULL;

		if (!starts(at, len - role, rules[i].head))
			continue;
		at = memmem(at, (size_t)(end - at), rules[i].from, strlen(rules[i].from));
		if (at == NULL)
			return false;
		at += strlen(rules[i].from);
		for (size_t t = 0; t < 2 && rules[i].tails[t] != NULL && tail == NULL; t++)
			tail = find_last(at, (size_t)(end - at), rules[i].tails[t]);
		if (tail == NULL)
			return false;
		*out = (struct span){ at, (size_t)(tail - at) };
		return true;
	}
	return false;
}

enum word_name {
	NAME_NONE = 0,
	NAME_REST,   /* all that follows */
	NAME_QUOTED, /* in quotes */
	NAME_COLON,  /* what follows the next ": " */
	NAME_UP_TO,  /* up to the rule's tail */
};

struct word_rule {
	const char *head;
	enum rsync_event_kind kind;
	enum word_name name;
	const char *tail;
};

/* Messages that don't begin with "rsync: ". */
static const struct word_rule word_rules[] = {
	{ "cannot delete non-empty directory: ", RSYNC_BLOCKED, NAME_REST, NULL },
	{ "could not make way for ", RSYNC_BLOCKED, NAME_COLON, NULL }, /* "new regular file: NAME" */
	{ "file has vanished: ", RSYNC_VANISHED, NAME_QUOTED, NULL },
	{ "directory has vanished: ", RSYNC_VANISHED, NAME_QUOTED, NULL },
	{ "IO error encountered -- skipping file deletion", RSYNC_DELETION_OFF, NAME_NONE, NULL },
	{ "Client negotiated checksum: ", RSYNC_NEGOTIATED, NAME_REST, NULL },
	{ "ERROR: daemon refused to receive ", RSYNC_FAILED, NAME_QUOTED, NULL },
	{ "ERROR: ", RSYNC_FAILED, NAME_UP_TO, " failed verification -- update discarded" },
	{ "skipping overly long name: ", RSYNC_FAILED, NAME_REST, NULL },
	{ "filename overflows max-path len by ", RSYNC_FAILED, NAME_COLON, NULL },
	{ "temporary filename too long: ", RSYNC_FAILED, NAME_REST, NULL },
	{ "symlink has no referent: ", RSYNC_FAILED, NAME_QUOTED, NULL },
	{ "skipping symlink with 0-length value: ", RSYNC_FAILED, NAME_QUOTED, NULL },
	{ "recv_files: ", RSYNC_FAILED, NAME_QUOTED, NULL },
	{ "Time value of ", RSYNC_FAILED, NAME_UP_TO, " truncated on receiver." },
	{ "[sender] cannot convert filename: ", RSYNC_FAILED, NAME_UP_TO, " (" },
	{ "[generator] cannot convert filename: ", RSYNC_FAILED, NAME_UP_TO, " (" },
	{ "[receiver] cannot convert filename: ", RSYNC_FAILED, NAME_UP_TO, " (" },
};

static bool name_by_rule(const struct word_rule *rule, const char *s, size_t len, struct span *out)
{
	size_t head = strlen(rule->head);
	const char *rest = s + head, *at;
	size_t n = len - head;

	switch (rule->name) {
	case NAME_QUOTED:
		return quoted_name(rest, n, out);
	case NAME_COLON:
		at = memmem(rest, n, ": ", 2);
		if (at == NULL)
			return false;
		*out = (struct span){ at + 2, (size_t)(s + len - at - 2) };
		return true;
	case NAME_UP_TO:
		at = find_last(rest, n, rule->tail);
		if (at == NULL)
			return false;
		*out = (struct span){ rest, (size_t)(at - rest) };
		return true;
	case NAME_NONE:
	case NAME_REST:
		break;
	}
	*out = (struct span){ rest, rule->name == NAME_NONE ? 0 : n };
	return true;
}

static bool parse_words(struct rsync_output *o, struct rsync_event *ev, const char *s, size_t len)
{
	for (size_t i = 0; i < sizeof(word_rules) / sizeof(word_rules[0]); i++) {
		const struct word_rule *rule = &word_rules[i];
		struct span name;

		if (!starts(s, len, rule->head) || !name_by_rule(rule, s, len, &name))
			continue;
		ev->kind = rule->kind;
		emit_name(o, ev, name.at, name.len);
		return true;
	}
	return false;
}

/* What --stats says at the end. */
static bool parse_sum(struct rsync_output *o, struct rsync_event *ev, const char *s, size_t len)
{
	static const struct {
		const char *head;
		enum rsync_event_kind kind;
	} sums[] = {
		{ "Number of files: ", RSYNC_FILES_TOTAL },
		{ "Number of deleted files: ", RSYNC_FILES_DELETED },
		{ "Number of regular files transferred: ", RSYNC_FILES_SENT },
		{ "Literal data: ", RSYNC_BYTES_SENT },
		{ "Number of created files: ", RSYNC_SUM },
		{ "Total file size: ", RSYNC_SUM },
		{ "Total transferred file size: ", RSYNC_SUM },
		{ "Matched data: ", RSYNC_SUM },
		{ "File list ", RSYNC_SUM },
		{ "Total bytes ", RSYNC_SUM },
		{ "sent ", RSYNC_SUM },
		{ "total size is ", RSYNC_SUM },
	};

	for (size_t i = 0; i < sizeof(sums) / sizeof(sums[0]); i++) {
		const char *p = s + strlen(sums[i].head);

		if (!starts(s, len, sums[i].head))
			continue;
		ev->kind = sums[i].kind;
		ev->done = number(&p, s + len);
		o->event(o->ctx, ev);
		return true;
	}
	return false;
}

static bool parse_version(struct rsync_output *o, struct rsync_event *ev, const char *s, size_t len)
{
	const char *p = s + strlen("rsync  version "), *end = s + len;

	if (!starts(s, len, "rsync  version "))
		return false;
	ev->kind = RSYNC_VERSION;
	for (int i = 0; i < 3; i++) {
		uint64_t part = number(&p, end);

		ev->version = ev->version * 100 + (unsigned)(part > 99 ? 99 : part);
		if (p < end && *p == '.')
			p++;
	}
	o->event(o->ctx, ev);
	return true;
}

static bool is_attribute(const char *s, size_t len)
{
	static const char *const heads[] = {
		"set_acl",   "get_acl",	  "change_sacl_perms",	   "rsync_xal_",	  "copy_xattrs",
		"get_xattr", "set_xattr", "failed to write xattr", "failed to read xattr"
	};
	size_t role = after_role(s, len);

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		if (starts(s + role, len - role, heads[i]))
			return true;
	return false;
}

/* "rsync: [receiver] mkstemp "NAME" failed: Permission denied (13)"; before 3.2 without the role in brackets. */
static bool parse_failure(struct rsync_output *o, struct rsync_event *ev, const char *s, size_t len)
{
	struct span name;

	if (!starts(s, len, "rsync: ") || starts(s, len, "rsync: warning"))
		return false;
	if (!bracket_name(s, len, &name) && !quoted_name(s, len, &name))
		return false;
	ev->kind = RSYNC_FAILED;
	ev->code = trailing_code(s, len);
	ev->attribute = is_attribute(s, len);
	emit_name(o, ev, name.at, name.len);
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
	if (parse_version(o, &ev, s, len) || parse_sum(o, &ev, s, len) || parse_failure(o, &ev, s, len))
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
