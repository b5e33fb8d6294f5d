#!/usr/bin/env python3
# TIMEOUT: 400
"""A sample of tests/churn/kills.py: a few kills at random instants with each transport. tests/soak/kills.sh makes 500 of them.

KILLS=N: so many in each cell; SEED."""
import os
import sys

if "FANSYNCD_PLAIN" in os.environ:  # it starts many processes: the sanitizers look at the same code elsewhere
    os.environ["FANSYNCD"] = os.environ["FANSYNCD_PLAIN"]
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "churn"))
import kills
from fansync import TESTDIR, own_file_system, skip

SAMPLE = ("fanotify/rsync", "inotify/rsyncssh", "fanotify/direct", "inotify/sftp", "fanotify/sftp-openssh", "inotify/tcp")

if not own_file_system():
    skip("it mounts file systems: only root may")
sys.exit(not kills.all_of(TESTDIR, sys.argv[1:] or SAMPLE, int(os.environ.get("SEED", "1")), int(os.environ.get("KILLS", "2")), 120, 0.15))
