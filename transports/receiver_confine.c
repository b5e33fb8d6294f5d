#include "transports/receiver_confine.h"

#include <linux/capability.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/privileges.h"

/* Owners, modes and set-id bits, devices, files of any owner, and security.capability. */
static const unsigned kept[] = { CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP };

int receiver_confine(const int *dirs, size_t n, struct confinement *out, struct err *err)
{
	const struct privileges own = { .kept = kept, .n_kept = sizeof(kept) / sizeof(kept[0]) };
	struct confine_place *places = calloc(n + 1, sizeof(*places));
	int result;

	if (places == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	for (size_t i = 0; i < n; i++)
		places[i] = (struct confine_place){ .fd = dirs[i], .rights = CONFINE_READ | CONFINE_WRITE };
	result = privileges_keep(&own, err) < 0 ? -1 : confine(places, n, CONFINE_SECRETS, out, err);
	free(places);
	return result;
}

int receiver_confine_to(size_t own, int *dirs, size_t n, struct err *err)
{
	const struct confine_place place = { .fd = dirs[own], .rights = CONFINE_READ | CONFINE_WRITE };

	for (size_t i = 0; i < n; i++) {
		if (i == own || dirs[i] < 0)
			continue;
		(void)close(dirs[i]);
		dirs[i] = -1;
	}
	return confine_files(&place, 1, err);
}
