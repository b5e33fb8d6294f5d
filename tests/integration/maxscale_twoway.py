#!/usr/bin/env python3
# TIMEOUT: 400
"""The MaxScale guide's three hosts at odds: edits close together on different hosts, deletions and re-creations within the
delay, a host that was down while the others edited and deleted. The last edit survives on all three, what was deleted stays
deleted, then there is silence: no rsync, no counter that moves. With fanotify and with inotify, with delay 0 too."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fansync import Failure, await_fact, main, run
from maxscale import Host, Login, Net

NAME = "maxscale.cnf"
OTHER = "my-maxscale.cnf"


def pause_until(moment):
    """The time between two edits is what is tested here."""
    await_fact(lambda: time.monotonic() >= moment, 10, "the clock")


class World:
    def __init__(self, place, watcher, delay, kind=Host):
        self.net, self.login, self.hosts = Net(), Login(), []
        key = place + "/id_ed25519"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        for path in (place, os.path.dirname(place)):
            os.chmod(path, 0o755)
        self.hosts = [kind(place, i, self.net, key, self.login) for i in range(3)]
        self.before = [h.others() for h in self.hosts]
        for h in self.hosts:
            h.sshd.start()
        for h in self.hosts:
            h.connect(self.hosts, watcher, delay)
        for h in self.hosts:
            h.daemon.start()
        self.settle()

    def close(self):
        for h in self.hosts:
            if hasattr(h, "daemon"):
                h.daemon.stop()
            h.sshd.stop()
        self.net.remove()
        self.login.remove()

    def settle(self, rounds=3):
        """What arrives is a change, too: so more than one round. What waits for a peer is looked at again."""
        for _ in range(rounds):
            for h in self.hosts:
                if h.daemon.process is not None:
                    h.daemon.wait(60, check=False)

    def states(self, name):
        result = []
        for h in self.hosts:
            try:
                with open(h.path(name), "rb") as f:
                    result.append((f.read(), os.stat(h.path(name)).st_mtime_ns))
            except FileNotFoundError:
                result.append(None)
        return result

    def idle(self):
        return all(s["pending"] == 0 and s["in_flight"] == 0 and not s["failures"]
                   for h in self.hosts for s in h.daemon.status()["syncs"])

    def expect(self, name, text, what):
        """All three have it, nothing waits, and then nothing happens any more."""
        def there():
            found = self.states(name)
            return (found[0] is None if text is None else found[0] is not None and found[0][0] == text) and \
                found[0] == found[1] == found[2]
        await_fact(there, 40, "%s: %s is %r everywhere, but %r" % (what, name, text, self.states(name)))
        self.settle(1)
        await_fact(self.idle, 40, "%s: nothing waits" % what)
        self.settle(1)
        quiet = [self.quiet_counters(h) for h in self.hosts]
        self.settle(1)
        after = [self.quiet_counters(h) for h in self.hosts]
        if after != quiet:
            raise Failure("%s: no silence: %r, then %r" % (what, quiet, after))
        if not there():
            raise Failure("%s: %s went on to %r" % (what, name, self.states(name)))

    @staticmethod
    def quiet_counters(h):
        return [{k: v for k, v in c.items() if k in ("batches", "files", "deletions", "processes", "retries", "records",
                                                     "reconciles", "conflicts")} for c in h.counters()]

    def untouched(self):
        for h, before in zip(self.hosts, self.before):
            now = h.others()
            changed = [p for p in set(before) | set(now) if before.get(p) != now.get(p)]
            if changed:
                raise Failure("host %d: other files were touched: %s" % (h.i, changed[:5]))
            left = [n for n in os.listdir(h.etc) if n.endswith(".fansyncd~tmp")]
            if left:
                raise Failure("host %d: left behind: %s" % (h.i, left))


def write(host, name, text):
    with open(host.path(name), "wb") as f:
        f.write(text)


def two_edits_apart(w, ms, first, second):
    began = time.monotonic()
    write(w.hosts[first], NAME, b"[first] %d %d\n" % (ms, first))
    pause_until(began + ms / 1000)
    last = b"[the last] %d, longer %d\n" % (ms, second)
    write(w.hosts[second], NAME, last)
    w.expect(NAME, last, "two edits %d ms apart" % ms)


def at_once(w):
    """Without a pause: the later mtime is the last edit, whoever made it."""
    for i, h in enumerate(w.hosts[:2]):
        write(h, NAME, b"[simultaneous] %d%s\n" % (i, b"x" * (5 - i)))
    newest = max((os.stat(h.path(NAME)).st_mtime_ns, i) for i, h in enumerate(w.hosts[:2]))[1]
    w.expect(NAME, b"[simultaneous] %d%s\n" % (newest, b"x" * (5 - newest)), "simultaneous edits")


def same_instant(w):
    """Two edits of one mtime and size: all hosts agree on one of them."""
    stamp = time.time_ns()
    for i, h in enumerate(w.hosts[:2]):
        write(h, NAME + ".new", b"[tie] %d\n" % i * (i + 1))
        os.utime(h.path(NAME + ".new"), ns=(stamp, stamp))
        os.rename(h.path(NAME + ".new"), h.path(NAME))
    w.expect(NAME, b"[tie] 1\n" * 2, "a tie")


def delete_and_create(w):
    os.unlink(w.hosts[0].path(NAME))
    write(w.hosts[0], NAME, b"[again] at once\n")
    w.expect(NAME, b"[again] at once\n", "deleted and made again")
    os.unlink(w.hosts[1].path(NAME))
    write(w.hosts[2], NAME, b"[edited elsewhere]\n")
    w.expect(NAME, b"[edited elsewhere]\n", "deleted here, edited there")


def deleted_right_after_arrival(w):
    write(w.hosts[0], NAME, b"[to be deleted where it arrives]\n")
    await_fact(lambda: w.states(NAME)[1] == w.states(NAME)[0], 30, "the arrival")
    os.unlink(w.hosts[1].path(NAME))
    w.settle()
    found = w.states(NAME)
    w.expect(NAME, None if found[0] is None else found[0][0], "deleted right after its arrival")


def one_host_down(w, sshd_too):
    down = w.hosts[2]
    write(w.hosts[0], NAME, b"[all have it]\n")
    write(w.hosts[0], OTHER, b"[to be deleted]\n")
    w.expect(NAME, b"[all have it]\n", "before the host goes down")
    w.expect(OTHER, b"[to be deleted]\n", "before the host goes down")
    down.daemon.stop()
    if sshd_too:
        down.sshd.stop()
    write(w.hosts[0], NAME, b"[edited while one was down]\n")
    w.hosts[0].daemon.wait(5, check=False)
    os.unlink(w.hosts[1].path(OTHER))
    for h in w.hosts[:2]:
        h.daemon.wait(5, check=False)
    await_fact(lambda: w.states(OTHER)[0] is None and w.states(NAME)[1] == w.states(NAME)[0], 30, "the two that are up")
    if sshd_too:
        down.sshd.start()
    down.daemon.start(wait=False)
    w.expect(NAME, b"[edited while one was down]\n", "after the host came back")
    w.expect(OTHER, None, "after the host came back")


def edited_while_down(w):
    """The one that was down has the last edit."""
    down = w.hosts[1]
    down.daemon.stop()
    write(down, NAME, b"[edited on the host that was down]\n")
    down.daemon.start(wait=False)
    w.expect(NAME, b"[edited on the host that was down]\n", "an edit while down")
    down.daemon.stop()
    write(w.hosts[0], OTHER, b"[made again]\n")
    w.hosts[0].daemon.wait(10, check=False)
    os.unlink(down.path(NAME))
    down.daemon.start(wait=False)
    w.expect(NAME, None, "a deletion while down")
    w.expect(OTHER, b"[made again]\n", "a deletion while down")


def twoway(place, watcher, delay, short, kind=Host):
    w = None
    try:
        w = World(place, watcher, delay, kind)
        for n, ms in enumerate((100, 300, 1500)):
            two_edits_apart(w, ms, n % 3, (n + 1) % 3)
        at_once(w)
        delete_and_create(w)
        one_host_down(w, False)
        if not short:
            same_instant(w)
            deleted_right_after_arrival(w)
            one_host_down(w, True)
            edited_while_down(w)
        w.untouched()
        print("# %s, delay %s: conflicts %s" % (watcher, delay, [[c["conflicts"] for c in h.counters()] for h in w.hosts]))
    except Exception as e:
        raise Failure("%s: %s\n%s" % (type(e).__name__, e, "\n".join(h.daemon.tail(25) for h in w.hosts if hasattr(h, "daemon"))
                                     if w else "")) from e
    finally:
        if w:
            w.close()


def with_inotify(place):
    twoway(place, "inotify", 0.1, False)


def with_fanotify(place):
    twoway(place, "fanotify", 0.1, False)


def without_delay_inotify(place):
    twoway(place, "inotify", 0, True)


def without_delay_fanotify(place):
    twoway(place, "fanotify", 0, True)


if __name__ == "__main__":
    main([with_inotify, with_fanotify, without_delay_inotify, without_delay_fanotify])
