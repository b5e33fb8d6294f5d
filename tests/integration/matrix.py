#!/usr/bin/env python3
# TIMEOUT: 400
"""A sample of the churn matrix (tests/churn): each transport, watcher and file system once at least. `make soak` runs all of it."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "churn"))
import matrix
from fansync import TESTDIR, own_file_system, skip

SECONDS = float(os.environ.get("CHURN_SECONDS", "3"))
SEED = int(os.environ.get("SEED", "1"))
SAMPLE = ("fanotify/direct/ext4", "inotify/tcp/xfs", "fanotify/tcp/btrfs", "inotify/sftp/overlayfs", "fanotify/sftp-openssh/tmpfs",
          "inotify/rsync/btrfs", "fanotify/rsyncssh/xfs")

if not own_file_system():
    skip("it mounts file systems: only root may")
sys.exit(not matrix.all_of(TESTDIR, sys.argv[1:] or SAMPLE, SEED, SECONDS))
