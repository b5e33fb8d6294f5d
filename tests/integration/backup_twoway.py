#!/usr/bin/env python3
# TIMEOUT: 120
"""`backupDir` both ways: each host keeps what the other one replaced or deleted there, and no backup is ever mirrored."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import BINARY, Daemon, await_fact, dirs, expect, main, put, run


def section(name, source, target):
    return ('{ name = "%s"; transport = "direct"; source = "%s"; target = "%s"; bidirectional = true; watcher = "inotify"; '
            'backupDir = ".old/%%Y-%%m-%%d"; }' % (name, source, target))


def kept(root):
    """Contents by path, without the day and what tells versions apart."""
    found = []
    for place, _, files in os.walk(root + "/.old"):
        for name in files:
            with open(os.path.join(place, name)) as f:
                found.append((os.path.relpath(os.path.join(place, name), root + "/.old").split("/", 1)[1].split("~")[0], f.read()))
    return sorted(found)


def names(root):
    return sorted(n for n in os.listdir(root) if n != ".old")


def both(a, b, path, text):
    """Whether both ends have that content (None: nothing) by now."""
    def content(root):
        try:
            with open(root + "/" + path) as f:
                return f.read()
        except FileNotFoundError:
            return None
    return content(a) == content(b) == text


def each_end_keeps_its_own(place):
    a, b = dirs(place, "a", "b")
    daemon = Daemon(place, "sync = ( %s, %s );\n" % (section("ab", a, b), section("ba", b, a))).start()
    try:
        put(a + "/f", "first")
        os.mkdir(a + "/d")
        put(a + "/d/g", "in a directory")
        await_fact(lambda: both(a, b, "f", "first") and both(a, b, "d/g", "in a directory"), 30, "mirrored")
        daemon.wait(check=False)
        expect(kept(a) == kept(b) == [], "nothing was replaced: %s %s" % (kept(a), kept(b)))
        put(a + "/f", "second, by a")
        await_fact(lambda: both(a, b, "f", "second, by a"), 30, "changed by a")
        daemon.wait(check=False)
        put(b + "/f", "third version, by b")
        await_fact(lambda: both(a, b, "f", "third version, by b"), 30, "changed by b")
        daemon.wait(check=False)
        shutil.rmtree(b + "/d")
        await_fact(lambda: names(a) == names(b) == ["f"], 30, "removed by b")
        expect(kept(b) == [("f", "first")], "b keeps what a replaced: %s" % kept(b))
        expect(kept(a) == [("d/g", "in a directory"), ("f", "second, by a")], "a keeps what b replaced: %s" % kept(a))
        daemon.client("--sync-now", check=False)
        expect(len(kept(a)) == 2 and len(kept(b)) == 1, "a comparison leaves them alone: %s %s" % (kept(a), kept(b)))
    finally:
        daemon.stop()


def one_that_would_bring_them_back_is_refused(place):
    a, b = dirs(place, "a", "b")
    path = place + "/bad.conf"
    put(path, "sync = (\n%s,\n%s );\n" % (section("ab", a, b), section("ba", b, a).split(" backupDir")[0] + " }"))
    done = run(BINARY, "--check", path, check=False)
    expect(done.returncode != 0 and b"bad.conf:" in done.stderr and b"where backups are put away" in done.stderr, "%r" % done.stderr)


main([each_end_keeps_its_own, one_that_would_bring_them_back_is_refused])
