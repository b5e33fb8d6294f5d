#include "core/progress.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/clock.h"

/* More targets than fit on a screen would scroll the terminal at each report. */
#define ROWS_MAX 40u
/* In a pipe or a file: a line for each target this often, besides one at its end. */
#define PLAIN_INTERVAL_NS (10 * NS_PER_S)

enum { F_NAME = 0, F_STATE, F_PHASE, F_FILES, F_FILES_TOTAL, F_BYTES, F_BYTES_TOTAL, FIELDS };

struct row {
	char name[65]; /* a sync's name has 64 characters at most */
	bool over;
	int64_t told_ns;
};

struct progress {
	int fd;
	bool tty;
	size_t drawn; /* lines on the terminal now */
	int64_t began_ns;
	struct row *rows; /* not on a terminal */
	size_t n_rows, cap;
};

struct report {
	const char *name, *state, *phase;
	uint64_t files, files_total, bytes, bytes_total;
	double rate;  /* bytes a second */
	double eta_s; /* < 0: unknown */
};

struct progress *progress_new(int fd)
{
	struct progress *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->fd = fd;
	p->tty = isatty(fd) == 1;
	return p;
}

void progress_free(struct progress *p)
{
	if (p != NULL)
		free(p->rows);
	free(p);
}

static void put(const struct progress *p, const struct buf *b)
{
	size_t done = 0;

	while (done < b->len) {
		ssize_t n = write(p->fd, b->data + done, b->len - done);

		if (n <= 0)
			return;
		done += (size_t)n;
	}
}

static void erase(struct progress *p, struct buf *out)
{
	if (p->drawn > 0)
		buf_printf(out, "\033[%zuA\r\033[J", p->drawn);
	p->drawn = 0;
}

void progress_clear(struct progress *p)
{
	struct buf out;

	if (p == NULL || p->drawn == 0)
		return;
	buf_init(&out, 256);
	erase(p, &out);
	put(p, &out);
	buf_done(&out);
}

static void put_bytes(struct buf *out, double n)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
	size_t u = 0;

	while (n >= 1024 && u + 1 < sizeof(units) / sizeof(units[0])) {
		n /= 1024;
		u++;
	}
	buf_printf(out, u == 0 ? "%.0f %s" : "%.1f %s", n, units[u]);
}

static void put_report(struct buf *out, const struct report *r)
{
	buf_printf(out, "%s: %s", r->name, r->state);
	if (strcmp(r->phase, "-") != 0)
		buf_printf(out, ", %s", r->phase);
	buf_printf(out, ", %" PRIu64, r->files);
	if (r->files_total > 0)
		buf_printf(out, " of %" PRIu64, r->files_total);
	buf_add_str(out, " files, ");
	put_bytes(out, (double)r->bytes);
	if (r->bytes_total > 0) {
		buf_add_str(out, " of ");
		put_bytes(out, (double)r->bytes_total);
	}
	if (r->rate >= 1) {
		buf_add_str(out, ", ");
		put_bytes(out, r->rate);
		buf_add_str(out, "/s");
	}
	if (r->eta_s >= 0)
		buf_printf(out, ", %" PRIu64 ":%02u left", (uint64_t)r->eta_s / 60,
			   (unsigned)((uint64_t)r->eta_s % 60));
}

static struct row *row_of(struct progress *p, const char *name)
{
	for (size_t i = 0; i < p->n_rows; i++)
		if (strncmp(p->rows[i].name, name, sizeof(p->rows[i].name) - 1) == 0)
			return &p->rows[i];
	if (p->n_rows == p->cap) {
		size_t cap = p->cap == 0 ? 16 : p->cap * 2;
		struct row *rows = realloc(p->rows, cap * sizeof(*rows));

		if (rows == NULL)
			return NULL;
		p->rows = rows;
		p->cap = cap;
	}
	p->rows[p->n_rows] = (struct row){ .over = false };
	(void)snprintf(p->rows[p->n_rows].name, sizeof(p->rows[0].name), "%s", name);
	return &p->rows[p->n_rows++];
}

static bool parse(char *line, struct report *r, double passed)
{
	char *fields[FIELDS], *next = line;

	for (size_t i = 0; i < FIELDS; i++) {
		if (next == NULL)
			return false;
		fields[i] = strsep(&next, "\t");
	}
	*r = (struct report){
		.name = fields[F_NAME],
		.state = fields[F_STATE],
		.phase = fields[F_PHASE],
		.files = strtoull(fields[F_FILES], NULL, 10),
		.files_total = strtoull(fields[F_FILES_TOTAL], NULL, 10),
		.bytes = strtoull(fields[F_BYTES], NULL, 10),
		.bytes_total = strtoull(fields[F_BYTES_TOTAL], NULL, 10),
		.eta_s = -1,
	};
	r->rate = passed > 0.5 ? (double)r->bytes / passed : 0;
	if (r->bytes_total > r->bytes && r->rate >= 1)
		r->eta_s = (double)(r->bytes_total - r->bytes) / r->rate;
	return true;
}

/* One screen line a target; longer ones would wrap and break the erasing. */
static void draw(struct progress *p, struct buf *out, const struct report *r)
{
	struct winsize ws;
	size_t width = ioctl(p->fd, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 10 ? ws.ws_col : 80, at = out->len;

	put_report(out, r);
	if (out->len - at > width - 1)
		out->len = at + width - 1;
	buf_add_byte(out, '\n');
	p->drawn++;
}

static void plain(struct progress *p, struct buf *out, const struct report *r, int64_t now_ns)
{
	struct row *row = row_of(p, r->name);
	bool over = strcmp(r->state, "equal") == 0 || strcmp(r->state, "failed") == 0;

	if (row == NULL || row->over || (!over && row->told_ns != 0 && now_ns - row->told_ns < PLAIN_INTERVAL_NS))
		return;
	row->over = over;
	row->told_ns = now_ns;
	put_report(out, r);
	buf_add_byte(out, '\n');
}

void progress_update(struct progress *p, const char *data, size_t len, int64_t now_ns)
{
	struct buf out;
	char *text = strndup(data, len), *rest = text, *line;

	if (p->began_ns == 0)
		p->began_ns = now_ns;
	buf_init(&out, 1024 * 1024);
	if (p->tty)
		erase(p, &out);
	while (rest != NULL && (line = strsep(&rest, "\n")) != NULL) {
		struct report r;

		if (!parse(line, &r, (double)(now_ns - p->began_ns) / (double)NS_PER_S))
			continue;
		if (!p->tty)
			plain(p, &out, &r, now_ns);
		else if (p->drawn < ROWS_MAX)
			draw(p, &out, &r);
	}
	put(p, &out);
	buf_done(&out);
	free(text);
}
