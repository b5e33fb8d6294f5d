#!/usr/bin/env python3
"""Churn on every file system, by every watcher and transport: matrix.py [--seconds S] [--seed N] [WATCHER/TRANSPORT/FILESYSTEM...]

Without names all cells; a part of a name may be `*`. As root; everything is mounted in a mount namespace of its own.
"""
import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import cells
import generator
import judge
from fansync import Daemon, Failure, Receiver, Skipped, Sshd, run

WATCHERS = ("fanotify", "inotify")
TRANSPORTS = ("rsync", "rsyncssh", "direct", "sftp", "sftp-openssh", "tcp")
FILE_SYSTEMS = ("ext4", "xfs", "btrfs", "tmpfs", "overlayfs")
IMAGE_BYTES = 640 << 20
# What each can't carry, and why: the man page says the same.
LACKS = {
    "sftp": {"xattrs", "acls", "specials", "devices", "deep"},  # SFTP version 3; the server's PATH_MAX
    "rsync": {"deep"},  # rsync takes no path beyond PATH_MAX
}
OPTIONS = "archive = true; hard_links = true; sparse = true;"
LEFT_OVER = (b".fansyncd~tmp",)


def kind_of(transport):
    return "sftp" if transport.startswith("sftp") else "rsync" if transport.startswith("rsync") else transport


def mounted_image(place, kind):
    image, at = place + "/image", place + "/" + kind
    with open(image, "wb") as f:
        f.truncate(IMAGE_BYTES)
    run("mkfs." + kind, "-q", image)
    os.makedirs(at)
    run("mount", "-o", "loop", image, at)
    return at


def file_system(place, kind):
    """(a directory for the source, one for the target), on a file system of that kind."""
    if kind == "tmpfs":
        at = place + "/tmpfs"
        os.makedirs(at)
        run("mount", "-t", "tmpfs", "none", at)
    elif kind == "overlayfs":
        base = os.path.dirname(file_system(place, "tmpfs")[0])
        for d in ("lower", "upper", "work", "merged"):
            os.makedirs(base + "/" + d)
        for i in range(3):
            os.makedirs(base + "/lower/source/below%d" % i)
            with open(base + "/lower/source/below%d/file" % i, "w") as f:
                f.write("of the lower layer")
        at = base + "/merged"
        run("mount", "-t", "overlay", "none", "-o", "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work" % (base, base, base), at)
        return at + "/source", base + "/target"
    else:
        at = mounted_image(place, kind)
    if kind == "btrfs":
        run("btrfs", "-q", "subvolume", "create", at + "/source")
    else:
        os.makedirs(at + "/source")
    os.makedirs(at + "/target")
    return at + "/source", at + "/target"


class Cell:
    """A daemon with one sync, of that watcher and transport, between two trees."""

    def __init__(self, place, watcher, transport, source, target, more="", settings=""):
        self.source, self.target, self.transport = source, target, transport
        self.extras = set(generator.EXTRAS) - LACKS.get(kind_of(transport), set())
        options = OPTIONS + "".join(" %s = true;" % x for x in ("xattrs", "acls") if x in self.extras)
        self.servers = []
        if transport == "rsyncssh" or transport.startswith("sftp"):
            sshd = Sshd(place + "/sshd", config="Subsystem sftp internal-sftp\n").start()
            self.servers.append(sshd)
            where = 'host = "127.0.0.1"; targetdir = "%s"; %s' % (target, sshd.section())
            if transport == "sftp-openssh":
                where = where.replace("ssh = {", 'ssh = { client = "openssh";')
        elif transport == "tcp":
            self.servers.append(Receiver(place + "/receiver", target).start())
            where = self.servers[0].section() + " compress = true;"
        else:
            where = 'target = "%s";' % target
        self.daemon = Daemon(place, "")
        self.daemon.write_config(
            'sync = ( { name = "churn"; transport = "%s"; source = "%s"; %s watcher = "%s"; delay = 0.05; retryMin = 0.1; retryMax = 1.0; '
            'largeFile = 4000; rsync = { %s }; %s } );\n' % (transport.split("-")[0], source, where, watcher, options, more), settings)

    def __enter__(self):
        try:
            self.daemon.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        try:
            self.daemon.stop()
        finally:
            for server in self.servers:
                server.stop()

    def wanted(self, *without):
        return (self.extras | ({"seconds"} if kind_of(self.transport) == "sftp" else set())) - set(without)

    def settle(self, seconds=120):
        """A name that vanished under a transfer is tried again, which --wait names: only what stays so is a failure."""
        end = time.monotonic() + seconds
        while True:
            done = self.daemon.wait(seconds, check=False)
            if done.returncode == 0:
                return
            if b"will be tried again" not in done.stderr or time.monotonic() > end:
                raise Failure("--wait: exit %d: %s\n%s" % (done.returncode, done.stderr.decode(errors="replace"), self.daemon.tail()))

    def expect_equal(self, what):
        # Names that were linked travel as links in one batch (README, limits): that all are is for the comparison of everything.
        self.expect(judge.compare(self.source, self.target, self.wanted("hard_links")), what + ", when all was quiet")
        self.daemon.client("--sync-now")
        self.expect(judge.compare(self.source, self.target, self.wanted()), what + ", after a comparison")

    def expect(self, found, what):
        if found:
            raise Failure("%s: not equal:\n  %s\n%s" % (what, "\n  ".join(found), self.daemon.tail(25)))
        for base, dirs, files in os.walk(os.fsencode(self.target)):
            for name in dirs + files:
                if name.endswith(LEFT_OVER) or b".~tmp~" in name:
                    raise Failure("%s: left over: %r" % (what, os.path.join(base, name)))


def one(place, watcher, transport, kind, seed, seconds, processes=3):
    """A cell of the matrix. Returns what was done."""
    os.makedirs(place, exist_ok=True)
    source, target = file_system(place, kind)
    if kind == "overlayfs" and watcher == "fanotify":
        watcher = "auto"  # which can't have it there
    with Cell(place, watcher, transport, source, target) as cell:
        done = generator.run(source, os.path.dirname(source) + "/outside", seed, seconds, processes, cell.extras)
        cell.settle()
        cell.expect_equal("%s/%s/%s seed %d, %d operations" % (watcher, transport, kind, seed, sum(done.values())))
        counters = cell.daemon.sync("churn")["counters"]
        if counters["batches"] < 2:
            raise Failure("the daemon slept through it: %s" % counters)
    return done


def known(kind):
    """Whether this kernel has it; asking for it may load it."""
    name = {"overlayfs": "overlay"}.get(kind, kind)
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "-q", name], check=False, stderr=subprocess.DEVNULL)
    with open("/proc/filesystems") as f:
        return any(line.split()[-1] == name for line in f)


def tried(place, name, seed, seconds):
    watcher, transport, kind = name.split("/")
    if not known(kind):
        raise Skipped("this kernel has no %s" % kind)
    done = one(os.path.join(place, name.replace("/", "-") + "-%d" % seed), watcher, transport, kind, seed, seconds)
    return "%d operations of %d kinds" % (sum(done.values()), len(done))


def all_of(place, names, seed, seconds):
    return cells.each((n, seed, lambda n=n: tried(place, n, seed, seconds)) for n in names)


if __name__ == "__main__":
    cells.main("churn on every file system, by every watcher and transport",
               ["%s/%s/%s" % (w, t, f) for f in FILE_SYSTEMS for t in TRANSPORTS for w in WATCHERS], all_of,
               seconds=(60.0, "of churn in each cell"))
