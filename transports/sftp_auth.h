/*
 * sftp_auth.h - log in over a libssh2 session: identityFile, the agent's keys, the usual keys, a password from a file.
 *
 * What is configured is used, and nothing else: identityFile and passwordFile; without either, the agent's keys and
 * then
 * ~/.ssh's usual ones. Never asks anybody. Reads small local files and asks the agent, blocking; the network never.
 */
#ifndef FANSYNCD_TRANSPORTS_SFTP_AUTH_H
#define FANSYNCD_TRANSPORTS_SFTP_AUTH_H

#include <stdbool.h>
#include <stddef.h>

#include <libssh2.h>

#include "core/err.h"
#include "core/options.h"

struct sftp_auth;

/* What a session's abstract pointer refers to: libssh2's callbacks get it. */
struct sftp_lib {
	void *io;		/* sftp_ssh.c's */
	struct sftp_auth *auth; /* while logging in */
	bool no_memory;		/* some was refused: then libssh2's own words are about what came of it */
	bool ended;		/* more was wanted than the peer had said before it ended the connection */
	/* libssh2 1.10 takes the algorithm's name out of the public key, where it says "ssh-rsa". So the key that it is
	 * given begins with the name that is meant, and becomes itself between the two: libssh2 allocates memory for
	 * the name, copies it, allocates memory for the packet, and copies the key. */
	struct {
		unsigned allocations; /* until it becomes itself; 0: nothing to do */
		char *shown;
		const char *real;
		size_t n;
	} key;
};

void *sftp_lib_alloc(size_t n, void **abstract);
void *sftp_lib_realloc(void *p, size_t n, void **abstract);
void sftp_lib_free(void *p, void **abstract);

/* `user` and `opt` outlive it. NULL when out of memory. */
struct sftp_auth *sftp_auth_new(LIBSSH2_SESSION *session, struct sftp_lib *lib, const struct sync_options *opt,
				const char *user, struct err *err);
/* 1: logged in. 0: go on when the peer has answered. -1: refused, or the session is over. */
int sftp_auth_step(struct sftp_auth *a, struct err *err);
/* NULL is fine. */
void sftp_auth_free(struct sftp_auth *a);

#endif
