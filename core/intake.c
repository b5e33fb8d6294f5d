#include "core/intake.h"

#include <string.h>

#include "core/path.h"

bool intake_path_rules(const struct filter *f)
{
	for (size_t i = 0; i < filter_count(f); i++) {
		const char *rule = filter_rule_text(f, i);
		const char *pattern = strchr(rule, ' ');
		const char *slash;

		if (pattern == NULL)
			return true;
		slash = strchr(pattern, '/');
		if ((slash != NULL && slash[1] != '\0') || strstr(pattern, "**") != NULL)
			return true;
	}
	return false;
}

static bool wanted(const struct intake *in, const char *path, size_t len, bool is_dir)
{
	return !path_has_temp(path, len) && filter_includes(in->filter, path, len, is_dir);
}

static size_t one(struct intake_record *out, const struct change *c)
{
	*out = (struct intake_record){ .change = *c };
	return 1;
}

static size_t take_delete(const struct intake *in, const struct change *c, struct intake_record *out)
{
	if (path_has_temp(c->path, c->path_len) ||
	    filter_protects(in->filter, c->path, c->path_len, c->is_dir, in->delete_excluded))
		return 0;
	return one(out, c);
}

/* It appears from where nothing is mirrored, perhaps over something that was: a name that changed, never one "born". */
static size_t take_appeared(const struct change *c, struct intake_record out[2])
{
	struct change into = *c;

	into.old_path = NULL;
	into.old_len = 0;
	if (c->is_dir) {
		into.kind = CHANGE_RECONCILE;
		into.cause = "moved in";
		return one(out, &into);
	}
	into.kind = CHANGE_DELETE;
	(void)one(&out[0], &into);
	into.kind = CHANGE_TOUCH;
	(void)one(&out[1], &into);
	return 2;
}

static size_t take_rename(const struct intake *in, const struct change *c, struct intake_record out[2])
{
	bool from = wanted(in, c->old_path, c->old_len, c->is_dir);
	bool to = wanted(in, c->path, c->path_len, c->is_dir);
	struct change away = *c;

	if (from && to) {
		(void)one(out, c);
		if (c->is_dir && in->path_rules)
			out->change.exact = false;
		return 1;
	}
	if (to)
		return take_appeared(c, out);
	away.kind = CHANGE_DELETE;
	away.path = c->old_path;
	away.path_len = c->old_len;
	away.old_path = NULL;
	away.old_len = 0;
	return take_delete(in, &away, out);
}

static size_t take_plain(const struct intake *in, const struct change *c, int64_t now_ns, bool may_be_open,
			 struct intake_record *out)
{
	size_t base = path_base(c->path, c->path_len);

	if (!wanted(in, c->path, c->path_len, c->is_dir))
		return 0;
	(void)one(out, c);
	if (!c->is_dir && path_like_rsync_temp(c->path + base, c->path_len - base)) {
		out->hold_until_ns = now_ns + INTAKE_TEMP_QUIET_NS;
		out->extend = true;
	} else if (c->kind == CHANGE_MODIFY) {
		out->hold_until_ns = now_ns + in->open_file_interval_ns;
	} else if (c->kind == CHANGE_CREATE && !c->is_dir && may_be_open) {
		out->hold_until_ns = now_ns + INTAKE_OPEN_NS;
	}
	return 1;
}

size_t intake(const struct intake *in, const struct change *c, int64_t now_ns, bool may_be_open,
	      struct intake_record out[2])
{
	switch (c->kind) {
	case CHANGE_TOUCH:
	case CHANGE_MODIFY:
	case CHANGE_CREATE:
		return take_plain(in, c, now_ns, may_be_open, out);
	case CHANGE_DELETE:
		return take_delete(in, c, out);
	case CHANGE_RENAME:
		return take_rename(in, c, out);
	case CHANGE_RECONCILE:
		return c->path_len > 0 && (filter_excludes_subtree(in->filter, c->path, c->path_len) ||
					   path_has_temp(c->path, c->path_len))
			       ? 0
			       : one(out, c);
	case CHANGE_NONE:
		break;
	}
	return 0;
}
