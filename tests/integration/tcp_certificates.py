#!/usr/bin/env python3
# TIMEOUT: 120
"""The tcp transport with certificates instead of keys: who is let in, and who is believed."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, Failure, await_fact, expect_equal, free_port, main, run


class Authority:
    """Certificates, signed by one of its own."""

    def __init__(self, place):
        self.place = place
        os.makedirs(place, exist_ok=True)
        self.openssl("req", "-x509", *self.fresh("ca"), "-subj", "/CN=%s" % os.path.basename(place), "-days", "2")

    def openssl(self, *args):
        run("openssl", *args)

    def path(self, name, kind):
        return "%s/%s.%s" % (self.place, name, kind)

    def fresh(self, name):
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", self.path(name, "key"),
                "-out", self.path(name, "pem"))

    def issue(self, name, alternative, subject=None):
        self.openssl("req", "-x509", *self.fresh(name), "-subj", subject or "/CN=" + name, "-days", "2", "-CA", self.path("ca", "pem"),
                     "-CAkey", self.path("ca", "key"), "-addext", "subjectAltName=" + alternative, "-addext",
                     "basicConstraints=critical,CA:FALSE")
        return self

    def section(self, name, trusted=None):
        return 'certificate = "%s"; privateKey = "%s"; ca = "%s";' % (
            self.path(name, "pem"), self.path(name, "key"), (trusted or self).path("ca", "pem"))


class Pair:
    def __init__(self, place, sender=None, trusted=None, allow="web", more="", made=None):
        ours = made or Authority(place + "/ours").issue("receiver", "IP:127.0.0.1,DNS:mirror.example").issue("web", "DNS:web")
        self.source, self.target = place + "/source", place + "/target"
        for d in (self.source, self.target):
            os.makedirs(d)
        with open(self.source + "/file", "w") as f:
            f.write("content")
        port = free_port()
        self.receiver = Daemon(place + "/r", 'receiver = { listen = [ "127.0.0.1:%d" ]; %s\n'
                               '  modules = ( { name = "web"; path = "%s"; %s } ); };\n' % (
                                   port, ours.section("receiver"), self.target, 'allow = [ "%s" ];' % allow if allow else ""))
        self.sender = Daemon(place + "/s", 'sync = ( { name = "dr"; transport = "tcp"; source = "%s"; host = "127.0.0.1"; '
                             'port = %d; module = "web"; retryMin = 0.1; retryMax = 0.5; %s %s } );\n' % (
                                 self.source, port, (sender or ours).section("web", trusted), more))

    def __enter__(self):
        self.receiver.start(wait=False)
        await_fact(lambda: self.receiver.status()["receiver"]["state"] == "listening", 20, "the receiver listens")
        return self

    def __exit__(self, *why):
        self.sender.stop()
        self.receiver.stop()

    def mirrors(self):
        self.sender.start()
        expect_equal(self.source, self.target, "with certificates")

    def refused(self, *words):
        self.sender.start(wait=False)
        status = await_fact(lambda: (lambda s: s["state"] == "down" and s)(self.sender.sync("dr")), 20, "refused")
        if not any(w in status["reason"] for w in words):
            raise Failure("none of %r is in %r\n%s" % (words, status["reason"], self.receiver.tail()))
        if os.listdir(self.target):
            raise Failure("something was written")


def by_address(place):
    """The receiver's certificate bears the address; the sender's has the name that the module allows."""
    with Pair(place) as p:
        p.mirrors()


def by_name(place):
    with Pair(place, more='peerName = "mirror.example";') as p:
        p.mirrors()


def another_peer_name(place):
    with Pair(place, more='peerName = "other.example";') as p:
        p.refused("mismatch")


def not_allowed(place):
    with Pair(place, allow="mail") as p:
        p.refused("no module")


def without_a_name(place):
    """A module that names nobody is for senders without TLS from this host: a certificate without a name is none of these."""
    ours = Authority(place + "/ours").issue("receiver", "IP:127.0.0.1")
    ours.issue("web", "DNS:web", subject="/O=nobody")
    with Pair(place, sender=ours, trusted=ours, made=ours, allow=None) as p:
        p.refused("alert", "closed", "reset", "name")
        await_fact(lambda: "bears no name" in p.receiver.log(), 20, "the receiver says why")


def stranger_as_sender(place):
    """A sender whose certificate another authority signed. TLS 1.3 says so after the sender's part of the handshake."""
    others = Authority(place + "/others").issue("web", "DNS:web")
    with Pair(place, sender=others, trusted=Authority_of(place)) as p:
        p.refused("unknown ca", "alert", "closed", "reset")
        await_fact(lambda: "certificate" in p.receiver.log(), 20, "the receiver says why")


def stranger_as_receiver(place):
    others = Authority(place + "/others").issue("web", "DNS:web")
    with Pair(place, trusted=others) as p:
        p.refused("certificate")


class Authority_of:
    """The one that Pair makes below `place`."""

    def __init__(self, place):
        self.place = place + "/ours"

    def path(self, name, kind):
        return "%s/%s.%s" % (self.place, name, kind)


main([by_address, by_name, another_peer_name, not_allowed, without_a_name, stranger_as_sender, stranger_as_receiver])
