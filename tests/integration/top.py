#!/usr/bin/env python3
"""fansyncd --top, on a terminal of ours: what it shows, keys, another size, a daemon that goes and comes, and that it leaves the terminal
as it found it; and in a pipe."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import BINARY, Daemon, Failure, await_fact, dirs, expect, main, put

ODD = b"\xff\x1b[31m\xe6\xbc\xa2"  # no UTF-8, an escape, and a wide character


class Terminal:
    """A program on a pty, and a screen that keeps what it drew last."""

    def __init__(self, argv, width=100, height=24, env=None):
        self.master, slave = pty.openpty()
        self.size(width, height)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=subprocess.PIPE, start_new_session=True,
                                        env=dict(os.environ, LC_ALL="C.UTF-8", **(env or {})))
        self.said = b""

    def size(self, width, height):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def type(self, keys):
        os.write(self.master, keys)

    def read(self, seconds):
        if select.select([self.master], [], [], seconds)[0]:
            self.said += os.read(self.master, 65536)

    def lines(self):
        """The latest whole frame."""
        frames = self.said.split(b"\x1b[H")
        whole = [f for f in frames if f.endswith(b"\x1b[J")]
        text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", whole[-1]) if whole else b""
        return [line.rstrip("\r") for line in text.decode("utf-8").split("\n")]

    def await_line(self, pattern, what, seconds=20):
        end = time.monotonic() + seconds
        while not any(re.search(pattern, line) for line in self.lines()):
            if time.monotonic() > end:
                raise Failure("not within %g s: %s: %s" % (seconds, what, "\n".join(self.lines())))
            self.read(0.2)

    def end(self):
        """Its exit code, and that the terminal is as before."""
        end = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < end:
            self.read(0.05)
        code = self.process.wait(5)
        while select.select([self.master], [], [], 0.1)[0]:
            self.read(0)
        expect(self.said.count(b"\x1b[?1049h") == self.said.count(b"\x1b[?1049l") == 1, "the other screen, and back")
        expect(self.said.rstrip().endswith(b"\x1b[?1049l") and b"\x1b[?25h" in self.said, "the cursor is back")
        expect(termios.tcgetattr(self.slave) == self.before, "the terminal's modes are back")
        return code

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        os.close(self.master)
        os.close(self.slave)


def daemon_at(place, n=3):
    sections = []
    for i in range(n):
        source, target = dirs(place, "s%d" % i, "t%d" % i)
        sections.append('{ name = "sync-%02d"; transport = "direct"; source = "%s"; target = "%s"; %s }' % (
            i, source, target, "delay = 1000.0;" if i == 1 else 'requireMarker = "no";' if i == 2 else ""))
    daemon = Daemon(place, "sync = ( %s );\n" % ", ".join(sections)).start(wait=False)
    await_fact(lambda: all(s["state"] == ("stopped" if s["name"] == "sync-02" else "idle") for s in daemon.status()["syncs"]), 30, "quiet")
    return daemon


def on_a_terminal(place):
    daemon = daemon_at(place, 30)
    screen = Terminal([BINARY, "--top", "--interval", "0.1", daemon.config_path])
    try:
        screen.await_line(r"30 syncs, 1 in trouble", "the summary")
        screen.await_line(r"^sync-02 +stopped .*requireMarker", "what is in trouble, and why")
        lines = screen.lines()
        expect(len(lines) == 24 and all(len(line) < 100 for line in lines), "the whole screen, no more: %d, %s" % (len(lines), [line for line in lines if len(line) >= 100]))
        expect(lines[2].startswith("sync-02"), "trouble first: %s" % lines[2])
        put(daemon.place + "/s1/file")
        screen.await_line(r"^sync-01 +waiting +[0-9.]+ s +1", "what waits")
        # Order, down beyond the screen, and back.
        screen.type(b"s")
        screen.await_line(r"order: name", "another order")
        expect(screen.lines()[2].startswith("sync-00"), "by name")
        screen.type(b"\x1b[H" + b"\x1b[B" * 25)
        screen.await_line(r"^sync-25: ", "the selected one, scrolled to")
        screen.type(b"\x1b[F")
        screen.await_line(r"^sync-29: ", "the last one")
        screen.type(b"\x1b[H")
        screen.await_line(r"^sync-00: ", "the first one")
        # Another size.
        screen.size(60, 12)
        os.kill(screen.process.pid, signal.SIGWINCH)
        end = time.monotonic() + 20
        while len(screen.lines()) != 12 and time.monotonic() < end:
            screen.read(0.1)
        expect(len(screen.lines()) == 12, "drawn for the new size")
        # It goes, and comes back.
        daemon.stop()
        screen.await_line(r"does not answer", "that it is gone")
        daemon.start(wait=False)
        screen.await_line(r"q quit", "that it is back")
        screen.type(b"q")
        expect(screen.end() == 0, "it ends well")
    finally:
        screen.close()
        daemon.stop()


def interrupted(place):
    """By ^C and by a signal: the terminal is left in order."""
    daemon = daemon_at(place)
    try:
        for how in ("key", signal.SIGTERM):
            screen = Terminal([BINARY, "--top", daemon.config_path], env={"NO_COLOR": "1"})
            screen.await_line(r"3 syncs", "the screen")
            expect(b"\x1b[1;35m" not in screen.said, "no colours")
            if how == "key":
                screen.type(b"\x04")
            else:
                screen.process.send_signal(how)
            expect(screen.end() == 0, "it ends well: %s" % how)
            screen.close()
    finally:
        daemon.stop()


def in_a_pipe(place):
    daemon = daemon_at(place)
    try:
        with open(os.path.join(os.fsencode(daemon.place), b"s1", ODD), "w"):
            pass
        done = daemon.client("--top")
        text = done.stdout.decode("utf-8")
        expect("3 syncs" in text and re.search(r"^sync-02\tstopped\t", text, re.M), "once: %s" % text)
        expect("\x1b" not in text, "no escapes")
        with subprocess.Popen([BINARY, "--top", "--interval", "0.1", daemon.config_path], stdout=subprocess.PIPE) as p:
            seen = [p.stdout.readline() for _ in range(12)]
            expect(sum(line.startswith(b"fansyncd") for line in seen) >= 2, "again and again: %s" % seen)
            p.stdout.close()
            expect(p.wait(20) == 0, "until nobody reads")
        for bad in ("0", "x", "nan", "1e99"):
            expect(daemon.client("--top", "--interval", bad, check=False).returncode == 255, "--interval " + bad)
    finally:
        daemon.stop()
    expect(daemon.client("--top", check=False).returncode == 3, "no daemon")


if __name__ == "__main__":
    main([on_a_terminal, interrupted, in_a_pipe])
