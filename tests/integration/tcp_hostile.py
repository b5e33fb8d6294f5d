#!/usr/bin/env python3
# TIMEOUT: 240
"""Hostile peers of the tcp transport: nothing outside a module or a source is written, deleted or read, memory stays bounded,
honest peers are served meanwhile."""
import os
import resource
import socket
import struct
import sys
import time
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import tcp_peer as tcp
from fansync import Daemon, Failure, Receiver, await_fact, children, differences, main, put, tree
from tcp_peer import DIR, FILE, OTHER, SYMLINK, Ended, FakeReceiver, Sender, Zstd

HALF_OPEN = int(os.environ.get("HALF_OPEN", "300"))
MAX_RSS_KIB = 64 << 10  # above what an idle process of the (sanitized) program has


def rss(pid):
    try:
        with open("/proc/%d/status" % pid) as f:
            return next((int(line.split()[1]) for line in f if line.startswith("VmRSS")), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


class World:
    """A receiver with the modules "web" (plaintext from this host) and "other" (of a key), and what must never change."""

    def __init__(self, place, options="", module=""):
        self.module, self.outside = place + "/module", place + "/outside"
        for d in (self.module, self.outside, place + "/other"):
            os.makedirs(d)
        with open(self.outside + "/precious", "w") as f:
            f.write("mine")
        os.symlink("precious", self.outside + "/link")
        self.receiver = Receiver(place + "/r", self.module, options=options, module=module, tls=False)
        d = self.receiver.daemon
        with open(d.config_path) as f:
            text = f.read()
        d.write_config(text[text.index("receiver"):].replace("modules = (", 'modules = ( { name = "other"; path = "%s"; allow = [ "key" ]; },'
                                                             % (place + "/other")))
        self.before = tree(self.outside)
        self.other = tree(place + "/other")
        self.place = place
        self.peak = 0

    def __enter__(self):
        self.receiver.start()
        self.idle = max(rss(p) for p in self.receiver.sessions())
        return self

    def __exit__(self, kind, *more):
        if kind is None:
            self.intact()
        self.receiver.stop()
        for word in ("AddressSanitizer", "runtime error", "ended by signal"):
            for name in ("log", "output"):
                path = self.receiver.daemon.place + "/" + name
                if os.path.exists(path) and word in open(path, errors="replace").read():
                    raise Failure("%s in the receiver's %s:\n%s" % (word, name, self.receiver.daemon.tail()))

    def intact(self):
        for what, now, then in (("outside", tree(self.outside), self.before), ("the other module", tree(self.place + "/other"), self.other)):
            found = differences(then, now)
            if found:
                raise Failure("%s changed:\n  %s" % (what, "\n  ".join(found)))

    def sender(self, **how):
        return Sender(self.receiver.port, **how)

    def greeted(self, **how):
        return self.sender().greet(**how)

    def watch_memory(self, what):
        for pid in self.receiver.sessions():
            now = rss(pid) - self.idle
            self.peak = max(self.peak, now)
            if now > MAX_RSS_KIB:
                raise Failure("%s: %d KiB resident" % (what, now))

    def still_serves(self, name="honest"):
        """An honest sender gets its file there, with new content."""
        s = self.greeted()
        content = os.urandom(1000)
        s.add(name, content=content)
        bad = s.work([name], inline=True)
        if bad or open(self.module + "/" + name, "rb").read() != content:
            raise Failure("an honest sender is not served: %s" % bad)
        s.close()


def ends(connection, what):
    if not connection.ended():
        raise Failure("%s: the connection goes on" % what)
    connection.close()


def honest_use(place):
    """What docs/PROTOCOL.md says is enough to mirror a tree."""
    with World(place) as w:
        s = w.greeted()
        s.add("d", DIR, mode=0o755)
        s.add("d/f", content=b"asked for" * 10000)
        s.add("d/g", content=b"along")
        s.add("d/l", SYMLINK, b"../else")
        s.add("d/p", OTHER)
        bad = s.work(["d", "d/f", "d/g", "d/l", "d/p"], inline=False)
        if bad:
            raise Failure("%s" % bad)
        if open(w.module + "/d/f", "rb").read() != b"asked for" * 10000 or os.readlink(w.module + "/d/l") != "../else":
            raise Failure("not what was sent")
        with open(w.module + "/stray", "w"):
            pass
        s.add("", DIR, mode=0o755)
        bad = s.work([""], kind=tcp.RECONCILE)
        if bad or sorted(os.listdir(w.module)) != ["d"]:
            raise Failure("%s %s" % (bad, os.listdir(w.module)))
        del s.entries[b"d/g"]
        bad = s.work(["d/g"])
        if bad or os.path.exists(w.module + "/d/g"):
            raise Failure("not deleted: %s" % bad)
        bad = s.work([], renames=[("d", "e", True)])
        if bad or not os.path.exists(w.module + "/e/f"):
            raise Failure("not renamed: %s" % bad)
        s.close()
        # what the options are written like: a size, rules, a marker; and extended attributes
        options = b"".join(tcp.option(key, value) for key, value in (
            (3, b"1.5K"), (2, b"- *.no"), (5, struct.pack("<q", 10)), (6, b"\2"), (7, b"marker"), (130, struct.pack("<q", time.time_ns()))))
        s = w.greeted(options=options, flags=tcp.FLAGS | 1 << 8)
        for name, size in (("small", 1500), ("large", 1600), ("x.no", 10)):
            s.add(name, content=b"x" * size)
        s.xattrs[b"small"] = {b"user.one": b"1", b"user.none": b""}
        try:
            s.work(["small"])
        except Ended:
            pass
        if s.why is None or s.why[0] != 12:
            raise Failure("without the marker: %s" % (s.why,))
        put(w.module + "/marker")
        files, xattrs = s.entries, s.xattrs
        s = w.greeted(options=options, flags=tcp.FLAGS | 1 << 8)
        s.entries, s.xattrs = {**files, b"": (DIR, b"", {"mode": 0o755}), b"marker": (FILE, b"x", {})}, xattrs
        bad = s.work([""], kind=tcp.RECONCILE)
        left = sorted(os.listdir(w.module))
        if bad or left != ["marker", "small"]:
            raise Failure("%s %s" % (bad, left))
        try:
            names = {n: os.getxattr(w.module + "/small", n) for n in os.listxattr(w.module + "/small")}
            if names != {"user.one": b"1", "user.none": b""}:
                raise Failure("extended attributes: %s" % names)
        except OSError:
            pass  # a file system without


def names_that_lead_out(place):
    with World(place) as w:
        bad = ["a/../../x", "..", "../outside/precious", "/etc/x", "/", "./a", "a/./b", "a//b", "a/", "x\0y", "n" * 256, "d/" + "n" * 256,
               "/".join(["d" * 200] * 400), "a/..", ".", "a.fansyncd~tmp"]
        for name in bad:
            for how in ("item", "from", "to"):
                s = w.greeted()
                s.add(name, content=b"x")
                if how == "item":
                    s.begin(1)
                    s.item(name, inline=True)
                else:
                    s.begin(0, 1)
                    s.rename(*(("fine", name) if how == "to" else (name, "fine")))
                ends(s, "%s %r" % (how, name[:40]))
        for name in bad:
            s = w.greeted()
            s.add("", DIR, mode=0o755)
            s.begin(1, kind=tcp.RECONCILE)
            s.item("")
            while True:
                kind, r = s.next()
                if kind == tcp.LIST:
                    break
            s.frame(tcp.LISTING, struct.pack("<IB", r.take("I"), 0) + tcp.error() + struct.pack("<BI", 1, 1)
                    + tcp.counted(name) + tcp.state(FILE, 1) + b"\0")
            if name.endswith("tmp"):
                s.serve()
                s.close()
            else:
                ends(s, "a listing with %r" % name[:40])
        if os.listdir(w.module):
            raise Failure("written: %s" % os.listdir(w.module))
        w.still_serves()


def symlinks_planted_first(place):
    with World(place) as w:
        s = w.greeted()
        s.add("way", SYMLINK, w.outside)
        s.add("up", SYMLINK, "../outside")
        s.add("file", SYMLINK, w.outside + "/precious")
        s.add("proc", SYMLINK, "/proc/self/cwd")
        if s.work(["file", "proc", "up", "way"], inline=True):
            raise Failure("symlinks themselves are fine: %s" % s.verdicts)
        for through in ("way", "up", "proc"):
            for name in ("new", "precious", "d/new"):
                s.add(through + "/" + name, content=b"evil")
                s.work([through + "/" + name], inline=True)
                w.intact()
                s.add(through + "/" + name, DIR, mode=0o777)
                s.work([through + "/" + name])
                del s.entries[(through + "/" + name).encode()]
                s.work([through + "/" + name])
            s.work([], renames=[(through + "/precious", "stolen", False)])
            s.work([], renames=[("file", through + "/planted", False)])
            w.intact()
            # each is a directory in the sender's tree now: then it has to become one here, not what the symlink leads to
            s.add(through, SYMLINK, w.outside)
            s.work([through], inline=True)
            s.begin(1, kind=tcp.RECONCILE)
            s.item(through, what=tcp.state(DIR, mode=0o755))
            s.serve()
            w.intact()
        s.add("file", content=b"evil")
        s.work(["file"], inline=True)
        if os.path.islink(w.module + "/file") or open(w.module + "/file").read() != "evil":
            raise Failure("the file should have replaced the symlink")
        s.close()


def hard_links_to_outside(place):
    with World(place) as w:
        s = w.greeted()
        s.add("a-way", SYMLINK, w.outside)
        s.add("a-file", SYMLINK, w.outside + "/precious")
        s.work(["a-file", "a-way"], inline=True)
        links = (2, 7, 8)
        for first, second in (("a-way/precious", "b"), ("a-file", "b"), ("b", "a-way/b")):
            s.add(first, content=b"mine", links=links)
            s.add(second, content=b"mine", links=links)
            s.work(sorted([first, second]), inline=True)
            w.intact()
            if os.path.exists(w.module + "/b") and os.stat(w.module + "/b").st_ino == os.stat(w.outside + "/precious").st_ino:
                raise Failure("linked to outside")
        s.close()


def modules_not_allowed(place):
    with World(place) as w:
        for name in ("other", "", "web/../other", "nothing", "w" * 256, "we\0b", "../outside"):
            s = w.sender()
            s.hello(module=name)
            got = None
            try:
                got = s.next()
            except Ended:
                pass
            if got is not None and got[0] == tcp.WELCOME:
                raise Failure("module %r is given to anybody" % name)
            ends(s, "module %r" % name)
        w.still_serves()


def both_ways(place):
    """The receiver compares: a deletion is of what was seen, whatever the sender says that it wants."""
    both = tcp.LINKS | tcp.TIMES | 1 << 19
    ns = 5 * 10 ** 9
    with World(place) as w:
        s = w.sender()
        s.hello(flags=both)
        try:
            s.next()
        except Ended:
            pass
        if "both ways" not in str(s.why):
            raise Failure("without the feature: %s" % (s.why,))
        for path in ("seen", "edited", "d/seen", "d/unseen", "equal"):
            path = w.module + "/" + path
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as f:
                f.write("theirs")
            os.utime(path, ns=(ns, ns))
        s = w.sender()
        s.greet(flags=both, features=2)
        s.archive = {b"seen": (FILE, 6, ns, 0), b"edited": (FILE, 5, ns, 0), b"d": (DIR, 0, 0, 0), b"d/seen": (FILE, 6, ns, 0)}
        s.add("equal", FILE, b"theirs", mtime=5)
        s.work(["d", "edited", "equal", "seen"])
        left = sorted(os.path.join(d, f)[len(w.module) + 1:] for d, _, files in os.walk(w.module) for f in files)
        if [p for p in left if p in ("seen", "edited", "d/seen", "d/unseen", "equal")] != ["d/unseen", "edited", "equal"]:
            raise Failure("left: %s" % left)
        absent = (tcp.ABSENT, 0, 0, 0)
        if s.notes != {b"seen": absent, b"d/seen": absent, b"equal": (FILE, 6, ns, 0)} or s.conflicts != [b"edited"]:
            raise Failure("notes %s, conflicts %s" % (s.notes, s.conflicts))
        s.close()


def the_root_itself(place):
    with World(place) as w:
        os.makedirs(w.module + "/keep")
        before = os.stat(w.module)
        for kind in (tcp.ABSENT, FILE, SYMLINK, OTHER):
            for work in (tcp.APPLY, tcp.RECONCILE):
                s = w.greeted()
                s.begin(1, kind=work)
                s.item("", what=tcp.state(kind))
                ends(s, "the root as %d" % kind)
        for pair in (("", "x"), ("keep", "")):
            s = w.greeted()
            s.begin(0, 1)
            s.rename(*pair, True)
            ends(s, "a rename of the root")
        after = os.stat(w.module)
        if (before.st_ino, before.st_dev) != (after.st_ino, after.st_dev) or not os.path.isdir(w.module + "/keep"):
            raise Failure("the root or its content went")


def deletions_beyond_the_limit(place):
    with World(place, module="maxDelete = 3;") as w:
        for i in range(20):
            with open(w.module + "/f%02d" % i, "w"):
                pass
        s = w.greeted()
        s.add("", DIR, mode=0o755)
        s.work([""], kind=tcp.RECONCILE, most=2 ** 62)
        s.close()
        if len(os.listdir(w.module)) < 17:
            raise Failure("%d of 20 are left" % len(os.listdir(w.module)))
        left = sorted(os.listdir(w.module))
        s = w.greeted()  # pieces of one work have one limit
        s.work(left[:2])
        s.work(left[2:4], continues=True)
        if len(os.listdir(w.module)) != 14 or s.deleted != 1:
            raise Failure("%d of 17 are left, the last work deleted %d" % (len(os.listdir(w.module)), s.deleted))
        s.begin(1, kind=tcp.RECONCILE, continues=True)
        ends(s, "a piece of another kind")
        s = w.greeted()
        s.begin(1, continues=True)
        ends(s, "a piece of nothing")


def what_is_to_be_kept(place):
    """A directory that was a mount point at the source stays, and so does what is in it."""
    with World(place) as w:
        for d in ("mounted/deep", "other"):
            os.makedirs(w.module + "/" + d)
            with open(w.module + "/" + d + "/f", "w"):
                pass
        s = w.greeted()
        s.add("", DIR, mode=0o755)
        s.add("mounted", DIR, mode=0o755)
        s.begin(1, kind=tcp.RECONCILE, keeps=1)
        s.frame(tcp.KEEP, tcp.counted("mounted") + tcp.counted("a file system is not mounted"))
        s.item("")
        s.serve()
        if not os.path.exists(w.module + "/mounted/deep/f") or os.path.exists(w.module + "/other"):
            raise Failure("%s" % tree(w.module).keys())
        s.close()


def backups(place):
    """What the module keeps of what was replaced is out of reach of who replaces, whatever he calls it, and goes nowhere else."""
    with World(place, module='backupDir = "old/%Y";') as w:
        old = w.module + "/old"
        os.makedirs(old + "/2020")
        put(old + "/2020/f", "first")
        before = tree(old + "/2020")
        s = w.greeted()

        def intact(what):
            w.intact()
            found = differences(before, tree(old + "/2020"))
            if found:
                raise Failure("%s: %s" % (what, found))
        for path in ("old/2020/f", "old/2020/new", "old/new", "old/2020", "old"):
            for kind, content in ((FILE, b"evil"), (SYMLINK, w.outside.encode()), (DIR, b""), (OTHER, b"")):
                s.entries = {}
                s.add(path, kind, content, mode=0o755)
                s.work([path], inline=True)
                intact("%s as %d" % (path, kind))
            s.entries = {}
            s.work([path])
            intact("%s is to go" % path)
            s.add("x", content=b"evil")
            s.work(["x"], inline=True)
            s.work([], renames=[(path, "y", True)])
            s.work([], renames=[("x", path, False)])
            intact("%s is renamed" % path)
        for what in ((DIR, b"", {"mode": 0o755}), (SYMLINK, w.outside.encode(), {}), None):
            s.entries = {b"": (DIR, b"", {"mode": 0o755})}
            if what:
                s.entries[b"old"] = what
            s.work([""], kind=tcp.RECONCILE)
            intact("a comparison with %s" % (what,))
        put(w.module + "/g", "mine")
        s.add("g", content=b"new", mtime=7)
        s.work(["g"], inline=True)
        if not any("mine" == open(os.path.join(d, f)).read() for d, _, files in os.walk(old) for f in files):
            raise Failure("what was replaced was not kept")
        intact("in the end")
        s.close()


def frames_that_break_rules(place):
    with World(place) as w:
        def before_hello(kind, payload=b""):
            return lambda s: s.frame(kind, payload)

        work = struct.pack("<QQBBqIII", 1, 1, 1, 0, -1, 0, 1, 0)
        early = [before_hello(t, p) for t, p in ((tcp.WORK, work), (tcp.ITEM, b""), (tcp.DATA, b"x" * 100), (tcp.BYE, b"\0"),
                                                 (tcp.WELCOME, b""), (200, b""), (0, b""))]
        early += [
            lambda s: s.raw(struct.pack("<I", 0)), lambda s: s.raw(struct.pack("<I", 0x3fffffff)),
            lambda s: s.raw(struct.pack("<I", 2 << 30 | 5) + b"12345"), lambda s: s.raw(struct.pack("<I", 3 << 30 | 5) + b"12345"),
            lambda s: s.record(b"\xff" * 100, 1), lambda s: s.record(struct.pack("<IB", 0xffffffff, tcp.HELLO)),
            lambda s: s.record(struct.pack("<IB", 131073, tcp.HELLO)), lambda s: s.hello(versions=(2, 1)),
            lambda s: s.hello(versions=(7, 9)), lambda s: s.hello(flags=1 << 63), lambda s: s.hello(flags=1 << 19),
            lambda s: s.hello(options=tcp.option(77, b"")), lambda s: s.hello(options=b"\2\xff\xff\xff\xff"),
            lambda s: s.hello(options=tcp.option(2, b"nonsense nonsense")), lambda s: s.hello(options=tcp.option(5, b"123")),
            lambda s: s.hello(options=tcp.option(6, b"\x09")), lambda s: s.raw(b"GET / HTTP/1.0\r\n\r\n"), lambda s: s.raw(os.urandom(3000)),
        ]
        for n, do in enumerate(early):
            s = w.sender()
            try:
                do(s)
            except Ended:
                pass
            ends(s, "before HELLO, number %d" % n)

        def sends(*frames):
            return lambda s: [s.frame(t, p) for t, p in frames]

        def head(kind=1, delete=0, most=-1, renames=0, items=1, work=1, first=1, keeps=0):
            return (tcp.WORK, struct.pack("<QQBBqIII", work, first, kind, delete, most, renames, items, keeps))

        def item(path, what=None, more=b"\0"):
            return (tcp.ITEM, tcp.counted(path) + struct.pack("<II", 3, 0) + (what or tcp.state(FILE)) + more)

        late = [
            sends((200, b"")), sends((0, b"")), sends((tcp.HELLO, b"")), sends((tcp.WELCOME, b"")), sends((tcp.ACK, b"\0" * 12)),
            sends(item("a")), sends((tcp.RENAME, tcp.counted("a") + tcp.counted("b") + b"\0")), sends(head(items=0)), sends(head(items=4097)),
            sends(head(items=0xffffffff)), sends(head(items=0xffffffff, renames=1)), sends(head(keeps=65537)), sends(head(keeps=1), item("a")),
            sends((tcp.KEEP, tcp.counted("a") + tcp.counted("x"))), sends(head(first=2)), sends(head(first=0)),
            sends(head(kind=0)), sends(head(kind=3)), sends(head(kind=2, renames=1)), sends(head(most=-2)), sends(head(), head(first=2)),
            sends(head(items=2), item("b"), item("a")), sends(head(items=2), item("a"), item("a")),
            sends(head(renames=1), item("a")), sends(head(), (tcp.RENAME, tcp.counted("a") + tcp.counted("b") + b"\0")),
            sends(head(kind=2), item("a")), sends(head(kind=2, items=2), item("a", tcp.state(DIR)), item("a/b", tcp.state(DIR))),
            sends(head(), item("a", tcp.state(FILE)[:-1])), sends(head(), item("a", more=b"\xff")), sends(head(), item("a", more=b"\0\0")),
            sends(head(), item("a", struct.pack("<BBIIIQqI", FILE, 0, 0o40755, 0, 0, 0, 0, 0))),
            sends(head(), item("a", struct.pack("<BBIIIQqI", FILE, 0, 0o100644, 0, 0, 2 ** 63, 0, 0))),
            sends(head(), item("a", struct.pack("<BBIIIQqI", FILE, 0, 0o100644, 0, 0, 1, 0, 10 ** 9))),
            sends(head(), item("a", more=b"\4" + b"d" * 16 + tcp.counted(b"x" * 40000))),
            sends((tcp.ANSWER, struct.pack("<IB", 1, 0) + tcp.error() + tcp.state(FILE))),
            sends((tcp.LISTING, struct.pack("<IB", 9, 0) + tcp.error() + struct.pack("<BI", 1, 0))),
            sends((tcp.OPENED, struct.pack("<IB", 1, 0) + tcp.error() + struct.pack("<I", 1) + tcp.state(FILE) + struct.pack("<BI", 0, 0))),
            sends((tcp.HOLE, struct.pack("<IQQ", 1, 2 ** 63, 2 ** 63))),
            sends((tcp.END, b"")), sends((tcp.LIST, struct.pack("<I", 1) + tcp.counted(""))),
        ]
        late.append(lambda s: [s.frame(*f) for n in range(4) for f in (head(work=n + 1, first=n + 1), item("f", tcp.state(FILE, 100)))])
        deep = "/".join(["d" * 255] * 240)
        late.append(lambda s: [s.frame(*f) for f in [head(items=100)] + [item("%03d/%s" % (n, deep)) for n in range(100)]])
        for n, do in enumerate(late):
            s = w.greeted()
            try:
                do(s)
            except Ended:
                pass
            ends(s, "after HELLO, number %d" % n)
        if os.listdir(w.module):
            raise Failure("written: %s" % os.listdir(w.module))
        w.still_serves()


def answers_that_lie(place):
    with World(place) as w:
        def opened(s, size, then, flags=tcp.FLAGS, what=FILE, wants=0, block=0):
            """A file that is asked for is opened; what is done then."""
            s.add("f", content=b"x", mtime=int(time.time()))
            s.begin(1)
            s.item("f", what=tcp.state(FILE, size))
            while True:
                got = s.next()
                if got is None:
                    raise Failure("it does not ask for the file")
                kind, r = got
                if kind == tcp.OPEN:
                    s.frame(tcp.OPENED, struct.pack("<IB", r.take("I"), 0) + tcp.error() + struct.pack("<I", 5) + tcp.state(what, size)
                            + struct.pack("<BI", wants, block))
                    if what != FILE or wants > 1:
                        return
                elif kind == tcp.READ:
                    then(s)
                    return
                else:
                    s.take(kind, r)

        def data(at, content):
            return lambda s: s.frame(tcp.DATA, struct.pack("<IQ", 5, at) + content)

        def hole(at, n):
            return lambda s: s.frame(tcp.HOLE, struct.pack("<IQQ", 5, at, n))

        for size, then in ((100, data(1, b"x")), (100, data(0, b"x" * 101)), (100, hole(0, 2 ** 62)), (100, hole(0, 101)),
                           (100, lambda s: s.frame(tcp.END, struct.pack("<IB", 5, 0) + tcp.error() + struct.pack("<Q", 7) + b"d" * 16
                                                   + tcp.state(FILE))),
                           (1, data(2 ** 62, b"x")), (1, data(2 ** 64 - 1, b"xx")),
                           (100, lambda s: s.frame(tcp.SIGN, struct.pack("<II", 5, 2048))),  # there is no old file
                           (100, lambda s: s.frame(tcp.SIGN, struct.pack("<II", 5, 1000))), (100, lambda s: s.frame(tcp.SIGN, b"\5\0\0"))):
            s = w.greeted()
            opened(s, size, then)
            ends(s, "a piece that was not asked for")
        s = w.greeted()
        opened(s, 1, None, what=DIR)
        ends(s, "a directory opened")
        # a hole of half the address space costs nothing; a copy of an old file that is not there fails; the file is not made
        for size, then in ((2 ** 62, hole(0, 2 ** 62)), (50, lambda s: s.frame(tcp.COPY, struct.pack("<IQQQ", 5, 0, 50, 0))),
                           (50, data(0, b"y" * 50))):
            s = w.greeted()

            def finish(s, size=size, then=then):
                then(s)
                del s.entries[b"f"]  # it is asked for once more
                s.frame(tcp.END, struct.pack("<IB", 5, 0) + tcp.error() + struct.pack("<Q", size) + b"d" * 16 + tcp.state(FILE, size))
            opened(s, size, finish)
            if s.serve() == {}:
                raise Failure("a lie about %d bytes is taken for done" % size)
            w.watch_memory("lies")
            s.close()
        if os.path.exists(w.module + "/f"):
            raise Failure("a file came into being whose digest was wrong")
        if os.listdir(w.module):
            raise Failure("left: %s" % os.listdir(w.module))
        w.still_serves()


def memory_stays_bounded(place):
    with World(place) as w:
        # a bomb: a record that inflates to more than 256 KiB
        squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = squeeze.compress(b"\0" * (64 << 20)) + squeeze.flush(zlib.Z_SYNC_FLUSH)
        s = w.sender()
        try:
            s.record(bomb[:-4][:163840], 1)
        except Ended:
            pass
        ends(s, "a bomb")
        # the same by zstd; a window that wants gigabytes; what older formats and frames to be skipped want
        bomb = Zstd(17).compress(b"\0" * (64 << 20), end=True)
        for what, body in (("a bomb of zstd", bomb), ("a window of 4 MiB", Zstd(22).compress(b"x")),
                           ("a window of 1 GiB", b"\x28\xb5\x2f\xfd\x00\xa0" + b"\0" * 9), ("an old format", b"\x27\xb5\x2f\xfd" + b"\xff" * 30),
                           ("a frame to be skipped", b"\x50\x2a\x4d\x18\xff\xff\xff\x7f"), ("no frame", b"\0" * 100),
                           ("a dictionary", b"\x28\xb5\x2f\xfd\x01\x58\x07" + b"\0" * 9)):
            s = w.greeted(features=tcp.ZSTD)
            s.record(body[:163840], 2)
            ends(s, what)
        s = w.greeted()
        s.record(Zstd().compress(struct.pack("<IB", 0, tcp.PING)), 2)
        ends(s, "zstd that was not agreed on")
        s = w.sender()
        s.record(Zstd().compress(struct.pack("<IB", 0, tcp.PING)), 2)
        ends(s, "zstd before a greeting")
        # many records of the largest kind, one unfinished frame after the other
        squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
        s = w.greeted()
        try:
            for _ in range(200):
                part = squeeze.compress(struct.pack("<IB", 131072, 200) + b"\0" * 200000) + squeeze.flush(zlib.Z_SYNC_FLUSH)
                s.record(part[:-4], 1)
        except Ended:
            pass
        ends(s, "an unknown frame")
        # content beyond what is kept; texts of symlinks, of which there is no credit
        s = w.greeted()
        content = os.urandom(32768)
        parts = b"\4" + tcp.digest(content) + tcp.counted(content)
        try:
            s.begin(4096)
            for i in range(4096):
                s.item("%05d" % i, what=tcp.state(FILE, len(content)), parts=parts)
                if i % 64 == 0:
                    w.watch_memory("content beyond the credit")
            for i in range(80):
                s.frame(tcp.DATA, struct.pack("<IQ", 1, 0) + b"x" * 65536)
            w.watch_memory("content that nobody asked for")
        except Ended:
            pass
        s.close()
        s = w.greeted()
        try:
            s.begin(4096)
            for i in range(4095):  # the work does not begin
                s.item("%05d" % i, what=tcp.state(SYMLINK), parts=b"\2" + tcp.counted(b"x" * 60000))
                if i % 64 == 0:
                    w.watch_memory("texts of symlinks")
        except Ended:
            pass
        s.close()
        # listings without an end
        s = w.greeted()
        s.add("", DIR, mode=0o755)
        s.begin(1, kind=tcp.RECONCILE)
        s.item("")
        while True:
            kind, r = s.next()
            if kind == tcp.LIST:
                break
        request = r.take("I")
        body = b"".join(tcp.counted("%06d" % i) + tcp.state(FILE) + b"\0" for i in range(2000))
        for _ in range(20):
            s.frame(tcp.LISTING, struct.pack("<IB", request, 0) + tcp.error() + struct.pack("<BI", 0, 2000) + body)
        w.watch_memory("a listing")
        s.close()
        # works, and what they are answered never read
        s = w.greeted()
        s.sock.settimeout(5)
        s.add("nothing/here", content=b"x")
        try:
            for _ in range(3000):
                s.begin(1)
                s.item("nothing/here", inline=True)
        except (Ended, OSError):
            pass
        w.watch_memory("answers that nobody reads")
        s.close()
        w.still_serves()
        print("# at most %d KiB more than an idle process" % w.peak)


def half_open_and_slow(place):
    """Hundreds of connections that say nothing, or a byte at a time: an honest sender comes through, and they end. HALF_OPEN=N: so
    many (tests/soak/half_open.sh: 10,000)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, HALF_OPEN + 200)), hard))
    with World(place, options="handshakeTimeout = 3; maxConnections = 40;") as w:
        silent = []
        for i in range(HALF_OPEN):
            silent.append(socket.create_connection(("127.0.0.1", w.receiver.port), 20))
            if i % 3 == 1:
                silent[-1].sendall(b"P")
            if i % 3 == 2:
                silent[-1].sendall(b"\x16\x03\x01\x02\x00\x01")
            if i % 100 == 99:
                w.watch_memory("%d half open" % i)
                w.still_serves("while %d are half open" % i)
        if len(w.receiver.sessions()) > 42:
            raise Failure("%d processes" % len(w.receiver.sessions()))
        for c in silent:
            c.close()
        s = w.sender()
        started = time.monotonic()
        record = struct.pack("<I", 60) + b"\0" * 60
        at = 0
        while not s.ended(0.3):
            try:
                s.raw(record[at % 64:at % 64 + 1] if at % 64 else record[:1])
            except Ended:
                break
            at += 1
            if time.monotonic() - started > 30:
                raise Failure("a byte at a time keeps a session alive")
        s.close()
        s = w.sender()
        while not s.ended(0.3):
            try:
                s.frame(tcp.PING)
            except Ended:
                break
            if time.monotonic() - started > 60:
                raise Failure("pings without a greeting keep a session alive")
        s.close()
        w.still_serves()
        await_fact(lambda: len(w.receiver.sessions()) == 1, 20, "the sessions end")
        print("# %d half open, at most %d KiB more than an idle process" % (len(silent), w.peak))


def lying_signatures(source, fake):
    """The sender looks for content that moved, and is given something else than a signature of the old file."""
    size = 2 << 20
    with open(source + "/large", "wb") as f:
        f.write(os.urandom(size))
    head = bytes.fromhex("7273014700000800") + b"\0\0\0\x08"  # blocks of 2048, 8 bytes of a hash
    for junk, last in ((b"junk", 0), (b"", 1), (head[:11], 1), (head + b"half", 1), (head.replace(b"\x08\0\0", b"\x00\0\0"), 0),
                       (head[:11] + b"\x20", 0), (head + b"a" * 12 * 1026, 0), (head, 2)):
        c = fake.accept(features=9)
        _, result, r = tcp.ask(c, tcp.OPEN, 1, "large", struct.pack("<Q", size) + tcp.state(FILE, size))
        file = r.take("I")
        r.state()
        wants, block = r.take("BI")
        if result != tcp.OK or wants != 1:
            raise Failure("OPENED: %d, %d" % (result, wants))
        c.frame(tcp.HASHES, struct.pack("<IQ", file, 0) + b"h" * 8 * (size // block))
        c.frame(tcp.READ, struct.pack("<IQQ", file, 0, size))
        while True:
            kind, r = c.next()
            if kind in (tcp.SIGN, tcp.DATA):
                break
        if kind != tcp.SIGN or r.take("II") != (file, 2048):
            raise Failure("it does not look for what moved: frame %d" % kind)
        c.frame(tcp.SIGNATURE, struct.pack("<IB", file, last) + junk)
        ends(c, "a signature that is none: %r" % junk[:20])
    os.unlink(source + "/large")


def finer_hashes(source, fake):
    """Of a file that is not remembered the hashes of large blocks come first; from the first one that differs on smaller ones are
    asked for, and nothing else is taken instead."""
    size, run, block = 2 << 20, 262144, 16384
    content = os.urandom(size)
    with open(source + "/large", "wb") as f:
        f.write(content)
    old = bytearray(content)
    old[5 * run + 3 * block] ^= 1

    def hashes(piece, first):
        return b"".join(struct.pack("<Q", tcp.block_hash(bytes(old[at:at + piece]))) for at in range(first * piece, size, piece))
    for answer in ("right", "from elsewhere", "too many", "one more end"):
        c = fake.accept(features=1 | tcp.FEATURE_FINER)
        _, _, r = tcp.ask(c, tcp.OPEN, 1, "large", struct.pack("<Q", size) + tcp.state(FILE, size))
        file = r.take("I")
        r.state()
        if r.take("BI") != (1, run):
            raise Failure("no large blocks first")
        c.frame(tcp.HASHES, struct.pack("<IQ", file, 0) + hashes(run, 0))
        c.frame(tcp.READ, struct.pack("<IQQ", file, 0, size))
        copied = 0
        while True:
            kind, r = c.next()
            if kind != tcp.COPY:
                break
            copied += r.take("IQQQ")[2]
        first = 5 * run // block
        if kind != tcp.FINER or r.take("IIQ") != (file, block, first) or copied != 5 * run:
            raise Failure("after %d bytes that are equal frame %d" % (copied, kind))
        if answer == "from elsewhere":
            c.frame(tcp.HASHES, struct.pack("<IQ", file, 0) + hashes(block, first))
        elif answer == "too many":
            c.frame(tcp.HASHES, struct.pack("<IQ", file, first) + hashes(block, first) + b"h" * 16)
        else:
            for at in range(first, size // block, 7):  # in pieces
                c.frame(tcp.HASHES, struct.pack("<IQ", file, at) + hashes(block, at)[:56])
            c.frame(tcp.HASHES, struct.pack("<IQ", file, size // block))
        if answer in ("from elsewhere", "too many"):
            ends(c, "hashes %s" % answer)
            continue
        sent = b""
        while True:
            kind, r = c.next()
            if kind == tcp.DATA:
                if r.take("IQ") != (file, first * block + 3 * block + len(sent)):
                    raise Failure("other content than what differs")
                sent += r.data[r.at:]
            elif kind == tcp.COPY:
                copied += r.take("IQQQ")[2]
            else:
                break
        if kind != tcp.END or len(sent) != block or copied + block != size:
            raise Failure("%d bytes sent, %d equal, then frame %d" % (len(sent), copied, kind))
        if answer == "one more end":
            for _ in range(2):  # its last block may still be missing, not more
                c.frame(tcp.HASHES, struct.pack("<IQ", file, size // block) + b"h" * 16)
            ends(c, "hashes behind the end")
        else:
            c.close()
    os.unlink(source + "/large")


def parts_of_finer_hashes(source, fake):
    """With that feature smaller blocks are asked of a part only, and of a larger one each time; what is equal behind it is told by the
    large ones again."""
    size, run, block = 12 << 20, 262144, 16384
    content = os.urandom(size)
    with open(source + "/large", "wb") as f:
        f.write(content)
    changed = (3 * run + 5, 20 * run + 7 * block, size - 1)
    old = bytearray(content)
    for at in changed:
        old[at] ^= 1
    hashes = lambda piece, first, end: b"".join(struct.pack("<Q", tcp.block_hash(bytes(old[at * piece:(at + 1) * piece])))
                                                for at in range(first, min(end, -(-size // piece))))
    for answer in ("right", "too many", "an end too early"):
        c = fake.accept(credit=32 << 20, features=1 | tcp.FEATURE_FINER | tcp.FEATURE_PARTS)
        _, _, r = tcp.ask(c, tcp.OPEN, 1, "large", struct.pack("<Q", size) + tcp.state(FILE, size))
        file = r.take("I")
        r.state()
        r.take("BI")
        c.frame(tcp.HASHES, struct.pack("<IQ", file, 0) + hashes(run, 0, size // run))
        c.frame(tcp.READ, struct.pack("<IQQ", file, 0, size))
        at, sent, asked, copies = 0, [], [], 0
        while True:
            kind, r = c.next()
            if kind == tcp.FINER:
                _, its, first, n = r.take("IIQQ")
                if its != block:
                    raise Failure("blocks of %d" % its)
                asked.append((first, n))
                if answer == "too many":
                    c.frame(tcp.HASHES, struct.pack("<IQ", file, first) + hashes(block, first, first + n + 1))
                    ends(c, "more hashes than were asked for")
                    break
                if answer == "right":
                    c.frame(tcp.HASHES, struct.pack("<IQ", file, first) + hashes(block, first, first + n))
                c.frame(tcp.HASHES, struct.pack("<IQ", file, min(first + n, size // block) if answer == "right" else first))
            elif kind == tcp.COPY:
                _, offset, n, there = r.take("IQQQ")
                if (offset, there) != (at, at):
                    raise Failure("COPY of %d at %d behind %d" % (there, offset, at))
                at += n
                copies += 1
            elif kind == tcp.DATA:
                if r.take("IQ") != (file, at):
                    raise Failure("DATA that is not behind %d" % at)
                sent.append((at, len(r.data) - r.at))
                at += len(r.data) - r.at
            else:
                break
        if answer == "too many":
            continue
        if kind != tcp.END or at != size:
            raise Failure("frame %d behind %d bytes" % (kind, at))
        if answer == "right" and (sent != [(x // block * block, block) for x in changed] or copies > 10 or
                                  asked != [(3 * 16, 8 * 16), (20 * 16, 16 * 16), (47 * 16, 32 * 16)]):
            raise Failure("sent %s, asked %s, %d COPYs" % (sent, asked, copies))
        c.close()
    os.unlink(source + "/large")


def hostile_receiver(place):
    """What a receiver asks of a sender beyond its source, or of what the sender's rules exclude, does not exist."""
    source = place + "/source"
    os.makedirs(source + "/secret/deep")
    os.makedirs(source + "/dir")
    for path, text in (("secret/f", "s3cret"), ("secret/deep/f", "s3cret"), ("x.key", "s3cret"), ("dir/fine", "fine"),
                       ("dir/x.key", "s3cret"), ("dir/.f.fansyncd~tmp", "s3cret")):
        with open(source + "/" + path, "w") as f:
            f.write(text)
    os.symlink("/etc", source + "/etc")
    os.symlink("/etc/passwd", source + "/passwd")
    os.symlink("secret", source + "/way")
    with open(place + "/outside", "w") as f:
        f.write("s3cret")
    fake = FakeReceiver()
    sender = Daemon(place + "/s", 'sync = ( { name = "dr"; transport = "tcp"; source = "%s"; host = "127.0.0.1"; port = %d; '
                    'module = "web"; exclude = [ "/secret/", "*.key" ]; retryMin = 0.1; retryMax = 0.2; } );\n' % (source, fake.port))
    sender.start(wait=False)
    try:
        c = fake.accept()
        hidden = ["secret", "secret/f", "secret/deep", "secret/deep/f", "x.key", "dir/x.key", "dir/.f.fansyncd~tmp", "etc/passwd",
                  "etc/shadow", "way/f", "passwd/x", "nothing"]
        old = struct.pack("<Q", 0) + tcp.state(tcp.ABSENT)
        n = 0
        for path in hidden:
            for kind, more in ((tcp.LOOK, b""), (tcp.LIST, b""), (tcp.READLINK, b""), (tcp.XATTRS, struct.pack("<I", 3)),
                               (tcp.DIGEST, b""), (tcp.OPEN, old)):
                n += 1
                _, result, _ = tcp.ask(c, kind, n, path, more)
                if result == tcp.OK:
                    raise Failure("%r is shown to question %d" % (path, kind))
        for path in ("etc", "passwd", "way"):  # the symlinks themselves may be sent, not what they lead to
            for kind, more in ((tcp.LIST, b""), (tcp.DIGEST, b""), (tcp.OPEN, old)):
                n += 1
                if tcp.ask(c, kind, n, path, more)[1] == tcp.OK:
                    raise Failure("%r is followed by question %d" % (path, kind))
        n += 1
        _, result, r = tcp.ask(c, tcp.LIST, n, "")
        r.take("B")
        names = []
        for _ in range(r.take("I")):
            names.append(r.bytes())
            r.state()
            r.take("B")
        if result != tcp.OK or sorted(names) != [b"dir", b"etc", b"passwd", b"way"]:
            raise Failure("the listing: %d %s" % (result, names))
        n += 1
        _, result, r = tcp.ask(c, tcp.OPEN, n, "dir/fine", old)
        if result != tcp.OK:
            raise Failure("what is not excluded can't be read: %d" % result)
        c.close()
        # each of these ends the connection, and the sender comes again
        bad = [(tcp.LOOK, b"\1\0\0\0" + tcp.counted(p)) for p in ("../outside", "/etc/passwd", "a/../../x", "dir/..", "", "a\0b", "n" * 256) if p]
        bad += [(tcp.READ, struct.pack("<IQQ", 77, 0, 1)), (tcp.READ, struct.pack("<IQQ", 1, 2, 1)), (tcp.CLOSE, struct.pack("<I", 77)),
                (tcp.RESTAT, struct.pack("<II", 1, 77)), (200, b""), (tcp.WORK, b""), (tcp.DATA, b"x" * 20),
                (tcp.ACK, struct.pack("<QI", 2 ** 63, 0)), (tcp.ACK, struct.pack("<QI", 0, 1) + struct.pack("<QBB", 10 ** 6, 1, 0)),
                (tcp.ACK, struct.pack("<QI", 0, 0xffffffff)), (tcp.DONE, struct.pack("<QQQQQ", 999, 0, 0, 0, 0)), (tcp.SIGNATURE, b"\0" * 5),
                (tcp.FOUND, tcp.counted("../x") + b"\3\0"), (tcp.WELCOME, b""), (tcp.AGREED, b"\1\0\0\0" + tcp.counted("dir")),
                (tcp.NOTE, struct.pack("<I", 0))]
        for kind, payload in bad:
            c = fake.accept()
            c.frame(kind, payload)
            ends(c, "frame %d" % kind)
        for how in ({"changes": 1}, {"changes": 0}, {"credit": 0}, {"version": 9}):
            ends(fake.accept(**how), "WELCOME %s" % how)
        lying_signatures(source, fake)
        finer_hashes(source, fake)
        parts_of_finer_hashes(source, fake)
        # many listings asked for and never read: the sender's memory does not grow with them
        for i in range(3000):
            with open(source + "/dir/%s%d" % ("n" * 200, i), "w"):
                pass
        c = fake.accept()
        worker = max(children(sender.process.pid), key=rss)
        before = rss(worker)
        for i in range(1000):
            c.frame(tcp.LIST, struct.pack("<I", i) + tcp.counted("dir"))
        await_fact(lambda: c.more(1), 20, "an answer")
        if rss(worker) - before > MAX_RSS_KIB:
            raise Failure("the worker grew by %d KiB" % (rss(worker) - before))
        c.close()
        if sender.process.poll() is not None:
            raise Failure("the daemon ended")
        if "AddressSanitizer" in sender.tail(500) or "runtime error" in sender.tail(500):
            raise Failure(sender.tail(500))
    finally:
        sender.stop()
        fake.close()


main([honest_use, names_that_lead_out, symlinks_planted_first, hard_links_to_outside, modules_not_allowed, both_ways, the_root_itself,
      deletions_beyond_the_limit, what_is_to_be_kept, backups, frames_that_break_rules, answers_that_lie, memory_stays_bounded, half_open_and_slow, hostile_receiver])
