#!/usr/bin/env python3
# TIMEOUT: 420
"""Random operations at full speed with the daemon running, then --wait, then equality.

CHURN_SECONDS, CHURN_SEEDS: how long and how many (CI: 8 s, two seeds; `make soak`: 30 s, ten).
"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from churn import Churn
from fansync import Daemon, Failure, Receiver, Sshd, expect_equal, main

SECONDS = float(os.environ.get("CHURN_SECONDS", "8"))
SEEDS = int(os.environ.get("CHURN_SEEDS", "2"))
FIRST = int(os.environ.get("SEED", "1"))


def settled(daemon):
    """rsync that a name vanished under is tried again, which --wait names: only what stays so is a failure."""
    end = time.monotonic() + 120
    while True:
        done = daemon.wait(120, check=False)
        if done.returncode == 0:
            return
        if b"will be tried again" not in done.stderr or time.monotonic() > end:
            raise Failure("--wait: exit %d: %s\n%s" % (done.returncode, done.stderr.decode(errors="replace"),
                                                      daemon.tail()))


def churn(place, watcher, transport):
    for seed in range(FIRST, FIRST + SEEDS):
        here = os.path.join(place, str(seed))
        source, target = here + "/source", here + "/target"
        os.makedirs(source)
        os.makedirs(target)
        sshd = Sshd(here + "/sshd").start() if transport == "rsyncssh" else None
        receiver = Receiver(here + "/receiver", target).start() if transport == "tcp" else None
        where = ('host = "127.0.0.1"; targetdir = "%s"; %s' % (target, sshd.section()) if sshd
                 else receiver.section() + " compress = true;" if receiver else 'target = "%s";' % target)
        quick = transport in ("direct", "tcp")
        daemon = Daemon(here, 'sync = ( { name = "churn"; transport = "%s"; source = "%s"; %s delay = %s; watcher = "%s"; '
                              'rsync = { archive = true; }; } );\n' % (transport, source, where,
                                                                       "0.0" if quick else "0.1", watcher))
        try:
            daemon.start()
            done = Churn(source, here + "/outside", seed).run(SECONDS / 2 if quick else SECONDS)
            settled(daemon)
            try:
                expect_equal(source, target, "seed %d, %d operations" % (seed, done))
            except Failure as e:
                raise Failure("%s\n%s" % (e, daemon.tail(30)))
            sync = daemon.sync("churn")
            print("# %s %s seed %d: %d operations, %s" % (watcher, transport, seed, done, sync["counters"]))
            if sync["counters"]["batches"] < 2:
                raise Failure("the daemon slept through it: %s" % sync["counters"])
        finally:
            daemon.stop()
            if sshd:
                sshd.stop()
            if receiver:
                receiver.stop()


def fanotify_rsync(place):
    churn(place, "fanotify", "rsync")


def inotify_rsync(place):
    churn(place, "inotify", "rsync")


def fanotify_rsyncssh(place):
    churn(place, "fanotify", "rsyncssh")


def inotify_rsyncssh(place):
    churn(place, "inotify", "rsyncssh")


def fanotify_direct(place):
    churn(place, "fanotify", "direct")


def inotify_direct(place):
    churn(place, "inotify", "direct")


def fanotify_tcp(place):
    churn(place, "fanotify", "tcp")


def inotify_tcp(place):
    churn(place, "inotify", "tcp")


main([fanotify_direct, inotify_direct, fanotify_tcp, inotify_tcp, fanotify_rsync, inotify_rsync, fanotify_rsyncssh, inotify_rsyncssh])
