/*
 * tcp_serve.h - the sender's answers: its tree as far as the filter shows it, and the content of files, as a difference
 * to what the receiver has where that is less. In the loop; reads local files only.
 *
 * A receiver is a stranger's program: what the rules exclude does not exist for it, and no path leads out of the
 * source.
 */
#ifndef FANSYNCD_TRANSPORTS_TCP_SERVE_H
#define FANSYNCD_TRANSPORTS_TCP_SERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/filter.h"
#include "transports/fileops.h"
#include "transports/tcp_frames.h"
#include "transports/tcp_names.h"
#include "transports/tcp_stream.h"
#include "transports/tcp_twoway.h"
#include "transports/throttle.h"

struct tcp_serve;

struct tcp_serve_setup {
	struct tcp_stream *stream; /* outlives it */
	struct fileops_end source; /* local; answers at once */
	const struct filter *filter;
	bool sparse;		   /* tell of holes */
	struct throttle *throttle; /* of content; whoever owns it calls tcp_serve_pump when the wait is over */
	uint32_t features;	   /* enum tcp_feature, as agreed */
	struct tcp_twoway *twoway; /* NULL: one way */
	struct tcp_memory *memory; /* of what was sent; NULL: none */
	struct tcp_names *names;   /* of owners; NULL: they are not told */
	/* true: of a file that is opened its content is not for this work (transport_env.hand_over). May be NULL. */
	bool (*hand_over)(void *ctx, const char *path, size_t len, const struct stat *st);
	void *hand_over_ctx;
};

struct tcp_serve *tcp_serve_new(const struct tcp_serve_setup *setup);
void tcp_serve_free(struct tcp_serve *s);
/* LOOK to CLOSE, CREDIT, HASHES, SIGNATURE. false: it breaks a rule. */
bool tcp_serve_frame(struct tcp_serve *s, uint8_t type, const char *payload, size_t len, struct err *err);
/* Send what can be sent now: after frames, and when the stream drained. */
void tcp_serve_pump(struct tcp_serve *s);
/* It has had its turn, and has more to do although nothing was sent: to be called again from the loop. */
bool tcp_serve_goes_on(const struct tcp_serve *s);
/* In its last turn it went through what stands at the receiver since another connection: nothing is heard of that. */
bool tcp_serve_catches_up(const struct tcp_serve *s);
/* Whether so much credit is there, and `reserve` beside it; takes it. */
bool tcp_serve_take_credit(struct tcp_serve *s, uint64_t bytes, uint64_t reserve);
void tcp_serve_add_credit(struct tcp_serve *s, uint64_t bytes);

/* The hashes of the blocks of files that were sent, by their size and mtime: kept across connections, bounded. */
struct tcp_memory;
struct tcp_memory *tcp_memory_new(size_t max_bytes);
void tcp_memory_free(struct tcp_memory *m);

#endif
