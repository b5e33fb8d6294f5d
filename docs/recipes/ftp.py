#!/usr/bin/env python3
"""Mirrors to an FTP server (lsyncd's lftp): ftp.py HOST [PORT]; the target is a directory there.

FTP_USER and FTP_PASSWORD_FILE say who logs in, FTP_TLS=1 encrypts. A file arrives under another name and is renamed. The server
must have MLSD; where it has MFMT files keep their times, else those are sent again that are younger here."""
import calendar
import ftplib
import json
import os
import sys
import time

SOURCE, TARGET = os.environ["FANSYNCD_SOURCE"], os.environ["FANSYNCD_TARGET"].rstrip("/")


class Refused(Exception):
    """Nothing but another name would help."""


class Mirror:
    def __init__(self):
        tls = os.environ.get("FTP_TLS") == "1"
        self.ftp = (ftplib.FTP_TLS if tls else ftplib.FTP)(timeout=60, encoding="utf-8")
        self.ftp.connect(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 21)
        with open(os.environ["FTP_PASSWORD_FILE"]) as f:
            self.ftp.login(os.environ["FTP_USER"], f.readline().rstrip("\n"))
        if tls:
            self.ftp.prot_p()
        self.sets_times = "MFMT" in self.ftp.sendcmd("FEAT")
        self.seen = {}  # a listing's directories: name -> facts

    def there(self, path):
        if "\n" in path or "\r" in path or any("\udc80" <= c <= "\udcff" for c in path):
            raise Refused("FTP has no such names")
        return TARGET if path == "." else TARGET + "/" + path

    def list(self, path, again=False):
        if again or path not in self.seen:
            try:
                self.seen[path] = {n: f for n, f in self.ftp.mlsd(self.there(path)) if f.get("type") in ("file", "dir")}
            except ftplib.error_perm:
                self.seen[path] = {}
        return self.seen[path]

    def make_dir(self, path):
        try:
            self.ftp.mkd(self.there(path))
        except ftplib.error_perm:
            if path != "." and os.path.basename(path) in self.list(os.path.dirname(path) or ".", True):
                if self.list(os.path.dirname(path) or ".")[os.path.basename(path)]["type"] == "file":
                    self.ftp.delete(self.there(path))
                    self.ftp.mkd(self.there(path))

    def put(self, path):
        at, to = os.path.join(SOURCE, path), self.there(path)
        try:
            f = open(at, "rb")
        except FileNotFoundError:
            return
        with f:
            mtime = os.fstat(f.fileno()).st_mtime
            self.ftp.storbinary("STOR " + to + ".fansyncd~tmp", f)
        try:
            self.ftp.rename(to + ".fansyncd~tmp", to)
        except ftplib.error_perm:
            self.remove(path)
            self.ftp.rename(to + ".fansyncd~tmp", to)
        if self.sets_times:
            self.ftp.sendcmd("MFMT %s %s" % (time.strftime("%Y%m%d%H%M%S", time.gmtime(mtime)), to))

    def remove(self, path):
        try:
            self.ftp.delete(self.there(path))
            return
        except ftplib.error_perm:
            pass
        for name in self.list(path, True):
            self.remove(path + "/" + name)
        try:
            self.ftp.rmd(self.there(path))
        except ftplib.error_perm:
            if os.path.basename(path) in self.list(os.path.dirname(path) or ".", True):
                raise

    def is_equal(self, record):
        facts = self.list(os.path.dirname(record["path"]) or ".").get(os.path.basename(record["path"]))
        if not facts or facts["type"] != "file" or int(facts.get("size", -1)) != record["size"]:
            return False
        theirs = calendar.timegm(time.strptime(facts.get("modify", "19700101000000")[:14], "%Y%m%d%H%M%S"))
        return theirs == int(record["mtime"]) if self.sets_times else theirs >= record["mtime"]

    def sweep(self, listing, path, limit):
        """Delete what was not listed, `limit` at most; how many."""
        gone = 0
        for name, facts in list(self.list(path).items()):
            full = name if path == "." else path + "/" + name
            if full in listing["keep"] or gone >= limit:
                continue
            if full in listing["names"]:
                if facts["type"] == "dir":
                    gone += self.sweep(listing, full, limit - gone)
                continue
            if facts["type"] == "dir":
                gone += self.sweep(listing, full, limit - gone)
            if gone < limit:
                self.remove(full)
                gone += 1
        return gone


def carry(m, record, state):
    op, kind, path = record["op"], record.get("type"), record.get("path")
    if op == "list":
        state["listing"] = {"names": set(), "keep": set()}
        m.seen = {}
        m.make_dir(path)
    elif op in ("entry", "keep"):
        state["listing"]["names"].add(path)
        if op == "keep":
            state["listing"]["keep"].add(path)
    elif op == "listed":
        gone = m.sweep(state["listing"], path, record["deletions"])
        if gone:
            print("deleted %d" % gone)
    if op in ("create", "modify", "entry"):
        if kind == "dir":
            if op != "entry" or path not in m.list(os.path.dirname(path) or "."):
                m.make_dir(path)
        elif kind == "file" and not (op == "entry" and m.is_equal(record)):
            m.put(path)
        elif kind not in ("file", "dir"):
            raise Refused("FTP has files and directories only")
    elif op == "delete":
        m.remove(path)
    elif op == "move":
        m.there(record["from"])
        m.ftp.rename(m.there(record["from"]), m.there(path))


def main():
    m, state = None, {}
    for line in sys.stdin:
        record = json.loads(line)
        try:
            m = m or Mirror()
            if record["op"] != "end":
                carry(m, record, state)
            answer = "done"
        except Refused as e:
            answer = "reject %s" % e
        except ftplib.error_perm as e:
            answer = "retry %s" % str(e).splitlines()[0]
        except (OSError, EOFError, ftplib.Error) as e:
            m = None
            print("down %s" % (str(e).splitlines() or ["the connection is gone"])[0], flush=True)
            continue
        print("%d %s" % (record["id"], answer), flush=True)


main()
