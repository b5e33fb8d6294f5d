#!/usr/bin/env python3
"""A program for the transport exec that mirrors to a directory, as the tests need it: exec_mirror.py [WORD=VALUE]...

Reads what FANSYNCD_FORMAT says. Words: exit=CODE at its end; answer=1 answers with lines; fail=SUFFIX[:WORD[:CODE]] has paths with that
suffix fail (a line, or by the exit status); say=TEXT to standard error; log=FILE gets a line of JSON for each record, and one for
each start; hang=FILE sleeps while it exists; die=FILE exits with 3 in the middle of a batch while it exists; raw=TEXT is
written instead of any answer; early=FILE:TEXT writes TEXT after the first record, and reads no more, while FILE exists.
"""
import json
import os
import select
import shutil
import stat
import sys

WORDS = dict(w.split("=", 1) for w in sys.argv[1:])
SOURCE, TARGET = os.fsencode(os.environ["FANSYNCD_SOURCE"]), os.fsencode(os.environ["FANSYNCD_TARGET"])
FORMAT, KIND = os.environ["FANSYNCD_FORMAT"], os.environ["FANSYNCD_KIND"]


class Bad(Exception):
    pass


def log(what):
    if "log" in WORDS:
        with open(WORDS["log"], "a", errors="surrogateescape") as f:
            f.write(json.dumps(what) + "\n")


def fields(stream):
    rest = b""
    while True:
        data = os.read(stream.fileno(), 65536)
        if not data:
            if rest:
                raise Bad("cut: %r" % rest)
            return
        *whole, rest = (rest + data).split(b"\0")
        yield from whole


def records(stream):
    if FORMAT == "json":
        for line in stream:
            r = json.loads(line)
            yield r["id"], r["op"], r.get("type", ""), os.fsencode(r.get("path", "")), \
                os.fsencode(r["from"]) if "from" in r else str(r.get("deletions", "")).encode()
    elif FORMAT == "null":
        five = []
        for f in fields(stream):
            five.append(f)
            if len(five) == 5:
                yield int(five[0]), five[1].decode(), five[2].decode(), five[3], five[4]
                five = []
        if five:
            raise Bad("cut: %r" % five)
    else:
        seen = list(fields(stream))
        if KIND == "listing":
            yield 0, "list", "dir", seen[0], b""
        for path in seen[1:] if KIND == "listing" else seen:
            yield 0, "entry" if KIND == "listing" else "modify", "", path, b""
        if KIND == "listing":
            yield 0, "listed", "dir", seen[0], os.environ["FANSYNCD_DELETIONS"].encode()


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def carry(path):
    at, to = os.path.join(SOURCE, path), os.path.join(TARGET, path)
    try:
        st = os.lstat(at)
    except FileNotFoundError:
        remove(to)
        return
    if stat.S_ISDIR(st.st_mode):
        if os.path.islink(to) or not os.path.isdir(to):
            remove(to)
            os.makedirs(to)
        os.chmod(to, stat.S_IMODE(st.st_mode))
        return
    if os.path.isdir(to) and not os.path.islink(to):
        remove(to)
    os.makedirs(os.path.dirname(to), exist_ok=True)
    if stat.S_ISREG(st.st_mode) or stat.S_ISLNK(st.st_mode):
        shutil.copy2(at, to + b".fansyncd~tmp", follow_symlinks=False)
        os.rename(to + b".fansyncd~tmp", to)


class Listing:
    def __init__(self, top):
        self.top, self.names, self.kept = top, set(), set()

    def delete(self, limit):
        top = TARGET if self.top == b"." else os.path.join(TARGET, self.top)
        gone = 0
        for base, dirs, files in os.walk(top, topdown=False):
            below = os.path.relpath(base, TARGET)
            for name in dirs + files:
                path = name if below == b"." else os.path.join(below, name)
                if path in self.names or any(path.startswith(k + b"/") for k in self.kept) or gone >= limit:
                    continue
                remove(os.path.join(TARGET, path))
                gone += 1
        return gone


def answer(record, word, text=""):
    if "answer" in WORDS or KIND == "persistent":
        if "raw" in WORDS:
            print(WORDS["raw"], flush=True)
        else:
            print("%d %s %s" % (record, word, text), flush=KIND == "persistent")


def one(state, record, op, kind, path, extra):
    if op == "list":
        state["listing"] = Listing(path)
        carry(path)
    elif op in ("entry", "keep"):
        state["listing"].names.add(path)
        if op == "keep":
            state["listing"].kept.add(path)
        else:
            carry(path)
    elif op == "listed":
        gone = state["listing"].delete(int(extra))
        if "answer" in WORDS or KIND == "persistent":
            print("deleted %d" % gone)
    elif op == "move":
        os.makedirs(os.path.dirname(os.path.join(TARGET, path)), exist_ok=True)
        os.rename(os.path.join(TARGET, extra), os.path.join(TARGET, path))
    elif op == "delete":
        remove(os.path.join(TARGET, path))
    elif op != "end":
        carry(path)


def main():
    state, code = {}, int(WORDS.get("exit", 0))
    suffix, word, fail_code = (WORDS.get("fail", "").split(":") + ["", "", ""])[:3]
    log({"start": KIND, "env": {k: v for k, v in os.environ.items() if k.startswith("FANSYNCD_") or k == "EXTRA"},
         "uid": os.geteuid(), "gid": os.getegid(), "groups": os.getgroups(), "home": os.environ.get("HOME"), "cwd": os.getcwd()})
    if "say" in WORDS:
        print(WORDS["say"], file=sys.stderr, flush=True)
    for record, op, kind, path, extra in records(sys.stdin.buffer):
        log({"op": op, "type": kind, "path": os.fsdecode(path), "extra": os.fsdecode(extra)})
        while os.path.exists(WORDS.get("hang", "/nonexistent")):
            select.poll().poll(50)
        if os.path.exists(WORDS.get("die", "/nonexistent")):
            sys.exit(3)
        early, _, said = WORDS.get("early", "/nonexistent:").partition(":")
        if os.path.exists(early):
            print(said, flush=True)
            while True:
                select.poll().poll()
        if suffix and op != "end" and path.endswith(suffix.encode()):
            answer(record, word or "retry", "it ends in " + suffix)
            code = int(fail_code or (0 if word else 1))
            continue
        one(state, record, op, kind, path, extra)
        answer(record, "done")
    sys.exit(code)


main()
