/* exec_exam.c - what `--doctor` looks at of the transport "exec": the program. It is not run: what it does is its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transports/exec_private.h"

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

void exec_examine(const struct sync_options *opt, struct exam *x)
{
	const char *name = opt->exec.command.n == 0 ? "" : opt->exec.command.v[0];
	char path[PATH_MAX], remedy[EXAM_TEXT_MAX];
	struct stat st;

	exam_begin(x, "program");
	(void)snprintf(remedy, sizeof(remedy), "chmod go-w %.900s", name);
	if (!find(name, path))
		exam_fail(x, "install it, or give its whole path in exec.command", "%s is in no directory of PATH",
			  name);
	else if (stat(path, &st) < 0)
		exam_fail(x, "install it, or correct exec.command", "%s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode) || faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0)
		exam_fail(x, "chmod +x", "%s can't be executed", path);
	else if ((st.st_mode & 022) != 0)
		exam_fail(x, remedy, "%s has mode %04o: others may change what runs as the daemon", path,
			  (unsigned)(st.st_mode & 07777));
	else
		exam_ok(x, "%s can be executed", path);
}
