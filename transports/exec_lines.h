/*
 * exec_lines.h - what an exec program writes: lines, and the answers among them. Pure.
 *
 * An answer is `ID WORD [TEXT]`; `*` in place of the number is all records that have no answer yet; `down [TEXT]` is
 * about the target as a whole; `deleted N` counts deletions of a comparison. Nothing is believed of what does not fit.
 */
#ifndef FANSYNCD_TRANSPORTS_EXEC_LINES_H
#define FANSYNCD_TRANSPORTS_EXEC_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transports/exec_options.h"

#define EXEC_LINE_MAX 4096u

struct exec_lines {
	/* Without its newline. `cut`: it was longer than EXEC_LINE_MAX, and this is its beginning. */
	void (*line)(void *ctx, const char *text, size_t len, bool cut);
	void *ctx;
	size_t len;
	bool cut;
	char text[EXEC_LINE_MAX];
};

void exec_lines_init(struct exec_lines *l, void (*line)(void *ctx, const char *text, size_t len, bool cut), void *ctx);
void exec_lines_feed(struct exec_lines *l, const char *data, size_t len);
/* A last line without its newline is one, too. */
void exec_lines_end(struct exec_lines *l);

enum exec_answer_kind {
	EXEC_ANSWER_ONE = 0, /* id, word */
	EXEC_ANSWER_ALL,     /* word */
	EXEC_ANSWER_DOWN,
	EXEC_ANSWER_DELETED, /* id: how many */
};

struct exec_answer {
	enum exec_answer_kind kind;
	uint64_t id;
	enum exec_word word;
	const char *text; /* inside of the line; may be empty */
	size_t text_len;
};

/* false: it is no answer. */
bool exec_answer_parse(const char *line, size_t len, struct exec_answer *a);

#endif
