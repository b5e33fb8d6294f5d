/*
 * rsync_launch.c - how a session's rsync processes are started: what each is given, and which files it reaches; see
 * rsync_passes.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/confine.h"
#include "core/guard_switches.h"
#include "core/log.h"
#include "transports/rsync_domain.h"
#include "transports/rsync_exit.h"
#include "transports/rsync_passes.h"

void launch_init(struct rsync_session *s)
{
	const char *why = rsync_domain_off(s->env->opt);

	if (why == NULL && !confine_has_domains())
		why = "this kernel has no Landlock (of ABI 2)";
	s->open = !GUARD_CONFINE || why != NULL;
	if (why != NULL)
		log_info("rsync is not confined to the source%s: %s",
			 s->to.kind == RSYNC_LOCAL ? " and the target" : "", why);
}

void launch_done(struct rsync_session *s)
{
	if (s->filter_file_made)
		(void)unlink(s->filter_file);
	if (s->list_file[0] != '\0')
		(void)unlink(s->list_file);
}

/* ---- files that are private to this worker ---- */

static int name_private(const struct rsync_session *s, const char *name, char *out, size_t size, struct err *err)
{
	int n = snprintf(out, size, "%s/%s", s->env->runtime_dir, name);

	if (n < 0 || (size_t)n >= size)
		return err_set(err, ERR_LIMIT, "the runtime directory's name is too long");
	return 0;
}

static int write_private(const char *path, const struct buf *text, struct err *err)
{
	size_t done = 0;
	int fd, result;

	(void)unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	while (fd >= 0 && done < text->len) {
		ssize_t w = write(fd, text->data + done, text->len - done);

		if (w < 0 && errno != EINTR)
			break;
		done += w > 0 ? (size_t)w : 0;
	}
	result = fd < 0 || done < text->len ? err_errno(err, errno, "can't write %s", path) : 0;
	if (fd >= 0)
		(void)close(fd);
	return result;
}

int launch_filter_file(struct rsync_session *s, struct err *err)
{
	struct buf text;
	int result;

	if (s->filter_file_made)
		return 0;
	if (name_private(s, "filter", s->filter_file, sizeof(s->filter_file), err) < 0)
		return -1;
	buf_init(&text, 64u * 1024 * 1024);
	result = rsync_filter_text(&text, s->env->opt) ? write_private(s->filter_file, &text, err)
						       : err_set(err, ERR_NOMEM, "out of memory for the filter rules");
	buf_done(&text);
	s->filter_file_made = result == 0;
	return result;
}

/* ---- tables of names ---- */

static const char *const tables[LAUNCH_TABLES] = { "/etc/passwd", "/etc/group" };

/* Who replaces such a table makes another file of it, which a confined rsync can't open: it takes whom it has not
 * looked up by then for nameless, and so they get numbers at the target where they should have got names. */
static void note_tables(struct rsync_session *s, const struct rsync_job *job)
{
	const struct rsync_options *o = &s->env->opt->rsync;

	s->tables_matter = !s->open && job->kind != RSYNC_LOCAL && (o->owner || o->group) && !o->numeric_ids;
	for (size_t i = 0; s->tables_matter && i < LAUNCH_TABLES; i++)
		if (stat(tables[i], &s->tables[i]) < 0)
			memset(&s->tables[i], 0, sizeof(s->tables[i]));
}

/* Root is 0 everywhere. */
static bool has_owners(const struct rsync_session *s, const struct pass *p)
{
	bool found = s->reconcile;

	for (size_t i = 0; !found && i < p->n; i++) {
		const struct transport_item *item = &s->work->items[p->items[i]];

		found = item->look != LOOK_ABSENT && (item->st.st_uid != 0 || item->st.st_gid != 0);
	}
	return found;
}

bool launch_tables_changed(const struct rsync_session *s, const struct pass *p)
{
	bool matter = s->tables_matter && has_owners(s, p);
	struct stat st;

	for (size_t i = 0; matter && i < LAUNCH_TABLES; i++) {
		if (stat(tables[i], &st) < 0)
			memset(&st, 0, sizeof(st));
		if (st.st_dev != s->tables[i].st_dev || st.st_ino != s->tables[i].st_ino)
			return true;
	}
	return false;
}

/* ---- where it may go ---- */

/* The password takes the place of the list, which is no secret. */
static int hand_password(struct rsync_session *s, struct rsync_job *job, struct rsync_start *how, struct buf *list,
			 struct err *err)
{
	struct buf password;

	if (name_private(s, "list", s->list_file, sizeof(s->list_file), err) < 0 ||
	    write_private(s->list_file, list, err) < 0)
		return -1;
	job->list_file = s->list_file;
	if (rsync_domain_password(s->env->opt->rsync.password_file, &password, err) < 0) {
		buf_wipe(&password);
		buf_done(&password);
		return -1;
	}
	buf_done(list);
	*list = password;
	how->secret = true;
	return 0;
}

/* What it may not read reaches it otherwise. */
static int hand_over_secrets(struct rsync_session *s, struct rsync_job *job, struct rsync_start *how, struct buf *list,
			     struct err *err)
{
	const struct rsync_options *o = &s->env->opt->rsync;

	if (job->kind == RSYNC_DAEMON && o->password_file != NULL)
		return hand_password(s, job, how, list, err);
	if (job->kind != RSYNC_SHELL)
		return 0;
	s->run.rsh.inet = o->ipv4 ? '4' : o->ipv6 ? '6' : '\0';
	if (rsync_rsh_open(&s->run.rsh, job->rsh == NULL ? "ssh" : job->rsh, job->dest,
			   job->rsync_path == NULL ? "rsync" : job->rsync_path, s->cwd, err) < 0)
		return -1;
	job->rsh = RSYNC_RSH_WORDS;
	return 0;
}

/* `job` and `how` become what a confined one is started with. */
static int surround(struct rsync_session *s, struct rsync_job *job, struct rsync_start *how, struct buf *list,
		    struct err *err)
{
	struct rsync_domain domain = { .opt = s->env->opt,
				       .kind = job->kind,
				       .source_fd = s->env->source_fd,
				       .dest = job->dest,
				       .filter_file = job->filter_file,
				       .shell_fd = -1 };

	if (s->open)
		return 0;
	if (hand_over_secrets(s, job, how, list, err) < 0)
		return -1;
	domain.list_file = job->list_file;
	domain.shell_fd = s->run.rsh.program;
	return rsync_domain_make(&domain, &how->domain, &how->held, err);
}

/* ---- runs ---- */

/* With hard links its processes may come to wait for each other. Of another host's nothing is known but that it is
 * silent: as it may be while it reads a file to compare its content, and otherwise for as long as its disk takes. That
 * may be long somewhere: so it is given twice the time after each run that was ended for it. */
#define SILENT_NS (60 * NS_PER_S)
#define SILENCES_MAX 16u

static struct rsync_alive_rules alive_rules(const struct rsync_session *s, const struct rsync_job *job)
{
	const struct rsync_options *o = &s->env->opt->rsync;
	bool limited = o->hard_links && job->kind != RSYNC_LOCAL && !job->checksum && !o->checksum;
	int64_t limit = SILENT_NS << s->silences;

	return (struct rsync_alive_rules){
		.alone = job->kind == RSYNC_LOCAL,
		.silent_ns = limited ? limit : 0, /* at progressTimeout the worker is replaced in any case */
	};
}

void launch_over(struct rsync_session *s, int status)
{
	if (rsync_outcome(status)->fate == RSYNC_OK)
		s->silences = 0;
	else if (strstr(buf_str(&s->said), RSYNC_SILENT_WORDS) != NULL && s->silences < SILENCES_MAX)
		s->silences++;
}

static bool spawn(struct rsync_session *s, struct rsync_start *how, struct buf *list)
{
	struct err err = ERR_INIT;

	session_forget_notes(s);
	if (rsync_run_start(&s->run, how, list, &err) < 0) {
		if (err.class == ERR_GONE)
			err_set(&err, ERR_CONFIG, "can't start %s: install rsync, or set rsync.binary",
				s->env->opt->rsync.binary);
		rsync_session_down(s, &err);
		return false;
	}
	s->env->counters->processes++;
	log_debug(LOG_CAT_EXEC, "started %s, pid %d", how->argv[0], (int)s->run.proc.pid);
	return true;
}

static void end_launch(struct rsync_start *how, struct buf *list)
{
	if (how->domain > 0)
		(void)close(how->domain);
	rsync_domain_leave(how->held);
	if (how->secret)
		buf_wipe(list);
	buf_done(list);
}

bool launch(struct rsync_session *s, const struct rsync_job *what, const char *listed, struct buf *list)
{
	struct rsync_start how = { .cwd = s->cwd, .alive = alive_rules(s, what) };
	struct rsync_job job = *what;
	struct arglist args = { 0 };
	struct err err = ERR_INIT;
	bool started = false;

	note_tables(s, what);
	if (surround(s, &job, &how, list, &err) < 0) {
		rsync_rsh_close(&s->run.rsh);
		rsync_session_down(s, &err);
	} else if (!(listed == NULL ? rsync_args_build(&args, &job, s->env->opt)
				    : rsync_args_list(&args, &job, s->env->opt, listed))) {
		rsync_rsh_close(&s->run.rsh);
		session_out_of_memory(s);
	} else {
		how.argv = args.v;
		started = spawn(s, &how, list);
		s->env->counters->handshakes += started && s->to.own_connection ? 1 : 0;
	}
	end_launch(&how, list);
	arglist_done(&args);
	return started;
}

/* In a domain, too: what keeps it from starting there is seen here. */
void launch_version(struct rsync_session *s)
{
	char version[] = "--version";
	char *argv[] = { s->env->opt->rsync.binary, version, NULL };
	const struct rsync_domain domain = {
		.opt = s->env->opt, .kind = RSYNC_DAEMON, .source_fd = s->env->source_fd, .shell_fd = -1
	};
	struct rsync_start how = { .argv = argv, .cwd = s->cwd };
	struct err err = ERR_INIT;
	struct buf list;

	buf_init(&list, 1);
	if (!s->open && rsync_domain_make(&domain, &how.domain, &how.held, &err) < 0)
		rsync_session_down(s, &err);
	else
		(void)spawn(s, &how, &list);
	end_launch(&how, &list);
}
