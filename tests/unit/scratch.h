/* scratch.h - a directory of its own for a unit test, and small files in it. */
#ifndef FANSYNCD_TESTS_UNIT_SCRATCH_H
#define FANSYNCD_TESTS_UNIT_SCRATCH_H

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/err.h"
#include "core/fsutil.h"

/* Paths below it, each good until as many others were asked for. */
struct scratch {
	char dir[256];
	unsigned next;
	char paths[32][512];
};

static inline int scratch_make(struct scratch *s)
{
	const char *top = getenv("TESTDIR");

	/* Short enough for a socket's address below it. */
	snprintf(s->dir, sizeof(s->dir), "%s/u.XXXXXX", top != NULL && strlen(top) < 60 ? top : "/tmp");
	return mkdtemp(s->dir) == NULL ? -1 : 0;
}

static inline const char *scratch_path(struct scratch *s, const char *name)
{
	char *path = s->paths[s->next++ % 32];
	size_t dir_len = strlen(s->dir), len = strlen(name);

	if (dir_len + 1 + len >= sizeof(s->paths[0]))
		abort();
	memcpy(path, s->dir, dir_len);
	path[dir_len] = '/';
	memcpy(path + dir_len + 1, name, len + 1);
	return path;
}

static inline int scratch_remove(struct scratch *s)
{
	struct err err = ERR_INIT;

	if (remove_tree(s->dir, &err) == 0)
		return 0;
	fprintf(stderr, "%s: %s\n", s->dir, err.text);
	return -1;
}

static inline int scratch_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	size_t len = strlen(text);
	int ok = fd >= 0 && write(fd, text, len) == (ssize_t)len;

	if (fd >= 0)
		close(fd);
	return ok ? 0 : -1;
}

/* The content (cut at size), "" when there is none. */
static inline const char *scratch_read(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, out, size - 1);

	if (fd >= 0)
		close(fd);
	out[n > 0 ? n : 0] = '\0';
	return out;
}

/* How a child ended: its exit status, or 1000 and the signal. */
static inline int scratch_wait(pid_t pid)
{
	int status = 0;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

#endif
