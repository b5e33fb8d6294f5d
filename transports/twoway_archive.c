#include "transports/twoway_archive.h"

#include "core/log.h"
#include "transports/twoway_state.h"

struct archive *twoway_archive_open(const struct transport_env *env, bool *fresh, struct err *err)
{
	char pair[TWOWAY_PAIR];
	const struct archive_place place = {
		.path = env->archive_path, .pair = twoway_pair(env->opt, pair), .boot = env->boot, .loop = env->loop
	};
	struct archive *a = archive_open(&place, fresh, err);

	if (a != NULL && *fresh)
		log_normal("the archive of what both ends agree on is empty: everything is compared");
	return a;
}

int twoway_archive_commit(struct archive *a, const struct transport_env *env, bool *fresh, bool whole, struct err *err)
{
	bool all = *fresh || archive_tell_doubt(a);

	if (whole && archive_in_doubt(a) && archive_doubt_over(a, err) < 0)
		return -1;
	if (archive_commit(a, err) < 0)
		return -1;
	if (all && !whole)
		env->found(env->ctx, "", 0, VERDICT_RECONCILE, NULL);
	*fresh = false;
	return 0;
}
