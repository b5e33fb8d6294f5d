/*
 * err.h - errors by value.
 *
 * A function that can fail takes a `struct err *` as its last argument, returns -1 (or NULL) and fills it in; the
 * caller owns the struct, usually on its stack. Functions do not log: only the edge that decides does, once.
 * Nothing here blocks or allocates.
 */
#ifndef FANSYNCD_CORE_ERR_H
#define FANSYNCD_CORE_ERR_H

#include <stdarg.h>
#include <stddef.h>

/* What kind of failure it is; what to do about each kind is decided in core/policy.c alone. */
enum err_class {
	ERR_NONE = 0,
	ERR_AGAIN,    /* transient: try once more, nothing is known to be wrong */
	ERR_GONE,     /* the named thing does not exist (any more) */
	ERR_DENIED,   /* permission */
	ERR_NOSPACE,  /* disk full or over quota */
	ERR_IO,	      /* the device or file system failed */
	ERR_PROTOCOL, /* the peer said something that it must not */
	ERR_AUTH,     /* the peer refused us, or we refuse the peer */
	ERR_NETWORK,  /* unreachable, reset, timed out */
	ERR_CONFIG,   /* the administrator must change the configuration */
	ERR_LIMIT,    /* a limit of the system or of the configuration was reached */
	ERR_NOMEM,    /* out of memory */
	ERR_UNSAFE,   /* a guard refused: going on might destroy data */
	ERR_BUG,      /* cannot happen */
	ERR_CLASSES   /* how many there are */
};

#define ERR_TEXT_MAX 512

struct err {
	enum err_class class;
	int code;		 /* errno, exit status, ...: 0 when there is none */
	char text[ERR_TEXT_MAX]; /* for the administrator; raw bytes of names may be in it, the log escapes them */
};

#define ERR_INIT                                                                                                       \
	{                                                                                                              \
		.class = ERR_NONE                                                                                      \
	}

/* Set class and text. Returns -1, so that `return err_set(...)` reads well. `e` may be NULL. */
int err_set(struct err *e, enum err_class class, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Set from errno: the class follows from `errnum`, ": <strerror>" is appended to the text. Returns -1. */
int err_errno(struct err *e, int errnum, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The class that an errno belongs to (a table that a unit test covers). */
enum err_class err_class_of_errno(int errnum);

/* A short lower-case word for a class, for logs and the status ("denied", "network"). Never NULL. */
const char *err_class_name(enum err_class class);

#endif
