#!/usr/bin/env python3
# TIMEOUT: 420
"""The rules of mirroring (tests/lib/mirroring.py) with the transport sftp."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from mirroring import run_rules

run_rules("sftp")
