#include "core/batch.h"

#include <stdlib.h>

void batch_free(struct batch *b)
{
	if (b == NULL)
		return;
	free(b->renames);
	free(b->items);
	free(b->arena);
	free(b);
}

const char *verdict_name(enum verdict v)
{
	static const char *const names[VERDICTS] = {
		[VERDICT_NONE] = "none",   [VERDICT_DONE] = "done",	[VERDICT_GONE] = "gone",
		[VERDICT_RETRY] = "retry", [VERDICT_REJECT] = "reject", [VERDICT_RECONCILE] = "reconcile",
		[VERDICT_LARGE] = "large", [VERDICT_ALONE] = "alone",	[VERDICT_SMALL] = "small",
	};

	return (unsigned)v < VERDICTS ? names[v] : "unknown";
}
