/*
 * tcp_frames.h - the codec of the tcp transport's frames (docs/PROTOCOL.md has their meaning). Pure.
 *
 * tcp_put_* append a payload to a buffer (check `failed` once); tcp_get_* read one and return false when it breaks a
 * rule: every length, count, enum and path is checked, and nothing may be left over. What they hand out is borrowed
 * from the payload. Lists (acknowledgements, listings, notes) are read entry by entry.
 */
#ifndef FANSYNCD_TRANSPORTS_TCP_FRAMES_H
#define FANSYNCD_TRANSPORTS_TCP_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "core/batch.h"
#include "core/buf.h"
#include "core/entry.h"
#include "core/err.h"
#include "core/exam.h"
#include "core/keep.h"
#include "core/owner_map.h"
#include "core/twoway.h"

#define TCP_MAGIC UINT64_C(0x31636e7973616e66)
#define TCP_VERSION_MIN 1u
#define TCP_VERSION_MAX 1u
#define TCP_HOST_ID 16u
#define TCP_DIGEST 16u
/* Content of one DATA frame, and what an ITEM may bring along. */
#define TCP_DATA_MAX (64u * 1024)
#define TCP_INLINE_MAX (32u * 1024)
/* Hashes in one HASHES frame. */
#define TCP_HASHES_MAX 8192u
/* Blocks that a difference is made of: a power of two. */
#define TCP_BLOCK_MIN (16u * 1024)
#define TCP_BLOCK_MAX (256u * 1024)
bool tcp_block_valid(uint32_t block);
#define TCP_TEXT_MAX 255u
/* Owners whose names are told in one connection, and as many groups. */
#define TCP_NAMES_MAX 4096u
/* What WELCOME gives at least. */
#define TCP_CREDIT_MIN (1024u * 1024)
#define TCP_CHANGES_MIN 128u

enum tcp_frame {
	TCP_PING = 1,
	TCP_HELLO,
	TCP_WELCOME,
	TCP_REFUSE,
	TCP_BYE,
	TCP_WORK = 16,
	TCP_RENAME,
	TCP_ITEM,
	TCP_KEEP,
	TCP_NAME,
	TCP_ACK = 32,
	TCP_FOUND,
	TCP_PROGRESS,
	TCP_DONE,
	TCP_NOTE,
	TCP_MOVED,
	TCP_CONFLICT,
	TCP_LOOK = 48,
	TCP_LIST,
	TCP_READLINK,
	TCP_XATTRS,
	TCP_DIGEST_OF,
	TCP_OPEN,
	TCP_RESTAT,
	TCP_READ,
	TCP_CLOSE_FILE,
	TCP_CREDIT,
	TCP_HASHES,
	TCP_SIGNATURE,
	TCP_AGREED,
	TCP_UNLESS,
	TCP_ANSWER = 64,
	TCP_LISTING,
	TCP_OPENED,
	TCP_DATA,
	TCP_HOLE,
	TCP_COPY,
	TCP_END,
	TCP_SIGN,
	TCP_FINER,
	TCP_SAME,
};

enum tcp_feature {
	TCP_FEATURE_DELTA = 1u << 0,
	TCP_FEATURE_TWOWAY = 1u << 1,
	TCP_FEATURE_RESUME = 1u << 2,
	TCP_FEATURE_MOVED = 1u << 3,
	TCP_FEATURE_ZSTD = 1u << 4,
	TCP_FEATURE_FINER = 1u << 5,
	TCP_FEATURE_SAME = 1u << 6,
	TCP_FEATURE_NAMES = 1u << 7,
	TCP_FEATURE_RENAMES = 1u << 8, /* both ways: they are carried, and told by MOVED */
	TCP_FEATURE_PARTS = 1u << 9,   /* FINER says how many, and may be asked again */
	TCP_FEATURE_STATE = 1u << 10,  /* WELCOME tells the receiver's clock, and what space there is */
	TCP_FEATURE_BOOT = 1u << 11,   /* WELCOME tells which run of the receiver's kernel this is */
	TCP_FEATURE_DOUBT = 1u << 12   /* both ways: archive_in_doubt, of the sender's */
};

/* A byte string inside a payload. */
struct tcp_bytes {
	const char *p;
	size_t len;
};

struct tcp_hello {
	uint16_t version_min, version_max;
	uint32_t features;
	unsigned char host_id[TCP_HOST_ID];
	struct tcp_bytes software, module, sync, options;
};

struct tcp_welcome {
	uint16_t version;
	uint32_t features;
	unsigned char host_id[TCP_HOST_ID];
	struct tcp_bytes software;
	uint32_t caps;
	uint64_t credit;
	uint32_t max_changes;
	uint64_t dev, ino;		 /* of the module's directory */
	struct host_state state;	 /* with that feature */
	unsigned char boot[TCP_HOST_ID]; /* with that feature */
};

enum tcp_kind { TCP_APPLY = 1, TCP_RECONCILE };

struct tcp_work {
	uint64_t id, first;
	enum tcp_kind kind;
	bool may_delete;
	int64_t max_delete;
	uint32_t n_renames, n_items;
	uint32_t n_keeps; /* they come first */
	bool continues;	  /* a further piece of the work before: the limit of deletions is for both together */
	bool unguarded;	  /* the marker does not matter */
};

/* What a number of the sender's is called there. */
struct tcp_name {
	enum owner_kind kind;
	uint32_t id;	       /* not 0 */
	struct tcp_bytes name; /* owner_name_valid */
};

/* A subtree in which nothing may be deleted. */
struct tcp_keep {
	struct tcp_bytes path;
	struct tcp_bytes why; /* empty: it is no failure that something stays */
};

/* What a look saw. */
struct tcp_state {
	enum look look;
	struct stat st; /* as far as the wire has it; zero when ABSENT */
};

struct tcp_item {
	struct tcp_bytes path;
	uint32_t flags, tries;
	struct tcp_state state;
	bool has_archive, has_text, has_content;
	struct twoway_state archive;
	struct tcp_bytes text, content;
	unsigned char digest[TCP_DIGEST];
};

struct tcp_verdict {
	uint64_t seq;
	enum verdict v;
	struct err why;
};

struct tcp_progress {
	struct tcp_bytes phase, path;
	uint64_t files, files_total, bytes, bytes_total;
};

struct tcp_done {
	uint64_t work, files, deletions, renames;
	uint64_t entries; /* deleted, each one below a directory as well */
};

struct tcp_note {
	struct tcp_bytes path;
	struct twoway_state state;
};

struct tcp_conflict {
	struct tcp_bytes path;
	struct twoway_state source, target;
	bool source_won;
};

/* LOOK, LIST, READLINK, XATTRS, DIGEST_OF, OPEN, AGREED. */
struct tcp_request {
	uint32_t id;
	struct tcp_bytes path;
	uint32_t kinds;	      /* XATTRS */
	uint64_t old_size;    /* OPEN */
	struct tcp_state old; /* OPEN */
};

/* A listing that is asked for unless it has that digest: of UNLESS, which asks for many. */
struct tcp_unless {
	uint32_t id;
	struct tcp_bytes path;
	unsigned char digest[TCP_DIGEST];
};

struct tcp_answer {
	uint32_t id;
	uint8_t result; /* enum fileops_result */
	struct err why;
	struct tcp_state state; /* LOOK, RESTAT */
	struct tcp_bytes bytes; /* READLINK, XATTRS */
	unsigned char digest[TCP_DIGEST];
	uint64_t size;
	struct twoway_state agreed; /* AGREED */
};

struct tcp_listing {
	uint32_t id;
	uint8_t result;
	struct err why;
	bool last;
	uint32_t count;
};

struct tcp_list_entry {
	struct tcp_bytes name;
	struct tcp_state state;
	bool unknown; /* it is there, but could not be looked at; state ABSENT */
	bool has_archive;
	struct twoway_state archive;
};

struct tcp_opened {
	uint32_t id;
	uint8_t result;
	struct err why;
	uint32_t file;
	struct tcp_state state;
	bool wants_hashes; /* of the old file's blocks, before it is read */
	uint32_t block;
};

struct tcp_span {
	uint32_t file;
	uint64_t offset, len, from; /* READ: offset to len (the end); COPY: from in the old file */
};

/* Hashes of smaller blocks that are wanted. */
struct tcp_finer {
	uint32_t file, block;
	uint64_t first, n; /* UINT64_MAX: all that there are */
};

struct tcp_end {
	uint32_t file;
	uint8_t result;
	struct err why;
	uint64_t size;
	unsigned char digest[TCP_DIGEST];
	struct tcp_state state;
};

/* ---- writing ---- */

void tcp_put_bytes(struct buf *out, const void *p, size_t len);
void tcp_put_err(struct buf *out, const struct err *e);
void tcp_put_state(struct buf *out, const struct tcp_state *s);
void tcp_put_twoway(struct buf *out, const struct twoway_state *s);
void tcp_put_hello(struct buf *out, const struct tcp_hello *h);
void tcp_put_welcome(struct buf *out, const struct tcp_welcome *w);
void tcp_put_work(struct buf *out, const struct tcp_work *w);
void tcp_put_keep(struct buf *out, const struct keep *k);
void tcp_put_name(struct buf *out, const struct tcp_name *n);
void tcp_put_rename(struct buf *out, const struct batch_rename *r);
/* All but the content, which follows as the payload's rest: its length is written here. */
void tcp_put_item(struct buf *out, const struct tcp_item *item);
/* `count` is set afterwards with tcp_set_count. */
void tcp_put_ack(struct buf *out, uint64_t upto, uint32_t count);
void tcp_put_verdict(struct buf *out, const struct tcp_verdict *v);
void tcp_put_found(struct buf *out, const char *path, size_t len, enum verdict v, const struct err *why);
void tcp_put_progress(struct buf *out, const struct tcp_progress *p);
void tcp_put_done(struct buf *out, const struct tcp_done *d);
void tcp_put_note(struct buf *out, const struct tcp_note *n);
void tcp_put_moved(struct buf *out, const char *from, size_t from_len, const char *to, size_t to_len);
void tcp_put_conflict(struct buf *out, const struct tcp_conflict *c);
void tcp_put_request(struct buf *out, enum tcp_frame type, const struct tcp_request *r);
/* After a u32, the fields that count. */
void tcp_put_unless(struct buf *out, const struct tcp_unless *u);
void tcp_put_answer(struct buf *out, enum tcp_frame asked, const struct tcp_answer *a);
void tcp_put_listing(struct buf *out, const struct tcp_listing *l);
void tcp_put_list_entry(struct buf *out, const struct tcp_list_entry *e);
void tcp_put_opened(struct buf *out, const struct tcp_opened *o);
/* READ, HOLE, COPY, and the head of DATA. */
void tcp_put_span(struct buf *out, enum tcp_frame type, const struct tcp_span *s);
/* `parts`: with that feature the number is told. */
void tcp_put_finer(struct buf *out, const struct tcp_finer *f, bool parts);
void tcp_put_end(struct buf *out, const struct tcp_end *e);
/* What stands for a hole in the digest of END: its offset and length. */
#define TCP_HOLE_BYTES 16u
void tcp_hole_bytes(unsigned char out[TCP_HOLE_BYTES], uint64_t offset, uint64_t len);
/* Overwrite a u32 at an offset of the buffer. */
void tcp_set_u32(struct buf *out, size_t at, uint32_t v);

/* ---- reading ---- */

bool tcp_get_hello(const char *p, size_t len, struct tcp_hello *out);
bool tcp_get_welcome(const char *p, size_t len, struct tcp_welcome *out);
/* REFUSE, BYE. */
bool tcp_get_err(const char *p, size_t len, struct err *out);
bool tcp_get_work(const char *p, size_t len, struct tcp_work *out);
bool tcp_get_keep(const char *p, size_t len, struct tcp_keep *out);
bool tcp_get_name(const char *p, size_t len, struct tcp_name *out);
bool tcp_get_rename(const char *p, size_t len, struct batch_rename *out);
bool tcp_get_item(const char *p, size_t len, struct tcp_item *out);
bool tcp_get_ack(const char *p, size_t len, struct reader *r, uint64_t *upto, uint32_t *count);
bool tcp_next_verdict(struct reader *r, struct tcp_verdict *out);
bool tcp_get_found(const char *p, size_t len, struct tcp_bytes *path, enum verdict *v, struct err *why);
bool tcp_get_progress(const char *p, size_t len, struct tcp_progress *out);
bool tcp_get_done(const char *p, size_t len, struct tcp_done *out);
bool tcp_get_notes(const char *p, size_t len, struct reader *r, uint32_t *count);
bool tcp_next_note(struct reader *r, struct tcp_note *out);
bool tcp_get_moved(const char *p, size_t len, struct tcp_bytes *from, struct tcp_bytes *to);
bool tcp_get_conflict(const char *p, size_t len, struct tcp_conflict *out);
bool tcp_get_request(enum tcp_frame type, const char *p, size_t len, struct tcp_request *out);
/* At least one follows. */
bool tcp_get_unless(const char *p, size_t len, struct reader *r, uint32_t *fields);
bool tcp_next_unless(struct reader *r, struct tcp_unless *out);
/* `asked`: what the request was. */
bool tcp_get_answer(enum tcp_frame asked, const char *p, size_t len, struct tcp_answer *out);
/* The request that an ANSWER, LISTING or OPENED is for: the first field of each. */
bool tcp_get_id(const char *p, size_t len, uint32_t *id);
bool tcp_get_listing(const char *p, size_t len, struct reader *r, struct tcp_listing *out);
bool tcp_next_entry(struct reader *r, struct tcp_list_entry *out);
/* After the last entry: whether nothing is left over. */
bool tcp_all_read(const struct reader *r);
bool tcp_get_opened(const char *p, size_t len, struct tcp_opened *out);
bool tcp_get_span(enum tcp_frame type, const char *p, size_t len, struct tcp_span *out);
/* DATA: `len` is the content's. */
bool tcp_get_data(const char *p, size_t len, struct tcp_span *out, const char **content);
bool tcp_get_finer(const char *p, size_t len, bool parts, struct tcp_finer *out);
bool tcp_get_end(const char *p, size_t len, struct tcp_end *out);

#endif
