/*
 * config_fake.h - a registry of transports for the tests of config/: facts only, nothing is carried.
 *
 * In a header of static data, so that the tests do not link transports/.
 */
#ifndef FANSYNCD_TESTS_LIB_CONFIG_FAKE_H
#define FANSYNCD_TESTS_LIB_CONFIG_FAKE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/transport.h"

#define FAKE_SECOND INT64_C(1000000000)

/* As the real ones complete their part: the target is made from host and targetdir. */
static int fake_ssh_validate(struct sync_options *opt, struct err *err)
{
	if (opt->host[0] == '-')
		return err_set(err, ERR_CONFIG, "host: \"%s\" begins with a dash", opt->host);
	free(opt->target);
	if (asprintf(&opt->target, "%s:%s", opt->host, opt->targetdir) < 0) {
		opt->target = NULL;
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	return 0;
}

static const struct transport fake_rsync = {
	.name = "rsync",
	.caps = TRANSPORT_LOCAL_TARGET | TRANSPORT_EXEC | TRANSPORT_MARKER,
	.default_delay_ns = FAKE_SECOND,
};

static const struct transport fake_rsyncssh = {
	.name = "rsyncssh",
	.caps = TRANSPORT_HOST | TRANSPORT_LOOK | TRANSPORT_RENAME | TRANSPORT_EXEC | TRANSPORT_MARKER,
	.default_delay_ns = FAKE_SECOND,
	.validate = fake_ssh_validate,
};

static const struct transport fake_direct = {
	.name = "direct",
	.caps = TRANSPORT_LOCAL_TARGET | TRANSPORT_LOOK | TRANSPORT_RENAME | TRANSPORT_NATIVE,
};

static const struct transport fake_sftp = {
	.name = "sftp",
	.caps = TRANSPORT_HOST | TRANSPORT_LOOK | TRANSPORT_RENAME | TRANSPORT_NATIVE | TRANSPORT_MARKER,
	.validate = fake_ssh_validate,
};

static int fake_tcp_validate(struct sync_options *opt, struct err *err)
{
	free(opt->target);
	if (asprintf(&opt->target, "%s:%s", opt->host, opt->tcp.module == NULL ? "" : opt->tcp.module) < 0) {
		opt->target = NULL;
		return err_set(err, ERR_NOMEM, "out of memory");
	}
	return 0;
}

static const struct transport fake_tcp = {
	.name = "tcp",
	.caps = TRANSPORT_MODULE | TRANSPORT_LOOK | TRANSPORT_MARKER | TRANSPORT_RENAME | TRANSPORT_NATIVE,
	.validate = fake_tcp_validate,
};

#define FAKE_TRANSPORTS 5u
static const struct transport *const fake_registry[] = { &fake_rsync, &fake_rsyncssh, &fake_direct,
							 &fake_sftp,  &fake_tcp,      NULL };

#endif
