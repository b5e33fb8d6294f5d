#!/usr/bin/env python3
"""kill -9 at random instants, of everything that takes part, while churn goes on:
kills.py [--kills N] [--seconds S] [--seed N] [WATCHER/TRANSPORT...]

Victims are the daemon, its workers, rsync and ssh on this side; sshd, its sessions, sftp-server and rsync on the other; the receiver's
daemon, the receiver and its sessions. What a supervisor would start again is started again, all else has to come back by itself. A process
of its own reads the target all the time and checks files that end in a digest of themselves. After some kills the churn pauses: source and
target must become equal, and nothing may be left over.

Without names all cells; a part of a name may be `*`. As root; everything is mounted in a mount namespace of its own.
"""
import ctypes
import filecmp
import hashlib
import json
import os
import random
import re
import select
import signal
import stat
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import cells
import generator
import judge
import matrix
from fansync import Failure, children, kill, run

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
DIGEST = 16
KINDS = ("whole", "inplace")
SIZES = {"whole": (100, 5000, 70000, 700000), "inplace": (3000, 60000, 400000)}
FILES = 8  # of each kind
TEMPORARY = re.compile(rb"\.fansyncd~tmp$|^\..*\.[A-Za-z0-9]{6}$", re.S)
SFTP_SERVER = "/usr/lib/openssh/sftp-server"


# Who is at work, by transport.
ROLES = {
    "rsync": ("daemon", "worker", "rsync here"),
    "rsyncssh": ("daemon", "worker", "rsync here", "ssh here", "sshd", "sshd there", "rsync there"),
    "direct": ("daemon", "worker"),
    "sftp": ("daemon", "worker", "sshd", "sshd there"),
    "sftp-openssh": ("daemon", "worker", "ssh here", "sshd", "sshd there", "sftp-server there"),
    "tcp": ("daemon", "worker", "receiver's daemon", "receiver", "session"),
}

# ---- processes of the test's own ----

class Helper:
    """A process that does `step` over and over, with pauses of up to pause_ms, until it is told to stop; then its answer is `result()`."""

    def __init__(self, step, result, pause_ms, seed):
        stop, self.stop_end = os.pipe()
        self.answer, answer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                chance, told = random.Random(seed), select.poll()
                told.register(stop, select.POLLIN)
                while not told.poll(chance.uniform(0, pause_ms)):
                    step()
                os.write(answer, json.dumps(result()).encode())
                status = 0
            except Exception:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        os.close(stop)
        os.close(answer)

    def stop(self):
        """What it answers; None: killed by SIGBUS, as who writes to a mapping that another process cuts off is."""
        os.write(self.stop_end, b"x")
        with os.fdopen(self.answer, "rb") as f:
            said = f.read()
        os.close(self.stop_end)
        status = os.waitpid(self.pid, 0)[1]
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGBUS:
            return None
        if status != 0:
            raise Failure("a process of the test's own failed: %d" % status)
        return json.loads(said)


# ---- files that prove themselves ----

def sealed(name, body):
    """The digest covers the name: content of another file is no better than half of the right one."""
    return body + hashlib.blake2b(name.encode() + body, digest_size=DIGEST).digest()


def intact(name, data):
    return hashlib.blake2b(name.encode() + data[:-DIGEST], digest_size=DIGEST).digest() == data[-DIGEST:]


class Sealer:
    """Writes sealed files: "whole" ones are written aside and renamed into place; "inplace" ones are overwritten by a single write(2) of
    the same length, which XFS makes one step for whoever reads (the inode's lock). So each state that the source is ever in is intact, and
    what is not intact at the target was made so on the way. A file that changes whenever it is read goes as it is at the third time (README,
    limits): on a machine that is busy, one that is overwritten every half second does."""
    REST = 5.0  # seconds

    def __init__(self, source, aside, kinds, seed):
        self.source, self.aside, self.kinds, self.random = source, aside, kinds, random.Random(seed)
        self.bodies, self.overwritten = {}, {}
        os.makedirs(aside, exist_ok=True)
        for kind in kinds:
            os.makedirs("%s/%s" % (source, kind), exist_ok=True)
            for i in range(FILES):
                self.replace(kind, i)

    def body(self, kind, i):
        """Random, or the last one with a piece replaced or moved: what travels as a difference."""
        r, old = self.random, self.bodies.get((kind, i))
        if kind == "inplace" or old is None or r.random() < .5:
            new = r.randbytes(SIZES[kind][i % len(SIZES[kind])] + (0 if kind == "inplace" else r.randrange(50)))
        else:
            at = r.randrange(len(old) - 20)
            new = old[:at] + r.randbytes(r.choice([20, 20, 37])) + old[at + 20:]
        self.bodies[kind, i] = new
        return new

    def replace(self, kind, i):
        with open(self.aside + "/sealed", "wb") as f:
            f.write(sealed("f%d" % i, self.body(kind, i)))
        os.rename(self.aside + "/sealed", "%s/%s/f%d" % (self.source, kind, i))

    def overwrite(self, kind, i):
        data = sealed("f%d" % i, self.body(kind, i))
        fd = os.open("%s/%s/f%d" % (self.source, kind, i), os.O_WRONLY)
        try:
            if os.pwrite(fd, data, 0) != len(data):
                raise Failure("a short write")
        finally:
            os.close(fd)

    def step(self):
        kind, i = self.random.choice(self.kinds), self.random.randrange(FILES)
        if kind == "whole":
            self.replace(kind, i)
        elif time.monotonic() > self.overwritten.get(i, 0) + self.REST:
            self.overwrite(kind, i)
            self.overwritten[i] = time.monotonic()


class Reader:
    """Reads the target's sealed files again and again. One that is not intact is kept in `evidence`."""

    def __init__(self, target, kinds, evidence):
        self.paths = [(k, "f%d" % i, os.path.join(target, k, "f%d" % i)) for k in kinds for i in range(FILES)]
        self.evidence, self.checks, self.torn = evidence, 0, []

    def step(self):
        for kind, name, path in self.paths:
            try:
                with open(path, "rb") as f:
                    st, data = os.fstat(f.fileno()), f.read()
            except FileNotFoundError:
                continue  # not there yet
            self.checks += 1
            if not intact(name, data):
                kept = "%s-%d-%s-%s" % (self.evidence, len(self.torn), kind, name)
                with open(kept, "wb") as f:
                    f.write(data)
                self.torn.append("%s/%s, inode %d, %d bytes, at %.3f; kept: %s" % (kind, name, st.st_ino, len(data), time.time(), kept))

    def result(self):
        return {"checks": self.checks, "torn": self.torn[:10]}


# ---- what is attacked ----

def left_over(source, target):
    """Names of temporary files, ours or rsync's, that only the target has."""
    mine, its = ({n for _, _, files in os.walk(os.fsencode(d)) for n in files} for d in (source, target))
    return {n for n in its - mine if TEMPORARY.search(n)}



class Cell(matrix.Cell):
    """Knows all processes that take part, and starts those again that nobody else would."""

    def __init__(self, place, watcher, transport, source, target):
        super().__init__(place, watcher, transport, source, target)
        self.own = set()
        self.external_sftp()

    def __enter__(self):
        try:
            self.daemon.start(wait=False)
            self.settle(300)
        except BaseException:
            self.stop()
            raise
        return self

    def external_sftp(self):
        """A process of its own serves SFTP: another kind of victim."""
        if self.transport != "sftp-openssh" or not os.path.exists(SFTP_SERVER):
            return
        sshd = self.servers[0]
        sshd.stop()
        path = sshd.place + "/sshd_config"
        with open(path) as f:
            text = f.read()
        with open(path, "w") as f:
            f.write(text.replace("internal-sftp", SFTP_SERVER))
        sshd.start()

    def server(self):
        """The process that serves the target; none: the transport needs none."""
        if not self.servers:
            return None
        return self.servers[0].daemon.process if self.transport == "tcp" else self.servers[0].process

    def role(self, pid, below):
        """What a process is, in a word; `below`: of whom it is a descendant."""
        try:
            name = os.path.basename(os.readlink("/proc/%d/exe" % pid))
        except OSError:
            return None  # dead, or about to be
        if name == "fansyncd":
            if below == "server":
                return "receiver" if pid in children(self.server().pid) else "session"
            return "worker" if below else "orphan"
        return "%s %s" % (name, {"daemon": "here", "server": "there"}.get(below, "orphan"))

    def victims(self):
        """role -> pids, of descendants of what the test itself started. Orphans come to the test, which is a subreaper."""
        roots = {"daemon": self.daemon.process, "server": self.server()}
        found, known = {}, set(self.own)
        for below, process in roots.items():
            if process is None or process.poll() is not None:
                continue
            known.add(process.pid)
            found.setdefault("receiver's daemon" if below == "server" and self.transport == "tcp" else
                             "sshd" if below == "server" else "daemon", []).append(process.pid)
            for pid in children(process.pid, every=True):
                known.add(pid)
                role = self.role(pid, below)
                if role:
                    found.setdefault(role, []).append(pid)
        for pid in self.orphans(known):
            role = self.role(pid, None)
            if role:
                found.setdefault(role, []).append(pid)
        return found

    def orphans(self, known):
        """Of those that were killed. The dead ones among them are reaped."""
        left = []
        for pid in children(os.getpid()):
            if pid in known:
                continue
            try:
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    left += [pid] + children(pid, every=True)
            except ChildProcessError:
                pass
        return left

    def restart(self, wait=False):
        """What a supervisor starts again."""
        if self.daemon.process.poll() is not None:
            self.daemon.output.close()
            self.daemon.start(wait=wait)
        if self.server() is not None and self.server().poll() is not None:
            self.servers[0].start()

    def stop(self):
        try:
            super().stop()
        finally:
            for pid in self.orphans(self.own):
                kill(pid, signal.SIGKILL)
            self.orphans(self.own)


def old_at_target(source, target):
    """Of files whose content differs: when they changed, and what other names they have."""
    names, wrong = {}, []
    for base, _, files in os.walk(os.fsencode(source)):
        for name in files:
            path = os.path.join(base, name)
            st = os.lstat(path)
            if not stat.S_ISREG(st.st_mode):
                continue
            there = os.path.join(os.fsencode(target), os.path.relpath(path, os.fsencode(source)))
            names.setdefault(st.st_ino, []).append(path)
            try:
                same = filecmp.cmp(path, there, shallow=False)
            except OSError as e:
                same = "at the target: %s" % e.strerror
            if same is not True:
                at = os.lstat(there) if os.path.lexists(there) else None
                wrong.append((st, path, same, at and (at.st_ino, at.st_nlink, at.st_mtime_ns, at.st_ctime_ns)))
    return "".join("\n  %r %s: inode %d, %d names, mtime %.6f, ctime %.6f; target's inode, names, mtime, ctime: %s; all names: %s" % (
        path[-60:], same, st.st_ino, st.st_nlink, st.st_mtime_ns / 1e9, st.st_ctime_ns / 1e9, at, [p[-60:] for p in names[st.st_ino]])
        for st, path, same, at in wrong)


class Attack:
    """Rounds of churn and kills, each ended by the judge."""

    def __init__(self, cell, place, kinds, seed, per_round, pace=1.0):
        self.cell, self.place, self.kinds, self.seed, self.per_round, self.pace = cell, place, kinds, seed, per_round, pace
        self.random = random.Random(seed)
        self.aside, self.outside = place + "/fs/aside", place + "/fs/outside"
        os.makedirs(self.outside)
        self.killed, self.history, self.checks, self.rounds = {}, [], 0, 0
        self.sealer = Sealer(cell.source, self.aside, kinds, seed)

    def helpers(self):
        yield Helper(self.sealer.step, lambda: None, 60.0 / self.pace, self.random.random())
        os.makedirs(self.cell.source + "/churn", exist_ok=True)
        for i in range(2):
            p = generator.Process(self.cell.source + "/churn", self.outside, (self.seed * 100 + self.rounds) * 1000 + i, self.cell.extras)
            yield Helper(p.step, lambda: None, 50.0 / self.pace, self.random.random())

    def round(self, kills, end):
        helpers = list(self.helpers())
        self.cell.own.update(h.pid for h in helpers)
        try:
            for _ in range(kills):
                if time.monotonic() > end:
                    break
                self.one()
        finally:
            self.cell.own.difference_update(h.pid for h in helpers)
            for h in helpers:
                h.stop()
        self.rounds += 1

    def pause(self, longest):
        """The random instant."""
        select.poll().poll(self.random.uniform(0, longest * 1000))

    def choice(self):
        """A role that is to be killed, when there is one of it; nobody comes to work while another one is away, so not for ever."""
        wanted, end = self.random.choice(ROLES[self.cell.transport]), time.monotonic() + 5
        while True:
            found = self.cell.victims()
            if wanted in found:
                return wanted, found
            if time.monotonic() > end:
                return self.random.choice(sorted(found)), found
            self.pause(0.05)

    def one(self):
        self.pause(0.3)
        role, found = self.choice()
        pid = self.random.choice(found[role])
        self.history.append("%.3f %s %d" % (time.time(), role, pid))
        kill(pid, signal.SIGKILL)
        self.killed[role] = self.killed.get(role, 0) + 1
        if role in ("daemon", "sshd", "receiver's daemon"):
            (self.cell.daemon.process if role == "daemon" else self.cell.server()).wait()
            self.pause(0.2)
        self.cell.restart()

    def total(self):
        return sum(self.killed.values())

    def run(self, kills, seconds):
        end = time.monotonic() + seconds
        reader = Reader(self.cell.target, self.kinds, self.place + "/torn")
        watch = Helper(reader.step, reader.result, 100.0, self.seed)
        self.cell.own.add(watch.pid)
        try:
            while self.total() < kills and time.monotonic() < end:
                self.round(min(self.per_round, kills - self.total()), end)
                self.judge()
        finally:
            self.cell.own.discard(watch.pid)
            seen = watch.stop()
        self.checks = seen["checks"]
        if seen["torn"]:
            raise Failure("torn at the target:\n  %s\nkilled: %s\n%s" % ("\n  ".join(seen["torn"]), self.history[-20:], self.cell.daemon.tail(40)))
        if self.checks < 2 * len(reader.paths) or self.total() == 0:
            raise Failure("%d files were read at the target, %d processes killed" % (self.checks, self.total()))

    def judge(self):
        try:
            self.cell.settle(300)
            # What a killed run left of a file goes with the next comparison (README): it is told to come.
            found = judge.compare(self.cell.source, self.cell.target, self.cell.wanted("hard_links"), left_over(self.cell.source, self.cell.target))
            if found:
                raise Failure("round %d: not equal, when all was quiet:\n  %s%s\n%s" % (
                    self.rounds, "\n  ".join(found), old_at_target(self.cell.source, self.cell.target), self.cell.daemon.tail(40)))
            self.cell.daemon.client("--sync-now")
            self.cell.expect(judge.compare(self.cell.source, self.cell.target, self.cell.wanted()), "round %d, after a comparison" % self.rounds)
        except Failure as e:
            raise Failure("%s\nkilled: %s" % (e, self.history[-20:])) from None


def one(place, watcher, transport, seed, kills, seconds, pace=1.0, per_round=14):
    """Attack one cell. Returns the Attack."""
    os.makedirs(place)
    xfs = matrix.known("xfs")
    at = place + "/fs"
    os.makedirs(at)
    if xfs:
        # Without reflinks every other time: direct has two ways to copy.
        with open(place + "/image", "wb") as f:
            f.truncate(matrix.IMAGE_BYTES)
        run("mkfs.xfs", "-q", "-m", "reflink=%d" % (seed % 2), place + "/image")
        run("mount", "-o", "loop", place + "/image", at)
    kinds = KINDS if xfs and matrix.kind_of(transport) in ("direct", "sftp", "tcp") else KINDS[:1]
    try:
        source, target = at + "/source", at + "/target"
        os.makedirs(source)
        os.makedirs(target)
        with Cell(place, watcher, transport, source, target) as cell:
            attack = Attack(cell, place, kinds, seed, per_round, pace)
            attack.run(kills, seconds)
    finally:
        if xfs:
            run("umount", "-l", at)
            os.unlink(place + "/image")
    return attack


def all_of(place, names, seed, kills, seconds, pace=1.0):
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    attacks = []

    def tried(name, seed_of_it):
        at = os.path.join(place, name.replace("/", "-") + "-%d" % seed)
        a = one(at, *name.split("/"), seed_of_it, kills, seconds, pace)
        attacks.append(a)
        return "%d kills in %d rounds: %s; %d reads of sealed files" % (
            a.total(), a.rounds, ", ".join("%s %d" % k for k in sorted(a.killed.items())), a.checks)
    well = cells.each((name, seed + n, lambda name=name, n=n: tried(name, seed + n)) for n, name in enumerate(names))
    print("# in all %d kills, %d reads" % (sum(a.total() for a in attacks), sum(a.checks for a in attacks)), flush=True)
    return well


if __name__ == "__main__":
    cells.main("kill -9 at random instants while churn goes on", ["%s/%s" % (w, t) for t in matrix.TRANSPORTS for w in matrix.WATCHERS], all_of,
               kills=(42, "in each cell"), seconds=(300.0, "of attack in each cell, at most"))
