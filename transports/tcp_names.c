#include "transports/tcp_names.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/owners.h"
#include "transports/tcp_frames.h"

#define SLOTS (2u * TCP_NAMES_MAX)

/* Numbers that were seen: told, or known to have no name. 0 is root everywhere, and never told. */
struct seen {
	enum owner_kind kind;
	bool wanted;
	uint32_t last; /* most often it is the one of before */
	size_t n;
	uint32_t slots[SLOTS];
};

struct tcp_names {
	struct tcp_stream *stream;
	int lookups;
	struct seen users, groups;
	struct buf scratch;
};

struct tcp_names *tcp_names_new(struct tcp_stream *stream, int lookups, bool users, bool groups)
{
	struct tcp_names *n = calloc(1, sizeof(*n));

	if (n == NULL)
		return NULL;
	n->stream = stream;
	n->lookups = lookups;
	n->users.kind = OWNER_USER;
	n->users.wanted = users;
	n->groups.kind = OWNER_GROUP;
	n->groups.wanted = groups;
	buf_init(&n->scratch, TCP_FRAME_MAX);
	return n;
}

void tcp_names_free(struct tcp_names *n)
{
	if (n == NULL)
		return;
	buf_done(&n->scratch);
	free(n);
}

/* Whether it is new; it is not any more. */
static bool is_new(struct seen *s, uint32_t id)
{
	uint32_t at = id * UINT32_C(2654435761) % SLOTS;

	while (s->slots[at] != 0 && s->slots[at] != id)
		at = (at + 1) % SLOTS;
	if (s->slots[at] == id || s->n >= TCP_NAMES_MAX)
		return false; /* of more than that the numbers count */
	s->slots[at] = id;
	if (++s->n == TCP_NAMES_MAX)
		log_warn("more than %u %s: the numbers of the others are sent without names", TCP_NAMES_MAX,
			 s->kind == OWNER_USER ? "owners" : "groups");
	return true;
}

static void tell(struct tcp_names *n, struct seen *s, uint32_t id)
{
	const struct owner_question q = { .kind = s->kind, .id = id };
	struct owner_answer a;

	if (!s->wanted || id == 0 || id == s->last)
		return;
	s->last = id;
	if (!is_new(s, id))
		return;
	owner_look_up(n->lookups, &q, &a);
	if (a.result == OWNER_FAILED)
		log_warn("the name of %s %u can't be looked up: the number is sent alone until the next connection",
			 s->kind == OWNER_USER ? "user" : "group", id);
	if (a.result != OWNER_FOUND || !owner_name_valid(a.name, strlen(a.name)))
		return;
	buf_clear(&n->scratch);
	tcp_put_name(&n->scratch, &(struct tcp_name){ .kind = s->kind, .id = id, .name = { a.name, strlen(a.name) } });
	(void)tcp_stream_send_buf(n->stream, TCP_NAME, &n->scratch);
}

void tcp_names_tell(struct tcp_names *n, const struct stat *st)
{
	if (n == NULL)
		return;
	tell(n, &n->users, st->st_uid);
	tell(n, &n->groups, st->st_gid);
}
