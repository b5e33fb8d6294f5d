/*
 * faults.c - a library for LD_PRELOAD (faults.py): chosen calls of chosen processes fail, and the wall clock jumps.
 *
 * FAULTS names a file, shared by the test and by all processes that it starts: rules, which may be changed at any time,
 * with a count of what they did. In a process without that file, and for all calls that no rule names, nothing changes.
 *
 * Names of calls are those of the kernel: "openat" is open() and opendir(), too, whatever the C library calls it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdarg.h>
#include <sys/syscall.h>

#include "faults_rules.h"

/* The headers of what is replaced here are left out: they make one name of open and open64, or inline them. */
#define AT_FDCWD (-100)
#define O_CREAT 0100
#define O_TMPFILE 020200000
#define O_RDWR 2
#define O_CLOEXEC 02000000
#define EPOLL_CTL_ADD 1
#define TFD_TIMER_CANCEL_ON_SET 2
typedef struct DIR_of_libc DIR;
pid_t getpid(void);

#define NS_PER_S 1000000000

static uintptr_t program_begin, program_end;

#define REAL(name)                                                                                                     \
	({                                                                                                             \
		static __typeof__(&name) real;                                                                         \
		if (real == NULL)                                                                                      \
			real = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                                             \
		real;                                                                                                  \
	})

/* The first object is the program itself. */
static int find_program(struct dl_phdr_info *info, size_t size, void *ctx)
{
	(void)size;
	(void)ctx;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];

		if (h->p_type == PT_LOAD && info->dlpi_addr + h->p_vaddr + h->p_memsz > program_end)
			program_end = info->dlpi_addr + h->p_vaddr + h->p_memsz;
	}
	program_begin = info->dlpi_addr;
	return 1;
}

static void __attribute__((constructor)) begin(void)
{
	(void)dl_iterate_phdr(find_program, NULL);
	faults_begin();
}

/* A call that returns -1, or whatever FAILED is. */
#define WRAP(type, failed, name, call, params, args, fd, path)                                                         \
	type name params;                                                                                              \
	type name params                                                                                               \
	{                                                                                                              \
		int code = fault(call, fd, path);                                                                      \
		if (code != 0 && code != SHORT) {                                                                      \
			errno = code;                                                                                  \
			return failed;                                                                                 \
		}                                                                                                      \
		return REAL(name) args;                                                                                \
	}

/* One that moves `n` bytes. */
#define WRAP_IO(name, call, params, args, fd, n)                                                                       \
	ssize_t name params;                                                                                           \
	ssize_t name params                                                                                            \
	{                                                                                                              \
		int code = fault(call, fd, NULL);                                                                      \
		if (code == SHORT && (n) > 1)                                                                          \
			(n) /= 2;                                                                                      \
		else if (code != 0 && code != SHORT) {                                                                 \
			errno = code;                                                                                  \
			return -1;                                                                                     \
		}                                                                                                      \
		return REAL(name) args;                                                                                \
	}

/* ---- open ---- */

#define MODE_OF(flags)                                                                                                 \
	unsigned mode = 0;                                                                                             \
	if (((flags) & (O_CREAT | O_TMPFILE)) != 0) {                                                                  \
		va_list ap;                                                                                            \
		va_start(ap, flags);                                                                                   \
		mode = va_arg(ap, unsigned);                                                                           \
		va_end(ap);                                                                                            \
	}

#define WRAP_OPEN(name)                                                                                                \
	int name(const char *path, int flags, ...);                                                                    \
	int name(const char *path, int flags, ...)                                                                     \
	{                                                                                                              \
		MODE_OF(flags)                                                                                         \
		int code = fault("openat", -1, path);                                                                  \
		if (code != 0) {                                                                                       \
			errno = code;                                                                                  \
			return -1;                                                                                     \
		}                                                                                                      \
		return REAL(name)(path, flags, mode);                                                                  \
	}

#define WRAP_OPENAT(name)                                                                                              \
	int name(int at, const char *path, int flags, ...);                                                            \
	int name(int at, const char *path, int flags, ...)                                                             \
	{                                                                                                              \
		MODE_OF(flags)                                                                                         \
		int code = fault("openat", at, path);                                                                  \
		if (code != 0) {                                                                                       \
			errno = code;                                                                                  \
			return -1;                                                                                     \
		}                                                                                                      \
		return REAL(name)(at, path, flags, mode);                                                              \
	}

WRAP_OPEN(open)
WRAP_OPEN(open64)
WRAP_OPENAT(openat)
WRAP_OPENAT(openat64)
WRAP(int, -1, __open_2, "openat", (const char *path, int flags), (path, flags), -1, path)
WRAP(int, -1, __open64_2, "openat", (const char *path, int flags), (path, flags), -1, path)
WRAP(int, -1, __openat_2, "openat", (int at, const char *path, int flags), (at, path, flags), at, path)
WRAP(int, -1, __openat64_2, "openat", (int at, const char *path, int flags), (at, path, flags), at, path)

WRAP(DIR *, NULL, opendir, "openat", (const char *path), (path), -1, path)
int open_by_handle_at(int at, void *handle, int flags);
WRAP(int, -1, open_by_handle_at, "open_by_handle_at", (int at, void *handle, int flags), (at, handle, flags), -1, NULL)

/* ---- directories ---- */

int dirfd(DIR *d);
WRAP(void *, NULL, readdir, "getdents64", (DIR * d), (d), dirfd(d), NULL)
WRAP(void *, NULL, readdir64, "getdents64", (DIR * d), (d), dirfd(d), NULL)
WRAP(ssize_t, -1, getdents64, "getdents64", (int fd, void *buf, size_t n), (fd, buf, n), fd, NULL)

/* ---- content ---- */

WRAP_IO(read, "read", (int fd, void *buf, size_t n), (fd, buf, n), fd, n)
WRAP_IO(__read_chk, "read", (int fd, void *buf, size_t n, size_t room), (fd, buf, n, room), fd, n)
WRAP_IO(pread, "read", (int fd, void *buf, size_t n, int64_t at), (fd, buf, n, at), fd, n)
WRAP_IO(pread64, "read", (int fd, void *buf, size_t n, int64_t at), (fd, buf, n, at), fd, n)
WRAP_IO(__pread_chk, "read", (int fd, void *buf, size_t n, int64_t at, size_t room), (fd, buf, n, at, room), fd, n)
WRAP_IO(__pread64_chk, "read", (int fd, void *buf, size_t n, int64_t at, size_t room), (fd, buf, n, at, room), fd, n)
WRAP_IO(write, "write", (int fd, const void *buf, size_t n), (fd, buf, n), fd, n)
WRAP_IO(pwrite, "write", (int fd, const void *buf, size_t n, int64_t at), (fd, buf, n, at), fd, n)
WRAP_IO(pwrite64, "write", (int fd, const void *buf, size_t n, int64_t at), (fd, buf, n, at), fd, n)
WRAP_IO(copy_file_range, "copy_file_range",
	(int in, int64_t *in_at, int out, int64_t *out_at, size_t n, unsigned flags),
	(in, in_at, out, out_at, n, flags), out, n)
WRAP_IO(send, "sendto", (int fd, const void *buf, size_t n, int flags), (fd, buf, n, flags), fd, n)
WRAP_IO(recv, "recvfrom", (int fd, void *buf, size_t n, int flags), (fd, buf, n, flags), fd, n)
WRAP_IO(__recv_chk, "recvfrom", (int fd, void *buf, size_t n, size_t room, int flags), (fd, buf, n, room, flags), fd, n)
WRAP(ssize_t, -1, sendmsg, "sendmsg", (int fd, const void *msg, int flags), (fd, msg, flags), fd, NULL)
WRAP(int, -1, fsync, "fsync", (int fd), (fd), fd, NULL)
WRAP(int, -1, fdatasync, "fsync", (int fd), (fd), fd, NULL)
WRAP(int, -1, syncfs, "fsync", (int fd), (fd), fd, NULL)
WRAP(int, -1, ftruncate, "ftruncate", (int fd, int64_t n), (fd, n), fd, NULL)
WRAP(int, -1, ftruncate64, "ftruncate", (int fd, int64_t n), (fd, n), fd, NULL)
WRAP(int, -1, fallocate, "fallocate", (int fd, int mode, int64_t at, int64_t n), (fd, mode, at, n), fd, NULL)
WRAP(int, -1, fallocate64, "fallocate", (int fd, int mode, int64_t at, int64_t n), (fd, mode, at, n), fd, NULL)

/* The descriptor is gone whatever close says. */
int close(int fd);
int close(int fd)
{
	int code = fault("close", fd, NULL), result = REAL(close)(fd);

	if (code == 0 || result < 0)
		return result;
	errno = code;
	return -1;
}

/* ---- names ---- */

WRAP(int, -1, renameat, "renameat", (int a, const char *from, int b, const char *to), (a, from, b, to), b, to)
WRAP(int, -1, renameat2, "renameat", (int a, const char *from, int b, const char *to, unsigned flags),
     (a, from, b, to, flags), b, to)
WRAP(int, -1, mkdir, "mkdirat", (const char *path, unsigned mode), (path, mode), -1, path)
WRAP(int, -1, mkdirat, "mkdirat", (int at, const char *path, unsigned mode), (at, path, mode), at, path)
WRAP(int, -1, unlink, "unlinkat", (const char *path), (path), -1, path)
WRAP(int, -1, rmdir, "unlinkat", (const char *path), (path), -1, path)
WRAP(int, -1, unlinkat, "unlinkat", (int at, const char *path, int flags), (at, path, flags), at, path)
WRAP(int, -1, linkat, "linkat", (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags), b,
     to)
WRAP(int, -1, symlinkat, "symlinkat", (const char *text, int at, const char *path), (text, at, path), at, path)
WRAP(int, -1, mknodat, "mknodat", (int at, const char *path, unsigned mode, uint64_t dev), (at, path, mode, dev), at,
     path)
WRAP(ssize_t, -1, readlinkat, "readlinkat", (int at, const char *path, char *out, size_t n), (at, path, out, n), at,
     path)
WRAP(ssize_t, -1, __readlinkat_chk, "readlinkat", (int at, const char *path, char *out, size_t n, size_t room),
     (at, path, out, n, room), at, path)

/* ---- attributes ---- */

WRAP(int, -1, stat, "fstatat", (const char *path, void *st), (path, st), -1, path)
WRAP(int, -1, stat64, "fstatat", (const char *path, void *st), (path, st), -1, path)
WRAP(int, -1, lstat, "fstatat", (const char *path, void *st), (path, st), -1, path)
WRAP(int, -1, lstat64, "fstatat", (const char *path, void *st), (path, st), -1, path)
WRAP(int, -1, fstatat, "fstatat", (int at, const char *path, void *st, int flags), (at, path, st, flags), at, path)
WRAP(int, -1, fstatat64, "fstatat", (int at, const char *path, void *st, int flags), (at, path, st, flags), at, path)
WRAP(int, -1, statx, "fstatat", (int at, const char *path, int flags, unsigned mask, void *out),
     (at, path, flags, mask, out), at, path)
WRAP(int, -1, fstat, "fstat", (int fd, void *st), (fd, st), fd, NULL)
WRAP(int, -1, fstat64, "fstat", (int fd, void *st), (fd, st), fd, NULL)
WRAP(int, -1, fchmod, "fchmod", (int fd, unsigned mode), (fd, mode), fd, NULL)
WRAP(int, -1, fchmodat, "fchmod", (int at, const char *path, unsigned mode, int flags), (at, path, mode, flags), at,
     path)
WRAP(int, -1, fchown, "fchown", (int fd, unsigned uid, unsigned gid), (fd, uid, gid), fd, NULL)
WRAP(int, -1, fchownat, "fchown", (int at, const char *path, unsigned uid, unsigned gid, int flags),
     (at, path, uid, gid, flags), at, path)
WRAP(int, -1, futimens, "utimensat", (int fd, const void *times), (fd, times), fd, NULL)
WRAP(int, -1, utimensat, "utimensat", (int at, const char *path, const void *times, int flags),
     (at, path, times, flags), at, path)

/* ---- what the daemon lives on ---- */

WRAP(int, -1, fork, "clone", (void), (), -1, NULL)
WRAP(int, -1, pipe2, "pipe2", (int *fds, int flags), (fds, flags), -1, NULL)
WRAP(int, -1, socketpair, "socketpair", (int a, int b, int c, int *fds), (a, b, c, fds), -1, NULL)
WRAP(int, -1, socket, "socket", (int a, int b, int c), (a, b, c), -1, NULL)
WRAP(int, -1, accept4, "accept4", (int fd, void *a, void *n, int flags), (fd, a, n, flags), -1, NULL)
WRAP(int, -1, epoll_create1, "epoll_create1", (int flags), (flags), -1, NULL)

/* To change what is there already takes no memory. */
int epoll_ctl(int ep, int op, int fd, void *event);
int epoll_ctl(int ep, int op, int fd, void *event)
{
	int code = op == EPOLL_CTL_ADD ? fault("epoll_ctl", -1, NULL) : 0;

	if (code == 0)
		return REAL(epoll_ctl)(ep, op, fd, event);
	errno = code;
	return -1;
}

WRAP(int, -1, inotify_init1, "inotify_init1", (int flags), (flags), -1, NULL)
WRAP(int, -1, inotify_add_watch, "inotify_add_watch", (int fd, const char *path, uint32_t mask), (fd, path, mask), -1,
     path)
WRAP(int, -1, fanotify_init, "fanotify_init", (unsigned flags, unsigned more), (flags, more), -1, NULL)
WRAP(int, -1, fanotify_mark, "fanotify_mark", (int fd, unsigned flags, uint64_t mask, int at, const char *path),
     (fd, flags, mask, at, path), at, path)

long syscall(long nr, ...);
long syscall(long nr, ...)
{
	va_list ap;
	long a[6];
	int code = 0;

	va_start(ap, nr);
	for (size_t i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (nr == SYS_openat2)
		code = fault("openat", (int)a[0], (const char *)a[1]);
	if (code != 0) {
		errno = code;
		return -1;
	}
	return REAL(syscall)(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- memory ---- */

/* Only what the program itself asks for: libconfig 1.5, for one, does not look whether it got it. */
#define NO_MEMORY                                                                                                      \
	(shared != NULL && (uintptr_t)__builtin_return_address(0) - program_begin < program_end - program_begin &&     \
	 fault("malloc", -1, NULL) != 0 && (errno = ENOMEM) != 0)

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);

void *malloc(size_t n)
{
	return NO_MEMORY ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	return NO_MEMORY ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
	return NO_MEMORY ? NULL : __libc_realloc(p, n);
}

char *strdup(const char *text)
{
	return NO_MEMORY ? NULL : REAL(strdup)(text);
}

int __vasprintf_chk(char **out, int flag, const char *format, va_list ap);
int __vasprintf_chk(char **out, int flag, const char *format, va_list ap)
{
	return NO_MEMORY ? -1 : REAL(__vasprintf_chk)(out, flag, format, ap);
}

int __asprintf_chk(char **out, int flag, const char *format, ...);
int __asprintf_chk(char **out, int flag, const char *format, ...)
{
	va_list ap;
	int n;

	if (NO_MEMORY)
		return -1;
	va_start(ap, format);
	n = REAL(__vasprintf_chk)(out, flag, format, ap);
	va_end(ap);
	return n;
}

/* ---- the wall clock ---- */

struct seconds {
	int64_t s, part; /* timespec and timeval alike */
};

static void shift(struct seconds *t, int64_t parts_per_s)
{
	int64_t ns = shared == NULL ? 0 : atomic_load(&shared->shift_ns);

	t->s += ns / NS_PER_S;
	t->part += ns % NS_PER_S / (NS_PER_S / parts_per_s);
	if (t->part < 0 || t->part >= parts_per_s) {
		t->s += t->part < 0 ? -1 : 1;
		t->part += t->part < 0 ? parts_per_s : -parts_per_s;
	}
}

enum { REALTIME = 0, REALTIME_COARSE = 5 };

int clock_gettime(int id, struct seconds *out);
int clock_gettime(int id, struct seconds *out)
{
	int result = REAL(clock_gettime)(id, out);

	if (result == 0 && (id == REALTIME || id == REALTIME_COARSE))
		shift(out, NS_PER_S);
	return result;
}

int gettimeofday(struct seconds *out, void *zone);
int gettimeofday(struct seconds *out, void *zone)
{
	int result = REAL(gettimeofday)(out, zone);

	if (result == 0)
		shift(out, 1000000);
	return result;
}

int64_t time(int64_t *out);
int64_t time(int64_t *out)
{
	struct seconds now = { 0, 0 };

	(void)clock_gettime(REALTIME, &now);
	if (out != NULL)
		*out = now.s;
	return now.s;
}

/* Times of the wall clock that is shown: what is due by it is due as much later, or earlier, by the true one. */
int timerfd_settime(int fd, int flags, const struct seconds *at, void *old);
int timerfd_settime(int fd, int flags, const struct seconds *at, void *old)
{
	struct seconds moved[2] = { at[0], at[1] };
	int64_t ns = shared == NULL ? 0 : atomic_load(&shared->shift_ns);

	if ((flags & TFD_TIMER_CANCEL_ON_SET) != 0 && at[1].s > ns / NS_PER_S)
		moved[1].s -= ns / NS_PER_S;
	return REAL(timerfd_settime)(fd, flags, moved, old);
}
