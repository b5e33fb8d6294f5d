/*
 * sftp_client.h - the client's side of one SFTP connection: many requests in flight, each with its own callback.
 *
 * A request is begun, its packet appended to the buffer that it was given, and ended; its reply comes from the loop, in
 * any order. What is under way is bounded by number and bytes: who has much to ask looks at sftp_client_room first. A
 * packet that the server must not send, silence of the server, and the stream's own end are all `broken`: requests
 * without a reply get none, and nothing more is called back. `broken` comes from the loop, too, never from inside a
 * call.
 */
#ifndef FANSYNCD_TRANSPORTS_SFTP_CLIENT_H
#define FANSYNCD_TRANSPORTS_SFTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/loop.h"
#include "transports/sftp_codec.h"
#include "transports/sftp_stream.h"

struct sftp_client;

struct sftp_client_events {
	void *ctx;
	/* Versions and limits are known: requests may begin. */
	void (*ready)(void *ctx);
	/* There was no room, and there is again. */
	void (*room)(void *ctx);
	void (*broken)(void *ctx, const struct err *why);
};

/* `reply` is borrowed; read it with the codec's functions. A body that makes no sense: sftp_client_malformed. */
typedef void sftp_reply_fn(void *ctx, struct sftp_packet *reply);

struct sftp_client_spec {
	struct loop *loop;
	const struct sync_options *opt;
	const struct sftp_stream_kind *kind;
	int lookups;	     /* see struct sftp_stream_events */
	const char *account; /* the same */
};

/* What is in flight before there is no room; a request of any size may be begun while there is. In bytes as much as
 * keeps the path busy: what is beyond that only fills buffers of two programs and two kernels, and each byte comes from
 * memory instead of a cache. The path is as long as the quickest answer took that an idle server gave; the most until
 * there was one. */
#define SFTP_WINDOW_REQUESTS 1024u
#define SFTP_WINDOW_BYTES_NEAR (256u * 1024)
#define SFTP_WINDOW_BYTES (4u * 1024 * 1024)
/* The most that one READ or WRITE carries: larger packets win nothing, and each is one more buffer. */
#define SFTP_DATA_MAX (255u * 1024)

/* Begin to connect. NULL on failure. */
struct sftp_client *sftp_client_open(const struct sftp_client_spec *spec, const struct sftp_client_events *events,
				     struct err *err);
/* Nothing is called back from now on, `broken` neither: whom its requests were for is gone. At any time; it is to be
 * closed later. NULL is fine. */
void sftp_client_abandon(struct sftp_client *c);
/* Not from within its own callbacks. NULL is fine. */
void sftp_client_close(struct sftp_client *c);

bool sftp_client_ready(const struct sftp_client *c);
bool sftp_client_room(const struct sftp_client *c);
/* Once ready. */
unsigned sftp_client_extensions(const struct sftp_client *c);
/* Never 0: defaults where the server does not say. */
const struct sftp_limits *sftp_client_limits(const struct sftp_client *c);

/* The buffer for the packet of a new request, and its id. NULL: more requests are under way than there are slots for,
 * or the connection is broken (then `broken` was or will be called). */
struct buf *sftp_client_begin(struct sftp_client *c, sftp_reply_fn *fn, void *ctx, uint32_t *id);
/* The packet is complete. false: it was too large, or there was no memory; nothing was sent, fn is not called. */
bool sftp_client_end(struct sftp_client *c, uint32_t id);
/* What was gathered leaves now; otherwise with the loop's next round. */
void sftp_client_flush(struct sftp_client *c);
/* From a reply's callback: the body makes no sense. The connection breaks. */
void sftp_client_malformed(struct sftp_client *c);

#endif
