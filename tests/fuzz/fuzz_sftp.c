/* LINK: transports/sftp_codec.c core/buf.c */
/* MODULE: transports/sftp_codec.c */
/* A server's stream: packets cut out of it, each read by every function that reads one. What is decoded lies within the
 * packet, and what we would send back of it is a whole packet again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "transports/sftp_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct sftp_bytes b, const uint8_t *data, size_t size)
{
	const uint8_t *p = (const uint8_t *)b.p;

	if (b.n > 0 && (p < data || p + b.n > data + size))
		abort();
}

static void whole(struct buf *out)
{
	struct sftp_packet p;

	if (!out->failed && sftp_packet(out->data, out->len, &p) != (long)out->len)
		abort();
	buf_clear(out);
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

	buf_init(&out, 1u << 20);
	(void)sftp_get_version(&p, &version);
	p = *packet;
	if (sftp_get_status(&p, &status))
		inside(status.message, data, size);
	p = *packet;
	if (sftp_get_handle(&p, &b)) {
		inside(b, data, size);
		sftp_put_handle(&out, SFTP_CLOSE, p.id, b);
		whole(&out);
	}
	p = *packet;
	if (sftp_get_data(&p, &b))
		inside(b, data, size);
	p = *packet;
	if (sftp_get_attrs(&p, &attrs)) {
		sftp_put_attrs(&out, SFTP_SETSTAT, p.id, (struct sftp_bytes){ "x", 1 }, &attrs);
		whole(&out);
	}
	p = *packet;
	(void)sftp_get_statvfs(&p, &vfs);
	p = *packet;
	(void)sftp_get_limits(&p, &limits);
	p = *packet;
	if (sftp_get_names(&p, &n))
		for (uint32_t i = 0; i < n && sftp_get_name(&p, &b, &attrs); i++) {
			inside(b, data, size);
			sftp_put_path(&out, SFTP_LSTAT, p.id, b);
			whole(&out);
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
