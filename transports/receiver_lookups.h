/*
 * receiver_lookups.h - what a receiver's process asks for its sessions, which are confined: the numbers of names. In
 * the loop; each question that is not remembered is a child's (core/owners.h).
 */
#ifndef FANSYNCD_TRANSPORTS_RECEIVER_LOOKUPS_H
#define FANSYNCD_TRANSPORTS_RECEIVER_LOOKUPS_H

#include <sys/types.h>

#include "core/loop.h"
#include "core/owners.h"

struct receiver_lookups;

/* `answer` is called once for each question, never from within receiver_lookups_ask. NULL on failure. */
struct receiver_lookups *receiver_lookups_new(struct loop *loop,
					      void (*answer)(void *ctx, pid_t session, const struct owner_answer *a),
					      void *ctx, struct err *err);
/* Without answers to what is under way. */
void receiver_lookups_free(struct receiver_lookups *l);
/* Whoever asks waits for the answer before the next question: a second one meanwhile is passed over. */
void receiver_lookups_ask(struct receiver_lookups *l, pid_t session, const struct owner_question *q);

#endif
