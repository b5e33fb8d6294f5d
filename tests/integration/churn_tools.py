#!/usr/bin/env python3
"""The tools of tests/churn themselves: a trace of the generator replays (that of one process gives the tree of its run, any gives the same
tree each time); what never took effect is told; the judge sees holes that were filled."""
import os
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
main((one_process, several_processes, without_effect, filled_holes))
