#!/usr/bin/env python3
"""Many tunnels of one daemon, 200 unless told: each sync has an `ssh -L` of its own to one sshd, behind which an rsync daemon takes the files.

tunnels.py [N]. That sshd has its usual MaxStartups, which turns some of so many away at first; all come up, each at a port of its own. Then it
goes, with all of them, and comes back; what changed meanwhile arrives. In the end no process is left. Prints what it took. A minute or two.
"""
import os
import shutil
import signal
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "integration"), os.path.join(HERE, "..", "lib")]
os.environ.setdefault("TESTDIR", tempfile.mkdtemp(prefix="fansyncd-soak."))
from fansync import TESTDIR, Daemon, Sshd, await_fact, children, dirs, expect, put
from tunnel import Rsyncd

SECTION = ('{ name = "n%d"; transport = "rsync"; source = "%s"; target = "rsync://127.0.0.1:${port}/m/n%d"; delay = 0.02; watcher = "inotify"; '
           'retryMin = 0.5; retryMax = 8.0; rsync = { archive = true; };\n'
           '  tunnel = { command = [ "ssh", "-N", "-F", "none", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-i", "%s", "-p", "%d",\n'
           '    "-o", "UserKnownHostsFile=%s", "-L", "127.0.0.1:${port}:127.0.0.1:%d", "127.0.0.1" ]; }; }')


def cost(pid):
    """Processor seconds, MiB resident, descriptors."""
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return ((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGESIZE") / 2 ** 20,
            len(os.listdir("/proc/%d/fd" % pid)))


def tell(what, begin, pid):
    print("%-34s %6.1f s; the daemon: %5.2f CPU s, %4.0f MiB, %d descriptors" % ((what, time.monotonic() - begin) + cost(pid)), flush=True)


def soak(place, n):
    target, = dirs(place, "target")
    rsyncd, sshd = Rsyncd(place, target), Sshd(place + "/sshd")
    with open(place + "/sshd/sshd_config") as f:
        text = f.read()
    put(place + "/sshd/sshd_config", text.replace("MaxStartups 100\n", ""))
    sshd.start()
    sources = dirs(place, *["s%d" % i for i in range(n)])
    dirs(target, *["n%d" % i for i in range(n)])
    for s in sources:
        put(s + "/first")
    daemon = Daemon(place, "sync = ( %s );\n" % ",\n".join(
        SECTION % (i, s, i, sshd.key, sshd.port, sshd.known_hosts, rsyncd.port) for i, s in enumerate(sources)))

    def arrived(name):
        return all(os.path.exists("%s/n%d/%s" % (target, i, name)) for i in range(n))

    try:
        begin = time.monotonic()
        daemon.start(wait=False)
        pid = daemon.process.pid
        await_fact(lambda: arrived("first"), 200, "all came up")
        tell("%d tunnels up, all compared" % n, begin, pid)
        tunnels = [s["tunnel"] for s in daemon.status()["syncs"]]
        expect(len({t["port"] for t in tunnels}) == len({t["pid"] for t in tunnels}) == n, "one each")
        print("%-34s %d" % ("starts it took, for the sshd's limit", sum(t["starts"] for t in tunnels)))
        begin = time.monotonic()
        for s in sources:
            put(s + "/second")
        await_fact(lambda: arrived("second"), 200, "a change of each")
        tell("a change of each", begin, pid)
        sshd.stop()
        await_fact(lambda: all(s["tunnel"]["state"] != "up" for s in daemon.status()["syncs"]), 60, "all down")
        for s in sources:
            put(s + "/third")
        expect(not os.path.exists(target + "/n0/third"), "it came another way")
        begin = time.monotonic()
        sshd.start()
        await_fact(lambda: arrived("third"), 200, "all back")
        tell("all back, and what had waited", begin, pid)
        daemon.wait()
        pids = [s["tunnel"]["pid"] for s in daemon.status()["syncs"]]
        begin = time.monotonic()
        daemon.stop()
        print("%-34s %6.1f s" % ("the stop", time.monotonic() - begin))
        expect(not any(os.path.exists("/proc/%d" % p) for p in pids) and not children(pid), "processes are left")
    finally:
        if daemon.process:
            daemon.stop(signal.SIGKILL)
        sshd.stop()
        rsyncd.stop()


if __name__ == "__main__":
    try:
        soak(TESTDIR, int(sys.argv[1]) if len(sys.argv) > 1 else 200)
    finally:
        shutil.rmtree(TESTDIR, ignore_errors=True)
