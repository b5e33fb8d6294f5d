/*
 * loop.h - one epoll loop a process: descriptors, timers, signals, children.
 *
 * Single-threaded. Callbacks run from loop_run and must not block. Any callback may remove any source, its own
 * included: the memory is released after the current round. The loop owns its sources; a descriptor stays the
 * caller's.
 */
#ifndef FANSYNCD_CORE_LOOP_H
#define FANSYNCD_CORE_LOOP_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"

struct loop;
struct loop_fd;
struct loop_timer;

#define LOOP_READ 1u
#define LOOP_WRITE 2u
/* Delivered whether asked for or not: hang-up or error on the descriptor. */
#define LOOP_HUP 4u
/* Ask for it with the others: exceptional condition (POLLPRI), as /proc/self/mountinfo reports a change. */
#define LOOP_PRI 8u

typedef void loop_fd_fn(void *ctx, int fd, unsigned events);
typedef void loop_timer_fn(void *ctx);
typedef void loop_signal_fn(void *ctx, int signo);
/* `status` as waitpid(2) gives it: use WIFEXITED before WEXITSTATUS. */
typedef void loop_child_fn(void *ctx, pid_t pid, int status);

struct loop *loop_new(struct err *err);
void loop_free(struct loop *l);

/* Watch a descriptor, level-triggered. A regular file (always ready) is refused. */
struct loop_fd *loop_fd_add(struct loop *l, int fd, unsigned events, loop_fd_fn *fn, void *ctx, struct err *err);
void loop_fd_set(struct loop_fd *f, unsigned events);
/* Stop watching; call before close(2). NULL is fine. */
void loop_fd_remove(struct loop_fd *f);

/* A timer, disarmed. Times are CLOCK_MONOTONIC nanoseconds. One-shot: re-arm from the callback to repeat. */
struct loop_timer *loop_timer_add(struct loop *l, loop_timer_fn *fn, void *ctx, struct err *err);
void loop_timer_at(struct loop_timer *t, int64_t when_ns);
void loop_timer_after(struct loop_timer *t, int64_t delay_ns);
void loop_timer_stop(struct loop_timer *t);
bool loop_timer_armed(const struct loop_timer *t);
void loop_timer_remove(struct loop_timer *t);

/* Handle a signal in the loop (signalfd; it is blocked from now on). One handler a signal. */
int loop_signal(struct loop *l, int signo, loop_signal_fn *fn, void *ctx, struct err *err);

/* Be told once when a child ends, and reap it. The pid must be an unreaped child of this process. */
int loop_child(struct loop *l, pid_t pid, loop_child_fn *fn, void *ctx, struct err *err);
/* Forget a child: it will still be reaped, silently; also one that loop_child could not take in. */
void loop_child_forget(struct loop *l, pid_t pid);

/* Called before every wait: to do at once what the last round left. May be NULL. */
void loop_before_wait(struct loop *l, void (*fn)(void *ctx), void *ctx);

/* Run until loop_stop. Returns what loop_stop was given, or -1 when the kernel refuses to wait. */
int loop_run(struct loop *l, struct err *err);
/* One round: wait at most timeout_ms (-1: for ever) and dispatch. */
int loop_once(struct loop *l, int timeout_ms, struct err *err);
void loop_stop(struct loop *l, int result);

#endif
