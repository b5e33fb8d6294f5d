/* LINK: transports/sftp_codec.c core/buf.c */
/* Packets of the file transfer protocol, byte for byte, and what must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transports/sftp_codec.h"

#define BYTES(text) ((struct sftp_bytes){ (text), sizeof(text) - 1 })

static struct buf out;

static int fresh(void **state)
{
	(void)state;
	buf_init(&out, 1u << 20);
	return 0;
}

static int over(void **state)
{
	(void)state;
	buf_done(&out);
	return 0;
}

#define EXPECT(bytes)                                                                                                  \
	do {                                                                                                           \
		assert_false(out.failed);                                                                              \
		assert_int_equal(out.len, sizeof(bytes) - 1);                                                          \
		assert_memory_equal(out.data, bytes, sizeof(bytes) - 1);                                               \
		buf_clear(&out);                                                                                       \
	} while (0)

static void requests(void **state)
{
	const struct sftp_attrs attrs = { .flags = SFTP_ATTR_PERMISSIONS, .mode = 0600 };

	(void)state;
	sftp_put_init(&out);
	EXPECT("\0\0\0\5\1\0\0\0\3");
	sftp_put_path(&out, SFTP_LSTAT, 0x01020304, BYTES("a/b"));
	EXPECT("\0\0\0\x0c\x07\1\2\3\4\0\0\0\3a/b");
	sftp_put_open(&out, 7, BYTES("f"), SFTP_O_WRITE | SFTP_O_CREAT | SFTP_O_EXCL, &attrs);
	EXPECT("\0\0\0\x16\3\0\0\0\7\0\0\0\1f\0\0\0\x2a\0\0\0\4\0\0\1\x80");
	sftp_put_handle(&out, SFTP_CLOSE, 8, BYTES("\0h"));
	EXPECT("\0\0\0\x0b\4\0\0\0\x08\0\0\0\2\0h");
	sftp_put_write(&out, 9, BYTES("h"), 0x0102030405060708, BYTES("xyz"));
	assert_int_equal(out.len, sftp_write_overhead(1) + 3);
	EXPECT("\0\0\0\x19\6\0\0\0\x09\0\0\0\1h\1\2\3\4\5\6\7\x08\0\0\0\3xyz");
	sftp_put_read(&out, 9, BYTES("h"), 1, 0x8000);
	EXPECT("\0\0\0\x16\5\0\0\0\x09\0\0\0\1h\0\0\0\0\0\0\0\1\0\0\x80\0");
	sftp_put_paths(&out, SFTP_SYMLINK, 1, BYTES("text"), BYTES("link"));
	EXPECT("\0\0\0\x15\x14\0\0\0\1\0\0\0\4text\0\0\0\4link");
	sftp_put_ext_paths(&out, 2, sftp_extension_name(SFTP_EXT_POSIX_RENAME), BYTES("a"), BYTES("b"));
	EXPECT("\0\0\0\x2b\xc8\0\0\0\2\0\0\0\x18posix-rename@openssh.com\0\0\0\1a\0\0\0\1b");
}

/* Only what the flags name is written, in the order of the draft. */
static void attributes(void **state)
{
	const struct sftp_attrs all = {
		.flags = ~0u, .size = 5, .uid = 1, .gid = 2, .mode = 3, .atime = 4, .mtime = 6
	};
	struct sftp_packet p;
	struct sftp_attrs got;

	(void)state;
	sftp_put_attrs(&out, SFTP_FSETSTAT, 1, BYTES("h"), &all);
	assert_int_equal(sftp_packet(out.data, out.len, &p), (long)out.len);
	p.type = SFTP_ATTRS;
	(void)reader_bytes(&p.body, 5); /* the handle */
	assert_true(sftp_get_attrs(&p, &got));
	assert_int_equal(got.flags, 15);
	assert_int_equal(got.size, 5);
	assert_int_equal(got.uid, 1);
	assert_int_equal(got.gid, 2);
	assert_int_equal(got.mode, 3);
	assert_int_equal(got.atime, 4);
	assert_int_equal(got.mtime, 6);
	assert_int_equal(p.body.left, 0);
}

/* A packet that does not fit leaves what was there alone. */
static void no_room(void **state)
{
	struct buf small;

	(void)state;
	buf_init(&small, 32);
	sftp_put_path(&small, SFTP_STAT, 1, BYTES("abc"));
	assert_int_equal(small.len, 16);
	sftp_put_path(&small, SFTP_STAT, 2, BYTES("abcdefghijklmnopqrst"));
	assert_true(small.failed);
	assert_int_equal(small.len, 16);
	buf_done(&small);
	sftp_put_path(&out, SFTP_STAT, 3, (struct sftp_bytes){ "x", SFTP_PACKET_MAX + 1 });
	assert_true(out.failed);
	assert_int_equal(out.len, 0);
}

static long packet(const char *bytes, size_t n, struct sftp_packet *p)
{
	return sftp_packet(bytes, n, p);
}

#define PACKET(text, p) packet((text), sizeof(text) - 1, (p))

static void framing(void **state)
{
	static const char good[] = "\0\0\0\6\x65\0\0\0\7X";
	struct sftp_packet p;

	(void)state;
	for (size_t n = 0; n < sizeof(good) - 1; n++)
		assert_int_equal(packet(good, n, &p), 0);
	assert_int_equal(PACKET(good, &p), 10);
	assert_int_equal(p.type, SFTP_STATUS);
	assert_int_equal(p.id, 7);
	assert_int_equal(p.body.left, 1);
	assert_int_equal(PACKET("\0\0\0\4\x65\0\0\0", &p), -1); /* no room for an id */
	assert_int_equal(PACKET("\0\0\0\0", &p), -1);
	assert_int_equal(PACKET("\0\x08\0\1", &p), -1);
	assert_int_equal(PACKET("\xff\xff\xff\xff", &p), -1);
	assert_int_equal(PACKET("This", &p), -1);
	assert_int_equal(PACKET("\0\x08\0\0", &p), 0);
}

static void versions(void **state)
{
	struct sftp_packet p;
	struct sftp_version v;

	(void)state;
	assert_true(PACKET("\0\0\0\x42\2\0\0\0\3\0\0\0\x18posix-rename@openssh.com\0\0\0\1"
			   "1\0\0\0\x13statvfs@openssh.com\0\0\0\1"
			   "2",
			   &p) > 0);
	assert_true(sftp_get_version(&p, &v));
	assert_int_equal(v.version, 3);
	assert_int_equal(v.extensions, SFTP_EXT_POSIX_RENAME | SFTP_EXT_STATVFS);
	/* what both ways needs */
	assert_string_equal(sftp_lacks_replacing(v.extensions, false), "lsetstat@openssh.com");
	v.extensions |= SFTP_EXT_LSETSTAT;
	assert_null(sftp_lacks_replacing(v.extensions, false));
	assert_string_equal(sftp_lacks_replacing(v.extensions, true), "hardlink@openssh.com");
	assert_null(sftp_lacks_replacing(v.extensions | SFTP_EXT_HARDLINK, true));
	assert_string_equal(sftp_lacks_replacing(0, false), "posix-rename@openssh.com");
	/* another version of the extension is another extension */
	assert_true(PACKET("\0\0\0\x21\2\0\0\0\3\0\0\0\x13"
			   "statvfs@openssh.com\0\0\0\1"
			   "1",
			   &p) > 0);
	assert_true(sftp_get_version(&p, &v));
	assert_int_equal(v.extensions, 0);
	assert_true(PACKET("\0\0\0\x0b\2\0\0\0\3\0\0\0\xff"
			   "ab",
			   &p) > 0);
	assert_false(sftp_get_version(&p, &v));
	assert_true(PACKET("\0\0\0\x0c\2\0\0\0\3\0\0\0\3abc", &p) > 0); /* a name without data */
	assert_false(sftp_get_version(&p, &v));
}

static void statuses(void **state)
{
	struct sftp_packet p;
	struct sftp_status_reply s;

	(void)state;
	assert_true(PACKET("\0\0\0\x14\x65\0\0\0\1\0\0\0\3\0\0\0\3no!\0\0\0\0", &p) > 0);
	assert_true(sftp_get_status(&p, &s));
	assert_int_equal(s.code, SFTP_PERMISSION_DENIED);
	assert_int_equal(s.message.n, 3);
	assert_true(PACKET("\0\0\0\x09\x65\0\0\0\1\0\0\0\0", &p) > 0);
	assert_true(sftp_get_status(&p, &s)); /* the oldest servers give no message */
	assert_int_equal(s.message.n, 0);
	assert_true(PACKET("\0\0\0\x08\x65\0\0\0\1\0\0\0", &p) > 0);
	assert_false(sftp_get_status(&p, &s));
	assert_true(PACKET("\0\0\0\x0d\x65\0\0\0\1\0\0\0\4\0\0\0\1", &p) > 0);
	assert_false(sftp_get_status(&p, &s)); /* a message that is not there */
	assert_string_equal(sftp_status_name(4), "failure");
	assert_string_equal(sftp_status_name(0xffffffff), "unknown status");
}

static void handles_and_data(void **state)
{
	struct sftp_packet p;
	struct sftp_bytes b;
	char big[4 + 5 + 4 + 257] = "\0\0\1\x0a\x66\0\0\0\1\0\0\1\1";

	(void)state;
	assert_true(PACKET("\0\0\0\x0b\x66\0\0\0\1\0\0\0\2hh", &p) > 0);
	assert_true(sftp_get_handle(&p, &b));
	assert_int_equal(b.n, 2);
	assert_true(PACKET("\0\0\0\x09\x66\0\0\0\1\0\0\0\0", &p) > 0);
	assert_false(sftp_get_handle(&p, &b));
	assert_true(packet(big, sizeof(big), &p) > 0);
	assert_false(sftp_get_handle(&p, &b));
	assert_true(PACKET("\0\0\0\x0b\x67\0\0\0\1\0\0\0\3hh", &p) > 0);
	assert_false(sftp_get_data(&p, &b));
}

/* A count that the packet has no room for is refused before anything is made of it. */
static void names(void **state)
{
	struct sftp_packet p;
	struct sftp_bytes name;
	struct sftp_attrs a;
	uint32_t n;

	(void)state;
	assert_true(PACKET("\0\0\0\x1a\x68\0\0\0\1\0\0\0\1\0\0\0\1a\0\0\0\4long\0\0\0\0", &p) > 0);
	assert_true(sftp_get_names(&p, &n));
	assert_int_equal(n, 1);
	assert_true(sftp_get_name(&p, &name, &a));
	assert_int_equal(name.n, 1);
	assert_int_equal(a.flags, 0);
	assert_false(sftp_get_name(&p, &name, &a));
	assert_true(PACKET("\0\0\0\x15\x68\0\0\0\1\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0", &p) > 0);
	assert_false(sftp_get_names(&p, &n));
	assert_true(PACKET("\0\0\0\x09\x68\0\0\0\1\xff\xff\xff\xff", &p) > 0);
	assert_false(sftp_get_names(&p, &n));
	/* extended attributes are skipped, and counted by what is there */
	assert_true(PACKET("\0\0\0\x17\x69\0\0\0\1\x80\0\0\0\0\0\0\1\0\0\0\1x\0\0\0\1y", &p) > 0);
	assert_true(sftp_get_attrs(&p, &a));
	assert_int_equal(p.body.left, 0);
	assert_true(PACKET("\0\0\0\x0d\x69\0\0\0\1\x80\0\0\0\x40\0\0\0", &p) > 0);
	assert_false(sftp_get_attrs(&p, &a));
}

static void extended_replies(void **state)
{
	struct sftp_packet p;
	struct sftp_limits l;
	struct sftp_statvfs v;

	(void)state;
	assert_true(
		PACKET("\0\0\0\x25\xc9\0\0\0\1\0\0\0\0\0\4\0\0\0\0\0\0\0\3\xfc\0\0\0\0\0\0\3\xfc\0\0\0\0\0\0\0\0\x40",
		       &p) > 0);
	assert_true(sftp_get_limits(&p, &l));
	assert_int_equal(l.packet, 262144);
	assert_int_equal(l.write, 261120);
	assert_int_equal(l.handles, 64);
	assert_true(
		PACKET("\0\0\0\x25\xc9\0\0\0\1\0\0\0\0\0\4\0\0\0\0\0\0\0\3\xfc\0\0\0\0\0\0\3\xfc\0\0\0\0\0\0\0\0\x40",
		       &p) > 0);
	assert_false(sftp_get_statvfs(&p, &v)); /* it is longer */
	p.type = SFTP_STATUS;
	assert_false(sftp_get_limits(&p, &l));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(requests, fresh, over),
		cmocka_unit_test_setup_teardown(attributes, fresh, over),
		cmocka_unit_test_setup_teardown(no_room, fresh, over),
		cmocka_unit_test(framing),
		cmocka_unit_test(versions),
		cmocka_unit_test(statuses),
		cmocka_unit_test(handles_and_data),
		cmocka_unit_test(names),
		cmocka_unit_test(extended_replies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
