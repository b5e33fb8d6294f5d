/*
 * json.h - write JSON into a buffer. Pure.
 *
 * File names are bytes. A byte that is not part of valid UTF-8 is written as the lone surrogate U+DC00 + byte, as
 * Python's "surrogateescape" has it, so that a reader can get the name back exactly.
 */
#ifndef FANSYNCD_CORE_JSON_H
#define FANSYNCD_CORE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

/* A comma if one is due (the last byte is neither '{', '[' nor ':'), then the key and a colon. */
void json_key(struct buf *out, const char *key);
/* A comma if one is due, then the opening bracket of an array's element. */
void json_open(struct buf *out, char bracket);
void json_close(struct buf *out, char bracket);
void json_string(struct buf *out, const char *s, size_t len);
void json_put_string(struct buf *out, const char *key, const char *s); /* NULL: null */
void json_put_bytes(struct buf *out, const char *key, const char *s, size_t len);
void json_put_u64(struct buf *out, const char *key, uint64_t v);
void json_put_double(struct buf *out, const char *key, double v);
void json_put_bool(struct buf *out, const char *key, bool v);

#endif
