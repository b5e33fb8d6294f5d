/* LINK: core/changeset.c core/changeset_renames.c core/changeset_batches.c core/changeset_large.c
 * core/marks.c core/marks_queue.c core/batch.c core/path.c */
/*
 * bench_changeset.c - what the changeset costs: taking in and handing out many creates (twice as many must take about
 * twice as long), the collapse at its limit, a rename above many marks, and the memory of a mark.
 */
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/changeset.h"

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct changeset *make(size_t max_pending)
{
	const struct changeset_limits limits = { max_pending, 1000, 100000, 64u << 20 };
	struct changeset *cs = changeset_new(&limits);

	if (cs == NULL)
		abort();
	return cs;
}

/* `per_dir` names a directory; 0: all in one. */
static void create(struct changeset *cs, size_t n, size_t per_dir)
{
	char path[64];

	for (size_t i = 0; i < n; i++) {
		int len = snprintf(path, sizeof(path), "srv/d%zu/file-%zu", per_dir == 0 ? 0 : i / per_dir, i);
		struct change c = { .kind = CHANGE_CREATE, .path = path, .path_len = (size_t)len };

		if (changeset_add(cs, &c, 1, (int64_t)i, 0, false) != 0)
			abort();
	}
}

static void drain(struct changeset *cs)
{
	struct batch *b;

	while ((b = changeset_take(cs, INT64_MAX)) != NULL) {
		for (size_t i = 0; i < b->n_items; i++)
			(void)changeset_settle(cs, b->id, i, VERDICT_DONE, 0, 1);
		changeset_finish(cs, b->id, 1);
		batch_free(b);
	}
}

static double best_of(size_t n, size_t per_dir, double *out)
{
	double in = 1e9;

	*out = 1e9;
	for (int i = 0; i < 5; i++) {
		struct changeset *cs = make(10 * n);
		double t0 = now_s(), t1, t2;

		create(cs, n, per_dir);
		t1 = now_s();
		drain(cs);
		t2 = now_s();
		in = t1 - t0 < in ? t1 - t0 : in;
		*out = t2 - t1 < *out ? t2 - t1 : *out;
		changeset_free(cs);
	}
	return in;
}

static void growth(const char *what, size_t per_dir)
{
	double out1, out2, in1 = best_of(100000, per_dir, &out1), in2 = best_of(200000, per_dir, &out2);

	printf("%-24s in: 100k %.1f ms, 200k %.1f ms, ratio %.2f; out: %.1f ms, %.1f ms, ratio %.2f\n", what, in1 * 1e3,
	       in2 * 1e3, in2 / in1, out1 * 1e3, out2 * 1e3, out2 / out1);
}

static void memory(void)
{
	struct mallinfo2 before = mallinfo2();
	struct changeset *cs = make(1000000);
	struct mallinfo2 after;

	create(cs, 200000, 1000);
	after = mallinfo2();
	printf("%-24s %.0f bytes\n", "a mark",
	       (double)(after.uordblks + after.hblkhd - before.uordblks - before.hblkhd) / 200000);
	changeset_free(cs);
}

static void collapse(void)
{
	struct changeset *cs = make(50000);
	double t0 = now_s();

	create(cs, 200000, 1000);
	printf("%-24s 200k creates, limit 50k: %.1f ms, %llu collapses, %zu marks left\n", "collapse",
	       (now_s() - t0) * 1e3, (unsigned long long)changeset_collapses(cs), changeset_pending(cs));
	changeset_free(cs);
}

static void rename_above(void)
{
	struct changeset *cs = make(1000000);
	struct change c = { .kind = CHANGE_RENAME,
			    .is_dir = true,
			    .exact = true,
			    .path = "srv/new",
			    .path_len = 7,
			    .old_path = "srv/d0",
			    .old_len = 6 };
	double t0;

	create(cs, 4000, 0);
	t0 = now_s();
	if (changeset_add(cs, &c, 1, 1, 0, false) != 0)
		abort();
	printf("%-24s 4000 marks below: %.2f ms, %zu renames carried\n", "rename", (now_s() - t0) * 1e3,
	       changeset_pending_renames(cs));
	changeset_free(cs);
}

int main(void)
{
	growth("creates, 1000 a dir", 1000);
	growth("creates, one dir", 0);
	memory();
	collapse();
	rename_above();
	return 0;
}
