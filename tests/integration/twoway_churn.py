#!/usr/bin/env python3
# TIMEOUT: 300
# NEW SEED
"""Two daemons mirror two directories to each other while both are changed at random, and workers, daemons and connections are
killed. In the end both are equal, nothing of ours is left behind, and there is silence."""
import os
import random
import shutil
import signal
import stat
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, Failure, Sshd, await_fact, children, kill, main, tree


class Side:
    def __init__(self, place, name, other, sshd, watcher):
        self.top = "%s/%s" % (place, name)
        os.makedirs(self.top, exist_ok=True)
        self.daemon = Daemon("%s/d%s" % (place, name), '''sync = ( { name = "%s"; transport = "rsyncssh"; source = "%s"; host = "127.0.0.1";
          targetdir = "%s/%s"; bidirectional = true; delay = 0.05; watcher = "%s"; retryMin = 0.05; retryMax = 1.0; %s
          rsync = { archive = true; }; } );''' % (name, self.top, place, other, watcher, sshd.section()))

    def path(self, r):
        """A random one, mostly of few names, so that things meet."""
        return os.path.join(self.top, *[r.choice("abcd") for _ in range(r.choice((1, 1, 2, 2, 3)))])

    def change(self, r):
        path = self.path(r)
        what = r.randrange(12)
        try:
            if what < 5:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as f:
                    f.write(b"%d " % r.randrange(10 ** 6) * r.randrange(1, 50))
            elif what == 5:
                os.makedirs(path, exist_ok=True)
            elif what == 6:
                os.unlink(path)
            elif what == 7:
                shutil.rmtree(path)
            elif what == 8:
                os.rename(path, self.path(r))
            elif what == 9:
                os.symlink(r.choice("abc"), path)
            elif what == 10:
                os.chmod(path, r.choice((0o644, 0o600, 0o755)) | (0o700 if os.path.isdir(path) else 0))
            else:
                with open(path, "ab") as f:
                    f.write(b"more")
        except OSError:
            pass  # the other end changes it, too

    def busy(self):
        s = self.daemon.status()["syncs"][0]
        return s["pending"] or s["in_flight"]


def facts(top):
    found = tree(top)
    for f in found.values():
        if stat.S_ISDIR(f["kind"]):
            f["mtime"] = 0
    found[b""]["mode"] = 0
    return found


def stable_difference(a, b):
    x, y = facts(a.top), facts(b.top)
    return [(p, x.get(p), y.get(p)) for p in sorted(set(x) | set(y))
            if x.get(p) != y.get(p) and not (only_directories(x, p) and p not in y) and not (only_directories(y, p) and p not in x) and
            not modes_of_a_directory(x.get(p), y.get(p))]


def modes_of_a_directory(x, y):
    """One that was made anew while another mode arrived may keep its own (README, Limits)."""
    return x and y and stat.S_ISDIR(x["kind"]) and {k: v for k, v in x.items() if k != "mode"} == {k: v for k, v in y.items() if k != "mode"}


def only_directories(t, path):
    """Below it there is nothing but directories: such may stay on one host (README, Limits), files never."""
    return path in t and all(stat.S_ISDIR(f["kind"]) for p, f in t.items() if p == path or p.startswith(path + b"/"))


def touch(sides, paths):
    """What one host deleted in the moment of its arrival, before it had noted that, or while it was killed, may stay on the other one
    until it changes (README, Limits)."""
    for s in sides:
        for p in paths:
            path = os.path.join(os.fsencode(s.top), p)
            if os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path)):
                os.utime(path, follow_symlinks=False)


def remove_in_the_way(sides):
    """Directories that stayed on one host, and with nothing but directories in them, keep what the other one has there from coming (README,
    Limits). Whether there were any, and all failures are about these."""
    failed = {os.fsencode(f["path"]) for s in sides for f in s.daemon.status()["syncs"][0]["failures"]}
    trees = [facts(s.top) for s in sides]
    there = [[p for p in failed if only_directories(t, p)] for t in trees]
    if not failed or failed - set(there[0] + there[1]):
        return False
    for s, t, found in zip(sides, trees, there):
        for p in found:
            for d in sorted((q for q in t if q == p or q.startswith(p + b"/")), reverse=True):
                try:
                    os.rmdir(os.path.join(os.fsencode(s.top), d))
                except OSError:
                    pass  # with the one above, or changed meanwhile
    return True


def tidy(sides):
    """Until nothing waits at either end, and what arrived last was looked at, too."""
    quiet = 0
    end = time.monotonic() + 60
    while quiet < 3:
        if time.monotonic() > end and remove_in_the_way(sides):
            end = time.monotonic() + 60
        if time.monotonic() > end:
            raise Failure("no end: %r" % [s.daemon.status()["syncs"][0]["failures"][:3] for s in sides])
        for s in sides:
            s.daemon.wait(60, check=False)
        quiet = 0 if any(s.busy() for s in sides) else quiet + 1


def trouble(r, sides, sshd):
    side = r.choice(sides)
    what = r.randrange(4)
    if what == 0:
        for pid in children(side.daemon.process.pid):
            kill(pid, signal.SIGKILL)
    elif what == 1:
        for pid in sshd.sessions():
            kill(pid, signal.SIGKILL)
    elif what == 2:
        side.daemon.stop(signal.SIGKILL)
        try:
            os.unlink(side.daemon.place + "/ctl")
        except FileNotFoundError:
            pass
        return side
    return None


def churn(place, watcher, rounds, kind=Side, sshd=None):
    """`sshd`: what else has connections that can be killed (`sessions`)."""
    seed = int(os.environ.get("SEED", str(int(time.time()))))
    r = random.Random(seed)
    sshd = sshd or Sshd(place + "/sshd").start()
    sides = [kind(place, "a", "b", sshd, watcher), kind(place, "b", "a", sshd, watcher)]
    stayed = 0
    try:
        for s in sides:
            s.daemon.start(wait=False)
        for n in range(rounds):
            down = None
            for _ in range(r.randrange(5, 60)):
                r.choice(sides).change(r)
                if r.randrange(8) == 0:  # changes at any distance from each other
                    until = time.monotonic() + r.random() * 0.2
                    await_fact(lambda: time.monotonic() >= until, 5, "the clock")
                if down is None and r.randrange(25) == 0:
                    down = trouble(r, sides, sshd)
            if down is not None:
                down.daemon.start(wait=False)
            tidy(sides)
            found = stable_difference(*sides)
            if found and not any(x and y for _, x, y in found):
                stayed += 1
                touch(sides, [p for p, _, _ in found])
                tidy(sides)
                found = stable_difference(*sides)
            if found or stayed > 2:
                raise Failure("SEED=%d round %d: differs: %r, stayed %d times" % (seed, n, found[:4], stayed))
        left = [os.path.join(d, x) for s in sides for d, _, _ in os.walk(s.top) for x in os.listdir(d)
                if x.endswith("fansyncd~tmp")]
        if left:
            raise Failure("SEED=%d: left behind: %r" % (seed, left))
        print("# SEED=%d: %r" % (seed, [{k: c[k] for k in ("files", "deletions", "renames", "conflicts", "reconciles")}
                                        for c in (s.daemon.status()["syncs"][0]["counters"] for s in sides)]))
    except Exception as e:
        raise Failure("SEED=%d: %s: %s\n%s" % (seed, type(e).__name__, e, "\n".join(s.daemon.tail(40) for s in sides))) from e
    finally:
        for s in sides:
            if s.daemon.process is not None:
                s.daemon.stop()
        sshd.stop()


def inotify(place):
    churn(place, "inotify", 6)


def fanotify(place):
    churn(place, "fanotify", 6)


if __name__ == "__main__":
    main([inotify, fanotify])
