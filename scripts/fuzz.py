#!/usr/bin/env python3
"""Coverage-guided fuzzing, and what it reaches.

fuzz.py run BUILD [NAME...]    each fuzzer for FUZZ_SECONDS of CPU time, in slices of at most a minute, on a copy of
                               its corpus in BUILD/corpus/NAME; what it did so far is kept in BUILD/record.json
fuzz.py keep BUILD [NAME...]   the smallest set of inputs that reaches the same, however often, becomes
                               tests/fuzz/corpus/NAME, beside what was put there by hand (names that are no hashes)
fuzz.py cover BUILD [NAME...]  the share of each module's lines that its corpus reaches, of a build with clang's coverage;
                               fails below 80 %
fuzz.py table BUILD [NAME...]  the record, and the last coverage, of BUILD-cover: lines of a table

FUZZ_TIMEOUT: seconds after which an input is taken for one that hangs (20); more where others are at work.
A fuzzer is tests/fuzz/fuzz_NAME.c; the sources that it is about stand in a comment there: MODULE.
"""
import contextlib
import fcntl
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SLICE, INPUT_MAX, LEAST = 60, 4096, 80.0
HASH = re.compile(r"^[0-9a-f]{40}$")


def all_names():
    return sorted(f[len("fuzz_"):-2] for f in os.listdir("tests/fuzz") if re.match(r"fuzz_\w+\.c$", f))


def module(name):
    with open("tests/fuzz/fuzz_%s.c" % name, encoding="utf-8") as f:
        m = re.search(r"/\* MODULE:(.*?)\*/", f.read(8000), re.S)
    if not m:
        sys.exit("tests/fuzz/fuzz_%s.c names no MODULE" % name)
    return m.group(1).replace("*", " ").split()


def load(path):
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except FileNotFoundError:
        return {}


@contextlib.contextmanager
def kept(path):
    """What stands there, to be changed; several may run at once, of other fuzzers."""
    with open(path + ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        what = load(path)
        yield what
        save(path, what)


def save(path, what):
    with open(path + ".new", "w", encoding="utf-8") as f:
        json.dump(what, f, indent=1, sort_keys=True)
    os.rename(path + ".new", path)


def options(name):
    """Of libFuzzer: what a run and a merge have in common."""
    words = ["-timeout=" + os.environ.get("FUZZ_TIMEOUT", "20"), "-rss_limit_mb=2048", "-max_len=%d" % INPUT_MAX]
    if os.path.exists("tests/fuzz/%s.dict" % name):
        words.append("-dict=tests/fuzz/%s.dict" % name)
    return words


def seeds(name):
    path = "tests/fuzz/corpus/" + name
    return [path] if os.path.isdir(path) else []


def slice_of(build, name, seconds):
    """Returns whether nothing was found, CPU seconds, executions."""
    corpus = os.path.join(build, "corpus", name)
    os.makedirs(corpus, exist_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [os.path.join(build, "tests/fuzz/fuzz_" + name), "-max_total_time=%d" % seconds, "-print_final_stats=1",
         "-verbosity=0", "-artifact_prefix=%s-" % corpus] + options(name) + [corpus] + seeds(name),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = done.stdout.decode("utf-8", "replace")
    runs = re.search(r"stat::number_of_executed_units:\s*(\d+)", text)
    if done.returncode != 0:
        print(text[-6000:], flush=True)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.returncode == 0, cpu, int(runs.group(1)) if runs else 0


def run(build, names):
    failed, wanted = [], float(os.environ.get("FUZZ_SECONDS", "60"))
    path = os.path.join(build, "record.json")
    for name in names:
        cpu, runs, fine = 0.0, 0, True
        while fine and cpu < wanted:
            fine, c, n = slice_of(build, name, max(1, min(SLICE, int(wanted - cpu))))
            cpu, runs = cpu + c, runs + n
            with kept(path) as record:
                old = record.get(name, {"cpu": 0.0, "runs": 0})
                record[name] = {"cpu": old["cpu"] + c, "runs": old["runs"] + n} if fine else {"cpu": 0.0, "runs": 0}
        print("%-14s %6.0f CPU s %10d runs: %s" % (name, cpu, runs, "nothing found" if fine else "FOUND SOMETHING"),
              flush=True)
        if not fine:
            failed.append(name)
    if failed:
        sys.exit("failed: " + " ".join(failed))


def keep(build, names):
    """Only what adds to what stands there by hand."""
    for name in names:
        here, corpus = "tests/fuzz/corpus/" + name, os.path.join(build, "corpus", name)
        os.makedirs(here, exist_ok=True)
        os.makedirs(corpus, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fansyncd-merge.") as into:
            given = [f for f in os.listdir(here) if not HASH.match(f)]
            for f in given:
                shutil.copy(os.path.join(here, f), into)
            subprocess.run([os.path.join(build, "tests/fuzz/fuzz_" + name), "-set_cover_merge=1", "-use_counters=0",
                            "-verbosity=0"] + options(name) + [into, here, corpus], check=True,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for f in os.listdir(here):
                if HASH.match(f):
                    os.unlink(os.path.join(here, f))
            for f in os.listdir(into):
                if f not in given:
                    shutil.copy(os.path.join(into, f), here)
        sizes = [os.path.getsize(os.path.join(here, f)) for f in os.listdir(here)]
        print("%-14s %4d inputs, %d bytes" % (name, len(sizes), sum(sizes)), flush=True)


def lines_of(build, name):
    """Lines of the module, and those that the corpus reaches."""
    program = os.path.join(build, "tests/fuzz/fuzz_" + name)
    corpus = os.environ.get("CORPUS")
    corpus = [os.path.join(corpus, name)] if corpus else seeds(name)
    with tempfile.TemporaryDirectory(prefix="fansyncd-cover.") as work:
        raw, merged = os.path.join(work, "raw"), os.path.join(work, "merged")
        subprocess.run([program, "-r", "0"] + corpus, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, env=dict(os.environ, LLVM_PROFILE_FILE=raw))
        subprocess.run(["llvm-profdata", "merge", "-sparse", "-o", merged, raw], check=True)
        out = subprocess.run(["llvm-cov", "export", "-summary-only", "-instr-profile", merged, program] + module(name),
                             check=True, stdout=subprocess.PIPE).stdout
    found = [f for f in json.loads(out)["data"][0]["files"]]
    if len(found) != len(module(name)):
        sys.exit("%s: a file of its MODULE is not linked to it" % name)
    if os.environ.get("V"):
        for f in found:
            print("    %-44s %5.1f %%" % (os.path.relpath(f["filename"], TOP), f["summary"]["lines"]["percent"]))
    return (sum(f["summary"]["lines"]["count"] for f in found), sum(f["summary"]["lines"]["covered"] for f in found))


def cover(build, names):
    low = []
    path = os.path.join(build, "cover.json")
    for name in names:
        count, covered = lines_of(build, name)
        percent = 100.0 * covered / count
        with kept(path) as known:
            known[name] = percent
        print("%-14s %5.1f %% of %d lines" % (name, percent, count), flush=True)
        if percent < LEAST:
            low.append(name)
    if low:
        sys.exit("below %.0f %%: %s" % (LEAST, " ".join(low)))


def table(build, names):
    record, known = load(os.path.join(build, "record.json")), load(os.path.join(build + "-cover", "cover.json"))
    print("| fuzzer | its module | lines reached | CPU minutes | runs |\n| --- | --- | --- | --- | --- |")
    for name in names:
        r = record.get(name, {"cpu": 0, "runs": 0})
        print("| %s | %s | %s | %.1f | %s |" % (
            name, ", ".join(module(name)), "%.1f %%" % known[name] if name in known else "not measured", r["cpu"] / 60,
            "{:,}".format(r["runs"])))


def main():
    commands = {"run": run, "keep": keep, "cover": cover, "table": table}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    build, os.environ["LC_ALL"] = os.path.abspath(sys.argv[2]), "C"
    os.chdir(TOP)
    names = sys.argv[3:] or all_names()
    unknown = [n for n in names if n not in all_names()]
    if unknown:
        sys.exit("no such fuzzer: " + " ".join(unknown))
    commands[sys.argv[1]](build, names)


main()
