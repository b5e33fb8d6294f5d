#!/usr/bin/env python3
# TIMEOUT: 400
"""What there is too little of: space, inodes, a quota, at the target, of the state and of the log; a target that is read-only for a
while; descriptors; processes; watches. It is named, with its path; what can be done is done; nothing is left half done; and when there
is enough again it goes on by itself."""
import glob
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import fansync
from fansync import (Daemon, Failure, Receiver, Skipped, Sshd, await_fact, children, differences, expect, main, own_file_system, put,
                     reachable, run, skip, tree, whole_seconds)

TEMP = ".fansyncd~tmp"
WAIT = float(os.environ.get("WAIT", "120"))
RETRY = "retryMin = 0.1; retryMax = 0.5;"


class Place:
    """A source, and a target that is a file system of its own, with as little on it as `options` say."""

    def __init__(self, place, transport, options="size=2m", more="", prefix=(), settings="", log=None):
        self.place, self.transport = place, transport
        self.source, self.target = place + "/source", place + "/target"
        os.makedirs(self.source)
        os.makedirs(self.target, exist_ok=True)
        if options:
            run("mount", "-t", "tmpfs", "-o", options, "none", self.target)
        self.sshd = self.receiver = None
        if transport in ("rsyncssh", "sftp"):
            self.sshd = Sshd(place + "/sshd", config="Subsystem sftp internal-sftp\n").start()
            where = 'host = "127.0.0.1"; targetdir = "%s"; %s' % (self.target, self.sshd.section())
        elif transport == "tcp":
            self.receiver = Receiver(place + "/receiver", self.target, prefix=prefix).start()
            where = self.receiver.section()
        else:
            where = 'target = "%s";' % self.target
        self.daemon = Daemon(place, "", prefix=prefix if not self.receiver else ())
        self.daemon.log_path = log or self.daemon.log_path
        self.daemon.write_config('sync = ( { name = "s"; transport = "%s"; source = "%s"; %s delay = 0.02; watcher = "inotify"; %s '
                                 'rsync = { archive = true; }; %s } );\n' % (transport, self.source, where, RETRY, more), settings)

    def write(self, name, size, fill=b"x"):
        path = os.path.join(self.source, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(self.place + "/new", "wb") as f:
            f.write(fill * size)
        os.rename(self.place + "/new", path)  # no state of it in between is there to be mirrored

    def has(self, name, size):
        try:
            return os.stat(os.path.join(self.target, name)).st_size == size
        except FileNotFoundError:
            return False

    def failures(self):
        return {f["path"]: f["reason"] for f in self.daemon.sync("s")["failures"]}

    def await_fact(self, fact, what):
        try:
            return await_fact(fact, WAIT, what)
        except Failure as e:
            raise Failure("%s\n%s\n%s" % (e, self.daemon.sync("s"), self.daemon.tail(40)))

    def failing(self, name, word):
        self.await_fact(lambda: word in self.failures().get(name, ""), "%s fails: %s" % (name, word))

    def left(self):
        """Temporary files; those of rsync as well."""
        return [os.path.join(p, n) for p, _, names in os.walk(self.target) for n in names
                if n.endswith(TEMP) or (self.transport.startswith("rsync") and n.startswith("."))]

    def retried(self, more=2):
        before = self.daemon.sync("s")["counters"]["retries"]
        self.await_fact(lambda: self.daemon.sync("s")["counters"]["retries"] >= before + more, "it is tried again")

    def equal(self, what):
        try:
            await_fact(lambda: self.daemon.wait(5, check=False).returncode == 0 and not self.differences(), WAIT, what)
        except Failure as e:
            raise Failure("%s: %s\n%s" % (e, self.differences(), self.daemon.tail(40)))
        expect(not self.failures(), "%s: still named: %s" % (what, self.failures()))
        expect(not self.left(), "%s: left: %s" % (what, self.left()))

    def differences(self):
        a, b = tree(self.source), tree(self.target)
        return differences(whole_seconds(a), whole_seconds(b)) if self.transport == "sftp" else differences(a, b)

    def stop(self):
        self.daemon.stop()
        for other in (self.receiver, self.sshd):
            if other:
                other.stop()


# ---- the target's space ----

def full(place, transport, p=None, word="No space left on device", more_space=None):
    p = p or Place(place, transport)
    try:
        for i in range(5):
            p.write("d/f%d" % i, 5000)
        p.daemon.start()
        p.equal("before")
        p.write("d/large", 5000000)
        if transport == "sftp":  # its server says "Failure", and is asked for its space, which has nothing to do with a quota
            word = "the server says: Failure" if more_space else "space"
        p.failing("d/large", word)
        expect("d/large" in p.daemon.log() and word in p.daemon.log(), "named in the log")
        p.write("d/small", 6000)
        p.write("e/other", 7000)
        os.unlink(p.source + "/d/f0")
        p.await_fact(lambda: p.has("d/small", 6000) and p.has("e/other", 7000) and not os.path.exists(p.target + "/d/f0"), "what fits")
        p.retried()
        # Between two attempts nothing is there that takes the space away.
        p.await_fact(lambda: not p.left(), "nothing is left of what does not fit: %s" % p.left())
        expect(not os.path.exists(p.target + "/d/large"), "no part of it under its name: %s\n%s" % (os.listdir(p.target + "/d"), p.daemon.tail(60)))
        done = p.daemon.wait(30, check=False)
        expect(done.returncode == 1 and b"d/large" in done.stderr and word.encode() in done.stderr,
               "--wait: %d %s" % (done.returncode, done.stderr))
        if more_space:
            more_space()
        else:
            run("mount", "-o", "remount,size=20m", p.target)
        p.equal("with more space")
    finally:
        p.stop()


def full_direct(place):
    full(place, "direct")


def full_tcp(place):
    full(place, "tcp")


def full_sftp(place):
    full(place, "sftp")


def full_rsync(place):
    full(place, "rsync")


def full_rsyncssh(place):
    full(place, "rsyncssh")


def replaced_on_a_full_disk(place, transport):
    """What does not fit any more does not harm what is there."""
    p = Place(place, transport)
    try:
        p.write("f", 900000)
        p.daemon.start()
        p.equal("before")
        p.write("f", 1500000, b"y")
        p.failing("f", "space")
        p.retried()
        with open(p.target + "/f", "rb") as f:
            expect(f.read() == b"x" * 900000, "the old one is whole")
        p.write("f", 800000, b"z")  # it fits
        p.equal("one that fits")
    finally:
        p.stop()


def replaced_direct(place):
    replaced_on_a_full_disk(place, "direct")


def replaced_sftp(place):
    replaced_on_a_full_disk(place, "sftp")


def replaced_tcp(place):
    replaced_on_a_full_disk(place, "tcp")


def replaced_rsync(place):
    replaced_on_a_full_disk(place, "rsync")


def no_inodes(place, transport):
    p = Place(place, transport, "size=20m,nr_inodes=30")
    try:
        for i in range(3):
            p.write("d%d/f" % i, 10)
        p.daemon.start()
        p.equal("before")
        for i in range(40):
            p.write("many/%d" % i, 10)
        os.symlink("x", p.source + "/link")
        p.await_fact(lambda: any("No space left on device" in r for r in p.failures().values()), "it is named")
        p.write("d0/f", 20)
        os.unlink(p.source + "/d1/f")
        p.retried()
        run("mount", "-o", "remount,nr_inodes=200", p.target)
        p.equal("with more inodes")
    finally:
        p.stop()


def no_inodes_direct(place):
    no_inodes(place, "direct")


def no_inodes_rsync(place):
    no_inodes(place, "rsync")


def over_quota(place, transport):
    """btrfs has quotas that hold for root as well."""
    with open("/proc/filesystems", encoding="ascii") as f:
        if "btrfs" not in f.read().split():
            raise Skipped("no btrfs")
    at = place + "/disk"
    os.makedirs(at)
    with open(place + "/image", "wb") as f:
        f.truncate(256 << 20)
    run("mkfs.btrfs", "-q", place + "/image")
    run("mount", "-o", "loop", place + "/image", at)
    try:
        run("btrfs", "subvolume", "create", at + "/target")
        run("btrfs", "quota", "enable", at)
        run("btrfs", "qgroup", "limit", "3m", at + "/target")
        os.makedirs(place + "/target")
        run("mount", "--bind", at + "/target", place + "/target")
        full(place, transport, Place(place, transport, ""), "quota exceeded",
             lambda: run("btrfs", "qgroup", "limit", "none", at + "/target"))
    finally:
        run("umount", "-l", at)


def over_quota_direct(place):
    over_quota(place, "direct")


def over_quota_rsync(place):
    over_quota(place, "rsync")


def over_quota_tcp(place):
    over_quota(place, "tcp")


def over_quota_sftp(place):
    over_quota(place, "sftp")


class Host:
    """One of two that mirror their trees to each other, with little space for its tree."""

    def __init__(self, place, name):
        self.place, self.name, self.tree = place, name, "%s/%s" % (place, name)
        os.makedirs(self.tree)
        run("mount", "-t", "tmpfs", "-o", "size=2m,mode=755", "none", self.tree)
        self.daemon, self.port = Daemon("%s/daemon-%s" % (place, name), ""), fansync.free_port()

    def configure(self, other, transport):
        receiver, where = "", 'target = "%s";' % other.tree
        if transport == "tcp":
            receiver = 'receiver = { listen = [ "127.0.0.1:%d" ]; modules = ( { name = "tree"; path = "%s"; } ); };\n' % (self.port, self.tree)
            where = 'host = "127.0.0.1"; port = %d; module = "tree";' % other.port
        self.daemon.write_config(receiver + 'sync = ( { name = "%s"; transport = "%s"; source = "%s"; %s bidirectional = true; delay = 0.02; '
                                 'watcher = "inotify"; %s } );\n' % (self.name, transport, self.tree, where, RETRY))

    def put(self, path, size, fill=b"x"):
        """At once, or not at all."""
        new = "%s/%s%s" % (self.tree, path, TEMP)
        os.makedirs(os.path.dirname(new), exist_ok=True)
        with open(new, "wb") as f:
            f.write(fill * size)
        os.rename(new, "%s/%s" % (self.tree, path))

    def failures(self):
        return {f["path"]: f["reason"] for f in self.daemon.sync(self.name)["failures"]}

    def space(self, size):
        run("mount", "-o", "remount,size=" + size, self.tree)


def full_both_ways(place, transport):
    """The tree of either host is full in its turn: what does not fit there is named with its reason; that it could not come is no
    deletion, and what is there stays whole."""
    a, b = hosts = Host(place, "a"), Host(place, "b")
    both = "a %s, b %s"

    def same(what, files):
        def so():
            return names(a.tree) == names(b.tree) == files and not any(
                n.endswith(TEMP) for h in hosts for _, _, found in os.walk(h.tree) for n in found)
        try:
            await_fact(so, WAIT, what)
        except Failure as e:
            raise Failure("%s: %s\n%s\n%s" % (e, both % tuple({k: len(v or b"") for k, v in names(h.tree).items()} for h in hosts),
                                             a.daemon.tail(40), b.daemon.tail(40)))

    for h, other in ((a, b), (b, a)):
        h.configure(other, transport)
    try:
        files = {"d": None, "d/old": b"x" * 900000, "d/small": b"x" * 10}
        a.put("d/old", 900000)
        a.put("d/small", 10)
        for h in hosts:
            h.daemon.start(wait=False)
        same("before", files)
        for h, full, fill in ((a, b, b"y"), (b, a, b"z")):
            name = "d/large-%s" % h.name
            h.space("20m")
            h.put(name, 5000000, fill)  # one that does not fit, ...
            h.put("d/old", 1500000, fill)  # one that does not fit beside what it replaces, ...
            for path in (name, "d/old"):
                try:
                    await_fact(lambda path=path: "No space left on device" in h.failures().get(path, ""), WAIT, path + " is named")
                except Failure as e:
                    raise Failure("%s\n%s\n%s" % (e, h.daemon.sync(h.name), h.daemon.tail(40)))
                expect(path in h.daemon.log() and "No space left on device" in h.daemon.log(), path + ": named in the log")
            h.put("d/small", 20, fill)  # and one that does.
            before = h.daemon.sync(h.name)["counters"]["retries"]
            await_fact(lambda: h.daemon.sync(h.name)["counters"]["retries"] >= before + 2, WAIT, "it is tried again")
            await_fact(lambda: names(full.tree).get("d/small") == fill * 20, WAIT, "what fits")
            full.daemon.ask("sync-now", "--quiet", seconds=60)  # it looks for itself what is not there
            here, there = names(h.tree), names(full.tree)
            expect(here[name] == fill * 5000000 and here["d/old"] == fill * 1500000, "deleted, or fallen back, where it was made: %s" % {
                k: len(v or b"") for k, v in here.items()})
            expect(name not in there and there["d/old"] == files["d/old"], "torn: %s" % {k: len(v or b"") for k, v in there.items()})
            full.space("20m")
            files.update({name: fill * 5000000, "d/old": fill * 1500000, "d/small": fill * 20})
            same("with more space, from " + h.name, files)
            expect(not h.failures(), "still named: %s" % h.failures())
            h.put("d/old", 900000, b"o")
            os.unlink("%s/%s" % (h.tree, name))
            files.pop(name)
            files["d/old"] = b"o" * 900000
            same("a deletion is one again", files)
            h.space("2m")
    finally:
        for h in hosts:
            h.daemon.stop()


def full_both_ways_direct(place):
    full_both_ways(place, "direct")


def full_both_ways_tcp(place):
    full_both_ways(place, "tcp")


def read_only(place, transport):
    p = Place(place, transport, "size=20m")
    try:
        p.write("d/f", 10)
        p.daemon.start()
        p.equal("before")
        run("mount", "-o", "remount,ro", p.target)
        p.write("d/f", 20)
        p.write("new/f", 10)
        os.rename(p.source + "/d", p.source + "/moved")
        p.write("more", 10)

        def said():
            s = p.daemon.sync("s")
            return "ead-only file system" in str(s["failures"]) + str(s["reason"])
        p.await_fact(said, "it is said")
        run("mount", "-o", "remount,rw", p.target)
        p.equal("writable again")
    finally:
        p.stop()


def read_only_direct(place):
    read_only(place, "direct")


def read_only_tcp(place):
    read_only(place, "tcp")


def read_only_sftp(place):
    read_only(place, "sftp")


def read_only_rsync(place):
    read_only(place, "rsync")


def read_only_rsyncssh(place):
    read_only(place, "rsyncssh")


# ---- the space of what the daemon itself writes ----

def little_at(path, options="size=100k", **more):
    """A place with room at the target, and little of it where the daemon itself writes."""
    os.makedirs(path)
    run("mount", "-t", "tmpfs", "-o", options, "none", path)
    return Place(os.path.dirname(path), "direct", "size=20m,mode=755", **more)


def fill_up(path):
    """To the last byte."""
    with open(path + "/filler", "wb", buffering=0) as f:
        for size in (1 << 16, 4096, 1):
            try:
                while True:
                    f.write(b"x" * size)
            except OSError:
                pass


def full_log(place):
    """What can't be written to the log goes to standard error; when there is space again lines are whole."""
    logs, days = place + "/logs", ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    # What is left of the output is standard error.
    p = little_at(logs, log=logs + "/log", prefix=["sh", "-c", 'exec "$@" >/dev/null', "sh"])
    try:
        p.daemon.start()
        fill_up(logs)
        before = p.daemon.sync("s")["counters"]["batches"]
        for i in range(60):  # more than one page holds
            p.write("f%d" % i, 10)
            p.daemon.wait(60)
        full = p.daemon.log()
        os.unlink(logs + "/filler")
        p.write("last", 10)
        p.equal("with space")
        with open(place + "/output", errors="replace") as f:
            elsewhere = f.read()
        batches = p.daemon.sync("s")["counters"]["batches"] - before
        told = sum(text.count("paths and 0 renames done") for text in (p.daemon.log(), elsewhere))
        expect(elsewhere and told >= batches, "%d of %d batches are told, %d bytes elsewhere" % (told, batches, len(elsewhere)))
        expect(p.daemon.log().startswith(full), "nothing that was written is gone")
        lines = p.daemon.log().split("\n")
        odd = [x for x in lines if x and not any(x.startswith(d) or d.startswith(x) for d in days)]
        expect(not odd, "torn lines: %s" % odd)
        doubled = [x for x in lines if x.count("Record: ") + x.count("Info: ") > 1]
        expect(not doubled, "two in one line: %s" % doubled)
    finally:
        p.stop()


def full_status_file(place):
    """The old one stays whole, it is said once in a while, and nothing is left; later it is written again."""
    p = little_at(place + "/status", settings='statusFile = "%s/status/s"; statusInterval = 1;' % place)
    try:
        p.daemon.start()
        await_fact(lambda: os.path.exists(place + "/status/s"), 60, "a status file")
        fill_up(place + "/status")
        p.write("f", 10)
        p.await_fact(lambda: "status file: " in p.daemon.log() and "No space left on device" in p.daemon.log(), "it is said")
        with open(place + "/status/s") as f:
            expect("counters" in f.read(), "the old one is whole")
        expect(sorted(os.listdir(place + "/status")) == ["filler", "s"], "left: %s" % os.listdir(place + "/status"))
        p.equal("meanwhile")
        os.unlink(place + "/status/filler")
        p.write("newest", 10)
        p.equal("with space")
        batches = p.daemon.sync("s")["counters"]["batches"]
        p.await_fact(lambda: "batches %d " % batches in open(place + "/status/s").read(), "a new one")
    finally:
        p.stop()


def full_state(place, twoway):
    """stateDir: the guards' record, and the archive of a sync both ways. Nothing is deleted on account of what could not be kept."""
    p = little_at(place + "/state", "size=300k,mode=700", more="bidirectional = true;" if twoway else "")
    if twoway:
        os.utime(p.target, (1, 1))  # the source's is the newer one

    def same():
        a, b = names(p.source), names(p.target)
        return a == b
    try:
        for i in range(20):
            p.write("d/f%d" % i, 100)
        p.daemon.start()
        p.await_fact(same, "before")
        p.daemon.stop()
        fill_up(place + "/state")
        for i in range(300):
            p.write("more/f%d" % i, 10)
        os.unlink(p.source + "/d/f0")
        p.daemon.start(wait=False)
        if twoway:
            p.await_fact(lambda: "/state/archive" in p.daemon.log(), "it is said, with its path")
        else:
            p.await_fact(lambda: p.has("more/f299", 10), "it goes on")
        p.write("d/f1", 200)
        p.daemon.wait(3, check=False)
        lost = [n for n in os.listdir(p.source + "/d") if not os.path.exists(p.target + "/d/" + n)]
        expect(not lost, "deleted: %s" % lost)
        os.unlink(place + "/state/filler")
        p.await_fact(same, "with space")
        p.daemon.stop()
        os.unlink(p.source + "/d/f2")
        p.daemon.start(wait=False)
        p.await_fact(same, "after a restart")
    finally:
        p.stop()


def state_in_the_way(place):
    """A worker that can't be started leaves nothing behind, however often that is tried."""
    p = Place(place, "direct", "size=20m", more="bidirectional = true;")
    os.makedirs(place + "/state", 0o700)
    put(place + "/state/archive")
    try:
        p.daemon.start(wait=False)
        p.await_fact(lambda: "/state/archive is not a directory" in (p.daemon.sync("s")["reason"] or ""), "it is said")
        for _ in range(3):
            last = p.daemon.sync("s")["last_error_time"]
            p.await_fact(lambda last=last: p.daemon.sync("s")["last_error_time"] > last, "it is tried again")
        p.daemon.process.send_signal(signal.SIGSTOP)  # between two attempts
        left = glob.glob("/*/fansyncd.%d.*/w*" % p.daemon.process.pid)
        p.daemon.process.send_signal(signal.SIGCONT)
        expect(len(left) <= 1, "left: %s" % left)
        os.unlink(place + "/state/archive")
        p.write("f", 10)
        p.await_fact(lambda: p.has("f", 10), "with a place for it")
    finally:
        p.stop()


def names(root):
    """What vanishes meanwhile was a temporary file."""
    found = {}
    for place, dirs, files in os.walk(root):
        for n in dirs:
            found[os.path.relpath(os.path.join(place, n), root)] = None
        for n in files:
            try:
                with open(os.path.join(place, n), "rb") as f:
                    found[os.path.relpath(os.path.join(place, n), root)] = f.read()
            except FileNotFoundError:
                continue
    return found


def full_state_one_way(place):
    full_state(place, False)


def full_state_both_ways(place):
    full_state(place, True)


# ---- descriptors and processes ----

def limit(pid, what, soft, uid=0):
    run("setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--", "prlimit", "--pid", str(pid), "--%s=%d:" % (what, soft))


def many_syncs(place, n, prefix=()):
    d = Daemon(place, "", prefix=prefix)
    text = []
    for i in range(n):
        for side in ("source", "target"):
            os.makedirs("%s/%s%d" % (place, side, i))
        put("%s/source%d/f" % (place, i), "x")
        text.append('{ name = "s%d"; transport = "direct"; source = "%s/source%d"; target = "%s/target%d"; watcher = "inotify"; %s }'
                    % (i, place, i, place, i, RETRY))
    d.write_config("sync = ( %s );\n" % ", ".join(text))
    return d


def arrived(place, n, name="f"):
    return sum(os.path.exists("%s/target%d/%s" % (place, i, name)) for i in range(n))


def limited(fact, d, what):
    try:
        await_fact(fact, WAIT, what)
    except Failure as e:
        raise Failure("%s\n%s" % (e, d.tail(80)))


def few_descriptors(place):
    """Ten syncs with descriptors for some: the others say why they wait, and go on when they may."""
    n = 10
    d = many_syncs(place, n)
    try:
        d.start(wait=False)
        await_fact(lambda: arrived(place, n) == n, 120, "all of them, with what it takes")
        pid = d.process.pid
        # At the start it takes what it may have. Ten each while a worker is made, one later.
        limit(pid, "nofile", len(os.listdir("/proc/%d/fd" % pid)) + 4)
        for worker in fansync.children(pid):
            fansync.kill(worker, signal.SIGKILL)
        await_fact(lambda: not fansync.children(pid), 30, "the workers are gone")
        for i in range(n):
            put("%s/source%d/g" % (place, i), "y")
        limited(lambda: arrived(place, n, "g") > 0, d, "some are carried")
        limited(lambda: "Too many open files" in d.log(), d, "it is said")
        limit(pid, "nofile", 200)
        await_fact(lambda: arrived(place, n, "g") == n, 120, "all of them: %d\n%s" % (arrived(place, n, "g"), d.tail(200)))
        d.wait(60)
    finally:
        d.stop()


def no_processes(place):
    """An account that may have no more processes: workers wait for their turn."""
    uid = 64111
    reachable(place)
    os.chmod(place, 0o777)
    # As many as it has: the daemon itself.
    d = many_syncs(place, 3, ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--inh-caps=-all", "--",
                              "prlimit", "--nproc=1:50", "--"])
    for path in glob.glob(place + "/*"):
        os.chown(path, uid, uid)
    try:
        d.start(wait=False)
        await_fact(lambda: all("fork" in (s["reason"] or "") for s in d.status()["syncs"]), 60, "it is said\n" + d.tail())
        expect(arrived(place, 3) == 0, "nothing is carried")
        limit(d.process.pid, "nproc", 50, uid)
        await_fact(lambda: arrived(place, 3) == 3, 60, "all of them\n" + d.tail())
        limit(d.process.pid, "nproc", 1, uid)
        for s in d.status()["syncs"]:
            fansync.kill(s["worker_pid"], 9)
        put(place + "/source1/g", "y")
        os.chown(place + "/source1/g", uid, uid)
        await_fact(lambda: "fork" in (d.sync("s1")["reason"] or ""), 60, "it is said again\n" + d.tail())
        limit(d.process.pid, "nproc", 50, uid)
        await_fact(lambda: os.path.exists(place + "/target1/g"), 60, "it goes on\n" + d.tail())
    finally:
        d.prefix = []
        d.stop()


SAMPLE = [full_direct, full_rsync, replaced_direct, no_inodes_direct, over_quota_direct, read_only_direct, full_both_ways_tcp, full_status_file,
          full_log, few_descriptors, no_processes]
# With names, or RESOURCES=all, as in tests/soak/resources.sh.
OTHERS = [full_tcp, full_sftp, full_rsyncssh, replaced_sftp, replaced_tcp, replaced_rsync, no_inodes_rsync, over_quota_rsync, over_quota_tcp, over_quota_sftp, full_both_ways_direct,
          read_only_tcp, read_only_sftp, read_only_rsync, read_only_rsyncssh, full_state_one_way, full_state_both_ways, state_in_the_way]
if not own_file_system():
    skip("it mounts: only root may")
main(SAMPLE + (OTHERS if sys.argv[1:] or os.environ.get("RESOURCES") == "all" else []))
