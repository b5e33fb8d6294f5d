"""What is measured. A row is a generator function: row(place, size, report); it measures its contenders in turn, several times,
so that what else happens on the machine hits them all alike, and puts figures and goals into the report."""

import os
import random
import shutil
import time

from . import contenders
from .measure import Arrival, Doorbell, Meter, NotEqual, Tree, pause, verify

SETTLE = 0.3  # seconds that a program gets to itself after it was started, before something is asked of it


class Size:
    """How much of everything; --quick has less of it."""

    def __init__(self, quick, repetitions):
        self.quick = quick
        self.wanted = repetitions or (2 if quick else 5)
        self.budget = 20 if quick else 50  # seconds of a table: no repetition begins later, but the first is whole
        self.burst = (5000, 250) if quick else (20000, 1000)
        self.startup = (10000, 2000) if quick else (100000, 20000)
        self.fan_out = (10, 1000 if quick else 5000, 50 if quick else 250)
        self.samples = 15 if quick else 60
        self.remote_samples = 10 if quick else 30
        self.elsewhere_seconds = 2 if quick else 3
        self.file_mib = 128 if quick else 1024
        self.far = (500, 25) if quick else (2000, 100)

    def repetitions(self):
        begun = time.monotonic()
        for i in range(self.wanted):
            if i > 0 and time.monotonic() - begun > self.budget * (i / (i + 1)):
                return  # another one would take it beyond
            yield i


def write_tree(root, files, dirs, seed, least=1024, most=8192):
    """As something is unpacked: a directory, its files, the next directory."""
    r = random.Random(seed)
    block = r.randbytes(2 * most)
    each = files // dirs
    os.makedirs(root, exist_ok=True)
    for d in range(dirs):
        at = "%s/d%04d" % (root, d)
        os.mkdir(at)
        for i in range(each):
            n = r.randint(least, most)
            fd = os.open("%s/f%03d" % (at, i), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(fd, block[n:2 * n])
            os.close(fd)


def make_old(root):
    """Files of an hour ago: of those that are copied within a second after they were written, which are many in a tree made for the test, the
    native engine looks at the content, since their times prove nothing yet."""
    then = time.time() - 3600
    for base, _, files in os.walk(root):
        for name in files:
            os.utime(os.path.join(base, name), (then, then))


def await_true(fact, seconds, what, step=0.001):
    end = time.perf_counter() + seconds
    while not fact():
        if time.perf_counter() > end:
            raise NotEqual("%s: not within %d s" % (what, seconds))
        pause(step)
    return time.perf_counter()


def pairs_of(place, n):
    source = place.source("s")
    os.makedirs(source, exist_ok=True)
    result = []
    for i in range(n):
        os.makedirs(place.target("t%d" % i), exist_ok=True)
        result.append((source, place.target("t%d" % i)))
    return result


# ---- a burst ----

def burst_live(place, c, pairs, files, dirs, seed, limit):
    try:
        c.start(place, pairs)
        await_true(c.compared, 60, c.name + " has compared")
        pause(SETTLE)
        arrival = Arrival(place.target(""), [t for _, t in pairs])
        with Meter(c.pids()) as meter:
            begun = time.perf_counter()
            write_tree(pairs[0][0] + "/new", files, dirs, seed)
            written = time.perf_counter()
            instant, odd = arrival.wait(Tree(pairs[0][0]), limit)
        note = c.counters()
    finally:
        c.stop()
    if odd:
        note = (note + "; " if note else "") + "%d directories' times differ" % odd
    return max(0.0, instant - written), max(instant, written) - begun, meter, note


def run_plain(c, pairs):
    """One run of rsync a pair -> seconds, and a meter of the last."""
    cpu, start = 0.0, time.perf_counter()
    for source, target in pairs:
        pid = c.run(source + "/", target)
        with Meter([pid]) as meter:
            usage = os.wait4(pid, 0)[2]
        cpu += usage.ru_utime + usage.ru_stime
    meter.cpu = cpu  # by the kernel's account: the processes are gone
    return time.perf_counter() - start, meter


def burst_plain(c, pairs, files, dirs, seed):
    write_tree(pairs[0][0] + "/new", files, dirs, seed)
    seconds, meter = run_plain(c, pairs)
    return seconds, seconds, meter, ""


def burst_once(place, c, n, files, dirs, seed, limit, report):
    place.clear()
    pairs = pairs_of(place, n)
    try:
        if c.live:
            seconds, whole, meter, note = burst_live(place, c, pairs, files, dirs, seed, limit)
        else:
            seconds, whole, meter, note = burst_plain(c, pairs, files, dirs, seed)
        verify(*pairs[-1], 10**9 if c.whole_seconds else 1)
        report.take(c.name, seconds, meter, note, whole)
    except NotEqual as e:
        report.failed(c.name, str(e))


def burst(place, size, report):
    """The time from the end of writing until the target is equal, beside a run of rsync into an empty target; then the
    double of it for fansyncd."""
    files, dirs = size.burst
    report.title("burst of %d files in %d directories, until equal" % size.burst, unit="s", floor="plain rsync")
    ours = [n for n, spec in contenders.FANSYNCD.items() if spec[2] == "local"]
    for i in size.repetitions():
        for c in contenders.local():
            burst_once(place, c, 1, files, dirs, i, 120, report)
    for name in ours:
        report.goal("%s: burst, times plain rsync" % name, report.ratio(name, "plain rsync"), 1.3)
        report.goal("%s: PSS of what stays, times lsyncd's" % name, report.memory_ratio(name, "lsyncd"), 1.0)
    single = report.table()
    report.title("burst of %d files in %d directories, until equal" % (2 * files, 2 * dirs), unit="s", floor="plain rsync")
    for i in size.repetitions():
        for c in contenders.local(ours + ["plain rsync"]):
            burst_once(place, c, 1, 2 * files, 2 * dirs, i, 240, report)
    for name in ours + ["plain rsync"]:
        tail, whole, base = report.across(name, single)
        # Who has nearly kept pace with the writer has no time after it that could be compared.
        report.goal("%s: double the burst, times the single one" % name, tail,
                    2.2 if base is not None and base > 0.2 and name != "plain rsync" else None)
        if name != "plain rsync":
            report.goal("%s: the same from the beginning of writing" % name, whole, 2.2)


def targets(place, size, report):
    """One source, ten targets."""
    n, files, dirs = size.fan_out
    report.title("%d targets, %d files, until all are equal" % (n, files), unit="s", floor="lsyncd")
    for i in size.repetitions():
        for c in contenders.local():
            if c.name != "inotifywait loop":
                burst_once(place, c, n, files, dirs, i, 120, report)
    for name in contenders.FANSYNCD:
        if contenders.FANSYNCD[name][2] == "local":
            report.goal("%s: ten targets, times lsyncd" % name, report.ratio(name, "lsyncd"), 1 / 3)
            report.goal("%s: PSS of what stays, times lsyncd's" % name, report.memory_ratio(name, "lsyncd"), 1.0)


# ---- latency ----

def latency_sample(c, source, target, bell, name, content):
    fd = os.open(os.path.join(source, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, content)
    start = time.perf_counter()
    os.close(fd)
    if c.live:
        return bell.wait(name, content, 30) - start, None
    pid = c.run(os.path.join(source, name), target + "/")
    instant = bell.wait(name, content, 30)
    os.waitpid(pid, 0)
    return instant - start, time.perf_counter() - start


def latency_of(place, everybody, samples, report):
    """All run side by side, each with a source and a target of its own, and get a small file in turn."""
    place.clear()
    running, r = [], random.Random(1)
    try:
        for i, c in enumerate(everybody):
            source, target = place.source("s%d" % i), place.target("t%d" % i)
            write_tree(source, 1000, 50, i)
            os.makedirs(target)
            shutil.copytree(source, target, dirs_exist_ok=True)
            running.append(c)
            if c.live:
                c.start(place, [(source, target)])
                await_true(c.compared, 60, c.name + " has compared")
            else:
                c.prepare(place)
        pause(1)
        at = [(c, Doorbell(place.target("t%d/d0000" % i)), place.source("s%d/d0000" % i), place.target("t%d/d0000" % i))
              for i, c in enumerate(everybody)]
        meters = {c.name: Meter(c.pids()) for c in everybody if c.live}
        for m in meters.values():
            m.__enter__()
        for k in range(samples + 2):
            for c, bell, source, target in at:
                content = r.randbytes(r.randint(1000, 4000))
                try:
                    seconds, whole = latency_sample(c, source, target, bell, "n%d" % k, content)
                except NotEqual as e:
                    report.failed(c.name, str(e))
                    continue
                if k >= 2:
                    report.take(c.name, seconds, None, "")
                    if whole is not None:
                        report.take(c.name + ", its whole run", whole, None, "")
                pause(0.03)  # what still ends (a directory's time, a process) is not the next one's burden
        for c in everybody:
            if c.live:
                meters[c.name].__exit__()
                report.meter(c.name, meters[c.name], "%d changes; %s" % (samples + 2, c.counters()))
        for _, bell, _, _ in at:
            bell.close()
    finally:
        for c in running:
            c.stop()


def latency(place, size, report):
    """From the close of one small new file until the target has it."""
    report.title("latency of one small file (median, 95 %)", unit="ms", floor="plain rsync", percentile=True)
    everybody = contenders.local()
    latency_of(place, everybody, size.samples, report)
    for c in everybody:
        if isinstance(c, contenders.Fansyncd):
            report.goal("%s: latency, times a bare rsync" % c.name, report.ratio(c.name, "plain rsync"), 1.5)
            if c.transport == "direct":
                report.goal("%s: latency, ms" % c.name, report.median(c.name, 1000), 1)


def latency_ssh(place, size, report):
    """The same over ssh to this machine."""
    report.title("latency of one small file over ssh (median, 95 %)", unit="ms", floor=contenders.RemoteRsync.name,
                 percentile=True)
    everybody = contenders.remote()
    latency_of(place, everybody, size.remote_samples, report)
    for c in everybody:
        if isinstance(c, contenders.Fansyncd):
            report.goal("%s: latency, times a bare rsync over a shared connection" % c.name,
                        report.ratio(c.name, contenders.RemoteRsync.name), 1.5)
            if c.transport == "sftp":
                report.goal("%s: latency, ms" % c.name, report.median(c.name, 1000), 3)


# ---- start-up ----

def startup_once(place, c, pair, report):
    try:
        if c.live:
            c.start(place, [pair])
            with Meter(c.pids()) as meter:
                watching = await_true(c.watching, 120, c.name + " watches") - c.started
                compared = await_true(c.compared, 120, c.name + " has compared") - c.started
            report.take(c.name + ": watching", watching, None, "")
            report.take(c.name + ": first comparison", compared, meter, c.counters())
            return
        seconds, meter = run_plain(c, [pair])
        report.take(c.name, seconds, meter, "no change")
    except NotEqual as e:
        report.failed(c.name, str(e))
    finally:
        c.stop()


def startup(place, size, report):
    """On a tree whose target is equal already: until all is watched, and until it has been compared."""
    files, dirs = size.startup
    report.title("start on %d identical files in %d directories" % size.startup, unit="s", floor="plain rsync")
    place.clear()
    pair = pairs_of(place, 1)[0]
    write_tree(pair[0], files, dirs, 1, 10, 100)
    make_old(pair[0])
    os.waitpid(contenders.PlainRsync().run(pair[0] + "/", pair[1]), 0)
    for _ in size.repetitions():
        for c in contenders.local():
            startup_once(place, c, pair, report)
    report.goal("fansyncd (fanotify): watching after, ms", report.median("fansyncd: watching", 1000), 50)
    report.goal("fansyncd: first comparison, times a no-change rsync", report.ratio("fansyncd: first comparison", "plain rsync"),
                None)


# ---- events elsewhere ----

def make_files(root, per_second, seconds):
    """-> the rate that was reached. New directories of 1000 files each; nothing is deleted."""
    begun, made = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        if made % 1000 == 0:
            at = "%s/e%d" % (root, made // 1000)
            os.mkdir(at)
        for i in range(100):
            fd = os.open("%s/%d" % (at, made + i), os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(fd, b"x")
            os.close(fd)
        made += 100
        ahead = made / per_second - (time.perf_counter() - begun)
        if ahead > 0:
            pause(ahead)
    return made / (time.perf_counter() - begun)


def elsewhere_once(place, c, seconds, report):
    place.clear()
    pair = pairs_of(place, 1)[0]
    os.makedirs(place.source("elsewhere"))
    write_tree(pair[0], 1000, 50, 1)
    try:
        c.start(place, [pair])
        await_true(c.compared, 60, c.name + " has compared")
        pause(SETTLE)
        start = time.perf_counter()
        with Meter(c.pids()) as meter:
            rate = make_files(place.source("elsewhere"), 20000, seconds)
            wall = time.perf_counter() - start
        report.take(c.name, 100 * meter.cpu / wall, meter, "%.0f files a second" % rate)
    except NotEqual as e:
        report.failed(c.name, str(e))
    finally:
        c.stop()


def elsewhere(place, size, report):
    """CPU while somebody else makes 20,000 files a second on the source's file system, outside of the source."""
    report.title("20,000 files a second elsewhere on the file system", unit="% of a core", floor=None)
    for _ in size.repetitions():
        for c in contenders.local():
            if c.live:
                elsewhere_once(place, c, size.elsewhere_seconds, report)
    report.goal("fansyncd (fanotify): events elsewhere, % of a core", report.median("fansyncd", 1), 10)
