"""A TCP relay that understands the tcp transport's framing (docs/PROTOCOL.md, in plaintext): it counts the frames that pass, and
does something at one of them.

    with FrameRelay(port) as r:
        r.arm(TO_RECEIVER, ITEM, 2, PASS, lambda: kill(...))   # at the second ITEM from now on
        r.fired.wait(20)

One thread a direction, which blocks: what is done at a frame is done before any later byte is passed on.
"""
import collections
import socket
import struct
import threading
import zlib

from tcp_peer import Zstd

TO_RECEIVER, TO_SENDER = 0, 1
# What becomes of the record in which the frame ends: passed on first, held back, or the first bytes of it passed on.
PASS, HOLD, HALF = "pass", "hold", "half"


class Parser:
    """Of one direction: bytes in, records with the types of the frames that end in each out."""

    def __init__(self, announced):
        self.wire, self.plain = b"", b""
        self.announced = announced  # a byte stands before the first record
        self.inflate, self.zstd = zlib.decompressobj(-15), Zstd()

    def feed(self, data):
        self.wire += data
        found = []
        while True:
            at = 1 if self.announced else 0
            if len(self.wire) < at + 4:
                return found
            head = struct.unpack_from("<I", self.wire, at)[0]
            kind, end = head >> 30, at + 4 + (head & 0x3fffffff)
            if kind > 2:
                raise AssertionError("a record of kind %d" % kind)
            if len(self.wire) < end:
                return found
            body = self.wire[at + 4:end]
            self.plain += (self.inflate.decompress(body + b"\0\0\xff\xff") if kind == 1 else
                           self.zstd.decompress(body) if kind == 2 else body)
            found.append((self.wire[:end], self.frames()))
            self.wire = self.wire[end:]
            self.announced = False

    def frames(self):
        types, at = [], 0
        while len(self.plain) - at >= 5:
            n, kind = struct.unpack_from("<IB", self.plain, at)
            if len(self.plain) - at < 5 + n:
                break
            types.append(kind)
            at += 5 + n
        self.plain = self.plain[at:]
        return types


class FrameRelay:
    def __init__(self, target):
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.pairs, self.threads = [], []
        self.seen = (collections.Counter(), collections.Counter())
        self.fired = threading.Event()
        self.trap = self.wrong = None
        self.connections = 0

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *args):
        self.listener.close()
        self.cut()

    def arm(self, way, kind, number, how, action, part=0.5):
        """At the number-th frame of that kind: `action`, and the connection ends."""
        with self.lock:
            self.fired.clear()
            self.trap = [way, kind, number, how, action, part]

    def disarm(self):
        with self.lock:
            self.trap = None

    def cut(self):
        """End all connections."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            self.end(pair)

    @staticmethod
    def end(pair, hard=False):
        for s in pair:
            try:
                if hard:  # what is under way does not arrive
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                if self.listener.fileno() < 0:
                    return
                client.close()
                continue
            for s in (client, server):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = (client, server)
            with self.lock:
                self.pairs.append(pair)
                self.connections += 1
            for way in (TO_RECEIVER, TO_SENDER):
                threading.Thread(target=self.carry, args=(pair, way), daemon=True).start()

    def due(self, way, types):
        """The trap, when it is one of these; and it is taken away."""
        with self.lock:
            self.seen[way].update(types)
            trap = self.trap
            if trap is None or trap[0] != way:
                return None
            trap[2] -= types.count(trap[1])
            if trap[2] > 0 or trap[1] not in types:
                return None
            self.trap = None
            return trap

    def carry(self, pair, way):
        source, sink = pair if way == TO_RECEIVER else pair[::-1]
        parser = Parser(way == TO_RECEIVER)
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                for record, types in parser.feed(data):
                    trap = self.due(way, types)
                    if trap is None:
                        sink.sendall(record)
                        continue
                    how, action, part = trap[3:]
                    if how != HOLD:
                        sink.sendall(record[:max(1, int(len(record) * part))] if how == HALF else record)
                    action()
                    self.fired.set()
                    return
        except OSError:
            pass
        except (AssertionError, zlib.error) as e:
            self.wrong = e
        finally:
            self.end(pair)
            with self.lock:
                if pair in self.pairs:
                    self.pairs.remove(pair)
