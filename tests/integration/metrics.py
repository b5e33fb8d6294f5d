#!/usr/bin/env python3
"""The numbers for Prometheus: that they are right and well-formed, who may have them, and that the process that parses what clients
send holds nothing and may be killed at any time. With promtool (`make deps` takes it from the package prometheus) it has the last word on the format."""
import grp
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(TOP, "tests", "lib"))
from fansync import Daemon, Failure, Skipped, answers, await_fact, children, command, dirs, expect, free_port, kill, main, put
from http_client import connect, get, raw

ODD = r'a\"b\\<i>'  # as it stands in the file: libconfig's escapes
ODD_LABEL = r'a\"b\\\\<i>'  # the log's escape of the backslash, then Prometheus' own
SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)$')
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"')


def syncs(*sections):
    return "sync = ( %s );\n" % ", ".join("{ %s }" % s for s in sections)


def direct(name, source, target, more=""):
    return 'name = "%s"; transport = "direct"; source = "%s"; target = "%s"; %s' % (name, source, target, more)


def start(place, where, sections, options="", wait=True):
    listen = "127.0.0.1:%d" % where if isinstance(where, int) else where
    return Daemon(place, syncs(*sections) + 'metrics = { listen = "%s"; %s };\n' % (listen, options)).start(wait=wait)


def server_of(daemon):
    """The pid of the process that serves."""
    found = [pid for pid in children(daemon.process.pid) if b"--web" in command(pid)]
    expect(len(found) == 1, "one process serves: %s" % found)
    return found[0]


def parse(text):
    """Name -> {labels: value}, and that it is what the format's description says."""
    types, helps, values, family = {}, {}, {}, None
    for line in text.split("\n")[:-1]:
        if line.startswith("# HELP "):
            family, helps[line.split(" ", 3)[2]] = line.split(" ", 3)[2], line.split(" ", 3)[3]
            continue
        if line.startswith("# TYPE "):
            name, kind = line.split(" ")[2:]
            expect(name == family and name not in types and kind in ("gauge", "counter"), "a type in its place: " + line)
            expect(name.endswith("_total") == (kind == "counter"), "counters end in _total: " + line)
            types[name] = kind
            continue
        m = SAMPLE.match(line)
        expect(m is not None and m.group(1) == family, "a sample of the family %s: %r" % (family, line))
        labels = tuple(LABEL.findall(m.group(2) or ""))
        expect(labels not in values.setdefault(m.group(1), {}), "a sample once: " + line)
        values[m.group(1)][labels] = float(m.group(3))
    expect(set(types) == set(helps), "each has a type and a help")
    return values


def numbers(where):
    status, headers, body = get(where)
    expect(status == 200, "status %d: %r" % (status, body))
    expect(headers["Content-Type"].startswith("text/plain; version=0.0.4"), "the type: %s" % headers)
    expect(body.endswith(b"\n"), "the end of the last line")
    return parse(body.decode("utf-8"))


def value(values, name, sync, **labels):
    return values[name][(("sync", sync),) + tuple(labels.items())]


def right(place):
    source, target, other = dirs(place, "source", "target", "other")
    where = place + "/metrics.sock"
    daemon = start(place, where, [
        direct("web", source, target), direct(ODD, source, other, "delay = 1000.0;"),
        'name = "gone"; transport = "rsync"; source = "%s"; target = "rsync://127.0.0.1:%d/m";' % (source, free_port())], wait=False)
    try:
        daemon.ask("wait", "--only", "web", "--only", 'a"b\\<i>')
        before = numbers(where)
        put(source + "/one", "12345")
        put(source + "/two", "123")
        daemon.ask("wait", "--only", "web")
        put(source + "/three", "1")
        await_fact(lambda: value(numbers(where), "fansyncd_sync_sent_files_total", "web") == 3, 20, "the third file")
        v = numbers(where)
        expect(value(v, "fansyncd_sync_sent_bytes_total", "web") == 9, "bytes")
        expect(value(v, "fansyncd_sync_lag_seconds", "web") == 0 and value(v, "fansyncd_sync_pending_paths", "web") == 0, "no lag")
        expect(value(v, "fansyncd_sync_state", "web", state="idle") == 1, "idle")
        expect(sum(n for labels, n in v["fansyncd_sync_state"].items() if labels[0] == ("sync", "web")) == 1, "one state")
        expect(value(v, "fansyncd_sync_last_success_timestamp_seconds", "web") > v["process_start_time_seconds"][()], "success")
        expect(value(v, "fansyncd_sync_reconciles_total", "web", cause="start") == 1, "the comparison at the start")
        expect(value(v, "fansyncd_sync_batches_total", "web") > value(before, "fansyncd_sync_batches_total", "web"), "batches")
        # What waits for its delay is behind.
        expect(value(v, "fansyncd_sync_pending_paths", ODD_LABEL) >= 1, "pending")
        expect(value(v, "fansyncd_sync_lag_seconds", ODD_LABEL) > 0, "lag")
        # What can't be reached, and why.
        await_fact(lambda: value(numbers(where), "fansyncd_sync_state", "gone", state="down") == 1, 20, "down, but while it is tried")
        expect(value(v, "fansyncd_sync_errors_total", "gone", **{"class": "network"}) >= 1,
               "its errors: %s" % {k: n for k, n in v["fansyncd_sync_errors_total"].items() if n})
        expect(value(v, "fansyncd_sync_last_error_timestamp_seconds", "gone") > 0, "its last error")
        expect(v["process_resident_memory_bytes"][()] > 1e6 and v["process_open_fds"][()] > 5, "the process")
        expect(v["fansyncd_watches"][()] >= 1, "watches")
        known_to_rules(v)
        checked_by_promtool(get(where)[2])
    finally:
        daemon.stop()
    expect(not os.path.exists(where), "the socket is gone with the daemon")


def tunnels(place):
    """Of a sync that has one: whether it is up, how often it was started, and what it said; of the others nothing."""
    source, other, target, other_target = dirs(place, "source", "other", "target", "other_target")
    where, words = place + "/m.sock", place + "/words"
    put(words, "the far end is closed")
    program = '[ "/bin/sh", "-c", "test ! -s \\"$0\\" || { cat \\"$0\\"; exit 7; }; exec tail -f /dev/null", "%s" ]' % words
    daemon = start(place, where, [direct("plain", source, target),
                                  direct("behind", other, other_target, "retryMin = 0.1; retryMax = 0.2; tunnel = { command = %s; readyDelay = 0.1; };"
                                         % program)], wait=False)

    def shown():
        with connect(where, 30) as s, s.makefile("rb") as stream:
            s.sendall(b"GET /events HTTP/1.0\r\n\r\n")
            for line in stream:
                if line.startswith(b"data: ") and b'"name":"behind"' in line.replace(b'": "', b'":"'):
                    return json.loads(line[6:])
        raise Failure("the stream ended")
    try:
        await_fact(lambda: answers(where), 20, "the socket")
        daemon.ask("wait", "--only", "plain")
        await_fact(lambda: value(numbers(where), "fansyncd_sync_tunnel_starts_total", "behind") >= 2, 20, "tried again")
        v = numbers(where)
        expect(list(v["fansyncd_sync_tunnel_up"]) == [(("sync", "behind"),)], "of it alone: %s" % v["fansyncd_sync_tunnel_up"])
        expect(value(v, "fansyncd_sync_tunnel_up", "behind") == 0, "up")
        expect(value(v, "fansyncd_sync_errors_total", "behind", **{"class": "network"}) >= 1, "its errors: %s" % v["fansyncd_sync_errors_total"])
        expect(value(v, "fansyncd_sync_state", "plain", state="idle") == 1, "the other one")
        await_fact(lambda: shown()["tunnel_said"] == "the far end is closed" and shown()["state"] == "down", 20, "on the page: %s" % shown())
        put(words, "")
        await_fact(lambda: value(numbers(where), "fansyncd_sync_tunnel_up", "behind") == 1, 20, "up")
        daemon.wait()
        p = shown()
        expect(p["tunnel"] == "up" and p["tunnel_starts"] == value(numbers(where), "fansyncd_sync_tunnel_starts_total", "behind") and
               p["tunnel_said"] is None and p["state"] == "idle", p)
        checked_by_promtool(get(where)[2])
    finally:
        daemon.stop()


def what_fails_is_behind(place):
    """A file that is tried again and again is not on the target: the lag grows, although nothing is due."""
    source, target = dirs(place, "source", "target")
    where = place + "/m.sock"
    put(source + "/f", "first")
    daemon = start(place, where, [direct("web", source, target, 'backupDir = ".old/%Y"; retryMin = 30.0; retryMax = 30.0;')])
    try:
        expect(value(numbers(where), "fansyncd_sync_lag_seconds", "web") == 0, "no lag")
        put(target + "/.old", "in the way of the backup")
        put(source + "/f", "second")
        await_fact(lambda: value(numbers(where), "fansyncd_sync_failed_paths", "web") == 1, 20, "it fails")
        s = daemon.sync("web")
        first = s["lag_seconds"]
        expect(s["failures"][0]["reason"].startswith("left as it is") and "again: f: left as it is" in daemon.log(), "the path once: %s" % s["failures"])
        await_fact(lambda: value(numbers(where), "fansyncd_sync_lag_seconds", "web") > first + 0.5, 20, "it grows")
        expect(value(numbers(where), "fansyncd_sync_in_flight_paths", "web") == 0, "it waits for its next try")
        os.unlink(target + "/.old")
        put(source + "/f", "third")
        await_fact(lambda: value(numbers(where), "fansyncd_sync_failed_paths", "web") == 0, 60, "sent")
        daemon.wait()
        expect(value(numbers(where), "fansyncd_sync_lag_seconds", "web") == 0, "no lag any more")
    finally:
        daemon.stop()


def checked_by_promtool(text):
    promtool = shutil.which("promtool") or os.path.join(TOP, "build", "tools", "promtool")
    if not os.access(promtool, os.X_OK):
        raise Skipped("all but promtool's word, which is not there: make deps")
    done = subprocess.run([promtool, "check", "metrics"], input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    expect(done.returncode == 0 and not done.stdout, "promtool: %s" % done.stdout.decode())
    done = subprocess.run([promtool, "check", "rules", TOP + "/docs/monitoring/alerts.yml"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    expect(done.returncode == 0, "promtool: %s" % done.stdout.decode())


def known_to_rules(values):
    """Every name that the dashboard and the rules use is there."""
    with open(TOP + "/docs/monitoring/grafana-dashboard.json") as f:
        text = json.dumps(json.load(f))
    with open(TOP + "/docs/monitoring/alerts.yml") as f:
        text += f.read()
    used = set(re.findall(r"\b(?:fansyncd|process)_\w+", text)) - {"fansyncd_receiver_up"}
    expect(used and not used - set(values), "unknown: %s" % sorted(used - set(values)))


def who_may_ask(place):
    source, target = dirs(place, "source", "target")
    port = free_port()
    daemon = start(place, port, [direct("web", source, target)], 'hosts = [ "mirror.example.net" ];')
    try:
        for host, status in (("127.0.0.1:%d" % port, 200), ("localhost", 200), ("[::1]:9", 200), ("Mirror.example.net:80", 200),
                             ("evil.example.net", 421), ("127.0.0.1.evil.net", 421), ("x" * 5000, 421), ("", 421)):
            got = get(port, headers={"Host": host})[0]
            expect(got == status, "for host %.40r: %d" % (host, got))
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            expect(get(port, method=method, body=b"x")[0] == 405, method)
        status, headers, body = get(port, method="HEAD")
        expect(status == 200 and not body, "HEAD")
        expect(headers["Cache-Control"] == "no-store" and headers["Cross-Origin-Resource-Policy"] == "same-origin", str(headers))
        for path in ("/nothing", "/metrics/", "/../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd"):
            expect(get(port, path)[0] in (400, 404), path)
        # A request larger than there is room for, and what is no request.
        expect(raw(port, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100000 + b"\r\n\r\n")[:12] in
               (b"HTTP/1.1 431", b"HTTP/1.1 413", b""), "a large request")
        for junk in (b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n\r\nxx yy zz\r\n\r\n"):
            expect(b"200" not in raw(port, junk)[:15], "junk %r" % junk[:10])
        for junk in (b"\x16\x03\x01\x02\x00" + bytes(500), b"\0" * 2000 + b"\r\n\r\n"):  # it may be cut when its time is over
            with connect(port) as s:
                s.sendall(junk)
        expect(get(port)[0] == 200, "and all is well after that")
    finally:
        daemon.stop()


def unix_socket(place):
    source, target = dirs(place, "source", "target")
    where = place + "/m.sock"
    daemon = start(place, where, [direct("web", source, target)])
    try:
        expect(stat.S_IMODE(os.stat(where).st_mode) == 0o600, "mode 0600")
        expect(get(where, headers={"Host": "behind.a.proxy"})[0] == 200, "a proxy may call it as it likes")
        if os.geteuid() == 0:
            group = next(g for g in grp.getgrall() if g.gr_gid != 0)
            daemon.write_config(syncs(direct("web", source, target)) + 'metrics = { listen = "%s"; group = "%s"; };\n' % (
                where, group.gr_name))
            daemon.process.send_signal(signal.SIGHUP)
            await_fact(lambda: os.path.exists(where) and stat.S_IMODE(os.stat(where).st_mode) == 0o660, 20, "the group's mode")
            expect(os.stat(where).st_gid == group.gr_gid and get(where)[0] == 200, "the group's")
        # Somewhere else, and then nowhere, without a restart.
        daemon.write_config(syncs(direct("web", source, target)) + 'metrics = { listen = "%s2"; };\n' % where)
        daemon.process.send_signal(signal.SIGHUP)
        await_fact(lambda: answers(where + "2"), 20, "the new socket")
        expect(get(where + "2")[0] == 200 and not os.path.exists(where), "moved")
        daemon.write_config(syncs(direct("web", source, target)))
        daemon.process.send_signal(signal.SIGHUP)
        await_fact(lambda: not os.path.exists(where + "2"), 20, "none any more")
        expect(not [p for p in children(daemon.process.pid) if b"--web" in command(p)], "no process any more")
    finally:
        daemon.stop()


def confined(place):
    """The process that parses what clients send."""
    source, target = dirs(place, "source", "target")
    where = place + "/m.sock"
    daemon = start(place, where, [direct("web", source, target)])
    try:
        expect(get(where)[0] == 200, "it serves")
        pid = server_of(daemon)
        with open("/proc/%d/status" % pid) as f:
            status = dict(line.split(":\t", 1) for line in f.read().split("\n") if ":\t" in line)
        expect(all(int(status[c], 16) == 0 for c in ("CapPrm", "CapEff", "CapInh", "CapAmb")), "no capabilities")
        expect(status["NoNewPrivs"] == "1", "no new privileges")
        expect(status["Seccomp"] == "2", "a filter of system calls")
        if os.geteuid() == 0:
            expect(int(status["CapBnd"], 16) == 0, "none by exec either")
            links = [os.readlink("/proc/%d/fd/%s" % (pid, fd)) for fd in os.listdir("/proc/%d/fd" % pid)]
            strange = [t for t in links if not re.match(r"socket:|pipe:|/dev/null|anon_inode:\[(eventpoll|timerfd|signalfd|eventfd)\]", t)]
            expect(not strange, "descriptors: %s" % strange)
    finally:
        daemon.stop()


def killed(place):
    """Whoever kills it, or fills it, does not harm the daemon."""
    source, target = dirs(place, "source", "target")
    where = place + "/m.sock"
    daemon = start(place, where, [direct("web", source, target)])
    held = []
    try:
        first = server_of(daemon)
        kill(first, signal.SIGKILL)
        # Who comes meanwhile waits for the next one.
        expect(get(where)[0] == 200, "served by the next one")
        expect(server_of(daemon) != first, "another process")
        # Many that say nothing, and some in the middle of a request.
        for i in range(100):
            held.append(connect(where))
            held[-1].sendall(b"GET /metrics HTTP/1.1\r\nHost: a" if i % 2 else b"")
        put(source + "/file")
        daemon.wait()
        expect(os.path.exists(target + "/file"), "mirrored meanwhile")
        for s in held:
            s.close()
        expect(get(where)[0] == 200, "served when they are gone")
        # An answer for each of many that ask at once, and of few views.
        asking = [connect(where) for _ in range(50)]
        for s in asking:
            s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        for s in asking:
            with s, s.makefile("rb") as f:
                expect(b"fansyncd_sync_lag_seconds" in f.read(), "an answer for each")
    finally:
        for s in held:
            s.close()
        daemon.stop()


def refused(place):
    source, target = dirs(place, "source", "target")
    port = free_port()
    for section, what in (('listen = "0.0.0.0:9737";', "not loopback"), ('listen = "192.0.2.1:9737";', "not loopback"),
                          ('listen = "[::]:9737";', "not loopback"), ('listen = "127.example.net:9737";', "no absolute path"),
                          ('listen = "mirror.example.net:9737"; insecure = true;', "no absolute path"),
                          ('listen = "metrics.sock";', "no absolute path"), ('listen = "127.0.0.1";', "no absolute path"),
                          ('listen = "127.0.0.1:99999";', "no absolute path"), ("", "required"),
                          ('listen = "127.0.0.1:9737"; group = "x";', "Unix socket"),
                          ('listen = "127.0.0.1:9737"; hosts = [ "a:1" ];', "no name of a host"),
                          ('listne = "127.0.0.1:9737";', "did you mean")):
        daemon = Daemon(place, syncs(direct("web", source, target)) + "metrics = { %s };\n" % section)
        done = daemon.client("--check", check=False)
        expect(done.returncode != 0 and what in done.stderr.decode(), "%s: %s" % (section, done.stderr.decode()))
    daemon = Daemon(place, syncs(direct("web", source, target)) + 'metrics = { listen = "0.0.0.0:%d"; insecure = true; };\n' % port)
    done = daemon.client("--check")
    expect("insecure = true" in done.stderr.decode() and "0.0.0.0" in done.stdout.decode(), "a warning")
    # Somebody is there already: said at once, and the daemon does not start.
    first = start(place + "/first", place + "/m.sock", [direct("web", source, target)])
    try:
        other = dirs(place, "other")[0]
        start(place + "/second", place + "/m.sock", [direct("web", source, other)])
        raise Failure("two at one socket")
    except Failure as e:
        expect("another daemon answers" in str(e), str(e))
    finally:
        first.stop()
    # A stale socket is no obstacle.
    first = start(place + "/first", place + "/m.sock", [direct("web", source, target)])
    first.stop(signal.SIGKILL)
    expect(os.path.exists(place + "/m.sock"), "it stays when the daemon is killed")
    first = start(place + "/first", place + "/m.sock", [direct("web", source, target)])
    expect(get(place + "/m.sock")[0] == 200, "served")
    first.stop()


if __name__ == "__main__":
    main([right, tunnels, what_fails_is_behind, who_may_ask, unix_socket, confined, killed, refused])
