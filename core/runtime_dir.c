#include "core/runtime_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fsutil.h"

#define PREFIX "fansyncd."

/* The first of the usual places that is ours to write to. */
static const char *parent_dir(void)
{
	const char *const places[] = { getenv("RUNTIME_DIRECTORY"), geteuid() == 0 ? "/run" : getenv("XDG_RUNTIME_DIR"),
				       getenv("TMPDIR"), "/tmp" };

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (places[i] != NULL && places[i][0] == '/' && strlen(places[i]) < 40 && access(places[i], W_OK) == 0)
			return places[i];
	return "/tmp";
}

/* "fansyncd.PID.XXXXXX" of a process that is no more. */
static int is_left_over(int dir_fd, const char *name)
{
	struct stat st;
	char *end;
	long pid;

	if (strncmp(name, PREFIX, sizeof(PREFIX) - 1) != 0)
		return 0;
	pid = strtol(name + sizeof(PREFIX) - 1, &end, 10);
	if (pid <= 1 || *end != '.' || strlen(end) != 7)
		return 0;
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return 0;
	return kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

/* Best effort: what cannot be removed is a few bytes for the next start. */
static void remove_left_overs(const char *parent)
{
	DIR *dir = opendir(parent);
	const struct dirent *entry;

	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL) {
		char *path;

		if (!is_left_over(dirfd(dir), entry->d_name) || asprintf(&path, "%s/%s", parent, entry->d_name) < 0)
			continue;
		(void)remove_tree(path, NULL);
		free(path);
	}
	(void)closedir(dir);
}

char *runtime_dir_make(struct err *err)
{
	const char *parent = parent_dir();
	char *path;

	remove_left_overs(parent);
	if (asprintf(&path, "%s/" PREFIX "%d.XXXXXX", parent, (int)getpid()) < 0) {
		err_set(err, ERR_NOMEM, "out of memory");
		return NULL;
	}
	if (mkdtemp(path) != NULL)
		return path;
	err_errno(err, errno, "cannot make a directory below %s", parent);
	free(path);
	return NULL;
}
