/*
 * driver.c - runs a fuzz target without a fuzzer: each file of its corpus, then a bounded number of seeded mutations.
 *
 * fuzz_NAME [-r ROUNDS] [-s SEED] [FILE | DIRECTORY]...
 * Linked with each tests/fuzz/fuzz_*.c in `make test`, so that the corpora are regression tests under any compiler;
 * `make fuzz` links the same targets with libFuzzer instead. A crash leaves its input in crash-SEED-ROUND in the
 * current directory if it was a mutation, and its name on stderr in any case.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

enum { INPUT_MAX_SIZE = 1 << 16, EDITS_MAX = 8 };

struct input {
	uint8_t *data;
	size_t size;
};

struct corpus {
	struct input *v;
	size_t n;
};

/* What runs now, for the crash handler. */
static struct {
	const uint8_t *data;
	size_t size;
	char name[512];
	bool mutated;
} now;

/* xorshift64*: the same sequence on every machine. */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

static size_t below(uint64_t *state, size_t n)
{
	return n ? (size_t)((next_random(state) >> 16) % n) : 0;
}

static void die(const char *what, const char *name)
{
	fprintf(stderr, "driver: %s %s: %s\n", what, name, strerror(errno));
	exit(2);
}

/* Only what is safe in a signal handler. */
static void say(const char *text, size_t len)
{
	if (write(STDERR_FILENO, text, len) < 0)
		_exit(3);
}

static void on_death(int signo)
{
	say("\ndriver: died in ", 17);
	say(now.name, strlen(now.name));
	say("\n", 1);
	if (now.mutated) {
		int fd = open(now.name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

		if (fd < 0 || write(fd, now.data, now.size) < 0)
			say("driver: its input could not be kept\n", 36);
	}
	signal(signo, SIG_DFL);
	raise(signo);
}

static void run(const uint8_t *data, size_t size)
{
	/* A block of exactly its size, so that the sanitizer sees a read past its end. */
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		die("out of memory for", now.name);
	if (size)
		memcpy(copy, data, size);
	now.data = copy;
	now.size = size;
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static void take(struct corpus *c, const uint8_t *data, size_t size)
{
	struct input *v = realloc(c->v, (c->n + 1) * sizeof *v);

	if (!v)
		die("out of memory for", now.name);
	c->v = v;
	v[c->n].data = malloc(size ? size : 1);
	if (!v[c->n].data)
		die("out of memory for", now.name);
	if (size)
		memcpy(v[c->n].data, data, size);
	v[c->n].size = size;
	c->n++;
}

static void load_file(struct corpus *c, const char *path)
{
	static uint8_t data[INPUT_MAX_SIZE];
	FILE *f = fopen(path, "re");
	size_t size;

	if (!f)
		die("open", path);
	size = fread(data, 1, sizeof data, f);
	if (ferror(f))
		die("read", path);
	fclose(f);
	snprintf(now.name, sizeof now.name, "%s", path);
	run(data, size);
	take(c, data, size);
}

static void load_dir(struct corpus *c, const char *path)
{
	struct dirent **names;
	int n = scandir(path, &names, NULL, alphasort);

	if (n < 0)
		die("list", path);
	for (int i = 0; i < n; i++) {
		char file[4096];
		struct stat st;
		int len = snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);

		if (len > 0 && (size_t)len < sizeof file && stat(file, &st) == 0 && S_ISREG(st.st_mode))
			load_file(c, file);
		free(names[i]);
	}
	free(names);
}

static void load(struct corpus *c, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		die("find", path);
	if (S_ISDIR(st.st_mode))
		load_dir(c, path);
	else
		load_file(c, path);
}

/* Numbers at which lengths and counts go wrong. */
static uint8_t odd_byte(uint64_t *rng)
{
	static const uint8_t odd[] = { 0, 1, 2, 4, 7, 8, 16, 31, 32, 64, 127, 128, 129, 254, 255, '/', '.', '\n', '"' };

	return below(rng, 3) ? odd[below(rng, sizeof odd)] : (uint8_t)next_random(rng);
}

static size_t cut(uint64_t *rng, uint8_t *data, size_t size)
{
	size_t at = below(rng, size), n = below(rng, size - at) + 1;

	if (at + n > size)
		n = size - at;
	memmove(data + at, data + at + n, size - at - n);
	return size - n;
}

static size_t insert(uint64_t *rng, uint8_t *data, size_t size, const struct corpus *c)
{
	const struct input *other = c->n ? &c->v[below(rng, c->n)] : NULL;
	size_t at = below(rng, size + 1), from = other ? below(rng, other->size) : 0;
	size_t n = other && other->size ? below(rng, other->size - from) + 1 : 1;

	if (n > INPUT_MAX_SIZE - size)
		n = INPUT_MAX_SIZE - size;
	memmove(data + at + n, data + at, size - at);
	for (size_t i = 0; i < n; i++)
		data[at + i] = other && other->size ? other->data[from + i] : odd_byte(rng);
	return size + n;
}

static size_t edit(uint64_t *rng, uint8_t *data, size_t size, const struct corpus *c)
{
	switch (size ? below(rng, 6) : 5) {
	case 0:
		data[below(rng, size)] ^= (uint8_t)(1u << below(rng, 8));
		return size;
	case 1:
	case 2:
		data[below(rng, size)] = odd_byte(rng);
		return size;
	case 3:
		return cut(rng, data, size);
	case 4:
		return below(rng, size + 1); /* truncated, as by a connection that broke */
	default:
		return insert(rng, data, size, c);
	}
}

static void mutate(const struct corpus *c, uint64_t seed, unsigned long rounds)
{
	static uint8_t data[INPUT_MAX_SIZE];
	uint64_t rng = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;

	now.mutated = true;
	for (unsigned long round = 0; round < rounds; round++) {
		size_t size = 0, edits = below(&rng, EDITS_MAX) + 1;

		if (c->n) {
			const struct input *from = &c->v[below(&rng, c->n)];

			size = from->size;
			memcpy(data, from->data, size);
		}
		while (edits--)
			size = edit(&rng, data, size, c);
		snprintf(now.name, sizeof now.name, "crash-%" PRIu64 "-%lu", seed, round);
		run(data, size);
	}
}

int main(int argc, char **argv)
{
	struct corpus c = { 0 };
	unsigned long rounds = 0;
	uint64_t seed = 1;
	int opt;

	if (LLVMFuzzerInitialize)
		LLVMFuzzerInitialize(&argc, &argv);
	while ((opt = getopt(argc, argv, "r:s:")) != -1) {
		if (opt == 'r')
			rounds = strtoul(optarg, NULL, 10);
		else if (opt == 's')
			seed = strtoull(optarg, NULL, 10);
		else
			return 2;
	}
	signal(SIGABRT, on_death);
	signal(SIGSEGV, on_death);
	signal(SIGBUS, on_death);
	signal(SIGALRM, on_death);
	for (int i = optind; i < argc; i++)
		load(&c, argv[i]);
	mutate(&c, seed, rounds);
	printf("%zu inputs of the corpus, %lu mutations, seed %" PRIu64 "\n", c.n, rounds, seed);
	for (size_t i = 0; i < c.n; i++)
		free(c.v[i].data);
	free(c.v);
	return 0;
}
