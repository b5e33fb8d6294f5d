#include "transports/sftp_hosts.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "transports/sftp_crypto.h"

#define NAME_MAX_BYTES 1100
#define BLOB_MAX (16u * 1024)
#define DEFAULT_PORT 22

struct span {
	const char *p;
	size_t n;
};

static bool is(struct span s, const char *text)
{
	return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

/* The next word of a line. */
static struct span word(struct span *line)
{
	struct span w;

	while (line->n > 0 && (*line->p == ' ' || *line->p == '\t')) {
		line->p++;
		line->n--;
	}
	w = (struct span){ line->p, 0 };
	while (w.n < line->n && w.p[w.n] != ' ' && w.p[w.n] != '\t' && w.p[w.n] != '\r')
		w.n++;
	line->p += w.n;
	line->n -= w.n;
	return w;
}

bool sftp_hosts_name(struct buf *out, const char *host, uint16_t port)
{
	if (port != DEFAULT_PORT)
		(void)buf_add_byte(out, '[');
	for (; *host != '\0'; host++)
		(void)buf_add_byte(out, (unsigned char)tolower((unsigned char)*host));
	if (port != DEFAULT_PORT)
		(void)buf_printf(out, "]:%u", port);
	return !out->failed;
}

/* `*` and `?`; linear in the name for each star. */
static bool glob(struct span pattern, struct span name)
{
	size_t p = 0, n = 0, star = SIZE_MAX, mark = 0;

	while (n < name.n) {
		if (p < pattern.n && pattern.p[p] == '*') {
			star = p++;
			mark = n;
		} else if (p < pattern.n &&
			   (pattern.p[p] == '?' || tolower((unsigned char)pattern.p[p]) == name.p[n])) {
			p++;
			n++;
		} else if (star != SIZE_MAX) {
			p = star + 1;
			n = ++mark;
		} else {
			return false;
		}
	}
	while (p < pattern.n && pattern.p[p] == '*')
		p++;
	return p == pattern.n;
}

/* Too long for what it is to be, or for want of memory: a line that is left out for that may be one that revokes. */
static bool lacked_memory(const struct buf *b, size_t encoded)
{
	return b->failed && encoded / 4 * 3 + 3 <= b->max;
}

/* |1|SALT|HASH */
static bool hashed(struct span pattern, struct span name, bool *no_memory)
{
	unsigned char want[SFTP_SHA1_LEN];
	const char *bar = pattern.n < 4 ? NULL : memchr(pattern.p + 3, '|', pattern.n - 3);
	struct buf salt, hash;
	size_t salt_n, hash_n;
	bool ok;

	if (bar == NULL || memcmp(pattern.p, "|1|", 3) != 0)
		return false;
	buf_init(&salt, 256);
	buf_init(&hash, 256);
	salt_n = (size_t)(bar - pattern.p) - 3;
	hash_n = pattern.n - (size_t)(bar + 1 - pattern.p);
	ok = sftp_base64_decode(pattern.p + 3, salt_n, &salt) && sftp_base64_decode(bar + 1, hash_n, &hash) &&
	     hash.len == SFTP_SHA1_LEN &&
	     sftp_hmac_sha1(salt.data == NULL ? "" : salt.data, salt.len, name.p, name.n, want) &&
	     memcmp(want, hash.data, SFTP_SHA1_LEN) == 0;
	*no_memory = *no_memory || lacked_memory(&salt, salt_n) || lacked_memory(&hash, hash_n);
	buf_done(&salt);
	buf_done(&hash);
	return ok;
}

/* One `!pattern` that matches refuses the whole line. */
static bool names(struct span patterns, struct span name, bool *no_memory)
{
	bool found = false;

	if (patterns.n > 0 && patterns.p[0] == '|')
		return hashed(patterns, name, no_memory);
	while (patterns.n > 0) {
		const char *comma = memchr(patterns.p, ',', patterns.n);
		struct span one = { patterns.p, comma == NULL ? patterns.n : (size_t)(comma - patterns.p) };
		bool not = one.n > 0 && one.p[0] == '!';

		patterns.p += one.n + (comma == NULL ? 0 : 1);
		patterns.n -= one.n + (comma == NULL ? 0 : 1);
		if (not ) {
			one.p++;
			one.n--;
		}
		if (!glob(one, name))
			continue;
		if (not )
			return false;
		found = true;
	}
	return found;
}

bool sftp_hosts_type(const char *blob, size_t n, char *out, size_t size)
{
	size_t len;

	if (n < 4)
		return false;
	len = (size_t)(unsigned char)blob[2] << 8 | (unsigned char)blob[3];
	if (blob[0] != 0 || blob[1] != 0 || len == 0 || len > n - 4 || len >= size)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isgraph((unsigned char)blob[4 + i]))
			return false;
	memcpy(out, blob + 4, len);
	out[len] = '\0';
	return true;
}

static bool keep(struct sftp_hosts *h, const struct buf *blob, bool revoked, bool bare)
{
	struct sftp_host_key k = { .blob_len = blob->len, .revoked = revoked, .bare = bare };
	struct sftp_host_key *more;
	char type[64];

	if (h->n >= SFTP_HOST_KEYS_MAX || !sftp_hosts_type(blob->data, blob->len, type, sizeof(type)))
		return true;
	k.type = strdup(type);
	k.blob = malloc(blob->len);
	more = realloc(h->keys, (h->n + 1) * sizeof(*more));
	if (more != NULL)
		h->keys = more;
	if (k.type == NULL || k.blob == NULL || more == NULL) {
		free(k.type);
		free(k.blob);
		return false;
	}
	memcpy(k.blob, blob->data, blob->len);
	h->keys[h->n++] = k;
	return true;
}

static bool take_line(struct sftp_hosts *h, struct span line, struct span name, struct span bare)
{
	struct span first = word(&line), type, key;
	bool revoked = is(first, "@revoked"), ok = true, no_memory = false, full;
	struct buf blob;

	if (first.n == 0 || first.p[0] == '#' || (first.p[0] == '@' && !revoked))
		return true;
	if (revoked)
		first = word(&line);
	full = names(first, name, &no_memory);
	if (!full && (bare.n == 0 || !names(first, bare, &no_memory)))
		return !no_memory;
	type = word(&line);
	key = word(&line);
	buf_init(&blob, BLOB_MAX);
	if (type.n > 0 && key.n > 0 && sftp_base64_decode(key.p, key.n, &blob) && blob.len > 0)
		ok = keep(h, &blob, revoked, !full);
	no_memory = no_memory || lacked_memory(&blob, key.n);
	buf_done(&blob);
	return ok && !no_memory;
}

bool sftp_hosts_add(struct sftp_hosts *h, const char *text, size_t n, const char *host, uint16_t port)
{
	struct buf name, bare;
	bool ok;

	buf_init(&name, NAME_MAX_BYTES);
	buf_init(&bare, NAME_MAX_BYTES);
	ok = sftp_hosts_name(&name, host, port) && sftp_hosts_name(&bare, host, DEFAULT_PORT);
	while (ok && n > 0) {
		const char *end = memchr(text, '\n', n);
		size_t len = end == NULL ? n : (size_t)(end - text);

		ok = take_line(h, (struct span){ text, len }, (struct span){ name.data, name.len },
			       (struct span){ bare.data, port == DEFAULT_PORT ? 0 : bare.len });
		text += end == NULL ? len : len + 1;
		n -= end == NULL ? len : len + 1;
	}
	buf_done(&name);
	buf_done(&bare);
	return ok;
}

enum sftp_host_verdict sftp_hosts_check(const struct sftp_hosts *h, const char *blob, size_t n)
{
	enum sftp_host_verdict v = SFTP_HOST_UNKNOWN;

	for (size_t i = 0; i < h->n; i++) {
		const struct sftp_host_key *k = &h->keys[i];
		bool same = k->blob_len == n && memcmp(k->blob, blob, n) == 0;

		if (same && k->revoked)
			return SFTP_HOST_REVOKED;
		if (k->revoked)
			continue;
		if (same)
			v = SFTP_HOST_KNOWN;
		else if (v == SFTP_HOST_UNKNOWN && !k->bare)
			v = SFTP_HOST_CHANGED;
	}
	return v;
}

void sftp_hosts_done(struct sftp_hosts *h)
{
	for (size_t i = 0; i < h->n; i++) {
		free(h->keys[i].type);
		free(h->keys[i].blob);
	}
	free(h->keys);
	*h = (struct sftp_hosts){ 0 };
}
