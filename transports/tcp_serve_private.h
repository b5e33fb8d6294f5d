/*
 * tcp_serve_private.h - what tcp_serve.c (files, and the turns they get) and tcp_content.c (what a turn sends) share.
 * Included by them alone.
 */
#ifndef FANSYNCD_TRANSPORTS_TCP_SERVE_PRIVATE_H
#define FANSYNCD_TRANSPORTS_TCP_SERVE_PRIVATE_H

#include <sys/stat.h>

#include "transports/delta.h"
#include "transports/tcp_private.h"

#define TCP_SERVE_BUCKETS 1024u
/* One turn of one file. */
#define TURN_BYTES (256u * 1024)
/* What a receiver hashes at first of a file that is not remembered, when it knows FINER; a turn. Of a log that grew
 * little is asked besides. */
#define RUN TCP_BLOCK_MAX
/* Hashed without being sent, before somebody else gets the loop. */
#define HASHED_BYTES (8u * 1024 * 1024)

struct served {
	struct served *next; /* in its bucket */
	struct served *next_active, *prev_active;
	uint32_t id;
	struct fileops_file file;
	struct stat st;
	char *path;
	size_t path_len;
	bool reading;
	uint64_t at, end;  /* of what was asked for */
	uint64_t from;	   /* what is before stands at the receiver: it is hashed, not sent */
	uint64_t fed;	   /* read so far, where content that moved is looked for */
	uint64_t data_end; /* bytes below it are data for sure */
	uint64_t run;	   /* bytes before `at` that the receiver has there as well, and was not told of */
	void *digest;	   /* an XXH3_state_t: of what was read of it so far */
	/* A difference: */
	uint64_t old_hashes;	/* that may still come */
	size_t n_hashes;	/* that came */
	uint32_t block;		/* 0: none is made */
	struct tcp_blocks *old; /* what the receiver has; NULL: not known (yet) */
	struct tcp_blocks *new; /* of what is sent now; NULL: not gathered */
	bool coarse;		/* `old` is of larger blocks (RUN) until FINER was asked */
	bool awaits_finer;	/* more of `old`, or of `finer`, is on its way */
	/* Smaller blocks of a part of a file of which larger ones are known, from block `finer_first` to `finer_end`:
	 */
	struct tcp_blocks finer;
	uint64_t finer_first, finer_end; /* equal: none were asked for */
	unsigned finer_runs;		 /* that the last question was for */
	bool may_have_moved;		 /* to be looked at when it is there */
	bool wants_hashes;
	uint64_t old_size;
	struct delta_maker *moved; /* content that moved is looked for; there is one at a time */
	bool awaits_signature;
};

struct tcp_serve {
	struct tcp_serve_setup up;
	struct served *files[TCP_SERVE_BUCKETS];
	struct served *active; /* round; the next one to be served */
	struct tcp_answers *answers;
	struct tcp_listings *listings;
	size_t n_hashes; /* of all files' `old` that came in HASHES */
	size_t n_files;
	struct served *moved; /* the file that has a maker */
	uint32_t last_id;
	uint64_t credit;
	uint64_t hashed;  /* in this round, without being sent */
	bool catching_up; /* in this round: what stands at the receiver since another connection was hashed */
	struct buf scratch;
	unsigned char *piece; /* TURN_BYTES */
};

/* ---- tcp_serve.c ---- */

struct served *tcp_serve_find(struct tcp_serve *s, uint32_t id);
/* It gets turns from now on; or not any more, until its hashes have come, or it is read again. */
void tcp_serve_activate(struct tcp_serve *s, struct served *f);
void tcp_serve_deactivate(struct tcp_serve *s, struct served *f);
/* `scratch` as a frame. false: the stream is lost. */
bool tcp_serve_send(struct tcp_serve *s, enum tcp_frame type);

/* ---- tcp_content.c ---- */

/* A file was opened: whether and how a difference is made. */
void tcp_content_plan(struct tcp_serve *s, struct served *f, const struct tcp_request *r);
/* READ: its turns begin, or what they need is asked for first. */
void tcp_content_begin(struct tcp_serve *s, struct served *f, const struct tcp_span *span);
/* HASHES, SIGNATURE. false: it breaks a rule. */
bool tcp_content_hashes(struct tcp_serve *s, const char *payload, size_t len);
bool tcp_content_signature(struct tcp_serve *s, const char *payload, size_t len);
/* false: the stream is lost. */
bool tcp_content_turn(struct tcp_serve *s, struct served *f);
/* It is closed: what it holds of the receiver's file and of its own blocks goes. */
void tcp_content_forget(struct tcp_serve *s, struct served *f);

#endif
