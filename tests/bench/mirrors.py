#!/usr/bin/env python3
"""fansyncd beside lsyncd, a loop of inotifywait and rsync, and plain rsync, in one run. Prints figures, asserts none.

usage: tests/bench/mirrors.py [--quick] [--native] [--tcp] [--row NAME]... [--fs tmpfs|ext4]... [--repeat N] [--images DIR]
                              [--json FILE] [--write FILE [--section NAME]]

Needs root (it mounts file systems in a namespace of its own). Without --row and --native all rows that compare with lsyncd, without
--fs both kinds. --images: where the ext4 image files are made; by default in memory (/dev/shm), so that no disk is measured. --quick:
smaller trees. --write: what is printed replaces what stands below the line "<!-- results -->" of that file (docs/BENCHMARKS.md), up to
the next such line or heading; with --section NAME that of "<!-- results NAME -->".
"""
import argparse
import os
import platform
import re
import signal
import subprocess
import sys
import time

os.environ.setdefault("FANSYNCD", os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../build/fansyncd"))
from lib import contenders, measure, native, network, places, report, rows  # noqa: E402


ROWS = {**native.ROWS, **network.ROWS}


def mark(section):
    return "<!-- results%s -->\n" % (" " + section if section else "")


class Tee:
    """Standard output, and a copy of it."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text
        sys.__stdout__.write(text)

    def flush(self):
        sys.__stdout__.flush()

    def put_into(self, path, section):
        with open(path) as f:
            head, old = f.read().split(mark(section), 1)
        after = re.search(r"^(## |<!-- results)", old, re.MULTILINE)
        with open(path, "w") as f:
            f.write(head + mark(section) + "\n" + self.text + ("\n" + old[after.start():] if after else ""))


def arguments():
    a = argparse.ArgumentParser(description="fansyncd beside lsyncd, an inotifywait loop and plain rsync")
    a.add_argument("--quick", action="store_true")
    a.add_argument("--row", action="append", choices=sorted(ROWS), help="only this row")
    a.add_argument("--fs", action="append", choices=places.KINDS, help="only this file system")
    a.add_argument("--only", action="append", help="only contenders of this name (plain rsync always)")
    a.add_argument("--repeat", type=int, help="repetitions, while a row's time lasts (5; 2 with --quick)")
    a.add_argument("--images", default="/dev/shm", help="where the ext4 images are made")
    a.add_argument("--write", help="put the results below the line '%s' of this file" % mark("").strip())
    a.add_argument("--section", default="", help="with --write: below that section's line")
    a.add_argument("--native", action="store_true", help="the native transports beside tar, scp, sftp and rsync, on tmpfs: four "
                   "minutes; --section native")
    a.add_argument("--tcp", action="store_true", help="the tcp transport beside rsync, tar over ssh and Syncthing, on tmpfs: ten "
                   "minutes; --section tcp")
    a.add_argument("--json", help="the raw figures")
    options = a.parse_args()
    if options.tcp:
        options.section, options.fs, options.repeat = "tcp", ["tmpfs"], options.repeat or 3
        options.row = options.row or list(network.ROWS)
    if options.native:
        options.section, options.fs = "native", ["tmpfs"]
        options.row, options.only = options.row or list(native.NATIVE), options.only or native.CONTENDERS
        options.repeat = options.repeat or 3
    return options


def first_line(*argv):
    try:
        return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False).stdout.decode(
            errors="replace").split("\n")[0].strip()
    except FileNotFoundError:
        return argv[0] + ": not installed"


def header(size):
    with open("/proc/meminfo") as f:
        memory = int(f.readline().split()[1]) / (1 << 20)
    print("Linux %s, %d CPUs, %.0f GiB of memory; %s; %s; %s; %s; up to %d repetitions, interleaved; %s" % (
        platform.release().split("-")[0], os.cpu_count(), memory, first_line(contenders.BINARY, "--version"),
        "lsyncd " + first_line("lsyncd", "--version").replace("Version: ", ""), first_line("rsync", "--version"),
        first_line("inotifywait", "--help"), size.wanted, time.strftime("%Y-%m-%d")))
    print("Load at the start: %.1f." % os.getloadavg()[0], flush=True)


def stop(signo, _frame):
    raise SystemExit(128 + signo)


def main():
    options = arguments()
    for signo in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signo, stop)
    if options.write and mark(options.section) not in open(options.write).read():
        sys.exit("%s has no line %s" % (options.write, mark(options.section).strip()))
    sys.stdout = Tee()
    places.own_namespace()
    contenders.ONLY = options.only
    size = rows.Size(options.quick, options.repeat)
    header(size)
    tables, goals, begun = [], [], time.time()
    try:
        for kind in options.fs or places.KINDS:
            place = places.Place(kind, options.images, 2048 if options.quick else 4096)
            try:
                for name, row in ROWS.items():
                    if name not in (options.row or native.USUAL) or (kind != "tmpfs" and name in native.TMPFS_ONLY):
                        continue
                    result = report.Report(kind)
                    try:
                        row(place, size, result)
                    except measure.NotEqual as e:
                        print("\n%s on %s was given up: %s" % (name, kind, e))
                    more = result.show(sys.stdout)
                    tables += more[0]
                    goals += more[1]
            finally:
                place.close()
    finally:
        if options.json:
            report.save(options.json, tables, goals)
    print("\n%.0f s in all, load at the end %.1f." % (time.time() - begun, os.getloadavg()[0]))
    if options.write:
        sys.stdout.put_into(options.write, options.section)


main()
