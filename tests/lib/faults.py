"""Calls that fail on purpose, and a wall clock that jumps, in what a test starts: faults.c, loaded into the plain program (a sanitizer
comes first in any other) and into rsync and ssh. With `loaded=False` it is not, for what knows the rules by itself: nomem_tool.c.

    f = Faults(place)
    daemon = Daemon(place, ..., env=f.env)
    with f.failing("write", errno.ENOSPC, path=target):
        ...
"""

import contextlib
import mmap
import os
import struct

import fansync
from fansync import Failure, run

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "faults.c")
RULES, CALL, ROLE, PATH = 128, 24, 40, 256
HEAD = struct.Struct("=Qq")
RULE = struct.Struct("=IiIIIIII%ds%ds%ds%ds" % (CALL, ROLE, PATH, PATH))
SHORT = 10001  # instead of an errno: half of the bytes
ALWAYS = 0xffffffff
WORKER, RECEIVER, DAEMON = "--worker", "--receiver", "fansyncd.conf"


class Rule:
    """One that is set; how often it was asked and how often it struck."""

    def __init__(self, faults, slot):
        self.faults, self.slot = faults, slot

    def fields(self):
        return RULE.unpack_from(self.faults.map, HEAD.size + self.slot * RULE.size)

    @property
    def seen(self):
        return self.fields()[5]

    @property
    def hit(self):
        return self.fields()[6]

    @property
    def last(self):
        return os.fsdecode(self.fields()[11].split(b"\0")[0])

    def stop(self):
        struct.pack_into("=I", self.faults.map, HEAD.size + self.slot * RULE.size, 0)


class Faults:
    def __init__(self, place, loaded=True):
        os.makedirs(place, exist_ok=True)
        self.path = os.path.join(place, "faults")
        library = os.path.join(fansync.TESTDIR, "faults.so")
        if loaded and not os.path.exists(library):
            run(os.environ.get("CC", "cc"), "-std=gnu11", "-O1", "-fPIC", "-shared", "-fno-builtin", "-U_FORTIFY_SOURCE", "-Wall",
                "-Werror", "-o", library, SOURCE)
        with open(self.path, "w+b") as f:
            f.truncate(HEAD.size + RULES * RULE.size)
            self.map = mmap.mmap(f.fileno(), 0)
        os.chmod(self.path, 0o666)
        self.used = 0
        self.env = dict({"LD_PRELOAD": library} if loaded else {}, FAULTS=self.path)

    def fail(self, call, error, path="", role="", first=1, every=1, limit=ALWAYS):
        """From now on, until it is stopped."""
        for slot in range(RULES):
            at = HEAD.size + slot * RULE.size
            if struct.unpack_from("=I", self.map, at)[0] == 0:
                RULE.pack_into(self.map, at, 0, error, first, every, limit, 0, 0, 0, call.encode(), role.encode(),
                               os.fsencode(path), b"")
                struct.pack_into("=I", self.map, at, 1)
                return Rule(self, slot)
        raise Failure("more than %d rules" % RULES)

    @contextlib.contextmanager
    def failing(self, *args, **more):
        rule = self.fail(*args, **more)
        try:
            yield rule
        finally:
            rule.stop()

    def stop(self):
        for slot in range(RULES):
            Rule(self, slot).stop()

    def jump(self, seconds):
        """The wall clock, by so much from the true one."""
        struct.pack_into("=q", self.map, 8, int(seconds * 10 ** 9))
