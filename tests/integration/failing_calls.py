#!/usr/bin/env python3
# TIMEOUT: 300
"""Calls that fail, as tests/soak/failing.py found what came of it: a sample of them (tests/lib/faults.py) and of a sweep."""
import errno
import os
import shutil
import sys

if "FANSYNCD_PLAIN" in os.environ:  # a sanitizer would have to be loaded before faults.c
    os.environ["FANSYNCD"] = os.environ["FANSYNCD_PLAIN"]
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from failing import World
from fansync import await_fact, expect, main, put
from faults import DAEMON, WORKER


def rsync_gets_a_part_of_its_list(place):
    """What it is asked for then is not what is confirmed."""
    w = World(place, "rsync")
    try:
        w.daemon.start()
        with w.faults.failing("write", errno.EIO, role=WORKER, path="pipe:", limit=1) as rule:
            put(w.at("new"), "x")
            await_fact(lambda: rule.hit == 1, 60, "the list is written")
            w.converges("with the whole list")
    finally:
        w.stop()


def the_source_cannot_be_looked_at(place):
    """It is said, and tried again."""
    w = World(place, "direct")
    try:
        with w.faults.failing("fstat", errno.EIO, role=DAEMON, path=w.source, first=1) as rule:
            w.daemon.start(wait=False)
            await_fact(lambda: "Input/output error" in str(w.daemon.sync("s")), 60, "it is said: %s" % w.daemon.tail())
            expect(rule.hit > 0, "it was asked for")
        w.converges("when it can be")
    finally:
        w.stop()


def an_unseen_directory(place, transport, role, times):
    """In a comparison it could not be looked at: what is below it is compared later, not the directory alone."""
    w = World(place, transport)
    try:
        os.makedirs(w.at("late"))
        w.daemon.start()
        w.daemon.stop()
        put(w.at("late/f"), "x")
        with w.faults.failing("fstatat", errno.EACCES, role=role, path="/late", limit=times) as rule:
            w.daemon.start(wait=False)
            await_fact(lambda: rule.hit == times, 60, "it is looked at")
        w.converges("when it can be")
        expect("late: " in w.daemon.log(), "it is named")
    finally:
        w.stop()


def an_unseen_directory_direct(place):
    an_unseen_directory(place, "direct", WORKER, 3)


def an_unseen_directory_rsync(place):
    an_unseen_directory(place, "rsync", "rsync", 1)


def a_directory_that_is_not_empty_yet(place):
    """What is deleted later takes the directories with it that it kept."""
    w = World(place, "rsync")
    try:
        os.makedirs(w.at("gone/a/b"))
        w.daemon.start()
        w.daemon.stop()
        shutil.rmtree(w.at("gone"))
        with w.faults.failing("unlinkat", errno.EIO, role="rsync", path="gone/a", limit=2) as rule:
            w.daemon.start(wait=False)
            await_fact(lambda: rule.hit > 0, 60, "it is deleted")
            w.converges("when it can be")
        expect("will be tried again: gone/a" in w.daemon.log(), "it is named")
    finally:
        w.stop()


main([a_directory_that_is_not_empty_yet, an_unseen_directory_direct, an_unseen_directory_rsync, rsync_gets_a_part_of_its_list, the_source_cannot_be_looked_at])
