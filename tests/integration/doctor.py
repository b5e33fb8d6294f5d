#!/usr/bin/env python3
"""--doctor against real servers: all is well, and each thing that it knows of, provoked. It changes nothing, ends in time, and its exit
status says whether something failed."""
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import (BINARY, TESTDIR, Daemon, Receiver, Skipped, Sshd, await_fact, dirs, expect, free_port, main, own_file_system, put, run,
                     tree)

OWN = own_file_system()


class Doctor:
    """What --doctor says of one configuration."""

    def __init__(self, place, syncs="", receiver="", prefix=(), argv=(), settings=None, env=None):
        self.place = place
        self.path = place + "/fansyncd.conf"
        put(self.path, 'settings = { stateDir = "%s/state"; controlSocket = "%s/ctl"; %s };\n%s%s' % (
            place, place, settings if settings is not None else 'logfile = "%s/log";' % place,
            "sync = ( %s );\n" % syncs if syncs else "", receiver))
        argv = argv if "--timeout" in argv else ("--timeout", "200") + tuple(argv)  # of a machine that is busy with other tests
        done = run(*prefix, BINARY, "--doctor", "--json", *argv, self.path, check=False, timeout=220, env=dict(os.environ, **(env or {})))
        self.code, self.err = done.returncode, done.stderr.decode()
        try:
            self.report = json.loads(done.stdout)
        except ValueError:
            raise AssertionError("no report: %d %r %s" % (self.code, done.stdout, self.err)) from None
        self.findings = self.report["findings"]
        expect(self.report["failures"] == len(self.of("fail")), "the sum of failures: %s" % self.report)
        expect(self.code == (1 if self.of("fail") else 0), "exit %d: %s" % (self.code, self.report))

    def of(self, level):
        return [f for f in self.findings if f["level"] == level]

    def expect(self, level, subject, check, text, remedy=""):
        """There is such a finding, and with "fail" or "warn" a remedy."""
        for f in self.findings:
            if f["level"] == level and f["subject"] == subject and f["check"] == check and text in f["text"] and remedy in (f["remedy"] or ""):
                expect(level not in ("fail", "warn") or f["remedy"], "no remedy: %s" % f)
                return self
        raise AssertionError("no %s %s: %s: %s -> %s among\n%s" % (level, subject, check, text, remedy, "\n".join(map(str, self.findings))))

    def expect_well(self):
        expect(self.code == 0 and not self.of("fail") and not self.of("warn"), "not well: %s" % (self.of("fail") + self.of("warn")))
        return self


def sync(name, transport, source, more):
    return '{ name = "%s"; transport = "%s"; source = "%s"; watcher = "inotify"; %s }' % (name, transport, source, more)


def filled(place, *names):
    made = dirs(place, *names)
    for d in made:
        os.mkdir(d + "/sub")
        put(d + "/sub/f")
    return made


def nameless(place):
    """Whether there are files without a name there: a receiver tries, for each session, what times its file system keeps."""
    try:
        os.close(os.open(place, os.O_TMPFILE | os.O_RDWR))
    except OSError:
        return False
    return True


def snapshot(*places):
    found = [tree(p) if os.path.isdir(p) else None for p in places]
    for place, entries in zip(places, found):
        if entries and not nameless(place):
            del entries[b""]["mtime"]
    return found


def all_is_well(place):
    """Each transport, with everything there; and nothing is touched."""
    a, t1, t2, t3, t4, t5 = filled(place, "a", "t1", "t2", "t3", "t4", "t5")
    sshd = Sshd(place + "/sshd", config="Subsystem sftp internal-sftp\n").start()
    receiver = Receiver(place + "/r", t5).start()
    try:
        syncs = ", ".join((sync("local", "rsync", a, 'target = "%s";' % t1), sync("copy", "direct", a, 'target = "%s";' % t2),
                           sync("ssh", "rsyncssh", a, 'host = "127.0.0.1"; targetdir = "%s"; %s' % (t3, sshd.section())),
                           sync("nas", "sftp", a, 'host = "127.0.0.1"; targetdir = "%s"; %s' % (t4, sshd.section())),
                           sync("dr", "tcp", a, receiver.section())))
        before = snapshot(a, t1, t2, t3, t4, t5, place + "/state")
        d = Doctor(place, syncs).expect_well()
        after = snapshot(a, t1, t2, t3, t4, t5, place + "/state")
        expect(after == before, "it changed something: %s" % [(x, y) for x, y in zip(before, after) if x != y])
        d.expect("ok", "local", "readable", "2 entries in 2 directories").expect("ok", "copy", "space", "free")
        d.expect("ok", "ssh", "ssh login", sshd.key).expect("ok", "ssh", "rsync there", "goes well").expect("ok", "ssh", "clock", "within")
        d.expect("ok", "ssh", "target", "can be written").expect("ok", "ssh", "space", "free").expect("ok", "ssh", "rsync version", "3.")
        d.expect("ok", "nas", "sftp server", "one step").expect("ok", "nas", "space", "inodes").expect("ok", "dr", "receiver", "this key")
        d.expect("ok", "nas", "clock", "within").expect("ok", "dr", "clock", "within").expect("ok", "dr", "space", "inodes")
        d = Doctor(place, syncs, argv=("--only", "nas")).expect_well()
        expect({f["subject"] for f in d.findings} == {"nas"}, "--only was ignored: %s" % d.findings)
        done = run(BINARY, "--doctor", "--only", "no-such", d.path, check=False)
        expect(done.returncode == 255 and b"no-such" in done.stderr, "an unknown name: %d %r" % (done.returncode, done.stderr))
        text = run(BINARY, "--doctor", d.path).stdout.decode()
        expect("ok    nas: ssh login: " in text and "\033" not in text and text.endswith("0 failures\n"), text)
    finally:
        receiver.stop()
        sshd.stop()


def logins(place):
    """Wrong key, unknown and changed host key, closed port, unknown name: over rsyncssh and sftp, by libssh2 and by ssh."""
    a, t = filled(place, "a", "t")
    sshd = Sshd(place + "/sshd", config="Subsystem sftp internal-sftp\n").start()
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place + "/other")
    put(place + "/nobody", "")
    with open(place + "/other.pub", encoding="utf-8") as f:
        put(place + "/changed", "[127.0.0.1]:%d %s" % (sshd.port, f.read()))
    try:
        right = (sshd.port, sshd.key, sshd.known_hosts)
        cases = {"key": (sshd.port, place + "/other", sshd.known_hosts), "unknown": (sshd.port, sshd.key, place + "/nobody"),
                 "changed": (sshd.port, sshd.key, place + "/changed"), "port": (free_port(),) + right[1:]}
        syncs = []
        for name, (port, key, hosts) in cases.items():
            section = 'host = "127.0.0.1"; targetdir = "%s"; ssh = { port = %d; identityFile = "%s"; knownHostsFile = "%s"; ' % (
                t + "/%s", port, key, hosts)
            for kind, transport, more in (("r", "rsyncssh", ""), ("s", "sftp", ""), ("o", "sftp", 'client = "openssh";')):
                syncs.append(sync(kind + name, transport, a, section % (name + kind) + more + " };"))
        d = Doctor(place, ", ".join(syncs))
        d.expect("fail", "rkey", "ssh login", "tried: " + place + "/other", "ssh-copy-id -i %s/other.pub -p %d" % (place, sshd.port))
        d.expect("fail", "runknown", "host key", "not known", "ssh-keyscan -p %d 127.0.0.1 >> %s/nobody" % (sshd.port, place))
        d.expect("fail", "rchanged", "host key", "another one", "ssh-keygen -R")
        d.expect("fail", "rport", "ssh login", "refused", "ssh.port")
        for kind in "so":
            d.expect("fail", kind + "key", "ssh login", "").expect("fail", kind + "unknown", "ssh login", "known")
            d.expect("fail", kind + "changed", "ssh login", "").expect("fail", kind + "port", "ssh login", "efused")
        expect(not d.of("warn"), "warnings: %s" % d.of("warn"))
    finally:
        sshd.stop()


def at_the_other_host(place):
    """No rsync there, a directory that can't be made, no marker, a clock that is off, a key that may run rrsync alone, no sftp subsystem,
    one that can't replace a file."""
    a, t, fake = filled(place, "a", "t", "fake")
    put(place + "/there")
    put(fake + "/date", "#!/bin/sh\necho fs date 1000000\n")
    os.chmod(fake + "/date", 0o755)
    sshd = Sshd(place + "/sshd").start()
    forced = Sshd(place + "/forced", config="ForceCommand rrsync -no-lock %s\n" % t).start()
    less = Sshd(place + "/less", config="Subsystem sftp internal-sftp -P posix-rename\n").start()
    try:
        def ssh(name, more, directory=t, server=sshd, options=""):
            section = server.section()[:-2] + options + " };"
            return sync(name, "rsyncssh", a, 'host = "127.0.0.1"; targetdir = "%s/%s"; %s %s' % (directory, name, section, more))
        d = Doctor(place, ", ".join((
            ssh("rsync", 'rsync = { rsync_path = "/no/such/rsync"; };'), ssh("dir", "", "/no/such/place"),
            ssh("marker", 'requireTargetMarker = "here";', a), ssh("clock", "bidirectional = true;",
                                                                  options='remotePrefix = [ "env", "PATH=%s:/usr/bin:/bin" ];' % fake),
            ssh("forced", "", "", forced),
            sync("nosftp", "sftp", a, 'host = "127.0.0.1"; targetdir = "%s/s"; %s' % (t, sshd.section())),
            sync("nodisk", "sftp", a, 'host = "127.0.0.1"; targetdir = "%s"; requireTargetMarker = "here"; %s' % (t, less.section())),
            sync("disk", "sftp", a, 'host = "127.0.0.1"; targetdir = "%s"; requireTargetMarker = "there"; %s' % (place, less.section())),
            sync("less", "sftp", a, 'host = "127.0.0.1"; targetdir = "%s/l"; %s' % (t, less.section())),
            sync("lessboth", "sftp", a, 'host = "127.0.0.1"; targetdir = "%s/b"; bidirectional = true; %s' % (t, less.section())))))
        d.expect("fail", "rsync", "rsync version", "/no/such/rsync", "install rsync there").expect("fail", "rsync", "rsync there", "")
        d.expect("fail", "dir", "target", "can't be made", "parent").expect("fail", "marker", "marker", "here is not there")
        d.expect("fail", "clock", "clock", "off this one", "NTP").expect("warn", "forced", "shell", "no shell")
        d.expect("ok", "forced", "rsync there", "goes well")
        d.expect("fail", "nosftp", "ssh login", "subsystem", "Subsystem sftp")
        d.expect("fail", "nodisk", "marker", "here is not there", "mount").expect("ok", "nodisk", "space", "free")
        d.expect("ok", "disk", "marker", "there is there").expect("ok", "disk", "space", "free")
        d.expect("warn", "less", "sftp server", "in one step", "OpenSSH")
        d.expect("fail", "lessboth", "sftp server", "no posix-rename@openssh.com", "rsyncssh")
    finally:
        less.stop()
        sshd.stop()
        forced.stop()


def rsync_daemons(place):
    """Wrong module, read-only, wrong password, closed port; rsync itself missing here."""
    a, t = filled(place, "a", "t")
    port = free_port()
    put(place + "/secrets", "me:right\n")
    put(place + "/wrong", "wrong\n")
    put(place + "/right", "right\n")
    for f in ("secrets", "wrong", "right"):
        os.chmod(place + "/" + f, 0o600)
    put(place + "/rsyncd.conf", "use chroot = no\npid file = %s/pid\nlog file = %s/rsyncd.log\n"
        "[m]\npath = %s\nread only = no\nauth users = me\nsecrets file = %s/secrets\n[ro]\npath = %s\nread only = yes\n" % (
            place, place, t, place, t))
    server = subprocess.Popen(["rsync", "--daemon", "--no-detach", "--address=127.0.0.1", "--port=%d" % port,
                               "--config=" + place + "/rsyncd.conf"], stdin=subprocess.DEVNULL)
    try:
        await_fact(lambda: socket.create_connection(("127.0.0.1", port)).close() is None if probe(port) else False, 20, "rsyncd")

        def to(name, module, more="", at=port):
            return sync(name, "rsync", a, 'target = "rsync://me@127.0.0.1:%d/%s/%s"; rsync = { %s };' % (at, module, name, more))
        before = tree(t)
        d = Doctor(place, ", ".join((to("good", "m", 'password_file = "%s/right";' % place), to("bad", "m", 'password_file = "%s/wrong";' % place),
                                     to("none", "nothing"), to("ro", "ro"), to("closed", "m", at=free_port()),
                                     to("here", "m", 'binary = "/no/such/rsync";'))))
        d.expect("ok", "good", "rsync there", "goes well").expect("fail", "bad", "rsync there", "auth failed", "password_file")
        d.expect("fail", "none", "rsync there", "Unknown module", "rsyncd.conf").expect("fail", "ro", "rsync there", "read only")
        d.expect("fail", "closed", "rsync there", "refused", "daemon").expect("fail", "here", "rsync here", "/no/such/rsync", "install rsync")
        expect(tree(t) == before, "it changed something at the target")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def probe(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def programs(place):
    """Of the transport exec: it is not run."""
    a, = filled(place, "a")
    put(place + "/fine", "#!/bin/sh\ntouch %s/ran\n" % place)
    for name, mode in (("fine", 0o755), ("open", 0o777)):
        shutil.copy(place + "/fine", place + "/" + name) if name != "fine" else None
        os.chmod(place + "/" + name, mode)
    d = Doctor(place, ", ".join(sync(n, "exec", a, 'target = "x%s"; exec = { command = [ "%s" ]; };' % (n, c)) for n, c in (
        ("fine", place + "/fine"), ("open", place + "/open"), ("path", "sh"), ("none", place + "/missing"))))
    d.expect("ok", "fine", "program", "can be executed").expect("fail", "open", "program", "0777", "chmod go-w").expect("ok", "path", "program", "/sh can")
    d.expect("fail", "none", "program", "No such file")
    expect(not os.path.exists(place + "/ran"), "it was run")


def hooks(place):
    """Those of hooks, by whom they would be run; they are not run."""
    a, = filled(place, "a")
    os.chmod(place, 0o755)
    for name, mode in (("good", 0o755), ("plain", 0o644), ("open", 0o777), ("mine", 0o700)):
        put(place + "/" + name, "#!/bin/sh\ntouch %s/ran\n" % place)
        os.chmod(place + "/" + name, mode)
    sections = {"h": 'preBatch = [ "%s/good", "x" ]; onBatch = [ "%s/open" ]; onChange = [ "sh", "-c", "true" ];' % (place, place)}
    if os.geteuid() == 0:
        sections["n"] = 'hookUser = "nobody"; onBatch = [ "%s/mine" ]; onError = [ "/bin/true" ];' % place
    d = Doctor(place, ", ".join(sync(n, "direct", a, 'target = "%s/t%s"; %s' % (place, n, text)) for n, text in sections.items()))
    d.expect("ok", "h", "hook", "preBatch: %s/good can be executed" % place).expect("ok", "h", "hook", "onChange")
    d.expect("fail", "h", "hook", "onBatch: %s/open has mode 0777" % place, "chmod go-w")
    if "n" in sections:
        d.expect("fail", "n", "hook", "onBatch: %s/mine can't be executed by nobody" % place).expect("ok", "n", "hook", "onError: /bin/true can be executed by nobody")
    expect(not os.path.exists(place + "/ran"), "it was run")


def senders(place):
    """A receiver that is not there, another key, a module that it does not have, one that the key may not write to."""
    a, t = filled(place, "a", "t")
    receiver = Receiver(place + "/r", t).start()
    os.mkdir(place + "/k")
    put(place + "/k/web.key", "00" * 32 + "\n")
    put(place + "/open.key", "11" * 32 + "\n")
    os.chmod(place + "/k/web.key", 0o600)
    os.chmod(place + "/open.key", 0o644)
    try:
        def to(name, module="web", port=receiver.port, key=receiver.key):
            return sync(name, "tcp", a, 'host = "127.0.0.1"; port = %d; module = "%s"; key = "%s"; timeout = 10.0;' % (port, module, key))
        before = snapshot(t)
        # each by itself: two syncs may not write to one module
        good = Doctor(place, to("good")).expect_well()
        expect(sum("lets this key write" in f["text"] for f in good.of("ok")) == 1, "told once: %s" % good.of("ok"))
        Doctor(place, to("key", key=place + "/k/web.key")).expect("fail", "key", "receiver", "", "the same key file")
        Doctor(place, to("module", module="other")).expect("fail", "module", "receiver", "other", "modules")
        Doctor(place, to("closed", port=free_port())).expect("fail", "closed", "receiver", "refused", "port")
        Doctor(place, to("mode", key=place + "/open.key")).expect("fail", "mode", "secret", "0644", "chmod 600")
        expect(snapshot(t) == before, "it changed something at the target")
    finally:
        receiver.stop()


def receivers(place):
    """A receiver's own section: a port that is taken, keys that let nobody in, names without a key, directories that are not there."""
    t, keys = dirs(place, "t", "keys")
    put(keys + "/good.key", "00" * 32)
    put(keys + "/open.key", "11" * 32)
    os.chmod(keys + "/good.key", 0o600)
    os.chmod(keys + "/open.key", 0o644)
    port, taken = free_port(), socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    text = ('receiver = { listen = [ "127.0.0.1:%d", "127.0.0.1:%d" ]; keys = "%s"; modules = ( { name = "m"; path = "%s"; allow = [ "good", "bad" ]; }, '
            '{ name = "n"; path = "%s"; } ); };\n' % (port, taken.getsockname()[1], keys, t, t + "/none"))
    d = Doctor(place, receiver=text)
    taken.close()
    d.expect("ok", "receiver", "listen", "is free").expect("fail", "receiver", "listen", "another program", "ss -tlnp")
    d.expect("fail", "receiver", "keys", "open.key", "chmod 600").expect("fail", "receiver", "module", "allow names bad")
    d.expect("ok", "receiver", "module", "can be written").expect("fail", "receiver", "module", "none")
    d.expect("warn", "receiver", "module", "allow is empty")


def credentials(place):
    """Outside the service they are not there, and are nobody's failure; inside they may be a group's, by systemd's doing."""
    a, t, given = filled(place, "a", "t", "given")
    receiver = ('receiver = { listen = [ "127.0.0.1:%d" ]; keys = "credential:"; certificate = "credential:cert"; privateKey = "credential:private"; '
                'ca = "credential:ca"; modules = ( { name = "m"; path = "%s"; allow = [ "web" ]; } ); };\n' % (free_port(), t))
    d = Doctor(place, ", ".join((
        sync("tcp", "tcp", a, 'host = "127.0.0.1"; port = 9; module = "m"; key = "credential:web.key";'),
        sync("shell", "rsyncssh", a, 'host = "127.0.0.1"; targetdir = "/t"; ssh = { identityFile = "credential:id"; };'),
        sync("sftp", "sftp", a, 'host = "127.0.0.1"; targetdir = "/u"; ssh = { identityFile = "credential:id"; passphraseFile = "credential:p"; };'))),
        receiver)
    for subject, check in (("tcp", "secret"), ("tcp", "receiver"), ("shell", "secret"), ("shell", "ssh login"), ("sftp", "secret"),
                           ("sftp", "ssh login"), ("receiver", "keys"), ("receiver", "secret")):
        d.expect("skip", subject, check, "only the service has")
    expect(not [f for f in d.of("fail") if f["subject"] in ("tcp", "shell", "sftp", "receiver")], "no failures: %s" % d.of("fail"))
    put(given + "/web.key", "00" * 32)
    os.chmod(given + "/web.key", 0o440)
    d = Doctor(place, sync("tcp", "tcp", a, 'host = "127.0.0.1"; port = 9; module = "m"; key = "credential:web.key";'),
               env={"CREDENTIALS_DIRECTORY": given})
    d.expect("ok", "tcp", "secret", "web.key")


def a_running_daemon(place):
    """It may be asked while the daemon runs, and finds its own ports in use."""
    t, = dirs(place, "t")
    r = Receiver(place, t).start()
    try:
        done = run(BINARY, "--doctor", "--json", r.daemon.config_path)
        said = [(f["check"], f["text"]) for f in json.loads(done.stdout)["findings"]]
        expect(("control socket", "a daemon answers at %s/ctl" % place) in said, "socket: %s" % said)
        expect(("listen", "127.0.0.1:%d: the daemon listens" % r.port) in said, "listen: %s" % said)
    finally:
        r.stop()


def sources(place):
    """Not there, empty, without its marker; and what is wrong does not keep the rest from being looked at."""
    a, e, t = dirs(place, "a", "e", "t")
    put(a + "/f")
    d = Doctor(place, ", ".join((sync("gone", "rsync", place + "/gone", 'target = "%s/1";' % t), sync("empty", "rsync", e, 'target = "%s/2";' % t),
                                 sync("marker", "rsync", a, 'target = "%s/3"; requireMarker = "no-marker";' % t))))
    d.expect("fail", "configuration", "check", "gone").expect("fail", "gone", "source", "No such file", "mount or make")
    d.expect("warn", "empty", "empty", "is empty", "allowEmptySource").expect("fail", "marker", "marker", "no-marker", "touch")
    d.expect("ok", "marker", "readable", "1 entries")
    put(place + "/bad.conf", "sync = ( { nonsense = 1; } )")
    done = run(BINARY, "--doctor", place + "/bad.conf", check=False)
    expect(done.returncode == 1 and done.stdout.startswith(b"FAIL  configuration: check: "), "%d %r" % (done.returncode, done.stdout))


def another_directory(place):
    """The source, or the target, is not the one that was mirrored before."""
    a, t = filled(place, "a", "t")
    text = sync("s", "rsync", a, 'target = "%s";' % t)
    d = Doctor(place, text).expect("ok", "s", "remembered", "the source was not mirrored before")
    run(BINARY, "--sync-now", "--quiet", d.path)
    Doctor(place, text).expect("ok", "s", "remembered", "the source is the one of before").expect(
        "ok", "s", "remembered", "the target is the one of before").expect_well()
    for path, what in ((a, "source"), (t, "target")):
        os.rename(path, path + ".old")
        filled(place, os.path.basename(path))
        Doctor(place, text).expect("fail", "s", "remembered", "the %s %s is another" % (what, path), "--allow-delete --only s")
        shutil.rmtree(path)
        os.rename(path + ".old", path)
    Doctor(place, text).expect_well()


def unreadable(place):
    """By root without the right to read everything."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        raise Skipped("needs root and setpriv")
    a, t = filled(place, "a", "t")
    os.mkdir(a + "/locked")
    put(a + "/locked/f")
    put(a + "/secret")
    put(a + "/left-out")
    for path in (a + "/locked", a + "/secret", a + "/left-out"):
        os.chmod(path, 0)
    drop = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-sys_admin", "--inh-caps=-dac_override,-dac_read_search,-sys_admin")
    d = Doctor(place, sync("s", "rsync", a, 'target = "%s"; exclude = "left-out";' % t), prefix=drop)
    d.expect("fail", "s", "readable", "2 of", "root").expect("warn", "host", "capabilities", "no fanotify")
    os.chmod(a, 0)
    d = Doctor(place, sync("s", "rsync", a, 'target = "%s";' % t), prefix=drop)
    d.expect("fail", "s", "source", "Permission denied", "a user who may")


def inotify_limit(place):
    """Three watches, in a user namespace."""
    a, t = dirs(place, "a", "t")
    dirs(a, *("d%d" % i for i in range(10)))
    script = 'echo 3 > /proc/sys/user/max_inotify_watches && exec "$@"'
    if run("unshare", "-Ur", "sh", "-c", script, "sh", "true", check=False).returncode != 0:
        raise Skipped("no user namespaces")
    d = Doctor(place, sync("s", "rsync", a, 'target = "%s";' % t), prefix=("unshare", "-Ur", "sh", "-c", script, "sh"))
    d.expect("fail", "s", "inotify limit", "11 directories need a watch each, 3 are allowed", "sysctl fs.inotify.max_user_watches=65536")
    d = Doctor(place, sync("s", "rsync", a, 'target = "%s"; exclude = "d*";' % t), prefix=("unshare", "-Ur", "sh", "-c", script, "sh"))
    d.expect("ok", "s", "inotify limit", "1 directories")


def local_targets(place):
    """Full, read-only, without its marker, with left-overs of a killed run."""
    a, t, full, ro, nodes = filled(place, "a", "t", "full", "ro", "nodes")
    put(t + "/sub/.x.1.t00000000.fansyncd~tmp")
    syncs = [sync("t", "rsync", a, 'target = "%s"; requireTargetMarker = "marker";' % t), sync("up", "rsync", a, 'target = "%s/no/such";' % place)]
    if OWN:
        for d, options in ((full, "size=64k"), (ro, "ro"), (nodes, "nr_inodes=3")):
            run("mount", "-t", "tmpfs", "-o", options, "none", d)
        subprocess.run(["dd", "if=/dev/zero", "of=" + full + "/f", "bs=4096"], stderr=subprocess.DEVNULL, check=False)
        put(nodes + "/1")
        put(nodes + "/2")
        syncs += [sync(n, "direct", a, 'target = "%s";' % d) for n, d in (("full", full), ("ro", ro), ("nodes", nodes))]
    d = Doctor(place, ", ".join(syncs))
    d.expect("fail", "t", "marker", "requireTargetMarker").expect("warn", "t", "left-overs", "1 temporary").expect("fail", "up", "target", "can't be made")
    if not OWN:
        raise Skipped("no mounts of one's own: full and read-only targets")
    d.expect("fail", "full", "space", "is full", "free some").expect("fail", "ro", "target", "read-only", "remount").expect("fail", "nodes", "space", "inode")


def the_daemons_own(place):
    """A directory of its state that others may write to, a log that can't be written, a configuration that everybody may change."""
    a, t, state = filled(place, "a", "t", "state")
    os.chmod(state, 0o777)
    os.mkdir(place + "/log")
    Doctor(place, sync("s", "rsync", a, 'target = "%s";' % t)).expect("fail", "host", "state", "mode 0777", "chmod go-w").expect(
        "fail", "host", "log", "is a directory")
    os.chmod(state, 0o700)
    os.rmdir(place + "/log")
    os.chmod(place + "/fansyncd.conf", 0o666)
    done = run(BINARY, "--doctor", place + "/fansyncd.conf", check=False)
    expect(done.returncode == 1 and b"FAIL  host: configuration: " in done.stdout, "%d %r" % (done.returncode, done.stdout))
    expect(stat.S_IMODE(os.stat(state).st_mode) == 0o700 and sorted(os.listdir(state)) == ["sub"], "the state was touched")


def so_many_descriptors(place):
    """The hard limit is what counts: the daemon takes what it may have."""
    a, t = filled(place, "a", "t")
    text = sync("s", "direct", a, 'target = "%s";' % t)
    Doctor(place, text, prefix=("prlimit", "--nofile=70:70")).expect("warn", "host", "descriptors", "70 files may be open", "ulimit -Hn 160")
    Doctor(place, text, prefix=("prlimit", "--nofile=70:4000")).expect("ok", "host", "descriptors", "4000 files may be open")


def rings(place):
    """Two syncs that undo each other; one that sends on what a receiver takes in; and the same with bidirectional."""
    a, b, c = filled(place, "a", "b", "c")
    ab, ba = sync("ab", "direct", a, 'target = "%s"; %%s' % b), sync("ba", "direct", b, 'target = "%s"; %%s' % a)
    d = Doctor(place, "%s, %s" % (ab % "", ba % ""))
    d.expect("fail", "host", "rings", "sync ab: ", "bidirectional").expect("fail", "host", "rings", "sync ba: ")
    d = Doctor(place, "%s, %s, %s" % (ab % "bidirectional = true;", ba % "bidirectional = true;", sync("c", "direct", c, 'target = "%s/t";' % place)))
    d.expect("ok", "host", "rings", "no sync")
    keys, = dirs(place, "keys")
    put(keys + "/k.key", "00" * 32)
    os.chmod(keys + "/k.key", 0o600)
    receiver = ('receiver = { listen = [ "127.0.0.1:%d" ]; keys = "%s"; modules = ( { name = "in"; path = "%s"; allow = [ "k" ]; } ); };\n'
                % (free_port(), keys, c))
    d = Doctor(place, sync("on", "tcp", c, 'host = "nobody.invalid"; module = "in"; key = "%s/k.key";' % keys), receiver)
    d.expect("warn", "host", "rings", "through module in: is nobody.invalid one of them?", "bidirectional")


def what_hangs(place):
    """An ssh that says nothing: the whole ends in time, and the rest is told."""
    a, t = filled(place, "a", "t")
    put(place + "/ssh", "#!/bin/sh\nexec tail -f /dev/null\n")
    os.chmod(place + "/ssh", 0o755)
    hang = 'host = "192.0.2.1"; targetdir = "/x/%s"; ssh = { binary = "%s/ssh"; };'
    d = Doctor(place, ", ".join((sync("one", "rsyncssh", a, hang % ("1", place)), sync("two", "rsync", a, 'target = "%s";' % t))), argv=("--timeout", "3"))
    d.expect("fail", "one", "ssh login", "no answer in time").expect("ok", "two", "rsync here", "version")
    done = run("pgrep", "-f", place + "/ssh", check=False)
    expect(done.returncode != 0, "it left something running: %r" % done.stdout)


main([all_is_well, logins, at_the_other_host, rsync_daemons, programs, hooks, senders, receivers, credentials, a_running_daemon, sources, another_directory, unreadable, inotify_limit, local_targets,
      the_daemons_own, so_many_descriptors, rings, what_hangs])
