/*
 * tcp_private.h - what the files of the sending side share (tcp.c, tcp_validate.c, tcp_greeting.c, tcp_serve.c,
 * tcp_answers.c, tcp_listings.c, tcp_memory.c). Included by them alone.
 */
#ifndef FANSYNCD_TRANSPORTS_TCP_PRIVATE_H
#define FANSYNCD_TRANSPORTS_TCP_PRIVATE_H

#include <time.h>

#include "core/exam.h"
#include "core/options.h"
#include "transports/tcp_serve.h"
#include "transports/tls.h"

/* The blocks of one version of a file. */
struct tcp_blocks {
	struct tcp_blocks *newer, *older;
	char *path;
	size_t path_len;
	uint64_t size;
	struct timespec mtime;
	uint32_t block;
	uint64_t *hash; /* XXH3-64 of each */
	size_t n, cap;
};

/* As struct transport's. */
int tcp_validate(struct sync_options *opt, struct err *err);

/* The same: a handshake, and no work. */
void tcp_examine(const struct sync_options *opt, struct exam *x);

/* As the section says; NULL for plaintext. */
int tcp_make_tls(const struct sync_options *opt, struct tls_context **out, struct err *err);
/* A REFUSE or BYE: always false, with the reason. */
bool tcp_read_refusal(const char *payload, size_t len, struct err *err);

/* What a receiver is shown of an entry, with or without the time of the last change of its inode. */
struct tcp_state tcp_state_of(const struct stat *st, bool ctime);
/* Excluded, or a temporary file: it does not exist for a receiver. */
bool tcp_hidden(const struct filter *filter, const char *path, size_t len, bool is_dir);

/* Whether most of a file's content is not where it was; `old`: the blocks that the receiver has. A look at a few of
 * them. `piece` has room for a block. */
bool tcp_most_differs(int fd, uint64_t size, const struct tcp_blocks *old, unsigned char *piece);

/* Directories that a receiver asks for, listed one after the other, as fast as the stream takes it: one is held at a
 * time. false: it asks for too much, or the stream is lost. */
struct tcp_listings;
struct tcp_listings *tcp_listings_new(const struct tcp_serve_setup *setup);
void tcp_listings_free(struct tcp_listings *s);
bool tcp_listings_add(struct tcp_listings *s, const struct tcp_request *r);
/* UNLESS: many of them, each of which need not be shown if it has the digest that is said with it. */
bool tcp_listings_unless(struct tcp_listings *s, const char *payload, size_t len);
bool tcp_listings_pump(struct tcp_listings *s);

/* Answers to LOOK, READLINK, XATTRS, AGREED, DIGEST_OF. false: it makes no sense, or the stream is lost. */
struct tcp_answers;
struct tcp_answers *tcp_answers_new(const struct tcp_serve_setup *setup);
void tcp_answers_free(struct tcp_answers *s);
bool tcp_answers_give(struct tcp_answers *s, enum tcp_frame asked, const struct tcp_request *r);
bool tcp_answers_send(struct tcp_answers *s, enum tcp_frame asked, const struct tcp_answer *a);

/* The size of a file's blocks. */
uint32_t tcp_block_for(uint64_t size);
void tcp_blocks_free(struct tcp_blocks *b);
/* false: memory. */
bool tcp_blocks_add(struct tcp_blocks *b, uint64_t hash);
/* Those of that version; they are the caller's. NULL: not remembered. */
struct tcp_blocks *tcp_memory_take(struct tcp_memory *m, const char *path, size_t len, uint64_t size,
				   const struct timespec *mtime);
/* Remember; takes `b`, and drops what was sent longest ago. */
void tcp_memory_keep(struct tcp_memory *m, struct tcp_blocks *b);

#endif
