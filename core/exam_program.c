/* exam_program.c - whether a program that the configuration names could be started, by whom it would be. It is not run.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/exam.h"
#include "core/proc.h"

/* As execvp finds it. */
static bool find(const char *name, char path[PATH_MAX])
{
	const char *dirs = getenv("PATH");

	if (strchr(name, '/') != NULL) {
		(void)snprintf(path, PATH_MAX, "%s", name);
		return true;
	}
	for (const char *p = dirs == NULL ? "/usr/bin:/bin" : dirs; *p != '\0'; p += strcspn(p, ":"), p += *p == ':') {
		(void)snprintf(path, PATH_MAX, "%.*s/%s", (int)strcspn(p, ":"), p, name);
		if (access(path, X_OK) == 0)
			return true;
	}
	return false;
}

/* In a process that becomes that account: 0, or an errno. */
static int access_as(const char *path, const struct proc_user *u)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return errno;
	if (pid == 0) {
		if (setgroups(u->n_groups, u->groups) < 0 || setgid(u->gid) < 0 || setuid(u->uid) < 0 ||
		    faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0)
			_exit(errno < 256 ? errno : EIO);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
}

static bool may_execute(struct exam *x, const char *key, const char *path, const char *user)
{
	struct proc_user u = { 0 };
	struct err err = ERR_INIT;
	int code = 0;

	if (user == NULL) {
		if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0)
			code = errno;
	} else if (proc_user_find(&u, user, &err) < 0) {
		exam_fail(x, "make the account, or name another", "%s: %s", key, err.text);
		return false;
	} else if (u.uid != geteuid() && geteuid() != 0) {
		exam_skip(x, "%s: only root can try whether %s may execute %s", key, user, path);
		proc_user_done(&u);
		return false;
	} else {
		code = u.uid == geteuid() ? (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 ? errno : 0)
					  : access_as(path, &u);
		proc_user_done(&u);
	}
	if (code != 0)
		exam_fail(x, "chmod +x, on the directories above it as well", "%s: %s can't be executed%s%s: %s", key,
			  path, user == NULL ? "" : " by ", user == NULL ? "" : user, strerror(code));
	return code == 0;
}

void exam_program(struct exam *x, const char *key, const char *name, const char *user)
{
	char path[PATH_MAX], remedy[EXAM_TEXT_MAX];
	struct stat st;

	if (!find(name, path)) {
		(void)snprintf(remedy, sizeof(remedy), "install it, or give its whole path in %s", key);
		exam_fail(x, remedy, "%s: %s is in no directory of PATH", key, name);
	} else if (stat(path, &st) < 0) {
		(void)snprintf(remedy, sizeof(remedy), "install it, or correct %s", key);
		exam_fail(x, remedy, "%s: %s: %s", key, path, strerror(errno));
	} else if (!S_ISREG(st.st_mode)) {
		exam_fail(x, "name a program", "%s: %s can't be executed: it is no file", key, path);
	} else if ((st.st_mode & 022) != 0) {
		(void)snprintf(remedy, sizeof(remedy), "chmod go-w %.900s", path);
		exam_fail(x, remedy, "%s: %s has mode %04o: others may change what runs here", key, path,
			  (unsigned)(st.st_mode & 07777));
	} else if (may_execute(x, key, path, user)) {
		exam_ok(x, "%s: %s can be executed%s%s", key, path, user == NULL ? "" : " by ",
			user == NULL ? "" : user);
	}
}
