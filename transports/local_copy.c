/*
 * local_copy.c - content of local files: copied, or summed up; see local_private.h.
 *
 * Small files at once. Large ones as jobs: a bounded piece a round of the loop, so that the worker stays alive to
 * everything else. Tried in this order: a reflink; copy_file_range (which file systems and servers may do on their
 * own); read and write. Holes stay holes.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/clock.h"
#include "transports/local_files.h"
#include "transports/local_private.h"

/* Below it a reflink or copy_file_range gains nothing. */
#define SMALL_MAX ((uint64_t)LOCAL_BUFFER)
/* Of one round. */
#define ROUND_BYTES ((uint64_t)32 << 20)
#define CALL_BYTES ((size_t)8 << 20)

struct local_job {
	struct local_job *next, **at;
	struct local_tree *tree;
	struct fileop *op;
	struct loop_timer *timer;
	int in, out; /* in: owned by a digest; out: by a store */
	const struct fileops_store *what;
	bool ours, sparse;
	uint64_t pos, size;
	uint64_t data_end; /* of the piece of data at pos; sparse files */
	XXH3_state_t *sum; /* a digest */
};

/* ---- pieces ---- */

static int write_all(int fd, const char *bytes, size_t n, uint64_t at)
{
	while (n > 0) {
		ssize_t done = pwrite(fd, bytes, n, (off_t)at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0) {
			errno = done == 0 ? EIO : errno;
			return -1;
		}
		bytes += done;
		n -= (size_t)done;
		at += (uint64_t)done;
	}
	return 0;
}

static ssize_t read_some(int fd, char *bytes, size_t n, uint64_t at)
{
	ssize_t got;

	do
		got = pread(fd, bytes, n, (off_t)at);
	while (got < 0 && errno == EINTR);
	return got;
}

/* How much was copied, 0 at the source's end, -1: op->err says why. */
static ssize_t copy_by_hand(struct local_job *j, size_t n)
{
	struct local_tree *t = j->tree;
	ssize_t got = read_some(j->in, t->buffer, n < LOCAL_BUFFER ? n : LOCAL_BUFFER, j->pos);

	if (got < 0) {
		(void)err_errno(&j->op->err, errno, "read of the source");
		return -1;
	}
	if (got > 0 && write_all(j->out, t->buffer, (size_t)got, j->pos) < 0) {
		(void)err_errno(&j->op->err, errno, "write");
		return -1;
	}
	return got;
}

static bool range_is_unfit(int code)
{
	return code == EXDEV || code == EINVAL || code == EOPNOTSUPP || code == ENOSYS || code == EBADF ||
	       code == EPERM || code == ETXTBSY || code == EIO;
}

static ssize_t copy_piece(struct local_job *j, size_t n)
{
	off_t in_at = (off_t)j->pos, out_at = (off_t)j->pos;
	ssize_t done;

	if (j->tree->no_copy_range || j->size <= SMALL_MAX)
		return copy_by_hand(j, n);
	done = copy_file_range(j->in, &in_at, j->out, &out_at, n < CALL_BYTES ? n : CALL_BYTES, 0);
	if (done > 0)
		return done;
	if (done < 0 && !range_is_unfit(errno)) {
		(void)err_errno(&j->op->err, errno, "copy");
		return -1;
	}
	/* Files without pages of their own (proc, sys, some FUSE) say 0, as at the end: reading tells. */
	if (done < 0 && errno != EIO)
		j->tree->no_copy_range = true;
	return copy_by_hand(j, n);
}

/* Skip a hole at pos. */
static void find_data(struct local_job *j)
{
	off_t data, hole;

	if (!j->sparse || j->pos < j->data_end)
		return;
	data = lseek(j->in, (off_t)j->pos, SEEK_DATA);
	if (data < 0 && errno == ENXIO) {
		j->pos = j->size; /* nothing but a hole up to the end */
		return;
	}
	hole = data < 0 ? -1 : lseek(j->in, data, SEEK_HOLE);
	if (hole < 0) {
		j->sparse = false; /* no such thing there */
		return;
	}
	j->pos = (uint64_t)data < j->size ? (uint64_t)data : j->size;
	j->data_end = (uint64_t)hole;
}

/* ---- a store ---- */

int local_set_length(int fd, uint64_t size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -1;
	if ((uint64_t)st.st_size == size)
		return 0;
	/* A hole at the end; with its last byte, which is written after all before it. */
	if (st.st_size > 0 && (uint64_t)st.st_size < size)
		return write_all(fd, "", 1, size - 1);
	return ftruncate(fd, (off_t)size);
}

static enum fileops_result end_store(struct local_job *j, enum fileops_result r)
{
	const struct local_target of = { .fd = j->out, .ours = j->ours };
	struct fileop *op = j->op;

	if (r == FILEOPS_OK && j->sparse && local_set_length(j->out, op->copied) < 0)
		r = local_failed(op, errno, "truncate");
	if (r == FILEOPS_OK)
		r = local_set_attrs(j->tree, op, &of, j->what->attrs);
	/* Some file systems tell of a full disk only now. */
	if (close(j->out) < 0 && r == FILEOPS_OK && errno != EINTR)
		r = local_failed(op, errno, "close");
	j->out = -1;
	return r;
}

static size_t left_of_piece(const struct local_job *j, uint64_t budget)
{
	uint64_t n = j->size - j->pos;

	if (j->sparse && j->data_end - j->pos < n)
		n = j->data_end - j->pos;
	return (size_t)(n < budget ? n : budget);
}

/* OK: the content is there. PENDING: more to do. */
static enum fileops_result copy_round(struct local_job *j)
{
	uint64_t budget = j->what->throttle != NULL && j->what->throttle->rate > 0 ? LOCAL_BUFFER / 4 : ROUND_BYTES;

	while (j->pos < j->size && budget > 0) {
		ssize_t n;

		find_data(j);
		if (j->pos >= j->size)
			break;
		n = copy_piece(j, left_of_piece(j, budget));
		if (n < 0)
			return local_result(j->op->err.code);
		if (n == 0) {
			j->size = j->pos; /* it became shorter */
			break;
		}
		j->pos += (uint64_t)n;
		budget -= (uint64_t)n;
		j->op->copied = j->pos;
		if (j->what->throttle != NULL)
			throttle_took(j->what->throttle, clock_mono_ns(), (uint64_t)n);
	}
	j->op->copied = j->pos;
	return j->pos < j->size ? FILEOPS_PENDING : FILEOPS_OK;
}

/* The whole file at once, sharing its blocks. */
static bool clone_whole(struct local_job *j)
{
	struct stat st;

	if (j->tree->no_clone || j->pos != 0 || j->size <= SMALL_MAX)
		return false;
	if (ioctl(j->out, FICLONE, j->in) < 0) {
		j->tree->no_clone = true;
		return false;
	}
	/* What it is now, which may be more or less than what was asked for. */
	if (fstat(j->out, &st) < 0)
		return false;
	if ((uint64_t)st.st_size > j->size && ftruncate(j->out, (off_t)j->size) < 0)
		return false;
	j->pos = j->size = (uint64_t)st.st_size < j->size ? (uint64_t)st.st_size : j->size;
	j->op->copied = j->pos;
	j->sparse = false;
	return true;
}

/* ---- jobs ---- */

static void job_free(struct local_job *j)
{
	*j->at = j->next;
	if (j->next != NULL)
		j->next->at = j->at;
	loop_timer_remove(j->timer);
	if (j->out >= 0)
		(void)close(j->out);
	if (j->sum != NULL) {
		(void)close(j->in);
		XXH3_freeState(j->sum);
	}
	free(j);
}

void local_jobs_drop(struct local_tree *t)
{
	while (t->jobs != NULL)
		job_free(t->jobs);
}

static int64_t wait_of(const struct local_job *j)
{
	return j->what == NULL || j->what->throttle == NULL ? 0 : throttle_wait_ns(j->what->throttle, clock_mono_ns());
}

static void job_again(struct local_job *j)
{
	loop_timer_after(j->timer, wait_of(j));
}

static enum fileops_result sum_round(struct local_job *j)
{
	uint64_t budget = ROUND_BYTES;

	while (budget > 0) {
		ssize_t n = read_some(j->in, j->tree->buffer, LOCAL_BUFFER, j->pos);

		if (n < 0)
			return local_failed(j->op, errno, "read");
		if (n == 0)
			return FILEOPS_OK;
		(void)XXH3_128bits_update(j->sum, j->tree->buffer, (size_t)n);
		j->pos += (uint64_t)n;
		j->op->copied = j->pos;
		budget -= (uint64_t)n < budget ? (uint64_t)n : budget;
	}
	return FILEOPS_PENDING;
}

static void put_digest(struct fileop *op, XXH128_hash_t hash)
{
	XXH128_canonical_t out;

	XXH128_canonicalFromHash(&out, hash);
	memcpy(op->digest, out.digest, sizeof(op->digest));
}

static void on_round(void *ctx)
{
	struct local_job *j = ctx;
	struct fileop *op = j->op;
	enum fileops_result r;

	/* Others waited for the same moment, and one of them has used it. */
	if (wait_of(j) > 0) {
		job_again(j);
		return;
	}
	r = j->sum != NULL ? sum_round(j) : copy_round(j);
	if (r == FILEOPS_PENDING) {
		job_again(j);
		return;
	}
	if (j->sum != NULL) {
		if (r == FILEOPS_OK)
			put_digest(op, XXH3_128bits_digest(j->sum));
	} else {
		r = end_store(j, r);
	}
	job_free(j);
	op->result = r;
	op->done(op);
}

/* The job goes on from the loop. Takes over what `j` owns, whatever happens. */
static enum fileops_result job_start(const struct local_job *model)
{
	struct local_tree *t = model->tree;
	struct local_job *j = malloc(sizeof(*j));

	if (j == NULL) {
		(void)close(model->sum != NULL ? model->in : model->out);
		if (model->sum != NULL)
			XXH3_freeState(model->sum);
		return local_failed(model->op, ENOMEM, "copy");
	}
	*j = *model;
	j->next = t->jobs;
	j->at = &t->jobs;
	if (j->next != NULL)
		j->next->at = &j->next;
	t->jobs = j;
	j->timer = loop_timer_add(t->loop, on_round, j, &j->op->err);
	if (j->timer == NULL) {
		job_free(j);
		return FILEOPS_FAILED;
	}
	job_again(j);
	return FILEOPS_PENDING;
}

static bool has_holes(int fd, uint64_t size)
{
	struct stat st;

	return size > SMALL_MAX / 16 && fstat(fd, &st) == 0 && (uint64_t)st.st_blocks * 512 < size;
}

enum fileops_result local_store(void *end, struct fileop *op, struct fileops_file *file,
				const struct fileops_store *what)
{
	struct local_job j = {
		.tree = end,
		.op = op,
		.in = what->from->fd,
		.out = file->fd,
		.what = what,
		.ours = file->impl == LOCAL_OURS,
		.pos = what->offset,
		.size = what->size,
	};
	enum fileops_result r;

	file->fd = -1;
	op->copied = j.pos;
	j.sparse = has_holes(j.in, j.size);
	if (what->throttle != NULL && throttle_wait_ns(what->throttle, clock_mono_ns()) > 0)
		return job_start(&j);
	r = clone_whole(&j) ? FILEOPS_OK : copy_round(&j);
	if (r == FILEOPS_PENDING)
		return job_start(&j);
	return end_store(&j, r);
}

enum fileops_result local_digest(void *end, struct fileop *op, const char *path, size_t len)
{
	struct local_tree *t = end;
	enum fileops_result r = local_fileops.open(t, op, path, len, NULL);
	struct local_job j = { .tree = t, .op = op, .out = -1 };

	if (r != FILEOPS_OK)
		return r;
	j.in = op->file.fd;
	op->file.fd = -1;
	op->copied = 0;
	j.sum = XXH3_createState();
	if (j.sum == NULL) {
		(void)close(j.in);
		return local_failed(op, ENOMEM, "digest");
	}
	(void)XXH3_128bits_reset(j.sum);
	r = sum_round(&j);
	if (r == FILEOPS_PENDING)
		return job_start(&j);
	if (r == FILEOPS_OK)
		put_digest(op, XXH3_128bits_digest(j.sum));
	(void)close(j.in);
	XXH3_freeState(j.sum);
	return r;
}
