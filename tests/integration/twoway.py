#!/usr/bin/env python3
# TIMEOUT: 400
"""What one end of a bidirectional rsyncssh sync does to a target whose other daemon does not run, so that the target is what the
test makes of it: looks, guarded deletions, edits that slip in, conflict copies, renames, damaged archives, odd names."""
import glob
import os
import shutil
import stat
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, Failure, Receiver, Skipped, Sshd, await_fact, main, run, tree

S = 10 ** 9
TRANSPORT = "rsyncssh"  # twoway_direct.py, twoway_sftp.py and twoway_tcp.py have others


class Pair:
    def __init__(self, place, more="", rsync="archive = true;", sshd_config="", init=None):
        self.a, self.b = place + "/a", place + "/b it's"
        for d in (self.a, self.b):
            os.mkdir(d)
        if init:
            init(self)
        self.sshd = self.receiver = None
        where = 'target = "%s";' % self.b
        if TRANSPORT in ("rsyncssh", "sftp"):
            self.sshd = Sshd(place + "/sshd")
            with open(place + "/sshd/sshd_config", "a") as f:
                f.write(sshd_config + "Subsystem sftp internal-sftp\n" * (TRANSPORT == "sftp"))
            self.sshd.start()
            where = 'host = "127.0.0.1"; targetdir = "%s"; %s' % (self.b, self.sshd.section())
        if TRANSPORT == "tcp":
            self.receiver = Receiver(place + "/receiver", self.b).start()
            where = self.receiver.section()
        self.daemon = Daemon(place + "/d", '''sync = ( { name = "x"; transport = "%s"; source = "%s"; %s
          bidirectional = true; delay = 0.05; retryMin = 0.05; %s rsync = { %s }; } );
        ''' % (TRANSPORT, self.a, where, more, rsync))
        self.daemon.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is not None:
                print("# " + self.daemon.tail(60).replace("\n", "\n# "))
                if self.receiver:
                    print("# " + self.receiver.daemon.tail(30).replace("\n", "\n# "))
            self.daemon.stop()
        finally:
            for end in (self.sshd, self.receiver):
                if end:
                    end.stop()

    def wait(self):
        return self.daemon.wait(30, check=False)

    def counter(self, name):
        return self.daemon.sync("x")["counters"][name]

    def settled(self):
        """Until nothing waits, not even for the other host."""
        def idle():
            s = self.daemon.sync("x")
            return s["pending"] == 0 and s["in_flight"] == 0
        self.wait()
        await_fact(idle, 30, "nothing waits")

    def own(self):
        return glob.glob(self.b.replace("'", "[']") + "/.fansyncd-*")


def put(path, text, at=None):
    with open(path + ".new~", "wb") as f:
        f.write(text)
    if at is not None:
        os.utime(path + ".new~", ns=(at, at), follow_symlinks=False)
    os.rename(path + ".new~", path)


def get(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return None


def expect(got, want, what):
    if got != want:
        raise Failure("%s: %r, not %r" % (what, got, want))


def equal(p, what):
    a, b = tree(p.a), tree(p.b)
    for t in (a, b):
        for facts in t.values():
            if stat.S_ISDIR(facts["kind"]):
                facts["mtime"] = 0  # each side's own
            elif TRANSPORT == "sftp":
                facts["mtime"] //= S
    if a != b:
        raise Failure("%s: %r" % (what, [(k, a.get(k), b.get(k)) for k in sorted(set(a) | set(b)) if a.get(k) != b.get(k)][:4]))


def filled(p):
    os.makedirs(p.a + "/d/e")
    for name in ("f", "g", "d/x", "d/y", "d/e/z"):
        put("%s/%s" % (p.a, name), b"first " + name.encode())


def sends_and_is_silent(place):
    with Pair(place, init=filled) as p:
        equal(p, "at the start")
        before = {k: p.counter(k) for k in ("processes", "files")}
        put(p.a + "/f", b"second")
        p.wait()
        equal(p, "after an edit")
        expect(p.counter("files"), before["files"] + 1, "files sent")
        # Equal already: nothing is sent.
        now = time.time_ns()
        put(p.b + "/g", b"both", now)
        put(p.a + "/g", b"both", now)
        p.wait()
        equal(p, "equal by itself")
        expect(p.counter("files"), before["files"] + 1, "files sent")
        os.unlink(p.a + "/f")
        shutil.rmtree(p.a + "/d")
        p.wait()
        equal(p, "after deletions")
        expect(p.own(), [], "left behind")
        expect(p.counter("conflicts"), 0, "conflicts")


def theirs_is_left_alone(place):
    """What only the target changed is its host's to send, whatever happens here."""
    with Pair(place, init=filled) as p:
        put(p.b + "/f", b"theirs")
        os.unlink(p.b + "/g")
        put(p.b + "/new", b"new there")
        sent = p.counter("files")
        os.utime(p.a + "/d/x")  # anything
        p.daemon.client("--sync-now", check=False)
        p.settled()
        expect(get(p.b + "/f"), b"theirs", "f")
        expect(get(p.b + "/g"), None, "g")
        expect(get(p.b + "/new"), b"new there", "new")
        expect(get(p.a + "/f"), b"first f", "the source")
        expect(p.counter("deletions"), 0, "deletions")
        if p.counter("files") > sent + 1:
            raise Failure("files were sent")


def a_deletion_is_of_what_was_seen(place):
    with Pair(place, init=filled) as p:
        put(p.a + "/stays", b"an empty source is guarded")
        put(p.b + "/f", b"edited there, unseen here")
        put(p.b + "/d/e/unseen", b"x")
        os.unlink(p.a + "/f")
        os.unlink(p.a + "/g")
        shutil.rmtree(p.a + "/d")
        p.settled()
        expect(get(p.b + "/f"), b"edited there, unseen here", "an edited file")
        expect(get(p.b + "/g"), None, "a file as it was")
        expect(get(p.b + "/d/e/unseen"), b"x", "an unseen file below a deleted directory")
        expect(sorted(os.listdir(p.b + "/d")), ["e"], "the rest of that directory")
        expect(sorted(os.listdir(p.b + "/d/e")), ["unseen"], "the rest of that directory")
        if p.counter("conflicts") < 1:
            raise Failure("no conflict was counted")
        expect(p.own(), [], "left behind")


def put_away_is_not_deleted(place):
    """The source is a target as well. What another host has put away there for a moment, to look at what it caught, is still there."""
    with Pair(place, init=filled) as p:
        private = p.a + "/.fansyncd-other.fansyncd~tmp"
        os.makedirs(private + "/b")
        os.rename(p.a + "/f", private + "/b/f")
        await_fact(lambda: "only put away" in p.daemon.log(), 30, "it is looked for")
        expect(get(p.b + "/f"), b"first f", "put away at the source")
        p.daemon.client("--sync-now", check=False)
        expect(get(p.b + "/f"), b"first f", "put away at the source, and all compared")
        os.rename(private + "/b/f", p.a + "/f")
        shutil.rmtree(private)
        p.settled()
        equal(p, "back again")
        os.makedirs(private + "/b")
        os.rename(p.a + "/g", private + "/b/g")
        shutil.rmtree(private)
        p.settled()
        expect(get(p.b + "/g"), None, "deleted by way of that directory")


def the_newer_wins(place):
    with Pair(place, more="conflictCopies = true;", init=filled) as p:
        now = time.time_ns()
        put(p.b + "/f", b"theirs, older", now - 5 * S)
        put(p.a + "/f", b"ours, newer", now)
        p.settled()
        expect(get(p.b + "/f"), b"ours, newer", "the newer one")
        copies = [n for n in os.listdir(p.b) if n.startswith("f.conflict-")]
        expect([get(p.b + "/" + n) for n in copies], [b"theirs, older"], "the loser's copy")
        put(p.b + "/g", b"theirs, newer by a nanosecond", now + 1)
        put(p.a + "/g", b"ours", now)
        p.settled()
        expect(get(p.b + "/g"), b"theirs, newer by a nanosecond", "the newer one")
        expect(get(p.a + "/g"), b"ours", "the source is never written to")
        expect(p.counter("conflicts"), 2, "conflicts")
        # It has yielded often enough, and asked: to the other end that is an edit.
        expect(os.stat(p.b + "/g").st_mtime_ns, now + 2, "the mtime that asks")
        log = p.daemon.log()
        for word in ("conflict: f: here a file of 11 bytes", "ours wins", "conflict: g: ", "the target's wins"):
            if word not in log:
                raise Failure("not in the log: %s" % word)


SLIP = '''#!/bin/sh
if [ -e "%(place)s/slip" ]; then . "%(place)s/slip"; rm -f "%(place)s/slip"; fi
exec rsync "$@"
'''


def slipping_in(place, text, conflict_copies):
    """`text` runs at the target when the look is over and before rsync begins."""
    with open(place + "/rsync", "w") as f:
        f.write(SLIP % {"place": place})
    os.chmod(place + "/rsync", 0o755)
    p = Pair(place, more="conflictCopies = %s;" % ("true" if conflict_copies else "false"), init=filled,
             rsync='archive = true; rsync_path = "%s/rsync";' % place)
    with open(place + "/slip~", "w") as f:
        f.write("cd '%s'\n%s\n" % (p.b.replace("'", "'\\''"), text))
    os.rename(place + "/slip~", place + "/slip")
    return p


def a_newer_edit_slips_in(place):
    with slipping_in(place, "printf slipped >f; touch -d @4000000000 f", False) as p:
        put(p.a + "/f", b"ours")
        p.settled()
        await_fact(lambda: p.counter("conflicts") >= 1, 10, "a conflict")
        expect(get(p.b + "/f"), b"slipped", "the newer edit")
        expect(p.own(), [], "left behind")


def an_older_edit_slips_in(place):
    with slipping_in(place, "printf slipped >f; touch -d @1000000000 f", True) as p:
        put(p.a + "/f", b"ours")
        p.settled()
        expect(get(p.b + "/f"), b"ours", "the newer edit")
        copies = [n for n in os.listdir(p.b) if n.startswith("f.conflict-")]
        expect([get(p.b + "/" + n) for n in copies], [b"slipped"], "the loser's copy")
        expect(p.counter("conflicts"), 1, "conflicts")
        expect(p.own(), [], "left behind")


def the_source_slips_away(place):
    """rsync reads a file later than it lists it. What has been replaced in between, by an older edit even, never appears at the
    target with the time of the one and the content of the other."""
    now = time.time_ns()
    with Pair(place, init=filled, rsync='archive = true; bwlimit = 1000;') as p:
        os.mkdir(place + "/n")
        with open(place + "/n/a", "wb") as f:  # holds rsync up between its list and the next file
            f.write(os.urandom(1500000))
        put(place + "/n/f", b"the newer", now)
        os.rename(place + "/n", p.a + "/n")
        await_fact(lambda: glob.glob(p.b.replace("'", "[']") + "/.fansyncd-*/s/n/.a.*"), 20, "the first file on its way")
        put(p.a + "/n/f", b"the older", now - 100 * S)
        seen = set()

        def arrived():
            try:
                with open(p.b + "/n/f", "rb") as f:
                    seen.add((f.read(), os.fstat(f.fileno()).st_mtime_ns))
            except FileNotFoundError:
                pass
            return (b"the older", now - 100 * S) in seen
        await_fact(arrived, 30, "what the source has now")
        p.settled()
        equal(p, "afterwards")
        expect(seen - {(b"the newer", now)}, {(b"the older", now - 100 * S)}, "seen at the target")


def a_directory_over_a_file(place):
    """The other host has made a file of a directory in which something is new here: a directory wins, and the file is kept beside."""
    with Pair(place, more="conflictCopies = true;", init=filled) as p:
        shutil.rmtree(p.b + "/d")
        put(p.b + "/d", b"a file now")
        put(p.a + "/d/e/new", b"new here")
        await_fact(lambda: os.path.isdir(p.b + "/d/e") and get(p.b + "/d/e/new") == b"new here", 20, "the new one")
        p.settled()
        copies = [n for n in os.listdir(p.b) if n.startswith("d.conflict-")]
        expect([get(p.b + "/" + n) for n in copies], [b"a file now"], "the loser's copy")
        if p.counter("conflicts") == 0:
            raise Failure("no conflict was told")


def never_still(place):
    """What changes all the time arrives all the same."""
    with Pair(place, init=filled, rsync='archive = true; bwlimit = 500;') as p:
        with open(p.a + "/f", "wb") as f:
            f.write(os.urandom(200000))

        def written():
            with open(p.a + "/f", "ab") as f:
                f.write(b"more")
            return os.path.getsize(p.b + "/f") >= 200000
        await_fact(written, 60, "some state of a file that is being written")
        p.settled()
        equal(p, "when it is still")


def an_older_one_is_restored(place):
    """It waits for a newer one that might be put back, and then is sent."""
    with Pair(place, init=filled) as p:
        before = p.counter("retries")
        put(p.a + "/f", b"from a backup", 1000 * S)
        p.settled()
        equal(p, "restored")
        if p.counter("retries") == before:
            raise Failure("sent at once")


def what_a_killed_run_left(place):
    with Pair(place, init=filled) as p:
        put(p.a + "/f", b"first f again")
        p.wait()
        own = p.b + "/" + os.path.basename(find_own(p))
        p.daemon.stop()
        # Put aside to be deleted, and not deleted; replaced, and not looked at: newer, older, as agreed.
        os.makedirs(own + "/b/d")
        os.makedirs(own + "/t")
        put(own + "/t/.f.AbCdEf", b"half a file")
        os.rename(p.b + "/d/x", own + "/b/d/x")
        put(own + "/b/f", b"an unseen edit", time.time_ns() + 5 * S)
        put(own + "/b/g", b"an old one", 10 * S)
        p.daemon.start(wait=False)
        p.settled()
        expect(get(p.b + "/d/x"), b"first d/x", "what was put aside")
        expect(get(p.b + "/f"), b"an unseen edit", "the newer one")
        expect(get(p.b + "/g"), b"first g", "the older one")
        expect(p.own(), [], "left behind")


def find_own(p):
    """Its name, seen while it is there: a file is large enough to be caught at it."""
    with open(p.a + "/large", "wb") as f:
        f.truncate(300 << 20)
    found = await_fact(p.own, 20, "the private directory")
    os.unlink(p.a + "/large")
    p.settled()
    return found[0]


def odd_names(place):
    names = [b"plain", b";", b"a\nb", b"-rf", b"--help", b"it's", b'"$HOME" `id`', b"\xff\xfe", b"*?[x]", b"back\\slash\\", b" lead",
             b"(", b"!", b"~", b"#", b"$(touch pwned)", b"semi;colon|&", b"\x01\x1b[31m", b"tab\t", b"x" * 255]
    with Pair(place) as p:
        root = os.fsencode(p.a)
        os.mkdir(os.path.join(root, b"d\n'"))
        for d in (root, os.path.join(root, b"d\n'")):
            for n in names:
                with open(os.path.join(d, n), "wb") as f:
                    f.write(n)
            os.symlink(b"to\n" + names[1], os.path.join(d, b"link\n"))
        p.settled()
        equal(p, "made")
        for n in names:
            with open(os.path.join(root, n), "ab") as f:
                f.write(b" more")
        p.settled()
        equal(p, "edited")
        p.daemon.client("--sync-now")
        expect(p.counter("conflicts"), 0, "conflicts")
        for n in names[::2]:
            os.unlink(os.path.join(root, n))
        shutil.rmtree(os.path.join(root, b"d\n'"))
        p.settled()
        equal(p, "deleted")
        sent = p.counter("files")
        p.daemon.client("--sync-now")
        expect(p.counter("files"), sent, "files sent by a comparison of equals")


def renames(place):
    with Pair(place, init=filled) as p:
        sent = p.counter("files")
        os.rename(p.a + "/d", p.a + "/moved")
        os.rename(p.a + "/f", p.a + "/moved/f2")
        p.settled()
        equal(p, "renamed")
        expect(p.counter("files"), sent, "files sent for a rename")
        if p.counter("renames") < 1:
            raise Failure("no rename was carried")
        put(p.b + "/g", b"edited there")
        os.rename(p.a + "/g", p.a + "/g2")
        p.settled()
        expect(get(p.b + "/g"), b"edited there", "the old name, edited there")
        expect(get(p.b + "/g2"), b"first g", "the new name")


def types_change(place):
    with Pair(place, init=filled) as p:
        os.unlink(p.a + "/f")
        os.mkdir(p.a + "/f")
        put(p.a + "/f/in", b"in")
        shutil.rmtree(p.a + "/d")
        os.symlink("f", p.a + "/d")
        os.unlink(p.a + "/g")
        os.mkfifo(p.a + "/g")
        p.settled()
        equal(p, "other types")
        shutil.rmtree(p.a + "/f")
        put(p.a + "/f", b"a file again")
        put(p.b + "/f/unseen", b"x")
        await_fact(lambda: [f for f in p.daemon.sync("x")["failures"] if f["path"] == "f"], 20, "the file waits, and says so")
        expect(get(p.b + "/f/unseen"), b"x", "unseen in a directory that is a file here")
        expect(get(p.b + "/f/in"), None, "what both had in it")
        await_fact(lambda: not p.own(), 10, "nothing is left behind")


def archive_of(p):
    return p.daemon.place + "/state/archive/x.db"


def archives(place):
    """Damaged or gone while files came and went: nothing is deleted, the newer one wins."""
    with Pair(place, init=filled) as p:
        for n, spoil in enumerate((lambda: os.unlink(archive_of(p)), lambda: put(archive_of(p), b"no database " * 1000))):
            p.daemon.stop()
            now = time.time_ns()
            for name in glob.glob(archive_of(p) + "-*"):
                os.unlink(name)
            spoil()
            put(p.a + "/f", b"ours is newer %d" % n, now)
            put(p.b + "/f", b"theirs", now - S)
            put(p.a + "/g", b"ours", now - S)
            put(p.b + "/g", b"theirs is newer %d" % n, now)
            put(p.b + "/d/only there", b"x")
            p.daemon.start(wait=False)
            p.settled()
            expect(get(p.b + "/f"), b"ours is newer %d" % n, "the newer one")
            expect(get(p.b + "/g"), b"theirs is newer %d" % n, "the newer one")
            expect(get(p.b + "/d/only there"), b"x", "what only the target has")
            expect(p.counter("deletions"), 0, "deletions")
        if not os.path.exists(archive_of(p) + ".damaged"):
            raise Failure("the damaged archive was not kept")
        mode = stat.S_IMODE(os.stat(os.path.dirname(archive_of(p))).st_mode)
        expect(mode, 0o700, "the archives' directory")


def down_and_up(place):
    """While it was down: edits, deletions here and there. Each end keeps its own, ours travels."""
    def many(p):
        for i in range(300):
            os.makedirs("%s/%d" % (p.a, i % 20), exist_ok=True)
            put("%s/%d/%d" % (p.a, i % 20, i), b"%d" % i)
    with Pair(place, init=many) as p:
        equal(p, "at the start")
        p.daemon.stop()
        for i in range(0, 100, 2):
            put("%s/%d/%d" % (p.a, i % 20, i), b"edited %d" % i)
        shutil.rmtree(p.a + "/1")
        os.rename(p.a + "/2", p.a + "/two")
        shutil.rmtree(p.b + "/3")
        put(p.b + "/4/104", b"theirs")
        put(p.b + "/1/unseen", b"theirs")
        p.daemon.start(wait=False)
        p.settled()
        expect(os.listdir(p.b + "/1"), ["unseen"], "a directory deleted here")
        expect(os.path.exists(p.b + "/3"), False, "a directory deleted there")
        expect(get(p.b + "/4/104"), b"theirs", "a file edited there")
        expect(get(p.b + "/4/4"), b"edited 4", "a file edited here")
        expect(os.path.exists(p.b + "/2"), False, "a directory renamed here")
        expect(sorted(os.listdir(p.b + "/two")), sorted(os.listdir(p.a + "/two")), "a directory renamed here")
        expect(p.counter("conflicts"), 0, "conflicts")


def too_many_deletions(place):
    def many(p):
        os.mkdir(p.a + "/d")
        for i in range(50):
            put("%s/d/%d" % (p.a, i), b"x")
        put(p.a + "/f", b"x")
    with Pair(place, more="maxDelete = 10;", init=many) as p:
        shutil.rmtree(p.a + "/d")
        p.wait()
        expect(len(os.listdir(p.b + "/d")), 50, "entries that may not be deleted")
        p.daemon.client("--sync-now", "--allow-delete", check=False)
        p.settled()
        expect(os.path.exists(p.b + "/d"), False, "the directory after --allow-delete")


def a_mount_below_is_gone(place):
    """Its directory is empty then: that is no deletion."""
    os.mkdir(place + "/probe")
    if os.geteuid() != 0 or run("mount", "-t", "tmpfs", "none", place + "/probe", check=False).returncode != 0:
        raise Skipped("may not mount")
    run("umount", place + "/probe")

    def mounted(p):
        os.mkdir(p.a + "/m")
        run("mount", "-t", "tmpfs", "none", p.a + "/m")
        put(p.a + "/m/f", b"on the other file system")
        put(p.a + "/g", b"g")
    with Pair(place, init=mounted) as p:
        try:
            expect(get(p.b + "/m/f"), b"on the other file system", "the mounted file")
            p.daemon.stop()
        finally:
            run("umount", p.a + "/m")
        os.unlink(p.a + "/g")
        p.daemon.start(wait=False)
        p.settled()
        expect(get(p.b + "/m/f"), b"on the other file system", "the file below what is not mounted")
        expect(get(p.b + "/g"), None, "a deleted file elsewhere")


def filtered(place):
    """Neither listed nor touched: what the rules exclude, on either side."""
    def some(p):
        for d in (p.a, p.b):
            os.makedirs(d + "/no/deep")
            os.makedirs(d + "/yes")
        put(p.a + "/yes/a.cnf", b"a")
        put(p.a + "/yes/a.txt", b"a")
        put(p.b + "/yes/b.txt", b"b")
        put(p.b + "/no/deep/c.cnf", b"c")
        os.chmod(p.b + "/no", 0)
    with Pair(place, init=some, more='filter = [ "+ /yes/", "+ *.cnf", "- **" ];') as p:
        expect(get(p.b + "/yes/a.cnf"), b"a", "an included file")
        expect(sorted(os.listdir(p.b + "/yes")), ["a.cnf", "b.txt"], "an included directory")
        shutil.rmtree(p.a + "/yes")
        p.settled()
        expect(os.listdir(p.b + "/yes"), ["b.txt"], "a deleted directory with an excluded file")
        os.chmod(p.b + "/no", 0o755)
        expect(get(p.b + "/no/deep/c.cnf"), b"c", "an excluded directory")


def busybox(place):
    """No GNU find, no fractions of seconds."""
    if shutil.which("busybox") is None:
        raise Failure("busybox is not installed")
    os.mkdir(place + "/bin")
    for name in ("mv", "ln", "rm", "mkdir", "rmdir", "stat", "readlink", "touch", "find"):
        with open("%s/bin/%s" % (place, name), "w") as f:
            f.write("#!/bin/sh\nexec busybox %s \"$@\"\n" % name)
        os.chmod("%s/bin/%s" % (place, name), 0o755)
    with open(place + "/bin/find", "w") as f:
        f.write("#!/bin/sh\necho 'find: unrecognized: -printf' >&2\nexit 1\n")
    with Pair(place, init=filled, sshd_config="SetEnv HOME=%s PATH=%s/bin:%s\n" % (place, place, os.environ["PATH"])) as p:
        equal(p, "at the start")
        put(p.a + "/f", b"second, longer")
        put(p.a + "/new\nname", b"new")
        os.unlink(p.a + "/g")
        shutil.rmtree(p.a + "/d/e")
        os.rename(p.a + "/d", p.a + "/d2")
        p.settled()
        equal(p, "changed")
        put(p.b + "/f", b"theirs", time.time_ns() + 10 * S)
        put(p.a + "/f", b"ours is older")
        p.settled()
        expect(get(p.b + "/f"), b"theirs", "the newer one")
        p.daemon.client("--sync-now", check=False)
        expect(p.own(), [], "left behind")


def refused_options(place):
    for key in ("inplace = true", "update = true", "times = false", "chmod = \"a+r\"", "copy_links = true", "dry_run = true"):
        d = Daemon(place + "/" + key.split()[0], 'sync = ( { transport = "rsyncssh"; source = "/etc"; host = "h"; targetdir = "/x"; '
                   'bidirectional = true; rsync = { %s; }; } );' % key)
        done = d.client("--check", check=False)
        if done.returncode == 0 or b"bidirectional" not in done.stdout + done.stderr:
            raise Failure("%s is accepted: %r" % (key, done.stdout + done.stderr))


if __name__ == "__main__":
    main([sends_and_is_silent, theirs_is_left_alone, a_deletion_is_of_what_was_seen, put_away_is_not_deleted, the_newer_wins, a_newer_edit_slips_in,
          an_older_edit_slips_in, the_source_slips_away, a_directory_over_a_file, never_still, an_older_one_is_restored,
          what_a_killed_run_left, odd_names, renames, types_change, archives, down_and_up,
          too_many_deletions, a_mount_below_is_gone, filtered, busybox, refused_options])
