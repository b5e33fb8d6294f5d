"""A TCP relay that delays each direction, counts how often the client had to wait, and can be cut.

    with Relay(port, delay=0.025) as r: connect to 127.0.0.1:r.port; r.waits, r.bytes; r.cut()

As a program: relay.py TARGET-PORT DELAY-MS prints its port and serves until its standard input ends.
"""
import collections
import selectors
import socket
import sys
import threading
import time

PIECE = 65536
QUEUE_MAX = 16 << 20


class Way:
    """One direction of one connection: pieces with the time at which they are due."""

    def __init__(self, source, sink):
        self.source, self.sink = source, sink
        self.queue = collections.deque()
        self.queued = 0
        self.ended = False
        self.closed = False


class Relay:
    def __init__(self, target, delay=0.0, host="127.0.0.1"):
        self.target, self.delay = (host, target), delay
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(16)
        self.port = self.listener.getsockname()[1]
        self.wake_r, self.wake_w = socket.socketpair()
        self.ways = []
        self.bytes = [0, 0]  # to the server, to the client
        self.waits = 0  # times that the client said nothing for as long as the delay: no more than its round trips
        self.connections = 0
        self.last = None
        self.cut_after = None  # bytes to the server (cut_way 1: to the client), then everything is cut
        self.cut_way = 0
        self.refuse_then = False  # and from then on all are refused
        self.refusing = False  # who connects is sent away
        self.stopping = self.cutting = False
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *args):
        self.stopping = True
        self.wake_w.send(b"x")
        self.thread.join()
        for s in (self.listener, self.wake_r, self.wake_w):
            s.close()

    def cut(self):
        """End all connections, without a word."""
        self.cutting = True
        self.wake_w.send(b"x")

    def accept(self):
        client, _ = self.listener.accept()
        if self.refusing:
            client.close()
            return
        try:
            server = socket.create_connection(self.target)
        except OSError:
            client.close()
            return
        for s in (client, server):
            s.setblocking(False)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1
        self.ways += [Way(client, server), Way(server, client)]

    def drop(self, way):
        """Both directions of its connection."""
        for w in [w for w in self.ways if w.source in (way.source, way.sink)]:
            self.ways.remove(w)
        for s in (way.source, way.sink):
            try:
                # a reset, so that nothing that is under way still arrives
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            except OSError:
                pass
            s.close()

    def read(self, way):
        try:
            data = way.source.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            self.drop(way)
            return
        if not data:
            way.ended = True
            return
        n = self.ways.index(way) % 2
        self.bytes[n] += len(data)
        if n == 0:
            self.waits += self.last is None or time.monotonic() - self.last >= self.delay
            self.last = time.monotonic()
        way.queue.append((time.monotonic() + self.delay, data))
        way.queued += len(data)
        if self.cut_after is not None and self.bytes[self.cut_way] >= self.cut_after:
            self.cut_after = None
            self.refusing = self.refuse_then
            self.cutting = True

    def write(self, way, now):
        while way.queue and way.queue[0][0] <= now:
            due, data = way.queue[0]
            try:
                n = way.sink.send(data)
            except BlockingIOError:
                return
            except OSError:
                self.drop(way)
                return
            way.queued -= n
            if n < len(data):
                way.queue[0] = (due, data[n:])
            else:
                way.queue.popleft()
        if way.ended and not way.queue and not way.closed:
            way.closed = True
            try:
                way.sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            if all(w.closed for w in self.ways if w.source in (way.source, way.sink)):
                self.drop(way)

    def round(self, selector):
        now = time.monotonic()
        wait = None
        wanted = {self.listener: selectors.EVENT_READ, self.wake_r: selectors.EVENT_READ}
        for way in self.ways:
            if not way.ended and way.queued < QUEUE_MAX:
                wanted[way.source] = wanted.get(way.source, 0) | selectors.EVENT_READ
            if way.queue and way.queue[0][0] <= now:
                wanted[way.sink] = wanted.get(way.sink, 0) | selectors.EVENT_WRITE
            elif way.queue:
                wait = min(wait if wait is not None else 1, way.queue[0][0] - now)
        for s in list(selector.get_map().values()):
            if s.fileobj not in wanted:
                selector.unregister(s.fileobj)
        for s, events in wanted.items():
            try:
                selector.modify(s, events)
            except KeyError:
                selector.register(s, events)
        ready = [key.fileobj for key, _ in selector.select(wait)]
        if self.wake_r in ready:
            self.wake_r.recv(100)
        if self.listener in ready:
            self.accept()
        for way in list(self.ways):
            if way in self.ways and way.source in ready and not way.ended:
                self.read(way)
        now = time.monotonic()
        for way in list(self.ways):
            if way in self.ways:
                self.write(way, now)

    def run(self):
        while not self.stopping:
            if self.cutting:
                self.cutting = False
                for way in list(self.ways):
                    if way in self.ways:
                        self.drop(way)
            with selectors.DefaultSelector() as selector:
                while not self.stopping and not self.cutting:
                    before = len(self.ways)
                    self.round(selector)
                    if len(self.ways) < before:
                        break  # closed descriptors: begin with a new selector
        for way in list(self.ways):
            if way in self.ways:
                self.drop(way)


if __name__ == "__main__":
    with Relay(int(sys.argv[1]), float(sys.argv[2]) / 1000) as relay:
        print(relay.port, flush=True)
        sys.stdin.read()
