/* LINK: core/resolve.c core/lookups.c core/privileges.c core/loop.c core/clock.c core/err.c */
/* WRAP: getaddrinfo */
/* Addresses of hosts: literals, names that a child looks up, and a name server that does not answer. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/resolve.h"

int __real_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **out);
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **out);

/* A name server of the test's own, in the child. */
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **out)
{
	struct addrinfo numeric = *hints;

	numeric.ai_flags = AI_NUMERICHOST;
	if ((hints->ai_flags & AI_NUMERICHOST) != 0)
		return __real_getaddrinfo(host, port, hints, out);
	if (strcmp(host, "slow.test") == 0)
		for (;;)
			(void)pause();
	if (strcmp(host, "dies.test") == 0)
		_exit(3);
	if (strcmp(host, "good.test") == 0)
		return __real_getaddrinfo("192.0.2.7", port, &numeric, out);
	return EAI_NONAME;
}

struct asked {
	struct loop *loop;
	unsigned told, ticks;
	size_t n;
	struct resolve_address first;
	struct err why;
	struct loop_timer *ticker;
};

static void on_told(void *ctx, const struct resolve_address *v, size_t n, const struct err *why)
{
	struct asked *a = ctx;

	a->told++;
	a->n = n;
	a->why = *why;
	if (n > 0)
		a->first = v[0];
}

static void on_tick(void *ctx)
{
	struct asked *a = ctx;

	a->ticks++;
	loop_timer_after(a->ticker, NS_PER_MS);
}

static void ask(struct asked *a, const char *host, int64_t timeout_ns)
{
	struct err err = ERR_INIT;
	struct resolver *r;

	memset(a, 0, sizeof(*a));
	a->loop = loop_new(&err);
	assert_non_null(a->loop);
	a->ticker = loop_timer_add(a->loop, on_tick, a, &err);
	r = resolver_start(a->loop, 0, host, 8022, timeout_ns, on_told, a, &err);
	assert_non_null(r);
	assert_int_equal(a->told, 0); /* never from within */
	loop_timer_after(a->ticker, 0);
	while (a->told == 0)
		assert_int_equal(loop_once(a->loop, 5000, &err), 0);
	resolver_free(r);
	assert_int_equal(a->told, 1);
	assert_true(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD); /* nobody is left */
	loop_timer_remove(a->ticker);
	loop_free(a->loop);
}

static void expect_address(const struct asked *a, const char *text)
{
	char got[INET6_ADDRSTRLEN] = "";
	const void *p = a->first.addr.ss_family == AF_INET
				? (const void *)&((const struct sockaddr_in *)&a->first.addr)->sin_addr
				: (const void *)&((const struct sockaddr_in6 *)&a->first.addr)->sin6_addr;

	assert_true(a->n > 0);
	assert_non_null(inet_ntop(a->first.addr.ss_family, p, got, sizeof(got)));
	assert_string_equal(got, text);
	/* The port stands at the same place in both. */
	assert_int_equal(ntohs(((const struct sockaddr_in *)&a->first.addr)->sin_port), 8022);
}

static void literals(void **state)
{
	struct asked a;

	(void)state;
	ask(&a, "127.0.0.1", NS_PER_S);
	expect_address(&a, "127.0.0.1");
	ask(&a, "::1", NS_PER_S);
	expect_address(&a, "::1");
	ask(&a, "fe80::1%lo", NS_PER_S);
	expect_address(&a, "fe80::1");
	assert_int_equal(((const struct sockaddr_in6 *)&a.first.addr)->sin6_scope_id, if_nametoindex("lo"));
}

static void names(void **state)
{
	struct asked a;

	(void)state;
	ask(&a, "good.test", 10 * NS_PER_S);
	expect_address(&a, "192.0.2.7");
	ask(&a, "unknown.test", 10 * NS_PER_S);
	assert_int_equal(a.n, 0);
	assert_int_equal(a.why.class, ERR_NETWORK);
	assert_non_null(strstr(a.why.text, "unknown.test: Name or service not known"));
	ask(&a, "dies.test", 10 * NS_PER_S);
	assert_int_equal(a.n, 0);
	assert_non_null(strstr(a.why.text, "not looked up"));
}

/* The loop goes on meanwhile, and it is over in time. */
static void a_silent_server(void **state)
{
	struct asked a;

	(void)state;
	ask(&a, "slow.test", 50 * NS_PER_MS);
	assert_int_equal(a.n, 0);
	assert_non_null(strstr(a.why.text, "not found in time"));
	assert_true(a.ticks > 1);
}

static void given_up(void **state)
{
	struct err err = ERR_INIT;
	struct loop *loop = loop_new(&err);
	struct resolver *r;

	(void)state;
	r = resolver_start(loop, 0, "slow.test", 22, NS_PER_S, on_told, NULL, &err);
	assert_non_null(r);
	resolver_free(r);
	assert_true(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
	r = resolver_start(loop, 0, "::1", 22, NS_PER_S, on_told, NULL, &err);
	assert_non_null(r);
	resolver_free(r);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(literals),
		cmocka_unit_test(names),
		cmocka_unit_test(a_silent_server),
		cmocka_unit_test(given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
