#!/usr/bin/env python3
# TIMEOUT: 120
"""Comparisons by a schedule: they find what nobody told of, are counted by their cause, respect maxProcesses, and a reload takes a
new schedule. Seconds, lsyncd's sixth field, keep it short."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import BINARY, Daemon, await_fact, dirs, expect, expect_equal, main, put, run


def by_schedule(daemon, name):
    return daemon.sync(name)["counters"]["reconcile_causes"].get("schedule", 0)


def section(name, source, target, schedule):
    return '{ name = "%s"; transport = "direct"; source = "%s"; target = "%s"; schedule = %s; }' % (name, source, target, schedule)


def several_due_at_once(place):
    names = ["a", "b", "c"]
    pairs = {n: dirs(place, n + "/source", n + "/target") for n in names}
    for source, _ in pairs.values():
        put(source + "/f", "as it should be")
    config = "sync = ( %s );\n" % ", ".join(section(n, *pairs[n], '"* * * * * *"') for n in names)
    daemon = Daemon(place, config)
    daemon.write_config(config, "maxProcesses = 1;")
    daemon.start()
    try:
        for _, target in pairs.values():
            put(target + "/f", "changed behind its back")
            put(target + "/stray", "x")
        most = 0

        def repaired():
            nonlocal most
            syncs = daemon.status()["syncs"]
            most = max(most, len([s for s in syncs if s["state"] == "sending"]))
            return all(by_schedule(daemon, n) >= 2 for n in names) and not any(os.path.exists(t + "/stray") for _, t in pairs.values())
        await_fact(repaired, 30, "each is compared by its schedule, again and again")
        expect(most <= 1, "%d batches at once with maxProcesses = 1" % most)
        for source, target in pairs.values():
            expect_equal(source, target, "repaired")
        expect(daemon.sync("a")["scheduled"] >= daemon.status()["now"] - 5, "the next time is told")
        expect(b"by its schedule" in daemon.ask("status").stdout, "in the text, too")
    finally:
        daemon.stop()


def a_reload_takes_another(place):
    source, target = dirs(place, "source", "target")
    daemon = Daemon(place, "sync = ( %s );\n" % section("s", source, target, '[ "@yearly", "0 4 29 feb *" ]')).start()
    try:
        expect(by_schedule(daemon, "s") == 0, "not due for long")
        daemon.write_config("sync = ( %s );\n" % section("s", source, target, '"*/1 * * * * *"'))
        daemon.process.send_signal(1)
        await_fact(lambda: by_schedule(daemon, "s") >= 1, 30, "compared by the new schedule")
    finally:
        daemon.stop()


def a_source_that_is_missing_is_left_alone(place):
    source, target = dirs(place, "source", "target")
    put(source + "/f")
    daemon = Daemon(place, "sync = ( %s );\n" % section("s", source, target, '"* * * * * *"')).start()
    try:
        await_fact(lambda: by_schedule(daemon, "s") >= 1, 30, "compared")
        os.rename(source, source + ".away")
        await_fact(lambda: daemon.sync("s")["state"] == "no source", 30, "its loss is known")
        before, due = by_schedule(daemon, "s"), daemon.sync("s")["scheduled"]
        await_fact(lambda: daemon.sync("s")["scheduled"] > due + 1, 30, "it was due meanwhile")
        expect(by_schedule(daemon, "s") == before, "compared without a source")
        expect(os.listdir(target) == ["f"], "the target stays as it is")
        os.rename(source + ".away", source)
        await_fact(lambda: by_schedule(daemon, "s") > before, 30, "compared again")
    finally:
        daemon.stop()


def errors_have_their_line(place):
    source, target = dirs(place, "source", "target")
    path = place + "/bad.conf"
    put(path, "sync = ( {\n  transport = \"direct\"; source = \"%s\"; target = \"%s\";\n  schedule = [ \"0 4 * * *\",\n"
        "    \"0 25 * * *\" ];\n} );\n" % (source, target))
    done = run(BINARY, "--check", path, check=False)
    expect(done.returncode != 0 and b"bad.conf:3: schedule \"0 25 * * *\": hour 25 is not between 0 and 23" in done.stderr,
           "%r %r" % (done.stdout, done.stderr))


main([several_due_at_once, a_reload_takes_another, a_source_that_is_missing_is_left_alone, errors_have_their_line])
