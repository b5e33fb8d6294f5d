#!/usr/bin/env python3
# TIMEOUT: 300
"""kill -9 of rsync, ssh, a worker and the daemon in mid-batch; a target out of reach at start and later: everything arrives
in the end, and what can't be sent is named."""
import os
import random
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from churn import Churn
from fansync import Daemon, Failure, Sshd, await_fact, children, command, differences, expect_equal, kill, main, reachable, tree


class Place:
    """A source, a target, and a daemon of one transport between them."""

    def __init__(self, place, transport="rsync", more="", watcher="inotify", settings=""):
        self.source, self.target = place + "/source", place + "/target"
        os.makedirs(self.source)
        os.makedirs(self.target)
        self.sshd = Sshd(place + "/sshd").start() if transport == "rsyncssh" else None
        where = ('host = "127.0.0.1"; targetdir = "%s"; %s' % (self.target, self.sshd.section()) if self.sshd
                 else 'target = "%s";' % self.target)
        self.daemon = Daemon(place, "")
        self.daemon.write_config('sync = ( { name = "s"; transport = "%s"; source = "%s"; %s delay = 0.05; watcher = "%s"; '
                                 'retryMin = 0.1; retryMax = 0.5; rsync = { archive = true; }; %s } );\n'
                                 % (transport, self.source, where, watcher, more), settings)

    def fill(self, n, size=200000):
        for i in range(n):
            d = os.path.join(self.source, "d%d" % (i % 7))
            os.makedirs(d, exist_ok=True)
            with open(os.path.join(d, "f%d" % i), "wb") as f:
                f.write(random.Random(i).randbytes(size))

    def equal(self):
        self.daemon.wait(90)
        expect_equal(self.source, self.target, "at the end")

    def stop(self):
        self.daemon.stop()
        if self.sshd:
            self.sshd.stop()


def running_while_written(p, program):
    """Pids of `program`, while files are written: one is caught at work sooner or later."""
    p.fill(3)
    return running(p.daemon, program)


def running(daemon, program):
    """Pids of the daemon's descendants that run `program`."""
    return [p for p in children(daemon.process.pid, every=True)
            if command(p) and os.path.basename(command(p)[0]) == os.fsencode(program)]


def kill_program(place, transport, program):
    p = Place(place, transport)
    try:
        p.daemon.start()
        killed = 0
        for burst in range(3):
            p.fill(150)
            for pid in await_fact(lambda: running_while_written(p, program), 30, "a process of " + program):
                kill(pid, signal.SIGKILL)
                killed += 1
            Churn(p.source, place + "/outside", burst).run(0.3)
        p.equal()
        if killed == 0:
            raise Failure("nothing was killed")
    finally:
        p.stop()


def kill_rsync(place):
    kill_program(place, "rsync", "rsync")


def kill_rsync_over_ssh(place):
    kill_program(place, "rsyncssh", "rsync")


def kill_ssh(place):
    kill_program(place, "rsyncssh", "ssh")


def kill_worker(place):
    p = Place(place)
    try:
        p.daemon.start()
        before = p.daemon.sync("s")["worker_pid"]
        for burst in range(3):
            p.fill(100)
            pid = await_fact(lambda: running_while_written(p, "rsync") and p.daemon.sync("s")["worker_pid"], 30, "a batch")
            kill(pid, signal.SIGKILL)
            Churn(p.source, place + "/outside", burst).run(0.3)
        p.equal()
        after = p.daemon.sync("s")
        if after["counters"]["worker_restarts"] < 1 or after["worker_pid"] == before:
            raise Failure("no worker was replaced: %s" % after)
    finally:
        p.stop()


def kill_daemon(place):
    p = Place(place)
    try:
        for burst in range(3):
            p.daemon.start(wait=burst == 0)
            worker = await_fact(lambda: p.daemon.sync("s")["worker_pid"], 20, "a worker")
            p.fill(100 + burst)
            await_fact(lambda: running_while_written(p, "rsync"), 30, "an rsync")
            left = children(p.daemon.process.pid, every=True)
            p.daemon.stop(signal.SIGKILL)
            await_fact(lambda: not any(command(pid) for pid in left), 20, "the end of the orphans %s" % left)
            if command(worker):
                raise Failure("the worker outlived the daemon")
            os.unlink(os.path.join(place, "ctl"))
            Churn(p.source, place + "/outside", burst).run(0.3)
        p.daemon.start()
        p.equal()
    finally:
        p.stop()


def unreachable_at_start_and_later(place):
    p = Place(place, "rsyncssh")
    try:
        p.sshd.stop()
        p.fill(5)
        p.daemon.start(wait=False)
        await_fact(lambda: p.daemon.sync("s")["state"] == "down", 30, "the state down")
        timed_out = p.daemon.wait(0.5, check=False)
        if timed_out.returncode != 2:
            raise Failure("--wait said %d of a target that is down" % timed_out.returncode)
        p.sshd.start()
        p.equal()
        if "the target is back" not in p.daemon.log():
            raise Failure("the log does not say that the target is back")
        p.sshd.stop()
        p.fill(20)
        Churn(p.source, place + "/outside", 5).run(0.5)
        await_fact(lambda: p.daemon.sync("s")["state"] == "down", 30, "the state down")
        p.sshd.start()
        p.equal()
    finally:
        p.stop()


def target_disk_away(place):
    p = Place(place)
    try:
        p.daemon.start()
        os.rename(p.target, p.target + ".away")
        with open(p.target, "w") as f:
            f.write("not a directory")
        p.fill(3)
        await_fact(lambda: p.daemon.sync("s")["state"] == "down", 30, "the state down")
        os.unlink(p.target)
        os.rename(p.target + ".away", p.target)
        p.equal()
    finally:
        p.stop()


def one_unreadable_file(place):
    """It is named among the failures, and keeps nothing else from being mirrored."""
    if os.geteuid() == 0:
        reachable(place)
        os.chmod(place, 0o777)
        prefix = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]
    else:
        prefix = []
    p = Place(place)
    p.daemon.prefix = prefix
    for d in (p.source, p.target):
        os.chmod(d, 0o777)
        if os.geteuid() == 0:
            os.chown(d, 65534, 65534)
    if os.geteuid() == 0:
        for name in ("fansyncd.conf",):
            os.chmod(os.path.join(place, name), 0o644)
    try:
        with open(p.source + "/secret", "w") as f:
            f.write("x")
        os.chmod(p.source + "/secret", 0)
        with open(p.source + "/plain", "w") as f:
            f.write("y")
        p.daemon.start(wait=False)
        done = p.daemon.wait(60, check=False)
        if done.returncode != 1 or b"secret" not in done.stderr:
            raise Failure("--wait: %d %r\n%s" % (done.returncode, done.stderr, p.daemon.tail()))
        for i in range(3):
            with open(p.source + "/more%d" % i, "w") as f:
                f.write("z")
            p.daemon.wait(60, check=False)
            if not os.path.exists(p.target + "/more%d" % i):
                raise Failure("the unreadable file holds the others up")
        failures = p.daemon.sync("s")["failures"]
        if [f["path"] for f in failures] != ["secret"] or "ermission denied" not in failures[0]["reason"]:
            raise Failure("failures: %s" % failures)
        os.chmod(p.source + "/secret", 0o644)
        p.daemon.wait(60)
        if differences(tree(p.source), tree(p.target)):
            raise Failure("not equal after all: %s" % differences(tree(p.source), tree(p.target)))
        if p.daemon.sync("s")["failures"]:
            raise Failure("the failure is still named")
    finally:
        p.stop()


main([kill_rsync, kill_worker, kill_daemon, target_disk_away, one_unreadable_file, kill_rsync_over_ssh, kill_ssh,
      unreachable_at_start_and_later])
