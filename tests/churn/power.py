#!/usr/bin/env python3
"""The receiver's machine loses its power, again and again: power.py [--lives N] [--seed N] [FILESYSTEM/DURABILITY...]

The target is a file system on a disk with a volatile write cache (tests/lib/cache_disk.py). While files come in, the disk is cut at random
instants; each such image is mounted, and what the sender had been told is done before that instant has to be on it: whole, and at least as
new; what was deleted, gone. Then the machine "boots" with the image of the last cut: the receiver starts again upon it, and the sender,
which lived on, makes it equal without being told what happened.

FILESYSTEM is ext4, xfs or btrfs; DURABILITY batch, file or none. With none something must be lost: or the test could not see it. As root.
"""
import contextlib
import ctypes
import os
import random
import select
import signal
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import cells
import judge
import matrix
from cache_disk import CacheDisk
from fansync import Daemon, Failure, Receiver, Skipped, await_fact, children, kill, run
from kills import Helper, intact, left_over, sealed

MIB = {"ext4": 64, "xfs": 320, "btrfs": 128}
DURABILITIES = ("batch", "file", "none")
libc = ctypes.CDLL(None, use_errno=True)
KEPT = 120  # names at once: the disk is small
SERIAL = b"%016d"
TAIL = bytes(1 << 17)
OPTIONS = {"ext4": "loop,commit=1", "btrfs": "loop,commit=1", "xfs": "loop"}  # metadata are written more often than by default: data may lag
CUTS = 4  # in each life


class Writer:
    """Sealed files that carry a serial: new ones, ones that are replaced, renamed and deleted. Each step is told through a pipe, as
    "NAME SERIAL", "NAME ?" before it is deleted or renamed, "NAME -" when it is gone."""

    def __init__(self, source, aside, told, seed, first):
        self.source, self.aside, self.told, self.random, self.serial = source, aside, told, random.Random(seed), first
        self.names = [n for d in ("new", "moved") for n in ("%s/%s" % (d, f) for f in sorted(os.listdir(os.path.join(source, d))))]

    def tell(self, name, serial):
        os.write(self.told, ("%s %s\n" % (name, "-" if serial is None else serial)).encode())

    def put(self, name):
        self.serial += 1
        r = self.random
        tail = r.random() < .2
        body = SERIAL % self.serial + (b"T" if tail else b"-") + r.randbytes(r.choice((0, 300, 5000, 60000, 300000)))
        if r.random() < .2:
            body += TAIL + r.randbytes(5000)  # a hole, with sparse = true
        with open(self.aside, "wb") as f:
            f.write(sealed(os.path.basename(name), body) + (TAIL if tail else b""))
        os.rename(self.aside, os.path.join(self.source, name))
        self.tell(name, self.serial)

    def new(self):
        name = "new/n%d" % (self.serial + 1)
        self.put(name)
        self.names.append(name)

    def step(self):
        # All names of a file that is told of are told before and after: who drains the pipe between has an older state, never a wrong one.
        kind = self.random.choice(("new", "new", "replace", "replace", "move", "delete"))
        if len(self.names) > KEPT:
            kind = "delete"
        if kind == "replace":
            self.put("replaced/r%d" % self.random.randrange(8))
        elif kind == "new" or not self.names:
            self.new()
        else:
            name = self.names.pop(self.random.randrange(len(self.names)))
            path = os.path.join(self.source, name)
            with open(path, "rb") as f:
                serial = int(f.read(16))
            # From here on its fate is open.
            self.tell(name, "?")
            if kind == "move":
                to = "moved/" + os.path.basename(name)
                os.rename(path, os.path.join(self.source, to))
                self.names.append(to)
                self.tell(to, serial)
            else:
                os.unlink(path)
            if not (kind == "move" and to == name):
                self.tell(name, None)


class Acks:
    """What the sender was told is done: all that was written before a --wait began that ended well."""

    def __init__(self, sender, told):
        self.sender, self.told, self.rest = sender, told, b""
        self.lock, self.ended, self.rounds = threading.Lock(), threading.Event(), 0
        # By name: the serial, or None for one that is gone. `open`: names that something happens to right now.
        self.acked, self.owed, self.open = {}, {}, set()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def drain(self):
        """What the writer told since. With the lock held."""
        poll = select.poll()
        poll.register(self.told, select.POLLIN)
        while poll.poll(0):
            more = os.read(self.told, 1 << 16)
            if not more:
                break
            self.rest += more
        lines = self.rest.split(b"\n")
        self.rest = lines.pop()
        for line in lines:
            name, serial = line.decode().split()
            if serial == "?":
                self.open.add(name)
            else:
                self.open.discard(name)
                self.owed[name] = None if serial == "-" else int(serial)
            if serial in "?-":
                self.acked.pop(name, None)

    def run(self):
        while not self.ended.is_set():
            with self.lock:
                self.drain()
                asked, self.owed = self.owed, {}
            done = asked and self.sender.ask("wait", "--timeout", "60", seconds=90).returncode == 0
            with self.lock:
                self.drain()
                if done:
                    # What was renamed or deleted meanwhile may have been so at the target, too.
                    self.acked.update((n, s) for n, s in asked.items() if n not in self.open and self.owed.get(n, 0) is not None)
                    self.rounds += 1
                else:
                    self.owed = dict(asked, **self.owed)
            if not done:
                self.ended.wait(0.05)

    def at(self, instant):
        """What had been acknowledged before instant() and was not touched, other than replaced, until it was over. And its answer."""
        with self.lock:
            self.drain()
            before = dict(self.acked)
        answer = instant()
        with self.lock:
            self.drain()
            kept = {n: s for n, s in before.items() if n in self.acked and n not in self.open and (self.acked[n] is None) == (s is None)}
        return kept, answer


class Machine:
    """The receiver's: disk, file system, receiver."""

    def __init__(self, place, kind, seed):
        self.place, self.kind, self.target = place, kind, place + "/target"
        image = place + "/image"
        with open(image, "wb") as f:
            f.truncate(MIB[kind] << 20)
        run("mkfs." + kind, "-q", image)
        os.makedirs(self.target)
        self.disk = CacheDisk(place + "/disk", image, seed)
        self.mount()
        os.makedirs(self.target + "/web")
        with open_directory(self.target) as fd:
            if libc.syncfs(fd) != 0:
                raise Failure("syncfs")
        self.receiver = Receiver(place + "/receiver", self.target + "/web").start()

    def mount(self):
        run("mount", "-o", OPTIONS[self.kind], self.disk.path, self.target)

    def freeze(self):
        """No process of the receiver does anything any more; what one of them waits for in the kernel is the disk."""
        pids = [self.receiver.daemon.process.pid] + self.receiver.sessions()
        for pid in pids:
            kill(pid, signal.SIGSTOP)
        # D: it waits for the disk, and will stop before it can say anything.
        await_fact(lambda: all(state(pid) in "TDZX" for pid in pids), 60, "the receiver stands still")

    def power_off(self):
        pids = [self.receiver.daemon.process.pid] + self.receiver.sessions()
        for pid in pids:
            kill(pid, signal.SIGKILL)
        self.receiver.daemon.stop(signal.SIGKILL)
        await_fact(lambda: all(state(pid) in "ZX" for pid in pids), 60, "the receiver's end")
        await_fact(lambda: run("umount", self.target, check=False).returncode == 0, 60, "umount")

    def boot(self, image):
        self.disk.install(image)
        self.mount()
        self.receiver.start()

    def stop(self):
        try:
            self.receiver.stop()
        finally:
            run("umount", "-l", self.target, check=False)
            self.disk.stop()


@contextlib.contextmanager
def open_directory(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def state(pid):
    try:
        with open("/proc/%d/stat" % pid, errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


class Lives:
    """One file system and durability."""

    def __init__(self, place, kind, durability, seed):
        self.place, self.durability, self.random = place, durability, random.Random(seed)
        self.source = place + "/source"
        for d in ("new", "moved", "replaced"):
            os.makedirs(self.source + "/" + d)
        self.machine = Machine(place, kind, seed)
        self.sender = Daemon(place + "/sender", "")
        self.sender.write_config(
            'sync = ( { name = "p"; transport = "tcp"; source = "%s"; %s compress = true; durability = "%s"; delay = 0.0; retryMin = 0.1; '
            'retryMax = 0.5; rsync = { archive = true; sparse = true; }; } );\n'
            % (self.source, self.machine.receiver.section(), durability))
        self.serial = 0
        self.cuts = self.files = self.unflushed = 0
        self.lost = []

    def __enter__(self):
        try:
            self.sender.start(wait=False)
            self.sender.wait(300)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        try:
            self.sender.stop()
        finally:
            self.machine.stop()

    def pause(self, least, longest):
        select.poll().poll(self.random.uniform(least, longest) * 1000)

    def life(self):
        told, tell = os.pipe()
        writer = Writer(self.source, self.place + "/aside", tell, self.random.random(), self.serial)
        helper = Helper(writer.step, lambda: writer.serial, 12.0, self.random.random())
        os.close(tell)
        acks = Acks(self.sender, told)
        acks.thread.start()
        cuts = []
        try:
            await_fact(lambda: acks.rounds > 0, 60, "something is acknowledged\n" + self.sender.tail(20))
            for i in range(CUTS):
                self.pause(0, 0.5)
                if i == CUTS - 1:
                    self.machine.freeze()
                cuts.append(acks.at(lambda: self.cut("cut%d" % i)))
            self.machine.power_off()
            for acked, image in cuts:
                self.look(acked, image)
            self.machine.boot(cuts[-1][1])
        finally:
            self.serial = helper.stop()
            acks.ended.set()
            acks.thread.join()
            os.close(told)
        self.judge()

    def cut(self, name):
        path = os.path.join(self.place, name)
        about = self.machine.disk.cut(path)
        self.cuts += 1
        self.unflushed += about["blocks"]
        return path

    def look(self, acked, image):
        """At an image, for what had been acknowledged."""
        at = self.place + "/look"
        os.makedirs(at, exist_ok=True)
        run("mount", "-o", "loop", image, at)
        try:
            for name, serial in acked.items():
                self.files += 1
                why = self.wrong(os.path.join(at, "web", name), serial)
                if why:
                    self.lost.append("%s: %s" % (name, why))
        finally:
            run("umount", at)

    @staticmethod
    def wrong(path, serial):
        """What is wrong with a file of that serial; None: nothing."""
        try:
            with open(path, "rb") as f:
                data = f.read()
        except FileNotFoundError:
            return None if serial is None else "is not there"
        if serial is None:
            return "was deleted, and is there"
        sealed_part = data
        if data[16:17] == b"T" and data.endswith(TAIL):
            sealed_part = data[:-len(TAIL)]
        if not intact(os.path.basename(path), sealed_part):
            return "is torn: %d bytes, %s" % (len(data), "all of them zero" if not any(data) else "some of them right")
        if int(data[:16]) < serial:
            return "is %d, and %d was acknowledged" % (int(data[:16]), serial)
        return None

    def judge(self):
        """The sender lived on. With none it can't know what was lost of that it had been told is done: it has to compare."""
        done = self.sender.wait(300, check=False)
        if done.returncode != 0:
            raise Failure("--wait: exit %d: %s\n%s" % (done.returncode, done.stderr.decode(errors="replace"), self.sender.tail()))
        if self.durability == "none":
            self.sender.client("--sync-now")
        web = self.machine.target + "/web"
        found = judge.compare(self.source, web, ("owners",), left_over(self.source, web))
        if found:
            raise Failure("not equal after the power came back:\n  %s\n%s" % ("\n  ".join(found), self.sender.tail(25)))


def lives(place, kind, durability, seed, number):
    """Returns the Lives."""
    if not os.path.exists("/dev/fuse"):
        raise Skipped("there is no /dev/fuse")
    if not matrix.known(kind):
        raise Skipped("this kernel has no %s" % kind)
    os.makedirs(place)
    with Lives(place, kind, durability, seed) as l:
        for _ in range(number):
            l.life()
            if durability == "none" and l.lost:
                break
    if durability != "none" and l.lost:
        raise Failure("%d files that had been acknowledged, of %d in %d cuts:\n  %s" % (len(l.lost), l.files, l.cuts, "\n  ".join(l.lost[:12])))
    if durability == "none" and not l.lost:
        raise Failure("nothing was lost in %d cuts: this test sees nothing" % l.cuts)
    if l.files == 0:
        raise Failure("nothing had been acknowledged in %d cuts" % l.cuts)
    return l


def tried(place, name, seed, number):
    l = lives(place, *name.split("/"), seed, number)
    return "%d cuts with %d blocks that were not flushed, %d acknowledged files looked at%s" % (
        l.cuts, l.unflushed, l.files, ", %d of them lost, as they should" % len(l.lost) if l.lost else "")


def all_of(place, names, seed, lives):
    return cells.each((name, seed + n, lambda name=name, n=n: tried(
        os.path.join(place, name.replace("/", "-") + "-%d" % seed), name, seed + n, lives)) for n, name in enumerate(names))


if __name__ == "__main__":
    cells.main("power failures of the receiver's machine", ["%s/%s" % (k, d) for k in MIB for d in DURABILITIES], all_of,
               lives=(10, "power failures in each cell"))
