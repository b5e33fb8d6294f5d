#!/usr/bin/env python3
"""The tools of tests/churn themselves: a trace of the generator replays (that of one process gives the tree of its run, any gives the same
tree each time) and waits for nobody; what never took effect is told; the judge sees holes that were filled."""
import inspect
import multiprocessing
import os
import shutil
import stat
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), os.path.join(HERE, "..", "churn")]
import generator
import judge
from fansync import Failure, Skipped, expect, main, own_file_system, run

SEED = int(os.environ.get("SEED", "1"))
STEPS = 2000
WANTED = {"owners", "xattrs", "acls", "hard_links", "sparse", "untimed"}


def replayed(place, trace, name):
    """Where it was replayed, and what it said. Names of different lengths show whether a trace depends on the root's path."""
    where = os.path.join(place, name)
    said = run(sys.executable, generator.__file__, "--replay", trace, where + "/source", where + "/outside").stdout.decode()
    return where, said


def expect_same(a, b, what):
    for name in ("/source", "/outside"):
        found = judge.compare(a + name, b + name, WANTED)
        if found:
            raise Failure("%s: %s differs:\n  %s" % (what, name, "\n  ".join(found)))


def one_process(place):
    """Nothing else is at work: all that happened happens again, and with the same outcome."""
    for d in ("/run/source", "/run/outside"):
        os.makedirs(place + d)
    p = generator.Process(place + "/run/source", place + "/run/outside", SEED * 1000, generator.EXTRAS, trace=place + "/trace")
    for _ in range(STEPS):
        p.step()
    expect(p.done.effect.total() > STEPS / 3, "nothing was done: %s" % p.done.effect)
    for name in ("one", "another one"):
        where, said = replayed(place, place + "/trace", name)
        expect_same(place + "/run", where, "the run and its replay, seed %d" % SEED)
        expect(" 0 of them " in said, said)


def several_processes(place):
    os.makedirs(place + "/run/source")
    generator.run(place + "/run/source", place + "/run/outside", SEED, 2, 3, generator.EXTRAS, place + "/trace")
    one, two = (replayed(place, place + "/trace", name) for name in ("one", "another one"))
    print("# " + one[1].strip())
    expect_same(one[0], two[0], "two replays, seed %d" % SEED)
    expect(one[1] == two[1], "%s%s" % (one[1], two[1]))


# A value of each parameter's name that a FIFO can have; the others are names.
VALUES = {"words": (1, 2), "number": 1, "pieces": [(0, (1, 2), 9)], "size": 9, "offset": 0, "length": 4096, "mode": 0o640, "ns": 1, "uid": 1,
          "gid": 1, "name": b"user.a", "rights": 6, "where": b"x", "kind": stat.S_IFCHR, "minor": 3, "levels": 0, "names": [b"a", b"b"]}


def play_on_fifos(tree, method, more):
    for path in tree.root, tree.outside:
        os.makedirs(path)
    for path in [tree.at(n) for n in (b"a", b"b", b"c", b"user.a")] + [tree.away(1)]:
        os.mkfifo(path)
    free = [b"a", b"b", b"c"]
    values = {**VALUES, **more}
    names = [n for n in inspect.signature(getattr(tree, method)).parameters]
    print("# %s: %s" % (method, generator.play(tree, method, [values[n] if n in values else free.pop(0) for n in names])))


def never_waits(place):
    """In a replay a name can be anything by the time it is used, a FIFO that nobody opens as well."""
    for method in sorted({operation[0] for operation in generator.Process.TABLE}):
        for mode in ("wb", "ab", "r+b") if method == "write_linked" else (0o640,):
            tree = generator.Tree(place + "/source", place + "/outside")
            p = multiprocessing.get_context("fork").Process(target=play_on_fifos, args=(tree, method, {"mode": mode}))
            p.start()
            p.join(60)
            waits = p.exitcode is None
            p.kill()
            p.join()
            expect(not waits, "%s waits at a FIFO" % method)
            expect(p.exitcode == 0, "%s: status %s" % (method, p.exitcode))
            shutil.rmtree(tree.root)
            shutil.rmtree(tree.outside)


def without_effect(_place):
    done = generator.Done()
    done.add({"write": 9, "link": 5, "chmod": 1}, {"write": 1})
    expect(done.without_effect(5) == ["link"], done.without_effect(5))


def filled_holes(place):
    """As much is allocated in all, but elsewhere: the sum alone would not tell."""
    size, piece = 4 << 20, 128 * 1024
    for name, at in (("source", 0), ("same", 0), ("moved", size // 2)):
        os.makedirs(os.path.join(place, name))
        with open(os.path.join(place, name, "f"), "wb") as f:
            f.truncate(size)
            f.seek(at)
            f.write(bytes(piece))

    def found(name):
        return judge.compare(place + "/source", os.path.join(place, name), {"sparse", "untimed"})
    if not judge.tree(place + "/source", {"sparse"})[b"f"]["holes"]:
        raise Skipped("this file system keeps no holes")
    expect(found("same") == [], found("same"))
    expect(len(found("moved")) == 1 and "holes were filled" in found("moved")[0], found("moved"))


own_file_system()
main((one_process, several_processes, never_waits, without_effect, filled_holes))
