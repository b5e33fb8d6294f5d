#!/usr/bin/env python3
# TIMEOUT: 400
"""Nothing is deleted by mistake: a source that is unmounted, replaced, emptied or unreadable, a mount below it that comes
or goes, a target that is another one. The target stays, the status says why and what to do; the sync goes on by itself
when all is right again, and --allow-delete lets it through."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, Failure, Receiver, Sshd, await_fact, expect_equal, free_port, main, run, skip, tree

INSIDE = "FANSYNCD_TEST_MOUNTS"


def own_mounts():
    """Everything that is mounted here vanishes with the test."""
    if os.geteuid() != 0:
        skip("needs root, to mount")
    if os.environ.get(INSIDE) != "1":
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable] + sys.argv)


class Image:
    """A file system in a file: the same one whenever it is mounted."""

    def __init__(self, path, at):
        self.path, self.at = path, at
        os.makedirs(at, exist_ok=True)
        with open(path, "wb") as f:
            f.truncate(16 << 20)
        run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", path)
        self.mount()

    def mount(self):
        run("mount", "-o", "loop", self.path, self.at)

    def umount(self, *options):
        run("umount", *options, self.at)


def tmpfs(at):
    os.makedirs(at, exist_ok=True)
    run("mount", "-t", "tmpfs", "none", at)


def write(path, text="x"):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)


def fill(root, n=6):
    for i in range(n):
        write("%s/d%d/f%d" % (root, i % 3, i), "content %d" % i)
    write(root + "/top", "top")


def names(root):
    """What there is below root, content included, times aside: a stopped sync may have set a directory's time before."""
    return {path: (facts["kind"], facts.get("content")) for path, facts in tree(root).items()
            if not path.startswith(b"lost+found")}


class Place:
    def __init__(self, place, watcher="inotify", more="", name="s", settings="", target=None, transport="rsync", delay=0.05):
        self.place, self.watcher, self.settings = place, watcher, settings
        self.source, self.target = place + "/source", place + "/target"
        self.where = target or 'target = "%s";' % self.target
        self.transport, self.delay = transport, delay
        os.makedirs(self.source, exist_ok=True)
        os.makedirs(self.target, exist_ok=True)
        self.daemon = Daemon(place, "")
        self.configure(more, name)

    def configure(self, more="", name="s", others=""):
        self.name = name
        self.daemon.write_config(
            'sync = ( { name = "%s"; transport = "%s"; source = "%s"; %s delay = %s; watcher = "%s"; retryMin = 0.1; '
            'retryMax = 0.5; rsync = { archive = true; %s }; %s } %s );\n'
            % (name, self.transport, self.source, self.where, self.delay, self.watcher, self.rsync_more(), more, others),
            self.settings)

    def rsync_more(self):
        return ""

    def start(self, wait=True):
        self.daemon.start(wait)
        if wait:
            self.before = names(self.target)
        return self

    def sync(self):
        return self.daemon.sync(self.name)

    def stopped(self, *words, state=("stopped", "no source")):
        """The sync stops; the status says why, and what to do."""
        def so():
            s = self.sync()
            text = s["reason"] or ""
            return s if s["state"] in state and all(w in text for w in words) else None
        try:
            return await_fact(so, 30, "a stopped sync that says %s" % (words,))
        except Failure as e:
            s = self.sync()
            lost = [path for path in getattr(self, "before", {}) if path not in names(self.target)]
            raise Failure("%s; it is %s: %s; deleted on the target: %s" % (e, s["state"], s["reason"], lost[:10]))

    def untouched(self, what=""):
        now = names(self.target)
        lost = [p for p in self.before if p not in now]
        if lost:
            raise Failure("%s: deleted on the target: %s\n%s" % (what, lost[:10], self.daemon.tail()))

    def unchanged(self, what=""):
        self.untouched(what)
        if names(self.target) != self.before:
            raise Failure("%s: carried all the same: %s" % (what, set(names(self.target)) ^ set(self.before)))

    def refused_now(self, *words):
        """--sync-now without --allow-delete: it fails and says why."""
        done = self.daemon.client("--sync-now", check=False)
        said = (done.stdout + done.stderr).decode()
        if done.returncode != 1 or not all(w in said for w in words):
            raise Failure("--sync-now: exit %d, and says %r, not %s" % (done.returncode, said, words))
        self.untouched("--sync-now")

    def equal(self, what=""):
        self.daemon.wait(60)
        self.compare(what)

    def compare(self, what=""):
        source, target = names(os.path.realpath(self.source)), names(self.target)
        if source != target:
            raise Failure("%s: not equal: %s\n%s" % (what, [p for p in set(source) | set(target)
                                                           if source.get(p) != target.get(p)], self.daemon.tail()))

    def allow(self, what=""):
        """--allow-delete lets it through, and it is equal from then on."""
        done = self.daemon.client("--sync-now", "--allow-delete", check=False)
        if done.returncode != 0:
            raise Failure("%s: --sync-now --allow-delete: exit %d\n%s\n%s" % (what, done.returncode,
                                                                       done.stderr.decode(), self.daemon.tail()))
        self.compare(what)
        if self.daemon.process is not None:
            write(self.source + "/after", what)
            self.equal(what + ", afterwards")

    def stop(self):
        self.daemon.stop()


# ---- the source ----

def unmounted(place, watcher, transport="rsync"):
    p = Place(place, watcher, transport=transport)
    image = Image(place + "/image", p.source)
    try:
        fill(p.source)
        p.start()
        image.umount("-l")
        p.stopped("another directory than before", "not mounted", "--allow-delete")
        write(p.source + "/below", "what lies below the mount point")
        p.refused_now("another directory", "--allow-delete")
        p.unchanged("unmounted")
        os.unlink(p.source + "/below")
        image.mount()
        write(p.source + "/new", "written behind our back")
        os.unlink(p.source + "/top")
        await_fact(lambda: p.sync()["state"] in ("idle", "waiting", "sending"), 30, "a sync that goes on")
        p.equal("mounted again")
        os.unlink(p.source + "/new")
        p.equal("and watched")
        image.umount("-l")
        p.stopped("another directory than before")
        write(p.source + "/below", "what lies below the mount point")
        p.allow("unmounted for good")
    finally:
        p.stop()


def source_unmounted_fanotify(place):
    unmounted(place, "fanotify")


def source_unmounted_inotify(place):
    unmounted(place, "inotify")


def source_unmounted_direct(place):
    unmounted(place, "fanotify", "direct")


def source_not_mounted_at_start(place):
    p = Place(place)
    image = Image(place + "/image", p.source)
    try:
        fill(p.source)
        p.start()
        p.stop()
        image.umount()
        write(p.source + "/below", "what lies below the mount point")
        p.refused_now("another directory than before")
        p.daemon.start(wait=False)
        p.stopped("not mounted")
        p.unchanged("not mounted")
        image.mount()
        p.equal("mounted after the start")
        p.stop()
        image.umount()
        p.allow("without a daemon")
        p.start()
    finally:
        p.stop()


def source_emptied(place, transport="rsync"):
    """Deletions as they happen, too: nobody can tell them from those of a disk that goes."""
    p = Place(place, delay=1.0, transport=transport)
    try:
        fill(p.source)
        p.start()
        os.mkdir(place + "/aside")
        for name in os.listdir(p.source):
            os.rename(p.source + "/" + name, place + "/aside/" + name)
        p.stopped("is empty", "allowEmptySource", "--allow-delete")
        p.refused_now("is empty")
        p.unchanged("emptied")
        for name in os.listdir(place + "/aside"):
            os.rename(place + "/aside/" + name, p.source + "/" + name)
        os.unlink(p.source + "/top")
        p.equal("filled again")
        shutil.rmtree(p.source + "/d0")
        p.equal("a deletion like any other")
        for name in os.listdir(p.source):
            os.rename(p.source + "/" + name, place + "/aside/" + name + "again")
        p.stopped("is empty")
        p.allow("emptied on purpose")
    finally:
        p.stop()


def source_emptied_direct(place):
    source_emptied(place, "direct")


def source_empty_at_start(place, transport="rsync"):
    p = Place(place, transport=transport)
    try:
        fill(p.source)
        p.start()
        p.stop()
        for name in os.listdir(p.source):
            os.rename(p.source + "/" + name, place + "/" + name)
        os.mkdir(p.source + "/lost+found")
        p.refused_now("is empty")
        p.daemon.start(wait=False)
        p.stopped("is empty", "allowEmptySource")
        p.unchanged("empty at the start")
        os.rename(place + "/top", p.source + "/top")
        p.equal("not empty any more")
        p.stop()
        os.unlink(p.source + "/top")
        p.configure("allowEmptySource = true;")
        p.daemon.start()
        p.equal("allowEmptySource")
        if names(p.target).keys() - {b"", b"lost+found"}:
            raise Failure("allowEmptySource: the target is not empty")
    finally:
        p.stop()


def source_empty_at_start_direct(place):
    source_empty_at_start(place, "direct")


def source_replaced(place, watcher="inotify", transport="rsync"):
    p = Place(place, watcher, transport=transport)
    try:
        fill(p.source)
        p.start()
        os.rename(p.source, place + "/aside")
        fill(p.source, 1)
        p.stopped("another directory than before", "replaced")
        p.unchanged("replaced while running")
        shutil.rmtree(p.source)
        p.stopped("No such file or directory")
        os.rename(place + "/aside", p.source)
        write(p.source + "/new", "changed meanwhile")
        p.equal("back again")
        p.stop()
        p.before = names(p.target)
        os.rename(p.source, place + "/aside")
        fill(p.source, 1)
        # Another name is no way around, nor is another path to another directory.
        p.configure(name="renamed")
        p.daemon.start(wait=False)
        p.stopped("another directory than before")
        p.refused_now("another directory than before")
        p.stop()
        p.source = place + "/elsewhere"
        fill(p.source, 2)
        p.configure(name="renamed")
        p.daemon.start(wait=False)
        p.stopped("was mirrored from", "/source so far")
        p.unchanged("replaced while down")
        p.allow("replaced on purpose")
        p.stop()
        p.daemon.start()
        p.equal("remembered")
    finally:
        p.stop()


def source_replaced_fanotify(place):
    source_replaced(place, "fanotify")


def source_replaced_direct(place):
    source_replaced(place, transport="direct")


def source_covered(place, transport="rsync"):
    """Another file system is mounted over it, with the worker in the middle of its work."""
    p = Place(place, transport=transport)
    try:
        fill(p.source)
        p.start()
        tmpfs(p.source)
        write(p.source + "/other")
        p.stopped("another directory than before")
        p.unchanged("covered")
        run("umount", p.source)
        write(p.source + "/new")
        p.equal("uncovered")
    finally:
        p.stop()


def source_covered_direct(place):
    source_covered(place, "direct")


def source_replaced_in_the_middle(place):
    """Without a watcher, between two batches: the worker itself looks whom it works for."""
    p = Place(place)
    try:
        fill(p.source)
        p.start()
        p.stop()
        write(place + "/rsync", """#!/bin/sh
case "$*" in *--files-from=*) ;; *) exec rsync "$@" ;; esac
[ -e '{0}/aside' ] && exec rsync "$@"
mv '{0}/source' '{0}/aside'; rm '{0}/aside/top'; mkdir '{0}/source'; echo other >'{0}/source/other'
exit 14
""".format(place))
        os.chmod(place + "/rsync", 0o755)
        p.rsync_more = lambda: 'binary = "%s/rsync"; confine = false;' % place
        p.configure()
        p.refused_now("is another directory now")
        p.unchanged("replaced in the middle")
    finally:
        p.stop()


def source_becomes_symlink(place, transport="rsync"):
    p = Place(place, transport=transport)
    try:
        fill(p.source)
        p.start()
        os.rename(p.source, place + "/aside")
        os.symlink("aside", p.source)
        p.stopped("symbolic link", "restart or reload")
        write(place + "/aside/new")
        os.unlink(place + "/aside/top")
        p.refused_now("symbolic link")
        p.unchanged("through a symbolic link")
        os.unlink(p.source)
        os.rename(place + "/aside", p.source)
        p.equal("a directory again")
        p.stop()
        p.before = names(p.target)
        os.rename(p.source, place + "/aside")
        fill(place + "/other", 1)
        os.symlink("other", p.source)
        p.daemon.start(wait=False)
        p.stopped("was mirrored from", "other")
        p.unchanged("a symbolic link at the start")
        os.unlink(p.source)
        os.symlink("aside", p.source)  # the same directory, in another place
        p.stop()
        p.daemon.start()
        p.equal("resolved at the start")
    finally:
        p.stop()


def source_becomes_symlink_direct(place):
    source_becomes_symlink(place, "direct")


# ---- mounts below the source ----

def kept(p):
    return {k["path"]: k["reason"] for k in p.sync()["kept"]}


def mount_below(place, watcher, transport="rsync", target=None):
    p = Place(place, watcher, transport=transport, target=target)
    below = p.source + "/d/m"
    image = Image(place + "/image", below)
    try:
        fill(p.source)
        fill(below)
        p.start()
        if kept(p):
            raise Failure("kept: %s" % kept(p))
        # Gone: what was below the mount point shows, also after a restart, and if that goes, too.
        image.umount()
        write(p.source + "/d/beside", "not below the mount point")
        p.daemon.wait(60)
        run_now(p)
        p.untouched("unmounted below")
        if "d/m" not in kept(p):
            raise Failure("not among what is kept: %s" % kept(p))
        write(below + "/uncovered", "what was below")
        os.unlink(p.source + "/d/beside")
        run_now(p)
        p.untouched("compared")
        p.stop()
        p.daemon.start()
        p.untouched("after a restart")
        shutil.rmtree(below)
        os.unlink(p.source + "/top")
        p.daemon.client("--sync-now", check=False)
        if os.path.exists(p.target + "/top"):
            raise Failure("nothing is deleted elsewhere")
        del p.before[b"top"]
        p.untouched("without its mount point")
        shutil.rmtree(p.source + "/d")
        p.daemon.client("--sync-now", check=False)
        p.untouched("without the directory above its mount point")
        # Back: all goes on.
        os.makedirs(below)
        image.mount()
        os.unlink(below + "/top")
        run_now(p)
        p.compare("mounted again")
        if kept(p):
            raise Failure("still kept: %s" % kept(p))
        os.unlink(below + "/d0/f0")
        p.equal("deletions there again")
        p.before = names(p.target)
        # Another one in its place.
        image.umount()
        tmpfs(below)
        write(below + "/other")
        run_now(p)
        p.untouched("another file system in its place")
        p.allow("another file system for good")
        if kept(p):
            raise Failure("kept though allowed: %s" % kept(p))
        run("umount", below)
        p.stop()
    finally:
        p.stop()


def run_now(p):
    done = p.daemon.client("--sync-now", check=False)
    if done.returncode != 0:
        raise Failure("--sync-now: exit %d\n%s\n%s" % (done.returncode, done.stderr.decode(), p.daemon.tail()))


def mount_below_fanotify(place):
    mount_below(place, "fanotify")


def mount_below_inotify(place):
    mount_below(place, "inotify")


def mount_below_direct(place):
    mount_below(place, "inotify", "direct")


def mount_below_sftp(place):
    sshd = Sshd(place + "/sshd", config="Subsystem sftp internal-sftp\n").start()
    try:
        mount_below(place, "inotify", "sftp",
                    'host = "127.0.0.1"; targetdir = "%s/target"; %s' % (place, sshd.section()))
    finally:
        sshd.stop()


def mount_appears(place):
    """Over a directory with content: what it hides must stay on the target."""
    p = Place(place)
    try:
        fill(p.source)
        p.start()
        tmpfs(p.source + "/d1")
        write(p.source + "/d1/new", "on the new file system")
        await_fact(lambda: os.path.exists(p.target + "/d1/new"), 30, "what is on the new file system")
        run_now(p)
        p.untouched("a mount over a directory")
        if "d1" not in kept(p) or "was not before" not in kept(p)["d1"]:
            raise Failure("the status does not say so: %s" % kept(p))
        os.unlink(p.source + "/d1/new")  # given up, and named
        p.daemon.wait(60, check=False)
        failures = p.sync()["failures"]
        if not any(f["path"] == "d1/new" and f["given_up"] and "--allow-delete" in f["reason"] for f in failures):
            raise Failure("a deletion there is not named: %s" % failures)
        p.stop()
        run("umount", p.source + "/d1")
        p.daemon.start(wait=False)
        run_now(p)
        p.untouched("gone again")
        tmpfs(p.source + "/d2")
        p.allow("mounted for good")
        # It moves with the directory above it.
        os.makedirs(p.source + "/a")
        os.rename(p.source + "/d0", p.source + "/a/d0")
        run_now(p)
        if kept(p):
            raise Failure("kept: %s" % kept(p))
    finally:
        p.stop()


def mount_moves_along(place):
    p = Place(place)
    try:
        fill(p.source)
        tmpfs(p.source + "/a/m")
        fill(p.source + "/a/m")
        p.start()
        os.rename(p.source + "/a", p.source + "/b")
        p.daemon.wait(60)
        run_now(p)
        p.compare("moved with its directory")
        if kept(p):
            raise Failure("kept: %s" % kept(p))
    finally:
        p.stop()


# ---- what can't be read ----

def unreadable(place):
    """EACCES, as an ordinary user: whoever can't look must not conclude that there is nothing."""
    tmpfs("/mnt")
    os.chmod("/mnt", 0o755)
    place = "/mnt/" + os.path.basename(place)
    os.makedirs(place)
    p = Place(place)
    p.daemon.prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
    try:
        fill(p.source)
        for path, _, files in os.walk(place):
            for name in [path] + [path + "/" + f for f in files]:
                os.chown(name, 65534, 65534)
        p.start()
        write(p.source + "/d0/f0", "changed just before")
        os.chmod(p.source + "/d0", 0)
        write(p.source + "/d1/f1", "changed elsewhere")
        os.unlink(p.source + "/top")
        os.chown(p.source, 65534, 65534)
        await_fact(lambda: open(p.target + "/d1/f1").read() == "changed elsewhere", 30, "the change elsewhere")
        p.daemon.client("--sync-now", check=False)
        del p.before[b"top"]
        p.untouched("a directory that can't be read")
        if not any(f["path"].startswith("d0") and "ermission" in f["reason"] for f in p.sync()["failures"]):
            raise Failure("the status does not name it: %s" % p.sync()["failures"])
        os.chmod(p.source + "/d0", 0o400)  # its names can be read, nothing else
        p.daemon.client("--sync-now", check=False)
        p.untouched("a directory that can't be searched")
        p.stop()
        p.daemon.start(wait=False)
        p.daemon.wait(60, check=False)
        p.untouched("a directory that can't be searched at the start")
        if os.path.exists(p.target + "/top"):
            raise Failure("nothing is deleted elsewhere")
        os.chmod(p.source + "/d0", 0o755)
        await_fact(lambda: names(p.source) == names(p.target) and not p.sync()["failures"], 30, "readable again: equal")
    finally:
        p.stop()
        run("umount", "-l", "/mnt")


# ---- the target ----

def target_unmounted(place, transport="rsync"):
    p = Place(place, transport=transport)
    image = Image(place + "/image", p.target)
    lazily = ["-l"] if transport == "direct" else []  # its worker has the directory open
    try:
        fill(p.source)
        p.start()
        image.umount(*lazily)
        write(p.target + "/d0/below", "on the disk below")
        p.before = names(p.target)
        os.unlink(p.source + "/d0/f0")
        p.stopped("the target", "another directory than before", "--allow-delete", state=("stopped",))
        p.refused_now("another directory than before")
        p.unchanged("the target's disk is gone")
        p.stop()
        p.daemon.start(wait=False)
        p.stopped("another directory than before", state=("stopped",))
        p.unchanged("after a restart")
        image.mount()
        p.equal("mounted again")
        image.umount(*lazily)
        write(p.source + "/new")
        p.stopped("another directory than before", state=("stopped",))
        p.allow("another target")
    finally:
        p.stop()


def target_unmounted_direct(place):
    target_unmounted(place, "direct")


def target_replaced(place, transport="rsync"):
    p = Place(place, transport=transport)
    aside = place + "/aside"
    try:
        fill(p.source)
        p.start()
        # Missing: it is not made anew behind the administrator's back.
        os.rename(p.target, aside)
        os.unlink(p.source + "/top")
        p.stopped("is gone", "--allow-delete", state=("stopped",))
        if os.path.exists(p.target):
            raise Failure("the target was made")
        # A symbolic link to another directory.
        fill(place + "/other")
        write(place + "/other/precious")
        os.symlink("other", p.target)
        p.before = names(place + "/other")
        p.stopped("another directory than before", state=("stopped",))
        p.refused_now("another directory than before")
        if names(place + "/other") != p.before:
            raise Failure("what the link leads to was changed")
        os.unlink(p.target)
        os.rename(aside, p.target)
        p.equal("back again")
        shutil.rmtree(p.target)
        write(p.source + "/new")
        p.stopped("is gone", state=("stopped",))
        p.allow("made anew")
    finally:
        p.stop()


def target_replaced_direct(place):
    target_replaced(place, "direct")


def target_becomes_symlink(place, transport):
    """A remote one: whose path it is decides where it leads, and a new connection goes there. What was not meant has no marker."""
    os.makedirs(place + "/target")
    if transport == "tcp":
        server = Receiver(place + "/receiver", place + "/target").start()
        where = server.section()
    else:
        server = Sshd(place + "/sshd").start()
        where = 'host = "127.0.0.1"; targetdir = "%s/target"; %s' % (place, server.section())
    p = Place(place, transport=transport, target=where, more='requireTargetMarker = ".disk";')
    other, aside = place + "/other", place + "/aside"
    try:
        fill(p.source)
        for d in (p.source, p.target):
            write(d + "/.disk")
        p.start()
        fill(other, 3)
        write(other + "/precious")
        os.rename(p.target, aside)
        os.symlink("other", p.target)
        p.before = names(p.target)
        write(p.source + "/new")
        os.unlink(p.source + "/top")
        if transport == "tcp":  # a session stays in the directory that it began in
            p.daemon.wait(60)
            if names(aside) != names(p.source):
                raise Failure("not in the directory that the session began in: %s" % names(aside).keys())
        else:
            p.stopped("requireTargetMarker: .disk", state=("stopped",))
            p.refused_now("requireTargetMarker")
        p.unchanged("while it is connected")
        p.stop()
        write(p.source + "/newer")
        p.daemon.start(wait=False)
        p.stopped("requireTargetMarker: .disk", state=("stopped",))
        p.refused_now("requireTargetMarker")
        p.unchanged("by a new connection")
        os.unlink(p.target)
        os.rename(aside, p.target)
        p.equal("a directory again")
    finally:
        p.stop()
        server.stop()


def target_becomes_symlink_tcp(place):
    target_becomes_symlink(place, "tcp")


def target_becomes_symlink_rsyncssh(place):
    target_becomes_symlink(place, "rsyncssh")


# ---- markers ----

def marker_on_the_source(place):
    p = Place(place)
    try:
        fill(p.source)
        write(p.source + "/.there")
        p.configure('requireMarker = ".there";')
        p.start()
        os.unlink(p.source + "/.there")
        os.unlink(p.source + "/top")
        p.stopped("requireMarker: .there", "make the file", state=("stopped",))
        p.refused_now("requireMarker")
        p.unchanged("without its marker")
        write(p.source + "/.there")
        p.equal("with its marker")
        os.unlink(p.source + "/.there")
        p.stopped("requireMarker", state=("stopped",))
        done = p.daemon.client("--sync-now", "--allow-delete")
        p.compare("allowed: %s" % done.stdout)
    finally:
        p.stop()


def target_marker(p, server_dir=None):
    """Of a marker that only the target has."""
    target = server_dir or p.target
    try:
        fill(p.source)
        os.makedirs(target, exist_ok=True)
        p.configure('requireTargetMarker = ".disk [1]*";')
        p.daemon.start(wait=False)
        p.stopped("requireTargetMarker: .disk [1]*", "make the file", state=("stopped",))
        if names(target).keys() - {b""}:
            raise Failure("carried without the marker: %s" % names(target))
        write(target + "/.disk [1]*")
        p.daemon.wait(60)
        run_now(p)
        p.before = names(target)
        if b".disk [1]*" not in p.before or b"top" not in p.before:
            raise Failure("the marker was deleted, or nothing carried: %s" % p.before.keys())
        os.unlink(target + "/.disk [1]*")
        del p.before[b".disk [1]*"]
        os.unlink(p.source + "/top")
        p.stopped("requireTargetMarker", state=("stopped",))
        p.refused_now("requireTargetMarker")
        p.unchanged("without the target's marker")
        write(target + "/.disk [1]*")
        p.daemon.wait(60)
        if os.path.exists(target + "/top"):
            raise Failure("it does not go on")
        os.unlink(target + "/.disk [1]*")
        os.unlink(p.source + "/d0/f0")
        p.stopped("requireTargetMarker", state=("stopped",))
        p.daemon.client("--sync-now", "--allow-delete")
        p.compare("allowed")
    finally:
        p.stop()


def marker_on_a_local_target(place):
    target_marker(Place(place))


def marker_on_a_direct_target(place):
    target_marker(Place(place, transport="direct"))


def marker_over_ssh(place):
    sshd = Sshd(place + "/sshd").start()
    try:
        target_marker(Place(place, transport="rsyncssh",
                            target='host = "127.0.0.1"; targetdir = "%s/target"; %s' % (place, sshd.section())))
    finally:
        sshd.stop()


def marker_over_sftp(place):
    sshd = Sshd(place + "/sshd", config="Subsystem sftp internal-sftp\n").start()
    try:
        target_marker(Place(place, transport="sftp",
                            target='host = "127.0.0.1"; targetdir = "%s/target"; %s' % (place, sshd.section())))
    finally:
        sshd.stop()


def marker_over_tcp(place):
    os.makedirs(place + "/target")
    receiver = Receiver(place + "/receiver", place + "/target").start()
    try:
        target_marker(Place(place, transport="tcp", target=receiver.section()))
    finally:
        receiver.stop()


def marker_both_ways(place):
    sshd = Sshd(place + "/sshd").start()
    try:
        p = Place(place, transport="rsyncssh",
                  target='host = "127.0.0.1"; targetdir = "%s/target"; bidirectional = true; %s' % (place, sshd.section()))
        target_marker(p)
    finally:
        sshd.stop()


def mount_below_both_ways(place):
    """A deletion that is ours by all other rules."""
    sshd = Sshd(place + "/sshd").start()
    p = Place(place, transport="rsyncssh",
              target='host = "127.0.0.1"; targetdir = "%s/target"; bidirectional = true; %s' % (place, sshd.section()))
    try:
        fill(p.source)
        image = Image(place + "/image", p.source + "/d/m")
        fill(p.source + "/d/m")
        p.start()
        image.umount()
        os.unlink(p.source + "/top")
        p.daemon.client("--sync-now", check=False)
        if os.path.exists(p.target + "/top"):
            raise Failure("nothing is deleted elsewhere")
        del p.before[b"top"]
        p.untouched("unmounted below")
        image.mount()
        os.unlink(p.source + "/d/m/top")
        p.daemon.wait(60)
        run_now(p)
        p.compare("mounted again")
    finally:
        p.stop()
        sshd.stop()


class NoShell(Place):
    """rsync connects by itself: there is nobody else to ask."""

    def rsync_more(self):
        return 'rsh = "ssh -p %d -i %s -o UserKnownHostsFile=%s -o BatchMode=yes";' % (
            self.sshd.port, self.sshd.key, self.sshd.known_hosts)


def marker_without_a_shell(place):
    NoShell.sshd = Sshd(place + "/sshd").start()
    try:
        target_marker(NoShell(place, transport="rsyncssh",
                              target='host = "127.0.0.1"; targetdir = "%s/target"; %s' % (place, NoShell.sshd.section())))
    finally:
        NoShell.sshd.stop()


def marker_at_an_rsync_daemon(place):
    port = free_port()
    os.makedirs(place + "/target", exist_ok=True)
    with open(place + "/rsyncd.conf", "w") as f:
        f.write("use chroot = no\nuid = 0\ngid = 0\n[m]\npath = %s/target\nread only = no\n" % place)
    server = subprocess.Popen(["rsync", "--daemon", "--no-detach", "--port=%d" % port, "--address=127.0.0.1",
                               "--config=" + place + "/rsyncd.conf"], stdin=subprocess.DEVNULL)
    try:
        target_marker(Place(place, target='target = "rsync://127.0.0.1:%d/m/";' % port))
    finally:
        server.kill()
        server.wait()


# ---- how many ----

def limit_while_running(place):
    p = Place(place, delay=1.0)
    try:
        fill(p.source, 12)
        write(p.source + "/d9/a")
        p.configure("maxDelete = 3;")
        p.start()
        shutil.rmtree(p.source + "/d0")  # five entries
        os.unlink(p.source + "/d1/f1")
        write(p.source + "/new", "not a deletion")
        p.daemon.wait(60, check=False)
        lost = [path for path in p.before if path not in names(p.target)]
        if len(lost) > 3 or not os.path.exists(p.target + "/new"):
            raise Failure("maxDelete = 3: deleted %s" % lost)
        if not any(f["given_up"] and "maxDelete" in f["reason"] and "--allow-delete" in f["reason"]
                   for f in p.sync()["failures"]):
            raise Failure("it is not said: %s" % p.sync()["failures"])
        p.allow("allowed")
        # What makes room for something else counts as well, and so do all runs of a batch together.
        p.before = names(p.target)
        for d in ("d1", "d2"):
            shutil.rmtree(p.source + "/" + d)
            write(p.source + "/" + d, "a file now")
        p.daemon.wait(60, check=False)
        lost = [path for path in p.before if path not in names(p.target)]
        if len(lost) > 3:
            raise Failure("maxDelete = 3: deleted %s" % lost)
        p.allow("allowed once more")
    finally:
        p.stop()


def limit_of_a_comparison(place):
    """The default: the larger of 1000 and half of the listing."""
    p = Place(place)
    try:
        fill(p.source)
        for i in range(1100):
            write("%s/many/d%d/f" % (p.source, i))
        p.start()
        p.stop()
        shutil.rmtree(p.source + "/many")  # 2201 entries
        p.daemon.start(wait=False)
        p.daemon.wait(60, check=False)
        lost = len(p.before) - len(names(p.target))
        if not 0 <= lost <= 1000:
            raise Failure("%d were deleted" % lost)
        failures = p.sync()["failures"]
        if not any("maxDelete" in f["reason"] and "--allow-delete" in f["reason"] for f in failures):
            raise Failure("it is not said: %s" % failures)
        p.allow("allowed")
    finally:
        p.stop()


# ---- the others ----

def others_go_on(place):
    p = Place(place)
    other = place + "/other"
    fill(other)
    try:
        fill(p.source)
        p.configure(others=', { name = "o"; transport = "rsync"; source = "%s"; target = "%s-copy"; delay = 0.05; '
                    'watcher = "inotify"; rsync = { archive = true; }; }' % (other, other))
        p.start()
        os.rename(p.source, place + "/aside")
        fill(p.source, 1)
        p.stopped("another directory")
        write(other + "/new")
        os.unlink(other + "/top")
        p.daemon.client("--wait", "--timeout", "60", "--only", "o")
        expect_equal(other, other + "-copy", "the other sync")
        p.daemon.client("--sync-now", "--only", "o", "--allow-delete")
        p.stopped("another directory")  # it was not meant
        p.unchanged("--only another one")
    finally:
        p.stop()


own_mounts()
main([source_unmounted_fanotify, source_unmounted_inotify, source_unmounted_direct, source_not_mounted_at_start, source_emptied, source_emptied_direct, source_empty_at_start, source_empty_at_start_direct,
      source_replaced, source_replaced_fanotify, source_replaced_direct, source_covered, source_covered_direct, source_replaced_in_the_middle,
      source_becomes_symlink, source_becomes_symlink_direct, mount_below_fanotify,
      mount_below_inotify, mount_below_direct, mount_below_sftp, mount_appears, mount_moves_along, unreadable, target_unmounted, target_unmounted_direct, target_replaced,
      target_replaced_direct, target_becomes_symlink_tcp, target_becomes_symlink_rsyncssh,
      marker_on_the_source, marker_on_a_local_target, marker_on_a_direct_target, marker_over_ssh, marker_over_sftp, marker_over_tcp, marker_both_ways, mount_below_both_ways, marker_without_a_shell, marker_at_an_rsync_daemon,
      limit_while_running, limit_of_a_comparison, others_go_on])
