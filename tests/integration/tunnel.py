#!/usr/bin/env python3
"""A sync whose target is behind a tunnel: the program is kept running, the sync waits while it is not up, whatever it does; a stop and a reload
leave none of its processes."""
import os
import shutil
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, Receiver, Sshd, await_fact, children, dirs, expect, expect_equal, free_port, kill, main, put

PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
RECIPE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "recipes", "tunnel.conf")
FORWARDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib", "forwarder.py")


class Rsyncd:
    """An rsync daemon with one module, m."""

    def __init__(self, place, target):
        self.port = free_port()
        put(place + "/rsyncd.conf", "use chroot = no\nlog file = %s/rsyncd.log\n%s[m]\npath = %s\nread only = no\n"
            % (place, "uid = 0\ngid = 0\n" if os.geteuid() == 0 else "", target))
        self.process = subprocess.Popen(["rsync", "--daemon", "--no-detach", "--port=%d" % self.port, "--address=127.0.0.1",
                                         "--config=" + place + "/rsyncd.conf"], stdin=subprocess.DEVNULL)
        await_fact(self.listens, 30, "rsyncd at port %d" % self.port)

    def listens(self):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        self.process.kill()
        self.process.wait()


class Forwarder:
    """What tests/lib/forwarder.py is told, and what it notes."""

    def __init__(self, place, target, mode=""):
        self.place, self.target = dirs(os.path.dirname(place), os.path.basename(place))[0], target
        self.mode(mode)

    def mode(self, mode):
        put(self.place + "/mode", mode)

    def section(self, more=""):
        return 'tunnel = { command = [ "%s", "%s", "${port}", "%d", "%s" ]; %s };' % (PYTHON, FORWARDER, self.target, self.place, more)

    def starts(self):
        """(pid, port) of each."""
        try:
            with open(self.place + "/starts") as f:
                return [tuple(map(int, line.split())) for line in f if line.endswith("\n")]
        except FileNotFoundError:
            return []

    def gone(self):
        return not any(alive(pid, self.place) for pid, _ in self.starts())


def alive(pid, word):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            return word.encode() in f.read()
    except (FileNotFoundError, ProcessLookupError):
        return False


SECTION = ('{ name = "%s"; transport = "rsync"; source = "%s"; target = "rsync://127.0.0.1:${port}/m"; delay = 0.02; watcher = "inotify"; '
           'retryMin = 0.1; retryMax = 0.4; rsync = { archive = true; }; %s }')


def over_ssh(place):
    """The recipe: `ssh -N -L` to an rsync daemon that only its own host can reach."""
    source, target = dirs(place, "source", "target")
    put(source + "/a")
    sshd, rsyncd = Sshd(place + "/sshd"), Rsyncd(place, target)
    sshd.start()
    with open(RECIPE) as f:
        text = f.read()
    for old, new in (("/srv/shop", source), ("/shop\"", "/m\""), ('"shop"', '"t"'), ("localhost:873\",\n", "127.0.0.1:%d\",\n" % rsyncd.port),
                     ("/etc/fansyncd/shop_ed25519", sshd.key), ("transport", 'delay = 0.02; watcher = "inotify"; retryMin = 0.1; retryMax = 0.4; transport'),
                     ('"mirror@shop.example.net"', '"-F", "none", "-o", "UserKnownHostsFile=%s", "-p", "%d", "127.0.0.1"' % (sshd.known_hosts, sshd.port))):
        expect(text.count(old) == 1, "%d times in the recipe: %s" % (text.count(old), old))
        text = text.replace(old, new)
    daemon = Daemon(place, text)
    try:
        daemon.start()
        expect_equal(source, target)
        s = daemon.sync("t")
        t = s["tunnel"]
        expect(t["state"] == "up" and t["port"] > 0 and t["pid"] > 0 and t["starts"] == 1, t)
        expect(s["target"] == "rsync://127.0.0.1:${port}/m", s["target"])
        text = daemon.client("--status").stdout.decode()
        expect("  tunnel    up, port %d, process %d, started 1 time\n" % (t["port"], t["pid"]) in text, text)
        # The far end goes, and stays away; the changes wait.
        sshd.stop()
        await_fact(lambda: daemon.sync("t")["state"] == "down", 30, "down")
        put(source + "/b")
        await_fact(lambda: daemon.sync("t")["tunnel"]["tries"] >= 2, 30, "tried again")
        await_fact(lambda: "onnection refused" in (daemon.sync("t")["reason"] or ""), 30, "ssh's words: %s" % daemon.sync("t"))
        s = daemon.sync("t")
        expect(s["reason"].startswith("tunnel: exit 255: ssh: connect") and s["pending"] >= 1 and s["worker_pid"] == 0, s)
        expect(not os.path.exists(target + "/b"), "it came another way")
        sshd = Sshd(place + "/sshd", port=sshd.port)
        sshd.start()
        await_fact(lambda: os.path.exists(target + "/b"), 60, "the change that waited")
        daemon.wait()
        expect_equal(source, target)
        s = daemon.sync("t")
        expect(s["tunnel"]["port"] == t["port"] and s["tunnel"]["pid"] != t["pid"], "the port is kept: %s, %s" % (t, s["tunnel"]))
        # ssh itself is killed: nothing is pending, and it comes back all the same.
        kill(s["tunnel"]["pid"], signal.SIGKILL)
        await_fact(lambda: daemon.sync("t")["tunnel"]["starts"] > s["tunnel"]["starts"] and daemon.sync("t")["state"] == "idle", 60, "back")
        put(source + "/c")
        daemon.wait()
        expect_equal(source, target)
        log = daemon.log()
        expect("t: tunnel: killed by signal 9 (Killed)" in log and "t: the tunnel is up: port " in log and "t: the target is back" in log, log)
        pid, ssh_pid = daemon.process.pid, daemon.sync("t")["tunnel"]["pid"]
        daemon.stop()
        expect(not os.path.exists("/proc/%d" % ssh_pid) and not children(pid), "processes are left")
    finally:
        if daemon.process:
            daemon.stop(signal.SIGKILL)
        sshd.stop()
        rsyncd.stop()


def sftp_and_tcp(place):
    """Where the port is a key of its own; the host's key is known by another name than that of the tunnel's end."""
    a, b, to_a, to_b = dirs(place, "a", "b", "to_a", "to_b")
    put(a + "/1")
    put(b + "/1")
    sshd, receiver = Sshd(place + "/sshd", config="Subsystem sftp internal-sftp\n"), Receiver(place + "/receiver", to_b)
    sshd.start()
    receiver.start()
    put(place + "/known", "behind " + open(sshd.host_key + ".pub").read())
    fa, fb = Forwarder(place + "/fa", sshd.port), Forwarder(place + "/fb", receiver.port)
    common = 'delay = 0.02; watcher = "inotify"; retryMin = 0.1; retryMax = 0.4;'
    daemon = Daemon(place, 'sync = ( { name = "s"; transport = "sftp"; source = "%s"; host = "127.0.0.1"; targetdir = "%s"; %s %s\n'
                    'ssh = { port = "${port}"; identityFile = "%s"; knownHostsFile = "%s/known"; hostKeyAlias = "behind"; }; },\n'
                    '{ name = "t"; transport = "tcp"; source = "%s"; host = "127.0.0.1"; port = "${port}"; module = "web"; key = "%s"; timeout = 5.0; '
                    '%s %s } );\n'
                    % (a, to_a, common, fa.section(), sshd.key, place, b, receiver.key, common, fb.section()))
    try:
        daemon.start()
        for source, target in ((a, to_a), (b, to_b)):
            await_fact(lambda: os.path.exists(target + "/1"), 60, "the first comparison")
        expect(len(fa.starts()) == len(fb.starts()) == 1, "one each: %s %s" % (fa.starts(), fb.starts()))
        for f in (fa, fb):
            kill(f.starts()[-1][0], signal.SIGKILL)
        put(a + "/2")
        put(b + "/2")
        for target in (to_a, to_b):
            await_fact(lambda: os.path.exists(target + "/2"), 60, "through the second tunnel: %s" % daemon.status())
        # One that swallows everything is found out, and started anew.
        fb.mode("mute")
        kill(fb.starts()[-1][0], signal.SIGKILL)
        await_fact(lambda: len(fb.starts()) == 3, 60, "the mute one")
        put(b + "/3")
        await_fact(lambda: daemon.sync("t")["reason"] and "the tunnel" not in daemon.sync("t")["reason"], 60, "the target is missed")
        fb.mode("")
        await_fact(lambda: os.path.exists(to_b + "/3"), 90, "the mute one is replaced: %s" % daemon.sync("t"))
        expect("the target can't be reached through it: it is started anew" in daemon.log(), daemon.log())
        daemon.wait()
        expect(daemon.sync("s")["tunnel"]["starts"] == 2, "the other one is left alone: %s" % daemon.sync("s"))
        daemon.stop()
        expect(fa.gone() and fb.gone(), "processes are left")
    finally:
        if daemon.process:
            daemon.stop(signal.SIGKILL)
        receiver.stop()
        sshd.stop()


def by_an_alias(place):
    """rsyncssh through ssh, each of the two servers known by a name of its own: whoever else answers at either end is refused."""
    source, target = dirs(place, "source", "target")
    put(source + "/a")
    jump, behind = Sshd(place + "/jump"), Sshd(place + "/behind")
    keys = {name: open(sshd.host_key + ".pub").read() for name, sshd in (("jump", jump), ("behind", behind))}

    def known(**names):
        put(place + "/known", "".join("%s %s" % (name, keys[of]) for name, of in names.items()))

    jump.start()
    behind.start()
    daemon = Daemon(place, 'sync = ( { name = "t"; transport = "rsyncssh"; source = "%s"; host = "127.0.0.1"; targetdir = "%s"; delay = 0.02; '
                    'watcher = "inotify"; retryMin = 0.1; retryMax = 0.4; rsync = { archive = true; };\n'
                    'ssh = { port = "${port}"; identityFile = "%s"; knownHostsFile = "%s/known"; hostKeyAlias = "behind"; };\n'
                    'tunnel = { command = [ "ssh", "-N", "-F", "none", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-i", "%s",\n'
                    '  "-o", "UserKnownHostsFile=%s/known", "-o", "HostKeyAlias=jump", "-p", "%d", "-L", "127.0.0.1:${port}:127.0.0.1:%d",\n'
                    '  "127.0.0.1" ]; }; } );\n' % (source, target, behind.key, place, jump.key, place, jump.port, behind.port))
    try:
        known(jump="behind", behind="behind")
        daemon.start(wait=False)
        await_fact(lambda: "Host key verification failed" in (daemon.sync("t")["reason"] or ""), 30, "a stranger at this end: %s" % daemon.sync("t"))
        expect(daemon.sync("t")["reason"].startswith("tunnel: exit 255: "), daemon.sync("t"))
        known(jump="jump", behind="jump")
        await_fact(lambda: daemon.sync("t")["tunnel"]["state"] == "up" and "ost key" in (daemon.sync("t")["reason"] or ""), 60,
                   "a stranger at the other: %s" % daemon.sync("t"))
        expect(not os.listdir(target), "something was sent to it")
        known(jump="jump", behind="behind")
        await_fact(lambda: daemon.sync("t")["state"] == "idle", 60, "both are who they are: %s" % daemon.sync("t"))
        expect_equal(source, target)
        # Renames take the shared connection, which leads through it as well.
        os.rename(source + "/a", source + "/b")
        daemon.wait()
        expect_equal(source, target)
        expect(daemon.sync("t")["counters"]["renames"] == 1, "carried: %s" % daemon.sync("t")["counters"])
        daemon.stop()
    finally:
        if daemon.process:
            daemon.stop(signal.SIGKILL)
        jump.stop()
        behind.stop()


def bad_ones(place):
    """Those that exit, never listen, talk nonsense, or are not there: the sync says so, another one does not notice."""
    good, to_good, target = dirs(place, "good", "to_good", "target")
    put(good + "/1")
    rsyncd = Rsyncd(place, target)
    modes = {"exit": Forwarder(place + "/exit", rsyncd.port, "exit"), "never": Forwarder(place + "/never", rsyncd.port, "never"),
             "garbage": Forwarder(place + "/garbage", rsyncd.port, "garbage")}
    program = place + "/program"
    shutil.copy("/bin/true", program)
    dirs(place, "src_missing", *["src_" + name for name in modes])

    def config(timeout, more=()):
        # One module for all of them: each leaves the others' alone.
        sections = [SECTION % (name, "%s/src_%s" % (place, name), f.section("timeout = %d;" % timeout if name == "never" else ""))
                    for name, f in modes.items()] + list(more)
        return ("sync = ( { name = \"good\"; transport = \"direct\"; source = \"%s\"; target = \"%s\"; }, %s );\n"
                % (good, to_good, ", ".join(s.replace("watcher", "delete = false; watcher") for s in sections)))

    for name in modes:
        dirs("%s/src_%s" % (place, name), name)
        put("%s/src_%s/%s/f" % (place, name, name))
    put(place + "/src_missing/x")
    missing = SECTION % ("missing", place + "/src_missing", 'tunnel = { command = [ "%s", "${port}" ]; };' % program)
    daemon = Daemon(place, config(1, [missing]))
    try:
        daemon.start(wait=False)
        os.unlink(program)
        reasons = {"exit": "tunnel: exit 7: the far end\x1b[31m refused", "never": "tunnel: nothing listens on port ",
                   "missing": "tunnel: exit 127: can't start %s: No such file or directory" % program}
        for name, reason in reasons.items():
            await_fact(lambda: (daemon.sync(name)["reason"] or "").startswith(reason), 60, "%s: %s" % (name, daemon.sync(name)))
            expect(daemon.sync(name)["state"] == "down", daemon.sync(name))
        await_fact(lambda: os.path.exists(target + "/garbage/f"), 60, "the one that talks nonsense is up: %s" % daemon.sync("garbage"))
        await_fact(lambda: daemon.sync("good")["state"] == "idle" and os.path.exists(to_good + "/1"), 60, "the good one")
        log = daemon.log()
        expect("\x1b" not in log and log.count("garbage: tunnel: ") <= 30, "%d lines" % log.count("garbage: tunnel: "))
        done = daemon.ask("sync-now", "--only", "exit")  # the client would miss the program
        expect(done.returncode == 1 and b"exit: tunnel: exit 7: the far end\\033[31m refused" in done.stderr, done)
        done = daemon.ask("wait", "--timeout", "1", "--only", "never")
        expect(done.returncode == 2, done)
        # They mend their ways, and may take their time.
        modes["exit"].mode("")
        modes["never"].mode("")
        daemon.write_config(config(120))
        daemon.process.send_signal(signal.SIGHUP)
        for name in ("exit", "never"):
            await_fact(lambda: os.path.exists("%s/%s/f" % (target, name)), 60, "%s: %s" % (name, daemon.sync(name)))
        pid = daemon.process.pid
        daemon.stop()
        expect(all(f.gone() for f in modes.values()) and not children(pid), "processes are left")
    finally:
        if daemon.process:
            daemon.stop(signal.SIGKILL)
        rsyncd.stop()


def strangers(place):
    """A port that another program took between the choice and the tunnel's own: what it offers is not the target."""
    source, target = dirs(place, "source", "target")
    put(source + "/a")
    rsyncd = Rsyncd(place, target)
    f = Forwarder(place + "/f", rsyncd.port, "never")
    daemon = Daemon(place, "sync = ( %s );\n" % (SECTION % ("t", source, f.section("timeout = 15;"))))
    try:
        daemon.start(wait=False)
        await_fact(f.starts, 60, "its port")
        with socket.socket() as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stranger.bind(("127.0.0.1", f.starts()[0][1]))
            stranger.listen(8)
            stranger.setblocking(False)
            await_fact(lambda: "another program, of user %d, listens on port %d" % (os.geteuid(), f.starts()[0][1]) in daemon.log(), 60, "told")
            put(f.place + "/go")
            await_fact(lambda: os.path.exists(target + "/a"), 60, "at another port: %s" % daemon.sync("t"))
            expect(f.starts()[-1][1] != f.starts()[0][1], "the same port: %s" % f.starts())
            try:
                stranger.accept()
                expect(False, "the stranger was called")
            except BlockingIOError:
                pass
        daemon.stop()
        # A port that is fixed is somebody else's.
        with socket.socket() as stranger:
            stranger.bind(("127.0.0.1", 0))
            stranger.listen(1)
            port = stranger.getsockname()[1]
            daemon.write_config("sync = ( %s );\n" % (SECTION % ("t", source, f.section("port = %d;" % port))))
            put(source + "/b")
            daemon.start(wait=False)
            await_fact(lambda: daemon.sync("t")["reason"] == "tunnel: port %d is in use by another program" % port, 60, daemon.sync("t"))
        await_fact(lambda: os.path.exists(target + "/b"), 60, "free again: %s" % daemon.sync("t"))
        expect(f.starts()[-1][1] == port, f.starts())
        daemon.stop()
    finally:
        if daemon.process:
            daemon.stop(signal.SIGKILL)
        rsyncd.stop()


def reloads(place):
    """A sync that is not touched keeps its tunnel; a changed one gets another, at the same port; one that is gone leaves nothing."""
    names = ("kept", "changed", "removed")
    target, = dirs(place, "target")
    rsyncd = Rsyncd(place, target)
    port = free_port()
    f = {name: Forwarder("%s/f_%s" % (place, name), rsyncd.port, "parent" if name == "removed" else "stubborn" if name == "changed" else "")
         for name in names}
    for name in names:
        os.makedirs("%s/%s/%s" % (place, name, name))
        put("%s/%s/%s/1" % (place, name, name))

    def write(which, more):
        daemon.write_config("sync = ( %s );\n" % ", ".join(
            (SECTION % (n, "%s/%s" % (place, n), f[n].section(more if n == "changed" else ""))).replace("watcher", "delete = false; watcher")
            for n in which))

    daemon = Daemon(place, "")
    write(names, "port = %d;" % port)
    try:
        daemon.start()
        before = {n: daemon.sync(n)["tunnel"]["pid"] for n in names}
        f["changed"].mode("")
        write(names[:2], "port = %d; timeout = 20;" % port)
        daemon.process.send_signal(signal.SIGHUP)
        # The stubborn one is killed in the end, and only then its port is free for the next.
        await_fact(lambda: len(f["changed"].starts()) == 2, 60, "the new one: %s" % daemon.tail())
        expect(not alive(before["changed"], FORWARDER), "two at a time")
        put(place + "/changed/changed/2")
        daemon.wait()
        expect(os.path.exists(target + "/changed/2"), "through the new one")
        t = daemon.sync("changed")["tunnel"]
        expect(t["port"] == port and t["starts"] == 1 and "is in use" not in daemon.log(), t)
        expect(daemon.sync("kept")["tunnel"]["pid"] == before["kept"] and len(f["kept"].starts()) == 1, "the kept one")
        await_fact(lambda: f["removed"].gone(), 30, "the removed one and its child")
        pid = daemon.process.pid
        daemon.stop()
        expect(all(x.gone() for x in f.values()) and not children(pid), "processes are left")
    finally:
        if daemon.process:
            daemon.stop(signal.SIGKILL)
        rsyncd.stop()


def a_stubborn_one_at_the_end(place):
    """SIGTERM, then SIGKILL; a second signal does not wait."""
    source, target = dirs(place, "source", "target")
    rsyncd = Rsyncd(place, target)
    f = Forwarder(place + "/f", rsyncd.port, "stubborn")
    daemon = Daemon(place, "sync = ( %s );\n" % (SECTION % ("t", source, f.section())))
    try:
        for twice in (False, True):
            daemon.start()
            if twice:
                daemon.process.send_signal(signal.SIGTERM)
                await_fact(lambda: daemon.log().count("(Terminated): stopping") == 2, 30, "the first signal")
            daemon.stop()
            expect(f.gone(), "it is left")
    finally:
        if daemon.process:
            daemon.stop(signal.SIGKILL)
        rsyncd.stop()


def asked_from_outside(place):
    """--check, --doctor and --sync-now without a daemon."""
    source, target = dirs(place, "source", "target")
    put(source + "/a")
    rsyncd = Rsyncd(place, target)
    f = Forwarder(place + "/f", rsyncd.port)
    daemon = Daemon(place, "sync = ( %s );\n" % (SECTION % ("t", source, f.section("timeout = 20;"))))
    try:
        text = daemon.client("--check").stdout.decode()
        expect('target = "rsync://127.0.0.1:${port}/m";' in text and "timeout = 20.0;" in text and not f.starts(), text)
        said = daemon.client("--doctor", "--only", "t", check=False).stdout.decode()
        expect("ok    t: tunnel: it is up, on port %d, after " % f.starts()[0][1] in said and "ok    t: rsync there:" in said, said)
        await_fact(f.gone, 30, "the doctor's tunnel is gone")
        expect(not os.listdir(target), "the doctor sent something")
        f.mode("exit")
        done = daemon.client("--doctor", "--only", "t", check=False)
        said = done.stdout.decode()
        expect(done.returncode == 1 and "FAIL  t: tunnel: it ended: exit 7: the far end\\033[31m refused -> run its command by hand" in said and
               "skip  t: target: it is behind the tunnel" in said, said)
        done = daemon.client("--sync-now", check=False)
        expect(done.returncode == 1 and b"t: tunnel: exit 7" in done.stderr, done)
        f.mode("")
        done = daemon.client("--sync-now")
        expect_equal(source, target)
        expect(f.gone(), "it left something")
        port = free_port()
        daemon.write_config("sync = ( %s );\n" % (SECTION % ("t", source, f.section("port = %d;" % port))))
        daemon.start()
        said = daemon.client("--doctor", "--only", "t", check=False).stdout.decode()
        expect("ok    t: tunnel: the daemon that runs has it up, on port %d" % port in said and "ok    t: rsync there:" in said, said)
        daemon.stop()
    finally:
        if daemon.process:
            daemon.stop(signal.SIGKILL)
        rsyncd.stop()


def many(place):
    """Each sync its own, up by time, and all gone at the end; with more descriptors than a shell's soft limit gives, which is what it is for."""
    n = 20
    sections = []
    for i in range(n):
        source, target = dirs(place, "s%d" % i, "t%d" % i)
        put(source + "/f")
        sections.append('{ name = "m%d"; transport = "direct"; source = "%s"; target = "%s"; watcher = "inotify"; '
                        'tunnel = { command = [ "sleep", "1000" ]; readyDelay = 0.2; }; }' % (i, source, target))
    daemon = Daemon(place, "sync = ( %s );\n" % ", ".join(sections), prefix=["prlimit", "--nofile=64:4096"])
    try:
        daemon.start()
        syncs = daemon.status()["syncs"]
        expect(all(s["tunnel"]["state"] == "up" and s["tunnel"]["starts"] == 1 and s["tunnel"]["port"] == 0 for s in syncs), syncs)
        expect(all(os.path.exists("%s/t%d/f" % (place, i)) for i in range(n)), "not all arrived")
        pids = [s["tunnel"]["pid"] for s in syncs]
        expect(len(set(pids)) == n, "shared")
        pid = daemon.process.pid
        daemon.stop()
        expect(not any(os.path.exists("/proc/%d" % p) for p in pids) and not children(pid), "processes are left")
    finally:
        if daemon.process:
            daemon.stop(signal.SIGKILL)


if __name__ == "__main__":
    main([over_ssh, sftp_and_tcp, by_an_alias, bad_ones, strangers, reloads, a_stubborn_one_at_the_end, asked_from_outside, many])
