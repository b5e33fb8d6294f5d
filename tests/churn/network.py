#!/usr/bin/env python3
"""Churn over a line with faults, by every transport that goes over a network: network.py [--rounds N] [--seed N] [TRANSPORT/FAULT...]

Faults: cut (at a random byte), reset (at one), vanish (the peer says nothing any more, and never ends), stall (for longer than the time
limit), drip (byte by byte), delay, refuse (nobody listens for a while), handshake (new connections are cut, one after the other, further on each time). Without names
all; a part of a name may be `*`. What arrived is judged by judge.py.
"""
import ast
import os
import random
import re
import select
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import cells
import generator
import matrix
from bad_line import CUT, RESET, BadLine
from fansync import Daemon, Failure, Receiver, Sshd, await_fact, free_port, run

TRANSPORTS = ("rsync", "rsyncssh", "sftp", "sftp-openssh", "tcp")
FAULTS = ("cut", "reset", "vanish", "stall", "drip", "delay", "refuse", "handshake")
LIMIT = 6  # seconds: a machine under load keeps silent for some, too
PATIENCE = 90  # for what a machine under load takes; no fault lasts for long
HANDSHAKE, HANDSHAKES = 6000, 10  # bytes of ssh's, the longest; how many are cut
# What the account has a shell do at its start is nothing that limits of seconds are for: a home of our own has nothing.
SSHD = "Subsystem sftp internal-sftp\nSetEnv HOME=%s\n"
TEMPORARY = r"\.fansyncd~tmp"
OF_RSYNC = r"\.[A-Za-z0-9]{6}['\"]$"
NEWS = "it is tried again until it works"


def eventually(fact, what):
    """await_fact for what takes seconds: a look at the status is work for the daemon."""
    end = time.monotonic() + PATIENCE
    while not fact():
        if time.monotonic() > end:
            raise Failure("not within %g s: %s" % (PATIENCE, what() if callable(what) else what))
        select.poll().poll(250)


class RsyncDaemon:
    def __init__(self, place, target, prefix=(), address="127.0.0.1"):
        self.place, self.prefix, self.address, self.port = place, list(prefix), address, free_port()
        os.makedirs(place, exist_ok=True)
        with open(place + "/rsyncd.conf", "w") as f:
            # Without a chroot it takes the first slash from what symlinks say.
            f.write("use chroot = %s\nuid = %d\ngid = %d\nmunge symlinks = no\nlog file = %s/log\n[web]\npath = %s\nread only = no\n"
                    % ("no" if os.geteuid() else "yes", os.geteuid(), os.getegid(), place, target))

    def start(self):
        self.process = subprocess.Popen(self.prefix + ["rsync", "--daemon", "--no-detach", "--address=" + self.address,
                                                       "--port=%d" % self.port, "--config=%s/rsyncd.conf" % self.place],
                                        stdin=subprocess.DEVNULL)
        await_fact(lambda: run(*self.prefix, "rsync", "rsync://127.0.0.1:%d/" % self.port, check=False).returncode == 0, 30,
                   "an rsync daemon")
        return self

    def stop(self):
        self.process.kill()
        self.process.wait()


class Far(matrix.Cell):
    """A cell of the matrix whose target is reached over a network. `limit`: seconds after which silence is death."""

    def __init__(self, place, transport, watcher, limit=LIMIT, more=""):
        self.place, self.transport = place, transport
        self.source, self.target = place + "/source", place + "/target"
        for d in (self.source, self.target):
            os.makedirs(d)
        self.extras = set(generator.EXTRAS) - matrix.LACKS.get(matrix.kind_of(transport), set())
        options = matrix.OPTIONS + "".join(" %s = true;" % x for x in ("xattrs", "acls") if x in self.extras)
        if transport == "rsync":  # which waits for ever while its own keepalives are taken: then it is for progressTimeout
            options += " timeout = %d;" % limit
            more += " progressTimeout = %d.0;" % (2 * limit)
        self.servers = []
        try:
            self.server = self.serve(limit).start()
            self.servers.append(self.server)
            self.daemon = Daemon(place, "", prefix=self.here())
            self.daemon.write_config(
                'sync = ( { name = "far"; transport = "%s"; source = "%s"; %s watcher = "%s"; delay = 0.05; retryMin = 0.1; retryMax = 1.0; '
                'rsync = { %s }; %s } );\n' % (transport.split("-")[0], self.source, self.where(limit), watcher, options, more))
        except BaseException:
            for server in self.servers:
                server.stop()
            raise

    def here(self):
        """What runs a program at the source's host."""
        return ()

    def there(self):
        """The same of the target's host, and where servers listen."""
        return (), "127.0.0.1"

    def serve(self, limit):
        prefix, address = self.there()
        if self.transport == "rsync":
            return RsyncDaemon(self.place + "/rsyncd", self.target, prefix, address)
        if self.transport == "tcp":
            return Receiver(self.place + "/receiver", self.target, prefix, options="timeout = %d;" % (2 * limit), address=address)
        return Sshd(self.place + "/sshd", prefix, address, config=SSHD % self.place)

    def called(self):
        """The target's host and port, as the source calls it."""
        raise NotImplementedError

    def where(self, limit):
        host, port = self.called()
        if self.transport == "rsync":
            return 'target = "rsync://%s:%d/web";' % (host, port)
        if self.transport == "tcp":
            return 'host = "%s"; port = %d; module = "web"; key = "%s"; compress = true; timeout = %d.0;' % (
                host, port, self.server.key, limit)
        known = self.place + "/known_hosts"
        with open(self.server.host_key + ".pub") as f, open(known, "w") as out:
            out.write("[%s]:%d %s" % (host, port, f.read()))
        return 'host = "%s"; targetdir = "%s"; ssh = { port = %d; identityFile = "%s"; knownHostsFile = "%s"; timeout = %d.0; %s };' % (
            host, self.target, port, self.server.key, known, limit, 'client = "openssh";' if self.transport == "sftp-openssh" else "")

    def expect(self, found, what):
        """What a lost connection leaves behind, and the time of the directory that it lay in, are for the next comparison (README, limits)."""
        found = [line for line in found if "comparison" in what or not self.is_left(line)]
        if found or "comparison" in what:
            super().expect(found, what)

    def is_left(self, line):
        m = re.match(r"(b(?:'.*'|\".*\")): (only at the target|mtime \d+, at the target \d+$)", line)
        if m is None:
            return "only at the target" in line and re.search(TEMPORARY, line) is not None
        path = os.path.join(os.fsencode(self.source), ast.literal_eval(m.group(1)))
        if m.group(2).startswith("mtime"):
            return os.path.isdir(path)
        # An rsync that does not know yet that it is alone removes its own in the end.
        mine = OF_RSYNC if self.transport.startswith("rsync") else TEMPORARY
        return re.search(mine, m.group(1)) is not None and self.transport != "tcp"

    def state(self):
        return self.daemon.sync("far")["state"]

    def reasons(self):
        return [line.split("far: ", 1)[-1].replace("; " + NEWS, "") for line in self.daemon.log().split("\n") if NEWS in line]


class Relayed(Far):
    """Over a bad line."""

    def serve(self, limit):
        server = super().serve(limit)
        self.line = BadLine(server.port).__enter__()
        return server

    def called(self):
        return "127.0.0.1", self.line.port

    def stop(self):
        try:
            super().stop()
        finally:
            self.line.__exit__()


class Changing:
    """The generator, as a process of its own, until it is told to end; with pauses, since what is tried here lasts."""

    def __init__(self, cell, seed):
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.path.insert(0, %r); import generator\nseed = %d\n"
             "import select\nwhile not select.select([0], [], [], 0.3)[0]:\n"
             "    generator.run(%r, %r, seed, 0.2, 2, %r); seed += 1\n" % (
                 HERE, seed * 1000, cell.source, cell.place + "/outside", cell.extras)], stdin=subprocess.PIPE)

    def end(self):
        self.process.stdin.close()
        if self.process.wait(PATIENCE) != 0:
            raise Failure("the generator failed")


def moved(cell, n):
    """That many more bytes have passed: the line is good again, and something came of it."""
    to = cell.line.bytes + n
    if not cell.line.await_that(lambda: cell.line.bytes >= to, PATIENCE):
        raise Failure("nothing is sent any more: %s\n%s" % (cell.daemon.sync("far"), cell.daemon.tail(20)))


def connected_anew(cell, before):
    if not cell.line.await_that(lambda: cell.line.connections > before, PATIENCE):
        raise Failure("there is no new connection: %s\n%s" % (cell.daemon.sync("far"), cell.daemon.tail(20)))


def fault(cell, name, chance):
    """One of them, and then the line is good again. Between two, something has passed."""
    line = cell.line
    at = chance.choice([0, 1, 30, 700, 5000, 60000])
    moved(cell, 3000)
    before = line.connections
    if name in ("cut", "reset"):
        line.trap(1 + chance.randrange(at + 1), line.cut if name == "cut" else line.reset)
        connected_anew(cell, before)
    elif name == "vanish":
        drains = chance.random() < 0.5
        line.trap(1 + chance.randrange(at + 1), lambda: line.vanish(drains))
        connected_anew(cell, before)
    elif name == "stall":
        line.stall()
        eventually(lambda: cell.state() == "down", "the state down, while nothing passes")
    elif name == "drip":
        line.drip(3000)
        if not line.await_that(lambda: line.dripping == 0, PATIENCE):
            raise Failure("byte by byte nothing is sent: %s\n%s" % (cell.daemon.sync("far"), cell.daemon.tail(20)))
    elif name == "delay":
        line.delay = 0.1
        moved(cell, 5000)
    elif name == "refuse":
        line.refusing = True
        line.reset()
        refused = line.refused + 2
        if not line.await_that(lambda: line.refused >= refused, PATIENCE):
            raise Failure("it is not tried again: %s" % cell.daemon.sync("far"))
    elif name == "handshake":
        line.fates = [(n + chance.randrange(HANDSHAKE // HANDSHAKES), (CUT, RESET)[i % 2]) for i, n in enumerate(range(
            1, HANDSHAKE, HANDSHAKE // HANDSHAKES))]
        line.reset()
        if not line.await_that(lambda: not line.fates, PATIENCE):
            raise Failure("there is no new connection: %s\n%s" % (cell.daemon.sync("far"), cell.daemon.tail(20)))
    line.heal()


def words_about_it(cell, faults):
    """A target that is lost is an error of one line, whatever becomes of it, and nothing but the network is blamed."""
    reasons = cell.reasons()
    for r in reasons:
        if any(w in r for w in ("denied", "host key", "uthenticat", "wrong key", "refused us", "no login", "protocol error")):
            raise Failure("a bad line is taken for something else: %s" % r)
    if "renames can't be carried" in cell.daemon.log():
        raise Failure("a bad line is taken for a missing shell:\n" + cell.daemon.tail(200))
    loud = [line for line in cell.daemon.log().split("\n") if " Error: " in line or " Warn: " in line]
    if len(loud) > 40 + 12 * faults:
        raise Failure("%d errors and warnings for %d faults:\n%s" % (len(loud), faults, "\n".join(loud[:30])))
    return sorted(set(reasons))


def one(place, transport, names, seed, rounds=1, watcher="auto", limit=LIMIT):
    """Those faults, in an order of the seed's. Returns a line of what was seen."""
    os.makedirs(place)
    chance = random.Random(seed)
    todo = [n for n in names for _ in range(rounds)]
    chance.shuffle(todo)
    with Relayed(place, transport, watcher, limit) as cell:
        changing = Changing(cell, seed)
        try:
            for n in todo:
                fault(cell, n, chance)
        except Failure as e:
            raise Failure("%s, seed %d, fault %s of %s: %s" % (transport, seed, n, todo, e)) from None
        finally:
            changing.end()
        cell.line.heal()
        cell.settle()
        cell.expect_equal("%s seed %d: %s" % (transport, seed, todo))
        reasons = words_about_it(cell, len(todo))
        counters = cell.daemon.sync("far")["counters"]
        return "%d faults, %d connections, %d refused, %d bytes, %d batches, worker restarts %d%s" % (
            len(todo), cell.line.connections, cell.line.refused, cell.line.bytes, counters["batches"], counters["worker_restarts"],
            "".join("\n#   " + r for r in reasons))


def all_of(place, names, seed, rounds):
    """A line for each transport."""
    todo = []
    for i, t in enumerate(TRANSPORTS):
        faults = [n.split("/")[1] for n in names if n.startswith(t + "/")]
        watcher = ("fanotify", "inotify")[(seed + i) % 2]
        if faults:
            todo.append((t, seed, lambda t=t, faults=faults, watcher=watcher: one(
                "%s/%s-%d" % (place, t, seed), t, faults, seed, rounds, watcher)))
    return cells.each(todo)


if __name__ == "__main__":
    cells.main("churn over a line with faults, by every transport that goes over a network",
               ["%s/%s" % (t, f) for t in TRANSPORTS for f in FAULTS], all_of, rounds=(3, "how often each fault comes"))
