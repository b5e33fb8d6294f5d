#!/usr/bin/env python3
# TIMEOUT: 240
"""The tcp transport with its own receiver: mirroring, keys, what a receiver refuses, death of either end."""
import os
import secrets
import shutil
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, Failure, await_fact, children, expect_equal, free_port, main


class Pair:
    """A sender and a receiver, with a key."""

    def __init__(self, place, more="", module="", tls=True, receiver="", key=None):
        self.place = place
        self.source, self.target = place + "/source", place + "/target"
        for d in (self.source, self.target, place + "/keys", place + "/mine"):
            os.makedirs(d, exist_ok=True)
        self.port = free_port()
        ours = secrets.token_hex(32)
        for path, text in ((place + "/keys/web.key", ours), (place + "/mine/web.key", key or ours)):
            with open(path, "w", opener=lambda p, f: os.open(p, f, 0o600)) as f:
                f.write(text + "\n")
        self.receiver = Daemon(place + "/r", 'receiver = { listen = [ "127.0.0.1:%d" ]; %s %s\n'
                               '  modules = ( { name = "web"; path = "%s"; %s %s } ); };\n' % (
                                   self.port, 'keys = "%s/keys";' % place if tls else "", receiver, self.target,
                                   'allow = [ "web" ];' if tls else "", module))
        self.sender = Daemon(place + "/s", 'sync = ( { name = "dr"; transport = "tcp"; source = "%s"; host = "127.0.0.1"; '
                             'port = %d; module = "web"; retryMin = 0.1; retryMax = 0.5; %s %s } );\n' % (
                                 self.source, self.port, 'key = "%s/mine/web.key";' % place if tls else "", more))

    def __enter__(self):
        self.receiver.start(wait=False)
        await_fact(lambda: self.receiver.status()["receiver"]["state"] == "listening", 20, "the receiver listens")
        return self

    def __exit__(self, *why):
        self.sender.stop()
        self.receiver.stop()

    def equal(self, what):
        self.sender.wait(90)
        expect_equal(self.source, self.target, what)

    def counters(self):
        return self.sender.sync("dr")["counters"]


def fill(directory, files, size=1000):
    for i in range(files):
        d = "%s/d%d" % (directory, i % 10)
        os.makedirs(d, exist_ok=True)
        with open("%s/f%d" % (d, i), "wb") as f:
            f.write(os.urandom(size) if i % 2 else b"text %d\n" % i * (size // 8))


def everyday(place):
    with Pair(place, more="compress = true;") as p:
        fill(p.source, 300)
        os.symlink("d0/f0", p.source + "/link")
        os.mkfifo(p.source + "/fifo")
        os.link(p.source + "/d1/f1", p.source + "/other-name")
        os.makedirs(p.source + "/" + "x" * 255)
        with open(os.fsencode(p.source) + b"/\xff\n'\"-", "wb") as f:
            f.write(b"any bytes")
        with open(p.source + "/large", "wb") as f:
            f.write(os.urandom(3000000))
        p.sender.start()
        p.equal("the first comparison")
        before = p.counters()
        os.rename(p.source + "/d2", p.source + "/moved")
        shutil.rmtree(p.source + "/d3")
        os.chmod(p.source + "/d4/f4", 0o4711)
        os.remove(p.source + "/link")
        os.mkdir(p.source + "/link")
        with open(p.source + "/d5/f5", "w") as f:
            f.write("new")
        p.equal("changes of all kinds")
        after = p.counters()
        if after["renames"] - before["renames"] != 1 or after["reconciles"] != before["reconciles"]:
            raise Failure("%s, then %s" % (before, after))
        if after["handshakes"] != 1:
            raise Failure("more than one connection: %s" % after)


def plaintext_on_loopback(place):
    with Pair(place, tls=False) as p:
        fill(p.source, 20)
        p.sender.start()
        p.equal("without TLS")


def difference(place):
    with Pair(place) as p:
        path = p.source + "/disk"
        with open(path, "wb") as f:
            f.write(os.urandom(8 << 20))
        p.sender.start()
        p.equal("the whole")
        for again in range(2):  # by the hashes of what was sent; then of another sender's file
            before = p.counters()["bytes"]
            with open(path, "r+b") as f:
                f.seek(5000000 + again)
                f.write(os.urandom(1000))
            p.equal("a difference")
            sent = p.counters()["bytes"] - before
            if sent > 100000:
                raise Failure("%d bytes for 1000 that changed" % sent)
            p.sender.stop()
            p.sender.start()
        before = p.counters()["bytes"]
        with open(path, "ab") as f:
            f.write(os.urandom(100000))
        p.equal("something appended")
        if p.counters()["bytes"] - before > 400000:
            raise Failure("%d bytes for 100000 that were appended" % (p.counters()["bytes"] - before))


def never_a_difference(place):
    with Pair(place, more='delta = "never";') as p:
        with open(p.source + "/disk", "wb") as f:
            f.write(os.urandom(1 << 20))
        p.sender.start()
        p.equal("the whole")
        before = p.counters()["bytes"]
        with open(p.source + "/disk", "r+b") as f:
            f.seek(500000)
            f.write(os.urandom(1000))
        p.equal("the whole again")
        if p.counters()["bytes"] - before < 1 << 20:
            raise Failure("%d bytes are a difference" % (p.counters()["bytes"] - before))


def cold_differences(place):
    """All kinds of changes that a sender finds which knows nothing of what stands at the receiver."""
    size = 3 << 20
    with Pair(place) as p:
        for name in ("grown", "cut", "first", "last", "many", "grown-and-changed", "whole"):
            with open(p.source + "/" + name, "wb") as f:
                f.write(os.urandom(size + 5000))
        p.sender.start()
        p.equal("the whole")
        p.sender.stop()

        def change(name, *places, end=None):
            with open(p.source + "/" + name, "r+b") as f:
                f.truncate(end if end and end < size else size + 5000)
                for at in places:
                    f.seek(at)
                    f.write(os.urandom(100))
                if end and end > size:
                    f.seek(size + 5000)
                    f.write(os.urandom(end - size - 5000))
        change("grown", end=size + 300000)
        change("cut", end=size - 1234567)
        change("first", 0)
        change("last", size + 4900)
        change("many", *range(1000, size, 100000))
        change("grown-and-changed", 2000000, end=size + 300000)
        p.sender.start()
        p.equal("differences")
        # two that grew, five blocks, one in each of thirty places
        sent, most = p.counters()["bytes"], 2 * 310000 + (5 + 32) * 17000
        if sent > most:
            raise Failure("%d bytes, where %d are enough" % (sent, most))


def compared_after_a_reconnect(place):
    """A new session of the same worker: it sees all of the source again."""
    with Pair(place) as p:
        fill(p.source, 30)
        p.sender.start()
        for _ in range(2):
            for pid in children(p.receiver.process.pid, every=True):
                os.kill(pid, signal.SIGKILL)
            p.sender.client("--sync-now", check=False)  # in vain at first, and again
            p.equal("compared again")
        if p.counters()["deletions"] != 0:
            raise Failure("deleted: %s" % p.counters())


def limit_over_pieces(place):
    """maxDelete is for a batch, of which a receiver takes 1 MiB of paths at a time; and it counts what is deleted."""
    deep = "/".join(["y" * 240] * 12)
    with Pair(place, more="delay = 30; maxDelete = 10;") as p:
        os.makedirs("%s/%s" % (p.source, deep))
        for i in range(420):
            with open("%s/%s/%d" % (p.source, deep, i), "w") as f:
                f.write("x")
        p.sender.start()
        for i in range(400):
            os.unlink("%s/%s/%d" % (p.source, deep, i))
        p.sender.wait(90, check=False)
        left = len(os.listdir("%s/%s" % (p.target, deep)))
        if left != 410:
            raise Failure("%d are left of 420" % left)
        if not any("maxDelete" in f["reason"] for f in p.sender.sync("dr")["failures"]):
            raise Failure("it is not said")
        p.sender.client("--sync-now", "--allow-delete")
        p.equal("allowed")


def times_above_pieces(place):
    """In a deep tree a later piece changes directories whose times an earlier one has set."""
    name = "d" * 15
    with Pair(place, more="delay = 30; maxDelays = 100000;") as p:
        os.makedirs(p.source + ("/" + name) * 130)
        p.sender.start()
        where = p.source
        for _ in range(130):
            where += "/" + name
            for i in range(12):
                open("%s/z%d" % (where, i), "w").close()
        p.sender.wait(90)
        p.equal("set anew")


def moved_content(place):
    """Something is inserted at the front of a large file: all blocks are elsewhere, little is sent."""
    with Pair(place) as p:
        path = p.source + "/disk"
        content = os.urandom(8 << 20)
        with open(path, "wb") as f:
            f.write(content)
        p.sender.start()
        p.equal("the whole")
        half = len(content) // 2 + 777
        for what, new in (("an insertion", b"x" * 1000 + content), ("halves that changed places", content[half:] + content[:half]),
                          ("an insertion, unknown to the sender", b"y" * 5000 + content)):
            before = p.counters()["bytes"]
            with open(path, "r+b") as f:
                f.write(new)
                f.truncate()
            p.equal(what)
            sent = p.counters()["bytes"] - before
            if sent > 100000:
                raise Failure("%s: %d bytes" % (what, sent))
            if what.startswith("halves"):
                p.sender.stop()
                p.sender.start()
        with open(path, "wb") as f:
            f.write(os.urandom(3 << 20))
        p.equal("nothing is left of it")


def refused(place, words, **how):
    with Pair(place, **how) as p:
        fill(p.source, 3)
        p.sender.start(wait=False)
        status = await_fact(lambda: (lambda s: s["state"] == "down" and s)(p.sender.sync("dr")), 20, "refused")
        if words not in status["reason"]:
            raise Failure("%r is not in %r" % (words, status["reason"]))
        if os.listdir(p.target):
            raise Failure("something was written")


def wrong_key(place):
    refused(place, "TLS", key=secrets.token_hex(32))


def read_only_module(place):
    refused(place, "readOnly", module="readOnly = true;")


def unknown_module(place):
    with Pair(place) as p:
        fill(p.source, 3)
        text = open(p.sender.config_path).read().replace('module = "web"', 'module = "mail"')
        with open(p.sender.config_path, "w") as f:
            f.write(text)
        p.sender.start(wait=False)
        status = await_fact(lambda: (lambda s: s["state"] == "down" and s)(p.sender.sync("dr")), 20, "refused")
        if "no module" not in status["reason"]:
            raise Failure(status["reason"])


def either_end_dies(place):
    with Pair(place) as p:
        p.sender.start()
        for i in range(6):
            fill(p.source + "/%d" % i, 200, 3000)
            victim = (p.receiver.process.pid, p.sender.process.pid)[i % 2]
            # of the receiver: its process and the sessions; of the sender: its worker
            for pid in children(victim, every=True):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            await_fact(lambda: p.receiver.status()["receiver"]["state"] == "listening", 20, "the receiver listens again")
        p.equal("after all the deaths")
        left = [f for _, _, files in os.walk(p.target) for f in files if "fansyncd~" in f]
        if left:
            raise Failure("left over: %s" % left)


def another_port(place):
    """Two receivers on one host, with modules of one name, are two targets."""
    with Pair(place) as p:
        text = open(p.sender.config_path).read()
        section = text[text.index("( {") + 1:text.rindex(")")]
        with open(p.sender.config_path, "w") as f:
            f.write(text.replace(section, section + "," + section.replace('"dr"', '"two"').replace(
                "port = %d" % p.port, "port = %d" % free_port())))
        p.sender.client("--check")
        with open(p.sender.config_path, "w") as f:
            f.write(text.replace(section, section + "," + section.replace('"dr"', '"two"')))
        done = p.sender.client("--check", check=False)
        if done.returncode == 0 or b"two syncs write to one target" not in done.stdout + done.stderr:
            raise Failure("%d: %s" % (done.returncode, done.stdout + done.stderr))


main([everyday, another_port, moved_content, plaintext_on_loopback, difference, never_a_difference, cold_differences, compared_after_a_reconnect, limit_over_pieces, times_above_pieces, wrong_key, read_only_module, unknown_module, either_end_dies])
