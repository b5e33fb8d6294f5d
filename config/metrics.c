/* metrics.c - the metrics section: made, checked, compared, freed. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "config/private.h"

#define HOST_NAME_BYTES 253u

struct metrics_options *config_add_metrics(struct config_run *run, struct config_place at)
{
	struct metrics_options *m;
	struct err err = ERR_INIT;

	if (run->c->metrics != NULL) {
		config_error(run, at, "metrics: there can be one only");
		return NULL;
	}
	m = calloc(1, sizeof(*m));
	if (m == NULL || config_set_defaults(SECTION_METRICS, m, &err) != 0) {
		free(m);
		config_out_of_memory(run);
		return NULL;
	}
	run->c->metrics = m;
	run->metrics_at = at;
	return m;
}

static bool host_of(const char *listen, char *host, size_t size)
{
	const char *colon = strrchr(listen, ':');
	size_t brackets = listen[0] == '[' ? 1 : 0, n = colon == NULL ? 0 : (size_t)(colon - listen);

	if (n <= 2 * brackets || n - 2 * brackets >= size)
		return false;
	memcpy(host, listen + brackets, n - 2 * brackets);
	host[n - 2 * brackets] = '\0';
	return true;
}

/* Not of what only begins like one: 127.example.net is anybody's. */
static bool is_loopback(const char *listen)
{
	char host[HOST_NAME_BYTES + 1];
	struct in6_addr six;
	struct in_addr four;

	if (!host_of(listen, host, sizeof(host)))
		return false;
	return strcmp(host, "localhost") == 0 ||
	       (inet_pton(AF_INET, host, &four) == 1 && ntohl(four.s_addr) >> 24 == IN_LOOPBACKNET) ||
	       (inet_pton(AF_INET6, host, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six));
}

/* Names are not looked up, but for localhost. */
static bool is_numeric(const char *listen)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST };
	struct addrinfo *list = NULL;
	char host[HOST_NAME_BYTES + 1];

	if (!host_of(listen, host, sizeof(host)))
		return false;
	if (strcmp(host, "localhost") == 0)
		return true;
	if (getaddrinfo(host, NULL, &hints, &list) != 0)
		return false;
	freeaddrinfo(list);
	return true;
}

static bool is_address(const char *listen)
{
	const char *colon = strrchr(listen, ':');
	char *end;
	long port;

	if (colon == NULL || colon == listen || (listen[0] == '[') != (colon[-1] == ']') ||
	    (listen[0] != '[' && strchr(listen, ':') != colon))
		return false;
	port = strtol(colon + 1, &end, 10);
	return colon[1] >= '0' && colon[1] <= '9' && *end == '\0' && port >= 1 && port <= 65535 && is_numeric(listen);
}

static void check_listen(struct config_run *run, const struct metrics_options *m)
{
	const char *listen = m->listen;

	if (listen == NULL)
		config_error(run, run->metrics_at, "listen: required, as in listen = \"127.0.0.1:9737\"");
	else if (listen[0] == '/' && strlen(listen) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		config_error(run, run->metrics_at, "listen: \"%s\" is too long for a Unix socket", listen);
	else if (listen[0] != '/' && !is_address(listen))
		config_error(run, run->metrics_at,
			     "listen: \"%s\" is no absolute path, \"ADDRESS:PORT\" or \"[ADDRESS]:PORT\"", listen);
	else if (listen[0] != '/' && !is_loopback(listen) && !m->insecure)
		config_error(run, run->metrics_at,
			     "listen: \"%s\" is not loopback: everybody who reaches it could read names of files and "
			     "hosts; put a proxy that asks who it is before a Unix socket, or say insecure = true",
			     listen);
	else if (listen[0] != '/' && !is_loopback(listen))
		config_warn(run, run->metrics_at,
			    "insecure = true: everybody who reaches %s can read names of files and hosts", listen);
	if (listen != NULL && listen[0] != '/' && m->group != NULL)
		config_error(run, run->metrics_at, "group: it is for a Unix socket; %s is none", listen);
}

void config_finish_metrics(struct config_run *run)
{
	const struct metrics_options *m = run->c->metrics;

	if (m == NULL)
		return;
	check_listen(run, m);
	for (size_t i = 0; i < m->hosts.n; i++) {
		size_t n = strlen(m->hosts.v[i]);

		if (n == 0 || n > HOST_NAME_BYTES || strpbrk(m->hosts.v[i], " \t/:@") != NULL)
			config_error(run, run->metrics_at, "hosts: \"%s\" is no name of a host", m->hosts.v[i]);
	}
}

bool config_metrics_equal(const struct metrics_options *a, const struct metrics_options *b)
{
	return a == NULL || b == NULL ? a == b : config_keys_equal(SECTION_METRICS, a, b);
}

void config_metrics_free(struct metrics_options *m)
{
	if (m == NULL)
		return;
	config_free_keys(SECTION_METRICS, m);
	free(m);
}
