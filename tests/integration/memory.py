#!/usr/bin/env python3
# TIMEOUT: 300
# NEEDS: tests/lib/nomem_tool
# NEW SEED
"""Some of the allocations that may fail (tests/lib/nomem.py). tests/soak/memory.py has all of them."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import nomem
from fansync import main
from faults import WORKER

SEED = int(os.environ.get("SEED", "1"))
TRIALS = int(os.environ.get("TRIALS", "3"))


def check(place):
    nomem.check(place, 2 * TRIALS, SEED)


def a_run_that_ends(place):
    nomem.once(place, "direct", "--sync-now", 6 * TRIALS, SEED)


def its_worker(place):
    nomem.once(place, "direct", WORKER, TRIALS, SEED)


with nomem.the_tool():
    main([check, a_run_that_ends, its_worker])
