"""Two hosts and the wire between them: network namespaces with a tun device each, whose packets are passed on here, or are not.

    with Wire() as w:                      # w.hosts[0], w.hosts[1]: prefix (to run something there), address
        w.broken = True                    # nothing passes, and nobody is told
        w.loss, w.reorder, w.delay = 0.05, 0.1, 0.005
        w.largest = 600                    # a black hole for larger packets
        w.drops = lambda packet: ...       # a firewall: p.way, p.ports, p.syn
        w.hosts[0].link(False)             # the interface goes down

Needs root and /dev/net/tun, and leaves nothing behind: a namespace lives as long as the process in it, which ends with us.
"""
import collections
import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time

from fansync import Failure, await_fact, run

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 1, 0x1000
TUN, DEVICE, PACKET_MAX = "/dev/net/tun", "wire0", 65600
TCP, SYN, ACK = 6, 2, 16
Packet = collections.namedtuple("Packet", "way ports syn size")  # way: the host that sent it; syn: of who connects
libc = ctypes.CDLL(None, use_errno=True)


def possible():
    """Why there can be no wire here; None if there can."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    try:
        os.close(os.open(TUN, os.O_RDWR))
    except OSError as e:
        return "%s: %s" % (TUN, e.strerror)
    return None


class Host:
    def __init__(self, address):
        self.address = address
        self.keeper = subprocess.Popen(["unshare", "--net", "--", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self.namespace = "/proc/%d/ns/net" % self.keeper.pid
        ours = os.stat("/proc/self/ns/net").st_ino
        await_fact(lambda: os.stat(self.namespace).st_ino != ours, 30, "a network namespace")
        self.prefix = ["nsenter", "--net=" + self.namespace, "--"]
        self.tun = None
        self.ip("link", "set", "lo", "up")

    def ip(self, *args):
        run(*self.prefix, "ip", *args)

    def open_tun(self):
        """By a thread that is thereby in this namespace."""
        fd = os.open(self.namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(fd, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(fd)
        self.tun = os.open(TUN, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.ioctl(self.tun, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))

    def link(self, up):
        self.ip("link", "set", DEVICE, "up" if up else "down")

    def readdress(self, address):
        self.ip("addr", "flush", "dev", DEVICE)
        self.address = address
        self.ip("addr", "add", address + "/24", "dev", DEVICE)

    def stop(self):
        if self.tun is not None:
            os.close(self.tun)
        self.keeper.stdin.close()
        self.keeper.wait()


def look_at(way, data):
    """IPv4 with TCP; of anything else the size alone."""
    ports, syn = None, False
    if len(data) >= 40 and data[0] >> 4 == 4 and data[9] == TCP:
        at = (data[0] & 15) * 4
        ports = struct.unpack_from(">HH", data, at)
        syn = data[at + 13] & (SYN | ACK) == SYN
    return Packet(way, ports, syn, len(data))


class Wire:
    def __init__(self, seed=1, mtu=1500):
        self.chance, self.mtu = random.Random(seed), mtu
        self.hosts = []
        self.broken, self.largest, self.drops = False, PACKET_MAX, None
        self.loss = self.reorder = self.delay = 0.0
        self.passed = self.dropped = self.bytes = 0
        self.calls = set()  # (way, port of the caller, port called) of each attempt to connect
        self.later, self.n = [], 0
        self.changed = threading.Condition()
        self.wake_r, self.wake_w = os.pipe()
        self.up, self.wrong, self.stopping = threading.Event(), None, False

    def __enter__(self):
        try:
            self.hosts = [Host("10.214.0.1"), Host("10.214.0.2")]
            self.thread = threading.Thread(target=self.run, daemon=True)
            self.thread.start()
            self.up.wait()
            if self.wrong:
                raise Failure("no wire: %s" % self.wrong)
            for h in self.hosts:
                h.ip("link", "set", DEVICE, "mtu", str(self.mtu))
                h.readdress(h.address)
                h.link(True)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.stopping = True
        os.write(self.wake_w, b"x")
        if self.up.is_set():
            self.thread.join()
        for h in self.hosts:
            h.stop()
        os.close(self.wake_r)
        os.close(self.wake_w)

    def heal(self):
        self.broken, self.largest, self.drops = False, PACKET_MAX, None
        self.loss = self.reorder = self.delay = 0.0

    def await_that(self, fact, seconds):
        """Whether fact() became true; it is looked at whenever a packet was seen."""
        with self.changed:
            return self.changed.wait_for(fact, seconds)

    def is_lost(self, p):
        return (self.broken or p.size > self.largest or (self.drops is not None and self.drops(p))
                or (self.loss > 0 and self.chance.random() < self.loss))

    def take(self, way):
        try:
            data = os.read(self.hosts[way].tun, PACKET_MAX)
        except (BlockingIOError, OSError):
            return False
        p = look_at(way, data)
        if p.syn:
            self.calls.add((way,) + p.ports)
        if self.is_lost(p):
            self.dropped += 1
            return True
        delay = self.delay
        if self.reorder > 0 and self.chance.random() < self.reorder:
            delay += 0.01
        if delay > 0 or self.later:
            self.n += 1
            heapq.heappush(self.later, (time.monotonic() + delay, self.n, 1 - way, data))
        else:
            self.give(1 - way, data)
        return True

    def give(self, to, data):
        try:
            os.write(self.hosts[to].tun, data)
            self.passed += 1
            self.bytes += len(data)
        except OSError:  # its interface is down
            self.dropped += 1

    def run(self):
        try:
            for h in self.hosts:
                h.open_tun()
        except OSError as e:
            self.wrong = e
            return
        finally:
            self.up.set()
        poll = select.poll()
        for fd in (self.hosts[0].tun, self.hosts[1].tun, self.wake_r):
            poll.register(fd, select.POLLIN)
        while not self.stopping:
            wait = max(0, (self.later[0][0] - time.monotonic()) * 1000) if self.later else None
            poll.poll(wait)
            for way in (0, 1):
                for _ in range(64):
                    if not self.take(way):
                        break
            while self.later and self.later[0][0] <= time.monotonic():
                self.give(*heapq.heappop(self.later)[2:])
            with self.changed:
                self.changed.notify_all()
