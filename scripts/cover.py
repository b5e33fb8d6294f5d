#!/usr/bin/env python3
"""What the tests reach of the product: lines and branches of core/, transports/ and config/.

cover.py run BUILD [TEST...]   builds program and tests with clang's counters below BUILD, runs the tests (all that run
                               something of the product, or those whose names contain a TEST), and reports
cover.py report BUILD          reports what the last run reached
cover.py lines BUILD FILE...   these files' lines that no test reached, as LINE: TEXT

The report: a table of directories, the files with the most lines that are not reached, and the whole; it fails below
85 % of lines (COVER_LEAST). COVER_FILES: how many files are shown (25; 0: all).

Counters are in shared maps of files (clang's continuous mode), so that those of a process count that is killed, or
that may no longer open a file, as workers and sessions.
"""
import json
import os
import re
import shutil
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# What runs the product; of integration/ all but those that are about how it is built, and build it with flags of their own.
KINDS = ("unit/", "property/", "contract/", "fuzz/")
APART = ("install.py", "package.py")
SOURCES = ("core", "transports", "config")


def places(build):
    """Where what is run stands (tests/run puts it there), its counters, and all of them together."""
    return os.path.join(build, "asan"), os.path.join(build, "counters"), os.path.join(build, "merged.profdata")


def words(build):
    """make's, of a program that counts."""
    flags = ("-O1 -g -fprofile-instr-generate=%s/%%c%%m.profraw -fcoverage-mapping -mllvm -runtime-counter-relocation "
             "-Wno-unused-command-line-argument")
    return ["CC=clang", "CFLAGS=" + flags % places(build)[1], "LDFLAGS=-fprofile-instr-generate"]


def tests():
    scripts = sorted(f for f in os.listdir("tests/integration") if f.endswith((".py", ".sh")) and f not in APART)
    return list(KINDS) + ["integration/" + f for f in scripts]


def run(build, names):
    """The exit status of the tests."""
    program, counters, _ = places(build)
    shutil.rmtree(counters, ignore_errors=True)
    os.makedirs(counters)
    subprocess.run(["make", "-j%d" % (os.cpu_count() or 1), "BUILD=" + program] + words(build) + ["all"], check=True)
    # Tests run it as other users, too: they may neither make the file nor, but for this, write to it.
    subprocess.run([os.path.join(program, "fansyncd"), "--version"], check=True, stdout=subprocess.DEVNULL)
    for name in os.listdir(counters):
        os.chmod(os.path.join(counters, name), 0o666)
    # What a corpus reaches counts; what its mutations reach by chance does not.
    env = dict(os.environ, TEST_BUILD=build, TEST_WORDS="\n".join(words(build)), FUZZ_ROUNDS="0")
    return subprocess.run(["tests/run"] + (names or tests()), check=False, env=env).returncode


def merge(build):
    program, counters, merged = places(build)
    raw = [os.path.join(counters, f) for f in sorted(os.listdir(counters)) if f.endswith(".profraw")]
    if not raw:
        sys.exit("%s: nothing was run yet: make cover" % counters)
    # Of a process that ended while it made its file nothing is lost but that.
    subprocess.run(["llvm-profdata", "merge", "-sparse", "-failure-mode=all", "-o", merged] + raw, check=True)
    return os.path.join(program, "fansyncd"), merged


def exported(build, *more):
    program, merged = merge(build)
    out = subprocess.run(["llvm-cov", "export", "-instr-profile", merged, *more, program] + list(SOURCES), check=True,
                         stdout=subprocess.PIPE).stdout
    return json.loads(out)["data"][0]["files"]


def share(covered, count):
    return 100.0 * covered / count if count else 100.0


def row(name, of):
    """A line of the table; the number of lines, and of those that were reached."""
    sums = [sum(f["summary"][kind][what] for f in of) for kind in ("lines", "branches") for what in ("count", "covered")]
    print("%-34s %6d lines  %5.1f %%   %6d branches  %5.1f %%" % (
        name, sums[0], share(sums[1], sums[0]), sums[2], share(sums[3], sums[2])))
    return sums[0], sums[1]


def missing(f):
    return f["summary"]["lines"]["count"] - f["summary"]["lines"]["covered"]


def report(build):
    files = exported(build, "-summary-only")
    for f in files:
        f["filename"] = os.path.relpath(f["filename"], TOP)
    shown = int(os.environ.get("COVER_FILES", "25")) or len(files)
    print("\nwith the most lines that no test reached:")
    for f in sorted(files, key=missing, reverse=True)[:shown]:
        row(f["filename"], [f])
    print()
    for place in SOURCES:
        row(place + "/", [f for f in files if f["filename"].startswith(place + "/")])
    count, covered = row("all", files)
    least = float(os.environ.get("COVER_LEAST", "85"))
    if share(covered, count) < least:
        sys.exit("below %g %% of lines" % least)


def lines(build, names):
    program, merged = merge(build)
    for name in names:
        text = subprocess.run(["llvm-cov", "show", "-instr-profile", merged, program, name], check=True,
                              stdout=subprocess.PIPE).stdout.decode("utf-8", "replace")
        for m in re.finditer(r"^ +(\d+)\| +0\|(.*)$", text, re.M):
            print("%s:%s: %s" % (name, m.group(1), m.group(2)))


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in ("run", "report", "lines"):
        sys.exit(__doc__)
    build, os.environ["LC_ALL"] = os.path.abspath(sys.argv[2]), "C.UTF-8"
    os.chdir(TOP)
    if sys.argv[1] == "lines":
        lines(build, sys.argv[3:])
        return
    status = run(build, sys.argv[3:]) if sys.argv[1] == "run" else 0
    report(build)
    sys.exit(status)


main()
