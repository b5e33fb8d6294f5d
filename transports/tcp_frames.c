/* tcp_frames.c - frames of the tcp transport, written; see tcp_frames.h. */
#include "transports/tcp_frames.h"

#include <string.h>

#include "transports/fileops.h"
#include "transports/tcp_frames_bits.h"

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
	if ((w->features & TCP_FEATURE_STATE) != 0) {
		buf_add_u64(out, (uint64_t)w->state.clock_ns);
		buf_add_u64(out, w->state.bytes);
		buf_add_u64(out, w->state.bytes_of);
		buf_add_u64(out, w->state.inodes);
		buf_add_u64(out, w->state.inodes_of);
	}
	if ((w->features & TCP_FEATURE_BOOT) != 0)
		buf_add(out, w->boot, sizeof(w->boot));
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

void tcp_put_finer(struct buf *out, const struct tcp_finer *f, bool parts)
{
	buf_add_u32(out, f->file);
	buf_add_u32(out, f->block);
	buf_add_u64(out, f->first);
	if (parts)
		buf_add_u64(out, f->n);
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
