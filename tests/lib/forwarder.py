#!/usr/bin/env python3
"""A tunnel's program for tests: forwarder.py PORT TARGET-PORT PLACE listens on 127.0.0.1:PORT and forwards to 127.0.0.1:TARGET-PORT.

It notes "PID PORT" as a line of PLACE/starts, and what PLACE/mode says it does instead: "exit" ends at once with words and status 7, "never" does
not listen, "garbage" says much that is no text before it listens, "mute" takes connections and forwards nothing, "stubborn" ignores SIGTERM,
"parent" has a child that does it all. The mode is read at the start; "never" goes on when PLACE/go appears.
"""
import os
import selectors
import signal
import socket
import sys


def forward(listener, target, mute):
    picker, other = selectors.DefaultSelector(), {}
    picker.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in picker.select():
            if key.fileobj is listener:
                a = listener.accept()[0]
                if mute:
                    other[a] = a
                    continue
                try:
                    b = socket.create_connection(("127.0.0.1", target))
                except OSError:
                    a.close()
                    continue
                other[a], other[b] = b, a
                picker.register(a, selectors.EVENT_READ)
                picker.register(b, selectors.EVENT_READ)
                continue
            s = key.fileobj
            if s not in other:
                continue
            try:
                data = s.recv(65536)
                other[s].sendall(data)
            except OSError:
                data = b""
            if not data:
                for end in (s, other.pop(s)):
                    other.pop(end, None)
                    picker.unregister(end)
                    end.close()


def main():
    port, target, place = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    try:
        with open(place + "/mode") as f:
            mode = f.read()
    except FileNotFoundError:
        mode = ""
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(place + "/starts", "a") as f:
        f.write("%d %d\n" % (os.getpid(), port))
    if mode == "exit":
        print("the far end\x1b[31m refused", file=sys.stderr)
        sys.exit(7)
    if mode == "garbage":
        os.write(1, b"\0\xff\x1b[2J%s%n\n" * 20000 + b"x" * 300000)
    if mode == "parent" and os.fork() > 0:
        os.wait()
        sys.exit(0)
    if mode == "parent":
        with open(place + "/starts", "a") as f:
            f.write("%d %d\n" % (os.getpid(), port))
    while mode == "never" and not os.path.exists(place + "/go"):
        selectors.DefaultSelector().select(0.02)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(64)
    forward(listener, target, mode == "mute")


if __name__ == "__main__":
    main()
