#!/usr/bin/env python3
# TIMEOUT: 300
"""sftp: who the server is, and who we are. Host keys (unknown, changed, hashed, revoked, of another type, accept-new) and every
way to log in, against an sshd of the test's own, with libssh2 and with the ssh program."""
import os
import pwd
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from accounts import add_user, remove_user
from fansync import BINARY, Failure, Skipped, Sshd, await_fact, expect_equal, main, reachable, run, skip

if shutil.which("ssh-keygen") is None or not os.path.exists("/usr/sbin/sshd"):
    skip("no OpenSSH")

TYPES = ("ed25519", "ecdsa", "rsa")


class Place:
    """A server with a host key of each type, a source, and a home directory for who logs in."""

    def __init__(self, place, more="", host_keys=TYPES):
        self.place = place
        self.source, self.target, self.home = (os.path.join(place, n) for n in ("source", "target", "home"))
        for d in (self.source, self.target, self.home):
            os.makedirs(d, exist_ok=True)
        with open(os.path.join(self.source, "file"), "w") as f:
            f.write("content\n")
        self.sshd = Sshd(os.path.join(place, "sshd"))
        config = os.path.join(self.sshd.place, "sshd_config")
        with open(config) as f:
            lines = [line for line in f if not line.startswith("HostKey")]
        for kind in host_keys:
            self.make_key(self.host_key(kind), kind)
            lines.append("HostKey %s\n" % self.host_key(kind))
        if more:
            lines = [line for line in lines if line.split()[0] not in [m.split()[0] for m in more.split("\n") if m]]
        with open(config, "w") as f:
            f.writelines(lines + ["Subsystem sftp internal-sftp\n", more])
        self.known = os.path.join(place, "known_hosts")
        self.write_known(*host_keys[:1])
        self.sshd.start()

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.sshd.stop()

    @staticmethod
    def make_key(path, kind, phrase="", *more):
        if not os.path.exists(path):
            run("ssh-keygen", "-q", "-t", kind, "-N", phrase, "-f", path, *more)
        return path

    def host_key(self, kind):
        return os.path.join(os.environ["TESTDIR"], "host_" + kind)  # one for all cases: rsa keys take their time

    def public(self, kind):
        with open(self.host_key(kind) + ".pub") as f:
            return " ".join(f.read().split()[:2])

    def write_known(self, *kinds, names=None, before="", key=None):
        with open(self.known, "w") as f:
            for kind in kinds:
                f.write("%s%s %s\n" % (before, names or "[127.0.0.1]:%d" % self.sshd.port, key or self.public(kind)))

    def user_key(self, name, kind, phrase="", *more):
        path = self.make_key(os.path.join(self.place, name), kind, phrase, *more)
        with open(path + ".pub") as f, open(os.path.join(self.sshd.place, "authorized_keys"), "a") as out:
            out.write(f.read())
        return path

    def secret(self, name, text, mode=0o600):
        path = os.path.join(self.place, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def sync(self, key=True, env=None, host=None, **ssh):
        """One --sync-now; its exit status and what it said."""
        ssh.setdefault("port", self.sshd.port)
        ssh.setdefault("knownHostsFile", self.known)
        if key:
            ssh.setdefault("identityFile", self.sshd.key)
        shutil.rmtree(self.target)
        os.makedirs(self.target)
        config = os.path.join(self.place, "fansyncd.conf")
        with open(config, "w") as f:
            f.write('settings = { nodaemon = true; stateDir = "%s/state"; controlSocket = "%s/ctl"; log = [ "Exec" ]; };\n'
                    'sync = ( { name = "s"; transport = "sftp"; source = "%s"; host = "%s"; targetdir = "%s"; ssh = { %s }; } );\n'
                    % (self.place, self.place, self.source, host or "127.0.0.1", self.target,
                       " ".join("%s = %s;" % (k, v if isinstance(v, int) else '"%s"' % v) for k, v in ssh.items())))
        full = {k: v for k, v in os.environ.items() if k != "SSH_AUTH_SOCK"}
        full.update(env or {}, HOME=self.home)
        done = run(BINARY, "--sync-now", config, check=False, timeout=60, env=full)
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace")

    def works(self, what, *words, **how):
        code, said = self.sync(**how)
        if code != 0:
            raise Failure("%s: exit %d: %s" % (what, code, said))
        expect_equal(self.source, self.target, what, seconds=True)
        self.expect(what, said, words)

    def refused(self, what, *words, **how):
        code, said = self.sync(**how)
        if code != 1:
            raise Failure("%s: exit %d, not 1: %s" % (what, code, said))
        if os.listdir(self.target):
            raise Failure("%s: something was written: %s" % (what, os.listdir(self.target)))
        self.expect(what, said, words)

    @staticmethod
    def expect(what, said, words):
        for word in words:
            if word not in said:
                raise Failure("%s: %r is not in: %s" % (what, word, said))


def fingerprint(path):
    return run("ssh-keygen", "-l", "-f", path).stdout.decode().split()[1]


def host_keys(place):
    with Place(place) as p:
        shown = fingerprint(p.host_key("ed25519"))
        p.works("a known key")
        p.write_known()
        p.refused("an unknown key", shown, "is not known", "ssh-keyscan -p %d -t ed25519 127.0.0.1 >> %s" % (p.sshd.port, p.known))
        if os.path.getsize(p.known):
            raise Failure("the unknown key was noted")
        p.refused("an unknown key, ssh", "known", client="openssh")
        os.unlink(p.known)
        p.refused("no known_hosts", "is not known")
        p.works("accept-new", strictHostKeyChecking="accept-new")
        with open(p.known) as f:
            if f.read() != "[127.0.0.1]:%d %s\n" % (p.sshd.port, p.public("ed25519")):
                raise Failure("accept-new did not note the key")
        p.works("noted by accept-new")
        p.write_known("ed25519", names="other.example.org,[127.0.0.1]:%d" % p.sshd.port)
        with open(p.known, "a") as f:
            f.write("# no newline at its end")
        p.works("names in a list")
        other = p.make_key(os.path.join(place, "other_host"), "ed25519")
        with open(other + ".pub") as f:
            p.write_known("ed25519", key=f.read().strip())
        p.refused("a changed key", shown, "HAS CHANGED", "ssh-keygen -R '[127.0.0.1]:%d'" % p.sshd.port)
        p.refused("a changed key, accept-new", "HAS CHANGED", strictHostKeyChecking="accept-new")
        p.refused("a changed key, ssh", client="openssh")
        # the command that the message names makes it known
        run("ssh-keygen", "-R", "[127.0.0.1]:%d" % p.sshd.port, "-f", p.known)
        scanned = run("ssh-keyscan", "-p", str(p.sshd.port), "-t", "ed25519", "127.0.0.1").stdout
        with open(p.known, "ab") as f:
            f.write(scanned)
        p.works("after the commands that the messages name")


def host_key_forms(place):
    with Place(place) as p:
        run("ssh-keygen", "-H", "-f", p.known)
        with open(p.known) as f:
            if not f.read().startswith("|1|"):
                raise Failure("ssh-keygen did not hash it")
        p.works("a hashed name")
        p.works("a hashed name, ssh", client="openssh")
        p.write_known("ed25519", names="[127.*]:%d" % p.sshd.port)
        p.works("a pattern")
        p.write_known("ed25519", names="[127.*]:%d,!*0.0.1*" % p.sshd.port)
        p.refused("a negated pattern", "is not known")
        p.write_known("ecdsa")
        p.works("only the ecdsa key is known: it is asked for")
        p.write_known("rsa")
        p.refused("only the rsa key is known", "other types of keys only")
        p.write_known("ed25519")
        with open(p.known, "a") as f:
            f.write("@revoked * %s\n" % p.public("ed25519"))
        p.refused("a revoked key", "revoked")
        p.refused("a revoked key, accept-new", "revoked", strictHostKeyChecking="accept-new")
        # ~/.ssh/known_hosts is the default, and made by accept-new
        config = dict(strictHostKeyChecking="accept-new", knownHostsFile="~/.ssh/known_hosts")
        shutil.rmtree(os.path.join(p.home, ".ssh"), ignore_errors=True)
        os.makedirs(os.path.join(p.home, ".ssh"), mode=0o700)
        p.works("accept-new in the home directory", **config)
        with open(os.path.join(p.home, ".ssh", "known_hosts")) as f:
            if p.public("ed25519") not in f.read():
                raise Failure("not noted in ~/.ssh/known_hosts")


def keys(place):
    with Place(place) as p:
        phrase = p.secret("phrase", "open sesame\n")
        wrong = p.secret("wrong", "shut sesame\n")
        loose = p.secret("loose", "open sesame\n", 0o644)
        p.works("an rsa key, by SHA-2", identityFile=p.user_key("rsa", "rsa"))
        # libssh2 1.10 leaks a little with each ecdsa key
        p.works("an ecdsa key", identityFile=p.user_key("ecdsa", "ecdsa"), env={"ASAN_OPTIONS": "detect_leaks=0"})
        locked = p.user_key("locked", "ed25519", "open sesame")
        p.works("a passphrase", identityFile=locked, passphraseFile=phrase)
        p.refused("no passphrase", "locked", "passphrase", identityFile=locked)
        p.refused("a wrong passphrase", "locked", "ssh.passphraseFile", identityFile=locked, passphraseFile=wrong)
        p.refused("a passphrase that others can read", "chmod 600", identityFile=locked, passphraseFile=loose)
        p.refused("no such file", "No such file", identityFile=locked, passphraseFile=place + "/none")
        credentials = os.path.join(place, "credentials")
        os.makedirs(credentials)
        p.secret("credentials/phrase", "open sesame", 0o440)
        p.works("a credential", identityFile=locked, passphraseFile="credential:phrase",
                env={"CREDENTIALS_DIRECTORY": credentials})
        shutil.copy(locked, credentials + "/key")
        os.chmod(credentials + "/key", 0o440)
        p.works("a key that is a credential", identityFile="credential:key", passphraseFile="credential:phrase",
                env={"CREDENTIALS_DIRECTORY": credentials})
        p.refused("no credentials", "systemd", identityFile=locked, passphraseFile="credential:phrase")
        p.works("a locked rsa key in PEM", identityFile=p.user_key("rsa_pem", "rsa", "open sesame", "-m", "PEM"), passphraseFile=phrase)
        p.refused("a locked rsa key of OpenSSH's", "ssh-keygen -p -m PEM",
                  identityFile=p.user_key("rsa_own", "rsa", "open sesame"), passphraseFile=phrase)
        p.refused("a key that was not authorized", "refused by the server", "as " + pwd.getpwuid(os.geteuid()).pw_name,
                  identityFile=p.make_key(place + "/stranger", "ed25519"))
        p.refused("no key", "no private key", identityFile=p.secret("text", "this is no key\n"))
        os.chmod(locked, 0o644)
        p.refused("a key that others can read", "chmod 600", identityFile=locked, passphraseFile=phrase)


def agent_and_defaults(place):
    with Place(place) as p:
        p.refused("nothing to offer", "ssh.identityFile", key=False)
        socket = os.path.join(place, "agent")
        agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        env = {"SSH_AUTH_SOCK": socket}
        try:
            await_fact(lambda: os.path.exists(socket), 20, "the agent's socket")
            run("ssh-add", "-q", p.make_key(place + "/stranger", "ed25519"), env=dict(os.environ, **env))
            p.refused("a stranger in the agent", "a key of the agent", key=False, env=env)
            run("ssh-add", "-q", p.user_key("agent_rsa", "rsa"), env=dict(os.environ, **env))
            p.works("an rsa key in the agent, by SHA-2", key=False, env=env)
            run("ssh-add", "-q", "-D", env=dict(os.environ, **env))
            run("ssh-add", "-q", p.user_key("agent_ed25519", "ed25519"), env=dict(os.environ, **env))
            p.works("an ed25519 key in the agent", key=False, env=env)
        finally:
            agent.kill()
            agent.wait()
        p.refused("the agent is gone", "agent", key=False, env=env)
        os.makedirs(os.path.join(p.home, ".ssh"), mode=0o700, exist_ok=True)
        shutil.copy(p.sshd.key, os.path.join(p.home, ".ssh", "id_ed25519"))
        p.works("the usual key in ~/.ssh", key=False)
        p.works("a tilde", key=False, identityFile="~/.ssh/id_ed25519")


def passwords(place):
    if os.geteuid() != 0 or shutil.which("useradd") is None:
        raise Skipped("needs root, to make a user with a password")
    name = "fanpw%d" % (os.getpid() % 100000)
    if shutil.which("openssl") is None:
        raise Skipped("needs openssl, to make a password")
    crypted = run("openssl", "passwd", "-6", "right horse").stdout.decode().strip()
    add_user(name, "-s", "/bin/sh", "-p", crypted)
    try:
        with Place(place, "PasswordAuthentication yes\nKbdInteractiveAuthentication no\n") as p:
            reachable(place)
            os.chmod(p.source, 0o777)
            right, wrong = p.secret("right", "right horse\n"), p.secret("wrong", "wrong horse\n")
            host = name + "@127.0.0.1"
            p.refused("a wrong password", "refused by the server", key=False, passwordFile=wrong, host=host)
            os.chmod(right, 0o640)
            p.refused("a password that others can read", "chmod 600", key=False, passwordFile=right, host=host)
            os.chmod(right, 0o600)
            code, said = p.sync(key=False, passwordFile=right, host=host)
            if "Permission denied" not in said:  # logged in: the target is root's
                raise Failure("a password: %d %s" % (code, said))
            code, said = p.sync(key=False, passwordFile=right, host=host, client="openssh")
            Place.expect("a password, ssh", said, ["passwordFile", "libssh2"])
    finally:
        remove_user(name)


def nothing_in_common(place):
    """A server hardened to what libssh2 lacks: said which, and that ssh can."""
    with Place(place, "Ciphers chacha20-poly1305@openssh.com\n") as p:
        p.refused("no cipher", "no cipher in common", "chacha20-poly1305@openssh.com", 'ssh.client = "openssh"')
        p.works("the same by ssh", client="openssh")
    with Place(place + "2", "MACs hmac-sha2-256-etm@openssh.com\n") as p:
        p.refused("no MAC", "no MAC in common", "hmac-sha2-256-etm@openssh.com", 'ssh.client = "openssh"')
    with Place(place + "3", host_keys=["rsa"]) as p:
        p.write_known("rsa")
        p.refused("no host key type", "no host key type in common", "rsa-sha2-512", 'ssh.client = "openssh"')
        p.works("the same by ssh", client="openssh")


def no_subsystem(place):
    with Place(place) as p:
        config = os.path.join(p.sshd.place, "sshd_config")
        p.sshd.stop()
        with open(config) as f:
            lines = [line for line in f if not line.startswith("Subsystem")]
        with open(config, "w") as f:
            f.writelines(lines)
        p.sshd.start()
        p.refused("no subsystem", "no SFTP")
        p.refused("no subsystem, ssh", "subsystem", client="openssh")
        server = "/usr/lib/openssh/sftp-server"
        if os.path.exists(server):
            p.works("ssh.sftpServer", sftpServer=server)
            p.works("ssh.sftpServer, ssh", sftpServer=server, client="openssh")
        p.refused("a server that is not there", "exit 127", sftpServer="/nonexistent/sftp-server")
        p.refused("a server that is none", "no SFTP server", "hello", sftpServer="echo hello world; cat")


main([host_keys, host_key_forms, keys, agent_and_defaults, passwords, nothing_in_common, no_subsystem])
