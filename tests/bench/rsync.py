#!/usr/bin/env python3
"""Burst, latency and memory over the `rsync` transport, beside plain rsync in the same run. Prints figures, asserts none.

BENCH_FILES, BENCH_DIRS: the burst's size (20000 files in 1000 directories). BENCH_DIR: where (default: the temporary
directory).
"""
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, children, expect_equal, run

FILES = int(os.environ.get("BENCH_FILES", "20000"))
DIRS = int(os.environ.get("BENCH_DIRS", "1000"))


def burst(root, seed):
    r = random.Random(seed)
    block = r.randbytes(8192)
    for d in range(DIRS):
        os.makedirs("%s/s%d/d%d" % (root, seed, d), exist_ok=True)
    for i in range(FILES):
        with open("%s/s%d/d%d/f%d" % (root, seed, i % DIRS, i), "wb") as f:
            f.write(block[:r.randrange(1024, 8192)])


def pss(pids):
    total = 0
    for pid in pids:
        try:
            with open("/proc/%d/smaps_rollup" % pid) as f:
                total += sum(int(line.split()[1]) for line in f if line.startswith("Pss:"))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            pass
    return total / 1024


def median(action, n):
    times = []
    for i in range(n):
        start = time.perf_counter()
        action(i)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def bench(place, watcher):
    source, target, plain = place + "/source", place + "/target", place + "/plain"
    for d in (source, target, plain):
        os.makedirs(d)
    d = Daemon(place, 'sync = ( { name = "b"; transport = "rsync"; source = "%s"; target = "%s"; delay = 0.0; '
               'watcher = "%s"; rsync = { archive = true; }; } );' % (source, target, watcher))
    d.write_config(open(d.config_path).read().split("\n", 1)[1].replace('"Info", "Exec", "Record"', '"Normal"'))
    start = time.perf_counter()
    d.start()
    ready = time.perf_counter() - start
    try:
        burst(source, 1)
        start = time.perf_counter()
        d.wait(600)
        ours = time.perf_counter() - start
        expect_equal(source, target)
        start = time.perf_counter()
        run("rsync", "-a", source + "/", plain + "/", timeout=600)
        theirs = time.perf_counter() - start

        def one(i):
            with open(source + "/one", "w") as f:
                f.write(str(i))
            d.wait()

        def bare(i):
            with open(source + "/two", "w") as f:
                f.write(str(i))
            run("rsync", "-a", source + "/two", plain + "/")

        latency, bare_latency = median(one, 20), median(bare, 20)
        print("%-8s burst of %d files: %.2f s after its end, plain rsync %.2f s (%.2f times); latency %.0f ms, bare rsync "
              "%.0f ms (%.2f times); start to equal %.2f s; PSS %.1f MiB; %d rsync processes" % (
                  watcher, FILES, ours, theirs, ours / theirs, latency * 1e3, bare_latency * 1e3, latency / bare_latency,
                  ready, pss([d.process.pid] + children(d.process.pid, every=True)), d.sync("b")["counters"]["processes"]))
    finally:
        d.stop()


def main():
    place = tempfile.mkdtemp(prefix="fansyncd-bench.", dir=os.environ.get("BENCH_DIR"))
    try:
        for watcher in ("inotify", "fanotify") if os.geteuid() == 0 else ("inotify",):
            bench(os.path.join(place, watcher), watcher)
    finally:
        shutil.rmtree(place, ignore_errors=True)


main()
