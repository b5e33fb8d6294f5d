#!/usr/bin/env python3
"""Enforces the direction of dependencies: which directory may include which, which file may see which library, and
which modules are pure (no I/O, no clock, no log), so that they can be tested by the million."""
import fnmatch
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import c_text  # noqa: E402

# The composition root sees all sides.
ROOT = ("core/main.c",)

MAY_INCLUDE = {
    "core": ("core/",),
    "transports": ("core/", "transports/"),
    "config": ("core/", "config/"),
}

# A library's headers appear in the files that exist for it and nowhere else.
LIBRARY = {
    "libconfig.h": ("config/*",),
    "sys/fanotify.h": ("core/watch_fanotify*",),
    "sys/inotify.h": ("core/watch_inotify*", "core/watch_links.c"),
    "libssh2*.h": ("transports/sftp*",),
    "zlib.h": ("transports/tcp*.c", "transports/receiver*.c", "transports/zstream*.c"),
    "zstd*.h": ("transports/zstream_zstd.c",),
    "openssl/*": ("transports/sftp_crypto.c", "transports/tcp*.c", "transports/receiver*.c", "transports/tls*.c"),
    "librsync.h": ("transports/delta.c",),
    "sqlite3.h": ("core/archive*.c",),
    "seccomp.h": ("core/confine.c", "core/web_confine.c"),
    "microhttpd.h": ("core/web*.c", "core/web_private.h"),
    "xxhash.h": ("transports/*.c",),
}

# Headers of these families are for the files of the family (and who is named); the rest of transports/ is shared.
FAMILIES = ("rsyncssh", "direct", "sftp", "tcp", "receiver", "null")
FAMILY_GUESTS = {"tcp": ("receiver",)}

PURE_SYSTEM = {
    "assert.h", "ctype.h", "errno.h", "inttypes.h", "limits.h", "stdalign.h", "stdarg.h", "stdbool.h", "stddef.h",
    "stdint.h", "stdio.h", "stdlib.h", "string.h", "sys/types.h", "sys/stat.h",
}
MACHINERY = {"core/%s.h" % m for m in ("clock", "control", "daemon", "fs", "log", "loop", "notify", "proc", "scan",
                                       "status", "sync", "watcher", "watch_backend", "worker")}


def family(path):
    name = os.path.splitext(os.path.basename(path))[0]
    for f in FAMILIES:
        if name == f or name.startswith(f + "_"):
            return f
    return None


def reach(header, seen):
    """Every header of ours that this one brings along."""
    if header in seen or not os.path.exists(os.path.join(c_text.TOP, header)):
        return seen
    seen.add(header)
    for _, inc in c_text.includes(header):
        if inc[0] == '"':
            reach(inc[1:-1], seen)
    return seen


def check_own(path, inc):
    top = path.split("/")[0]
    if path in ROOT:
        return None
    if "/" not in inc:
        return "write the path from the top: \"%s/...\"" % top
    if not inc.startswith(MAY_INCLUDE[top]):
        return "%s/ includes %s only" % (top, " and ".join(MAY_INCLUDE[top]))
    theirs, ours = family(inc), family(path)
    if top == "transports" and theirs and ours != theirs and ours not in FAMILY_GUESTS.get(theirs, ()):
        if path != "transports/registry.c":
            return "a transport does not see another one"
    return None


def check_system(path, inc):
    for pattern, owners in LIBRARY.items():
        if fnmatch.fnmatch(inc, pattern) and not any(fnmatch.fnmatch(path, o) for o in owners):
            return "<%s> belongs in %s" % (inc, ", ".join(owners))
    return None


def check_pure(kind, inc):
    if kind == "<":
        return None if inc in PURE_SYSTEM else "pure module: no <%s>" % inc
    bad = sorted(reach(inc, set()) & MACHINERY)
    return "pure module: %s brings %s" % (inc, bad[0]) if bad else None


def main():
    bad = 0
    for path in c_text.sources("core", "transports", "config"):
        for line, quoted in c_text.includes(path):
            kind, inc = quoted[0], quoted[1:-1]
            found = [check_own(path, inc) if kind == '"' else check_system(path, inc)]
            if c_text.is_pure(path):
                found.append(check_pure(kind, inc))
            for text in filter(None, found):
                print("%s:%d: %s: %s" % (path, line, inc, text))
                bad = 1
        text = c_text.strip(c_text.read(path))
        for name in FAMILIES + ("rsync",):
            if path.startswith("core/") and path not in ROOT and ("transport_%s" % name) in text.split():
                print("%s: core/ names no concrete transport (transport_%s)" % (path, name))
                bad = 1
    return bad


if __name__ == "__main__":
    sys.exit(main())
