#include "transports/sftp_files.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/credential.h"

#define CREDENTIAL "credential:"

/* Who may be able to read a file. */
enum who { WHO_ANYBODY = 0, WHO_OWNER, WHO_SYSTEMD };

char *sftp_expand_home(const char *path)
{
	const char *home = secure_getenv("HOME");
	const struct passwd *pw;
	char *full = NULL;

	if (path[0] != '~' || path[1] != '/')
		return strdup(path);
	if (home == NULL || home[0] != '/') {
		pw = getpwuid(geteuid());
		home = pw == NULL ? NULL : pw->pw_dir;
	}
	if (home == NULL || asprintf(&full, "%s%s", home, path + 1) < 0)
		return NULL;
	return full;
}

/* Whether only its owner can read the file, who is us or root. One of systemd's may be readable by a group or an ACL
 * that systemd made. */
static int check_private(const char *path, const struct stat *st, enum who who, struct err *err)
{
	if (!S_ISREG(st->st_mode))
		return err_set(err, ERR_CONFIG, "%.300s is no regular file", path);
	if (who == WHO_ANYBODY)
		return 0;
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return err_set(err, ERR_CONFIG, "%.300s belongs to somebody else", path);
	if ((st->st_mode & (who == WHO_SYSTEMD ? 07 : credential_open_bits(path))) != 0)
		return err_set(err, ERR_CONFIG, "%.300s can be read by others: `chmod 600` it", path);
	return 0;
}

static int read_whole(const char *path, enum who who, size_t max, struct buf *out, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	int rc = 0;

	buf_clear(out);
	if (fd < 0)
		return err_errno(err, errno, "%.300s", path);
	if (fstat(fd, &st) < 0)
		rc = err_errno(err, errno, "%.300s", path);
	else
		rc = check_private(path, &st, who, err);
	while (rc == 0) {
		ssize_t n =
			buf_reserve(out, max + 1 - out->len) ? read(fd, out->data + out->len, max + 1 - out->len) : -1;

		if (n == 0)
			break;
		if (n > 0)
			out->len += (size_t)n;
		if (n < 0 && errno != EINTR)
			rc = err_errno(err, errno, "%.300s", path);
		else if (out->len > max)
			rc = err_set(err, ERR_CONFIG, "%.300s is larger than %zu bytes", path, max);
	}
	(void)close(fd);
	return rc;
}

int sftp_public_read(const char *path, size_t max, struct buf *out, struct err *err)
{
	return read_whole(path, WHO_ANYBODY, max, out, err);
}

int sftp_private_read(const char *path, size_t max, struct buf *out, struct err *err)
{
	return read_whole(path, WHO_OWNER, max, out, err);
}

int sftp_secret_read(const char *name, struct buf *out, struct err *err)
{
	bool credential = strncmp(name, CREDENTIAL, strlen(CREDENTIAL)) == 0;
	const char *dir = credential ? getenv("CREDENTIALS_DIRECTORY") : NULL, *id = name + strlen(CREDENTIAL);
	char *path = NULL;
	int rc;

	if (credential && (dir == NULL || id[0] == '\0' || strchr(id, '/') != NULL))
		return err_set(err, ERR_CONFIG, "%.200s: %s", name,
			       dir == NULL ? "systemd gave no credentials (LoadCredential= in the unit)"
					   : "no name of a credential");
	if (credential && asprintf(&path, "%s/%s", dir, id) < 0)
		path = NULL;
	if (!credential)
		path = sftp_expand_home(name);
	if (path == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	rc = read_whole(path, credential ? WHO_SYSTEMD : WHO_OWNER, SFTP_SECRET_MAX, out, err);
	free(path);
	if (rc < 0)
		return -1;
	while (out->len > 0 && (out->data[out->len - 1] == '\n' || out->data[out->len - 1] == '\r'))
		out->len--;
	if (memchr(out->len > 0 ? out->data : "", '\0', out->len) != NULL)
		return err_set(err, ERR_CONFIG, "%.300s holds a NUL byte", name);
	return 0;
}
