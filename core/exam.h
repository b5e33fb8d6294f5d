/*
 * exam.h - what `--doctor` finds out: one finding a check, written by a process that does nothing else.
 *
 * An examination runs in a child of its own (core/doctor.c), so that one that hangs, in a file system or a name server,
 * is ended and told as such: calls may block. It changes nothing, neither here nor at a target. `exam_begin` names the
 * check, one of the others ends it; a check that is begun and not ended is the one that hung.
 */
#ifndef FANSYNCD_CORE_EXAM_H
#define FANSYNCD_CORE_EXAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"

#define EXAM_TEXT_MAX 1024u
#define EXAM_CHECK_MAX 32u
/* What one examination may say in all. */
#define EXAM_BYTES_MAX (256u * 1024)

enum exam_level { EXAM_BEGUN = 1, EXAM_OK, EXAM_SKIP, EXAM_WARN, EXAM_FAIL };

struct exam {
	int fd;		  /* findings go there */
	int64_t until_ns; /* CLOCK_MONOTONIC: what takes time should be over by then, to say so itself */
	char check[EXAM_CHECK_MAX];
};

/* What an examination wants to know of a target's host. */
struct host_state {
	int64_t clock_ns;			     /* CLOCK_REALTIME there */
	uint64_t bytes, bytes_of, inodes, inodes_of; /* free for the receiver, and in all; 0 of 0: unknown */
};

/* A short lower-case word or two; it stands before each finding until the next one is begun. */
void exam_begin(struct exam *x, const char *check);
void exam_ok(struct exam *x, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Not looked at, and why. */
void exam_skip(struct exam *x, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* `remedy`: what the administrator does about it, a command where there is one. */
void exam_warn(struct exam *x, const char *remedy, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void exam_fail(struct exam *x, const char *remedy, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Nanoseconds that are left, at most `most`; never negative. */
int64_t exam_left_ns(const struct exam *x, int64_t most_ns);

/* ---- reading what was said ---- */

struct exam_finding {
	enum exam_level level;
	const char *check, *text, *remedy; /* NUL-terminated, borrowed; remedy "" where there is none */
};

/* The next finding; false at the end, or where the rest makes no sense. */
bool exam_next(struct reader *r, struct exam_finding *out);

/* ---- what examinations share ---- */

/* A program, to its end: what it said on both outputs, and its status. */
struct exam_output {
	struct buf out, err; /* at most 64 KiB of each */
	int status;	     /* as waitpid(2) has it */
	bool timed_out;	     /* it was killed */
};

/* Run it, `input` (may be NULL) on its standard input. -1: it could not be started, or no memory. Released by
 * exam_output_done in any case. */
int exam_run(const char *const *argv, const char *cwd, const char *input, int64_t limit_ns, struct exam_output *o,
	     struct err *err);
void exam_output_done(struct exam_output *o);

/* A file with a secret: there, and for its owner alone. `key` is what the configuration calls it. One of systemd's is
 * the service's to see, and not looked at elsewhere. */
void exam_secret(struct exam *x, const char *key, const char *path);
/* Free space and inodes, as a check of its own. */
void exam_space(struct exam *x, const char *path, uint64_t bytes, uint64_t bytes_of, uint64_t inodes,
		uint64_t inodes_of);

/* Whether the program of `key` is there, may be executed by `user` (NULL: by who this is) and be changed by nobody
 * else. Within the check that was begun. */
void exam_program(struct exam *x, const char *key, const char *name, const char *user);
/* How far another host's clock is off, as a check of its own: it told `theirs`, in units of `unit_ns`, somewhere
 * between two looks at ours. Both ways the newer edit wins, so that there it matters. */
void exam_clock(struct exam *x, bool both_ways, int64_t before_ns, int64_t theirs_ns, int64_t unit_ns,
		int64_t after_ns);

/* A walk that ends when its time is over. */
struct exam_walk {
	/* Each may be NULL. Paths are relative, and not NUL-terminated. Whether to look into a directory: */
	bool (*enters)(void *ctx, const char *path, size_t len);
	void (*entry)(void *ctx, int dir_fd, const char *name, const char *path, size_t len, bool is_dir);
	/* A directory that could not be opened or read. */
	void (*refused)(void *ctx, const char *path, size_t len, int errnum);
	void *ctx;
	bool one_file_system;
	int64_t until_ns;
	uint64_t dirs, entries; /* out */
	bool cut;		/* out: it was not finished */
};

void exam_walk(struct exam_walk *w, int root_fd);

#endif
