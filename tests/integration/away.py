#!/usr/bin/env python3
# TIMEOUT: 400
"""A target that is away while 20,000 changes are made, with room for 2,000 (tests/churn/away.py). tests/soak/away.sh makes a million. By the
ordinary program: how much memory it takes is part of it."""
import os
import sys

os.environ["FANSYNCD"] = os.environ.get("FANSYNCD_PLAIN", os.environ.get("FANSYNCD", "build/fansyncd"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "churn"))
import away
from fansync import TESTDIR, own_file_system, skip

SEED = int(os.environ.get("SEED", "1"))
SAMPLE = ("inotify/tcp",)

if not own_file_system():
    skip("it mounts a file system: only root may")
sys.exit(not away.all_of(TESTDIR, sys.argv[1:] or SAMPLE, SEED, 20000, max_pending=2000))
