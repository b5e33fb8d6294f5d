#include "core/wire.h"

#include <stdlib.h>
#include <string.h>

#include "core/path.h"

/* The flags that an item may carry on the wire. */
#define ITEM_FLAGS                                                                                                     \
	(MARK_LOOK | MARK_NAME | MARK_RECURSIVE | MARK_WAS_DIR | MARK_WAS_FILE | MARK_BORN | MARK_FAILED |             \
	 MARK_CAUSE | MARK_START | MARK_LARGE | MARK_ALONE | MARK_LATE)
/* An item is at least its length, flags and tries; a rename two lengths and a byte. They bound the counts. */
#define ITEM_BYTES_MIN 12u
#define RENAME_BYTES_MIN 9u
#define VERDICT_IS_RENAME 0x80u

/* ---- writing ---- */

static size_t begin(struct buf *out, enum wire_type type)
{
	size_t at = out->len;

	buf_add_u32(out, 0);
	buf_add_byte(out, (unsigned char)type);
	return at;
}

/* Set the length at the frame's start; take the frame back if it did not fit. */
static bool end(struct buf *out, size_t at)
{
	size_t payload;

	if (out->failed || out->len - at > WIRE_FRAME_MAX) {
		out->len = at;
		out->failed = false;
		return false;
	}
	payload = out->len - at - 5;
	for (size_t i = 0; i < 4; i++)
		out->data[at + i] = (char)(unsigned char)(payload >> (8 * i));
	return true;
}

static void put_bytes(struct buf *out, const char *p, size_t len)
{
	buf_add_u32(out, (uint32_t)len);
	buf_add(out, p, len);
}

static void put_err(struct buf *out, const struct err *e)
{
	buf_add_byte(out, (unsigned char)e->class);
	if (e->class == ERR_NONE)
		return;
	buf_add_u32(out, (uint32_t)e->code);
	put_bytes(out, e->text, strnlen(e->text, sizeof(e->text)));
}

bool wire_put_config(struct buf *out, const struct wire_config *c)
{
	size_t at = begin(out, WIRE_CONFIG);

	buf_add_u32(out, c->log_mask);
	buf_add_u64(out, c->source_dev);
	buf_add_u64(out, c->source_ino);
	buf_add(out, c->host_id, sizeof(c->host_id));
	put_bytes(out, c->runtime_dir, strlen(c->runtime_dir) + 1);
	put_bytes(out, c->archive_path, strlen(c->archive_path) + 1);
	put_bytes(out, c->text, c->text_len);
	return end(out, at);
}

bool wire_put_batch(struct buf *out, const struct batch *b, unsigned flags)
{
	size_t at = begin(out, WIRE_BATCH);

	buf_add_u64(out, b->id);
	buf_add_u32(out, flags);
	buf_add_u32(out, (uint32_t)b->n_renames);
	buf_add_u32(out, (uint32_t)b->n_items);
	for (size_t i = 0; i < b->n_renames; i++) {
		put_bytes(out, b->renames[i].from, b->renames[i].from_len);
		put_bytes(out, b->renames[i].to, b->renames[i].to_len);
		buf_add_byte(out, b->renames[i].is_dir ? 1 : 0);
	}
	for (size_t i = 0; i < b->n_items; i++) {
		put_bytes(out, b->items[i].path, b->items[i].len);
		buf_add_u32(out, b->items[i].flags);
		buf_add_u32(out, b->items[i].tries);
	}
	return end(out, at);
}

bool wire_put_guard(struct buf *out, const char *text, size_t len)
{
	size_t at = begin(out, WIRE_GUARD);

	buf_add(out, text, len);
	return end(out, at);
}

bool wire_put_u32(struct buf *out, enum wire_type type, uint32_t v)
{
	size_t at = begin(out, type);

	buf_add_u32(out, v);
	return end(out, at);
}

bool wire_put_u64(struct buf *out, enum wire_type type, uint64_t v)
{
	size_t at = begin(out, type);

	buf_add_u64(out, v);
	return end(out, at);
}

bool wire_put_empty(struct buf *out, enum wire_type type)
{
	return end(out, begin(out, type));
}

bool wire_put_found(struct buf *out, const struct wire_found *f)
{
	size_t at = begin(out, WIRE_FOUND);

	put_bytes(out, f->path, f->len);
	buf_add_byte(out, (unsigned char)f->v);
	put_err(out, &f->why);
	return end(out, at);
}

bool wire_put_view(struct buf *out, uint32_t view, const char *text, size_t len)
{
	size_t at = begin(out, WIRE_VIEW);

	buf_add_u32(out, view);
	put_bytes(out, text, len);
	return end(out, at);
}

bool wire_put_down(struct buf *out, const struct err *why)
{
	size_t at = begin(out, WIRE_DOWN);

	put_err(out, why);
	return end(out, at);
}

bool wire_put_progress(struct buf *out, const struct wire_progress *p)
{
	size_t at = begin(out, WIRE_PROGRESS);

	put_bytes(out, p->phase, strnlen(p->phase, sizeof(p->phase) - 1));
	buf_add_u64(out, p->files);
	buf_add_u64(out, p->files_total);
	buf_add_u64(out, p->bytes);
	buf_add_u64(out, p->bytes_total);
	put_bytes(out, p->path, p->path_len);
	return end(out, at);
}

bool wire_put_log(struct buf *out, uint32_t category, const char *text, size_t len)
{
	size_t at = begin(out, WIRE_LOG);

	buf_add_u32(out, category);
	put_bytes(out, text, len);
	return end(out, at);
}

bool wire_put_counters(struct buf *out, const struct wire_counters *c)
{
	size_t at = begin(out, WIRE_COUNTERS);

	buf_add_u64(out, c->files_sent);
	buf_add_u64(out, c->bytes_sent);
	buf_add_u64(out, c->deletions);
	buf_add_u64(out, c->renames_carried);
	buf_add_u64(out, c->handshakes);
	buf_add_u64(out, c->processes);
	buf_add_u64(out, c->conflicts);
	return end(out, at);
}

bool wire_put_linked(struct buf *out, const struct wire_linked *f)
{
	size_t at = begin(out, WIRE_LINKED);

	buf_add_u64(out, f->dev);
	buf_add_u64(out, f->ino);
	put_bytes(out, f->path, f->len);
	return end(out, at);
}

static void put_tree(struct buf *out, const struct host_tree *t)
{
	buf_add(out, t->host, sizeof(t->host));
	buf_add(out, t->address, sizeof(t->address));
	buf_add_u64(out, t->dev);
	buf_add_u64(out, t->ino);
	buf_add_u64(out, t->here_dev);
	buf_add_u64(out, t->here_ino);
	buf_add(out, t->boot, sizeof(t->boot));
}

bool wire_put_peer(struct buf *out, const struct host_tree *t)
{
	size_t at = begin(out, WIRE_PEER);

	put_tree(out, t);
	return end(out, at);
}

bool wire_put_origin(struct buf *out, uint32_t pid, const struct host_tree *from)
{
	size_t at = begin(out, WIRE_ORIGIN);

	buf_add_u32(out, pid);
	put_tree(out, from);
	return end(out, at);
}

bool wire_put_owner(struct buf *out, uint32_t pid, const struct owner_question *q)
{
	size_t at = begin(out, WIRE_OWNER);

	buf_add_u32(out, pid);
	buf_add_byte(out, (unsigned char)q->kind);
	buf_add(out, q->name, strlen(q->name));
	return end(out, at);
}

size_t wire_begin_verdicts(struct buf *out, uint64_t batch_id)
{
	size_t at = begin(out, WIRE_VERDICTS);

	buf_add_u64(out, batch_id);
	return at;
}

bool wire_add_verdict(struct buf *out, const struct wire_verdict *v)
{
	buf_add_byte(out, (unsigned char)((unsigned)v->v | (v->is_rename ? VERDICT_IS_RENAME : 0u)));
	buf_add_u32(out, v->index);
	put_err(out, &v->why);
	return !out->failed;
}

bool wire_end_verdicts(struct buf *out, size_t at)
{
	return end(out, at);
}

/* ---- reading ---- */

static bool finished(const struct reader *r)
{
	return !r->failed && r->left == 0;
}

static const char *get_bytes(struct reader *r, size_t *len)
{
	*len = reader_u32(r);
	return reader_bytes(r, *len);
}

static const char *get_path(struct reader *r, size_t *len)
{
	const char *p = get_bytes(r, len);

	if (p == NULL || !path_valid(p, *len)) {
		r->failed = true;
		return NULL;
	}
	return p;
}

static void get_err(struct reader *r, struct err *e)
{
	size_t len;
	const char *text;
	uint8_t class = reader_u8(r);

	*e = (struct err)ERR_INIT;
	if (class >= ERR_CLASSES)
		r->failed = true;
	if (r->failed || class == ERR_NONE)
		return;
	e->class = (enum err_class) class;
	e->code = (int)reader_u32(r);
	text = get_bytes(r, &len);
	if (text == NULL || len >= sizeof(e->text)) {
		r->failed = true;
		return;
	}
	memcpy(e->text, text, len);
	e->text[len] = '\0';
}

static enum verdict get_verdict(struct reader *r, uint8_t raw)
{
	if (raw == VERDICT_NONE || raw >= VERDICTS) {
		r->failed = true;
		return VERDICT_NONE;
	}
	return (enum verdict)raw;
}

/* One that brings its NUL along, and no other one. */
static const char *get_string(struct reader *r)
{
	size_t n;
	const char *text = get_bytes(r, &n);

	return text == NULL || n == 0 || memchr(text, '\0', n) != text + n - 1 ? NULL : text;
}

bool wire_get_config(const char *p, size_t len, struct wire_config *out)
{
	struct reader r;
	const void *id;

	reader_init(&r, p, len);
	out->log_mask = reader_u32(&r);
	out->source_dev = reader_u64(&r);
	out->source_ino = reader_u64(&r);
	id = reader_bytes(&r, sizeof(out->host_id));
	if (id == NULL)
		return false;
	memcpy(out->host_id, id, sizeof(out->host_id));
	out->runtime_dir = get_string(&r);
	out->archive_path = get_string(&r);
	if (out->runtime_dir == NULL || out->archive_path == NULL)
		return false;
	out->text = get_bytes(&r, &out->text_len);
	return finished(&r);
}

static void get_rename(struct reader *r, struct batch_rename *out)
{
	out->from = get_path(r, &out->from_len);
	out->to = get_path(r, &out->to_len);
	out->is_dir = reader_u8(r) != 0;
	if (out->from_len == 0 || out->to_len == 0)
		r->failed = true;
}

static void get_item(struct reader *r, struct batch_item *out, const struct batch_item *before)
{
	out->path = get_path(r, &out->len);
	out->flags = reader_u32(r);
	out->tries = reader_u32(r);
	if ((out->flags & ~(unsigned)ITEM_FLAGS) != 0)
		r->failed = true;
	/* The worker relies on the order: what lies below a directory follows it. */
	if (!r->failed && before != NULL && path_compare(before->path, before->len, out->path, out->len) >= 0)
		r->failed = true;
}

/* The arena is a copy of the payload: all paths point into it. */
static struct batch *batch_shell(const char *p, size_t len, size_t n_renames, size_t n_items)
{
	struct batch *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return NULL;
	b->arena = malloc(len);
	b->renames = calloc(n_renames + 1, sizeof(*b->renames));
	b->items = calloc(n_items + 1, sizeof(*b->items));
	if (b->arena == NULL || b->renames == NULL || b->items == NULL) {
		batch_free(b);
		return NULL;
	}
	memcpy(b->arena, p, len);
	b->arena_len = len;
	b->n_renames = n_renames;
	b->n_items = n_items;
	return b;
}

struct batch *wire_get_batch(const char *p, size_t len, unsigned *flags)
{
	struct reader r;
	struct batch *b;
	uint64_t id;
	size_t n_renames, n_items, head;

	reader_init(&r, p, len);
	id = reader_u64(&r);
	*flags = reader_u32(&r);
	n_renames = reader_u32(&r);
	n_items = reader_u32(&r);
	if (r.failed || n_renames > r.left / RENAME_BYTES_MIN || n_items > r.left / ITEM_BYTES_MIN)
		return NULL;
	head = len - r.left;
	b = batch_shell(p, len, n_renames, n_items);
	if (b == NULL)
		return NULL;
	b->id = id;
	reader_init(&r, b->arena + head, len - head);
	for (size_t i = 0; i < n_renames && !r.failed; i++)
		get_rename(&r, &b->renames[i]);
	for (size_t i = 0; i < n_items && !r.failed; i++)
		get_item(&r, &b->items[i], i > 0 ? &b->items[i - 1] : NULL);
	if (!finished(&r)) {
		batch_free(b);
		return NULL;
	}
	return b;
}

bool wire_get_u32(const char *p, size_t len, uint32_t *out)
{
	struct reader r;

	reader_init(&r, p, len);
	*out = reader_u32(&r);
	return finished(&r);
}

bool wire_get_u64(const char *p, size_t len, uint64_t *out)
{
	struct reader r;

	reader_init(&r, p, len);
	*out = reader_u64(&r);
	return finished(&r);
}

bool wire_get_found(const char *p, size_t len, struct wire_found *out)
{
	struct reader r;

	reader_init(&r, p, len);
	out->path = get_path(&r, &out->len);
	out->v = get_verdict(&r, reader_u8(&r));
	get_err(&r, &out->why);
	return finished(&r);
}

bool wire_get_down(const char *p, size_t len, struct err *out)
{
	struct reader r;

	reader_init(&r, p, len);
	get_err(&r, out);
	return finished(&r) && out->class != ERR_NONE;
}

bool wire_get_progress(const char *p, size_t len, struct wire_progress *out)
{
	struct reader r;
	size_t n;
	const char *phase;

	reader_init(&r, p, len);
	phase = get_bytes(&r, &n);
	if (phase == NULL || n >= sizeof(out->phase))
		return false;
	memcpy(out->phase, phase, n);
	out->phase[n] = '\0';
	out->files = reader_u64(&r);
	out->files_total = reader_u64(&r);
	out->bytes = reader_u64(&r);
	out->bytes_total = reader_u64(&r);
	out->path = get_bytes(&r, &out->path_len);
	return finished(&r);
}

bool wire_get_log(const char *p, size_t len, uint32_t *category, const char **text, size_t *text_len)
{
	struct reader r;

	reader_init(&r, p, len);
	*category = reader_u32(&r);
	*text = get_bytes(&r, text_len);
	return finished(&r);
}

bool wire_get_counters(const char *p, size_t len, struct wire_counters *out)
{
	struct reader r;

	reader_init(&r, p, len);
	out->files_sent = reader_u64(&r);
	out->bytes_sent = reader_u64(&r);
	out->deletions = reader_u64(&r);
	out->renames_carried = reader_u64(&r);
	out->handshakes = reader_u64(&r);
	out->processes = reader_u64(&r);
	out->conflicts = reader_u64(&r);
	return finished(&r);
}

bool wire_get_linked(const char *p, size_t len, struct wire_linked *out)
{
	struct reader r;

	reader_init(&r, p, len);
	out->dev = reader_u64(&r);
	out->ino = reader_u64(&r);
	out->path = get_path(&r, &out->len);
	return finished(&r) && out->len > 0;
}

static void get_tree(struct reader *r, struct host_tree *t)
{
	const void *host = reader_bytes(r, sizeof(t->host)), *address = reader_bytes(r, sizeof(t->address)), *boot;

	*t = (struct host_tree){ 0 };
	if (host != NULL)
		memcpy(t->host, host, sizeof(t->host));
	if (address != NULL)
		memcpy(t->address, address, sizeof(t->address));
	t->dev = reader_u64(r);
	t->ino = reader_u64(r);
	t->here_dev = reader_u64(r);
	t->here_ino = reader_u64(r);
	boot = reader_bytes(r, sizeof(t->boot));
	if (boot != NULL)
		memcpy(t->boot, boot, sizeof(t->boot));
}

bool wire_get_peer(const char *p, size_t len, struct host_tree *out)
{
	struct reader r;

	reader_init(&r, p, len);
	get_tree(&r, out);
	return finished(&r);
}

bool wire_get_view(const char *p, size_t len, uint32_t *view, const char **text, size_t *text_len)
{
	struct reader r;

	reader_init(&r, p, len);
	*view = reader_u32(&r);
	*text = get_bytes(&r, text_len);
	return finished(&r) && *view > WIRE_VIEW_NONE && *view < WIRE_VIEWS;
}

bool wire_get_origin(const char *p, size_t len, uint32_t *pid, struct host_tree *out)
{
	struct reader r;

	reader_init(&r, p, len);
	*pid = reader_u32(&r);
	get_tree(&r, out);
	return finished(&r) && *pid != 0;
}

bool wire_get_owner(const char *p, size_t len, uint32_t *pid, struct owner_question *out)
{
	const char *name;
	struct reader r;
	unsigned kind;

	memset(out, 0, sizeof(*out));
	reader_init(&r, p, len);
	*pid = reader_u32(&r);
	kind = reader_u8(&r);
	len = r.left;
	name = reader_bytes(&r, len);
	if (!finished(&r) || *pid == 0 || kind < OWNER_USER || kind > OWNER_GROUP || !owner_name_valid(name, len))
		return false;
	out->kind = (enum owner_kind)kind;
	memcpy(out->name, name, len);
	return true;
}

bool wire_get_verdicts(const char *p, size_t len, struct reader *r, uint64_t *batch_id)
{
	reader_init(r, p, len);
	*batch_id = reader_u64(r);
	return !r->failed;
}

int wire_next_verdict(struct reader *r, struct wire_verdict *out)
{
	uint8_t raw;

	if (!r->failed && r->left == 0)
		return 0;
	raw = reader_u8(r);
	out->is_rename = (raw & VERDICT_IS_RENAME) != 0;
	out->v = get_verdict(r, (uint8_t)(raw & ~VERDICT_IS_RENAME));
	out->index = reader_u32(r);
	get_err(r, &out->why);
	return r->failed ? -1 : 1;
}
