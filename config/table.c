/*
 * table.c - the one table of all keys: parsing, --check, the dump, --help-config and the manual page come from it.
 *
 * To add a key: a row here, a field in core/options.h. Rows of one section stand together.
 */
#include <string.h>
#include <syslog.h>

#include "config/private.h"

static const struct config_choice watcher_words[] = {
	{ "auto", WATCHER_AUTO }, { "fanotify", WATCHER_FANOTIFY }, { "inotify", WATCHER_INOTIFY }, { NULL, 0 }
};

static const struct config_choice delete_words[] = { { "true", DELETE_ALWAYS },
						     { "false", DELETE_NEVER },
						     { "startup", DELETE_STARTUP },
						     { "running", DELETE_RUNNING },
						     { NULL, 0 } };

static const struct config_choice inotify_words[] = { { "CloseWrite", INOTIFY_CLOSE_WRITE },
						      { "Modify", INOTIFY_MODIFY },
						      { "CloseWrite or Modify", INOTIFY_CLOSE_WRITE_OR_MODIFY },
						      { NULL, 0 } };

static const struct config_choice facility_words[] = {
	{ "user", LOG_USER },	      { "daemon", LOG_DAEMON }, { "auth", LOG_AUTH },
	{ "authpriv", LOG_AUTHPRIV }, { "cron", LOG_CRON },	{ "ftp", LOG_FTP },
	{ "kern", LOG_KERN },	      { "lpr", LOG_LPR },	{ "mail", LOG_MAIL },
	{ "news", LOG_NEWS },	      { "syslog", LOG_SYSLOG }, { "uucp", LOG_UUCP },
	{ "local0", LOG_LOCAL0 },     { "local1", LOG_LOCAL1 }, { "local2", LOG_LOCAL2 },
	{ "local3", LOG_LOCAL3 },     { "local4", LOG_LOCAL4 }, { "local5", LOG_LOCAL5 },
	{ "local6", LOG_LOCAL6 },     { "local7", LOG_LOCAL7 }, { NULL, 0 }
};

static const struct config_choice delta_words[] = {
	{ "auto", DELTA_AUTO }, { "always", DELTA_ALWAYS }, { "never", DELTA_NEVER }, { NULL, 0 }
};

static const struct config_choice durability_words[] = {
	{ "none", DURABILITY_NONE }, { "batch", DURABILITY_BATCH }, { "file", DURABILITY_FILE }, { NULL, 0 }
};

static const struct config_choice log_format_words[] = { { "text", LOG_FORMAT_TEXT },
							 { "json", LOG_FORMAT_JSON },
							 { NULL, 0 } };

static const struct config_choice client_words[] = { { "libssh2", SSH_LIBSSH2 },
						     { "openssh", SSH_OPENSSH },
						     { NULL, 0 } };

static const struct config_choice format_words[] = {
	{ "null", EXEC_NULL }, { "json", EXEC_JSON }, { "paths", EXEC_PATHS }, { NULL, 0 }
};

static const struct config_choice answers_words[] = { { "status", EXEC_STATUS }, { "lines", EXEC_LINES }, { NULL, 0 } };

static const struct config_choice strict_words[] = { { "true", SSH_STRICT },
						     { "accept-new", SSH_ACCEPT_NEW },
						     { NULL, 0 } };

/* clang-format off */
#define GROUP(sect, kind, key, strct, field, ...) \
	{ .name = (key), .section = (sect), .type = (kind), .offset = offsetof(strct, field), __VA_ARGS__ }
#define SET(kind, key, field, ...) GROUP(SECTION_SETTINGS, kind, key, struct settings, field, __VA_ARGS__)
#define SYN(kind, key, field, ...) GROUP(SECTION_SYNC, kind, key, struct sync_options, field, __VA_ARGS__)
#define RSY(kind, key, ...) GROUP(SECTION_RSYNC, kind, #key, struct sync_options, rsync.key, __VA_ARGS__)
#define RSYFLAG(key, text) RSY(TYPE_BOOL, key, .def = "false", .help = (text))
#define RSYPROG(key, dflt, text) RSY(TYPE_BOOL, key, .def = (dflt), .flags = KEY_PROGRAM, .help = (text))
#define SSH(kind, key, field, ...) GROUP(SECTION_SSH, kind, key, struct sync_options, ssh.field, __VA_ARGS__)
#define EXE(kind, key, field, ...) GROUP(SECTION_EXEC, kind, key, struct sync_options, exec.field, .only = "exec", __VA_ARGS__)
#define TUN(kind, key, field, ...) GROUP(SECTION_TUNNEL, kind, key, struct sync_options, tunnel.field, __VA_ARGS__)
#define TCP(kind, key, field, ...) GROUP(SECTION_SYNC, kind, key, struct sync_options, field, .only = "tcp", __VA_ARGS__)
#define REC(kind, key, field, ...) GROUP(SECTION_RECEIVER, kind, key, struct receiver_options, field, __VA_ARGS__)
#define MOD(kind, key, field, ...) GROUP(SECTION_MODULE, kind, key, struct receiver_module, field, __VA_ARGS__)
#define MET(kind, key, field, ...) GROUP(SECTION_METRICS, kind, key, struct metrics_options, field, __VA_ARGS__)
#define IGNORED(sect, key, text) { .name = (key), .section = (sect), .type = TYPE_IGNORED, .help = (text) }
#define COUNT_MAX 1000000000
#define BYTES_MAX ((int64_t)1 << 60)

static const char callback[] = "Lua functions and command strings are not run; transport = \"exec\" gives changes to a program of your own";
static const char exit_codes[] = "the exit codes of rsync and ssh are mapped by a fixed table, which retries what can succeed later";

static const struct config_key table[] = {
	SET(TYPE_PATH, "logfile", logfile, .flags = KEY_CLI | KEY_PARENT | KEY_NONEMPTY,
	    .help = "file that the log is appended to; reopened on SIGUSR1. Without it a daemon logs to syslog"),
	SET(TYPE_PATH, "pidfile", pidfile, .flags = KEY_CLI | KEY_PARENT | KEY_NONEMPTY | KEY_RESTART,
	    .help = "file that the process id is written to, and locked, so that a second start is refused"),
	SET(TYPE_BOOL, "nodaemon", nodaemon, .def = "false", .flags = KEY_CLI | KEY_RESTART,
	    .help = "stay in the foreground, log to standard output"),
	SET(TYPE_BOOL, "onepass", onepass, .def = "false", .flags = KEY_CLI | KEY_RESTART,
	    .help = "reconcile every sync once, then exit"),
	SET(TYPE_BOOL, "insist", insist, .def = "true", .flags = KEY_CLI,
	    .help = "a target that can't be reached, a veto of preBatch or a watch limit at start is no reason to exit, as it is not "
		    "later: go on trying. lsyncd's default, false, exits. Given as true, a missing source is a warning and no error"),
	SET(TYPE_PATH, "statusFile", status_file, .flags = KEY_CLI | KEY_PARENT | KEY_NONEMPTY,
	    .help = "file that the status is written to, atomically"),
	SET(TYPE_TIME, "statusInterval", status_interval_ns, .def = "10", .min = 0, .max = CONFIG_TIME_MAX_S, .flags = KEY_CLI,
	    .help = "least time between two writes of the status file"),
	SET(TYPE_CHOICE, "logfacility", log_facility, .def = "user", .choices = facility_words, .flags = KEY_CLI | KEY_CHOICE_NUM,
	    .help = "syslog facility, by name or by its number of <syslog.h>"),
	SET(TYPE_STRING, "logident", log_ident, .def = "fansyncd", .flags = KEY_CLI | KEY_NONEMPTY, .help = "syslog identifier"),
	SET(TYPE_LIST, "log", log, .flags = KEY_CLI,
	    .help = "log categories to switch on: \"all\", \"scarce\" (errors and warnings only), or names such as \"Exec\""),
	SET(TYPE_CHOICE, "logFormat", log_format, .def = "text", .choices = log_format_words, .flags = KEY_CLI,
	    .help = "lines of the log file and of standard output: text, or a JSON object each"),
	SET(TYPE_CHOICE, "inotifyMode", inotify_mode, .def = "CloseWrite", .choices = inotify_words, .flags = KEY_CLI,
	    .help = "when a written file counts as changed, for syncs that do not say so themselves; on the command line for all"),
	SET(TYPE_INT, "maxProcesses", max_processes, .def = "0", .min = 0, .max = 65535, .flags = KEY_CLI,
	    .help = "batches under way at once over all syncs; 0: no limit"),
	SET(TYPE_INT, "maxDelays", max_delays, .def = "0", .min = 0, .max = COUNT_MAX, .flags = KEY_CLI,
	    .help = "caps every sync's maxDelays, on the command line replaces it; 0: each sync's own"),
	SET(TYPE_PATH, "controlSocket", control_socket, .flags = KEY_CLI | KEY_NONEMPTY | KEY_RESTART,
	    .help = "Unix socket for --status, --wait and --sync-now. Default /run/fansyncd.sock, or fansyncd-NAME.sock "
		    "for a configuration NAME.conf; without root in XDG_RUNTIME_DIR, else in stateDir"),
	SET(TYPE_PATH, "stateDir", state_dir, .flags = KEY_CLI | KEY_NONEMPTY | KEY_RESTART,
	    .help = "directory of what is remembered between runs. Default /var/lib/fansyncd, or fansyncd-NAME for a "
		    "configuration NAME.conf; without root in XDG_STATE_HOME or ~/.local/state"),
	SET(TYPE_TIME, "stopTimeout", stop_timeout_ns, .def = "10", .min = 0, .max = CONFIG_TIME_MAX_S, .flags = KEY_CLI,
	    .help = "how long a stop waits for batches under way before it abandons them"),
	SET(TYPE_INT, "fanotifyQueue", fanotify_queue, .def = "0", .min = 0, .max = COUNT_MAX, .unit = "events",
	    .flags = KEY_RESTART, .help = "limits the kernel's event queue; 0: unlimited"),
	SET(TYPE_BOOL, "hideFanRename", hide_fan_rename, .def = "false", .flags = KEY_RESTART,
	    .help = "behave as on a kernel before 5.17, which does not pair the names of a rename"),
	SET(TYPE_TIME, "watcherInterval", watcher_interval_ns, .def = "10", .min = 1, .max = CONFIG_TIME_MAX_S, .flags = KEY_RESTART,
	    .help = "how often it is thought over, with watcher = \"auto\", whether the other watcher suits a source better"),
	IGNORED(SECTION_SETTINGS, "monitor", "use watcher = \"fanotify\" or \"inotify\" in a sync section"),

	SYN(TYPE_STRING, "name", name, .flags = KEY_NONEMPTY, .help = "name in logs, in the status and for --only; default sync1, sync2, ..."),
	SYN(TYPE_STRING, "transport", transport, .flags = KEY_NONEMPTY, .help = "how changes are carried: \"rsync\", \"rsyncssh\", ...; required"),
	SYN(TYPE_STRING, "source", source, .flags = KEY_NONEMPTY, .help = "directory to mirror; required"),
	SYN(TYPE_STRING, "target", target, .flags = KEY_NONEMPTY | KEY_PORT,
	    .help = "where to: a directory, host::module/path or rsync://host/module/path, as the transport takes it; ${port} in it is "
		    "the local port of a tunnel"),
	SYN(TYPE_STRING, "host", host, .flags = KEY_NONEMPTY, .help = "[user@]host of the target, for transports that log in to it"),
	SYN(TYPE_STRING, "targetdir", targetdir, .flags = KEY_NONEMPTY, .help = "directory on that host"),
	SYN(TYPE_BOOL, "bidirectional", bidirectional, .def = "false",
	    .help = "the other host mirrors the same tree to us: carry only what was changed here"),
	SYN(TYPE_TIME, "delay", delay_ns, .min = 0, .max = CONFIG_TIME_MAX_S, .flags = KEY_CLI,
	    .help = "how long changes are collected. Default 1 for rsync and rsyncssh, 0 for native transports"),
	SYN(TYPE_INT, "maxDelays", max_delays, .def = "1000", .min = 1, .max = COUNT_MAX, .unit = "marks",
	    .help = "that many pending changes are carried at once, without waiting for the delay"),
	SYN(TYPE_INT, "maxPending", max_pending, .def = "200000", .min = 16, .max = COUNT_MAX, .unit = "marks",
	    .help = "above, pending changes collapse into reconciles of subtrees. 100,000 take at most 64 MiB in the daemon, and "
		    "as much in the worker"),
	SYN(TYPE_INT, "maxProcesses", max_processes, .def = "1", .min = 1, .max = 65535,
	    .help = "accepted for lsyncd's sake: a sync has one worker, and one more for large files"),
	SYN(TYPE_CHOICE, "delete", delete_mode, .def = "true", .choices = delete_words, .flags = KEY_CHOICE_BOOL | KEY_CLI,
	    .help = "whether what is missing on the source is deleted on the target: always, never, only by the "
		    "reconcile at start, or only while running"),
	SYN(TYPE_BOOL, "init", init, .def = "true", .help = "reconcile at start"),
	SYN(TYPE_LIST, "exclude", exclude, .flags = KEY_FILTER, .help = "patterns of rsync's --exclude"),
	SYN(TYPE_PATH, "excludeFrom", exclude_from, .flags = KEY_FILTER | KEY_NONEMPTY, .help = "file with such patterns, one a line"),
	SYN(TYPE_LIST, "filter", filter_rules, .flags = KEY_FILTER, .help = "rules of rsync's --filter; they come before exclude"),
	SYN(TYPE_PATH, "filterFrom", filter_from, .flags = KEY_FILTER | KEY_NONEMPTY, .help = "file with such rules, one a line"),
	SYN(TYPE_TIME, "openFileInterval", open_file_interval_ns, .def = "0", .min = 0, .max = CONFIG_TIME_MAX_S,
	    .help = "mirror a file that is written and kept open that often; 0: when it is closed"),
	SYN(TYPE_TIME, "reconcileInterval", reconcile_interval_ns, .def = "0", .min = 0, .max = CONFIG_TIME_MAX_S,
	    .help = "compare everything that often (covers writes through mmap); 0: never"),
	SYN(TYPE_LIST, "bandwidth", bandwidth, .flags = KEY_RATES,
	    .help = "how fast is sent: KiB a second, or \"500K\", \"1.5M\"; or a list of groups with limit and, as wanted, from, to "
		    "(\"08:00\") and days (\"Mon-Fri\"), the first of which that fits the time counts; 0: no limit"),
	SYN(TYPE_LIST, "schedule", schedule, .flags = KEY_NONEMPTY,
	    .help = "compare everything at these times: \"MINUTE HOUR DAY MONTH WEEKDAY\" as in crontab(5), local time, or \"@daily\" "
		    "and the like; six fields begin with seconds"),
	SYN(TYPE_CHOICE, "watcher", watcher, .def = "auto", .choices = watcher_words, .flags = KEY_CLI,
	    .help = "kernel interface to watch the source with"),
	SYN(TYPE_CHOICE, "inotifyMode", inotify_mode, .def = "CloseWrite", .choices = inotify_words,
	    .help = "when a written file counts as changed; default: as in settings"),
	SYN(TYPE_BOOL, "oneFileSystem", one_file_system, .def = "false", .help = "stay on the source's file system"),
	SYN(TYPE_BOOL, "allowEmptySource", allow_empty_source, .def = "false",
	    .help = "mirror an empty source, although that empties the target"),
	SYN(TYPE_STRING, "requireMarker", require_marker, .flags = KEY_NONEMPTY,
	    .help = "file, relative to the source, that must exist there before anything is carried: a source without it is "
		    "not mounted, or the wrong one"),
	SYN(TYPE_STRING, "requireTargetMarker", require_target_marker, .flags = KEY_NONEMPTY,
	    .help = "file, relative to the target, that must exist there before anything is carried: a target without it is "
		    "not mounted, or the wrong one. It is never deleted"),
	SYN(TYPE_INT, "maxDelete", max_delete, .def = "auto", .min = 0, .max = COUNT_MAX, .unit = "entries", .flags = KEY_AUTO,
	    .help = "deletions that one batch or reconcile may do; auto: for a reconcile, the larger of 1000 and half of the listing"),
	SYN(TYPE_STRING, "backupDir", backup_dir, .flags = KEY_NONEMPTY,
	    .help = "directory below the target, as .backup/%Y-%m-%d, that what would be replaced or deleted there is put away in. What "
		    "comes before the first % is neither mirrored nor deleted. With tcp it is for the receiver's module to say"),
	SYN(TYPE_BOOL, "conflictCopies", conflict_copies, .def = "false", .help = "bidirectional: keep the loser of a conflict beside the winner"),
	SYN(TYPE_INT, "largeFile", large_file, .def = "67108864", .min = 0, .max = BYTES_MAX, .unit = "bytes",
	    .help = "larger files travel in a lane of their own, beside what is small; 0: none do"),
	SYN(TYPE_INT, "batchSizeLimit", batch_size_limit, .def = "0", .min = 0, .max = BYTES_MAX, .unit = "bytes",
	    .help = "the same by lsyncd's name; of the two the smaller one counts. 0: it does not"),
	SYN(TYPE_TIME, "retryMin", retry_min_ns, .def = "1", .min = 0, .max = CONFIG_TIME_MAX_S, .help = "first pause before a retry; it doubles up to retryMax"),
	SYN(TYPE_TIME, "retryMax", retry_max_ns, .def = "300", .min = 0, .max = CONFIG_TIME_MAX_S, .help = "longest pause before a retry"),
	SYN(TYPE_TIME, "progressTimeout", progress_timeout_ns, .def = "900", .min = 1, .max = CONFIG_TIME_MAX_S,
	    .help = "a worker that shows no progress for so long is replaced"),
	TCP(TYPE_INT, "port", tcp.port, .def = "8737", .min = 1, .max = 65535, .flags = KEY_PORT,
	    .help = "where the receiver listens; \"${port}\": at the other end of a tunnel"),
	TCP(TYPE_STRING, "module", tcp.module, .flags = KEY_NONEMPTY, .help = "what the receiver calls the directory that this sync writes to; required"),
	TCP(TYPE_PATH, "key", tcp.key, .flags = KEY_EXISTS | KEY_CREDENTIAL | KEY_NONEMPTY,
	    .help = "file NAME.key of the pre-shared key, made with `openssl rand -hex 32`; the receiver knows it by NAME; or credential:NAME.key"),
	TCP(TYPE_PATH, "certificate", tcp.certificate, .flags = KEY_EXISTS | KEY_CREDENTIAL | KEY_NONEMPTY, .help = "instead of a key: this host's certificate, PEM"),
	TCP(TYPE_PATH, "privateKey", tcp.private_key, .flags = KEY_EXISTS | KEY_CREDENTIAL | KEY_NONEMPTY, .help = "the certificate's private key, PEM"),
	TCP(TYPE_PATH, "ca", tcp.ca, .flags = KEY_EXISTS | KEY_CREDENTIAL | KEY_NONEMPTY, .help = "certificates that the receiver's one must be signed by, PEM"),
	TCP(TYPE_STRING, "peerName", tcp.peer_name, .flags = KEY_NONEMPTY, .help = "name that the receiver's certificate must bear; default: host"),
	TCP(TYPE_BOOL, "insecure", tcp.insecure, .def = "false", .help = "plaintext to another host: everybody on the way can read and change what is sent"),
	TCP(TYPE_CHOICE, "delta", tcp.delta, .def = "auto", .choices = delta_words,
	    .help = "whether a file that exists on the receiver travels as a difference to it"),
	TCP(TYPE_CHOICE, "durability", durability, .def = "none", .choices = durability_words,
	    .help = "what the receiver syncs to disk before it acknowledges: nothing, the file system (once a batch), or each file"),
	TCP(TYPE_INT, "compressLevel", tcp.compress_level, .def = "auto", .min = 0, .max = 9, .flags = KEY_AUTO,
	    .help = "of zstd (of zlib, where the receiver has no zstd), with compress = true; auto: follows the load"),
	TCP(TYPE_TIME, "timeout", tcp.timeout_ns, .def = "60", .min = 1, .max = CONFIG_TIME_MAX_S,
	    .help = "a receiver that can't be reached, or keeps silent, for so long is down"),
	GROUP(SECTION_SYNC, TYPE_INT, "connections", struct sync_options, connections, .only = "sftp", .def = "1", .min = 1, .max = 8,
	      .help = "files travel over so many connections at once: for a server that is far away, over a fast line"),
	SYN(TYPE_LIST, "preBatch", pre_batch, .flags = KEY_WORDS | KEY_EXISTS,
	    .help = "command that is asked before each batch, with its paths on the standard input, a NUL behind each; unless it exits "
		    "with 0 the batch waits, and the sync is \"vetoed\" with its last words"),
	SYN(TYPE_LIST, "onBatch", on_batch, .flags = KEY_WORDS | KEY_EXISTS,
	    .help = "command that is run after each batch, with the paths that are on the target now, in the same way"),
	SYN(TYPE_LIST, "onError", on_error, .flags = KEY_WORDS | KEY_EXISTS,
	    .help = "command that is run when paths fail for the first time or are given up (with them), or when the sync gets into "
		    "trouble (without); the reason is in FANSYNCD_REASON"),
	SYN(TYPE_LIST, "onReconnect", on_reconnect, .flags = KEY_WORDS | KEY_EXISTS,
	    .help = "command that is run when the target is back"),
	SYN(TYPE_LIST, "onChange", on_change, .flags = KEY_WORDS | KEY_EXISTS,
	    .help = "command that is run when something changed in the source, whoever did it, with the paths"),
	SYN(TYPE_TIME, "hookTimeout", hook_timeout_ns, .def = "60", .min = 1, .max = CONFIG_TIME_MAX_S,
	    .help = "such a command is ended after that; for preBatch that is a veto"),
	SYN(TYPE_INT, "hookProcesses", hook_processes, .def = "1", .min = 1, .max = 1000,
	    .help = "such commands of this sync that run at once, preBatch not counted; what comes up meanwhile is gathered"),
	SYN(TYPE_STRING, "hookUser", hook_user, .flags = KEY_NONEMPTY | KEY_ACCOUNT, .help = "account that they run as; default: the daemon's"),
	IGNORED(SECTION_SYNC, "exitcodes", exit_codes),
	IGNORED(SECTION_SYNC, "rsyncExitCodes", exit_codes),
	IGNORED(SECTION_SYNC, "sshExitCodes", exit_codes),
	IGNORED(SECTION_SYNC, "crontab", "use schedule, which takes the same expressions"),
	IGNORED(SECTION_SYNC, "full", "use schedule or reconcileInterval, or fansyncd --sync-now"),
	IGNORED(SECTION_SYNC, "onAttrib", callback),
	IGNORED(SECTION_SYNC, "onCreate", callback),
	IGNORED(SECTION_SYNC, "onModify", callback),
	IGNORED(SECTION_SYNC, "onDelete", callback),
	IGNORED(SECTION_SYNC, "onMove", callback),
	IGNORED(SECTION_SYNC, "onStartup", callback),
	IGNORED(SECTION_SYNC, "onFull", callback),
	IGNORED(SECTION_SYNC, "action", callback),
	IGNORED(SECTION_SYNC, "collect", callback),
	IGNORED(SECTION_SYNC, "prepare", callback),
	IGNORED(SECTION_SYNC, "checkgauge", "the keys of a sync section are fixed"),
	IGNORED(SECTION_SYNC, "monitor", "use watcher = \"fanotify\" or \"inotify\""),
	IGNORED(SECTION_SYNC, "subdirs", "subdirectories are always watched; leave them out with exclude = \"*/\""),

	RSY(TYPE_STRING, binary, .def = "rsync", .flags = KEY_PROGRAM | KEY_COMMAND | KEY_NONEMPTY, .help = "the rsync program"),
	RSY(TYPE_BOOL, archive, .help = "sets links, perms, times, group, owner, devices and specials unless they are given. Default "
		"false, true for native transports"),
	RSY(TYPE_BOOL, links, .def = "true", .help = "symlinks as symlinks (-l)"),
	RSY(TYPE_BOOL, times, .def = "true", .help = "modification times (-t)"),
	RSYFLAG(perms, "permissions (-p)"),
	RSYFLAG(owner, "owner (-o)"),
	RSYFLAG(group, "group (-g)"),
	RSYFLAG(devices, "device files (--devices)"),
	RSYFLAG(specials, "FIFOs and sockets (--specials)"),
	RSYFLAG(acls, "ACLs (-A)"),
	RSYFLAG(xattrs, "extended attributes (-X)"),
	RSYFLAG(hard_links, "hard links, as far as their names travel together (-H)"),
	RSYFLAG(sparse, "holes in files (-S)"),
	RSYFLAG(checksum, "compare content, not size and time (-c)"),
	RSYFLAG(update, "leave alone what is newer on the target (-u)"),
	RSYFLAG(compress, "compress on the way (-z)"),
	RSYFLAG(append, "append to shorter files (--append)"),
	RSYFLAG(append_verify, "the same, old content checked (--append-verify)"),
	RSYFLAG(backup, "keep what is replaced or deleted (-b)"),
	RSY(TYPE_STRING, backup_dir, .flags = KEY_NONEMPTY, .help = "where backups go (--backup-dir)"),
	RSY(TYPE_STRING, suffix, .help = "suffix of backups (--suffix)"),
	RSYFLAG(copy_dirlinks, "symlinks to directories as directories (-k)"),
	RSYFLAG(copy_links, "symlinks as what they point to (-L)"),
	RSYFLAG(copy_unsafe_links, "the same for links that lead out of the tree (--copy-unsafe-links)"),
	RSYFLAG(cvs_exclude, "adds rsync's list of files that version control and editors leave, as exclude rules behind all others (-C); "
		"without .cvsignore files and CVSIGNORE"),
	RSYFLAG(delete_excluded, "a reconcile deletes excluded files on the target too (--delete-excluded)"),
	RSYFLAG(dry_run, "change nothing (-n)"),
	RSYFLAG(executability, "the executable bits (-E)"),
	RSYFLAG(existing, "update only what exists on the target (--existing)"),
	RSYFLAG(fuzzy, "look for a similar file as the base of a delta (-y)"),
	RSYFLAG(ignore_times, "send even if size and time are equal (-I)"),
	RSYFLAG(inplace, "write into the target's file: readers may see half of it (--inplace)"),
	RSYFLAG(keep_dirlinks, "on the target, a symlink to a directory is as good as a directory (-K)"),
	RSYFLAG(mkpath, "create the target's missing parents (--mkpath)"),
	RSYFLAG(numeric_ids, "user and group by number (--numeric-ids); else by name, where both hosts know it"),
	RSYFLAG(omit_dir_times, "no times of directories (-O)"),
	RSYFLAG(omit_link_times, "no times of symlinks (-J)"),
	RSYFLAG(one_file_system, "do not cross file systems (-x)"),
	RSYFLAG(prune_empty_dirs, "no directories that would be empty (-m); one that becomes empty is removed by the next comparison"),
	RSYFLAG(whole_file, "no deltas (-W)"),
	RSYPROG(ipv4, "false", "IPv4 only (-4)"),
	RSYPROG(ipv6, "false", "IPv6 only (-6)"),
	RSYPROG(protect_args, "true", "no shell interprets the target's path (-s); false is ignored"),
	RSYPROG(quiet, "false", "accepted, ignored: what rsync says is read, and only logged in the category Exec"),
	RSYPROG(verbose, "false", "more output, in the log category Exec (-v)"),
	RSY(TYPE_STRING, chmod, .flags = KEY_NONEMPTY, .help = "changes to permissions (--chmod)"),
	RSY(TYPE_STRING, chown, .flags = KEY_NONEMPTY, .help = "owner and group to set (--chown)"),
	RSY(TYPE_STRING, groupmap, .flags = KEY_NONEMPTY, .help = "map of groups (--groupmap)"),
	RSY(TYPE_STRING, usermap, .flags = KEY_NONEMPTY, .help = "map of users (--usermap)"),
	RSY(TYPE_STRING, max_size, .flags = KEY_NONEMPTY, .help = "leave out larger files (--max-size)"),
	RSY(TYPE_STRING, min_size, .flags = KEY_NONEMPTY, .help = "leave out smaller files (--min-size)"),
	RSY(TYPE_STRING, partial_dir, .flags = KEY_NONEMPTY, .help = "keep interrupted transfers there (--partial-dir)"),
	RSY(TYPE_STRING, temp_dir, .flags = KEY_NONEMPTY, .help = "temporary files there, not beside the file (--temp-dir)"),
	RSY(TYPE_PATH, password_file, .flags = KEY_PROGRAM | KEY_EXISTS | KEY_NONEMPTY, .help = "password for an rsync daemon (--password-file)"),
	RSY(TYPE_STRING, rsh, .flags = KEY_PROGRAM | KEY_NONEMPTY | KEY_PORT, .help = "remote shell (--rsh); ssh = { } is the better way"),
	RSY(TYPE_STRING, rsync_path, .flags = KEY_PROGRAM | KEY_NONEMPTY, .help = "the rsync program on the target (--rsync-path)"),
	RSY(TYPE_INT, bwlimit, .def = "0", .min = 0, .max = COUNT_MAX, .unit = "KiB/s", .help = "limit of the transfer rate (--bwlimit); 0: none"),
	RSY(TYPE_INT, timeout, .def = "0", .min = 0, .max = CONFIG_TIME_MAX_S, .unit = "seconds", .flags = KEY_PROGRAM,
	    .help = "rsync gives up when nothing moves for so long (--timeout); 0: rsync's default"),
	RSY(TYPE_LIST, extra, .flags = KEY_PROGRAM | KEY_PORT,
	    .help = "further arguments, one each (lsyncd: _extra). Filter options among them become filter rules"),
	RSYPROG(confine, "true", "rsync reaches the source, a local target and what it is given, and no other file (where the kernel has Landlock)"),
	IGNORED(SECTION_RSYNC, "recursive", "what is to be recursed into is decided here"),

	SSH(TYPE_STRING, "binary", binary, .def = "ssh", .flags = KEY_COMMAND | KEY_NONEMPTY, .help = "the ssh program"),
	SSH(TYPE_PATH, "identityFile", identity_file, .flags = KEY_TILDE | KEY_EXISTS | KEY_CREDENTIAL | KEY_NONEMPTY, .help = "private key to log in with (-i); credential:NAME is one of systemd's"),
	SSH(TYPE_PATH, "knownHostsFile", known_hosts_file, .flags = KEY_TILDE | KEY_NONEMPTY, .help = "host keys that are trusted"),
	SSH(TYPE_LIST, "options", options, .flags = KEY_MAP | KEY_PORT, .help = "\"Key=Value\" each, or a group { Key = \"Value\"; } (-o)"),
	SSH(TYPE_INT, "port", port, .def = "0", .min = 0, .max = 65535, .flags = KEY_PORT,
	    .help = "TCP port (-p); 0: ssh's default; \"${port}\": that of a tunnel"),
	SSH(TYPE_STRING, "hostKeyAlias", host_key_alias, .flags = KEY_NONEMPTY,
	    .help = "name that the host's key is known by, where the host is reached by another one, as through a tunnel"),
	SSH(TYPE_LIST, "extra", extra, .flags = KEY_PORT, .help = "further arguments, one each (lsyncd: _extra)"),
	SSH(TYPE_LIST, "remotePrefix", remote_prefix, .flags = KEY_WORDS, .help = "words put before the shell and rsync on the target, as [ \"sudo\", \"-n\" ]"),
	SSH(TYPE_TIME, "timeout", timeout_ns, .def = "30", .min = 1, .max = CONFIG_TIME_MAX_S,
	    .help = "a connection without an answer for so long is dead"),
	SSH(TYPE_CHOICE, "client", client, .def = "libssh2", .choices = client_words,
	    .help = "sftp: who speaks SSH, the built-in \"libssh2\", or \"openssh\", the ssh program with its own configuration"),
	SSH(TYPE_CHOICE, "strictHostKeyChecking", strict, .def = "true", .choices = strict_words, .flags = KEY_CHOICE_BOOL,
	    .help = "sftp: refuse a host whose key is not known, or note it at the first connection (\"accept-new\"); a changed "
		    "key is always refused"),
	SSH(TYPE_STRING, "passphraseFile", passphrase_file, .flags = KEY_NONEMPTY,
	    .help = "sftp with libssh2: file with the passphrase of identityFile, readable by its owner only, or credential:NAME for "
		    "systemd's"),
	SSH(TYPE_STRING, "passwordFile", password_file, .flags = KEY_NONEMPTY,
	    .help = "sftp with libssh2: the same with the password to log in with"),
	SSH(TYPE_STRING, "sftpServer", sftp_server, .flags = KEY_NONEMPTY,
	    .help = "sftp: command that serves SFTP on the target, as \"sudo -n /usr/lib/openssh/sftp-server\", instead of the sftp "
		    "subsystem"),

	EXE(TYPE_LIST, "command", command, .flags = KEY_WORDS | KEY_NONEMPTY | KEY_EXISTS | KEY_PORT,
	    .help = "the program and its arguments, as they are: no shell, nothing is expanded; required"),
	EXE(TYPE_CHOICE, "format", format, .def = "null", .choices = format_words,
	    .help = "what it reads: records of five fields with a NUL behind each (number, operation, type, path, extra); the same as "
		    "lines of JSON; or the paths alone, a NUL behind each"),
	EXE(TYPE_CHOICE, "answers", answers, .def = "status", .choices = answers_words,
	    .help = "how it answers: by its exit status, or with a line for each record, of which the status decides what it left out"),
	EXE(TYPE_BOOL, "persistent", persistent, .def = "false",
	    .help = "the program stays, and gets one batch after the other; it answers with lines"),
	EXE(TYPE_BOOL, "moves", moves, .def = "false",
	    .help = "it understands the operation move; otherwise a rename is a deletion and a creation"),
	EXE(TYPE_INT, "maxChanges", max_changes, .def = "1000", .min = 1, .max = 100000, .unit = "records",
	    .help = "so many changes it gets at once; the listing of a comparison is never divided"),
	EXE(TYPE_LIST, "exitcodes", exitcodes,
	    .help = "what an exit status means, beside the table in EXEC: \"CODE=WORD\" or \"FIRST-LAST=WORD\", with done, retry, "
		    "reject or down"),
	EXE(TYPE_LIST, "env", env, .flags = KEY_MAP | KEY_PORT, .help = "\"NAME=value\" each, or a group { NAME = \"value\"; }: added to its environment"),
	EXE(TYPE_STRING, "user", user, .flags = KEY_NONEMPTY | KEY_ACCOUNT, .help = "account that it runs as; default: the daemon's"),

	TUN(TYPE_LIST, "command", command, .flags = KEY_WORDS | KEY_NONEMPTY | KEY_EXISTS | KEY_PORT,
	    .help = "the program and its arguments, as they are: no shell, only ${port} is replaced, by the local port that it is to listen "
		    "on. It stays in the foreground; when it ends it is started again; required"),
	TUN(TYPE_INT, "port", port, .def = "0", .min = 0, .max = 65535,
	    .help = "the local port; 0: a free one, which is kept as long as it stays free"),
	TUN(TYPE_TIME, "timeout", timeout_ns, .def = "30", .min = 1, .max = CONFIG_TIME_MAX_S,
	    .help = "it has to listen by then, or it is ended and started again"),
	TUN(TYPE_TIME, "readyDelay", ready_delay_ns, .def = "0", .min = 0, .max = CONFIG_TIME_MAX_S,
	    .help = "above 0: it need not listen anywhere, and is taken for up when it has run for so long"),
	TUN(TYPE_STRING, "user", user, .flags = KEY_NONEMPTY | KEY_ACCOUNT, .help = "account that it runs as; default: the daemon's"),

	REC(TYPE_LIST, "listen", listen, .flags = KEY_NONEMPTY, .help = "addresses to listen on, \"ADDRESS:PORT\" or \"[ADDRESS]:PORT\"; required, "
	    "unless a socket unit of systemd passes sockets, which are used in its place"),
	REC(TYPE_PATH, "keys", keys, .flags = KEY_EXISTS | KEY_CREDENTIAL | KEY_NONEMPTY,
	    .help = "directory of the senders' keys, NAME.key each, readable by their owner only"),
	REC(TYPE_PATH, "certificate", certificate, .flags = KEY_EXISTS | KEY_CREDENTIAL | KEY_NONEMPTY, .help = "this host's certificate, PEM, for senders that have one"),
	REC(TYPE_PATH, "privateKey", private_key, .flags = KEY_EXISTS | KEY_CREDENTIAL | KEY_NONEMPTY, .help = "the certificate's private key, PEM"),
	REC(TYPE_PATH, "ca", ca, .flags = KEY_EXISTS | KEY_CREDENTIAL | KEY_NONEMPTY, .help = "certificates that senders' ones must be signed by, PEM"),
	REC(TYPE_BOOL, "insecure", insecure, .def = "false", .help = "let senders in that use no TLS, from other hosts too: anybody can write then"),
	REC(TYPE_INT, "maxConnections", max_connections, .def = "256", .min = 1, .max = 100000, .help = "sessions at a time"),
	REC(TYPE_TIME, "handshakeTimeout", handshake_ns, .def = "10", .min = 1, .max = 3600, .help = "time for TLS and the greeting"),
	REC(TYPE_TIME, "timeout", timeout_ns, .def = "60", .min = 1, .max = CONFIG_TIME_MAX_S, .help = "a sender that keeps silent for so long is gone"),

	MOD(TYPE_STRING, "name", name, .flags = KEY_NONEMPTY, .help = "what senders call it; required"),
	MOD(TYPE_PATH, "path", path, .flags = KEY_NONEMPTY, .help = "the directory; required"),
	MOD(TYPE_LIST, "allow", allow, .help = "names of the keys, or of the certificates, that may write to it"),
	MOD(TYPE_BOOL, "readOnly", read_only, .def = "false", .help = "nobody may write to it for now"),
	MOD(TYPE_STRING, "backupDir", backup_dir, .flags = KEY_NONEMPTY,
	    .help = "directory below path, as .backup/%Y-%m-%d, that what senders would replace or delete is put away in; no sender can "
		    "change what is there"),
	MOD(TYPE_INT, "maxDelete", max_delete, .def = "auto", .min = 0, .max = COUNT_MAX, .unit = "entries", .flags = KEY_AUTO,
	    .help = "caps what a sender may delete at once; auto: the sender's own limit"),
	MOD(TYPE_LIST, "usermap", usermap, .flags = KEY_NONEMPTY,
	    .help = "whose the files of a sender's users are here: \"FROM:TO\" each, FROM a number, a range of numbers or a name with wildcards, "
		    "TO a number or a name; the first that matches counts"),
	MOD(TYPE_LIST, "groupmap", groupmap, .flags = KEY_NONEMPTY, .help = "the same for groups"),
	MOD(TYPE_INT, "uid", uid, .def = "auto", .min = 0, .max = 4294967294, .flags = KEY_AUTO, .help = "owner of all files here; auto: as at the sender"),
	MOD(TYPE_INT, "gid", gid, .def = "auto", .min = 0, .max = 4294967294, .flags = KEY_AUTO, .help = "group of all files here; auto: as at the sender"),

	MET(TYPE_STRING, "listen", listen, .flags = KEY_NONEMPTY,
	    .help = "where numbers (/metrics) and a page (/) are to be had: the path of a Unix socket, or \"ADDRESS:PORT\" or "
		    "\"[ADDRESS]:PORT\" of this host's loopback; required"),
	MET(TYPE_STRING, "group", group, .flags = KEY_NONEMPTY,
	    .help = "group whose members may use the Unix socket, as a proxy's; without it root and the daemon's user only"),
	MET(TYPE_LIST, "hosts", hosts, .help = "names of this host that requests may be for, besides localhost and its addresses"),
	MET(TYPE_BOOL, "insecure", insecure, .def = "false",
	    .help = "listen on an address that is not loopback: everybody who reaches it can read names of files and hosts"),
};
/* clang-format on */

_Static_assert(sizeof(table) / sizeof(table[0]) <= CONFIG_KEYS_MAX, "CONFIG_KEYS_MAX is too small");

const struct config_key *config_table(size_t *n)
{
	*n = sizeof(table) / sizeof(table[0]);
	return table;
}

const struct config_key *config_key_find(enum config_section section, const char *name)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].section == section && strcmp(table[i].name, name) == 0)
			return &table[i];
	return NULL;
}

size_t config_key_index(const struct config_key *k)
{
	return (size_t)(k - table);
}

const char *config_section_name(enum config_section section)
{
	static const char *const names[CONFIG_SECTIONS] = { "settings", "sync",	    "rsync",  "ssh",	"exec",
							    "tunnel",	"receiver", "module", "metrics" };

	return names[section];
}
