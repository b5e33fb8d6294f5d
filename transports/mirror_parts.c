/*
 * mirror_parts.c - large files that a cut connection left half-way are gone on with; see mirror_private.h.
 *
 * Such a file has a temporary name with its source's version in it (TEMP_PART): one that has changed never meets what
 * was left of it before. Of a directory in which one is about to be made, those of other versions are removed first, so
 * that no more than one of a file is ever there; a comparison removes what is not due any more.
 */
#include <stdlib.h>
#include <string.h>

#include "transports/mirror_private.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Smaller files are sent again: as fast as looking at what there is of them. */
#define PART_MIN (UINT64_C(4) << 20)
/* They are gone on with at a multiple of it: of a block's size, as differences are made (tcp_frames.h). */
#define PART_STEP (UINT64_C(1) << 20)

/* Other parts in the directory of one that is about to be made. */
struct part_sweep {
	struct listing list;
	size_t at;
	size_t len;
	char path[]; /* of a part, or of the name that it stands for */
};

/* What every look and listing of that source tells alike. Where the whole is checked less has to do: not all of a
 * sender's listings have ctimes. */
static uint64_t version_of(const struct mirror *m, const struct stat *st)
{
	int64_t facts[6] = { st->st_size, st->st_mtim.tv_sec, st->st_mtim.tv_nsec };

	if ((m->target.caps & FILEOPS_CHECKED) != 0)
		return XXH3_64bits(facts, sizeof(facts));
	if ((m->source.caps & FILEOPS_CTIME) != 0) {
		facts[3] = st->st_ctim.tv_sec;
		facts[4] = st->st_ctim.tv_nsec;
	}
	if ((m->source.caps & FILEOPS_INODES) != 0)
		facts[5] = (int64_t)st->st_ino;
	return XXH3_64bits(facts, sizeof(facts));
}

static bool large_enough(const struct mirror *m, const struct stat *st)
{
	return S_ISREG(st->st_mode) && (uint64_t)st->st_size >= PART_MIN + m->target.unsure;
}

/* Where writes were under way cannot be told in a file with holes. */
static bool has_holes(const struct mirror *m, const struct stat *st)
{
	return m->rules.sparse && m->target.unsure > 0 && (uint64_t)st->st_blocks * 512 < (uint64_t)st->st_size;
}

bool part_is_worth_it(const struct entry *e)
{
	const struct mirror *m = e->m;

	return (m->target.caps & FILEOPS_RESUME) != 0 && e->tries == 0 && large_enough(m, &e->src) &&
	       !has_holes(m, &e->src);
}

bool part_is_worth_keeping(const struct entry *e)
{
	return e->part && e->op.copied >= PART_MIN;
}

bool part_temp(struct entry *e)
{
	return entry_temp(e, TEMP_PART, version_of(e->m, &e->src));
}

bool part_offset(const struct entry *e, const struct stat *found, uint64_t *out)
{
	uint64_t size = (uint64_t)found->st_size, unsure = e->m->target.unsure;

	*out = size <= unsure ? 0 : (size - unsure) / PART_STEP * PART_STEP;
	return (found->st_mode == 0 || S_ISREG(found->st_mode)) && found->st_size <= e->src.st_size;
}

/* ---- whose is it? ---- */

/* Whether that is the name of what was left of this version of a file. */
static bool is_part_of(const struct mirror *m, const struct fileops_entry *part, const char *name, size_t len,
		       const struct stat *st, bool hashed)
{
	char want[NAME_BYTES_MAX + 1];

	return large_enough(m, st) &&
	       temp_name(want, name, len, TEMP_PART, m->tag, version_of(m, st), hashed) == part->len &&
	       memcmp(want, part->name, part->len) == 0;
}

static const struct fileops_entry *find_name(const struct listing *l, const char *name, size_t len)
{
	size_t lo = 0, hi = l->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int order = listing_compare(l->v[mid].name, l->v[mid].len, name, len);

		if (order == 0)
			return &l->v[mid];
		if (order < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

/* The file of the source that it is a part of; NULL: there is none (any more). */
static const struct fileops_entry *file_of(const struct dir *d, const struct fileops_entry *part, const char *base,
					   size_t base_len)
{
	const struct fileops_entry *found = NULL;

	if (base_len > 0) {
		found = find_name(&d->from, base, base_len);
		return found != NULL && is_part_of(d->m, part, base, base_len, &found->st, false) ? found : NULL;
	}
	for (size_t i = 0; i < d->from.n && found == NULL; i++)
		if (is_part_of(d->m, part, d->from.v[i].name, d->from.v[i].len, &d->from.v[i].st, true))
			found = &d->from.v[i];
	return found;
}

bool part_is_due(struct dir *d, const struct fileops_entry *part, const char *base, size_t base_len)
{
	struct mirror *m = d->m;
	const struct fileops_entry *src, *dst;
	struct mirror_look look = { .now_ns = m->now_ns };
	enum mirror_same same;
	const char *path;
	size_t len;

	if ((m->target.caps & FILEOPS_RESUME) == 0 || !S_ISREG(part->st.st_mode))
		return false;
	src = file_of(d, part, base, base_len);
	if (src == NULL)
		return false;
	dst = find_name(&d->to, src->name, src->len);
	look.src = &src->st;
	look.dst = dst != NULL && S_ISREG(dst->st.st_mode) ? &dst->st : NULL;
	path = dir_path_of(d, src->name, src->len, &len);
	same = path == NULL ? MIRROR_SAME : mirror_judge(m, path, len, &look);
	return same == MIRROR_DIFFERS || same == MIRROR_DOUBT;
}

/* ---- others of the directory ---- */

static uint64_t mark_of(const char *dir, size_t len)
{
	return XXH3_64bits(dir, len) | 1;
}

static bool was_swept(const struct mirror *m, uint64_t mark)
{
	for (size_t i = 0; i < PARTS_SWEPT; i++)
		if (m->swept[i] == mark)
			return true;
	return false;
}

void parts_swept(struct mirror *m, const char *dir, size_t len)
{
	uint64_t mark = mark_of(dir, len);

	if ((m->target.caps & FILEOPS_RESUME) != 0 && !was_swept(m, mark))
		m->swept[m->next_swept++ % PARTS_SWEPT] = mark;
}

void part_free_sweep(struct entry *e)
{
	if (e->sweep != NULL)
		listing_free(&e->sweep->list);
	free(e->sweep);
	e->sweep = NULL;
}

static bool keep_parts(void *ctx, const char *name, size_t len, bool is_dir)
{
	const struct entry *e = ctx;
	enum temp_kind kind;
	uint32_t tag;
	size_t base, base_len;

	return !is_dir && temp_parse(name, len, &kind, &tag, &base, &base_len) && kind == TEMP_PART && tag == e->m->tag;
}

static void set_name(struct part_sweep *s, size_t above, const char *name, size_t len)
{
	memcpy(s->path + above, name, len);
	s->len = above + len;
	s->path[s->len] = '\0';
}

/* Another task is at it, or it is ours. */
static bool in_use(const struct entry *e, const struct part_sweep *s)
{
	if (s->len == e->temp_len && memcmp(s->path, e->temp, s->len) == 0)
		return true;
	for (const struct entry *o = e->m->active; o != NULL; o = o->next)
		if (o->part && o->temp_len == s->len && memcmp(o->temp, s->path, s->len) == 0)
			return true;
	return false;
}

static enum fileops_result next_part(struct entry *e);

static enum fileops_result part_removed(struct entry *e)
{
	return next_part(e); /* whatever came of it */
}

static enum fileops_result remove_part(struct entry *e, const struct fileops_entry *part)
{
	struct part_sweep *s = e->sweep;

	set_name(s, path_base(e->path, e->len), part->name, part->len);
	e->step = part_removed;
	return e->m->target.ops->unlink(e->m->target.ctx, &e->op, s->path, s->len);
}

/* The file that a part is of, as it is now. */
static enum fileops_result file_looked(struct entry *e)
{
	struct part_sweep *s = e->sweep;
	const struct fileops_entry *part = &s->list.v[s->at - 1];
	size_t above = path_base(e->path, e->len);

	if (e->r != FILEOPS_GONE && e->r != FILEOPS_OK)
		return next_part(e);
	if (e->r == FILEOPS_OK && is_part_of(e->m, part, s->path + above, s->len - above, &e->op.st, false))
		return next_part(e);
	return remove_part(e, part);
}

static enum fileops_result next_part(struct entry *e)
{
	struct mirror *m = e->m;
	struct part_sweep *s = e->sweep;
	size_t above = path_base(e->path, e->len), base, base_len;
	enum temp_kind kind;
	uint32_t tag;

	while (s->at < s->list.n) {
		const struct fileops_entry *part = &s->list.v[s->at++];

		set_name(s, above, part->name, part->len);
		/* What a hash stands for is found out by a comparison. */
		if (in_use(e, s) || !temp_parse(part->name, part->len, &kind, &tag, &base, &base_len) || base_len == 0)
			continue;
		if (base_len == e->len - above && memcmp(part->name + base, e->path + above, base_len) == 0)
			return remove_part(e, part);
		set_name(s, above, part->name + base, base_len);
		e->step = file_looked;
		return m->source.ops->look(m->source.ctx, &e->op, s->path, s->len);
	}
	part_free_sweep(e);
	e->step = e->again;
	return e->again(e);
}

static enum fileops_result parts_listed(struct entry *e)
{
	if (e->r == FILEOPS_OK)
		e->sweep->list = e->op.list;
	listing_init(&e->op.list);
	parts_swept(e->m, e->path, path_parent_len(e->path, e->len));
	return next_part(e);
}

bool part_make_way(struct entry *e, entry_step *again, enum fileops_result *out)
{
	struct mirror *m = e->m;
	size_t above = path_parent_len(e->path, e->len);
	const struct fileops_wish wish = { keep_parts, e };

	if (was_swept(m, mark_of(e->path, above)))
		return false;
	e->sweep = malloc(sizeof(*e->sweep) + e->len + NAME_BYTES_MAX + 2);
	if (e->sweep == NULL)
		return false;
	e->sweep->at = 0;
	listing_init(&e->sweep->list);
	memcpy(e->sweep->path, e->path, e->len);
	e->again = again;
	e->step = parts_listed;
	listing_init(&e->op.list);
	*out = m->target.ops->list(m->target.ctx, &e->op, e->path, above, &wish);
	return true;
}
