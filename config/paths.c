/* paths.c - files and paths as the configuration names them. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/private.h"

/* Drop double slashes, "." components and a slash at the end, in place. ".." stays: symlinks decide what it means. */
static void squeeze(char *path)
{
	const char *in = path;
	char *out = path;

	while (*in != '\0') {
		size_t n;

		while (*in == '/')
			in++;
		n = strcspn(in, "/");
		if (n == 0 || (n == 1 && in[0] == '.')) {
			in += n;
			continue;
		}
		*out++ = '/';
		memmove(out, in, n);
		out += n;
		in += n;
	}
	if (out == path)
		*out++ = '/';
	*out = '\0';
}

char *config_absolute(const char *path, const char *dir, struct err *err)
{
	char *abs = NULL;

	if (path[0] == '/') {
		abs = strdup(path);
	} else {
		char *cwd = dir == NULL ? getcwd(NULL, 0) : NULL;

		if (dir == NULL && cwd == NULL) {
			(void)err_errno(err, errno, "the current directory, for the relative path \"%.200s\"", path);
			return NULL;
		}
		if (asprintf(&abs, "%s/%s", dir == NULL ? cwd : dir, path) < 0)
			abs = NULL;
		free(cwd);
	}
	if (abs == NULL)
		(void)err_set(err, ERR_NOMEM, "out of memory");
	else
		squeeze(abs);
	return abs;
}

/* Whether a ".." is among the components. */
static bool has_dotdot(const char *path)
{
	for (const char *p = path; (p = strstr(p, "/..")) != NULL; p += 3)
		if (p[3] == '/' || p[3] == '\0')
			return true;
	return false;
}

static char *join(char *head, const char *tail, const char *path, struct err *err)
{
	char *joined = NULL;

	if (has_dotdot(tail))
		(void)err_set(err, ERR_CONFIG, "\"%.300s\": \"..\" below a directory that does not exist", path);
	else if (asprintf(&joined, "%s%s", head[1] == '\0' ? "" : head, tail) < 0) {
		joined = NULL;
		(void)err_set(err, ERR_NOMEM, "out of memory");
	} else if (joined[0] == '\0') {
		free(joined);
		return head;
	}
	free(head);
	return joined;
}

char *config_canonical(const char *path, const char *dir, struct err *err)
{
	char *abs = config_absolute(path, dir, err);
	char *head, *real = NULL;
	size_t len;

	if (abs == NULL)
		return NULL;
	head = strdup(abs);
	if (head == NULL) {
		(void)err_set(err, ERR_NOMEM, "out of memory");
		free(abs);
		return NULL;
	}
	/* The longest prefix that exists is resolved, the rest is appended as it stands. */
	for (len = strlen(head); len > 0; len = (size_t)(strrchr(head, '/') - head)) {
		head[len] = '\0';
		real = realpath(head, NULL);
		if (real != NULL)
			break;
	}
	free(head);
	if (real == NULL)
		real = strdup("/");
	if (real == NULL)
		(void)err_set(err, ERR_NOMEM, "out of memory");
	else
		real = join(real, abs + len, abs, err);
	free(abs);
	return real;
}

static int read_all(int fd, const char *path, size_t max, struct buf *b, struct err *err)
{
	for (;;) {
		ssize_t n;

		if (!buf_reserve(b, 16384)) {
			if (b->len > max)
				return err_set(err, ERR_CONFIG, "%s: larger than %zu bytes", path, max);
			return err_set(err, ERR_NOMEM, "out of memory");
		}
		n = read(fd, b->data + b->len, 16384);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, errno, "%s", path);
		if (n == 0)
			break;
		b->len += (size_t)n;
	}
	if (b->len > max)
		return err_set(err, ERR_CONFIG, "%s: larger than %zu bytes", path, max);
	return 0;
}

int config_read_whole(const char *path, size_t max, char **text, size_t *len, struct err *err)
{
	/* Non-blocking, so that a FIFO in place of the file is refused and not waited for. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	struct buf b;
	int rc;

	if (fd < 0)
		return err_errno(err, errno, "%s", path);
	buf_init(&b, max + 16384 + 1);
	if (fstat(fd, &st) != 0)
		rc = err_errno(err, errno, "%s", path);
	else if (!S_ISREG(st.st_mode))
		rc = err_set(err, ERR_CONFIG, "%s: is no regular file", path);
	else
		rc = read_all(fd, path, max, &b, err);
	(void)close(fd);
	if (rc != 0) {
		buf_done(&b);
		return -1;
	}
	b.data[b.len] = '\0'; /* buf_reserve keeps a byte for it */
	*text = b.data;
	*len = b.len;
	return 0;
}
