"""Random operations on a real tree, at full speed; for the churn tests."""

import ctypes
import os
import random
import shutil
import time

RENAME_EXCHANGE = 2
libc = ctypes.CDLL(None, use_errno=True)


def exchange(a, b):
    libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), RENAME_EXCHANGE)


class Churn:
    """Few names, so that the same ones come again soon. `outside` is a directory on the same file system."""

    NAMES = ["a", "b", "c", "d e", "f'g", "-h", "ü", "i\nj", "k*", "\udcff", "[l]", "m\\n"]

    def __init__(self, root, outside, seed):
        self.root, self.outside, self.random = root, outside, random.Random(seed)
        self.count = 0
        os.makedirs(outside, exist_ok=True)

    def path(self):
        r = self.random
        return os.path.join(self.root, *[r.choice(self.NAMES) for _ in range(r.choice([1, 1, 2, 2, 3, 4]))])

    def content(self):
        self.count += 1
        return (b"%d " % self.count) * self.random.choice([1, 1, 2, 50, 4000])

    def one_name(self):
        """A path that is no further name of a file. A write through a name that is gone before anybody looks leaves the
        file's other names behind: a limit that the README states."""
        p = self.path()
        try:
            if os.stat(p).st_nlink > 1 and not os.path.isdir(p):
                raise PermissionError(p)
        except FileNotFoundError:
            pass
        return p

    def write(self):
        with open(self.one_name(), "wb") as f:
            f.write(self.content())

    def append(self):
        with open(self.one_name(), "ab") as f:
            f.write(self.content())

    def rewrite_in_place(self):
        p = self.one_name()
        with open(p, "r+b") as f:
            f.write(b"%05d" % (self.count % 100000))
        self.count += 1

    def replace(self):
        p = self.path()
        temp = os.path.join(os.path.dirname(p), "tmp%d" % self.random.randrange(3))
        with open(temp, "wb") as f:
            f.write(self.content())
        os.rename(temp, p)

    def truncate(self):
        # By a descriptor: truncate(2) of a path ends with no close, and the kernel tells of nothing else (README, limits).
        with open(self.one_name(), "r+b") as f:
            f.truncate(self.random.randrange(10))

    def chmod(self):
        p = self.one_name()
        if not os.path.islink(p):
            os.chmod(p, self.random.choice([0o644, 0o600, 0o755, 0o700]))

    def utime(self):
        os.utime(self.one_name(), ns=(1, self.random.randrange(10 ** 18)), follow_symlinks=False)

    def mkdir(self):
        os.mkdir(self.path())

    def makedirs(self):
        p = self.path()
        os.makedirs(p, exist_ok=True)
        with open(os.path.join(p, "deep"), "wb") as f:
            f.write(self.content())

    def rmdir(self):
        os.rmdir(self.path())

    def unlink(self):
        os.unlink(self.path())

    def rename(self):
        os.rename(self.path(), self.path())

    def swap(self):
        exchange(self.path(), self.path())

    def chain(self):
        a, b, c = self.path(), self.path(), self.path()
        os.rename(a, b)
        os.rename(b, c)

    def rm_tree(self):
        shutil.rmtree(self.path())

    def recreate(self):
        p = self.path()
        shutil.rmtree(p)
        os.mkdir(p)
        os.rename(p, self.path())

    def symlink(self):
        # Writes go through symlinks: they must lead nowhere outside.
        os.symlink(self.random.choice(["nowhere", "a", "b/c", "/nonexistent/file", "\udcfe"]), self.path())

    def link(self):
        os.link(self.path(), self.path(), follow_symlinks=False)

    def out(self):
        os.rename(self.path(), os.path.join(self.outside, str(self.random.randrange(4))))

    def into(self):
        os.rename(os.path.join(self.outside, str(self.random.randrange(4))), self.path())

    def step(self):
        op = self.random.choices(
            [self.write, self.append, self.rewrite_in_place, self.replace, self.truncate, self.chmod, self.utime, self.mkdir,
             self.makedirs, self.rmdir, self.unlink, self.rename, self.swap, self.chain, self.rm_tree, self.recreate,
             self.symlink, self.link, self.out, self.into],
            [12, 6, 6, 6, 3, 4, 2, 8, 6, 2, 6, 10, 2, 2, 1, 1, 3, 2, 2, 3])[0]
        try:
            op()
            return True
        except OSError:
            return False

    def run(self, seconds, pause=None):
        """Until the time is over. Returns how many operations took effect."""
        end = time.monotonic() + seconds
        done = 0
        while time.monotonic() < end:
            done += self.step()
            if pause is not None:
                pause()
        return done
