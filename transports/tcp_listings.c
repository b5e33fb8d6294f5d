/* tcp_listings.c - directories of the source, listed for a receiver: see tcp_private.h. */
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/path.h"
#include "transports/listing.h"
#include "transports/mirror_alike.h"
#include "transports/tcp_private.h"

/* Of one frame. */
#define LISTING_BYTES (48u * 1024)
/* Directories that a receiver may ask for ahead. */
#define LISTINGS_MAX 4096u
/* Answers of one SAME: the receiver goes on with them while the next ones are made. */
#define SAME_BYTES (4u * 32)

/* A directory that was asked for. */
struct listing_wish {
	struct listing_wish *next;
	uint32_t id;
	bool read;   /* `list` is there */
	bool unless; /* it has that digest */
	unsigned fields;
	unsigned char digest[TCP_DIGEST];
	struct listing list;
	size_t at; /* entries that were sent */
	size_t len;
	char path[];
};

struct tcp_listings {
	struct tcp_stream *stream;
	struct fileops_end source;
	const struct filter *filter;
	struct tcp_twoway *twoway;
	struct tcp_names *names;
	struct listing_wish *first, *last; /* first come, first served */
	size_t n;
	struct buf scratch;
	struct mirror_alike *same; /* NULL: not needed so far */
	struct buf sames;	   /* of the next SAME */
};

/* ---- what is shown ---- */

static enum look look_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return LOOK_DIR;
	case S_IFREG:
		return LOOK_FILE;
	case S_IFLNK:
		return LOOK_SYMLINK;
	default:
		return mode == 0 ? LOOK_ABSENT : LOOK_SPECIAL;
	}
}

struct tcp_state tcp_state_of(const struct stat *st, bool ctime)
{
	struct tcp_state s = { .look = look_of(st->st_mode), .st = *st };

	if (!ctime)
		s.st.st_ctim = (struct timespec){ 0 };
	return s;
}

bool tcp_hidden(const struct filter *filter, const char *path, size_t len, bool is_dir)
{
	return path_is_temp(path + path_base(path, len), len - path_base(path, len)) ||
	       !filter_includes(filter, path, len, is_dir);
}

/* ---- listings ---- */

struct tcp_listings *tcp_listings_new(const struct tcp_serve_setup *setup)
{
	struct tcp_listings *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->stream = setup->stream;
	s->source = setup->source;
	s->filter = setup->filter;
	s->twoway = setup->twoway;
	s->names = setup->names;
	buf_init(&s->scratch, TCP_FRAME_MAX);
	buf_init(&s->sames, TCP_FRAME_MAX);
	return s;
}

static bool send(struct tcp_listings *s)
{
	bool ok = tcp_stream_send_buf(s->stream, TCP_LISTING, &s->scratch);

	tcp_stream_kick(s->stream);
	return ok;
}

struct wish_ctx {
	struct tcp_listings *s;
	char *path; /* of the directory and a slash, with room for a name */
	size_t len;
};

static bool keep(void *ctx, const char *name, size_t len, bool is_dir)
{
	struct wish_ctx *w = ctx;

	if (len > NAME_BYTES_MAX)
		return false;
	memcpy(w->path + w->len, name, len);
	/* The directory itself is included: its own verdict was made before. */
	return !path_is_temp(name, len) && filter_match(w->s->filter, w->path, w->len + len, is_dir);
}

static void end_listing(struct tcp_listings *s)
{
	struct listing_wish *w = s->first;

	s->first = w->next;
	if (s->first == NULL)
		s->last = NULL;
	s->n--;
	if (w->read)
		listing_free(&w->list);
	free(w);
}

static bool refuse_listing(struct tcp_listings *s, uint32_t id, enum fileops_result result, const struct err *why)
{
	struct tcp_listing l = { .id = id, .result = (uint8_t)result, .why = *why, .last = true };

	buf_clear(&s->scratch);
	tcp_put_listing(&s->scratch, &l);
	return send(s);
}

/* false: it can't be read; the answer was given, or could not be (then the stream ends). */
static bool read_listing(struct tcp_listings *s, struct listing_wish *w)
{
	struct wish_ctx ctx = { .s = s, .path = malloc(w->len + NAME_BYTES_MAX + 2), .len = w->len };
	const struct fileops_wish wish = { .keep = keep, .ctx = &ctx };
	struct fileop op = { 0 };
	enum fileops_result got = FILEOPS_GONE;

	if (ctx.path == NULL) {
		got = FILEOPS_FAILED;
		err_set(&op.err, ERR_NOMEM, "the source: out of memory");
	} else {
		memcpy(ctx.path, w->path, w->len);
		if (ctx.len > 0)
			ctx.path[ctx.len++] = '/';
		if (!tcp_hidden(s->filter, w->path, w->len, true))
			got = s->source.ops->list(s->source.ctx, &op, w->path, w->len, &wish);
		if (got == FILEOPS_OK && s->twoway != NULL &&
		    tcp_twoway_list(s->twoway, w->path, w->len, &wish, &op.list, &op.err) < 0) {
			listing_free(&op.list);
			got = FILEOPS_FAILED;
		}
	}
	free(ctx.path);
	w->read = got == FILEOPS_OK;
	w->list = op.list;
	if (!w->read)
		(void)refuse_listing(s, w->id, got, &op.err);
	return w->read;
}

/* Only of a file that was written just now it says anything to a receiver whether its inode was, too. */
static bool ctime_tells(const struct stat *st, int64_t now_ns)
{
	return S_ISREG(st->st_mode) && mirror_mtime_ns(st) > now_ns - MIRROR_RECENT_NS;
}

/* One frame of the listing. */
static bool send_listing(struct tcp_listings *s, struct listing_wish *w)
{
	struct tcp_listing l = { .id = w->id };
	size_t at, first = w->at;
	int64_t now_ns = clock_real_ns();

	buf_clear(&s->scratch);
	tcp_put_listing(&s->scratch, &l);
	at = s->scratch.len;
	for (; w->at < w->list.n && s->scratch.len < LISTING_BYTES; w->at++) {
		const struct fileops_entry *entry = &w->list.v[w->at];
		struct tcp_list_entry e = { .name = { entry->name, entry->len },
					    .state = tcp_state_of(&entry->st, ctime_tells(&entry->st, now_ns)),
					    .unknown = entry->st.st_mode == 0 && entry->agreed == NULL,
					    .has_archive = entry->agreed != NULL };

		if (e.has_archive)
			e.archive = *entry->agreed;
		if (entry->st.st_mode != 0)
			tcp_names_tell(s->names, &entry->st);
		tcp_put_list_entry(&s->scratch, &e);
	}
	if (s->scratch.failed)
		return false;
	tcp_set_u32(&s->scratch, at - 4, (uint32_t)(w->at - first));
	s->scratch.data[at - 5] = w->at == w->list.n;
	return send(s);
}

static bool add_to_digest(struct tcp_listings *s, const struct listing_wish *w, const struct fileops_entry *e)
{
	struct fileop op = { 0 };

	if (e->st.st_mode == 0)
		return false; /* it could not be looked at, which has to be told */
	/* Before SAME, too: the number may be somebody else's there. */
	tcp_names_tell(s->names, &e->st);
	if (!S_ISLNK(e->st.st_mode)) {
		mirror_alike_add(s->same, e, NULL, 0);
		return true;
	}
	buf_clear(&s->scratch);
	buf_add(&s->scratch, w->path, w->len);
	if (w->len > 0)
		buf_add_byte(&s->scratch, '/');
	buf_add(&s->scratch, e->name, e->len);
	if (s->scratch.failed ||
	    s->source.ops->readlink(s->source.ctx, &op, s->scratch.data, s->scratch.len) != FILEOPS_OK)
		return false;
	mirror_alike_add(s->same, e, op.bytes, op.n_bytes);
	free(op.bytes);
	return true;
}

static bool is_same(struct tcp_listings *s, const struct listing_wish *w)
{
	unsigned char digest[TCP_DIGEST];

	if (s->same == NULL)
		s->same = mirror_alike_new();
	if (s->same == NULL)
		return false;
	mirror_alike_begin(s->same, w->fields);
	for (size_t i = 0; i < w->list.n; i++)
		if (!add_to_digest(s, w, &w->list.v[i]))
			return false;
	mirror_alike_end(s->same, digest);
	return memcmp(digest, w->digest, sizeof(digest)) == 0;
}

static bool send_same(struct tcp_listings *s)
{
	bool ok;

	if (s->sames.len == 0)
		return true;
	ok = !s->sames.failed &&
	     tcp_stream_send2(s->stream, TCP_SAME, NULL, 0, s->sames.data, s->sames.len, ZSTREAM_STORE);
	if (ok)
		tcp_stream_flush(s->stream);
	buf_clear(&s->sames);
	return ok;
}

static bool answer_same(struct tcp_listings *s, uint32_t id)
{
	buf_add_u32(&s->sames, id);
	return s->sames.len < SAME_BYTES || send_same(s);
}

/* As far as the stream takes it: one directory is held at a time. false: the stream is lost. */
bool tcp_listings_pump(struct tcp_listings *s)
{
	while (s->first != NULL && tcp_stream_writable(s->stream)) {
		struct listing_wish *w = s->first;

		if (!w->read && !read_listing(s, w)) {
			end_listing(s);
			continue;
		}
		if (w->unless && w->at == 0 && is_same(s, w)) {
			uint32_t id = w->id;

			end_listing(s);
			if (!answer_same(s, id))
				return false;
			continue;
		}
		w->unless = false;
		if (!send_listing(s, w))
			return false;
		if (w->at == w->list.n)
			end_listing(s);
	}
	return send_same(s);
}

static struct listing_wish *add_wish(struct tcp_listings *s, uint32_t id, const struct tcp_bytes *path)
{
	struct listing_wish *w = s->n >= LISTINGS_MAX ? NULL : malloc(sizeof(*w) + path->len);

	if (w == NULL)
		return NULL;
	*w = (struct listing_wish){ .id = id, .len = path->len };
	memcpy(w->path, path->p, path->len);
	if (s->last != NULL)
		s->last->next = w;
	else
		s->first = w;
	s->last = w;
	s->n++;
	return w;
}

bool tcp_listings_add(struct tcp_listings *s, const struct tcp_request *r)
{
	return add_wish(s, r->id, &r->path) != NULL && tcp_listings_pump(s);
}

bool tcp_listings_unless(struct tcp_listings *s, const char *payload, size_t len)
{
	struct reader r;
	uint32_t fields;

	if (!tcp_get_unless(payload, len, &r, &fields) || fields > MIRROR_ALIKE_FIELDS || s->twoway != NULL)
		return false;
	while (!tcp_all_read(&r)) {
		struct tcp_unless u;
		struct listing_wish *w = tcp_next_unless(&r, &u) ? add_wish(s, u.id, &u.path) : NULL;

		if (w == NULL)
			return false;
		w->unless = true;
		w->fields = fields;
		memcpy(w->digest, u.digest, sizeof(w->digest));
	}
	return tcp_listings_pump(s);
}

void tcp_listings_free(struct tcp_listings *s)
{
	if (s == NULL)
		return;
	while (s->first != NULL)
		end_listing(s);
	mirror_alike_free(s->same);
	buf_done(&s->sames);
	buf_done(&s->scratch);
	free(s);
}
