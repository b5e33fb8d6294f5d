#!/usr/bin/env python3
# TIMEOUT: 200
"""Files of the source with a further name outside of it: what is done through that name arrives, without a comparison. With
each watcher, over rsync and direct."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, Failure, await_fact, differences, main, tree


class Linked:
    """A source with files that are linked from outside before the start, and the daemon on it."""

    def __init__(self, place, watcher, transport):
        self.source, self.outside, self.target = place + "/source", place + "/outside", place + "/target"
        for path in (self.source + "/deep/er", self.source + "/no", self.outside, self.target):
            os.makedirs(path)
        for name in ("first", "deep/er/second", "no/third"):
            self.write(self.path(name), "before\n")
            os.link(self.path(name), self.out(name))
        os.link(self.path("deep/er/second"), self.path("deep/twin"))
        self.write(self.path("alone"), "alone\n")
        self.daemon = Daemon(place, 'sync = ( { name = "s"; transport = "%s"; source = "%s"; target = "%s"; delay = 0.0; '
                             'watcher = "%s"; exclude = [ "/no/" ]; rsync = { archive = true; }; } );\n'
                             % (transport, self.source, self.target, watcher))
        self.daemon.start()

    def path(self, name):
        return os.path.join(self.source, name)

    def out(self, name):
        return os.path.join(self.outside, name.replace("/", "-"))

    def at_target(self, name):
        try:
            with open(os.path.join(self.target, name)) as f:
                return f.read()
        except FileNotFoundError:
            return None

    @staticmethod
    def write(path, text):
        with open(path, "w") as f:
            f.write(text)

    def reconciles(self):
        """rsync cannot rename a directory: its new name is compared."""
        causes = self.daemon.sync("s")["counters"]["reconcile_causes"]
        return {cause: n for cause, n in causes.items() if cause != "a rename that the target could not do"}

    def arrives(self, name, text, what):
        try:
            await_fact(lambda: self.at_target(name) == text, 20, what)
        except Failure as e:
            raise Failure("%s: %r\n%s" % (e, self.at_target(name), self.daemon.tail(40)))

    def through(self, outside, text, what, *names):
        """Written under the outside name, seen under these."""
        self.write(outside, text)
        for name in names:
            self.arrives(name, text, what)

    def end(self):
        self.daemon.wait()
        found = differences(tree(self.source, (b"no",)), tree(self.target))
        if found:
            raise Failure("not equal:\n  " + "\n  ".join(found))
        if self.reconciles() != {"start": 1}:
            raise Failure("compared: %s" % self.daemon.sync("s")["counters"])


def linked_before(c):
    # The first write may come before the search is over; what follows is told by the watch alone.
    for text in ("one\n", "another\n", "a third, longer\n"):
        c.through(c.out("first"), text, "a file linked before the start", "first")
        c.through(c.out("deep/er/second"), text, "one with two names inside", "deep/er/second", "deep/twin")
    os.chmod(c.out("first"), 0o600)
    await_fact(lambda: os.stat(os.path.join(c.target, "first")).st_mode & 0o777 == 0o600, 20, "a mode set outside")


def linked_in(c):
    c.write(c.out("new"), "new\n")
    os.link(c.out("new"), c.path("deep/new"))
    c.arrives("deep/new", "new\n", "a file linked in")
    for text in ("new one\n", "new again\n"):
        c.through(c.out("new"), text, "a file linked in, written outside", "deep/new")


def linked_out(c):
    """The kernel says nothing inside of a link made from there to outside; the file is known from its next change on."""
    c.write(c.path("going"), "going\n")
    os.link(c.path("going"), c.out("going"))
    c.write(c.path("going"), "gone\n")
    c.arrives("going", "gone\n", "a file linked out")
    for text in ("going one\n", "going again\n"):
        c.through(c.out("going"), text, "a file linked out, written outside", "going")


def renamed(c):
    os.rename(c.path("first"), c.path("deep/renamed"))
    c.through(c.out("first"), "renamed\n", "a renamed file", "deep/renamed")
    os.rename(c.path("deep"), c.path("deeper"))
    c.through(c.out("first"), "in a renamed directory\n", "a file in a renamed directory", "deeper/renamed")
    c.through(c.out("deep/er/second"), "its neighbour\n", "another one there", "deeper/er/second", "deeper/twin")
    os.unlink(c.path("deeper/er/second"))
    c.through(c.out("deep/er/second"), "one name less\n", "a name less inside", "deeper/twin")


def outside_gone(c):
    os.unlink(c.out("first"))
    c.write(c.path("deeper/renamed"), "inside\n")
    c.arrives("deeper/renamed", "inside\n", "a file that is linked no more")
    os.unlink(c.path("deeper/twin"))
    c.write(c.out("deep/er/second"), "nobody's\n")
    c.daemon.wait()


def scenario(place, watcher, transport):
    c = Linked(place, watcher, transport)
    try:
        for step in (linked_before, linked_in, linked_out, renamed, outside_gone):
            step(c)
        c.end()
    finally:
        c.daemon.stop()


def fanotify_rsync(place):
    scenario(place, "fanotify", "rsync")


def inotify_rsync(place):
    scenario(place, "inotify", "rsync")


def fanotify_direct(place):
    scenario(place, "fanotify", "direct")


def inotify_direct(place):
    scenario(place, "inotify", "direct")


main([fanotify_rsync, inotify_rsync, fanotify_direct, inotify_direct])
