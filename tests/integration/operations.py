#!/usr/bin/env python3
"""docs/OPERATIONS.md is right where a machine can tell: its commands that ask a daemon work, and every number that it names is there."""
import os
import re
import subprocess
import sys

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(TOP, "tests", "lib"))
from fansync import BINARY, Daemon, dirs, expect, main, put
from http_client import get


def page():
    with open(TOP + "/docs/OPERATIONS.md", encoding="utf-8") as f:
        return f.read()


def commands(word):
    """The lines to type that hold it."""
    return [line.strip() for line in page().split("\n") if line.startswith("    ") and word in line]


def questions(place):
    """With a fansyncd in PATH that knows which configuration is meant, as /etc/fansyncd.conf would be."""
    source, target, tools = dirs(place, "source", "target", "bin")
    put(source + "/file")
    daemon = Daemon(place, 'sync = ( { name = "web"; transport = "direct"; source = "%s"; target = "%s"; } );\nmetrics = { listen = "%s/m.sock"; };\n'
                    % (source, target, place))
    put(tools + "/fansyncd", '#!/bin/sh\nexec "%s" "$@" "%s"\n' % (BINARY, daemon.config_path))
    os.chmod(tools + "/fansyncd", 0o755)

    def typed(line):
        done = subprocess.run(["sh", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ, PATH=tools + ":" + os.environ["PATH"]),
                              timeout=180, check=False)
        expect(done.returncode == 0, "%s: %d %s" % (line, done.returncode, done.stderr.decode()))
        return done.stdout.decode()
    before = commands("--check |") + commands("fansyncd --doctor  ") + commands("fansyncd --sync-now  ")
    while_it_runs = commands("--wait &&") + commands("--status --json |") + commands("--doctor --only") + commands("--sync-now --only")
    expect(len(before) == 3 and len(while_it_runs) == 4, "the page has others now: %s, %s" % (before, while_it_runs))
    try:
        for line in before:
            typed(line.replace("| less", "| cat"))
        daemon.start()
        said = [typed(line.replace("NAME", "web")) for line in while_it_runs]
        expect("web: idle" in said[0] and said[1] == "[('web', 'idle', 0.0)]\n", "%s" % said)
    finally:
        daemon.stop()


def numbers(place):
    """Those of the table, and what the alerts that it explains are called."""
    source, target = dirs(place, "source", "target")
    daemon = Daemon(place, 'sync = ( { name = "web"; transport = "direct"; source = "%s"; target = "%s"; tunnel = { command = [ "sleep", "1000" ]; '
                    'readyDelay = 0.1; }; } );\nmetrics = { listen = "%s/m.sock"; };\n' % (source, target, place)).start()
    try:
        text = get(place + "/m.sock")[2].decode()
    finally:
        daemon.stop()
    there = set(re.findall(r"^# TYPE (\S+)", text, re.M)) | {"fansyncd_receiver_up"}
    table = page().split("| series, each with the label")[1].split("\n\n")[0]
    named = [name for row in table.split("\n")[2:] for name in re.findall(r"`([a-z]\w+|\.\.\.\w+)`", row.split("|")[1])]
    named = [n for n in named if n not in ("state", "class", "cause")]
    expect(len(named) > 20, "%s" % named)
    for name in named:
        expect(name in there or "fansyncd_sync_" + name in there or any(t.endswith(name.lstrip(".")) for t in there if name.startswith(".")) or
               name == "process_...", "%s is not there" % name)
    with open(TOP + "/docs/monitoring/alerts.yml", encoding="utf-8") as f:
        alerts = re.findall(r"alert: (\w+)", f.read())
    explained = re.findall(r"^\| (Fansyncd\w+) \|", page(), re.M)
    expect(sorted(alerts) == sorted(explained), "alerts %s, explained %s" % (alerts, explained))


main([questions, numbers])
