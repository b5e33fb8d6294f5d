#!/usr/bin/env python3
# SERIAL
"""A kernel queue that overflows while the daemon stands still: everything converges all the same, compared is what the queue was
for and nothing else, and the counters say why. inotify's queue is made tiny for as long as the daemon opens it (the limit of
a queue is fixed then); fanotify's is limited by settings.fanotifyQueue."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, Failure, await_fact, expect_equal, main, run, skip

LIMIT = "/proc/sys/fs/inotify/max_queued_events"
FANOTIFY_LIMIT = "/proc/sys/fs/fanotify/max_queued_events"


class Limit:
    """A sysctl set for the moment in which a queue is opened. It is everybody's: it is put back at once."""

    def __init__(self, path, value):
        self.path, self.value = path, value

    def __enter__(self):
        with open(self.path) as f:
            self.before = f.read()
        with open(self.path, "w") as f:
            f.write("%d\n" % self.value)

    def __exit__(self, *_):
        with open(self.path, "w") as f:
            f.write(self.before)


class Syncs:
    """Syncs NAME: WATCHER, each with a source and a target below `place`, or where `at` puts the source."""

    def __init__(self, place, watchers, at=(), settings=""):
        self.place, self.names = place, sorted(watchers)
        self.sources = {n: dict(at).get(n, place + "/source-" + n) for n in watchers}
        text = []
        for n in self.names:
            os.makedirs(self.sources[n], exist_ok=True)
            os.makedirs(self.target(n))
            for i in range(10):
                self.write(n, "d%d/f" % i, "start")
            text.append('{ name = "%s"; transport = "rsync"; source = "%s"; target = "%s"; watcher = "%s"; delay = 0.1; '
                        'rsync = { archive = true; }; }' % (n, self.sources[n], self.target(n), watchers[n]))
        self.daemon = Daemon(place, "")
        self.daemon.write_config("sync = ( %s );\n" % ", ".join(text), settings)

    def target(self, name):
        return self.place + "/target-" + name

    def write(self, name, path, text):
        path = os.path.join(self.sources[name], path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)

    def counters(self, name):
        return self.daemon.sync(name)["counters"]

    def stopped(self, body):
        """While the daemon sleeps."""
        pid = self.daemon.process.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            await_fact(lambda: open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()[0] == "T", 20, "a stopped daemon")
            body()
        finally:
            os.kill(pid, signal.SIGCONT)

    def flood(self, name):
        """More than any of the queues holds: new, moved, removed and changed entries, no two events alike."""
        for i in range(400):
            self.write(name, "d%d/flood%d" % (i % 10, i), "flood %d" % i)
        root = self.sources[name]
        os.rename(root + "/d1", root + "/moved")
        os.rename(root + "/d2/f", root + "/d3/g")
        run("rm", "-rf", root + "/d4")
        self.write(name, "d5/new/deep/file", "deep")
        self.write(name, "d6/f", "changed")

    def check(self, overflowed, undisturbed):
        self.daemon.wait(60)
        for n in self.names:
            expect_equal(self.sources[n], self.target(n), n)
        for n in overflowed:
            c = self.counters(n)
            causes = c["reconcile_causes"]
            if c["overflows"] < 1 or causes.get("overflow", 0) < 1 or set(causes) - {"start", "overflow"}:
                raise Failure("%s: %s" % (n, c))
        for n in undisturbed:
            c = self.counters(n)
            if c["overflows"] or c["reconciles"] != 1 or c["reconcile_causes"] != {"start": 1}:
                raise Failure("%s was disturbed: %s" % (n, c))

    def later(self):
        """The queue works again: changes are seen one by one, nothing more is compared."""
        before = {n: self.counters(n) for n in self.names}
        for n in self.names:
            self.write(n, "d7/later", "later")
        self.daemon.wait(60)
        for n in self.names:
            expect_equal(self.sources[n], self.target(n), n + " later")
            c = self.counters(n)
            if c["files"] != before[n]["files"] + 1 or c["reconciles"] != before[n]["reconciles"]:
                raise Failure("%s, later: %s, before %s" % (n, c, before[n]))


def checked(s, flooded, overflowed, undisturbed, quiet=()):
    """`quiet` are written to while the daemon sleeps, without a flood."""
    def changes():
        for n in quiet:
            s.write(n, "d8/quiet", "quiet")
        for n in flooded:
            s.flood(n)
    try:
        s.stopped(changes)
        s.check(overflowed, undisturbed)
        s.later()
    except Failure as e:
        raise Failure("%s\n%s" % (e, s.daemon.tail(30))) from e
    finally:
        s.daemon.stop()


def flooded(place, watcher, places, overflowed, others):
    """Sync "a" is flooded, its sources on file systems of the test's own: what others do elsewhere would fill the queue, too.
    `places`: which of them each sync's source is on; `others`: more syncs, by the other watcher."""
    limit, settings = (LIMIT, "") if watcher == "inotify" else (FANOTIFY_LIMIT, "fanotifyQueue = 64;")
    disks = sorted(set(places.values()))
    for disk in disks:
        os.makedirs(place + "/" + disk)
        run("mount", "-t", "tmpfs", "-o", "size=8m", "none", place + "/" + disk)
    try:
        watchers = {n: watcher for n in places}
        watchers.update((n, "inotify" if watcher == "fanotify" else "fanotify") for n in others)
        s = Syncs(place, watchers, {n: "%s/%s/source-%s" % (place, disk, n) for n, disk in places.items()}, settings)
        with Limit(limit, 64):
            s.daemon.start(wait=False)
            # A source's queue is opened before its first comparison begins.
            await_fact(lambda: all(s.counters(n)["batches"] > 0 for n in s.names), 30, "the watches")
        s.daemon.wait()
        rest = [n for n in s.names if n not in overflowed]
        checked(s, ["a"], overflowed, rest, rest)
    finally:
        for disk in disks:
            run("umount", place + "/" + disk)


def inotify_queue(place):
    """Two sources share the queue; a third, by fanotify, is none of its business, nor is one on another file system."""
    flooded(place, "inotify", {"a": "one", "b": "one", "c": "two"}, ["a", "b"], ["other"])


def fanotify_queue(place):
    flooded(place, "fanotify", {"a": "one", "b": "one", "c": "two"}, ["a", "b"], ["other"])


if os.geteuid() != 0:
    skip("needs root: sysctls, mounts, fanotify")
main([inotify_queue, fanotify_queue])
