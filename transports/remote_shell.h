/*
 * remote_shell.h - a shell at the other end of an ssh connection, kept open: commands go to its standard input, each
 * reply ends with a line that nobody there can guess.
 *
 * Never blocks; nothing is sent that was not quoted here, or is a constant. What others print into the stream before
 * the first reply (banners, a login script's output) is skipped. Replies come in the order of the calls.
 */
#ifndef FANSYNCD_TRANSPORTS_REMOTE_SHELL_H
#define FANSYNCD_TRANSPORTS_REMOTE_SHELL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/loop.h"

/* ---- pure ---- */

/* One word of a shell's command, in single quotes: every byte but NUL stands for itself. */
bool remote_quote(struct buf *out, const char *bytes, size_t len);

#define REMOTE_TOKEN 32
#define REMOTE_SAID_MAX 1024
#define REMOTE_LINE_MAX 4096

/* Replies out of a stream of bytes: lines, then `TOKEN SEQ STATUS`. Memory is bounded whatever comes. */
struct remote_reader {
	char token[REMOTE_TOKEN + 1];
	uint64_t next;		    /* the reply that is due; 0 is the greeting */
	char line[REMOTE_LINE_MAX]; /* cut when longer */
	size_t line_len;
	char said[REMOTE_SAID_MAX]; /* what came before the end of this reply, its beginning */
	size_t said_len;
	bool complete;	 /* what is said belongs to a reply that was given */
	bool cut;	 /* the beginning of this line is gone already */
	struct buf *all; /* gets all that comes before the end of the reply, uncut; may be NULL */
};

void remote_reader_init(struct remote_reader *r, const char *token);
/* Takes bytes up to the end of the next reply. Returns how many; *status is -1 unless a reply is complete, which then
 * is said[0..said_len) until the next call. */
size_t remote_reader_feed(struct remote_reader *r, const char *data, size_t n, int *status);

/* What ssh's own words at its end mean: class, and what to do about it. `host` is for the advice. */
void remote_why(struct err *out, const char *host, const char *said, int exit_status);

/* ---- the process ---- */

enum remote_end {
	REMOTE_LOST = 0, /* could not connect or log in, or the connection broke: `why` in ssh's words */
	REMOTE_NO_SHELL, /* connected, but no shell answers there */
};

struct remote_handler {
	void *ctx;
	void (*ready)(void *ctx);
	/* `said` is what the command printed, cut at REMOTE_SAID_MAX; not terminated. */
	void (*reply)(void *ctx, int status, const char *said, size_t len);
	/* The process is gone; calls without a reply get none. */
	void (*ended)(void *ctx, enum remote_end how, const struct err *why);
};

struct remote_spec {
	const char *const *argv; /* ssh, its options, host, a command that makes it a shell */
	const char *host;	 /* for messages */
	const char *control;	 /* its control socket: it exists once the login succeeded */
	const char *prelude;	 /* shell text that is sent first: complete lines */
	int64_t ready_ns;	 /* no greeting after so long: it is ended; once logged in it may take longer */
	size_t collect;		 /* bytes of a reply that remote_shell_data may have; 0: it has none */
};

struct remote_shell;

/* Starts it. NULL on failure. Callbacks come from the loop, and may close it. */
struct remote_shell *remote_shell_open(struct loop *loop, const struct remote_spec *spec,
				       const struct remote_handler *h, struct err *err);
void remote_shell_close(struct remote_shell *r);
/* Whether it may be given calls. */
bool remote_shell_ready(const struct remote_shell *r);
/* From within `reply`: all that the command printed, NUL and newlines as they came, and a newline. Failed when it was
 * more than may be collected. */
const struct buf *remote_shell_data(const struct remote_shell *r);
/* Bytes that wait to be sent. */
size_t remote_shell_queued(const struct remote_shell *r);
/* Send a command: text without newlines outside of quotes. false: out of memory, the shell is not usable any more. */
bool remote_shell_call(struct remote_shell *r, const char *command, size_t len);

#endif
