#!/usr/bin/env python3
# TIMEOUT: 200
"""Bidirectional syncs over `sftp`: the cases of twoway.py and twoway_direct.py that are not about ssh and rsync; and a server that can't do what it takes."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import twoway
from fansync import Daemon, Sshd, await_fact, dirs, expect, main, put
from twoway import (a_deletion_is_of_what_was_seen, a_directory_over_a_file, archives, filtered, odd_names, sends_and_is_silent,
                    theirs_is_left_alone)
from twoway_direct import an_echo_moves_what_was_agreed_on, renames_are_carried, renames_that_are_not

twoway.TRANSPORT = "sftp"


def replacing_in_one_step(place):
    """OpenSSH's own server, told to do without. The sync says why it does nothing, and goes on when it may."""
    p = None
    sshd = Sshd(place + "/sshd", config="Subsystem sftp internal-sftp -P posix-rename\n").start()
    source, target = dirs(place, "source", "target")
    put(source + "/f", "ours")
    put(target + "/g", "theirs")
    try:
        p = Daemon(place + "/d", 'sync = ( { name = "x"; transport = "sftp"; source = "%s"; host = "127.0.0.1"; targetdir = "%s"; %s '
                   'bidirectional = true; delay = 0.05; retryMin = 0.05; retryMax = 0.2; } );' % (source, target, sshd.section()))
        p.start(wait=False)
        await_fact(lambda: "posix-rename@openssh.com" in (p.sync("x")["reason"] or ""), 30, "it is refused")
        expect(os.listdir(target) == ["g"], "nothing is changed there: %s" % os.listdir(target))
        expect(p.sync("x")["state"] == "down", "it is said: %s" % p.sync("x"))
        with open(sshd.place + "/sshd_config") as f:
            text = f.read().replace(" -P posix-rename", "")
        sshd.stop()
        with open(sshd.place + "/sshd_config", "w") as f:
            f.write(text)
        sshd.start()
        await_fact(lambda: sorted(os.listdir(target)) == ["f", "g"], 30, "it goes on")
    finally:
        if p:
            p.stop()
        sshd.stop()


main([sends_and_is_silent, theirs_is_left_alone, a_deletion_is_of_what_was_seen, a_directory_over_a_file, odd_names, archives, filtered,
      renames_are_carried, renames_that_are_not, an_echo_moves_what_was_agreed_on, replacing_in_one_step])
