/* tcp_frames_read.c - frames of the tcp transport, read: everything in them is a stranger's; see tcp_frames.h. */
#include <string.h>

#include "core/path.h"
#include "transports/fileops.h"
#include "transports/tcp_frames.h"
#include "transports/tcp_frames_bits.h"

#define TYPE_BITS 0170000u
#define LINK_TEXT_MAX 65536u

static bool finished(const struct reader *r)
{
	return !r->failed && r->left == 0;
}

bool tcp_all_read(const struct reader *r)
{
	return finished(r);
}

static uint16_t get_u16(struct reader *r)
{
	unsigned low = reader_u8(r);

	return (uint16_t)(low | (unsigned)reader_u8(r) << 8);
}

/* A number with an upper limit. */
static unsigned get_enum(struct reader *r, unsigned min, unsigned max)
{
	unsigned v = reader_u8(r);

	if (v < min || v > max)
		r->failed = true;
	return v;
}

static bool get_bool(struct reader *r)
{
	return get_enum(r, 0, 1) != 0;
}

static struct tcp_bytes get_bytes(struct reader *r, size_t max)
{
	struct tcp_bytes b = { .len = reader_u32(r) };

	if (b.len > max)
		r->failed = true;
	b.p = reader_bytes(r, b.len);
	if (b.p == NULL) {
		r->failed = true;
		b = (struct tcp_bytes){ "", 0 };
	}
	return b;
}

/* Printable words: they reach logs and paths of state files. */
static struct tcp_bytes get_text(struct reader *r)
{
	struct tcp_bytes b = get_bytes(r, TCP_TEXT_MAX);

	if (memchr(b.p, '\0', b.len) != NULL)
		r->failed = true;
	return b;
}

static struct tcp_bytes get_path(struct reader *r)
{
	struct tcp_bytes b = get_bytes(r, PATH_BYTES_MAX);

	if (!path_valid(b.p, b.len))
		r->failed = true;
	return b;
}

static void get_err(struct reader *r, struct err *e)
{
	struct tcp_bytes text;

	*e = (struct err)ERR_INIT;
	e->class = (enum err_class)get_enum(r, ERR_NONE, ERR_CLASSES - 1);
	if (r->failed || e->class == ERR_NONE)
		return;
	e->code = (int)reader_u32(r);
	text = get_bytes(r, sizeof(e->text) - 1);
	memcpy(e->text, text.p, text.len);
	e->text[text.len] = '\0';
}

static bool type_fits(enum look look, unsigned type)
{
	switch (look) {
	case LOOK_DIR:
		return type == S_IFDIR;
	case LOOK_FILE:
		return type == S_IFREG;
	case LOOK_SYMLINK:
		return type == S_IFLNK;
	case LOOK_SPECIAL:
		return type == S_IFIFO || type == S_IFSOCK || type == S_IFCHR || type == S_IFBLK;
	case LOOK_NONE:
	case LOOK_ABSENT:
		break;
	}
	return false;
}

static void get_time(struct reader *r, struct timespec *t)
{
	t->tv_sec = (time_t)reader_u64(r);
	t->tv_nsec = (long)reader_u32(r);
	if (t->tv_nsec >= 1000000000)
		r->failed = true;
}

static void get_state(struct reader *r, struct tcp_state *s)
{
	struct stat *st = &s->st;
	unsigned fields;
	uint64_t size;

	memset(s, 0, sizeof(*s));
	s->look = (enum look)get_enum(r, LOOK_ABSENT, LOOK_SPECIAL);
	if (r->failed || s->look == LOOK_ABSENT)
		return;
	fields = get_enum(r, 0, FIELD_CTIME | FIELD_LINKS | FIELD_RDEV);
	st->st_mode = reader_u32(r);
	st->st_uid = reader_u32(r);
	st->st_gid = reader_u32(r);
	size = reader_u64(r);
	get_time(r, &st->st_mtim);
	if ((fields & FIELD_CTIME) != 0)
		get_time(r, &st->st_ctim);
	st->st_nlink = 1;
	if ((fields & FIELD_LINKS) != 0) {
		st->st_nlink = reader_u32(r);
		st->st_dev = reader_u64(r);
		st->st_ino = reader_u64(r);
	}
	if ((fields & FIELD_RDEV) != 0)
		st->st_rdev = reader_u64(r);
	if (size > INT64_MAX || (st->st_mode & ~(TYPE_BITS | 07777u)) != 0 ||
	    !type_fits(s->look, st->st_mode & TYPE_BITS))
		r->failed = true;
	st->st_size = (off_t)size;
}

static void get_twoway(struct reader *r, struct twoway_state *s)
{
	uint64_t size;

	memset(s, 0, sizeof(*s));
	s->look = (enum look)get_enum(r, LOOK_ABSENT, LOOK_SPECIAL);
	size = reader_u64(r);
	if (size > INT64_MAX)
		r->failed = true;
	s->size = (int64_t)size;
	s->mtime_ns = (int64_t)reader_u64(r);
	s->attr = reader_u64(r);
}

static void get_raw(struct reader *r, unsigned char *out, size_t n)
{
	const void *p = reader_bytes(r, n);

	if (p != NULL)
		memcpy(out, p, n);
	else
		memset(out, 0, n);
}

static uint8_t get_result(struct reader *r)
{
	uint8_t v = reader_u8(r);

	if (v >= FILEOPS_RESULTS || v == FILEOPS_PENDING || v == FILEOPS_DOWN)
		r->failed = true;
	return v;
}

bool tcp_get_hello(const char *p, size_t len, struct tcp_hello *out)
{
	struct reader r;

	memset(out, 0, sizeof(*out));
	reader_init(&r, p, len);
	if (reader_u64(&r) != TCP_MAGIC)
		return false;
	out->version_min = get_u16(&r);
	out->version_max = get_u16(&r);
	out->features = reader_u32(&r);
	get_raw(&r, out->host_id, sizeof(out->host_id));
	out->software = get_text(&r);
	out->module = get_text(&r);
	out->sync = get_text(&r);
	out->options = get_bytes(&r, len);
	return finished(&r) && out->version_min <= out->version_max;
}

bool tcp_get_welcome(const char *p, size_t len, struct tcp_welcome *out)
{
	struct reader r;

	memset(out, 0, sizeof(*out));
	reader_init(&r, p, len);
	out->version = get_u16(&r);
	out->features = reader_u32(&r);
	get_raw(&r, out->host_id, sizeof(out->host_id));
	out->software = get_text(&r);
	out->caps = reader_u32(&r);
	out->credit = reader_u64(&r);
	out->max_changes = reader_u32(&r);
	out->dev = reader_u64(&r);
	out->ino = reader_u64(&r);
	if ((out->features & TCP_FEATURE_STATE) != 0) {
		out->state.clock_ns = (int64_t)reader_u64(&r);
		out->state.bytes = reader_u64(&r);
		out->state.bytes_of = reader_u64(&r);
		out->state.inodes = reader_u64(&r);
		out->state.inodes_of = reader_u64(&r);
	}
	if ((out->features & TCP_FEATURE_BOOT) != 0)
		get_raw(&r, out->boot, sizeof(out->boot));
	return finished(&r) && out->max_changes > 0;
}

bool tcp_get_err(const char *p, size_t len, struct err *out)
{
	struct reader r;

	reader_init(&r, p, len);
	get_err(&r, out);
	return finished(&r);
}

bool tcp_get_work(const char *p, size_t len, struct tcp_work *out)
{
	struct reader r;
	unsigned flags;

	memset(out, 0, sizeof(*out));
	reader_init(&r, p, len);
	out->id = reader_u64(&r);
	out->first = reader_u64(&r);
	out->kind = (enum tcp_kind)get_enum(&r, TCP_APPLY, TCP_RECONCILE);
	flags = get_enum(&r, 0, WORK_DELETES | WORK_CONTINUES | WORK_UNGUARDED);
	out->may_delete = (flags & WORK_DELETES) != 0;
	out->continues = (flags & WORK_CONTINUES) != 0;
	out->unguarded = (flags & WORK_UNGUARDED) != 0;
	out->max_delete = (int64_t)reader_u64(&r);
	out->n_renames = reader_u32(&r);
	out->n_items = reader_u32(&r);
	out->n_keeps = reader_u32(&r);
	return finished(&r) && out->max_delete >= -1 && (out->kind == TCP_APPLY || out->n_renames == 0);
}

bool tcp_get_keep(const char *p, size_t len, struct tcp_keep *out)
{
	struct reader r;

	reader_init(&r, p, len);
	out->path = get_path(&r);
	out->why = get_text(&r);
	return finished(&r);
}

bool tcp_get_name(const char *p, size_t len, struct tcp_name *out)
{
	struct reader r;

	reader_init(&r, p, len);
	out->kind = (enum owner_kind)get_enum(&r, OWNER_USER, OWNER_GROUP);
	out->id = reader_u32(&r);
	out->name = get_bytes(&r, OWNER_NAME_MAX);
	return finished(&r) && out->id != 0 && owner_name_valid(out->name.p, out->name.len);
}

bool tcp_get_rename(const char *p, size_t len, struct batch_rename *out)
{
	struct tcp_bytes from, to;
	struct reader r;

	reader_init(&r, p, len);
	from = get_path(&r);
	to = get_path(&r);
	*out = (struct batch_rename){ from.p, from.len, to.p, to.len, get_bool(&r) };
	return finished(&r) && from.len > 0 && to.len > 0;
}

bool tcp_get_item(const char *p, size_t len, struct tcp_item *out)
{
	struct reader r;
	unsigned parts;

	memset(out, 0, sizeof(*out));
	reader_init(&r, p, len);
	out->path = get_path(&r);
	out->flags = reader_u32(&r);
	out->tries = reader_u32(&r);
	get_state(&r, &out->state);
	parts = get_enum(&r, 0, PART_ARCHIVE | PART_TEXT | PART_CONTENT);
	out->has_archive = (parts & PART_ARCHIVE) != 0;
	out->has_text = (parts & PART_TEXT) != 0;
	out->has_content = (parts & PART_CONTENT) != 0;
	out->archive.look = LOOK_ABSENT;
	if (out->has_archive)
		get_twoway(&r, &out->archive);
	if (out->has_text)
		out->text = get_bytes(&r, LINK_TEXT_MAX);
	if (out->has_content) {
		get_raw(&r, out->digest, sizeof(out->digest));
		out->content = get_bytes(&r, TCP_INLINE_MAX);
	}
	return finished(&r) && (!out->has_text || out->state.look == LOOK_SYMLINK) &&
	       (!out->has_content || out->state.look == LOOK_FILE);
}

bool tcp_get_ack(const char *p, size_t len, struct reader *r, uint64_t *upto, uint32_t *count)
{
	reader_init(r, p, len);
	*upto = reader_u64(r);
	*count = reader_u32(r);
	return !r->failed;
}

bool tcp_next_verdict(struct reader *r, struct tcp_verdict *out)
{
	out->seq = reader_u64(r);
	out->v = (enum verdict)get_enum(r, VERDICT_NONE + 1, VERDICT_OF_TRANSPORT_MAX);
	get_err(r, &out->why);
	return !r->failed;
}

bool tcp_get_found(const char *p, size_t len, struct tcp_bytes *path, enum verdict *v, struct err *why)
{
	struct reader r;

	reader_init(&r, p, len);
	*path = get_path(&r);
	*v = (enum verdict)get_enum(&r, VERDICT_NONE + 1, VERDICT_OF_TRANSPORT_MAX);
	get_err(&r, why);
	return finished(&r);
}

bool tcp_get_progress(const char *p, size_t len, struct tcp_progress *out)
{
	struct reader r;

	reader_init(&r, p, len);
	out->phase = get_text(&r);
	out->files = reader_u64(&r);
	out->files_total = reader_u64(&r);
	out->bytes = reader_u64(&r);
	out->bytes_total = reader_u64(&r);
	out->path = get_path(&r);
	return finished(&r);
}

bool tcp_get_done(const char *p, size_t len, struct tcp_done *out)
{
	struct reader r;

	reader_init(&r, p, len);
	out->work = reader_u64(&r);
	out->files = reader_u64(&r);
	out->deletions = reader_u64(&r);
	out->renames = reader_u64(&r);
	out->entries = reader_u64(&r);
	return finished(&r);
}

bool tcp_get_notes(const char *p, size_t len, struct reader *r, uint32_t *count)
{
	reader_init(r, p, len);
	*count = reader_u32(r);
	return !r->failed;
}

bool tcp_next_note(struct reader *r, struct tcp_note *out)
{
	out->path = get_path(r);
	get_twoway(r, &out->state);
	return !r->failed;
}

bool tcp_get_moved(const char *p, size_t len, struct tcp_bytes *from, struct tcp_bytes *to)
{
	struct reader r;

	reader_init(&r, p, len);
	*from = get_path(&r);
	*to = get_path(&r);
	return finished(&r) && from->len > 0 && to->len > 0;
}

bool tcp_get_conflict(const char *p, size_t len, struct tcp_conflict *out)
{
	struct reader r;

	reader_init(&r, p, len);
	out->path = get_path(&r);
	get_twoway(&r, &out->source);
	get_twoway(&r, &out->target);
	out->source_won = get_bool(&r);
	return finished(&r);
}

bool tcp_get_request(enum tcp_frame type, const char *p, size_t len, struct tcp_request *out)
{
	struct reader r;

	memset(out, 0, sizeof(*out));
	reader_init(&r, p, len);
	out->id = reader_u32(&r);
	out->path = get_path(&r);
	if (type == TCP_XATTRS)
		out->kinds = reader_u32(&r);
	if (type == TCP_OPEN) {
		out->old_size = reader_u64(&r);
		get_state(&r, &out->old);
	}
	return finished(&r);
}

bool tcp_get_unless(const char *p, size_t len, struct reader *r, uint32_t *fields)
{
	reader_init(r, p, len);
	*fields = reader_u32(r);
	return !r->failed && r->left > 0;
}

bool tcp_next_unless(struct reader *r, struct tcp_unless *out)
{
	out->id = reader_u32(r);
	out->path = get_path(r);
	get_raw(r, out->digest, sizeof(out->digest));
	return !r->failed;
}

bool tcp_get_answer(enum tcp_frame asked, const char *p, size_t len, struct tcp_answer *out)
{
	struct reader r;

	memset(out, 0, sizeof(*out));
	reader_init(&r, p, len);
	out->id = reader_u32(&r);
	out->result = get_result(&r);
	get_err(&r, &out->why);
	if (!r.failed && out->result == FILEOPS_OK) {
		if (asked == TCP_LOOK || asked == TCP_RESTAT)
			get_state(&r, &out->state);
		if (asked == TCP_READLINK || asked == TCP_XATTRS)
			out->bytes = get_bytes(&r, len);
		if (asked == TCP_AGREED)
			get_twoway(&r, &out->agreed);
		if (asked == TCP_DIGEST_OF) {
			get_raw(&r, out->digest, sizeof(out->digest));
			out->size = reader_u64(&r);
		}
	}
	return finished(&r);
}

bool tcp_get_id(const char *p, size_t len, uint32_t *id)
{
	struct reader r;

	reader_init(&r, p, len);
	*id = reader_u32(&r);
	return !r.failed;
}

bool tcp_get_listing(const char *p, size_t len, struct reader *r, struct tcp_listing *out)
{
	memset(out, 0, sizeof(*out));
	reader_init(r, p, len);
	out->id = reader_u32(r);
	out->result = get_result(r);
	get_err(r, &out->why);
	out->last = get_bool(r);
	out->count = reader_u32(r);
	return !r->failed;
}

bool tcp_next_entry(struct reader *r, struct tcp_list_entry *out)
{
	unsigned parts;

	memset(out, 0, sizeof(*out));
	out->name = get_bytes(r, NAME_BYTES_MAX);
	if (!path_name_valid(out->name.p, out->name.len))
		r->failed = true;
	get_state(r, &out->state);
	parts = get_enum(r, 0, PART_ARCHIVE | PART_UNKNOWN);
	out->has_archive = (parts & PART_ARCHIVE) != 0;
	out->unknown = (parts & PART_UNKNOWN) != 0;
	if (out->unknown && out->state.look != LOOK_ABSENT)
		r->failed = true;
	out->archive.look = LOOK_ABSENT;
	if (out->has_archive)
		get_twoway(r, &out->archive);
	return !r->failed;
}

bool tcp_block_valid(uint32_t block)
{
	return block >= TCP_BLOCK_MIN && block <= TCP_BLOCK_MAX && (block & (block - 1)) == 0;
}

bool tcp_get_opened(const char *p, size_t len, struct tcp_opened *out)
{
	struct reader r;

	memset(out, 0, sizeof(*out));
	reader_init(&r, p, len);
	out->id = reader_u32(&r);
	out->result = get_result(&r);
	get_err(&r, &out->why);
	if (!r.failed && out->result == FILEOPS_OK) {
		out->file = reader_u32(&r);
		get_state(&r, &out->state);
		out->wants_hashes = get_bool(&r);
		out->block = reader_u32(&r);
		r.failed = r.failed || (out->wants_hashes && !tcp_block_valid(out->block));
	}
	return finished(&r);
}

/* Offsets and lengths of files are below 2^63, and so are their sums. */
static bool span_fits(uint64_t offset, uint64_t len)
{
	return offset <= INT64_MAX && len <= INT64_MAX - offset;
}

bool tcp_get_span(enum tcp_frame type, const char *p, size_t len, struct tcp_span *out)
{
	struct reader r;

	memset(out, 0, sizeof(*out));
	reader_init(&r, p, len);
	out->file = reader_u32(&r);
	out->offset = reader_u64(&r);
	out->len = reader_u64(&r);
	if (type == TCP_COPY)
		out->from = reader_u64(&r);
	if (type == TCP_READ)
		return finished(&r) && out->offset <= out->len && out->len <= INT64_MAX;
	return finished(&r) && out->len > 0 && span_fits(out->offset, out->len) && span_fits(out->from, out->len);
}

bool tcp_get_data(const char *p, size_t len, struct tcp_span *out, const char **content)
{
	struct reader r;

	memset(out, 0, sizeof(*out));
	reader_init(&r, p, len);
	out->file = reader_u32(&r);
	out->offset = reader_u64(&r);
	out->len = r.left;
	*content = (const char *)r.p;
	return !r.failed && out->len > 0 && span_fits(out->offset, out->len);
}

bool tcp_get_finer(const char *p, size_t len, bool parts, struct tcp_finer *out)
{
	struct reader r;

	reader_init(&r, p, len);
	out->file = reader_u32(&r);
	out->block = reader_u32(&r);
	out->first = reader_u64(&r);
	out->n = parts ? reader_u64(&r) : UINT64_MAX;
	return finished(&r) && tcp_block_valid(out->block) && out->n > 0 && out->first <= INT64_MAX / out->block;
}

bool tcp_get_end(const char *p, size_t len, struct tcp_end *out)
{
	struct reader r;

	memset(out, 0, sizeof(*out));
	reader_init(&r, p, len);
	out->file = reader_u32(&r);
	out->result = get_result(&r);
	get_err(&r, &out->why);
	out->size = reader_u64(&r);
	get_raw(&r, out->digest, sizeof(out->digest));
	get_state(&r, &out->state);
	return finished(&r);
}
