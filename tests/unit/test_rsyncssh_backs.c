/* LINK: core/safe_open.c transports/rsyncssh_backs.c transports/rsyncssh_remote.c transports/twoway_state.c
 * transports/remote_shell.c core/pipes.c transports/ssh_words.c
 * core/archive.c core/twoway.c core/look.c core/path.c core/err.c core/buf.c core/loop.c
 * core/clock.c core/proc.c core/log.c core/utf8.c core/fsutil.c */
/* LIBS: -lsqlite3 */
/* WRAP: archive_get */
/* What was replaced at the target, and which answer of the shell is about which of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"
#include "transports/rsyncssh_twoway_private.h"

#define OWN ".own"
#define SENT "f 3 1700000000.5 644 root root 1" /* what was looked at, and replaced */
#define EDIT "f 9 1800000000.5 644 root root 1" /* newer than anything we have */
#define MANY 300

/* ---- what stands around the phase ---- */

static struct {
	char said[2 * MANY][200];
	size_t n;
	char again[MANY][64];
	size_t n_again;
	size_t gets; /* looks into the archive */
	bool down;
} seen;

int __real_archive_get(struct archive *a, const char *path, size_t len, struct twoway_state *out, struct err *err);
int __wrap_archive_get(struct archive *a, const char *path, size_t len, struct twoway_state *out, struct err *err);

int __wrap_archive_get(struct archive *a, const char *path, size_t len, struct twoway_state *out, struct err *err)
{
	seen.gets++;
	return __real_archive_get(a, path, len, out, err);
}

void twoway_down(struct twoway *t, const struct err *why)
{
	(void)t;
	(void)why;
	seen.down = true;
}

void twoway_no_memory(struct twoway *t)
{
	twoway_down(t, NULL);
}

void twoway_command_begin(struct twoway *t, struct buf *command)
{
	(void)t;
	buf_init(command, TWOWAY_COMMAND_MAX);
}

bool twoway_call(struct twoway *t, struct buf *command)
{
	assert_false(command->failed);
	assert_true(seen.n < sizeof(seen.said) / sizeof(seen.said[0]));
	snprintf(seen.said[seen.n++], sizeof(seen.said[0]), "%s", buf_str(command));
	buf_done(command);
	t->asked++;
	return true;
}

void twoway_conflict(struct twoway *t, const char *path, size_t len, const struct twoway_state *here,
		     const struct twoway_state *there, const char *end)
{
	(void)t;
	(void)path;
	(void)len;
	(void)here;
	(void)there;
	(void)end;
}

void twoway_again(struct twoway *t, const char *path, size_t len)
{
	(void)t;
	assert_true(seen.n_again < MANY);
	snprintf(seen.again[seen.n_again++], sizeof(seen.again[0]), "%.*s", (int)len, path);
}

bool twoway_want(struct twoway *t, const char *path, size_t len)
{
	(void)t;
	(void)path;
	(void)len;
	return true;
}

struct change *twoway_find(const struct changes *list, size_t n, const char *path, size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (list->v[i]->len == len && memcmp(list->v[i]->path, path, len) == 0)
			return list->v[i];
	return NULL;
}

bool twoway_spans(struct twoway *t)
{
	(void)t;
	return true;
}

bool twoway_issue_names(struct twoway *t, const char *verb)
{
	(void)t;
	(void)verb;
	return false;
}

void twoway_answer_names(struct twoway *t, size_t n, const struct buf *data, struct remote_entries *to)
{
	(void)t;
	(void)n;
	(void)data;
	(void)to;
}

/* ---- a work ---- */

struct fixture {
	struct scratch scratch;
	struct sync_options opt;
	struct transport_env env;
	struct twoway t;
	struct change *changes[MANY];
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err = ERR_INIT;
	bool fresh;

	*state = f;
	if (f == NULL || scratch_make(&f->scratch) < 0)
		return -1;
	memset(&seen, 0, sizeof(seen));
	f->env.opt = &f->opt;
	f->t.env = &f->env;
	f->t.what = (struct twoway_what){ true, true, true, false, true, true, true };
	snprintf(f->t.own, sizeof(f->t.own), OWN);
	f->t.archive = archive_open(
		&(struct archive_place){ .path = scratch_path(&f->scratch, "archive"), .pair = "pair" }, &fresh, &err);
	f->t.sends.v = f->changes;
	f->t.swept = true;
	f->t.phase = PHASE_BACKS_ACT;
	return f->t.archive == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	int rc;

	for (size_t i = 0; i < f->t.sends.n; i++)
		free(f->changes[i]);
	remote_entries_done(&f->t.backs);
	remote_entries_done(&f->t.present);
	backs_forget(&f->t);
	archive_close(f->t.archive);
	rc = scratch_remove(&f->scratch);
	free(f);
	return rc;
}

static void take(struct fixture *f, struct remote_entries *e, const char *head, const char *below, const char *path)
{
	struct err err = ERR_INIT;
	char text[300], trouble[100];
	size_t len = strlen(head) + 1;

	memcpy(text, head, len);
	len += (size_t)snprintf(text + len, sizeof(text) - len, "./%s%s", below, path) + 1;
	text[len++] = '\0';
	memcpy(text + len, "!\0\0\n", 4);
	assert_int_equal(remote_entries_read(e, &f->t.what, text, len + 4, trouble, sizeof(trouble), &err), 0);
}

/* `path` was sent, and what was there is `replaced`: an edit is looked for where it was. In the order of the names. */
static struct change *sent(struct fixture *f, const char *path, const char *replaced)
{
	struct change *c = calloc(1, sizeof(*c) + strlen(path) + 1);

	assert_non_null(c);
	c->len = strlen(path);
	memcpy(c->path, path, c->len);
	c->head = SENT;
	c->fate = FATE_SENT;
	c->source = twoway_state_make(&f->t.what, LOOK_FILE, 0644, 5, INT64_C(1750000000000000000), "root", "root",
				      NULL, 0);
	f->changes[f->t.sends.n++] = c;
	take(f, &f->t.backs, replaced, OWN "/b/", path);
	if (strcmp(replaced, SENT) != 0)
		take(f, &f->t.present, "f 5 1750000000.0 644 root root 1", "", path);
	return c;
}

static size_t issue_all(struct fixture *f)
{
	while (backs_act_issue(&f->t))
		;
	return seen.n;
}

static void answer(struct fixture *f, size_t n, int status)
{
	backs_act_answer(&f->t, n, status, "", 0, NULL);
}

/* ---- cases ---- */

static void each_answer_is_about_the_entry_of_its_call(void **state)
{
	struct fixture *f = *state;
	struct change *a = sent(f, "a", EDIT), *b = sent(f, "b", SENT), *c = sent(f, "c", EDIT);

	backs_act_enter(&f->t);
	assert_int_equal(issue_all(f), 2);
	assert_non_null(strstr(seen.said[0], "fs_back 'a'"));
	assert_non_null(strstr(seen.said[1], "fs_back 'c'"));
	answer(f, 0, REMOTE_DONE);
	answer(f, 1, REMOTE_OTHER);
	assert_int_equal(a->fate, FATE_RESTORED);
	assert_int_equal(b->fate, FATE_SENT);
	assert_int_equal(c->fate, FATE_RESTORED);
	assert_false(f->t.restore_failed);
}

static void an_answer_behind_a_failed_one_is_still_about_its_own(void **state)
{
	struct fixture *f = *state;
	struct change *a = sent(f, "a", SENT), *b = sent(f, "b", EDIT), *c = sent(f, "c", EDIT);

	backs_act_enter(&f->t);
	assert_int_equal(issue_all(f), 2);
	answer(f, 0, 1);
	answer(f, 1, REMOTE_DONE);
	assert_true(f->t.restore_failed);
	assert_false(f->t.swept); /* the next work looks again at what lies there */
	assert_int_equal(a->fate, FATE_SENT);
	assert_int_equal(b->fate, FATE_RESTORED);
	assert_int_equal(c->fate, FATE_RESTORED);
	assert_int_equal(seen.n_again, 0);
}

/* What was replaced as it should be stays replaced. */
static void after_a_failed_one_nothing_more_is_put_back_than_before(void **state)
{
	struct fixture *f = *state;

	(void)sent(f, "a", EDIT);
	(void)sent(f, "b", SENT);
	(void)sent(f, "c", EDIT);
	backs_act_enter(&f->t);
	assert_true(backs_act_issue(&f->t));
	answer(f, 0, 1);
	assert_int_equal(issue_all(f), 2);
	assert_non_null(strstr(seen.said[1], "fs_back 'c'"));
}

/* A killed run's: nobody knows what it sent, so all that has nothing in its place is put back. */
static void what_a_killed_run_left_is_put_back_where_nothing_is(void **state)
{
	struct fixture *f = *state;

	take(f, &f->t.backs, EDIT, OWN "/b/", "a");
	take(f, &f->t.backs, EDIT, OWN "/b/", "b");
	f->t.swept = false;
	f->t.phase = PHASE_OLD_ACT;
	backs_act_enter(&f->t);
	assert_int_equal(issue_all(f), 2);
	answer(f, 0, REMOTE_DONE);
	answer(f, 1, REMOTE_FILLED);
	assert_int_equal(seen.n_again, 2);
	assert_string_equal(seen.again[0], "a");
	assert_string_equal(seen.again[1], "b");
}

static void what_stays_replaced_goes_to_the_backups(void **state)
{
	struct fixture *f = *state;

	(void)sent(f, "a", SENT);
	(void)sent(f, "b", SENT);
	assert_int_equal(backs_over(&f->t), PHASE_CLEAN);
	f->opt.backup_dir = (char *)(uintptr_t) ".old";
	assert_int_equal(backs_over(&f->t), PHASE_STORE);
	store_enter(&f->t);
	while (store_issue(&f->t))
		;
	assert_int_equal(seen.n, 2);
	assert_string_equal(seen.said[0], "fs_store 'a' '" SENT "'");
	store_answer(&f->t, 0, REMOTE_DONE, "", 0, NULL);
	store_answer(&f->t, 1, REMOTE_GONE, "", 0, NULL);
	assert_false(f->t.restore_failed);
	store_answer(&f->t, 1, 5, "no space", 8, NULL);
	assert_true(f->t.restore_failed && !f->t.swept);
	assert_int_equal(store_over(&f->t), PHASE_CLEAN);
}

static void the_archive_is_asked_a_few_times_an_entry(void **state)
{
	struct fixture *f = *state;
	char name[16];

	for (unsigned i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "%03u", i);
		take(f, &f->t.backs, EDIT, OWN "/b/", name);
	}
	backs_act_enter(&f->t);
	assert_int_equal(issue_all(f), MANY);
	for (unsigned i = 0; i < MANY; i++)
		answer(f, i, REMOTE_DONE);
	assert_true(seen.gets <= 4 * MANY);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(each_answer_is_about_the_entry_of_its_call),
		TEST(an_answer_behind_a_failed_one_is_still_about_its_own),
		TEST(after_a_failed_one_nothing_more_is_put_back_than_before),
		TEST(what_a_killed_run_left_is_put_back_where_nothing_is),
		TEST(what_stays_replaced_goes_to_the_backups),
		TEST(the_archive_is_asked_a_few_times_an_entry),
	};

	return cmocka_run_group_tests_name("rsyncssh_backs", tests, NULL, NULL);
}
