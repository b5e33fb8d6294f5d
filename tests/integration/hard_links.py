#!/usr/bin/env python3
"""Files with several names: a write through one, whose others the worker does not know and has just searched for; a name that came with another one
and goes again."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, await_fact, differences, dirs, expect, main, put, tree


def same(source, target):
    found = differences(tree(source, (b"many",)), tree(target))
    expect(not found, "not equal: %s" % found)


def names_that_moved(place):
    source, target = dirs(place, "source", "target")
    os.makedirs(source + "/old")
    os.makedirs(source + "/many")
    put(source + "/a")
    os.link(source + "/a", source + "/b")
    for i in range(3000):  # a search takes some time, and has to wait for its turn
        put("%s/many/%d" % (source, i), "")
    put(source + "/old/c")
    os.link(source + "/old/c", source + "/old/d")
    d = Daemon(place, 'sync = ( { name = "s"; transport = "direct"; source = "%s"; target = "%s"; watcher = "inotify"; delay = 0.0; retryMin = 0.1; '
                      'exclude = [ "/many/" ]; rsync = { archive = true; hard_links = true; }; } );\n' % (source, target))
    d.start()
    try:
        put(source + "/a", "the search is due to this")
        d.wait()
        same(source, target)
        for i in range(3):
            os.rename(source + "/old", source + "/new")
            d.wait()
            put(source + "/new/c", "through one name, %d" % i)
            d.wait()
            same(source, target)
            os.rename(source + "/new", source + "/old")
    finally:
        d.stop()


def came_with_another_and_went(place):
    """A new name is at the target before anything was said of it, since the file was sent under all of its names; when it goes again, it is not one
    that the target never had. What looks like a temporary file of rsync's is held back: time enough."""
    for transport, watcher in (("direct", "fanotify"), ("direct", "inotify"), ("rsync", "inotify")):
        where = "%s/%s-%s" % (place, transport, watcher)
        source, target = dirs(where, "source", "target")
        for name in ("one", "two"):
            os.makedirs("%s/%s" % (source, name))
        put(source + "/one/a")
        d = Daemon(where, 'sync = ( { name = "s"; transport = "%s"; source = "%s"; target = "%s"; watcher = "%s"; delay = 0.05; '
                   'rsync = { archive = true; hard_links = true; }; } );\n' % (transport, source, target, watcher))
        d.start()
        try:
            new = "/two/.new.abcdef"
            os.link(source + "/one/a", source + new)
            put(source + "/one/a", "changed")
            await_fact(lambda: os.path.exists(target + new), 30, "the other name is sent with the file, %s" % where)
            os.unlink(source + new)
            d.wait()
            same(source, target)
        finally:
            d.stop()


main((names_that_moved, came_with_another_and_went))
