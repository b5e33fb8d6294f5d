/*
 * faults_rules.h - which calls fail: the rules of faults.py, in a file (FAULTS) that the test and all processes that it
 * starts have mapped. They may be changed at any time, and count what they did. In a process without that file nothing
 * fails.
 *
 * Included by faults.c (any call, by LD_PRELOAD) and nomem_tool.c (the program's allocations, by the linker).
 */
#ifndef FANSYNCD_TESTS_LIB_FAULTS_RULES_H
#define FANSYNCD_TESTS_LIB_FAULTS_RULES_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>

/* Not from unistd.h: what else it declares is replaced in faults.c. */
ssize_t readlink(const char *path, char *out, size_t size);

#define RULES 128
#define PATH_BYTES 256
#define SHORT 10001 /* no error: half of the bytes */

/* As faults.py packs it. */
struct rule {
	uint32_t active;
	int32_t error;
	uint32_t first; /* the first matching call that fails, from 1 */
	uint32_t every; /* and each so many after it; 0: none */
	uint32_t limit; /* how many at most */
	_Atomic uint32_t seen, hit;
	uint32_t reserved;
	char call[24];
	char role[40];	       /* part of "PROGRAM FIRST-ARGUMENT"; "" any */
	char path[PATH_BYTES]; /* part of the path; "" any */
	char last[PATH_BYTES]; /* of the last one that failed */
};

static struct shared {
	uint64_t magic;
	_Atomic int64_t shift_ns; /* added to the wall clock */
	struct rule rules[RULES];
} * shared;

static char role[PATH_BYTES];

static void read_role(void)
{
	char text[PATH_BYTES] = "";
	FILE *f = fopen("/proc/self/cmdline", "re");
	size_t n = f == NULL ? 0 : fread(text, 1, sizeof(text) - 1, f);
	const char *name = strrchr(text, '/');

	if (f != NULL)
		(void)fclose(f);
	if (strlen(text) + 1 < n)
		text[strlen(text)] = ' ';
	name = name == NULL ? text : name + 1;
	memcpy(role, name, strlen(name) + 1);
}

static void faults_begin(void)
{
	const char *path = getenv("FAULTS");
	void *at = MAP_FAILED;
	FILE *f = path == NULL ? NULL : fopen(path, "r+e");

	read_role();
	if (f != NULL) {
		at = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fileno(f), 0);
		(void)fclose(f);
	}
	if (at != MAP_FAILED)
		shared = at;
}

static bool matches(const struct rule *r, const char *call, int fd, const char *name, char *path)
{
	char link[64];
	ssize_t n = 0;
	size_t len;

	if (!r->active || strcmp(r->call, call) != 0 || strstr(role, r->role) == NULL)
		return false;
	path[0] = '\0';
	if (fd >= 0 && (name == NULL || name[0] != '/')) {
		(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, path, PATH_BYTES - 1);
		path[n < 0 ? 0 : n] = '\0';
	}
	len = strlen(path);
	if (name != NULL)
		(void)snprintf(path + len, PATH_BYTES - len, "%s%s", len > 0 ? "/" : "", name);
	return strstr(path, r->path) != NULL;
}

/* The errno that the call is to fail with, or SHORT; 0: it takes its course. `name` may be NULL, `fd` -1. */
static int fault(const char *call, int fd, const char *name)
{
	char path[PATH_BYTES];
	int saved = errno, result = 0;

	if (shared == NULL)
		return 0;
	for (size_t i = 0; i < RULES && result == 0; i++) {
		struct rule *r = &shared->rules[i];
		uint32_t n;

		if (!matches(r, call, fd, name, path))
			continue;
		n = atomic_fetch_add(&r->seen, 1) + 1;
		if (n < r->first || (n > r->first && (r->every == 0 || (n - r->first) % r->every != 0)) ||
		    atomic_load(&r->hit) >= r->limit)
			continue;
		(void)atomic_fetch_add(&r->hit, 1);
		memcpy(r->last, path, sizeof(r->last));
		result = r->error;
	}
	errno = saved;
	return result;
}

#endif
