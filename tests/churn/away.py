#!/usr/bin/env python3
"""A target that is away while very many changes are made, and then comes back: away.py [--changes N] [--away S] [--seed N] [WATCHER/TRANSPORT...]

They are made as fast as it goes; with --away spread over that many seconds, and the pauses between attempts are the usual ones.

Writes down what daemon and worker need meanwhile: memory (PSS), processor time, descriptors; more memory than tests/lib/bounds.py allows is a
failure. Then everything has to be equal, by judge.py.
"""
import os
import random
import select
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import bounds
import cells
import judge
from fansync import Daemon, Failure, Receiver, Sshd, await_fact, children
from network import RsyncDaemon

WATCHERS = ("fanotify", "inotify")
TRANSPORTS = ("rsync", "rsyncssh", "sftp", "tcp")
WRITERS = 4
TOP, BELOW, FILES = 20, 25, 200  # 100,000 paths in 500 directories
NEW = 5  # directories in which no name comes twice
MAX_PENDING = 200000  # unless told


class Writer:
    """One process's part. Others have the same names."""

    def __init__(self, root, seed, number):
        self.root, self.random, self.number = root, random.Random(seed * 100 + number), number
        self.n = 0

    def directory(self):
        r = self.random
        return "%s/t%d/b%d" % (self.root, r.randrange(TOP), r.randrange(BELOW))

    def path(self):
        return "%s/f%d" % (self.directory(), self.random.randrange(FILES))

    def write(self):
        with open(self.path(), "wb") as f:
            f.write(b"%d" % self.n)

    def rename(self):
        os.rename(self.path(), self.path())

    def unlink(self):
        os.unlink(self.path())

    def rename_directory(self):
        """There and back again, or the tree would fall apart."""
        a = self.directory()
        b = "%s.moved.%d" % (a, self.number)
        os.rename(a, b)
        os.rename(b, a)

    def remove_directory(self):
        a = self.directory()
        os.rename(a, "%s.old.%d.%d" % (a, self.number, self.n))
        os.mkdir(a)

    def new_name(self):
        """As of a spool: files come, and most of them go."""
        at = "%s/new%d" % (self.root, self.random.randrange(NEW))
        with open("%s/%d-%d" % (at, self.number, self.n), "wb") as f:
            f.write(b"new")

    def old_name(self):
        at = "%s/new%d" % (self.root, self.random.randrange(NEW))
        for e in os.scandir(at):
            os.unlink(e.path)
            return

    TABLE = ((write, 40), (rename, 20), (unlink, 14), (new_name, 12), (old_name, 12), (rename_directory, 1.9), (remove_directory, 0.1))

    def run(self, changes, away=0):
        """`away`: for how many seconds; 0: as fast as it goes."""
        ops, weights = zip(*self.TABLE)
        began = time.monotonic()
        while self.n < changes:
            due = began + away * self.n / changes
            select.select([], [], [], max(0.0, due - time.monotonic()))
            for op in self.random.choices(ops, weights, k=100):
                try:
                    op(self)
                    self.n += 1
                except OSError:
                    pass


def write_much(root, seed, changes, watch, away=0):
    """That many changes by several processes; watch() is called again and again meanwhile."""
    pids = []
    for i in range(WRITERS):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                Writer(root, seed, i).run(changes // WRITERS, away)
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    ended, watched = [], 0.0

    def over():
        nonlocal watched
        for p in pids:
            if p not in ended and os.waitpid(p, os.WNOHANG)[0] == p:
                ended.append(p)
        if time.monotonic() > watched + away / 3600:
            watch()
            watched = time.monotonic()
        return len(ended) == len(pids)
    await_fact(over, 3600 + 2 * away, "the writers' end")


class Ruler:
    """What the daemon and its worker need."""

    def __init__(self, daemon):
        self.pid, self.peak = daemon.process.pid, {}
        self.began = self.cpu(self.pid)
        self.look()

    @staticmethod
    def cpu(pid):
        with open("/proc/%d/stat" % pid) as f:
            words = f.read().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def measure(self, who, pid):
        try:
            with open("/proc/%d/smaps_rollup" % pid) as f:
                pss = sum(int(line.split()[1]) for line in f if line.startswith("Pss:")) * 1024
            fds = len(os.listdir("/proc/%d/fd" % pid))
        except OSError:
            return
        for what, n in (("memory", pss), ("descriptors", fds)):
            self.peak[who, what] = max(self.peak.get((who, what), 0), n)

    def look(self):
        self.measure("daemon", self.pid)
        for pid in children(self.pid):
            self.measure("worker", pid)

    def line(self):
        mib = {k: v / 2 ** 20 for k, v in self.peak.items()}
        return "daemon %.1f MiB, %d descriptors, %.1f s of CPU; worker %.1f MiB, %d descriptors" % (
            mib["daemon", "memory"], self.peak["daemon", "descriptors"], self.cpu(self.pid) - self.began,
            mib.get(("worker", "memory"), 0), self.peak.get(("worker", "descriptors"), 0))


def server_of(place, transport, target):
    if transport == "rsync":
        return RsyncDaemon(place + "/rsyncd", target)
    if transport == "tcp":
        return Receiver(place + "/receiver", target)
    return Sshd(place + "/sshd", config="Subsystem sftp internal-sftp\n")


def where(server, transport, target):
    if transport == "rsync":
        return 'target = "rsync://127.0.0.1:%d/web";' % server.port
    if transport == "tcp":
        return server.section()
    return 'host = "127.0.0.1"; targetdir = "%s"; %s' % (target, server.section())


def prepare(source):
    for i in range(TOP):
        for j in range(BELOW):
            os.makedirs("%s/t%d/b%d" % (source, i, j))
    for i in range(NEW):
        os.makedirs("%s/new%d" % (source, i))


def settled(daemon):
    """What vanished under a transfer is looked at again, which --wait names."""
    end = time.monotonic() + 900
    while True:
        done = daemon.wait(900, check=False)
        if done.returncode == 0:
            return
        if b"will be tried again" not in done.stderr or time.monotonic() > end:
            raise Failure("--wait: exit %d: %s\n%s" % (done.returncode, done.stderr.decode(errors="replace"), daemon.tail()))


def bounded(ruler, watcher, limit):
    """What is promised of the memory. Each directory is there up to three times in the end: as renamed ones, and those left aside."""
    directories = 3 * (TOP * BELOW + TOP + NEW) if watcher == "inotify" else 0
    for who, most in (("daemon", bounds.daemon(limit, 1, directories)), ("worker", bounds.worker(limit))):
        bounds.held(who, ruler.peak.get((who, "memory"), 0) / 2 ** 20, most, ruler.line())


def one(place, watcher, transport, changes, seed, max_pending=None, away=0):
    """Returns a line of what was measured."""
    source, target = place + "/source", place + "/target"
    os.makedirs(target)
    prepare(source)
    server = server_of(place, transport, target).start()
    d = Daemon(place, "")
    d.write_config('sync = ( { name = "far"; transport = "%s"; source = "%s"; %s watcher = "%s"; delay = 0.1; %s %s '
                   'rsync = { archive = true; }; } );\n' % (transport, source, where(server, transport, target), watcher,
                                                            "" if away else "retryMin = 0.1; retryMax = 0.5;",
                                                            "maxPending = %d;" % max_pending if max_pending else ""))
    with open(d.config_path) as f:  # a million records need no line each
        text = f.read().replace('log = [ "Info", "Exec", "Record" ];', "")
    with open(d.config_path, "w") as f:
        f.write(text)
    running = True
    try:
        d.start()
        server.stop()
        running = False
        with open(source + "/the first", "w") as f:
            f.write("x")
        await_fact(lambda: d.sync("far")["state"] == "down", 60, "the state down")
        ruler, most = Ruler(d), [0, 0]
        before = dict(ruler.peak)

        def watch():
            ruler.look()
            s = d.sync("far")
            most[0], most[1] = max(most[0], s["pending"]), max(most[1], s["pending_renames"])
            if s["state"] != "down":
                raise Failure("it says %s of a target that is away" % s["state"])
        began = time.monotonic()
        write_much(source, seed, changes, watch, away)
        wrote = time.monotonic() - began
        await_fact(lambda: b"still being read" not in d.ask("wait", "--timeout", "0.1").stderr, 900, "the end of the kernel's events")
        watch()
        needed = ruler.line()
        events = d.sync("far")["watcher"]["events"]
        limit = max_pending or MAX_PENDING
        if most[0] > limit + 10:
            raise Failure("%d marks, of %d" % (most[0], limit))
        for who in ("daemon", "worker"):
            # While an rsync runs its worker holds what the domain is made of (transports/rsync_domain.h).
            held = 60 if who == "worker" and transport.startswith("rsync") else 0
            if ruler.peak.get((who, "descriptors"), 0) > before.get((who, "descriptors"), 0) + 20 + held:
                raise Failure("descriptors of the %s: %s, before %s" % (who, needed, before))
        bounded(ruler, watcher, limit)
        loud = [line for line in d.log().split("\n") if " Error: " in line or " Warn: " in line]
        if len(loud) > 20:
            raise Failure("%d errors and warnings:\n%s" % (len(loud), "\n".join(loud[:20])))
        server.start()
        running = True
        began = time.monotonic()
        settled(d)
        took = time.monotonic() - began
        ruler.look()
        bounded(ruler, watcher, limit)
        found = judge.compare(source, target, {"seconds"} if transport == "sftp" else ())
        if found:
            raise Failure("%s/%s seed %d: not equal:\n  %s\n%s" % (watcher, transport, seed, "\n  ".join(found), d.tail(25)))
        c = d.sync("far")["counters"]
        return ("%d changes in %.1f s, %d events; at most %d paths and %d renames pending; while away: %s; back in %.1f s, then: %s; "
                "compared %s" % (changes, wrote, events, most[0], most[1], needed, took, ruler.line(), c["reconcile_causes"]))
    finally:
        d.stop()
        if running:
            server.stop()


def all_of(place, names, seed, changes, **more):
    return cells.each((n, seed, lambda n=n: one("%s/%s" % (place, n.replace("/", "-")), *n.split("/"), changes, seed, **more)) for n in names)


if __name__ == "__main__":
    cells.main("a target that is away while very many changes are made", ["%s/%s" % (w, t) for t in TRANSPORTS for w in WATCHERS],
               all_of, changes=(1000000, "are made"), away=(0, "seconds that they are spread over"))
