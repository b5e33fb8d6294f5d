"""Where a measurement happens: two file systems of one kind, one of sources and one of targets, mounted where only the
bench and what it starts can see them, and a loopback on which nobody else sends. They go with the bench: nothing has to be unmounted, whatever becomes of it."""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
KINDS = ("tmpfs", "ext4")


def own_namespace():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWNET) != 0 or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        sys.exit("the bench mounts file systems of its own, in namespaces of its own: run it as root (%s)" %
                 os.strerror(ctypes.get_errno()))
    run("ip", "link", "set", "lo", "up")


def run(*argv):
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


class Place:
    """`root/source` and `root/target` are file systems, `root/keep` is for configurations, logs and sockets."""

    def __init__(self, kind, images, size_mib):
        self.kind = kind
        self.root = tempfile.mkdtemp(prefix="fansyncd-bench-%s." % kind)
        self.images = []
        self.mounted = []
        for name in ("keep", "source", "target"):
            os.mkdir(os.path.join(self.root, name))
        try:
            for name in ("source", "target"):
                self._mount(os.path.join(self.root, name), images, size_mib)
        except BaseException:
            self.close()
            raise

    def _mount(self, at, images, size_mib):
        if self.kind == "tmpfs":
            run("mount", "-t", "tmpfs", "-o", "size=%dm,nr_inodes=2m,mode=755" % size_mib, "none", at)
        else:
            fd, image = tempfile.mkstemp(prefix="fansyncd-bench.", suffix=".ext4", dir=images)
            self.images.append(image)
            os.ftruncate(fd, size_mib << 20)
            os.close(fd)
            # An inode for each 4 KiB: the trees are small files. The tables are made now, not by a thread meanwhile.
            run("mkfs.ext4", "-q", "-F", "-i", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
            run("mount", "-o", "loop,noatime", image, at)
        self.mounted.append(at)

    def source(self, name):
        return os.path.join(self.root, "source", name)

    def target(self, name):
        return os.path.join(self.root, "target", name)

    def keep(self, name):
        path = os.path.join(self.root, "keep", name)
        os.makedirs(path, exist_ok=True)
        return path

    def clear(self):
        """Empty both file systems: a repetition begins as the one before began."""
        for at in self.mounted:
            for name in os.listdir(at):
                if name != "lost+found":
                    shutil.rmtree(os.path.join(at, name))

    def close(self):
        for at in self.mounted:
            subprocess.run(["umount", "-l", at], check=False, stderr=subprocess.DEVNULL)
        for image in self.images:
            os.unlink(image)
        shutil.rmtree(self.root, ignore_errors=True)
