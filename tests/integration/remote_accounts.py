#!/usr/bin/env python3
# TIMEOUT: 300
"""The account that rsyncssh logs in to: an ordinary user whose target root owns (sudo), a key that may run nothing but rrsync,
and login shells of every kind. The recipes are the README's. Needs root: accounts, sudoers files and foreign owners."""
import os
import pwd
import shutil
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, Failure, Sshd, await_fact, entry, kill, main, run, skip, tree

ODD = ["plain", "it's \"$HOME\" `id` \\ ;&|", "new\nline", "-rf", "ü\udcff", "*?[x]", "~root", " blank ", "{a,b}", "!x", "%s"]
OWNER = 12345


class Account:
    """A user made for the test, with a home of its own."""

    made = 0

    def __init__(self, place, shell="/bin/sh"):
        Account.made += 1
        self.name = "fsacc%d-%d" % (os.getpid() % 100000, Account.made)
        self.home = place + "/home"
        os.makedirs(self.home)
        await_fact(lambda: run("useradd", "-M", "-N", "-d", self.home, "-s", shell, "-p", "*", self.name,
                               check=False).returncode == 0, 30, "an account: /etc/passwd is locked by others")
        os.chown(self.home, pwd.getpwnam(self.name).pw_uid, -1)
        self.sudoers = "/etc/sudoers.d/fansync-test-" + self.name

    def may(self, *rules):
        with open(os.open(self.sudoers, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o440), "w") as f:
            f.write("".join(rule.replace("USER", self.name) + "\n" for rule in rules))
        run("visudo", "-cf", self.sudoers)

    def remove(self):
        if os.path.exists(self.sudoers):
            os.unlink(self.sudoers)
        await_fact(lambda: run("userdel", self.name, check=False).returncode == 0, 30, "the end of the account")


class Remote:
    """A source of root's, an account, and a target below the account's host."""

    def __init__(self, place, shell="/bin/sh", ssh="", rsync="archive = true;", targetdir=None, own=True):
        self.fine = True
        for path in (place, os.path.dirname(place)):
            os.chmod(path, 0o755)  # the account has to get at its keys
        self.place, self.source, self.target = place, place + "/source", place + "/it's a \"$target\""
        os.makedirs(self.source)
        os.makedirs(self.target)
        self.account = Account(place, shell)
        if own:
            os.chown(self.target, pwd.getpwnam(self.account.name).pw_uid, -1)
        else:
            os.chmod(self.target, 0o700)
        self.sshd = Sshd(place + "/sshd").start()
        self.daemon = Daemon(place, 'sync = ( { name = "s"; transport = "rsyncssh"; source = "%s"; host = "%s@127.0.0.1"; '
                             'targetdir = "%s"; delay = 0.1; retryMin = 0.1; retryMax = 0.5; ssh = { %s %s }; rsync = { %s }; } );\n'
                             % (self.source, self.account.name, (targetdir or self.target).replace('"', '\\"'),
                                self.sshd.section()[len("ssh = {"):-len("};")], ssh, rsync))

    def force(self, command):
        """The key may run this and nothing else."""
        self.fine = False  # rrsync takes no --modify-window=-1
        path = os.path.join(self.sshd.place, "authorized_keys")
        with open(path) as f:
            key = f.read()
        with open(path, "w", errors="surrogateescape") as f:
            f.write('restrict,command="%s" %s' % (command, key))

    def put(self, name, text, owner=None):
        path = os.path.join(self.source, name)
        with open(path, "w", errors="surrogateescape") as f:
            f.write(text)
        if owner is not None:
            os.chown(path, owner, owner)

    def state(self, root, owners):
        """What has to be equal, with the owners where they are mirrored. Ours are never those of the account."""
        return {p: dict(f, owner=os.lstat(os.path.join(os.fsencode(root), p)).st_uid if owners else 0,
                        mtime=f["mtime"] // (1 if self.fine else 10 ** 9))
                for p, f in tree(root).items()}

    def equal(self, owners, what):
        self.daemon.wait(60)
        a, b = self.state(self.source, owners), self.state(self.target, owners)
        if a != b:
            wrong = [(p, a.get(p), b.get(p)) for p in sorted(set(a) | set(b)) if a.get(p) != b.get(p)]
            raise Failure("%s: %s\n%s" % (what, wrong[:4], self.daemon.tail(30)))

    def counters(self):
        return self.daemon.sync("s")["counters"]

    def stop(self):
        self.daemon.stop()
        self.sshd.stop()
        # What is left of the account's sessions holds it.
        await_fact(lambda: run("pgrep", "-U", self.account.name, check=False).returncode != 0, 30, "the end of the sessions")
        self.account.remove()


def exercise(r, owners, renames):
    """Everything that happens to a tree. `renames`: whether a moved directory may be sent again."""
    os.mkdir(r.source + "/dir")
    os.mkdir(r.source + "/other dir")
    for i, name in enumerate(ODD):
        r.put(name, name)
        r.put("dir/" + name, "below " + name, OWNER + i if owners else None)
    os.symlink("nowhere", r.source + "/link")
    r.daemon.start()
    r.equal(owners, "at start")
    before = r.counters()
    os.rename(r.source + "/dir", r.source + "/other dir/it's moved")
    os.rename(r.source + "/plain", r.source + "/renamed\n")
    r.put("added", "added", OWNER if owners else None)
    r.equal(owners, "after renames")
    after = r.counters()
    carried, sent = after["renames"] - before["renames"], after["files"] - before["files"]
    if renames and (carried != 2 or sent != 1):
        raise Failure("%d renames carried, %d files sent\n%s" % (carried, sent, r.daemon.tail(30)))
    if not renames and carried != 0:
        raise Failure("%d renames carried" % carried)
    os.chmod(r.source + "/added", 0o600)
    os.unlink(r.source + "/link")
    shutil.rmtree(r.source + "/other dir")
    for name in ODD[1:6]:
        os.unlink(os.path.join(r.source, name))
        r.put(name + "2", name)
    r.equal(owners, "after deletions")
    if r.daemon.sync("s")["failures"] or r.daemon.sync("s")["last_error"]:
        raise Failure("failures: %s" % r.daemon.sync("s"))


def checked(r, owners, renames, after=lambda r: None):
    try:
        exercise(r, owners, renames)
        after(r)
    except Failure as e:
        raise Failure("%s\n%s\n%s" % (e, r.daemon.tail(30), open(r.sshd.place + "/sshd.log").read()[-2000:])) from e
    finally:
        r.stop()


# ---- root owns the target

RSYNC = "USER ALL=(root) NOPASSWD: /usr/bin/rsync --server *"


def sudo_for_all(place):
    """The README's recipe: rsync and a shell by sudo, so that renames are carried."""
    r = Remote(place, ssh='remotePrefix = [ "sudo", "-n" ];', own=False)
    r.account.may(RSYNC, 'USER ALL=(root) NOPASSWD: /usr/bin/rsync --version, /bin/sh ""')
    checked(r, True, True)


def sudo_rsync_and_prefix(place):
    """Both keys, each for its part."""
    r = Remote(place, ssh='remotePrefix = [ "sudo" ];', rsync='archive = true; rsync_path = "sudo rsync";', own=False)
    r.account.may(RSYNC, 'USER ALL=(root) NOPASSWD: /bin/sh ""')
    checked(r, True, True)


def sudo_for_rsync_alone(place):
    """Narrower: no shell for root. Renames are refused there, and what was moved is sent again."""
    r = Remote(place, rsync='archive = true; rsync_path = "sudo -n rsync";', own=False)
    r.account.may(RSYNC)
    checked(r, True, False)


def only_told_once(r):
    """That there is no shell: in one line of the log, however often the connection is lost."""
    for i in range(2):
        for pid in r.sshd.sessions():
            kill(pid, signal.SIGKILL)
        r.put("again%d" % i, "x")
        r.equal(False, "after a lost connection")
    lines = [line for line in r.daemon.log().split("\n") if "renames can't be carried" in line]
    if len(lines) != 1:
        raise Failure("told %d times: %s" % (len(lines), lines))


def rrsync(place):
    r = Remote(place, targetdir="/")
    r.force("rrsync '%s'" % r.target.replace("'", "'\\''").replace('"', '\\"'))
    checked(r, False, False, only_told_once)


def rrsync_by_sudo(place):
    """The narrowest: the key writes below one directory, as root, and nothing else."""
    r = Remote(place, targetdir="/", own=False)
    plain = place + "/target"
    os.rename(r.target, plain)
    r.target = plain
    r.account.may("Defaults!/usr/bin/rrsync env_keep += SSH_ORIGINAL_COMMAND",
                  "USER ALL=(root) NOPASSWD: /usr/bin/rrsync %s" % plain)
    r.force("sudo -n /usr/bin/rrsync %s" % plain)
    checked(r, True, False, only_told_once)


# ---- login shells

def with_shell(place, shell):
    if shell == "busybox":
        path = place + "/sh"
        os.symlink(shutil.which("busybox") or skip("no busybox"), path)
    else:
        path = shutil.which(shell)
    if path is None:
        print("skip shell_%s not installed" % shell)
        return
    r = Remote(place, path)
    checked(r, False, True)


def shells(*names):
    def case(name):
        def run_it(place):
            with_shell(place, name)
        run_it.__name__ = "shell_" + name
        return run_it
    return [case(name) for name in names]


if os.geteuid() != 0:
    skip("needs root")
main([sudo_for_all, sudo_rsync_and_prefix, sudo_for_rsync_alone, rrsync, rrsync_by_sudo] +
     shells("dash", "bash", "fish", "busybox", "tcsh"))
