#!/usr/bin/env python3
# TIMEOUT: 300
# SERIAL
"""The watcher's choice as an administrator sees it: by what it is made, how it changes at run time without losing an
event, what it says, and what each of them does without or with few privileges. Alone, because a walk that tells whether a
tree is small enough for inotify has a limit of time."""
import glob
import os
import select
import re
import shutil
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import fansync
from churn import Churn
from fansync import BINARY, Daemon, Failure, Skipped, await_fact, expect_equal, main, run

NOBODY = 65534
WHOLE = ("overflow", "events lost", "not all was watched", "changes faster than they can be read", "unusable path",
         "the source is back", "interval")
RENAME = "a rename that the target could not do"  # rsync's local targets


def need(fact, what):
    if not fact:
        raise Skipped(what)


def need_root():
    need(os.geteuid() == 0, "needs root")


def section(place, watcher="auto", more=""):
    """A configuration, its directories made."""
    for d in ("source", "target"):
        os.makedirs(os.path.join(place, d), exist_ok=True)
    return ('sync = ( { name = "s"; transport = "rsync"; source = "%s/source"; target = "%s/target"; delay = 0.05; '
            'watcher = "%s"; rsync = { archive = true; }; %s } );\n' % (place, place, watcher, more))


def daemon_at(place, watcher="auto", more="", settings="", **other):
    d = Daemon(place, "", **other)
    d.write_config(section(place, watcher, more), settings)
    return d


def watcher_of(daemon):
    return daemon.sync("s")["watcher"]


def causes_of(daemon):
    return daemon.sync("s")["counters"]["reconcile_causes"]


def expect_causes(daemon, *allowed):
    """Nothing was compared but for these reasons: a reconcile of everything would hide what was missed."""
    extra = {k: v for k, v in causes_of(daemon).items() if k not in allowed}
    if extra:
        raise Failure("compared for other reasons than %s: %s" % (allowed, extra))


def settle(daemon):
    """What vanished under rsync's hands is tried again."""
    await_fact(lambda: daemon.wait(60, check=False).returncode == 0, 60, "all is sent")


def write(path, text="x"):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def directories(top, n):
    for i in range(n):
        os.makedirs(os.path.join(top, "%d/%d" % (i // 100, i)))


class Noise:
    """Files made elsewhere on the same file system, as fast as it goes."""

    def __init__(self, place):
        self.place, self.going = place, True
        os.makedirs(place, exist_ok=True)
        self.thread = threading.Thread(target=self.run)

    def run(self):
        i = 0
        while self.going:
            os.close(os.open("%s/%d" % (self.place, i % 1000), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644))
            i += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.going = False
        self.thread.join()


def changes_over(place):
    """fanotify leaves a noisy file system to inotify, inotify a tree that has grown to fanotify, in the midst of changes:
    none is missed, and nothing is compared because of it."""
    need(alone, "needs a file system of its own")
    directories(place + "/source/dirs", 600)
    d = daemon_at(place, settings="watcherInterval = 1.0;")
    churn = Churn(place + "/source", place + "/outside", 1)
    try:
        d.start()
        first = watcher_of(d)
        if first["backend"] != "fanotify" or "large" not in first["reason"]:
            raise Failure("a tree of 600 directories: %s" % first)

        def pace():
            """Slow enough for both watchers to follow."""
            select.poll().poll(2)

        def until(backend, pause):
            end = time.monotonic() + 120
            while watcher_of(d)["backend"] != backend:
                churn.run(0.3, pause)
                if time.monotonic() > end:
                    raise Failure("still %s" % watcher_of(d))
            churn.run(1)

        with Noise(place + "/noise"):
            until("inotify", pace)
        second = watcher_of(d)
        if "file system" not in second["reason"] or second["changeovers"] != 1:
            raise Failure("after the noise: %s" % second)
        settle(d)
        expect_equal(place + "/source", place + "/target", "fanotify to inotify")
        directories(place + "/source/more", 8300)
        until("fanotify", pace)
        third = watcher_of(d)
        if "grown" not in third["reason"] or third["changeovers"] != 2:
            raise Failure("after it has grown: %s" % third)
        settle(d)
        expect_equal(place + "/source", place + "/target", "inotify to fanotify")
        seen = set(causes_of(d)) & set(WHOLE)
        if seen:
            raise Failure("compared because of %s" % seen)
        for words in (" by fanotify: a large tree", " from now on by inotify: much else", " from now on by fanotify: the tree has grown"):
            if "watching %s/source%s" % (place, words) not in d.log():
                raise Failure("not in the log: %s" % words)
        text = d.client("--status").stdout.decode()
        if not re.search(r"watcher +fanotify: the tree has grown to \d+ directories", text):
            raise Failure("not in the status:\n" + text)
    finally:
        d.stop()


def overlay_below(place):
    """Where fanotify cannot watch what is mounted below the source, inotify takes over."""
    need(alone, "needs to mount")
    below = place + "/source/below"
    d = None
    try:
        directories(place + "/source/dirs", 600)
        for p in (below, place + "/lower/d", place + "/upper", place + "/work"):
            os.makedirs(p)
        run("mount", "-t", "overlay", "overlay", "-o",
            "lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work".format(place), below)
        d = daemon_at(place, settings="watcherInterval = 1.0;")
        d.start(wait=False)
        await_fact(lambda: "from now on by inotify: fanotify cannot watch all of it" in d.log(), 30, "inotify")
        if "below: the file system cannot find directories by handle" not in d.log():
            raise Failure("the log does not say what was not watched")
        d.wait()
        w = watcher_of(d)
        if (w["backend"], w["unwatched"], w["changeovers"]) != ("inotify", 0, 1) or d.sync("s")["source_problem"] is not None:
            raise Failure((w, d.sync("s")["source_problem"]))
        write(below + "/d/file")
        d.wait()
        expect_equal(place + "/source", place + "/target")
        expect_causes(d, "start", "not all was watched")
    finally:
        if d is not None:
            d.stop()
        run("umount", "-l", below, check=False)


def busy_elsewhere(place):
    """What happens beside the source costs no system call an event: a directory is found out about once."""
    need(alone and shutil.which("strace"), "needs a file system of its own, and strace")
    d = daemon_at(place, "fanotify", env={"ASAN_OPTIONS": "detect_leaks=0"})
    trace = place + "/trace"
    d.prefix = ["strace", "-f", "-o", trace, "-e", "trace=open_by_handle_at,name_to_handle_at,readlink"]
    d.start(wait=False)
    d.prefix = []
    try:
        d.wait()
        before = watcher_of(d)["unrelated"]
        for i in range(10):
            os.makedirs(place + "/noise/%d" % i)
        for i in range(3000):
            write(place + "/noise/%d/%d" % (i % 10, i))
            if i % 300 == 0:
                os.rename(place + "/noise/9", place + "/noise/moved")
                os.rename(place + "/noise/moved", place + "/noise/9")
        d.wait()
        w = watcher_of(d)
        if w["unrelated"] - before < 3000 or w["events"] != 0:
            raise Failure(w)
        expect_causes(d, "start")
    finally:
        os.kill(fansync.children(d.process.pid)[0], 15)
        d.process.wait(60)
        d.output.close()
    opens = [c for c in calls_of_daemon(trace) if c.startswith("open_by_handle_at")]
    if not 10 <= len(opens) < 300:
        raise Failure("%d directories were looked up" % len(opens))


def few_of_many(place):
    """One included file among many excluded directories is one watch, and what happens elsewhere is not even heard."""
    directories(place + "/source", 600)
    d = daemon_at(place, more='filter = [ "+ *maxscale.cnf", "- **" ];')
    try:
        d.start()
        write(place + "/source/maxscale.cnf")
        write(place + "/source/0/0/maxscale.cnf")
        d.wait()
        w = watcher_of(d)
        if (w["backend"], w["reason"], w["watches"], w["heard"]) != ("inotify", "a small tree: 1 directory", 1, 0):
            raise Failure(w)
        if os.listdir(place + "/target") != ["maxscale.cnf"]:
            raise Failure(os.listdir(place + "/target"))
        expect_causes(d, "start")
    finally:
        d.stop()


def calls_of_daemon(trace):
    """The system calls of the process that was traced first."""
    pid = None
    for line in open(trace, errors="replace"):
        words = line.split(None, 1)
        pid = pid or words[0]
        if words[0] == pid:
            yield words[1]


def no_walk(place):
    """fanotify watches without looking at the tree; auto looks at no more of it than it takes to know that it is large."""
    need_root()
    need(shutil.which("strace"), "needs strace")
    for watcher, most in (("fanotify", 0), ("auto", 2 * 520)):
        here = os.path.join(place, watcher)
        directories(here + "/source", 1500)
        d = daemon_at(here, watcher, prefix=[], env={"ASAN_OPTIONS": "detect_leaks=0"})
        trace = here + "/trace"
        d.prefix = ["strace", "-f", "-y", "-o", trace, "-e", "trace=getdents64,fanotify_mark,inotify_add_watch"]
        d.start(wait=False)
        d.prefix = []
        d.wait()
        os.kill(fansync.children(d.process.pid)[0], 15)
        d.process.wait(60)
        d.output.close()
        calls = list(calls_of_daemon(trace))
        reads = [c for c in calls if c.startswith("getdents64") and here + "/source" in c]
        marks = [c for c in calls if c.startswith("fanotify_mark") and "FAN_MARK_FILESYSTEM" in c and "ADD" in c]
        if len(reads) > most or len(marks) != 1 or any(c.startswith("inotify_add") for c in calls):
            raise Failure("%s: %d reads of directories, %d marks" % (watcher, len(reads), len(marks)))
        if "FAN_MODIFY" in marks[0]:
            raise Failure("nobody asked for FAN_MODIFY: " + marks[0])


def as_nobody(place, capabilities):
    """What runs a program as nobody, with just these."""
    shutil.copy(BINARY, place + "/fansyncd")
    for path in [place] + [os.path.join(p, n) for p, ds, fs in os.walk(place) for n in ds + fs]:
        os.chown(path, NOBODY, NOBODY)
    above = os.path.dirname(place)
    while above != "/":
        if os.stat(above).st_mode & 1 == 0:
            os.chmod(above, os.stat(above).st_mode | 1)
        above = os.path.dirname(above)
    caps = "-all" + "".join(",+" + c for c in capabilities)
    return ["setpriv", "--reuid=%d" % NOBODY, "--regid=%d" % NOBODY, "--clear-groups", "--inh-caps=" + caps,
            "--ambient-caps=" + caps, "--bounding-set=" + caps]


def nobody(place, capabilities, watcher="auto"):
    directories(place + "/source", 600)
    d = daemon_at(place, watcher, env={"ASAN_OPTIONS": "detect_leaks=0"})
    d.prefix = as_nobody(place, capabilities)
    return d


def two_capabilities(place):
    """CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH are all that fanotify needs."""
    need_root()
    d = nobody(place, ["sys_admin", "dac_read_search"])
    try:
        d.start()
        if watcher_of(d)["backend"] != "fanotify":
            raise Failure(watcher_of(d))
        write(place + "/source/0/0/file")
        os.rename(place + "/source/1", place + "/source/one")
        d.wait()
        expect_equal(place + "/source", place + "/target")
        expect_causes(d, "start", RENAME)
    finally:
        d.stop()


def one_capability(place):
    """With one of them missing it says which."""
    need_root()
    for name, other in (("sys_admin", "dac_read_search"), ("dac_read_search", "sys_admin")):
        here = os.path.join(place, name)
        os.makedirs(here)
        d = nobody(here, [other])
        try:
            d.start()
            w = watcher_of(d)
            if w["backend"] != "inotify" or "fanotify refused: CAP_%s is missing" % name.upper() not in w["reason"]:
                raise Failure(w)
            write(here + "/source/0/0/file")
            d.wait()
            expect_equal(here + "/source", here + "/target")
            expect_causes(d, "start")
        finally:
            d.stop()


def no_capability(place):
    """An ordinary user gets inotify; a directory that could not be read when it was made arrives when it can."""
    need_root()
    d = nobody(place, [])
    shut = place + "/source/shut"
    try:
        d.start()
        if watcher_of(d)["backend"] != "inotify" or "fanotify refused: CAP_SYS_ADMIN" not in watcher_of(d)["reason"]:
            raise Failure(watcher_of(d))
        os.mkdir(shut, 0o700)
        os.mkdir(shut + "/in")
        write(shut + "/in/file")
        for path in (shut + "/in/file", shut + "/in"):
            os.chown(path, NOBODY, NOBODY)
        await_fact(lambda: watcher_of(d)["unwatched"] == 1, 20, "a directory that is not watched")
        if "may not be read" not in d.sync("s")["source_problem"]:
            raise Failure(d.sync("s")["source_problem"])
        os.chown(shut, NOBODY, NOBODY)
        await_fact(lambda: watcher_of(d)["unwatched"] == 0, 20, "all is watched")
        d.wait()
        expect_equal(place + "/source", place + "/target")
        write(shut + "/in/file", "y")
        d.wait()
        expect_equal(place + "/source", place + "/target")
        expect_causes(d, "start", "could not be watched before")
        if d.sync("s")["source_problem"] is not None:
            raise Failure(d.sync("s")["source_problem"])
    finally:
        d.stop()


def watches_run_out(place):
    """Said with the sysctl and the number; what is not watched is compared now and then."""
    need(run("unshare", "-Ur", "test", "-w", "/proc/sys/user/max_inotify_watches", check=False).returncode == 0,
         "needs a user namespace")
    directories(place + "/source", 100)
    # A limit for all who live in this user namespace.
    limit = ["unshare", "-Ur", "sh", "-c", "echo 20 > /proc/sys/user/max_inotify_watches; exec \"$@\"", "sh"]
    d = daemon_at(place, more="reconcileInterval = 0.5;", prefix=limit, env={"ASAN_OPTIONS": "detect_leaks=0"})
    try:
        d.start(wait=False)
        d.prefix = []
        d.wait(check=False)
        problem = d.sync("s")["source_problem"]
        if not re.search(r"user.max_inotify_watches is 20, at least 102 are needed here: sysctl -w ", problem or ""):
            raise Failure(problem)
        if problem.split(": ", 1)[1] not in d.log():
            raise Failure("not in the log")
        if watcher_of(d)["unwatched"] != 82:
            raise Failure(watcher_of(d))
        unheard = [p for p in glob.glob(place + "/source/*/*")]
        for p in unheard:
            write(p + "/file")
        await_fact(lambda: all(os.path.exists(p.replace("/source/", "/target/") + "/file") for p in unheard), 30,
                   "what is not watched")
    finally:
        d.stop()


def ancestor_renamed(place, watcher, mounted=False):
    """The source is gone with its path, and back with it; the target stays as it was meanwhile."""
    up = place + "/up"
    at = up + "/mnt" if mounted else up
    os.makedirs(at)
    if mounted:
        need(alone, "needs to mount")
        run("mount", "-t", "tmpfs", "none", at)
    os.makedirs(at + "/source")
    os.makedirs(place + "/target")
    write(at + "/source/file")
    d = Daemon(place, "")
    d.write_config(section(place, watcher).replace('source = "%s/source"' % place, 'source = "%s/source"' % at))
    try:
        d.start()
        os.rename(up, place + "/elsewhere")
        if mounted or watcher == "inotify":
            # No event says so: it is found out before a barrier, and from time to time.
            d.client("--wait", "--timeout", "0.5", check=False)
        await_fact(lambda: d.sync("s")["state"] == "no source", 30, "no source")
        write((place + "/elsewhere" + at[len(up):]) + "/source/file", "y")
        if os.listdir(place + "/target") != ["file"] or os.path.getsize(place + "/target/file") != 1:
            raise Failure("the target was touched: %s" % os.listdir(place + "/target"))
        os.rename(place + "/elsewhere", up)
        await_fact(lambda: d.sync("s")["state"] != "no source", 30, "the source")
        d.wait()
        expect_equal(at + "/source", place + "/target")
        write(at + "/source/file2")
        d.wait()
        expect_equal(at + "/source", place + "/target")
        expect_causes(d, "start", "the source is back")
    finally:
        d.stop()
        if mounted:
            run("umount", "-l", at)


def ancestor_renamed_fanotify(place):
    need_root()
    ancestor_renamed(place, "fanotify")


def ancestor_renamed_inotify(place):
    ancestor_renamed(place, "inotify")


def ancestor_on_another_fanotify(place):
    need_root()
    ancestor_renamed(place, "fanotify", True)


def ancestor_on_another_inotify(place):
    need_root()
    ancestor_renamed(place, "inotify", True)


def mounts(place, watcher):
    """The source's file system through another mount of it, and mounts that come below the source."""
    need(alone, "needs to mount")
    d = None
    try:
        d = daemon_at(place, watcher)
        source, bound, below = place + "/source", place + "/bound", place + "/source/below"
        for p in (source + "/dir", bound, below):
            os.makedirs(p)
        write(source + "/dir/file")
        run("mount", "--bind", source, bound)
        try:
            d.start()
            write(bound + "/dir/file", "through the other mount")
            os.rename(bound + "/dir", bound + "/renamed")
            write(bound + "/renamed/new")
            d.wait()
            expect_equal(source, place + "/target", "by a bind mount")
            expect_causes(d, "start", RENAME)
            run("mount", "-t", "tmpfs", "none", below)
            write(below + "/on it")
            d.wait()
            expect_equal(source, place + "/target", "mounted")
            os.mkdir(below + "/d")
            write(below + "/d/f")
            d.wait()
            expect_equal(source, place + "/target", "below the mount")
            causes = [c for c in causes_of(d) if c not in ("start", RENAME)]
            if len(causes) != 1 or "mounted" not in causes[0] or causes_of(d)[causes[0]] > 2:
                raise Failure("a mount was compared for %s" % causes_of(d))
        finally:
            d.stop()
            d = None
            run("umount", "-l", bound)
            run("umount", "-l", below, check=False)
    finally:
        if d is not None:
            d.stop()


def mounts_fanotify(place):
    mounts(place, "fanotify")


def mounts_inotify(place):
    mounts(place, "inotify")


# What others do on the same file system would be heard, too.
alone = fansync.own_file_system()
main([changes_over, overlay_below, few_of_many, busy_elsewhere, no_walk, two_capabilities, one_capability, no_capability, watches_run_out,
      ancestor_renamed_fanotify, ancestor_renamed_inotify, ancestor_on_another_fanotify, ancestor_on_another_inotify, mounts_fanotify, mounts_inotify])
