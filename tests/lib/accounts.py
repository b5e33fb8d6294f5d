"""Accounts at a target: users made for a test (by root), and a daemon that reaches one of them over ssh."""

import os
import pwd

from fansync import Daemon, Failure, Sshd, await_fact, reachable, run, tree


def add_user(name, *options):
    """Awaits its turn: tests run side by side, and useradd fails while another one has /etc/passwd locked."""
    await_fact(lambda: run("useradd", "-M", "-N", *options, name, check=False).returncode == 0, 30, "the user " + name)


def remove_user(name):
    await_fact(lambda: run("userdel", name, check=False).returncode == 0, 30, "the end of the user " + name)


class Account:
    """A user made for the test, with a home of its own."""

    made = 0

    def __init__(self, place, shell="/bin/sh"):
        Account.made += 1
        self.name = "fsacc%d-%d" % (os.getpid() % 100000, Account.made)
        self.home = place + "/home"
        os.makedirs(self.home)
        add_user(self.name, "-d", self.home, "-s", shell, "-p", "*")
        os.chown(self.home, pwd.getpwnam(self.name).pw_uid, -1)
        self.sudoers = "/etc/sudoers.d/fansync-test-" + self.name

    def may(self, *rules):
        with open(os.open(self.sudoers, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o440), "w") as f:
            f.write("".join(rule.replace("USER", self.name) + "\n" for rule in rules))
        run("visudo", "-cf", self.sudoers)

    def remove(self):
        if os.path.exists(self.sudoers):
            os.unlink(self.sudoers)
        remove_user(self.name)


class Remote:
    """A source of root's, an account, and a target below the account's host."""

    def __init__(self, place, shell="/bin/sh", ssh="", rsync="archive = true;", targetdir=None, own=True):
        self.fine = True
        reachable(place)
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
