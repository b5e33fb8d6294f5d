#!/usr/bin/env python3
"""The administrator's commands: preBatch holds back what it does not like, and nothing else; onBatch, onError, onReconnect and onChange
are told which paths, whatever their names; one that hangs is ended; no more than hookProcesses run; a stop waits for them."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, await_fact, expect, main

PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
# Notes what it was told, holds on while DIR/hold is there, and refuses while DIR/refuse is there.
HOOK = r'''
import json, os, select, sys
place = sys.argv[1]
paths = [os.fsdecode(p) for p in sys.stdin.buffer.read().split(b"\0")[:-1]]
def note(what):
    with open(place + "/told", "a", errors="surrogateescape") as f:
        f.write(json.dumps(dict(what, hook=os.environ["FANSYNCD_HOOK"], paths=paths, reason=os.environ.get("FANSYNCD_REASON"), uid=os.geteuid(),
                                pid=os.getpid(), sync=os.environ["FANSYNCD_SYNC"], cwd=os.getcwd())) + "\n")
note({"at": "start"})
while os.path.exists(place + "/hold." + os.environ["FANSYNCD_HOOK"]):
    select.poll().poll(20)
if os.path.exists(place + "/refuse") and os.environ["FANSYNCD_HOOK"] == "preBatch":
    print("syntax\terror in line 3", file=sys.stderr)
    sys.exit(2)
note({"at": "end"})
'''


class Place:
    def __init__(self, place, hooks, more="", target=None, start=True, transport="direct"):
        self.place, self.source, self.target = place, place + "/source", target or place + "/target"
        os.chmod(place, 0o755)
        for d in (self.source, self.target):
            os.makedirs(d)
        with open(place + "/hook.py", "w") as f:
            f.write(HOOK)
        self.hooks, self.more, self.transport = hooks, more, transport
        self.daemon = Daemon(place, "")
        self.write()
        if start:
            self.daemon.start(wait=False)

    def write(self):
        self.daemon.write_config(
            'sync = ( { name = "h"; transport = "%s"; source = "%s"; target = "%s"; delay = 0.02; retryMin = 0.1; retryMax = 0.3; '
            'watcher = "inotify"; %s %s } );\n'
            % (self.transport, self.source, self.target,
               " ".join('%s = [ "%s", "%s/hook.py", "%s" ];' % (h, PYTHON, self.place, self.place) for h in self.hooks), self.more))

    def flag(self, name, on=True):
        path = self.place + "/" + name
        if on:
            open(path, "w").close()
        else:
            os.unlink(path)

    def put(self, name, text="x"):
        path = os.path.join(self.source, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)

    def told(self, hook, at="end"):
        try:
            with open(self.place + "/told", errors="surrogateescape") as f:
                return [t for t in map(json.loads, f) if t["hook"] == hook and t["at"] == at]
        except FileNotFoundError:
            return []

    def over(self, hook):
        """One was run, and its process is gone."""
        ended = self.told(hook)
        return ended and not os.path.exists("/proc/%d" % ended[-1]["pid"])

    def paths(self, hook, at="end"):
        return [t["paths"] for t in self.told(hook, at)]

    def there(self, name):
        return os.path.exists(os.path.join(self.target, name))

    def sync(self):
        return self.daemon.sync("h")


def veto_and_repair(place):
    w = Place(place, ["preBatch", "onError"])
    w.daemon.wait()
    expect({tuple(p) for p in w.paths("preBatch")} == {(".",)}, "the first comparison: %s" % w.told("preBatch"))
    w.flag("refuse")
    w.put("maxscale.cnf", "broken")
    await_fact(lambda: w.sync()["state"] == "vetoed", 20, "vetoed")
    s = w.sync()
    expect("preBatch: exit 2: syntax\terror in line 3" == s["reason"] and s["pending"] + s["in_flight"] >= 1, s)
    expect("h: vetoed: preBatch: exit 2: syntax\\011error in line 3" in w.daemon.log(), w.daemon.log())
    expect(not w.there("maxscale.cnf") and w.daemon.wait(0.2, check=False).returncode == 2, "it was spread")
    await_fact(lambda: any("syntax\terror" in t["reason"] for t in w.told("onError")), 20, "onError")
    w.put("other")
    w.flag("refuse", False)
    w.put("maxscale.cnf", "repaired")
    await_fact(lambda: w.there("maxscale.cnf") and w.there("other"), 20, "repaired")
    w.daemon.wait()
    expect(w.sync()["state"] == "idle" and "maxscale.cnf" in w.paths("preBatch")[-1], w.paths("preBatch"))
    expect("h: goes on" in w.daemon.log(), "told")
    w.daemon.stop()


def a_veto_at_the_start(place):
    """Without `insist` it ends the daemon, as a target that can't be reached does; one that comes later does not."""
    w = Place(place, ["preBatch"], start=False)
    with open(w.daemon.config_path) as f:
        text = f.read()
    w.daemon.write_config(text[text.index("sync = "):], "insist = false")
    w.flag("refuse")
    w.daemon.start(wait=False)
    expect(w.daemon.process.wait(60) == 255, "it goes on: " + w.daemon.tail())
    w.flag("refuse", False)
    w.daemon.start(wait=False)
    w.daemon.wait()
    w.flag("refuse")
    w.put("later")
    await_fact(lambda: w.sync()["state"] == "vetoed", 20, "vetoed")
    w.flag("refuse", False)
    await_fact(lambda: w.there("later"), 20, "it goes on")
    w.daemon.stop()


def a_change_is_looked_at_soon(place):
    """Not only after the backoff, which may be minutes long."""
    w = Place(place, ["preBatch"], "", start=False)
    w.more = "retryMax = 300.0;"
    w.write()
    text = open(w.daemon.config_path).read().replace("retryMin = 0.1; retryMax = 0.3;", "retryMin = 250.0;")
    with open(w.daemon.config_path, "w") as f:
        f.write(text)
    w.daemon.start()
    w.flag("refuse")
    w.put("f", "broken")
    await_fact(lambda: w.sync()["state"] == "vetoed", 20, "vetoed")
    w.flag("refuse", False)
    w.put("f", "repaired")
    await_fact(lambda: w.there("f"), 20, "looked at again")
    w.daemon.stop()


def told_which_paths(place):
    w = Place(place, ["onBatch", "onChange"])
    w.daemon.wait()
    names = ["a\nb", "-rf", " ", "\udcff", "dir/deep", "'\"$(x)"]
    for n in names:
        w.put(n)
    w.daemon.wait()

    def all_told(hook):
        seen = {p for paths in w.paths(hook) for p in paths}
        return set(names) <= seen
    await_fact(lambda: all_told("onBatch") and all_told("onChange"), 20, "all of them: %s" % w.paths("onBatch"))
    expect(w.told("onBatch")[-1]["cwd"] == w.source and w.told("onBatch")[-1]["sync"] == "h", w.told("onBatch"))
    expect(all(p == sorted(set(p)) for hook in ("onBatch", "onChange") for p in w.paths(hook)), "each once")
    os.rename(w.source + "/dir", w.source + "/moved")
    w.daemon.wait()
    await_fact(lambda: any({"dir", "moved"} <= set(p) for p in w.paths("onBatch")), 20, "both names")
    w.daemon.stop()


def errors(place):
    w = Place(place, ["onError", "onReconnect", "onBatch"])
    w.daemon.wait()
    os.rename(w.target, w.target + ".away")
    w.put("f")
    await_fact(lambda: w.told("onError"), 20, "told")
    expect(w.paths("onError")[0] == [] and "target" in w.told("onError")[0]["reason"], w.told("onError"))
    os.rename(w.target + ".away", w.target)
    await_fact(lambda: w.there("f"), 20, "goes on")
    w.daemon.wait()
    w.daemon.stop()
    expect(len(w.told("onError")) <= 2, "only news: %s" % w.told("onError"))
    expect(not w.told("onReconnect", "start"), "it was stopped, not out of reach: %s" % w.told("onReconnect", "start"))


def reconnects(place):
    w = Place(place, ["onError", "onReconnect"], 'exec = { command = [ "/bin/sh", "-c", "cat >/dev/null; test ! -e %s/away || exit 69" ]; };' % place,
              transport="exec")
    w.daemon.wait()
    expect(not w.told("onReconnect", "start"), "it was never away")
    w.flag("away")
    w.put("f")
    await_fact(lambda: w.sync()["state"] == "down" and w.told("onError"), 20, "down")
    expect(w.paths("onError") == [[]] and not w.told("onReconnect", "start"), w.told("onError"))
    w.flag("away", False)
    await_fact(lambda: w.told("onReconnect"), 20, "back")
    w.daemon.wait()
    w.put("g")
    w.daemon.wait()
    w.daemon.stop()
    told = w.told("onReconnect")
    expect([t["paths"] for t in told] == [[]] and "exit 69" in told[0]["reason"], "once, without paths, and why it was away: %s" % told)


def one_that_hangs_is_ended(place):
    """The two kinds at the same time: each takes as long as the shortest hookTimeout that there is."""
    places = []
    for hook in ("onBatch", "preBatch"):
        os.makedirs(place + "/" + hook)
        places.append(Place(place + "/" + hook, [hook], "hookTimeout = 1.0;"))
    after, before = places
    await_fact(lambda: after.over("onBatch") and before.over("preBatch"), 20, "the start")
    after.flag("hold.onBatch")
    before.flag("hold.preBatch")
    after.put("a")
    before.put("b")
    await_fact(lambda: "onBatch took more than 1 s" in after.daemon.log(), 20, "ended")
    pid = after.told("onBatch", "start")[-1]["pid"]
    await_fact(lambda: not os.path.exists("/proc/%d" % pid), 20, "gone")
    await_fact(lambda: before.sync()["state"] == "vetoed" and "took too long" in before.sync()["reason"], 20, "a veto")
    before.flag("hold.preBatch", False)
    await_fact(lambda: before.there("b"), 20, "asked again")
    after.flag("hold.onBatch", False)
    for w in places:
        w.daemon.stop()


def one_that_hangs_leaves_its_place(place):
    """A preBatch counts for maxProcesses: the other sync waits for it, but no longer than hookTimeout, and each time that one is asked again."""
    w = Place(place, ["preBatch"], "hookTimeout = 1.0;", start=False)
    other, to_other = place + "/other", place + "/to_other"
    os.mkdir(other)
    os.mkdir(to_other)
    with open(w.daemon.config_path) as f:
        text = f.read()
    text = text[text.index("sync = "):].replace("sync = (", 'sync = ( { name = "o"; transport = "direct"; source = "%s"; target = "%s"; },' % (other, to_other))
    w.daemon.write_config(text, "maxProcesses = 1")
    w.flag("hold.preBatch")
    w.put("held")
    w.daemon.start(wait=False)
    for i in range(3):
        await_fact(lambda: len(w.told("preBatch", "start")) > i, 20, "it is asked, and hangs")
        with open("%s/%d" % (other, i), "w"):
            pass
        w.daemon.ask("wait", "--only", "o", "--timeout", "60")
        expect(os.path.exists("%s/%d" % (to_other, i)), "the other one is held up: %s" % w.daemon.status())
    expect(not w.there("held") and "took too long" in w.daemon.log(), "it was sent unasked")
    w.flag("hold.preBatch", False)
    await_fact(lambda: w.there("held"), 20, "asked again")
    w.daemon.stop()


def so_many_at_once(place):
    """While one runs the batches go on, and what they carried is told together afterwards."""
    w = Place(place, ["onBatch"])
    w.daemon.wait()
    await_fact(lambda: w.over("onBatch"), 20, "the start")
    before = len(w.told("onBatch", "start"))
    w.flag("hold.onBatch")
    w.put("f0")
    await_fact(lambda: len(w.told("onBatch", "start")) == before + 1, 20, "the first")
    for i in range(1, 6):
        w.put("f%d" % i)
        w.daemon.wait()
    expect(len(w.told("onBatch", "start")) == before + 1, "%d run" % (len(w.told("onBatch", "start")) - before))
    w.flag("hold.onBatch", False)
    await_fact(lambda: {"f%d" % i for i in range(6)} <= {p for ps in w.paths("onBatch") for p in ps}, 20, "told")
    expect(len(w.told("onBatch")) == before + 2, "together: %s" % w.paths("onBatch"))
    w.daemon.stop()


def reload_and_end(place):
    w = Place(place, ["onBatch"])
    await_fact(lambda: w.over("onBatch"), 20, "the start")
    w.flag("hold.onBatch")
    w.put("f")
    await_fact(lambda: any("f" in p for p in w.paths("onBatch", "start")), 20, "it runs")
    w.daemon.process.send_signal(signal.SIGHUP)
    await_fact(lambda: "reload" in w.daemon.log().lower() or w.daemon.status(), 20, "reloaded")
    w.daemon.wait()
    w.daemon.process.send_signal(signal.SIGTERM)
    expect(w.daemon.process.poll() is None, "it waits")
    w.flag("hold.onBatch", False)
    w.daemon.process.wait(20)
    expect(any("f" in p for p in w.paths("onBatch")), "it was let end: %s" % w.told("onBatch"))
    w.daemon.stop()


def one_that_can_not_be_started(place):
    """The loop does not wait to see whether it can be: it says so itself."""
    w = Place(place, ["preBatch", "onBatch"])
    w.daemon.wait()
    text = open(w.daemon.config_path).read().replace('"%s", "%s/hook.py"' % (PYTHON, place), '"%s/hook.sh"' % place)
    with open(place + "/hook.sh", "w") as f:
        f.write("#!/no/such/interpreter\n")
    os.chmod(place + "/hook.sh", 0o755)
    with open(w.daemon.config_path, "w") as f:
        f.write(text)
    w.daemon.process.send_signal(signal.SIGHUP)
    await_fact(lambda: w.sync()["state"] == "vetoed" and "can't start %s/hook.sh: No such file" % place in w.sync()["reason"], 20, "a veto")
    with open(place + "/hook.sh", "w") as f:
        f.write("#!/bin/sh\n")
    w.put("f")
    await_fact(lambda: w.there("f"), 20, "repaired")
    w.daemon.stop()


def other_account(place):
    if os.geteuid() != 0:
        return
    w = Place(place, ["onBatch"], 'hookUser = "nobody";', start=False)
    open(place + "/told", "w").close()
    os.chmod(place + "/told", 0o666)
    w.daemon.start()
    await_fact(lambda: w.told("onBatch"), 20, "run")
    expect(w.told("onBatch")[0]["uid"] == 65534, w.told("onBatch"))
    w.daemon.stop()


main([veto_and_repair, a_veto_at_the_start, a_change_is_looked_at_soon, told_which_paths, errors, reconnects, one_that_hangs_is_ended, one_that_hangs_leaves_its_place, so_many_at_once,
      reload_and_end, one_that_can_not_be_started, other_account])
