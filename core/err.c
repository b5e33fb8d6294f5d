#include "core/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void set_text(struct err *e, const char *fmt, va_list ap, const char *reason)
	__attribute__((format(printf, 2, 0)));

/* By way of a copy: the arguments may well be the text that is about to be replaced ("%s: ...", err->text). */
static void set_text(struct err *e, const char *fmt, va_list ap, const char *reason)
{
	char text[ERR_TEXT_MAX];
	size_t room = sizeof(text) - strlen(reason), len;

	if (vsnprintf(text, room, fmt, ap) < 0)
		text[0] = '\0';
	len = strlen(text);
	memcpy(e->text, text, len);
	memcpy(e->text + len, reason, strlen(reason) + 1);
}

int err_set(struct err *e, enum err_class class, const char *fmt, ...)
{
	va_list ap;

	if (e == NULL)
		return -1;
	va_start(ap, fmt);
	set_text(e, fmt, ap, "");
	va_end(ap);
	e->class = class;
	e->code = 0;
	return -1;
}

int err_errno(struct err *e, int errnum, const char *fmt, ...)
{
	va_list ap;
	char space[128], reason[132];

	if (e == NULL)
		return -1;
	(void)snprintf(reason, sizeof(reason), ": %s", strerror_r(errnum, space, sizeof(space)));
	va_start(ap, fmt);
	set_text(e, fmt, ap, reason); /* a long name is cut, never the reason */
	va_end(ap);
	e->class = err_class_of_errno(errnum);
	e->code = errnum;
	return -1;
}

enum err_class err_class_of_errno(int errnum)
{
	static const struct {
		int errnum;
		enum err_class class;
	} table[] = {
		{ EAGAIN, ERR_AGAIN },	       { EINTR, ERR_AGAIN },
		{ EBUSY, ERR_AGAIN },	       { ETXTBSY, ERR_AGAIN },
		{ ENOENT, ERR_GONE },	       { ENOTDIR, ERR_GONE },
		{ ESTALE, ERR_GONE },	       { ENODEV, ERR_GONE },
		{ EACCES, ERR_DENIED },	       { EPERM, ERR_DENIED },
		{ EROFS, ERR_DENIED },	       { ENOSPC, ERR_NOSPACE },
		{ EDQUOT, ERR_NOSPACE },       { EIO, ERR_IO },
		{ EUCLEAN, ERR_IO },	       { EPROTO, ERR_PROTOCOL },
		{ EBADMSG, ERR_PROTOCOL },     { ECONNREFUSED, ERR_NETWORK },
		{ ECONNRESET, ERR_NETWORK },   { ETIMEDOUT, ERR_NETWORK },
		{ EHOSTUNREACH, ERR_NETWORK }, { ENETUNREACH, ERR_NETWORK },
		{ EPIPE, ERR_NETWORK },	       { ENETDOWN, ERR_NETWORK },
		{ EHOSTDOWN, ERR_NETWORK },    { ENOTCONN, ERR_NETWORK },
		{ ECONNABORTED, ERR_NETWORK }, { EADDRNOTAVAIL, ERR_NETWORK },
		{ EMFILE, ERR_LIMIT },	       { ENFILE, ERR_LIMIT },
		{ EMLINK, ERR_LIMIT },	       { ENAMETOOLONG, ERR_LIMIT },
		{ EFBIG, ERR_LIMIT },	       { E2BIG, ERR_LIMIT },
		{ ENOMEM, ERR_NOMEM },	       { ELOOP, ERR_UNSAFE },
		{ EXDEV, ERR_UNSAFE },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].errnum == errnum)
			return table[i].class;
	return ERR_IO;
}

const char *err_class_name(enum err_class class)
{
	static const char *const names[ERR_CLASSES] = {
		[ERR_NONE] = "none",	     [ERR_AGAIN] = "again",	 [ERR_GONE] = "gone",
		[ERR_DENIED] = "denied",     [ERR_NOSPACE] = "no space", [ERR_IO] = "io",
		[ERR_PROTOCOL] = "protocol", [ERR_AUTH] = "auth",	 [ERR_NETWORK] = "network",
		[ERR_CONFIG] = "config",     [ERR_LIMIT] = "limit",	 [ERR_NOMEM] = "no memory",
		[ERR_UNSAFE] = "unsafe",     [ERR_BUG] = "bug",
	};

	if ((unsigned)class >= ERR_CLASSES || names[class] == NULL)
		return "unknown";
	return names[class];
}
