#!/usr/bin/env python3
"""The log under systemd: entries with fields, over the journal's own protocol, to a socket of ours; and lines of JSON."""
import json
import os
import re
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, Failure, await_fact, dirs, expect, main, put

IDS = dict(re.findall(r'#define LOG_ID_(\w+) "(\w+)"', open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "core",
                                                                          "log_ids.h")).read()))


class Journal:
    def __init__(self, path):
        self.path, self.entries = path, []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(0.05)

    def take(self):
        """What has come, as dictionaries of bytes."""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.socket, 1 << 20, 1)
            except (socket.timeout, BlockingIOError):
                return self.entries
            for fd in fds:
                data = os.pread(fd, 1 << 20, 0)
                os.close(fd)
            self.entries.append(self.parse(data))

    @staticmethod
    def parse(data):
        entry = {}
        while data:
            line, data = data.split(b"\n", 1)
            if b"=" in line:
                name, value = line.split(b"=", 1)
            else:
                name, size = line, struct.unpack("<Q", data[:8])[0]
                value, data = data[8:8 + size], data[9 + size:]
            entry[name.decode()] = value
        return entry

    def find(self, **fields):
        wanted = {k: v if isinstance(v, bytes) else v.encode() for k, v in fields.items()}
        return [e for e in self.take() if all(e.get(k) == v for k, v in wanted.items())]

    def await_entry(self, what, **fields):
        try:
            return await_fact(lambda: self.find(**fields), 20, what)[0]
        except Failure as e:
            raise Failure("%s; there are: %s" % (e, self.entries))


class Journaled(Daemon):
    """As under systemd: its output is the journal's stream."""

    def __init__(self, place, config, more=""):
        self.more = more
        super().__init__(place, config)
        self.journal = Journal(place + "/journal")

    def settings(self, more=""):
        return 'settings = { nodaemon = true; stateDir = "%s/state"; controlSocket = "%s/ctl"; %s };\n' % (self.place, self.place, self.more)

    def start(self, wait=True):
        with open(os.path.join(self.place, "output"), "ab") as f:
            st = os.fstat(f.fileno())
        self.env.update(JOURNAL_STREAM="%d:%d" % (st.st_dev, st.st_ino), FANSYNCD_JOURNAL_SOCKET=self.journal.path)
        return super().start(wait)


def fields(place):
    source, target, other = dirs(place, "source", "target", "other")
    config = ('sync = ( { name = "web"; transport = "direct"; source = "%s"; target = "%s"; delete = false; },\n'
              '{ name = "marked"; transport = "direct"; source = "%s"; target = "%s"; requireMarker = "marker"; } );\n' % (
                  source, target, source, other))
    daemon = Journaled(place, config).start(wait=False)
    journal = daemon.journal
    try:
        entry = journal.await_entry("the start", MESSAGE_ID=IDS["STARTED"])
        expect(entry["PRIORITY"] == b"5" and entry["SYSLOG_IDENTIFIER"] == b"fansyncd" and entry["CATEGORY"] == b"Normal", str(entry))
        entry = journal.await_entry("the first comparison", MESSAGE_ID=IDS["FIRST_DONE"])
        expect(entry["SYNC"] == b"web", str(entry))
        entry = journal.await_entry("the guard", MESSAGE_ID=IDS["STOPPED"])
        expect(entry["SYNC"] == b"marked" and entry["PRIORITY"] == b"3" and b"marker" in entry["MESSAGE"], str(entry))
        # A path that can't be sent, in bytes.
        name = b"odd\nname\xff"
        os.makedirs(os.path.join(os.fsencode(target), name, b"full"))
        with open(os.path.join(os.fsencode(source), name), "w") as f:
            f.write("x")
        entry = await_fact(lambda: [e for e in journal.take() if e.get("PATH") == name], 20, "the path")[0]
        expect(entry["SYNC"] == b"web" and entry["MESSAGE_ID"].decode() in (IDS["RETRY"], IDS["GIVEN_UP"]), str(entry))
        expect(b"\n" not in entry["MESSAGE"], "the message is a line")
        put(source + "/marker")
        entry = journal.await_entry("it goes on", MESSAGE_ID=IDS["BACK"])
        expect(entry["SYNC"] == b"marked", str(entry))
        with open(place + "/output") as f:
            expect(f.read() == "", "nothing goes there twice")
    finally:
        daemon.stop()
    journal.await_entry("the end", MESSAGE_ID=IDS["STOPPING"])


def journal_gone(place):
    """Nobody takes the entries: they are not lost, but go where they went before."""
    source, target = dirs(place, "source", "target")
    daemon = Journaled(place, 'sync = ( { name = "web"; transport = "direct"; source = "%s"; target = "%s"; } );\n' % (source, target))
    daemon.journal.socket.close()
    daemon.start()
    daemon.stop()
    with open(place + "/output") as f:
        expect("first comparison finished" in f.read(), "on its output")


def json_lines(place):
    source, target = dirs(place, "source", "target")
    daemon = Journaled(place, 'sync = ( { name = "web"; transport = "direct"; source = "%s"; target = "%s"; } );\n' % (source, target),
                       'logfile = "%s/log.json"; logFormat = "json";' % place)
    daemon.start()
    daemon.stop()
    with open(place + "/log.json") as f:
        lines = [json.loads(line) for line in f]
    done = [e for e in lines if e.get("message_id") == IDS["FIRST_DONE"]]
    expect(len(done) == 1 and done[0]["sync"] == "web" and done[0]["category"] == "Normal" and done[0]["time"] > 1e9, str(lines))
    expect(not daemon.journal.take(), "a log file is where it goes")


if __name__ == "__main__":
    main([fields, journal_gone, json_lines])
