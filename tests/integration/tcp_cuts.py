#!/usr/bin/env python3
# TIMEOUT: 180
"""tcp while files change: connections are cut at random bytes, in either direction; both ends' processes are killed at random
moments. It converges, and no temporary file is left."""
import os
import random
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from churn import Churn
from fansync import Daemon, Failure, Receiver, await_fact, children, expect_equal, kill, main
from relay import Relay

SECONDS = float(os.environ.get("CHURN_SECONDS", "8"))
SEED = int(os.environ.get("SEED", "1"))


class Changing:
    """A sync whose source changes all the time, large files among them; `disturb` is called in between."""

    def __init__(self, place):
        self.source, self.target, self.place = place + "/source", place + "/target", place
        os.makedirs(self.source)
        os.makedirs(self.target)
        self.chance = random.Random(SEED)
        self.receiver = Receiver(place + "/receiver", self.target).start()

    def run(self, port, disturb, often):
        self.sender = Daemon(self.place + "/s", 'sync = ( { name = "dr"; transport = "tcp"; source = "%s"; %s compress = true; '
                             'retryMin = 0.05; retryMax = 0.2; rsync = { archive = true; }; } );\n'
                             % (self.source, self.receiver.section(port)))
        steps = [0]

        def now_and_then():
            steps[0] += 1
            if steps[0] % 50 == 0:
                path = "%s/large%d" % (self.source, self.chance.randrange(3))
                with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "wb") as f:
                    f.seek(self.chance.randrange(1000000))
                    f.write(os.urandom(self.chance.randrange(1, 400000)))
            if steps[0] % often == 0:
                disturb()
        try:
            self.sender.start(wait=False)
            done = Churn(self.source, self.place + "/outside", SEED).run(SECONDS / 2, now_and_then)
            await_fact(self.receiver.listens, 30, "the receiver listens")
            self.sender.wait(90)
            try:
                expect_equal(self.source, self.target, "after %d operations" % done)
            except Failure as e:
                raise Failure("%s\n%s" % (e, self.sender.tail(40)))
            left = [os.path.join(d, f) for d, _, files in os.walk(self.target) for f in files if "fansyncd~" in f]
            if left:
                raise Failure("left over: %s" % left)
            return self.sender.sync("dr")["counters"], done
        finally:
            self.sender.stop()
            self.receiver.stop()


def connections_are_cut(place):
    c = Changing(place)
    with Relay(c.receiver.port) as relay:
        def cut():
            if c.chance.random() < 0.2:
                relay.cut()
            elif relay.cut_after is None:
                relay.cut_way = c.chance.randrange(2)
                relay.cut_after = relay.bytes[relay.cut_way] + c.chance.choice([1, 10, 300, 5000, 100000])
        counters, done = c.run(relay.port, cut, 100)
        print("# %d operations, %d connections" % (done, relay.connections))
        if relay.connections < 3:
            raise Failure("nothing was cut: %s" % counters)


def either_end_is_killed(place):
    c = Changing(place)
    killed = [0]

    def murder():
        daemon = c.chance.choice([c.receiver.daemon, c.sender])
        victims = children(daemon.process.pid, every=True)
        if victims:
            kill(c.chance.choice(victims), signal.SIGKILL)
            killed[0] += 1
    counters, done = c.run(None, murder, 300)
    print("# %d operations, %d killed, %d restarts" % (done, killed[0], counters["worker_restarts"]))
    if killed[0] < 2:
        raise Failure("nobody was killed")


main([connections_are_cut, either_end_is_killed])
