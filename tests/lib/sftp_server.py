#!/usr/bin/env python3
"""An SFTP server of the tests' own on standard input and output: a small one that works, and the same with bad manners.

sftp_server.py MODE[,MODE...] [ANYTHING...]: what follows is ignored, so that a script that runs it can stand for ssh.
A MODE is a bad manner (the methods bad_*) or a fact about the server:
  plain         no extension at all
  without=WORD  not the extension WORD@openssh.com
  noattrs       listings without attributes
  refuse=WORD   what has WORD in its name is refused: permission denied
  full=WORD     writes to it fail, and statvfs says that no space is left
  handles=N     no more than N open at once, as limits@openssh.com says
  disorder      replies of one round are given in another order
  log=FILE      a line a request
"""
import errno
import os
import random
import struct
import sys

INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT, OPENDIR, READDIR, REMOVE, MKDIR, RMDIR = range(1, 16)
REALPATH, STAT, RENAME, READLINK, SYMLINK = range(16, 21)
STATUS, HANDLE, DATA, NAME, ATTRS = range(101, 106)
EXTENDED, EXTENDED_REPLY = 200, 201
NAMES = {v: k.lower() for k, v in list(globals().items()) if isinstance(v, int) and k.isupper()}
OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE = range(6)
UNSUPPORTED = 8


def u32(n):
    return struct.pack(">I", n & 0xffffffff)


def u64(n):
    return struct.pack(">Q", n)


def text(b):
    return u32(len(b)) + b


def attributes(st):
    return u32(15) + u64(st.st_size) + u32(st.st_uid) + u32(st.st_gid) + u32(st.st_mode) + u32(int(st.st_atime)) + u32(int(st.st_mtime))


class Body:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        self.at += n
        return self.data[self.at - n:self.at]

    def u32(self):
        return struct.unpack(">I", self.take(4))[0]

    def u64(self):
        return struct.unpack(">Q", self.take(8))[0]

    def text(self):
        return self.take(self.u32())

    def attributes(self):
        flags = self.u32()
        a = {}
        if flags & 1:
            a["size"] = self.u64()
        if flags & 2:
            a["owner"] = (self.u32(), self.u32())
        if flags & 4:
            a["mode"] = self.u32() & 0o7777
        if flags & 8:
            a["times"] = (self.u32(), self.u32())
        return a


class Server:
    def __init__(self, modes):
        self.modes = dict(m.partition("=")[::2] for m in modes)
        self.handles = {}
        self.counter = 0
        self.out = []
        self.endless = b""
        self.log = open(self.modes["log"], "a") if "log" in self.modes else None
        self.random = random.Random(1)

    # ---- replies ----

    def reply(self, kind, ident, body):
        p = bytes([kind]) + u32(ident) + body
        self.out.append(u32(len(p)) + p)

    def status(self, ident, code, words=b""):
        self.reply(STATUS, ident, u32(code) + text(words or {0: b"Success", 1: b"End of file", 4: b"Failure"}.get(code, b"No")) + text(b"en"))

    def error(self, ident, e):
        code = {errno.ENOENT: NO_SUCH_FILE, errno.ENOTDIR: NO_SUCH_FILE, errno.EACCES: PERMISSION_DENIED,
                errno.EPERM: PERMISSION_DENIED}.get(e.errno, FAILURE)
        self.status(ident, code)

    def handle(self, ident, what):
        if len(self.handles) >= int(self.modes.get("handles", 1 << 30)):
            if what[1] >= 0:
                os.close(what[1])
            return self.status(ident, FAILURE, b"too many handles")
        self.counter += 1
        name = b"h%d" % self.counter
        self.handles[name] = what
        return self.reply(HANDLE, ident, text(name))

    # ---- requests ----

    def refused(self, path):
        return "refuse" in self.modes and self.modes["refuse"].encode() in path

    def full(self, path):
        return "full" in self.modes and self.modes["full"].encode() in path

    def do_open(self, ident, b):
        path, flags = b.text(), b.u32()
        if self.refused(path):
            return self.status(ident, PERMISSION_DENIED, b"not here, \x1b[31mnot now")
        mode = {1: os.O_RDONLY, 2: os.O_WRONLY, 3: os.O_RDWR}[flags & 3]
        mode |= (os.O_CREAT if flags & 8 else 0) | (os.O_TRUNC if flags & 16 else 0) | (os.O_EXCL if flags & 32 else 0)
        fd = os.open(path, mode | os.O_CLOEXEC, b.attributes().get("mode", 0o644))
        return self.handle(ident, [path, fd])

    def do_close(self, ident, b):
        what = self.handles.pop(b.text())
        if what[1] >= 0:
            os.close(what[1])
        self.status(ident, OK)

    def do_read(self, ident, b):
        fd, offset, n = self.handles[b.text()][1], b.u64(), b.u32()
        data = os.pread(fd, min(n, 20000), offset)  # short reads are allowed
        if data:
            self.reply(DATA, ident, text(data))
        else:
            self.status(ident, EOF)

    def do_write(self, ident, b):
        what, offset, data = self.handles[b.text()], b.u64(), b.text()
        if self.full(what[0]):
            return self.status(ident, FAILURE)
        os.pwrite(what[1], data, offset)
        return self.status(ident, OK)

    def do_lstat(self, ident, b):
        self.reply(ATTRS, ident, attributes(os.lstat(b.text())))

    def do_stat(self, ident, b):
        self.reply(ATTRS, ident, attributes(os.stat(b.text())))

    def do_fstat(self, ident, b):
        self.reply(ATTRS, ident, attributes(os.fstat(self.handles[b.text()][1])))

    def set(self, ident, what, a, follow=True):
        if "size" in a:
            os.truncate(what, a["size"])
        for key, call in (("mode", os.chmod), ("times", os.utime), ("owner", os.chown)):
            if key in a and not (key == "mode" and not follow and os.path.islink(what)):
                args = a[key] if key == "owner" else (a[key],)
                call(what, *args, **({} if follow or key == "mode" else {"follow_symlinks": False}))
        self.status(ident, OK)

    def do_setstat(self, ident, b):
        self.set(ident, b.text(), b.attributes())

    def do_fsetstat(self, ident, b):
        self.set(ident, self.handles[b.text()][1], b.attributes())

    def do_opendir(self, ident, b):
        path = b.text()
        self.handle(ident, [path, -1, sorted(os.listdir(path)) + [b".", b".."]])

    def do_readdir(self, ident, b):
        what = self.handles[b.text()]
        if not what[2]:
            return self.status(ident, EOF)
        names, what[2] = what[2][:40], what[2][40:]
        body = u32(len(names))
        for name in names:
            body += text(name) + text(b"long " + name)
            body += u32(0) if "noattrs" in self.modes else attributes(os.lstat(os.path.join(what[0], name)))
        return self.reply(NAME, ident, body)

    def do_remove(self, ident, b):
        os.unlink(b.text())
        self.status(ident, OK)

    def do_mkdir(self, ident, b):
        path = b.text()
        if self.refused(path):
            return self.status(ident, PERMISSION_DENIED)
        os.mkdir(path, b.attributes().get("mode", 0o777))
        return self.status(ident, OK)

    def do_rmdir(self, ident, b):
        os.rmdir(b.text())
        self.status(ident, OK)

    def do_realpath(self, ident, b):
        self.reply(NAME, ident, u32(1) + text(os.path.realpath(b.text())) + text(b"") + u32(0))

    def do_rename(self, ident, b):
        old, new = b.text(), b.text()
        if os.path.lexists(new):
            return self.status(ident, FAILURE, b"File exists")
        os.rename(old, new)
        return self.status(ident, OK)

    def do_readlink(self, ident, b):
        self.reply(NAME, ident, u32(1) + text(os.readlink(b.text())) + text(b"") + u32(0))

    def do_symlink(self, ident, b):
        os.symlink(b.text(), b.text())
        self.status(ident, OK)

    def do_extended(self, ident, b):
        name = b.text()
        if name == b"posix-rename@openssh.com":
            os.rename(b.text(), b.text())
        elif name == b"hardlink@openssh.com":
            os.link(b.text(), b.text())
        elif name == b"lsetstat@openssh.com":
            return self.set(ident, b.text(), b.attributes(), follow=False)
        elif name == b"statvfs@openssh.com":
            v = os.statvfs(b.text())
            free = 0 if "full" in self.modes else v.f_bavail
            return self.reply(EXTENDED_REPLY, ident, b"".join(map(u64, (
                v.f_bsize, v.f_frsize, v.f_blocks, v.f_bfree, free, v.f_files, v.f_ffree, v.f_favail, 0, 0, 255))))
        elif name == b"limits@openssh.com":
            return self.reply(EXTENDED_REPLY, ident, u64(0) * 3 + u64(int(self.modes["handles"])))
        else:
            return self.status(ident, UNSUPPORTED)
        return self.status(ident, OK)

    def version(self):
        body = b""
        if "plain" not in self.modes:
            for name, version in ((b"posix-rename@openssh.com", b"1"), (b"hardlink@openssh.com", b"1"),
                                  (b"lsetstat@openssh.com", b"1"), (b"statvfs@openssh.com", b"2")):
                if name != self.modes.get("without", "").encode() + b"@openssh.com":
                    body += text(name) + text(version)
        if "handles" in self.modes:
            body += text(b"limits@openssh.com") + text(b"1")
        self.reply(VERSION, 3, body)

    def serve_one(self, packet):
        kind, b = packet[0], Body(packet[5:])
        ident = struct.unpack(">I", packet[1:5])[0]
        if self.log:
            self.log.write("%s\n" % NAMES.get(kind, kind))
            self.log.flush()
        if kind == INIT:
            return self.version()
        for mode in self.modes:
            bad = getattr(self, "bad_" + mode, None)
            if bad and bad(kind, ident, b):
                return None
        b.at = 0
        try:
            return getattr(self, "do_" + NAMES[kind])(ident, b)
        except OSError as e:
            return self.error(ident, e)

    # ---- bad manners: true when the request is dealt with ----

    def bad_oversized(self, kind, ident, b):
        if kind == LSTAT:
            self.out.append(u32(0x7fffffff) + b"\x65" + u32(ident) + b"x" * 1000)
        return kind == LSTAT

    def bad_tiny(self, kind, ident, b):
        if kind == LSTAT:
            self.out.append(u32(3) + b"\x65\0\0")
        return kind == LSTAT

    def bad_stranger(self, kind, ident, b):
        if kind == LSTAT:
            self.reply(STATUS, ident ^ 0x5555, u32(0) + text(b"") + text(b""))
        return kind == LSTAT

    def bad_twice(self, kind, ident, b):
        if kind == LSTAT:
            self.status(ident, NO_SUCH_FILE)
            self.status(ident, NO_SUCH_FILE)
        return kind == LSTAT

    def bad_type(self, kind, ident, b):
        if kind in (LSTAT, OPENDIR, OPEN):
            self.reply(250, ident, b"whatever")
        return kind in (LSTAT, OPENDIR, OPEN)

    def bad_wrong(self, kind, ident, b):
        """A reply of another kind than the request asks for."""
        if kind in (OPENDIR, OPEN):
            self.reply(ATTRS, ident, attributes(os.lstat("/")))
        return kind in (OPENDIR, OPEN)

    def bad_handle(self, kind, ident, b):
        if kind == OPEN:
            self.reply(HANDLE, ident, text(b"h" * 257))
        return kind == OPEN

    def bad_count(self, kind, ident, b):
        if kind == READDIR:
            self.reply(NAME, ident, u32(0xffffffff) + text(b"a") + text(b"a") + u32(0))
        return kind == READDIR

    def bad_names(self, kind, ident, b):
        """Names that lead elsewhere."""
        what = self.handles.get(b.text()) if kind == READDIR else None
        if what and what[2]:
            st = os.lstat("/etc/passwd" if os.path.exists("/etc/passwd") else "/")
            names = [b"../outside", b"/etc/passwd", b"..", b"", b"a\0b", b"x" * 300, b"."]
            self.reply(NAME, ident, u32(len(names)) + b"".join(text(n) + text(b"") + attributes(st) for n in names))
            what[2] = []
            return True
        return False

    def bad_endless(self, kind, ident, b):
        """A directory without an end."""
        if kind == READDIR:
            if not self.endless:
                st = attributes(os.lstat("/"))
                self.endless = u32(8000) + b"".join(text(b"n%d" % i) + text(b"") + st for i in range(8000))
            self.reply(NAME, ident, self.endless)
        return kind == READDIR

    def bad_empty(self, kind, ident, b):
        if kind == READDIR:
            self.reply(NAME, ident, u32(0))
        return kind == READDIR

    def bad_silent(self, kind, ident, b):
        return kind in (OPENDIR, OPEN)

    def bad_quit(self, kind, ident, b):
        if kind in (OPENDIR, OPEN):
            sys.stderr.write("no more of this\n")
            os._exit(3)

    def bad_cut(self, kind, ident, b):
        """In the middle of a packet."""
        if kind == OPENDIR:
            self.out.append(u32(100) + b"\x66" + u32(ident))
            self.flush()
            os._exit(0)

    def bad_flood(self, kind, ident, b):
        """Replies that nobody asked for, without an end."""
        if kind == OPENDIR:
            while True:
                os.write(1, u32(9) + bytes([STATUS]) + u32(12345) + u32(0))
        return False

    # ---- the stream ----

    def flush(self):
        if "disorder" in self.modes:
            self.random.shuffle(self.out)
        data, self.out = b"".join(self.out), []
        while data:
            data = data[os.write(1, data):]

    def serve(self):
        if "banner" in self.modes:
            os.write(1, b"Welcome to this machine.\nHave a nice day.\n")
        pending = b""
        while True:
            data = os.read(0, 1 << 20)
            if not data:
                return
            pending += data
            while len(pending) >= 4:
                n = struct.unpack(">I", pending[:4])[0]
                if len(pending) < 4 + n:
                    break
                packet, pending = pending[4:4 + n], pending[4 + n:]
                self.serve_one(packet)
            self.flush()


if __name__ == "__main__":
    try:
        Server(sys.argv[1].split(",")).serve()
    except (BrokenPipeError, ConnectionResetError):
        pass
