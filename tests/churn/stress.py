#!/usr/bin/env python3
"""stress-ng's file-system stressors as operations: stress.py [--seconds S] [--seed N] [WATCHER/TRANSPORT/STRESSOR...]

Each stressor twice, by every transport: killed (SIGKILL, all of it) in the middle of its work, so that what it made stays; and to its
end, where it removes what it made. The judge compares each time once all is quiet, and after the last one by a comparison. As root.
Without names all stressors that this stress-ng has, by fanotify; a part of a name may be `*`.
"""
import argparse
import fnmatch
import os
import re
import select
import shutil
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib")]
import judge
import matrix
from fansync import TESTDIR, Failure, await_fact, own_file_system, run

# Stressor: its options. Those that would fill a disk, or make what takes minutes to compare, are bounded.
STRESSORS = {
    "access": (), "acl": (), "aio": (), "chdir": ("--chdir-dirs", "256"), "chmod": (), "chown": (),
    "copy-file": ("--copy-file-bytes", "8M"), "dentry": ("--dentries", "512"), "dir": ("--dir-dirs", "512"),
    "dirdeep": ("--dirdeep-inodes", "4096"), "dirmany": (), "dup": (), "fallocate": ("--fallocate-bytes", "16M"), "fcntl": (),
    "fiemap": ("--fiemap-bytes", "8M"), "file-ioctl": (), "filename": (), "flock": (), "fpunch": (), "fsize": (), "fstat": (),
    "getdent": (), "handle": (), "hdd": ("--hdd-bytes", "16M"), "inode-flags": (), "io": (), "iomix": ("--iomix-bytes", "8M"), "lease": (),
    "link": (), "locka": (), "lockf": (), "lockofd": (), "metamix": ("--metamix-bytes", "2M"), "mknod": (),
    "mmap": ("--mmap-file", "--mmap-bytes", "8M"), "msync": ("--msync-bytes", "8M"), "open": (), "readahead": ("--readahead-bytes", "8M"),
    "rename": (), "revio": ("--revio-bytes", "8M"), "seal": (), "seek": ("--seek-size", "8M"), "sendfile": (), "splice": (),
    "symlink": (), "sync-file": ("--sync-file-bytes", "8M"), "tee": (), "touch": (), "unlink": (), "utime": (), "verity": (), "xattr": (),
}
# What no kernel reports (README, limits), so that only a comparison can find it; and what a transport can't carry.
UNREPORTED = {
    "utime": "a file's mtime alone", "chmod": "a directory's mode by fchmod, and times alone", "mmap": "writes through a mapping",
    "msync": "writes through a mapping", "copy-file": "a copy that is killed before its close",
}
# Paths of PATH_MAX; of a file more than 122,880 bytes of extended attributes (docs/PROTOCOL.md).
BESIDE = {"rsync": ("dirdeep",), "sftp": ("dirdeep", "mknod"), "tcp": ("xattr",)}
MOST = 180  # seconds that a stressor may take beyond its own


def session(sid):
    """Pids of a session: stress-ng's processes make groups of their own."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid, errors="replace") as f:
                fields = f.read().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == sid and fields[0] != "Z":
            found.append(int(pid))
    return found


def kill_all(stress):
    """One that is just being made is found by the next look."""
    while True:
        pids = session(stress.pid)
        if not pids:
            stress.wait()
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        stress.poll()


def ended_within(pid, seconds):
    fd = os.pidfd_open(pid)
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


def started(place, source, name, seconds, seed, output):
    return subprocess.Popen(
        ["stress-ng", "--" + name, "2", "--timeout", "%ds" % seconds, "--temp-path", source, "--seed", str(seed), "--oomable", "--quiet",
         "--no-oom-adjust"] + list(STRESSORS[name]), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd=place)


def stress(cell, place, name, seconds, seed):
    """Both runs of one stressor."""
    what = "%s seed %d" % (name, seed)
    with open(os.path.join(place, "stress-ng.out"), "ab") as output:
        killed = started(place, cell.source, name, seconds + MOST, seed, output)
        try:
            ended_within(killed.pid, seconds)
        finally:
            kill_all(killed)
        settled(cell, name, what + ", killed")
        whole = started(place, cell.source, name, seconds, seed + 1, output)
        try:
            if not ended_within(whole.pid, seconds + MOST):
                raise Failure("stress-ng --%s does not end" % name)
        finally:
            kill_all(whole)
    settled(cell, name, what + ", to its end")
    # What the killed one left goes as well: it would be compared again and again.
    for left in os.listdir(cell.source):
        if left.startswith("tmp-stress-ng"):
            shutil.rmtree(os.path.join(cell.source, left))
    settled(cell, name, what + ", removed")


def idle(cell):
    sync = cell.daemon.sync("churn")
    return sync["pending"] == 0 and sync["in_flight"] == 0


def settled(cell, name, what):
    """Names of files that have further ones outside are looked at once more, which no barrier waits for."""
    cell.settle(300)
    await_fact(lambda: idle(cell), 100, "nothing is under way")
    if name in UNREPORTED:
        cell.daemon.client("--sync-now", timeout=600)
    cell.expect(judge.compare(cell.source, cell.target, cell.wanted("hard_links")), what)


def known():
    """Those that this stress-ng has."""
    return set(run("stress-ng", "--stressors").stdout.decode().split())


def chosen(patterns):
    """(watcher, transport): names of stressors."""
    cells = {}
    have = known()
    for watcher in matrix.WATCHERS:
        for transport in matrix.TRANSPORTS:
            for name in STRESSORS:
                cell = "%s/%s/%s" % (watcher, transport, name)
                wanted = any(fnmatch.fnmatch(cell, p) for p in patterns) if patterns else watcher == "fanotify"
                if wanted and name in have and name not in BESIDE.get(matrix.kind_of(transport), ()):
                    cells.setdefault((watcher, transport), []).append(name)
    return cells


def all_of(watcher, transport, names, seconds, seed):
    """A line for each stressor. Returns whether all went well."""
    place = os.path.join(TESTDIR, "%s-%s" % (watcher, transport))
    well = True
    source, target = place + "/fs/source", place + "/fs/target"
    for d in (source, target):
        os.makedirs(d)
    with open(source + "/stays", "w", encoding="utf-8") as f:
        f.write("so that the source is never empty")
    with matrix.Cell(place, watcher, transport, source, target, more="maxDelete = 10000000;") as cell:
        for name in names:
            try:
                stress(cell, place, name, seconds, seed)
                print("ok %s/%s/%s" % (watcher, transport, name), flush=True)
            except (Failure, OSError, subprocess.TimeoutExpired) as e:
                well = False
                print("not ok %s/%s/%s" % (watcher, transport, name))
                print("# " + "\n# ".join(("%s: %s" % (type(e).__name__, e)).split("\n")), flush=True)
        try:
            cell.expect_equal("in the end")
            counters = cell.daemon.sync("churn")["counters"]
            print("# %s %s: %s" % (watcher, transport, re.sub(r"[{}']", "", str({k: v for k, v in counters.items() if v}))), flush=True)
        except Failure as e:
            well = False
            print("not ok %s/%s/in-the-end\n# %s" % (watcher, transport, "\n# ".join(str(e).split("\n"))), flush=True)
    return well


def main():
    a = argparse.ArgumentParser(description="stress-ng's file-system stressors as operations")
    a.add_argument("--seconds", type=float, default=4, help="of each stressor, twice")
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("cells", nargs="*", metavar="WATCHER/TRANSPORT/STRESSOR")
    args = a.parse_args()
    if not shutil.which("stress-ng"):
        print("skip: there is no stress-ng (scripts/deps.sh soak)")
        sys.exit(77)
    if not own_file_system():
        print("skip: it mounts file systems: only root may")
        sys.exit(77)
    well = True
    for (watcher, transport), names in chosen(args.cells).items():
        well = all_of(watcher, transport, names, args.seconds, args.seed) and well
    sys.exit(not well)


if __name__ == "__main__":
    main()
