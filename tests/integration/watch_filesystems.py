#!/usr/bin/env python3
# NEEDS: tests/lib/watch_tool
"""fanotify on real file systems: ext4, xfs, btrfs (top level and subvolume), tmpfs, a bind mount; overlayfs falls back;
mounts that come and go below a source; roots that go away."""
import os
import re
import shutil
import subprocess
import sys

DIR = os.environ.get("TESTDIR") or sys.exit("TESTDIR is not set")
TOOL = os.path.join(os.path.dirname(os.environ.get("FANSYNCD", "build/asan/fansyncd")), "tests/lib/watch_tool")
mounted = []
failures = []


def run(*argv):
    p = subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if p.returncode != 0:
        print(p.stdout)
        p.check_returncode()
    return p


class Watch:
    def __init__(self, *args):
        self.p = subprocess.Popen([TOOL, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.start = self.answer()

    def answer(self):
        lines = []
        for line in self.p.stdout:
            if line == "done\n":
                return lines
            lines.append(tuple(line.rstrip("\n").split("\t")))
        raise SystemExit("watch_tool ended early: %r" % (lines,))

    def ask(self, what):
        self.p.stdin.write(what + "\n")
        self.p.stdin.flush()
        return self.answer()

    def drain(self):
        return [r[1:] for r in self.ask("drain")]

    def end(self):
        self.p.stdin.close()
        if self.p.wait() not in (0, 1):
            failures.append("watch_tool: status %d" % self.p.returncode)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def check(what, ok, detail=""):
    print("%s %s%s" % ("ok" if ok else "not ok", what.replace(" ", "_"), "" if ok else " " + str(detail)), flush=True)
    if not ok:
        failures.append(what)


def mount(point, *args):
    os.makedirs(point, exist_ok=True)
    run("mount", *args, point)
    mounted.append(point)
    return point


def umount(point, *args):
    run("umount", *args, point)
    mounted.remove(point)


def image(kind, megabytes):
    path = os.path.join(DIR, kind + ".img")
    with open(path, "wb") as f:
        f.truncate(megabytes << 20)
    run("mkfs." + kind, "-q", path)
    return mount(os.path.join(DIR, kind), "-o", "loop", path)


def write(path, text="x"):
    with open(path, "w", encoding="ascii") as f:
        f.write(text)


def has(records, kind, path, old="", flags=""):
    return any(r[0] == kind and r[1] == path and (not old or r[2] == old) and flags in r[3] for r in records)


def exercise(name, src, outside, backend="fanotify", paired=True):
    """The same on each of them. `paired`: the kernel tells both names of a rename at once."""
    os.makedirs(os.path.join(src, "d/e"))
    os.makedirs(os.path.join(outside, "o/p/q"), exist_ok=True)
    write(os.path.join(outside, "o/p/f"))
    with Watch(backend, *([] if paired else ["-r"]), src) as w:
        check(name + " backend", w.start[0][1:3] == ("INFO", backend), w.start)
        write(os.path.join(src, "d/e/f"))
        r = w.drain()
        check(name + " create", has(r, "CREATE", "d/e/f") and has(r, "TOUCH", "d/e/f"), r)
        # What is busy outside, known to be nobody's, and comes in later.
        for _ in range(3):
            for path in ("o/noise", "o/p/f", "o/p/q/f"):
                write(os.path.join(outside, path))
            r = w.drain()
            check(name + " outside", r == [], r)
        os.rename(os.path.join(outside, "o/p"), os.path.join(outside, "o/moved"))
        write(os.path.join(outside, "o/moved/q/f"))
        os.rename(os.path.join(outside, "o/moved"), os.path.join(outside, "o/p"))
        check(name + " moved outside", w.drain() == [])
        os.rename(os.path.join(src, "d"), os.path.join(src, "g"))
        r = w.drain()
        check(name + " rename", has(r, "RENAME", "g", "d", "exact") and len(r) == 1 if paired else
              has(r, "DELETE", "d", flags="dir") and has(r, "RECONCILE", "g") and len(r) == 2, r)
        os.chmod(os.path.join(src, "g/e"), 0o700)
        write(os.path.join(src, "g/e/f"), "y")
        r = w.drain()
        check(name + " below it", has(r, "TOUCH", "g/e", flags="dir") and has(r, "TOUCH", "g/e/f"), r)
        os.rename(os.path.join(outside, "o"), os.path.join(src, "g/o"))
        r = w.drain()
        check(name + " moved in", has(r, "RECONCILE", "g/o"), r)
        write(os.path.join(src, "g/o/p/f"), "y")
        write(os.path.join(src, "g/o/p/q/f"), "y")
        r = w.drain()
        check(name + " below what moved in", has(r, "TOUCH", "g/o/p/f") and has(r, "TOUCH", "g/o/p/q/f") and
              not has(r, "RECONCILE", ""), r)
        os.rename(os.path.join(src, "g/o"), os.path.join(outside, "o"))
        write(os.path.join(outside, "o/p/f"), "z")
        r = w.drain()
        check(name + " moved out", has(r, "DELETE", "g/o", flags="dir") and len(r) == 1, r)
        os.mkdir(os.path.join(src, "many"))
        for i in range(300):
            os.makedirs(os.path.join(src, "many/%d/x" % i))
            write(os.path.join(src, "many/%d/x/f" % i))
        w.drain()
        shutil.rmtree(os.path.join(src, "many"))
        r = w.drain()
        check(name + " rm -r", has(r, "DELETE", "many", flags="dir") and
              all(has(r, "DELETE", "many/%d" % i) for i in range(300)), r[:5])
        shutil.rmtree(os.path.join(src, "g"))
        w.drain()
    shutil.rmtree(os.path.join(outside, "o"))


def modify(src):
    """FAN_MODIFY costs every writer of the file system: only while somebody wants it."""
    for flags, wanted in (([], False), (["-m"], True)):
        with Watch("fanotify", *flags, src) as w:
            masks = []
            for fd in os.listdir("/proc/%d/fdinfo" % w.p.pid):
                with open("/proc/%d/fdinfo/%s" % (w.p.pid, fd), encoding="ascii") as f:
                    masks += re.findall(r"^fanotify sdev.* mask:([0-9a-f]+)", f.read(), re.M)
            check("FAN_MODIFY %s" % wanted, len(masks) == 1 and bool(int(masks[0], 16) & 2) == wanted, masks)
            with open(os.path.join(src, "open"), "w", encoding="ascii") as f:
                w.drain()
                f.write("x")
                f.flush()
                r = w.drain()
                check("MODIFY %s" % wanted, has(r, "MODIFY", "open") == wanted, r)
    os.unlink(os.path.join(src, "open"))


def alias(top, point):
    """`point` shows top/bound: what has the same name further up is another file."""
    write(point + "/same")
    with Watch("fanotify", point) as w:
        write(top + "/same")
        os.makedirs(top + "/dir")
        write(top + "/dir/f")
        r = w.drain()
        check("bind mount: above it", r == [], r)
        write(top + "/bound/same", "y")
        r = w.drain()
        check("bind mount: by the other way", [x[:2] for x in r] == [("TOUCH", "same")], r)
        os.rename(top + "/dir", top + "/bound/dir")
        r = w.drain()
        check("bind mount: moved in", has(r, "RECONCILE", "dir") and len(r) == 1, r)
        write(top + "/bound/dir/f", "y")
        r = w.drain()
        check("bind mount: below what moved in", has(r, "TOUCH", "dir/f"), r)
    shutil.rmtree(point + "/dir")


def mounts_below(src):
    below = os.path.join(src, "x y/below")
    os.makedirs(below)
    with Watch("fanotify", src) as w, Watch("fanotify", "-x", src) as one:
        mount(below, "-t", "tmpfs", "none")
        r = w.drain()
        check("mounted", has(r, "RECONCILE", "x y/below", flags="mounted"), r)
        os.mkdir(below + "/d")
        write(below + "/d/f")
        r = w.drain()
        check("below the mount", has(r, "TOUCH", "x y/below/d/f"), r)
        os.rename(os.path.join(src, "x y"), os.path.join(src, "z"))
        mounted[mounted.index(below)] = below = os.path.join(src, "z/below")
        os.mkdir(below + "/n")
        write(below + "/n/f")
        write(below + "/d/f")
        r = w.drain()
        check("a new one below it", has(r, "TOUCH", "z/below/n/f"), r)
        check("below the mount after a rename", has(r, "RENAME", "z", "x y") and has(r, "TOUCH", "z/below/d/f"), r)
        os.rename(os.path.join(src, "z"), os.path.join(src, "y"))
        mounted[mounted.index(below)] = below = os.path.join(src, "y/below")
        umount(below)
        r = w.drain()
        check("unmounted", has(r, "RECONCILE", "y/below", flags="unmounted"), r)
        r = one.drain()
        check("one file system", has(r, "RENAME", "z", "x y") and not any("below" in x[1] for x in r), r)
    shutil.rmtree(os.path.join(src, "y"))


def unwatchable_below(src, base):
    """A mount that fanotify can't watch is news once, whatever else is mounted."""
    below = os.path.join(src, "below")
    for p in (below, base + "/low", base + "/up1", base + "/work1"):
        os.makedirs(p)
    with Watch("fanotify", src) as w:
        mount(below, "-t", "overlay", "overlay", "-o", "lowerdir={0}/low,upperdir={0}/up1,workdir={0}/work1".format(base))
        r = w.drain()
        check("unwatchable mount", has(r, "RECONCILE", "below", flags="mounted") and has(r, "STATE", "PARTIAL"), r)
        point = mount(base + "/another", "-t", "tmpfs", "none")
        r = w.drain()
        umount(point)
        r += w.drain()
        check("another mount is no news of it", r == [], r)
        umount(below)
        r = w.drain()
        check("unwatchable mount gone", has(r, "RECONCILE", "below", flags="unmounted") and has(r, "STATE", "OK"), r)
    os.rmdir(below)


def roots(base):
    src = os.path.join(base, "up/root")
    os.makedirs(src)
    with Watch("fanotify", src) as w:
        os.rename(os.path.join(base, "up"), os.path.join(base, "up2"))
        r = w.drain()
        check("an ancestor renamed", ("STATE", "GONE") == r[-1][:2], r)
        write(os.path.join(base, "up2/root/f"))
        check("gone says nothing", w.drain() == [])
        os.rename(os.path.join(base, "up2"), os.path.join(base, "up"))
        r = w.drain()
        check("back again", has(r, "STATE", "OK") and has(r, "RECONCILE", ""), r)
        write(src + "/f")
        r = w.drain()
        check("and heard", has(r, "TOUCH", "f"), r)
        os.unlink(src + "/f")
        os.rmdir(src)
        os.mkdir(src)
        r = w.drain()
        check("replaced", has(r, "STATE", "GONE"), r)
    point = mount(os.path.join(base, "lazy"), "-t", "tmpfs", "none")
    with Watch("fanotify", point) as w:
        umount(point, "-l")
        r = w.drain()
        check("root unmounted", has(r, "STATE", "GONE"), r)


def overlay(base):
    for d in ("lower", "upper", "work"):
        os.makedirs(os.path.join(base, d))
    for i in range(600):
        os.mkdir(os.path.join(base, "lower/%d" % i))
    src = mount(os.path.join(DIR, "overlay"), "-t", "overlay", "overlay", "-o",
                "lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work".format(base))
    with Watch("fanotify", src) as w:
        check("overlayfs refused", w.start[0][1] == "REFUSED" and "fanotify" in w.start[0][2], w.start)
    with Watch("auto", src) as w:
        check("overlayfs falls back", w.start[0][2] == "inotify" and "refused" in w.start[0][3], w.start)
        write(src + "/5/f")
        r = w.drain()
        check("overlayfs is watched", has(r, "TOUCH", "5/f"), r)
    umount(src)


def subvolumes(src, backend):
    """Subvolumes below the source: one that is there, one that is made, a snapshot with its content, and their end."""
    run("btrfs", "subvolume", "create", src + "/old")
    os.mkdir(src + "/old/d")
    with Watch(backend, src) as w:
        write(src + "/old/d/f")
        r = w.drain()
        check(backend + " in a subvolume", has(r, "TOUCH", "old/d/f") and not has(r, "RECONCILE", ""), r)
        run("btrfs", "subvolume", "create", src + "/new")
        write(src + "/new/f")
        r = w.drain()
        check(backend + " in a new subvolume", has(r, "TOUCH", "new/f") or has(r, "RECONCILE", "new"), r)
        write(src + "/new/f", "y")
        r = w.drain()
        check(backend + " again in it", has(r, "TOUCH", "new/f"), r)
        run("btrfs", "subvolume", "snapshot", src + "/old", src + "/snap")
        r = w.drain()
        check(backend + " snapshot", has(r, "RECONCILE", "snap") or has(r, "CREATE", "snap/d/f"), r)
        write(src + "/snap/d/f", "y")
        r = w.drain()
        check(backend + " in the snapshot", has(r, "TOUCH", "snap/d/f"), r)
        os.rename(src + "/snap", src + "/snap2")
        write(src + "/snap2/d/f", "z")
        r = w.drain()
        check(backend + " snapshot renamed", has(r, "RENAME", "snap2", "snap") and has(r, "TOUCH", "snap2/d/f"), r)
        for name in ("old", "new", "snap2"):
            run("btrfs", "subvolume", "delete", src + "/" + name)
        r = w.drain()
        check(backend + " subvolumes deleted", all(has(r, "DELETE", n) for n in ("old", "new", "snap2")), r)


def btrfs():
    top = image("btrfs", 256)
    os.mkdir(top + "/src")
    exercise("btrfs", top + "/src", top)
    exercise("btrfs by inotify", top + "/src", top, "inotify")
    subvolumes(top + "/src", "fanotify")
    subvolumes(top + "/src", "inotify")
    shutil.rmtree(top + "/src")
    run("btrfs", "subvolume", "create", top + "/sub")
    device = run("losetup", "-j", os.path.join(DIR, "btrfs.img"), "-O", "NAME", "-n").stdout.split()[0]
    sub = mount(os.path.join(DIR, "sub"), "-o", "subvol=sub", device)
    os.mkdir(sub + "/src")
    exercise("btrfs subvolume", sub + "/src", sub)
    subvolumes(sub + "/src", "fanotify")
    umount(sub)


def main():
    shm = mount(os.path.join(DIR, "tmpfs"), "-t", "tmpfs", "none")
    os.mkdir(shm + "/src")
    exercise("tmpfs", shm + "/src", shm)
    exercise("tmpfs without FAN_RENAME", shm + "/src", shm, paired=False)
    exercise("tmpfs by inotify", shm + "/src", shm, "inotify")
    modify(shm + "/src")
    mounts_below(shm + "/src")
    unwatchable_below(shm + "/src", shm)
    roots(shm)
    overlay(shm)
    for kind, size in (("ext4", 64), ("xfs", 320)):
        top = image(kind, size)
        os.mkdir(top + "/src")
        exercise(kind, top + "/src", top)
        if kind == "ext4":
            os.mkdir(top + "/bound")
            point = mount(os.path.join(DIR, "bind"), "--bind", top + "/bound")
            os.mkdir(point + "/src")
            exercise("bind mount", point + "/src", point)
            alias(top, point)
    btrfs()


if os.geteuid() != 0 or not shutil.which("mkfs.ext4") or not shutil.which("mkfs.xfs") or not shutil.which("mkfs.btrfs"):
    print("needs root, mkfs.ext4, mkfs.xfs and mkfs.btrfs")
    sys.exit(77)
try:
    try:
        run("mount", "-t", "tmpfs", "none", DIR)
        run("umount", DIR)
    except subprocess.CalledProcessError as e:
        print("cannot mount here: " + e.stdout.strip())
        sys.exit(77)
    main()
finally:
    for m in reversed(mounted):
        subprocess.run(["umount", "-l", m], check=False)
print("%d failures" % len(failures))
sys.exit(1 if failures else 0)
