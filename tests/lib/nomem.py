"""The n-th allocation of a process fails, for one n after the other: nomem_tool.c is the program that it fails in, as a rule under
AddressSanitizer. What must hold: no crash and no leak; who ends says that it was for want of memory; what is said to be done is done; and
with memory again all goes on by itself.
"""
import contextlib
import errno
import os
import random
import signal
import subprocess

import fansync
from failing import CRASH, World, at_the_start, changes, comes_up, while_running
from fansync import Failure, await_fact, expect
from faults import DAEMON, RECEIVER, WORKER, Faults

TOOL = os.path.join(os.path.dirname(fansync.BINARY), "tests", "lib", "nomem_tool")
SANITIZER = 99  # an exit status that nothing else has
TRANSPORTS = ("direct", "tcp", "sftp", "rsync", "rsyncssh")
WORDS = ("memory", "too large", "does not take", "does not read")  # a queue that can't grow is one that nobody reads


@contextlib.contextmanager
def the_tool():
    """What is started as the program is the one whose allocations fail."""
    before = fansync.BINARY, os.environ.get("ASAN_OPTIONS")
    fansync.BINARY = TOOL
    os.environ["ASAN_OPTIONS"] = "%s:exitcode=%d:allocator_may_return_null=1" % (before[1] or "detect_leaks=1", SANITIZER)
    try:
        yield
    finally:
        fansync.BINARY = before[0]
        os.environ.pop("ASAN_OPTIONS")
        if before[1]:
            os.environ["ASAN_OPTIONS"] = before[1]


def some_of(n, trials, seed):
    """All from 1 to n, or so many of them: the first ones and the last one, others at random."""
    if trials >= n:
        return list(range(1, n + 1))
    return sorted({1, n} | set(random.Random(seed).sample(range(1, n + 1), trials)))


def words_for_it(what, text):
    if not any(w in text for w in WORDS):
        raise Failure("%s: it does not say why:\n%s" % (what, text))


def no_crash(what, text):
    crash = CRASH.search(text)
    if crash or "exit %d" % SANITIZER in text:
        raise Failure("%s: %s\n%s" % (what, crash.group(0) if crash else "a sanitizer's finding", text[-6000:]))


def ran(faults, n, role, *argv):
    """One run in whose process `role` the n-th allocation fails (0: none). Returns it, and how many were asked for, and failed."""
    rule = faults.fail("malloc", errno.ENOMEM, role=role, first=max(n, 1), every=0, limit=1 if n else 0)
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=dict(os.environ, **faults.env), timeout=120 * fansync.SLACK)
        return done, rule.seen, rule.hit
    finally:
        rule.stop()


CHECKED = """settings = { log = [ "Exec", "Alarm" ]; logfile = "%(place)s/log"; stateDir = "%(place)s/state"; };
receiver = { listen = [ "127.0.0.1:9" ]; insecure = true; modules = ( { name = "m"; path = "%(place)s"; } ); };
sync = (
  { transport = "rsyncssh"; source = "%(place)s/a"; host = "h"; targetdir = "/b"; exclude = [ "x", "*.y" ]; schedule = "0 4 * * *";
    filter = [ "+ a", "- b" ]; rsync = { cvs_exclude = true; extra = [ "--stats", "-f- z" ]; };
    ssh = { options = { A = "b"; C = 5; }; remotePrefix = "sudo"; }; },
  { transport = "direct"; source = "%(place)s/a"; target = "%(place)s/c"; bidirectional = true; },
  { transport = "sftp"; source = "%(place)s/a"; host = "u@h"; targetdir = "d"; ssh = { identityFile = "%(place)s/log"; }; },
  { transport = "rsync"; source = "%(place)s/a"; target = "rsync://h:${port}/m"; tunnel = { command = [ "true", "${port}" ]; }; } );
"""


def check(place, trials, seed):
    """--check says the same as ever, or that there is no memory."""
    for d in ("a", "c"):
        os.makedirs(os.path.join(place, d))
    fansync.put(place + "/log")
    fansync.put(place + "/conf", CHECKED % {"place": place})
    faults = Faults(place, loaded=False)
    good, n, _ = ran(faults, 0, "--check", TOOL, "--check", place + "/conf")
    expect(good.returncode == 0, "--check: %s" % good.stderr)
    for i in some_of(n, trials, seed):
        what = "--check, allocation %d of %d" % (i, n)
        done, _, hit = ran(faults, i, "--check", TOOL, "--check", place + "/conf")
        no_crash(what, done.stderr.decode(errors="replace"))
        expect(hit == 1, what + ": it was not asked for")
        if done.returncode == 0:
            expect(done.stdout == good.stdout, "%s: it says something else:\n%s" % (what, done.stdout.decode()))
        else:
            expect(done.returncode == 255, "%s: exit %d: %s" % (what, done.returncode, done.stderr))
            words_for_it(what, done.stderr.decode())
    return "%d of %d allocations of --check" % (len(some_of(n, trials, seed)), n)


def once(place, transport, role, trials, seed):
    """A run that compares once and ends, --sync-now without a daemon: start, batch and end. It says 0 only if it has made all equal."""
    w = World(place, transport, loaded=False)
    argv = (TOOL, "--sync-now", "--quiet", w.daemon.config_path)
    logs = [w.daemon.log_path] + ([w.receiver.daemon.log_path] if w.receiver else [])

    def one(i, role):
        for path in logs:
            if os.path.exists(path):
                os.truncate(path, 0)
        changes(w, seed * 10000 + i)
        # Nobody watched: a file that took another's place, of equal size and time, is for a daemon to see.
        for below, _, names in os.walk(w.source):
            for name in names:
                os.utime(os.path.join(below, name), follow_symlinks=False)
        done, n, hit = ran(w.faults, i, role, *argv)
        said = done.stderr.decode(errors="replace") + w.logs()
        what = "--sync-now by %s, allocation %d of %s" % (transport, i, role)
        no_crash(what, said)
        w.unharmed(what)
        expect(done.returncode != SANITIZER and done.returncode >= 0, "%s: exit %d\n%s" % (what, done.returncode, said))
        if done.returncode == 0:
            expect(not w.differences(), "%s: exit 0, and yet: %s\n%s" % (what, w.differences(), said))
        elif hit:
            words_for_it("%s: exit %d" % (what, done.returncode), said)
        else:
            raise Failure("%s: exit %d with all the memory it asked for\n%s" % (what, done.returncode, said))
        return n
    try:
        one(0, role)
        w.keep()
        n = one(0, role)
        for i in some_of(n, trials, seed):
            one(i, role)
            one(0, role)
        return "%d of %d allocations of %s" % (len(some_of(n, trials, seed)), n, role)
    finally:
        w.stop()


def running(place, transport, role, trials, seed):
    """A daemon at work, batch after batch."""
    w = World(place, transport, loaded=False)
    try:
        w.daemon.start()
        w.keep()
        for i in range(trials):  # by chance among the first ones: how many there are, each batch has its own number
            n = random.Random(seed * 1000 + i).choice([30, 300, 3000])
            while_running(w, ("malloc", errno.ENOMEM, role), 1 + (seed * 7919 + i * 104729) % n, 0, 1, seed * 1000 + i)
        w.stop()
        no_crash("running", w.logs())
        return "%d batches with one of %s" % (trials, role)
    except BaseException:
        with contextlib.suppress(Failure):
            w.stop()
        raise


def starting(place, transport, role, trials, seed):
    """The daemon's start; by tcp also a session's, in the receiver."""
    w = World(place, transport, loaded=False)
    try:
        w.daemon.start()
        w.keep()
        rule = w.faults.fail("malloc", 0, role=role, limit=0)
        w.daemon.stop()
        changes(w, seed)
        w.daemon.start()
        n = rule.seen
        rule.stop()
        for i in some_of(n, trials, seed):
            at_the_start(w, ("malloc", errno.ENOMEM, role), i, 1, seed * 1000 + i)
        w.stop()
        no_crash("starting", w.logs())
        return "%d of %d allocations of %s" % (len(some_of(n, trials, seed)), n, role)
    except BaseException:
        with contextlib.suppress(Failure):
            w.stop()
        raise


def reloading(place, trials, seed):
    """The old configuration goes on, or the new one does, but for what the log says is left out: until the next one."""
    w = World(place, "direct", loaded=False)
    with open(w.daemon.config_path) as f:
        config = f.read()
    turn = 0

    def reload(i):
        nonlocal turn
        turn += 1
        with open(w.daemon.config_path, "w") as f:
            f.write(config.replace("delay = 0.02", "delay = 0.0%d" % (2 + turn % 2)))
        before = len(w.daemon.log())
        rule = w.faults.fail("malloc", errno.ENOMEM, role=DAEMON, first=max(i, 1), every=0, limit=1 if i else 0)
        w.daemon.process.send_signal(signal.SIGHUP)

        # Who is let in after the signal is answered after the reload.
        await_fact(lambda: w.daemon.ask("status").returncode == 0, 30, "an answer")
        n, hit = rule.seen, rule.hit
        rule.stop()
        w.alive("reload, allocation %d" % i)
        said = w.daemon.log()[before:]
        expect(hit or "reload: done" in said, "reload: %s" % said)
        if "reload: done" not in said or "Error" in said:  # what comes again and again is told five times a minute
            words_for_it("reload, allocation %d of %d" % (i, n), w.daemon.log())
        return n
    try:
        w.daemon.start()
        w.keep()
        n = reload(0)
        for i in some_of(n, trials, seed):
            reload(i)
            w.unharmed("reload, allocation %d" % i)
            reload(0)
            changes(w, seed * 1000 + i)
            w.converges("reload, allocation %d of %d" % (i, n))
        w.stop()
        no_crash("reloading", w.logs())
        return "%d of %d allocations of a reload" % (len(some_of(n, trials, seed)), n)
    except BaseException:
        with contextlib.suppress(Failure):
            w.stop()
        raise


def receiver_starting(place, trials, seed):
    """The receiver's own start, daemon and process."""
    w = World(place, "tcp", loaded=False)
    told = 0
    try:
        w.daemon.start()
        w.keep()
        for role in (DAEMON, RECEIVER):
            rule = w.faults.fail("malloc", 0, role=role, limit=0)
            w.receiver.stop()
            w.receiver.start()
            n = rule.seen
            rule.stop()
            for i in some_of(n, trials, seed):
                what = "the receiver's start, allocation %d of %d of %s" % (i, n, role)
                w.receiver.stop()
                with w.faults.failing("malloc", errno.ENOMEM, role=role, first=i, every=0, limit=1):
                    if not comes_up(w.receiver.daemon):
                        words_for_it(what, w.receiver.daemon.tail(5))
                        w.receiver.daemon.output.close()
                        w.receiver.daemon.process = None
                if w.receiver.daemon.process is None:
                    w.receiver.start()
                changes(w, seed * 1000 + i)
                w.converges(what)
                w.alive(what)
                told += 1
        w.stop()
        no_crash("the receiver", w.logs())
        return "%d allocations of a receiver's start" % told
    except BaseException:
        with contextlib.suppress(Failure):
            w.stop()
        raise


def cases(transports=TRANSPORTS):
    """name, what it takes: place, trials, seed."""
    found = [("check", check)]
    for t in transports:
        for role in ("--sync-now", WORKER) + ((RECEIVER,) if t == "tcp" else ()):
            found.append(("once/%s/%s" % (t, role.strip("-")), lambda p, n, s, t=t, role=role: once(p, t, role, n, s)))
        for role in (DAEMON, WORKER) + ((RECEIVER,) if t == "tcp" else ()):
            name = {DAEMON: "daemon"}.get(role, role.strip("-"))
            found.append(("starting/%s/%s" % (t, name), lambda p, n, s, t=t, role=role: starting(p, t, role, n, s)))
            found.append(("running/%s/%s" % (t, name), lambda p, n, s, t=t, role=role: running(p, t, role, n, s)))
    return found + [("reloading", reloading), ("receiver_starting", receiver_starting)]
