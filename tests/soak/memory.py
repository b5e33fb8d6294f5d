#!/usr/bin/env python3
# NEEDS: tests/lib/nomem_tool
"""The n-th allocation fails, of daemon, worker and receiver, at their start, in a batch, in a reload, in --check and in a session, for each n
or for TRIALS of them (300). tests/lib/nomem.py says what must hold. Needs an ASan build with its tests (make SANITIZE=address,undefined all tests).

    tests/soak/memory.py [CASE...]          # a part of a name may be *; SEED=1, FANSYNCD=build/asan/fansyncd
"""
import fnmatch
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import fansync
import nomem

if not os.path.exists(nomem.TOOL):
    print("skip: there is no %s" % nomem.TOOL)
    sys.exit(77)
top = fansync.TESTDIR = tempfile.mkdtemp(prefix="fansyncd-soak.")
seed, trials, failed = int(os.environ.get("SEED", "1")), int(os.environ.get("TRIALS", "300")), 0
for name, case in nomem.cases():
    if sys.argv[1:] and not any(fnmatch.fnmatch(name, p) for p in sys.argv[1:]):
        continue
    try:
        place = os.path.join(top, name.replace("/", "-"))
        with nomem.the_tool():
            print("ok %s: %s" % (name, case(place, trials, seed)), flush=True)
        shutil.rmtree(place)
    except Exception as e:
        failed = 1
        print("not ok %s, seed %d\n# %s" % (name, seed, ("%s: %s" % (type(e).__name__, e)).replace("\n", "\n# ")), flush=True)
if not failed:
    shutil.rmtree(top)
sys.exit(failed)
