"""One call after the other fails, in one process of a running sync after the other, while a small tree changes. What must hold: no
process crashes; nothing is deleted that the source still has; once the calls work again the target becomes equal by itself, or what it
lacks is named in an error.
"""

import errno
import os
import random
import re
import shutil

import fansync
from churn import Churn
from fansync import Daemon, Failure, Receiver, Sshd, await_fact, differences, tree, whole_seconds
from faults import ALWAYS, DAEMON, RECEIVER, SHORT, WORKER, Faults

TRANSPORTS = ("direct", "tcp", "sftp", "rsync", "rsyncssh")
CRASH = re.compile(r"(killed by signal|signal) (4|6|7|8|11)\b|SIGSEGV|SIGABRT|SIGBUS|Segmentation|Assertion|core dumped|"
                   r"AddressSanitizer|runtime error:")
EIO, ENOSPC, ENOMEM, EMFILE, EACCES, EROFS = errno.EIO, errno.ENOSPC, errno.ENOMEM, errno.EMFILE, errno.EACCES, errno.EROFS

# call, errors. What each process does with files...
ON_FILES = [
    ("openat", (EIO, EMFILE, EACCES, ENOMEM)), ("read", (EIO, SHORT, errno.EINTR)), ("write", (EIO, ENOSPC, errno.EDQUOT, SHORT, errno.EINTR)),
    ("copy_file_range", (EIO, ENOSPC, SHORT, errno.EXDEV)), ("close", (EIO, ENOSPC)), ("fsync", (EIO,)), ("ftruncate", (EIO,)),
    ("fallocate", (EIO, ENOSPC)), ("renameat", (EIO, ENOSPC, EROFS)), ("mkdirat", (EIO, ENOSPC, errno.EMLINK)), ("unlinkat", (EIO, EROFS)),
    ("linkat", (EIO, errno.EMLINK)), ("symlinkat", (EIO, ENOSPC)), ("fstatat", (EIO, EACCES, ENOMEM)), ("fstat", (EIO,)),
    ("getdents64", (EIO, ENOMEM)), ("readlinkat", (EIO,)), ("fchmod", (EIO, EROFS)), ("fchown", (EIO,)), ("utimensat", (EIO, EROFS)),
]
# ... and with the rest of the world.
ON_OTHERS = [
    ("clone", (errno.EAGAIN, ENOMEM)), ("pipe2", (EMFILE, errno.ENFILE)), ("socketpair", (EMFILE,)), ("socket", (EMFILE, errno.ENOBUFS)),
    ("accept4", (EMFILE, errno.ECONNABORTED)), ("epoll_ctl", (ENOMEM, ENOSPC)), ("sendto", (errno.ENOBUFS, errno.ECONNRESET)),
    ("recvfrom", (errno.ECONNRESET,)),
]
BY_THE_DAEMON = [
    ("inotify_add_watch", (ENOSPC, ENOMEM, EACCES)), ("fanotify_mark", (ENOSPC, ENOMEM)), ("open_by_handle_at", (EMFILE, ENOMEM, EIO)),
]


def kinds(transport):
    """All (call, error, role) that are worth a try with this transport."""
    roles = [WORKER, DAEMON] + ([RECEIVER] if transport == "tcp" else []) + (["rsync"] if transport.startswith("rsync") else [])
    found = [(call, error, role) for call, errors in ON_FILES + ON_OTHERS for error in errors for role in roles]
    found += [("malloc", ENOMEM, role) for role in roles if role != "rsync"]
    return found + [(call, error, DAEMON) for call, errors in BY_THE_DAEMON for error in errors]


class World:
    """A source, a target, one sync of a transport between them, and what makes calls fail in all of it. `loaded`: as Faults has it."""

    def __init__(self, place, transport, watcher="inotify", more="", settings="", loaded=True):
        self.place, self.transport = place, transport
        self.source, self.target = place + "/source", place + "/target"
        for d in (self.source, self.target, place + "/outside"):
            os.makedirs(d)
        self.faults = Faults(place, loaded)
        self.sshd = self.receiver = None
        if transport in ("rsyncssh", "sftp"):
            self.sshd = Sshd(place + "/sshd", config="Subsystem sftp internal-sftp\n").start()
            where = 'host = "127.0.0.1"; targetdir = "%s"; %s' % (self.target, self.sshd.section())
        elif transport == "tcp":
            self.receiver = Receiver(place + "/receiver", self.target)
            self.receiver.daemon.env.update(self.faults.env)
            self.receiver.start()
            where = self.receiver.section()
        else:
            where = 'target = "%s";' % self.target
        self.daemon = Daemon(place, "", env=self.faults.env)
        self.daemon.write_config(
            'sync = ( { name = "s"; transport = "%s"; source = "%s"; %s delay = 0.02; watcher = "%s"; retryMin = 0.05; retryMax = 0.2; '
            'rsync = { archive = true; %s }; %s } );\n' % (
                transport, self.source, where, watcher, "confine = false;" if transport.startswith("rsync") else "", more),
            settings)  # faults.c reads its rules in rsync, too
        self.kept = {}
        for i in range(12):
            path = "keep/d%d/f%d" % (i % 3, i)
            os.makedirs(os.path.dirname(self.at(path)), exist_ok=True)
            with open(self.at(path), "w") as f:
                f.write("content %d" % i)
        os.symlink("d0/f0", self.at("keep/link"))
        os.makedirs(self.at("churn"))

    def at(self, path):
        return os.path.join(self.source, path)

    def keep(self):
        """What is there now must be there from now on."""
        self.kept = {p: f.get("content") for p, f in tree(self.source + "/keep").items()}

    def differences(self):
        a, b = tree(self.source), tree(self.target)
        return differences(whole_seconds(a), whole_seconds(b)) if self.transport == "sftp" else differences(a, b)

    def is_watched(self):
        """As a whole: what could not be watched is tried again by and by, or compared every ten minutes."""
        try:
            return self.daemon.sync("s")["source_problem"] is None
        except Failure:  # it could not answer
            return False

    def logs(self):
        text = ""
        for d in [self.daemon] + ([self.receiver.daemon] if self.receiver else []):
            for name in ("log", "output"):
                path = os.path.join(d.place, name)
                if os.path.exists(path):
                    with open(path, errors="replace") as f:
                        text += f.read()
        return text

    def alive(self, what):
        for d in [self.daemon] + ([self.receiver.daemon] if self.receiver else []):
            if d.process is not None and d.process.poll() is not None:
                raise Failure("%s: the daemon ended with %s\n%s" % (what, d.process.returncode, d.tail()))
        crash = CRASH.search(self.logs())
        if crash:
            raise Failure("%s: %s\n%s" % (what, crash.group(0), self.daemon.tail(100)))

    def unharmed(self, what):
        """Nothing is gone from the target that the source has had all the time."""
        there = tree(self.target + "/keep") if os.path.isdir(self.target + "/keep") else {}
        lost = [p for p, content in self.kept.items() if p not in there or there[p].get("content") != content]
        if lost:
            raise Failure("%s: lost on the target: %s\n%s" % (what, lost[:5], self.daemon.tail(100)))

    def converges(self, what):
        """By itself, after all that failed."""
        try:
            await_fact(lambda: self.daemon.wait(5, check=False).returncode == 0 and not self.differences(), 60, "equal")
        except Failure:
            done = self.daemon.wait(1, check=False)
            raise Failure("%s: does not become equal (--wait: %d %s): %s\n%s" % (
                what, done.returncode, done.stderr.decode(errors="replace"), self.differences(), self.daemon.tail(100)))

    def stop(self):
        self.faults.stop()
        self.daemon.stop()
        if self.receiver:
            self.receiver.stop()
        if self.sshd:
            self.sshd.stop()


def changes(w, seed):
    """Some of everything, the directories' own entries included; what is kept is written anew as well, with what it holds."""
    chance = random.Random(seed)
    churn = Churn(w.source + "/churn", w.place + "/outside", seed)
    for _ in range(25):
        churn.step()
    for i in range(3):
        with open(w.at("new%d" % chance.randrange(4)), "w") as f:
            f.write("%d" % seed * 2000)
    shutil.rmtree(w.at("gone"), ignore_errors=True)
    os.makedirs(w.at("gone/a/b"))
    os.rename(w.at("gone"), w.at("moved%d" % (seed % 2))) if not os.path.exists(w.at("moved%d" % (seed % 2))) else shutil.rmtree(
        w.at("moved%d" % (seed % 2)))


def where(kind):
    """A disk fails, a pipe never does."""
    return "/" if kind[:2] == ("read", EIO) else ""


def while_running(w, kind, first, every, limit, seed):
    """Returns how many calls failed."""
    call, error, role = kind
    what = "%s, %s, call %d and each %dth after it, at most %d, %s, seed %d" % (
        call, error_name(error), first, every, limit, role, seed)
    if not w.is_watched():
        restarted(w)
    w.keep()
    with w.faults.failing(call, error, path=where(kind), role=role, first=first, every=every, limit=limit) as rule:
        changes(w, seed)
        done = w.daemon.wait(1, check=False)
        # What the watcher can't see nobody is told of: its own calls fail in the daemon, and it says so.
        if done.returncode == 0 and (role != DAEMON or call == "malloc") and w.is_watched() and w.differences():
            raise Failure("%s: it says that all is done: %s\n%s" % (what, w.differences(), w.daemon.tail(100)))
        w.daemon.ask("sync-now", "--quiet", "--only", "s", seconds=3)
        w.alive(what)
        w.unharmed(what)
        hit = rule.hit
    w.converges(what + ", %d failed, the last one of %s" % (hit, rule.last))
    w.alive(what)
    return hit


def comes_up(daemon):
    """Whether it answers; else it has ended."""
    try:
        daemon.start(wait=False)
    except Failure:
        daemon.process.wait(30)
    await_fact(lambda: daemon.process.poll() is not None or daemon.ask("status").returncode == 0, 60, "it comes up, or ends")
    return daemon.process.poll() is None


def at_the_start(w, kind, first, limit, seed):
    """It comes up all the same, or says why not."""
    call, error, role = kind
    what = "at the start: %s, %s, call %d and at most %d, %s, seed %d" % (call, error_name(error), first, limit, role, seed)
    w.daemon.stop()
    changes(w, seed)
    w.keep()
    with w.faults.failing(call, error, path=where(kind), role=role, first=first, every=1, limit=limit) as rule:
        if comes_up(w.daemon):
            w.daemon.wait(1, check=False)
            w.alive(what)
        else:
            said = w.daemon.tail(5)
            if w.daemon.process.returncode < 0 or os.strerror(error) not in said and "out of memory" not in said:
                raise Failure("%s: it ended with %d and did not say why\n%s" % (what, w.daemon.process.returncode, w.daemon.tail()))
            w.daemon.output.close()
            w.daemon.process = None
        w.unharmed(what)
        hit = rule.hit
    if w.daemon.process is None:
        w.daemon.start(wait=False)
    w.converges(what + ", %d failed, the last one of %s" % (hit, rule.last))
    w.alive(what)
    return hit


def error_name(error):
    return "SHORT" if error == SHORT else errno.errorcode[error]


def counted(w, tried, action):
    """How often each (call, role) is made by `action`."""
    rules = {pair: w.faults.fail(pair[0], 0, role=pair[1], limit=0) for pair in {(call, role) for call, _, role in tried}}
    action()
    seen = {pair: rule.seen for pair, rule in rules.items()}
    w.faults.stop()
    return seen


def one_run(w, seed):
    changes(w, seed)
    w.daemon.wait(60, check=False)
    w.daemon.ask("sync-now", "--quiet", "--only", "s", seconds=30)


def restarted(w):
    w.daemon.stop()
    w.daemon.start()


def sweep(place, transport, watcher, trials, seed, more="", log=lambda text: None):
    """So many trials, each with another call of those that the processes make. Returns how often each call failed."""
    chance = random.Random(seed)
    w = World(place, transport, watcher, more)
    hits = {}
    try:
        w.daemon.start()
        w.keep()
        tried = kinds(transport)
        running = counted(w, tried, lambda: one_run(w, seed))
        starting = counted(w, tried, lambda: restarted(w))
        moments = [(kind, False, running[kind[0], kind[2]]) for kind in tried if running[kind[0], kind[2]]]
        moments += [(kind, True, starting[kind[0], kind[2]]) for kind in tried if starting[kind[0], kind[2]]]
        for n in range(trials):
            if n % len(moments) == 0:
                chance.shuffle(moments)
            kind, start, calls = moments[n % len(moments)]
            first = chance.randrange(1, calls + 1)
            if start:
                hit = at_the_start(w, kind, first, chance.choice([1, 1, 2, 5]), seed * 1000 + n)
            else:
                every, limit = chance.choice([(0, 1), (0, 1), (1, 3), (1, ALWAYS), (3, ALWAYS)])
                if kind[1] == errno.EINTR:  # whoever is interrupted tries again: for ever, if that is for ever
                    limit = min(limit, 3)
                hit = while_running(w, kind, first if limit < ALWAYS else min(first, 5), every, limit, seed * 1000 + n)
            hits[kind[0]] = hits.get(kind[0], 0) + hit
            log("%s%s %s %s %d: %d" % ("start: " if start else "", kind[0], error_name(kind[1]), kind[2], first, hit))
        w.stop()
    except BaseException:
        try:
            w.stop()
        except Failure:
            pass
        raise
    return hits
