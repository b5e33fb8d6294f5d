"""The programs that are compared. A live one watches its sources; plain rsync is run when it is asked.

A contender knows: its name, start(place, pairs), watching() and compared() (has it come so far?), pids, stop(). To add
one of fansyncd's transports, add a line to FANSYNCD; it takes part in every row that the line names.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib"))
from fansync import BINARY, Sshd, await_fact, kill  # noqa: E402

from . import measure

# name -> (transport, watcher, rows' kind: local targets or ssh, further keys of ssh = { })
FANSYNCD = {
    "fansyncd": ("rsync", "fanotify", "local", ""),
    "fansyncd inotify": ("rsync", "inotify", "local", ""),
    "fansyncd direct": ("direct", "fanotify", "local", ""),
    "fansyncd ssh": ("rsyncssh", "fanotify", "ssh", ""),
    "fansyncd sftp": ("sftp", "fanotify", "ssh", 'client = "libssh2"; '),
    "fansyncd sftp openssh": ("sftp", "fanotify", "ssh", 'client = "openssh"; '),
    "fansyncd tcp": ("tcp", "fanotify", "tcp", ""),  # network.py
}


def sshd_in(keep):
    """Commands find an empty home: what the user's ~/.bashrc does at each of them is not measured."""
    home = os.path.join(keep, "home")
    os.makedirs(home, exist_ok=True)
    return Sshd(os.path.join(keep, "sshd"), config="SetEnv HOME=%s\nSubsystem sftp internal-sftp\n" % home).start()


class Live:
    """A program that runs until it is stopped, and everything that it started."""

    live = True
    remote = False
    whole_seconds = False  # the target keeps no more of times
    name = ""

    def __init__(self):
        self.process = None
        self.others = []  # helpers of its own: an ssh master, an sshd
        self.started = 0.0

    def spawn(self, *argv):
        self.output = os.path.join(self.keep, "output")
        with open(self.output, "wb") as out:
            self.started = time.perf_counter()
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.keep)

    def pids(self):
        return [self.process.pid] + [o.process.pid for o in self.others]

    def said(self, text, file):
        if self.process.poll() is not None:
            raise measure.NotEqual("%s ended: %s" % (self.name, self.tail()))
        try:
            with open(file, "rb") as f:
                return text in f.read()
        except FileNotFoundError:
            return False

    def tail(self):
        with open(self.output, errors="replace") as f:
            return f.read()[-2000:]

    def counters(self):
        return ""

    def stop(self):
        """By pid, with everything below it: some of them leave their children behind."""
        if self.process is not None:
            below = measure.descendants(self.process.pid)[1:]
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            for pid in below:
                kill(pid, signal.SIGKILL)
            self.process = None
        for o in self.others:
            o.stop()
        self.others = []


class Fansyncd(Live):
    def __init__(self, name):
        super().__init__()
        self.name = name
        self.transport, self.watcher, self.kind, self.ssh = FANSYNCD[name]
        self.remote = self.kind != "local"
        self.whole_seconds = self.transport == "sftp"
        self.far_port = None  # of a relay before the sshd

    def _ssh_section(self, sshd):
        section = sshd.section().replace("ssh = { ", "ssh = { " + self.ssh)
        if self.far_port is not None:
            known = sshd.known_hosts + ".far"
            with open(sshd.known_hosts) as f, open(known, "w") as out:
                out.write(f.read().replace(":%d" % sshd.port, ":%d" % self.far_port))
            section = section.replace("port = %d;" % sshd.port, "port = %d;" % self.far_port).replace(sshd.known_hosts, known)
        return section

    def _section(self, i, source, target):
        where = 'target = "%s";' % target
        keys = "rsync = { archive = true; };" if self.transport.startswith("rsync") else ""  # theirs is not the default
        if self.remote:
            where = 'host = "127.0.0.1"; targetdir = "%s"; %s' % (target, self._ssh_section(self.others[0]))
        return ('{ name = "s%d"; transport = "%s"; source = "%s"; %s delay = 0.0; watcher = "%s"; %s }' % (
            i, self.transport, source, where, self.watcher, keys))

    def start(self, place, pairs):
        self.keep = place.keep(self.name.replace(" ", "-"))
        self.log = os.path.join(self.keep, "log")
        self.syncs = len(pairs)
        if self.kind == "ssh" and not self.others:
            self.others.append(sshd_in(self.keep))
        for name in ("log", "ctl"):
            if os.path.exists(os.path.join(self.keep, name)):
                os.unlink(os.path.join(self.keep, name))
        # It remembers who its source was; here it is another one each time.
        shutil.rmtree(os.path.join(self.keep, "state"), ignore_errors=True)
        with open(os.path.join(self.keep, "conf"), "w") as f:
            f.write('settings = { nodaemon = true; stateDir = "%s/state"; controlSocket = "%s/ctl"; logfile = "%s"; };\n'
                    'sync = ( %s );\n' % (self.keep, self.keep, self.log,
                                          ",\n".join(self._section(i, s, t) for i, (s, t) in enumerate(pairs))))
        self.spawn(BINARY, os.path.join(self.keep, "conf"))

    def watching(self):
        if self.watcher == "fanotify":
            return self._has_mark()
        return self.said(b"watching ", self.log)

    def _has_mark(self):
        """A mark of the kernel's, not a word of the daemon's."""
        if self.process.poll() is not None:
            raise measure.NotEqual("%s ended: %s" % (self.name, self.tail()))
        try:
            for fd in os.listdir("/proc/%d/fd" % self.process.pid):
                if "fanotify" in os.readlink("/proc/%d/fd/%s" % (self.process.pid, fd)):
                    with open("/proc/%d/fdinfo/%s" % (self.process.pid, fd)) as f:
                        return "fanotify sdev" in f.read()
        except FileNotFoundError:
            pass
        return False

    def compared(self):
        if self.process.poll() is not None:
            raise measure.NotEqual("%s ended: %s" % (self.name, self.tail()))
        try:
            with open(self.log, "rb") as f:
                return f.read().count(b"first comparison finished") >= self.syncs
        except FileNotFoundError:
            return False

    def sync_now(self):
        """Seconds of the client that asks for a comparison."""
        begun = time.perf_counter()
        done = subprocess.run([BINARY, "--sync-now", os.path.join(self.keep, "conf")], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            raise measure.NotEqual("--sync-now: " + done.stdout.decode(errors="replace")[-1000:])
        return time.perf_counter() - begun

    def counters(self):
        import json
        done = subprocess.run([BINARY, "--status", "--json", os.path.join(self.keep, "conf")], stdout=subprocess.PIPE,
                              check=False)
        try:
            syncs = json.loads(done.stdout)["syncs"]
        except ValueError:
            return ""
        return "%d batches, %d processes" % (sum(s["counters"]["batches"] for s in syncs),
                                             sum(s["counters"]["processes"] for s in syncs))


class Lsyncd(Live):
    """lsyncd with delay 0. Over ssh either as it comes (a connection each time) or through a connection that the bench
    keeps open for it."""

    def __init__(self, name="lsyncd", way="local"):
        super().__init__()
        self.name = name
        self.way = way
        self.remote = way != "local"

    def _section(self, source, target):
        rsync = "archive = true"
        where = 'default.rsync, target = "%s"' % target
        if self.way == "ssh":
            sshd = self.others[0]
            where = ('default.rsyncssh, host = "127.0.0.1", targetdir = "%s", ssh = { port = %d, identityFile = "%s", '
                     'options = { UserKnownHostsFile = "%s" } }' % (target, sshd.port, sshd.key, sshd.known_hosts))
        elif self.way == "shared":
            where = 'default.rsync, target = "127.0.0.1:%s"' % target
            rsync += ', rsh = "%s"' % self.others[1].rsh
        return 'sync { %s, source = "%s", delay = 0, rsync = { %s } }' % (where, source, rsync)

    def start(self, place, pairs):
        self.keep = place.keep(self.name.replace(" ", "-"))
        self.syncs = len(pairs)
        if self.way in ("ssh", "shared"):
            self.others.append(sshd_in(self.keep))
        if self.way == "shared":
            self.others.append(Master(self.others[0], self.keep))
        with open(os.path.join(self.keep, "conf"), "w") as f:
            f.write("settings { nodaemon = true, insist = true }\n" +
                    "\n".join(self._section(s, t) for s, t in pairs))
        self.spawn("lsyncd", "-nodaemon", os.path.join(self.keep, "conf"))

    def watching(self):
        """It has set all watches when it starts the first rsync."""
        if self.process.poll() is not None:
            raise measure.NotEqual("%s ended: %s" % (self.name, self.tail()))
        return len(measure.descendants(self.process.pid)) > 1 or self.compared()

    def compared(self):
        if self.process.poll() is not None:
            raise measure.NotEqual("%s ended: %s" % (self.name, self.tail()))
        with open(self.output, "rb") as f:
            return f.read().count(b" finished") >= self.syncs


class Loop(Live):
    """What people write first: inotifywait, and an rsync of everything when something was said and then no more for
    10 ms."""

    name = "inotifywait loop"
    SCRIPT = ("set -u; source=$1; target=$2; mkfifo events; exec 3<>events\n"
              "inotifywait -m -r -e close_write,attrib,create,delete,move --format x \"$source\" >events &\n"
              "while :; do\n"
              "  if [ -e first ]; then read -r -u 3 _; while read -r -t 0.01 -u 3 _; do :; done; fi\n"
              "  rsync -a --delete \"$source/\" \"$target/\"; : >first\n"
              "done\n")

    def start(self, place, pairs):
        if len(pairs) != 1:
            raise measure.NotEqual("one target only")
        self.keep = place.keep("loop")
        for name in ("events", "first"):
            if os.path.exists(os.path.join(self.keep, name)):
                os.unlink(os.path.join(self.keep, name))
        with open(os.path.join(self.keep, "loop.sh"), "w") as f:
            f.write(self.SCRIPT)
        self.source = pairs[0][0]
        self.spawn("bash", "loop.sh", *pairs[0])

    def watching(self):
        return self.said(b"Watches established", self.output)

    def compared(self):
        return os.path.exists(os.path.join(self.keep, "first"))


class Master:
    """An ssh connection that others may go through."""

    def __init__(self, sshd, keep):
        self.path = os.path.join(keep, "m")
        base = "ssh -p %d -i %s -oUserKnownHostsFile=%s -oBatchMode=yes -S %s" % (sshd.port, sshd.key, sshd.known_hosts,
                                                                                 self.path)
        self.rsh = base + " -oControlMaster=no"
        self.process = subprocess.Popen(base.split() + ["-M", "-N", "127.0.0.1"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await_fact(lambda: os.path.exists(self.path), 20, "the ssh connection")

    def stop(self):
        self.process.terminate()
        self.process.wait()


class PlainRsync:
    """The floor: one run of rsync, of a file or of everything."""

    live = False
    remote = False
    whole_seconds = False
    name = "plain rsync"

    def __init__(self):
        self.others = []

    def prepare(self, place):
        pass

    def command(self, what, target):
        return ["rsync", "-a", what, target]

    def run(self, what, target):
        """-> a process that was just started. posix_spawn costs the least."""
        argv = self.command(what, target)
        return os.posix_spawnp(argv[0], argv, os.environ)

    def stop(self):
        for o in reversed(self.others):
            o.stop()
        self.others = []


class RemoteRsync(PlainRsync):
    """The same over an ssh connection that is already there."""

    remote = True
    name = "plain rsync over a shared connection"

    def prepare(self, place):
        keep = place.keep("plain-ssh")
        self.others.append(sshd_in(keep))
        self.others.append(Master(self.others[0], keep))

    def command(self, what, target):
        return ["rsync", "-a", "-e", self.others[1].rsh, what, "127.0.0.1:" + target]


CIPHER = "aes128-ctr"  # what libssh2 1.10 and OpenSSH agree on: all that is compared with sftp uses it


class Tar(PlainRsync):
    """A plain transfer of everything, by a program that looks at nothing first."""

    name = "tar | tar"
    whole_seconds = True

    def command(self, what, target):
        return ["sh", "-c", "tar -C '%s' -cf - . | tar -C '%s' -xf -" % (what, target)]


class RemoteTar(Tar):
    """The same through an ssh connection of its own, as people write it."""

    remote = True
    name = "tar | ssh tar"

    def prepare(self, place):
        self.others.append(sshd_in(place.keep("tar-ssh")))

    def command(self, what, target):
        sshd = self.others[0]
        return ["sh", "-c", "tar -C '%s' -cf - . | ssh -p %d -i %s -oUserKnownHostsFile=%s -oBatchMode=yes -c %s 127.0.0.1 "
                "\"tar -C '%s' -xf -\"" % (what, sshd.port, sshd.key, sshd.known_hosts, CIPHER, target)]


class Scp(PlainRsync):
    remote = True
    name = "scp"

    def prepare(self, place):
        self.others.append(sshd_in(place.keep("scp")))

    def command(self, what, target):
        sshd = self.others[0]
        return ["scp", "-q", "-c", CIPHER, "-P", str(sshd.port), "-i", sshd.key, "-oUserKnownHostsFile=" + sshd.known_hosts,
                "-oBatchMode=yes", what, "127.0.0.1:" + target]


class SftpPut(PlainRsync):
    """OpenSSH's own client: `put -r` of a directory; through a relay if `port` is given."""

    remote = True
    name = "sftp put -r"

    def __init__(self, sshd, port, known_hosts):
        super().__init__()
        self.argv = ["sftp", "-q", "-P", str(port), "-i", sshd.key, "-oUserKnownHostsFile=" + known_hosts, "-oBatchMode=yes",
                     "-b", "-", "127.0.0.1"]

    def put(self, what, target):
        subprocess.run(self.argv, input=("put -rp %s %s\n" % (what, target)).encode(), stdout=subprocess.DEVNULL, check=True)


# Names to which a run is limited; None: no limit. The floor is always there.
ONLY = None


def chosen(everybody):
    return [c for c in everybody if ONLY is None or c.name in ONLY or not c.live]


def local(which=None):
    """One of each that can mirror to a local directory, plain rsync last."""
    everybody = [lambda n=n: Fansyncd(n) for n, spec in FANSYNCD.items() if spec[2] == "local"]
    everybody += [Lsyncd, Loop, PlainRsync]
    return chosen(c for c in (make() for make in everybody) if which is None or c.name in which)


def remote():
    ours = [Fansyncd(n) for n, spec in FANSYNCD.items() if spec[2] == "ssh"]
    return chosen(ours + [Lsyncd("lsyncd ssh", "ssh"), Lsyncd("lsyncd shared connection", "shared"), RemoteRsync()])
