/*
 * private.h - what the files of config/ share: the table of keys, values before they are stored, the state of a run.
 *
 * Not for others: config.h is the contract. None of it knows libconfig; reader.c alone does.
 */
#ifndef FANSYNCD_CONFIG_PRIVATE_H
#define FANSYNCD_CONFIG_PRIVATE_H

#include "config/config.h"

/* The file that the daemon reads when none is named; others get sockets and state of their own. */
#ifdef FANSYNCD_SYSCONFDIR
#define CONFIG_DEFAULT_PATH FANSYNCD_SYSCONFDIR "/fansyncd.conf"
#else
#define CONFIG_DEFAULT_PATH "/etc/fansyncd.conf"
#endif

#define CONFIG_FILE_MAX ((size_t)1 << 20)  /* bytes of a configuration file, its includes and filter files: each */
#define CONFIG_TEXT_MAX ((size_t)32 << 20) /* bytes of a text: a worker's dump holds all filter files */
#define CONFIG_INCLUDE_DEPTH 10
#define CONFIG_INCLUDES_MAX 1000
#define CONFIG_ERRORS_MAX 200 /* messages of one run */
#define CONFIG_SYNCS_MAX 1024
/* A month: beyond it a time would not survive the way through a double exactly. */
#define CONFIG_TIME_MAX_S 2678400

enum config_section {
	SECTION_SETTINGS = 0,
	SECTION_SYNC,
	SECTION_RSYNC,
	SECTION_SSH,
	SECTION_EXEC,
	SECTION_TUNNEL,
	SECTION_RECEIVER,
	SECTION_MODULE,
	SECTION_METRICS,
	CONFIG_SECTIONS
};

enum config_type {
	TYPE_BOOL = 0,
	TYPE_INT,     /* int64_t */
	TYPE_TIME,    /* seconds in the file, int64_t nanoseconds in the struct */
	TYPE_STRING,  /* char *, NULL when absent */
	TYPE_PATH,    /* the same, made absolute */
	TYPE_LIST,    /* struct strlist; one string is a list of one */
	TYPE_CHOICE,  /* an int out of a list of words */
	TYPE_IGNORED, /* lsyncd's key without a meaning here: `help` says what to use instead */
};

enum config_key_flag {
	KEY_CLI = 1u << 0,	   /* may be given on the command line */
	KEY_RESTART = 1u << 1,	   /* a reload does not change it */
	KEY_FILTER = 1u << 2,	   /* a source of filter rules: in dumps and comparisons the rules stand for it */
	KEY_PROGRAM = 1u << 3,	   /* about the rsync program: means nothing to a native transport */
	KEY_EXISTS = 1u << 4,	   /* names a file that must exist; of a list: its first word is such a program */
	KEY_PARENT = 1u << 5,	   /* names a file whose directory must exist */
	KEY_TILDE = 1u << 6,	   /* "~/x" is left for the program that gets it */
	KEY_COMMAND = 1u << 7,	   /* a program: made absolute only if there is a slash in it */
	KEY_CHOICE_BOOL = 1u << 8, /* the words "true" and "false" are given as booleans */
	KEY_CHOICE_NUM = 1u << 9,  /* the number behind a word may be given itself */
	KEY_MAP = 1u << 10,	   /* a group { K = "V"; } is taken as the list "K=V" */
	KEY_WORDS = 1u << 11,	   /* a list of arguments: one string with blanks in it is a mistake */
	KEY_NONEMPTY = 1u << 12,   /* an empty string is a mistake */
	KEY_RATES = 1u << 14,	   /* a list of numbers, of strings and of groups { K = "V"; }, these as "K=V K=V" */
	KEY_PORT = 1u << 17,	   /* "${port}" in it is the port of the sync's tunnel; an integer may be that word */
	KEY_CREDENTIAL = 1u << 16, /* "credential:NAME" is one of systemd's, "credential:" their directory */
	KEY_ACCOUNT = 1u << 15,	   /* names an account of this host */
	KEY_AUTO = 1u << 13,	   /* an integer, or the word "auto", which is stored as -1 */
};

struct config_choice {
	const char *word;
	int value;
};

#define CREDENTIAL_PREFIX "credential:"

struct config_key {
	const char *name;
	enum config_section section;
	enum config_type type;
	size_t offset;	 /* into struct settings, receiver_options, receiver_module or metrics_options, or sync_options
			    for   all other sections */
	const char *def; /* as it would stand in the file; NULL: none, or decided by the transport */
	int64_t min, max;
	const struct config_choice *choices; /* up to a NULL word */
	const char *unit;
	unsigned flags;
	const char *only; /* the transport that it means something to; NULL: to all */
	const char *help;
};

#define CONFIG_KEYS_MAX 256

/* The table: n rows, grouped by section. */
const struct config_key *config_table(size_t *n);
/* The row of a key, or NULL; its index into the table. */
const struct config_key *config_key_find(enum config_section section, const char *name);
size_t config_key_index(const struct config_key *k);
/* "settings", "sync", "rsync", "ssh", "exec", "tunnel", "receiver", "module", "metrics". */
const char *config_section_name(enum config_section section);

/* The key, or the section within that section, that is most like `word`, within reason, or NULL. */
const char *config_suggest_key(enum config_section section, bool native, const char *word);
/* The same out of any list of n strings. */
const char *config_suggest(const char *const *words, size_t n, const char *word);

/* A value as it was written. Borrows its strings; `items` is owned by whoever made it. */
enum config_kind { VALUE_BOOL = 0, VALUE_INT, VALUE_FLOAT, VALUE_STRING, VALUE_LIST, VALUE_OTHER };

struct config_value {
	enum config_kind kind;
	bool b;
	int64_t i;
	double f;
	const char *s;
	const char *dir; /* where a relative path begins; NULL: the current directory */
	struct strlist items;
};

/* Check a value against its row and put it into the struct at `base`. What was there is freed. */
int config_value_store(const struct config_key *k, const struct config_value *v, void *base, struct err *err);
/* A value out of a command line's argument or the table's default; lists get one item, which the caller frees. */
int config_value_from_text(const struct config_key *k, const char *text, struct config_value *v, struct err *err);
/* Set all keys of a section to their defaults in a zeroed struct. */
int config_set_defaults(enum config_section section, void *base, struct err *err);
/* Free what the keys of a section point to. */
void config_free_keys(enum config_section section, void *base);
bool config_keys_equal(enum config_section section, const void *a, const void *b);
bool config_key_equal(const struct config_key *k, const void *a, const void *b);
/* Free a sync's fields, not the struct. */
void config_sync_done(struct sync_options *s);

/* `path` made absolute against `dir` (NULL: the current directory), without double slashes and "."; malloc'ed. */
char *config_absolute(const char *path, const char *dir, struct err *err);
/* The same with symlinks resolved as far as the path exists; malloc'ed. */
char *config_canonical(const char *path, const char *dir, struct err *err);
/* The content of a regular file of at most `max` bytes. */
int config_read_whole(const char *path, size_t max, char **text, size_t *len, struct err *err);

/* A text with its includes put in, and where each of its lines came from. */
struct config_place {
	const char *file; /* borrowed from the source's list of files */
	int line;
};

struct config_source {
	struct buf text;
	struct config_place *lines; /* n_lines, the first line is lines[0] */
	size_t n_lines, cap_lines;
	struct strlist files;
};

/* `dir` is where includes are looked for; NULL: there may be none. On failure `where` says where it is. */
int config_source_build(struct config_source *src, const char *text, size_t len, const char *name, const char *dir,
			struct config_place *where, struct err *err);
struct config_place config_source_place(const struct config_source *src, unsigned line);
void config_source_done(struct config_source *src);

/* One sync while it is being made: which keys were given, and where. `at[i].file` is NULL when not given. */
struct config_draft {
	struct config_place section;
	struct config_place at[CONFIG_KEYS_MAX];
	const struct transport *transport;
	char *resolved; /* the target in the form in which targets are compared; NULL if it could not be made */
	bool local;	/* `resolved` is a directory of this host */
	bool broken;	/* an error was found: the transport is not asked about it */
	bool bad_rules; /* the filter is not what was meant: nothing is concluded from it */
};

struct config_run {
	const struct config_env *env;
	const char *name; /* of the file, for messages; NULL: none was read */
	const char *dir;  /* where relative paths begin; NULL: the current directory */
	struct strlist *errors;
	struct config *c;
	struct config_draft *drafts; /* one for each of c->syncs */
	size_t cap_syncs;
	struct config_place settings_at[CONFIG_KEYS_MAX];
	struct config_place receiver_at; /* file NULL: there is none */
	struct config_place *module_at;	 /* one for each of c->receiver->modules */
	struct config_place metrics_at;
	size_t dropped; /* errors above CONFIG_ERRORS_MAX */
	bool saw_sync;	/* or something that was meant to be one */
	bool failed;	/* there was an error, memory included */
};

void config_error(struct config_run *run, struct config_place at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void config_warn(struct config_run *run, struct config_place at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void config_out_of_memory(struct config_run *run);
/* Where a key of a draft was given, or the section's place. */
struct config_place config_draft_place(const struct config_draft *d, const char *key, enum config_section section);
bool config_draft_given(const struct config_draft *d, const char *key, enum config_section section);
/* Room for one more sync with its draft, defaults set; NULL on failure, which was reported. */
struct sync_options *config_add_sync(struct config_run *run, struct config_place at, struct config_draft **draft);

/* The receiver section, and room for one more of its modules, defaults set; NULL on failure, which was reported. */
struct receiver_options *config_add_receiver(struct config_run *run, struct config_place at);
struct receiver_module *config_add_module(struct config_run *run, struct config_place at);
void config_receiver_free(struct receiver_options *r);
void config_dump_receiver(const struct receiver_options *r, struct buf *out);

/* The metrics section, the same way. */
struct metrics_options *config_add_metrics(struct config_run *run, struct config_place at);
void config_metrics_free(struct metrics_options *m);

/* The steps after the keys were read. */
int config_rules_build(struct config_run *run, struct sync_options *s, struct config_draft *d);
/* Its tunnel, and what leads into it. After it is known whether the target is local. */
void config_check_tunnel(struct config_run *run, const struct sync_options *s, struct config_draft *d);
/* What a key with KEY_EXISTS names must be readable. `options`: what the key's offset counts from. */
void config_check_file(struct config_run *run, const struct config_key *key, const void *options,
		       struct config_place at);
/* Of a list that is an argv: its first word is a program that can be run. An empty one is fine. */
void config_check_command(struct config_run *run, const struct config_key *key, const struct strlist *argv,
			  struct config_place at);
/* There is such an account; NULL is fine. */
void config_check_account(struct config_run *run, const struct config_key *key, const char *name,
			  struct config_place at);
void config_finish_settings(struct config_run *run);
void config_finish_sync(struct config_run *run, size_t i);
void config_check_syncs(struct config_run *run);
/* Backups that would come back as somebody's source. After the receiver's section was read. */
void config_check_backups(struct config_run *run);
void config_finish_receiver(struct config_run *run);
void config_finish_metrics(struct config_run *run);

/* What the command line adds to a run. */
const char *config_cli_dir(const struct config_cli *cli);
/* Whether a setting was given there. */
bool config_cli_gave(const struct config_run *run, const char *settings_key);
void config_cli_apply_settings(const struct config_cli *cli, struct config_run *run);
void config_cli_apply_sync(const struct config_cli *cli, struct config_run *run, struct sync_options *s,
			   struct config_draft *d);
void config_cli_add_syncs(const struct config_cli *cli, struct config_run *run);

#endif
