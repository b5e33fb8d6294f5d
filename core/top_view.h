/*
 * top_view.h - what `--top` shows: reads the daemon's report, orders it, draws it into a buffer. Pure but for the
 * locale, which decides on the width of characters.
 */
#ifndef FANSYNCD_CORE_TOP_VIEW_H
#define FANSYNCD_CORE_TOP_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

enum top_order { TOP_BY_TROUBLE = 0, TOP_BY_NAME, TOP_BY_LAG, TOP_BY_PENDING, TOP_BY_RATE, TOP_BY_FILE, TOP_ORDERS };

struct top_row {
	const char *name, *state, *source, *target, *remark; /* in the report's text */
	uint64_t lag_ms, pending, in_flight, failed, files, bytes, done, total, last_done;
	double bytes_per_s;
	size_t index; /* in the configuration */
};

struct top_view {
	struct buf text; /* the report, its fields ended by NULs */
	const char *version, *config;
	uint64_t started, now;
	struct top_row *rows;
	size_t n_rows;
	int64_t read_ns; /* when it was read, monotonic; 0: nothing was */
	/* What the user chose. */
	enum top_order order;
	bool backwards, paused;
	size_t selected, first; /* rows, in the shown order */
	const char *notice;	/* instead of the last line; NULL: none */
};

void top_view_init(struct top_view *v);
void top_view_done(struct top_view *v);
/* Take a new report (copied), with the rates since the one before. false: it makes no sense, or there is no memory; the
 * old one stays. */
bool top_view_read(struct top_view *v, const char *report, size_t len, int64_t now_ns);
/* Order the rows anew; the selected sync stays selected. */
void top_view_sort(struct top_view *v);
/* The whole screen. */
void top_view_draw(struct top_view *v, unsigned width, unsigned height, bool color, struct buf *out);
/* Without a terminal: a line a sync. */
void top_view_plain(const struct top_view *v, struct buf *out);

/* A key, as bytes of the terminal. What it asks for. */
enum top_wish { TOP_NOTHING = 0, TOP_REDRAW, TOP_QUIT };
/* `page`: rows that are shown at once. */
enum top_wish top_view_key(struct top_view *v, const char *key, size_t len, unsigned page);

#endif
