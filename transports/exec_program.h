/*
 * exec_program.h - one process of an exec transport: it reads a file of records, or, when it stays, one such file after
 * the other through a pipe; what it writes comes back in lines.
 */
#ifndef FANSYNCD_TRANSPORTS_EXEC_PROGRAM_H
#define FANSYNCD_TRANSPORTS_EXEC_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/loop.h"
#include "core/proc.h"
#include "transports/exec_lines.h"

struct exec_program_events {
	/* A line of its standard output, or of its standard error. */
	void (*out)(void *ctx, const char *text, size_t len, bool cut);
	void (*err)(void *ctx, const char *text, size_t len, bool cut);
	/* It is at work: it reads, writes or computes. */
	void (*alive)(void *ctx);
	/* It takes no more of what it is given, and lives. */
	void (*deaf)(void *ctx);
	/* As waitpid(2) gives it; nothing more is called, and it may be started anew from here. */
	void (*ended)(void *ctx, int status);
	void *ctx;
};

struct exec_feed {
	int fd;
	uint64_t size;
	char mark;	/* ends a field */
	unsigned marks; /* in a record */
};

struct exec_program {
	struct loop *loop;
	struct exec_program_events ev;
	struct proc proc; /* pid 0: none runs */
	struct loop_fd *in, *out, *err;
	struct exec_lines out_lines, err_lines;
	struct exec_feed feed; /* its file is borrowed; what is to be written, from feed_at on */
	uint64_t feed_at, marks;
	struct loop_timer *watch;
	uint64_t ticks; /* of the processor, it and its children, when they were looked at last */
};

struct exec_program_spec {
	const char *const *argv;
	const char *const *env;
	const char *cwd;
	const struct proc_user *user; /* NULL: as we are */
	int in_fd;		      /* its standard input; -1: a pipe, and exec_program_feed */
};

void exec_program_init(struct exec_program *p, struct loop *loop, const struct exec_program_events *events);
int exec_program_start(struct exec_program *p, const struct exec_program_spec *spec, struct err *err);
bool exec_program_runs(const struct exec_program *p);
/* Write what is in the file to the pipe; it stays open until then. */
int exec_program_feed(struct exec_program *p, const struct exec_feed *feed, struct err *err);
/* How many bytes of it the program has read: what waits in the pipe is not among them. */
uint64_t exec_program_taken(const struct exec_program *p);
/* How many records of it were written to the pipe, to their ends. */
uint64_t exec_program_given(const struct exec_program *p);
/* Whether all of it was written to the pipe. */
bool exec_program_fed(const struct exec_program *p);
/* Kill it with all of its process group; nothing is called any more. Also when none runs. */
void exec_program_stop(struct exec_program *p);

#endif
