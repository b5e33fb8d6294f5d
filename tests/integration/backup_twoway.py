#!/usr/bin/env python3
# TIMEOUT: 240
"""`backupDir` both ways: each host keeps what the other one replaced or deleted there, and no backup is ever mirrored. By
rsyncssh, where a shell at the target puts away, also: under which names, with which rights, and what can't be put away."""
import os
import shutil
import stat
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import BINARY, Daemon, Sshd, await_fact, dirs, expect, main, put, run


def section(name, source, target, sshd=None, more='backupDir = ".old/%Y-%m-%d";'):
    where = ('transport = "rsyncssh"; host = "127.0.0.1"; targetdir = "%s"; %s rsync = { archive = true; };'
             % (target, sshd.section()) if sshd else 'transport = "direct"; target = "%s";' % target)
    return ('{ name = "%s"; %s source = "%s"; bidirectional = true; watcher = "inotify"; delay = 0.05; retryMin = 0.05; %s }'
            % (name, where, source, more))


def kept(root):
    """Contents by path, without the day and what tells versions apart."""
    found = []
    for place, _, files in os.walk(root + "/.old"):
        for name in files:
            with open(os.path.join(place, name)) as f:
                found.append((os.path.relpath(os.path.join(place, name), root + "/.old").split("/", 1)[1].split("~")[0], f.read()))
    return sorted(found)


def names(root):
    return sorted(n for n in os.listdir(root) if n != ".old" and not n.startswith(".fansyncd-"))


def both(a, b, path, text):
    """Whether both ends have that content (None: nothing) by now."""
    def content(root):
        try:
            with open(root + "/" + path) as f:
                return f.read()
        except FileNotFoundError:
            return None
    return content(a) == content(b) == text


def each_end_keeps(place, sshd=None):
    a, b = dirs(place, "a", "b")
    daemon = Daemon(place, "sync = ( %s, %s );\n" % (section("ab", a, b, sshd), section("ba", b, a, sshd))).start()
    try:
        put(a + "/f", "first")
        os.mkdir(a + "/d")
        put(a + "/d/g", "in a directory")
        await_fact(lambda: both(a, b, "f", "first") and both(a, b, "d/g", "in a directory"), 60, "mirrored")
        daemon.wait(check=False)
        expect(kept(a) == kept(b) == [], "nothing was replaced: %s %s" % (kept(a), kept(b)))
        put(a + "/f", "second, by a")
        await_fact(lambda: both(a, b, "f", "second, by a"), 60, "changed by a")
        daemon.wait(check=False)
        put(b + "/f", "third version, by b")
        await_fact(lambda: both(a, b, "f", "third version, by b"), 60, "changed by b")
        daemon.wait(check=False)
        shutil.rmtree(b + "/d")
        await_fact(lambda: names(a) == names(b) == ["f"], 60, "removed by b")
        daemon.wait(check=False)
        expect(kept(b) == [("f", "first")], "b keeps what a replaced: %s" % kept(b))
        expect(kept(a) == [("d/g", "in a directory"), ("f", "second, by a")], "a keeps what b replaced: %s" % kept(a))
        daemon.client("--sync-now", check=False)
        expect(len(kept(a)) == 2 and len(kept(b)) == 1, "a comparison leaves them alone: %s %s" % (kept(a), kept(b)))
    finally:
        daemon.stop()


def each_end_keeps_its_own(place):
    each_end_keeps(place)


class Remote:
    """One end of a sync by rsyncssh, whose other daemon does not run."""

    def __init__(self, place, rsync="archive = true;"):
        self.a, self.b = dirs(place, "a", "b it's")
        self.sshd = Sshd(place + "/sshd").start()
        text = section("x", self.a, self.b, self.sshd).replace("archive = true;", rsync)
        self.daemon = Daemon(place, "sync = ( %s );\n" % text).start()

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.daemon.stop()
        self.sshd.stop()

    def sync(self):
        self.daemon.wait(60)

    def days(self):
        """Paths below the directories of days, without them."""
        found = []
        for place, below, files in os.walk(self.b + "/.old"):
            found += [os.path.relpath(os.path.join(place, n), self.b + "/.old").split("/", 1)[1] for n in
                      files + [d for d in below if os.path.islink(os.path.join(place, d))]]
        return sorted(found)


def each_end_keeps_its_own_by_rsyncssh(place):
    sshd = Sshd(place + "/sshd").start()
    try:
        each_end_keeps(place, sshd)
    finally:
        sshd.stop()


def names_and_rights_by_rsyncssh(place):
    long = "n" * 255
    with Remote(place) as r:
        os.makedirs(r.a + "/secret/deep", mode=0o700)
        os.chmod(r.a + "/secret", 0o710)
        for name in ("f", long, "secret/deep/f", "new\nline", "-n ' $(x)"):
            put(r.a + "/" + name, "first")
        os.symlink("nowhere", r.a + "/link")
        os.mkfifo(r.a + "/fifo")
        r.sync()
        for version in "second", "third, of another size":
            for name in ("f", long, "secret/deep/f", "new\nline", "-n ' $(x)"):
                put(r.a + "/" + name, version)
            r.sync()
        os.unlink(r.a + "/link")
        os.unlink(r.a + "/fifo")
        shutil.rmtree(r.a + "/secret")
        r.sync()
        found = r.days()
        for name, n in ("f", 2), ("secret/deep/f", 3), ("new\nline", 2), ("-n ' $(x)", 2), ("link", 1), ("fifo", 1):
            expect(len([x for x in found if x.split("~")[0] == name]) == n, "%d of %r: %s" % (n, name, found))
        expect(sorted(len(x) > 200 and x.rstrip("0123456789-.~n") == "" and (x == long or "~" in x) for x in found).count(True) == 2,
               "a long name has room for the time: %s" % found)
        day = r.b + "/.old/" + os.listdir(r.b + "/.old")[0]
        expect(stat.S_IMODE(os.stat(day + "/secret").st_mode) == 0o710 and stat.S_IMODE(os.stat(day + "/secret/deep").st_mode) == 0o700,
               "directories as they were")
        expect(os.readlink(day + "/link") == "nowhere" and stat.S_ISFIFO(os.stat(day + "/fifo").st_mode), "links and pipes")
        expect({n for n in os.listdir(r.b) if n.startswith(".fansyncd-")} == set(), "nothing is left")
        # A file where a directory is in the backup, and the reverse.
        os.unlink(r.a + "/f")
        os.mkdir(r.a + "/f")
        put(r.a + "/f/below", "first")
        r.sync()
        put(r.a + "/f/below", "second")
        r.sync()
        expect("f/below" in r.days(), "beside the file of that name: %s" % r.days())


def what_rsync_itself_replaces(place):
    """Without permissions rsync puts files in place, and what it replaces goes on from where it puts that."""
    with Remote(place, "links = true; times = true;") as r:
        for name in "f", "g":
            put(r.a + "/" + name, "first")
        r.sync()
        for name in "f", "g":
            put(r.a + "/" + name, "second version")
        r.sync()
        os.unlink(r.a + "/g")
        r.sync()
        expect(sorted(x.split("~")[0] for x in r.days()) == ["f", "g", "g"], "%s" % r.days())
        with open(r.b + "/f") as f:
            expect(f.read() == "second version", "mirrored")


def what_cannot_be_put_away_stays(place):
    with Remote(place) as r:
        put(r.a + "/f", "first")
        put(r.a + "/gone", "still here")
        r.sync()
        put(r.b + "/.old", "in the way")
        put(r.a + "/f", "second")
        os.unlink(r.a + "/gone")
        await_fact(lambda: ".old" in str(r.daemon.sync("x")), 60, "told in the status")
        with open(r.b + "/f") as f, open(r.b + "/gone") as g:
            expect((f.read(), g.read()) == ("first", "still here"), "nothing is replaced or deleted")
        os.unlink(r.b + "/.old")
        r.sync()
        expect(both(r.a, r.b, "f", "second") and names(r.b) == ["f"], "then it goes on")
        expect(kept(r.b) == [("f", "first"), ("gone", "still here")], "put away: %s" % kept(r.b))


def without_a_date(place):
    """All versions in one directory; what needs a directory where a file was put away goes beside it, and not out of it."""
    for transport in "direct", "rsyncssh":
        here, = dirs(place, transport)
        a, b = dirs(here, "a", "b")
        sshd = Sshd(here + "/sshd").start() if transport == "rsyncssh" else None
        daemon = Daemon(here, "sync = ( %s );\n" % section("x", a, b, sshd, 'backupDir = ".old";')).start()
        try:
            put(a + "/stays")
            put(a + "/d", "a file")
            daemon.wait(60)
            os.unlink(a + "/d")
            daemon.wait(60)
            for text in "first", "second":
                os.makedirs(a + "/d", exist_ok=True)
                put(a + "/d/f", text)
                daemon.wait(60)
            expect(names(b) == ["d", "stays"], "outside of it: %s" % os.listdir(b))
            found = {}
            for path, _, files in os.walk(b + "/.old"):
                for name in files:
                    with open(os.path.join(path, name)) as f:
                        found[os.path.relpath(os.path.join(path, name), b + "/.old")] = f.read()
            expect(found.pop("d") == "a file" and list(found.values()) == ["first"], "put away: %s" % found)
            path, = found
            expect(path.startswith("~") and path.endswith("/d/f"), "beside it: %s" % path)
        finally:
            daemon.stop()
            if sshd:
                sshd.stop()


def one_that_would_bring_them_back_is_refused(place):
    a, b = dirs(place, "a", "b")
    path = place + "/bad.conf"
    put(path, "sync = (\n%s,\n%s );\n" % (section("ab", a, b), section("ba", b, a, more="")))
    done = run(BINARY, "--check", path, check=False)
    expect(done.returncode != 0 and b"bad.conf:" in done.stderr and b"where backups are put away" in done.stderr, "%r" % done.stderr)


main([each_end_keeps_its_own, each_end_keeps_its_own_by_rsyncssh, names_and_rights_by_rsyncssh, what_rsync_itself_replaces,
      what_cannot_be_put_away_stays, without_a_date, one_that_would_bring_them_back_is_refused])
