#!/usr/bin/env python3
"""Very many events wait for the daemon: it reads them by turns, and answers in between. What a worker has to say meanwhile counts
when the events of before are read, not earlier: a directory that moved while its batch was under way is mirrored under its new name."""
import json
import os
import signal
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import CONTROL_EXIT, CONTROL_OUT, CONTROL_REQUEST, Daemon, await_fact, children, differences, dirs, expect, main, own_file_system, put, skip, tree


DEPTH, ROUNDS = 60, 3000


class Question:
    """Asked now, answered later: the daemon may stand still meanwhile."""

    def __init__(self, daemon, *words):
        request = "".join(w + "\0" for w in words).encode()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(600)
        self.socket.connect(os.path.join(daemon.place, "ctl"))
        self.socket.sendall(struct.pack("<IB", len(request), CONTROL_REQUEST) + request)

    def answer(self):
        said = b""
        with self.socket, self.socket.makefile("rb") as f:
            while True:
                size, kind = struct.unpack("<IB", f.read(5))
                text = f.read(size)
                if kind == CONTROL_OUT:
                    said += text
                if kind == CONTROL_EXIT:
                    return struct.unpack("<I", text)[0], said


def make_noise(deep):
    """Directories that move: after each of them what is known of all others is in doubt, and found out anew."""
    for i in range(ROUNDS):
        put("%s/%d/of %d" % (deep, i, i))
        os.rename("%s/%d" % (deep, i), "%s/%d" % (deep, i + 1))


def state_of(pid):
    with open("/proc/%d/stat" % pid) as f:
        return f.read().rsplit(")", 1)[1].split()[0]


def events_of(status):
    return status["syncs"][0]["watcher"]["events"]


def while_it_reads(place):
    source, target = dirs(place, "source", "target")
    deep = source + "/noise" + "/d" * DEPTH
    os.makedirs(deep + "/0")
    os.makedirs(source + "/old")
    d = Daemon(place, 'sync = ( { name = "s"; transport = "direct"; source = "%s"; target = "%s"; watcher = "fanotify"; delay = 0; '
                      'exclude = [ "/noise/" ]; } );\n' % (source, target))
    d.start()
    try:
        worker, = children(d.process.pid)
        os.kill(worker, signal.SIGSTOP)
        put(source + "/old/file")
        await_fact(lambda: d.sync("s")["in_flight"] > 0, 30, "a batch in flight")
        d.process.send_signal(signal.SIGSTOP)
        os.rename(source + "/old", source + "/new")
        make_noise(deep)
        os.kill(worker, signal.SIGCONT)
        await_fact(lambda: state_of(worker) == "S", 30, "the worker's end with it")
        waits, asks = Question(d, "wait"), Question(d, "status", "--json")
        d.process.send_signal(signal.SIGCONT)
        code, text = asks.answer()
        expect(code == 0, "status: exit %d" % code)
        early = events_of(json.loads(text))
        code, _ = waits.answer()
        expect(code == 0, "--wait: exit %d" % code)
        late = events_of(d.status())
        expect(late >= 2 * ROUNDS, "only %d events" % late)
        expect(early < late, "no answer before all %d events were read" % late)
        found = differences(tree(source, (b"noise",)), tree(target))
        expect(not found, "not equal: %s" % found)
    finally:
        d.stop()


if not own_file_system():
    skip("it needs fanotify: only root may")
main((while_it_reads,))
