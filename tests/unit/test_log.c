/* LINK: core/log.c core/safe_open.c core/err.c core/fsutil.c core/path.c core/buf.c */
/* The log: categories, escaping, the file and its reopening, the sink, the limiter. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <syslog.h>

#include <cmocka.h>

#include "core/log.h"
#include "tests/unit/scratch.h"

#define DATE 25 /* bytes: "Fri Jan  1 00:00:00 2021 " */
#define ESCAPED(s, want) check_escape((s), sizeof(s) - 1, (want))

struct fixture {
	struct scratch scratch;
	char path[512];
	char text[512 * 1024];
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	if (scratch_make(&f->scratch) < 0)
		return -1;
	snprintf(f->path, sizeof(f->path), "%.300s/log", f->scratch.dir);
	log_set_mask(1u << LOG_CAT_ERROR | 1u << LOG_CAT_WARN | 1u << LOG_CAT_NORMAL);
	return 0;
}

static int clean_up(void **state)
{
	struct fixture *f = *state;
	int rc;

	log_set_sink(NULL, NULL);
	log_close();
	rc = scratch_remove(&f->scratch);
	free(f);
	return rc;
}

static void open_file(struct fixture *f)
{
	const struct log_settings s = { .file = f->path, .to_syslog = true, .facility = LOG_USER, .ident = "test" };
	struct err err = ERR_INIT;

	assert_int_equal(log_open(&s, &err), 0);
}

static const char *content(struct fixture *f)
{
	return scratch_read(f->path, f->text, sizeof(f->text));
}

/* The n-th line's text behind its date. */
static const char *line(struct fixture *f, unsigned n)
{
	static char out[16384];
	const char *at = content(f), *end;

	while (n-- > 0)
		at = strchr(at, '\n') + 1;
	end = strchr(at, '\n');
	assert_non_null(end);
	assert_true(end - at > DATE);
	snprintf(out, sizeof(out), "%.*s", (int)(end - at - DATE), at + DATE);
	return out;
}

/* ---- categories ---- */

static void categories(void **state)
{
	(void)state;
	assert_true(log_enabled(LOG_CAT_ERROR) && log_enabled(LOG_CAT_WARN) && log_enabled(LOG_CAT_NORMAL));
	assert_false(log_enabled(LOG_CAT_INFO));
	assert_false(log_enabled(LOG_NONE));
	assert_false(log_enabled(LOG_CATEGORIES));
	log_enable(LOG_CAT_EXEC, true);
	assert_true(log_enabled(LOG_CAT_EXEC));
	log_enable(LOG_CAT_EXEC, false);
	assert_false(log_enabled(LOG_CAT_EXEC));
	log_enable(LOG_NONE, true);
	assert_false(log_enabled(LOG_NONE));
	log_set_mask(~0u);
	for (unsigned c = LOG_CAT_ERROR; c < LOG_CATEGORIES; c++)
		assert_true(log_enabled((enum log_category)c));
	assert_int_equal(log_mask() & 1u, 0);
	assert_int_equal(log_mask() >> LOG_CATEGORIES, 0);
	assert_string_equal(log_category_name(LOG_CAT_EVENT), "Event");
	assert_string_equal(log_category_name(LOG_CATEGORIES), "Unknown");
}

static void lsyncds_words(void **state)
{
	static const struct {
		const char *word;
		enum log_category cat;
	} cases[] = {
		{ "Exec", LOG_CAT_EXEC },	  { "Inotify", LOG_CAT_EVENT }, { "Fsevents", LOG_CAT_EVENT },
		{ "Delay", LOG_CAT_RECORD },	  { "Call", LOG_CAT_RECORD },	{ "Exclude", LOG_CAT_FILTER },
		{ "Statusfile", LOG_CAT_STATUS }, { "Alarm", LOG_CAT_ALARM },	{ "Debug", LOG_CAT_DEBUG },
	};
	bool known;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		log_set_mask(0);
		assert_int_equal(log_enable_word(cases[i].word, &known), 0);
		assert_true(known);
		assert_int_equal(log_mask(), 1u << cases[i].cat);
	}
	assert_int_equal(log_enable_word("all", NULL), 0);
	assert_true(log_enabled(LOG_CAT_DEBUG) && log_enabled(LOG_CAT_ERROR));
	assert_int_equal(log_enable_word("scarce", &known), 0);
	assert_false(log_enabled(LOG_CAT_NORMAL));
	assert_true(log_enabled(LOG_CAT_WARN));
	log_set_mask(0);
	assert_int_equal(log_enable_word("Whatever", &known), 0);
	assert_false(known);
	assert_int_equal(log_mask(), 0);
	assert_int_equal(log_enable_word("whatever", &known), -1);
	assert_int_equal(log_enable_word("", &known), -1);
}

/* ---- escaping ---- */

static void check_escape(const char *s, size_t n, const char *want)
{
	char out[256];

	log_escape(out, sizeof(out), s, n);
	assert_string_equal(out, want);
}

static void escaping(void **state)
{
	(void)state;
	ESCAPED("", "");
	ESCAPED("plain text", "plain text");
	ESCAPED("a\nb\tc\r\x1b[0m", "a\\012b\\011c\\015\\033[0m");
	ESCAPED("\0x\x7f", "\\000x\\177");
	ESCAPED("back\\slash", "back\\\\slash");
	ESCAPED("ä€😀", "ä€😀");
	ESCAPED("\xc2\x85", "\\302\\205"); /* C1: a terminal's next line */
	ESCAPED("\xc2\xa0", "\xc2\xa0");
	ESCAPED("\xff\xc3", "\\377\\303");
	ESCAPED("\xc0\xaf", "\\300\\257");
	ESCAPED("\xed\xa0\x80", "\\355\\240\\200");
	ESCAPED("\xf4\x90\x80\x80", "\\364\\220\\200\\200");
	ESCAPED("\xe2\x82", "\\342\\202");
}

/* Cut at whole characters, never beyond the room, always ended. */
static void escaping_into_little_room(void **state)
{
	static const char s[] = "ab\n€\\\xff"
				"c€d";
	char whole[64], out[64];
	size_t full;

	(void)state;
	log_escape(whole, sizeof(whole), s, sizeof(s) - 1);
	full = strlen(whole);
	for (size_t room = 1; room <= full + 1; room++) {
		char *exact = malloc(room); /* the sanitizer sees one byte too many */
		size_t kept;

		log_escape(exact, room, s, sizeof(s) - 1);
		memcpy(out, exact, room);
		free(exact);
		assert_true(strlen(out) < room);
		if (room == full + 1) {
			assert_string_equal(out, whole);
			continue;
		}
		kept = strlen(out) >= 3 ? strlen(out) - 3 : 0;
		assert_memory_equal(out, whole, kept);
		assert_memory_equal(out + kept, "...", strlen(out) - kept);
		/* Not within an escape or a character. */
		assert_true(kept == 0 || (((unsigned char)whole[kept] & 0xc0u) != 0x80));
	}
	log_escape(NULL, 0, s, sizeof(s) - 1);
}

/* ---- the file ---- */

static void lines_in_a_file(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	open_file(f);
	log_error("number %d", 1);
	log_warn("name %s", "a\nFri Jan  1 00:00:00 2021 Normal: forged");
	log_normal("%s", "back\\slash");
	log_info("%s", "not enabled");
	log_debug(LOG_CAT_EXEC, "%s", "nor this");
	log_msg(LOG_NONE, "nor this");
	assert_string_equal(line(f, 0), "Error: number 1");
	assert_string_equal(line(f, 1), "Warn: name a\\012Fri Jan  1 00:00:00 2021 Normal: forged");
	assert_string_equal(line(f, 2), "Normal: back\\\\slash");
	assert_null(strstr(content(f), "not enabled"));
	assert_null(strstr(content(f), "nor this"));
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0027, 0);
	assert_int_equal(log_lost(), 0);
}

static void long_lines(void **state)
{
	struct fixture *f = *state;
	char *text = malloc(100001);

	memset(text, 'x', 100000);
	text[100000] = '\0';
	open_file(f);
	log_normal("%.5000s|", text);
	assert_int_equal(strlen(line(f, 0)), strlen("Normal: ") + 5001);
	log_normal("%s", text); /* cut, and one line */
	memset(text, 1, 60000);
	text[60000] = '\0';
	log_normal("%s", text); /* each byte becomes four */
	content(f);
	assert_int_equal(f->text[strlen(f->text) - 1], '\n');
	free(text);
}

/* The caller's errno is for %m, and stays as it is. */
static void errno_is_kept(void **state)
{
	struct fixture *f = *state;

	open_file(f);
	errno = ENOENT;
	log_normal("%m");
	assert_int_equal(errno, ENOENT);
	assert_string_equal(line(f, 0), "Normal: No such file or directory");
}

static void reopens_by_name(void **state)
{
	struct fixture *f = *state;
	const char *old = scratch_path(&f->scratch, "log.1");
	struct err err = ERR_INIT;
	char text[1024];

	open_file(f);
	log_normal("one");
	assert_int_equal(rename(f->path, old), 0);
	assert_int_equal(log_reopen(&err), 0);
	log_normal("two");
	assert_string_equal(line(f, 0), "Normal: two");
	assert_null(strstr(scratch_read(old, text, sizeof(text)), "two"));
	/* When it cannot be reopened the old one goes on. */
	assert_int_equal(unlink(f->path), 0);
	assert_int_equal(mkdir(f->path, 0700), 0);
	assert_int_equal(log_reopen(&err), -1);
	assert_non_null(strstr(err.text, f->path));
	log_normal("three");
	assert_int_equal(log_lost(), 0);
	assert_int_equal(rmdir(f->path), 0);
	assert_int_equal(log_reopen(&err), 0);
	log_normal("four");
	assert_string_equal(line(f, 0), "Normal: four");
}

/* Without a signal, too: a file that was renamed away is found by its name again, soon. */
static void follows_its_name(void **state)
{
	struct fixture *f = *state;

	open_file(f);
	log_normal("one");
	assert_int_equal(rename(f->path, scratch_path(&f->scratch, "log.1")), 0);
	alarm(60); /* a log that does not follow fails, not hangs */
	while (access(f->path, F_OK) < 0)
		log_normal("two");
	alarm(0);
	assert_string_equal(line(f, 0), "Normal: two");
}

static void a_failed_open_keeps_the_old(void **state)
{
	struct fixture *f = *state;
	const struct log_settings bad = { .file = "/no/such/directory/log" };
	struct err err = ERR_INIT;

	open_file(f);
	assert_int_equal(log_open(&bad, &err), -1);
	assert_int_equal(err.class, ERR_GONE);
	log_normal("still here");
	assert_string_equal(line(f, 0), "Normal: still here");
}

/* ---- the streams: in a child, whose 1 and 2 are files ---- */

struct streams {
	char out[4096], err[4096];
};

static struct streams in_child(struct fixture *f, void (*fn)(struct fixture *f))
{
	const char *out = scratch_path(&f->scratch, "out"), *errors = scratch_path(&f->scratch, "err");
	struct streams s;
	pid_t pid = fork();

	if (pid == 0) {
		int o = open(out, O_WRONLY | O_CREAT | O_CLOEXEC, 0600),
		    e = open(errors, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		if (dup2(o, 1) < 0 || dup2(e, 2) < 0)
			_exit(1);
		fn(f);
		_exit(0);
	}
	assert_int_equal(scratch_wait(pid), 0);
	scratch_read(out, s.out, sizeof(s.out));
	scratch_read(errors, s.err, sizeof(s.err));
	return s;
}

static void log_to_streams(struct fixture *f)
{
	const struct log_settings s = { .to_stdout = true };

	(void)f;
	if (log_open(&s, NULL) < 0)
		_exit(1);
	log_error("bad");
	log_normal("good");
}

static void log_unopened(struct fixture *f)
{
	(void)f;
	log_close();
	log_normal("early");
}

static void log_to_full_disk(struct fixture *f)
{
	const struct log_settings s = { .file = "/dev/full" };

	(void)f;
	if (log_open(&s, NULL) < 0)
		_exit(1);
	log_normal("nowhere");
	if (log_lost() != 1)
		_exit(2);
}

static void streams(void **state)
{
	struct streams s = in_child(*state, log_to_streams);

	assert_non_null(strstr(s.out, " Normal: good\n"));
	assert_null(strstr(s.out, "bad"));
	assert_non_null(strstr(s.err, " Error: bad\n"));
	assert_null(strstr(s.err, "good"));
}

static void before_it_is_opened(void **state)
{
	struct streams s = in_child(*state, log_unopened);

	assert_string_equal(s.out, "");
	assert_non_null(strstr(s.err, " Normal: early\n"));
}

/* What the file cannot take is seen on standard error, and counted. */
static void a_full_disk(void **state)
{
	struct streams s = in_child(*state, log_to_full_disk);

	assert_non_null(strstr(s.err, " Normal: nowhere\n"));
}

/* ---- the sink ---- */

struct sunk {
	enum log_category cat;
	char text[8192];
	unsigned n;
	bool talk;
};

static void sink(void *ctx, enum log_category cat, const char *text, size_t len)
{
	struct sunk *s = ctx;

	s->cat = cat;
	s->n++;
	snprintf(s->text, sizeof(s->text), "%.*s", (int)len, text);
	assert_int_equal(strlen(text), len);
	if (s->talk)
		log_warn("from the sink");
	errno = EIO;
}

static void to_a_sink(void **state)
{
	struct fixture *f = *state;
	struct sunk s = { 0 };

	open_file(f);
	log_set_sink(sink, &s);
	errno = 0;
	log_error("a\tb");
	assert_int_equal(errno, 0);
	assert_int_equal(s.n, 1);
	assert_int_equal(s.cat, LOG_CAT_ERROR);
	assert_string_equal(s.text, "a\\011b");
	assert_string_equal(content(f), "");
	s.talk = true; /* what it says itself goes to the file, not into a loop */
	log_error("x");
	assert_int_equal(s.n, 2);
	assert_string_equal(line(f, 0), "Warn: from the sink");
	log_set_sink(NULL, NULL);
	log_error("y");
	assert_int_equal(s.n, 2);
	assert_string_equal(line(f, 1), "Error: y");
}

/* What a worker sent is escaped already; what is not, forges no line. */
static void forwarded(void **state)
{
	struct fixture *f = *state;

	open_file(f);
	log_forward(LOG_CAT_ERROR, "sync", "a\\012b\\\\c", 9);
	assert_string_equal(line(f, 0), "Error: sync: a\\012b\\\\c");
	log_forward(LOG_CAT_ERROR, "na\nme", "raw\nbytes", 9);
	assert_string_equal(line(f, 1), "Error: na\\012me: raw\\012bytes");
	log_forward((enum log_category)77, NULL, "strange", 7);
	assert_string_equal(line(f, 2), "Warn: strange");
	log_forward(LOG_CAT_DEBUG, NULL, "not enabled", 11);
	assert_null(strstr(content(f), "not enabled"));
}

/* ---- the limiter ---- */

static void limiter(void **state)
{
	struct log_limit l = { 0 };
	uint64_t left = 9;

	(void)state;
	assert_true(log_limit_ok(&l, 1000, 2, 100, &left));
	assert_int_equal(left, 0);
	assert_true(log_limit_ok(&l, 1050, 2, 100, &left));
	assert_false(log_limit_ok(&l, 1060, 2, 100, &left));
	assert_false(log_limit_ok(&l, 1099, 2, 100, &left));
	assert_true(log_limit_ok(&l, 1100, 2, 100, &left));
	assert_int_equal(left, 2);
	assert_true(log_limit_ok(&l, 1101, 2, 100, &left));
	assert_int_equal(left, 0);
	assert_false(log_limit_ok(&l, 1102, 2, 100, &left));
	assert_true(log_limit_ok(&l, 5, 2, 100, &left)); /* a clock that went back does not silence it */
	assert_int_equal(left, 1);
}

/* Of one line there is room for half, as on a full disk; the next one stands by itself all the same. */
static void test_torn_line(void **state)
{
	struct fixture *f = *state;
	uint64_t lost = log_lost();
	struct rlimit old, tight;

	open_file(f);
	log_normal("the first");
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
	tight = (struct rlimit){ strlen(content(f)) + DATE + 12, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	log_normal("there is no room for all of this");
	log_normal("nor for any of this");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	log_normal("room again");
	log_normal("and more");
	assert_string_equal(line(f, 0), "Normal: the first");
	assert_string_equal(line(f, 1), "Normal: ther");
	assert_string_equal(line(f, 2), "Normal: room again");
	assert_string_equal(line(f, 3), "Normal: and more");
	assert_int_equal(log_lost(), lost + 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, clean_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(categories),	TEST(lsyncds_words),
		TEST(escaping),		TEST(escaping_into_little_room),
		TEST(lines_in_a_file),	TEST(long_lines),
		TEST(errno_is_kept),	TEST(reopens_by_name),
		TEST(follows_its_name), TEST(a_failed_open_keeps_the_old),
		TEST(streams),		TEST(before_it_is_opened),
		TEST(a_full_disk),	TEST(to_a_sink),
		TEST(forwarded),	TEST(limiter),
		TEST(test_torn_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
