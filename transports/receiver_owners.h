/*
 * receiver_owners.h - whose the sender's files are here: the module's uid and gid, its usermap and groupmap, the number
 * that a name has here, else the sender's number.
 */
#ifndef FANSYNCD_TRANSPORTS_RECEIVER_OWNERS_H
#define FANSYNCD_TRANSPORTS_RECEIVER_OWNERS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "core/options.h"
#include "core/owner_map.h"
#include "core/owners.h"

/* A module's tables, with the names of this host looked up. */
struct module_owners {
	struct owner_map users, groups;
};

struct receiver_owners;

struct receiver_owners_setup {
	const struct receiver_module *module; /* both outlive it */
	const struct module_owners *maps;     /* NULL: none */
	bool names;			      /* the sender tells them */
	/* The number of a name here: asked once a name. May wait a little, and not for ever. */
	void (*look_up)(void *ctx, const struct owner_question *q, struct owner_answer *out);
	void *ctx;
};

/* Also looks the names of this host up, and may wait for that. -1: there is no such user, or it can't be known. */
int module_owners_read(const struct receiver_module *m, struct module_owners *out, struct err *err);
void module_owners_done(struct module_owners *o);

/* NULL: out of memory. */
struct receiver_owners *receiver_owners_new(const struct receiver_owners_setup *setup);
void receiver_owners_free(struct receiver_owners *o);
/* A NAME frame. false: it breaks a rule. */
bool receiver_owners_frame(struct receiver_owners *o, const char *payload, size_t len);
/* Whether all that was told so far has the sender's numbers here: what has the same numbers then has the same owners.
 */
bool receiver_owners_alike(const struct receiver_owners *o);
/* The sender's owners as they are to be here. */
void receiver_owners_map(const struct receiver_owners *o, struct stat *st);

#endif
