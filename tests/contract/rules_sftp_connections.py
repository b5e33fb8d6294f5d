#!/usr/bin/env python3
# TIMEOUT: 240
"""Rules of mirroring (tests/lib/mirroring.py) with the transport sftp over three connections: those where the order of what is
done to related names counts."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import mirroring
from mirroring import World, expect, run_rules


def more_files_than_connections(make):
    """They arrive over all of them, the directories that they are in first."""
    w = make()
    w.sync()
    for d in range(5):
        for n in range(20):
            w.put("d%d/e/f%d" % (d, n), os.urandom(n * 20000))
    w.synced("files in new directories")
    if w.mode == "live":
        expect(len(w.sshd.sessions()) == 3, "%d connections" % len(w.sshd.sessions()))
    for n in range(20):
        w.put("d1/e/f%d" % n, os.urandom(n * 20000))
        os.remove(w.at("d2/e/f%d" % n))
        w.put("d2/e/f%d/was a file" % n, b"x")
    w.synced("replaced")


class Three(World):
    def __init__(self, place, transport, mode, options="", more="", *rest):
        super().__init__(place, transport, mode, options, more + " connections = 3;", *rest)


mirroring.World = Three
mirroring.RULES = [more_files_than_connections, mirroring.all_kinds_of_entries, mirroring.types_change,
                   mirroring.directory_times_come_last, mirroring.hard_links, mirroring.deletes, mirroring.readers_see_whole_files,
                   mirroring.rewritten_in_place, mirroring.file_where_a_directory_is_due]
run_rules("sftp")
