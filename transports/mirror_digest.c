/* mirror_digest.c - whether a directory's listing need be seen at all, if the source has the same; see
 * mirror_private.h. */
#include <stdlib.h>
#include <string.h>

#include "transports/mirror_private.h"

/* Were it on the source just so, nothing would be done about it. */
static bool is_settled(struct dir *d, const struct fileops_entry *e)
{
	struct mirror *m = d->m;
	struct stat source = e->st;
	const struct mirror_look look = { .src = &source, .dst = &e->st, .now_ns = m->now_ns };
	const char *path;
	size_t len;

	source.st_ctim = (struct timespec){ 0 }; /* not told: what is in doubt by the others is looked at */
	if (path_is_temp(e->name, e->len) || !mirror_settled(&m->rules, &look))
		return false;
	if (m->hot == NULL && filter_count(m->env->opt->filter) == 0)
		return true;
	path = dir_path_of(d, e->name, e->len, &len);
	if (path == NULL || !dir_keeps(m->env->opt->filter, path, len, len - e->len, S_ISDIR(e->st.st_mode)))
		return false;
	return m->hot == NULL || !S_ISREG(e->st.st_mode) || mirror_hot_judge(m->hot, path, len, &look) == MIRROR_SAME;
}

static bool add_link(struct dir *d, const struct fileops_entry *e)
{
	struct mirror *m = d->m;
	struct fileop op = { 0 };
	size_t len;
	const char *path = dir_path_of(d, e->name, e->len, &len);

	/* Only of an end that answers at once: others have no listing at hand, either. */
	if (path == NULL || m->target.ops->readlink(m->target.ctx, &op, path, len) != FILEOPS_OK)
		return false;
	mirror_alike_add(m->same, e, op.bytes, op.n_bytes);
	free(op.bytes);
	return true;
}

bool dir_digest(struct dir *d, const struct listing *target, unsigned *fields, unsigned char *out)
{
	struct mirror *m = d->m;

	if ((m->source.caps & FILEOPS_SAME) == 0 || m->twoway != NULL || !mirror_alike_fields(&m->rules, fields))
		return false;
	if (m->same == NULL)
		m->same = mirror_alike_new();
	if (m->same == NULL)
		return false;
	mirror_alike_begin(m->same, *fields);
	for (size_t i = 0; i < target->n; i++) {
		const struct fileops_entry *e = &target->v[i];

		if (!is_settled(d, e))
			return false;
		if (!S_ISLNK(e->st.st_mode))
			mirror_alike_add(m->same, e, NULL, 0);
		else if (!add_link(d, e))
			return false;
	}
	mirror_alike_end(m->same, out);
	return true;
}
