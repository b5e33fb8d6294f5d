"""A disk with a volatile write cache that can lose its power: a file served by FUSE from this process, below a loop device.

Whatever a file system submits is in the cache; a flush (which the loop driver makes an fsync of the file, forced unit access, too) puts all
that was answered before on the platter. `cut` gives an image as it would be after a power failure at that instant: what was flushed, and of
all later blocks of 4 KiB any, none or all, in each of their versions. What only the page cache holds of the file system above never got
here, so it is lost as well. (dm-log-writes shows the same, where the kernel has it.)
"""
import ctypes
import errno
import json
import mmap
import os
import random
import select
import signal
import socket
import struct
import sys
import traceback

from fansync import Failure

LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, DESTROY, \
    BATCH_FORGET = 1, 2, 3, 4, 14, 15, 16, 17, 18, 20, 25, 26, 27, 28, 29, 36, 38, 42
ROOT, IMAGE = 1, 2
NAME = b"image"
MAX_WRITE, MAX_PAGES = 1 << 20, 256
FLAGS = 1 | 1 << 5 | 1 << 22  # asynchronous reads, big writes, max_pages
FOPEN_DIRECT_IO = 1
BLOCK = 4096
PR_SET_PDEATHSIG = 1
FOREVER = 1 << 30
libc = ctypes.CDLL(None, use_errno=True)


def copy_sparse(src, dst):
    """What is data of one file descriptor's file, to an empty one."""
    size, at = os.fstat(src).st_size, 0
    os.ftruncate(dst, 0)
    os.ftruncate(dst, size)
    while at < size:
        try:
            at = os.lseek(src, at, os.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:
                break
            raise
        end = os.lseek(src, at, os.SEEK_HOLE)
        while at < end:
            at += os.pwrite(dst, os.pread(src, min(end - at, MAX_WRITE), at), at)


class Server:
    """Answers the kernel, and the test's orders that come by a socket, each a line of JSON."""

    def __init__(self, fuse, orders, image, seed):
        self.fuse, self.socket, self.orders, self.random = fuse, orders, orders.makefile("rwb"), random.Random(seed)
        # What is written through the descriptor of one is read by the other: pages of a tmpfs.
        self.size = os.path.getsize(image)
        self.current = os.open(image, os.O_RDWR)
        self.stable = os.open(image + ".stable", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        copy_sparse(self.current, self.stable)
        self.pending, self.flushes, self.writes, self.fail_flush = [], 0, 0, False
        self.buffer = mmap.mmap(-1, MAX_WRITE + (1 << 16))

    def attributes(self, node):
        mode, size = (0o40755, 0) if node == ROOT else (0o100600, self.size)
        return struct.pack("<QQQQQQIIIIIIIIII", node, size, (size + 511) // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, BLOCK, 0)

    def flush(self):
        for at, data in self.pending:
            os.pwrite(self.stable, data, at)
        self.pending.clear()
        self.flushes += 1

    def answer(self, op, node, body):
        """The payload of the reply; an int: an errno; None: no reply."""
        if op == INIT:
            return struct.pack("<IIIIHHIIHHIIHHIIIII", 7, 31, 1 << 20, FLAGS, 64, 48, MAX_WRITE, 1, MAX_PAGES, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)[:64]
        if op in (FORGET, BATCH_FORGET, INTERRUPT):
            return None
        if op == LOOKUP:
            if node != ROOT or body.rstrip(b"\0") != NAME:
                return errno.ENOENT
            return struct.pack("<QQQQII", IMAGE, 1, FOREVER, FOREVER, 0, 0) + self.attributes(IMAGE)
        if op == GETATTR:
            return struct.pack("<QII", FOREVER, 0, 0) + self.attributes(node)
        if op in (OPEN, OPENDIR):
            return struct.pack("<QIi", 0, FOPEN_DIRECT_IO if op == OPEN else 0, 0)
        if op == READ:
            _, at, size = struct.unpack_from("<QQI", body)
            return os.pread(self.current, size, at)
        if op == WRITE:
            _, at, size = struct.unpack_from("<QQI", body)
            data = body[40:40 + size]
            os.pwrite(self.current, data, at)
            self.pending.append((at, data))
            self.writes += 1
            return struct.pack("<II", size, 0)
        if op == FSYNC:
            if self.fail_flush:
                return errno.EIO
            self.flush()
            return b""
        if op in (FLUSH, RELEASE, RELEASEDIR, READDIR, DESTROY):
            return b""
        if op == STATFS:
            return struct.pack("<QQQQQIIII24x", self.size // BLOCK, 0, 0, 2, 0, BLOCK, 255, BLOCK, 0)
        return errno.ENOSYS

    def kernel(self):
        try:
            n = os.readv(self.fuse, [self.buffer])
        except OSError as e:
            return e.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT)  # ENOENT: it was interrupted before it was read
        _, op, unique, node = struct.unpack_from("<IIQQ", self.buffer)
        said = self.answer(op, node, self.buffer[40:n])
        if said is not None:
            fault, payload = (said, b"") if isinstance(said, int) else (0, said)
            try:
                os.writev(self.fuse, [struct.pack("<IiQ", 16 + len(payload), -fault, unique), payload])
            except OSError as e:
                if e.errno not in (errno.ENOENT, errno.ENODEV):
                    raise
        return True

    def cut(self, path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            copy_sparse(self.stable, fd)
            share, kept, blocks = self.random.choice((0, .1, .5, .9, 1)), 0, 0
            for at, data in self.pending:
                for i in range(0, len(data), BLOCK):
                    blocks += 1
                    if self.random.random() < share:
                        kept += 1
                        os.pwrite(fd, data[i:i + BLOCK], at + i)
        finally:
            os.close(fd)
        return {"blocks": blocks, "kept": kept, "flushes": self.flushes, "writes": self.writes}

    def install(self, path):
        """The disk is what it was at that cut; nobody uses it meanwhile."""
        fd = os.open(path, os.O_RDONLY)
        try:
            copy_sparse(fd, self.current)
            copy_sparse(fd, self.stable)
        finally:
            os.close(fd)
        self.pending.clear()
        return {}

    def order(self):
        line = self.orders.readline()
        if not line:
            return False
        what, argument = json.loads(line)
        if what == "fail_flush":
            self.fail_flush = argument
            said = {}
        else:
            said = {"cut": self.cut, "install": self.install}[what](argument)
        self.orders.write(json.dumps(said).encode() + b"\n")
        self.orders.flush()
        return True

    def run(self):
        poll = select.poll()
        poll.register(self.fuse, select.POLLIN)
        poll.register(self.socket, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if not (self.kernel() if fd == self.fuse else self.order()):
                    return


class CacheDisk:
    """The disk, by its image: a file, made by mkfs, that becomes the disk's memory. `path` is to be mounted with -o loop."""

    def __init__(self, place, image, seed):
        self.at = place
        os.makedirs(place)
        fuse = os.open("/dev/fuse", os.O_RDWR)
        options = "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % fuse
        if libc.mount(b"cachedisk", os.fsencode(place), b"fuse", 0, options.encode()) != 0:
            raise OSError(ctypes.get_errno(), "cannot mount FUSE: " + os.strerror(ctypes.get_errno()))
        mine, its = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                mine.close()
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                Server(fuse, its, image, seed).run()
                status = 0
            except Exception:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        its.close()
        os.close(fuse)
        self.orders, self.path = mine.makefile("rwb"), os.path.join(place, os.fsdecode(NAME))
        mine.close()

    def order(self, what, argument):
        self.orders.write(json.dumps([what, argument]).encode() + b"\n")
        self.orders.flush()
        line = self.orders.readline()
        if not line:
            raise Failure("the disk's process ended")
        return json.loads(line)

    def cut(self, path):
        """An image at `path`, as the disk would be after a power failure now."""
        return self.order("cut", path)

    def install(self, path):
        return self.order("install", path)

    def fail_flush(self, on):
        return self.order("fail_flush", on)

    def stop(self):
        libc.umount2(os.fsencode(self.at), 2)  # MNT_DETACH
        self.orders.close()
        os.waitpid(self.pid, 0)
