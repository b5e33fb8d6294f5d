#!/usr/bin/env python3
"""The Debian package: built, looked at with lintian, installed, upgraded, removed and purged on a machine with a systemd of its own.

The program in it is the one that is built already; `make deb` compiles it with Debian's flags (tests/soak/package.sh does that, and
takes a clean system).

TIMEOUT: 400
"""
import glob
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import TESTDIR, await_fact, expect, main, run, skip
from machine import Machine, possible
from systemd import PLAIN, TOP, config, mirrored, program, start, sync

MACHINE, DEBS = None, {}
PURGED = ("/etc/fansyncd.conf", "/etc/logrotate.d/fansyncd", "/usr/bin/fansyncd", "/lib/systemd/system/fansyncd.service",
          "/var/lib/fansyncd", "/var/lib/fansyncd-two", "/var/log/fansyncd", "/var/log/fansyncd.log", "/usr/share/doc/fansyncd")


def build(version, older):
    """Of this tree; and the same as an older version, which an upgrade begins with."""
    out = os.path.join(TESTDIR, "deb")
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "BUILD", "SANITIZE")}
    run(TOP + "/scripts/package/build-deb.sh", version, out, cwd=TOP, env=dict(env, FANSYNCD_PREBUILT=os.path.dirname(program())))
    DEBS["new"], = glob.glob("%s/fansyncd_%s_*.deb" % (out, version))
    tree = os.path.join(TESTDIR, "older")
    run("dpkg-deb", "-R", DEBS["new"], tree)
    with open(tree + "/DEBIAN/control", encoding="utf-8") as f:
        text = f.read()
    with open(tree + "/DEBIAN/control", "w", encoding="utf-8") as f:
        f.write(text.replace("Version: %s\n" % version, "Version: %s\n" % older))
    DEBS["old"] = os.path.join(TESTDIR, "older.deb")
    run("dpkg-deb", "-Znone", "-b", tree, DEBS["old"])


def dpkg(*argv):
    return MACHINE.inside("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", *argv)


def put_in(name):
    with open(DEBS[name], "rb") as f:
        MACHINE.inside("dd", "of=/tmp/%s.deb" % name, "status=none", input=f.read())


def exists(path):
    return MACHINE.inside("test", "-e", path, check=False).returncode == 0


def lintian(_):
    build("1.0.0", "0.9.0")
    changes, = glob.glob(os.path.join(TESTDIR, "deb", "*.changes"))
    done = run("lintian", "--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", changes, check=False)
    expect(done.returncode == 0 and not done.stdout.strip(), "lintian: %s" % (done.stdout + done.stderr).decode())
    with open(TOP + "/scripts/deps.sh", encoding="utf-8") as f:
        wanted = [w for w in f.read().split("build='")[1].split("'")[0].split() if w.endswith("-dev") and w != "libc6-dev"]
    with open(glob.glob(TESTDIR + "/deb/fansyncd-1.0.0/debian/control")[0], encoding="utf-8") as f:
        control = f.read()
    for package in wanted:
        expect(" %s," % package in control, "Build-Depends lacks " + package)


def installed(_):
    put_in("old")
    put_in("new")
    dpkg("-i", "/tmp/old.deb")
    expect(MACHINE.text("dpkg-query", "-W", "-f", "${Version} ${db:Status-Status}", "fansyncd") == "0.9.0 installed", "its state")
    for unit in ("fansyncd.service", "fansyncd-receiver.socket", "fansyncd-sync-now.timer"):
        expect(MACHINE.text("systemctl", "is-enabled", unit, check=False) == "disabled", unit + " is enabled")
        expect(MACHINE.show(unit, "ActiveState") == "inactive", unit + " runs")
    for path, mode in (("/etc/fansyncd", "750"), ("/etc/fansyncd/keys", "700"), ("/var/log/fansyncd", "750")):
        expect(MACHINE.text("stat", "-c", "%a", path) == mode, path)
    expect(MACHINE.text("fansyncd", "--version").startswith("fansyncd "), "the program")
    expect("man8/fansyncd.8" in MACHINE.text("man", "-w", "8", "fansyncd"), "the page")


def upgraded(_):
    """What runs is restarted and goes on; what the administrator wrote stays; what does not run is not started."""
    m = MACHINE
    for d in ("/srv/web", "/mnt/web", "/srv/two", "/mnt/two"):
        m.inside("mkdir", "-p", d)
    config(m, "/etc/fansyncd.conf", sync("web"))
    config(m, "/etc/fansyncd/two.conf", sync("two"))
    m.inside("systemctl", "enable", "-q", "fansyncd", "fansyncd@two")
    start(m, "fansyncd")
    start(m, "fansyncd@two")
    mirrored(m, "web", "before")
    before = [m.show(u, "MainPID") for u in ("fansyncd", "fansyncd@two")]
    mine = m.text("cat", "/etc/fansyncd.conf")
    dpkg("-i", "/tmp/new.deb")
    expect(m.text("dpkg-query", "-W", "-f", "${Version}", "fansyncd") == "1.0.0", "the version")
    after = [m.show(u, "MainPID") for u in ("fansyncd", "fansyncd@two")]
    expect("0" not in after and not set(before) & set(after), "restarted: %s, %s" % (before, after))
    expect(m.text("cat", "/etc/fansyncd.conf") == mine, "the configuration was overwritten")
    mirrored(m, "web", "after")
    mirrored(m, "two", "after", "/mnt/two")
    expect(m.show("fansyncd-sync-now.timer", "ActiveState") == "inactive", "the timer was started")
    # One that is stopped stays so.
    m.inside("systemctl", "stop", "fansyncd@two")
    m.inside("systemctl", "disable", "-q", "fansyncd@two")
    dpkg("-i", "/tmp/old.deb")
    expect(m.show("fansyncd@two", "ActiveState") == "inactive", "what was stopped runs")
    expect(m.show("fansyncd", "ActiveState") == "active", "what ran is stopped")
    start(m, "fansyncd@two")


def removed(_):
    m = MACHINE
    pids = [m.show(u, "MainPID") for u in ("fansyncd", "fansyncd@two")]
    dpkg("-r", "fansyncd")
    for pid in pids:
        await_fact(lambda p=pid: not exists("/proc/" + p), 20, "it is stopped")
    expect(not exists("/usr/bin/fansyncd") and not exists("/lib/systemd/system/fansyncd.service"), "files are left")
    expect(exists("/etc/fansyncd.conf") and exists("/etc/fansyncd/two.conf") and exists("/var/lib/fansyncd"), "too much is gone")


def purged(_):
    m = MACHINE
    m.inside("touch", "/var/log/fansyncd.log", "/var/log/fansyncd.log.1")
    dpkg("-P", "fansyncd")
    left = [p for p in PURGED if exists(p)]
    expect(not left, "left: %s" % left)
    expect(exists("/etc/fansyncd/two.conf"), "a configuration that somebody wrote is gone")
    expect(m.text("find", "/etc/systemd/system", "-name", "fansyncd*.service", check=False) == "", "a unit is still enabled")
    expect(m.inside("dpkg-query", "-W", "fansyncd", check=False).returncode != 0, "dpkg knows it")
    # Nothing of it is in the way of the next.
    dpkg("-i", "/tmp/new.deb")
    expect(m.text("cat", "/etc/fansyncd.conf").startswith("# /etc/fansyncd.conf"), "no configuration")
    m.inside("rm", "/etc/fansyncd/two.conf")
    dpkg("-P", "fansyncd")
    expect(not exists("/etc/fansyncd"), "an empty directory is left")


if __name__ == "__main__":
    if possible():
        skip(possible())
    for tool in ("dpkg-buildpackage", "dh", "lintian"):
        if not shutil.which(tool):
            skip("no " + tool)
    expect(os.path.isabs(PLAIN), PLAIN)
    MACHINE = Machine(TESTDIR)
    try:
        MACHINE.start()
        # dpkg would have man-db look at all pages of the system; and images of containers forbid that services start.
        MACHINE.inside("rm", "-f", "/var/lib/man-db/auto-update", "/usr/sbin/policy-rc.d")
        main([lintian, installed, upgraded, removed, purged])
    finally:
        MACHINE.stop()
