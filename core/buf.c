#include "core/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){ .max = max };
}

void buf_done(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ .max = b->max };
}

void buf_wipe(struct buf *b)
{
	if (b->data != NULL)
		explicit_bzero(b->data, b->cap);
	buf_clear(b);
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	b->head = 0;
	b->failed = false;
}

bool buf_reserve(struct buf *b, size_t n)
{
	size_t want, cap;
	char *data;

	if (b->failed || n > b->max || b->len > b->max - n || b->len + n == SIZE_MAX) {
		b->failed = true;
		return false;
	}
	want = b->len + n + 1; /* one more for buf_str's NUL */
	if (want <= b->cap)
		return true;
	cap = b->cap < 64 ? 64 : b->cap;
	while (cap < want)
		cap = cap > SIZE_MAX / 2 ? want : cap + cap / 2 + 1;
	data = realloc(b->data, cap);
	if (data == NULL) {
		b->failed = true;
		return false;
	}
	b->data = data;
	b->cap = cap;
	return true;
}

bool buf_add(struct buf *b, const void *data, size_t n)
{
	if (!buf_reserve(b, n))
		return false;
	if (n > 0)
		memcpy(b->data + b->len, data, n);
	b->len += n;
	return true;
}

bool buf_add_str(struct buf *b, const char *s)
{
	return buf_add(b, s, strlen(s));
}

bool buf_add_byte(struct buf *b, unsigned char c)
{
	return buf_add(b, &c, 1);
}

bool buf_add_u32(struct buf *b, uint32_t v)
{
	unsigned char raw[4];

	for (size_t i = 0; i < sizeof(raw); i++)
		raw[i] = (unsigned char)(v >> (8 * i));
	return buf_add(b, raw, sizeof(raw));
}

bool buf_add_u64(struct buf *b, uint64_t v)
{
	unsigned char raw[8];

	for (size_t i = 0; i < sizeof(raw); i++)
		raw[i] = (unsigned char)(v >> (8 * i));
	return buf_add(b, raw, sizeof(raw));
}

bool buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0 || !buf_reserve(b, (size_t)n)) {
		b->failed = true;
		return false;
	}
	(void)vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
	b->len += (size_t)n;
	return true;
}

bool buf_add_be32(struct buf *b, uint32_t v)
{
	const unsigned char bytes[4] = { (unsigned char)(v >> 24), (unsigned char)(v >> 16), (unsigned char)(v >> 8),
					 (unsigned char)v };

	return buf_add(b, bytes, sizeof(bytes));
}

bool buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	bool ok;

	va_start(ap, fmt);
	ok = buf_vprintf(b, fmt, ap);
	va_end(ap);
	return ok;
}

void buf_consume(struct buf *b, size_t n)
{
	b->head = b->head > n ? b->head - n : 0;
	if (n >= b->len) {
		b->head = 0;
		b->len = 0;
		return;
	}
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
}

const char *buf_str(struct buf *b)
{
	if (b->data == NULL)
		return "";
	b->data[b->len] = '\0';
	return b->data;
}

char *buf_take_str(struct buf *b)
{
	char *text = b->failed ? NULL : strdup(buf_str(b));

	buf_done(b);
	return text;
}

void reader_init(struct reader *r, const void *data, size_t len)
{
	static const unsigned char none[1];

	r->p = data != NULL ? data : none; /* so that zero bytes of nothing are not NULL, which means failure */
	r->left = len;
	r->failed = false;
}

const void *reader_bytes(struct reader *r, size_t n)
{
	const unsigned char *p = r->p;

	if (r->failed || n > r->left) {
		r->failed = true;
		return NULL;
	}
	r->p += n;
	r->left -= n;
	return p;
}

static uint64_t reader_le(struct reader *r, size_t n)
{
	const unsigned char *p = reader_bytes(r, n);
	uint64_t v = 0;

	if (p == NULL)
		return 0;
	for (size_t i = 0; i < n; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

uint8_t reader_u8(struct reader *r)
{
	return (uint8_t)reader_le(r, 1);
}

uint32_t reader_u32(struct reader *r)
{
	return (uint32_t)reader_le(r, 4);
}

uint64_t reader_u64(struct reader *r)
{
	return reader_le(r, 8);
}

uint32_t reader_be32(struct reader *r)
{
	const unsigned char *p = reader_bytes(r, 4);

	return p == NULL ? 0 : (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

char *text_dup(const char *p, size_t len)
{
	char *text = malloc(len + 1);

	if (text == NULL)
		return NULL;
	if (len > 0)
		memcpy(text, p, len);
	text[len] = '\0';
	return text;
}
