/* guard_file.c - where a target's record is kept in stateDir, and reading it. */
#include "core/guard_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/fsutil.h"
#include "core/path.h"

/* The target is what is guarded: neither another name of the sync nor another spelling of the source begins anew. */
char *guard_file_key(const struct sync_options *opt)
{
	const char *target = opt->target == NULL ? "" : opt->target;
	bool chosen = opt->tunnel.command.n > 0 && opt->tunnel.port == 0;
	char *key;
	int rc;

	/* Behind a port that is chosen anew each time there is no telling targets apart but by the sync. */
	if (chosen)
		rc = asprintf(&key, "%s %s through the tunnel of %s", opt->host == NULL ? "" : opt->host, target,
			      opt->name);
	else if (opt->host != NULL)
		rc = asprintf(&key, "%s[%lld] %s", opt->host, (long long)opt->ssh.port, target);
	else
		rc = asprintf(&key, "%s", target);
	return rc < 0 ? NULL : key;
}

char *guard_file_path(const char *state_dir, const char *key)
{
	uint64_t hash = path_hash(key, strlen(key)); /* a name; the record itself says whose it is */
	char *path;

	return asprintf(&path, "%s/guard-%016" PRIx64, state_dir, hash) < 0 ? NULL : path;
}

int guard_file_read(const char *path, const char *key, struct guard_state *g, struct err *err)
{
	struct err why = ERR_INIT;
	struct buf text;
	int rc;

	buf_init(&text, GUARD_TEXT_MAX + 512u * 1024);
	rc = read_file(path, GUARD_TEXT_MAX, &text, &why);
	if (rc < 0 && why.class == ERR_GONE) {
		buf_done(&text);
		return 0; /* the first start ever */
	}
	if (rc == 0)
		rc = guard_get(buf_str(&text), text.len, g, &why);
	if (rc == 0 && (g->target == NULL || strcmp(g->target, key) != 0))
		rc = err_set(&why, ERR_PROTOCOL, "it belongs to another target");
	buf_done(&text);
	if (rc == 0)
		return 0;
	guard_done(g);
	return err_set(
		err, ERR_UNSAFE,
		"what was remembered of this target, %.200s, can't be used: %.150s. If source and target are the "
		"right ones: fansyncd --sync-now --allow-delete",
		path, why.text);
}
