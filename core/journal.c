#include "core/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/buf.h"

/* An entry: a line of the log, and a path. */
#define ENTRY_MAX (256u * 1024)

bool journal_is_stream(int fd, const char *journal_stream)
{
	uintmax_t dev, ino;
	struct stat st;

	return journal_stream != NULL && sscanf(journal_stream, "%" SCNuMAX ":%" SCNuMAX, &dev, &ino) == 2 &&
	       fstat(fd, &st) == 0 && (uintmax_t)st.st_dev == dev && (uintmax_t)st.st_ino == ino;
}

int journal_open(void)
{
	return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* NAME=value, or, for what has a newline in it, the name, the length and the bytes. */
static void put_field(struct buf *out, const struct journal_field *f)
{
	buf_add_str(out, f->name);
	if (memchr(f->value, '\n', f->len) == NULL) {
		buf_add_byte(out, '=');
	} else {
		buf_add_byte(out, '\n');
		buf_add_u64(out, f->len);
	}
	buf_add(out, f->value, f->len);
	buf_add_byte(out, '\n');
}

static bool send_file(int fd, struct msghdr *m, const struct buf *entry)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	int file = memfd_create("fansyncd-journal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct cmsghdr *c;
	bool ok;
	int code;

	if (file < 0)
		return false;
	ok = write(file, entry->data, entry->len) == (ssize_t)entry->len &&
	     fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0;
	m->msg_iov = NULL;
	m->msg_iovlen = 0;
	m->msg_control = control.space;
	m->msg_controllen = sizeof(control.space);
	c = CMSG_FIRSTHDR(m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &file, sizeof(int));
	ok = ok && sendmsg(fd, m, MSG_NOSIGNAL) >= 0;
	code = errno;
	m->msg_control = NULL;
	m->msg_controllen = 0;
	(void)close(file);
	errno = code;
	return ok;
}

enum journal_answer journal_send(int fd, const char *path, const struct journal_field *fields, size_t n)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct buf entry;
	struct iovec iov;
	struct msghdr m = { .msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = &iov, .msg_iovlen = 1 };
	enum journal_answer answer = JOURNAL_ABSENT;

	if (strlen(path) >= sizeof(to.sun_path))
		return JOURNAL_ABSENT;
	memcpy(to.sun_path, path, strlen(path) + 1);
	buf_init(&entry, ENTRY_MAX);
	for (size_t i = 0; i < n; i++)
		if (fields[i].value != NULL)
			put_field(&entry, &fields[i]);
	iov = (struct iovec){ entry.data, entry.len };
	if (!entry.failed && entry.len > 0) {
		errno = 0;
		if (sendmsg(fd, &m, MSG_NOSIGNAL) >= 0 ||
		    ((errno == EMSGSIZE || errno == ENOBUFS) && send_file(fd, &m, &entry)))
			answer = JOURNAL_TAKEN;
		else if (errno == EAGAIN)
			answer = JOURNAL_BUSY;
	}
	buf_done(&entry);
	return answer;
}
