#include "transports/receiver_owners.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "transports/tcp_frames.h"

#define SLOTS (2u * TCP_NAMES_MAX)

/* A number of the sender's that has a name, and what it is here. 0, which is no such number: free. */
struct known {
	uint32_t id, here;
};

struct table {
	struct known *slots; /* SLOTS; NULL: empty */
	size_t n;
};

struct receiver_owners {
	struct receiver_owners_setup up;
	struct table users, groups;
	bool moved; /* a name has another number here */
};

/* ---- a module's tables ---- */

static int look_up_here(const char *module, const char *what, enum owner_kind kind, struct owner_map *m,
			struct err *err)
{
	for (size_t i = 0; i < m->n; i++) {
		struct owner_question q = { .kind = kind };
		struct owner_answer a;

		if (m->rules[i].to_name[0] == '\0')
			continue;
		memcpy(q.name, m->rules[i].to_name, sizeof(q.name));
		owner_look_up(0, &q, &a);
		if (a.result == OWNER_FAILED)
			return err_set(err, ERR_AGAIN, "module %.60s: %s: %.200s can't be looked up now", module, what,
				       q.name);
		if (a.result != OWNER_FOUND)
			return err_set(err, ERR_CONFIG, "module %.60s: %s: there is no %s %.200s here", module, what,
				       kind == OWNER_USER ? "user" : "group", q.name);
		m->rules[i].to = a.id;
	}
	return 0;
}

int module_owners_read(const struct receiver_module *m, struct module_owners *out, struct err *err)
{
	*out = (struct module_owners){ 0 };
	if (owner_map_parse(&m->usermap, &out->users, err) == 0 &&
	    owner_map_parse(&m->groupmap, &out->groups, err) == 0 &&
	    look_up_here(m->name, "usermap", OWNER_USER, &out->users, err) == 0 &&
	    look_up_here(m->name, "groupmap", OWNER_GROUP, &out->groups, err) == 0)
		return 0;
	module_owners_done(out);
	return -1;
}

void module_owners_done(struct module_owners *o)
{
	owner_map_done(&o->users);
	owner_map_done(&o->groups);
}

/* ---- a session's ---- */

struct receiver_owners *receiver_owners_new(const struct receiver_owners_setup *setup)
{
	struct receiver_owners *o = calloc(1, sizeof(*o));

	if (o != NULL)
		o->up = *setup;
	return o;
}

void receiver_owners_free(struct receiver_owners *o)
{
	if (o == NULL)
		return;
	free(o->users.slots);
	free(o->groups.slots);
	free(o);
}

/* Its place, or the free one where it belongs. */
static struct known *slot_of(const struct table *t, uint32_t id)
{
	uint32_t at = id * UINT32_C(2654435761) % SLOTS;

	while (t->slots[at].id != 0 && t->slots[at].id != id)
		at = (at + 1) % SLOTS;
	return &t->slots[at];
}

static const struct owner_map *map_of(const struct receiver_owners *o, enum owner_kind kind)
{
	static const struct owner_map none = { 0 };

	if (o->up.maps == NULL)
		return &none;
	return kind == OWNER_USER ? &o->up.maps->users : &o->up.maps->groups;
}

static int64_t fixed(const struct receiver_owners *o, enum owner_kind kind)
{
	return kind == OWNER_USER ? o->up.module->uid : o->up.module->gid;
}

/* The module's table first; then the name; then the number. */
static uint32_t here(const struct receiver_owners *o, enum owner_kind kind, uint32_t id, const char *name)
{
	struct owner_question q = { .kind = kind };
	struct owner_answer a = { .result = OWNER_FAILED };
	uint32_t to;

	if (fixed(o, kind) >= 0)
		return id; /* nobody asks */
	if (owner_map_find(map_of(o, kind), id, name, &to))
		return to;
	memcpy(q.name, name, strlen(name) + 1);
	if (o->up.look_up != NULL)
		o->up.look_up(o->up.ctx, &q, &a);
	if (a.result == OWNER_FAILED)
		log_warn("the %s %s can't be looked up here: its number, %u, counts until the next connection",
			 kind == OWNER_USER ? "user" : "group", name, id);
	return a.result == OWNER_FOUND ? a.id : id;
}

bool receiver_owners_frame(struct receiver_owners *o, const char *payload, size_t len)
{
	char name[OWNER_NAME_MAX + 1];
	struct known *slot;
	struct tcp_name n;
	struct table *t;

	if (!o->up.names || !tcp_get_name(payload, len, &n))
		return false;
	t = n.kind == OWNER_USER ? &o->users : &o->groups;
	if (t->slots == NULL)
		t->slots = calloc(SLOTS, sizeof(*t->slots));
	if (t->slots == NULL)
		return true; /* its number counts */
	slot = slot_of(t, n.id);
	if (slot->id != 0 || t->n >= TCP_NAMES_MAX)
		return false;
	memcpy(name, n.name.p, n.name.len);
	name[n.name.len] = '\0';
	*slot = (struct known){ .id = n.id, .here = here(o, n.kind, n.id, name) };
	t->n++;
	o->moved |= slot->here != slot->id;
	return true;
}

bool receiver_owners_alike(const struct receiver_owners *o)
{
	return !o->moved && fixed(o, OWNER_USER) < 0 && fixed(o, OWNER_GROUP) < 0 && map_of(o, OWNER_USER)->n == 0 &&
	       map_of(o, OWNER_GROUP)->n == 0;
}

static uint32_t map_one(const struct receiver_owners *o, enum owner_kind kind, uint32_t id)
{
	const struct table *t = kind == OWNER_USER ? &o->users : &o->groups;
	const struct known *k = t->slots == NULL || id == 0 ? NULL : slot_of(t, id);
	uint32_t to;

	if (fixed(o, kind) >= 0)
		return (uint32_t)fixed(o, kind);
	if (k != NULL && k->id != 0)
		return k->here;
	return owner_map_find(map_of(o, kind), id, NULL, &to) ? to : id;
}

void receiver_owners_map(const struct receiver_owners *o, struct stat *st)
{
	st->st_uid = map_one(o, OWNER_USER, st->st_uid);
	st->st_gid = map_one(o, OWNER_GROUP, st->st_gid);
}
