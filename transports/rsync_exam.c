#include "transports/rsync_exam.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "core/clock.h"
#include "core/proc.h"
#include "transports/ssh_words.h"

/* What our command lines have: --delete-missing-args, --outbuf. */
#define OLDEST 30100u
/* Times to the nanosecond: --modify-window=-1. */
#define FINE_TIMES 30103u
#define LOCAL_NS (10 * NS_PER_S)

unsigned rsync_exam_version(const char *said)
{
	const char *p = strstr(said, "rsync  version ");
	unsigned major, minor, patch = 0;

	if (p == NULL || sscanf(p + strlen("rsync  version "), "%u.%u.%u", &major, &minor, &patch) < 2)
		return 0;
	return (major % 100) * 10000 + (minor % 100) * 100 + patch % 100;
}

bool rsync_exam_here(const struct sync_options *opt, struct exam *x)
{
	const char *const argv[] = { opt->rsync.binary, "--version", NULL };
	struct exam_output o;
	struct err err = ERR_INIT;
	unsigned v = 0;

	exam_begin(x, "rsync here");
	if (exam_run(argv, NULL, NULL, exam_left_ns(x, LOCAL_NS), &o, &err) < 0)
		exam_fail(x, "install rsync, or set rsync.binary", "%s can't be started: %s", opt->rsync.binary,
			  err.text);
	else if (o.timed_out)
		exam_fail(x, "see what rsync.binary names", "%s --version does not end", opt->rsync.binary);
	else if ((v = rsync_exam_version(buf_str(&o.out))) == 0)
		exam_fail(x, "install rsync, or set rsync.binary", "%s --version does not say that it is rsync",
			  opt->rsync.binary);
	else if (v < OLDEST)
		exam_fail(x, "install rsync 3.1 or later", "rsync %u.%u is too old", v / 10000, v / 100 % 100);
	else if (v < FINE_TIMES)
		exam_warn(x, "install rsync 3.1.3 or later", "rsync %u.%u.%u compares times by whole seconds",
			  v / 10000, v / 100 % 100, v % 100);
	else
		exam_ok(x, "version %u.%u.%u", v / 10000, v / 100 % 100, v % 100);
	exam_output_done(&o);
	return v >= OLDEST;
}

/* In the order of what explains more. */
static const struct {
	const char *word, *remedy;
} advice[] = {
	{ "auth failed",
	  "compare rsync.password_file and the target's user with `auth users` and `secrets file` of the module" },
	{ "password file must", "chmod 600 the password file" },
	{ "Unknown module", "see the modules of rsyncd.conf there: rsync HOST:: lists them" },
	{ "read only", "read only = no in the module, in rsyncd.conf there" },
	{ "Connection refused", "start the rsync daemon there (systemctl enable --now rsync), open its port" },
	{ "not found", "install rsync there, or set rsync.rsync_path" },
	{ "No such file or directory", "make the target's parent directory" },
	{ "Permission denied", "let the account there write to the directory" },
	{ "timeout", "see whether the host is up and its port open" },
	{ "timed out", "see whether the host is up and its port open" },
	{ "No route", "see whether the host is up and its port open" },
	{ "getaddrinfo", "see the host's name" },
};

static const char *advice_for(const char *said)
{
	for (size_t i = 0; i < sizeof(advice) / sizeof(advice[0]); i++)
		if (strstr(said, advice[i].word) != NULL)
			return advice[i].remedy;
	return "run `fansyncd --sync-now --only NAME` with log = [ \"Exec\" ] to see what rsync says";
}

/* Its words on one line: the first ones tell most. */
static void words_of(struct exam_output *o, char *out, size_t size)
{
	struct ssh_words w = { .len = 0 };
	size_t n = o->err.len < SSH_WORDS_MAX ? o->err.len : SSH_WORDS_MAX;

	if (n > 0)
		memcpy(w.text, o->err.data, n);
	w.len = n;
	w.text[n] = '\0';
	(void)snprintf(out, size, "%s", ssh_words_line(&w));
}

/* 0: it went well. 1: it did not, `said` says why. -1: nothing is known of it, that is told. */
static int dry_run(const struct sync_options *opt, const struct rsync_job *job, struct exam *x, char *said, size_t size)
{
	struct arglist a = { 0 };
	struct exam_output o;
	struct err err = ERR_INIT;
	int result = -1;

	if (!rsync_args_build(&a, job, opt)) {
		arglist_done(&a);
		exam_fail(x, "", "out of memory");
		return -1;
	}
	if (exam_run((const char *const *)a.v, opt->source, NULL, exam_left_ns(x, INT64_MAX), &o, &err) < 0) {
		exam_fail(x, "install rsync, or set rsync.binary", "%s", err.text);
	} else if (o.timed_out) {
		exam_fail(x, "see whether the host is up and its port open", "no answer in time");
	} else {
		words_of(&o, said, size);
		result = WIFEXITED(o.status) && WEXITSTATUS(o.status) == 0 ? 0 : 1;
		if (result != 0 && said[0] == '\0')
			proc_status_text(o.status, said, size);
	}
	exam_output_done(&o);
	arglist_done(&a);
	return result;
}

void rsync_exam_there(const struct sync_options *opt, const struct rsync_job *job, struct exam *x)
{
	struct sync_options dry = *opt;
	struct rsync_job bare = *job;
	char said[EXAM_TEXT_MAX], first[EXAM_TEXT_MAX];
	int rc;

	exam_begin(x, "rsync there");
	dry.rsync.dry_run = true;
	rc = dry_run(&dry, job, x, first, sizeof(first));
	if (rc > 0 && job->kind == RSYNC_SHELL && strstr(first, "-s has been disabled") != NULL) { /* rrsync's words */
		bare.bare = true;
		rc = dry_run(&dry, &bare, x, said, sizeof(said)) == 0 ? 0 : rc;
	}
	if (rc == 0)
		exam_ok(x, "an empty run to %s goes well", job->dest);
	else if (rc > 0)
		exam_fail(x, advice_for(first), "an empty run to %s: %.700s", job->dest, first);
}

void rsync_examine(const struct sync_options *opt, struct exam *x)
{
	const struct rsync_job job = { .kind = RSYNC_DAEMON, .dest = opt->target, .probe = true, .max_delete = -1 };

	if (opt->rsync.password_file != NULL)
		exam_secret(x, "rsync.password_file", opt->rsync.password_file);
	if (!rsync_exam_here(opt, x) || opt->target[0] == '/')
		return;
	rsync_exam_there(opt, &job, x);
}
