/*
 * sftp_stream.h - a connection to an SFTP server as a stream of bytes, whoever carries it: libssh2 (sftp_ssh.c) or an
 * ssh process (sftp_pipe.c).
 *
 * Nothing blocks. Callbacks come from the loop, never from inside open, write or close; a stream is not closed from
 * within its own callbacks. After `ended` nothing more is called back.
 */
#ifndef FANSYNCD_TRANSPORTS_SFTP_STREAM_H
#define FANSYNCD_TRANSPORTS_SFTP_STREAM_H

#include <stddef.h>

#include "core/err.h"
#include "core/loop.h"
#include "core/options.h"

struct sftp_stream_events {
	void *ctx;
	int lookups;	     /* who is asked for names (core/lookups.h); 0: nobody but ourselves */
	const char *account; /* who logs in where the host names nobody; NULL: who we are. Borrowed by open */
	/* The server is there, its SFTP subsystem was asked for: bytes may be written. */
	void (*opened)(void *ctx);
	/* Bytes came in; borrowed for the call. */
	void (*came)(void *ctx, const char *data, size_t n);
	/* write takes bytes again. */
	void (*writable)(void *ctx);
	/* The peer answered, if only to say that it lives. */
	void (*alive)(void *ctx);
	/* It could not be opened, or it is over. */
	void (*ended)(void *ctx, const struct err *why);
};

struct sftp_stream;

struct sftp_stream_kind {
	/* Start to connect. `opt` and its strings outlive the stream, `events` is copied. NULL on failure. */
	struct sftp_stream *(*open)(struct loop *loop, const struct sync_options *opt,
				    const struct sftp_stream_events *events, struct err *err);
	/* Takes up to n bytes and returns how many: less means that `writable` follows. */
	size_t (*write)(struct sftp_stream *s, const char *data, size_t n);
	void (*close)(struct sftp_stream *s);
};

extern const struct sftp_stream_kind sftp_stream_ssh, sftp_stream_pipe;

#endif
