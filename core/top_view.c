#include "core/top_view.h"

#include <inttypes.h>
#include <langinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "core/clock.h"

#define REPORT_MAX (8u * 1024 * 1024)
#define DAEMON_FIELDS 5u
#define SYNC_FIELDS 15u
/* Lines that are no rows: the daemon, the heads; the selected sync in three, the keys. */
#define LINES_ABOVE 2u
#define LINES_BELOW 4u

static const char *const order_names[TOP_ORDERS] = {
	[TOP_BY_TROUBLE] = "trouble", [TOP_BY_NAME] = "name", [TOP_BY_LAG] = "lag",
	[TOP_BY_PENDING] = "pending", [TOP_BY_RATE] = "rate", [TOP_BY_FILE] = "as configured",
};

void top_view_init(struct top_view *v)
{
	*v = (struct top_view){ .version = "", .config = "" };
	buf_init(&v->text, REPORT_MAX);
}

void top_view_done(struct top_view *v)
{
	buf_done(&v->text);
	free(v->rows);
	*v = (struct top_view){ .version = "", .config = "" };
}

/* ---- reading ---- */

/* Cut `line` at its tabs. false: other fields than expected. */
static bool cut(char *line, const char **fields, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char *tab = strchr(line, '\t');

		fields[i] = line;
		if ((tab == NULL) != (i + 1 == n))
			return false;
		if (tab == NULL)
			break;
		*tab = '\0';
		line = tab + 1;
	}
	return true;
}

static uint64_t number(const char *s)
{
	return strtoull(s, NULL, 10);
}

static bool take_line(struct top_view *v, char *line)
{
	const char *f[SYNC_FIELDS];
	struct top_row *r;

	if (line[0] == 'D') {
		if (!cut(line, f, DAEMON_FIELDS))
			return false;
		v->version = f[1];
		v->config = f[2];
		v->started = number(f[3]);
		v->now = number(f[4]);
		return true;
	}
	if (line[0] != 'S' || !cut(line, f, SYNC_FIELDS))
		return false;
	r = &v->rows[v->n_rows];
	*r = (struct top_row){ .name = f[1],
			       .state = f[2],
			       .lag_ms = number(f[3]),
			       .pending = number(f[4]),
			       .in_flight = number(f[5]),
			       .failed = number(f[6]),
			       .files = number(f[7]),
			       .bytes = number(f[8]),
			       .done = number(f[9]),
			       .total = number(f[10]),
			       .last_done = number(f[11]),
			       .source = f[12],
			       .target = f[13],
			       .remark = f[14],
			       .index = v->n_rows };
	v->n_rows++;
	return true;
}

static bool take_report(struct top_view *v, const char *report, size_t len)
{
	size_t lines = 0;
	char *line;

	for (size_t i = 0; i < len; i++)
		lines += report[i] == '\n' ? 1 : 0;
	if (len == 0 || report[len - 1] != '\n' || memchr(report, '\0', len) != NULL)
		return false;
	v->rows = calloc(lines + 1, sizeof(*v->rows));
	if (v->rows == NULL || !buf_add(&v->text, report, len))
		return false;
	line = v->text.data;
	for (size_t i = 0; i < lines; i++) {
		char *end = memchr(line, '\n', len);

		*end = '\0';
		len -= (size_t)(end + 1 - line);
		if (!take_line(v, line))
			return false;
		line = end + 1;
	}
	return true;
}

static const struct top_row *find(const struct top_view *v, const char *name)
{
	for (size_t i = 0; i < v->n_rows; i++)
		if (strcmp(v->rows[i].name, name) == 0)
			return &v->rows[i];
	return NULL;
}

static void add_rates(struct top_view *v, const struct top_view *before, int64_t now_ns)
{
	double passed = (double)(now_ns - before->read_ns) / (double)NS_PER_S;

	for (size_t i = 0; i < v->n_rows; i++) {
		const struct top_row *old = find(before, v->rows[i].name);

		if (old != NULL && before->read_ns != 0 && passed > 0 && v->rows[i].bytes >= old->bytes)
			v->rows[i].bytes_per_s = (double)(v->rows[i].bytes - old->bytes) / passed;
	}
}

bool top_view_read(struct top_view *v, const char *report, size_t len, int64_t now_ns)
{
	struct top_view new;

	top_view_init(&new);
	if (!take_report(&new, report, len)) {
		top_view_done(&new);
		return false;
	}
	add_rates(&new, v, now_ns);
	new.read_ns = now_ns;
	new.order = v->order;
	new.backwards = v->backwards;
	new.paused = v->paused;
	new.first = v->first;
	/* The selected one by its name, in the order of the new one, which is the file's so far. */
	for (size_t i = 0; v->selected < v->n_rows && i < new.n_rows; i++)
		if (strcmp(new.rows[i].name, v->rows[v->selected].name) == 0)
			new.selected = i;
	if (v->selected == 0)
		new.selected = SIZE_MAX; /* who stays at the top wants to see what comes to the top */
	top_view_done(v);
	*v = new;
	top_view_sort(v);
	if (v->selected == SIZE_MAX)
		v->selected = 0;
	return true;
}

/* ---- order ---- */

static bool is_trouble(const char *state)
{
	return strcmp(state, "down") == 0 || strcmp(state, "stopped") == 0 || strcmp(state, "vetoed") == 0 ||
	       strcmp(state, "no source") == 0;
}

static int urgency(const struct top_row *r)
{
	if (is_trouble(r->state))
		return 4;
	if (r->failed > 0)
		return 3;
	return strcmp(r->state, "sending") == 0 ? 2 : strcmp(r->state, "waiting") == 0 ? 1 : 0;
}

static int larger(uint64_t a, uint64_t b)
{
	return a > b ? -1 : a < b ? 1 : 0;
}

static int compare(enum top_order order, const struct top_row *a, const struct top_row *b)
{
	int c = 0;

	switch (order) {
	case TOP_BY_TROUBLE:
		c = urgency(b) - urgency(a);
		break;
	case TOP_BY_NAME:
		c = strcmp(a->name, b->name);
		break;
	case TOP_BY_LAG:
		c = larger(a->lag_ms, b->lag_ms);
		break;
	case TOP_BY_PENDING:
		c = larger(a->pending + a->in_flight, b->pending + b->in_flight);
		break;
	case TOP_BY_RATE:
		c = larger((uint64_t)a->bytes_per_s, (uint64_t)b->bytes_per_s);
		break;
	case TOP_BY_FILE:
	case TOP_ORDERS:
		break;
	}
	return c != 0 ? c : a->index < b->index ? -1 : 1;
}

static int by_order(const void *a, const void *b, void *ctx)
{
	const struct top_view *v = ctx;
	int c = compare(v->order, a, b);

	return v->backwards ? -c : c;
}

void top_view_sort(struct top_view *v)
{
	size_t selected = v->selected < v->n_rows ? v->rows[v->selected].index : SIZE_MAX;

	if (v->n_rows > 0)
		qsort_r(v->rows, v->n_rows, sizeof(*v->rows), by_order, v);
	for (size_t i = 0; i < v->n_rows; i++)
		if (v->rows[i].index == selected)
			v->selected = i;
}

/* ---- texts ---- */

static void put_span(char *out, size_t size, double s)
{
	if (s < 10)
		(void)snprintf(out, size, "%.1f s", s);
	else if (s < 120)
		(void)snprintf(out, size, "%.0f s", s);
	else if (s < 7200)
		(void)snprintf(out, size, "%.0f min", s / 60);
	else if (s < 172800)
		(void)snprintf(out, size, "%.0f h", s / 3600);
	else
		(void)snprintf(out, size, "%.0f d", s / 86400);
}

static void put_bytes(char *out, size_t size, double n)
{
	static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
	size_t i = 0;

	while (n >= 999.5 && i + 1 < sizeof(units) / sizeof(units[0])) {
		n /= 1000;
		i++;
	}
	(void)snprintf(out, size, i == 0 || n >= 100 ? "%.0f %s/s" : "%.1f %s/s", n, units[i]);
}

/* One character of `s` (n bytes of it), and its columns. What this terminal can't show is a question mark. */
static size_t next_char(const char *s, size_t n, bool utf8, unsigned *columns, bool *plain)
{
	wchar_t c;
	size_t len = 1;
	mbstate_t state = { 0 };
	int w;

	*columns = 1;
	*plain = (unsigned char)s[0] >= 0x20 && (unsigned char)s[0] < 0x7f;
	if (*plain || !utf8)
		return 1;
	len = mbrtowc(&c, s, n, &state);
	if (len == 0 || len > n)
		return 1;
	w = wcwidth(c);
	*plain = w >= 0;
	*columns = w >= 0 ? (unsigned)w : 1;
	return len;
}

/* `s` in exactly `width` columns, cut or filled up; a number stands to the right. */
static void put_cell(struct buf *out, const char *s, unsigned width, bool right)
{
	bool utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	size_t n = strlen(s), start = out->len;
	unsigned used = 0;

	while (n > 0) {
		unsigned columns;
		bool plain;
		size_t len = next_char(s, n, utf8, &columns, &plain);

		if (used + columns > width)
			break;
		if (plain)
			buf_add(out, s, len);
		else
			buf_add_byte(out, '?');
		used += columns;
		s += len;
		n -= len;
	}
	for (; used < width; used++) {
		buf_add_byte(out, ' ');
		if (right && out->len > start + 1) { /* the blank goes to the front */
			memmove(out->data + start + 1, out->data + start, out->len - start - 1);
			out->data[start] = ' ';
		}
	}
}

static void put_count(char *out, size_t size, uint64_t n)
{
	if (n == 0)
		out[0] = '\0';
	else
		(void)snprintf(out, size, "%" PRIu64, n);
}

/* ---- drawing ---- */

struct pen {
	struct buf *out;
	unsigned width;
	bool color;
};

static void style(const struct pen *p, const char *sgr)
{
	if (p->color)
		buf_printf(p->out, "\033[%sm", sgr);
}

static void end_line(const struct pen *p, bool last)
{
	buf_add_str(p->out, last ? "\033[K" : "\033[K\r\n");
}

static void line_of(const struct pen *p, const char *text, const char *sgr)
{
	style(p, sgr);
	put_cell(p->out, text, p->width, false);
	style(p, "0");
	end_line(p, false);
}

static const char *color_of(const char *state)
{
	if (strcmp(state, "idle") == 0)
		return "32";
	if (strcmp(state, "sending") == 0)
		return "36";
	if (strcmp(state, "down") == 0)
		return "1;31";
	if (strcmp(state, "stopped") == 0 || strcmp(state, "vetoed") == 0)
		return "1;35";
	return strcmp(state, "no source") == 0 ? "1;33" : "0";
}

/* Columns besides the name's, which grows, and the remark's, which takes the rest. */
enum { W_STATE = 10, W_LAG = 8, W_PENDING = 9, W_RATE = 11, W_FAILED = 7 };
#define W_FIXED (W_STATE + W_LAG + W_PENDING + W_RATE + W_FAILED + 5u)

static unsigned name_width(const struct top_view *v, unsigned width)
{
	unsigned most = width / 3 < 8 ? 8 : width / 3, widest = 8;

	for (size_t i = 0; i < v->n_rows; i++) {
		size_t n = strlen(v->rows[i].name);

		if (n > widest)
			widest = (unsigned)n;
	}
	return widest < most ? widest : most;
}

static void draw_cells(const struct pen *p, const char *const *cells, unsigned name, const char *state_sgr)
{
	static const unsigned widths[] = { W_LAG, W_PENDING, W_RATE, W_FAILED };
	unsigned used = W_FIXED + name + 1;
	struct buf line;
	const struct pen inner = { &line, p->width, p->color };

	buf_init(&line, 64u * 1024);
	put_cell(&line, cells[0], name, false);
	buf_add_byte(&line, ' ');
	if (state_sgr != NULL)
		style(&inner, state_sgr);
	put_cell(&line, cells[1], W_STATE, false);
	if (state_sgr != NULL)
		style(&inner, "0");
	for (size_t i = 0; i < 4; i++) {
		buf_add_byte(&line, ' ');
		put_cell(&line, cells[2 + i], widths[i], true);
	}
	if (used + 4 < p->width) {
		buf_add_str(&line, "  ");
		put_cell(&line, cells[6], p->width - used - 1, false);
	}
	buf_add(p->out, line.data, line.len);
	buf_done(&line);
}

static void draw_row(const struct pen *p, const struct top_row *r, unsigned name, bool selected)
{
	char lag[24], pending[24], rate[24], failed[24];
	const char *const cells[] = { r->name, r->state, lag, pending, rate, failed, r->remark };

	lag[0] = rate[0] = '\0';
	if (r->lag_ms > 0)
		put_span(lag, sizeof(lag), (double)r->lag_ms / 1000);
	if (r->bytes_per_s >= 0.5)
		put_bytes(rate, sizeof(rate), r->bytes_per_s);
	put_count(pending, sizeof(pending), r->pending + r->in_flight);
	put_count(failed, sizeof(failed), r->failed);
	if (selected)
		style(p, "7");
	draw_cells(p, cells, name, selected ? NULL : color_of(r->state));
	if (selected)
		style(p, "0");
	end_line(p, false);
}

static void put_summary(const struct top_view *v, char *out, size_t size)
{
	size_t trouble = 0, busy = 0, failed = 0;
	char up[24];

	for (size_t i = 0; i < v->n_rows; i++) {
		const char *state = v->rows[i].state;

		trouble += is_trouble(state) ? 1 : 0;
		busy += strcmp(state, "sending") == 0 || strcmp(state, "waiting") == 0 ? 1 : 0;
		failed += v->rows[i].failed > 0 ? 1 : 0;
	}
	put_span(up, sizeof(up), v->now > v->started ? (double)(v->now - v->started) : 0);
	(void)snprintf(out, size, "fansyncd %s, up %s: %zu sync%s, %zu in trouble, %zu busy, %zu with failures   %s",
		       v->version, up, v->n_rows, v->n_rows == 1 ? "" : "s", trouble, busy, failed, v->config);
}

static void draw_selected(const struct pen *p, const struct top_view *v)
{
	const struct top_row *r = v->selected < v->n_rows ? &v->rows[v->selected] : NULL;
	char text[2048], done[64] = "";

	line_of(p, "", "0");
	if (r == NULL) {
		line_of(p, "", "0");
		line_of(p, "", "0");
		return;
	}
	if (r->total > 0)
		(void)snprintf(done, sizeof(done), "%" PRIu64 " of %" PRIu64 " files; ", r->done, r->total);
	(void)snprintf(text, sizeof(text), "%s: %s -> %s", r->name, r->source, r->target);
	line_of(p, text, "1");
	(void)snprintf(text, sizeof(text), "%s%s", done, r->remark);
	line_of(p, text, "0");
}

static void draw_keys(const struct pen *p, const struct top_view *v)
{
	char text[256];

	(void)snprintf(text, sizeof(text), "q quit  s order: %s%s  r reverse  p %s  arrows, PgUp, PgDn, Home, End",
		       order_names[v->order], v->backwards ? " (reversed)" : "",
		       v->paused ? "go on (paused)" : "pause");
	style(p, v->notice == NULL ? "2" : "1;31");
	put_cell(p->out, v->notice == NULL ? text : v->notice, p->width, false);
	style(p, "0");
	end_line(p, true);
}

static unsigned rows_of(unsigned height)
{
	return height > LINES_ABOVE + LINES_BELOW + 1 ? height - LINES_ABOVE - LINES_BELOW : 1;
}

/* The selected row is among those that are shown. */
static void scroll(struct top_view *v, unsigned rows)
{
	if (v->selected >= v->n_rows)
		v->selected = v->n_rows == 0 ? 0 : v->n_rows - 1;
	if (v->selected < v->first)
		v->first = v->selected;
	if (v->selected >= v->first + rows)
		v->first = v->selected + 1 - rows;
	if (v->first + rows > v->n_rows)
		v->first = v->n_rows > rows ? v->n_rows - rows : 0;
}

void top_view_draw(struct top_view *v, unsigned width, unsigned height, bool color, struct buf *out)
{
	static const char *const heads[] = { "SYNC", "STATE", "LAG", "PENDING", "RATE", "FAILED", "WHAT" };
	/* The last column stays free: what is erased to the end of the line begins behind the text. */
	const struct pen p = { out, width - 1, color };
	unsigned rows = rows_of(height), name = name_width(v, width);
	char summary[1024];

	scroll(v, rows);
	put_summary(v, summary, sizeof(summary));
	buf_add_str(out, "\033[H");
	line_of(&p, summary, "1");
	style(&p, "4");
	draw_cells(&p, heads, name, NULL);
	style(&p, "0");
	end_line(&p, false);
	for (unsigned i = 0; i < rows; i++) {
		if (v->first + i < v->n_rows)
			draw_row(&p, &v->rows[v->first + i], name, v->first + i == v->selected);
		else
			line_of(&p, "", "0");
	}
	if (height > LINES_ABOVE + LINES_BELOW + 1)
		draw_selected(&p, v);
	draw_keys(&p, v);
	buf_add_str(out, "\033[J");
}

void top_view_plain(const struct top_view *v, struct buf *out)
{
	char text[1024];

	put_summary(v, text, sizeof(text));
	buf_printf(out, "%s\n", text);
	for (size_t i = 0; i < v->n_rows; i++) {
		const struct top_row *r = &v->rows[i];

		put_span(text, sizeof(text), (double)r->lag_ms / 1000);
		buf_printf(out,
			   "%s\t%s\tlag %s\tpending %" PRIu64 "\tfailed %" PRIu64 "\tfiles %" PRIu64 "\tbytes %" PRIu64
			   "\t%s\n",
			   r->name, r->state, text, r->pending + r->in_flight, r->failed, r->files, r->bytes,
			   r->remark);
	}
	buf_add_byte(out, '\n');
}

/* ---- keys ---- */

static void move(struct top_view *v, int64_t by)
{
	int64_t at = (int64_t)v->selected + by, last = v->n_rows == 0 ? 0 : (int64_t)v->n_rows - 1;

	v->selected = (size_t)(at < 0 ? 0 : at > last ? last : at);
}

enum top_wish top_view_key(struct top_view *v, const char *key, size_t len, unsigned page)
{
	static const struct {
		const char *key;
		int kind; /* 0: by `by` rows, 1: by pages, 2: to an end */
		int by;
	} moves[] = {
		{ "\033[A", 0, -1 }, { "\033OA", 0, -1 }, { "k", 0, -1 },	{ "\033[B", 0, 1 },
		{ "\033OB", 0, 1 },  { "j", 0, 1 },	  { "\033[5~", 1, -1 }, { "\033[6~", 1, 1 },
		{ " ", 1, 1 },	     { "\033[H", 2, -1 }, { "\033[1~", 2, -1 }, { "\033OH", 2, -1 },
		{ "\033[F", 2, 1 },  { "\033[4~", 2, 1 }, { "\033OF", 2, 1 },
	};

	for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++)
		if (len == strlen(moves[i].key) && memcmp(key, moves[i].key, len) == 0) {
			int64_t by = moves[i].by;

			move(v, moves[i].kind == 0 ? by : moves[i].kind == 1 ? by * (int64_t)page : by * INT32_MAX);
			return TOP_REDRAW;
		}
	if (len != 1)
		return TOP_NOTHING;
	switch (key[0]) {
	case 'q':
	case 'Q':
	case 4: /* ^D */
		return TOP_QUIT;
	case 's':
		v->order = v->order + 1 == TOP_ORDERS ? TOP_BY_TROUBLE : v->order + 1;
		break;
	case 'r':
		v->backwards = !v->backwards;
		break;
	case 'p':
		v->paused = !v->paused;
		break;
	default:
		return TOP_NOTHING;
	}
	top_view_sort(v);
	return TOP_REDRAW;
}
