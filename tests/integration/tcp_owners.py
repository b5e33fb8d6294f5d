#!/usr/bin/env python3
# TIMEOUT: 120
"""tcp: owners by name. The receiver's host has other numbers for the same names: it sees another /etc/passwd and /etc/group. With
the modules' usermap and groupmap, and by number alone."""
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import tcp_peer as tcp
from fansync import BINARY, Daemon, Receiver, await_fact, expect, main, put, run, skip

HERE = {"alice": 55001, "bob": 55002, "carol": 55003, "zed": 55009}
THERE = {"alice": 56001, "bob": 55002, "dave": 55003, "web": 56080}
SAME, NAMES = 1 << 6, 1 << 7


def host(place, names):
    """As `names` has it there: what a program is started with. An /etc of its own, with links to all else that is in the host's: a file
    that is mounted over another one is gone as soon as somebody adds an account."""
    etc = place + "/etc"
    os.makedirs(etc, exist_ok=True)
    for name in os.listdir("/etc"):
        if name not in ("passwd", "group") and not os.path.lexists(etc + "/" + name):
            os.symlink(place + "/host/" + name, etc + "/" + name)
    os.makedirs(place + "/host", exist_ok=True)
    for kind, line in (("passwd", "%s:x:%d:%d::/:/bin/false\n"), ("group", "%s:x:%d:\n")):
        with open("/etc/" + kind) as f, open(etc + "/" + kind, "w") as out:
            out.write(f.read())
            for name, number in names.items():
                out.write(line % ((name, number, number) if kind == "passwd" else (name, number + 100)))
    return ["unshare", "-m", "sh", "-c", 'mount --make-rprivate / && mount --bind /etc "$1/host" && mount --bind "$1/etc" /etc && '
            'shift && exec "$@"', "sh", place]


class Pair:
    def __init__(self, place, module="", options="", there=None):
        self.source, self.target = place + "/source", place + "/target"
        for d in (self.source + "/d", self.target):
            os.makedirs(d)
        self.receiver = Receiver(place + "/r", self.target, tls=False, module=module, prefix=host(place + "/there", there or THERE))
        self.sender = Daemon(place + "/s", 'sync = ( { name = "w"; transport = "tcp"; source = "%s"; %s delay = 0.0; retryMin = 0.1; '
                             'retryMax = 0.2; rsync = { archive = true; %s }; } );\n'
                             % (self.source, self.receiver.section(), options), prefix=host(place + "/here", HERE))

    def __enter__(self):
        self.receiver.start()
        return self

    def __exit__(self, *why):
        self.sender.stop()
        self.receiver.stop()

    def owned(self, name, user, group=None, size=10):
        path = os.path.join(self.source, name)
        if name.endswith("link"):
            os.symlink("x", path)
        elif not os.path.exists(path):
            with open(path, "wb") as f:
                f.write(os.urandom(size))
        os.chown(path, user, user + 100 if group is None else group, follow_symlinks=False)

    def there(self, name):
        st = os.lstat(os.path.join(self.target, name))
        return st.st_uid, st.st_gid

    def expect(self, **owners):
        for name, (user, group) in owners.items():
            expect(self.there(name) == (user, group), "%s: %s instead of %s" % (name, self.there(name), (user, group)))


def by_name(place):
    with Pair(place) as p:
        p.owned("small", HERE["alice"])
        p.owned("large", HERE["alice"], size=300000)
        p.owned("link", HERE["alice"])
        p.owned("d", HERE["alice"])
        p.owned("same", HERE["bob"])
        p.owned("missing", HERE["carol"])  # the number stands, although it is somebody else's there
        p.owned("nameless", 55777, 55778)
        p.owned("ours", 0, 0)
        p.sender.start()
        alice = (THERE["alice"], THERE["alice"] + 100)
        p.expect(small=alice, large=alice, link=alice, d=alice, same=(55002, 55102), missing=(55003, 55103), nameless=(55777, 55778),
                 ours=(0, 0))
        p.owned("same", HERE["alice"])
        p.owned("live", HERE["zed"], HERE["alice"] + 100)
        p.owned("later", HERE["alice"], size=200000)
        p.sender.wait()
        p.expect(same=alice, live=(55009, alice[1]), later=alice)
        before = {n: os.lstat(p.target + "/" + n).st_ctime_ns for n in os.listdir(p.target)}
        p.sender.client("--sync-now")
        expect(before == {n: os.lstat(p.target + "/" + n).st_ctime_ns for n in os.listdir(p.target)}, "equal is equal")


def by_number(place):
    with Pair(place, options="numeric_ids = true;") as p:
        p.owned("small", HERE["alice"])
        p.sender.start()
        p.expect(small=(55001, 55101))


def tables(place):
    with Pair(place, module='usermap = [ "zed:web", "55500-55599:57000", "bob:0", "root:web" ]; groupmap = "*:web";') as p:
        p.owned("zed", HERE["zed"])
        p.owned("range", 55555)
        p.owned("bob", HERE["bob"])
        p.owned("root", 0, 0)
        p.owned("alice", HERE["alice"], 0)
        p.sender.start()
        web = THERE["web"] + 100
        p.expect(zed=(THERE["web"], web), range=(57000, web), bob=(0, web), root=(THERE["web"], web), alice=(THERE["alice"], web))


def one_for_all(place):
    with Pair(place, module="uid = 56100; gid = 56200;") as p:
        p.owned("alice", HERE["alice"])
        p.sender.start()
        p.expect(alice=(56100, 56200))


def a_name_that_is_not_there(place):
    p = Pair(place, module='usermap = "alice:nobody-of-that-name";')
    p.receiver.daemon.start(wait=False)
    try:
        status = await_fact(lambda: (lambda s: s.get("reason") and s)(p.receiver.daemon.status()["receiver"]), 20, "it says why")
        expect("usermap: there is no user nobody-of-that-name here" in status["reason"], status["reason"])
    finally:
        p.receiver.daemon.stop()
    for wrong in ("alice", "a:b:c", "9-1:2", ":x", "x:"):
        config = open(p.receiver.daemon.config_path).read().replace("alice:nobody-of-that-name", wrong)
        put(place + "/wrong.conf", config)
        done = run(BINARY, "--check", place + "/wrong.conf", check=False)
        expect(done.returncode != 0 and b"usermap" in done.stdout + done.stderr, "%s: %s" % (wrong, done.stdout + done.stderr))


def equal_numbers(place):
    """All is there already, by number: a digest of it is the same at both ends, and an owner is another."""
    for i, who in enumerate((range(20), (19,))):  # everywhere, or where it is learnt when all was asked for
        with Pair("%s/%d" % (place, i)) as p:
            for d in range(20):
                os.makedirs("%s/d/%02d" % (p.source, d))
                user = HERE["alice" if d in who else "bob"]
                for name in ("f", "link"):
                    p.owned("d/%02d/%s" % (d, name), user)
            for base, _, files in os.walk(p.source, topdown=False):
                for name in files + ["."]:
                    os.utime(os.path.join(base, name), (10 ** 9, 10 ** 9), follow_symlinks=False)
            run("cp", "-a", p.source + "/.", p.target)
            p.sender.start()
            for d in range(20):
                user = THERE["alice" if d in who else "bob"]
                p.expect(**{"d/%02d/%s" % (d, name): (user, user + 100) for name in ("f", "link")})
            p.sender.client("--sync-now")
            p.expect(**{"d/19/f": (THERE["alice"], THERE["alice"] + 100)})


def digests(place):
    """By the page: where names have the same numbers, digests tell; where one has not, they do not, from the moment it is told on."""
    with Pair(place) as p:
        p.sender.process = None

        def sender(*names, features=SAME | NAMES):
            s = tcp.Sender(p.receiver.port).greet(flags=tcp.FLAGS & ~(1 << 16) | tcp.OWNER | tcp.GROUP, features=features)
            s.asked, s.listed, listing = [], [], s.listing
            s.listing = lambda request, path: (s.listed.append((request, path)), listing(request, path))
            for n in names:
                s.frame(20, n)
            for d in ("", "d", "d/e"):
                s.add(d, tcp.DIR, mode=0o755)
            s.add("d/f", content=b"x", uid=7, gid=7)
            return s

        def compare(s, asked, listed, user):
            expect(s.work([""], kind=tcp.RECONCILE) == {}, "done")
            expect([path for path, _ in s.asked] == asked and all(same for _, same in s.asked), s.asked)
            expect([path for _, path in s.listed] == listed, s.listed)
            p.expect(**{"d/f": (user, 7)})
            s.close()
        every = [b"", b"d", b"d/e"]
        sender(features=0).work([""], kind=tcp.RECONCILE)
        p.expect(**{"d/f": (7, 7)})
        compare(sender(), every, [], 7)
        compare(sender(name(1, 55002, "bob"), name(2, 7, "nobody knows that name")), every, [], 7)
        late, numbers = sender(), {}
        unless = late.unless

        def tell(fields, request, path, its):
            numbers[path] = request
            if path == b"d":
                late.frame(20, name(1, 7, "alice"))
            unless(fields, request, path, its)
        late.unless = tell
        compare(late, [b"", b"d"], [b"d", b"d/e"], THERE["alice"])
        expect(late.listed[0] == (numbers[b"d"], b"d"), "the same request")
        compare(sender(name(1, 7, "alice")), [], every, THERE["alice"])


def name(kind, number, text):
    return struct.pack("<BI", kind, number) + tcp.counted(text)


def frames_that_break_rules(place):
    with Pair(place) as p:
        flags = tcp.FLAGS & ~(1 << 16) | tcp.OWNER | tcp.GROUP
        # (features, flags, frames)
        for features, options, frames in ((0, flags, [name(1, 5, "a")]), (NAMES, flags | 1 << 16, [name(1, 5, "a")]),
                                          (NAMES, flags, [name(3, 5, "a")]), (NAMES, flags, [name(1, 0, "a")]),
                                          (NAMES, flags, [name(1, 5, "")]), (NAMES, flags, [name(1, 5, "a:b")]),
                                          (NAMES, flags, [name(1, 5, "a\n")]), (NAMES, flags, [name(1, 5, "x" * 256)]),
                                          (NAMES, flags, [name(2, 5, "a")] * 2),
                                          (NAMES, flags, [name(1, n, "bob") for n in range(1, 4098)])):
            s = tcp.Sender(p.receiver.port).greet(flags=options, features=features)
            for f in frames:
                s.frame(20, f)
            expect(s.ended(), "%x %s" % (features, frames[0]))
        s = tcp.Sender(p.receiver.port).greet(flags=flags, features=NAMES)
        s.frame(20, name(1, 7, "alice"))
        s.frame(20, name(2, 7, "nobody knows that name"))
        s.add("f", content=b"x", uid=7, gid=7)
        expect(s.work(["f"]) == {}, "done")
        p.expect(f=(THERE["alice"], 7))
        p.sender.process = None


if os.geteuid() != 0 or run("unshare", "-m", "true", check=False).returncode != 0:
    skip("needs root, and mounts of its own")
main([by_name, by_number, tables, one_for_all, a_name_that_is_not_there, equal_numbers, digests, frames_that_break_rules])
