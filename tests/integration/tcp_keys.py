#!/usr/bin/env python3
# TIMEOUT: 120
"""Who may not write to a receiver: nothing but TLS's alerts for strangers, a pause for an address whose sessions fail, key files that
others may read; and whose keys a session holds."""
import ctypes
import os
import secrets
import socket
import ssl
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import fansync
import tcp_peer as tcp
from fansync import Daemon, Failure, Receiver, Skipped, await_fact, children, expect, main, put, run
from memory import plain, readable

HERE, STRANGER, HONEST = "10.77.0.1", "10.77.0.2", "10.77.0.3"
ALERT = 0x15


def keys_of_others(place):
    """The process that serves one peer has no other's key in its memory."""
    before = plain()
    os.makedirs(place + "/target")
    os.makedirs(place + "/source")
    put(place + "/source/f", "content")
    r = Receiver(place + "/r", place + "/target")
    others = [secrets.token_hex(32) for _ in range(6)]
    for n, k in enumerate(others):
        put(place + "/r/keys/other%d.key" % n, k + "\n")
        os.chmod(place + "/r/keys/other%d.key" % n, 0o600)
    with open(r.key) as f:
        own = f.read().strip()
    sender = Daemon(place + "/s", 'sync = ( { name = "w"; transport = "tcp"; source = "%s"; %s delay = 0.0; } );\n'
                    % (place + "/source", r.section()))

    def found(pid, keys):
        raw = [bytes.fromhex(k) for k in keys] + [k.encode() for k in keys]
        return sum(any(k in piece for k in raw) for piece in readable(pid))
    try:
        r.start()
        sender.start()
        listener = children(r.daemon.process.pid)[0]
        session = next(p for p in children(listener) if open("/proc/%d/comm" % p).read().startswith("fansyncd:sessio"))
        if not found(listener, [own] + others):
            raise Skipped("memory can't be looked at here")
        expect(not found(session, others), "another peer's key is in a session's memory")
        put(place + "/source/f", "more content")
        sender.wait()
    finally:
        sender.stop()
        r.stop()
        fansync.BINARY = before


def key_files(place):
    """One that others may read, or that is no key, lets nobody in, and is named; the others count."""
    os.makedirs(place + "/target")
    r = Receiver(place + "/r", place + "/target")
    keys = place + "/r/keys/"
    for name, text, mode in (("read.key", "00" * 32, 0o640), ("all.key", "00" * 32, 0o604), ("short.key", "00" * 31, 0o600),
                             ("raw-short.key", "z" * 31, 0o600), ("empty.key", "", 0o600)):
        put(keys + name, text)
        os.chmod(keys + name, mode)
    put(keys + "raw.key", "z" * 32)
    put(keys + "not-a-key", "z" * 32)
    os.chmod(keys + "raw.key", 0o400)
    os.mkdir(keys + "dir.key")
    os.mkfifo(keys + "fifo.key", 0o600)
    bad = ["read", "all", "short", "raw-short", "empty", "dir", "fifo"]
    if os.geteuid() == 0:
        put(keys + "others.key", "00" * 32)
        os.chmod(keys + "others.key", 0o600)
        os.chown(keys + "others.key", 12345, 12345)
        bad.append("others")
    try:
        r.start()
        for name in bad:
            expect(any("/%s.key" % name in line and "lets nobody in" in line for line in r.daemon.log().splitlines()), "%s.key is refused" % name)
        expect("1 modules, 2 keys" in r.daemon.log(), "the others count")
    finally:
        r.stop()


def apart():
    """A network of our own, in which the addresses above are not loopback's."""
    if os.geteuid() != 0 or ctypes.CDLL(None, use_errno=True).unshare(0x40000000) < 0:
        raise Skipped("only root may make network namespaces")
    run("ip", "link", "set", "lo", "up")
    for a in (HERE, STRANGER, HONEST):
        run("ip", "addr", "add", a + "/24", "dev", "lo")


def answer(port, said, local=STRANGER):
    """All that comes back."""
    with socket.create_connection((HERE, port), 20, source_address=(local, 0)) as s:
        got = b""
        try:
            s.sendall(said)
            s.shutdown(socket.SHUT_WR)
            while True:
                piece = s.recv(65536)
                if not piece:
                    return got
                got += piece
        except OSError:
            return got


def alerts_alone(got):
    at = 0
    while at < len(got):
        kind, _, n = struct.unpack_from(">BHH", got, at)
        if kind != ALERT:
            return False
        at += 5 + n
    return True


def hello(version):
    """A TLS client's first words."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(into, out).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def strangers(place):
    """Whatever a stranger says first: an alert, or nothing; and no word of which modules there are."""
    apart()
    os.makedirs(place + "/target")
    r = Receiver(place + "/r", place + "/target", address=HERE)
    greeting = struct.pack("<QHHI", tcp.MAGIC, 1, 1, 0) + b"h" * 16 + b"".join(tcp.counted(x) for x in (
        "a test", "web", "test", tcp.option(1, struct.pack("<Q", tcp.FLAGS))))
    frame = struct.pack("<IB", len(greeting), tcp.HELLO) + greeting
    plain = struct.pack("<I", len(frame)) + frame
    try:
        r.start()
        known = len(r.sessions())
        for n, said in enumerate((b"", b"P", b"P" + plain, plain, b"GET / HTTP/1.0\r\n\r\n", hello(ssl.TLSVersion.TLSv1_3),
                                  hello(ssl.TLSVersion.TLSv1_2), b"\x16\x03\x01\x40\x00" + b"\1" * 3000, b"\x15\x03\x03\0\2\2\0",
                                  b"\x16\x03\x01\x00\x04\x01\xff\xff\xff" + b"z" * 100)):
            a = "127.0.0.%d" % (n + 2)  # an address that failed before has to wait
            run("ip", "addr", "add", "10.77.1.%d/32" % (n + 2), "dev", "lo")
            got = answer(r.port, said, a.replace("127.0.0", "10.77.1"))
            expect(alerts_alone(got), "what number %d is answered: %r" % (n, got))
        await_fact(lambda: len(r.sessions()) == known, 20, "their sessions end")
        expect(not os.listdir(place + "/target"), "nothing was written")
    finally:
        r.stop()


def pauses(place):
    """Where sessions fail one after the other, the next ones are not even begun for a while; another address is served meanwhile,
    and that one, too, when the pause is over."""
    apart()
    os.makedirs(place + "/target")
    r = Receiver(place + "/r", place + "/target", tls=False, address=HERE, options="insecure = true;")

    def served(local):
        try:
            s = tcp.Sender(r.port, HERE, local).greet()
        except (tcp.Ended, OSError):
            return False
        s.close()
        return True
    try:
        r.start()
        for _ in range(12):  # each failure doubles the pause: on the slowest machine one of them is long enough
            if not answer(r.port, b"\x16\x03\x01\x00\x04\x01\xff\xff\xff" + b"z" * 100):
                break
        else:
            raise Failure("it is served as often as it comes")
        expect(served(HONEST), "another address")
        await_fact(lambda: served(STRANGER), 90, "the pause ends")
        expect(answer(r.port, b"\x16\x03\x01\x00\x04\x01\xff\xff\xff" + b"z" * 100), "what went well ends the count")
    finally:
        r.stop()


main([keys_of_others, key_files, strangers, pauses])
