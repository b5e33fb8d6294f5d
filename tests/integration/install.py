#!/usr/bin/env python3
"""`make install` and `make uninstall`: what is put where, that it is used from there, and that it all goes. The systemd units:
what systemd-analyze has to say of them."""
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import BINARY, Skipped, expect, main, run

TOP = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
EXPOSURE_MAX = 3.0
FILES = """etc/fansyncd.conf
etc/logrotate.d/fansyncd
usr/bin/fansyncd
usr/bin/lsyncd2fansyncd
usr/lib/systemd/system/fansyncd-receiver.service
usr/lib/systemd/system/fansyncd-receiver.socket
usr/lib/systemd/system/fansyncd-sync-now.service
usr/lib/systemd/system/fansyncd-sync-now.timer
usr/lib/systemd/system/fansyncd-sync-now@.service
usr/lib/systemd/system/fansyncd-sync-now@.timer
usr/lib/systemd/system/fansyncd.service
usr/lib/systemd/system/fansyncd@.service
usr/lib/systemd/user/fansyncd@.service
usr/lib/tmpfiles.d/fansyncd.conf
usr/share/bash-completion/completions/fansyncd
usr/share/fish/vendor_completions.d/fansyncd.fish
usr/share/man/man1/lsyncd2fansyncd.1
usr/share/man/man5/fansyncd.conf.5
usr/share/man/man8/fansyncd.8
usr/share/zsh/site-functions/_fansyncd""".split("\n")


def make(goal, *words):
    """With the flags of the build that is there, so that nothing is compiled."""
    build = os.path.dirname(BINARY)
    sanitize = ["SANITIZE=address,undefined"] if os.path.basename(build) == "asan" else []
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "BUILD", "SANITIZE")}
    return run("make", "-s", "-C", TOP, "BUILD=" + os.path.relpath(build, TOP), "WERROR=1", *sanitize, goal, *words, env=env)


def files_below(root):
    return sorted(os.path.relpath(os.path.join(d, f), root) for d, _, names in os.walk(root) for f in names)


def installed(place, action="install"):
    """Below a place of its own, which is its prefix, so that units name a program that is there. Not by make: other places than
    the usual ones are compiled in."""
    usr = place + "/usr"
    places = {"DESTDIR": "", "BUILD": os.path.dirname(BINARY), "BINDIR": usr + "/bin", "MANDIR": usr + "/share/man",
              "UNITDIR": usr + "/lib/systemd/system", "USERUNITDIR": usr + "/lib/systemd/user", "SYSCONFDIR": place + "/etc",
              "TMPFILESDIR": usr + "/lib/tmpfiles.d", "BASHCOMPDIR": usr + "/share/bash", "ZSHCOMPDIR": usr + "/share/zsh",
              "FISHCOMPDIR": usr + "/share/fish", "DOCDIR": usr + "/share/doc/fansyncd"}
    run(TOP + "/scripts/install.sh", action, env=dict(os.environ, **places))


def links_lead_somewhere(root):
    """From each page that is installed to what is installed, and to a heading that is there."""
    found = 0
    for d, _, names in os.walk(root):
        for name in names:
            if not name.endswith(".md"):
                continue
            with open(os.path.join(d, name), encoding="utf-8") as f:
                text = re.sub(r"`[^`\n]*`", lambda m: m.group(0) if "](" not in m.group(0) else "", f.read())
            for link in re.findall(r"\]\(([^)\s]+)\)", text):
                if link.startswith(("http:", "https:")):
                    continue
                found += 1
                path, _, heading = link.partition("#")
                there = os.path.join(d, path) if path else os.path.join(d, name)
                expect(os.path.exists(there), "%s: %s leads nowhere" % (name, link))
                if heading:
                    with open(there, encoding="utf-8") as f:
                        headings = {re.sub(r"[^\w\s-]", "", h.lower()).strip().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", f.read(), re.M)}
                    expect(heading in headings, "%s: %s: no such heading" % (name, link))
    expect(found > 30, "%d links" % found)


def install(place):
    root = os.path.join(place, "root")
    words = ["DESTDIR=" + root, "PREFIX=/usr"]
    make("install", *words)
    found = [f for f in files_below(root) if not f.startswith("usr/share/doc/fansyncd/")]
    expect(found == FILES, "missing: %s; too many: %s" % (set(FILES) - set(found), set(found) - set(FILES)))
    for doc in ("README.md", "OPERATIONS.md", "examples/maxscale.conf", "examples/systemd/credentials.conf", "examples/monitoring/alerts.yml"):
        expect(os.path.exists(root + "/usr/share/doc/fansyncd/" + doc), doc)
    expect(os.access(root + "/usr/bin/fansyncd", os.X_OK), "the program can't be run")
    links_lead_somewhere(root + "/usr/share/doc/fansyncd")
    recipes = root + "/usr/share/doc/fansyncd/examples/recipes/"
    expect(sorted(os.listdir(recipes)) == sorted(os.listdir(TOP + "/docs/recipes")), "recipes: %s" % os.listdir(recipes))
    for name in os.listdir(recipes):
        expect(os.access(recipes + name, os.X_OK) == name.endswith((".sh", ".py")), "who runs " + name)
    for unit in FILES:
        if "/systemd/" in unit:
            with open(os.path.join(root, unit), encoding="utf-8") as f:
                text = f.read()
            expect("/usr/local" not in text and "@SANDBOX@" not in text, unit)
            if unit.endswith(".service"):
                expect("ExecStart=/usr/bin/fansyncd " in text and "NoNewPrivileges=yes" in text, unit)
    conf = root + "/etc/fansyncd.conf"
    with open(conf, "a", encoding="utf-8") as f:
        f.write("# mine\n")
    done = make("install", *words)
    with open(conf, encoding="utf-8") as f:
        expect(f.read().endswith("# mine\n") and b"kept" in done.stdout, "a configuration was overwritten")
    other = root + "/usr/share/zsh/site-functions/_other"
    with open(other, "w", encoding="utf-8"):
        pass
    make("uninstall", *words)
    expect(files_below(root) == ["etc/fansyncd.conf", "usr/share/zsh/site-functions/_other"], "left: %s" % files_below(root))
    expect(not os.path.exists(root + "/usr/share/doc/fansyncd"), "an empty directory was left")
    make("uninstall", *words)


def the_shipped_configuration(place):
    """Says that it is yet to be written, and nothing else that is wrong with it; its examples are good ones."""
    installed(place)
    conf = os.path.join(place, "etc/fansyncd.conf")
    done = run(BINARY, "--check", conf, check=False)
    expect(done.returncode == 255 and done.stderr.count(b"\n") == 1 and b"neither a sync" in done.stderr, "%r" % done.stderr)
    with open(conf, encoding="utf-8") as f:
        text = f.read()
    for d in ("srv", "backup"):
        os.makedirs(os.path.join(place, d), exist_ok=True)
    text = re.sub(r"^(\t+)# ((?:\t| ?[{}\w]).*)$", r"\1\2", text, flags=re.M).replace('"/srv/web"', '"%s/srv"' % place)
    text = text.replace('"/mnt/backup/web"', '"%s/backup"' % place).replace("/root/.ssh/id_ed25519", conf)
    text = "\n".join(line for line in text.split("\n") if not re.match(r"\t(A directory|Without a)", line))
    with open(conf, "w", encoding="utf-8") as f:
        f.write(text)
    done = run(BINARY, "--names", conf)
    expect(done.stdout == b"web\nweb-to-b\n", "its examples: %r %r" % (done.stdout, done.stderr))

def services(place, kind="system"):
    d = os.path.join(place, "usr/lib/systemd", kind)
    return [os.path.join(d, name) for name in sorted(os.listdir(d))]


def need_systemd():
    if not shutil.which("systemd-analyze"):
        raise Skipped("systemd is not installed")


def verify(place):
    need_systemd()
    installed(place)
    env = dict(os.environ, XDG_RUNTIME_DIR=place)
    units = [u.replace("@.", "@name.") for u in services(place)]
    for u in services(place):
        if "@." in u:  # an instance, so that what depends on its name is looked at too
            os.symlink(os.path.basename(u), u.replace("@.", "@name."))
    done = run("systemd-analyze", "verify", "--man=no", *units, check=False, env=env)
    said = [line for line in (done.stdout + done.stderr).decode().split("\n") if "fansyncd" in line]
    expect(done.returncode == 0 and not said, "systemd-analyze verify: %d %s" % (done.returncode, said))
    user = services(place, "user")[0]
    done = run("systemd-analyze", "--user", "verify", "--man=no", user, check=False, env=env)
    said = [line for line in (done.stdout + done.stderr).decode().split("\n") if "fansyncd" in line]
    expect(done.returncode == 0 and not said, "of a user: %d %s" % (done.returncode, said))
    # It looks closely: a word that it does not know is told.
    with open(units[-1], "a", encoding="utf-8") as f:
        f.write("[Service]\nNoSuchThing=yes\n")
    done = run("systemd-analyze", "verify", "--man=no", units[-1], check=False, env=env)
    expect(b"NoSuchThing" in done.stdout + done.stderr, "it does not look")


def exposure(place):
    need_systemd()
    version = int(re.match(r"systemd (\d+)", run("systemctl", "--version").stdout.decode()).group(1))
    if version < 250:
        raise Skipped("systemd %d has no systemd-analyze security --offline" % version)
    installed(place)
    with open(os.path.join(TOP, "docs", "OPERATIONS.md"), encoding="utf-8") as f:
        told = dict(re.findall(r"^\| `(fansyncd[\w@.-]*\.service)` \|.*\| (\d+\.\d) \|$", f.read(), re.M))
    for unit in services(place):
        name = os.path.basename(unit)
        if not name.endswith(".service"):
            continue
        done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", unit], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=False)
        m = re.search(r"exposure level for \S+: (\d+\.\d)", done.stdout.decode())
        expect(m, "systemd-analyze security %s: %r" % (name, done.stderr))
        expect(float(m.group(1)) <= EXPOSURE_MAX, "%s: exposure %s" % (name, m.group(1)))
        if version == 252:  # what counts differs from version to version
            expect(told.get(name) == m.group(1), "docs/OPERATIONS.md has %s for %s, and it is %s" % (told.get(name), name, m.group(1)))


main([install, the_shipped_configuration, verify, exposure])
