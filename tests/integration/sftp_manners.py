#!/usr/bin/env python3
# TIMEOUT: 240
"""sftp against a server of the test's own (tests/lib/sftp_server.py): one that works but can do little, one that refuses some
files, and ones that break every rule. No crash, no hang, no unbounded memory, nothing written elsewhere; what can be
mirrored is mirrored, what can't be is named."""
import os
import resource
import shutil
import sys
import time

LIB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib")
sys.path.insert(0, LIB)
from fansync import BINARY, Failure, differences, expect_equal, main, run, tree, whole_seconds


def prepare(place, files=30):
    source, target = os.path.join(place, "source"), os.path.join(place, "target")
    for d in (source, target, os.path.join(place, "state")):  # another source than the last one: not to be remembered
        shutil.rmtree(d, ignore_errors=True)
        os.makedirs(d, mode=0o700)
    os.makedirs(source + "/sub/deep")
    for n in range(files):
        with open("%s/%sfile %d" % (source, ["", "sub/", "sub/deep/"][n % 3], n), "w") as f:
            f.write("%d\n" % n * (n * n))
    os.symlink("file 0", source + "/link")
    return source, target


def sync(place, modes, timeout=8, more="", limit=60, first=""):
    ssh = os.path.join(place, "ssh")
    with open(ssh, "w") as f:
        f.write('#!/bin/sh\n%sexec "%s" "%s/sftp_server.py" "%s"\n' % (first, sys.executable, LIB, modes))
    os.chmod(ssh, 0o755)
    config = os.path.join(place, "fansyncd.conf")
    with open(config, "w") as f:
        f.write('settings = { nodaemon = true; stateDir = "%s/state"; controlSocket = "%s/ctl"; };\n'
                'sync = ( { name = "s"; transport = "sftp"; source = "%s/source"; host = "nowhere"; targetdir = "%s/target"; %s\n'
                '  ssh = { client = "openssh"; binary = "%s"; timeout = %d; }; } );\n' % (place, place, place, place, more, ssh, timeout))
    began = time.monotonic()
    done = run(BINARY, "--sync-now", config, check=False, timeout=limit)
    said = (done.stdout + done.stderr).decode(errors="replace")
    if "the worker ended" in said:
        raise Failure("%s: the worker did not survive it: %s" % (modes, said))
    return done.returncode, said, time.monotonic() - began


def same(source, target, what, links=True):
    """Without lsetstat@openssh.com a symlink keeps the time at which it was made."""
    a, b = whole_seconds(tree(source)), whole_seconds(tree(target))
    for entries in (a, b) if not links else ():
        for path in [p for p, f in entries.items() if f["mode"] == 0]:
            entries[path] = dict(entries[path], mtime=None)
    found = differences(a, b)
    if found:
        raise Failure("%s: not equal:\n  %s" % (what, "\n  ".join(found)))


def equal(place, modes, **how):
    source, target = prepare(place)
    code, said, _ = sync(place, modes, **how)
    if code != 0:
        raise Failure("%s: exit %d: %s" % (modes, code, said))
    same(source, target, modes, "plain" not in modes)
    # once more, now that the files are there: half of them changed, of the same size
    for n in range(0, 30, 2):
        path = "%s/%sfile %d" % (source, ["", "sub/", "sub/deep/"][n % 3], n)
        with open(path, "r+b") as f:
            f.write(b"X")
        os.utime(path, (1, 1000000000 + n))
    os.unlink(source + "/file 3")
    shutil.rmtree(source + "/sub/deep")
    code, said, _ = sync(place, modes, **how)
    if code != 0:
        raise Failure("%s, again: exit %d: %s" % (modes, code, said))
    same(source, target, modes + ", again", "plain" not in modes)


def able(place):
    equal(place, "able")


def plain(place):
    """Without any extension: replaced by renaming the old one away."""
    equal(place, "plain")


def both_ways(place):
    """A server that has no name for a moment when a file is replaced is none for `bidirectional`: refused before anything is done."""
    for modes, lacks, more in (("plain", "posix-rename", ""), ("without=posix-rename", "posix-rename", ""), ("without=lsetstat", "lsetstat", ""),
                               ("without=hardlink", "hardlink", 'backupDir = ".old/%Y-%m-%d"; ')):
        source, target = prepare(place)
        os.rmdir(target)
        code, said, _ = sync(place, modes, more="bidirectional = true; " + more)
        for word in ("bidirectional", lacks + "@openssh.com", "deletion", "rsyncssh", "one way"):
            if code != 1 or word not in said:
                raise Failure("%s: exit %d, without %r: %s" % (modes, code, word, said))
        if os.path.exists(target):
            raise Failure("%s: something was done at the target: %s" % (modes, os.listdir(target)))
        code, said, _ = sync(place, modes, more=more)
        if code != 0:
            raise Failure("%s, one way: exit %d: %s" % (modes, code, said))
    for modes in ("able", "without=hardlink"):
        source, target = prepare(place)
        code, said, _ = sync(place, modes, more="bidirectional = true;")
        if code != 0 or sorted(os.listdir(source)) != sorted(os.listdir(target)):
            raise Failure("%s: exit %d: %s" % (modes, code, said))


def marker(place):
    """requireTargetMarker: a regular file by that very path. Without it nothing is done there, not even to find out what the server can."""
    for modes in ("able", "plain"):
        source, target = prepare(place)
        log = place + "/requests"
        more = 'requireTargetMarker = "disk/marker";'
        os.makedirs(place + "/elsewhere", exist_ok=True)
        open(place + "/elsewhere/marker", "w").close()

        def refused(what):
            if os.path.exists(log):
                os.unlink(log)
            before = tree(target) if os.path.exists(target) else None
            code, said, _ = sync(place, modes + ",log=" + log, more=more)
            if code != 1 or "requireTargetMarker: disk/marker" not in said or "make the file" not in said:
                raise Failure("%s, %s: exit %d: %s" % (modes, what, code, said))
            with open(log) as f:
                done = set(f.read().split()) - {"init", "stat", "lstat", "realpath", "readlink"}
            if done or before != (tree(target) if os.path.exists(target) else None):
                raise Failure("%s, %s: something was done there: %s" % (modes, what, done))

        refused("an empty target")
        os.rmdir(target)
        refused("no target")
        os.mkdir(target)
        os.symlink(place + "/elsewhere", target + "/disk")
        refused("a symlink above it")
        os.unlink(target + "/disk")
        os.mkdir(target + "/disk")
        os.symlink(place + "/elsewhere/marker", target + "/disk/marker")
        refused("a symlink")
        os.unlink(target + "/disk/marker")
        os.mkdir(target + "/disk/marker")
        refused("a directory")
        os.rmdir(target + "/disk/marker")
        open(target + "/disk/marker", "w").close()
        code, said, _ = sync(place, modes, more=more)
        if code != 0 or not os.path.exists(target + "/disk/marker") or not os.path.exists(target + "/file 0"):
            raise Failure("%s, with it: exit %d: %s" % (modes, code, said))


def without_attributes(place):
    equal(place, "noattrs")
    equal(place, "noattrs,plain")


def any_order(place):
    equal(place, "disorder")


def few_handles(place):
    """As many files are open at once as the server allows, directories included."""
    for handles in (1, 3):
        equal(place, "handles=%d" % handles)


def connections(place):
    """Several of them; a server that takes one is served by that."""
    equal(place, "able", more="connections = 3;")
    source, target = prepare(place, 100)
    code, said, _ = sync(place, "able", more="connections = 4;", first='echo >>"%s/tries"; mkdir "%s/taken" || exit 1; ' % (place, place))
    with open(place + "/tries") as f:
        tries = len(f.readlines())
    if code != 0 or tries < 2:
        raise Failure("exit %d, %d connections tried: %s" % (code, tries, said))
    same(source, target, "over one connection")


def says_no(place):
    source, target = prepare(place)
    os.mkdir(source + "/refused dir")
    with open(source + "/refused dir/x", "w") as f:
        f.write("x")
    with open(source + "/one refused", "w") as f:
        f.write("x")
    code, said, _ = sync(place, "refuse=refused")
    if code != 1:
        raise Failure("exit %d: %s" % (code, said))
    for word in ("one refused", "refused dir", "not here, ", "\\033[31mnot now"):
        if word not in said:
            raise Failure("%r is not in: %s" % (word, said))
    if "\x1b" in said:
        raise Failure("a control byte of the server reached the terminal: %r" % said)
    os.unlink(source + "/one refused")
    shutil.rmtree(source + "/refused dir")
    code, said, _ = sync(place, "able")
    expect_equal(source, target, "the rest", seconds=True)
    if code != 0:
        raise Failure("exit %d: %s" % (code, said))


def disk_full(place):
    source, target = prepare(place)
    code, said, _ = sync(place, "full=file 9")
    if code != 1 or "file 9" not in said or "no space is left" not in said:
        raise Failure("exit %d: %s" % (code, said))
    if sorted(os.listdir(target)) != sorted(n for n in os.listdir(source) if n != "file 9"):
        raise Failure("the rest did not arrive, or something was left behind: %s" % os.listdir(target))


def broken(place):
    """Each of them is noticed, said, and no harm is done."""
    outside = os.path.join(place, "outside")
    with open(outside, "w") as f:
        f.write("mine\n")
    for modes, word in (("banner", "no SFTP server"), ("oversized", "malformed"), ("tiny", "malformed"),
                        ("stranger", "not made"), ("twice", "not made"), ("type", "malformed"), ("wrong", "malformed"),
                        ("handle", "malformed"), ("count", "malformed"), ("quit", "no more of this"), ("cut", "ended"),
                        ("flood", "not made"), ("empty", "never comes to an end")):
        prepare(place)
        code, said, _ = sync(place, modes)
        if code != 1 or word not in said:
            raise Failure("%s: exit %d, without %r: %s" % (modes, code, word, said))
    source, target = prepare(place)
    sync(place, "names")
    with open(outside) as f:
        if f.read() != "mine\n":
            raise Failure("a name of the server led out of the target")
    if set(os.listdir(target)) - set(os.listdir(source)):
        raise Failure("names of the server arrived: %s" % os.listdir(target))


def silence(place):
    prepare(place)
    code, said, seconds = sync(place, "silent", timeout=1)
    if code != 1 or "no answer" not in said:
        raise Failure("exit %d after %g s: %s" % (code, seconds, said))


def endless(place):
    """A directory without an end: given up, with bounded memory (the limit of address space stands for a small host)."""
    prepare(place)
    code, said, _ = sync(place, "endless", limit=200)
    if code != 1 or ("more entries" not in said and "out of memory" not in said):
        raise Failure("exit %d: %s" % (code, said))
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    if most > 3 << 20:
        raise Failure("%d KiB of memory" % most)


main([able, plain, both_ways, marker, without_attributes, any_order, few_handles, connections, says_no, disk_full, broken, silence, endless])
