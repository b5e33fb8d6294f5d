/*
 * receiver_source.h - the sender's tree as the receiver's engine sees it: a source end (fileops.h) whose operations are
 * questions over the connection, and the stream of content that its open files are.
 *
 * What an ITEM brought along (receiver_source_prime) is answered without asking. A file's `impl` is a struct
 * remote_file; the target end's store calls remote_file_read with a sink for what comes.
 */
#ifndef FANSYNCD_TRANSPORTS_RECEIVER_SOURCE_H
#define FANSYNCD_TRANSPORTS_RECEIVER_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transports/fileops.h"
#include "transports/receiver_owners.h"
#include "transports/tcp_frames.h"
#include "transports/tcp_stream.h"

struct receiver_source;
struct remote_file;

struct receiver_source_setup {
	struct loop *loop;
	struct tcp_stream *stream;	/* outlives it */
	uint64_t credit;		/* that WELCOME gives: content beyond it is a broken rule */
	bool both_ways;			/* listings tell what is archived */
	bool same;			/* the sender takes UNLESS */
	bool parts;			/* FINER says how many */
	struct receiver_owners *owners; /* whose everything is here; outlives it */
};

/* NULL on failure. */
struct receiver_source *receiver_source_new(const struct receiver_source_setup *setup, struct err *err);
/* Pending operations are dropped without callbacks. */
void receiver_source_free(struct receiver_source *s);
struct fileops_end receiver_source_end(struct receiver_source *s);

/* Content of a file, or the text of a symlink, that came with its item; copied. What there is no room for is asked for
 * when it is needed. The credit that content took comes back when it is used or forgotten. false: it took more credit
 * than there is. */
bool receiver_source_prime(struct receiver_source *s, const struct tcp_item *item, struct err *err);
/* That item is over: what was not used is forgotten. */
void receiver_source_unprime(struct receiver_source *s, const char *path, size_t len);

/* Both ways: what is archived of a path, as mirror_agreed.get has it. */
enum fileops_result receiver_source_agreed(struct receiver_source *s, struct fileop *op, const char *path, size_t len);

/* Take an ANSWER, LISTING, SAME, OPENED, DATA, HOLE, COPY or END. false: it breaks a rule. */
bool receiver_source_frame(struct receiver_source *s, uint8_t type, const char *payload, size_t len, struct err *err);

/* Who takes what a file's content is made of, in the order of offsets, without gaps. A sink that fails says so once and
 * is not called again; the rest is dropped. */
struct remote_sink {
	enum fileops_result (*data)(void *ctx, uint64_t offset, const void *p, size_t n, struct err *err);
	enum fileops_result (*hole)(void *ctx, uint64_t offset, uint64_t n, struct err *err);
	enum fileops_result (*copy)(void *ctx, uint64_t offset, uint64_t n, uint64_t from, struct err *err);
	/* The last call, unless `dropped` is. OK: `size` bytes, their digest. */
	void (*end)(void *ctx, enum fileops_result result, uint64_t size, const unsigned char digest[16],
		    const struct err *why);
	/* The file was closed, or the session is over: nothing follows. */
	void (*dropped)(void *ctx);
	void *ctx;
};

/* Who will take the content from `offset` to `size`, and nothing else. */
void remote_file_sink(struct remote_file *f, uint64_t offset, uint64_t size, const struct remote_sink *sink);
/* Have it sent, once. For what an item brought along the sink is called before this returns. */
void remote_file_read(struct remote_file *f);
/* It can't be used: the sink's `end`. */
void remote_file_fail(struct remote_file *f, enum fileops_result result, const struct err *why);
/* The old file, for the sink's `copy`: a descriptor that lives as long as the file; -1: there is none. */
int remote_file_base(const struct remote_file *f);

#endif
