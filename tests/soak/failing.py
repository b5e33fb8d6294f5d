#!/usr/bin/env python3
"""Each call that daemon, worker, receiver and rsync make fails at a random moment: tests/lib/failing.py says with what, and what must hold.

    tests/soak/failing.py [TRANSPORT...]     # TRIALS=300 of each, SEED=1, WATCHER=inotify; FANSYNCD=build/fansyncd
"""
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import fansync
from failing import TRANSPORTS, sweep

top = fansync.TESTDIR = tempfile.mkdtemp(prefix="fansyncd-soak.")
watcher, seed, failed = os.environ.get("WATCHER", "inotify"), int(os.environ.get("SEED", "1")), 0
for transport in sys.argv[1:] or TRANSPORTS:
    place = os.path.join(top, transport)
    try:
        hits = sweep(place, transport, watcher, int(os.environ.get("TRIALS", "300")), seed)
        print("ok %s: %d calls failed: %s" % (transport, sum(hits.values()), " ".join("%s %d" % h for h in sorted(hits.items()))), flush=True)
    except fansync.Failure as e:
        failed = 1
        print("not ok %s, seed %d\n# %s" % (transport, seed, str(e).replace("\n", "\n# ")), flush=True)
if not failed:
    shutil.rmtree(top)
sys.exit(failed)
