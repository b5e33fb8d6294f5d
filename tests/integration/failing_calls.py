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
from fansync import await_fact, expect, main, own_file_system, put, skip
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


def a_mark_is_refused(place):
    """Of the file system that is to be watched. The state says why nothing is mirrored; what changed meanwhile comes when there is a mark."""
    w = World(place, "direct", "fanotify")
    try:
        w.daemon.start()
        w.daemon.stop()
        w.keep()
        put(w.at("before"), "x")
        with w.faults.failing("fanotify_mark", errno.ENOSPC, role=DAEMON, path=w.source) as rule:
            w.daemon.start(wait=False)
            await_fact(lambda: "no more marks" in str(w.daemon.sync("s")["reason"]), 60, "the state says why: %s" % w.daemon.tail())
            put(w.at("meanwhile"), "x")
            os.unlink(w.at("before"))
            hit = rule.hit
            await_fact(lambda: rule.hit > hit, 60, "it is tried again")
            w.unharmed("without a mark")
        w.converges("with a mark")
        expect(w.source in w.daemon.log() and "no more marks" in w.daemon.log(), "the log says why, and what cannot be watched")
        put(w.at("keep/d1/f1"), "watched now")
        w.converges("watched")
        expect(w.daemon.sync("s")["watcher"]["backend"] == "fanotify", "by fanotify: %s" % w.daemon.sync("s")["watcher"])
    finally:
        w.stop()


def a_directory_is_not_found(place, error):
    """By its handle: where something changed is not known then, so all is compared, and the log says for what reason."""
    w = World(place, "direct", "fanotify")
    try:
        w.daemon.start()
        w.keep()
        with w.faults.failing("open_by_handle_at", error, role=DAEMON) as rule:
            put(w.at("keep/d1/f1"), "changed")
            put(w.at("keep/d2/new"), "x")
            os.rename(w.at("keep/d0/f3"), w.at("keep/d1/f3"))
            await_fact(lambda: rule.hit > 0, 60, "it is looked for")
            w.converges("by a comparison")
            expect(w.daemon.sync("s")["counters"]["reconcile_causes"].get("events lost"), "%s" % w.daemon.sync("s")["counters"])
            expect(os.strerror(error) in w.daemon.log(), "the log says why: %s" % w.daemon.tail())
        put(w.at("keep/d2/new"), "again")
        w.converges("when they can be found")
    finally:
        w.stop()


def a_directory_is_not_found_no_descriptors(place):
    a_directory_is_not_found(place, errno.EMFILE)


def a_directory_is_not_found_bad_disk(place):
    a_directory_is_not_found(place, errno.EIO)


def a_directory_is_not_found_no_memory(place):
    a_directory_is_not_found(place, errno.ENOMEM)


if not own_file_system():
    skip("it mounts a file system: only root may")
main([a_directory_that_is_not_empty_yet, an_unseen_directory_direct, an_unseen_directory_rsync, rsync_gets_a_part_of_its_list, the_source_cannot_be_looked_at,
      a_mark_is_refused, a_directory_is_not_found_no_descriptors, a_directory_is_not_found_bad_disk, a_directory_is_not_found_no_memory])
