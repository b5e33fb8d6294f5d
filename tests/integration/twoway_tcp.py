#!/usr/bin/env python3
# TIMEOUT: 300
"""Bidirectional syncs over `tcp`: the cases of twoway.py that are not about ssh and rsync, where the receiver compares; two
daemons, each with a receiver and a sync to the other; a receiver that can't do it; either end killed."""
import os
import random
import shutil
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import twoway
import twoway_direct
from fansync import Daemon, Failure, await_fact, children, free_port, kill, main
from tcp_peer import FakeReceiver
from twoway import (a_deletion_is_of_what_was_seen, a_directory_over_a_file, a_mount_below_is_gone, archives, down_and_up, expect, filled,
                    filtered, get,
                    odd_names, put, sends_and_is_silent, the_newer_wins, theirs_is_left_alone, types_change)
from twoway_direct import an_echo_moves_what_was_agreed_on, renames_are_carried, renames_that_are_not, renames_without_echo

twoway.TRANSPORT = "tcp"


class Hosts(twoway_direct.Hosts):
    def configs(self, place):
        ports = [free_port(), free_port()]
        return ['''receiver = { listen = [ "127.0.0.1:%d" ]; modules = ( { name = "tree"; path = "%s"; } ); };
          sync = ( { name = "x"; transport = "tcp"; source = "%s"; host = "127.0.0.1"; port = %d; module = "tree";
              bidirectional = true; delay = 0.05; retryMin = 0.05; } );''' % (
                    ports[i], self.trees[i], self.trees[i], ports[1 - i]) for i in (0, 1)]

    def __enter__(self):
        for d in self.daemons:
            d.start(wait=False)
        for d in self.daemons:
            d.wait()
        return self


def two_hosts_and_no_echo(place):
    twoway_direct.two_hosts_and_no_echo(place, Hosts)


def two_hosts_rename(place):
    twoway_direct.two_hosts_rename(place, Hosts)


def two_hosts_edit_at_random(place):
    twoway_direct.two_hosts_edit_at_random(place, Hosts)


def what_went_on_both_sides(place):
    """While it was down, and is forgotten: it may come back there as it was."""
    with twoway.Pair(place, init=filled) as p:
        p.daemon.stop()
        shutil.copy2(p.b + "/g", place + "/kept")
        for end in (p.a, p.b):
            os.unlink(end + "/g")
        p.daemon.start()
        p.settled()
        shutil.copy2(place + "/kept", p.b + "/g")
        p.daemon.client("--sync-now", check=False)
        p.settled()
        expect(get(p.b + "/g"), b"first g", "what came back at the target")


def a_work_in_pieces(place):
    """Long paths, so that few files are more than one piece of a work (1 MiB of paths)."""
    deep = "/".join(["y" * 240] * 12)
    def many(p):
        for i in range(20):
            os.makedirs("%s/%d/%s" % (p.a, i, deep))
            for n in range(20):
                put("%s/%d/%s/%d" % (p.a, i, deep, n), b"%d" % i)
    with twoway.Pair(place, init=many) as p:
        twoway.equal(p, "at the start")
        put("%s/10/%s/theirs" % (p.b, deep), b"theirs")
        for i in range(19):
            shutil.rmtree("%s/%d" % (p.a, i))
        p.settled()
        expect(os.listdir("%s/10/%s" % (p.b, deep)), ["theirs"], "a deleted directory with something unseen")
        shutil.rmtree(p.b + "/10")
        twoway.equal(p, "many deletions")


def either_end_is_killed(place):
    """At any moment: what both agreed on may be forgotten, no change is."""
    chance = random.Random(int(os.environ.get("SEED", "1")))
    with Hosts(place) as h:
        for n in range(40):
            put("%s/%d" % (h.trees[n % 2], n // 2 % 7), b"%d" % n)
            if n % 5 == 4:
                for pid in children(h.daemons[chance.randrange(2)].process.pid, every=True):
                    kill(pid, signal.SIGKILL)
        h.quiet()
        h.equal("after the deaths")
        for name in range(7):
            last = max(n for n in range(40) if n // 2 % 7 == name)
            if get("%s/%d" % (h.trees[0], name)) != b"%d" % last:
                raise Failure("%d is %r, not %d" % (name, get("%s/%d" % (h.trees[0], name)), last))


def a_receiver_that_cannot(place):
    """An older one refuses the option; one that does not say that it can is not believed. Either way the sync says so."""
    fake = FakeReceiver()
    os.makedirs(place + "/a")
    put(place + "/a/f", b"x")
    d = Daemon(place + "/d", '''sync = ( { name = "x"; transport = "tcp"; source = "%s/a"; host = "127.0.0.1"; port = %d;
      module = "web"; bidirectional = true; retryMin = 0.1; retryMax = 0.1; } );''' % (place, fake.port))
    d.start(wait=False)
    try:
        for refuse, words in ((None, "does not mirror both ways"), ("an old one refuses", "an old one refuses")):
            c = fake.accept(refuse=refuse)
            await_fact(lambda: words in (d.sync("x")["reason"] or ""), 20, words)
            c.close()
    finally:
        fake.close()
        d.stop()


if __name__ == "__main__":
    main([sends_and_is_silent, theirs_is_left_alone, a_deletion_is_of_what_was_seen, the_newer_wins, a_directory_over_a_file, odd_names,
          types_change, archives,
          down_and_up, a_mount_below_is_gone, filtered, renames_without_echo, renames_are_carried,
          renames_that_are_not, an_echo_moves_what_was_agreed_on, what_went_on_both_sides,
          a_work_in_pieces, two_hosts_and_no_echo, two_hosts_rename, two_hosts_edit_at_random, either_end_is_killed, a_receiver_that_cannot])
