#include "core/guard.h"

#include <stdlib.h>
#include <string.h>

#include "core/guard_switches.h"
#include "core/path.h"

static const char first_line[] = "fansyncd-guard 1";

void guard_done(struct guard_state *g)
{
	for (size_t i = 0; i < g->n_mounts; i++)
		free(g->mounts[i].path);
	free(g->mounts);
	free(g->target);
	free(g->source);
	*g = (struct guard_state){ 0 };
}

/* ---- as text ---- */

/* A word without blanks: what is no plain byte is %XX. */
static void put_word(struct buf *out, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c <= ' ' || c >= 0x7f || c == '%')
			(void)buf_printf(out, "%%%02X", c);
		else
			(void)buf_add_byte(out, c);
	}
}

static void put_named(struct buf *out, const char *name, const char *text)
{
	if (text == NULL)
		return;
	(void)buf_printf(out, "%s ", name);
	put_word(out, text, strlen(text));
	(void)buf_add_byte(out, '\n');
}

static void put_root(struct buf *out, const char *name, const struct root_identity *id)
{
	(void)buf_printf(out, "%s ", name);
	(void)identity_put(out, id);
	(void)buf_add_byte(out, '\n');
}

bool guard_put(struct buf *out, const struct guard_state *g)
{
	(void)buf_printf(out, "%s\n", first_line);
	put_named(out, "target", g->target);
	put_named(out, "source", g->source);
	if (g->has_root)
		put_root(out, "root", &g->root);
	if (g->has_target_root)
		put_root(out, "target-root", &g->target_root);
	if (g->looked)
		(void)buf_add_str(out, g->too_many ? "looked too-many\n" : "looked\n");
	for (size_t i = 0; i < g->n_mounts; i++) {
		const struct guard_mount *m = &g->mounts[i];

		(void)buf_printf(out, "mount %c%c ", m->accepted ? 'a' : 'n', m->there ? 't' : 'g');
		put_word(out, m->path, m->len);
		(void)buf_add_byte(out, ' ');
		if (m->known)
			(void)identity_put(out, &m->id);
		(void)buf_add_byte(out, '\n');
	}
	return buf_add_str(out, "end\n");
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte of a %XX; 0: it is none. */
static char escaped_byte(const char *s, size_t left)
{
	int high = left > 2 ? hex(s[1]) : -1, low = left > 2 ? hex(s[2]) : -1;

	return high < 0 || low < 0 ? '\0' : (char)(high * 16 + low);
}

/* The bytes of a word, and a NUL. NULL: no such word, or out of memory. */
static char *get_word(const char *s, size_t len, size_t *out_len)
{
	char *out = len == 0 ? NULL : malloc(len + 1);
	size_t n = 0;

	for (size_t i = 0; out != NULL && i < len; i++) {
		out[n] = s[i] == '%' ? escaped_byte(s + i, len - i) : s[i];
		if (out[n++] == '\0') {
			free(out);
			return NULL;
		}
		i += s[i] == '%' ? 2 : 0;
	}
	if (out != NULL)
		out[n] = '\0';
	*out_len = n;
	return out;
}

static struct guard_mount *add_mount(struct guard_state *g, char *path, size_t len)
{
	struct guard_mount *more = path == NULL ? NULL : realloc(g->mounts, (g->n_mounts + 1) * sizeof(*more));

	if (more == NULL) {
		free(path);
		return NULL;
	}
	g->mounts = more;
	g->mounts[g->n_mounts] = (struct guard_mount){ .path = path, .len = len };
	return &g->mounts[g->n_mounts++];
}

/* "at PATH IDENTITY" */
static bool get_mount(struct guard_state *g, const char *p, size_t len)
{
	const char *blank = len < 4 ? NULL : memchr(p + 3, ' ', len - 3);
	struct guard_mount *m;
	size_t n = 0;
	char *path;

	if (blank == NULL || g->n_mounts == GUARD_MOUNTS_MAX || (p[0] != 'a' && p[0] != 'n') ||
	    (p[1] != 't' && p[1] != 'g') || p[2] != ' ')
		return false;
	path = get_word(p + 3, (size_t)(blank - p) - 3, &n);
	if (path != NULL && !path_valid(path, n)) {
		free(path);
		return false;
	}
	m = add_mount(g, path, n);
	if (m == NULL)
		return false;
	m->accepted = p[0] == 'a';
	m->there = p[1] == 't';
	m->known = blank + 1 < p + len;
	return !m->known || identity_get(blank + 1, (size_t)(p + len - blank - 1), &m->id);
}

static bool get_text(char **slot, const char *p, size_t len)
{
	size_t n;

	if (*slot == NULL)
		*slot = get_word(p, len, &n);
	return *slot != NULL;
}

static bool get_line(struct guard_state *g, const char *p, size_t len)
{
	const char *blank = memchr(p, ' ', len);
	size_t n = blank == NULL ? len : (size_t)(blank - p), rest = blank == NULL ? 0 : len - n - 1;
	const char *value = blank == NULL ? p + len : blank + 1;

	if (n == 6 && memcmp(p, "target", n) == 0)
		return get_text(&g->target, value, rest);
	if (n == 6 && memcmp(p, "source", n) == 0)
		return get_text(&g->source, value, rest);
	if (n == 4 && memcmp(p, "root", n) == 0)
		return (g->has_root = identity_get(value, rest, &g->root));
	if (n == 11 && memcmp(p, "target-root", n) == 0)
		return (g->has_target_root = identity_get(value, rest, &g->target_root));
	if (n == 6 && memcmp(p, "looked", n) == 0) {
		g->looked = true;
		g->too_many = rest > 0;
		return rest == 0 || (rest == 8 && memcmp(value, "too-many", rest) == 0);
	}
	return n == 5 && memcmp(p, "mount", n) == 0 && get_mount(g, value, rest);
}

static bool in_order(const struct guard_state *g)
{
	for (size_t i = 1; i < g->n_mounts; i++)
		if (path_compare(g->mounts[i - 1].path, g->mounts[i - 1].len, g->mounts[i].path, g->mounts[i].len) >= 0)
			return false;
	return true;
}

int guard_get(const char *text, size_t len, struct guard_state *g, struct err *err)
{
	const char *p = text, *end = text + len;
	bool ok = true, ended = false;

	*g = (struct guard_state){ 0 };
	for (unsigned line = 0; ok && p < end; line++) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = nl == NULL ? 0 : (size_t)(nl - p);

		if (nl == NULL || ended)
			ok = false;
		else if (line == 0)
			ok = n == sizeof(first_line) - 1 && memcmp(p, first_line, n) == 0;
		else if (n == 3 && memcmp(p, "end", n) == 0)
			ended = true;
		else
			ok = get_line(g, p, n);
		p = nl == NULL ? end : nl + 1;
	}
	if (ok && ended && in_order(g))
		return 0;
	guard_done(g);
	return err_set(err, ERR_PROTOCOL, "the record of source and target makes no sense");
}

/* ---- mount points ---- */

static const struct guard_seen *seen_at(const struct guard_seen *seen, size_t n, const char *path, size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (seen[i].len == len && memcmp(seen[i].path, path, len) == 0)
			return &seen[i];
	return NULL;
}

static bool is_known(const struct guard_state *g, const struct guard_seen *s)
{
	for (size_t i = 0; i < g->n_mounts; i++)
		if (g->mounts[i].len == s->len && memcmp(g->mounts[i].path, s->path, s->len) == 0)
			return true;
	return false;
}

/* The mount that a directory above it took along when it was renamed: the same root, and nothing is mounted at its old
 * place any more. Where something is, which can't be looked at or is another one, that place stays in doubt. */
static struct guard_mount *moved(struct guard_state *g, const struct guard_seen *s, const struct guard_seen *seen,
				 size_t n)
{
	for (size_t i = 0; s->known && i < g->n_mounts; i++) {
		struct guard_mount *m = &g->mounts[i];

		if (!m->there && m->known && identity_same(&m->id, &s->id) && seen_at(seen, n, m->path, m->len) == NULL)
			return m;
	}
	return NULL;
}

/* `s`, one of those that were seen and are not known by their path. */
static int take_new(struct guard_state *g, const struct guard_seen *s, const struct guard_seen *seen, size_t n,
		    bool accept)
{
	struct guard_mount *m = moved(g, s, seen, n);
	char *path = text_dup(s->path, s->len);

	if (path != NULL && m != NULL) {
		free(m->path);
		m->path = path;
		m->len = s->len;
	} else if (g->n_mounts == GUARD_MOUNTS_MAX) {
		free(path);
		g->too_many = true;
		return 0;
	} else {
		m = add_mount(g, path, s->len);
		if (m == NULL)
			return -1;
		m->accepted = accept && s->known;
	}
	m->there = s->known;
	m->known = s->known;
	m->id = s->id;
	return 0;
}

static int compare_mounts(const void *a, const void *b)
{
	const struct guard_mount *x = a, *y = b;

	return path_compare(x->path, x->len, y->path, y->len);
}

/* The administrator said that what there is now is right. */
static void forget_missing(struct guard_state *g, const struct guard_seen *seen, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < g->n_mounts; i++) {
		struct guard_mount *m = &g->mounts[i];
		const struct guard_seen *s = seen_at(seen, n, m->path, m->len);

		if (s == NULL) {
			free(m->path);
			continue;
		}
		if (s->known)
			*m = (struct guard_mount){ m->path, m->len, true, true, true, s->id };
		g->mounts[kept++] = *m;
	}
	g->n_mounts = kept;
	g->too_many = false;
}

int guard_mounts(struct guard_state *g, const struct guard_seen *seen, size_t n, bool accept)
{
	bool take = accept || !g->looked;
	int rc = 0;

	if (accept)
		forget_missing(g, seen, n);
	for (size_t i = 0; i < g->n_mounts; i++) {
		struct guard_mount *m = &g->mounts[i];
		const struct guard_seen *s = seen_at(seen, n, m->path, m->len);

		if (s != NULL && s->known && !m->known) {
			m->known = true; /* it can be looked at by now */
			m->id = s->id;
		}
		m->there = s != NULL && s->known && identity_same(&m->id, &s->id);
	}
	for (size_t i = 0; i < n && rc == 0; i++)
		if (!is_known(g, &seen[i]))
			rc = take_new(g, &seen[i], seen, n, take);
	if (g->n_mounts > 0)
		qsort(g->mounts, g->n_mounts, sizeof(*g->mounts), compare_mounts);
	g->looked = true;
	return rc;
}

const char *guard_mount_why(const struct guard_mount *m)
{
	if (m->accepted && m->there)
		return NULL;
	if (!m->there)
		return "what was mounted there is gone or can't be looked at (if that is right: fansyncd --sync-now "
		       "--allow-delete)";
	return "something was mounted there that was not before (if that is right: fansyncd --sync-now --allow-delete)";
}

bool guard_keeps(const struct guard_state *g, struct keep_list *out)
{
	bool ok = true;

	if (!GUARD_MOUNTS)
		return true;
	if (g->too_many)
		ok = keep_add(out, "", 0, "there are more mount points below the source than can be told apart");
	for (size_t i = 0; ok && i < g->n_mounts; i++) {
		const char *why = guard_mount_why(&g->mounts[i]);

		if (why != NULL)
			ok = keep_add(out, g->mounts[i].path, g->mounts[i].len, why);
	}
	return ok;
}
