"""Seeded random operations of all kinds on a real tree, in several processes at once: what a mirror has to follow.

    generator.py --replay TRACE SOURCE OUTSIDE

A seed does not replay a run: what is chosen depends on what is there, and so on which of the processes is faster. A trace does. It has a
line for each operation, written before it begins, with all that was chosen (names relative to the source, numbers, texts), and another
one with its outcome. --replay does all of them in the order of those lines, one after the other, in one process, below a SOURCE and an
OUTSIDE that are as they were at the start of the run (empty; on one file system of the same kind). Played twice, it gives the same trees,
but for the times that files get by being written. The trace of one process gives the tree that its run gave. With several, what they did
at the same moment happens one after the other, so that the outcome of an operation can be another one (--replay counts those): neither
their timing nor that of the daemon replays. TRACE=FILE keeps the trace of a program that does not keep it anyhow.
"""
import argparse
import ast
import collections
import ctypes
import errno
import mmap
import os
import random
import shutil
import signal
import socket
import stat
import struct
import sys
import time
import traceback

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE = 1, 2
AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400
ACLS = ("system.posix_acl_access", "system.posix_acl_default")
XATTRS = ("user.a", "user.some name", "user." + "n" * 200)
# Directories that random paths and `existing` leave alone: what is in them keeps its name for a while.
LINKED, MANY = b"linked", b"many"
LARGE = 256 * 1024
DEEP_LEVELS = (3, 18, 22)
libc = ctypes.CDLL(None, use_errno=True)

# What there is beyond plain files, directories and symlinks, by the option that mirrors it.
EXTRAS = ("hard_links", "owners", "xattrs", "acls", "specials", "devices", "sparse", "deep")


def checked(result):
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def opened(path, mode):
    """A FIFO of that name is nobody's to wait for."""
    return open(path, mode, opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK, 0o666))


def remove_tree(path):
    """shutil.rmtree opens whatever has the name, and so waits at a FIFO."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "no directory", path)
    shutil.rmtree(path)


def renameat2(a, b, flags):
    checked(libc.renameat2(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), flags))


def acl(*entries):
    """As the kernel keeps it in system.posix_acl_access (linux/posix_acl_xattr.h)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


def names(rand, how_many):
    """Few, so that the same ones come again soon; all that a name may be."""
    fixed = [b"a", b"b", b"-h", b"f'g\"", b"i\nj", b"k*?", b"[l]", b"m\\n", b" n ", "ü".encode(), b"\xff\xfe", b"#o", b".p", b"q.tmp",
             b".%s.swp" % b"r", b"x" * 255]
    pool = rand.sample(fixed, min(len(fixed), how_many // 2))
    while len(pool) < how_many:
        size = rand.choice([1, 2, 3, 8, 40, 255])
        name = bytes(rand.choice([c for c in range(1, 256) if c != ord("/")]) for _ in range(size))
        if name not in (b".", b"..") and not name.endswith(b".fansyncd~tmp"):
            pool.append(name)
    return pool


def text(number, times):
    """Content, told by two numbers."""
    return (b"%d " % number) * times


class Tree:
    """Operations: each does what its parameters say, and chooses nothing. Paths are relative to the root. `outside` is a directory on the
    same file system, for what is moved in and out."""

    def __init__(self, root, outside):
        self.root, self.outside = os.fsencode(root), os.fsencode(outside)

    def at(self, path):
        return os.path.join(self.root, path)

    def away(self, number):
        return os.path.join(self.outside, b"%d" % number)

    # ---- content ----

    def write(self, path, words):
        with opened(self.at(path), "wb") as f:
            f.write(text(*words))

    def append(self, path, words):
        with opened(self.at(path), "ab") as f:
            f.write(text(*words))

    def rewrite_in_place(self, path, number):
        with opened(self.at(path), "r+b") as f:
            f.write(b"%06d" % number)

    def write_direct(self, path, number):
        fd = os.open(self.at(path), os.O_WRONLY | os.O_CREAT | os.O_DIRECT | os.O_NONBLOCK, 0o644)
        try:
            with mmap.mmap(-1, 8192) as aligned:
                aligned.write((b"%8d" % number) * 1024)
                os.write(fd, aligned)
        finally:
            os.close(fd)

    def write_mmap(self, path, number):
        """Through a mapping, and a close after it: mmap by itself is reported by no kernel (README, limits)."""
        fd = os.open(self.at(path), os.O_RDWR | os.O_NONBLOCK)
        try:
            os.ftruncate(fd, max(os.fstat(fd).st_size, 4096))
            with mmap.mmap(fd, 4096) as m:
                m[:8] = b"%8d" % number
        finally:
            os.close(fd)

    def replace(self, temporary, path, words):
        with opened(self.at(temporary), "wb") as f:
            f.write(text(*words))
        os.rename(self.at(temporary), self.at(path))

    def truncate(self, path, size):
        # By a descriptor: truncate(2) of a path ends with no close, and the kernel tells of nothing else (README, limits).
        with opened(self.at(path), "r+b") as f:
            f.truncate(size)

    def write_holes(self, path, pieces, size):
        with opened(self.at(path), "wb") as f:
            for offset, words, longest in pieces:
                f.seek(offset)
                f.write(text(*words)[:longest])
            f.truncate(size)

    def punch(self, path, offset, length):
        fd = os.open(self.at(path), os.O_RDWR | os.O_NONBLOCK)
        try:
            checked(libc.fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, ctypes.c_long(offset), ctypes.c_long(length)))
        finally:
            os.close(fd)

    punch_large = punch

    def tmpfile(self, path, words):
        """A file that gets its name when it is whole."""
        fd = os.open(os.path.dirname(self.at(path)), os.O_TMPFILE | os.O_WRONLY, 0o640)
        try:
            os.write(fd, text(*words))
            checked(libc.linkat(AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, self.at(path), AT_SYMLINK_FOLLOW))
        finally:
            os.close(fd)

    # ---- attributes ----

    def chmod(self, path, mode):
        os.chmod(self.at(path), mode)

    def utime(self, path, ns):
        """With a close behind it: a time alone is reported as a write under way (README, limits)."""
        fd = os.open(self.at(path), os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.utime(fd, ns=(1, ns))
        finally:
            os.close(fd)

    def utime_by_path(self, path, ns):
        # Both times: that is reported as a change of attributes.
        os.utime(self.at(path), ns=(1, ns), follow_symlinks=False)

    utime_directory = utime_symlink = utime_by_path

    def chown(self, path, uid, gid):
        os.chown(self.at(path), uid, gid, follow_symlinks=False)

    def xattr(self, path, name, words, size):
        os.setxattr(self.at(path), name, text(*words)[:size])

    def xattr_remove(self, path, name):
        os.removexattr(self.at(path), name)

    acl_remove = xattr_remove

    def acl(self, path, name, rights):
        os.setxattr(self.at(path), name, acl((1, 6, 0xffffffff), (2, rights, 65534), (4, 4, 0xffffffff), (16, 7, 0xffffffff), (32, 0, 0xffffffff)))

    # ---- names ----

    def mkdir(self, path):
        os.mkdir(self.at(path))

    def makedirs(self, path, words):
        os.makedirs(self.at(path), exist_ok=True)
        with opened(os.path.join(self.at(path), b"deep"), "wb") as f:
            f.write(text(*words))

    def rmdir(self, path):
        os.rmdir(self.at(path))

    def unlink(self, path):
        os.unlink(self.at(path))

    def rename(self, a, b):
        os.rename(self.at(a), self.at(b))

    rename_file = rename_over = rename_dir = rename

    def rename_noreplace(self, a, b):
        renameat2(self.at(a), self.at(b), RENAME_NOREPLACE)

    def exchange(self, a, b):
        renameat2(self.at(a), self.at(b), RENAME_EXCHANGE)

    def chain(self, a, b, c):
        os.rename(self.at(a), self.at(b))
        os.rename(self.at(b), self.at(c))

    def rm_tree(self, path):
        remove_tree(self.at(path))

    def recreate(self, path, new):
        remove_tree(self.at(path))
        os.mkdir(self.at(path))
        os.rename(self.at(path), self.at(new))

    def other_kind(self, path, words):
        """What was a file is a directory, and the reverse."""
        p = self.at(path)
        if os.path.isdir(p) and not os.path.islink(p):
            shutil.rmtree(p)
            with opened(p, "wb") as f:
                f.write(text(*words))
        else:
            os.unlink(p)
            os.mkdir(p)

    def symlink(self, where, path):
        os.symlink(where, self.at(path))

    def link(self, old, new):
        os.link(self.at(old), self.at(new), follow_symlinks=False)

    def fifo(self, path):
        os.mkfifo(self.at(path), 0o640)

    def socket(self, path):
        # By a descriptor: a socket's path has 107 bytes at most, wherever the root is.
        base, name = os.path.split(self.at(path))
        fd = os.open(base, os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.bind(b"/proc/self/fd/%d/%s" % (fd, name))
        finally:
            os.close(fd)

    def node(self, path, kind, minor):
        os.mknod(self.at(path), 0o600 | kind, os.makedev(1, minor))

    def out(self, path, number):
        os.rename(self.at(path), self.away(number))

    def into(self, number, path):
        os.rename(self.away(number), self.at(path))

    # ---- one file, several names ----

    def linked_make(self, names, words):
        for name in names:
            os.makedirs(os.path.dirname(self.at(name)), exist_ok=True)
        with open(self.at(names[0]), "xb") as f:
            f.write(text(*words))
        for name in names[1:]:
            os.link(self.at(names[0]), self.at(name))

    def write_linked(self, path, mode, words):
        with opened(self.at(path), mode) as f:
            f.write(text(*words))

    linked_chmod, linked_utime, linked_add, linked_spread, linked_drop, linked_move = chmod, utime, link, link, unlink, rename

    def linked_remove(self, names):
        for name in names:
            try:
                os.unlink(self.at(name))
            except FileNotFoundError:
                pass

    # ---- beyond PATH_MAX, by directory descriptors ----

    def descend(self, levels, make=False):
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for i in range(levels):
                name = b"%s%03d" % (b"deep " * 48, i)
                if make:
                    try:
                        os.mkdir(name, dir_fd=fd)
                    except FileExistsError:
                        pass
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = below
        except OSError:
            os.close(fd)
            raise
        return fd

    def deep(self, levels, name, words):
        fd = self.descend(levels, make=True)
        try:
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o600, dir_fd=fd)
            os.write(file, text(*words)[:100])
            os.close(file)
        finally:
            os.close(fd)

    def deep_chmod(self, levels, name, mode):
        fd = self.descend(levels)
        try:
            os.chmod(name, mode, dir_fd=fd)
        finally:
            os.close(fd)

    def deep_rename(self, levels, a, b):
        fd = self.descend(levels)
        try:
            os.rename(a, b, src_dir_fd=fd, dst_dir_fd=fd)
        finally:
            os.close(fd)

    def deep_unlink(self, levels, name):
        fd = self.descend(levels)
        try:
            os.unlink(name, dir_fd=fd)
        finally:
            os.close(fd)


def anything(_mode):
    return True


def file_or_directory(mode):
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def no_directory(mode):
    return not stat.S_ISDIR(mode)


class Done:
    """How often each kind of operation was tried, and how often it took effect: one that met an error did not."""

    def __init__(self):
        self.tried, self.effect = collections.Counter(), collections.Counter()

    def add(self, tried, effect):
        self.tried.update(tried)
        self.effect.update(effect)

    def without_effect(self, least):
        """Those that never took effect, although they were tried that often."""
        return sorted(kind for kind, n in self.tried.items() if n >= least and not self.effect[kind])


class Process(Tree):
    """One process's operations, as its random numbers and what is there choose them."""

    def __init__(self, root, outside, seed, extras=(), pool=12, trace=None):
        super().__init__(root, outside)
        self.random = random.Random(seed)
        # All processes of a run have the same names, or they would never meet.
        self.names = names(random.Random(seed // 1000), pool)
        self.extras = set(extras)
        self.seed, self.number, self.steps = seed, seed % 1000, 0
        self.count = self.number * 10 ** 6
        trace = trace or os.environ.get("TRACE")
        self.trace = open(trace, "ab", buffering=0) if trace else None
        self.root_user = os.geteuid() == 0
        self.done = Done()
        self.operations = [op for op in self.TABLE if op[2] is None or op[2] in self.extras]

    # ---- what to work on ----

    def path(self, fits=None):
        """A random one, in a directory that is there (or else `fits`), if one is found soon."""
        r = self.random
        for _ in range(6):
            p = os.path.join(*[r.choice(self.names) for _ in range(r.choice([1, 1, 2, 2, 3, 4]))])
            if (fits or os.path.isdir)(self.at(p) if fits else os.path.dirname(self.at(p))):
                break
        return p

    def free(self):
        return self.path(lambda p: os.path.isdir(os.path.dirname(p)) and not os.path.lexists(p))

    def other(self, path):
        """Another path: a rename to itself does nothing."""
        while True:
            p = self.path()
            if p != path:
                return p

    def one_name(self, path=None):
        """A path that is no further name of a file. A change of content or attributes through a name that is gone before anybody looks
        leaves the file's other names behind: a limit that the README states. `write_linked` makes such changes, by names that stay."""
        path = path or self.path()
        try:
            if os.stat(self.at(path)).st_nlink > 1 and not os.path.isdir(self.at(path)):
                raise PermissionError(path)
        except FileNotFoundError:
            pass
        return path

    def existing(self, kind=stat.S_ISREG, linked=True, but=None, also=None):
        """Something of that kind that is there: random paths rarely are. `linked`: or one of several names of a file."""
        found = []
        for base, dirs, files in os.walk(self.root):
            if base == self.root:
                dirs[:] = [d for d in dirs if d not in (LINKED, MANY)]
            found += [os.path.join(base, n) for n in dirs + files]
            if len(found) > 300:
                break
        self.random.shuffle(found)
        for p in found if also else found[:40]:
            relative = os.path.relpath(p, self.root)
            # What is near PATH_MAX is for `deep`: here it would depend on the root whether it can be reached.
            if relative == but or len(relative) > 3500:
                continue
            try:
                st = os.lstat(p)
                if kind(st.st_mode) and (stat.S_ISDIR(st.st_mode) or linked or st.st_nlink == 1) and (also is None or also(p, st)):
                    return relative
            except OSError:
                continue
        raise FileNotFoundError(errno.ENOENT, "nothing of that kind")

    def alone(self, kind=stat.S_ISREG, **more):
        """For changes of content and attributes: see one_name."""
        return self.existing(kind, linked=False, **more)

    def number_of(self):
        self.count += 1
        return self.count

    def words(self):
        return self.number_of(), self.random.choice([1, 1, 2, 50, 4000])

    # ---- choices: the parameters of an operation ----

    def for_replace(self):
        p = self.path()
        return self.one_name(os.path.join(os.path.dirname(p), b"tmp%d" % self.random.randrange(3))), p, self.words()

    def for_holes(self):
        r = self.random
        return self.one_name(), [(r.randrange(0, 1 << 20, 4096), (self.number_of(), longest // 2), longest)
                                 for longest in (4096, 4096, r.choice([4096, 384 * 1024]))], 1 << 20

    def for_punch_large(self):
        p = self.alone(also=lambda p, st: st.st_size >= LARGE)
        return p, self.random.randrange(0, LARGE, 4096), self.random.choice([64, 256, 512]) * 1024

    def for_chmod(self):
        p = self.alone(file_or_directory)
        directory = os.path.isdir(self.at(p))
        modes = [0o755, 0o700, 0o750] if directory else [0o644, 0o600, 0o400, 0o755, 0o666]
        if self.root_user:
            modes += [0o1777, 0o500, 0o2755] if directory else [0o4755, 0o000, 0o2711]
        return p, self.random.choice(modes)

    def some_time(self):
        return self.random.randrange(2 * 10 ** 18)

    def for_chown(self):
        return (self.alone(lambda mode: not stat.S_ISDIR(mode) or self.random.random() < .5), self.random.choice([0, 1, 65534]),
                self.random.choice([0, 2, 65534]))

    def for_xattr(self):
        return self.alone(file_or_directory), self.random.choice(XATTRS), self.words(), self.random.choice([0, 10, 900])

    def for_xattr_remove(self, names):
        have = []

        def has_one(p, _st):
            have[:] = [n for n in os.listxattr(p, follow_symlinks=False) if n in names]
            return have
        p = self.alone(file_or_directory, also=has_one)
        return p, self.random.choice(have)

    def for_acl(self):
        p = self.alone(file_or_directory)
        return p, ACLS[os.path.isdir(self.at(p)) and self.random.random() < .3], self.random.randrange(8)

    def for_exchange(self):
        a = self.existing(anything)
        return a, self.existing(anything, but=a)

    def for_rename_over(self):
        a = self.existing()
        return a, self.existing(but=a)

    def for_rename(self, path):
        return path, self.other(path)

    def for_chain(self):
        a = self.existing(anything)
        return a, self.free(), self.free()

    def for_recreate(self):
        return self.existing(stat.S_ISDIR), self.free()

    def for_into(self):
        return self.random.choice([n for n in range(4) if os.path.lexists(self.away(n))] or [0]), self.path()

    def for_makedirs(self):
        p = self.path()
        self.one_name(os.path.join(p, b"deep"))
        return p, self.words()

    def for_symlink(self):
        # Writes go through symlinks: they must lead nowhere outside.
        return self.random.choice([b"nowhere", b"a", b"b/c", b"/nonexistent/file", b"\xfe", b"l" * 1000]), self.free()

    def for_deep(self):
        return self.random.choice(DEEP_LEVELS), b"f%d" % self.random.randrange(3)

    def deep_there(self):
        """A file that is there, beyond PATH_MAX if there is any."""
        for levels in self.random.sample(DEEP_LEVELS[1:], 2) + [DEEP_LEVELS[0]]:
            try:
                fd = self.descend(levels)
            except FileNotFoundError:
                continue
            try:
                found = [n for n in os.listdir(fd) if n.startswith("f")]
            finally:
                os.close(fd)
            if found:
                return levels, os.fsencode(self.random.choice(found))
        raise FileNotFoundError(errno.ENOENT, "no deep file")

    # Groups of names of one file, each of one process. A change is made by a group's first name, which stays as long as the group has
    # any, so that it is there when somebody looks (README, limits); the others come, go and move meanwhile.

    def group(self):
        g = self.random.randrange(4)
        return [LINKED + b"/%d/%d-%d" % (i, self.number, g) for i in range(5)]

    def group_there(self, besides=0):
        """A group's first name, and `besides` of the others that are there."""
        first, *rest = self.group()
        there = [n for n in rest if os.path.lexists(self.at(n))]
        if os.stat(self.at(first)).st_nlink < 2 or len(there) < besides:
            raise FileNotFoundError(errno.ENOENT, "no such group")
        return first, self.random.sample(there, besides), [n for n in rest if n not in there]

    def for_linked_make(self):
        names = self.group()
        if os.path.lexists(self.at(names[0])):
            raise FileExistsError(errno.EEXIST, "that group is there")
        return names[:self.random.choice([2, 3, 5])], self.words()

    def for_write_linked(self):
        return self.group_there()[0], self.random.choice(["wb", "ab", "r+b"]), self.words()

    def for_linked_add(self):
        first, _, free = self.group_there()
        if not free:
            raise FileExistsError(errno.EEXIST, "all of its names are there")
        return first, self.random.choice(free)

    def for_linked_move(self):
        _, (old,), free = self.group_there(1)
        if not free:
            raise FileExistsError(errno.EEXIST, "all of its names are there")
        return old, self.random.choice(free)

    def for_linked_remove(self):
        """All of a group. One that has further names elsewhere keeps its first, by which it may have been changed just now."""
        names = self.group()
        there = [n for n in names if os.path.lexists(self.at(n))]
        elsewhere = bool(there) and os.stat(self.at(there[0])).st_nlink > len(there)
        return (names[1:] if elsewhere else names,)

    # (operation, how often, the extra that it needs, what chooses its parameters)
    TABLE = (
        ("write", 12, None, lambda s: (s.one_name(), s.words())),
        ("append", 5, None, lambda s: (s.one_name(), s.words())),
        ("rewrite_in_place", 6, None, lambda s: (s.alone(), s.number_of() % 10 ** 6)),
        ("write_direct", 2, None, lambda s: (s.one_name(), s.number_of())),
        ("write_mmap", 2, None, lambda s: (s.alone(), s.number_of() % 10 ** 8)),
        ("replace", 8, None, for_replace),
        ("truncate", 3, None, lambda s: (s.alone(), s.random.choice([0, 1, 9, 5000, 70000]))),
        ("write_holes", 2, "sparse", for_holes),
        ("punch", 1, "sparse", lambda s: (s.alone(), s.random.randrange(0, 65536, 4096), 8192)),
        ("punch_large", 1, "sparse", for_punch_large),
        ("tmpfile", 3, None, lambda s: (s.free(), s.words())),
        ("chmod", 4, None, for_chmod),
        ("utime", 2, None, lambda s: (s.alone(), s.some_time())),
        ("utime_directory", 1, None, lambda s: (s.existing(stat.S_ISDIR), s.some_time())),
        ("utime_symlink", 1, None, lambda s: (s.alone(stat.S_ISLNK), s.some_time())),
        ("chown", 2, "owners", for_chown),
        ("xattr", 3, "xattrs", for_xattr),
        ("xattr_remove", 1, "xattrs", lambda s: s.for_xattr_remove(XATTRS)),
        ("acl", 2, "acls", for_acl),
        ("acl_remove", 1, "acls", lambda s: s.for_xattr_remove(ACLS)),
        ("mkdir", 6, None, lambda s: (s.free(),)),
        ("makedirs", 5, None, for_makedirs),
        ("rmdir", 2, None, lambda s: (s.existing(stat.S_ISDIR),)),
        ("unlink", 7, None, lambda s: (s.existing(no_directory),)),
        ("rename", 3, None, lambda s: s.for_rename(s.path(os.path.lexists))),
        ("rename_file", 4, None, lambda s: s.for_rename(s.existing())),
        ("rename_over", 3, None, for_rename_over),
        ("rename_dir", 4, None, lambda s: s.for_rename(s.existing(stat.S_ISDIR))),
        ("rename_noreplace", 1, None, lambda s: (s.existing(anything), s.free())),
        ("exchange", 2, None, for_exchange),
        ("chain", 2, None, for_chain),
        ("rm_tree", 1, None, lambda s: (s.existing(stat.S_ISDIR),)),
        ("recreate", 1, None, for_recreate),
        ("other_kind", 2, None, lambda s: (s.existing(anything), s.words())),
        ("symlink", 3, None, for_symlink),
        # Regular files: of a symlink or a FIFO with several names all transports but rsync's make as many (README, limits).
        ("link", 2, "hard_links", lambda s: (s.existing(), s.free())),
        ("fifo", 1, "specials", lambda s: (s.free(),)),
        ("socket", 1, "specials", lambda s: (s.free(),)),
        ("node", 1, "devices", lambda s: (s.free(), s.random.choice([stat.S_IFCHR, stat.S_IFBLK]), s.random.choice([3, 5]))),
        ("out", 2, None, lambda s: (s.existing(anything), s.random.randrange(4))),
        ("into", 3, None, for_into),
        ("linked_make", 2, "hard_links", for_linked_make),
        ("write_linked", 4, "hard_links", for_write_linked),
        ("linked_chmod", 1, "hard_links", lambda s: (s.group_there()[0], s.random.choice([0o644, 0o600, 0o751]))),
        ("linked_utime", 1, "hard_links", lambda s: (s.group_there()[0], s.some_time())),
        ("linked_add", 1, "hard_links", for_linked_add),
        ("linked_spread", 1, "hard_links", lambda s: (s.group_there()[0], s.free())),
        ("linked_drop", 1, "hard_links", lambda s: (s.group_there(1)[1][0],)),
        ("linked_move", 1, "hard_links", for_linked_move),
        ("linked_remove", 1, "hard_links", for_linked_remove),
        ("deep", 2, "deep", lambda s: (*s.for_deep(), s.words())),
        ("deep_chmod", 1, "deep", lambda s: (*s.deep_there(), s.random.choice([0o600, 0o640, 0o755]))),
        ("deep_rename", 1, "deep", lambda s: (*s.deep_there(), b"f%d" % s.random.randrange(3, 6))),
        ("deep_unlink", 1, "deep", deep_there))

    def step(self):
        """One operation. Its kind, if it took effect."""
        name, _, _, choose = self.random.choices(self.operations, [o[1] for o in self.operations])[0]
        self.steps += 1
        self.done.tried[name] += 1
        try:
            parameters = choose(self)
        except OSError:
            return None
        self.tell(name, parameters)
        outcome = play(self, name, parameters)
        self.tell("=", outcome)
        if outcome != "ok":
            return None
        self.done.effect[name] += 1
        return name

    def tell(self, name, what):
        if self.trace:
            self.trace.write(b"%d %d.%d %s %s\n" % (time.monotonic_ns(), self.seed, self.steps, name.encode(), repr(what).encode()))

    def run(self, seconds):
        """Until the time is over. What was done."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.step()
        return self.done


def play(tree, name, parameters):
    """The operation's outcome: ok, or the error."""
    try:
        getattr(Tree, name)(tree, *parameters)
        return "ok"
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e.errno))
    except (shutil.Error, ValueError) as e:  # ValueError: a file that is shorter than its mapping, by now
        return type(e).__name__


def start(root, operations):
    """What is there before a run."""
    for name, parameters in operations:
        if play(Tree(root, root), name, parameters) != "ok":
            raise RuntimeError("%s %r" % (name, parameters))


def tell_start(trace, operations):
    """So that a replay has it as well."""
    with open(trace, "ab") as f:
        for i, (name, parameters) in enumerate(operations):
            f.write(b"0 start.%d %s %s\n" % (i, name.encode(), repr(parameters).encode()))


def replay(trace, source, outside):
    """All operations of the trace, in its order. (how many, of how many the outcome was another one)"""
    for d in (source, outside):
        os.makedirs(d, exist_ok=True)
    tree = Tree(source, outside)
    outcomes, before = {}, {}
    with open(trace, "rb") as f:
        for line in f:
            _, step, name, what = line.decode("ascii").split(" ", 3)
            what = ast.literal_eval(what)
            if name == "=":
                before[step] = what
            else:
                outcomes[step] = play(tree, name, what)
    return len(outcomes), sum(1 for step, outcome in outcomes.items() if before.get(step, outcome) != outcome)


def run(root, outside, seed, seconds, processes=3, extras=(), trace=None):
    """That many processes at once. What was done, in all."""
    os.makedirs(outside, exist_ok=True)
    pipes = []
    for i in range(processes):
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(r)
                done = Process(root, outside, seed * 1000 + i, extras, trace=trace).run(seconds)
                os.write(w, repr((dict(done.tried), dict(done.effect))).encode())
                status = 0
            except Exception:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        os.close(w)
        pipes.append((pid, r))
    total = Done()
    for pid, r in pipes:
        with os.fdopen(r, "rb") as f:
            said = f.read()
        status = os.waitpid(pid, 0)[1]
        # Who writes to a mapping that another process cuts off dies of it.
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGBUS:
            continue
        if status != 0:
            raise RuntimeError("a process of the generator failed")
        total.add(*ast.literal_eval(said.decode()))
    return total


def main():
    a = argparse.ArgumentParser(description="do again what a trace says")
    a.add_argument("--replay", metavar="TRACE", required=True)
    a.add_argument("source", metavar="SOURCE", help="a directory as the source was at the start: an empty one, unless the run began with something")
    a.add_argument("outside", metavar="OUTSIDE", help="an empty directory on the same file system")
    args = a.parse_args()
    how_many, other = replay(args.replay, args.source, args.outside)
    print("%d operations, %d of them with another outcome than in the trace" % (how_many, other))


if __name__ == "__main__":
    main()
