/* LINK: transports/sftp_codec.c core/buf.c */
/* MODULE: transports/sftp_codec.c */
/* A server's stream: packets cut out of it, each read by every function that reads one. What is decoded lies within the
 * packet, and what we would send back of it is a whole packet again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "transports/sftp_codec.h"

#define OUT_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct sftp_bytes b, const uint8_t *data, size_t size)
{
	const uint8_t *p = (const uint8_t *)b.p;

	if (b.n > 0 && (p < data || p + b.n > data + size))
		abort();
}

/* One packet, of that type and with that id. */
static void whole(struct buf *out, uint8_t type, uint32_t id)
{
	struct sftp_packet p;

	if (!out->failed && (sftp_packet(out->data, out->len, &p) != (long)out->len || p.type != type || p.id != id))
		abort();
	buf_done(out);
	buf_init(out, OUT_MAX);
}

/* What is asked by a handle that the server gave. */
static void ask_by_handle(struct buf *out, uint32_t id, struct sftp_bytes handle)
{
	const struct sftp_bytes data = { "data", 4 };

	sftp_put_handle(out, SFTP_CLOSE, id, handle);
	whole(out, SFTP_CLOSE, id);
	sftp_put_read(out, id, handle, UINT64_MAX, 1);
	whole(out, SFTP_READ, id);
	sftp_put_write(out, id, handle, 0, data);
	if (!out->failed && out->len != sftp_write_overhead(handle.n) + data.n)
		abort();
	whole(out, SFTP_WRITE, id);
}

/* What is asked by a name that the server gave, and attributes of its. */
static void ask_by_name(struct buf *out, uint32_t id, struct sftp_bytes name, const struct sftp_attrs *attrs)
{
	static const enum sftp_extension all[] = { SFTP_EXT_POSIX_RENAME, SFTP_EXT_HARDLINK, SFTP_EXT_STATVFS,
						   SFTP_EXT_LSETSTAT, SFTP_EXT_LIMITS };

	sftp_put_path(out, SFTP_LSTAT, id, name);
	whole(out, SFTP_LSTAT, id);
	sftp_put_paths(out, SFTP_RENAME, id, name, (struct sftp_bytes){ "x", 1 });
	whole(out, SFTP_RENAME, id);
	sftp_put_open(out, id, name, SFTP_O_READ, attrs);
	whole(out, SFTP_OPEN, id);
	sftp_put_attrs(out, SFTP_SETSTAT, id, name, attrs);
	whole(out, SFTP_SETSTAT, id);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const char *ext = sftp_extension_name(all[i]);

		if (all[i] == SFTP_EXT_STATVFS)
			sftp_put_ext_string(out, id, ext, name);
		else if (all[i] == SFTP_EXT_LSETSTAT)
			sftp_put_ext_attrs(out, id, ext, name, attrs);
		else if (all[i] == SFTP_EXT_LIMITS)
			sftp_put_ext(out, id, ext);
		else
			sftp_put_ext_paths(out, id, ext, name, name);
		whole(out, SFTP_EXTENDED, id);
	}
}

static void read_all(const struct sftp_packet *packet, const uint8_t *data, size_t size)
{
	struct sftp_packet p = *packet;
	struct sftp_status_reply status;
	struct sftp_version version;
	struct sftp_statvfs vfs;
	struct sftp_limits limits;
	struct sftp_attrs attrs;
	struct sftp_bytes b;
	struct buf out;
	uint32_t n;

	buf_init(&out, OUT_MAX);
	if (sftp_get_version(&p, &version) && sftp_extension_name((enum sftp_extension)version.extensions) != NULL &&
	    (version.extensions & (version.extensions - 1)) != 0)
		abort(); /* a name for several */
	p = *packet;
	if (sftp_get_status(&p, &status)) {
		inside(status.message, data, size);
		if (sftp_status_name(status.code) == NULL)
			abort();
	}
	p = *packet;
	if (sftp_get_handle(&p, &b)) {
		inside(b, data, size);
		ask_by_handle(&out, p.id, b);
	}
	p = *packet;
	if (sftp_get_data(&p, &b))
		inside(b, data, size);
	p = *packet;
	if (sftp_get_attrs(&p, &attrs))
		ask_by_name(&out, p.id, (struct sftp_bytes){ "x", 1 }, &attrs);
	p = *packet;
	(void)sftp_get_statvfs(&p, &vfs);
	p = *packet;
	(void)sftp_get_limits(&p, &limits);
	p = *packet;
	if (sftp_get_names(&p, &n))
		for (uint32_t i = 0; i < n && sftp_get_name(&p, &b, &attrs); i++) {
			inside(b, data, size);
			ask_by_name(&out, p.id, b, &attrs);
		}
	buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sftp_packet p;
	size_t at = 0;
	long n;

	while ((n = sftp_packet((const char *)data + at, size - at, &p)) > 0) {
		if ((size_t)n > size - at)
			abort();
		read_all(&p, data, size);
		at += (size_t)n;
	}
	return 0;
}
