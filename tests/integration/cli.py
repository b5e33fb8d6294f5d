#!/usr/bin/env python3
"""The command line as an administrator uses it: --sync-now, --check, --status, --wait, signals, reload, pid file, log."""
import json
import os
import pty
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import BINARY, Daemon, await_fact, command, dirs, expect, expect_equal, main, put, run


def sync(name, source, target, more=""):
    return ('{ name = "%s"; transport = "rsync"; source = "%s"; target = "%s"; delay = 0.05; watcher = "inotify"; '
            'retryMin = 0.1; rsync = { archive = true; }; %s }' % (name, source, target, more))


def sync_now_alone(place):
    a, b, ta, tb = dirs(place, "a", "b", "ta", "tb")
    put(a + "/f")
    put(b + "/g")
    put(tb + "/stray")
    d = Daemon(place, "sync = ( %s, %s );" % (sync("one", a, ta), sync("two", b, tb)))
    done = d.client("--sync-now", "--only", "one")
    expect(b"one: equal" in done.stdout and b"two" not in done.stdout, "only one: %r" % done.stdout)
    expect(not os.path.exists(tb + "/g"), "--only was ignored")
    done = d.client("--sync-now", "--json")
    report = json.loads(done.stdout)
    expect(report["equal"] and sorted(s["name"] for s in report["syncs"]) == ["one", "two"], "json: %s" % report)
    expect(sum(s["deletions"] for s in report["syncs"]) == 1, "deletions: %s" % report)
    expect_equal(a, ta)
    expect_equal(b, tb)
    done = d.client("--sync-now", "--quiet")
    expect(done.stdout == b"" and done.stderr == b"", "quiet: %r %r" % (done.stdout, done.stderr))
    done = d.client("--sync-now", "--only", "three", check=False)
    expect(done.returncode == 1 and b"three" in done.stderr, "an unknown name: %d %r" % (done.returncode, done.stderr))


def sync_now_names_failures(place):
    a, ta, b = dirs(place, "a", "ta", "b")
    put(a + "/f")
    put(b + "/g")
    d = Daemon(place, "sync = ( %s, %s );" % (sync("good", a, ta), sync("bad", b, place + "/missing/deep")))
    done = d.client("--sync-now", check=False)
    expect(done.returncode == 1, "exit %d" % done.returncode)
    expect(b"bad: " in done.stderr and b"missing" in done.stderr, "stderr: %r" % done.stderr)
    expect(b"good: equal" in done.stdout, "stdout: %r" % done.stdout)
    expect_equal(a, ta)


def empty_source_deletes_nothing(place):
    a, ta = dirs(place, "a", "ta")
    put(ta + "/precious")
    d = Daemon(place, "sync = ( %s );" % sync("one", a, ta))
    done = d.client("--sync-now", check=False)
    expect(done.returncode == 1 and b"--allow-delete" in done.stderr, "%d %r" % (done.returncode, done.stderr))
    expect(os.path.exists(ta + "/precious"), "an empty source emptied the target")
    d.client("--sync-now", "--allow-delete")
    expect(not os.path.exists(ta + "/precious"), "--allow-delete was ignored")


def two_sync_now_at_once(place):
    a, ta = dirs(place, "a", "ta")
    for i in range(300):
        put(a + "/f%d" % i, str(i))
    d = Daemon(place, "sync = ( %s );" % sync("one", a, ta))
    both = [subprocess.Popen([BINARY, "--sync-now", "--quiet", d.config_path]) for _ in range(2)]
    expect([p.wait(60) for p in both] == [0, 0], "one of them failed")
    expect_equal(a, ta)


def sync_now_asks_the_daemon(place):
    a, ta = dirs(place, "a", "ta")
    put(a + "/f")
    d = Daemon(place, "sync = ( %s );" % sync("one", a, ta)).start()
    try:
        os.unlink(ta + "/f")  # the daemon can't know
        done = d.client("--sync-now")
        expect(b"one: equal: 1 files" in done.stdout, "stdout: %r" % done.stdout)
        expect_equal(a, ta)
        expect(d.sync("one")["counters"]["reconcile_causes"].get("asked for") == 1, "the daemon did not do it")
    finally:
        d.stop()


def progress_on_a_terminal(place):
    a, ta = dirs(place, "a", "ta")
    for i in range(50):
        put(a + "/f%d" % i, str(i) * 100000)
    d = Daemon(place, "sync = ( %s );" % sync("one", a, ta))
    ours, theirs = pty.openpty()
    p = subprocess.Popen([BINARY, "--sync-now", d.config_path], stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    try:
        while True:
            part = os.read(ours, 65536)
            if not part:
                break
            seen += part
    except OSError:
        pass
    os.close(ours)
    expect(p.wait(30) == 0, "exit code")
    expect(b"one: equal" in seen and b"\033[" in seen, "terminal: %r" % seen[-500:])


def check(place):
    a, ta = dirs(place, "a", "ta")
    d = Daemon(place, "sync = ( %s );" % sync("one", a, ta))
    done = d.client("--check")
    put(d.config_path, done.stdout.decode())
    again = d.client("--check")
    expect(done.stderr == b"", "warnings: %r" % done.stderr)
    done = d.client("--check", "-log", "Exce", "-log", "Masterloop")
    expect(b'no category "Exce"' in done.stderr and b"Masterloop" not in done.stderr, "a category: %r" % done.stderr)
    done = d.client("--check")
    expect(done.stdout == again.stdout, "the effective configuration does not read back to itself")
    d.write_config('sync = ( { nmae = "x"; transport = "rsync"; source = "%s"; target = "%s"; delay = "soon"; } );' % (a, ta))
    done = d.client("--check", check=False)
    expect(done.returncode == 255, "exit %d" % done.returncode)
    expect(b"did you mean" in done.stderr and b"delay" in done.stderr and b"fansyncd.conf:2" in done.stderr,
           "stderr: %r" % done.stderr)


def no_daemon(place):
    a, ta = dirs(place, "a", "ta")
    d = Daemon(place, "sync = ( %s );" % sync("one", a, ta))
    for mode in ("--status", "--wait"):
        done = d.client(mode, check=False)
        expect(done.returncode == 3 and done.stderr, "%s: %d %r" % (mode, done.returncode, done.stderr))


def reload(place):
    a, ta, b, tb, tc = dirs(place, "a", "ta", "b", "tb", "tc")
    put(a + "/f")
    put(b + "/g")
    d = Daemon(place, "sync = ( %s );" % sync("one", a, ta)).start()
    try:
        worker = d.sync("one")["worker_pid"]
        d.write_config("sync = ( %s, %s );" % (sync("one", a, ta), sync("two", b, tb)))
        d.process.send_signal(signal.SIGHUP)
        await_fact(lambda: len(d.status()["syncs"]) == 2, 20, "the new sync")
        d.wait()
        expect_equal(b, tb)
        expect(d.sync("one")["worker_pid"] == worker, "an undisturbed sync was restarted")
        expect(d.sync("one")["counters"]["reconciles"] == 1, "an undisturbed sync was compared again")
        put(a + "/later")
        d.wait()
        expect_equal(a, ta)
        d.write_config("sync = ( broken")
        d.process.send_signal(signal.SIGHUP)
        await_fact(lambda: "the old one stays" in d.log(), 20, "a word on the broken configuration")
        put(a + "/still")
        put(b + "/still")
        run(BINARY, "--check", d.config_path, check=False)
        d.write_config("sync = ( %s, %s );" % (sync("one", a, tc), sync("two", b, tb)))
        d.wait()
        expect_equal(b, tb)
        d.process.send_signal(signal.SIGHUP)
        await_fact(lambda: d.sync("one")["target"] == tc, 20, "the changed sync")
        d.wait()
        expect_equal(a, tc)
    finally:
        d.stop()


def pidfile_and_background(place):
    a, ta = dirs(place, "a", "ta")
    pidfile = place + "/pid"
    d = Daemon(place, "")
    put(d.config_path, ('settings = { stateDir = "%s/state"; controlSocket = "%s/ctl"; logfile = "%s/log"; pidfile = "%s"; };\n'
                        "sync = ( %s );") % (place, place, place, pidfile, sync("one", a, ta)))
    run(BINARY, d.config_path)
    with open(pidfile) as f:
        pid = int(f.read())
    try:
        d.wait()
        put(a + "/f")
        d.wait()
        expect_equal(a, ta)
        again = run(BINARY, d.config_path, check=False)
        expect(again.returncode == 255 and str(pid).encode() in again.stderr, "a second start: %d %r" %
               (again.returncode, again.stderr))
        os.rename(place + "/log", place + "/log.1")
        os.kill(pid, signal.SIGUSR1)
        await_fact(lambda: os.path.exists(place + "/log"), 20, "the log reopened")
    finally:
        os.kill(pid, signal.SIGTERM)
    await_fact(lambda: not command(pid), 20, "the end of the daemon")
    expect(not os.path.exists(pidfile) and not os.path.exists(place + "/ctl"), "it left its files")


def status_file(place):
    a, ta = dirs(place, "a", "ta")
    d = Daemon(place, "")
    d.write_config("sync = ( %s );" % sync("one", a, ta), 'statusFile = "%s/status"; statusInterval = 1.0;' % place)
    d.start()
    try:
        text = await_fact(lambda: os.path.exists(place + "/status") and open(place + "/status").read(), 20, "the status")
        expect("one: " in text and "counters" in text, text)
        expect("one: idle" in d.client("--status").stdout.decode(), "--status")
    finally:
        d.stop()


def onepass(place):
    a, ta = dirs(place, "a", "ta")
    put(a + "/f")
    d = Daemon(place, "sync = ( %s );" % sync("one", a, ta))
    done = d.client("-onepass")
    expect_equal(a, ta)
    expect(done.returncode == 0, "exit")


def lsyncd_command_line(place):
    a, ta = dirs(place, "a", "ta")
    put(a + "/f")
    run(BINARY, "--sync-now", "-stateDir", place + "/state", "-controlSocket", place + "/ctl", "-rsync", a, ta)
    expect(os.path.exists(ta + "/f"), "-rsync")
    expect(b"fansyncd " in run(BINARY, "-version").stdout, "-version")
    expect(b"-delay" in run(BINARY, "-help").stdout, "-help")
    expect(b"maxDelays" in run(BINARY, "--help-config").stdout, "--help-config")
    for words in (["--only", "one"], ["--json"], ["--allow-delete"], ["--quiet"], ["--status", "--only", "one"],
                  ["--timeout", "5"]):
        bad = run(BINARY, *words, "-pidfile", place + "/pid", "-rsync", a, ta, check=False)
        expect(bad.returncode == 255 and b"goes with" in bad.stderr, "%s: %d %r" % (words, bad.returncode, bad.stderr))
        expect(not os.path.exists(place + "/pid"), "%s started a daemon" % words)
    bad = run(BINARY, "-nonsense", check=False)
    expect(bad.returncode == 255 and b"nonsense" in bad.stderr, "an unknown option")


def source_goes_and_comes_back(place):
    a, ta = dirs(place, "a", "ta")
    put(a + "/f")
    d = Daemon(place, "sync = ( %s );" % sync("one", a, ta)).start()
    try:
        os.rename(a, a + ".away")
        await_fact(lambda: d.sync("one")["state"] == "no source", 30, "the state without a source")
        expect(os.path.exists(ta + "/f"), "the target was emptied")
        os.rename(a + ".away", a)
        put(a + "/g")
        await_fact(lambda: d.sync("one")["state"] != "no source", 30, "the source found again")
        d.wait()
        expect_equal(a, ta)
        put(a + "/h")
        d.wait()
        expect_equal(a, ta)
    finally:
        d.stop()


def excluded_files_cause_nothing(place):
    a, ta = dirs(place, "a", "ta")
    os.makedirs(ta + "/d")
    put(ta + "/d/kept.tmp")
    d = Daemon(place, "sync = ( %s );" % sync("one", a, ta, 'exclude = [ "*.tmp" ];')).start()
    try:
        os.makedirs(a + "/d")
        put(a + "/d/f")
        d.wait()
        batches = d.sync("one")["counters"]["batches"]
        put(a + "/d/x.tmp")
        put(a + "/y.tmp")
        d.wait()
        expect(d.sync("one")["counters"]["batches"] == batches, "an excluded file made a batch")
        expect(not os.path.exists(ta + "/y.tmp"), "an excluded file was sent")
        os.unlink(a + "/d/x.tmp")
        os.unlink(a + "/d/f")
        os.rmdir(a + "/d")
        d.wait(check=False)
        expect(os.path.exists(ta + "/d/kept.tmp") and not os.path.exists(ta + "/d/f"), "an excluded file was deleted")
    finally:
        d.stop()


def quick_rewrites(place):
    """Same size, same second: rsync's quick check misses these."""
    a, ta = dirs(place, "a", "ta")
    d = Daemon(place, "sync = ( %s );" % sync("one", a, ta)).start()
    try:
        for i in range(10):
            for n in range(20):
                put(a + "/f%d" % n, "%04d" % (i * 20 + n))
            d.wait()
            expect_equal(a, ta, "round %d" % i)
        expect(d.sync("one")["failures"] == [], "failures")
    finally:
        d.stop()


def target_not_writable(place):
    """What can't be written is named, and neither --sync-now nor --wait says equal, nor waits for ever."""
    if os.geteuid() == 0:
        os.chmod(place, 0o777)
        prefix = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]
    else:
        prefix = []
    a, ta = dirs(place, "a", "ta")
    put(a + "/f")
    d = Daemon(place, "sync = ( %s );" % sync("one", a, ta), prefix)
    os.chmod(d.config_path, 0o644)
    os.chmod(ta, 0o555)
    done = d.client("--sync-now", check=False, timeout=60)
    expect(done.returncode == 1 and b"one: f: " in done.stderr, "--sync-now: %d %r" % (done.returncode, done.stderr))
    d.start(wait=False)
    try:
        done = d.wait(60, check=False)
        expect(done.returncode == 1 and b"one: f: " in done.stderr, "--wait: %d %r" % (done.returncode, done.stderr))
        os.chmod(ta, 0o755)
        if os.geteuid() == 0:
            os.chown(ta, 65534, 65534)
            os.chown(a, 65534, 65534)
            os.chown(a + "/f", 65534, 65534)
        d.client("--sync-now", check=False, timeout=60)
        expect_equal(a, ta)
    finally:
        d.stop()


def reload_with_other_filters(place):
    a, ta = dirs(place, "a", "ta")
    os.makedirs(a + "/d")
    d = Daemon(place, "sync = ( %s );" % sync("one", a, ta, 'exclude = [ "d/" ];')).start()
    try:
        d.write_config("sync = ( %s );" % sync("one", a, ta))
        d.process.send_signal(signal.SIGHUP)
        await_fact(lambda: os.path.exists(ta + "/d"), 20, "the directory that is included now")
        d.wait()
        put(a + "/d/f")
        d.wait()
        expect_equal(a, ta)
    finally:
        d.stop()


def hard_links(place):
    """A write through one name changes the file under all of its names, and the kernel reports one."""
    a, ta = dirs(place, "a", "ta")
    os.makedirs(a + "/d")
    put(a + "/old")
    os.link(a + "/old", a + "/d/older")
    d = Daemon(place, "sync = ( %s );" % sync("one", a, ta)).start()
    try:
        put(a + "/old", "written by the first name")
        d.wait()
        expect_equal(a, ta, "names from before the start")
        os.link(a + "/old", a + "/new")
        d.wait()
        put(a + "/new", "written by a new name")
        d.wait()
        expect_equal(a, ta, "a name made while running")
        os.link(a + "/old", place + "/outside")
        os.unlink(a + "/d/older")
        put(a + "/old", "and once more")
        d.wait()
        expect_equal(a, ta, "with a name outside")
    finally:
        d.stop()


def nothing_configured(place):
    path = os.path.join(place, "empty.conf")
    put(path, "settings = { };\nsync = ( );\n")
    done = run(BINARY, "-nodaemon", path, check=False)
    expect(done.returncode == 6 and b"neither a sync" in done.stderr, "%d %r" % (done.returncode, done.stderr))
    expect(run(BINARY, "--check", path, check=False).returncode == 255, "--check takes it")
    put(path, "settings = { };\nsync = ( { } );\n")
    expect(run(BINARY, "-nodaemon", path, check=False).returncode == 255, "a mistake is another exit code")


main([sync_now_alone, sync_now_names_failures, empty_source_deletes_nothing, two_sync_now_at_once, sync_now_asks_the_daemon,
      progress_on_a_terminal, check, no_daemon, reload, pidfile_and_background, status_file, onepass, lsyncd_command_line,
      source_goes_and_comes_back, excluded_files_cause_nothing, quick_rewrites, hard_links, target_not_writable,
      reload_with_other_filters, nothing_configured])
