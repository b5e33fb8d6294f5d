#include "transports/temp_name.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SUFFIX_LEN (sizeof(PATH_TEMP_SUFFIX) - 1)
#define TAG_LEN 10u	/* ".kTTTTTTTT" */
#define VERSION_LEN 17u /* ".VVVVVVVVVVVVVVVV" */

uint32_t temp_tag(const char *host, const char *source, const char *target, const char *name)
{
	const char *parts[] = { host, source, target, name };
	uint64_t sum = 0;

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		sum = XXH3_64bits_withSeed(parts[i], strlen(parts[i]), sum);
	return (uint32_t)(sum ^ (sum >> 32));
}

size_t temp_name(char out[NAME_BYTES_MAX + 1], const char *name, size_t len, enum temp_kind kind, uint32_t tag,
		 uint64_t version, bool hashed)
{
	size_t more = 1 + TAG_LEN + SUFFIX_LEN + (kind == TEMP_PART ? VERSION_LEN : 0), n = 0;

	out[n++] = '.';
	hashed = hashed || len + more > NAME_BYTES_MAX;
	if (hashed) {
		n += (size_t)snprintf(out + n, VERSION_LEN, "%016llx", (unsigned long long)XXH3_64bits(name, len));
	} else {
		memcpy(out + n, name, len);
		n += len;
	}
	if (kind == TEMP_PART)
		n += (size_t)snprintf(out + n, VERSION_LEN + 1, ".%016llx", (unsigned long long)version);
	n += (size_t)snprintf(out + n, TAG_LEN + SUFFIX_LEN + 1, ".%c%08x" PATH_TEMP_SUFFIX,
			      hashed ? toupper((unsigned char)kind) : (int)kind, (unsigned)tag);
	return n;
}

size_t temp_path(char *out, const char *path, size_t len, enum temp_kind kind, uint32_t tag, uint64_t version,
		 bool hashed)
{
	size_t base = path_base(path, len);

	memcpy(out, path, base);
	return base + temp_name(out + base, path + base, len - base, kind, tag, version, hashed);
}

static bool parse_hex(const char *s, size_t len, uint32_t *out)
{
	*out = 0;
	for (size_t i = 0; i < len; i++) {
		if ((s[i] < '0' || s[i] > '9') && (s[i] < 'a' || s[i] > 'f'))
			return false;
		*out = *out << 4 | (uint32_t)(s[i] <= '9' ? s[i] - '0' : s[i] - 'a' + 10);
	}
	return true;
}

bool temp_parse(const char *name, size_t len, enum temp_kind *kind, uint32_t *tag, size_t *base, size_t *base_len)
{
	size_t end;
	char k;

	if (len < 2 + TAG_LEN + SUFFIX_LEN || name[0] != '.' || !path_is_temp(name, len))
		return false;
	end = len - SUFFIX_LEN - TAG_LEN;
	k = (char)tolower((unsigned char)name[end + 1]);
	if (name[end] != '.' || (k != TEMP_NEW && k != TEMP_OLD && k != TEMP_PART) ||
	    !parse_hex(name + end + 2, 8, tag))
		return false;
	if (k == TEMP_PART) {
		if (end < 2 + VERSION_LEN)
			return false;
		end -= VERSION_LEN;
	}
	*kind = (enum temp_kind)k;
	*base = 1;
	*base_len = k == name[len - SUFFIX_LEN - TAG_LEN + 1] ? end - 1 : 0;
	return true;
}
