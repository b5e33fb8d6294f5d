"""Figures gathered, and shown as tables in Markdown."""

import json
import statistics


class Series:
    def __init__(self):
        self.values, self.whole, self.cpu, self.peak, self.resident, self.notes, self.errors = [], [], [], [], [], [], []


class Report:
    def __init__(self, kind):
        self.kind = kind  # of file system
        self.tables = []
        self.goals = []

    # ---- gathering ----

    def title(self, title, unit, floor, percentile=False):
        self.tables.append({"title": title, "unit": unit, "floor": floor, "percentile": percentile, "series": {}})

    def table(self):
        return self.tables[-1]

    def _series(self, name):
        return self.tables[-1]["series"].setdefault(name, Series())

    def take(self, name, value, meter, note, whole=None):
        """`whole`: the time with the writing, where `value` is what came after it."""
        self._series(name).values.append(value)
        if whole is not None:
            self._series(name).whole.append(whole)
        if meter is not None:
            self.meter(name, meter, note)

    def meter(self, name, meter, note):
        s = self._series(name)
        s.cpu.append(meter.cpu)
        s.peak.append(meter.peak_kib / 1024)
        s.resident.append(meter.peak_resident_kib / 1024)
        s.notes.append(note)

    def failed(self, name, why):
        self._series(name).errors.append(why)

    # ---- comparing ----

    def _values(self, name, table=None):
        s = (table or self.tables[-1])["series"].get(name)
        return s.values if s is not None else []

    def median(self, name, factor=1.0):
        values = self._values(name)
        return statistics.median(values) * factor if values else None

    def ratio(self, name, other):
        """Of what was measured one after the other, where that is known: the median of the pairs' ratios."""
        a, b = self._values(name), self._values(other)
        if not a or not b:
            return None
        if len(a) == len(b) and not self.tables[-1]["percentile"]:
            return statistics.median(x / y for x, y in zip(a, b))
        return statistics.median(a) / statistics.median(b)

    def across(self, name, table):
        """This table's median over that of another one: of the values, of the times with the writing; and the other's
        median value."""
        now, then = (t["series"].get(name) for t in (self.tables[-1], table))
        if now is None or then is None or not now.whole or not then.whole:
            return None, None, None
        base = statistics.median(then.values)
        return (statistics.median(now.values) / base if base > 0 else None,
                statistics.median(now.whole) / statistics.median(then.whole), base)

    def memory_ratio(self, name, other):
        a, b = (self.tables[-1]["series"].get(n) for n in (name, other))
        if a is None or b is None or not a.resident or not b.resident:
            return None
        return statistics.median(a.resident) / statistics.median(b.resident)

    def goal(self, what, value, at_most):
        if value is not None:
            self.goals.append((what, value, at_most))

    # ---- showing ----

    def _line(self, table, name, s):
        unit = 1000 if table["unit"] == "ms" else 1
        if not s.values:
            return [name, "failed: " + s.errors[0], "", "", "", "", ""]
        values = sorted(v * unit for v in s.values)
        middle, digits = statistics.median(values), 1 if table["unit"][0] == "%" else 2
        if table["percentile"]:
            spread = "%.*f" % (digits, values[min(len(values) - 1, int(0.95 * len(values)))])
        else:
            spread = "%.*f to %.*f" % (digits, values[0], digits, values[-1])
        ratio = self.ratio(name, table["floor"]) if table is self.tables[-1] and table["floor"] else None
        note = s.notes[-1] if s.notes else ""
        if len(values) > 1 and not table["percentile"]:
            note = "%d runs%s" % (len(values), "; " + note if note else "")
        if s.errors:
            note = "%d of %d failed: %s" % (len(s.errors), len(s.errors) + len(s.values), s.errors[0])
        shown = ["%.1f" % statistics.median(v) if v else "" for v in (s.peak, s.resident)]
        return [name, "%.*f" % (digits, middle), spread, "" if ratio is None else "%.2f" % ratio,
                "%.2f" % statistics.median(s.cpu) if s.cpu else ""] + shown + [note]

    def show(self, out):
        """The tables and goals gathered since the last time."""
        tables, goals = self.tables, self.goals
        for i, table in enumerate(tables):
            self.tables = [table]  # ratios are of the table shown
            out.write("\n### %s: %s\n\n" % (self.kind, table["title"]))
            head = ["", table["unit"], "95 %" if table["percentile"] else "spread",
                    "times " + table["floor"] if table["floor"] else "", "CPU s", "peak MiB", "of it what stays", "note"]
            rows = [self._line(table, name, s) for name, s in table["series"].items()]
            rows = [r + [""] * (len(head) - len(r)) for r in rows]
            keep = [k for k in range(len(head)) if k == 0 or any(r[k] for r in rows)]
            head = [h.replace("|", "\\|") for h in head]
            rows = [[cell.replace("|", "\\|") for cell in r] for r in rows]
            out.write("| " + " | ".join(head[k] for k in keep) + " |\n")
            out.write("| " + " | ".join("---" if k in (0, 7) else "---:" for k in keep) + " |\n")
            for r in rows:
                out.write("| " + " | ".join(r[k] for k in keep) + " |\n")
        out.write("\n")
        for what, value, at_most in goals:
            if at_most is None:
                out.write("- %s: %.2f\n" % (what, value))
            else:
                out.write("- %s: **%.2f**, goal at most %.2f: %s\n" % (what, value, at_most,
                                                                      "reached" if value <= at_most else "not reached"))
        out.flush()
        self.tables, self.goals = [], []
        return [{"title": t["title"], "kind": self.kind, "unit": t["unit"],
                 "series": {n: vars(s) for n, s in t["series"].items()}} for t in tables], \
               [{"what": g[0], "value": g[1], "at_most": g[2], "kind": self.kind} for g in goals]


def save(path, tables, goals):
    with open(path, "w") as f:
        json.dump({"tables": tables, "goals": goals}, f, indent=1)
