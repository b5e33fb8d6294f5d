/*
 * config_load.h - loads texts and files for the tests of config/, with the fake registry, and says what was refused.
 *
 * A failed expectation fails the running cmocka test.
 */
#ifndef FANSYNCD_TESTS_LIB_CONFIG_LOAD_H
#define FANSYNCD_TESTS_LIB_CONFIG_LOAD_H

#include <stdbool.h>

#include "config/config.h"

#define SECOND INT64_C(1000000000)
/* One sync of each kind that is complete. */
#define RSYNC "transport = \"rsync\"; source = \"/src\"; target = \"/dst\";"
#define RSYNCSSH "transport = \"rsyncssh\"; source = \"/src\"; host = \"h\"; targetdir = \"/dst\";"
#define DIRECT "transport = \"direct\"; source = \"/src\"; target = \"/dst\";"
#define ONE(keys) "sync = ( { " keys " } );\n"

/* A scratch directory; make_dir and remove_dir are a test's setup and teardown. */
struct dir {
	char path[64];
};

struct config *load_cli(const char *text, const struct config_cli *cli);
struct config *load(const char *text);
/* All messages, a line each; freed by the caller. */
char *joined(const struct strlist *l);
void assert_lines(const struct strlist *l, const char *expected);
void refused_env(const char *text, const struct config_env *env, const char *expected);
/* The text must be refused with exactly these messages. */
void refused(const char *text, const char *expected);
void warned(const char *text, const char *expected);
int make_dir(void **state);
int remove_dir(void **state);
char *at(const struct dir *d, const char *name);
void put(const struct dir *d, const char *name, const char *text);
void put_dir(const struct dir *d, const char *name);
/* The text with every '$' replaced by the directory. */
char *with_dir(const struct dir *d, const char *text);
struct config *load_path(const struct dir *d, const char *name, bool check_paths, struct strlist *errors);
/* The messages of a file whose paths are checked; '$' in both texts stands for the directory. */
void file_refused(const struct dir *d, const char *text, const char *expected);

/* The registry that load() uses. */
extern const struct transport *const *const config_test_registry;

#endif
