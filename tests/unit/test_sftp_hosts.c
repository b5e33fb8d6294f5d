/* LINK: transports/sftp_hosts.c transports/sftp_crypto.c transports/sftp_kex.c core/buf.c core/err.c */
/* LIBS: -lcrypto */
/* WRAP: malloc realloc strdup */
/* known_hosts as ssh-keygen writes it and people edit it; fingerprints; what a server's first packet offers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "transports/sftp_crypto.h"
#include "transports/sftp_hosts.h"
#include "transports/sftp_kex.h"

#define KEY_A "AAAAC3NzaC1lZDI1NTE5AAAAIPd9pHZBHUaUmcfqFXTMKxTWBKAE80NLVKYoMIBCL5K+"
#define KEY_B "AAAAC3NzaC1lZDI1NTE5AAAAIBC6tpY0V6E4Q2mr0wPUgMSC2QJgBDuzmpCTQGXAkLvS"

static struct buf blob_a, blob_b;

/* How many more allocations succeed before one fails; negative: none fails. */
static long left = -1;

void *__real_malloc(size_t n);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);

static bool fails(void)
{
	return left >= 0 && left-- == 0;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	return fails() ? NULL : __real_strdup(s);
}

static int load_keys(void **state)
{
	(void)state;
	buf_init(&blob_a, 256);
	buf_init(&blob_b, 256);
	assert_true(sftp_base64_decode(KEY_A, strlen(KEY_A), &blob_a));
	assert_true(sftp_base64_decode(KEY_B, strlen(KEY_B), &blob_b));
	return 0;
}

static int drop_keys(void **state)
{
	(void)state;
	buf_done(&blob_a);
	buf_done(&blob_b);
	return 0;
}

static enum sftp_host_verdict check(const char *text, const char *host, uint16_t port)
{
	struct sftp_hosts h = { 0 };
	enum sftp_host_verdict v;

	assert_true(sftp_hosts_add(&h, text, strlen(text), host, port));
	v = sftp_hosts_check(&h, blob_a.data, blob_a.len);
	sftp_hosts_done(&h);
	return v;
}

#define LINE(names) names " ssh-ed25519 " KEY_A " a comment\n"
#define OTHER(names) names " ssh-ed25519 " KEY_B "\n"

static void plain_names(void **state)
{
	(void)state;
	assert_int_equal(check("", "h", 22), SFTP_HOST_UNKNOWN);
	assert_int_equal(check(LINE("h"), "h", 22), SFTP_HOST_KNOWN);
	assert_int_equal(check(LINE("h"), "H", 22), SFTP_HOST_KNOWN);
	assert_int_equal(check(LINE("HoSt"), "host", 22), SFTP_HOST_KNOWN);
	assert_int_equal(check(LINE("other,h,10.0.0.1"), "h", 22), SFTP_HOST_KNOWN);
	assert_int_equal(check(LINE("hh"), "h", 22), SFTP_HOST_UNKNOWN);
	assert_int_equal(check(OTHER("h"), "h", 22), SFTP_HOST_CHANGED);
	assert_int_equal(check(OTHER("h") LINE("h"), "h", 22), SFTP_HOST_KNOWN);
	assert_int_equal(check("# comment\n\n \t\n" LINE("h"), "h", 22), SFTP_HOST_KNOWN);
	assert_int_equal(check("h ssh-ed25519 " KEY_A, "h", 22), SFTP_HOST_KNOWN); /* without a newline */
	assert_int_equal(check("h ssh-ed25519 " KEY_A "\r\n", "h", 22), SFTP_HOST_KNOWN);
	assert_int_equal(check("::1 ssh-ed25519 " KEY_A "\n", "::1", 22), SFTP_HOST_KNOWN);
}

static void ports(void **state)
{
	(void)state;
	assert_int_equal(check(LINE("[h]:2222"), "h", 2222), SFTP_HOST_KNOWN);
	assert_int_equal(check(LINE("[h]:2222"), "h", 22), SFTP_HOST_UNKNOWN);
	assert_int_equal(check(LINE("[h]:2222"), "h", 2223), SFTP_HOST_UNKNOWN);
	/* ssh accepts the bare name's key, and holds nothing against another one */
	assert_int_equal(check(LINE("h"), "h", 2222), SFTP_HOST_KNOWN);
	assert_int_equal(check(OTHER("h"), "h", 2222), SFTP_HOST_UNKNOWN);
	assert_int_equal(check(OTHER("[h]:2222") OTHER("h"), "h", 2222), SFTP_HOST_CHANGED);
	assert_int_equal(check("@revoked " LINE("h"), "h", 2222), SFTP_HOST_REVOKED);
}

static void patterns(void **state)
{
	(void)state;
	assert_int_equal(check(LINE("*.example.org"), "a.example.org", 22), SFTP_HOST_KNOWN);
	assert_int_equal(check(LINE("*.example.org"), "example.org", 22), SFTP_HOST_UNKNOWN);
	assert_int_equal(check(LINE("10.0.?.*"), "10.0.3.77", 22), SFTP_HOST_KNOWN);
	assert_int_equal(check(LINE("*,!bad"), "bad", 22), SFTP_HOST_UNKNOWN);
	assert_int_equal(check(LINE("!bad,*"), "bad", 22), SFTP_HOST_UNKNOWN);
	assert_int_equal(check(LINE("!bad,*"), "good", 22), SFTP_HOST_KNOWN);
	assert_int_equal(check(LINE("!bad"), "good", 22), SFTP_HOST_UNKNOWN);
	assert_int_equal(check(LINE("a*b*c"), "a-b-b-c", 22), SFTP_HOST_KNOWN);
	assert_int_equal(check(LINE("a*b*c"), "a-b-b-d", 22), SFTP_HOST_UNKNOWN);
	assert_int_equal(check(LINE("*"), "", 22), SFTP_HOST_KNOWN);
}

static void revoked_and_authorities(void **state)
{
	(void)state;
	assert_int_equal(check("@revoked " LINE("h"), "h", 22), SFTP_HOST_REVOKED);
	assert_int_equal(check(LINE("h") "@revoked " LINE("*"), "h", 22), SFTP_HOST_REVOKED);
	assert_int_equal(check("@revoked " OTHER("*") LINE("h"), "h", 22), SFTP_HOST_KNOWN);
	assert_int_equal(check("@revoked " OTHER("*"), "h", 22), SFTP_HOST_UNKNOWN);
	assert_int_equal(check("@cert-authority " LINE("h"), "h", 22), SFTP_HOST_UNKNOWN);
	assert_int_equal(check("@strange " LINE("h"), "h", 22), SFTP_HOST_UNKNOWN);
}

static void hashed_names(void **state)
{
	unsigned char mac[SFTP_SHA1_LEN];
	struct buf salt, text;

	(void)state;
	buf_init(&salt, 64);
	buf_init(&text, 1024);
	assert_true(sftp_base64_decode("Kzzl2VL4MjpjlDEVUjCGsFvf4Tk=", 28, &salt));
	assert_true(sftp_hmac_sha1(salt.data, salt.len, "[example.org]:2222", 18, mac));
	assert_true(buf_add_str(&text, "|1|Kzzl2VL4MjpjlDEVUjCGsFvf4Tk=|") &&
		    sftp_base64_encode(mac, sizeof(mac), &text) && buf_add_str(&text, " ssh-ed25519 " KEY_A "\n"));
	assert_int_equal(check(buf_str(&text), "example.org", 2222), SFTP_HOST_KNOWN);
	assert_int_equal(check(buf_str(&text), "Example.Org", 2222), SFTP_HOST_KNOWN);
	assert_int_equal(check(buf_str(&text), "example.org", 22), SFTP_HOST_UNKNOWN);
	buf_done(&salt);
	buf_done(&text);
	/* RFC 2202 */
	assert_true(sftp_hmac_sha1("Jefe", 4, "what do ya want for nothing?", 28, mac));
	assert_memory_equal(mac, "\xef\xfc\xdf\x6a\xe5\xeb\x2f\xa2\xd2\x74\x16\xd5\xf1\x84\xdf\x9c\x25\x9a\x7c\x79",
			    20);
	assert_int_equal(check("|1|| ssh-ed25519 " KEY_A "\n", "h", 22), SFTP_HOST_UNKNOWN);
	assert_int_equal(check("|1|AAAA ssh-ed25519 " KEY_A "\n", "h", 22), SFTP_HOST_UNKNOWN);
	assert_int_equal(check("|2|AAAA|AAAA ssh-ed25519 " KEY_A "\n", "h", 22), SFTP_HOST_UNKNOWN);
}

/* What makes no sense is as if it were not there. */
static void nonsense(void **state)
{
	(void)state;
	assert_int_equal(check("h\n", "h", 22), SFTP_HOST_UNKNOWN);
	assert_int_equal(check("h ssh-ed25519\n", "h", 22), SFTP_HOST_UNKNOWN);
	assert_int_equal(check("h ssh-ed25519 !!!!\n", "h", 22), SFTP_HOST_UNKNOWN);
	assert_int_equal(check("h ssh-ed25519 AAAA\n", "h", 22), SFTP_HOST_UNKNOWN);
	assert_int_equal(check("h ssh-ed25519 AP////8=\n", "h", 22), SFTP_HOST_UNKNOWN);
	assert_int_equal(check("@revoked\n" LINE("h"), "h", 22), SFTP_HOST_KNOWN);
	assert_int_equal(check(",,, ssh-ed25519 " KEY_A "\n", "h", 22), SFTP_HOST_UNKNOWN);
}

static void fingerprints(void **state)
{
	char text[SFTP_FINGERPRINT_MAX];
	struct buf b;

	(void)state;
	assert_true(sftp_fingerprint("abc", 3, text));
	assert_string_equal(text, "SHA256:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0");
	buf_init(&b, 64);
	assert_true(sftp_base64_decode("Zm9vYg==", 8, &b));
	assert_int_equal(b.len, 4);
	assert_memory_equal(b.data, "foob", 4);
	assert_false(sftp_base64_decode("Zm9v Yg", 7, &b));
	buf_done(&b);
}

static void names_of_entries(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 64);
	assert_true(sftp_hosts_name(&b, "Host", 22));
	assert_string_equal(buf_str(&b), "host");
	buf_clear(&b);
	assert_true(sftp_hosts_name(&b, "fe80::1", 2222));
	assert_string_equal(buf_str(&b), "[fe80::1]:2222");
	buf_done(&b);
}

static void offers(void **state)
{
	static const char *const ours[] = { "aes128-ctr", "aes256-ctr" };
	static const char hello[] = "a banner\r\nSSH-2.0-x\r\n"
				    "\0\0\0\x37\4\x14"
				    "0123456789abcdef"
				    "\0\0\0\3k,l\0\0\0\1h\0\0\0\1c\0\0\0\2c2\0\0\0\1m\0\0\0\2m2\0\0\0\0";
	struct sftp_kex_offer o;

	(void)state;
	assert_true(sftp_kex_read(hello, sizeof(hello) - 1, &o));
	assert_string_equal(o.lists[SFTP_KEX_EXCHANGE], "k,l");
	assert_string_equal(o.lists[SFTP_KEX_MAC_IN], "m2");
	sftp_kex_done(&o);
	for (size_t n = 0; n < 22 + 0x37; n++)
		assert_false(sftp_kex_read(hello, n, &o));
	assert_true(sftp_kex_common("x,aes256-ctr", ours, 2));
	assert_false(sftp_kex_common("x,aes256-ctr2,aes128", ours, 2));
	assert_false(sftp_kex_common("", ours, 2));
}

/* A line that there is no memory for may be the one that revokes. */
static void without_memory_no_line_is_left_out(void **state)
{
	static const char text[] =
		"host ssh-ed25519 " KEY_A "\n@revoked |1|AAAA|AAAA x y\n@revoked host ssh-ed25519 " KEY_A "\n";
	bool all_ran = false;

	(void)state;
	for (long n = 0; !all_ran; n++) {
		struct sftp_hosts h = { 0 };
		bool ok;

		left = n;
		ok = sftp_hosts_add(&h, text, sizeof(text) - 1, "host", 22);
		all_ran = left >= 0;
		left = -1;
		assert_int_equal(ok, all_ran);
		if (ok)
			assert_int_equal(sftp_hosts_check(&h, blob_a.data, blob_a.len), SFTP_HOST_REVOKED);
		sftp_hosts_done(&h);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_names),	cmocka_unit_test(ports),
		cmocka_unit_test(patterns),	cmocka_unit_test(revoked_and_authorities),
		cmocka_unit_test(hashed_names), cmocka_unit_test(nonsense),
		cmocka_unit_test(fingerprints), cmocka_unit_test(names_of_entries),
		cmocka_unit_test(offers),	cmocka_unit_test(without_memory_no_line_is_left_out),
	};

	return cmocka_run_group_tests(tests, load_keys, drop_keys);
}
