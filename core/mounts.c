/*
 * mounts.c - the mount table: /proc/self/mountinfo.
 */
#include "core/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/buf.h"

#define MOUNTINFO "/proc/self/mountinfo"
#define MOUNTINFO_MAX ((size_t)64 << 20)

/* The next word of the line, or false. */
static bool word(const char **p, const char *end, const char **w, size_t *len)
{
	while (*p < end && **p == ' ')
		(*p)++;
	*w = *p;
	while (*p < end && **p != ' ')
		(*p)++;
	*len = (size_t)(*p - *w);
	return *len > 0;
}

static bool number(const char *s, size_t len, unsigned *out)
{
	*out = 0;
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9' || *out > 200000000u)
			return false;
		*out = *out * 10 + (unsigned)(s[i] - '0');
	}
	return len > 0;
}

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* Space, tab, newline, backslash and '#' are written as a backslash and three octal digits. */
static char *unescaped(const char *s, size_t len)
{
	char *out = malloc(len + 1);
	size_t n = 0;

	if (out == NULL)
		return NULL;
	for (size_t i = 0; i < len; i++) {
		if (s[i] == '\\' && len - i > 3 && is_octal(s[i + 1]) && is_octal(s[i + 2]) && is_octal(s[i + 3])) {
			out[n++] = (char)((s[i + 1] - '0') * 64 + (s[i + 2] - '0') * 8 + (s[i + 3] - '0'));
			i += 3;
		} else {
			out[n++] = s[i];
		}
	}
	out[n] = '\0';
	return out;
}

static bool device(const char *s, size_t len, struct mount *m)
{
	const char *colon = memchr(s, ':', len);

	return colon != NULL && number(s, (size_t)(colon - s), &m->major) &&
	       number(colon + 1, len - (size_t)(colon - s) - 1, &m->minor);
}

static void mount_done(struct mount *m)
{
	free(m->root);
	free(m->point);
	free(m->type);
	free(m->source);
}

/* 1: a mount, 0: makes no sense, -1: out of memory. */
static int parse_line(const char *p, const char *end, struct mount *m)
{
	const char *w, *root, *point, *type, *source;
	size_t len, root_len, point_len, type_len, source_len;
	unsigned id, parent;

	*m = (struct mount){ 0 };
	if (!word(&p, end, &w, &len) || !number(w, len, &id) || !word(&p, end, &w, &len) || !number(w, len, &parent) ||
	    !word(&p, end, &w, &len) || !device(w, len, m) || !word(&p, end, &root, &root_len) ||
	    !word(&p, end, &point, &point_len) || *point != '/' || !word(&p, end, &w, &len))
		return 0;
	do {
		if (!word(&p, end, &w, &len))
			return 0;
	} while (len != 1 || *w != '-');
	if (!word(&p, end, &type, &type_len))
		return 0;
	/* A mount may have no source at all: two spaces. */
	if (!word(&p, end, &source, &source_len))
		source_len = 0;
	m->id = (int)id;
	m->parent = (int)parent;
	m->root = unescaped(root, root_len);
	m->point = unescaped(point, point_len);
	m->type = unescaped(type, type_len);
	m->source = unescaped(source, source_len);
	if (m->root != NULL && m->point != NULL && m->type != NULL && m->source != NULL)
		return 1;
	mount_done(m);
	return -1;
}

/* A mount is covered by a later one whose parent it is, on its very root. */
static void mark_hidden(struct mounts *t)
{
	for (size_t i = 0; i < t->n; i++)
		for (size_t j = 0; j < t->n && !t->list[i].hidden; j++)
			t->list[i].hidden = i != j && t->list[j].parent == t->list[i].id &&
					    strcmp(t->list[j].point, t->list[i].point) == 0;
}

int mounts_parse(const char *text, size_t len, struct mounts *out, struct err *err)
{
	const char *p = text, *end = text + len;
	size_t cap = 0;

	*out = (struct mounts){ 0 };
	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		const char *stop = nl != NULL ? nl : end;
		int r;

		if (out->n == cap) {
			struct mount *more = realloc(out->list, (cap * 2 + 64) * sizeof(*more));

			if (more == NULL)
				break;
			out->list = more;
			cap = cap * 2 + 64;
		}
		r = parse_line(p, stop, &out->list[out->n]);
		if (r < 0)
			break;
		out->n += (size_t)r;
		p = nl != NULL ? nl + 1 : end;
	}
	if (p < end) {
		mounts_done(out);
		return err_set(err, ERR_NOMEM, "out of memory for the mount table");
	}
	mark_hidden(out);
	return 0;
}

int mounts_read(struct mounts *out, struct err *err)
{
	int fd = open(MOUNTINFO, O_RDONLY | O_CLOEXEC);
	struct buf text;
	ssize_t n = 1;
	int rc = -1;

	*out = (struct mounts){ 0 };
	if (fd < 0)
		return err_errno(err, errno, MOUNTINFO);
	buf_init(&text, MOUNTINFO_MAX);
	while (n > 0 && buf_reserve(&text, 65536)) {
		n = read(fd, text.data + text.len, 65536);
		if (n > 0)
			text.len += (size_t)n;
		else if (n < 0 && errno == EINTR)
			n = 1;
	}
	if (n < 0)
		(void)err_errno(err, errno, MOUNTINFO);
	else if (text.failed)
		(void)err_set(err, ERR_NOMEM, "out of memory for the mount table");
	else
		rc = mounts_parse(buf_str(&text), text.len, out, err);
	buf_done(&text);
	(void)close(fd);
	return rc;
}

void mounts_done(struct mounts *m)
{
	for (size_t i = 0; i < m->n; i++)
		mount_done(&m->list[i]);
	free(m->list);
	*m = (struct mounts){ 0 };
}

const struct mount *mounts_find(const struct mounts *m, int id)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->list[i].id == id)
			return &m->list[i];
	return NULL;
}
