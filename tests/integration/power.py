#!/usr/bin/env python3
# TIMEOUT: 300
"""tcp, durability: what is acknowledged survives a power failure of the receiver's machine; a sample of tests/churn/power.py, of which
tests/soak/power.sh runs all. With durability = "none" the test has to see losses. A disk that can't flush: nothing is acknowledged."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "churn"))
import judge
import matrix
import power
from fansync import TESTDIR, Failure, Skipped, await_fact, main, own_file_system, skip

SEED = int(os.environ.get("SEED", "1"))
LIVES = int(os.environ.get("LIVES", "1"))


def batch(place):
    power.lives(place + "/lives", "ext4", "batch", SEED, LIVES)


def none_is_seen(place):
    power.lives(place + "/lives", "ext4", "none", SEED, 5)


def a_disk_that_fails(place):
    if not os.path.exists("/dev/fuse") or not matrix.known("ext4"):
        raise Skipped("there is no /dev/fuse, or no ext4")
    with power.Lives(place + "/lives", "ext4", "batch", SEED) as l:
        machine, name = l.machine, l.source + "/replaced/f"
        image = l.cut("cut")
        machine.disk.fail_flush(True)
        with open(name, "w") as f:
            f.write("not on the disk")
        await_fact(lambda: "cannot sync" in machine.receiver.daemon.log(), 60, "an error in the receiver's log")
        await_fact(lambda: "cannot sync" in l.sender.log(), 60, "an error in the sender's log\n" + l.sender.tail(20))
        if l.sender.wait(1, check=False).returncode == 0:
            raise Failure("--wait says that all is done")
        machine.disk.fail_flush(False)
        machine.power_off()
        machine.boot(image)
        l.sender.wait(200)
        found = judge.compare(l.source, machine.target + "/web", ("owners",))
        if found:
            raise Failure("not equal with another disk:\n  %s" % "\n  ".join(found))


if not own_file_system():
    skip("it mounts file systems: only root may")
main([batch, none_is_seen, a_disk_that_fails])
