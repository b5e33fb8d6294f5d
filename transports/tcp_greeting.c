/* tcp_greeting.c - before a sender's connection is one: who proves what to whom, and what a receiver says that takes no
 * more; see tcp_private.h. */
#include <stddef.h>

#include "transports/tcp_private.h"

bool tcp_read_refusal(const char *payload, size_t len, struct err *err)
{
	struct err why;

	if (!tcp_get_err(payload, len, &why))
		return err_set(err, ERR_PROTOCOL, "the receiver's refusal makes no sense") == 0;
	return err_set(err, why.class == ERR_NONE ? ERR_NETWORK : why.class, "the receiver ended it: %s",
		       why.class == ERR_NONE ? "without a reason" : why.text) == 0;
}

int tcp_make_tls(const struct sync_options *opt, struct tls_context **out, struct err *err)
{
	const struct tcp_options *o = &opt->tcp;
	struct tls_config c = { .certificate = o->certificate,
				.private_key = o->private_key,
				.ca = o->ca,
				.peer_name = o->peer_name != NULL ? o->peer_name : opt->host };
	struct tls_key key;

	if (o->key == NULL && o->certificate == NULL)
		return 0;
	if (o->key != NULL && tls_key_read(o->key, &key, err) < 0)
		return -1;
	c.key = o->key == NULL ? NULL : &key;
	*out = tls_client_new(&c, err);
	if (o->key != NULL)
		tls_key_wipe(&key);
	return *out == NULL ? -1 : 0;
}
