/* mirror_send.c - content: files, symlinks and nodes arrive under a temporary name and are renamed; see
 * mirror_private.h.
 */
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "transports/mirror_private.h"

/* A file that changes each time it is read goes as it is after so many: like a log that is never closed. */
#define READS_MAX 3u
/* Smaller files are sent whole. */
#define BASE_MIN (128 * 1024)

/* ---- is the content equal? ---- */

static enum fileops_result target_summed(struct entry *e)
{
	if (e->r != FILEOPS_OK || memcmp(e->op.digest, e->digest, sizeof(e->digest)) != 0)
		return send_file(e);
	if (e->m->hot != NULL)
		mirror_hot_note(e->m->hot, e->path, e->len, &e->src, e->opened_ns);
	return entry_same(e);
}

static enum fileops_result source_summed(struct entry *e)
{
	struct mirror *m = e->m;

	if (e->r == FILEOPS_GONE || e->r == FILEOPS_TYPE)
		return entry_finish(e, VERDICT_GONE, NULL);
	if (e->r != FILEOPS_OK)
		return entry_fail(e);
	memcpy(e->digest, e->op.digest, sizeof(e->digest));
	e->op.copied = 0;
	e->step = target_summed;
	return m->target.ops->digest(m->target.ctx, &e->op, e->path, e->len);
}

/* A comparison leaves large files to who has the time. What it says of them is what is said of those that went. */
static bool handed_over(const struct entry *e)
{
	const struct transport_env *env = e->m->env;

	return e->m->reconcile && e->m->twoway == NULL && !e->m->rules.dry_run && env->hand_over != NULL &&
	       env->hand_over(env->ctx, e->path, e->len, &e->src);
}

enum fileops_result send_compare(struct entry *e)
{
	struct mirror *m = e->m;

	if (handed_over(e))
		return entry_finish(e, VERDICT_GONE, NULL);

	e->opened_ns = clock_real_ns();
	e->step = source_summed;
	return m->source.ops->digest(m->source.ctx, &e->op, e->path, e->len);
}

/* ---- the temporary name ---- */

static enum fileops_result cleared_temp(struct entry *e)
{
	/* Whatever came of it: making it anew tells. */
	e->step = e->again;
	return e->again(e);
}

/* `make` did not work: once more, after what is in the way is out of it. */
static enum fileops_result not_made(struct entry *e, entry_step *make)
{
	struct mirror *m = e->m;
	enum fileops_result out;

	if (e->r == FILEOPS_TOOLONG && !e->hashed) {
		e->hashed = true;
		return make(e);
	}
	/* An old part may be anything by now. */
	if ((!e->part || e->cleared || e->r == FILEOPS_GONE) && entry_make_way(e, make, &out))
		return out;
	if ((e->r == FILEOPS_EXISTS || e->r == FILEOPS_FAILED ||
	     (e->part && (e->r == FILEOPS_DENIED || e->r == FILEOPS_TYPE))) &&
	    !e->cleared) {
		e->cleared = true;
		e->again = make;
		e->step = cleared_temp;
		return m->target.ops->unlink(m->target.ctx, &e->op, e->temp, e->temp_len);
	}
	return entry_fail(e);
}

static enum fileops_result no_memory(struct entry *e)
{
	err_set(&e->op.err, ERR_NOMEM, "out of memory");
	return entry_fail(e);
}

/* ---- the end: it takes its place ---- */

static void count_sent(struct entry *e)
{
	struct mirror *m = e->m;

	if (S_ISREG(e->src.st_mode)) {
		m->files++;
		m->bytes += e->store.size;
		m->env->counters->files_sent++;
		m->env->counters->bytes_sent += e->store.size - e->store.offset;
		if (m->hot != NULL)
			mirror_hot_note(m->hot, e->path, e->len, &e->src, e->opened_ns);
	}
	if (e->dir != NULL)
		e->dir->changed = true;
}

/* Something that the look did not see, or that came since. */
static enum fileops_result replaced(struct entry *e);

static enum fileops_result in_the_way(struct entry *e)
{
	if (e->r == FILEOPS_OK && S_ISDIR(e->op.st.st_mode)) {
		e->again = send_replace;
		return entry_clear_target(e);
	}
	return entry_abandon(e, VERDICT_RETRY, NULL);
}

static enum fileops_result replaced(struct entry *e)
{
	struct mirror *m = e->m;

	if (e->r == FILEOPS_OK) {
		count_sent(e);
		return entry_finish(e, VERDICT_DONE, NULL);
	}
	if (!e->looked_again && e->r != FILEOPS_GONE && e->r != FILEOPS_DENIED) {
		e->looked_again = true;
		e->step = in_the_way;
		return m->target.ops->look(m->target.ctx, &e->op, e->path, e->len);
	}
	return entry_abandon(e, VERDICT_RETRY, NULL);
}

static enum fileops_result unmoved(struct entry *e)
{
	struct err why = ERR_INIT;

	if (both_unmoved(e, e->r == FILEOPS_OK ? &e->op.st : NULL)) {
		e->step = replaced;
		return backup_rename(e->m, &e->op, e->temp, e->temp_len, e->path, e->len, false);
	}
	err_set(&why, ERR_AGAIN, "%.*s: it was edited at the target meanwhile", (int)(e->len < 300 ? e->len : 300),
		e->path);
	return entry_abandon(e, VERDICT_RETRY, &why);
}

enum fileops_result send_replace(struct entry *e)
{
	struct mirror *m = e->m;

	if (m->twoway != NULL) {
		e->step = unmoved;
		return m->target.ops->look(m->target.ctx, &e->op, e->path, e->len);
	}
	e->step = replaced;
	return backup_rename(m, &e->op, e->temp, e->temp_len, e->path, e->len, false);
}

/* ---- a file ---- */

static void close_source(struct entry *e)
{
	if (e->from_open)
		e->m->source.ops->drop(e->m->source.ctx, &e->from);
	e->from_open = false;
}

static bool same_version(const struct mirror *m, const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       ((m->source.caps & FILEOPS_CTIME) == 0 ||
		(a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec));
}

static enum fileops_result checked(struct entry *e)
{
	if (e->r != FILEOPS_OK) {
		close_source(e);
		return entry_abandon(e, VERDICT_RETRY, NULL);
	}
	if ((!same_version(e->m, &e->src, &e->op.st) || e->op.copied != (uint64_t)e->src.st_size) &&
	    ++e->tries < READS_MAX) {
		close_source(e);
		e->again = send_file;
		e->step = cleared_temp;
		return e->m->target.ops->unlink(e->m->target.ctx, &e->op, e->temp, e->temp_len);
	}
	if (e->tries == READS_MAX)
		log_info("%.*s changes whenever it is read: it goes as it is", (int)(e->len < 1000 ? e->len : 1000),
			 e->path);
	e->store.size = e->op.copied;
	close_source(e);
	return send_replace(e);
}

static enum fileops_result stored(struct entry *e)
{
	struct mirror *m = e->m;

	if (e->r != FILEOPS_OK) {
		close_source(e);
		if (e->op.err.class == ERR_AGAIN && !e->no_base && e->r == FILEOPS_FAILED) {
			e->no_base = true; /* whole, then */
			e->op.err = (struct err)ERR_INIT;
			e->again = send_file;
			e->step = cleared_temp;
			return m->target.ops->unlink(m->target.ctx, &e->op, e->temp, e->temp_len);
		}
		return entry_abandon(e, VERDICT_RETRY, NULL);
	}
	entry_note_unmet(e);
	e->step = checked;
	return m->source.ops->restat(m->source.ctx, &e->op, &e->from);
}

/* Those of the source were read, if they count. When there are none, too: what is made below a default ACL has got one.
 */
static void want_xattrs(struct entry *e)
{
	if (e->xattrs == NULL && !e->without_acl)
		return;
	e->attrs.mask |= FILEOPS_XATTR;
	e->attrs.xattr_kinds = e->xattrs == NULL ? FILEOPS_XATTR_ACL : e->m->rules.xattr_kinds;
	e->attrs.xattrs = e->xattrs;
	e->attrs.xattrs_len = e->xattrs_len;
}

static enum fileops_result start_store(struct entry *e, uint64_t offset)
{
	struct mirror *m = e->m;
	struct fileops_file to = e->op.file;

	mirror_want_attrs(&m->rules, &e->src, e->dst_there ? &e->dst : NULL, true, &e->attrs);
	want_xattrs(e);
	e->store = (struct fileops_store){ .from = &e->from,
					   .offset = offset,
					   .size = (uint64_t)e->src.st_size,
					   .sparse = m->rules.sparse,
					   .throttle = limit_exists(&m->limit) ? &m->throttle : NULL,
					   .attrs = &e->attrs };
	e->step = stored;
	return m->target.ops->store(m->target.ctx, &e->op, &to, &e->store);
}

static enum fileops_result create_temp(struct entry *e);

static enum fileops_result created(struct entry *e)
{
	struct mirror *m = e->m;
	uint64_t offset = 0;

	if (e->r != FILEOPS_OK)
		return not_made(e, create_temp);
	if (!e->part || e->cleared)
		return start_store(e, 0);
	if (!part_offset(e, &e->op.st, &offset)) {
		m->target.ops->drop(m->target.ctx, &e->op.file);
		e->r = FILEOPS_EXISTS;
		return not_made(e, create_temp);
	}
	if (offset > 0)
		log_info("going on with %.*s at byte %llu of %llu", (int)(e->len < 1000 ? e->len : 1000), e->path,
			 (unsigned long long)offset, (unsigned long long)e->src.st_size);
	return start_store(e, offset);
}

static enum fileops_result create_temp(struct entry *e)
{
	struct mirror *m = e->m;
	enum fileops_result out;

	e->part = part_is_worth_it(e);
	if (e->part ? !part_temp(e) : !entry_temp(e, TEMP_NEW, 0))
		return no_memory(e);
	if (e->part && part_make_way(e, create_temp, &out))
		return out;
	e->op.copied = 0;
	e->step = created;
	return m->target.ops->create(m->target.ctx, &e->op, e->temp, e->temp_len, e->part && !e->cleared);
}

static bool take_xattrs(struct entry *e)
{
	if (e->r != FILEOPS_OK)
		return false;
	entry_take_bytes(e, &e->xattrs, &e->xattrs_len);
	e->without_acl = (e->m->rules.xattr_kinds & FILEOPS_XATTR_ACL) != 0;
	return true;
}

static enum fileops_result xattrs_read(struct entry *e)
{
	return take_xattrs(e) ? create_temp(e) : entry_finish(e, VERDICT_GONE, NULL);
}

static bool xattrs_count(const struct mirror *m)
{
	return m->rules.xattr_kinds != 0 && (m->rules.caps & FILEOPS_XATTRS) != 0 &&
	       (m->rules.unmet & FILEOPS_XATTR) == 0;
}

static enum fileops_result opened(struct entry *e)
{
	struct mirror *m = e->m;

	/* Gone, or something else by now: the event that says so is on its way. */
	if (e->r == FILEOPS_GONE || e->r == FILEOPS_TYPE)
		return entry_finish(e, VERDICT_GONE, NULL);
	if (e->r != FILEOPS_OK)
		return entry_fail(e);
	e->from = e->op.file;
	e->from_open = true;
	e->src = e->op.st;
	if (!xattrs_count(m))
		return create_temp(e);
	e->step = xattrs_read;
	return m->source.ops->xattrs(m->source.ctx, &e->op, e->path, e->len, m->rules.xattr_kinds);
}

static void close_base(struct entry *e)
{
	if (e->base_open)
		e->m->target.ops->drop(e->m->target.ctx, &e->base);
	e->base_open = false;
}

static enum fileops_result open_source(struct entry *e)
{
	struct mirror *m = e->m;
	enum fileops_result r;

	e->step = opened;
	r = m->source.ops->open(m->source.ctx, &e->op, e->path, e->len, e->base_open ? &e->base : NULL);
	close_base(e); /* who needs it has it by now */
	return r;
}

static enum fileops_result base_opened(struct entry *e)
{
	if (e->r == FILEOPS_OK) {
		e->base = e->op.file;
		e->base_open = true;
	}
	return open_source(e);
}

/* A difference to what the target has is worth asking for; not again when something came of it that was not whole. */
static bool has_base(const struct entry *e)
{
	return (e->m->source.caps & FILEOPS_BASE) != 0 && !e->no_base && !e->harder && e->dst_there &&
	       S_ISREG(e->dst.st_mode) && e->dst.st_size >= BASE_MIN && e->src.st_size >= BASE_MIN;
}

enum fileops_result send_file(struct entry *e)
{
	struct mirror *m = e->m;

	if (m->rules.dry_run)
		return entry_finish(e, VERDICT_DONE, NULL);
	if (handed_over(e))
		return entry_finish(e, VERDICT_GONE, NULL);
	e->cleared = false;
	e->opened_ns = clock_real_ns();
	if (!has_base(e))
		return open_source(e);
	e->step = base_opened;
	return m->target.ops->open(m->target.ctx, &e->op, e->path, e->len, NULL);
}

/* ---- symlinks and nodes ---- */

static enum fileops_result attrs_on_temp(struct entry *e)
{
	if (e->r != FILEOPS_OK)
		return entry_abandon(e, VERDICT_RETRY, NULL);
	entry_note_unmet(e);
	return send_replace(e);
}

static enum fileops_result set_temp_attrs(struct entry *e)
{
	struct mirror *m = e->m;

	mirror_want_attrs(&m->rules, &e->src, e->dst_there ? &e->dst : NULL, true, &e->attrs);
	want_xattrs(e);
	if (e->attrs.mask == 0)
		return send_replace(e);
	e->step = attrs_on_temp;
	return m->target.ops->attrs(m->target.ctx, &e->op, e->temp, e->temp_len, &e->attrs);
}

static enum fileops_result make_link(struct entry *e);

static enum fileops_result link_made(struct entry *e)
{
	return e->r == FILEOPS_OK ? set_temp_attrs(e) : not_made(e, make_link);
}

static enum fileops_result make_link(struct entry *e)
{
	struct mirror *m = e->m;

	if (m->rules.dry_run)
		return entry_finish(e, VERDICT_DONE, NULL);
	if (!entry_temp(e, TEMP_NEW, 0))
		return no_memory(e);
	e->step = link_made;
	return m->target.ops->symlink(m->target.ctx, &e->op, e->temp, e->temp_len, e->text, e->text_len);
}

static enum fileops_result target_text(struct entry *e)
{
	bool same =
		e->r == FILEOPS_OK && e->op.n_bytes == e->text_len && memcmp(e->op.bytes, e->text, e->text_len) == 0;

	if (e->r == FILEOPS_OK)
		free(e->op.bytes);
	e->op.bytes = NULL;
	return same ? entry_same(e) : make_link(e);
}

static enum fileops_result source_text(struct entry *e)
{
	struct mirror *m = e->m;

	if (e->r == FILEOPS_GONE || e->r == FILEOPS_TYPE)
		return entry_finish(e, VERDICT_GONE, NULL);
	if (e->r != FILEOPS_OK)
		return entry_fail(e);
	entry_take_bytes(e, &e->text, &e->text_len);
	if (!e->dst_there || !S_ISLNK(e->dst.st_mode))
		return make_link(e);
	e->step = target_text;
	return m->target.ops->readlink(m->target.ctx, &e->op, e->path, e->len);
}

enum fileops_result send_symlink(struct entry *e)
{
	struct mirror *m = e->m;

	e->step = source_text;
	return m->source.ops->readlink(m->source.ctx, &e->op, e->path, e->len);
}

static enum fileops_result make_node(struct entry *e);

static enum fileops_result node_made(struct entry *e)
{
	unsigned bit = 1u << ((e->src.st_mode >> 12) & 15);

	if (e->r == FILEOPS_OK)
		return set_temp_attrs(e);
	/* Devices are for root. Who is not gets the rest. */
	if (e->r == FILEOPS_UNABLE ||
	    (e->r == FILEOPS_DENIED && (S_ISBLK(e->src.st_mode) || S_ISCHR(e->src.st_mode)))) {
		if ((e->m->skipped_kinds & bit) == 0)
			log_normal("the target can't hold %.*s: %s; nothing of that kind is mirrored",
				   (int)(e->len < 200 ? e->len : 200), e->path, e->op.err.text);
		e->m->skipped_kinds |= bit;
		return entry_finish(e, VERDICT_DONE, NULL);
	}
	return not_made(e, make_node);
}

static enum fileops_result make_node(struct entry *e)
{
	struct mirror *m = e->m;

	if (m->rules.dry_run)
		return entry_finish(e, VERDICT_DONE, NULL);
	if (!entry_temp(e, TEMP_NEW, 0))
		return no_memory(e);
	e->step = node_made;
	return m->target.ops->node(m->target.ctx, &e->op, e->temp, e->temp_len, &e->src);
}

static enum fileops_result node_xattrs_read(struct entry *e)
{
	return take_xattrs(e) ? make_node(e) : entry_finish(e, VERDICT_GONE, NULL);
}

enum fileops_result send_node(struct entry *e)
{
	struct mirror *m = e->m;
	bool device = S_ISBLK(e->src.st_mode) || S_ISCHR(e->src.st_mode);

	if (e->dst_there && (e->dst.st_mode & S_IFMT) == (e->src.st_mode & S_IFMT) &&
	    (!device || e->dst.st_rdev == e->src.st_rdev))
		return entry_same(e);
	if (!xattrs_count(m))
		return make_node(e);
	e->step = node_xattrs_read;
	return m->source.ops->xattrs(m->source.ctx, &e->op, e->path, e->len, m->rules.xattr_kinds);
}
