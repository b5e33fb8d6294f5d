#include "transports/exec_lines.h"

#include <string.h>

/* No more in one line: the sum must not run over. */
#define DELETED_MAX 1000000000u

void exec_lines_init(struct exec_lines *l, void (*line)(void *ctx, const char *text, size_t len, bool cut), void *ctx)
{
	l->line = line;
	l->ctx = ctx;
	l->len = 0;
	l->cut = false;
}

static void give(struct exec_lines *l)
{
	size_t len = l->len;
	bool cut = l->cut;

	l->len = 0;
	l->cut = false;
	if (len > 0 && l->text[len - 1] == '\r' && !cut)
		len--;
	l->line(l->ctx, l->text, len, cut);
}

void exec_lines_feed(struct exec_lines *l, const char *data, size_t len)
{
	while (len > 0) {
		const char *end = memchr(data, '\n', len);
		size_t n = end == NULL ? len : (size_t)(end - data), room = sizeof(l->text) - l->len;

		if (n > room)
			l->cut = true;
		memcpy(l->text + l->len, data, n < room ? n : room);
		l->len += n < room ? n : room;
		if (end == NULL)
			return;
		data += n + 1;
		len -= n + 1;
		give(l);
	}
}

void exec_lines_end(struct exec_lines *l)
{
	if (l->len > 0)
		give(l);
}

/* ---- answers ---- */

/* The next word; `line` then begins behind the blank that follows it. */
static size_t next_word(const char **line, size_t *len, const char **word)
{
	size_t n = 0;

	*word = *line;
	while (n < *len && (*line)[n] != ' ')
		n++;
	*line += n;
	*len -= n;
	if (*len > 0) {
		(*line)++;
		(*len)--;
	}
	return n;
}

static bool get_number(const char *s, size_t len, uint64_t *out)
{
	uint64_t v = 0;

	if (len == 0 || len > 18)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(s[i] - '0');
	}
	*out = v;
	return true;
}

bool exec_answer_parse(const char *line, size_t len, struct exec_answer *a)
{
	const char *first, *second;
	size_t n = next_word(&line, &len, &first), m;

	*a = (struct exec_answer){ .kind = EXEC_ANSWER_DOWN, .word = EXEC_DOWN, .text = line, .text_len = len };
	if (exec_word_find(first, n) == EXEC_DOWN)
		return true;
	a->word = EXEC_WORD_NONE;
	m = next_word(&line, &len, &second);
	a->text = line;
	a->text_len = len;
	if (n == 7 && memcmp(first, "deleted", 7) == 0) {
		a->kind = EXEC_ANSWER_DELETED;
		return get_number(second, m, &a->id) && a->id <= DELETED_MAX && len == 0;
	}
	a->word = exec_word_find(second, m);
	a->kind = n == 1 && first[0] == '*' ? EXEC_ANSWER_ALL : EXEC_ANSWER_ONE;
	if (a->word == EXEC_WORD_NONE || a->word == EXEC_DOWN)
		return false;
	return a->kind == EXEC_ANSWER_ALL || get_number(first, n, &a->id);
}
