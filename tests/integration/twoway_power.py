#!/usr/bin/env python3
"""Bidirectional syncs, and a machine that loses its power: what both ends agreed on is written down there, and the files that it
tells of are not, or not as they were. The other host's are not taken for left-overs of what was deleted."""
import os
import select
import shutil
import signal
import stat
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import twoway_direct
import twoway_tcp
from fansync import Failure, Skipped, Sshd, await_fact, children, main, run
from twoway import expect, get, put

MANY = 1500  # more than a comparison gives back one by one
BOOT = "/proc/sys/kernel/random/boot_id"


class SshHosts(twoway_direct.Hosts):
    transport = None

    def configs(self, place):
        self.sshd = Sshd(place + "/sshd", config="Subsystem sftp internal-sftp\n" * (self.transport == "sftp"))
        self.sshd.start()
        return ['''sync = ( { name = "x"; transport = "%s"; source = "%s"; host = "127.0.0.1"; targetdir = "%s"; %s
              bidirectional = true; delay = 0.05; retryMin = 0.05; rsync = { archive = true; }; } );''' % (
                  self.transport, self.trees[i], self.trees[1 - i], self.sshd.section()) for i in (0, 1)]

    def __exit__(self, kind, value, trace):
        try:
            super().__exit__(kind, value, trace)
        finally:
            self.sshd.stop()


class SftpHosts(SshHosts):
    transport = "sftp"
    seconds = True


class RsyncHosts(SshHosts):
    transport = "rsyncssh"


class AnotherKernel:
    """What is started meanwhile sees another boot, in this test's own mount namespace."""

    def __init__(self, place):
        if os.geteuid() != 0:
            raise Skipped("needs root, to mount over " + BOOT)
        with open(place + "/boot", "w") as f:
            f.write("01234567-89ab-cdef-0123-456789abcdef\n")
        self.file = place + "/boot"

    def __enter__(self):
        run("mount", "--bind", self.file, BOOT)

    def __exit__(self, *_):
        run("umount", BOOT)


def archive(daemon):
    return daemon.place + "/state/archive"


def end_of(daemon):
    """With all of its processes: they hold the archive."""
    ended = [os.pidfd_open(pid) for pid in children(daemon.process.pid, every=True)]
    daemon.stop(signal.SIGKILL)
    for fd in ended:
        if not select.select([fd], [], [], 30)[0]:
            raise Failure("a process of the daemon's goes on without it")
        os.close(fd)


def lose(place, kind, notes):
    """`notes`: what is agreed on is on the disk."""
    os.mkdir(place)
    boot = AnotherKernel(place)
    with kind(place) as h:
        a, b = h.trees
        os.makedirs(a + "/d/e")
        os.mkdir(a + "/kept")
        for name in ("edited", "deleted", "d/e/x", "kept/y"):
            put(a + "/" + name, b"first")
        h.quiet()
        h.equal("at the start")
        shutil.copy2(b + "/edited", place + "/before")
        shutil.copytree(archive(h.daemons[1]), place + "/archive")
        put(a + "/edited", b"second")
        put(a + "/of a", b"made at a")
        put(b + "/of b", b"made at b")
        os.makedirs(a + "/new/deep")
        put(a + "/new/deep/z", b"made at a, deep")
        for n in range(0 if notes else MANY):
            put("%s/new/deep/%d" % (a, n), b"%d" % n)
        h.quiet()
        h.equal("before the failure")
        end_of(h.daemons[1])
        # What was on the disk by then.
        shutil.copy2(place + "/before", b + "/edited")
        for name in ("of a", "of b"):
            os.unlink(b + "/" + name)
        shutil.rmtree(b + "/new")
        if notes:
            shutil.rmtree(b + "/d")
        else:
            shutil.rmtree(archive(h.daemons[1]))
            os.rename(place + "/archive", archive(h.daemons[1]))
        put(a + "/kept/meanwhile", b"made at a without b")
        with boot:
            h.daemons[1].start(wait=False)
            await_fact(lambda: get(b + "/new/deep/z") is not None, 30, "what went with its directory is there again")
            h.quiet()
        h.equal("after the failure")
        expect([get(b + "/" + n) for n in ("edited", "of a", "of b", "d/e/x", "new/deep/z", "kept/meanwhile")],
               [b"second", b"made at a", b"made at b", b"first", b"made at a, deep", b"made at a without b"], "at the host that lost its power")
        # From then on a deletion is one again.
        os.unlink(b + "/deleted")
        os.unlink(a + "/of b")
        shutil.rmtree(b + "/kept")
        await_fact(lambda: not os.path.lexists(a + "/deleted") and not os.path.lexists(b + "/of b") and not os.path.lexists(a + "/kept"), 30,
                   "deletions arrive")
        h.quiet()
        h.equal("in the end")


def orderly(place, kind):
    """A machine that is shut down and started again: what was agreed on a moment before still is."""
    os.mkdir(place)
    boot = AnotherKernel(place)
    with kind(place) as h:
        a, b = h.trees
        os.mkdir(a + "/d")
        for name in ("restored", "deleted", "d/x", "closed"):
            put(a + "/" + name, b"first")
        h.quiet()
        h.equal("at the start")
        h.daemons[1].stop()
        put(a + "/restored", b"older", at=10 ** 18)
        os.unlink(a + "/deleted")
        shutil.rmtree(b + "/d")
        os.chmod(a + "/closed", 0o600)
        with boot:
            h.daemons[1].start(wait=False)
            h.quiet()
        h.equal("started again")
        expect([get(b + "/" + n) for n in ("restored", "deleted", "d/x")], [b"older", None, None], "at the host that was started again")
        expect([get(a + "/" + n) for n in ("restored", "deleted", "d/x")], [b"older", None, None], "at the other one")
        expect(stat.S_IMODE(os.stat(b + "/closed").st_mode), 0o600, "the mode")
        expect(sum(d.sync("x")["counters"]["conflicts"] for d in h.daemons), 0, "conflicts")


def each(place, kind):
    lose(place + "/noted", kind, True)
    lose(place + "/forgotten", kind, False)
    orderly(place + "/orderly", kind)


def direct(place):
    each(place, twoway_direct.Hosts)


def sftp(place):
    each(place, SftpHosts)


def rsyncssh(place):
    each(place, RsyncHosts)


def tcp(place):
    each(place, twoway_tcp.Hosts)


if __name__ == "__main__":
    main([direct, sftp, rsyncssh, tcp])
