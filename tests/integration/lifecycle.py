#!/usr/bin/env python3
"""The life of syncs beside each other: workers that end at bad moments, locks, slots, what a reload changes."""
import fcntl
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, await_fact, children, dirs, expect, expect_equal, kill, main, put


def sync(name, source, target, more=""):
    return ('{ name = "%s"; transport = "rsync"; source = "%s"; target = "%s"; delay = 0.05; watcher = "inotify"; '
            'retryMin = 0.1; retryMax = 0.5; rsync = { archive = true; }; %s }' % (name, source, target, more))


def slow_rsync(place):
    """An rsync that waits, while a file says so, and leaves a word that it does."""
    path = place + "/slow-rsync"
    put(path, '#!/bin/sh\ncase "$*" in *--version*) exec rsync "$@";; esac\n'
              '[ -e %s/fail ] && exit 12\n[ -e %s/hang ] && { : > %s/hanging; exec tail -f /dev/null; }\nexec rsync "$@"\n'
        % (place, place, place))
    os.chmod(path, 0o755)
    return 'rsync = { archive = true; binary = "%s"; confine = false; };' % path


def with_binary(text, place):
    return text.replace("rsync = { archive = true; };", slow_rsync(place))


def worker_ends_after_the_target_was_down(place):
    """A worker that said `down` and goes on with a later batch is one whose end is news again."""
    a, ta = dirs(place, "a", "ta")
    d = Daemon(place, "sync = ( %s );" % with_binary(sync("one", a, ta), place)).start()
    try:
        put(place + "/fail")
        put(a + "/f")
        await_fact(lambda: d.sync("one")["state"] == "down", 20, "the state down")
        worker = d.sync("one")["worker_pid"]
        put(place + "/hang")
        os.unlink(place + "/fail")
        await_fact(lambda: os.path.exists(place + "/hanging"), 20, "a batch under way")
        expect(d.sync("one")["worker_pid"] == worker, "the worker was replaced too early")
        os.unlink(place + "/hang")
        kill(worker, signal.SIGKILL)
        d.wait()
        expect_equal(a, ta)
    finally:
        d.stop()


def the_start_ends(place):
    """When the first comparison is over, `delay` holds and a target may go away, whether or not anybody has asked anything."""
    a, ta = dirs(place, "a", "ta")
    d = Daemon(place, "")
    d.write_config("sync = ( %s );" % sync("one", a, ta).replace("delay = 0.05", "delay = 900.0"), "insist = false")
    d.start(wait=False)
    try:
        await_fact(lambda: d.sync("one")["first_reconcile_done"], 20, "the first comparison")
        put(a + "/f")
        await_fact(lambda: d.sync("one")["counters"]["records"] > 0, 20, "the record")
        one = d.sync("one")
        expect(one["state"] == "waiting" and one["pending"] > 0 and one["in_flight"] == 0, "the delay does not hold: %s" % one)
        expect(one["first_reconcile_done"], "the first comparison began anew")
        os.rename(ta, ta + ".away")
        put(ta)
        done = d.client("--sync-now", check=False)
        expect(done.returncode == 1, "exit %d" % done.returncode)
        expect(d.process.poll() is None, "the daemon ended: " + d.tail())
        os.unlink(ta)
        os.rename(ta + ".away", ta)
        d.wait()
        expect_equal(a, ta)
        expect(d.log().count("first comparison finished") == 1, d.tail())
    finally:
        d.stop()


def a_target_that_goes_before_anybody_asked(place):
    a, ta = dirs(place, "a", "ta")
    d = Daemon(place, "")
    d.write_config("sync = ( %s );" % sync("one", a, ta), "insist = false")
    d.start(wait=False)
    try:
        await_fact(lambda: d.sync("one")["first_reconcile_done"], 20, "the first comparison")
        os.rename(ta, ta + ".away")
        put(ta)
        put(a + "/f")
        await_fact(lambda: d.process.poll() is not None or d.sync("one")["state"] == "down", 20, "the failure")
        expect(d.process.poll() is None, "the daemon ended: " + d.tail())
        os.unlink(ta)
        os.rename(ta + ".away", ta)
        d.wait()
        expect_equal(a, ta)
    finally:
        d.stop()


def killed_rsync_is_named(place):
    """The log says which signal it was, and of the root it says "."."""
    a, ta = dirs(place, "a", "ta")
    d = Daemon(place, "sync = ( %s );" % with_binary(sync("one", a, ta), place)).start()
    try:
        put(place + "/hang")
        put(a + "/f")
        await_fact(lambda: os.path.exists(place + "/hanging"), 20, "a batch under way")
        os.unlink(place + "/hang")
        for pid in children(d.sync("one")["worker_pid"]):
            kill(pid, signal.SIGKILL)
        d.wait()
        expect_equal(a, ta)
        expect("one: will be tried again: f: rsync was killed by a signal (signal 9)" in d.log(), d.tail())
        expect("one: will be tried again: .: " in d.log(), d.tail())
    finally:
        d.stop()


def a_lock_holds_up_one_sync_only(place):
    a, ta, tb, _ = dirs(place, "a", "ta", "tb", "state")
    put(a + "/f")
    d = Daemon(place, "sync = ( %s, %s );" % (sync("one", a, ta), sync("two", a, tb)))
    with open(place + "/state" + "/one.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        d.start(wait=False)
        try:
            d.client("--wait", "--timeout", "30", "--only", "two")
            expect_equal(a, tb)
            expect(not os.path.exists(ta + "/f"), "a sync ran without its lock")
            one = d.sync("one")
            expect(one["state"] == "waiting" and "another fansyncd" in one["reason"], "state: %s" % one)
            lock.close()
            d.wait()
            expect_equal(a, ta)
        finally:
            d.stop()


def reload_with_another_state_directory(place):
    """The locks stay where they are until the next start, so syncs that are new find theirs there."""
    a, ta, b, tb = dirs(place, "a", "ta", "b", "tb")
    put(b + "/g")
    d = Daemon(place, "sync = ( %s );" % sync("one", a, ta)).start()
    try:
        d.write_config("sync = ( %s, %s );" % (sync("one", a, ta), sync("two", b, tb)))
        with open(d.config_path) as f:
            text = f.read()
        expect(place + "/state" in text, "no state directory in the configuration")
        put(d.config_path, text.replace(place + "/state", place + "/elsewhere"))
        d.process.send_signal(signal.SIGHUP)
        await_fact(lambda: len(d.status()["syncs"]) == 2, 20, "the new sync")
        d.wait(20)
        expect_equal(b, tb)
    finally:
        d.stop()


def idle_worker_ends(place):
    """It says nothing about the target, and the next change gets another one."""
    a, ta = dirs(place, "a", "ta")
    d = Daemon(place, "sync = ( %s );" % sync("one", a, ta)).start()
    try:
        worker = await_fact(lambda: d.sync("one")["worker_pid"], 20, "a worker")
        kill(worker, signal.SIGKILL)
        await_fact(lambda: d.sync("one")["worker_pid"] != worker, 20, "the end of the worker")
        expect(d.sync("one")["state"] == "idle", "the state is %s" % d.sync("one")["state"])
        put(a + "/f")
        d.wait()
        expect_equal(a, ta)
    finally:
        d.stop()


def a_busy_sync_leaves_slots_to_others(place):
    """maxProcesses = 1, and a sync whose next batch is due whenever one ends."""
    a, ta, b, tb = dirs(place, "a", "ta", "b", "tb")
    busy = sync("busy", a, ta).replace("delay = 0.05", "delay = 0.0")
    d = Daemon(place, "")
    d.write_config("sync = ( %s, %s );" % (busy, sync("other", b, tb)), "maxProcesses = 1")
    d.start()
    writer = subprocess.Popen([sys.executable, "-c", "while True: open(%r, 'w').write('x')" % (a + "/f")])
    try:
        await_fact(lambda: d.sync("busy")["counters"]["batches"] > 3, 30, "batches of the busy sync")
        put(b + "/g")
        d.client("--wait", "--timeout", "20", "--only", "other")
        expect_equal(b, tb)
    finally:
        writer.kill()
        writer.wait()
        d.stop()


def reload_adds_a_sync_that_fails(place):
    """Without `insist` a failure at the start ends the daemon; one that a reload brings must not."""
    a, ta, b = dirs(place, "a", "ta", "b")
    d = Daemon(place, "")
    d.write_config("sync = ( %s );" % sync("one", a, ta), "insist = false")
    d.start()
    try:
        put(place + "/fail")
        d.write_config("sync = ( %s, %s );" % (sync("one", a, ta), with_binary(sync("two", b, place + "/tb"), place)),
                       "insist = false")
        d.process.send_signal(signal.SIGHUP)
        await_fact(lambda: d.process.poll() is not None or "broke" in d.log(), 20, "the failure")
        put(a + "/f")
        d.client("--wait", "--timeout", "20", "--only", "one")
        expect_equal(a, ta)
    finally:
        d.stop()


def a_lock_that_cannot_be_made(place):
    """--sync-now says so instead of waiting for ever."""
    a, ta, _ = dirs(place, "a", "ta", "state/one.lock")
    d = Daemon(place, "sync = ( %s );" % sync("one", a, ta))
    done = d.client("--sync-now", check=False, timeout=20)
    expect(done.returncode == 1 and b"one.lock" in done.stderr, "%d %r" % (done.returncode, done.stderr))


def own_files_are_no_work(place):
    """Status file, log and state below a source: their changes are not mirrored one by one."""
    a, ta = dirs(place, "a", "ta")
    d = Daemon(place, "")
    d.write_config("sync = ( %s );" % sync("one", a, ta), 'statusFile = "%s/status"; statusInterval = 1.0' % a)
    d.start()
    try:
        def inode():
            return os.stat(a + "/status").st_ino, os.stat(a + "/status").st_mtime_ns
        before = d.sync("one")["counters"]
        for _ in range(2):
            last = inode()
            await_fact(lambda: inode() != last, 20, "a new status file")
        d.wait()
        after = d.sync("one")["counters"]
        expect(after["files"] == before["files"], "the status file was sent: %s, then %s" % (before, after))
        put(a + "/f")
        d.wait()
        expect(os.path.exists(ta + "/f"), "nothing is mirrored any more")
    finally:
        d.stop()


def refused_deletions_stay_named(place):
    """What a comparison was refused is not forgotten because the root got its mode."""
    a, ta = dirs(place, "a", "ta")
    put(ta + "/precious")
    put(a + "/one")
    d = Daemon(place, "sync = ( %s );" % sync("one", a, ta, "maxDelete = 0;")).start(wait=False)
    try:
        done = d.client("--wait", "--timeout", "20", check=False)
        expect(done.returncode == 1 and b"allow-delete" in done.stderr, "%d %r" % (done.returncode, done.stderr))
        os.chmod(a, 0o700)
        done = d.client("--wait", "--timeout", "20", check=False)
        expect(done.returncode == 1, "forgotten: %d" % done.returncode)
        expect(os.stat(ta).st_mode & 0o777 == 0o700, "the mode was not mirrored")
        d.client("--sync-now", "--allow-delete")
        d.wait()
        expect_equal(a, ta)
    finally:
        d.stop()


main([worker_ends_after_the_target_was_down, the_start_ends, a_target_that_goes_before_anybody_asked,
      killed_rsync_is_named, a_lock_holds_up_one_sync_only, reload_with_another_state_directory,
      idle_worker_ends, a_busy_sync_leaves_slots_to_others,
      reload_adds_a_sync_that_fails, a_lock_that_cannot_be_made, own_files_are_no_work,
      refused_deletions_stay_named])
