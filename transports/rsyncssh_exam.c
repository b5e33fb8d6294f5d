#include "transports/rsyncssh_exam.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "core/clock.h"
#include "core/credential.h"
#include "core/path.h"
#include "transports/remote_shell.h"
#include "transports/rsync_args.h"
#include "transports/rsync_exam.h"
#include "transports/ssh_target.h"

#define SCRIPT_MAX (512u * 1024)
#define KEYS_SHOWN 400u

/* What is looked at: one login for all of it. */
struct visit {
	const struct sync_options *opt;
	struct exam *x;
	char *host, *dir, *rsync_path;
	struct exam_output o;
	int64_t before_ns, after_ns;
	char keys[KEYS_SHOWN]; /* that were tried */
	char accepted[256];    /* the one that was taken */
	char said[EXAM_TEXT_MAX];
	bool logged_in;
};

/* ---- command lines ---- */

/* A connection of its own, which asks nobody. */
static bool add_ssh(struct arglist *a, const struct ssh_options *o)
{
	(void)arglist_add(a, o->binary);
	(void)arglist_add(a, "-oControlMaster=no");
	(void)arglist_add(a, "-oControlPath=none");
	return ssh_target_add_options(a, o);
}

static char *rsh_of(const struct ssh_options *o)
{
	struct arglist a = { 0 };
	char *text = add_ssh(&a, o) ? rsync_args_rsh(&a) : NULL;

	arglist_done(&a);
	return text;
}

static char *dir_of(const struct sync_options *opt)
{
	struct buf text;

	buf_init(&text, 2 * PATH_BYTES_MAX);
	(void)ssh_target_add_dir(&text, opt->targetdir);
	return buf_take_str(&text);
}

static char *dest_of(const struct sync_options *opt)
{
	struct buf text;

	buf_init(&text, 2 * PATH_BYTES_MAX);
	(void)ssh_target_add_host(&text, opt->host);
	(void)buf_add_byte(&text, ':');
	(void)ssh_target_add_dir(&text, opt->targetdir);
	(void)buf_add_byte(&text, '/');
	return buf_take_str(&text);
}

/* Lines that begin with "fs ". It looks, and changes nothing. */
static char *script_of(const struct visit *v)
{
	const char *marker = v->opt->require_target_marker;
	struct buf s;

	buf_init(&s, SCRIPT_MAX);
	(void)buf_add_str(&s, "LC_ALL=C; export LC_ALL\necho fs alive\ndate '+fs date %s'\nd=");
	(void)remote_quote(&s, v->dir, strlen(v->dir));
	(void)buf_add_str(&s, "\np=.; case $d in */*) p=${d%/*} ;; esac\n"
			      "if [ -d \"$d\" ]; then\n"
			      "	if [ -w \"$d\" ]; then echo fs dir writable; else echo fs dir denied; fi\n"
			      "	df -Pk \"$d\" 2>/dev/null | { read x; read f b u a r && echo fs space $a $b; }\n"
			      "	df -Pi \"$d\" 2>/dev/null | { read x; read f b u a r && echo fs inodes $a $b; }\n"
			      "elif [ -e \"$d\" ]; then echo fs dir other\n"
			      "elif [ -d \"${p:-/}\" ] && [ -w \"${p:-/}\" ]; then echo fs dir makeable\n"
			      "else echo fs dir missing\nfi\n");
	if (marker != NULL) {
		(void)buf_add_str(&s, "if [ -e \"$d\"/");
		(void)remote_quote(&s, marker, strlen(marker));
		(void)buf_add_str(&s, " ]; then echo fs marker there; else echo fs marker missing; fi\n");
	}
	(void)buf_add_str(&s, "echo \"fs version $(/bin/sh -c ");
	(void)remote_quote(&s, v->rsync_path, strlen(v->rsync_path));
	(void)buf_add_str(&s, "' --version' 2>&1 | head -n 1)\"\n");
	return buf_take_str(&s);
}

/* ---- what ssh says ---- */

/* The value behind "debug1: WORDS " in a line; NULL: it is another line. */
static const char *debug_line(const char *line, const char *words)
{
	static const char lead[] = "debug1: ";
	size_t n = strlen(words);

	if (strncmp(line, lead, sizeof(lead) - 1) != 0 || strncmp(line + sizeof(lead) - 1, words, n) != 0)
		return NULL;
	return line + sizeof(lead) - 1 + n;
}

static void note_key(struct visit *v, const char *key)
{
	size_t used = strlen(v->keys), n = strcspn(key, " \r");

	(void)snprintf(v->keys + used, sizeof(v->keys) - used, "%s%.*s", used > 0 ? ", " : "", (int)n, key);
}

static void take_line(struct visit *v, const char *line)
{
	const char *key;
	size_t used = strlen(v->said);

	if ((key = debug_line(line, "Offering public key: ")) != NULL)
		note_key(v, key);
	else if ((key = debug_line(line, "Server accepts key: ")) != NULL)
		(void)snprintf(v->accepted, sizeof(v->accepted), "%.*s", (int)strcspn(key, " \r"), key);
	else if (strncmp(line, "Authenticated to ", 17) == 0)
		v->logged_in = true;
	else if (strncmp(line, "debug1: ", 8) != 0 && strncmp(line, "OpenSSH_", 8) != 0 &&
		 strncmp(line, "Transferred: ", 13) != 0 && strncmp(line, "Bytes per second", 16) != 0 &&
		 line[0] != '\0')
		(void)snprintf(v->said + used, sizeof(v->said) - used, "%s%.*s", used > 0 ? " " : "",
			       (int)strcspn(line, "\r"), line);
}

static void take_lines(struct visit *v, struct buf *text, void (*fn)(struct visit *v, const char *line))
{
	char line[1024];

	for (const char *p = buf_str(text); *p != '\0'; p += strcspn(p, "\n"), p += *p == '\n') {
		(void)snprintf(line, sizeof(line), "%.*s", (int)strcspn(p, "\n"), p);
		fn(v, line);
	}
}

static void where(const struct visit *v, char *out, size_t size)
{
	if (v->opt->ssh.port > 0)
		(void)snprintf(out, size, "-p %lld %.200s", (long long)v->opt->ssh.port, v->host);
	else
		(void)snprintf(out, size, "%.200s", v->host);
}

static void not_logged_in(struct visit *v)
{
	const char *key = v->opt->ssh.identity_file, *hosts = v->opt->ssh.known_hosts_file;
	const char *bare = strrchr(v->host, '@') == NULL ? v->host : strrchr(v->host, '@') + 1;
	char at[256], remedy[EXAM_TEXT_MAX];
	struct err why = ERR_INIT;

	where(v, at, sizeof(at));
	remote_why(&why, v->host, v->said, WIFEXITED(v->o.status) ? WEXITSTATUS(v->o.status) : 0);
	if (strstr(v->said, "HAS CHANGED") != NULL) {
		exam_begin(v->x, "host key");
		exam_fail(v->x, "if it is right (a new installation): ssh-keygen -R, then as for an unknown one", "%s",
			  why.text);
	} else if (strstr(v->said, "Host key verification failed") != NULL) {
		(void)snprintf(remedy, sizeof(remedy),
			       "compare the fingerprint on the host itself, then: ssh-keyscan%s%.*s %s >> %s",
			       v->opt->ssh.port > 0 ? " " : "",
			       (int)(strcspn(at + 3, " ") + 3) * (v->opt->ssh.port > 0), at, bare,
			       hosts == NULL ? "~/.ssh/known_hosts" : hosts);
		exam_begin(v->x, "host key");
		exam_fail(v->x, remedy, "the key of %s is not known", v->host);
	} else if (why.class == ERR_AUTH) {
		(void)snprintf(remedy, sizeof(remedy), "ssh-copy-id %s%s%s%s", key == NULL ? "" : "-i ",
			       key == NULL ? "" : key, key == NULL ? "" : ".pub ", at);
		exam_fail(v->x, remedy, "%s; tried: %s", why.text, v->keys[0] == '\0' ? "no key at all" : v->keys);
	} else {
		exam_fail(v->x, "see host and ssh.port, whether the host is up and what stands between", "%s",
			  why.text);
	}
}

/* ---- what the script says ---- */

static void tell_dir(struct visit *v, const char *word)
{
	const char *host = v->host, *dir = v->opt->targetdir;

	exam_begin(v->x, "target");
	if (strcmp(word, "writable") == 0)
		exam_ok(v->x, "%s:%s can be written", host, dir);
	else if (strcmp(word, "makeable") == 0)
		exam_ok(v->x, "%s:%s will be made", host, dir);
	else if (strcmp(word, "denied") == 0)
		exam_fail(v->x, "let the account write there, or log in as one that may (ssh.remotePrefix with sudo)",
			  "%s:%s can't be written", host, dir);
	else if (strcmp(word, "other") == 0)
		exam_fail(v->x, "see targetdir", "%s:%s is no directory", host, dir);
	else
		exam_fail(v->x, "mount it, or make its parent directory", "%s:%s does not exist and can't be made",
			  host, dir);
}

static void tell_version(struct visit *v, const char *text)
{
	unsigned version = rsync_exam_version(text);

	exam_begin(v->x, "rsync version");
	if (version == 0)
		exam_fail(v->x, "install rsync there, or set rsync.rsync_path", "`%s --version` there says: %.300s",
			  v->rsync_path, text[0] == '\0' ? "nothing" : text);
	else if (version < 30100)
		exam_warn(v->x, "install rsync 3.1.3 or later there",
			  "rsync %u.%u.%u there: deletions take further runs", version / 10000, version / 100 % 100,
			  version % 100);
	else
		exam_ok(v->x, "%u.%u.%u at %s", version / 10000, version / 100 % 100, version % 100, v->host);
}

static void take_fact(struct visit *v, const char *line)
{
	unsigned long long left, of;

	if (strncmp(line, "fs dir ", 7) == 0)
		tell_dir(v, line + 7);
	else if (strncmp(line, "fs date ", 8) == 0)
		exam_clock(v->x, v->opt->bidirectional, v->before_ns, strtoll(line + 8, NULL, 10) * NS_PER_S, NS_PER_S,
			   v->after_ns);
	else if (sscanf(line, "fs space %llu %llu", &left, &of) == 2)
		exam_space(v->x, v->opt->target, left * 1024, of * 1024, 0, 0);
	else if (sscanf(line, "fs inodes %llu %llu", &left, &of) == 2 && of > 0 && left < of / 20)
		exam_space(v->x, v->opt->target, 1, 0, left, of);
	else if (strncmp(line, "fs marker ", 10) == 0) {
		exam_begin(v->x, "marker");
		if (strcmp(line + 10, "there") == 0)
			exam_ok(v->x, "requireTargetMarker %s is there", v->opt->require_target_marker);
		else
			exam_fail(v->x, "mount the right disk there, or make the file",
				  "requireTargetMarker %s is not there", v->opt->require_target_marker);
	} else if (strncmp(line, "fs version ", 11) == 0) {
		tell_version(v, line + 11);
	}
}

static void judge(struct visit *v)
{
	take_lines(v, &v->o.err, take_line);
	if (v->o.timed_out && !v->logged_in) {
		exam_fail(v->x, "see whether the host is up and what stands between", "ssh to %s: no answer in time",
			  v->host);
		return;
	}
	if (!v->logged_in) {
		not_logged_in(v);
		return;
	}
	exam_ok(v->x, "%s, with the key %s, and nothing is asked", v->host,
		v->accepted[0] == '\0' ? "of another kind" : v->accepted);
	if (strstr(buf_str(&v->o.out), "fs alive") != NULL) {
		take_lines(v, &v->o.out, take_fact);
		return;
	}
	exam_begin(v->x, "shell");
	if (v->o.timed_out)
		exam_fail(v->x, "see how busy the host is, and what its login shell does",
			  "logged in, and then no answer in time");
	else if (v->opt->bidirectional)
		exam_fail(v->x, "give the key a shell (no forced command); see ssh.remotePrefix",
			  "no shell answers there: %.300s", v->said);
	else
		exam_warn(v->x, "give the key a shell, or leave it: all else works",
			  "no shell answers there (a forced command?): what was moved is sent again");
}

static void visit(struct visit *v)
{
	const struct ssh_options *o = &v->opt->ssh;
	char *script = script_of(v);
	struct arglist a = { 0 };
	struct err err = ERR_INIT;

	exam_begin(v->x, "ssh login");
	(void)add_ssh(&a, o);
	(void)arglist_add(&a, "-v");
	(void)arglist_add(&a, "--");
	(void)arglist_add(&a, v->host);
	(void)arglist_add(&a, "exec");
	for (size_t i = 0; i < o->remote_prefix.n; i++)
		(void)arglist_add(&a, o->remote_prefix.v[i]);
	if (!arglist_add(&a, "/bin/sh") || script == NULL) {
		exam_fail(v->x, "", "out of memory");
	} else {
		v->before_ns = clock_real_ns();
		if (exam_run((const char *const *)a.v, NULL, script, exam_left_ns(v->x, 2 * o->timeout_ns), &v->o,
			     &err) < 0) {
			exam_fail(v->x, "install ssh, or set ssh.binary", "%s", err.text);
		} else {
			v->after_ns = clock_real_ns();
			judge(v);
		}
		exam_output_done(&v->o);
	}
	arglist_done(&a);
	free(script);
}

static void dry_run(struct visit *v)
{
	char *dest = dest_of(v->opt),
	     *rsh = v->opt->rsync.rsh != NULL ? strdup(v->opt->rsync.rsh) : rsh_of(&v->opt->ssh);
	const struct rsync_job job = { .kind = RSYNC_SHELL,
				       .dest = dest,
				       .rsh = rsh,
				       .rsync_path = v->rsync_path,
				       .probe = true,
				       .max_delete = -1 };

	if (dest != NULL && rsh != NULL)
		rsync_exam_there(v->opt, &job, v->x);
	free(dest);
	free(rsh);
}

void rsyncssh_examine(const struct sync_options *opt, struct exam *x)
{
	struct visit v = { .opt = opt,
			   .x = x,
			   .host = ssh_target_host(opt->host),
			   .dir = dir_of(opt),
			   .rsync_path = rsync_args_path(opt) };
	bool here = rsync_exam_here(opt, x);

	if (opt->ssh.identity_file != NULL)
		exam_secret(x, "ssh.identityFile", opt->ssh.identity_file);
	if (opt->rsync.rsh == NULL && credential_elsewhere(opt->ssh.identity_file)) {
		exam_begin(x, "ssh login");
		exam_skip(x, "only the service has the key");
	} else if (v.host != NULL && v.dir != NULL && v.rsync_path != NULL) {
		if (opt->rsync.rsh == NULL)
			visit(&v);
		if (here && (v.logged_in || opt->rsync.rsh != NULL))
			dry_run(&v);
	}
	free(v.host);
	free(v.dir);
	free(v.rsync_path);
}
