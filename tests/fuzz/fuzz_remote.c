/* LINK: core/safe_open.c core/pipes.c transports/rsyncssh_remote.c transports/twoway_state.c transports/remote_shell.c
 * transports/ssh_words.c core/look.c
 * core/path.c core/err.c core/buf.c core/loop.c core/clock.c core/proc.c core/log.c core/utf8.c core/twoway.c */
/* MODULE: transports/rsyncssh_remote.c */
/* What a shell at the target prints: replies cut out of its stream, and what each of them says of the files there. The
 * first byte chooses what the rest is, the second what is mirrored. An entry's path lies below the target, and is found
 * again; the order of the entries is one. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/path.h"
#include "transports/remote_shell.h"
#include "transports/rsyncssh_remote.h"

#define TOKEN "0123456789abcdef0123456789abcdef"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* In a block of its own, so that a read past its end is seen. */
static char *copy_of(const char *p, size_t n)
{
	char *copy = malloc(n + 1);

	require(copy != NULL);
	if (n > 0)
		memcpy(copy, p, n);
	return copy;
}

static void entries(unsigned how, const char *p, size_t n)
{
	const struct twoway_what what = {
		(how & 1) != 0, (how & 2) != 0, (how & 4) != 0, (how & 8) != 0, (how & 16) != 0, (how & 32) != 0, true
	};
	struct remote_entries e = { 0 };
	struct err err = ERR_INIT;
	char trouble[100], *copy = copy_of(p, n), *exact = n > 0 ? realloc(copy, n) : copy;

	require(exact != NULL);
	if (remote_entries_read(&e, &what, exact, n, trouble, sizeof(trouble), &err) < 0)
		require(err.class == ERR_PROTOCOL);
	require(strlen(trouble) < sizeof(trouble));
	for (size_t i = 0; i < e.n; i++) {
		const struct remote_entry *x = e.list[i];

		require(path_valid(x->path, x->len) && strlen(x->path) == x->len && strlen(x->head) > 0);
		require(remote_entries_find(&e, x->path, x->len) == x);
	}
	remote_entries_sort(&e);
	for (size_t i = 1; i < e.n; i++)
		require(path_compare(e.list[i - 1]->path, e.list[i - 1]->len, e.list[i]->path, e.list[i]->len) < 0);
	remote_entries_done(&e);
	free(exact);
}

static void setup(const char *p, size_t n)
{
	bool has_dir = false;
	uint64_t dev = 0;

	(void)remote_setup_answer(p, n, &has_dir, &dev);
}

/* Each reply is given once, in order, however the stream is cut. */
static void replies(size_t piece, const char *p, size_t n)
{
	struct remote_reader whole, cut;
	struct buf all, again;
	size_t a = 0, b = 0;

	buf_init(&all, 1u << 20);
	buf_init(&again, 1u << 20);
	remote_reader_init(&whole, TOKEN);
	remote_reader_init(&cut, TOKEN);
	if (piece % 2 == 0) {
		whole.all = &all;
		cut.all = &again;
	}
	while (a < n) {
		int status = -1, other = -1;

		a += remote_reader_feed(&whole, p + a, n - a, &status);
		while (b < n && other < 0 && b < a)
			b += remote_reader_feed(&cut, p + b, a - b < piece ? a - b : piece, &other);
		require(status == other && a == b && whole.said_len == cut.said_len);
		require(memcmp(whole.said, cut.said, whole.said_len) == 0 && whole.said_len <= REMOTE_SAID_MAX);
		require(status >= 0 || a == n);
	}
	require(all.len == again.len && (all.len == 0 || memcmp(all.data, again.data, all.len) == 0));
	buf_done(&all);
	buf_done(&again);
}

/* What goes back into the shell is one word, whatever it is. */
static void words(const char *p, size_t n)
{
	struct buf out;

	buf_init(&out, 1u << 20);
	require(remote_quote(&out, p, n) && out.data[0] == '\'' && out.data[out.len - 1] == '\'');
	buf_clear(&out);
	require(remote_name(&out, p, n));
	buf_clear(&out);
	require(remote_command(&out, "fs_rm", p, n, "x"));
	buf_clear(&out);
	require(remote_setup(&out, ".fansyncd", n % 2 == 0));
	buf_done(&out);
}

static void last_words(unsigned status, const char *p, size_t n)
{
	char *copy = copy_of(p, n);
	struct err err = ERR_INIT;

	copy[n] = '\0';
	remote_why(&err, "box", copy, (int)status);
	require(err.class != ERR_NONE && err.text[0] != '\0');
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data + 2;

	if (size < 2)
		return 0;
	size -= 2;
	if (data[0] % 5 == 0)
		entries(data[1], p, size);
	else if (data[0] % 5 == 1)
		replies((size_t)data[1] + 1, p, size);
	else if (data[0] % 5 == 2)
		setup(p, size);
	else if (data[0] % 5 == 3)
		words(p, size);
	else
		last_words(data[1], p, size);
	return 0;
}
