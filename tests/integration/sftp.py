#!/usr/bin/env python3
# TIMEOUT: 420
"""sftp at work: an account that is chrooted and has no shell, another implementation (ProFTPD), a connection that is cut, a
symlink in the place of a directory, and how many round trips it takes.

FAR=1 also measures the times through a delay of 25 ms each way, and `sftp put -r` beside.
"""
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from accounts import add_user, remove_user
from churn import Churn
from fansync import (Daemon, Failure, Skipped, Sshd, await_fact, differences, expect_equal, free_port, main, reachable, run,
                     skip, tree, whole_seconds)
from relay import Relay

if shutil.which("ssh-keygen") is None or not os.path.exists("/usr/sbin/sshd"):
    skip("no OpenSSH")


class SftpOnly(Sshd):
    """An sshd that offers its own SFTP; `more` goes into its configuration."""

    def __init__(self, place, more="", **how):
        super().__init__(place, **how)
        with open(os.path.join(place, "sshd_config"), "a") as f:
            f.write("Subsystem sftp internal-sftp\n" + more)

    def at(self, port=None):
        """The ssh section, through a relay if a port is given: it has no host key of its own."""
        known = self.known_hosts
        if port:
            known += ".%d" % port
            with open(self.known_hosts) as f, open(known, "w") as out:
                out.write(f.read().replace(":%d" % self.port, ":%d" % port))
        return 'ssh = { port = %d; identityFile = "%s"; knownHostsFile = "%s"; timeout = 20; };' % (port or self.port, self.key, known)


def section(source, target, ssh, host="127.0.0.1", more=""):
    return ('sync = ( { name = "s"; transport = "sftp"; source = "%s"; host = "%s"; targetdir = "%s"; retryMin = 0.1; %s %s } );\n'
            % (source, host, target, more, ssh))


def directories(place):
    source, target = os.path.join(place, "source"), os.path.join(place, "target")
    for d in (source, target):
        os.makedirs(d, exist_ok=True)
    return source, target


def put(path, text="x"):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)


def exercise(d, source, target, links=True):
    """What a person does in a day; equal after each step."""
    def compare(what):
        expect_equal(source, target, what, seconds=True)

    put(source + "/a/b/c/file", "one\n")
    put(source + "/with space/ü\n*'\"", "two\n")
    if links:
        os.symlink("a/b", source + "/link")
    else:
        put(source + "/link", "a file\n")
    d.wait()
    compare("new files")
    put(source + "/a/b/c/file", "three\n")
    os.chmod(source + "/a/b/c/file", 0o640)
    os.utime(source + "/a/b/c/file", (1, 1234567890))
    d.wait()
    compare("changed")
    os.rename(source + "/a", source + "/moved")
    d.wait()
    compare("moved")
    if d.sync("s")["counters"]["renames"] < 1:
        raise Failure("the rename was not carried: %s" % d.sync("s")["counters"])
    os.unlink(source + "/link")
    put(source + "/link/now/a/directory", "four\n")
    shutil.rmtree(source + "/with space")
    put(source + "/with space", "now a file\n")
    d.wait()
    compare("types changed")
    shutil.rmtree(source + "/moved")
    d.wait()
    compare("removed")
    left = [n for top, _, names in os.walk(os.fsencode(target)) for n in names if b"fansyncd~tmp" in n]
    if left:
        raise Failure("left behind: %s" % left)


def by_both_clients(place):
    for client in ("libssh2", "openssh"):
        here = os.path.join(place, client)
        source, target = directories(here)
        sshd = SftpOnly(here + "/sshd").start()
        d = Daemon(here, section(source, target, sshd.at().replace("{", '{ client = "%s";' % client)))
        try:
            d.start()
            exercise(d, source, target)
            if d.sync("s")["counters"]["handshakes"] != 1:
                raise Failure("%s: not one connection: %s" % (client, d.sync("s")["counters"]))
        finally:
            d.stop()
            sshd.stop()


def chrooted(place):
    """An account without a shell that sees nothing but its directory; not root's, so that owners can't be set."""
    if os.geteuid() != 0 or shutil.which("useradd") is None:
        raise Skipped("needs root, to make a user and chroot")
    name = "fansftp%d" % (os.getpid() % 100000)
    jail = "/run/%s" % name  # sshd wants each directory above to be root's alone, which /tmp is not
    add_user(name, "-s", "/usr/sbin/nologin", "-p", "*", "-d", "/")
    sshd = d = None
    try:
        os.makedirs(jail + "/inside", mode=0o755)
        shutil.chown(jail + "/inside", name)
        source, _ = directories(place)
        reachable(place)  # sshd reads the keys as the user
        sshd = SftpOnly(place + "/sshd", "Match User %s\n ChrootDirectory %s\n ForceCommand internal-sftp\n AllowTcpForwarding no\n"
                        % (name, jail)).start()
        d = Daemon(place, section(source, "/inside", sshd.at(), host=name + "@127.0.0.1"))
        d.start()
        exercise(d, source, jail + "/inside")
        put(source + "/locked/file")
        d.wait()
        # what is refused is named, and the rest goes on
        os.chmod(jail + "/inside/locked", 0o755)
        shutil.chown(jail + "/inside/locked", "root")
        put(source + "/locked/file", "changed")
        put(source + "/free", "free")
        done = d.wait(check=False)
        said = done.stderr.decode(errors="replace")
        if done.returncode != 1 or "locked/file" not in said or "ermission denied" not in said:
            raise Failure("--wait: %d: %s" % (done.returncode, said))
        if not os.path.exists(jail + "/inside/free"):
            raise Failure("one refused file held up the rest")
        shutil.chown(jail + "/inside/locked", name)
        await_fact(lambda: open(jail + "/inside/locked/file").read() == "changed", 30, "the retry")
    finally:
        if d:
            d.stop()
        if sshd:
            sshd.stop()
        remove_user(name)
        shutil.rmtree(jail, ignore_errors=True)


class ProFtpd:
    """mod_sftp with one virtual user, who logs in by key and is who runs the test."""

    def __init__(self, place):
        self.place, self.port = place, free_port()
        os.makedirs(place, exist_ok=True)
        self.key, host_key = os.path.join(place, "user"), os.path.join(place, "host")
        for path in (self.key, host_key):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-m", "PEM", "-f", path)
        with open(os.path.join(place, "keys"), "wb") as f:
            f.write(run("ssh-keygen", "-e", "-f", self.key + ".pub").stdout)
        uid, gid = max(os.geteuid(), 0), os.getegid()
        self.passwd = os.path.join(place, "passwd")
        with open(self.passwd, "w") as f:
            f.write("mirror:*:%d:%d::%s:/bin/sh\n" % (uid, gid, place))
        os.chmod(self.passwd, 0o600)
        with open(os.path.join(place, "group"), "w") as f:
            f.write("mirror:*:%d:mirror\n" % gid)
        os.chmod(os.path.join(place, "group"), 0o600)
        self.known = os.path.join(place, "known_hosts")
        with open(host_key + ".pub") as f, open(self.known, "w") as out:
            out.write("[127.0.0.1]:%d %s" % (self.port, f.read()))
        with open(os.path.join(place, "proftpd.conf"), "w") as f:
            f.write("""ServerType standalone
LoadModule mod_sftp.c
ServerName test
DefaultAddress 127.0.0.1
Port %d
UseIPv6 off
PidFile %s/pid
ScoreboardFile %s/scoreboard
DelayEngine off
AuthOrder mod_auth_file.c
AuthUserFile %s/passwd
AuthGroupFile %s/group
RequireValidShell off
RootLogin on
MaxInstances 20
WtmpLog off
SystemLog %s/log
TransferLog none
AllowOverwrite on
<IfModule mod_sftp.c>
  SFTPEngine on
  SFTPLog %s/sftp.log
  SFTPHostKey %s
  SFTPAuthMethods publickey
  SFTPAuthorizedUserKeys file:%s/keys
</IfModule>
""" % (self.port, place, place, place, place, place, place, host_key, place))

    def start(self):
        self.process = subprocess.Popen(["/usr/sbin/proftpd", "-n", "-q", "-c", os.path.join(self.place, "proftpd.conf")],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await_fact(self.answers, 20, "proftpd at port %d" % self.port)
        return self

    def answers(self):
        if self.process.poll() is not None:
            raise Failure("proftpd ended: " + self.log())
        return run(sys.executable, "-c", "import socket; socket.create_connection(('127.0.0.1', %d), 2).close()" % self.port,
                   check=False).returncode == 0

    def log(self):
        text = ""
        for name in ("log", "sftp.log"):
            try:
                with open(os.path.join(self.place, name), errors="replace") as f:
                    text += f.read()[-3000:]
            except FileNotFoundError:
                pass
        return text

    def at(self):
        return 'ssh = { port = %d; identityFile = "%s"; knownHostsFile = "%s"; timeout = 20; };' % (self.port, self.key, self.known)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def proftpd(place):
    """Another implementation of the protocol. Its LSTAT and RENAME follow symlinks: none are mirrored, none are followed."""
    if not os.path.exists("/usr/sbin/proftpd"):
        raise Skipped("proftpd is not installed")
    if os.geteuid() != 0:
        raise Skipped("proftpd wants to be root")
    source, target = directories(place)
    server = ProFtpd(place + "/server").start()
    d = Daemon(place, section(source, target, server.at(), host="mirror@127.0.0.1", more=""))
    try:
        d.start()
        exercise(d, source, target, links=False)
        os.symlink("file", source + "/linked")
        put(source + "/file")
        d.wait(check=False)
        if os.path.lexists(target + "/linked") or not os.path.exists(target + "/file"):
            raise Failure("a symlink was made where it can't be told from a file: %s" % os.listdir(target))
        os.unlink(source + "/linked")
        # somebody else's symlink is neither written through nor taken for a directory
        os.makedirs(place + "/outside")
        put(place + "/outside/file", "not ours")
        os.symlink("../outside", target + "/elsewhere")
        os.symlink("../outside/file", target + "/other")
        put(source + "/elsewhere/file", "ours")
        put(source + "/other", "ours")
        d.client("--sync-now", check=False)
        with open(place + "/outside/file") as f:
            if f.read() != "not ours" or os.listdir(place + "/outside") != ["file"]:
                raise Failure("written through a symlink")
        if "follows symlinks" not in d.log():
            raise Failure("the log does not say so")
    except Exception as e:
        raise Failure("%s\n%s\n%s" % (e, d.tail(20), server.log()))
    finally:
        d.stop()
        server.stop()


def churned(place):
    """Random operations, while the connection is cut again and again."""
    source, target = directories(place)
    sshd = SftpOnly(place + "/sshd").start()
    with Relay(sshd.port) as relay:
        d = Daemon(place, section(source, target, sshd.at(relay.port)))
        try:
            d.start()
            churn = Churn(source, place + "/outside", 7)
            done = 0
            for cuts in range(5):
                done += churn.run(1.0)
                relay.cut()
            done += churn.run(1.0)
            d.wait(120)
            # what a cut left behind goes with the next comparison
            left = [n for _, _, names in os.walk(os.fsencode(target)) for n in names if b"fansyncd~tmp" in n]
            found = differences(whole_seconds(tree(source)), whole_seconds(tree(target, skip_names=left)))
            if found:
                raise Failure("%d operations, %d connections:\n  %s" % (done, relay.connections, "\n  ".join(found)))
            if relay.connections < 3:
                raise Failure("only %d connections" % relay.connections)
            d.client("--sync-now")
            expect_equal(source, target, "after a comparison", seconds=True)
        except Exception as e:
            raise Failure("%s\n%s" % (e, d.tail(30)))
        finally:
            d.stop()
            sshd.stop()


def compressed(place):
    for client in ("libssh2", "openssh"):
        here = os.path.join(place, client)
        source, target = directories(here)
        for n in range(30):
            put("%s/%d" % (source, n), "much of the same, " * (n * 1000))
        sshd = SftpOnly(here + "/sshd").start()
        with Relay(sshd.port) as relay:
            d = Daemon(here, section(source, target, sshd.at(relay.port).replace("{", '{ client = "%s";' % client), more="compress = true;"))
            try:
                d.client("--sync-now")
                expect_equal(source, target, client, seconds=True)
                if relay.bytes[0] > 2000000:
                    raise Failure("%s: %d bytes went to the server" % (client, relay.bytes[0]))
            finally:
                sshd.stop()


def rekeyed(place):
    """The server asks for new keys all the time."""
    source, target = directories(place)
    sshd = SftpOnly(place + "/sshd", "RekeyLimit 200K\n").start()
    try:
        for n in range(20):
            with open("%s/%d" % (source, n), "wb") as f:
                f.write(os.urandom(300000))
        d = Daemon(place, section(source, target, sshd.at()))
        d.client("--sync-now")
        expect_equal(source, target, "rekeyed", seconds=True)
    finally:
        sshd.stop()


def links_in_the_way(place):
    """A symlink in the place of a directory is not followed, also when it appears while the daemon runs."""
    source, target = directories(place)
    outside = place + "/outside"
    os.makedirs(outside + "/deep")
    put(source + "/dir/deep/file", "mine\n")
    sshd = SftpOnly(place + "/sshd").start()
    d = Daemon(place, section(source, target, sshd.at()))
    try:
        d.start()
        for name in ("dir", "dir/deep"):
            path = os.path.join(target, name)
            shutil.rmtree(path)
            os.symlink(os.path.join(outside, name[4:]), path)
            put(source + "/dir/deep/file", "mine, too, by %s\n" % name)
            put(source + "/dir/deep/new of %s" % name.replace("/", "-"), "x")
            d.wait(check=False)  # what met the symlink is tried again
            found = [n for _, dirs, names in os.walk(outside) for n in names]
            if found:
                raise Failure("written through the symlink %s: %s" % (name, found))
            d.client("--sync-now")  # what it held before is only found by comparing
            expect_equal(source, target, "the symlink %s is replaced" % name, seconds=True)
    finally:
        d.stop()
        sshd.stop()


def sync_now(d):
    began = time.monotonic()
    d.client("--sync-now")
    return time.monotonic() - began


def round_trips(place):
    """Counted where the client falls silent for as long as half of one: a stream of requests does not."""
    source, target = directories(place)
    delay = 0.025 if os.environ.get("FAR") else 0.005
    sshd = SftpOnly(place + "/sshd").start()
    with Relay(sshd.port, delay) as relay:
        d = Daemon(place, section(source, target, sshd.at(relay.port)))
        try:
            counts = {}
            sync_now(d)
            empty = relay.waits
            for n in range(2000):
                put("%s/%d/file %d" % (source, n % 100, n), "x" * 4096)
                # of what is recent the content is compared: whole seconds don't tell
                os.utime("%s/%d/file %d" % (source, n % 100, n), (1, 1234567890 + n))
            for what in ("2000 new files of 4 KiB", "2000 unchanged files in 100 directories"):
                before, sent = relay.waits, list(relay.bytes)
                seconds = sync_now(d)
                counts[what] = relay.waits - before
                print("# %s: %.2f s, %d waits (%d to connect), %d bytes to the server, %d back" % (
                    what, seconds, counts[what], empty, relay.bytes[0] - sent[0], relay.bytes[1] - sent[1]))
                expect_equal(source, target, what, seconds=True)
            # a file at a time would take 2000 times 5 round trips, a directory at a time 100 times 3
            if counts["2000 new files of 4 KiB"] > 1000 or counts["2000 unchanged files in 100 directories"] > empty + 100:
                raise Failure("%s" % counts)
            if os.environ.get("FAR"):
                put(place + "/batch", "".join("put -r %s/%d %s/put/\n" % (source, n, place) for n in range(5)))
                os.makedirs(place + "/put")
                began = time.monotonic()
                run("sftp", "-q", "-b", place + "/batch", "-P", str(relay.port), "-i", sshd.key, "-o", "UserKnownHostsFile=%s.%d" % (
                    sshd.known_hosts, relay.port), "127.0.0.1", timeout=900)
                print("# sftp put -r, 20 times a twentieth: %.2f s" % (20 * (time.monotonic() - began)))
        finally:
            sshd.stop()


main([by_both_clients, chrooted, proftpd, churned, compressed, rekeyed, links_in_the_way, round_trips])
