#include "transports/sftp_kex.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define KEXINIT 20
#define COOKIE 16
#define LINES_MAX 64

/* Up to and with the line that begins with SSH-. 0: not there. */
static size_t skip_banner(const char *data, size_t n)
{
	size_t at = 0;

	for (int line = 0; line < LINES_MAX && at < n; line++) {
		const char *end = memchr(data + at, '\n', n - at);
		bool own = n - at >= 4 && memcmp(data + at, "SSH-", 4) == 0;

		if (end == NULL)
			return 0;
		at = (size_t)(end + 1 - data);
		if (own)
			return at;
	}
	return 0;
}

static char *copy_list(struct reader *r)
{
	uint32_t n = reader_be32(r);
	const char *p = reader_bytes(r, n);
	char *list = p == NULL ? NULL : malloc((size_t)n + 1);

	if (list == NULL)
		return NULL;
	memcpy(list, p, n);
	list[n] = '\0';
	for (char *c = list; *c != '\0'; c++)
		if (!isgraph((unsigned char)*c))
			*c = '?';
	return list;
}

bool sftp_kex_read(const char *data, size_t n, struct sftp_kex_offer *out)
{
	size_t skip = skip_banner(data, n);
	struct reader r;
	uint32_t len;

	*out = (struct sftp_kex_offer){ { NULL } };
	if (skip == 0)
		return false;
	reader_init(&r, data + skip, n - skip);
	len = reader_be32(&r);
	if (len > r.left)
		return false;
	r.left = len;
	(void)reader_u8(&r); /* length of the padding */
	if (reader_u8(&r) != KEXINIT || reader_bytes(&r, COOKIE) == NULL)
		return false;
	for (int i = 0; i < SFTP_KEX_LISTS; i++) {
		out->lists[i] = copy_list(&r);
		if (out->lists[i] == NULL) {
			sftp_kex_done(out);
			return false;
		}
	}
	return true;
}

void sftp_kex_done(struct sftp_kex_offer *o)
{
	for (int i = 0; i < SFTP_KEX_LISTS; i++) {
		free(o->lists[i]);
		o->lists[i] = NULL;
	}
}

bool sftp_kex_common(const char *list, const char *const *names, size_t n)
{
	while (*list != '\0') {
		size_t len = strcspn(list, ",");

		for (size_t i = 0; i < n; i++)
			if (strlen(names[i]) == len && memcmp(names[i], list, len) == 0)
				return true;
		list += len + (list[len] == ',' ? 1 : 0);
	}
	return false;
}

const char *sftp_kex_list_name(enum sftp_kex_list list)
{
	switch (list) {
	case SFTP_KEX_EXCHANGE:
		return "key exchange";
	case SFTP_KEX_HOST_KEY:
		return "host key type";
	case SFTP_KEX_CIPHER_OUT:
	case SFTP_KEX_CIPHER_IN:
		return "cipher";
	case SFTP_KEX_MAC_OUT:
	case SFTP_KEX_MAC_IN:
	case SFTP_KEX_LISTS:
		break;
	}
	return "MAC";
}
