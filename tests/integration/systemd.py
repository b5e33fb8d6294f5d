#!/usr/bin/env python3
"""The systemd units under a real systemd: process 1 of a machine of the test's own (tests/lib/machine.py). Watching from inside the
sandbox, what the sandbox takes away, reload, watchdog, instances, the receiver's socket, credentials, --sync-now, a user's unit."""
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import TESTDIR, Failure, await_fact, expect, main, run, skip
from machine import Machine, possible

TOP = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
# Sanitizers want what a sandbox forbids (executable memory, ptrace): here the ordinary program runs.
PLAIN = os.environ.get("FANSYNCD_PLAIN", os.path.join(TOP, "build", "fansyncd"))
SYNC = ('{ name = "%s"; transport = "direct"; source = "/srv/%s"; target = "%s"; delay = 0.0; watcher = "%s"; retryMin = 0.1; '
        'retryMax = 0.2; %s }')
MACHINE = None


def program():
    """The ordinary program, built where it is not there yet (a single test is run)."""
    if not os.access(PLAIN, os.X_OK):
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "BUILD", "SANITIZE")}
        run("make", "-C", TOP, "-j2", "BUILD=" + os.path.dirname(PLAIN), "WERROR=1", env=env, timeout=230)
    return PLAIN


def install(m):
    """As `make install` does it, into a place that is then copied into the machine."""
    stage = os.path.join(TESTDIR, "stage")
    usr = "/usr/local"
    places = {"DESTDIR": stage, "BUILD": os.path.dirname(program()), "BINDIR": usr + "/bin", "MANDIR": usr + "/share/man",
              "UNITDIR": usr + "/lib/systemd/system", "USERUNITDIR": usr + "/lib/systemd/user", "SYSCONFDIR": "/etc",
              "TMPFILESDIR": usr + "/lib/tmpfiles.d", "BASHCOMPDIR": usr + "/share/bash", "ZSHCOMPDIR": usr + "/share/zsh",
              "FISHCOMPDIR": usr + "/share/fish", "DOCDIR": usr + "/share/doc/fansyncd"}
    run(TOP + "/scripts/install.sh", "install", env=dict(os.environ, **places))
    archive = run("tar", "-C", stage, "-c", ".").stdout
    m.inside("tar", "-C", "/", "-x", "--no-same-owner", "--no-overwrite-dir", input=archive)
    m.inside("systemctl", "daemon-reload")


def config(m, path, *syncs, more=""):
    m.write(path, "settings = { log = [ \"Info\" ]; };\nsync = ( %s );\n%s" % (", ".join(syncs), more))


def sync(name, target=None, watcher="fanotify", more=""):
    return SYNC % (name, name, target or "/mnt/" + name, watcher, more)


def drop_in(m, unit, text):
    m.write("/etc/systemd/system/%s.d/test.conf" % unit, text)
    m.inside("systemctl", "daemon-reload")


def no_drop_in(m, unit):
    m.inside("rm", "-rf", "/etc/systemd/system/%s.d" % unit)
    m.inside("systemctl", "daemon-reload")


def start(m, unit):
    done = m.inside("systemctl", "start", unit, check=False)
    if done.returncode != 0:
        raise Failure("%s does not start: %s\n%s" % (unit, done.stderr.decode(), m.journal(unit)))


def stop(m, unit):
    m.inside("systemctl", "stop", unit)
    m.inside("systemctl", "reset-failed", check=False)


def mirrored(m, name, text, target=None):
    """What is written outside of the service arrives."""
    m.write("/srv/%s/file" % name, text)
    path = "/proc/%d/root%s/file" % (m.pid, target or "/mnt/" + name)

    def there():
        try:
            with open(path, encoding="utf-8") as f:
                return f.read() == text
        except OSError:
            return False
    await_fact(there, 20, "%r in the target\n%s" % (text, m.journal("fansyncd")))


def status(m, conf="/etc/fansyncd.conf"):
    return json.loads(m.text("fansyncd", "--status", "--json", conf))


def facts_of(m, unit):
    """Of the main process of a unit: what its /proc/PID/status says, seen from outside the machine."""
    pid = int(m.show(unit, "MainPID"))
    expect(pid > 1, "%s has no process\n%s" % (unit, m.journal(unit)))
    text = m.text("cat", "/proc/%d/status" % pid)
    return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.M))


def watches_and_mirrors(_):
    m = MACHINE
    m.inside("mkdir", "-p", "/srv/web", "/mnt/web")
    config(m, "/etc/fansyncd.conf", sync("web"), sync("web", "/mnt/other").replace('name = "web"', 'name = "two"'))
    m.inside("mkdir", "-p", "/mnt/other")
    start(m, "fansyncd")
    expect(m.show("fansyncd", "ActiveState") == "active", "it is not active")
    s = status(m)["syncs"][0]
    expect(s["watcher"]["backend"] == "fanotify", "watched by %s: %s" % (s["watcher"], s))
    mirrored(m, "web", "one")
    m.inside("mkdir", "-p", "/srv/web/a/b")
    m.inside("mv", "/srv/web/file", "/srv/web/a/b/moved")
    m.inside("fansyncd", "--wait", "--timeout", "20")
    expect(m.text("cat", "/mnt/web/a/b/moved") == "one" and m.text("cat", "/mnt/other/a/b/moved") == "one", "the moved file")
    expect(m.inside("test", "-e", "/mnt/web/file", check=False).returncode == 1, "the old name is still there")
    # Another mount below the source, which comes while it runs and is seen through the name space of the service.
    m.inside("mkdir", "/srv/web/disk")
    m.inside("mount", "-t", "tmpfs", "none", "/srv/web/disk")
    m.inside("fansyncd", "--wait", "--timeout", "20")
    m.write("/srv/web/disk/file", "below a mount")
    m.inside("fansyncd", "--wait", "--timeout", "20")
    expect(m.text("cat", "/mnt/web/disk/file") == "below a mount", "what lies in a mount that came later")
    m.inside("umount", "/srv/web/disk")
    expect("sync" in m.show("fansyncd", "StatusText"), "STATUS: %r" % m.show("fansyncd", "StatusText"))


def a_group_reads_the_metrics(_):
    """The socket is in the service's own directory, which that group must be able to enter; and it alone can connect."""
    m = MACHINE
    socket = "/run/fansyncd/metrics.sock"
    config(m, "/etc/fansyncd.conf", sync("web"), sync("web", "/mnt/other").replace('name = "web"', 'name = "two"'),
           more='metrics = { listen = "%s"; group = "www-data"; };\n' % socket)
    m.inside("systemctl", "reload", "fansyncd")
    connect = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(b'GET /metrics HTTP/1.0\\r\\n\\r\\n'); " \
              "print(s.recv(64))"

    def ask(gid):
        return m.inside("setpriv", "--reuid=65534", "--regid=" + gid, "--clear-groups", "python3", "-c", connect, socket, check=False)
    gid = m.text("sh", "-c", "getent group www-data | cut -d: -f3").strip()
    await_fact(lambda: m.inside("test", "-S", socket, check=False).returncode == 0, 20, "the socket\n" + m.journal("fansyncd"))
    done = ask(gid)
    expect(b"200 OK" in done.stdout, "the group can't read it: %r %s" % (done, m.text("ls", "-la", "/run/fansyncd")))
    expect(b"Permission denied" in ask("65534").stderr, "others can")
    config(m, "/etc/fansyncd.conf", sync("web"), sync("web", "/mnt/other").replace('name = "web"', 'name = "two"'))
    m.inside("systemctl", "reload", "fansyncd")
    await_fact(lambda: m.inside("test", "-S", socket, check=False).returncode != 0, 20, "the socket is gone")


def sandboxed(_):
    """What the unit says is in force, also for the workers."""
    m = MACHINE
    facts = facts_of(m, "fansyncd")
    expect(facts["NoNewPrivs"] == "1" and facts["Seccomp"] == "2", "%s" % facts)
    names = run("capsh", "--decode=" + facts["CapEff"]).stdout.decode().strip().split("=", 1)[1].split(",")
    expect(sorted(names) == sorted("cap_chown cap_dac_override cap_dac_read_search cap_fowner cap_fsetid cap_sys_admin "
                                   "cap_setfcap".split()), "capabilities: %s" % names)
    expect(facts["CapBnd"] == facts["CapEff"], "bounding set: %s" % facts)
    pid = m.show("fansyncd", "MainPID")
    workers = m.text("sh", "-c", "cat /proc/%s/task/%s/children" % (pid, pid)).split()
    expect(len(workers) == 2, "workers: %s" % workers)
    for w in workers:
        text = dict(re.findall(r"^(\w+):\s*(.*)$", m.text("cat", "/proc/%s/status" % w), re.M))
        expect(int(text["CapEff"], 16) >> 21 & 1 == 0 and int(text["CapPrm"], 16) >> 21 & 1 == 0, "CAP_SYS_ADMIN: %s" % text)
        expect(text["NoNewPrivs"] == "1", "a worker without no_new_privs")
    inside = ["nsenter", "-t", pid, "-m"]
    expect(m.inside(*inside, "touch", "/etc/x", check=False).returncode != 0, "/etc can be written")
    expect(m.inside(*inside, "touch", "/usr/x", check=False).returncode != 0, "/usr can be written")
    expect(m.inside(*inside, "test", "-e", "/dev/kmsg", check=False).returncode != 0, "/dev is the machine's")
    expect(m.inside(*inside, "touch", "/mnt/x", check=False).returncode == 0, "a target can't be written")
    m.inside("rm", "/mnt/x")


def programs_do_not_regain(_):
    """rsync, started by a worker that has no CAP_SETPCAP to shrink its bounding set, has no CAP_SYS_ADMIN."""
    m = MACHINE
    m.write("/usr/local/bin/told-rsync", '#!/bin/sh\ngrep -E "^(Cap|NoNew)" /proc/self/status >/mnt/told.$$\n'
            'mv /mnt/told.$$ /mnt/told\nexec rsync "$@"\n', 0o755)  # Whole at any moment: more than one rsync may be run.
    m.inside("mkdir", "-p", "/srv/r", "/mnt/r")
    config(m, "/etc/fansyncd/r.conf", sync("r", more='rsync = { binary = "/usr/local/bin/told-rsync"; confine = false; archive = true; };').replace(
        "direct", "rsync"))
    start(m, "fansyncd@r")
    mirrored(m, "r", "by rsync")
    told = dict(line.split(":\t") for line in m.text("cat", "/mnt/told").split("\n"))
    for name in ("CapEff", "CapPrm"):
        expect(int(told[name], 16) >> 21 & 1 == 0, "%s of rsync: %s" % (name, told))
    expect(told["NoNewPrivs"] == "1", "%s" % told)
    stop(m, "fansyncd@r")


def reload(_):
    m = MACHINE
    before = m.show("fansyncd", "MainPID")
    m.inside("mkdir", "-p", "/srv/more", "/mnt/more")
    config(m, "/etc/fansyncd.conf", sync("web"), sync("more"))
    m.inside("systemctl", "reload", "fansyncd")
    # It returned when the new configuration was in force: that is what RELOADING and READY are for.
    expect(sorted(s["name"] for s in status(m)["syncs"]) == ["more", "web"], "the reload returned too early, or did nothing")
    expect(m.show("fansyncd", "ActiveState") == "active" and m.show("fansyncd", "MainPID") == before, "it was restarted")
    mirrored(m, "more", "after the reload")
    config(m, "/etc/fansyncd.conf", sync("web"), "{ nonsense = 1; }")
    done = m.inside("systemctl", "reload", "fansyncd", check=False)
    expect(done.returncode != 0, "a wrong configuration was taken")
    expect("nonsense" in m.journal("fansyncd"), "what is wrong is not told: " + m.journal("fansyncd"))
    expect(m.show("fansyncd", "ActiveState") == "active" and m.show("fansyncd", "MainPID") == before, "it did not go on")
    mirrored(m, "more", "after the wrong one")
    config(m, "/etc/fansyncd.conf", sync("web"), sync("more"))


def watchdog(_):
    """A loop that does not turn is ended and started again; one that turns is not."""
    m = MACHINE
    drop_in(m, "fansyncd.service", "[Service]\nWatchdogSec=1\nRestartSec=0\n")
    m.inside("systemctl", "restart", "fansyncd")
    before = m.show("fansyncd", "MainPID")
    first = m.show("fansyncd", "WatchdogTimestampMonotonic")
    await_fact(lambda: int(m.show("fansyncd", "WatchdogTimestampMonotonic")) >= int(first) + 1100000, 20, "it pets the watchdog")
    expect(m.show("fansyncd", "MainPID") == before and m.show("fansyncd", "NRestarts") == "0", "it was ended though it turns")
    m.inside("kill", "-STOP", before)
    await_fact(lambda: m.show("fansyncd", "MainPID") not in ("0", before) and m.show("fansyncd", "ActiveState") == "active", 30,
               "another one runs\n" + m.journal("fansyncd"))
    expect("watchdog" in m.text("journalctl", "-q", "--no-pager", "-o", "cat", check=False).lower(), "for another reason")
    mirrored(m, "web", "after the watchdog")
    no_drop_in(m, "fansyncd.service")


def read_only(_):
    """A target below /etc: told, and possible with the drop-in that the documentation names."""
    m = MACHINE
    m.inside("mkdir", "-p", "/srv/etc", "/etc/mirror")
    m.write("/srv/etc/file", "one")
    config(m, "/etc/fansyncd/etc.conf", sync("etc", "/etc/mirror"))
    start(m, "fansyncd@etc")
    await_fact(lambda: "Read-only file system" in m.text("fansyncd", "--status", "/etc/fansyncd/etc.conf"), 20, "the reason is told")
    stop(m, "fansyncd@etc")
    drop_in(m, "fansyncd@etc.service", "[Service]\nReadWritePaths=/etc/mirror\n")
    start(m, "fansyncd@etc")
    mirrored(m, "etc", "two", "/etc/mirror")
    stop(m, "fansyncd@etc")
    expect(m.inside("test", "-d", "/var/lib/fansyncd-etc").returncode == 0, "an instance has no state of its own")
    expect(m.text("ls", "/run/fansyncd") != "", "it took the runtime directory of another one along")


def rotated(_):
    """What logrotate runs after it has moved the log away."""
    m = MACHINE
    log = "/var/log/fansyncd/rot.log"
    m.inside("mkdir", "-p", "/srv/rot", "/mnt/rot", "/var/log/fansyncd")
    m.write("/etc/fansyncd/rot.conf", 'settings = { logfile = "%s"; };\nsync = ( %s );\n' % (log, sync("rot")))
    start(m, "fansyncd@rot")
    m.inside("mv", log, log + ".1")
    script = re.search(r"postrotate\n(.*?)endscript", m.text("cat", "/etc/logrotate.d/fansyncd"), re.S).group(1)
    m.inside("sh", "-e", "-c", script)
    await_fact(lambda: "log reopened" in m.text("cat", log, check=False), 20, "a new log\n" + m.text("cat", log + ".1"))
    mirrored(m, "rot", "it goes on")
    stop(m, "fansyncd@rot")


def nothing_configured(_):
    """The file as it is installed: the service ends, and is not tried again and again."""
    m = MACHINE
    m.inside("cp", "/etc/fansyncd.conf", "/tmp/kept.conf")
    stop(m, "fansyncd")
    with open(TOP + "/scripts/systemd/fansyncd.conf", encoding="utf-8") as f:
        m.write("/etc/fansyncd.conf", f.read())
    expect(m.inside("systemctl", "start", "fansyncd", check=False).returncode != 0, "it starts")
    expect(m.show("fansyncd", "SubState") == "failed" and m.show("fansyncd", "ExecMainStatus") == "6", "%s %s" % (
        m.show("fansyncd", "SubState"), m.show("fansyncd", "ExecMainStatus")))
    expect("neither a sync" in m.journal("fansyncd"), "why is not told")
    m.inside("rm", "/etc/fansyncd.conf")
    m.inside("systemctl", "reset-failed")
    start(m, "fansyncd")
    expect(m.show("fansyncd", "ConditionResult") == "no", "it starts without a configuration")
    m.inside("mv", "/tmp/kept.conf", "/etc/fansyncd.conf")
    start(m, "fansyncd")


def receiver_by_socket(_):
    m = MACHINE
    m.inside("mkdir", "-p", "/srv/sent", "/srv/module")
    m.inside("mkdir", "-p", "-m", "700", "/etc/fansyncd/keys")
    m.write("/etc/fansyncd/keys/web.key", "0123456789abcdef" * 4 + "\n", 0o600)
    m.write("/etc/fansyncd/receiver.conf", 'receiver = { keys = "/etc/fansyncd/keys"; modules = ( { name = "web"; '
            'path = "/srv/module"; allow = [ "web" ]; } ); };\n')
    config(m, "/etc/fansyncd/send.conf", '{ name = "send"; transport = "tcp"; source = "/srv/sent"; host = "127.0.0.1"; module = "web"; '
           'key = "/etc/fansyncd/keys/web.key"; watcher = "inotify"; rsync = { archive = true; }; }')
    start(m, "fansyncd-receiver.socket")
    expect(m.show("fansyncd-receiver.service", "ActiveState") == "inactive", "it runs before anybody called")
    m.write("/srv/sent/file", "over the socket")
    done = m.inside("fansyncd", "--sync-now", "/etc/fansyncd/send.conf", check=False)
    expect(done.returncode == 0, "%s\n%s" % (done.stderr.decode(), m.journal("fansyncd-receiver")))
    expect(m.text("cat", "/srv/module/file") == "over the socket", "the file")
    expect(m.show("fansyncd-receiver.service", "ActiveState") == "active", "it does not run")
    said = m.journal("fansyncd-receiver")
    expect("receiver: 127.0.0.1: web mirrors send to module web" in said and "::ffff:" not in said, "who sends: " + said)
    pid = m.show("fansyncd-receiver.service", "MainPID")
    links = m.text("nsenter", "-t", pid, "-n", "ip", "-o", "link")
    expect(len(links.split("\n")) == 1 and "lo" in links, "it has a network: " + links)
    facts = facts_of(m, "fansyncd-receiver")
    names = run("capsh", "--decode=" + facts["CapEff"]).stdout.decode().strip().split("=", 1)[1].split(",")
    expect("cap_sys_admin" not in names and "cap_dac_read_search" not in names, "capabilities: %s" % names)
    # The socket stays while the service is away: who calls then starts it.
    m.inside("systemctl", "stop", "fansyncd-receiver.service")
    m.write("/srv/sent/file", "another time")
    m.inside("fansyncd", "--sync-now", "/etc/fansyncd/send.conf")
    expect(m.text("cat", "/srv/module/file") == "another time", "the file")
    stop(m, "fansyncd-receiver.socket")
    stop(m, "fansyncd-receiver.service")


def credentials(_):
    """Keys that only the services get: of the receiver all that there are, of the sender one by its name."""
    m = MACHINE
    m.inside("sh", "-c", "rm -rf /srv/module/* /etc/fansyncd/keys/*; mkdir -p /root/secret")
    m.write("/root/secret/web.key", "fedcba9876543210" * 4 + "\n", 0o600)
    m.write("/etc/fansyncd/receiver.conf", 'receiver = { keys = "credential:"; modules = ( { name = "web"; '
            'path = "/srv/module"; allow = [ "web" ]; } ); };\n')
    config(m, "/etc/fansyncd/send.conf", '{ name = "send"; transport = "tcp"; source = "/srv/sent"; host = "127.0.0.1"; module = "web"; '
           'key = "credential:web.key"; watcher = "inotify"; rsync = { archive = true; }; }')
    for unit in ("fansyncd-receiver.service", "fansyncd@send.service"):
        drop_in(m, unit, "[Service]\nLoadCredential=web.key:/root/secret/web.key\n")
    done = m.inside("fansyncd", "--check", "/etc/fansyncd/send.conf")
    expect(b"LoadCredential" in done.stderr, "--check says nothing: %r" % done.stderr)
    start(m, "fansyncd-receiver.socket")
    m.write("/srv/sent/file", "with credentials")
    start(m, "fansyncd@send")
    await_fact(lambda: m.text("cat", "/srv/module/file", check=False) == "with credentials", 20, "the file\n%s\n%s" % (
        m.journal("fansyncd@send"), m.journal("fansyncd-receiver")))
    for unit in ("fansyncd@send", "fansyncd-receiver.socket", "fansyncd-receiver.service"):
        stop(m, unit)
    # Without the drop-in there is none.
    no_drop_in(m, "fansyncd@send.service")
    start(m, "fansyncd-receiver.socket")
    start(m, "fansyncd@send")
    await_fact(lambda: "credential:web.key" in m.text("fansyncd", "--status", "/etc/fansyncd/send.conf"), 20, "the reason is told")
    for unit in ("fansyncd@send", "fansyncd-receiver.socket", "fansyncd-receiver.service"):
        stop(m, unit)


def through_a_tunnel(_):
    """ssh as a tunnel's program runs inside the sandbox, is started again there, and goes with the unit."""
    m = MACHINE
    m.inside("mkdir", "-p", "/srv/tun", "/mnt/tun", "/run/sshd", "/root/tun/home")
    for name in ("host", "user"):
        m.inside("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/tun/" + name)
    m.write("/root/tun/known_hosts", "far " + m.text("cat", "/root/tun/host.pub") + "\n")
    m.write("/root/tun/sshd_config", "Port 2222\nListenAddress 127.0.0.1\nHostKey /root/tun/host\nAuthorizedKeysFile /root/tun/user.pub\nPidFile none\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nSetEnv HOME=/root/tun/home\n")
    m.write("/root/tun/rsyncd.conf", "use chroot = no\nuid = 0\ngid = 0\n[m]\npath = /mnt/tun\nread only = no\n")
    m.inside("systemd-run", "-q", "--unit=tun-sshd", "/usr/sbin/sshd", "-D", "-e", "-f", "/root/tun/sshd_config")
    m.inside("systemd-run", "-q", "--unit=tun-rsyncd", "rsync", "--daemon", "--no-detach", "--address=127.0.0.1", "--port=8730",
             "--config=/root/tun/rsyncd.conf")
    config(m, "/etc/fansyncd/tun.conf", sync("tun", "rsync://127.0.0.1:${port}/m", more='rsync = { archive = true; }; tunnel = { command = [ "ssh", '
           '"-N", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "HostKeyAlias=far", "-o", "UserKnownHostsFile=/root/tun/known_hosts",\n'
           '"-i", "/root/tun/user", "-p", "2222", "-L", "127.0.0.1:${port}:127.0.0.1:8730", "127.0.0.1" ]; };').replace("direct", "rsync"))
    start(m, "fansyncd@tun")

    def tunnel():
        return status(m, "/etc/fansyncd/tun.conf")["syncs"][0]["tunnel"]
    mirrored(m, "tun", "through ssh", "/mnt/tun")
    first = tunnel()
    text = dict(re.findall(r"^(\w+):\s*(.*)$", m.text("cat", "/proc/%d/status" % first["pid"]), re.M))
    expect(int(text["CapEff"], 16) >> 21 & 1 == 0 and text["NoNewPrivs"] == "1" and text["Seccomp"] == "2", "the sandbox: %s" % text)
    m.inside("kill", "-KILL", str(first["pid"]))
    mirrored(m, "tun", "through another", "/mnt/tun")
    second = tunnel()
    expect(second["starts"] == 2 and second["port"] == first["port"] and second["pid"] != first["pid"], "%s, then %s" % (first, second))
    stop(m, "fansyncd@tun")
    expect(m.inside("test", "-e", "/proc/%d" % second["pid"], check=False).returncode != 0, "ssh is left")
    for unit in ("tun-sshd", "tun-rsyncd"):
        stop(m, unit)


def a_tunnel_of_another_account(_):
    """It can't be had in the sandbox, which says so, and can with the drop-in that docs/OPERATIONS.md names."""
    m = MACHINE
    m.inside("mkdir", "-p", "/srv/acc", "/mnt/acc")
    config(m, "/etc/fansyncd/acc.conf", sync("acc", more='tunnel = { command = [ "sleep", "1000" ]; readyDelay = 0.1; user = "nobody"; };'))
    start(m, "fansyncd@acc")

    def told():
        return status(m, "/etc/fansyncd/acc.conf")["syncs"][0]
    await_fact(lambda: "not permitted" in (told()["reason"] or ""), 20, "the reason: %s" % told())
    stop(m, "fansyncd@acc")
    drop_in(m, "fansyncd@acc.service", "[Service]\nCapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_KILL\n")
    start(m, "fansyncd@acc")
    mirrored(m, "acc", "behind nobody's tunnel")
    pid = told()["tunnel"]["pid"]
    text = dict(re.findall(r"^(\w+):\s*(.*)$", m.text("cat", "/proc/%d/status" % pid), re.M))
    expect(text["Uid"].split() == ["65534"] * 4 and int(text["CapEff"], 16) == 0, "whose it is: %s" % text)
    stop(m, "fansyncd@acc")
    expect(m.inside("test", "-e", "/proc/%d" % pid, check=False).returncode != 0, "it is left")
    no_drop_in(m, "fansyncd@acc.service")


def made_inaccessible(_):
    """What a drop-in hides below the source is empty to the service. That empties nothing on the target, not even at a first start."""
    m = MACHINE
    m.inside("mkdir", "-p", "/srv/i/hidden", "/mnt/i")
    m.write("/srv/i/hidden/file", "kept")
    config(m, "/etc/fansyncd/i.conf", sync("i"))
    start(m, "fansyncd@i")
    mirrored(m, "i", "one")
    m.inside("fansyncd", "--wait", "--timeout", "20", "/etc/fansyncd/i.conf")
    expect(m.text("cat", "/mnt/i/hidden/file") == "kept", "not mirrored")
    stop(m, "fansyncd@i")
    m.inside("rm", "-rf", "/var/lib/fansyncd-i")
    drop_in(m, "fansyncd@i.service", "[Service]\nInaccessiblePaths=/srv/i/hidden\n")
    start(m, "fansyncd@i")
    mirrored(m, "i", "two")
    m.inside("fansyncd", "--wait", "--timeout", "20", "/etc/fansyncd/i.conf", check=False)
    expect(m.text("cat", "/mnt/i/hidden/file", check=False) == "kept", "it was deleted\n" + m.journal("fansyncd@i"))
    expect("nothing is deleted at and below hidden" in m.journal("fansyncd@i"), m.journal("fansyncd@i"))
    stop(m, "fansyncd@i")


def sync_now(_):
    """The oneshot unit asks a running daemon; without one it does it itself. And its timer is a good one."""
    m = MACHINE
    m.inside("rm", "-f", "/mnt/web/file")
    m.inside("systemctl", "start", "fansyncd-sync-now")
    expect(m.inside("test", "-e", "/mnt/web/file", check=False).returncode == 0, "not compared")
    expect(m.inside("test", "-S", "/run/fansyncd.sock", check=False).returncode == 0, "the daemon's socket went with the unit")
    stop(m, "fansyncd")
    m.inside("rm", "-f", "/mnt/web/file")
    m.inside("systemctl", "start", "fansyncd-sync-now")
    expect(m.inside("test", "-e", "/mnt/web/file", check=False).returncode == 0, "not compared without a daemon")
    m.inside("rm", "-rf", "/mnt/web")
    done = m.inside("systemctl", "start", "fansyncd-sync-now", check=False)
    expect(done.returncode != 0 and "web" in m.journal("fansyncd-sync-now"), "a failure is not one: " + m.journal("fansyncd-sync-now"))
    m.inside("systemctl", "start", "fansyncd-sync-now.timer")
    expect(m.show("fansyncd-sync-now.timer", "SubState") == "waiting", "the timer does not wait")
    stop(m, "fansyncd-sync-now.timer")


def of_a_user(_):
    """systemd --user, of an ordinary user: inotify, no root, readiness and reload."""
    m = MACHINE
    uid = "65534"
    m.inside("install", "-d", "-o", uid, "-m", "700", "/run/u", "/srv/u", "/srv/u/s", "/srv/u/t", "/srv/u/.config", "/srv/u/.config/fansyncd")
    m.write("/srv/u/.config/fansyncd/mine.conf", 'sync = ( { name = "u"; transport = "direct"; source = "/srv/u/s"; target = "/srv/u/t"; } );\n')
    env = ["HOME=/srv/u", "XDG_RUNTIME_DIR=/run/u"]
    m.inside("systemd-run", "--uid=" + uid, "-p", "Delegate=yes", "--unit=user-manager", *sum([["-E", e] for e in env], []),
             "/lib/systemd/systemd", "--user", "--unit=basic.target")
    as_user = ["setpriv", "--reuid", uid, "--clear-groups", "env"] + env
    try:
        await_fact(lambda: m.inside(*as_user, "systemctl", "--user", "is-active", "-q", "basic.target", check=False).returncode == 0,
                   20, "the user's manager\n" + m.journal("user-manager"))
        done = m.inside(*as_user, "systemctl", "--user", "start", "fansyncd@mine", check=False)
        expect(done.returncode == 0, "%s\n%s" % (done.stderr.decode(), m.text("journalctl", "-q", "--no-pager", "-n", "20", check=False)))
        m.inside(*as_user, "sh", "-c", "echo mine >/srv/u/s/file")
        m.inside(*as_user, "fansyncd", "--wait", "--timeout", "20", "/srv/u/.config/fansyncd/mine.conf")
        expect(m.text("cat", "/srv/u/t/file") == "mine", "the file")
        m.inside(*as_user, "systemctl", "--user", "reload", "fansyncd@mine")
        s = json.loads(m.text(*as_user, "fansyncd", "--status", "--json", "/srv/u/.config/fansyncd/mine.conf"))
        expect(s["syncs"][0]["watcher"]["backend"] == "inotify", "watched by %s" % s["syncs"][0]["watcher"])
    finally:
        m.inside("systemctl", "stop", "user-manager", check=False)


if __name__ == "__main__":
    if possible():
        skip(possible())
    MACHINE = Machine(TESTDIR)
    try:
        MACHINE.start()
        install(MACHINE)
        main([watches_and_mirrors, a_group_reads_the_metrics, sandboxed, programs_do_not_regain, reload, watchdog, read_only, rotated, nothing_configured, receiver_by_socket,
              credentials, through_a_tunnel, a_tunnel_of_another_account, made_inaccessible, sync_now, of_a_user])
    finally:
        MACHINE.stop()
