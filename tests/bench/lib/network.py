"""Rows of the tcp transport: beside what copies and mirrors over ssh, rsync's daemon and Syncthing; bytes on the wire are those
that the loopback of the bench's own network namespace carried, in both directions, headers included."""

import filecmp
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from . import contenders, native, rows
from .contenders import BINARY, Fansyncd, Live, Lsyncd, PlainRsync, RemoteRsync, RemoteTar
from .measure import Arrival, Doorbell, Meter, NotEqual, Tree, descendants, pause, verify

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib"))
from fansync import await_fact, free_port  # noqa: E402

MIB = 1 << 20
RESIDENT_GOAL = 24


class Wire:
    """Bytes that went over the loopback since it was made."""

    def __init__(self):
        self.before = self._count()

    @staticmethod
    def _count():
        with open("/proc/thread-self/net/dev") as f:
            return int(re.search(r"lo:\s*(.*)", f.read()).group(1).split()[8])

    def mb(self):
        return (self._count() - self.before) / 1e6


def high_water(pid):
    """MiB, VmHWM; 0 when it is gone."""
    try:
        with open("/proc/%d/status" % pid) as f:
            return int(re.search(r"VmHWM:\s*(\d+)", f.read()).group(1)) / 1024
    except (FileNotFoundError, ProcessLookupError, AttributeError):
        return 0


# ---- who takes part ----

class Receiver:
    """`fansyncd --receive` with a module m0, m1, ... for each directory."""

    def __init__(self, keep, directories):
        self.port = free_port()
        keep += "-%d" % self.port
        os.makedirs(keep + "/keys", exist_ok=True)
        self.key = keep + "/keys/bench.key"
        with open(self.key, "w", opener=lambda p, f: os.open(p, f, 0o600)) as f:
            f.write(secrets.token_hex(32) + "\n")
        with open(keep + "/conf", "w") as f:
            f.write('settings = { nodaemon = true; stateDir = "%s/state"; logfile = "%s/log"; controlSocket = "%s/ctl"; };\n'
                    'receiver = { listen = [ "127.0.0.1:%d" ]; keys = "%s/keys"; maxConnections = 64; modules = ( %s ); };\n' % (
                        keep, keep, keep, self.port, keep,
                        ", ".join('{ name = "m%d"; path = "%s"; allow = [ "bench" ]; }' % (i, d)
                                  for i, d in enumerate(directories))))
        with open(keep + "/output", "wb") as out:
            self.process = subprocess.Popen([BINARY, "--receive", keep + "/conf"], stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=out)
        await_fact(self._listens, 60, "the receiver at port %d" % self.port)

    def _listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 2).close()
            return True
        except OSError:
            return False

    def sessions(self):
        return descendants(self.process.pid)[1:]

    def stop(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait()


class Tcp(Fansyncd):
    """A sender, and a receiver of its own for all its targets; or one for each of `split` and one for the others."""

    def __init__(self, name="fansyncd tcp", split=(), more=""):
        super().__init__("fansyncd tcp")
        self.name, self.split, self.more = name, split, more
        self.whole_seconds = False
        self.markers = 0

    def start(self, place, pairs):
        if not self.others:
            keep = place.keep(self.name.replace(" ", "-").replace(",", ""))
            together = [i for i in range(len(pairs)) if i not in self.split]
            self.at = {}
            for k, group in enumerate([[i] for i in self.split] + [together]):
                self.others.append(Receiver("%s/r%d" % (keep, k), [pairs[i][1] for i in group]))
                self.at.update({i: (self.others[-1], n) for n, i in enumerate(group)})
        super().start(place, pairs)

    def _section(self, i, source, target):
        receiver, module = self.at[i]
        return ('{ name = "s%d"; transport = "tcp"; source = "%s"; host = "127.0.0.1"; port = %d; module = "m%d"; '
                'key = "%s"; compress = true; delay = 0.0; %s }' % (i, source, receiver.port, module, receiver.key, self.more))

    def residents(self):
        """The most that a worker and a session ever held, in MiB."""
        sender = max([high_water(p) for p in descendants(self.process.pid)[1:]] or [0])
        return sender, max([high_water(p) for r in self.others for p in r.sessions()] or [0])

    def forget(self):
        """The sender begins anew: it remembers nothing of what it sent."""
        others, self.others = self.others, []
        self.stop()
        self.others = others


class RsyncDaemon(PlainRsync):
    """A run of rsync to a daemon. `more`: its further options."""

    remote = True
    name = "plain rsync to a daemon"

    def __init__(self, *more):
        super().__init__()
        self.more = list(more)
        if more:
            self.name += ", " + " ".join(more)

    def prepare(self, place):
        keep = place.keep("rsyncd")
        self.port = free_port()
        with open(keep + "/conf", "w") as f:
            f.write("use chroot = no\nport = %d\naddress = 127.0.0.1\n[m]\npath = %s\nread only = no\nuid = 0\ngid = 0\n" % (
                self.port, place.target("")))
        self.root = place.target("")
        with open(keep + "/output", "wb") as out:
            self.process = subprocess.Popen(["rsync", "--daemon", "--no-detach", "--config", keep + "/conf"],
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.others.append(self)
        await_fact(lambda: subprocess.run(["rsync", "rsync://127.0.0.1:%d/" % self.port], stdout=subprocess.DEVNULL,
                                          stderr=subprocess.DEVNULL, check=False).returncode == 0, 20, "rsync's daemon")

    def command(self, what, target):
        return ["rsync", "-a"] + self.more + [what, "rsync://127.0.0.1:%d/m/%s" % (self.port, os.path.relpath(target, self.root))]

    def stop(self):
        if self.others:
            self.process.terminate()
            self.process.wait()
        self.others = []


class Syncthing(Live):
    """Two of them, one that only sends and one that only receives, on loopback: no discovery, no relays, a watcher that waits as
    little as it can (a second)."""

    remote = True
    name = "syncthing"
    markers = 1  # entries that both ends have from the beginning

    def start(self, place, pairs):
        if len(pairs) != 1:
            raise NotEqual("one target only")
        if shutil.which("syncthing") is None:
            raise NotEqual("not installed")
        self.keep = place.keep("syncthing")
        ends = [{"home": self.keep + "/" + n, "folder": f, "kind": k} for n, f, k in
                (("a", pairs[0][0], "sendonly"), ("b", pairs[0][1], "receiveonly"))]
        for e in ends:
            e["gui"], e["port"] = free_port(), free_port()
            shutil.rmtree(e["home"], ignore_errors=True)
            done = subprocess.run(["syncthing", "generate", "--skip-port-probing", "--no-default-folder", "--home=" + e["home"]],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
            e["id"] = re.search(rb"([A-Z2-7]{7}-){7}[A-Z2-7]{7}", done.stdout).group(0).decode()
        for mine, other in (ends, ends[::-1]):
            self._configure(mine, other)
        os.makedirs(ends[0]["folder"] + "/.stfolder", exist_ok=True)
        os.makedirs(ends[1]["folder"] + "/.stfolder", exist_ok=True)
        self.ends, processes = ends, []
        for e in ends:
            with open(e["home"] + "/output", "wb") as out:
                processes.append(subprocess.Popen(["syncthing", "serve", "--no-browser", "--no-restart", "--no-upgrade",
                                                   "--home=" + e["home"]], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                                  env=dict(os.environ, HOME=e["home"])))
        self.started, self.process = time.perf_counter(), processes[0]
        self.output = ends[0]["home"] + "/output"
        self.others.append(Stoppable(processes[1]))

    @staticmethod
    def _configure(mine, other):
        path = mine["home"] + "/config.xml"
        with open(path) as f:
            version = re.search(r'<configuration version="(\d+)"', f.read()).group(1)
        with open(path, "w") as f:
            f.write("""<configuration version="%s">
<folder id="f" label="f" path="%s" type="%s" rescanIntervalS="3600" fsWatcherEnabled="true" fsWatcherDelayS="1" autoNormalize="true">
<filesystemType>basic</filesystemType><device id="%s"></device><device id="%s"></device><disableFsync>true</disableFsync>
<minDiskFree unit="%%">0</minDiskFree></folder>
<device id="%s" name="me" compression="metadata"><address>tcp://127.0.0.1:%d</address></device>
<device id="%s" name="it" compression="metadata"><address>tcp://127.0.0.1:%d</address></device>
<gui enabled="true" tls="false"><address>127.0.0.1:%d</address><apikey>bench</apikey></gui>
<options><listenAddress>tcp://127.0.0.1:%d</listenAddress><globalAnnounceEnabled>false</globalAnnounceEnabled>
<localAnnounceEnabled>false</localAnnounceEnabled><relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled>
<startBrowser>false</startBrowser><urAccepted>-1</urAccepted><crashReportingEnabled>false</crashReportingEnabled>
<autoUpgradeIntervalH>0</autoUpgradeIntervalH><reconnectionIntervalS>1</reconnectionIntervalS></options></configuration>
""" % (version, mine["folder"], mine["kind"], mine["id"], other["id"], mine["id"], mine["port"], other["id"], other["port"],
       mine["gui"], mine["port"]))

    def _completed(self, end, of):
        request = urllib.request.Request("http://127.0.0.1:%d/rest/db/completion?folder=f&device=%s" % (end["gui"], of["id"]),
                                         headers={"X-API-Key": "bench"})
        try:
            with urllib.request.urlopen(request, timeout=5) as got:
                return b'"completion": 100' in got.read()
        except (OSError, urllib.error.URLError):
            return False

    def compared(self):
        if self.process.poll() is not None:
            raise NotEqual("syncthing ended: " + self.tail())
        return self._completed(*self.ends)


class Stoppable:
    def __init__(self, process):
        self.process = process

    def stop(self):
        self.process.terminate()
        self.process.wait()


def await_compared(c, seconds=60):
    rows.await_true(c.compared, seconds, c.name + " has compared", 0.01)
    pause(rows.SETTLE)


# ---- a burst ----

WORDS = ("the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you "
         "were all her she there would their we him been has when who will no more if out so up said what its about than into "
         "them can only other time new some could these two may first then do any like my now over such our man me even most").split()


def text_of(r, n):
    out, size = [], 0
    while size < n:
        w = r.choice(WORDS) if r.random() < 0.8 else "w%d" % r.randrange(3000)
        out.append(w)
        size += len(w) + 1
    return " ".join(out)[:n].encode()


def write_text(root, files, dirs, seed, least=1024, most=8192):
    """As rows.write_tree, of words: each file other ones."""
    r = random.Random(seed)
    block = text_of(r, 1 << 20)
    os.makedirs(root, exist_ok=True)
    for d in range(dirs):
        at = "%s/d%04d" % (root, d)
        os.mkdir(at)
        for i in range(files // dirs):
            n, start = r.randint(least, most), r.randrange(len(block) - most)
            fd = os.open("%s/f%03d" % (at, i), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(fd, block[start:start + n])
            os.close(fd)


def written_and_equal(place, c, pair, write, limit):
    """-> seconds from the end of writing until equal, megabytes, the meter."""
    arrival, wire = Arrival(place.target(""), [pair[1]]), Wire()
    arrival.before -= c.markers
    with Meter(c.pids()) as meter:
        write(pair[0] + "/new")
        written = time.perf_counter()
        instant, _ = arrival.wait(Tree(pair[0]), limit)
    return max(0.0, instant - written), wire.mb(), meter


def noted(c, mb):
    note = "%.2f MB on the wire" % mb
    if isinstance(c, Tcp):
        note += "; at most %.1f MiB resident at the sender, %.1f at the receiver" % c.residents()
    return note


def live_burst(place, c, write, report):
    place.clear()
    c.markers = getattr(c, "markers", 0)
    pair = rows.pairs_of(place, 1)[0]
    try:
        c.start(place, [pair])
        await_compared(c)
        seconds, mb, meter = written_and_equal(place, c, pair, write, 120)
        verify(*pair)
        report.take(c.name, seconds, meter, noted(c, mb))
        if isinstance(c, Tcp):
            RESIDENT.append(c.residents())
    except NotEqual as e:
        report.failed(c.name, str(e))
    finally:
        c.stop()


def moved_burst(place, c, write, report):
    """A finished tree is moved into the source: nobody has a head start."""
    place.clear()
    pair = rows.pairs_of(place, 1)[0]
    made, name = place.source("made"), c.name + ", the tree moved in"
    write(made)
    try:
        c.start(place, [pair])
        await_compared(c)
        arrival, wire = Arrival(place.target(""), [pair[1]]), Wire()
        with Meter(c.pids()) as meter:
            begun = time.perf_counter()
            os.rename(made, pair[0] + "/new")
            instant, _ = arrival.wait(Tree(pair[0]), 120)
        verify(*pair)
        report.take(name, instant - begun, meter, noted(c, wire.mb()))
    except NotEqual as e:
        report.failed(name, str(e))
    finally:
        c.stop()


def plain_burst(place, c, write, report):
    place.clear()
    pair = rows.pairs_of(place, 1)[0]
    write(pair[0] + "/new")
    try:
        c.prepare(place)
        wire = Wire()
        seconds, meter = rows.run_plain(c, [pair])
        mb = wire.mb()
        verify(*pair, 10**9 if c.whole_seconds else 1)
        report.take(c.name, seconds, meter, "%.2f MB on the wire" % mb)
    except NotEqual as e:
        report.failed(c.name, str(e))
    finally:
        c.stop()


RESIDENT = []  # of every tcp sender and session in this run


def burst_of(place, size, report, what, write):
    files, dirs = size.burst
    floor = RemoteTar.name
    report.title("burst of %d files of %s in %d directories, until equal" % (files, what, dirs), unit="s", floor=floor)
    for i in size.repetitions():
        def make(root, seed=i):
            write(root, files, dirs, seed)
        for c in contenders.chosen([RemoteTar(), RsyncDaemon(), RemoteRsync()]):
            plain_burst(place, c, make, report)
        live_burst(place, Tcp(), make, report)
        moved_burst(place, Tcp(), make, report)
        if i == 0:
            for c in contenders.chosen([Lsyncd("lsyncd ssh", "ssh"), Syncthing()]):
                live_burst(place, c, make, report)
    for name in ("fansyncd tcp", "fansyncd tcp, the tree moved in"):
        report.goal("%s: burst of %s, times %s" % (name, what, floor), report.ratio(name, floor), 0.8)


def tcp_burst(place, size, report):
    burst_of(place, size, report, "random bytes", rows.write_tree)


def tcp_text(place, size, report):
    burst_of(place, size, report, "text", write_text)


# ---- a source tree ----

def tcp_sources(place, size, report):
    """Bytes of a first copy of a C source tree: the system's headers. On loopback nothing is to be gained by compression, and
    where that is left to the load it comes down: what a slower wire would see is a level that is fixed, as rsync's is."""
    origin, fixed = "/usr/include", "fansyncd tcp, compressLevel = 6"
    report.title("a C source tree (%s), first copy" % origin, unit="MB", floor="plain rsync to a daemon, -z")
    for _ in size.repetitions():
        for c in (RsyncDaemon("-z"), Tcp(), Tcp(fixed, more="compressLevel = 6;")):
            place.clear()
            pair = rows.pairs_of(place, 1)[0]
            made = place.source("made")
            shutil.copytree(origin, made, symlinks=True)
            try:
                if c.live:
                    c.start(place, [pair])
                    await_compared(c)
                    arrival, wire = Arrival(place.target(""), [pair[1]]), Wire()
                    begun = time.perf_counter()
                    os.rename(made, pair[0] + "/new")
                    seconds = arrival.wait(Tree(pair[0]), 120)[0] - begun
                else:
                    os.rename(made, pair[0] + "/new")
                    c.prepare(place)
                    wire = Wire()
                    seconds, _ = rows.run_plain(c, [pair])
                mb = wire.mb()
                with Meter([]) as meter:
                    pass
                report.take(c.name, mb, meter, "%.2f s" % seconds)
            except NotEqual as e:
                report.failed(c.name, str(e))
            finally:
                c.stop()
    report.goal(fixed + ": bytes of a source tree, times rsync -z", report.ratio(fixed, "plain rsync to a daemon, -z"), 1.0)


# ---- changes in a large file ----

def change_one(f, size, r):
    """1 MiB somewhere."""
    f.seek(r.randrange(size // MIB - 1) * MIB + r.randrange(4096))
    f.write(r.randbytes(MIB))


def change_scattered(f, size, r):
    """256 pieces of 4 KiB."""
    for page in r.sample(range(size // 4096), 256):
        f.seek(page * 4096)
        f.write(r.randbytes(4096))


def change_tail(f, size, r):
    f.seek(0, os.SEEK_END)
    f.write(r.randbytes(MIB))


def insert_front(f, size, r):
    """Everything moves."""
    f.seek(0)
    rest = f.read()
    f.seek(0)
    f.write(r.randbytes(1000))
    f.write(rest)


CHANGES = {
    "1 MiB changed": change_one,
    "256 changes of 4 KiB": change_scattered,
    "1 MiB appended": change_tail,
    "1000 bytes inserted at the front": insert_front,
}


def changed_once(c, pair, change, seed, report):
    path, there = pair[0] + "/large", pair[1] + "/large"
    r = random.Random("%s %s" % (change.__name__, seed))
    bell = Doorbell(pair[1])
    try:
        f = open(path, "r+b")
        change(f, os.path.getsize(path), r)
        f.flush()
        if c.live:
            wire = Wire()
            with Meter(c.pids()) as meter:
                begun = time.perf_counter()
                f.close()
                seconds = bell.wait_name("large", 120) - begun
                while os.stat(there).st_mtime_ns != os.stat(path).st_mtime_ns:
                    seconds = bell.wait_name("large", 120) - begun
        else:
            f.close()
            wire = Wire()
            pid = c.run(path, there)
            with Meter([pid]) as meter:
                begun = time.perf_counter()
                usage = os.wait4(pid, 0)[2]
                seconds = time.perf_counter() - begun
            meter.cpu = usage.ru_utime + usage.ru_stime
        mb = wire.mb()
        if not filecmp.cmp(path, there, shallow=False):
            raise NotEqual("other content")
        report.take(c.name, seconds, meter, noted(c, mb))
        report.take(c.name + ": MB", mb, None, "")
    except NotEqual as e:
        report.failed(c.name, str(e))
    finally:
        bell.close()


def tcp_delta(place, size, report):
    """One large file; each contender has its own pair, all at once on the file system as far as there is room: in turn."""
    mib = 64 if size.quick else 512
    everybody = [RemoteRsync, RsyncDaemon, Tcp, lambda: Tcp("fansyncd tcp, which sent nothing before"), Syncthing]
    floor = RemoteRsync.name
    for what, change in CHANGES.items():
        report.title("one file of %d MiB: %s" % (mib, what), unit="s", floor=floor)
        live = []
        for make in everybody:
            c = make()
            if contenders.ONLY is not None and c.live and c.name not in contenders.ONLY and not isinstance(c, Tcp):
                continue
            place.clear()
            pair = rows.pairs_of(place, 1)[0]
            native.write_large(pair[0] + "/large", mib, 1)
            try:
                if c.live:
                    c.start(place, [pair])
                    await_compared(c, 120)
                else:
                    c.prepare(place)
                    os.waitpid(c.run(pair[0] + "/", pair[1]), 0)
                for i in range(max(2, size.wanted)):
                    if "nothing before" in c.name:
                        c.forget()
                        c.start(place, [pair])
                        await_compared(c)
                    changed_once(c, pair, change, i, report)
                    if i == 0 and c.name == "syncthing":
                        break  # it waits seconds by itself: once is enough
                if isinstance(c, Tcp):
                    RESIDENT.append(c.residents())
                live.append(c.name)
            except NotEqual as e:
                report.failed(c.name, str(e))
            finally:
                c.stop()
        for name in live:
            if name.startswith("fansyncd"):
                report.goal("%s: %s, times rsync over ssh" % (name, what), report.ratio(name, floor), 1.0)
                report.goal("%s: %s, MB" % (name, what), report.median(name + ": MB"),
                            {"1 MiB changed": 1.15, "256 changes of 4 KiB": 24, "1 MiB appended": 1.1}.get(what))


# ---- latency, nothing to do ----

def tcp_latency(place, size, report):
    report.title("latency of one small file over the network (median, 95 %)", unit="ms", floor=RemoteRsync.name, percentile=True)
    everybody = contenders.chosen([Fansyncd("fansyncd ssh"), Lsyncd("lsyncd shared connection", "shared")])
    rows.latency_of(place, [Tcp()] + everybody + [RemoteRsync()], size.samples, report)
    report.goal("fansyncd tcp: latency, ms", report.median("fansyncd tcp", 1000), 1.5)
    values = sorted(report.table()["series"]["fansyncd tcp"].values)
    if values:
        report.goal("fansyncd tcp: latency of 95 %, ms", values[min(len(values) - 1, int(0.95 * len(values)))] * 1000, 5)


def tcp_unchanged(place, size, report):
    report.title("comparison of %d identical files in %d directories" % size.startup, unit="s", floor=PlainRsync.name)
    place.clear()
    pair = rows.pairs_of(place, 1)[0]
    rows.write_tree(pair[0], *size.startup, 1, 10, 100)
    rows.make_old(pair[0])
    os.waitpid(PlainRsync().run(pair[0] + "/", pair[1]), 0)
    names = ["fansyncd tcp: from its start", "fansyncd tcp: --sync-now"]
    for _ in size.repetitions():
        rows.startup_once(place, PlainRsync(), pair, report)
        c = RsyncDaemon()
        c.prepare(place)
        rows.startup_once(place, c, pair, report)
        c = Tcp()
        try:
            c.start(place, [pair])
            with Meter(c.pids()) as meter:
                seconds = rows.await_true(c.compared, 120, c.name + " has compared") - c.started
            report.take(names[0], seconds, meter, "")
            wire = Wire()
            with Meter(c.pids()) as meter:
                seconds = c.sync_now()
            report.take(names[1], seconds, meter, noted(c, wire.mb()))
            RESIDENT.append(c.residents())
        except NotEqual as e:
            report.failed(names[0], str(e))
        finally:
            c.stop()
    for name in names:
        report.goal("%s, times a no-change rsync" % name, report.ratio(name, PlainRsync.name), 0.4)


def tcp_million(place, size, report):
    """Memory while a million files are compared."""
    files, dirs = (100000, 2000) if size.quick else (1000000, 20000)
    report.title("comparison of %d identical files in %d directories: memory" % (files, dirs), unit="MiB", floor=None)
    place.clear()
    pair = rows.pairs_of(place, 1)[0]
    rows.write_tree(pair[0], files, dirs, 1, 0, 1)
    os.waitpid(PlainRsync().run(pair[0] + "/", pair[1]), 0)
    c = Tcp()
    try:
        c.start(place, [pair])
        seconds = rows.await_true(c.compared, 300, c.name + " has compared") - c.started
        for name, mib in zip(("sender", "receiver"), c.residents()):
            report.take(name, mib, None, "")
            report.goal("fansyncd tcp: a million files, MiB resident at the %s" % name, mib, RESIDENT_GOAL)
        report.goal("fansyncd tcp: a million files, s", seconds, None)
    except NotEqual as e:
        report.failed(c.name, str(e))
    finally:
        c.stop()


# ---- many targets ----

class LsyncdModules(Lsyncd):
    """lsyncd to a module of rsync's daemon for each target."""

    def __init__(self):
        super().__init__("lsyncd to a daemon", "daemon")

    def start(self, place, pairs):
        self.daemon = RsyncDaemon()
        self.daemon.prepare(place)
        super().start(place, pairs)

    def _section(self, source, target):
        return 'sync { default.rsync, target = "%s/", source = "%s", delay = 0, rsync = { archive = true } }' % (
            self.daemon.command("", target)[-1], source)

    def stop(self):
        super().stop()
        self.daemon.stop()


def fan_out_once(place, c, name, n, files, dirs, seed, report, stopped=False):
    place.clear()
    pairs = rows.pairs_of(place, n)
    counted = pairs[:-1] if stopped else pairs
    try:
        c.start(place, pairs)
        await_compared(c)
        if stopped:
            for pid in c.at[n - 1][0].sessions():
                os.kill(pid, signal.SIGSTOP)
        arrival = Arrival(place.target(""), [t for _, t in counted])
        with Meter(c.pids()) as meter:
            rows.write_tree(pairs[0][0] + "/new", files, dirs, seed)
            written = time.perf_counter()
            instant, _ = arrival.wait(Tree(pairs[0][0]), 240)
        seconds = max(0.0, instant - written)
        if stopped:
            for pid in c.at[n - 1][0].sessions():
                os.kill(pid, signal.SIGCONT)
            Arrival(place.target(""), []).wait(Tree(pairs[0][0]), 1)
            rows.await_true(lambda: not any(Tree(pairs[0][0]).missing(pairs[-1][1])), 60, "the one that was stopped is equal", 0.05)
        for pair in pairs:
            verify(*pair)
        report.take(name, seconds, meter, c.counters())
    except NotEqual as e:
        report.failed(name, str(e))
    finally:
        c.stop()


def tcp_targets(place, size, report):
    """One source, twenty targets; one of them stopped."""
    n, (_, files, dirs) = 20, size.fan_out
    report.title("%d tcp targets, %d files, until all are equal" % (n, files), unit="s", floor="lsyncd to a daemon")
    one, all_of, stopped = "fansyncd tcp, one target", "fansyncd tcp", "fansyncd tcp, one of them stopped: the others"
    for i in size.repetitions():
        fan_out_once(place, Tcp(), one, 1, files, dirs, i, report)
        fan_out_once(place, Tcp(), all_of, n, files, dirs, i, report)
        fan_out_once(place, Tcp("fansyncd tcp", (n - 1,)), stopped, n, files, dirs, i, report, stopped=True)
        if i == 0:
            fan_out_once(place, LsyncdModules(), "lsyncd to a daemon", n, files, dirs, i, report)
    series = report.table()["series"]
    if all(k in series and series[k].cpu for k in (one, all_of)):
        cpus = sorted(a / (n * b) for a, b in zip(series[all_of].cpu, series[one].cpu) if b > 0)
        report.goal("fansyncd tcp: CPU of %d targets, times %d single ones'" % (n, n), cpus[len(cpus) // 2], 1.05)
    report.goal("fansyncd tcp: %d targets, times lsyncd" % n, report.ratio(all_of, "lsyncd to a daemon"), 0.25)
    report.goal("fansyncd tcp: a target that is stopped, the others' time, times that with none stopped",
                report.ratio(stopped, all_of), None)
    for k, end in enumerate(("sender", "receiver")):
        report.goal("fansyncd tcp: the most MiB resident at a %s in this run" % end,
                    max((r[k] for r in RESIDENT), default=None), RESIDENT_GOAL)


ROWS = {
    "tcp-latency": tcp_latency,
    "tcp-burst": tcp_burst,
    "tcp-text": tcp_text,
    "tcp-sources": tcp_sources,
    "tcp-unchanged": tcp_unchanged,
    "tcp-delta": tcp_delta,
    "tcp-targets": tcp_targets,
    "tcp-million": tcp_million,
}
