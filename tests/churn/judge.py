"""Whether two trees are equal: names, types, content, modes, owners, times, link groups, extended attributes, holes.

It shares no code with what is judged: Python's standard library alone, by directory descriptors, so that paths of any length are seen.
"""
import errno
import hashlib
import os
import stat

BLOCK = 1 << 20
# File systems allocate in pieces of their own (XFS ahead of what is written), and deltas have blocks, of which two may touch: so much may be filled in
# all, and so much at each end of a hole.
HOLE_SLACK = 256 * 1024
HOLE_EDGE = 256 * 1024


def content(name, dir_fd):
    digest = hashlib.blake2b()
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=dir_fd)
    with os.fdopen(fd, "rb") as f:
        for block in iter(lambda: f.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def holes(name, dir_fd, size):
    """[start, end) of each, as SEEK_HOLE and SEEK_DATA tell them."""
    found, at = [], 0
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=dir_fd)
    try:
        # What XFS allocated ahead of a write that did not come is data to SEEK_DATA while somebody's read of it is in the page cache.
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        while at < size:
            start = os.lseek(fd, at, os.SEEK_HOLE)
            if start >= size:
                break
            try:
                at = os.lseek(fd, start, os.SEEK_DATA)
            except OSError as e:
                if e.errno != errno.ENXIO:
                    raise
                at = size
            found.append((start, at))
    finally:
        os.close(fd)
    return found


def filled(at_source, at_target):
    """Of the source's holes what is none at the target: [start, end) of each piece, without the edges. That zeros are a hole at the
    target is all right."""
    pieces = []
    for start, end in at_source:
        at, end = start + HOLE_EDGE, end - HOLE_EDGE
        for a, b in at_target:
            if b <= at or a >= end:
                continue
            if a > at:
                pieces.append((at, a))
            at = b
        if at < end:
            pieces.append((at, end))
    return pieces


def attributes(name, dir_fd):
    """Those that are mirrored: user.* and ACLs."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=dir_fd)
    try:
        return {n: os.getxattr(fd, n) for n in sorted(os.listxattr(fd)) if n.startswith(("user.", "system.posix_acl"))}
    finally:
        os.close(fd)


def facts(name, dir_fd, wanted):
    st = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    kind = stat.S_IFMT(st.st_mode)
    out = {"kind": oct(kind)}
    if "untimed" not in wanted:
        out["mtime"] = st.st_mtime_ns // 10 ** 9 if "seconds" in wanted else st.st_mtime_ns
    if kind != stat.S_IFLNK:
        out["mode"] = oct(st.st_mode & 0o7777)
    if "owners" in wanted:
        out["owner"] = (st.st_uid, st.st_gid)
    if kind == stat.S_IFREG:
        out["size"] = st.st_size
        if "sparse" in wanted:
            out["allocated"] = st.st_blocks * 512
            if st.st_size > 2 * HOLE_EDGE:
                out["holes"] = holes(name, dir_fd, st.st_size)
        out["content"] = content(name, dir_fd)
    elif kind == stat.S_IFLNK:
        out["text"] = os.readlink(name, dir_fd=dir_fd)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        out["device"] = (os.major(st.st_rdev), os.minor(st.st_rdev))
    if ("xattrs" in wanted or "acls" in wanted) and kind in (stat.S_IFREG, stat.S_IFDIR):
        out["xattrs"] = attributes(name, dir_fd)
    if kind != stat.S_IFDIR and st.st_nlink > 1 and "hard_links" in wanted:
        out["inode"] = (st.st_dev, st.st_ino)
    return out


def tree(root, wanted=(), leave_out=()):
    """relative path -> facts, the root's own below b''."""
    result = {}

    def walk(fd, path):
        for name in os.listdir(fd):
            name = os.fsencode(name)
            if name in leave_out:
                continue
            below = path + b"/" + name if path else name
            f = result[below] = facts(name, fd, wanted)
            if f["kind"] == oct(stat.S_IFDIR):
                child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                try:
                    walk(child, below)
                finally:
                    os.close(child)

    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        result[b""] = facts(b".", top, wanted)
        walk(top, b"")
    finally:
        os.close(top)
    return result


def groups(entries):
    """Inodes replaced by the first of the names that have it: what two trees can have in common."""
    first = {}
    for path in sorted(entries):
        inode = entries[path].pop("inode", None)
        if inode is not None:
            entries[path]["linked to"] = first.setdefault(inode, path)
    # A group of one name: the others are outside.
    names = [f["linked to"] for f in entries.values() if "linked to" in f]
    for f in entries.values():
        if "linked to" in f and names.count(f["linked to"]) == 1:
            del f["linked to"]
    return entries


def shown(value):
    text = repr(value)
    return text if len(text) < 160 else text[:120] + "..." + text[-30:]


def compare(source, target, wanted=(), leave_out=(), limit=12):
    """The differences, as lines; none: equal. `wanted`: "owners", "xattrs", "acls", "hard_links", "sparse" to compare those as well, "seconds" to compare times by whole
    seconds, "untimed" not to compare them. `limit`: so many lines at the most; None: all."""
    a, b = groups(tree(source, wanted, leave_out)), groups(tree(target, wanted, leave_out))
    found = []
    for path in sorted(set(a) | set(b)):
        x, y = a.get(path), b.get(path)
        if x is None or y is None:
            found.append("%s: only at the %s, %s" % (shown(path), "target" if x is None else "source", shown(y if x is None else x)))
            continue
        allocated = x.pop("allocated", 0), y.pop("allocated", 0)
        if allocated[1] > max(allocated[0], x.get("size", 0) // 2) + HOLE_SLACK:
            found.append("%s: holes were filled: %d bytes are allocated, of %d at the source" % (shown(path), allocated[1], allocated[0]))
        maps = x.pop("holes", ()), y.pop("holes", ())
        if x.get("size") == y.get("size") and filled(*maps):
            found.append("%s: holes were filled: %s; at the source %s, at the target %s" % ((shown(path), filled(*maps)) + maps))
        differs = sorted(k for k in set(x) | set(y) if x.get(k) != y.get(k))
        if differs:
            found.append("%s: %s" % (shown(path), "; ".join("%s %s, at the target %s" % (k, shown(x.get(k)), shown(y.get(k))) for k in differs)))
    return shortened(found, limit)


def shortened(found, limit=12):
    return found if limit is None or len(found) <= limit else found[:limit] + ["and %d more" % (len(found) - limit)]
