"""Measuring what somebody else does: processes' CPU time and memory, and the instant at which a target is equal.

Nothing here asks the measured program anything: it is the same ruler for all of them, and it costs them little.
"""

import ctypes
import os
import select
import struct
import threading
import time

TICK = os.sysconf("SC_CLK_TCK")


class NotEqual(Exception):
    pass


def pause(seconds):
    select.select([], [], [], seconds)


def descendants(pid):
    """A process and all below it."""
    found = [pid]
    for parent in found:
        try:
            with open("/proc/%d/task/%d/children" % (parent, parent)) as f:
                found.extend(int(child) for child in f.read().split())
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def cpu_of(pid):
    """Seconds of a process and of its children that have ended (and theirs)."""
    try:
        with open("/proc/%d/stat" % pid, errors="replace") as f:
            fields = f.read().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(t) for t in fields[11:15]) / TICK


def pss_of(pid):
    """KiB, every shared page divided by who shares it."""
    try:
        with open("/proc/%d/smaps_rollup" % pid) as f:
            for line in f:
                if line.startswith("Pss:"):
                    return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass
    return 0


class Meter:
    """CPU time and peak memory of trees of processes, while `with` lasts. Memory is looked at every 100 ms: in all
    processes, and in those that stay (without the rsync and ssh processes that come and go with the work)."""

    PASSING = ("rsync", "ssh", "sleep")

    def __init__(self, pids):
        self.pids = pids
        self.cpu = 0.0
        self.peak_kib = self.peak_resident_kib = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _cpu(self):
        return sum(cpu_of(pid) for root in self.pids for pid in descendants(root))

    def _look(self):
        total = resident = 0
        for pid in [pid for root in self.pids for pid in descendants(root)]:
            pss = pss_of(pid)
            total += pss
            try:
                with open("/proc/%d/comm" % pid) as f:
                    resident += 0 if f.read().startswith(self.PASSING) else pss
            except (FileNotFoundError, ProcessLookupError):
                pass
        self.peak_kib = max(self.peak_kib, total)
        self.peak_resident_kib = max(self.peak_resident_kib, resident)

    def _sample(self):
        while not self._end.wait(0.1):
            self._look()

    def __enter__(self):
        self._before = self._cpu()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()
        self._look()
        self.cpu = self._cpu() - self._before


def used_inodes(path):
    st = os.statvfs(path)
    return st.f_files - st.f_ffree


class Tree:
    """What a source holds, in a form that is quickly compared with a target: each directory's names and time (in
     whole seconds: plain rsync keeps no more of them)."""

    def __init__(self, root, name=""):
        """`name`: which the root itself will have in a target, where it is an entry, too."""
        self.dirs = []  # (relative path, names, mtime)
        self.entries = 1 if name else 0
        todo = [""]
        for path in todo:
            at = os.path.join(root, path)
            with os.scandir(at) as entries:
                names = set()
                for e in entries:
                    names.add(e.name)
                    if e.is_dir(follow_symlinks=False):
                        todo.append(os.path.join(path, e.name))
            self.entries += len(names)
            self.dirs.append((os.path.join(name, path), names, int(os.stat(at).st_mtime)))

    def missing(self, target):
        """What is not there yet: names, and directories that have not got their time."""
        names, dirs = [], []
        for path, wanted, mtime in self.dirs:
            at = os.path.join(target, path)
            try:
                found = set(os.listdir(at))
            except FileNotFoundError:
                found = set()
            if found != wanted:
                names.extend(os.path.join(at, name) for name in wanted - found)
            try:
                if int(os.stat(at).st_mtime) != mtime:
                    dirs.append((at, mtime))
            except FileNotFoundError:
                dirs.append((at, mtime))
        return names, dirs


def has_time(path, mtime):
    try:
        return int(os.stat(path).st_mtime) == mtime
    except FileNotFoundError:
        return False


class Arrival:
    """Waits until targets hold what a source holds. All targets are on one file system with nothing else on it: how
    many inodes it uses says for one system call whether it is worth looking closer. The rest is polling of those names
    only that were still missing (rsync writes under another name and renames), and of directories' times."""

    def __init__(self, file_system, targets):
        self.file_system = file_system
        self.targets = targets
        self.before = used_inodes(file_system)

    def wait(self, tree, seconds):
        """-> the instant of time.perf_counter() at which all was there; and directories that never got their time."""
        expected = self.before + tree.entries * len(self.targets)
        end = time.perf_counter() + seconds
        while used_inodes(self.file_system) < expected:
            if time.perf_counter() > end:
                raise NotEqual("%d of %d inodes are missing" % (expected - used_inodes(self.file_system), expected))
            pause(0.004)
        return self._look_closer(tree, end)

    def _look_closer(self, tree, end):
        instant = time.perf_counter()
        names, dirs = [], []
        for target in self.targets:
            missing = tree.missing(target)
            names += missing[0]
            dirs += missing[1]
        for name in names:
            while not os.path.lexists(name):
                if time.perf_counter() > end:
                    raise NotEqual("%d names missing, e.g. %s" % (len(names), name))
                pause(0.0005)
            instant = time.perf_counter()
        times_end = time.perf_counter() + 5
        while dirs and time.perf_counter() < times_end:
            dirs = [d for d in dirs if not has_time(*d)]
            if not dirs:
                return time.perf_counter(), 0
            pause(0.001)
        return instant, len(dirs)


def verify(source, target, tick_ns=1):
    """Content, size and time of each file; raises NotEqual."""
    for at, dirs, files in os.walk(source):
        there = os.path.join(target, os.path.relpath(at, source))
        if set(os.listdir(there)) != set(dirs + files):
            raise NotEqual("other names in %s" % there)
        for name in files:
            a, b = os.path.join(at, name), os.path.join(there, name)
            x, y = os.stat(a), os.stat(b)
            if (x.st_size, x.st_mtime_ns // tick_ns, x.st_mode) != (y.st_size, y.st_mtime_ns // tick_ns, y.st_mode):
                raise NotEqual("%s is not as %s" % (b, a))
            with open(a, "rb") as f, open(b, "rb") as g:
                if f.read() != g.read():
                    raise NotEqual("%s has other content" % b)


class Doorbell:
    """inotify on one directory of a target: the instant at which a file there has its content."""

    IN_CLOSE_WRITE, IN_MOVED_TO = 0x8, 0x80

    def __init__(self, directory):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0 or libc.inotify_add_watch(self.fd, os.fsencode(directory), self.IN_CLOSE_WRITE | self.IN_MOVED_TO) < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        self.directory = directory

    def wait(self, name, content, seconds):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            if not select.select([self.fd], [], [], max(0, end - time.perf_counter()))[0]:
                break
            instant = time.perf_counter()
            if name in self._names() and self._has(name, content):
                return instant
        raise NotEqual("%s/%s did not come" % (self.directory, name))

    def wait_name(self, name, seconds):
        end = time.perf_counter() + seconds
        while select.select([self.fd], [], [], max(0, end - time.perf_counter()))[0]:
            instant = time.perf_counter()
            if name in self._names():
                return instant
        raise NotEqual("%s/%s did not come" % (self.directory, name))

    def _names(self):
        data, at, names = os.read(self.fd, 65536), 0, set()
        while at < len(data):
            _, _, _, n = struct.unpack_from("iIII", data, at)
            names.add(data[at + 16:at + 16 + n].rstrip(b"\0").decode(errors="replace"))
            at += 16 + n
        return names

    def _has(self, name, content):
        try:
            with open(os.path.join(self.directory, name), "rb") as f:
                return f.read() == content
        except FileNotFoundError:
            return False

    def close(self):
        os.close(self.fd)
