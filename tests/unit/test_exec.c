/* LINK: transports/exec_lines.c transports/exec_options.c transports/exec_records.c core/buf.c core/err.c core/json.c
 * core/utf8.c */
/* The exec transport's codec: records out, answers in, what an exit status means. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "transports/exec_lines.h"
#include "transports/exec_records.h"

static void check_record(enum exec_format format, const struct exec_record *r, const char *want, size_t len)
{
	struct buf out;

	buf_init(&out, 1u << 20);
	assert_true(exec_record_put(&out, format, r));
	assert_int_equal(out.len, len);
	if (len > 0)
		assert_memory_equal(out.data, want, len);
	buf_done(&out);
}
#define RECORD(format, r, want) check_record(format, r, want, sizeof(want) - 1)

static void records(void **state)
{
	const struct stat st = {
		.st_size = 5, .st_mode = S_IFREG | 0640, .st_mtim = { 12, 34 }, .st_uid = 1, .st_gid = 2
	};
	struct exec_record r = { .id = 7, .op = EXEC_CREATE, .look = LOOK_FILE, .path = "a\nb", .len = 3, .st = &st };

	(void)state;
	RECORD(EXEC_NULL, &r, "7\0create\0file\0a\nb\0\0");
	RECORD(EXEC_PATHS, &r, "a\nb\0");
	RECORD(EXEC_JSON, &r,
	       "{\"id\":7,\"op\":\"create\",\"type\":\"file\",\"path\":\"a\\u000ab\",\"size\":5,\"mtime\":12.000000034,"
	       "\"mode\":\"0640\",\"uid\":1,\"gid\":2}\n");
	r = (struct exec_record){
		.id = 1, .op = EXEC_MOVE, .look = LOOK_DIR, .path = "n", .len = 1, .from = "\xff", .from_len = 1
	};
	RECORD(EXEC_NULL, &r, "1\0move\0dir\0n\0\xff\0");
	RECORD(EXEC_JSON, &r, "{\"id\":1,\"op\":\"move\",\"type\":\"dir\",\"path\":\"n\",\"from\":\"\\udcff\"}\n");
	r = (struct exec_record){ .id = 3, .op = EXEC_LISTED, .look = LOOK_DIR, .path = "", .deletions = 1000 };
	RECORD(EXEC_NULL, &r,
	       "3\0listed\0dir\0.\0"
	       "1000\0");
	RECORD(EXEC_PATHS, &r, "");
	RECORD(EXEC_JSON, &r, "{\"id\":3,\"op\":\"listed\",\"type\":\"dir\",\"path\":\".\",\"deletions\":1000}\n");
	r = (struct exec_record){ .id = 4, .op = EXEC_END, .path = "" };
	RECORD(EXEC_NULL, &r, "4\0end\0unknown\0\0\0");
	RECORD(EXEC_JSON, &r, "{\"id\":4,\"op\":\"end\"}\n");
}

/* More than a buffer: the file holds it all, from its beginning. */
static void spool(void **state)
{
	struct exec_spool s;
	struct err err = ERR_INIT;
	char path[1000], data[64];
	const struct exec_record r = { .op = EXEC_ENTRY, .path = path, .len = sizeof(path) };

	(void)state;
	memset(path, 'p', sizeof(path));
	exec_spool_init(&s);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(exec_spool_begin(&s, "/tmp", &err), 0);
		for (int i = 0; i < 500; i++)
			assert_int_equal(exec_spool_put(&s, EXEC_PATHS, &r, &err), 0);
		assert_int_equal(exec_spool_end(&s, &err), 0);
		assert_int_equal(s.size, 500 * 1001);
		assert_int_equal(lseek(s.fd, 0, SEEK_CUR), 0);
		assert_int_equal(pread(s.fd, data, 3, 999), 3);
		assert_memory_equal(data, "p\0p", 3);
	}
	exec_spool_done(&s);
}

static void answer(const char *line, bool ok, enum exec_answer_kind kind, uint64_t id, enum exec_word word,
		   const char *text)
{
	struct exec_answer a;

	assert_int_equal(exec_answer_parse(line, strlen(line), &a), ok);
	if (!ok)
		return;
	assert_int_equal(a.kind, kind);
	assert_int_equal(a.id, id);
	assert_int_equal(a.word, word);
	assert_int_equal(a.text_len, strlen(text));
	assert_memory_equal(a.text, text, a.text_len);
}

static void answers(void **state)
{
	static const char *const bad[] = { "",
					   "done",
					   "1",
					   "1 ",
					   " 1 done",
					   "1  done",
					   "x done",
					   "-1 done",
					   "1 down",
					   "* down",
					   "1 Done",
					   "*",
					   "** done",
					   "+1 done",
					   "1 done\t",
					   "deleted",
					   "deleted x",
					   "deleted 5 more",
					   "deleted 1000000001",
					   "1234567890123456789 done" };

	(void)state;
	answer("1 done", true, EXEC_ANSWER_ONE, 1, EXEC_DONE, "");
	answer("123456789012345678 retry no room left", true, EXEC_ANSWER_ONE, 123456789012345678, EXEC_RETRY,
	       "no room left");
	answer("5 reject ", true, EXEC_ANSWER_ONE, 5, EXEC_REJECT, "");
	answer("5 gone", true, EXEC_ANSWER_ONE, 5, EXEC_GONE, "");
	answer("5 reconcile  two blanks", true, EXEC_ANSWER_ONE, 5, EXEC_RECONCILE, " two blanks");
	answer("* retry later", true, EXEC_ANSWER_ALL, 0, EXEC_RETRY, "later");
	answer("down", true, EXEC_ANSWER_DOWN, 0, EXEC_DOWN, "");
	answer("down no route to host", true, EXEC_ANSWER_DOWN, 0, EXEC_DOWN, "no route to host");
	answer("deleted 17", true, EXEC_ANSWER_DELETED, 17, EXEC_WORD_NONE, "");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		answer(bad[i], false, 0, 0, 0, NULL);
}

struct seen {
	size_t n, cut, bytes;
	char first[16];
};

static void on_line(void *ctx, const char *text, size_t len, bool cut)
{
	struct seen *s = ctx;

	if (s->n++ == 0)
		(void)snprintf(s->first, sizeof(s->first), "%.*s", (int)(len < 15 ? len : 15), text);
	s->cut += cut;
	s->bytes += len;
}

static void lines(void **state)
{
	struct exec_lines l;
	struct seen s = { 0 };
	char longest[EXEC_LINE_MAX + 1];

	(void)state;
	exec_lines_init(&l, on_line, &s);
	exec_lines_feed(&l, "on", 2);
	exec_lines_feed(&l, "e\r\n\ntwo", 7);
	assert_int_equal(s.n, 2);
	assert_string_equal(s.first, "one");
	exec_lines_end(&l);
	exec_lines_end(&l);
	assert_int_equal(s.n, 3);
	memset(longest, 'x', sizeof(longest));
	exec_lines_feed(&l, longest, EXEC_LINE_MAX);
	exec_lines_feed(&l, "\n", 1);
	assert_int_equal(s.cut, 0);
	exec_lines_feed(&l, longest, EXEC_LINE_MAX + 1);
	exec_lines_feed(&l, longest, EXEC_LINE_MAX + 1);
	exec_lines_feed(&l, "\nlast\n", 6);
	assert_int_equal(s.cut, 1);
	assert_int_equal(s.n, 6);
	assert_int_equal(s.bytes, 6 + 2 * EXEC_LINE_MAX + 4);
}

static void exit_codes(void **state)
{
	char own[][16] = { "3-5=done", "4=reject", "75=down", "0=retry" };
	char *list[] = { own[0], own[1], own[2], own[3], NULL };
	struct exec_options o = { 0 };

	(void)state;
	assert_int_equal(exec_exit_word(&o, 0), EXEC_DONE);
	assert_int_equal(exec_exit_word(&o, 1), EXEC_RETRY);
	assert_int_equal(exec_exit_word(&o, 63), EXEC_RETRY);
	assert_int_equal(exec_exit_word(&o, 64), EXEC_REJECT);
	assert_int_equal(exec_exit_word(&o, 69), EXEC_DOWN);
	assert_int_equal(exec_exit_word(&o, 75), EXEC_RETRY);
	assert_int_equal(exec_exit_word(&o, 127), EXEC_DOWN);
	assert_int_equal(exec_exit_word(&o, 255), EXEC_RETRY);
	o.exitcodes = (struct strlist){ list, 4 };
	assert_int_equal(exec_exit_word(&o, 0), EXEC_RETRY);
	assert_int_equal(exec_exit_word(&o, 4), EXEC_DONE); /* the first that fits */
	assert_int_equal(exec_exit_word(&o, 75), EXEC_DOWN);
	assert_int_equal(exec_exit_word(&o, 6), EXEC_RETRY);
}

static int validate(char **command, size_t words, const char *code)
{
	struct sync_options opt = { .exec = { .command = { command, words } } };
	char text[64];
	char *codes[] = { text, NULL };
	struct err err = ERR_INIT;

	(void)snprintf(text, sizeof(text), "%s", code == NULL ? "" : code);

	if (code != NULL)
		opt.exec.exitcodes = (struct strlist){ codes, 1 };
	return exec_validate(&opt, &err);
}

static void validation(void **state)
{
	char word[] = "/bin/true";
	char *argv[] = { word, NULL };
	static const char *const bad[] = { "",	      "=",	  "1",	     "1=",	"1=gone", "256=done",
					   "-1=done", "5-4=done", "1-=done", "1=done ", " 1=done" };

	(void)state;
	assert_int_equal(validate(argv, 0, NULL), -1);
	assert_int_equal(validate(argv, 1, NULL), 0);
	assert_int_equal(validate(argv, 1, "1-255=retry"), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(validate(argv, 1, bad[i]), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records), cmocka_unit_test(spool),	 cmocka_unit_test(answers),
		cmocka_unit_test(lines),   cmocka_unit_test(exit_codes), cmocka_unit_test(validation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
