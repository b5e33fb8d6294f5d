#!/usr/bin/env python3
# TIMEOUT: 240
"""A file that was written once more within the time that it bears, to the same size, is not lost to a comparison over tcp: by the
program's own ends, and at a receiver beside a sender that was written from docs/PROTOCOL.md, whose clock is another."""
import os
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import tcp_peer as tcp
from fansync import Daemon, Failure, Receiver, await_fact, main
from tcp_peer import DIR, Sender


def read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return None


def rewritten(place):
    """While no daemon watches: nothing but the content is otherwise."""
    source, target = place + "/source", place + "/target"
    os.makedirs(source)
    os.makedirs(target)
    receiver = Receiver(place + "/r", target).start()
    sender = Daemon(place + "/s", 'sync = ( { name = "dr"; transport = "tcp"; source = "%s"; %s delay = 0.0; } );\n'
                    % (source, receiver.section()))
    path, there = source + "/f", target + "/f"
    n, end = 0, time.monotonic() + 90
    try:
        sender.start()
        while True:  # until it arrives as early as it has to for its time to prove nothing
            n += 1
            with open(source + "/new", "wb") as f:
                f.write(b"first %06d" % n)
            os.rename(source + "/new", path)
            written = os.stat(path)
            await_fact(lambda: read(there) == b"first %06d" % n, 60, "it arrives")
            if os.stat(there).st_ctime_ns - written.st_mtime_ns < 900 * 10 ** 6:
                break
            if time.monotonic() > end:
                raise Failure("no file arrives within a second")
        sender.stop()
        with open(path, "r+b") as f:
            f.write(b"other")
        os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
        sender.start()
        if read(there) != b"other %06d" % n:
            raise Failure("lost: %r" % read(there))
    finally:
        sender.stop()
        receiver.stop()


def clock(seconds):
    return tcp.option(130, struct.pack("<q", seconds * 10 ** 9))


def by_the_page(place):
    """Times of a second sender, whose clock is what it says; 100 s ahead of it, so that no slowness of this machine matters."""
    os.makedirs(place + "/module")
    now = int(time.time())
    receiver = Receiver(place + "/r", place + "/module", tls=False).start()
    cases = [("the same clock", now + 100, now + 100, b"", True),
             ("the same, and it says so", now + 100, now + 100, clock(now), True),
             ("a listing without it", now + 100, None, b"", True),
             ("a time that was set", now + 100, now + 50, b"", False),
             ("longer ago", now - 5000, now - 5000, b"", False),
             ("its clock is an hour behind", now - 3500, now - 3500, clock(now - 3600), True),
             ("which it does not say", now - 3500, now - 3500, b"", False),
             ("its clock is an hour ahead", now + 3700, now + 3700, clock(now + 3600), True),
             ("its clock is ahead, the file is not of now", now - 5000, now - 5000, clock(now + 3600), False),
             ("its clock makes no sense", now + 100, now + 100, clock(-5), True),
             ("it is in the year 2262", now + 100, now + 100, tcp.option(130, b"\xff" * 7 + b"\x7f"), False)]
    try:
        for features in (0, 64):
            for what, mtime, ctime, options, mended in cases:
                s = Sender(receiver.port).greet(features=features, options=options)
                s.add("", DIR, mode=0o755)
                for content in (b"first", b"other"):
                    s.add("f", content=content, mtime=mtime, **({"ctime": ctime} if ctime else {}))
                    bad = s.work([""], kind=tcp.RECONCILE)
                    if bad:
                        raise Failure("%s: %s" % (what, bad))
                if (read(place + "/module/f") == b"other") != mended:
                    raise Failure("%s: %s" % (what, "lost" if mended else "sent again"))
                s.close()
                os.unlink(place + "/module/f")
    finally:
        receiver.stop()


main([rewritten, by_the_page])
