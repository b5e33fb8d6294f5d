#!/usr/bin/env python3
"""Two hosts (network namespaces) and what happens to the wire between them while files change: links.py [--seed N] [TRANSPORT/CASE...]

Cases: short (nothing passes, for less than the time limit), long (for more), port (the source's interface goes down), idle (the same while
nothing is to be sent), amnesia (a firewall forgets what is connected), refuses (a firewall drops what the source sends to the target's
port), answers (and what it gets from there), blackhole (large packets are lost), bad (loss, reordering, delay), address (the target's host
gets another one). `twoway` is long for two hosts that mirror each other, over tcp and rsyncssh. Without names all; a part may be `*`.
What arrived is judged by judge.py.
"""
import os
import random
import re
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import cells
import judge
from fansync import Daemon, Failure, Receiver, Sshd, run
from network import LIMIT, NEWS, SSHD, PATIENCE, TRANSPORTS, Changing, Far, eventually, words_about_it
from wire import Wire, possible

HOST = "target.test"
BACK = "the target is back"
RETRY_MAX = 1.0


class Names:
    """The hosts' addresses, in a file that only we see as /etc/hosts."""

    def __init__(self, place):
        self.path = place + "/hosts"
        self.say("127.0.0.1")
        run("mount", "--bind", self.path, "/etc/hosts")

    def say(self, address):
        with open(self.path, "w") as f:
            f.write("127.0.0.1 localhost\n%s %s\n" % (address, HOST))

    def forget(self):
        run("umount", "/etc/hosts")


class Linked(Far):
    def __init__(self, place, transport, watcher, wire):
        self.wire = wire
        super().__init__(place, transport, watcher, LIMIT)

    def here(self):
        return self.wire.hosts[0].prefix

    def there(self):
        return self.wire.hosts[1].prefix, "0.0.0.0"

    def called(self):
        return HOST, self.server.port


def moved(cell, n, what="nothing is sent any more"):
    to = cell.wire.bytes + n
    if not cell.wire.await_that(lambda: cell.wire.bytes >= to, PATIENCE):
        raise Failure("%s: %s\n%s" % (what, cell.daemon.sync("far"), cell.daemon.tail(20)))


def put(cell, name):
    with open("%s/%s" % (cell.source, name), "w") as f:
        f.write(name)


def lost(cell, names, break_it, mend):
    """The target is out of reach until it is known, and some attempts later it is back. How long that took to see."""
    wire, began = cell.wire, time.monotonic()
    told, calls = cell.daemon.log().count(NEWS), len(wire.calls)
    break_it()
    eventually(lambda: cell.state() == "down", lambda: "the state down: %s" % cell.daemon.sync("far"))
    seen = time.monotonic() - began
    reason = cell.daemon.sync("far").get("reason") or ""
    if not reason:
        raise Failure("no reason is told: %s" % cell.daemon.sync("far"))
    if cell.daemon.ask("wait", "--timeout", "0.2").returncode != 2:
        raise Failure("--wait of a target that is away: %s" % cell.daemon.ask("wait", "--timeout", "0.2"))
    tries = cell.daemon.sync("far")["counters"]["batches"] + 3
    eventually(lambda: cell.daemon.sync("far")["counters"]["batches"] >= tries, "three more attempts")
    away, new_calls, new_told = time.monotonic() - began, len(wire.calls) - calls, cell.daemon.log().count(NEWS) - told
    # Pauses are RETRY_MAX less a quarter at the least, after some shorter ones; ssh calls a few times in an attempt.
    if new_calls > 20 + 3 * away / RETRY_MAX:
        raise Failure("%d calls in %.1f s: a storm" % (new_calls, away))
    if new_told != 1:
        raise Failure("it is told %d times:\n%s" % (new_told, cell.daemon.tail(40)))
    mend()
    eventually(lambda: cell.state() != "down", lambda: "it is back: %s" % cell.daemon.sync("far"))
    return "down after %.1f s: %s" % (seen, reason)


def short(cell, names):
    moved(cell, 20000)
    shook = cell.daemon.sync("far")["counters"]["handshakes"]
    cell.wire.broken = True
    dropped = cell.wire.dropped
    cell.wire.await_that(lambda: cell.wire.dropped >= dropped + 5, LIMIT / 2)
    cell.wire.broken = False
    moved(cell, 20000, "what was lost for a moment is not sent again")
    return "%d new connections" % (cell.daemon.sync("far")["counters"]["handshakes"] - shook)


def long(cell, names):
    moved(cell, 20000)
    return lost(cell, names, lambda: setattr(cell.wire, "broken", True), cell.wire.heal)


def port(cell, names):
    moved(cell, 20000)
    return lost(cell, names, lambda: cell.wire.hosts[0].link(False), lambda: cell.wire.hosts[0].link(True))


def idle(cell, names):
    """The link is gone while nobody needs it, for longer than the limit; what was connected knows nothing of each other when it is back."""
    cell.settle()
    cell.wire.broken = True
    end = time.monotonic() + 2.5 * LIMIT
    cell.wire.await_that(lambda: time.monotonic() > end, 2.5 * LIMIT)
    state = cell.state()
    if state != "idle":
        raise Failure("it says %s while nothing is to be sent" % state)
    cell.wire.broken = False
    put(cell, "after the silence")
    cell.settle()
    return "well"


def amnesia(cell, names):
    cell.settle()
    known = set()

    def drops(p):
        if p.ports is None:
            return False
        flow = p.ports if p.way == 0 else p.ports[::-1]
        if p.syn and p.way == 0:
            known.add(flow)
        return flow not in known

    cell.wire.drops = drops
    began = time.monotonic()
    put(cell, "after the amnesia")
    cell.settle()
    took = time.monotonic() - began
    cell.wire.heal()
    return "a change arrived after %.1f s" % took


def refuses(cell, names):
    moved(cell, 20000)
    return lost(cell, names, lambda: setattr(cell.wire, "drops", lambda p: p.way == 0 and p.ports and p.ports[1] == cell.server.port), cell.wire.heal)


def answers(cell, names):
    moved(cell, 20000)
    return lost(cell, names, lambda: setattr(cell.wire, "drops", lambda p: p.way == 1 and p.ports and p.ports[0] == cell.server.port), cell.wire.heal)


def blackhole(cell, names):
    """Greetings pass, content does not."""
    with open(cell.source + "/large", "wb") as f:
        f.write(os.urandom(300000))
    moved(cell, 20000)
    return lost(cell, names, lambda: setattr(cell.wire, "largest", 500), cell.wire.heal)


def bad(cell, names):
    cell.wire.loss, cell.wire.reorder, cell.wire.delay = 0.03, 0.2, 0.002
    moved(cell, 50000)
    cell.wire.heal()
    return "%d of %d packets were lost" % (cell.wire.dropped, cell.wire.dropped + cell.wire.passed)


def address(cell, names):
    """What is connected hears nothing more: the address is nobody's. The name leads to the new one."""
    moved(cell, 20000)
    host = cell.wire.hosts[1]

    def move():
        host.readdress("10.214.0.3")
    before = host.address
    said = lost(cell, names, move, lambda: names.say(host.address))
    moved(cell, 5000)
    if host.address == before:
        raise Failure("nothing was moved")
    return said


CASES = {f.__name__: f for f in (short, long, port, idle, amnesia, refuses, answers, blackhole, bad, address)}
WITHOUT_CHANGES = (idle, amnesia)


def one(place, transport, cases, seed):
    """Those cases in an order of the seed's; between them all that is pending arrives."""
    os.makedirs(place)
    chance = random.Random(seed)
    chance.shuffle(cases)
    names, said = Names(place), []
    try:
        with Wire(seed) as wire:
            names.say(wire.hosts[1].address)
            with Linked(place, transport, ("fanotify", "inotify")[seed % 2], wire) as cell:
                for n in cases:
                    changing = None if CASES[n] in WITHOUT_CHANGES else Changing(cell, seed)
                    try:
                        said.append("%s: %s" % (n, CASES[n](cell, names)))
                    except Failure as e:
                        raise Failure("%s, seed %d, %s of %s: %s" % (transport, seed, n, cases, e)) from None
                    finally:
                        wire.heal()
                        if changing:
                            changing.end()
                    cell.settle()
                cell.expect_equal("%s seed %d: %s" % (transport, seed, cases))
                words_about_it(cell, 2 * len(cases))
                said.append("%d packets passed, %d were dropped, %d connections" % (wire.passed, wire.dropped, len(wire.calls)))
    finally:
        names.forget()
    return "\n# ".join(said)


class Mirror:
    """One of two hosts that mirror each other."""

    def __init__(self, place, transport, host, watcher):
        self.place, self.transport, self.host, self.tree = place, transport, host, place + "/tree"
        os.makedirs(self.tree)
        if transport == "tcp":
            self.server = Receiver(place + "/receiver", self.tree, host.prefix, options="timeout = %d;" % (2 * LIMIT), address="0.0.0.0")
        else:
            self.server = Sshd(place + "/sshd", host.prefix, "0.0.0.0", config=SSHD % place)
        self.server.start()
        self.watcher, self.daemon = watcher, None

    def to(self, other):
        known = self.place + "/known_hosts"
        if self.transport == "tcp":
            where = 'host = "%s"; port = %d; module = "web"; key = "%s"; timeout = %d.0;' % (
                other.host.address, other.server.port, other.server.key, LIMIT)
        else:
            with open(other.server.host_key + ".pub") as f, open(known, "w") as out:
                out.write("[%s]:%d %s" % (other.host.address, other.server.port, f.read()))
            where = ('host = "%s"; targetdir = "%s"; ssh = { port = %d; identityFile = "%s"; knownHostsFile = "%s"; timeout = %d.0; };'
                     % (other.host.address, other.tree, other.server.port, other.server.key, known, LIMIT))
        self.daemon = Daemon(self.place + "/d", 'sync = ( { name = "far"; transport = "%s"; source = "%s"; bidirectional = true; %s watcher = "%s"; '
                             'delay = 0.05; retryMin = 0.1; retryMax = %.1f; rsync = { archive = true; }; } );\n'
                             % (self.transport, self.tree, where, self.watcher, RETRY_MAX), prefix=self.host.prefix)

    def stop(self):
        if self.daemon:
            self.daemon.stop()
        self.server.stop()

    def write(self, name, text, at=None):
        with open(self.tree + "/" + name, "w") as f:
            f.write(text)
        if at:
            os.utime(self.tree + "/" + name, (at, at))

    def read(self, name):
        try:
            with open(self.tree + "/" + name) as f:
                return f.read()
        except FileNotFoundError:
            return None


def same_second(found):
    """Times at the resolution of SFTP."""
    m = re.search(r": mtime (\d+)\d{9}, at the target (\d+)\d{9}$", found)
    return m is not None and m.group(1) == m.group(2)


def both_ways(place, transport, seed):
    """The wire is cut for longer than the limit, both hosts go on: the newest edit survives, deletions delete, then there is silence."""
    os.makedirs(place)
    with Wire(seed) as wire:
        a, b = [Mirror("%s/%s" % (place, n), transport, wire.hosts[i], ("fanotify", "inotify")[(seed + i) % 2]) for i, n in enumerate("ab")]
        try:
            a.to(b)
            b.to(a)
            for i in range(30):
                a.write("of a %d" % i, "a")
                b.write("of b %d" % i, "b")
            now = int(time.time())
            a.write("edited on both", "older", now - 100)
            a.daemon.start(wait=False)
            b.daemon.start(wait=False)

            def settle():
                """What a host waits for the other one to send is named by --wait, until that has sent it."""
                end = time.monotonic() + PATIENCE
                for m in (a, b) * 3:
                    done = m.daemon.wait(PATIENCE, check=False)
                    while done.returncode != 0:
                        if b"waiting for that" not in done.stderr or time.monotonic() > end:
                            raise Failure("--wait: exit %d: %s\n%s" % (done.returncode, done.stderr.decode(errors="replace"), m.daemon.tail()))
                        done = m.daemon.wait(PATIENCE, check=False)

            settle()
            wire.broken = True
            a.write("edited on both", "a's, later", now - 10)
            b.write("edited on both", "b's, earlier", now - 20)
            a.write("a alone", "x")
            os.unlink(a.tree + "/of b 1")
            os.unlink(b.tree + "/of a 1")
            os.unlink(b.tree + "/of b 2")
            os.rename(b.tree + "/of b 3", b.tree + "/of b 3, renamed")
            for m in (a, b):
                eventually(lambda m=m: m.daemon.sync("far")["state"] == "down", "the state down of %s" % m.place)
                m.write("%s while down" % m.place[-1], "y")
            wire.heal()
            settle()
            found = [f for f in judge.compare(a.tree, b.tree, limit=1000)
                     if not f.startswith(repr(b"") + ":")  # directories' times are not carried both ways
                     and not (transport == "sftp" and same_second(f))]
            if found:
                raise Failure("%s seed %d: not equal:\n  %s\n%s%s" % (transport, seed, "\n  ".join(found[:12]), a.daemon.tail(25), b.daemon.tail(25)))
            wanted = {"edited on both": "a's, later", "a alone": "x", "of b 1": None, "of a 1": None, "of b 2": None, "of b 3": None,
                      "of b 3, renamed": "b", "a while down": "y", "b while down": "y", "of a 2": "a"}
            wrong = {n: a.read(n) for n in wanted if a.read(n) != wanted[n]}
            if wrong:
                raise Failure("%s seed %d: %s\n%s" % (transport, seed, wrong, a.daemon.tail(40)))
            quiet = [m.daemon.sync("far")["counters"]["files"] for m in (a, b)]
            settle()
            if quiet != [m.daemon.sync("far")["counters"]["files"] for m in (a, b)]:
                raise Failure("there is no silence")
            for m in (a, b):
                if m.daemon.log().count(BACK) != 1 or m.daemon.log().count(NEWS) != 1:
                    raise Failure("a target that was lost once:\n" + m.daemon.tail(40))
        finally:
            a.stop()
            b.stop()
    return "well"


def all_of(place, names, seed):
    """A line for each transport."""
    todo = []
    for t in TRANSPORTS:
        cases = [n.split("/")[1] for n in names if n.startswith(t + "/")]
        at = "%s/%s-%d" % (place, t, seed)
        if "twoway" in cases:
            cases.remove("twoway")
            todo.append(("twoway-" + t, seed, lambda at=at, t=t: both_ways(at + "-twoway", t, seed)))
        if cases:
            todo.append((t, seed, lambda at=at, t=t, cases=cases: one(at, t, cases, seed)))
    return cells.each(todo)


if __name__ == "__main__":
    cells.main("two hosts, and what happens to the wire between them", ["%s/%s" % (t, c) for t in TRANSPORTS for c in CASES] +
               ["%s/twoway" % t for t in ("rsyncssh", "tcp", "sftp")], all_of, impossible=possible)
