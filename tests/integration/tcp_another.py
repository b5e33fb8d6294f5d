#!/usr/bin/env python3
# TIMEOUT: 120
"""tcp, after a connection was lost: a receiver whose kernel was started anew may have lost what it acknowledged (durability =
"none"), and one on another host, or with another directory, never had it. Everything is compared then, and else not."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import tcp_peer as tcp
from fansync import Daemon, expect, main, put
from tcp_peer import APPLY, RECONCILE, FakeReceiver


class Sending:
    """A sender, and a scripted receiver that is greeted anew for each change."""

    def __init__(self, place, more):
        self.source, self.fake, self.n, self.c = place + "/source", FakeReceiver(), 0, None
        os.makedirs(self.source)
        self.daemon = Daemon(place + "/s", 'sync = ( { name = "w"; transport = "tcp"; source = "%s"; host = "127.0.0.1"; port = %d; '
                             'module = "web"; delay = 0.0; retryMin = 0.1; retryMax = 0.3; %s } );\n' % (self.source, self.fake.port, more))

    def __enter__(self):
        self.daemon.start(wait=False)
        return self

    def __exit__(self, *why):
        self.daemon.stop()
        self.fake.close()

    def change(self, what, kind):
        """One more change. A comparison, if there is to be one, comes behind it: then the next change comes alone."""
        self.n += 1
        name = "f%d" % self.n
        put("%s/%s" % (self.source, name))
        seen = []
        while not seen or name not in seen[-1][1]:
            seen.append(tcp.carry(self.c))
        expect(all(k == kind or k == APPLY for k, _ in seen), "%s: %s" % (what, seen))
        return [k for k, _ in seen]

    def connected(self, what, compares, **how):
        if self.c is not None:
            self.c.close()
        before = self.n
        self.n += 1
        put("%s/f%d" % (self.source, self.n))  # it connects when there is something to send
        self.c = self.fake.accept(features=tcp.FEATURE_BOOT, **how)
        seen = [tcp.carry(self.c)]
        if before > 0:
            expect(seen[0][0] == APPLY, "%s: what is pending comes first: %s" % (what, seen))
        if compares:
            while seen[-1][0] != RECONCILE:
                seen.append(tcp.carry(self.c))
            expect(seen[-1][1] == [""], "%s: all of it: %s" % (what, seen))
        kinds = self.change(what, APPLY)
        expect(RECONCILE not in kinds, "%s: once at most" % what)


def one_way(place):
    with Sending(place, "") as s:
        s.connected("the start", True)
        expect(s.c.offered & tcp.FEATURE_BOOT, "it asks for it")
        s.connected("the same one", False)
        s.connected("its kernel was started anew", True, boot=b"c" * 16)
        s.connected("the same again", False, boot=b"c" * 16)
        s.connected("it can't tell", False, boot=bytes(16))
        s.connected("it can again", False, boot=b"c" * 16)
        s.connected("another directory", True, boot=b"c" * 16, root=(1, 3))
        s.connected("another host", True, boot=b"c" * 16, root=(1, 3), host=b"s" * 16)
        s.connected("the same one in the end", False, boot=b"c" * 16, root=(1, 3), host=b"s" * 16)
        expect("everything is compared" in s.daemon.log(), "it is said")


def what_is_synced_stays(place):
    with Sending(place, 'durability = "batch";') as s:
        s.connected("the start", True)
        expect(s.c.offered & tcp.FEATURE_BOOT == 0, "it does not ask for it")
        s.connected("the same one", False)


main([one_way, what_is_synced_stays])
