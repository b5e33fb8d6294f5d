#include "core/archive.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/host_id.h"
#include "core/log.h"
#include "core/path.h"

#define FORMAT 3
#define BUSY_MS 1000

enum statement { GET = 0, PUT, REMOVE, MOVE, NEXT, LIVED, SETTLED, STATEMENTS };

/* Keys are paths with NUL in the place of '/': bytes then sort as path_compare has it, and all that lies below a
 * directory is one range. */
static const char *const texts[STATEMENTS] = {
	[GET] = "SELECT look, size, mtime, attr FROM entry WHERE key = ?1",
	[PUT] = "INSERT OR REPLACE INTO entry (key, look, size, mtime, attr, noted) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
	[REMOVE] = "DELETE FROM entry WHERE key = ?1 OR (key >= ?2 AND key < ?3)",
	[MOVE] = ("UPDATE entry SET key = CAST(?1 || substr(key, ?2) AS BLOB), noted = ?6"
		  " WHERE key = ?3 OR (key >= ?4 AND key < ?5)"),
	[NEXT] = "SELECT key, look, size, mtime, attr FROM entry WHERE key >= ?1 AND key < ?2 ORDER BY key",
	[LIVED] = "UPDATE life SET age = ?1, mono = ?2",
	[SETTLED] = "UPDATE life SET settled = ?1",
};

struct archive {
	sqlite3 *db;
	sqlite3_stmt *statements[STATEMENTS];
	bool changing; /* a transaction is open */
	uint64_t id;
	/* Its age, which entries are noted with: nanoseconds, but for the time between two runs of the kernel, so that
	 * neither the clock nor a pause makes anything older. */
	int64_t born_ns; /* by this process's clock */
	int64_t noted_ns, settled_ns, settle_ns;
	struct loop_timer *timer;    /* armed while something is young */
	bool in_doubt, told, ending; /* archive_in_doubt; archive_tell_doubt has been; archive_doubt_over */
};

/* ---- errors ---- */

static enum err_class class_of(int code)
{
	switch (code & 0xff) {
	case SQLITE_NOMEM:
		return ERR_NOMEM;
	case SQLITE_FULL:
		return ERR_NOSPACE;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return ERR_AGAIN;
	case SQLITE_PERM:
	case SQLITE_AUTH:
	case SQLITE_READONLY:
		return ERR_DENIED;
	case SQLITE_TOOBIG:
		return ERR_LIMIT;
	default:
		return ERR_IO;
	}
}

static bool is_damage(int code)
{
	return (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB;
}

static int failed(struct archive *a, int code, struct err *err)
{
	const char *text = a->db == NULL ? sqlite3_errstr(code) : sqlite3_errmsg(a->db);
	const char *path = a->db == NULL ? NULL : sqlite3_db_filename(a->db, "main");

	err_set(err, class_of(code), "the archive%s%s: %s", path == NULL ? "" : " ", path == NULL ? "" : path, text);
	if (err != NULL)
		err->code = code;
	return -1;
}

/* ---- keys ---- */

struct key {
	char *bytes;
	size_t len;
};

/* `tail`: one more byte at the end, or -1. */
static bool make_key(struct key *k, const char *path, size_t len, int tail)
{
	k->len = len + (tail >= 0 ? 1 : 0);
	k->bytes = malloc(k->len + 1);
	if (k->bytes == NULL)
		return false;
	for (size_t i = 0; i < len; i++)
		k->bytes[i] = path[i] == '/' ? '\0' : path[i];
	if (tail >= 0)
		k->bytes[len] = (char)tail;
	return true;
}

static void drop_key(struct key *k)
{
	free(k->bytes);
	k->bytes = NULL;
}

/* The range of what lies strictly below `path`. The root's own key is empty; no other one begins with NUL. */
static bool make_range(struct key *from, struct key *to, const char *path, size_t len)
{
	char top[NAME_BYTES_MAX];

	/* The root's: above a name of 255 times the largest byte. */
	memset(top, 0xff, sizeof(top));
	if (!make_key(from, path, len, len == 0 ? 1 : 0))
		return false;
	if (len == 0 ? make_key(to, top, sizeof(top), 0xff) : make_key(to, path, len, 1))
		return true;
	drop_key(from);
	return false;
}

static void drop_range(struct key *from, struct key *to)
{
	drop_key(from);
	drop_key(to);
}

static int bind_key(sqlite3_stmt *s, int at, const struct key *k)
{
	return sqlite3_bind_blob64(s, at, k->bytes, k->len, SQLITE_STATIC);
}

static void reset(sqlite3_stmt *s)
{
	(void)sqlite3_reset(s);
	(void)sqlite3_clear_bindings(s);
}

/* ---- open ---- */

static int prepare(struct archive *a, struct err *err)
{
	for (int i = 0; i < STATEMENTS; i++) {
		int code = sqlite3_prepare_v3(a->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &a->statements[i], NULL);

		if (code != SQLITE_OK)
			return failed(a, code, err);
	}
	return 0;
}

static int run(struct archive *a, const char *sql, struct err *err)
{
	int code = sqlite3_exec(a->db, sql, NULL, NULL, NULL);

	if (code == SQLITE_OK)
		return 0;
	(void)failed(a, code, err);
	/* Some errors roll all back; what was begun here must not stay open. */
	if (!a->changing)
		(void)sqlite3_exec(a->db, "ROLLBACK", NULL, NULL, NULL);
	if (sqlite3_get_autocommit(a->db) != 0)
		a->changing = false;
	return -1;
}

/* The text or number that a statement yields; "" when it yields no row. */
static int ask(struct archive *a, const char *sql, char *out, size_t size, struct err *err)
{
	sqlite3_stmt *s = NULL;
	int code = sqlite3_prepare_v2(a->db, sql, -1, &s, NULL);

	out[0] = '\0';
	if (code == SQLITE_OK)
		code = sqlite3_step(s);
	if (code == SQLITE_ROW) {
		const unsigned char *text = sqlite3_column_text(s, 0);

		(void)snprintf(out, size, "%s", text == NULL ? "" : (const char *)text);
		code = SQLITE_DONE;
	}
	if (code != SQLITE_DONE)
		(void)failed(a, code, err);
	(void)sqlite3_finalize(s);
	return code == SQLITE_DONE ? 0 : -1;
}

/* A power cut may cost the last transactions, never the file: that is all that is promised. One process has it. */
static int open_file(struct archive *a, const char *path, struct err *err)
{
	char answer[64];
	int code = sqlite3_open_v2(
		path, &a->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
		NULL);

	if (code != SQLITE_OK)
		return failed(a, code, err);
	(void)sqlite3_extended_result_codes(a->db, 1);
	(void)sqlite3_busy_timeout(a->db, BUSY_MS);
	if (run(a, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;", err) <
		    0 ||
	    ask(a, "PRAGMA quick_check(1)", answer, sizeof(answer), err) < 0)
		return -1;
	if (strcmp(answer, "ok") != 0) {
		err_set(err, ERR_IO, "the archive: %s", answer);
		if (err != NULL)
			err->code = SQLITE_CORRUPT;
		return -1;
	}
	return 0;
}

static void roll_back(struct archive *a)
{
	if (a->changing)
		(void)sqlite3_exec(a->db, "ROLLBACK", NULL, NULL, NULL);
	a->changing = false;
}

static int commit(struct archive *a, struct err *err)
{
	int code = sqlite3_exec(a->db, "COMMIT", NULL, NULL, NULL);

	if (code != SQLITE_OK) {
		(void)failed(a, code, err);
		roll_back(a);
	}
	a->changing = false;
	return code == SQLITE_OK ? 0 : -1;
}

static void close_file(struct archive *a)
{
	for (int i = 0; i < STATEMENTS; i++) {
		(void)sqlite3_finalize(a->statements[i]);
		a->statements[i] = NULL;
	}
	roll_back(a);
	(void)sqlite3_close(a->db);
	a->db = NULL;
	if (a->timer != NULL)
		loop_timer_remove(a->timer);
	a->timer = NULL;
}

/* Where the kernel has no random bits yet: better a number that others may have than no archive. */
static uint64_t random_id(void)
{
	struct timespec now;
	uint64_t id = 0;

	if (getrandom(&id, sizeof(id), GRND_NONBLOCK) != (ssize_t)sizeof(id) &&
	    clock_gettime(CLOCK_REALTIME, &now) == 0)
		id = (uint64_t)now.tv_nsec * 2654435761u ^ (uint64_t)now.tv_sec ^ (uint64_t)getpid();
	return id;
}

static int make_tables(struct archive *a, const char *pair, struct err *err)
{
	sqlite3_stmt *s = NULL;
	char sql[128];
	int code;

	(void)snprintf(sql, sizeof(sql), "PRAGMA user_version = %d", FORMAT);
	if (run(a,
		"BEGIN IMMEDIATE;"
		"DROP TABLE IF EXISTS entry; DROP TABLE IF EXISTS pair; DROP TABLE IF EXISTS life;"
		"CREATE TABLE pair (name TEXT NOT NULL, id INTEGER NOT NULL);"
		"CREATE TABLE life (boot BLOB NOT NULL, age INTEGER NOT NULL, mono INTEGER NOT NULL,"
		" settled INTEGER NOT NULL, clean INTEGER NOT NULL, doubt INTEGER NOT NULL);"
		"INSERT INTO life (boot, age, mono, settled, clean, doubt) VALUES (x'', 0, 0, 0, 1, 0);"
		"CREATE TABLE entry (key BLOB PRIMARY KEY, look INTEGER NOT NULL, size INTEGER NOT NULL,"
		" mtime INTEGER NOT NULL, attr INTEGER NOT NULL, noted INTEGER NOT NULL) WITHOUT ROWID;",
		err) < 0)
		return -1;
	a->changing = true;
	code = sqlite3_prepare_v2(a->db, "INSERT INTO pair (name, id) VALUES (?1, ?2)", -1, &s, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_bind_text(s, 1, pair, -1, SQLITE_STATIC);
	if (code == SQLITE_OK)
		code = sqlite3_bind_int64(s, 2, (int64_t)random_id());
	if (code == SQLITE_OK)
		code = sqlite3_step(s);
	if (code != SQLITE_DONE)
		(void)failed(a, code, err);
	(void)sqlite3_finalize(s);
	if (code != SQLITE_DONE || run(a, sql, err) < 0)
		return -1;
	return commit(a, err);
}

static int ask_number(struct archive *a, const char *sql, int64_t *out, struct err *err)
{
	char text[32];

	if (ask(a, sql, text, sizeof(text), err) < 0)
		return -1;
	*out = strtoll(text, NULL, 10);
	return 0;
}

/* ---- transactions ---- */

static int begin(struct archive *a, struct err *err)
{
	if (a->changing)
		return 0;
	if (run(a, "BEGIN IMMEDIATE", err) < 0)
		return -1;
	a->changing = true;
	return 0;
}

/* Run a statement that yields no row. An error may have rolled all back: then so it stays. */
static int finish(struct archive *a, sqlite3_stmt *s, int code, struct err *err)
{
	if (code == SQLITE_OK)
		code = sqlite3_step(s);
	if (code != SQLITE_DONE)
		(void)failed(a, code, err);
	reset(s);
	if (sqlite3_get_autocommit(a->db) != 0)
		a->changing = false;
	return code == SQLITE_DONE ? 0 : -1;
}

/* ---- age ---- */

static int64_t age(const struct archive *a)
{
	return clock_mono_ns() - a->born_ns;
}

static int note_life(struct archive *a, int64_t ns, struct err *err)
{
	sqlite3_stmt *s = a->statements[LIVED];
	int code = sqlite3_bind_int64(s, 1, ns);

	if (code == SQLITE_OK)
		code = sqlite3_bind_int64(s, 2, ns + a->born_ns);
	return finish(a, s, code, err);
}

static int note_settled(struct archive *a, int64_t ns, struct err *err)
{
	sqlite3_stmt *s = a->statements[SETTLED];

	return finish(a, s, sqlite3_bind_int64(s, 1, ns), err);
}

static void settle(void *ctx)
{
	struct archive *a = ctx;
	struct err err = ERR_INIT;
	bool alone = !a->changing; /* otherwise it goes with what is being noted */
	int64_t ns = age(a) - a->settle_ns;

	/* The age itself is only written down with notes: after the next start it goes on from there. */
	if (ns > a->noted_ns)
		ns = a->noted_ns;
	if (begin(a, &err) == 0 && note_settled(a, ns, &err) == 0 && (!alone || commit(a, &err) == 0)) {
		a->settled_ns = ns;
	} else {
		log_warn("the archive of both ways: %s", err.text);
		if (alone)
			roll_back(a);
	}
	if (a->noted_ns > a->settled_ns)
		loop_timer_after(a->timer, a->settle_ns);
}

/* What the archive has outlived. What is written here is on the disk before anything is noted: a sign that it did not
 * end orderly must not be lost with the notes. */
static int take_up(struct archive *a, const char *boot, struct err *err)
{
	char before[HOST_ID_TEXT], sql[320];
	int64_t mono, clean, doubt, now = clock_mono_ns();
	bool known;

	if (ask(a, "SELECT lower(hex(boot)) FROM life", before, sizeof(before), err) < 0 ||
	    ask_number(a, "SELECT age FROM life", &a->noted_ns, err) < 0 ||
	    ask_number(a, "SELECT settled FROM life", &a->settled_ns, err) < 0 ||
	    ask_number(a, "SELECT mono FROM life", &mono, err) < 0 ||
	    ask_number(a, "SELECT clean FROM life", &clean, err) < 0 ||
	    ask_number(a, "SELECT doubt FROM life", &doubt, err) < 0)
		return -1;
	known = boot[0] != '\0' && before[0] != '\0';
	a->born_ns = now - a->noted_ns - 1;
	if (known && strcmp(boot, before) == 0) {
		/* It grew older meanwhile. */
		if (mono > 0 && mono < now)
			a->born_ns = mono - a->noted_ns;
		if (age(a) - a->settle_ns >= a->noted_ns)
			a->settled_ns = a->noted_ns;
	} else if (known && clean == 0) {
		(void)snprintf(sql, sizeof(sql),
			       "BEGIN IMMEDIATE; DELETE FROM entry WHERE noted > %lld; UPDATE life SET doubt = 1;"
			       " COMMIT",
			       (long long)a->settled_ns);
		if (run(a, sql, err) < 0)
			return -1;
		doubt = 1;
	}
	if (!known || strcmp(boot, before) != 0)
		a->settled_ns = a->noted_ns;
	a->in_doubt = doubt != 0;
	(void)snprintf(sql, sizeof(sql),
		       "PRAGMA synchronous = FULL; UPDATE life SET boot = x'%s', settled = %lld, clean = 0;"
		       " PRAGMA synchronous = NORMAL",
		       boot[0] != '\0' ? boot : before, (long long)a->settled_ns);
	return run(a, sql, err);
}

static int begin_life(struct archive *a, const struct archive_place *place, struct err *err)
{
	char boot[HOST_ID_TEXT] = ""; /* not known */

	a->settle_ns = place->settle_ns == 0 ? ARCHIVE_SETTLE_NS : place->settle_ns;
	if (place->boot != NULL && host_boot_known(place->boot))
		host_id_text(place->boot, boot);
	if (take_up(a, boot, err) < 0)
		return -1;
	if (a->in_doubt)
		log_normal("this machine was started anew without an orderly end: what both ends agreed on in the last "
			   "minutes before is forgotten, and what only the target has is asked for");
	if (place->loop == NULL)
		return 0;
	a->timer = loop_timer_add(place->loop, settle, a, err);
	if (a->timer == NULL)
		return -1;
	if (a->noted_ns > a->settled_ns)
		loop_timer_after(a->timer, a->settle_ns);
	return 0;
}

/* Whether it is of this pair, and of this format. */
static int is_ours(struct archive *a, const char *pair, bool *ours, struct err *err)
{
	size_t size = strlen(pair) + 2;
	char *name = malloc(size), version[16];
	int rc = -1;

	*ours = false;
	if (name == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for the archive");
	if (ask(a, "PRAGMA user_version", version, sizeof(version), err) < 0)
		goto out;
	rc = 0;
	if (strtol(version, NULL, 10) != FORMAT)
		goto out;
	rc = ask(a, "SELECT name FROM pair", name, size, err);
	*ours = rc == 0 && strcmp(name, pair) == 0;
out:
	free(name);
	return rc;
}

static int open_once(struct archive *a, const struct archive_place *place, bool *fresh, struct err *err)
{
	int64_t id;
	bool ours;

	if (open_file(a, place->path, err) < 0 || is_ours(a, place->pair, &ours, err) < 0)
		return -1;
	if (!ours && make_tables(a, place->pair, err) < 0)
		return -1;
	*fresh = !ours;
	if (ask_number(a, "SELECT id FROM pair", &id, err) < 0)
		return -1;
	a->id = (uint64_t)id;
	return prepare(a, err) == 0 && begin_life(a, place, err) == 0 ? 0 : -1;
}

/* The file and what SQLite keeps beside it. */
static void put_aside(const char *path)
{
	static const char *const tails[] = { "-wal", "-shm", "-journal" };
	size_t size = strlen(path) + 16;
	char *other = malloc(size);

	if (other == NULL)
		return;
	(void)snprintf(other, size, "%s.damaged", path);
	(void)rename(path, other);
	for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
		(void)snprintf(other, size, "%s%s", path, tails[i]);
		(void)unlink(other);
	}
	free(other);
}

struct archive *archive_open(const struct archive_place *place, bool *fresh, struct err *err)
{
	struct archive *a = calloc(1, sizeof(*a));
	struct err first = ERR_INIT;
	int rc;

	if (a == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for the archive");
		return NULL;
	}
	rc = open_once(a, place, fresh, &first);
	/* SQLITE_ERROR: the tables are not what they should be. */
	if (rc < 0 && (is_damage(first.code) || first.code == SQLITE_ERROR)) {
		close_file(a);
		put_aside(place->path);
		first = (struct err)ERR_INIT;
		rc = open_once(a, place, fresh, &first);
	}
	if (rc == 0)
		return a;
	err_set(err, first.class, "%s: %s", place->path, first.text);
	if (err != NULL)
		err->code = first.code;
	archive_close(a);
	return NULL;
}

uint64_t archive_id(const struct archive *a)
{
	return a->id;
}

void archive_close(struct archive *a)
{
	if (a == NULL)
		return;
	close_file(a);
	free(a);
}

/* ---- entries ---- */

static bool read_state(sqlite3_stmt *s, int at, struct twoway_state *out)
{
	int look = sqlite3_column_int(s, at);

	if (look <= LOOK_ABSENT || look > LOOK_SPECIAL)
		return false;
	*out = (struct twoway_state){ .look = (enum look)look,
				      .size = sqlite3_column_int64(s, at + 1),
				      .mtime_ns = sqlite3_column_int64(s, at + 2),
				      .attr = (uint64_t)sqlite3_column_int64(s, at + 3) };
	return true;
}

static int no_memory(struct err *err)
{
	return err_set(err, ERR_NOMEM, "out of memory for the archive");
}

int archive_get(struct archive *a, const char *path, size_t len, struct twoway_state *out, struct err *err)
{
	sqlite3_stmt *s = a->statements[GET];
	struct key key;
	int code;

	if (!make_key(&key, path, len, -1))
		return no_memory(err);
	code = bind_key(s, 1, &key);
	if (code == SQLITE_OK)
		code = sqlite3_step(s);
	/* What makes no sense is not known. */
	if (code != SQLITE_ROW || !read_state(s, 0, out))
		*out = (struct twoway_state){ .look = LOOK_ABSENT };
	if (code != SQLITE_ROW && code != SQLITE_DONE)
		(void)failed(a, code, err);
	reset(s);
	drop_key(&key);
	return code == SQLITE_ROW || code == SQLITE_DONE ? 0 : -1;
}

static int forget(struct archive *a, const char *path, size_t len, struct err *err)
{
	sqlite3_stmt *s = a->statements[REMOVE];
	struct key key, from, to;
	int code, rc;

	if (!make_key(&key, path, len, -1))
		return no_memory(err);
	if (!make_range(&from, &to, path, len)) {
		drop_key(&key);
		return no_memory(err);
	}
	code = bind_key(s, 1, &key);
	if (code == SQLITE_OK)
		code = bind_key(s, 2, &from);
	if (code == SQLITE_OK)
		code = bind_key(s, 3, &to);
	rc = finish(a, s, code, err);
	drop_range(&from, &to);
	drop_key(&key);
	return rc;
}

static int put(struct archive *a, const char *path, size_t len, const struct twoway_state *state, struct err *err)
{
	sqlite3_stmt *s = a->statements[PUT];
	struct key key;
	int code, rc;

	if (!make_key(&key, path, len, -1))
		return no_memory(err);
	code = bind_key(s, 1, &key);
	if (code == SQLITE_OK)
		code = sqlite3_bind_int(s, 2, (int)state->look);
	if (code == SQLITE_OK)
		code = sqlite3_bind_int64(s, 3, state->size);
	if (code == SQLITE_OK)
		code = sqlite3_bind_int64(s, 4, state->mtime_ns);
	if (code == SQLITE_OK)
		code = sqlite3_bind_int64(s, 5, (int64_t)state->attr);
	if (code == SQLITE_OK)
		code = sqlite3_bind_int64(s, 6, age(a));
	rc = finish(a, s, code, err);
	drop_key(&key);
	return rc;
}

int archive_note(struct archive *a, const char *path, size_t len, const struct twoway_state *state, struct err *err)
{
	if (begin(a, err) < 0)
		return -1;
	return state->look == LOOK_ABSENT || state->look == LOOK_NONE ? forget(a, path, len, err)
								      : put(a, path, len, state, err);
}

int archive_rename(struct archive *a, const char *from, size_t from_len, const char *to, size_t to_len, struct err *err)
{
	sqlite3_stmt *s = a->statements[MOVE];
	struct key old, new, low, high;
	int code, rc;

	if (path_within(to, to_len, from, from_len) || path_within(from, from_len, to, to_len))
		return err_set(err, ERR_BUG, "the archive: a rename into or onto itself");
	if (begin(a, err) < 0 || forget(a, to, to_len, err) < 0)
		return -1;
	old.bytes = new.bytes = NULL;
	if (!make_key(&old, from, from_len, -1) || !make_key(&new, to, to_len, -1) ||
	    !make_range(&low, &high, from, from_len)) {
		drop_key(&old);
		drop_key(&new);
		return no_memory(err);
	}
	code = bind_key(s, 1, &new);
	if (code == SQLITE_OK)
		code = sqlite3_bind_int64(s, 2, (int64_t)from_len + 1);
	if (code == SQLITE_OK)
		code = bind_key(s, 3, &old);
	if (code == SQLITE_OK)
		code = bind_key(s, 4, &low);
	if (code == SQLITE_OK)
		code = bind_key(s, 5, &high);
	if (code == SQLITE_OK)
		code = sqlite3_bind_int64(s, 6, age(a));
	rc = finish(a, s, code, err);
	drop_range(&low, &high);
	drop_key(&old);
	drop_key(&new);
	return rc;
}

/* ---- visits ---- */

struct visit {
	bool direct;
	size_t dir_len;
	bool (*fn)(void *ctx, const char *path, size_t len, const struct twoway_state *state);
	void *ctx;
	char *path; /* the key as a path; the largest so far */
	size_t cap;
	bool stop;
	int skip; /* a grandchild was met: go on behind all of this child's; bytes of its name with the directory's */
};

static bool take_path(struct visit *v, const char *key, size_t len)
{
	if (len + 1 > v->cap) {
		char *path = realloc(v->path, len + 64);

		if (path == NULL)
			return false;
		v->path = path;
		v->cap = len + 64;
	}
	for (size_t i = 0; i < len; i++)
		v->path[i] = key[i] == '\0' ? '/' : key[i];
	return true;
}

/* Where the name of a direct child ends, when this is something below it; otherwise len. */
static size_t child_end(const struct visit *v, size_t len)
{
	size_t at = v->dir_len == 0 ? 0 : v->dir_len + 1;
	const char *slash = memchr(v->path + at, '/', len - at);

	return slash == NULL ? len : (size_t)(slash - v->path);
}

/* One run over a range, up to its end or to the first grandchild. */
static int visit_range(struct archive *a, struct visit *v, const struct key *from, const struct key *to,
		       struct err *err)
{
	sqlite3_stmt *s = a->statements[NEXT];
	int code = bind_key(s, 1, from), rc = 0;
	struct twoway_state state;

	v->skip = -1;
	if (code == SQLITE_OK)
		code = bind_key(s, 2, to);
	if (code != SQLITE_OK)
		rc = failed(a, code, err);
	while (rc == 0 && !v->stop && v->skip < 0 && (code = sqlite3_step(s)) == SQLITE_ROW) {
		const char *key = sqlite3_column_blob(s, 0);
		size_t len = (size_t)sqlite3_column_bytes(s, 0), end;

		if (len == 0)
			continue;
		if (key == NULL || !take_path(v, key, len)) {
			rc = no_memory(err);
			break;
		}
		end = child_end(v, len);
		if (v->direct && end < len)
			v->skip = (int)end;
		else if (read_state(s, 1, &state))
			v->stop = !v->fn(v->ctx, v->path, len, &state);
	}
	if (rc == 0 && !v->stop && v->skip < 0 && code != SQLITE_DONE)
		rc = failed(a, code, err);
	reset(s);
	return rc;
}

int archive_each(struct archive *a, const char *dir, size_t len, bool direct,
		 bool (*fn)(void *ctx, const char *path, size_t len, const struct twoway_state *state), void *ctx,
		 struct err *err)
{
	struct visit v = { .direct = direct, .dir_len = len, .fn = fn, .ctx = ctx, .skip = -1 };
	struct key from, to;
	int rc;

	if (!make_range(&from, &to, dir, len))
		return no_memory(err);
	do {
		rc = visit_range(a, &v, &from, &to, err);
		if (rc == 0 && v.skip >= 0) {
			drop_key(&from);
			if (!make_key(&from, v.path, (size_t)v.skip, 1))
				rc = no_memory(err);
		}
	} while (rc == 0 && v.skip >= 0);
	free(v.path);
	drop_range(&from, &to);
	return rc;
}

bool archive_in_doubt(const struct archive *a)
{
	return a->in_doubt;
}

bool archive_tell_doubt(struct archive *a)
{
	bool tell = a->in_doubt && !a->told;

	a->told = true;
	return tell;
}

int archive_doubt_over(struct archive *a, struct err *err)
{
	if (begin(a, err) < 0 || run(a, "UPDATE life SET doubt = 0", err) < 0)
		return -1;
	a->ending = true;
	return 0;
}

int archive_commit(struct archive *a, struct err *err)
{
	int64_t now = age(a);

	if (!a->changing)
		return 0;
	if (note_life(a, now, err) < 0) {
		roll_back(a);
		return -1;
	}
	if (commit(a, err) < 0)
		return -1;
	a->noted_ns = now;
	a->in_doubt = a->in_doubt && !a->ending;
	if (a->timer != NULL && !loop_timer_armed(a->timer))
		loop_timer_after(a->timer, a->settle_ns);
	return 0;
}

/* ---- the end ---- */

/* Before the notes count as old, what they tell of has to be on the disk. */
static int write_source(const char *source, struct err *err)
{
	int fd = open(source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 || syncfs(fd) < 0 ? err_errno(err, errno, "%s can't be written to its disk", source) : 0;

	if (fd >= 0)
		(void)close(fd);
	return rc;
}

int archive_end(const char *path, const char *source, struct err *err)
{
	struct archive a = { 0 };
	int64_t format = 0, clean = 0;
	int rc = -1;

	if (access(path, F_OK) < 0)
		return 0;
	if (sqlite3_open_v2(path, &a.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL) ==
	    SQLITE_OK) {
		(void)sqlite3_busy_timeout(a.db, BUSY_MS);
		if (ask_number(&a, "PRAGMA user_version", &format, err) == 0)
			rc = format != FORMAT ? 0 : ask_number(&a, "SELECT clean FROM life", &clean, err);
	} else {
		(void)failed(&a, sqlite3_errcode(a.db), err);
	}
	if (rc == 0 && format == FORMAT && clean == 0 &&
	    (write_source(source, err) < 0 || run(&a, "UPDATE life SET settled = age, clean = 1", err) < 0))
		rc = -1;
	(void)sqlite3_close(a.db);
	return rc;
}
