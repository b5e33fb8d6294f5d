#include "transports/sftp_codec.h"

#include <string.h>

/* ---- writing ---- */

static void put_u64(struct buf *out, uint64_t v)
{
	(void)buf_add_be32(out, (uint32_t)(v >> 32));
	(void)buf_add_be32(out, (uint32_t)v);
}

static void put_bytes(struct buf *out, struct sftp_bytes s)
{
	if (s.n > SFTP_PACKET_MAX) {
		out->failed = true;
		return;
	}
	(void)buf_add_be32(out, (uint32_t)s.n);
	(void)buf_add(out, s.p, s.n);
}

static void put_text(struct buf *out, const char *s)
{
	put_bytes(out, (struct sftp_bytes){ s, strlen(s) });
}

static void put_attrs(struct buf *out, const struct sftp_attrs *a)
{
	uint32_t flags = a->flags & (SFTP_ATTR_SIZE | SFTP_ATTR_UIDGID | SFTP_ATTR_PERMISSIONS | SFTP_ATTR_TIMES);

	(void)buf_add_be32(out, flags);
	if (flags & SFTP_ATTR_SIZE)
		put_u64(out, a->size);
	if (flags & SFTP_ATTR_UIDGID) {
		(void)buf_add_be32(out, a->uid);
		(void)buf_add_be32(out, a->gid);
	}
	if (flags & SFTP_ATTR_PERMISSIONS)
		(void)buf_add_be32(out, a->mode);
	if (flags & SFTP_ATTR_TIMES) {
		(void)buf_add_be32(out, a->atime);
		(void)buf_add_be32(out, a->mtime);
	}
}

/* The length is filled in by finish. Returns where the packet begins. */
static size_t begin(struct buf *out, enum sftp_type type, uint32_t id)
{
	size_t at = out->len;

	(void)buf_add_be32(out, 0);
	(void)buf_add_byte(out, (unsigned char)type);
	(void)buf_add_be32(out, id);
	return at;
}

/* What is not whole is taken back. */
static void finish(struct buf *out, size_t at)
{
	size_t n;

	if (out->failed) {
		out->len = at < out->len ? at : out->len;
		return;
	}
	n = out->len - at - 4;
	out->data[at] = (char)(n >> 24);
	out->data[at + 1] = (char)(n >> 16);
	out->data[at + 2] = (char)(n >> 8);
	out->data[at + 3] = (char)n;
}

void sftp_put_init(struct buf *out)
{
	finish(out, begin(out, SFTP_INIT, SFTP_VERSION_OURS));
}

void sftp_put_path(struct buf *out, enum sftp_type type, uint32_t id, struct sftp_bytes path)
{
	size_t at = begin(out, type, id);

	put_bytes(out, path);
	finish(out, at);
}

void sftp_put_paths(struct buf *out, enum sftp_type type, uint32_t id, struct sftp_bytes a, struct sftp_bytes b)
{
	size_t at = begin(out, type, id);

	put_bytes(out, a);
	put_bytes(out, b);
	finish(out, at);
}

void sftp_put_handle(struct buf *out, enum sftp_type type, uint32_t id, struct sftp_bytes handle)
{
	sftp_put_path(out, type, id, handle);
}

void sftp_put_open(struct buf *out, uint32_t id, struct sftp_bytes path, uint32_t flags, const struct sftp_attrs *attrs)
{
	size_t at = begin(out, SFTP_OPEN, id);

	put_bytes(out, path);
	(void)buf_add_be32(out, flags);
	put_attrs(out, attrs);
	finish(out, at);
}

void sftp_put_attrs(struct buf *out, enum sftp_type type, uint32_t id, struct sftp_bytes what,
		    const struct sftp_attrs *attrs)
{
	size_t at = begin(out, type, id);

	put_bytes(out, what);
	put_attrs(out, attrs);
	finish(out, at);
}

void sftp_put_read(struct buf *out, uint32_t id, struct sftp_bytes handle, uint64_t offset, uint32_t len)
{
	size_t at = begin(out, SFTP_READ, id);

	put_bytes(out, handle);
	put_u64(out, offset);
	(void)buf_add_be32(out, len);
	finish(out, at);
}

void sftp_put_write(struct buf *out, uint32_t id, struct sftp_bytes handle, uint64_t offset, struct sftp_bytes data)
{
	size_t at = begin(out, SFTP_WRITE, id);

	put_bytes(out, handle);
	put_u64(out, offset);
	put_bytes(out, data);
	finish(out, at);
}

size_t sftp_write_overhead(size_t handle_len)
{
	return 4 + 1 + 4 + 4 + handle_len + 8 + 4;
}

static size_t begin_ext(struct buf *out, uint32_t id, const char *name)
{
	size_t at = begin(out, SFTP_EXTENDED, id);

	put_text(out, name);
	return at;
}

void sftp_put_ext_paths(struct buf *out, uint32_t id, const char *name, struct sftp_bytes a, struct sftp_bytes b)
{
	size_t at = begin_ext(out, id, name);

	put_bytes(out, a);
	put_bytes(out, b);
	finish(out, at);
}

void sftp_put_ext_string(struct buf *out, uint32_t id, const char *name, struct sftp_bytes what)
{
	size_t at = begin_ext(out, id, name);

	put_bytes(out, what);
	finish(out, at);
}

void sftp_put_ext_attrs(struct buf *out, uint32_t id, const char *name, struct sftp_bytes path,
			const struct sftp_attrs *attrs)
{
	size_t at = begin_ext(out, id, name);

	put_bytes(out, path);
	put_attrs(out, attrs);
	finish(out, at);
}

void sftp_put_ext(struct buf *out, uint32_t id, const char *name)
{
	finish(out, begin_ext(out, id, name));
}

/* ---- reading ---- */

static uint64_t get_u64(struct reader *r)
{
	uint64_t high = reader_be32(r);

	return high << 32 | reader_be32(r);
}

static struct sftp_bytes get_bytes(struct reader *r)
{
	uint32_t n = reader_be32(r);
	const char *p = reader_bytes(r, n);

	return p == NULL ? (struct sftp_bytes){ "", 0 } : (struct sftp_bytes){ p, n };
}

/* Extended attributes are pairs of strings: nothing we know, so skipped. */
static void skip_extended(struct reader *r)
{
	uint32_t count = reader_be32(r);

	if (count > r->left / 8)
		r->failed = true;
	for (uint32_t i = 0; i < count && !r->failed; i++) {
		(void)get_bytes(r);
		(void)get_bytes(r);
	}
}

static void get_attrs(struct reader *r, struct sftp_attrs *a)
{
	*a = (struct sftp_attrs){ .flags = reader_be32(r) };
	if (a->flags & SFTP_ATTR_SIZE)
		a->size = get_u64(r);
	if (a->flags & SFTP_ATTR_UIDGID) {
		a->uid = reader_be32(r);
		a->gid = reader_be32(r);
	}
	if (a->flags & SFTP_ATTR_PERMISSIONS)
		a->mode = reader_be32(r);
	if (a->flags & SFTP_ATTR_TIMES) {
		a->atime = reader_be32(r);
		a->mtime = reader_be32(r);
	}
	if (a->flags & SFTP_ATTR_EXTENDED)
		skip_extended(r);
}

static const struct {
	const char *name, *version;
	enum sftp_extension flag;
} extensions[] = {
	{ "posix-rename@openssh.com", "1", SFTP_EXT_POSIX_RENAME },
	{ "hardlink@openssh.com", "1", SFTP_EXT_HARDLINK },
	{ "statvfs@openssh.com", "2", SFTP_EXT_STATVFS },
	{ "lsetstat@openssh.com", "1", SFTP_EXT_LSETSTAT },
	{ "limits@openssh.com", "1", SFTP_EXT_LIMITS },
};

#define N_EXTENSIONS (sizeof(extensions) / sizeof(extensions[0]))

const char *sftp_extension_name(enum sftp_extension e)
{
	for (size_t i = 0; i < N_EXTENSIONS; i++)
		if (extensions[i].flag == e)
			return extensions[i].name;
	return NULL;
}

/* Without lsetstat a RENAME may follow symlinks (sftp_rename.c): one that is replaced goes first. Without hard links
 * what is kept elsewhere is moved there. */
const char *sftp_lacks_replacing(unsigned ext, bool aside)
{
	enum sftp_extension needed[] = { SFTP_EXT_POSIX_RENAME, SFTP_EXT_LSETSTAT, SFTP_EXT_HARDLINK };

	for (size_t i = 0; i < (aside ? 3u : 2u); i++)
		if ((ext & needed[i]) == 0)
			return sftp_extension_name(needed[i]);
	return NULL;
}

static bool same(struct sftp_bytes b, const char *text)
{
	return b.n == strlen(text) && memcmp(b.p, text, b.n) == 0;
}

long sftp_packet(const char *data, size_t n, struct sftp_packet *out)
{
	struct reader r;
	uint32_t len;

	reader_init(&r, data, n);
	len = reader_be32(&r);
	if (r.failed)
		return 0;
	if (len < 5 || len > SFTP_PACKET_MAX)
		return -1;
	if (len > r.left)
		return 0;
	r.left = len;
	out->type = reader_u8(&r);
	out->id = reader_be32(&r);
	out->body = r;
	return 4 + (long)len;
}

bool sftp_get_version(struct sftp_packet *p, struct sftp_version *out)
{
	if (p->type != SFTP_VERSION)
		return false;
	*out = (struct sftp_version){ .version = p->id };
	while (p->body.left > 0 && !p->body.failed) {
		struct sftp_bytes name = get_bytes(&p->body), version = get_bytes(&p->body);

		for (size_t i = 0; i < N_EXTENSIONS && !p->body.failed; i++)
			if (same(name, extensions[i].name) && same(version, extensions[i].version))
				out->extensions |= extensions[i].flag;
	}
	return !p->body.failed;
}

/* The first servers of version 3 sent no message. */
bool sftp_get_status(struct sftp_packet *p, struct sftp_status_reply *out)
{
	*out = (struct sftp_status_reply){ .message = { "", 0 } };
	if (p->type != SFTP_STATUS)
		return false;
	out->code = reader_be32(&p->body);
	if (!p->body.failed && p->body.left > 0)
		out->message = get_bytes(&p->body);
	return !p->body.failed;
}

bool sftp_get_handle(struct sftp_packet *p, struct sftp_bytes *out)
{
	*out = get_bytes(&p->body);
	return p->type == SFTP_HANDLE && !p->body.failed && out->n > 0 && out->n <= SFTP_HANDLE_MAX;
}

bool sftp_get_data(struct sftp_packet *p, struct sftp_bytes *out)
{
	*out = get_bytes(&p->body);
	return p->type == SFTP_DATA && !p->body.failed;
}

bool sftp_get_attrs(struct sftp_packet *p, struct sftp_attrs *out)
{
	get_attrs(&p->body, out);
	return p->type == SFTP_ATTRS && !p->body.failed;
}

bool sftp_get_statvfs(struct sftp_packet *p, struct sftp_statvfs *out)
{
	struct reader *r = &p->body;

	out->bsize = get_u64(r);
	out->frsize = get_u64(r);
	out->blocks = get_u64(r);
	out->bfree = get_u64(r);
	out->bavail = get_u64(r);
	out->files = get_u64(r);
	out->ffree = get_u64(r);
	out->favail = get_u64(r);
	out->fsid = get_u64(r);
	out->flag = get_u64(r);
	out->namemax = get_u64(r);
	return p->type == SFTP_EXTENDED_REPLY && !r->failed;
}

bool sftp_get_limits(struct sftp_packet *p, struct sftp_limits *out)
{
	out->packet = get_u64(&p->body);
	out->read = get_u64(&p->body);
	out->write = get_u64(&p->body);
	out->handles = get_u64(&p->body);
	return p->type == SFTP_EXTENDED_REPLY && !p->body.failed;
}

/* Name, long name and attributes are at least 12 bytes. */
bool sftp_get_names(struct sftp_packet *p, uint32_t *count)
{
	*count = reader_be32(&p->body);
	return p->type == SFTP_NAME && !p->body.failed && *count <= p->body.left / 12;
}

bool sftp_get_name(struct sftp_packet *p, struct sftp_bytes *name, struct sftp_attrs *attrs)
{
	*name = get_bytes(&p->body);
	(void)get_bytes(&p->body);
	get_attrs(&p->body, attrs);
	return !p->body.failed;
}

const char *sftp_status_name(uint32_t code)
{
	static const char *const names[] = { "no error",	  "end of file",     "no such file",
					     "permission denied", "failure",	     "bad message",
					     "no connection",	  "connection lost", "not supported" };

	return code < sizeof(names) / sizeof(names[0]) ? names[code] : "unknown status";
}
