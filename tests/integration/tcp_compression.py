#!/usr/bin/env python3
# TIMEOUT: 120
"""What two ends agree on to compress with, each beside a peer that knows zstd and one that does not."""
import base64
import contextlib
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import tcp_peer as tcp
from fansync import Daemon, Failure, Receiver, expect_equal, main
from tcp_peer import FakeReceiver, Sender

TEXT = base64.b64encode(os.urandom(300000))


def text_in(directory):
    os.makedirs(directory, exist_ok=True)
    for name in ("a", "b", "c"):  # each is farther away from the one before than deflate can see
        with open(directory + "/" + name, "wb") as f:
            f.write(TEXT)


def sync(source, port):
    return ('sync = ( { name = "dr"; transport = "tcp"; source = "%s"; host = "127.0.0.1"; port = %d; module = "web"; compress = true; '
            'compressLevel = 6; } );\n' % (source, port))


def expect_kinds(c, expected, what):
    if set(c.kinds) - {0} != expected:
        raise Failure("%s sends records of the kinds %s" % (what, c.kinds))


def of_a_sender(place):
    text_in(place + "/source")
    for features, expected in ((1, {1}), (1 | tcp.ZSTD, {1, 2})):  # before the greeting there is deflate only
        fake = FakeReceiver()
        sender = Daemon(place + "/s%d" % features, sync(place + "/source", fake.port))
        sender.start(wait=False)
        try:
            c = fake.accept(features=features)
            if not c.offered & tcp.ZSTD:
                raise Failure("a sender that says it has no zstd")
            for n, name in enumerate(("a", "b")):
                c.packs = 2 if c.zstd else 1
                _, _, r = tcp.ask(c, tcp.OPEN, n, name, struct.pack("<Q", 0) + tcp.state(tcp.ABSENT))
                c.frame(tcp.READ, struct.pack("<IQQ", r.take("I"), 0, len(TEXT)))
                content = b""
                while len(content) < len(TEXT):
                    kind, r = c.next()
                    if kind == tcp.DATA:
                        r.take("IQ")
                        content += r.data[r.at:]
                if content != TEXT:
                    raise Failure("other content, with features %d" % features)
            expect_kinds(c, expected, "the sender, with features %d," % features)
            c.close()
        finally:
            sender.stop()
            fake.close()


@contextlib.contextmanager
def receiving(place):
    os.makedirs(place + "/module")
    receiver = Receiver(place + "/r", place + "/module", tls=False).start()
    try:
        yield receiver
    finally:
        receiver.stop()


def of_a_receiver(place):
    with receiving(place) as receiver:
        for features, packs, expected in ((0, 0, set()), (0, 1, set()), (tcp.ZSTD, 2, {2}), (tcp.ZSTD, 1, {2})):
            s = Sender(receiver.port).greet(features=features)
            if s.features != features:
                raise Failure("WELCOME with features %d" % s.features)
            s.packs = packs
            name = "f%d%d" % (features, packs)
            for content in (TEXT, b"small"):
                s.add(name, content=content, mtime=10 ** 9 + len(content))
                if s.work([name]) != {}:
                    raise Failure("%s: %s" % (name, s.verdicts))
                with open(place + "/module/" + name, "rb") as f:
                    if f.read() != content:
                        raise Failure("%s has other content" % name)
            if set(s.kinds) - {0, 1} != expected:
                raise Failure("the receiver, with features %d, sends records of the kinds %s" % (features, s.kinds))
            s.close()


def of_both(place):
    text_in(place + "/source")
    with receiving(place) as receiver:
        sender = Daemon(place + "/s", sync(place + "/source", receiver.port))
        sender.start()
        try:
            expect_equal(place + "/source", place + "/module", "the first comparison")
            sent = sender.sync("dr")["counters"]["bytes"]
            if sent > 600000:  # a window that large begins with the content
                raise Failure("%d bytes for 300000 and twice what is equal to them" % sent)
        finally:
            sender.stop()


main([of_a_sender, of_a_receiver, of_both])
