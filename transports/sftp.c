/*
 * sftp.c - the transport "sftp": the mirroring engine between local files and an SFTP server.
 *
 * A connection is made with the first work and kept. When it breaks while a work is under way the work goes back to the
 * core, which tries again after its backoff; when it breaks between two works the next one connects anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/confine.h"
#include "core/guard_switches.h"
#include "core/log.h"
#include "core/path.h"
#include "core/transport.h"
#include "transports/local_files.h"
#include "transports/mirror.h"
#include "transports/sftp_client.h"
#include "transports/sftp_exam.h"
#include "transports/sftp_files.h"
#include "transports/sftp_hostcheck.h"
#include "transports/sftp_ops.h"
#include "transports/sftp_stream.h"
#include "transports/sftp_task.h"
#include "transports/ssh_target.h"
#include "transports/temp_name.h"

/* Items under way, and directories that are read ahead: enough to hide a round trip of 50 ms. */
#define WIDTH 512
#define WIDTH_DIRS 256

/* Writes that have no reply are at most what is in flight, and one request: they may not have been done, or in another
 * order. None is sent after a failed one was told of. */
#define SFTP_UNSURE (SFTP_WINDOW_BYTES + SFTP_DATA_MAX)

/* A connection beside the first one: it carries the content of files. */
struct beside {
	struct sftp_session *s;
	struct sftp_client *client;
	bool ready, broken;
};

struct sftp_session {
	const struct transport_env *env;
	struct mirror *mirror;
	struct local_tree *source;
	struct sftp_ops *ops;
	struct beside more[SFTP_MORE_MAX];
	struct sftp_client *client;
	struct loop_timer *soon; /* closes a connection that broke: not from within its callback */
	char *base;
	char *account; /* our own, NULL: it has no name */
	uint32_t tag;
	const struct transport_work *work; /* waits for the connection */
	bool reconcile, usable, broken, made;
	bool marked; /* requireTargetMarker was there a moment ago, while connecting */
	struct fileop marker;
	bool rooted;   /* the target's directory is known; further connections are waited for */
	bool own_only; /* whoever owns the source's files, what is made there is the account's */
};

static int validate(struct sync_options *opt, struct err *err)
{
	const struct ssh_options *o = &opt->ssh;

	if (ssh_target_validate(opt, err) < 0)
		return -1;
	if (o->client == SSH_OPENSSH && (o->password_file != NULL || o->passphrase_file != NULL))
		return err_set(err, ERR_CONFIG,
			       "ssh.%s: for ssh.client = \"libssh2\" only; the ssh program asks its agent",
			       o->password_file != NULL ? "passwordFile" : "passphraseFile");
	if (o->client == SSH_LIBSSH2 && (o->options.n > 0 || o->extra.n > 0))
		return err_set(err, ERR_CONFIG,
			       "ssh.%s: for ssh.client = \"openssh\" only; libssh2 takes no such options",
			       o->options.n > 0 ? "options" : "extra");
	if (o->remote_prefix.n > 0)
		return err_set(err, ERR_CONFIG,
			       "ssh.remotePrefix: no command runs on the target; ssh.sftpServer = \"sudo -n "
			       "/usr/lib/openssh/sftp-server\" serves as root");
	return mirror_validate(opt, MIRROR_NO_XATTRS | MIRROR_NO_NODES | MIRROR_NO_NAMES, err);
}

/* ---- the connection ---- */

static void drop_client(struct sftp_session *s)
{
	struct err ignored = ERR_INIT;

	s->usable = s->rooted = s->marked = false;
	(void)sftp_ops_connect(s->ops, NULL, "", &ignored);
	sftp_client_close(s->client);
	s->client = NULL;
	for (size_t i = 0; i < SFTP_MORE_MAX; i++) {
		sftp_client_close(s->more[i].client);
		s->more[i] = (struct beside){ 0 };
	}
}

static void on_soon(void *ctx)
{
	struct sftp_session *s = ctx;

	if (s->broken)
		drop_client(s);
	s->broken = false;
	for (size_t i = 0; i < SFTP_MORE_MAX; i++)
		if (s->more[i].broken && s->more[i].client != NULL) {
			sftp_client_close(s->more[i].client);
			s->more[i].client = NULL;
		}
}

static void on_broken(void *ctx, const struct err *why)
{
	struct sftp_session *s = ctx;
	struct err copy = *why, ignored = ERR_INIT;

	if (s->broken)
		return;
	s->usable = false;
	s->broken = true;
	loop_timer_after(s->soon, 0);
	/* Before they are closed the others may have answers, too. */
	sftp_client_abandon(s->client);
	for (size_t i = 0; i < SFTP_MORE_MAX; i++)
		sftp_client_abandon(s->more[i].client);
	(void)sftp_ops_connect(s->ops, NULL, "", &ignored);
	if (s->work != NULL) {
		s->work = NULL;
		s->env->down(s->env->ctx, &copy);
	} else if (mirror_busy(s->mirror)) {
		mirror_down(s->mirror, &copy);
	} else {
		log_info("the connection to %s ended while nothing was to be done: %s", s->env->opt->host, copy.text);
	}
}

static void on_room(void *ctx)
{
	sftp_ops_room(((struct sftp_session *)ctx)->ops);
}

/* ---- requireTargetMarker: looked for before each work, and before anything is made there ---- */

static void probe(struct sftp_session *s);

static bool needs_marker(const struct sftp_session *s, const struct transport_work *work)
{
	return GUARD_TARGET_MARKER && work != NULL && !work->unguarded && s->env->opt->require_target_marker != NULL;
}

static void no_marker(struct sftp_session *s, const char *why)
{
	struct err err = ERR_INIT;

	err_set(&err, ERR_UNSAFE,
		"requireTargetMarker: %.150s is not in the target %.150s (%.120s): nothing is carried. Mount the right "
		"target, or make the file",
		s->env->opt->require_target_marker, s->env->opt->target, why);
	s->work = NULL;
	s->env->down(s->env->ctx, &err);
}

static void on_marker(struct fileop *op)
{
	struct sftp_session *s = op->owner;
	const struct transport_work *work = s->work;
	struct err err = ERR_INIT;

	if (op->result != FILEOPS_OK) {
		no_marker(s, op->err.text);
	} else if (!S_ISREG(op->st.st_mode)) {
		no_marker(s, S_ISLNK(op->st.st_mode) ? "it is a symbolic link" : "it is no regular file");
	} else if (!s->usable) {
		s->marked = true;
		probe(s);
	} else {
		s->work = NULL;
		if (mirror_start(s->mirror, work, s->reconcile, &err) < 0)
			s->env->down(s->env->ctx, &err);
		sftp_client_flush(s->client);
	}
}

/* The answer comes by on_marker, or the connection breaks. */
static int ask_marker(struct sftp_session *s, struct err *err)
{
	const char *marker = s->env->opt->require_target_marker;

	s->marker = (struct fileop){ .done = on_marker, .owner = s };
	switch (sftp_fileops.look(s->ops, &s->marker, marker, strlen(marker))) {
	case FILEOPS_PENDING:
		sftp_client_flush(s->client);
		return 0;
	case FILEOPS_DOWN:
		return 0;
	default:
		s->work = NULL;
		*err = s->marker.err;
		return -1;
	}
}

static int begin_work(struct sftp_session *s, const struct transport_work *work, struct err *err)
{
	bool marked = s->marked;

	s->marked = false;
	if (marked || !needs_marker(s, work))
		return mirror_start(s->mirror, work, s->reconcile, err);
	s->work = work;
	return ask_marker(s, err);
}

/* ---- the target's directory ---- */

static void root_failed(struct sftp_session *s, const struct err *why)
{
	struct err err = ERR_INIT;

	err_set(&err, why->class == ERR_DENIED ? ERR_DENIED : ERR_CONFIG, "targetdir %.200s: %.250s",
		s->env->opt->targetdir, why->text);
	on_broken(s, &err);
}

static void root_request(struct sftp_session *s, enum sftp_type type, sftp_reply_fn *fn)
{
	const struct sftp_bytes path = { s->base[0] == '\0' ? "/" : s->base, s->base[0] == '\0' ? 1 : strlen(s->base) };
	const struct sftp_attrs mode = { .flags = SFTP_ATTR_PERMISSIONS, .mode = 0777 };
	struct err err = ERR_INIT;
	uint32_t id;
	struct buf *out = sftp_client_begin(s->client, fn, s, &id);

	if (out != NULL && type == SFTP_MKDIR)
		sftp_put_attrs(out, type, id, path, &mode);
	else if (out != NULL)
		sftp_put_path(out, type, id, path);
	if (out != NULL && sftp_client_end(s->client, id))
		return;
	err_set(&err, ERR_LIMIT, "the path is too long");
	root_failed(s, &err);
}

static struct fileops_end target_end(struct sftp_session *s)
{
	return (struct fileops_end){ .ops = &sftp_fileops, .ctx = s->ops, .tick_ns = NS_PER_S, .unsure = SFTP_UNSURE };
}

/* Further connections that are being made: the first files would all travel over the first one. */
static bool more_to_come(const struct sftp_session *s)
{
	for (size_t i = 0; i < SFTP_MORE_MAX; i++)
		if (s->more[i].client != NULL && !s->more[i].ready && !s->more[i].broken)
			return true;
	return false;
}

static void start_work(struct sftp_session *s)
{
	const struct transport_work *work = s->work;
	struct fileops_end source = local_tree_end(s->source, false), target = target_end(s);
	struct err err = ERR_INIT;

	s->rooted = more_to_come(s);
	if (s->rooted) {
		s->marked = false;
		return;
	}
	for (size_t i = 0; i < SFTP_MORE_MAX; i++)
		if (s->more[i].ready)
			sftp_ops_add(s->ops, s->more[i].client);
	s->work = NULL;
	s->usable = true;
	target.caps = sftp_ops_caps(s->ops);
	target.own_only = s->own_only;
	mirror_ends(s->mirror, &source, &target);
	if (work != NULL && begin_work(s, work, &err) < 0)
		s->env->down(s->env->ctx, &err);
	sftp_client_flush(s->client);
}

/* ---- a symlink tells what can't be asked for: whether LSTAT follows it, and whose it is ---- */

/* Whether it has to be known (mirror_ends) who owns what is made there. */
static bool owners_agreed(const struct sftp_session *s)
{
	const struct sync_options *o = s->env->opt;

	return o->bidirectional && (o->rsync.owner || o->rsync.group);
}

static void probe_request(struct sftp_session *s, enum sftp_type type, sftp_reply_fn *fn)
{
	const struct sftp_bytes here = { ".", 1 };
	char name[NAME_BYTES_MAX + 1];
	struct buf path;
	struct buf *out;
	uint32_t id;

	buf_init(&path, 2 * PATH_BYTES_MAX);
	(void)temp_name(name, "probe", 5, TEMP_NEW, s->tag, 0, false);
	(void)buf_printf(&path, "%s/%s", s->base, name);
	out = path.failed ? NULL : sftp_client_begin(s->client, fn, s, &id);
	if (out != NULL && type == SFTP_SYMLINK)
		sftp_put_paths(out, type, id, here, (struct sftp_bytes){ path.data, path.len });
	else if (out != NULL)
		sftp_put_path(out, type, id, (struct sftp_bytes){ path.data, path.len });
	buf_done(&path);
	if (out == NULL || !sftp_client_end(s->client, id))
		start_work(s);
}

static void on_probe_removed(void *ctx, struct sftp_packet *reply)
{
	(void)reply;
	start_work(ctx);
}

static void on_probe_looked(void *ctx, struct sftp_packet *reply)
{
	struct sftp_session *s = ctx;
	struct sftp_attrs a;

	if (!sftp_get_attrs(reply, &a))
		a.flags = 0;
	if ((a.flags & SFTP_ATTR_PERMISSIONS) != 0 && S_ISDIR(a.mode)) {
		log_warn("the server at %s follows symlinks where it must not: symlinks are not mirrored to it",
			 s->env->opt->host);
		sftp_ops_follows(s->ops);
	} else {
		s->own_only = owners_agreed(s) && (a.flags & SFTP_ATTR_UIDGID) != 0 && a.uid != 0;
	}
	probe_request(s, SFTP_REMOVE, on_probe_removed);
}

/* No symlink, no harm. */
static void on_probe_made(void *ctx, struct sftp_packet *reply)
{
	struct sftp_status_reply said;

	if (sftp_get_status(reply, &said) && said.code != SFTP_OK && said.code != SFTP_FAILURE)
		start_work(ctx);
	else
		probe_request(ctx, SFTP_LSTAT, on_probe_looked);
}

/* OpenSSH follows none; of others (ProFTPD) it has to be found out. */
static void probe(struct sftp_session *s)
{
	bool known = (sftp_client_extensions(s->client) & SFTP_EXT_LSETSTAT) != 0 && !owners_agreed(s);

	if (known || s->env->opt->rsync.dry_run) {
		start_work(s);
		return;
	}
	s->marked = false; /* it may have been a symlink that the server followed */
	probe_request(s, SFTP_SYMLINK, on_probe_made);
}

/* From now on by its full name, so that it stays the same directory. Not every server tells. */
static void on_name(void *ctx, struct sftp_packet *reply)
{
	struct sftp_session *s = ctx;
	struct err err = ERR_INIT;
	struct sftp_bytes name;
	struct sftp_attrs a;
	uint32_t n;
	char *full = NULL;

	if (sftp_get_names(reply, &n) && n == 1 && sftp_get_name(reply, &name, &a) && name.n > 0 && name.p[0] == '/')
		full = strndup(name.p, name.n);
	if (full != NULL) {
		for (size_t len = strlen(full); len > 0 && full[len - 1] == '/'; len--)
			full[len - 1] = '\0';
		free(s->base);
		s->base = full;
	}
	if (sftp_ops_connect(s->ops, s->client, s->base, &err) < 0)
		on_broken(s, &err);
	else if (!needs_marker(s, s->work))
		probe(s);
	else if (ask_marker(s, &err) < 0)
		s->env->down(s->env->ctx, &err);
}

static void on_root(void *ctx, struct sftp_packet *reply)
{
	struct sftp_session *s = ctx;
	struct sftp_status_reply said;
	struct err err = ERR_INIT;
	struct sftp_attrs a;

	if (sftp_get_status(reply, &said)) {
		/* As rsync has it: the last component is made, what is above it has to be there. */
		if (said.code == SFTP_NO_SUCH_FILE && needs_marker(s, s->work)) {
			no_marker(s, "there is no such directory");
			return;
		}
		if (said.code == SFTP_NO_SUCH_FILE && !s->made) {
			s->made = true;
			root_request(s, SFTP_MKDIR, on_root);
			return;
		}
		if (said.code == SFTP_OK && s->made) {
			log_normal("made the directory %s at %s", s->env->opt->targetdir, s->env->opt->host);
			root_request(s, SFTP_REALPATH, on_name);
			return;
		}
		(void)sftp_result(s->made ? "mkdir" : "look", &said, &err);
		root_failed(s, &err);
	} else if (!sftp_get_attrs(reply, &a)) {
		sftp_client_malformed(s->client);
	} else if ((a.flags & SFTP_ATTR_PERMISSIONS) != 0 && !S_ISDIR(a.mode)) {
		err_set(&err, ERR_CONFIG, "is no directory");
		root_failed(s, &err);
	} else {
		root_request(s, SFTP_REALPATH, on_name);
	}
}

/* ---- further connections ---- */

static struct sftp_client *open_client(struct sftp_session *s, const struct sftp_client_events *events, struct err *err)
{
	const struct sftp_client_spec spec = {
		.loop = s->env->loop,
		.opt = s->env->opt,
		.lookups = s->env->lookups,
		.account = s->account,
		.kind = s->env->opt->ssh.client == SSH_OPENSSH ? &sftp_stream_pipe : &sftp_stream_ssh,
	};

	if (s->env->opt->ssh.client == SSH_OPENSSH)
		s->env->counters->processes++;
	return sftp_client_open(&spec, events, err);
}

static void on_beside_ready(void *ctx)
{
	struct beside *b = ctx;

	b->ready = true;
	b->s->env->counters->handshakes++;
	if (b->s->rooted && !b->s->broken)
		start_work(b->s);
}

static void on_beside_room(void *ctx)
{
	on_room(((struct beside *)ctx)->s);
}

/* One that never came to be is done without: a server allows so many. */
static void on_beside_broken(void *ctx, const struct err *why)
{
	struct beside *b = ctx;

	if (b->ready) {
		on_broken(b->s, why);
		return;
	}
	log_warn("%s: fewer connections than asked for: %s", b->s->env->opt->host, why->text);
	b->broken = true;
	loop_timer_after(b->s->soon, 0);
	if (b->s->rooted && !b->s->broken)
		start_work(b->s);
}

/* The first one has logged in: the others will. */
static void connect_beside(struct sftp_session *s)
{
	size_t n = (size_t)s->env->opt->connections;

	for (size_t i = 0; i + 1 < n && i < SFTP_MORE_MAX && !s->broken; i++) {
		struct beside *b = &s->more[i];
		const struct sftp_client_events events = {
			.ctx = b, .ready = on_beside_ready, .room = on_beside_room, .broken = on_beside_broken
		};
		struct err err = ERR_INIT;

		if (b->client != NULL)
			continue;
		*b = (struct beside){ .s = s };
		b->client = open_client(s, &events, &err);
		if (b->client == NULL)
			log_warn("%s: fewer connections than asked for: %s", s->env->opt->host, err.text);
	}
}

/* Both ways a name that is missing for a moment may be taken for a deletion by another host, and then be one. */
static int check_replacing(const struct sftp_session *s, struct err *err)
{
	const struct sync_options *o = s->env->opt;
	const char *lacks = sftp_lacks_replacing(sftp_client_extensions(s->client), o->backup_dir != NULL);

	if (!o->bidirectional || lacks == NULL)
		return 0;
	return err_set(err, ERR_CONFIG,
		       "bidirectional: the SFTP server at %.100s can't replace what it has in one step (no %s): for a "
		       "moment the name would be missing, which another host may take for a deletion. Use OpenSSH's "
		       "sftp-server there (ssh.sftpServer), another transport (rsyncssh, tcp), or mirror one way",
		       o->host, lacks);
}

static void on_ready(void *ctx)
{
	struct sftp_session *s = ctx;
	struct err err = ERR_INIT;

	s->env->counters->handshakes++;
	if (check_replacing(s, &err) < 0) {
		on_broken(s, &err);
		return;
	}
	s->made = s->env->opt->rsync.dry_run; /* then nothing is made */
	log_info("connected to %s", s->env->opt->host);
	connect_beside(s);
	root_request(s, SFTP_STAT, on_root);
}

static int connect_client(struct sftp_session *s, struct err *err)
{
	const struct sftp_client_events events = { .ctx = s, .ready = on_ready, .room = on_room, .broken = on_broken };
	struct buf base;

	buf_init(&base, PATH_BYTES_MAX);
	(void)ssh_target_add_dir(&base, s->env->opt->targetdir);
	free(s->base);
	s->base = base.failed ? NULL : strdup(buf_str(&base));
	buf_done(&base);
	if (s->base == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	s->client = open_client(s, &events, err);
	return s->client == NULL ? -1 : 0;
}

/* ---- the session ---- */

static int take(struct sftp_session *s, const struct transport_work *work, bool reconcile, struct err *err)
{
	const struct transport_progress p = { .phase = "connecting" };

	s->reconcile = reconcile;
	if (s->broken)
		on_soon(s);
	if (s->usable)
		return begin_work(s, work, err);
	if (s->client == NULL && connect_client(s, err) < 0)
		return -1;
	s->work = work;
	s->env->progress(s->env->ctx, &p);
	return 0;
}

static int apply(void *session, const struct transport_work *work, struct err *err)
{
	return take(session, work, false, err);
}

static int reconcile(void *session, const struct transport_work *work, struct err *err)
{
	return take(session, work, true, err);
}

static void close_session(void *session)
{
	struct sftp_session *s = session;

	mirror_free(s->mirror);
	if (s->client != NULL)
		drop_client(s);
	sftp_ops_free(s->ops);
	local_tree_free(s->source);
	loop_timer_remove(s->soon);
	free(s->base);
	free(s->account);
	free(s);
}

static uint32_t tag_of(const struct sync_options *opt)
{
	char host[HOST_NAME_MAX + 1] = "";

	(void)gethostname(host, sizeof(host) - 1);
	return temp_tag(host, opt->source, opt->target, opt->name);
}

static int make(struct sftp_session *s, struct err *err)
{
	struct mirror_setup setup = { .env = s->env, .width = WIDTH, .width_dirs = WIDTH_DIRS, .tag = s->tag };
	int fd = fcntl(s->env->source_fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return err_errno(err, errno, "the source");
	s->source = local_tree_new(s->env->loop, fd, err);
	s->ops = s->source == NULL ? NULL : sftp_ops_new(s->env->loop, setup.tag, err);
	s->soon = s->ops == NULL ? NULL : loop_timer_add(s->env->loop, on_soon, s, err);
	if (s->soon == NULL)
		return -1;
	setup.source = local_tree_end(s->source, false);
	setup.target = target_end(s);
	s->mirror = mirror_new(&setup, err);
	return s->mirror == NULL ? -1 : 0;
}

/* While it may be looked up. */
static char *own_account(void)
{
	const struct passwd *pw = getpwuid(geteuid());

	return pw == NULL ? NULL : strdup(pw->pw_name);
}

static void *open_session(const struct transport_env *env, struct err *err)
{
	struct sftp_session *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		err_set(err, ERR_NOMEM, "out of memory for a session");
		return NULL;
	}
	s->env = env;
	s->tag = tag_of(env->opt);
	s->account = own_account();
	if (make(s, err) < 0) {
		close_session(s);
		return NULL;
	}
	return s;
}

static void add_expanded(struct transport_needs *out, const char *path, unsigned rights)
{
	char *full = path == NULL ? NULL : sftp_expand_home(path);

	out->add(out, full, rights);
	free(full);
}

/* Each connection reads the keys anew. A host's new key is written down where that is wanted. */
static bool needs(const struct sync_options *opt, struct transport_needs *out)
{
	const struct ssh_options *o = &opt->ssh;
	const char *hosts = o->known_hosts_file != NULL ? o->known_hosts_file : "~/.ssh/known_hosts";

	out->may = CONFINE_CONNECT | CONFINE_SECRETS;
	if (o->client == SSH_OPENSSH) /* ssh has the keys */
		return false;
	add_expanded(out, o->identity_file != NULL ? o->identity_file : "~/.ssh/id", CONFINE_READ);
	add_expanded(out, o->passphrase_file, CONFINE_READ);
	add_expanded(out, o->password_file, CONFINE_READ);
	out->add(out, secure_getenv("CREDENTIALS_DIRECTORY"), CONFINE_READ);
	add_expanded(out, hosts, CONFINE_READ | (o->strict == SSH_ACCEPT_NEW ? CONFINE_WRITE : 0));
	out->add(out, SFTP_SYSTEM_HOSTS, CONFINE_READ | TRANSPORT_NEEDS_ITSELF);
	return true;
}

extern const struct transport transport_sftp;
const struct transport transport_sftp = {
	.name = "sftp",
	.caps = TRANSPORT_LATE | TRANSPORT_RENAME | TRANSPORT_LOOK | TRANSPORT_NATIVE | TRANSPORT_EXEC |
		TRANSPORT_HOST | TRANSPORT_KEEP | TRANSPORT_MARKER,
	.default_delay_ns = 0,
	.validate = validate,
	.open = open_session,
	.apply = apply,
	.reconcile = reconcile,
	.close = close_session,
	.needs = needs,
	.examine = sftp_examine,
};
