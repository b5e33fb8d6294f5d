#include "transports/sftp_exam.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/clock.h"
#include "core/credential.h"
#include "core/loop.h"
#include "core/path.h"
#include "transports/sftp_client.h"
#include "transports/sftp_stream.h"
#include "transports/ssh_target.h"

struct visit {
	const struct sync_options *opt;
	struct exam *x;
	struct loop *loop;
	struct sftp_client *client;
	char *dir;
	bool over;
	int64_t before_ns;
};

static void finish(struct visit *v)
{
	v->over = true;
	loop_stop(v->loop, 0);
}

static const char *advice_for(const struct err *why)
{
	if (strstr(why->text, "subsystem") != NULL)
		return "Subsystem sftp in sshd_config there; or ssh.sftpServer";
	if (why->class == ERR_AUTH)
		return "see ssh.identityFile, ssh.knownHostsFile and authorized_keys there; the message says which";
	if (why->class == ERR_NETWORK)
		return "see host and ssh.port, whether the host is up and what stands between";
	return "see ssh = { } of the sync";
}

static void on_broken(void *ctx, const struct err *why)
{
	struct visit *v = ctx;

	if (!v->over)
		exam_fail(v->x, advice_for(why), "%s", why->text);
	finish(v);
}

static void on_room(void *ctx)
{
	(void)ctx;
}

static void on_late(void *ctx)
{
	struct visit *v = ctx;

	exam_fail(v->x, "see whether the host is up and what stands between", "no answer in time");
	finish(v);
}

/* What is there. false: it could not be asked. */
static bool ask(struct visit *v, enum sftp_type type, const char *path, sftp_reply_fn *fn)
{
	uint32_t id;
	struct buf *out = sftp_client_begin(v->client, fn, v, &id);

	if (out == NULL)
		return false;
	sftp_put_path(out, type, id, (struct sftp_bytes){ path, strlen(path) });
	return sftp_client_end(v->client, id);
}

static bool ask_space(struct visit *v, sftp_reply_fn *fn)
{
	const struct sftp_bytes path = { v->dir, strlen(v->dir) };
	uint32_t id;
	struct buf *out = sftp_client_begin(v->client, fn, v, &id);

	if (out == NULL)
		return false;
	sftp_put_ext_string(out, id, sftp_extension_name(SFTP_EXT_STATVFS), path);
	return sftp_client_end(v->client, id);
}

static void on_space(void *ctx, struct sftp_packet *reply)
{
	struct visit *v = ctx;
	struct sftp_statvfs fs;

	if (sftp_get_statvfs(reply, &fs)) {
		exam_space(v->x, v->opt->target, fs.bavail * fs.frsize, fs.blocks * fs.frsize, fs.favail, fs.files);
	} else {
		exam_begin(v->x, "space");
		exam_skip(v->x, "the server does not tell");
	}
	finish(v);
}

static void look_at_space(struct visit *v)
{
	if ((sftp_client_extensions(v->client) & SFTP_EXT_STATVFS) == 0 || !ask_space(v, on_space))
		finish(v);
}

static void on_marker(void *ctx, struct sftp_packet *reply)
{
	struct visit *v = ctx;
	struct sftp_attrs a;

	exam_begin(v->x, "marker");
	if (sftp_get_attrs(reply, &a) && (a.flags & SFTP_ATTR_PERMISSIONS) != 0 && S_ISREG(a.mode))
		exam_ok(v->x, "requireTargetMarker %s is there", v->opt->require_target_marker);
	else
		exam_fail(v->x, "mount the right disk there, or make the file", "requireTargetMarker %s is not there",
			  v->opt->require_target_marker);
	look_at_space(v);
}

static bool ask_marker(struct visit *v)
{
	struct buf path;
	bool asked;

	buf_init(&path, 2 * PATH_BYTES_MAX);
	(void)buf_printf(&path, "%s/%s", v->dir, v->opt->require_target_marker);
	asked = !path.failed && ask(v, SFTP_LSTAT, buf_str(&path), on_marker);
	buf_done(&path);
	return asked;
}

static void on_dir(void *ctx, struct sftp_packet *reply)
{
	struct visit *v = ctx;
	struct sftp_status_reply said;
	struct sftp_attrs a;

	exam_begin(v->x, "target");
	if (sftp_get_status(reply, &said) && said.code == SFTP_NO_SUCH_FILE) {
		exam_warn(v->x, "see targetdir; its last component is made, what is above it has to be there",
			  "%s is not there yet", v->opt->target);
	} else if (sftp_get_status(reply, &said)) {
		exam_fail(v->x, "see targetdir, and what the account there may", "%s: %s", v->opt->target,
			  sftp_status_name(said.code));
	} else if (!sftp_get_attrs(reply, &a)) {
		exam_fail(v->x, "", "the server's answer makes no sense");
	} else if ((a.flags & SFTP_ATTR_PERMISSIONS) != 0 && !S_ISDIR(a.mode)) {
		exam_fail(v->x, "see targetdir", "%s is no directory", v->opt->target);
	} else if ((a.flags & SFTP_ATTR_PERMISSIONS) != 0 && (a.mode & 0222) == 0) {
		exam_fail(v->x, "chmod u+w it there", "%s can't be written by anybody", v->opt->target);
	} else {
		exam_ok(v->x, "%s is there", v->opt->target);
		if (v->opt->require_target_marker == NULL || !ask_marker(v))
			look_at_space(v);
		return;
	}
	finish(v);
}

static void tell_server(struct visit *v)
{
	unsigned ext = sftp_client_extensions(v->client);
	const char *lacks = sftp_lacks_replacing(ext, v->opt->backup_dir != NULL);

	exam_ok(v->x, "%s, by %s, and nothing is asked", v->opt->host,
		v->opt->ssh.client == SSH_OPENSSH ? v->opt->ssh.binary : "libssh2");
	exam_begin(v->x, "sftp server");
	if (v->opt->bidirectional && lacks != NULL)
		exam_fail(v->x,
			  "OpenSSH's sftp-server there (ssh.sftpServer), another transport (rsyncssh, tcp), or one way",
			  "it can't replace what it has in one step (no %s), which bidirectional needs", lacks);
	else if ((ext & SFTP_EXT_POSIX_RENAME) != 0)
		exam_ok(v->x, "a file is replaced in one step");
	else
		exam_warn(v->x, "OpenSSH's server can",
			  "it can't replace a file in one step: for a moment the name is missing");
}

/* SFTP does not tell the time. But on Linux, unless the account is in a chroot without it, this file is as old as the
 * first look at it, and the server's process that looks was started for us. */
#define CLOCK_FILE "/proc/self/status"

static void on_clock(void *ctx, struct sftp_packet *reply)
{
	struct visit *v = ctx;
	struct sftp_attrs a;

	if (sftp_get_attrs(reply, &a) && (a.flags & SFTP_ATTR_TIMES) != 0 && (a.mode & S_IFMT) == S_IFREG) {
		exam_clock(v->x, v->opt->bidirectional, v->before_ns, (int64_t)a.mtime * NS_PER_S, NS_PER_S,
			   clock_real_ns());
	} else {
		exam_begin(v->x, "clock");
		exam_skip(v->x, "SFTP does not tell it, and there is no " CLOCK_FILE " to look at");
	}
	if (!ask(v, SFTP_STAT, v->dir, on_dir))
		finish(v);
}

static void on_ready(void *ctx)
{
	struct visit *v = ctx;

	tell_server(v);
	if (!ask(v, SFTP_STAT, CLOCK_FILE, on_clock))
		finish(v);
}

static char *dir_of(const struct sync_options *opt)
{
	struct buf text;
	char *dir;

	buf_init(&text, 2 * PATH_BYTES_MAX);
	(void)ssh_target_add_dir(&text, opt->targetdir);
	dir = text.failed ? NULL : strdup(text.len == 0 ? "/" : buf_str(&text));
	buf_done(&text);
	return dir;
}

static void visit(struct visit *v)
{
	const struct sftp_client_spec spec = {
		.loop = v->loop,
		.opt = v->opt,
		.kind = v->opt->ssh.client == SSH_OPENSSH ? &sftp_stream_pipe : &sftp_stream_ssh,
	};
	const struct sftp_client_events events = { .ctx = v, .ready = on_ready, .room = on_room, .broken = on_broken };
	struct err err = ERR_INIT;
	struct loop_timer *timer = loop_timer_add(v->loop, on_late, v, &err);

	exam_begin(v->x, "ssh login");
	v->before_ns = clock_real_ns();
	if (timer != NULL)
		loop_timer_after(timer, exam_left_ns(v->x, v->opt->ssh.timeout_ns + 5 * NS_PER_S));
	v->client = timer == NULL ? NULL : sftp_client_open(&spec, &events, &err);
	if (v->client == NULL || loop_run(v->loop, &err) < 0)
		exam_fail(v->x, advice_for(&err), "%s", err.text);
	sftp_client_close(v->client);
	if (timer != NULL)
		loop_timer_remove(timer);
}

static void secrets(const struct ssh_options *o, struct exam *x)
{
	const struct {
		const char *key, *path;
	} files[] = { { "ssh.identityFile", o->identity_file },
		      { "ssh.passwordFile", o->password_file },
		      { "ssh.passphraseFile", o->passphrase_file } };

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (credential_elsewhere(files[i].path) ||
		    (files[i].path != NULL && strncmp(files[i].path, "credential:", 11) != 0))
			exam_secret(x, files[i].key, files[i].path);
}

void sftp_examine(const struct sync_options *opt, struct exam *x)
{
	struct visit v = { .opt = opt, .x = x, .dir = dir_of(opt) };
	struct err err = ERR_INIT;

	secrets(&opt->ssh, x);
	if (credential_elsewhere(opt->ssh.identity_file) || credential_elsewhere(opt->ssh.passphrase_file) ||
	    credential_elsewhere(opt->ssh.password_file)) {
		exam_begin(x, "ssh login");
		exam_skip(x, "only the service has what it logs in with");
		free(v.dir);
		return;
	}
	v.loop = loop_new(&err);
	if (v.loop != NULL && v.dir != NULL)
		visit(&v);
	loop_free(v.loop);
	free(v.dir);
}
