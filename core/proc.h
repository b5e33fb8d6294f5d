/*
 * proc.h - child processes from argument arrays, never a shell.
 *
 * Children start with default signal dispositions, an empty signal mask, only the descriptors named here, and are
 * killed by the kernel when this process dies (PR_SET_PDEATHSIG), unless told otherwise.
 */
#ifndef FANSYNCD_CORE_PROC_H
#define FANSYNCD_CORE_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "core/err.h"

enum { PROC_MORE_FDS = 16 };
/* What proc_allow_files asks for, at most. */
enum { PROC_FILES = 65536 };

/* An account, looked up once: who a child becomes. */
struct proc_user {
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	size_t n_groups;
	char *name, *home;
};

/* Looks into the user database, which may take its time. -1: there is no such account. */
int proc_user_find(struct proc_user *u, const char *name, struct err *err);
void proc_user_done(struct proc_user *u);

struct proc_spec {
	const char *const *argv; /* NULL-terminated; argv[0] is looked up in PATH unless it holds a slash */
	const char *const *env;	 /* NULL-terminated "K=V" added to (or replacing in) the environment; may be NULL */
	const char *cwd;	 /* NULL: stay */
	bool pipe_in, pipe_out, pipe_err; /* make pipes; without: /dev/null for 0, and 1 and 2 to /dev/null */
	int in_fd, out_fd, err_fd;	  /* > 0: becomes its descriptor 0, 1, 2, instead of a pipe */
	int pass_fd;			  /* > 0: becomes descriptor 3 of the child */
	const int *more_fds;		  /* with pass_fd: become descriptors 4, 5, ...; at most PROC_MORE_FDS */
	size_t n_more_fds;
	const struct proc_user *user; /* NULL: it stays who we are */
	bool own_group; /* its own process group: the terminal's ^C does not reach it; kill(-pid) reaches all */
	bool detached;	/* with pipe_err: don't wait for chdir and exec; see proc_spawn */
	int domain;	/* > 0: it reaches what confine_domain gave this descriptor for, and no other file */
	bool reduced;	/* without what only our watcher needs: CAP_SYS_ADMIN as root, all capabilities as another */
};

struct proc {
	pid_t pid;
	int in, out, err; /* our ends, non-blocking and close-on-exec, -1 where no pipe was asked for */
};

/* Start it. Does not block beyond fork+exec; a failed exec is reported here (by a close-on-exec pipe), not as an exit
 * status. A `cwd` or a program on a file system that hangs blocks it, then, but for a `detached` one: what keeps that
 * from being executed is a line on its standard error, and exit status 127. An account that it becomes has none of our
 * capabilities. The caller closes the descriptors (proc_close) and reaps the pid (loop_child). */
int proc_spawn(struct proc *p, const struct proc_spec *spec, struct err *err);
void proc_close(struct proc *p);
/* Of what the hard limit allows this process may have open as many files as a daemon with thousands of syncs needs; so
 * may what it starts. A shell's soft limit is for programs that can't count that far. */
void proc_allow_files(void);
/* Memory that was freed goes back to the kernel as it does at a program's start, however large a thing was once: by
 * itself glibc keeps the more the larger it was. And not bit by bit, which costs a call each. */
void proc_return_memory(void);
/* How a child ended, in words: "exit 23", "killed by signal 9 (Killed)". */
void proc_status_text(int status, char *out, size_t size);

#endif
