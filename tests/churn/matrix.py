#!/usr/bin/env python3
"""Churn on every file system, by every watcher and transport: matrix.py [--seconds S] [--seed N] [WATCHER/TRANSPORT/FILESYSTEM...]

Without names all cells; a part of a name may be `*`. As root; everything is mounted in a mount namespace of its own. The trace of a cell
that fails, and the daemon's log, are kept below $TRACES or in a new directory in $TMPDIR; what replays it is printed (generator.py says
what a replay is).
"""
import os
import shutil
import subprocess
import sys
import tempfile
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
# overlayfs can't be watched by fanotify: the automatic choice, which would take it for a tree with more directories than this, has to
# fall back. So its cells are called `auto`, and look at what --status says of it.
DIRECTORIES_FOR_FANOTIFY = 600
LOWER_LAYER = ([("makedirs", (b"below%d" % i, (0, 5))) for i in range(3)] +
               [("makedirs", (generator.MANY + b"/%d" % i, (0, 1))) for i in range(DIRECTORIES_FOR_FANOTIFY)])
# A kind of operation that was tried that often and never took effect is not tested at all.
TRIES = 60
# But for these, by file system: why they can't.
NEVER = {}


def cell_names():
    return ["%s/%s/%s" % ("auto" if f == "overlayfs" and w == "fanotify" else w, t, f) for f in FILE_SYSTEMS for t in TRANSPORTS for w in WATCHERS]


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
    """(a directory for the source, one for the target), on a file system of that kind. What is beside the source can be renamed into it."""
    if kind == "tmpfs":
        at = place + "/tmpfs"
        os.makedirs(at)
        run("mount", "-t", "tmpfs", "none", at)
    elif kind == "overlayfs":
        base = os.path.dirname(file_system(place, "tmpfs")[0])
        for d in ("lower", "upper", "work", "merged"):
            os.makedirs(base + "/" + d)
        os.makedirs(base + "/lower/source")
        generator.start(base + "/lower/source", LOWER_LAYER)
        at = base + "/merged"
        run("mount", "-t", "overlay", "none", "-o", "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work" % (base, base, base), at)
    else:
        at = mounted_image(place, kind)
    if kind == "btrfs":
        # The source in a subvolume, with what is beside it: nothing is renamed from one subvolume to another.
        run("btrfs", "-q", "subvolume", "create", at + "/subvolume")
        source = at + "/subvolume/source"
    else:
        source = at + "/source"
    os.makedirs(source, exist_ok=True)
    os.makedirs(at + "/target")
    return source, at + "/target"


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
        self.expect(judge.compare(self.source, self.target, self.wanted("hard_links"), limit=None), what + ", when all was quiet")
        self.daemon.client("--sync-now")
        self.expect(judge.compare(self.source, self.target, self.wanted(), limit=None), what + ", after a comparison")

    def expect(self, found, what):
        if found:
            raise Failure("%s: not equal:\n  %s\n%s" % (what, "\n  ".join(judge.shortened(found)), self.daemon.tail(25)))
        for base, dirs, files in os.walk(os.fsencode(self.target)):
            for name in dirs + files:
                if name.endswith(LEFT_OVER) or b".~tmp~" in name:
                    raise Failure("%s: left over: %r" % (what, os.path.join(base, name)))


def watched(daemon, watcher):
    """Whether the source is watched as it should be, by --status."""
    said = daemon.sync("churn")["watcher"]
    backend = "inotify" if watcher == "auto" else watcher
    if said["backend"] != backend or (watcher == "auto" and "refused" not in said["reason"]):
        raise Failure("watched by %s (%s), not by %s" % (said["backend"], said["reason"], backend))


def one(place, watcher, transport, kind, seed, seconds, processes=3):
    """A cell of the matrix. Returns what was done."""
    os.makedirs(place, exist_ok=True)
    source, target = file_system(place, kind)
    with Cell(place, watcher, transport, source, target) as cell:
        watched(cell.daemon, watcher)
        if kind == "overlayfs":
            generator.tell_start(place + "/trace", LOWER_LAYER)
        done = generator.run(source, os.path.dirname(source) + "/outside", seed, seconds, processes, cell.extras, place + "/trace")
        cell.settle()
        cell.expect_equal("%s/%s/%s seed %d, %d operations" % (watcher, transport, kind, seed, done.effect.total()))
        watched(cell.daemon, watcher)
        counters = cell.daemon.sync("churn")["counters"]
        if counters["batches"] < 2:
            raise Failure("the daemon slept through it: %s" % counters)
    never = [k for k in done.without_effect(TRIES) if (k, kind) not in NEVER]
    if never:
        raise Failure("never took effect: %s" % ", ".join("%s (tried %d times)" % (k, done.tried[k]) for k in never))
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
    below = os.path.join(place, name.replace("/", "-") + "-%d" % seed)
    try:
        done = one(below, watcher, transport, kind, seed, seconds)
    except Skipped:
        raise
    except Exception as e:
        raise Failure("%s: %s%s" % (type(e).__name__, e, kept(below, os.path.basename(below)))) from e
    few = sorted(k for k, n in done.tried.items() if not done.effect[k])
    return "%d operations of %d kinds%s" % (done.effect.total(), len(done.effect), few and "; tried, without effect: " + ", ".join(few) or "")


def kept(place, name):
    """The trace and the log of a cell that failed, where they outlive the test's own file system."""
    if not os.path.exists(place + "/trace"):
        return ""
    if "TRACES" in os.environ:
        os.makedirs(os.environ["TRACES"], exist_ok=True)
    where = os.path.join(os.environ.get("TRACES") or tempfile.mkdtemp(prefix="fansyncd-trace."), name)
    for what in ("trace", "log"):
        shutil.copyfile(place + "/" + what, "%s.%s" % (where, what))
    return "\nits trace and log: %s.trace, .log\nto replay it: %s %s --replay %s.trace %s/source %s/outside" % (
        where, sys.executable, os.path.abspath(generator.__file__), where, where, where)


def all_of(place, names, seed, seconds):
    return cells.each((n, seed, lambda n=n: tried(place, n, seed, seconds)) for n in names)


if __name__ == "__main__":
    cells.main("churn on every file system, by every watcher and transport",
               cell_names(), all_of, seconds=(60.0, "of churn in each cell"))
