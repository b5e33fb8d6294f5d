/* tcp_validate.c - the sync section of a tcp sender: what is missing, or makes no sense; see tcp_private.h. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/tunnel_port.h"
#include "transports/mirror.h"
#include "transports/tcp_private.h"

#define DEFAULT_PORT 8737

static bool is_loopback(const char *host)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (strcmp(host, "localhost") == 0)
		return true;
	if (inet_pton(AF_INET, host, &v4) == 1)
		return (ntohl(v4.s_addr) >> 24) == 127;
	return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* An IPv6 address may stand in brackets, with nothing behind them. */
static int take_brackets(char *host)
{
	size_t n = strlen(host);

	if (strchr(host, ']') != host + n - 1)
		return -1;
	memmove(host, host + 1, n - 2);
	host[n - 2] = '\0';
	return 0;
}

int tcp_validate(struct sync_options *opt, struct err *err)
{
	const struct tcp_options *o = &opt->tcp;
	char port[32], *text;

	if (opt->host == NULL || o->module == NULL)
		return err_set(err, ERR_CONFIG, "host and module are required");
	if (opt->host[0] == '[' && take_brackets(opt->host) < 0)
		return err_set(err, ERR_CONFIG, "host: \"%s\": a port belongs into port", opt->host);
	if (strpbrk(opt->host, "/@ ") != NULL || opt->host[0] == '-')
		return err_set(err, ERR_CONFIG, "host: \"%s\" is no host's name or address", opt->host);
	if (o->key != NULL && o->certificate != NULL)
		return err_set(err, ERR_CONFIG, "either key or certificate, not both");
	if (o->key == NULL && o->certificate == NULL && !o->insecure && !is_loopback(opt->host))
		return err_set(err, ERR_CONFIG,
			       "key (a file made with `openssl rand -hex 32`) or certificate, privateKey and ca are "
			       "required; or "
			       "insecure = true, and everybody on the way can read and change what is sent");
	/* Another port is another receiver. */
	if (o->port == OPTIONS_TUNNEL_PORT)
		(void)snprintf(port, sizeof(port), "%s", TUNNEL_PORT_WORD);
	else
		(void)snprintf(port, sizeof(port), "%lld", (long long)o->port);
	if ((o->port == DEFAULT_PORT ? asprintf(&text, "%s:%s", opt->host, o->module)
				     : asprintf(&text, "%s:%s:%s", opt->host, port, o->module)) < 0)
		return err_set(err, ERR_NOMEM, "out of memory");
	if (opt->backup_dir != NULL)
		return err_set(err, ERR_CONFIG, "backupDir: the receiver says where, in the section of its module");
	free(opt->target);
	opt->target = text;
	return mirror_validate(opt, 0, err);
}
