#include "transports/receiver_store.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "transports/local_files.h"
#include "transports/receiver_source.h"

#define PIECE (256u * 1024)
/* No smaller file is gone on with. */
#define PART_MIN (1024u * 1024)
/* Of what an earlier connection left, in one round of the loop. */
#define ROUND_BYTES (8u * 1024 * 1024)

/* A file on its way. */
struct store_job {
	struct local_tree *tree;
	struct fileop *op;
	struct fileops_file file;
	const struct fileops_attrs *attrs;
	struct remote_file *from;
	const struct fileops_store *what;
	XXH3_state_t *digest;
	struct loop_timer *prefix; /* what an earlier connection left becomes part of the digest, bit by bit */
	uint64_t hashed;
	bool inside; /* store has not returned yet */
	bool over;
	bool no_clone;
	bool synced;
	enum fileops_result result;
};

static enum fileops_result failed(struct err *err, int code, const char *what)
{
	err_errno(err, code, "%s", what);
	return code == EFBIG ? FILEOPS_TOOLONG : FILEOPS_FAILED;
}

static enum fileops_result write_at(int fd, uint64_t offset, const unsigned char *p, size_t n, struct err *err)
{
	while (n > 0) {
		ssize_t got = pwrite(fd, p, n, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return failed(err, errno, "write");
		p += got;
		offset += (uint64_t)got;
		n -= (size_t)got;
	}
	return FILEOPS_OK;
}

static enum fileops_result on_data(void *ctx, uint64_t offset, const void *p, size_t n, struct err *err)
{
	struct store_job *j = ctx;

	(void)XXH3_128bits_update(j->digest, p, n);
	j->op->copied += n;
	return write_at(j->file.fd, offset, p, n, err);
}

/* The file is given its length at the end. */
static enum fileops_result on_hole(void *ctx, uint64_t offset, uint64_t n, struct err *err)
{
	struct store_job *j = ctx;
	unsigned char hole[TCP_HOLE_BYTES];

	(void)err;
	tcp_hole_bytes(hole, offset, n);
	(void)XXH3_128bits_update(j->digest, hole, sizeof(hole));
	j->op->copied += n;
	return FILEOPS_OK;
}

/* Extents are shared where the file system can. */
static bool clone(struct store_job *j, uint64_t offset, uint64_t n, uint64_t from)
{
	struct file_clone_range r = {
		.src_fd = remote_file_base(j->from), .src_offset = from, .src_length = n, .dest_offset = offset
	};

	if (j->no_clone)
		return false;
	if (ioctl(j->file.fd, FICLONERANGE, &r) == 0)
		return true;
	j->no_clone = errno != EINVAL; /* that may be the alignment of this one */
	return false;
}

static enum fileops_result copy_piece(struct store_job *j, unsigned char *piece, uint64_t offset, size_t n,
				      uint64_t from, struct err *err)
{
	size_t done = 0;

	while (done < n) {
		ssize_t got = pread(remote_file_base(j->from), piece + done, n - done, (off_t)(from + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return failed(err, errno, "read of the old file");
		if (got == 0) {
			err_set(err, ERR_AGAIN, "the old file has become shorter");
			return FILEOPS_FAILED;
		}
		done += (size_t)got;
	}
	(void)XXH3_128bits_update(j->digest, piece, n);
	j->op->copied += n;
	return clone(j, offset, n, from) ? FILEOPS_OK : write_at(j->file.fd, offset, piece, n, err);
}

static enum fileops_result on_copy(void *ctx, uint64_t offset, uint64_t n, uint64_t from, struct err *err)
{
	struct store_job *j = ctx;
	enum fileops_result got = FILEOPS_OK;
	unsigned char *piece;

	if (remote_file_base(j->from) < 0) {
		err_set(err, ERR_PROTOCOL, "the sender refers to an old file that is not there");
		return FILEOPS_FAILED;
	}
	piece = malloc(PIECE);
	if (piece == NULL)
		return failed(err, ENOMEM, "copy of the old file");
	while (n > 0 && got == FILEOPS_OK) {
		size_t part = n < PIECE ? (size_t)n : PIECE;

		got = copy_piece(j, piece, offset, part, from, err);
		offset += part;
		from += part;
		n -= part;
	}
	free(piece);
	return got;
}

static void end_job(struct store_job *j, enum fileops_result result)
{
	struct fileop *op = j->op;

	(void)XXH3_freeState(j->digest);
	j->digest = NULL;
	loop_timer_remove(j->prefix);
	j->prefix = NULL;
	j->over = true;
	j->result = result;
	if (j->inside)
		return;
	free(j);
	op->result = result;
	op->done(op);
}

static enum fileops_result whole(struct store_job *j, uint64_t size, const unsigned char digest[16])
{
	XXH128_canonical_t ours;

	XXH128_canonicalFromHash(&ours, XXH3_128bits_digest(j->digest));
	if (memcmp(ours.digest, digest, sizeof(ours.digest)) != 0) {
		err_set(&j->op->err, ERR_AGAIN, "the content that arrived is not what was sent");
		return FILEOPS_FAILED;
	}
	if (local_set_length(j->file.fd, size) < 0)
		return failed(&j->op->err, errno, "truncate");
	if (j->synced && fdatasync(j->file.fd) < 0)
		return failed(&j->op->err, errno, "sync");
	return FILEOPS_OK;
}

static void on_end(void *ctx, enum fileops_result result, uint64_t size, const unsigned char digest[16],
		   const struct err *why)
{
	struct store_job *j = ctx;

	if (result == FILEOPS_OK)
		result = whole(j, size, digest);
	else if (why != NULL && why->class != ERR_NONE)
		j->op->err = *why;
	if (result == FILEOPS_OK)
		result = local_tree_finish(j->tree, j->op, &j->file, j->attrs);
	else
		local_fileops.drop(j->tree, &j->file);
	end_job(j, result);
}

static void on_dropped(void *ctx)
{
	struct store_job *j = ctx;

	local_fileops.drop(j->tree, &j->file);
	loop_timer_remove(j->prefix);
	(void)XXH3_freeState(j->digest);
	free(j);
}

/* One round of what an earlier connection left. false: it can't be read. */
static bool digest_some(struct store_job *j, unsigned char *piece)
{
	uint64_t end = j->what->offset;

	for (unsigned n = 0; n < ROUND_BYTES / PIECE && j->hashed < end; n++) {
		ssize_t got = pread(j->file.fd, piece, end - j->hashed < PIECE ? (size_t)(end - j->hashed) : PIECE,
				    (off_t)j->hashed);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		(void)XXH3_128bits_update(j->digest, piece, (size_t)got);
		j->hashed += (uint64_t)got;
	}
	return true;
}

static void on_prefix(void *ctx)
{
	struct store_job *j = ctx;
	unsigned char *piece = malloc(PIECE);
	bool ok = piece != NULL && digest_some(j, piece);
	struct err why = ERR_INIT;

	free(piece);
	if (!ok) {
		err_set(&why, ERR_AGAIN, "what was left of an earlier transfer can't be read");
		remote_file_fail(j->from, FILEOPS_FAILED, &why);
	} else if (j->hashed < j->what->offset) {
		j->op->copied = j->hashed; /* a sign of life */
		loop_timer_after(j->prefix, 0);
	} else {
		j->op->copied = j->hashed;
		remote_file_read(j->from);
	}
}

/* Takes the file over; NULL: out of memory. */
static struct store_job *new_job(struct local_tree *tree, struct fileop *op, struct fileops_file *file,
				 const struct fileops_store *what)
{
	struct store_job *j = calloc(1, sizeof(*j));
	struct fileops_file taken = *file;

	*file = (struct fileops_file){ .fd = -1 };
	if (j != NULL)
		j->digest = XXH3_createState();
	if (j != NULL && what->offset > 0)
		j->prefix = loop_timer_add(local_tree_loop(tree), on_prefix, j, &op->err);
	if (j == NULL || j->digest == NULL || (what->offset > 0 && j->prefix == NULL)) {
		if (j != NULL)
			(void)XXH3_freeState(j->digest);
		free(j);
		local_fileops.drop(tree, &taken);
		(void)failed(&op->err, ENOMEM, "store");
		return NULL;
	}
	j->tree = tree;
	j->op = op;
	j->file = taken;
	j->attrs = what->attrs;
	j->what = what;
	j->from = what->from->impl;
	(void)XXH3_128bits_reset(j->digest);
	op->copied = 0;
	return j;
}

static enum fileops_result begin(void *end, struct fileop *op, struct fileops_file *file,
				 const struct fileops_store *what, bool synced)
{
	struct remote_sink sink = {
		.data = on_data, .hole = on_hole, .copy = on_copy, .end = on_end, .dropped = on_dropped
	};
	struct store_job *j;
	enum fileops_result result;

	if (what->from->impl == NULL)
		return local_fileops.store(end, op, file, what);
	j = new_job(end, op, file, what);
	if (j == NULL)
		return FILEOPS_FAILED;
	/* What an earlier connection left beyond this would stand where a HOLE is told. */
	if ((what->offset > 0 || what->size >= PART_MIN) && ftruncate(j->file.fd, (off_t)what->offset) < 0) {
		result = failed(&op->err, errno, "truncate");
		on_dropped(j);
		return result;
	}
	j->synced = synced;
	sink.ctx = j;
	remote_file_sink(j->from, what->offset, what->size, &sink);
	if (what->offset > 0) {
		loop_timer_after(j->prefix, 0);
		return FILEOPS_PENDING;
	}
	j->inside = true;
	remote_file_read(j->from);
	j->inside = false;
	if (!j->over)
		return FILEOPS_PENDING;
	result = j->result;
	free(j);
	return result;
}

static enum fileops_result store(void *end, struct fileop *op, struct fileops_file *file,
				 const struct fileops_store *what)
{
	return begin(end, op, file, what, false);
}

static enum fileops_result store_synced(void *end, struct fileop *op, struct fileops_file *file,
					const struct fileops_store *what)
{
	return begin(end, op, file, what, true);
}

void receiver_fileops(struct fileops *out, bool synced)
{
	*out = local_fileops;
	out->store = synced ? store_synced : store;
}
