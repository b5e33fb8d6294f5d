"""What all programs of tests/churn do alike: one cell after the other, a line each."""
import argparse
import fnmatch
import sys

from fansync import TESTDIR, Skipped, own_file_system


def each(cells):
    """Cells are (name, seed, what): what() tries it, and says what was seen. Returns whether all went well."""
    well = True
    for name, seed, what in cells:
        try:
            print("ok %s\n# %s" % (name, what()), flush=True)
        except Skipped as e:
            print("skip %s %s" % (name, e), flush=True)
        except Exception as e:
            well = False
            print("not ok %s\n# seed %d: %s" % (name, seed, ("%s: %s" % (type(e).__name__, e)).replace("\n", "\n# ")), flush=True)
    return well


def main(description, names, all_of, impossible=lambda: None, **options):
    """The program: all_of(TESTDIR, those of the names that the command line chooses, its seed, OPTION=value...). `options`: --NAME, its
    default (which says of what type it is) and what it is. `impossible()`: why none of it can be tried here."""
    a = argparse.ArgumentParser(description=description)
    a.add_argument("--seed", type=int, default=1)
    for name, (default, text) in options.items():
        a.add_argument("--" + name, type=type(default), default=default, help=text)
    a.add_argument("cells", nargs="*", metavar="CELL", help="as in %s; parts may be *; none: all" % names[0])
    args = vars(a.parse_args())
    seed, patterns = args.pop("seed"), args.pop("cells")
    why = impossible() or (None if own_file_system() else "it mounts file systems: only root may")
    if why:
        print("skip: " + why)
        sys.exit(77)
    chosen = [n for n in names if not patterns or any(fnmatch.fnmatch(n, p) for p in patterns)]
    if not chosen:
        a.error("no cell is called that: %s" % " ".join(patterns))
    sys.exit(not all_of(TESTDIR, chosen, seed, **args))
