#!/usr/bin/env python3
"""Gives everything below the source to a group, which may read and write it (lsyncd's lgforce): gforce.py GROUP

What it changes is a change again, which it then finds as it should be. Symlinks are left alone."""
import grp
import json
import os
import stat
import sys

GROUP = grp.getgrnam(sys.argv[1]).gr_gid


def force(path):
    try:
        fd = os.open(os.fsencode(path), os.O_PATH | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        st = os.fstat(fd)
        if stat.S_ISLNK(st.st_mode):
            return
        here = "/proc/self/fd/%d" % fd
        mode = stat.S_IMODE(st.st_mode) | stat.S_IRGRP | stat.S_IWGRP
        if stat.S_ISDIR(st.st_mode):
            mode |= stat.S_IXGRP | stat.S_ISGID
        if st.st_gid != GROUP:
            os.chown(here, -1, GROUP)
        if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
            os.chmod(here, mode)
    finally:
        os.close(fd)


for line in sys.stdin:
    record = json.loads(line)
    if record["op"] in ("create", "modify", "list", "entry", "keep"):
        try:
            force(record["path"])  # it is started in the source's directory
        except OSError as e:
            print("%d retry %s" % (record["id"], e.strerror))
            continue
    print("%d done" % record["id"])
