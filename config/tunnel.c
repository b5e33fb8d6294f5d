/* tunnel.c - tunnel = { }: whether its program knows where to listen, and anything leads into it. */
#include "config/private.h"
#include "core/tunnel_port.h"

/* A key that is named "${port}" in, outside of the tunnel's own section; NULL: none. */
static const struct config_key *named_in(const struct sync_options *s)
{
	size_t n;
	const struct config_key *table = config_table(&n);

	for (size_t i = 0; i < n; i++) {
		const struct config_key *k = &table[i];
		const void *field = (const char *)s + k->offset;

		if ((k->flags & KEY_PORT) == 0 || k->section == SECTION_TUNNEL)
			continue;
		if (k->type == TYPE_INT	   ? *(const int64_t *)field == OPTIONS_TUNNEL_PORT
		    : k->type == TYPE_LIST ? tunnel_port_named_in(field)
					   : tunnel_port_named(*(char *const *)field))
			return k;
	}
	return NULL;
}

static bool any_given(const struct config_draft *d)
{
	size_t n;
	const struct config_key *table = config_table(&n);

	for (size_t i = 0; i < n; i++)
		if (table[i].section == SECTION_TUNNEL && d->at[i].file != NULL)
			return true;
	return false;
}

static void without(struct config_run *run, const struct sync_options *s, struct config_draft *d)
{
	const struct config_key *k = named_in(s);

	if (any_given(d)) {
		d->broken = true;
		config_error(run, config_draft_place(d, "command", SECTION_TUNNEL),
			     "tunnel: command is missing: the program that leads to the target, as a list of words");
	} else if (k != NULL &&
		   (k->type == TYPE_INT || (k->offset == offsetof(struct sync_options, target) && !d->local))) {
		d->broken = true;
		config_error(run, config_draft_place(d, k->name, k->section),
			     "%s: " TUNNEL_PORT_WORD
			     " is the port of a tunnel, and the sync has none: tunnel = { command = "
			     "[ ... ]; };",
			     k->name);
	}
}

void config_check_tunnel(struct config_run *run, const struct sync_options *s, struct config_draft *d)
{
	struct config_place at = config_draft_place(d, "command", SECTION_TUNNEL);

	if (s->tunnel.command.n == 0) {
		without(run, s, d);
		return;
	}
	if (s->tunnel.port > 0 || s->tunnel.ready_delay_ns > 0)
		return; /* it may know by itself, and so may the sync */
	if (!tunnel_port_named_in(&s->tunnel.command))
		config_error(run, at,
			     "tunnel: " TUNNEL_PORT_WORD
			     " does not stand in its command, which can't know where to listen; "
			     "if that is fixed, say where: port");
	if (named_in(s) == NULL)
		config_error(run, at,
			     "tunnel: nothing leads into it: write " TUNNEL_PORT_WORD " as the port of target, as in "
			     "rsync://127.0.0.1:" TUNNEL_PORT_WORD
			     "/module, or as port (tcp) or ssh.port (sftp, rsyncssh)");
}
