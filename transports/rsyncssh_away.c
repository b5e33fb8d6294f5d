/*
 * rsyncssh_away.c - whether what the source lacks is only put away for a moment.
 *
 * The source is a target, too: another host's fansyncd moves what it deletes, and what it replaces where it can't give
 * it a second name (others' files, with fs.protected_hardlinks), into its private directory at the top, looks at what
 * it has caught, and perhaps puts it back (rsyncssh_remote.c). Who looks in between, and takes it for deleted, would
 * delete it everywhere.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transports/rsyncssh_twoway_private.h"

/* What can't be looked at may be it. */
static bool is_there(int fd, const char *path)
{
	struct stat st;

	return fstatat(fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

bool twoway_put_away(const struct twoway *t, const char *path)
{
	int fd = openat(t->env->source_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *top = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *d;
	bool away = false;

	if (top == NULL) {
		if (fd >= 0)
			(void)close(fd);
		return true; /* then it can't be known */
	}
	for (errno = 0; !away && (d = readdir(top)) != NULL; errno = 0) {
		char put[2 * PATH_BYTES_MAX];
		int n;

		if (!path_is_temp(d->d_name, strlen(d->d_name)))
			continue;
		n = snprintf(put, sizeof(put), "%s/b/%s", d->d_name, path);
		away = n < 0 || (size_t)n >= sizeof(put) || is_there(fd, put);
	}
	away = away || errno != 0;
	(void)closedir(top);
	/* It may have come back just before we looked there. */
	return away || is_there(t->env->source_fd, path);
}

void twoway_away(struct err *why)
{
	err_set(why, ERR_AGAIN, "not deleted at the target: here it is only put away, by another host's fansyncd");
}
