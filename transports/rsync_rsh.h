/*
 * rsync_rsh.h - the remote shell of an rsync that may not read its files (rsync_domain.h): rsync starts this program as
 * its remote shell (`--remote-shell`), which hands rsync's pipes and the words that rsync added to the worker, and the
 * worker starts the shell. What that needs of the host (keys, known_hosts, a ProxyCommand) is out of rsync's reach.
 *
 * rsync can ask for nothing but a command on the host that it was given: what the shell is called with otherwise is the
 * worker's. Never blocks, but for rsync_rsh_main.
 */
#ifndef FANSYNCD_TRANSPORTS_RSYNC_RSH_H
#define FANSYNCD_TRANSPORTS_RSYNC_RSH_H

#include <stdbool.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/loop.h"
#include "core/proc.h"
#include "transports/rsync_args.h"

/* What rsync is given, as descriptors 3 and 4, and what it is to be told with --rsh. */
enum { RSYNC_RSH_FD = 3, RSYNC_RSH_PROGRAM_FD = 4 };
#define RSYNC_RSH_WORDS "/proc/self/fd/4 --remote-shell"

struct rsync_rsh {
	struct loop *loop;
	const char *rsh, *dest, *program_there, *cwd; /* borrowed, for as long as it is open */
	char inet;				      /* '4' or '6': for ssh, which rsync would tell; else 0 */
	int fd, theirs, program;		      /* our end; rsync's, until it has it; this program. -1: none */
	struct loop_fd *source;
	struct buf asked;
	int pipes[3];	   /* rsync's, for the shell; -1: not here yet */
	struct proc shell; /* pid 0: it does not run */
};

/* Nothing of it is open. */
void rsync_rsh_init(struct rsync_rsh *r, struct loop *loop);
/* For one run of rsync to HOST:DIR or USER@HOST:DIR, whose shell is `rsh`, a text for --rsh, and that starts `program`
 * there. */
int rsync_rsh_open(struct rsync_rsh *r, const char *rsh, const char *dest, const char *program, const char *cwd,
		   struct err *err);
/* rsync has its descriptors, or will never have them. */
void rsync_rsh_given(struct rsync_rsh *r);
/* That run is over: a shell that still runs is ended. */
void rsync_rsh_close(struct rsync_rsh *r);

/* Whether `words`, separated by NUL, are what rsync adds for that target: a user of its own, the host, `program` (what
 * it was told with --rsync-path, or "rsync") and its arguments. ssh takes what looks like an option behind the host,
 * too. Pure. */
bool rsync_rsh_wanted(const char *dest, const char *program, const char *words, size_t len);

/* The mode `--remote-shell`: its exit status is the shell's. */
int rsync_rsh_main(int argc, char **argv);

#endif
