#!/usr/bin/env python3
"""Hosts by IPv6 address, with and without brackets, over rsyncssh, sftp with both clients, and tcp."""
import os
import secrets
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, Failure, Sshd, await_fact, expect_equal, main, skip


def there_is():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
            return s.getsockname()[1]
    except OSError:
        return 0


def prepare(place):
    for d in ("source", "target"):
        os.makedirs("%s/%s" % (place, d))
    with open(place + "/source/f", "w") as f:
        f.write("x")
    os.utime(place + "/source/f", (1000000000, 1000000000))


def sync_of(place, transport, host, more):
    d = Daemon(place + "/" + transport, 'sync = ( { name = "w"; transport = "%s"; source = "%s/source"; host = "%s"; watcher = "inotify"; '
               'rsync = { archive = true; }; %s } );\n' % (transport, place, host, more))
    done = d.client("--sync-now", check=False)
    if done.returncode != 0:
        raise Failure("%s to %s: %s\n%s" % (transport, host, done.stderr.decode(errors="replace"), d.tail()))
    expect_equal(place + "/source", place + "/target", "%s to %s" % (transport, host), seconds=True)


def over_ssh(place, transport, host, client=""):
    prepare(place)
    sshd = Sshd(place + "/sshd", address="::1", port=there_is(), config="Subsystem sftp internal-sftp\n").start()
    try:
        section = sshd.section().replace("};", client + " };")
        sync_of(place, transport, host, 'targetdir = "%s/target"; %s' % (place, section))
    finally:
        sshd.stop()


def sftp_libssh2(place):
    over_ssh(place, "sftp", "root@[::1]" if os.geteuid() == 0 else "::1")


def sftp_openssh(place):
    over_ssh(place, "sftp", "[::1]", 'client = "openssh";')


def rsyncssh(place):
    over_ssh(place, "rsyncssh", "::1")


def tcp(place):
    prepare(place)
    port, key = there_is(), place + "/keys/web.key"
    os.makedirs(place + "/keys")
    with open(key, "w", opener=lambda p, f: os.open(p, f, 0o600)) as f:
        f.write(secrets.token_hex(32) + "\n")
    receiver = Daemon(place + "/receiver", 'receiver = { listen = [ "[::1]:%d" ]; keys = "%s/keys"; modules = ( { name = "web"; '
                      'path = "%s/target"; allow = [ "web" ]; } ); };\n' % (port, place, place))
    receiver.start(wait=False)
    try:
        await_fact(lambda: receiver.status()["receiver"]["state"] == "listening", 20, "the receiver listens")
        for host in ("::1", "[::1]"):
            sync_of(place, "tcp", host, 'port = %d; module = "web"; key = "%s";' % (port, key))
    finally:
        receiver.stop()


if not there_is():
    skip("no IPv6 on this host")
main([sftp_libssh2, sftp_openssh, rsyncssh, tcp])
