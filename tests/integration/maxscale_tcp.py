#!/usr/bin/env python3
# TIMEOUT: 300
"""The MaxScale guide's three hosts over `tcp`: each has a receiver and two syncs to the others, in one daemon. The edits of
maxscale.py, and those of maxscale_twoway.py, which are at odds with each other."""
import os
import secrets
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import maxscale
import maxscale_twoway
from fansync import Daemon, main

PORT = 8737


class Nothing:
    """In the place of an sshd."""

    def start(self):
        return self

    def stop(self):
        pass


class TcpDaemon(Daemon):
    def start(self, wait=True):
        """Who is first can't reach the others yet."""
        return super().start(wait=False)


class TcpHost(maxscale.Host):
    def serve(self):
        self.sshd = Nothing()
        shared = os.path.dirname(self.place) + "/hosts.key"
        if not os.path.exists(shared):
            with open(shared, "w", opener=lambda p, f: os.open(p, f, 0o600)) as f:
                f.write(secrets.token_hex(32))
        os.makedirs(self.place + "/keys")
        os.link(shared, self.place + "/keys/hosts.key")

    def connect(self, hosts, watcher, delay=0.1):
        syncs = ['''{
    name = "to%d"; transport = "tcp"; source = "%s"; host = "%s"; port = %d; module = "etc"; key = "%s/keys/hosts.key";
    bidirectional = true; delay = %.1f; watcher = "%s"; retryMin = 0.1; retryMax = 0.5;
    filter = [ "+ *maxscale.cnf", "- **" ];
  }''' % (h.i, self.etc, h.address, PORT, self.place, delay, watcher) for h in hosts if h is not self]
        self.daemon = TcpDaemon(self.place + "/fansyncd", '''receiver = {
  listen = [ "%s:%d" ]; keys = "%s/keys";
  modules = ( { name = "etc"; path = "%s"; allow = [ "hosts" ]; } );
};
sync = (
  %s
);
''' % (self.address, PORT, self.place, self.etc, ",\n  ".join(syncs)), self.net.prefix(self.i))


# An edit is carried to two hosts; where the two meet, once more by one of them to the other.
MOST = 6


def with_fanotify(place):
    maxscale.maxscale(place, "fanotify", transport="tcp", kind=TcpHost, most=MOST)


def with_inotify(place):
    maxscale.maxscale(place, "inotify", transport="tcp", kind=TcpHost, most=MOST)


def at_odds(place):
    maxscale_twoway.twoway(place, "inotify", 0.1, True, TcpHost)


def at_odds_and_more(place):
    maxscale_twoway.twoway(place, "fanotify", 0.1, False, TcpHost)


def at_odds_without_delay(place):
    maxscale_twoway.twoway(place, "inotify", 0, True, TcpHost)


if __name__ == "__main__":
    # The others take long, or, with no delay, may leave the hosts unequal (README, Limits): as in maxscale_twoway.py.
    more = [with_inotify, at_odds_and_more, at_odds_without_delay] if os.environ.get("SOAK") or sys.argv[1:] else []
    main([with_fanotify, at_odds] + more)
