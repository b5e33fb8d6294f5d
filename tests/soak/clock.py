#!/usr/bin/env python3
"""The wall clock jumps by hours, forwards and back, while changes go on: nothing is lost, nothing waits for hours, nothing spins."""
import errno
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import fansync
from failing import TRANSPORTS, World, changes
from fansync import await_fact, expect, main
from faults import WORKER

JUMPS = (6 * 3600, -6 * 3600, 40 * 86400, -300, 0)


def cpu_ticks(pid):
    with open("/proc/%d/stat" % pid, encoding="ascii") as f:
        return sum(int(x) for x in f.read().rsplit(")", 1)[1].split()[11:13])


def jumps(place, transport):
    w = World(place, transport, more='schedule = "0 4 * * *";')
    try:
        w.daemon.start()
        for n, jump in enumerate(JUMPS):
            what = "the clock by %d s" % jump
            w.faults.jump(jump)
            changes(w, n)
            # A name that looks like rsync's is held back until it has been quiet for two seconds; by which clock?
            with open(w.at(".held.AbCd%d9" % n), "w") as f:
                f.write("x")
            w.converges(what)
            # The pauses between attempts are by a clock that does not jump.
            role = "rsync" if transport.startswith("rsync") else WORKER
            with w.faults.failing("openat", errno.EIO, role=role, path="later%d" % n) as rule:
                with open(w.at("later%d" % n), "w") as f:
                    f.write("x")
                await_fact(lambda: rule.hit > 0, 60, "it failed")
                w.faults.jump(jump - 7200)
                w.faults.jump(jump)
            w.converges(what + ", after a failure")
            before = cpu_ticks(w.daemon.process.pid)
            w.daemon.client("--wait", "--timeout", "30")
            expect(cpu_ticks(w.daemon.process.pid) - before < 100, what + ": it spins")
            w.alive(what)
    finally:
        w.stop()


def case(transport):
    def jumps_by(place):
        jumps(place, transport)
    jumps_by.__name__ = "jumps_" + transport
    return jumps_by


fansync.TESTDIR = os.environ.get("TESTDIR") or tempfile.mkdtemp(prefix="fansyncd-soak.")
try:
    main([case(t) for t in TRANSPORTS])
finally:
    shutil.rmtree(fansync.TESTDIR, ignore_errors=True)
