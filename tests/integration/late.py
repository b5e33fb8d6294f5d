#!/usr/bin/env python3
# TIMEOUT: 300
"""What a lost connection still delivers: the sender is dead, a newer state has come by another connection, and then the network lets go
of what it held back. The target has the older state for a while; it must not stay (core/sync_lost.c). With rsync daemons: what serves the
other transports drops most of what it has not done when its connection ends."""
import os
import select
import signal
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "churn"), os.path.join(HERE, "..", "lib")]
import network
from fansync import children, expect, kill, main, own_file_system, skip

SIZE = 1 << 20
BEGUN = 20000  # bytes: greetings are over by then, and the file is on its way


def content(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return None


def write(cell, data):
    with open(cell.place + "/new", "wb") as f:
        f.write(data)
    os.rename(cell.place + "/new", cell.source + "/file")


def die_unheard(cell, least):
    """The senders have said all that they have to say, so much at the least; it is held back, and they are dead."""
    before = -1
    while cell.line.held() < least or cell.line.held() != before:
        before = cell.line.held()
        select.poll().poll(500)
    for pid in children(cell.daemon.process.pid, every=True):
        kill(pid, signal.SIGKILL)


def another_arrives(cell):
    with open(cell.source + "/another", "w") as f:
        f.write("another")
    network.eventually(lambda: os.path.exists(cell.target + "/another"), lambda: "another\n" + cell.daemon.tail())


def sent_and_held_back(cell, data):
    """The file is in the network, and who sent it is dead."""
    cell.settle()
    cell.line.trap(BEGUN, cell.line.hold)
    write(cell, data)
    network.eventually(lambda: cell.line.held() > 0, "the file is on its way")
    die_unheard(cell, SIZE - BEGUN)


def overtaken(cell):
    """The target has got the older file after the newer one, of which it knows."""
    old, new = os.urandom(SIZE), os.urandom(SIZE)
    sent_and_held_back(cell, old)
    write(cell, new)
    network.eventually(lambda: content(cell.target + "/file") == new, lambda: "the newer file\n" + cell.daemon.tail())
    cell.line.release()
    network.eventually(lambda: content(cell.target + "/file") == old, "the older file: what was held is not all that it takes")
    return new


def by_itself(place):
    with network.Relayed(place, "rsync", "inotify") as cell:
        new = overtaken(cell)
        network.eventually(lambda: content(cell.target + "/file") == new, lambda: "the newer file again\n" + cell.daemon.tail())


def before_who_waits(place):
    """Who asks whether all is done is not told so while an older state may still be there."""
    with network.Relayed(place, "rsync", "inotify") as cell:
        new = overtaken(cell)
        cell.settle()
        expect(content(cell.target + "/file") == new, "not the newer file, when all was done:\n" + cell.daemon.tail())
        cell.expect_equal("rsync")


def what_was_removed(place):
    """The file arrives when it has been removed, and nobody knows of it."""
    with network.Relayed(place, "rsync", "inotify") as cell:
        old = os.urandom(SIZE)
        sent_and_held_back(cell, old)
        os.remove(cell.source + "/file")
        another_arrives(cell)
        cell.line.release()
        network.eventually(lambda: content(cell.target + "/file") == old, "the file: what was held is not all that it takes")
        network.eventually(lambda: not os.path.exists(cell.target + "/file"), lambda: "the file's end\n" + cell.daemon.tail())


def a_rename_that_was_undone(place):
    """The directory has its old name again, and then it is renamed at the target."""
    with network.Relayed(place, "rsyncssh", "inotify") as cell:
        os.mkdir(cell.source + "/d")
        with open(cell.source + "/d/file", "w") as f:
            f.write("what is in it")
        cell.settle()
        cell.line.hold()
        os.rename(cell.source + "/d", cell.source + "/e")
        network.eventually(lambda: cell.line.held() > 0, "the rename is on its way")
        die_unheard(cell, 1)
        os.rename(cell.source + "/e", cell.source + "/d")
        another_arrives(cell)
        expect(os.path.exists(cell.target + "/d/file"), "it was renamed before")
        cell.line.release()
        network.eventually(lambda: os.path.exists(cell.target + "/e"), "the new name: what was held is not all that it takes")
        network.eventually(lambda: content(cell.target + "/d/file") and not os.path.exists(cell.target + "/e"),
                           lambda: "the old name again, with what is in it\n" + cell.daemon.tail())


if not own_file_system():
    skip("it changes owners: only root may")
main([by_itself, before_who_waits, what_was_removed, a_rename_that_was_undone])
