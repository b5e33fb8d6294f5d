/*
 * tcp_stream.h - one connection of the tcp transport, either end: socket, TLS, records, frames, heartbeat. In the loop.
 *
 * Frames (core/frame.h) are appended to `out` of the stream and leave when tcp_stream_kick was called or enough has
 * gathered; what arrives is handed out frame by frame. It never writes without being able to read. A peer that keeps
 * silent for the time limit, closes, or breaks a rule ends the stream: `ended` is called once, from the loop.
 * Nothing but TLS' own alerts is said to a peer before its handshake is over.
 */
#ifndef FANSYNCD_TRANSPORTS_TCP_STREAM_H
#define FANSYNCD_TRANSPORTS_TCP_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/loop.h"
#include "core/origins.h"
#include "transports/tls.h"
#include "transports/zstream.h"

/* Of a frame's payload. Content travels in pieces well below it. */
#define TCP_FRAME_MAX (128u * 1024)
/* Type of the frame that the stream sends and swallows itself; the others are transports/tcp_frames.h's. */
#define TCP_FRAME_PING 1u

struct sockaddr_storage;

struct tcp_stream_handler {
	/* The handshake is over: `peer` is a key's or a certificate's name, "" without TLS. */
	void (*ready)(void *ctx, const char *peer);
	/* false: the frame breaks a rule, `err` says which; the stream ends with it. The payload lives for the call. */
	bool (*frame)(void *ctx, uint8_t type, const char *payload, size_t len, struct err *err);
	/* What was queued has left, down to the low mark: more may be given. */
	void (*drained)(void *ctx);
	/* All that had arrived was handed out: a moment to flush. May be NULL. */
	void (*idle)(void *ctx);
	/* The last call. ERR_GONE: the peer ended it in order. */
	void (*ended)(void *ctx, const struct err *why);
	void *ctx;
};

struct tcp_stream_limits {
	int64_t handshake_ns; /* for connecting and TLS together */
	int64_t silence_ns;   /* nothing heard for so long: dead. A quarter of it without sending: a ping */
	int level;	      /* of compression; 0: none; -1: follows the load */
	bool announce_plain;  /* a sender without TLS: says so by the byte 'P' before its first record */
};

struct tcp_stream;

/* Take a socket (connected, or connecting without blocking). `tls` NULL: plaintext. The descriptor is the stream's from
 * here, also on failure (NULL). */
struct tcp_stream *tcp_stream_new(struct loop *loop, int fd, struct tls_context *tls, const struct tcp_stream_limits *l,
				  const struct tcp_stream_handler *h, struct err *err);
/* No callback afterwards; may be called from one. NULL is fine. */
void tcp_stream_free(struct tcp_stream *s);

/* Append a frame; `how` says whether its payload is worth compressing. false: memory or the queue's ceiling, the stream
 * ends soon. */
bool tcp_stream_send(struct tcp_stream *s, uint8_t type, const void *payload, size_t len, enum zstream_how how);
/* A payload that was put together in a buffer, worth compressing. Also false when the buffer failed. */
bool tcp_stream_send_buf(struct tcp_stream *s, unsigned type, const struct buf *payload);
/* The same in two parts, so that content need not be copied behind its header. */
bool tcp_stream_send2(struct tcp_stream *s, uint8_t type, const void *head, size_t head_len, const void *body,
		      size_t body_len, enum zstream_how how);
/* Both ends know zstd: what is sent from here is compressed by it, with a window of 2^`window_log` bytes, and what
 * comes from here on may be. false: memory, the stream ends soon. */
bool tcp_stream_use_zstd(struct tcp_stream *s, unsigned window_log);
/* Let what was appended leave before the next wait. */
void tcp_stream_kick(struct tcp_stream *s);
/* Let it leave now, even while frames are handed out: so that the peer is at work meanwhile. */
void tcp_stream_flush(struct tcp_stream *s);
/* Whether more should be given now; when false, `drained` will follow. */
bool tcp_stream_writable(const struct tcp_stream *s);
/* What the last frame asks for takes longer than a turn of the loop: nothing more is handed out or read until it may go
 * on. The heartbeat goes on meanwhile. */
void tcp_stream_hold(struct tcp_stream *s);
void tcp_stream_go_on(struct tcp_stream *s);
/* End in order once all is sent: the peer sees a clean close. `ended` follows. */
void tcp_stream_finish(struct tcp_stream *s);
/* The other end's address. */
void tcp_stream_peer(const struct tcp_stream *s, unsigned char out[ADDRESS_BYTES]);
void tcp_address_bytes(const struct sockaddr_storage *a, unsigned char out[ADDRESS_BYTES]);
/* A socket that connects, without blocking; -1. */
int tcp_socket_connect(const struct sockaddr_storage *a, unsigned len, int64_t timeout_ns, struct err *err);
/* Bytes on the wire so far. */
uint64_t tcp_stream_bytes_out(const struct tcp_stream *s);

#endif
