#!/usr/bin/env python3
# TIMEOUT: 300
"""`bandwidth`, for every transport: what arrives never exceeds the limit of the time of the day, and a limit that ends, ends for
what is under way, too. The time zone makes the hour: noon is two seconds after the start, later where nothing was under way by
then. Only upper bounds are asserted, so a slow machine passes; whoever is not limited at all does not."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import BINARY, dirs, expect, main, put, run
from mirroring import World

LIMIT = 32 * 1024
BURST = 320 * 1024  # buffers on the way: sockets, pipes, what a program reads at once
FILES, SIZE = 32, 48 * 1024


def zone(noon):
    """A time zone in which it is noon then."""
    ahead = (12 * 3600 - int(noon)) % 86400
    ahead -= 86400 if ahead > 43200 else 0
    size = abs(ahead)
    return "TST%s%d:%02d:%02d" % ("-" if ahead >= 0 else "+", size // 3600, size // 60 % 60, size % 60)


def arrived(w):
    total = 0
    for place, _, files in os.walk(w.target):
        for name in files:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
            except FileNotFoundError:
                pass
    return total


def fill(w):
    for i in range(FILES):
        w.put("f%02d" % i, os.urandom(SIZE))


def within_limit(w, start, end):
    """Until `end`, again and again."""
    while time.time() < end:
        passed = time.time() - start + 0.1
        got = arrived(w)
        # The clock goes on between the two: what was counted may be more than what was allowed before, never than after.
        bound = BURST + LIMIT * (time.time() - start + 0.1)
        expect(got <= bound, "%d bytes after %.2f s" % (got, passed))


def morning_ends(place, transport):
    for seconds in (2, 8, 20):
        where = "%s/%d" % (place, seconds)
        os.mkdir(where)
        if noon_comes(where, transport, seconds):
            return
    expect(False, "by noon nothing had ever arrived")


def noon_comes(place, transport, seconds):
    """False: nothing was under way by then."""
    w = World(place, transport, "live", more='bandwidth = ( { from = "08:00"; to = "12:00"; limit = "32K"; } );')
    fill(w)
    start = time.time()
    noon = int(start) + seconds
    w.daemon.env["TZ"] = zone(noon)
    w.daemon.start(wait=False)
    w.running = True
    try:
        within_limit(w, start, noon - 0.1)
        before = arrived(w)
        expect(before < FILES * SIZE, "all of it went through within the limit")
        w.daemon.wait(60)
        w.equal("the limit ends")
        if before == 0:
            return False
        if transport.startswith("rsync"):
            expect("another bandwidth from now on" in w.daemon.log(), "rsync was told")
            expect(w.counters()["retries"] == 0, "that is no failure")
        return True
    finally:
        w.done()


def direct(place):
    morning_ends(place, "direct")


def sftp(place):
    morning_ends(place, "sftp")


def tcp(place):
    morning_ends(place, "tcp")


def rsync(place):
    morning_ends(place, "rsync")


def rsyncssh(place):
    morning_ends(place, "rsyncssh")


def the_smaller_one_counts(place):
    w = World(place, "direct", "live", options="bwlimit = 32;", more='bandwidth = [ "2M" ];')
    fill(w)
    start = time.time()
    w.daemon.start(wait=False)
    try:
        within_limit(w, start, start + 1.5)
    finally:
        w.daemon.stop(signal.SIGKILL)


def errors_have_their_line(place):
    source, target = dirs(place, "source", "target")
    for rule, why in (('{ from = "8"; limit = 1; }', b'"8" is no time'), ('{ from = "08:00"; }', b"the limit is missing"),
                      ('{ limit = "fast"; }', b'"fast" is no rate'), ('{ limit = 1; day = "mon"; }', b'"day" is none of'),
                      ('{ limit = 1; days = "mon-foo"; }', b"day of the week"), ('{ limit = true; }', b"expected a number")):
        path = place + "/bad.conf"
        put(path, 'sync = ( {\n  transport = "direct"; source = "%s"; target = "%s";\n  bandwidth = ( %s );\n} );\n'
            % (source, target, rule))
        done = run(BINARY, "--check", path, check=False)
        expect(done.returncode != 0 and b"bad.conf:3: bandwidth: " in done.stderr and why in done.stderr, "%s: %r" % (rule, done.stderr))
    put(path, 'sync = ( {\n  transport = "direct"; source = "%s"; target = "%s";\n  bandwidth = ( { days = "Mon - Fri"; '
        'from = "08:00"; to = "18:00"; limit = 500; }, "1.5M" );\n} );\n' % (source, target))
    done = run(BINARY, "--check", path)
    expect(b'"days=Mon-Fri from=08:00 to=18:00 limit=500", "1.5M"' in done.stdout, "%r" % done.stdout)


main([direct, sftp, tcp, rsync, rsyncssh, the_smaller_one_counts, errors_have_their_line])
