/*
 * tcp_options.h - what a HELLO's options say is to be mirrored, between sync_options and bytes. Pure.
 *
 * The receiver's engine runs by the sender's options: it is given a struct sync_options of its own, in which only what
 * an engine looks at is set.
 */
#ifndef FANSYNCD_TRANSPORTS_TCP_OPTIONS_H
#define FANSYNCD_TRANSPORTS_TCP_OPTIONS_H

#include "core/buf.h"
#include "core/err.h"
#include "core/options.h"

void tcp_put_options(struct buf *out, const struct sync_options *opt);
/* The directory that is sent: which one it is on its host. */
void tcp_put_root(struct buf *out, uint64_t dev, uint64_t ino);
/* Zeros when it is not told. */
void tcp_get_root(const char *p, size_t len, uint64_t *dev, uint64_t *ino);
/* The sender's real time when it says so. */
void tcp_put_clock(struct buf *out, int64_t now_ns);
/* false: it is not told. */
bool tcp_get_clock(const char *p, size_t len, int64_t *now_ns);
/* NULL: `err` says which rule or option is not understood. Freed by tcp_options_free. */
struct sync_options *tcp_get_options(const char *p, size_t len, struct err *err);
void tcp_options_free(struct sync_options *opt);

#endif
