#!/usr/bin/env python3
"""What it costs that workers are confined (core/worker_confine.c): confinement.py [--runs N] [--files N] [TRANSPORT...]

Two programs in one run, the ordinary one and one with the confinement compiled out (-DFANSYNCD_NO_GUARD_CONFINE), take turns at
`--sync-now`: of a source that holds one file, which is a worker's start and end; and of many small files to an empty target. By
`direct`, `tcp` and `sftp` (libssh2), whose workers are confined, and `rsync` and `rsyncssh`, whose rsync is; on a tmpfs. As root. Asserts nothing.
"""
import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("TESTDIR", tempfile.mkdtemp(prefix="fansyncd-bench."))
os.environ.setdefault("FANSYNCD", os.path.join(TOP, "build/fansyncd"))
sys.path.insert(0, os.path.join(TOP, "tests/lib"))
from fansync import BINARY, TESTDIR, Daemon, Receiver, Sshd, own_file_system  # noqa: E402


def unconfined():
    """The other program."""
    build = os.path.join(TOP, "build/unconfined")
    subprocess.run(["make", "-s", "-C", TOP, "-j%d" % (os.cpu_count() or 1), "BUILD=" + build,
                    "CPPFLAGS=-DFANSYNCD_NO_GUARD_CONFINE", "all"], check=True)
    return os.path.join(build, "fansyncd")


def filled(source, files):
    rand = random.Random(1)
    for i in range(files):
        where = "%s/d%d" % (source, i // 50)
        if i % 50 == 0:
            os.mkdir(where)
        with open("%s/f%d" % (where, i), "wb") as f:
            f.write(rand.randbytes(rand.randrange(1024, 8192)))


def emptied(target):
    for name in os.listdir(target):
        path = os.path.join(target, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


class Sync:
    """A target reached by that transport, and a configuration for it."""

    def __init__(self, transport, source):
        place = os.path.join(TESTDIR, transport)
        self.server, self.target = None, place + "/target"
        os.makedirs(self.target)
        where = 'target = "%s";' % self.target
        if transport == "tcp":
            self.server = Receiver(place + "/receiver", self.target).start()
            where = self.server.section()
        elif transport in ("sftp", "rsyncssh"):
            self.server = Sshd(place + "/sshd", config="Subsystem sftp internal-sftp\n").start()
            where = 'host = "127.0.0.1"; targetdir = "%s"; %s' % (self.target, self.server.section())
        self.daemon = Daemon(place, 'sync = ( { transport = "%s"; source = "%s"; %s } );\n' % (transport, source, where))

    def once(self, program, empty):
        """Seconds, and CPU seconds of this end, of one run."""
        if empty:
            emptied(self.target)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run([program, "--sync-now", "--quiet", self.daemon.config_path], check=True, stdin=subprocess.DEVNULL)
        took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def stop(self):
        if self.server:
            self.server.stop()


def compared(sync, programs, runs, empty):
    """Median times of both, in seconds, and the medians of the ratios within each turn."""
    found = []
    for turn in range(runs + 1):
        order = (0, 1) if turn % 2 else (1, 0)
        pair = {i: sync.once(programs[i], empty) for i in order}
        found.append((pair[0], pair[1]))
    found = found[1:]  # the first one fills caches
    return [(statistics.median(a[k] for a, _ in found), statistics.median(b[k] for _, b in found),
             statistics.median(a[k] / b[k] for a, b in found)) for k in (0, 1)]


def main():
    a = argparse.ArgumentParser(description="what it costs that workers are confined")
    a.add_argument("--runs", type=int, default=21)
    a.add_argument("--files", type=int, default=10000)
    a.add_argument("transports", nargs="*", default=["direct", "tcp", "sftp", "rsync", "rsyncssh"])
    args = a.parse_args()
    programs = (BINARY, unconfined())
    if not own_file_system():
        sys.exit("it mounts a tmpfs: as root")
    os.chmod(TESTDIR, 0o755)
    few, many = TESTDIR + "/few", TESTDIR + "/many"
    os.mkdir(few)
    os.mkdir(many)
    with open(few + "/file", "w", encoding="utf-8") as f:
        f.write("x")
    filled(many, args.files)
    print("| transport | what | confined | not confined | ratio | CPU, ratio |\n| --- | --- | --- | --- | --- | --- |")
    for transport in args.transports:
        for source, what, runs in ((few, "start and end", args.runs), (many, "%d files" % args.files, max(3, args.runs // 3))):
            sync = Sync(transport, source)
            try:
                wall, cpu = compared(sync, programs, runs, source == many)
            finally:
                sync.stop()
                shutil.rmtree(os.path.join(TESTDIR, transport))
            print("| %s | %s | %.1f ms | %.1f ms | %.3f | %.3f |" % (
                transport, what, wall[0] * 1000, wall[1] * 1000, wall[2], cpu[2]), flush=True)


try:
    main()
finally:
    subprocess.run(["umount", "-l", TESTDIR], check=False, stderr=subprocess.DEVNULL)
    shutil.rmtree(TESTDIR, ignore_errors=True)
