/*
 * source.c - a configuration's text with its includes put in, before libconfig sees it.
 *
 * libconfig 1.5 would resolve @include itself, but only below one directory; it also cuts integers above 32 bits
 * silently, drops "\x00" and stops at a NUL byte. So includes are put in here, with a note of where each line came
 * from, large integers get the suffix L that libconfig wants, and the rest is refused.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/private.h"

enum state { PLAIN = 0, STRING, LINE_COMMENT, BLOCK_COMMENT };

struct scan {
	struct config_source *src;
	const char *dir;
	struct config_place *where; /* of the first failure; kept up to date */
	struct err *err;
	enum state state;
	struct config_place opened; /* where the string or comment began */
	int depth;
};

static int out_of_memory(struct scan *sc)
{
	return err_set(sc->err, sc->src->text.len >= CONFIG_TEXT_MAX / 2 ? ERR_CONFIG : ERR_NOMEM,
		       sc->src->text.len >= CONFIG_TEXT_MAX / 2 ? "too much text" : "out of memory");
}

/* Note that the line which begins now stands at `file`:`line`. */
static int begin_line(struct scan *sc, const char *file, int line)
{
	struct config_source *src = sc->src;

	if (src->n_lines == src->cap_lines) {
		size_t cap = src->cap_lines == 0 ? 256 : 2 * src->cap_lines;
		struct config_place *lines = realloc(src->lines, cap * sizeof(*lines));

		if (lines == NULL)
			return out_of_memory(sc);
		src->lines = lines;
		src->cap_lines = cap;
	}
	*sc->where = (struct config_place){ file, line };
	src->lines[src->n_lines++] = *sc->where;
	return 0;
}

static bool is_name(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '*';
}

static size_t name_length(const char *p, const char *end)
{
	const char *q = p;

	while (q < end && is_name(*q))
		q++;
	return (size_t)(q - p);
}

/* Copy a number; an integer that 32 bits do not hold gets the suffix L. */
static const char *take_number(struct scan *sc, const char *p, const char *end)
{
	struct buf *out = &sc->src->text;
	const char *q = p + (*p == '-' || *p == '+' ? 1 : 0);
	bool hex = end - q > 2 && q[0] == '0' && (q[1] == 'x' || q[1] == 'X');
	char digits[40];
	long long value;

	for (q += hex ? 2 : 0; q < end && (hex ? isxdigit((unsigned char)*q) : isdigit((unsigned char)*q)); q++)
		;
	if (!hex && q < end && (*q == '.' || *q == 'e' || *q == 'E')) {
		while (q < end && (isdigit((unsigned char)*q) || strchr(".eE+-", *q) != NULL) && *q != '\0')
			q++;
		return buf_add(out, p, (size_t)(q - p)) ? q : NULL;
	}
	errno = ERANGE;
	value = 0;
	if ((size_t)(q - p) < sizeof(digits)) {
		memcpy(digits, p, (size_t)(q - p));
		digits[q - p] = '\0';
		errno = 0;
		value = strtoll(digits, NULL, hex ? 16 : 10);
	}
	if (errno != 0) {
		(void)err_set(sc->err, ERR_CONFIG, "the number %.*s is too large", (int)(q - p < 40 ? q - p : 40), p);
		return NULL;
	}
	if (!buf_add(out, p, (size_t)(q - p)) ||
	    ((value > INT32_MAX || value < INT32_MIN) && (q == end || *q != 'L') && !buf_add_byte(out, 'L')))
		return NULL;
	while (q < end && *q == 'L') {
		if (!buf_add_byte(out, 'L'))
			return NULL;
		q++;
	}
	return q;
}

static void open_state(struct scan *sc, enum state state)
{
	sc->state = state;
	sc->opened = *sc->where;
}

static const char *take_plain(struct scan *sc, const char *p, const char *end)
{
	struct buf *out = &sc->src->text;
	size_t n = 1;

	if (isdigit((unsigned char)*p) || ((*p == '-' || *p == '+') && p + 1 < end && isdigit((unsigned char)p[1])) ||
	    (*p == '.' && p + 1 < end && isdigit((unsigned char)p[1])))
		return take_number(sc, p, end);
	if (isalpha((unsigned char)*p) || *p == '*')
		n = name_length(p, end);
	else if (*p == '"')
		open_state(sc, STRING);
	else if (*p == '#' || (*p == '/' && p + 1 < end && p[1] == '/'))
		sc->state = LINE_COMMENT;
	else if (*p == '/' && p + 1 < end && p[1] == '*') {
		open_state(sc, BLOCK_COMMENT);
		n = 2;
	}
	return buf_add(out, p, n) ? p + n : NULL;
}

static const char *take_string(struct scan *sc, const char *p, const char *end)
{
	size_t n = 1;

	if (*p == '"') {
		sc->state = PLAIN;
	} else if (*p == '\\' && p + 1 < end && p[1] != '\n') {
		if (end - p >= 4 && (p[1] == 'x' || p[1] == 'X') && p[2] == '0' && p[3] == '0') {
			(void)err_set(sc->err, ERR_CONFIG, "a string must not contain \\x00");
			return NULL;
		}
		n = 2;
	}
	return buf_add(&sc->src->text, p, n) ? p + n : NULL;
}

static const char *take(struct scan *sc, const char *p, const char *end)
{
	size_t n = 1;

	if (*p == '\0') {
		(void)err_set(sc->err, ERR_CONFIG, "a NUL byte in the text");
		return NULL;
	}
	if (sc->state == PLAIN)
		return take_plain(sc, p, end);
	if (sc->state == STRING)
		return take_string(sc, p, end);
	if (sc->state == BLOCK_COMMENT && *p == '*' && p + 1 < end && p[1] == '/') {
		sc->state = PLAIN;
		n = 2;
	}
	return buf_add(&sc->src->text, p, n) ? p + n : NULL;
}

static int put_text(struct scan *sc, const char *text, size_t len, const char *file);

static int put_include(struct scan *sc, const char *name, size_t len)
{
	struct config_source *src = sc->src;
	char *path = NULL, *text = NULL;
	size_t text_len;
	int rc;

	if (sc->dir == NULL)
		return err_set(sc->err, ERR_CONFIG, "@include works in a file only");
	if (sc->depth >= CONFIG_INCLUDE_DEPTH)
		return err_set(sc->err, ERR_CONFIG, "@include: more than %d files deep", CONFIG_INCLUDE_DEPTH);
	if (len == 0)
		return err_set(sc->err, ERR_CONFIG, "@include: no file name");
	if (src->files.n > CONFIG_INCLUDES_MAX)
		return err_set(sc->err, ERR_CONFIG, "@include: more than %d files", CONFIG_INCLUDES_MAX);
	if (asprintf(&path, "%s%s%.*s", name[0] == '/' ? "" : sc->dir, name[0] == '/' ? "" : "/", (int)len, name) < 0)
		return out_of_memory(sc);
	rc = config_read_whole(path, CONFIG_FILE_MAX, &text, &text_len, sc->err);
	if (rc == 0 && strlist_add(&src->files, path) != 0)
		rc = out_of_memory(sc);
	free(path);
	if (rc == 0) {
		sc->depth++;
		rc = put_text(sc, text, text_len, src->files.v[src->files.n - 1]);
		sc->depth--;
	}
	free(text);
	return rc;
}

/* If the line is an @include directive, the name in it; its end in *len. */
static const char *include_name(const char *p, const char *eol, size_t *len)
{
	static const char word[] = "@include";
	const char *close;

	while (p < eol && (*p == ' ' || *p == '\t'))
		p++;
	if ((size_t)(eol - p) < sizeof(word) || memcmp(p, word, sizeof(word) - 1) != 0)
		return NULL;
	for (p += sizeof(word) - 1; p < eol && (*p == ' ' || *p == '\t'); p++)
		;
	if (p == eol || *p != '"')
		return NULL;
	close = memchr(p + 1, '"', (size_t)(eol - p - 1));
	if (close == NULL)
		return NULL;
	*len = (size_t)(close - p - 1);
	return p + 1;
}

static bool only_comment(const char *p, const char *eol)
{
	while (p < eol && (*p == ' ' || *p == '\t' || *p == '\r'))
		p++;
	return p == eol || *p == '#' || (eol - p >= 2 && p[0] == '/' && p[1] == '/');
}

static int put_line(struct scan *sc, const char *p, const char *eol)
{
	if (sc->state == LINE_COMMENT)
		sc->state = PLAIN;
	while (p < eol) {
		enum err_class before = sc->err->class;

		p = take(sc, p, eol);
		if (p == NULL)
			return sc->err->class == before ? out_of_memory(sc) : -1;
	}
	return 0;
}

/* At the end of a file: libconfig would go on into what follows, and takes an open comment for an end. */
static int check_closed(struct scan *sc)
{
	if (sc->state != STRING && sc->state != BLOCK_COMMENT)
		return 0;
	*sc->where = sc->opened;
	return err_set(sc->err, ERR_CONFIG, "a %s is not closed", sc->state == STRING ? "string" : "comment");
}

static int put_text(struct scan *sc, const char *text, size_t len, const char *file)
{
	const char *p = text, *end = text + len;

	for (int line = 1;; line++) {
		const char *eol = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
		const char *name = NULL;
		size_t n = 0;

		if (eol == NULL)
			eol = end;
		if (begin_line(sc, file, line) != 0)
			return -1;
		if (sc->state == PLAIN || sc->state == LINE_COMMENT)
			name = include_name(p, eol, &n);
		if (name != NULL) {
			if (!only_comment(name + n + 1, eol))
				return err_set(sc->err, ERR_CONFIG, "only a comment may stand behind @include \"...\"");
			sc->state = PLAIN;
			sc->src->n_lines--; /* the include's first line takes its place */
			if (put_include(sc, name, n) != 0)
				return -1;
		} else if (put_line(sc, p, eol) != 0) {
			return -1;
		}
		if (eol == end)
			return check_closed(sc);
		if (!buf_add_byte(&sc->src->text, '\n'))
			return out_of_memory(sc);
		p = eol + 1;
	}
}

int config_source_build(struct config_source *src, const char *text, size_t len, const char *name, const char *dir,
			struct config_place *where, struct err *err)
{
	struct scan sc = { .src = src, .dir = dir, .where = where, .err = err };

	*src = (struct config_source){ 0 };
	buf_init(&src->text, CONFIG_TEXT_MAX);
	*where = (struct config_place){ name, 1 };
	*err = (struct err)ERR_INIT;
	if (strlist_add(&src->files, name) != 0)
		return out_of_memory(&sc);
	where->file = src->files.v[0];
	return put_text(&sc, text, len, src->files.v[0]);
}

struct config_place config_source_place(const struct config_source *src, unsigned line)
{
	size_t i = line == 0 ? 0 : (size_t)line - 1;

	if (src->n_lines == 0)
		return (struct config_place){ src->files.n > 0 ? src->files.v[0] : "?", 1 };
	return src->lines[i < src->n_lines ? i : src->n_lines - 1];
}

void config_source_done(struct config_source *src)
{
	buf_done(&src->text);
	free(src->lines);
	strlist_done(&src->files);
	*src = (struct config_source){ 0 };
}
