"""C text for the checks: the sources of the tree, and their text without comments and strings."""
import os
import re

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Modules of core/ that do no I/O and get the clock as an argument; changeset_renames.c is as pure as changeset.c.
PURE = ("batch", "buf", "changeset", "err", "failures", "filter", "guard", "intake", "keep", "marks", "path", "policy",
        "tunnel_state", "twoway", "wire")

TOKEN = re.compile(
    r'//(?:\\\n|[^\n])*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def sources(*dirs, suffixes=(".c", ".h")):
    """Paths relative to the top, sorted."""
    found = []
    for d in dirs:
        for path, subdirs, names in os.walk(os.path.join(TOP, d)):
            subdirs[:] = [s for s in subdirs if s != "corpus"]
            found += [os.path.relpath(os.path.join(path, n), TOP) for n in names if n.endswith(suffixes)]
    return sorted(found)


def is_pure(path):
    module = os.path.splitext(os.path.basename(path))[0]
    return path.startswith("core/") and any(module == p or module.startswith(p + "_") for p in PURE)


def read(path):
    with open(os.path.join(TOP, path), encoding="utf-8", errors="surrogateescape") as f:
        return f.read()


def blank(match):
    """A comment or literal as blanks, line breaks kept; quotes stay, so that an argument is still seen."""
    text = match.group(0)
    body = "".join(c if c == "\n" else " " for c in text)
    return text[0] + body[1:-1] + text[-1] if text[0] in "\"'" else body


def strip(text, keep_strings=False):
    if keep_strings:
        return TOKEN.sub(lambda m: m.group(0) if m.group(0)[0] in "\"'" else blank(m), text)
    return TOKEN.sub(blank, text)


def includes(path):
    """(line number, name as written with its quotes or brackets) of each #include."""
    out = []
    for number, line in enumerate(strip(read(path), keep_strings=True).split("\n"), 1):
        m = re.match(r'\s*#\s*include\s*([<"][^>"]+[>"])', line)
        if m:
            out.append((number, m.group(1)))
    return out
