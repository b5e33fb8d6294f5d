/* LINK: transports/rsync_output.c transports/rsync_names.c core/buf.c core/path.c */
/* What rsync prints, as its versions from 3.1 to 3.5 word it, and whom it concerns. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transports/rsync_names.h"
#include "transports/rsync_output.h"

struct seen {
	unsigned n;
	enum rsync_event_kind kind;
	char name[512];
	size_t len;
	int code;
	bool attribute;
	uint64_t bytes, done, left;
	unsigned version;
};

static void on_event(void *ctx, const struct rsync_event *ev)
{
	struct seen *s = ctx;

	s->n++;
	s->kind = ev->kind;
	s->len = ev->len;
	assert_true(ev->len < sizeof(s->name));
	if (ev->len > 0)
		memcpy(s->name, ev->name, ev->len);
	s->name[ev->len] = '\0';
	s->code = ev->code;
	s->attribute = ev->attribute;
	s->bytes = ev->bytes;
	s->done = ev->done;
	s->left = ev->left;
	s->version = ev->version;
}

static struct seen feed(const char *line)
{
	struct rsync_output o;
	struct seen s = { 0 };

	rsync_output_init(&o, on_event, &s);
	rsync_output_feed(&o, line, strlen(line));
	rsync_output_feed(&o, "\n", 1);
	rsync_output_end(&o);
	rsync_output_done(&o);
	return s;
}

static void failures(void **state)
{
	static const struct {
		const char *line, *name;
		int code;
		bool attribute;
	} cases[] = {
		/* The role in brackets came with 3.2. */
		{ "rsync: send_files failed to open \"/s/f\": Permission denied (13)", "/s/f", EACCES, false },
		{ "rsync: [sender] send_files failed to open \"/s/f\": Permission denied (13)", "/s/f", EACCES, false },
		{ "rsync: link_stat \"/s/a b\" failed: No such file or directory (2)", "/s/a b", ENOENT, false },
		{ "rsync: [sender] readlink_stat(\"/s/f\") failed: Permission denied (13)", "/s/f", EACCES, false },
		{ "rsync: [sender] opendir \"/s/d\" failed: Permission denied (13)", "/s/d", EACCES, false },
		{ "rsync: opendir \"/s/d\" failed: Permission denied (13)", "/s/d", EACCES, false },
		{ "rsync: [sender] readdir(\"/s/d\"): Input/output error (5)", "/s/d", EIO, false },
		{ "rsync: [sender] read errors mapping \"/s/f\": Input/output error (5)", "/s/f", EIO, false },
		{ "rsync: [receiver] mkstemp \"/t/.f.aB3xYz\" failed: Permission denied (13)", "/t/.f.aB3xYz", EACCES,
		  false },
		{ "rsync: mkstemp \"/d/.f.aB3xYz\" (in mod) failed: Permission denied (13)", "/d/.f.aB3xYz", EACCES,
		  false },
		{ "rsync: [receiver] write failed on \"/t/f\": No space left on device (28)", "/t/f", ENOSPC, false },
		{ "rsync: [receiver] rename \"/t/.f.aB3xYz\" -> \"f\": Is a directory (21)", "/t/.f.aB3xYz", EISDIR,
		  false },
		{ "rsync: [receiver] open \"/t/f\" failed: Text file busy (26)", "/t/f", ETXTBSY, false },
		{ "rsync: [generator] recv_generator: mkdir \"/t/d\" failed: File name too long (36)", "/t/d",
		  ENAMETOOLONG, false },
		{ "rsync: recv_generator: failed to stat \"/t/d\": Permission denied (13)", "/t/d", EACCES, false },
		{ "rsync: [generator] symlink \"/t/l\" -> \"to \"x\"\" failed: File exists (17)", "/t/l", EEXIST,
		  false },
		{ "rsync: [generator] mknod \"/t/p\" failed: Operation not permitted (1)", "/t/p", EPERM, false },
		{ "rsync: [generator] link \"/t/b\" => a failed: Operation not permitted (1)", "/t/b", EPERM, false },
		{ "rsync: [generator] chown \"/t/f\" failed: Operation not permitted (1)", "/t/f", EPERM, false },
		{ "rsync: [receiver] chgrp \"/t/.f.aB3xYz\" failed: Operation not permitted (1)", "/t/.f.aB3xYz", EPERM,
		  false },
		{ "rsync: failed to set times on \"/t/.\": Operation not permitted (1)", "/t/.", EPERM, false },
		{ "rsync: [generator] failed to set permissions on \"/t/d\": Operation not permitted (1)", "/t/d",
		  EPERM, false },
		{ "rsync: [generator] delete_file: unlink(d/x (y)) failed: Permission denied (13)", "d/x (y)", EACCES,
		  false },
		{ "rsync: delete_file: rmdir(d) failed: Device or resource busy (16)", "d", EBUSY, false },
		{ "rsync: [generator] delete_file: make_backup(d/x) failed: Permission denied (13)", "d/x", EACCES,
		  false },
		{ "rsync: [receiver] rsync_xal_set: lsetxattr(\"/t/f\",\"user.k\") failed: Operation not supported "
		  "(95)",
		  "/t/f", EOPNOTSUPP, true },
		{ "rsync: rsync_xal_set: lsetxattr(\"/t/f\",\"user.k\") failed: No space left on device (28)", "/t/f",
		  ENOSPC, true },
		{ "rsync: [receiver] rsync_xal_set: fremovexattr(\"/t/a\",\"b\",\"user.k\") failed: Permission denied "
		  "(13)",
		  "/t/a\",\"b", EACCES, true },
		{ "rsync: get_xattr_data: lgetxattr(\"/s/f\",\"user.k\",0) failed: Permission denied (13)", "/s/f",
		  EACCES, true },
		{ "rsync: [generator] get_xattr_names: llistxattr(\"/t/f\",1024) failed: Permission denied (13)",
		  "/t/f", EACCES, true },
		{ "rsync: [generator] set_acl: sys_acl_set_file(d/f, ACL_TYPE_ACCESS): Operation not supported (95)",
		  "d/f", EOPNOTSUPP, true },
		{ "rsync: set_acl: sys_acl_set_file(d/f, g, ACL_TYPE_DEFAULT): Operation not permitted (1)", "d/f, g",
		  EPERM, true },
		{ "rsync: [generator] set_acl: sys_acl_delete_def_file(d): Operation not supported (95)", "d",
		  EOPNOTSUPP, true },
		{ "rsync: [receiver] set_acl: acl_set_file_at(f, ACL_TYPE_ACCESS): Operation not supported (95)", "f",
		  EOPNOTSUPP, true },
		{ "rsync: [receiver] set_acl: refusing path-based ACL on f (no held fd): Bad file descriptor (9)", "f",
		  EBADF, true },
		{ "rsync: [sender] get_acl: sys_acl_get_file(f, ACL_TYPE_ACCESS): Permission denied (13)", "f", EACCES,
		  true },
		/* Names that look like the words around them. */
		{ "rsync: [sender] send_files failed to open \"/s/x\" -> \"y\": Permission denied (13)",
		  "/s/x\" -> \"y", EACCES, false },
		{ "rsync: [sender] send_files failed to open \"/s/a\",\"b\": Permission denied (13)", "/s/a\",\"b",
		  EACCES, false },
		{ "rsync: [sender] send_files failed to open \"/s/x (13)\": Input/output error (5)", "/s/x (13)", EIO,
		  false },
		{ "rsync: [sender] send_files failed to open \"/s/delete_file: (x) failed\": Permission denied (13)",
		  "/s/delete_file: (x) failed", EACCES, false },
		/* Bytes that rsync escapes; what looks escaped has an escaped backslash. */
		{ "rsync: [sender] send_files failed to open \"/s/a\\#012b\": Permission denied (13)", "/s/a\nb",
		  EACCES, false },
		{ "rsync: [sender] send_files failed to open \"/s/\\#377\\#376\": Permission denied (13)",
		  "/s/\xff\xfe", EACCES, false },
		{ "rsync: [sender] send_files failed to open \"/s/\\#134#012\": Permission denied (13)", "/s/\\#012",
		  EACCES, false },
		{ "rsync: [sender] send_files failed to open \"/s/\\#134#999\\#12\": Permission denied (13)",
		  "/s/\\#999\\#12", EACCES, false },
		/* Without an errno. */
		{ "ERROR: d/f failed verification -- update discarded.", "d/f", 0, false },
		{ "skipping overly long name: d/f", "d/f", 0, false },
		{ "filename overflows max-path len by 3: d/f: g", "d/f: g", 0, false },
		{ "symlink has no referent: \"/s/l\"", "/s/l", 0, false },
		{ "temporary filename too long: d/f", "d/f", 0, false },
		{ "ERROR: daemon refused to receive file \"d/f\"", "d/f", 0, false },
		{ "recv_files: \"/t/d\" is a directory", "/t/d", 0, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct seen s = feed(cases[i].line);

		if (s.n != 1 || s.kind != RSYNC_FAILED || strcmp(s.name, cases[i].name) != 0 ||
		    s.code != cases[i].code || s.attribute != cases[i].attribute)
			fail_msg("%s: kind %d, name %s, code %d, attribute %d", cases[i].line, (int)s.kind, s.name,
				 s.code, s.attribute);
	}
}

static void other_lines(void **state)
{
	static const struct {
		const char *line;
		enum rsync_event_kind kind;
		const char *name;
	} cases[] = {
		{ "file has vanished: \"/s/f\"", RSYNC_VANISHED, "/s/f" },
		{ "directory has vanished: \"/s/d\"", RSYNC_VANISHED, "/s/d" },
		{ "cannot delete non-empty directory: d/e", RSYNC_BLOCKED, "d/e" },
		{ "could not make way for new regular file: d: e", RSYNC_BLOCKED, "d: e" },
		{ "could not make way for new symlink: l", RSYNC_BLOCKED, "l" },
		{ "IO error encountered -- skipping file deletion", RSYNC_DELETION_OFF, "" },
		{ ":>f+++++++++:45:d/a\\#012b", RSYNC_SENT, "d/a\nb" },
		{ ":<f.st......:0:x:y", RSYNC_SENT, "x:y" },
		{ ":*deleting  :0:d/", RSYNC_DELETED, "d" },
		{ ":cd+++++++++:0:d/", RSYNC_CHANGED, "d" },
		{ "rsync: warning: no space", RSYNC_TEXT, "" },
		{ "rsync error: some files/attrs were not transferred (code 23) at main.c(1338) [sender=3.2.7]",
		  RSYNC_TEXT, "" },
		{ "WARNING: f failed verification -- update discarded (will try again).", RSYNC_TEXT, "" },
		{ "rsync: connection unexpectedly closed (0 bytes received so far) [sender]", RSYNC_TEXT, "" },
		{ "anything else", RSYNC_TEXT, "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct seen s = feed(cases[i].line);

		if (s.n != 1 || s.kind != cases[i].kind || strcmp(s.name, cases[i].name) != 0)
			fail_msg("%s: kind %d, name %s", cases[i].line, (int)s.kind, s.name);
	}
}

static void numbers(void **state)
{
	struct seen s;

	(void)state;
	s = feed("rsync  version 3.2.7  protocol version 31");
	assert_int_equal(s.kind, RSYNC_VERSION);
	assert_int_equal(s.version, 30207);
	s = feed("      1,234,567 100%    1.23MB/s    0:00:01 (xfr#2, to-chk=3/7)");
	assert_int_equal(s.kind, RSYNC_PROGRESS);
	assert_int_equal(s.bytes, 1234567);
	assert_int_equal(s.done, 2);
	assert_int_equal(s.left, 3);
	s = feed("Number of files: 1,003 (reg: 1,000, dir: 3)");
	assert_int_equal(s.kind, RSYNC_FILES_TOTAL);
	assert_int_equal(s.done, 1003);
	s = feed("Number of deleted files: 7 (reg: 7)");
	assert_int_equal(s.kind, RSYNC_FILES_DELETED);
	assert_int_equal(s.done, 7);
}

/* The stream in pieces, without an end; lines that are too long are dropped alone. */
static void pieces(void **state)
{
	struct rsync_output o;
	struct seen s = { 0 };
	char *much = malloc(RSYNC_LINE_MAX + 10);

	(void)state;
	assert_non_null(much);
	memset(much, 'x', RSYNC_LINE_MAX + 10);
	rsync_output_init(&o, on_event, &s);
	rsync_output_feed(&o, "file has vani", 13);
	rsync_output_feed(&o, "shed: \"/s/f\"\r", 13);
	assert_int_equal(s.n, 1);
	rsync_output_feed(&o, much, RSYNC_LINE_MAX + 10);
	rsync_output_feed(&o, "\nfile has vanished: \"/s/g\"", 26);
	assert_int_equal(s.n, 1);
	rsync_output_end(&o);
	assert_int_equal(s.n, 2);
	assert_string_equal(s.name, "/s/g");
	rsync_output_done(&o);
	free(much);
}

/* ---- whom a name concerns ---- */

static void cut_names(void **state)
{
	static const struct rsync_names names = { .roots = { "/srv/src", "/mnt/it's a target" } };
	static const struct {
		const char *name, *path; /* NULL: nowhere */
		bool known;
	} cases[] = {
		{ "/srv/src/a/b", "a/b", true },
		{ "/srv/src", "", true },
		{ "/mnt/it's a target/.", "", true },
		{ "/srv/srcs/a", "srv/srcs/a", false },
		{ "a/b/", "a/b", true },
		{ "./a", "a", true },
		{ "/proc/self/fd/3/a/b", "a/b", true },
		{ "/proc/self/fd/12", "", true },
		{ "/proc/self/fd/3x/a", "proc/self/fd/3x/a", false },
		{ "/else/a/b", "else/a/b", false },
		{ "a/../b", NULL, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t off, n, len = strlen(cases[i].name);
		bool known, found = rsync_name_cut(&names, cases[i].name, len, &off, &n, &known);

		if (found != (cases[i].path != NULL) || known != cases[i].known ||
		    (found && (n != strlen(cases[i].path) || memcmp(cases[i].name + off, cases[i].path, n) != 0)))
			fail_msg("%s: %d, known %d, %.*s", cases[i].name, found, known, (int)n, cases[i].name + off);
	}
}

static bool is_ab(void *ctx, const char *path, size_t len)
{
	(void)ctx;
	return len == 3 && memcmp(path, "a/b", 3) == 0;
}

static void ends(void **state)
{
	(void)state;
	assert_int_equal(rsync_name_end("x/y/a/b", 7, is_ab, NULL), 4);
	assert_int_equal(rsync_name_end("a/b", 3, is_ab, NULL), 0);
	assert_int_equal(rsync_name_end("xa/b", 4, is_ab, NULL), 0);
	assert_int_equal(rsync_name_end("x/y", 3, is_ab, NULL), 0);
	assert_int_equal(rsync_name_end("", 0, is_ab, NULL), 0);
}

static void items(void **state)
{
	struct transport_item list[] = {
		{ .path = "", .len = 0, .look = LOOK_DIR },	    { .path = "a", .len = 1, .look = LOOK_DIR },
		{ .path = "a/f", .len = 3, .look = LOOK_FILE },	    { .path = "gone", .len = 4, .look = LOOK_ABSENT },
		{ .path = "was dir", .len = 7, .look = LOOK_FILE },
	};
	const struct transport_work work = { .items = list, .n_items = 5 };
	static const struct {
		const char *path;
		size_t item;
	} cases[] = {
		{ "", 0 },	   { "a/f", 2 },       { "a/.f.Ab3xYz", 2 }, { "a/other", SIZE_MAX },
		{ "gone/x/y", 3 }, { "was dir/x", 4 }, { "b", SIZE_MAX },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(rsync_item_for(&work, cases[i].path, strlen(cases[i].path)), cases[i].item);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(failures), cmocka_unit_test(other_lines), cmocka_unit_test(numbers),
		cmocka_unit_test(pieces),   cmocka_unit_test(cut_names),   cmocka_unit_test(ends),
		cmocka_unit_test(items),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
