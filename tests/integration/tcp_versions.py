#!/usr/bin/env python3
# TIMEOUT: 120
"""tcp between ends of other versions: peers that speak version 1 alone, 1 to 2, and 2 to 3, on either side; features and options
that only a later version knows."""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import tcp_peer as tcp
from fansync import Daemon, Failure, Receiver, await_fact, expect, expect_equal, main, put

LATER = 0xffff0000  # features that nobody knows yet


class Served:
    """A receiver of ours, for scripted senders."""

    def __init__(self, place):
        self.target = place + "/target"
        os.makedirs(self.target)
        self.receiver = Receiver(place + "/receiver", self.target, tls=False)

    def __enter__(self):
        self.receiver.start()
        return self

    def __exit__(self, *why):
        self.receiver.stop()

    def refused(self, words, **hello):
        s = tcp.Sender(self.receiver.port)
        s.hello(**hello)
        got = s.next()
        expect(got is not None and got[0] == tcp.REFUSE, "%s: refused" % hello)
        expect(s.ended(), "and closed")
        for word in words:
            expect(word in s.why[2].decode(), "%r in %s" % (word, s.why))
            # Another process writes it there, when the peer has its answer already.
            await_fact(lambda word=word: word in self.receiver.daemon.log(), 20, "%r in the log" % word)
        return s.why

    def arrives(self, s, name, content):
        s.add(name, content=content)
        expect(s.work([name]) == {}, "done")
        with open(self.target + "/" + name, "rb") as f:
            expect(f.read() == content, name)


def senders(place):
    with Served(place) as r:
        before = tcp.Sender(r.receiver.port).greet()
        for n, versions in enumerate(((1, 1), (1, 2), (1, 65535), (0, 1))):
            s = tcp.Sender(r.receiver.port)
            s.hello(versions=versions, features=LATER, options=tcp.option(200, b"later") + tcp.option(255, b""))
            kind, got = s.next()
            expect(kind == tcp.WELCOME, "%s is greeted: %s" % (versions, s.why))
            version, features = got.take("HI")
            expect(version == 1 and features & LATER == 0, "version %d, features %x" % (version, features))
            r.arrives(s, "of%d" % n, b"%d" % n)
            s.close()
        for versions in ((2, 3), (2, 2), (0, 0)):
            why = r.refused(["versions %d to %d" % versions, "this receiver 1 to 1", "update the older one"], versions=versions)
            expect(why[0] == 9, "configuration: %s" % (why,))
        r.refused(["option 100", "newer receiver"], options=tcp.option(100, b""))
        expect(sorted(os.listdir(r.target)) == ["of0", "of1", "of2", "of3"], "nothing else was written")
        r.arrives(before, "undisturbed", b"x")  # the session from before all that


class Sending:
    """A sender of ours with two syncs, of which one has a scripted receiver."""

    def __init__(self, place):
        self.source, self.target, self.other = place + "/source", place + "/target", place + "/other"
        for d in (self.source, self.target, self.other):
            os.makedirs(d)
        put(self.source + "/f", "content")
        self.fake = tcp.FakeReceiver()
        self.daemon = Daemon(place + "/s", 'sync = ( { name = "w"; transport = "tcp"; source = "%s"; host = "127.0.0.1"; port = %d; '
                             'module = "web"; retryMin = 0.1; retryMax = 0.3; }, { name = "o"; transport = "direct"; source = "%s"; '
                             'target = "%s"; delay = 0.0; } );\n' % (self.source, self.fake.port, self.source, self.other))

    def __enter__(self):
        self.daemon.start(wait=False)
        return self

    def __exit__(self, *why):
        self.daemon.stop()
        self.fake.close()

    def hello(self):
        """The next connection, and the versions of its HELLO."""
        c = tcp.Connection(self.fake.listener.accept()[0])
        expect(c.sock.recv(1) == b"P", "plaintext")
        kind, r = c.next()
        expect(kind == tcp.HELLO and r.take("Q") == tcp.MAGIC, "a HELLO")
        return c, r.take("HH")

    def turned_away(self, answer, words):
        """As often as it comes: it tells why, comes again, and the other sync goes on."""
        for n in range(3):
            c, versions = self.hello()
            expect(versions == (1, 1), "it speaks %s" % (versions,))
            answer(c)
            expect(c.ended(), "and it goes")
            c.close()
            status = await_fact(lambda: (lambda s: s["state"] == "down" and s)(self.daemon.sync("w")), 20, "it is down")
            for word in words:
                expect(word in status["reason"], "%r in %r" % (word, status["reason"]))
                expect(word in self.daemon.log(), "%r in the log" % word)
            put(self.source + "/n%d" % n, "x")
            await_fact(lambda: os.path.exists(self.other + "/n%d" % n), 20, "the other sync")
            expect(self.daemon.sync("o")["state"] != "down", "the other sync")

    def updated(self, place):
        """At its place is one that speaks version 1 now: it goes on by itself."""
        self.fake.close()
        receiver = Receiver(place + "/receiver", self.target, tls=False, port=self.fake.port).start()
        try:
            self.daemon.wait(60)
            expect_equal(self.source, self.target, "gone on with")
        finally:
            receiver.stop()


def welcome(version, features=0):
    return lambda c: c.frame(tcp.WELCOME, struct.pack("<HI", version, features) + b"r" * 16 + tcp.counted("a test")
                             + struct.pack("<IQIQQ", 63, 4 << 20, 4096, 1, 2))


def newer_receiver(place):
    with Sending(place) as s:
        s.turned_away(lambda c: c.frame(tcp.REFUSE, tcp.error(9, "the sender speaks versions 1 to 1 of the protocol, this receiver 2 to 3: "
                                                             "update the older one")),
                      ["this receiver 2 to 3", "update the older one"])
        s.updated(place)


def a_version_that_nobody_asked_for(place):
    with Sending(place) as s:
        s.turned_away(welcome(2), ["version 2", "1 to 1", "update"])
        s.updated(place)


def receiver_that_speaks_more(place):
    """1 to 2: it takes version 1; it gives features that nobody asked for."""
    with Sending(place) as s:
        c, _ = s.hello()
        welcome(1, LATER)(c)
        kinds = [c.next()[0] for _ in range(2)]
        expect(kinds == [tcp.WORK, tcp.ITEM], "it begins: %s" % kinds)
        expect(c.next(0.2) is None and s.daemon.sync("w")["state"] != "down", "and waits")
        c.close()
        s.updated(place)


main([senders, newer_receiver, a_version_that_nobody_asked_for, receiver_that_speaks_more])
