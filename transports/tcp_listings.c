/* tcp_listings.c - directories of the source, listed for a receiver: see tcp_private.h. */
#include <stdlib.h>
#include <string.h>

#include "core/path.h"
#include "transports/listing.h"
#include "transports/tcp_private.h"

/* Of one frame. */
#define LISTING_BYTES (48u * 1024)
/* Directories that a receiver may ask for ahead. */
#define LISTINGS_MAX 4096u

/* A directory that was asked for. */
struct listing_wish {
	struct listing_wish *next;
	uint32_t id;
	bool read; /* `list` is there */
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
	struct listing_wish *first, *last; /* first come, first served */
	size_t n;
	struct buf scratch;
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

/* Times of the last change of an inode are this host's alone, but for what is being read. */
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
	buf_init(&s->scratch, TCP_FRAME_MAX);
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

/* One frame of the listing. */
static bool send_listing(struct tcp_listings *s, struct listing_wish *w)
{
	struct tcp_listing l = { .id = w->id };
	size_t at, first = w->at;

	buf_clear(&s->scratch);
	tcp_put_listing(&s->scratch, &l);
	at = s->scratch.len;
	for (; w->at < w->list.n && s->scratch.len < LISTING_BYTES; w->at++) {
		const struct fileops_entry *entry = &w->list.v[w->at];
		struct tcp_list_entry e = { .name = { entry->name, entry->len },
					    .state = tcp_state_of(&entry->st, false),
					    .unknown = entry->st.st_mode == 0 && entry->agreed == NULL,
					    .has_archive = entry->agreed != NULL };

		if (e.has_archive)
			e.archive = *entry->agreed;
		tcp_put_list_entry(&s->scratch, &e);
	}
	if (s->scratch.failed)
		return false;
	tcp_set_u32(&s->scratch, at - 4, (uint32_t)(w->at - first));
	s->scratch.data[at - 5] = w->at == w->list.n;
	return send(s);
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
		if (!send_listing(s, w))
			return false;
		if (w->at == w->list.n)
			end_listing(s);
	}
	return true;
}

bool tcp_listings_add(struct tcp_listings *s, const struct tcp_request *r)
{
	struct listing_wish *w = s->n >= LISTINGS_MAX ? NULL : malloc(sizeof(*w) + r->path.len);

	if (w == NULL)
		return false;
	*w = (struct listing_wish){ .id = r->id, .len = r->path.len };
	memcpy(w->path, r->path.p, r->path.len);
	if (s->last != NULL)
		s->last->next = w;
	else
		s->first = w;
	s->last = w;
	s->n++;
	return tcp_listings_pump(s);
}

void tcp_listings_free(struct tcp_listings *s)
{
	if (s == NULL)
		return;
	while (s->first != NULL)
		end_listing(s);
	buf_done(&s->scratch);
	free(s);
}
