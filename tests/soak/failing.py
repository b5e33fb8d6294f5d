#!/usr/bin/env python3
"""Each call that daemon, worker, receiver and rsync make fails at a random moment: tests/lib/failing.py says with what, and what must hold.

    tests/soak/failing.py [WATCHER/TRANSPORT...]    # a part may be *; TRIALS=300 of each, SEED=1; FANSYNCD=build/fansyncd

As root in a file system of its own, or by inotify alone. The logs of one that fails are kept.
"""
import fnmatch
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import fansync
from failing import TRANSPORTS, sweep

top = tempfile.mkdtemp(prefix="fansyncd-soak.")
os.chmod(top, 0o755)
fansync.TESTDIR = os.path.join(top, "mounted")
os.mkdir(fansync.TESTDIR)
seed, failed = int(os.environ.get("SEED", "1")), 0
cells = ["%s/%s" % (w, t) for w in ("fanotify", "inotify") for t in TRANSPORTS]
wanted = [c for c in cells if not sys.argv[1:] or any(fnmatch.fnmatch(c, p) for p in sys.argv[1:])]
if not wanted:
    sys.exit("failing.py: there are %s" % " ".join(cells))
root = fansync.own_file_system()
for cell in wanted:
    watcher, transport = cell.split("/")
    place = os.path.join(fansync.TESTDIR, cell.replace("/", "-"))
    if watcher == "fanotify" and not root:
        print("skip %s: only root may" % cell, flush=True)
        continue
    try:
        hits = sweep(place, transport, watcher, int(os.environ.get("TRIALS", "300")), seed)
        print("ok %s: %d calls failed: %s" % (cell, sum(hits.values()), " ".join("%s %d" % h for h in sorted(hits.items()))), flush=True)
        shutil.rmtree(place)
    except Exception as e:
        failed = 1
        print("not ok %s, seed %d\n# %s" % (cell, seed, ("%s: %s" % (type(e).__name__, e)).replace("\n", "\n# ")), flush=True)
        for name in ("log", "output", "fansyncd.conf"):
            if os.path.exists(os.path.join(place, name)):
                shutil.copy(os.path.join(place, name), os.path.join(top, "%s-%s" % (os.path.basename(place), name)))
if root:
    fansync.run("umount", "-l", fansync.TESTDIR)
if not failed:
    shutil.rmtree(top)
sys.exit(failed)
