/* LINK: core/top_view.c core/buf.c */
/* What --top shows: reports that are read or refused, orders, keys, and screens of any size. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/top_view.h"

#define DAEMON "D\t1.0\t/etc/x.conf\t100\t160\n"
#define SYNC(name, state, lag, pending, failed, bytes)                                                                 \
	"S\t" name "\t" state "\t" lag "\t" pending "\t0\t" failed "\t1\t" bytes                                       \
	"\t0\t0\t150\t/s\t/t\tremark of " name "\n"
#define THREE                                                                                                          \
	DAEMON SYNC("b", "idle", "0", "0", "0", "1000") SYNC("a", "waiting", "1500", "3", "0", "0")                    \
		SYNC("c", "down", "90000", "1", "2", "0")
#define S ((int64_t)1000000000)

static void read_text(struct top_view *v, const char *text, int64_t now)
{
	assert_true(top_view_read(v, text, strlen(text), now));
}

static void order_is(const struct top_view *v, const char *names)
{
	assert_int_equal(v->n_rows, strlen(names));
	for (size_t i = 0; i < v->n_rows; i++)
		assert_int_equal(v->rows[i].name[0], names[i]);
}

static void key(struct top_view *v, const char *k)
{
	assert_int_equal(top_view_key(v, k, strlen(k), 2), TOP_REDRAW);
}

static void reads(void **state)
{
	static const char *const bad[] = { "",
					   "D\t1.0\n",
					   DAEMON "S\ta\n",
					   DAEMON "X\n",
					   DAEMON "S\ta\tidle\t0\t0\t0\t0\t1\t1\t0\t0\t0\t/s\t/t\tr\tmore\n",
					   "D\t1.0\tx\t1\t1" };
	struct top_view v;

	(void)state;
	top_view_init(&v);
	read_text(&v, THREE, S);
	assert_int_equal(v.n_rows, 3);
	assert_string_equal(v.version, "1.0");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(top_view_read(&v, bad[i], strlen(bad[i]), 2 * S));
	assert_false(top_view_read(&v, "D\t1\0\tx\t1\t1\n", 11, 2 * S));
	assert_int_equal(v.n_rows, 3); /* the one before stays */
	/* Rates, from the second report on. */
	assert_true(v.rows[2].bytes_per_s == 0);
	read_text(&v, DAEMON SYNC("b", "idle", "0", "0", "0", "5000") SYNC("n", "idle", "0", "0", "0", "9"), 3 * S);
	assert_true(v.rows[0].bytes_per_s == 2000 && v.rows[1].bytes_per_s == 0);
	top_view_done(&v);
}

static void orders(void **state)
{
	struct top_view v;

	(void)state;
	top_view_init(&v);
	read_text(&v, THREE, S);
	order_is(&v, "cab"); /* trouble first, then who is busy */
	key(&v, "s");
	order_is(&v, "abc");
	key(&v, "r");
	order_is(&v, "cba");
	key(&v, "r");
	key(&v, "s");
	order_is(&v, "cab"); /* lag */
	key(&v, "s");
	order_is(&v, "acb"); /* pending */
	key(&v, "s");
	key(&v, "s");
	order_is(&v, "bac"); /* as configured */
	key(&v, "s");
	order_is(&v, "cab");
	/* Who was selected stays so, wherever it comes to stand. */
	key(&v, "\033[B");
	assert_string_equal(v.rows[v.selected].name, "a");
	read_text(&v,
		  DAEMON SYNC("b", "down", "0", "0", "0", "0") SYNC("c", "down", "0", "0", "0", "0")
			  SYNC("a", "idle", "0", "0", "0", "0"),
		  2 * S);
	order_is(&v, "bca");
	assert_string_equal(v.rows[v.selected].name, "a");
	/* And may go. */
	read_text(&v, DAEMON SYNC("b", "down", "0", "0", "0", "0"), 3 * S);
	key(&v, "\033[F");
	assert_int_equal(v.selected, 0);
	read_text(&v, DAEMON, 4 * S);
	key(&v, "j");
	assert_int_equal(v.selected, 0);
	assert_int_equal(top_view_key(&v, "q", 1, 2), TOP_QUIT);
	assert_int_equal(top_view_key(&v, "\033[99~", 5, 2), TOP_NOTHING);
	assert_int_equal(top_view_key(&v, "\033", 1, 2), TOP_NOTHING);
	top_view_done(&v);
}

/* The screen as lines of columns, with what the escapes say left out. */
static size_t lines_of(struct buf *out, unsigned width, bool *wide)
{
	size_t lines = 1;
	unsigned column = 0;

	for (const char *p = buf_str(out); *p != '\0'; p++) {
		if (*p == '\033') {
			while ((*p < '@' || *p > '~') || *p == '[')
				p++;
			continue;
		}
		assert_true((unsigned char)*p >= 0x20 || *p == '\r' || *p == '\n');
		if (*p == '\n')
			lines++;
		column = *p == '\n' || *p == '\r' ? 0 : column + (((unsigned char)*p & 0xc0) != 0x80 ? 1 : 0);
		*wide = *wide || column > width;
	}
	return lines;
}

static void screens(void **state)
{
	struct top_view v;
	struct buf out;
	bool wide;

	(void)state;
	top_view_init(&v);
	buf_init(&out, 1 << 20);
	for (unsigned rows = 0; rows < 2; rows++) {
		for (unsigned width = 20; width < 140; width += 7)
			for (unsigned height = 1; height < 40; height += 3) {
				buf_clear(&out);
				wide = false;
				top_view_draw(&v, width, height, height % 2 == 0, &out);
				assert_false(out.failed);
				/* With too few lines there is at least a row; else exactly the screen. */
				assert_int_equal(lines_of(&out, width, &wide), height > 7 ? height : 4);
				assert_true(width < 70 || !wide); /* what is wider is cut by the terminal */
			}
		read_text(&v, THREE, S);
	}
	assert_non_null(strstr(buf_str(&out), "fansyncd"));
	buf_clear(&out);
	top_view_draw(&v, 120, 24, false, &out);
	assert_non_null(strstr(buf_str(&out), "remark of c"));
	assert_non_null(strstr(buf_str(&out), "90 s"));
	assert_null(strstr(buf_str(&out), "\033[1;31m")); /* no colours were asked for */
	buf_clear(&out);
	top_view_plain(&v, &out);
	assert_non_null(strstr(buf_str(&out), "c\tdown\tlag 90 s\tpending 1\tfailed 2"));
	assert_null(strchr(buf_str(&out), '\033'));
	buf_done(&out);
	top_view_done(&v);
}

/* Characters are cut whole; what the terminal's character set lacks is a question mark. */
static void characters(void **state)
{
	static const char report[] =
		DAEMON "S\tx\tidle\t0\t0\t0\t0\t1\t1\t0\t0\t0\t/s\t/t\t\xe6\xbc\xa2\xe5\xad\x97 \xc3\xa4\n";
	struct top_view v;
	struct buf out;

	(void)state;
	top_view_init(&v);
	buf_init(&out, 1 << 20);
	read_text(&v, report, S);
	top_view_draw(&v, 100, 24, false, &out);
	assert_null(strstr(buf_str(&out), "\xe6"));
	assert_non_null(strstr(buf_str(&out), "?????? ??"));
	if (setlocale(LC_CTYPE, "C.UTF-8") != NULL) {
		buf_clear(&out);
		top_view_draw(&v, 100, 24, false, &out);
		assert_non_null(strstr(buf_str(&out), "\xe6\xbc\xa2\xe5\xad\x97 \xc3\xa4"));
		for (unsigned width = 60; width < 80; width++) { /* a half of one would be no UTF-8 */
			buf_clear(&out);
			top_view_draw(&v, width, 24, false, &out);
			assert_int_not_equal(mbstowcs(NULL, buf_str(&out), 0), (size_t)-1);
		}
	}
	buf_done(&out);
	top_view_done(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads),
		cmocka_unit_test(orders),
		cmocka_unit_test(screens),
		cmocka_unit_test(characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
