#!/usr/bin/env python3
# TIMEOUT: 240
"""Directories that both ends of the tcp transport have alike are not listed over the wire, and nothing is lost by it: whatever is
otherwise in one of them is found. By the program's own ends, and by each beside a peer that was written from docs/PROTOCOL.md."""
import os
import shutil
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import tcp_peer as tcp
from fansync import Daemon, Failure, Receiver, differences, expect_equal, main, skip, tree
from tcp_peer import DIR, FILE, SYMLINK, Ended, FakeReceiver, Sender

SAME_FEATURE = 64
OLD = 10 ** 9  # long before now: it is not in doubt
DIRS, FILES = 40, 5


def set_times(top, when=OLD):
    for base, _, files in os.walk(top, topdown=False):
        for name in files + [""]:
            os.utime(os.path.join(base, name), (when, when), follow_symlinks=False)
        for name in os.listdir(base):
            if os.path.islink(os.path.join(base, name)):
                os.utime(os.path.join(base, name), (when, when), follow_symlinks=False)


def fill(top):
    for d in range(DIRS):
        os.makedirs("%s/d%02d/below" % (top, d))
        for i in range(FILES):
            with open("%s/d%02d/f%d" % (top, d, i), "w") as f:
                f.write("%d %d\n" % (d, i))
        os.symlink("f0", "%s/d%02d/link" % (top, d))
        with open("%s/d%02d/below/g" % (top, d), "w") as f:
            f.write("below\n")
        os.mkfifo("%s/d%02d/fifo" % (top, d))
    set_times(top)


class Pair:
    """A tree, its mirror, and what compares them. `more`: of the sync, `module`: of the receiver."""

    def __init__(self, place, more="", module=""):
        self.source, self.target = place + "/source", place + "/target"
        os.makedirs(self.source)
        os.makedirs(self.target)
        fill(self.source)
        self.receiver = Receiver(place + "/r", self.target, module=module)
        self.sender = Daemon(place + "/s", 'sync = ( { name = "dr"; transport = "tcp"; source = "%s"; %s retryMin = 0.1; retryMax = 0.5; %s } );\n'
                             % (self.source, self.receiver.section(), more))

    def __enter__(self):
        self.receiver.start()
        self.sender.start()
        self.compare()
        return self

    def __exit__(self, *why):
        self.sender.stop()
        self.receiver.stop()

    def compare(self, check=True):
        return self.sender.client("--sync-now", check=check)

    def counters(self):
        return self.sender.sync("dr")["counters"]


def change_mode(path):
    os.chmod(path, os.lstat(path).st_mode ^ 0o010)


def keep_times(change):
    """What it changes is to show by itself, not by the time of the directory that it is in."""
    def run(path):
        above = os.path.dirname(path)
        before, own = os.stat(above), os.lstat(path) if os.path.lexists(path) else None
        change(path)
        if own and os.path.lexists(path):
            os.utime(path, ns=(own.st_atime_ns, own.st_mtime_ns), follow_symlinks=False)
        os.utime(above, ns=(before.st_atime_ns, before.st_mtime_ns))
    return run


def other_time(path):
    st = os.lstat(path)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns + 1), follow_symlinks=False)


def other_text(path):
    os.unlink(path)
    os.symlink("f1", path)


def other_type(path):
    os.unlink(path)
    os.symlink("x", path)


def other_kind_of_node(path):
    os.unlink(path)
    s = socket.socket(socket.AF_UNIX)
    here = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        s.bind("/proc/self/fd/%d/%s" % (here, os.path.basename(path)))
    finally:
        os.close(here)
        s.close()


def grow(path):
    with open(path, "a") as f:
        f.write("more")


def no_directory(path):
    shutil.rmtree(path)
    grow(path)


CHANGES = [("its mode", "f2", change_mode), ("a time, by a nanosecond", "f2", other_time), ("a size", "f2", keep_times(grow)),
           ("a symlink's text", "link", keep_times(other_text)), ("a symlink's time", "link", other_time),
           ("a file is none", "f3", keep_times(other_type)), ("a FIFO is a socket", "fifo", keep_times(other_kind_of_node)),
           ("one is missing", "f4", keep_times(os.unlink)), ("one too many", "new", keep_times(grow)),
           ("a directory's mode", "below", change_mode), ("a directory's time", "below", other_time),
           ("a directory is missing", "below", keep_times(shutil.rmtree)), ("a directory too many", "more", keep_times(os.mkdir)),
           ("a directory is a file", "below", keep_times(no_directory)), ("further below", "below/g", keep_times(grow)),
           ("a FIFO's mode", "fifo", change_mode)]


def owners(path):
    os.lchown(path, 12345, os.lstat(path).st_gid)


def groups(path):
    os.lchown(path, os.lstat(path).st_uid, 12345)


def ids(top, name):
    st = os.lstat("%s/%s" % (top, name))
    return st.st_uid, st.st_gid


def each_change_is_found(place):
    """Behind the daemon's back, at the target and then at the source: nothing but a comparison tells."""
    changes = CHANGES + ([("an owner", "f1", owners), ("a group", "f1", groups), ("a symlink's owner", "link", owners),
                          ("a directory's group", "below", groups)] if os.geteuid() == 0 else [])
    with Pair(place) as p:
        for top in (p.target, p.source):
            p.sender.stop()
            before = tree(top)
            for i, (what, name, change) in enumerate(changes):
                change("%s/d%02d/%s" % (top, i, name))
                if change not in (owners, groups) and tree(top) == before:
                    raise Failure("%s: not changed" % what)
            p.sender.start()
            expect_equal(p.source, p.target, "changed in %s" % top)
            for i, (what, name, _) in enumerate(changes):
                name = "d%02d/%s" % (i, name)
                if os.path.lexists(p.source + "/" + name) and ids(p.source, name) != ids(p.target, name):
                    raise Failure("%s: %s is not the source's" % (what, name))


def as_options_say(place):
    """What is not mirrored does not count, and what is, does."""
    for i, (options, name, change, mends) in enumerate([("perms = false;", "d01/f1", change_mode, False),
                                                        ("omit_dir_times = true;", "d01", other_time, False),
                                                        ("omit_link_times = true;", "d01/link", other_time, False),
                                                        ("update = true;", "d01/f1", other_time, False),
                                                        ("hard_links = true;", "d01/f1", change_mode, True),
                                                        ("xattrs = true;", "d01/f1", change_mode, True),
                                                        ("checksum = true;", "d01/f1", keep_times(swap), True),
                                                        ("", "d01/f1", keep_times(swap), False)]):
        with Pair("%s/%d" % (place, i), options) as p:
            change(p.target + "/" + name)
            p.compare()
            if (tree(p.source) == tree(p.target)) != mends:
                raise Failure("with %s: %s" % (options or "nothing", "left as it was" if mends else "made equal"))


def swap(path):
    with open(path, "r+") as f:
        f.write("X")


def several_names(place):
    """With hard_links a name that is a file of its own at the target becomes one of several."""
    with Pair(place, "hard_links = true;") as p:
        p.sender.stop()
        for top in (p.source, p.target):
            if top == p.source:
                keep_times(os.unlink)(top + "/d01/f1")
                above = os.stat(top + "/d01")
                os.link(top + "/d01/f0", top + "/d01/f1")
                os.utime(top + "/d01", ns=(above.st_atime_ns, above.st_mtime_ns))
            else:
                for name in ("f0", "f1"):
                    shutil.copy2(p.source + "/d01/f0", top + "/d01/" + name)
                set_times(top)
        p.sender.start()
        if os.stat(p.target + "/d01/f0").st_ino != os.stat(p.target + "/d01/f1").st_ino:
            raise Failure("two files")


def owners_of_a_module(place):
    """Owners that are made others at the receiver are compared all the same."""
    if os.geteuid() != 0:
        skip("owners are root's to set")
    with Pair(place, module="uid = 12345;") as p:
        os.chown(p.target + "/d01/f1", 1, -1)
        p.compare()
        if {os.lstat(p.target + "/d01/" + n).st_uid for n in os.listdir(p.target + "/d01")} != {12345}:
            raise Failure("not all the module's")


def wide_and_large(place):
    """More directories in one than are begun at a time, and more entries than wait for the other end: none is forgotten."""
    for i, options in enumerate(("", "xattrs = true;")):
        source, target = "%s/%d/source" % (place, i), "%s/%d/target" % (place, i)
        for d in range(1030):
            os.makedirs("%s/w%04d" % (source, d))
        for d in range(3):
            os.makedirs("%s/large%d/below" % (source, d))
            for n in range(10 if options else 2900):
                os.close(os.open("%s/large%d/f%d" % (source, d, n), os.O_CREAT | os.O_WRONLY, 0o644))
        set_times(source)
        shutil.copytree(source, target, copy_function=shutil.copy2)
        receiver = Receiver("%s/%d/r" % (place, i), target)
        sender = Daemon("%s/%d/s" % (place, i), 'sync = ( { name = "dr"; transport = "tcp"; source = "%s"; %s %s } );\n'
                        % (source, receiver.section(), options))
        changed = ["w%04d" % d for d in (0, 1, 511, 512, 513, 1023, 1024, 1025, 1029)] + ["large%d/below" % d for d in range(3)]
        for name in changed:
            grow("%s/%s/more" % (target, name))
        for name in changed[::2]:
            grow("%s/%s/new" % (source, name))
        os.unlink(target + "/large1/f9")
        receiver.start()
        try:
            sender.start()
            expect_equal(source, target, options)
            counters = sender.sync("dr")["counters"]
            if (counters["files"], counters["deletions"]) != (len(changed[::2]) + 1, len(changed)):
                raise Failure("%s" % counters)
        finally:
            sender.stop()
            receiver.stop()


# ---- by the page alone ----

def a_tree(s):
    s.add("", DIR, mode=0o755)
    for d in ("a", "a/deep", "b", "empty"):
        s.add(d, DIR, mode=0o755)
    s.add("a/f", content=b"content")
    s.add("a/deep/g", content=b"further")
    s.add("a/deep/h", content=b"", mode=0o600)
    s.add("b/l", SYMLINK, b"some text")


class Module:
    """A receiver in plaintext, and a tree that was mirrored there by a sender that knows nothing of digests."""

    def __init__(self, place):
        self.path = place + "/module"
        os.makedirs(self.path)
        self.receiver = Receiver(place + "/r", self.path, tls=False)

    def __enter__(self):
        self.receiver.start()
        s = Sender(self.receiver.port).greet()
        a_tree(s)
        bad = s.work([""], kind=tcp.RECONCILE)
        if bad or hasattr(s, "asked"):
            raise Failure("%s, or asked without the feature" % bad)
        s.close()
        return self

    def __exit__(self, *why):
        self.receiver.stop()

    def below(self):
        """All but the directory itself, which each session makes a file in to see what times it keeps."""
        return {path: facts for path, facts in tree(self.path).items() if path}

    def sender(self):
        s = Sender(self.receiver.port).greet(features=SAME_FEATURE)
        a_tree(s)
        return s


def a_sender_by_the_page(place):
    with Module(place) as m:
        s = m.sender()
        for path, otherwise in ((None, []), ("a/deep/h", [b"a/deep"]), ("b/l", [b"b"])):
            if path:
                del s.entries[path.encode()]
                s.add(path, SYMLINK if path == "b/l" else FILE, b"more of it")
            s.asked, s.sequence_of_files = [], len(s.files)
            bad = s.work([""], kind=tcp.RECONCILE)
            if bad or sorted(s.asked) != sorted((d, d not in otherwise) for d in (b"", b"a", b"a/deep", b"b", b"empty")):
                raise Failure("%s; asked for %s" % (bad, s.asked))
        with open(m.path + "/a/deep/h", "rb") as f:
            if f.read() != b"more of it" or os.readlink(m.path + "/b/l") != "more of it":
                raise Failure("not as it was sent")


def a_sender_that_lies(place):
    """It harms nobody but itself: nothing is written, and what makes no sense ends the connection."""
    with Module(place) as m:
        before = m.below()
        s = m.sender()
        s.entries[b"a/f"] = (FILE, b"never seen", {})
        s.unless = lambda fields, request, path, its: s.frame(tcp.SAME, struct.pack("<I", request))
        bad = s.work([""], kind=tcp.RECONCILE)
        if bad or m.below() != before:
            raise Failure("written: %s %s" % (bad, differences(before, m.below())))
        s.close()
        number = lambda n: struct.pack("<I", n)
        for payload in (lambda n: b"", lambda n: number(n)[:3], lambda n: number(n + 1000), lambda n: number(n) * 2, lambda n: number(n) + b"x"):
            s = m.sender()
            s.unless = lambda fields, request, path, its: s.frame(tcp.SAME, payload(request))
            try:
                s.work([""], kind=tcp.RECONCILE)
                raise Failure("%r is taken" % payload(1))
            except Ended:
                s.close()
        # a part of a listing, and then the same
        s = m.sender()

        def both(fields, request, path, its):
            s.frame(tcp.LISTING, struct.pack("<IB", request, tcp.OK) + tcp.error() + struct.pack("<BI", 0, 1) + tcp.counted(b"a")
                    + s.state_of(b"a") + b"\0")
            s.frame(tcp.SAME, number(request))
        s.unless = both
        try:
            s.work([""], kind=tcp.RECONCILE)
            raise Failure("half of a listing is taken for a whole one")
        except Ended:
            s.close()
        # an answer to what was not asked this way
        s = Sender(m.receiver.port).greet()
        a_tree(s)
        s.listing = lambda request, path: s.frame(tcp.SAME, number(request))
        try:
            s.work([""], kind=tcp.RECONCILE)
            raise Failure("SAME is taken for a listing")
        except Ended:
            s.close()
        if m.below() != before:
            raise Failure("written: %s" % differences(before, m.below()))


def unless(c, fields, *asked):
    """Asks by UNLESS; the frames that answer: number -> SAME, or the result of a LISTING."""
    c.frame(tcp.UNLESS, struct.pack("<I", fields) + b"".join(struct.pack("<I", n) + tcp.counted(p) + d for n, p, d in asked))
    got = {}
    while len(got) < len(asked):
        kind, r = c.next()
        if kind == tcp.SAME:
            while r.at < len(r.data):
                got[r.take("I")] = tcp.SAME
        elif kind == tcp.LISTING:
            n = r.take("I")
            got[n] = r.take("B")
    return got


def a_receiver_by_the_page(place):
    """It learns what it could list, and no more."""
    source = place + "/source"
    os.makedirs(source + "/d/secret")
    for name in ("d/f", "d/x.key", "d/secret/g"):
        with open(source + "/" + name, "w") as f:
            f.write("four")
        os.chmod(source + "/" + name, 0o640)
    os.symlink("f", source + "/d/l")
    os.chmod(source + "/d", 0o750)
    set_times(source)
    fake = FakeReceiver()
    sender = Daemon(place + "/s", 'sync = ( { name = "dr"; transport = "tcp"; source = "%s"; host = "127.0.0.1"; port = %d; '
                    'module = "web"; exclude = [ "/d/secret/", "*.key" ]; retryMin = 0.1; retryMax = 0.2; } );\n' % (source, fake.port))
    sender.start(wait=False)
    ours = {"uid": os.getuid(), "gid": os.getgid()}
    d = [(b"f", FILE, b"four", dict(ours, mode=0o640)), (b"l", SYMLINK, b"f", ours)]
    try:
        c = fake.accept(features=SAME_FEATURE)
        for fields in range(64):
            true, other = tcp.listing_digest(fields, d), tcp.listing_digest(fields, d[:1])
            got = unless(c, fields, (1, "d", true), (2, "d", other), (3, "d/secret", tcp.listing_digest(fields, [])), (4, "none", true),
                         (5, "d", true), (6, "", tcp.listing_digest(fields, [(b"d", DIR, b"", dict(ours, mode=0o750))])))
            if got != {1: tcp.SAME, 2: tcp.OK, 3: tcp.GONE, 4: tcp.GONE, 5: tcp.SAME, 6: tcp.SAME}:
                raise Failure("fields %d: %s" % (fields, got))
        c.close()
        digest = b"d" * 16
        one = struct.pack("<I", 1) + tcp.counted("d") + digest
        for features, payload in ((SAME_FEATURE, b""), (SAME_FEATURE, struct.pack("<I", 0)), (SAME_FEATURE, struct.pack("<I", 64) + one),
                                  (SAME_FEATURE, struct.pack("<I", 0) + one[:-1]), (SAME_FEATURE, struct.pack("<I", 0) + one + b"x"),
                                  (SAME_FEATURE, struct.pack("<II", 0, 1) + tcp.counted("../source/d") + digest), (0, struct.pack("<I", 0) + one)):
            c = fake.accept(features=features)
            c.frame(tcp.UNLESS, payload)
            if not c.ended():
                raise Failure("%r is taken, with features %d" % (payload, features))
            c.close()
        c = fake.accept(features=0)  # an older one is served as ever
        if tcp.ask(c, tcp.LIST, 1, "d")[1] != tcp.OK:
            raise Failure("not listed")
        c.close()
        if sender.process.poll() is not None:
            raise Failure("the daemon ended")
    finally:
        sender.stop()
        fake.close()


main([each_change_is_found, as_options_say, several_names, owners_of_a_module, wide_and_large, a_sender_by_the_page, a_sender_that_lies, a_receiver_by_the_page])
