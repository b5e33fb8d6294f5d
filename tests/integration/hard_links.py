#!/usr/bin/env python3
"""A write through one name of a file, whose other names the worker does not know and has just searched for: they arrive all the same."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, differences, dirs, expect, main, put, tree


def same(source, target):
    found = differences(tree(source, (b"many",)), tree(target))
    expect(not found, "not equal: %s" % found)


def names_that_moved(place):
    source, target = dirs(place, "source", "target")
    os.makedirs(source + "/old")
    os.makedirs(source + "/many")
    put(source + "/a")
    os.link(source + "/a", source + "/b")
    for i in range(2000):  # a search takes some time, and has to wait for its turn
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


main((names_that_moved,))
