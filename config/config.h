/*
 * config.h - reads a libconfig file into the plain structs of core/options.h, by one declarative table.
 *
 * The only module that sees libconfig. Blocking file reads; not for the loop's hot path. A `struct config` and all
 * that it points to is freed by config_free.
 */
#ifndef FANSYNCD_CONFIG_CONFIG_H
#define FANSYNCD_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/options.h"
#include "core/transport.h"

/* What the command line adds: values that win over the file (lsyncd: CLI > settings > sync), and syncs of its own. */
struct config_cli;
struct config_cli *config_cli_new(void);
void config_cli_free(struct config_cli *cli);
/* Try argv[0] (one or two leading dashes are equal) as an option that the table marks for the command line, or as
 * lsyncd's -rsync SRC TGT, -rsyncssh SRC HOST DIR, -direct SRC TGT, -sshopts STR. Returns how many arguments were
 * taken, 0 if it is no such option, -1 with a text when its argument is missing or bad. */
int config_cli_take(struct config_cli *cli, int argc, char *const *argv, struct err *err);
/* Whether syncs were given on the command line (then no CONFIG is read). */
bool config_cli_has_syncs(const struct config_cli *cli);

/* The reader's surroundings. */
struct config_env {
	const struct transport *const *transports; /* the registry: NULL-terminated */
	const struct config_cli *cli;		   /* may be NULL */
	bool check_paths; /* sources, files to read must exist (off in a worker, which gets paths that were checked) */
	bool *empty;	  /* set when nothing is configured yet: neither a sync nor a receiver; may be NULL */
};

/* Read a file, or a text (`name` stands for the file in messages). All errors of one run are put in `errors`, each
 * "file:line: text", and NULL is returned then; warnings are in the result. With `path` NULL: only what `cli` says. */
struct config *config_load_file(const char *path, const struct config_env *env, struct strlist *errors);
struct config *config_load_text(const char *text, size_t len, const char *name, const struct config_env *env,
				struct strlist *errors);
void config_free(struct config *c);
/* Forget the syncs: what --receive runs with. */
void config_drop_syncs(struct config *c);

/* The effective configuration as libconfig text; reading it back gives an equal one. With the second, only sync `i` and
 * the settings: what a worker gets; with a `tunnel_port` above 0 that stands in the place of "${port}", and the tunnel
 * is left out. -1 when out of memory. */
int config_dump(const struct config *c, struct buf *out);
int config_dump_sync(const struct config *c, size_t i, uint16_t tunnel_port, struct buf *out);
/* The settings and the receiver: what the receiver's process gets. */
int config_dump_receiver_only(const struct config *c, struct buf *out);
bool config_receiver_equal(const struct receiver_options *a, const struct receiver_options *b);
bool config_metrics_equal(const struct metrics_options *a, const struct metrics_options *b);
/* Whether nothing differs that would make a reload disturb the sync (name included, line numbers not). */
bool config_sync_equal(const struct sync_options *a, const struct sync_options *b);
bool config_settings_equal(const struct settings *a, const struct settings *b);

/* The table, for --help-config: name, type, default, range, help. */
void config_help(FILE *out);
/* The table as rows of the manual page (roff), for the build of man/fansyncd.conf.5. */
void config_help_roff(FILE *out);
/* The command-line options that the table marks, for --help. */
void config_help_cli(FILE *out);

/* Lists of strings: append a copy (-1: out of memory); free all. */
int strlist_add(struct strlist *l, const char *s);
void strlist_done(struct strlist *l);

#endif
