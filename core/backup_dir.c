#include "core/backup_dir.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/path.h"

/* Numbers all: nothing of what they become depends on a language, or is a slash. */
static const char conversions[] = "YmdHMSjuVG%";
/* What no conversion is longer than. */
#define CONVERTED_MAX 4u

/* Room for what they become is left in each component. */
static int check_component(const char *p, size_t len, struct err *err)
{
	size_t out = 0;

	for (size_t i = 0; i < len; i++, out++) {
		if (p[i] != '%')
			continue;
		i++;
		if (i == len || strchr(conversions, p[i]) == NULL)
			return err_set(err, ERR_CONFIG,
				       "there are the conversions %%Y %%m %%d %%H %%M %%S %%j %%u %%V %%G and %%%%");
		out += CONVERTED_MAX - 1;
	}
	return out <= NAME_BYTES_MAX ? 0 : err_set(err, ERR_CONFIG, "a name in it is too long");
}

int backup_dir_check(const char *text, struct err *err)
{
	size_t len = strlen(text);

	if (len == 0 || !path_valid(text, len))
		return err_set(err, ERR_CONFIG, "must be a path below the target, without \"..\" and doubled slashes");
	if (len > BACKUP_DIR_MAX / CONVERTED_MAX)
		return err_set(err, ERR_CONFIG, "too long");
	/* It becomes a rule of the filter. */
	if (strpbrk(text, "*?[]\\\n") != NULL)
		return err_set(err, ERR_CONFIG, "no wildcards, backslashes and line breaks");
	if (path_has_temp(text, len))
		return err_set(err, ERR_CONFIG, "names that end in " PATH_TEMP_SUFFIX " are of temporary files");
	for (const char *p = text; p != NULL && *p != '\0';) {
		size_t n = strcspn(p, "/");

		if (check_component(p, n, err) < 0)
			return -1;
		p = p[n] == '/' ? p + n + 1 : NULL;
	}
	if (backup_dir_root(text) == 0)
		return err_set(err, ERR_CONFIG,
			       "the first directory must have a fixed name, as in .backup/%%Y-%%m-%%d");
	/* A mirrored directory above it could be renamed, with what is kept in it. */
	if (memchr(text, '/', backup_dir_root(text)) != NULL)
		return err_set(err, ERR_CONFIG,
			       "must be a directory of the target itself, as .backup or .backup/%%Y-%%m-%%d");
	return 0;
}

size_t backup_dir_root(const char *text)
{
	const char *percent = strchr(text, '%');
	size_t n = percent == NULL ? strlen(text) : (size_t)(percent - text);

	if (percent == NULL)
		return n;
	while (n > 0 && text[n - 1] != '/')
		n--;
	return n > 0 ? n - 1 : 0;
}

static bool local_time(int64_t real_ns, struct tm *tm)
{
	time_t t = (time_t)(real_ns / NS_PER_S);

	return localtime_r(&t, tm) != NULL;
}

/* Conversion by conversion: a format that is not a constant is nothing that a compiler can check. */
static size_t convert(char conversion, char *out, size_t size, const struct tm *tm)
{
	switch (conversion) {
	case 'Y':
		return strftime(out, size, "%Y", tm);
	case 'm':
		return strftime(out, size, "%m", tm);
	case 'd':
		return strftime(out, size, "%d", tm);
	case 'H':
		return strftime(out, size, "%H", tm);
	case 'M':
		return strftime(out, size, "%M", tm);
	case 'S':
		return strftime(out, size, "%S", tm);
	case 'j':
		return strftime(out, size, "%j", tm);
	case 'u':
		return strftime(out, size, "%u", tm);
	case 'V':
		return strftime(out, size, "%V", tm);
	case 'G':
		return strftime(out, size, "%G", tm);
	default:
		return strftime(out, size, "%%", tm);
	}
}

int backup_dir_at(char out[BACKUP_DIR_MAX], const char *text, int64_t real_ns, struct err *err)
{
	struct tm tm;
	size_t n = 0;

	if (!local_time(real_ns, &tm))
		return err_set(err, ERR_BUG, "backupDir: the time is none");
	for (const char *p = text; *p != '\0' && n + 2 < BACKUP_DIR_MAX; p++) {
		if (*p == '%' && p[1] != '\0')
			n += convert(*++p, out + n, BACKUP_DIR_MAX - n, &tm);
		else
			out[n++] = *p;
	}
	out[n] = '\0';
	if (!path_valid(out, n) || n == 0)
		return err_set(err, ERR_CONFIG, "backupDir: \"%.100s\" is no path", out);
	return (int)n;
}

void backup_dir_stamp(char out[BACKUP_STAMP_MAX], int64_t real_ns)
{
	char text[BACKUP_STAMP_MAX - 8];
	struct tm tm;

	if (!local_time(real_ns, &tm) || strftime(text, sizeof(text), "%Y%m%d-%H%M%S", &tm) == 0)
		(void)snprintf(text, sizeof(text), "%lld", (long long)(real_ns / NS_PER_S));
	(void)snprintf(out, BACKUP_STAMP_MAX, "~%s.%03d", text, (int)(real_ns / NS_PER_MS % 1000));
}
