/* registry.c - the transports of this build: adding one is a line in each list. */
#include <stddef.h>
#include <string.h>

#include "core/transport.h"

extern const struct transport transport_direct, transport_rsync, transport_rsyncssh, transport_sftp, transport_tcp,
	transport_exec;

const struct transport *const transport_registry[] = {
	&transport_rsync, &transport_rsyncssh, &transport_direct, &transport_sftp, &transport_tcp, &transport_exec, NULL
};

const struct transport *transport_find(const char *name)
{
	for (size_t i = 0; transport_registry[i] != NULL; i++)
		if (strcmp(transport_registry[i]->name, name) == 0)
			return transport_registry[i];
	return NULL;
}
