/*
 * receiver_session.h - one sender's connection, served: handshake, works carried out by the mirroring engine on a
 * module's tree, acknowledgements. In the loop of a process of its own.
 */
#ifndef FANSYNCD_TRANSPORTS_RECEIVER_SESSION_H
#define FANSYNCD_TRANSPORTS_RECEIVER_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/loop.h"
#include "core/options.h"
#include "core/origins.h"
#include "transports/receiver_owners.h"
#include "transports/tcp_frames.h"
#include "transports/tls.h"

struct receiver_session;

struct receiver_session_setup {
	struct loop *loop;
	int fd;			 /* accepted; the session's from here */
	struct tls_context *tls; /* NULL: plaintext, allowed for this peer */
	const struct receiver_options *opt;
	const int *module_fds;			   /* one a module, O_DIRECTORY; -1: it is not there */
	const struct module_owners *module_owners; /* one a module; NULL: none has a table */
	unsigned char host_id[TCP_HOST_ID], boot[TCP_HOST_ID];
	const char *from; /* the peer's address, for the log */
	/* The handshake is over: no key is looked for any more. NULL: nobody wants to know. */
	void (*proved)(void *ctx);
	/* The peer has proved who it is, and its greeting was accepted: receiver_session_welcome is to follow. `from`:
	 * the tree that it sends, all but the address. */
	void (*greeted)(void *ctx, const struct host_tree *from);
	/* What number a name has here; may wait a little. NULL: it can't be known. */
	void (*look_up)(void *ctx, const struct owner_question *q, struct owner_answer *out);
	/* The last call: the connection is over. */
	void (*ended)(void *ctx);
	void *ctx;
};

struct receiver_session *receiver_session_new(const struct receiver_session_setup *setup, struct err *err);
/* Answer the greeting: the peer may send works from now on. */
void receiver_session_welcome(struct receiver_session *s);
/* Which module it is about, once the greeting was accepted: an index into setup.opt->modules. */
size_t receiver_session_module(const struct receiver_session *s);
/* Whether the peer proved who it is, where it has to: the handshake came to its end. */
bool receiver_session_proved(const struct receiver_session *s);
void receiver_session_free(struct receiver_session *s);

#endif
