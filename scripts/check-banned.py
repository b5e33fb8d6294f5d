#!/usr/bin/env python3
"""Refuses calls that have no safe use here, waits by time in tests, words of unfinished work, and paths of a machine."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import c_text  # noqa: E402

BANNED = {
    "strcpy": "core/buf.h", "strcat": "core/buf.h", "stpcpy": "core/buf.h", "strncpy": "core/buf.h",
    "strncat": "core/buf.h", "sprintf": "snprintf", "vsprintf": "vsnprintf", "strtok": "strcspn",
    "atoi": "strtol with its errors", "atol": "strtol with its errors", "atof": "strtod with its errors",
    "system": "core/proc.h", "popen": "core/proc.h", "alloca": "malloc", "select": "core/loop.h", "gets": "fgets",
    "mktemp": "mkostemp", "tmpnam": "mkostemp", "readdir_r": "readdir", "vfork": "core/proc.h",
    # without a form that closes on exec
    "creat": "open with O_CLOEXEC", "pipe": "pipe2 with O_CLOEXEC", "dup": "fcntl F_DUPFD_CLOEXEC",
    "accept": "accept4 with SOCK_CLOEXEC", "epoll_create": "epoll_create1", "inotify_init": "inotify_init1",
    "mkstemp": "mkostemp with O_CLOEXEC",
}
# Call -> the flag that its arguments must contain.
CLOEXEC = {
    "open": "O_CLOEXEC", "openat": "O_CLOEXEC", "open64": "O_CLOEXEC", "open_by_handle_at": "O_CLOEXEC",
    "pipe2": "O_CLOEXEC", "mkostemp": "O_CLOEXEC", "mkostemps": "O_CLOEXEC", "socket": "SOCK_CLOEXEC",
    "socketpair": "SOCK_CLOEXEC", "accept4": "SOCK_CLOEXEC", "epoll_create1": "EPOLL_CLOEXEC",
    "inotify_init1": "IN_CLOEXEC", "fanotify_init": "FAN_CLOEXEC", "signalfd": "SFD_CLOEXEC",
    "timerfd_create": "TFD_CLOEXEC", "eventfd": "EFD_CLOEXEC", "memfd_create": "MFD_CLOEXEC",
}
# Where a process may end: the composition root; a child between fork and exec uses _exit.
EXIT_ALLOWED = ("core/main.c",)
PURE_BANNED = ("fopen", "printf", "fprintf", "puts", "time", "clock_gettime", "getenv", "perror")

CALL = re.compile(r"(?<![\w.>])([A-Za-z_]\w*)\s*\(")
UNFINISHED = re.compile(r"\b(T" r"ODO|F" r"IXME|X" r"XX|H" r"ACK|st" r"ubs?|not im" r"plemented|unim" r"plemented)\b")
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(wo" r"rk|fa" r"rm)/|bash_" r"jobs")
SLEEP_C = ("sleep", "usleep", "nanosleep", "clock_nanosleep")
SLEEP_SCRIPT = re.compile(r"(?:^|[;&|(\s.])(u?sleep)\s*[(\s$0-9]")
ASSET = ("LICENSE",)


def arguments(text, at):
    """The text between the parenthesis at `at` and the one that closes it."""
    depth = 0
    for i in range(at, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return text[at + 1:i]
    return text[at + 1:]


def is_declaration(text, start):
    """Whether what stands before the name makes it a declaration or a member: `int (*open)(...)`, `int socket(...)`."""
    before = text[max(0, start - 200):start].rstrip(" \t")
    word = re.search(r"(\w+)[\s*]*$", before)
    return bool(word) and word.group(1) not in ("return", "else", "do", "case") and not before.endswith(
        (";", "{", "}", "(", ")", "=", ",", "&", "|", "!", "?", ":", "<", ">", "+", "-"))


def check_c(path):
    text = c_text.strip(c_text.read(path))
    product = not path.startswith("tests/")
    # A flag may stand in a macro or variable beside the call: `flags` then must be made with it somewhere in the file.
    for m in CALL.finditer(text):
        name, line = m.group(1), text.count("\n", 0, m.start()) + 1
        if is_declaration(text, m.start()):
            continue
        if not product:
            if name in SLEEP_C:
                yield line, "%s: wait for the fact instead" % name
            continue
        if name in BANNED:
            yield line, "%s: use %s" % (name, BANNED[name])
        elif name == "exit" and path not in EXIT_ALLOWED:
            yield line, "exit outside %s" % EXIT_ALLOWED[0]
        elif c_text.is_pure(path) and name in PURE_BANNED:
            yield line, "%s in a pure module" % name
        elif name in CLOEXEC:
            args = arguments(text, m.end() - 1)
            named = [w for w in re.findall(r"\b[A-Za-z_]\w*\b", args) if re.search(r"flags|FLAGS", w)]
            via = any(re.search(r"\b%s\b[^;\n]*\b%s\b" % (w, CLOEXEC[name]), text) for w in named)
            if CLOEXEC[name] not in args and not via:
                yield line, "%s without %s" % (name, CLOEXEC[name])


def check_text(path, text):
    for number, line in enumerate(text.split("\n"), 1):
        if path not in ASSET and UNFINISHED.search(line):
            yield number, "unfinished: " + UNFINISHED.search(line).group(0)
        if MACHINE_PATH.search(line):
            yield number, "a path of one machine: " + MACHINE_PATH.search(line).group(0)
        code = re.sub(r"(^|\s)#.*", "", line)
        if path.startswith("tests/") and not path.endswith((".c", ".h", ".md")) and SLEEP_SCRIPT.search(code):
            yield number, "sleep in a test: wait for the fact instead"


def tracked():
    """All files that are or would be committed; corpora are data."""
    try:
        out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=c_text.TOP, check=True,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        names = out.decode("utf-8", "surrogateescape").split("\0")
    except (OSError, subprocess.CalledProcessError):  # a release archive, or another owner's checkout
        names = c_text.sources("core", "transports", "config", "tests", "scripts", "docs", ".ci", suffixes=("",))
        names += ["Makefile", "README.md"]
    return sorted(n for n in set(names) if n and "/corpus/" not in n and os.path.isfile(os.path.join(c_text.TOP, n)))


def main():
    bad = 0
    for path in tracked():
        text = c_text.read(path)
        if "\0" in text:
            continue
        found = list(check_text(path, text))
        if path.endswith((".c", ".h")):
            found += check_c(path)
        for line, what in sorted(found):
            print("%s:%d: %s" % (path, line, what))
            bad = 1
    return bad


if __name__ == "__main__":
    sys.exit(main())
