#include "transports/exec_records.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/json.h"

#define FLUSH_BYTES (64u * 1024)
#define BUFFER_MAX                                                                                                     \
	(2u * 1024 * 1024) /* two paths of the greatest length, each byte escaped, and what goes to the file */

static const char *op_name(enum exec_op op)
{
	static const char *const names[] = { "create", "modify", "delete", "move", "list",
					     "entry",  "keep",	 "listed", "end" };

	return names[op];
}

static const char *type_name(enum look look)
{
	switch (look) {
	case LOOK_DIR:
		return "dir";
	case LOOK_FILE:
		return "file";
	case LOOK_SYMLINK:
		return "link";
	case LOOK_SPECIAL:
		return "special";
	case LOOK_NONE:
	case LOOK_ABSENT:
		break;
	}
	return "unknown";
}

static bool put_field(struct buf *out, const char *s, size_t len)
{
	return buf_add(out, s, len) && buf_add_byte(out, '\0');
}

static bool put_path_field(struct buf *out, const struct exec_record *r)
{
	return r->len == 0 && r->op != EXEC_END ? put_field(out, ".", 1) : put_field(out, r->path, r->len);
}

static bool put_null(struct buf *out, const struct exec_record *r)
{
	const char *op = op_name(r->op), *type = type_name(r->look);

	(void)buf_printf(out, "%" PRIu64, r->id);
	(void)buf_add_byte(out, '\0');
	(void)put_field(out, op, strlen(op));
	(void)put_field(out, type, strlen(type));
	(void)put_path_field(out, r);
	if (r->from != NULL)
		(void)buf_add(out, r->from, r->from_len);
	else if (r->op == EXEC_LISTED)
		(void)buf_printf(out, "%" PRId64, r->deletions);
	(void)buf_add_byte(out, '\0');
	return !out->failed;
}

static void put_json_stat(struct buf *out, const struct stat *st)
{
	json_put_u64(out, "size", (uint64_t)st->st_size);
	json_key(out, "mtime");
	(void)buf_printf(out, "%lld.%09ld", (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
	json_key(out, "mode");
	(void)buf_printf(out, "\"%04o\"", (unsigned)(st->st_mode & 07777));
	json_put_u64(out, "uid", st->st_uid);
	json_put_u64(out, "gid", st->st_gid);
}

static bool put_json(struct buf *out, const struct exec_record *r)
{
	(void)buf_add_byte(out, '{');
	json_put_u64(out, "id", r->id);
	json_put_string(out, "op", op_name(r->op));
	if (r->op != EXEC_END) {
		json_put_string(out, "type", type_name(r->look));
		json_put_bytes(out, "path", r->len == 0 ? "." : r->path, r->len == 0 ? 1 : r->len);
	}
	if (r->from != NULL)
		json_put_bytes(out, "from", r->from, r->from_len);
	if (r->op == EXEC_LISTED)
		json_put_u64(out, "deletions", (uint64_t)r->deletions);
	if (r->st != NULL)
		put_json_stat(out, r->st);
	(void)buf_add_str(out, "}\n");
	return !out->failed;
}

static bool has_path(enum exec_op op)
{
	return op != EXEC_LISTED && op != EXEC_END;
}

bool exec_record_put(struct buf *out, enum exec_format format, const struct exec_record *r)
{
	if (format == EXEC_JSON)
		return put_json(out, r);
	if (format == EXEC_NULL)
		return put_null(out, r);
	return !has_path(r->op) || put_path_field(out, r);
}

char exec_record_mark(enum exec_format format, unsigned *fields)
{
	*fields = format == EXEC_NULL ? 5 : 1;
	return format == EXEC_NULL ? '\0' : '\n';
}

/* ---- the file ---- */

void exec_spool_init(struct exec_spool *s)
{
	*s = (struct exec_spool){ .fd = -1 };
	buf_init(&s->buf, BUFFER_MAX);
}

void exec_spool_done(struct exec_spool *s)
{
	if (s->fd >= 0)
		(void)close(s->fd);
	s->fd = -1;
	s->size = 0;
	buf_done(&s->buf);
}

int exec_spool_begin(struct exec_spool *s, const char *dir, struct err *err)
{
	exec_spool_done(s);
	s->fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (s->fd < 0)
		s->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (s->fd < 0)
		s->fd = memfd_create("records", MFD_CLOEXEC);
	return s->fd < 0 ? err_errno(err, errno, "a file for the records of exec") : 0;
}

static int flush(struct exec_spool *s, struct err *err)
{
	size_t at = 0;

	while (at < s->buf.len) {
		ssize_t n = write(s->fd, s->buf.data + at, s->buf.len - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, errno, "the records for exec (in /var/tmp)");
		at += (size_t)n;
	}
	s->size += at;
	buf_clear(&s->buf);
	return 0;
}

uint64_t exec_spool_length(const struct exec_spool *s)
{
	return s->size + s->buf.len;
}

int exec_spool_put(struct exec_spool *s, enum exec_format format, const struct exec_record *r, struct err *err)
{
	if (!exec_record_put(&s->buf, format, r))
		return err_set(err, ERR_NOMEM, "out of memory for the records of exec");
	return s->buf.len < FLUSH_BYTES ? 0 : flush(s, err);
}

int exec_spool_end(struct exec_spool *s, struct err *err)
{
	if (flush(s, err) < 0)
		return -1;
	return lseek(s->fd, 0, SEEK_SET) < 0 ? err_errno(err, errno, "the records for exec") : 0;
}
