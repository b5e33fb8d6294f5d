/*
 * rsync_exit.c - the one table of rsync's exit codes.
 *
 * A target that is missing or unreachable is down: its paths wait for the backoff, none of them is to blame; so it is
 * with a full one, unless rsync names the file. An
 * rsync that died is nobody's ordinary day: it is told, as everything is but ERR_AGAIN.
 */
#include "transports/rsync_exit.h"

#include <stddef.h>
#include <string.h>
#include <sys/wait.h>

static const struct rsync_outcome table[] = {
	{ 0, RSYNC_OK, ERR_NONE, "" },
	{ 1, RSYNC_CONFIG, ERR_CONFIG, "rsync does not accept its options: see rsync = { } of the sync" },
	{ 2, RSYNC_CONFIG, ERR_PROTOCOL, "the rsync at the target is incompatible, or its login shell prints text" },
	{ 3, RSYNC_DOWN, ERR_GONE, "rsync can't use the target directory: does its parent exist?" },
	{ 4, RSYNC_CONFIG, ERR_CONFIG, "the rsync at the target does not support or allow one of the options" },
	{ 5, RSYNC_DOWN, ERR_AUTH, "the rsync daemon refused us: module name, user or password" },
	{ 6, RSYNC_DOWN, ERR_IO, "the rsync daemon can't write its log" },
	{ 10, RSYNC_DOWN, ERR_NETWORK, "the connection to the rsync daemon failed" },
	{ RSYNC_EXIT_FILEIO, RSYNC_DOWN, ERR_IO, "rsync failed to read or write a file: is the target full?" },
	{ 12, RSYNC_DOWN, ERR_NETWORK, "the connection to the target's rsync broke" },
	{ 13, RSYNC_DOWN, ERR_IO, "rsync could not report its errors" },
	{ 14, RSYNC_RETRY, ERR_LIMIT, "rsync could not talk to its own processes" },
	{ 15, RSYNC_RETRY, ERR_IO, "a process of rsync crashed" },
	{ 16, RSYNC_RETRY, ERR_IO, "a process of rsync was terminated" },
	{ 19, RSYNC_RETRY, ERR_IO, "rsync received SIGUSR1" },
	{ 20, RSYNC_RETRY, ERR_IO, "rsync was interrupted" },
	{ 21, RSYNC_RETRY, ERR_IO, "rsync lost one of its processes" },
	{ 22, RSYNC_RETRY, ERR_NOMEM, "rsync ran out of memory" },
	{ 23, RSYNC_PARTIAL, ERR_IO, "rsync could not transfer everything" },
	{ 24, RSYNC_PARTIAL, ERR_AGAIN, "files vanished before they were sent" },
	{ 25, RSYNC_DELETE_STOP, ERR_UNSAFE, "more entries would have been deleted than the limit allows" },
	{ 30, RSYNC_DOWN, ERR_NETWORK, "rsync timed out while it sent or received" },
	{ 35, RSYNC_DOWN, ERR_NETWORK, "the rsync daemon did not answer in time" },
	{ 124, RSYNC_DOWN, ERR_NETWORK, "the remote command failed" },
	{ 125, RSYNC_DOWN, ERR_NETWORK, "the remote command was killed" },
	{ 126, RSYNC_DOWN, ERR_CONFIG, "the remote command could not be run" },
	{ 127, RSYNC_DOWN, ERR_CONFIG,
	  "there is no rsync at the target: install rsync there, or set rsync.rsync_path" },
	{ 255, RSYNC_DOWN, ERR_NETWORK, "ssh could not connect or log in" },
};

static const struct rsync_outcome unknown = { -1, RSYNC_RETRY, ERR_IO, "rsync ended with an unknown exit code" };
static const struct rsync_outcome killed = { -1, RSYNC_RETRY, ERR_IO, "rsync was killed by a signal" };

const struct rsync_outcome *rsync_outcome(int status)
{
	if (!WIFEXITED(status))
		return &killed;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].code == WEXITSTATUS(status))
			return &table[i];
	return &unknown;
}

/* rsync takes a connection that is lost before the daemon has answered for a refusal. Who was refused is told why.
 *
 * And it takes a source that changes under its hands for a peer that does not speak its language: all names of a file
 * with hard links that go before they are sent (Invalid packet), or a name of its list that becomes a directory. */
static const struct {
	int code;
	const char *words;
	struct rsync_outcome outcome;
} said_too[] = {
	{ 5,
	  "did not see server greeting",
	  { 5, RSYNC_DOWN, ERR_NETWORK, "the connection to the rsync daemon ended before its greeting" } },
	{ 5,
	  "didn't get server startup line",
	  { 5, RSYNC_DOWN, ERR_NETWORK, "the connection to the rsync daemon ended before its answer" } },
	{ 2,
	  "Invalid packet at end of run",
	  { 2, RSYNC_RETRY, ERR_AGAIN, "rsync lost count, as files with hard links vanished before they were sent" } },
	{ 2,
	  "invalid path from sender",
	  { 2, RSYNC_RETRY, ERR_AGAIN, "rsync refused a name, as the source changed while it was listed" } },
	{ 20, RSYNC_STUCK_WORDS, { 20, RSYNC_RETRY, ERR_AGAIN, "rsync was interrupted" } },
	{ 20, RSYNC_DEADLOCK_WORDS, { 20, RSYNC_RETRY, ERR_AGAIN, "rsync was interrupted" } },
	{ 20, RSYNC_SILENT_WORDS, { 20, RSYNC_RETRY, ERR_AGAIN, "rsync was interrupted" } },
};

const struct rsync_outcome *rsync_outcome_said(int status, const char *said)
{
	const struct rsync_outcome *o = rsync_outcome(status);

	for (size_t i = 0; i < sizeof(said_too) / sizeof(said_too[0]); i++)
		if (o->code == said_too[i].code && strstr(said, said_too[i].words) != NULL)
			return &said_too[i].outcome;
	return o;
}
