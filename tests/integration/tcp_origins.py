#!/usr/bin/env python3
# TIMEOUT: 120
"""Chains, pairs and rings of hosts over tcp, with syncs of one way: what a receiver wrote is passed on to third hosts, and not
carried back to where it came from; rings end. By fanotify the daemon knows who wrote; by inotify the unchanged-check ends it."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, Failure, Skipped, await_fact, children, expect_equal, free_port, main


class Hosts:
    """Daemons with a receiver each; `ways`: (from, to) of each sync. `trees`: what is sent, when it is not the module."""

    def __init__(self, place, n, ways, watcher, modules=None):
        self.trees = [place + "/tree%d" % i for i in range(n)]
        modules = modules or self.trees
        for d in self.trees + modules:
            os.makedirs(d, exist_ok=True)
        ports = [free_port() for _ in range(n)]
        self.daemons = []
        for i in range(n):
            syncs = ['{ name = "to%d"; transport = "tcp"; source = "%s"; host = "127.0.0.1"; port = %d; module = "tree"; watcher = "%s"; '
                     'delay = 0; retryMin = 0.1; retryMax = 0.5; }' % (b, self.trees[a], ports[b], watcher) for a, b in ways if a == i]
            self.daemons.append(Daemon(place + "/d%d" % i, 'receiver = { listen = [ "127.0.0.1:%d" ]; modules = ( { name = "tree"; '
                                       'path = "%s"; } ); };\nsync = ( %s );' % (ports[i], modules[i], ", ".join(syncs))))

    def __enter__(self):
        for d in self.daemons:
            d.start(wait=False)
        self.settle()
        return self

    def __exit__(self, kind, *more):
        for d in self.daemons:
            if kind is not None:
                print("# " + d.tail(30).replace("\n", "\n# "))
            d.stop()

    def settle(self):
        """What arrives is a change, too."""
        for _ in self.daemons:
            for d in self.daemons:
                d.wait(30)

    def counters(self):
        return [s["counters"] for d in self.daemons for s in d.status()["syncs"]]

    def sum(self, name):
        return sum(c[name] for c in self.counters())

    def equal(self, what):
        for t in self.trees[1:]:
            expect_equal(self.trees[0], t, what)

    def silent(self):
        """Nothing moves any more."""
        def still():
            before = [c["batches"] for c in self.counters()]
            self.settle()
            return before == [c["batches"] for c in self.counters()]
        await_fact(still, 30, "silence")


def put(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)


def changes(h):
    """Of all kinds, each followed by what carries it."""
    for i in range(5):
        put("%s/d/%d" % (h.trees[0], i), "text %d" % i)
    h.settle()
    put(h.trees[0] + "/d/0", "another text")
    os.unlink(h.trees[0] + "/d/1")
    os.rename(h.trees[0] + "/d/2", h.trees[0] + "/d/two")
    os.chmod(h.trees[0] + "/d/3", 0o600)
    h.settle()
    shutil.rmtree(h.trees[0] + "/d")
    put(h.trees[0] + "/last", "last")
    h.settle()
    h.silent()
    h.equal("in the end")


def fanotify_or_skip(h):
    if any(s["watcher"]["backend"] != "fanotify" for d in h.daemons for s in d.status()["syncs"]):
        raise Skipped("no fanotify here")


def pair(place):
    """Two hosts that mirror to each other: what is told back is next to nothing."""
    with Hosts(place, 2, [(0, 1), (1, 0)], "fanotify") as h:
        fanotify_or_skip(h)
        changes(h)
        back = h.daemons[1].sync("to0")["counters"]
        if back["files"] != 0 or back["deletions"] != 0 or back["echoes"] < 10:
            raise Failure("carried back: %s" % back)


def pair_by_inotify(place):
    with Hosts(place, 2, [(0, 1), (1, 0)], "inotify") as h:
        changes(h)
        back = h.daemons[1].sync("to0")["counters"]
        # Who has written is not known: what has moved on meanwhile may be sent back once, before both are equal again.
        if back["files"] > 6 or back["echoes"] != 0:
            raise Failure("carried back: %s" % back)


def chain(place):
    with Hosts(place, 3, [(0, 1), (1, 2)], "fanotify") as h:
        changes(h)
        if h.sum("echoes") != 0:
            raise Failure("taken for an echo: %s" % h.counters())


def ring(place):
    with Hosts(place, 3, [(0, 1), (1, 2), (2, 0)], "fanotify") as h:
        changes(h)
        put(h.trees[1] + "/of1", "of host 1")
        put(h.trees[2] + "/of2", "of host 2")
        h.silent()
        h.equal("from everywhere")


def another_tree(place):
    """What came from one directory of a host is carried to another one of it."""
    with Hosts(place, 2, [(0, 1), (1, 0)], "fanotify", [place + "/other", place + "/tree1"]) as h:
        changes_of = h.trees[0] + "/f"
        put(changes_of, "there and back")
        h.settle()
        h.silent()
        expect_equal(h.trees[0], place + "/other", "carried on to another directory")
        if h.sum("echoes") != 0:
            raise Failure("taken for an echo: %s" % h.counters())


def other_names(place):
    """A file with another name at the receiver: what is done to the one that the sender has is done to the other, which the sender
    does not know of."""
    with Hosts(place, 2, [(0, 1), (1, 0)], "fanotify") as h:
        fanotify_or_skip(h)
        put(h.trees[0] + "/one", "text")
        h.settle()
        os.link(h.trees[1] + "/one", h.trees[1] + "/two")
        h.settle()
        h.silent()
        h.equal("linked")
        os.chmod(h.trees[0] + "/one", 0o604)
        h.settle()
        h.silent()
        h.equal("both names are changed there")


def another_receiver(place):
    """What came from a host while its receiver is away is no echo for the one that comes in its place."""
    with Hosts(place, 2, [(0, 1), (1, 0)], "fanotify") as h:
        fanotify_or_skip(h)
        put(h.trees[0] + "/before", "text")
        h.settle()
        h.silent()
        config = h.daemons[0].config_path
        with open(config) as f:
            text = f.read()
        os.makedirs(place + "/new")
        with open(config, "w") as f:
            f.write(text.replace('path = "%s"' % h.trees[0], 'path = "%s/new"' % place))
        h.daemons[0].process.send_signal(1)
        await_fact(lambda: "connected again for the next change" in h.daemons[1].log(), 20, "the old receiver is gone")
        await_fact(lambda: "listening" == h.daemons[0].status()["receiver"]["state"], 20, "the other module")
        put(h.trees[0] + "/later", "more text")
        h.settle()
        await_fact(lambda: os.path.exists(place + "/new/later"), 20, "carried to the other directory")
        await_fact(lambda: os.path.exists(place + "/new/before"), 20, "and what the old one had")


def sessions_end(place):
    """A session's number means nothing once it has ended; the next one is known again."""
    with Hosts(place, 2, [(0, 1), (1, 0)], "fanotify") as h:
        fanotify_or_skip(h)
        for n in range(3):
            for pid in children(h.daemons[1].process.pid, every=True):
                with open("/proc/%d/comm" % pid) as f:
                    if f.read().strip() == "fansyncd:sessio":
                        os.kill(pid, 9)
            put("%s/f%d" % (h.trees[0], n), "text")
            h.settle()
        h.silent()
        h.equal("after the sessions' deaths")
        if h.daemons[1].sync("to0")["counters"]["files"] != 0:
            raise Failure("carried back: %s" % h.counters())


if __name__ == "__main__":
    main([pair, pair_by_inotify, chain, ring, another_tree, other_names, another_receiver, sessions_end])
