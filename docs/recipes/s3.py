#!/usr/bin/env python3
"""Mirrors to an S3 bucket with the program aws (lsyncd's ls3); the target is s3://BUCKET/PREFIX. AWS names another program.

Files only: a bucket has no directories. What is there is compared by size, and by time: a file that is younger here is sent."""
import datetime
import json
import os
import subprocess
import sys

TARGET = os.environ["FANSYNCD_TARGET"].rstrip("/")
BUCKET, _, PREFIX = TARGET[len("s3://"):].partition("/")
AWS = os.environ.get("AWS", "aws")


class Failed(Exception):
    pass


def aws(*words):
    done = subprocess.run((AWS,) + words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise Failed((done.stderr.decode(errors="replace").strip().splitlines() or ["exit %d" % done.returncode])[-1])
    return done.stdout


def key(path):
    return "/".join(p for p in (PREFIX, "" if path == "." else path) if p)


def remote(path):
    """Of all objects below a directory: path -> (size, time)."""
    top = key(path)
    found = json.loads(aws("s3api", "list-objects-v2", "--output", "json", "--bucket", BUCKET, "--prefix", top + "/" if top else "") or "{}")
    cut = len(PREFIX) + 1 if PREFIX else 0
    return {o["Key"][cut:]: (o["Size"], datetime.datetime.fromisoformat(o["LastModified"].replace("Z", "+00:00")).timestamp())
            for o in found.get("Contents") or []}


def put(path):
    if os.path.isfile(path):  # it is started in the source's directory
        aws("s3", "cp", "--no-follow-symlinks", "--only-show-errors", "./" + path, TARGET + "/" + path)


def carry(record, state):
    op, kind, path = record["op"], record["type"], record.get("path")
    if op == "list":
        state.update(there=remote(path), names=set(), keep=[])
    elif op == "entry" and kind == "file":
        state["names"].add(path)
        size, mtime = state["there"].get(path, (-1, 0))
        if size != record["size"] or mtime < record["mtime"]:
            put(path)
    elif op == "keep":
        state["keep"].append(path + "/")
    elif op == "listed":
        gone = [p for p in state["there"] if p not in state["names"] and not p.startswith(tuple(state["keep"]))][:record["deletions"]]
        for p in gone:
            aws("s3", "rm", "--only-show-errors", TARGET + "/" + p)
        print("deleted %d" % len(gone))
    elif op in ("create", "modify") and kind == "file":
        put(path)
    elif op == "delete":
        if kind != "file":
            aws("s3", "rm", "--recursive", "--only-show-errors", TARGET + "/" + path + "/")
        if kind != "dir":
            aws("s3", "rm", "--only-show-errors", TARGET + "/" + path)


def main():
    state = {}
    for line in sys.stdin:
        record = json.loads(line)
        try:
            carry(record, state)
            print("%d done" % record["id"], flush=True)
        except Failed as e:
            print("%d retry %s" % (record["id"], e), flush=True)


main()
