#!/usr/bin/env python3
# TIMEOUT: 120
"""Keys, passphrases and passwords stay where they belong: in no log (of any category), status, page, number, argument list,
environment, file that is left, nor in the memory of a process that has no use for them; and those that have leave no core."""
import ctypes
import http.client
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import fansync
from memory import plain, readable
from fansync import Daemon, Receiver, Skipped, Sshd, await_fact, children, command, dirs, expect, free_port, kill, main, put, run


def log_all(daemon):
    with open(daemon.config_path) as f:
        text = f.read()
    put(daemon.config_path, text.replace('"Info", "Exec", "Record"', '"all"'))


def with_cores(place):
    """In a directory of its own, where a core would be left."""
    return ["prlimit", "--core=unlimited:unlimited", "sh", "-c", 'mkdir -p "$1" && cd "$1" && shift && exec "$@"', "sh", place + "/cwd"]


class Everything:
    """A daemon with all that has a secret, and a receiver in another one."""

    def __init__(self, place):
        self.place = place
        sources = dirs(place, "sftp", "tcp", "rsync")
        targets = dirs(place, "to-sftp", "to-tcp", "to-rsync")
        for s in sources:
            put(s + "/f", "content")
        self.phrase, self.password = "phrase" + secrets.token_hex(16), "word" + secrets.token_hex(16)
        for name, text in (("phrase", self.phrase), ("password", self.password)):
            put(place + "/" + name, text + "\n")
            os.chmod(place + "/" + name, 0o600)
        self.sshd = Sshd(place + "/sshd", config="Subsystem sftp internal-sftp\n")
        run("ssh-keygen", "-q", "-p", "-P", "", "-N", self.phrase, "-f", self.sshd.key)
        self.sshd.start()
        self.rsyncd = self.start_rsyncd(targets[2])
        self.receiver = Receiver(place + "/receiver", targets[1], prefix=with_cores(place + "/receiver"))
        log_all(self.receiver.daemon)
        with open(self.receiver.key) as f:
            self.key = f.read().strip()
        self.http = free_port()
        self.daemon = Daemon(place + "/d", "", prefix=with_cores(place + "/d"))
        syncs = (("sftp", 'host = "127.0.0.1"; targetdir = "%s"; ssh = { port = %d; identityFile = "%s"; knownHostsFile = "%s"; '
                          'passphraseFile = "%s/phrase"; };' % (targets[0], self.sshd.port, self.sshd.key, self.sshd.known_hosts, place)),
                 ("tcp", self.receiver.section()),
                 ("rsync", 'target = "rsync://user@127.0.0.1:%d/m"; rsync = { password_file = "%s/password"; };' % (self.rsync_port, place)))
        self.daemon.write_config("sync = ( %s );\nmetrics = { listen = \"127.0.0.1:%d\"; };\n" % (", ".join(
            '{ name = "%s"; transport = "%s"; source = "%s"; delay = 0.0; retryMin = 0.1; %s }' % (n, n, sources[i], more)
            for i, (n, more) in enumerate(syncs)), self.http), 'statusFile = "%s/d/status"; statusInterval = 1;' % place)
        log_all(self.daemon)

    def start_rsyncd(self, target):
        self.rsync_port = free_port()
        put(self.place + "/rsyncd.secrets", "user:%s\n" % self.password)
        os.chmod(self.place + "/rsyncd.secrets", 0o600)
        put(self.place + "/rsyncd.conf", "use chroot = no\npid file = %s/rsyncd.pid\nlog file = %s/rsyncd.log\n[m]\npath = %s\nread only = no\n"
            "uid = %d\ngid = %d\nauth users = user\nsecrets file = %s/rsyncd.secrets\n" % (
                self.place, self.place, target, os.getuid(), os.getgid(), self.place))
        return subprocess.Popen(["rsync", "--daemon", "--no-detach", "--port=%d" % self.rsync_port, "--address=127.0.0.1",
                                 "--config=" + self.place + "/rsyncd.conf"], stdin=subprocess.DEVNULL)

    def secrets(self):
        """As they stand in the files, and as they are used."""
        return [self.phrase.encode(), self.password.encode(), self.key.encode(), bytes.fromhex(self.key)]

    def processes(self):
        """Role -> pid, of both daemons."""
        found = {}
        for d, name in ((self.daemon, "d"), (self.receiver.daemon, "r")):
            pids = [d.process.pid] + children(d.process.pid, every=True)
            for pid in pids:
                try:
                    with open("/proc/%d/comm" % pid) as f:
                        found[name + ":" + f.read().strip()] = pid
                except FileNotFoundError:
                    pass
        return found

    def fetch(self, path):
        c = http.client.HTTPConnection("127.0.0.1", self.http, timeout=60)
        c.request("GET", path)
        return c.getresponse().read()

    def none(self, data, where):
        for i, s in enumerate(self.secrets()):
            expect(s not in data, "secret %d is in %s" % (i, where))

    def stop(self):
        self.daemon.stop()
        self.receiver.stop()
        self.sshd.stop()
        self.rsyncd.kill()
        self.rsyncd.wait()


def status(pid, word):
    with open("/proc/%d/status" % pid) as f:
        return re.search(r"^%s:\s*(\S+)" % word, f.read(), re.M).group(1)


def nowhere(place):
    e = Everything(place)
    try:
        e.receiver.start()
        e.daemon.start()
        for path in ("to-sftp/f", "to-tcp/f", "to-rsync/f"):
            expect(os.path.exists(place + "/" + path), "%s is mirrored\n%s" % (path, e.daemon.tail()))
        seen = e.processes()
        expect({"d:fansyncd:sftp", "d:fansyncd:tcp", "d:fansyncd:rsync", "r:fansyncd:recv", "r:fansyncd:sessio"} <= set(
            seen), "all of them run: %s" % sorted(seen))
        # While they are at it: nothing in an argument list or an environment.
        for n in range(20):
            put(place + "/rsync/g", str(n))
            put(place + "/sftp/g", str(n))
            for root in (e.daemon.process.pid, e.receiver.daemon.process.pid):
                for pid in [root] + children(root, every=True):
                    for name in ("cmdline", "environ"):
                        try:
                            with open("/proc/%d/%s" % (pid, name), "rb") as f:
                                e.none(f.read(), "%s of %s" % (name, command(pid)[:1]))
                        except (FileNotFoundError, ProcessLookupError, PermissionError):
                            pass
        e.daemon.wait()
        for data, where in ((e.daemon.ask("status").stdout, "the status"), (e.daemon.ask("status", "--json").stdout, "the status"),
                            (e.fetch("/"), "the page"), (e.fetch("/metrics"), "the numbers"),
                            (e.daemon.client("--check").stdout, "--check"), (e.daemon.client("--doctor", check=False).stdout, "--doctor")):
            expect(data, where)
            e.none(data, where)
        # The daemon, the page's process and those for look-ups have never held one; nor has a worker that has no use for it.
        for role, pid in seen.items():
            if role.split(":", 1)[1] in ("fansyncd:sftp", "fansyncd:tcp", "fansyncd:recv", "fansyncd:sessio"):
                continue
            for piece in readable(pid):
                e.none(piece, "the memory of " + role)
        # All that is left on the disk.
        kept = ("phrase", "password", "rsyncd.secrets", "receiver/keys/web.key", "receiver/mine/web.key", "sshd/user_key")
        for top, _, files in os.walk(place):
            for name in files:
                path = os.path.join(top, name)
                if os.path.relpath(path, place) not in kept and os.path.isfile(path):
                    with open(path, "rb") as f:
                        e.none(f.read(), path)
    finally:
        e.stop()


# 1 is what programs inherit: then one that core_pattern names gets nothing either (core/confine.c).
NO_CORE = re.compile(r"Max core file size +(0 +0|1 +1) ")
PROGRAM = r'''#!/bin/sh
[ "$1" = --version ] || printf '%%s %%s\n' "%s" "$(grep "Max core" /proc/self/limits)" >>"%s"
case $* in *--version*) ;; *) [ -e "%s" ] && kill -ABRT $$ ;; esac
exec %s "$@"
'''


def no_core_of_programs(place):
    """rsync has the password for its daemon, ssh the keys: what workers start leaves none."""
    e = Everything(place)
    more = []
    for name, program in (("rsync", "rsync"), ("rsyncssh", "ssh"), ("openssh", "ssh")):
        put(place + "/run-" + name, PROGRAM % (name, place + "/limits", place + "/die", program))
        os.chmod(place + "/run-" + name, 0o755)
        if name != "rsync":
            more.append('{ name = "%s"; transport = "%s"; source = "%s"; host = "127.0.0.1"; targetdir = "%s"; retryMin = 0.1; retryMax = 0.1; '
                        'ssh = { port = %d; identityFile = "%s"; knownHostsFile = "%s"; binary = "%s"; %s }; }, ' % (
                            (name, "sftp" if name == "openssh" else name) + tuple(dirs(place, name, "to-" + name)) + (
                                e.sshd.port, e.sshd.key, e.sshd.known_hosts, place + "/run-" + name,
                                'client = "openssh";' if name == "openssh" else "")))
    with open(e.daemon.config_path) as f:
        text = f.read().split("\n", 1)[1]
    e.daemon.write_config(text.replace("sync = ( ", "sync = ( " + "".join(more)).replace(
        "rsync = { ", 'retryMax = 0.1; rsync = { binary = "%s"; confine = false; ' % (place + "/run-rsync")))

    def seen():
        if not os.path.exists(place + "/limits"):
            return {}
        with open(place + "/limits") as f:
            return dict(line.split(" ", 1) for line in f.read().splitlines())

    try:
        e.receiver.start()
        e.daemon.start(wait=False)
        await_fact(lambda: {"rsync", "rsyncssh", "openssh"} <= set(seen()), 60, "each program is run")
        for name, limits in seen().items():
            expect(NO_CORE.search(limits), "%s: %s" % (name, limits))
        put(place + "/die")
        os.unlink(place + "/limits")
        put(place + "/rsync/h", "more")
        await_fact(lambda: {"rsync", "rsyncssh", "openssh"} <= set(seen()), 60, "each program is run again, and dies")
        os.unlink(place + "/die")
        await_fact(lambda: os.path.exists(place + "/to-rsync/h"), 60, "it goes on")
        found = [os.path.join(top, n) for top, _, names in os.walk(place) for n in names if re.match(r"core(\.\d+)?$", n)]
        expect(not found, "cores: %s" % found)
    finally:
        e.stop()


def no_core(place):
    """Who holds a secret may die of anything: no core, although one was asked for."""
    before = plain()
    e = Everything(place)
    try:
        e.receiver.start()
        e.daemon.start()
        for role in ("d:fansyncd:sftp", "d:fansyncd:tcp", "d:fansyncd:rsync", "r:fansyncd:recv", "r:fansyncd:sessio"):
            pid = next(p for r, p in e.processes().items() if r.startswith(role))
            with open("/proc/%d/limits" % pid) as f:
                expect(NO_CORE.search(f.read()), role + " dumps no core")
            cwd = os.path.realpath("/proc/%d/cwd" % pid)
            kill(pid, signal.SIGABRT)
            await_fact(lambda: not os.path.exists("/proc/%d" % pid) or status(pid, "State") == "Z", 60, role + " ends")
            expect(cwd.endswith("/cwd") and not os.listdir(cwd), "%s left a core in %s: %s" % (role, cwd, os.listdir(cwd)))
            put(place + "/sftp/h", role)
            put(place + "/tcp/h", role)
            e.daemon.wait()
    finally:
        e.stop()
        fansync.BINARY = before


PRELOAD = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
static int told = -1;
__attribute__((constructor)) static void begin(void)
{
	told = open(getenv("PROBE"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}
/* The last step of a confinement: what can a hijacked process do then? */
int seccomp_load(void *ctx)
{
	int (*real)(void *) = (int (*)(void *))dlsym(RTLD_NEXT, "seccomp_load");
	const int rc = real(ctx);
	char name[32] = "";
	int secret, shadow, new, sock, zone;

	prctl(PR_GET_NAME, name, 0, 0, 0);
	secret = open(getenv("SECRET"), O_RDONLY) < 0 ? errno : 0;
	shadow = open("/etc/passwd", O_RDONLY) < 0 ? errno : 0;
	new = open(getenv("NEW"), O_WRONLY | O_CREAT, 0600) < 0 ? errno : 0;
	sock = socket(AF_INET, SOCK_STREAM, 0) < 0 ? errno : 0;
	zone = open("/etc/localtime", O_RDONLY) < 0 ? errno : 0;
	execl("/bin/true", "true", (char *)NULL);
	dprintf(told, "PROBE %s: read %d %d create %d socket %d exec %d zone %d\n", name, secret, shadow, new, sock, errno, zone);
	return rc;
}
/* A session that knows its module is confined once more (landlock_restrict_self): can it reach another one then? */
long syscall(long number, ...)
{
	long (*real)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	static int times;
	char name[32] = "";
	long a[6], rc;
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	rc = real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (number == 446 && rc == 0 && ++times == 2) {
		prctl(PR_GET_NAME, name, 0, 0, 0);
		dprintf(told, "PROBE %s:other create %d\n", name, open(getenv("OTHER"), O_WRONLY | O_CREAT, 0600) < 0 ? errno : 0);
	}
	return rc;
}
"""


# CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP
SESSION_CAPABILITIES = sum(1 << n for n in (0, 1, 3, 4, 27, 31))


def landlock():
    return ctypes.CDLL(None).syscall(444, None, 0, 1)


def hijacked(place):
    """What a worker can do that somebody has taken over, as soon as it is confined: nothing but its work."""
    if not shutil.which("cc"):
        raise Skipped("needs a compiler")
    before = plain()
    put(place + "/probe.c", PRELOAD)
    run("cc", "-shared", "-fPIC", "-o", place + "/probe.so", place + "/probe.c", "-ldl")
    e = Everything(place)
    source, target, other = dirs(place, "source", "target", "other")
    secret = place + ".secret"  # beside it: what lies in the directory of a key is readable
    put(secret, "x")
    put(source + "/f")
    with open(e.daemon.config_path) as f:
        text = f.read().split("\n", 1)[1]
    e.daemon.write_config(text.replace("sync = ( ", 'sync = ( { name = "direct"; transport = "direct"; source = "%s"; target = "%s"; }, '
                                       % (source, target)))
    for d in (e.daemon, e.receiver.daemon):
        d.prefix += ["env", "LD_PRELOAD=%s/probe.so" % place, "SECRET=" + secret, "NEW=" + place + ".new", "PROBE=%s/probe" % place,
                     "OTHER=" + other + "/f"]
    with open(e.receiver.daemon.config_path) as f:
        text = f.read()
    put(e.receiver.daemon.config_path, text.replace("modules = ( ", 'modules = ( { name = "other"; path = "%s"; allow = [ "web" ]; }, ' % other))
    try:
        e.receiver.start()
        e.daemon.start()
        with open(place + "/probe") as f:
            told = f.read()
            said = dict(re.findall(r"PROBE fansyncd:(\S+): (.*)", told))
        abi = landlock()
        denied = "read 13 13 create 13" if abi >= 2 else "read 0 0 create 0"
        zone = " zone %d" % (0 if os.path.exists("/etc/localtime") else 2)
        expect(said.get("direct") == denied + " socket 1 exec 1" + zone, "direct: %s" % said)
        for name in ("sftp", "tcp"):
            expect(said.get(name) == denied + " socket 0 exec 1" + zone, "%s: %s" % (name, said))
        expect(said.get("sessio") == denied + " socket 1 exec 1 zone %d" % (2 if zone == " zone 2" else 13 if abi >= 2 else 0),
               "a receiver's session: %s" % said)
        if abi >= 2:
            expect("PROBE fansyncd:sessio:other create 13" in told, "a session reaches its own module alone: %s" % told)
        expect("rsync" not in said, "who starts programs is not: %s" % said)
        for role, pid in e.processes().items():
            if role in ("d:fansyncd:direct", "d:fansyncd:sftp", "d:fansyncd:tcp", "r:fansyncd:sessio"):
                expect(status(pid, "Seccomp") == "2" and status(pid, "NoNewPrivs") == "1", role)
            if role in ("r:fansyncd:recv", "d:fansyncd:rsync"):  # not confined, but without what only the watcher needs
                expect(status(pid, "NoNewPrivs") == "1" and all(int(status(pid, kind), 16) >> 21 & 1 == 0 for kind in ("CapEff", "CapPrm")),
                       "CAP_SYS_ADMIN of " + role)
            if role == "r:fansyncd:sessio":
                for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"):
                    more = int(status(pid, kind), 16) & ~SESSION_CAPABILITIES
                    expect(more == 0 or kind == "CapBnd", "%s of %s: %x more" % (kind, role, more))
        # They do their work, also with a connection that was cut.
        e.sshd.cut()
        for name in ("sftp", "tcp", "source"):
            put(place + "/" + name + "/later", "later")
        e.daemon.wait()
        for name in ("to-sftp", "to-tcp", "target"):
            expect(os.path.exists(place + "/" + name + "/later"), name + " goes on")
    finally:
        e.stop()
        fansync.BINARY = before


main([nowhere, no_core_of_programs, no_core, hijacked])
