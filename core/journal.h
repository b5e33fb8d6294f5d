/*
 * journal.h - entries for systemd's journal, in its native protocol: a datagram of fields to a socket, or, when that is
 * too large, a sealed memory file that is passed over it. No libsystemd.
 */
#ifndef FANSYNCD_CORE_JOURNAL_H
#define FANSYNCD_CORE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

struct journal_field {
	const char *name;  /* upper case, digits, underscores */
	const char *value; /* NULL: the field is left out */
	size_t len;
};

/* Whether `fd` is what systemd connected to the journal (JOURNAL_STREAM): then entries may go there by this protocol.
 */
bool journal_is_stream(int fd, const char *journal_stream);
/* A socket to send from; -1 and errno. */
int journal_open(void);
enum journal_answer {
	JOURNAL_ABSENT = 0, /* nobody is there, or it can't be sent */
	JOURNAL_TAKEN,
	JOURNAL_BUSY, /* the journal does not read just now */
};

/* Send one entry to the socket at `path`. Does not block. */
enum journal_answer journal_send(int fd, const char *path, const struct journal_field *fields, size_t n);

#endif
