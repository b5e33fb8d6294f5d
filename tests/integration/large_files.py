#!/usr/bin/env python3
# TIMEOUT: 300
"""A large file travels in a lane of its own, for every transport: what is small goes by while it is under way, and what becomes
of it meanwhile, or of a directory above it, holds nothing up for long.

A limit of bandwidth keeps it under way for as long as a case takes; that it is so, the status says."""
import os
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import BINARY, await_fact, expect, kill, main
from mirroring import World

LARGE = 6 << 20
SLOW = "bwlimit = 4;"  # KiB/s: it would take half an hour
HERE = "largeFile = 65536; "


def under_way(w, path=None):
    """What the status says of the large lane, once that is about `path`."""
    def look():
        large = w.daemon.sync("w")["large"]
        return large if large and (path is None or large["path"] == path) else None
    return await_fact(look, 60, "%s under way\n%s" % (path or "a large file", w.daemon.tail(30)))


def arrives(w, path, content):
    def look():
        try:
            return w.read(path) == content
        except (FileNotFoundError, NotADirectoryError):
            return False
    await_fact(look, 60, "%s at the target\n%s" % (path, w.daemon.tail(30)))


def leaves(w, path):
    await_fact(lambda: not os.path.lexists(w.there(path)), 60, "%s gone from the target\n%s" % (path, w.daemon.tail(30)))


def world(place, transport, options=SLOW, more=""):
    w = World(place, transport, "live", options=options, more=HERE + more)
    w.synced("nothing yet")
    return w


def what_is_small_goes_by(w):
    w.put("d/large", os.urandom(LARGE))
    first = under_way(w, "d/large")
    w.put("d/small", b"small")
    w.put("other/small", b"small too")
    arrives(w, "d/small", b"small")
    arrives(w, "other/small", b"small too")
    os.rename(w.at("d/small"), w.at("other/moved"))
    os.remove(w.at("other/small"))
    arrives(w, "other/moved", b"small")
    leaves(w, "other/small")
    if not w.transport.startswith("rsync"):  # whose comparisons carry large files themselves
        while_all_is_to_be_compared(w)
    now = under_way(w, "d/large")
    expect(now["worker_pid"] == first["worker_pid"] and now["seconds"] >= first["seconds"], "it was begun anew: %s %s" % (first, now))
    expect(not os.path.exists(w.there("d/large")) or os.path.getsize(w.there("d/large")) < LARGE, "it is there already")


def while_all_is_to_be_compared(w):
    """That waits for the large file, and nothing else waits for that."""
    before = w.daemon.sync("w")["counters"]["reconciles"]
    client = subprocess.Popen([BINARY, "--sync-now", w.daemon.config_path], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    try:
        await_fact(lambda: w.daemon.sync("w")["counters"]["reconciles"] > before, 60, "a comparison is asked for")
        w.put("d/beside", b"beside")
        w.put("another/beside", b"beside, too")
        arrives(w, "d/beside", b"beside")
        arrives(w, "another/beside", b"beside, too")
        os.remove(w.at("d/beside"))
        leaves(w, "d/beside")
        expect(client.poll() is None, "all was compared, with a file on its way")
    finally:
        client.kill()
        client.wait()


def it_is_renamed_and_removed(w):
    w.put("d/more", b"more")
    arrives(w, "d/more", b"more")
    here = "d"
    if not w.lacks("rename"):  # else a comparison is what carries it
        here = "e"
        os.rename(w.at("d"), w.at(here))
        under_way(w, "e/large")
        arrives(w, "e/more", b"more")
        leaves(w, "d")
    os.rename(w.at(here + "/large"), w.at(here + "/larger"))
    under_way(w, here + "/larger")
    shutil.rmtree(w.at(here))
    leaves(w, here)


def a_worker_dies(w):
    w.put("large", os.urandom(LARGE))
    first = under_way(w, "large")["worker_pid"]
    kill(w.daemon.sync("w")["worker_pid"], 9)
    w.put("beside", b"beside")
    arrives(w, "beside", b"beside")
    expect(under_way(w, "large")["worker_pid"] == first, "the other worker went, too")
    kill(first, 9)
    await_fact(lambda: (w.daemon.sync("w")["large"] or {"worker_pid": first})["worker_pid"] != first, 60, "another worker")
    w.put("beside", b"again")
    arrives(w, "beside", b"again")
    os.remove(w.at("large"))


def beside_it(place, transport):
    w = world(place, transport)
    try:
        what_is_small_goes_by(w)
        it_is_renamed_and_removed(w)
        a_worker_dies(w)
        w.synced("all of it")
        expect(w.daemon.sync("w")["large"] is None, "something is under way still")
    finally:
        w.done()


def direct(place):
    beside_it(place, "direct")


def sftp(place):
    beside_it(place, "sftp")


def tcp(place):
    beside_it(place, "tcp")


def rsync(place):
    beside_it(place, "rsync")


def rsyncssh(place):
    beside_it(place, "rsyncssh")


def all_arrive(place):
    """More than one, with several names, shrinking, growing, replaced."""
    w = world(place, "direct", "")
    try:
        for i in range(4):
            w.put("d%d/large" % (i % 2) + str(i), os.urandom(200000))
        w.put("grows", b"x")
        w.put("shrinks", os.urandom(100000))
        w.synced("large files")
        os.link(w.at("d0/large0"), w.at("d1/link"))
        w.put("grows", os.urandom(100000))
        w.put("shrinks", b"x")
        w.put("new", os.urandom(100000))
        os.rename(w.at("new"), w.at("d1/large1"))
        w.synced("they changed")
        with open(w.at("d0/large0"), "ab") as f:
            f.write(b"more")
        os.remove(w.at("d1/large3"))
        os.chmod(w.at("d0/large2"), 0o600)
        w.synced("again")
        expect(w.counters()["retries"] == 0, w.counters())
    finally:
        w.done()


def reload(w, old, new):
    text = open(w.daemon.config_path).read()
    expect(old in text, text)
    with open(w.daemon.config_path, "w") as f:
        f.write(text.replace(old, new, 1))
    words = w.daemon.log().count("reload: reading")
    w.daemon.process.send_signal(signal.SIGHUP)
    await_fact(lambda: w.daemon.log().count("reload: reading") > words, 20, "a reload\n" + w.daemon.tail())


def comparisons_leave_it(place):
    """The first comparison is over but for what is large; a reload changes nothing of that, or begins anew."""
    w = World(place, "direct", "live", options=SLOW, more=HERE)
    w.put("d/large", os.urandom(LARGE))
    w.put("d/small", b"small")
    w.daemon.start(wait=False)
    try:
        first = under_way(w, "d/large")["worker_pid"]
        arrives(w, "d/small", b"small")
        expect(not w.daemon.sync("w")["first_reconcile_done"], "the first comparison is over")
        reload(w, "nodaemon", "stopTimeout = 1; nodaemon")
        expect(under_way(w, "d/large")["worker_pid"] == first, "an undisturbed sync was restarted")
        reload(w, "retryMin = 0.2", "retryMin = 0.3")
        await_fact(lambda: under_way(w, "d/large")["worker_pid"] != first, 30, "it is begun anew")
        os.remove(w.at("d/large"))
        w.daemon.wait()
        w.equal("without it")
        expect(w.daemon.sync("w")["first_reconcile_done"], "the first comparison is not over")
    finally:
        w.daemon.stop()


def one_process(place):
    """With maxProcesses = 1 there is one lane, and it carries all."""
    w = World(place, "rsync", "live", more=HERE)
    text = open(w.daemon.config_path).read()
    with open(w.daemon.config_path, "w") as f:
        f.write(text.replace("settings = { ", "settings = { maxProcesses = 1; ", 1))
    try:
        w.synced("nothing yet")
        w.put("large", os.urandom(100000))
        w.put("small", b"x")
        w.synced("both")
        expect(w.daemon.sync("w")["counters"]["processes"] <= 3, w.counters())
    finally:
        w.done()


main([direct, sftp, tcp, rsync, rsyncssh, all_arrive, comparisons_leave_it, one_process])
