/*
 * receiver_child.h - the process of one session: given up what it does not need, then served.
 */
#ifndef FANSYNCD_TRANSPORTS_RECEIVER_CHILD_H
#define FANSYNCD_TRANSPORTS_RECEIVER_CHILD_H

#include "core/options.h"
#include "core/wire.h"
#include "transports/receiver_owners.h"
#include "transports/tcp_frames.h"
#include "transports/tls.h"

struct receiver_child {
	int fd;	    /* the connection */
	int log_fd; /* frames of log lines, each written at once; and, when the peer has greeted, WIRE_ORIGIN: until
		     * then it may be ended to make room */
	int go_fd;  /* that is answered here: a byte; it begins then. Later each WIRE_OWNER: a struct owner_answer */
	unsigned char address[ADDRESS_BYTES]; /* the peer's */
	const struct receiver_options *opt;
	int *module_fds; /* one a module, this process's own copy; its peer's alone stays open */
	const struct module_owners *module_owners; /* one a module */
	struct tls_key *keys;			   /* the same; wiped once the peer has proved who it is */
	size_t n_keys;
	unsigned char host_id[TCP_HOST_ID], boot[TCP_HOST_ID];
	const char *from; /* the peer's address */
	bool from_here;	  /* it is this host's: plaintext is allowed */
};

/* Never returns. To be called in a process that was just forked: it uses no loop, timer or descriptor of the one it
 * came from but those that are named. */
void receiver_child_run(const struct receiver_child *c) __attribute__((noreturn));

#endif
