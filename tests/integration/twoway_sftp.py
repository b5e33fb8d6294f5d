#!/usr/bin/env python3
# TIMEOUT: 200
"""Bidirectional syncs over `sftp`: the cases of twoway.py and twoway_direct.py that are not about ssh and rsync."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import twoway
from fansync import main
from twoway import (a_deletion_is_of_what_was_seen, a_directory_over_a_file, archives, filtered, odd_names, sends_and_is_silent,
                    theirs_is_left_alone)
from twoway_direct import an_echo_moves_what_was_agreed_on, renames_are_carried, renames_that_are_not

twoway.TRANSPORT = "sftp"

main([sends_and_is_silent, theirs_is_left_alone, a_deletion_is_of_what_was_seen, a_directory_over_a_file, odd_names, archives, filtered,
      renames_are_carried, renames_that_are_not, an_echo_moves_what_was_agreed_on])
