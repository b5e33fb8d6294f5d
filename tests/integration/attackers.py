#!/usr/bin/env python3
# TIMEOUT: 300
"""Local attackers: who owns a source and wants another's file to be sent, who owns a target and wants something outside of it to be
written, changed or removed. tests/lib/attacker.py swaps directories for symlinks and so on while the daemon, as root, mirrors. Of rsync's own part
docs/SECURITY.md says from which version on it is safe: with an older one less is looked at, and a comment line says so.

ATTACK_SECONDS: how long each attack lasts (1)."""
import ctypes
import os
import pwd
import re
import select
import shutil
import stat
import struct
import subprocess
import sys
import threading

TOP = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(TOP, "..", "lib"))
import attacker
from accounts import add_user, remove_user
from fansync import Skipped, differences, entry, expect, main, put, reachable, tree, whole_seconds
from mirroring import World

SECONDS = float(os.environ.get("ATTACK_SECONDS", "1"))
SECRET = "what nobody may see"
LIBC = ctypes.CDLL(None, use_errno=True)
IN_ACCESS, IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_OPEN = 1, 2, 4, 8, 0x20
IN_MOVED, IN_CREATE, IN_DELETE = 0xc0, 0x100, 0x200
READ, CHANGED = IN_OPEN | IN_ACCESS, IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVED | IN_CREATE | IN_DELETE


class Watch:
    """Who opens, or changes, anything below a directory: the kernel's word, whatever stands there afterwards."""

    def __init__(self, root, mask):
        self.fd = LIBC.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        self.dirs = {}
        for top in [t for t, _, _ in os.walk(root)]:
            self.dirs[LIBC.inotify_add_watch(self.fd, os.fsencode(top), mask)] = top

    def seen(self):
        found = []
        while select.select([self.fd], [], [], 0)[0]:
            data = os.read(self.fd, 65536)
            at = 0
            while at < len(data):
                wd, mask, _, n = struct.unpack_from("iIII", data, at)
                found.append("%#x %s/%s" % (mask, self.dirs.get(wd), data[at + 16:at + 16 + n].rstrip(b"\0").decode()))
                at += 16 + n
        return found

    def none(self, what):
        found = self.seen()
        expect(not found, "%s: %d times, first %s" % (what, len(found), found[:3]))
        os.close(self.fd)


class Attack:
    """An attacker at work; `do` goes on with something else meanwhile."""

    def __init__(self, what, world, out):
        self.spare = getattr(world, "spare", world.place + "/spare")
        os.makedirs(self.spare)
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(TOP, "..", "lib", "attacker.py"), what, world.source if what == "source" else world.target,
             self.spare, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        expect(self.process.stdout.readline() == b"at work\n", "the attacker begins")

    def end(self):
        said, _ = self.process.communicate(timeout=60)
        expect(self.process.returncode == 0 and int(said) > 100, "the attacker did his best: %r" % said)


def root_only():
    if os.geteuid() != 0:
        raise Skipped("the daemon has to be able to do what the attacker wants: needs root")


def outside(place, text):
    """What the attacker is after; of the same shape as what is mirrored, so that whatever goes astray hits something."""
    out = place + "/outside"
    attacker.tree(out, text)
    return out


def everything(root):
    """What is below it, symlinks not followed: all that an attack may have changed."""
    return {p: (f, os.lstat(os.path.join(os.fsencode(root), p)).st_uid, os.lstat(os.path.join(os.fsencode(root), p)).st_ctime_ns)
            for p, f in tree(root).items()}


class Reader(threading.Thread):
    """Reads all files at the target, all the time: what arrives for a moment has arrived. By the directories themselves: one that the
    source exchanged for a symlink is one at the target as well."""

    def __init__(self, target):
        super().__init__()
        self.target, self.over, self.found, self.rounds = target, threading.Event(), [], 0

    def look(self):
        self.below(os.open(self.target, os.O_RDONLY | os.O_DIRECTORY), self.target)
        self.rounds += 1

    def below(self, at, path):
        for name in os.listdir(at):
            try:
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
            except OSError:
                continue
            kind = os.fstat(fd).st_mode
            if stat.S_ISDIR(kind):
                self.below(fd, os.path.join(path, name))
                continue
            if stat.S_ISREG(kind) and SECRET.encode() in os.read(fd, 4096):
                self.found.append(os.path.join(path, name))
            os.close(fd)
        os.close(at)

    def run(self):
        while not self.over.wait(0.01):
            self.look()

    def end(self, safe):
        self.over.set()
        self.join()
        self.look()
        expect(not self.found or not safe, "the secret arrived: %s" % self.found[:3])


def source_owner(place, transport, options="", safe=True):
    root_only()
    w = World(place, transport, "live", options)
    try:
        out = outside(place, SECRET)
        attacker.tree(w.source, "seen by all")
        w.synced("before")
        watch, reader, attack = Watch(out, READ), Reader(w.target), Attack("source", w, out)
        reader.start()
        before = w.counters()["events"]
        select.select([], [], [], SECONDS)
        attack.end()
        w.sync()
        reader.end(safe)
        if safe:
            watch.none("what lies outside of the source was opened")
        expect(w.counters()["events"] > before, "the daemon saw it")
        w.compare_again()
        a, b = tree(w.source), tree(w.target)
        found = differences(whole_seconds(a), whole_seconds(b)) if w.lacks("fractions") else differences(a, b)
        expect(not found, "equal in the end: %s\n%s" % (found, w.daemon.tail(20)))
    finally:
        w.done()


def target_owner(place, transport, options="", safe=True, more="", arrange=None):
    root_only()
    w = World(place, transport, "live", options, more)
    try:
        if arrange:
            arrange(w)
        out = outside(place, "stays as it is")
        attacker.tree(w.source, "of the source")
        w.synced("before")
        before, watch, attack = everything(out), Watch(out, CHANGED), Attack("target", w, out)
        end, n = threading.Event(), 0
        timer = threading.Timer(SECONDS, end.set)
        timer.start()
        while not end.is_set():
            change(w, n)
            n += 1
            if n % 5 == 0:
                w.sync(check=False)
        attack.end()
        w.sync(check=False)
        if safe:
            watch.none("something outside of the target was changed")
            found = differences({p: {"all": v} for p, v in before.items()}, {p: {"all": v} for p, v in everything(out).items()})
            expect(not found, "outside: %s" % found)
        if w.lacks("fractions"):  # an older file of that size and second, put back by the attacker, is believed: it gives no power
            for n, path in enumerate(os.path.join(top, f) for top, _, files in os.walk(w.source) for f in files):
                os.utime(path, (10 ** 9 + n, 10 ** 9 + n), follow_symlinks=False)
        w.compare_again("--allow-delete")
        w.equal("in the end")
    finally:
        w.done()


def change(w, n):
    """All that a mirror carries, in each of the directories that the attacker exchanges."""
    for d in attacker.DIRS:
        path = os.path.join(w.source, d)
        put(path + "/f%d" % (n % 3), "round %d" % n)
        os.chmod(path + "/f%d" % ((n + 1) % 3), 0o600 + n % 8)
        os.chown(path, n % 5, n % 7)
        os.chmod(path, (0o2755, 0o700)[n % 2])
        if n % 3 == 0:
            os.makedirs(path + "/new/er", exist_ok=True)
            os.symlink("x", path + "/new/er/link%d" % n)
        if n % 3 == 1:
            os.rename(path + "/new", path + "/newer%d" % n)
        if n % 3 == 2:
            os.rename(path + "/newer%d" % (n - 1), path + "/f9")
            subprocess.run(["rm", "-rf", path + "/f9", path + "/f2"], check=True)
            os.mkfifo(path + "/f2")
            os.unlink(path + "/f2")
            put(path + "/f2", "back")
    for name in attacker.FILES:
        put(os.path.join(w.source, name), "round %d" % n)


def rsync_keeps_to_it(since, what):
    """Whether this rsync does: with an older one docs/SECURITY.md promises less, and no more is looked at."""
    said = subprocess.run(["rsync", "--version"], stdout=subprocess.PIPE, check=True).stdout.decode()
    version = re.search(r"version v?(\d+)\.(\d+)\.(\d+)", said)
    safe = version is not None and tuple(map(int, version.groups())) >= since
    if not safe:
        print("# %s: before %d.%d.%d rsync itself %s: only whether both are equal in the end is looked at" % (
            (said.splitlines() or ["?"])[0].strip(), *since, what), flush=True)
    return safe


def confined():
    """Whether the kernel can keep rsync to its source (landlock_create_ruleset: which ABI)."""
    known = LIBC.syscall(444, None, 0, 1) >= 2
    if not known:
        print("# no Landlock here: only whether both are equal in the end is looked at", flush=True)
    return known


def source_direct(place):
    source_owner(place, "direct")


def source_sftp(place):
    source_owner(place, "sftp")


def source_tcp(place):
    source_owner(place, "tcp")


# rsync by itself, also 3.5.0, reads through a directory that becomes a symlink at the right moment: Landlock keeps it from that.
def source_rsync(place):
    source_owner(place, "rsync", safe=confined())


def source_rsyncssh(place):
    source_owner(place, "rsyncssh", safe=confined())


def target_direct(place):
    target_owner(place, "direct")


def target_tcp(place):
    target_owner(place, "tcp")


def target_rsync(place):
    target_owner(place, "rsync", safe=rsync_keeps_to_it((3, 5, 0), "may write through a directory that became a symlink"))


def target_rsyncssh(place):
    # An rsync at the other host may wait for a FIFO that the attacker put in a file's place; of that nobody hears here.
    target_owner(place, "rsyncssh", more="progressTimeout = 5.0;", safe=rsync_keeps_to_it((3, 5, 0), "may write through a directory that became a symlink"))


def logs_in(w, config, **words):
    """The server and the sync are as docs/SECURITY.md advises."""
    w.sshd.stop()
    with open(w.sshd.place + "/sshd_config", "a") as f:
        f.write(config)
    w.sshd.start()
    with open(w.daemon.config_path) as f:
        text = f.read()
    for old, new in words.items():
        text = re.sub(r'\b%s = "[^"]*"' % old, '%s = "%s"' % (old, new), text)
    with open(w.daemon.config_path, "w") as f:
        f.write(text)


def target_sftp_as_owner(place):
    """The server follows what it finds, with the rights of the target's owner: nothing that he could not do himself."""
    root_only()
    account = "fsatt%d" % (os.getpid() % 100000)
    add_user(account, "-s", "/usr/sbin/nologin", "-p", "*", "-d", "/")

    def arrange(w):
        reachable(place)
        os.chown(w.target, pwd.getpwnam(account).pw_uid, -1)
        logs_in(w, "ForceCommand internal-sftp\n", host=account + "@127.0.0.1")
    try:
        target_owner(place, "sftp", arrange=arrange)
    finally:
        remove_user(account)


def target_sftp_chrooted(place):
    """Root's rights, in a directory that nothing leads out of."""
    root_only()
    jail = "/run/fsjail%d" % os.getpid()  # sshd wants each directory above to be root's alone, which /tmp is not

    def arrange(w):
        os.makedirs(jail + "/target")
        w.target, w.spare = jail + "/target", jail + "/spare"
        logs_in(w, "ChrootDirectory %s\nForceCommand internal-sftp\n" % jail, targetdir="/target")
    try:
        target_owner(place, "sftp", arrange=arrange)
    finally:
        shutil.rmtree(jail, ignore_errors=True)


# ---- what needs no haste ----

def twin(source, target, text):
    """At the target, of the attacker's: of the size and time of the source's, and with another content."""
    put(target, text)
    st = os.stat(source)
    os.chown(target, 4711, 4711)
    os.utime(target, ns=(st.st_mtime_ns, st.st_mtime_ns))
    expect(os.stat(target).st_size == st.st_size, "the same size")


def planted(place, transport, options=""):
    """Who owns the target makes files that look as if they had been sent. One that gives no power is believed (`plain`)."""
    root_only()
    w = World(place, transport, "once", options + "hard_links = true; xattrs = true;")
    try:
        for name, mode in (("setuid", 0o4755), ("setgid", 0o2755), ("caps", 0o755), ("linked", 0o644), ("plain", 0o644)):
            path = w.put(name, "true", mode, 10 ** 18)
            twin(path, w.there(name), "evil")
        caps = struct.pack("<IIIII", 0x02000001, 1 << 7, 0, 0, 0)  # cap_setuid+ep
        os.setxattr(w.at("caps"), "security.capability", caps)
        os.utime(w.at("caps"), ns=(10 ** 18, 10 ** 18))
        # Another name of a file elsewhere, as who may make such a link (fs.protected_hardlinks).
        elsewhere = place + "/elsewhere"
        os.rename(w.there("linked"), elsewhere)
        os.link(elsewhere, w.there("linked"))
        before = entry(elsewhere), os.stat(elsewhere).st_uid
        w.sync()
        for name in ("setuid", "setgid", "caps"):
            expect(w.read(name) == b"true", "%s: what runs with its rights is the source's" % name)
        expect(os.getxattr(w.there("caps"), "security.capability") == caps, "capabilities")
        expect((entry(elsewhere), os.stat(elsewhere).st_uid) == before, "the file elsewhere is as it was: %s" % (before,))
        w.equal("all of it", skip_names=(b"plain",))
        expect(all(os.stat(w.there(n)).st_uid == 0 for n in ("setuid", "linked", "plain")), "owners")
    finally:
        w.done()


def planted_direct(place):
    planted(place, "direct")


def planted_tcp(place):
    planted(place, "tcp")


def planted_set_id(place, transport, options=""):
    """Where capabilities and other names of a file are not known."""
    root_only()
    w = World(place, transport, "once", options)
    try:
        for name, mode in (("setuid", 0o4755), ("setgid", 0o2755)):
            twin(w.put(name, "true", mode, 10 ** 18), w.there(name), "evil")
        w.sync()
        for name in ("setuid", "setgid"):
            expect(w.read(name) == b"true", "%s: what runs with its rights is the source's" % name)
        w.equal("all of it")
    finally:
        w.done()


def planted_sftp(place):
    planted_set_id(place, "sftp")


def planted_rsync(place):
    """rsync believes size and time, but for this option, which the docs advise."""
    planted_set_id(place, "rsync", "checksum = true;")


def planted_rsyncssh(place):
    planted_set_id(place, "rsyncssh", "checksum = true;")


def set_id_of_another(place):
    """Without `perms` a file keeps its mode; what its former owner gave away is not for the new one."""
    root_only()
    w = World(place, "direct", "once", "perms = false;")
    try:
        for name, content in (("changed", "new!"), ("same", "evil")):
            twin(w.put(name, "true", 0o755, 10 ** 18), w.there(name), "evil")
            os.chmod(w.there(name), 0o6755)
        w.put("changed", "new content", 0o755)
        w.sync()
        for name in ("changed", "same"):
            st = os.stat(w.there(name))
            expect((st.st_uid, st.st_mode & 0o7777) == (0, 0o755), "%s: %d %o" % (name, st.st_uid, st.st_mode))
    finally:
        w.done()


main([source_direct, source_sftp, source_tcp, source_rsync, source_rsyncssh, target_direct, target_tcp, target_rsync, target_rsyncssh, target_sftp_as_owner, target_sftp_chrooted,
      planted_direct, planted_tcp, planted_sftp, planted_rsync, planted_rsyncssh, set_id_of_another])
