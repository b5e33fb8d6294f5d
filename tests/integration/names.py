#!/usr/bin/env python3
"""Names that mean something to a shell, to rsync's lists and filters, or to a terminal: made, renamed and deleted at run time,
files and directories, at the top and below."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, Failure, Sshd, expect_equal, main

NAMES = [b"-rf", b"--delete", b"new\nline", b"q'uo\"te", b"$(touch pwn)", b"`id`", b"back\\slash", b"star*", b"[ab]", b"?",
         b"\xff\xfe", b" lead", b"trail ", b"#comment", b";comment", b"# h", b"+ p", b"- m", b"a:b", b"~", b"!", b"\\", b"x\ty",
         b"\r", b"\x01", b"\x1b[31m", b"merge x", b". f", b"%s%n", b"'", b"...", b"#", b";"]


def exercise(place, target):
    source = os.fsencode(place + "/a")
    os.makedirs(source)
    os.makedirs(place + "/b dir")
    daemon = Daemon(place, "sync = ( { name = \"x\"; %s source = \"%s/a\"; delay = 0.05; rsync = { archive = true; }; } );" %
                    (target, place)).start()
    try:
        for n in NAMES:
            with open(os.path.join(source, n), "wb") as f:
                f.write(n)
            os.makedirs(os.path.join(source, b"d" + n, n))
            os.makedirs(os.path.join(source, n + b"d"))
            with open(os.path.join(source, n + b"d", n), "wb") as f:
                f.write(n)
        daemon.wait()
        expect_equal(place + "/a", place + "/b dir", "made")
        for n in NAMES:
            os.rename(os.path.join(source, n), os.path.join(source, n + b"2"))
            os.rename(os.path.join(source, n + b"d"), os.path.join(source, n + b"e"))
        daemon.wait()
        expect_equal(place + "/a", place + "/b dir", "renamed")
        for n in NAMES:
            os.unlink(os.path.join(source, n + b"2"))
            shutil.rmtree(os.path.join(source, n + b"e"))
        daemon.wait()
        expect_equal(place + "/a", place + "/b dir", "deleted")
        if "\x1b" in daemon.log():
            raise Failure("an escape sequence in the log")
    finally:
        daemon.stop()


def rsync(place):
    exercise(place, 'transport = "rsync"; target = "%s/b dir";' % place)


def rsyncssh(place):
    sshd = Sshd(place + "/sshd").start()
    try:
        exercise(place, 'transport = "rsyncssh"; host = "127.0.0.1"; targetdir = "%s/b dir"; %s' % (place, sshd.section()))
    finally:
        sshd.stop()


main([rsync, rsyncssh])
