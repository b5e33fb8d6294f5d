#!/usr/bin/env python3
"""The transport exec with a program of its own: what it is told in each format, what its exit status and its answers mean, and what
becomes of a batch when it hangs, dies or talks nonsense."""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from fansync import Daemon, Failure, await_fact, expect, main, run, tree

MIRROR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib", "exec_mirror.py")
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable  # one that other accounts may run
NOBODY = 65534
ODD = ["plain", "new\nline", "\n", 'quo"te', "tab\there", "\udcff\udcfe", "back\\slash", "*", "-rf", "ünï"]
PERSISTENT = "persistent = true;"


def section(name, source, target, argv, keys, more=""):
    return ('{ name = "%s"; transport = "exec"; source = "%s"; target = "%s"; delay = 0.05; retryMin = 0.1; retryMax = 0.4; '
            'watcher = "inotify"; %s exec = { command = [ %s ]; %s }; }' % (name, source, target, more, ", ".join('"%s"' % a for a in argv), keys))


class Place:
    def __init__(self, place, words=(), keys="", more="", prefix=(), start=True):
        self.place, self.source, self.target = place, place + "/source", place + "/target"
        os.chmod(place, 0o755)
        for d in (self.source, self.target):
            os.makedirs(d)
        self.log = place + "/records"
        self.keys, self.more = keys, more
        self.daemon = Daemon(place, "", prefix=prefix)
        self.write(words)
        if start:
            self.daemon.start(wait=False)

    def write(self, words=()):
        argv = [PYTHON, MIRROR, "log=" + self.log] + list(words)
        self.daemon.write_config("sync = ( %s );\n" % section("x", self.source, self.target, argv, self.keys, self.more))

    def put(self, name, text="x"):
        path = os.path.join(self.source, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        return path

    def records(self):
        try:
            with open(self.log, errors="surrogateescape") as f:
                return [json.loads(line) for line in f]
        except FileNotFoundError:
            return []

    def starts(self):
        return [r for r in self.records() if "start" in r]

    def equal(self, what):
        def facts(root):
            return {p: {k: v for k, v in f.items() if k != "mtime"} for p, f in tree(root).items() if p}
        a, b = facts(self.source), facts(self.target)
        if a != b:
            raise Failure("%s: %s\n%s" % (what, {p: (a.get(p), b.get(p)) for p in set(a) | set(b) if a.get(p) != b.get(p)},
                                          self.daemon.tail()))

    def synced(self, what):
        self.daemon.wait()
        self.equal(what)

    def sync(self):
        return self.daemon.sync("x")

    def failures(self):
        return {f["path"]: f for f in self.sync()["failures"]}


def mirrors(place, keys, words=()):
    """A start with something at both ends, odd names, types that change, moves and deletions."""
    w = Place(place, words, keys, start=False)
    for name in ODD:
        w.put(name, name.encode(errors="surrogateescape").hex())
        w.put("dir/" + name, "1")
    os.symlink("no\nwhere", w.source + "/link")
    os.makedirs(w.target + "/stray/below")
    os.makedirs(w.target + "/dir")
    w.daemon.start(wait=False)
    w.synced("the start")
    for name in ODD:
        w.put(name, "changed")
    w.put("dir/more/deep", "2")
    os.chmod(w.source + "/plain", 0o600)
    w.synced("changes")
    os.rename(w.source + "/dir", w.source + "/moved\nhere")
    w.synced("a directory moved")
    os.unlink(w.source + "/plain")
    run("rm", "-r", w.source + "/moved\nhere/more")
    w.synced("deletions")
    os.mkdir(w.source + "/plain")
    w.put("plain/in it")
    os.unlink(w.source + "/link")
    w.put("link", "a file now")
    w.synced("other types")
    counters = w.sync()["counters"]
    expect(counters["files"] > 10 and counters["rejected"] == 0 and counters["retries"] == 0, counters)
    w.daemon.stop()
    return w


def null_records(place):
    w = mirrors(place, "")
    seen = [r for r in w.records() if "op" in r]
    expect([r["op"] for r in seen if r["path"] == "dir/more/deep"] == ["create"], "a new file: %s" % seen)
    expect({"op": "delete", "type": "file", "path": "plain", "extra": ""} in seen, "a deleted file")
    expect({"op": "delete", "type": "dir", "path": "moved\nhere/more", "extra": ""} in seen, "a deleted directory")
    expect([r for r in seen if r["op"] == "list"][0]["path"] == ".", "the root")
    env = w.starts()[0]["env"]
    expect(env["FANSYNCD_SYNC"] == "x" and env["FANSYNCD_KIND"] == "listing" and env["FANSYNCD_DELETIONS"] == "1000" and
           w.starts()[1]["env"]["FANSYNCD_KIND"] == "batch" and "FANSYNCD_DELETIONS" not in w.starts()[1]["env"], env)
    expect(w.starts()[0]["cwd"] == w.source, "its directory")


def json_lines(place):
    mirrors(place, 'format = "json"; moves = true;')


def paths_alone(place):
    mirrors(place, 'format = "paths";')


def answers_in_lines(place):
    mirrors(place, 'answers = "lines"; format = "json";', ["answer=1"])


def stays(place):
    w = mirrors(place, PERSISTENT + "moves = true;")
    expect(len(w.starts()) == 1, "one process: %d" % len(w.starts()))
    expect([r["extra"] for r in w.records() if r.get("op") == "move"] == ["dir"], "the move")


def excluded_is_not_told(place):
    w = Place(place, more='exclude = [ "*.secret", "/cache/" ];')
    w.put("a.secret")
    w.put("cache/x")
    w.put("b")
    w.daemon.wait()
    run(*["touch"] + [w.source + n for n in ("/c.secret", "/cache/y", "/d")])
    w.daemon.wait()
    expect(sorted(os.listdir(w.target)) == ["b", "d"], os.listdir(w.target))
    expect(w.starts()[0]["env"]["FANSYNCD_RULES"] == "- *.secret\n- /cache/", w.starts()[0]["env"])
    w.daemon.stop()


def one_path_fails(place):
    """By exit status nobody knows which: the others get through all the same, and it is named."""
    w = Place(place, ["fail=.bad"], "maxChanges = 8;")
    w.daemon.wait()
    for i in range(40):
        w.put("f%d" % i, str(i))
    w.put("the.bad")
    await_fact(lambda: list(w.failures()) == ["the.bad"], 20, "it alone fails")
    expect(len(os.listdir(w.target)) == 40, os.listdir(w.target))
    expect("exit 1" in w.failures()["the.bad"]["reason"], w.failures())
    w.write()
    w.daemon.process.send_signal(1)
    await_fact(lambda: os.path.exists(w.target + "/the.bad"), 20, "another program")
    w.synced("mended")
    w.daemon.stop()


def rejected(place):
    """A run that is rejected is divided at once; what is to blame is given up, and told."""
    w = Place(place, ["fail=.bad::65", "say=I do not\tlike it"])
    w.daemon.wait()
    for i in range(20):
        w.put("f%d" % i)
    w.put("the.bad")
    await_fact(lambda: len(os.listdir(w.target)) == 20 and w.failures(), 20, "all but one")
    bad = w.failures()["the.bad"]
    expect(bad["given_up"] and "exit 65: I do not\tlike it" in bad["reason"], bad)
    expect("x: python3: I do not\\011like it" in w.daemon.log(), "its words: " + w.daemon.log())
    w.daemon.stop()


def exit_codes(place):
    w = Place(place, ["exit=7"], keys='exitcodes = [ "7=done", "8-20=down" ];')
    w.put("a")
    w.synced("7 is done")
    w.write(["exit=9", "say=nobody there"])
    w.daemon.process.send_signal(1)
    w.put("b")
    await_fact(lambda: w.sync()["state"] == "down", 20, "9 is down")
    expect("exit 9: nobody there" in w.sync()["reason"], w.sync())
    w.write()
    w.daemon.process.send_signal(1)
    await_fact(lambda: os.path.exists(w.target + "/b"), 20, "back")
    w.daemon.stop()


def single_answers(place):
    for keys, words in ((PERSISTENT, []), ('answers = "lines";', ["answer=1"])):
        w = Place(os.path.join(place, str(len(words))) if not os.makedirs(os.path.join(place, str(len(words)))) else "",
                  words + ["fail=.bad:reject"], keys)
        w.put("entry.bad")
        w.put("good")
        w.daemon.wait(check=False)
        expect(w.failures()["entry.bad"]["given_up"], "of a listing: %s" % w.failures())
        w.put("dir/later.bad")
        w.put("dir/good")
        w.daemon.wait(check=False)
        expect("it ends in .bad" in w.failures()["dir/later.bad"]["reason"], w.failures())
        expect(sorted(os.listdir(w.target)) == ["dir", "good"] and os.listdir(w.target + "/dir") == ["good"], "the others")
        w.daemon.stop()


def dies_in_the_middle(place):
    for keys in ("", PERSISTENT):
        here = os.path.join(place, "p" if keys else "o")
        os.makedirs(here)
        w = Place(here, ["die=" + here + "/die"], keys)
        w.put("a")
        w.synced("the start")
        open(here + "/die", "w").close()
        w.put("b")
        w.put("c")
        await_fact(lambda: "exit 3" in str(w.sync()["last_error"]), 20, "it is told")
        os.unlink(here + "/die")
        await_fact(lambda: len(os.listdir(w.target)) == 3, 20, "carried")
        w.synced("nothing lost")
        w.daemon.stop()


def hangs(place):
    """Both kinds of program at the same time: each takes as long as the shortest progressTimeout that there is."""
    hang, places = place + "/hang", []
    for n, keys in enumerate(("", PERSISTENT)):
        os.makedirs("%s/%d" % (place, n))
        w = Place("%s/%d" % (place, n), ["hang=" + hang], keys, "progressTimeout = 1.0;", start=False)
        w.put("a")
        w.daemon.start(wait=False)
        w.synced("the start")
        places.append(w)
    open(hang, "w").close()
    for w in places:
        w.put("b")
    for w in places:
        await_fact(lambda: "no sign of life" in str(w.sync()["last_error"]) or "progress" in str(w.sync()["last_error"]), 30, "ended")
    os.unlink(hang)
    for w in places:
        await_fact(lambda: os.path.exists(w.target + "/b"), 20, "started again")
        w.daemon.stop()


def talks_nonsense(place):
    raws = ("hello", "99999 done", "1 maybe", "x" * 5000, "1 done\\n1", "* down", "-1 done", "1e3 done")
    daemon, sections = Daemon(place, ""), []
    for n, raw in enumerate(raws):
        here = "%s/%d" % (place, n)
        os.makedirs(here + "/source")
        open(here + "/source/a", "w").close()
        sections.append(section("x%d" % n, here + "/source", here + "/target", [PYTHON, MIRROR, "raw=" + raw], PERSISTENT))
    daemon.write_config("sync = ( %s );\n" % ", ".join(sections))
    daemon.start(wait=False)
    for n, raw in enumerate(raws):
        await_fact(lambda: daemon.sync("x%d" % n)["state"] == "down", 20, "down: " + raw)
        expect("python3: " in daemon.sync("x%d" % n)["reason"], daemon.sync("x%d" % n)["reason"])
    daemon.stop()


def answers_to_what_it_has_not_read(place):
    """Of a listing of more than its buffer and the pipe hold, or of more than its buffer: nothing is taken for done."""
    deep = "/".join("n" * 250 for _ in range(3))
    for n, (dirs, said, why) in enumerate(((170, "* done", "ended a batch"), (170, "176 done", "ended a batch"),
                                           (170, "175 done", "was not given"), (85, "* done", "ended a batch"))):
        here = "%s/%d" % (place, n)
        os.makedirs(here)
        open(here + "/early", "w").close()
        w = Place(here, ["early=%s/early:%s" % (here, said)], PERSISTENT, start=False)
        for i in range(dirs):
            os.makedirs("%s/%s/%s%03d" % (w.source, deep, "n" * 220, i))
        w.daemon.start(wait=False)
        await_fact(lambda: w.sync()["state"] == "down", 20, "down: " + said)
        expect(why in w.sync()["reason"], w.sync()["reason"])
        os.unlink(here + "/early")
        w.daemon.wait()
        there = len(os.listdir(w.target + "/" + deep))
        expect(there == dirs, "%s: %d of %d" % (said, there, dirs))
        w.daemon.stop()


def answers_for_all_count_at_the_end(place):
    """Of a program that does not stay: "* done" and then a failure, or a part of the input read, is no success."""
    for n, (program, why) in enumerate((("echo '* done'; exec 1>&-; exit 3", "exit 3"), ("echo '* done'; kill -9 $$", "signal 9"),
                                        ("head -c 10 >/dev/null; echo '* done'", "had not read all"))):
        here = "%s/%d" % (place, n)
        os.makedirs(here)
        script = here + "/early"
        with open(script, "w") as f:
            f.write("#!/bin/sh\n%s\n" % program)
        os.chmod(script, 0o755)
        w = Place(here, keys='answers = "lines";', start=False)
        w.daemon.write_config("sync = ( %s );\n" % section("x", w.source, w.target, [script], 'answers = "lines";'))
        for name in "abc":
            w.put(name)
        w.daemon.start(wait=False)
        await_fact(lambda: why in str(w.sync()), 60, "told: " + why)
        s = w.sync()
        expect(s["pending"] + s["in_flight"] > 0 and not s["first_reconcile_done"], "nothing is taken for done: %s" % s)
        w.write()
        os.kill(w.daemon.process.pid, signal.SIGHUP)
        await_fact(lambda: sorted(os.listdir(w.target)) == ["a", "b", "c"], 60, "carried by one that works")
        w.daemon.stop()


def other_account(place):
    if os.geteuid() != 0:
        return
    w = Place(place, keys='user = "nobody"; env = { EXTRA = "one two"; };', start=False)
    os.chmod(place, 0o777)
    os.chown(w.target, NOBODY, NOBODY)
    w.put("a")
    w.daemon.start(wait=False)
    w.daemon.wait()
    start = w.starts()[0]
    expect((start["uid"], start["gid"], start["groups"]) == (NOBODY, NOBODY, [NOBODY]), start)
    expect(start["env"]["EXTRA"] == "one two" and start["home"] != os.environ.get("HOME"), start)
    expect(os.stat(w.target + "/a").st_uid == NOBODY, "whose it is")
    w.daemon.stop()


def listing_guards(place):
    """What a listing lets a program delete."""
    w = Place(place, more="maxDelete = 3;", start=False)
    w.put("keep")
    w.daemon.start()
    w.daemon.stop()
    expect([r["extra"] for r in w.records() if r.get("op") == "listed"] == ["3"], "maxDelete")
    for i in range(5):
        open(w.target + "/stray%d" % i, "w").close()
    w.more = 'maxDelete = 0; delete = "running";'
    w.write()
    w.daemon.start()
    expect([r["extra"] for r in w.records() if r.get("op") == "listed"][-1] == "0", "delete at run time only")
    expect(len(os.listdir(w.target)) == 6, os.listdir(w.target))
    os.unlink(w.source + "/keep")
    w.put("other")
    w.daemon.wait(check=False)
    expect(os.path.exists(w.target + "/keep") and "maxDelete" in w.failures()["keep"]["reason"], "a batch above the limit")
    w.daemon.stop()
    os.unlink(w.source + "/other")
    w.more = ""
    w.write()
    w.daemon.start(wait=False)
    w.daemon.wait(check=False)
    expect([r["extra"] for r in w.records() if r.get("op") == "listed"][-1] == "0", "an empty source")
    w.daemon.stop()


def one_limit_for_all_listings(place):
    """Three directories to compare in one batch, with two strays each, and three deletions in all."""
    for n, (keys, offers) in enumerate(((PERSISTENT, ["3", "1", "0"]), ("", ["1", "1", "1"]))):
        here = "%s/%d" % (place, n)
        os.makedirs(here)
        w = Place(here, ["hang=" + here + "/hang"], keys, "maxDelete = 3;")
        w.daemon.wait()
        open(here + "/hang", "w").close()
        w.put("first")
        await_fact(lambda: any(r.get("path") == "first" for r in w.records()), 20, "it has a batch")
        for d in ("a", "b", "c"):
            os.makedirs("%s/%s/kept" % (here, d))
            os.makedirs("%s/%s/stray" % (w.target, d))
            os.mkdir("%s/%s/kept" % (w.target, d))
            os.mkdir("%s/%s/stray2" % (w.target, d))
            os.rename("%s/%s" % (here, d), "%s/%s" % (w.source, d))
        before = len([r for r in w.records() if r.get("op") == "listed"])
        os.unlink(here + "/hang")
        w.daemon.wait()
        expect([(r["path"], r["extra"]) for r in w.records() if r.get("op") == "listed"][before:] == list(zip("abc", offers)), w.records())
        left = [name for d in "abc" for name in os.listdir(w.target + "/" + d)]
        expect(left.count("kept") == 3 and len(left) == 6, left)
        w.daemon.stop()


def unreadable(place):
    if os.geteuid() != 0:
        return
    prefix = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "--"]
    w = Place(place, prefix=prefix, start=False)
    w.put("closed/f")
    w.put("open")
    open(w.target + "/stray", "w").close()
    for d in (place, w.source, w.target, w.source + "/closed", w.source + "/closed/f", w.source + "/open", w.target + "/stray"):
        os.chown(d, NOBODY, NOBODY)
    os.chmod(w.source + "/closed", 0)
    w.daemon.start(wait=False)
    await_fact(lambda: "closed" in w.failures() and any(r.get("op") == "listed" for r in w.records()), 20, "named")
    seen = [r for r in w.records() if "op" in r]
    expect({"op": "keep", "type": "unknown", "path": "closed", "extra": ""} in seen, seen)
    expect([r["extra"] for r in seen if r["op"] == "listed"][0] == "0" and os.path.exists(w.target + "/stray"), seen)
    os.chmod(w.source + "/closed", 0o755)
    w.daemon.ask("sync-now")
    w.synced("readable")
    w.daemon.stop()


def checked(place):
    os.makedirs(place + "/s")
    with open(place + "/many", "w") as f:
        f.writelines("/some/name/that/is/excluded/%06d\n" % i for i in range(2500))
    with open(place + "/too.many", "w") as f:
        f.writelines("/some/name/that/is/excluded/%06d\n" % i for i in range(3500))
    path = place + "/c.conf"
    for section, words in (("", ["exec.command is missing"]), ('command = [ "/bin/nosuch" ];', ["/bin/nosuch: No such file"]),
                           ('command = [ "nosuchprogram" ];', ["no program nosuchprogram in the PATH"]),
                           ('command = [ "./here" ];', ["write the whole path"]), ('command = [ "/etc" ];', ["is no program"]),
                           ('command = "cat -n";', ["several words as a list"]), ('command = [ "cat" ]; exitcodes = [ "300=done" ];', ["300=done"]),
                           ('command = [ "cat" ]; exitcodes = [ "3=maybe" ];', ["3=maybe"]),
                           ('command = [ "cat" ]; format = "paths"; moves = true;', ["no number to answer to"]),
                           ('command = [ "cat" ]; env = { FANSYNCD_SYNC = "y"; };', ["are set by fansyncd"]),
                           ('command = [ "cat" ]; user = "nosuchuser";', ["no account nosuchuser"]),
                           ('command = [ "cat" ]; }; bandwidth = 100; x = {', ["c.conf:2: bandwidth: the program carries"]),
                           ('command = [ "cat" ]; }; backupDir = ".old"; x = {', ["c.conf:2: backupDir: the program carries"]),
                           ('command = [ "cat" ]; }; ssh = { port = 2222; }; x = {', ["c.conf:2: ssh.port: means nothing"]),
                           ('command = [ "cat" ]; }; rsync = { acls = true; }; x = {', ["c.conf:2: acls: means nothing"]),
                           ('command = [ "cat" ]; }; rsync = { bwlimit = 5; extra = [ "-z" ]; archive = true; chmod = "u=rw"; }; x = {',
                            ["bwlimit: means nothing", "extra: means nothing", "archive: means nothing", "chmod: means nothing"]),
                           ('command = [ "cat" ]; }; excludeFrom = "%s/too.many"; x = {' % place, ["3500 rules of 126 KiB", "patterns for many"])):
        with open(path, "w") as f:
            f.write('settings = { stateDir = "%s/st"; controlSocket = "%s/c"; };\nsync = ( { transport = "exec"; source = "%s/s"; exec = '
                    '{ %s }; } );\n' % (place, place, place, section))
        done = run(os.environ["FANSYNCD"], "--check", path, check=False)
        expect(done.returncode != 0 and all(w.encode() in done.stderr + done.stdout for w in words), "%s: %r" % (section, done))
    with open(path, "w") as f:
        f.write('settings = { stateDir = "%s/st"; controlSocket = "%s/c"; };\nsync = ( { transport = "exec"; source = "%s/s"; name = "n"; '
                'excludeFrom = "%s/many"; rsync = { one_file_system = true; extra = [ "--exclude=*~" ]; compress = false; '
                'cvs_exclude = true; }; exec = { command = "cat"; }; } );\n' % (place, place, place, place))
    done = run(os.environ["FANSYNCD"], "--check", path)
    expect(b'target = "n"' in done.stdout and b'command = [ "cat" ]' in done.stdout, done.stdout)
    with open(path, "wb") as f:
        f.write(done.stdout)
    expect(run(os.environ["FANSYNCD"], "--check", path).stdout == done.stdout, "the dump is a configuration")


main([null_records, json_lines, paths_alone, answers_in_lines, stays, excluded_is_not_told, one_path_fails, rejected, exit_codes,
      single_answers, dies_in_the_middle, hangs, talks_nonsense, answers_to_what_it_has_not_read, answers_for_all_count_at_the_end,
      other_account, listing_guards,
      one_limit_for_all_listings, unreadable, checked])
