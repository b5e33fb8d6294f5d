#!/usr/bin/env python3
"""tests/integration/twoway_churn.py with `tcp` and `direct`, several times: two hosts that change all kinds of names at random and
are killed. TURNS, SEED as usual; names of cases on the command line."""
import os
import sys
import tempfile

os.environ.setdefault("TESTDIR", tempfile.mkdtemp(prefix="fansyncd-soak."))
for d in ("lib", "integration"):
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", d))
from fansync import Daemon, children, free_port, main
from twoway_churn import Side, churn

SYNC = 'bidirectional = true; delay = 0.05; retryMin = 0.05; retryMax = 1.0; watcher = "%s";'


class Ends:
    """What can be killed beside the daemons: receivers, sessions, workers."""

    def __init__(self):
        self.ports = {"a": free_port(), "b": free_port()}
        self.daemons = []

    def sessions(self):
        return [pid for d in self.daemons if d.process is not None for pid in children(d.process.pid, every=True)]

    def stop(self):
        pass


class NativeSide(Side):
    def __init__(self, place, name, other, ends, watcher):
        self.top, there = "%s/%s" % (place, name), "%s/%s" % (place, other)
        for d in (self.top, there):
            os.makedirs(d, exist_ok=True)
        self.daemon = Daemon("%s/d%s" % (place, name), self.config(name, other, there, ends) % (SYNC % watcher))
        ends.daemons.append(self.daemon)


class TcpSide(NativeSide):
    def config(self, name, other, there, ends):
        return ('receiver = { listen = [ "127.0.0.1:%d" ]; modules = ( { name = "tree"; path = "%s"; } ); };\n'
                'sync = ( { name = "%s"; transport = "tcp"; source = "%s"; host = "127.0.0.1"; port = %d; module = "tree"; %%s } );' % (
                    ends.ports[name], self.top, name, self.top, ends.ports[other]))


class DirectSide(NativeSide):
    def config(self, name, other, there, ends):
        return 'sync = ( { name = "%s"; transport = "direct"; source = "%s"; target = "%s"; %%s } );' % (name, self.top, there)


def turns(place, kind):
    first = int(os.environ.get("SEED", "1"))
    for seed in range(first, first + int(os.environ.get("TURNS", "5"))):
        os.environ["SEED"] = str(seed)
        churn("%s/%d" % (place, seed), "fanotify" if seed % 2 else "inotify", 4, kind, Ends())


def tcp(place):
    turns(place, TcpSide)


def direct(place):
    turns(place, DirectSide)


if __name__ == "__main__":
    main([tcp, direct])
