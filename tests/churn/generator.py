"""Seeded random operations of all kinds on a real tree, in several processes at once: what a mirror has to follow.

A seed gives each process the same operations in the same order; what they meet depends on who is faster, so a failing seed is run again
some times. TRACE=FILE keeps what was done, an operation a line, for the search after a failure.
"""
import ast
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


class Process:
    """One process's operations. `outside` is a directory on the same file system, for what is moved in and out."""

    def __init__(self, root, outside, seed, extras=(), pool=12):
        self.root, self.outside = os.fsencode(root), os.fsencode(outside)
        self.random = random.Random(seed)
        # All processes of a run have the same names, or they would never meet.
        self.names = names(random.Random(seed // 1000), pool)
        self.extras = set(extras)
        self.count = seed % 1000 * 10 ** 6
        self.trace = open(os.environ["TRACE"], "ab", buffering=0) if "TRACE" in os.environ else None
        self.said = []
        self.root_user = os.geteuid() == 0
        self.operations = [op for op in self.TABLE if op[2] is None or op[2] in self.extras]

    # ---- what to work on ----

    def path(self):
        r = self.random
        return self.tell(os.path.join(self.root, *[r.choice(self.names) for _ in range(r.choice([1, 1, 2, 2, 3, 4]))]))

    def tell(self, path):
        self.said.append(path)
        return path

    def one_name(self):
        """A path that is no further name of a file. A write through a name that is gone before anybody looks leaves the file's other
        names behind: a limit that the README states."""
        p = self.path()
        try:
            if os.stat(p).st_nlink > 1 and not os.path.isdir(p):
                raise PermissionError(p)
        except FileNotFoundError:
            pass
        return p

    def existing(self, kind=stat.S_ISREG):
        """Something of that kind that is there: random paths rarely are."""
        found = []
        for base, dirs, files in os.walk(self.root):
            found += [os.path.join(base, n) for n in dirs + files]
            if len(found) > 300:
                break
        self.random.shuffle(found)
        for p in found[:40]:
            try:
                st = os.lstat(p)
            except OSError:
                continue
            if kind(st.st_mode) and (stat.S_ISDIR(st.st_mode) or st.st_nlink == 1):
                return self.tell(p)
        raise FileNotFoundError(errno.ENOENT, "nothing of that kind")

    def content(self):
        self.count += 1
        return (b"%d " % self.count) * self.random.choice([1, 1, 2, 50, 4000])

    # ---- content ----

    def write(self):
        with opened(self.one_name(), "wb") as f:
            f.write(self.content())

    def append(self):
        with opened(self.one_name(), "ab") as f:
            f.write(self.content())

    def rewrite_in_place(self):
        self.count += 1
        with opened(self.existing(), "r+b") as f:
            f.write(b"%06d" % (self.count % 10 ** 6))

    def write_direct(self):
        self.count += 1
        fd = os.open(self.one_name(), os.O_WRONLY | os.O_CREAT | os.O_DIRECT | os.O_NONBLOCK, 0o644)
        try:
            with mmap.mmap(-1, 8192) as aligned:
                aligned.write((b"%8d" % self.count) * 1024)
                os.write(fd, aligned)
        finally:
            os.close(fd)

    def write_mmap(self):
        """Through a mapping, and a close after it: mmap by itself is reported by no kernel (README, limits)."""
        self.count += 1
        fd = os.open(self.existing(), os.O_RDWR)
        try:
            os.ftruncate(fd, max(os.fstat(fd).st_size, 4096))
            with mmap.mmap(fd, 4096) as m:
                m[:8] = b"%8d" % (self.count % 10 ** 8)
        finally:
            os.close(fd)

    def replace(self):
        p = self.path()
        temp = os.path.join(os.path.dirname(p), b"tmp%d" % self.random.randrange(3))
        with opened(temp, "wb") as f:
            f.write(self.content())
        os.rename(temp, p)

    def truncate(self):
        # By a descriptor: truncate(2) of a path ends with no close, and the kernel tells of nothing else (README, limits).
        with opened(self.existing(), "r+b") as f:
            f.truncate(self.random.choice([0, 1, 9, 5000, 70000]))

    def write_holes(self):
        with opened(self.one_name(), "wb") as f:
            for _ in range(3):
                f.seek(self.random.randrange(0, 1 << 20, 4096))
                f.write(self.content()[:4096])
            f.truncate(1 << 20)

    def punch(self):
        fd = os.open(self.existing(), os.O_RDWR)
        try:
            checked(libc.fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE,
                                   ctypes.c_long(self.random.randrange(0, 65536, 4096)), ctypes.c_long(8192)))
        finally:
            os.close(fd)

    def tmpfile(self):
        """A file that gets its name when it is whole."""
        p = self.path()
        fd = os.open(os.path.dirname(p), os.O_TMPFILE | os.O_WRONLY, 0o640)
        try:
            os.write(fd, self.content())
            checked(libc.linkat(AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, p, AT_SYMLINK_FOLLOW))
        finally:
            os.close(fd)

    # ---- attributes ----

    def chmod(self):
        p = self.existing(lambda mode: stat.S_ISREG(mode) or stat.S_ISDIR(mode))
        modes = [0o755, 0o700, 0o750] if os.path.isdir(p) else [0o644, 0o600, 0o400, 0o755, 0o666]
        if self.root_user:
            modes += [0o1777, 0o500, 0o2755] if os.path.isdir(p) else [0o4755, 0o000, 0o2711]
        os.chmod(p, self.random.choice(modes))

    def utime(self):
        """With a close behind it: a time alone is reported as a write under way (README, limits)."""
        fd = os.open(self.existing(), os.O_WRONLY)
        os.utime(fd, ns=(1, self.random.randrange(2 * 10 ** 18)))
        os.close(fd)

    def chown(self):
        os.chown(self.existing(lambda mode: not stat.S_ISDIR(mode) or self.random.random() < .5), self.random.choice([0, 1, 65534]),
                 self.random.choice([0, 2, 65534]), follow_symlinks=False)

    def xattr(self):
        p = self.existing(lambda mode: stat.S_ISREG(mode) or stat.S_ISDIR(mode))
        name = self.random.choice(["user.a", "user.some name", "user." + "n" * 200])
        if self.random.random() < .3:
            os.removexattr(p, name)
        else:
            os.setxattr(p, name, self.content()[:self.random.choice([0, 10, 900])])

    def acl(self):
        p = self.existing(lambda mode: stat.S_ISREG(mode) or stat.S_ISDIR(mode))
        value = acl((1, 6, 0xffffffff), (2, self.random.randrange(8), 65534), (4, 4, 0xffffffff), (16, 7, 0xffffffff), (32, 0, 0xffffffff))
        os.setxattr(p, "system.posix_acl_default" if os.path.isdir(p) and self.random.random() < .3 else "system.posix_acl_access", value)

    # ---- names ----

    def mkdir(self):
        os.mkdir(self.path())

    def makedirs(self):
        p = self.path()
        os.makedirs(p, exist_ok=True)
        with opened(os.path.join(p, b"deep"), "wb") as f:
            f.write(self.content())

    def rmdir(self):
        os.rmdir(self.existing(stat.S_ISDIR))

    def unlink(self):
        os.unlink(self.existing(lambda mode: not stat.S_ISDIR(mode)))

    def rename(self):
        os.rename(self.path(), self.path())

    def rename_file(self):
        os.rename(self.existing(), self.path())

    def rename_over(self):
        os.rename(self.existing(), self.existing())

    def rename_dir(self):
        os.rename(self.existing(stat.S_ISDIR), self.path())

    def rename_noreplace(self):
        renameat2(self.existing(lambda mode: True), self.path(), RENAME_NOREPLACE)

    def exchange(self):
        renameat2(self.existing(lambda mode: True), self.existing(lambda mode: True), RENAME_EXCHANGE)

    def chain(self):
        a, b, c = self.existing(lambda mode: True), self.path(), self.path()
        os.rename(a, b)
        os.rename(b, c)

    def rm_tree(self):
        shutil.rmtree(self.existing(stat.S_ISDIR))

    def recreate(self):
        p = self.existing(stat.S_ISDIR)
        shutil.rmtree(p)
        os.mkdir(p)
        os.rename(p, self.path())

    def other_kind(self):
        """What was a file is a directory, and the reverse."""
        p = self.existing(lambda mode: True)
        if os.path.isdir(p) and not os.path.islink(p):
            shutil.rmtree(p)
            with opened(p, "wb") as f:
                f.write(self.content())
        else:
            os.unlink(p)
            os.mkdir(p)

    def symlink(self):
        # Writes go through symlinks: they must lead nowhere outside.
        os.symlink(self.random.choice([b"nowhere", b"a", b"b/c", b"/nonexistent/file", b"\xfe", b"l" * 1000]), self.path())

    def link(self):
        os.link(self.existing(), self.path(), follow_symlinks=False)

    def fifo(self):
        os.mkfifo(self.path(), 0o640)

    def socket(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(self.path())

    def node(self):
        os.mknod(self.path(), 0o600 | self.random.choice([stat.S_IFCHR, stat.S_IFBLK]), os.makedev(1, self.random.choice([3, 5])))

    def out(self):
        os.rename(self.existing(lambda mode: True), os.path.join(self.outside, b"%d" % self.random.randrange(4)))

    def into(self):
        os.rename(os.path.join(self.outside, b"%d" % self.random.randrange(4)), self.path())

    def deep(self):
        """Beyond PATH_MAX, by directory descriptors."""
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for i in range(self.random.choice([3, 18, 22])):
                name = b"%s%03d" % (b"deep " * 48, i)
                try:
                    os.mkdir(name, dir_fd=fd)
                except FileExistsError:
                    pass
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = below
            file = os.open(b"f%d" % self.random.randrange(3), os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=fd)
            os.write(file, self.content()[:100])
            os.close(file)
        finally:
            os.close(fd)

    # (operation, how often, the extra that it needs)
    TABLE = (
        (write, 12, None), (append, 5, None), (rewrite_in_place, 6, None), (write_direct, 2, None), (write_mmap, 2, None),
        (replace, 8, None), (truncate, 3, None), (write_holes, 1, "sparse"), (punch, 1, "sparse"), (tmpfile, 3, None),
        (chmod, 4, None), (utime, 2, None), (chown, 2, "owners"), (xattr, 3, "xattrs"), (acl, 2, "acls"),
        (mkdir, 6, None), (makedirs, 5, None), (rmdir, 2, None), (unlink, 7, None), (rename, 3, None), (rename_file, 4, None),
        (rename_over, 3, None), (rename_dir, 4, None), (rename_noreplace, 1, None), (exchange, 2, None), (chain, 2, None),
        (rm_tree, 1, None), (recreate, 1, None), (other_kind, 2, None), (symlink, 3, None), (link, 2, "hard_links"),
        (fifo, 1, "specials"), (socket, 1, "specials"), (node, 1, "devices"), (out, 2, None), (into, 3, None), (deep, 1, "deep"))

    def step(self):
        op = self.random.choices(self.operations, [o[1] for o in self.operations])[0][0]
        self.said = []
        try:
            op(self)
            done = True
        except (OSError, shutil.Error, ValueError):  # ValueError: a file that is shorter than its mapping, by now
            done = False
        if self.trace:
            self.trace.write(b"%d %s %s %r\n" % (time.monotonic_ns(), op.__name__.encode(), b"ok" if done else b"-",
                                                 [os.path.relpath(p, self.root) for p in self.said]))
        return op.__name__ if done else None

    def run(self, seconds):
        """Until the time is over. How often each operation took effect."""
        end = time.monotonic() + seconds
        done = {}
        while time.monotonic() < end:
            name = self.step()
            if name:
                done[name] = done.get(name, 0) + 1
        return done


def run(root, outside, seed, seconds, processes=3, extras=()):
    """That many processes at once. How often each operation took effect, in all."""
    os.makedirs(outside, exist_ok=True)
    pipes = []
    for i in range(processes):
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(r)
                done = Process(root, outside, seed * 1000 + i, extras).run(seconds)
                os.write(w, repr(done).encode())
                status = 0
            except Exception:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        os.close(w)
        pipes.append((pid, r))
    total = {}
    for pid, r in pipes:
        with os.fdopen(r, "rb") as f:
            said = f.read()
        status = os.waitpid(pid, 0)[1]
        # Who writes to a mapping that another process cuts off dies of it.
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGBUS:
            continue
        if status != 0:
            raise RuntimeError("a process of the generator failed")
        for name, n in ast.literal_eval(said.decode()).items():
            total[name] = total.get(name, 0) + n
    return total
