/*
 * sftp_task.h - what the files of sftp_ops share: an operation of the engine under way as a task.
 *
 * A task is made from the engine's call with its own copy of the paths, waits until the directories above them are
 * known to be directories (sftp_dirs.c), runs (its requests leave), and is over when `task_over` hands the result to
 * the engine. Tasks of a lost connection are freed without a word.
 */
#ifndef FANSYNCD_TRANSPORTS_SFTP_TASK_H
#define FANSYNCD_TRANSPORTS_SFTP_TASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "transports/fileops.h"
#include "transports/sftp_client.h"
#include "transports/sftp_ops.h"

struct task;
struct dir;

struct task_queue {
	struct task *head, **tail;
};

struct task {
	struct sftp_ops *o;
	struct sftp_client *client; /* that its requests leave by */
	struct fileop *op;
	const char *verb; /* for messages: "open" */
	void (*run)(struct task *t);
	/* Releases what `extra` points to; may be NULL. */
	void (*done)(struct task *t);
	struct task *next;	  /* of the queue that it waits in */
	struct task *newer, **at; /* of all tasks */
	void *extra;
	char *path, *to;
	size_t len, to_len;
	unsigned outstanding; /* replies to come */
	enum fileops_result result;
	bool keep;
	bool self;	 /* the path itself must be a directory as well */
	bool both;	 /* `to` is a path, too */
	bool structural; /* what is below the names changes with them */
	bool starting;	 /* the engine's call has not returned */
	bool over;	 /* and need not wait: `result` is what it returns */
	bool has_handle; /* of the server's it has one, or may open it */
};

/* An open file. */
struct sftp_file {
	struct sftp_client *client; /* whose the handle is */
	char handle[SFTP_HANDLE_MAX];
	size_t handle_len;
	uint32_t uid, gid;
	bool owned; /* uid and gid are known */
};

/* Who we are there: what a file that we made belongs to. */
struct sftp_self {
	uint32_t uid, gid;
	bool known;
};

struct sftp_ops {
	struct sftp_client *client;
	struct sftp_client *more[SFTP_MORE_MAX]; /* for the content of files, in turns */
	unsigned n_more, turn;
	uint32_t tag;
	char *base; /* no slash behind it; "" is the root directory */
	struct task *tasks;
	struct sftp_self self;
	struct sftp_self gives; /* whom we may give files to: the last one that we could */
	/* sftp_dirs.c */
	struct dir **dirs;
	size_t n_dirs;
	struct dir *asked; /* those that are being looked at */
	/* The server's handles: what is open, and who waits for one. */
	uint64_t handles;
	struct task_queue gate;
	struct loop_timer *gate_timer;
	/* sftp_store.c */
	struct task_queue stores; /* those with content to send */
	struct loop_timer *throttle_timer;
	char *scratch;
	bool pumping;
	bool told_rename; /* the log line that there is no atomic replace */
	bool follows;	  /* LSTAT tells of what a symlink leads to: READLINK is asked as well */
};

/* ---- tasks (sftp_ops.c) ---- */

/* `extra` bytes, zeroed, stand at t->extra. NULL: out of memory. */
struct task *task_new(struct sftp_ops *o, struct fileop *op, const char *verb, const char *path, size_t len,
		      size_t extra);
/* The same with two paths, or a path and a text. */
struct task *task_new_two(struct sftp_ops *o, struct fileop *op, const char *verb, struct sftp_bytes path,
			  struct sftp_bytes to, size_t extra);
/* task_start with `run`; a task that could not be made is out of memory. */
enum fileops_result task_begin(struct task *t, struct fileop *op, void (*run)(struct task *t));
/* FILEOPS_FAILED, with words. */
enum fileops_result task_failed(struct fileop *op, enum err_class class, const char *verb, const char *what);
enum fileops_result task_no_memory(struct fileop *op);
/* Run it when its directories are known. Returns what the engine's call returns. */
enum fileops_result task_start(struct task *t);
/* The same from the loop, for a task that has begun. */
void task_go_on(struct task *t);
/* It is over: the engine gets t->op's result, unless its call has not returned yet; freed. */
void task_over(struct task *t, enum fileops_result r);
/* The same; a failure that the server has no words for is looked into first: the file system there may be full,
 * or read-only. */
void task_over_explained(struct task *t, enum fileops_result r);
void task_free(struct task *t);
void queue_init(struct task_queue *q);
void queue_put(struct task_queue *q, struct task *t);
struct task *queue_take(struct task_queue *q);

/* Whether the task may open something: servers allow so many handles. false: `run` is called again when it may. */
bool handle_take(struct task *t);
/* One was closed, or not opened after all. */
void handle_give(struct sftp_ops *o);

/* The path as the server knows it; the text lives until the next call but one. */
struct sftp_bytes task_path(struct sftp_ops *o, const char *path, size_t len, struct buf *room);
/* Begin a request of a task: its reply calls fn(t, reply). NULL: it could not be; the task gets FAILED. */
struct buf *task_request(struct task *t, sftp_reply_fn *fn, uint32_t *id);
bool task_send(struct task *t, uint32_t id);
/* The result of a STATUS reply, its words put into op->err; anything but a STATUS breaks the connection: DOWN. */
enum fileops_result task_status(struct task *t, struct sftp_packet *reply);
/* For a request whose answer is no STATUS: when one came, the task is over, and true. */
bool task_refused(struct task *t, struct sftp_packet *reply);
/* The handle of a HANDLE reply into `handle` (SFTP_HANDLE_MAX bytes); anything else breaks the connection: false. */
bool task_take_handle(struct task *t, struct sftp_packet *reply, char *handle, size_t *len);
/* A request with its path, or with both. What could not be sent ends the task, except for `try`. */
bool task_try_path(struct task *t, enum sftp_type type, sftp_reply_fn *fn);
void task_send_path(struct task *t, enum sftp_type type, sftp_reply_fn *fn);
/* `ext` 0: RENAME. */
void task_send_both(struct task *t, enum sftp_extension ext, sftp_reply_fn *fn);
void task_over_limit(struct task *t);
/* The reply to a task's last request: a status, which is its result. */
void task_on_status(void *ctx, struct sftp_packet *reply);
/* What a status means, its words put into `err`. */
enum fileops_result sftp_result(const char *verb, const struct sftp_status_reply *s, struct err *err);
/* An attribute block as lstat gives it. */
void sftp_stat(const struct sftp_attrs *a, struct stat *st);

/* ---- directories (sftp_dirs.c) ---- */

/* FILEOPS_OK: all that the task needs is known. PENDING: it waits, and is run later, or over when a directory above is
 * none. */
enum fileops_result dirs_need(struct task *t);
/* Have what the task needs looked at already, without waiting for it. */
void dirs_ask(struct task *t);
/* It was seen to be a directory just now. */
void dirs_seen(struct sftp_ops *o, const char *path, size_t len);
/* Names at or below it are not known any more. */
void dirs_forget(struct sftp_ops *o, const char *path, size_t len);
void dirs_forget_all(struct sftp_ops *o);
void dirs_done(struct sftp_ops *o);

/* ---- the larger operations (sftp_store.c, sftp_list.c, sftp_rename.c) ---- */

enum fileops_result sftp_op_store(void *end, struct fileop *op, struct fileops_file *file,
				  const struct fileops_store *what);
enum fileops_result sftp_op_attrs(void *end, struct fileop *op, const char *path, size_t len,
				  const struct fileops_attrs *attrs);
enum fileops_result sftp_op_list(void *end, struct fileop *op, const char *path, size_t len,
				 const struct fileops_wish *wish);
enum fileops_result sftp_op_rename(void *end, struct fileop *op, const char *from, size_t from_len, const char *to,
				   size_t to_len, bool keep);
enum fileops_result sftp_op_digest(void *end, struct fileop *op, const char *path, size_t len);
void sftp_stores_pump(struct sftp_ops *o);
void sftp_file_free(struct fileops_file *file);

#endif
