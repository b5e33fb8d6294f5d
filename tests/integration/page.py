#!/usr/bin/env python3
"""The page that shows all syncs: what is served, that only what changed is sent, that nobody who looks holds up anybody else; and what a browser
makes of it (`make deps` brings chromium-headless-shell)."""
import json
import os
import re
import signal
import sys

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(TOP, "tests", "lib"))
from browser import Browser
from fansync import Daemon, Failure, Skipped, await_fact, dirs, expect, free_port, main, put
from http_client import connect, get

HOSTILE = b"<script>document.title='owned'\xff\xe2\x80\xae.txt"  # markup, no UTF-8, and what turns a line around


def sync(name, source, target, more=""):
    return '{ name = "%s"; transport = "direct"; source = "%s"; target = "%s"; %s }' % (name, source, target, more)


def start(place, where, *sections, wait=True, settings=""):
    listen = "127.0.0.1:%d" % where if isinstance(where, int) else where
    daemon = Daemon(place, "")
    daemon.write_config("sync = ( %s );\nmetrics = { listen = \"%s\"; };\n" % (", ".join(sections), listen), settings)
    return daemon.start(wait=wait)


class Stream:
    """A client of /events."""

    def __init__(self, where, read=True):
        self.socket = connect(where, 30)
        self.socket.sendall(b"GET /events HTTP/1.0\r\n\r\n")
        self.file = self.socket.makefile("rb")
        self.state = {}
        if read:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += self.file.readline()
            expect(b"200 OK" in head and b"text/event-stream" in head, "the answer: %r" % head)

    def message(self):
        """Its events up to "done": a list of (name, value)."""
        events, name = [], None
        while True:
            line = self.file.readline()
            if not line:
                raise Failure("the stream ended")
            if line.startswith(b"event: "):
                name = line[7:-1].decode()
            elif line.startswith(b"data: "):
                if name == "done":
                    return events
                events.append((name, json.loads(line[6:])))

    def syncs(self):
        """The same, of the syncs alone: name -> what is new of it."""
        return {value["name"]: value for name, value in self.message() if name == "sync"}

    def close(self):
        self.file.close()
        self.socket.close()


def served(place):
    source, target = dirs(place, "source", "target")
    where = place + "/m.sock"
    daemon = start(place, where, sync("web", source, target))
    try:
        status, headers, body = get(where, "/")
        expect(status == 200 and headers["Content-Type"].startswith("text/html"), "the page: %d" % status)
        policy = dict(rule.strip().split(" ", 1) for rule in headers["Content-Security-Policy"].split(";"))
        expect(policy["default-src"] == "'none'" and "unsafe" not in str(policy), "a strict policy: %s" % policy)
        parts = set(re.findall(rb'(?:src|href)="([^"#]+)"', body))
        expect(parts == {b"page.js", b"page.css", b"icon.svg"}, "its parts are here, relative to it: %s" % parts)
        for part in parts:
            status, headers, text = get(where, "/" + part.decode())
            expect(status == 200 and text, "%s" % part)
            with open(TOP + "/core/page/" + part.decode(), "rb") as f:
                expect(f.read() == text, "%s is what the program was built from" % part)
            expect(not re.search(rb"https?://(?!www\.w3\.org/2000/svg)|url\(", text), "%s asks nobody else" % part)
            expect(not re.search(rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text), "%s: text stays text" % part)
        expect(not re.search(rb"<(script|style)>|style=|onclick", body), "nothing inline")
        expect(get(where, "/page.html")[0] == 404 and get(where, "/events", method="POST", body=b"x")[0] == 405, "nothing else")
    finally:
        daemon.stop()


def kept_up_to_date(place):
    sources = dirs(place, "s1", "s2")
    targets = dirs(place, "t1", "t2")
    where = place + "/m.sock"
    daemon = start(place, where, sync("one", sources[0], targets[0]), sync("two", sources[1], targets[1], "delay = 1000.0;"))
    try:
        slow, stream = Stream(where, read=False), Stream(where)
        first = stream.message()
        expect([name for name, _ in first] == ["daemon", "order", "sync", "sync"], "all at first: %s" % [n for n, _ in first])
        expect(first[1][1] == ["one", "two"] and first[2][1]["state"] == "idle", "what they are: %s" % first)
        second = stream.message()
        expect(all(n == "daemon" for n, _ in second), "then only what is new: %s after %s" % (second, first))
        put(sources[0] + "/file", "12345")
        daemon.ask("wait", "--only", "one")
        one = None
        while one is None or one["counters"]["files"] != 1:
            news = stream.syncs()
            expect("two" not in news, "of the other there is nothing new")
            one = news.get("one", one)
        expect(one["counters"]["bytes"] == 5 and one["failed"] == 0, "what was done: %s" % one)
        with open(os.path.join(os.fsencode(sources[1]), HOSTILE), "w"):
            pass
        two = {}
        while two.get("pending") != 1:
            two = stream.syncs().get("two", two)
        expect(two["lag"] >= 0 and two["state"] == "waiting", "what waits: %s" % two)
        # A reload with other syncs.
        daemon.write_config("sync = ( %s );\nmetrics = { listen = \"%s\"; };\n" % (sync("three", sources[0], targets[0]), where))
        daemon.process.send_signal(signal.SIGHUP)
        names = None
        while names is None:
            names = dict(stream.message()).get("order")
        expect(names == ["three"], "the others are gone: %s" % names)
        # Nobody looks any more: nobody is asked.
        stream.close()
        slow.close()
        expect(get(where, "/")[0] == 200, "served")
        daemon.wait()
    finally:
        daemon.stop()


def many_syncs(place):
    """Two hundred, most of which wait for a disk: all are shown, in the page, in the numbers and by --top, and one that changes arrives."""
    n = 200
    source, target = dirs(place, "source", "target")
    where = free_port()
    daemon = start(place, where, *[sync("disk%03d" % i, "%s/missing/%d" % (place, i), "%s/t%d" % (place, i)) for i in range(n - 1)],
                   sync("here", source, target), wait=False, settings="insist = true;")
    try:
        daemon.ask("wait", "--only", "here")
        with_stream(where, n, lambda: put(source + "/file", "12345"))
        text = get(where)[2].decode()
        expect(text.count('fansyncd_sync_state{sync="disk') == (n - 1) * 7 and "fansyncd_syncs 200\n" in text, "the numbers: %d" % len(text))
        lines = daemon.client("--top").stdout.decode().splitlines()
        expect(sum("no source" in line for line in lines) == n - 1 and sum("idle" in line for line in lines) == 1, "--top: %s" % lines[:4])
        if Browser.found():
            in_a_browser(place, where, n)
    finally:
        daemon.stop()


def in_a_browser(place, port, n):
    browser = Browser(place)
    try:
        show(browser, port)
        expect(len(text_of(browser, "#syncs > li .name")) == n, "rows: %d" % len(text_of(browser, "#syncs > li .name")))
        expect(browser.run("document.title") == "(%d) fansyncd" % (n - 1), "the title: %s" % browser.run("document.title"))
        browser.key("/", "/")
        for c in "disk117":
            browser.key(c, c)
        expect(browser.run(VISIBLE) == ["disk117"], "found: %s" % browser.run(VISIBLE))
        browser.key("Escape")
        # The last row is reached by keys, and comes into view.
        browser.key("k", "k")
        expect(browser.run("document.activeElement.getBoundingClientRect().bottom <= innerHeight"), "it is out of sight")
        expect(browser.run("document.activeElement.querySelector('.name').textContent") == "here", "the last one")
    finally:
        browser.close()


def with_stream(where, n, change):
    stream = Stream(where)
    try:
        names = [value["name"] for name, value in stream.message() if name == "sync"]
        expect(len(names) == len(set(names)) == n, "all of them: %d" % len(names))
        change()
        while stream.syncs().get("here", {"counters": {"files": 0}})["counters"]["files"] != 1:
            pass
    finally:
        stream.close()


def many_look(place):
    """More than are served at a time, some of whom never read."""
    source, target = dirs(place, "source", "target")
    where = place + "/m.sock"
    daemon = start(place, where, sync("web", source, target))
    held = []
    try:
        held = [Stream(where, read=False) for _ in range(31)]
        last = Stream(where)
        expect(last.message() and last.message(), "the last one is kept up to date")
        status, _, body = get(where, "/events")
        expect(status == 503, "one more is told so: %d" % status)
        expect(get(where)[0] == 200, "and there are numbers all the same")
        last.close()
        await_fact(lambda: one_more(where, held), 20, "room for another one")
    finally:
        for s in held:
            s.close()
        daemon.stop()


def one_more(where, held):
    try:
        held.append(Stream(where))
        return True
    except Failure:
        return False


VISIBLE = "Array.from(document.querySelectorAll('#syncs > li')).filter(e => !e.hidden).map(e => e.querySelector('.name').textContent)"


def show(browser, port, *how):
    browser.show("http://127.0.0.1:%d/" % port, *how)
    await_fact(lambda: browser.run("document.documentElement && document.documentElement.dataset.ready") == "yes", 20, "the page")


def text_of(browser, selector):
    return browser.run("Array.from(document.querySelectorAll(%s)).map(e => e.textContent)" % json.dumps(selector))


def looked_at(place):
    """In a browser: names that are markup, keys, small and dark, and a daemon that goes away."""
    if not Browser.found():
        raise Skipped("there is no Chromium")
    source, other, target, target2, failing, target4 = dirs(place, "source", "other", "target", "target2", "failing", "target4")
    put(failing + "/file", "first")
    put(target4 + "/file", "another")
    put(target4 + "/.old", "in the way of the backup")
    port = free_port()
    daemon = start(place, port, sync("web<b>x", source, target), sync("late", other, target2, "delay = 1000.0;"),
                   sync("stopped", source, dirs(place, "target3")[0], 'requireMarker = "<i>marker";'),
                   sync("fails", failing, target4, 'backupDir = ".old/%Y"; retryMin = 60.0;'), wait=False)
    browser = Browser(place)
    try:
        show(browser, port)
        await_fact(lambda: "stopped" in text_of(browser, ".state"), 20, "the state that it is in")
        expect(text_of(browser, ".name")[0] == "stopped", "trouble first: %s" % text_of(browser, ".name"))
        expect("web<b>x" in text_of(browser, ".name") and any("<i>marker" in t for t in text_of(browser, ".sub")), "markup is text")
        expect(browser.run("document.querySelectorAll('b b, i, img').length") == 0, "and nothing else")
        expect(browser.run("document.title") == "(1) fansyncd", "the title counts what is in trouble")
        await_fact(lambda: any(t.startswith("failed: file: left as it is") for t in text_of(browser, ".sub.trouble")), 20,
                   "a file that fails: %s" % text_of(browser, ".sub"))
        # By keys alone: to a row, open it, close it; search.
        browser.key("j", "j")
        browser.key("Enter", "\r")
        await_fact(lambda: text_of(browser, ".more dd"), 10, "what is to be known of it")
        browser.key("Enter", "\r")
        await_fact(lambda: not text_of(browser, ".more dd"), 10, "closed again")
        browser.key("/", "/")
        for c in "late":
            browser.key(c, c)
        expect(browser.run(VISIBLE) == ["late"], "found: %s" % browser.run(VISIBLE))
        browser.key("Escape")
        expect(len(browser.run(VISIBLE)) == 4, "all again")
        for width, dark in ((1280, True), (700, False), (360, False)):
            show(browser, port, width, 700, dark)
            expect(browser.run("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out at %d" % width)
            light = browser.run("getComputedStyle(document.body).backgroundColor")
            expect((sum(map(int, re.findall(r"\d+", light)[:3])) < 200) == dark, "dark where that is wanted: %s" % light)
        expect(not browser.errors, "nothing is complained of: %s" % browser.errors)
        strange = [u for u in browser.requests if not u.startswith("http://127.0.0.1:%d/" % port) and not u.startswith("about:")]
        expect(not strange, "nobody else is asked: %s" % strange)
        daemon.stop()
        await_fact(lambda: any("no connection" in t for t in text_of(browser, "#link")), 20, "it says so")
        daemon.start(wait=False)
        await_fact(lambda: text_of(browser, "#link") == ["live"], 20, "and finds it again")
    finally:
        browser.close()
        daemon.stop()


if __name__ == "__main__":
    main([served, kept_up_to_date, many_syncs, many_look, looked_at])
