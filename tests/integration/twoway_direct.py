#!/usr/bin/env python3
# TIMEOUT: 300
"""Bidirectional syncs over `direct`: the cases of twoway.py that are not about ssh and rsync, and two daemons that mirror two
trees to each other."""
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import twoway
from fansync import Daemon, Failure, Skipped, await_fact, differences, main, reachable, tree, whole_seconds
from twoway import (a_deletion_is_of_what_was_seen, a_directory_over_a_file, a_mount_below_is_gone, an_older_one_is_restored, archives,
                    expect, filled, filtered, get, odd_names, put,
                    sends_and_is_silent, the_newer_wins, theirs_is_left_alone, types_change)

twoway.TRANSPORT = "direct"
NOBODY = 65534


def renames_without_echo(place):
    """As a pair where each name is compared by itself does it: by tcp."""
    with twoway.Pair(place, init=filled) as p:
        os.rename(p.a + "/d", p.a + "/moved")
        os.rename(p.a + "/f", p.a + "/moved/f2")
        p.settled()
        twoway.equal(p, "renamed")
        put(p.b + "/g", b"edited there")
        os.rename(p.a + "/g", p.a + "/g2")
        p.settled()
        expect(get(p.b + "/g"), b"edited there", "the old name, edited there")
        expect(get(p.b + "/g2"), b"first g", "the new name")


def inodes(top):
    return {os.path.relpath(os.path.join(d, f), top): os.lstat(os.path.join(d, f)).st_ino
            for d, dirs, files in os.walk(top) for f in files + dirs}


def renames_are_carried(place):
    with twoway.Pair(place, init=filled) as p:
        sent, before = p.counter("files"), inodes(p.b)
        os.rename(p.a + "/d", p.a + "/moved")
        p.settled()
        os.rename(p.a + "/f", p.a + "/moved/f2")
        p.settled()
        twoway.equal(p, "renamed")
        after = inodes(p.b)
        for old, new in (("d", "moved"), ("d/e/z", "moved/e/z"), ("f", "moved/f2")):
            expect(after.get(new), before[old], "%s, renamed to %s" % (old, new))
        expect((p.counter("files"), p.counter("renames")), (sent, 2), "files sent, renames carried")
        # What is agreed on moved along: a deletion deletes, an edit is sent, and theirs is left alone.
        os.unlink(p.a + "/moved/x")
        put(p.a + "/moved/e/z", b"second z")
        put(p.b + "/moved/y", b"edited there")
        at = os.stat(p.a + "/moved/y").st_mtime_ns
        os.utime(p.a + "/moved/y", ns=(at, at))  # it is looked at; a time of now may be newer than what was edited there
        p.wait()
        await_fact(lambda: get(p.b + "/moved/e/z") == b"second z", 10, "an edit under the new name")
        expect(get(p.b + "/moved/x"), None, "deleted under the new name")
        expect(get(p.b + "/moved/y"), b"edited there", "edited there under the new name")


def renames_that_are_not(place):
    """The old name is not as agreed, or the new one is taken: each name is decided on by itself."""
    with twoway.Pair(place, init=filled) as p:
        put(p.b + "/g", b"edited there")
        os.rename(p.a + "/g", p.a + "/g2")
        p.settled()
        expect(get(p.b + "/g"), b"edited there", "the old name, edited there")
        expect(get(p.b + "/g2"), b"first g", "the new name")
        put(p.b + "/taken", b"made there")
        os.rename(p.a + "/f", p.a + "/taken")
        p.wait()
        expect(get(p.b + "/taken"), b"made there", "the newer one, made there")
        await_fact(lambda: get(p.b + "/f") is None, 10, "the old name is gone")
        expect(p.counter("renames"), 0, "renames carried")


def an_echo_moves_what_was_agreed_on(place):
    """Both sides see the rename; what is edited under the new name on the other side is no conflict."""
    with twoway.Pair(place, init=filled) as p:
        sent = p.counter("files")
        os.rename(p.b + "/d", p.b + "/moved")
        put(p.b + "/moved/x", b"edited there")
        os.rename(p.a + "/d", p.a + "/moved")
        p.wait()
        expect(get(p.b + "/moved/x"), b"edited there", "edited there")
        put(p.a + "/moved/x", b"edited there", os.lstat(p.b + "/moved/x").st_mtime_ns)
        p.settled()
        twoway.equal(p, "renamed on both sides")
        expect((p.counter("files"), p.counter("conflicts")), (sent, 0), "files sent, conflicts")


class Hosts:
    """Two trees, two daemons, each of which mirrors its own to the other. `seconds`: times are kept without fractions."""

    seconds = False

    def __init__(self, place):
        self.trees = [place + "/a", place + "/b"]
        for t in self.trees:
            os.mkdir(t)
        self.daemons = [Daemon("%s/d%d" % (place, i), text) for i, text in enumerate(self.configs(place))]

    def configs(self, place):
        return ['''sync = ( { name = "x"; transport = "direct"; source = "%s"; target = "%s";
              bidirectional = true; delay = 0.05; retryMin = 0.05; } );''' % (self.trees[i], self.trees[1 - i]) for i in (0, 1)]

    def __enter__(self):
        for d in self.daemons:
            d.start()
        return self

    def __exit__(self, kind, value, trace):
        for d in self.daemons:
            if kind is not None:
                print("# " + d.tail(40).replace("\n", "\n# "))
            d.stop()

    def quiet(self):
        """Nothing waits on either side, and nothing comes any more."""
        def idle():
            for d in self.daemons:
                d.wait(30, check=False)
            before = [d.sync("x")["counters"]["batches"] for d in self.daemons]
            states = [d.sync("x") for d in self.daemons]
            return (all(s["pending"] == 0 and s["in_flight"] == 0 for s in states) and
                    before == [d.sync("x")["counters"]["batches"] for d in self.daemons])
        await_fact(idle, 60, "silence")

    def equal(self, what):
        a, b = (tree(t) for t in self.trees)
        for facts in list(a.values()) + list(b.values()):
            if facts["kind"] == 0o040000:
                facts["mtime"] = 0  # each side's own
        found = differences(whole_seconds(a), whole_seconds(b)) if self.seconds else differences(a, b)
        if found:
            raise Failure("%s: %s" % (what, found))

    def files(self):
        return sum(d.sync("x")["counters"]["files"] for d in self.daemons)


def two_hosts_and_no_echo(place, kind=Hosts):
    with kind(place) as h:
        put(h.trees[0] + "/f", b"from a")
        os.makedirs(h.trees[1] + "/d/e")
        put(h.trees[1] + "/d/e/g", b"from b")
        h.quiet()
        h.equal("one file each")
        expect(get(h.trees[1] + "/f"), b"from a", "a to b")
        expect(get(h.trees[0] + "/d/e/g"), b"from b", "b to a")
        expect(h.files(), 2, "files sent, without echo")
        put(h.trees[1] + "/f", b"changed by b")
        os.unlink(h.trees[0] + "/d/e/g")
        h.quiet()
        h.equal("changed and deleted")
        expect(get(h.trees[0] + "/f"), b"changed by b", "b to a")
        expect(get(h.trees[1] + "/d/e/g"), None, "deleted by a")
        expect(h.files(), 3, "files sent, without echo")


def two_hosts_rename(place, kind=Hosts):
    """Directories and files, back and forth: carried once, by nobody sent, and then there is silence."""
    with kind(place) as h:
        os.makedirs(h.trees[0] + "/d/e")
        for n in range(20):
            put("%s/d/e/%d" % (h.trees[0], n), b"%d" % n)
        h.quiet()
        sent = h.files()
        for n, (old, new) in enumerate((("d", "d2"), ("d2/e", "e2"), ("e2/3", "d2/three"), ("d2", "d"))):
            t = h.trees[n % 2]
            os.rename(t + "/" + old, t + "/" + new)
            h.quiet()
            h.equal("%s renamed to %s" % (old, new))
            expect(os.path.lexists(h.trees[1 - n % 2] + "/" + old), False, old + " is still there")
        expect(h.files(), sent, "files sent")
        expect(sum(d.sync("x")["counters"]["conflicts"] for d in h.daemons), 0, "conflicts")


def two_hosts_edit_at_random(place, kind=Hosts):
    chance = random.Random(int(os.environ.get("SEED", "1")))
    with kind(place) as h:
        for n in range(300):
            t = chance.choice(h.trees)
            name = "%s/%s" % (t, chance.choice(["a", "b", "c", "d/a", "d/b", "e/f/g"]))
            try:
                if chance.random() < 0.25:
                    os.unlink(name)
                else:
                    os.makedirs(os.path.dirname(name), exist_ok=True)
                    put(name, b"%d" % n)
            except OSError:
                pass
            if n % 60 == 59:
                h.quiet()
                h.equal("after %d edits" % (n + 1))


def owners_of_others(place):
    """Who may not give files away makes all that arrives its own. That is no change, also to a daemon that starts anew."""
    if os.geteuid() != 0:
        raise Skipped("needs root, to be another user")
    a, b = place + "/a", place + "/b"
    reachable(place)
    for d in (place, a, b):
        os.makedirs(d, exist_ok=True)
        os.chown(d, NOBODY, NOBODY)
    put(a + "/of root", b"1")
    daemon = Daemon(place, 'sync = ( { name = "x"; transport = "direct"; source = "%s"; target = "%s"; bidirectional = true; '
                           'rsync = { archive = true; }; } );\n' % (a, b),
                    prefix=["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--"])
    for _ in range(3):
        daemon.start()
        daemon.wait()
        daemon.client("--sync-now")
        expect(get(b + "/of root"), b"1", "at the target")
        x = daemon.sync("x")
        expect((x["counters"]["conflicts"], x["failures"]), (0, []), "conflicts, failures")
        daemon.stop()


if __name__ == "__main__":
    main([owners_of_others, sends_and_is_silent, theirs_is_left_alone, a_deletion_is_of_what_was_seen, the_newer_wins, a_directory_over_a_file,
          an_older_one_is_restored, odd_names, types_change,
          archives, a_mount_below_is_gone, filtered, renames_are_carried, renames_that_are_not, an_echo_moves_what_was_agreed_on,
          two_hosts_and_no_echo, two_hosts_rename, two_hosts_edit_at_random])
