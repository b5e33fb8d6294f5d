"""How much memory daemon, workers and receiver may take at the most: what docs/OPERATIONS.md ("Memory") and fansyncd.conf(5) (at
maxPending) promise, in MiB. Of PSS: what processes share is counted once. Of the ordinary program: a sanitizer takes many times that."""

from fansync import expect

DAEMON = 16  # and
SYNC = 0.25  # each,
DIRECTORIES = 24  # 100,000 of them watched by inotify, and
PENDING = 64  # 100,000 of them
WORKER_AT_REST = 8  # with the programs that it has started
WORKER = 16  # at work, and
ENTRIES = 64  # 100,000 of them in one directory, or in a batch
SESSION_AT_REST = 4
SESSION = 64  # at work, and ENTRIES


def daemon(pending, syncs=1, directories=0):
    return DAEMON + SYNC * syncs + (PENDING * pending + DIRECTORIES * directories) / 100000


def worker(entries):
    return WORKER + ENTRIES * entries / 100000


def receiver(entries):
    """Its daemon, and one session at work."""
    return DAEMON + SESSION + ENTRIES * entries / 100000


def held(who, taken, most, what=""):
    expect(taken <= most, "the %s took %.1f MiB, of at most %.1f: %s" % (who, taken, most, what))
