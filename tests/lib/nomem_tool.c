/* LINK: everything */
/* LIBS: $(LIBS) */
/* WRAP: malloc calloc realloc strdup strndup asprintf vasprintf fopen fdopen opendir fdopendir realpath */
/*
 * nomem_tool.c - the program itself, whose own allocations fail as the rules of faults.py say ("malloc"), also under
 * the sanitizers, in the place of which no other library can be loaded.
 *
 * NOMEM_TRACE names a file that the addresses are added to from which an allocation was asked for that failed
 * (addr2line).
 *
 * What libraries ask for is not made to fail: libconfig 1.5, for one, does not look whether it got it.
 */
#include <dirent.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdarg.h>

#include "faults_rules.h"

static int trace = -1;

static void __attribute__((constructor)) begin(void)
{
	const char *path = getenv("NOMEM_TRACE");

	faults_begin();
	if (path != NULL)
		trace = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
}

static bool fails(void)
{
	void *from[32];

	if (fault("malloc", -1, NULL) == 0)
		return false;
	if (trace >= 0) {
		dprintf(trace, "%s\n", role);
		backtrace_symbols_fd(from, backtrace(from, 32), trace);
	}
	errno = ENOMEM;
	return true;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
int __real_vasprintf(char **out, const char *fmt, va_list ap);
FILE *__real_fopen(const char *path, const char *mode);
FILE *__real_fdopen(int fd, const char *mode);
DIR *__real_opendir(const char *path);
DIR *__real_fdopendir(int fd);
char *__real_realpath(const char *path, char *out);

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	return fails() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
	return fails() ? NULL : __real_strndup(s, n);
}

/* What *out is then is undefined: whoever frees it all the same is found. */
int __wrap_vasprintf(char **out, const char *fmt, va_list ap)
{
	if (!fails())
		return __real_vasprintf(out, fmt, ap);
	*out = (char *)(uintptr_t)1;
	return -1;
}

int __wrap_asprintf(char **out, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = __wrap_vasprintf(out, fmt, ap);
	va_end(ap);
	return n;
}

FILE *__wrap_fopen(const char *path, const char *mode)
{
	return fails() ? NULL : __real_fopen(path, mode);
}

FILE *__wrap_fdopen(int fd, const char *mode)
{
	return fails() ? NULL : __real_fdopen(fd, mode);
}

DIR *__wrap_opendir(const char *path)
{
	return fails() ? NULL : __real_opendir(path);
}

DIR *__wrap_fdopendir(int fd)
{
	return fails() ? NULL : __real_fdopendir(fd);
}

char *__wrap_realpath(const char *path, char *out)
{
	return fails() ? NULL : __real_realpath(path, out);
}
