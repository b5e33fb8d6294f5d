#!/usr/bin/env python3
# TIMEOUT: 400
"""A sample of what happens to the wire between two hosts (tests/churn/links.py). tests/soak/links.sh has all of it."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "churn"))
import links
import wire
from fansync import TESTDIR, own_file_system, skip

SEED = int(os.environ.get("SEED", "1"))
SAMPLE = ("sftp/address", "tcp/twoway", "rsync/blackhole")

if wire.possible() or not own_file_system():
    skip(wire.possible() or "it mounts a file system: only root may")
sys.exit(not links.all_of(TESTDIR, sys.argv[1:] or SAMPLE, SEED))
