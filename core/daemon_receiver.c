/* The daemon's receiver: a process that is started, watched, and started again. */
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/daemon_private.h"
#include "core/log.h"
#include "core/policy.h"

#define TEXT_MAX (8u * 1024 * 1024)
#define RETRY_FIRST_NS NS_PER_S
#define RETRY_LAST_NS (60 * NS_PER_S)

static void set_why(struct receiver_service *r, const char *why)
{
	free(r->why);
	r->why = why == NULL ? NULL : strdup(why);
}

static void on_ready(void *ctx)
{
	struct receiver_service *r = ctx;

	r->ready = true;
	r->tries = 0;
	set_why(r, NULL);
}

static void on_down(void *ctx, const struct err *why)
{
	struct receiver_service *r = ctx;

	log_error("receiver: %s", why->text);
	set_why(r, why->text);
}

/* Before the session may write; and after its end, when all that it did was read of. Where that takes longer the rest
 * is carried back: the number is perhaps another's by then. */
static void on_origin(void *ctx, uint32_t pid, const struct host_tree *from)
{
	struct receiver_service *r = ctx;

	if (from->ino == 0) {
		(void)r->daemon->env.drain(r->daemon->env.ctx);
		origins_drop(&r->origins, pid);
		return;
	}
	origins_put(&r->origins, pid, from);
	(void)worker_link_known(r->link, pid);
}

static void on_ended(void *ctx, const char *how)
{
	struct receiver_service *r = ctx;

	r->origins.n = 0;
	if (r->ready || r->why == NULL)
		log_error("receiver: its process ended: %s", how);
	if (r->why == NULL)
		set_why(r, how);
	r->ready = false;
	r->ended = true;
}

static int launch(struct receiver_service *r, struct err *err)
{
	struct daemon *d = r->daemon;
	const struct worker_events events = {
		.ready = on_ready, .down = on_down, .origin = on_origin, .ended = on_ended, .ctx = r
	};
	struct worker_spec spec = { .mode = "--receiver", .name = "receiver", .n_listen = d->options->n_listen };
	struct buf text;
	int result = 0;

	buf_init(&text, TEXT_MAX);
	if (d->deps->receiver_text_of(d->config, &text) < 0)
		result = err_set(err, ERR_NOMEM, "out of memory for the receiver's configuration");
	spec.config = (struct wire_config){ .text = text.data,
					    .text_len = text.len,
					    .runtime_dir = d->runtime_root,
					    .archive_path = "",
					    .log_mask = log_mask() };
	memcpy(spec.config.host_id, d->env.host_id, HOST_ID_BYTES);
	if (result == 0) {
		r->link = worker_link_start(d->loop, &spec, &events, err);
		result = r->link == NULL ? -1 : 0;
	}
	buf_done(&text);
	return result;
}

static void plan_retry(struct receiver_service *r)
{
	r->tries++;
	loop_timer_after(r->timer, policy_backoff_ns(r->tries, RETRY_FIRST_NS, RETRY_LAST_NS, 0));
}

static void on_timer(void *ctx)
{
	struct receiver_service *r = ctx;
	struct err err = ERR_INIT;

	if (r->link != NULL || r->daemon->stopping || r->daemon->config->receiver == NULL)
		return;
	r->restarts++;
	if (launch(r, &err) == 0)
		return;
	log_error("receiver: %s", err.text);
	set_why(r, err.text);
	plan_retry(r);
}

int receiver_start(struct daemon *d, struct err *err)
{
	struct receiver_service *r = &d->receiver;

	r->daemon = d;
	r->timer = loop_timer_add(d->loop, on_timer, r, err);
	if (r->timer == NULL)
		return -1;
	return d->config->receiver == NULL ? 0 : launch(r, err);
}

void receiver_poll(struct daemon *d)
{
	struct receiver_service *r = &d->receiver;

	if (!r->ended)
		return;
	worker_link_free(r->link);
	r->link = NULL;
	r->ended = false;
	if (!d->stopping && d->config->receiver != NULL)
		plan_retry(r);
}

void receiver_reload(struct daemon *d, bool changed)
{
	struct receiver_service *r = &d->receiver;

	if (r->timer == NULL || (!changed && r->link != NULL && !r->ended)) {
		if (r->link != NULL && !r->ended)
			(void)worker_link_set_log_mask(r->link, log_mask());
		return;
	}
	worker_link_free(r->link);
	r->link = NULL;
	r->origins.n = 0;
	r->ended = r->ready = false;
	r->tries = 0;
	set_why(r, NULL);
	if (d->config->receiver != NULL)
		loop_timer_after(r->timer, 0);
	else
		loop_timer_stop(r->timer);
}

void receiver_end(struct daemon *d)
{
	struct receiver_service *r = &d->receiver;

	worker_link_free(r->link);
	if (r->timer != NULL)
		loop_timer_remove(r->timer);
	free(r->why);
	*r = (struct receiver_service){ .daemon = d };
}
