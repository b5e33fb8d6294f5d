#!/usr/bin/env python3
"""What can't be replaced and what can't be deleted, found by one comparison, again and again: whoever waits is told of both, and of
nothing else; and once it can be done it is."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, await_fact, expect, main, own_file_system, put, run, skip

NAMED = (b"f1: rename", b"f2: unlink")


def exercise(place, ask):
    """A mount on a name keeps it where it is, from root as well."""
    source, target = place + "/source", place + "/target"
    os.makedirs(source)
    os.makedirs(target)
    put(source + "/f1", "new")
    put(source + "/f3", "new")
    for name in ("f1", "f2"):
        put(target + "/" + name, "old")
        run("mount", "--bind", target + "/" + name, target + "/" + name)
    daemon = Daemon(place, 'sync = ( { name = "w"; transport = "direct"; source = "%s"; target = "%s"; retryMin = 0.05; retryMax = 0.1; } );\n'
                    % (source, target))
    try:
        ask(daemon)
        expect(os.path.exists(target + "/f3"), "the rest arrived")
        for name in ("f1", "f2"):
            run("umount", target + "/" + name)
        done = daemon.client("--sync-now")
        expect(not os.path.exists(target + "/f2"), "deleted at last: %s" % done.stderr)
    finally:
        daemon.stop()


def told(done):
    expect(done.returncode == 1, "exit %d: %s" % (done.returncode, done.stderr.decode(errors="replace")))
    for text in NAMED:
        expect(text in done.stderr, "%s is named: %s" % (text, done.stderr))


def once(place):
    exercise(place, lambda daemon: told(daemon.client("--sync-now", check=False, timeout=60)))


def running(place):
    def ask(daemon):
        daemon.start(wait=False)
        # Both have failed some times, each in turn.
        await_fact(lambda: daemon.sync("w")["counters"]["retries"] >= 8, 30, "it is tried again")
        for _ in range(3):
            told(daemon.client("--wait", "--timeout", "20", check=False))
            told(daemon.client("--sync-now", check=False, timeout=60))
    exercise(place, ask)


def more_than_are_named(place):
    """Those that are only counted are over with the others: whoever waits then is told of none."""
    source, target = place + "/source", place + "/target"
    os.makedirs(source)
    os.makedirs(target)
    put(source + "/first", "x")
    run("mount", "-t", "tmpfs", "-o", "nr_inodes=50", "none", target)
    daemon = Daemon(place, 'sync = ( { name = "w"; transport = "direct"; source = "%s"; target = "%s"; retryMin = 0.1; retryMax = 0.2; } );\n'
                    % (source, target))
    try:
        daemon.start()
        for i in range(1100):
            put("%s/%d" % (source, i), "")
        await_fact(lambda: daemon.sync("w")["failures_unnamed"] > 0, 30, "some are not named")
        done = daemon.wait(20, check=False)
        expect(done.returncode == 1 and b"more failures" in done.stderr, "exit %d: %s" % (done.returncode, done.stderr[-300:]))
        run("mount", "-o", "remount,nr_inodes=5000", target)
        await_fact(lambda: daemon.sync("w")["pending"] == daemon.sync("w")["in_flight"] == 0, 60, "all are done")
        expect(len(os.listdir(target)) == 1101, "%d arrived" % len(os.listdir(target)))
        done = daemon.wait(20, check=False)
        expect(done.returncode == 0, "exit %d: %s" % (done.returncode, done.stderr[-300:]))
    finally:
        daemon.stop()
        run("umount", target)


if not own_file_system():
    skip("it mounts: only root may")
main([once, running, more_than_are_named])
