#!/usr/bin/env python3
"""Directories that are sent as a whole while files come and go in them: nothing excluded or half-written stays at the target.

A batch names such a directory once, and rsync lists it a moment later: what appeared there meanwhile is kept out by the
rules, or is brought into order by its own events."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, Failure, differences, main, tree

ROUNDS, DIRS, FILES = 3, 20, 30
EXCLUDED = b"r1/d1/f2"


def fill(source, round_):
    """As programs save files: under another name, here one that is excluded; then the right one."""
    for d in range(DIRS):
        at = "%s/r%d/d%d" % (source, round_, d)
        os.makedirs(at)
        for i in range(FILES):
            with open("%s/f%d.part" % (at, i), "w") as f:
                f.write("round %d, file %d\n" % (round_, i))
            os.rename("%s/f%d.part" % (at, i), "%s/f%d" % (at, i))


def churned(place, watcher):
    source, target = place + "/source", place + "/target"
    os.makedirs(source)
    os.makedirs(target)
    d = Daemon(place, 'sync = ( { name = "s"; transport = "rsync"; source = "%s"; target = "%s"; delay = 0.0; '
               'watcher = "%s"; exclude = [ "*.part", "/%s" ]; rsync = { archive = true; }; } );\n' % (
                   source, target, watcher, EXCLUDED.decode()))
    d.start()
    try:
        for i in range(ROUNDS):
            fill(source, i)
        d.wait()
        wanted = tree(source)
        del wanted[EXCLUDED]
        found = differences(wanted, tree(target))
        if found:
            raise Failure("not equal:\n  %s" % "\n  ".join(found))
        counters = d.sync("s")["counters"]
        if counters["reconciles"] != 1 or counters["files"] < ROUNDS * DIRS * FILES - 1:
            raise Failure("all of it is to be sent by name: %s" % counters)
    finally:
        d.stop()


# An rsync before which two files appear in a directory that its list names as a whole.
LATE = r"""#!/bin/sh
case "$*" in *--version*) exec rsync "$@" ;; esac
cat >'%(place)s/list'
if grep -qzE '^(\./)?new/$' '%(place)s/list'; then : >new/late.part; : >new/late; : >'%(place)s/happened'; fi
exec rsync "$@" <'%(place)s/list'
"""


def appeared_meanwhile(place):
    source, target, binary = place + "/source", place + "/target", place + "/rsync"
    os.makedirs(source)
    os.makedirs(target)
    with open(binary, "w") as f:
        f.write(LATE % {"place": place})
    os.chmod(binary, 0o755)
    d = Daemon(place, 'sync = ( { name = "s"; transport = "rsync"; source = "%s"; target = "%s"; delay = 60.0; '
               'watcher = "inotify"; exclude = [ "*.part" ]; rsync = { archive = true; binary = "%s"; confine = false; }; } );\n' % (
                   source, target, binary))
    d.start()
    try:
        os.mkdir(source + "/new")
        for i in range(FILES):
            with open("%s/new/f%d" % (source, i), "w") as f:
                f.write("%d\n" % i)
        d.wait()
        if not os.path.exists(place + "/happened"):
            raise Failure("the directory was not named as a whole:\n" + d.tail())
        if os.path.exists(target + "/new/late.part"):
            raise Failure("an excluded file travelled with its directory")
        d.wait()
        os.unlink(source + "/new/late.part")
        wanted, found = tree(source), tree(target)
        wanted[b"new"]["mtime"] = found[b"new"]["mtime"]  # an excluded entry's coming and going is not mirrored
        if differences(wanted, found):
            raise Failure("not equal: %s" % differences(wanted, found))
    finally:
        d.stop()


def inotify(place):
    churned(place, "inotify")


def fanotify(place):
    churned(place, "fanotify")


main([appeared_meanwhile, inotify] + ([fanotify] if os.geteuid() == 0 else []))
