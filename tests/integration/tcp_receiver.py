#!/usr/bin/env python3
# TIMEOUT: 120
"""tcp: what a receiver does with odd, but lawful senders, and a sender with a slow receiver. Scripted peers."""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import tcp_peer as tcp
from fansync import Daemon, Receiver, await_fact, expect, main

MIB = 1 << 20
RESUME, DELTA = 1 << 2, 1


class Served:
    def __init__(self, place):
        self.target = place + "/target"
        os.makedirs(self.target)
        self.receiver = Receiver(place + "/receiver", self.target, tls=False)

    def __enter__(self):
        self.receiver.start()
        return self

    def __exit__(self, *why):
        self.receiver.stop()

    def sender(self, path, content, features):
        s = tcp.Sender(self.receiver.port).greet(features=features)
        s.add(path, content=content)
        return s


def until(s, kind):
    """Answers what is asked before such a frame; its Reader."""
    while True:
        got = s.next()
        expect(got is not None, "no frame of type %d" % kind)
        if got[0] == kind:
            return got[1]
        s.take(*got)


def a_hole_over_what_was_left(place):
    """The file became sparse behind what a cut connection had left, with the same size and time."""
    with Served(place) as r:
        content = os.urandom(9 * MIB)
        s = r.sender("f", content, RESUME)
        s.begin(1)
        s.item("f")
        file, start, _ = until(s, tcp.READ).take("IQQ")
        expect(start == 0, "from the beginning")
        for at in range(0, 8 * MIB, 65536):
            while s.credit < 65536:
                s.credit += until(s, tcp.CREDIT).take("Q")
            s.credit -= 65536
            s.frame(tcp.DATA, struct.pack("<IQ", file, at) + content[at:at + 65536])
        s.close()
        await_fact(lambda: not [p for p in r.receiver.sessions()[1:]] and
                   any(n.endswith(".fansyncd~tmp") for n in os.listdir(r.target)), 20, "something is left")
        s = r.sender("f", content, RESUME)
        s.begin(1)
        s.item("f")
        file, start, end = until(s, tcp.READ).take("IQQ")
        expect(MIB < start < 9 * MIB, "gone on with, from %d" % start)
        hole = struct.pack("<IQQ", file, start, end - start)
        # of the content up to there, and of the hole
        d = tcp.digest(content[:start] + struct.pack("<QQ", start, end - start))
        s.frame(tcp.HOLE, hole)
        s.frame(tcp.END, struct.pack("<IB", file, tcp.OK) + tcp.error() + struct.pack("<Q", len(content)) + d + s.state_of(b"f"))
        expect(s.serve() == {}, "done: %s" % s.verdicts)
        with open(r.target + "/f", "rb") as f:
            expect(f.read() == content[:start] + bytes(end - start), "zeros behind what was left")


def an_old_file_that_takes_long(place):
    """Its hashes come for longer than a sender may show no progress: each is a sign of life."""
    source = place + "/source"
    os.makedirs(source)
    with open(source + "/f", "wb") as f:
        f.write(os.urandom(MIB))
    fake = tcp.FakeReceiver()
    daemon = Daemon(place + "/s", 'sync = ( { name = "w"; transport = "tcp"; source = "%s"; host = "127.0.0.1"; port = %d; '
                    'module = "web"; progressTimeout = 1.0; retryMin = 0.1; } );\n' % (source, fake.port))
    daemon.start(wait=False)
    try:
        c = fake.accept(features=DELTA)
        old = struct.pack("<Q", 64 * MIB) + tcp.state(tcp.FILE, size=64 * MIB)
        _, result, r = tcp.ask(c, tcp.OPEN, 1, "f", old)
        expect(result == tcp.OK, "open")
        file = r.take("I")
        r.state()
        wants, block = r.take("BI")
        expect(wants == 1 and block == 16384, "hashes are wanted")
        for n in range(12):
            expect(not c.ended(0.25), "it waits: %s" % daemon.tail(5))
            c.frame(tcp.HASHES, struct.pack("<IQ", file, n) + os.urandom(8))
        expect(daemon.sync("w")["counters"]["worker_restarts"] == 0, "the worker lives")
        c.close()
    finally:
        fake.close()
        daemon.stop()


main([a_hole_over_what_was_left, an_old_file_that_takes_long])
