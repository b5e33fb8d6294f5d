#include "transports/tcp_twoway.h"

#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/path.h"
#include "transports/twoway_archive.h"
#include "transports/twoway_state.h"

struct tcp_twoway {
	const struct transport_env *env;
	struct archive *archive;
	bool fresh;
};

struct tcp_twoway *tcp_twoway_open(const struct transport_env *env, struct err *err)
{
	struct tcp_twoway *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		err_set(err, ERR_NOMEM, "out of memory");
		return NULL;
	}
	t->env = env;
	t->archive = twoway_archive_open(env, &t->fresh, err);
	if (t->archive != NULL)
		return t;
	free(t);
	return NULL;
}

void tcp_twoway_free(struct tcp_twoway *t)
{
	if (t == NULL)
		return;
	archive_close(t->archive);
	free(t);
}

int tcp_twoway_get(struct tcp_twoway *t, const char *path, size_t len, struct twoway_state *out, struct err *err)
{
	return archive_get(t->archive, path, len, out, err);
}

/* ---- listings ---- */

/* Two sorted lists side by side: what is archived, and what is there. */
struct merge {
	struct listing *list;
	const struct fileops_wish *wish;
	size_t skip;  /* bytes of the directory's path */
	size_t at, n; /* of the entries that are there; those that are gone come behind them */
	bool out_of_memory;
};

static bool merge_one(void *ctx, const char *path, size_t len, const struct twoway_state *state)
{
	struct merge *m = ctx;
	const char *name = path + m->skip;
	struct fileops_entry *e = NULL;
	size_t n = len - m->skip;
	int order = 1;

	while (m->at < m->n && (order = listing_compare(m->list->v[m->at].name, m->list->v[m->at].len, name, n)) < 0)
		m->at++;
	if (m->at < m->n && order == 0)
		e = &m->list->v[m->at];
	if (e != NULL && e->st.st_mode == 0)
		return true; /* it is there, but could not be looked at */
	if (e == NULL && !m->wish->keep(m->wish->ctx, name, n, state->look == LOOK_DIR))
		return true;
	if (e == NULL)
		e = listing_add(m->list, name, n); /* it may move all the others */
	m->out_of_memory = e == NULL || !listing_agree(m->list, e, state);
	return !m->out_of_memory;
}

int tcp_twoway_list(struct tcp_twoway *t, const char *dir, size_t len, const struct fileops_wish *wish,
		    struct listing *list, struct err *err)
{
	struct merge m = { .list = list, .wish = wish, .skip = len == 0 ? 0 : len + 1, .n = list->n };

	if (archive_each(t->archive, dir, len, true, merge_one, &m, err) < 0)
		return -1;
	if (m.out_of_memory)
		return err_set(err, ERR_NOMEM, "out of memory for what is archived");
	listing_sort(list);
	return 0;
}

/* ---- what the receiver says ---- */

static bool on_notes(struct tcp_twoway *t, const char *payload, size_t len, struct err *err)
{
	struct tcp_note n;
	struct reader r;
	uint32_t count;

	if (!tcp_get_notes(payload, len, &r, &count))
		return false;
	for (uint32_t i = 0; i < count; i++)
		if (!tcp_next_note(&r, &n) || archive_note(t->archive, n.path.p, n.path.len, &n.state, err) < 0)
			return false;
	return tcp_all_read(&r);
}

static bool on_conflict(struct tcp_twoway *t, const char *payload, size_t len)
{
	struct tcp_conflict c;
	char words[TWOWAY_CONFLICT_WORDS];

	if (!tcp_get_conflict(payload, len, &c))
		return false;
	t->env->counters->conflicts++;
	log_warn("%s", twoway_conflict_words(c.path.p, c.path.len, &c.source, &c.target, c.source_won, words));
	return true;
}

bool tcp_twoway_frame(struct tcp_twoway *t, uint8_t type, const char *payload, size_t len, struct err *err)
{
	struct tcp_bytes from, to;

	if (type == TCP_NOTE)
		return on_notes(t, payload, len, err);
	if (type == TCP_MOVED)
		return tcp_get_moved(payload, len, &from, &to) &&
		       archive_rename(t->archive, from.p, from.len, to.p, to.len, err) == 0;
	return type == TCP_CONFLICT && on_conflict(t, payload, len);
}

bool tcp_twoway_in_doubt(const struct tcp_twoway *t)
{
	return archive_in_doubt(t->archive);
}

int tcp_twoway_commit(struct tcp_twoway *t, bool whole, struct err *err)
{
	return twoway_archive_commit(t->archive, t->env, &t->fresh, whole, err);
}
