"""The rules of mirroring, each a test, for every transport alike: tests/contract/rules_*.py run them.

A rule changes a source and says when the target has to have it (`w.sync()`); what that does depends on the mode. "once": each
sync is a `fansyncd --sync-now` of its own, which compares everything. "live": a daemon runs, the first sync is its start, the
others are `--wait`. What a transport cannot do stands in FACTS; a rule that needs it then shows what happens instead, or is
reported as not applicable: nothing is left out in silence.
"""
import os
import random
import re
import shutil
import signal
import socket
import stat
import sys
import threading
import time

from fansync import (Daemon, Failure, Receiver, Sshd, await_fact, children, differences, expect, kill, run, tree,
                     whole_seconds)

# What a transport lacks of what the rules ask for.
FACTS = {
    "direct": {},
    "tcp": {},
    "rsync": {
        "rename": "a moved directory is sent again",
        "long_paths": "rsync takes no path beyond PATH_MAX",
        "looks_above": "rsync makes the directory, and does not say that all else in it is due: until all is compared",
        "read_only_trees": "rsync removes no read-only tree for an ordinary user",
    },
    "rsyncssh": {
        "long_paths": "rsync takes no path beyond PATH_MAX",
        "looks_above": "rsync makes the directory, and does not say that all else in it is due: until all is compared",
    },
    "sftp": {
        "long_paths": "SFTP names a file by its whole path, which the server's PATH_MAX bounds",
        "fractions": "SFTP keeps whole seconds",
        "nodes": "SFTP has no FIFOs, sockets and devices",
        "xattrs": "SFTP has no extended attributes and ACLs",
    },
}
NOBODY = 65534
BACKUP = 'backupDir = ".old/%Y-%m-%d";'
TEMP_SUFFIX = ".fansyncd~tmp"


class NotApplicable(Exception):
    """The transport's fact that a rule is about."""


class World:
    """A source, a target, and one sync between them."""

    def __init__(self, place, transport, mode, options="", more="", user=None, delay=0.02, backup=False):
        self.place, self.transport, self.mode, self.user = place, transport, mode, user
        self.source, self.target = place + "/source", place + "/target"
        os.makedirs(self.source)
        os.makedirs(self.target)
        prefix = ["setpriv", "--reuid=%d" % user, "--regid=%d" % user, "--clear-groups"] if user else []
        self.sshd = Sshd(place + "/sshd") if transport in ("rsyncssh", "sftp") else None
        if transport == "sftp":
            with open(place + "/sshd/sshd_config", "a") as f:
                f.write("Subsystem sftp internal-sftp\n")
        if self.sshd:
            self.sshd.start()
        self.receiver = (Receiver(place + "/receiver", self.target, prefix, user, module=BACKUP if backup else "").start()
                         if transport == "tcp" else None)
        if backup and transport != "tcp":
            more += BACKUP
        if self.sshd and user:  # who logs in as root, as whom this sshd runs
            os.chown(self.sshd.key, user, user)
        where = ('host = "%s127.0.0.1"; targetdir = "%s"; %s' % ("root@" if user else "", self.target, self.sshd.section()) if self.sshd
                 else self.receiver.section() + " compress = true;" if self.receiver else 'target = "%s";' % self.target)
        self.daemon = Daemon(place, 'sync = ( { name = "w"; transport = "%s"; source = "%s"; %s delay = %g; retryMin = 0.2; '
                             'watcher = "inotify"; rsync = { archive = true; %s }; %s } );\n'
                             % (transport, self.source, where, delay, options, more), prefix=prefix)
        self.running = False
        if user:
            for p in (place, self.source, self.target):
                os.chown(p, user, user)

    def lacks(self, fact):
        return FACTS[self.transport].get(fact)

    def at(self, path):
        return os.path.join(self.source if isinstance(path, str) else os.fsencode(self.source), path)

    def there(self, path):
        return os.path.join(self.target if isinstance(path, str) else os.fsencode(self.target), path)

    def own(self, path):
        if self.user:
            os.chown(path, self.user, self.user, follow_symlinks=False)

    def put(self, path, content=b"x", mode=None, mtime=None, base=None):
        full = os.path.join(base, path) if base else self.at(path)
        if not os.path.isdir(os.path.dirname(full)):
            os.makedirs(os.path.dirname(full))
            self.own(os.path.dirname(full))
        with open(full, "wb") as f:
            f.write(content if isinstance(content, bytes) else content.encode())
        self.own(full)
        if mode is not None:
            os.chmod(full, mode)
        if mtime is not None:
            os.utime(full, ns=(mtime, mtime))
        return full

    def read(self, path):
        with open(self.there(path), "rb") as f:
            return f.read()

    def sync(self, check=True):
        if self.mode == "once":
            return self.daemon.client("--sync-now", check=check)
        if not self.running:
            self.daemon.start(wait=False)
            self.running = True
        return self.daemon.wait(60, check=check)

    def compare_again(self, *args, check=True):
        """Everything is compared, in both modes."""
        return self.daemon.client("--sync-now", *args, check=check)

    def differences(self, skip_names=()):
        a, b = tree(self.source, skip_names), tree(self.target, skip_names)
        return differences(whole_seconds(a), whole_seconds(b)) if self.lacks("fractions") else differences(a, b)

    def equal(self, what, skip_names=()):
        found = self.differences(skip_names)
        if found:
            raise Failure("%s: not equal:\n  %s\n%s" % (what, "\n  ".join(found), self.daemon.tail(20)))

    def synced(self, what):
        self.sync()
        self.equal(what)

    def absent(self, path, what):
        expect(not os.path.lexists(self.there(path)), "%s: %s is still there" % (what, path))

    def counters(self):
        return self.daemon.sync("w")["counters"]

    def done(self):
        if self.running:
            self.daemon.stop()
        if self.sshd:
            self.sshd.stop()
        if self.receiver:
            self.receiver.stop()


def writes_same_time(path, content):
    """New content of the same length, under the same mtime."""
    st = os.stat(path)
    with open(path, "r+b") as f:
        f.write(content)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


# ---- the rules ----

def all_kinds_of_entries(make):
    w = make()
    w.put("file", "content", 0o640, 1234567890123456789)
    w.put("empty", "")
    w.put("dir/sub/deep", b"\0" * 70000, 0o400)
    w.put("suid", "x", 0o4755)
    os.makedirs(w.at("nothing/in/here"))
    os.chmod(w.at("nothing"), 0o750)
    os.mkdir(w.at("sticky"))
    os.chmod(w.at("sticky"), 0o1777)
    os.symlink("../somewhere/else", w.at("dir/link"))
    os.symlink("x" * 4000, w.at("longlink"))
    if not w.lacks("nodes"):
        os.mkfifo(w.at("fifo"), 0o622)
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(w.at("socket"))
    os.utime(w.at("nothing/in"), ns=(1, 10 ** 18 + 5))
    w.synced("all kinds")
    w.put("later/fifo.txt")
    if not w.lacks("nodes"):
        os.mkfifo(w.at("later/fifo"))
    os.symlink("fifo", w.at("later/link"))
    os.makedirs(w.at("later/a/b"))
    w.synced("made later")
    if w.lacks("nodes"):  # left out, and the rest is not held up
        os.mkfifo(w.at("later/pipe"))
        w.put("later/more")
        w.sync()
        expect(w.read("later/more") == b"x" and not os.path.lexists(w.there("later/pipe")), "beside a FIFO")


def devices_for_root(make):
    if os.geteuid() != 0:
        raise NotApplicable("devices are for root")
    w = make()
    if w.lacks("nodes"):
        raise NotApplicable(w.lacks("nodes"))
    try:
        os.mknod(w.at("null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        raise NotApplicable("no device can be made here")
    w.synced("a device")
    os.unlink(w.at("null"))
    os.mknod(w.at("null"), stat.S_IFCHR | 0o600, os.makedev(1, 5))
    w.sync()
    expect(os.lstat(w.there("null")).st_rdev == os.makedev(1, 5), "another device")


def any_bytes_in_names(make):
    w = make()
    names = [b"new\nline", b"\xff\xfe", b"-rf", b" lead", b"trail ", b"quote'\"", b"back\\slash", b"*?[a]", b"#c", b";c", b"..x",
             b".hidden", b"\x01\x7f", "ünïcödé".encode(), b"a:b", b"%s%n", b"~", b"$(x)`y`"]
    for n in names:
        w.put(b"top/" + n, n)
        w.put(b"top/d" + n + b"/" + n, n)
    w.synced("odd names")
    for n in names:
        w.put(b"top/" + n, n + n)
        shutil.rmtree(w.at(b"top/d" + n))
    w.synced("odd names changed and removed")


def names_of_full_length(make):
    w = make()
    w.put("n" * 255, "1")
    w.put("d" * 255 + "/" + "m" * 255, "1")
    w.put("ü" * 127 + "x", "1")
    w.synced("long names")
    w.put("n" * 255, "22")
    w.put("d" * 255 + "/" + "m" * 255, "22")
    w.put("ü" * 127 + "x", "22")
    w.synced("long names written again")


def paths_beyond_path_max(make):
    w = make()
    if w.lacks("long_paths"):
        raise NotApplicable(w.lacks("long_paths"))
    w.put("keep")
    fd = os.open(w.source, os.O_DIRECTORY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=fd)
        fd, old = os.open("d" * 200, os.O_DIRECTORY, dir_fd=fd), fd
        os.close(old)
    with open(os.open("deep", os.O_CREAT | os.O_WRONLY, 0o640, dir_fd=fd), "w") as f:
        f.write("down here")
    os.close(fd)
    w.sync()
    fd = os.open(w.target, os.O_DIRECTORY)
    for _ in range(30):
        fd, old = os.open("d" * 200, os.O_DIRECTORY, dir_fd=fd), fd
        os.close(old)
    with open(os.open("deep", os.O_RDONLY, dir_fd=fd)) as f:
        expect(f.read() == "down here", "the file at the end of a path of 6000 bytes")
    os.close(fd)
    run("rm", "-rf", w.at("d" * 200))
    w.sync()
    w.absent("d" * 200, "a path of 6000 bytes removed")


def types_change(make):
    w = make()

    def as_file(p):
        w.put(p, "file")

    def as_dir(p):
        w.put(p + "/in/side", "dir")

    def as_link(p):
        os.symlink("target", w.at(p))

    def as_fifo(p):
        os.mkfifo(w.at(p))

    kinds = [as_file, as_dir, as_link] + ([] if w.lacks("nodes") else [as_fifo])
    for a in kinds:
        for b in kinds:
            a("t/%s-%s" % (a.__name__, b.__name__))
    w.synced("before")
    for a in kinds:
        for b in kinds:
            p = w.at("t/%s-%s" % (a.__name__, b.__name__))
            shutil.rmtree(p) if a is as_dir else os.unlink(p)
            b("t/%s-%s" % (a.__name__, b.__name__))
    w.synced("after every kind became every other")


def directory_times_come_last(make):
    w = make()
    w.put("a/b/file", "1")
    for p in ("a/b", "a"):
        os.utime(w.at(p), ns=(10 ** 18, 10 ** 18))
    w.synced("old times of directories")
    w.put("a/b/file", "22")
    w.synced("a file written in an old directory")
    expect(os.stat(w.there("a/b")).st_mtime_ns == 10 ** 18, "the directory's time is the source's")
    os.unlink(w.at("a/b/file"))
    os.utime(w.at("a/b"), ns=(10 ** 18, 10 ** 18))
    w.synced("a file removed, the time put back")


def read_only_directories(make):
    if os.geteuid() != 0:
        raise NotApplicable("needs another user")
    w = make(user=NOBODY)
    if w.sshd:
        raise NotApplicable("the test's sshd logs its own user in")
    w.put("keep")
    w.put("ro/sub/file", "1")
    for p in ("ro/sub", "ro"):
        os.chmod(w.at(p), 0o555)
    w.synced("read-only directories")
    w.put("ro/sub/file", "22", mode=0o444)
    w.put("ro/new", "new")
    w.synced("changes in read-only directories")
    os.unlink(w.at("ro/sub/file"))
    w.synced("a removal in one")
    if w.lacks("read_only_trees"):
        raise NotApplicable(w.lacks("read_only_trees"))
    shutil.rmtree(w.at("ro"))
    w.synced("a read-only tree removed")


def owners_before_modes(make):
    if os.geteuid() != 0:
        raise NotApplicable("owners are for root")
    w = make()
    for n, mode in (("suid", 0o4755), ("sgid", 0o2755), ("plain", 0o644)):
        os.chown(w.put(n), 12345, 23456)
        os.chmod(w.at(n), mode)
    os.mkdir(w.at("dir"))
    os.chown(w.at("dir"), 1, 2)
    os.symlink("x", w.at("link"))
    os.chown(w.at("link"), 3, 4, follow_symlinks=False)

    def check(what):
        w.synced(what)
        for n in ("suid", "sgid", "plain", "dir", "link"):
            a, b = os.lstat(w.at(n)), os.lstat(w.there(n))
            expect((a.st_uid, a.st_gid, a.st_mode) == (b.st_uid, b.st_gid, b.st_mode), "%s: %s" % (what, n))
    check("owners")
    for n in ("suid", "sgid", "plain", "dir"):
        mode = stat.S_IMODE(os.stat(w.at(n)).st_mode)
        os.chown(w.at(n), 77, 88)
        os.chmod(w.at(n), mode)
    check("owners changed")


def equal_files_are_not_written(make):
    w = make()
    w.put("same", "x" * 1000)
    w.put("mode", "x")
    w.put("time", "x")
    os.symlink("to", w.at("link"))
    w.synced("first")
    before = {n: os.lstat(w.there(n)).st_ino for n in ("same", "mode", "link")}
    os.chmod(w.at("mode"), 0o600)
    os.utime(w.at("same"), ns=(5, os.stat(w.at("same")).st_mtime_ns))
    w.sync()
    w.compare_again()
    w.equal("modes changed")
    for n, ino in before.items():
        expect(os.lstat(w.there(n)).st_ino == ino, "%s was written again" % n)


def content_by_checksum(make):
    for option, caught in (("", False), ("checksum = true;", True)):
        w = make(option)
        w.put("f", "aaaa", mtime=10 ** 18)
        w.sync()
        w.put("f", "bbbb", mtime=10 ** 18, base=w.target)
        w.compare_again()
        expect((w.read("f") == b"aaaa") == caught, "checksum %s: %r" % (caught, w.read("f")))


def newer_on_the_target_stays(make):
    w = make("update = true;")
    w.put("f", "old", mtime=10 ** 18)
    w.sync()
    w.put("f", "newer there", mtime=2 * 10 ** 18, base=w.target)
    w.put("f", "new here", mtime=15 * 10 ** 17)
    w.sync()
    expect(w.read("f") == b"newer there", "update overwrote a newer file")
    w.compare_again()
    expect(w.read("f") == b"newer there", "update overwrote a newer file at a comparison")
    w.put("f", "newest", mtime=3 * 10 ** 18)
    w.sync()
    expect(w.read("f") == b"newest", "update left an older file")


def hard_links(make):
    w = make("hard_links = true;")

    def linked(*names):
        return len({os.lstat(w.there(n)).st_ino for n in names}) == 1

    w.put("a", "1")
    os.makedirs(w.at("d"))
    os.link(w.at("a"), w.at("d/b"))
    os.link(w.at("a"), w.at("c"))
    w.synced("linked")
    expect(linked("a", "d/b", "c"), "the names are one file")
    ino = os.stat(w.there("a")).st_ino
    w.compare_again()
    expect(linked("a", "d/b", "c") and os.stat(w.there("a")).st_ino == ino, "compared again")
    with open(w.at("c"), "wb") as f:
        f.write(b"changed through another name")
    w.synced("written through one name")
    expect(linked("a", "d/b", "c"), "still one file")
    os.unlink(w.at("c"))
    w.put("c", "on its own")
    w.synced("one name taken off")
    expect(linked("a", "d/b") and not linked("a", "c"), "a file of its own")


def holes_stay_holes(make):
    w = make("sparse = true;")
    with open(w.at("sparse"), "wb") as f:
        f.write(b"head")
        f.seek(8 << 20)
        f.write(b"middle")
        f.truncate(24 << 20)
    if os.stat(w.at("sparse")).st_blocks > 4096:
        raise NotApplicable("no holes on this file system")
    w.synced("holes")
    expect(os.stat(w.there("sparse")).st_blocks < 4096, "%d blocks" % os.stat(w.there("sparse")).st_blocks)


def extended_attributes(make):
    w = make("xattrs = true; acls = true;")
    if w.lacks("xattrs"):
        done = w.daemon.client("--check", check=False)
        expect(done.returncode != 0 and b"acls" in done.stderr, "refused by --check: %s" % done.stderr)
        raise NotApplicable(w.lacks("xattrs"))
    f = w.put("f")
    try:
        os.setxattr(f, "user.one", b"1")
        os.setxattr(f, "user.two", b"\0\xff")
    except OSError:
        raise NotApplicable("no extended attributes on this file system")
    os.mkdir(w.at("d"))
    os.setxattr(w.at("d"), "user.dir", b"x")
    run("setfacl", "-m", "u:12:rw,m::rw", f)
    run("setfacl", "-m", "d:u:34:rx", w.at("d"))
    # At the target they are made where a default ACL already is, which they would inherit.
    w.put("d/plain")
    os.mkfifo(w.at("d/fifo"))
    os.mkdir(w.at("d/below"))
    run("setfacl", "-b", w.at("d/plain"), w.at("d/fifo"), w.at("d/below"))

    def check(what):
        w.synced(what)
        for n in ("f", "d", "d/plain", "d/fifo", "d/below"):
            a, b = ({k: os.getxattr(p, k) for k in os.listxattr(p)} for p in (w.at(n), w.there(n)))
            expect(a == b, "%s: %s: %s %s" % (what, n, a, b))
    check("attributes")
    w.put("d/plain", "and once more")
    os.unlink(w.at("d/fifo"))
    os.mkfifo(w.at("d/fifo"))
    run("setfacl", "-b", w.at("d/fifo"))
    check("made again below a default ACL")
    os.setxattr(f, "user.one", b"other")
    os.removexattr(f, "user.two")
    run("setfacl", "-x", "u:12", f)
    run("setfacl", "-k", w.at("d"))
    check("attributes changed")
    os.unlink(f)
    w.put("f", "replaced")
    check("none any more")


def deletes(make):
    w = make()
    w.put("gone/a/b/c")
    w.put("stays")
    w.put("f")
    w.synced("before")
    shutil.rmtree(w.at("gone"))
    os.unlink(w.at("f"))
    w.synced("deleted")
    w.put("stray/below/it", base=w.target)
    w.compare_again()
    w.equal("a stray tree on the target")


def delete_never(make):
    w = make(more="delete = false;")
    w.put("f")
    w.put("d/g")
    w.sync()
    os.unlink(w.at("f"))
    shutil.rmtree(w.at("d"))
    w.put("n")
    w.sync()
    w.compare_again()
    expect(os.path.exists(w.there("f")) and os.path.exists(w.there("d/g")) and os.path.exists(w.there("n")), "delete = false")


def limit_of_deletions(make):
    w = make(more="maxDelete = 5;")
    w.put("keep")
    for i in range(20):
        w.put("many/%d" % i)
    w.put("few/1")
    w.synced("before")
    os.unlink(w.at("few/1"))
    w.sync()
    w.absent("few/1", "within the limit")
    for i in range(20):
        w.put("stray%d" % i, base=w.target)
    done = w.compare_again(check=False)
    left = len([n for n in os.listdir(w.target) if n.startswith("stray")])
    expect(done.returncode != 0, "refused deletions are a failure")
    expect(left >= 15, "more than maxDelete went: %d are left" % left)
    w.compare_again("--allow-delete")
    w.equal("--allow-delete")


def half_of_the_listing_may_go(make):
    w = make()
    for i in range(30):
        w.put("d%d/f" % i)
    w.sync()
    for i in range(1100):
        w.put("strays/%d/%d" % (i % 7, i), base=w.target)
    done = w.compare_again(check=False)
    left = sum(len(f) for _, _, f in os.walk(w.there("strays")))
    expect(done.returncode != 0 and left >= 90, "exit %d, %d of 1100 are left" % (done.returncode, left))
    for i in range(2400):
        w.put("d%d/more%d" % (i % 30, i))
    for i in range(1100):
        w.put("strays/%d/%d" % (i % 7, i), base=w.target)
    w.compare_again()
    w.equal("fewer than half of the listing")


def filters_protect(make):
    w = make(more='exclude = [ "*.keep", "/cache/" ];')
    w.put("d/f")
    w.put("d/mine.keep", "never sent")
    w.put("cache/c")
    w.sync()
    w.absent("cache", "excluded")
    w.absent("d/mine.keep", "excluded")
    w.put("d/theirs.keep", base=w.target)
    w.put("cache/theirs", base=w.target)
    w.put("d/stray", base=w.target)
    w.compare_again()
    expect(os.path.exists(w.there("d/theirs.keep")) and os.path.exists(w.there("cache/theirs")), "protected")
    w.absent("d/stray", "not protected")
    shutil.rmtree(w.at("d"))
    w.sync(check=False)
    expect(os.path.exists(w.there("d/theirs.keep")), "protected in a directory that went")
    w.absent("d/f", "not protected, in a directory that went")


def only_what_exists(make):
    w = make("existing = true;")
    w.put("old", "before", base=w.target)
    w.put("old", "after")
    w.put("new", "new")
    w.put("d/new", "new")
    w.sync()
    expect(w.read("old") == b"after", "updated")
    w.absent("new", "existing")
    w.absent("d", "existing")
    w.put("later", "x")
    w.put("old", "once more")
    w.sync()
    expect(w.read("old") == b"once more", "updated again")
    w.absent("later", "existing")


def sizes(make):
    w = make('max_size = "2K"; min_size = "10";')
    w.put("small", "x" * 9)
    w.put("fits", "x" * 10)
    w.put("fits too", "x" * 2048)
    w.put("large", "x" * 2049)
    w.sync()
    expect(sorted(os.listdir(w.target)) == ["fits", "fits too"], "sizes: %s" % os.listdir(w.target))
    w.put("fits", "y" * 4000)
    w.sync()
    expect(w.read("fits") == b"x" * 10, "too large by now: what is there stays")


def times_left_out(make):
    w = make("omit_dir_times = true; omit_link_times = true;")
    w.put("d/f", mtime=10 ** 18)
    os.symlink("x", w.at("link"))
    os.utime(w.at("link"), ns=(10 ** 18, 10 ** 18), follow_symlinks=False)
    os.utime(w.at("d"), ns=(10 ** 18, 10 ** 18))
    w.sync()
    expect(os.stat(w.there("d/f")).st_mtime_ns == 10 ** 18, "a file's time")
    expect(os.stat(w.there("d")).st_mtime_ns != 10 ** 18, "omit_dir_times")
    expect(os.lstat(w.there("link")).st_mtime_ns != 10 ** 18, "omit_link_times")


def modes_left_out(make):
    w = make("perms = false; executability = true;")
    w.put("plain", "x", 0o640)
    w.put("program", "x", 0o700)
    w.sync()
    os.chmod(w.there("plain"), 0o604)
    os.chmod(w.there("program"), 0o644)
    w.put("plain", "changed", 0o600)
    w.put("program", "changed", 0o755)
    w.sync()
    expect(os.stat(w.there("plain")).st_mode & 0o777 == 0o604, "the target's mode: %o" % os.stat(w.there("plain")).st_mode)
    expect(os.stat(w.there("program")).st_mode & 0o777 == 0o755, "executable: %o" % os.stat(w.there("program")).st_mode)


def dry_run_writes_nothing(make):
    w = make("dry_run = true;")
    w.put("f", "new")
    w.put("stray", "there", base=w.target)
    w.put("d/g", "new")
    w.sync(check=False)
    expect(sorted(os.listdir(w.target)) == ["stray"] and w.read("stray") == b"there", "%s" % os.listdir(w.target))


def symlinks_at_the_target_are_not_followed(make):
    w = make()
    outside = w.place + "/outside"
    os.makedirs(outside)
    with open(outside + "/precious", "w") as f:
        f.write("mine")
    w.put("d/precious", "from the source")
    w.put("d/sub/deep", "from the source")
    w.put("f", "from the source")
    w.synced("before")
    shutil.rmtree(w.there("d"))
    os.symlink(outside, w.there("d"))
    os.unlink(w.there("f"))
    os.symlink(outside + "/precious", w.there("f"))
    w.put("f", "changed")
    w.put("d/precious", "changed")
    w.put("d/more", "changed")
    w.put("d/sub/deep", "changed")
    w.sync(check=False)
    w.compare_again()
    expect(sorted(os.listdir(outside)) == ["precious"], "written outside: %s" % os.listdir(outside))
    with open(outside + "/precious") as f:
        expect(f.read() == "mine", "overwritten outside")
    w.equal("symlinks replaced")
    shutil.rmtree(w.there("d"))
    os.symlink(outside, w.there("d"))
    shutil.rmtree(w.at("d"))
    w.sync(check=False)
    w.compare_again()
    expect(sorted(os.listdir(outside)) == ["precious"], "deleted outside")
    w.absent("d", "the symlink itself")


def unreadable_is_not_empty(make):
    if os.geteuid() != 0:
        raise NotApplicable("needs another user")
    w = make(user=NOBODY)
    w.put("closed/f")
    w.put("open/f")
    w.put("secret", "1")
    w.synced("before")
    os.chmod(w.at("closed"), 0)
    os.chmod(w.at("secret"), 0)
    with open(w.at("secret"), "r+b") as f:
        f.write(b"2")
    os.unlink(w.at("open/f"))
    if w.mode == "live":
        w.daemon.wait(10, check=False)
    done = w.compare_again(check=False)
    expect(os.path.exists(w.there("closed/f")), "below an unreadable directory nothing is deleted")
    w.absent("open/f", "elsewhere it is")
    expect(done.returncode != 0 and b"closed" in done.stdout + done.stderr and b"secret" in done.stdout + done.stderr,
           "named: %r %r" % (done.stdout, done.stderr))
    os.chmod(w.at("closed"), 0o755)
    os.chmod(w.at("secret"), 0o644)
    w.compare_again()
    w.equal("readable again")


def readers_see_whole_files(make):
    w = make()
    if w.mode != "live":
        raise NotApplicable("while a daemon runs")
    seen_whole(w, 2)


def readers_see_whole_files_with_backups(make):
    """Where there are hard links: the old file is never away before the new one is there."""
    w = backup_world(make)
    if w.mode != "live":
        raise NotApplicable("while a daemon runs")
    seen_whole(w, 1)
    expect(len(kept(w)["f"]) > 1, "nothing was put away")


def seen_whole(w, seconds):
    size, wrong, stop = 300000, [], threading.Event()
    w.put("f", b"a" * size)
    w.sync()

    def look():
        while not stop.is_set():
            try:
                content = w.read("f")
            except FileNotFoundError:
                wrong.append("it is not there")
                continue
            if len(content) != size or len(set(content)) != 1:
                wrong.append("%d bytes of %s" % (len(content), set(content)))
    reader = threading.Thread(target=look)
    reader.start()
    end = time.monotonic() + seconds
    n = 0
    while time.monotonic() < end or n < 30:
        n += 1
        w.put("new", bytes([97 + n % 26]) * size)
        os.rename(w.at("new"), w.at("f"))
        if n % 10 == 0:
            w.sync()
    w.sync()
    stop.set()
    reader.join()
    expect(not wrong, "a reader saw %s (%d times)" % (wrong[:3], len(wrong)))
    w.equal("replaced %d times" % n, (b".old",))


def rewritten_in_place(make):
    """Always the same size, many times within one tick of the clock: none may be stale."""
    w = make()
    if w.mode != "live":
        raise NotApplicable("while a daemon runs")
    files = ["%03d" % i for i in range(200)]
    for n in files:
        w.put(n, "%08d" % 0)
    w.sync()
    chance = random.Random(1)
    end = time.monotonic() + float(os.environ.get("REWRITE_SECONDS", "2"))
    count = 0
    while time.monotonic() < end:
        count += 1
        with open(w.at(chance.choice(files)), "r+b") as f:
            f.write(b"%08d" % count)
    w.sync()
    stale = [n for n in files if w.read(n) != open(w.at(n), "rb").read()]
    expect(not stale, "%d of 200 are stale after %d writes: %s" % (len(stale), count, stale[:5]))


def changes_while_it_is_read(make):
    w = make()
    if w.mode != "live":
        raise NotApplicable("while a daemon runs")
    w.put("grows", b"0" * 5000000)
    w.sync()
    with open(w.at("grows"), "r+b") as f:
        for i in range(300):
            f.seek(random.randrange(5000000))
            f.write(b"%d" % i)
            f.flush()
            if i % 50 == 0:
                os.close(os.open(w.at("grows"), os.O_WRONLY))
    w.synced("written while it was read")


def moved_directory(make):
    w = make(delay=60)
    if w.mode != "live":
        raise NotApplicable("while a daemon runs")
    for i in range(200):
        w.put("old/%d/f" % i, str(i))
    w.synced("before")
    before = w.counters()
    os.rename(w.at("old"), w.at("new"))
    w.synced("moved")
    after = w.counters()
    if w.lacks("rename"):
        expect(after["renames"] == before["renames"], "it says that it can't rename")
        return
    expect(after["renames"] == before["renames"] + 1 and after["files"] == before["files"], "%s %s" % (before, after))
    w.put("a", "1")
    w.put("b", "2")
    w.sync()
    os.rename(w.at("a"), w.at("b"))
    w.synced("a file over another")
    os.makedirs(w.at("up/er"))
    os.rename(w.at("new"), w.at("up/er/x"))
    w.synced("into a directory just made")


def file_where_a_directory_is_due(make):
    """Above what is sent, and above what is renamed: something of another type, which nobody marked."""
    w = make()
    w.put("d/x/f", "1")
    w.put("old/f", "2")
    w.synced("before")

    def below_a_file(change, what):
        shutil.rmtree(w.there("d"))
        w.put("d", "in the way", base=w.target)
        change()
        w.sync(check=False)
        if w.mode == "live" and w.lacks("looks_above"):
            w.compare_again()
        await_fact(lambda: not w.differences(), 20, what)
    below_a_file(lambda: os.rename(w.at("old"), w.at("d/x/new")), "a directory moved below a file")
    below_a_file(lambda: w.put("d/x/y", "3"), "a file sent below a file")
    below_a_file(lambda: os.utime(w.at("d/x"), (1, 1)), "a directory's time below a file")
    shutil.rmtree(w.there("d"))
    os.utime(w.at("d"), (1, 1))
    w.sync(check=False)
    if w.mode == "live" and w.lacks("looks_above"):
        w.compare_again()
    await_fact(lambda: not w.differences(), 20, "the time of a directory that was removed there")


def removed_tree_is_one_deletion(make):
    w = make(delay=60)
    if w.mode != "live":
        raise NotApplicable("while a daemon runs")
    w.put("stays")
    for i in range(300):
        w.put("tree/%d/%d/f" % (i % 10, i))
    w.synced("before")
    before = w.counters()["deletions"]
    shutil.rmtree(w.at("tree"))
    w.synced("removed")
    expect(w.counters()["deletions"] == before + 1, "%d deletions" % (w.counters()["deletions"] - before))


def nothing_left_of_a_killed_run(make):
    w = make("bwlimit = 2000;")
    w.put("large", os.urandom(3 << 20))
    w.put("d/large", os.urandom(3 << 20))

    def temps():
        return [n for _, _, files in os.walk(w.target) for n in files if n not in ("large",)]
    w.daemon.start(wait=False)
    await_fact(temps, 20, "a temporary file")
    for pid in [w.daemon.process.pid] + children(w.daemon.process.pid, every=True):
        kill(pid, signal.SIGKILL)
    w.daemon.process.wait()
    w.daemon.output.close()
    w.daemon.process = None
    os.unlink(w.at("d/large"))
    w.put("d/other", "x")
    w.running = False
    if w.sshd:
        w.sshd.cut()
    w.synced("after the next run")
    expect(not temps() or temps() == ["other"], "left: %s" % temps())


def failures_are_named_and_tried_again(make):
    if os.geteuid() != 0:
        raise NotApplicable("needs another user")
    w = make(user=NOBODY)
    if w.sshd:
        raise NotApplicable("the test's sshd logs its own user in")
    if w.mode != "live":
        raise NotApplicable("while a daemon runs")
    w.put("d/f", "1")
    w.put("e/f", "1")
    w.synced("before")
    os.chown(w.there("d"), 0, 0)
    w.put("d/f", "22")
    w.put("e/f", "22")
    await_fact(lambda: w.daemon.sync("w")["failures"], 20, "a failure in the status")
    failures = w.daemon.sync("w")["failures"]
    expect(any("d/f" in str(f) for f in failures), "named: %s" % failures)
    await_fact(lambda: w.read("e/f") == b"22", 20, "the others are not held up")
    os.chown(w.there("d"), NOBODY, NOBODY)
    await_fact(lambda: w.read("d/f") == b"22", 30, "it is tried again")


def backup_world(make, options="", more="", **others):
    """A sync whose target keeps what it replaces or deletes; with tcp it is the receiver that says so."""
    w = make(options, more, backup=True, **others)
    w.old = w.there(".old")
    return w


def kept(w):
    """What is in the backups: path, without the day and without what tells versions apart, -> contents."""
    found = {}
    for place, _, files in os.walk(w.old):
        for name in files:
            path = os.path.join(place, name)
            below = os.path.relpath(path, w.old).split("/", 1)
            expect(len(below) == 2 and re.fullmatch(r"\d{4}-\d\d-\d\d(~\d{8}-\d{6}\.\d{3})?", below[0]), "a day: %s" % path)
            plain = re.sub(r"~\d{8}-\d{6}\.\d{3}(\.\d+)?$", "", below[1])
            with open(path, "rb") as f:
                found.setdefault(plain, []).append(f.read())
    return {path: sorted(contents) for path, contents in found.items()}


def replaced_and_deleted_is_put_away(make):
    w = backup_world(make)
    w.put("f", "first", 0o640, mtime=10 ** 18)
    w.put("d/sub/g", "gone soon")
    w.put("d/h", "gone as well")
    w.put("stays", "as it is")
    os.chmod(w.at("d/sub"), 0o750)
    w.sync()
    w.equal("before", (b".old",))
    expect(kept(w) == {}, "nothing was there to be put away: %s" % kept(w))
    w.put("f", "second")
    shutil.rmtree(w.at("d"))
    os.chmod(w.at("stays"), 0o600)
    w.sync()
    w.equal("replaced, removed", (b".old",))
    expect(kept(w) == {"f": [b"first"], "d/sub/g": [b"gone soon"], "d/h": [b"gone as well"]}, "put away: %s" % kept(w))
    old = [os.path.join(p, n) for p, _, names in os.walk(w.old) for n in names if n.split("~")[0] == "f"]
    st = os.stat(old[0])
    expect(st.st_mode & 0o7777 == 0o640 and st.st_mtime == 10 ** 9, "as it was: %o %s" % (st.st_mode, st.st_mtime))
    subs = [p for p, _, _ in os.walk(w.old) if p.endswith("/d/sub")]
    expect(os.stat(subs[0]).st_mode & 0o777 == 0o750, "the directory's mode: %o" % os.stat(subs[0]).st_mode)


def versions_are_kept_apart(make):
    w = backup_world(make)
    w.put("stays")
    for i in range(4):
        w.put("d/f", "version %d" % i)
        w.sync()
    os.unlink(w.at("d/f"))
    w.sync()
    if w.transport.startswith("rsync"):
        w.compare_again()  # the time of the directory in which rsync makes the first backup
    w.equal("gone", (b".old",))
    expect(kept(w) == {"d/f": [b"version %d" % i for i in range(4)]}, "each version: %s" % kept(w))
    shutil.rmtree(w.at("d"))  # a file where a directory is in the backup, and the reverse
    w.put("d", "a file now")
    w.sync()
    os.unlink(w.at("d"))
    w.put("d/f/deep", "a directory now")
    w.sync()
    shutil.rmtree(w.at("d"))
    w.sync()
    w.equal("all is gone", (b".old",))
    found = kept(w)
    expect(found["d"] == [b"a file now"] and found["d/f/deep"] == [b"a directory now"] and len(found["d/f"]) == 4, "%s" % found)


def backups_are_left_alone(make):
    w = backup_world(make, "delete_excluded = true;", 'exclude = [ "*.not" ];')
    w.put("f", "first")
    w.sync()
    w.put("f", "second")
    w.sync()
    w.put(".old/2001-01-01/older", "of long ago", base=w.target)
    w.put("stray", "x", base=w.target)
    before = kept(w)
    w.compare_again()
    w.equal("compared", (b".old",))
    after = kept(w)
    expect(after.pop("stray") == [b"x"], "what a comparison deletes is put away, too")
    if not w.lacks("fractions"):  # there what is equal within a second may be sent once more
        expect(after == before, "%s %s" % (before, after))
    expect(after["older"] == [b"of long ago"] and b"first" in after["f"], "%s %s" % (before, after))
    w.put(".old/2001-01-01/older", "from the source")  # a directory of that name on the source
    w.sync(check=False)
    w.compare_again(check=False)
    expect(kept(w)["older"] == [b"of long ago"], "the source can't change backups")
    shutil.rmtree(w.at(".old"))
    w.sync(check=False)
    expect(kept(w)["older"] == [b"of long ago"], "nor delete them")


def types_that_change_are_put_away(make):
    w = backup_world(make)
    w.put("f", "a file")
    w.put("d/g", "in a directory")
    os.symlink("nowhere", w.at("link"))
    w.sync()
    os.unlink(w.at("f"))
    w.put("f/inside", "now a directory")
    shutil.rmtree(w.at("d"))
    w.put("d", "now a file")
    os.unlink(w.at("link"))
    os.symlink("elsewhere", w.at("link"))
    w.sync()
    w.equal("types changed", (b".old",))
    found = kept_names(w)
    expect(found["f"] == 1 and found["d/g"] == 1 and found["link"] == 1, "%s" % found)


def kept_names(w):
    found = {}
    for place, dirs, files in os.walk(w.old):
        for name in files + [d for d in dirs if os.path.islink(os.path.join(place, d))]:
            below = os.path.relpath(os.path.join(place, name), w.old).split("/", 1)[1]
            plain = re.sub(r"~\d{8}-\d{6}\.\d{3}(\.\d+)?$", "", below)
            found[plain] = found.get(plain, 0) + 1
    return found


def moved_over_another_is_put_away(make):
    w = backup_world(make, delay=60)
    if w.mode != "live":
        raise NotApplicable("while a daemon runs")
    w.put("a", "the new one", mtime=10 ** 18)
    w.put("b", "the old one", mtime=2 * 10 ** 18)
    w.sync()
    os.rename(w.at("a"), w.at("b"))
    w.sync()
    w.equal("one over the other", (b".old",))
    expect(b"the old one" in kept(w).get("b", []), "%s" % kept(w))


def what_becomes_a_link_is_put_away(make):
    """Though size and time are equal: it is another file, and its content may be another."""
    w = backup_world(make, "hard_links = true;")
    if w.transport not in ("direct", "tcp"):
        raise NotApplicable("where it is known which names are one file")
    w.put("a", "this", mtime=10 ** 18)
    w.put("b", "that", mtime=10 ** 18)
    w.sync()
    os.unlink(w.at("b"))
    os.link(w.at("a"), w.at("b"))
    w.sync()
    w.equal("linked", (b".old",))
    expect(os.lstat(w.there("a")).st_ino == os.lstat(w.there("b")).st_ino, "one file")
    expect(kept(w) == {"b": [b"that"]}, "put away: %s" % kept(w))
    w.compare_again()
    expect(kept(w) == {"b": [b"that"]}, "once: %s" % kept(w))


def linked_names_are_put_away(make):
    """Each as it was, by itself, whatever is done to the other names of its file."""
    w = backup_world(make, "hard_links = true;")

    def linked(*names):
        return len({os.lstat(w.there(n)).st_ino for n in names}) == 1

    w.put("a", "first")
    os.makedirs(w.at("d"))
    os.link(w.at("a"), w.at("d/b"))
    os.link(w.at("a"), w.at("c"))
    w.sync()
    expect(linked("a", "d/b", "c") and kept(w) == {}, "linked: %s" % kept(w))
    with open(w.at("c"), "wb") as f:
        f.write(b"second, through one name")
    w.sync()
    w.equal("written through one name", (b".old",))
    expect(linked("a", "d/b", "c"), "still one file")
    expect(kept(w) == {n: [b"first"] for n in ("a", "d/b", "c")}, "all names: %s" % kept(w))
    os.unlink(w.at("c"))
    os.unlink(w.at("d/b"))
    w.put("d/b", "on its own")
    w.sync()
    w.equal("one name deleted, one replaced", (b".old",))
    second = [b"first", b"second, through one name"]
    expect(kept(w) == {"a": [b"first"], "d/b": second, "c": second}, "these two: %s" % kept(w))
    with open(w.at("a"), "wb") as f:
        f.write(b"third")
    w.sync()
    w.equal("the last name", (b".old",))
    expect(kept(w) == {n: second for n in ("a", "d/b", "c")}, "each once: %s" % kept(w))
    shutil.rmtree(w.at("d"))
    w.sync()
    expect(kept(w)["d/b"] == sorted(second + [b"on its own"]), "%s" % kept(w))


def without_a_backup_nothing_is_replaced(make):
    w = backup_world(make)
    w.put("f", "first")
    w.put("d/g", "still here")
    w.sync()
    w.put(".old", "in the way of all backups", base=w.target)
    w.put("f", "second")
    if w.mode == "live":
        shutil.rmtree(w.at("d"))
    w.put("new", "needs no backup")
    done = w.daemon.wait(2, check=False) if w.mode == "live" else w.sync(check=False)
    expect(w.read("f") == b"first" and w.read("d/g") == b"still here", "replaced without a backup")
    if w.transport.startswith("rsync"):  # it does not even begin
        if w.mode == "once":
            expect(done.returncode != 0 and b".old" in done.stdout + done.stderr, "named: %r" % (done.stdout + done.stderr))
        else:
            await_fact(lambda: ".old" in (w.daemon.sync("w")["reason"] or ""), 20, "the reason")
    elif w.mode == "once":
        expect(os.path.exists(w.there("new")), "what needs no backup")
        expect(done.returncode != 0 and b"backupDir" in done.stdout + done.stderr, "named: %r" % (done.stdout + done.stderr))
    else:
        await_fact(lambda: os.path.exists(w.there("new")), 20, "what needs no backup")
        await_fact(lambda: {f["path"] for f in w.daemon.sync("w")["failures"]} == {"f", "d"}, 20, "named in the status")
        expect("backupDir" in w.daemon.sync("w")["failures"][0]["reason"], "with the reason")
    os.unlink(w.there(".old"))
    if w.mode == "once":
        shutil.rmtree(w.at("d"))
        w.sync()
    await_fact(lambda: w.read("f") == b"second" and not os.path.exists(w.there("d")), 20, "tried again")
    expect(kept(w) == {"f": [b"first"], "d/g": [b"still here"]}, "put away then: %s" % kept(w))


def limits_hold_with_backups(make):
    w = backup_world(make, more="maxDelete = 2;")
    for i in range(8):
        w.put("d/%d" % i)
    w.put("stays")
    w.sync()
    os.rename(w.at("d"), w.place + "/gone")  # all at once: each batch may delete as many
    w.sync(check=False)
    w.compare_again(check=False)
    left = len(os.listdir(w.there("d"))) if os.path.isdir(w.there("d")) else 0
    expect(left >= 4 and len(kept(w)) == 8 - left, "%d are left, %d put away" % (left, len(kept(w))))


RULES = [all_kinds_of_entries, devices_for_root, any_bytes_in_names, names_of_full_length, paths_beyond_path_max, types_change,
         directory_times_come_last, read_only_directories, owners_before_modes, equal_files_are_not_written, content_by_checksum,
         newer_on_the_target_stays, hard_links, holes_stay_holes, extended_attributes, deletes, delete_never,
         limit_of_deletions, half_of_the_listing_may_go, filters_protect, only_what_exists, sizes, times_left_out, modes_left_out,
         dry_run_writes_nothing, symlinks_at_the_target_are_not_followed, unreadable_is_not_empty, readers_see_whole_files,
         rewritten_in_place, changes_while_it_is_read, moved_directory, file_where_a_directory_is_due, removed_tree_is_one_deletion,
         nothing_left_of_a_killed_run, failures_are_named_and_tried_again,
         replaced_and_deleted_is_put_away, versions_are_kept_apart, backups_are_left_alone, types_that_change_are_put_away,
         readers_see_whole_files_with_backups, moved_over_another_is_put_away, what_becomes_a_link_is_put_away, linked_names_are_put_away,
         without_a_backup_nothing_is_replaced, limits_hold_with_backups]


def run_rules(transport):
    wanted = sys.argv[1:]
    failed = 0
    top = os.environ["TESTDIR"]
    os.chmod(top, 0o755)
    for rule in RULES:
        for mode in ("once", "live"):
            name = "%s/%s" % (rule.__name__, mode)
            if wanted and rule.__name__ not in wanted and name not in wanted:
                continue
            worlds = []

            def make(options="", more="", user=None, delay=0.02, backup=False):
                place = os.path.join(top, rule.__name__, mode + str(len(worlds)))
                os.makedirs(place)
                worlds.append(World(place, transport, mode, options, more, user, delay, backup))
                return worlds[-1]
            try:
                rule(make)
                print("ok %s" % name, flush=True)
            except NotApplicable as fact:
                print("# %s, %s: not applicable, or only in part: %s" % (name, transport, fact), flush=True)
            except Exception as e:
                failed = 1
                print("not ok %s" % name)
                print("# " + "\n# ".join(("%s: %s" % (type(e).__name__, e)).split("\n")), flush=True)
            finally:
                for w in worlds:
                    try:
                        w.done()
                    except Failure as e:
                        failed = 1
                        print("not ok %s/end\n# %s" % (name, str(e).replace("\n", "\n# ")), flush=True)
    sys.exit(failed)
