/* config_load.c - see config_load.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/config_fake.h"
#include "tests/lib/config_load.h"

const struct transport *const *const config_test_registry = fake_registry;

static struct config *load_env(const char *text, const struct config_env *env, struct strlist *errors)
{
	return config_load_text(text, strlen(text), "t.conf", env, errors);
}

struct config *load_cli(const char *text, const struct config_cli *cli)
{
	struct config_env env = { .transports = fake_registry, .cli = cli };
	struct strlist errors = { 0 };
	struct config *c = load_env(text, &env, &errors);

	if (c == NULL)
		print_error("%s\n", errors.n > 0 ? errors.v[0] : "no reason given");
	assert_int_equal(errors.n, 0);
	strlist_done(&errors);
	assert_non_null(c);
	return c;
}

struct config *load(const char *text)
{
	return load_cli(text, NULL);
}

char *joined(const struct strlist *l)
{
	struct buf b;
	char *copy;

	buf_init(&b, 1u << 20);
	for (size_t i = 0; i < l->n; i++) {
		(void)buf_add_str(&b, l->v[i]);
		(void)buf_add_byte(&b, '\n');
	}
	assert_false(b.failed);
	copy = strdup(buf_str(&b));
	assert_non_null(copy);
	buf_done(&b);
	return copy;
}

void assert_lines(const struct strlist *l, const char *expected)
{
	char *text = joined(l);

	assert_string_equal(text, expected);
	free(text);
}

void refused_env(const char *text, const struct config_env *env, const char *expected)
{
	struct strlist errors = { 0 };
	struct config *c = load_env(text, env, &errors);

	if (c != NULL)
		print_error("accepted: %s\n", text);
	assert_null(c);
	assert_lines(&errors, expected);
	strlist_done(&errors);
}

void refused(const char *text, const char *expected)
{
	struct config_env env = { .transports = fake_registry };

	refused_env(text, &env, expected);
}

void warned(const char *text, const char *expected)
{
	struct config *c = load(text);

	assert_lines(&c->warnings, expected);
	config_free(c);
}

int make_dir(void **state)
{
	struct dir *d = calloc(1, sizeof(*d));

	(void)snprintf(d->path, sizeof(d->path), "/tmp/test_config.XXXXXX");
	*state = d;
	return mkdtemp(d->path) == NULL ? -1 : 0;
}

int remove_dir(void **state)
{
	struct dir *d = *state;
	static const char *const names[] = { "a.conf", "b.conf", "c.conf", "sub/d.conf", "rules", "patterns",
					     "key",    "link",	 "sub",	   "src/in",	 "src" };
	char path[128];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", d->path, names[i]);
		(void)remove(path);
	}
	if (rmdir(d->path) != 0)
		print_error("%s is left over\n", d->path);
	free(d);
	return 0;
}

char *at(const struct dir *d, const char *name)
{
	char *path = NULL;

	assert_true(asprintf(&path, "%s/%s", d->path, name) > 0);
	return path;
}

void put(const struct dir *d, const char *name, const char *text)
{
	char *path = at(d, name);
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	free(path);
}

void put_dir(const struct dir *d, const char *name)
{
	char *path = at(d, name);

	assert_int_equal(mkdir(path, 0755), 0);
	free(path);
}

char *with_dir(const struct dir *d, const char *text)
{
	struct buf b;
	char *copy;

	buf_init(&b, 1u << 16);
	for (; *text != '\0'; text++)
		(void)(*text == '$' ? buf_add_str(&b, d->path) : buf_add_byte(&b, (unsigned char)*text));
	copy = strdup(buf_str(&b));
	assert_non_null(copy);
	buf_done(&b);
	return copy;
}

struct config *load_path(const struct dir *d, const char *name, bool check_paths, struct strlist *errors)
{
	struct config_env env = { .transports = fake_registry, .check_paths = check_paths };
	char *path = at(d, name);
	struct config *c = config_load_file(path, &env, errors);

	free(path);
	return c;
}

void file_refused(const struct dir *d, const char *text, const char *expected)
{
	struct strlist errors = { 0 };
	char *conf = with_dir(d, text), *messages = with_dir(d, expected);

	put(d, "a.conf", conf);
	assert_null(load_path(d, "a.conf", true, &errors));
	assert_lines(&errors, messages);
	strlist_done(&errors);
	free(conf);
	free(messages);
}
