#!/usr/bin/env python3
# TIMEOUT: 300
"""The MaxScale guide: three hosts, each with its own sshd at port 2222 and two rsyncssh syncs to the others. Editing, replacing,
deleting and re-creating maxscale.cnf and my-maxscale.cnf on any host reaches the others; nothing else is touched; then there
is silence.

The hosts are network namespaces where that is allowed, else addresses of the loopback interface.
"""
import os
import shutil
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from accounts import add_user, remove_user
from fansync import Daemon, Failure, Skipped, Sshd, await_fact, main, reachable, run, tree

FILES = ["maxscale.cnf", "my-maxscale.cnf"]


class Net:
    """Three namespaces on one bridge; or, without the right to make them, 127.0.0.2, .3 and .4."""

    def __init__(self):
        self.made = []
        self.tag = "fs%d" % (os.getpid() % 100000)
        self.namespaces = os.geteuid() == 0 and shutil.which("ip") is not None and self.make()
        self.addresses = (["10.213.7.%d" % i for i in (1, 2, 3)] if self.namespaces
                          else ["127.0.0.%d" % i for i in (2, 3, 4)])

    def ip(self, *args):
        return run("ip", *args, check=False).returncode == 0

    def make(self):
        hub = self.tag + "h"
        ok = self.ip("netns", "add", hub)
        if ok:
            self.made.append(hub)
        ok = ok and self.ip("-n", hub, "link", "add", "br0", "type", "bridge") and self.ip("-n", hub, "link", "set", "br0", "up")
        for i in (1, 2, 3):
            name = self.tag + str(i)
            ok = ok and self.ip("netns", "add", name)
            if ok:
                self.made.append(name)
            ok = (ok and self.ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", "p%d" % i, "netns", hub)
                  and self.ip("-n", hub, "link", "set", "p%d" % i, "master", "br0", "up")
                  and self.ip("-n", name, "addr", "add", "10.213.7.%d/24" % i, "dev", "eth0")
                  and self.ip("-n", name, "link", "set", "eth0", "up") and self.ip("-n", name, "link", "set", "lo", "up"))
        if not ok:
            self.remove()
        return ok

    def prefix(self, i):
        return ["ip", "netns", "exec", self.tag + str(i + 1)] if self.namespaces else []

    def remove(self):
        for name in self.made:
            self.ip("netns", "del", name)
        self.made = []


class Login:
    """A user made for the test, who owns the directories and whom ssh lets in by key; who runs it, without the right to.
    With `sudo` root owns them, and the user may do what the guide's sudoers file says."""

    def __init__(self, sudo=False):
        name = "fansync%d" % (os.getpid() % 100000)
        self.name = name if os.geteuid() == 0 else None
        if self.name:
            add_user(name, "-s", "/bin/sh", "-p", "*")
        self.ssh, self.sudoers = "", None
        if sudo:
            self.ssh = 'remotePrefix = [ "sudo", "-n" ]; '
            self.sudoers = "/etc/sudoers.d/" + name
            with open(os.open(self.sudoers, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o440), "w") as f:
                f.write('%s ALL=(root) NOPASSWD: /usr/bin/rsync --server *, /usr/bin/rsync --version, /bin/sh ""\n' % name)

    def at(self, address):
        return "%s@%s" % (self.name, address) if self.name else address

    def own(self, path):
        if self.name and not self.sudoers:
            run("chown", "-R", self.name, path)

    def remove(self):
        if self.sudoers:
            os.unlink(self.sudoers)
        if self.name:
            remove_user(self.name)
        self.name = None


class Host:
    def __init__(self, place, i, net, key, login, transport="rsyncssh"):
        self.transport = transport
        self.login = login
        self.place, self.i, self.net, self.key = "%s/host%d" % (place, i), i, net, key
        self.etc = self.place + "/etc"
        os.makedirs(self.etc)
        for n in range(200):
            directory = self.etc + "/" + ["", "conf.d", "ssh", "maxscale.cnf.d"][n % 4]
            os.makedirs(directory, exist_ok=True)
            with open("%s/file%d.conf" % (directory, n), "w") as f:
                f.write("host %d file %d\n" % (i, n))
        with open(self.etc + "/conf.d/my-maxscale.cnf", "w") as f:
            f.write("of host %d alone\n" % i)
        login.own(self.etc)
        self.address = net.addresses[i]
        self.serve()

    def serve(self):
        net, key, i, transport = self.net, self.key, self.i, self.transport
        self.sshd = Sshd(self.place + "/sshd", net.prefix(i), self.address, 2222, key)
        if transport == "sftp":
            with open(self.place + "/sshd/sshd_config", "a") as f:
                f.write("Subsystem sftp internal-sftp\n")

    def connect(self, hosts, watcher, delay=0.1):
        known = self.place + "/known_hosts"
        with open(known, "w") as out:
            for h in hosts:
                with open(h.sshd.known_hosts) as f:
                    out.write(f.read())
        syncs = ['''{
    name          = "to%d";
    transport     = "%s";
    source        = "%s";
    host          = "%s";
    targetdir     = "%s";
    bidirectional = true;
    delay         = %.1f;
    watcher       = "%s";
    ssh           = { port = 2222; identityFile = "%s"; knownHostsFile = "%s"; };
    rsync         = {
      compress = true;
      extra    = [ "--filter=+ *maxscale.cnf", "--filter=- **" ];
    };
  }''' % (h.i, self.transport, self.etc, h.login.at(h.address), h.etc, delay, watcher, self.key, known) for h in hosts if h is not self]
        self.daemon = Daemon(self.place + "/fansyncd", "sync = (\n  %s\n);\n" % ",\n  ".join(
            s.replace("{ port", "{ %sport" % self.login.ssh) for s in syncs), self.net.prefix(self.i))

    def path(self, name):
        return os.path.join(self.etc, name)

    def others(self):
        """Everything but what travels; the root's own times change with its entries."""
        found = tree(self.etc, skip_names=())
        return {p: f for p, f in found.items() if p != b"" and p not in [os.fsencode(n) for n in FILES]}

    def counters(self):
        return [s["counters"] for s in self.daemon.status()["syncs"]]

    def processes(self):
        """What an edit costs, and silence does not: processes; where there are none, what was sent, deleted or renamed."""
        what = ("processes",) if self.transport == "rsyncssh" else ("files", "deletions", "renames")
        return sum(c[w] for c in self.counters() for w in what)


def state(host, name):
    try:
        with open(host.path(name)) as f:
            return f.read()
    except FileNotFoundError:
        return None


def waited(daemon):
    """A host that looks at a target in the moment of a third one's edit there waits for that one to send it, which --wait names."""
    end = time.monotonic() + 60
    while True:
        done = daemon.wait(60, check=False)
        if done.returncode == 0:
            return
        if b"waiting for that" not in done.stderr or time.monotonic() > end:
            raise Failure("--wait: exit %d: %s\n%s" % (done.returncode, done.stderr.decode(errors="replace"), daemon.tail()))


def settle(hosts):
    """Every host's changes are with the others; three rounds, since what arrives is a change, too."""
    for _ in range(3):
        for h in hosts:
            waited(h.daemon)


def edit(hosts, host, name, how, most):
    before = sum(h.processes() for h in hosts)
    text = how(host.path(name))
    waited(host.daemon)
    for h in hosts:
        await_fact(lambda: state(h, name) == text, 30, "%s of host %d at host %d: %r, not %r" %
                   (name, host.i, h.i, state(h, name), text))
    settle(hosts)
    for h in hosts:
        if state(h, name) != text:
            raise Failure("%s at host %d went back to %r" % (name, h.i, state(h, name)))
    used = sum(h.processes() for h in hosts) - before
    if used > most:
        raise Failure("%d rsync processes, or changes carried, for one edit" % used)
    quiet = sum(h.processes() for h in hosts)
    settle(hosts)
    if sum(h.processes() for h in hosts) != quiet:
        raise Failure("no silence after an edit: %d processes more" % (sum(h.processes() for h in hosts) - quiet))
    return used


def write_text(text):
    def how(path):
        with open(path, "w") as f:
            f.write(text)
        return text
    return how


def append_text(text):
    def how(path):
        with open(path, "a") as f:
            f.write(text)
        with open(path) as f:
            return f.read()
    return how


def replace_text(text):
    def how(path):
        with open(path + ".new", "w") as f:
            f.write(text)
        os.rename(path + ".new", path)
        return text
    return how


def delete(path):
    os.unlink(path)
    return None


def maxscale(place, watcher, sudo=False, transport="rsyncssh", kind=Host, most=24):
    net = Net()
    login = Login(sudo)
    hosts = []
    key = place + "/id_ed25519"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    try:
        reachable(place)
        hosts = [kind(place, i, net, key, login, transport) for i in range(3)]
        others = [h.others() for h in hosts]
        for h in hosts:
            h.sshd.start()
        for h in hosts:
            h.connect(hosts, watcher)
        for h in hosts:
            h.daemon.start()
        settle(hosts)
        used = []
        for n, name in enumerate(FILES):
            for i, h in enumerate(hosts):
                used.append(edit(hosts, h, name, write_text("[maxscale] %d %d\n" % (n, i)), most))
                used.append(edit(hosts, h, name, append_text("threads=%d\n" % i), most))
            used.append(edit(hosts, hosts[n], name, replace_text("[replaced] %d\n" % n), most))
            used.append(edit(hosts, hosts[1], name, delete, most))
            used.append(edit(hosts, hosts[2], name, write_text("[again] %d\n" % n), most))
        for h, before in zip(hosts, others):
            if h.others() != before:
                changed = [p for p in set(before) | set(h.others()) if before.get(p) != h.others().get(p)]
                raise Failure("host %d: other files were touched: %s" % (h.i, changed[:5]))
        conflicts = [c["conflicts"] for h in hosts for c in h.counters()]
        if any(conflicts):  # whose file it is depends on who brought it: that alone is none
            raise Failure("one edit after the other, and conflicts: %s" % conflicts)
        print("# %s by %s, %s: %d edits, %s for one: %s; handshakes %s" % (
            watcher, transport, "namespaces" if net.namespaces else "loopback", len(used),
            "rsync processes" if transport == "rsyncssh" else "changes carried", sorted(used), [[c["handshakes"] for c in h.counters()] for h in hosts]))
    except Exception as e:
        raise Failure("%s\n%s" % (e, "\n".join(h.daemon.tail(15) for h in hosts if hasattr(h, "daemon")))) from e
    finally:
        for h in hosts:
            if hasattr(h, "daemon"):
                h.daemon.stop()
            h.sshd.stop()
        net.remove()
        login.remove()


def with_fanotify(place):
    maxscale(place, "fanotify")


def with_inotify(place):
    maxscale(place, "inotify")


def by_sftp(place):
    maxscale(place, "inotify", transport="sftp")


def by_sudo(place):
    """The hosts' directories are root's, and an ordinary user reaches them."""
    if os.geteuid() != 0 or shutil.which("sudo") is None:
        raise Skipped("needs root and sudo")
    maxscale(place, "inotify", sudo=True)


if __name__ == "__main__":
    main([with_inotify, with_fanotify, by_sudo, by_sftp])
