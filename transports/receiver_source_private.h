/*
 * receiver_source_private.h - what receiver_source.c (questions, and their answers) and receiver_files.c (open files,
 * and their content) share. Included by them alone.
 */
#ifndef FANSYNCD_TRANSPORTS_RECEIVER_SOURCE_PRIVATE_H
#define FANSYNCD_TRANSPORTS_RECEIVER_SOURCE_PRIVATE_H

#include "transports/receiver_asks.h"
#include "transports/receiver_copies.h"
#include "transports/receiver_old.h"
#include "transports/receiver_primed.h"
#include "transports/receiver_source.h"

#define RECEIVER_BUCKETS 4096u

struct remote_file {
	struct receiver_source *owner;
	struct remote_file *next; /* in its bucket */
	uint32_t id;
	struct tcp_state after;
	bool ended;  /* END came: `after` is set */
	int base_fd; /* what is to be replaced, as far as a difference may be sent; -1 */
	struct remote_sink sink;
	bool reading, asked;	/* its sink is there; READ was sent */
	uint64_t at;		/* where the next piece must begin */
	uint64_t to;		/* nothing beyond was asked for */
	struct fileop *opening; /* complete when the hashes of the old file's blocks were sent */
	struct old_reading old;
	bool asked_finer, asked_sign;
	uint64_t base_size;
	/* Came with its item: the whole content. */
	char *content;
	size_t content_len;
	unsigned char digest[TCP_DIGEST];
};

struct question;

struct receiver_source {
	struct tcp_stream *stream;
	struct receiver_old *old;
	uint32_t last_id;
	struct question *questions[RECEIVER_BUCKETS];
	struct remote_file *files[RECEIVER_BUCKETS];
	struct receiver_primed *primed; /* what came along with items */
	struct receiver_copies *copies;
	uint64_t credit; /* what the sender may still send */
	uint64_t owed;	 /* credit to be given back */
	struct receiver_owners *owners;
	size_t listed;
	bool both_ways, same, parts;
	struct receiver_asks asks;
	bool holding; /* more of them may come at once */
	struct buf scratch;
};

/* ---- receiver_files.c ---- */

/* A rule is broken: always false. */
bool receiver_broken(struct err *err, const char *what);
/* Of content that came. false: it is more than there is. */
bool receiver_take_credit(struct receiver_source *s, uint64_t bytes, struct err *err);
/* It is used, or forgotten. */
void receiver_give_credit(struct receiver_source *s, uint64_t bytes);
/* NULL: out of memory; not there. */
struct remote_file *remote_file_new(struct receiver_source *s, uint32_t id);
struct remote_file *remote_file_find(struct receiver_source *s, uint32_t id);
/* It is in no bucket any more. */
void remote_file_free(struct remote_file *f);
/* Its open is complete when the hashes of the old file's blocks were sent. */
void receiver_files_hash_old(struct remote_file *f, struct fileop *opening, uint32_t block);
/* DATA, HOLE, COPY, END, SIGN, FINER. false: it breaks a rule. */
bool receiver_files_frame(struct receiver_source *s, uint8_t type, const char *payload, size_t len, struct err *err);

#endif
