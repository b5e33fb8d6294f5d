/* LINK: core/err.c */
/* Errors by value: classes of errnos, texts and their cuts. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/err.h"

static void classes_of_errnos(void **state)
{
	static const struct {
		int errnum;
		enum err_class class;
	} cases[] = {
		{ EAGAIN, ERR_AGAIN },
		{ EINTR, ERR_AGAIN },
		{ EBUSY, ERR_AGAIN },
		{ ETXTBSY, ERR_AGAIN },
		{ ENOENT, ERR_GONE },
		{ ENOTDIR, ERR_GONE },
		{ ESTALE, ERR_GONE },
		{ ENODEV, ERR_GONE },
		{ EACCES, ERR_DENIED },
		{ EPERM, ERR_DENIED },
		{ EROFS, ERR_DENIED },
		{ ENOSPC, ERR_NOSPACE },
		{ EDQUOT, ERR_NOSPACE },
		{ EIO, ERR_IO },
		{ EUCLEAN, ERR_IO },
		{ EPROTO, ERR_PROTOCOL },
		{ EBADMSG, ERR_PROTOCOL },
		{ ECONNREFUSED, ERR_NETWORK },
		{ ECONNRESET, ERR_NETWORK },
		{ ETIMEDOUT, ERR_NETWORK },
		{ EHOSTUNREACH, ERR_NETWORK },
		{ ENETUNREACH, ERR_NETWORK },
		{ EPIPE, ERR_NETWORK },
		{ ENETDOWN, ERR_NETWORK },
		{ EHOSTDOWN, ERR_NETWORK },
		{ ENOTCONN, ERR_NETWORK },
		{ ECONNABORTED, ERR_NETWORK },
		{ EADDRNOTAVAIL, ERR_NETWORK },
		{ EMFILE, ERR_LIMIT },
		{ ENFILE, ERR_LIMIT },
		{ EMLINK, ERR_LIMIT },
		{ ENAMETOOLONG, ERR_LIMIT },
		{ EFBIG, ERR_LIMIT },
		{ E2BIG, ERR_LIMIT },
		{ ENOMEM, ERR_NOMEM },
		{ ELOOP, ERR_UNSAFE },
		{ EXDEV, ERR_UNSAFE },
		{ EINVAL, ERR_IO },
		{ 99999, ERR_IO },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(err_class_of_errno(cases[i].errnum), cases[i].class);
}

static void set_and_errno(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	e.code = 7;
	assert_int_equal(err_set(&e, ERR_CONFIG, "%s:%d", "file", 3), -1);
	assert_int_equal(e.class, ERR_CONFIG);
	assert_int_equal(e.code, 0);
	assert_string_equal(e.text, "file:3");
	assert_int_equal(err_errno(&e, EACCES, "open %s", "x"), -1);
	assert_int_equal(e.class, ERR_DENIED);
	assert_int_equal(e.code, EACCES);
	assert_string_equal(e.text, "open x: Permission denied");
	assert_int_equal(err_set(NULL, ERR_IO, "x"), -1);
	assert_int_equal(err_errno(NULL, EIO, "x"), -1);
}

/* The usual way to say more of an error that came from below. */
static void its_own_text_as_argument(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	err_set(&e, ERR_IO, "inner");
	err_set(&e, ERR_IO, "outer: %s", e.text);
	assert_string_equal(e.text, "outer: inner");
	err_errno(&e, ENOENT, "more: %s", e.text);
	assert_string_equal(e.text, "more: outer: inner: No such file or directory");
}

static void long_texts_are_cut_but_not_the_reason(void **state)
{
	static const char reason[] = ": No such file or directory";
	struct err e = ERR_INIT;
	char name[2000];

	(void)state;
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	err_set(&e, ERR_IO, "%s", name);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	err_errno(&e, ENOENT, "%s", name);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	assert_string_equal(e.text + ERR_TEXT_MAX - sizeof(reason), reason);
}

static void class_names(void **state)
{
	(void)state;
	for (unsigned a = 0; a < ERR_CLASSES; a++) {
		assert_string_not_equal(err_class_name((enum err_class)a), "unknown");
		for (unsigned b = 0; b < a; b++)
			assert_string_not_equal(err_class_name((enum err_class)a), err_class_name((enum err_class)b));
	}
	assert_string_equal(err_class_name(ERR_CLASSES), "unknown");
	assert_string_equal(err_class_name((enum err_class) - 1), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(classes_of_errnos),
		cmocka_unit_test(set_and_errno),
		cmocka_unit_test(its_own_text_as_argument),
		cmocka_unit_test(long_texts_are_cut_but_not_the_reason),
		cmocka_unit_test(class_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
