#!/usr/bin/env python3
"""A receiver whose sockets a service manager opens: LISTEN_FDS, as systemd's socket units pass them."""
import os
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import (BINARY, Daemon, Receiver, answers, await_fact, children, command, dirs, expect, expect_equal, free_port, kill,
                     main, put, run)


class Activated(Receiver):
    """Its daemon is started with `sockets` at 3, 4, ...; the configuration names other addresses, or none."""

    def __init__(self, place, target, sockets, listen="", mode=("--receive",)):
        super().__init__(place, target, port=sockets[0].getsockname()[1])
        self.sockets, self.mode = sockets, list(mode)
        with open(self.daemon.config_path, encoding="utf-8") as f:
            text = f.read()
        with open(self.daemon.config_path, "w", encoding="utf-8") as f:
            f.write(text.replace('listen = [ "127.0.0.1:%d" ];' % self.port, listen))

    def start(self, answering=True):
        d = self.daemon
        d.output = open(os.path.join(d.place, "output"), "ab")

        def pass_sockets():
            high = [os.dup2(s.fileno(), 50 + i) for i, s in enumerate(self.sockets)]
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i)
                os.set_inheritable(3 + i, True)

        # The shell's pid becomes the daemon's.
        script = 'export LISTEN_PID=$$ LISTEN_FDS=%d; exec "$@"' % len(self.sockets)
        d.process = subprocess.Popen(["sh", "-c", script, "sh", BINARY] + self.mode + [d.config_path], stdin=subprocess.DEVNULL,
                                     stdout=d.output, stderr=d.output, close_fds=False, preexec_fn=pass_sockets, env=d.env)
        if answering:
            await_fact(lambda: d.process.poll() is not None or answers(d.place + "/ctl"), 30, "the control socket")
            await_fact(self.listens, 20, "the receiver listens")
        return self


def listening(n=1):
    sockets = []
    for _ in range(n):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", 0))
        s.listen(16)
        sockets.append(s)
    return sockets


def send(place, name, receiver, source, port=None):
    """Make the module equal to the source once."""
    d = Daemon(os.path.join(place, name), 'sync = ( { name = "s"; transport = "tcp"; source = "%s"; watcher = "inotify"; '
               'rsync = { archive = true; }; %s } );' % (source, receiver.section(port)))
    d.client("--sync-now", "--quiet")


def sockets_in_place_of_listen(place):
    source, target = dirs(place, "source", "target")
    put(source + "/a")
    sockets = listening(2)
    other = free_port()
    r = Activated(place + "/r", target, sockets, 'listen = [ "127.0.0.1:%d" ];' % other).start()
    try:
        send(place, "one", r, source)
        expect_equal(source, target, "by the first socket")
        put(source + "/b")
        send(place, "two", r, source, port=sockets[1].getsockname()[1])
        expect_equal(source, target, "by the second socket")
        expect('"listen" is not used' in r.daemon.log(), "the log does not say so:\n" + r.daemon.log())
        with socket.socket() as s:
            expect(s.connect_ex(("127.0.0.1", other)) != 0, "it listens on the address of the configuration as well")
        # What it starts gets none of the variables.
        for pid in [r.daemon.process.pid] + children(r.daemon.process.pid, every=True):
            if pid != r.daemon.process.pid:
                with open("/proc/%d/environ" % pid, "rb") as f:
                    expect(b"LISTEN_FDS" not in f.read(), "%s inherited LISTEN_FDS" % command(pid))
    finally:
        r.stop()


def its_process_is_started_again(place):
    source, target = dirs(place, "source", "target")
    put(source + "/a")
    sockets = listening()
    r = Activated(place + "/r", target, sockets).start()
    try:
        first = children(r.daemon.process.pid)
        for pid in first:
            kill(pid, signal.SIGKILL)
        await_fact(lambda: children(r.daemon.process.pid) not in ([], first) and r.listens(), 30, "another process")
        send(place, "one", r, source)
        expect_equal(source, target)
        # A reload that changes the section starts it anew, too, with the same sockets.
        with open(r.daemon.config_path, "a", encoding="utf-8") as f:
            f.write("\n")
        with open(r.daemon.config_path, encoding="utf-8") as f:
            text = f.read()
        with open(r.daemon.config_path, "w", encoding="utf-8") as f:
            f.write(text.replace("modules =", "timeout = 50.0; modules ="))
        before = children(r.daemon.process.pid)
        r.daemon.process.send_signal(signal.SIGHUP)
        await_fact(lambda: children(r.daemon.process.pid) not in ([], before) and r.listens(), 30, "one of the new section")
        put(source + "/b")
        send(place, "two", r, source)
        expect_equal(source, target)
    finally:
        r.stop()
    with socket.socket() as s:
        s.connect(sockets[0].getsockname())  # the manager's socket outlives the daemon: who calls now waits for the next


def no_socket_and_no_address(place):
    target, = dirs(place, "target")
    r = Activated(place + "/r", target, listening())
    done = run(BINARY, "--receive", r.daemon.config_path, check=False)
    expect(done.returncode == 255 and b"listen: required" in done.stderr, "%d %r" % (done.returncode, done.stderr))
    run(BINARY, "--check", r.daemon.config_path)  # which can't know


def no_listening_socket(place):
    target, = dirs(place, "target")
    sockets = [socket.socket()]
    sockets[0].bind(("127.0.0.1", 0))
    r = Activated(place + "/r", target, sockets).start(answering=False)
    expect(r.daemon.process.wait(30) == 255, "it started")
    r.daemon.output.close()
    expect("no listening TCP socket" in r.daemon.tail(), r.daemon.tail())


main([sockets_in_place_of_listen, its_process_is_started_again, no_socket_and_no_address, no_listening_socket])
