#!/usr/bin/env python3
# TIMEOUT: 400
"""A sample of the faults of a line (tests/churn/network.py): each transport that goes over a network once at least.
tests/soak/network.sh has all of them."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "churn"))
import network
from fansync import TESTDIR, own_file_system, skip

SEED = int(os.environ.get("SEED", "1"))
SAMPLE = ("rsync/stall", "rsyncssh/vanish", "sftp/handshake", "sftp-openssh/drip", "tcp/cut")

if not own_file_system():
    skip("it mounts a file system, and changes owners: only root may")
sys.exit(not network.all_of(TESTDIR, sys.argv[1:] or SAMPLE, SEED, 1))
