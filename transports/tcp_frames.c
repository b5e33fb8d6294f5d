#include "transports/tcp_frames.h"

#include <string.h>

#include "core/path.h"
#include "transports/fileops.h"

#define TYPE_BITS 0170000u
#define PART_ARCHIVE 1u
#define PART_TEXT 2u
#define PART_CONTENT 4u
#define PART_UNKNOWN 2u /* of a listing's entry */
/* Of a state: what few entries have. */
#define FIELD_CTIME 1u
#define FIELD_LINKS 2u
#define FIELD_RDEV 4u
/* Of a work. */
#define WORK_DELETES 1u
#define WORK_CONTINUES 2u
#define WORK_UNGUARDED 4u
#define LINK_TEXT_MAX 65536u

/* ---- writing ---- */

static void put_u8(struct buf *out, unsigned v)
{
	buf_add_byte(out, (unsigned char)v);
}

static void put_u16(struct buf *out, uint16_t v)
{
	put_u8(out, v & 0xffu);
	put_u8(out, v >> 8);
}

void tcp_put_bytes(struct buf *out, const void *p, size_t len)
{
	buf_add_u32(out, (uint32_t)len);
	buf_add(out, p, len);
}

static void put_span_of(struct buf *out, const struct tcp_bytes *b)
{
	tcp_put_bytes(out, b->p, b->len);
}

void tcp_put_err(struct buf *out, const struct err *e)
{
	put_u8(out, e->class);
	if (e->class == ERR_NONE)
		return;
	buf_add_u32(out, (uint32_t)e->code);
	tcp_put_bytes(out, e->text, strnlen(e->text, sizeof(e->text)));
}

static void put_maybe_err(struct buf *out, const struct err *e)
{
	static const struct err none = ERR_INIT;

	tcp_put_err(out, e == NULL ? &none : e);
}

static void put_time(struct buf *out, const struct timespec *t)
{
	buf_add_u64(out, (uint64_t)t->tv_sec);
	buf_add_u32(out, (uint32_t)t->tv_nsec);
}

static unsigned fields_of(const struct stat *st)
{
	return (st->st_ctim.tv_sec != 0 || st->st_ctim.tv_nsec != 0 ? FIELD_CTIME : 0) |
	       (st->st_nlink > 1 && !S_ISDIR(st->st_mode) ? FIELD_LINKS : 0) |
	       (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode) ? FIELD_RDEV : 0);
}

void tcp_put_state(struct buf *out, const struct tcp_state *s)
{
	unsigned fields = s->look == LOOK_ABSENT ? 0 : fields_of(&s->st);

	put_u8(out, s->look);
	if (s->look == LOOK_ABSENT)
		return;
	put_u8(out, fields);
	buf_add_u32(out, s->st.st_mode);
	buf_add_u32(out, s->st.st_uid);
	buf_add_u32(out, s->st.st_gid);
	buf_add_u64(out, (uint64_t)s->st.st_size);
	put_time(out, &s->st.st_mtim);
	if ((fields & FIELD_CTIME) != 0)
		put_time(out, &s->st.st_ctim);
	if ((fields & FIELD_LINKS) != 0) {
		buf_add_u32(out, (uint32_t)s->st.st_nlink);
		buf_add_u64(out, s->st.st_dev);
		buf_add_u64(out, s->st.st_ino);
	}
	if ((fields & FIELD_RDEV) != 0)
		buf_add_u64(out, s->st.st_rdev);
}

void tcp_put_twoway(struct buf *out, const struct twoway_state *s)
{
	put_u8(out, s->look);
	buf_add_u64(out, (uint64_t)s->size);
	buf_add_u64(out, (uint64_t)s->mtime_ns);
	buf_add_u64(out, s->attr);
}

void tcp_put_hello(struct buf *out, const struct tcp_hello *h)
{
	buf_add_u64(out, TCP_MAGIC);
	put_u16(out, h->version_min);
	put_u16(out, h->version_max);
	buf_add_u32(out, h->features);
	buf_add(out, h->host_id, sizeof(h->host_id));
	put_span_of(out, &h->software);
	put_span_of(out, &h->module);
	put_span_of(out, &h->sync);
	put_span_of(out, &h->options);
}

void tcp_put_welcome(struct buf *out, const struct tcp_welcome *w)
{
	put_u16(out, w->version);
	buf_add_u32(out, w->features);
	buf_add(out, w->host_id, sizeof(w->host_id));
	put_span_of(out, &w->software);
	buf_add_u32(out, w->caps);
	buf_add_u64(out, w->credit);
	buf_add_u32(out, w->max_changes);
	buf_add_u64(out, w->dev);
	buf_add_u64(out, w->ino);
}

void tcp_put_work(struct buf *out, const struct tcp_work *w)
{
	buf_add_u64(out, w->id);
	buf_add_u64(out, w->first);
	put_u8(out, w->kind);
	put_u8(out, (w->may_delete ? WORK_DELETES : 0) | (w->continues ? WORK_CONTINUES : 0) |
			    (w->unguarded ? WORK_UNGUARDED : 0));
	buf_add_u64(out, (uint64_t)w->max_delete);
	buf_add_u32(out, w->n_renames);
	buf_add_u32(out, w->n_items);
	buf_add_u32(out, w->n_keeps);
}

void tcp_put_keep(struct buf *out, const struct keep *k)
{
	size_t n = k->why == NULL ? 0 : strlen(k->why);

	tcp_put_bytes(out, k->path, k->len);
	tcp_put_bytes(out, k->why, n < TCP_TEXT_MAX ? n : TCP_TEXT_MAX);
}

void tcp_put_name(struct buf *out, const struct tcp_name *n)
{
	put_u8(out, n->kind);
	buf_add_u32(out, n->id);
	put_span_of(out, &n->name);
}

void tcp_put_rename(struct buf *out, const struct batch_rename *r)
{
	tcp_put_bytes(out, r->from, r->from_len);
	tcp_put_bytes(out, r->to, r->to_len);
	put_u8(out, r->is_dir ? 1 : 0);
}

void tcp_put_item(struct buf *out, const struct tcp_item *item)
{
	put_span_of(out, &item->path);
	buf_add_u32(out, item->flags);
	buf_add_u32(out, item->tries);
	tcp_put_state(out, &item->state);
	put_u8(out, (item->has_archive ? PART_ARCHIVE : 0) | (item->has_text ? PART_TEXT : 0) |
			    (item->has_content ? PART_CONTENT : 0));
	if (item->has_archive)
		tcp_put_twoway(out, &item->archive);
	if (item->has_text)
		put_span_of(out, &item->text);
	if (item->has_content) {
		buf_add(out, item->digest, sizeof(item->digest));
		buf_add_u32(out, (uint32_t)item->content.len);
	}
}

void tcp_put_ack(struct buf *out, uint64_t upto, uint32_t count)
{
	buf_add_u64(out, upto);
	buf_add_u32(out, count);
}

void tcp_put_verdict(struct buf *out, const struct tcp_verdict *v)
{
	buf_add_u64(out, v->seq);
	put_u8(out, v->v);
	tcp_put_err(out, &v->why);
}

void tcp_put_found(struct buf *out, const char *path, size_t len, enum verdict v, const struct err *why)
{
	tcp_put_bytes(out, path, len);
	put_u8(out, v);
	put_maybe_err(out, why);
}

void tcp_put_progress(struct buf *out, const struct tcp_progress *p)
{
	put_span_of(out, &p->phase);
	buf_add_u64(out, p->files);
	buf_add_u64(out, p->files_total);
	buf_add_u64(out, p->bytes);
	buf_add_u64(out, p->bytes_total);
	put_span_of(out, &p->path);
}

void tcp_put_done(struct buf *out, const struct tcp_done *d)
{
	buf_add_u64(out, d->work);
	buf_add_u64(out, d->files);
	buf_add_u64(out, d->deletions);
	buf_add_u64(out, d->renames);
	buf_add_u64(out, d->entries);
}

void tcp_put_note(struct buf *out, const struct tcp_note *n)
{
	put_span_of(out, &n->path);
	tcp_put_twoway(out, &n->state);
}

void tcp_put_moved(struct buf *out, const char *from, size_t from_len, const char *to, size_t to_len)
{
	tcp_put_bytes(out, from, from_len);
	tcp_put_bytes(out, to, to_len);
}

void tcp_put_conflict(struct buf *out, const struct tcp_conflict *c)
{
	put_span_of(out, &c->path);
	tcp_put_twoway(out, &c->source);
	tcp_put_twoway(out, &c->target);
	put_u8(out, c->source_won ? 1 : 0);
}

void tcp_put_request(struct buf *out, enum tcp_frame type, const struct tcp_request *r)
{
	buf_add_u32(out, r->id);
	put_span_of(out, &r->path);
	if (type == TCP_XATTRS)
		buf_add_u32(out, r->kinds);
	if (type == TCP_OPEN) {
		buf_add_u64(out, r->old_size);
		tcp_put_state(out, &r->old);
	}
}

void tcp_put_unless(struct buf *out, const struct tcp_unless *u)
{
	buf_add_u32(out, u->id);
	put_span_of(out, &u->path);
	buf_add(out, u->digest, sizeof(u->digest));
}

void tcp_put_answer(struct buf *out, enum tcp_frame asked, const struct tcp_answer *a)
{
	buf_add_u32(out, a->id);
	put_u8(out, a->result);
	tcp_put_err(out, &a->why);
	if (a->result != FILEOPS_OK)
		return;
	if (asked == TCP_LOOK || asked == TCP_RESTAT)
		tcp_put_state(out, &a->state);
	if (asked == TCP_READLINK || asked == TCP_XATTRS)
		put_span_of(out, &a->bytes);
	if (asked == TCP_AGREED)
		tcp_put_twoway(out, &a->agreed);
	if (asked == TCP_DIGEST_OF) {
		buf_add(out, a->digest, sizeof(a->digest));
		buf_add_u64(out, a->size);
	}
}

void tcp_put_listing(struct buf *out, const struct tcp_listing *l)
{
	buf_add_u32(out, l->id);
	put_u8(out, l->result);
	tcp_put_err(out, &l->why);
	put_u8(out, l->last ? 1 : 0);
	buf_add_u32(out, l->count);
}

void tcp_put_list_entry(struct buf *out, const struct tcp_list_entry *e)
{
	put_span_of(out, &e->name);
	tcp_put_state(out, &e->state);
	put_u8(out, (e->has_archive ? PART_ARCHIVE : 0) | (e->unknown ? PART_UNKNOWN : 0));
	if (e->has_archive)
		tcp_put_twoway(out, &e->archive);
}

void tcp_put_opened(struct buf *out, const struct tcp_opened *o)
{
	buf_add_u32(out, o->id);
	put_u8(out, o->result);
	tcp_put_err(out, &o->why);
	if (o->result != FILEOPS_OK)
		return;
	buf_add_u32(out, o->file);
	tcp_put_state(out, &o->state);
	put_u8(out, o->wants_hashes ? 1 : 0);
	buf_add_u32(out, o->block);
}

void tcp_put_span(struct buf *out, enum tcp_frame type, const struct tcp_span *s)
{
	buf_add_u32(out, s->file);
	buf_add_u64(out, s->offset);
	if (type != TCP_DATA)
		buf_add_u64(out, s->len);
	if (type == TCP_COPY)
		buf_add_u64(out, s->from);
}

void tcp_put_end(struct buf *out, const struct tcp_end *e)
{
	buf_add_u32(out, e->file);
	put_u8(out, e->result);
	tcp_put_err(out, &e->why);
	buf_add_u64(out, e->size);
	buf_add(out, e->digest, sizeof(e->digest));
	tcp_put_state(out, &e->state);
}

void tcp_hole_bytes(unsigned char out[TCP_HOLE_BYTES], uint64_t offset, uint64_t len)
{
	for (size_t i = 0; i < 8; i++) {
		out[i] = (unsigned char)(offset >> (8 * i));
		out[8 + i] = (unsigned char)(len >> (8 * i));
	}
}

void tcp_set_u32(struct buf *out, size_t at, uint32_t v)
{
	for (size_t i = 0; i < 4 && at + i < out->len; i++)
		out->data[at + i] = (char)(unsigned char)(v >> (8 * i));
}

/* ---- reading ---- */

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
	out->v = (enum verdict)get_enum(r, VERDICT_NONE + 1, VERDICTS - 1);
	get_err(r, &out->why);
	return !r->failed;
}

bool tcp_get_found(const char *p, size_t len, struct tcp_bytes *path, enum verdict *v, struct err *why)
{
	struct reader r;

	reader_init(&r, p, len);
	*path = get_path(&r);
	*v = (enum verdict)get_enum(&r, VERDICT_NONE + 1, VERDICTS - 1);
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
