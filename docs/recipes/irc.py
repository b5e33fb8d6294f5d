#!/usr/bin/env python3
"""Says on an IRC channel what changed (lsyncd's lsayirc): irc.py HOST PORT NICK CHANNEL

It stays connected, and says at most ten lines a batch. Unset IRC_PAUSE is a second between lines, so that no server minds."""
import json
import os
import select
import socket
import sys

HOST, PORT, NICK, CHANNEL = sys.argv[1:]
PAUSE = float(os.environ.get("IRC_PAUSE", "1"))
LINES = 10


class Irc:
    def __init__(self):
        self.socket = socket.create_connection((HOST, int(PORT)), 30)
        self.rest = b""
        self.send("NICK " + NICK)
        self.send("USER %s 0 * :fansyncd" % NICK)
        self.wait(30, b" 001 ")
        self.send("JOIN " + CHANNEL)

    def send(self, line):
        self.socket.sendall(line.encode(errors="replace")[:500] + b"\r\n")

    def wait(self, seconds, word=None):
        """Answer pings for so long, or until the word comes."""
        while select.select([self.socket], [], [], seconds)[0]:
            data = self.socket.recv(4096)
            if not data:
                raise OSError("the server closed the connection")
            *lines, self.rest = (self.rest + data).split(b"\r\n")
            for line in lines:
                if line.startswith(b"PING "):
                    self.send("PONG " + line[5:].decode(errors="replace"))
                if word and word in line:
                    return
        if word:
            raise OSError("no welcome from the server")


def text(record):
    path = record["path"].encode(errors="surrogateescape").decode(errors="replace")
    if record["op"] == "move":
        return "moved: %r to %r" % (record["from"], path)
    return {"create": "new: %r", "modify": "changed: %r", "delete": "gone: %r"}[record["op"]] % path


def main():
    irc, said, left_out = None, 0, 0
    for line in sys.stdin:
        record = json.loads(line)
        try:
            irc = irc or Irc()
            if record["op"] in ("create", "modify", "delete", "move"):
                said += 1
                if said <= LINES:
                    irc.send("PRIVMSG %s :%s" % (CHANNEL, text(record)))
                    irc.wait(PAUSE)
                else:
                    left_out += 1
            if record["op"] == "end":
                if left_out:
                    irc.send("PRIVMSG %s :and %d more" % (CHANNEL, left_out))
                said = left_out = 0
                print("* done", flush=True)
        except OSError as e:
            irc = None
            print("down %s" % e, flush=True)


main()
