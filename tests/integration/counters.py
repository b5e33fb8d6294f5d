#!/usr/bin/env python3
# TIMEOUT: 300
"""What the counters of `--status --json` must say, so that nothing can pass by comparing or sending everything: after the start
there is no comparison, a moved directory is one rename, a removed one is one deletion, a file written a thousand times is sent
once, a batch is one rsync, and ssh logs in once a connection. With each watcher, over rsync and rsyncssh."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, Failure, Sshd, await_fact, expect_equal, main, own_file_system

FILES = 500


class Counted:
    """A daemon with one sync; `step` says what the counters of one change were."""

    def __init__(self, place, transport, watcher):
        self.source, self.target, self.transport = place + "/source", place + "/target", transport
        self.dirs = 4 if transport == "rsync" else 20  # 10,000 files where it is about what is not sent
        self.processes = 0 if transport == "direct" else 1
        os.makedirs(self.source)
        os.makedirs(self.target)
        self.sshd = Sshd(place + "/sshd").start() if transport == "rsyncssh" else None
        where = ('host = "127.0.0.1"; targetdir = "%s"; %s' % (self.target, self.sshd.section()) if self.sshd
                 else 'target = "%s";' % self.target)
        # The delay is longer than any step takes: what leaves earlier leaves because of --wait.
        self.daemon = Daemon(place, 'sync = ( { name = "s"; transport = "%s"; source = "%s"; %s delay = 60.0; watcher = "%s"; '
                             'rsync = { archive = true; }; } );\n' % (transport, self.source, where, watcher))

    def path(self, *parts):
        return os.path.join(self.source, *parts)

    def counters(self):
        counters = dict(self.daemon.sync("s")["counters"])
        counters.update(("because: " + cause, n) for cause, n in counters.pop("reconcile_causes").items())
        return counters

    def step(self, change):
        """Do it, have it served, and return what was added to each counter."""
        before = self.counters()
        change()
        self.daemon.wait(120)
        after = self.counters()
        return {k: v - before.get(k, 0) for k, v in after.items()}

    def stop(self):
        self.daemon.stop()
        if self.sshd:
            self.sshd.stop()


def expect(what, seen, **wanted):
    """These counters rose by so much, and none was a comparison that is not wanted."""
    reasons = {k: v for k, v in seen.items() if k.startswith("because: ") and v}
    wanted = dict({"reconciles": 0, "retries": 0, "rejected": 0, "overflows": 0, "worker_restarts": 0}, **wanted)
    wrong = {k: (seen[k], v) for k, v in wanted.items() if seen[k] != v}
    if wrong:
        raise Failure("%s: (seen, wanted): %s; compared %s; all: %s" % (what, wrong, reasons, {k: v for k, v in seen.items() if v}))


def fill(c):
    os.mkdir(c.path("deep"))
    for d in range(c.dirs):
        os.makedirs(c.path("tree", "d%d" % d))
        for f in range(FILES):
            with open(c.path("tree", "d%d" % d, "f%d" % f), "w") as out:
                out.write("%d %d\n" % (d, f))


def moved_directory(c):
    if c.transport != "rsync":
        seen = c.step(lambda: os.rename(c.path("tree"), c.path("deep", "er")))
        expect("a directory moved", seen, renames=1, files=0, bytes=0, deletions=0, batches=1, processes=c.processes, handshakes=0)
        seen = c.step(lambda: os.rename(c.path("deep", "er"), c.path("tree")))
        expect("and back", seen, renames=1, files=0, bytes=0, deletions=0, batches=1, processes=c.processes, handshakes=0)
    else:  # rsync alone can't rename: the new name is compared, the old one deleted, and nothing else
        seen = c.step(lambda: os.rename(c.path("tree", "d0"), c.path("deep", "er")))
        cause = "because: a rename that the target could not do"
        expect("a directory moved", seen, files=FILES, deletions=1, reconciles=seen.get(cause, 0), renames=0)
        seen = c.step(lambda: os.rename(c.path("deep", "er"), c.path("tree", "d0")))
        expect("and back", seen, files=FILES, deletions=1, reconciles=seen.get(cause, 0), renames=0)


def removed_directory(c):
    seen = c.step(lambda: shutil.rmtree(c.path("tree")))
    expect("a directory removed", seen, deletions=1, files=0, batches=1, processes=c.processes, handshakes=0)


def written_often(c):
    def write():
        for i in range(1000):
            with open(c.path("log"), "a") as f:
                f.write("line %d\n" % i)
    expect("1,000 writes", c.step(write), files=1, deletions=0, batches=1, processes=c.processes, handshakes=0)


def burst(c):
    """Names at the top and below, new directories, links, a removed file: one rsync all the same."""
    def write():
        for i in range(300):
            os.makedirs(c.path("new%d" % (i % 7)), exist_ok=True)
            for name in ("top%d" % i, "new%d/f%d" % (i % 7, i)):
                with open(c.path(name), "w") as f:
                    f.write("line %d\n" % i)
        for name in ("#no comment", ";nor this"):  # rsync would take them for one
            with open(c.path(name), "w") as f:
                f.write("x")
        os.symlink("log", c.path("link"))
    expect("a burst", c.step(write), files=602, deletions=0, batches=1, processes=c.processes, handshakes=0)


def connection_lost(c):
    c.sshd.cut()
    # Until it is known, rsync's ssh makes one of its own.
    await_fact(lambda: "closed by remote host" in c.daemon.tail(5), 20, "the loss is known")

    def write():
        with open(c.path("log"), "a") as f:
            f.write("after\n")
    seen = c.step(write)
    if seen["handshakes"] != 1 or seen["files"] != 1:
        raise Failure("after a lost connection: %s" % seen)


def counted(place, transport, watcher):
    c = Counted(place, transport, watcher)
    try:
        fill(c)
        c.daemon.start()
        start = c.counters()
        if start["reconciles"] != 1 or start.get("because: start") != 1 or start["files"] != c.dirs * FILES:
            raise Failure("at start: %s" % start)
        if start["handshakes"] != (1 if c.sshd else 0):
            raise Failure("handshakes at start: %s" % start)
        moved_directory(c)
        removed_directory(c)
        written_often(c)
        burst(c)
        if c.sshd:
            connection_lost(c)
        expect_equal(c.source, c.target, "at the end")
    except Failure as e:
        raise Failure("%s\n%s" % (e, c.daemon.tail(20))) from e
    finally:
        c.stop()


def direct_inotify(place):
    counted(place, "direct", "inotify")


def direct_fanotify(place):
    counted(place, "direct", "fanotify")


def rsync_inotify(place):
    counted(place, "rsync", "inotify")


def rsync_fanotify(place):
    counted(place, "rsync", "fanotify")


def rsyncssh_inotify(place):
    counted(place, "rsyncssh", "inotify")


def rsyncssh_fanotify(place):
    counted(place, "rsyncssh", "fanotify")


own_file_system()  # directories that others move or remove on the same one make a rename inexact for fanotify
main([direct_inotify, rsync_inotify, rsyncssh_inotify] + ([direct_fanotify, rsync_fanotify, rsyncssh_fanotify] if os.geteuid() == 0 else []))
