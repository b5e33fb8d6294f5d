#!/usr/bin/env python3
# TIMEOUT: 300
"""The account that rsyncssh logs in to: an ordinary user whose target root owns (sudo), a key that may run nothing but rrsync,
and login shells of every kind. The recipes are the README's. Needs root: accounts, sudoers files and foreign owners."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from accounts import Remote, add_user, remove_user
from fansync import Failure, Skipped, await_fact, main, skip

ODD = ["plain", "it's \"$HOME\" `id` \\ ;&|", "new\nline", "-rf", "ü\udcff", "*?[x]", "~root", " blank ", "{a,b}", "!x", "%s"]
OWNER = 12345


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
        r.sshd.cut()
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


def users_come_while_it_runs(place):
    """A confined rsync can't open a table of users that was replaced since it began: what has owners is looked at once more."""
    r = Remote(place, ssh='remotePrefix = [ "sudo", "-n" ];', rsync="archive = true; bwlimit = 300;", own=False)
    r.account.may(RSYNC, 'USER ALL=(root) NOPASSWD: /usr/bin/rsync --version, /bin/sh ""')
    other = r.account.name + "b"
    try:
        r.put("big", "x" * 1000000, OWNER)
        r.daemon.start(wait=False)
        await_fact(lambda: any(f.startswith(".big.") for f in os.listdir(r.target)), 30, "a file on its way")
        add_user(other)
        remove_user(other)
        r.equal(True, "with other users")
        if "users and groups were replaced" not in r.daemon.log():
            raise Failure("it was not seen: " + r.daemon.tail(20))
        if r.daemon.sync("s")["counters"]["retries"]:
            raise Failure("that is no failure: %s" % r.daemon.sync("s"))
    finally:
        r.stop()


# ---- login shells

def with_shell(place, shell):
    path = shutil.which(shell)
    if path is None:
        raise Skipped("%s is not installed" % shell)
    if shell == "busybox":
        os.symlink(path, place + "/sh")
        path = place + "/sh"
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
main([sudo_for_all, sudo_rsync_and_prefix, sudo_for_rsync_alone, rrsync, rrsync_by_sudo, users_come_while_it_runs] +
     shells("dash", "bash", "fish", "busybox", "tcsh"))
