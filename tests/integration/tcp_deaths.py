#!/usr/bin/env python3
# TIMEOUT: 240
"""tcp: at every type of frame that passes between the ends, in both directions, the worker or the session is killed (SIGKILL).
All goes on by itself and becomes equal, no file of the target is ever torn, and after a comparison no temporary file is left.

DEATHS=N: N rounds, with other occurrences of each frame, in every way (tests/soak/tcp_deaths.sh). DEATHS_AT="ITEM DATA": at those
alone."""
import grp
import hashlib
import os
import pwd
import random
import shutil
import signal
import stat
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import tcp_peer as p
from fansync import Daemon, Failure, Receiver, await_fact, children, differences, kill, main, own_file_system, run, tree
from frame_relay import HALF, HOLD, PASS, TO_RECEIVER, TO_SENDER, FrameRelay

ONLY = os.environ.get("DEATHS_AT", "").split()
ROUNDS = int(os.environ.get("DEATHS", "0"))
SEED = int(os.environ.get("SEED", "1"))
SENDERS = (p.HELLO, p.WORK, p.RENAME, p.ITEM, p.KEEP, p.ANSWER, p.LISTING, p.OPENED, p.DATA, p.HOLE, p.COPY, p.END, p.PING)
RECEIVERS = (p.WELCOME, p.REFUSE, p.BYE, p.ACK, p.FOUND, p.PROGRESS, p.DONE, p.LOOK, p.LIST, p.READLINK, p.XATTRS, p.DIGEST, p.OPEN,
             p.READ, p.CLOSE, p.CREDIT, p.HASHES, p.PING)
# Each of these takes other options, or what the sender forgot.
ALIKE_SENDERS, ALIKE_RECEIVERS = (p.NAME, p.SAME, p.FINER, p.SIGN), (p.UNLESS, p.SIGNATURE)
BOTH_SENDERS, BOTH_RECEIVERS = (p.ITEM, p.ANSWER, p.END), (p.NOTE, p.MOVED, p.CONFLICT, p.AGREED, p.DONE)
# Not here: RESTAT, which our receiver has no need of (END says it), and the sender's BYE, which nobody sends.
NAMES = {getattr(p, k): k for k in (
    "PING HELLO WELCOME REFUSE BYE WORK RENAME ITEM KEEP NAME ACK FOUND PROGRESS DONE NOTE MOVED CONFLICT LOOK LIST READLINK XATTRS DIGEST "
    "OPEN RESTAT READ CLOSE CREDIT HASHES SIGNATURE AGREED UNLESS ANSWER LISTING OPENED DATA HOLE COPY END SIGN FINER SAME").split()}
KIB = 1024


class World:
    """A sender and a receiver with a relay between them. Every file ends in a digest of what stands before, and is replaced as a
    whole: one that is torn shows."""

    def __init__(self, place, what, more):
        self.place, self.source, self.target, self.aside = place, place + "/source", place + "/target", place + "/aside"
        for d in (self.source + "/a/deep", self.source + "/comes", self.target, self.aside):
            os.makedirs(d)
        self.chance = random.Random(SEED)
        self.content = {}
        self.steps = self.deaths = 0
        self.blocked = False
        self.both = "bidirectional" in more
        self.put("marker", 10)
        self.put("here", 10)
        self.put("busy", 10)
        shutil.copy2(self.source + "/marker", self.target)
        self.receiver = Receiver(place + "/receiver", self.target, tls=False, options="timeout = 2.0;").start()
        self.relay = FrameRelay(self.receiver.port)
        self.sender = Daemon(place + "/s", 'sync = ( { name = "w"; transport = "tcp"; source = "%s"; %s compress = true; delay = 0.0; '
                             'timeout = 2.0; retryMin = 0.05; retryMax = 0.1; requireMarker = "marker"; requireTargetMarker = "marker"; '
                             'rsync = { archive = true; %s }; %s } );\n'
                             % (self.source, self.receiver.section(self.relay.port), what, more))

    def __enter__(self):
        self.relay.__enter__()
        self.sender.start()
        return self

    def __exit__(self, *args):
        self.sender.stop()
        self.receiver.stop()
        self.relay.__exit__()

    def put(self, name, size, where=None, content=None, hole=0):
        body = self.content[name] = content if content is not None else os.urandom(size)
        whole = hashlib.blake2b(body[:size // 2] + bytes(hole) + body[size // 2:], digest_size=16).digest() if hole else hashlib.blake2b(
            body, digest_size=16).digest()
        path = self.aside + "/f"
        with open(path, "wb") as f:
            f.write(body[:size // 2] if hole else body)
            if hole:
                f.seek(hole, os.SEEK_CUR)
                f.write(body[size // 2:])
            f.write(whole)
        os.replace(path, os.path.join(where or self.source, name))

    def rename(self, a, b):
        if not os.path.exists(os.path.join(self.source, a)):
            a, b = b, a
        os.rename(os.path.join(self.source, a), os.path.join(self.source, b))

    def torn(self, when):
        for d, _, names in os.walk(self.target):
            for name in names:
                path = os.path.join(d, name)
                if os.path.islink(path) or "fansyncd~" in name:
                    continue
                try:
                    with open(path, "rb") as f:
                        data = f.read()
                except FileNotFoundError:
                    continue
                if hashlib.blake2b(data[:-16], digest_size=16).digest() != data[-16:]:
                    raise Failure("%s: %s is torn (%d bytes)" % (when, path, len(data)))

    # What makes a frame of a type pass.

    def everything(self):
        """Most types of frames, from a batch and from a comparison."""
        self.put("small%d" % (self.steps % 3), 500)
        self.put("comes/new%d" % (self.steps % 4), 100 * KIB)
        self.rename("a", "b")
        self.rename("here", "there")
        link = self.source + "/link"
        if os.path.lexists(link):
            os.unlink(link)
        os.symlink("to %d" % self.steps, link)
        gone = "%s/gone%d" % (self.source, self.steps % 2)
        if os.path.isdir(gone):
            shutil.rmtree(gone)
        else:
            os.mkdir(gone)
            self.put("gone%d/f" % (self.steps % 2), 100)

    def difference(self):
        old = self.content.get("large") or os.urandom(700 * KIB)
        at = self.chance.randrange(len(old) - 10)
        self.put("large", 0, content=old[:at] + os.urandom(10) + old[at + 10:])
        self.put("much", 600 * KIB)
        self.put("holes", 64 * KIB, hole=512 * KIB)

    def moved(self):
        """A large file of which the sender knows nothing, and most of which moved."""
        old = self.content.get("disk") or os.urandom(1200 * KIB)
        self.put("disk", 0, content=os.urandom(1000) + old[:1200 * KIB])

    def finer(self):
        """A large file of which the sender knows nothing, and of which a little changed."""
        self.stop_worker()
        old = self.content.get("disk") or os.urandom(1200 * KIB)
        at = self.chance.randrange(len(old) - 10)
        self.put("disk", 0, content=old[:at] + os.urandom(10) + old[at + 10:])

    def owned(self):
        """A name of an owner is told once a connection."""
        self.relay.cut()
        self.put("owned", 30)
        os.chown(self.source + "/owned", pwd.getpwnam("daemon").pw_uid, grp.getgrnam("daemon").gr_gid)

    def conflict(self):
        for name in ("c1", "c2"):
            self.put(name, 400, self.target)
            self.put(name, 300)

    def provoke(self, kind):
        self.steps += 1
        if kind == p.REFUSE and os.path.exists(self.target):
            os.rename(self.target, self.target + ".away")
        if kind == p.BYE and os.path.exists(self.target + "/marker"):
            os.unlink(self.target + "/marker")
        self.everything()
        if kind in (p.COPY, p.HASHES, p.HOLE, p.CREDIT, p.READ):
            self.difference()
        if kind in (p.SIGN, p.SIGNATURE):
            self.moved()
        if kind == p.FINER:
            self.finer()
        if kind == p.NAME:
            self.owned()
        if kind in (p.CONFLICT, p.AGREED):
            self.conflict()
        if kind in (p.HELLO, p.WELCOME, p.REFUSE):
            self.relay.cut()
        if kind == p.FOUND:
            self.in_the_way(True)
        if kind in (p.FOUND, p.LIST, p.LISTING, p.DIGEST, p.READLINK, p.XATTRS, p.LOOK, p.ANSWER, p.UNLESS, p.SAME):
            if not self.both and kind not in (p.UNLESS, p.SAME):
                shutil.rmtree(self.target + "/comes", ignore_errors=True)
            self.sender.ask("sync-now")

    def in_the_way(self, on):
        """Something that the comparison stumbles over."""
        if os.geteuid() != 0:
            os.chmod(self.source + "/comes", 0 if on else 0o755)
        elif on and not self.blocked:
            self.put("other", 30, self.place)
            run("mount", "--bind", self.place + "/other", self.target + "/busy")
        elif not on and self.blocked:
            run("umount", "-l", self.target + "/busy")
        self.blocked = on

    def repair(self, kind):
        if kind == p.REFUSE and os.path.exists(self.target + ".away"):
            os.rename(self.target + ".away", self.target)
        if kind == p.BYE:
            shutil.copy2(self.source + "/marker", self.target)
        if kind == p.FOUND:
            self.in_the_way(False)

    # One death.

    def stop_worker(self):
        """The next one remembers nothing."""
        for pid in children(self.sender.process.pid):
            kill(pid, signal.SIGKILL)

    def victim(self, of_sender):
        """Kills the worker, or the session (and not the process that listens)."""
        if of_sender:
            pids = children(self.sender.process.pid)
        else:
            pids = [s for r in children(self.receiver.daemon.process.pid) for s in children(r)]
        for pid in pids:
            kill(pid, signal.SIGKILL)
        self.deaths += len(pids)

    def die(self, way, kind, of_sender, how, number=1):
        what = "%s %s, %s is killed, the record: %s" % (NAMES[kind], ("to the receiver", "to the sender")[way],
                                                        "the worker" if of_sender else "the session", how)
        self.relay.arm(way, kind, number, how, lambda: self.victim(of_sender), self.chance.random())
        try:
            for _ in range(6):
                self.provoke(kind)
                if self.relay.fired.wait(5 if kind == p.PING else 0.6):
                    break
            else:
                raise Failure("%s: no such frame passed\n%s" % (what, self.sender.tail(15)))
            if os.path.exists(self.target):
                self.torn(what)
        finally:
            self.relay.disarm()
            self.repair(kind)
        self.converged(what)

    def tree(self, root):
        """Both ways directories' times are not carried."""
        return {path: dict(facts, mtime=0 if self.both and stat.S_ISDIR(facts["kind"]) else facts["mtime"])
                for path, facts in tree(root).items()}

    def converged(self, what):
        if self.relay.wrong:
            raise Failure("%s: the relay does not understand: %s" % (what, self.relay.wrong))
        await_fact(lambda: self.sender.ask("sync-now").returncode == 0, 30, "%s: all goes on\n%s" % (what, self.sender.tail(20)))
        found = differences(self.tree(self.source), self.tree(self.target))
        if found:
            raise Failure("%s: not equal:\n  %s\n%s" % (what, "\n  ".join(found), self.sender.tail(40)))
        self.torn(what)
        left = [os.path.join(d, f) for d, _, files in os.walk(self.target) for f in files if "fansyncd~" in f]
        if left:
            raise Failure("%s: left over: %s" % (what, left))


def deaths(world, senders, receivers):
    turns = [(way, kind, of_sender) for way, kinds in ((TO_RECEIVER, senders), (TO_SENDER, receivers)) for kind in kinds
             for of_sender in (True, False) if not ONLY or NAMES[kind] in ONLY]
    with world as w:
        for way, kind, of_sender in turns:
            if ROUNDS == 0:
                w.die(way, kind, of_sender, w.chance.choice((PASS, HOLD, HALF)))
        for _ in range(ROUNDS):
            w.chance.shuffle(turns)
            for way, kind, of_sender in turns:
                for how in (PASS, HOLD, HALF):
                    w.die(way, kind, of_sender, how, w.chance.choice((1, 1, 2, 3)) if kind < p.ANSWER else 1)
        if w.deaths < len(turns) * 3 // 4:  # who is to be killed may have gone by itself
            raise Failure("%d deaths in %d turns" % (w.deaths, len(turns)))
        print("# %d deaths, %d connections" % (w.deaths, w.relay.connections))


def one_way(place):
    deaths(World(place, "hard_links = true; xattrs = true; sparse = true; checksum = true;", ""),
           SENDERS, RECEIVERS)


def alike(place):
    """What is asked where nothing but size and time counts: directories by their digests; content that moved; owners by name."""
    deaths(World(place, "", ""), [k for k in ALIKE_SENDERS if k != p.NAME or os.geteuid() == 0], ALIKE_RECEIVERS)


def both_ways(place):
    deaths(World(place, "", "bidirectional = true;"), BOTH_SENDERS, BOTH_RECEIVERS)


own_file_system()
main([one_way, alike, both_ways])
