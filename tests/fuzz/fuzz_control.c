/* LINK: core/control.c core/unix_listen.c core/frame.c core/buf.c core/loop.c core/clock.c core/err.c */
/* MODULE: core/control.c core/frame.c */
/* A request as any local process may send it: what is accepted keeps the rules, and is all of the payload. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/control.h"
#include "core/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *payload, size_t len)
{
	const char *argv[CONTROL_ARGS_MAX + 1];
	size_t argc = SIZE_MAX, at = 0;

	if (!control_parse_request(payload, len, argv, &argc))
		return;
	if (argc > CONTROL_ARGS_MAX || argv[argc] != NULL || len > CONTROL_REQUEST_MAX)
		abort();
	for (size_t i = 0; i < argc; i++) {
		if (argv[i] != payload + at)
			abort();
		at += strlen(argv[i]) + 1;
	}
	if (at != len)
		abort();
}

/* The bytes as a payload, and as a stream of frames as the server reads one. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *payload;
	struct buf in;
	uint8_t type;
	size_t len;

	check((const char *)data, size);
	buf_init(&in, size);
	if (size > 0 && !buf_add(&in, data, size))
		abort();
	while (frame_next(&in, CONTROL_REQUEST_MAX, &type, &payload, &len) > 0)
		check(payload, len);
	buf_done(&in);
	return 0;
}
