"""Rows of the native transports: beside programs that only copy (tar, scp), and far away."""

import filecmp
import os
import random
import subprocess
import sys
import time

from . import contenders, rows
from .contenders import Fansyncd, Lsyncd, PlainRsync, RemoteRsync, RemoteTar, Scp, SftpPut, Tar, sshd_in
from .measure import Arrival, Doorbell, Meter, NotEqual, Tree, pause, verify

RELAY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib", "relay.py")
DELAY_MS = 25  # each way
SFTP = [n for n, spec in contenders.FANSYNCD.items() if spec[0] == "sftp"]


# ---- a burst, beside a plain copy ----

def moved_once(place, name, make, shape, seed, report):
    """A finished tree is moved into the source: nobody has a head start."""
    place.clear()
    pairs = rows.pairs_of(place, 1)
    c = make()
    made = place.source("made")
    rows.write_tree(made, *shape, seed)
    try:
        c.start(place, pairs)
        rows.await_true(c.compared, 60, c.name + " has compared")
        pause(rows.SETTLE)
        arrival = Arrival(place.target(""), [pairs[0][1]])
        tree = Tree(made, "new")
        with Meter(c.pids()) as meter:
            begun = time.perf_counter()
            os.rename(made, pairs[0][0] + "/new")
            instant, _ = arrival.wait(tree, 120)
        verify(*pairs[0], 10**9 if c.whole_seconds else 1)
        report.take(name, instant - begun, meter, c.counters())
    except NotEqual as e:
        report.failed(name, str(e))
    finally:
        c.stop()


def plain_once(place, c, shape, seed, report):
    place.clear()
    pairs = rows.pairs_of(place, 1)
    rows.write_tree(pairs[0][0] + "/new", *shape, seed)
    try:
        c.prepare(place)
        seconds, meter = rows.run_plain(c, pairs)
        verify(*pairs[0], 10**9 if c.whole_seconds else 1)
        report.take(c.name, seconds, meter, "")
    except NotEqual as e:
        report.failed(c.name, str(e))
    finally:
        c.stop()


def copies(place, size, report, ours, once, plain, goal):
    """`ours`: names; each a burst while it is written, and as a tree that is moved in. `once`: live ones, slow. The last of
    `plain` is the floor."""
    floor = plain[-1].name
    report.title("burst of %d files in %d directories, beside %s" % (size.burst + (floor,)), unit="s", floor=floor)
    for i in size.repetitions():
        for c in contenders.chosen([make() for make in plain]):
            plain_once(place, c, size.burst, i, report)
        for c in contenders.chosen([Fansyncd(n) for n in ours] + [make() for make in once if i == 0]):
            rows.burst_once(place, c, 1, *size.burst, i, 120, report)
        for c in contenders.chosen([Fansyncd(n) for n in ours]):
            moved_once(place, c.name + ", the tree moved in", lambda c=c: Fansyncd(c.name), size.burst, i, report)
    for name in ours:
        report.goal("%s: burst, times %s" % (name, floor), report.ratio(name, floor), goal)
        report.goal("%s: a tree that is moved in, times %s" % (name, floor), report.ratio(name + ", the tree moved in", floor),
                    goal)


def copy(place, size, report):
    """direct, beside tar | tar."""
    copies(place, size, report, ["fansyncd direct"], [], [PlainRsync, Tar], 1.5)


def copy_ssh(place, size, report):
    """sftp, beside tar | ssh tar."""
    copies(place, size, report, SFTP, [lambda: Lsyncd("lsyncd shared connection", "shared")], [RemoteRsync, RemoteTar], 1.2)


# ---- one large file ----

def write_large(path, mib, seed):
    block = random.Random(seed).randbytes(1 << 20)
    with open(path, "xb") as f:
        for i in range(mib):
            f.write(block[i:] + block[:i])


def large_once(place, c, mib, seed, report):
    place.clear()
    source, target = rows.pairs_of(place, 1)[0]
    made, name = place.source("made"), "large"
    write_large(made, mib, seed)
    try:
        if c.live:
            c.start(place, [(source, target)])
            rows.await_true(c.compared, 60, c.name + " has compared")
            pause(rows.SETTLE)
            bell = Doorbell(target)
            with Meter(c.pids()) as meter:
                begun = time.perf_counter()
                os.rename(made, source + "/" + name)
                seconds = bell.wait_name(name, 120) - begun
            bell.close()
        else:
            c.prepare(place)
            os.rename(made, source + "/" + name)
            pid = c.run(source + "/" + name, target + "/" + name)
            with Meter([pid]) as meter:
                begun = time.perf_counter()
                usage = os.wait4(pid, 0)[2]
                seconds = time.perf_counter() - begun
            meter.cpu = usage.ru_utime + usage.ru_stime
        if not filecmp.cmp(source + "/" + name, target + "/" + name, shallow=False):
            raise NotEqual("other content")
        report.take(c.name, seconds, meter, c.counters() if c.live else contenders.CIPHER)
    except NotEqual as e:
        report.failed(c.name, str(e))
    finally:
        c.stop()


def large(place, size, report):
    """One file, from its rename into the source until it has its name at the target; beside a run of scp."""
    report.title("one file of %d MiB over ssh" % size.file_mib, unit="s", floor=Scp.name)
    for i in size.repetitions():
        for c in contenders.chosen([Scp()] + [Fansyncd(n) for n in SFTP]):
            large_once(place, c, size.file_mib, i, report)
    for name in SFTP:
        report.goal("%s: one file of %d MiB, times scp" % (name, size.file_mib), report.ratio(name, Scp.name), 1.1)


# ---- nothing to do ----

def unchanged(place, size, report):
    """A whole comparison of equal trees: from a start, and as --sync-now asks for it."""
    report.title("comparison of %d identical files in %d directories" % size.startup, unit="s", floor=PlainRsync.name)
    place.clear()
    pair = rows.pairs_of(place, 1)[0]
    rows.write_tree(pair[0], *size.startup, 1, 10, 100)
    rows.make_old(pair[0])
    os.waitpid(PlainRsync().run(pair[0] + "/", pair[1]), 0)
    names = ["fansyncd direct: from its start", "fansyncd direct: --sync-now"]
    for _ in size.repetitions():
        rows.startup_once(place, PlainRsync(), pair, report)
        c = Fansyncd("fansyncd direct")
        try:
            c.start(place, [pair])
            with Meter(c.pids()) as meter:
                seconds = rows.await_true(c.compared, 120, c.name + " has compared") - c.started
            report.take(names[0], seconds, meter, "")
            with Meter(c.pids()) as meter:
                seconds = c.sync_now()
            report.take(names[1], seconds, meter, "")
        except NotEqual as e:
            report.failed(names[0], str(e))
        finally:
            c.stop()
    for name in names:
        report.goal("%s, times a no-change rsync" % name, report.ratio(name, PlainRsync.name), 0.3)


# ---- far away ----

class Relay:
    """tests/lib/relay.py as a process: it shares no interpreter with the ruler."""

    def __init__(self, port):
        self.process = subprocess.Popen([sys.executable, RELAY, str(port), str(DELAY_MS)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.port = int(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def write_far(root, shape, seed):
    rows.write_tree(root, *shape, seed, 4096, 4096)


def far_once(place, name, shape, seed, report):
    place.clear()
    pair = rows.pairs_of(place, 1)[0]
    c = Fansyncd(name)
    c.others.append(sshd_in(place.keep(name.replace(" ", "-"))))
    relay = Relay(c.others[0].port)
    c.far_port = relay.port
    try:
        c.start(place, [pair])
        rows.await_true(c.compared, 60, c.name + " has compared")
        pause(rows.SETTLE)
        arrival = Arrival(place.target(""), [pair[1]])
        begun = time.perf_counter()
        write_far(pair[0] + "/new", shape, seed)
        report.take(name + ": new files", arrival.wait(Tree(pair[0]), 120)[0] - begun, None, "")
        verify(*pair, 10**9)
        report.take(name + ": --sync-now, nothing changed", c.sync_now(), None, "")
    except NotEqual as e:
        report.failed(name + ": new files", str(e))
    finally:
        c.stop()
        relay.stop()


def far_put(place, shape, report):
    """A tenth of it, and what that makes for all."""
    place.clear()
    source, target = rows.pairs_of(place, 1)[0]
    write_far(source + "/new", (shape[0] // 10, shape[1] // 10), 0)
    sshd = sshd_in(place.keep("put"))
    relay = Relay(sshd.port)
    known = sshd.known_hosts + ".far"
    with open(sshd.known_hosts) as f, open(known, "w") as out:
        out.write(f.read().replace(":%d" % sshd.port, ":%d" % relay.port))
    try:
        begun = time.perf_counter()
        SftpPut(sshd, relay.port, known).put(source + "/new", target + "/")
        report.take("sftp put -r, ten times a tenth", 10 * (time.perf_counter() - begun), None, "")
    except subprocess.CalledProcessError as e:
        report.failed("sftp put -r, ten times a tenth", str(e))
    finally:
        relay.stop()
        sshd.stop()


def far(place, size, report):
    """Through a relay that delays each direction."""
    files, dirs = size.far
    report.title("%d files of 4 KiB in %d directories, %d ms away each way" % (files, dirs, DELAY_MS), unit="s", floor=None)
    if contenders.ONLY is None or "sftp put -r" in contenders.ONLY:
        far_put(place, size.far, report)
    for i in size.repetitions():
        for c in contenders.chosen([Fansyncd(n) for n in SFTP]):
            far_once(place, c.name, size.far, i, report)
    for name in SFTP:
        report.goal("%s: new files far away, s" % name, report.median(name + ": new files"), 3)
        report.goal("%s: comparison far away, s" % name, report.median(name + ": --sync-now, nothing changed"), 1.5)


ROWS = {
    "latency": rows.latency,
    "latency-ssh": rows.latency_ssh,
    "burst": rows.burst,
    "startup": rows.startup,
    "targets": rows.targets,
    "elsewhere": rows.elsewhere,
    "copy": copy,
    "copy-ssh": copy_ssh,
    "large": large,
    "unchanged": unchanged,
    "far": far,
}
# Rows whose figures hang on the file system so little that one kind is enough.
TMPFS_ONLY = ("latency-ssh", "copy-ssh", "large", "far")
USUAL = ("latency", "latency-ssh", "burst", "startup", "targets", "elsewhere")
NATIVE = ("latency", "latency-ssh", "copy", "copy-ssh", "large", "unchanged", "far")
CONTENDERS = ["fansyncd direct", "lsyncd", "lsyncd shared connection", "sftp put -r"] + SFTP
