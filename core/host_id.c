#include "core/host_id.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/fsutil.h"

#define TEXT_BYTES (2u * HOST_ID_BYTES)

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse(const struct buf *text, unsigned char out[HOST_ID_BYTES])
{
	if (text->len < TEXT_BYTES)
		return false;
	for (size_t i = 0; i < HOST_ID_BYTES; i++) {
		int high = digit(text->data[2 * i]), low = digit(text->data[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		out[i] = (unsigned char)(high * 16 + low);
	}
	return true;
}

static int make(const char *path, unsigned char out[HOST_ID_BYTES], struct err *err)
{
	char text[TEXT_BYTES + 2];

	if (getrandom(out, HOST_ID_BYTES, 0) != (ssize_t)HOST_ID_BYTES)
		return err_errno(err, errno, "getrandom");
	host_id_text(out, text);
	text[TEXT_BYTES] = '\n';
	return atomic_write(path, text, TEXT_BYTES + 1, 0600, FSUTIL_SYNC, err);
}

static int read_or_make(const char *path, unsigned char out[HOST_ID_BYTES], struct err *err)
{
	struct err ignored = ERR_INIT;
	struct buf text;
	int result = 0;

	buf_init(&text, 256);
	if (read_file(path, 200, &text, &ignored) < 0 || !parse(&text, out))
		result = make(path, out, err);
	buf_done(&text);
	return result;
}

/* Under a lock: of two that start at once one makes it, and the other has the same. */
int host_id_get(const char *state_dir, unsigned char out[HOST_ID_BYTES], struct err *err)
{
	char *path = NULL, *lock_path = NULL;
	int lock = -1, result = -1;

	if (asprintf(&path, "%s/host-id", state_dir) < 0)
		path = NULL;
	if (asprintf(&lock_path, "%s/host-id.lock", state_dir) < 0)
		lock_path = NULL;
	if (path == NULL || lock_path == NULL)
		err_set(err, ERR_NOMEM, "out of memory for the host's id");
	else
		lock = lock_file(lock_path, LOCK_MODE_WAIT, err);
	if (lock >= 0) {
		result = read_or_make(path, out, err);
		(void)close(lock);
	}
	free(path);
	free(lock_path);
	return result;
}

/* A UUID: its digits stand in groups. */
void host_boot_get(unsigned char out[HOST_ID_BYTES])
{
	struct err ignored = ERR_INIT;
	struct buf text, digits;

	buf_init(&text, 256);
	buf_init(&digits, 256);
	if (read_file("/proc/sys/kernel/random/boot_id", 200, &text, &ignored) == 0)
		for (size_t i = 0; i < text.len; i++)
			if (text.data[i] != '-')
				buf_add_byte(&digits, (unsigned char)text.data[i]);
	if (!parse(&digits, out))
		memset(out, 0, HOST_ID_BYTES);
	buf_done(&text);
	buf_done(&digits);
}
