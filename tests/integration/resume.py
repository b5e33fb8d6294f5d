#!/usr/bin/env python3
# TIMEOUT: 180
"""A large file whose connection is cut half-way: after it only the rest is sent, unless the source has changed; what was left is
gone in the end. By sftp with both clients and by tcp, through a relay that counts."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, Failure, Receiver, Sshd, await_fact, children, expect_equal, kill, main
from relay import Relay

MIB = 1 << 20
SIZE = 28 * MIB
CUT = 20 * MIB
CONTENT = os.urandom(SIZE)


class Pair:
    """A source with one large file, a target, and a relay between them that cuts once."""

    def __init__(self, place, kind, more=""):
        self.kind, self.source, self.target = kind, place + "/source", place + "/target"
        for d in (self.source, self.target):
            os.makedirs(d)
        self.write("large", CONTENT)
        self.write("small", b"x")
        self.server = (Receiver(place + "/receiver", self.target) if kind == "tcp" else
                       Sshd(place + "/sshd", config="Subsystem sftp internal-sftp\n")).start()
        self.relay = Relay(self.server.port)
        self.relay.cut_after = CUT
        self.relay.refuse_then = True
        if kind == "tcp":
            where = self.server.section(self.relay.port)
        else:
            with open(self.server.known_hosts) as f:
                line = f.read()
            with open(self.server.known_hosts, "a") as f:
                f.write(line.replace("]:%d " % self.server.port, "]:%d " % self.relay.port))
            where = 'host = "127.0.0.1"; targetdir = "%s"; ssh = { port = %d; identityFile = "%s"; knownHostsFile = "%s"; %s };' % (
                self.target, self.relay.port, self.server.key, self.server.known_hosts,
                'client = "openssh";' if kind == "openssh" else "")
        self.daemon = Daemon(place + "/s", 'sync = ( { name = "w"; transport = "%s"; source = "%s"; %s retryMin = 0.1; retryMax = 0.2; '
                             'watcher = "inotify"; rsync = { archive = true; }; %s } );\n'
                             % ("tcp" if kind == "tcp" else "sftp", self.source, where, more))

    def __enter__(self):
        self.relay.__enter__()
        return self

    def __exit__(self, *args):
        self.daemon.stop()
        self.relay.__exit__()
        self.server.stop()

    def write(self, name, content):
        with open(os.path.join(self.source, name), "wb") as f:
            f.write(content)

    def parts(self):
        return [f for f in os.listdir(self.target) if f.endswith(".fansyncd~tmp")]

    def cut(self):
        """The connection breaks in the middle, and nobody gets through any more."""
        self.daemon.start(wait=False)
        await_fact(lambda: self.relay.refusing and self.daemon.sync("w")["state"] == "down", 60, "it is cut")
        await_fact(lambda: not self.server.sessions()[self.kind == "tcp":], 30, "the other end has seen it, too")

    def goes_on(self):
        self.relay.refusing = False

    def arrived(self, what):
        self.daemon.wait(60)
        expect_equal(self.source, self.target, what, seconds=True)
        if self.parts():
            raise Failure("%s: left over: %s" % (what, self.parts()))

    def sent(self, most, what):
        if self.relay.bytes[0] > most:
            raise Failure("%s: %d bytes for %d\n%s" % (what, self.relay.bytes[0], SIZE, self.daemon.tail(20)))


def goes_on(place, kind, more=""):
    with Pair(place, kind, more) as p:
        p.cut()
        if len(p.parts()) != 1:
            raise Failure("nothing was kept: %s" % os.listdir(p.target))
        p.goes_on()
        p.arrived("gone on with")
        p.sent(SIZE * 3 // 2, "it was sent again")


def sftp_libssh2(place):
    goes_on(place, "libssh2")


def sftp_connections(place):
    goes_on(place, "libssh2", "connections = 3;")


def sftp_openssh(place):
    goes_on(place, "openssh")


def tcp(place):
    goes_on(place, "tcp", "compress = false;")


def tcp_compressed(place):
    goes_on(place, "tcp", "compress = true;")


def tcp_difference(place):
    """What the target had before is made use of on both sides of the cut."""
    with Pair(place, "tcp") as p:
        old = bytearray(CONTENT)
        for at in range(0, SIZE, 2 * MIB):
            old[at:at + 3 * MIB // 2] = os.urandom(3 * MIB // 2)
        with open(p.target + "/large", "wb") as f:
            f.write(old)
        p.relay.cut_after = SIZE // 2
        p.cut()
        p.goes_on()
        p.arrived("gone on with")
        p.sent(SIZE, "without a difference")


def changed(place, kind):
    """Of the same size, in the middle of what has arrived."""
    with Pair(place, kind) as p:
        p.cut()
        with open(p.source + "/large", "r+b") as f:
            f.seek(MIB)
            f.write(b"changed")
        p.goes_on()
        p.arrived("changed since")


def sftp_changed(place):
    changed(place, "libssh2")


def tcp_changed(place):
    changed(place, "tcp")


def damaged(place, kind):
    """What was left is not what was sent: it is noticed, and all is sent."""
    with Pair(place, kind) as p:
        p.cut()
        part = os.path.join(p.target, p.parts()[0])
        with open(part, "r+b") as f:
            for at in range(0, os.path.getsize(part), MIB // 64):
                f.seek(at)
                f.write(b"damaged")
        p.goes_on()
        p.arrived("damaged")


def sftp_damaged(place):
    damaged(place, "libssh2")


def tcp_damaged(place):
    damaged(place, "tcp")


def killed(place, kind):
    """Another run goes on with it; a file that is gone by then leaves nothing."""
    with Pair(place, kind) as p:
        p.cut()
        for pid in children(p.daemon.process.pid, every=True):
            kill(pid, signal.SIGKILL)
        p.daemon.stop(signal.SIGKILL)
        p.goes_on()
        p.daemon.start(wait=False)
        p.arrived("by another run")
        p.sent(SIZE * 3 // 2, "it was sent again")
        p.write("large", os.urandom(SIZE))
        p.relay.cut_after = p.relay.bytes[0] + CUT
        await_fact(lambda: p.relay.refusing and p.daemon.sync("w")["state"] == "down", 60, "it is cut")
        os.unlink(p.source + "/large")
        await_fact(lambda: not p.server.sessions()[kind == "tcp":], 30, "the other end has seen it, too")
        p.daemon.stop()
        p.goes_on()
        p.daemon.start(wait=False)
        p.arrived("no longer due")


def sftp_killed(place):
    killed(place, "libssh2")


def tcp_killed(place):
    killed(place, "tcp")


main([sftp_libssh2, sftp_connections, sftp_openssh, tcp, tcp_compressed, tcp_difference, sftp_changed, tcp_changed, sftp_damaged, tcp_damaged,
      sftp_killed, tcp_killed])
