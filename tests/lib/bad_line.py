"""A TCP relay that is a bad line: it cuts, resets, stalls, delays, delivers byte by byte, and lets peers vanish without a word.

    with BadLine(port) as line:  # connect to line.port
        line.trap(4711, line.reset)  # once that many more bytes have passed, in the midst of a piece
        line.drip(20000)             # so many bytes go one at a time
        line.stall(); line.go_on()   # nothing passes, on no connection
    line.hold(); line.release()  # the same on those that there are now: what they were given arrives late, also when who gave it is dead
        line.fates = [(900, RESET)]  # of the next connections, one each: so many bytes pass, and then that
        line.vanish()                # what is connected hears nothing any more, ever; new connections work
        line.heal()

One thread for each connection, which waits for its two sockets and for word from here.
"""
import collections
import select
import socket
import struct
import threading
import time

PIECE = 65536
QUEUE_MAX = 4 << 20
OPEN, CUT, RESET, GONE, OVER = "open", "cut", "reset", "gone", "over"


def abort(s):
    """End a connection with a reset, whatever it has read and sent."""
    try:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    s.close()


class Pair:
    """A connection: from the client to us, and from us to the server."""

    def __init__(self, line, client, server):
        self.line, self.ends = line, (client, server)
        self.queues = (collections.deque(), collections.deque())  # what each end is to get: (when, bytes)
        self.queued, self.ended, self.closed = [0, 0], [False, False], [False, False]
        self.state, self.drains, self.held = OPEN, False, False
        self.left, self.fate = line.fates.pop(0) if line.fates else (None, None)
        self.wake_r, self.wake_w = socket.socketpair()
        for s in (client, server):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for s in (client, server, self.wake_r, self.wake_w):
            s.setblocking(False)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def wake(self):
        try:
            self.wake_w.send(b"x")
        except OSError:
            pass

    def turn(self, state, drains=False):
        if self.state == OPEN or (self.state == GONE and state == OVER):
            self.state, self.drains = state, drains
        self.wake()

    def stands(self):
        return self.held or self.line.stalled

    def read(self, i):
        try:
            data = self.ends[i].recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            self.state = RESET if self.state == OPEN else self.state
            return
        if not data:
            self.ended[i] = True
        elif self.state != GONE:
            self.queues[1 - i].append((time.monotonic() + self.line.delay, data))
            self.queued[1 - i] += len(data)

    def write(self, i):
        queue = self.queues[i]
        while self.state == OPEN and queue and queue[0][0] <= time.monotonic() and not self.stands():
            due, data = queue[0]
            most = min(self.line.most(len(data)), self.left or len(data))
            try:
                n = self.ends[i].send(data[:most])
            except BlockingIOError:
                return
            except OSError:
                self.state = RESET
                return
            self.queued[i] -= n
            if n < len(data):
                queue[0] = (due, data[n:])
            else:
                queue.popleft()
            self.line.passed(n)
            if self.left is not None:
                self.left -= n
                if self.left == 0:
                    self.state = self.fate
        if self.ended[1 - i] and not queue and not self.closed[i] and self.state == OPEN:
            self.closed[i] = True
            try:
                self.ends[i].shutdown(socket.SHUT_WR)
            except OSError:
                pass

    def wait(self):
        """Which of the ends have something, or are ready to take something."""
        poll, limit = select.poll(), None
        poll.register(self.wake_r, select.POLLIN)
        for i in (0, 1):
            events = 0
            if not self.ended[i] and (self.state == OPEN and self.queued[1 - i] < QUEUE_MAX or self.state == GONE and self.drains):
                events |= select.POLLIN
            if self.state == OPEN and self.queues[i] and not self.stands():
                left = self.queues[i][0][0] - time.monotonic()
                if left <= 0:
                    events |= select.POLLOUT
                else:
                    limit = min(limit or 10 ** 6, left * 1000 + 1)
            if events:  # an end of which nothing is wanted would only say again and again that it is over
                poll.register(self.ends[i], events)
        ready = {fd for fd, _ in poll.poll(limit)}
        if self.wake_r.fileno() in ready:
            self.wake_r.recv(1000)
        return [i for i in (0, 1) if self.ends[i].fileno() in ready]

    def run(self):
        while self.state in (OPEN, GONE) and not all(self.closed):
            for i in self.wait():
                if not self.ended[i]:
                    self.read(i)
            for i in (0, 1):
                self.write(i)
        for s in self.ends:
            if self.state == RESET:
                abort(s)
            s.close()
        self.state = OVER
        self.wake_r.close()
        self.wake_w.close()
        self.line.forget(self)


class BadLine:
    def __init__(self, target, host="127.0.0.1"):
        self.target = (host, target)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.changed = threading.Condition()
        self.pairs = []
        self.delay, self.stalled, self.refusing = 0.0, False, False
        self.dripping = 0  # bytes that go one at a time
        self.traps = []  # [bytes to go, what to do]
        self.fates = []
        self.bytes = self.connections = self.refused = 0

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.changed:
            pairs = list(self.pairs)
        for p in pairs:
            p.turn(OVER)
        for p in pairs:
            p.thread.join()

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            server = None
            try:
                server = None if self.refusing else socket.create_connection(self.target)
            except OSError:
                pass
            with self.changed:
                if server is None:
                    self.refused += 1
                    abort(client)
                else:
                    self.connections += 1
                    self.pairs.append(Pair(self, client, server))
                self.changed.notify_all()

    def forget(self, pair):
        with self.changed:
            if pair in self.pairs:
                self.pairs.remove(pair)
            self.changed.notify_all()

    # ---- how much passes ----

    def most(self, n):
        """How many bytes may pass at once."""
        with self.changed:
            if self.dripping > 0:
                return 1
            return max(1, min([n] + [t[0] for t in self.traps]))

    def passed(self, n):
        due = []
        with self.changed:
            self.bytes += n
            self.dripping = max(0, self.dripping - n)
            for t in self.traps:
                t[0] -= n
            due = [t for t in self.traps if t[0] <= 0]
            self.traps = [t for t in self.traps if t[0] > 0]
            self.changed.notify_all()
        for t in due:
            t[1]()

    def await_that(self, fact, seconds):
        """Whether fact() became true; it is looked at whenever something passed, came or went."""
        with self.changed:
            return self.changed.wait_for(fact, seconds)

    # ---- faults ----

    def each(self, state, drains=False):
        with self.changed:
            pairs = [p for p in self.pairs if p.state == OPEN]
        for p in pairs:
            p.turn(state, drains)
        return len(pairs)

    def trap(self, n, action):
        with self.changed:
            self.traps.append([n, action])

    def cut(self):
        """Both ends are told that it is over."""
        return self.each(CUT)

    def reset(self):
        return self.each(RESET)

    def vanish(self, drains=False):
        """With `drains` what the ends say is taken, and goes nowhere; else their buffers fill up."""
        return self.each(GONE, drains)

    def drip(self, n):
        with self.changed:
            self.dripping = n

    def stall(self):
        self.stalled = True

    def go_on(self):
        self.stalled = False
        with self.changed:
            pairs = list(self.pairs)
        for p in pairs:
            p.wake()

    def hold(self):
        with self.changed:
            for p in self.pairs:
                p.held = True

    def held(self):
        """How many bytes, on their way to the server."""
        with self.changed:
            return sum(p.queued[1] for p in self.pairs if p.held)

    def release(self):
        """And wait until all that was held has arrived, and its connections are over."""
        with self.changed:
            pairs = [p for p in self.pairs if p.held]
        for p in pairs:
            p.held = False
            p.wake()
        for p in pairs:
            p.thread.join()

    def heal(self):
        """New connections are good ones. What has vanished stays so."""
        with self.changed:
            self.traps, self.fates, self.dripping, self.delay, self.refusing = [], [], 0, 0.0, False
        self.go_on()
