#!/usr/bin/env python3
"""Paths beyond PATH_MAX, watched by either watcher and mirrored by direct: made, written, renamed and removed far below, each change the
only one, so that nothing else leads there."""
import os
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), os.path.join(HERE, "..", "churn")]
import judge
from fansync import TESTDIR, Daemon, Failure, main, own_file_system

LEVELS = 22
NAME = "level" * 48


def descend(root, make=False):
    """A descriptor of the directory LEVELS below."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(LEVELS):
        if make:
            os.mkdir(NAME, dir_fd=fd)
        below = os.open(NAME, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    return fd


def write(fd, name, text):
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=fd)
    os.write(file, text)
    os.close(file)


def exercise(place, watcher):
    source, target = place + "/source", place + "/target"
    os.makedirs(source)
    os.makedirs(target)
    daemon = Daemon(place, 'sync = ( { name = "deep"; transport = "direct"; source = "%s"; target = "%s"; watcher = "%s"; } );\n'
                    % (source, target, watcher)).start()

    def equal(what):
        daemon.wait()
        found = judge.compare(source, target)
        if found:
            raise Failure("%s: %s\n%s" % (what, found, daemon.tail(20)))
    fd = descend(source, make=True)
    try:
        equal("made")
        write(fd, "f", b"one")
        equal("a file")
        write(fd, "f", b"another")
        equal("written again")
        os.rename("f", "g", src_dir_fd=fd, dst_dir_fd=fd)
        equal("renamed")
        os.mkdir("d", dir_fd=fd)
        os.rename("d", "e", src_dir_fd=fd, dst_dir_fd=fd)
        equal("a directory, renamed")
        os.rename("e", source + "/e", src_dir_fd=fd)
        os.rename("g", source + "/e/g", src_dir_fd=fd)
        equal("moved up")
        os.rename(source + "/e", "e", dst_dir_fd=fd)
        equal("moved down")
        os.unlink("e/g", dir_fd=fd)
        os.rmdir("e", dir_fd=fd)
        equal("removed")
        os.rename(source + "/" + NAME, source + "/top")
        equal("the top renamed")
    finally:
        os.close(fd)
        daemon.stop()
        for path in (source, target):
            shutil.rmtree(path)


def fanotify(place):
    exercise(place, "fanotify")


def inotify(place):
    exercise(place, "inotify")


if os.geteuid() != 0 or not own_file_system():
    print("# without a file system of its own")
main([fanotify, inotify])
