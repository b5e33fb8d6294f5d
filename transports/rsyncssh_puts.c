/*
 * rsyncssh_puts.c - what rsync has left in the private directory at the target takes the place of what was looked at
 * there.
 *
 * Between look and rename rsync needs a while, in which both ends go on. An edit that arrives at the target meanwhile
 * would be overtaken by an older one, which that host's daemon then sends on; and when the source is replaced between
 * rsync's listing and its reading, content and time of what arrives are not of one edit. So rsync writes beside, we
 * look whether the source is still what was decided on, and the shell looks once more just before the rename.
 */
#include "core/log.h"
#include "transports/rsyncssh_twoway_private.h"

void puts_enter(struct twoway *t)
{
	struct err err = ERR_INIT;
	struct change *c;

	t->put = 0;
	looker_done(&t->looker); /* what was open may be another directory by now */
	for (size_t i = 0; i < t->lane_work.n_items && t->lane == TWOWAY_STAGED; i++) {
		c = t->sends.v[t->lane_change[i]];
		if (c->fate != FATE_SENT)
			continue;
		c->staged = true;
		if (twoway_unchanged(t, c))
			continue;
		err_set(&err, ERR_AGAIN, "the source was changed while it was sent");
		twoway_verdict(t, c, VERDICT_RETRY, &err);
	}
}

bool puts_issue(struct twoway *t)
{
	const struct change *c;
	struct buf command;

	while (t->put < t->sends.n && (!t->sends.v[t->put]->staged || t->sends.v[t->put]->fate != FATE_SENT))
		t->put++;
	if (t->put == t->sends.n)
		return false;
	c = t->sends.v[t->put];
	t->puts[t->asked] = t->put++;
	buf_init(&command, TWOWAY_COMMAND_MAX);
	/* A directory that stood there was removed. */
	(void)remote_command(&command, "fs_put", c->path, c->len, c->target.look == LOOK_DIR ? "" : c->head);
	return twoway_call(t, &command);
}

void puts_answer(struct twoway *t, size_t n, int status, const char *said, size_t len, const struct buf *data)
{
	struct change *c = t->sends.v[t->puts[n]];
	struct err err = ERR_INIT;

	(void)data;
	if (status == REMOTE_DONE)
		return;
	if (status == REMOTE_GONE || status == REMOTE_OTHER || status == REMOTE_FILLED)
		err_set(&err, ERR_AGAIN, "the target was changed meanwhile");
	else
		err_set(&err, ERR_IO, "could not take its place at the target: %.*s", (int)(len < 400 ? len : 400),
			said);
	twoway_verdict(t, c, VERDICT_RETRY, &err);
}

enum phase_id puts_over(struct twoway *t)
{
	(void)t;
	return PHASE_BACKS;
}
