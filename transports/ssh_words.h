/*
 * ssh_words.h - what an ssh process says on its standard error: the last of it is kept, for the message at its end.
 */
#ifndef FANSYNCD_TRANSPORTS_SSH_WORDS_H
#define FANSYNCD_TRANSPORTS_SSH_WORDS_H

#include <stddef.h>
#include <sys/types.h>

#define SSH_WORDS_MAX 2048u

/* Zeroed: nothing is said yet. */
struct ssh_words {
	char text[SSH_WORDS_MAX + 1];
	size_t len;
};

/* One read of `fd`, which does not block. `host` is for the debug log. Returns how much came, 0 at the end (or an
 * error, which is the end, too), -1 when there is nothing now. */
ssize_t ssh_words_read(struct ssh_words *w, int fd, const char *host);
/* All that is kept, on one line. Borrowed, until the next read. */
const char *ssh_words_line(struct ssh_words *w);

#endif
