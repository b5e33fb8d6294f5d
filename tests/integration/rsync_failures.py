#!/usr/bin/env python3
# TIMEOUT: 300
"""rsync's exit 23 and 24, path by path: what can't be sent or deleted is named in the status with its reason and has a backoff
of its own; everything else of its batch arrives; later batches are one rsync each; and once the cause is gone, so is the
failure. Against the real rsync, at either side, with names of odd bytes."""
import os
import select
import shutil
import stat
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "churn"), os.path.join(HERE, "..", "lib")]
import generator
from accounts import Remote
from fansync import Daemon, Failure, await_fact, expect_equal, free_port, main, run, skip

NOBODY = 65534
ODD = ["plain", "new\nline", 'quo"te', 'a","b', 'x" -> "y', "\udcff\udcfe", "\\#012", "f (13)", "delete_file: (x) failed", "#x"]


class Place:
    """A daemon without the right to everything (where the tests are root's), and a batch that is given in one piece."""

    def __init__(self, place, more="delay = 60.0; retryMax = 300.0;", rsync="", target=None, user=True):
        self.place, self.source, self.target = place, place + "/source", target or place + "/target"
        self.user = user
        for path in (place, self.source) + (() if "://" in self.target else (self.target,)):
            os.makedirs(path, exist_ok=True)
            if self.user:
                os.chown(path, NOBODY, NOBODY)
        if self.user:
            os.chmod(os.path.dirname(place), 0o755)
        self.daemon = Daemon(place, "", prefix=["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups",
                                                "--"] if self.user else [])
        self.daemon.write_config('sync = ( { name = "s"; transport = "rsync"; source = "%s"; target = "%s"; '
                                 'watcher = "inotify"; retryMin = 0.3; rsync = { archive = true; %s }; '
                                 '%s } );\n' % (self.source, self.target, rsync, more))

    def put(self, name, text="x"):
        path = os.path.join(self.source, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", errors="surrogateescape") as f:
            f.write(text)
        if self.user:
            self.own(path)
        return path

    def own(self, path):
        while path != self.source:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
            path = os.path.dirname(path)

    def closed(self, name):
        """Another's at the target: of its own directory, rsync makes it writable for as long as it needs."""
        os.chown(os.path.join(self.target, name), 0, 0)

    def opened(self, name):
        os.chown(os.path.join(self.target, name), NOBODY, NOBODY)

    def failures(self):
        return {os.fsencode(f["path"]) if not isinstance(f["path"], bytes) else f["path"]: f["reason"]
                for f in self.daemon.sync("s")["failures"]}

    def counters(self):
        return self.daemon.sync("s")["counters"]

    def between_batches(self):
        """What a batch took is told at its end."""
        def over():
            s = self.daemon.sync("s")
            return s if s["state"] != "sending" else None
        return await_fact(over, 60, "no batch under way")

    def stuck(self, what, paths, reason):
        """The wait ends with 1, exactly these paths are named with that reason, and later batches don't mind."""
        done = self.daemon.wait(60, check=False)
        if done.returncode != 1:
            raise Failure("%s: --wait said %d: %s" % (what, done.returncode, done.stderr))
        found = self.failures()
        if len(found) != len(paths) or any(reason not in why for why in found.values()):
            raise Failure("%s: failures %s" % (what, found))
        if not any("\\" in p or b"\\" in os.fsencode(p) for p in paths) and set(found) != {os.fsencode(p) for p in paths}:
            raise Failure("%s: failures of %s, not %s" % (what, sorted(found), sorted(paths)))
        for i in range(8):  # until one comes between two attempts at what failed, whose pauses double
            before = self.between_batches()
            name = "later %s %d" % (what, i)
            self.put(name)
            self.daemon.wait(60, check=False)
            after = self.between_batches()
            if not os.path.exists(os.path.join(self.target, name)):
                raise Failure("%s: a later file did not arrive" % what)
            if len(after["failures"]) != len(paths):
                raise Failure("%s: forgotten: %s" % (what, after["failures"]))
            if before["counters"]["retries"] == after["counters"]["retries"]:
                used, batches = [after["counters"][c] - before["counters"][c] for c in ("processes", "batches")]
                if used > batches:
                    raise Failure("%s: %d later batches took %d processes" % (what, batches, used))
                return
        raise Failure("%s: tried again without a pause" % what)

    def healed(self, what):
        # A batch of before may be on its way still.
        await_fact(lambda: self.daemon.client("--sync-now", "--quiet", check=False).returncode == 0, 60, what + ": equal")
        if self.failures():
            raise Failure("%s: failures %s" % (what, self.failures()))
        expect_equal(self.source, self.target, what)


def case(place, body, **how):
    p = Place(place, **how)
    try:
        body(p)
    except Failure as e:
        raise Failure("%s\n%s" % (e, p.daemon.tail(40))) from e
    finally:
        p.daemon.stop()


def unreadable_files(place):
    def body(p):
        p.put("good", "1")
        p.daemon.start()
        bad = [p.put("dir/" + name) for name in ODD] + [p.put("#top")]
        for path in bad:
            os.chmod(path, 0)
        good = [p.put("dir/good %d" % i, str(i)) for i in range(20)]
        p.stuck("unreadable", ["dir/" + name for name in ODD] + ["#top"], "ermission denied")
        missing = [g for g in good if not os.path.exists(g.replace(p.source, p.target))]
        if missing:
            raise Failure("held up: %s" % missing)
        for path in bad:
            os.chmod(path, 0o644)
        p.healed("unreadable files")
    case(place, body)


def unreadable_directory(place):
    """At start, and later: what is below it stays at the target, what is elsewhere is deleted all the same."""
    def body(p):
        p.put("closed/a")
        p.put("open/a")
        for name in ("closed/left", "open/left"):
            path = os.path.join(p.target, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            open(path, "w").close()
            if p.user:
                os.chown(os.path.dirname(path), NOBODY, NOBODY)
        os.chmod(p.source + "/closed", 0)
        p.daemon.start(wait=False)
        p.stuck("closed", ["closed"], "ermission denied")
        if not os.path.exists(p.target + "/closed/left") or os.path.exists(p.target + "/open/left"):
            raise Failure("deletions: %s %s" % (os.listdir(p.target + "/closed"), os.listdir(p.target + "/open")))
        os.chmod(p.source + "/closed", 0o755)
        p.healed("unreadable directory")
    case(place, body)


def read_only_directory_at_the_target(place):
    """Neither what is to go into it nor what is to go from it can be had; also when that is found by a comparison."""
    def body(p):
        for i in range(3):
            p.put("ro/old%d" % i)
        p.put("rw/old")
        p.daemon.start()
        p.closed("ro")
        p.put("ro/old0", "changed")
        p.put("ro/new", "new")
        p.put("ro/deep/er/file")
        for i in range(30):
            p.put("ro/deep/many%d" % i)
        os.unlink(p.source + "/ro/old1")
        p.put("rw/new")
        os.unlink(p.source + "/rw/old")
        before = p.counters()
        p.daemon.wait(60, check=False)
        used, batches = p.counters()["processes"] - before["processes"], p.counters()["batches"] - before["batches"]
        if used > 3 * batches:
            raise Failure("%d processes for %d batches" % (used, batches))
        if sorted(os.listdir(p.target + "/rw")) != ["new"]:
            raise Failure("held up: %s" % os.listdir(p.target + "/rw"))
        found = p.failures()
        for path in (b"ro/old0", b"ro/new", b"ro/old1", b"ro/deep/er/file", b"ro/deep/many7"):
            if path not in found or "ermission denied" not in found[path]:
                raise Failure("not named: %s; %s" % (path, found))
        if sorted(os.listdir(p.target + "/ro")) != ["old0", "old1", "old2"]:
            raise Failure("in the read-only directory: %s" % os.listdir(p.target + "/ro"))
        p.daemon.client("--sync-now", "--quiet", check=False)
        found = p.failures()
        if not any(path.startswith(b"ro/") for path in found) or b"ro/old1" not in found:
            raise Failure("forgotten by the comparison: %s" % found)
        p.opened("ro")
        p.healed("read-only directory")
    case(place, body)


def undeletable_at_start(place):
    """A deletion that a comparison could not do is not forgotten with it."""
    def body(p):
        p.put("ro/a")
        os.makedirs(p.target + "/ro/extra dir")
        open(p.target + "/ro/extra", "w").close()
        for path in ("/ro", "/ro/extra dir"):
            if p.user:
                os.chown(p.target + path, NOBODY, NOBODY)
        shutil.copy2(p.source + "/ro/a", p.target + "/ro/a")
        if p.user:
            os.chown(p.target + "/ro/a", NOBODY, NOBODY)
        p.put("fine")
        p.closed("ro")
        p.daemon.start(wait=False)
        p.daemon.wait(60, check=False)
        found = p.failures()
        if b"ro/extra" not in found or b"ro/extra dir" not in found:
            raise Failure("not named: %s" % found)
        if not os.path.exists(p.target + "/fine"):
            raise Failure("held up")
        p.opened("ro")
        await_fact(lambda: not p.failures(), 60, "another attempt: %s" % p.failures())
        expect_equal(p.source, p.target, "undeletable")
        p.healed("undeletable")
    case(place, body, more="delay = 60.0; retryMax = 1.0;")


def too_long_a_path(place):
    """Longer than rsync can take: given up, and said so; rsync itself would cut the name and say nothing."""
    def body(p):
        p.daemon.start()
        os.chdir(p.source)
        try:
            for _ in range(20):
                os.mkdir("n" * 220)
                if p.user:
                    os.chown("n" * 220, NOBODY, NOBODY)
                os.chdir("n" * 220)
            with open("f", "w") as f:
                f.write("deep")
        finally:
            os.chdir(place)
        p.put("short")
        done = p.daemon.wait(60, check=False)
        found = p.failures()
        if done.returncode != 1 or not found or not any("long" in why for why in found.values()):
            raise Failure("%d %s" % (done.returncode, found))
        if not os.path.exists(p.target + "/short"):
            raise Failure("held up")
        run("rm", "-rf", p.source + "/" + "n" * 220)
        p.healed("too long a path")
    case(place, body)


def other_disk(place, kind, body, **how):
    """The target is a file system of its own: a small one, or one without attributes."""
    target = place + "/target"
    os.makedirs(target)
    if kind == "ext2":
        image = place + "/image"
        with open(image, "wb") as f:
            f.truncate(8 << 20)
        run("mkfs.ext2", "-q", "-b", "1024", image)
        run("mount", "-o", "loop", image, target)
        os.rmdir(target + "/lost+found")
    else:
        run("mount", "-t", kind, "none", target)
    try:
        case(place, body, user=False, **how)
    finally:
        run("umount", target)


def attributes_too_large(place):
    """An attribute for which the target has no room says nothing of the room for files."""
    def body(p):
        p.put("good")
        p.daemon.start()
        for name in ODD[:6]:
            os.setxattr(p.put("dir/" + name), "user.big", b"x" * 3000)
        os.setxattr(p.put("small"), "user.small", b"x")
        p.stuck("attributes", ["dir/" + name for name in ODD[:6]], "xattr")
        if os.getxattr(p.target + "/small", "user.small") != b"x":
            raise Failure("held up")
        for name in ODD[:6]:
            os.removexattr(os.path.join(p.source, "dir", name), "user.big")
        p.healed("attributes")
    other_disk(place, "ext2", body, rsync="xattrs = true;")


def no_acls_at_the_target(place):
    def body(p):
        p.put("good")
        p.daemon.start()
        for name in ODD[:6]:
            run("setfacl", "-m", "u:12345:r", p.put("dir/" + name))
        p.stuck("acls", ["dir/" + name for name in ODD[:6]], "acl")
        for name in ODD[:6]:
            run("setfacl", "-b", os.path.join(p.source, "dir", name))
        p.healed("acls")
    other_disk(place, "ramfs", body, rsync="acls = true;")


def disk_full(place):
    """What does not fit waits; the rest goes on."""
    def body(p):
        p.put("small")
        p.daemon.start()
        big = [p.put("dir/" + name, "x" * (9 << 20)) for name in ODD[:3]]
        p.put("another")
        p.stuck("disk full", ["dir/" + name for name in ODD[:3]], "No space left on device")
        if not os.path.exists(p.target + "/another"):
            raise Failure("held up")
        # A comparison that comes to it goes on without it as well.
        p.put("dir/later")
        p.daemon.client("--sync-now", check=False)
        if not os.path.exists(p.target + "/dir/later") or not p.failures():
            raise Failure("compared: %s %s" % (p.failures(), os.listdir(p.target + "/dir")))
        for path in big:
            os.unlink(path)
        p.healed("disk full")
    other_disk(place, "ext2", body)


def too_many_for_the_disk(place):
    """Where nothing fits the target as a whole waits, and it is said at what it failed."""
    def body(p):
        p.put("small")
        p.daemon.start()
        big = [p.put("big%d" % i, "x" * (9 << 20)) for i in range(12)]
        await_fact(lambda: p.daemon.sync("s")["state"] == "down", 60, "down")
        s = p.daemon.sync("s")
        if "No space left on device" not in s["reason"] or "big" not in s["reason"]:
            raise Failure(s["reason"])
        for path in big:
            os.unlink(path)
        p.healed("disk full")
    other_disk(place, "ext2", body)


def vanishes_before_it_is_sent(place):
    """An rsync that finds less than what was looked at: its events are on their way, nothing failed."""
    binary = place + "/rsync"
    os.makedirs(place, exist_ok=True)
    with open(binary, "w") as f:
        f.write('#!/bin/sh\ncase "$*" in *--files-from*) rm -rf "%s/source/gone" "%s/source/gone dir" ;; esac\nexec rsync "$@"\n'
                % (place, place))
    os.chmod(binary, 0o755)

    def body(p):
        p.put("good")
        p.daemon.start()
        p.put("gone")
        p.put("gone dir/x")
        p.put("stays")
        p.daemon.wait(60)
        if p.failures():
            raise Failure("failures: %s" % p.failures())
        p.healed("vanished")
    case(place, body, rsync='binary = "%s"; confine = false;' % binary)


def fifo_in_its_place(place):
    """A name that was a file when rsync listed it, and is a FIFO when rsync opens it: nobody writes there, ever."""
    fifo = place + "/fifo"

    def swap(p):
        generator.renameat2(p.source + "/swapped", fifo, generator.RENAME_EXCHANGE)

    def body(p):
        p.daemon.start()
        p.put("swapped", "0" * 100000)
        os.mkfifo(fifo)
        end = time.monotonic() + 120
        while "FIFO took the place" not in p.daemon.log():
            if time.monotonic() > end:
                raise Failure("no rsync was ended")
            for _ in range(50):
                swap(p)
                select.poll().poll(2)
        if stat.S_ISFIFO(os.lstat(p.source + "/swapped").st_mode):
            swap(p)
        p.put("swapped", "1")
        p.healed("a FIFO came and went")
    case(place, body, more="delay = 0.01; retryMax = 1.0;")


def processes_that_wait_for_each_other(place):
    """As rsync's can with hard links (3.5.0): they do nothing but poll, for ever. This one does it once."""
    binary, once = place + "/rsync", place + "/once"
    os.makedirs(place, exist_ok=True)
    with open(binary, "w") as f:
        f.write('#!/bin/sh\ncase "$*" in *--files-from*) [ -e "%s" ] || { : >"%s"; exec /usr/bin/python3 -c "import select; select.poll().poll()"; } ;; esac\n'
                'exec rsync "$@"\n' % (once, once))
    os.chmod(binary, 0o755)

    def body(p):
        p.put("f")
        p.daemon.start()
        p.healed("they wait for each other")
        if "waited for each other" not in p.daemon.log() or not os.path.exists(once):
            raise Failure("it was not seen: " + p.daemon.tail())
    case(place, body, rsync='binary = "%s"; confine = false;' % binary, more="delay = 0.1; retryMax = 1.0;")


def is_fifo(path):
    try:
        return stat.S_ISFIFO(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def fifo_in_its_place_there(place):
    """The same at a local target, where it is a process of rsync's own that opens the file; nothing of it is left behind."""
    fifo = place + "/fifo"

    def waiting(p):
        """Processes that work in the target."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink("/proc/%s/cwd" % pid) == p.target:
                    found.append(pid)
            except OSError:
                pass
        return found

    def body(p):
        p.put("swapped", "0" * 100000)
        p.daemon.start()
        os.mkfifo(fifo)
        end, n = time.monotonic() + 120, 0
        while "FIFO took the place" not in p.daemon.log():
            if time.monotonic() > end:
                raise Failure("no rsync was ended")
            n += 1
            p.put("swapped", str(n % 10) * 100000)
            for _ in range(50):
                if not is_fifo(fifo) and not is_fifo(p.target + "/swapped"):
                    os.unlink(fifo)  # rsync had replaced it
                    os.mkfifo(fifo)
                try:
                    generator.renameat2(p.target + "/swapped", fifo, generator.RENAME_EXCHANGE)
                except OSError:
                    pass
                select.poll().poll(2)
        p.put("swapped", "1")
        p.healed("a FIFO came and went")
        await_fact(lambda: not waiting(p), 30, "no process of rsync's is left")
    case(place, body, more="delay = 0.01; retryMax = 1.0;")


# ---- the other side of a connection, which names its own paths

def named(daemon, closed, put, target):
    """New files go into directories, one of which is closed: those are named, the others are there."""
    for name in ODD:
        put("%s/%s" % (closed, name), "x")
        put("open/" + name, "x")
    done = daemon.wait(60, check=False)
    found = {os.fsencode(f["path"]): f["reason"] for f in daemon.sync("s")["failures"]}
    if done.returncode != 1 or len(found) < len(ODD) or not any("mkstemp" in why for why in found.values()):
        raise Failure("%d, failures %s" % (done.returncode, found))
    if any(not path.startswith(closed.encode()) for path in found):
        raise Failure("not of what was closed: %s" % sorted(found))
    if sorted(os.listdir(os.fsencode(target + "/open"))) != sorted(os.fsencode(n) for n in ODD):
        raise Failure("held up: %s" % os.listdir(target + "/open"))
    # By a comparison as well, which finds them by itself.
    daemon.client("--sync-now", "--quiet", check=False)
    after = {os.fsencode(f["path"]) for f in daemon.sync("s")["failures"]}
    if len(after) < len(ODD) or any(not path.startswith(closed.encode()) for path in after):
        raise Failure("after a comparison: %s" % sorted(after))


def over_ssh(place, force=None, **how):
    r = Remote(place, **how)
    if force:
        r.force(force % r.target.replace("'", "'\\''").replace('"', '\\"'))
    try:
        for name in ("closed dir", "open"):
            os.makedirs("%s/%s" % (r.source, name))
        r.daemon.start()
        os.chown(r.target + "/closed dir", 0, 0)
        named(r.daemon, "closed dir", r.put, r.target)
    except Failure as e:
        raise Failure("%s\n%s" % (e, r.daemon.tail(40))) from e
    finally:
        r.stop()


def another_account(place):
    over_ssh(place)


def below_a_link(place):
    """The target is a symbolic link: rsync may name either."""
    os.symlink("it's a \"$target\"", place + "/link")
    over_ssh(place, targetdir=place + "/link")


def another_root(place):
    """rrsync's: what rsync names there begins with a directory that only rrsync knows."""
    over_ssh(place, force="rrsync '%s'", targetdir="/")


def a_module(place):
    """An rsync daemon names paths from its module's directory, and the module."""
    port, module = free_port(), place + "/module"
    os.makedirs(module + "/sub")
    with open(place + "/rsyncd.conf", "w") as f:
        f.write("use chroot = no\nuid = %d\ngid = %d\n[mod]\npath = %s\nread only = no\n" % (NOBODY, NOBODY, module))
    os.chown(module + "/sub", NOBODY, NOBODY)
    server = subprocess.Popen(["rsync", "--daemon", "--no-detach", "--address=127.0.0.1", "--port=%d" % port,
                               "--config=" + place + "/rsyncd.conf"], stdin=subprocess.DEVNULL)
    p = Place(place, target="rsync://127.0.0.1:%d/mod/sub" % port, user=False)
    p.target = module + "/sub"
    try:
        await_fact(lambda: run("rsync", "rsync://127.0.0.1:%d/mod/" % port, check=False).returncode == 0, 20, "an rsync daemon")
        for name in ("closed dir", "open"):
            os.makedirs("%s/%s" % (p.source, name))
        p.daemon.start()
        os.chown(p.target + "/closed dir", 0, 0)
        named(p.daemon, "closed dir", p.put, p.target)
    except Failure as e:
        raise Failure("%s\n%s" % (e, p.daemon.tail(40))) from e
    finally:
        p.daemon.stop()
        server.kill()
        server.wait()


if os.geteuid() != 0:
    skip("needs root, to be another user")
main([unreadable_files, unreadable_directory, read_only_directory_at_the_target, undeletable_at_start, too_long_a_path,
      vanishes_before_it_is_sent, fifo_in_its_place, processes_that_wait_for_each_other, fifo_in_its_place_there, attributes_too_large, no_acls_at_the_target, disk_full, too_many_for_the_disk, another_account, below_a_link,
      another_root, a_module])
