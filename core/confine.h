/*
 * confine.h - a process that has what it needs gives up the rest of the system: files (Landlock), calls (seccomp), and
 * that its memory may be looked at (core dumps, debuggers).
 *
 * For those that exec nothing; a program that is started gets a domain, which confines it as to files alone. A kernel
 * without one of them leaves the process less confined, which is no failure: the caller says so. In builds with a
 * sanitizer, which looks for leaks at the end, what that needs stays allowed.
 */
#ifndef FANSYNCD_CORE_CONFINE_H
#define FANSYNCD_CORE_CONFINE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"

enum confine_right {
	CONFINE_LIST = 1u << 0,	 /* read directories */
	CONFINE_READ = 1u << 1,	 /* files as well */
	CONFINE_WRITE = 1u << 2, /* all but running them */
	CONFINE_RUN = 1u << 3,	 /* files to read, and to run; for a domain */
};

/* All below a directory, or a file. */
struct confine_place {
	int fd; /* borrowed during the call; below 0: none */
	unsigned rights;
};

enum confine_may {
	CONFINE_CONNECT = 1u << 0, /* connections of its own; never to listen */
	CONFINE_THREADS = 1u << 1, /* threads, and the signals among them */
	CONFINE_SECRETS = 1u << 2, /* it holds some: no core dump, no debugger */
	CONFINE_QUICK = 1u << 3,   /* it parses nothing of strangers': no costly guards against its own speculation */
};

struct confinement {
	bool files, calls; /* what this kernel could do */
};

/* For the calling process, for good. It reaches the places and no other file, as far as it would open it; what is open
 * stays so. Capabilities are not touched, no_new_privs is set (core/privileges.h did that before). */
int confine(const struct confine_place *places, size_t n, unsigned may, struct confinement *out, struct err *err);

/* Once more, as to files alone: what it reaches from now on is what both calls give. */
int confine_files(const struct confine_place *places, size_t n, struct err *err);

/* Whether the kernel has what confine_domain needs. */
bool confine_has_domains(void);
/* The places of a program that is yet to be started, as a descriptor (close-on-exec, the caller's). Reaches nothing of
 * /proc. The program enters it between fork and exec (core/proc.h). */
int confine_domain(const struct confine_place *places, size_t n, int *domain, struct err *err);

/* No core dump, and nobody attaches a debugger. */
int confine_memory(struct err *err);

/* Of a process that starts programs which hold secrets: no core dump, of them either. */
int confine_cores(struct err *err);

#endif
