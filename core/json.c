#include "core/json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/utf8.h"

static void comma(struct buf *out)
{
	char last = out->len == 0 ? '{' : out->data[out->len - 1];

	if (last != '{' && last != '[' && last != ':')
		buf_add_byte(out, ',');
}

void json_key(struct buf *out, const char *key)
{
	comma(out);
	json_string(out, key, strlen(key));
	buf_add_byte(out, ':');
}

void json_open(struct buf *out, char bracket)
{
	comma(out);
	buf_add_byte(out, (unsigned char)bracket);
}

void json_close(struct buf *out, char bracket)
{
	buf_add_byte(out, (unsigned char)bracket);
}

void json_string(struct buf *out, const char *s, size_t len)
{
	buf_add_byte(out, '"');
	for (size_t i = 0; i < len;) {
		unsigned char c = (unsigned char)s[i];
		size_t n = utf8_length(s + i, len - i);

		if (n == 0)
			buf_printf(out, "\\udc%02x", c);
		else if (c == '"' || c == '\\')
			buf_printf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			buf_printf(out, "\\u%04x", c);
		else
			buf_add(out, s + i, n);
		i += n == 0 ? 1 : n;
	}
	buf_add_byte(out, '"');
}

void json_put_bytes(struct buf *out, const char *key, const char *s, size_t len)
{
	json_key(out, key);
	json_string(out, s, len);
}

void json_put_string(struct buf *out, const char *key, const char *s)
{
	if (s != NULL) {
		json_put_bytes(out, key, s, strlen(s));
		return;
	}
	json_key(out, key);
	buf_add_str(out, "null");
}

void json_put_u64(struct buf *out, const char *key, uint64_t v)
{
	json_key(out, key);
	buf_printf(out, "%" PRIu64, v);
}

void json_put_double(struct buf *out, const char *key, double v)
{
	json_key(out, key);
	buf_printf(out, "%.3f", isfinite(v) ? v : 0.0);
}

void json_put_bool(struct buf *out, const char *key, bool v)
{
	json_key(out, key);
	buf_add_str(out, v ? "true" : "false");
}
