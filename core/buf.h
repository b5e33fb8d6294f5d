/*
 * buf.h - byte buffers with a ceiling, and spans of borrowed bytes.
 *
 * A `struct buf` owns its memory; the first failed append (ceiling or memory) makes it `failed`, later appends do
 * nothing, and the caller checks once at the end. Nothing here blocks.
 */
#ifndef FANSYNCD_CORE_BUF_H
#define FANSYNCD_CORE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	char *data; /* NULL while empty; not NUL-terminated, see buf_str */
	size_t len;
	size_t cap;
	size_t head; /* bytes at the front that frame_next handed out; it drops them at its next call */
	size_t max;  /* ceiling in bytes */
	bool failed; /* an append was refused: content is incomplete */
};

/* An empty buffer that never grows beyond `max` bytes. Allocates nothing. */
void buf_init(struct buf *b, size_t max);
/* Free the memory; the buffer is empty and usable afterwards. */
void buf_done(struct buf *b);
/* Forget the content and `failed`, keep the memory. */
void buf_clear(struct buf *b);
/* The same of a secret: nothing of it stays in the memory, as far as the buffer did not grow while it was filled. */
void buf_wipe(struct buf *b);
/* Room for `n` more bytes behind len. Returns false (and sets failed) when that cannot be. */
bool buf_reserve(struct buf *b, size_t n);
bool buf_add(struct buf *b, const void *data, size_t n);
bool buf_add_str(struct buf *b, const char *s);
bool buf_add_byte(struct buf *b, unsigned char c);
bool buf_add_u32(struct buf *b, uint32_t v); /* little endian */
bool buf_add_u64(struct buf *b, uint64_t v);
bool buf_add_be32(struct buf *b, uint32_t v); /* big endian, as SSH has it */
bool buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool buf_vprintf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Drop the first n bytes (n <= len). */
void buf_consume(struct buf *b, size_t n);
/* The content as a C string (a NUL is kept behind it); "" when empty or failed to allocate. Borrowed. */
const char *buf_str(struct buf *b);

/* The content as a string of the caller's own, and the buffer is done. NULL: an append had failed, or no memory. */
char *buf_take_str(struct buf *b);

/* A C string of these bytes, which need no NUL behind them (strndup looks for one); the caller frees it. NULL: no
 * memory. */
char *text_dup(const char *p, size_t len);

/* A reader over borrowed bytes: every get checks the length; after one failure all fail. */
struct reader {
	const unsigned char *p;
	size_t left;
	bool failed;
};

void reader_init(struct reader *r, const void *data, size_t len);
uint8_t reader_u8(struct reader *r);
uint32_t reader_u32(struct reader *r);
uint64_t reader_u64(struct reader *r);
uint32_t reader_be32(struct reader *r);
/* n borrowed bytes, or NULL. */
const void *reader_bytes(struct reader *r, size_t n);

#endif
