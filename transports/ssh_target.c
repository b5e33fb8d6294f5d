#include "transports/ssh_target.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/path.h"

static bool has_control(const char *s)
{
	for (; *s != '\0'; s++)
		if (iscntrl((unsigned char)*s))
			return true;
	return false;
}

/* With or without a zone; `len` bytes of it. */
static bool is_ipv6(const char *name, size_t len)
{
	struct in6_addr addr;
	char text[INET6_ADDRSTRLEN + 1];
	const char *zone = memchr(name, '%', len);
	size_t n = zone == NULL ? len : (size_t)(zone - name);

	if (n >= sizeof(text))
		return false;
	memcpy(text, name, n);
	text[n] = '\0';
	return inet_pton(AF_INET6, text, &addr) == 1;
}

/* What stands behind the user. */
static int check_name(const char *host, const char *name, struct err *err)
{
	const char *end = name[0] == '[' ? strchr(name, ']') : NULL;

	if (name[0] == '[' ? end != NULL && end[1] == ':' : strchr(name, ':') != NULL && !is_ipv6(name, strlen(name)))
		return err_set(err, ERR_CONFIG,
			       "host: \"%s\": a port belongs into ssh.port, a directory into targetdir", host);
	if (name[0] == '[' ? end == NULL || end[1] != '\0' : strpbrk(name, "[]") != NULL)
		return err_set(err, ERR_CONFIG, "host: \"%s\": write an IPv6 address as it is or in brackets", host);
	if (name[0] == '[' && !is_ipv6(name + 1, (size_t)(end - name - 1)))
		return err_set(err, ERR_CONFIG, "host: \"%s\": in brackets stands no IPv6 address", host);
	return 0;
}

static int check_host(const char *host, struct err *err)
{
	const char *at = strrchr(host, '@'), *name = at == NULL ? host : at + 1;

	if (host[0] == '\0' || name[0] == '\0')
		return err_set(err, ERR_CONFIG, "host: \"%s\" names no host", host);
	if (host[0] == '-' || name[0] == '-')
		return err_set(err, ERR_CONFIG, "host: \"%s\" begins with a dash", host);
	for (const char *p = host; *p != '\0'; p++)
		if (iscntrl((unsigned char)*p) || isspace((unsigned char)*p) || strchr("/'\"\\`$;&|<>()", *p) != NULL)
			return err_set(err, ERR_CONFIG, "host: \"%s\" holds a character that no host name has", host);
	return check_name(host, name, err);
}

static int check_dir(const char *dir, struct err *err)
{
	if (dir[0] == '~' && dir[1] != '\0' && dir[1] != '/')
		return err_set(err, ERR_CONFIG, "targetdir: \"%s\": another user's home must be written out", dir);
	if (has_control(dir))
		return err_set(err, ERR_CONFIG, "targetdir: \"%s\" holds a control character", dir);
	return 0;
}

bool ssh_target_add_host(struct buf *out, const char *host)
{
	const char *at = strrchr(host, '@'), *name = at == NULL ? host : at + 1;
	bool bare = name[0] != '[' && strchr(name, ':') != NULL;

	(void)buf_add(out, host, (size_t)(name - host));
	return buf_printf(out, bare ? "[%s]" : "%s", name);
}

/* Relative to the home directory unless absolute; never what rsync or a command would take for something else. */
bool ssh_target_add_dir(struct buf *out, const char *dir)
{
	size_t n;

	if (dir[0] == '~')
		dir += dir[1] == '\0' ? 1 : 2;
	n = strlen(dir);
	while (n > 0 && dir[n - 1] == '/')
		n--;
	if (dir[0] != '/')
		(void)buf_add_str(out, n == 0 ? "." : "./");
	return buf_add(out, dir, n);
}

int ssh_target_validate(struct sync_options *opt, struct err *err)
{
	struct buf target;
	char *text;

	if (opt->host == NULL || opt->targetdir == NULL)
		return err_set(err, ERR_CONFIG, "host and targetdir are required");
	if (check_host(opt->host, err) < 0 || check_dir(opt->targetdir, err) < 0)
		return -1;
	buf_init(&target, 2 * PATH_BYTES_MAX);
	(void)ssh_target_add_host(&target, opt->host);
	(void)buf_printf(&target, ":%s", opt->targetdir);
	text = target.failed ? NULL : strdup(buf_str(&target));
	buf_done(&target);
	if (text == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	free(opt->target);
	opt->target = text;
	return 0;
}

/* ssh takes an IPv6 address as it is. */
char *ssh_target_host(const char *host)
{
	char *text = strdup(host), *out = text;

	for (const char *in = host; text != NULL && *in != '\0'; in++)
		if (*in != '[' && *in != ']')
			*out++ = *in;
	if (text != NULL)
		*out = '\0';
	return text;
}

bool ssh_target_add_options(struct arglist *a, const struct ssh_options *o)
{
	long long seconds = o->timeout_ns / NS_PER_S, third = (seconds + 2) / 3;

	(void)arglist_add(a, "-oBatchMode=yes");
	(void)arglist_add(a, "-T");
	if (o->port > 0)
		(void)arglist_printf(a, "-p%lld", (long long)o->port);
	if (o->identity_file != NULL)
		(void)arglist_printf(a, "-i%s", o->identity_file);
	if (o->known_hosts_file != NULL)
		(void)arglist_printf(a, "-oUserKnownHostsFile=\"%s\"", o->known_hosts_file);
	if (o->host_key_alias != NULL)
		(void)arglist_printf(a, "-oHostKeyAlias=%s", o->host_key_alias);
	for (size_t i = 0; i < o->options.n; i++)
		(void)arglist_printf(a, "-o%s", o->options.v[i]);
	for (size_t i = 0; i < o->extra.n; i++)
		(void)arglist_add(a, o->extra.v[i]);
	(void)arglist_printf(a, "-oConnectTimeout=%lld", seconds < 1 ? 1 : seconds);
	(void)arglist_printf(a, "-oServerAliveInterval=%lld", third < 1 ? 1 : third);
	return arglist_add(a, "-oServerAliveCountMax=3");
}
