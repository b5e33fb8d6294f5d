#!/usr/bin/env python3
"""How time, memory and descriptors grow with the size of what is mirrored: a table, and a failure where twice the size takes more than
2.3 times the processor time, of both ends: what else the machine does is not measured by that; or where more memory is taken than
tests/lib/bounds.py allows.

scale.py [--files N] [--wide N] [--syncs N] [--gib N] [ROW/TRANSPORT...]: rows are wide (so many files in one directory), many (so many, ten
in a directory), syncs (so many in one daemon), large (one file, half of it holes). Each is measured at half of it first. Without names
all; a part may be `*`. As root, in a tmpfs; large files lie in TMPDIR.
"""
import argparse
import fnmatch
import os
import shutil
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "churn"), os.path.join(HERE, "..", "lib")]
os.environ.setdefault("TESTDIR", tempfile.mkdtemp(prefix="fansyncd-soak."))
import away
import bounds
import judge
from fansync import TESTDIR, Daemon, Failure, children, own_file_system

TRANSPORTS = ("direct", "rsync", "rsyncssh", "sftp", "tcp")
MOST = 2.3
# Below this the clock and the machine are what is measured.
WORTH_S = 2.0
SMALL_TREE = 8192  # directories that `watcher = "auto"` watches by inotify at the most
BLOCK = 1 << 20


def cpu_of(pid):
    """Seconds of a process, its descendants, and those of them that have ended."""
    ticks = 0
    for p in [pid] + children(pid, every=True):
        try:
            with open("/proc/%d/stat" % p) as f:
                ticks += sum(map(int, f.read().rsplit(")", 1)[1].split()[11:15]))
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


class Ruler(away.Ruler):
    """Of a daemon with many workers: the sum of them. And of the receiver."""

    def __init__(self, daemon, receiver=None, server=None):
        self.receiver, self.server = receiver, server
        super().__init__(daemon)
        self.began_all = self.cpu_of_all()

    def cpu_of_all(self):
        return cpu_of(self.pid) + (cpu_of(self.server) if self.server else 0)

    def seconds(self):
        return self.cpu_of_all() - self.began_all

    def sum_of(self, who, pids):
        memory = descriptors = 0
        for pid in pids:
            try:
                with open("/proc/%d/smaps_rollup" % pid) as f:
                    memory += sum(int(line.split()[1]) for line in f if line.startswith("Pss:")) * 1024
                descriptors += len(os.listdir("/proc/%d/fd" % pid))
            except OSError:
                continue
        for what, n in (("memory", memory), ("descriptors", descriptors)):
            self.peak[who, what] = max(self.peak.get((who, what), 0), n)

    def look(self):
        self.sum_of("daemon", [self.pid])
        self.sum_of("workers", children(self.pid, every=True))
        if self.receiver:
            self.sum_of("receiver", [self.receiver] + children(self.receiver, every=True))

    def columns(self):
        return ["%.1f" % (self.peak.get((w, "memory"), 0) / 2 ** 20) for w in ("daemon", "workers", "receiver")] + [
            str(self.peak.get((w, "descriptors"), 0)) for w in ("daemon", "workers")]


class Place:
    def __init__(self, place, transport):
        self.place, self.transport = place, transport
        self.source, self.target = place + "/source", place + "/target"
        for d in (self.source, self.target):
            os.makedirs(d, exist_ok=True)
        self.server = None if transport == "direct" else away.server_of(place, transport, self.target).start()
        self.rows, self.peaks = [], []

    def section(self, name="far", source=None, target=None):
        target = target or self.target
        where = 'target = "%s";' % target if self.server is None else away.where(self.server, self.transport, target)
        return '{ name = "%s"; transport = "%s"; source = "%s"; %s delay = 0.1; rsync = { archive = true; sparse = true; }; }' % (
            name, self.transport, source or self.source, where)

    def configure(self, sections):
        self.daemon = Daemon(self.place, "")
        self.daemon.write_config("sync = ( %s );\n" % ",\n".join(sections))
        with open(self.daemon.config_path) as f:
            text = f.read().replace('log = [ "Info", "Exec", "Record" ];', "")
        with open(self.daemon.config_path, "w") as f:
            f.write(text)

    def timed(self, what, action):
        """action() ends in a wait for the daemon."""
        began = time.monotonic()
        ruler = action()
        self.peaks.append(ruler.peak)
        self.rows.append((what, time.monotonic() - began, ruler.seconds(), ruler.columns()))

    def ruler(self):
        """Of the server what serves one: a receiver's daemon, sshd or rsync."""
        receiver = self.server.daemon.process.pid if self.transport == "tcp" else None
        return Ruler(self.daemon, receiver, receiver or (self.server and self.server.process.pid))

    def start(self):
        self.daemon.start(wait=False)
        return self.until_equal(self.ruler())

    def until_equal(self, ruler):
        end = time.monotonic() + 3000
        while True:
            done = self.daemon.wait(1, check=False)
            ruler.look()
            if done.returncode == 0:
                return ruler
            if done.returncode != 2 or time.monotonic() > end:
                raise Failure("--wait: %d %s\n%s" % (done.returncode, done.stderr.decode(errors="replace"), self.daemon.tail()))

    def bounded(self, daemon, workers, receiver):
        """In MiB, at the most, all the time."""
        for who, most in (("daemon", daemon), ("workers", workers), ("receiver", receiver)):
            bounds.held(who, max(peak.get((who, "memory"), 0) for peak in self.peaks) / 2 ** 20, most)

    def stop(self):
        self.daemon.stop()
        if self.server:
            self.server.stop()


def fill(root, files, in_each):
    for i in range(files):
        if i % in_each == 0:
            d = "%s/d%d/e%d" % (root, i // in_each // 300, i // in_each)
            os.makedirs(d)
        with open("%s/f%d" % (d, i), "wb") as f:
            f.write(b"%d" % i)


def of_files(p, n, in_each):
    fill(p.source, n, in_each)
    p.configure([p.section()])
    p.timed("first: all is sent", p.start)
    p.daemon.stop()
    p.timed("again: nothing differs", p.start)

    def change():
        ruler = p.ruler()
        for base, _, files in os.walk(p.source):
            for f in files:
                if f.endswith("7"):
                    with open(base + "/" + f, "ab") as out:
                        out.write(b"more")
        return p.until_equal(ruler)
    p.timed("a tenth is written", change)
    found = judge.compare(p.source, p.target, {"seconds"} if p.transport == "sftp" else ())
    if found:
        raise Failure("not equal: %s" % found)

    def remove():
        ruler = p.ruler()
        for e in os.scandir(p.source):
            shutil.rmtree(e.path)
        with open(p.source + "/last", "w"):
            pass
        return p.until_equal(ruler)
    p.timed("all is deleted", remove)
    if os.listdir(p.target) != ["last"]:
        raise Failure("left: %s" % os.listdir(p.target)[:5])


def wide(p, n):
    of_files(p, n, n)
    pending = min(n, away.MAX_PENDING)
    p.bounded(bounds.daemon(pending), bounds.worker(n), bounds.receiver(n))


def many(p, n):
    of_files(p, n, 10)
    pending = min(n, away.MAX_PENDING)
    p.bounded(bounds.daemon(pending, 1, SMALL_TREE), bounds.worker(pending), bounds.receiver(pending))


def syncs(p, n):
    sections = []
    for i in range(n):
        source, target = "%s/s%d" % (p.source, i), "%s/t%d" % (p.target, i)
        os.makedirs(target)
        for j in range(20):
            os.makedirs("%s/d%d" % (source, j))
            with open("%s/d%d/f" % (source, j), "w") as f:
                f.write("x" * 100)
        if p.transport == "tcp":
            sections.append(p.section("s%d" % i, source).replace('module = "web";', 'module = "m%d";' % i))
        elif p.transport == "rsync":
            sections.append(p.section("s%d" % i, source).replace("/web", "/web/t%d" % i))
        else:
            sections.append(p.section("s%d" % i, source, target))
    if p.transport == "tcp":
        p.server.stop()
        with open(p.server.daemon.config_path) as f:
            text = f.read()
        modules = ", ".join('{ name = "m%d"; path = "%s/t%d"; allow = [ "web" ]; }' % (i, p.target, i) for i in range(n))
        with open(p.server.daemon.config_path, "w") as f:
            f.write(text[:text.index("modules =")].replace("receiver = {", "receiver = { maxConnections = %d;" % (n + 10)) + "modules = ( %s ); };\n" % modules)
        p.server.start()
    p.configure(sections)
    p.timed("first: all is sent", p.start)

    def change():
        ruler = p.ruler()
        for i in range(n):
            with open("%s/s%d/d%d/new" % (p.source, i, i % 20), "w") as f:
                f.write("y")
        return p.until_equal(ruler)
    p.timed("a file in each", change)
    p.bounded(bounds.daemon(0, n, 21 * n), n * bounds.WORKER_AT_REST, bounds.DAEMON + n * bounds.SESSION_AT_REST)
    for i in range(n):
        found = judge.compare("%s/s%d" % (p.source, i), "%s/t%d" % (p.target, i), {"seconds"} if p.transport == "sftp" else ())
        if found:
            raise Failure("s%d is not equal: %s" % (i, found))


def large(p, gib):
    path, size = p.source + "/large", int(gib * 2 ** 30)
    block = os.urandom(BLOCK)
    with open(path, "wb") as f:
        for at in range(0, size, 2 * BLOCK):
            f.seek(at)
            f.write(at.to_bytes(8, "big") + block[8:])
        f.truncate(size)
    p.configure([p.section()])
    p.timed("first: all is sent", p.start)

    def change():
        ruler = p.ruler()
        with open(path, "r+b") as f:
            for at in range(0, size, size // 16):
                f.seek(at + 100)
                f.write(b"changed")
        return p.until_equal(ruler)
    p.timed("16 places are written", change)
    found = judge.compare(p.source, p.target, {"seconds", "sparse"} if p.transport == "sftp" else {"sparse"})
    if found:
        raise Failure("not equal: %s" % found)


def measure(row, transport, sizes, base):
    """A table's lines, and what grew too much."""
    results, wrong = [], []
    for n in sizes:
        place = tempfile.mkdtemp(prefix="%s-%s-" % (row, transport), dir=base)
        p = Place(place, transport)
        try:
            {"wide": wide, "many": many, "syncs": syncs, "large": large}[row](p, n)
        finally:
            p.stop()
            shutil.rmtree(place, ignore_errors=True)
        results.append(p.rows)
    for i, (what, seconds, cpu, columns) in enumerate(results[-1]):
        half = results[0][i][2]
        ratio = cpu / max(half, 0.01)
        print("| %s | %g | %s | %.1f | %.1f | %.1f | %s | %s |" % (
            transport, sizes[-1], what, seconds, half, cpu, "%.2f" % ratio if cpu > WORTH_S else "-", " | ".join(columns)), flush=True)
        if ratio > MOST and cpu > WORTH_S:
            wrong.append("%s/%s %g, %s: %.1f s of CPU, half of it %.1f s" % (row, transport, sizes[-1], what, cpu, half))
    return wrong


def main():
    a = argparse.ArgumentParser(description="how time and memory grow with the size of what is mirrored")
    a.add_argument("--files", type=int, default=1000000)
    a.add_argument("--wide", type=int, default=100000)
    a.add_argument("--syncs", type=int, default=100)
    a.add_argument("--gib", type=float, default=10)
    a.add_argument("rows", nargs="*", metavar="ROW/TRANSPORT")
    args = a.parse_args()
    disk = tempfile.mkdtemp(prefix="fansyncd-soak.", dir=os.environ.get("TMPDIR", "/var/tmp"))
    if not own_file_system():
        print("skip: it mounts a file system: only root may")
        sys.exit(77)
    wrong = []
    try:
        for row, n in (("wide", args.wide), ("many", args.files), ("syncs", args.syncs), ("large", args.gib)):
            names = [t for t in TRANSPORTS if not args.rows or any(fnmatch.fnmatch("%s/%s" % (row, t), r) for r in args.rows)]
            if names:
                print("\n%s\n\n| transport | size | what | s | CPU s, half the size | CPU s | ratio | daemon MiB | workers MiB | receiver MiB | fds daemon | fds workers |\n"
                      "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |" % row, flush=True)
            for t in names:
                half = n / 2 if row == "large" else n // 2
                wrong += measure(row, t, (half, n), disk if row == "large" else TESTDIR)
    finally:
        shutil.rmtree(disk, ignore_errors=True)
    print("".join("\nnot linear: " + w for w in wrong))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
