/* LINK: transports/tcp_frames.c transports/tcp_frames_read.c core/owner_map.c core/buf.c core/err.c core/path.c
 * core/twoway.c */
/* The codec of the tcp transport: each frame comes back as it went, and no other bytes are taken for one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transports/fileops.h"
#include "transports/tcp_frames.h"

static struct buf out;

static int set_up(void **state)
{
	(void)state;
	buf_init(&out, 1u << 20);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	buf_done(&out);
	return 0;
}

/* Reads a payload of a kind; the result does not matter, the sanitizers look on. */
typedef bool read_fn(const char *p, size_t len);

/* Each shorter payload is refused, and so is a longer one; each changed byte is survived. Copies, so that reading
 * beyond the end is noticed. */
static void mangle(read_fn *fn)
{
	for (size_t n = 0; n <= out.len + 1; n++) {
		char *copy = malloc(n + 1);

		memcpy(copy, out.data, n < out.len ? n : out.len);
		copy[n < out.len ? n : out.len] = 'x';
		if (n == out.len)
			assert_true(fn(copy, n));
		else
			assert_false(fn(copy, n));
		free(copy);
	}
	for (size_t i = 0; i < out.len; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			char *copy = malloc(out.len);

			memcpy(copy, out.data, out.len);
			copy[i] = (char)(copy[i] ^ (char)(1u << bit));
			(void)fn(copy, out.len);
			free(copy);
		}
	}
	buf_clear(&out);
}

static struct tcp_bytes bytes(const char *s)
{
	return (struct tcp_bytes){ s, strlen(s) };
}

static struct tcp_state a_file(void)
{
	struct tcp_state s = { .look = LOOK_FILE };

	s.st.st_mode = S_IFREG | 04755;
	s.st.st_uid = 1000;
	s.st.st_gid = 4294967294u;
	s.st.st_size = INT64_C(1) << 40;
	s.st.st_mtim = (struct timespec){ -1, 999999999 };
	s.st.st_ctim = (struct timespec){ 7, 8 };
	s.st.st_nlink = 3;
	s.st.st_dev = 9;
	s.st.st_ino = UINT64_MAX;
	return s;
}

static bool same_bytes(const struct tcp_bytes *a, const char *b)
{
	return a->len == strlen(b) && memcmp(a->p, b, a->len) == 0;
}

static bool same_file(const struct tcp_state *s)
{
	const struct tcp_state f = a_file();

	return s->look == f.look && s->st.st_mode == f.st.st_mode && s->st.st_uid == f.st.st_uid &&
	       s->st.st_gid == f.st.st_gid && s->st.st_size == f.st.st_size &&
	       s->st.st_mtim.tv_sec == f.st.st_mtim.tv_sec && s->st.st_mtim.tv_nsec == f.st.st_mtim.tv_nsec &&
	       s->st.st_ctim.tv_sec == f.st.st_ctim.tv_sec && s->st.st_nlink == f.st.st_nlink &&
	       s->st.st_dev == f.st.st_dev && s->st.st_ino == f.st.st_ino;
}

static bool read_hello(const char *p, size_t len)
{
	struct tcp_hello h;

	return tcp_get_hello(p, len, &h);
}

static void hello(void **state)
{
	struct tcp_hello h = { .version_min = 1, .version_max = 3, .features = 5, .host_id = "0123456789abcde" }, got;

	(void)state;
	h.software = bytes("fansyncd");
	h.module = bytes("web");
	h.sync = bytes("dr");
	h.options = bytes("options");
	tcp_put_hello(&out, &h);
	assert_true(tcp_get_hello(out.data, out.len, &got));
	assert_int_equal(got.version_max, 3);
	assert_int_equal(got.features, 5);
	assert_true(same_bytes(&got.module, "web") && same_bytes(&got.options, "options"));
	mangle(read_hello);
	h.version_min = 4;
	tcp_put_hello(&out, &h);
	assert_false(read_hello(out.data, out.len));
}

static bool read_welcome(const char *p, size_t len)
{
	struct tcp_welcome w;

	return tcp_get_welcome(p, len, &w);
}

/* What it tells with a feature is there with that alone. */
static void welcome(void **state)
{
	struct tcp_welcome w = { .version = 1,
				 .host_id = "0123456789abcde",
				 .credit = 9,
				 .max_changes = 8,
				 .dev = 7,
				 .ino = 6 },
			   got;
	const uint32_t features[] = { 0, TCP_FEATURE_STATE, TCP_FEATURE_BOOT, TCP_FEATURE_STATE | TCP_FEATURE_BOOT };

	(void)state;
	w.software = bytes("fansyncd");
	w.state.inodes_of = 5;
	memcpy(w.boot, "this run's", 10);
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		w.features = features[i];
		tcp_put_welcome(&out, &w);
		assert_true(tcp_get_welcome(out.data, out.len, &got));
		assert_true(got.features == features[i] && got.max_changes == 8 && got.ino == 6);
		assert_int_equal(got.state.inodes_of, (features[i] & TCP_FEATURE_STATE) != 0 ? 5 : 0);
		assert_int_equal(memcmp(got.boot, w.boot, sizeof(w.boot)) == 0, (features[i] & TCP_FEATURE_BOOT) != 0);
		mangle(read_welcome);
	}
}

static bool read_work(const char *p, size_t len)
{
	struct tcp_work w;

	return tcp_get_work(p, len, &w);
}

static void work(void **state)
{
	struct tcp_work w = { 7, 9, TCP_APPLY, true, -1, 2, 3, 4, false, true }, got;

	(void)state;
	tcp_put_work(&out, &w);
	assert_true(tcp_get_work(out.data, out.len, &got));
	assert_true(got.id == 7 && got.first == 9 && got.may_delete && got.max_delete == -1 && got.n_items == 3 &&
		    !got.continues && got.unguarded);
	mangle(read_work);
	w.max_delete = -2;
	tcp_put_work(&out, &w);
	assert_false(read_work(out.data, out.len));
	buf_clear(&out);
	w.max_delete = 1;
	w.kind = TCP_RECONCILE; /* has no renames */
	tcp_put_work(&out, &w);
	assert_false(read_work(out.data, out.len));
}

static bool read_rename(const char *p, size_t len)
{
	struct batch_rename r;

	return tcp_get_rename(p, len, &r);
}

/* No path leads out of a tree. */
static void paths(void **state)
{
	static const char *const bad[] = { "/a", "a/", "a//b", "..", "a/../b", "./a", "a/." };
	struct batch_rename r = { "a/b", 3, "c", 1, true };

	(void)state;
	tcp_put_rename(&out, &r);
	assert_true(read_rename(out.data, out.len));
	mangle(read_rename);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		r = (struct batch_rename){ bad[i], strlen(bad[i]), "c", 1, false };
		tcp_put_rename(&out, &r);
		assert_false(read_rename(out.data, out.len));
		buf_clear(&out);
	}
	r = (struct batch_rename){ "a\0b", 3, "c", 1, false };
	tcp_put_rename(&out, &r);
	assert_false(read_rename(out.data, out.len));
	buf_clear(&out);
	r = (struct batch_rename){ "", 0, "c", 1, false }; /* the root stays where it is */
	tcp_put_rename(&out, &r);
	assert_false(read_rename(out.data, out.len));
}

static bool read_item(const char *p, size_t len)
{
	struct tcp_item i;

	return tcp_get_item(p, len, &i);
}

static void item(void **state)
{
	struct tcp_item i = { .flags = 5, .tries = 1, .has_archive = true, .has_content = true }, got;

	(void)state;
	i.path = bytes("d/f");
	i.state = a_file();
	i.archive = (struct twoway_state){ LOOK_FILE, 5, -7, UINT64_MAX };
	i.content = bytes("content");
	memset(i.digest, 3, sizeof(i.digest));
	tcp_put_item(&out, &i);
	buf_add_str(&out, "content");
	assert_true(tcp_get_item(out.data, out.len, &got));
	assert_true(same_file(&got.state) && same_bytes(&got.path, "d/f") && same_bytes(&got.content, "content"));
	assert_true(got.archive.size == 5 && got.archive.mtime_ns == -7 && got.digest[15] == 3);
	mangle(read_item);
	i.state = (struct tcp_state){ .look = LOOK_ABSENT }; /* has no content */
	tcp_put_item(&out, &i);
	buf_add_str(&out, "content");
	assert_false(read_item(out.data, out.len));
}

static bool read_ack(const char *p, size_t len)
{
	struct reader r;
	uint64_t upto;
	uint32_t n;
	struct tcp_verdict v;

	if (!tcp_get_ack(p, len, &r, &upto, &n))
		return false;
	while (n-- > 0)
		if (!tcp_next_verdict(&r, &v))
			return false;
	return tcp_all_read(&r);
}

static void ack(void **state)
{
	struct tcp_verdict v = { .seq = 12, .v = VERDICT_RETRY };

	(void)state;
	err_set(&v.why, ERR_NOSPACE, "no room");
	tcp_put_ack(&out, 11, 2);
	tcp_put_verdict(&out, &v);
	v.why = (struct err)ERR_INIT;
	tcp_put_verdict(&out, &v);
	mangle(read_ack);
}

static bool read_listing(const char *p, size_t len)
{
	struct reader r;
	struct tcp_listing l;
	struct tcp_list_entry e;

	if (!tcp_get_listing(p, len, &r, &l))
		return false;
	while (l.count-- > 0)
		if (!tcp_next_entry(&r, &e))
			return false;
	return tcp_all_read(&r);
}

static void listing(void **state)
{
	struct tcp_listing l = { .id = 3, .last = true, .count = 2 };
	struct tcp_list_entry e = { .has_archive = true, .archive = { LOOK_DIR, 0, 0, 1 } };

	(void)state;
	e.name = bytes("name");
	e.state = a_file();
	tcp_put_listing(&out, &l);
	tcp_put_list_entry(&out, &e);
	e.state = (struct tcp_state){ .look = LOOK_ABSENT };
	tcp_put_list_entry(&out, &e);
	mangle(read_listing);
	l.count = 1;
	tcp_put_listing(&out, &l);
	e.name = bytes("a/b");
	tcp_put_list_entry(&out, &e);
	assert_false(read_listing(out.data, out.len));
}

static bool read_agreed(const char *p, size_t len)
{
	struct tcp_answer a;

	return tcp_get_answer(TCP_AGREED, p, len, &a);
}

static void agreed(void **state)
{
	struct tcp_answer a = { .id = 7, .agreed = { LOOK_FILE, 5, -6, UINT64_MAX } }, got;

	(void)state;
	tcp_put_answer(&out, TCP_AGREED, &a);
	assert_true(tcp_get_answer(TCP_AGREED, out.data, out.len, &got));
	assert_true(got.id == 7 && twoway_same(&got.agreed, &a.agreed, TWOWAY_NANOSECONDS));
	mangle(read_agreed);
	a.result = FILEOPS_FAILED;
	err_set(&a.why, ERR_IO, "the archive");
	tcp_put_answer(&out, TCP_AGREED, &a);
	assert_true(tcp_get_answer(TCP_AGREED, out.data, out.len, &got) && got.why.class == ERR_IO);
	mangle(read_agreed);
}

static bool read_request(const char *p, size_t len)
{
	struct tcp_request r;

	return tcp_get_request(TCP_OPEN, p, len, &r);
}

static bool read_unless(const char *p, size_t len)
{
	struct tcp_unless u;
	struct reader r;
	uint32_t fields;

	if (!tcp_get_unless(p, len, &r, &fields))
		return false;
	while (!tcp_all_read(&r))
		if (!tcp_next_unless(&r, &u))
			return false;
	return true;
}

static void listings_that_may_be_the_same(void **state)
{
	struct tcp_unless u = { .id = 5, .path = bytes("a/b"), .digest = { 1, 2, 3 } }, got;
	struct reader r;
	uint32_t fields;

	(void)state;
	buf_add_u32(&out, 9);
	assert_false(read_unless(out.data, out.len)); /* it asks for nothing */
	tcp_put_unless(&out, &u);
	assert_true(tcp_get_unless(out.data, out.len, &r, &fields) && fields == 9);
	assert_true(tcp_next_unless(&r, &got) && tcp_all_read(&r));
	assert_int_equal(got.id, 5);
	assert_memory_equal(got.digest, u.digest, sizeof(u.digest));
	assert_true(got.path.len == 3 && memcmp(got.path.p, "a/b", 3) == 0);
	mangle(read_unless);
	buf_add_u32(&out, 0);
	u.path = bytes("../b");
	tcp_put_unless(&out, &u);
	assert_false(read_unless(out.data, out.len));
	buf_clear(&out);
}

static bool read_opened(const char *p, size_t len)
{
	struct tcp_opened o;

	return tcp_get_opened(p, len, &o);
}

static void opening(void **state)
{
	struct tcp_request r = { .id = 1, .old_size = 5 };
	struct tcp_opened o = { .id = 1, .file = 2, .wants_hashes = true, .block = TCP_BLOCK_MIN };

	(void)state;
	r.path = bytes("f");
	r.old = o.state = a_file();
	tcp_put_request(&out, TCP_OPEN, &r);
	mangle(read_request);
	tcp_put_opened(&out, &o);
	mangle(read_opened);
	o.block = 1; /* that many hashes would never end */
	tcp_put_opened(&out, &o);
	assert_false(read_opened(out.data, out.len));
}

static bool read_copy(const char *p, size_t len)
{
	struct tcp_span s;

	return tcp_get_span(TCP_COPY, p, len, &s);
}

static bool read_end(const char *p, size_t len)
{
	struct tcp_end e;

	return tcp_get_end(p, len, &e);
}

static void content(void **state)
{
	struct tcp_span s = { 1, 10, 20, 30 }, got;
	struct tcp_end e = { .file = 1, .result = FILEOPS_FAILED, .size = 5 };
	const char *data;

	(void)state;
	tcp_put_span(&out, TCP_COPY, &s);
	mangle(read_copy);
	s.offset = (uint64_t)INT64_MAX;
	tcp_put_span(&out, TCP_COPY, &s); /* ends behind what a file can be */
	assert_false(read_copy(out.data, out.len));
	buf_clear(&out);
	s.offset = 10;
	tcp_put_span(&out, TCP_DATA, &s);
	assert_false(tcp_get_data(out.data, out.len, &got, &data));
	buf_add_str(&out, "abc");
	assert_true(tcp_get_data(out.data, out.len, &got, &data));
	assert_true(got.len == 3 && memcmp(data, "abc", 3) == 0);
	buf_clear(&out);
	err_set(&e.why, ERR_IO, "bad");
	e.state = a_file();
	tcp_put_end(&out, &e);
	mangle(read_end);
	e.result = FILEOPS_PENDING;
	tcp_put_end(&out, &e);
	assert_false(read_end(out.data, out.len));
}

static bool read_finer(const char *p, size_t len)
{
	struct tcp_finer f;

	return tcp_get_finer(p, len, true, &f);
}

static bool read_finer_of_all(const char *p, size_t len)
{
	struct tcp_finer f;

	return tcp_get_finer(p, len, false, &f);
}

static void finer_hashes(void **state)
{
	struct tcp_finer f = { .file = 3, .block = TCP_BLOCK_MIN, .first = 5, .n = 7 }, got;

	(void)state;
	tcp_put_finer(&out, &f, true);
	assert_true(tcp_get_finer(out.data, out.len, true, &got));
	assert_true(got.file == 3 && got.block == TCP_BLOCK_MIN && got.first == 5 && got.n == 7);
	mangle(read_finer);
	tcp_put_finer(&out, &f, false);
	assert_true(tcp_get_finer(out.data, out.len, false, &got));
	assert_true(got.file == 3 && got.first == 5 && got.n == UINT64_MAX);
	mangle(read_finer_of_all);
	for (int i = 0; i < 3; i++) {
		const struct tcp_finer bad[] = {
			{ .block = 1, .n = 1 },
			{ .block = TCP_BLOCK_MIN }, /* none */
			{ .block = TCP_BLOCK_MIN, .first = (uint64_t)INT64_MAX / TCP_BLOCK_MIN + 1, .n = 1 },
		};

		tcp_put_finer(&out, &bad[i], true);
		assert_false(read_finer(out.data, out.len));
		buf_clear(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(hello, set_up, tear_down),
		cmocka_unit_test_setup_teardown(welcome, set_up, tear_down),
		cmocka_unit_test_setup_teardown(work, set_up, tear_down),
		cmocka_unit_test_setup_teardown(paths, set_up, tear_down),
		cmocka_unit_test_setup_teardown(item, set_up, tear_down),
		cmocka_unit_test_setup_teardown(ack, set_up, tear_down),
		cmocka_unit_test_setup_teardown(agreed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(listing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(opening, set_up, tear_down),
		cmocka_unit_test_setup_teardown(listings_that_may_be_the_same, set_up, tear_down),
		cmocka_unit_test_setup_teardown(content, set_up, tear_down),
		cmocka_unit_test_setup_teardown(finer_hashes, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
