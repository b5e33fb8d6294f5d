/*
 * options.h - the configuration as the program uses it: plain structs, filled in by config/ from the table there.
 *
 * Ownership: a `struct config` and every string in it is one allocation tree, freed by config_free (config/config.h).
 * Everybody else borrows, read-only. Absent strings are NULL. Times are nanoseconds unless the name says otherwise.
 */
#ifndef FANSYNCD_CORE_OPTIONS_H
#define FANSYNCD_CORE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/filter.h"

struct strlist {
	char **v; /* n strings, then NULL */
	size_t n;
};

enum watcher_choice { WATCHER_AUTO = 0, WATCHER_FANOTIFY, WATCHER_INOTIFY };

/* lsyncd's delete = true | false | "startup" | "running". */
enum delete_mode { DELETE_NEVER = 0, DELETE_ALWAYS, DELETE_STARTUP, DELETE_RUNNING };

enum inotify_mode { INOTIFY_CLOSE_WRITE = 0, INOTIFY_MODIFY, INOTIFY_CLOSE_WRITE_OR_MODIFY };

/* rsync = { } of lsyncd, and the same keys for native transports: what is mirrored, and how. */
struct rsync_options {
	char *binary; /* "rsync" */
	bool archive, links, times, perms, owner, group, devices, specials;
	bool acls, xattrs, hard_links, sparse, checksum, update, compress;
	bool append, append_verify, backup, copy_dirlinks, copy_links, copy_unsafe_links, cvs_exclude;
	bool delete_excluded, dry_run, executability, existing, ignore_times, inplace, ipv4, ipv6, keep_dirlinks;
	bool omit_dir_times, omit_link_times, one_file_system, protect_args, prune_empty_dirs, quiet;
	bool verbose, whole_file, numeric_ids, fuzzy, mkpath;
	bool confine; /* to what rsync_domain.h says */
	char *backup_dir, *chmod, *chown, *groupmap, *usermap, *password_file, *rsh, *rsync_path, *suffix, *temp_dir;
	char *max_size, *min_size, *partial_dir;
	int64_t bwlimit;      /* KiB/s, 0: none */
	int64_t timeout;      /* seconds, 0: none given */
	struct strlist extra; /* verbatim, filter options removed (they are in sync_options.filter) */
};

/* Who speaks SSH for sftp. */
enum ssh_client { SSH_LIBSSH2 = 0, SSH_OPENSSH };

/* What is done with a host that is not known; a changed key is always refused. */
enum ssh_strictness { SSH_STRICT = 0, SSH_ACCEPT_NEW };

struct ssh_options {
	char *binary; /* "ssh" */
	enum ssh_client client;
	enum ssh_strictness strict;
	char *passphrase_file, *password_file; /* "credential:NAME": one of systemd's */
	char *sftp_server;		       /* command instead of the subsystem */
	char *identity_file, *known_hosts_file;
	char *host_key_alias;	      /* name that known_hosts has the host's key by; NULL: the host's */
	struct strlist options;	      /* "Key=Value" */
	struct strlist extra;	      /* verbatim */
	int64_t port;		      /* 0: ssh's default */
	struct strlist remote_prefix; /* argv put before commands run on the target, as [ "sudo" ] */
	int64_t timeout_ns;	      /* connection is dead after that without an answer */
};

/* Whether a file that exists on the receiver travels as a difference. */
enum delta_mode { DELTA_AUTO = 0, DELTA_ALWAYS, DELTA_NEVER };

/* What "done" means for content on the target: renamed into place; a syncfs(2) before batches are acknowledged; an
 * fsync(2) of each file before it is renamed. */
enum durability { DURABILITY_NONE = 0, DURABILITY_BATCH, DURABILITY_FILE };

/* The tcp transport's keys. */
struct tcp_options {
	int64_t port;
	char *module;			      /* what the receiver calls the directory */
	char *key;			      /* file of the pre-shared key */
	char *certificate, *private_key, *ca; /* PEM files; instead of a key */
	char *peer_name;		      /* that the receiver's certificate must bear; NULL: the host's */
	bool insecure;			      /* plaintext to other hosts than this one */
	int64_t compress_level;		      /* -1: follows the load */
	int64_t timeout_ns;		      /* of connecting, and of silence */
	enum delta_mode delta;
};

/* What an exec program is given on its standard input, and how it answers. */
enum exec_format { EXEC_NULL = 0, EXEC_JSON, EXEC_PATHS };
enum exec_answers { EXEC_STATUS = 0, EXEC_LINES };

/* exec = { }: the program of the transport "exec". */
struct exec_options {
	struct strlist command;	  /* argv */
	struct strlist env;	  /* "NAME=value" */
	struct strlist exitcodes; /* "CODE=WORD" or "FIRST-LAST=WORD" */
	enum exec_format format;
	enum exec_answers answers;
	bool persistent, moves;
	int64_t max_changes; /* in one run */
	char *user;	     /* NULL: as the daemon */
};

/* What an integer key holds that was given as "${port}": the port of the sync's tunnel. */
#define OPTIONS_TUNNEL_PORT (-1)

/* tunnel = { }: a program that leads to the target. core/tunnel.h runs it. */
struct tunnel_options {
	struct strlist command; /* argv; empty: there is no tunnel */
	int64_t port;		/* where it listens; 0: a free one is chosen */
	int64_t timeout_ns;	/* it has to listen by then */
	int64_t ready_delay_ns; /* above 0: it listens nowhere, and is up when it has run for so long */
	char *user;		/* NULL: as the daemon */
};

struct sync_options {
	char *name;	 /* unique; "sync1", ... when not given */
	char *transport; /* a name of the registry */
	char *source;	 /* absolute, canonical */
	char *target;	 /* rsync, direct: directory, host::module or rsync:// URL; made from host and targetdir by
			    rsyncssh */
	char *host, *targetdir;
	bool bidirectional;
	int64_t delay_ns;
	int64_t max_delays;    /* marks; that many pending: act at once */
	int64_t max_pending;   /* marks; above, subtrees collapse into reconciles */
	int64_t max_processes; /* accepted from lsyncd; a sync has one worker */
	enum delete_mode delete_mode;
	bool init;		       /* reconcile at start */
	int64_t open_file_interval_ns; /* 0: only on close */
	int64_t reconcile_interval_ns; /* 0: never */
	struct strlist bandwidth;      /* rules of core/bandwidth.h */
	struct strlist schedule;       /* expressions of core/schedule.h: reconcile then */
	enum watcher_choice watcher;
	enum inotify_mode inotify_mode;
	bool one_file_system;
	bool allow_empty_source;
	char *require_marker, *require_target_marker; /* relative to the source, the target */
	int64_t max_delete;			      /* -1: default of DESIGN.md promise 5 */
	bool conflict_copies;
	char *backup_dir;	  /* of core/backup_dir.h, below the target; NULL: nothing is put away */
	int64_t large_file;	  /* bytes; 0: none is large */
	int64_t batch_size_limit; /* the same, lsyncd's key: sync_options_large */
	int64_t connections;	  /* of sftp, for one sync */
	int64_t retry_min_ns, retry_max_ns;
	int64_t progress_timeout_ns;	      /* worker without progress for so long is replaced */
	struct strlist exclude, filter_rules; /* as given, for --check and the round trip */
	char *exclude_from, *filter_from;
	struct filter *filter; /* all rules of all keys, in order; never NULL */
	enum durability durability;
	struct rsync_options rsync;
	struct ssh_options ssh;
	struct tcp_options tcp;
	struct exec_options exec;
	struct tunnel_options tunnel;
	struct strlist pre_batch, on_batch, on_error, on_reconnect, on_change; /* argv each; empty: none */
	char *hook_user;
	int64_t hook_timeout_ns, hook_processes;
	int line; /* where the section starts, for messages */
	char *file;
};

/* A directory that a receiver offers. */
/* What is larger than that many bytes is a large file; 0: nothing is. Of the two keys the smaller one counts. */
static inline int64_t sync_options_large(const struct sync_options *o)
{
	bool both = o->large_file > 0 && o->batch_size_limit > 0;

	if (both)
		return o->large_file < o->batch_size_limit ? o->large_file : o->batch_size_limit;
	return o->large_file > 0 ? o->large_file : o->batch_size_limit;
}

struct receiver_module {
	char *name, *path;
	struct strlist
		allow; /* names of keys or certificates; empty: only senders without TLS, where those are let in */
	bool read_only;
	char *backup_dir;		  /* as that of a sync; below path */
	int64_t max_delete;		  /* caps what a sender may delete in one work; -1: what the sender says */
	int64_t uid, gid;		  /* whose the files are here, whatever the sender says; -1: the sender's */
	struct strlist usermap, groupmap; /* "FROM:TO" each: core/owner_map.h */
};

struct receiver_options {
	struct strlist listen; /* "address:port", "[address]:port" */
	struct receiver_module *modules;
	size_t n_modules;
	char *keys;			      /* directory of NAME.key files */
	char *certificate, *private_key, *ca; /* PEM files */
	bool insecure;			      /* plaintext from other hosts than this one */
	int64_t max_connections;
	int64_t handshake_ns, timeout_ns;
};

/* Where the state is shown to programs and people: numbers for Prometheus, a page. */
struct metrics_options {
	char *listen;	      /* a Unix socket's path, or "address:port", "[address]:port" */
	char *group;	      /* whose members may use the Unix socket; NULL: root and the daemon's own user */
	struct strlist hosts; /* names that requests may call this host by, "localhost" and addresses apart */
	bool insecure;	      /* other addresses than loopback */
};

enum log_format { LOG_FORMAT_TEXT = 0, LOG_FORMAT_JSON };

struct settings {
	char *logfile, *pidfile, *status_file, *control_socket, *state_dir;
	bool nodaemon, onepass, insist;
	int64_t status_interval_ns;
	int log_facility; /* <syslog.h> */
	char *log_ident;
	struct strlist log; /* categories */
	enum log_format log_format;
	int64_t max_processes;	 /* batches in flight over all syncs; 0: no limit */
	int64_t max_delays;	 /* 0: each sync's own */
	int64_t fanotify_queue;	 /* events; 0: unlimited. A limit lets a test force an overflow */
	int64_t stop_timeout_ns; /* how long a stop waits for the batch in flight */
	int64_t watcher_interval_ns;
	bool hide_fan_rename; /* behave as a kernel before 5.17 (a test's switch) */
	enum inotify_mode inotify_mode;
};

struct config {
	char *path; /* of the file, absolute; NULL when made from arguments or a text */
	struct settings settings;
	struct sync_options *syncs;
	size_t n_syncs;
	struct receiver_options *receiver; /* NULL: none */
	struct metrics_options *metrics;   /* NULL: none */
	struct strlist warnings;	   /* "file:line: text" each */
};

#endif
