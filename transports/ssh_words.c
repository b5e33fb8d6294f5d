#include "transports/ssh_words.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"

static void remember(struct ssh_words *w, const char *data, size_t n)
{
	if (n > SSH_WORDS_MAX) {
		data += n - SSH_WORDS_MAX;
		n = SSH_WORDS_MAX;
	}
	if (w->len + n > SSH_WORDS_MAX) {
		size_t drop = w->len + n - SSH_WORDS_MAX;

		memmove(w->text, w->text + drop, w->len - drop);
		w->len -= drop;
	}
	memcpy(w->text + w->len, data, n);
	w->len += n;
	w->text[w->len] = '\0';
}

ssize_t ssh_words_read(struct ssh_words *w, int fd, const char *host)
{
	char data[4096];
	ssize_t n;

	do
		n = read(fd, data, sizeof(data));
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n < 0 && errno == EAGAIN ? -1 : 0;
	log_debug(LOG_CAT_EXEC, "ssh to %s says: %.*s", host, (int)n, data);
	remember(w, data, (size_t)n);
	return n;
}

const char *ssh_words_line(struct ssh_words *w)
{
	size_t n = 0;

	for (size_t i = 0; i < w->len; i++) {
		char c = w->text[i];

		if (c == '\r' || c == '\0')
			continue;
		if (c == '\n' && (n == 0 || w->text[n - 1] == ' '))
			continue;
		w->text[n++] = c == '\n' ? ' ' : c;
	}
	while (n > 0 && w->text[n - 1] == ' ')
		n--;
	w->text[n] = '\0';
	w->len = n;
	return w->text;
}
