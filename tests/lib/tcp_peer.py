"""The tcp transport's protocol (docs/PROTOCOL.md) spoken in plaintext over loopback, by either end: for tests of what a peer
may not do. Written from that page alone, so it also shows that the page is complete. Stored records out, all kinds in (zstd's
only where the feature was agreed on).
"""
import ctypes
import select
import socket
import stat
import struct
import time
import zlib

MAGIC = 0x31636e7973616e66
(PING, HELLO, WELCOME, REFUSE, BYE) = range(1, 6)
(WORK, RENAME, ITEM, KEEP, NAME) = range(16, 21)
(ACK, FOUND, PROGRESS, DONE, NOTE, MOVED, CONFLICT) = range(32, 39)
(LOOK, LIST, READLINK, XATTRS, DIGEST, OPEN, RESTAT, READ, CLOSE, CREDIT, HASHES, SIGNATURE, AGREED, UNLESS) = range(48, 62)
(ANSWER, LISTING, OPENED, DATA, HOLE, COPY, END, SIGN, FINER, SAME) = range(64, 74)
APPLY, RECONCILE = 1, 2
ABSENT, DIR, FILE, SYMLINK, OTHER = range(1, 6)
OK, GONE = 0, 2
ZSTD, FEATURE_FINER, FEATURE_PARTS, FEATURE_BOOT = 16, 32, 512, 2048
LINKS, TIMES, PERMS, OWNER, GROUP, DEVICES, SPECIALS, HARD_LINKS = (1 << n for n in (0, 1, 2, 3, 4, 5, 6, 9))
FLAGS = LINKS | TIMES | PERMS | SPECIALS | HARD_LINKS | 1 << 16
FORMAT = {DIR: stat.S_IFDIR, FILE: stat.S_IFREG, SYMLINK: stat.S_IFLNK, OTHER: stat.S_IFIFO}


class Ended(Exception):
    """The other end closed the connection; `why` is the error of its REFUSE or BYE, if it said one."""


class Digest(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def digest(content):
    f = ctypes.CDLL("libxxhash.so.0").XXH3_128bits
    f.restype, f.argtypes = Digest, [ctypes.c_char_p, ctypes.c_size_t]
    d = f(content, len(content))
    return struct.pack(">QQ", d.high, d.low)


class Span(ctypes.Structure):
    """ZSTD_inBuffer and ZSTD_outBuffer."""
    _fields_ = [("p", ctypes.c_char_p), ("size", ctypes.c_size_t), ("pos", ctypes.c_size_t)]


class Zstd:
    """libzstd's streams, one direction each."""

    def __init__(self, window=21, level=3):
        self.lib = z = ctypes.CDLL("libzstd.so.1")
        for f in (z.ZSTD_createDCtx, z.ZSTD_createCCtx):
            f.restype = ctypes.c_void_p
        z.ZSTD_decompressStream.restype = z.ZSTD_compressStream2.restype = ctypes.c_size_t
        z.ZSTD_getErrorName.restype = ctypes.c_char_p
        self.d, self.c = (ctypes.c_void_p(p) for p in (z.ZSTD_createDCtx(), z.ZSTD_createCCtx()))
        z.ZSTD_DCtx_setParameter(self.d, 100, 21)  # ZSTD_d_windowLogMax
        z.ZSTD_CCtx_setParameter(self.c, 100, level)
        z.ZSTD_CCtx_setParameter(self.c, 101, window)

    def __del__(self):
        self.lib.ZSTD_freeDCtx(self.d)
        self.lib.ZSTD_freeCCtx(self.c)

    def _run(self, step, data):
        got, out = b"", ctypes.create_string_buffer(1 << 18)
        given = Span(data, len(data), 0)
        while True:
            taken = Span(ctypes.cast(out, ctypes.c_char_p), len(out), 0)
            left = step(ctypes.byref(taken), ctypes.byref(given))
            if self.lib.ZSTD_isError(ctypes.c_size_t(left)):
                raise AssertionError(self.lib.ZSTD_getErrorName(ctypes.c_size_t(left)))
            got += out.raw[:taken.pos]
            if given.pos == given.size and taken.pos < taken.size:
                return got

    def compress(self, data, end=False):
        """Flushed; with `end` the frame is over."""
        return self._run(lambda o, i: self.lib.ZSTD_compressStream2(self.c, o, i, 2 if end else 1), data)

    def decompress(self, data):
        return self._run(lambda o, i: self.lib.ZSTD_decompressStream(self.d, o, i), data)


def block_hash(content):
    f = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
    f.restype, f.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]
    return f(content, len(content))


def counted(b):
    b = b if isinstance(b, bytes) else b.encode(errors="surrogateescape")
    return struct.pack("<I", len(b)) + b


def error(code=0, text="", number=0):
    return struct.pack("<B", code) + (struct.pack("<I", number) + counted(text) if code else b"")


def state(kind, size=0, mtime=10 ** 9, mode=0o644, links=None, uid=0, gid=0, ctime=None):
    """links: (count, device, inode) of what has several names. ctime: as mtime in seconds."""
    if kind == ABSENT:
        return b"\1"
    fields = (1 if ctime else 0) | (2 if links else 0)
    return (struct.pack("<BBIIIQqI", kind, fields, FORMAT[kind] | mode, uid, gid, size, mtime, 0)
            + (struct.pack("<qI", ctime, 0) if ctime else b"") + (struct.pack("<IQQ", *links) if links else b""))


def listing_digest(fields, entries):
    """entries: (name, kind, content or text, more of the state), one name each."""
    out = b""
    for name, kind, content, more in sorted(entries):
        bits = more.get("mode", 0o644) if fields & 1 and kind != SYMLINK else 0
        out += struct.pack("<IIII", len(name), FORMAT[kind] | bits, more.get("uid", 0) if fields & 2 else 0, more.get("gid", 0) if fields & 4 else 0)
        if kind in (FILE, SYMLINK):
            out += struct.pack("<Q", len(content))
        if kind not in (DIR, SYMLINK) or fields & (8 if kind == DIR else 16):
            out += struct.pack("<qI", more.get("mtime", 10 ** 9), 0)
        if fields & 32 and kind != DIR:
            out += b"\0"
        out += name + (content if kind == SYMLINK else b"")
    return digest(out)


def option(key, value):
    return struct.pack("<B", key) + counted(value)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values[0] if len(values) == 1 else values

    def bytes(self):
        n = self.take("I")
        self.at += n
        return self.data[self.at - n:self.at]

    def error(self):
        code = self.take("B")
        return (code, self.take("I"), self.bytes()) if code else (0, 0, b"")

    def state(self):
        kind = self.take("B")
        if kind == ABSENT:
            return {"kind": ABSENT}
        fields, mode, uid, gid, size, mtime, nanos = self.take("BIIIQqI")
        found = {"kind": kind, "mode": mode, "uid": uid, "gid": gid, "size": size, "mtime": mtime * 10 ** 9 + nanos}
        if fields & 1:
            found["ctime"] = self.take("qI")
        if fields & 2:
            found["links"] = self.take("IQQ")
        if fields & 4:
            found["rdev"] = self.take("Q")
        return found


class Connection:
    """Records and frames, of either end."""

    def __init__(self, sock):
        self.sock = sock
        self.wire = self.plain = b""
        self.inflate = zlib.decompressobj(-15)
        self.deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        self.zstd = None  # a Zstd, when records of its kind may come
        self.packs = 0  # the kind that `frame` makes
        self.kinds = {}  # of the records that came: how many
        self.why = None

    def raw(self, data):
        try:
            self.sock.sendall(data)
        except OSError as e:
            raise Ended(str(e))

    def record(self, body, kind=0):
        self.raw(struct.pack("<I", kind << 30 | len(body)) + body)

    def frame(self, kind, payload=b""):
        data = struct.pack("<IB", len(payload), kind) + payload
        for at in range(0, len(data), 65536):
            piece = data[at:at + 65536]
            if self.packs == 1:
                piece = (self.deflate.compress(piece) + self.deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
            elif self.packs == 2:
                piece = self.zstd.compress(piece)
            self.record(piece, self.packs)

    def more(self, seconds):
        waits = select.poll()  # select() knows descriptors below 1024 only
        waits.register(self.sock, select.POLLIN)
        if not waits.poll(max(0, seconds) * 1000):
            return False
        try:
            data = self.sock.recv(1 << 16)
        except OSError as e:
            raise Ended(str(e))
        if not data:
            raise Ended("closed")
        self.wire += data
        while len(self.wire) >= 4:
            head = struct.unpack_from("<I", self.wire)[0]
            kind, n = head >> 30, head & 0x3fffffff
            if kind > (2 if self.zstd else 1) or not 1 <= n <= 163840:
                raise AssertionError("a record of kind %d and %d bytes" % (kind, n))
            if len(self.wire) < 4 + n:
                break
            body, self.wire = self.wire[4:4 + n], self.wire[4 + n:]
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            if kind == 1:
                body = self.inflate.decompress(body + b"\0\0\xff\xff")
            elif kind == 2:
                body = self.zstd.decompress(body)
            self.plain += body
        return True

    def next(self, seconds=20):
        """The next frame: (type, Reader); None when none came in time. PINGs are left out."""
        end = time.monotonic() + seconds
        while True:
            if len(self.plain) >= 5:
                n, kind = struct.unpack_from("<IB", self.plain)
                if n > 131072:
                    raise AssertionError("a frame of %d bytes" % n)
                if len(self.plain) >= 5 + n:
                    r = Reader(self.plain[5:5 + n])
                    self.plain = self.plain[5 + n:]
                    if kind in (REFUSE, BYE):
                        self.why = r.error()
                    if kind != PING:
                        return kind, r
                    continue
            if not self.more(max(0, end - time.monotonic())):
                return None

    def ended(self, seconds=20):
        """Whether the other end closes within that time, whatever else it says."""
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                if self.next(max(0.01, end - time.monotonic())) is None:
                    return False
        except Ended:
            return True
        return False

    def close(self):
        self.sock.close()


class Sender(Connection):
    """A sender's end, connected to a receiver. Its tree is `entries`: path -> (kind, content or text, more of the state)."""

    def __init__(self, port, host="127.0.0.1", local="127.0.0.1", plain=True):
        super().__init__(socket.create_connection((host, port), 20, source_address=(local, 0)))
        self.entries, self.files, self.xattrs = {}, {}, {}
        self.works = self.sequence = 0
        self.verdicts = {}
        # both ways: what it has archived (kind, size, ns, attributes), what it was told
        self.archive, self.notes, self.conflicts = {}, {}, []
        if plain:
            self.raw(b"P")

    def hello(self, module="web", flags=FLAGS, options=b"", versions=(1, 1), features=0, sync="test", host=b"h" * 16):
        self.frame(HELLO, struct.pack("<QHHI", MAGIC, *versions, features) + host + counted("a test") + counted(module)
                   + counted(sync) + counted(option(1, struct.pack("<Q", flags)) + options))

    def greet(self, **how):
        self.zstd = Zstd() if how.get("features", 0) & ZSTD else None
        self.hello(**how)
        got = self.next()
        if got is None or got[0] != WELCOME:
            raise Ended("refused: %s" % (self.why,))
        r = got[1]
        _, self.features = r.take("HI")
        r.take("16s"), r.bytes(), r.take("I")
        self.credit, self.changes = r.take("QI")
        return self

    def add(self, path, kind=FILE, content=b"", **more):
        self.entries[path if isinstance(path, bytes) else path.encode()] = (kind, content, more)

    def state_of(self, path):
        kind, content, more = self.entries.get(path, (ABSENT, b"", {}))
        return state(kind, **dict({"size": len(content) if kind == FILE else 0}, **more))

    def item(self, path, inline=False, what=None, parts=None):
        path = path if isinstance(path, bytes) else path.encode()
        kind, content, _ = self.entries.get(path, (ABSENT, b"", {}))
        if parts is None and path in self.archive:
            parts = b"\1" + self.archived(path)
        if parts is None:
            parts = (struct.pack("<B", 4) + digest(content) + counted(content) if inline and kind == FILE else
                     struct.pack("<B", 2) + counted(content) if inline and kind == SYMLINK else b"\0")
        self.frame(ITEM, counted(path) + struct.pack("<II", 3, 0) + (what or self.state_of(path)) + parts)

    def rename(self, a, b, is_dir=False):
        self.frame(RENAME, counted(a) + counted(b) + struct.pack("<B", is_dir))

    def work(self, items, renames=(), kind=APPLY, delete=True, most=-1, inline=False, continues=False):
        """A work from its beginning to its end. Returns the verdicts that are not done: index -> (verdict, error)."""
        self.begin(len(items), len(renames), kind, delete, most, continues=continues)
        for r in renames:
            self.rename(*r)
        for path in items:
            self.item(path, inline)
        return self.serve()

    def begin(self, items, renames=0, kind=APPLY, delete=True, most=-1, keeps=0, continues=False):
        self.works += 1
        self.first = self.sequence + 1
        self.sequence += items + renames
        self.frame(WORK, struct.pack("<QQBBqIII", self.works, self.first, kind, delete | continues << 1, most, renames, items, keeps))

    def serve(self, seconds=20):
        """Answer what is asked until DONE."""
        end = time.monotonic() + seconds
        self.verdicts = {}
        while True:
            got = self.next(max(0.01, end - time.monotonic()))
            if got is None:
                raise AssertionError("no end of the work")
            if got[0] == DONE:
                self.deleted = got[1].take("QQQQQ")[4]
                return self.verdicts
            if got[0] in (REFUSE, BYE):
                raise Ended("ended: %s" % (self.why,))
            self.take(*got)

    def take(self, kind, r):
        if kind == ACK:
            r.take("Q")
            for _ in range(r.take("I")):
                number, verdict = r.take("QB")
                self.verdicts[number - self.first] = (verdict, r.error())
        elif kind == NOTE:
            for _ in range(r.take("I")):
                path = r.bytes()
                self.notes[path] = r.take("BqqQ")
        elif kind == CONFLICT:
            self.conflicts.append(r.bytes())
        elif kind == AGREED:
            request, path = r.take("I"), r.bytes()
            self.frame(ANSWER, struct.pack("<IB", request, OK) + error() + self.archived(path))
        elif kind in (LOOK, READLINK, XATTRS, DIGEST, OPEN):
            self.question(kind, r.take("I"), r.bytes())
        elif kind == LIST:
            self.listing(r.take("I"), r.bytes())
        elif kind == UNLESS:
            fields = r.take("I")
            while r.at < len(r.data):
                self.unless(fields, r.take("I"), r.bytes(), r.take("16s"))
        elif kind == RESTAT:
            request, file = r.take("II")
            self.frame(ANSWER, struct.pack("<IB", request, OK) + error() + self.state_of(self.files[file]))
        elif kind == READ:
            self.content(*r.take("IQQ"))

    def archived(self, path):
        return struct.pack("<BqqQ", *self.archive.get(path, (ABSENT, 0, 0, 0)))

    def question(self, kind, request, path):
        known, content, _ = self.entries.get(path, (ABSENT, b"", {}))
        reply = OPENED if kind == OPEN else ANSWER
        head = struct.pack("<IB", request, OK) + error()
        if known == ABSENT:
            self.frame(reply, struct.pack("<IB", request, GONE) + error())
        elif kind == LOOK:
            self.frame(ANSWER, head + self.state_of(path))
        elif kind == READLINK:
            self.frame(ANSWER, head + counted(content))
        elif kind == XATTRS:
            its = self.xattrs.get(path, {})
            self.frame(ANSWER, head + counted(b"".join(counted(n) + counted(its[n]) for n in sorted(its))))
        elif kind == DIGEST:
            self.frame(ANSWER, head + digest(content) + struct.pack("<Q", len(content)))
        else:
            file = len(self.files) + 1
            self.files[file] = path
            self.frame(OPENED, head + struct.pack("<I", file) + self.state_of(path) + struct.pack("<BI", 0, 0))

    def names_in(self, path):
        below = path + b"/" if path else b""
        return below, [p[len(below):] for p in self.entries if p.startswith(below) and p != path and b"/" not in p[len(below):]]

    def unless(self, fields, request, path, its):
        """The sender answers truly; tests have others."""
        below, names = self.names_in(path)
        ours = listing_digest(fields, [(n,) + self.entries[below + n] for n in names])
        self.asked = getattr(self, "asked", []) + [(path, ours == its)]
        if ours == its:
            self.frame(SAME, struct.pack("<I", request))
        else:
            self.listing(request, path)

    def listing(self, request, path):
        below, names = self.names_in(path)
        self.frame(LISTING, struct.pack("<IB", request, OK) + error() + struct.pack("<BI", 1, len(names))
                   + b"".join(counted(n) + self.state_of(below + n) + b"\0" for n in names))

    def content(self, file, start, end):
        path = self.files[file]
        content = self.entries[path][1]
        for at in range(start, min(end, len(content)), 32768):
            self.frame(DATA, struct.pack("<IQ", file, at) + content[at:at + 32768])
        self.frame(END, struct.pack("<IB", file, OK) + error() + struct.pack("<Q", len(content)) + digest(content)
                   + self.state_of(path))


class FakeReceiver:
    """A receiver's end that senders connect to: `accept` gives the next connection, greeted."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(30)
        self.port = self.listener.getsockname()[1]

    def accept(self, credit=4 << 20, changes=4096, version=1, features=1, refuse=None, host=b"r" * 16, root=(1, 2), boot=b"b" * 16):
        """`refuse`: the answer is a REFUSE with these words. `boot` is told with that feature."""
        c = Connection(self.listener.accept()[0])
        data = c.sock.recv(1)
        if data != b"P":
            raise AssertionError("no plaintext: %r" % data)
        got = c.next()
        if got is None or got[0] != HELLO:
            raise AssertionError("no HELLO")
        if refuse:
            c.frame(REFUSE, error(9, refuse))
            return c
        c.offered = got[1].take("QHHI")[3]
        features &= c.offered
        c.frame(WELCOME, struct.pack("<HI", version, features) + host + counted("a test")
                + struct.pack("<IQIQQ", 63, credit, changes, *root) + (boot if features & FEATURE_BOOT else b""))
        c.zstd = Zstd() if c.offered & features & ZSTD else None
        return c

    def close(self):
        self.listener.close()


def carry(c, seconds=30):
    """A receiver's end that does nothing, and says it has: the next work from its beginning to its end, (kind, paths of its items)."""
    while True:
        kind, r = c.next(seconds)
        if kind == WORK:
            work, first, what = r.take("QQB")
            r.take("Bq")
            renames, left, _ = r.take("III")
            paths = []
        elif kind == ITEM:
            paths.append(r.bytes().decode())
            left -= 1
        if kind in (WORK, ITEM) and left == 0:
            c.frame(ACK, struct.pack("<QI", first + renames + len(paths) - 1, 0))
            c.frame(DONE, struct.pack("<QQQQQ", work, 0, 0, 0, 0))
            return what, paths


def ask(c, kind, request, path, more=b""):
    """A question of a receiver's end; the answer (type, result, Reader behind the error), all else is passed over."""
    c.frame(kind, struct.pack("<I", request) + counted(path) + more)
    while True:
        got = c.next()
        if got is None:
            raise AssertionError("no answer")
        if got[0] in (ANSWER, LISTING, OPENED) and got[1].take("I") == request:
            result = got[1].take("B")
            got[1].error()
            return got[0], result, got[1]
